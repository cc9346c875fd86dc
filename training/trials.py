"""What a checkpoint is put to: captions of combinations it was not trained on, joins, lengths, sizes, an image.

Every trial draws its attributes and seeds from a stream of its own, so that more clips of one change nothing of
another.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from training import captions, sound, world
from training.measures import Clip, Reading, difference, motion, read
from training.scores import Miss, Results, Row
from training.served import Served, Take, as_clips
from training.sheets import Strip
from training.world import BOUNCING, COLOURS, FRAMES, MOTIONS, SHAPES, SIZE, Ints, Scenes, Size

ATTRIBUTES: Final = ("background", "shape colour", "shape", "motion", "direction")
OVERLAP: Final = "overlap with the ideal shape"
_GOALS: Final = {"background": 0.95, "shape colour": 0.9, "shape": 0.8, "direction": 0.85}
_PARAPHRASE_LOSS: Final = 0.05
_SOUND_GOAL: Final = 0.9
_SECONDS_GOAL: Final = 1.0
_MEGABYTES_GOAL: Final = 15.0
_KEYFRAMES: Final = (FRAMES - 1) // world.KEYFRAME_STEP + 1
_LENGTHS: Final = (9, 17, 33, 41, 49)
_SIZES: Final[tuple[Size, ...]] = ((96, 64), (64, 96), (128, 128))
_FEW: Final = 24
_SHOWN: Final = 8


class Stream(enum.IntEnum):
    """Sources of randomness."""

    PLAIN = 1
    PARAPHRASED = 2
    TRUTH = 3
    JOINS = 4
    CUTS = 5
    LENGTHS = 6
    SIZES = 7
    IMAGES = 8


@dataclass
class Bench:
    """A checkpoint under trial: which set of combinations it is asked for (1 validation, 2 test), how many captions,
    and what came of it."""

    served: Served
    subset: int
    captions: int
    results: Results = field(default_factory=Results)
    strips: dict[str, list[Strip]] = field(default_factory=dict)

    @property
    def few(self) -> int:
        """How many clips the smaller trials take."""
        return min(_FEW, self.captions)

    def random(self, stream: Stream, *more: int) -> np.random.Generator:
        return np.random.default_rng((self.subset, stream, *more))

    def show(self, sheet: str, title: str, clip: Clip) -> None:
        """Keep a clip for a contact sheet."""
        self.strips.setdefault(sheet, []).append(Strip(title, clip))


@dataclass(frozen=True)
class Case:
    """A clip, what was asked for, and what it shows."""

    attributes: Ints
    caption: str
    take: Take
    reading: Reading


def seed(stream: Stream, number: int) -> int:
    """The seed of a trial's clip."""
    return stream * 100_000 + number


def wanted(attributes: Ints) -> tuple[str, str, str, str]:
    """Background, shape colour, shape and motion in words."""
    shape, colour, background, moved = (int(value) for value in attributes)
    return COLOURS[background], COLOURS[colour], SHAPES[shape], MOTIONS[moved]


def found(reading: Reading) -> tuple[str, str, str, str]:
    """What :func:`wanted` is compared with."""
    return reading.background, reading.colour, reading.shape, reading.motion


def add_attributes(
    results: Results,
    group: str,
    pairs: Iterable[tuple[Ints, Reading]],
    goals: dict[str, float] | None = None,
    unreadable: Sequence[int] = (),
) -> dict[str, float]:
    """Add a row for each of ``ATTRIBUTES`` and one for the outline; gives the scores.

    Clips of the motions ``unreadable`` are left out of motion.
    """
    rows = [(attributes, reading) for attributes, reading in pairs]
    right = [[a == b for a, b in zip(wanted(row), found(reading), strict=True)] for row, reading in rows]
    scores = {}
    for number, name in enumerate(ATTRIBUTES):
        moved = [int(row[3]) for row, _ in rows]
        counted = [
            n for n, each in enumerate(moved) if number < 3 or (each not in unreadable and (number == 3 or each < 4))
        ]
        part = [right[n][min(number, 3)] for n in counted]
        scores[name] = results.share(group, name, part, (goals or {}).get(name))
    overlaps = [reading.overlap for _, reading in rows]
    results.rows.append(Row(group, OVERLAP, _mean(overlaps), len(rows), unit="ratio"))
    return scores


