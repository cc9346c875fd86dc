"""The chains of the database: every transition that is allowed, none that is not, and one end each."""

import asyncio
import io
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from PIL import Image

from chains import chain, stage
from longtake import wire
from longtake.wire import ChainState, ErrorCode, StageState
from longtake_facade.events import LogEntry
from longtake_facade.normalise import normalise
from longtake_facade.records import Reference, with_digests, with_images
from longtake_facade.registry import IdempotencyConflict, QueueFull, WrongState, stage_begins, stage_ends
from records import Records, completion, failure, records
from served import TINY

T = TypeVar("T")
CANCELLED = failure(ErrorCode.CANCELLED)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Records]:
    with records(tmp_path, max_running=2, max_queued=2) as opened:
        yield opened


async def log_of(kept: Records, chain_id: str) -> list[LogEntry]:
    """The events of a chain that has ended."""
    return [entry async for entry in kept.log.follow(chain_id)]


async def state_of(kept: Records, chain_id: str) -> ChainState:
    record = await kept.registry.get(chain_id)
    assert record is not None
    return record.state


# ---------------------------------------------------------------------------------------------------------- one chain


async def test_a_chain_is_read_as_it_was_written(kept: Records) -> None:
    """Its script, its warnings, a row for each stage; it waits."""
    request = chain(stage("a", negative_prompt="n"), stage("b"), seed=None)
    record = await kept.new(request)
    assert record == await kept.registry.get(record.id)
    assert (record.state, record.attempt, record.seed_drawn) == (ChainState.QUEUED, 1, True)
    assert record.script == normalise(request, TINY, draw_seed=lambda: 77).script
    assert [warning.path for warning in record.warnings] == ["stages[0].negative_prompt"]
    assert [(one.stage_idx, one.state, one.attempt, one.key) for one in record.stages] == [
        (0, StageState.PENDING, 0, None),
        (1, StageState.PENDING, 0, None),
    ]
    assert (record.started_at, record.finished_at, record.error, record.complete) == (None, None, None, None)
    assert await kept.registry.get("f" * 32) is None


async def test_a_chain_runs_and_completes(kept: Records) -> None:
    """It tells its start and its end, and keeps its result."""
    record = await kept.new()
    begun = await kept.registry.begin(record.id)
    assert begun is not None
    assert begun.state is ChainState.RUNNING
    assert begun.started_at is not None
    result = completion(record)
    assert await kept.registry.complete(record.id, result)
    ended = await kept.registry.get(record.id)
    assert ended is not None
    assert (ended.state, ended.complete, ended.error) == (ChainState.COMPLETED, result, None)
    assert ended.finished_at is not None
    start, complete = await log_of(kept, record.id)
    assert msgspec.json.decode(start.data, type=wire.ProgressEvent) == wire.ChainStart(
        stage_count=4, estimated_total_frames=62
    )
    assert complete == (2, "complete", msgspec.json.encode(result))


async def test_a_chain_that_was_left_running_begins_again_without_a_second_start(kept: Records) -> None:
    """As after a killed process."""
    record = await kept.new()
    first = await kept.registry.begin(record.id)
    again = await kept.registry.begin(record.id)
    assert first is not None
    assert again is not None
    assert again.started_at == first.started_at
    assert await kept.registry.last_event(record.id) == 1


async def test_a_chain_cancelled_while_it_waited_cannot_begin(kept: Records) -> None:
    """Nor does it start to tell anything after its end."""
    record = await kept.new()
    assert await kept.registry.fail(record.id, CANCELLED)
    assert await kept.registry.begin(record.id) is None
    assert await state_of(kept, record.id) is ChainState.CANCELLED
    assert [entry.name for entry in await log_of(kept, record.id)] == ["error"]


@pytest.mark.parametrize("end", ["complete", "fail", "cancel"])
async def test_a_chain_ends_once(kept: Records, end: str) -> None:
    """Whoever comes second is told so, and changes nothing."""
    record = await kept.new()
    await kept.registry.begin(record.id)
    await _end(kept, record.id, end)
    before = await kept.registry.get(record.id)
    assert not await kept.registry.fail(record.id, failure())
    assert not await kept.registry.fail(record.id, CANCELLED)
    assert not await kept.registry.complete(record.id, completion(record))
    assert await kept.registry.begin(record.id) is None
    assert await kept.registry.get(record.id) == before
    assert await kept.registry.last_event(record.id) == 2


