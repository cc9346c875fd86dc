"""The command line in the process: options, refusals, what is printed."""

import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import longtake.cli as cli
from longtake import embedded, wire
from longtake.display import ChainBars, Phases
from longtake.errors import EmbeddedServerError
from longtake.retry import Retries
from longtake.streams import Completion
from wire_server import PROGRESS, complete

SCRIPT = 'schema = "mold.chain.v1"\n[chain]\nprompt = "x"\ntotal_frames = 9\n'


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # a function of strings
    """Runs a command in a folder with a script; returns its status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LONGTAKE_SERVER", raising=False)
    (tmp_path / "film.toml").write_text(SCRIPT)

    def runner(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli.app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return runner


def completion() -> Completion:
    """The chain's end."""
    return Completion(**{name: getattr(complete(b"x"), name) for name in wire.Complete.__struct_fields__})


def test_validate_without_a_server_checks_the_form(run) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """And says that this is all it did."""
    status, out, _ = run("validate", "film.toml")
    assert status == cli.OK
    assert "well formed" in out
    assert json.loads(run("validate", "film.toml", "--json")[1])["checked"] == "form"


def test_a_bad_script_is_bad_input_with_every_problem_on_a_line(run) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """At the field."""
    Path("film.toml").write_text(SCRIPT + "fsp = 1\nwidht = 3\n")
    status, out, err = run("validate", "film.toml")
    assert (status, out) == (cli.BAD_INPUT, "")
    assert 'chain.fsp: unknown key; did you mean "fps"?' in err
    assert 'chain.widht: unknown key; did you mean "width"?' in err
    status, out, err = run("validate", "film.toml", "--json")
    assert (status, err) == (cli.BAD_INPUT, "")
    assert [problem["path"] for problem in json.loads(out)["problems"]] == ["chain.fsp", "chain.widht"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "film.gif", "--format", "mp4"], "--output: film.gif: a video in mp4 is saved under"),
        (["-o", "film.txt"], "--output: film.txt"),
        (["-o", "none/film.mp4"], "--output: there is no folder none"),
        (["-o", "there.mp4"], "--force replaces it"),
        (["--gif", "a.mp4"], "--gif: a.mp4 must end in .gif"),
        (["--thumbnail", "a.jpg"], "--thumbnail: a.jpg must end in .png"),
        (["--server", "nonsense"], "--server: 'nonsense' is no address"),
        (["--seed", "-1"], "--seed"),
        (["--format", "avi"], "--format"),
    ],
)
def test_what_could_not_be_written_or_reached_is_refused_before_rendering(run, arguments, message) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """Bad input, named after its option; no server was started for it."""
    Path("there.mp4").touch()
    status, _, err = run("render", "film.toml", *arguments)
    assert status == cli.BAD_INPUT
    assert message in err


def test_the_formats_ending_chooses_the_format_where_the_script_does_not() -> None:
    """An option or the script goes before the name."""
    request = wire.ChainRequest(prompt="x")
    assert cli._overridden(request, Path("a.webp"), None, None, None).output_format == "webp"
    assert cli._overridden(request, Path("a.webp"), None, cli.Format.GIF, None).output_format == "gif"
    assert cli._overridden(request, None, 3, None, False) == wire.ChainRequest(prompt="x", seed=3, enable_audio=False)


def test_a_server_of_the_environment_is_used(run, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """LONGTAKE_SERVER stands for --server."""
    monkeypatch.setenv("LONGTAKE_SERVER", f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setattr("longtake.async_client.Retries", lambda: Retries(attempts=1))
    status, _, err = run("limits")
    assert status == cli.FAILED
    assert str(unused_tcp_port) in err


def test_phases_are_told_from_the_events() -> None:
    """Each second belongs to one phase; the transfer is taken from the stitching."""
    now = [0.0]
    phases = Phases(clock=lambda: now[0])

    def at(time: float, event: object, transfer: float = 0.0) -> None:
        now[0] = time
        phases.saw(event, transfer)  # type: ignore[arg-type]  # an event

    phases.enter("startup")
    now[0] = 3.0
    phases.enter("queue")
    at(5.0, wire.ChainStart(stage_count=1, estimated_total_frames=9))
    at(6.0, wire.StageStart(stage_idx=0))
    at(15.0, wire.Stitching(total_frames=9))
    at(20.0, completion(), 2.0)
    assert dict(phases.rows()) == {"startup": 3.0, "queue": 2.0, "render": 10.0, "stitch": 3.0, "transfer": 2.0}


def test_bars_show_the_chain_and_every_running_stage() -> None:
    """Whatever order the events of different stages come in, also after a resume."""
    screen = io.StringIO()
    bars = ChainBars(Console(file=screen, force_terminal=True, width=120))
    with bars:
        for event in [*PROGRESS[:6], wire.StageStart(stage_idx=0, attempt=2), *PROGRESS[6:], wire.Stopped(code="X")]:
            bars.show(event)
            bars._progress.refresh()
        bars.show(completion())
    text = screen.getvalue()
    for expected in (
        "next in the queue",
        "0 of 2 stages",
        "stage 1",
        "step 1/2",
        "attempt 2",
        "stitching 9 frames",
        "frame 9/9",
        "9 frames",
    ):
        assert expected in text


def fake_server(folder: Path, body: str) -> list[str]:
    """A command that behaves like a server's."""
    (folder / "serve.py").write_text("import os, signal, sys, time\n" + body)
    return [sys.executable, str(folder / "serve.py")]


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a grace period, with its whole session."""
    monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.2)
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "print('longtake ready on http://127.0.0.1:7', flush=True)\ntime.sleep(60)\n"
    )
    with embedded.embedded_server(tmp_path, command=fake_server(tmp_path, body)) as url:
        assert url == "http://127.0.0.1:7"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_a_server_that_prints_much_never_waits_for_a_reader(tmp_path: Path) -> None:
    """What it prints before it is ready is shown, what comes later is read and dropped."""
    body = (
        "print('loading', flush=True)\nprint('longtake ready on http://127.0.0.1:7', flush=True)\n"
        f"print('x' * 2**20, flush=True)\nopen({str(tmp_path / 'through')!r}, 'w').close()\ntime.sleep(60)\n"
    )
    lines: list[str] = []
    with embedded.embedded_server(tmp_path, command=fake_server(tmp_path, body), on_output=lines.append):
        while not (tmp_path / "through").exists():
            signal.sigtimedwait([], 0.01)
    assert lines == ["loading"]


def test_a_server_that_closes_its_output_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can never say that it is ready."""
    monkeypatch.setattr(embedded, "STOP_TIMEOUT", 0.2)
    body = "os.close(1)\ntime.sleep(60)\n"
    server = embedded.embedded_server(tmp_path, command=fake_server(tmp_path, body))
    with pytest.raises(EmbeddedServerError, match="closed its output"), server:
        pass


def test_a_server_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(EmbeddedServerError, match=r"longtake\[embedded\]"), embedded.embedded_server():
        pass
