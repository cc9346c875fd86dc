"""What the server does with chains, without HTTP: accept, look up, cancel, describe, hand out."""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import structlog
from msgspec import structs

from longtake import wire
from longtake.wire import IGNORED_REQUEST_KEYS, ChainRequest, ChainState, Problem
from longtake_facade.artifacts import STAGE_VIDEO
from longtake_facade.backend import Backend
from longtake_facade.chain import Recipe, references
from longtake_facade.estimate import vram_estimate
from longtake_facade.events import EventLog
from longtake_facade.normalise import (
    FADE_FRAMES_MAX,
    FPS_DEFAULT,
    MAX_STAGES,
    Normalised,
    UnknownModel,
    normalise,
)
from longtake_facade.parse import Invalid, parse
from longtake_facade.queue import ChainQueue
from longtake_facade.records import ChainRecord, Draft, Reference
from longtake_facade.registry import ChainNotFound, Registry, WrongState, with_digests, with_images
from longtake_facade.storage import Store

# A drawn seed survives JavaScript's numbers.
_SEED_BOUND = 2**53

_log = structlog.get_logger()


class NotThere(Exception):
    """The chain has no such file (yet)."""


@dataclass(frozen=True)
class Service:
    """Everything a server consists of, put together by ``app``."""

    backend: Backend
    registry: Registry
    log: EventLog
    store: Store
    recipe: Recipe
    queue: ChainQueue
    draw_seed: Callable[[], int] = lambda: secrets.randbelow(_SEED_BOUND)

    # ------------------------------------------------------------------------------------------------ new chains

    async def submit(self, body: bytes, idempotency_key: str | None) -> ChainRecord:
        """Create a chain from a request's body and enqueue it; or find the one of the same idempotency key.

        Raises:
            MalformedJson, Invalid, UnknownModel: the request is refused; nothing was asked of the backend.
            IdempotencyConflict: the key came with another body before.
            QueueFull: too many chains wait.
        """
        normalised, warnings = await asyncio.to_thread(self._normalised, body)
        draft = await asyncio.to_thread(self._draft, normalised, warnings, body, idempotency_key)
        return await self._enqueued(await self.registry.create(draft))

    async def retake(self, chain_id: str, body: bytes, idempotency_key: str | None) -> ChainRecord:
        """Create a chain that renders one stage of an ended one anew, and the smooth ones after it.

        Raises:
            MalformedJson, Invalid: the body is refused; ``stage_idx`` must be one of the chain's.
            ChainNotFound, IdempotencyConflict, QueueFull: as they say.
            WrongState: the chain has not ended.
        """
        record = await self.chain(chain_id)
        if not record.state.ended:
            raise WrongState(f"the chain is {record.state}; it can be retaken when it has ended")
        retake, _ = parse(body, wire.Retake)
        script = await asyncio.to_thread(with_images, record.script, self.store)
        request = retaken(script, retake, self.draw_seed)
        normalised = await asyncio.to_thread(normalise, request, self.backend.capabilities, self.draw_seed)
        marked = chain_id.encode() + body
        draft = await asyncio.to_thread(self._draft, normalised, [], marked, idempotency_key, chain_id)
        return await self._enqueued(await self.registry.create(draft))

    def _draft(
        self,
        normalised: Normalised,
        warnings: list[Problem],
        body: bytes,
        idempotency_key: str | None,
        retake_of: str | None = None,
    ) -> Draft:
        """A chain to be created; its images are kept from here on. Blocks."""
        script = with_digests(normalised.script, self.store)
        return Draft(
            id=secrets.token_hex(16),
            script=script,
            seed_drawn=normalised.seed_drawn,
            warnings=tuple(warnings),
            references=references(script, normalised.plan, self.backend.capabilities),
            body_sha256=hashlib.sha256(body).hexdigest(),
            idempotency_key=idempotency_key,
            retake_of=retake_of,
        )

    async def _enqueued(self, record: ChainRecord) -> ChainRecord:
        # Also a chain that was found: whoever created it may have been killed before it was enqueued.
        await self.queue.submit(record.id, record.attempt)
        _log.info("chain accepted", chain_id=record.id, stages=len(record.stages), frames=record.plan.total_frames)
        return record

    def _normalised(self, body: bytes) -> tuple[Normalised, list[Problem]]:
        request, ignored = parse(body, ChainRequest, ignored=IGNORED_REQUEST_KEYS)
        normalised = normalise(request, self.backend.capabilities, self.draw_seed)
        return normalised, [*ignored, *normalised.warnings]

    async def validate(self, body: bytes) -> wire.ValidationReport:
        """What a request would run; raises as :meth:`submit` does."""
        normalised, warnings = await asyncio.to_thread(self._normalised, body)
        plan, script = normalised.plan, normalised.script
        return wire.ValidationReport(
            script=script,
            takes=[list(take) for take in plan.takes],
            stages=[
                wire.PlannedStage(
                    stage_idx=stage.index,
                    frames=stage.frames,
                    start_frame=stage.start,
                    output_frames=stage.output_frames,
                )
                for stage in plan.stages
            ],
            total_frames=plan.total_frames,
            seconds=plan.total_frames / script.chain.fps,
            warnings=warnings,
            seed_drawn=normalised.seed_drawn,
            vram_estimate=vram_estimate(script, self.backend.capabilities),
        )

    # ------------------------------------------------------------------------------------------- existing chains

    async def chain(self, chain_id: str) -> ChainRecord:
        """A chain as it stands.

        Raises:
            ChainNotFound: there is none.
        """
        record = await self.registry.get(chain_id)
        if record is None:
            raise ChainNotFound(f"no chain has the id {chain_id}")
        return record

    async def cancel(self, chain_id: str) -> ChainRecord:
        """Cancel a chain that has not ended.

        Raises:
            ChainNotFound: there is none.
            WrongState: it has ended.
        """
        record = await self.chain(chain_id)
        if record.state.ended or not await self.recipe.cancel(chain_id):
            raise WrongState(f"the chain has ended ({(await self.chain(chain_id)).state}) and cannot be cancelled")
        return await self.chain(chain_id)

    async def resume(self, chain_id: str) -> ChainRecord:
        """Run a chain again that failed or was cancelled; only what is missing is rendered.

        Raises:
            ChainNotFound, QueueFull: as they say.
            WrongState: it has not ended so.
        """
        return await self._enqueued(await self.registry.resume(chain_id))

    async def delete(self, chain_id: str) -> None:
        """Remove an ended chain, and what of the store no other chain needs.

        Raises:
            ChainNotFound: there is none.
            WrongState: it has not ended.
        """

        def remove(unneeded: Iterable[Reference]) -> None:
            places = {"image": self.store.image_file, "stage": self.store.stage, "fade": self.store.fade}
            self.store.remove([self.store.chain(chain_id), *(places[kind](key) for kind, key in unneeded)])

        await self.registry.delete(chain_id, remove)
        _log.info("chain removed", chain_id=chain_id)

    async def tidy(self) -> None:
        """Remove what has expired."""
        for chain_id in await self.registry.expired():
            # Someone else may have removed or resumed it meanwhile.
            with suppress(ChainNotFound, WrongState):
                await self.delete(chain_id)

    async def recover(self) -> None:
        """Enqueue what a killed process left between two writes; what the queue itself recovers is left to it."""
        for record in await self.registry.unfinished():
            if await self.queue.lost(record.id, record.attempt):
                await self.queue.submit(record.id, await self.registry.next_attempt(record.id))
            else:
                await self.queue.submit(record.id, record.attempt)

    async def page(self, limit: int, cursor: str | None, state: ChainState | None) -> wire.ChainList:
        """Chains, newest first.

        Raises:
            Invalid: the cursor is none of ours.
        """
        found = await self.registry.newest(limit + 1, state, None if cursor is None else _cursor_place(cursor))
        more = len(found) > limit
        return wire.ChainList(
            chains=[_summary(record) for record in found[:limit]],
            next_cursor=_cursor(found[limit - 1]) if more else None,
        )

    async def detail(self, record: ChainRecord) -> wire.ChainDetail:
        """A chain as the API shows it."""
        base = f"/api/chains/{record.id}"
        stages = [
            wire.StageDetail(
                stage_idx=row.stage_idx,
                state=row.state,
                attempt=row.attempt,
                frames=stage.frames,
                output_frames=stage.output_frames,
                video_url=f"{base}/stages/{row.stage_idx}/video" if row.key and stage.body else None,
            )
            for row, stage in zip(record.stages, record.plan.stages, strict=True)
        ]
        return wire.ChainDetail(
            id=record.id,
            state=record.state,
            created_at=_rfc3339(record.created_at),
            started_at=_rfc3339(record.started_at) if record.started_at else None,
            finished_at=_rfc3339(record.finished_at) if record.finished_at else None,
            stages=stages,
            script=await asyncio.to_thread(with_images, record.script, self.store),
            total_frames=record.plan.total_frames,
            events_url=f"{base}/events",
            content_url=f"{base}/video",
            cancel_url=f"{base}/cancel",
            attempt=record.attempt,
            expires_at=_rfc3339(record.expires_at) if record.expires_at else None,
            retake_of=record.retake_of,
            error=record.error,
        )

    def video(self, record: ChainRecord) -> Path:
        """The finished video.

        Raises:
            NotThere: the chain is not completed.
        """
        return self._result(record, f"video.{record.script.chain.output_format}")

    def thumbnail(self, record: ChainRecord) -> Path:
        """The PNG of the first frame; raises as :meth:`video` does."""
        return self._result(record, "thumbnail.png")

    def preview(self, record: ChainRecord) -> Path:
        """The animated GIF; raises as :meth:`video` does."""
        return self._result(record, "preview.gif")

    def _result(self, record: ChainRecord, name: str) -> Path:
        path = self.store.chain(record.id) / name
        if record.complete is None or not path.is_file():
            raise NotThere(f"the chain has no {name}; it is {record.state}")
        return path

    def stage_video(self, record: ChainRecord, index: int) -> Path:
        """A stage's own part of the timeline.

        Raises:
            NotThere: no such stage, not rendered yet, or all its frames are in fades.
        """
        if not 0 <= index < len(record.stages):
            raise NotThere(
                f"the chain has {len(record.stages)} stages, 0..{len(record.stages) - 1}; there is no {index}"
            )
        key = record.stages[index].key
        if key is None:
            raise NotThere(f"stage {index} is not rendered yet")
        path = self.store.stage(key) / STAGE_VIDEO
        if not path.is_file():
            raise NotThere(f"stage {index} has no part of its own: all its frames are in fades")
        return path

    # ---------------------------------------------------------------------------------------------- the gallery

    def gallery_item(self, record: ChainRecord) -> wire.GalleryItem:
        """A completed chain as the gallery shows it."""
        complete = record.complete
        assert complete is not None, "the gallery shows completed chains"
        settings = record.script.chain
        metadata = wire.GalleryMetadata(
            prompt=record.script.stage[0].prompt,
            model=settings.model,
            seed=settings.seed or 0,
            steps=settings.steps,
            guidance=settings.guidance,
            width=complete.width,
            height=complete.height,
            frames=complete.frames,
            fps=complete.fps,
            version=version("longtake"),
            chain=record.id,
        )
        return wire.GalleryItem(
            filename=f"{record.id}.{complete.format}",
            metadata=metadata,
            timestamp=int(record.finished_at or record.created_at),
            format=complete.format,
            size_bytes=self.video(record).stat().st_size,
        )

    async def gallery_chain(self, filename: str) -> ChainRecord:
        """The completed chain of a gallery name, ``<id>.<format>``.

        Raises:
            NotThere: there is none of this name.
        """
        chain_id, _, suffix = filename.partition(".")
        record = await self.registry.get(chain_id)
        if record is None or record.complete is None or record.complete.format != suffix:
            raise NotThere(f"the gallery has no {filename}")
        return record

    # ----------------------------------------------------------------------------------------------- the server

    def limits(self, model: str | None) -> wire.ChainLimits:
        """What is enforced.

        Raises:
            UnknownModel: the model is not served.
        """
        served = self.backend.capabilities
        if model not in (None, served.model):
            raise UnknownModel(f"model `{model}` is not served here; served: `{served.model}`")
        return wire.ChainLimits(
            model=served.model,
            frames_per_clip_cap=served.frames_cap,
            frames_per_clip_recommended=served.frames_recommended,
            max_stages=MAX_STAGES,
            max_total_frames=MAX_STAGES * served.frames_cap,
            fade_frames_max=FADE_FRAMES_MAX,
            transition_modes=list(wire.Transition),
            quantization_family=served.quantization,
            frame_grid=served.frame_grid,
            size_multiple=served.size_multiple,
            max_pixels=served.max_pixels,
            width=served.width,
            height=served.height,
            motion_tail_frames=served.motion_tail_frames,
            fps=FPS_DEFAULT,
            steps=served.steps,
            guidance=served.guidance,
            supports_audio=bool(served.audio_sample_rate),
        )

    def models(self) -> list[wire.ModelInfo]:
        """The served model; it is loaded, or there would be no server."""
        served = self.backend.capabilities
        return [
            wire.ModelInfo(
                name=served.model,
                family=served.family,
                downloaded=True,
                is_loaded=True,
                description=served.description,
                default_width=served.width,
                default_height=served.height,
                default_steps=served.steps,
                default_guidance=served.guidance,
                size_gb=served.size_bytes / 1e9,
            )
        ]


