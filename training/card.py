"""The model card of a trained checkpoint, written from the figures of its evaluation and from nothing else.

``python -m training.card CHECKPOINT RESULTS TRAINED COMMIT`` writes ``README.md`` into the checkpoint: ``RESULTS`` is
what ``python -m training.evaluation --json`` wrote, ``TRAINED`` the folder of ``python -m training``.
"""

import argparse
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from longtake_stages.profile import PROFILE_FILE, Profile
from training import world
from training.scores import Row, rows_of
from training.trials import ATTRIBUTES, OVERLAP

CARD: Final = "README.md"
_PARTS: Final = {
    "decoder": "video VAE, decoder",
    "encoder": "video VAE, encoder",
    "polished": "video VAE, decoder, on what the encoder says",
    "text": "text encoder and connectors",
    "audio": "audio VAE",
    "denoiser": "denoiser",
    "refined": "denoiser, on what the encoder says of decoded tails",
}
_COMPONENTS: Final = ("transformer", "vae", "text_encoder", "connectors", "audio_vae", "vocoder")
_MISSES: Final = 12
_IN_PICTURES: Final = (*ATTRIBUTES, OVERLAP)

_HEADER: Final = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
tags:
- ltx-2
- text-to-video
- image-to-video
- text-to-audio
- tiny
- procedural
---
"""

_SNIPPET: Final = """\
import torch
from diffusers import LTX2ConditionPipeline

pipeline = LTX2ConditionPipeline.from_pretrained("{folder}", dtype=torch.float32)
frames, audio = pipeline(
    prompt="a red circle moving left on a blue background",
    width={width},
    height={height},
    num_frames={frames},
    frame_rate={fps:.1f},
    num_inference_steps={steps},
    max_sequence_length={length},
    guidance_scale={guidance},
    audio_guidance_scale={guidance},
    guidance_rescale=0.0,
    audio_guidance_rescale=0.0,
    stg_scale=0.0,
    audio_stg_scale=0.0,
    modality_scale=1.0,
    audio_modality_scale=1.0,
    use_cross_timestep=True,
    generator=torch.Generator("cpu").manual_seed(1),
    output_type="np",
    return_dict=False,
)
print(frames.shape)  # (1, {frames}, {height}, {width}, 3), 0..1
print(audio.shape, pipeline.vocoder.config.output_sampling_rate)  # [1, 2, samples] in -1..1
"""


@dataclass(frozen=True)
class Part:
    """What one training took: optimiser steps, and seconds by the clock."""

    name: str
    steps: int
    seconds: int


@dataclass(frozen=True)
class Facts:
    """How a checkpoint came about: the commit (hex) of the code, its trainings, and what else there is to say."""

    commit: str
    parts: tuple[Part, ...]
    note: str = ""


def read_facts(trained: Path, commit: str, note: str = "") -> Facts:
    """The facts of a finished training, from the files the loop leaves.

    Raises:
        FileNotFoundError: a part was not finished.
    """
    found = ((name, json.loads((trained / f"{name}.json").read_text())) for name in _PARTS)
    return Facts(commit, tuple(Part(name, fact["steps"], fact["seconds"]) for name, fact in found), note)


def write_card(folder: Path, results: dict[str, Any], facts: Facts) -> Path:
    """Write the card of the checkpoint in ``folder``; ``results`` are ``Results.as_json()``."""
    card = folder / CARD
    profile = msgspec.json.decode((folder / PROFILE_FILE).read_bytes(), type=Profile)
    rows = rows_of(results)
    sections = [
        _introduction(folder, profile),
        _world(),
        _usage(folder, profile, results["facts"]),
        _training(facts),
        _abilities(rows, results["facts"]),
        _scores(rows),
        _missed(results["misses"]),
        _limits(profile, results["facts"]),
    ]
    card.write_text(_HEADER + "\n" + "\n".join(sections))
    return card


def parameters(folder: Path) -> dict[str, int]:
    """Weights of each component, counted in the headers of its files."""
    return {name: sum(map(_weights, sorted((folder / name).glob("*.safetensors")))) for name in _COMPONENTS}


def _weights(file: Path) -> int:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    count = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for extent in tensor["shape"]:
                size *= extent
            count += size
    return count


def _introduction(folder: Path, profile: Profile) -> str:
    counts = parameters(folder)
    named = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in counts.items())
    return f"""\
# {profile.name}

The architecture of LTX-2 in {sum(counts.values()) / 1e6:.1f} million parameters, trained to show one small world from
text, an image or the end of another clip, with sound. It is made to develop, test and demonstrate what is built around
LTX-2 on a CPU, with a model that does what it is told. It is no small version of the LTX-2 that was published: it has
its classes and none of its weights or abilities.

It is a folder of diffusers' `LTX2ConditionPipeline`. Millions of parameters: {named}.
"""


def _world() -> str:
    return f"""\
## The world

One flat shape moves before a flat background.

- shapes: {_list(world.SHAPES)}
- colours, of the shape and, another one, of the background: {_list(world.COLOURS)}
- motions: {_list(world.MOTIONS)}; a shape that reaches the border stops there
- sound: every shape has its note, heard from the side the shape moves to, brighter as it rises and darker as it falls

A caption may say this in many ways and leave parts out. A prompt that changes in the middle of a chain turns one scene
into the next.
"""


def _usage(folder: Path, profile: Profile, facts: dict[str, Any]) -> str:
    snippet = snippet_of(folder, profile, facts)
    return f"""\
## Use

```python
{snippet}```

