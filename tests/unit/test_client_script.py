"""Scripts as TOML: both ways, and every way to get one wrong."""

import base64
import os
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longtake import script as scripts
from longtake import wire
from longtake.errors import ScriptError
from longtake.wire import MAX_U64, ChainRequest, ChainStage, DevicePlacement, DeviceRef, Transition
from wire_server import script

HEAD = 'schema = "mold.chain.v1"\n'
STAGE = HEAD + '[[stage]]\nprompt = "x"\nframes = 9\n'


def optional(values: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """These, or nothing."""
    return st.none() | values


U32 = st.integers(0, 2**32 - 1)
SEEDS = st.integers(0, MAX_U64) | st.sampled_from([2**63 - 1, 2**63, MAX_U64])
TEXTS = st.text(max_size=30) | st.sampled_from(
    ["one\ntwo", "one\r\ntwo", '"""', "\\", "\t\x00\x7f", "\N{SNOWMAN}\u2028", ""]
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STAGES = st.builds(
    ChainStage,
    prompt=TEXTS,
    frames=U32,
    transition=st.sampled_from(Transition),
    negative_prompt=optional(TEXTS),
    seed_offset=optional(SEEDS),
    fade_frames=optional(U32),
    source_image=optional(st.binary(max_size=20)),
    model=optional(TEXTS),
    loras=st.just([]) | st.just([{"name": "x", "scale": 0.5}]),
)
REQUESTS = st.builds(
    ChainRequest,
    model=optional(TEXTS),
    stages=st.lists(STAGES, max_size=3),
    motion_tail_frames=optional(U32),
    width=optional(U32),
    fps=optional(U32),
    seed=optional(SEEDS),
    guidance=optional(FLOATS),
    strength=optional(FLOATS),
    output_format=optional(st.sampled_from(get_args(wire.OutputFormat))),
    enable_audio=optional(st.booleans()),
    placement=optional(
        st.just(
            DevicePlacement(text_encoders=DeviceRef(kind="gpu", ordinal=1), advanced={"vae": DeviceRef(kind="cpu")})
        )
    ),
    total_frames=optional(U32),
    prompt=optional(TEXTS),
    clip_frames=optional(U32),
    source_image=optional(st.binary(max_size=20)),
)


@settings(deadline=None)
@given(REQUESTS)
def test_a_request_comes_back_from_its_toml_as_it_was(request_: ChainRequest) -> None:
    """Multi-line prompts, any character, u64 seeds and images included."""
    text = scripts.dump(request_)
    assert scripts.loads(text) == request_
    assert tomllib.loads(text)["schema"] == wire.SCHEMA


def test_a_script_comes_back_as_the_request_that_renders_it_again() -> None:
    """Every stage says how it joins, also where that is the default."""
    text = scripts.dump(script())
    assert scripts.loads(text) == script().request()
    assert [stage["transition"] for stage in tomllib.loads(text)["stage"]] == ["smooth", "cut"]


def test_a_script_is_loaded_from_a_file(tmp_path: Path) -> None:
    """UTF-8, whatever the locale."""
    file = tmp_path / "film.toml"
    file.write_bytes((HEAD + '[chain]\nprompt = "ein roter Kreis \N{LARGE RED CIRCLE}"\ntotal_frames = 9').encode())
    assert scripts.load(file) == ChainRequest(prompt="ein roter Kreis \N{LARGE RED CIRCLE}", total_frames=9)


def test_seeds_beyond_tomls_integers_are_written_as_strings() -> None:
    """Both forms are read."""
    assert tomllib.loads(scripts.dump(ChainRequest(seed=2**63)))["chain"]["seed"] == str(2**63)
    assert tomllib.loads(scripts.dump(ChainRequest(seed=2**63 - 1)))["chain"]["seed"] == 2**63 - 1
    assert scripts.loads(HEAD + '[chain]\nseed = "7"').seed == scripts.loads(HEAD + "[chain]\nseed = 7").seed == 7


def test_prompts_of_several_lines_are_written_readably() -> None:
    """As a multi-line string."""
    assert '"""\none\ntwo"""' in scripts.dump(ChainRequest(prompt="one\ntwo"))


def test_what_toml_cannot_say_is_refused() -> None:
    """A null inside a list."""
    request = ChainRequest(stages=[ChainStage(prompt="x", frames=9, loras=[{"a": [None]}])])
    with pytest.raises(ScriptError, match="null") as caught:
        scripts.dump(request)
    assert caught.value.path == "chain.stages[0].loras[0].a[0]"


def test_images_come_from_files_and_from_base64(tmp_path: Path) -> None:
    """Any of the three keys, in the chain and in stages; files are looked for beside the script."""
    (tmp_path / "art").mkdir()
    (tmp_path / "art" / "a.png").write_bytes(b"picture")
    encoded = base64.b64encode(b"picture").decode()
    for line in ('source_image_path = "art/a.png"', f'source_image_b64 = "{encoded}"', f'source_image = "{encoded}"'):
        (tmp_path / "film.toml").write_text(f"{HEAD}[chain]\n{line}\n[[stage]]\nprompt = 'x'\nframes = 9\n{line}")
        request = scripts.load(tmp_path / "film.toml")
        assert request.source_image == request.stages[0].source_image == b"picture"


def test_only_one_image_key_is_taken(tmp_path: Path) -> None:
    """Two would contradict each other."""
    with pytest.raises(ScriptError, match="give one of them") as caught:
        scripts.loads(STAGE + 'source_image = ""\nsource_image_path = "a.png"', folder=tmp_path)
    assert caught.value.path == "stage[0]"


@pytest.mark.parametrize(
    "name", ["../secret.png", "art/../../secret.png", "{folder}/secret.png", "link.png", "linked/secret.png", "", ".."]
)
def test_images_outside_the_scripts_folder_are_refused(tmp_path: Path, name: str) -> None:
    """By dots, by an absolute path, by a symbolic link to a file or a folder."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = tmp_path / "film"
    (folder / "art").mkdir(parents=True)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    name = name.format(folder=tmp_path)
    with pytest.raises(ScriptError, match=r"inside its folder|leads out") as caught:
        scripts.loads(f"{STAGE}source_image_path = {name!r}", folder=folder)
    assert caught.value.path == "stage[0].source_image_path"


def test_a_link_that_stays_in_the_folder_is_followed(tmp_path: Path) -> None:
    """Also where the folder itself is reached by a link."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.png").write_bytes(b"picture")
    (real / "b.png").symlink_to(real / "a.png")
    (tmp_path / "film").symlink_to(real)
    request = scripts.loads(STAGE + 'source_image_path = "b.png"', folder=tmp_path / "film")
    assert request.stages[0].source_image == b"picture"


@pytest.mark.parametrize("name", ["none.png", "art", "a.png/b.png"])
def test_images_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    """With the system's reason."""
    (tmp_path / "art").mkdir()
    (tmp_path / "a.png").write_bytes(b"picture")
    with pytest.raises(ScriptError, match=name) as caught:
        scripts.loads(f"{STAGE}source_image_path = {name!r}", folder=tmp_path)
    assert caught.value.path == "stage[0].source_image_path"


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("", "schema", "missing"),
        ('schema = "mold.chain.v9"', "schema", 'reads "mold.chain.v1"'),
        (HEAD + "stages = []", "stages", 'did you mean "stage"'),
        (HEAD + "chain = 3", "chain", "must be a table"),
        (HEAD + "[stage]", "stage", "array of tables"),
        (HEAD + "stage = [1]", "stage", "array of tables"),
        (HEAD + "[chain]\nseeed = 1", "chain.seeed", 'did you mean "seed"'),
        (HEAD + "[chain]\nstages = []", "chain.stages", "unknown key"),
        (STAGE + 'transitoin = "cut"', "stage[0].transitoin", 'did you mean "transition"'),
        (STAGE + 'transition = "smoth"', "stage[0].transition", 'did you mean "smooth"'),
        (STAGE + "transition = 3", "stage[0].transition", "not one of smooth, cut, fade"),
        (STAGE + "fade_frames = -1", "stage[0].fade_frames", "expected `int` >= 0"),
        (STAGE + "prompt2 = 1", "stage[0].prompt2", 'did you mean "prompt"'),
        (HEAD + "[[stage]]\nframes = 9", "stage[0]", "prompt is missing"),
        (HEAD + "[[stage]]\nprompt = 3\nframes = 9", "stage[0].prompt", "must be a string, not a int"),
        (HEAD + "[chain]\nwidth = 64.5", "chain.width", "must be a whole number"),
        (HEAD + "[chain]\nguidance = nan", "chain.guidance", "finite"),
        (HEAD + '[chain]\noutput_format = "mp5"', "chain.output_format", 'did you mean "mp4"'),
        (HEAD + '[chain]\nseed = "-1"', "chain.seed", "whole number from 0 to"),
        (HEAD + f'[chain]\nseed = "{2**64}"', "chain.seed", "whole number from 0 to"),
        (HEAD + f'[chain]\nseed = "{"9" * 5000}"', "chain.seed", "whole number from 0 to"),
        (HEAD + "[chain]\nseed = 2026-01-01", "chain.seed", "must be a whole number"),
        (STAGE + 'source_image = "%%%"', "stage[0].source_image", "not base64"),
        (STAGE + "source_image_b64 = 3", "stage[0].source_image_b64", "must be a string"),
        (STAGE + 'source_image_path = "a.png"', "stage[0].source_image_path", "no folder"),
        (HEAD + "[chain.placement]\nx = 1", "chain.placement", "x"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(text: str, path: str, message: str) -> None:
    """The path leads to the key; the message says what to write."""
    with pytest.raises(ScriptError) as caught:
        scripts.loads(text)
    assert caught.value.path == path
    assert message in str(caught.value)


def test_all_that_is_wrong_is_collected() -> None:
    """Not only the first."""
    text = HEAD + '[chain]\nwidht = 1\n[[stage]]\nframs = 9\ntransition = "cutt"\n'
    with pytest.raises(ScriptError) as caught:
        scripts.loads(text)
    assert [p.path for p in caught.value.problems] == ["chain.widht", "stage[0].frams", "stage[0].transition"]


@pytest.mark.parametrize(
    ("text", "line"), [("a = = 1", 1), (HEAD + "\n[[stage\n", 3), ("a = 1\nb", 2), ('a = 1\n\nb = """\nx', 4)]
)
def test_what_is_no_toml_is_said_with_its_line(text: str, line: int) -> None:
    """Counted from 1."""
    with pytest.raises(ScriptError, match=f"line {line}") as caught:
        scripts.loads(text)
    assert caught.value.line == line


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Missing, a folder, or no text."""
    with pytest.raises(ScriptError, match=r"none\.toml: No such file"):
        scripts.load(tmp_path / "none.toml")
    with pytest.raises(ScriptError, match="Is a directory"):
        scripts.load(tmp_path)
    (tmp_path / "film.toml").write_bytes(os.urandom(8) + b"\xff")
    with pytest.raises(ScriptError, match="UTF-8"):
        scripts.load(tmp_path / "film.toml")


def test_the_example_tells_every_kind_of_join() -> None:
    """It loads, and its joins obey the rule that a clip holds what its joins take."""
    request = scripts.load(Path(__file__).parents[2] / "examples" / "three-acts.toml")
    assert len(request.stages) >= 4
    assert {stage.transition for stage in request.stages} == set(Transition)
    tail = request.motion_tail_frames or 0
    for i, stage in enumerate(request.stages):
        after = request.stages[i + 1 : i + 2]
        head = tail if i and stage.transition is Transition.SMOOTH else 0
        fade_in = stage.fade_frames or 8 if stage.transition is Transition.FADE else 0
        fade_out = sum(later.fade_frames or 8 for later in after if later.transition is Transition.FADE)
        assert stage.frames % 8 == 1
        assert head < stage.frames
        assert head + fade_in + fade_out <= stage.frames - (not after)
