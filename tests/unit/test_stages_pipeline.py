"""Prompt encoder, denoiser and decoder on the tiny checkpoint, without Triton."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake_stages import tiny
from longtake_stages.checkpoint import Checkpoint, load_pipeline, open_checkpoint
from longtake_stages.colour import to_uint8
from longtake_stages.decoder import CHUNK_FRAMES, Decoder, End, Frames, plan_tiles
from longtake_stages.denoiser import Anchor, ClipSpec, Denoiser, HandThrough
from longtake_stages.device import place
from longtake_stages.documents import ClipLatents, Context
from longtake_stages.errors import CancelledError, InvalidArgumentError
from longtake_stages.profile import Guidance
from longtake_stages.prompt_encoder import MAX_CHARACTERS, PromptEncoder

CPU = place("CPU", 0)
SPEC = ClipSpec(width=64, height=64, frames=17, fps=24, seed=1, steps=2, guidance=1.0)


@dataclass(frozen=True)
class Stages:
    checkpoint: Checkpoint
    encoder: PromptEncoder
    denoiser: Denoiser
    decoder: Decoder

    def denoise(self, spec: ClipSpec, prompt: str = "a cat") -> ClipLatents:
        return self.denoiser.denoise(self.encoder.encode(prompt, ""), spec, lambda *_: None, never)


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    folder = tmp_path_factory.mktemp("pipeline") / "tiny-ltx2"
    tiny.build(folder)
    checkpoint = open_checkpoint(str(folder))
    return Stages(
        checkpoint,
        PromptEncoder.load(checkpoint, CPU),
        Denoiser.load(checkpoint, CPU),
        Decoder.load(checkpoint, CPU),
    )


def frames_of(parts: list[Frames | End]) -> np.ndarray:
    return np.concatenate([part.pixels for part in parts if isinstance(part, Frames)])


class TestPromptEncoder:
    def test_a_context_has_a_row_for_each_prompt(self, stages: Stages) -> None:
        """Row 0 is the prompt, row 1 the negative prompt, at the checkpoint's sequence length."""
        context = stages.encoder.encode("a cat", "blurry")
        swapped = stages.encoder.encode("blurry", "a cat")
        assert context.video.shape[:2] == context.mask.shape == (2, 64)
        torch.testing.assert_close(context.video[0], swapped.video[1])
        torch.testing.assert_close(context.audio[1], swapped.audio[0])

    def test_any_text_has_a_context_of_its_own(self, stages: Stages) -> None:
        """No text, another script, and a text far beyond the sequence length are all encoded."""
        contexts = [stages.encoder.encode(text, "").video[0] for text in ("", "Übergang 🌊", "word " * 4000)]
        assert all(torch.isfinite(context).all() for context in contexts)
        assert (contexts[0] - contexts[1]).abs().mean() > 0.01

    def test_an_absurd_prompt_is_refused(self, stages: Stages) -> None:
        """Before it costs anything."""
        with pytest.raises(InvalidArgumentError, match="prompt"):
            stages.encoder.encode("x" * (MAX_CHARACTERS + 1), "")


