"""A server that is killed again and again, at the worst moments, loses nothing and does nothing twice."""

import asyncio
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np

from acceptance.conftest import Meter
from acceptance.followers import Follower, Seen
from chains import JSON, chain, frames_of, stage
from longtake.client import AsyncLongtake, Longtake
from longtake.wire import ChainRequest, Transition
from longtake_facade.embedded import EmbeddedTriton
from ports import free_port
from serve_process import Serving, serve, start, stop

SEED = 20260
# When the server is killed, and how often. Between them it does what it likes.
MOMENTS = {"queueing": 4, "denoising": 5, "decoding": 3, "committing": 3, "stitching": 3, "completing": 2}
# How long to wait for a moment to come before another chain is submitted that brings it.
PATIENCE = 10.0


def script(number: int) -> ChainRequest:
    """Two or three takes; every chain has stages of its own."""
    stages = [
        stage("harbour", 17),
        stage("fog", 25),
        stage("street", 17, Transition.CUT),
        stage("roof", 25, Transition.FADE, fade_frames=5),
        stage("dawn", 17),
    ]
    return chain(*stages[: 3 + number % 3], seed=1000 + number, steps=4)


@dataclass
class Torture:
    """The server, what it was asked for, and what was seen of it from outside."""

    data: Path
    options: tuple[str, ...]
    url: str
    random: random.Random
    server: Serving
    followers: list[Follower] = field(default_factory=list)
    following: list[asyncio.Task[None]] = field(default_factory=list)
    # Folder of a stage → inode and time of its manifest, as they were when it was first seen.
    committed: dict[Path, tuple[int, int]] = field(default_factory=dict)
    # Key of a stage → the lengths of all logs when a dead server had first left it in the store.
    lengths: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def events(self) -> list[Seen]:
        """What all followers have seen."""
        return [event for follower in self.followers for event in follower.seen]

    async def submit(self, *, kill: bool = False) -> None:
        """Submit one more chain; with ``kill`` the server dies meanwhile and the client asks again with its key."""
        number = len(self.followers)
        body = msgspec.json.encode(script(number))
        headers = {**JSON, "Idempotency-Key": f"chain-{number}"}
        async with aiohttp.ClientSession() as session:
            if kill:
                asking = asyncio.create_task(self._ask(session, body, headers))
                await asyncio.sleep(self.random.uniform(0, 0.06))
                await self.restart()
                with suppress(aiohttp.ClientError):
                    await asking
            chain_id = (await self._ask(session, body, headers))["id"]
        follower = Follower(self.url, chain_id)
        self.followers.append(follower)
        self.following.append(asyncio.create_task(follower.run()))

    async def _ask(self, session: aiohttp.ClientSession, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        async with session.post(f"{self.url}/api/chains", data=body, headers=headers) as answer:
            assert answer.status == 202, await answer.text()
            answered: dict[str, Any] = await answer.json()
            return answered

    async def restart(self) -> None:
        """Kill the server, look at what it left, and start it again."""
        await asyncio.to_thread(self.server.kill)
        stop(self.server)
        self.look()
        self.server = await asyncio.to_thread(start, self.data, *self.options)

    def look(self) -> None:
        """Remember what is in the store, and up to where the logs are."""
        for manifest in self.data.glob("stages/*/*/manifest.json"):
            fact = manifest.stat()
            identity = (fact.st_ino, fact.st_mtime_ns)
            assert self.committed.setdefault(manifest.parent, identity) == identity, "a stage was written twice"
        lengths = dict(self.query("SELECT id, events FROM longtake_chains"))
        for folder in self.committed:
            self.lengths.setdefault(folder.name, lengths)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the server's database."""
        with closing(sqlite3.connect(self.data / "longtake.db")) as database:
            return database.execute(sql).fetchall()

    async def until(self, moment: str) -> None:
        """Wait for a moment; submit another chain when none comes."""
        reached = getattr(self, f"_{moment}")()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    while not reached():  # noqa: ASYNC110 - a folder that appears sets no event
                        await asyncio.sleep(0.002)
                    return
            await self.submit()

    def _denoising(self) -> Callable[[], bool]:
        return self._heard(lambda data: data["type"] == "denoise_step" and data["step"] < data["total"])

    def _decoding(self) -> Callable[[], bool]:
        return self._heard(lambda data: data["type"] == "denoise_step" and data["step"] == data["total"])

    def _stitching(self) -> Callable[[], bool]:
        return self._heard(lambda data: data["type"] == "stitching")

    def _heard(self, wanted: Callable[[dict[str, Any]], bool]) -> Callable[[], bool]:
        def count() -> int:
            return sum(event.name == "progress" and wanted(event.data) for event in self.events)

        before = count()
        return lambda: count() > before

    def _committing(self) -> Callable[[], bool]:
        return self._grown("stages/*/*")

    def _completing(self) -> Callable[[], bool]:
        return self._grown("chains/*")

    def _grown(self, pattern: str) -> Callable[[], bool]:
        """The folder is in its place; the row does not say so yet."""
        before = len(list(self.data.glob(pattern)))
        return lambda: len(list(self.data.glob(pattern))) > before


async def tortured(data: Path, options: tuple[str, ...], moments: list[str], seed: int) -> Torture:
    """Start a server and kill it at the moments, in this order; returns when every chain has ended."""
    port = free_port()
    options = (*options, "--port", str(port))
    server = await asyncio.to_thread(start, data, *options)
    torture = Torture(data, options, f"http://127.0.0.1:{port}", random.Random(seed), server)
    try:
        await torture.submit()
        for moment in moments:
            if moment == "queueing":
                await torture.submit(kill=True)
            else:
                await torture.until(moment)
                if moment not in ("committing", "completing"):
                    await asyncio.sleep(torture.random.uniform(0, 0.08))
                await torture.restart()
        async with asyncio.timeout(120):
            await asyncio.gather(*torture.following)
    finally:
        for task in torture.following:
            task.cancel()
        await asyncio.gather(*torture.following, return_exceptions=True)
    return torture


async def check_log(torture: Torture, follower: Follower) -> None:
    """Numbered without gap, told once, ended once; the same for who followed and who comes late."""
    late = Follower(torture.url, follower.chain_id)
    await late.run()
    assert follower.seen == late.seen
    assert [event.n for event in late.seen] == list(range(1, len(late.seen) + 1))
    assert [event.name for event in late.seen if event.name != "progress"] == ["complete"]
    told = [(event.n, event.data) for event in late.seen if event.name == "progress"]
    done = [data["stage_idx"] for _, data in told if data["type"] == "stage_done"]
    assert sorted(done) == list(range(late.seen[-1].data["stage_count"]))
    rows = torture.query(f"SELECT stage_idx, key FROM longtake_stages WHERE chain_id = '{follower.chain_id}'")
    for index, key in rows:
        kept_at = torture.lengths.get(key, {}).get(follower.chain_id, len(late.seen))
        begun = [n for n, data in told if data["type"] == "stage_start" and data["stage_idx"] == index]
        assert max(begun) <= kept_at, "a stage was begun again that was in the store"


async def test_twenty_kills_lose_nothing_and_render_nothing_twice(
    triton: EmbeddedTriton, meter: Meter, tmp_path: Path
) -> None:
    """Every chain completes with the frames of an undisturbed run, and its log is whole for who followed it."""
    print(f"seed {SEED}")  # noqa: T201 - shown where the test fails
    moments = [moment for moment, count in MOMENTS.items() for _ in range(count)]
    random.Random(SEED).shuffle(moments)
    before = await meter.settled()
    torture = await tortured(tmp_path / "data", ("--triton", triton.grpc_address), moments, SEED)
    try:
        rendered = (await meter.settled()).renders - before.renders
        torture.look()
        stages = 0
        results = []
        async with AsyncLongtake(torture.url) as client:
            for follower in torture.followers:
                await check_log(torture, follower)
                results.append(await client.result(follower.chain_id))
                stages += results[-1].stage_count
        # Beside what was kept, at most what two instances had under way at each kill.
        assert stages <= rendered <= stages + 2 * len(moments)
        assert len(torture.committed) == stages
        assert sum(event.data["type"] == "stage_start" for event in torture.events if event.name == "progress") > stages
    finally:
        await asyncio.to_thread(stop, torture.server)
    with serve(tmp_path / "undisturbed", "--triton", triton.grpc_address) as calm, Longtake(calm.url) as client:
        for number, result in enumerate(results):
            np.testing.assert_array_equal(frames_of(result), frames_of(client.generate(script(number))))
