"""Frames to pieces and back.

Pieces of an mp4 are encoded with the very same x264 parameters, each a closed sequence of pictures that begins with a
key frame, so that their packets under one common header are the video (:func:`longtake_facade.encode.mux.remux`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Final, Protocol

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from longtake_facade.artifacts import EncodeError, VideoSpec
from longtake_facade.backend import Pixels

# Of the presets at 1216x704, medium with a short lookahead gave the smallest pieces in two thirds of the memory of
# the default lookahead. The number of threads is part of the result (x264 is deterministic for a given number).
X264: Final = {"preset": "medium", "crf": "18", "rc-lookahead": "10", "threads": "2"}
BT709: Final = 1  # AVCOL_PRI_BT709, AVCOL_TRC_BT709 and AVCOL_SPC_BT709
LIMITED: Final = 1  # AVCOL_RANGE_MPEG
DECODER_THREADS: Final = 2


@contextmanager
def encoding(what: str) -> Iterator[None]:
    """Turn what PyAV and the disk raise into an EncodeError that names ``what`` was being made or read."""
    try:
        yield
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "invalid data"
        raise EncodeError(f"{what}: {reason}") from error


class FrameWriter(Protocol):
    """Encodes frames into a file; to be closed, or the file is of no use."""

    def write(self, frame: Pixels) -> None:
        """Add the next frame."""

    def close(self) -> None:
        """Encode what is pending and finish the file."""

    def abort(self) -> None:
        """Let go of the file as it is; harmless after :meth:`close`."""


class ContainerWriter(ABC):
    """A file of one video stream."""

    def __init__(self, path: Path, spec: VideoSpec, container: OutputContainer, stream: VideoStream) -> None:
        self._name = path.name
        self._spec = spec
        self._container = container
        self._stream = stream
        self._time_base = Fraction(1, spec.fps)
        self._count = 0

    def write(self, frame: Pixels) -> None:
        """Add the next frame (uint8, in the spec's pixel format)."""
        with encoding(self._name):
            picture = self._picture(frame)
            picture.pts, picture.time_base = self._count, self._time_base
            self._container.mux(self._stream.encode(picture))
        self._count += 1

    def close(self) -> None:
        """Encode what is pending and finish the file."""
        with encoding(self._name):
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def abort(self) -> None:
        """Let go of the file; what was written stays as it is."""
        # The file is thrown away, so it does not matter that its end cannot be written.
        with suppress(av.FFmpegError, OSError):
            self._container.close()

    @abstractmethod
    def _picture(self, frame: Pixels) -> VideoFrame:
        """The frame as the encoder takes it."""


class H264Writer(ContainerWriter):
    """Frames in either pixel format to a piece of H.264, yuv420p, tagged BT.709 limited, without faststart."""

    def __init__(self, path: Path, spec: VideoSpec) -> None:
        with encoding(path.name):
            container = av.open(str(path), "w", format="mp4")
            options = X264 | _steady_code() | {"g": str(2 * spec.fps)}
            stream = container.add_stream("libx264", rate=spec.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = LIMITED
        context.time_base = Fraction(1, spec.fps)
        super().__init__(path, spec, container, stream)

    def _picture(self, frame: Pixels) -> VideoFrame:
        if self._spec.pixel_format == "yuv420p":
            return VideoFrame.from_ndarray(frame[:, :, 0], format="yuv420p")
        rgb = VideoFrame.from_ndarray(frame, format="rgb24")
        return rgb.reformat(format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG")


class LosslessWriter(ContainerWriter):
    """RGB frames to FFV1 in Matroska, every frame a key frame."""

    def __init__(self, path: Path, spec: VideoSpec) -> None:
        with encoding(path.name):
            container = av.open(str(path), "w", format="matroska")
            options = {"level": "3", "slices": "4", "threads": "2", "g": "1"}
            stream = container.add_stream("ffv1", rate=spec.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "bgr0"
        stream.codec_context.time_base = Fraction(1, spec.fps)
        super().__init__(path, spec, container, stream)

    def _picture(self, frame: Pixels) -> VideoFrame:
        return VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")


@cache
def _steady_code() -> dict[str, str]:
    """Keep x264 from its AVX-512 code, whose macroblock tree gave other pictures run by run (core 165).

    AVX2 and below give the same every time. Named only where AVX-512 is: x264 does not check what it is told.
    """
    cpu = Path("/proc/cpuinfo")
    return {"x264-params": "asm=AVX2"} if cpu.exists() and "avx512f" in cpu.read_text() else {}


def piece_writer(path: Path, spec: VideoSpec) -> FrameWriter:
    """The writer of what the video of this spec is made of: H.264, or lossless RGB."""
    return H264Writer(path, spec) if spec.format == "mp4" else LosslessWriter(path, spec)


@dataclass(frozen=True)
class Piece:
    """A file with a part of the video, and how many frames it should hold."""

    path: Path
    frames: int
    colours: Sequence[Pixels] = ()
    """Small RGB copies of some of its frames, of one size; at least one where the video is a gif."""

    def check(self, frames: int) -> None:
        """Compare with what the file turned out to hold.

        Raises:
            EncodeError: it has more frames, or fewer.
        """
        if frames != self.frames:
            raise EncodeError(f"{self.path.name} holds {frames} frames instead of {self.frames}")


@contextmanager
def reading(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """An open video file and its video stream. What is read of it is to be guarded by :func:`encoding`.

    Raises:
        EncodeError: it cannot be opened or holds no video.
    """
    with encoding(path.name):
        opened = av.open(str(path))
    with opened as container:
        if not container.streams.video:
            raise EncodeError(f"{path.name} holds no video")
        yield container, container.streams.video[0]


def rgb_frames(path: Path) -> Iterator[Pixels]:
    """The frames of a piece as uint8 RGB ``[h, w, 3]`` (H.264 by its BT.709 tags), one at a time."""
    with reading(path) as (container, stream), encoding(path.name):
        stream.codec_context.thread_count = DECODER_THREADS
        for frame in container.decode(stream):
            yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def first_frame(path: Path) -> Pixels:
    """The first frame of a piece, uint8 RGB ``[h, w, 3]``.

    Raises:
        EncodeError: there is none.
    """
    for frame in rgb_frames(path):
        return frame
    raise EncodeError(f"{path.name} holds no frames")
