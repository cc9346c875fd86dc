"""What nothing may lose: chains resumed, retaken, removed, queued, and left behind by a server that was killed."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest

from chains import JSON, chain, frames_of, stage
from facade_server import Server, serving
from longtake import wire
from longtake.client import Longtake
from longtake.errors import ChainError, QueueFull, WrongState
from longtake.wire import ChainRequest, ChainState, Transition
from longtake_facade.backend import BackendUnavailable, ModelFailed
from longtake_facade.memory import MemoryBackend
from longtake_facade.normalise import normalise
from longtake_facade.storage import StoreInUse
from served import TINY


@contextmanager
def running(data: Path, backend: MemoryBackend, **settings: Any) -> Iterator[tuple[Server, Longtake, httpx2.Client]]:
    """A server, the client, and plain HTTP."""
    with (
        serving(data, backend, **settings) as server,
        Longtake(server.url) as client,
        httpx2.Client(base_url=server.url, timeout=30) as http,
    ):
        yield server, client, http


def log(http: httpx2.Client, chain_id: str) -> list[tuple[int, str, dict[str, Any]]]:
    """The whole event log of an ended chain: number, name, data."""
    blocks = [block for block in http.get(f"/api/chains/{chain_id}/events").text.split("\n\n") if "id: " in block]
    lines = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]
    return [(int(line["id"]), line["event"], msgspec.json.decode(line["data"])) for line in lines]


def until(client: Longtake, chain_id: str, kind: type, stage_idx: int) -> None:
    """Follow a chain until an event of a stage."""
    with client.events(chain_id) as events:
        next(event for event in events if isinstance(event, kind) and getattr(event, "stage_idx", None) == stage_idx)


# ---------------------------------------------------------------------------------------------- resume and retake


def test_a_cancelled_chain_resumes_to_the_result_of_an_undisturbed_one(tmp_path: Path) -> None:
    """Only what is missing is rendered; the log goes on without gap, with one end; the earlier end says ``stopped``."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    request = chain(stage("a"), stage("b"), stage("c", 17, Transition.FADE, fade_frames=4), steps=8)
    with running(tmp_path / "one", memory) as (_, client, http):
        accepted = client.submit(request)
        until(client, accepted.id, wire.DenoiseStep, 1)
        client.cancel(accepted.id)
        with pytest.raises(ChainError):
            client.result(accepted.id)
        done = {job.prompt for job in memory.jobs} - {"b"}
        assert client.chain(accepted.id).expires_at is not None
        assert client.resume(accepted.id).state in (ChainState.QUEUED, ChainState.RUNNING)
        resumed = client.result(accepted.id)
        assert [job.prompt for job in memory.jobs].count("b") == 2
        assert all([job.prompt for job in memory.jobs].count(prompt) <= 2 for prompt in done)
        assert [job.prompt for job in memory.jobs].count("a") == 1
        entries = log(http, accepted.id)
        assert [n for n, _, _ in entries] == list(range(1, len(entries) + 1))
        assert [name for _, name, _ in entries if name != "progress"] == ["complete"]
        assert [data["code"] for _, _, data in entries if data.get("type") == "stopped"] == ["CANCELLED"]
        done_once = [data["stage_idx"] for _, _, data in entries if data.get("type") == "stage_done"]
        assert sorted(done_once) == [0, 1, 2]
        assert client.chain(accepted.id).attempt == 2
        with pytest.raises(WrongState):
            client.resume(accepted.id)
    with running(tmp_path / "other", MemoryBackend(TINY)) as (_, client, _http):
        np.testing.assert_array_equal(frames_of(resumed), frames_of(client.generate(request)))


def test_a_failed_chain_resumes_when_the_cause_is_gone(tmp_path: Path) -> None:
    """The stages before it are kept and playable meanwhile."""
    memory = MemoryBackend(TINY)
    memory.failures["b"] = ModelFailed("broken")
    with running(tmp_path, memory) as (_, client, http):
        accepted = client.submit(chain(stage("a"), stage("b")))
        with pytest.raises(ChainError, match="broken"):
            client.result(accepted.id)
        detail = client.chain(accepted.id)
        assert detail.error is not None
        assert detail.error.resumable
        assert http.get(detail.stages[0].video_url or "").status_code == 200
        del memory.failures["b"]
        client.resume(accepted.id)
        assert client.result(accepted.id).frames == 25
        assert client.chain(accepted.id).error is None
        assert [job.prompt for job in memory.jobs] == ["a", "b", "b"]


