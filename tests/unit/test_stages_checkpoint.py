"""Finding a checkpoint, its profile and its digest, on folders that the tests make up."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from longtake_stages import tiny
from longtake_stages.checkpoint import (
    CHECKPOINT_VARIABLE,
    COMPONENTS,
    DECODING_COMPONENTS,
    open_checkpoint,
    served_checkpoint,
)
from longtake_stages.errors import CheckpointError
from longtake_stages.profile import BUILT_IN, Profile


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a checkpoint, with a few bytes for weights."""
    root = tmp_path / "checkpoint"
    for component in COMPONENTS:
        (root / component).mkdir(parents=True)
        (root / component / "config.json").write_text(json.dumps({"component": component}))
        (root / component / "model.safetensors").write_bytes(component.encode())
    (root / "model_index.json").write_text("{}")
    (root / "longtake.json").write_bytes(msgspec.json.encode(tiny.PROFILE))
    return root


def test_a_folder_is_opened_with_its_profile(folder: Path) -> None:
    """Profile, component configurations and sizes are those of the files."""
    checkpoint = open_checkpoint(str(folder))
    assert checkpoint.profile == tiny.PROFILE
    assert checkpoint.config("vae") == {"component": "vae"}
    assert checkpoint.weight_bytes() == sum(len(name) for name in COMPONENTS)
    assert checkpoint.weight_bytes({"vae"}) == 3


def test_only_the_asked_components_must_be_there(folder: Path) -> None:
    """A decoder does without a text encoder."""
    for file in (folder / "text_encoder").iterdir():
        file.unlink()
    (folder / "text_encoder").rmdir()
    assert open_checkpoint(str(folder), DECODING_COMPONENTS).profile.name == "tiny-ltx2"
    with pytest.raises(CheckpointError, match="it has no text_encoder"):
        open_checkpoint(str(folder))


def test_the_environment_names_the_served_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable, and a clear error without it."""
    monkeypatch.setenv(CHECKPOINT_VARIABLE, str(folder))
    assert served_checkpoint().folder == folder
    monkeypatch.delenv(CHECKPOINT_VARIABLE)
    with pytest.raises(CheckpointError, match=CHECKPOINT_VARIABLE):
        served_checkpoint()


def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused(tmp_path: Path) -> None:
    """No network is needed to say so: such a name cannot be an id."""
    with pytest.raises(CheckpointError, match="neither a folder nor a checkpoint"):
        open_checkpoint(str(tmp_path / "not" / "there"))


def test_a_folder_without_a_profile_is_refused(folder: Path) -> None:
    """Nothing is guessed about how to serve it."""
    (folder / "longtake.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no longtake\.json"):
        open_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames_cap": 96}, "frames_cap must be 8k"),
        ({"width": 65}, "multiples of 32"),
        ({"max_pixels": 5}, "max_pixels"),
        ({"dtype": "float16"}, "bfloat16 or float32"),
        ({"decode_overlap": 1}, "decode_overlap"),
        ({"stpes": 5}, "stpes"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(folder: Path, change: dict[str, object], says: str) -> None:
    """With the file and the reason, before any weights are loaded."""
    profile = msgspec.to_builtins(tiny.PROFILE) | change
    (folder / "longtake.json").write_text(json.dumps(profile))
    with pytest.raises(CheckpointError, match=says):
        open_checkpoint(str(folder))


def touch(folder: Path) -> None:
    os.utime(folder / "vae" / "model.safetensors", (1, 1))


def hide(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("what it is")


def change_weight(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").write_bytes(b"VAE")


def rename(folder: Path) -> None:
    (folder / "vae" / "model.safetensors").rename(folder / "vae" / "other.safetensors")


def change_profile(folder: Path) -> None:
    changed = msgspec.structs.replace(tiny.PROFILE, image_crf=33)
    (folder / "longtake.json").write_bytes(msgspec.json.encode(changed))


@pytest.mark.parametrize(
    ("act", "same"),
    [(touch, True), (hide, True), (change_weight, False), (rename, False), (change_profile, False)],
)
def test_the_digest_depends_on_what_determines_a_clip(folder: Path, act: Callable[[Path], None], same: bool) -> None:
    """Contents, names and the profile count; times and files beside the components do not."""
    before = open_checkpoint(str(folder)).digest()
    act(folder)
    assert (open_checkpoint(str(folder)).digest() == before) is same


@pytest.mark.parametrize("position", [0, 70 << 20, (130 << 20) - 1])
def test_a_big_file_is_sampled_from_its_first_to_its_last_byte(folder: Path, position: int) -> None:
    """A change at either end or in a sampled block of a sparse 130 MiB file changes the digest."""
    big = folder / "transformer" / "model.safetensors"
    with big.open("wb") as stream:
        stream.truncate(130 << 20)
    before = open_checkpoint(str(folder)).digest()
    with big.open("r+b") as stream:
        stream.seek(position)
        stream.write(b"x" * min(2 << 20, (130 << 20) - position))
    assert open_checkpoint(str(folder)).digest() != before


def test_the_built_in_profiles_hold_together() -> None:
    """LTX-2 is served at 97 frames, with a tail of 17."""
    ltx2 = BUILT_IN["Lightricks/LTX-2"]
    assert isinstance(ltx2, Profile)
    assert (ltx2.frames_cap, ltx2.motion_tail_frames) == (97, 17)
    assert (ltx2.width, ltx2.height) == (1216, 704)
