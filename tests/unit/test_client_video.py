"""VideoData: from the wire's messages, to files, to frames."""

import hashlib
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from PIL import Image

from longtake import VideoData, wire
from longtake.errors import DigestMismatch, VideoError
from wire_server import complete, frame, mp4, script

COUNT = 5


def encoded(video_format: str) -> bytes:
    """COUNT pictures as a file of that format."""
    if video_format == "mp4":
        return mp4(COUNT)
    file = BytesIO()
    if video_format == "webp":
        first, *rest = [Image.fromarray(frame(i, COUNT)) for i in range(COUNT)]
        first.save(file, "WEBP", save_all=True, append_images=rest, duration=40, lossless=True)
        return file.getvalue()
    with av.open(file, "w", format=video_format) as container:
        stream = container.add_stream(video_format, rate=25)
        stream.width, stream.height = 64, 32
        stream.pix_fmt = "rgb24" if video_format == "apng" else "rgb8"
        for i in range(COUNT):
            picture = av.VideoFrame.from_ndarray(frame(i, COUNT), format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return file.getvalue()


def video(data: bytes, video_format: str = "mp4", sha256: str | None = None) -> VideoData:
    """A video of these bytes."""
    return VideoData(
        data=data, format=video_format, width=64, height=32, frames_count=COUNT, fps=25, sha256=sha256,
        thumbnail=b"png", gif_preview=b"gif",
    )  # fmt: skip


def response(data: object, small: object = b"") -> wire.ChainResponse:
    """The blocking answer as it is decoded from JSON."""
    payload = {
        "data": data, "format": "mp4", "width": 64, "height": 32, "frames": 9, "fps": 24, "thumbnail": small,
        "gif_preview": small, "has_audio": True, "audio_sample_rate": 24000, "audio_channels": 2,
    }  # fmt: skip
    body = msgspec.json.encode({"video": payload, "stage_count": 2, "script": script(), "chain_id": "c"})
    return msgspec.json.decode(body, type=wire.ChainResponse)


def test_a_completion_becomes_a_video_with_all_it_says() -> None:
    """Every field finds its place."""
    found = VideoData.from_complete(complete(b"film"))
    assert (found.data, found.format, found.width, found.height) == (b"film", "mp4", 64, 32)
    assert (found.frames_count, found.fps, found.duration_ms, found.has_audio) == (9, 24, 375, False)
    assert (found.thumbnail, found.gif_preview) == (b"\x89PNG", b"GIF89a")
    assert (found.chain_id, found.stage_count, found.seed_drawn) == ("chain-1", 2, False)
    assert found.script == script()
    assert found.joins[0].transition is wire.Transition.CUT


@pytest.mark.parametrize("data", [b"film\xff", list(b"film\xff")])
def test_a_response_is_read_in_base64_and_as_integers(data: object) -> None:
    """Both forms give the same bytes; empty pictures are none."""
    found = VideoData.from_response(response(data))
    assert found.data == b"film\xff"
    assert found.thumbnail is None
    assert found.gif_preview is None
    assert (found.has_audio, found.audio_sample_rate, found.audio_channels) == (True, 24000, 2)
    assert (found.chain_id, found.stage_count) == ("c", 2)
    assert VideoData.from_response(response(data, [1, 2])).thumbnail == b"\x01\x02"


@pytest.mark.parametrize("data", [[1, 256], [-1]])
def test_integers_that_are_no_bytes_are_refused(data: list[int]) -> None:
    """The message names the field."""
    with pytest.raises(VideoError, match=r"video\.data"):
        VideoData.from_response(response(data))


def test_a_payload_without_video_is_refused() -> None:
    """A metadata-only stream has none."""
    with pytest.raises(VideoError, match="metadata only"):
        VideoData.from_complete(msgspec.structs.replace(complete(b""), video=b""))


def test_a_damaged_video_is_refused() -> None:
    """The server's digest is compared, in either case of letters."""
    good = complete(b"film")
    with pytest.raises(DigestMismatch):
        VideoData.from_complete(msgspec.structs.replace(good, video=b"filn"))
    digest = hashlib.sha256(b"film").hexdigest().upper()
    assert VideoData.from_complete(msgspec.structs.replace(good, sha256=digest)).data == b"film"
    assert VideoData.from_complete(msgspec.structs.replace(good, sha256=None)).data == b"film"


@pytest.mark.parametrize(
    ("video_format", "name"),
    [("mp4", "a.mp4"), ("mp4", "A.MP4"), ("mp4", "a.m4v"), ("gif", "a.gif"), ("apng", "a.png"), ("webp", "a.webp")],
)
def test_a_video_is_saved_under_a_name_that_fits(tmp_path: Path, video_format: str, name: str) -> None:
    """The path is returned, a file that was there is replaced, nothing else is left in the folder."""
    (tmp_path / name).write_bytes(b"old")
    assert video(b"new", video_format).save(str(tmp_path / name)) == tmp_path / name
    assert (tmp_path / name).read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("video_format", "name"), [("mp4", "a.gif"), ("gif", "a"), ("apng", "a.mp4"), ("webp", "a.webm")]
)
def test_a_name_of_another_format_is_refused(tmp_path: Path, video_format: str, name: str) -> None:
    """The message says which endings fit; nothing is written."""
    with pytest.raises(VideoError, match=f"{name}: a video in {video_format} is saved under"):
        video(b"new", video_format).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    """Whole or not at all."""
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OSError, match=r"a\.mp4"):
        video(b"new").save(tmp_path / "a.mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    with pytest.raises(FileNotFoundError):
        video(b"new").save(tmp_path / "none" / "a.mp4")


def test_the_small_pictures_are_saved_too(tmp_path: Path) -> None:
    """Under names of their own formats."""
    film = video(b"x")
    assert film.save_thumbnail(tmp_path / "t.png").read_bytes() == b"png"
    assert film.save_gif(tmp_path / "t.gif").read_bytes() == b"gif"
    with pytest.raises(VideoError, match=r"ending in \.png"):
        film.save_thumbnail(tmp_path / "t.gif")
    with pytest.raises(VideoError, match="no thumbnail"):
        VideoData(data=b"x", format="mp4", width=1, height=1, frames_count=1, fps=1).save_thumbnail("t.png")


@pytest.mark.parametrize("video_format", ["mp4", "gif", "apng", "webp"])
def test_frames_are_rgb_arrays_of_every_frame(video_format: str) -> None:
    """Each format is decoded, with the colours that went in as near as the format keeps them."""
    found = list(video(encoded(video_format), video_format).frames())
    assert len(found) == COUNT
    tolerance = {"mp4": 4, "gif": 48}.get(video_format, 0)
    for i, pixels in enumerate(found):
        assert (pixels.shape, pixels.dtype) == ((32, 64, 3), np.uint8)
        assert int(np.abs(pixels.astype(int) - frame(i, COUNT)).max()) <= tolerance


@pytest.mark.parametrize("video_format", ["mp4", "gif", "apng", "webp"])
def test_frames_of_rubbish_are_a_typed_error(video_format: str) -> None:
    """Neither library's own exceptions come through."""
    with pytest.raises(VideoError, match="cannot be decoded"):
        list(video(b"rubbish" * 100, video_format).frames())


@pytest.mark.parametrize(("module", "video_format"), [("av", "mp4"), ("PIL", "webp")])
def test_frames_without_the_decoder_name_the_extra(
    module: str, video_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the call, not at the first frame."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"longtake\[frames\]"):
        video(b"x", video_format).frames()
