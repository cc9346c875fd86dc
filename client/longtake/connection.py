"""One connection of an event stream: from the bytes of an answer to events that are not interpreted yet."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import httpx2

from longtake import wire
from longtake.errors import StreamEnded
from longtake.sse import Decoder, ServerSentEvent
from longtake.transport import translated

SETTLED: Final = 10.0
"""Seconds after which bytes on a connection show that all is well: the server pings that often."""


class Connection:
    """An answer that is a stream of events, read to its end; to be closed."""

    def __init__(
        self,
        response: httpx2.Response,
        address: str,
        max_event_bytes: int,
        on_life: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._response = response
        self._chunks = response.aiter_bytes()
        self._address = address
        self._decoder = Decoder(max_event_bytes)
        self._arrived: deque[tuple[ServerSentEvent, float]] = deque()
        self._on_life = on_life
        self._clock = clock
        self._opened = self._began = clock()
        self.chain_id: str | None = response.headers.get(wire.CHAIN_ID_HEADER) or None
        self.transfer_seconds = 0.0
        """How long the event returned last took from its first byte to its last."""

    @property
    def retry_seconds(self) -> float | None:
        """How long the stream asks to wait before a reconnection."""
        return None if self._decoder.retry_ms is None else self._decoder.retry_ms / 1000

    async def next(self) -> ServerSentEvent | None:
        """The next event; None from an answer without content (204): there will be no more.

        Raises:
            StreamEnded: the answer ended.
            TransportError: the connection broke.
            EventTooLarge: likewise.
        """
        while not self._arrived:
            if self._response.status_code == httpx2.codes.NO_CONTENT:
                return None
            await self._receive()
        event, self.transfer_seconds = self._arrived.popleft()
        return event

    async def aclose(self) -> None:
        """Let go of it, also when the task is being cancelled."""
        with anyio.CancelScope(shield=True):
            await self._chunks.aclose()
            await self._response.aclose()

    async def _receive(self) -> None:
        with translated(self._address):
            chunk = await anext(self._chunks, None)
        if chunk is None:
            raise StreamEnded("the stream ended before the chain did")
        now = self._clock()
        if now - self._opened >= SETTLED:
            self._on_life()
        if not self._decoder.mid_event:
            self._began = now
        for event in self._decoder.feed(chunk):
            self._arrived.append((event, now - self._began))
            self._began = now
