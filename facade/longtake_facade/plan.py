"""Which frames of which clip become which frames of the video: the one formula for lengths.

The estimate before a chain runs, the stitcher and the page's timeline all read the same :class:`Plan`::

    clip of stage i, f frames:   | drop h | fade-in a |      body      | fade-out b | trim t |
    video:                                 [fade i: a] [    body i    ] [fade i+1: b]

``h`` frames repeat the tail that conditioned a smooth stage, ``a`` frames are blended with the ``fade_out`` of the
stage before, ``t`` frames at the very end make a requested length exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from longtake.wire import Transition


@dataclass(frozen=True)
class Shot:
    """What the plan needs to know of a stage: its clip's length, how it joins, and the length of its fade."""

    frames: int
    transition: Transition
    fade_frames: int


@dataclass(frozen=True)
class StagePlan:
    """What becomes of one clip. All numbers are frames."""

    index: int
    frames: int
    """Length of the clip."""
    transition: Transition
    drop: int
    """At the head: the repeated tail of the stage before."""
    fade_in: int
    """After ``drop``: blended with the ``fade_out`` of the stage before."""
    fade_out: int
    """Before ``trim``: blended with the ``fade_in`` of the stage after."""
    trim: int
    """At the end: cut away to make the requested length."""
    start: int
    """Where in the video the stage begins, its fade-in included."""
    tail: int
    """How many of the clip's last frames condition the stage after."""

    @property
    def body(self) -> range:
        """Indices in the clip of the frames that are shown as they are."""
        return range(self.drop + self.fade_in, self.frames - self.fade_out - self.trim)

    @property
    def body_start(self) -> int:
        """Where in the video the body begins."""
        return self.start + self.fade_in

    @property
    def output_frames(self) -> int:
        """What the stage adds to the video: its fade-in and its body."""
        return self.fade_in + len(self.body)

    @property
    def smooth(self) -> bool:
        """Whether the stage is conditioned on the one before."""
        return self.drop > 0


@dataclass(frozen=True)
class Plan:
    """The whole timeline."""

    stages: tuple[StagePlan, ...]
    takes: tuple[tuple[int, ...], ...]
    """Indices of stages, in order; stages of one take depend on each other, takes do not."""
    total_frames: int


FaultField = Literal["fade_frames", "total_frames"]


@dataclass
class StitchFault(Exception):
    """The stages cannot be stitched as asked. ``stage``: whose ``field`` is to blame."""

    stage: int
    field: FaultField
    message: str

    def __str__(self) -> str:
        return self.message


def full_length(shots: Sequence[Shot], motion_tail_frames: int) -> int:
    """The length formula: ``f0`` plus, of later stages, ``f-K`` (smooth), ``f`` (cut) or ``f-n`` (fade)."""
    lost = [
        {Transition.SMOOTH: motion_tail_frames, Transition.CUT: 0, Transition.FADE: shot.fade_frames}[shot.transition]
        for shot in shots[1:]
    ]
    return sum(shot.frames for shot in shots) - sum(lost)


def plan(shots: Sequence[Shot], motion_tail_frames: int, total_frames: int | None = None) -> Plan:
    """Lay out a video of ``shots``, trimmed at its end to ``total_frames`` where that is given.

    Raises:
        StitchFault: ``h+a+b+t <= f`` fails for a stage, or ``h+a+t <= f-1`` for the last; names the field to blame.
    """
    length = full_length(shots, motion_tail_frames)
    total = length if total_frames is None else total_frames
    trim = length - total
    stages: list[StagePlan] = []
    start = 0
    for i, shot in enumerate(shots):
        after = shots[i + 1] if i + 1 < len(shots) else None
        stage = StagePlan(
            index=i,
            frames=shot.frames,
            transition=shot.transition,
            drop=motion_tail_frames if i and shot.transition is Transition.SMOOTH else 0,
            fade_in=shot.fade_frames if i and shot.transition is Transition.FADE else 0,
            fade_out=after.fade_frames if after and after.transition is Transition.FADE else 0,
            trim=0 if after else trim,
            start=start,
            tail=motion_tail_frames if after and after.transition is Transition.SMOOTH else 0,
        )
        _check(stage, last=after is None)
        stages.append(stage)
        start += stage.output_frames
    return Plan(stages=tuple(stages), takes=_takes(stages), total_frames=total)


def _check(stage: StagePlan, *, last: bool) -> None:
    i, f, h, a, b, t = stage.index, stage.frames, stage.drop, stage.fade_in, stage.fade_out, stage.trim
    if h + a > f - (1 if last else 0):
        raise StitchFault(i, "fade_frames", f"stage {i} has {f} frames, too few for a fade of {a} into it")
    if h + a + b > f:
        left = f"{f - h - a} of its {f} frames are left"
        raise StitchFault(i + 1, "fade_frames", f"the fade of {b} frames out of stage {i} is too long: {left}")
    if h + a + b + t > f - (1 if last else 0):
        raise StitchFault(i, "total_frames", f"{t} frames would be cut from the end, stage {i} has too few")


def _takes(stages: Sequence[StagePlan]) -> tuple[tuple[int, ...], ...]:
    takes: list[list[int]] = []
    for stage in stages:
        if stage.smooth:
            takes[-1].append(stage.index)
        else:
            takes.append([stage.index])
    return tuple(map(tuple, takes))