def test_a_retake_renders_the_stage_and_the_smooth_ones_after_it(tmp_path: Path) -> None:
    """The rest is reused, and the old chain stays as it is."""
    memory = MemoryBackend(TINY)
    request = chain(stage("a"), stage("b"), stage("c"), stage("d", 17, Transition.CUT), output_format="apng")
    with running(tmp_path, memory) as (_, client, _http):
        old = client.generate(request)
        assert old.chain_id is not None
        del memory.jobs[:]
        accepted = client.retake(old.chain_id, 1, prompt="other")
        assert accepted.id != old.chain_id
        new = client.result(accepted.id)
        assert [job.prompt for job in memory.jobs] == ["other", "c"]
        assert client.chain(accepted.id).retake_of == old.chain_id
        before, after = frames_of(old), frames_of(new)
        np.testing.assert_array_equal(before[:17], after[:17])
        np.testing.assert_array_equal(before[-17:], after[-17:])
        assert not np.array_equal(before[17:25], after[17:25])
        again = client.result(old.chain_id)
        assert again.video_data().data == old.video


def test_a_retake_without_a_prompt_draws_another_seed(tmp_path: Path) -> None:
    """And keeps the prompt; a given offset is used as it is."""
    memory = MemoryBackend(TINY)
    with running(tmp_path, memory) as (_, client, _http):
        old = client.generate(chain(stage("a"), stage("b", 17, Transition.CUT)))
        assert old.chain_id is not None
        drawn = client.result(client.retake(old.chain_id, 1).id).script
        assert drawn.stage[1].prompt == "b"
        assert drawn.stage[1].seed_offset is not None
        given = client.result(client.retake(old.chain_id, 1, seed_offset=7).id).script
        assert given.stage[1].seed_offset == 7
        assert given.chain == old.script.chain


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (b'{"stage_idx": 2}', "stage_idx"),
        (b'{"stage_idx": 0, "prompt": " "}', "stages[0].prompt"),
        (b'{"stage_idx": 0, "seed": 1}', "seed"),
        (b"{}", "stage_idx"),
    ],
)
def test_a_retake_that_cannot_be_is_refused_at_its_field(tmp_path: Path, body: bytes, path: str) -> None:
    """Before anything is rendered."""
    memory = MemoryBackend(TINY)
    with running(tmp_path, memory) as (_, client, http):
        old = client.generate(chain(stage("a"), stage("b")))
        calls = memory.calls
        answer = http.post(f"/api/chains/{old.chain_id}/retake", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["path"]) == (422, path)
        assert memory.calls == calls


# ------------------------------------------------------------------------------------------- removal and retention


def kept(server: Server, kind: str) -> list[str]:
    """The names of what the store holds of a kind."""
    return sorted(path.parent.name for path in (server.service.store.root / kind).glob("**/manifest.json"))


def test_files_go_with_the_last_chain_that_needs_them(tmp_path: Path) -> None:
    """A chain that shares stages with a removed one stays whole."""
    memory = MemoryBackend(TINY)
    shared = [stage("a"), stage("b", 17, Transition.FADE)]
    with running(tmp_path, memory) as (server, client, http):
        one = client.generate(chain(*shared, stage("c", 17, Transition.CUT)))
        other = client.generate(chain(*shared, stage("d", 17, Transition.CUT)))
        assert (len(kept(server, "stages")), len(kept(server, "fades"))) == (4, 1)
        assert http.delete(f"/api/chains/{one.chain_id}").status_code == 204
        assert (len(kept(server, "stages")), len(kept(server, "fades"))) == (3, 1)
        assert kept(server, "chains") == [other.chain_id]
        assert http.get(f"/api/chains/{one.chain_id}").status_code == 404
        assert client.result(other.chain_id or "").frames == other.frames
        assert http.get(f"/api/chains/{other.chain_id}/stages/0/video").status_code == 200
        client.delete(other.chain_id or "")
        assert [kept(server, kind) for kind in ("stages", "fades", "chains")] == [[], [], []]
        assert http.delete(f"/api/chains/{one.chain_id}").status_code == 404


def test_a_chain_that_runs_cannot_be_removed_or_retaken(tmp_path: Path) -> None:
    """409, and it goes on."""
    with running(tmp_path, MemoryBackend(TINY, step_seconds=0.05)) as (_, client, http):
        accepted = client.submit(chain(stage("a"), steps=10))
        until(client, accepted.id, wire.StageStart, 0)
        assert http.delete(f"/api/chains/{accepted.id}").json()["code"] == "WRONG_STATE"
        with pytest.raises(WrongState):
            client.retake(accepted.id, 0)
        with pytest.raises(WrongState):
            client.resume(accepted.id)
        assert client.result(accepted.id).frames == 17


