"""Run every benchmark in a process of its own, print one table and write ``results.json`` beside this file.

A process of its own, so that one benchmark's memory and caches do not show in another's figures.
"""

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

import benchmarks

FOLDER = Path(__file__).parent


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure and what it should be."""

    name: str
    value: float
    unit: str
    goal: float | None
    better: Literal["lower", "higher"]

    @property
    def verdict(self) -> str:
        """Whether the goal is met; empty where there is none."""
        if self.goal is None:
            return ""
        met = self.value <= self.goal if self.better == "lower" else self.value >= self.goal
        return "met" if met else "missed"


def measure_here(module: str, result: Path) -> None:
    """Run one benchmark in this process; a module without ``measure`` gives no rows."""
    measure = getattr(importlib.import_module(f"benchmarks.{module}"), "measure", list)
    result.write_bytes(msgspec.json.encode(measure()))


def measure_apart(module: str) -> list[Row] | None:
    """Run one benchmark in a process of its own; None when it failed (what it said is on standard error)."""
    with tempfile.TemporaryDirectory() as scratch:
        result = Path(scratch) / "rows.json"
        command = [sys.executable, "-m", "benchmarks", module, str(result)]
        if subprocess.run(command, cwd=FOLDER.parent, stdin=subprocess.DEVNULL, check=False).returncode:
            return None
        try:
            return msgspec.json.decode(result.read_bytes(), type=list[Row])
        except msgspec.DecodeError as error:
            print(f"benchmarks.{module}: {error}", file=sys.stderr)
            return None


def show(rows: list[Row]) -> None:
    """Print the figures as a table."""
    table = Table("benchmark", "value", "unit", "goal", "")
    for row in rows:
        goal = "" if row.goal is None else f"{'≤' if row.better == 'lower' else '≥'} {row.goal:g}"
        table.add_row(row.name, f"{row.value:.6g}", row.unit, goal, row.verdict)
    Console().print(table)


def run_all() -> int:
    """Run what there is; the exit code is 1 when a benchmark failed, and its name is the last thing said."""
    modules = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if module.name != "__main__")
    results = {module: measure_apart(module) for module in modules}
    rows = [row for found in results.values() if found for row in found]
    show(rows)
    (FOLDER / "results.json").write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    failed = [module for module, found in results.items() if found is None]
    for module in failed:
        print(f"benchmarks.{module} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure_here(sys.argv[1], Path(sys.argv[2]))
    else:
        sys.exit(run_all())
