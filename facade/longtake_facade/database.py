"""The tables: chains, their stages, their events, what they need of the store.

One thread talks to the database, so transactions are in order.

The same database holds the queue's own tables (``dbos``). Values are JSON text; images and media are in the store.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

T = TypeVar("T")
_metadata = MetaData()

chains = Table(
    "longtake_chains",
    _metadata,
    Column("id", String(32), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=1),
    Column("created_at", Float, nullable=False),
    # When it last joined the queue; the order in which chains run.
    Column("queued_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    # Its place in the queue as it was last told, while it waits.
    Column("position", Integer),
    # When it may be removed, once it has ended.
    Column("expires_at", Float),
    # Someone wants it to end that runs in another process.
    Column("cancel_requested", Boolean, nullable=False, default=False),
    # The chain that this one renders anew from one of its stages on.
    Column("retake_of", String(32)),
    Column("seed_drawn", Boolean, nullable=False),
    # ChainScript as JSON, images replaced by their SHA-256 in the store.
    Column("script", LargeBinary, nullable=False),
    Column("warnings", JSON, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("body_sha256", String(64), nullable=False),
    # How many events the log holds: the number of the last one.
    Column("events", BigInteger, nullable=False, default=0),
    # ChainError as JSON, once it failed or was cancelled.
    Column("error", LargeBinary),
    # Complete as JSON without payload bytes, once it completed.
    Column("complete", LargeBinary),
    Index("longtake_chains_by_state", "state", "created_at"),
)

stages = Table(
    "longtake_stages",
    _metadata,
    Column("chain_id", ForeignKey("longtake_chains.id", ondelete="CASCADE"), primary_key=True),
    Column("stage_idx", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    # Of the artifacts in the store, once rendered.
    Column("key", String(64)),
    # GPU ordinal that denoised it.
    Column("device", Integer),
)

events = Table(
    "longtake_events",
    _metadata,
    Column("chain_id", ForeignKey("longtake_chains.id", ondelete="CASCADE"), primary_key=True),
    Column("n", BigInteger, primary_key=True),
    Column("name", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
)


# What a chain needs of the store, from its creation on: a file goes when the last chain that refers to it goes.
references = Table(
    "longtake_references",
    _metadata,
    Column("chain_id", ForeignKey("longtake_chains.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("key", String(64), primary_key=True),
    Index("longtake_references_by_key", "kind", "key"),
)


class CannotOpen(Exception):
    """The database cannot be opened; the message says why."""


class Database:
    """A database of chains by SQLAlchemy URL."""

    def __init__(self, url: str) -> None:
        """Open it and make sure that its tables are there.

        Raises:
            CannotOpen: the URL is none, its driver is not installed, or nothing answers there.
        """
        try:
            self._engine = _engine(url)
        except (SQLAlchemyError, ImportError) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error)
            raise CannotOpen(f"cannot open the database: {reason.partition(chr(10))[0]}") from error
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="database")

    async def run(self, transaction: Callable[[Connection], T]) -> T:
        """Run ``transaction`` in the database's thread: all of it, or, when it raises, nothing."""
        # Shielded: a caller that is cancelled must not lose what was already written under its name.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._commit, transaction))

    def _commit(self, transaction: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return transaction(connection)

    def close(self) -> None:
        """Finish what was begun and let go of the connections."""
        self._thread.shutdown(wait=True)
        self._engine.dispose()


def _engine(url: str) -> Engine:
    # Errors are logged with their text, and parameters are scripts.
    address = make_url(url)
    if address.drivername in ("postgres", "postgresql"):
        # The driver that is installed; which one is meant without a name depends on SQLAlchemy's release.
        address = address.set(drivername="postgresql+psycopg")
    # A server that was restarted has closed the connections that wait here.
    engine = create_engine(address, hide_parameters=True, pool_pre_ping=address.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
    try:
        _metadata.create_all(engine)
    except SQLAlchemyError:
        engine.dispose()
        raise
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    # WAL: readers and the queue's own connections do not block the writer; NORMAL is durable against a killed process.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
