"""``longtake chains`` and ``render --detach`` against a server on a socket."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

import longtake.cli as cli
from longtake import wire
from longtake.client import Longtake
from longtake.retry import Retries
from wire_server import CHAIN_ID, PROGRESS, WireServer, as_json, event, send, stream_bytes, threaded_server

OTHERS = ["chain-2-of-old", "chain-3-of-old", "other-1"]


class Line:
    """The command line with a server in its environment."""

    def __init__(self, server: WireServer) -> None:
        self.server = server
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        """Run a command; its status."""
        result = CliRunner().invoke(cli.app, list(arguments))
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        self.out, self.err = result.stdout, result.stderr
        return result.exit_code

    @property
    def sent(self) -> list[str]:
        """What the server was asked for."""
        return [f"{method} {path}" for method, path, _, _ in self.server.requests]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """In a folder with a script."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    quick = functools.partial(Longtake, retries=Retries(attempts=1, first_delay=0.01), reconnect_timeout=5)
    monkeypatch.setattr("longtake.outcome.Longtake", quick)
    (tmp_path / "film.toml").write_text('schema = "mold.chain.v1"\n[chain]\nprompt = "x"\ntotal_frames = 9\n')
    with threaded_server() as (server, url):
        server.others = OTHERS
        monkeypatch.setenv("LONGTAKE_SERVER", url)
        yield Line(server)


@pytest.mark.parametrize(
    "command", [["list"], ["retake", "chain-1", "0"], *([name, "chain-1"] for name in ("show", "watch", "cancel"))]
)
def test_without_a_server_the_command_says_what_is_missing(
    line: Line, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words: chains live on a server that runs."""
    monkeypatch.delenv("LONGTAKE_SERVER")
    assert line("chains", *command) == cli.BAD_INPUT
    assert "--server URL, or LONGTAKE_SERVER in the environment" in line.err


def test_a_list_is_a_table_or_json(line: Line) -> None:
    """Ids, states, prompts, frames, ages and expiries."""
    assert line("chains", "list") == cli.OK
    head, first, *rest = line.out.splitlines()
    assert head.split() == ["id", "state", "frames", "age", "expires", "prompt"]
    assert first.split()[:3] == ["chain-1", "completed", "9"]
    assert "a red circle" in first
    assert len(rest) == len(OTHERS)
    assert line("chains", "list", "--json", "--limit", "2", "--state", "failed") == cli.OK
    assert [chain["id"] for chain in json.loads(line.out)] == [CHAIN_ID, OTHERS[0]]
    assert line.sent[-1] == "GET /api/chains?limit=2&state=failed"
    assert line("chains", "list", "--state", "asleep") == cli.BAD_INPUT


def test_markup_in_a_prompt_is_text(line: Line) -> None:
    """A prompt is someone else's words: it cannot colour the table, or break it."""
    page = {
        "id": "c", "state": "running", "created_at": "2026-01-01T00:00:00Z", "prompt": "a [bold]b[/nonsense]\n c",
        "stage_count": 3, "stages_done": 1, "total_frames": 9, "output_format": "mp4", "events_url": "",
    }  # fmt: skip

    async def listed(_: web.Request) -> web.Response:
        return as_json({"chains": [page]})

    line.server.then(listed)
    assert line("chains", "list") == cli.OK
    assert "running 1/3" in line.out
    assert "a [bold]b[/nonsense] c" in line.out


def test_no_chains_is_no_failure(line: Line) -> None:
    """It is said beside the output."""

    async def listed(_: web.Request) -> web.Response:
        return as_json({"chains": []})

    line.server.then(listed)
    assert line("chains", "list") == cli.OK
    assert (line.out, line.err) == ("", "no chains\n")


def test_a_chain_is_shown_with_its_settings(line: Line) -> None:
    """As text for people and as JSON for programs."""
    assert line("chains", "show", CHAIN_ID) == cli.OK
    assert "stage  state  attempt  frames  in the video  prompt" in line.out
    for expected in (CHAIN_ID, "completed", "64x32, 24 frames a second", str(2**64 - 1)):
        assert expected in line.out
    assert line("chains", "show", CHAIN_ID, "--json") == cli.OK
    assert json.loads(line.out)["total_frames"] == 9


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cha", "'cha' is too short; give at least 4 characters"),
        ("chain-", "'chain-' is the beginning of 3 ids: chain-1, chain-2-of-old, chain-3-of-old"),
        ("nothing", "no chain's id begins with 'nothing'"),
    ],
)
def test_an_id_that_names_no_one_chain_is_bad_input(line: Line, given: str, message: str) -> None:
    """Nothing was done."""
    assert line("chains", "delete", given) == cli.BAD_INPUT
    assert message in line.err
    assert not any(sent.startswith("DELETE") for sent in line.sent)


def test_the_beginning_of_an_id_is_enough(line: Line) -> None:
    """Where no other begins so."""
    line.server.others = OTHERS[2:]
    assert line("chains", "cancel", "chai") == cli.OK
    assert line.sent[-1] == f"POST /api/chains/{CHAIN_ID}/cancel"
    assert line.err == f"chain {CHAIN_ID} is being cancelled; its finished stages are kept\n"
    assert line("chains", "delete", "chai", "--json") == cli.OK
    assert json.loads(line.out) == {"chain_id": CHAIN_ID}
    assert line.sent[-1] == f"DELETE /api/chains/{CHAIN_ID}"


