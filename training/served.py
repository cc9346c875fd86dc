"""A checkpoint served in this process: the stages that Triton calls, one after the other, on one thread."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch

from longtake_stages.checkpoint import Checkpoint, load_pipeline, open_checkpoint
from longtake_stages.colour import to_uint8
from longtake_stages.decoder import Decoder, End, Frames
from longtake_stages.denoiser import Anchor, ClipSpec, Denoiser
from longtake_stages.device import place
from longtake_stages.profile import Profile
from longtake_stages.prompt_encoder import PromptEncoder
from training.measures import Clip
from training.world import FPS, FRAMES, SIZE, Floats, Size

STEPS = 8
GUIDANCE = 1.0


@dataclass(frozen=True)
class Take:
    """A rendered clip: its frames, its sound ``[samples, channels]``, and the seconds from prompt to both."""

    frames: Clip
    waveform: Floats
    sample_rate: int
    seconds: float


@dataclass
class Served:
    """Prompt encoder, denoiser, decoder and, for reference, the VAE alone. ``rendered`` counts the clips."""

    checkpoint: Checkpoint
    encoder: PromptEncoder
    denoiser: Denoiser
    decoder: Decoder
    vae: torch.nn.Module
    rendered: int = field(default=0)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load every stage as it is served on a CPU.

        Raises:
            CheckpointError: the folder is no checkpoint, or nothing says how it is served.
        """
        torch.set_num_threads(1)
        checkpoint = open_checkpoint(str(folder))
        here = place("CPU", 0, checkpoint.profile.dtype)
        vae: torch.nn.Module = load_pipeline(checkpoint, ["vae"], here).vae
        return cls(
            checkpoint,
            PromptEncoder.load(checkpoint, here),
            Denoiser.load(checkpoint, here),
            Decoder.load(checkpoint, here),
            vae,
        )

    @property
    def profile(self) -> Profile:
        return self.checkpoint.profile

    def render(
        self,
        prompt: str,
        seed: int,
        frames: int = FRAMES,
        size: Size = (SIZE, SIZE),
        past: Clip | None = None,
    ) -> Take:
        """Render a clip. ``past``: frames it begins with at full strength: a tail or a source image."""
        anchors = () if past is None else (Anchor(0, past, 1.0),)
        spec = ClipSpec(size[0], size[1], frames, FPS, seed, STEPS, GUIDANCE, anchors)
        began = time.perf_counter()
        context = self.encoder.encode(prompt, "")
        latents = self.denoiser.denoise(context, spec, _nothing, _never)
        *chunks, end = self.decoder.decode(latents, "rgb24", 0, audio=True, is_cancelled=_never)
        seconds = time.perf_counter() - began
        self.rendered += 1
        assert isinstance(end, End)
        shown = np.concatenate([chunk.pixels for chunk in chunks if isinstance(chunk, Frames)])
        return Take(shown, end.waveform, end.sample_rate, seconds)

    @torch.inference_mode()
    def reconstruct(self, pictures: torch.Tensor) -> Clip:
        """One clip ``[1, 3, n, height, width]`` in -1..1 through the VAE's encoder and decoder."""
        code = self.vae.encode(pictures).latent_dist.mode()  # type: ignore[operator]  # diffusers declares no types
        drawn = self.vae.decode(code, return_dict=False)[0][0]  # type: ignore[operator]  # as above
        return to_uint8(drawn).numpy()


def as_clips(pictures: torch.Tensor) -> list[Clip]:
    """Rendered scenes ``[batch, 3, n, height, width]`` in -1..1 as frames that a model would give."""
    return [to_uint8(each).numpy() for each in pictures]


def _nothing(_step: int, _total: int) -> None:
    pass


def _never() -> bool:
    return False
