"""What every request passes: whose Host is answered, who may call from a browser, and what becomes of an exception."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web

from longtake_facade.app import MAX_BODY_BYTES, SETTINGS, allow_origin, known_host, logged, preflight
from longtake_facade.errors import errors_as_json
from longtake_facade.settings import Settings

PAGE = "https://page.example"


@dataclass
class Answer:
    """An answer as it came over the socket; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """The middlewares around a few handlers, on a socket: requests are sent as bytes, so that any can be made."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(self, path: str = "/ok", method: str = "GET", body: bytes = b"", **headers: str | None) -> Answer:
        """Send a request; ``Host=None`` leaves it out."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), "Connection": "close"}
        fields = {**sent, **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items() if value is not None),
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        status, *rows = head.decode("latin-1").split("\r\n")
        pairs = (row.partition(": ") for row in rows)
        return Answer(int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, rest)


async def ok(_: web.Request) -> web.Response:
    return web.json_response({"answer": "x" * 10})


async def broken(_: web.Request) -> web.Response:
    raise RuntimeError("the secret of the database")


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"bytes": len(await request.read())})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[logged, errors_as_json, known_host, preflight])
    app[SETTINGS] = Settings(data=tmp_path, allow_host=["Video.example"], cors_origin=[PAGE])
    app.on_response_prepare.append(allow_origin)
    app.add_routes([web.get("/ok", ok), web.get("/broken", broken), web.post("/echo", echo)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Server(runner.addresses[0][1])
    await runner.cleanup()


# ----------------------------------------------------------------------------------------------------------- the host


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8188",
        "localhost",
        "localhost:1",
        "LocalHost:8188",
        "[::1]",
        "[::1]:8188",
        "video.example",
        "VIDEO.example:443",
    ],
)
async def test_a_host_that_is_ours_is_answered(server: Server, host: str) -> None:
    """Loopback by any of its names and what was allowed; with a port or without, in either case."""
    assert (await server.ask(Host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8188",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "evil.example:@localhost",
        "localhost@evil.example",
        "notvideo.example",
        "::1",
        "[::2]:8188",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "",
    ],
)
async def test_a_host_that_is_not_ours_is_refused(server: Server, host: str) -> None:
    """Whatever the path, before any handler runs."""
    answer = await server.ask("/broken", Host=host)
    assert answer.status in (400, 403)
    assert b"secret" not in answer.body
    if answer.status == 403:
        assert answer.json["code"] == "FORBIDDEN_HOST"
        assert "--allow-host" in answer.json["error"]


async def test_a_request_without_a_host_is_refused(server: Server) -> None:
    """There is nothing to trust."""
    assert (await server.ask(Host=None)).status in (400, 403)


# ------------------------------------------------------------------------------------------------------------ browsers


async def test_a_named_origin_may_read_answers_and_errors(server: Server) -> None:
    """Among them the headers a client needs; caches are told that it depends on the origin."""
    for path, status in (("/ok", 200), ("/missing", 404), ("/broken", 500)):
        answer = await server.ask(path, Origin=PAGE)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "X-Chain-Id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://other.example", "http://page.example", f"{PAGE}.evil.example", "null", None]
)
async def test_no_other_origin_may(server: Server, origin: str | None) -> None:
    """Not even one that looks like it."""
    answer = await server.ask(Origin=origin)
    assert (answer.status, answer.headers.get("access-control-allow-origin")) == (200, None)


async def test_a_preflight_is_answered_and_allows_named_origins_only(server: Server) -> None:
    """The methods and headers of the API; for another origin the browser hears no permission."""
    asked: dict[str, str] = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "content-type"}
    answer = await server.ask("/echo", "OPTIONS", Origin=PAGE, **asked)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, PAGE)
    assert {"GET", "POST", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    assert {"Content-Type", "Idempotency-Key", "Last-Event-ID"} <= set(
        answer.headers["access-control-allow-headers"].split(", ")
    )
    other = await server.ask("/echo", "OPTIONS", Origin="https://other.example", **asked)
    assert "access-control-allow-origin" not in other.headers
    assert (await server.ask("/echo", "OPTIONS", Host="evil.example", Origin=PAGE, **asked)).status == 403


async def test_options_without_a_preflight_is_a_method_like_another(server: Server) -> None:
    """405, naming what is allowed."""
    answer = await server.ask("/echo", "OPTIONS")
    assert (answer.status, answer.json["code"], answer.headers["allow"]) == (405, "METHOD_NOT_ALLOWED", "POST")


async def test_head_has_the_headers_of_get_and_no_body(server: Server) -> None:
    """Of answers and of errors."""
    for path in ("/ok", "/missing", "/broken"):
        head, get = await server.ask(path, "HEAD"), await server.ask(path)
        assert head.body == b""
        assert (head.status, head.headers["content-type"]) == (get.status, get.headers["content-type"])
        assert head.headers["content-length"] == get.headers["content-length"]


# -------------------------------------------------------------------------------------------------------------- errors


async def test_an_unexpected_exception_is_logged_and_not_told(server: Server) -> None:
    """The client gets an id, under which the log has the exception."""
    with structlog.testing.capture_logs() as logs:
        answer = await server.ask("/broken")
    assert (answer.status, answer.json["code"]) == (500, "INTERNAL")
    assert b"secret" not in answer.body
    assert b"RuntimeError" not in answer.body
    (failed,) = [entry for entry in logs if entry["event"] == "request failed"]
    assert failed["log_level"] == "error"
    assert failed["request_id"] == answer.json["request_id"]
    assert "secret" in str(failed["exc_info"])
    (line,) = [entry for entry in logs if entry["event"] == "request"]
    assert (line["status"], line["request_id"]) == (500, answer.json["request_id"])


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/missing", "GET", 404, "NOT_FOUND"),
        ("/%00", "GET", 404, "NOT_FOUND"),
        ("/ok", "POST", 405, "METHOD_NOT_ALLOWED"),
        ("/ok", "PATCH", 405, "METHOD_NOT_ALLOWED"),
    ],
)
async def test_what_aiohttp_refuses_is_json_too(server: Server, path: str, method: str, status: int, code: str) -> None:
    """With the code of its status and an id."""
    answer = await server.ask(path, method)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/json")
    assert len(answer.json["request_id"]) == 16


async def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    """By its announced length, or by what comes; one of the limit is read."""
    assert (await server.ask("/echo", "POST", bytes(MAX_BODY_BYTES))).json == {"bytes": MAX_BODY_BYTES}
    answer = await server.ask("/echo", "POST", bytes(MAX_BODY_BYTES + 1))
    assert (answer.status, answer.json["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert "64 MiB" in answer.json["error"]


async def test_a_request_is_one_line_in_the_log_without_its_query(server: Server) -> None:
    """Queries and headers may hold what nobody else should read."""
    with structlog.testing.capture_logs() as logs:
        await server.ask("/ok?token=hidden", Authorization="hidden", Last_Event_ID="hidden")
    (line,) = logs
    assert {name: line[name] for name in ("event", "method", "path", "status")} == {
        "event": "request",
        "method": "GET",
        "path": "/ok",
        "status": 200,
    }
    assert "hidden" not in str(line)
