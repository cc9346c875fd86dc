"""Pieces to an animated image: they are decoded one frame at a time and encoded anew as one file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from longtake_facade.animation import WebpFile, delays
from longtake_facade.artifacts import EncodeError, VideoSpec
from longtake_facade.backend import Pixels
from longtake_facade.encode.mux import Remuxed
from longtake_facade.encode.video import ContainerWriter, FrameWriter, Piece, encoding, rgb_frames

GIF_UNITS: Final = 100  # a GIF counts time in hundredths of a second
WEBP_UNITS: Final = 1000
WEBP_QUALITY: Final = "80"
# An ordered pattern stays where it is from frame to frame; diffused errors crawl.
GIF_DITHER: Final = "dither=bayer:bayer_scale=3:diff_mode=rectangle"


def encode_animation(
    pieces: Sequence[Piece], spec: VideoSpec, out: Path, progress: Callable[[int, int], None]
) -> Remuxed:
    """Encode the frames of lossless pieces as one gif, apng or webp that loops for ever; every frame is kept.

    Memory holds a few frames; FFmpeg's gif and apng and the WebP file here are written as they grow.

    Raises:
        EncodeError: a piece is missing or damaged.
    """
    total = sum(piece.frames for piece in pieces)
    writer = _writer(out, spec, pieces, total)
    done = 0
    try:
        for done, frame in enumerate(_whole(pieces, spec), 1):
            writer.write(frame)
            progress(done, total)
        writer.close()
    finally:
        writer.abort()
    return Remuxed(done, spec.width, spec.height, 0)


def _whole(pieces: Sequence[Piece], spec: VideoSpec) -> Iterator[Pixels]:
    """The frames of all pieces, checked to be as many and as large as they should."""
    for piece in pieces:
        count = 0
        for frame in rgb_frames(piece.path):
            count += 1
            if frame.shape != spec.frame_shape:
                raise EncodeError(f"{piece.path.name} holds frames of another size")
            if count <= piece.frames:
                yield frame
        piece.check(count)


def _writer(out: Path, spec: VideoSpec, pieces: Sequence[Piece], total: int) -> FrameWriter:
    if spec.format == "gif":
        return GifWriter(out, spec, pieces, total)
    if spec.format == "webp":
        return WebpWriter(out, spec, total)
    return ApngWriter(out, spec)


class ApngWriter(ContainerWriter):
    """RGB frames to an animated PNG: lossless, equal neighbours stay separate frames."""

    def __init__(self, path: Path, spec: VideoSpec) -> None:
        with encoding(path.name):
            container = av.open(str(path), "w", format="apng", options={"plays": "0"})
            stream = container.add_stream("apng", rate=spec.fps, options={"pred": "mixed"})
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "rgb24"
        stream.codec_context.time_base = Fraction(1, spec.fps)
        super().__init__(path, spec, container, stream)

    def _picture(self, frame: Pixels) -> VideoFrame:
        return VideoFrame.from_ndarray(frame, format="rgb24")


class GifWriter:
    """RGB frames to a GIF, every piece with 255 colours of its own.

    Delays are whole hundredths of a second that add up to the video's length. Above 50 frames per second many players
    slow such short delays down; above 100 the format cannot show every frame in time, and each gets one hundredth.
    """

    def __init__(self, path: Path, spec: VideoSpec, pieces: Sequence[Piece], total: int) -> None:
        self._name = path.name
        self._spec = spec
        self._delays = iter(delays(total, spec.fps, GIF_UNITS))
        self._pieces = iter(pieces)
        self._left = 0
        self._time = 0
        self._colours: _Colours | None = None
        with encoding(path.name):
            self._container = av.open(str(path), "w", format="gif", options={"loop": "0"})
            self._stream = self._container.add_stream("gif", rate=spec.fps)
        self._stream.width, self._stream.height, self._stream.pix_fmt = spec.width, spec.height, "pal8"
        self._stream.codec_context.time_base = Fraction(1, GIF_UNITS)

    def write(self, frame: Pixels) -> None:
        """Add the next frame."""
        with encoding(self._name):
            if self._colours is None or not self._left:
                self._finish_piece()
                piece = next(self._pieces)
                self._left = piece.frames
                self._colours = _Colours(self._spec, piece.colours)
            self._left -= 1
            self._mux(self._colours.reduce(frame))

    def close(self) -> None:
        """Encode what is pending and finish the file."""
        with encoding(self._name):
            self._finish_piece()
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def abort(self) -> None:
        """Let go of the file."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()

    def _finish_piece(self) -> None:
        if self._colours:
            self._mux(self._colours.rest())

    def _mux(self, frames: Iterator[VideoFrame]) -> None:
        for frame in frames:
            delay = next(self._delays)
            frame.pts, frame.time_base, frame.duration = self._time, Fraction(1, GIF_UNITS), delay
            self._time += delay
            self._container.mux(self._stream.encode(frame))


