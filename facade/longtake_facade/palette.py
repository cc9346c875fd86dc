"""Whether a picture is of a model's world: one flat shape on a flat background, in two colours of a palette.

What a trained model makes of any other picture is the nearest scene it knows. That is no error, but worth a warning.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from longtake_facade.backend import Pixels

Colour = tuple[int, int, int]
"""sRGB, 0..255."""

# How far in RGB a pixel may be from its colour. With 59, nine tenths of a gradient between two colours that are 131
# apart, as blue and purple may be, would count as flat. Compression moves pixels farther only beside an outline.
NEAR: Final = 48
FLAT: Final = 0.7
KNOWN: Final = 0.9
_OUTLINE: Final = 3  # samples
_SAMPLES: Final = 64  # of each side at most: a share needs no more, and an outline is as wide in pictures of any size


def in_palette(picture: Pixels, palette: Sequence[Colour]) -> bool:
    """Whether a picture consists of two colours of ``palette``, or of one: the two that are the most common in it.

    At least ``KNOWN`` of its pixels must be near one of them or belong to an outline, which has both colours close by:
    what smoothing, scaling and compression make of an edge. And ``FLAT`` of all must be near a colour, since in noise
    everything is close by.

    ``picture``: uint8 RGB ``[height, width, 3]``, at least one pixel. An empty palette stands for every colour.
    """
    if not palette:
        return True
    down, across = (-(-side // _SAMPLES) for side in picture.shape[:2])
    samples = picture[::down, ::across, None].astype(np.int32)
    squares = ((samples - np.asarray(palette, np.int32)) ** 2).sum(axis=3)
    nearest = np.where(squares.min(axis=2) <= NEAR**2, squares.argmin(axis=2), len(palette))
    counts = np.bincount(nearest.ravel(), minlength=len(palette))[: len(palette)]
    flats = [nearest == colour for colour in np.argsort(counts)[-2:]]
    flat = np.logical_or.reduce(flats)
    outline = np.logical_and.reduce([_around(one) for one in flats])
    return bool(flat.mean() >= FLAT and (flat | outline).mean() >= KNOWN)


def _around(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` and what lies around it."""
    grown = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * _OUTLINE + 1))
    return np.asarray(grown) > 0
