"""Readiness: what the models are known to do, from canaries when idle and from real work when there is some."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import pytest

from longtake_facade import readiness as module
from longtake_facade.backend import (
    BackendError,
    BackendUnavailable,
    Chunk,
    ClipEnd,
    ClipJob,
    Latents,
    ModelFailed,
    Step,
)
from longtake_facade.memory import MemoryBackend
from longtake_facade.readiness import ObservedBackend, Readiness
from served import TINY

JOB = ClipJob("p", "", 64, 64, 17, 24, seed=1, steps=2, guidance=1.0, pixel_format="rgb24")


class Models(MemoryBackend):
    """In memory; counts canaries, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__(TINY)
        self.canaries = 0
        self.broken: BackendError | None = None
        self.broken_decoder: BackendError | None = None

    async def canary(self) -> None:
        self.canaries += 1
        if self.broken is not None:
            raise self.broken

    async def revive(self) -> None:
        await super().revive()
        if self.broken is not None:
            raise self.broken

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        if self.broken is not None:
            raise self.broken
        return await super().encode_prompt(prompt, negative_prompt)

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        if self.broken_decoder is not None:
            raise self.broken_decoder
        async for response in super().decode(job, latents):
            yield response


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def models() -> Models:
    return Models()


@asynccontextmanager
async def watching(readiness: Readiness) -> AsyncIterator[None]:
    watch = asyncio.create_task(readiness.watch())
    yield
    assert not watch.done()
    watch.cancel()
    with suppress(asyncio.CancelledError):
        await watch


async def render(backend: ObservedBackend) -> list[Step | Latents | Chunk | ClipEnd]:
    """One clip; every response of the denoiser and the decoder."""
    context = await backend.encode_prompt(JOB.prompt, JOB.negative_prompt)
    denoised = [response async for response in backend.denoise(JOB, context)]
    assert isinstance(denoised[-1], Latents)
    return [*denoised, *[response async for response in backend.decode(JOB, denoised[-1].data)]]


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


async def test_it_is_red_until_a_canary_came_back(models: Models) -> None:
    """Whoever asks sends none."""
    readiness = Readiness(models)
    assert not readiness.ready
    assert models.canaries == 0
    await readiness.probe()
    assert readiness.ready
    assert all(readiness.ready for _ in range(100))
    assert models.canaries == 1


async def test_it_is_red_after_two_failures_in_a_row_and_green_after_a_success(models: Models) -> None:
    """One failure changes nothing, a success between two neither; the failure itself is passed on."""
    readiness = Readiness(models)
    await readiness.probe()
    seen = []
    for broken in (True, False, True, True, True, False):
        models.broken = ModelFailed("broken") if broken else None
        with suppress(ModelFailed):
            await readiness.probe()
        seen.append(readiness.ready)
    assert seen == [True, True, True, False, False, True]
    models.broken = ModelFailed("broken")
    with pytest.raises(ModelFailed, match="broken"):
        await readiness.probe()


async def test_idle_models_are_sent_a_canary(models: Models) -> None:
    """Again and again; failures are waited out and found to be over."""
    readiness = Readiness(models, idle_seconds=0.01, retry_seconds=0.005)
    await readiness.probe()
    async with watching(readiness):
        await until(lambda: models.canaries >= 3)
        models.broken = BackendUnavailable("gone")
        await until(lambda: not readiness.ready)
        models.broken = None
        await until(lambda: readiness.ready)


async def test_models_that_are_gone_are_helped_to_come_back(models: Models) -> None:
    """When it has turned red, not before; what came back is green without another canary."""
    readiness = Readiness(models, idle_seconds=3600, retry_seconds=0.005)
    await readiness.probe()
    async with watching(readiness):
        models.broken = BackendUnavailable("gone")
        readiness.failed()
        await until(lambda: models.revived == 1)
        assert not readiness.ready
        models.broken = None
        await until(lambda: readiness.ready)


async def test_a_failure_is_looked_into_long_before_the_models_count_as_idle(models: Models) -> None:
    """The watch does not sleep through it."""
    readiness = Readiness(models, idle_seconds=3600, retry_seconds=0.01)
    await readiness.probe()
    async with watching(readiness):
        await asyncio.sleep(0.02)
        assert models.canaries == 1
        readiness.failed()
        await until(lambda: models.canaries == 2)
        assert readiness.ready


async def test_no_canary_is_sent_while_real_work_is_recent(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every response counts, so that a canary does not queue behind a long clip; afterwards one is sent."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    readiness = Readiness(models, idle_seconds=60, retry_seconds=0.001)
    await readiness.probe()
    observed = ObservedBackend(models, readiness)
    async with watching(readiness):
        for _ in range(10):
            clock.now += 40
            await asyncio.sleep(0.005)
            await render(observed)
        assert models.canaries == 1
        clock.now += 61
        await until(lambda: models.canaries == 2)


async def test_real_work_turns_it_green_and_failing_work_red(models: Models) -> None:
    """Only a model that does not answer counts; one that refuses its input answered."""
    readiness = Readiness(models)
    observed = ObservedBackend(models, readiness)
    await render(observed)
    assert readiness.ready
    models.failures[JOB.prompt] = ModelFailed("refused")
    for _ in range(3):
        with pytest.raises(ModelFailed):
            await render(observed)
    assert readiness.ready
    models.failures[JOB.prompt] = BackendUnavailable("gone")
    for expected in (True, False):
        with pytest.raises(BackendUnavailable):
            await render(observed)
        assert readiness.ready is expected


async def test_a_dead_decoder_is_noticed_although_the_denoiser_goes_on(models: Models) -> None:
    """Steps alone prove nothing of the other models."""
    readiness = Readiness(models)
    await readiness.probe()
    models.broken_decoder = BackendUnavailable("gone")
    for _ in range(2):
        with pytest.raises(BackendUnavailable):
            await render(ObservedBackend(models, readiness))
    assert not readiness.ready


async def test_an_observed_backend_answers_as_the_one_it_stands_for(models: Models) -> None:
    """The same responses; closed early, it closes the denoiser's iterator too."""
    observed = ObservedBackend(models, Readiness(models))
    assert (observed.capabilities, observed.instances) == (models.capabilities, models.instances)
    kinds = [type(response) for response in await render(observed)]
    assert kinds == [Step, Step, Latents, Chunk, Chunk, Chunk, ClipEnd]
    async with aclosing(observed.denoise(JOB, b"")) as responses:
        await anext(responses)
        assert models._denoising == 1
    assert models._denoising == 0
    await observed.canary()
    assert models.canaries == 1
    await observed.close()
