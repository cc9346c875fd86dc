"""Context and conditions to latents: the denoising loop of ``LTX2ConditionPipeline``, step by step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from numpy.typing import NDArray

from longtake_stages.checkpoint import DENOISING_COMPONENTS, Checkpoint, load_pipeline
from longtake_stages.device import Placement
from longtake_stages.documents import ClipLatents, Context
from longtake_stages.errors import CancelledError, InvalidArgumentError
from longtake_stages.geometry import latent_index, on_grid
from longtake_stages.profile import Profile

MAX_FPS: Final = 240

StepDone = Callable[[int, int], None]
IsCancelled = Callable[[], bool]


@dataclass(frozen=True)
class Anchor:
    """Frames a clip is to contain: uint8 RGB ``[n, height, width, 3]`` from pixel frame ``frame`` on, strength 0..1."""

    frame: int
    frames: NDArray[np.uint8]
    strength: float


@dataclass(frozen=True)
class ClipSpec:
    """What is to be denoised: pixels, frames, frames per second, any 64-bit seed, steps and guidance scale."""

    width: int
    height: int
    frames: int
    fps: int
    seed: int
    steps: int
    guidance: float
    anchors: tuple[Anchor, ...] = ()

    def check(self, profile: Profile) -> None:
        """Refuse what the checkpoint cannot do.

        Raises:
            InvalidArgumentError: which value, and what is allowed.
        """
        _check_size(self, profile)
        if not (on_grid(self.frames, profile.frame_grid) and self.frames <= profile.frames_cap):
            raise InvalidArgumentError(
                f"frames must be {profile.frame_grid}k+1 and at most {profile.frames_cap}, not {self.frames}"
            )
        if not 1 <= self.fps <= MAX_FPS:
            raise InvalidArgumentError(f"fps must be 1..{MAX_FPS}, not {self.fps}")
        if not 1 <= self.steps <= profile.max_steps:
            raise InvalidArgumentError(f"steps must be 1..{profile.max_steps}, not {self.steps}")
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise InvalidArgumentError(f"guidance must be a finite number >= 0, not {self.guidance}")
        for anchor in self.anchors:
            _check_anchor(anchor, self, profile)


class HandThrough:
    """Stands in for the pipeline's connectors: the states it is given are connected already.

    They come as one tensor ``[batch, tokens, video + audio channels]``, which survives the pipeline's stacking of
    negative and positive rows, and are told apart again here.
    """

    def __init__(self, video_channels: int) -> None:
        self._video_channels = video_channels

    def __call__(
        self,
        states: torch.Tensor,
        mask: torch.Tensor,
        padding_side: str,  # noqa: ARG002  the pipeline passes it by name
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return states[..., : self._video_channels], states[..., self._video_channels :], mask


class Denoiser:
    """The denoising half of the pipeline, on one device. One call at a time."""

    def __init__(self, pipeline: Any, profile: Profile, placement: Placement) -> None:
        self._pipeline = pipeline
        self._profile = profile
        self._placement = placement

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load transformer, scheduler and the VAEs (one to encode conditions, one for its statistics)."""
        pipeline = load_pipeline(checkpoint, DENOISING_COMPONENTS, placement)
        return cls(pipeline, checkpoint.profile, placement)

    @property
    def ordinal(self) -> int:
        """GPU ordinal, -1 on the CPU."""
        return self._placement.ordinal

    def denoise(self, context: Context, spec: ClipSpec, step_done: StepDone, is_cancelled: IsCancelled) -> ClipLatents:
        """Denoise a clip. Calls ``step_done(step, total)`` after every step; the same arguments give the same latents.

        Raises:
            InvalidArgumentError: the checkpoint cannot do ``spec``, or ``context`` is not of this checkpoint.
            CancelledError: ``is_cancelled()``, which is asked before the first step and after every one.
        """
        spec.check(self._profile)
        self._check_context(context)
        if is_cancelled():
            raise CancelledError

        def after_step(_pipeline: Any, index: int, _time: torch.Tensor, _tensors: dict[str, Any]) -> dict[str, Any]:
            self._placement.finish()  # else a step would be reported, and a cancellation asked for, too early
            step_done(index + 1, spec.steps)
            if is_cancelled():
                raise CancelledError
            return {}

        # Of the connectors only the split depends on the context, so a stand-in a call is as good as one for all.
        self._pipeline.connectors = HandThrough(context.video.shape[-1])
        video, audio = self._pipeline(
            **self._text(context, spec.guidance),
            **_companions(spec.guidance, self._profile),
            conditions=[_condition(anchor, self._profile) for anchor in spec.anchors] or None,
            width=spec.width,
            height=spec.height,
            num_frames=spec.frames,
            frame_rate=float(spec.fps),
            num_inference_steps=spec.steps,
            sigmas=_sigmas(spec.steps, self._profile),
            use_cross_timestep=self._profile.use_cross_timestep,
            # On the CPU, so that a seed gives the same noise on every device; it takes any 64-bit pattern.
            generator=torch.Generator("cpu").manual_seed(spec.seed),
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=[],
            output_type="latent",
            return_dict=False,
        )
        return ClipLatents(video, audio)

    def _check_context(self, context: Context) -> None:
        config = self._pipeline.transformer.config
        inner = config.num_attention_heads * config.attention_head_dim
        audio_inner = config.audio_num_attention_heads * config.audio_attention_head_dim
        caption = config.caption_channels
        expected = (caption, caption) if config.use_prompt_embeddings else (inner, audio_inner)
        if (context.video.shape[-1], context.audio.shape[-1]) != expected:
            raise InvalidArgumentError("context: not of this checkpoint")

    def _text(self, context: Context, guidance: float) -> dict[str, torch.Tensor | None]:
        states = torch.cat([context.video, context.audio], dim=-1)
        states = states.to(device=self._placement.device, dtype=self._placement.dtype)
        mask = context.mask.to(self._placement.device)
        guided = _guided(guidance, self._profile)
        return {
            "prompt_embeds": states[:1],
            "prompt_attention_mask": mask[:1],
            "negative_prompt_embeds": states[1:] if guided else None,
            "negative_prompt_attention_mask": mask[1:] if guided else None,
        }


