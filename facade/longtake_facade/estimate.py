"""What a script needs of the GPU."""

from longtake import wire
from longtake_stages.contract import Capabilities


def vram_estimate(script: wire.ChainScript, served: Capabilities) -> wire.VramEstimate | None:
    """Bytes of GPU memory that the largest stage needs, by the checkpoint's estimate; None on the CPU."""
    if served.vram is None:
        return None
    largest = max(stage.frames for stage in script.stage)
    pixel_frames = script.chain.width * script.chain.height * largest
    worst = served.vram.fixed_bytes + round(served.vram.bytes_per_pixel_frame * pixel_frames)
    return wire.VramEstimate(worst_case_bytes=worst, fits=worst <= served.vram.device_bytes)
