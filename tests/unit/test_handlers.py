"""What endpoints read from headers and queries."""

from collections.abc import Iterator

import httpx2
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from facade_server import serving
from longtake_facade.errors import Refused
from longtake_facade.handlers import _flag, _idempotency_key, _last_event_id, _wants_file
from longtake_facade.memory import MemoryBackend
from served import TINY


def request(query: str = "", **headers: str) -> web.Request:
    """A request with these headers; ``_`` stands for ``-``."""
    return make_mocked_request("POST", f"/{query}", {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("accept", "file"),
    [
        ("application/json", False),
        ("*/*", False),
        ("application/*", False),
        ("video/mp4", True),
        ("video/*", True),
        ("VIDEO/MP4;q=0.5", True),
        ("image/webp", True),
        ("text/html, video/*", True),
        ("application/json, video/*", False),
        ("video/*, application/json", True),
    ],
)
def test_accept_decides_between_json_and_the_file(accept: str, file: bool) -> None:
    """The first type that can be served."""
    assert _wants_file(request(Accept=accept)) is file


def test_without_accept_the_answer_is_json() -> None:
    """As for any client that says nothing."""
    assert _wants_file(request()) is False


def test_an_accept_that_nothing_satisfies_is_refused() -> None:
    """Before anything is rendered."""
    with pytest.raises(Refused) as caught:
        _wants_file(request(Accept="text/html, audio/*"))
    assert caught.value.status == 406


@pytest.mark.parametrize("key", ["k", "x" * 255, "a key: with (printable) things"])
def test_an_idempotency_key_is_what_the_header_says(key: str) -> None:
    """Up to what the database holds."""
    assert _idempotency_key(request(Idempotency_Key=key)) == key
    assert _idempotency_key(request()) is None


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_an_idempotency_key_that_cannot_be_kept_is_refused(key: str) -> None:
    """An empty one would join everybody who sends none."""
    with pytest.raises(Refused, match=r"1\.\.255 printable") as caught:
        _idempotency_key(request(Idempotency_Key=key))
    assert (caught.value.status, caught.value.path) == (422, "Idempotency-Key")


@pytest.mark.parametrize(("query", "flag"), [("", True), ("?inline=true", True), ("?inline=false", False)])
def test_a_flag_is_true_or_false(query: str, flag: bool) -> None:
    """Or what it is by default."""
    assert _flag(request(query), "inline", default=True) is flag


@pytest.mark.parametrize("value", ["", "1", "True", "no"])
def test_a_flag_that_is_neither_is_refused(value: str) -> None:
    """Named by its key."""
    with pytest.raises(Refused) as caught:
        _flag(request(f"?inline={value}"), "inline", default=True)
    assert (caught.value.status, caught.value.path) == (422, "inline")


@pytest.mark.parametrize(("value", "number"), [("0", 0), ("17", 17), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_the_last_event_id_is_a_number(value: str, number: int) -> None:
    """From the start where there is none."""
    assert _last_event_id(request(Last_Event_ID=value)) == number
    assert _last_event_id(request()) == 0


@pytest.mark.parametrize("value", ["", "-1", "1.5", "x", "9" * 19, "²", "\uff11"])
def test_a_last_event_id_that_is_no_number_is_refused(value: str) -> None:
    """Nor one that no database can hold."""
    with pytest.raises(Refused) as caught:
        _last_event_id(request(Last_Event_ID=value))
    assert (caught.value.status, caught.value.path) == (422, "Last-Event-ID")


# -------------------------------------------------------------------------------------------------------- over a socket


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("data"), MemoryBackend(TINY)) as running:
        yield running.url


NONE = "f" * 32


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/chains/zzz", 404, "CHAIN_NOT_FOUND"),
        ("/api/chains/zzz/events", 404, "CHAIN_NOT_FOUND"),
        (f"/api/chains/{NONE}/video", 404, "CHAIN_NOT_FOUND"),
        (f"/api/chains/{NONE}/stages/0/video", 404, "CHAIN_NOT_FOUND"),
        (f"/api/chains/{NONE}/stages/{'9' * 5000}/video", 404, "NOT_FOUND"),
        (f"/api/chains/{NONE}/stages/-1/video", 404, "NOT_FOUND"),
        ("/api/chains/..%2f..%2fetc", 404, "CHAIN_NOT_FOUND"),
        ("/api/chains?limit=0", 422, "VALIDATION_ERROR"),
        ("/api/chains?limit=101", 422, "VALIDATION_ERROR"),
        (f"/api/chains?limit={'9' * 5000}", 422, "VALIDATION_ERROR"),
        ("/api/chains?cursor=garbage", 422, "VALIDATION_ERROR"),
        ("/api/chains?state=bogus", 422, "VALIDATION_ERROR"),
        ("/api/gallery/image/..%2f..%2fx.mp4", 404, "NOT_FOUND"),
        (f"/api/gallery/thumbnail/{NONE}.mp4", 404, "NOT_FOUND"),
        ("/api/capabilities/chain-limits?model=sora", 404, "MODEL_NOT_FOUND"),
    ],
)
def test_what_is_not_there_is_said_so_whatever_is_asked_for(url: str, path: str, status: int, code: str) -> None:
    """Never as a failure of the server."""
    answer = httpx2.get(url + path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
