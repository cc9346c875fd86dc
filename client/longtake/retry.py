"""When a request is sent again, and after how long. Pure: nothing here sleeps or sends."""

import random
from dataclasses import dataclass
from typing import Final

from longtake.errors import (
    ConnectionFailed,
    ConnectionLost,
    LongtakeError,
    ServerError,
    TimedOut,
    UnexpectedAnswer,
)

_BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True)
class Retries:
    """How often and after how long.

    ``attempts``: sendings in all, 1 for no retry. ``first_delay``, ``longest_delay``: seconds; the delay doubles from
    the one to the other, each shortened at random by up to half so that clients do not return together.
    ``longest_wait``: a ``Retry-After`` beyond it (seconds) is not waited for.
    """

    attempts: int = 4
    first_delay: float = 0.5
    longest_delay: float = 8.0
    longest_wait: float = 60.0

    def delay(self, error: LongtakeError, attempt: int, *, repeatable: bool) -> float | None:
        """Seconds until the next sending, None to give up.

        ``attempt``: how many were made, from 1. ``repeatable``: whether the server does the work once however often it
        is asked (a read, or an idempotency key); where it is not, only what surely was not begun is sent again.
        """
        if attempt >= self.attempts or not _may_pass(error, repeatable):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return float(asked) if asked <= self.longest_wait else None
        backoff = min(self.longest_delay, self.first_delay * 2.0 ** (attempt - 1))
        return backoff * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def _may_pass(error: LongtakeError, repeatable: bool) -> bool:
    if isinstance(error, ServerError | UnexpectedAnswer):
        return error.status in _BUSY
    if isinstance(error, TimedOut):
        return error.phase == "connect"
    return isinstance(error, ConnectionFailed) or (repeatable and isinstance(error, ConnectionLost))
