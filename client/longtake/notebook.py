"""A chain's progress in a notebook, for ``on_event``.

>>> from longtake.notebook import Progress
>>> with Longtake("http://127.0.0.1:8188") as client:            # doctest: +SKIP
...     done = client.generate(request, on_event=Progress())
>>> done.video_data()                                             # doctest: +SKIP

IPython is no dependency: where a notebook runs, it is there.
"""

import html
import importlib
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from longtake import wire
from longtake.streams import Completion, Event

__all__ = ["Progress"]

_WIDTH: Final = "width:16em;margin-right:0.7em"


class Handle(Protocol):
    """What updates a thing on display; IPython's ``DisplayHandle`` is one."""

    def update(self, obj: object) -> None:
        """Show ``obj`` in place of what is there."""


class Progress:
    """One output that follows a chain: a bar for the chain, one for every running stage and one for the encoder.

    Called with each event, so it fits ``on_event`` of :meth:`longtake.Longtake.generate` and of
    :meth:`longtake.AsyncLongtake.generate`, and a loop over ``stream()``. It shows one chain; make a new one for the
    next. Outside a notebook nothing is shown; ``str()`` has the state as text anywhere.
    """

    def __init__(self, display: Callable[..., Handle | None] | None = None) -> None:
        """``display``: called as ``display(progress, display_id=True)``; by default IPython's, in a notebook."""
        self._display = display or _notebooks_display()
        self._handle: Handle | None = None
        self._note = "waiting"
        self._stages = 0
        self._parts: dict[int, float] = {}
        self._running: dict[int, tuple[float | None, str]] = {}
        self._encoder: tuple[float | None, str] | None = None

    def __call__(self, event: Event) -> None:
        """Show what ``event`` changes; kinds without a picture change nothing."""
        before = str(self)
        self._take(event)
        if self._display is None or (self._handle is not None and str(self) == before):
            return
        if self._handle is None:
            self._handle = self._display(self, display_id=True)
        else:
            self._handle.update(self)

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {note}" for name, _, note in self._rows())

    def _repr_html_(self) -> str:
        return "".join(_bar(name, part, note) for name, part, note in self._rows())

    def _take(self, event: Event) -> None:
        match event:
            case wire.Queued(position=position):
                self._note = "next in the queue" if position == 0 else f"{position} before it in the queue"
            case wire.ChainStart(stage_count=count):
                self._stages = count
                self._count()
            case wire.StageStart(stage_idx=stage, attempt=attempt):
                self._stage(stage, None, f"starting (attempt {attempt})" if attempt > 1 else "starting")
            case wire.DenoiseStep(stage_idx=stage, step=step, total=total):
                self._stage(stage, _share(step, total), f"step {step}/{total}")
            case wire.StageDone(stage_idx=stage):
                self._running.pop(stage, None)
                self._parts[stage] = 1.0
                self._count()
            case wire.Stopped(code=code):
                self._parts = {stage: part for stage, part in self._parts.items() if stage not in self._running}
                self._running.clear()
                self._note = f"stopped ({code}), resumed"
            case wire.Stitching(total_frames=frames):
                self._note = f"stitching {frames} frames"
            case wire.Encoding(frames=frames, total=total):
                self._encoder = (_share(frames, total), f"frame {frames}/{total}")
            case Completion(stage_count=count, frames=frames):
                self._stages, self._parts = count, dict.fromkeys(range(count), 1.0)
                self._running.clear()
                self._encoder = None
                self._note = f"{frames} frames"

    def _stage(self, stage: int, part: float | None, note: str) -> None:
        self._running[stage] = (part, note)
        self._parts[stage] = part or 0.0
        self._count()

    def _count(self) -> None:
        self._note = f"{len(self._parts.keys() - self._running.keys())} of {self._stages} stages"

    def _rows(self) -> list[tuple[str, float | None, str]]:
        """Per bar its name, how much of it is done (0..1, None where that is unknown), and a note."""
        rows = [("chain", _share(sum(self._parts.values()), self._stages), self._note)]
        rows += [(f"stage {stage}", *state) for stage, state in sorted(self._running.items())]
        if self._encoder is not None:
            rows.append(("encoder", *self._encoder))
        return rows


def _notebooks_display() -> Callable[..., Any] | None:
    """IPython's ``display`` if this runs in a kernel, whose front end can update what it shows; a terminal cannot."""
    ipython = sys.modules.get("IPython")
    if ipython is None or not hasattr(ipython.get_ipython(), "kernel"):
        return None
    display: Callable[..., Any] = importlib.import_module("IPython.display").display
    return display


def _share(done: float, total: int) -> float | None:
    return min(done / total, 1.0) if total > 0 else None


def _bar(name: str, part: float | None, note: str) -> str:
    value = "" if part is None else f' value="{part:.3f}"'
    name, note = html.escape(name), html.escape(note)
    return f'<div><progress aria-label="{name}" style="{_WIDTH}"{value}></progress>{name}: {note}</div>'
