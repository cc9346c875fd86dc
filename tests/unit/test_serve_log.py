"""The log of ``longtake serve``."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import structlog
from longtake_facade.serve import _log_to_stderr

_log_to_stderr()
structlog.get_logger().info("a line")
print("went on")
"""


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """Standard error on a full disk: the program goes on without it."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, check=False)
    assert done.stdout == b"went on\n"
