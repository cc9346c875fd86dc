"""A real Chromium for tests of the page: what a test sees in it, and what it must never see."""

import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
WIDE = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, or the one that Playwright has installed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Visit:
    """A tab of the page. ``faults``: what went wrong in it, by its console and its exceptions."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    refusals: bool = False
    """Whether the server is expected to refuse something, or to be away: a browser calls that an error."""

    def open(self, place: str = "") -> "Visit":
        """Go to a place of the page, from anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")
        return self

    # What tests do again and again.

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def stage(self, number: int) -> Locator:
        """A stage's card, from 1."""
        return self.page.get_by_role("article", name=f"Stage {number}", exact=True)

    def clip(self, number: int) -> Locator:
        """A stage on the timeline, from 1."""
        return self.page.get_by_role("button", name=re.compile(rf"^Stage {number},"))

    def write(self, *prompts: str) -> "Visit":
        """A script of smooth stages."""
        self.stage(1).wait_for()
        for i, prompt in enumerate(prompts, 1):
            if self.stage(i).count() == 0:
                self.button("Add a stage").click()
            self.stage(i).get_by_label("Prompt", exact=True).fill(prompt)
        return self

    def render(self) -> str:
        """Send the script; the new chain's id."""
        self.button("Render").click()
        self.page.wait_for_url(re.compile("#/chains/"))
        return self.page.url.rpartition("/")[2]

    def request(self) -> Any:
        """What the draft would send."""
        script = """async () => {
            const { load } = await import("/static/storage.js");
            const { requestOf } = await import("/static/request.js");
            const { stringify } = await import("/static/json.js");
            const kept = await load("draft");
            return stringify(await requestOf(kept, { frames: 25 }));
        }"""
        return self.page.evaluate(script)


@contextmanager
def visit(browser: Browser, url: str, **options: Any) -> Iterator[Visit]:
    """A tab with a memory of its own; at its end nothing may have gone wrong in it."""
    context = browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(15_000)
    here = Visit(context.new_page(), url)
    context.on("console", lambda message: _note(here, message))
    context.on("weberror", lambda error: here.faults.append(str(error.error)))
    yield here
    context.close()
    assert here.faults == []


def _note(here: Visit, message: ConsoleMessage) -> None:
    network = message.text.startswith("Failed to load resource")
    if message.type in ("error", "warning") and not (network and here.refusals):
        here.faults.append(f"{message.type}: {message.text}")


def png(colour: tuple[int, int, int] = (200, 30, 60)) -> bytes:
    """A small image of one colour."""
    file = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), colour, np.uint8)).save(file, "PNG")
    return file.getvalue()
