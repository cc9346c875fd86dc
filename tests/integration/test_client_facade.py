"""The client against the real server: restarts in the middle, and everything that can be done with a durable chain."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import longtake.cli as cli
from chains import chain, frames_of, stage
from facade_server import serving
from longtake import Event, wire
from longtake.client import Longtake
from longtake.errors import ChainCancelled, ChainNotFound, NotFound, QueueFull, StageFailed, WrongState
from longtake.retry import Retries
from longtake.streams import Completion
from longtake.wire import ChainState, Transition
from longtake_facade.backend import ModelFailed
from longtake_facade.memory import MemoryBackend
from served import TINY

QUICK = Retries(attempts=2, first_delay=0.05, longest_delay=0.2, longest_wait=0.2)


def through_a_restart(
    folder: Path, memory: MemoryBackend, port: int, follow: Callable[[Longtake, Callable[[Event], object]], object]
) -> list[Event]:
    """What ``follow`` showed of a chain, whose server was stopped and started again in its second stage."""
    seen: list[Event] = []
    reached = threading.Event()

    def on_event(event: Event) -> None:
        seen.append(event)
        if isinstance(event, wire.DenoiseStep) and event.stage_idx == 1:
            reached.set()

    with ThreadPoolExecutor() as pool:
        with serving(folder, memory, port=port):
            client = Longtake(f"http://127.0.0.1:{port}", retries=QUICK)
            result = pool.submit(follow, client, on_event)
            assert reached.wait(30)
        with serving(folder, memory, port=port):
            result.result(60)
            client.close()
    return seen


def test_generate_survives_a_restart_of_the_server(tmp_path: Path, unused_tcp_port: int) -> None:
    """Every event comes once, nothing is rendered twice, and the video is the one of an undisturbed run."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    request = chain(stage("a"), stage("b"), stage("c", 17, Transition.CUT), steps=6)
    found: list[Completion] = []

    def follow(client: Longtake, on_event: Callable[[Event], object]) -> None:
        found.append(client.generate(request, on_event=on_event))

    seen = through_a_restart(tmp_path, memory, unused_tcp_port, follow)
    assert [job.prompt for job in memory.jobs].count("a") == 1
    assert [type(event) for event in seen].count(wire.ChainStart) == 1
    assert sorted(event.stage_idx for event in seen if isinstance(event, wire.StageDone)) == [0, 1, 2]
    starts = [event for event in seen if isinstance(event, wire.StageStart) and event.stage_idx == 1]
    assert [event.attempt for event in starts] == [1, 2]
    assert seen[-1] is found[0]
    with serving(tmp_path / "other", MemoryBackend(TINY)) as running, Longtake(running.url) as client:
        assert len([1 for _ in client.list()]) == 0
        np.testing.assert_array_equal(frames_of(found[0]), frames_of(client.generate(request)))


def test_whoever_follows_misses_nothing_and_sees_nothing_twice(tmp_path: Path, unused_tcp_port: int) -> None:
    """What a follower saw over two servers is what one reads afterwards in one piece."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    followed: list[str] = []

    def follow(client: Longtake, on_event: Callable[[Event], object]) -> None:
        followed.append(client.submit(chain(stage("a"), stage("b"), steps=6)).id)
        with client.events(followed[0], inline=True) as events:
            for event in events:
                on_event(event)

    seen = through_a_restart(tmp_path, memory, unused_tcp_port, follow)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        assert seen == list(client.events(followed[0], inline=True))
        assert client.wait(followed[0]).state is ChainState.COMPLETED


def test_a_cancelled_chain_is_resumed_and_followed_on(tmp_path: Path) -> None:
    """The follower saw the end of the first attempt; the rest comes after it; others see that it had stopped."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        with client.stream(chain(stage("a"), stage("b"), steps=6)) as events:
            any(isinstance(event, wire.DenoiseStep) and event.stage_idx == 1 for event in events)
            client.cancel(str(events.chain_id))
            with pytest.raises(ChainCancelled) as caught:
                list(events)
        chain_id, last = str(caught.value.chain_id), caught.value.last_event_id
        assert caught.value.resumable
        with pytest.raises(ChainCancelled):
            client.result(chain_id)
        assert client.resume(chain_id).id == chain_id
        with pytest.raises(WrongState):
            client.resume(chain_id)
        rest = list(client.events(chain_id, after=last, inline=True))
        assert isinstance(rest[-1], Completion)
        whole = list(client.events(chain_id, inline=True))
        assert whole[int(str(last)) - 1] == wire.Stopped(code="CANCELLED")
        assert whole[int(str(last)) :] == rest
        assert [job.prompt for job in memory.jobs] == ["a", "b", "b"]
        detail = client.wait(chain_id)
        assert (detail.state, detail.attempt) == (ChainState.COMPLETED, 2)


