"""What the server does with chains, without HTTP: accept, look up, cancel, describe, hand out."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import structlog

from longtake import wire
from longtake.wire import IGNORED_REQUEST_KEYS, ChainRequest, Problem
from longtake_facade.artifacts import STAGE_VIDEO
from longtake_facade.backend import Backend
from longtake_facade.chain import Recipe
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
from longtake_facade.parse import parse
from longtake_facade.queue import ChainQueue
from longtake_facade.registry import ChainRecord, Registry, with_digests, with_images
from longtake_facade.storage import Store

# A drawn seed survives JavaScript's numbers.
_SEED_BOUND = 2**53

_log = structlog.get_logger()


class ChainNotFound(Exception):
    """No chain has this id."""


class WrongState(Exception):
    """The chain is not in a state in which this can be done."""


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
        """
        normalised, warnings = await asyncio.to_thread(self._accepted, body)
        record = await self.registry.create(
            secrets.token_hex(16), normalised, warnings, idempotency_key, hashlib.sha256(body).hexdigest()
        )
        # Also for a chain that was found: whoever created it may have been killed before it was enqueued.
        await self.queue.submit(record.id, record.attempt)
        _log.info("chain accepted", chain_id=record.id, stages=len(record.stages), frames=record.plan.total_frames)
        return record

    def _accepted(self, body: bytes) -> tuple[Normalised, list[Problem]]:
        """Blocks: decodes images and keeps them."""
        normalised, warnings = self._normalised(body)
        kept = Normalised(
            script=with_digests(normalised.script, self.store),
            plan=normalised.plan,
            warnings=normalised.warnings,
            seed_drawn=normalised.seed_drawn,
        )
        return kept, warnings

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


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
