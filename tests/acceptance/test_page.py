"""The page in a real browser, over real models: from a script to a video, and what happens on the way."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Route, expect

from browser import Visit, visit
from facade_server import Server, serving
from longtake.client import Longtake
from longtake_facade.backend import ModelOutOfMemory
from longtake_facade.embedded import EmbeddedTriton
from paced import PacedModels

HOSTILE = '<img src=x onerror="document.title=1"><b>bold</b>'


@pytest.fixture(scope="module")
def backend(triton: EmbeddedTriton) -> PacedModels:
    return PacedModels(triton.grpc_address, step_seconds=0.02)


@pytest.fixture(scope="module")
def server(backend: PacedModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page"), backend, max_running=2) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, server: Server) -> Iterator[Visit]:
    with visit(browser, server.url) as here:
        yield here.open()


@pytest.fixture
def slow(backend: PacedModels) -> Iterator[None]:
    """Steps that leave time to look."""
    backend.step_seconds = 0.12
    yield
    backend.step_seconds = 0.02


def finished(here: Visit) -> None:
    expect(here.page.get_by_role("link", name="Download")).to_be_visible()


def joins_shown(here: Visit) -> list[str]:
    here.page.get_by_role("heading", name="Joins").wait_for()
    return here.page.locator(".joins tbody .join-kind").all_inner_texts()


# ---------------------------------------------------------------------------------------------------- rendering


def test_a_script_becomes_a_video_with_its_joins(tab: Visit, server: Server) -> None:
    """Steps appear on the timeline, stages are playable, then the video, which is the server's file."""
    tab.button("Start from an example").click()
    expect(tab.page.get_by_text("Ready to render")).to_be_visible()
    total = tab.page.locator(".total").inner_text()
    chain = tab.render()
    expect(tab.page.locator(".clip-note").filter(has_text=re.compile(r"step \d of 8")).first).to_be_visible()
    finished(tab)
    with Longtake(server.url) as client:
        done = client.result(chain)
    assert total.startswith(f"{done.frames / done.fps:.2f} s · {done.frames} frames · 3 takes")
    assert joins_shown(tab) == ["Smooth", "Cut", "Fade", "Smooth"]
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="Download").click()
    assert hashlib.sha256(Path(download.value.path()).read_bytes()).hexdigest() == done.sha256
    with tab.page.expect_download() as download:
        tab.page.get_by_role("link", name="GIF").click()
    assert Path(download.value.path()).read_bytes().startswith(b"GIF89a")


def test_finished_stages_play_in_order_while_others_are_rendered(tab: Visit, backend: PacedModels, slow: None) -> None:
    """Play goes from one to the next, and on to the one that comes."""
    tab.write("first to play", "second to play").page.get_by_label("Steps").fill("24")
    tab.render()
    tab.button("Play what is ready").click()
    expect(tab.page.locator(".player-foot")).to_contain_text("the next one plays as soon as it is there")
    assert tab.page.get_by_role("link", name="Download").count() == 0
    expect(tab.page.locator("video")).to_have_attribute("src", re.compile(r"/stages/1/video$|/video$"))
    finished(tab)
    expect(tab.page.locator("video")).to_have_attribute("src", re.compile(r"[0-9a-f]{32}/video$"))


def test_the_timeline_of_a_video_is_its_score(tab: Visit) -> None:
    """A stage on it is a place to go to; the playhead says where one is."""
    tab.write("a place to go from", "a place to go to").render()
    finished(tab)
    tab.clip(2).click()
    expect(tab.page.locator(".playhead")).to_be_visible()
    seconds = tab.page.evaluate("document.querySelector('video').currentTime")
    assert seconds == pytest.approx(25 / 24, abs=1 / 24)
    expect(tab.clip(2)).to_have_attribute("aria-pressed", "true")
    expect(tab.page.get_by_role("heading", name="Stage 2")).to_be_visible()


def test_animations_are_shown_as_the_images_they_are(tab: Visit) -> None:
    """With no player, which could not play them."""
    tab.write("an animation").page.get_by_label("Format").select_option("apng")
    tab.render()
    finished(tab)
    image = tab.page.get_by_alt_text("The video, animated")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 64)
    assert not tab.page.locator("video").is_visible()


