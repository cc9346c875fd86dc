"""The evaluation and the card: what a checkpoint that shows noise is told, and what is written of it."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from longtake_stages import tiny
from training import world
from training.card import Facts, Part, parameters, read_facts, snippet_of, write_card
from training.evaluation import evaluate, report
from training.joins import Change
from training.measures import read
from training.scores import Results, Row, rows_of
from training.served import as_clips
from training.sheets import write_sheets
from training.trials import Bench, has_room
from training.world import SHAPES

PARTS = ("decoder", "encoder", "polished", "text", "audio", "denoiser", "refined")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "checkpoints" / "tiny-ltx2"
    tiny.build(folder)
    return folder


@pytest.fixture(scope="module")
def bench(folder: Path) -> Iterator[Bench]:
    before = torch.get_num_threads()
    yield evaluate(folder, captions=1, chosen="validation", say=lambda _: None)
    torch.set_num_threads(before)


def row(bench: Bench, group: str, measure: str) -> Row:
    (found,) = (row for row in bench.results.rows if (row.group, row.measure) == (group, measure))
    return found


def test_the_measures_read_the_ground_truth_whatever_the_model_shows(bench: Bench) -> None:
    """And a model that shows noise meets no goal of what it shows."""
    for measure in ("background", "shape colour", "shape", "motion"):
        assert row(bench, "ground truth", measure).score == 1
    assert row(bench, "plain captions", "shape").met is False
    assert any(miss.group == "plain captions" for miss in bench.results.misses)


def test_every_trial_is_held(bench: Bench) -> None:
    """Captions, sound, joins of every kind, lengths, sizes, an image, time and size."""
    groups = {row.group for row in bench.results.rows}
    assert groups >= {"plain captions", "paraphrased captions", "sound", "cost", "source image"}
    assert groups >= {f"{frames} frames" for frames in (9, 17, 33, 41, 49)}
    assert groups >= {"96x64", "64x96", "128x128", "changed prompt takes over"}
    assert groups >= {f"after the join, {change}" for change in Change}
    assert row(bench, "smooth join, the same prompt", "jump, in frame steps").goal == 1.5
    assert row(bench, "paraphrased captions", "shape").goal == row(bench, "plain captions", "shape").score - 0.05


def test_the_report_names_every_missed_goal_and_clip(bench: Bench) -> None:
    """At most twenty of the clips."""
    printed = io.StringIO()
    report(bench.results, Console(file=printed, width=120))
    text = printed.getvalue()
    goals = [row for row in bench.results.rows if row.goal is not None]
    assert f"{sum(bool(row.met) for row in goals)} of {len(goals)} goals met" in text
    assert bench.results.misses[0].measured in text
    assert text.count("\n  plain captions:") <= 20


def test_figures_survive_json(bench: Bench) -> None:
    """What the card is made of is what was measured."""
    assert rows_of(json.loads(json.dumps(bench.results.as_json()))) == bench.results.rows


def test_sheets_show_clips_with_their_titles(bench: Bench, tmp_path: Path) -> None:
    """A file for each trial that can be looked at."""
    files = write_sheets(tmp_path / "sheets", bench.strips)
    assert {file.stem for file in files} == {
        "plain",
        "paraphrased",
        "joins",
        "lengths",
        "sizes",
        "images",
        "reconstruction",
    }
    for file in files:
        with Image.open(file) as picture:
            assert picture.width >= 9 * 2 * 64


@pytest.mark.parametrize(
    ("score", "count", "better", "met"),
    [(0.8, 10, "higher", True), (0.79, 10, "higher", False), (1.0, 0, "higher", False), (0.7, 3, "lower", True)],
)
def test_a_goal_is_met_at_its_very_value_but_never_by_nothing(score: float, count: int, better: str, met: bool) -> None:
    """What was measured on no clip has reached nothing; without a goal there is nothing to meet."""
    measured = Row("a", "b", score, count, 0.8, "higher" if better == "higher" else "lower")
    assert measured.met is met
    assert replace(measured, goal=None).met is None


def test_a_share_of_nothing_is_empty() -> None:
    """No figure is shown for it."""
    results = Results()
    assert results.share("a", "b", []) == 0
    assert results.rows[0].cells()[2] == ""


def test_a_shape_at_the_border_has_no_room_to_go_on(bench: Bench) -> None:
    """But it has to turn back, and where nothing was seen nothing is excluded."""
    stuck = np.array([[0, 1, 2, 0]])
    scenes = world.begin(np.random.default_rng(1), stuck, 4)
    scenes.x[:] = 13.0
    reading = read(as_clips(world.render(scenes))[0])
    random = np.random.default_rng(2)
    assert not has_room(reading, stuck[0], random)
    assert has_room(reading, np.array([0, 1, 2, 1]), random)
    assert has_room(replace(reading, x=np.zeros(0, np.float32)), stuck[0], random)


def test_the_card_says_what_was_measured_and_what_was_missed(folder: Path, bench: Bench, tmp_path: Path) -> None:
    """Every goal with its score, every missed one by name, the commit, and what each part took."""
    for number, name in enumerate(PARTS):
        (tmp_path / f"{name}.json").write_text(json.dumps({"steps": 1000 + number, "seconds": 120}))
    facts = read_facts(tmp_path, "c0ffee")
    assert facts == Facts("c0ffee", tuple(Part(name, 1000 + number, 120) for number, name in enumerate(PARTS)))
    text = write_card(folder, bench.results.as_json(), facts).read_text()
    for measured in bench.results.rows:
        if measured.goal is not None:
            assert "| " + " | ".join(measured.cells()) + " |" in text
        if measured.met is False:
            assert f"- {measured.group}, {measured.measure}: {measured.cells()[2]}" in text
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert "c0ffee" in text
    assert "| 1005 | 2 |" in text
    assert all(shape in text for shape in SHAPES)


def test_the_cards_program_runs_on_the_checkpoint(
    folder: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is printed, from the folder above the checkpoints."""
    monkeypatch.chdir(folder.parent.parent)
    program = snippet_of(folder, bench.served.profile, bench.results.facts)
    exec(compile(program, "card", "exec"), {})
    assert "(1, 25, 64, 64, 3)" in capsys.readouterr().out


def test_parameters_are_counted_in_every_component(folder: Path, bench: Bench) -> None:
    """As torch counts them."""
    counted = parameters(folder)
    assert counted["vae"] == sum(weight.numel() for weight in bench.served.vae.state_dict().values())
    assert all(count > 0 for count in counted.values())
