"""The client for asyncio; :mod:`longtake.client` has the one for blocking programs over it."""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from longtake import wire
from longtake.download import fetch, save
from longtake.errors import ChainError, StreamEnded
from longtake.retry import Retries
from longtake.sse import MAX_EVENT_BYTES
from longtake.streams import AsyncEventStream, Completion, Event
from longtake.transport import EVENT_STREAM, JSON, Deadline, Sender, chain_path
from longtake.wire import ChainAccepted, ChainDetail, ChainLimits, ChainState, ChainSummary, ValidationReport

ChainInput = wire.ChainRequest | wire.ChainScript | Mapping[str, Any]
"""What can be rendered: a request, a script, or a request as a plain mapping (``bytes`` become base64)."""

IdempotencyKey = str | Literal[False] | None
"""None draws a fresh key for the call; False sends none, so that only what surely was not begun is sent again."""

SILENCE_TIMEOUT: Final = 35.0
"""Seconds without a byte until the connection counts as dead. The server pings every 10 s."""

RECONNECT_TIMEOUT: Final = 300.0
"""Seconds that a broken connection is made again without anything new: a server may load a large checkpoint."""

Models = list[wire.ModelInfo]
Gallery = list[wire.GalleryItem]

T = TypeVar("T")
_PAGE: Final = 100


