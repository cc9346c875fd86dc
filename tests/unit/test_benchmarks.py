"""The runner of the benchmarks, with benchmarks made here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package of benchmarks with the runner and nothing to run."""
    (tmp_path / "benchmarks").mkdir()
    for name in ("__init__.py", "__main__.py"):
        shutil.copy(BENCHMARKS / name, tmp_path / "benchmarks")
    return tmp_path / "benchmarks"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the benchmarks of ``folder`` as `make bench` does."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=folder.parent, capture_output=True, text=True, check=False
    )


def row(name: str, value: float, goal: float | None = None) -> dict[str, object]:
    """A figure where less is better."""
    return {"name": name, "value": value, "unit": "s", "goal": goal, "better": "lower"}


def test_every_module_that_measures_is_in_the_results(folder: Path) -> None:
    """Rows come in the order of the modules' names; a module without `measure` adds none."""
    (folder / "second.py").write_text(f"def measure(): return [{row('b', 2.5, 2.0)}]\n")
    (folder / "first.py").write_text(f"def measure(): return [{row('a', 1, 1)}, {row('c', 3)}]\n")
    (folder / "shared.py").write_text("LENGTH = 97\n")
    result = run(folder)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "results.json").read_text()) == [row("a", 1, 1), row("c", 3), row("b", 2.5, 2.0)]
    assert [line for line in ("met", "missed", "≤ 2") if line not in result.stdout] == []


def test_each_module_has_a_process_of_its_own(folder: Path) -> None:
    """One benchmark does not see what another has imported."""
    (folder / "a.py").write_text("def measure(): return []\n")
    (folder / "b.py").write_text(
        "import sys\n"
        "def measure():\n"
        "    seen = float('benchmarks.a' in sys.modules)\n"
        "    return [{'name': 'seen', 'value': seen, 'unit': '', 'goal': None, 'better': 'lower'}]\n"
    )
    assert run(folder).returncode == 0
    assert json.loads((folder / "results.json").read_text())[0]["value"] == 0


@pytest.mark.parametrize(
    "source",
    ["def measure(): raise RuntimeError('no disk')", "def measure(): return [{'name': 'n'}]", "import nothing_there"],
)
def test_a_benchmark_that_fails_fails_the_run_by_name_at_the_end(folder: Path, source: str) -> None:
    """The others still run, and their figures are kept."""
    (folder / "broken.py").write_text(source + "\n")
    (folder / "sound.py").write_text(f"def measure(): return [{row('a', 1)}]\n")
    result = run(folder)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "benchmarks.broken failed"
    assert json.loads((folder / "results.json").read_text()) == [row("a", 1)]