def test_a_chain_is_watched_through_a_restart_to_its_end(line: Line) -> None:
    """Where the connection broke, it goes on; then it is said how to save the video."""

    async def cut(request: web.Request) -> web.StreamResponse:
        return await send(request, stream_bytes(line.server.video)[:300], abort=True)

    async def unavailable(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async def detail(request: web.Request) -> web.StreamResponse:
        return await line.server._usual(request)

    line.server.then(detail, cut, unavailable)
    assert line("chains", "watch", CHAIN_ID, "--json") == cli.OK
    shown = [json.loads(text) for text in line.out.splitlines()]
    assert [one["type"] for one in shown] == [*(kind.__struct_config__.tag for kind in PROGRESS), "complete"]
    assert "script" not in shown[-1]
    assert line("chains", "watch", CHAIN_ID) == cli.OK
    assert f"longtake chains download {CHAIN_ID}" in line.err


def test_watching_a_chain_that_failed_says_why(line: Line) -> None:
    """With the status of a failure."""

    async def detail(request: web.Request) -> web.StreamResponse:
        return await line.server._usual(request)

    async def failed(request: web.Request) -> web.StreamResponse:
        error = {"message": "stage 1 failed", "code": "STAGE_FAILED", "failed_stage_idx": 1, "stage_error": "bad luck"}
        return await send(request, event("error", 1, error))

    line.server.then(detail, failed)
    assert line("chains", "watch", CHAIN_ID) == cli.FAILED
    assert "error: stage 1 failed\nstage 1 failed: bad luck\n" in line.err


def test_resumes_and_retakes_say_how_to_watch(line: Line) -> None:
    """A retake prints the new chain's id, for programs."""
    assert line("chains", "resume", CHAIN_ID) == cli.OK
    assert f"chain {CHAIN_ID} goes on; to watch it: longtake chains watch {CHAIN_ID}" in line.err
    assert line("chains", "retake", CHAIN_ID, "1", "--prompt", "night") == cli.OK
    assert line.out == f"{CHAIN_ID}\n"
    assert line.server.requests[-1][3] == b'{"stage_idx":1,"prompt":"night"}'
    for command in (["resume", CHAIN_ID], ["retake", CHAIN_ID, "0", "--seed-offset", "3"]):
        assert line("chains", *command, "--json") == cli.OK
        assert json.loads(line.out)["id"] == CHAIN_ID


def test_a_video_is_downloaded_under_a_name_that_fits(line: Line) -> None:
    """Its own by default; what is there is not replaced unasked; a stage alone if wanted."""
    assert line("chains", "download", CHAIN_ID) == cli.OK
    assert line.out == "chain-1.mp4\n"
    assert Path("chain-1.mp4").read_bytes() == line.server.video
    assert line("chains", "download", CHAIN_ID) == cli.BAD_INPUT
    assert "--force replaces it" in line.err
    assert line("chains", "download", CHAIN_ID, "-o", "film.gif") == cli.BAD_INPUT
    assert line("chains", "download", CHAIN_ID, "-o", "none/film.mp4") == cli.BAD_INPUT
    assert line("chains", "download", CHAIN_ID, "--force", "--json") == cli.OK
    assert json.loads(line.out)["bytes"] == len(line.server.video)
    assert line("chains", "download", CHAIN_ID, "--stage", "1") == cli.OK
    assert line.out == "chain-1-stage-1.mp4\n"
    assert line("chains", "download", CHAIN_ID, "--stage", "7") == cli.FAILED


def test_a_detached_chain_goes_on_by_itself(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id is printed, and how to watch it; nothing is saved."""
    assert line("render", "film.toml", "--detach") == cli.OK
    assert line.out == f"{CHAIN_ID}\n"
    assert f"longtake chains watch {CHAIN_ID} --server http://127.0.0.1:" in line.err
    assert line("render", "film.toml", "--detach", "--json") == cli.OK
    assert json.loads(line.out)["id"] == CHAIN_ID
    assert set(line.sent) == {"POST /api/chains"}
    assert line("render", "film.toml", "--detach", "-o", "film.mp4") == cli.BAD_INPUT
    monkeypatch.delenv("LONGTAKE_SERVER")
    assert line("render", "film.toml", "--detach") == cli.BAD_INPUT
    assert "--detach: name a running server" in line.err


async def unasked(request: web.Request) -> web.Response:
    """The answer to /api/chains/validate of a server that does not have it."""
    return as_json(wire.ApiError(error="no such endpoint", code=wire.ErrorCode.NOT_FOUND), 404)


def test_render_says_beforehand_what_the_server_warns_of(line: Line) -> None:
    """Where the server can be asked; where it cannot, the chain is rendered all the same."""
    assert line("render", "film.toml", "-o", "a.mp4") == cli.OK
    assert line.err.startswith("warning: stages[1].negative_prompt: has no effect\n")
    assert line.sent[:2] == ["POST /api/chains/validate", "POST /api/generate/chain/stream"]
    line.server.then(unasked)
    assert line("render", "film.toml", "-o", "b.mp4") == cli.OK
    assert "warning" not in line.err
    assert Path("b.mp4").exists()


def test_a_server_that_stays_away_leaves_a_word_on_how_to_watch(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain goes on without its client."""
    monkeypatch.setattr("longtake.outcome.Longtake", functools.partial(Longtake, reconnect_timeout=0))

    async def cut(request: web.Request) -> web.StreamResponse:
        return await send(request, stream_bytes(line.server.video)[:300])

    line.server.then(unasked, cut)
    assert line("render", "film.toml") == cli.FAILED
    assert f"chain {CHAIN_ID} goes on; to watch it: longtake chains watch {CHAIN_ID}" in line.err
    assert "error: the stream ended before the chain did; gave up" in line.err
    assert not Path("film.mp4").exists()
