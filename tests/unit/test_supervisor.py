"""An embedded server that ends by itself is started again, as often as it takes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from longtake_facade import supervisor
from longtake_facade.backend import BackendUnavailable
from longtake_facade.embedded import EmbeddedTritonError
from longtake_facade.memory import MemoryBackend
from longtake_facade.supervisor import SupervisedBackend, supervised
from served import TINY


class Triton:
    """A server that can die, and what starts it, which can fail."""

    def __init__(self) -> None:
        self.grpc_address = "nowhere"
        self.dead = asyncio.Event()
        self.starts = 0
        self.broken = False

    async def died(self) -> str:
        await self.dead.wait()
        return "it died"

    @asynccontextmanager
    async def start(self) -> AsyncIterator[Any]:
        self.starts += 1
        if self.broken:
            raise EmbeddedTritonError("the checkpoint is gone")
        self.dead.clear()
        yield self


class Connected(MemoryBackend):
    """Answers as long as its server lives."""

    def __init__(self, triton: Triton) -> None:
        super().__init__(TINY)
        self._triton = triton

    async def revive(self, seconds: float = 0) -> None:
        if self._triton.dead.is_set():
            raise BackendUnavailable("gone")


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Triton:
    made = Triton()

    async def connect(_: str) -> Connected:
        return Connected(made)

    monkeypatch.setattr(supervisor, "connect", connect)
    monkeypatch.setattr(supervisor, "_RETRY_SECONDS", 0.01)
    return made


async def until_starts(triton: Triton, count: int) -> None:
    async with asyncio.timeout(10):
        while triton.starts < count:  # noqa: ASYNC110 - a start sets no event
            await asyncio.sleep(0.001)


async def test_a_server_that_cannot_be_started_is_tried_until_it_can(triton: Triton) -> None:
    """Whoever asks for it meanwhile is told that there is none."""
    async with supervised(triton.start) as backend:
        watch = asyncio.create_task(backend.watch())
        triton.broken = True
        triton.dead.set()
        await until_starts(triton, 4)
        with pytest.raises(BackendUnavailable, match="cannot be started again"):
            await backend.revive()
        assert not watch.done()
        triton.broken = False
        await until_alive(backend)
        assert not triton.dead.is_set()
        watch.cancel()


async def until_alive(backend: SupervisedBackend) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                return await backend.revive()
            except BackendUnavailable:
                await asyncio.sleep(0.001)


async def test_a_server_that_answers_is_not_started_again(triton: Triton) -> None:
    """Though somebody thought that it had gone away."""
    async with supervised(triton.start) as backend:
        await backend.revive()
        assert triton.starts == 1


async def test_all_who_miss_the_server_wait_for_one_start(triton: Triton) -> None:
    """Not one each."""
    async with supervised(triton.start) as backend:
        triton.dead.set()
        await asyncio.gather(*(backend.revive() for _ in range(5)))
        assert triton.starts == 2
