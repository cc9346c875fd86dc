"""The audio VAE: spectrograms to the latents of :mod:`training.sound`, and latents (a little noisy) to spectrograms."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import components, sound, world
from training.loop import Plan, train
from training.sound import Sounds

_BATCH: Final = 24
_NOISE: Final = 0.25
_SIDES_WEIGHT: Final = 3.0
_SCALE: Final = 4.0  # amplitudes are small: what is counted are errors of about one


def train_audio(folder: Path, steps: int) -> Any:
    """Train both halves for ``steps``; gives the VAE, whose latents have statistics 0 and 1."""
    torch.manual_seed(5)
    vae = components.audio_vae()

    def step(number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        heard = sounds(random, _BATCH, (13, 21, 9, 17)[number % 4])
        truth = sound.spectrogram(heard)
        code = sound.unpacked(sound.encode(heard))
        said = vae.encode(truth).latent_dist.mean
        level = torch.rand(_BATCH, 1, 1, 1) * _NOISE
        drawn = vae.decode(code + level * torch.randn_like(code)).sample
        encoding, drawing = (said - code).square().mean(), _drawing_loss(drawn, truth)
        return {"loss": encoding + drawing, "encoding": encoding.detach(), "drawing": drawing.detach()}

    plan = Plan(steps, seed=6, is_hidden=lambda name: "block" in name, muon=4e-3, adam=2e-3)
    train("audio", folder, vae, plan, step)
    return vae


def sounds(random: np.random.Generator, count: int, latents: int) -> Sounds:
    """Sounds of which half turn into others, at any time; a third rise and fall in turn, as fast as there is."""
    before, after = (world.draw_attributes(random, count) for _ in range(2))
    after = np.where((random.random(count) < 0.5)[:, None], before, after)
    turning = sound.turn(before, after, random.uniform(-0.1, latents * 0.08, count).astype(np.float32), latents)
    half = random.integers(2, 6, (count, 1))
    wave = np.where((np.arange(latents) + random.integers(0, 12, (count, 1))) // half % 2, 1, -1)
    swinging = wave * random.uniform(0.5, 1.5, (count, 1))
    lift = np.where(random.random((count, 1)) < 0.33, swinging, turning.lift).astype(np.float32)
    return replace(turning, lift=lift)


def _drawing_loss(drawn: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Errors of both channels, and those of their difference again, without which everything is heard in the centre."""
    error = _SCALE * (drawn - truth)
    sides = error[:, 0] - error[:, 1]
    return error.abs().mean() + error.square().mean() + _SIDES_WEIGHT * sides.square().mean()
