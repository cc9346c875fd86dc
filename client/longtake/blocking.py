"""From blocking programs to the asynchronous core: one thread with an event loop, and a stream to iterate over."""

from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from longtake.streams import AsyncEventStream, Event

T = TypeVar("T")


class BlockingCalls:
    """Runs coroutines on an event loop in a thread of its own, which starts with the first of them."""

    def __init__(self) -> None:
        self._context: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None
        self._starting = Lock()

    def __call__(self, function: Callable[..., Coroutine[Any, Any, T]], *args: object) -> T:
        """What ``function`` returns; an exception here (Ctrl-C) cancels it."""
        future: Future[T] = self._started().start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``last`` and end the thread, if it was started."""
        if self._context is None:
            return
        try:
            self(last)
        finally:
            context, self._context, self._portal = self._context, None, None
            context.__exit__(None, None, None)

    def _started(self) -> BlockingPortal:
        with self._starting:
            if self._portal is None:
                self._context = start_blocking_portal(name="longtake-client")
                self._portal = self._context.__enter__()
            return self._portal


class EventStream:
    """The events of a chain for blocking programs: :class:`AsyncEventStream` with ``with`` and ``for``."""

    def __init__(self, call: BlockingCalls, events: AsyncEventStream) -> None:
        self._call = call
        self._events = events

    def __enter__(self) -> Self:
        self._call(self._events.open)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        event = self._call(self._events.next)
        if event is None:
            raise StopIteration
        return event

    @property
    def chain_id(self) -> str | None:
        """Known as soon as the stream is open."""
        return self._events.chain_id

    @property
    def last_event_id(self) -> str | None:
        """Of the event yielded last."""
        return self._events.last_event_id

    @property
    def transfer_seconds(self) -> float:
        """How long the event yielded last took from its first byte to its last."""
        return self._events.transfer_seconds

    def close(self) -> None:
        """Let go of the connection; the chain goes on."""
        self._call(self._events.aclose)
