"""What the server stands on is taken away for real: models, Triton, the network, the database, the disk."""

import asyncio
import os
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from chains import chain, frames_of, stage
from longtake import wire
from longtake.client import Longtake
from longtake.errors import ChainError
from longtake.streams import Completion
from longtake.wire import ChainRequest, Transition
from longtake_facade.embedded import EmbeddedTriton
from ports import free_port
from serve_process import Serving, serve, start, stop


def processes_of(folder: Path) -> list[psutil.Process]:
    """What runs with the folder in its command."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]


def script(seed: int, **settings: object) -> ChainRequest:
    """Two takes, of stages of its own."""
    stages = [stage("pier", 17), stage("mist", 25), stage("lamp", 17, Transition.CUT)]
    return chain(*stages, **{"seed": seed, "steps": 20, **settings})


@pytest.fixture(scope="module")
def calm(triton: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server to which nothing happens."""
    with serve(tmp_path_factory.mktemp("calm") / "data", "--triton", triton.grpc_address) as server:
        yield server


def assert_undisturbed(done: Completion, calm: Serving, request: ChainRequest) -> None:
    """The frames are those of a server to which nothing happened."""
    with Longtake(calm.url) as client:
        np.testing.assert_array_equal(frames_of(done), frames_of(client.generate(request)))


# ---------------------------------------------------------------------------------- models of an embedded server


class Embedded:
    """A server with a Triton of its own, whose checkpoint can be taken away."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder = folder
        self.checkpoint = shutil.copytree(checkpoint, folder / "checkpoint")
        self.options = ("--checkpoint", str(self.checkpoint), "--port", str(free_port()))
        self.server = start(folder / "data", *self.options)

    def restart(self) -> None:
        """Kill it, and start the next one of its data."""
        self.server.kill()
        stop(self.server)
        self.server = start(self.folder / "data", *self.options)

    def triton(self) -> psutil.Process:
        """Its Triton; there is one."""
        (found,) = [process for process in processes_of(self.folder) if process.name() == "tritonserver"]
        return found

    def stub(self, model: str) -> psutil.Process:
        """The process of a model."""
        place = str(self.folder / "data" / "triton" / "models" / model)
        children = [child for child in self.triton().children() if child.status() != psutil.STATUS_ZOMBIE]
        (found,) = [process for process in children if any(part.startswith(place) for part in process.cmdline())]
        return found


@pytest.fixture(scope="module")
def embedded(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One for all tests of this part: it takes long to start."""
    with pytest.MonkeyPatch.context() as patch:
        # As the session's server of two instances on two cores: sums depend on how many threads share them.
        patch.setenv("OMP_NUM_THREADS", "1")
        running = Embedded(tmp_path_factory.mktemp("embedded"), tiny_checkpoint)
        try:
            yield running
        finally:
            stop(running.server)
    assert processes_of(running.folder) == []


def disturbed(
    server: Serving, request: ChainRequest, when: Callable[[wire.DenoiseStep], bool], fault: Callable[[], object]
) -> tuple[Completion, list[wire.StageStart]]:
    """Run a chain; ``fault`` happens at the first step for which ``when`` holds. Its result, and its stages' starts."""
    happened = False
    starts: list[wire.StageStart] = []
    with Longtake(server.url) as client, client.stream(request) as events:
        for event in events:
            if isinstance(event, wire.DenoiseStep) and not happened and when(event):
                happened = True
                fault()
            if isinstance(event, wire.StageStart):
                starts.append(event)
            if isinstance(event, Completion):
                assert happened
                return event, starts
    raise AssertionError("the stream ended before the chain")


def test_a_model_that_is_killed_while_it_denoises_is_loaded_again(embedded: Embedded, calm: Serving) -> None:
    """The stage is begun again as attempt 2, and the video is that of an undisturbed run."""
    done, starts = disturbed(
        embedded.server, script(1), lambda event: event.step == 5, lambda: embedded.stub("denoiser").kill()
    )
    attempts = [start.attempt or 1 for start in starts]
    assert sorted(attempts) == [1, 1, 1, 2]
    assert_undisturbed(done, calm, script(1))


def test_a_decoder_that_is_killed_is_loaded_again(embedded: Embedded, calm: Serving) -> None:
    """Whatever it was at."""
    done, starts = disturbed(
        embedded.server, script(2), lambda event: event.step == event.total, lambda: embedded.stub("decoder").kill()
    )
    assert sorted(start.attempt or 1 for start in starts) == [1, 1, 1, 2]
    assert_undisturbed(done, calm, script(2))


def test_a_triton_that_is_killed_is_started_again(embedded: Embedded, calm: Serving) -> None:
    """And the chain goes on with it."""
    first = embedded.triton().pid
    done, starts = disturbed(
        embedded.server, script(3), lambda event: event.step == 5, lambda: os.kill(first, signal.SIGKILL)
    )
    assert sorted(start.attempt or 1 for start in starts) == [1, 1, 1, 2]
    assert embedded.triton().pid != first
    assert_undisturbed(done, calm, script(3))


def test_a_killed_server_leaves_no_triton_and_the_next_goes_on(embedded: Embedded, calm: Serving) -> None:
    """Twice; there is never more than one Triton of a data folder."""
    with Longtake(embedded.server.url, reconnect_timeout=120) as client:
        accepted = client.submit(script(4))
        for _ in range(2):
            with client.events(accepted.id) as events:
                next(event for event in events if isinstance(event, wire.DenoiseStep))
            embedded.restart()
            assert embedded.triton().ppid() == embedded.server.process.pid
        done = client.result(accepted.id)
    assert_undisturbed(done, calm, script(4))


