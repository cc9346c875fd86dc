"""``longtake serve``: find or start the models, wait until they answer, serve until told to stop."""

import asyncio
import ctypes
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import pydantic
import structlog
import typer
from aiohttp import web

from longtake_facade.app import build_app
from longtake_facade.backend import Backend, BackendError
from longtake_facade.database import CannotOpen
from longtake_facade.embedded import EmbeddedTritonError, embedded_triton
from longtake_facade.settings import Settings
from longtake_facade.storage import StoreInUse
from longtake_facade.supervisor import supervised
from longtake_facade.triton import connect

# Open streams are dropped when the server stops; their clients come back to the next one.
_SHUTDOWN_SECONDS = 2.0
_RETRY_SECONDS = 1.0
# malloc.h
_M_ARENA_MAX = -8


class CannotServe(Exception):
    """The server cannot start, or cannot go on; the message is for whoever runs it."""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.  [default: 8188]")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of all that is kept.  [default: .longtake]")] = None,
    triton: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="gRPC address of a Triton; without it one is started.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Diffusers folder or hub id for the started Triton.  [default: the tiny one]")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(help="Instances of each model in the started Triton.  [default: 1]")
    ] = None,
    database: Annotated[str | None, typer.Option(metavar="URL", help="[default: SQLite in the data folder]")] = None,
    max_running: Annotated[int | None, typer.Option(help="Chains that run at the same time.  [default: 4]")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Chains that may wait beside them.  [default: 64]")] = None,
    retention_days: Annotated[float | None, typer.Option(help="Days an ended chain is kept.  [default: 7]")] = None,
    node: Annotated[
        str | None, typer.Option(help="Name of this server among those of a database.  [default: longtake]")
    ] = None,
    insecure_no_auth: Annotated[
        bool | None, typer.Option("--insecure-no-auth", help="Listen beyond loopback, asking nobody who they are.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A host name requests may use; may be repeated.")
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(metavar="ORIGIN", help="An origin whose pages may call; may be repeated.")
    ] = None,
) -> None:
    """Serve chains over HTTP. Every option can be given as LONGTAKE_<OPTION> in the environment."""
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    try:
        settings = Settings(**given)
    except pydantic.ValidationError as error:
        _leave(2, "; ".join(_words(fault["loc"], fault["msg"]) for fault in error.errors()))
    limit_arenas()
    # Everything that is written is its owner's alone.
    os.umask(0o077)
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        _leave(1, f"cannot use the data folder {settings.data}: {error.strerror}")
    _log_to_stderr()
    try:
        asyncio.run(_main(settings))
    except (CannotServe, CannotOpen, EmbeddedTritonError, BackendError, StoreInUse) as error:
        _leave(1, str(error))


def limit_arenas() -> None:
    """Keep glibc to two arenas for the memory of all threads.

    Every encoder has threads of its own, and with an arena for each (eight a core by default) freed memory stays in
    all of them: a hundred small chains were seen to hold two and a half times as much, at no gain in time
    (``benchmarks/many_chains.py``), though one large chain a sixth less (``benchmarks/stitch_memory.py``). Other C
    libraries have no such call and need none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


def _words(location: tuple[int | str, ...], message: str) -> str:
    name = ".".join(map(str, location))
    return f"{name}: {message}" if name else message.removeprefix("Value error, ")


def _leave(code: int, message: str) -> None:
    print(f"longtake: {message}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
    raise SystemExit(code)


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: _StandardError(),
    )


class _StandardError(structlog.PrintLogger):
    """Lines on standard error. Where they cannot be written, on a full disk, the server goes on without them."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def msg(self, message: str) -> None:
        """Print one line."""
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = msg


async def _main(settings: Settings) -> None:
    """Serve until a signal comes, at any time, or the models end by themselves."""
    serving = asyncio.current_task()
    assert serving is not None
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, serving.cancel)
    # The address is taken first: nobody should wait for models to hear that the port is another's.
    with suppress(asyncio.CancelledError), _bound(settings) as address:
        async with _models(settings) as (backend, lost), _listening(settings, backend, address):
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            # Whoever starts this server waits for the line.
            print(f"longtake ready on http://{host}:{address.getsockname()[1]}", flush=True)  # noqa: T201
            await lost


def _bound(settings: Settings) -> socket.socket:
    """The address the server will listen on; until then connections to it are refused."""
    with ExitStack() as opening:
        try:
            family, kind, _, _, place = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
            address = opening.enter_context(socket.socket(family, kind))
            address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            address.bind(place)
        except OSError as error:
            raise CannotServe(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error
        opening.pop_all()
    return address


@asynccontextmanager
async def _models(settings: Settings) -> AsyncIterator[tuple[Backend, Awaitable[None]]]:
    """The backend, and what goes on as long as it is there."""
    if settings.triton is not None:
        backend = await _connected(settings.triton, settings.start_timeout)
        try:
            yield backend, asyncio.get_running_loop().create_future()
        finally:
            await backend.close()
        return
    start = partial(
        embedded_triton,
        settings.data / "triton",
        checkpoint=settings.checkpoint,
        instances=settings.instances,
        start_timeout=settings.start_timeout,
    )
    async with supervised(start) as embedded:
        watch = asyncio.ensure_future(embedded.watch())
        try:
            yield embedded, watch
        finally:
            watch.cancel()
            await asyncio.wait([watch])


async def _connected(address: str, seconds: float) -> Backend:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            return await connect(address)
        except BackendError as error:
            if asyncio.get_running_loop().time() >= deadline:
                raise CannotServe(f"Triton at {address} does not answer: {error}") from error
            await asyncio.sleep(_RETRY_SECONDS)


@asynccontextmanager
async def _listening(settings: Settings, backend: Backend, address: socket.socket) -> AsyncIterator[None]:
    """Serve HTTP on ``address``."""
    runner = web.AppRunner(
        build_app(settings, backend), access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, handle_signals=False
    )
    try:
        try:
            await runner.setup()
        except BackendError as error:
            raise CannotServe(f"the models do not answer: {error}") from error
        await web.SockSite(runner, address).start()
        yield
    finally:
        await runner.cleanup()
