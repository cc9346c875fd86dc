"""Capabilities for tests: the limits of the tiny checkpoint, and of one like the full-size model."""

from longtake_stages.contract import Capabilities, Vram

PALETTE = {
    "red": (219, 31, 31),
    "green": (33, 173, 51),
    "blue": (33, 71, 224),
    "yellow": (242, 217, 31),
    "white": (245, 245, 245),
    "black": (13, 13, 13),
    "purple": (158, 38, 199),
}
TINY = Capabilities(
    model="tiny-ltx2",
    family="ltx2",
    description="for tests",
    checkpoint_digest="0" * 64,
    width=64,
    height=64,
    size_multiple=32,
    max_pixels=512 * 512,
    fps=24,
    steps=8,
    guidance=1.0,
    frame_grid=8,
    frames_cap=97,
    frames_recommended=25,
    motion_tail_frames=17,
    audio_sample_rate=16000,
    audio_channels=2,
    image_palette=tuple(PALETTE.values()),
)
GIB = 2**30
ON_GPU = Capabilities(
    model="ltx2",
    family="ltx2",
    description="for tests",
    checkpoint_digest="1" * 64,
    width=1216,
    height=704,
    size_multiple=32,
    max_pixels=1216 * 704,
    fps=24,
    steps=40,
    guidance=4.0,
    frame_grid=8,
    frames_cap=97,
    frames_recommended=97,
    motion_tail_frames=17,
    gpu_ordinals=(1,),
    vram=Vram(fixed_bytes=40 * GIB, bytes_per_pixel_frame=100.0, device_bytes=48 * GIB),
)
