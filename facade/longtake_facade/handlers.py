"""HTTP: what each endpoint reads from a request and answers. What it does is the service's."""

from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from longtake import wire
from longtake.wire import ErrorCode
from longtake_facade import views
from longtake_facade.errors import Refused
from longtake_facade.openapi import document
from longtake_facade.payload import response_json
from longtake_facade.readiness import Readiness
from longtake_facade.records import ChainRecord
from longtake_facade.service import Service
from longtake_facade.stream import send_events

SERVICE = web.AppKey("service", Service)
READINESS = web.AppKey("readiness", Readiness)

CONTENT_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "apng": "image/apng", "webp": "image/webp"}
_GALLERY_LIMIT = 100
_PAGE_DEFAULT = 20
_PAGE_MAX = 100
_KEY_MAX = 255


def routes() -> list[web.RouteDef]:
    """Every endpoint."""
    return [
        web.post("/api/generate/chain/stream", generate_stream),
        web.post("/api/generate/chain", generate),
        web.post("/api/chains", create),
        web.get("/api/chains", chains),
        web.post("/api/chains/validate", validate),
        web.get("/api/chains/{chain_id}", detail),
        web.get("/api/chains/{chain_id}/events", events),
        web.post("/api/chains/{chain_id}/cancel", cancel),
        web.post("/api/chains/{chain_id}/resume", resume),
        web.post("/api/chains/{chain_id}/retake", retake),
        web.delete("/api/chains/{chain_id}", delete),
        web.get("/api/chains/{chain_id}/video", video),
        web.get("/api/chains/{chain_id}/thumbnail", thumbnail),
        web.get("/api/chains/{chain_id}/preview", preview),
        web.get("/api/chains/{chain_id}/stages/{stage_idx:[0-9]{1,4}}/video", stage_video),
        web.get("/api/capabilities/chain-limits", limits),
        web.get("/api/models", models),
        web.get("/api/gallery", gallery),
        web.get("/api/gallery/image/{filename}", gallery_image),
        web.get("/api/gallery/thumbnail/{filename}", gallery_thumbnail),
        web.get("/api/openapi.json", openapi),
        web.get("/health", health),
        web.get("/ready", ready),
    ]


# -------------------------------------------------------------------------------------------------- new chains


async def generate_stream(request: web.Request) -> web.StreamResponse:
    """Create a chain and stream its events; it goes on when the client does not."""
    record = await _submit(request)
    metadata_only = request.headers.get(wire.PAYLOAD_HEADER) == wire.METADATA_ONLY
    inline = _flag(request, "inline", default=not metadata_only) and not metadata_only
    return await send_events(
        request, request.app[SERVICE], record.id, after=0, inline=inline, headers={wire.CHAIN_ID_HEADER: record.id}
    )


async def generate(request: web.Request) -> web.StreamResponse:
    """Create a chain and answer when it has ended: as JSON, or with the file itself where ``video/*`` is asked for."""
    as_file = _wants_file(request)
    service = request.app[SERVICE]
    record = await _submit(request)
    async for entry in service.log.follow(record.id):
        if entry.name == "error":
            return _failure(record.id, msgspec.json.decode(entry.data, type=wire.ChainError))
    record = await service.chain(record.id)
    headers = {wire.CHAIN_ID_HEADER: record.id}
    if as_file:
        return _file(service.video(record), _video_type(record), headers)
    response = web.StreamResponse(headers={**headers, "Content-Type": "application/json"})
    await response.prepare(request)
    async for piece in response_json(record, service.store):
        await response.write(piece)
    await response.write_eof()
    return response


async def create(request: web.Request) -> web.Response:
    """Create a chain and answer at once."""
    record = await _submit(request)
    return _accepted(record)


async def validate(request: web.Request) -> web.Response:
    """Say what a request would run."""
    return _json(await request.app[SERVICE].validate(await _body(request)))


async def _submit(request: web.Request) -> ChainRecord:
    body = await _body(request)
    _backend_answers(request)
    return await request.app[SERVICE].submit(body, _idempotency_key(request))


