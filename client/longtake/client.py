"""The client for blocking programs, over :class:`AsyncLongtake`, which does the work."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

import httpx2

from longtake.async_client import (
    RECONNECT_TIMEOUT,
    SILENCE_TIMEOUT,
    AsyncLongtake,
    ChainInput,
    Gallery,
    IdempotencyKey,
    Models,
)
from longtake.blocking import BlockingCalls, EventStream
from longtake.errors import StreamEnded
from longtake.retry import Retries
from longtake.sse import MAX_EVENT_BYTES
from longtake.streams import Completion, Event
from longtake.wire import ChainAccepted, ChainDetail, ChainLimits, ChainState, ChainSummary, ValidationReport

__all__ = ["AsyncLongtake", "Longtake"]


class Longtake:
    """A client of one server for blocking programs; to be used as ``with``, or closed with :meth:`close`.

    The arguments and errors are those of :class:`AsyncLongtake`, which does the work. Safe to use from several threads.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float | None = 10.0,
        silence_timeout: float | None = SILENCE_TIMEOUT,
        total_timeout: float | None = None,
        retries: Retries | None = None,
        reconnect_timeout: float | None = RECONNECT_TIMEOUT,
        max_event_bytes: int = MAX_EVENT_BYTES,
        trust_env: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._core = AsyncLongtake(
            base_url,
            headers=headers,
            connect_timeout=connect_timeout,
            silence_timeout=silence_timeout,
            total_timeout=total_timeout,
            retries=retries,
            reconnect_timeout=reconnect_timeout,
            max_event_bytes=max_event_bytes,
            trust_env=trust_env,
            transport=transport,
        )
        self._call = BlockingCalls()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the client's thread."""
        self._call.stop(self._core.aclose)

    def stream(
        self, request: ChainInput, *, idempotency_key: IdempotencyKey = None, timeout: float | None = None
    ) -> EventStream:
        """Render a chain and follow its events, as :meth:`AsyncLongtake.stream`."""
        return EventStream(self._call, self._core.stream(request, idempotency_key=idempotency_key, timeout=timeout))

    def generate(
        self,
        request: ChainInput,
        *,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: IdempotencyKey = None,
        timeout: float | None = None,
    ) -> Completion:
        """Render a chain and wait for its video, as :meth:`AsyncLongtake.generate`; ``on_event`` runs here."""
        with self.stream(request, idempotency_key=idempotency_key, timeout=timeout) as events:
            for event in events:
                if on_event is not None:
                    on_event(event)
                if isinstance(event, Completion):
                    return event
        raise StreamEnded("the stream ended before the chain did")

    def validate(self, request: ChainInput) -> ValidationReport:
        """What the request would run; nothing is rendered."""
        return self._call(self._core.validate, request)

    def submit(self, request: ChainInput, *, idempotency_key: IdempotencyKey = None) -> ChainAccepted:
        """Start a chain without following it."""
        return self._call(lambda: self._core.submit(request, idempotency_key=idempotency_key))

    def chain(self, chain_id: str) -> ChainDetail:
        """A chain as it stands."""
        return self._call(self._core.chain, chain_id)

    def events(
        self,
        chain_id: str,
        *,
        after: int | str | None = None,
        inline: bool = False,
        timeout: float | None = None,
    ) -> EventStream:
        """The events of a chain, as :meth:`AsyncLongtake.events`."""
        return EventStream(self._call, self._core.events(chain_id, after=after, inline=inline, timeout=timeout))

    def wait(self, chain_id: str, *, timeout: float | None = None) -> ChainDetail:
        """A chain once it has ended, well or not."""
        return self._call(lambda: self._core.wait(chain_id, timeout=timeout))

    def result(self, chain_id: str, *, timeout: float | None = None) -> Completion:
        """The completion of a chain with its video, waiting for its end."""
        return self._call(lambda: self._core.result(chain_id, timeout=timeout))

    def cancel(self, chain_id: str) -> None:
        """Stop a chain; its finished stages are kept."""
        self._call(self._core.cancel, chain_id)

    def resume(self, chain_id: str) -> ChainAccepted:
        """Go on with a chain that failed or was cancelled; only what is missing is rendered."""
        return self._call(self._core.resume, chain_id)

    def retake(
        self, chain_id: str, stage_idx: int, *, prompt: str | None = None, seed_offset: int | None = None
    ) -> ChainAccepted:
        """Render one stage again as a new chain, as :meth:`AsyncLongtake.retake`."""
        return self._call(lambda: self._core.retake(chain_id, stage_idx, prompt=prompt, seed_offset=seed_offset))

    def delete(self, chain_id: str) -> None:
        """Remove a chain and its files for good."""
        self._call(self._core.delete, chain_id)

    def download(self, chain_id: str, path: str | os.PathLike[str]) -> Path:
        """Write the video of a completed chain, whole or not at all, as :meth:`AsyncLongtake.download`."""
        return self._call(self._core.download, chain_id, path)

    def stage_video(self, chain_id: str, stage_idx: int) -> bytes:
        """A stage's own part of the timeline as MP4, as soon as it is encoded."""
        return self._call(self._core.stage_video, chain_id, stage_idx)

    def limits(self, model: str | None = None) -> ChainLimits:
        """What is enforced for a model, the server's default one if none is given."""
        return self._call(self._core.limits, model)

    def models(self) -> Models:
        """The served models."""
        return self._call(self._core.models)

    def gallery(self) -> Gallery:
        """The finished videos."""
        return self._call(self._core.gallery)

    def ready(self) -> bool:
        """Whether every model answers; asked once, without retries."""
        return self._call(self._core.ready)

    def list(self, *, state: ChainState | str | None = None, limit: int | None = None) -> Iterator[ChainSummary]:
        """The chains, newest first, as :meth:`AsyncLongtake.list`."""
        chains = self._core.list(state=state, limit=limit)

        async def following() -> ChainSummary | None:
            return await anext(chains, None)

        while (summary := self._call(following)) is not None:
            yield summary
