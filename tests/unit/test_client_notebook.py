"""A notebook: VideoData and the progress as HTML that needs nothing else and runs nothing."""

import base64
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from longtake import Completion, Event, Longtake, UnknownEvent, VideoData, wire
from longtake.notebook import Progress
from longtake.video import MAX_INLINE_BYTES
from wire_server import PROGRESS, complete, threaded_server


def shown(data: bytes, video_format: str, preview: bytes | None = b"gif") -> dict[str, dict[str, str | None]]:
    """The elements of what a notebook shows, with their attributes; the text under ``text``."""
    video = VideoData(
        data=data, format=video_format, width=64, height=32, frames_count=36, fps=24, thumbnail=b"png",
        gif_preview=preview,
    )  # fmt: skip
    found: dict[str, dict[str, str | None]] = {}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found[tag] = dict(attrs)

    text = video._repr_html_()
    Reader().feed(text)
    found["text"] = {"text": re.sub("<[^>]*>", "", text)}
    return found


def as_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_an_mp4_has_a_player_with_its_first_frame() -> None:
    """And its facts below."""
    found = shown(b"film", "mp4")
    assert found["video"]["src"] == as_url("video/mp4", b"film")
    assert found["video"]["poster"] == as_url("image/png", b"png")
    assert found["text"] == {"text": "64 by 32 · 36 frames · 1.50 s · without sound"}


@pytest.mark.parametrize("video_format", ["gif", "apng", "webp"])
def test_animations_are_images(video_format: str) -> None:
    """Which a player would not play."""
    found = shown(b"film", video_format)
    assert found["img"]["src"] == as_url(f"image/{video_format}", b"film")
    assert "video" not in found


def test_a_large_video_is_shown_by_its_preview() -> None:
    """A notebook keeps in its file what it shows."""
    found = shown(bytes(MAX_INLINE_BYTES + 1), "mp4")
    assert found["img"]["src"] == as_url("image/gif", b"gif")
    assert "save() has the video" in str(found["text"])


def test_without_a_preview_there_are_the_facts() -> None:
    """No empty picture."""
    assert set(shown(bytes(MAX_INLINE_BYTES + 1), "mp4", preview=None)) == {"figure", "figcaption", "text"}


class Screen:
    """Stands in for IPython's display: keeps every state of its one output, as HTML and as text."""

    def __init__(self) -> None:
        self.outputs = 0
        self.html: list[str] = []
        self.text: list[str] = []

    def __call__(self, shown: Progress, *, display_id: bool) -> "Screen":
        """Open an output."""
        assert display_id
        self.outputs += 1
        self.update(shown)
        return self

    def update(self, shown: object) -> None:
        """Replace what is there."""
        assert isinstance(shown, Progress)
        self.html.append(shown._repr_html_())
        self.text.append(repr(shown))


def completion() -> Completion:
    """The chain's end."""
    return Completion(**{name: getattr(complete(b"x"), name) for name in wire.Complete.__struct_fields__})


def test_progress_is_one_output_with_the_chain_and_every_running_stage() -> None:
    """Updated event by event; at the end only the chain is left."""
    screen = Screen()
    progress = Progress(screen)
    for event in [*PROGRESS, completion()]:
        progress(event)
    assert screen.outputs == 1
    assert screen.text == [
        "chain: next in the queue",
        "chain: 0 of 2 stages",
        "chain: 0 of 2 stages\nstage 0: starting",
        "chain: 0 of 2 stages\nstage 0: step 1/2",
        "chain: 0 of 2 stages\nstage 0: step 1/2\nstage 1: starting",
        "chain: 0 of 2 stages\nstage 0: step 1/2\nstage 1: step 1/2",
        "chain: 0 of 2 stages\nstage 0: step 2/2\nstage 1: step 1/2",
        "chain: 1 of 2 stages\nstage 1: step 1/2",
        "chain: 2 of 2 stages",
        "chain: stitching 9 frames",
        "chain: stitching 9 frames\nencoder: frame 9/9",
        "chain: 9 frames",
    ]


def test_progress_is_an_on_event_of_generate() -> None:
    """As it comes over the wire."""
    screen = Screen()
    with threaded_server() as (_, url), Longtake(url) as client:
        client.generate({"prompt": "x", "total_frames": 9}, on_event=Progress(screen))
    assert (screen.outputs, screen.text[-1]) == (1, "chain: 9 frames")


def test_the_bars_are_as_long_as_what_is_done() -> None:
    """Without a length where that is not known; each has a name for who cannot see it."""
    screen = Screen()
    progress = Progress(screen)
    for event in PROGRESS[:5]:
        progress(event)
    bars = re.findall(r'<progress aria-label="(.*?)" style=".*?"(?: value="(.*?)")?>', screen.html[-1])
    assert bars == [("chain", "0.250"), ("stage 0", "0.500"), ("stage 1", "")]


def test_a_resumed_chain_keeps_the_stages_it_has() -> None:
    """Those that ran when it stopped begin again."""
    progress = Progress(Screen())
    for event in [*PROGRESS[:8], wire.Stopped(code="CANCELLED")]:
        progress(event)
    assert repr(progress) == "chain: stopped (CANCELLED), resumed"
    progress(wire.StageStart(stage_idx=1, attempt=2))
    assert repr(progress) == "chain: 1 of 2 stages\nstage 1: starting (attempt 2)"


def test_text_of_the_server_is_no_markup() -> None:
    """Whatever it sends."""
    progress = Progress()
    progress(wire.Stopped(code="<script>alert(1)</script>"))
    assert "<script" not in progress._repr_html_()
    assert "&lt;script&gt;" in progress._repr_html_()


@pytest.mark.parametrize(
    "event", [UnknownEvent(name="new", data=b"<b>", id="3"), wire.StageMedia(stage_idx=0, url="/x")]
)
def test_events_without_a_picture_update_nothing(event: Event) -> None:
    """Nor is an empty step a division by zero."""
    screen = Screen()
    progress = Progress(screen)
    progress(wire.DenoiseStep(stage_idx=0, step=0, total=0))
    progress(event)
    assert len(screen.html) == 1


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["imported only", "IPython in a terminal"])
def test_outside_a_notebook_nothing_is_shown(
    shell: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state is there as text for whoever asks."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]  # what is asked of it
    progress = Progress()
    progress(PROGRESS[0])
    assert capsys.readouterr() == ("", "")
    assert str(progress) == "chain: next in the queue"


def test_in_a_notebook_ipythons_display_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel is running."""
    screen = Screen()
    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", kernel)  # type: ignore[arg-type]  # what is asked of it
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=screen))  # type: ignore[arg-type]
    Progress()(PROGRESS[0])
    assert screen.text == ["chain: next in the queue"]