async def _end(kept: Records, chain_id: str, end: str) -> bool:
    record = await kept.registry.get(chain_id)
    assert record is not None
    if end == "complete":
        return await kept.registry.complete(chain_id, completion(record))
    return await kept.registry.fail(chain_id, CANCELLED if end == "cancel" else failure())


async def test_many_ends_at_once_are_one(kept: Records) -> None:
    """Exactly one of them succeeds, and it is the one that the log has."""
    record = await kept.new()
    await kept.registry.begin(record.id)
    ends = ["complete", "fail", "cancel"] * 3
    done = await asyncio.gather(*(_end(kept, record.id, end) for end in ends))
    assert done.count(True) == 1
    assert [entry.name for entry in await log_of(kept, record.id)].count("progress") == 1
    assert await kept.registry.last_event(record.id) == 2


async def test_stages_change_with_the_events_that_tell_it(kept: Records) -> None:
    """Begun, and done with the key of its artifacts and the device."""
    record = await kept.new()
    await kept.log.progress(record.id, wire.StageStart(stage_idx=1), stage_begins(record.id, 1, 1))
    running = await kept.registry.get(record.id)
    await kept.log.progress(
        record.id, wire.StageDone(stage_idx=1, frames_emitted=25), stage_ends(record.id, 1, "k" * 64, 3)
    )
    done = await kept.registry.get(record.id)
    assert running is not None
    assert done is not None
    assert (running.stages[1].state, running.stages[1].attempt, running.done) == (StageState.RUNNING, 1, 0)
    assert (done.stages[1].state, done.stages[1].key, done.stages[1].device, done.done) == ("done", "k" * 64, 3, 1)
    assert done.stages[0].state is StageState.PENDING


# -------------------------------------------------------------------------------------------------------- many chains


async def test_an_idempotency_key_finds_its_chain(kept: Records) -> None:
    """Of the same body; another body is a conflict, and no key finds nothing."""
    first = await kept.new(key="k", body="1" * 64)
    assert (await kept.new(key="k", body="1" * 64)).id == first.id
    with pytest.raises(IdempotencyConflict):
        await kept.new(key="k", body="2" * 64)
    assert (await kept.new(body="1" * 64)).id != first.id


async def test_the_same_key_at_once_makes_one_chain(kept: Records) -> None:
    """However many ask."""
    found = await asyncio.gather(*(kept.new(key="k") for _ in range(5)))
    assert len({record.id for record in found}) == 1


async def test_more_than_may_wait_are_refused(kept: Records) -> None:
    """Those that wait know their position, and move up when one ends; a chain found by its key is not refused."""
    running = [await kept.new(key="first"), await kept.new()]
    for record in running:
        await kept.registry.begin(record.id)
    waiting = [await kept.new(), await kept.new()]
    with pytest.raises(QueueFull):
        await kept.new()
    assert (await kept.new(key="first")).id == running[0].id
    await kept.registry.fail(running[0].id, failure())
    for record in waiting:
        await kept.registry.fail(record.id, CANCELLED)
    heard = [msgspec.json.decode(entry.data)["position"] for entry in (await log_of(kept, waiting[1].id))[:-1]]
    assert heard[:2] == [1, 0]
    assert (await kept.new()).state is ChainState.QUEUED


