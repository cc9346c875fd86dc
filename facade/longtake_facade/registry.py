"""The chains of the database: created, read, and taken from one state to the next, each in one transaction.

The row's state is the arbiter: a chain that was cancelled while it waited cannot begin, one that ended cannot end
again, and the terminal event is written with the state it belongs to.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
from msgspec import structs
from sqlalchemy import ColumnElement, Connection, Executable, RowMapping, Update, insert, select, update

from longtake import wire
from longtake.wire import ChainScript, ChainState, Problem, StageState
from longtake_facade.database import Database, chains, stages
from longtake_facade.events import EventLog, EventName, LogEntry, add_entry, add_progress
from longtake_facade.normalise import Normalised, plan_of
from longtake_facade.plan import Plan
from longtake_facade.storage import Store


class IdempotencyConflict(Exception):
    """The key was used before, with another body."""


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
    seed_drawn: bool
    script: ChainScript
    warnings: list[Problem]
    body_sha256: str
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


class Registry:
    """All chains of a server."""

    def __init__(self, database: Database, store: Store, log: EventLog) -> None:
        self._database = database
        self._store = store
        self._log = log

    async def create(
        self, chain_id: str, normalised: Normalised, warnings: Sequence[Problem], key: str | None, body_sha256: str
    ) -> ChainRecord:
        """Write a new chain, queued; or return the one that was created under the same idempotency key before.

        ``normalised.script`` as :func:`with_digests` returned it: its images are in the store already.

        Raises:
            IdempotencyConflict: the key was used with another body.
        """
        script = normalised.script

        def write(connection: Connection) -> ChainRecord:
            if key is not None and (earlier := _select(connection, chains.c.idempotency_key == key)):
                if earlier[0].body_sha256 != body_sha256:
                    message = f"this {wire.IDEMPOTENCY_HEADER} was used before, with another body"
                    raise IdempotencyConflict(message)
                return earlier[0]
            row = {
                "id": chain_id,
                "state": ChainState.QUEUED,
                "attempt": 1,
                "created_at": time.time(),
                "seed_drawn": normalised.seed_drawn,
                "script": msgspec.json.encode(script),
                "warnings": msgspec.to_builtins(list(warnings)),
                "idempotency_key": key,
                "body_sha256": body_sha256,
                "events": 0,
            }
            connection.execute(insert(chains).values(row))
            connection.execute(
                insert(stages),
                [
                    {"chain_id": chain_id, "stage_idx": i, "state": StageState.PENDING, "attempt": 0}
                    for i in range(len(script.stage))
                ],
            )
            return _select(connection, chains.c.id == chain_id)[0]

        return await self._database.run(write)

    async def get(self, chain_id: str) -> ChainRecord | None:
        """A chain as it stands."""
        found = await self._database.run(lambda connection: _select(connection, chains.c.id == chain_id))
        return found[0] if found else None

    async def events(self, chain_id: str) -> int:
        """The number of a chain's last event."""

        def read(connection: Connection) -> int:
            return int(connection.execute(select(chains.c.events).where(chains.c.id == chain_id)).scalar_one())

        return await self._database.run(read)

    async def completed(self, limit: int) -> list[ChainRecord]:
        """The latest completed chains, newest first."""

        def read(connection: Connection) -> list[ChainRecord]:
            return _select(connection, chains.c.state == ChainState.COMPLETED, newest=limit)

        return await self._database.run(read)

    async def begin(self, chain_id: str) -> ChainRecord | None:
        """Take a chain to ``running`` and return it; None when it has ended meanwhile.

        The first time it sends ``chain_start``. A chain that a process left running begins again.
        """

        def write(connection: Connection) -> tuple[ChainRecord | None, LogEntry | None]:
            waiting = update(chains).where(chains.c.id == chain_id, chains.c.state == ChainState.QUEUED)
            connection.execute(waiting.values(state=ChainState.RUNNING))
            found = _select(connection, chains.c.id == chain_id)
            if not found or found[0].state is not ChainState.RUNNING:
                return None, None
            if found[0].started_at is not None:
                return found[0], None
            start = wire.ChainStart(stage_count=len(found[0].stages), estimated_total_frames=found[0].plan.total_frames)
            connection.execute(update(chains).where(chains.c.id == chain_id).values(started_at=time.time()))
            return _select(connection, chains.c.id == chain_id)[0], add_progress(connection, chain_id, start)

        record, entry = await self._database.run(write)
        if entry is not None:
            self._log.announce(chain_id, entry)
        return record

    async def complete(self, chain_id: str, complete: wire.Complete) -> None:
        """End a running chain with its result; ``complete`` without payload bytes."""
        data = msgspec.json.encode(complete)
        await self._end(chain_id, ChainState.COMPLETED, "complete", data, {"complete": data})

    async def fail(self, chain_id: str, error: wire.ChainError) -> bool:
        """End a chain that has not ended, as cancelled or failed by the code. False: it had ended."""
        state = ChainState.CANCELLED if error.code == wire.ErrorCode.CANCELLED else ChainState.FAILED
        data = msgspec.json.encode(error)
        return await self._end(chain_id, state, "error", data, {"error": data})

    async def _end(
        self, chain_id: str, state: ChainState, name: EventName, data: bytes, values: dict[str, bytes]
    ) -> bool:
        def write(connection: Connection) -> LogEntry | None:
            ended = connection.execute(
                update(chains)
                .where(chains.c.id == chain_id, chains.c.state.in_((ChainState.QUEUED, ChainState.RUNNING)))
                .values(state=state, finished_at=time.time(), **values)
            )
            return add_entry(connection, chain_id, name, data) if ended.rowcount else None

        entry = await self._database.run(write)
        if entry is not None:
            self._log.announce(chain_id, entry)
        return entry is not None


