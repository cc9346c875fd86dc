"""What is seen in a clip, by pixels alone: the measures that trained models of the world are judged with.

A frame is split into the background's colour, the shape's colour and how much of the shape covers each pixel. To that
cover every shape of :func:`training.world.draw` is fitted; the one that overlaps best is the shape. Motion is read from
the fitted centres and radii, so that a shape the border cuts off is still measured whole.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from training import world
from training.world import COLOURS, KEYFRAME_STEP, RGB, SHAPES, Floats, Scenes

Clip = NDArray[np.uint8]
"""sRGB ``[n, height, width, 3]``."""

MISSING: Final = "missing"

_NEAR: Final = 4  # frames from a keyframe that are read in its place
_VISIBLE: Final = 0.15  # distance of RGB (0..1) from the background; the palette's closest two are 0.5 apart
_FEWEST_PIXELS: Final = 40  # the world's smallest shape covers 115
_HAZE: Final = 0.2  # cover below this is blur or noise
_REACH: Final = 1.7  # square roots of its area that a shape's pixels lie from its middle at most, a triangle's apex 1.5
_ROOM: Final = 4  # pixels around the cover that a fit sees
_SEARCH: Final = ((2.0, 3), (1.0, 2), (0.5, 2), (0.25, 2))  # pixels of a step of the fit, and how many at most
_SEARCH_BLURRED: Final = ((1.0, 1), (0.5, 1))
_CRISP: Final = 0.94  # overlap from which no blur needs to be considered
_BLURS: Final = (3, 5, 7)  # pixels
_CLEARLY_BETTER: Final = 0.03  # likeness by which a single frame shows another shape than its clip
_MOVED: Final = 3.0  # pixels; the slowest shape moves 4 a keyframe
_GROWN: Final = 0.65  # pixels of radius per keyframe, half of the slowest growth
_BOUNCED: Final = 4.5  # pixels per keyframe, half of the lowest bounce
_SLOWEST: Final = 4.0  # pixels per keyframe
_SLOWEST_GROWTH: Final = 1.3  # pixels of radius per keyframe


@dataclass(frozen=True)
class View:
    """A frame taken apart: RGB in 0..1 of background and shape, and the shape's cover 0..1 ``[height, width]``."""

    background: Floats
    colour: Floats
    cover: Floats

    @property
    def centre(self) -> Floats:
        """Where the visible part has its centre of gravity: x and y in pixels."""
        rows, columns = np.indices(self.cover.shape) + 0.5
        weights = self.cover / self.cover.sum()
        return np.array([(columns * weights).sum(), (rows * weights).sum()], np.float32)


@dataclass(frozen=True)
class Fit:
    """A shape laid over a frame's: its centre and radius in pixels, and their ``overlap`` 0..1 (shared area of joint).

    ``likeness`` is the overlap where the shape may be as blurred as the frame's: blur alone makes none another shape.
    """

    x: float
    y: float
    radius: float
    likeness: float
    overlap: float


@dataclass(frozen=True)
class Reading:
    """What a clip shows, in the words of :mod:`training.world` or ``missing``.

    ``x``, ``y`` and ``radius`` in pixels ``[keyframes]`` (empty where a keyframe shows no shape), ``overlap`` 0..1 with
    the ideal shape.
    """

    background: str
    colour: str
    shape: str
    motion: str
    x: Floats
    y: Floats
    radius: Floats
    overlap: float

    def __str__(self) -> str:
        return f"{self.colour} {self.shape} {self.motion} on {self.background}"


def read(clip: Clip) -> Reading:
    """Read a clip at its keyframes: every eighth frame. Motion needs two, and a bounce three of them: of 9 frames,
    ``bouncing`` reads as ``up`` or ``down``. Where a keyframe shows no shape, as a scene may halfway to the contrary
    colours, the closest frame that does is read instead."""
    frames = clip[::KEYFRAME_STEP]
    views = [view for view in (_look_near(clip, n) for n in range(0, len(clip), KEYFRAME_STEP)) if view is not None]
    background = COLOURS[Counter(_named(frames).ravel().tolist()).most_common(1)[0][0]]
    nothing = np.zeros(0, np.float32)
    if 2 * len(views) <= len(frames):
        return Reading(background, MISSING, MISSING, MISSING, nothing, nothing, nothing, 0.0)
    colour = COLOURS[int(_named(np.median([view.colour for view in views], 0) * 255))]
    fits = [fit(view) for view in views]
    shape = int(np.mean([[each.likeness for each in of_frame] for of_frame in fits], 0).argmax())
    overlap = float(np.mean([of_frame[shape].overlap for of_frame in fits]))
    if len(views) < len(frames):
        return Reading(background, colour, SHAPES[shape], MISSING, nothing, nothing, nothing, overlap)
    best = [_seen(of_frame, shape) for of_frame in fits]
    x, y, radius = (np.array([getattr(each, name) for each in best], np.float32) for name in ("x", "y", "radius"))
    return Reading(background, colour, SHAPES[shape], motion(x, y, radius), x, y, radius, overlap)


