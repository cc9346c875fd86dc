"""What the denoiser learns from: clips in the pipeline's own form, some of whose keyframes are given."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import captions, denoiser, latents, sound, world


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_clips_have_a_token_a_cell_and_keyframe_and_a_prompt_a_clip(seed: int) -> None:
    """Whatever size, length and rate is drawn; given tokens come first and are whole keyframes."""
    clips = denoiser.draw(np.random.default_rng(seed), denoiser.noisy_past)
    cells = clips.size[0] * clips.size[1] // latents.CELL**2
    count = len(clips.prompts)
    assert clips.video.shape == clips.condition.shape == (count, clips.keyframes * cells, latents.CHANNELS)
    frames = (clips.keyframes - 1) * world.KEYFRAME_STEP + 1
    assert clips.audio.shape == (count, sound.latent_frames(frames, clips.fps), sound.LATENT_WIDTH)
    given_tokens = clips.known.sum(1)
    assert (given_tokens % cells == 0).all()
    assert (given_tokens < clips.keyframes * cells).all()
    assert (clips.known.diff(dim=1) <= 0).all()
    assert (given_tokens == 0).any()
    assert (given_tokens > 0).any()


def test_given_tokens_are_nearly_what_the_clip_shows() -> None:
    """The condition of a tail is the clip's own code with some noise, and nothing elsewhere."""
    torch.manual_seed(0)
    clips = denoiser.draw(np.random.default_rng(5), denoiser.noisy_past)
    known = clips.known[..., None].bool().expand_as(clips.video)
    assert (clips.condition - clips.video)[known].square().mean() < denoiser._CONDITION_NOISE**2
    assert (clips.condition[~known] == 0).all()


@pytest.mark.parametrize("known", [1, 2, 3, 4])
def test_pasts_end_in_the_scene_that_their_attributes_name(known: int) -> None:
    """Whether they have just turned into it or not."""
    random = np.random.default_rng(known)
    for _ in range(6):
        scenes, attributes = denoiser.draw_past(random, 16, known, (64, 64))
        assert scenes.x.shape == (16, known)
        np.testing.assert_array_equal(scenes.colour[:, -1].argmax(-1), attributes[:, 1])
        np.testing.assert_array_equal(scenes.background[:, -1].max(-1), 1)


def test_what_a_prompt_leaves_unsaid_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A continuation asked for with its motion alone keeps shape and colours."""
    monkeypatch.setattr(denoiser, "_UNSAID", 1.1)
    monkeypatch.setattr(captions, "draw_said", lambda _random: (False, False, False, True))
    random = np.random.default_rng(1)
    seen: list[world.Ints] = []

    def past(random: np.random.Generator, count: int, known: int, size: world.Size) -> denoiser.Past:
        drawn = denoiser.noisy_past(random, count, known, size)
        seen.append(drawn.attributes)
        return drawn

    clips = denoiser._clips(random, past, 5, (64, 64), 24.0, 3, 8)
    last = clips.video.unflatten(1, (5, 4))[:, -1, 0, latents.POSITION_CHANNELS :]
    backgrounds, colours = last[:, :7].argmax(1), last[:, 7:14].argmax(1)
    np.testing.assert_array_equal(backgrounds, seen[0][:, 2])
    np.testing.assert_array_equal(colours, seen[0][:, 1])


def test_tokens_are_packed_as_the_pipeline_packs_them() -> None:
    """Keyframe by keyframe, row by row."""
    from diffusers import LTX2ConditionPipeline

    code = torch.randn(2, 32, 3, 2, 4)
    packed = LTX2ConditionPipeline._pack_latents(code, 1, 1)
    torch.testing.assert_close(denoiser.tokens(code), packed)
