"""The latent code of the world: what the video VAE's encoder is taught to say and its decoder to draw.

The VAE's latent space is supervised: a latent is not found by reconstruction but written down here, one per keyframe
and cell of 32 x 32 pixels. It says where the shape's centre lies as seen from the cell's own centre (cosine and sine
at three wavelengths, so that finer cells follow by rotation), the colours and the shape as weights of their names, and
the radius. Every channel has about unit variance.
"""

import math
from typing import Final

import torch

from training.world import COLOURS, SHAPES, Scenes, Size

CHANNELS: Final = 32
CELL: Final = 32
"""Pixels of a latent cell along each axis."""
WAVELENGTHS: Final = (256.0, 64.0, 32.0)
"""Pixels. The longest tells apart all places of the largest frame, the shortest places a centre exactly."""
POSITION_CHANNELS: Final = 4 * len(WAVELENGTHS)
_AMPLITUDE: Final = math.sqrt(2)
_RADIUS_WAVELENGTH: Final = 24.0
_RADIUS_MEAN, _RADIUS_SCALE = 14.0, 3.0


def encode(scenes: Scenes, size: Size) -> torch.Tensor:
    """Keyframes to latents, float32 ``[batch, 32, n, height / 32, width / 32]``. ``size`` is width and height."""
    columns, rows = size[0] // CELL, size[1] // CELL
    batch, count = scenes.x.shape
    centres_x = torch.arange(columns) * CELL + CELL / 2
    centres_y = torch.arange(rows) * CELL + CELL / 2
    dx = (torch.from_numpy(scenes.x)[:, :, None, None] - centres_x).expand(batch, count, rows, columns)
    dy = (torch.from_numpy(scenes.y)[:, :, None, None] - centres_y[:, None]).expand(batch, count, rows, columns)
    position = [wave(2 * math.pi * d / w) for d in (dx, dy) for w in WAVELENGTHS for wave in (torch.cos, torch.sin)]
    radius = torch.from_numpy(scenes.radius)
    angle = 2 * math.pi * radius / _RADIUS_WAVELENGTH
    everywhere = torch.cat(
        [
            _weights(torch.from_numpy(scenes.background), len(COLOURS)),
            _weights(torch.from_numpy(scenes.colour), len(COLOURS)),
            _weights(torch.from_numpy(scenes.shape), len(SHAPES)),
            ((radius - _RADIUS_MEAN) / _RADIUS_SCALE)[..., None],
            _AMPLITUDE * torch.stack([torch.cos(angle), torch.sin(angle)], -1),
        ],
        -1,
    )
    spread = everywhere.permute(0, 2, 1)[..., None, None].expand(-1, -1, -1, rows, columns)
    return torch.cat([_AMPLITUDE * torch.stack(position, 1), spread], 1)


def _weights(weights: torch.Tensor, names: int) -> torch.Tensor:
    """Weights of ``names`` kinds, centred and scaled to unit variance."""
    mean = 1 / names
    return (weights - mean) / math.sqrt(mean * (1 - mean))


def shifted(offset_x: float, offset_y: float) -> torch.Tensor:
    """The matrix ``[32, 32]`` that turns the code of one cell into that of a cell centred ``offset`` pixels away."""
    matrix = torch.eye(CHANNELS)
    for axis, offset in enumerate((offset_x, offset_y)):
        for number, wavelength in enumerate(WAVELENGTHS):
            angle = 2 * math.pi * offset / wavelength
            n = 2 * (axis * len(WAVELENGTHS) + number)
            cos, sin = math.cos(angle), math.sin(angle)
            matrix[n : n + 2, n : n + 2] = torch.tensor([[cos, sin], [-sin, cos]])
    return matrix
