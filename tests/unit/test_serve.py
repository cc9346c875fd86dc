"""``longtake serve`` where it cannot serve: one line that says why, and an exit code."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import structlog

from longtake_facade import app
from longtake_facade import serve as module
from longtake_facade.backend import Backend, BackendUnavailable
from longtake_facade.memory import MemoryBackend
from longtake_facade.serve import serve
from longtake_facade.settings import Settings
from longtake_facade.storage import Store
from served import TINY


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def dead() -> int:
    """A port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``longtake serve`` in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "longtake_facade", "serve", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_triton_that_does_not_answer_is_waited_for_and_named(tmp_path: Path, dead: int) -> None:
    """Until the time for the start is over; then one line, code 1, and nothing on the standard output."""
    ended = command(tmp_path, "--triton", f"127.0.0.1:{dead}", LONGTAKE_START_TIMEOUT="0.1")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"longtake: Triton at 127.0.0.1:{dead} does not answer")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_listening_beyond_loopback_is_refused_at_once(tmp_path: Path) -> None:
    """As a mistake in the arguments, code 2; nothing is made in the folder."""
    ended = command(tmp_path, "--host", "0.0.0.0")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("longtake: host 0.0.0.0 is reachable by others")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------- in this process, over models in memory


class NoQueue:
    """Nothing comes to run."""

    def __init__(self, *_: object, **__: object) -> None: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...


class Unavailable(MemoryBackend):
    """Its models are loaded and do not answer."""

    async def canary(self) -> None:
        raise BackendUnavailable("the decoder is gone")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Any]:
    """Serve with models in memory, which has to fail; gives the code and the line that says why."""
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o022)

    def run(backend: Backend | None = None, **arguments: Any) -> tuple[object, str]:
        @asynccontextmanager
        async def models(_: Settings) -> AsyncIterator[tuple[Backend, Awaitable[None]]]:
            # Should it come to serve, it ends at once, without an error.
            lost = asyncio.get_running_loop().create_future()
            lost.set_result(None)
            yield backend or MemoryBackend(TINY), lost

        monkeypatch.setattr(module, "_models", models)
        # DBOS would keep this test's captured stderr for the rest of the process.
        monkeypatch.setattr(app, "ChainQueue", NoQueue)
        with pytest.raises(SystemExit) as caught:
            serve(**arguments)
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = [one for one in err.splitlines() if not one.startswith("{")]
        return caught.value.code, line

    yield run
    os.umask(umask)
    structlog.reset_defaults()


def test_a_port_that_is_taken_is_named(refused: Any, taken: int) -> None:
    """With the reason of the system."""
    code, line = refused(port=taken)
    assert code == 1
    assert line == f"longtake: cannot listen on 127.0.0.1:{taken}: Address already in use" or str(taken) in line


def test_models_that_do_not_answer_are_named(refused: Any) -> None:
    """They were there, and their first canary did not come back."""
    code, line = refused(Unavailable(TINY), port=0)
    assert (code, line) == (1, "longtake: the models do not answer: the decoder is gone")


def test_a_data_folder_that_is_in_use_is_named(refused: Any, tmp_path: Path) -> None:
    """Another server would clear its work away."""
    with closing(Store(tmp_path / "data")):
        code, line = refused(port=0, data=tmp_path / "data")
    assert code == 1
    assert "another server uses the data folder" in line


def test_a_data_folder_that_cannot_be_made_is_named(refused: Any, tmp_path: Path) -> None:
    """Something else has its name."""
    (tmp_path / "data").write_text("a file")
    code, line = refused(port=0, data=tmp_path / "data")
    assert code == 1
    assert line.startswith("longtake: cannot use the data folder")


@pytest.mark.parametrize("url", ["nonsense", "nonsense://host/name", "sqlite:////nowhere/at/all.db"])
def test_a_database_that_cannot_be_opened_is_named(refused: Any, url: str) -> None:
    """Without what a URL may hold beside its address."""
    code, line = refused(port=0, database=url)
    assert code == 1
    assert line.startswith("longtake: cannot open the database")


@pytest.mark.parametrize("arguments", [{"port": 70000}, {"instances": 0}, {"max_running": 0}])
def test_a_bad_value_is_named(refused: Any, arguments: dict[str, int]) -> None:
    """As the option is called."""
    code, line = refused(**arguments)
    assert code == 2
    assert line.startswith(f"longtake: {next(iter(arguments))}: ")
