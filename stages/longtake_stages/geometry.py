"""Shapes of clips in frames, latents and samples: each rule is written once, here.

A clip has ``8k+1`` frames because the video VAE of LTX-2 encodes the first frame alone and every further eight
frames into one latent frame (temporal compression 8, causal; Lightricks LTX-2, ``VideoLatentShape``).
"""

from fractions import Fraction


def on_grid(frames: int, step: int) -> bool:
    """Whether ``frames`` (>= 1) is ``step * k + 1`` for a whole k >= 0."""
    return frames >= 1 and (frames - 1) % step == 0


def ceil_to_grid(frames: int, step: int) -> int:
    """The smallest length on the grid that holds ``frames`` (>= 1) frames."""
    return -(-(frames - 1) // step) * step + 1


def latent_index(frame: int, step: int) -> int:
    """The latent frame in which pixel frame ``frame`` begins: 0 for frame 0, ``k + 1`` for frame ``step * k + 1``.

    Raises:
        ValueError: ``frame`` is neither 0 nor on the grid, so no latent frame begins there.
    """
    if frame == 0:
        return 0
    if not on_grid(frame, step):
        raise ValueError(f"frame {frame} is not 0 or {step}k+1, so no latent frame begins there")
    return (frame - 1) // step + 1


def sample_at(frame: int, rate: int, fps: int) -> int:
    """The audio sample (of ``rate`` per second) at which video frame ``frame`` begins: ``round(frame*rate/fps)``.

    Exact for any size of number; a tie goes to the even sample, as Python's ``round`` has it.
    """
    return round(Fraction(frame * rate, fps))
