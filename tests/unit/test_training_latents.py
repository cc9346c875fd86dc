"""The latent code of the tiny world, and the decoder that begins by carrying it."""

import numpy as np
import pytest
import torch

from training import components, latents, world

SIZE = (96, 64)


def scenes(keyframes: int = 3) -> world.Scenes:
    random = np.random.default_rng(1)
    return world.begin(random, world.draw_attributes(random, 4), keyframes, SIZE, anywhere=1.0)


def test_the_code_has_a_cell_for_every_32_pixels_and_about_unit_variance() -> None:
    """``[batch, 32, keyframes, rows, columns]``, ready for the denoiser without statistics of its own."""
    random = np.random.default_rng(2)
    many = world.begin(random, world.draw_attributes(random, 500), 2, SIZE)
    code = latents.encode(many, SIZE)
    assert code.shape == (500, 32, 2, 2, 3)
    assert 0.8 < code.square().mean() < 1.2


@pytest.mark.parametrize(("x", "y"), [(32, 0), (0, 32), (-32, 0)])
def test_the_code_of_another_cell_is_a_rotation(x: int, y: int) -> None:
    """:func:`latents.shifted` turns the code of a cell into its neighbour's."""
    code = latents.encode(scenes(), (128, 128))
    turned = torch.einsum("ij,bjnhw->binhw", latents.shifted(x, y), code)
    torch.testing.assert_close(turned[..., 1, 1], code[..., 1 + y // 32, 1 + x // 32], atol=1e-5, rtol=0)


def test_the_untrained_decoder_carries_the_code_to_its_finest_grids() -> None:
    """At every keyframe the cells of 4 x 4 pixels hold their own code; between two keyframes nearly."""
    torch.manual_seed(0)
    decoder = components.video_vae().decoder
    seen: dict[str, torch.Tensor] = {}
    decoder.up_blocks[-2].upsamplers[0].register_forward_hook(lambda *call: seen.update(grid=call[2]))
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "conv2" in name:
                parameter.zero_()
        decoder(latents.encode(scenes(), SIZE))
    wanted = fine_code(world.frames(scenes()))
    carried = seen["grid"][:, : latents.CHANNELS]
    torch.testing.assert_close(carried[:, :, ::8], wanted[:, :, ::8], atol=1e-4, rtol=0)
    assert (carried - wanted).abs().mean() < 0.03


def fine_code(frames: world.Scenes) -> torch.Tensor:
    """The code of every cell of 4 x 4 pixels, from the code of the one at the top left of a larger grid."""
    rows, columns = SIZE[1] // 4, SIZE[0] // 4
    corner = latents.encode(frames, (32, 32))[..., 0, 0]  # as seen from (16, 16)
    cells = [
        torch.einsum("ij,bjn->bin", latents.shifted(4 * column + 2 - 16, 4 * row + 2 - 16), corner)
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack(cells, -1).unflatten(-1, (rows, columns))
