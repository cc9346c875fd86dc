"""A connection to Triton that is closed, before a call and under it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from longtake_facade.backend import BackendUnavailable
from longtake_facade.triton import TritonBackend
from ports import free_port
from served import TINY


class Cancelled:
    """A call that ends as gRPC ends those of a channel that is closed."""

    def __init__(self) -> None:
        self.cancelled = False
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()

    def stream_infer(self, _: Any) -> "Cancelled":
        return self

    async def __aiter__(self) -> AsyncIterator[tuple[Any, None]]:
        self.begun.set()
        await self.closed.wait()
        raise asyncio.CancelledError
        yield  # type: ignore[unreachable]  # makes it a generator

    def cancel(self) -> None:
        self.cancelled = True


async def test_a_call_on_a_closed_connection_finds_no_backend() -> None:
    """So whoever asks for it waits for the next connection."""
    backend = TritonBackend(InferenceServerClient(f"127.0.0.1:{free_port()}"), TINY, 1)
    await backend.close()
    with pytest.raises(BackendUnavailable, match="closed"):
        await backend.canary()


async def test_a_connection_closed_under_a_call_is_no_cancellation_of_its_caller() -> None:
    """A chain would take that for the end of its server, and wait for ever."""
    client = Cancelled()
    call = asyncio.create_task(TritonBackend(client, TINY, 1).encode_prompt("a", ""))
    await client.begun.wait()
    client.closed.set()
    with pytest.raises(BackendUnavailable, match="closed"):
        await call
    assert client.cancelled


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    """And its call with it."""
    client = Cancelled()
    call = asyncio.create_task(TritonBackend(client, TINY, 1).encode_prompt("a", ""))
    await client.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert client.cancelled
