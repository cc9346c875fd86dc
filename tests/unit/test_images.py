"""Images that clients send: what is refused before any rendering, and the pixels that a clip is conditioned on."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from longtake_facade import images
from longtake_facade.images import BadImage, check_image, fit_image

ORIENTATION = 0x0112


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """64x32, left red, right blue."""
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    return image.convert(mode)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def close(pixels: np.ndarray, colour: tuple[int, int, int], by: int = 3) -> bool:
    """Whether all pixels are of about this colour."""
    return bool((np.abs(pixels.astype(int) - colour) <= by).all())


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_three_formats_are_accepted(kind: str) -> None:
    """Each of them is decoded to its pixels."""
    data = file_of(Image.new("RGB", (40, 40), (200, 10, 10)), kind)
    check_image(data)
    assert close(fit_image(data, 32, 32), (200, 10, 10), by=4)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_refused_although_they_could_be_decoded(kind: str) -> None:
    """The message says what is allowed."""
    with pytest.raises(BadImage, match="PNG, JPEG and WebP are allowed"):
        check_image(file_of(Image.new("RGB", (16, 16), "red"), kind))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"text",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"RIFF",
    ],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    """Nothing, text, and the first bytes of an image without the rest."""
    with pytest.raises(BadImage):
        check_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    """The header is whole, the pixels are not."""
    data = file_of(Image.effect_noise((64, 64), 80), kind)
    with pytest.raises(BadImage, match="damaged"):
        check_image(data[: len(data) // 2])


@pytest.mark.parametrize("size", [(7072, 7072), (12000, 12000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decoded, and the message names the limit."""
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(BadImage, match="50 megapixels"):
        check_image(png_header(*size))


def test_a_text_chunk_that_inflates_without_end_is_refused() -> None:
    """The size of the image is small; its metadata is not."""
    bomb = b"comment\x00\x00" + zlib.compress(bytes(80 * 2**20))
    data = file_of(Image.new("RGB", (8, 8)), "PNG")
    chunk = struct.pack(">I", len(bomb)) + b"zTXt" + bomb + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))
    with pytest.raises(BadImage):
        check_image(data[:33] + chunk + data[33:])


def test_too_many_bytes_are_refused_undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself is allowed."""
    data = file_of(Image.new("RGB", (8, 8)), "PNG")
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", len(data))
    check_image(data)
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", len(data) - 1)
    with pytest.raises(BadImage, match="bytes; at most"):
        check_image(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_data_that_cannot_be_read_is_refused_before_rendering(kind: str) -> None:
    """Not only when the orientation is wanted."""
    with pytest.raises(BadImage, match="damaged"):
        check_image(file_of(halves(), kind, exif=b"Exif\x00\x00garbage"))


SEEDS = [
    file_of(Image.effect_noise((24, 16), 60).convert(mode), kind, **options)
    for mode, kind, options in (
        (
            "RGB",
            "PNG",
            {"exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"},
        ),
        ("P", "PNG", {}),
        ("L", "JPEG", {"progressive": True}),
        ("RGBA", "WEBP", {}),
    )
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_what_passes_the_check_can_be_rendered(seed: bytes, changes: list[tuple[int, int]]) -> None:
    """Damage anywhere in a file is refused as a bad image, or does no harm; nothing else is ever raised."""
    data = bytearray(seed)
    for place, value in changes:
        data[place % len(data)] = value
    try:
        check_image(bytes(data))
    except BadImage:
        return
    assert fit_image(bytes(data), 32, 32).shape == (1, 32, 32, 3)


# ---------------------------------------------------------------------------------------------------- what it becomes


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 32), (32, 96), (512, 32)])
def test_an_image_covers_the_clip_and_its_middle_is_kept(width: int, height: int) -> None:
    """The boundary between its halves stays in the middle, and no border is added."""
    pixels = fit_image(file_of(halves(), "PNG"), width, height)
    assert (pixels.shape, pixels.dtype) == ((1, height, width, 3), np.uint8)
    half = width // 2
    edge = max(2, width // 8)
    assert close(pixels[:, :, : half - edge], (255, 0, 0), by=16)
    assert close(pixels[:, :, half + edge :], (0, 0, 255), by=16)


def test_an_image_of_the_clip_s_size_is_taken_as_it_is() -> None:
    """Bit for bit."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    np.testing.assert_array_equal(fit_image(file_of(Image.fromarray(noise), "PNG"), 64, 32)[0], noise)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_orientation_of_exif_data_is_applied(kind: str) -> None:
    """A camera held upright: what is stored left is shown on top."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pixels = fit_image(file_of(halves(), kind, exif=exif), 32, 64)[0]
    assert close(pixels[:24], (255, 0, 0), by=12)
    assert close(pixels[40:], (0, 0, 255), by=12)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), {}),
        (Image.new("LA", (8, 8), (255, 0)), {}),
        (Image.new("RGB", (8, 8), "red"), {"transparency": (255, 0, 0)}),
        (Image.new("RGB", (8, 8), "red").quantize(4), {"transparency": 0}),
    ],
    ids=["RGBA", "LA", "tRNS of a colour", "palette"],
)
def test_transparency_is_laid_on_black(image: Image.Image, options: dict[str, object]) -> None:
    """Whatever way a file expresses it."""
    assert close(fit_image(file_of(image, "PNG", **options), 32, 32), (0, 0, 0))


def test_half_transparency_dims() -> None:
    """It is blended, not cut."""
    image = Image.new("RGBA", (8, 8), (200, 100, 0, 128))
    assert close(fit_image(file_of(image, "WEBP", lossless=True), 32, 32), (100, 50, 0))


@pytest.mark.parametrize(
    ("image", "kind", "colour"),
    [
        (Image.new("RGB", (8, 8), "red").quantize(4), "PNG", (255, 0, 0)),
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (8, 8), 100), "JPEG", (100, 100, 100)),
        (Image.new("I;16", (8, 8), 0x6480), "PNG", (100, 100, 100)),
        (Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", (255, 0, 0)),
    ],
    ids=["palette", "1 bit", "grey", "16 bit", "CMYK"],
)
def test_every_kind_of_pixel_becomes_rgb(image: Image.Image, kind: str, colour: tuple[int, int, int]) -> None:
    """Sixteen bits are scaled to eight, not cut off."""
    assert close(fit_image(file_of(image, kind), 32, 32), colour)


def test_an_animation_gives_its_first_frame() -> None:
    """The others are not looked at."""
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("lime", "red")]
    data = file_of(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert close(fit_image(data, 32, 32), (0, 255, 0))
