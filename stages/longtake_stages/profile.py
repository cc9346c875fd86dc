"""How a checkpoint is served: its name and limits, and the arguments its pipeline was trained for.

A checkpoint folder carries its profile as ``longtake.json``. Checkpoints published without one are known here by
their hub id.
"""

from typing import Final

import msgspec

PROFILE_FILE: Final = "longtake.json"

# The sequence length, image compression (H.264 CRF 33) and temporal grid of LTX-2 are those of diffusers'
# ``LTX2ConditionPipeline``; STG and modality passes are off, as in its LTX-2.0 defaults.
LTX2_SEQUENCE_LENGTH: Final = 1024
LTX2_IMAGE_CRF: Final = 33


class Guidance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What accompanies the guidance scale of a request. The defaults run one classifier-free pass and nothing else.

    diffusers replaces an audio value of 0 or None by the video's, so every one is always passed.
    """

    audio_scale: float | None = None
    """None: the request's own guidance."""
    rescale: float = 0.0
    audio_rescale: float = 0.0
    stg: float = 0.0
    audio_stg: float = 0.0
    stg_blocks: tuple[int, ...] = ()
    modality: float = 1.0
    audio_modality: float = 1.0


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a checkpoint can do, and how its pipeline is called."""

    name: str
    """The name requests use."""
    family: str = "ltx2"
    description: str
    width: int
    """Default size in pixels."""
    height: int
    size_multiple: int = 32
    """``LTX2ConditionPipeline.check_inputs`` refuses sizes off this grid, whatever the VAE."""
    max_pixels: int
    fps: int = 24
    steps: int
    max_steps: int = 200
    guidance: float
    frame_grid: int = 8
    frames_cap: int = 97
    frames_recommended: int = 97
    motion_tail_frames: int = 17
    quantization: str = "none"
    sigmas: tuple[float, ...] = ()
    """The schedule of a distilled checkpoint, for requests of exactly that many steps; empty: evenly spaced."""
    companions: Guidance = Guidance()
    use_cross_timestep: bool = True
    """False for LTX-2.0, whose cross-modal modulation used each modality's own timestep (diffusers)."""
    max_sequence_length: int = LTX2_SEQUENCE_LENGTH
    """Tokens of a prompt. Without registers padding is attended, so this is the length of the training."""
    image_crf: int = LTX2_IMAGE_CRF
    """H.264 CRF a single conditioning image passes through, as in training; 0: none."""
    dtype: str = ""
    """``bfloat16`` or ``float32``; empty: bfloat16 on a GPU, float32 on the CPU."""
    decode_tile: int = 9
    """Latent frames decoded at once; bounds the decoder's memory."""
    decode_overlap: int = 4
    """Latent frames two neighbouring tiles share; at least 2."""
    decode_spatial_tiles: bool = False
    """Whether frames larger than the VAE's own tile (512 pixels) are decoded in spatial tiles too."""
    image_palette: tuple[tuple[int, int, int], ...] = ()
    """sRGB, 0..255: the colours of the only pictures it knows, flat shapes on a flat background; empty: any picture."""

    def __post_init__(self) -> None:
        if not 2 <= self.decode_overlap < self.decode_tile:
            raise ValueError("decode_overlap must be at least 2 and less than decode_tile")
        for name in ("frames_cap", "frames_recommended", "motion_tail_frames"):
            if (getattr(self, name) - 1) % self.frame_grid:
                raise ValueError(f"{name} must be {self.frame_grid}k+1")
        if self.width % self.size_multiple or self.height % self.size_multiple:
            raise ValueError(f"width and height must be multiples of {self.size_multiple}")
        if self.width * self.height > self.max_pixels:
            raise ValueError("the default size has more than max_pixels pixels")
        if self.dtype not in ("", "bfloat16", "float32"):
            raise ValueError("dtype must be bfloat16 or float32")
        if not all(0 <= component <= 255 for colour in self.image_palette for component in colour):
            raise ValueError("the colours of image_palette must be 0..255")


# 40 steps, guidance 4.0 and 24 frames per second are the defaults of Lightricks' ltx-pipelines as LTX-2 came out.
# Tiles of 65 frames with 24 blended follow its decoder (64 and 24).
BUILT_IN: Final = {
    "Lightricks/LTX-2": Profile(
        name="ltx-2-19b",
        description="Lightricks LTX-2: 19 billion parameters, video with sound",
        width=1216,
        height=704,
        max_pixels=1920 * 1088,
        steps=40,
        guidance=4.0,
        use_cross_timestep=False,
        decode_spatial_tiles=True,
    ),
}
