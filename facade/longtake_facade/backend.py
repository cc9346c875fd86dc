"""What the facade asks of a renderer, whatever serves it: Triton in production, memory in unit tests.

``triton.TritonBackend`` speaks gRPC to a server; ``memory.MemoryBackend`` answers the same calls from the process.
A call that is cancelled (its task or its iterator closed) ends within the step that is being computed.

Errors::

    BackendError             code, message; the message may be shown to users: no paths, no tracebacks
    ├── BackendUnavailable   nothing answers, or a model is not loaded     → NO_BACKEND
    ├── ModelOutOfMemory     the model ran out of device memory            → OUT_OF_MEMORY
    └── ModelFailed          the model refused the input or broke          → STAGE_FAILED
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from longtake_stages.contract import Capabilities, PixelFormat

Pixels = NDArray[np.uint8]
Waveform = NDArray[np.float32]


class BackendError(Exception):
    """A renderer could not do what it was asked to."""

    code: ClassVar[str] = "INTERNAL"


class BackendUnavailable(BackendError):
    """Nothing answers at the address, or a model is not loaded."""

    code = "NO_BACKEND"


class ModelOutOfMemory(BackendError):
    """The model ran out of device memory; a smaller size or fewer frames may fit."""

    code = "OUT_OF_MEMORY"


class ModelFailed(BackendError):
    """The model refused its input or broke while it ran."""

    code = "STAGE_FAILED"


@dataclass(frozen=True)
class Condition:
    """Frames the clip is to contain.

    ``frames``: uint8 RGB ``[n, height, width, 3]`` of the clip's own size, n on the frame grid (1 for an image).
    ``frame``: pixel frame of the clip where they begin: 0, or on the grid.
    ``strength``: 0..1; 1 keeps them as they are.
    """

    frame: int
    frames: Pixels
    strength: float


@dataclass(frozen=True)
class ClipJob:
    """Everything that determines one clip, in the units of :mod:`longtake_stages.contract`."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    frames: int
    fps: int
    seed: int
    steps: int
    guidance: float
    pixel_format: PixelFormat
    tail_frames: int = 0
    audio: bool = False
    conditions: tuple[Condition, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Step:
    """A denoising step is done: ``step`` of ``total``, from 1."""

    step: int
    total: int


@dataclass(frozen=True)
class Latents:
    """Denoising is done. ``data`` is opaque (a safetensors document); ``device`` a GPU ordinal, None on the CPU."""

    data: bytes
    device: int | None


@dataclass(frozen=True)
class Chunk:
    """The next frames of the clip, in the job's pixel format (shapes as the decoder's ``frames``)."""

    frames: Pixels


@dataclass(frozen=True)
class ClipEnd:
    """All frames were sent. ``tail``: the last ``tail_frames`` frames, RGB ``[n, height, width, 3]``.

    ``waveform``: float32 ``[samples, channels]`` in -1..1 at ``sample_rate`` per second, None where there is none.
    """

    tail: Pixels
    waveform: Waveform | None
    sample_rate: int


class Backend(Protocol):
    """A renderer of clips."""

    @property
    def capabilities(self) -> Capabilities:
        """What the checkpoint can do; asked once when the backend was opened."""

    @property
    def instances(self) -> int:
        """How many clips can be denoised side by side."""

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        """The text context (opaque) of a prompt."""

    def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        """Every step as it is done, then the latents; to be closed by the caller when it stops early."""

    def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        """The clip's frames in chunks, then its end; to be closed by the caller when it stops early."""

    async def canary(self) -> None:
        """Render the smallest clip through every model.

        Raises:
            BackendError: any model did not answer as it should.
        """

    async def revive(self) -> None:
        """Wait until every model answers again after a :class:`BackendUnavailable`, and help where that is possible.

        Raises:
            BackendUnavailable: they did not come back in time.
        """

    async def close(self) -> None:
        """Let go of the connection."""
