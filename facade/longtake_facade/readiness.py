"""Whether the models answer: known from real work, and from a canary when there is none. A probe renders nothing."""

import asyncio
import time

import structlog

from longtake_facade.backend import Backend, BackendError

_IDLE_SECONDS = 60.0
_RETRY_SECONDS = 5.0
_FAILURES = 2

_log = structlog.get_logger()


class Readiness:
    """Green after one canary; red after two failures in a row; green again after a success."""

    def __init__(self, backend: Backend, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._backend = backend
        self._idle = idle_seconds
        self._answered = 0.0
        self._failures = _FAILURES

    @property
    def ready(self) -> bool:
        """Whether a chain can be expected to render now."""
        return self._failures < _FAILURES

    def worked(self) -> None:
        """Every model did real work."""
        self._answered, self._failures = time.monotonic(), 0

    def failed(self) -> None:
        """Nothing answered."""
        self._failures += 1

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
            rest = self._answered + self._idle - time.monotonic()
            await asyncio.sleep(_RETRY_SECONDS if self._failures else max(rest, 0.01))
            if self._failures or time.monotonic() - self._answered >= self._idle:
                try:
                    await self.probe()
                except BackendError as error:
                    _log.warning("the models do not answer", error=str(error), failures=self._failures)
