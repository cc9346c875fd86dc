"""What is logged of chains: their ids, and never what they are of."""

import base64
import io
import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
import structlog
from PIL import Image

from chains import JSON, chain, stage
from facade_server import Server, serving
from longtake.wire import ChainRequest
from longtake_facade.backend import ModelFailed
from longtake_facade.memory import MemoryBackend
from longtake_facade.serve import _log_to_stderr as log_to_stderr
from served import TINY

PROMPT, NEGATIVE = "a marmot on Ganymede", "zirconium haze"


def image() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((16, 16), 80).save(file, "PNG")
    return file.getvalue()


IMAGE = image()
SECRETS = [PROMPT, NEGATIVE, base64.b64encode(IMAGE)[:60].decode(), repr(IMAGE)[2:40]]


@pytest.fixture(scope="module")
def backend() -> MemoryBackend:
    return MemoryBackend(TINY)


@pytest.fixture(scope="module")
def server(backend: MemoryBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("data"), backend) as running:
        yield running


class Heard:
    """Everything that went to any log, structured or not, and to the standard streams."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self.structured = io.StringIO()
        self._caplog = caplog
        self._capfd = capfd

    def text(self) -> str:
        return "\n".join([self.structured.getvalue(), self._caplog.text, *self._capfd.readouterr()])


@pytest.fixture
def heard(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Heard]:
    """Logs as ``longtake serve`` writes them."""
    caplog.set_level(logging.INFO)
    found = Heard(caplog, capfd)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", found.structured)
        log_to_stderr()
    yield found
    structlog.reset_defaults()


def post(server: Server, request: ChainRequest | bytes) -> httpx2.Response:
    body = request if isinstance(request, bytes) else msgspec.json.encode(request)
    return httpx2.post(f"{server.url}/api/generate/chain/stream", content=body, headers=JSON, timeout=60)


def told(prompt: str = PROMPT, **other: Any) -> ChainRequest:
    return chain(stage(prompt, negative_prompt=NEGATIVE, source_image=IMAGE), stage("b"), **other)


def clean(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


def test_a_chain_that_completes_is_logged_by_its_id_alone(server: Server, heard: Heard) -> None:
    """From the request to the end."""
    answer = post(server, told())
    assert "event: complete" in answer.text
    text = heard.text()
    assert answer.headers["X-Chain-Id"] in text
    assert clean(text)


def test_a_chain_that_fails_is_logged_without_its_prompt(server: Server, backend: MemoryBackend, heard: Heard) -> None:
    """The client hears why; the log hears the code."""
    backend.failures[PROMPT] = ModelFailed("the denoiser broke")
    try:
        answer = post(server, told(seed=4))
    finally:
        backend.failures.clear()
    assert "STAGE_FAILED" in answer.text
    text = heard.text()
    assert "STAGE_FAILED" in text
    assert clean(text)


class Surprise(Exception):
    """No error that a backend may raise."""


def test_a_chain_that_breaks_unexpectedly_is_logged_without_its_prompt(
    server: Server, backend: MemoryBackend, heard: Heard
) -> None:
    """With the traceback, which has the code and not the values; the client hears neither."""
    backend.failures[PROMPT] = Surprise("surprise")  # type: ignore[assignment]  # that is the point
    try:
        answer = post(server, told(seed=5))
    finally:
        backend.failures.clear()
    assert "INTERNAL" in answer.text
    assert "surprise" not in answer.text
    text = heard.text()
    assert "Surprise" in text
    assert clean(text)


@pytest.mark.parametrize(
    "body",
    [
        msgspec.json.encode(told(width=63)),
        msgspec.json.encode(told(model=PROMPT)),
        msgspec.json.encode(told())[:-1],
        msgspec.json.encode({"prompt": PROMPT, "transitoin": NEGATIVE}),
    ],
    ids=["invalid", "unknown model", "malformed", "unknown key"],
)
def test_a_request_that_is_refused_is_logged_without_its_body(server: Server, heard: Heard, body: bytes) -> None:
    """Only that it was."""
    assert 400 <= post(server, body).status_code < 500
    text = heard.text()
    assert text.count('"event":') == 1
    assert clean(text)


def test_a_database_that_fails_is_logged_without_what_it_was_to_keep(
    server: Server, heard: Heard, tmp_path: Path
) -> None:
    """The script is a parameter of the statement that failed."""
    path = server.service.store.root / "longtake.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON longtake_chains BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    try:
        answer = post(server, told(seed=6))
    finally:
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TRIGGER full")
    connection.close()
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL")
    assert "disk" not in answer.text
    text = heard.text()
    assert "disk is full" in text
    assert clean(text)
