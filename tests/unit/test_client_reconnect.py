"""Streams and downloads over connections that break anywhere, without a socket."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake import AsyncLongtake, Completion, Event, errors, wire
from longtake.retry import Patience, Retries
from wire_server import CHAIN_ID, PROGRESS, complete, event

VIDEO = bytes(range(256)) * 4
QUICK = Retries(attempts=2, first_delay=0.0001, longest_delay=0.0002)
HEADERS = {"Content-Type": "text/event-stream", wire.CHAIN_ID_HEADER: CHAIN_ID}


def events_after(after: int, video: bytes) -> bytes:
    """The stream after an event, as the server sends it."""
    parts = [event("progress", n, data) for n, data in enumerate(PROGRESS, 1)]
    parts.append(event("complete", len(parts) + 1, complete(VIDEO, video)))
    return b"retry: 0\n\n: ping\n\n" + b"".join(parts[after:])


class Cutting(httpx2.AsyncByteStream):
    """A body that is cut after so many bytes: by an orderly end, or by a broken connection."""

    def __init__(self, body: bytes, cut: int | None, breaks: bool, chunk: int) -> None:
        self._body = body if cut is None else body[:cut]
        self._breaks = breaks and cut is not None
        self._chunk = chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), self._chunk):
            yield self._body[start : start + self._chunk]
        if self._breaks:
            raise httpx2.ReadError("cut")


class CutServer:
    """Cuts its answers as told, one after the other, then no more; ``down`` times it fails in between."""

    def __init__(self, cuts: list[tuple[int, bool]], down: int = 0, chunk: int = 4096) -> None:
        self._cuts: Iterator[tuple[int, bool]] = iter(cuts)
        self._down = down
        self._left = 0
        self._chunk = chunk
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self._left:
            self._left -= 1
            if self._left % 2:
                raise httpx2.ConnectError("refused")
            return httpx2.Response(502, text="<html>bad gateway", headers={"Content-Type": "text/html"})
        self._left = self._down
        cut, breaks = next(self._cuts, (None, False))
        if request.url.path.endswith("/video"):
            return self._file(request, cut, breaks)
        posted = request.method == "POST"
        body = events_after(int(request.headers.get("Last-Event-ID", "0")), VIDEO if posted else b"")
        return httpx2.Response(200, headers=HEADERS, stream=Cutting(body, cut, breaks, self._chunk))

    def _file(self, request: httpx2.Request, cut: int | None, breaks: bool) -> httpx2.Response:
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        headers = {"Content-Type": "video/mp4", "ETag": '"1"'}
        if asked:
            assert request.headers["If-Range"] == '"1"'
            headers["Content-Range"] = f"bytes {start}-{len(VIDEO) - 1}/{len(VIDEO)}"
        # A file that ends early without a word would be taken for whole; over HTTP its length tells.
        return httpx2.Response(
            206 if asked else 200, headers=headers, stream=Cutting(VIDEO[start:], cut, True, self._chunk)
        )


def client(answer: Callable[[httpx2.Request], httpx2.Response], patience: float | None = 60.0) -> AsyncLongtake:
    """A client whose requests a function answers."""
    return AsyncLongtake(
        "http://server", transport=httpx2.MockTransport(answer), retries=QUICK, reconnect_timeout=patience
    )


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def whole(body: bytes) -> Cutting:
    """A body that comes without a cut."""
    return Cutting(body, None, False, 4096)


async def followed(opened: AsyncLongtake, start: str) -> list[Event]:
    """Every event of a stream that is posted, or of one that is followed."""
    async with opened:
        stream = opened.stream({"prompt": "x"}) if start == "post" else opened.events(CHAIN_ID, inline=True)
        return [item async for item in stream]


LENGTH = len(events_after(0, VIDEO))
CUTS = st.lists(st.tuples(st.integers(0, LENGTH) | st.integers(0, 400), st.booleans()), max_size=8)


@settings(deadline=None)
@given(cuts=CUTS, down=st.integers(0, 3), chunk=st.integers(1, 700), start=st.sampled_from(["post", "follow"]))
def test_wherever_a_stream_is_cut_every_event_comes_once_and_in_order(
    cuts: list[tuple[int, bool]], down: int, chunk: int, start: str
) -> None:
    """Nothing is missed, nothing repeated, and the video is whole: over any number of connections and restarts."""
    server = CutServer(cuts, down, chunk)
    found = anyio.run(functools.partial(followed, client(server), start))
    assert found[:-1] == PROGRESS
    last = found[-1]
    assert isinstance(last, Completion)
    assert last.video_data().data == VIDEO
    assert [request.method for request in server.requests].count("POST") == (1 if start == "post" else 0)


async def test_a_post_that_broke_before_its_answer_is_sent_again_under_its_key() -> None:
    """The chain may exist: the key finds it, also when the server was away for a while."""
    keys: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        keys.append(request.headers[wire.IDEMPOTENCY_HEADER])
        if len(keys) == 1:
            raise httpx2.ReadError("gone")
        if len(keys) < 6:
            raise httpx2.ConnectError("refused")
        return httpx2.Response(200, headers=HEADERS, content=events_after(0, VIDEO))

    assert len(await followed(client(answer), "post")) == len(PROGRESS) + 1
    assert len(keys) == 6
    assert len(set(keys)) == 1


async def test_without_a_key_or_a_chains_id_nothing_is_sent_twice() -> None:
    """It might make a second chain."""
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        if request.headers.get(wire.IDEMPOTENCY_HEADER) is None:
            raise httpx2.ReadError("gone")
        headers = {"Content-Type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=events_after(0, VIDEO)[:-9])

    async with client(answer) as opened:
        with pytest.raises(errors.ConnectionLost):
            await opened.generate({"prompt": "x"}, idempotency_key=False)
        with pytest.raises(errors.StreamEnded):
            await opened.generate({"prompt": "x"})
    assert len(requests) == 2


@pytest.mark.parametrize("start", ["post", "follow"])
async def test_a_gap_in_the_events_is_a_protocol_error(start: str) -> None:
    """An event that is missing is never passed over in silence."""
    body = event("progress", 1, PROGRESS[0]) + event("progress", 3, PROGRESS[2])
    with pytest.raises(errors.ProtocolError, match="after event 1 came event 3") as caught:
        await followed(client(lambda _: httpx2.Response(200, headers=HEADERS, content=body)), start)
    assert (caught.value.chain_id, caught.value.last_event_id) == (CHAIN_ID, "1")


@pytest.mark.parametrize("number", ["", "x", "-1", "\N{SUPERSCRIPT TWO}", "9" * 5000])
async def test_an_event_of_a_chain_without_a_number_is_a_protocol_error(number: str) -> None:
    """It could not be gone on after."""
    body = f"event: progress\nid: {number}\ndata: {{}}\n\n".encode()
    with pytest.raises(errors.ProtocolError, match="has no number"):
        await followed(client(lambda _: httpx2.Response(200, headers=HEADERS, content=body)), "follow")


async def test_a_chain_that_is_gone_after_a_drop_ends_the_stream() -> None:
    """What the server refuses is not asked again."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            return httpx2.Response(200, headers=HEADERS, content=events_after(0, VIDEO)[:300])
        return httpx2.Response(404, json={"error": "no such chain", "code": "CHAIN_NOT_FOUND"})

    with pytest.raises(errors.ChainNotFound) as caught:
        await followed(client(answer), "post")
    assert caught.value.chain_id == CHAIN_ID


