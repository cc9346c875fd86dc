"""Sending a request and judging the answer: HTTP's failures become the errors of :mod:`longtake.errors`."""

import contextlib
import email.utils
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Final, TypeVar
from urllib.parse import quote

import anyio
import httpx2
import msgspec

from longtake import errors, wire
from longtake.errors import ConnectionFailed, ConnectionLost, ProtocolError, TimedOut, UnexpectedAnswer
from longtake.retry import Retries

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
_ERROR_BODY_LIMIT: Final = 1024 * 1024
_EXCERPT: Final = 300

T = TypeVar("T")


class Deadline:
    """A point in time that a call must not pass; None for none."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends = None if seconds is None else time.monotonic() + seconds

    @contextlib.contextmanager
    def enforced(self) -> Iterator[None]:
        """Around awaiting code of one task.

        Raises:
            TimedOut: the point passed; phase ``total``.
        """
        left = None if self._ends is None else self._ends - time.monotonic()
        try:
            with anyio.fail_after(left):
                yield
        except TimeoutError as error:
            raise TimedOut(f"not done within {self.seconds:g} s", phase="total") from error


@contextlib.contextmanager
def translated(address: str) -> Iterator[None]:
    """Turns the HTTP library's exceptions into this package's.

    Raises:
        TransportError: as the cause says.
        ProtocolError: the request cannot be said in HTTP (a line break in a header), or a body is broken.
    """
    try:
        yield
    except httpx2.ConnectTimeout as error:
        raise TimedOut(f"{address} does not answer", phase="connect") from error
    except httpx2.TimeoutException as error:
        raise TimedOut(f"{address}: nothing arrived for too long", phase="silence") from error
    except (httpx2.ConnectError, httpx2.ProxyError) as error:
        raise ConnectionFailed(f"no server at {address}: {error}") from error
    except (httpx2.LocalProtocolError, httpx2.DecodingError, httpx2.InvalidURL) as error:
        raise ProtocolError(f"{address}: {error}") from error
    except httpx2.TransportError as error:
        raise ConnectionLost(f"the connection to {address} broke: {error or type(error).__name__}") from error


class Sender:
    """Makes and sends requests of one client, again where that helps."""

    def __init__(self, http: httpx2.AsyncClient, retries: Retries) -> None:
        self._http = http
        self.retries = retries
        self.address = str(http.base_url).rstrip("/")

    def get(self, path: str, accept: str = JSON, params: Mapping[str, str] | None = None) -> httpx2.Request:
        """A request to be sent."""
        return self._http.build_request("GET", path, params=params or None, headers={"Accept": accept})

    def post(self, path: str, body: bytes = b"", accept: str = JSON) -> httpx2.Request:
        """A request with a JSON body, or with none, to be sent."""
        headers = {"Accept": accept} | ({"Content-Type": JSON} if body else {})
        return self._http.build_request("POST", path, content=body, headers=headers)

    def delete(self, path: str) -> httpx2.Request:
        """A request to be sent."""
        return self._http.build_request("DELETE", path, headers={"Accept": JSON})

    async def open(
        self, request: httpx2.Request, *, repeatable: bool, content_type: str | None, retry: bool = True
    ) -> httpx2.Response:
        """The answer to ``request`` with its body unread, once it is a success of ``content_type``; to be closed.

        ``content_type`` None accepts any; an answer without content (204) has none.

        Raises:
            LongtakeError: what the last attempt met.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._once(request, content_type)
            except errors.LongtakeError as error:
                delay = self.retries.delay(error, attempt, repeatable=repeatable) if retry else None
                if delay is None:
                    raise
            await anyio.sleep(delay)

    async def read(self, request: httpx2.Request, kind: type[T], *, repeatable: bool, retry: bool = True) -> T:
        """The JSON answer to ``request``.

        Raises:
            LongtakeError: what the last attempt met, or an answer that is no ``kind``.
        """
        response = await self.open(request, repeatable=repeatable, content_type=JSON, retry=retry)
        async with closing(response):
            with translated(self.address):
                body = await response.aread()
        return decoded(body, kind)

    async def status(self, request: httpx2.Request) -> int:
        """The bare status that ``request`` is answered with; it is sent once.

        Raises:
            TransportError: nothing answered.
        """
        with translated(self.address):
            return (await self._http.send(request)).status_code

    async def _once(self, request: httpx2.Request, content_type: str | None) -> httpx2.Response:
        with translated(self.address):
            response = await self._http.send(request, stream=True)
        found = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        fits = content_type in (None, found) or response.status_code == 204
        if response.is_success and fits:
            return response
        async with closing(response):
            raise await self._refusal(response, found)

    async def _refusal(self, response: httpx2.Response, content_type: str) -> errors.LongtakeError:
        body = b""
        with contextlib.suppress(ConnectionLost), translated(self.address):
            async with contextlib.aclosing(response.aiter_bytes()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) >= _ERROR_BODY_LIMIT or not response.is_error:
                        break
        if response.is_error and content_type == JSON and (error := _typed(response, body)):
            return error
        return _unexpected(response, content_type, body)


def chain_path(chain_id: str, rest: str = "") -> str:
    """Where a chain is, or what is below it; an id cannot leave its place."""
    return f"/api/chains/{quote(chain_id, safe='')}{rest}"


@contextlib.asynccontextmanager
async def closing(response: httpx2.Response) -> AsyncIterator[None]:
    """Closes ``response`` at the end, also when the task is being cancelled."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


def decoded(body: bytes, kind: type[T]) -> T:
    """``body`` as ``kind``.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"the server's answer is not what it should be: {error}") from error


def _typed(response: httpx2.Response, body: bytes) -> errors.ServerError | None:
    status = response.status_code
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        answer = msgspec.json.decode(body, type=wire.ApiError)
        return errors.from_answer(answer, status=status, retry_after=_retry_after(response))
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return errors.from_failure(msgspec.json.decode(body, type=wire.ChainFailure), status=status)
    return None


def _unexpected(response: httpx2.Response, content_type: str, body: bytes) -> UnexpectedAnswer:
    status = response.status_code
    excerpt = body.decode("utf-8", errors="replace")[:_EXCERPT]
    message = f"{response.request.method} {response.request.url} was answered with {status}"
    if response.reason_phrase:
        message += f" {response.reason_phrase}"
    if response.is_redirect:
        message += f", a redirect to {response.headers.get('location')}: give that address instead"
    else:
        message += f" and a body of type {content_type or 'unknown'}: is this a longtake server?"
    error = UnexpectedAnswer(message, status=status, excerpt=excerpt)
    error.retry_after = _retry_after(response)
    return error


def _retry_after(response: httpx2.Response) -> float | None:
    """Seconds of the header, which is a number or a date (RFC 9110, 10.2.3); None without a usable one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
