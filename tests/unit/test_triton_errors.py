"""What failed calls to Triton mean, and what of them may be told."""

import socket

import grpc
import pytest

from longtake_facade.backend import BackendError, BackendUnavailable, ModelFailed, ModelOutOfMemory
from longtake_facade.triton import STATUS_ERRORS, connect, error_of
from longtake_stages.contract import ModelErrorCode

SECRET = "failed in /opt/secret/model.py, line 3"


def test_every_grpc_status_has_an_error() -> None:
    """None is forgotten, so none ends in a KeyError."""
    assert set(STATUS_ERRORS) == set(grpc.StatusCode)


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_triton_s_own_texts_are_not_passed_on(code: grpc.StatusCode) -> None:
    """A status without a model's message gets a text of ours; every error is its own object."""
    error = error_of(code, SECRET)
    assert isinstance(error, BackendError)
    assert "secret" not in str(error)
    assert str(error)
    assert error is not error_of(code, SECRET)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND])
def test_a_server_that_is_away_or_lacks_a_model_is_unavailable(code: grpc.StatusCode) -> None:
    """So that a caller may wait for it."""
    assert isinstance(error_of(code, None), BackendUnavailable)


@pytest.mark.parametrize(
    "message",
    [
        "Stub process 'denoiser_0_0' is not healthy.",
        "in ensemble 'clip', Stub process 'decoder_0_1' is not healthy.",
        "Request for unknown model: 'denoiser' has no available versions",
    ],
)
@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_a_model_whose_process_died_or_that_is_not_loaded_is_unavailable(code: grpc.StatusCode, message: str) -> None:
    """Triton gives these no status of their own, and does not start the process again."""
    error = error_of(code, message)
    assert isinstance(error, BackendUnavailable)
    assert "denoiser" not in str(error)


@pytest.mark.parametrize("prefix", ["", "in ensemble 'clip', "])
@pytest.mark.parametrize(
    ("model_code", "expected"),
    [
        (ModelErrorCode.INVALID_ARGUMENT, ModelFailed),
        (ModelErrorCode.OUT_OF_MEMORY, ModelOutOfMemory),
        (ModelErrorCode.CANCELLED, ModelFailed),
    ],
)
def test_a_model_s_own_message_comes_before_the_status(
    prefix: str, model_code: ModelErrorCode, expected: type[BackendError]
) -> None:
    """UNAVAILABLE with OUT_OF_MEMORY is a lack of memory, in an ensemble too; the text is the model's."""
    error = error_of(grpc.StatusCode.UNAVAILABLE, f"{prefix}{model_code}: why: so")
    assert type(error) is expected
    assert str(error) == "why: so"


def test_an_internal_message_is_not_passed_on() -> None:
    """Whatever a model says under INTERNAL stays in the log."""
    error = error_of(grpc.StatusCode.INTERNAL, f"INTERNAL: {SECRET}")
    assert type(error) is ModelFailed
    assert "secret" not in str(error)


async def test_an_address_where_nothing_listens_is_unavailable() -> None:
    """At once, not after the time-out."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with pytest.raises(BackendUnavailable, match="no Triton server answers"):
            await connect(f"127.0.0.1:{reserved.getsockname()[1]}", timeout=60)


async def test_a_server_that_never_answers_is_unavailable() -> None:
    """It listens, but says nothing: the time-out ends the wait."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(BackendUnavailable, match=r"within 0\.3 s"):
            await connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