Every argument matters. The pipeline's defaults are another checkpoint's: its guidance, and a sequence length for which
this one was not trained (it has no registers, so padding is attended). Longtake reads the same from `{PROFILE_FILE}`.
"""


def snippet_of(folder: Path, profile: Profile, facts: dict[str, Any]) -> str:
    """The program of the card. ``folder`` is named by its last two parts, as seen from where it was trained."""
    return _SNIPPET.format(
        folder="/".join(folder.parts[-2:]),
        width=profile.width,
        height=profile.height,
        frames=world.FRAMES,
        fps=float(facts["fps"]),
        steps=facts["steps"],
        guidance=facts["guidance"],
        length=profile.max_sequence_length,
    )


def _training(facts: Facts) -> str:
    lines = [f"| {_PARTS[part.name]} | {part.steps} | {part.seconds / 60:.0f} |" for part in facts.parts]
    total = sum(part.seconds for part in facts.parts) / 60
    table = "\n".join(["| part | steps | minutes |", "|---|---:|---:|", *lines, f"| together | | {total:.0f} |"])
    return f"""\
## Training

All data are procedural: pictures, captions and sounds are drawn from random numbers as the training goes on. There is
no third-party data in it and no third-party weight. A tenth of the combinations of shape, colour, background and motion
is kept from the training for validation, and another for the test below.

{table}

Minutes are the clock's, on a CPU; parts were trained side by side. The video VAE's latent space is supervised: a latent
is not found by reconstruction but written down (where the shape's centre is, its radius, its kind, both colours), the
encoder learns to say it and the decoder to draw it. The vocoder has its weights in closed form. `python -m training`
repeats all this; the code was that of commit `{facts.commit}`.
{facts.note}
"""


def _abilities(rows: list[Row], facts: dict[str, Any]) -> str:
    goals = [row for row in rows if row.goal is not None]
    missed = [row for row in goals if not row.met]
    lines = "\n".join(f"- {row.group}, {row.measure}: {row.cells()[2]} of {row.cells()[3]}" for row in missed)
    verdict = f"Not met:\n\n{lines}" if missed else "None is missed."
    return f"""\
## What it can do

Measured from the pixels and the sound of {facts["clips"]} clips, rendered by the stages that serve it, with
{facts["steps"]} steps and guidance {facts["guidance"]} on one CPU thread; {facts["captions"]} plain captions of
{facts["combinations"]} combinations of the {facts["set"]} set.

{len(goals) - len(missed)} of {len(goals)} goals are met. {verdict}
"""


def _scores(rows: list[Row]) -> str:
    goals = [row.cells() for row in rows if row.goal is not None]
    pictures = [row.group for row in rows if row.measure == ATTRIBUTES[0]]
    joins = [row.group for row in rows if row.measure == "jump" and row.group not in pictures]
    told = {*pictures, *joins}
    others = [row for row in rows if row.goal is None and row.group not in told]
    others += [row for row in rows if row.group in pictures and row.measure not in _IN_PICTURES and row.goal is None]
    figures = [(row.group, row.measure, row.cells()[2], str(row.count)) for row in others]
    return f"""\
## Scores

{_table(("trial", "measure", "score", "goal", "count", "met"), goals, 2)}

The share of clips that show what was asked for. Direction is the motion of those that move left, right, up or down; the
last column is the overlap (shared of joint area) with the ideal shape that is most like it. Of 9 frames, bouncing is
left out of motion, since it cannot be seen in them.

{_by_trial(rows, pictures, _IN_PICTURES)}

Smooth joins. A frame step is the mean difference from one frame to the next inside the clips: a join is as smooth as
the clips where its jump is one. Differences are means over pixels of 0..1.

{_by_trial(rows, joins, [row.measure for row in rows if row.group == joins[0]])}

{_table(("trial", "measure", "value", "count"), figures, 2)}
"""


def _by_trial(rows: Sequence[Row], groups: Sequence[str], measures: Sequence[str]) -> str:
    """A line for each group and a column for each measure."""
    cells = {(row.group, row.measure): row.cells()[2] for row in rows}
    count = {group: max(row.count for row in rows if row.group == group) for group in groups}
    lines = [(group, *(cells.get((group, name), "") for name in measures), str(count[group])) for group in groups]
    return _table(("trial", *measures, "count"), lines, 1)


def _missed(misses: list[dict[str, str]]) -> str:
    if not misses:
        return "No clip missed anything.\n"
    lines = "\n".join(
        f"- {miss['group']}: {miss['caption']} → {miss['measured']}" for miss in misses[:: -(-len(misses) // _MISSES)]
    )
    return f"""\
{len(misses)} times a clip or its sound was not what its caption says. Some, evenly chosen:

{lines}
"""


def _limits(profile: Profile, facts: dict[str, Any]) -> str:
    return f"""\
## Limits

- It knows this world and no other. A prompt about anything else, or a picture of anything else, gives some scene of it.
- Words it was not taught are all one unknown word to it.
- The figures are of {facts["fps"]} frames per second and guidance {facts["guidance"]}. Negative prompts,
  other rates and other guidance were not measured.
- Longtake serves it up to {profile.max_pixels} pixels a frame and {profile.frames_cap} frames a clip; what was
  measured of sizes and lengths is in the tables.
- Shapes do not become larger in larger frames.
"""


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """A table whose first columns, as many as ``words``, are aligned to the left."""
    rule = ["---" if n < words else "---:" for n in range(len(heads))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("results", type=Path, help="what the evaluation wrote with --json")
    parser.add_argument("trained", type=Path, help="the folder of the training")
    parser.add_argument("commit", help="hash of the code that trained it")
    parser.add_argument("--note", default="", help="what else there is to say of the training")
    given = parser.parse_args(arguments)
    write_card(
        given.checkpoint, json.loads(given.results.read_text()), read_facts(given.trained, given.commit, given.note)
    )


if __name__ == "__main__":
    main()
