"""Chains on PostgreSQL: one server, and two servers that share a database and a data folder."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest

import memory_process
from chains import JSON, chain, frames_of, stage
from facade_server import serving
from longtake import wire
from longtake.client import Longtake
from longtake.errors import ChainError, ChainNotFound
from longtake.streams import Completion
from longtake.wire import ChainRequest, ChainState, Transition
from longtake_facade.memory import MemoryBackend
from postgres_server import Postgres, postgres
from serve_process import Serving, stop
from served import TINY


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def database(server: Postgres) -> str:
    return server.new(secrets.token_hex(4))


def script(steps: int = 4, seed: int = 1) -> ChainRequest:
    return chain(stage("a"), stage("b"), stage("c", 17, Transition.FADE, fade_frames=4), steps=steps, seed=seed)


def started(client: Longtake, chain_id: str, index: int = 0) -> None:
    """Wait until a stage is being denoised."""
    with client.events(chain_id) as events:
        next(event for event in events if isinstance(event, wire.DenoiseStep) and event.stage_idx == index)


def log_of(server: Serving, chain_id: str) -> list[tuple[int, str, bytes]]:
    """All events until the terminal one, as one who follows gets them: number, name, data."""
    with httpx2.Client(base_url=server.url, timeout=60) as http:
        text = http.get(f"/api/chains/{chain_id}/events").text
    blocks = [dict(line.split(": ", 1) for line in b.split("\n")) for b in text.split("\n\n") if "id: " in b]
    return [(int(block["id"]), block["event"], block["data"].encode()) for block in blocks]


def test_a_chain_lives_its_whole_life_on_postgresql(database: str, tmp_path: Path) -> None:
    """Created once for its key, followed, cancelled, resumed, retaken, listed and deleted."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    with serving(tmp_path, memory, database=database) as server, Longtake(server.url) as client:
        accepted = client.submit(script(20), idempotency_key="once")
        assert client.submit(script(20), idempotency_key="once").id == accepted.id
        started(client, accepted.id, 1)
        client.cancel(accepted.id)
        with pytest.raises(ChainError, match="cancelled"):
            client.result(accepted.id)
        client.resume(accepted.id)
        done = client.result(accepted.id)
        assert (done.frames, client.chain(accepted.id).attempt) == (38, 2)
        assert [job.prompt for job in memory.jobs].count("a") == 1
        retaken = client.result(client.retake(accepted.id, 2, prompt="other").id)
        np.testing.assert_array_equal(frames_of(retaken)[:21], frames_of(done)[:21])
        assert [one.id for one in client.list()] == [retaken.chain_id, accepted.id]
        assert [one.id for one in client.list(state=ChainState.COMPLETED, limit=1)] == [retaken.chain_id]
        client.delete(accepted.id)
        with pytest.raises(ChainNotFound):
            client.chain(accepted.id)
        assert client.result(retaken.chain_id or "").frames == 38


def test_what_a_killed_server_left_goes_on_from_postgresql(database: str, tmp_path: Path) -> None:
    """The log goes on without gap; every stage is done once."""
    first = memory_process.start(tmp_path / "data", database=database)
    with Longtake(first.url) as client:
        accepted = client.submit(script())
        started(client, accepted.id, 1)
    first.kill()
    stop(first)
    with memory_process.running(tmp_path / "data", database=database) as second:
        log = log_of(second, accepted.id)
    check_whole(log)


def check_whole(log: list[tuple[int, str, bytes]]) -> None:
    """Numbered without gap, every stage done once, one end."""
    assert [n for n, _, _ in log] == list(range(1, len(log) + 1))
    assert [name for _, name, _ in log if name != "progress"] == ["complete"]
    told = [msgspec.json.decode(data) for _, name, data in log if name == "progress"]
    assert sorted(data["stage_idx"] for data in told if data["type"] == "stage_done") == [0, 1, 2]
    assert [data["type"] for data in told].count("chain_start") == 1


