"""Where a model instance computes. The one place that knows CUDA; it has not been run on a GPU."""

from dataclasses import dataclass
from typing import Final

import torch

_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Placement:
    """The device of one model instance and the type its weights have there."""

    device: torch.device
    dtype: torch.dtype

    @property
    def ordinal(self) -> int:
        """GPU ordinal, -1 on the CPU."""
        return -1 if self.device.type == "cpu" else int(self.device.index)

    def finish(self) -> None:
        """Wait until what was asked of the device is computed: Python runs ahead of a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def place(kind: str, device_id: int, dtype: str = "") -> Placement:
    """The placement of an instance of Triton's ``kind`` (``GPU``, ``CPU``, …) on ``device_id``.

    On a GPU this makes the device the process's current one, first of all: whatever allocates without naming a
    device would land on GPU 0 otherwise. ``dtype`` is a profile's: empty for bfloat16 on a GPU, float32 on the CPU.
    """
    on_gpu = kind == "GPU"
    chosen = _DTYPES[dtype or ("bfloat16" if on_gpu else "float32")]
    if not on_gpu:
        return Placement(torch.device("cpu"), chosen)
    torch.cuda.set_device(device_id)
    return Placement(torch.device("cuda", device_id), chosen)


def gpu_ordinals() -> tuple[int, ...]:
    """The GPUs this process sees; empty where there is none."""
    return tuple(range(torch.cuda.device_count())) if torch.cuda.is_available() else ()


def smallest_gpu_bytes(ordinals: tuple[int, ...]) -> int:
    """Total memory of the smallest of ``ordinals`` (at least one)."""
    return min(int(torch.cuda.get_device_properties(n).total_memory) for n in ordinals)


def release_cached_memory() -> None:
    """Give back what the allocator holds, after a request did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
