"""Prompt to context: tokenizer, text encoder and connectors of LTX-2.

The connectors belong here and not to the denoiser, because the raw text states of the full model (49 layers of 3840
channels for 1024 tokens) are some 400 MB, and the connected ones a few.
"""

from typing import Any, Final, Self

import torch

from longtake_stages.checkpoint import TEXT_COMPONENTS, Checkpoint, load_pipeline
from longtake_stages.device import Placement
from longtake_stages.documents import Context
from longtake_stages.errors import InvalidArgumentError

MAX_CHARACTERS: Final = 100_000


class PromptEncoder:
    """The text half of the pipeline, on one device."""

    def __init__(self, pipeline: Any, max_sequence_length: int) -> None:
        self._pipeline = pipeline
        self._max_sequence_length = max_sequence_length

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the text components of a checkpoint."""
        pipeline = load_pipeline(checkpoint, TEXT_COMPONENTS, placement)
        return cls(pipeline, checkpoint.profile.max_sequence_length)

    @torch.inference_mode()
    def encode(self, prompt: str, negative_prompt: str) -> Context:
        """The context of both prompts; what exceeds the checkpoint's sequence length is cut off.

        Both are encoded whatever the guidance will be, so that a context does not depend on it.

        Raises:
            InvalidArgumentError: a prompt is absurdly long.
        """
        if max(len(prompt), len(negative_prompt)) > MAX_CHARACTERS:
            raise InvalidArgumentError(f"prompt: at most {MAX_CHARACTERS} characters")
        states, mask, _, _ = self._pipeline.encode_prompt(
            [prompt, negative_prompt],
            do_classifier_free_guidance=False,
            max_sequence_length=self._max_sequence_length,
        )
        video, audio, attended = self._pipeline.connectors(
            states, mask, padding_side=self._pipeline.tokenizer_padding_side
        )
        return Context(video, audio, attended)
