"""From the artifacts of stages to the delivered file.

Each stage is encoded once, while its frames arrive (:class:`StageWriter`); a fade when both sides are there
(:func:`encode_fade`); the video at the end is put together of these pieces (:func:`assemble`). Memory holds a window
of frames, never a clip.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longtake import wire
from longtake_facade import animation, encode
from longtake_facade.artifacts import (
    FADE_IN,
    FADE_OUT,
    EncodeError,
    VideoSpec,
    load_waveform,
    stored_frames,
)
from longtake_facade.audio import Clock, soundtrack
from longtake_facade.backend import Pixels, Waveform
from longtake_facade.measures import Measures, Sampler
from longtake_facade.pixels import REPORT_PIXELS, blend, colour_shift, frame_jump, small_rgb
from longtake_facade.plan import Plan
from longtake_facade.stage_writer import StageWriter

__all__ = ["Delivery", "EncodeError", "StageWriter", "VideoSpec", "assemble", "encode_fade"]


def encode_fade(before: Path, after: Path, folder: Path, plan: Plan, index: int, spec: VideoSpec) -> None:
    """Blend the held back frames of stage ``index-1`` (``before``) and stage ``index`` (``after``) into ``folder``.

    Blocks.

    Raises:
        EncodeError: frames are missing or damaged, or encoding failed.
    """
    n = plan.stages[index].fade_in
    sampler = Sampler(spec.fps, {0, n - 1, fade_middle(n) - 1, fade_middle(n)})
    writer = encode.piece_writer(folder / spec.fade_piece, spec)
    try:
        sides = _sides(before / FADE_OUT, after / FADE_IN, spec, n)
        for i, (outgoing, incoming) in enumerate(sides):
            frame = blend(outgoing, incoming, i, n, spec.pixel_format)
            sampler.add(small_rgb(frame, spec, REPORT_PIXELS))
            writer.write(frame)
        writer.close()
    finally:
        writer.abort()
    sampler.measures(0.0, 0).save(folder)


def _sides(before: Path, after: Path, spec: VideoSpec, n: int) -> Iterator[tuple[Pixels, Pixels]]:
    count = 0
    for pair in zip(stored_frames(before, spec.frame_shape), stored_frames(after, spec.frame_shape), strict=True):
        count += 1
        yield pair
    if count != n:
        raise EncodeError(f"{count} frames were held back for a fade of {n}")


def fade_middle(n: int) -> int:
    """Which of a fade's ``n`` frames is the first after its middle; 1 also where there is but one frame."""
    return (n + 1) // 2


# ---------------------------------------------------------------------------------------------------------- the video


@dataclass(frozen=True)
class Delivery:
    """What the delivered file is, measured from what was encoded."""

    frames: int
    width: int
    height: int
    fps: int
    has_audio: bool
    audio_sample_rate: int
    audio_channels: int
    joins: list[wire.Join]


@dataclass(frozen=True)
class _Piece:
    path: Path
    start: int
    """In the video."""
    measures: Measures


def assemble(
    plan: Plan,
    stages: Sequence[Path],
    fades: Mapping[int, Path],
    spec: VideoSpec,
    *,
    audio: bool,
    out: Path,
    progress: Callable[[int, int], None],
) -> Delivery:
    """Make ``video.<format>``, ``thumbnail.png`` and ``preview.gif`` in ``out`` of the stages' and fades' artifacts.

    ``stages``: a folder per stage. ``fades``: a folder per stage that begins with a fade, by its index. ``audio``:
    whether to take the stages' sound along; only an mp4 has any. ``progress(frames, total)`` is called as frames come
    into the file; what it raises ends the work. Blocks. The files are there whole or not at all.

    Raises:
        EncodeError: an artifact is missing, damaged or does not fit, or encoding failed.
    """
    measures = [Measures.load(folder) for folder in stages]
    pieces = _pieces(plan, stages, measures, fades, spec)
    sound = _sound(plan, stages, measures, spec) if audio and spec.format == "mp4" else None
    video = out / f"video.{spec.format}"
    parts = {
        out / f"{path.stem}.part{path.suffix}": path for path in (video, out / "thumbnail.png", out / "preview.gif")
    }
    video_part, thumbnail_part, preview_part = parts
    try:
        with encode.encoding("the video"):
            made = _make(spec, pieces, sound, video_part, progress)
            if made.frames != plan.total_frames:
                raise EncodeError(f"the video has {made.frames} frames instead of {plan.total_frames}")
            animation.write_thumbnail(encode.first_frame(pieces[0].path), thumbnail_part)
            animation.write_preview(_previews(pieces), made.frames, spec.fps, preview_part)
            joins = _joins(plan, pieces, measures)
            for part, path in reversed(parts.items()):
                part.replace(path)
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return Delivery(
        frames=made.frames,
        width=made.width,
        height=made.height,
        fps=spec.fps,
        has_audio=sound is not None,
        audio_sample_rate=sound.rate if sound else 0,
        audio_channels=sound.channels if sound else 0,
        joins=joins,
    )


