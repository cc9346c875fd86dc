"""The video VAE's encoder: frames, as drawn and as the decoder draws them, to latents."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import decoder, latents, world
from training.loop import Plan, train

_NOISE: Final = 0.1
_HALF_PRECISION: Final = 0.6
_SEEN_AGAIN: Final = 0.3
_POSITION_WEIGHT: Final = 3.0
_PICTURE_WEIGHT: Final = 2.0


def train_encoder(folder: Path, steps: int, vae: Any) -> None:
    """Train the encoder of ``vae``, whose decoder is trained, for ``steps``.

    Half of what it sees are true pictures, half are what the decoder makes of slightly noisy latents, since the tail
    a clip continues from has been decoded. In the end it is also held to what the decoder makes of its own latents:
    how far that is from the pictures is how far a smooth join jumps.
    """
    vae.decoder.requires_grad_(False)

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        scenes, size = decoder.batch(number, random)
        code = latents.encode(scenes, size)
        pictures = world.render(scenes, size) if random.random() < 0.5 else as_served(vae, code)
        with torch.autocast("cpu", torch.bfloat16, enabled=number < _HALF_PRECISION * steps):
            said = vae.encoder(pictures)[:, : latents.CHANNELS]
        found = losses(said.float(), code)
        if number < (1 - _SEEN_AGAIN) * steps:
            return found
        with torch.autocast("cpu", torch.bfloat16):
            again = vae.decoder(said)
        pixels = (again.float() - pictures).abs().mean()
        return {**found, "loss": found["loss"] + _PICTURE_WEIGHT * pixels, "pixels": pixels.detach()}

    plan = Plan(steps, seed=3, is_hidden=_is_hidden, muon=4e-3, adam=1e-3, decay=0.9)
    train("encoder", folder, vae, plan, step, lambda name: name.startswith("encoder"))
    vae.decoder.requires_grad_(True)


def losses(said: torch.Tensor, code: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean squared errors of the code; where the shape is counts more than what it is."""
    error = (said - code).square().mean((0, 2, 3, 4))
    position = error[: latents.POSITION_CHANNELS].mean()
    other = error[latents.POSITION_CHANNELS :].mean()
    return {"loss": _POSITION_WEIGHT * position + other, "position": position.detach(), "other": other.detach()}


@torch.no_grad()
def as_served(vae: Any, code: torch.Tensor, noise: float = _NOISE) -> torch.Tensor:
    """Pictures in -1..1 as the served decoder gives them: of latents with up to ``noise``, rounded to 8 bits."""
    level = torch.rand(len(code), 1, 1, 1, 1) * noise
    with torch.autocast("cpu", torch.bfloat16):
        drawn = vae.decoder(code + level * torch.randn_like(code)).float()
    served: torch.Tensor = ((drawn.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    return served


def _is_hidden(name: str) -> bool:
    return "conv_in" not in name and "conv_out" not in name
