"""``python -m training.evaluation``: what a checkpoint of the world can do, measured through the stages as served.

Prints a table of scores and goals, and what was missed. Captions are of combinations of attributes that the training
never shows; the test set's are for the final figures, the validation set's for tuning.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from training.joins import drawn_joins, smooth_joins
from training.scores import Results
from training.served import GUIDANCE, STEPS, Served
from training.sheets import write_sheets
from training.trials import Bench, lengths_and_sizes, paraphrases, plain_captions, references, source_images
from training.world import FPS

_SETS: Final = {"validation": 1, "test": 2}
_MISSES: Final = 20
_WIDTH: Final = 110  # columns of the table where nobody says how many there are


def evaluate(folder: Path, captions: int = 100, chosen: str = "test", say: Callable[[str], None] = print) -> Bench:
    """Put the checkpoint in ``folder`` to every trial; ``say`` is told how far it is.

    Raises:
        CheckpointError: the folder is no checkpoint.
    """
    began = time.monotonic()
    bench = Bench(Served.load(folder), _SETS[chosen], captions)
    bench.results.facts = {
        "checkpoint": bench.served.profile.name,
        "digest": bench.served.checkpoint.digest(),
        "set": chosen,
        "captions": captions,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "fps": FPS,
    }
    say("references")
    references(bench)
    drawn_joins(bench)
    say("plain captions")
    cases = plain_captions(bench)
    say("paraphrased captions")
    paraphrases(bench)
    say("smooth joins")
    smooth_joins(bench, cases)
    say("lengths and sizes")
    lengths_and_sizes(bench)
    say("source images")
    source_images(bench)
    bench.results.facts |= {
        "combinations": len({tuple(case.attributes.tolist()) for case in cases}),
        "clips": bench.served.rendered,
        "seconds": round(time.monotonic() - began),
    }
    return bench


def table(results: Results) -> Table:
    """The figures, a section for each group."""
    shown = Table("trial", "measure", "score", "goal", "count", "met", box=box.SIMPLE)
    for column in (2, 3, 4):
        shown.columns[column].justify = "right"
    group = ""
    for row in results.rows:
        name, *cells = row.cells()
        shown.add_row("" if name == group else name, *cells, style="red" if row.met is False else None)
        group = name
    return shown


def report(results: Results, console: Console) -> None:
    """Print the table, how many goals are met, and the first misses."""
    console.print(table(results))
    goals = [row.met for row in results.rows if row.met is not None]
    facts = results.facts
    console.print(
        f"{sum(goals)} of {len(goals)} goals met; {facts['clips']} clips in {facts['seconds']} s, "
        f"{facts['set']} set, {facts['combinations']} combinations in {facts['captions']} captions"
    )
    if results.misses:
        console.print(f"{len(results.misses)} clips missed something; the first of them:")
    for miss in results.misses[:_MISSES]:
        console.print(f"  {miss.group}: {miss.caption} → {miss.measured}", highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate, print, and write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluation", description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("checkpoints/tiny-ltx2"))
    parser.add_argument(
        "--captions", type=int, default=100, metavar="N", help="plain captions, and as many paraphrased"
    )
    parser.add_argument("--set", choices=list(_SETS), default="test", dest="chosen", help="combinations to ask for")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="write contact sheets there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    given = parser.parse_args(arguments)
    if given.captions < 1:
        parser.error("--captions must be at least 1")
    progress = Console(stderr=True)
    bench = evaluate(given.checkpoint, given.captions, given.chosen, progress.print)
    if given.sheets:
        write_sheets(given.sheets, bench.strips)
    if given.json:
        given.json.write_text(json.dumps(bench.results.as_json(), indent=1) + "\n")
    console = Console()
    report(bench.results, Console(width=max(console.width, _WIDTH)))


if __name__ == "__main__":
    main()
