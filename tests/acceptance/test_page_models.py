"""The page over real models, whose server dies while it is looked at."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from browser import visit
from longtake.client import Longtake
from longtake.wire import ChainState
from longtake_facade.embedded import EmbeddedTriton
from serve_process import start, stop


def test_the_server_is_killed_in_the_middle_and_the_page_goes_on(
    browser: Browser, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    """Over real models: the tab stays open, the next server finishes the chain, the tab shows its video."""
    first = start(tmp_path / "data", "--triton", triton.grpc_address)
    port = first.url.rpartition(":")[2]
    with visit(browser, first.url) as tab:
        tab.refusals = True
        tab.open().write("kept through a crash", "finished after it")
        tab.page.get_by_label("Steps").fill("60")
        chain = tab.render()
        expect(tab.clip(2)).to_contain_text("step")
        first.kill()
        stop(first)
        expect(tab.page.locator(".status")).to_contain_text("The connection is gone")
        second = start(tmp_path / "data", "--triton", triton.grpc_address, "--port", port)
        try:
            expect(tab.page.get_by_role("link", name="Download")).to_be_visible(timeout=60_000)
            with Longtake(second.url) as client:
                assert client.chain(chain).state is ChainState.COMPLETED
            expect(tab.page.locator("video")).to_have_js_property("readyState", 4)
            expect(tab.page.locator(".join-kind")).to_have_text(["Smooth"])
        finally:
            stop(second)
