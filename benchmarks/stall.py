"""The longest stall of the server's event loop while a completion of 64 MB goes through it to the client.

Eight other chains are followed meanwhile. A watchdog on the server's loop sleeps a millisecond again and again; the
longest time over that is what every stream of the server was held up. The client is the SDK, in a process of its own.
"""

import asyncio
import hashlib
import json
import logging
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

BYTES = 64 * 2**20
OTHERS = 8
TICK = 0.001
GOAL_MS = 100


def measure() -> list[dict[str, Any]]:
    """The longest stalls in milliseconds: of the server without and with the completion, and of the SDK."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_measured(Path(folder)))
    name = f"longest stall of the event loop, {OTHERS} streams"
    return [
        {"name": f"{name} alone", "value": found["alone"], "unit": "ms", "goal": None, "better": "lower"},
        {
            "name": f"{name} and a completion of {BYTES >> 20} MB",
            "value": found["completion"],
            "unit": "ms",
            "goal": GOAL_MS,
            "better": "lower",
        },
        {
            "name": f"longest stall of the client's event loop, a completion of {BYTES >> 20} MB",
            "value": found["client"],
            "unit": "ms",
            "goal": None,
            "better": "lower",
        },
    ]


class Watchdog:
    """The longest that the loop did not come to it, in seconds, since it was last asked."""

    def __init__(self) -> None:
        self._longest = 0.0

    async def watch(self) -> None:
        """Runs until it is cancelled."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(TICK)
            self._longest = max(self._longest, time.perf_counter() - before - TICK)

    def taken(self) -> float:
        """In milliseconds; begins anew."""
        longest, self._longest = self._longest, 0.0
        return round(longest * 1000, 1)


async def _measured(folder: Path) -> dict[str, float]:
    import structlog

    from benchmarks.backend import TINY
    from longtake_facade.memory import MemoryBackend
    from longtake_facade.settings import Settings

    # So slow that none of them is decoded meanwhile, which this backend does on the loop.
    backend = MemoryBackend(TINY, OTHERS + 1, 0.1)
    settings = Settings(data=folder / "data", max_running=OTHERS + 1)
    watchdog = Watchdog()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    async with _serving(settings, backend) as url:
        chain_id = await asyncio.to_thread(_submitted, url, steps=1)
        await asyncio.to_thread(_fetched, url, chain_id)
        _enlarge(folder / "data", chain_id)
        others = [await asyncio.to_thread(_submitted, url, steps=100, stages=4, seed=i) for i in range(OTHERS)]
        following = [asyncio.create_task(_followed(url, other)) for other in others]
        watching = asyncio.create_task(watchdog.watch())
        await asyncio.sleep(1)
        watchdog.taken()
        await asyncio.sleep(2)
        alone = watchdog.taken()
        size, client = await asyncio.to_thread(_fetched, url, chain_id)
        completion = watchdog.taken()
        assert size == BYTES
        for task in (watching, *following):
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    return {"alone": alone, "completion": completion, "client": client}


def _enlarge(data: Path, chain_id: str) -> None:
    """Put a file of 64 MB in the place of the chain's video, and its digest in the place of the video's."""
    file = data / "chains" / chain_id / "video.mp4"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    content = hashlib.shake_128(b"video").digest(1 << 20) * (BYTES >> 20)
    file.write_bytes(content)
    after = hashlib.sha256(content).hexdigest()
    with closing(sqlite3.connect(data / "longtake.db")) as database, database:
        (complete,) = database.execute("SELECT complete FROM longtake_chains WHERE id = ?", [chain_id]).fetchone()
        changed = complete.replace(before.encode(), after.encode())
        database.execute("UPDATE longtake_chains SET complete = ? WHERE id = ?", [changed, chain_id])


def _submitted(url: str, *, steps: int, stages: int = 1, seed: int = 0) -> str:
    from longtake.client import Longtake
    from longtake.wire import ChainRequest, ChainStage

    request = ChainRequest(stages=[ChainStage(prompt=f"{i}", frames=25) for i in range(stages)], steps=steps, seed=seed)
    with Longtake(url) as client:
        return client.submit(request).id


def _fetched(url: str, chain_id: str) -> tuple[int, float]:
    """Follow a chain with its video inline, in a process of its own; the video's size, and that loop's stall in ms."""
    done = subprocess.run([sys.executable, __file__, "--fetch", url, chain_id], check=True, stdout=subprocess.PIPE)
    size, stall = json.loads(done.stdout)
    return size, stall


async def _followed(url: str, chain_id: str) -> None:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(f"{url}/api/chains/{chain_id}/events") as stream,
    ):
        async for _ in stream.content.iter_any():
            pass


@asynccontextmanager
async def _serving(settings: Any, backend: Any) -> AsyncIterator[str]:
    from aiohttp import web

    from longtake_facade.app import build_app

    runner = web.AppRunner(build_app(settings, backend), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _fetch(url: str, chain_id: str) -> None:
    """In its own process: fetch a completion and print its size and the longest stall of this loop."""
    from longtake.client import AsyncLongtake
    from longtake.streams import Completion

    watchdog = Watchdog()
    async with AsyncLongtake(url) as client:
        await client.ready()
        watching = asyncio.create_task(watchdog.watch())
        events = [event async for event in client.events(chain_id, inline=True)]
        watching.cancel()
    done = events[-1]
    assert isinstance(done, Completion)
    print(json.dumps([len(done.video), watchdog.taken()]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fetch"]:
        asyncio.run(_fetch(sys.argv[2], sys.argv[3]))
    else:
        print(json.dumps(measure(), indent=2))
