"""The composer in a real browser: a script is written, moved about, kept, checked, and taken elsewhere."""

import base64
import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from browser import PHONE, Visit, png, visit
from chains import chain, stage
from facade_server import Server, serving
from longtake.client import Longtake
from longtake.script import dump, loads
from longtake.wire import ChainRequest, Transition
from longtake_facade.memory import MemoryBackend
from longtake_facade.plan import Shot, StitchFault, plan
from served import PALETTE, TINY

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-acts.toml"
BIG = 2**64 - 1
# A file comes by drop or paste.
GIVE = """(target, {kind, name, type, data}) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], name, { type }));
    const options = { bubbles: true, cancelable: true };
    target.dispatchEvent(kind === "drop"
        ? new DragEvent("drop", { ...options, dataTransfer: files })
        : new ClipboardEvent("paste", { ...options, clipboardData: files }));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("compose"), MemoryBackend(TINY)) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Visit]:
    with visit(browser, server.url) as here:
        yield here.open()


def given(kind: str, name: str, media_type: str, data: bytes) -> dict[str, str]:
    """What GIVE gives."""
    return {"kind": kind, "name": name, "type": media_type, "data": base64.b64encode(data).decode()}


def prompts(page: Page) -> list[str]:
    return [one.input_value() for one in page.get_by_label("Prompt", exact=True).all()]


def sent(tab: Visit) -> ChainRequest:
    """The request of the draft as it is kept."""
    tab.page.wait_for_timeout(250)
    request: ChainRequest = msgspec.json.decode(tab.request(), type=ChainRequest)
    return request


def exported(tab: Visit, form: str) -> str:
    tab.button("Export").click()
    dialog = tab.page.get_by_role("dialog")
    dialog.get_by_role("button", name=form, exact=True).click()
    with tab.page.expect_download() as download:
        dialog.get_by_role("button", name="Download").click()
    dialog.get_by_role("button", name="Close").click()
    return Path(download.value.path()).read_text()


def imported(tab: Visit, text: str) -> None:
    tab.button("Import").click()
    tab.page.get_by_role("textbox", name="Script").fill(text)
    tab.button("Use this script").click()


# ------------------------------------------------------------------------------------------------------ editing


def test_stages_are_moved_by_buttons_by_keyboard_and_by_hand(tab: Visit) -> None:
    """The focus stays with what is moved, and screen readers are told."""
    tab.write("one", "two", "three")
    tab.stage(3).get_by_role("button", name="Move up").click()
    assert prompts(tab.page) == ["one", "three", "two"]
    field = tab.stage(1).get_by_label("Prompt", exact=True)
    field.focus()
    tab.page.keyboard.press("Alt+ArrowDown")
    assert prompts(tab.page) == ["three", "one", "two"]
    expect(tab.stage(2).get_by_label("Prompt", exact=True)).to_be_focused()
    expect(tab.page.locator("[aria-live]").get_by_text("Stage 1 is now stage 2 of 3")).to_have_count(1)
    tab.page.keyboard.press("Alt+ArrowUp")
    tab.page.set_viewport_size({"width": 1360, "height": 2200})
    grip = tab.stage(1).locator(".grip").bounding_box()
    below = tab.stage(3).bounding_box()
    assert grip
    assert below
    tab.page.mouse.move(grip["x"] + 8, grip["y"] + 8)
    tab.page.mouse.down()
    tab.page.mouse.move(grip["x"] + 8, below["y"] + below["height"], steps=6)
    tab.page.mouse.up()
    assert prompts(tab.page) == ["three", "two", "one"]


def test_stages_are_duplicated_and_deleted_and_a_deletion_undone(tab: Visit) -> None:
    """With all that is in them."""
    tab.write("one", "two")
    tab.stage(1).get_by_label("Image").or_(tab.stage(1).locator("input[type=file]")).first.set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    tab.stage(1).get_by_role("button", name="Duplicate").click()
    assert prompts(tab.page) == ["one", "one", "two"]
    tab.stage(1).get_by_role("button", name="Delete").click()
    assert prompts(tab.page) == ["one", "two"]
    tab.button("Undo").click()
    assert prompts(tab.page) == ["one", "one", "two"]
    assert [one.source_image for one in sent(tab).stages] == [png(), png(), None]


def test_frames_and_seconds_are_one_value_on_the_grid(tab: Visit) -> None:
    """Whatever is typed in seconds becomes the nearest clip there can be."""
    card = tab.write("a length").stage(1)
    card.get_by_label("Seconds").fill("2")
    card.get_by_label("Seconds").press("Tab")
    expect(card.get_by_label("Frames", exact=True)).to_have_value("49")
    expect(card.get_by_label("Seconds")).to_have_value("2.04")
    card.get_by_label("Frames", exact=True).fill("97")
    expect(card.get_by_label("Seconds")).to_have_value("4.04")
    expect(tab.page.locator(".total[data-state=exact]")).to_have_text("4.04 s · 97 frames · 1 take")


def test_an_image_comes_by_drop_by_paste_and_by_choice(tab: Visit) -> None:
    """Each with a preview; what is no image is refused at its place."""
    tab.write("dropped", "pasted", "chosen")
    dropped, pasted, chosen = (png((shade, 0, 0)) for shade in (10, 90, 200))
    tab.stage(1).locator(".image-drop").evaluate(GIVE, given("drop", "a.png", "image/png", dropped))
    by_paste = given("paste", "a.png", "image/png", pasted)
    tab.stage(2).get_by_label("Prompt", exact=True).evaluate(GIVE, by_paste)
    file = tab.stage(3).locator("input[type=file]")
    file.set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    expect(tab.stage(3)).to_contain_text("This is no PNG, JPEG or WebP image.")
    file.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": chosen})
    expect(tab.page.get_by_alt_text("The image of this stage")).to_have_count(3)
    assert [one.source_image for one in sent(tab).stages] == [dropped, pasted, chosen]


def test_the_draft_survives_a_reload_with_its_images(tab: Visit) -> None:
    """Every field of it."""
    tab.button("Start from an example").click()
    tab.stage(2).locator("input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    tab.page.get_by_label("Seed", exact=True).fill(str(BIG))
    tab.stage(2).get_by_text("Negative prompt, seed offset").click()
    tab.stage(2).get_by_label("Negative prompt").fill("rain")
    before = sent(tab)
    tab.page.reload()
    expect(tab.page.get_by_label("Seed", exact=True)).to_have_value(str(BIG))
    expect(tab.stage(2).get_by_alt_text("The image of this stage")).to_be_visible()
    assert sent(tab) == before
    assert before.seed == BIG
    assert before.stages[1].source_image == png()


# ----------------------------------------------------------------------------------------------------- checking


def test_problems_appear_at_the_field_that_causes_them(tab: Visit) -> None:
    """In the server's words, with its stages numbered as here; a screen reader reads them with the field."""
    tab.refusals = True
    tab.write("one", "two").stage(2).get_by_label("Prompt", exact=True).fill("")
    tab.page.get_by_label("Prompt", exact=True).first.focus()
    second = tab.page.locator(".stage").nth(1)
    second.get_by_label("Transition").select_option("fade")
    second.get_by_label("Fade, frames").fill("33")
    tab.page.get_by_label("Width").fill("65")
    tab.page.get_by_label("Seed", exact=True).fill(str(2**64))
    expected = {
        second.get_by_label("Fade, frames"): "Stage 2's fade_frames (33) must be 1..32.",
        tab.page.get_by_label("Width"): "Width (65) must be a positive multiple of 32.",
        tab.page.get_by_label("Seed", exact=True): f"Seed ({2**64}) must be 0..2^64-1.",
        second.get_by_label("Prompt", exact=True): "A stage needs a prompt.",
    }
    for field, message in expected.items():
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(f"{re.escape(message)}$"))
    expect(tab.clip(2).locator("xpath=..")).to_have_attribute("data-problem", "")
    tab.button("Render").click()
    expect(tab.page.locator("[aria-invalid=true]:focus")).to_have_count(1)
    second.get_by_label("Prompt", exact=True).fill("three")
    second.get_by_label("Fade, frames").fill("30")
    tab.page.get_by_label("Width").fill("")
    tab.page.get_by_label("Seed", exact=True).fill("")
    expect(second).to_contain_text("the fade of 30 frames out of stage 1 is too long")
    second.get_by_label("Fade, frames").fill("8")
    expect(tab.page.get_by_text("Ready to render")).to_be_visible()
    expect(tab.page.locator("[aria-invalid=true]")).to_have_count(0)


