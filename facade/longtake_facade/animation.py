"""Still and animated images that need no video library: thumbnail, preview, and the container of animated WebP."""

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

from PIL import Image

from longtake_facade.backend import Pixels

PREVIEW_FRAMES: Final = 40
"""Frames of a preview at most."""
PREVIEW_DELAY_MS: Final = (40, 200)
"""How long one of them is shown: as in the video, within these limits, so the preview of a long video runs faster."""


def write_thumbnail(frame: Pixels, path: Path) -> None:
    """Write an RGB frame as PNG."""
    Image.fromarray(frame).save(path, "PNG")


def write_preview(frames: Sequence[tuple[int, Pixels]], total_frames: int, fps: int, path: Path) -> None:
    """Write small RGB frames, each with its position in the video, as a looping GIF.

    A palette by octree without dither: a tenth of a second for all, where median cut with dither takes many times that.
    """
    step = -(-len(frames) // PREVIEW_FRAMES)
    chosen = list(frames[::step])
    ends = [at for at, _ in chosen[1:]] + [total_frames]
    shortest, longest = PREVIEW_DELAY_MS
    delays = [
        min(max(round((end - at) * 1000 / fps), shortest), longest) // 10 * 10
        for (at, _), end in zip(chosen, ends, strict=True)
    ]
    images = [
        Image.fromarray(frame).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for _, frame in chosen
    ]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=delays, loop=0, optimize=False)


def delays(frames: int, fps: int, units: int) -> list[int]:
    """How long each of ``frames`` is shown, in ``1/units`` seconds: rounded at every boundary, so that the sum is
    ``round(frames*units/fps)``. At least 1 each: more frames than units per second run slower.
    """
    times = [max(i, round(i * units / fps)) if fps > units else round(i * units / fps) for i in range(frames + 1)]
    return [after - before for before, after in pairwise(times)]


class WebpFile:
    """An animated WebP of whole still images, looping for ever.

    Written by hand after Google's WebP container specification (RIFF chunks VP8X, ANIM, ANMF), since libwebp's own
    writer keeps all frames in memory, merges equal ones, and FFmpeg's guesses the duration of the last.
    """

    def __init__(self, path: Path, width: int, height: int) -> None:
        self._size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        self._file: BinaryIO = path.open("xb")
        self._file.write(b"RIFF\0\0\0\0WEBP")
        animation_flag = 2
        self._chunk(b"VP8X", bytes([animation_flag, 0, 0, 0]) + self._size)
        self._chunk(b"ANIM", struct.pack("<IH", 0, 0))

    def add(self, still: bytes, milliseconds: int) -> None:
        """Append a still WebP file as a frame of the animation; it replaces the one before whole."""
        no_blending = 2
        duration = struct.pack("<I", milliseconds)[:3]
        position = bytes(6)
        self._chunk(b"ANMF", position + self._size + duration + bytes([no_blending]) + _image_chunks(still))

    def close(self) -> None:
        """Write the length of it all and close the file."""
        length = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", length - 8))
        self._file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _chunk(self, name: bytes, data: bytes) -> None:
        self._file.write(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2))


def _image_chunks(still: bytes) -> bytes:
    """The chunks of a still WebP that make up its picture, without those of the container around it."""
    kept = b""
    position = 12
    while position < len(still):
        (size,) = struct.unpack_from("<I", still, position + 4)
        end = position + 8 + size + size % 2
        if still[position : position + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
            kept += still[position:end]
        position = end
    return kept