def add_misses(results: Results, group: str, cases: Iterable[Case], unreadable: Sequence[int] = ()) -> None:
    """Note every clip that shows anything else than it should."""
    for case in cases:
        parts = 3 if int(case.attributes[3]) in unreadable else 4
        if wanted(case.attributes)[:parts] != found(case.reading)[:parts]:
            results.misses.append(Miss(group, case.caption, str(case.reading)))


def references(bench: Bench) -> None:
    """The measures on drawn clips, and on those after the VAE: what no denoiser can exceed."""
    attributes = _plain_attributes(bench)
    pictures = world.render(world.begin(bench.random(Stream.TRUTH), attributes, _KEYFRAMES))
    truth = as_clips(pictures)
    add_attributes(bench.results, "ground truth", zip(attributes, map(read, truth), strict=True))
    again = [bench.served.reconstruct(picture[None]) for picture in pictures]
    readings = [read(clip) for clip in again]
    add_attributes(bench.results, "VAE reconstruction", zip(attributes, readings, strict=True))
    noise = [_decibels(before, after) for before, after in zip(truth, again, strict=True)]
    bench.results.rows.append(Row("VAE reconstruction", "PSNR", _mean(noise), len(noise), unit="dB"))
    for row, before, after, reading in list(zip(attributes, truth, again, readings, strict=True))[: _SHOWN // 2]:
        bench.show("reconstruction", f"drawn: {captions.plain(row)}", before)
        bench.show("reconstruction", f"after the VAE: {reading}", after)


def plain_captions(bench: Bench) -> list[Case]:
    """Plain captions: attributes, sound, and the time they take."""
    cases = [
        _case(bench, row, captions.plain(row), seed(Stream.PLAIN, n)) for n, row in enumerate(_plain_attributes(bench))
    ]
    add_attributes(bench.results, "plain captions", _pairs(cases), _GOALS)
    add_misses(bench.results, "plain captions", cases)
    _add_sound(bench.results, cases)
    seconds = float(np.median([case.take.seconds for case in cases]))
    bench.results.rows.append(
        Row("cost", "25 frames, one thread", seconds, len(cases), _SECONDS_GOAL, "lower", unit="s")
    )
    size = sum(file.stat().st_size for file in bench.served.checkpoint.folder.rglob("*") if file.is_file())
    bench.results.rows.append(Row("cost", "folder", size / 1e6, 1, _MEGABYTES_GOAL, "lower", unit="MB"))
    _show(bench, "plain", cases)
    return cases


def paraphrases(bench: Bench) -> list[Case]:
    """The same combinations in sentences of other builds than the training's; goals are the plain scores less 0.05."""
    random = bench.random(Stream.PARAPHRASED)
    cases = [
        _case(bench, row, captions.paraphrase(row, random, bench.subset), seed(Stream.PARAPHRASED, n))
        for n, row in enumerate(_plain_attributes(bench))
    ]
    plain = {row.measure: row.score for row in bench.results.rows if row.group == "plain captions"}
    goals = {name: round(plain[name] - _PARAPHRASE_LOSS, 6) for name in ATTRIBUTES}
    add_attributes(bench.results, "paraphrased captions", _pairs(cases), goals)
    add_misses(bench.results, "paraphrased captions", cases)
    _show(bench, "paraphrased", cases)
    return cases


def lengths_and_sizes(bench: Bench) -> None:
    """Other numbers of frames, and frames larger than the native ones."""
    trials = [(f"{frames} frames", Stream.LENGTHS, frames, (SIZE, SIZE)) for frames in _LENGTHS]
    trials += [(f"{size[0]}x{size[1]}", Stream.SIZES, FRAMES, size) for size in _SIZES]
    for number, (group, stream, frames, size) in enumerate(trials):
        rows = world.draw_attributes(bench.random(stream, number), bench.few, bench.subset)
        cases = [
            _case(bench, row, captions.plain(row), seed(stream, 1000 * number + n), frames, size)
            for n, row in enumerate(rows)
        ]
        unreadable = (BOUNCING,) if frames < 2 * world.KEYFRAME_STEP + 1 else ()
        add_attributes(bench.results, group, _pairs(cases), unreadable=unreadable)
        add_misses(bench.results, group, cases, unreadable)
        _show(bench, "lengths" if stream is Stream.LENGTHS else "sizes", cases[:2], group)


def source_images(bench: Bench) -> None:
    """A drawn picture that the clip begins with, and a caption that agrees with it."""
    rows = world.draw_attributes(bench.random(Stream.IMAGES), bench.few, bench.subset)
    drawn = as_clips(world.draw(world.begin(bench.random(Stream.IMAGES, 1), rows, _KEYFRAMES).span(0, 1)))
    cases = [
        _case(bench, row, captions.plain(row), seed(Stream.IMAGES, n), past=image)
        for n, (row, image) in enumerate(zip(rows, drawn, strict=True))
    ]
    group = "source image"
    add_attributes(bench.results, group, _pairs(cases))
    add_misses(bench.results, group, cases)
    clips = [case.take.frames for case in cases]
    jumps = [float(difference(image, clip[1:2])[0]) for image, clip in zip(drawn, clips, strict=True)]
    inner = [float(difference(clip[1:-1], clip[2:]).mean()) for clip in clips]
    add = bench.results.rows.append
    add(Row(group, "image to frame 1", _mean(jumps), len(jumps), unit="difference"))
    add(Row(group, "frame to frame after it", _mean(inner), len(inner), unit="difference"))
    add(Row(group, "jump, in frame steps", _mean(jumps) / max(_mean(inner), 1e-9), len(jumps), unit="ratio"))
    for case, image in list(zip(cases, drawn, strict=True))[:_SHOWN]:
        bench.show("images", f"{case.caption}: {case.reading} (first picture: the image)", _joined(image, case))


def has_room(reading: Reading, attributes: Ints, random: np.random.Generator) -> bool:
    """Whether a drawn continuation of what ``reading`` saw would show the motion of ``attributes``: at the border, or
    as large as shapes become, none can."""
    if not len(reading.x):
        return True
    pure = [np.eye(count, dtype=np.float32)[[0] * len(reading.x)][None] for count in (len(SHAPES), 7, 7)]
    seen = Scenes(reading.x[None], reading.y[None], reading.radius[None], *pure)
    following = world.extend(random, seen, attributes[None], _KEYFRAMES - 1).span(len(reading.x) - 1, 99)
    return motion(following.x[0], following.y[0], following.radius[0]) == MOTIONS[int(attributes[3])]


def _plain_attributes(bench: Bench) -> Ints:
    return world.draw_attributes(bench.random(Stream.PLAIN), bench.captions, bench.subset)


def _case(
    bench: Bench,
    attributes: Ints,
    caption: str,
    number: int,
    frames: int = FRAMES,
    size: Size = (SIZE, SIZE),
    past: Clip | None = None,
) -> Case:
    take = bench.served.render(caption, number, frames, size, past)
    return Case(attributes, caption, take, read(take.frames))


def _add_sound(results: Results, cases: Sequence[Case]) -> None:
    pitch: list[bool] = []
    side: list[bool] = []
    centre: list[bool] = []
    for case in cases:
        shape, heard = sound.pitch_and_side(case.take.waveform, case.take.sample_rate)
        name = MOTIONS[int(case.attributes[3])]
        expected = name if name in ("left", "right") else "centre"
        pitch.append(shape == int(case.attributes[0]))
        (centre if expected == "centre" else side).append(heard == expected)
        if not (pitch[-1] and heard == expected):
            note = "silence" if shape is None else f"the note of a {SHAPES[shape]}"
            results.misses.append(Miss("sound", case.caption, f"{note}, {heard}"))
    results.share("sound", "pitch", pitch, _SOUND_GOAL)
    results.share("sound", "side, of left and right", side, _SOUND_GOAL)
    results.share("sound", "centred, of the others", centre)


def _pairs(cases: Iterable[Case]) -> list[tuple[Ints, Reading]]:
    return [(case.attributes, case.reading) for case in cases]


def _show(bench: Bench, sheet: str, cases: Sequence[Case], group: str = "") -> None:
    for case in cases[:_SHOWN]:
        bench.show(sheet, f"{group} {case.caption}: {case.reading}".strip(), case.take.frames)


def _joined(image: Clip, case: Case) -> Clip:
    return np.concatenate([image, case.take.frames])


def _decibels(before: Clip, after: Clip) -> float:
    error = ((before.astype(np.float64) - after) / 255) ** 2
    return float(-10 * np.log10(max(error.mean(), 1e-10)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