def test_several_chains_at_once_are_followed_from_everywhere(tab: Visit, slow: None) -> None:
    """Each is a link on every view."""
    for name in ("one of two", "two of two"):
        tab.open().write(name)
        tab.render()
    links = tab.page.locator("#activity a")
    expect(links).to_have_count(2)
    tab.page.get_by_role("link", name="Gallery").click()
    expect(links).to_have_count(2)
    links.filter(has_text="one of two").click()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("one of two")
    finished(tab)


def test_a_chain_that_waits_says_its_place(tab: Visit, server: Server, slow: None) -> None:
    """And begins when its turn comes."""
    with Longtake(server.url) as client:
        for seed in range(3):
            client.submit({"stages": [{"prompt": "ahead", "frames": 9}], "seed": seed})
    tab.write("waits for its turn").render()
    expect(tab.page.locator(".status")).to_have_text(re.compile(r"Waiting: \d before it in the queue"))
    finished(tab)


# ------------------------------------------------------------------------------------------------- interruptions


def test_a_reload_loses_nothing(tab: Visit, server: Server, slow: None) -> None:
    """The page finds the chain by its address and what has happened by its events; so does another tab."""
    chain = tab.write("reloaded half-way", "reloaded as well").render()
    expect(tab.clip(1)).to_contain_text("step")
    tab.page.reload()
    expect(tab.clip(1)).to_contain_text(re.compile("step|decoding|ready"))
    tab.page.close()
    tab.page = tab.page.context.new_page()
    tab.open(f"#/chains/{chain}")
    finished(tab)


def test_a_tab_nobody_looks_at_gives_its_connection_back(tab: Visit, slow: None) -> None:
    """And has missed nothing when it is looked at again."""
    look = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    tab.write("looked away", "looked again").render()
    expect(tab.clip(1)).to_contain_text("step")
    with tab.page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        tab.page.evaluate(look, True)
    with tab.page.expect_request("**/events"):
        tab.page.evaluate(look, False)
    finished(tab)


def test_a_script_sent_twice_is_one_chain(tab: Visit, server: Server) -> None:
    """The answer is lost on its way, and the button pressed again."""
    tab.refusals = True

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    tab.write("sent twice")
    tab.page.route("**/api/chains", lose, times=1)
    tab.button("Render").click()
    expect(tab.page.get_by_text("The server does not answer. Nothing is lost")).to_be_visible()
    tab.button("Try again").click()
    finished(tab)
    with Longtake(server.url) as client:
        assert [one.prompt for one in client.list()].count("sent twice") == 1


def test_cancel_keeps_what_is_finished_and_resume_goes_on(tab: Visit, backend: PacedModels, slow: None) -> None:
    """The first stage is not rendered again."""
    tab.write("kept when cancelled", "goes on later").render()
    expect(tab.clip(1)).to_contain_text("ready")
    tab.button("Cancel").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("Finished stages are kept. Resume goes on where it stopped.")
    expect(tab.clip(1)).to_contain_text("ready")
    renders = backend.renders
    tab.button("Resume").click()
    finished(tab)
    assert backend.renders == renders + 1
    expect(tab.page.get_by_role("alert")).to_have_count(0)


def test_a_failure_is_told_in_words_and_user_text_stays_text(tab: Visit, backend: PacedModels) -> None:
    """Prompts and messages with markup in them are shown as they are, everywhere."""
    backend.failures[HOSTILE] = ModelOutOfMemory(f"out of memory {HOSTILE}")
    chain = tab.write(HOSTILE).render()
    failure = tab.page.get_by_role("alert")
    expect(failure).to_contain_text("Stage 1 failed")
    expect(failure).to_contain_text("Use this script with a smaller size or fewer frames a stage.")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    expect(tab.clip(1)).to_contain_text(HOSTILE)
    tab.page.get_by_role("link", name="Gallery").click()
    expect(tab.page.locator(".gallery-prompt").filter(has_text=HOSTILE)).to_be_visible()
    tab.open(f"#/chains/{chain}")
    tab.button("Script").click()
    expect(tab.page.locator("pre")).to_contain_text("onerror")
    assert tab.page.title() == "Chain · Longtake"
    assert tab.page.locator("main b, main img[src=x], dialog b, dialog img").count() == 0


