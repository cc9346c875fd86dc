"""What the served checkpoint can do: its profile, its digest, and what its configurations say."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from longtake_stages.checkpoint import Checkpoint
from longtake_stages.contract import Capabilities, Vram
from longtake_stages.device import gpu_ordinals, smallest_gpu_bytes
from longtake_stages.profile import Profile

# Tensors as wide as the model that a transformer block holds at once: its input, the modulated input, queries, keys
# and values, the attention's output, and the fourfold wide layer of its feed-forward network.
_LIVE_STATES: Final = 10
# Feature maps of the decoder's last block at once: input, norm, convolution, residual.
_LIVE_MAPS: Final = 4
_BYTES_PER_VALUE: Final = 2
# The CUDA context, kernels and the allocator's rounding of four processes.
_OVERHEAD_BYTES: Final = 4 << 30


def describe(checkpoint: Checkpoint) -> Capabilities:
    """The checkpoint's capabilities on this machine. Reads the checkpoint once, for its digest."""
    profile = checkpoint.profile
    vocoder = checkpoint.config("vocoder")
    ordinals = gpu_ordinals()
    return Capabilities(
        model=profile.name,
        family=profile.family,
        description=profile.description,
        checkpoint_digest=checkpoint.digest(),
        width=profile.width,
        height=profile.height,
        size_multiple=profile.size_multiple,
        max_pixels=profile.max_pixels,
        fps=profile.fps,
        steps=profile.steps,
        guidance=profile.guidance,
        frame_grid=profile.frame_grid,
        frames_cap=profile.frames_cap,
        frames_recommended=profile.frames_recommended,
        motion_tail_frames=profile.motion_tail_frames,
        image_palette=profile.image_palette,
        audio_sample_rate=int(vocoder["output_sampling_rate"]),
        audio_channels=int(vocoder["out_channels"]),
        quantization=profile.quantization,
        size_bytes=checkpoint.weight_bytes(),
        gpu_ordinals=ordinals,
        vram=vram(checkpoint, smallest_gpu_bytes(ordinals)) if ordinals else None,
    )


def to_json(capabilities: Capabilities) -> bytes:
    """The document of the ``capabilities`` tensor."""
    return msgspec.json.encode(capabilities)


def vram(checkpoint: Checkpoint, device_bytes: int) -> Vram:
    """What one GPU that runs every model needs, with ``device_bytes`` of memory: an estimate, not a measurement."""
    per_pixel_frame = max(
        _transformer_bytes(checkpoint.config("transformer"), checkpoint.config("vae"), checkpoint.profile),
        _decoder_bytes(checkpoint.config("vae")),
    )
    return Vram(checkpoint.weight_bytes() + _OVERHEAD_BYTES, per_pixel_frame, device_bytes)


def _transformer_bytes(config: Mapping[str, Any], vae: Mapping[str, Any], profile: Profile) -> float:
    width = config["num_attention_heads"] * config["attention_head_dim"]
    scale = vae.get("spatial_compression_ratio") or profile.size_multiple
    pixel_frames_per_token = scale * scale * profile.frame_grid
    rows = 2 if profile.guidance > 1 else 1
    return float(rows * _LIVE_STATES * width * _BYTES_PER_VALUE / pixel_frames_per_token)


def _decoder_bytes(config: Mapping[str, Any]) -> float:
    channels = min(config["decoder_block_out_channels"])
    features = _LIVE_MAPS * channels * _BYTES_PER_VALUE / config["patch_size"] ** 2
    rgb = 3 * (_BYTES_PER_VALUE + 4 + 1)  # as decoded, as float32, as uint8
    return float(features + rgb)
