"""What the trained encoder says of decoded clips: the conditions that the denoiser is refined with."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from safetensors.torch import load_file, save_file

from training import denoiser, encoder, latents
from training.denoiser import Past
from training.world import Scenes, Size

_POOL: Final[tuple[tuple[Size, int, int], ...]] = (
    ((64, 64), 3, 2048),
    ((64, 64), 1, 768),
    ((64, 64), 2, 512),
    ((96, 64), 3, 128),
    ((64, 96), 3, 128),
    ((128, 128), 3, 128),
    ((128, 128), 1, 128),
)
"""Size, keyframes and number of the pasts that are encoded beforehand; of others the latents get white noise."""
_BATCH: Final = 8

_log = structlog.get_logger()


class Pool:
    """Pasts as the VAE encodes them after it has decoded them, drawn again and again with other continuations."""

    def __init__(self, vae: Any, folder: Path) -> None:
        self._pasts = {
            (size, known): _stored(vae, folder / f"tails-{size[0]}x{size[1]}-{known}.safetensors", size, known, count)
            for size, known, count in _POOL
        }

    def draw(self, random: np.random.Generator, count: int, known: int, size: Size) -> Past:
        """``count`` pasts of ``known`` keyframes."""
        pool = self._pasts.get((size, known))
        if pool is None:
            return denoiser.noisy_past(random, count, known, size)
        chosen = random.integers(len(pool.scenes), size=count)
        return Past(pool.scenes[chosen], pool.attributes[chosen], pool.condition[torch.from_numpy(chosen)])


def _stored(vae: Any, file: Path, size: Size, known: int, count: int) -> Past:
    if not file.is_file():
        save_file(_encoded(vae, np.random.default_rng((7, *size, known)), size, known, count), file)
    kept = load_file(file)
    scenes = Scenes(*(kept[field.name].numpy() for field in fields(Scenes)))
    past = Past(scenes, kept["attributes"].numpy(), kept["condition"])
    error = (past.condition - latents.encode(scenes, size)).square().mean((0, 2, 3, 4))
    position = error[: latents.POSITION_CHANNELS].mean().item()
    other = error[latents.POSITION_CHANNELS :].mean().item()
    _log.info("tails", size=size, keyframes=known, position=round(position, 4), other=round(other, 4))
    return past


@torch.no_grad()
def _encoded(vae: Any, random: np.random.Generator, size: Size, known: int, count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(int(random.integers(1 << 31)))
    parts: list[dict[str, torch.Tensor]] = []
    for _ in range(count // _BATCH):
        scenes, attributes = denoiser.draw_past(random, _BATCH, known, size)
        pictures = encoder.as_served(vae, latents.encode(scenes, size))
        part = {field.name: torch.from_numpy(getattr(scenes, field.name)) for field in fields(scenes)}
        said = vae.encode(pictures).latent_dist.mode()
        parts.append({**part, "attributes": torch.from_numpy(attributes), "condition": said})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
