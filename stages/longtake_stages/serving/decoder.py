"""The decoder behind Triton: chunks of frames, then tail and sound; a step's progress is passed on as it is."""

from typing import Any, Final, Self, get_args

import numpy as np

from longtake_stages.checkpoint import DECODING_COMPONENTS, served_checkpoint
from longtake_stages.contract import PixelFormat
from longtake_stages.decoder import Decoder, End, Frames
from longtake_stages.device import place
from longtake_stages.documents import ClipLatents
from longtake_stages.errors import InvalidArgumentError
from longtake_stages.serving.bridge import Array, Replies, Request

_FORMATS: Final[tuple[PixelFormat, ...]] = get_args(PixelFormat)
_NO_FRAMES: Final = np.zeros((0, 1, 1, 1), np.uint8)
_NO_TAIL: Final = np.zeros((0, 1, 1, 3), np.uint8)
_SILENCE: Final = np.zeros((0, 1), np.float32)


class DecoderModel:
    """Answers ``decoder`` requests."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder: Decoder | None = decoder

    @classmethod
    def initialize(cls, _pb_utils: Any, args: dict[str, str]) -> Self:
        """Load the served checkpoint on the device of Triton's instance ``args``."""
        checkpoint = served_checkpoint(DECODING_COMPONENTS)
        device = int(args["model_instance_device_id"])
        placement = place(args["model_instance_kind"], device, checkpoint.profile.dtype)
        return cls(Decoder.load(checkpoint, placement))

    def answer(self, request: Request, replies: Replies) -> None:
        """Decode, with a response a chunk and one at the end. Without latents: one response, the progress."""
        assert self._decoder is not None, "Triton sends nothing after finalize"
        passed_on = {"progress": request.array("progress"), "device": request.array("device")}
        latents = request.array("latents")
        if latents.size == 0:
            replies.send(_reply(passed_on))
            return
        parts = self._decoder.decode(
            ClipLatents.unpack(latents),
            _pixel_format(request),
            request.integer("tail_frames"),
            request.flag("audio"),
            replies.is_cancelled,
        )
        for part in parts:
            replies.send(_reply(passed_on, part))

    def close(self) -> None:
        """Forget the weights."""
        self._decoder = None


def _pixel_format(request: Request) -> PixelFormat:
    asked = request.text("pixel_format")
    for known in _FORMATS:
        if asked == known:
            return known
    raise InvalidArgumentError(f"pixel_format must be {' or '.join(_FORMATS)}")


def _reply(passed_on: dict[str, Array], part: Frames | End | None = None) -> dict[str, Array]:
    frames, tail, waveform, sample_rate = _NO_FRAMES, _NO_TAIL, _SILENCE, 0
    if isinstance(part, Frames):
        frames = part.pixels
    elif isinstance(part, End):
        tail, sample_rate = part.tail, part.sample_rate
        waveform = part.waveform if part.sample_rate else _SILENCE
    rate = np.array([sample_rate], np.int32)
    return {"frames": frames, "tail": tail, "waveform": waveform, "sample_rate": rate, **passed_on}
