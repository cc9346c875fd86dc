"""The chains of the database: created, read, and taken from one state to the next, each in one transaction.

::

    (created) → queued → running → completed
                  │         ├────→ failed    ─┐
                  └─────────┴────→ cancelled ─┴─ resumed → queued

The row's state is the arbiter: a chain that was cancelled while it waited cannot begin, one that ended cannot end
again, and an event is written with the change that it tells.
"""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, Executable, Update, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from longtake import wire
from longtake.wire import ChainState, ErrorCode, StageState
from longtake_facade.database import Database, chains, events, references, stages
from longtake_facade.events import EventLog, EventName, LogEntry, add_entry, add_progress
from longtake_facade.records import ChainRecord, Draft, Reference, find, read

T = TypeVar("T")
# A change of rows, and what it adds to the log: whom it concerns, and the entry.
Told = list[tuple[str, LogEntry]]

_UNFINISHED = (ChainState.QUEUED, ChainState.RUNNING)
_RESUMABLE = (ChainState.FAILED, ChainState.CANCELLED)


class IdempotencyConflict(Exception):
    """The key was used before, with another body."""


class QueueFull(Exception):
    """As many chains wait as may."""


class ChainNotFound(Exception):
    """No chain has this id."""


class WrongState(Exception):
    """The chain is not in a state in which this can be done."""


