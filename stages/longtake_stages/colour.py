"""RGB frames to the planes a video encoder takes."""

import torch

# ITU-R BT.709-6, item 3.2 and 3.3: luma weights, and the divisors that bring B-Y and R-Y to -0.5..0.5.
_RED, _GREEN, _BLUE = 0.2126, 0.7152, 0.0722
_BLUE_SPAN, _RED_SPAN = 1.8556, 1.5748


def to_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Decoded frames ``[3, n, height, width]`` of -1..1 as uint8 RGB ``[n, height, width, 3]``.

    Values outside are clipped; ``(x + 1) * 127.5`` is rounded to the nearest, ties up.
    """
    scaled = (frames.float().clamp(-1, 1) + 1) * 127.5
    return (scaled + 0.5).floor().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def to_yuv420p(frames: torch.Tensor) -> torch.Tensor:
    """uint8 RGB ``[n, height, width, 3]`` as uint8 ``[n, height * 3 / 2, width, 1]``; sizes are multiples of 4.

    BT.709, limited range (luma 16..235, chroma 16..240); the planes Y, U and V lie one below the other, as in PyAV's
    ``yuv420p`` arrays. A chroma sample is the mean of its 2x2 pixels, so it is sited at their centre. Every sample is
    rounded to the nearest, ties up. It is computed from the rounded RGB, so both formats show the same clip.
    """
    red, green, blue = (frames[..., channel].float() for channel in range(3))
    luma = _RED * red + _GREEN * green + _BLUE * blue
    planes = (
        _quantise(16 + luma * (219 / 255)),
        _quantise(128 + _halve(blue - luma) * (224 / 255 / _BLUE_SPAN)),
        _quantise(128 + _halve(red - luma) * (224 / 255 / _RED_SPAN)),
    )
    count, height, width = luma.shape
    flat = torch.cat([plane.reshape(count, -1) for plane in planes], dim=1)
    return flat.reshape(count, height * 3 // 2, width, 1)


def _halve(plane: torch.Tensor) -> torch.Tensor:
    count, height, width = plane.shape
    return plane.reshape(count, height // 2, 2, width // 2, 2).mean(dim=(2, 4))


def _quantise(plane: torch.Tensor) -> torch.Tensor:
    return (plane + 0.5).floor().to(torch.uint8)
