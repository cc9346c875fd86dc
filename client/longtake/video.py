"""A finished video in the client: its bytes, what it is, and how to look at its frames."""

import base64
import hashlib
import html
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from longtake import wire
from longtake.errors import DigestMismatch, VideoError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    "mp4": (".mp4", ".m4v"),
    "gif": (".gif",),
    "apng": (".apng", ".png"),
    "webp": (".webp",),
}
"""File name endings that fit a format, the usual one first."""

MAX_INLINE_BYTES: Final = 24 * 2**20
"""A larger video is not put into a notebook, which would hold it in its file."""


@dataclass(frozen=True)
class VideoData:
    """A video and all that is known about it. Sizes in pixels, times in milliseconds."""

    data: bytes = field(repr=False)
    """The file."""
    format: str
    width: int
    height: int
    frames_count: int
    fps: int
    duration_ms: int | None = None
    has_audio: bool = False
    audio_sample_rate: int | None = None
    audio_channels: int | None = None
    thumbnail: bytes | None = field(default=None, repr=False)
    """PNG of the first frame."""
    gif_preview: bytes | None = field(default=None, repr=False)
    """A small looping animation."""
    stage_count: int | None = None
    script: wire.ChainScript | None = field(default=None, repr=False)
    """What made it; sent again it gives the same video."""
    vram_estimate: wire.VramEstimate | None = None
    joins: tuple[wire.Join, ...] = field(default=(), repr=False)
    """How visible each boundary is."""
    sha256: str | None = None
    """Of the file (hex), as the server measured it."""
    chain_id: str | None = None
    gpu: int | None = None
    generation_time_ms: int | None = None
    seed_drawn: bool | None = None
    """Whether the server drew the seed."""

    @classmethod
    def from_complete(cls, event: wire.Complete) -> "VideoData":
        """The video of a ``complete`` event.

        Raises:
            VideoError: the event carries no video (a metadata-only stream).
            DigestMismatch: the video's SHA-256 is not the event's.
        """
        video = cls(
            data=event.video,
            format=event.format,
            width=event.width,
            height=event.height,
            frames_count=event.frames,
            fps=event.fps,
            duration_ms=event.duration_ms,
            has_audio=event.has_audio,
            audio_sample_rate=event.audio_sample_rate,
            audio_channels=event.audio_channels,
            thumbnail=event.thumbnail or None,
            gif_preview=event.gif_preview or None,
            stage_count=event.stage_count,
            script=event.script,
            vram_estimate=event.vram_estimate,
            joins=tuple(event.joins or ()),
            sha256=event.sha256,
            chain_id=event.chain_id,
            gpu=event.gpu,
            generation_time_ms=event.generation_time_ms,
            seed_drawn=event.seed_drawn,
        )
        video.verify()
        return video

    @classmethod
    def from_response(cls, response: wire.ChainResponse) -> "VideoData":
        """The video of the blocking endpoint's answer, its bytes base64 or arrays of integers.

        Raises:
            VideoError: there is no video in it, or an array holds something that is no byte.
        """
        video = response.video
        result = cls(
            data=_bytes(video.data, "data"),
            format=video.format,
            width=video.width,
            height=video.height,
            frames_count=video.frames,
            fps=video.fps,
            duration_ms=video.duration_ms,
            has_audio=video.has_audio,
            audio_sample_rate=video.audio_sample_rate,
            audio_channels=video.audio_channels,
            thumbnail=_bytes(video.thumbnail, "thumbnail") or None,
            gif_preview=_bytes(video.gif_preview, "gif_preview") or None,
            stage_count=response.stage_count,
            script=response.script,
            vram_estimate=response.vram_estimate,
            chain_id=response.chain_id,
            gpu=response.gpu,
        )
        result.verify()
        return result

    def verify(self) -> None:
        """Check that there is a video and, where the server measured it, its SHA-256.

        Raises:
            VideoError: there is no video.
            DigestMismatch: the digest differs.
        """
        if not self.data:
            raise VideoError("the payload carries no video: it was asked for with metadata only")
        if self.sha256 is None:
            return
        found = hashlib.sha256(self.data).hexdigest()
        if found != self.sha256.lower():
            raise DigestMismatch(f"the video's SHA-256 is {found}, the server measured {self.sha256}")

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file, whole or not at all; a file of that name is replaced. Returns the path.

        Raises:
            VideoError: the name's ending does not fit the format.
            OSError: it could not be written.
        """
        check_suffix(Path(path), self.format)
        return write_whole(Path(path), self.data)

    def save_thumbnail(self, path: str | os.PathLike[str]) -> Path:
        """Write the first frame as PNG, as :meth:`save` does.

        Raises:
            VideoError: there is no thumbnail, or the name does not end in ``.png``.
        """
        return _save_part(self.thumbnail, "thumbnail", Path(path), ".png")

    def save_gif(self, path: str | os.PathLike[str]) -> Path:
        """Write the preview as GIF, as :meth:`save` does.

        Raises:
            VideoError: there is no preview, or the name does not end in ``.gif``.
        """
        return _save_part(self.gif_preview, "gif preview", Path(path), ".gif")

    def _repr_html_(self) -> str:
        """The video for a notebook: a player, or the animation, with its facts below; nothing in it runs."""
        return player(self)

    def frames(self) -> "Iterator[NDArray[np.uint8]]":
        """Every frame in order as uint8 RGB ``[height, width, 3]``; decoded one by one.

        Raises:
            ImportError: the decoder is not installed; ``pip install 'longtake[frames]'`` brings it.
            VideoError: the file cannot be decoded.
        """
        return _frames_of_webp(self.data) if self.format == "webp" else _frames_by_pyav(self.data)


def player(video: VideoData) -> str:
    """HTML that shows a video by itself. One too large for a notebook's file is shown by its small preview."""
    whole = len(video.data) <= MAX_INLINE_BYTES
    facts = [
        f"{video.width} by {video.height}",
        f"{video.frames_count} frames",
        f"{video.frames_count / video.fps:.2f} s",
        "with sound" if video.has_audio else "without sound",
        "" if whole else f"{len(video.data) / 2**20:.0f} MiB: this is the preview, save() has the video",
    ]
    caption = f"<figcaption>{html.escape(' · '.join(filter(None, facts)))}</figcaption>"
    if whole and video.format == "mp4":
        poster = f' poster="{_data_url("image/png", video.thumbnail)}"' if video.thumbnail else ""
        source = _data_url("video/mp4", video.data)
        shown = f'<video controls loop style="max-width:100%"{poster} src="{source}"></video>'
    elif whole or video.gif_preview:
        kind, data = (f"image/{video.format}", video.data) if whole else ("image/gif", video.gif_preview or b"")
        shown = f'<img style="max-width:100%" alt="The video" src="{_data_url(kind, data)}">'
    else:
        shown = ""
    return f'<figure style="margin:0">{shown}{caption}</figure>'


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def check_suffix(path: Path, video_format: str) -> None:
    """Refuse a file name whose ending says another format than ``video_format``.

    Raises:
        VideoError: it does; the message names the endings that fit.
    """
    fitting = SUFFIXES.get(video_format, (f".{video_format}",))
    if path.suffix.lower() not in fitting:
        raise VideoError(
            f"{path.name}: a video in {video_format} is saved under a name ending in {' or '.join(fitting)}"
        )


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file under a name of its own beside ``path``, then rename it, so that no half file is ever seen."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _save_part(data: bytes | None, what: str, path: Path, suffix: str) -> Path:
    if data is None:
        raise VideoError(f"the server sent no {what}")
    if path.suffix.lower() != suffix:
        raise VideoError(f"{path.name}: a {what} is saved under a name ending in {suffix}")
    return write_whole(path, data)


