"""The soundtrack: every stage's waveform at its place, joined, exactly as long as the frames.

Positions are samples of the timeline: video frame F begins at ``sample_at(F)``, whatever joins came before, so no error
adds up. A stage's waveform is laid down so that the first frame it shows falls on that frame's sample; which sample of
the waveform that is comes from the same rule within the clip. Between two stages lies one :class:`Join`; joins follow
each other without overlap, so at most two waveforms are heard at once, and a block needs at most two in memory.

* smooth: a 5 ms cross-fade that ends where the earlier waveform really ends (decoders give 30 to 45 ms less than the
  clip); from there the later clip's own dropped head is heard, which repeats the same moment of the film;
* cut (and smooth without a tail, which has no head to be heard): 2 ms out, 2 ms in;
* fade: a cross-fade over its length.

All ramps are linear: two waveforms within -1..1 never add up to more.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from longtake.wire import Transition
from longtake_facade.backend import Waveform
from longtake_facade.plan import Plan, StagePlan
from longtake_stages.geometry import sample_at

SMOOTH_MS: Final = 5
CUT_MS: Final = 2


@dataclass(frozen=True)
class Clock:
    """Frames and samples of one video."""

    rate: int
    fps: int

    def at(self, frame: int) -> int:
        """The sample at which a frame begins."""
        return sample_at(frame, self.rate, self.fps)

    def samples(self, milliseconds: int) -> int:
        """Samples in a time, at least one."""
        return max(1, round(milliseconds * self.rate / 1000))


@dataclass(frozen=True)
class Join:
    """How one stage's sound gives way to the next: the earlier is full until ``out_start``, gone from ``out_end``;
    the later is silent until ``in_start``, full from ``in_end``. Timeline samples, each pair in order.
    """

    out_start: int
    out_end: int
    in_start: int
    in_end: int

    @property
    def start(self) -> int:
        """Where the first of the two ramps begins."""
        return min(self.out_start, self.in_start)

    @property
    def end(self) -> int:
        """Where the last of the two ramps ends."""
        return max(self.out_end, self.in_end)


@dataclass(frozen=True)
class Voice:
    """A stage's waveform in the timeline: its sample 0 lies at ``origin``; outside of it there is silence."""

    origin: int
    waveform: Waveform

    @property
    def end(self) -> int:
        """Where in the timeline the waveform ends."""
        return self.origin + len(self.waveform)

    def between(self, start: int, end: int) -> Waveform:
        """float32 ``[end-start, channels]``."""
        heard = np.zeros((max(0, end - start), self.waveform.shape[1]), np.float32)
        first, last = max(start, self.origin), min(end, self.end)
        if first < last:
            heard[first - start : last - start] = self.waveform[first - self.origin : last - self.origin]
        return heard


def fit(waveform: Waveform, samples: int, ramp: int) -> Waveform:
    """``waveform`` (float32 ``[n, channels]``) with exactly ``samples`` samples, within -1..1.

    Too long: cut. Too short: its last ``ramp`` samples fade out, silence follows.
    """
    fitted = np.zeros((samples, waveform.shape[1]), np.float32)
    kept = min(samples, len(waveform))
    np.clip(waveform[:kept], -1, 1, out=fitted[:kept])
    if kept < samples:
        fade = min(ramp, kept)
        fitted[kept - fade : kept] *= 1 - rising(kept - fade, kept, kept - fade, kept)
    return fitted


def rising(start: int, end: int, ramp_start: int, ramp_end: int) -> Waveform:
    """Gains float32 ``[end-start, 1]`` of the samples from ``start``: 0 before the ramp, 1 after it, linear in it."""
    position = np.arange(start - ramp_start, end - ramp_start, dtype=np.float32)[:, None] + np.float32(0.5)
    return np.clip(position / np.float32(max(1, ramp_end - ramp_start)), 0, 1).astype(np.float32)


def origin_of(stage: StagePlan, clock: Clock) -> int:
    """The timeline sample of the waveform's sample 0 (before the stage's start where its head is dropped)."""
    return clock.at(stage.start) - clock.at(stage.drop)


def stage_sound(stage: StagePlan, waveform: Waveform, clock: Clock) -> Waveform:
    """The sound of the stage's body alone: float32 ``[sample_at(frames of the body), channels]``."""
    fitted = fit(waveform, clock.at(stage.frames), clock.samples(SMOOTH_MS))
    start = clock.at(stage.body.start)
    return Voice(0, fitted).between(start, start + clock.at(len(stage.body)))


def plan_joins(plan: Plan, lengths: list[int], clock: Clock) -> list[Join]:
    """The joins between the stages of a plan, given how many samples each waveform really has.

    Each begins at or after the end of the one before and none reaches over the end of the video, also where stages
    are shorter than the ramps.
    """
    total = clock.at(plan.total_frames)
    joins: list[Join] = []
    earliest = 0
    for before, stage in pairwise(plan.stages):
        real_end = origin_of(before, clock) + min(lengths[before.index], clock.at(before.frames))
        wanted = _join(stage, real_end, clock)
        points = (wanted.out_start, wanted.out_end, wanted.in_start, wanted.in_end)
        join = Join(*(min(max(point, earliest), total) for point in points))
        joins.append(join)
        earliest = join.end
    return joins


def _join(stage: StagePlan, real_end: int, clock: Clock) -> Join:
    boundary = clock.at(stage.start)
    if stage.transition is Transition.FADE:
        end = clock.at(stage.start + stage.fade_in)
        return Join(boundary, end, boundary, end)
    if not stage.smooth:
        ramp = clock.samples(CUT_MS)
        return Join(boundary - ramp, boundary, boundary, boundary + ramp)
    # The later clip can be heard from its own first sample on; where the earlier one ended before, there is silence.
    ramp = clock.samples(SMOOTH_MS)
    over = min(real_end, boundary)
    heard = max(over - ramp, origin_of(stage, clock))
    return Join(over - ramp, over, heard, over if heard < over else heard + ramp)


def soundtrack(plan: Plan, lengths: list[int], load: Callable[[int], Waveform], clock: Clock) -> Iterator[Waveform]:
    """The video's sound in blocks, in order: float32 ``[n, channels]`` within -1..1, in all ``sample_at(total)``.

    ``lengths``: how many samples each stage's waveform has; ``load`` reads one (float32 ``[n, channels]``, the same
    channels for all) and is called once a stage, in order.
    """
    total = clock.at(plan.total_frames)
    joins = plan_joins(plan, lengths, clock)
    voice = _voice(plan, 0, load, joins, clock)
    position = 0
    for i, join in enumerate(joins):
        yield voice.between(position, join.start)
        later = _voice(plan, i + 1, load, joins, clock)
        earlier_gain = 1 - rising(join.start, join.end, join.out_start, join.out_end)
        later_gain = rising(join.start, join.end, join.in_start, join.in_end)
        mixed = voice.between(join.start, join.end) * earlier_gain + later.between(join.start, join.end) * later_gain
        yield np.clip(mixed, -1, 1)
        voice, position = later, join.end
    yield voice.between(position, total)


def _voice(plan: Plan, i: int, load: Callable[[int], Waveform], joins: list[Join], clock: Clock) -> Voice:
    stage = plan.stages[i]
    waveform = load(i)
    fitted_to = clock.at(stage.frames)
    ramp = clock.samples(SMOOTH_MS)
    end = origin_of(stage, clock) + min(len(waveform), fitted_to)
    if i < len(joins) and joins[i].out_end <= end:
        ramp = 0  # the join's own ramp is over before the waveform ends
    return Voice(origin_of(stage, clock), fit(waveform, fitted_to, ramp))
