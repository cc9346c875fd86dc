"""The page over real models, whose server dies while it is looked at."""

from pathlib import Path

from msgspec.structs import replace
from playwright.sync_api import Browser, expect

from browser import visit
from facade_server import serving
from longtake.client import Longtake
from longtake.wire import ChainState
from longtake_facade.embedded import EmbeddedTriton
from longtake_facade.memory import MemoryBackend
from serve_process import start, stop
from served import GIB, ON_GPU


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


def test_memory_is_told_where_it_is_known(browser: Browser, tmp_path: Path) -> None:
    """On a GPU, and that a script does not fit before anybody waits for it."""
    assert ON_GPU.vram
    smaller = replace(ON_GPU, vram=replace(ON_GPU.vram, device_bytes=41 * GIB))
    with serving(tmp_path, MemoryBackend(smaller)) as server, visit(browser, server.url) as tab:
        tab.open().write("one stage")
        cost = tab.page.locator(".cost")
        tab.stage(1).get_by_label("Frames", exact=True).fill("9")
        expect(cost).to_have_text("40.7 GiB of GPU memory")
        tab.stage(1).get_by_label("Frames", exact=True).fill("97")
        expect(cost).to_have_text("47.7 GiB of GPU memory, more than the GPU has")