def _bytes(value: bytes | list[int], name: str) -> bytes:
    try:
        return bytes(value)
    except ValueError as error:
        raise VideoError(f"video.{name} is no array of bytes: {error}") from error


def _missing(library: str, error: ImportError) -> ImportError:
    return ImportError(f"VideoData.frames() needs {library}: pip install 'longtake[frames]'", name=error.name)


def _frames_by_pyav(data: bytes) -> "Iterator[NDArray[np.uint8]]":
    try:
        import av
    except ImportError as error:
        raise _missing("PyAV", error) from error

    def decode() -> "Iterator[NDArray[np.uint8]]":
        try:
            with av.open(BytesIO(data), "r") as container:
                for frame in container.decode(video=0):
                    pixels: Any = frame.to_ndarray(format="rgb24")
                    yield pixels
        except (av.FFmpegError, IndexError) as error:
            raise VideoError(f"the video cannot be decoded: {error}") from error

    return decode()


def _frames_of_webp(data: bytes) -> "Iterator[NDArray[np.uint8]]":
    # FFmpeg's decoder reads still WebP only; Pillow reads the animation.
    try:
        import numpy as np
        from PIL import Image, ImageSequence
    except ImportError as error:
        raise _missing("Pillow and numpy", error) from error

    def decode() -> "Iterator[NDArray[np.uint8]]":
        try:
            with Image.open(BytesIO(data)) as image:
                for frame in ImageSequence.Iterator(image):
                    yield np.asarray(frame.convert("RGB"))
        except OSError as error:
            raise VideoError(f"the video cannot be decoded: {error}") from error

    return decode()
