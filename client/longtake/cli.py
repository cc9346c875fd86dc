"""The command ``longtake``.

Exit status: 0 done, 1 failed, 2 bad input (a script, an option, a request the server refuses), 130 interrupted.
What a program may want to read goes to standard output, progress and errors to standard error.
"""

import contextlib
import enum
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console

from longtake.cli_chains import app as chains
from longtake.cli_chains import follow, how_to_watch
from longtake.client import Longtake
from longtake.display import ChainBars, Phases, facts, report
from longtake.embedded import STARTUP_TIMEOUT, embedded_server
from longtake.errors import (
    LongtakeError,
    MethodNotAllowed,
    NotFound,
    ProtocolError,
    TransportError,
    UnexpectedAnswer,
    VideoError,
)
from longtake.outcome import (
    BAD_INPUT,
    FAILED,
    INTERRUPTED,
    OK,
    BadInput,
    at,
    check_target,
    connect,
    console,
    print_json,
    reported,
    say,
)
from longtake.plugins import Commands
from longtake.preview import preview
from longtake.script import load
from longtake.streams import Completion
from longtake.video import SUFFIXES, VideoData, check_suffix
from longtake.wire import MAX_U64, ChainRequest

__all__ = ["BAD_INPUT", "FAILED", "INTERRUPTED", "OK", "app", "main"]

app = typer.Typer(
    name="longtake",
    cls=Commands,
    help="Render long videos from a script of prompts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.add_typer(chains, name="chains")


class Format(enum.StrEnum):
    """Formats a chain can be rendered in."""

    MP4 = "mp4"
    GIF = "gif"
    APNG = "apng"
    WEBP = "webp"


ScriptFile = Annotated[Path, typer.Argument(metavar="SCRIPT", help="A script in TOML.")]
Server = Annotated[
    str | None,
    typer.Option(envvar="LONGTAKE_SERVER", metavar="URL", help="A running server; without it one is started."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
Data = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where the started server keeps its work; default: removed at the end."),
]
StartupTimeout = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long the started server may take until it is ready.")
]


@app.command()
def render(
    script: ScriptFile,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: the script's name with the format's ending."),
    ] = None,
    server: Server = None,
    gif: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the small animated preview.")] = None,
    thumbnail: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the first frame (PNG).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_U64, help="In place of the script's.")] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="In place of the script's.")] = None,
    audio: Annotated[bool | None, typer.Option("--audio/--no-audio", help="In place of the script's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Only start it, and print its id.")] = False,
    data: Data = None,
    startup_timeout: StartupTimeout = STARTUP_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Render a script into a video file.

    Ctrl-C cancels the chain. On a server that runs, a connection that breaks is made again.

    \b
    Examples:
      longtake render film.toml -o film.mp4
      longtake render film.toml --server http://gpu:8080 --seed 7
      longtake render film.toml --server http://gpu:8080 --detach
    """
    with reported(as_json):
        request = _overridden(load(script), output, seed, format_, audio)
        if detach:
            if output or gif or thumbnail:
                raise BadInput("--detach saves no file; longtake chains download does, when the chain has completed")
            _detach(request, server, as_json)
            return
        target = output or Path(f"{script.stem}{SUFFIXES[request.output_format or 'mp4'][0]}")
        _check_targets(target, gif, thumbnail, request.output_format or "mp4", force)
        phases = Phases()
        with (
            ChainBars(console(), shown=not as_json) as bars,
            _client(server, data, startup_timeout, bars, phases) as client,
        ):
            video = _render(client, request, bars, phases, server).video_data()
        files = _save(video, target, gif, thumbnail)
        if as_json:
            print_json(files | facts(video) | {"seconds": {k: round(v, 3) for k, v in phases.rows()}})
        else:
            _show(video, phases, files)


@app.command()
def validate(script: ScriptFile, server: Server = None, as_json: AsJson = False) -> None:
    """Check a script. Without a server only its form is checked, not the model's rules.

    \b
    Examples:
      longtake validate film.toml
      longtake validate film.toml --server http://gpu:8080 --json
    """
    with reported(as_json):
        request = load(script)
        if server is None:
            if as_json:
                print_json({"request": msgspec.to_builtins(request), "checked": "form"})
            else:
                print(f"{script}: well formed; name a server to check it against the model's rules")
            return
        with connect(server) as client:
            found = client.validate(request)
        if as_json:
            print_json(msgspec.to_builtins(found))
            return
        print(f"{script}: {len(found.script.stage)} stages, {found.total_frames} frames, {found.seconds:.2f} s")
        for take in found.takes:
            print("  take: stages " + ", ".join(map(str, take)))
        for problem in found.warnings:
            print(f"  warning: {at(problem)}")


@app.command()
def limits(
    server: Server = None,
    model: Annotated[str | None, typer.Option(help="Default: the server's default model.")] = None,
    data: Data = None,
    startup_timeout: StartupTimeout = STARTUP_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Show what a server accepts.

    \b
    Example:
      longtake limits --server http://gpu:8080
    """
    with reported(as_json):
        with (
            ChainBars(console(), shown=not as_json and server is None) as bars,
            _client(server, data, startup_timeout, bars, Phases()) as client,
        ):
            found = msgspec.to_builtins(client.limits(model))
        if as_json:
            print_json(found)
            return
        for key, value in found.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{key.replace('_', ' ')}: {shown}")