async def test_a_server_that_stays_away_is_given_up_on_with_all_that_going_on_needs() -> None:
    """The error names the chain, the last event and the reason."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            body = event("progress", 1, PROGRESS[0]) + event("progress", 2, PROGRESS[1])
            return httpx2.Response(200, headers=HEADERS, content=body)
        raise httpx2.ConnectError("refused")

    with pytest.raises(errors.GaveUp, match=r"refused; gave up after 0\.05 s") as caught:
        await followed(client(answer, patience=0.05), "post")
    assert isinstance(caught.value.__cause__, errors.ConnectionFailed)
    assert (caught.value.chain_id, caught.value.last_event_id) == (CHAIN_ID, "2")


async def test_a_server_that_repeats_itself_brings_nothing_new() -> None:
    """One that ignores Last-Event-ID and breaks at the same event for ever does not hold a follower for ever."""
    body = b"retry: 0\n\n" + event("progress", 1, PROGRESS[0])
    with pytest.raises(errors.GaveUp):
        await followed(client(lambda _: httpx2.Response(200, headers=HEADERS, content=body), patience=0.05), "follow")


async def test_an_attempt_that_was_superseded_is_progress() -> None:
    """A follower from the start sees that the chain had stopped, and what came then."""
    body = event("progress", 1, wire.Stopped(code="CANCELLED")) + event("complete", 2, complete(VIDEO))
    found = await followed(client(lambda _: httpx2.Response(200, headers=HEADERS, content=body)), "follow")
    assert found[0] == wire.Stopped(code="CANCELLED")
    assert isinstance(found[1], Completion)


async def test_a_video_damaged_on_its_way_is_noticed() -> None:
    """What was fetched beside the stream is measured like what came on it; the completion does not count as seen."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/video"):
            return httpx2.Response(200, headers={"Content-Type": "video/mp4"}, stream=whole(b"x" + VIDEO[1:]))
        return httpx2.Response(200, headers=HEADERS, content=events_after(0, b""))

    with pytest.raises(errors.DigestMismatch) as caught:
        await followed(client(answer), "follow")
    assert caught.value.last_event_id == str(len(PROGRESS))


