"""The backend in memory: the protocol of the real one, its clips a pure function of the job."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest

from longtake_facade.backend import Backend, Chunk, ClipEnd, ClipJob, Condition, Latents, ModelFailed, Pixels, Step
from longtake_facade.memory import MemoryBackend, clip_frames
from served import TINY

JOB = ClipJob("p", "", 64, 32, 17, 24, seed=1, steps=3, guidance=1.0, pixel_format="rgb24", tail_frames=9, audio=True)


async def render(backend: Backend, job: ClipJob) -> tuple[bytes, Pixels, ClipEnd]:
    """Latents, frames and end of a clip."""
    context = await backend.encode_prompt(job.prompt, job.negative_prompt)
    responses = [response async for response in backend.denoise(job, context)]
    assert responses[:-1] == [Step(i + 1, job.steps) for i in range(job.steps)]
    latents = responses[-1]
    assert isinstance(latents, Latents)
    *chunks, end = [response async for response in backend.decode(job, latents.data)]
    assert isinstance(end, ClipEnd)
    return latents.data, np.concatenate([one.frames for one in chunks if isinstance(one, Chunk)]), end


async def test_a_clip_has_the_shapes_of_the_contract() -> None:
    """Frames, tail and sound, in both pixel formats."""
    backend = MemoryBackend(TINY)
    latents, frames, end = await render(backend, JOB)
    assert frames.shape == (17, 32, 64, 3)
    np.testing.assert_array_equal(frames, clip_frames(JOB, latents))
    np.testing.assert_array_equal(end.tail, frames[-9:])
    assert end.waveform is not None
    assert (end.waveform.shape, end.waveform.dtype, end.sample_rate) == ((11333, 2), np.float32, 16000)
    assert np.abs(end.waveform).max() <= 1
    _, planes, end = await render(backend, replace(JOB, pixel_format="yuv420p", tail_frames=0, audio=False))
    assert planes.shape == (17, 48, 64, 1)
    assert (len(end.tail), end.waveform, end.sample_rate) == (0, None, 0)


async def test_the_same_job_gives_the_same_clip_and_another_seed_or_prompt_another() -> None:
    """Wherever and whenever it runs."""
    first = (await render(MemoryBackend(TINY), JOB))[1]
    np.testing.assert_array_equal(first, (await render(MemoryBackend(TINY), JOB))[1])
    for other in (replace(JOB, seed=2), replace(JOB, prompt="q"), replace(JOB, negative_prompt="n")):
        assert (first != (await render(MemoryBackend(TINY), other))[1]).any()


async def test_a_clip_contains_its_conditions() -> None:
    """At full strength, where they are placed."""
    tail: Pixels = np.full((9, 32, 64, 3), 7, np.uint8)
    soft: Pixels = np.full((1, 32, 64, 3), 9, np.uint8)
    job = replace(JOB, conditions=(Condition(0, tail, 1.0), Condition(9, soft, 0.4)))
    frames = (await render(MemoryBackend(TINY), job))[1]
    np.testing.assert_array_equal(frames[:9], tail)
    assert (frames[9] != soft[0]).any()


async def test_it_counts_what_it_was_asked() -> None:
    """As the metrics of a real server do; a failure is no render."""
    backend = MemoryBackend(TINY, instances=2)
    await asyncio.gather(render(backend, JOB), render(backend, JOB))
    assert (backend.calls, backend.steps, backend.renders, backend.most) == (6, 6, 2, 2)
    assert backend.jobs == [JOB, JOB]
    backend.failures["p"] = ModelFailed("broke")
    with pytest.raises(ModelFailed, match="broke"):
        await render(backend, JOB)
    assert (backend.steps, backend.renders) == (9, 2)


async def test_a_denoising_that_is_closed_does_no_further_step() -> None:
    """It ends within the step it is in."""
    backend = MemoryBackend(TINY)
    async with aclosing(backend.denoise(JOB, b"")) as responses:
        assert await anext(responses) == Step(1, 3)
    await asyncio.sleep(0)
    assert (backend.steps, backend.renders) == (1, 0)
