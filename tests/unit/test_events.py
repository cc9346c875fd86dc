"""The event log: every follower hears everything once, in order, whenever it comes and however slow it is."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake import wire
from longtake_facade import events
from longtake_facade.events import LogEntry, add_progress
from records import Records, failure, records

# Longer than any test: whoever depends on looking at the table now and then does not end.
NEVER = 3600.0


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Records]:
    monkeypatch.setattr(events, "_POLL_SECONDS", NEVER)
    with records(tmp_path) as opened:
        yield opened


def step(number: int) -> wire.DenoiseStep:
    return wire.DenoiseStep(stage_idx=0, step=number, total=1000)


async def append(kept: Records, chain_id: str, count: int) -> None:
    for i in range(count):
        await kept.log.progress(chain_id, step(i))


async def append_at_once(kept: Records, chain_id: str, count: int) -> None:
    """Many events in one transaction, unannounced, as another process would write them."""
    await kept.database.run(lambda connection: [add_progress(connection, chain_id, step(i)) for i in range(count)])


async def follow(kept: Records, chain_id: str, after: int = 0) -> list[LogEntry]:
    """Everything after ``after``, to the end."""
    async with aclosing(kept.log.follow(chain_id, after)) as entries:
        return [entry async for entry in entries]


async def until_followed(kept: Records, count: int = 1) -> None:
    """Wait until so many followers are there and wait themselves."""
    while sum(map(len, kept.log._followers.values())) < count:  # noqa: ASYNC110 - the log tells nobody who follows
        await asyncio.sleep(0)
    await kept.database.run(lambda _: None)
    await asyncio.sleep(0.01)


def numbers(entries: list[LogEntry]) -> list[int]:
    return [entry.n for entry in entries]


async def test_concurrent_writers_number_without_gap_or_repeat(kept: Records) -> None:
    """Each chain counts from 1 on its own, and the chain knows the number of its last event."""
    chains = [(await kept.new()).id for _ in range(2)]
    await asyncio.gather(*(append(kept, chain_id, 10) for chain_id in chains for _ in range(5)))
    for chain_id in chains:
        await kept.registry.fail(chain_id, failure())
        assert numbers(await follow(kept, chain_id)) == list(range(1, 52))
        assert await kept.registry.last_event(chain_id) == 51


@pytest.mark.parametrize("after", [0, 1, 5, 10])
async def test_a_follower_of_an_ended_chain_hears_the_rest(kept: Records, after: int) -> None:
    """From the start or from the middle; the terminal event is the last."""
    chain_id = (await kept.new()).id
    await append(kept, chain_id, 10)
    await kept.registry.fail(chain_id, failure())
    entries = await follow(kept, chain_id, after)
    assert numbers(entries) == list(range(after + 1, 12))
    assert [entry.name for entry in entries] == ["progress"] * (10 - after) + ["error"]
    assert msgspec.json.decode(entries[-1].data, type=wire.ChainError) == failure()


async def test_a_follower_past_the_end_waits_for_what_comes_after(kept: Records) -> None:
    """What is numbered up to there it does not hear."""
    chain_id = (await kept.new()).id
    await append(kept, chain_id, 2)
    following = asyncio.create_task(follow(kept, chain_id, 4))
    await until_followed(kept)
    await append(kept, chain_id, 4)
    await kept.registry.fail(chain_id, failure())
    assert numbers(await following) == [5, 6, 7]


async def test_events_carry_what_was_appended(kept: Records) -> None:
    """The JSON of the wire, and the same from the queue as from the table."""
    chain_id = (await kept.new()).id
    following = asyncio.create_task(follow(kept, chain_id))
    await until_followed(kept)
    await kept.log.progress(chain_id, step(3))
    await kept.registry.fail(chain_id, failure())
    live = await following
    assert live[0] == (1, "progress", b'{"type":"denoise_step","stage_idx":0,"step":3,"total":1000}')
    assert live == await follow(kept, chain_id)


async def test_a_replay_of_many_pages_is_read_without_waiting(kept: Records) -> None:
    """The end of a page is not the end of the log."""
    chain_id = (await kept.new()).id
    await append_at_once(kept, chain_id, 3 * events._PAGE + 1)
    await kept.registry.fail(chain_id, failure())
    assert numbers(await follow(kept, chain_id)) == list(range(1, 3 * events._PAGE + 3))


async def test_a_follower_far_behind_still_hears_everything(kept: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue overflows, the writer does not wait, and the terminal event is not lost with what did not fit."""
    monkeypatch.setattr(events, "_BACKLOG", 4)
    chain_id = (await kept.new()).id
    heard: list[LogEntry] = []
    async with aclosing(kept.log.follow(chain_id)) as entries:
        first = asyncio.ensure_future(anext(entries))
        await until_followed(kept)
        await append(kept, chain_id, 1)
        heard.append(await first)
        await append(kept, chain_id, 20)
        await kept.registry.fail(chain_id, failure())
        heard += [entry async for entry in entries]
    assert numbers(heard) == list(range(1, 23))
    assert heard[-1].name == "error"


