"""The API as an OpenAPI 3.1 document, its schemas made from the wire's structs."""

import functools
from importlib.metadata import version
from typing import Any

import msgspec

from longtake import wire

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"

_SCHEMAS: tuple[Any, ...] = (
    wire.ChainRequest,
    wire.Retake,
    wire.ChainAccepted,
    wire.ChainList,
    wire.ChainDetail,
    wire.ChainResponse,
    wire.ChainFailure,
    wire.ChainLimits,
    wire.ValidationReport,
    wire.ApiError,
    wire.Complete,
    wire.ChainError,
    wire.ProgressEvent,
    wire.ModelInfo,
    wire.GalleryItem,
)


@functools.cache
def document() -> Json:
    """The document; a test validates it and compares its paths with the routes."""
    schemas, components = msgspec.json.schema_components(_SCHEMAS, ref_template=_REF)
    # The union of progress events is no struct, so it has no name of its own.
    components["ProgressEvent"] = schemas[_SCHEMAS.index(wire.ProgressEvent)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Longtake",
            "version": version("longtake"),
            "summary": "One script of prompts becomes one long video",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
        "components": {"schemas": components},
    }


def _paths() -> Json:
    chain = [_path("chain_id", {"type": "string", "pattern": "^[0-9a-f]{32}$"})]
    key = [_header(wire.IDEMPOTENCY_HEADER, "same key and body: the same chain; another body: 409")]
    payload = _header(wire.PAYLOAD_HEADER, f"`{wire.METADATA_ONLY}`: `complete` without the video's bytes")
    last = _header("Last-Event-ID", "send what comes after this event")
    filename = [_path("filename", {"type": "string"})]
    return {
        "/api/generate/chain/stream": _post(
            "Render a chain and stream its events", _stream(), "ChainRequest", [*key, payload, _inline("true")]
        ),
        "/api/generate/chain": _post(
            "Render a chain and answer when it has ended",
            {**_ok("ChainResponse"), "502": _content("ChainFailure", "a stage failed")},
            "ChainRequest",
            key,
        ),
        "/api/chains": {
            **_post("Create a chain and answer at once", _ok("ChainAccepted", "202"), "ChainRequest", key),
            **_get("Chains, newest first", _ok("ChainList"), [_query("limit"), _query("cursor"), _query("state")]),
        },
        "/api/chains/validate": _post("Say what a request would run", _ok("ValidationReport"), "ChainRequest"),
        "/api/chains/{chain_id}": {
            **_get("A chain as it stands", _ok("ChainDetail"), chain),
            "delete": _operation("Remove it, once it has ended", {"204": {"description": "it is gone"}}, chain),
        },
        "/api/chains/{chain_id}/events": _get(
            "Its events, from the start or after Last-Event-ID",
            {**_stream(), "204": {"description": "it has ended and everything was sent"}},
            [*chain, last, _inline("false")],
        ),
        "/api/chains/{chain_id}/cancel": _post("Cancel it", _ok("ChainAccepted", "202"), None, chain),
        "/api/chains/{chain_id}/resume": _post(
            "Run it again, once it failed or was cancelled", _ok("ChainAccepted", "202"), None, chain
        ),
        "/api/chains/{chain_id}/retake": _post(
            "A new chain with one stage, and the smooth ones after it, rendered anew",
            _ok("ChainAccepted", "202"),
            "Retake",
            [*chain, *key],
        ),
        "/api/chains/{chain_id}/video": _get("Its video", _file("video/mp4"), chain),
        "/api/chains/{chain_id}/thumbnail": _get("Its first frame", _file("image/png"), chain),
        "/api/chains/{chain_id}/preview": _get("Its animated preview", _file("image/gif"), chain),
        "/api/chains/{chain_id}/stages/{stage_idx}/video": _get(
            "A stage's own part of the timeline",
            _file("video/mp4"),
            [*chain, _path("stage_idx", {"type": "integer", "minimum": 0})],
        ),
        "/api/capabilities/chain-limits": _get("What is enforced", _ok("ChainLimits"), [_query("model")]),
        "/api/models": _get("What is served", _list("ModelInfo")),
        "/api/gallery": _get("The latest finished chains", _list("GalleryItem")),
        "/api/gallery/image/{filename}": _get("A finished video", _file("video/mp4"), filename),
        "/api/gallery/thumbnail/{filename}": _get("Its first frame", _file("image/png"), filename),
        "/api/openapi.json": _get("This document", _plain()),
        "/health": _get("Whether the process answers", _plain()),
        "/ready": _get("Whether the models answer", {**_plain(), "503": {"description": "they do not"}}),
    }


def _operation(summary: str, responses: Json, parameters: list[Json]) -> Json:
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": {**responses, "default": _content("ApiError", "any error")},
    }


def _get(summary: str, responses: Json, parameters: list[Json] | None = None) -> Json:
    return {"get": _operation(summary, responses, parameters or [])}


def _post(summary: str, responses: Json, body: str | None, parameters: list[Json] | None = None) -> Json:
    operation = _operation(summary, responses, parameters or [])
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return {"post": operation}


def _ref(name: str) -> Json:
    return {"$ref": _REF.format(name=name)}


def _content(name: str, description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _ok(name: str, status: str = "200") -> Json:
    return {status: _content(name, name)}


def _list(name: str) -> Json:
    schema = {"type": "array", "items": _ref(name)}
    return {"200": {"description": f"{name}[]", "content": {"application/json": {"schema": schema}}}}


def _plain() -> Json:
    return {"200": {"description": "JSON", "content": {"application/json": {"schema": {"type": "object"}}}}}


def _file(kind: str) -> Json:
    return {
        "200": {"description": "the file, or 206 a part of it; with ETag", "content": {kind: {}}},
        "206": {"description": "the range asked for", "content": {kind: {}}},
    }


def _stream() -> Json:
    text = (
        "Server-Sent Events: `progress` (ProgressEvent, told apart by `type`), then exactly one terminal event, "
        "`complete` (Complete) or `error` (ChainError)"
    )
    return {"200": {"description": text, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def _path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _query(name: str) -> Json:
    return {"name": name, "in": "query", "schema": {"type": "string"}}


def _header(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "schema": {"type": "string"}, "description": description}


def _inline(default: str) -> Json:
    schema = {"type": "string", "enum": ["true", "false"], "default": default}
    return {"name": "inline", "in": "query", "schema": schema, "description": "whether `complete` has the video"}
