"""The denoiser: rectified flow on the latents of procedural clips, conditioned as the pipeline conditions it.

Its data are unlimited, since latents are written down and not encoded (:mod:`training.latents`). First it learns with
conditions that have white noise on them; then, once the encoder is trained, with what that really says of the tails
of clips, whose errors are not white.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import captions, latents, sound, world
from training.components import transformer
from training.decoder import with_noise
from training.loop import Plan, train
from training.world import Ints, Scenes, Size

Embed = Callable[[Sequence[str]], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Prompts to what the denoiser attends to, as :func:`training.text.embed`."""


@dataclass(frozen=True)
class Past:
    """What clips continue: their first keyframes, the attributes these show, and the latents ``[batch, 32, n, rows,
    columns]`` that the denoiser is given of them."""

    scenes: Scenes
    attributes: Ints
    condition: torch.Tensor


Pasts = Callable[[np.random.Generator, int, int, Size], Past]
"""Draws a number of pasts of a number of keyframes in frames of a size."""

TAIL_KEYFRAMES: Final = 3
"""Keyframes of the 17 frames that a smooth stage continues from."""
_SIZES: Final[tuple[tuple[Size, float], ...]] = (
    ((64, 64), 0.74),
    ((96, 64), 0.07),
    ((64, 96), 0.04),
    ((128, 128), 0.09),
    ((128, 64), 0.03),
    ((128, 96), 0.03),
)
_KEYFRAMES: Final = ((2, 0.07), (3, 0.07), (4, 0.36), (5, 0.12), (6, 0.1), (7, 0.2), (9, 0.04), (13, 0.04))
_RATES: Final = ((24.0, 0.86), (12.0, 0.03), (16.0, 0.03), (25.0, 0.03), (30.0, 0.03), (48.0, 0.02))
_TOKENS: Final = 1400
_AUDIO_WEIGHT: Final = 0.15
_POSITION_WEIGHT: Final = 4.0
_CONDITION_NOISE: Final = 0.15
_UNSAID: Final = 0.12
_VARIED: Final = 0.6


def train_denoiser(folder: Path, steps: int, embed: Embed) -> Any:
    """Train the denoiser for ``steps`` on conditions with white noise."""
    torch.manual_seed(4)
    denoiser = transformer()
    plan = Plan(steps, seed=5, is_hidden=_is_hidden, muon=5e-3, weight_decay=0.02, warm_up=100, decay=0.6, average=300)
    train("denoiser", folder, denoiser, plan, _step(denoiser, embed, noisy_past))
    return denoiser


def refine_denoiser(folder: Path, steps: int, embed: Embed, denoiser: Any, pasts: Pasts) -> None:
    """Train the denoiser for ``steps`` more, on the conditions of ``pasts``."""
    plan = Plan(steps, seed=6, is_hidden=_is_hidden, muon=3.5e-3, adam=1e-3, weight_decay=0.02, decay=0.9, average=300)
    train("refined", folder, denoiser, plan, _step(denoiser, embed, pasts))


def _is_hidden(name: str) -> bool:
    return "transformer_blocks" in name and "table" not in name


@dataclass(frozen=True)
class Clips:
    """A batch of clips to learn from, their tokens in the pipeline's order.

    ``video`` ``[batch, n * rows * columns, 32]`` and its ``condition`` (what clean tokens are shown as), ``known``
    ``[batch, tokens]`` 1 for those, ``audio`` ``[batch, audio tokens, 16]``; ``prompts`` one a clip.
    """

    video: torch.Tensor
    condition: torch.Tensor
    known: torch.Tensor
    audio: torch.Tensor
    prompts: list[str]
    keyframes: int
    size: Size
    fps: float