def stage_begins(chain_id: str, index: int, attempt: int) -> Executable:
    """The change of a stage's row when its denoising starts."""
    return _stage(chain_id, index).values(state=StageState.RUNNING, attempt=attempt)


def stage_ends(chain_id: str, index: int, key: str, device: int | None) -> Executable:
    """The change of a stage's row when its artifacts are in the store."""
    return _stage(chain_id, index).values(state=StageState.DONE, key=key, device=device)


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


def _stage(chain_id: str, index: int) -> Update:
    return update(stages).where(stages.c.chain_id == chain_id, stages.c.stage_idx == index)


def _select(connection: Connection, where: ColumnElement[bool], newest: int | None = None) -> list[ChainRecord]:
    query = select(chains).where(where).order_by(chains.c.created_at.desc()).limit(newest)
    rows = connection.execute(query).mappings().all()
    return [_record(row, _select_stages(connection, row["id"])) for row in rows]


def _select_stages(connection: Connection, chain_id: str) -> tuple[StageRecord, ...]:
    query = select(stages).where(stages.c.chain_id == chain_id).order_by(stages.c.stage_idx)
    return tuple(
        StageRecord(row["stage_idx"], StageState(row["state"]), row["attempt"], row["key"], row["device"])
        for row in connection.execute(query).mappings()
    )


def _record(row: RowMapping, stage_rows: tuple[StageRecord, ...]) -> ChainRecord:
    return ChainRecord(
        id=row["id"],
        state=ChainState(row["state"]),
        attempt=row["attempt"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        seed_drawn=row["seed_drawn"],
        script=msgspec.json.decode(row["script"], type=ChainScript),
        warnings=msgspec.convert(row["warnings"], list[Problem]),
        body_sha256=row["body_sha256"],
        error=msgspec.json.decode(row["error"], type=wire.ChainError) if row["error"] else None,
        complete=msgspec.json.decode(row["complete"], type=wire.Complete) if row["complete"] else None,
        stages=stage_rows,
    )
