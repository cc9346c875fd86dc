"""Whatever JSON arrives is accepted or refused in words; nothing else ever happens."""

import base64
import io
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from longtake.wire import IGNORED_REQUEST_KEYS, ChainRequest, Retake
from longtake_facade.normalise import UnknownModel, normalise
from longtake_facade.parse import Invalid, MalformedJson, parse
from served import ON_GPU, TINY


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


FULL: dict[str, Any] = {
    "model": None,
    "stages": [
        {"prompt": "a", "frames": 25, "source_image": picture(), "seed_offset": 1, "negative_prompt": "x"},
        {"prompt": "b", "frames": 33, "transition": "fade", "fade_frames": 4, "loras": [], "references": []},
        {"prompt": "c", "frames": 25, "transition": "smooth"},
    ],
    "motion_tail_frames": 9,
    "width": 64,
    "height": 64,
    "fps": 24,
    "seed": 1,
    "steps": 4,
    "guidance": 1.0,
    "strength": 0.5,
    "output_format": "mp4",
    "placement": {"text_encoders": {"kind": "auto"}, "advanced": {"vae": {"kind": "cpu"}}},
    "enable_audio": False,
    "total_frames": 63,
    "prompt": None,
    "clip_frames": None,
    "title": "t",
}

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**32, 2**53, 2**63, 2**64, 1e308, 0.5])
words = st.text(max_size=20) | st.sampled_from(["smooth", "cut", "fade", "mp4", "png", "webp", "auto", "=", "AAAA"])
leaves = st.none() | st.booleans() | numbers | words
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document."""
    children = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a path."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = changed(document[path[0]], path[1:], value)
    return copy


@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(places(FULL)[1:]), values), min_size=1, max_size=3), st.booleans())
def test_a_request_with_rubbish_in_it_is_accepted_or_refused_in_words(
    changes: list[tuple[tuple[Any, ...], Any]], on_gpu: bool
) -> None:
    """The path and a message, or a script whose plan is as long as it says."""
    document = FULL
    for path, value in changes:
        if path in places(document):
            document = changed(document, path, value)
    try:
        request, _ = parse(msgspec.json.encode(document), ChainRequest, ignored=IGNORED_REQUEST_KEYS)
        done = normalise(request, ON_GPU if on_gpu else TINY, lambda: 1)
    except Invalid as refused:
        messages = [problem.message for problem in refused.problems]
        assert all(messages)
        return
    except (MalformedJson, UnknownModel) as refused:
        assert str(refused)  # noqa: PT017 - either way is right, and which one is not known
        return
    assert done.plan.total_frames == sum(stage.output_frames for stage in done.plan.stages)
    assert normalise(done.script.request(), ON_GPU if on_gpu else TINY, lambda: 2).script == done.script


@given(values)
def test_a_retake_of_rubbish_is_refused_in_words(value: Any) -> None:
    """It is an object with a stage, or it is refused."""
    try:
        retake, _ = parse(msgspec.json.encode(value), Retake)
    except (Invalid, MalformedJson) as refused:
        assert str(refused)  # noqa: PT017 - as above
    else:
        assert retake.stage_idx >= 0
