"""The client against a server on a real socket: the way through, and rubbish of every kind."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from longtake import AsyncLongtake, ChainError, ChainRequest, Completion, Longtake, UnknownEvent, errors, wire
from longtake.retry import Retries
from wire_server import (
    CHAIN_ID,
    PROGRESS,
    Handler,
    WireServer,
    as_json,
    complete,
    event,
    script,
    send,
    stream_bytes,
    threaded_server,
)

REQUEST = ChainRequest(prompt="a red circle", total_frames=9, seed=2**64 - 1)
QUICK = Retries(attempts=3, first_delay=0.01, longest_delay=0.02)
STREAM = "/api/generate/chain/stream"


@pytest_asyncio.fixture
async def wired() -> AsyncIterator[tuple[WireServer, str]]:
    """A server on a socket, and its address."""
    server = WireServer()
    served = TestServer(server.app)
    await served.start_server()
    yield server, f"http://127.0.0.1:{served.port}"
    await served.close()


@pytest_asyncio.fixture
async def client(wired: tuple[WireServer, str]) -> AsyncIterator[AsyncLongtake]:
    """A client of that server that does not wait long between retries."""
    async with AsyncLongtake(wired[1], retries=QUICK) as opened:
        yield opened


@pytest.fixture
def threaded() -> Iterator[tuple[WireServer, str]]:
    """The server in a thread of its own, for blocking clients."""
    with threaded_server() as started:
        yield started


def answer(body: bytes, status: int = 200, content_type: str = "text/html", **headers: str) -> Handler:
    """An answer of any kind."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, content_type=content_type, headers=headers)

    return handler


def refusal(code: str, status: int, headers: dict[str, str] | None = None, **more: object) -> Handler:
    """A typed refusal."""

    async def handler(_: web.Request) -> web.Response:
        return as_json(wire.ApiError(error="no", code=code, **more), status, **(headers or {}))  # type: ignore[arg-type]  # test data

    return handler


def streaming(*parts: bytes, abort: bool = False) -> Handler:
    """An event stream of these bytes."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await send(request, *parts, abort=abort)

    return handler


async def broken(request: web.Request) -> web.StreamResponse:
    """Break the connection before any answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def silent(_: web.Request) -> web.StreamResponse:
    """Never answer in the test's life."""
    await asyncio.sleep(30)
    raise AssertionError("the client should have left")


