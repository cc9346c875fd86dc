"""Images that clients send: checked before any rendering, fitted to the clip when it is rendered."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from longtake_facade.backend import Pixels

MAX_IMAGE_BYTES = 16 * 2**20
MAX_IMAGE_PIXELS = 50_000_000
MAX_IMAGES_BYTES = 48 * 2**20
"""Of all images of a normalised script, each counted once per stage, as the echo carries them."""
FORMATS = ("PNG", "JPEG", "WEBP")


class BadImage(Exception):
    """The bytes are no image that can be used; the message says what is allowed."""


def check_image(data: bytes) -> None:
    """Make sure that ``data`` is a PNG, JPEG or WebP file of allowed size whose first frame can be decoded.

    Raises:
        BadImage: it is not.
    """
    if len(data) > MAX_IMAGE_BYTES:
        raise BadImage(f"the image has {len(data)} bytes; at most {MAX_IMAGE_BYTES} (16 MiB) are allowed")
    _decode(data)


def fit_image(data: bytes, width: int, height: int) -> Pixels:
    """Scale an image to cover ``width`` x ``height`` and crop its middle: uint8 RGB ``[1, height, width, 3]``.

    The orientation that its EXIF data asks for is applied, transparency is laid on black.

    Raises:
        BadImage: it cannot be decoded.
    """
    image = _decode(data)
    if image.mode.startswith("I;16"):
        # Pillow would cut 16-bit grey off at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    fitted = ImageOps.fit(image.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)[None]


def _decode(data: bytes) -> Image.Image:
    """The first frame, upright: whatever could fail later fails here."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is refused here anyway, and of odd EXIF data that does no harm.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise BadImage(f"the image is {image.width}x{image.height}; at most 50 megapixels are allowed")
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise BadImage("not an image that is understood; PNG, JPEG and WebP are allowed") from error
    except Image.DecompressionBombError as error:
        raise BadImage("the image is far too large; at most 50 megapixels are allowed") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage("the image is damaged and cannot be decoded") from error
