"""The error tree: one error a code, and what each carries."""

import re

import pytest

from longtake import errors, wire
from longtake.errors import LongtakeError, ServerError
from longtake.wire import ErrorCode


def family(parent: type[LongtakeError]) -> list[type[LongtakeError]]:
    """A class of the tree and everything below it."""
    return [parent, *(kind for child in parent.__subclasses__() for kind in family(child))]


def test_every_code_of_the_wire_has_an_error_of_its_own() -> None:
    """No code without a type, no type without a code, none shared."""
    assert set(errors.BY_CODE) == {code.value for code in ErrorCode}
    assert len(set(errors.BY_CODE.values())) == len(ErrorCode)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Names, nesting and codes as drawn."""
    drawn: dict[str, tuple[int, str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^([ │├└─]*)(\w+) {2,}(.*)$", line):
            drawn[found[2]] = (len(found[1]) // 4 - 1, found[3])
    kinds = {kind.__name__: kind for kind in family(LongtakeError)}
    assert set(drawn) == set(kinds)
    for name, (depth, text) in drawn.items():
        kind = kinds[name]
        assert len([base for base in kind.__mro__ if issubclass(base, LongtakeError)]) - 1 == depth, name
        if issubclass(kind, ServerError) and kind.wire_code:
            assert text == kind.wire_code.value


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_answer_becomes_the_error_of_its_code(code: ErrorCode) -> None:
    """With everything the answer said."""
    problem = wire.Problem(path="fps", message="too high")
    answer = wire.ApiError(error="no", code=code, path="fps", request_id="r", problems=[problem])
    error = errors.from_answer(answer, status=400, retry_after=2.0)
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.message, str(error)) == (code, "no", "fps: no")
    assert (error.path, error.problems, error.request_id) == ("fps", (problem,), "r")
    assert (error.status, error.retry_after) == (400, 2.0)


@pytest.mark.parametrize(("status", "kind"), [(418, errors.RequestRefused), (507, errors.ChainError)])
def test_a_code_of_a_newer_server_keeps_the_side_at_fault(status: int, kind: type[ServerError]) -> None:
    """Below 500 the request, from there on the server; the code is on it."""
    error = errors.from_answer(wire.ApiError(error="no", code="TEAPOT"), status=status)
    assert type(error) is kind
    assert error.code == "TEAPOT"


@pytest.mark.parametrize(
    "code", ["STAGE_FAILED", "CANCELLED", "ENCODE_FAILED", "OUT_OF_MEMORY", "NO_BACKEND", "INTERNAL"]
)
def test_an_error_event_becomes_the_chain_error_of_its_code(code: str) -> None:
    """It has no HTTP status."""
    event = wire.ChainError(message="m", code=code, chain_id="c", elapsed_stages=2, elapsed_ms=3, resumable=False)
    error = errors.from_event(event)
    assert type(error) is errors.BY_CODE[code]
    assert (error.chain_id, error.elapsed_stages, error.elapsed_ms, error.resumable) == ("c", 2, 3, False)
    assert error.status is None


@pytest.mark.parametrize("code", ["", "TEAPOT", "VALIDATION_ERROR"])
def test_an_error_event_is_always_a_chain_error(code: str) -> None:
    """Whatever its code says."""
    assert type(errors.from_event(wire.ChainError(message="m", code=code))) is errors.ChainError


def test_a_failure_of_the_blocking_endpoint_is_a_failed_stage() -> None:
    """It has no code of its own."""
    failure = wire.ChainFailure(
        error="stage 1 failed", failed_stage_idx=1, elapsed_stages=1, elapsed_ms=5, stage_error="s", chain_id="c"
    )
    error = errors.from_failure(failure, status=502)
    assert (error.code, error.failed_stage_idx, error.stage_error, error.chain_id) == ("STAGE_FAILED", 1, "s", "c")


def test_a_path_is_not_said_twice() -> None:
    """Where the server's message begins with it already."""
    answer = wire.ApiError(error="stages[0].frames is 0", code="VALIDATION_ERROR", path="stages[0].frames")
    assert str(errors.from_answer(answer, status=422)) == "stages[0].frames is 0"