def test_a_warning_is_no_obstacle(tab: Visit) -> None:
    """A negative prompt without guidance."""
    tab.write("one").stage(1).get_by_text("Negative prompt, seed offset").click()
    tab.stage(1).get_by_label("Negative prompt").fill("rain")
    expect(tab.page.get_by_text("Ready, with 1 warning")).to_be_visible()
    expect(tab.stage(1)).to_contain_text("has no effect with guidance 1")


def test_a_warning_about_an_image_stays_while_the_script_is_edited(tab: Visit) -> None:
    """Also where the image is not sent with every check; a copy of the stage has it, too."""
    warning = "The model knows only pictures of a flat shape on a flat background"
    foreign, known = png((120, 120, 120)), png(PALETTE["green"])
    tab.write("one", "two")
    for number, image in ((1, foreign), (2, known)):
        file = {"name": "a.png", "mimeType": "image/png", "buffer": image}
        tab.stage(number).locator("input[type=file]").set_input_files(file)
    expect(tab.page.get_by_text("Ready, with 1 warning")).to_be_visible()
    expect(tab.stage(1)).to_contain_text(warning)
    tab.stage(1).get_by_role("button", name="Duplicate").click()
    expect(tab.page.get_by_text("Ready, with 2 warnings")).to_be_visible()
    expect(tab.stage(2)).to_contain_text(warning)
    expect(tab.stage(3)).not_to_contain_text(warning)


