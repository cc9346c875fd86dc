"""The video VAE's encoder: frames, as drawn and as the decoder draws them, to latents."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import components, decoder, latents, world
from training.loop import Plan, train
from training.world import Scenes, Size

_NOISE: Final = 0.1
_HALF_PRECISION: Final = 0.6
_SEEN_AGAIN: Final = 0.25
_POSITION_WEIGHT: Final = 3.0
_NAMES_WEIGHT: Final = 10.0
_PICTURE_WEIGHT: Final = 2.0


def train_encoder(folder: Path, steps: int, vae: Any) -> None:
    """Train the encoder of ``vae``, whose decoder is trained, for ``steps``.

    Half of what it sees are true pictures, half are what the decoder makes of slightly noisy latents, since the tail
    a clip continues from has been decoded. Its finest features are held to name the colour of every cell: what is
    averaged on the way to the latents is then how much there is of each colour, and not their mixture. In the end it is
    also held to what the decoder makes of its own latents: how far that is from the pictures is how far a smooth join
    jumps.
    """
    vae.decoder.requires_grad_(False)
    finest: list[torch.Tensor] = []
    hook = vae.encoder.down_blocks[0].resnets[-1].register_forward_hook(lambda *call: finest.append(call[2]))

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        scenes, size = batch(number, random)
        code = latents.encode(scenes, size)
        pictures = world.render(scenes, size) if random.random() < 0.5 else as_served(vae, code)
        finest.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=number < _HALF_PRECISION * steps):
            said = vae.encoder(pictures)[:, : latents.CHANNELS]
        found = losses(said.float(), code)
        named = torch.nn.functional.avg_pool3d(
            world.name_colours(world.frames(scenes), size), (1, components.PATCH, components.PATCH)
        )
        names = (finest[0][:, : len(world.COLOURS)].float() - named).square().mean()
        found = {**found, "loss": found["loss"] + _NAMES_WEIGHT * names, "names": names.detach()}
        if number < (1 - _SEEN_AGAIN) * steps:
            return found
        with torch.autocast("cpu", torch.bfloat16):
            again = vae.decoder(said)
        pixels = (again.float() - pictures).abs().mean()
        return {**found, "loss": found["loss"] + _PICTURE_WEIGHT * pixels, "pixels": pixels.detach()}

    plan = Plan(steps, seed=3, is_hidden=_is_hidden, muon=2.5e-3, adam=1e-3, decay=1.0)
    train("encoder", folder, vae, plan, step, lambda name: name.startswith("encoder"))
    hook.remove()
    vae.decoder.requires_grad_(True)


def batch(number: int, random: np.random.Generator) -> tuple[Scenes, Size]:
    """Single pictures, the tails that clips continue from, and now and then larger frames."""
    if number % 8 == 7:
        size = [(128, 128), (96, 64), (64, 96), (128, 64)][number // 8 % 4]
        return decoder.scenes(random, *((8, 1) if number // 32 % 2 else (2, 3)), size), size
    return decoder.scenes(random, *((48, 1) if number % 2 else (5, 3)), (64, 64)), (64, 64)


def losses(said: torch.Tensor, code: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean squared errors of the code; where the shape is counts more than what it is."""
    error = (said - code).square().mean((0, 2, 3, 4))
    position = error[: latents.POSITION_CHANNELS].mean()
    other = error[latents.POSITION_CHANNELS :].mean()
    return {"loss": _POSITION_WEIGHT * position + other, "position": position.detach(), "other": other.detach()}


@torch.no_grad()
def as_served(vae: Any, code: torch.Tensor) -> torch.Tensor:
    """Pictures in -1..1 as the served decoder gives them: of slightly noisy latents, rounded to 8 bits."""
    with torch.autocast("cpu", torch.bfloat16):
        drawn = vae.decoder(decoder.with_noise(code, _NOISE)).float()
    served: torch.Tensor = ((drawn.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
    return served


def _is_hidden(name: str) -> bool:
    return "conv_in" not in name and "conv_out" not in name