def test_a_triton_that_cannot_be_started_again_fails_the_chain_and_is_tried_again(embedded: Embedded) -> None:
    """NO_BACKEND, resumable; the server stays, says that it is not ready, and is when the cause is gone."""
    away = embedded.checkpoint.with_name("away")
    with Longtake(embedded.server.url) as client, httpx2.Client(base_url=embedded.server.url) as http:
        accepted = client.submit(script(5))
        with client.events(accepted.id) as events:
            next(event for event in events if isinstance(event, wire.DenoiseStep))
        embedded.checkpoint.rename(away)
        embedded.triton().kill()
        with pytest.raises(ChainError) as caught:
            client.result(accepted.id)
        assert (caught.value.code, client.chain(accepted.id).error.resumable) == ("NO_BACKEND", True)
        assert http.get("/health").status_code == 200
        assert until(lambda: http.get("/ready").status_code == 503)
        away.rename(embedded.checkpoint)
        assert until(lambda: http.get("/ready").status_code == 200)
        client.resume(accepted.id)
        assert client.result(accepted.id).frames == 50


def until(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Wait until it holds; False: it did not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


# ------------------------------------------------------------------------------------------- an external Triton


class Relay:
    """A port that leads to another one, and can be closed as when what listened there ended."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Break every connection and listen no more."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        both = {writer, there_writer}
        self._writers |= both
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        # The other side ends it.
        pass
    writer.close()


async def test_a_triton_that_goes_away_and_comes_back_is_used_again(
    triton: EmbeddedTriton, calm: Serving, tmp_path: Path
) -> None:
    """At the same address, seconds later; the stage it was at is begun again."""
    relay = Relay(triton.grpc_address)
    await relay.open()
    loop = asyncio.get_running_loop()

    async def away() -> None:
        await relay.close()
        await asyncio.sleep(5)
        await relay.open()

    def fault() -> None:
        asyncio.run_coroutine_threadsafe(away(), loop)

    def run() -> tuple[Completion, list[wire.StageStart]]:
        with serve(tmp_path / "data", "--triton", f"127.0.0.1:{relay.port}") as server:
            return disturbed(server, script(6), lambda event: event.step == 5, fault)

    done, starts = await asyncio.to_thread(run)
    await relay.close()
    assert max(start.attempt or 1 for start in starts) == 2
    await asyncio.to_thread(assert_undisturbed, done, calm, script(6))


# -------------------------------------------------------------------------------------------- database and disk


@pytest.fixture(scope="module")
def server(triton: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server for faults of the database and the disk."""
    with serve(tmp_path_factory.mktemp("faults") / "data", "--triton", triton.grpc_address) as running:
        yield running


def data_of(server: Serving) -> Path:
    return server.log.parent / "data"


def test_a_locked_database_holds_up_the_chain_and_nothing_else(server: Serving, calm: Serving) -> None:
    """Endpoints that need no database answer meanwhile; the chain completes."""
    answered = 0

    def fault() -> None:
        nonlocal answered
        with (
            closing(sqlite3.connect(data_of(server) / "longtake.db", isolation_level=None)) as other,
            httpx2.Client(base_url=server.url, timeout=2) as http,
        ):
            other.execute("BEGIN EXCLUSIVE")
            for _ in range(15):
                time.sleep(0.2)
                answered += http.get("/health").status_code == 200
            other.execute("ROLLBACK")

    done, starts = disturbed(server, script(7), lambda event: event.step == 5, fault)
    assert answered == 15
    assert {start.attempt or 1 for start in starts} == {1}
    assert_undisturbed(done, calm, script(7))


@contextmanager
def full_disk(server: Serving, size: int) -> Iterator[None]:
    """Nothing the server writes may reach beyond ``size`` bytes of its file: the kernel refuses it."""
    process = psutil.Process(server.process.pid)
    hard = process.rlimit(resource.RLIMIT_FSIZE)[1]
    process.rlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))


# Its tail is larger than all of the database.
LARGE = {"width": 320, "height": 320, "motion_tail_frames": 17, "steps": 2}


def test_a_disk_that_is_full_fails_the_chain_in_words_and_it_resumes(server: Serving, calm: Serving) -> None:
    """Earlier stages can be watched meanwhile, and are not rendered again."""
    request = chain(stage("wide", 25, Transition.SMOOTH), stage("next", 25), stage("last", 25), seed=8, **LARGE)
    with Longtake(server.url) as client:
        accepted = client.submit(request)
        with client.events(accepted.id) as events:
            next(event for event in events if isinstance(event, wire.StageDone))
        with (
            full_disk(server, 4 << 20),
            pytest.raises(ChainError, match="stage 1 failed: stage 1: File too large") as caught,
        ):
            client.result(accepted.id)
        assert caught.value.code == "ENCODE_FAILED"
        assert client.stage_video(accepted.id, 0)[4:8] == b"ftyp"
        client.resume(accepted.id)
        done = client.result(accepted.id)
        again = client.chain(accepted.id)
    assert [one.attempt for one in again.stages] == [1, 2, 1]
    assert_undisturbed(done, calm, request)


def test_a_database_on_a_full_disk_loses_nothing(server: Serving, calm: Serving) -> None:
    """The chain goes on when there is room again, its log whole."""
    with Longtake(server.url) as client:
        accepted = client.submit(script(9))
        with client.events(accepted.id) as events:
            next(event for event in events if isinstance(event, wire.DenoiseStep))
        with full_disk(server, 4096), httpx2.Client(base_url=server.url) as http:
            for _ in range(30):
                time.sleep(0.1)
                assert http.get("/health").status_code == 200
            assert server.process.poll() is None
        done = client.result(accepted.id, timeout=60)
    assert_undisturbed(done, calm, script(9))
