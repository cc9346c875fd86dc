"""A facade over a backend in memory, listening on a socket, in a thread of its own: for tests over HTTP."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from longtake_facade.app import build_app
from longtake_facade.backend import Backend
from longtake_facade.handlers import SERVICE
from longtake_facade.service import Service
from longtake_facade.settings import Settings


class Server:
    """Where it listens, and what it is made of."""

    def __init__(self, settings: Settings, backend: Backend, port: int = 0) -> None:
        self._port = port
        self._settings = settings
        self._backend = backend
        self.loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="server")
        self._failure: BaseException | None = None
        self.url = ""
        self.service: Service

    def start(self) -> None:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            try:
                runner.run(self._run())
            except BaseException as error:
                self._failure = error
                raise
            finally:
                self._started.set()

    async def _run(self) -> None:
        app = build_app(self._settings, self._backend)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.service = app[SERVICE]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()


@contextmanager
def serving(data: Path, backend: Backend, *, port: int = 0, **settings: Any) -> Iterator[Server]:
    """A server that is stopped, as by SIGTERM, at the end; on a free port unless one is named."""
    server = Server(Settings(data=data, **settings), backend, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