def test_the_page_lays_out_as_the_server_plans(tab: Visit) -> None:
    """Starts, lengths and takes of scripts of every kind are the plan's."""
    draw = random.Random(7)
    cases: list[dict[str, Any]] = []
    planned = []
    while len(cases) < 300:
        frames = [8 * draw.randint(1, 12) + 1 for _ in range(draw.randint(1, 8))]
        shots = [Shot(f, draw.choice(list(Transition)), draw.randint(1, 32)) for f in frames]
        shots[0] = Shot(frames[0], Transition.SMOOTH, 8)
        tail = draw.choice([0, 1, 9, 17])
        try:
            whole = plan(shots, tail).total_frames
            total = max(1, whole - draw.randint(0, 7))
            found = plan(shots, tail, total)
        except StitchFault:
            continue
        planned.append(found)
        cases.append({"shots": msgspec.to_builtins(shots), "tail": tail, "total": total})
    script = 'cases => import("/static/layout.js").then(m => cases.map(c => m.layout(c.shots, c.tail, c.total)))'
    for case, want in zip(tab.page.evaluate(script, cases), planned, strict=True):
        assert case["total"] == want.total_frames
        assert case["takes"] == [list(take) for take in want.takes]
        for placed, one in zip(case["stages"], want.stages, strict=True):
            assert (placed["start"], placed["output"]) == (one.start, one.output_frames)
            assert (placed["drop"], placed["fadeIn"], placed["trim"]) == (one.drop, one.fade_in, one.trim)


# ------------------------------------------------------------------------------------------------ other forms


def requests() -> list[ChainRequest]:
    """Seeds beyond what JavaScript and TOML can count to, any text, and everything a script can have."""
    text = "quotes \" \\ and \t tabs,\nlines, `${}`, ''', END, emoji \U0001f3ac, \x7f"
    return [
        chain(stage("a", seed_offset=2**53 + 1), stage("b", seed_offset=BIG), seed=2**63),
        chain(stage(text, negative_prompt=text), stage("END\nEND")),
        chain(
            stage("a", 25, source_image=png()),
            stage("b", 33, Transition.FADE, fade_frames=5, source_image=png((1, 2, 3))),
            stage("c", 17, Transition.CUT),
            model="tiny-ltx2",
            width=96,
            height=64,
            fps=12,
            seed=0,
            guidance=2.5,
            strength=0.25,
            output_format="webp",
            enable_audio=False,
            total_frames=67,
        ),
    ]


def test_scripts_go_through_the_page_unchanged(tab: Visit) -> None:
    """The client's TOML read by the page, and the page's by the client, are one request."""
    for request in requests():
        imported(tab, dump(request))
        expect(tab.page.get_by_role("dialog")).to_have_count(0)
        assert sent(tab) == request
        assert loads(exported(tab, "TOML")) == request


def test_the_forms_of_a_script_do_what_they_say(tab: Visit, server: Server, tmp_path: Path) -> None:
    """The command, curl's and Python's programs send the same request; the first two are run by a real shell."""
    imported(tab, dump(requests()[1]))
    want = sent(tab)
    # What the shell calls is written down, with its standard input, instead of run.
    fakes = (
        'longtake() { cp script.toml sent.toml; echo "$@" > args; }; curl() { cat > sent.json; echo "$@" > args; }\n'
    )
    for form, file in (("Command", "sent.toml"), ("curl", "sent.json")):
        text = exported(tab, form)
        subprocess.run(["bash", "-euc", fakes + text], check=True, cwd=tmp_path, env=os.environ)
        body = (tmp_path / file).read_text()
        assert server.url in (tmp_path / "args").read_text()
        assert (loads(body) if form == "Command" else msgspec.json.decode(body, type=ChainRequest)) == want
    subprocess.run([sys.executable, "-c", exported(tab, "Python")], check=True, cwd=tmp_path)
    assert (tmp_path / "longtake.mp4").stat().st_size > 0
    with Longtake(server.url) as client:
        newest = next(iter(client.list()))
        assert [one.prompt for one in client.chain(newest.id).script.stage] == [one.prompt for one in want.stages]


