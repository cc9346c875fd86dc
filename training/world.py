"""The world: one flat-coloured shape that moves before one flat background, and how it is drawn.

A clip is a list of keyframes, one per latent frame: keyframe k is the scene at pixel frame ``8 * k``, and the frames
in between interpolate every property linearly. What a latent frame has to say is therefore exactly one keyframe.
"""

from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Size = tuple[int, int]
"""Width and height in pixels."""

SHAPES: Final = ("circle", "square", "triangle")
PALETTE: Final = {
    "red": (219, 31, 31),
    "green": (33, 173, 51),
    "blue": (33, 71, 224),
    "yellow": (242, 217, 31),
    "white": (245, 245, 245),
    "black": (13, 13, 13),
    "purple": (158, 38, 199),
}
"""sRGB, 0..255."""
COLOURS: Final = tuple(PALETTE)
RGB: Final[Floats] = np.array(list(PALETTE.values()), np.float32) / 255
MOTIONS: Final = ("left", "right", "up", "down", "still", "growing", "bouncing")
STILL, GROWING, BOUNCING = 4, 5, 6
_DIRECTIONS: Final[Floats] = np.array([(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (0, 0), (0, 0)], np.float32)

SIZE: Final = 64
"""Native width and height in pixels; in larger frames the shapes are as large and the room is larger."""
FPS: Final = 24
KEYFRAME_STEP: Final = 8
FRAMES: Final = 25

_MARGIN: Final = 13.0  # pixels the centre keeps from the border: a shape that keeps going stops there
_RADIUS: Final = (10.0, 16.0)
_SMALL_RADIUS: Final = (8.5, 11.0)  # what grows starts small
LARGEST_RADIUS: Final = 22.0
_SPEED: Final = (0.5, 0.8)  # pixels per frame
_GROWTH: Final = (1.3, 2.0)  # pixels of radius per keyframe
_BOUNCE: Final = (9.0, 13.0)  # pixels per keyframe, up and down in turn


@dataclass(frozen=True)
class Scenes:
    """Keyframes (or frames) of a batch of clips, float32.

    ``x``, ``y``, ``radius`` in pixels ``[batch, n]``; ``shape`` ``[batch, n, 3]``, ``colour`` and ``background``
    ``[batch, n, 7]`` are weights that sum to 1: pure in a scene at rest, mixed where one scene turns into another.
    """

    x: Floats
    y: Floats
    radius: Floats
    shape: Floats
    colour: Floats
    background: Floats

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, clips: slice | Ints) -> Self:
        return type(self)(*(getattr(self, field.name)[clips] for field in fields(self)))

    def span(self, start: int, stop: int) -> Self:
        """Keyframes ``start`` to ``stop`` of every clip."""
        return type(self)(*(getattr(self, field.name)[:, start:stop] for field in fields(self)))


def held_out(attributes: Ints) -> NDArray[np.int64]:
    """Which set each row of ``attributes`` ``[n, 4]`` belongs to: 0 training, 1 validation, 2 test.

    A tenth of the combinations of shape, colour, background and motion each is kept for validation and test.
    """
    key = attributes @ np.array([131, 17, 53, 29]) % 10
    return np.select([key == 3, key == 7], [2, 1], 0)


def draw_attributes(random: np.random.Generator, count: int, subset: int = 0) -> Ints:
    """``[count, 4]`` indices of shape, colour, background (never the colour) and motion, of one set."""
    drawn = np.zeros((0, 4), np.int64)
    while len(drawn) < count:
        more = random.integers((3, 7, 7, 7), size=(4 * count + 16, 4))
        drawn = np.concatenate([drawn, more[(more[:, 1] != more[:, 2]) & (held_out(more) == subset)]])
    return drawn[:count]


