"""A facade over a backend in memory as a process of its own, which can be killed.

As a program: ``memory_process.py SECONDS_A_STEP SETTINGS_AS_JSON``; it says where it listens.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from longtake_facade.app import build_app
from longtake_facade.memory import MemoryBackend
from longtake_facade.serve import _log_to_stderr
from longtake_facade.settings import Settings
from serve_process import Serving, stop
from served import TINY

_READY = "ready on "


def start(data: Path, step_seconds: float = 0.05, **settings: Any) -> Serving:
    """Start one and wait until it listens."""
    given = msgspec.json.encode({"port": 0, **settings, "data": str(data)}).decode()
    log = data.parent / f"{settings.get('node', data.name)}.log"
    with log.open("ab") as errors:
        command = [sys.executable, __file__, str(step_seconds), given]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(_READY), log.read_text()
    return Serving(process, line.removeprefix(_READY).strip(), log)


@contextmanager
def running(data: Path, step_seconds: float = 0.05, **settings: Any) -> Iterator[Serving]:
    """One for the length of a block."""
    server = start(data, step_seconds, **settings)
    try:
        yield server
    finally:
        stop(server)


async def _serve(step_seconds: float, settings: Settings) -> None:
    runner = web.AppRunner(build_app(settings, MemoryBackend(TINY, 2, step_seconds)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", settings.port).start()
    print(f"{_READY}http://127.0.0.1:{runner.addresses[0][1]}", flush=True)  # noqa: T201 - whoever starts it waits for the line
    await asyncio.Event().wait()


if __name__ == "__main__":
    # As `longtake serve` does: structlog's own way of showing a traceback takes seconds.
    _log_to_stderr()
    asyncio.run(_serve(float(sys.argv[1]), Settings(**msgspec.json.decode(sys.argv[2]))))
