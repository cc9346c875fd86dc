"""Fades, colours and small copies of frames."""

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from longtake_facade.artifacts import VideoSpec
from longtake_facade.backend import Pixels
from longtake_facade.pixels import (
    blend,
    colour_shift,
    frame_jump,
    planes_to_rgb,
    reduced,
    reduction,
    small_rgb,
    split_planes,
)

values = arrays(np.uint8, (4, 6, 3))


@settings(deadline=None)
@given(values, values, st.integers(1, 32), st.data())
def test_a_fade_is_the_formula_of_the_contract_in_whole_numbers(
    before: Pixels, after: Pixels, n: int, data: st.DataObject
) -> None:
    """Every value is ((n-i)*before + i*after) // n, for yuv420p with n//2 added, computed without overflow."""
    i = data.draw(st.integers(0, n - 1))
    exact = [((n - i) * int(b) + i * int(a)) for b, a in zip(before.ravel(), after.ravel(), strict=True)]
    assert blend(before, after, i, n, "rgb24").ravel().tolist() == [value // n for value in exact]
    assert blend(before, after, i, n, "yuv420p").ravel().tolist() == [(value + n // 2) // n for value in exact]


@given(values, values, st.integers(1, 32))
def test_a_fade_begins_with_the_earlier_frame_itself(before: Pixels, after: Pixels, n: int) -> None:
    """Frame 0 of a fade is the earlier clip's frame, in both pixel formats."""
    assert np.array_equal(blend(before, after, 0, n, "rgb24"), before)
    assert np.array_equal(blend(before, after, 0, n, "yuv420p"), before)


def test_grey_stays_grey_in_a_fade_of_planes() -> None:
    """Neutral chroma (128) is not shifted by the blending of two neutral frames."""
    grey = np.full((6, 4, 1), 128, np.uint8)
    for n in range(1, 33):
        for i in range(n):
            assert (blend(grey, grey, i, n, "yuv420p") == 128).all()


@settings(deadline=None)
@given(
    arrays(np.uint8, (16, 16, 1), elements=st.integers(16, 235)),
    arrays(np.uint8, (8, 16, 1), elements=st.integers(16, 240)),
)
def test_colours_agree_with_ffmpegs_scaler(luma: Pixels, chroma: Pixels) -> None:
    """BT.709 limited range to RGB is within 2 of swscale's, for any planes within that range."""
    frame = np.concatenate([luma, chroma])
    picture = av.VideoFrame.from_ndarray(frame[:, :, 0], format="yuv420p")
    theirs = picture.reformat(
        format="rgb24",
        src_colorspace="ITU709",
        src_color_range="MPEG",
        dst_color_range="JPEG",
        interpolation=POINT_ACCURATE,
    ).to_ndarray()
    ours = small_rgb(frame, VideoSpec(16, 16, 24, "mp4"), 320)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2


POINT_ACCURATE = 0x10 | 0x40000 | 0x2000  # SWS_POINT, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [((16, 128, 128), (0, 0, 0)), ((235, 128, 128), (255, 255, 255)), ((63, 102, 240), (255, 1, 0))],
)
def test_black_white_and_red_are_what_the_standard_says(yuv: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    """Points of BT.709: limited black and white span the full range, red is (63, 102, 240)."""
    y, u, v = (np.full((1, 1), value, np.uint8) for value in yuv)
    assert planes_to_rgb(y, u, v)[0, 0].tolist() == pytest.approx(rgb, abs=1)


def test_planes_lie_one_below_the_other() -> None:
    """Y, then U, then V, chroma of half the size."""
    frame = np.concatenate([np.full(32, 1), np.full(8, 2), np.full(8, 3)]).astype(np.uint8).reshape(6, 8, 1)
    y, u, v = split_planes(frame)
    assert (y.shape, u.shape, v.shape) == ((4, 8), (2, 4), (2, 4))
    assert (set(y.ravel()), set(u.ravel()), set(v.ravel())) == ({1}, {2}, {3})


@given(st.integers(1, 400).map(lambda k: 2 * k), st.integers(1, 400).map(lambda k: 2 * k), st.sampled_from([160, 320]))
def test_small_copies_are_within_the_limit_and_even_factors(width: int, height: int, limit: int) -> None:
    """No side is over the limit, and chroma can be reduced along with luma."""
    factor = reduction(width, height, limit)
    assert -(-width // factor) <= limit
    assert -(-height // factor) <= limit
    assert factor == 1 or factor % 2 == 0


@pytest.mark.parametrize("size", [(64, 32), (352, 96), (1216, 704), (338, 226)])
def test_a_small_copy_has_the_colours_of_the_frame_in_both_formats(size: tuple[int, int]) -> None:
    """An even colour stays what it is, whatever the reduction, in rgb24 and in yuv420p."""
    width, height = size
    rgb = np.broadcast_to(np.array([200, 90, 30], np.uint8), (height, width, 3)).copy()
    planes = av.VideoFrame.from_ndarray(rgb).reformat(format="yuv420p", dst_colorspace="ITU709").to_ndarray()
    from_rgb = small_rgb(rgb, VideoSpec(width, height, 24, "gif"), 320)
    from_planes = small_rgb(np.asarray(planes, np.uint8)[:, :, None], VideoSpec(width, height, 24, "mp4"), 320)
    assert from_rgb.shape == from_planes.shape
    assert (from_rgb == rgb[0, 0]).all()
    assert np.abs(from_planes.astype(int) - rgb[0, 0]).max() <= 2
    assert max(reduced(from_rgb, 160).shape) <= 160


def test_differences_are_in_units_of_the_values() -> None:
    """A uniform change shows in both measures; a change that leaves the means alone only in the pixels'."""
    dark, light = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 10, np.uint8)
    assert (frame_jump(dark, light), colour_shift(dark, light)) == (10, 10)
    left, right = np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2, 3), np.uint8)
    left[0, 0], right[0, 1] = 100, 100
    assert (frame_jump(left, right), colour_shift(left, right)) == (100, 0)