def _pieces(
    plan: Plan, stages: Sequence[Path], measures: Sequence[Measures], fades: Mapping[int, Path], spec: VideoSpec
) -> list[_Piece]:
    pieces: list[_Piece] = []
    for stage, folder, measured in zip(plan.stages, stages, measures, strict=True):
        if stage.fade_in:
            fade = fades[stage.index]
            pieces.append(_Piece(fade / spec.fade_piece, stage.start, Measures.load(fade)))
        if stage.body:
            pieces.append(_Piece(folder / spec.piece, stage.body_start, measured))
    return pieces


def _make(
    spec: VideoSpec,
    pieces: Sequence[_Piece],
    sound: encode.Sound | None,
    out: Path,
    progress: Callable[[int, int], None],
) -> encode.Remuxed:
    files = [encode.Piece(piece.path, piece.measures.frames, piece.measures.colours()) for piece in pieces]
    if spec.format == "mp4":
        return encode.remux(files, sound, spec.fps, out, progress)
    return encode.encode_animation(files, spec, out, progress)


def _sound(plan: Plan, stages: Sequence[Path], measures: Sequence[Measures], spec: VideoSpec) -> encode.Sound | None:
    rates = {measured.sample_rate for measured in measures if measured.sample_rate}
    if not rates:
        return None
    shapes = [waveform.shape if (waveform := load_waveform(folder)) is not None else (0, 0) for folder in stages]
    channels = {count for _, count in shapes if count}
    if len(rates) > 1 or len(channels) > 1:
        raise EncodeError("the stages' sounds differ in sample rate or channels")
    (rate,), (width,) = rates, channels

    def load(i: int) -> Waveform:
        waveform = load_waveform(stages[i])
        return np.zeros((0, width), np.float32) if waveform is None else waveform

    lengths = [length for length, _ in shapes]
    return encode.Sound(rate, width, soundtrack(plan, lengths, load, Clock(rate, spec.fps)))


def _previews(pieces: Sequence[_Piece]) -> list[tuple[int, Pixels]]:
    return [
        (piece.start + at, frame)
        for piece in pieces
        for at, frame in zip(piece.measures.preview_at, piece.measures.previews, strict=True)
    ]


def _joins(plan: Plan, pieces: Sequence[_Piece], measures: Sequence[Measures]) -> list[wire.Join]:
    frames = {
        piece.start + at: frame
        for piece in pieces
        for at, frame in zip(piece.measures.joint_at, piece.measures.joints, strict=True)
    }
    joins = []
    for stage in plan.stages[1:]:
        boundary = stage.start + (fade_middle(stage.fade_in) if stage.fade_in else 0)
        before, after = frames[boundary - 1], frames[boundary]
        joins.append(
            wire.Join(
                stage_idx=stage.index,
                transition=stage.transition,
                colour_shift=round(colour_shift(before, after), 3),
                frame_jump=round(frame_jump(before, after), 3),
                inner_jump=round(measures[stage.index].inner_jump, 3),
            )
        )
    return joins
