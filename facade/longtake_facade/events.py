"""The event log: what happened to a chain, numbered 1, 2, 3 …, written before anyone is told.

Followers in the process are fed directly, through a bounded queue each; the table serves replay, a follower that
fell behind, and chains that another process runs. Nobody who follows can hold up a chain.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Executable, insert, select, update

from longtake import wire
from longtake_facade.database import Database, chains, events

EventName = Literal["progress", "complete", "error"]
TERMINAL: frozenset[str] = frozenset({"complete", "error"})

# A follower that is further behind than this reads from the table.
_BACKLOG = 256
# Another process may run the chain: look at the table even when nothing was heard.
_POLL_SECONDS = 1.0
_PAGE = 500


class LogEntry(NamedTuple):
    """One event: its number in the chain, its SSE name, its JSON."""

    n: int
    name: str
    data: bytes


class EventLog:
    """The log of all chains of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._followers: defaultdict[str, set[asyncio.Queue[LogEntry]]] = defaultdict(set)

    async def progress(self, chain_id: str, event: wire.ProgressEvent, *changes: Executable) -> None:
        """Append a progress event and tell the followers; ``changes`` to rows are made in the same transaction."""

        def write(connection: Connection) -> LogEntry:
            for change in changes:
                connection.execute(change)
            return add_progress(connection, chain_id, event)

        self.announce(chain_id, await self._database.run(write))

    def announce(self, chain_id: str, entry: LogEntry) -> None:
        """Tell the followers of an entry that a transaction of the caller's wrote with :func:`add_entry`."""
        for queue in self._followers.get(chain_id, ()):
            if queue.full():
                # The oldest goes: the follower meets the gap at its next look, and reads the table.
                queue.get_nowait()
            queue.put_nowait(entry)

    async def follow(self, chain_id: str, after: int = 0) -> AsyncGenerator[LogEntry, None]:
        """Every event after number ``after``, in order, none twice, up to and with the terminal one."""
        queue: asyncio.Queue[LogEntry] = asyncio.Queue(_BACKLOG)
        self._followers[chain_id].add(queue)
        try:
            while True:
                # What the queue holds was written before: the table has it too.
                while not queue.empty():
                    queue.get_nowait()
                while page := await self._page(chain_id, after):
                    for entry in page:
                        after = entry.n
                        yield entry
                        if entry.name in TERMINAL:
                            return
                async for entry in self._live(queue, after):
                    after = entry.n
                    yield entry
                    if entry.name in TERMINAL:
                        return
        finally:
            self._followers[chain_id].discard(queue)
            if not self._followers[chain_id]:
                del self._followers[chain_id]

    async def _live(self, queue: asyncio.Queue[LogEntry], after: int) -> AsyncIterator[LogEntry]:
        """What the queue brings without a gap; ends when the table has to be read."""
        while True:
            try:
                entry = await asyncio.wait_for(queue.get(), _POLL_SECONDS)
            except TimeoutError:
                return
            if entry.n > after + 1:
                return
            if entry.n == after + 1:
                after = entry.n
                yield entry

    async def _page(self, chain_id: str, after: int) -> list[LogEntry]:
        def read(connection: Connection) -> list[LogEntry]:
            query = (
                select(events.c.n, events.c.name, events.c.data)
                .where(events.c.chain_id == chain_id, events.c.n > after)
                .order_by(events.c.n)
                .limit(_PAGE)
            )
            return [LogEntry(*row) for row in connection.execute(query)]

        return await self._database.run(read)


def add_entry(connection: Connection, chain_id: str, name: EventName, data: bytes) -> LogEntry:
    """Number and write an event, within the caller's transaction."""
    # The chain's row is the lock: two writers cannot draw the same number.
    n = connection.execute(
        update(chains).where(chains.c.id == chain_id).values(events=chains.c.events + 1).returning(chains.c.events)
    ).scalar_one()
    connection.execute(insert(events).values(chain_id=chain_id, n=n, name=name, data=data))
    return LogEntry(n, name, data)


def add_progress(connection: Connection, chain_id: str, event: wire.ProgressEvent) -> LogEntry:
    """Number and write a progress event, within the caller's transaction."""
    return add_entry(connection, chain_id, "progress", msgspec.json.encode(event))
