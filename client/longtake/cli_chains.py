"""``longtake chains``: what can be done with the chains that a running server has."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from longtake import listing
from longtake.blocking import EventStream
from longtake.client import Longtake
from longtake.display import ChainBars, Phases
from longtake.errors import NotFound, StreamEnded, VideoError
from longtake.outcome import INTERRUPTED, BadInput, check_target, connect, console, fail, print_json, reported, say
from longtake.streams import Completion, Event
from longtake.video import check_suffix, write_whole
from longtake.wire import MAX_U64, ChainState

_SHORTEST_PREFIX = 4
_CANDIDATES = 5
_NOT_SHOWN = ("video", "thumbnail", "gif_preview", "script")

app = typer.Typer(help="List, watch and manage the chains of a running server.", no_args_is_help=True)

ChainId = Annotated[str, typer.Argument(metavar="ID", help="A chain's id, or the beginning of it that no other has.")]
Server = Annotated[str | None, typer.Option(envvar="LONGTAKE_SERVER", metavar="URL", help="The server; required.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]


@app.command("list")
def list_(
    state: Annotated[ChainState | None, typer.Option(help="Only chains in this state.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; default: all.")] = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """List chains, newest first.

    \b
    Examples:
      longtake chains list --server http://gpu:8080
      longtake chains list --state failed --limit 10 --json
    """
    with reported(as_json), _client(server) as (client, _):
        chains = list(client.list(state=state, limit=limit))
        if as_json:
            print_json(msgspec.to_builtins(chains))
        elif chains:
            Console(highlight=False).print(listing.table(chains, datetime.now(UTC)))
        else:
            say("no chains")


@app.command()
def show(chain: ChainId, server: Server = None, as_json: AsJson = False) -> None:
    """Show a chain and its stages.

    \b
    Example:
      longtake chains show 3f9c --server http://gpu:8080
    """
    with reported(as_json), _client(server) as (client, _):
        found = client.chain(_resolved(client, chain))
        if as_json:
            print_json(msgspec.to_builtins(found))
        else:
            Console(highlight=False).print(listing.detail(found))


@app.command()
def watch(chain: ChainId, server: Server = None, as_json: AsJson = False) -> None:
    """Watch a chain to its end; it may begin, or have ended, long before.

    A connection that breaks is made again, also to a server that was restarted. Ctrl-C only stops the watching. With
    --json every event is a line.

    \b
    Example:
      longtake chains watch 3f9c --server http://gpu:8080
    """
    with reported(as_json), _client(server) as (client, url):
        chain_id = _resolved(client, chain)
        try:
            with ChainBars(console(), shown=not as_json) as bars, client.events(chain_id) as events:
                done = follow(events, bars, Phases(), on_event=_print_event if as_json else None)
        except KeyboardInterrupt:
            message = f"stopped watching; chain {chain_id} goes on; {how_to_watch(chain_id, url)}"
            if not as_json:
                say(message)
                raise typer.Exit(INTERRUPTED) from None
            fail(message, {"chain_id": chain_id}, INTERRUPTED, as_json)
        if not as_json:
            say(f"chain {chain_id} is complete: {done.frames} frames")
            say(f"to save it: longtake chains download {chain_id} --server {url}")


@app.command()
def cancel(chain: ChainId, server: Server = None, as_json: AsJson = False) -> None:
    """Stop a chain; its finished stages are kept, and it can be resumed.

    \b
    Example:
      longtake chains cancel 3f9c --server http://gpu:8080
    """
    with reported(as_json), _client(server) as (client, _):
        chain_id = _resolved(client, chain)
        client.cancel(chain_id)
        _done(chain_id, "is being cancelled; its finished stages are kept", as_json)


@app.command()
def resume(chain: ChainId, server: Server = None, as_json: AsJson = False) -> None:
    """Go on with a chain that failed or was cancelled; only what is missing is rendered.

    \b
    Example:
      longtake chains resume 3f9c --server http://gpu:8080
    """
    with reported(as_json), _client(server) as (client, url):
        accepted = client.resume(_resolved(client, chain))
        if as_json:
            print_json(msgspec.to_builtins(accepted))
        else:
            say(f"chain {accepted.id} goes on; {how_to_watch(accepted.id, url)}")


@app.command()
def retake(
    chain: ChainId,
    stage: Annotated[int, typer.Argument(min=0, metavar="STAGE", help="The stage to render again, from 0.")],
    prompt: Annotated[str | None, typer.Option(help="In place of the stage's.")] = None,
    seed_offset: Annotated[
        int | None, typer.Option(min=0, max=MAX_U64, help="In place of the stage's; default: drawn, unless --prompt.")
    ] = None,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Render one stage again, and the smooth ones after it, as a new chain; prints the new chain's id.

    \b
    Examples:
      longtake chains retake 3f9c 2 --server http://gpu:8080
      longtake chains retake 3f9c 2 --prompt "the same street at night"
    """
    with reported(as_json), _client(server) as (client, url):
        accepted = client.retake(_resolved(client, chain), stage, prompt=prompt, seed_offset=seed_offset)
        if as_json:
            print_json(msgspec.to_builtins(accepted))
        else:
            typer.echo(accepted.id)
            say(how_to_watch(accepted.id, url))