class Registry:
    """All chains of a server. ``retention`` in seconds; ``max_running`` and ``max_queued`` count chains."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        *,
        max_running: int = 4,
        max_queued: int = 64,
        retention: float = 7 * 86400.0,
    ) -> None:
        self._database = database
        self._log = log
        self._max_running = max_running
        self._max_queued = max_queued
        self._retention = retention

    # ------------------------------------------------------------------------------------------------- new chains

    async def create(self, draft: Draft) -> ChainRecord:
        """Write a new chain, queued; or return the one that was created under the same idempotency key before.

        Raises:
            IdempotencyConflict: the key was used with another body.
            QueueFull: too many wait already.
        """

        def write(connection: Connection, told: Told) -> ChainRecord:
            if (key := draft.idempotency_key) is not None and (earlier := find(connection, _has_key(key))):
                if earlier.body_sha256 != draft.body_sha256:
                    message = f"this {wire.IDEMPOTENCY_HEADER} was used before, with another body"
                    raise IdempotencyConflict(message)
                return earlier
            ahead = self._admitted(connection)
            _insert(connection, draft)
            self._wait(connection, draft.id, ahead, told)
            return _existing(connection, draft.id)

        try:
            return await self._change(write)
        except IntegrityError:
            # Another server took the idempotency key meanwhile; now its chain is found.
            return await self._change(write)

    def _admitted(self, connection: Connection) -> int:
        """How many chains are before a new one, running or waiting."""
        count = select(func.count()).select_from(chains).where(chains.c.state.in_(_UNFINISHED))
        ahead = int(connection.execute(count).scalar_one())
        if ahead >= self._max_running + self._max_queued:
            raise QueueFull(f"{self._max_running} chains run and {self._max_queued} wait; try again later")
        return ahead

    def _wait(self, connection: Connection, chain_id: str, ahead: int, told: Told) -> None:
        if ahead >= self._max_running:
            _tell_position(connection, chain_id, ahead - self._max_running, told)

    # ---------------------------------------------------------------------------------------------------- reading

    async def get(self, chain_id: str) -> ChainRecord | None:
        """A chain as it stands."""
        return await self._database.run(lambda connection: find(connection, chains.c.id == chain_id))

    async def last_event(self, chain_id: str) -> int:
        """The number of a chain's last event, 0 where it has none."""
        query = select(chains.c.events).where(chains.c.id == chain_id)
        return await self._database.run(lambda connection: int(connection.execute(query).scalar_one()))

    async def newest(
        self, limit: int, state: ChainState | None = None, before: tuple[float, str] | None = None
    ) -> list[ChainRecord]:
        """Chains by time of creation, latest first; ``before``: only those that come after this one in that order."""
        query = select(chains).order_by(chains.c.created_at.desc(), chains.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(chains.c.state == state)
        if before is not None:
            created, chain_id = before
            same_time = and_(chains.c.created_at == created, chains.c.id < chain_id)
            query = query.where(or_(chains.c.created_at < created, same_time))
        return await self._database.run(lambda connection: read(connection, query))

    async def unfinished(self) -> list[ChainRecord]:
        """All chains that wait or run, in the order in which they joined the queue."""
        query = select(chains).where(chains.c.state.in_(_UNFINISHED)).order_by(chains.c.queued_at)
        return await self._database.run(lambda connection: read(connection, query))

    async def expired(self) -> list[str]:
        """The ids of chains that are kept no longer."""
        query = select(chains.c.id).where(chains.c.expires_at < time.time())
        return await self._database.run(lambda connection: list(connection.execute(query).scalars()))

    # ------------------------------------------------------------------------------------------------ transitions

    async def begin(self, chain_id: str) -> ChainRecord | None:
        """Take a chain to ``running`` and return it; None when it has ended meanwhile.

        The first time it sends ``chain_start``. A chain that a process left running begins again.
        """

        def write(connection: Connection, told: Told) -> ChainRecord | None:
            now = time.time()
            changed = connection.execute(
                update(chains)
                .where(chains.c.id == chain_id, chains.c.state == ChainState.QUEUED)
                .values(state=ChainState.RUNNING)
            )
            record = find(connection, chains.c.id == chain_id)
            if record is None or record.state is not ChainState.RUNNING:
                return None
            if record.started_at is None:
                total = record.plan.total_frames
                start = wire.ChainStart(stage_count=len(record.stages), estimated_total_frames=total)
                told.append((chain_id, add_progress(connection, chain_id, start)))
                connection.execute(_chain(chain_id).values(started_at=now))
            if changed.rowcount:
                self._move_up(connection, told)
            return _existing(connection, chain_id)

        return await self._change(write)

    def _move_up(self, connection: Connection, told: Told) -> None:
        """Tell those that still have to wait their new position."""
        running = select(func.count()).select_from(chains).where(chains.c.state == ChainState.RUNNING)
        free = max(0, self._max_running - int(connection.execute(running).scalar_one()))
        queued = select(chains.c.id, chains.c.position).where(chains.c.state == ChainState.QUEUED)
        waiting = connection.execute(queued.order_by(chains.c.queued_at)).all()[free:]
        for position, (chain_id, last_told) in enumerate(waiting):
            if position != last_told:
                _tell_position(connection, chain_id, position, told)

    async def complete(self, chain_id: str, complete: wire.Complete) -> bool:
        """End a running chain with its result, ``complete`` without payload bytes. False: it had ended."""
        data = msgspec.json.encode(complete)
        return await self._change(
            lambda connection, told: self._end(
                connection, told, chain_id, ChainState.COMPLETED, "complete", complete=data
            )
        )

    async def fail(self, chain_id: str, error: wire.ChainError) -> bool:
        """End a chain that has not ended, as cancelled or failed by the code. False: it had ended."""
        state = ChainState.CANCELLED if error.code == ErrorCode.CANCELLED else ChainState.FAILED
        data = msgspec.json.encode(error)
        return await self._change(
            lambda connection, told: self._end(connection, told, chain_id, state, "error", error=data)
        )

    def _end(
        self, connection: Connection, told: Told, chain_id: str, state: ChainState, name: EventName, **result: bytes
    ) -> bool:
        now = time.time()
        ended = connection.execute(
            _chain(chain_id)
            .where(chains.c.state.in_((ChainState.RUNNING,) if state is ChainState.COMPLETED else _UNFINISHED))
            .values(state=state, finished_at=now, expires_at=now + self._retention, **result)
        )
        if not ended.rowcount:
            return False
        (data,) = result.values()
        interrupted = update(stages).where(stages.c.chain_id == chain_id, stages.c.state == StageState.RUNNING)
        connection.execute(interrupted.values(state=StageState.PENDING))
        told.append((chain_id, add_entry(connection, chain_id, name, data)))
        self._move_up(connection, told)
        return True

    async def request_cancel(self, chain_id: str) -> bool:
        """Ask whatever process runs the chain to end it. False: it is not running."""
        asked = _chain(chain_id).where(chains.c.state == ChainState.RUNNING).values(cancel_requested=True)
        return bool(await self._database.run(lambda connection: connection.execute(asked).rowcount))

    async def cancel_requested(self, chain_id: str) -> bool:
        """Whether someone asked for the chain's end."""
        asked = select(chains.c.cancel_requested).where(chains.c.id == chain_id)
        return bool(await self._database.run(lambda connection: connection.execute(asked).scalar()))

    async def refer(self, chain_id: str, needed: frozenset[Reference]) -> None:
        """Make sure that a chain refers to all that it needs, which another checkpoint may have changed."""

        def write(connection: Connection) -> None:
            _insert_references(connection, chain_id, needed - _references(connection, chain_id))

        await self._database.run(write)

    async def resume(self, chain_id: str) -> ChainRecord:
        """Queue a chain again that failed or was cancelled. Its log goes on; the terminal event becomes ``stopped``.

        Raises:
            WrongState: it has not ended so.
            QueueFull: too many wait already.
        """

        def write(connection: Connection, told: Told) -> ChainRecord:
            record = _existing(connection, chain_id)
            if record.state not in _RESUMABLE or record.error is None:
                raise WrongState(f"the chain is {record.state}; only a failed or cancelled one can be resumed")
            ahead = self._admitted(connection)
            _supersede_end(connection, chain_id, record.error.code)
            connection.execute(
                _chain(chain_id).values(
                    state=ChainState.QUEUED,
                    attempt=chains.c.attempt + 1,
                    queued_at=time.time(),
                    finished_at=None,
                    expires_at=None,
                    cancel_requested=False,
                    position=None,
                    error=None,
                )
            )
            self._wait(connection, chain_id, ahead, told)
            return _existing(connection, chain_id)

        return await self._change(write)

    async def next_attempt(self, chain_id: str) -> int:
        """Count one more attempt of a chain whose last one was lost; returns its number."""
        counted = _chain(chain_id).values(attempt=chains.c.attempt + 1).returning(chains.c.attempt)
        return await self._database.run(lambda connection: int(connection.execute(counted).scalar_one()))

    async def delete(self, chain_id: str, remove: Callable[[Iterable[Reference]], None]) -> None:
        """Remove an ended chain. ``remove`` is called with the references that no other chain has, before the commit.

        Within the transaction, so that no chain can come to need what is just being removed.

        Raises:
            WrongState: it has not ended.
        """

        def write(connection: Connection, _: Told) -> None:
            record = _existing(connection, chain_id)
            if not record.state.ended:
                raise WrongState(f"the chain is {record.state}; cancel it before it can be deleted")
            held = _references(connection, chain_id)
            connection.execute(delete(chains).where(chains.c.id == chain_id))
            remove([reference for reference in held if not _referred(connection, reference)])

        await self._change(write)

    async def _change(self, write: Callable[[Connection, Told], T]) -> T:
        """Run a transaction, then tell the followers what it added to the log."""
        told: Told = []

        def transaction(connection: Connection) -> T:
            told.clear()
            return write(connection, told)

        result = await self._database.run(transaction)
        for chain_id, entry in told:
            self._log.announce(chain_id, entry)
        return result


def stage_begins(chain_id: str, index: int, attempt: int) -> Executable:
    """The change of a stage's row when its denoising starts."""
    return _stage(chain_id, index).values(state=StageState.RUNNING, attempt=attempt)


def stage_ends(chain_id: str, index: int, key: str, device: int | None) -> Executable:
    """The change of a stage's row when its artifacts are in the store."""
    return _stage(chain_id, index).values(state=StageState.DONE, key=key, device=device)


def _chain(chain_id: str) -> Update:
    return update(chains).where(chains.c.id == chain_id)


def _stage(chain_id: str, index: int) -> Update:
    return update(stages).where(stages.c.chain_id == chain_id, stages.c.stage_idx == index)


def _has_key(key: str) -> ColumnElement[bool]:
    return chains.c.idempotency_key == key


def _existing(connection: Connection, chain_id: str) -> ChainRecord:
    record = find(connection, chains.c.id == chain_id)
    if record is None:
        raise ChainNotFound(f"no chain has the id {chain_id}")
    return record


def _insert(connection: Connection, draft: Draft) -> None:
    now = time.time()
    connection.execute(
        insert(chains).values(
            id=draft.id,
            state=ChainState.QUEUED,
            attempt=1,
            created_at=now,
            queued_at=now,
            cancel_requested=False,
            retake_of=draft.retake_of,
            seed_drawn=draft.seed_drawn,
            script=msgspec.json.encode(draft.script),
            warnings=msgspec.to_builtins(draft.warnings),
            idempotency_key=draft.idempotency_key,
            body_sha256=draft.body_sha256,
            events=0,
        )
    )
    pending = {"chain_id": draft.id, "state": StageState.PENDING, "attempt": 0}
    connection.execute(insert(stages), [{**pending, "stage_idx": i} for i in range(len(draft.script.stage))])
    _insert_references(connection, draft.id, draft.references)


def _insert_references(connection: Connection, chain_id: str, added: frozenset[Reference]) -> None:
    if added:
        rows = [{"chain_id": chain_id, "kind": kind, "key": key} for kind, key in added]
        connection.execute(insert(references), rows)


def _references(connection: Connection, chain_id: str) -> frozenset[Reference]:
    mine = select(references.c.kind, references.c.key).where(references.c.chain_id == chain_id)
    return frozenset(Reference(kind, key) for kind, key in connection.execute(mine))


def _tell_position(connection: Connection, chain_id: str, position: int, told: Told) -> None:
    connection.execute(_chain(chain_id).values(position=position))
    told.append((chain_id, add_progress(connection, chain_id, wire.Queued(position=position))))


def _supersede_end(connection: Connection, chain_id: str, code: str) -> None:
    """The terminal event keeps its number and is terminal no more."""
    last = select(chains.c.events).where(chains.c.id == chain_id).scalar_subquery()
    data = msgspec.json.encode(wire.Stopped(code=code))
    connection.execute(
        update(events).where(events.c.chain_id == chain_id, events.c.n == last).values(name="progress", data=data)
    )


def _referred(connection: Connection, reference: Reference) -> bool:
    same = (references.c.kind == reference.kind, references.c.key == reference.key)
    return connection.execute(select(references.c.chain_id).where(*same).limit(1)).first() is not None
