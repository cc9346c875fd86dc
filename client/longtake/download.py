"""Fetching a file of the server; a transfer that breaks goes on where it was (RFC 9110, sections 13.1.5 and 14)."""

import logging
import os
import re
import secrets
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import httpx2
from anyio.to_thread import run_sync

from longtake.errors import LongtakeError, ProtocolError, UnexpectedAnswer
from longtake.retry import Patience, is_drop
from longtake.transport import Sender, closing, translated

_log = logging.getLogger(__name__)
_MEDIA: Final = ("video/", "image/", "application/octet-stream")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-")


class Download:
    """One file on its way into ``target``, which is written from its beginning."""

    def __init__(
        self, sender: Sender, path: str, target: BinaryIO, patience: float | None, *, begun: bool = False
    ) -> None:
        """``begun``: the server was there a moment ago, so that its absence is a drop."""
        self._sender = sender
        self._path = path
        self._target = target
        self._patience = Patience(patience, sender.retries)
        self._begun = begun
        self._etag = ""
        self._position = 0

    async def run(self) -> None:
        """Fetch it whole.

        Raises:
            GaveUp: the connection broke again and again without bringing anything.
            LongtakeError: the server refuses, for instance because there is no such file.
            OSError: it cannot be written.
        """
        while True:
            try:
                done = await self._attempt()
            except LongtakeError as error:
                if isinstance(error, UnexpectedAnswer) and error.status == 416 and self._position:
                    # What is there now is shorter than what came.
                    await self._restart()
                elif not (self._begun and is_drop(error)):
                    raise
                delay = self._patience.delay(error)
                _log.info("%s; again in %.1f s", error, delay)
                await anyio.sleep(delay)
            else:
                if done:
                    return

    async def _attempt(self) -> bool:
        """Fetch what is missing; False where it turned out that the file is another one now."""
        request = self._sender.get(self._path, "*/*")
        # The bytes are counted: they must be those of the file.
        request.headers["Accept-Encoding"] = "identity"
        if self._position and not self._etag:
            await self._restart()
        if self._position:
            request.headers.update({"Range": f"bytes={self._position}-", "If-Range": self._etag})
        response = await self._sender.open(request, repeatable=True, content_type=None, retry=not self._begun)
        self._begun = True
        async with closing(response):
            self._check(response)
            if self._position and not self._is_rest(response):
                await self._restart()
                if response.status_code == httpx2.codes.PARTIAL_CONTENT:
                    return False
            self._etag = _strong(response.headers.get("etag", ""))
            with translated(self._sender.address):
                async for chunk in response.aiter_raw():
                    await run_sync(self._target.write, chunk)
                    self._position += len(chunk)
                    self._patience.progressed()
        return True

    def _check(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "")
        partial = response.status_code == httpx2.codes.PARTIAL_CONTENT
        start = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        if not kind.startswith(_MEDIA) or (partial and (start is None or int(start[1]) != self._position)):
            raise ProtocolError(f"{response.request.url} was answered with something else than was asked for: {kind}")

    def _is_rest(self, response: httpx2.Response) -> bool:
        """Whether the answer goes on where the last one broke; not every server heeds ``If-Range``."""
        same = _strong(response.headers.get("etag", "")) == self._etag
        return same and response.status_code == httpx2.codes.PARTIAL_CONTENT

    async def _restart(self) -> None:
        self._position = 0
        await run_sync(self._target.seek, 0)
        await run_sync(self._target.truncate)


async def fetch(sender: Sender, path: str, patience: float | None, *, begun: bool = False) -> bytes:
    """A file of the server in memory, as :class:`Download` does; raises as :meth:`Download.run`."""
    target = BytesIO()
    await Download(sender, path, target, patience, begun=begun).run()
    return target.getvalue()


async def save(sender: Sender, path: str, file: Path, patience: float | None) -> Path:
    """A file of the server under the name ``file``, whole or not at all; raises as :meth:`Download.run` does."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        with await run_sync(part.open, "xb") as target:
            await Download(sender, path, target, patience).run()
            await run_sync(target.flush)
            await run_sync(os.fsync, target.fileno())
        await run_sync(part.replace, file)
    finally:
        part.unlink(missing_ok=True)
    return file


def _strong(etag: str) -> str:
    """An entity tag that promises equal bytes, or nothing."""
    return "" if etag.startswith("W/") else etag