class AsyncLongtake:
    """A client of one server, for asyncio; to be used as ``async with``, or closed with :meth:`aclose`.

    Args:
        base_url: like ``http://127.0.0.1:8080``; a path in it is kept.
        headers: sent with every request, for instance ``Authorization``.
        connect_timeout: seconds to connect, per attempt.
        silence_timeout: seconds without a byte in an answer; None for ever.
        total_timeout: seconds a whole call may take, its retries included; None for ever.
        retries: how often a request is sent again.
        reconnect_timeout: seconds that a chain's stream, or a download, is taken up again without anything new coming
            of it; 0 for not at all, None for ever.
        max_event_bytes: the largest event accepted.
        trust_env: whether proxies and the like are taken from the environment.
        transport: what carries the requests instead of the network, for tests.

    Raises:
        ValueError: ``base_url`` is no HTTP address.

    Every method raises :class:`longtake.errors.LongtakeError`, of the kind its tree says.
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
        self._total_timeout = total_timeout
        self._patience = reconnect_timeout
        self._max_event_bytes = max_event_bytes
        self._http = httpx2.AsyncClient(
            base_url=_checked(base_url),
            headers=dict(headers or {}),
            timeout=httpx2.Timeout(silence_timeout, connect=connect_timeout, pool=None),
            trust_env=trust_env,
            transport=transport,
        )
        self._sender = Sender(self._http, retries or Retries())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def stream(
        self, request: ChainInput, *, idempotency_key: IdempotencyKey = None, timeout: float | None = None
    ) -> AsyncEventStream:
        """Render a chain and follow its events; ``timeout`` (seconds) in place of the client's ``total_timeout``.

        Nothing is sent before the stream is opened. A connection that breaks is made again. Leaving early does not
        stop the chain.
        """
        post = self._chain_post("/api/generate/chain/stream", request, idempotency_key, EVENT_STREAM)
        return AsyncEventStream(
            self._sender,
            post=post,
            repeatable=idempotency_key is not False,
            video=self._video,
            timeout=self._total_timeout if timeout is None else timeout,
            patience=self._patience,
            max_event_bytes=self._max_event_bytes,
        )

    async def generate(
        self,
        request: ChainInput,
        *,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: IdempotencyKey = None,
        timeout: float | None = None,
    ) -> Completion:
        """Render a chain and wait for its video; ``on_event`` is called with every event on the way.

        It survives a restart of the server in between.
        """
        async with self.stream(request, idempotency_key=idempotency_key, timeout=timeout) as events:
            return await _completion(events, on_event)

    async def validate(self, request: ChainInput) -> ValidationReport:
        """What the request would run; nothing is rendered."""
        post = self._sender.post("/api/chains/validate", _body(request))
        return await self._read(post, ValidationReport)

    async def submit(self, request: ChainInput, *, idempotency_key: IdempotencyKey = None) -> ChainAccepted:
        """Start a chain without following it."""
        post = self._chain_post("/api/chains", request, idempotency_key, JSON)
        return await self._read(post, ChainAccepted, repeatable=idempotency_key is not False)

    async def chain(self, chain_id: str) -> ChainDetail:
        """A chain as it stands."""
        return await self._read(self._sender.get(chain_path(chain_id)), ChainDetail)

    def events(
        self,
        chain_id: str,
        *,
        after: int | str | None = None,
        inline: bool = False,
        timeout: float | None = None,
    ) -> AsyncEventStream:
        """The events of a chain from its start, or after the event of id ``after``, to its end.

        ``inline``: the last event carries the video. Nothing is yielded where nothing came after ``after``. A
        connection that breaks is made again.
        """
        return AsyncEventStream(
            self._sender,
            chain_id=chain_id,
            after=None if after is None else str(after),
            video=self._video if inline else None,
            timeout=self._total_timeout if timeout is None else timeout,
            patience=self._patience,
            max_event_bytes=self._max_event_bytes,
        )

    async def wait(self, chain_id: str, *, timeout: float | None = None) -> ChainDetail:
        """A chain once it has ended, well or not.

        Raises:
            TimedOut: it had not within ``timeout`` seconds; phase ``total``.
        """
        with Deadline(self._total_timeout if timeout is None else timeout).enforced():
            # Someone may resume it between its last event and the look at it.
            while not (detail := await self.chain(chain_id)).state.ended:
                try:
                    async with self.events(chain_id) as events:
                        async for _ in events:
                            pass
                except ChainError as error:
                    if error.status is not None:
                        raise
        return detail

    async def result(self, chain_id: str, *, timeout: float | None = None) -> Completion:
        """The completion of a chain with its video, waiting for its end.

        Raises:
            ChainError: it failed or was cancelled.
        """
        async with self.events(chain_id, inline=True, timeout=timeout) as events:
            return await _completion(events, None)

    async def cancel(self, chain_id: str) -> None:
        """Stop a chain; its finished stages are kept.

        Raises:
            WrongState: it has ended.
        """
        await self._send(self._sender.post(chain_path(chain_id, "/cancel")))

    async def resume(self, chain_id: str) -> ChainAccepted:
        """Go on with a chain that failed or was cancelled; only what is missing is rendered.

        Its events go on where they were: follow them with ``events(chain_id, after=...)``.

        Raises:
            WrongState: it did neither.
        """
        post = self._sender.post(chain_path(chain_id, "/resume"))
        return await self._read(post, ChainAccepted, repeatable=False)

    async def retake(
        self, chain_id: str, stage_idx: int, *, prompt: str | None = None, seed_offset: int | None = None
    ) -> ChainAccepted:
        """Render one stage of a chain again, with another prompt or seed, as a new chain; the rest is reused.

        Without a prompt and an offset a new offset is drawn. The answer is the new chain's.
        """
        wanted = wire.Retake(stage_idx=stage_idx, prompt=prompt, seed_offset=seed_offset)
        post = self._sender.post(chain_path(chain_id, "/retake"), msgspec.json.encode(wanted))
        post.headers[wire.IDEMPOTENCY_HEADER] = str(uuid.uuid4())
        return await self._read(post, ChainAccepted)

    async def delete(self, chain_id: str) -> None:
        """Remove a chain and its files for good.

        Raises:
            WrongState: it has not ended.
        """
        await self._send(self._sender.delete(chain_path(chain_id)))

    async def download(self, chain_id: str, path: str | os.PathLike[str]) -> Path:
        """Write the video of a completed chain, whole or not at all; a file of that name is replaced.

        A transfer that breaks goes on where it was. Raises as :meth:`chain` does, and:
            GaveUp: it broke again and again without bringing anything.
            OSError: the file could not be written.
        """
        with Deadline(self._total_timeout).enforced():
            return await save(self._sender, chain_path(chain_id, "/video"), Path(path), self._patience)

    async def stage_video(self, chain_id: str, stage_idx: int) -> bytes:
        """A stage's own part of the timeline as MP4, as soon as it is encoded.

        Raises:
            NotFound: it is not yet, or there is no such stage.
        """
        with Deadline(self._total_timeout).enforced():
            return await fetch(self._sender, chain_path(chain_id, f"/stages/{stage_idx}/video"), self._patience)

    async def limits(self, model: str | None = None) -> ChainLimits:
        """What is enforced for a model, the server's default one if none is given."""
        params = {} if model is None else {"model": model}
        return await self._read(self._sender.get("/api/capabilities/chain-limits", JSON, params), ChainLimits)

    async def models(self) -> Models:
        """The served models."""
        return await self._read(self._sender.get("/api/models"), Models)

    async def gallery(self) -> Gallery:
        """The finished videos."""
        return await self._read(self._sender.get("/api/gallery"), Gallery)

    async def ready(self) -> bool:
        """Whether every model answers; asked once, without retries."""
        with Deadline(self._total_timeout).enforced():
            return await self._sender.status(self._sender.get("/ready", "*/*")) == httpx2.codes.OK

    async def list(
        self, *, state: ChainState | str | None = None, limit: int | None = None
    ) -> AsyncIterator[ChainSummary]:
        """The chains, newest first: those in ``state``, at most ``limit``; asked for page by page."""
        cursor, left = None, limit
        while left is None or left > 0:
            params = {"limit": str(min(_PAGE, _PAGE if left is None else left))}
            params |= {"state": str(state)} if state is not None else {}
            params |= {"cursor": cursor} if cursor is not None else {}
            page = await self._read(self._sender.get("/api/chains", params=params), wire.ChainList)
            for summary in page.chains[:left]:
                yield summary
            left = None if left is None else left - len(page.chains)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _read(self, request: httpx2.Request, kind: type[T], *, repeatable: bool = True) -> T:
        with Deadline(self._total_timeout).enforced():
            return await self._sender.read(request, kind, repeatable=repeatable)

    async def _send(self, request: httpx2.Request) -> None:
        """Send what has no answer worth reading."""
        with Deadline(self._total_timeout).enforced():
            response = await self._sender.open(request, repeatable=False, content_type=None)
            await response.aclose()

    async def _video(self, chain_id: str) -> bytes:
        return await fetch(self._sender, chain_path(chain_id, "/video"), self._patience, begun=True)

    def _chain_post(self, path: str, request: ChainInput, key: IdempotencyKey, accept: str) -> httpx2.Request:
        post = self._sender.post(path, _body(request), accept)
        if key is not False:
            post.headers[wire.IDEMPOTENCY_HEADER] = key or str(uuid.uuid4())
        return post


async def _completion(events: AsyncEventStream, on_event: Callable[[Event], object] | None) -> Completion:
    async for event in events:
        if on_event is not None:
            on_event(event)
        if isinstance(event, Completion):
            return event
    raise StreamEnded("the stream ended before the chain did")


def _checked(base_url: str) -> str:
    wanted = "wanted is one like http://127.0.0.1:8080"
    try:
        url = urlsplit(base_url)
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        if not whole or not httpx2.URL(base_url).host or any(c.isspace() for c in base_url):
            raise ValueError(wanted)
    except (ValueError, httpx2.InvalidURL) as error:
        raise ValueError(f"{base_url!r} is no address of a server: {error}") from error
    return base_url


def _body(request: ChainInput) -> bytes:
    if isinstance(request, wire.ChainScript):
        request = request.request()
    return msgspec.json.encode(request if isinstance(request, msgspec.Struct) else dict(request))
