"""A real Triton with the tiny checkpoint, one for the whole session, and a look at what it has done."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from playwright.sync_api import Browser

from browser import chromium
from longtake.client import Longtake
from longtake_facade.embedded import EmbeddedTriton, embedded_triton
from longtake_facade.triton import TritonBackend, connect
from longtake_stages.contract import RENDERS_METRIC, STEPS_METRIC
from longtake_stages.profile import PROFILE_FILE, Profile
from serve_process import Serving, serve

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "tiny-ltx2"


@dataclass(frozen=True)
class Work:
    """What the denoisers have done since their server started, canaries aside."""

    steps: int
    renders: int


@dataclass(frozen=True)
class Meter:
    """Reads the models' counters."""

    url: str

    async def read(self) -> Work:
        """The counters, summed over the instances."""
        async with aiohttp.ClientSession() as session, session.get(self.url) as answer:
            text = await answer.text()
        return Work(_total(text, STEPS_METRIC), _total(text, RENDERS_METRIC))

    async def settled(self) -> Work:
        """The counters once nothing is being denoised any more."""
        now = await self.read()
        while True:
            await asyncio.sleep(1)
            before, now = now, await self.read()
            if before == now:
                return now


def _total(text: str, metric: str) -> int:
    return sum(int(float(value)) for value in re.findall(rf"^{metric}\{{.*\}} (\S+)$", text, re.MULTILINE))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default checkpoint, let to render clips so large that they take long."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-ltx2"
    shutil.copytree(CHECKPOINT, folder)
    profile = folder / PROFILE_FILE
    wider = msgspec.structs.replace(msgspec.json.decode(profile.read_bytes(), type=Profile), max_pixels=512 * 512)
    profile.write_bytes(msgspec.json.encode(wider))
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def triton(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedTriton]:
    """A server with two instances of every model."""
    folder = tmp_path_factory.mktemp("triton")
    async with embedded_triton(folder, checkpoint=str(tiny_checkpoint), instances=2) as server:
        yield server


@pytest_asyncio.fixture
async def backend(triton: EmbeddedTriton) -> AsyncIterator[TritonBackend]:
    """A connection of the test's own to the session's server."""
    opened = await connect(triton.grpc_address)
    yield opened
    await opened.close()


@pytest.fixture
def meter(triton: EmbeddedTriton) -> Meter:
    """The counters of the session's server."""
    return Meter(triton.metrics_url)


@pytest.fixture(scope="module")
def server(triton: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A facade over the session's models, with data of its own."""
    with serve(tmp_path_factory.mktemp("server") / "data", "--triton", triton.grpc_address) as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[Longtake]:
    """A client of ``server``."""
    with Longtake(server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium; every test has a context of its own in it. While it is open, no asynchronous test can run."""
    with chromium() as opened:
        yield opened
