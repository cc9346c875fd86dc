"""VideoData in a notebook: HTML that needs nothing else and runs nothing."""

import base64
import re
from html.parser import HTMLParser

import pytest

from longtake import VideoData
from longtake.video import MAX_INLINE_BYTES


def shown(data: bytes, video_format: str, preview: bytes | None = b"gif") -> dict[str, dict[str, str | None]]:
    """The elements of what a notebook shows, with their attributes; the text under ``text``."""
    video = VideoData(
        data=data, format=video_format, width=64, height=32, frames_count=36, fps=24, thumbnail=b"png",
        gif_preview=preview,
    )  # fmt: skip
    found: dict[str, dict[str, str | None]] = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found[tag] = dict(attrs)

    text = video._repr_html_()
    Reader().feed(text)
    found["text"] = {"text": re.sub("<[^>]*>", "", text)}
    return found


def as_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_an_mp4_has_a_player_with_its_first_frame() -> None:
    """And its facts below."""
    found = shown(b"film", "mp4")
    assert found["video"]["src"] == as_url("video/mp4", b"film")
    assert found["video"]["poster"] == as_url("image/png", b"png")
    assert found["text"] == {"text": "64 by 32 · 36 frames · 1.50 s · without sound"}


@pytest.mark.parametrize("video_format", ["gif", "apng", "webp"])
def test_animations_are_images(video_format: str) -> None:
    """Which a player would not play."""
    found = shown(b"film", video_format)
    assert found["img"]["src"] == as_url(f"image/{video_format}", b"film")
    assert "video" not in found


def test_a_large_video_is_shown_by_its_preview() -> None:
    """A notebook keeps in its file what it shows."""
    found = shown(bytes(MAX_INLINE_BYTES + 1), "mp4")
    assert found["img"]["src"] == as_url("image/gif", b"gif")
    assert "save() has the video" in str(found["text"])


def test_without_a_preview_there_are_the_facts() -> None:
    """No empty picture."""
    assert set(shown(bytes(MAX_INLINE_BYTES + 1), "mp4", preview=None)) == {"figure", "figcaption", "text"}