def main() -> None:
    """The entry point of the command."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        # By this name also under `python -m`: it is the one that a shell completes.
        app(prog_name="longtake")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _overridden(
    request: ChainRequest, output: Path | None, seed: int | None, wanted: Format | None, audio: bool | None
) -> ChainRequest:
    changes: dict[str, Any] = {}
    if seed is not None:
        changes["seed"] = seed
    if audio is not None:
        changes["enable_audio"] = audio
    if wanted is not None:
        changes["output_format"] = wanted.value
    elif request.output_format is None and output is not None:
        named = [kind for kind, suffixes in SUFFIXES.items() if output.suffix.lower() in suffixes]
        changes["output_format"] = named[0] if named else None
    return msgspec.structs.replace(request, **changes)


def _check_targets(target: Path, gif: Path | None, thumbnail: Path | None, video_format: str, force: bool) -> None:
    """Refuse before any rendering what could not be written after it."""
    try:
        check_suffix(target, video_format)
    except VideoError as error:
        raise BadInput(f"--output: {error} (or choose another --format)") from error
    for option, path, suffix in (("--gif", gif, ".gif"), ("--thumbnail", thumbnail, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise BadInput(f"{option}: {path.name} must end in {suffix}")
    for option, path in (("--output", target), ("--gif", gif), ("--thumbnail", thumbnail)):
        if path is not None:
            check_target(option, path, force)


@contextlib.contextmanager
def _client(
    server: str | None, data: Path | None, startup_timeout: float, bars: ChainBars, phases: Phases
) -> Iterator[Longtake]:
    """A client of the named server, or of one that is started for it."""
    if server is not None:
        with connect(server) as client:
            yield client
        return
    phases.enter("startup")
    bars.status("starting a server")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(
            embedded_server(
                data,
                startup_timeout=startup_timeout,
                on_output=lambda line: bars.status(f"starting a server: {line[:80]}"),
            )
        )
        phases.enter("")
        # A proxy of the environment has no business between a process and its own child.
        # Nor does a server that died come back: there is nothing to wait for.
        yield stack.enter_context(Longtake(url, trust_env=False, reconnect_timeout=0))


def _render(client: Longtake, request: ChainRequest, bars: ChainBars, phases: Phases, server: str | None) -> Completion:
    """Render and watch; an interruption cancels the chain. ``server``: None where it goes with this run."""
    bars.status("sending")
    phases.enter("queue")
    _warn(client, request)
    with client.stream(request) as events:
        try:
            return follow(events, bars, phases)
        except KeyboardInterrupt:
            _cancel(client, events.chain_id, server)
            raise
        except (TransportError, ProtocolError):
            if events.chain_id and server:
                say(f"chain {events.chain_id} goes on; {how_to_watch(events.chain_id, server)}")
            raise


def _warn(client: Longtake, request: ChainRequest) -> None:
    """Say beforehand what a server thinks of a request: the stream has no place for it."""
    # A server that knows chains need not know this endpoint; what it has against the request, the stream will tell.
    with contextlib.suppress(NotFound, MethodNotAllowed, UnexpectedAnswer):
        for problem in client.validate(request).warnings:
            say(f"warning: {at(problem)}")


def _cancel(client: Longtake, chain_id: str | None, server: str | None) -> None:
    if chain_id is None:
        return
    say(f"cancelling chain {chain_id}")
    hint = f"; {how_to_watch(chain_id, server)}" if server else ""
    try:
        client.cancel(chain_id)
    except LongtakeError as error:
        say(f"chain {chain_id} could not be cancelled: {error}{hint}")
    else:
        say(f"chain {chain_id} is being cancelled; its finished stages are kept{hint}")


def _detach(request: ChainRequest, server: str | None, as_json: bool) -> None:
    if server is None:
        raise BadInput("--detach: name a running server with --server; one started here would end with this command")
    with connect(server) as client:
        accepted = client.submit(request)
    for problem in accepted.warnings:
        say(f"warning: {at(problem)}")
    if as_json:
        print_json(msgspec.to_builtins(accepted))
    else:
        print(accepted.id)
        say(how_to_watch(accepted.id, server))


def _show(video: VideoData, phases: Phases, files: dict[str, str]) -> None:
    out = Console(highlight=False)
    out.print(report(video, phases, files))
    if picture := preview(video.thumbnail, out):
        out.print("", picture, sep="\n")


def _save(video: VideoData, target: Path, gif: Path | None, thumbnail: Path | None) -> dict[str, str]:
    files = {"file": str(video.save(target))}
    if gif is not None:
        files["gif"] = str(video.save_gif(gif))
    if thumbnail is not None:
        files["thumbnail"] = str(video.save_thumbnail(thumbnail))
    return files
