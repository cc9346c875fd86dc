"""Latents to frames, tail and waveform: the VAEs and the vocoder of LTX-2, in memory that does not grow with a clip.

A clip is decoded in tiles of latent frames. Latent frame 0 stands for one pixel frame and every other one for
``grid`` of them, so a tile that begins at latent frame s > 0 shows s as if it were the first, and that one frame is
dropped; the rest of the tile lies exactly on the clip's own frames. Where two tiles overlap they are blended linearly
over the whole overlap. A clip of one tile is a whole decode. (``AutoencoderKLLTX2Video._temporal_tiled_decode`` drops
the tile's last frame instead, which puts it one frame off.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray

from longtake_stages.checkpoint import DECODING_COMPONENTS, Checkpoint, load_pipeline
from longtake_stages.colour import to_uint8, to_yuv420p
from longtake_stages.contract import PixelFormat
from longtake_stages.device import Placement
from longtake_stages.documents import ClipLatents
from longtake_stages.errors import CancelledError, InvalidArgumentError
from longtake_stages.profile import Profile

# Frames of one response: a response at 1216x704 stays near 20 MB, and so do the shared memory and messages it takes.
CHUNK_FRAMES: Final = 16

IsCancelled = Callable[[], bool]


@dataclass(frozen=True)
class Tile:
    """Latent frames ``start`` to ``stop`` of a clip; its first ``blended`` pixel frames overlap the tile before."""

    start: int
    stop: int
    blended: int


@dataclass(frozen=True)
class Frames:
    """A chunk of a clip, uint8: ``[n, h, w, 3]`` for rgb24, ``[n, h * 3 / 2, w, 1]`` for yuv420p."""

    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class End:
    """What a clip ends with.

    ``tail``: its last frames, uint8 RGB ``[n, h, w, 3]``. ``waveform``: float32 ``[samples, channels]``.
    ``sample_rate`` is 0, and ``waveform`` ``[0, 0]``, where no sound was asked for.
    """

    tail: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    sample_rate: int


class Decoder:
    """The decoding half of the pipeline, on one device."""

    def __init__(self, pipeline: Any, profile: Profile, placement: Placement) -> None:
        self._pipeline = pipeline
        self._profile = profile
        self._placement = placement
        if profile.decode_spatial_tiles:
            pipeline.vae.enable_tiling()

    @classmethod
    def load(cls, checkpoint: Checkpoint, placement: Placement) -> Self:
        """Load the VAEs and the vocoder of a checkpoint."""
        return cls(load_pipeline(checkpoint, DECODING_COMPONENTS, placement), checkpoint.profile, placement)

    def decode(
        self,
        latents: ClipLatents,
        pixel_format: PixelFormat,
        tail_frames: int,
        audio: bool,
        is_cancelled: IsCancelled,
    ) -> Iterator[Frames | End]:
        """The clip's frames in chunks of at most ``CHUNK_FRAMES``, in order, then its end.

        Raises:
            InvalidArgumentError: the latents are not of this checkpoint, or the clip has fewer than ``tail_frames``.
            CancelledError: ``is_cancelled()``, which is asked before every tile and chunk.
        """
        count = self._check(latents, tail_frames)
        tail: torch.Tensor | None = None
        for decoded in self._rgb(latents.video, is_cancelled):
            for chunk in torch.split(decoded, CHUNK_FRAMES):
                _stop_if(is_cancelled)
                yield Frames(_array(chunk if pixel_format == "rgb24" else to_yuv420p(chunk)))
            recent = decoded if tail is None else torch.cat([tail, decoded])
            tail = recent[len(recent) - min(tail_frames, len(recent)) :].clone()
        assert tail is not None, f"a clip of {count} frames has a tile"
        _stop_if(is_cancelled)
        waveform, sample_rate = self._sound(latents.audio) if audio else (np.zeros((0, 0), np.float32), 0)
        yield End(_array(tail), waveform, sample_rate)

    def _check(self, latents: ClipLatents, tail_frames: int) -> int:
        channels = latents.video.shape[1]
        if channels != self._pipeline.vae.config.latent_channels:
            raise InvalidArgumentError(f"latents: {channels} channels are not this checkpoint's")
        if latents.audio.shape[1] != self._pipeline.audio_vae.config.latent_channels:
            raise InvalidArgumentError("latents: the audio channels are not this checkpoint's")
        if 0 in latents.video.shape or 0 in latents.audio.shape:
            raise InvalidArgumentError("latents: an empty clip")
        count = int(latents.video.shape[2] - 1) * self._profile.frame_grid + 1
        if not 0 <= tail_frames <= count:
            raise InvalidArgumentError(f"tail_frames must be 0..{count}, not {tail_frames}")
        return count

    def _rgb(self, latents: torch.Tensor, is_cancelled: IsCancelled) -> Iterator[torch.Tensor]:
        """The frames, uint8 RGB ``[n, h, w, 3]`` on the device, as soon as no later tile changes them."""
        profile = self._profile
        held: torch.Tensor | None = None
        tiles = plan_tiles(latents.shape[2], profile.decode_tile, profile.decode_overlap, profile.frame_grid)
        for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
            _stop_if(is_cancelled)
            frames = self._frames(latents[:, :, tile.start : tile.stop], first=tile.start == 0)
            if held is not None:
                frames = torch.cat([_blend(held, frames[:, : tile.blended]), frames[:, tile.blended :]], dim=1)
            final = frames.shape[1] - (following.blended if following else 0)
            held = frames[:, final:]
            yield to_uint8(frames[:, :final])

    @torch.inference_mode()
    def _frames(self, latents: torch.Tensor, first: bool) -> torch.Tensor:
        """One tile, float32 ``[3, n, h, w]``."""
        latents = latents.to(device=self._placement.device, dtype=self._placement.dtype)
        # The timestep at which a VAE with timestep conditioning finishes the clip; 0 is the pipeline's default.
        conditioned = self._pipeline.vae.config.timestep_conditioning
        timestep = latents.new_zeros(1) if conditioned else None
        decoded: torch.Tensor = self._pipeline.vae.decode(latents, timestep, return_dict=False)[0][0]
        return (decoded if first else decoded[:, 1:]).float()

    @torch.inference_mode()
    def _sound(self, latents: torch.Tensor) -> tuple[NDArray[np.float32], int]:
        latents = latents.to(device=self._placement.device, dtype=self._placement.dtype)
        spectrogram = self._pipeline.audio_vae.decode(latents, return_dict=False)[0]
        waveform = self._pipeline.vocoder(spectrogram)[0].float().clamp(-1, 1)
        rate = int(self._pipeline.vocoder.config.output_sampling_rate)
        return waveform.transpose(0, 1).contiguous().cpu().numpy(), rate


def plan_tiles(latent_frames: int, tile: int, overlap: int, grid: int) -> list[Tile]:
    """Tiles of at most ``tile`` latent frames that cover a clip, neighbours sharing at least ``overlap`` (2 or more).

    All have the same length; the last one therefore begins earlier where the clip does not divide evenly.
    """
    starts = [0]
    while starts[-1] + tile < latent_frames:
        starts.append(min(starts[-1] + tile - overlap, latent_frames - tile))
    tiles = []
    for start, previous in zip(starts, [None, *starts], strict=False):
        shared = 0 if previous is None else previous + tile - start
        tiles.append(Tile(start, min(start + tile, latent_frames), (shared - 1) * grid if shared else 0))
    return tiles


def _blend(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Cross-fade ``[3, n, h, w]``; frame i of n weighs ``(i + 1) / (n + 1)`` of ``after``."""
    count = after.shape[1]
    weight = torch.arange(1, count + 1, device=after.device, dtype=after.dtype) / (count + 1)
    return torch.lerp(before, after, weight[None, :, None, None])


def _array(frames: torch.Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = frames.cpu().numpy()
    return pixels


def _stop_if(is_cancelled: IsCancelled) -> None:
    if is_cancelled():
        raise CancelledError
