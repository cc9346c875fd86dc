"""A chain's events as typed objects, followed over as many connections as it takes."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Self, TypeVar, get_args

import anyio
import httpx2
import msgspec

from longtake import wire
from longtake.connection import Connection
from longtake.errors import ConnectionLost, LongtakeError, ProtocolError, TimedOut, from_event
from longtake.retry import Patience, is_drop
from longtake.sse import ServerSentEvent
from longtake.transport import EVENT_STREAM, Deadline, Sender, chain_path, decoded
from longtake.video import VideoData

_log = logging.getLogger(__name__)


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

T = TypeVar("T")

_LONGEST_ID: Final = 18

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
    """The events of a chain in order, each once; the last is a :class:`Completion`, or a :class:`ChainError` is raised.

    Opened by ``async with``, :meth:`open`, or the first step of ``async for``. A connection that breaks, or falls
    silent, is made again, also to a server that was restarted. Leaving early does not stop the chain.

    Raises, in every step:
        ChainError: the chain failed or was cancelled.
        GaveUp: reconnecting brought nothing new for too long.
        ConnectionLost, StreamEnded, TimedOut: the connection broke before the chain's id was known.
        ProtocolError: what came is not of this wire, for instance an event is missing.
        RequestRefused, ConnectionFailed, ...: it could not be opened.
    All of them carry ``chain_id`` and ``last_event_id`` where known.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        post: httpx2.Request | None = None,
        repeatable: bool = True,
        chain_id: str | None = None,
        after: str | None = None,
        video: Callable[[str], Awaitable[bytes]] | None = None,
        timeout: float | None,
        patience: float | None,
        max_event_bytes: int,
    ) -> None:
        """Either ``post`` makes the chain, or ``chain_id`` names it. ``video`` fetches what a completion lacks."""
        self._sender = sender
        self._post = post
        self._repeatable = repeatable
        self._video = video
        self._timeout = timeout
        self._deadline: Deadline | None = None
        self._patience = Patience(patience, sender.retries)
        self._max_event_bytes = max_event_bytes
        self._connection: Connection | None = None
        self._retry_seconds: float | None = None
        self._attempts = 0
        # From here on the chain may exist: what fails is a drop, to be made good.
        self._begun = False
        self._closed = False
        # A blocking caller that is interrupted closes the stream while its last step still unwinds.
        self._reading = anyio.Lock()
        self.chain_id = chain_id
        """Known as soon as the stream is open, unless the server has no chains to follow."""
        self.last_event_id = after
        """Of the event yielded last; before the first, what the caller named."""
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
        if self._deadline is None:
            self._deadline = Deadline(self._timeout)
            await self._step(self._connected)

    async def next(self) -> Event | None:
        """The next event, None after the last."""
        await self.open()
        event = await self._step(self._next)
        if event is None or isinstance(event, Completion):
            await self.aclose()
        return event

    async def aclose(self) -> None:
        """Let go of the connection; the chain goes on. A step under way in another task ends first."""
        with anyio.CancelScope(shield=True):
            async with self._reading:
                self._closed = True
                await self._drop()

    async def _step(self, step: Callable[[], Awaitable[T]]) -> T | None:
        """``step``, unless the stream is closed; whatever it raises closes it."""
        async with self._reading:
            if self._closed or self._deadline is None:
                return None
            try:
                with self._deadline.enforced():
                    return await step()
            except BaseException as error:
                if isinstance(error, LongtakeError):
                    error.chain_id = error.chain_id or self.chain_id
                    error.last_event_id = self.last_event_id
                self._closed = True
                await self._drop()
                raise

    async def _next(self) -> Event | None:
        while True:
            arrived = await self._arrived()
            if arrived is None:
                return None
            if not self._is_new(arrived):
                continue
            self._patience.progressed()
            if arrived.name != "complete":
                self.last_event_id = arrived.id or self.last_event_id
                return interpret(arrived)
            completion = decoded(arrived.data, Completion)
            await self._fill(completion)
            # Only now: whoever goes on after a failed transfer gets the completion again.
            self.last_event_id = arrived.id or self.last_event_id
            return completion

    async def _arrived(self) -> ServerSentEvent | None:
        """The next event as it comes, over a new connection where the old one broke."""
        while True:
            connection = await self._connected()
            try:
                event = await connection.next()
            except LongtakeError as error:
                self._retry_seconds = connection.retry_seconds
                await self._pause(error)
            else:
                self.transfer_seconds = connection.transfer_seconds
                return event

    async def _connected(self) -> Connection:
        while self._connection is None:
            try:
                response = await self._sender.open(
                    self._request(), repeatable=self._repeatable, content_type=EVENT_STREAM, retry=False
                )
            except LongtakeError as error:
                await self._pause(error)
                continue
            self._begun = True
            self._connection = Connection(
                response, self._sender.address, self._max_event_bytes, self._patience.progressed
            )
            self.chain_id = self.chain_id or self._connection.chain_id
            if self.chain_id is None:
                # Sent again, it might make a second chain.
                self._repeatable = False
        return self._connection

    def _request(self) -> httpx2.Request:
        if self.chain_id is None:
            assert self._post is not None
            return self._post
        get = self._sender.get(chain_path(self.chain_id, "/events"), EVENT_STREAM)
        if self.last_event_id is not None:
            get.headers["Last-Event-ID"] = self.last_event_id
        return get

    async def _pause(self, error: LongtakeError) -> None:
        """Wait before the next connection, or raise."""
        await self._drop()
        if not self._begun and self._repeatable:
            # The request was sent; what became of it is not known.
            self._begun = isinstance(error, ConnectionLost) or (
                isinstance(error, TimedOut) and error.phase == "silence"
            )
        delay: float | None = None
        if not self._begun:
            self._attempts += 1
            delay = self._sender.retries.delay(error, self._attempts, repeatable=self._repeatable)
        elif is_drop(error) and (self.chain_id is not None or self._repeatable):
            delay = self._patience.delay(error, self._retry_seconds)
        if delay is None:
            raise error
        _log.info("%s; again in %.1f s", error, delay)
        await anyio.sleep(delay)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def _is_new(self, event: ServerSentEvent) -> bool:
        """Whether it was not there before a reconnection.

        Raises:
            ProtocolError: events before it are missing, or it has no number.
        """
        if self.chain_id is None:
            return True
        if not _is_number(event.id):
            raise ProtocolError(f"the event {event.name} has no number but {event.id!r}")
        last = int(self.last_event_id) if self.last_event_id and _is_number(self.last_event_id) else 0
        if int(event.id) > last + 1:
            raise ProtocolError(f"after event {last} came event {event.id}: what was between them is missing")
        return int(event.id) > last

    async def _fill(self, completion: Completion) -> None:
        """Fetch the video that a followed chain's completion leaves out, and check it."""
        if self._video is None or self.chain_id is None or completion.video:
            return
        await self._drop()
        began = anyio.current_time()
        completion.video = await self._video(self.chain_id)
        self.transfer_seconds += anyio.current_time() - began
        completion.video_data()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST_ID
