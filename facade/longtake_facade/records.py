"""Rows of the tables as frozen data, and what of them is derived."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import msgspec
from msgspec import structs
from sqlalchemy import ColumnElement, Connection, RowMapping, Select, select

from longtake import wire
from longtake.wire import ChainScript, ChainState, Problem, StageState
from longtake_facade.database import chains, stages
from longtake_facade.normalise import plan_of
from longtake_facade.plan import Plan
from longtake_facade.storage import Store

ReferenceKind = Literal["image", "stage", "fade"]


class Reference(NamedTuple):
    """A part of the store that a chain needs: an image by its SHA-256, a stage or a fade by its key (all hex)."""

    kind: ReferenceKind
    key: str


@dataclass(frozen=True)
class Draft:
    """A chain that is to be created. Images in ``script`` are digests, as in :class:`ChainRecord`."""

    id: str
    script: ChainScript
    seed_drawn: bool
    warnings: tuple[Problem, ...]
    references: frozenset[Reference]
    body_sha256: str
    idempotency_key: str | None = None
    retake_of: str | None = None


@dataclass(frozen=True)
class StageRecord:
    """A stage's row: its state, how often it was begun, its artifacts' key, and the GPU that denoised it."""

    stage_idx: int
    state: StageState
    attempt: int
    key: str | None
    device: int | None


@dataclass(frozen=True)
class ChainRecord:
    """A chain's row. Times are Unix seconds; images in ``script`` are the SHA-256 digests of the store, as bytes."""

    id: str
    state: ChainState
    attempt: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None
    cancel_requested: bool
    seed_drawn: bool
    script: ChainScript
    warnings: list[Problem]
    body_sha256: str
    retake_of: str | None
    error: wire.ChainError | None
    complete: wire.Complete | None
    stages: tuple[StageRecord, ...]

    @cached_property
    def plan(self) -> Plan:
        """The timeline."""
        return plan_of(self.script)

    @property
    def done(self) -> int:
        """How many stages are rendered."""
        return sum(stage.state is StageState.DONE for stage in self.stages)


def find(connection: Connection, *where: ColumnElement[bool]) -> ChainRecord | None:
    """The chain of which this holds; there is one at most."""
    found = read(connection, select(chains).where(*where))
    return found[0] if found else None


def read(connection: Connection, query: Select[tuple[object, ...]]) -> list[ChainRecord]:
    """The chains of a query over ``chains``, in its order, with their stages."""
    rows = connection.execute(query).mappings().all()
    by_chain: dict[str, list[StageRecord]] = {row["id"]: [] for row in rows}
    of_these = select(stages).where(stages.c.chain_id.in_(by_chain)).order_by(stages.c.chain_id, stages.c.stage_idx)
    for row in connection.execute(of_these).mappings():
        record = StageRecord(row["stage_idx"], StageState(row["state"]), row["attempt"], row["key"], row["device"])
        by_chain[row["chain_id"]].append(record)
    return [_record(row, tuple(by_chain[row["id"]])) for row in rows]


def _record(row: RowMapping, stage_rows: tuple[StageRecord, ...]) -> ChainRecord:
    return ChainRecord(
        id=row["id"],
        state=ChainState(row["state"]),
        attempt=row["attempt"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        cancel_requested=row["cancel_requested"],
        seed_drawn=row["seed_drawn"],
        script=msgspec.json.decode(row["script"], type=ChainScript),
        warnings=msgspec.convert(row["warnings"], list[Problem]),
        body_sha256=row["body_sha256"],
        retake_of=row["retake_of"],
        error=msgspec.json.decode(row["error"], type=wire.ChainError) if row["error"] else None,
        complete=msgspec.json.decode(row["complete"], type=wire.Complete) if row["complete"] else None,
        stages=stage_rows,
    )


def with_digests(script: ChainScript, store: Store) -> ChainScript:
    """The script to be stored: every image is put in the store and replaced by its digest (32 bytes). Blocks."""

    def keep(data: bytes) -> bytes:
        return bytes.fromhex(store.put_image(data))

    return _images_mapped(script, keep)


def with_images(script: ChainScript, store: Store) -> ChainScript:
    """The script as the client sent it: every digest replaced by its image. Blocks."""
    return _images_mapped(script, lambda digest: store.image(digest.hex()))


def _images_mapped(script: ChainScript, change: Callable[[bytes], bytes]) -> ChainScript:
    changed = [
        structs.replace(stage, source_image=None if stage.source_image is None else change(stage.source_image))
        for stage in script.stage
    ]
    return structs.replace(script, stage=changed)
