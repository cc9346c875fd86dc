"""What the tiny world sounds like."""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import LTX2ConditionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from training import components, sound, world

_EVERYTHING = np.array([(shape, 0, 1, motion) for shape in range(3) for motion in range(7)])
_SIDES = ("left", "right", "centre", "centre", "centre", "centre", "centre")


@pytest.fixture(scope="module")
def vocoder() -> torch.nn.Module:
    """The vocoder with its closed-form weights."""
    built: torch.nn.Module = components.vocoder()
    return built


def _played(vocoder: torch.nn.Module, spectrogram: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        waveform: np.ndarray = vocoder(spectrogram).numpy()
    return waveform


def _synthesised(spectrogram: np.ndarray) -> np.ndarray:
    """One clip's sines ``[2, samples]``, whose amplitudes go straight from one frame's middle to the next's."""
    frames = spectrogram.shape[1]
    time = np.arange(frames * sound.HOP)
    place = (time + 0.5) / sound.HOP - 0.5
    played = np.zeros((2, len(time)))
    for side in range(2):
        for number in range(sound.BINS):
            amplitude = np.interp(place, np.arange(-1, frames + 1), [0, *spectrogram[side, :, number], 0])
            played[side] += amplitude * np.sin(2 * np.pi * sound.frequency(number) * time / sound.SAMPLE_RATE)
    return played


def test_the_vocoder_plays_sines(vocoder: torch.nn.Module) -> None:
    """Its output is that of a synthesis written down directly, also for amplitudes no clip has."""
    random = np.random.default_rng(0)
    spectrogram = random.uniform(0, 0.06, (2, 2, 9, sound.BINS)).astype(np.float32)
    played = _played(vocoder, torch.from_numpy(spectrogram))
    assert played.shape == (2, 2, 9 * sound.HOP)
    for clip, given_back in zip(spectrogram, played, strict=True):
        np.testing.assert_allclose(given_back, _synthesised(clip), atol=1e-5)


def test_nothing_clicks(vocoder: torch.nn.Module) -> None:
    """No step between two samples is larger than the sines' own slope, at the ends neither."""
    before, after = _EVERYTHING, _EVERYTHING[::-1]
    spectrogram = sound.spectrogram(sound.turn(before, after, np.full(len(before), 0.4, np.float32), 13))
    played = _played(vocoder, spectrogram)
    padded = np.pad(played, ((0, 0), (0, 0), (1, 1)))
    frequencies = np.array([sound.frequency(number) for number in range(sound.BINS)])
    slope = (spectrogram.numpy().max(2) * frequencies).sum(-1) * 2 * np.pi / sound.SAMPLE_RATE
    assert (np.abs(np.diff(padded)).max(-1) <= slope * 1.05 + 1e-4).all()


def test_what_is_played_is_heard(vocoder: torch.nn.Module) -> None:
    """Every shape's note and every motion's side is read right."""
    played = _played(vocoder, sound.spectrogram(sound.begin(_EVERYTHING, 13)))
    heard = [sound.pitch_and_side(waveform.T) for waveform in played]
    assert heard == [(shape, _SIDES[motion]) for shape, _, _, motion in _EVERYTHING]


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_the_sample_rate_may_be_another(rate: int) -> None:
    """Sound that was resampled, as for a file, is read as well."""
    time = np.arange(rate) / rate
    waveform = np.stack([0.4 * np.sin(2 * np.pi * 350 * time), 0.05 * np.sin(2 * np.pi * 350 * time)], 1)
    assert sound.pitch_and_side(waveform.astype(np.float32), rate) == (1, "left")


@pytest.mark.parametrize("samples", [0, 1, 16000])
def test_silence_has_no_pitch(samples: int) -> None:
    """Nor has nothing at all."""
    assert sound.pitch_and_side(np.zeros((samples, 2), np.float32)) == (None, "centre")


def test_latents_are_packed_as_the_pipeline_packs_them() -> None:
    """Packing and unpacking is the pipeline's own."""
    code = sound.encode(sound.begin(_EVERYTHING, 5))
    cells = sound.unpacked(code)
    assert code.shape == (21, 5, sound.LATENT_WIDTH)
    assert code.dtype == torch.float32
    assert torch.equal(LTX2ConditionPipeline._pack_audio_latents(cells), code)
    assert torch.equal(LTX2ConditionPipeline._unpack_audio_latents(code, 5, num_mel_bins=4), cells)


def test_latents_have_about_unit_variance_and_tell_all_sounds_apart() -> None:
    """Channels are centred; three notes from three sides, rising or falling, are fifteen points well apart."""
    code = sound.encode(sound.begin(_EVERYTHING, 1))[:, 0]
    assert code.mean(0).abs().max() < 0.01
    assert (code.std(0, correction=0) - 1).abs().max() < 0.01
    points = torch.unique(code, dim=0)
    assert len(points) == 15
    assert torch.pdist(points).min() > 3


def test_what_rises_sounds_brighter_and_what_falls_darker() -> None:
    """The keyframes of a bounce are heard rising and falling in turn; the note stays the loudest."""
    bouncing = np.array([[1, 0, 2, 6]])
    scenes = world.begin(np.random.default_rng(1), bouncing, 4)
    lift = sound.lift(scenes, 13, 24.0)[0]
    assert (lift[:4] > 1).all()
    assert (lift[5:8] < -1).all()
    assert (lift[9:] > 1).all()
    heard = sound.spectrogram(dataclasses.replace(sound.begin(bouncing, 13), lift=lift[None]))[0].sum(0)
    assert (heard.argmax(-1) == sound.PITCH_BIN[1]).all()
    rising, falling = heard[0], heard[4 * 6]
    assert rising[12] > 0 == falling[12]
    assert falling[3] > 0 == rising[3]


@given(st.integers(1, 30))
def test_a_spectrogram_is_as_long_as_the_audio_vae_makes_it(latents: int) -> None:
    """The first latent stands for one frame, every other for four."""
    spectrogram = sound.spectrogram(sound.begin(_EVERYTHING[:1], latents))
    assert spectrogram.shape == (1, 2, 4 * latents - 3, sound.BINS)


def test_the_audio_vae_takes_and_gives_these_shapes() -> None:
    """From spectrogram to latents and back, with statistics that leave latents as they are."""
    vae = components.audio_vae()
    sounds = sound.begin(_EVERYTHING, 6)
    with torch.inference_mode():
        cells = vae.encode(sound.spectrogram(sounds)).latent_dist.mode()
        drawn = vae.decode(sound.unpacked(sound.encode(sounds))).sample
    assert cells.shape == sound.unpacked(sound.encode(sounds)).shape
    assert drawn.shape == sound.spectrogram(sounds).shape
    assert torch.equal(vae.latents_mean, torch.zeros(sound.LATENT_WIDTH))
    assert torch.equal(vae.latents_std, torch.ones(sound.LATENT_WIDTH))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20), st.integers(0, 20), st.floats(-1, 2), st.integers(1, 25))
def test_a_sound_turns_into_the_next(old: int, new: int, seconds: float, latents: int) -> None:
    """It is the old one until the time given, the new one soon after, and a mixture of both in between."""
    before, after = _EVERYTHING[old : old + 1], _EVERYTHING[new : new + 1]
    turned = sound.encode(sound.turn(before, after, np.array([seconds], np.float32), latents))[0]
    first, last = (sound.encode(sound.begin(rows, 1))[0, 0] for rows in (before, after))
    time = np.arange(latents) * 0.08
    for place, latent in zip(time, turned, strict=True):
        if place <= seconds:
            torch.testing.assert_close(latent, first)
        elif place >= seconds + 0.21:
            torch.testing.assert_close(latent, last)
        else:
            torch.testing.assert_close((latent - first).norm() + (last - latent).norm(), (last - first).norm())


def test_a_clip_has_as_many_latents_as_the_pipeline_counts() -> None:
    """Twelve and a half a second, rounded."""
    assert [sound.latent_frames(frames, 24) for frames in (17, 25, 41, 121)] == [9, 13, 21, 63]