async def test_chains_are_listed_newest_first(kept: Records) -> None:
    """By state, and page by page without a gap or a repeat."""
    ids = []
    for i in range(5):
        record = await kept.new()
        ids.append(record.id)
        await kept.registry.begin(record.id)
        await _end(kept, record.id, "complete" if i % 2 else "fail")
    assert [one.id for one in await kept.registry.newest(10)] == ids[::-1]
    assert [one.id for one in await kept.registry.newest(10, ChainState.COMPLETED)] == [ids[3], ids[1]]
    seen: list[str] = []
    before = None
    while page := await kept.registry.newest(2, before=before):
        seen += [one.id for one in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == ids[::-1]


async def test_a_resumed_chain_goes_on_in_its_log(kept: Records) -> None:
    """The end it had becomes ``stopped`` under its number; a completed chain cannot be resumed."""
    record = await kept.new()
    await kept.registry.begin(record.id)
    await kept.registry.fail(record.id, failure())
    resumed = await kept.registry.resume(record.id)
    assert (resumed.state, resumed.attempt, resumed.error, resumed.finished_at) == (ChainState.QUEUED, 2, None, None)
    await kept.registry.begin(record.id)
    await kept.registry.complete(record.id, completion(record))
    entries = await log_of(kept, record.id)
    assert [entry.n for entry in entries] == list(range(1, len(entries) + 1))
    assert msgspec.json.decode(entries[1].data) == {"type": "stopped", "code": "STAGE_FAILED"}
    assert [entry.name for entry in entries].count("complete") == 1
    with pytest.raises(WrongState, match="completed"):
        await kept.registry.resume(record.id)


async def test_a_deleted_chain_takes_along_what_nobody_else_needs(kept: Records) -> None:
    """What another chain refers to stays; one that has not ended is not deleted."""
    one = await kept.new(chain(stage("same"), stage("mine")))
    other = await kept.new(chain(stage("same"), stage("yours")))
    removed: list[Reference] = []
    with pytest.raises(WrongState, match="queued"):
        await kept.registry.delete(one.id, removed.extend)
    for record in (one, other):
        await kept.registry.fail(record.id, CANCELLED)
    await kept.registry.delete(one.id, removed.extend)
    assert [reference.kind for reference in removed] == ["stage"]
    await kept.registry.delete(other.id, removed.extend)
    assert [reference.kind for reference in removed] == ["stage"] * 3
    assert len(set(removed)) == 3
    assert await kept.registry.get(one.id) is None


# ------------------------------------------------------------------------------------------------------------- images


async def test_images_are_kept_as_digests_and_given_back(kept: Records) -> None:
    """In the row is what names them, in the store they are as sent."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    image = file.getvalue()
    request = chain(stage("a", source_image=image), stage("b"), stage("c", source_image=image))
    sent = normalise(request, TINY, draw_seed=lambda: 77).script
    record = await kept.new(request)
    digests = [one.source_image for one in record.script.stage]
    assert [digest and len(digest) for digest in digests] == [32, None, 32]
    assert with_images(record.script, kept.store) == sent
    assert with_digests(sent, kept.store) == record.script
    assert sent.stage[0].source_image == image


# --------------------------------------------------------------------------------------------------- any order of all


class Life(RuleBasedStateMachine):
    """Chains are moved about at random; a model of a few lines says what has to come of it."""

    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.opened = records(Path(self.folder.name), max_running=1, max_queued=100)
        self.kept = self.opened.__enter__()
        self.runner = asyncio.Runner()
        self.states: dict[str, ChainState] = {}
        self.resumed: dict[str, int] = {}

    def do(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return self.runner.run(wrapped())

    @rule(target=ids)
    def create(self) -> str:
        record = self.do(self.kept.new(chain(stage("a"))))
        self.states[record.id] = ChainState.QUEUED
        self.resumed[record.id] = 0
        return record.id

    @rule(chain_id=ids)
    def begin(self, chain_id: str) -> None:
        found = self.do(self.kept.registry.begin(chain_id))
        assert (found is None) is self.states[chain_id].ended
        if found is not None:
            self.states[chain_id] = ChainState.RUNNING

    @rule(chain_id=ids, end=st.sampled_from(["complete", "fail", "cancel"]))
    def end(self, chain_id: str, end: str) -> None:
        state = self.states[chain_id]
        could = state is ChainState.RUNNING if end == "complete" else not state.ended
        assert self.do(_end(self.kept, chain_id, end)) is could
        if could:
            ends = {"complete": ChainState.COMPLETED, "fail": ChainState.FAILED, "cancel": ChainState.CANCELLED}
            self.states[chain_id] = ends[end]

    @rule(chain_id=ids)
    def resume(self, chain_id: str) -> None:
        if self.states[chain_id] in (ChainState.FAILED, ChainState.CANCELLED):
            self.do(self.kept.registry.resume(chain_id))
            self.states[chain_id] = ChainState.QUEUED
            self.resumed[chain_id] += 1
            return
        with pytest.raises(WrongState):
            self.do(self.kept.registry.resume(chain_id))

    @invariant()
    def every_chain_is_where_the_model_says(self) -> None:
        for chain_id, state in self.states.items():
            assert self.do(state_of(self.kept, chain_id)) is state

    def teardown(self) -> None:
        for chain_id, state in self.states.items():
            if not state.ended:
                assert self.do(self.kept.registry.fail(chain_id, CANCELLED))
            entries = self.do(log_of(self.kept, chain_id))
            assert [entry.n for entry in entries] == list(range(1, len(entries) + 1))
            assert [entry.name for entry in entries if entry.name != "progress"] == [entries[-1].name]
            kinds = [msgspec.json.decode(entry.data).get("type") for entry in entries]
            assert kinds.count("stopped") == self.resumed[chain_id]
            assert kinds.count("chain_start") <= 1
        self.runner.close()
        self.opened.__exit__(None, None, None)
        self.folder.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=10, stateful_step_count=10, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