class TestDenoiser:
    def test_it_computes_what_the_whole_pipeline_computes(self, stages: Stages) -> None:
        """Text encoded apart and handed through the stand-in gives the latents of one undivided pipeline."""
        whole = load_pipeline(stages.checkpoint, ["text_encoder", "tokenizer", *DENOISING, "connectors"], CPU)
        whole.vocoder = None
        for guidance in (1.0, 3.0):
            video, audio = whole(
                prompt="a cat",
                negative_prompt="blurry",
                width=64,
                height=64,
                num_frames=17,
                num_inference_steps=2,
                generator=torch.Generator().manual_seed(1),
                guidance_scale=guidance,
                audio_guidance_scale=guidance,
                max_sequence_length=64,
                output_type="latent",
                return_dict=False,
                **NOTHING_ELSE,
            )
            context = stages.encoder.encode("a cat", "blurry")
            spec = replace(SPEC, guidance=guidance)
            ours = stages.denoiser.denoise(context, spec, lambda *_: None, never)
            torch.testing.assert_close(ours.video, video)
            torch.testing.assert_close(ours.audio, audio)

    def test_every_step_is_reported_once_and_in_order(self, stages: Stages) -> None:
        """From 1 to the total."""
        seen: list[tuple[int, int]] = []
        context = stages.encoder.encode("", "")
        stages.denoiser.denoise(context, replace(SPEC, steps=3), lambda *step: seen.append(step), never)
        assert seen == [(1, 3), (2, 3), (3, 3)]

    @pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 1])
    def test_any_64_bit_seed_gives_its_own_clip_again_and_again(self, stages: Stages, seed: int) -> None:
        """The same seed the same latents, another seed others."""
        first = stages.denoise(replace(SPEC, seed=seed))
        again = stages.denoise(replace(SPEC, seed=seed))
        other = stages.denoise(replace(SPEC, seed=seed ^ 1))
        assert torch.equal(first.video, again.video)
        assert torch.equal(first.audio, again.audio)
        assert not torch.allclose(first.video, other.video, atol=0.1)

    def test_a_cancelled_denoise_stops_after_the_step_it_is_in(self, stages: Stages) -> None:
        """Asked after every step; the denoiser can be used again at once, and gives what it gave before."""
        steps: list[int] = []
        context = stages.encoder.encode("a cat", "")
        with pytest.raises(CancelledError):
            stages.denoiser.denoise(
                context, replace(SPEC, steps=50), lambda step, _: steps.append(step), lambda: len(steps) >= 3
            )
        assert steps == [1, 2, 3]
        assert torch.equal(stages.denoise(SPEC).video, stages.denoise(SPEC).video)

    def test_what_is_cancelled_beforehand_computes_no_step(self, stages: Stages) -> None:
        """A request that waited too long is dropped."""
        steps: list[int] = []
        with pytest.raises(CancelledError):
            stages.denoiser.denoise(
                stages.encoder.encode("", ""), SPEC, lambda step, _: steps.append(step), lambda: True
            )
        assert steps == []

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"width": 0}, "width"),
            ({"height": 65}, "height"),
            ({"width": 4096, "height": 4096}, "pixels"),
            ({"frames": 16}, "frames"),
            ({"frames": 105}, "frames"),
            ({"fps": 0}, "fps"),
            ({"steps": 0}, "steps"),
            ({"steps": 10_000}, "steps"),
            ({"guidance": float("inf")}, "guidance"),
            ({"guidance": -1.0}, "guidance"),
            ({"anchors": (Anchor(0, np.zeros((2, 64, 64, 3), np.uint8), 1.0),)}, "8k.1 frames"),
            ({"anchors": (Anchor(0, np.zeros((1, 32, 64, 3), np.uint8), 1.0),)}, "own size"),
            ({"anchors": (Anchor(5, np.zeros((1, 64, 64, 3), np.uint8), 1.0),)}, "begin"),
            ({"anchors": (Anchor(17, np.zeros((1, 64, 64, 3), np.uint8), 1.0),)}, "within"),
            ({"anchors": (Anchor(0, np.zeros((1, 64, 64, 3), np.uint8), float("nan")),)}, "strength"),
        ],
    )
    def test_what_the_checkpoint_cannot_do_is_refused(self, stages: Stages, change: dict[str, Any], says: str) -> None:
        """With the value and what is allowed."""
        with pytest.raises(InvalidArgumentError, match=says):
            stages.denoise(replace(SPEC, **change))

    def test_a_context_of_another_checkpoint_is_refused(self, stages: Stages) -> None:
        """Its channels give it away."""
        states = torch.zeros(2, 8, 5)
        with pytest.raises(InvalidArgumentError, match="not of this checkpoint"):
            stages.denoiser.denoise(Context(states, states, torch.ones(2, 8)), SPEC, lambda *_: None, never)

    def test_a_tail_is_placed_whole_and_unchanged_at_the_head(self, stages: Stages) -> None:
        """All 17 frames of it, as 3 latent frames: at strength 1 they are what the VAE makes of the tail."""
        tail = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
        latents = stages.denoise(replace(SPEC, frames=33, anchors=(Anchor(0, tail, 1.0),)))
        vae = load_pipeline(stages.checkpoint, ["vae"], CPU).vae
        with torch.no_grad():
            expected = vae.encode(torch.from_numpy(tail).permute(3, 0, 1, 2)[None] / 127.5 - 1).latent_dist.mode()
        torch.testing.assert_close(latents.video[:, :, :3], expected, atol=1e-3, rtol=1e-3)

    def test_a_stronger_anchor_holds_the_clip_closer(self, stages: Stages) -> None:
        """At the anchored latent frame the distance from the image falls as the strength grows."""
        image = np.full((1, 64, 64, 3), 230, np.uint8)
        held = stages.denoise(replace(SPEC, anchors=(Anchor(0, image, 1.0),))).video[:, :, 0]

        def distance(strength: float) -> float:
            anchored = stages.denoise(replace(SPEC, anchors=(Anchor(0, image, strength),)))
            return float((anchored.video[:, :, 0] - held).abs().mean())

        assert distance(0.0) > distance(0.5) > distance(0.9) > distance(1.0) == 0

    def test_the_stand_in_hands_both_halves_through(self) -> None:
        """Video states, audio states and mask come out as they went in, whatever the batch."""
        video, audio, mask = torch.randn(2, 3, 4), torch.randn(2, 3, 5), torch.ones(2, 3)
        out = HandThrough(4)(torch.cat([video, audio], -1), mask, padding_side="left")
        assert torch.equal(out[0], video)
        assert torch.equal(out[1], audio)
        assert out[2] is mask

    @pytest.mark.parametrize("frames", [1, 9])
    def test_only_single_images_are_compressed_as_in_training(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch, frames: int
    ) -> None:
        """The pipeline is told the profile's CRF for an image, and none for a tail."""
        given = pipeline_arguments(stages, monkeypatch, Anchor(0, np.zeros((frames, 64, 64, 3), np.uint8), 0.5))
        (condition,) = given["conditions"]
        assert (condition.crf, condition.index, condition.strength) == (33 if frames == 1 else 0, 0, 0.5)

    def test_conditions_are_placed_by_latent_frames(self, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pixel frame 9 begins latent frame 2."""
        given = pipeline_arguments(stages, monkeypatch, Anchor(9, np.zeros((1, 64, 64, 3), np.uint8), 0.4))
        assert given["conditions"][0].index == 2

    def test_every_guidance_argument_is_passed(self, stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
        """None is left to the pipeline's defaults, which are another checkpoint's."""
        given = pipeline_arguments(stages, monkeypatch)
        assert {name: given[name] for name in NOTHING_ELSE} == NOTHING_ELSE
        assert (given["guidance_scale"], given["audio_guidance_scale"]) == (1.0, 4.0)

    def test_a_distilled_schedule_is_used_for_its_own_number_of_steps(
        self, stages: Stages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two sigmas serve two steps; three steps are spaced evenly."""
        assert pipeline_arguments(stages, monkeypatch)["sigmas"] == [1.0, 0.5]
        assert pipeline_arguments(stages, monkeypatch, steps=3)["sigmas"] is None


DENOISING = ("transformer", "vae", "scheduler", "audio_vae")
NOTHING_ELSE = {
    "guidance_rescale": 0.0,
    "audio_guidance_rescale": 0.0,
    "stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "spatio_temporal_guidance_blocks": None,
    "modality_scale": 1.0,
    "audio_modality_scale": 1.0,
}


def pipeline_arguments(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, *anchors: Anchor, steps: int = 2
) -> dict[str, Any]:
    """What the pipeline is called with for a checkpoint that compresses images and has a schedule of its own."""
    profile = msgspec.structs.replace(
        stages.checkpoint.profile, image_crf=33, sigmas=(1.0, 0.5), companions=Guidance(audio_scale=4.0)
    )
    pipeline = load_pipeline(stages.checkpoint, DENOISING, CPU)
    given: dict[str, Any] = {}

    def call(_self: Any, **arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
        given.update(arguments)
        return torch.zeros(1), torch.zeros(1)

    monkeypatch.setattr(type(pipeline), "__call__", call)
    spec = replace(SPEC, steps=steps, anchors=anchors)
    Denoiser(pipeline, profile, CPU).denoise(stages.encoder.encode("", ""), spec, lambda *_: None, never)
    return given


class TestDecoder:
    def decode(self, stages: Stages, latents: ClipLatents, **options: Any) -> list[Frames | End]:
        arguments: dict[str, Any] = {"pixel_format": "rgb24", "tail_frames": 17, "audio": True, "is_cancelled": never}
        return list(stages.decoder.decode(latents, **(arguments | options)))

    def test_a_clip_of_one_tile_is_a_whole_decode(self, stages: Stages) -> None:
        """No tiling shows where none is needed."""
        latents = stages.denoise(replace(SPEC, frames=33))
        vae = load_pipeline(stages.checkpoint, ["vae"], CPU).vae
        with torch.no_grad():
            expected = to_uint8(vae.decode(latents.video, return_dict=False)[0][0])
        np.testing.assert_array_equal(frames_of(self.decode(stages, latents)), expected.numpy())

    @pytest.mark.parametrize("frames", [41, 97])
    def test_tiles_lie_closer_to_a_whole_decode_than_the_vaes_own(self, stages: Stages, frames: int) -> None:
        """Frame for frame in place: the mean distance from the whole decode is below that of diffusers' tiling."""
        latents = stages.denoise(replace(SPEC, frames=frames))
        vae = load_pipeline(stages.checkpoint, ["vae"], CPU).vae
        profile = stages.checkpoint.profile
        with torch.no_grad():
            whole = to_uint8(vae.decode(latents.video, return_dict=False)[0][0]).numpy().astype(int)
            vae.use_framewise_decoding = True
            vae.tile_sample_min_num_frames = 8 * (profile.decode_tile - 1)
            vae.tile_sample_stride_num_frames = 8 * (profile.decode_tile - profile.decode_overlap)
            theirs = to_uint8(vae.decode(latents.video, return_dict=False)[0][0]).numpy().astype(int)
        ours = frames_of(self.decode(stages, latents)).astype(int)
        assert ours.shape == whole.shape
        assert np.abs(ours - whole).mean() < np.abs(theirs - whole).mean()

    def test_frames_come_in_chunks_and_the_tail_is_the_last_of_them(self, stages: Stages) -> None:
        """No response is larger than a chunk; the tail equals the last frames sent."""
        parts = self.decode(stages, stages.denoise(replace(SPEC, frames=97)))
        *chunks, end = parts
        assert all(isinstance(chunk, Frames) and 1 <= len(chunk.pixels) <= CHUNK_FRAMES for chunk in chunks)
        assert len(chunks) > 4
        assert isinstance(end, End)
        assert len(frames_of(parts)) == 97
        np.testing.assert_array_equal(end.tail, frames_of(parts)[-17:])

    @pytest.mark.parametrize("tail_frames", [0, 1, 40, 41])
    def test_a_tail_may_be_anything_up_to_the_clip(self, stages: Stages, tail_frames: int) -> None:
        """Longer than a chunk or a tile, too."""
        parts = self.decode(stages, stages.denoise(replace(SPEC, frames=41)), tail_frames=tail_frames)
        end = parts[-1]
        assert isinstance(end, End)
        np.testing.assert_array_equal(end.tail, frames_of(parts)[41 - tail_frames :])

    def test_sound_is_finite_audible_and_only_on_demand(self, stages: Stages) -> None:
        """Two channels within -1..1 about as long as the clip; without audio nothing."""
        latents = stages.denoise(replace(SPEC, frames=25))
        sound, silent = self.decode(stages, latents)[-1], self.decode(stages, latents, audio=False)[-1]
        assert isinstance(sound, End)
        assert isinstance(silent, End)
        assert sound.sample_rate == 16000
        assert sound.waveform.dtype == np.float32
        assert 0.9 < len(sound.waveform) / (16000 * 25 / 24) < 1.1
        assert sound.waveform.std() > 1e-3
        assert np.abs(sound.waveform).max() <= 1
        assert (silent.sample_rate, silent.waveform.size) == (0, 0)

    def test_a_cancelled_decode_sends_nothing_more(self, stages: Stages) -> None:
        """Asked before every chunk."""
        latents = stages.denoise(replace(SPEC, frames=97))
        seen: list[Frames | End] = []
        parts = stages.decoder.decode(latents, "rgb24", 0, False, lambda: len(seen) >= 2)
        seen += [next(parts), next(parts)]
        with pytest.raises(CancelledError):
            next(parts)

    @pytest.mark.parametrize(
        ("break_it", "says"),
        [
            (lambda clip: ClipLatents(clip.video[:, :3], clip.audio), "channels"),
            (lambda clip: ClipLatents(clip.video, clip.audio[:, :1]), "audio channels"),
            (lambda clip: ClipLatents(clip.video[:, :, :0], clip.audio), "empty"),
        ],
    )
    def test_latents_of_another_checkpoint_are_refused(
        self, stages: Stages, break_it: Callable[[ClipLatents], ClipLatents], says: str
    ) -> None:
        """Before anything is decoded."""
        with pytest.raises(InvalidArgumentError, match=says):
            self.decode(stages, break_it(stages.denoise(SPEC)))

    def test_a_tail_longer_than_the_clip_is_refused(self, stages: Stages) -> None:
        """The clip's length is the limit."""
        with pytest.raises(InvalidArgumentError, match=r"tail_frames must be 0\.\.17, not 18"):
            self.decode(stages, stages.denoise(SPEC), tail_frames=18)


@given(latent_frames=st.integers(1, 60), tile=st.integers(3, 12), overlap=st.integers(2, 11))
def test_tiles_cover_a_clip_and_share_what_they_blend(latent_frames: int, tile: int, overlap: int) -> None:
    """In order, none longer than a tile, neighbours share at least the overlap; blending never reaches over two."""
    overlap = min(overlap, tile - 1)
    tiles = plan_tiles(latent_frames, tile, overlap, grid=8)
    assert tiles[0].start == 0
    assert tiles[0].blended == 0
    assert tiles[-1].stop == latent_frames
    assert all(each.stop - each.start == min(tile, latent_frames) for each in tiles)
    for before, after in pairwise(tiles):
        assert before.start < after.start
        shared = before.stop - after.start
        assert shared >= overlap
        assert after.blended == 8 * (shared - 1) > 0
    frames = sum((each.stop - each.start - 1) * 8 + (each.start == 0) - each.blended for each in tiles)
    assert frames == (latent_frames - 1) * 8 + 1
