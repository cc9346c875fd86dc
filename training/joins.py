"""Smooth joins on trial: chains of two clips, the second begun with the last frames of the first."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training import captions, world
from training.measures import Clip, Reading, centres, difference, read
from training.scores import Miss, Row
from training.served import as_clips
from training.trials import Bench, Case, Stream, found, has_room, seed, wanted
from training.world import FRAMES, MOTIONS, Floats, Ints

TAIL: Final = 17
"""Frames of the first clip that the second begins with, and that are dropped from it."""
_KEYFRAMES: Final = (FRAMES - 1) // world.KEYFRAME_STEP + 1
_FRAMES: Final = TAIL + FRAMES - 1
_TRIES: Final = 500
_SHOWN: Final = 3
_GOAL: Final = 1.5
_TAKEN_OVER_GOAL: Final = 0.8


class Change(enum.StrEnum):
    """What of the prompt changes at the join."""

    NOTHING = "the same prompt"
    MOTION = "another motion"
    EVERYTHING = "another scene"


@dataclass(frozen=True)
class Join:
    """Two clips joined: what is seen of the second one is ``new``, ``[24, height, width, 3]``.

    ``jump`` is the difference (0..1) across the join, ``inner`` the mean one from frame to frame inside both clips,
    ``again`` that of the first clip's last frame to the second clip's own picture of it (which is dropped), ``cut``
    that to a clip of the second prompt that continues nothing; ``moved`` the distance in pixels between the shape's
    centres of gravity across the join. ``reading`` has its motion from the whole of ``new`` and the
    rest from its last frame; ``readable`` is whether the shape had room to show the motion.
    """

    change: Change
    attributes: Ints
    caption: str
    before: Clip
    new: Clip
    jump: float
    inner: float
    again: float
    cut: float
    moved: float
    reading: Reading
    last: Reading
    readable: bool


def smooth_joins(bench: Bench, cases: Sequence[Case]) -> None:
    """Continue the first ``cases`` with the same prompt, another motion, and another scene."""
    joins = [_join(bench, case, change, n) for n, case in enumerate(cases[: bench.few]) for change in Change]
    kinds = {change: [join for join in joins if join.change is change] for change in Change}
    changed = [join for join in joins if join.change is not Change.NOTHING]
    _add_jumps(bench, "smooth join, the same prompt", kinds[Change.NOTHING], _GOAL)
    _add_jumps(bench, "smooth join, a changed prompt", changed, _GOAL)
    for change in (Change.MOTION, Change.EVERYTHING):
        _add_jumps(bench, f"smooth join, {change}", kinds[change], None)
    _add_taken_over(bench, "changed prompt takes over", changed, _TAKEN_OVER_GOAL)
    for change in Change:
        _add_taken_over(bench, f"after the join, {change}", kinds[change], None)
    for join in joins[: len(Change) * _SHOWN]:
        _show(bench, join)


def drawn_joins(bench: Bench) -> None:
    """The same joins where the world itself goes on: how smooth they are in what the model is trained on."""
    for change in Change:
        random = bench.random(Stream.TRUTH, list(Change).index(change))
        attributes = world.draw_attributes(random, bench.captions, bench.subset)
        other = world.draw_attributes(random, bench.captions, bench.subset)
        following = {
            Change.NOTHING: attributes,
            Change.MOTION: np.concatenate([attributes[:, :3], other[:, 3:]], 1),
            Change.EVERYTHING: other,
        }[change]
        scenes = world.extend(random, world.begin(random, attributes, _KEYFRAMES), following, _KEYFRAMES - 1)
        clips = as_clips(world.render(scenes))
        steps = np.stack([difference(clip[:-1], clip[1:]) for clip in clips])
        inner = np.delete(steps, FRAMES - 1, 1).mean(1)
        ratio = _ratio(steps[:, FRAMES - 1], inner)
        bench.results.rows.append(
            Row("ground truth, joins", f"{change}, in frame steps", ratio, len(clips), unit="ratio")
        )


def _join(bench: Bench, case: Case, change: Change, number: int) -> Join:
    place = number * len(Change) + list(Change).index(change)
    following = _following(bench, case, change, bench.random(Stream.JOINS, place))
    caption = captions.plain(following)
    before = case.take.frames
    whole = bench.served.render(caption, seed(Stream.JOINS, place), _FRAMES, past=before[-TAIL:]).frames
    cut = bench.served.render(caption, seed(Stream.CUTS, place)).frames
    after = whole[TAIL:]
    seen = np.concatenate([before[-1:], after])
    inner = np.concatenate([difference(before[:-1], before[1:]), difference(after[:-1], after[1:])])
    centre = centres(seen[:2])
    return Join(
        change,
        following,
        f"{case.caption}, then {caption}",
        before,
        after,
        jump=_step(before[-1:], after[:1]),
        inner=float(inner.mean()),
        again=_step(before[-1:], whole[TAIL - 1 : TAIL]),
        cut=_step(before[-1:], cut[:1]),
        moved=float(np.hypot(*(centre[1] - centre[0]))),
        reading=read(seen),
        last=read(after[-1:]),
        readable=has_room(case.reading, following, bench.random(Stream.JOINS, place, 1)),
    )


def _step(before: Clip, after: Clip) -> float:
    return float(difference(before, after)[0])


def _following(bench: Bench, case: Case, change: Change, random: np.random.Generator) -> Ints:
    """What comes next. Another scene differs in everything and is of the same held-out set; of another motion there
    is no such combination, since every set has only one for each scene."""
    if change is Change.NOTHING:
        return case.attributes
    for _ in range(_TRIES):
        if change is Change.EVERYTHING:
            drawn = world.draw_attributes(random, 1, bench.subset).reshape(-1)
            differs = bool((drawn != case.attributes).all())
        else:
            drawn = np.append(case.attributes[:3], random.integers(len(MOTIONS)))
            differs = bool(drawn[3] != case.attributes[3])
        if differs and has_room(case.reading, drawn, random):
            return drawn
    raise ArithmeticError(f"nothing can follow {case.caption} where it ends")


def _add_jumps(bench: Bench, group: str, joins: Sequence[Join], goal: float | None) -> None:
    count = len(joins)
    jump, inner, cut = (np.array([getattr(join, name) for join in joins]) for name in ("jump", "inner", "cut"))
    moved = np.array([join.moved for join in joins if np.isfinite(join.moved)])
    add = bench.results.rows.append
    add(Row(group, "jump, in frame steps", _ratio(jump, inner), count, goal, "lower", "ratio"))
    each = float(np.median(jump / np.maximum(inner, 1e-9)))
    add(Row(group, "jump, in frame steps, median", each, count, unit="ratio"))
    add(Row(group, "jump", float(jump.mean()), count, unit="difference"))
    add(Row(group, "frame to frame", float(inner.mean()), count, unit="difference"))
    again = float(np.mean([join.again for join in joins]))
    add(Row(group, "last frame rendered again", again, count, unit="difference"))
    add(Row(group, "a cut's jump, in frame steps", _ratio(cut, inner), count, unit="ratio"))
    for name, pick in (("median", np.median), ("largest", np.max)):
        add(Row(group, f"centre moves, {name}", float(pick(moved)) if len(moved) else 0.0, len(moved), unit="pixels"))


def _ratio(jump: Floats, inner: Floats) -> float:
    return float(jump.mean() / max(inner.mean(), 1e-9))


def _shown(join: Join) -> tuple[str, str, str, str]:
    return (*found(join.last)[:3], join.reading.motion)


def _add_taken_over(bench: Bench, group: str, joins: Sequence[Join], goal: float | None) -> None:
    right = [[a == b for a, b in zip(_shown(join), wanted(join.attributes), strict=True)] for join in joins]
    readable = [n for n, join in enumerate(joins) if join.readable]
    together = [right[n][0] and right[n][1] and right[n][3] for n in readable]
    bench.results.share(group, "background, shape colour and motion", together, goal)
    for number, name in enumerate(("background", "shape colour", "shape")):
        bench.results.share(group, name, [each[number] for each in right])
    bench.results.share(group, "motion", [right[n][3] for n in readable])
    if goal is None:
        missed = [joins[n] for n in range(len(joins)) if not all(right[n][: 4 if joins[n].readable else 3])]
        for join in missed:
            background, colour, shape, moved = _shown(join)
            bench.results.misses.append(Miss(group, join.caption, f"{colour} {shape} {moved} on {background}"))


def _show(bench: Bench, join: Join) -> None:
    background, colour, shape, moved = _shown(join)
    first, second = join.caption.split(", then ")
    bench.show("joins", first, join.before)
    title = f"→ {second}: {colour} {shape} {moved} on {background}, {join.jump / join.inner:.1f}"
    bench.show("joins", title, join.new)
