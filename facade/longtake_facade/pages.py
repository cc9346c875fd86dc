"""The pages a browser gets: the one at ``/``, the API's at ``/api/docs``, and the static files both are made of.

They run what this server sends and nothing else: the policy allows no inline script or style, no other origin, and no
text that becomes HTML. The folder ``smol-toml`` in it is that library as published on npm (1.9.1, BSD-3-Clause).
"""

from pathlib import Path
from typing import Final

from aiohttp import web

STATIC: Final = Path(__file__).parent / "static"

CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Only what has one of these endings is served."""

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The Content-Security-Policy. Trusted types: the browser itself refuses to make HTML or a script of a text."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Names carry no version, so a browser asks each time; the ETag makes that a 304.
    "Cache-Control": "no-cache",
}


def routes() -> list[web.RouteDef]:
    """The pages and their files. Files are looked up by name once, so no path leads elsewhere."""
    files = {
        path.relative_to(STATIC).as_posix(): path
        for path in STATIC.rglob("*")
        if path.is_file() and path.suffix in CONTENT_TYPES
    }

    async def static(request: web.Request) -> web.StreamResponse:
        """A file the pages are made of."""
        path = files.get(request.match_info["name"])
        if path is None:
            raise web.HTTPNotFound
        return _file(path)

    async def index(_: web.Request) -> web.StreamResponse:
        """The page."""
        return _file(files["index.html"])

    async def docs(_: web.Request) -> web.StreamResponse:
        """The API's page."""
        return _file(files["docs.html"])

    return [web.get("/", index), web.get("/api/docs", docs), web.get("/static/{name:.+}", static)]


def _file(path: Path) -> web.FileResponse:
    """A file with ETag, Range and 304, which aiohttp sees to."""
    return web.FileResponse(path, headers={**HEADERS, "Content-Type": CONTENT_TYPES[path.suffix]})