def test_what_has_expired_is_tidied_away(tmp_path: Path) -> None:
    """By the setting; what has not expired stays."""
    memory = MemoryBackend(TINY)
    with running(tmp_path, memory, retention_days=1e-6) as (server, client, http):
        done = client.generate(chain(stage("a")))
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.1), server.loop).result()
        asyncio.run_coroutine_threadsafe(server.service.tidy(), server.loop).result()
        assert http.get(f"/api/chains/{done.chain_id}").status_code == 404
        assert kept(server, "stages") == []
    with running(tmp_path, memory) as (server, client, http):
        done = client.generate(chain(stage("a")))
        asyncio.run_coroutine_threadsafe(server.service.tidy(), server.loop).result()
        assert http.get(f"/api/chains/{done.chain_id}").status_code == 200


# ------------------------------------------------------------------------------------------------ list and queue


def test_chains_are_listed_newest_first_in_pages(tmp_path: Path) -> None:
    """The cursor goes on where the page ended, whatever was created meanwhile."""
    memory = MemoryBackend(TINY)
    memory.failures["bad"] = ModelFailed("broken")
    with running(tmp_path, memory) as (_, client, http):
        ids = [client.generate(chain(stage(f"s{i}", 9), steps=1)).chain_id for i in range(4)]
        with pytest.raises(ChainError):
            client.generate(chain(stage("bad", 9)))
        first = msgspec.json.decode(http.get("/api/chains?limit=3").content, type=wire.ChainList)
        assert [one.prompt for one in first.chains] == ["bad", "s3", "s2"]
        assert first.chains[0].error is not None
        assert first.chains[0].content_url is None
        client.generate(chain(stage("late", 9), steps=1))
        query = {"limit": "3", "cursor": first.next_cursor or ""}
        rest = msgspec.json.decode(http.get("/api/chains", params=query).content, type=wire.ChainList)
        assert [one.prompt for one in rest.chains] == ["s1", "s0"]
        assert rest.next_cursor is None
        failed = msgspec.json.decode(http.get("/api/chains?state=failed").content, type=wire.ChainList)
        assert [one.prompt for one in failed.chains] == ["bad"]
        assert [one.id for one in client.list(state="completed")][1:] == ids[::-1]
        for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"state": "lost"}, {"cursor": "?"}):
            answer = http.get("/api/chains", params=query)
            assert (answer.status_code, answer.json()["path"]) == (422, next(iter(query)))


def test_chains_wait_in_a_bounded_queue_and_move_up(tmp_path: Path) -> None:
    """One runs, two wait with their positions counting down, a fourth is answered 429 with Retry-After."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    with running(tmp_path, memory, max_running=1, max_queued=2) as (_, client, http):
        first = client.submit(chain(stage("0", 9), steps=10))
        until(client, first.id, wire.StageStart, 0)
        waiting = [client.submit(chain(stage(f"{i}", 9), steps=4)) for i in (1, 2)]
        body = msgspec.json.encode(chain(stage("3", 9)))
        answer = http.post("/api/chains", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (429, "QUEUE_FULL")
        assert int(answer.headers["Retry-After"]) > 0
        for accepted in (first, *waiting):
            client.result(accepted.id)
        positions = [
            [data["position"] for _, _, data in log(http, one.id) if data.get("type") == "queued"]
            for one in (first, *waiting)
        ]
        assert positions == [[], [0], [1, 0]]
        assert memory.most == 1
        assert http.post("/api/chains", content=body, headers=JSON).status_code == 202


def test_a_chain_cancelled_while_it_waits_never_runs(tmp_path: Path) -> None:
    """And those behind it move up."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    with running(tmp_path, memory, max_running=1) as (_, client, http):
        first = client.submit(chain(stage("0", 9), steps=10))
        until(client, first.id, wire.StageStart, 0)
        second, third = (client.submit(chain(stage(f"{i}", 9), steps=1)) for i in (1, 2))
        client.cancel(second.id)
        assert client.chain(second.id).state is ChainState.CANCELLED
        client.result(third.id)
        assert [job.prompt for job in memory.jobs] == ["0", "2"]
        moved = [data["position"] for _, _, data in log(http, third.id) if data.get("type") == "queued"]
        assert moved == [1, 0]


def test_the_client_says_that_the_queue_is_full(tmp_path: Path) -> None:
    """As an error of its own, with when to come back."""
    with running(tmp_path, MemoryBackend(TINY, step_seconds=0.2), max_running=1, max_queued=0) as (server, client, _):
        accepted = client.submit(chain(stage("0", 9), steps=20))
        from longtake.retry import Retries

        with Longtake(server.url, retries=Retries(attempts=1)) as impatient, pytest.raises(QueueFull) as caught:
            impatient.submit(chain(stage("1", 9)))
        assert caught.value.retry_after is not None
        client.cancel(accepted.id)


