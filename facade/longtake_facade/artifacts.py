"""What the folder of a stage (or of a fade) in the store holds, and the errors of making a video of it.

==================  ====================================================================================================
``stage.mp4``       the stage's own part of the timeline, with its sound; absent when its body is empty
``body.mkv``        the same frames lossless (FFV1, rgb); only where the video is no mp4
``head.npy``        the raw frames of the fade-in, ``[n, h, w, c]`` in the spec's pixel format; absent without one
``end.npy``         those of the fade-out
``tail.npy``        uint8 RGB ``[K, h, w, 3]``: the frames that condition the stage after
``waveform.npy``    float32 ``[samples, channels]`` as the model delivered it; absent where there is no sound
``measures.npz``    :class:`longtake_facade.measures.Measures`
``fade.mp4``        a fade's folder: its frames (``fade.mkv`` where the video is no mp4), beside its ``measures.npz``
==================  ====================================================================================================

All of it depends on the stage's plan and the :class:`VideoSpec` alone, so another chain with the same can use it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from longtake_facade.backend import Pixels, Waveform
from longtake_stages.contract import PixelFormat

VideoFormat = Literal["mp4", "gif", "apng", "webp"]

STAGE_VIDEO: Final = "stage.mp4"
BODY: Final = "body.mkv"
FADE_IN: Final = "head.npy"
FADE_OUT: Final = "end.npy"
TAIL: Final = "tail.npy"
WAVEFORM: Final = "waveform.npy"
FADE_H264: Final = "fade.mp4"
FADE_LOSSLESS: Final = "fade.mkv"


class EncodeError(Exception):
    """The video cannot be made of what was rendered; the message may be shown to users: no paths, no tracebacks."""

    code: ClassVar[str] = "ENCODE_FAILED"


@dataclass(frozen=True)
class VideoSpec:
    """What all pieces of a video have in common. ``width`` and ``height`` are even; ``fps`` 1..120."""

    width: int
    height: int
    fps: int
    format: VideoFormat

    @property
    def pixel_format(self) -> PixelFormat:
        """What the frames are handed over in: yuv420p (BT.709, limited range) for mp4, rgb24 for the others."""
        return "yuv420p" if self.format == "mp4" else "rgb24"

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Of one frame in :attr:`pixel_format`."""
        if self.format == "mp4":
            return (self.height * 3 // 2, self.width, 1)
        return (self.height, self.width, 3)

    @property
    def piece(self) -> str:
        """Name of the file in a stage's folder that the video is made of."""
        return STAGE_VIDEO if self.format == "mp4" else BODY

    @property
    def fade_piece(self) -> str:
        """Name of the file in a fade's folder that the video is made of."""
        return FADE_H264 if self.format == "mp4" else FADE_LOSSLESS


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a ``.npy``.

    Raises:
        OSError: with its reason; ``np.save`` on a full disk gives none, since it does not write through Python.
    """
    with path.open("xb") as file:
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


class FrameFile:
    """Writes a ``.npy`` of frames one by one, so that none of them stays in memory.

    The header promises ``count`` frames of ``shape``; :meth:`close` raises EncodeError where fewer were written.
    """

    def __init__(self, path: Path, count: int, shape: tuple[int, ...]) -> None:
        self._name = path.name
        self._missing = count
        self._shape = shape
        self._file = path.open("xb")
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]  # numpy's gap

    def write(self, frame: Pixels) -> None:
        """Append one frame (uint8, of the shape promised)."""
        if frame.shape != self._shape or not self._missing:
            raise EncodeError(f"{self._name} does not take another frame of {frame.shape}")
        self._file.write(np.ascontiguousarray(frame).data)
        self._missing -= 1

    def close(self) -> None:
        """Close the file; nothing is to be added."""
        self._file.close()
        if self._missing:
            raise EncodeError(f"{self._name} lacks {self._missing} frames")

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.close()


def stored_frames(path: Path, shape: tuple[int, ...]) -> Iterator[Pixels]:
    """The frames of a :class:`FrameFile` one by one: plain reads, since mapped pages would count as memory.

    Raises:
        EncodeError: the file is missing, damaged, or holds frames of another shape.
    """
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):  # type: ignore[no-untyped-call]  # numpy's gap
                raise ValueError("version")
            header = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call]  # numpy's gap
            (count, *stored), _, dtype = header
            if tuple(stored) != shape or dtype != np.uint8:
                raise EncodeError(f"{path.name} holds frames of {tuple(stored)}, not of {shape}")
            for _ in range(count):
                yield np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)
    except (OSError, ValueError) as error:
        raise EncodeError(f"{path.name} cannot be read") from error


def load_waveform(folder: Path) -> Waveform | None:
    """The stage's waveform, None where it has none.

    Raises:
        EncodeError: the file is damaged.
    """
    path = folder / WAVEFORM
    if not path.exists():
        return None
    try:
        waveform = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EncodeError(f"{path.name} cannot be read") from error
    if waveform.ndim != 2 or waveform.dtype != np.float32:
        raise EncodeError(f"{path.name} is no waveform")
    return np.asarray(waveform, np.float32)