def motion(x: Floats, y: Floats, radius: Floats) -> str:
    """Which of ``world.MOTIONS`` a shape's centre and radius (pixels, ``[keyframes]``) make; ``still`` for one frame.

    Up and down again is bouncing. Of growing and moving the one wins that is more beyond the world's slowest.
    """
    steps = len(x) - 1
    if steps < 1:
        return "still"
    if any(one * two < 0 and min(abs(one), abs(two)) > _BOUNCED for one, two in pairwise(np.diff(y))):
        return "bouncing"
    across, down = float(x[-1] - x[0]), float(y[-1] - y[0])
    moved, grown = max(abs(across), abs(down)), float(radius[-1] - radius[0])
    grows = grown > _GROWN * steps
    if grows and (moved <= _MOVED or grown / _SLOWEST_GROWTH > moved / _SLOWEST):
        return "growing"
    if moved <= _MOVED:
        return "still"
    if abs(across) > abs(down):
        return "right" if across > 0 else "left"
    return "down" if down > 0 else "up"


def centres(clip: Clip) -> Floats:
    """The visible shape's centre of gravity in every frame, pixels ``[n, 2]``; not a number where there is none."""
    views = map(look, clip)
    return np.array([[np.nan] * 2 if view is None else view.centre for view in views], np.float32).reshape(-1, 2)


def difference(before: Clip, after: Clip) -> Floats:
    """Mean absolute difference of frames, 0..1, float32 ``[n]`` for ``[n, height, width, 3]`` each."""
    distance = np.abs(before.astype(np.float32) - after.astype(np.float32)) / 255
    return np.asarray(distance.mean((1, 2, 3)), np.float32)


def look(frame: Clip) -> View | None:
    """Take a frame ``[height, width, 3]`` apart; ``None`` where nothing stands out from the background."""
    pixels = frame.astype(np.float32) / 255
    names = _named(frame)
    commonest = np.bincount(names.ravel(), minlength=len(COLOURS)).argmax()
    background = np.median(pixels[names == commonest], 0)
    distance = np.linalg.norm(pixels - background, axis=-1)
    strongest = np.partition(distance.ravel(), -_FEWEST_PIXELS)[-_FEWEST_PIXELS]
    if strongest < _VISIBLE:
        return None
    colour = np.median(pixels[distance > 0.75 * strongest], 0)
    contrast = colour - background
    cover = np.clip((pixels - background) @ contrast / max(float(contrast @ contrast), 1e-6), 0, 1)
    rows, columns = np.nonzero(cover > 0.5)
    if len(rows) < _FEWEST_PIXELS:
        return None
    away = np.hypot(*(np.indices(cover.shape) - np.array([np.median(rows), np.median(columns)])[:, None, None]))
    cover = np.where((cover < _HAZE) | (away > _REACH * np.sqrt(len(rows)) + 2), 0, cover)
    return View(background, colour, cover.astype(np.float32)) if cover.sum() > _FEWEST_PIXELS else None


