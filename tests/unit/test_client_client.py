"""What the client sends and refuses, without a socket."""

from collections.abc import Callable

import httpx2
import msgspec
import pytest

from longtake import AsyncLongtake, Completion, Longtake, errors, wire
from longtake.retry import Retries
from longtake.sse import ServerSentEvent
from longtake.streams import UnknownEvent, interpret
from wire_server import CHAIN_ID, LIMITS, complete, event

ONCE = Retries(attempts=1)


def client(answer: Callable[[httpx2.Request], httpx2.Response], url: str = "http://server") -> AsyncLongtake:
    """A client whose requests are answered by a function."""
    return AsyncLongtake(
        url, transport=httpx2.MockTransport(answer), retries=ONCE, headers={"Authorization": "Bearer x"}
    )


@pytest.mark.parametrize(
    "url", ["", "server:8080", "ftp://server", "http://", "http://[", "localhost", "http://a b", "http://a:99999"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """When the client is made, not at its first request."""
    with pytest.raises(ValueError, match="no address"):
        AsyncLongtake(url)
    with pytest.raises(ValueError, match="no address"):
        Longtake(url)


async def test_a_path_in_the_address_is_kept() -> None:
    """For a server behind a proxy."""
    seen: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(200, json=[])

    for url in ("http://server/longtake", "http://server/longtake/"):
        await client(answer, url).models()
    assert seen == ["http://server/longtake/api/models"] * 2


async def test_headers_of_the_client_go_with_every_request() -> None:
    """Credentials, for instance."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers["Authorization"] == "Bearer x"
        assert request.headers["Accept"] == "application/json"
        return httpx2.Response(200, content=msgspec.json.encode(LIMITS), headers={"Content-Type": "application/json"})

    assert (await client(answer).limits()).model == "tiny"


@pytest.mark.parametrize(("key", "sent"), [("mine", "mine"), (False, None)])
async def test_the_idempotency_key_is_the_callers_to_choose(key: str | bool, sent: str | None) -> None:
    """One of its own, or none."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.headers.get(wire.IDEMPOTENCY_HEADER) == sent
        body = event("complete", 1, complete(b"x"))
        return httpx2.Response(200, content=body, headers={"Content-Type": "text/event-stream; charset=utf-8"})

    found = await client(answer).generate({"prompt": "x"}, idempotency_key=key)  # type: ignore[arg-type]  # True is not among them
    assert isinstance(found, Completion)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-1", None), ("", None), ("1e9", None)],
)
async def test_retry_after_is_read_as_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """What is neither counts as absent."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={"error": "no", "code": "RATE_LIMITED"}, headers={"Retry-After": value})

    with pytest.raises(errors.RateLimited) as caught:
        await client(answer).models()
    assert caught.value.retry_after == seconds


async def test_a_failure_of_the_blocking_endpoints_kind_is_read() -> None:
    """A 502 that says which stage failed."""
    failure = {
        "error": "stage 1 failed", "failed_stage_idx": 1, "elapsed_stages": 1, "elapsed_ms": 5, "stage_error": "s",
    }  # fmt: skip
    with pytest.raises(errors.StageFailed) as caught:
        await client(lambda _: httpx2.Response(502, json=failure)).submit({"prompt": "x"})
    assert (caught.value.status, caught.value.failed_stage_idx) == (502, 1)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b"null", b"{"])
async def test_an_answer_of_another_shape_is_a_protocol_error(body: bytes) -> None:
    """A success whose JSON is not what was asked for."""
    answer = httpx2.Response(200, content=body, headers={"Content-Type": "application/json"})
    with pytest.raises(errors.ProtocolError):
        await client(lambda _: answer).chain(CHAIN_ID)


async def test_a_body_with_broken_compression_is_a_protocol_error() -> None:
    """The HTTP library's own exception does not come through."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    async def body():  # type: ignore[no-untyped-def]  # a generator of chunks
        yield b"no gzip at all"

    with pytest.raises(errors.ProtocolError):
        await client(lambda _: httpx2.Response(200, content=body(), headers=headers)).models()


@pytest.mark.parametrize("kind", wire.ProgressEvent.__args__)
def test_every_progress_event_of_the_wire_is_understood(kind: type[wire.Event]) -> None:
    """A new one in the wire is known here without a change."""
    fields = {field.name: "x" if field.type is str else 1 for field in msgspec.structs.fields(kind)}
    made = kind(**fields)
    data = msgspec.json.encode(made)
    assert interpret(ServerSentEvent(name="progress", data=data, id="1")) == made


def test_a_type_that_is_unknown_is_kept_raw() -> None:
    """Also where there is none."""
    for data in (b'{"type":"new"}', b"{}"):
        assert interpret(ServerSentEvent(name="progress", data=data, id="4")) == UnknownEvent("progress", data, "4")