async def test_a_slow_follower_does_not_hold_up_a_quick_one(kept: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a queue of its own."""
    monkeypatch.setattr(events, "_BACKLOG", 2)
    chain_id = (await kept.new()).id
    async with aclosing(kept.log.follow(chain_id)) as slow:
        waiting = asyncio.ensure_future(anext(slow))
        quick = asyncio.create_task(follow(kept, chain_id))
        await until_followed(kept, 2)
        await append(kept, chain_id, 10)
        await kept.registry.fail(chain_id, failure())
        assert numbers(await quick) == list(range(1, 12))
        assert (await waiting).n == 1


async def test_events_of_another_process_are_found_in_the_table(kept: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody announces them here."""
    monkeypatch.setattr(events, "_POLL_SECONDS", 0.01)
    chain_id = (await kept.new()).id
    following = asyncio.create_task(follow(kept, chain_id))
    await until_followed(kept)
    await append_at_once(kept, chain_id, 3)
    await kept.registry.fail(chain_id, failure())
    assert numbers(await following) == [1, 2, 3, 4]


async def test_a_follower_that_leaves_is_forgotten(kept: Records) -> None:
    """Whether it was cancelled while it waited, closed between events, or heard the end."""
    chain_id = (await kept.new()).id
    waits = asyncio.create_task(follow(kept, chain_id))
    await until_followed(kept)
    waits.cancel()
    await asyncio.wait([waits])
    assert not kept.log._followers
    await append(kept, chain_id, 2)
    async with aclosing(kept.log.follow(chain_id)) as entries:
        await anext(entries)
        assert kept.log._followers
    assert not kept.log._followers
    await kept.registry.fail(chain_id, failure())
    await follow(kept, chain_id)
    assert not kept.log._followers


async def test_a_change_and_its_event_are_written_together_or_not_at_all(kept: Records) -> None:
    """An event that cannot be written takes back the change that came with it."""
    chain_id = (await kept.new()).id

    def broken(connection: object) -> None:
        add_progress(connection, chain_id, step(1))  # type: ignore[arg-type]  # the connection as it came
        raise RuntimeError("after the event")

    with pytest.raises(RuntimeError, match="after the event"):
        await kept.database.run(broken)
    await kept.registry.fail(chain_id, failure())
    assert [entry.name for entry in await follow(kept, chain_id)] == ["error"]


ACTIONS = st.lists(st.one_of(st.just("append"), st.just("pause"), st.integers(0, 8)), max_size=14)


@settings(max_examples=15, deadline=None)
@given(actions=ACTIONS, backlog=st.integers(1, 4), page=st.integers(1, 4))
def test_followers_that_come_at_any_time_hear_every_event_once(
    actions: list[str | int], backlog: int, page: int
) -> None:
    """In whatever order events are appended and followers come, from wherever they begin."""

    async def play(kept: Records) -> None:
        chain_id = (await kept.new()).id
        followers: list[tuple[int, asyncio.Task[list[LogEntry]]]] = []
        writes: list[asyncio.Task[None]] = []
        for action in actions:
            if action == "append":
                writes.append(asyncio.create_task(append(kept, chain_id, 1)))
            elif action == "pause":
                await asyncio.gather(*writes)
            else:
                after = int(action)
                followers.append((after, asyncio.create_task(follow(kept, chain_id, after))))
                await asyncio.sleep(0)
        await asyncio.gather(*writes)
        await append(kept, chain_id, 9)
        await kept.registry.fail(chain_id, failure())
        for after, follower in followers:
            assert numbers(await follower) == list(range(after + 1, len(writes) + 11))

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        records(Path(folder)) as kept,
    ):
        for name, value in (("_BACKLOG", backlog), ("_PAGE", page), ("_POLL_SECONDS", NEVER)):
            patch.setattr(events, name, value)
        asyncio.run(play(kept))