def _step(denoiser: Any, embed: Embed, pasts: Pasts) -> Callable[[int, np.random.Generator], dict[str, torch.Tensor]]:
    def step(_number: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        return losses(denoiser, embed, draw(random, pasts))

    return step


def losses(denoiser: Any, embed: Embed, clips: Clips) -> dict[str, torch.Tensor]:
    """The error of the velocity at random noise levels, of video and audio, over what is not given.

    Where the shape is counts more than how it looks, which is learned long before.
    """
    count = len(clips.video)
    level = _levels(count)
    wide = level[:, None, None]
    noise, audio_noise = torch.randn_like(clips.video), torch.randn_like(clips.audio)
    known = clips.known[..., None]
    video = ((1 - wide) * clips.video + wide * noise) * (1 - known) + clips.condition * known
    audio = (1 - wide) * clips.audio + wide * audio_noise
    with torch.no_grad():
        states, audio_states, mask = embed(clips.prompts)
    time = 1000 * level
    velocity, audio_velocity = denoiser(
        hidden_states=video,
        audio_hidden_states=audio,
        encoder_hidden_states=states,
        audio_encoder_hidden_states=audio_states,
        timestep=time[:, None] * (1 - clips.known),
        audio_timestep=time,
        sigma=time,
        audio_sigma=time,
        encoder_attention_mask=mask,
        audio_encoder_attention_mask=mask,
        num_frames=clips.keyframes,
        height=clips.size[1] // latents.CELL,
        width=clips.size[0] // latents.CELL,
        fps=clips.fps,
        audio_num_frames=clips.audio.shape[1],
        use_cross_timestep=True,
        return_dict=False,
    )
    weights = torch.ones(latents.CHANNELS)
    weights[: latents.POSITION_CHANNELS] = _POSITION_WEIGHT
    free = (1 - known) * weights
    error = (((velocity - (noise - clips.video)) ** 2) * free).sum((1, 2)) / free.sum((1, 2))
    audio_error = ((audio_velocity - (audio_noise - clips.audio)) ** 2).mean()
    loss = error.mean() + _AUDIO_WEIGHT * audio_error
    return {"loss": loss, "video": error.mean().detach(), "audio": audio_error.detach()}


def _levels(count: int) -> torch.Tensor:
    """Noise levels 0..1, more of the higher ones; a fifth are 1, where a clip begins."""
    even = (torch.arange(count) + torch.rand(count)) / count
    level = (1.5 * even / (1 + 0.5 * even)).clamp(0.004, 1)
    return torch.where(torch.rand(count) < 0.2, torch.ones(count), level)


def draw(random: np.random.Generator, pasts: Pasts) -> Clips:
    """Clips of one size and length: new ones, some from a first picture, and as many that continue a tail."""
    size = _pick(random, _SIZES)
    keyframes = _pick(random, _KEYFRAMES)
    fps = _pick(random, _RATES)
    cells = size[0] * size[1] // latents.CELL**2
    count = min(64, max(8, _TOKENS // (keyframes * cells)))
    parts = []
    for known, part in zip(*_known(random, keyframes, count), strict=True):
        parts.append(_clips(random, pasts, keyframes, size, fps, int(known), int(part)))
    return Clips(
        video=torch.cat([part.video for part in parts]),
        condition=torch.cat([part.condition for part in parts]),
        known=torch.cat([part.known for part in parts]),
        audio=torch.cat([part.audio for part in parts]),
        prompts=[prompt for part in parts for prompt in part.prompts],
        keyframes=keyframes,
        size=size,
        fps=fps,
    )


def _known(random: np.random.Generator, keyframes: int, count: int) -> tuple[list[int], list[int]]:
    """Numbers of given keyframes, and how many clips of ``count`` have each."""
    if keyframes <= TAIL_KEYFRAMES:
        picture = count // 4
        return [0, 1], [count - picture, picture]
    other = int(random.choice([1, 2, 2, 4] if keyframes > 4 else [1, 2]))
    rare, tails = count // 8, count * 3 // 8
    return [0, other, TAIL_KEYFRAMES], [count - rare - tails, rare, tails]


def _clips(
    random: np.random.Generator, pasts: Pasts, keyframes: int, size: Size, fps: float, known: int, count: int
) -> Clips:
    said = [captions.draw_said(random) if random.random() < _UNSAID else captions.EVERYTHING for _ in range(count)]
    if known:
        past = pasts(random, count, known, size)
        attributes = past.attributes
        following = np.where(said, _following(random, attributes), attributes)  # what is not said stays as it is
        scenes = world.extend(random, past.scenes, following, keyframes - known, size)
    else:
        attributes = following = world.draw_attributes(random, count)
        scenes = world.begin(random, attributes, keyframes, size)
    video = tokens(latents.encode(scenes, size))
    given = known * video.shape[1] // keyframes
    condition = torch.zeros_like(video)
    if known:
        condition[:, :given] = tokens(past.condition)
    mask = (torch.arange(video.shape[1]) < given).float().expand(count, -1)
    heard = sound.latent_frames((keyframes - 1) * world.KEYFRAME_STEP + 1, fps)
    turn = np.full(count, ((known - 1) * world.KEYFRAME_STEP + 1) / fps)
    audio = sound.turn(attributes, following, turn, heard) if known else sound.begin(attributes, heard)
    audio = replace(audio, lift=sound.lift(scenes, heard, fps))
    prompts = [_prompt(random, row, words) for row, words in zip(following, said, strict=True)]
    return Clips(video, condition, mask, sound.encode(audio), prompts, keyframes, size, fps)


def noisy_past(random: np.random.Generator, count: int, known: int, size: Size) -> Past:
    """Pasts with white noise on their latents."""
    scenes, attributes = draw_past(random, count, known, size)
    code = latents.encode(scenes, size)
    return Past(scenes, attributes, with_noise(code, _CONDITION_NOISE))


def draw_past(random: np.random.Generator, count: int, known: int, size: Size) -> tuple[Scenes, Ints]:
    """``known`` keyframes and their attributes. Half of them have just turned from another scene, as the later stages
    of a chain do."""
    attributes = world.draw_attributes(random, count)
    if random.random() < 0.5:
        before = world.begin(random, world.draw_attributes(random, count), 1, size, anywhere=0.7)
        return world.extend(random, before, attributes, 3, size).span(4 - known, 4), attributes
    return world.begin(random, attributes, known, size, anywhere=0.7), attributes


def _following(random: np.random.Generator, attributes: Ints) -> Ints:
    """What follows ``attributes``: the same, another motion, or another scene."""
    other = world.draw_attributes(random, len(attributes))
    moved = np.concatenate([attributes[:, :3], other[:, 3:]], 1)
    moved = np.where((world.held_out(moved) == 0)[:, None], moved, attributes)
    kind = random.random(len(attributes))[:, None]
    return np.where(kind < 0.4, attributes, np.where(kind < 0.7, moved, other))


def _prompt(random: np.random.Generator, attributes: Ints, said: captions.Said) -> str:
    if said != captions.EVERYTHING:
        return captions.partial(attributes, random, said)
    return captions.varied(attributes, random) if random.random() < _VARIED else captions.plain(attributes)


def tokens(code: torch.Tensor) -> torch.Tensor:
    """Latents ``[batch, 32, n, rows, columns]`` as the pipeline packs them, ``[batch, n * rows * columns, 32]``."""
    return code.permute(0, 2, 3, 4, 1).flatten(1, 3)


def _pick(random: np.random.Generator, choices: Any) -> Any:
    weights = np.array([weight for _, weight in choices])
    assert math.isclose(weights.sum(), 1)
    return choices[random.choice(len(choices), p=weights)][0]
