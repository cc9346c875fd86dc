"""What counts as a picture of a model's world: flat shapes in a palette's colours, whatever became of their files."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from longtake_facade.backend import Pixels
from longtake_facade.images import fit_image
from longtake_facade.palette import in_palette
from served import PALETTE

COLOURS = tuple(PALETTE.values())
PAIRS = list(itertools.combinations(COLOURS, 2))
SMOOTHER = 4


@st.composite
def scenes(draw: st.DrawFn) -> Image.Image:
    """A circle, square or triangle with smooth edges, all or partly in view, on a square of 64 to 192 pixels."""
    colour, background = draw(st.permutations(COLOURS))[:2]
    side = draw(st.integers(64, 192))
    unit = side / 64 * SMOOTHER
    x, y = (draw(st.floats(0, 64)) * unit for _ in range(2))
    radius = draw(st.floats(8, 22)) * unit
    image = Image.new("RGB", (side * SMOOTHER,) * 2, background)
    paint = ImageDraw.Draw(image)
    match draw(st.sampled_from(["circle", "square", "triangle"])):
        case "circle":
            paint.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        case "square":
            paint.rectangle((x - radius, y - radius, x + radius, y + radius), fill=colour)
        case _:
            paint.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return image.resize((side, side), Image.Resampling.BOX)


def seen(image: Image.Image, kind: str = "PNG", **options: object) -> Pixels:
    """The image as the model sees it after a file of this kind."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return fit_image(file.getvalue(), 64, 64)[0]


def ramp(kind: str) -> np.ndarray:
    """64x64 values from 0 to 1."""
    down, across = np.mgrid[0:64, 0:64] / 63
    ramps = {
        "across": across,
        "aslant": (down + across) / 2,
        "round": np.clip(np.hypot(down - 0.5, across - 0.5) * 1.5, 0, 1),
    }
    return ramps[kind][..., None]


# --------------------------------------------------------------------------------------------------- of the world


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_a_shape_in_two_colours_of_the_palette_is_known(image: Image.Image) -> None:
    """Wherever it is, and however large."""
    assert in_palette(seen(image), COLOURS)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from(["JPEG", "WEBP"]))
def test_compression_does_not_make_a_picture_foreign(image: Image.Image, kind: str) -> None:
    """At quality 80, with its halved colour resolution and its rings around edges."""
    assert in_palette(seen(image, kind, quality=80), COLOURS)


@settings(max_examples=60, deadline=None)
@given(scenes(), st.floats(0.5, 3))
def test_scaling_does_not_make_a_picture_foreign(image: Image.Image, factor: float) -> None:
    """Smaller or larger, by bilinear interpolation."""
    side = round(image.width * factor)
    assert in_palette(seen(image.resize((side, side), Image.Resampling.BILINEAR)), COLOURS)


@given(scenes(), st.sampled_from([(64, 64), (96, 64), (256, 512)]))
@settings(max_examples=30, deadline=None)
def test_the_size_of_the_clip_does_not_matter(image: Image.Image, size: tuple[int, int]) -> None:
    """Outlines are as soft as the enlargement makes them."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    assert in_palette(fit_image(file.getvalue(), *size)[0], COLOURS)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_background_alone_is_known(colour: tuple[int, int, int]) -> None:
    """A scene before anything enters it."""
    assert in_palette(np.full((64, 64, 3), colour, np.uint8), COLOURS)


# ---------------------------------------------------------------------------------------------------- of another one


@pytest.mark.parametrize("kind", ["across", "aslant", "round"])
@pytest.mark.parametrize("grain", [0, 20])
def test_gradients_are_foreign(kind: str, grain: float) -> None:
    """Between any two colours of the palette, as near to each other as they may be; with and without grain."""
    random = np.random.default_rng(0)
    for one, other in PAIRS:
        smooth = (1 - ramp(kind)) * one + ramp(kind) * other
        picture = np.clip(random.normal(smooth, grain), 0, 255).astype(np.uint8)
        assert not in_palette(picture, COLOURS), (one, other)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 3]), st.floats(10, 150))
def test_noise_is_foreign(seed: int, channels: int, spread: float) -> None:
    """Grey or coloured; as strong as to be little more than black and white."""
    noise = np.random.default_rng(seed).normal(128, spread, (64, 64, channels))
    picture = np.clip(noise, 0, 255).astype(np.uint8).repeat(3 // channels, axis=2)
    assert not in_palette(picture, COLOURS)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 12), st.sampled_from(["L", "RGB"]))
def test_what_is_like_a_photograph_is_foreign(seed: int, detail: int, mode: str) -> None:
    """Soft patches of any colour, light falling off to a corner, and grain."""
    random = np.random.default_rng(seed)
    patches = random.integers(30, 226, (detail, detail, len(mode)), np.uint8).squeeze()
    image = Image.fromarray(patches).convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    lit = np.asarray(image) * (1 - 0.4 * ramp("aslant")) + random.normal(0, 6, (64, 64, 1))
    assert not in_palette(np.clip(lit, 0, 255).astype(np.uint8), COLOURS)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_that_is_not_in_the_palette_is_foreign(colour: tuple[int, int, int]) -> None:
    """Unless it is so near to one that compression may have moved it."""
    nearest = min(np.linalg.norm(np.subtract(colour, one)) for one in COLOURS)
    assert in_palette(np.full((32, 32, 3), colour, np.uint8), COLOURS) == (nearest <= 48)


def test_three_colours_are_one_too_many() -> None:
    """A fifth of the picture is of the third."""
    picture = np.full((60, 60, 3), PALETTE["black"], np.uint8)
    picture[:24], picture[-12:] = PALETTE["white"], PALETTE["red"]
    assert not in_palette(picture, COLOURS)


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 200))
@settings(max_examples=20, deadline=None)
def test_without_a_palette_no_picture_is_foreign(seed: int, height: int, width: int) -> None:
    """Such a model takes what it gets."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    assert in_palette(noise, ())


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (64, 65)])
def test_pictures_may_have_any_size_and_palettes_one_colour(size: tuple[int, int]) -> None:
    """Down to a single pixel."""
    picture = np.full((*size, 3), PALETTE["green"], np.uint8)
    assert in_palette(picture, [PALETTE["green"]])
    assert not in_palette(picture, [PALETTE["purple"]])