def test_a_chain_outlasts_a_restart_of_postgresql(server: Postgres, database: str, tmp_path: Path) -> None:
    """It waits for the database, and so does the queue: the next chain runs as well."""
    with (
        memory_process.running(tmp_path / "data", database=database) as facade,
        Longtake(facade.url, reconnect_timeout=120) as client,
    ):
        accepted = client.submit(script(20))
        started(client, accepted.id, 1)
        server.stop()
        time.sleep(3)
        with httpx2.Client(base_url=facade.url) as http:
            assert http.get("/health").status_code == 200
        server.start()
        assert client.result(accepted.id, timeout=90).frames == 38
        check_whole(log_of(facade, accepted.id))
        assert client.generate(script(seed=2)).frames == 38


def test_two_servers_run_each_chain_once(database: str, tmp_path: Path) -> None:
    """Whoever of them was asked; those who follow at either see the same."""
    with (
        memory_process.running(tmp_path / "data", node="a", database=database) as a,
        memory_process.running(tmp_path / "data", node="b", database=database) as b,
        Longtake(a.url) as at_a,
        Longtake(b.url) as at_b,
    ):
        accepted = [client.submit(script(seed=i)) for i, client in enumerate([at_a, at_b] * 3)]
        for one in accepted:
            log = log_of(a, one.id)
            check_whole(log)
            assert log_of(b, one.id) == log
            starts = [msgspec.json.decode(data) for _, _, data in log if b'"stage_start"' in data]
            assert [start.get("attempt", 1) for start in starts] == [1, 1, 1]


def test_a_bounded_queue_counts_the_chains_of_both_servers(database: str, tmp_path: Path) -> None:
    """One runs, one waits, wherever they came from; the third is refused by both."""
    limits = {"max_running": 1, "max_queued": 1, "database": database}
    with (
        memory_process.running(tmp_path / "data", node="a", **limits) as a,
        memory_process.running(tmp_path / "data", node="b", **limits) as b,
        Longtake(a.url) as at_a,
        Longtake(b.url) as at_b,
    ):
        first, second = at_a.submit(script(40)), at_b.submit(script(seed=2))
        for server in (a, b):
            with httpx2.Client(base_url=server.url) as http:
                answer = http.post("/api/chains", content=msgspec.json.encode(script(seed=3)), headers=JSON)
                assert (answer.status_code, answer.json()["code"]) == (429, "QUEUE_FULL")
        at_b.cancel(first.id)
        assert at_a.result(second.id).frames == 38


def test_a_chain_of_another_server_is_followed_and_cancelled(database: str, tmp_path: Path) -> None:
    """By a server that started after it: every event is seen there, and the model is let go."""
    with memory_process.running(tmp_path / "data", node="a", database=database) as a, Longtake(a.url) as at_a:
        ended, kept = at_a.submit(script(100)), at_a.submit(script(20, seed=2))
        for one in (ended, kept):
            started(at_a, one.id)
        with memory_process.running(tmp_path / "data", node="b", database=database) as b, Longtake(b.url) as at_b:
            at_b.cancel(ended.id)
            with pytest.raises(ChainError, match="cancelled"):
                at_b.result(ended.id)
            assert at_a.chain(ended.id).state is ChainState.CANCELLED
            log = log_of(b, kept.id)
            check_whole(log)
            assert log == log_of(a, kept.id)


def test_what_a_killed_node_ran_goes_on_when_it_is_back(database: str, tmp_path: Path) -> None:
    """The other one serves meanwhile, and who follows there sees the chain to its end."""
    a = memory_process.start(tmp_path / "data", node="a", database=database)
    with Longtake(a.url) as at_a:
        accepted = at_a.submit(script(60))
        started(at_a, accepted.id, 1)
        with memory_process.running(tmp_path / "data", node="b", database=database) as b, Longtake(b.url) as at_b:
            a.kill()
            stop(a)
            assert at_b.generate(script(seed=2)).frames == 38
            assert at_b.chain(accepted.id).state is ChainState.RUNNING
            with memory_process.running(tmp_path / "data", node="a", database=database):
                assert isinstance(at_b.result(accepted.id), Completion)
                check_whole(log_of(b, accepted.id))
