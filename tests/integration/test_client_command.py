"""The command as a user runs it: in a process of its own, with servers that live, die and hang."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wire_server import CHAIN_ID

TESTS = Path(__file__).parents[1]

# A stand-in for the server's package, found before the installed one: it speaks the wire and keeps its contract.
FAKE_SERVER = """
import asyncio, os, subprocess, sys, time
from pathlib import Path
mode = os.environ.get("FAKE_MODE", "")
assert sys.argv[1:4] == ["serve", "--port", "0"] and sys.argv[4] == "--data", sys.argv
Path(os.environ["FAKE_NOTES"]).joinpath("data").write_text(sys.argv[5])
Path(os.environ["FAKE_NOTES"]).joinpath("pid").write_text(str(os.getpid()))
if mode == "dies":
    sys.exit("the model could not be loaded")
if mode == "lacks":
    import a_module_nobody_has
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
Path(os.environ["FAKE_NOTES"]).joinpath("child").write_text(str(sleeper.pid))
if mode == "hangs":
    time.sleep(120)
from aiohttp import web
from wire_server import PROGRESS, WireServer, event, send

async def stuck(request):
    response = await send(request, *(event("progress", n, data) for n, data in enumerate(PROGRESS[:4], 1)))
    Path(os.environ["FAKE_NOTES"]).joinpath("stuck").touch()
    while True:
        await response.write(b": ping\\n\\n")
        await asyncio.sleep(0.05)

