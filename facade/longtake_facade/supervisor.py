"""The backend of an embedded server, which is started again when it dies."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import structlog

from longtake_facade.backend import BackendError, BackendUnavailable, Chunk, ClipEnd, ClipJob, Latents, Step
from longtake_facade.embedded import EmbeddedTriton, EmbeddedTritonError
from longtake_facade.triton import TritonBackend, connect
from longtake_stages.contract import Capabilities

Start = Callable[[], AbstractAsyncContextManager[EmbeddedTriton]]

# A dead model is loaded again within this; then the whole server is started again.
_RELOAD_SECONDS: Final = 30.0

# After this a server that could not be started is tried again.
_RETRY_SECONDS: Final = 5.0

_log = structlog.get_logger()


class SupervisedBackend:
    """A :class:`longtake_facade.backend.Backend` on an embedded server; opened by :func:`supervised`."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._mending = asyncio.Lock()
        self._held: AsyncExitStack
        self._server: EmbeddedTriton
        self._backend: TritonBackend

    async def _open(self) -> None:
        async with AsyncExitStack() as opening:
            self._server = await opening.enter_async_context(self._start())
            self._backend = await connect(self._server.grpc_address)
            opening.push_async_callback(self._backend.close)
            self._held = opening.pop_all()

    @property
    def capabilities(self) -> Capabilities:
        """What the checkpoint can do."""
        return self._backend.capabilities

    @property
    def instances(self) -> int:
        """Instances of the denoiser."""
        return self._backend.instances

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        """The text context of a prompt."""
        return await self._backend.encode_prompt(prompt, negative_prompt)

    def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        """Every step, then the latents."""
        return self._backend.denoise(job, context)

    def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        """The clip's frames, then its end."""
        return self._backend.decode(job, latents)

    async def canary(self) -> None:
        """Render the smallest clip."""
        await self._backend.canary()

    async def revive(self) -> None:
        """Load dead models again, or start the server again; whoever asks meanwhile waits for the same.

        Raises:
            BackendUnavailable: the server cannot be started.
        """
        async with self._mending:
            if await self._answers():
                return
            _log.warning("the embedded server is started again")
            try:
                await self._held.aclose()
                await self._open()
            except (EmbeddedTritonError, BackendError) as error:
                _log.error("the embedded server cannot be started again", reason=str(error))
                raise BackendUnavailable("the embedded server cannot be started again; the log says why") from error

    async def _answers(self) -> bool:
        """Whether a canary comes back, after loading what has died; at once False when the server itself has."""
        died = asyncio.ensure_future(self._server.died())
        revived = asyncio.ensure_future(self._backend.revive(_RELOAD_SECONDS))
        try:
            await asyncio.wait([died, revived], return_when=asyncio.FIRST_COMPLETED)
            return revived.done() and revived.exception() is None
        finally:
            died.cancel()
            revived.cancel()
            await asyncio.wait([died, revived])

    async def watch(self) -> None:
        """Start the server again whenever it ends by itself, as often as it takes; to be cancelled."""
        while True:
            reason = await self._server.died()
            # While it is being mended, it is we who ended it.
            if not self._mending.locked():
                _log.warning("the embedded server died", reason=reason)
            try:
                await self.revive()
            except BackendUnavailable:
                # It is in the log. What is missing may come back; finished chains are served meanwhile.
                await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Stop the server."""
        await self._held.aclose()


@asynccontextmanager
async def supervised(start: Start) -> AsyncIterator[SupervisedBackend]:
    """A backend on a server that ``start`` runs, now and whenever it has to be started again.

    Raises:
        EmbeddedTritonError, BackendError: it does not start the first time.
    """
    backend = SupervisedBackend(start)
    await backend._open()
    try:
        yield backend
    finally:
        await backend.close()
