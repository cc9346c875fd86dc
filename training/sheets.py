"""Contact sheets: a row of frames for every clip, to be looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from training.measures import Clip

_COLUMNS: Final = 9
_TITLE: Final = 14
_SCALE: Final = 2


@dataclass(frozen=True)
class Strip:
    """A clip, uint8 ``[n, height, width, 3]``, and what is said about it."""

    title: str
    clip: Clip


def write_sheets(folder: Path, strips: dict[str, list[Strip]]) -> list[Path]:
    """Write every sheet as ``folder/name.png``; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, rows in strips.items():
        file = folder / f"{name}.png"
        sheet(rows).save(file)
        files.append(file)
    return files


def sheet(strips: Sequence[Strip]) -> Image.Image:
    """One picture of all: a title and nine frames, evenly spaced from first to last, per clip."""
    rows = [_row(strip) for strip in strips]
    whole = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    return whole


def _row(strip: Strip) -> Image.Image:
    chosen = np.linspace(0, len(strip.clip) - 1, _COLUMNS).round().astype(int)
    frames = np.concatenate(list(strip.clip[chosen]), 1)
    picture = Image.fromarray(frames).resize(
        (frames.shape[1] * _SCALE, frames.shape[0] * _SCALE), Image.Resampling.NEAREST
    )
    row = Image.new("RGB", (picture.width, picture.height + _TITLE), "white")
    # Pillow's built-in font has Latin letters only.
    title = strip.title.replace("→", "->")
    ImageDraw.Draw(row).text((3, 1), title, fill="black")
    row.paste(picture, (0, _TITLE))
    return row
