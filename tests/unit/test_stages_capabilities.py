"""What a checkpoint can do, for the tiny one and for the configurations of full size."""

from pathlib import Path

import msgspec
import pytest
import torch
from diffusers import AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel

from longtake_stages import capabilities, device, tiny
from longtake_stages.checkpoint import Checkpoint, open_checkpoint
from longtake_stages.contract import Capabilities
from longtake_stages.profile import BUILT_IN, Profile


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("capabilities") / "tiny-ltx2"
    tiny.build(folder)
    return open_checkpoint(str(folder))


def test_they_come_from_the_profile_the_vocoder_and_the_files(checkpoint: Checkpoint) -> None:
    """On the CPU there are no GPUs and there is no need of their memory; JSON carries everything."""
    told = capabilities.describe(checkpoint)
    profile = checkpoint.profile
    shared = set(Capabilities.__struct_fields__) & set(profile.__struct_fields__)
    assert {name: getattr(told, name) for name in shared} == {name: getattr(profile, name) for name in shared}
    assert len(shared) > 10
    assert (told.audio_sample_rate, told.audio_channels) == (16000, 2)
    assert told.size_bytes == checkpoint.weight_bytes() > 1_000_000
    assert (told.gpu_ordinals, told.vram) == ((), None)
    assert msgspec.json.decode(capabilities.to_json(told), type=Capabilities) == told


def test_they_tell_the_colours_that_a_checkpoint_is_bound_to(checkpoint: Checkpoint) -> None:
    """Documents from before there were any mean a checkpoint that takes every picture."""
    colours = ((219, 31, 31), (0, 0, 255))
    bound = Checkpoint(checkpoint.folder, msgspec.structs.replace(checkpoint.profile, image_palette=colours))
    document = capabilities.to_json(capabilities.describe(bound))
    assert msgspec.json.decode(document, type=Capabilities).image_palette == colours
    older = msgspec.json.decode(document)
    del older["image_palette"]
    assert msgspec.convert(older, Capabilities).image_palette == ()


@pytest.mark.parametrize("colour", [(256, 0, 0), (0, -1, 0)])
def test_a_profile_s_colours_have_eight_bits(checkpoint: Checkpoint, colour: tuple[int, int, int]) -> None:
    """Others are refused as the profile is read."""
    document = msgspec.to_builtins(checkpoint.profile) | {"image_palette": [colour]}
    with pytest.raises(msgspec.ValidationError, match=r"image_palette must be 0\.\.255"):
        msgspec.convert(document, Profile)


def test_on_gpus_they_tell_the_memory_of_the_smallest(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate holds for the GPU that has the least."""
    monkeypatch.setattr(capabilities, "gpu_ordinals", lambda: (0, 1))
    monkeypatch.setattr(capabilities, "smallest_gpu_bytes", lambda ordinals: 24 << 30 if ordinals == (0, 1) else 0)
    told = capabilities.describe(checkpoint)
    assert told.gpu_ordinals == (0, 1)
    assert told.vram is not None
    assert told.vram.device_bytes == 24 << 30
    assert told.vram.fixed_bytes > told.size_bytes
    assert told.vram.bytes_per_pixel_frame > 0


def test_a_cpu_instance_computes_in_float32_whatever_its_number() -> None:
    """Triton numbers CPU instances too."""
    placement = device.place("CPU", 0)
    assert (placement.device.type, placement.dtype, placement.ordinal) == ("cpu", torch.float32, -1)
    assert device.place("CPU", 0, "bfloat16").dtype == torch.bfloat16


def test_a_gpu_instance_makes_its_own_device_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything would land on GPU 0 otherwise."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    placement = device.place("GPU", 3)
    assert chosen == [3]
    assert (str(placement.device), placement.dtype, placement.ordinal) == ("cuda:3", torch.bfloat16, 3)


def test_the_full_size_classes_fit_the_built_in_profile(tmp_path: Path) -> None:
    """On torch's meta device: 8 and 32 pixels a latent, 128 channels, and an estimate of the right order."""
    with torch.device("meta"):
        transformer = LTX2VideoTransformer3DModel()
        vae = AutoencoderKLLTX2Video(spatial_compression_ratio=32, temporal_compression_ratio=8)
    profile = BUILT_IN["Lightricks/LTX-2"]
    frames = (profile.frames_cap - 1) // profile.frame_grid + 1
    latents = torch.empty(1, 128, frames, profile.height // 32, profile.width // 32, device="meta")
    assert vae.decoder(latents).shape == (1, 3, profile.frames_cap, profile.height, profile.width)
    weights = 2 * sum(parameter.numel() for parameter in transformer.parameters())
    assert 30e9 < weights < 45e9

    for name, component in (("transformer", transformer), ("vae", vae)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(msgspec.json.encode(dict(component.config)))
    need = capabilities.vram(Checkpoint(tmp_path, profile), device_bytes=80 << 30)
    activations = need.bytes_per_pixel_frame * profile.width * profile.height * profile.frames_cap
    assert 1e9 < activations < 40e9