class _Colours:
    """Reduces the frames of one piece to its palette, by FFmpeg's palettegen and paletteuse."""

    def __init__(self, spec: VideoSpec, samples: Sequence[Pixels]) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        self._frames = self._graph.add("buffer", _source(spec.width, spec.height, "rgb0"))
        palette = self._graph.add("buffer", _source(16, 16, "bgra"))
        use = self._graph.add("paletteuse", GIF_DITHER)
        self._sink = self._graph.add("buffersink")
        self._frames.link_to(use, 0, 0)
        palette.link_to(use, 0, 1)
        use.link_to(self._sink)
        self._graph.configure()
        palette.push(_palette(samples))
        palette.push(None)
        self._count = 0

    def reduce(self, frame: Pixels) -> Iterator[VideoFrame]:
        """Take an RGB frame; give those that are ready, as pal8."""
        picture = VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="rgb0")
        picture.pts = self._count
        self._count += 1
        self._frames.push(picture)
        yield from _ready(self._sink)

    def rest(self) -> Iterator[VideoFrame]:
        """Give what is left."""
        self._frames.push(None)
        yield from _ready(self._sink)


def _source(width: int, height: int, pixel_format: str) -> str:
    return f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base=1/1:pixel_aspect=1/1"


def _ready(sink: FilterContext) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = sink.pull()
        except (av.BlockingIOError, av.EOFError):  # more input is needed; there is no more
            return
        assert isinstance(frame, VideoFrame)
        yield frame


def _palette(samples: Sequence[Pixels]) -> VideoFrame:
    height, width, _ = samples[0].shape
    graph = Graph()
    source = graph.add("buffer", _source(width, height, "rgb0"))
    generate = graph.add("palettegen", "max_colors=256:reserve_transparent=1:stats_mode=full")
    sink = graph.add("buffersink")
    source.link_to(generate)
    generate.link_to(sink)
    graph.configure()
    for i, sample in enumerate(samples):
        picture = VideoFrame.from_ndarray(sample, format="rgb24").reformat(format="rgb0")
        picture.pts = i
        source.push(picture)
    source.push(None)
    (palette,) = _ready(sink)
    palette.pts = 0
    return palette


class WebpWriter:
    """RGB frames to an animated WebP (lossy, quality 80), every one of them whole."""

    def __init__(self, path: Path, spec: VideoSpec, total: int) -> None:
        self._name = path.name
        self._delays = iter(delays(total, spec.fps, WEBP_UNITS))
        with encoding(path.name):
            self._context: VideoCodecContext = av.CodecContext.create("libwebp", "w")
            self._file = WebpFile(path, spec.width, spec.height)
        self._context.width, self._context.height, self._context.pix_fmt = spec.width, spec.height, "bgra"
        self._context.time_base = Fraction(1, spec.fps)
        self._context.options = {"quality": WEBP_QUALITY}

    def write(self, frame: Pixels) -> None:
        """Add the next frame."""
        with encoding(self._name):
            for packet in self._context.encode(VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgra")):
                self._file.add(bytes(packet), next(self._delays))

    def close(self) -> None:
        """Finish the file."""
        with encoding(self._name):
            self._file.close()

    def abort(self) -> None:
        """Let go of the file."""
        self._file.abort()
