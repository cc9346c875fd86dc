"""The page for everyone: axe-core finds nothing, nothing is wider than a phone, nothing moves that should not."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from browser import PHONE, WIDE, Visit, visit
from facade_server import Server, serving
from longtake.client import Longtake
from longtake_facade.backend import BackendError
from longtake_facade.memory import MemoryBackend
from served import TINY

FAILING = "this stage fails"
FOCUSED = "((one) => one.ariaLabel || one.labels?.[0]?.textContent || one.textContent)(document.activeElement)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that has rendered a chain and a retake of it, and failed at another."""
    backend = MemoryBackend(TINY, instances=2)
    backend.failures[FAILING] = BackendError("the model is not well")
    with serving(tmp_path_factory.mktemp("access"), backend) as running:
        with Longtake(running.url) as client:
            made = client.submit(
                {"stages": [{"prompt": "a", "frames": 17}, {"prompt": "b", "frames": 17, "transition": "cut"}]}
            )
            client.wait(made.id)
            client.wait(client.retake(made.id, 1, prompt="c").id)
            client.wait(client.submit({"stages": [{"prompt": FAILING, "frames": 9}]}).id)
        yield running


def newest(server: Server, state: str) -> str:
    with Longtake(server.url) as client:
        return next(iter(client.list(state=state))).id


def composing(tab: Visit, _: Server) -> None:
    tab.open().button("Start from an example").click()
    for summary in tab.page.locator("summary").all():
        summary.click()
    tab.page.get_by_label("Width").fill("65")
    expect(tab.page.get_by_text("1 problem to solve")).to_be_visible()


def exporting(tab: Visit, _: Server) -> None:
    tab.open().button("Export").click()
    expect(tab.page.get_by_role("dialog")).to_be_visible()


def importing(tab: Visit, _: Server) -> None:
    tab.open().button("Import").click()
    tab.button("Use this script").click()
    expect(tab.page.get_by_role("alert").first).to_be_visible()


def result(tab: Visit, server: Server) -> None:
    tab.open(f"#/chains/{newest(server, 'completed')}")
    expect(tab.page.get_by_role("heading", name="Joins")).to_be_visible()
    expect(tab.page.get_by_role("heading", name="Before and after")).to_be_visible()


def failure(tab: Visit, server: Server) -> None:
    tab.open(f"#/chains/{newest(server, 'failed')}")
    expect(tab.page.get_by_role("alert")).to_be_visible()


def gallery(tab: Visit, _: Server) -> None:
    tab.open("#/gallery")
    expect(tab.page.locator(".gallery li")).to_have_count(3)


def docs(tab: Visit, _: Server) -> None:
    tab.open("api/docs#schema-chainstage")
    expect(tab.page.get_by_role("table", name="Fields")).to_be_visible()


VIEWS: list[Callable[[Visit, Server], None]] = [composing, exporting, importing, result, failure, gallery, docs]


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(browser: Browser, server: Server, view: Callable[[Visit, Server], None]) -> None:
    """On every view, wide and narrow, in light and dark; and none is wider than its screen."""
    with visit(browser, server.url, color_scheme="light", reduced_motion="reduce") as tab:
        tab.refusals = True
        view(tab, server)
        for size in (WIDE, PHONE):
            tab.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            tab.page.emulate_media(color_scheme="light")
            assert violations(tab, {}) == []
            tab.page.emulate_media(color_scheme="dark")
            # Nothing else depends on the colours.
            assert violations(tab, {"runOnly": ["color-contrast"]}) == []
            assert tab.page.evaluate("document.documentElement.scrollWidth") == size["width"]


def violations(tab: Visit, options: dict[str, Any]) -> list[tuple[str, list[str]]]:
    found = Axe().run(tab.page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [(one["id"], [f"{node['html'][:120]} {node['failureSummary']}" for node in one["nodes"]]) for one in found]


def test_the_keyboard_reaches_everything_in_order(browser: Browser, server: Server) -> None:
    """From the link that skips, past the pages, to the timeline and into the first stage; the focus can be seen."""
    with visit(browser, server.url) as tab:
        tab.open().write("one")
        tab.page.reload()
        tab.stage(1).wait_for()
        seen = []
        for _ in range(16):
            tab.page.keyboard.press("Tab")
            seen.append(tab.page.evaluate(FOCUSED))
            assert tab.page.evaluate("document.activeElement.matches(':focus-visible')")
        words = [
            "Skip to the content",
            "Longtake",
            "Compose",
            "Gallery",
            "API",
            "Stage 1, 25 frames",
            "Move up",
            "Prompt",
        ]
        places = [next(i for i, name in enumerate(seen) if name.startswith(word)) for word in words]
        assert places == sorted(places)


def test_the_link_that_skips_leaves_the_view(browser: Browser, server: Server) -> None:
    """It moves the focus, not the address."""
    with visit(browser, server.url) as tab:
        tab.open("#/gallery")
        tab.page.locator(".gallery li").first.wait_for()
        tab.page.keyboard.press("Tab")
        tab.page.keyboard.press("Enter")
        expect(tab.page.get_by_role("main")).to_be_focused()
        assert tab.page.url.endswith("#/gallery")


def test_nothing_moves_for_those_who_want_it_still(browser: Browser, server: Server) -> None:
    """The gallery's pictures stay, and nothing is animated."""
    with visit(browser, server.url, reduced_motion="reduce") as tab:
        tab.open("#/gallery")
        item = tab.page.locator(".gallery li").filter(has=tab.page.locator("img")).first
        item.get_by_role("link").hover()
        expect(item.locator("img")).to_have_attribute("src", re.compile("thumbnail$"))
        assert tab.page.evaluate("document.getAnimations().length") == 0


def test_checking_moves_nothing(browser: Browser, server: Server) -> None:
    """Writing a script shifts what is on the screen no more than the cards it adds."""
    with visit(browser, server.url) as tab:
        tab.open().stage(1).wait_for()
        tab.page.evaluate(
            """() => { window.shifts = 0; new PerformanceObserver((list) => {
                for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
            }).observe({ type: "layout-shift", buffered: true }); }"""
        )
        tab.write("one")
        tab.page.get_by_label("Seed", exact=True).fill("5")
        expect(tab.page.get_by_text("Ready to render")).to_be_visible()
        assert tab.page.evaluate("window.shifts") < 0.02


def test_the_policy_holds_in_the_browser(browser: Browser, server: Server) -> None:
    """Text does not become HTML even where a module would try to."""
    with visit(browser, server.url) as tab:
        tab.open().stage(1).wait_for()
        attempt = "try { document.body.innerHTML = '<img src=x>'; 'made' } catch (error) { error.name }"
        tab.refusals = True
        assert tab.page.evaluate(attempt) == "TypeError"
        tab.faults.clear()
