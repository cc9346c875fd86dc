"""The application: the parts put together, and what every request passes on its way to a handler."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import structlog
from aiohttp import hdrs, web

from longtake.wire import ErrorCode
from longtake_facade import pages
from longtake_facade.backend import Backend
from longtake_facade.chain import Recipe
from longtake_facade.database import CannotOpen, Database
from longtake_facade.errors import REQUEST_ID, Handler, Refused, errors_as_json
from longtake_facade.events import EventLog
from longtake_facade.handlers import READINESS, SERVICE, routes
from longtake_facade.queue import ChainQueue
from longtake_facade.readiness import ObservedBackend, Readiness
from longtake_facade.registry import Registry
from longtake_facade.service import Service
from longtake_facade.settings import Settings
from longtake_facade.storage import Store

_DAY = 86400.0
_TIDY_SECONDS = 300.0
MAX_BODY_BYTES = 64 * 2**20
_CORS_HEADERS = "Content-Type, Idempotency-Key, Last-Event-ID, X-Mold-SSE-Payload"
SETTINGS = web.AppKey("settings", Settings)

_log = structlog.get_logger()


def build_app(settings: Settings, backend: Backend) -> web.Application:
    """The server over a backend. Chains that were interrupted go on when it starts."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[logged, errors_as_json, known_host, preflight])
    store = Store(settings.data, settings.node)
    try:
        database = Database(settings.database_url)
    except CannotOpen:
        store.close()
        raise
    log = EventLog(database)
    registry = Registry(
        database,
        log,
        max_running=settings.max_running,
        max_queued=settings.max_queued,
        retention=settings.retention_days * _DAY,
    )
    readiness = Readiness(backend)
    recipe = Recipe(ObservedBackend(backend, readiness), registry, log, store)
    queue = ChainQueue(settings.database_url, recipe.run, max_running=settings.max_running, node=settings.node)
    app[SETTINGS] = settings
    app[READINESS] = readiness
    service = app[SERVICE] = Service(backend, registry, log, store, recipe, queue)
    app.add_routes(routes())
    app.add_routes(pages.routes())
    app.on_response_prepare.append(allow_origin)

    async def running(_: web.Application) -> AsyncIterator[None]:
        try:
            await readiness.probe()
            await queue.open()
            try:
                await service.recover()
                async with _in_background(readiness.watch(), _janitor(service)):
                    yield
            finally:
                await queue.close()
                await recipe.stop()
        finally:
            database.close()
            store.close()

    app.cleanup_ctx.append(running)
    return app


@asynccontextmanager
async def _in_background(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _janitor(service: Service) -> None:
    """Remove what has expired, now and every few minutes."""
    while True:
        try:
            await service.tidy()
        except Exception:
            _log.exception("tidying failed; it is tried again")
        await asyncio.sleep(_TIDY_SECONDS)


@web.middleware
async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """One line a request: no query, no body, so no prompt and no image."""
    begin = time.monotonic()
    response = await handler(request)
    _log.info(
        "request",
        method=request.method,
        path=request.path,
        status=response.status,
        ms=round((time.monotonic() - begin) * 1000),
        request_id=request[REQUEST_ID],
    )
    return response


@web.middleware
async def known_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a Host that is not ours: a page elsewhere whose name was rebound to this address is no user of it."""
    # Not request.host, which is this machine's own name where there is no Host.
    host = request.headers.get(hdrs.HOST, "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name.lower() not in request.app[SETTINGS].hosts:
        message = f"this server does not answer to the host name `{name}`; --allow-host adds one"
        raise Refused(403, ErrorCode.FORBIDDEN_HOST, message)
    return await handler(request)


@web.middleware
async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a browser that asks whether a page of another origin may call."""
    if request.method != hdrs.METH_OPTIONS or hdrs.ACCESS_CONTROL_REQUEST_METHOD not in request.headers:
        return await handler(request)
    methods = {hdrs.ACCESS_CONTROL_ALLOW_METHODS: "GET, POST, DELETE", hdrs.ACCESS_CONTROL_ALLOW_HEADERS: _CORS_HEADERS}
    return web.Response(status=204, headers=methods)


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """CORS for the origins that were named, and for nobody else: without this header a browser shows a page nothing."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin in request.app[SETTINGS].cors_origin:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = "X-Chain-Id, Retry-After, ETag, Content-Range"
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
