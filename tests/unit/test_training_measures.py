"""The measures read what was drawn: in every clip of the world, of every length and size, blurred, and turning."""

from collections.abc import Iterator
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake_stages.colour import to_uint8
from training import measures, world
from training.measures import MISSING, Clip, Reading
from training.world import BOUNCING, COLOURS, MOTIONS, SHAPES, Ints, Scenes, Size

# Every shape with every motion, in colours that change from one to the next.
ALL = np.array([(s, (s + 3 * m) % 7, (s + 3 * m + 1 + m) % 7, m) for s, m in product(range(3), range(6))])
ALL = np.concatenate([ALL, [(s, 2 + s, 6 - s // 2, BOUNCING) for s in range(3)]])
NATIVE = (64, 64)


def clips(scenes: Scenes, size: Size = NATIVE) -> list[Clip]:
    return [to_uint8(each).numpy() for each in world.render(scenes, size)]


def wanted(attributes: Ints) -> tuple[str, str, str, str]:
    shape, colour, background, motion = (int(value) for value in attributes)
    return COLOURS[background], COLOURS[colour], SHAPES[shape], MOTIONS[motion]


def found(reading: Reading) -> tuple[str, str, str, str]:
    return reading.background, reading.colour, reading.shape, reading.motion


def picture(x: float, y: float, radius: float, attributes: Ints, size: Size = NATIVE) -> Clip:
    """One frame of a shape anywhere."""
    place = [np.array([[value]], np.float32) for value in (x, y, radius)]
    shape, colour, background = (
        np.eye(n, dtype=np.float32)[[[k]]] for n, k in zip((3, 7, 7), attributes, strict=False)
    )
    (clip,) = clips(Scenes(*place, shape, colour, background), size)
    return clip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Pictures this small are drawn faster by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("keyframes", "size"), [(4, (64, 64)), (7, (64, 64)), (4, (128, 96))])
def test_every_shape_and_motion_is_read_as_drawn(keyframes: int, size: Size) -> None:
    """Background, colour, shape and motion of clips of 25 and 49 frames, native and larger."""
    for row, clip in zip(ALL, clips(world.begin(np.random.default_rng(1), ALL, keyframes, size), size), strict=True):
        assert found(measures.read(clip)) == wanted(row)


def test_in_9_frames_a_bounce_is_a_way_up_or_down() -> None:
    """There is no turning point in a single step; everything else is read."""
    for row, clip in zip(ALL, clips(world.begin(np.random.default_rng(2), ALL, 2)), strict=True):
        *rest, motion = found(measures.read(clip))
        assert tuple(rest) == wanted(row)[:3]
        assert motion in ({"up", "down"} if row[3] == BOUNCING else {wanted(row)[3]})


@pytest.mark.parametrize(("colour", "background"), list(permutations(range(7), 2)))
def test_every_two_colours_are_told_apart(colour: int, background: int) -> None:
    """Which of them is the shape's, too."""
    reading = measures.read(picture(30, 33, 11, np.array([0, colour, background])))
    assert (reading.colour, reading.background) == (COLOURS[colour], COLOURS[background])


@settings(max_examples=40, deadline=None)
@given(
    st.floats(13, 51),
    st.floats(13, 51),
    st.floats(8, world.LARGEST_RADIUS),
    st.integers(0, 2),
    st.sampled_from([0, 2, 8]),
)
def test_a_shape_is_found_wherever_it_is_however_large_and_blurred(
    x: float, y: float, radius: float, shape: int, blur: int
) -> None:
    """Cut off by the border or not, its kind is read, and of a whole and clear one the place to about a pixel."""
    drawn = picture(x, y, radius, np.array([shape, 3, 6]))
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float()
    for _ in range(blur):
        padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
        pixels = torch.nn.functional.avg_pool2d(padded, 3, 1)
    reading = measures.read(pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    assert reading.shape == SHAPES[shape]
    assert reading.overlap > 0.65
    if blur <= 2 and radius <= min(x, y) and max(x, y) + radius <= 64:
        assert np.abs(np.array([reading.x[0] - x, reading.y[0] - y, reading.radius[0] - radius])).max() < 1.3


def test_the_motion_of_a_scene_that_turns_into_another_is_the_new_one() -> None:
    """From the last frame of the old clip on; what the scene has become is read from its last frame."""
    random = np.random.default_rng(3)
    following = np.roll(ALL, 5, 0)
    before = world.begin(random, ALL, 4)
    after = world.extend(random, before, following, 3).span(3, 7)
    for n, (row, clip) in enumerate(zip(following, clips(after), strict=True)):
        assert measures.motion(after.x[n], after.y[n], after.radius[n]) == MOTIONS[row[3]], "there is room to show it"
        assert measures.read(clip).motion == MOTIONS[row[3]]
        assert found(measures.read(clip[-1:]))[:3] == wanted(row)[:3]


@pytest.mark.parametrize(
    ("x", "y", "radius", "motion"),
    [
        ([20], [20], [10], "still"),
        ([20, 22], [20, 21], [10, 10], "still"),
        ([20, 30, 30], [20, 22, 22], [10, 10, 10], "right"),
        ([20, 12], [20, 14], [10, 10], "left"),
        ([20, 20, 20], [40, 30, 20], [10, 10, 10], "up"),
        ([20, 20, 20], [20, 30, 40], [10, 10.5, 11], "down"),
        ([20, 20, 20], [40, 30, 40], [10, 10, 10], "bouncing"),
        ([20, 20, 20], [40, 37, 40], [10, 10, 10], "still"),
        ([20, 20, 20], [40, 40, 40], [9, 11, 13], "growing"),
        ([20, 20, 24], [40, 40, 40], [9, 11, 13], "growing"),
        ([20, 20, 20], [40, 40, 40], [13, 11, 9], "still"),
    ],
)
def test_a_track_makes_a_motion(x: list[float], y: list[float], radius: list[float], motion: str) -> None:
    """The larger axis decides, a turn beats a way, growth a drift, and noise is neither."""
    assert measures.motion(*(np.array(value, np.float32) for value in (x, y, radius))) == motion


@pytest.mark.parametrize("noise", [0, 12])
def test_where_there_is_no_shape_it_is_missing(noise: int) -> None:
    """On a background with and without noise."""
    grain = np.random.default_rng(4).integers(-noise, noise + 1, (25, 64, 64, 3))
    empty = np.clip(np.array(world.PALETTE["green"]) + grain, 0, 255).astype(np.uint8)
    assert found(measures.read(empty)) == ("green", MISSING, MISSING, MISSING)
    assert np.isnan(measures.centres(empty)).all()


def test_a_clip_whose_shape_goes_out_has_no_motion() -> None:
    """What is seen in most of it is read all the same."""
    (clip,) = clips(world.begin(np.random.default_rng(5), ALL[:1], 4))
    clip[18:] = clip[0, 0, 0]
    assert found(measures.read(clip)) == (*wanted(ALL[0])[:3], MISSING)


def test_centres_follow_the_shape_to_a_fraction_of_a_pixel() -> None:
    """In every frame, not only at keyframes."""
    scenes = world.begin(np.random.default_rng(6), np.array([[0, 4, 0, 1]]), 4)
    (clip,) = clips(scenes)
    every = world.frames(scenes)
    assert np.abs(measures.centres(clip) - np.stack([every.x[0], every.y[0]], 1)).max() < 0.2


def test_the_difference_of_frames_is_a_share_of_the_whole_range() -> None:
    """One figure a frame: 0 for the same, 1 for black and white."""
    black = np.zeros((3, 4, 4, 3), np.uint8)
    other = black.copy()
    other[1] = 255
    other[2, :, :2] = 255
    np.testing.assert_allclose(measures.difference(black, other), [0, 1, 0.5])
