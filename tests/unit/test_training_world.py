"""The tiny world: what its clips show, where its shapes go, and how one scene turns into another."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import world
from training.world import COLOURS, MOTIONS, RGB, SHAPES

SIZES = [(64, 64), (96, 64), (128, 128)]
seeds = st.integers(0, 2**32 - 1)


def attributes(shape: int = 0, colour: int = 0, background: int = 2, motion: int = 0, count: int = 8) -> world.Ints:
    return np.tile(np.array([[shape, colour, background, motion]]), (count, 1))


@given(seeds, st.sampled_from([0, 1, 2]))
def test_attributes_are_of_the_set_asked_for_and_colours_differ(seed: int, subset: int) -> None:
    """Training, validation and test share no combination, and no shape has its background's colour."""
    drawn = world.draw_attributes(np.random.default_rng(seed), 40, subset)
    assert drawn.shape == (40, 4)
    assert (world.held_out(drawn) == subset).all()
    assert (drawn[:, 1] != drawn[:, 2]).all()
    assert (drawn >= 0).all()
    assert (drawn < [len(SHAPES), len(COLOURS), len(COLOURS), len(MOTIONS)]).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("motion", "axis", "sign"), [(0, "x", -1), (1, "x", 1), (2, "y", -1), (3, "y", 1)])
def test_a_shape_goes_where_its_motion_says(size: world.Size, motion: int, axis: str, sign: int) -> None:
    """Every keyframe is further along, by the pace of the world, and off the other axis nothing moves."""
    scenes = world.begin(np.random.default_rng(1), attributes(motion=motion), 4, size)
    other = scenes.y if axis == "x" else scenes.x
    steps = np.diff(getattr(scenes, axis), axis=1) * sign
    assert (steps >= 3.9).all()
    assert (steps <= 6.5).all()
    assert (np.diff(other, axis=1) == 0).all()


def test_still_growing_and_bouncing_shapes_do_as_they_say() -> None:
    """A still shape keeps everything, a growing one its place, a bouncing one turns back at every keyframe."""
    random = np.random.default_rng(2)
    still, growing, bouncing = (world.begin(random, attributes(motion=m), 5) for m in (4, 5, 6))
    for scenes in (still, growing):
        assert (np.ptp(scenes.x, axis=1) == 0).all()
        assert (np.ptp(scenes.y, axis=1) == 0).all()
    assert (np.ptp(still.radius, axis=1) == 0).all()
    assert (np.diff(growing.radius, axis=1) > 1).all()
    moves = np.diff(bouncing.y, axis=1)
    assert (np.abs(moves) > 8).all()
    assert (moves[:, 1:] * moves[:, :-1] < 0).all()
    assert (moves[:, 0] < 0).all()


@given(seeds, st.integers(1, 12), st.sampled_from(SIZES))
def test_no_shape_leaves_the_frame(seed: int, keyframes: int, size: world.Size) -> None:
    """However long a clip goes on, the centre stays inside and the radius below its limit."""
    random = np.random.default_rng(seed)
    scenes = world.begin(random, world.draw_attributes(random, 6), 2, size, anywhere=0.5)
    scenes = world.extend(random, scenes, world.draw_attributes(random, 6), keyframes, size)
    assert scenes.x.shape == (6, keyframes + 2)
    assert ((scenes.x > 12) & (scenes.x < size[0] - 12)).all()
    assert ((scenes.y > 12) & (scenes.y < size[1] - 12)).all()
    assert (scenes.radius <= world.LARGEST_RADIUS).all()
    for weights in (scenes.shape, scenes.colour, scenes.background):
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)


@given(seeds, st.integers(1, 5))
def test_a_continuation_begins_where_the_clip_ended_and_ends_as_asked(seed: int, keyframes: int) -> None:
    """The keyframes before stay as they are; the last one shows the new attributes pure."""
    random = np.random.default_rng(seed)
    before = world.begin(random, world.draw_attributes(random, 4), 3)
    goal = world.draw_attributes(random, 4)
    after = world.extend(random, before, goal, keyframes)
    np.testing.assert_array_equal(after.span(0, 3).x, before.x)
    np.testing.assert_array_equal(after.colour[:, -1].argmax(-1), goal[:, 1])
    np.testing.assert_array_equal(after.background[:, -1].max(-1), 1)
    np.testing.assert_array_equal(after.shape[:, -1].argmax(-1), goal[:, 0])


def test_a_changed_scene_turns_slowly_at_first() -> None:
    """Over three keyframes a background goes a ninth, four ninths and all of the way."""
    random = np.random.default_rng(3)
    before = world.begin(random, attributes(background=2), 3)
    after = world.extend(random, before, attributes(background=5), 4)
    np.testing.assert_allclose(after.background[0, 3:, 5], [1 / 9, 4 / 9, 1, 1], atol=1e-6)


def test_a_shape_that_keeps_its_motion_keeps_its_pace() -> None:
    """Nothing at a join tells that a clip ended there."""
    random = np.random.default_rng(4)
    before = world.begin(random, attributes(motion=1), 3)
    after = world.extend(random, before, attributes(motion=1), 1)
    np.testing.assert_allclose(np.diff(after.x, axis=1)[:, 2], np.diff(before.x, axis=1)[:, 1], atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_pictures_show_the_colours_asked_for(size: world.Size) -> None:
    """The middle of the shape has its colour, a corner that of the background, and the picture is as large as asked."""
    random = np.random.default_rng(5)
    asked = world.draw_attributes(random, 30)
    scenes = world.begin(random, asked, 1, size)
    pictures = (world.draw(scenes, size)[:, :, 0] + 1) / 2
    assert pictures.shape == (30, 3, size[1], size[0])
    for picture, row, x, y in zip(pictures, asked, scenes.x[:, 0], scenes.y[:, 0], strict=True):
        np.testing.assert_allclose(picture[:, int(y), int(x)], RGB[row[1]], atol=1e-5)
        np.testing.assert_allclose(picture[:, 0, 0], RGB[row[2]], atol=1e-5)


def test_frames_lie_on_lines_between_keyframes() -> None:
    """Keyframe k is frame 8k, and frame 4 half way between the first two."""
    scenes = world.begin(np.random.default_rng(6), attributes(motion=3), 3)
    every = world.frames(scenes)
    assert every.y.shape == (8, 17)
    np.testing.assert_allclose(every.y[:, ::8], scenes.y, atol=1e-5)
    np.testing.assert_allclose(every.y[:, 4], scenes.y[:, :2].mean(1), atol=1e-4)
    assert world.render(scenes).shape == (8, 3, 17, 64, 64)
    assert torch.equal(world.render(scenes)[:, :, 8], world.draw(scenes.span(1, 2))[:, :, 0])
