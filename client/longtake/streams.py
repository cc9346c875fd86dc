"""A chain's events as they arrive, from the bytes of the answer to typed objects."""

import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self, get_args

import anyio
import httpx2
import msgspec

from longtake import wire
from longtake.errors import LongtakeError, StreamEnded, from_event
from longtake.sse import Decoder, ServerSentEvent
from longtake.transport import Deadline, decoded, translated
from longtake.video import VideoData


class Completion(wire.Complete, kw_only=True, omit_defaults=True):
    """The ``complete`` event that ends a chain's stream, as :class:`longtake.wire.Complete`."""

    def video_data(self) -> VideoData:
        """The video with all that is known about it.

        Raises:
            VideoError: the event carries no video (metadata only).
            DigestMismatch: the video's SHA-256 is not the event's.
        """
        return VideoData.from_complete(self)


@dataclass(frozen=True)
class UnknownEvent:
    """An event this client does not know, of a newer server; it may be skipped.

    ``name``: the event's. ``data``: its data as it arrived, usually JSON.
    """

    name: str
    data: bytes
    id: str


Event = wire.ProgressEvent | Completion | UnknownEvent
"""What a stream yields: the progress structs of :mod:`longtake.wire`, at the end one :class:`Completion`."""

_TYPES: Final = frozenset(
    str(msgspec.inspect.type_info(kind).tag)  # type: ignore[attr-defined]  # type_info is not generic
    for kind in get_args(wire.ProgressEvent)
)


class _Tagged(msgspec.Struct):
    type: str = ""


def interpret(event: ServerSentEvent) -> Event:
    """The typed form of an event.

    Raises:
        ChainError: it is an ``error`` event.
        ProtocolError: its data is not what its name promises.
    """
    if event.name == "complete":
        return decoded(event.data, Completion)
    if event.name == "error":
        raise from_event(decoded(event.data, wire.ChainError))
    if event.name == "progress" and decoded(event.data, _Tagged).type in _TYPES:
        progress: wire.ProgressEvent = decoded(event.data, wire.ProgressEvent)  # type: ignore[arg-type]  # a union
        return progress
    return UnknownEvent(name=event.name, data=event.data, id=event.id)


class AsyncEventStream:
    """The events of a chain in order; the last is a :class:`Completion`, or a :class:`ChainError` is raised.

    Opened by ``async with``, :meth:`open`, or the first step of ``async for``. Leaving it early does not stop the
    chain.

    Raises, in every step:
        ChainError: the chain failed or was cancelled.
        StreamEnded: the stream ended before the chain did.
        ConnectionLost, TimedOut: likewise, by the network.
        RequestRefused, ConnectionFailed, ...: it could not be opened.
    All of them carry ``chain_id`` and ``last_event_id`` where known.
    """

    def __init__(
        self,
        opener: Callable[[], Awaitable[httpx2.Response]],
        *,
        address: str,
        timeout: float | None,
        decoder: Decoder,
        chain_id: str | None = None,
    ) -> None:
        self._opener = opener
        self._address = address
        self._timeout = timeout
        self._deadline: Deadline | None = None
        self._decoder = decoder
        self._response: httpx2.Response | None = None
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._arrived: deque[tuple[ServerSentEvent, float]] = deque()
        self._closed = False
        # A blocking caller that is interrupted closes the stream while its last step still unwinds.
        self._reading = anyio.Lock()
        self._began = 0.0
        self.chain_id = chain_id
        """Known as soon as the stream is open, unless the server has no chains to follow."""
        self.last_event_id: str | None = None
        """Of the event yielded last."""
        self.transfer_seconds = 0.0
        """How long the event yielded last took from its first byte to its last."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await self.next()
        if event is None:
            raise StopAsyncIteration
        return event

    async def open(self) -> None:
        """Send the request and wait for the answer's head. Nothing happens the second time."""
        async with self._reading:
            if self._response is None and not self._closed:
                await self._open()

    async def _open(self) -> None:
        self._deadline = Deadline(self._timeout)
        try:
            with self._deadline.enforced():
                self._response = await self._opener()
        except BaseException as error:
            await self._fail(error)
            raise
        self.chain_id = self._response.headers.get(wire.CHAIN_ID_HEADER) or self.chain_id
        self._chunks = self._response.aiter_bytes()

    async def next(self) -> Event | None:
        """The next event, None after the last."""
        await self.open()
        async with self._reading:
            if self._closed or self._deadline is None:
                return None
            try:
                with self._deadline.enforced():
                    event = await self._next()
            except BaseException as error:
                await self._fail(error)
                raise
            if event is None or isinstance(event, Completion):
                await self._close()
            return event

    async def aclose(self) -> None:
        """Let go of the connection; the chain goes on. A step under way in another task ends first."""
        with anyio.CancelScope(shield=True):
            async with self._reading:
                await self._close()

    async def _close(self) -> None:
        self._closed = True
        self._arrived.clear()
        with anyio.CancelScope(shield=True):
            if self._chunks is not None:
                await self._chunks.aclose()
            if self._response is not None:
                await self._response.aclose()

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, LongtakeError):
            error.chain_id = error.chain_id or self.chain_id
            error.last_event_id = self.last_event_id
        await self._close()

    async def _next(self) -> Event | None:
        while not self._arrived:
            if not await self._receive():
                return None
        event, self.transfer_seconds = self._arrived.popleft()
        self.last_event_id = event.id or self.last_event_id
        return interpret(event)

    async def _receive(self) -> bool:
        """Wait for bytes and decode them; False at the end of an answer that may be empty."""
        assert self._response is not None
        assert self._chunks is not None
        with translated(self._address):
            chunk = await anext(self._chunks, None)
        if chunk is None:
            if self._response.status_code == httpx2.codes.NO_CONTENT:
                return False
            raise StreamEnded("the stream ended before the chain did")
        now = time.monotonic()
        if not self._decoder.mid_event:
            self._began = now
        for event in self._decoder.feed(chunk):
            self._arrived.append((event, now - self._began))
            self._began = now
        return True
