"""The world's sound: every shape has its note, heard from the side it moves to.

What rises sounds brighter, what falls darker.

A spectrogram has 16 bins of 50 Hz from 100 Hz on, 50 frames a second; the audio VAE packs four of its frames into a
latent. Like the video's, the latents are supervised (:func:`encode`): latent n says what is heard at spectrogram frame
``4 * n``, and the frames in between interpolate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from training.world import KEYFRAME_STEP, Floats, Ints, Scenes

SAMPLE_RATE: Final = 16000
HOP: Final = 320
"""Samples between spectrogram frames: every bin's period divides it, so the frames' sines join without a click."""
BINS: Final = 16
LATENT_CHANNELS: Final = 4
LATENT_FRAMES: Final = 4
"""Spectrogram frames of a latent; the first latent stands for one only."""
LATENT_WIDTH: Final = LATENT_CHANNELS * BINS // 4

PITCH_BIN: Final = (2, 5, 8)
"""The loudest bin of circle, square and triangle: 200, 350 and 500 Hz."""
_PARTIALS: Final = (((0, 1.0),), ((0, 0.75), (4, 0.35)), ((0, 0.8), (2, 0.4)))
"""Per shape: bins above the pitch, and their share of the level."""
PAN: Final = (0.12, 0.88, 0.5, 0.5, 0.5, 0.5, 0.5)
"""Per motion: the right channel's share. What moves left is heard on the left."""
LIFT: Final = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0)
"""Per motion: how fast it rises, in paces. What bounces does both in turn, see :func:`lift`."""
_PACE: Final = 0.65  # pixels per frame
_MOST_LIFT: Final = 1.5
_BRIGHT_BIN, _DARK_BIN = 7, -2  # the partials of what rises and falls, above the pitch
_LIFT_SHARE: Final = 0.25
_LEVEL: Final = 0.6
_TURN: Final = 0.2  # seconds in which one sound turns into another
_LATENTS_PER_SECOND: Final = SAMPLE_RATE / HOP / LATENT_FRAMES
_PAN_SCALE: Final = float(np.std(PAN))
_LIFT_SCALE: Final = float(np.std(LIFT))
_SIDE: Final = 0.31  # the share of one speaker below which a sound is heard on the other's side
_SILENCE: Final = 1e-3


@dataclass(frozen=True)
class Sounds:
    """What is heard at each latent of a batch of clips, float32.

    ``note`` ``[batch, latents, 3]``: the shapes' shares, which sum to 1; ``pan`` ``[batch, latents]``: the right
    channel's share; ``lift`` ``[batch, latents]`` from -1.5, falling, to 1.5, rising.
    """

    note: Floats
    pan: Floats
    lift: Floats


def frequency(bin_number: int) -> float:
    """Hertz of a spectrogram bin."""
    return 100.0 + 50.0 * bin_number


def latent_frames(video_frames: int, fps: float) -> int:
    """Latents of a clip's sound, as ``LTX2ConditionPipeline`` counts them."""
    return round(video_frames / fps * SAMPLE_RATE / HOP / LATENT_FRAMES)


def begin(attributes: Ints, count: int) -> Sounds:
    """``count`` latents of the sound of each row of ``attributes`` ``[n, 4]``."""
    note = np.eye(len(PITCH_BIN), dtype=np.float32)[attributes[:, 0]]
    motion = attributes[:, 3]
    pan, rising = (np.array(values, np.float32)[motion, None].repeat(count, 1) for values in (PAN, LIFT))
    return Sounds(note[:, None].repeat(count, 1), pan, rising)


def turn(before: Ints, after: Ints, seconds: Floats, count: int) -> Sounds:
    """``count`` latents of sounds that begin as ``before`` and, from ``seconds`` ``[n]`` on, turn into ``after``."""
    old, new = begin(before, count), begin(after, count)
    time = np.arange(count) / _LATENTS_PER_SECOND
    share = np.clip((time - np.asarray(seconds)[:, None]) / _TURN, 0, 1).astype(np.float32)
    note = old.note + (new.note - old.note) * share[..., None]
    return Sounds(note, old.pan + (new.pan - old.pan) * share, old.lift + (new.lift - old.lift) * share)


