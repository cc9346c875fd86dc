"""The event stream decoder: the standard's rules at every split, limits, and cost."""

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake.errors import EventTooLarge
from longtake.sse import Decoder, ServerSentEvent


def decode(*chunks: bytes) -> list[ServerSentEvent]:
    """All events of a stream that arrives as ``chunks``."""
    decoder = Decoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def event(data: str, name: str = "message", event_id: str = "") -> ServerSentEvent:
    """The event these make."""
    return ServerSentEvent(name=name, data=data.encode(), id=event_id)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_ends_a_line(end: bytes) -> None:
    """LF, CR and CRLF are equal."""
    assert decode(end.join([b"event: add", b"data: 1", b"", b"data: 2", b"", b""])) == [
        event("1", "add"),
        event("2"),
    ]


def test_a_crlf_split_over_two_chunks_is_one_line_end() -> None:
    """The LF that begins a chunk after a CR ends no second line."""
    assert decode(b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n") == [event("1\n2")]


def test_an_event_is_dispatched_at_a_cr_without_waiting_for_more() -> None:
    """What follows the CR may come much later."""
    decoder = Decoder()
    assert decoder.feed(b"data: 1\r\r") == [event("1")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b"data: 2\n\n") == [event("2")]


def test_an_empty_chunk_after_a_cr_does_not_forget_it() -> None:
    """Empty chunks change nothing."""
    assert decode(b"data: 1\r", b"", b"\ndata: 2\n\n") == [event("1\n2")]


def test_a_byte_order_mark_is_dropped_once_however_it_is_split() -> None:
    """One at the very start is no part of the stream; a second is part of the field's name."""
    assert decode(b"\xef", b"\xbb", b"\xbfdata: 1\n\n") == [event("1")]
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n") == []
    assert decode(b"\xef\xbbdata: 1\n\ndata: 2\n\n") == [event("2")]


def test_the_standards_example_of_stocks() -> None:
    """Several data lines are joined by line feeds."""
    assert decode(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [event("YHOO\n+2\n10")]


def test_the_standards_example_of_a_comment_and_ids() -> None:
    """Comments are skipped; an id stays until an empty one resets it; one leading space belongs to the syntax."""
    stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert decode(stream) == [event("first event", event_id="1"), event("second event"), event(" third event")]


def test_the_standards_example_of_empty_data() -> None:
    """A data field without value dispatches an empty event; two make a line feed; the unfinished one is dropped."""
    assert decode(b"data\n\ndata\ndata\n\ndata:") == [event(""), event("\n")]


def test_an_unfinished_event_is_not_dispatched() -> None:
    """A stream that ends before the blank line has lost the event."""
    decoder = Decoder()
    assert decoder.feed(b"event: complete\ndata: {}\n") == []
    assert decoder.mid_event


def test_the_id_persists_over_events_and_counts_from_a_block_that_ended() -> None:
    """Later events without an id carry the last one; an id in an unfinished block is not yet the last."""
    decoder = Decoder()
    assert decoder.feed(b"id: 7\ndata: a\n\ndata: b\n\nid: 8\n") == [
        event("a", event_id="7"),
        event("b", event_id="7"),
    ]
    assert decoder.last_event_id == "7"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "8"


def test_an_id_with_a_nul_is_ignored() -> None:
    """The standard forbids it."""
    assert decode(b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n") == [
        event("a", event_id="1"),
        event("b", event_id="1"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"9" * 5000, None), (b"2000", 2000), (b"1.5", None), (b"-1", None), (b"", None), (b"9x", None)],
)
def test_retry_takes_digits_only(value: bytes, expected: int | None) -> None:
    """Anything but ASCII digits is ignored."""
    decoder = Decoder()
    decoder.feed(b"retry: " + value + b"\n\n")
    assert decoder.retry_ms == expected


def test_unknown_fields_and_names_without_data_dispatch_nothing() -> None:
    """A block without data resets the name."""
    assert decode(b"foo: bar\nevent: x\n\ndata: 1\n\n") == [event("1")]


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    """Decoding as text never fails; the bytes stay as they came."""
    (found,) = decode(b"data: \xff\xe2\x82\xac\n\n")
    assert found.data == b"\xff\xe2\x82\xac"
    assert found.text == "\N{REPLACEMENT CHARACTER}\N{EURO SIGN}"


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"", b"data", b"data:", b": c", b"id: 3", b"id", b"event: e", b"retry: 5", b"\xef\xbb\xbfdata: x"]
        ),
        st.binary(max_size=12).map(lambda data: b"data: " + data),
    ),
    max_size=20,
)


@settings(deadline=None)
@given(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"]), st.lists(st.integers(0, 400), max_size=30))
def test_any_split_gives_the_same_events(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    """Where the network cuts the stream makes no difference."""
    stream = end.join(lines)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*chunks) == decode(stream) == decode(*(bytes([byte]) for byte in stream))


@pytest.mark.parametrize("stream", [b"data: 12345\n" * 10, b"data: " + b"x" * 100, b":" + b"x" * 100])
def test_an_event_beyond_the_limit_is_a_typed_error(stream: bytes) -> None:
    """Many lines, one long line, and an endless comment are all bounded."""
    with pytest.raises(EventTooLarge, match="50 bytes"):
        Decoder(max_event_bytes=50).feed(stream)


def test_many_small_events_never_meet_the_limit() -> None:
    """The limit is one event's, not the stream's."""
    assert len(Decoder(max_event_bytes=50).feed(b": ping\n\ndata: 1\n\n" * 1000)) == 1000


def test_a_line_of_64_mb_in_small_chunks_is_held_about_twice() -> None:
    """One line of megabytes costs its own size in the buffer and once more in the event."""
    size, chunk = 64 * 2**20, b"x" * 2**14
    decoder = Decoder()
    decoder.feed(b"event: complete\nid: 9\ndata: ")
    tracemalloc.start()
    try:
        for _ in range(size // len(chunk)):
            assert decoder.feed(chunk) == []
        (found,) = decoder.feed(b"\n\n")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.data) == size
    assert found.name == "complete"
    assert peak < 3 * size


def test_the_work_for_a_line_grows_with_its_length_only() -> None:
    """The line buffer is extended in place: a small chunk after a large one moves only itself."""
    decoder = Decoder()
    decoder.feed(b"data: " + b"x" * (16 * 2**20))
    tracemalloc.start()
    try:
        for _ in range(1000):
            decoder.feed(b"y")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20
