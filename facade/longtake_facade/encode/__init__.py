"""Frames to packets, packets to files: the one package of the facade that knows PyAV.

Everything here blocks and belongs into a worker thread; PyAV lets go of the GIL while it encodes and decodes.
FFmpeg's own log stays silent, as PyAV leaves it.
"""

from longtake_facade.encode.animated import encode_animation
from longtake_facade.encode.mux import Remuxed, Sound, check_audio, remux
from longtake_facade.encode.video import (
    FrameWriter,
    H264Writer,
    LosslessWriter,
    Piece,
    encoding,
    first_frame,
    piece_writer,
    rgb_frames,
)

__all__ = [
    "FrameWriter",
    "H264Writer",
    "LosslessWriter",
    "Piece",
    "Remuxed",
    "Sound",
    "check_audio",
    "encode_animation",
    "encoding",
    "first_frame",
    "piece_writer",
    "remux",
    "rgb_frames",
]
