"""The tiny checkpoint: a whole diffusers folder, the same for the same seed."""

import filecmp
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from diffusers import LTX2ConditionPipeline

from longtake_stages import tiny
from longtake_stages.checkpoint import open_checkpoint
from longtake_stages.profile import Profile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("tiny") / "tiny-ltx2"
    tiny.build(built)
    return built


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_the_command_writes_the_same_files_for_the_same_seed(folder: Path, tmp_path: Path) -> None:
    """Another process builds the checkpoint bit by bit as this one did; nothing else is left behind."""
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "longtake_stages.tiny", str(other)], check=True, capture_output=True)
    _, different, odd = filecmp.cmpfiles(folder, other, files(folder), shallow=False)
    assert files(other) == files(folder)
    assert (different, odd) == ([], [])
    assert list(tmp_path.iterdir()) == [other]


def test_another_seed_is_another_checkpoint(folder: Path, tmp_path: Path) -> None:
    """The digest tells the two apart."""
    tiny.build(tmp_path / "other", seed=1)
    assert open_checkpoint(str(tmp_path / "other")).digest() != open_checkpoint(str(folder)).digest()


def test_a_checkpoint_that_is_there_is_kept(folder: Path) -> None:
    """Building again touches nothing."""
    before = {name: (folder / name).stat().st_mtime_ns for name in files(folder)}
    tiny.build(folder, seed=99)
    assert {name: (folder / name).stat().st_mtime_ns for name in files(folder)} == before


def test_a_folder_that_is_no_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    """Someone's files are in the way: an error, and they are still there."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        tiny.build(tmp_path / "precious")
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious" / "file").read_text() == "mine"


def test_it_is_small(folder: Path) -> None:
    """Under 10 MB in all."""
    assert sum((folder / name).stat().st_size for name in files(folder)) < 10_000_000


def test_its_profile_is_the_one_it_was_built_with(folder: Path) -> None:
    """``longtake.json`` reads back as the profile."""
    assert msgspec.json.decode((folder / "longtake.json").read_bytes(), type=Profile) == tiny.PROFILE


def test_the_unmodified_pipeline_renders_with_it(folder: Path) -> None:
    """diffusers loads the folder offline and renders frames in range and a waveform that can be heard."""
    pipeline = LTX2ConditionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    video, audio = pipeline(
        prompt="a cat",
        width=64,
        height=64,
        num_frames=9,
        num_inference_steps=2,
        guidance_scale=1.0,
        stg_scale=0.0,
        modality_scale=1.0,
        guidance_rescale=0.0,
        audio_guidance_scale=1.0,
        audio_stg_scale=0.0,
        audio_modality_scale=1.0,
        audio_guidance_rescale=0.0,
        spatio_temporal_guidance_blocks=None,
        max_sequence_length=64,
        output_type="np",
        return_dict=False,
    )
    assert video.shape == (1, 9, 64, 64, 3)
    assert video.std() > 0.01
    assert np.isfinite(audio.numpy()).all()
    assert audio.numpy().std() > 1e-3
