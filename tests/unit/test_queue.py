"""The durable queue and the loop that it runs on."""

import asyncio
from pathlib import Path

from longtake_facade.queue import ChainQueue


async def test_what_is_enqueued_runs_once_and_the_loop_has_threads_after_the_end(tmp_path: Path) -> None:
    """An attempt that is submitted twice runs once; whoever stops after the queue can still use threads."""
    ran: list[str] = []
    done = asyncio.Event()

    async def run(chain_id: str) -> None:
        ran.append(chain_id)
        done.set()

    queue = ChainQueue(f"sqlite:///{tmp_path / 'queue.db'}", run, max_running=2, node="test")
    await queue.open()
    try:
        await queue.submit("a", 1)
        await queue.submit("a", 1)
        async with asyncio.timeout(20):
            await done.wait()
    finally:
        await queue.close()
    assert ran == ["a"]
    assert await asyncio.to_thread(lambda: 1) == 1
