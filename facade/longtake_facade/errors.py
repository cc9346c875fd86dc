"""Every answer that is no success is JSON: ``{error, code, path?, request_id, problems?}``.

::

    MalformedJson                400 BAD_REQUEST
    Invalid                      422 VALIDATION_ERROR, with paths
    UnknownModel                 404 MODEL_NOT_FOUND
    ChainNotFound                404 CHAIN_NOT_FOUND
    NotThere                     404 NOT_FOUND
    WrongState                   409 WRONG_STATE
    IdempotencyConflict          409 IDEMPOTENCY_CONFLICT
    QueueFull                    429 QUEUE_FULL, with Retry-After
    Refused                      what it says
    aiohttp's HTTP exceptions    their status
    anything else                500 INTERNAL, logged; its text is never sent
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from longtake import wire
from longtake.wire import ErrorCode, Problem
from longtake_facade.normalise import UnknownModel
from longtake_facade.parse import Invalid, MalformedJson
from longtake_facade.registry import ChainNotFound, IdempotencyConflict, QueueFull, WrongState
from longtake_facade.service import NotThere

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
REQUEST_ID = web.RequestKey("request_id", str)

_log = structlog.get_logger()


class Refused(Exception):
    """A request is answered with an error that the HTTP layer itself found."""

    def __init__(
        self, status: int, code: ErrorCode, message: str, *, path: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.path = path
        self.retry_after = retry_after


_EXCEPTIONS: Mapping[type[Exception], tuple[int, ErrorCode]] = {
    MalformedJson: (400, ErrorCode.BAD_REQUEST),
    UnknownModel: (404, ErrorCode.MODEL_NOT_FOUND),
    ChainNotFound: (404, ErrorCode.CHAIN_NOT_FOUND),
    NotThere: (404, ErrorCode.NOT_FOUND),
    WrongState: (409, ErrorCode.WRONG_STATE),
    QueueFull: (429, ErrorCode.QUEUE_FULL),
    IdempotencyConflict: (409, ErrorCode.IDEMPOTENCY_CONFLICT),
}

_STATUSES: Mapping[int, tuple[ErrorCode, str]] = {
    404: (ErrorCode.NOT_FOUND, "there is nothing at this path"),
    405: (ErrorCode.METHOD_NOT_ALLOWED, "this method is not allowed here"),
    413: (ErrorCode.PAYLOAD_TOO_LARGE, "the body is larger than 64 MiB"),
    416: (ErrorCode.BAD_REQUEST, "the requested range is not in the file"),
}


_QUEUE_RETRY_SECONDS = 10
_KEPT_HEADERS = ("Allow", "Content-Range")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into its answer. Once a stream has begun there is none: the connection is closed."""
    request[REQUEST_ID] = secrets.token_hex(8)
    try:
        return await handler(request)
    except ConnectionResetError:
        # The client went away; its chain goes on.
        raise
    except Exception as error:
        return _answer(error, request)


def _answer(error: Exception, request: web.Request) -> web.Response:
    if isinstance(error, Invalid):
        first = error.problems[0]
        return _json(request, 422, ErrorCode.VALIDATION_ERROR, first.message, first.path, error.problems)
    if isinstance(error, Refused):
        answer = _json(request, error.status, error.code, str(error), error.path)
        if error.retry_after is not None:
            answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    if isinstance(error, web.HTTPException):
        code, message = _STATUSES.get(error.status, (ErrorCode.BAD_REQUEST, error.reason))
        answer = _json(request, error.status, code, message)
        answer.headers.update({name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers})
        return answer
    if type(error) in _EXCEPTIONS:
        answer = _json(request, *_EXCEPTIONS[type(error)], str(error))
        if isinstance(error, QueueFull):
            answer.headers["Retry-After"] = str(_QUEUE_RETRY_SECONDS)
        return answer
    _log.error("request failed", path=request.path, request_id=request[REQUEST_ID], exc_info=error)
    return _json(request, 500, ErrorCode.INTERNAL, "the server failed; its log says why, under the request_id")


def _json(
    request: web.Request,
    status: int,
    code: ErrorCode,
    message: str,
    path: str | None = None,
    problems: list[Problem] | None = None,
) -> web.Response:
    error = wire.ApiError(error=message, code=code, path=path, request_id=request[REQUEST_ID], problems=problems or [])
    return web.Response(status=status, body=msgspec.json.encode(error), content_type="application/json")
