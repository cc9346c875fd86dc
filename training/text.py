"""The text half: Gemma 3 and the connectors learn the world's words before the denoiser learns to draw them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training import captions, components, world
from training.loop import Plan, train
from training.world import Ints

_BATCH: Final = 64
_CLASSES: Final = tuple(len(names) for names in (world.SHAPES, world.COLOURS, world.COLOURS, world.MOTIONS))
_PARTIAL: Final = 0.2
_PLAIN: Final = 0.1

Embedded = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class _Text(torch.nn.Module):
    """All that is trained: the language model, the connectors, and heads that read attributes off both outputs.

    Every attribute has one class more: that it was not said.
    """

    def __init__(self, language_model: torch.nn.Module, connectors: torch.nn.Module) -> None:
        super().__init__()
        self.language_model = language_model
        self.connectors = connectors
        width = components.TEXT_WIDTH
        self.heads = torch.nn.ModuleList(torch.nn.Linear(width, count + 1) for _ in range(2) for count in _CLASSES)

    def read(self, embedded: Embedded) -> list[torch.Tensor]:
        """Logits of shape, colour, background and motion from the video output, then from the audio output."""
        pooled = [output.mean(1) for output in embedded[:2]]
        return [head(pooled[number // len(_CLASSES)]) for number, head in enumerate(self.heads)]


def train_text(folder: Path, steps: int) -> tuple[Any, Any]:
    """Train the text encoder (its language model) and the connectors for ``steps``; gives both, ready to use."""
    text_encoder, connectors, _ = trained(folder, steps)
    return text_encoder, connectors


def trained(folder: Path, steps: int) -> tuple[Any, Any, _Text]:
    """As :func:`train_text`, with the heads that read attributes off the outputs."""
    torch.manual_seed(3)
    tokenizer = captions.tokenizer()
    # Never in training mode, in which Gemma 3 asks for image tokens; it has no dropout.
    text_encoder = components.text_encoder(len(tokenizer)).eval()
    connectors = components.connectors().eval()
    text = _Text(text_encoder.model.language_model, connectors)

    def step(_: int, random: np.random.Generator) -> dict[str, torch.Tensor]:
        written, truth = batch(random, _BATCH)
        logits = text.read(embed(text_encoder, connectors, tokenizer, written))
        losses = [torch.nn.functional.cross_entropy(row, truth[:, n % len(_CLASSES)]) for n, row in enumerate(logits)]
        right = [(row.argmax(-1) == truth[:, n % len(_CLASSES)]).float().mean() for n, row in enumerate(logits)]
        return {"loss": torch.stack(losses).mean(), "right": torch.stack(right).mean()}

    plan = Plan(steps, seed=4, is_hidden=_is_hidden, muon=3e-3, adam=3e-3, decay=0.7)
    train("text", folder, text, plan, step)
    return text_encoder, connectors, text


def _is_hidden(name: str) -> bool:
    return "embed_tokens" not in name and "heads" not in name


def batch(random: np.random.Generator, count: int) -> tuple[list[str], torch.Tensor]:
    """Captions of the training set; what they say, int64 ``[count, 4]``. What they do not has the class after all."""
    truth = world.draw_attributes(random, count)
    written = []
    for row in truth:
        kind = random.random()
        if kind < _PARTIAL:
            said = captions.draw_said(random)
            written.append(captions.partial(row, random, said))
            row[:] = np.where(said, row, _CLASSES)
        elif kind < _PARTIAL + _PLAIN:
            written.append(captions.plain(row))
        else:
            written.append(captions.varied(row, random))
    return written, torch.from_numpy(truth)


def embed(text_encoder: Any, connectors: Any, tokenizer: Any, written: Sequence[str]) -> Embedded:
    """What the denoiser attends to: float32 ``[n, 48, 96]`` for video and for audio, and the mask ``[n, 48]``.

    The same as ``LTX2ConditionPipeline`` does with ``max_sequence_length`` 48.
    """
    tokens = tokenizer(
        [caption.strip() for caption in written],
        padding="max_length",
        max_length=components.SEQUENCE_LENGTH,
        truncation=True,
        return_tensors="pt",
    )
    read = text_encoder(
        input_ids=tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True, logits_to_keep=1
    )
    states = torch.stack(read.hidden_states, -1).flatten(2, 3)
    video, audio, attended = connectors(states, tokens.attention_mask, padding_side="left")
    return video, audio, attended


@torch.inference_mode()
def accuracy(text_encoder: Any, connectors: Any, text: _Text, written: Sequence[str], attributes: Ints) -> list[float]:
    """The share of captions whose shape, colour, background and motion are read right, from video then from audio."""
    logits = text.read(embed(text_encoder, connectors, captions.tokenizer(), written))
    truth = torch.from_numpy(attributes)
    return [float((row.argmax(-1) == truth[:, n % len(_CLASSES)]).float().mean()) for n, row in enumerate(logits)]
