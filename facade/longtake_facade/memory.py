"""A backend in memory, for tests and for trying the facade without a model: the protocol of Triton, no Triton.

Clips are a pure function of the job: a moving gradient whose colours follow prompt and seed, beginning with the
conditions' frames. Small sizes only; a clip is held whole.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator

import msgspec
import numpy as np

from longtake_facade.backend import BackendError, Chunk, ClipEnd, ClipJob, Latents, Pixels, Step, Waveform
from longtake_stages.contract import Capabilities
from longtake_stages.geometry import sample_at

_CHUNK = 8


class MemoryBackend:
    """Implements :class:`longtake_facade.backend.Backend`.

    ``step_seconds``: how long a step takes. ``calls`` counts every call that a real server would have got, ``steps``
    and ``renders`` what the denoiser's metrics count, ``most`` how many clips were denoised side by side at most.
    ``failures``: error to raise for a prompt, when it is denoised. ``jobs``: what was denoised, in order.
    """

    def __init__(self, capabilities: Capabilities, instances: int = 1, step_seconds: float = 0.0) -> None:
        self.capabilities = capabilities
        self.instances = instances
        self.step_seconds = step_seconds
        self.failures: dict[str, BackendError] = {}
        self.calls = 0
        self.steps = 0
        self.renders = 0
        self.most = 0
        self.revived = 0
        self.jobs: list[ClipJob] = []
        self._denoising = 0

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        """The prompts themselves."""
        self.calls += 1
        return context_of(prompt, negative_prompt)

    async def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        """``job.steps`` steps, then latents that carry the colour of the clip."""
        self.calls += 1
        self.jobs.append(job)
        self._denoising += 1
        self.most = max(self.most, self._denoising)
        try:
            for step in range(job.steps):
                await asyncio.sleep(self.step_seconds)
                self.steps += 1
                yield Step(step + 1, job.steps)
        finally:
            self._denoising -= 1
        if job.prompt in self.failures:
            raise self.failures[job.prompt]
        self.renders += 1
        yield Latents(latents_of(job, context), None)

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        """The frames in chunks of eight; sound is one tone of the latents' pitch, on every channel."""
        self.calls += 1
        clip = clip_frames(job, latents)
        for start in range(0, len(clip), _CHUNK):
            part = clip[start : start + _CHUNK]
            yield Chunk(part if job.pixel_format == "rgb24" else _yuv420p(part))
        rate = self.capabilities.audio_sample_rate if job.audio else 0
        sound = _sound(job, latents, rate, self.capabilities.audio_channels) if rate else None
        yield ClipEnd(tail=clip[len(clip) - job.tail_frames :], waveform=sound, sample_rate=rate)

    async def canary(self) -> None:
        """Nothing can be wrong."""

    async def revive(self) -> None:
        """It never goes away; a test that makes it fail counts how often it was asked."""
        self.revived += 1

    async def close(self) -> None:
        """Nothing is held."""


def context_of(prompt: str, negative_prompt: str) -> bytes:
    """The prompts as JSON."""
    return msgspec.json.encode([prompt, negative_prompt])


def latents_of(job: ClipJob, context: bytes) -> bytes:
    """Thirty-two bytes that follow the prompts and the seed."""
    return hashlib.sha256(context + job.seed.to_bytes(8)).digest()


def clip_frames(job: ClipJob, latents: bytes) -> Pixels:
    """The clip, uint8 RGB ``[frames, height, width, 3]``; tests compute from it what a video has to contain."""
    clip: Pixels = np.empty((job.frames, job.height, job.width, 3), np.uint8)
    ramp = np.arange(job.width)[None, :, None]
    for i in range(job.frames):
        clip[i] = (np.array([latents[0], latents[1], latents[2]]) + 2 * ramp + 3 * i) % 256
    for condition in job.conditions:
        if condition.strength == 1.0:
            clip[condition.frame : condition.frame + len(condition.frames)] = condition.frames
    return clip


def _sound(job: ClipJob, latents: bytes, rate: int, channels: int) -> Waveform:
    time = np.arange(sample_at(job.frames, rate, job.fps)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 2 * latents[3]) * time)
    return np.repeat(tone[:, None], channels, axis=1).astype(np.float32)


def _yuv420p(rgb: Pixels) -> Pixels:
    """RGB ``[n, h, w, 3]`` to BT.709 limited-range planes ``[n, h*3/2, w, 1]``, chroma averaged over 2x2 pixels."""
    r, g, b = (rgb[..., channel].astype(np.float32) / 255 for channel in range(3))
    luma = 0.2126 * r + 0.7152 * g + 0.0722 * b
    chroma = [_halved((b - luma) / 1.8556), _halved((r - luma) / 1.5748)]
    n, height, width = luma.shape
    planes = [16 + 219 * luma, *(128 + 224 * plane.reshape(n, height // 4, width) for plane in chroma)]
    stacked: Pixels = np.rint(np.concatenate(planes, axis=1)).clip(0, 255).astype(np.uint8)
    return stacked[..., None]


def _halved(plane: Waveform) -> Waveform:
    n, height, width = plane.shape
    half: Waveform = plane.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return half