def test_a_chain_that_is_gone_says_so(tab: Visit) -> None:
    """With a way on."""
    tab.refusals = True
    tab.open(f"#/chains/{'0' * 32}")
    expect(tab.page.get_by_role("alert")).to_contain_text("This chain is gone")
    expect(tab.page.get_by_role("link", name="To the gallery")).to_be_visible()


# ------------------------------------------------------------------------------------------------------ retakes


def test_a_stage_is_taken_again_and_compared(tab: Visit, backend: PacedModels) -> None:
    """Only that stage is rendered; old and new play side by side, by one clock."""
    tab.button("Start from an example").click()
    chain = tab.render()
    finished(tab)
    tab.clip(3).click()
    expect(tab.page.get_by_text("Renders stage 3 again. 4 other stages are reused.")).to_be_visible()
    tab.page.get_by_label("Prompt").fill("a green square instead")
    renders = backend.renders
    tab.button("Retake").click()
    tab.page.wait_for_url(lambda url: "#/chains/" in url and chain not in url)
    finished(tab)
    assert backend.renders == renders + 1
    compare = tab.page.get_by_role("region", name="Before and after")
    expect(compare).to_contain_text("Stage 3 was taken again.")
    sides = compare.locator("video")
    expect(sides).to_have_count(2)
    assert sides.nth(0).get_attribute("src") == f"/api/chains/{chain}/video"
    compare.get_by_label("Position in both").fill("0.5")
    for i in range(2):
        expect(sides.nth(i)).to_have_js_property("currentTime", 0.5)
    compare.get_by_role("button", name="Play both").click()
    expect(compare.get_by_role("button", name="Pause")).to_be_visible()


# ------------------------------------------------------------------------------------------------------ gallery


def test_the_gallery_finds_moves_reuses_and_deletes(tab: Visit, server: Server) -> None:
    """Search, a preview under the pointer, the script in the composer, and away with it."""
    with Longtake(server.url) as client:
        for prompt in ("gallery: a lighthouse", "gallery: a harbour"):
            client.generate({"stages": [{"prompt": prompt, "frames": 9, "seed_offset": 2**64 - 1}], "steps": 2})
    tab.page.get_by_role("link", name="Gallery").click()
    tab.page.get_by_label("Search the prompts").fill("LIGHTHOUSE")
    items = tab.page.locator(".gallery li")
    expect(items).to_have_count(1)
    picture = items.locator("img")
    expect(picture).to_have_attribute("src", re.compile("thumbnail$"))
    items.get_by_role("link").hover()
    expect(picture).to_have_attribute("src", re.compile("preview$"))
    items.get_by_role("button", name="Use this script").click()
    expect(tab.stage(1).get_by_label("Prompt", exact=True)).to_have_value("gallery: a lighthouse")
    expect(tab.stage(1).get_by_label("Seed offset")).to_have_value(str(2**64 - 1))
    tab.page.get_by_role("link", name="Gallery").click()
    tab.page.get_by_label("Search the prompts").fill("gallery: a h")
    items.get_by_role("button", name="Delete: gallery: a harbour").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.page.get_by_text("Nothing fits.")).to_be_visible()
    with Longtake(server.url) as client:
        assert [one.prompt for one in client.list() if one.prompt.startswith("gallery")] == ["gallery: a lighthouse"]


def test_the_api_page_has_every_endpoint(tab: Visit) -> None:
    """Of the document, with their schemas."""
    published = httpx2.get(f"{tab.url}/api/openapi.json").json()
    tab.open("api/docs")
    wanted = {f"{method.upper()} {path}" for path, item in published["paths"].items() for method in item}
    tab.page.get_by_role("heading", name="Endpoints").first.wait_for()
    assert set(tab.page.locator(".operation h3").all_inner_texts()) == wanted
    assert set(tab.page.locator(".schema h3").all_inner_texts()) == set(published["components"]["schemas"])