def lift(scenes: Scenes, count: int, fps: float) -> Floats:
    """How fast the shapes of a batch of keyframes rise at each of ``count`` latents, ``[batch, count]`` in paces."""
    rising = np.diff(scenes.y, axis=1) / (-KEYFRAME_STEP * _PACE)
    frame = np.arange(count) / _LATENTS_PER_SECOND * fps
    step = np.minimum(frame // KEYFRAME_STEP, rising.shape[1] - 1).astype(np.int64)
    return np.clip(rising, -_MOST_LIFT, _MOST_LIFT)[:, step].astype(np.float32)


def encode(sounds: Sounds) -> torch.Tensor:
    """Sounds to latents as the pipeline packs them, float32 ``[batch, latents, 4 * 4]`` of about unit variance.

    Channel by channel the same for all four cells of frequency: the note as a point between the corners of a
    triangle, the pan and the lift.
    """
    angle = torch.arange(len(PITCH_BIN)) * (2 * math.pi / len(PITCH_BIN))
    corners = math.sqrt(2) * torch.stack([torch.cos(angle), torch.sin(angle)], -1)
    point = torch.from_numpy(sounds.note) @ corners
    pan = (torch.from_numpy(sounds.pan) - 0.5)[..., None] / _PAN_SCALE
    code = torch.cat([point, pan, torch.from_numpy(sounds.lift)[..., None] / _LIFT_SCALE], -1)
    return code.repeat_interleave(BINS // 4, -1)


def unpacked(latents: torch.Tensor) -> torch.Tensor:
    """Packed latents ``[batch, n, 4 * 4]`` as the audio VAE takes them, ``[batch, 4, n, 4]``."""
    return latents.reshape(*latents.shape[:2], LATENT_CHANNELS, -1).transpose(1, 2)


def spectrogram(sounds: Sounds) -> torch.Tensor:
    """The amplitudes of ``n`` latents, float32 ``[batch, 2 (left, right), 4 * n - 3, 16]`` from 0 on."""
    pan, rising = (_between(value[..., None]) for value in (sounds.pan, sounds.lift))
    note = _between(sounds.note)
    still = note @ _timbre(_PARTIALS)
    bright, dark = (note @ _timbre([[(above, _LIFT_SHARE)]] * len(PITCH_BIN)) for above in (_BRIGHT_BIN, _DARK_BIN))
    amplitude = still + bright * np.maximum(rising, 0) + dark * np.maximum(-rising, 0)
    return torch.from_numpy(np.stack([1 - pan, pan], 1) * amplitude[:, None])


def _timbre(partials: Sequence[Sequence[tuple[int, float]]]) -> Floats:
    """Amplitudes ``[3, 16]`` of each shape's partials: bins above its pitch and their share of the level."""
    timbre = np.zeros((len(PITCH_BIN), BINS), np.float32)
    for shape, own in enumerate(partials):
        for above, share in own:
            timbre[shape, PITCH_BIN[shape] + above] = _LEVEL * share
    return timbre


def _between(value: Floats) -> Floats:
    """``[batch, n, ...]`` at latents to ``[batch, 4 * n - 3, ...]`` at spectrogram frames."""
    share = (np.arange(1, LATENT_FRAMES + 1, dtype=np.float32) / LATENT_FRAMES)[:, None]
    following = value[:, :-1, None] * (1 - share) + value[:, 1:, None] * share
    return np.concatenate([value[:, :1], following.reshape(len(value), -1, value.shape[-1])], 1)


def write_vocoder(vocoder: Any) -> None:
    """Set the weights of an ``LTX2Vocoder`` so that it plays a spectrogram's bins as sines (:func:`_waves`).

    Its one upsampler is the bank of sines. Of every side's sum there is also the negative, so that after the leaky
    rectifier their difference is the sum again, 1 + slope times as large. The residual block is the identity.
    """
    waves = _waves()
    for parameter in vocoder.parameters():
        parameter.zero_()
    middle = vocoder.conv_in.kernel_size[0] // 2
    for row in range(2 * BINS):
        vocoder.conv_in.weight[row, row, middle] = 1
    last_slope = 0.01  # torch's own, which the class uses for its last rectifier alone
    for side in range(2):
        rows = slice(side * BINS, (side + 1) * BINS)
        for channel, sign in ((2 * side, 1), (2 * side + 1, -1)):
            vocoder.upsamplers[0].weight[rows, channel] = sign * waves
            vocoder.conv_out.weight[side, channel, middle] = sign / (1 + last_slope)


def _waves() -> torch.Tensor:
    """Per bin one period of the overlap-add, float32 ``[16, 2 * HOP]``.

    A sine that is in phase wherever a frame starts, under a triangle centred in the frame: neighbours sum to one, so
    amplitudes change linearly from one frame's middle to the next's and nothing clicks.
    """
    time = torch.arange(2 * HOP, dtype=torch.float64)
    window = 1 - (time + 0.5 - HOP).abs() / HOP
    frequencies = torch.tensor([frequency(number) for number in range(BINS)], dtype=torch.float64)
    return (window * torch.sin(2 * math.pi / SAMPLE_RATE * frequencies[:, None] * (time - HOP // 2))).float()


def pitch_and_side(waveform: Floats, sample_rate: int = SAMPLE_RATE) -> tuple[int | None, str]:
    """What is heard in ``waveform`` ``[samples, 2]`` in -1..1: the shape whose note it is, and from which side.

    Gives an index of ``world.SHAPES`` (``None`` for silence) and ``left``, ``right`` or ``centre``.
    """
    time = np.arange(len(waveform)) / sample_rate
    frequencies = np.array([frequency(number) for number in range(BINS)])
    rotating = np.exp(-2j * np.pi * frequencies[:, None] * time)
    amplitude = 2 / max(len(waveform), 1) * np.abs(rotating @ waveform.astype(np.float64))
    left, right = np.sqrt((amplitude**2).sum(0))
    if left + right < _SILENCE:
        return None, "centre"
    loudest = int((amplitude**2).sum(1).argmax())
    shape = int(np.abs(np.array(PITCH_BIN) - loudest).argmin())
    share = right / (left + right)
    return shape, "left" if share < _SIDE else "right" if share > 1 - _SIDE else "centre"
