"""When a request is sent again, and after how long."""

import pytest

from longtake import errors, wire
from longtake.retry import Retries


def refused(code: str, status: int, retry_after: float | None = None) -> errors.ServerError:
    """An answer with that code."""
    return errors.from_answer(wire.ApiError(error="no", code=code), status=status, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "with_key", "without_key"),
    [
        (errors.ConnectionFailed("x"), True, True),
        (errors.TimedOut("x", phase="connect"), True, True),
        (errors.TimedOut("x", phase="silence"), False, False),
        (errors.TimedOut("x", phase="total"), False, False),
        (errors.ConnectionLost("x"), True, False),
        (errors.StreamEnded("x"), False, False),
        (refused("QUEUE_FULL", 429), True, True),
        (refused("NO_BACKEND", 503), True, True),
        (refused("VALIDATION_ERROR", 422), False, False),
        (refused("INTERNAL", 500), False, False),
        (errors.UnexpectedAnswer("x", status=503), True, True),
        (errors.UnexpectedAnswer("x", status=502), False, False),
    ],
)
def test_what_may_pass_is_sent_again(error: errors.LongtakeError, with_key: bool, without_key: bool) -> None:
    """Without a key only what surely began no work."""
    assert (Retries().delay(error, 1, repeatable=True) is not None) == with_key
    assert (Retries().delay(error, 1, repeatable=False) is not None) == without_key


def test_the_delay_doubles_up_to_its_bound_and_ends_with_the_attempts() -> None:
    """Each is between half and all of its step."""
    retries = Retries(attempts=7, first_delay=1.0, longest_delay=8.0)
    delays = [retries.delay(errors.ConnectionFailed("x"), n, repeatable=True) for n in range(1, 8)]
    for delay, step in zip(delays[:-1], [1, 2, 4, 8, 8, 8], strict=True):
        assert delay is not None
        assert step / 2 <= delay <= step
    assert delays[-1] is None


def test_retry_after_is_honoured_up_to_a_bound() -> None:
    """Exactly what was asked for, or nothing."""
    retries = Retries(longest_wait=60)
    assert retries.delay(refused("RATE_LIMITED", 429, 7.0), 1, repeatable=False) == 7.0
    assert retries.delay(refused("RATE_LIMITED", 429, 60.0), 1, repeatable=False) == 60.0
    assert retries.delay(refused("RATE_LIMITED", 429, 61.0), 1, repeatable=False) is None