def _guided(guidance: float, profile: Profile) -> bool:
    audio = profile.companions.audio_scale
    return guidance > 1 or (audio is not None and audio > 1)


def _companions(guidance: float, profile: Profile) -> dict[str, Any]:
    """Every guidance argument of the pipeline; one left out would take the default of another checkpoint."""
    companions = profile.companions
    return {
        "guidance_scale": guidance,
        "audio_guidance_scale": guidance if companions.audio_scale is None else companions.audio_scale,
        "guidance_rescale": companions.rescale,
        "audio_guidance_rescale": companions.audio_rescale,
        "stg_scale": companions.stg,
        "audio_stg_scale": companions.audio_stg,
        "spatio_temporal_guidance_blocks": list(companions.stg_blocks) or None,
        "modality_scale": companions.modality,
        "audio_modality_scale": companions.audio_modality,
    }


def _sigmas(steps: int, profile: Profile) -> list[float] | None:
    """A distilled checkpoint's own schedule where it has the number of steps asked for; else evenly spaced."""
    return list(profile.sigmas) if len(profile.sigmas) == steps else None


def _condition(anchor: Anchor, profile: Profile) -> LTX2VideoCondition:
    """The pipeline's condition: its index counts latent frames, its arrays hold 0..255, and a single image is
    re-compressed unless told otherwise."""
    return LTX2VideoCondition(
        frames=anchor.frames,
        index=latent_index(anchor.frame, profile.frame_grid),
        strength=anchor.strength,
        crf=profile.image_crf if len(anchor.frames) == 1 else 0,
    )


def _check_size(spec: ClipSpec, profile: Profile) -> None:
    multiple = profile.size_multiple
    for name, value in (("width", spec.width), ("height", spec.height)):
        if value < multiple or value % multiple:
            raise InvalidArgumentError(f"{name} must be a multiple of {multiple}, not {value}")
    if spec.width * spec.height > profile.max_pixels:
        raise InvalidArgumentError(
            f"{spec.width}x{spec.height} has more than {profile.max_pixels} pixels, the most this checkpoint serves"
        )


def _check_anchor(anchor: Anchor, spec: ClipSpec, profile: Profile) -> None:
    grid = profile.frame_grid
    if anchor.frames.shape[1:] != (spec.height, spec.width, 3):
        raise InvalidArgumentError("condition_frames must have the clip's own size")
    if not on_grid(len(anchor.frames), grid):
        raise InvalidArgumentError(f"a condition must have {grid}k+1 frames, not {len(anchor.frames)}")
    if anchor.frame != 0 and not on_grid(anchor.frame, grid):
        raise InvalidArgumentError(f"a condition must begin at frame 0 or {grid}k+1, not {anchor.frame}")
    if anchor.frame + len(anchor.frames) > spec.frames:
        raise InvalidArgumentError("a condition must end within the clip")
    if not 0 <= anchor.strength <= 1:
        raise InvalidArgumentError(f"a condition's strength must be 0..1, not {anchor.strength}")
