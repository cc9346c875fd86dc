"""A browser's own EventSource over a crash of the server."""

import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

import memory_process
from chains import chain, stage
from longtake.client import Longtake
from ports import free_port
from serve_process import stop

FOLLOW = """url => {
    window.seen = [];
    window.source = new EventSource(url);
    for (const name of ["progress", "complete", "error"])
        window.source.addEventListener(name, event => {
            if (event.lastEventId && event.data) window.seen.push([Number(event.lastEventId), event.type]);
        });
}"""


def test_an_event_source_sees_every_event_once_and_stops_at_the_end(browser: Browser, tmp_path: Path) -> None:
    """The browser comes back by itself with Last-Event-ID; the 204 after ``complete`` ends its coming back."""
    port = free_port()
    first = memory_process.start(tmp_path / "data", port=port)
    with Longtake(first.url) as client:
        accepted = client.submit(chain(stage("a"), stage("b"), stage("c"), steps=30))
    context = browser.new_context()
    page = context.new_page()
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if "/events" in answer.url else None)
    page.goto(f"{first.url}/health")
    page.evaluate(FOLLOW, accepted.events_url)
    page.wait_for_function("window.seen.length > 20")
    first.kill()
    stop(first)
    before: list[Any] = page.evaluate("window.seen")
    with memory_process.running(tmp_path / "data", port=port) as second, Longtake(second.url) as client:
        page.wait_for_function("window.source.readyState === EventSource.CLOSED", timeout=60_000)
        seen: list[tuple[int, str]] = [(n, name) for n, name in page.evaluate("window.seen")]
        followed = [n for n, _ in seen]
        assert len(seen) > len(before)
        assert followed == list(range(1, len(seen) + 1))
        assert [name for _, name in seen if name != "progress"] == ["complete"]
        assert client.chain(accepted.id).state == "completed"
        assert answers[-1] == 204
        asked = len(answers)
        # Longer than it waits before it comes back.
        time.sleep(3)
        assert len(answers) == asked
    context.close()
