"""Fifty chains at once against two instances: all of them complete, and memory does not grow with them.

The server is a process of its own over the backend in memory, which renders nothing, so the figures are the server's:
its queue, its encoders, its stitching, its streams. A second server has a short queue: what does not fit is told so.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

CHAINS, QUEUE, RUNNING = 50, 10, 4
STAGES = 3
# The peaks while the first and while the last ten are rendered.
GROUP = 10
GOAL_RATIO = 1.25


def measure() -> list[dict[str, Any]]:
    """The peak of memory, how it grows, the time, and what a short queue refuses."""
    return asyncio.run(_measured())


async def _measured() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        async with _server(Path(folder), queued=CHAINS) as (url, process):
            flood = await _flood(url, process)
    with tempfile.TemporaryDirectory() as folder:
        async with _server(Path(folder), queued=QUEUE) as (url, process):
            short = await _flood(url, process)
    first, last = flood["peaks"][0], flood["peaks"][-1]
    name = f"{CHAINS} chains at once"
    return [
        _row(f"{name}: completed", flood["completed"], "chains", CHAINS, "higher"),
        _row(f"{name}: time", flood["seconds"], "s", None, "lower"),
        _row(f"{name}: peak memory over idle", max(flood["peaks"]), "MB", None, "lower"),
        _row(f"{name}: peak of the last {GROUP} over that of the first", last / first, "x", GOAL_RATIO, "lower"),
        _row(f"{name}, room for {QUEUE + RUNNING}: refused", short["refused"], "chains", None, "lower"),
        _row(f"{name}, room for {QUEUE + RUNNING}: neither completed nor refused", short["lost"], "chains", 0, "lower"),
    ]


def _row(name: str, value: float, unit: str, goal: float | None, better: str) -> dict[str, Any]:
    return {"name": name, "value": round(float(value), 3), "unit": unit, "goal": goal, "better": better}


async def _flood(url: str, process: psutil.Process) -> dict[str, Any]:
    """Submit all at once and follow each; returns what became of them."""
    idle = process.memory_info().rss
    peaks: list[float] = [0.0] * (CHAINS // GROUP)
    ended = 0
    begun = time.monotonic()

    async def watch() -> None:
        while True:
            group = min(ended // GROUP, len(peaks) - 1)
            peaks[group] = max(peaks[group], (process.memory_info().rss - idle) / 1e6)
            await asyncio.sleep(0.01)

    async def one(session: aiohttp.ClientSession, number: int) -> str:
        nonlocal ended
        async with session.post(f"{url}/api/chains", json=_script(number)) as answer:
            if answer.status != 202:
                return "refused" if answer.status == 429 and "Retry-After" in answer.headers else "lost"
            events_url = (await answer.json())["events_url"]
        async with session.get(f"{url}{events_url}") as stream:
            text = b"".join([part async for part in stream.content.iter_any()])
        ended += 1
        return "completed" if b"event: complete\n" in text else "lost"

    watching = asyncio.create_task(watch())
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        outcomes = await asyncio.gather(*(one(session, number) for number in range(CHAINS)))
    watching.cancel()
    counts = {outcome: outcomes.count(outcome) for outcome in ("completed", "refused", "lost")}
    return {**counts, "peaks": peaks, "seconds": time.monotonic() - begun}


def _script(number: int) -> dict[str, Any]:
    stages = [{"prompt": f"{number} {i}", "frames": 25, "transition": "fade" if i else "smooth"} for i in range(STAGES)]
    return {"stages": stages, "seed": number, "steps": 4, "width": 256, "height": 256}


@asynccontextmanager
async def _server(folder: Path, queued: int) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A server in a process of its own, idle."""
    process = _started(folder, queued)
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        assert line.startswith("http"), (folder / "log").read_text()
        yield line.strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _started(folder: Path, queued: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks.many_chains", "--serve", str(folder), str(queued)]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


async def _serve(folder: Path, queued: int) -> None:
    from aiohttp import web

    from benchmarks.backend import TINY
    from longtake_facade.app import build_app
    from longtake_facade.memory import MemoryBackend
    from longtake_facade.serve import limit_arenas
    from longtake_facade.settings import Settings

    limit_arenas()
    settings = Settings(data=folder / "data", max_running=RUNNING, max_queued=queued)
    runner = web.AppRunner(build_app(settings, MemoryBackend(TINY, 2, 0.01)), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        print(json.dumps(measure(), indent=2), file=sys.stdout)
