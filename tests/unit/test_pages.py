"""The pages' files: how they are sent, how large they are, what they may do."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestServer

from longtake_facade import pages

MAX_PAGE_BYTES = 300_000


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[ClientSession, TestServer]]:
    app = web.Application()
    app.add_routes(pages.routes())
    async with TestServer(app) as server, ClientSession() as session:
        yield session, server


async def get(served: tuple[ClientSession, TestServer], path: str, **headers: str) -> ClientResponse:
    session, server = served
    async with session.get(server.make_url(path), headers=headers) as answer:
        await answer.read()
        return answer


def policy(answer: ClientResponse) -> dict[str, str]:
    directives = answer.headers["Content-Security-Policy"].split("; ")
    return {name: value for name, _, value in (directive.partition(" ") for directive in directives)}


@pytest.mark.parametrize("path", ["/", "/api/docs", "/static/main.js", "/static/base.css", "/static/icon.svg"])
async def test_every_file_comes_under_a_strict_policy(served: tuple[ClientSession, TestServer], path: str) -> None:
    """Nothing inline, nothing from elsewhere, no text becomes HTML, no frame around it, no guessed type."""
    answer = await get(served, path)
    assert answer.status == 200
    found = policy(answer)
    assert found["default-src"] == "'none'"
    assert found["script-src"] == found["style-src"] == found["connect-src"] == "'self'"
    assert found["img-src"] == "'self' data: blob:"
    assert found["media-src"] == "'self' blob:"
    assert found["require-trusted-types-for"] == "'script'"
    assert {found[name] for name in ("base-uri", "form-action", "frame-ancestors", "trusted-types")} == {"'none'"}
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/static/smol-toml/index.js", "text/javascript"),
        ("/static/base.css", "text/css"),
        ("/static/icon.svg", "image/svg+xml"),
    ],
)
async def test_types_do_not_depend_on_the_machine(
    served: tuple[ClientSession, TestServer], path: str, kind: str
) -> None:
    """A module of another type would not run."""
    assert (await get(served, path)).content_type == kind


async def test_what_is_known_is_not_sent_again(served: tuple[ClientSession, TestServer]) -> None:
    """A browser asks every time and hears 304, so that an upgrade is seen at once."""
    first = await get(served, "/static/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    again = await get(served, "/static/main.js", **{"If-None-Match": first.headers["ETag"]})
    assert again.status == 304
    assert "Content-Security-Policy" in again.headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../pages.py",
        "/static/%2e%2e/pages.py",
        "/static//etc/passwd",
        "/static/nothing.js",
        "/static/smol-toml",
    ],
)
async def test_only_files_of_the_pages_are_sent(served: tuple[ClientSession, TestServer], path: str) -> None:
    """Whatever way a path takes."""
    assert (await get(served, path)).status == 404


def test_the_page_is_small() -> None:
    """All files together, as they are sent."""
    sizes = [path.stat().st_size for path in pages.STATIC.rglob("*") if path.suffix in pages.CONTENT_TYPES]
    assert sum(sizes) < MAX_PAGE_BYTES


def test_the_library_travels_with_its_licence() -> None:
    """And with the copyright notice in every file, as published."""
    folder = pages.STATIC / "smol-toml"
    assert "Redistribution and use" in (folder / "LICENSE").read_text()
    for path in folder.glob("*.js"):
        assert "SPDX-License-Identifier: BSD-3-Clause" in path.read_text()


def test_no_module_makes_html_of_text() -> None:
    """None names what parses HTML or runs text; the policy forbids it besides."""
    parsers = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
    for path in pages.STATIC.glob("*.js"):
        assert not parsers.search(path.read_text()), path.name
    for path in pages.STATIC.glob("*.html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", path.read_text()), path.name
