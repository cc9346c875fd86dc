"""What the command line shows of a chain: bars while it runs, facts and times when it is done."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from longtake import wire
from longtake.streams import Completion, Event
from longtake.video import VideoData

_LOG: Final = logging.getLogger("longtake")
PHASES: Final = ("startup", "queue", "render", "stitch", "transfer")


@dataclass
class Phases:
    """Where the time went, in seconds, told from the events alone.

    ``startup``: of the embedded server. ``queue``: until the chain started. ``render``: until all stages were done.
    ``stitch``: until the completion began to arrive. ``transfer``: until it was here.
    """

    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)
    _phase: str = ""
    _since: float = 0.0

    def enter(self, phase: str) -> None:
        """From now on time belongs to ``phase``; an empty one for none."""
        now = self.clock()
        if self._phase:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def saw(self, event: Event, transfer_seconds: float = 0.0) -> None:
        """Let ``event``, which took ``transfer_seconds`` to arrive, move the phase on."""
        if isinstance(event, wire.ChainStart):
            self.enter("render")
        elif isinstance(event, wire.Stitching):
            self.enter("stitch")
        elif isinstance(event, Completion):
            last = self._phase
            self.enter("")
            moved = min(transfer_seconds, self.seconds.get(last, 0.0))
            self.seconds[last] = self.seconds.get(last, 0.0) - moved
            self.seconds["transfer"] = moved

    def rows(self) -> Iterator[tuple[str, float]]:
        """The phases there were, in order."""
        return ((phase, self.seconds[phase]) for phase in PHASES if phase in self.seconds)


class _Notices(logging.Handler):
    """Shows that the client lost its connection; why fits on no bar."""

    def __init__(self, bars: "ChainBars") -> None:
        super().__init__(logging.INFO)
        self._bars = bars

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the base class passes it
        self._bars.status("connection lost, trying again")


class ChainBars:
    """Stacked bars: the chain, every stage being denoised, the encoder.

    Shown on ``console`` inside ``with``, if it is a terminal.
    """

    def __init__(self, console: Console, *, shown: bool = True) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not (shown and console.is_terminal))
        self._chain: TaskID | None = None
        self._encoder: TaskID | None = None
        self._running: dict[int, TaskID] = {}
        self._parts: dict[int, float] = {}
        self._stages = 0
        self._notices = _Notices(self)

    def __enter__(self) -> Self:
        self._progress.start()
        _LOG.setLevel(logging.INFO)
        _LOG.addHandler(self._notices)
        return self

    def __exit__(self, *_: object) -> None:
        _LOG.removeHandler(self._notices)
        for task in self._running.values():
            self._progress.remove_task(task)
        self._progress.stop()

    def status(self, text: str) -> None:
        """Say what goes on before the chain starts, or in place of its stage count."""
        if self._chain is None:
            self._chain = self._progress.add_task("chain", total=None, note=text)
        self._progress.update(self._chain, note=text)

    def show(self, event: Event) -> None:
        """Draw ``event``; kinds without a picture change nothing."""
        match event:
            case wire.Queued(position=position):
                self.status("next in the queue" if position == 0 else f"{position} before it in the queue")
            case wire.ChainStart(stage_count=count):
                self._stages = count
                self._advance()
            case wire.StageStart(stage_idx=stage, attempt=attempt):
                again = f" (attempt {attempt})" if attempt > 1 else ""
                self._stage(stage, 0, None, f"starting{again}")
            case wire.DenoiseStep(stage_idx=stage, step=step, total=total):
                self._stage(stage, step, total, f"step {step}/{total}")
            case wire.StageDone(stage_idx=stage):
                self._done(stage)
            case wire.Stopped(code=code):
                self._stopped(code)
            case wire.Stitching(total_frames=frames):
                self.status(f"stitching {frames} frames")
            case wire.Encoding(frames=frames, total=total):
                self._encode(frames, total)
            case Completion(stage_count=count, frames=frames):
                self._stages = count
                self._parts = dict.fromkeys(range(count), 1.0)
                self._advance(f"{frames} frames")

    def _stage(self, stage: int, step: int, total: int | None, note: str) -> None:
        if stage not in self._running:
            self._running[stage] = self._progress.add_task(f"  stage {stage}", total=total, note=note)
        self._progress.update(self._running[stage], completed=step, total=total, note=note)
        self._parts[stage] = step / total if total else 0.0
        self._advance()

    def _done(self, stage: int) -> None:
        self._parts[stage] = 1.0
        if stage in self._running:
            self._progress.remove_task(self._running.pop(stage))
        self._advance()

    def _stopped(self, code: str) -> None:
        for stage in list(self._running):
            self._progress.remove_task(self._running.pop(stage))
            self._parts[stage] = 0.0
        self._advance(f"stopped ({code}), resumed")

    def _encode(self, frames: int, total: int) -> None:
        if self._encoder is None:
            self._encoder = self._progress.add_task("  encoder", total=total, note="")
        self._progress.update(self._encoder, completed=frames, total=total, note=f"frame {frames}/{total}")

    def _advance(self, note: str = "") -> None:
        done = sum(part >= 1.0 for part in self._parts.values())
        self.status(note or f"{done} of {self._stages} stages")
        assert self._chain is not None
        self._progress.update(self._chain, completed=sum(self._parts.values()), total=float(self._stages) or None)


def facts(video: VideoData) -> dict[str, Any]:
    """What is worth knowing of a video, without its bytes, as plain values for JSON."""
    audio = f"{video.audio_sample_rate} Hz, {video.audio_channels} channels" if video.has_audio else None
    seed = video.script.chain.seed if video.script else None
    found = {
        "chain_id": video.chain_id,
        "format": video.format,
        "size": f"{video.width}x{video.height}",
        "frames": video.frames_count,
        "fps": video.fps,
        "duration_ms": video.duration_ms,
        "audio": audio,
        "stages": video.stage_count,
        "model": video.script.chain.model if video.script else None,
        "seed": seed,
        "seed_drawn": video.seed_drawn,
        "gpu": video.gpu,
        "bytes": len(video.data),
        "sha256": video.sha256,
        "generation_time_ms": video.generation_time_ms,
    }
    return {key: value for key, value in found.items() if value is not None}


def report(video: VideoData, phases: Phases, files: dict[str, str]) -> RenderableType:
    """The closing tables: what was written, what it is, how visible the joins are, where the time went."""
    about = Table.grid(padding=(0, 2))
    about.add_column(no_wrap=True)
    about.add_column(overflow="fold")
    for key, value in (files | facts(video)).items():
        about.add_row(key.replace("_", " "), str(value))
    parts: list[RenderableType] = [about]
    if video.joins:
        joins = Table("join", "kind", "colour shift", "frame jump", "jump inside", box=None, padding=(0, 2, 0, 0))
        for join in video.joins:
            values = (join.colour_shift, join.frame_jump, join.inner_jump)
            joins.add_row(f"into stage {join.stage_idx}", join.transition, *(f"{v:.2f}" for v in values))
        parts += ["", joins]
    times = "  ".join(f"{phase} {seconds:.1f} s" for phase, seconds in phases.rows())
    return Group(*parts, "", f"time: {times}")
