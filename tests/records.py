"""A database, a store and their registry without a server, and chains in them, for tests."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chains import four
from longtake import wire
from longtake.wire import ChainRequest
from longtake_facade.database import Database
from longtake_facade.events import EventLog
from longtake_facade.normalise import Normalised, normalise
from longtake_facade.registry import ChainRecord, Registry, with_digests
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
        kept = Normalised(script=script, plan=normal.plan, warnings=normal.warnings, seed_drawn=normal.seed_drawn)
        return await self.registry.create(f"{next(self._ids):032x}", kept, normal.warnings, key, body)


@contextmanager
def records(folder: Path) -> Iterator[Records]:
    """Opened in ``folder``, closed at the end."""
    database, store = Database(f"sqlite:///{folder / 'test.db'}"), Store(folder)
    log = EventLog(database)
    try:
        yield Records(database, store, log, Registry(database, store, log))
    finally:
        database.close()


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