@settings(deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, len(VIDEO)), st.just(True)), max_size=6), down=st.integers(0, 3))
def test_a_download_goes_on_wherever_it_broke(cuts: list[tuple[int, bool]], down: int) -> None:
    """No byte is asked for twice, and the file is whole."""
    server = CutServer(cuts, down)

    async def download() -> bytes:
        async with client(server) as opened:
            return await opened.stage_video(CHAIN_ID, 0)

    assert anyio.run(download) == VIDEO
    starts = [int(r.headers.get("Range", "bytes=0-")[6:-1]) for r in server.requests]
    assert starts == sorted(starts)


@pytest.mark.parametrize("heeds_if_range", [True, False])
async def test_a_file_that_changed_in_the_middle_is_fetched_anew(tmp_path: Path, heeds_if_range: bool) -> None:
    """Never the beginning of one and the end of another, also where the server does not heed If-Range."""
    new, requests = b"new" * 100, []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        headers = {"Content-Type": "video/mp4", "ETag": '"1"' if len(requests) == 1 else '"2"'}
        if len(requests) == 1:
            return httpx2.Response(200, headers=headers, stream=Cutting(b"old" * 100, 100, True, 50))
        if "Range" not in request.headers or heeds_if_range:
            return httpx2.Response(200, headers=headers, stream=whole(new))
        headers["Content-Range"] = "bytes 100-299/300"
        return httpx2.Response(206, headers=headers, stream=whole(new[100:]))

    async with client(answer) as opened:
        saved = await opened.download(CHAIN_ID, tmp_path / "film.mp4")
    assert saved == tmp_path / "film.mp4"
    assert files(tmp_path) == {"film.mp4": new}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.Response(200, text="<html>", headers={"Content-Type": "text/html"}), errors.ProtocolError),
        (httpx2.Response(404, json={"error": "no", "code": "NOT_FOUND"}), errors.NotFound),
        (httpx2.Response(206, content=b"x", headers={"Content-Type": "video/mp4"}), errors.ProtocolError),
    ],
)
async def test_a_download_that_cannot_be_leaves_the_file_that_was_there(
    tmp_path: Path, answer: httpx2.Response, kind: type[errors.LongtakeError]
) -> None:
    """Whole or not at all, and no half file beside it."""
    (tmp_path / "film.mp4").write_bytes(b"older")
    async with client(lambda _: answer) as opened:
        with pytest.raises(kind):
            await opened.download(CHAIN_ID, tmp_path / "film.mp4")
    assert files(tmp_path) == {"film.mp4": b"older"}


async def test_a_file_that_got_shorter_is_fetched_anew() -> None:
    """The server has nothing at the place where the transfer would go on."""
    requests: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        headers = {"Content-Type": "video/mp4", "ETag": '"1"'}
        if len(requests) == 1:
            return httpx2.Response(200, headers=headers, stream=Cutting(VIDEO, 100, True, 50))
        return (
            httpx2.Response(416)
            if "Range" in request.headers
            else httpx2.Response(200, headers=headers, stream=whole(b"y"))
        )

    async with client(answer) as opened:
        assert await opened.stage_video(CHAIN_ID, 0) == b"y"


@given(
    seconds=st.floats(0, 100),
    asked=st.none() | st.floats(0, 1e6),
    steps=st.lists(st.floats(0, 30), min_size=1, max_size=30),
)
def test_patience_ends_when_its_time_is_over_and_waits_no_longer(
    seconds: float, asked: float | None, steps: list[float]
) -> None:
    """Counted from the first failure; whatever the server asks for, no wait goes beyond the end."""
    now = [5.0]
    patience = Patience(seconds, Retries(), clock=lambda: now[0])
    began = now[0]
    for step in steps:
        try:
            delay = patience.delay(errors.ConnectionLost("x"), asked)
        except errors.GaveUp:
            assert now[0] - began >= seconds - 1e-9
            return
        assert now[0] + delay <= began + seconds + 1e-9
        now[0] += delay + step


def test_patience_honours_what_the_server_asks_and_backs_off_after_it() -> None:
    """The stream's retry, or Retry-After; never less than the back-off from the second failure on."""
    patience = Patience(None, Retries(first_delay=1.0, longest_delay=8.0, longest_wait=60.0))
    lost = errors.ConnectionLost("x")
    assert 2.0 <= patience.delay(lost, 2.0) <= 2.5
    delays = [patience.delay(lost, 0.0) for _ in range(2000)]
    assert all(1.0 <= delay <= 8.0 for delay in delays)
    assert max(delays) > 4.0
    busy = errors.RateLimited("x", status=429)
    busy.retry_after = 30.0
    assert 30.0 <= patience.delay(busy) <= 37.5
    assert patience.delay(lost, 1e9) <= 75.0
    patience.progressed()
    assert patience.delay(lost, 0.0) == 0.0
