"""A database, a store and their registry without a server, and chains in them, for tests."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from chains import four
from longtake import wire
from longtake.wire import ChainRequest
from longtake_facade.chain import references
from longtake_facade.database import Database
from longtake_facade.events import EventLog
from longtake_facade.normalise import normalise
from longtake_facade.records import ChainRecord, Draft, with_digests
from longtake_facade.registry import Registry
from longtake_facade.storage import Store
from served import TINY


@dataclass
class Records:
    """What a server keeps its chains in."""

    database: Database
    store: Store
    log: EventLog
    registry: Registry
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def new(
        self, request: ChainRequest | None = None, key: str | None = None, body: str = "0" * 64
    ) -> ChainRecord:
        """A chain that waits."""
        normal = normalise(request or four(), TINY, draw_seed=lambda: 77)
        script = await asyncio.to_thread(with_digests, normal.script, self.store)
        draft = Draft(
            id=f"{next(self._ids):032x}",
            script=script,
            seed_drawn=normal.seed_drawn,
            warnings=tuple(normal.warnings),
            references=references(script, normal.plan, TINY),
            body_sha256=body,
            idempotency_key=key,
        )
        return await self.registry.create(draft)


@contextmanager
def records(folder: Path, **limits: Any) -> Iterator[Records]:
    """Opened in ``folder``, closed at the end. ``limits`` are the registry's."""
    database, store = Database(f"sqlite:///{folder / 'test.db'}"), Store(folder)
    log = EventLog(database)
    try:
        yield Records(database, store, log, Registry(database, log, **limits))
    finally:
        database.close()
        store.close()


def failure(code: wire.ErrorCode = wire.ErrorCode.STAGE_FAILED) -> wire.ChainError:
    """An end with an error."""
    return wire.ChainError(message="it broke", code=code)


def completion(record: ChainRecord, **other: object) -> wire.Complete:
    """An end with a video, as the log keeps it: without the bytes."""
    complete = wire.Complete(
        video=b"",
        format=record.script.chain.output_format,
        width=64,
        height=64,
        frames=record.plan.total_frames,
        fps=24,
        stage_count=len(record.stages),
        script=record.script,
        chain_id=record.id,
    )
    return msgspec.structs.replace(complete, **other)
