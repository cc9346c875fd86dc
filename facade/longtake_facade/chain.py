"""The recipe of a chain: render every take side by side, fade, stitch, complete.

The store is the checkpoint. Before a stage is rendered it is looked up under its key, so whatever runs this recipe
again (a restart after a crash, a resume, a retake) renders only what is missing. What it tells its followers goes
through the event log, what it leaves through the store; nothing that matters is in memory alone.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Executable
from sqlalchemy.exc import SQLAlchemyError

from longtake import wire
from longtake.wire import ChainScript, ErrorCode, StageState
from longtake_facade.artifacts import EncodeError, VideoFormat, VideoSpec
from longtake_facade.backend import Backend, BackendError, BackendUnavailable, Pixels, Step
from longtake_facade.estimate import vram_estimate
from longtake_facade.events import EventLog
from longtake_facade.images import fit_image
from longtake_facade.plan import Plan
from longtake_facade.records import ChainRecord, Reference
from longtake_facade.registry import Registry, stage_begins, stage_ends
from longtake_facade.render import (
    artifacts_key,
    clip_job,
    clip_key,
    conditions,
    fade_key,
    load_tail,
    render_stage,
)
from longtake_facade.stitch import Delivery, StageWriter, assemble, encode_fade
from longtake_facade.storage import Store
from longtake_stages.contract import Capabilities

T = TypeVar("T")

# How soon a cancellation that another process was asked for is noticed.
_CANCEL_SECONDS = 1.0

# A stage whose models went away is begun again this often, after they came back.
_STAGE_TRIES = 3

# How long a chain waits before it tries a database again that failed it.
_DATABASE_SECONDS = 2.0

# Progress of the final file is told at most this often.
_ENCODING_SECONDS = 0.5

_log = structlog.get_logger()


class StageFailed(Exception):
    """A stage could not be rendered; the cause says why."""

    def __init__(self, index: int, cause: BackendError | EncodeError) -> None:
        super().__init__(str(cause))
        self.index = index
        self.code = cause.code


class Recipe:
    """Runs chains; knows which of them a user wants cancelled."""

    def __init__(self, backend: Backend, registry: Registry, log: EventLog, store: Store) -> None:
        self.backend = backend
        self.registry = registry
        self.log = log
        self.store = store
        self.slots = asyncio.Semaphore(backend.instances)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._stopping = asyncio.Event()

    async def run(self, chain_id: str) -> None:
        """Run a chain to its terminal event, from wherever an earlier attempt left it.

        A cancellation that :meth:`cancel` did not ask for means that the server stops: the chain stays as it is and
        goes on when a server starts again. While the database fails, the chain is begun again and again.
        """
        while True:
            try:
                return await self._run(chain_id)
            except SQLAlchemyError as error:
                _log.error("the database failed; the chain waits for it", chain_id=chain_id, error=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _DATABASE_SECONDS)
                raise asyncio.CancelledError

    async def _run(self, chain_id: str) -> None:
        chain = await self.registry.begin(chain_id)
        if chain is None:
            return
        try:
            await self._interruptible(chain)
        except asyncio.CancelledError:
            if chain_id not in self._cancelled:
                raise
            await self._fail(chain_id, ErrorCode.CANCELLED, "the chain was cancelled")
            self._cancelled.discard(chain_id)
        except StageFailed as failed:
            await self._fail(chain_id, ErrorCode(failed.code), f"stage {failed.index} failed: {failed}", failed)
        except EncodeError as error:
            await self._fail(chain_id, ErrorCode.ENCODE_FAILED, f"the video could not be made: {error}")
        except OSError as error:
            _log.exception("the store failed", chain_id=chain_id)
            await self._fail(chain_id, ErrorCode.ENCODE_FAILED, f"the store cannot be written: {error.strerror}")
        except SQLAlchemyError:
            raise
        except Exception:
            _log.exception("chain failed", chain_id=chain_id)
            await self._fail(chain_id, ErrorCode.INTERNAL, "the server failed; its log says why")

    async def _interruptible(self, chain: ChainRecord) -> None:
        """Run an attempt in a task that :meth:`cancel` can end; what follows it cannot be cancelled."""
        if chain.id in self._cancelled:
            # The database failed when it was to be told so.
            raise asyncio.CancelledError
        attempt = self._running[chain.id] = asyncio.create_task(_Attempt(self, chain).run())
        watch = asyncio.create_task(self._watch(chain.id))
        try:
            await attempt
        finally:
            watch.cancel()
            attempt.cancel()
            await asyncio.wait([attempt])
            del self._running[chain.id]

    async def cancel(self, chain_id: str) -> bool:
        """End a chain that has not ended; False if it had. The model is left at most the step it is in."""
        if chain_id in self._running:
            self._interrupt(chain_id)
            return True
        # Another process may run it; if none does, whoever goes on with it ends it.
        if await self.registry.request_cancel(chain_id):
            return True
        return await self._fail(chain_id, ErrorCode.CANCELLED, "the chain was cancelled")

    def _interrupt(self, chain_id: str) -> None:
        self._cancelled.add(chain_id)
        self._running[chain_id].cancel()

    async def _watch(self, chain_id: str) -> None:
        """End the chain when another process was asked to."""
        # Another process tells it through the database, so there is nothing but asking.
        while True:
            with suppress(SQLAlchemyError):  # the chain itself meets it too, and waits
                if await self.registry.cancel_requested(chain_id):
                    break
            await asyncio.sleep(_CANCEL_SECONDS)
        self._interrupt(chain_id)

    async def stop(self) -> None:
        """Interrupt what runs; it goes on when a server of this database starts again."""
        self._stopping.set()
        for task in self._running.values():
            task.cancel()
        if self._running:
            await asyncio.wait(self._running.values())

    async def _fail(self, chain_id: str, code: ErrorCode, message: str, stage: StageFailed | None = None) -> bool:
        chain = await self.registry.get(chain_id)
        assert chain is not None
        error = wire.ChainError(
            message=message,
            code=code,
            chain_id=chain_id,
            failed_stage_idx=stage.index if stage else None,
            elapsed_stages=chain.done,
            elapsed_ms=_elapsed_ms(chain),
            stage_error=str(stage) if stage else None,
            resumable=True,
        )
        _log.info("chain ended", chain_id=chain_id, code=code)
        return await self.registry.fail(chain_id, error)


class _Attempt:
    """One run through the recipe."""

    def __init__(self, recipe: Recipe, chain: ChainRecord) -> None:
        self._recipe = recipe
        self._store = recipe.store
        self._chain = chain
        self._script = chain.script
        self._spec = video_spec(chain.script)
        self._keys = stage_keys(self._script, chain.plan, self._spec, recipe.backend.capabilities)
        self._rendered = [asyncio.Event() for _ in chain.stages]
        self._device = chain.stages[0].device

    async def run(self) -> None:
        """The recipe."""
        plan = self._chain.plan
        needed = references(self._script, plan, self._recipe.backend.capabilities)
        await self._recipe.registry.refer(self._chain.id, needed)
        try:
            async with asyncio.TaskGroup() as tasks:
                for take in plan.takes:
                    tasks.create_task(self._take(take))
                for stage in plan.stages:
                    if stage.fade_in:
                        tasks.create_task(self._fade(stage.index))
        except ExceptionGroup as failures:
            # The first failure cancelled the other takes; what they finished is kept.
            raise failures.exceptions[0] from None
        await self._tell(wire.Stitching(total_frames=plan.total_frames))
        delivery = await self._stitch()
        await self._recipe.registry.complete(self._chain.id, await asyncio.to_thread(self._result, delivery))

    async def _take(self, take: tuple[int, ...]) -> None:
        for index in take:
            await self._stage(index)
            self._rendered[index].set()

    async def _stage(self, index: int) -> None:
        """Make sure that a stage is in the store, and say so once."""
        stage, record, key = self._chain.plan.stages[index], self._chain.stages[index], self._keys[index]
        device = record.device
        if not await asyncio.to_thread(self._store.has, self._store.stage(key)):
            async with self._recipe.slots:
                try:
                    device = await self._rendered_at_last(index)
                except (BackendError, EncodeError) as error:
                    raise StageFailed(index, error) from error
        if index == 0:
            self._device = device
        # The key is another one where a server with another checkpoint began the chain.
        if record.state is not StageState.DONE or record.key != key:
            done = wire.StageDone(stage_idx=index, frames_emitted=stage.frames)
            await self._tell(done, stage_ends(self._chain.id, index, key, device))
            if stage.body:
                url = f"/api/chains/{self._chain.id}/stages/{index}/video"
                await self._tell(wire.StageMedia(stage_idx=index, url=url))

    async def _rendered_at_last(self, index: int) -> int | None:
        """Render a stage, again if the models went away under it and came back."""
        first = self._chain.stages[index].attempt + 1
        for attempt in range(first, first + _STAGE_TRIES):
            try:
                return await self._render(index, attempt)
            except BackendUnavailable as error:
                _log.warning("the models went away", chain_id=self._chain.id, stage_idx=index, error=str(error))
                lost = error
            await self._recipe.backend.revive()
        raise lost

    async def _render(self, index: int, attempt: int) -> int | None:
        plan, script, store = self._chain.plan, self._script, self._store
        stage = plan.stages[index]

        async def started() -> None:
            begins = wire.StageStart(stage_idx=index, attempt=attempt)
            await self._tell(begins, stage_begins(self._chain.id, index, attempt))

        async def stepped(step: Step) -> None:
            await self._tell(wire.DenoiseStep(stage_idx=index, step=step.step, total=step.total))

        with store.writing() as folder:
            tail = await asyncio.to_thread(load_tail, store.stage(self._keys[index - 1])) if stage.smooth else None
            image = await asyncio.to_thread(self._image, index)
            job = clip_job(script, stage, self._spec, conditions(script, index, tail, image))
            writer = StageWriter(folder, stage, self._spec)
            device = await render_stage(self._recipe.backend, job, writer, started=started, stepped=stepped)
            await _to_the_end(partial(store.commit, folder, store.stage(self._keys[index])))
        return device

    def _image(self, index: int) -> Pixels | None:
        digest = self._script.stage[index].source_image
        if digest is None:
            return None
        return fit_image(self._store.image(digest.hex()), self._spec.width, self._spec.height)

    async def _fade(self, index: int) -> None:
        """Encode the fade into a stage as soon as both of its sides are there."""
        for side in (index - 1, index):
            await self._rendered[side].wait()
        target = self._fade_folder(index)
        if await asyncio.to_thread(self._store.has, target):
            return
        before, after = (self._store.stage(self._keys[side]) for side in (index - 1, index))
        with self._store.writing() as folder:
            await _to_the_end(partial(encode_fade, before, after, folder, self._chain.plan, index, self._spec))
            await _to_the_end(partial(self._store.commit, folder, target))

    def _fade_folder(self, index: int) -> Path:
        return self._store.fade(fade_key(self._keys[index - 1], self._keys[index]))

    async def _stitch(self) -> Delivery:
        """Put the pieces together; the file is in the store when this returns."""
        plan, target = self._chain.plan, self._store.chain(self._chain.id)
        folders = [self._store.stage(key) for key in self._keys]
        fades = {stage.index: self._fade_folder(stage.index) for stage in plan.stages if stage.fade_in}
        audio = bool(self._script.chain.enable_audio)
        with self._store.writing() as folder:
            progress = _Progress(self._tell)
            work = partial(assemble, plan, folders, fades, self._spec, audio=audio, out=folder, progress=progress)
            delivery = await _to_the_end(work, stop=progress.stop)
            await _to_the_end(partial(self._store.commit, folder, target))
        return delivery

    def _result(self, delivery: Delivery) -> wire.Complete:
        """What the ``complete`` event says, without the bytes that are filled in when it is sent."""
        chain, name = self._chain, f"video.{self._spec.format}"
        fact = self._store.manifest(self._store.chain(chain.id))[name]
        return wire.Complete(
            video=b"",
            format=self._spec.format,
            width=delivery.width,
            height=delivery.height,
            frames=delivery.frames,
            fps=delivery.fps,
            stage_count=len(chain.stages),
            script=chain.script,
            has_audio=delivery.has_audio,
            duration_ms=delivery.frames * 1000 // delivery.fps,
            audio_sample_rate=delivery.audio_sample_rate or None,
            audio_channels=delivery.audio_channels or None,
            gpu=self._device,
            generation_time_ms=_elapsed_ms(chain),
            vram_estimate=vram_estimate(chain.script, self._recipe.backend.capabilities),
            chain_id=chain.id,
            content_url=f"/api/chains/{chain.id}/video",
            sha256=fact.sha256,
            seed_drawn=chain.seed_drawn,
            joins=delivery.joins,
        )

    async def _tell(self, event: wire.ProgressEvent, *changes: Executable) -> None:
        await self._recipe.log.progress(self._chain.id, event, *changes)


class _Progress:
    """Called from the encoding thread: tells now and then how far it is, and ends it when nobody wants the file."""

    def __init__(self, tell: Callable[[wire.ProgressEvent], Coroutine[Any, Any, None]]) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._told = time.monotonic()
        self._stopped = threading.Event()

    def __call__(self, done: int, total: int) -> None:
        if self._stopped.is_set():
            raise EncodeError("the chain was stopped")
        if time.monotonic() - self._told >= _ENCODING_SECONDS:
            event = wire.Encoding(frames=done, total=total)
            # Waited for, so that the events of the log are in the order of the work.
            asyncio.run_coroutine_threadsafe(self._tell(event), self._loop).result()
            self._told = time.monotonic()

    def stop(self) -> None:
        """Make the next call end the work."""
        self._stopped.set()


async def _to_the_end(work: Callable[[], T], stop: Callable[[], None] = lambda: None) -> T:
    """Run ``work`` in a thread. A cancellation calls ``stop`` and waits: the folders it writes in are removed after."""
    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()
        raise


def stage_keys(script: ChainScript, plan: Plan, spec: VideoSpec, served: Capabilities) -> list[str]:
    """The key of every stage's artifacts, in order."""
    keys: list[str] = []
    clip: str | None = None
    for stage in plan.stages:
        clip = clip_key(script, stage.index, served, clip if stage.smooth else None)
        keys.append(artifacts_key(clip, stage, spec, audio=bool(script.chain.enable_audio)))
    return keys


def references(script: ChainScript, plan: Plan, served: Capabilities) -> frozenset[Reference]:
    """All that a chain needs of the store, known before anything is rendered."""
    keys = stage_keys(script, plan, video_spec(script), served)
    images = {Reference("image", stage.source_image.hex()) for stage in script.stage if stage.source_image}
    fades = {Reference("fade", fade_key(keys[s.index - 1], keys[s.index])) for s in plan.stages if s.fade_in}
    return frozenset({*images, *fades, *(Reference("stage", key) for key in keys)})


def video_spec(script: ChainScript) -> VideoSpec:
    """What all pieces of a script's video have in common."""
    chain = script.chain
    return VideoSpec(chain.width, chain.height, chain.fps, msgspec.convert(chain.output_format, VideoFormat))


def _elapsed_ms(chain: ChainRecord) -> int:
    return int((time.time() - (chain.started_at or chain.created_at)) * 1000)
