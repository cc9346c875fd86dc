"""Thumbnail, preview and the container of animated WebP."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from longtake_facade.animation import PREVIEW_FRAMES, WebpFile, delays, write_preview, write_thumbnail


@given(st.integers(1, 3000), st.integers(1, 120), st.sampled_from([100, 1000]))
def test_delays_add_up_to_the_length_of_the_video(frames: int, fps: int, units: int) -> None:
    """One a frame, at least one unit each, in all the video's length as near as the format can say it."""
    shown = delays(frames, fps, units)
    assert len(shown) == frames
    assert min(shown) >= 1
    assert sum(shown) == (round(frames * units / fps) if fps <= units else frames)


def test_the_thumbnail_is_the_frame(tmp_path: Path) -> None:
    """A PNG of the frame's size, pixel for pixel."""
    frame = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    write_thumbnail(frame, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), frame)


@pytest.mark.parametrize(
    ("frames", "every", "fps"), [(1, 6, 24), (25, 6, 24), (1552, 6, 24), (60, 1, 1), (700, 30, 120)]
)
def test_the_preview_is_a_short_looping_gif(tmp_path: Path, frames: int, every: int, fps: int) -> None:
    """Few frames, looping for ever, each shown between 40 and 200 ms."""
    random = np.random.default_rng(1)
    small = [(at, random.integers(0, 256, (20, 32, 3), dtype=np.uint8)) for at in range(0, frames, every)]
    write_preview(small, frames, fps, tmp_path / "p.gif")
    with Image.open(tmp_path / "p.gif") as image:
        count = getattr(image, "n_frames", 1)
        assert image.size == (32, 20)
        assert count == len(small[:: -(-len(small) // PREVIEW_FRAMES)]) <= PREVIEW_FRAMES
        if count > 1:
            assert image.info["loop"] == 0
        for i in range(count if count > 1 else 0):
            image.seek(i)
            assert 40 <= image.info["duration"] <= 200


def test_still_images_become_an_animated_webp(tmp_path: Path) -> None:
    """Frames, durations and the endless loop are read back by another reader; the pictures are those put in."""
    frames = [np.full((16, 24, 3), value, np.uint8) for value in (10, 10, 200)]
    file = WebpFile(tmp_path / "a.webp", 24, 16)
    for frame, milliseconds in zip(frames, (41, 42, 42), strict=True):
        still = io.BytesIO()
        Image.fromarray(frame).save(still, "WEBP", lossless=True, exif=b"Exif\0\0")
        file.add(still.getvalue(), milliseconds)
    file.close()
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.size, getattr(image, "n_frames", 1), image.info["loop"]) == ((24, 16), 3, 0)
        shown = []
        for i, frame in enumerate(frames):
            image.seek(i)
            image.load()
            shown.append(image.info["duration"])
            assert np.array_equal(np.asarray(image.convert("RGB")), frame)
    assert shown == [41, 42, 42]
