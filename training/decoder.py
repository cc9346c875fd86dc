"""The video VAE's decoder: latents (a little noisy, as the denoiser leaves them) to frames."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import components, latents, world
from training.loop import Plan, train
from training.world import Ints, Scenes, Size

_NOISE: Final = 0.15
_EDGE_WEIGHT: Final = 4.0
_HALF_PRECISION: Final = 0.7
_FINEST: Final = "up_blocks.6.upsamplers"


def train_decoder(folder: Path, steps: int) -> Any:
    """Train the decoder for ``steps``; gives the whole VAE, its encoder untrained."""
    torch.manual_seed(1)
    vae = components.video_vae()

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        scenes, size = batch(number, random)
        pictures = world.render(scenes, size)
        code = latents.encode(scenes, size)
        # Half precision costs half the time; the last steps are exact.
        with torch.autocast("cpu", torch.bfloat16, enabled=number < _HALF_PRECISION * steps):
            drawn = vae.decoder(with_noise(code))
        return losses(drawn.float(), pictures)

    plan = Plan(steps, seed=2, is_hidden=is_hidden, muon=4e-3, adam=3e-3, decay=0.8)
    train("decoder", folder, vae, plan, step, is_trainable)
    return vae


def with_noise(code: torch.Tensor, most: float = _NOISE) -> torch.Tensor:
    """Latents as the denoiser may leave them: with white noise, of another level up to ``most`` in every clip."""
    level = torch.rand(len(code), 1, 1, 1, 1) * most
    return code + level * torch.randn_like(code)


def losses(drawn: torch.Tensor, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Errors of pictures in -1..1, those at edges counted more; ``psnr`` in dB is for the log."""
    flat = pictures.transpose(1, 2).flatten(0, 1)
    around = torch.nn.functional.avg_pool2d(flat, 7, 1, 3, count_include_pad=False)
    edges = (flat - around).abs().amax(1, keepdim=True).clamp(max=1)
    weight = 1 + _EDGE_WEIGHT * edges.reshape(len(pictures), -1, 1, *edges.shape[2:]).transpose(1, 2)
    error = drawn - pictures
    squared = error.square()
    loss = (error.abs() * weight).mean() + (squared * weight).mean()
    return {"loss": loss, "psnr": 10 * torch.log10(4 / squared.mean().detach())}


def batch(number: int, random: np.random.Generator) -> tuple[Scenes, Size]:
    """Scenes of every kind: single pictures and short clips, now and then a longer or a larger one."""
    kind = number % 8
    if kind in (0, 2, 4):
        return scenes(random, 48, 1, (64, 64)), (64, 64)
    if kind in (1, 5, 6):
        return scenes(random, 6, 2, (64, 64)), (64, 64)
    if kind == 3:
        return scenes(random, 4, 3, (64, 64)), (64, 64)
    size = [(128, 128), (96, 64), (64, 96), (128, 64)][number // 8 % 4]
    return scenes(random, 8, 1, size), size


def scenes(random: np.random.Generator, count: int, keyframes: int, size: Size) -> Scenes:
    """Clips that begin anywhere, of which half turn into another scene; every radius there is.
    ``keyframes`` is at most four."""
    before = world.begin(random, world.draw_attributes(random, count), 1, size, anywhere=0.8)
    before.radius[:] = random.uniform(8, world.LARGEST_RADIUS + 0.5, before.radius.shape)
    turning = random.random(count) < 0.5
    goal = np.where(turning[:, None], world.draw_attributes(random, count), _same(before, random))
    clips = world.extend(random, before, goal, 3, size)
    start = random.integers(0, 4 - keyframes + 1)
    return clips.span(start, start + keyframes)


def _same(before: Scenes, random: np.random.Generator) -> Ints:
    """The look of ``before`` with any motion."""
    look = [value[:, 0].argmax(-1) for value in (before.shape, before.colour, before.background)]
    return np.stack([*look, random.integers(0, len(world.MOTIONS), len(before))], 1)


def is_trainable(name: str) -> bool:
    """The layers that carry the code to the finest grid are exact and stay as they are."""
    return name.startswith("decoder") and any(part in name for part in ("resnets", "conv_out", _FINEST))


def is_hidden(name: str) -> bool:
    """Of the trainable layers, those for Muon."""
    return "conv_out" not in name
