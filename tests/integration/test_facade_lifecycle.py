"""Chains that outlive their client, their attempt or their server: each test starts servers of its own."""

import time
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest

from chains import JSON, chain, four, frames_of, stage
from facade_server import serving
from longtake import wire
from longtake.client import Longtake
from longtake.errors import ChainError, WrongState
from longtake.streams import Completion
from longtake.wire import ChainState, Transition
from longtake_facade.backend import ModelFailed, ModelOutOfMemory
from longtake_facade.memory import MemoryBackend
from served import TINY


def test_takes_render_side_by_side_up_to_the_instances(tmp_path: Path) -> None:
    """Three takes on two instances: two at a time, never three; smooth stages never overlap."""
    memory = MemoryBackend(TINY, instances=2, step_seconds=0.01)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        client.generate(chain(stage("a"), stage("b", 17, Transition.CUT), stage("c", 17, Transition.FADE), steps=5))
        assert memory.most == 2
        memory.most = 0
        client.generate(chain(stage("d"), stage("e"), stage("f"), steps=5))
        assert memory.most == 1


def test_a_client_that_goes_away_does_not_stop_its_chain(tmp_path: Path) -> None:
    """The result is there under the id of the header."""
    memory = MemoryBackend(TINY, step_seconds=0.02)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        with client.stream(four(steps=5)) as stream:
            next(iter(stream))
            chain_id = stream.chain_id
        assert chain_id is not None
        assert client.chain(chain_id).state is ChainState.RUNNING
        done = client.result(chain_id) if _ended(client, chain_id) else None
        assert done is not None
        assert len(frames_of(done)) == 62


def _ended(client: Longtake, chain_id: str) -> bool:
    """Follow a chain to its end."""
    with client.events(chain_id) as events:
        return isinstance(list(events)[-1], Completion)


def test_a_cancelled_chain_stops_within_the_step(tmp_path: Path) -> None:
    """Its finished stages stay playable, it ends with the error CANCELLED, and a second cancel is refused."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client, httpx2.Client() as http:
        with client.stream(chain(stage("a"), stage("b"), steps=10)) as stream:
            events = iter(stream)
            for event in events:
                if isinstance(event, wire.DenoiseStep) and event.stage_idx == 1:
                    break
            chain_id = stream.chain_id
            assert chain_id is not None
            client.cancel(chain_id)
            with pytest.raises(ChainError) as caught:
                list(events)
        assert caught.value.code == "CANCELLED"
        steps = memory.steps
        time.sleep(0.2)
        assert memory.steps - steps <= 1
        detail = client.chain(chain_id)
        assert detail.state is ChainState.CANCELLED
        assert [one.state for one in detail.stages] == ["done", "pending"]
        assert http.get(f"{running.url}{detail.stages[0].video_url}").content[4:8] == b"ftyp"
        with pytest.raises(WrongState):
            client.cancel(chain_id)


def test_a_stage_that_fails_says_which_and_keeps_the_others(tmp_path: Path) -> None:
    """The error event names it; the blocking endpoint answers 502; out of memory has a code of its own."""
    memory = MemoryBackend(TINY)
    memory.failures["bad"] = ModelFailed("the denoiser broke")
    memory.failures["large"] = ModelOutOfMemory("not enough memory")
    with serving(tmp_path, memory) as running, Longtake(running.url) as client, httpx2.Client() as http:
        with pytest.raises(ChainError) as caught:
            client.generate(chain(stage("good"), stage("bad")))
        assert (caught.value.code, caught.value.failed_stage_idx) == ("STAGE_FAILED", 1)
        assert caught.value.elapsed_stages == 1
        assert caught.value.resumable
        body = msgspec.json.encode(chain(stage("large")))
        answer = http.post(f"{running.url}/api/generate/chain", content=body, headers=JSON, timeout=30)
        failure = msgspec.json.decode(answer.content, type=wire.ChainFailure)
        assert (answer.status_code, failure.failed_stage_idx, failure.elapsed_stages) == (502, 0, 0)
        assert failure.stage_error == "not enough memory"
        assert client.chain(answer.headers["X-Chain-Id"]).state is ChainState.FAILED


def test_a_server_that_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was rendered before is not rendered again; the log has no gap and one end."""
    memory = MemoryBackend(TINY, step_seconds=0.05)
    request = chain(stage("a"), stage("b"), stage("c"), steps=6)
    with serving(tmp_path, memory) as running, Longtake(running.url) as client:
        accepted = client.submit(request)
        with client.events(accepted.id) as events:
            for event in events:
                if isinstance(event, wire.DenoiseStep) and event.stage_idx == 1:
                    break
    assert [job.prompt for job in memory.jobs] == ["a", "b"]
    with serving(tmp_path, memory) as running, Longtake(running.url) as client, httpx2.Client(timeout=30) as http:
        text = http.get(f"{running.url}/api/chains/{accepted.id}/events").text
        assert [job.prompt for job in memory.jobs] == ["a", "b", "b", "c"]
        numbers = [int(line[4:]) for line in text.split("\n") if line.startswith("id: ")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert text.count("event: complete") == 1
        assert text.count('"chain_start"') == 1
        assert [text.count(f'{{"type":"stage_done","stage_idx":{i}') for i in range(3)] == [1, 1, 1]
        assert '"stage_start","stage_idx":1,"attempt":2' in text
        resumed = frames_of(client.result(accepted.id))
        np.testing.assert_array_equal(resumed, frames_of(client.generate(request)))