async def main():
    server = WireServer()
    if mode == "stuck":
        usual = server._usual
        followed = ("stream", "events")
        server._usual = lambda request: (stuck if request.path.endswith(followed) else usual)(request)
    runner = web.AppRunner(server.app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print("loading the models", flush=True)
    print(f"longtake ready on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    while True:
        await asyncio.sleep(0.05)
        cancels = [path for _, path, _, _ in server.requests if path.endswith("/cancel")]
        if cancels:
            Path(os.environ["FAKE_NOTES"]).joinpath("cancelled").write_text(cancels[0])

asyncio.run(main())
"""

SCRIPT = """
schema = "mold.chain.v1"
[chain]
prompt = "a red circle"
total_frames = 9
"""


class Command:
    """Runs ``longtake`` in a folder of its own, with the stand-in as its installed server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.mkdir()
        package = folder / "packages" / "longtake_facade"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(FAKE_SERVER)
        (folder / "film.toml").write_text(SCRIPT)
        self.environment = {k: v for k, v in os.environ.items() if k != "LONGTAKE_SERVER"} | {
            "PYTHONPATH": os.pathsep.join([str(package.parent), str(TESTS)]),
            "FAKE_NOTES": str(self.notes),
            "TMPDIR": str(folder),
            "COLUMNS": "200",
        }

    def start(self, *arguments: str, mode: str = "") -> "subprocess.Popen[str]":
        """Start it and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "longtake", *arguments],
            cwd=self.folder,
            env=self.environment | {"FAKE_MODE": mode},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, mode: str = "") -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        with self.start(*arguments, mode=mode) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def wait_for(self, note: str) -> None:
        """Until the stand-in left a note."""
        wait_until(lambda: (self.notes / note).exists())

    def left_running(self) -> list[str]:
        """What the stand-in started that still runs, itself included."""
        pids = {name: self.notes / name for name in ("pid", "child")}
        return [name for name, file in pids.items() if file.exists() and alive(int(file.read_text()))]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    """Until it holds, for some seconds at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """The command; nothing it started outlives the test."""
    made = Command(tmp_path)
    yield made
    for name in made.left_running():
        os.kill(int((made.notes / name).read_text()), signal.SIGKILL)


def test_render_without_a_server_starts_one_and_stops_it(command: Command) -> None:
    """The file is named after the script; the facts say where the time went; nothing is left."""
    done = command.run("render", "film.toml", "--gif", "small.gif", "--thumbnail", "first.png")
    assert done.returncode == 0, done.stderr
    assert "warning: stages[1].negative_prompt: has no effect\n" in done.stderr
    assert (command.folder / "film.mp4").stat().st_size > 1000
    assert (command.folder / "small.gif").read_bytes() == b"GIF89a"
    assert (command.folder / "first.png").read_bytes() == b"\x89PNG"
    for phase in ("startup", "queue", "render", "stitch", "transfer"):
        assert f"{phase} " in done.stdout
    assert command.left_running() == []
    assert not Path((command.notes / "data").read_text()).exists()


def test_the_started_servers_data_is_kept_where_the_user_wants(command: Command) -> None:
    """With --data the folder is the user's."""
    done = command.run("render", "film.toml", "--data", "kept", "--json")
    assert done.returncode == 0, done.stderr
    assert (command.notes / "data").read_text() == "kept"
    found = json.loads(done.stdout)
    assert (found["file"], found["frames"], found["chain_id"]) == ("film.mp4", 9, CHAIN_ID)


def test_a_server_that_dies_at_its_start_is_reported_with_its_log(command: Command) -> None:
    """The reason is in what it wrote, not in a traceback of ours."""
    done = command.run("render", "film.toml", mode="dies")
    assert done.returncode == 1
    assert "ended with status 1 before it was ready" in done.stderr
    assert "the model could not be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_lacks_a_module_names_the_extra(command: Command) -> None:
    """The base installation has the server's code, but not what it needs."""
    done = command.run("render", "film.toml", mode="lacks")
    assert done.returncode == 1
    assert "longtake[embedded]" in done.stderr
    assert "a_module_nobody_has" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_never_gets_ready_is_stopped(command: Command) -> None:
    """The time-out is the user's to set; what the server started goes with it."""
    done = command.run("render", "film.toml", "--startup-timeout", "1.5", mode="hangs")
    assert done.returncode == 1
    assert "not ready within 1.5 s" in done.stderr
    assert command.left_running() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cancels_the_chain_and_leaves_nothing_running(command: Command, number: int) -> None:
    """Ctrl-C, or a SIGTERM, in the middle of a chain."""
    with command.start("render", "film.toml", mode="stuck") as process:
        command.wait_for("stuck")
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"chain {CHAIN_ID} is being cancelled" in err
    assert "Traceback" not in err
    assert command.left_running() == []
    assert not (command.folder / "film.mp4").exists()


def test_a_second_interruption_while_the_server_starts_is_no_worse(command: Command) -> None:
    """Interrupted before there is anything to cancel."""
    with command.start("render", "film.toml", mode="hangs") as process:
        command.wait_for("child")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert command.left_running() == []


def test_a_killed_command_takes_its_server_along(command: Command) -> None:
    """SIGKILL gives no chance to clean up; the server is told by the kernel."""
    with command.start("render", "film.toml", mode="stuck") as process:
        command.wait_for("stuck")
        process.kill()
        process.communicate(timeout=60)
    wait_until(lambda: "pid" not in command.left_running())


def test_a_started_server_that_dies_in_the_middle_is_reported_with_its_log(command: Command) -> None:
    """Not as a connection that broke: the user has no other server to look at."""
    with command.start("render", "film.toml", mode="stuck") as process:
        command.wait_for("stuck")
        os.kill(int((command.notes / "pid").read_text()), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the embedded server died (status -9)" in err
    assert "Traceback" not in err
    assert command.left_running() == []


@pytest.fixture
def mode() -> str:
    """How the running server behaves: with one stuck chain."""
    return "stuck"


@pytest.fixture
def running(command: Command, mode: str) -> Iterator[str]:
    """The address of a server that is not the command's own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "longtake_facade", "serve", "--port", "0", "--data", "d"],
        cwd=command.folder,
        env=command.environment | {"FAKE_MODE": mode},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "loading the models\n"
        yield process.stdout.readline().rpartition(" ")[2].strip()
        process.terminate()


@pytest.mark.parametrize("mode", [""])
def test_a_running_server_is_asked_for_its_limits_and_its_judgement(command: Command, running: str) -> None:
    """As text for people and as JSON for programs."""
    assert "frame grid: 8\n" in command.run("limits", "--server", running).stdout
    assert json.loads(command.run("limits", "--server", running, "--json").stdout)["model"] == "tiny"
    said = command.run("validate", "film.toml", "--server", running).stdout
    assert "2 stages, 9 frames, 0.38 s\n" in said
    assert "warning: stages[1].negative_prompt: has no effect\n" in said
    found = json.loads(command.run("validate", "film.toml", "--server", running, "--json").stdout)
    assert found["takes"] == [[0], [1]]


@pytest.mark.parametrize("mode", [""])
def test_a_reader_that_has_gone_is_no_failure_to_talk_about(command: Command, running: str) -> None:
    """As in ``longtake limits | head -1``."""
    with command.start("limits", "--server", running) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_interruption_cancels_on_a_running_server_and_says_how_to_watch(command: Command, running: str) -> None:
    """The server stays; the chain's events can still be seen."""
    with command.start("render", "film.toml", "--server", running) as process:
        command.wait_for("stuck")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    command.wait_for("cancelled")
    assert (command.notes / "cancelled").read_text() == f"/api/chains/{CHAIN_ID}/cancel"
    assert f"longtake chains watch {CHAIN_ID} --server {running}" in err
    assert "pid" in command.left_running()


def test_an_interruption_while_the_server_is_away_says_how_to_watch(command: Command, running: str) -> None:
    """The command waits for the server to come back until its user has enough; no traceback."""
    with command.start("render", "film.toml", "--server", running) as process:
        command.wait_for("stuck")
        time.sleep(0.3)
        os.kill(int((command.notes / "pid").read_text()), signal.SIGKILL)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"chain {CHAIN_ID} could not be cancelled" in err
    assert f"longtake chains watch {CHAIN_ID} --server {running}" in err
    assert "Traceback" not in err


def test_an_interruption_only_stops_watching(command: Command, running: str) -> None:
    """The chain goes on; nothing was cancelled."""
    with command.start("chains", "watch", CHAIN_ID, "--server", running) as process:
        command.wait_for("stuck")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"stopped watching; chain {CHAIN_ID} goes on" in err
    assert "Traceback" not in err
    assert not (command.notes / "cancelled").exists()


def test_a_dead_server_is_one_line(command: Command, unused_tcp_port: int) -> None:
    """Nothing listens there."""
    done = command.run("render", "film.toml", "--server", f"http://127.0.0.1:{unused_tcp_port}")
    assert done.returncode == 1
    assert f"error: no server at http://127.0.0.1:{unused_tcp_port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
