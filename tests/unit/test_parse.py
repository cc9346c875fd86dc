"""Bodies: every fault has the path of its field and says what is allowed."""

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longtake.wire import IGNORED_REQUEST_KEYS, ChainRequest
from longtake_facade.parse import Invalid, MalformedJson, parse


def fault(body: str) -> tuple[str, str]:
    with pytest.raises(Invalid) as caught:
        parse(body.encode(), ChainRequest)
    return caught.value.problems[0].path, caught.value.problems[0].message


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        ('{"stagez": []}', "stagez", "nearest known key is `stages`"),
        (
            '{"stages": [{"prompt": "a", "frames": 9, "transitoin": "cut"}]}',
            "stages[0].transitoin",
            "`transition`",
        ),
        ('{"placement": {"text_encoder": 1}}', "placement.text_encoder", "`text_encoders`"),
        ('{"stages": [{"prompt": "a"}]}', "stages[0].frames", "required"),
        ('{"stages": [{"prompt": "a", "frames": -9}]}', "stages[0].frames", "0..4294967295"),
        ('{"stages": [{"prompt": 5, "frames": 9}]}', "stages[0].prompt", "Expected `str`"),
        (
            '{"stages": [{"prompt": "a", "frames": 9, "transition": "x"}]}',
            "stages[0].transition",
            "`smooth`, `cut`, `fade`",
        ),
        ('{"fps": 24.5}', "fps", "whole numbers"),
        ('{"seed": -1}', "seed", "0 or more"),
        ('{"source_image": "!!"}', "source_image", "base64"),
        ('{"output_format": "avi"}', "output_format", "`mp4`"),
        ("[1]", "", "expected a JSON object, got an array"),
        ("null", "", "expected a JSON object, got null"),
    ],
)
def test_a_fault_names_the_path_and_what_is_allowed(body: str, path: str, says: str) -> None:
    """Also in lists and nested objects."""
    found, message = fault(body)
    assert found == path
    assert says in message


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[" * 100_000, b'{"guidance": 1e999}'])
def test_what_is_no_json_is_told_apart(body: bytes) -> None:
    """It is answered 400, not 422."""
    with pytest.raises(MalformedJson):
        parse(body, ChainRequest)


def test_null_counts_as_absent_everywhere() -> None:
    """The original's clients send null for what they do not set."""
    keys = [field.encode_name for field in msgspec.structs.fields(ChainRequest)]
    body = msgspec.json.encode(dict.fromkeys(keys))
    assert parse(body, ChainRequest) == (ChainRequest(), [])
    stage = b'{"stages": [{"prompt": "a", "frames": 9, "loras": null, "transition": null}]}'
    assert parse(stage, ChainRequest)[0].stages[0].loras == []


def test_keys_of_later_pages_are_ignored_with_a_warning() -> None:
    """Every one of them, by name."""
    body = msgspec.json.encode(dict.fromkeys(IGNORED_REQUEST_KEYS, 1))
    request, warnings = parse(body, ChainRequest, ignored=IGNORED_REQUEST_KEYS)
    assert request == ChainRequest()
    assert {warning.path for warning in warnings} == IGNORED_REQUEST_KEYS


@given(st.recursive(st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_rubbish_is_refused_in_words(value: object) -> None:
    """Whatever JSON arrives, the answer is a value or one of the two errors."""
    known = {field.encode_name for field in msgspec.structs.fields(ChainRequest)}
    assume(not isinstance(value, dict) or not known & value.keys())
    body = msgspec.json.encode(value)
    if value == {}:
        assert parse(body, ChainRequest) == (ChainRequest(), [])
    else:
        with pytest.raises((Invalid, MalformedJson), match=r"."):
            parse(body, ChainRequest)