# ------------------------------------------------------------------------------------------------------ faults


class Flaky(MemoryBackend):
    """A backend that goes away for the prompt ``lost`` until it was revived ``times`` times."""

    def __init__(self, times: int) -> None:
        super().__init__(TINY)
        self.times = times
        self.failures["lost"] = BackendUnavailable("gone")

    async def revive(self) -> None:
        await super().revive()
        if self.revived == self.times:
            del self.failures["lost"]


def test_a_stage_is_begun_again_when_the_models_went_away(tmp_path: Path) -> None:
    """With ``attempt`` 2; nothing else is rendered twice."""
    flaky = Flaky(times=1)
    with running(tmp_path, flaky) as (_, client, http):
        done = client.generate(chain(stage("a"), stage("lost"), stage("c")))
        assert [job.prompt for job in flaky.jobs] == ["a", "lost", "lost", "c"]
        starts = [
            (data["stage_idx"], data.get("attempt", 1))
            for _, _, data in log(http, done.chain_id or "")
            if data.get("type") == "stage_start"
        ]
        assert starts == [(0, 1), (1, 1), (1, 2), (2, 1)]


def test_a_stage_whose_models_keep_going_away_fails_for_good(tmp_path: Path) -> None:
    """After three tries, as NO_BACKEND, and it can be resumed."""
    flaky = Flaky(times=4)
    with running(tmp_path, flaky) as (_, client, _http):
        accepted = client.submit(chain(stage("lost")))
        with pytest.raises(ChainError) as caught:
            client.result(accepted.id)
        assert caught.value.code == "NO_BACKEND"
        assert len(flaky.jobs) == 3
        flaky.failures.clear()
        client.resume(accepted.id)
        assert client.result(accepted.id).frames == 17


def test_a_full_disk_fails_the_chain_in_words_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was rendered before is kept."""
    memory = MemoryBackend(TINY)
    with running(tmp_path, memory) as (server, client, _http):
        commit = server.service.store.commit

        def full(written: Path, target: Path) -> Path:
            if len(memory.jobs) == 2:
                raise OSError(28, "No space left on device")
            return commit(written, target)

        monkeypatch.setattr(server.service.store, "commit", full)
        accepted = client.submit(chain(stage("a"), stage("b")))
        with pytest.raises(ChainError, match="No space left on device"):
            client.result(accepted.id)
        monkeypatch.undo()
        client.resume(accepted.id)
        assert client.result(accepted.id).frames == 25
        assert [job.prompt for job in memory.jobs] == ["a", "b", "b"]


def test_a_chain_that_was_written_but_never_queued_runs_at_the_next_start(tmp_path: Path) -> None:
    """A server that was killed between the two writes lost nothing."""
    memory = MemoryBackend(TINY)
    with running(tmp_path, memory) as (server, client, _http):
        service = server.service
        normalised = normalise(ChainRequest(stages=[stage("a")], steps=1), TINY, lambda: 1)
        draft = service._draft(normalised, [], secrets.token_bytes(8), None)
        asyncio.run_coroutine_threadsafe(service.registry.create(draft), server.loop).result()
    with running(tmp_path, memory) as (_, client, _http):
        assert client.result(draft.id).frames == 17


def test_two_servers_do_not_share_a_data_folder(tmp_path: Path) -> None:
    """The second one is refused: it would clear the first one's work away."""
    from longtake_facade.storage import Store

    store = Store(tmp_path)
    with pytest.raises(StoreInUse):
        Store(tmp_path)
    Store(tmp_path, node="another").close()
    store.close()
    Store(tmp_path).close()


def test_a_chain_goes_on_with_another_checkpoint(tmp_path: Path) -> None:
    """All its stages are rendered by the one it ends with, and removed with it; each is told done under its key."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    with running(tmp_path, memory) as (_, client, _http):
        accepted = client.submit(chain(stage("a"), stage("b"), steps=6))
        until(client, accepted.id, wire.DenoiseStep, 1)
    newer = MemoryBackend(msgspec.structs.replace(TINY, checkpoint_digest="f" * 64))
    with running(tmp_path, newer) as (server, client, http):
        assert client.result(accepted.id).frames == 25
        assert [job.prompt for job in newer.jobs] == ["a", "b"]
        assert http.get(f"/api/chains/{accepted.id}/stages/0/video").status_code == 200
        client.delete(accepted.id)
        assert kept(server, "stages") == []
