"""The server's side of Server-Sent Events (WHATWG HTML, section 9.2): an event log, followed over a connection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress

from aiohttp import hdrs, web

from longtake_facade.events import LogEntry
from longtake_facade.payload import complete_json
from longtake_facade.service import Service

_PING_SECONDS = 10.0
_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    # nginx would hold events back.
    "X-Accel-Buffering": "no",
}


async def send_events(
    request: web.Request,
    service: Service,
    chain_id: str,
    *,
    after: int,
    inline: bool,
    headers: dict[str, str],
    ping_seconds: float = _PING_SECONDS,
) -> web.StreamResponse:
    """Stream a chain's events after number ``after`` until its terminal one, or until the client goes away."""
    response = web.StreamResponse(headers={**_HEADERS, **headers})
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD:
        # aiohttp would send what is written, and the client would take it for the next answer.
        return response
    # Whoever goes away has heard enough; the chain goes on.
    with suppress(ConnectionResetError):
        await response.write(b"retry: 2000\n\n")
        # Closed in this order: the log's iterator cannot be closed while a ping's wait for it is under way.
        async with (
            aclosing(service.log.follow(chain_id, after)) as followed,
            aclosing(_with_pings(followed, ping_seconds)) as entries,
        ):
            async for entry in entries:
                if entry is None:
                    await response.write(b": ping\n\n")
                    continue
                await response.write(f"event: {entry.name}\nid: {entry.n}\ndata: ".encode())
                async for piece in _data(service, chain_id, entry, inline=inline):
                    await response.write(piece)
                await response.write(b"\n\n")
        await response.write_eof()
    return response


async def _data(service: Service, chain_id: str, entry: LogEntry, *, inline: bool) -> AsyncIterator[bytes]:
    """An event's JSON: one line, as JSON has no raw line breaks. ``complete`` gets the bytes the log leaves out."""
    if entry.name != "complete":
        yield entry.data
        return
    async for piece in complete_json(await service.chain(chain_id), service.store, inline=inline):
        yield piece


async def _with_pings(entries: AsyncGenerator[LogEntry, None], seconds: float) -> AsyncGenerator[LogEntry | None, None]:
    """The entries, and a None whenever there was none for so long."""
    while True:
        pending = asyncio.ensure_future(anext(entries, None))
        try:
            while not (await asyncio.wait([pending], timeout=seconds))[0]:
                yield None
        finally:
            pending.cancel()
            await asyncio.wait([pending])
        entry = pending.result()
        if entry is None:
            return
        yield entry
