"""What can go wrong, as a tree; catch as finely as needed.

::

    LongtakeError                       chain_id, last_event_id (where known)
    ├── ScriptError                     a script file cannot be read or written: path, line, problems
    ├── VideoError                      a payload cannot be used
    │   └── DigestMismatch              its SHA-256 is not what the server measured
    ├── EmbeddedServerError             the embedded server did not come up, or died: log
    ├── TransportError                  no answer, or not all of it
    │   ├── ConnectionFailed            nothing answers at the address
    │   ├── ConnectionLost              the connection broke before the answer was complete
    │   ├── TimedOut                    waited too long: phase
    │   └── GaveUp                      reconnected for too long without anything new
    ├── ProtocolError                   an answer that is not of this wire
    │   ├── StreamEnded                 the stream ended without a terminal event
    │   ├── EventTooLarge               an event outgrew the limit
    │   └── UnexpectedAnswer            status, excerpt (an HTML page of a proxy, a redirect)
    └── ServerError                     code, message, path, problems, request_id, retry_after, status
        ├── RequestRefused              the request cannot be done as it was sent
        │   ├── BadRequest              BAD_REQUEST
        │   ├── Unauthorized            UNAUTHORIZED
        │   ├── ForbiddenHost           FORBIDDEN_HOST
        │   ├── NotFound                NOT_FOUND
        │   │   ├── ModelNotFound       MODEL_NOT_FOUND
        │   │   └── ChainNotFound       CHAIN_NOT_FOUND
        │   ├── MethodNotAllowed        METHOD_NOT_ALLOWED
        │   ├── NotAcceptable           NOT_ACCEPTABLE
        │   ├── WrongState              WRONG_STATE
        │   ├── IdempotencyConflict     IDEMPOTENCY_CONFLICT
        │   ├── PayloadTooLarge         PAYLOAD_TOO_LARGE
        │   ├── UnsupportedMediaType    UNSUPPORTED_MEDIA_TYPE
        │   ├── ValidationFailed        VALIDATION_ERROR
        │   └── RateLimited             RATE_LIMITED
        │       └── QueueFull           QUEUE_FULL
        └── ChainError                  the server could not do it: failed_stage_idx, elapsed_stages, elapsed_ms,
            │                           stage_error, resumable
            ├── StageFailed             STAGE_FAILED
            ├── ChainCancelled          CANCELLED
            ├── EncodeFailed            ENCODE_FAILED
            ├── OutOfMemory             OUT_OF_MEMORY
            ├── NoBackend               NO_BACKEND
            └── InternalError           INTERNAL

``ChainError`` and its kind come from a chain's ``error`` event (status None); ``NoBackend`` and ``InternalError`` also
from an answer before a chain exists. A code of a newer server is the parent itself, with the code on it.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from longtake import wire
from longtake.wire import ErrorCode, Problem


class LongtakeError(Exception):
    """Base of all errors of this package."""

    chain_id: str | None = None
    """The chain it happened to, where one is known: it may still be running, under this id."""
    last_event_id: str | None = None
    """Id of the last event that arrived whole, to go on after it."""


class ScriptError(LongtakeError):
    """A script cannot be read or written.

    ``path``: the field at fault, like ``stage[2].transition``, empty for the whole file. ``line``: from 1, only for
    TOML syntax. ``problems``: everything that was found, the first one included.
    """

    def __init__(self, message: str, *, path: str = "", line: int | None = None) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path
        self.line = line
        self.problems: tuple[Problem, ...] = (Problem(path=path, message=message),)

    @classmethod
    def of(cls, problems: list[Problem]) -> "ScriptError":
        """One error for all of ``problems`` (at least one)."""
        error = cls(problems[0].message, path=problems[0].path)
        error.problems = tuple(problems)
        return error


class VideoError(LongtakeError):
    """A payload cannot be used as it was asked to."""


class DigestMismatch(VideoError):
    """The video's SHA-256 is not the one the server measured: it was damaged on the way."""


class EmbeddedServerError(LongtakeError):
    """The embedded server did not come up, or died. ``log``: the end of what it wrote."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class TransportError(LongtakeError):
    """No answer, or not all of it."""


class ConnectionFailed(TransportError):
    """Nothing answers at the address; no request was sent."""


class ConnectionLost(TransportError):
    """The connection broke before the answer was complete."""


class TimedOut(TransportError):
    """Waited too long. ``phase``: ``connect``, ``silence`` (nothing arrived) or ``total``."""

    def __init__(self, message: str, *, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class GaveUp(TransportError):
    """A connection that broke was made again and again, for too long without anything new; the cause is the last one.

    The chain goes on without its followers: ``events(chain_id, after=last_event_id)`` goes on where this ended.
    """


class ProtocolError(LongtakeError):
    """An answer that is not of this wire."""


class StreamEnded(ProtocolError):
    """The stream ended without a terminal event."""


class EventTooLarge(ProtocolError):
    """An event outgrew the client's limit."""


