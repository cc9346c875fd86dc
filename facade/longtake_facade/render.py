"""One stage: from its script, its conditions and the tail before it to the artifacts of its clip."""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from longtake.wire import ChainScript
from longtake_facade.artifacts import TAIL, VideoSpec
from longtake_facade.backend import Backend, ClipEnd, ClipJob, Condition, Latents, ModelFailed, Pixels, Step
from longtake_facade.normalise import stage_seed
from longtake_facade.plan import StagePlan
from longtake_facade.stitch import StageWriter
from longtake_stages.contract import Capabilities

# Part of every key: to be raised when the same inputs come to give another clip or other artifacts.
_ARTIFACTS_VERSION: Final = 1

# A soft anchor draws a smooth stage towards an image without breaking the motion it continues (the original's value).
_ANCHOR_STRENGTH: Final = 0.4


def clip_key(script: ChainScript, index: int, served: Capabilities, before: str | None) -> str:
    """A hash (hex) of all that determines a stage's clip. ``before``: the key of the clip whose tail it continues."""
    chain, stage = script.chain, script.stage[index]
    image = stage.source_image
    return _digest(
        _ARTIFACTS_VERSION,
        served.checkpoint_digest,
        stage.prompt,
        stage.negative_prompt or "",
        stage_seed(chain.seed or 0, stage),
        (chain.width, chain.height, stage.frames, chain.fps, chain.steps, chain.guidance),
        None if image is None else (image.hex(), _image_place(script, index)),
        None if before is None else (before, chain.motion_tail_frames),
    )


def artifacts_key(clip: str, stage: StagePlan, spec: VideoSpec, *, audio: bool) -> str:
    """A hash (hex) of all that determines what is kept of a clip."""
    parts = (stage.drop, stage.fade_in, stage.fade_out, stage.trim, stage.tail)
    return _digest(clip, parts, spec.format, audio)


def fade_key(before: str, after: str) -> str:
    """A hash (hex) of the artifacts on both sides of a fade."""
    return _digest("fade", before, after)


def conditions(script: ChainScript, index: int, tail: Pixels | None, image: Pixels | None) -> tuple[Condition, ...]:
    """What a stage is conditioned on: the tail before it at frame 0, an image where its transition puts it."""
    found = [] if tail is None else [Condition(0, tail, 1.0)]
    if image is not None:
        frame, strength = _image_place(script, index)
        found.append(Condition(frame, image, strength))
    return tuple(found)


def _image_place(script: ChainScript, index: int) -> tuple[int, float]:
    """Frame and strength of a stage's image: a frame 0 of its own, or a soft anchor after what it continues."""
    if index == 0:
        return 0, script.chain.strength
    if script.stage[index].transition == "smooth":
        return script.chain.motion_tail_frames, _ANCHOR_STRENGTH
    return 0, 1.0


def clip_job(script: ChainScript, stage: StagePlan, spec: VideoSpec, found: tuple[Condition, ...]) -> ClipJob:
    """The request for one stage's clip."""
    chain, entry = script.chain, script.stage[stage.index]
    return ClipJob(
        prompt=entry.prompt,
        negative_prompt=entry.negative_prompt or "",
        width=chain.width,
        height=chain.height,
        frames=stage.frames,
        fps=chain.fps,
        seed=stage_seed(chain.seed or 0, entry),
        steps=chain.steps,
        guidance=chain.guidance,
        pixel_format=spec.pixel_format,
        tail_frames=stage.tail,
        audio=bool(chain.enable_audio),
        conditions=found,
    )


def load_tail(folder: Path) -> Pixels:
    """The tail of a stage that was rendered: uint8 RGB ``[K, height, width, 3]``."""
    tail: Pixels = np.load(folder / TAIL, allow_pickle=False)
    return tail


async def render_stage(
    backend: Backend,
    job: ClipJob,
    writer: StageWriter,
    *,
    started: Callable[[], Awaitable[None]],
    stepped: Callable[[Step], Awaitable[None]],
) -> int | None:
    """Render a clip into ``writer``; returns the GPU ordinal that denoised it, None on the CPU.

    Cancelled, it leaves the model at most the step it is in. ``writer`` is closed in any case.

    Raises:
        BackendError: a model failed.
        EncodeError: the frames could not be encoded.
    """
    try:
        context = await backend.encode_prompt(job.prompt, job.negative_prompt)
        await started()
        latents = await _denoise(backend, job, context, stepped)
        await writer.finish(await _decode(backend, job, latents.data, writer))
    finally:
        await writer.abort()
    return latents.device


async def _denoise(
    backend: Backend, job: ClipJob, context: bytes, stepped: Callable[[Step], Awaitable[None]]
) -> Latents:
    async with aclosing(backend.denoise(job, context)) as responses:
        async for response in responses:
            if isinstance(response, Latents):
                return response
            await stepped(response)
    raise ModelFailed("the denoiser ended without latents")


async def _decode(backend: Backend, job: ClipJob, latents: bytes, writer: StageWriter) -> ClipEnd:
    async with aclosing(backend.decode(job, latents)) as responses:
        async for response in responses:
            if isinstance(response, ClipEnd):
                return response
            await writer.push(response.frames)
    raise ModelFailed("the decoder ended without the clip's end")


def _digest(*parts: object) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