def retaken(script: wire.ChainScript, retake: wire.Retake, draw_seed: Callable[[], int]) -> ChainRequest:
    """The request that renders a stage of ``script`` anew.

    Raises:
        Invalid: there is no such stage.
    """
    index = retake.stage_idx
    if index >= len(script.stage):
        message = f"stage_idx ({index}) must be 0..{len(script.stage) - 1}"
        raise Invalid([Problem(path="stage_idx", message=message)])
    offset = retake.seed_offset
    if offset is None and retake.prompt is None:
        offset = draw_seed()
    stage = script.stage[index]
    request = script.request()
    request.stages[index] = structs.replace(
        request.stages[index],
        prompt=stage.prompt if retake.prompt is None else retake.prompt,
        seed_offset=stage.seed_offset if offset is None else offset,
    )
    return request


def _summary(record: ChainRecord) -> wire.ChainSummary:
    base, whole = f"/api/chains/{record.id}", record.complete is not None
    return wire.ChainSummary(
        id=record.id,
        state=record.state,
        created_at=_rfc3339(record.created_at),
        prompt=record.script.stage[0].prompt,
        stage_count=len(record.stages),
        stages_done=record.done,
        total_frames=record.plan.total_frames,
        output_format=record.script.chain.output_format,
        events_url=f"{base}/events",
        started_at=_rfc3339(record.started_at) if record.started_at else None,
        finished_at=_rfc3339(record.finished_at) if record.finished_at else None,
        expires_at=_rfc3339(record.expires_at) if record.expires_at else None,
        error=record.error,
        content_url=f"{base}/video" if whole else None,
        thumbnail_url=f"{base}/thumbnail" if whole else None,
        preview_url=f"{base}/preview" if whole else None,
        retake_of=record.retake_of,
    )


def _cursor(record: ChainRecord) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((record.created_at, record.id))).decode()


def _cursor_place(cursor: str) -> tuple[float, str]:
    try:
        place: tuple[float, str] = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except (ValueError, msgspec.DecodeError) as error:
        raise Invalid([Problem(path="cursor", message="cursor must be the next_cursor of a page")]) from error
    return place


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
