"""The decoder once more: it learns to draw what the trained encoder says.

The error of an encoder is not white. Where the decoder has seen it, a frame that is decoded, encoded and decoded again
stays nearly the same, and that is what a smooth join is.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import decoder, encoder, latents, world
from training.loop import Plan, train

_ENCODED: Final = 0.6
_HALF_PRECISION: Final = 0.5


def polish_decoder(folder: Path, steps: int, vae: Any) -> None:
    """Train the decoder of ``vae`` for ``steps``, most of them on latents of its encoder, which stays as it is."""
    vae.encoder.requires_grad_(False)

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        scenes, size = encoder.batch(number, random)
        pictures = world.render(scenes, size)
        code = latents.encode(scenes, size)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            said = vae.encoder(pictures)[:, : latents.CHANNELS].float()
        chosen = torch.rand(len(scenes), 1, 1, 1, 1) < _ENCODED
        with torch.autocast("cpu", torch.bfloat16, enabled=number < _HALF_PRECISION * steps):
            drawn = vae.decoder(torch.where(chosen, said, decoder.with_noise(code)))
        return decoder.losses(drawn.float(), pictures)

    plan = Plan(steps, seed=8, is_hidden=decoder.is_hidden, muon=2e-3, adam=1e-3, decay=1.0)
    train("polished", folder, vae, plan, step, decoder.is_trainable)
    vae.encoder.requires_grad_(True)