def begin(
    random: np.random.Generator,
    attributes: Ints,
    keyframes: int,
    size: Size = (SIZE, SIZE),
    anywhere: float = 0.0,
) -> Scenes:
    """Clips of ``attributes`` from their first keyframe on, placed so that their whole path is seen.

    ``size`` is width and height in pixels; a share ``anywhere`` begins anywhere in the frame instead.
    """
    count = len(attributes)
    motion = attributes[:, 3]
    speed = random.uniform(*_SPEED, count)
    bounce = random.uniform(*_BOUNCE, count)
    radius = np.where(motion == GROWING, random.uniform(*_SMALL_RADIUS, count), random.uniform(*_RADIUS, count))
    extent = np.array(size, np.float64)
    half = _DIRECTIONS[motion] * (speed * KEYFRAME_STEP * (keyframes - 1) / 2)[:, None]
    along = extent * random.uniform(0.42, 0.58, (count, 2))
    across = extent * random.uniform(0.36, 0.64, (count, 2))
    start = np.where(half != 0, along - half, across)
    start[:, 1] += np.where(motion == BOUNCING, bounce / 2, 0)
    loose = random.uniform(_MARGIN, extent - _MARGIN, (count, 2))
    start = np.where((random.random(count) < anywhere)[:, None], loose, start)
    start = np.clip(start, _MARGIN, extent - _MARGIN)
    pure = _weights(attributes)
    first = Scenes(*(value[:, None].astype(np.float32) for value in (start[:, 0], start[:, 1], radius, *pure)))
    return _grow(first, attributes, keyframes - 1, size, _Pace(speed, bounce, random.uniform(*_GROWTH, count)))


def extend(
    random: np.random.Generator,
    scenes: Scenes,
    attributes: Ints,
    keyframes: int,
    size: Size = (SIZE, SIZE),
) -> Scenes:
    """``scenes`` and ``keyframes`` more, which follow ``attributes``.

    The motion changes at once; shape and colours turn within three keyframes (or as many as there are), slowly at
    first, so that the first frames still look like the last ones of ``scenes``. A shape that keeps its motion keeps
    its pace.
    """
    count = len(attributes)
    pace = _Pace(random.uniform(*_SPEED, count), random.uniform(*_BOUNCE, count), random.uniform(*_GROWTH, count))
    if scenes.x.shape[1] > 1:
        pace = _kept(pace, scenes, attributes[:, 3])
    return _grow(scenes, attributes, keyframes, size, pace)


@dataclass(frozen=True)
class _Pace:
    """Per clip: pixels per frame, pixels of a bounce per keyframe, pixels of radius per keyframe."""

    speed: NDArray[np.float64]
    bounce: NDArray[np.float64]
    growth: NDArray[np.float64]


def _weights(attributes: Ints) -> tuple[Floats, Floats, Floats]:
    shape, colour = np.eye(len(SHAPES), dtype=np.float32), np.eye(len(COLOURS), dtype=np.float32)
    return shape[attributes[:, 0]], colour[attributes[:, 1]], colour[attributes[:, 2]]


def _kept(pace: _Pace, scenes: Scenes, motion: Ints) -> _Pace:
    """The pace of the last step where it was the motion that is asked for."""
    moved = np.stack([scenes.x[:, -1] - scenes.x[:, -2], scenes.y[:, -1] - scenes.y[:, -2]], 1)
    speed = (moved * _DIRECTIONS[motion]).sum(1) / KEYFRAME_STEP
    bounce = np.abs(moved[:, 1])
    growth = scenes.radius[:, -1] - scenes.radius[:, -2]
    return _Pace(
        np.where((speed >= _SPEED[0] * 0.99) & (speed <= _SPEED[1] * 1.01), speed, pace.speed),
        np.where((bounce >= _BOUNCE[0] * 0.99) & (bounce <= _BOUNCE[1] * 1.01), bounce, pace.bounce),
        np.where(growth >= _GROWTH[0] * 0.99, growth, pace.growth),
    )


def _grow(scenes: Scenes, attributes: Ints, keyframes: int, size: Size, pace: _Pace) -> Scenes:
    """Append ``keyframes`` that follow ``attributes``."""
    known = scenes.x.shape[1]
    motion = attributes[:, 3]
    x, y, radius = (list(value.T) for value in (scenes.x, scenes.y, scenes.radius))
    step = _DIRECTIONS[motion] * (pace.speed * KEYFRAME_STEP)[:, None]
    for _ in range(keyframes):
        last = y[-1] - y[-2] if len(y) > 1 else np.zeros_like(y[-1])
        bounce = np.where(last < -1, pace.bounce, -pace.bounce) * (motion == BOUNCING)
        x.append(np.clip(x[-1] + step[:, 0], _MARGIN, size[0] - _MARGIN))
        y.append(np.clip(y[-1] + step[:, 1] + bounce, _MARGIN, size[1] - _MARGIN))
        grown = np.minimum(radius[-1] + pace.growth, np.maximum(LARGEST_RADIUS, radius[-1]))
        radius.append(np.where(motion == GROWING, grown, radius[-1]))
    turn = _turn(keyframes)
    mixed = []
    for old, new in zip((scenes.shape, scenes.colour, scenes.background), _weights(attributes), strict=True):
        following = old[:, -1:] * (1 - turn) + new[:, None] * turn
        mixed.append(np.concatenate([old, following], 1).astype(np.float32))
    assert len(x) == known + keyframes
    return Scenes(*(np.stack(value, 1).astype(np.float32) for value in (x, y, radius)), *mixed)


