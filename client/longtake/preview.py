"""A small picture in the terminal, two pixels a character."""

from io import BytesIO
from typing import Final

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS: Final = 40
"""The widest a picture gets; a narrower terminal shows none."""

_UPPER_HALF: Final = "▀"


def preview(picture: bytes | None, console: Console) -> Text | None:
    """``picture`` (PNG) in half blocks, fitted into :data:`COLUMNS` by as many pixels and never enlarged.

    None where there is nothing to show it with: ``console`` is no terminal in true colour of that width, Pillow is not
    installed, or there is no picture that it can read.
    """
    if picture is None or not _can_show(console):
        return None
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(BytesIO(picture), formats=["PNG"]) as image:
            small = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        # The video is whole and saved; its thumbnail is only a comfort.
        return None
    small.thumbnail((COLUMNS, COLUMNS), Image.Resampling.BOX)
    return _half_blocks(small.tobytes(), small.width)


def _can_show(console: Console) -> bool:
    # Rich lets the environment call a pipe a terminal.
    terminal = console.is_terminal and console.file.isatty() and console.encoding.startswith("utf")
    coloured = console.color_system == "truecolor" and not console.no_color
    return terminal and coloured and console.width >= COLUMNS


def _half_blocks(pixels: bytes, width: int) -> Text:
    """Rows of RGB bytes, two rows a line: the upper in the foreground, the lower, if there is one, behind it."""
    colours = [Color.from_rgb(*pixels[at : at + 3]) for at in range(0, len(pixels), 3)]
    rows = [colours[at : at + width] for at in range(0, len(colours), width)]
    lines = []
    for top in range(0, len(rows), 2):
        lower = rows[top + 1] if top + 1 < len(rows) else [None] * width
        styles = (Style(color=fore, bgcolor=back) for fore, back in zip(rows[top], lower, strict=True))
        lines.append(Text.assemble(*((_UPPER_HALF, style) for style in styles)))
    return Text("\n", no_wrap=True).join(lines)
