"""What the server does with chains, without HTTP: accept, look up, cancel, describe, hand out."""

import asyncio
import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
from msgspec import structs

from longtake import wire
from longtake.wire import IGNORED_REQUEST_KEYS, ChainRequest, ChainState, Problem
from longtake_facade import views
from longtake_facade.artifacts import STAGE_VIDEO
from longtake_facade.backend import Backend
from longtake_facade.chain import Recipe, references
from longtake_facade.estimate import vram_estimate
from longtake_facade.events import EventLog
from longtake_facade.normalise import (
    Normalised,
    UnknownModel,
    normalise,
)
from longtake_facade.parse import Invalid, parse
from longtake_facade.queue import ChainQueue
from longtake_facade.records import ChainRecord, Draft, Reference, with_digests, with_images
from longtake_facade.registry import ChainNotFound, Registry, WrongState
from longtake_facade.storage import Store

_CHAIN_ID = re.compile(r"[0-9a-f]{32}")

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
        record = await self.registry.get(chain_id) if _CHAIN_ID.fullmatch(chain_id) else None
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
            chains=[views.summary(record) for record in found[:limit]],
            next_cursor=_cursor(found[limit - 1]) if more else None,
        )

    async def detail(self, record: ChainRecord) -> wire.ChainDetail:
        """A chain as the API shows it, with its images."""
        return views.detail(record, await asyncio.to_thread(with_images, record.script, self.store))

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

    async def gallery(self, limit: int) -> list[wire.GalleryItem]:
        """The latest completed chains; one whose file someone took away is left out, and logged."""
        records = await self.registry.newest(limit, ChainState.COMPLETED)
        return await asyncio.to_thread(lambda: [item for item in map(self._gallery_item, records) if item])

    def _gallery_item(self, record: ChainRecord) -> wire.GalleryItem | None:
        try:
            return views.gallery_item(record, self.video(record).stat().st_size)
        except NotThere:
            _log.warning("a video is missing from the store", chain_id=record.id)
            return None

    async def gallery_chain(self, filename: str) -> ChainRecord:
        """The completed chain of a gallery name, ``<id>.<format>``.

        Raises:
            NotThere: there is none of this name.
        """
        chain_id, _, suffix = filename.partition(".")
        with suppress(ChainNotFound):
            record = await self.chain(chain_id)
            if record.complete is not None and record.complete.format == suffix:
                return record
        raise NotThere(f"the gallery has no {filename}")

    # ----------------------------------------------------------------------------------------------- the server

    def limits(self, model: str | None) -> wire.ChainLimits:
        """What is enforced.

        Raises:
            UnknownModel: the model is not served.
        """
        served = self.backend.capabilities
        if model not in (None, served.model):
            raise UnknownModel(f"model `{model}` is not served here; served: `{served.model}`")
        return views.limits(served)

    def models(self) -> list[wire.ModelInfo]:
        """The served model; it is loaded, or there would be no server."""
        return [views.model_info(self.backend.capabilities)]


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


def _cursor(record: ChainRecord) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((record.created_at, record.id))).decode()


def _cursor_place(cursor: str) -> tuple[float, str]:
    try:
        place: tuple[float, str] = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[float, str])
    except (ValueError, msgspec.DecodeError) as error:
        raise Invalid([Problem(path="cursor", message="cursor must be the next_cursor of a page")]) from error
    return place