class UnexpectedAnswer(ProtocolError):
    """A status or content type that this endpoint does not have.

    ``excerpt``: the beginning of the body. ``retry_after``: seconds the answer asks to wait.
    """

    def __init__(self, message: str, *, status: int, excerpt: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.excerpt = excerpt
        self.retry_after: float | None = None


class ServerError(LongtakeError):
    """The server said no.

    ``path``: the field at fault, like ``stages[2].fade_frames``. ``retry_after``: seconds the server asks to wait.
    ``status``: of HTTP, None for an ``error`` event.
    """

    code: str = ""
    wire_code: ClassVar[ErrorCode | None] = None

    def __init__(self, message: str, *, code: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or (self.wire_code or "")
        self.status = status
        self.path: str | None = None
        self.problems: tuple[Problem, ...] = ()
        self.request_id: str | None = None
        self.retry_after: float | None = None

    def __str__(self) -> str:
        """The message, in front of it the field at fault."""
        path = getattr(self, "path", None)
        return f"{path}: {self.message}" if path and not self.message.startswith(path) else self.message


class RequestRefused(ServerError):
    """The request cannot be done as it was sent."""


class BadRequest(RequestRefused):
    """The body is no JSON, or no object."""

    wire_code = ErrorCode.BAD_REQUEST


class Unauthorized(RequestRefused):
    """The server wants a credential that was not sent, or does not accept the one sent."""

    wire_code = ErrorCode.UNAUTHORIZED


class ForbiddenHost(RequestRefused):
    """The server does not answer under the host name the request used."""

    wire_code = ErrorCode.FORBIDDEN_HOST


class NotFound(RequestRefused):
    """There is no such thing."""

    wire_code = ErrorCode.NOT_FOUND


class ModelNotFound(NotFound):
    """The server does not serve that model; the message lists what it serves."""

    wire_code = ErrorCode.MODEL_NOT_FOUND


class ChainNotFound(NotFound):
    """There is no chain of that id, or not any more."""

    wire_code = ErrorCode.CHAIN_NOT_FOUND


class MethodNotAllowed(RequestRefused):
    """The endpoint does not have that method."""

    wire_code = ErrorCode.METHOD_NOT_ALLOWED


class NotAcceptable(RequestRefused):
    """The endpoint cannot answer in the wanted content type."""

    wire_code = ErrorCode.NOT_ACCEPTABLE


class WrongState(RequestRefused):
    """The chain is not in a state that allows this, for instance a cancel after its end."""

    wire_code = ErrorCode.WRONG_STATE


class IdempotencyConflict(RequestRefused):
    """The idempotency key was used before with another body."""

    wire_code = ErrorCode.IDEMPOTENCY_CONFLICT


class PayloadTooLarge(RequestRefused):
    """The request's body, or the images in it, are over the server's limit."""

    wire_code = ErrorCode.PAYLOAD_TOO_LARGE


class UnsupportedMediaType(RequestRefused):
    """The body has a content type the server does not read."""

    wire_code = ErrorCode.UNSUPPORTED_MEDIA_TYPE


class ValidationFailed(RequestRefused):
    """The request breaks a rule; ``path`` and ``problems`` say which."""

    wire_code = ErrorCode.VALIDATION_ERROR


class RateLimited(RequestRefused):
    """Too many requests; ``retry_after`` says when to come back."""

    wire_code = ErrorCode.RATE_LIMITED


class QueueFull(RateLimited):
    """Too many chains wait already."""

    wire_code = ErrorCode.QUEUE_FULL


class ChainError(ServerError):
    """The server could not do it, though the request was right.

    ``failed_stage_idx``: the stage at fault. ``elapsed_stages``: stages finished before it. ``elapsed_ms``: how long
    the chain ran. ``stage_error``: what the stage said. ``resumable``: whether a resume may get further.
    """

    failed_stage_idx: int | None = None
    elapsed_stages: int | None = None
    elapsed_ms: int | None = None
    stage_error: str | None = None
    resumable: bool | None = None


class StageFailed(ChainError):
    """A stage could not be rendered."""

    wire_code = ErrorCode.STAGE_FAILED


class ChainCancelled(ChainError):
    """Someone cancelled the chain."""

    wire_code = ErrorCode.CANCELLED


class EncodeFailed(ChainError):
    """The frames could not be made into a file."""

    wire_code = ErrorCode.ENCODE_FAILED


class OutOfMemory(ChainError):
    """The device's memory does not hold this request; a smaller size or fewer frames may fit."""

    wire_code = ErrorCode.OUT_OF_MEMORY


class NoBackend(ChainError):
    """No model answers behind the server."""

    wire_code = ErrorCode.NO_BACKEND


class InternalError(ChainError):
    """A fault of the server."""

    wire_code = ErrorCode.INTERNAL


def _family(parent: type[ServerError]) -> Iterator[type[ServerError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _family(child)


BY_CODE: Final[Mapping[str, type[ServerError]]] = {
    kind.wire_code.value: kind for kind in _family(ServerError) if kind.wire_code is not None
}
"""The error of every code on the wire."""


def from_answer(answer: wire.ApiError, *, status: int, retry_after: float | None = None) -> ServerError:
    """The error of an answer before a stream starts."""
    fallback = RequestRefused if status < 500 else ChainError
    error = BY_CODE.get(answer.code, fallback)(answer.error, code=answer.code, status=status)
    error.path = answer.path
    error.problems = tuple(answer.problems)
    error.request_id = answer.request_id
    error.retry_after = retry_after
    return error


def from_event(event: wire.ChainError) -> ChainError:
    """The error of a chain's ``error`` event; a message alone (no code) is a plain :class:`ChainError`."""
    kind = BY_CODE.get(event.code, ChainError)
    error = (kind if issubclass(kind, ChainError) else ChainError)(event.message, code=event.code)
    error.chain_id = event.chain_id
    error.failed_stage_idx = event.failed_stage_idx
    error.elapsed_stages = event.elapsed_stages
    error.elapsed_ms = event.elapsed_ms
    error.stage_error = event.stage_error
    error.resumable = event.resumable
    return error


def from_failure(failure: wire.ChainFailure, *, status: int) -> StageFailed:
    """The error of the blocking endpoint's 502."""
    error = StageFailed(failure.error, status=status)
    error.chain_id = failure.chain_id
    error.failed_stage_idx = failure.failed_stage_idx
    error.elapsed_stages = failure.elapsed_stages
    error.elapsed_ms = failure.elapsed_ms
    error.stage_error = failure.stage_error
    return error
