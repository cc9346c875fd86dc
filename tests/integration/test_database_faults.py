"""A database that fails for a while: chains wait for it, and go on."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from chains import chain, stage
from facade_server import Server, serving
from longtake import wire
from longtake.client import Longtake
from longtake.errors import ChainError
from longtake.wire import ChainState
from longtake_facade.database import Database
from longtake_facade.memory import MemoryBackend
from served import TINY


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake_facade.chain._DATABASE_SECONDS", 0.1)


@contextmanager
def broken(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every transaction of the server fails; yields how often, as a list of ones."""
    failed: list[int] = []

    def commit(_: Database, transaction: Callable[[Connection], object]) -> object:
        failed.append(1)
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_commit", commit)
        yield failed


def denoising(client: Longtake, chain_id: str, index: int = 0) -> None:
    with client.events(chain_id) as events:
        next(event for event in events if isinstance(event, wire.DenoiseStep) and event.stage_idx == index)


def test_a_chain_goes_on_when_its_database_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not failed, and what was rendered is not rendered again."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    with serving(tmp_path, memory) as server, Longtake(server.url) as client:
        accepted = client.submit(chain(stage("a"), stage("b"), steps=10))
        denoising(client, accepted.id, 1)
        with broken(server, monkeypatch) as failed:
            time.sleep(0.5)
        assert len(failed) > 2
        assert client.result(accepted.id).frames == 25
        assert [job.prompt for job in memory.jobs] == ["a", "b", "b"]
        assert [one.attempt for one in client.chain(accepted.id).stages] == [1, 2]


def test_a_cancellation_outlasts_a_database_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as soon as it can be."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    with serving(tmp_path, memory) as server, Longtake(server.url) as client:
        accepted = client.submit(chain(stage("a"), steps=50))
        denoising(client, accepted.id)
        with broken(server, monkeypatch):
            cancel = server.service.recipe.cancel(accepted.id)
            assert asyncio.run_coroutine_threadsafe(cancel, server.loop).result()
            time.sleep(0.5)
        with pytest.raises(ChainError, match="cancelled"):
            client.result(accepted.id)
        assert client.chain(accepted.id).state is ChainState.CANCELLED
        assert memory.renders == 0


def test_a_server_stops_while_its_database_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one goes on with the chain."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    with monkeypatch.context() as patch:
        patch.setattr("longtake_facade.chain._DATABASE_SECONDS", 600)
        with serving(tmp_path, memory) as server, Longtake(server.url) as client:
            accepted = client.submit(chain(stage("a"), steps=10))
            denoising(client, accepted.id)
            with broken(server, monkeypatch) as failed:
                time.sleep(0.5)
            assert failed
    with serving(tmp_path, memory) as server, Longtake(server.url) as client:
        assert client.result(accepted.id).frames == 17
