"""``longtake serve`` as a process of its own, as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Serving:
    """A server that is ready."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def kill(self) -> None:
        """End it as a crash would, with no chance to say goodbye."""
        self.process.kill()
        self.process.wait()


def start(data: Path, *options: str) -> Serving:
    """Start a server on a free port and wait until it says that it is ready."""
    data.mkdir(parents=True, exist_ok=True)
    log = data.parent / f"{data.name}.log"
    command = [sys.executable, "-m", "longtake_facade", "serve", "--port", "0", "--data", str(data), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LONGTAKE_")}
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    line = process.stdout.readline()
    ready = "longtake ready on "
    assert line.startswith(ready), f"the server said {line!r}; its log: {log.read_text()}"
    return Serving(process, line.removeprefix(ready).strip(), log)


def stop(server: Serving) -> None:
    """End it as an operator would, if it still runs."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(30)
    assert server.process.stdout is not None
    server.process.stdout.close()


@contextmanager
def serve(data: Path, *options: str) -> Iterator[Serving]:
    """A server for the length of a block."""
    server = start(data, *options)
    try:
        yield server
    finally:
        stop(server)