def test_a_form_is_copied(browser: Browser, server: Server) -> None:
    """To the clipboard."""
    with visit(browser, server.url, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.open().write("to the clipboard")
        tab.button("Export").click()
        tab.page.get_by_role("dialog").get_by_role("button", name="Copy").click()
        expect(tab.page.get_by_role("button", name="Copied")).to_be_visible()
        assert loads(tab.page.evaluate("navigator.clipboard.readText()")) == sent(tab)


def test_the_example_file_is_read_with_its_comments(tab: Visit) -> None:
    """As the client reads it, by the file chooser."""
    tab.button("Import").click()
    tab.page.get_by_label("Choose a file").set_input_files(EXAMPLE)
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    assert sent(tab) == loads(EXAMPLE.read_text())


def test_a_script_is_dropped_anywhere(tab: Visit) -> None:
    """Nothing that is dropped makes the browser leave the page."""
    tab.write("mine").page.locator(".settings").evaluate(GIVE, given("drop", "notes.txt", "text/plain", b"notes"))
    expect(tab.page.get_by_text("Drop an image on its stage")).to_be_visible()
    dropped = given("drop", "s.toml", "application/toml", dump(chain(stage("dropped"))).encode())
    tab.page.locator(".settings").evaluate(GIVE, dropped)
    expect(tab.stage(1).get_by_label("Prompt", exact=True)).to_have_value("dropped")


def test_one_prompt_for_a_length_is_expanded_by_the_server(tab: Visit) -> None:
    """Into the stages that make it."""
    imported(tab, 'schema = "mold.chain.v1"\n[chain]\nprompt = "long"\ntotal_frames = 150\nclip_frames = 97\n')
    expect(tab.page.locator(".total[data-state=exact]")).to_have_text("6.25 s · 150 frames · 1 take")
    assert prompts(tab.page) == ["long", "long"]
    assert sent(tab).seed is None


def test_an_image_of_a_script_is_chosen_with_it(tab: Visit, tmp_path: Path) -> None:
    """Without it the page says which one is missing."""
    script = 'schema = "mold.chain.v1"\n[[stage]]\nprompt = "x"\nframes = 9\nsource_image_path = "in/a.png"\n'
    (tmp_path / "s.toml").write_text(script)
    (tmp_path / "a.png").write_bytes(png())
    imported(tab, script)
    expect(tab.page.get_by_role("alert").filter(has_text="Stage 1 names the image in/a.png")).to_be_visible()
    tab.page.get_by_label("Choose a file").set_input_files([tmp_path / "s.toml", tmp_path / "a.png"])
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    assert sent(tab).stages[0].source_image == png()


def test_what_is_no_script_is_told_where(tab: Visit) -> None:
    """And the draft stays."""
    tab.refusals = True
    tab.write("stays")
    head = 'schema = "mold.chain.v1"\n'
    wrong = {
        "schema = ": "Line 1, column",
        'schema = "other"': 'The first line must be: schema = "mold.chain.v1".',
        f'{head}[[stage]]\nprompt = "x"\ntransitoin = "cut"': "Stage 1: transitoin is not known here",
        f'{head}[chain]\nseed = -1\n[[stage]]\nprompt = "x"': "must be a whole number from 0",
        f'{head}[chain]\nprompt = "x"': "Chain auto-expand requires total_frames.",
    }
    for script, said in wrong.items():
        imported(tab, script)
        expect(tab.page.get_by_role("alert").filter(has_text=said)).to_be_visible()
        tab.page.keyboard.press("Escape")
        assert prompts(tab.page) == ["stays"]


def test_a_replaced_draft_can_be_had_back(tab: Visit) -> None:
    """By one button."""
    tab.write("mine")
    imported(tab, dump(chain(stage("theirs"))))
    assert prompts(tab.page) == ["theirs"]
    tab.button("Undo").click()
    assert prompts(tab.page) == ["mine"]


def test_a_script_is_written_on_a_phone(browser: Browser, server: Server) -> None:
    """By touch, and nothing is wider than the screen."""
    with visit(browser, server.url, viewport=PHONE, has_touch=True, is_mobile=True) as tab:
        tab.open().button("Start from an example").tap()
        for _ in itertools.repeat(None, 2):
            tab.stage(5).get_by_role("button", name="Move up").tap()
            tab.stage(4).get_by_role("button", name="Move down").tap()
        assert tab.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        expect(tab.page.get_by_text("Ready to render")).to_be_visible()
