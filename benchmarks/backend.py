"""What the backend in memory serves here: the limits of the tiny checkpoint."""

from longtake_stages.contract import Capabilities

TINY = Capabilities(
    model="tiny-ltx2",
    family="ltx2",
    description="a backend in memory",
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
)
