"""What the facade and the models say to each other through Triton: the names, types and shapes of every tensor.

Every model takes one request at a time and has no batch dimension. ``context`` and ``latents`` are opaque to
everyone but the stages: safetensors documents as bytes, so that bfloat16, which numpy and Triton's Python backend
cannot express, passes through unchanged, and so that what a checkpoint family needs in them is its own affair.

================  =======================  ==========================================================================
model             tensor                   type, shape and meaning
================  =======================  ==========================================================================
prompt_encoder    in  ``prompt``           BYTES [1], UTF-8
                  in  ``negative_prompt``  BYTES [1], UTF-8, empty for none
                  out ``context``          UINT8 [n], the connected text states, a safetensors document
denoiser          in  ``context``          UINT8 [n]
(decoupled)       in  ``width height``     INT32 [1], pixels, multiples of ``Capabilities.size_multiple``
                  in  ``frames``           INT32 [1], on the frame grid
                  in  ``fps``              INT32 [1]
                  in  ``seed``             UINT64 [1]
                  in  ``steps``            INT32 [1]
                  in  ``guidance``         FP32 [1]
                  in  ``condition_frames`` UINT8 [n, height, width, 3], RGB, all conditions one after the other;
                                           n may be 0
                  in  ``condition_spans``  INT32 [m, 2], per condition: pixel frame it is placed at (0, or on the
                                           grid), number of frames (on the grid)
                  in  ``condition_strengths``  FP32 [m], 0..1
                  in  ``pixel_format tail_frames audio``  optional, the decoder's: passed through to every response,
                                           because in an ensemble a step takes its inputs from one decoupled step
                  out ``progress``         INT32 [2]: step (1..total) and total; after every step
                  out ``latents``          UINT8 [n]: empty with progress; the last response carries the document
                  out ``device``           INT32 [1]: GPU ordinal, -1 on the CPU
decoder           in  ``latents``          UINT8 [n]; empty: only ``progress`` and ``device`` are passed through
(decoupled)       in  ``pixel_format``     BYTES [1]: ``yuv420p`` or ``rgb24``
                  in  ``tail_frames``      INT32 [1], 0..frames
                  in  ``audio``            BOOL [1]: whether to decode the waveform
                  in  ``progress device``  as the denoiser sent them, passed through to every response
                  out ``frames``           UINT8 [n, h, w, c]: a chunk in order. ``rgb24``: [n, height, width, 3].
                                           ``yuv420p``: [n, height*3/2, width, 1], the planes Y, U, V one below the
                                           other, BT.709 limited range. n is 0 with progress and in the last response
                  out ``tail``             UINT8 [tail_frames, height, width, 3], RGB; only in the last response
                  out ``waveform``         FP32 [samples, channels], -1..1; only in the last response; 0 samples
                                           where there is no audio
                  out ``sample_rate``      INT32 [1]; 0 where there is no audio
                  out ``progress device``  passed through
capabilities      out ``capabilities``     BYTES [1]: a :class:`Capabilities` as JSON
clip (ensemble)   every input of the first three but what they hand each other; every output of the decoder. An
                  ensemble's inputs and outputs share one namespace, so the input ``frames`` is ``frame_count`` here
================  =======================  ==========================================================================

A request parameter ``canary`` marks a request that probes the models: it is not counted as a render.
An error message of a model begins with one of the :class:`ModelErrorCode` values, a colon and a space.
"""

import enum
from typing import Final, Literal

import msgspec

PROMPT_ENCODER: Final = "prompt_encoder"
DENOISER: Final = "denoiser"
DECODER: Final = "decoder"
CAPABILITIES: Final = "capabilities"
CLIP: Final = "clip"
MODELS: Final = (PROMPT_ENCODER, DENOISER, DECODER, CAPABILITIES, CLIP)

CANARY_PARAMETER: Final = "canary"

# Counters of the models, in Triton's own metrics endpoint. Canaries are counted in neither.
STEPS_METRIC: Final = "longtake_denoise_steps_total"
RENDERS_METRIC: Final = "longtake_denoise_renders_total"

PixelFormat = Literal["yuv420p", "rgb24"]


class ModelErrorCode(enum.StrEnum):
    """How a model failed, as the first word of its error message."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


class Vram(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the checkpoint needs of a GPU's memory: ``fixed_bytes + bytes_per_pixel_frame * w * h * frames``.

    An estimate from the checkpoint's weights and the largest activation of each stage, not a measurement.
    """

    fixed_bytes: int
    bytes_per_pixel_frame: float
    device_bytes: int
    """Total memory of the smallest served GPU."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What the served checkpoint can do; all limits of a request come from here."""

    model: str
    """The name requests use."""
    family: str
    """The architecture, for instance ``ltx2``."""
    description: str
    checkpoint_digest: str
    """Identifies the weights and what else of the checkpoint determines a clip (hex)."""
    width: int
    """Default size in pixels."""
    height: int
    size_multiple: int
    """Width and height must be multiples of this."""
    max_pixels: int
    """width * height at most."""
    fps: int
    """Frames per second the model was trained for."""
    steps: int
    guidance: float
    frame_grid: int
    """Clips have ``frame_grid * k + 1`` frames."""
    frames_cap: int
    """Frames of one clip at most (on the grid)."""
    frames_recommended: int
    motion_tail_frames: int
    """Default K (on the grid)."""
    audio_sample_rate: int = 0
    """0: the model makes no sound."""
    audio_channels: int = 0
    quantization: str = "none"
    size_bytes: int = 0
    """Of the checkpoint's weights on disk."""
    gpu_ordinals: tuple[int, ...] = ()
    """Of the devices that serve; empty on the CPU."""
    vram: Vram | None = None
    """None on the CPU."""
    image_palette: tuple[tuple[int, int, int], ...] = ()
    """sRGB, 0..255: the colours of the only pictures it knows, flat shapes on a flat background; empty: any picture."""
