"""Triton's requests and responses as arrays, and exceptions as its typed errors."""

import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from longtake_stages.contract import CANARY_PARAMETER, ModelErrorCode
from longtake_stages.errors import InvalidArgumentError, ModelError

Array = NDArray[Any]

_INTERNAL_TEXT: Final = "the model failed; the server's log says why"
_MEMORY_TEXT: Final = "out of memory; a smaller size or fewer frames may fit"
# What CPU and CUDA allocators say where they raise a plain RuntimeError.
_MEMORY_SIGNS: Final = ("out of memory", "can't allocate memory")


class Request:
    """One request to a model: its tensors by name, and whether it is a canary."""

    def __init__(self, pb_utils: Any, request: Any) -> None:
        self._pb_utils = pb_utils
        self._request = request

    def array(self, name: str) -> Array:
        """The input tensor ``name``.

        Raises:
            InvalidArgumentError: it was not sent.
        """
        array = self.optional_array(name)
        if array is None:
            raise InvalidArgumentError(f"{name} is missing")
        return array

    def optional_array(self, name: str) -> Array | None:
        """The input tensor ``name``, None where it was not sent."""
        tensor = self._pb_utils.get_input_tensor_by_name(self._request, name)
        return None if tensor is None else np.asarray(tensor.as_numpy())

    def integer(self, name: str) -> int:
        """The only element of an integer tensor."""
        return int(self._only(name))

    def number(self, name: str) -> float:
        """The only element of a float tensor."""
        return float(self._only(name))

    def flag(self, name: str) -> bool:
        """The only element of a boolean tensor."""
        return bool(self._only(name))

    def text(self, name: str) -> str:
        """The only element of a BYTES tensor, which must be UTF-8."""
        value = self._only(name)
        try:
            return value.decode() if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(f"{name} is not UTF-8") from error

    @property
    def canary(self) -> bool:
        """Whether the request only probes the models."""
        return CANARY_PARAMETER in (msgspec.json.decode(self._request.parameters() or "{}") or {})

    def _only(self, name: str) -> Any:
        array = self.array(name)
        if array.size != 1:
            raise InvalidArgumentError(f"{name} must be one value, not {array.size}")
        return array.reshape(-1)[0]


class Replies:
    """The open end of a decoupled request: any number of responses, then nothing more."""

    def __init__(self, pb_utils: Any, sender: Any) -> None:
        self._pb_utils = pb_utils
        self._sender = sender

    def send(self, outputs: Mapping[str, Array]) -> None:
        """Send one response."""
        self._sender.send(response(self._pb_utils, outputs))

    def is_cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return bool(self._sender.is_cancelled())


class DecoupledModel(Protocol):
    """A model that answers one request with several responses."""

    def answer(self, request: Request, replies: Replies) -> None:
        """Send every response; may raise anything."""

    def close(self) -> None:
        """Let go of what the model holds."""


class UnaryModel(Protocol):
    """A model that answers one request with one response."""

    def answer(self, request: Request) -> Mapping[str, Array]:
        """The outputs; may raise anything."""

    def close(self) -> None:
        """Let go of what the model holds."""


def serve_decoupled(pb_utils: Any, model: DecoupledModel, requests: Sequence[Any]) -> None:
    """Answer ``requests`` one after the other. Every one is ended, if need be with an error."""
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    for request in requests:
        sender = request.get_response_sender()
        try:
            model.answer(Request(pb_utils, request), Replies(pb_utils, sender))
        except Exception as error:  # whatever it is, the client must hear of it, and the instance lives on
            sender.send(failure(pb_utils, error), flags=final)
        else:
            sender.send(flags=final)


def serve_unary(pb_utils: Any, model: UnaryModel, requests: Sequence[Any]) -> list[Any]:
    """One response a request, some of them errors."""
    return list(_unary_responses(pb_utils, model, requests))


def _unary_responses(pb_utils: Any, model: UnaryModel, requests: Sequence[Any]) -> Iterator[Any]:
    for request in requests:
        try:
            yield response(pb_utils, model.answer(Request(pb_utils, request)))
        except Exception as error:  # as above
            yield failure(pb_utils, error)


def response(pb_utils: Any, outputs: Mapping[str, Array]) -> Any:
    """A response with ``outputs``."""
    tensors = [pb_utils.Tensor(name, np.ascontiguousarray(array)) for name, array in outputs.items()]
    return pb_utils.InferenceResponse(output_tensors=tensors)


def failure(pb_utils: Any, error: Exception) -> Any:
    """The response that tells a client of ``error``; what it may not see goes to the server's log."""
    known = classify(error)
    if known.code is ModelErrorCode.INTERNAL:
        pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
    if known.code is ModelErrorCode.OUT_OF_MEMORY:
        from longtake_stages.device import release_cached_memory

        release_cached_memory()
    codes = {
        ModelErrorCode.INVALID_ARGUMENT: pb_utils.TritonError.INVALID_ARG,
        ModelErrorCode.OUT_OF_MEMORY: pb_utils.TritonError.UNAVAILABLE,
        ModelErrorCode.CANCELLED: pb_utils.TritonError.CANCELLED,
        ModelErrorCode.INTERNAL: pb_utils.TritonError.INTERNAL,
    }
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(known), codes[known.code]))


def classify(error: Exception) -> ModelError:
    """``error`` as one of the contract's; the text of an unknown one is dropped, it may hold paths."""
    if isinstance(error, ModelError):
        return error
    # torch.OutOfMemoryError is a RuntimeError too, and this module need not import torch to know it.
    signs = isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _MEMORY_SIGNS)
    if signs or isinstance(error, MemoryError):
        return ModelError(ModelErrorCode.OUT_OF_MEMORY, _MEMORY_TEXT)
    return ModelError(ModelErrorCode.INTERNAL, _INTERNAL_TEXT)