def test_a_stage_is_retaken_as_a_new_chain(tmp_path: Path) -> None:
    """It says what it was made of; what did not change is not rendered again."""
    memory = MemoryBackend(TINY)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        old = client.generate(chain(stage("a"), stage("b", 17, Transition.CUT)))
        del memory.jobs[:]
        retaken = client.retake(str(old.chain_id), 1, prompt="better")
        new = client.result(retaken.id)
        assert [job.prompt for job in memory.jobs] == ["better"]
        assert client.chain(retaken.id).retake_of == old.chain_id
        assert [one.prompt for one in new.script.stage] == ["a", "better"]
        np.testing.assert_array_equal(frames_of(new)[:17], frames_of(client.result(str(old.chain_id)))[:17])


def test_chains_are_listed_downloaded_and_deleted(tmp_path: Path) -> None:
    """Page by page and by state; a file is the very video; what is deleted is gone."""
    memory = MemoryBackend(TINY)
    memory.failures["bad"] = ModelFailed("the denoiser broke")
    with serving(tmp_path / "data", memory) as running, Longtake(running.url) as client:
        done = client.generate(chain(stage("good")))
        good = str(done.chain_id)
        with pytest.raises(StageFailed) as caught:
            client.generate(chain(stage("bad")))
        bad = str(caught.value.chain_id)
        with pytest.raises(StageFailed):
            client.result(bad)
        assert [one.id for one in client.list()] == [bad, good]
        assert [one.id for one in client.list(limit=1)] == [bad]
        assert [(one.id, one.prompt) for one in client.list(state=ChainState.COMPLETED)] == [(good, "good")]
        assert client.download(good, tmp_path / "film.mp4").read_bytes() == done.video
        assert client.stage_video(good, 0)[4:8] == b"ftyp"
        for nothing in (lambda: client.stage_video(good, 7), lambda: client.download(bad, tmp_path / "none.mp4")):
            with pytest.raises(NotFound):
                nothing()
        assert [file.name for file in tmp_path.iterdir() if file.suffix == ".mp4"] == ["film.mp4"]
        client.delete(good)
        with pytest.raises(ChainNotFound):
            client.chain(good)
        assert [one.id for one in client.list()] == [bad]


def test_a_running_chain_is_not_deleted_and_a_full_queue_is_typed(tmp_path: Path) -> None:
    """Both are refusals with their own errors."""
    memory = MemoryBackend(TINY, step_seconds=0.1)
    request = chain(stage("a"), steps=50)
    with (
        serving(tmp_path, memory, max_running=1, max_queued=1) as running,
        Longtake(running.url, retries=QUICK) as client,
    ):
        ids = [client.submit(request).id for _ in range(2)]
        with pytest.raises(QueueFull) as caught:
            client.submit(request)
        assert caught.value.retry_after
        with pytest.raises(WrongState):
            client.delete(ids[0])
        for chain_id in ids:
            client.cancel(chain_id)
            assert client.wait(chain_id, timeout=30).state is ChainState.CANCELLED


def test_the_command_line_manages_the_servers_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the detached start to the deletion, with the beginning of the id alone."""
    monkeypatch.chdir(tmp_path)
    script = 'schema = "mold.chain.v1"\n[chain]\nsteps = 2\n[[stage]]\nprompt = "a fox"\nframes = 17\n'
    (tmp_path / "film.toml").write_text(script)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli.app, list(arguments))
        assert result.exit_code == cli.OK, result.output
        # The server in this process logs to the same place.
        return "\n".join(text for text in result.stdout.splitlines() if "request_id" not in text)

    with serving(tmp_path / "data", MemoryBackend(TINY)) as running:
        monkeypatch.setenv("LONGTAKE_SERVER", running.url)
        chain_id = run("render", "film.toml", "--detach").splitlines()[-1]
        run("chains", "watch", chain_id[:8])
        assert "a fox" in run("chains", "list")
        assert "completed" in run("chains", "show", chain_id[:8])
        saved = run("chains", "download", chain_id[:8]).splitlines()[-1]
        assert Path(saved).stat().st_size > 1000
        again = run("chains", "retake", chain_id[:8], "0").splitlines()[-1]
        run("chains", "watch", again)
        run("chains", "delete", chain_id[:8])
        assert "a fox" in run("chains", "list")
        assert f'"id": "{chain_id}"' not in run("chains", "list", "--json")
