"""Colour conversion, against numpy and PyAV."""

import av
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake_stages.colour import to_uint8, to_yuv420p

bytes_ = st.integers(0, 255)


def solid(red: int, green: int, blue: int) -> torch.Tensor:
    return torch.tensor([red, green, blue], dtype=torch.uint8).expand(1, 4, 4, 3)


def test_decoded_values_become_bytes_with_clipping_and_nearest_rounding() -> None:
    """-1 is 0, 1 is 255, what lies outside is clipped, a tie goes up."""
    values = torch.tensor([-2.0, -1.0, 0.0, 1 / 127.5 - 1, 1.0, 3.0]).reshape(1, 1, 1, 6).expand(3, 1, 1, 6)
    assert to_uint8(values)[0, 0, :, 0].tolist() == [0, 0, 128, 1, 255, 255]


def test_frames_come_first_and_channels_last() -> None:
    """[3, n, h, w] becomes [n, h, w, 3]."""
    assert to_uint8(torch.zeros(3, 5, 4, 8)).shape == (5, 4, 8, 3)


def test_black_white_and_the_primaries_have_the_levels_of_bt709() -> None:
    """Limited range: black is 16 and white 235 without colour; the primaries as BT.709 tables have them."""
    expected = {
        (0, 0, 0): (16, 128, 128),
        (255, 255, 255): (235, 128, 128),
        (255, 0, 0): (63, 102, 240),
        (0, 255, 0): (173, 42, 26),
        (0, 0, 255): (32, 240, 118),
    }
    for rgb, yuv in expected.items():
        planes = to_yuv420p(solid(*rgb)).flatten()
        assert (int(planes[0]), int(planes[16]), int(planes[20])) == yuv


@given(bytes_, bytes_, bytes_)
@settings(deadline=None)
def test_every_colour_stays_in_the_limited_range(red: int, green: int, blue: int) -> None:
    """Luma is 16..235 and chroma 16..240."""
    planes = to_yuv420p(solid(red, green, blue)).flatten()
    assert 16 <= int(planes[0]) <= 235
    assert all(16 <= int(chroma) <= 240 for chroma in planes[16:])


def test_the_planes_lie_as_pyav_reads_them_and_turn_back_into_the_picture() -> None:
    """PyAV makes the same colours of the planes, up to rounding, where colours change smoothly."""
    y, x = np.mgrid[0:32, 0:64]
    picture = np.stack([x * 4, y * 8, 255 - x * 2 - y * 3], axis=-1).astype(np.uint8)
    planes = to_yuv420p(torch.from_numpy(picture)[None])
    assert planes.shape == (1, 48, 64, 1)
    frame = av.VideoFrame.from_ndarray(planes[0, ..., 0].numpy(), format="yuv420p")
    back = frame.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG").to_ndarray()
    assert np.abs(back.astype(int) - picture).mean() < 4


def test_chroma_is_the_mean_of_its_four_pixels() -> None:
    """One red pixel among three black ones gives a quarter of red's chroma."""
    frames = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    frames[0, 0, 0, 0] = 255
    planes = to_yuv420p(frames).flatten()
    assert int(planes[20]) == round(128 + (240 - 128) / 4)
    assert planes[21:24].tolist() == [128, 128, 128]