def _backend_answers(request: web.Request) -> None:
    if not request.app[READINESS].ready:
        raise Refused(503, ErrorCode.NO_BACKEND, "the models do not answer; try again later", retry_after=5)


async def _body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise Refused(415, ErrorCode.UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json")
    return await request.read()


def _failure(chain_id: str, error: wire.ChainError) -> web.Response:
    headers = {wire.CHAIN_ID_HEADER: chain_id}
    if error.failed_stage_idx is not None:
        failure = wire.ChainFailure(
            error=error.message,
            failed_stage_idx=error.failed_stage_idx,
            elapsed_stages=error.elapsed_stages or 0,
            elapsed_ms=error.elapsed_ms or 0,
            stage_error=error.stage_error or error.message,
            chain_id=chain_id,
        )
        return _json(failure, status=502, headers=headers)
    status = 409 if error.code == ErrorCode.CANCELLED else 500
    return _json(wire.ApiError(error=error.message, code=error.code), status=status, headers=headers)


# -------------------------------------------------------------------------------------------- existing chains


async def chains(request: web.Request) -> web.Response:
    """A page of chains, newest first."""
    limit = request.query.get("limit", str(_PAGE_DEFAULT))
    if not (limit.isascii() and limit.isdigit() and len(limit) < 4 and 1 <= int(limit) <= _PAGE_MAX):
        raise Refused(422, ErrorCode.VALIDATION_ERROR, f"?limit= must be 1..{_PAGE_MAX}", path="limit")
    state = request.query.get("state")
    if state is not None and state not in set(wire.ChainState):
        allowed = ", ".join(wire.ChainState)
        raise Refused(422, ErrorCode.VALIDATION_ERROR, f"?state= must be one of {allowed}", path="state")
    wanted = None if state is None else wire.ChainState(state)
    return _json(await request.app[SERVICE].page(int(limit), request.query.get("cursor"), wanted))


async def detail(request: web.Request) -> web.Response:
    """A chain as it stands."""
    service = request.app[SERVICE]
    return _json(await service.detail(await service.chain(request.match_info["chain_id"])))


async def events(request: web.Request) -> web.StreamResponse:
    """The events of a chain from the start, or after ``Last-Event-ID``."""
    service = request.app[SERVICE]
    record = await service.chain(request.match_info["chain_id"])
    after = _last_event_id(request)
    if record.state.ended and after >= await service.registry.last_event(record.id):
        # What a browser's EventSource needs to hear so that it does not come back.
        return web.Response(status=204)
    inline = _flag(request, "inline", default=False)
    return await send_events(request, service, record.id, after=after, inline=inline, headers={})


async def cancel(request: web.Request) -> web.Response:
    """Cancel a chain that has not ended."""
    return _accepted(await request.app[SERVICE].cancel(request.match_info["chain_id"]))


async def resume(request: web.Request) -> web.Response:
    """Run a chain again that failed or was cancelled."""
    _backend_answers(request)
    return _accepted(await request.app[SERVICE].resume(request.match_info["chain_id"]))


async def retake(request: web.Request) -> web.Response:
    """A new chain that renders one stage anew."""
    body = await _body(request)
    _backend_answers(request)
    key = _idempotency_key(request)
    return _accepted(await request.app[SERVICE].retake(request.match_info["chain_id"], body, key))


async def delete(request: web.Request) -> web.Response:
    """Remove an ended chain."""
    await request.app[SERVICE].delete(request.match_info["chain_id"])
    return web.Response(status=204)


async def video(request: web.Request) -> web.StreamResponse:
    """The video of a completed chain."""
    service = request.app[SERVICE]
    record = await service.chain(request.match_info["chain_id"])
    return _file(service.video(record), _video_type(record), {})


async def thumbnail(request: web.Request) -> web.StreamResponse:
    """Its first frame."""
    service = request.app[SERVICE]
    return _file(service.thumbnail(await service.chain(request.match_info["chain_id"])), "image/png", {})


async def preview(request: web.Request) -> web.StreamResponse:
    """Its animated preview."""
    service = request.app[SERVICE]
    return _file(service.preview(await service.chain(request.match_info["chain_id"])), "image/gif", {})


async def stage_video(request: web.Request) -> web.StreamResponse:
    """A stage's own part of the timeline, as soon as it is encoded."""
    service = request.app[SERVICE]
    record = await service.chain(request.match_info["chain_id"])
    return _file(service.stage_video(record, int(request.match_info["stage_idx"])), "video/mp4", {})


# -------------------------------------------------------------------------------------------------- the server


async def limits(request: web.Request) -> web.Response:
    """What is enforced for a model."""
    return _json(request.app[SERVICE].limits(request.query.get("model")))


async def models(request: web.Request) -> web.Response:
    """What is served."""
    return _json(request.app[SERVICE].models())


async def gallery(request: web.Request) -> web.Response:
    """The latest finished chains."""
    return _json(await request.app[SERVICE].gallery(_GALLERY_LIMIT))


async def gallery_image(request: web.Request) -> web.StreamResponse:
    """A finished video by its gallery name."""
    service = request.app[SERVICE]
    record = await service.gallery_chain(request.match_info["filename"])
    return _file(service.video(record), _video_type(record), {})


async def gallery_thumbnail(request: web.Request) -> web.StreamResponse:
    """The first frame of a finished video by its gallery name."""
    service = request.app[SERVICE]
    return _file(service.thumbnail(await service.gallery_chain(request.match_info["filename"])), "image/png", {})


async def openapi(_: web.Request) -> web.Response:
    """This API as an OpenAPI document."""
    return _json(document())


async def health(_: web.Request) -> web.Response:
    """The process answers."""
    return _json({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """The models answered lately."""
    green = request.app[READINESS].ready
    return _json({"ready": green}, status=200 if green else 503)


# --------------------------------------------------------------------------------------------------- the parts


def _accepted(record: ChainRecord) -> web.Response:
    return _json(views.accepted(record), status=202, headers={wire.CHAIN_ID_HEADER: record.id})


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _file(path: Path, content_type: str, headers: dict[str, str]) -> web.FileResponse:
    """A file with Range and ETag, which aiohttp sees to."""
    return web.FileResponse(
        path, headers={"Content-Type": content_type, "X-Content-Type-Options": "nosniff", **headers}
    )


def _video_type(record: ChainRecord) -> str:
    return CONTENT_TYPES[record.script.chain.output_format]


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    value = request.query.get(name)
    if value is None:
        return default
    if value not in ("true", "false"):
        raise Refused(422, ErrorCode.VALIDATION_ERROR, f"?{name}= must be true or false", path=name)
    return value == "true"


def _idempotency_key(request: web.Request) -> str | None:
    key = request.headers.get(wire.IDEMPOTENCY_HEADER)
    if key is not None and not (0 < len(key) <= _KEY_MAX and key.isascii() and key.isprintable()):
        message = f"{wire.IDEMPOTENCY_HEADER} must be 1..{_KEY_MAX} printable ASCII characters"
        raise Refused(422, ErrorCode.VALIDATION_ERROR, message, path=wire.IDEMPOTENCY_HEADER)
    return key


def _last_event_id(request: web.Request) -> int:
    value = request.headers.get("Last-Event-ID", "0")
    if not (value.isascii() and value.isdigit() and len(value) < 19):
        message = f"Last-Event-ID must be the number of an event, not `{value}`"
        raise Refused(422, ErrorCode.VALIDATION_ERROR, message, path="Last-Event-ID")
    return int(value)


def _wants_file(request: web.Request) -> bool:
    """Whether ``Accept`` asks for the video itself. The first type that can be served decides."""
    for accepted in request.headers.get("Accept", "*/*").split(","):
        kind = accepted.partition(";")[0].strip().lower()
        if kind in ("application/json", "application/*", "*/*"):
            return False
        if kind.startswith(("video/", "image/")):
            return True
    raise Refused(406, ErrorCode.NOT_ACCEPTABLE, "Accept must allow application/json or video/*")
