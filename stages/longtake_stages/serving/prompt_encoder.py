"""The prompt encoder behind Triton."""

from typing import Any, Self

from longtake_stages.checkpoint import TEXT_COMPONENTS, served_checkpoint
from longtake_stages.device import place
from longtake_stages.prompt_encoder import PromptEncoder
from longtake_stages.serving.bridge import Array, Request


class PromptEncoderModel:
    """Answers ``prompt_encoder`` requests."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder: PromptEncoder | None = encoder

    @classmethod
    def initialize(cls, _pb_utils: Any, args: dict[str, str]) -> Self:
        """Load the served checkpoint on the device of Triton's instance ``args``."""
        checkpoint = served_checkpoint(TEXT_COMPONENTS)
        device = int(args["model_instance_device_id"])
        placement = place(args["model_instance_kind"], device, checkpoint.profile.dtype)
        return cls(PromptEncoder.load(checkpoint, placement))

    def answer(self, request: Request) -> dict[str, Array]:
        """The context of the request's prompts."""
        assert self._encoder is not None, "Triton sends nothing after finalize"
        context = self._encoder.encode(request.text("prompt"), request.text("negative_prompt"))
        return {"context": context.pack()}

    def close(self) -> None:
        """Forget the weights."""
        self._encoder = None