def fit(view: View) -> tuple[Fit, ...]:
    """Every shape of ``world.SHAPES`` laid over a frame's as well as it can be.

    A square cut off in a corner is a smaller square there; all else is found whole.
    """
    rows, columns = np.nonzero(view.cover > 0)
    height, width = view.cover.shape
    top, left = max(int(rows.min()) - _ROOM, 0), max(int(columns.min()) - _ROOM, 0)
    cover = view.cover[
        top : min(int(rows.max()) + _ROOM + 1, height), left : min(int(columns.max()) + _ROOM + 1, width)
    ]
    guess = _first_guess(view.centre - np.array([left, top]), float(view.cover.sum()))
    places, overlap = _search(guess, cover, _SEARCH)
    likeness = overlap
    for blur in _BLURS if overlap.max() < _CRISP else ():
        found, likely = _search(places, cover, _SEARCH_BLURRED, blur)
        places = np.where((likely > likeness)[:, None], found, places)
        likeness = np.maximum(likely, likeness)
    return tuple(
        Fit(float(x + left), float(y + top), float(radius), float(alike), float(shared))
        for (x, y, radius), alike, shared in zip(places, likeness, overlap, strict=True)
    )


def _search(start: Floats, cover: Floats, search: Sequence[tuple[float, int]], blur: int = 0) -> tuple[Floats, Floats]:
    """From x, y and radius of every shape ``[3, 3]`` to the best near by, and its overlap ``[3]``."""
    neighbours = np.array(list(product((0, -1, 1), repeat=3)), np.float32)
    overlap = np.zeros(len(SHAPES), np.float32)
    for step, most in search:
        for _ in range(most):
            tried = start[:, None] + step * neighbours
            overlaps = _overlap(tried, cover, blur)
            best = overlaps.argmax(1)
            start = np.take_along_axis(tried, best[:, None, None], 1)[:, 0]
            overlap = overlaps.max(1)
            if not best.any():  # the place they are at, already
                break
    return start, overlap


def _first_guess(centre: Floats, area: float) -> Floats:
    """Per shape x, y and radius ``[3, 3]`` by centre of gravity and area, as if nothing were cut off."""
    radius = np.sqrt(area / np.array([np.pi, 1.8**2, 1.8**2 / 2]))
    lower = 0.2 * radius * np.array([0, 0, 1])  # a triangle's centre of gravity lies below its centre
    return np.asarray(np.stack([np.full(3, centre[0]), centre[1] - lower, radius], 1), np.float32)


def _overlap(tried: Floats, cover: Floats, blur: int) -> Floats:
    """Overlap ``[3, n]`` of ``cover`` with shapes at x, y and radius ``[3, n, 3]``, blurred over ``blur`` pixels."""
    kinds, count, _ = tried.shape
    x, y, radius = (tried[..., part].reshape(-1, 1) for part in range(3))
    shape = np.eye(kinds, dtype=np.float32).repeat(count, 0)[:, None]
    white, black = (
        np.eye(len(COLOURS), dtype=np.float32)[[COLOURS.index(name)] * len(x)][:, None] for name in ("white", "black")
    )
    drawn = world.draw(Scenes(x, y, radius, shape, white, black), (cover.shape[1], cover.shape[0]))[:, 0, 0]
    bottom, peak = (2 * RGB[COLOURS.index(name), 0] - 1 for name in ("black", "white"))
    drawn = (drawn - bottom) / (peak - bottom)
    if blur:
        for _ in range(3):  # three boxes are nearly a bell
            drawn = torch.nn.functional.avg_pool2d(drawn, blur, 1, blur // 2, count_include_pad=False)
        drawn = torch.where(drawn < _HAZE, 0, drawn)
    seen = torch.from_numpy(cover)
    shared = torch.minimum(drawn, seen).sum((1, 2)) / torch.maximum(drawn, seen).sum((1, 2))
    best: Floats = shared.reshape(kinds, count).numpy()
    return best


def _seen(fits: tuple[Fit, ...], shape: int) -> Fit:
    """The clip's ``shape`` where it fits a frame about as well as the best; a scene that turns shows another."""
    best = max(fits, key=lambda each: each.likeness)
    return best if best.likeness - fits[shape].likeness > _CLEARLY_BETTER else fits[shape]


def _look_near(clip: Clip, keyframe: int) -> View | None:
    near = (n for n in sorted(range(len(clip)), key=lambda n: abs(n - keyframe)) if abs(n - keyframe) <= _NEAR)
    return next((view for view in (look(clip[n]) for n in near) if view is not None), None)


def _named(pixels: NDArray[np.uint8] | Floats) -> NDArray[np.int64]:
    """The closest palette colour of RGB 0..255 ``[..., 3]``, as its number."""
    distance = ((pixels[..., None, :].astype(np.float32) / 255 - RGB) ** 2).sum(-1)
    return np.asarray(distance.argmin(-1), np.int64)
