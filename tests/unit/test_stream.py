"""The event stream of a connection: every event once and in order, pings in silence, and a quiet end."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest
import structlog
from aiohttp import web

from longtake import wire
from longtake_facade.errors import errors_as_json
from longtake_facade.events import EventLog
from longtake_facade.storage import Store
from longtake_facade.stream import send_events
from records import ChainRecord, Records, completion, failure, records

NEVER = 3600.0


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Records]:
    with records(tmp_path) as opened:
        yield opened


@dataclass
class Chains:
    """What a stream needs of the service."""

    kept: Records

    @property
    def log(self) -> EventLog:
        return self.kept.log

    @property
    def store(self) -> Store:
        return self.kept.store

    async def chain(self, chain_id: str) -> ChainRecord:
        record = await self.kept.registry.get(chain_id)
        assert record is not None
        return record


@asynccontextmanager
async def streaming(
    kept: Records, chain_id: str, *, ping: float = NEVER, after: int = 0, inline: bool = False, method: str = "GET"
) -> AsyncIterator[aiohttp.ClientResponse]:
    """A connection to a server whose only answer is the chain's stream."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await send_events(
            request,
            Chains(kept),
            chain_id,
            after=after,
            inline=inline,
            headers={"X-A": "1"},
            ping_seconds=ping,  # type: ignore[arg-type]  # all it needs of a service
        )

    app = web.Application(middlewares=[errors_as_json])
    app.router.add_get("/", handler)
    # As a server runs it: not aiohttp's test server, which cancels the handler of a client that goes away.
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        async with aiohttp.ClientSession() as session, session.request(method, url) as response:
            yield response
    finally:
        await runner.cleanup()


async def step(kept: Records, chain_id: str, number: int) -> None:
    await kept.log.progress(chain_id, wire.DenoiseStep(stage_idx=0, step=number, total=99))


async def until_followers(kept: Records, count: int) -> None:
    async with asyncio.timeout(10):
        while sum(map(len, kept.log._followers.values())) != count:  # noqa: ASYNC110 - the log tells nobody who follows
            await asyncio.sleep(0.001)


def ids(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^id: (\d+)$", text, re.M)]


async def test_a_stream_is_made_of_events_as_the_standard_has_them(kept: Records) -> None:
    """A name, an id, one line of data and a blank line each; the headers keep proxies from holding them back."""
    record = await kept.new()
    await kept.registry.begin(record.id)
    await kept.registry.fail(record.id, failure())
    async with streaming(kept, record.id) as response:
        text = await response.text()
    error = msgspec.json.encode(failure()).decode()
    assert text == (
        "retry: 2000\n\n"
        'event: progress\nid: 1\ndata: {"type":"chain_start","stage_count":4,"estimated_total_frames":62}\n\n'
        f"event: error\nid: 2\ndata: {error}\n\n"
    )
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-cache, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-A"] == "1"


async def test_a_stream_begins_after_the_last_event_seen(kept: Records) -> None:
    """Nothing of what came before is sent."""
    record = await kept.new()
    for i in range(5):
        await step(kept, record.id, i)
    await kept.registry.fail(record.id, failure())
    async with streaming(kept, record.id, after=4) as response:
        assert ids(await response.text()) == [5, 6]


async def test_silence_is_filled_with_pings_and_no_event_is_lost_around_them(kept: Records) -> None:
    """Comments, which clients skip; events come in order, before, between and after."""
    record = await kept.new()
    async with streaming(kept, record.id, ping=0.005) as response:
        for i in range(30):
            await step(kept, record.id, i)
            await asyncio.sleep(0.004 * (i % 4))
        begin = await response.content.readuntil(b": ping\n\n")
        await kept.registry.fail(record.id, failure())
        text = (begin + await response.read()).decode()
    assert ids(text) == list(range(1, 32))
    assert [int(number) for number in re.findall(r'"step":(\d+)', text)] == list(range(30))
    assert ": ping\n\n" in text
    assert text.endswith("\n\n")
    assert "event: error" in text.split(": ping")[-1]


async def test_a_stream_that_is_never_silent_has_no_pings(kept: Records) -> None:
    """The interval is counted from the last event."""
    record = await kept.new()
    async with streaming(kept, record.id) as response:
        for i in range(20):
            await step(kept, record.id, i)
        await kept.registry.fail(record.id, failure())
        assert ": ping" not in await response.text()


@pytest.mark.parametrize("ping", [0.01, NEVER], ids=["in silence", "while events come"])
async def test_a_client_that_goes_away_ends_its_stream_quietly(
    kept: Records, ping: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Its follower is forgotten, and nobody is told of an error."""
    record = await kept.new()
    loop = asyncio.get_running_loop()
    troubles: list[object] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    with structlog.testing.capture_logs() as logs:
        async with streaming(kept, record.id, ping=ping) as response:
            await response.content.readuntil(b"\n\n")
            await until_followers(kept, 1)
            response.close()
            for i in range(30):
                if ping == NEVER:
                    await step(kept, record.id, i)
                await asyncio.sleep(0.005)
            await until_followers(kept, 0)
    assert logs == []
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []
    assert troubles == []


async def test_a_head_request_hears_the_headers_only(kept: Records) -> None:
    """At once, though the chain has not ended."""
    record = await kept.new()
    async with asyncio.timeout(10), streaming(kept, record.id, method="HEAD") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.read() == b""
    await until_followers(kept, 0)


@pytest.mark.parametrize("inline", [True, False])
async def test_complete_gets_the_bytes_that_the_log_leaves_out(kept: Records, inline: bool) -> None:
    """From the files of the chain; the video only where it is wanted."""
    record = await kept.new()
    with kept.store.writing() as folder:
        for name in ("video.mp4", "thumbnail.png", "preview.gif"):
            (folder / name).write_bytes(name.encode() * 1000)
        kept.store.commit(folder, kept.store.chain(record.id))
    await kept.registry.begin(record.id)
    await kept.registry.begin(record.id)
    await kept.registry.complete(record.id, completion(record))
    async with streaming(kept, record.id, inline=inline) as response:
        lines = (await response.text()).split("\n")
    complete = msgspec.json.decode(lines[-3].removeprefix("data: "), type=wire.Complete)
    assert lines[-5:-3] == ["event: complete", "id: 2"]
    assert complete.video == (b"video.mp4" * 1000 if inline else b"")
    assert complete.thumbnail == b"thumbnail.png" * 1000
