"""When a request is sent again, and after how long. Pure: nothing here sleeps or sends."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from longtake.errors import (
    ConnectionFailed,
    ConnectionLost,
    GaveUp,
    LongtakeError,
    ServerError,
    StreamEnded,
    TimedOut,
    UnexpectedAnswer,
)

_BUSY: Final = frozenset({429, 503})
_PASSING: Final = frozenset({429, 502, 503, 504})
"""What a server, or the proxy before it, answers while it starts."""
_SPREAD: Final = 1.25


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
        return self.backoff(attempt)

    def backoff(self, attempt: int) -> float:
        """Seconds to wait after the failure number ``attempt``, from 1."""
        # Beyond 2**1023 a float overflows.
        longest = min(self.longest_delay, self.first_delay * 2.0 ** min(attempt - 1, 32))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


class Patience:
    """How long something that broke is taken up again while it brings nothing new.

    ``seconds``: from the first failure after something new; 0 to give up at once, None for never.
    """

    def __init__(self, seconds: float | None, retries: Retries, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._retries = retries
        self._clock = clock
        self._failures = 0
        self._since = 0.0

    def progressed(self) -> None:
        """Something new came: begin to count anew."""
        self._failures = 0

    def delay(self, error: LongtakeError, asked: float | None = None) -> float:
        """Seconds until the next attempt.

        ``asked``: how long the server wants to be left alone after a drop, in seconds; ``Retry-After`` of ``error`` is
        heeded too, both up to the longest wait. From the second failure on the back-off counts as well.

        Raises:
            GaveUp: it is time to.
        """
        now = self._clock()
        if self._failures == 0:
            self._since = now
        self._failures += 1
        left = math.inf if self.seconds is None else self._since + self.seconds - now
        if left <= 0:
            raise GaveUp(f"{error}; gave up after {self.seconds:g} s without anything new") from error
        wanted = [seconds for seconds in (asked, getattr(error, "retry_after", None)) if seconds is not None]
        spread = random.uniform(1.0, _SPREAD)  # noqa: S311 - spreads load, guards nothing
        delay = min(max(wanted, default=0.0), self._retries.longest_wait) * spread
        if self._failures > 1 or not wanted:
            delay = max(delay, self._retries.backoff(self._failures))
        return min(delay, left)


def is_drop(error: LongtakeError) -> bool:
    """Whether the same request may succeed later because the connection or the server, not the request, failed."""
    if isinstance(error, TimedOut):
        return error.phase != "total"
    if isinstance(error, ServerError | UnexpectedAnswer):
        return error.status in _PASSING
    return isinstance(error, ConnectionFailed | ConnectionLost | StreamEnded)


def _may_pass(error: LongtakeError, repeatable: bool) -> bool:
    if isinstance(error, ServerError | UnexpectedAnswer):
        return error.status in _BUSY
    if isinstance(error, TimedOut):
        return error.phase == "connect"
    return isinstance(error, ConnectionFailed) or (repeatable and isinstance(error, ConnectionLost))
