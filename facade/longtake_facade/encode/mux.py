"""Packets to the delivered mp4."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from longtake_facade.artifacts import EncodeError
from longtake_facade.backend import Waveform
from longtake_facade.encode.video import Piece, encoding, reading

AAC_BITS_PER_CHANNEL: Final = 96_000


@dataclass(frozen=True)
class _Scanned:
    """What must be known of a piece before its packets are copied."""

    path: Path
    frames: list[int]
    """Presentation index of every packet, in decode order."""
    extradata: bytes | None
    size: tuple[int, int]


def _scan(piece: Piece, fps: int) -> _Scanned:
    path = piece.path
    with reading(path) as (container, stream), encoding(path.name):
        frames = [index for index, _ in _indexed(container, stream, fps)]
        context = stream.codec_context
        scanned = _Scanned(path, frames, context.extradata, (context.width, context.height))
    piece.check(len(frames))
    if sorted(frames) != list(range(len(frames))):
        raise EncodeError(f"{path.name} is damaged: its frames are not whole")
    return scanned


def _indexed(
    container: InputContainer, stream: VideoStream, fps: int
) -> Iterator[tuple[int, "av.Packet[VideoStream]"]]:
    for packet in container.demux(stream):
        if packet.size:
            if packet.pts is None or packet.is_corrupt or stream.time_base is None:
                raise EncodeError(f"{Path(container.name).name} is damaged")
            yield round(packet.pts * stream.time_base * fps), packet


@dataclass(frozen=True)
class Sound:
    """A soundtrack: float32 blocks ``[n, channels]`` in order, of any lengths."""

    rate: int
    channels: int
    blocks: Iterator[Waveform]


@dataclass(frozen=True)
class Remuxed:
    """What a file turned out to hold."""

    frames: int
    width: int
    height: int
    samples: int


def remux(
    pieces: Sequence[Piece], sound: Sound | None, fps: int, out: Path, progress: Callable[[int, int], None]
) -> Remuxed:
    """Concatenate H.264 pieces by their packets into ``out`` (mp4, faststart), with the sound encoded as AAC beside.

    Decode times run over the whole file: packet k in decode order gets k-D, where D is the longest any packet is
    decoded ahead of its presentation. So pieces of one or two frames, whose own encoder saw no need to reorder, fit.

    Raises:
        EncodeError: a piece is damaged, or was encoded with other parameters; AAC does not take the sound's rate.
    """
    scanned = [_scan(piece, fps) for piece in pieces]
    _same_parameters(scanned)
    total = sum(len(piece.frames) for piece in scanned)
    delay = _delay(scanned)
    timescale = lcm(fps, sound.rate) if sound else fps
    options = {"movflags": "+faststart", "movie_timescale": str(timescale)}
    with encoding(out.name), av.open(str(out), "w", format="mp4", options=options) as container, ExitStack() as stack:
        _, template = stack.enter_context(reading(pieces[0].path))
        video = container.add_stream_from_template(template)
        video.time_base = Fraction(1, fps)
        track = _AacTrack(container, sound) if sound else None
        for done, packet in enumerate(_timed_packets(scanned, fps, delay)):
            packet.stream = video
            if track:
                track.fill(Fraction(done, fps))
            container.mux_one(packet)
            progress(done + 1, total)
        if track:
            track.close()
    width, height = scanned[0].size
    return Remuxed(total, width, height, track.samples if track else 0)


def _same_parameters(pieces: Sequence[_Scanned]) -> None:
    for piece in pieces:
        if piece.extradata != pieces[0].extradata or piece.size != pieces[0].size:
            raise EncodeError(f"{piece.path.name} was encoded with other parameters than the rest of the video")


def _delay(pieces: Sequence[_Scanned]) -> int:
    return max((k - index for piece in pieces for k, index in enumerate(piece.frames)), default=0)


def _timed_packets(pieces: Sequence[_Scanned], fps: int, delay: int) -> Iterator["av.Packet[VideoStream]"]:
    offset = 0
    for piece in pieces:
        with reading(piece.path) as (container, stream), encoding(piece.path.name):
            for k, (index, packet) in enumerate(_indexed(container, stream, fps)):
                packet.time_base = Fraction(1, fps)
                packet.pts, packet.dts, packet.duration = offset + index, offset + k - delay, 1
                yield packet
        offset += len(piece.frames)


class _AacTrack:
    """Encodes sound as far as the video has come, so that the muxer holds little of either."""

    def __init__(self, container: OutputContainer, sound: Sound) -> None:
        check_audio(sound.rate, sound.channels)
        layout = "mono" if sound.channels == 1 else "stereo"
        self._container = container
        self._sound = sound
        self._stream: AudioStream = container.add_stream("aac", rate=sound.rate, layout=layout, format="fltp")
        self._stream.bit_rate = min(AAC_BITS_PER_CHANNEL, 6 * sound.rate) * sound.channels
        self._layout = layout
        self._pending = np.zeros((0, sound.channels), np.float32)
        self.samples = 0
        """Encoded so far."""

    def fill(self, until: Fraction) -> None:
        """Encode what is heard before ``until`` seconds, and what is needed to fill the last packet."""
        context: AudioCodecContext = self._stream.codec_context
        if not context.is_open:
            context.open()
        step = context.frame_size
        while self.samples < until * self._sound.rate and self._gather(step):
            self._encode(step)

    def close(self) -> None:
        """Encode the rest."""
        self.fill(Fraction(2**62))
        self._container.mux(self._stream.encode(None))

    def _gather(self, samples: int) -> bool:
        while len(self._pending) < samples:
            block = next(self._sound.blocks, None)
            if block is None:
                break
            self._pending = np.concatenate([self._pending, block])
        return len(self._pending) > 0

    def _encode(self, samples: int) -> None:
        block, self._pending = self._pending[:samples], self._pending[samples:]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._sound.rate, self.samples, Fraction(1, self._sound.rate)
        self.samples += len(block)
        self._container.mux(self._stream.encode(frame))


def check_audio(rate: int, channels: int) -> None:
    """Whether AAC takes this sound.

    Raises:
        EncodeError: it does not.
    """
    rates = av.Codec("aac", "w").audio_rates or []
    if rate not in rates:
        raise EncodeError(f"AAC does not take {rate} samples per second, only {', '.join(map(str, sorted(rates)))}")
    if channels not in (1, 2):
        raise EncodeError(f"a waveform has {channels} channels; one and two are supported")
