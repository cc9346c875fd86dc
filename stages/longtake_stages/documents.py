"""What the models hand each other: safetensors documents, so that bfloat16 passes through Triton unchanged."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

from longtake_stages.errors import InvalidArgumentError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Context:
    """The connected text states of a prompt; row 0 is the prompt's, row 1 the negative prompt's.

    ``video`` [2, tokens, channels] and ``audio`` [2, tokens, channels] condition the two halves of the transformer;
    ``mask`` int64 [2, tokens] is 1 where a token is attended.
    """

    video: torch.Tensor
    audio: torch.Tensor
    mask: torch.Tensor

    def pack(self) -> Bytes:
        """The document, uint8 [n]."""
        return _pack({"video": self.video, "audio": self.audio, "mask": self.mask})

    @classmethod
    def unpack(cls, data: Bytes) -> Self:
        """Read a document.

        Raises:
            InvalidArgumentError: it is none, or its shapes do not belong together.
        """
        tensors = _unpack(data, {"video": 3, "audio": 3, "mask": 2}, "context")
        video, audio, mask = tensors["video"], tensors["audio"], tensors["mask"]
        if video.shape[:2] != audio.shape[:2] or video.shape[:2] != mask.shape or video.shape[0] != 2:
            raise InvalidArgumentError("context: the shapes of its tensors do not belong together")
        return cls(video, audio, mask)


@dataclass(frozen=True)
class ClipLatents:
    """A denoised clip: ``video`` [1, channels, frames, height, width], ``audio`` [1, channels, frames, bins]."""

    video: torch.Tensor
    audio: torch.Tensor

    def pack(self) -> Bytes:
        """The document, uint8 [n]."""
        return _pack({"video": self.video, "audio": self.audio})

    @classmethod
    def unpack(cls, data: Bytes) -> Self:
        """Read a document.

        Raises:
            InvalidArgumentError: it is none, or holds more than one clip.
        """
        tensors = _unpack(data, {"video": 5, "audio": 4}, "latents")
        if tensors["video"].shape[0] != 1 or tensors["audio"].shape[0] != 1:
            raise InvalidArgumentError("latents: exactly one clip is decoded at a time")
        return cls(tensors["video"], tensors["audio"])


def _pack(tensors: dict[str, torch.Tensor]) -> Bytes:
    document = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return np.frombuffer(document, dtype=np.uint8)


def _unpack(data: Bytes, ranks: dict[str, int], what: str) -> dict[str, torch.Tensor]:
    try:
        tensors = load(data.tobytes())
    except SafetensorError as error:
        raise InvalidArgumentError(f"{what}: not a safetensors document") from error
    if {name: tensor.ndim for name, tensor in tensors.items()} != ranks:
        raise InvalidArgumentError(f"{what}: expected the tensors {', '.join(ranks)}")
    return tensors
