"""What the models hand each other survives the way, and rubbish is refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from longtake_stages.documents import ClipLatents, Context
from longtake_stages.errors import InvalidArgumentError


def document(**tensors: torch.Tensor) -> np.ndarray:
    return np.frombuffer(save(tensors), np.uint8)


def test_a_context_survives_the_way_in_bfloat16() -> None:
    """numpy has no bfloat16; the document does."""
    states = torch.randn(2, 3, 4).to(torch.bfloat16)
    sent = Context(states, states * 2, torch.ones(2, 3, dtype=torch.int64))
    received = Context.unpack(sent.pack())
    assert received.video.dtype == torch.bfloat16
    assert torch.equal(received.video, sent.video)
    assert torch.equal(received.audio, sent.audio)
    assert torch.equal(received.mask, sent.mask)


def test_latents_survive_the_way() -> None:
    """Views, which lie scattered in memory, are packed as what they show."""
    video = torch.randn(1, 4, 2, 2, 8).transpose(3, 4)
    sent = ClipLatents(video, torch.randn(1, 4, 3, 2))
    received = ClipLatents.unpack(sent.pack())
    assert torch.equal(received.video, sent.video)
    assert torch.equal(received.audio, sent.audio)


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(0, np.uint8),
        np.frombuffer(b"rubbish", np.uint8),
        document(video=torch.zeros(1, 1, 1, 1, 1)),
        document(video=torch.zeros(1, 1, 1), audio=torch.zeros(1, 1, 1, 1)),
        document(video=torch.zeros(2, 1, 1, 1, 1), audio=torch.zeros(1, 1, 1, 1)),
    ],
)
def test_what_is_no_clip_is_refused(data: np.ndarray) -> None:
    """Bytes of another kind, missing tensors, other ranks, two clips."""
    with pytest.raises(InvalidArgumentError, match=r"^INVALID_ARGUMENT: latents: "):
        ClipLatents.unpack(data)


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 5, 4)])
def test_a_context_whose_shapes_differ_is_refused(shape: tuple[int, int, int]) -> None:
    """Both halves and the mask have two rows and the same tokens."""
    mask = torch.ones(2, 3, dtype=torch.int64)
    with pytest.raises(InvalidArgumentError, match="do not belong together"):
        Context.unpack(document(video=torch.zeros(*shape), audio=torch.zeros(2, 3, 4), mask=mask))
