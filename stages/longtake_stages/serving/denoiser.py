"""The denoiser behind Triton: a response a step, then the latents."""

from typing import Any, Final, Self

import numpy as np

from longtake_stages.checkpoint import DENOISING_COMPONENTS, served_checkpoint
from longtake_stages.denoiser import Anchor, ClipSpec, Denoiser
from longtake_stages.device import place
from longtake_stages.documents import Context
from longtake_stages.errors import InvalidArgumentError
from longtake_stages.serving.bridge import Array, Replies, Request
from longtake_stages.serving.counters import DenoiserCounters

_NO_LATENTS: Final = np.zeros(0, np.uint8)
_PASSED_ON: Final = ("pixel_format", "tail_frames", "audio")


class DenoiserModel:
    """Answers ``denoiser`` requests."""

    def __init__(self, denoiser: Denoiser, counters: DenoiserCounters) -> None:
        self._denoiser: Denoiser | None = denoiser
        self._counters = counters

    @classmethod
    def initialize(cls, pb_utils: Any, args: dict[str, str]) -> Self:
        """Load the served checkpoint on the device of Triton's instance ``args``."""
        checkpoint = served_checkpoint(DENOISING_COMPONENTS)
        device = int(args["model_instance_device_id"])
        placement = place(args["model_instance_kind"], device, checkpoint.profile.dtype)
        counters = DenoiserCounters.register(pb_utils, args["model_instance_name"])
        return cls(Denoiser.load(checkpoint, placement), counters)

    def answer(self, request: Request, replies: Replies) -> None:
        """Denoise, with a response after every step and one at the end."""
        assert self._denoiser is not None, "Triton sends nothing after finalize"
        spec = clip_spec(request)
        context = Context.unpack(request.array("context"))
        counted = not request.canary
        passed_on = {name: array for name in _PASSED_ON if (array := request.optional_array(name)) is not None}
        passed_on["device"] = np.array([self._denoiser.ordinal], np.int32)

        def step_done(step: int, total: int) -> None:
            if counted:
                self._counters.steps.add_one()
            replies.send(_reply(step, total, _NO_LATENTS, passed_on))

        latents = self._denoiser.denoise(context, spec, step_done, replies.is_cancelled)
        if counted:
            self._counters.renders.add_one()
        replies.send(_reply(spec.steps, spec.steps, latents.pack(), passed_on))

    def close(self) -> None:
        """Forget the weights."""
        self._denoiser = None


def clip_spec(request: Request) -> ClipSpec:
    """What a ``denoiser`` request asks for.

    Raises:
        InvalidArgumentError: the condition tensors do not belong together.
    """
    return ClipSpec(
        width=request.integer("width"),
        height=request.integer("height"),
        frames=request.integer("frames"),
        fps=request.integer("fps"),
        seed=request.integer("seed"),
        steps=request.integer("steps"),
        guidance=request.number("guidance"),
        anchors=_anchors(
            request.array("condition_frames"),
            request.array("condition_spans"),
            request.array("condition_strengths"),
        ),
    )


def _anchors(frames: Array, spans: Array, strengths: Array) -> tuple[Anchor, ...]:
    if len(spans) != len(strengths):
        raise InvalidArgumentError("condition_spans and condition_strengths must have the same length")
    counts = [int(count) for _, count in spans]
    if any(count < 1 for count in counts) or sum(counts) != len(frames):
        raise InvalidArgumentError("condition_spans must account for every one of condition_frames")
    ends = np.cumsum(counts, dtype=int)
    return tuple(
        Anchor(int(frame), frames[end - count : end], float(strength))
        for (frame, _), count, end, strength in zip(spans, counts, ends, strengths, strict=True)
    )


def _reply(step: int, total: int, latents: Array, passed_on: dict[str, Array]) -> dict[str, Array]:
    return {"progress": np.array([step, total], np.int32), "latents": latents, **passed_on}