def _turn(keyframes: int) -> Floats:
    """How far a scene has turned into the next one at each of ``keyframes``: squares of equal steps, ``[1, n, 1]``."""
    if not keyframes:
        return np.zeros((1, 0, 1), np.float32)
    steps = min(keyframes, 3)
    turned = np.minimum(np.arange(1, keyframes + 1) / steps, 1) ** 2
    return turned.astype(np.float32)[None, :, None]


def frames(scenes: Scenes) -> Scenes:
    """Every pixel frame of a batch of keyframes: ``n`` keyframes make ``8 * (n - 1) + 1`` frames."""
    return Scenes(*(_interpolated(getattr(scenes, field.name)) for field in fields(scenes)))


def _interpolated(value: Floats) -> Floats:
    share = (np.arange(1, KEYFRAME_STEP + 1, dtype=np.float32) / KEYFRAME_STEP).reshape((-1, *[1] * (value.ndim - 2)))
    between = value[:, :-1, None] * (1 - share) + value[:, 1:, None] * share
    return np.concatenate([value[:, :1], between.reshape(len(value), -1, *value.shape[2:])], 1)


def draw(scenes: Scenes, size: Size = (SIZE, SIZE)) -> torch.Tensor:
    """One picture per keyframe given, float32 ``[batch, 3, n, height, width]`` in -1..1, edges antialiased."""
    inside = _inside(scenes, size)
    palette = torch.from_numpy(RGB)
    colour, background = (
        (torch.from_numpy(value) @ palette).permute(0, 2, 1)[..., None, None]
        for value in (scenes.colour, scenes.background)
    )
    return (colour * inside + background * (1 - inside)) * 2 - 1


def name_colours(scenes: Scenes, size: Size = (SIZE, SIZE)) -> torch.Tensor:
    """Which colours every pixel of :func:`draw` has: their weights, float32 ``[batch, 7, n, height, width]``."""
    inside = _inside(scenes, size)
    colour, background = (
        torch.from_numpy(value).permute(0, 2, 1)[..., None, None] for value in (scenes.colour, scenes.background)
    )
    return colour * inside + background * (1 - inside)


def _inside(scenes: Scenes, size: Size) -> torch.Tensor:
    """How much of each pixel the shape covers, 0..1 ``[batch, 1, n, height, width]``.

    A shape is a signed distance; a mixture of shapes is the mixture of their distances.
    """
    x, y, radius = (torch.from_numpy(value)[:, :, None, None] for value in (scenes.x, scenes.y, scenes.radius))
    weight = torch.from_numpy(scenes.shape)[..., None, None]
    dx = torch.arange(size[0]) + 0.5 - x
    dy = torch.arange(size[1])[:, None] + 0.5 - y
    circle = (dx.square() + dy.square()).sqrt() - radius
    square = torch.maximum(dx.abs(), dy.abs()) - radius * 0.9
    sides = dx.abs() * 0.894 - (dy + radius) * 0.447  # apex up, slopes of two
    triangle = torch.maximum(sides, (dy - radius * 0.8).expand_as(sides))
    distance = weight[:, :, 0] * circle + weight[:, :, 1] * square + weight[:, :, 2] * triangle
    return (0.5 - distance).clamp(0, 1)[:, None]


def render(scenes: Scenes, size: Size = (SIZE, SIZE)) -> torch.Tensor:
    """The clips of a batch of keyframes, float32 ``[batch, 3, 8 * (n - 1) + 1, height, width]`` in -1..1."""
    return draw(frames(scenes), size)
