"""Where the time of ``make demo`` goes: the wall clock of each phase of rendering the example, server and all."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[1] / "examples" / "three-acts.toml"


def measure() -> list[dict[str, Any]]:
    """A row for each phase, in seconds; there is no goal, since they depend on the machine."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "longtake", "render", str(EXAMPLE), "-o", f"{folder}/demo.mp4", "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seconds = json.loads(done.stdout)["seconds"]
    return [
        {"name": f"demo: {phase}", "value": value, "unit": "s", "goal": None, "better": "lower"}
        for phase, value in seconds.items()
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row['name']}: {row['value']} {row['unit']}")