@app.command()
def delete(chain: ChainId, server: Server = None, as_json: AsJson = False) -> None:
    """Delete a chain that has ended, and its files, for good.

    \b
    Example:
      longtake chains delete 3f9c --server http://gpu:8080
    """
    with reported(as_json), _client(server) as (client, _):
        chain_id = _resolved(client, chain)
        client.delete(chain_id)
        _done(chain_id, "is deleted", as_json)


@app.command()
def download(
    chain: ChainId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: the id with the format's ending.")
    ] = None,
    stage: Annotated[int | None, typer.Option(min=0, help="Only this stage's part, as mp4.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    server: Server = None,
    as_json: AsJson = False,
) -> None:
    """Save the video of a completed chain, or the part of a stage that is finished.

    \b
    Examples:
      longtake chains download 3f9c -o film.mp4 --server http://gpu:8080
      longtake chains download 3f9c --stage 2
    """
    with reported(as_json), _client(server) as (client, _):
        found = client.chain(_resolved(client, chain))
        video_format = found.script.chain.output_format if stage is None else "mp4"
        part = "" if stage is None else f"-stage-{stage}"
        target = output or Path(f"{found.id[: listing.SHORT_ID]}{part}.{video_format}")
        try:
            check_suffix(target, video_format)
        except VideoError as error:
            raise BadInput(f"--output: {error}") from error
        check_target("--output", target, force)
        if stage is None:
            client.download(found.id, target)
        else:
            write_whole(target, client.stage_video(found.id, stage))
        if as_json:
            print_json({"chain_id": found.id, "file": str(target), "bytes": target.stat().st_size})
        else:
            typer.echo(target)


def follow(events: EventStream, bars: ChainBars, phases: Phases, on_event: Any = None) -> Completion:
    """Show a chain's events to its end.

    Raises:
        StreamEnded: there were none.
        LongtakeError: as :class:`longtake.AsyncEventStream` says.
    """
    for event in events:
        phases.saw(event, events.transfer_seconds)
        bars.show(event)
        if on_event is not None:
            on_event(event)
        if isinstance(event, Completion):
            return event
    raise StreamEnded("the stream ended before the chain did")


def how_to_watch(chain_id: str, server: str) -> str:
    """The command, in words."""
    return f"to watch it: longtake chains watch {chain_id} --server {server.rstrip('/')}"


@contextlib.contextmanager
def _client(server: str | None) -> Iterator[tuple[Longtake, str]]:
    if server is None:
        raise BadInput(
            "name the server that has the chains: --server URL, or LONGTAKE_SERVER in the environment "
            "(a server that longtake render starts for itself keeps none)"
        )
    with connect(server) as client:
        yield client, server


def _resolved(client: Longtake, text: str) -> str:
    """The id of the one chain whose id is ``text``, or begins with it."""
    if len(text) < _SHORTEST_PREFIX:
        raise BadInput(f"ID: {text!r} is too short; give at least {_SHORTEST_PREFIX} characters")
    with contextlib.suppress(NotFound):
        return client.chain(text).id
    found = [chain.id for chain in client.list() if chain.id.startswith(text)]
    if not found:
        raise BadInput(f"ID: no chain's id begins with {text!r}")
    if len(found) > 1:
        more = ", ..." if len(found) > _CANDIDATES else ""
        raise BadInput(f"ID: {text!r} is the beginning of {len(found)} ids: {', '.join(found[:_CANDIDATES])}{more}")
    return found[0]


def _done(chain_id: str, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"chain_id": chain_id})
    else:
        say(f"chain {chain_id} {what}")


def _print_event(event: Event) -> None:
    shown = msgspec.to_builtins(event)
    if isinstance(event, Completion):
        shown = {"type": "complete"} | {key: value for key, value in shown.items() if key not in _NOT_SHOWN}
    typer.echo(msgspec.json.encode(shown).decode())
