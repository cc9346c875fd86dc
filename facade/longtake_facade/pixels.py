"""Arithmetic on frames: fades, colours, small copies and the differences between frames. Pure numpy and Pillow."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from PIL import Image

from longtake_facade.artifacts import VideoSpec
from longtake_facade.backend import Pixels
from longtake_stages.contract import PixelFormat

REPORT_PIXELS: Final = 320
"""Longest side of the frames that the join report compares."""
PREVIEW_PIXELS: Final = 160
"""Longest side of the preview."""


def blend(before: Pixels, after: Pixels, i: int, n: int, pixel_format: PixelFormat) -> Pixels:
    """Frame ``i`` (0..n-1) of a fade of ``n`` (1..32) frames: ``((n-i)*before + i*after) // n`` on every value.

    For yuv420p ``n//2`` is added before the division: chroma is centred on 128, a plain floor would shift it.
    Any equal shapes, uint8 in and out; computed in 16 bits (255*32 fits).
    """
    mixed = before.astype(np.uint16)
    mixed *= np.uint16(n - i)
    mixed += after.astype(np.uint16) * np.uint16(i)
    if pixel_format == "yuv420p":
        mixed += np.uint16(n // 2)
    mixed //= np.uint16(n)
    return mixed.astype(np.uint8)


def planes_to_rgb(y: Pixels, u: Pixels, v: Pixels) -> Pixels:
    """RGB ``[..., 3]`` of equally large planes Y, U, V: BT.709 (Kr 0.2126, Kb 0.0722), limited range, rounded.

    ITU-R BT.709-6, items 3.2 to 3.5: Y is 16..235, U and V are 16..240 around 128.
    """
    luma = (y.astype(np.float32) - 16) * np.float32(255 / 219)
    blue = (u.astype(np.float32) - 128) * np.float32(255 / 224)
    red = (v.astype(np.float32) - 128) * np.float32(255 / 224)
    kr, kb = 0.2126, 0.0722
    kg = 1 - kr - kb
    rgb = np.empty((*y.shape, 3), np.float32)
    rgb[..., 0] = luma + np.float32(2 * (1 - kr)) * red
    rgb[..., 1] = luma - np.float32(2 * (1 - kr) * kr / kg) * red - np.float32(2 * (1 - kb) * kb / kg) * blue
    rgb[..., 2] = luma + np.float32(2 * (1 - kb)) * blue
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def split_planes(frame: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """Views of Y ``[h, w]``, U and V ``[h/2, w/2]`` of a yuv420p frame ``[h*3/2, w, 1]``."""
    height, width = frame.shape[0] * 2 // 3, frame.shape[1]
    flat = np.ascontiguousarray(frame).reshape(-1)
    luma, chroma = height * width, height * width // 4
    half = (height // 2, width // 2)
    return (
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(half),
        flat[luma + chroma :].reshape(half),
    )


def reduction(width: int, height: int, limit: int) -> int:
    """By which whole number both sides are divided so that neither is over ``limit``: 1, or even (chroma is halved)."""
    factor = -(-max(width, height) // limit)
    return factor if factor == 1 else factor + factor % 2


def small_rgb(frame: Pixels, spec: VideoSpec, limit: int) -> Pixels:
    """A frame in the spec's pixel format as RGB ``[h, w, 3]``, box-averaged so that no side is over ``limit``."""
    factor = reduction(spec.width, spec.height, limit)
    if spec.pixel_format == "rgb24":
        return np.asarray(Image.fromarray(frame).reduce(factor))
    y, u, v = split_planes(frame)
    if factor == 1:
        height, width = y.shape
        u, v = (plane.repeat(2, 0).repeat(2, 1)[:height, :width] for plane in (u, v))
    else:
        y = np.asarray(Image.fromarray(y).reduce(factor))
        u, v = (np.asarray(Image.fromarray(plane).reduce(factor // 2)) for plane in (u, v))
    return planes_to_rgb(y, u, v)


def reduced(rgb: Pixels, limit: int) -> Pixels:
    """An RGB frame ``[h, w, 3]`` box-averaged so that no side is over ``limit``."""
    return np.asarray(Image.fromarray(rgb).reduce(reduction(rgb.shape[1], rgb.shape[0], limit)))


def frame_jump(before: Pixels, after: Pixels) -> float:
    """Mean absolute difference of two RGB frames' values, 0..255."""
    return float(np.abs(before.astype(np.int16) - after.astype(np.int16)).mean())


def colour_shift(before: Pixels, after: Pixels) -> float:
    """Mean absolute difference of two RGB frames' channel means, 0..255."""
    return float(np.abs(before.mean(axis=(0, 1)) - after.mean(axis=(0, 1))).mean())


def stack(frames: Sequence[Pixels]) -> Pixels:
    """Frames as one array; ``[0, 0, 0, 3]`` of none."""
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)
