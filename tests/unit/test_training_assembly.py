"""From finished parts to a checkpoint that the pipeline and the stages load."""

from pathlib import Path

import pytest
import torch
from diffusers import LTX2ConditionPipeline
from safetensors.torch import load_file, save_file

from longtake_stages.checkpoint import open_checkpoint
from training import assembly, captions, components


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of parts that were never trained."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    text_encoder = components.text_encoder(len(captions.tokenizer()))
    connectors = components.connectors()
    language = {f"language_model.{k}": v for k, v in text_encoder.model.language_model.state_dict().items()}
    connecting = {f"connectors.{k}": v for k, v in connectors.state_dict().items()}
    parts = {
        "text": {**language, **connecting, "heads.0.weight": torch.zeros(3, 96)},
        "polished": components.video_vae().state_dict(),
        "refined": components.transformer().state_dict(),
        "audio": components.audio_vae().state_dict(),
    }
    for name, weights in parts.items():
        save_file({key: value.clone().contiguous() for key, value in weights.items()}, folder / f"{name}.safetensors")
    target = folder / "tiny-ltx2"
    assembly.assemble(folder, target)
    assembly.assemble(folder, target)
    return target


def test_an_assembled_checkpoint_is_served_by_its_profile(checkpoint: Path) -> None:
    """With the length of prompts it was trained with, and its palette."""
    opened = open_checkpoint(str(checkpoint))
    assert opened.profile == assembly.PROFILE
    assert opened.profile.max_sequence_length == components.SEQUENCE_LENGTH
    assert len(opened.profile.image_palette) == 7
    assert not list(checkpoint.parent.glob(".tiny*"))


def test_an_assembled_checkpoint_is_small_and_loads_as_diffusers_pipeline(checkpoint: Path) -> None:
    """In half precision, at most 15 MB in all."""
    assert sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()) <= 15e6
    pipeline = LTX2ConditionPipeline.from_pretrained(checkpoint, local_files_only=True)
    weights = load_file(checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert pipeline.tokenizer("a red circle", padding="max_length", max_length=48).input_ids[0] == 0