async def test_a_stream_yields_typed_events_and_ends_with_the_completion(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """Every progress event arrives as its struct, in order; the chain's id is known before the first."""
    async with client.stream(REQUEST) as events:
        assert events.chain_id == CHAIN_ID
        found = [item async for item in events]
    assert found[:-1] == PROGRESS
    last = found[-1]
    assert isinstance(last, Completion)
    assert last.video_data().sha256 == hashlib.sha256(wired[0].video).hexdigest()
    assert events.last_event_id == str(len(PROGRESS) + 1)


async def test_a_stream_needs_no_with(client: AsyncLongtake) -> None:
    """It opens at the first step, and ends for good."""
    events = client.stream(REQUEST)
    assert [item async for item in events][:-1] == PROGRESS
    assert [item async for item in events] == []


async def test_generate_returns_the_completion_and_shows_every_event(client: AsyncLongtake) -> None:
    """The callback sees what the stream yields."""
    seen: list[object] = []
    completion = await client.generate(REQUEST, on_event=seen.append)
    assert seen == [*PROGRESS, completion]
    video = completion.video_data()
    assert (video.width, video.frames_count, video.script) == (64, 9, script())


@pytest.mark.parametrize("request_", [REQUEST, script(), {"prompt": "x", "total_frames": 9, "source_image": b"\0\xff"}])
async def test_requests_scripts_and_mappings_are_sent(
    wired: tuple[WireServer, str], client: AsyncLongtake, request_: wire.ChainRequest
) -> None:
    """Whatever describes the chain becomes the request's JSON, with a fresh idempotency key a call."""
    await client.generate(request_)
    await client.submit(request_)
    (_, path, headers, body), (_, _, other, again) = wired[0].requests
    assert path == STREAM
    assert body == again
    expected = request_.request() if isinstance(request_, wire.ChainScript) else request_
    assert body == msgspec.json.encode(expected)
    assert headers["Content-Type"] == "application/json"
    assert len(headers["Idempotency-Key"]) == 36
    assert headers["Idempotency-Key"] != other["Idempotency-Key"]


async def test_the_other_endpoints_answer_with_their_structs(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """Each method asks its endpoint and reads its answer."""
    assert (await client.submit(REQUEST)).id == CHAIN_ID
    assert (await client.chain(CHAIN_ID)).state is wire.ChainState.COMPLETED
    assert (await client.validate(REQUEST)).takes == [[0], [1]]
    assert (await client.limits("a/b c")).frame_grid == 8
    assert await client.models() == []
    assert await client.gallery() == []
    assert await client.ready()
    await client.cancel(CHAIN_ID)
    assert (await client.result(CHAIN_ID)).chain_id == CHAIN_ID
    paths = [path for _, path, _, _ in wired[0].requests]
    assert "/api/capabilities/chain-limits?model=a/b+c" in paths or any("model=a%2Fb" in path for path in paths)
    assert paths[-2:] == [f"/api/chains/{CHAIN_ID}/events", f"/api/chains/{CHAIN_ID}/video"]


async def test_events_go_on_after_an_id_and_may_be_none(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """Last-Event-ID is sent; an ended chain with nothing more to say is an empty stream."""
    found = [item async for item in client.events(CHAIN_ID, after=len(PROGRESS) - 1)]
    assert found[0] == PROGRESS[-1]
    assert isinstance(found[1], Completion)
    assert [item async for item in client.events(CHAIN_ID, after=len(PROGRESS) + 1)] == []


async def test_ids_of_chains_cannot_leave_their_place_in_the_path(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """A slash or a question mark in an id is part of the id."""
    with pytest.raises(errors.NotFound):
        await client.chain("../models?x")
    assert wired[0].requests[0][1].startswith("/api/chains/..%2Fmodels%3F")


async def test_not_ready_is_no_error(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """A 503 says no, and is not asked again."""
    wired[0].then(answer(b"", 503))
    assert not await client.ready()
    assert len(wired[0].requests) == 1


async def test_unknown_events_and_types_are_yielded_as_such(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """A newer server's events pass through with their raw data, and do not end the stream."""
    strange = event("progress", 1, {"type": "dreaming", "depth": 3}) + event("weather", 2, b"sunny")
    wired[0].then(streaming(strange, event("complete", 3, complete(b"x"))))
    found = [item async for item in client.stream(REQUEST)]
    assert found[:2] == [
        UnknownEvent(name="progress", data=b'{"type":"dreaming","depth":3}', id="1"),
        UnknownEvent(name="weather", data=b"sunny", id="2"),
    ]
    assert isinstance(found[2], Completion)


async def test_new_keys_in_known_events_are_tolerated(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """An answer may say more than this client reads."""
    more = event("progress", 1, {"type": "stage_start", "stage_idx": 0, "mood": "good"})
    wired[0].then(streaming(more, event("complete", 2, complete(b"x"))))
    first, _ = [item async for item in client.stream(REQUEST)]
    assert first == wire.StageStart(stage_idx=0)


async def test_an_error_event_raises_its_type_with_all_it_says(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """The exception carries the stage, its reason, and the chain's id."""
    failure = wire.ChainError(
        message="stage 1 failed", code="STAGE_FAILED", failed_stage_idx=1, stage_error="bad luck", resumable=True
    )
    wired[0].then(streaming(event("progress", 1, PROGRESS[0]), event("error", 2, failure)))
    with pytest.raises(errors.StageFailed, match="stage 1 failed") as caught:
        await client.generate(REQUEST)
    assert isinstance(caught.value, ChainError)
    assert (caught.value.failed_stage_idx, caught.value.stage_error) == (1, "bad luck")
    assert (caught.value.chain_id, caught.value.last_event_id) == (CHAIN_ID, "2")
    assert caught.value.resumable


async def test_an_error_event_with_a_message_alone_is_a_chain_error(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """The original's error events have nothing else."""
    wired[0].then(streaming(event("error", 1, {"message": "boom"})))
    with pytest.raises(ChainError, match="boom"):
        await client.generate(REQUEST)


@pytest.mark.parametrize("cut", [0, 60, -1, -2, -500])
async def test_without_reconnecting_a_truncated_stream_names_the_chain_and_the_last_event(
    wired: tuple[WireServer, str], cut: int
) -> None:
    """Wherever the stream ends before its terminal event, the caller learns how to go on."""
    wired[0].then(streaming(stream_bytes(wired[0].video)[:cut]))
    seen: list[object] = []
    async with AsyncLongtake(wired[1], reconnect_timeout=0) as client:
        with pytest.raises(errors.GaveUp) as caught:
            await client.generate(REQUEST, on_event=seen.append)
        assert isinstance(caught.value.__cause__, errors.StreamEnded)
        assert caught.value.chain_id == CHAIN_ID
        assert caught.value.last_event_id == (str(len(seen)) if seen else None)
        rest = [item async for item in client.events(CHAIN_ID, after=caught.value.last_event_id)]
        assert seen + rest[:-1] == PROGRESS


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"type":"queued","video":3}', b"\xff\xfe"])
@pytest.mark.parametrize("name", ["complete", "error", "progress"])
async def test_rubbish_in_an_event_is_a_protocol_error(
    wired: tuple[WireServer, str], client: AsyncLongtake, name: str, data: bytes
) -> None:
    """Data that is not what the event's name promises never gets through as something else."""
    wired[0].then(streaming(event(name, 1, data)))
    with pytest.raises(errors.ProtocolError):
        await client.generate(REQUEST)


async def test_an_event_beyond_the_limit_ends_the_stream_typed(wired: tuple[WireServer, str]) -> None:
    """The error names the chain, whose video may still be fetched otherwise."""
    async with AsyncLongtake(wired[1], max_event_bytes=1000) as client:
        with pytest.raises(errors.EventTooLarge) as caught:
            await client.generate(REQUEST)
    assert caught.value.chain_id == CHAIN_ID


async def test_a_completion_of_64_mb_arrives_whole(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """One line of megabytes in small writes."""
    video = bytes(range(256)) * (48 * 4096)
    stream = event("complete", 1, complete(video))
    assert len(stream) > 64 * 2**20
    parts = [stream[i : i + 2**18] for i in range(0, len(stream), 2**18)]
    wired[0].then(streaming(*parts))
    completion = await client.generate(REQUEST)
    assert completion.video_data().data == video


@pytest.mark.parametrize("status", [200, 404, 413, 500, 502])
async def test_an_html_page_is_an_unexpected_answer(
    wired: tuple[WireServer, str], client: AsyncLongtake, status: int
) -> None:
    """A proxy's page is no answer of this server; its status and beginning are kept."""
    wired[0].then(*[answer(b"<html>M\xc3\xbcll</html>" + b"x" * 2**21, status)] * 3)
    with pytest.raises(errors.UnexpectedAnswer, match=str(status)) as caught:
        await client.generate(REQUEST)
    assert caught.value.status == status
    assert caught.value.excerpt.startswith("<html>Müll")


async def test_json_that_is_no_error_is_an_unexpected_answer(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """An error status with a JSON body of another make."""
    wired[0].then(answer(b'{"detail": "nope"}', 400, "application/json"))
    with pytest.raises(errors.UnexpectedAnswer):
        await client.models()


async def test_a_redirect_names_the_address_to_use(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """Redirects are not followed: a POST would lose its body."""
    wired[0].then(answer(b"", 307, Location="https://elsewhere/"))
    with pytest.raises(errors.UnexpectedAnswer, match="https://elsewhere/"):
        await client.models()


async def test_a_refusal_carries_all_problems(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """A validation error says every field at fault."""
    problems = [
        wire.Problem(path="stages[1].fade_frames", message="too long"),
        wire.Problem(path="fps", message="too high"),
    ]
    wired[0].then(refusal("VALIDATION_ERROR", 422, path="stages[1].fade_frames", request_id="r-9", problems=problems))
    with pytest.raises(errors.ValidationFailed) as caught:
        await client.generate(REQUEST)
    assert str(caught.value) == "stages[1].fade_frames: no"
    assert caught.value.problems == tuple(problems)
    assert (caught.value.request_id, caught.value.status) == ("r-9", 422)


async def test_a_body_too_large_is_typed(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """413 is the request's fault and is not tried again."""
    wired[0].then(refusal("PAYLOAD_TOO_LARGE", 413))
    with pytest.raises(errors.PayloadTooLarge):
        await client.generate(REQUEST)
    assert len(wired[0].requests) == 1


async def test_a_busy_server_is_asked_again_under_the_same_key(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """429 and 503 are waited out; the key stays, so that one chain comes of it."""
    wired[0].then(refusal("QUEUE_FULL", 429, {"Retry-After": "0"}), answer(b"busy", 503))
    await client.generate(REQUEST)
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in wired[0].requests}
    assert len(wired[0].requests) == 3
    assert len(keys) == 1


async def test_a_wait_that_is_too_long_is_the_callers_decision(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """Beyond the longest wait the error comes at once, with the time asked for."""
    wired[0].then(refusal("RATE_LIMITED", 429, {"Retry-After": "3600"}))
    with pytest.raises(errors.RateLimited) as caught:
        await client.generate(REQUEST)
    assert caught.value.retry_after == 3600
    assert len(wired[0].requests) == 1


async def test_a_connection_broken_before_the_answer_is_retried_with_a_key_only(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """Without the key a second sending might make a second chain."""
    wired[0].then(broken)
    assert (await client.submit(REQUEST)).id == CHAIN_ID
    wired[0].then(broken)
    with pytest.raises(errors.ConnectionLost):
        await client.submit(REQUEST, idempotency_key=False)
    assert len(wired[0].requests) == 3
    assert "Idempotency-Key" not in wired[0].requests[-1][2]


async def test_silence_ends_in_a_typed_time_out_that_names_the_chain(wired: tuple[WireServer, str]) -> None:
    """A stream without so much as a ping is dead."""

    async def stalls(request: web.Request) -> web.StreamResponse:
        await send(request, event("progress", 1, PROGRESS[0]))
        return await silent(request)

    wired[0].then(stalls)
    async with AsyncLongtake(wired[1], silence_timeout=0.2, reconnect_timeout=0) as client:
        with pytest.raises(errors.GaveUp) as caught:
            await client.generate(REQUEST)
    assert isinstance(caught.value.__cause__, errors.TimedOut)
    assert caught.value.__cause__.phase == "silence"
    assert (caught.value.chain_id, caught.value.last_event_id) == (CHAIN_ID, "1")


async def test_the_total_time_out_covers_stream_and_calls(wired: tuple[WireServer, str]) -> None:
    """Pings keep a connection alive, but not beyond the whole."""

    async def pings(request: web.Request) -> web.StreamResponse:
        response = await send(request)
        while True:
            await response.write(b": ping\n\n")
            await asyncio.sleep(0.02)

    async with AsyncLongtake(wired[1], total_timeout=0.3) as client:
        wired[0].then(pings, silent)
        with pytest.raises(errors.TimedOut) as caught:
            await client.generate(REQUEST)
        assert (caught.value.phase, caught.value.chain_id) == ("total", CHAIN_ID)
        with pytest.raises(errors.TimedOut):
            await client.models()


async def test_a_header_that_cannot_be_sent_is_no_lost_connection(wired: tuple[WireServer, str]) -> None:
    """A token read with its line break is not tried for minutes."""
    async with AsyncLongtake(wired[1], headers={"Authorization": "Bearer x\n"}) as client:
        with pytest.raises(errors.ProtocolError):
            await client.generate(REQUEST)
        with pytest.raises(errors.ProtocolError):
            await client.models()
    assert wired[0].requests == []


async def test_nothing_at_the_address_is_a_connection_that_failed(unused_tcp_port: int) -> None:
    """After the retries; the address is in the message."""
    async with AsyncLongtake(f"http://127.0.0.1:{unused_tcp_port}", retries=QUICK) as client:
        with pytest.raises(errors.ConnectionFailed, match=str(unused_tcp_port)):
            await client.generate(REQUEST)


async def test_leaving_a_stream_early_closes_its_connection(wired: tuple[WireServer, str]) -> None:
    """The server sees the client go; the client is good for more."""
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = await send(request, event("progress", 1, PROGRESS[0]))
        try:
            while True:
                await response.write(b": ping\n\n")
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    wired[0].then(endless)
    async with AsyncLongtake(wired[1]) as client:
        async with client.stream(REQUEST) as events:
            assert await events.next() == PROGRESS[0]
        await asyncio.wait_for(gone.wait(), 5)
        assert [item async for item in events] == []
        assert await client.ready()


def test_the_blocking_client_does_the_same(threaded: tuple[WireServer, str], tmp_path: Path) -> None:
    """One core: streams, calls and errors are those of the asynchronous client."""
    server, url = threaded
    with Longtake(url, retries=QUICK) as client:
        with client.stream(REQUEST) as events:
            assert events.chain_id == CHAIN_ID
            assert list(events)[:-1] == PROGRESS
        seen: list[object] = []
        saved = client.generate(script(), on_event=seen.append).video_data().save(tmp_path / "film.mp4")
        assert saved.read_bytes() == server.video
        assert len(seen) == len(PROGRESS) + 1
        assert client.submit(REQUEST).id == client.chain(CHAIN_ID).id == CHAIN_ID
        assert client.validate(REQUEST).total_frames == client.chain(CHAIN_ID).total_frames
        assert client.limits().model == "tiny"
        assert client.models() == client.gallery() == []
        assert client.ready()
        assert client.result(CHAIN_ID).chain_id == CHAIN_ID
        assert list(client.events(CHAIN_ID, after=99)) == []
        assert [chain.id for chain in client.list()] == [CHAIN_ID]
        assert client.wait(CHAIN_ID, timeout=10).state is wire.ChainState.COMPLETED
        assert client.resume(CHAIN_ID).id == client.retake(CHAIN_ID, 0).id == CHAIN_ID
        assert client.download(CHAIN_ID, tmp_path / "again.mp4").read_bytes() == client.stage_video(CHAIN_ID, 1)
        client.delete(CHAIN_ID)
        client.cancel(CHAIN_ID)
        server.then(refusal("CHAIN_NOT_FOUND", 404))
        with pytest.raises(errors.ChainNotFound):
            client.chain("nothing")


async def test_chains_are_managed_through_their_endpoints(
    wired: tuple[WireServer, str], client: AsyncLongtake, tmp_path: Path
) -> None:
    """Each method sends what its endpoint wants, and what must not happen twice only once."""
    assert (await client.resume(CHAIN_ID)).state is wire.ChainState.QUEUED
    assert (await client.retake(CHAIN_ID, 1, prompt="p", seed_offset=2**64 - 1)).id == CHAIN_ID
    assert wired[0].requests[-1][3] == b'{"stage_idx":1,"prompt":"p","seed_offset":18446744073709551615}'
    assert (await client.wait(CHAIN_ID)).state is wire.ChainState.COMPLETED
    assert await client.stage_video(CHAIN_ID, 1) == wired[0].video
    saved = await client.download(CHAIN_ID, tmp_path / "film.mp4")
    assert saved.stat().st_size == len(wired[0].video)
    await client.delete(CHAIN_ID)
    methods = [f"{method} {path}" for method, path, _, _ in wired[0].requests]
    chain = f"/api/chains/{CHAIN_ID}"
    assert methods == [
        f"POST {chain}/resume", f"POST {chain}/retake", f"GET {chain}", f"GET {chain}/stages/1/video",
        f"GET {chain}/video", f"DELETE {chain}",
    ]  # fmt: skip
    for lost in (client.resume, client.delete):
        wired[0].then(broken)
        with pytest.raises(errors.ConnectionLost):
            await lost(CHAIN_ID)


@pytest.mark.parametrize(("limit", "asked"), [(None, [100, 100, 100]), (3, [3]), (150, [100, 50]), (0, [])])
async def test_a_list_is_read_page_by_page(
    wired: tuple[WireServer, str], client: AsyncLongtake, limit: int | None, asked: list[int]
) -> None:
    """Every chain once, and no page more than is wanted."""
    wired[0].others = [f"old-{i}" for i in range(240)]
    found = [chain.id async for chain in client.list(limit=limit, state="completed")]
    assert found == [CHAIN_ID, *wired[0].others][:limit]
    assert [path.partition("?")[2].split("&")[0] for _, path, _, _ in wired[0].requests] == [
        f"limit={number}" for number in asked
    ]


async def test_a_chain_is_waited_for_whatever_its_end(wired: tuple[WireServer, str], client: AsyncLongtake) -> None:
    """Failed, resumed behind the back of whoever waits, then complete; a time-out is typed."""

    async def running(_: web.Request) -> web.Response:
        return as_json(msgspec.structs.replace(wired[0]._detail(), state=wire.ChainState.RUNNING))

    wired[0].then(running, streaming(event("error", 1, {"message": "boom", "code": "CANCELLED"})), running)
    assert (await client.wait(CHAIN_ID)).state is wire.ChainState.COMPLETED
    wired[0].then(running, silent)
    with pytest.raises(errors.TimedOut) as caught:
        await client.wait(CHAIN_ID, timeout=0.2)
    assert caught.value.phase == "total"


async def test_a_completion_of_64_mb_cut_in_the_middle_is_not_sent_anew(
    wired: tuple[WireServer, str], client: AsyncLongtake
) -> None:
    """The video is fetched as a file, from where that breaks again; its digest is checked."""
    video = bytes(range(256)) * (48 * 4096)
    ranges: list[str | None] = []

    async def posted(request: web.Request) -> web.StreamResponse:
        stream = stream_bytes(video)
        assert len(stream) > 64 * 2**20
        return await send(request, *(stream[i : i + 2**18] for i in range(0, 2**25, 2**18)), abort=True)

    async def followed(request: web.Request) -> web.StreamResponse:
        assert request.headers["Last-Event-ID"] == str(len(PROGRESS))
        return await send(request, stream_bytes(video, len(PROGRESS), inline=b""))

    async def file(request: web.Request) -> web.StreamResponse:
        ranges.append(request.headers.get("Range"))
        start = request.http_range.start or 0
        headers = {"Content-Type": "video/mp4", "ETag": '"1"', "Content-Length": str(len(video) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(video) - 1}/{len(video)}"
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        await response.prepare(request)
        await response.write(video[start:] if start else video[: 2**24])
        if not start:
            # Let what was written arrive before the connection breaks.
            await asyncio.sleep(0.2)
            assert request.transport is not None
            request.transport.abort()
        return response

    wired[0].then(posted, followed, file, file)
    completion = await client.generate(REQUEST)
    assert completion.video == video
    assert len(ranges) == 2
    assert ranges[0] is None
    assert ranges[1] is not None


async def test_a_silent_connection_is_made_again(wired: tuple[WireServer, str]) -> None:
    """One that says nothing, not even a ping, is dead; the rest comes over another."""

    async def stalls(request: web.Request) -> web.StreamResponse:
        await send(request, b"retry: 10\n\n", event("progress", 1, PROGRESS[0]))
        return await silent(request)

    wired[0].then(stalls)
    async with AsyncLongtake(wired[1], silence_timeout=0.2, retries=QUICK) as client:
        assert [item async for item in client.stream(REQUEST)][:-1] == PROGRESS


def test_a_blocking_stream_left_early_is_closed(threaded: tuple[WireServer, str]) -> None:
    """Breaking out of the loop leaves nothing behind, and closing twice is harmless."""
    with Longtake(threaded[1]) as client, client.stream(REQUEST) as events:
        for item in events:
            assert item == PROGRESS[0]
            break
        events.close()
        assert list(events) == []


def test_a_blocking_client_that_was_not_used_starts_no_thread() -> None:
    """Making and closing one costs nothing."""
    before = threading.active_count()
    Longtake("http://127.0.0.1:1").close()
    assert threading.active_count() == before
