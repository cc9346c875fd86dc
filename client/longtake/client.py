"""The client: :class:`AsyncLongtake`, and :class:`Longtake`, which drives the same code from blocking programs."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from longtake import wire
from longtake.blocking import BlockingCalls, EventStream
from longtake.errors import StreamEnded
from longtake.retry import Retries
from longtake.sse import MAX_EVENT_BYTES, Decoder
from longtake.streams import AsyncEventStream, Completion, Event
from longtake.transport import EVENT_STREAM, JSON, Deadline, Sender
from longtake.wire import ChainAccepted, ChainDetail, ChainLimits, GalleryItem, ModelInfo, ValidationReport

ChainInput = wire.ChainRequest | wire.ChainScript | Mapping[str, Any]
"""What can be rendered: a request, a script, or a request as a plain mapping (``bytes`` become base64)."""

IdempotencyKey = str | Literal[False] | None
"""None draws a fresh key for the call; False sends none, so that only what surely was not begun is sent again."""

SILENCE_TIMEOUT: Final = 35.0
"""Seconds without a byte until the connection counts as dead. The server pings every 10 s."""

T = TypeVar("T")


class AsyncLongtake:
    """A client of one server, for asyncio; to be used as ``async with``, or closed with :meth:`aclose`.

    Args:
        base_url: like ``http://127.0.0.1:8080``; a path in it is kept.
        headers: sent with every request, for instance ``Authorization``.
        connect_timeout: seconds to connect, per attempt.
        silence_timeout: seconds without a byte in an answer; None for ever.
        total_timeout: seconds a whole call may take, its retries included; None for ever.
        retries: how often a request is sent again.
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
        max_event_bytes: int = MAX_EVENT_BYTES,
        trust_env: bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._total_timeout = total_timeout
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

        Nothing is sent before the stream is opened. Leaving it early does not stop the chain.
        """
        post = self._chain_post("/api/generate/chain/stream", request, idempotency_key, EVENT_STREAM)
        return self._events(post, repeatable=idempotency_key is not False, timeout=timeout)

    async def generate(
        self,
        request: ChainInput,
        *,
        on_event: Callable[[Event], object] | None = None,
        idempotency_key: IdempotencyKey = None,
        timeout: float | None = None,
    ) -> Completion:
        """Render a chain and wait for its video; ``on_event`` is called with every event on the way."""
        async with self.stream(request, idempotency_key=idempotency_key, timeout=timeout) as events:
            return await _completion(events, on_event)

    async def validate(self, request: ChainInput) -> ValidationReport:
        """What the request would run; nothing is rendered."""
        post = self._post("/api/chains/validate", _body(request))
        return await self._read(post, ValidationReport)

    async def submit(self, request: ChainInput, *, idempotency_key: IdempotencyKey = None) -> ChainAccepted:
        """Start a chain without following it."""
        post = self._chain_post("/api/chains", request, idempotency_key, JSON)
        return await self._read(post, ChainAccepted, repeatable=idempotency_key is not False)

    async def chain(self, chain_id: str) -> ChainDetail:
        """A chain as it stands."""
        return await self._read(self._get(_chain_path(chain_id)), ChainDetail)

    def events(
        self,
        chain_id: str,
        *,
        after: int | str | None = None,
        inline: bool = False,
        timeout: float | None = None,
    ) -> AsyncEventStream:
        """The events of a chain from its start, or after the event of id ``after``, to its end.

        ``inline``: the last event carries the video. Nothing is yielded where nothing came after ``after``.
        """
        get = self._get(_chain_path(chain_id, "/events"), EVENT_STREAM, {"inline": "true"} if inline else {})
        if after is not None:
            get.headers["Last-Event-ID"] = str(after)
        return self._events(get, repeatable=True, timeout=timeout, chain_id=chain_id)

    async def cancel(self, chain_id: str) -> None:
        """Stop a chain; its finished stages are kept.

        Raises:
            WrongState: it has ended.
        """
        with Deadline(self._total_timeout).enforced():
            post = self._post(_chain_path(chain_id, "/cancel"), b"")
            response = await self._sender.open(post, repeatable=False, content_type=None)
            await response.aclose()

    async def result(self, chain_id: str) -> Completion:
        """The completion of a chain with its video, once it has ended."""
        async with self.events(chain_id, inline=True) as events:
            return await _completion(events, None)

    async def limits(self, model: str | None = None) -> ChainLimits:
        """What is enforced for a model, the server's default one if none is given."""
        params = {} if model is None else {"model": model}
        return await self._read(self._get("/api/capabilities/chain-limits", JSON, params), ChainLimits)

    async def models(self) -> list[ModelInfo]:
        """The served models."""
        return await self._read(self._get("/api/models"), list[ModelInfo])

    async def gallery(self) -> list[GalleryItem]:
        """The finished videos."""
        return await self._read(self._get("/api/gallery"), list[GalleryItem])

    async def ready(self) -> bool:
        """Whether every model answers; asked once, without retries."""
        with Deadline(self._total_timeout).enforced():
            return await self._sender.status(self._get("/ready", "*/*")) == httpx2.codes.OK

    async def _read(self, request: httpx2.Request, kind: type[T], *, repeatable: bool = True) -> T:
        with Deadline(self._total_timeout).enforced():
            return await self._sender.read(request, kind, repeatable=repeatable)

    def _events(
        self,
        request: httpx2.Request,
        *,
        repeatable: bool,
        timeout: float | None,
        chain_id: str | None = None,
    ) -> AsyncEventStream:
        async def opener() -> httpx2.Response:
            return await self._sender.open(request, repeatable=repeatable, content_type=EVENT_STREAM)

        return AsyncEventStream(
            opener,
            address=self._sender.address,
            timeout=self._total_timeout if timeout is None else timeout,
            decoder=Decoder(self._max_event_bytes),
            chain_id=chain_id,
        )

    def _get(self, path: str, accept: str = JSON, params: Mapping[str, str] | None = None) -> httpx2.Request:
        return self._http.build_request("GET", path, params=params or None, headers={"Accept": accept})

    def _post(self, path: str, body: bytes, accept: str = JSON) -> httpx2.Request:
        headers = {"Accept": accept} | ({"Content-Type": JSON} if body else {})
        return self._http.build_request("POST", path, content=body, headers=headers)

    def _chain_post(self, path: str, request: ChainInput, key: IdempotencyKey, accept: str) -> httpx2.Request:
        post = self._post(path, _body(request), accept)
        if key is not False:
            post.headers[wire.IDEMPOTENCY_HEADER] = key or str(uuid.uuid4())
        return post


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

    def cancel(self, chain_id: str) -> None:
        """Stop a chain; its finished stages are kept."""
        self._call(self._core.cancel, chain_id)

    def result(self, chain_id: str) -> Completion:
        """The completion of a chain with its video, once it has ended."""
        return self._call(self._core.result, chain_id)

    def limits(self, model: str | None = None) -> ChainLimits:
        """What is enforced for a model, the server's default one if none is given."""
        return self._call(self._core.limits, model)

    def models(self) -> list[ModelInfo]:
        """The served models."""
        return self._call(self._core.models)

    def gallery(self) -> list[GalleryItem]:
        """The finished videos."""
        return self._call(self._core.gallery)

    def ready(self) -> bool:
        """Whether every model answers; asked once, without retries."""
        return self._call(self._core.ready)


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


def _chain_path(chain_id: str, rest: str = "") -> str:
    return f"/api/chains/{quote(chain_id, safe='')}{rest}"


def _body(request: ChainInput) -> bytes:
    if isinstance(request, wire.ChainScript):
        request = request.request()
    return msgspec.json.encode(request if isinstance(request, msgspec.Struct) else dict(request))
