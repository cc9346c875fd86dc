"""What the command line shows of chains that are not being watched: a table of them, or one in detail."""

from collections.abc import Iterable
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from longtake.wire import ChainDetail, ChainState, ChainSummary

SHORT_ID = 12
"""Characters of an id that are shown; a few of them are enough to name a chain."""


def table(chains: Iterable[ChainSummary], now: datetime) -> Table:
    """Chains as rows; ages and expiries as seen at ``now`` (with a time zone)."""
    rows = _table("id", "state", "frames", "age", "expires")
    for chain in chains:
        running = f" {chain.stages_done}/{chain.stage_count}" if chain.state is ChainState.RUNNING else ""
        rows.add_row(
            chain.id[:SHORT_ID],
            f"{chain.state}{running}",
            str(chain.total_frames),
            span((now - moment(chain.created_at)).total_seconds()),
            "" if chain.expires_at is None else f"in {span((moment(chain.expires_at) - now).total_seconds())}",
            _line(chain.prompt),
        )
    return rows


def detail(chain: ChainDetail) -> RenderableType:
    """One chain: what it is and was, then its stages."""
    settings = chain.script.chain
    about = Table.grid(padding=(0, 2))
    about.add_column(no_wrap=True)
    about.add_column(overflow="fold")
    facts = {
        "id": chain.id,
        "state": chain.state,
        "attempt": chain.attempt if chain.attempt > 1 else None,
        "retake of": chain.retake_of,
        "created": chain.created_at,
        "started": chain.started_at,
        "finished": chain.finished_at,
        "expires": chain.expires_at,
        "model": settings.model,
        "size": f"{settings.width}x{settings.height}, {settings.fps} frames a second",
        "frames": chain.total_frames,
        "seed": settings.seed,
        "error": f"{chain.error.code}: {chain.error.message}" if chain.error else None,
    }
    for name, value in facts.items():
        if value is not None:
            about.add_row(name, escape(str(value)))
    stages = _table("stage", "state", "attempt", "frames", "in the video")
    for stage in chain.stages:
        numbers = (stage.attempt, stage.frames, stage.output_frames)
        prompt = _line(chain.script.stage[stage.stage_idx].prompt)
        stages.add_row(str(stage.stage_idx), stage.state, *map(str, numbers), prompt)
    return Group(about, "", stages)


def _table(*columns: str) -> Table:
    """A table that gives what is left of the width to the prompt, its last column."""
    made = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for name in columns:
        made.add_column(name, no_wrap=True)
    made.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    return made


def _line(prompt: str) -> str:
    """Someone else's words: on one line, and without effect as markup."""
    return escape(" ".join(prompt.split()))


def moment(text: str) -> datetime:
    """A time of the wire (RFC 3339)."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def span(seconds: float) -> str:
    """A length of time in its largest whole unit, like ``5 min``; nothing below zero."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"
