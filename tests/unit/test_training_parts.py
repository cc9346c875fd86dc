"""What each training of the video VAE may change, and the tails it leaves for the denoiser."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training import components, encoder, latents, tails
from training.decoder import train_decoder
from training.polish import polish_decoder
from training.tails import Pool

SIZE = (64, 64)


def weights(vae: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in vae.state_dict().items()}


def changed(before: dict[str, torch.Tensor], vae: torch.nn.Module) -> set[str]:
    return {name for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}


def test_training_the_decoder_leaves_the_encoder_and_the_layers_that_carry_the_code(tmp_path: Path) -> None:
    """Only what draws is trained: the residual blocks, the finest upsampler and the last layer."""
    torch.manual_seed(1)  # as the training seeds it
    before = weights(components.video_vae())
    names = changed(before, train_decoder(tmp_path, 1))
    assert names
    assert all(name.startswith("decoder.") for name in names)
    assert not [name for name in names if "upsamplers" in name and "up_blocks.6" not in name]


def test_encoder_and_decoder_are_trained_without_touching_each_other(tmp_path: Path) -> None:
    """And both can be trained again afterwards."""
    torch.manual_seed(0)
    vae = components.video_vae()
    before = weights(vae)
    encoder.train_encoder(tmp_path, 4, vae)
    assert {name.split(".")[0] for name in changed(before, vae)} == {"encoder"}
    before = weights(vae)
    polish_decoder(tmp_path, 1, vae)
    assert {name.split(".")[0] for name in changed(before, vae)} == {"decoder"}
    assert all(parameter.requires_grad for parameter in vae.parameters())


def test_encoded_tails_are_kept_and_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second pool reads what the first has written; of other pasts the latents are the true ones with noise."""
    monkeypatch.setattr(tails, "_POOL", ((SIZE, 2, 8),))
    torch.manual_seed(0)
    vae = components.video_vae()
    first = Pool(vae, tmp_path).draw(np.random.default_rng(1), 5, 2, SIZE)
    again = Pool(None, tmp_path).draw(np.random.default_rng(1), 5, 2, SIZE)
    torch.testing.assert_close(again.condition, first.condition, atol=0, rtol=0)
    np.testing.assert_array_equal(again.scenes.x, first.scenes.x)
    assert first.condition.shape == (5, latents.CHANNELS, 2, 2, 2)
    other = Pool(None, tmp_path).draw(np.random.default_rng(1), 5, 3, SIZE)
    assert (other.condition - latents.encode(other.scenes, SIZE)).abs().max() < 1
