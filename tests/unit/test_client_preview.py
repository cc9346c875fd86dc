"""The picture in the terminal: what is drawn, and where nothing is."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import longtake.cli as cli
from longtake import wire
from longtake.preview import COLUMNS, preview
from longtake.streams import Completion
from wire_server import complete

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
HALF = "▀"


class Screen(io.StringIO):
    """A file that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self, *, terminal: bool = True) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """What rich asks."""
        return self._terminal


def console(screen: io.StringIO, width: int = 80, **environment: str) -> Console:
    """A console on ``screen`` in an environment of its own."""
    return Console(file=screen, width=width, _environ={"TERM": "xterm", "COLORTERM": "truecolor"} | environment)


def png(rows: list[list[tuple[int, int, int]]]) -> bytes:
    """A picture of these pixels."""
    image = Image.new("RGB", (len(rows[0]), len(rows)))
    image.putdata([pixel for row in rows for pixel in row])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


PICTURE = png([[RED, GREEN], [BLUE, WHITE], [WHITE, RED]])


def drawn(picture: bytes) -> list[str]:
    """The lines that a terminal gets."""
    screen = Screen()
    target = console(screen)
    text = preview(picture, target)
    assert text is not None
    target.print(text)
    return screen.getvalue().splitlines()


def test_two_pixels_are_one_character() -> None:
    """The upper in the foreground, the lower behind it; an odd last row has nothing behind it."""
    assert drawn(PICTURE) == [
        f"\x1b[38;2;255;0;0;48;2;0;0;255m{HALF}\x1b[0m\x1b[38;2;0;255;0;48;2;255;255;255m{HALF}\x1b[0m",
        f"\x1b[38;2;255;255;255m{HALF}\x1b[0m\x1b[38;2;255;0;0m{HALF}\x1b[0m",
    ]


@pytest.mark.parametrize(("width", "height", "columns", "lines"), [(160, 80, 40, 10), (80, 160, 20, 20), (8, 4, 8, 2)])
def test_a_picture_is_fitted_and_never_enlarged(width: int, height: int, columns: int, lines: int) -> None:
    """Its proportions stay, as two pixels of a character stand on each other."""
    found = drawn(png([[RED] * width] * (height // 2) + [[BLUE] * width] * (height // 2)))
    assert [line.count(HALF) for line in found] == [columns] * lines
    assert "38;2;255;0;0" in found[0]
    assert "48;2;0;0;255" in found[-1]


@pytest.mark.parametrize(
    "target",
    [
        console(Screen(terminal=False)),
        console(Screen(terminal=False), FORCE_COLOR="1"),
        console(Screen(), NO_COLOR="1"),
        console(Screen(), COLORTERM=""),
        console(Screen(), TERM="dumb"),
        console(Screen(), width=COLUMNS - 1),
    ],
    ids=["a pipe", "a pipe with forced colour", "NO_COLOR", "few colours", "no colours", "narrow"],
)
def test_nothing_is_drawn_where_it_would_not_look_like_it(target: Console) -> None:
    """Not even with other characters."""
    assert preview(PICTURE, target) is None


def test_a_terminal_without_these_characters_gets_none() -> None:
    """They could not be written."""
    screen = Screen()
    screen.encoding = "iso8859-1"  # type: ignore[misc]  # of this one
    assert preview(PICTURE, console(screen)) is None


@pytest.mark.parametrize("picture", [None, b"", b"\x89PNG", PICTURE[:50], PICTURE[:-30], b"GIF89a"])
def test_what_is_no_picture_is_not_shown(picture: bytes | None) -> None:
    """And is no error: the video is saved."""
    assert preview(picture, console(Screen())) is None


def test_without_pillow_there_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no error."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert preview(PICTURE, console(Screen())) is None


@pytest.fixture
def rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]  # a function
    """Renders a chain whose thumbnail is the picture, on a console; returns what was shown there and printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.toml").write_text('schema = "mold.chain.v1"\n[chain]\nprompt = "x"\ntotal_frames = 9\n')
    done = Completion(**{name: getattr(complete(b"x"), name) for name in wire.Complete.__struct_fields__})
    done.thumbnail = PICTURE

    @contextmanager
    def client(*_: object) -> Iterator[None]:
        yield None

    def run(screen: Screen, *options: str) -> str:
        monkeypatch.setattr(cli, "_client", client)
        monkeypatch.setattr(cli, "_render", lambda *_: SimpleNamespace(video_data=done.video_data))
        monkeypatch.setattr(cli, "Console", lambda **_: console(screen))
        result = CliRunner().invoke(cli.app, ["render", "film.toml", *options])
        assert result.exit_code == 0, result.output
        return screen.getvalue() + result.stdout

    return run


def test_render_ends_with_the_picture_on_a_terminal(rendered) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """Below the report."""
    assert rendered(Screen()).splitlines()[-2:] == drawn(PICTURE)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_render_prints_no_picture_for_programs(rendered, options: list[str]) -> None:  # type: ignore[no-untyped-def]  # the fixture
    """Into a pipe, or as JSON."""
    shown = rendered(Screen(terminal=bool(options)), *options)
    assert "film.mp4" in shown
    assert HALF not in shown
