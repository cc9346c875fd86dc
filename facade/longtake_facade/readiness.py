"""Whether the models answer: known from real work, and from a canary when there is none. A probe renders nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from longtake_facade.backend import Backend, BackendError, BackendUnavailable, Chunk, ClipEnd, ClipJob, Latents, Step
from longtake_stages.contract import Capabilities

_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 5.0
_FAILURES = 2

_log = structlog.get_logger()


class Readiness:
    """Green after one canary; red after two failures in a row; green again after a success.

    While nothing is heard of the models for ``idle_seconds`` (``retry_seconds`` after a failure), a canary is sent.
    """

    def __init__(
        self, backend: Backend, idle_seconds: float = _IDLE_SECONDS, retry_seconds: float = _RETRY_SECONDS
    ) -> None:
        self._backend = backend
        self._idle = idle_seconds
        self._retry = retry_seconds
        self._heard = 0.0
        self._failures = _FAILURES

    @property
    def ready(self) -> bool:
        """Whether a chain can be expected to render now."""
        return self._failures < _FAILURES

    def answered(self) -> None:
        """A model is at work: no canary has to wait behind it. It proves nothing of the other models."""
        self._heard = time.monotonic()

    def worked(self) -> None:
        """Every model did real work."""
        self._heard, self._failures = time.monotonic(), 0

    def failed(self) -> None:
        """A model did not answer."""
        self._heard, self._failures = time.monotonic(), self._failures + 1

    async def probe(self) -> None:
        """Send one canary.

        Raises:
            BackendError: it did not come back.
        """
        try:
            await self._backend.canary()
        except BackendError:
            self.failed()
            raise
        self.worked()

    async def watch(self) -> None:
        """Probe whenever nothing else has shown for a while that the models answer; runs until it is cancelled."""
        while True:
            quiet = self._retry if self._failures else self._idle
            rest = self._heard + quiet - time.monotonic()
            if rest > 0:
                # Never long: a failure meanwhile shortens the rest.
                await asyncio.sleep(min(rest, self._retry))
                continue
            try:
                await self.probe()
            except BackendError as error:
                _log.warning("the models do not answer", error=str(error), failures=self._failures)
                if not self.ready:
                    await self._revive()

    async def _revive(self) -> None:
        try:
            await self._backend.revive()
        except BackendError as error:
            _log.warning("the models do not come back", error=str(error))
        else:
            self.worked()


class ObservedBackend:
    """A backend whose real work tells :class:`Readiness` how the models are; else as the one it stands for."""

    def __init__(self, backend: Backend, readiness: Readiness) -> None:
        self._backend = backend
        self._readiness = readiness

    @property
    def capabilities(self) -> Capabilities:
        """As of the backend."""
        return self._backend.capabilities

    @property
    def instances(self) -> int:
        """As of the backend."""
        return self._backend.instances

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        """As the backend does."""
        try:
            context = await self._backend.encode_prompt(prompt, negative_prompt)
        except BackendUnavailable:
            self._readiness.failed()
            raise
        self._readiness.answered()
        return context

    async def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        """As the backend does."""
        async with aclosing(self._backend.denoise(job, context)) as responses:
            try:
                async for response in responses:
                    self._readiness.answered()
                    yield response
            except BackendUnavailable:
                self._readiness.failed()
                raise

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        """As the backend does; a clip that comes whole has been through every model."""
        async with aclosing(self._backend.decode(job, latents)) as responses:
            try:
                async for response in responses:
                    if isinstance(response, ClipEnd):
                        self._readiness.worked()
                    else:
                        self._readiness.answered()
                    yield response
            except BackendUnavailable:
                self._readiness.failed()
                raise

    async def canary(self) -> None:
        """As the backend does."""
        await self._backend.canary()

    async def revive(self) -> None:
        """As the backend does; when it returns, the models answer."""
        try:
            await self._backend.revive()
        except BackendUnavailable:
            self._readiness.failed()
            raise
        self._readiness.worked()

    async def close(self) -> None:
        """As the backend does."""
        await self._backend.close()
