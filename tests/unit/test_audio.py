"""The soundtrack: exact lengths, and joins that are heard where they should be."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from longtake.wire import Transition
from longtake_facade.audio import Clock, Voice, fit, origin_of, plan_joins, rising, soundtrack, stage_sound
from longtake_facade.backend import Waveform
from longtake_facade.plan import Plan, Shot, StitchFault, full_length, plan

SMOOTH, CUT, FADE = Transition.SMOOTH, Transition.CUT, Transition.FADE
RATES = [16000, 22050, 24000, 32000, 44100, 48000]

shots = st.lists(
    st.builds(
        Shot,
        frames=st.integers(1, 4).map(lambda k: 8 * k + 1),
        transition=st.sampled_from(Transition),
        fade_frames=st.integers(1, 32),
    ),
    min_size=1,
    max_size=6,
)
clocks = st.builds(Clock, rate=st.sampled_from(RATES), fps=st.integers(8, 120))


def accepted(stages: list[Shot], tail: int, trim: int) -> Plan:
    """The plan of a request that the rules accept; hypothesis draws another one where they do not."""
    assume(all(s.transition is not SMOOTH or tail < min(s.frames, b.frames) for b, s in pairwise(stages)))
    try:
        return plan(stages, tail, full_length(stages, tail) - trim)
    except StitchFault:
        assume(False)
        raise


def track(timing: Plan, waveforms: list[Waveform], clock: Clock) -> Waveform:
    """The whole soundtrack as one array."""
    lengths = [len(waveform) for waveform in waveforms]
    return np.concatenate(list(soundtrack(timing, lengths, waveforms.__getitem__, clock)))


def constant(samples: int, value: float = 0.5) -> Waveform:
    """A waveform that never changes."""
    return np.full((samples, 1), value, np.float32)


@settings(deadline=None)
@given(shots, st.sampled_from([0, 1, 9, 17]), st.integers(0, 7), clocks, st.data())
def test_the_soundtrack_is_as_long_as_the_frames_whatever_the_waveforms(
    stages: list[Shot], tail: int, trim: int, clock: Clock, data: st.DataObject
) -> None:
    """Sample exact for any accepted plan, any rate and fps, also where waveforms are missing, short or too long."""
    timing = accepted(stages, tail, trim)
    waveforms = []
    for stage in timing.stages:
        short = data.draw(st.sampled_from([-500, 0, 1, 700, 2000, 10**9]))
        waveforms.append(constant(max(0, clock.at(stage.frames) - short), data.draw(st.sampled_from([-3.0, 0.7, 1.0]))))
    sound = track(timing, waveforms, clock)
    assert sound.shape == (clock.at(timing.total_frames), 1)
    assert np.isfinite(sound).all()
    assert np.abs(sound).max(initial=0) <= 1


@settings(deadline=None)
@given(shots, st.sampled_from([0, 1, 9, 17]), st.integers(0, 7), clocks)
def test_joins_follow_each_other_within_the_video(stages: list[Shot], tail: int, trim: int, clock: Clock) -> None:
    """No two joins overlap and none leaves the video, so at most two stages are heard at once."""
    timing = accepted(stages, tail, trim)
    joins = plan_joins(timing, [max(0, clock.at(s.frames) - 1500) for s in timing.stages], clock)
    position = 0
    for join in joins:
        assert position <= join.start <= join.end <= clock.at(timing.total_frames)
        assert join.out_start <= join.out_end
        assert join.in_start <= join.in_end
        position = join.end


@settings(deadline=None)
@given(shots, st.sampled_from([0, 9, 17]), clocks)
def test_a_constant_sound_stays_constant_away_from_the_joins(stages: list[Shot], tail: int, clock: Clock) -> None:
    """Outside the joins each stage is heard as it is, where its waveform reaches."""
    timing = accepted(stages, tail, 0)
    waveforms = [constant(clock.at(stage.frames) + 1) for stage in timing.stages]
    sound = track(timing, waveforms, clock)[:, 0]
    away = np.ones(len(sound), bool)
    for join in plan_joins(timing, [len(waveform) for waveform in waveforms], clock):
        away[max(0, join.start - 1) : join.end + 1] = False
    # The sample rule may place a clip one sample early, so its last sample can be silence.
    for stage in timing.stages:
        away[max(0, origin_of(stage, clock) + clock.at(stage.frames) - 1) :][:2] = False
    assert (sound[away] == 0.5).all()


def test_a_smooth_join_ends_where_the_earlier_waveform_ends_and_continues_in_the_later_head() -> None:
    """The earlier clip gives 40 ms less; from there the later clip's dropped head is heard, without a gap."""
    clock = Clock(rate=24000, fps=24)
    timing = plan([Shot(25, SMOOTH, 8), Shot(25, SMOOTH, 8)], 9)
    short = clock.samples(40)
    earlier, later = constant(25 * 1000 - short, 0.25), constant(25 * 1000, 0.75)
    later[: 9 * 1000] = 0.5  # the head that repeats the earlier clip's end
    sound = track(timing, [earlier, later], clock)[:, 0]
    over = 25 * 1000 - short
    assert (sound[: over - 120] == 0.25).all()
    assert (np.diff(sound[over - 121 : over + 1]) > 0).all()
    assert (sound[over : 25 * 1000] == 0.5).all()
    assert (sound[25 * 1000 : -1] == 0.75).all()


def test_a_cut_goes_to_silence_and_back_within_four_milliseconds() -> None:
    """2 ms out, 2 ms in, on either side of the boundary; the rest is untouched and the length is the frames'."""
    clock = Clock(rate=48000, fps=24)
    timing = plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 9)
    sound = track(timing, [constant(18000), constant(18000)], clock)[:, 0]
    assert len(sound) == 36000
    assert (sound[: 18000 - 96] == 0.5).all()
    assert (np.diff(sound[18000 - 97 : 18000]) < 0).all()
    assert sound[18000 - 1] < 0.01 > sound[18000]
    assert (np.diff(sound[18000 : 18000 + 97]) > 0).all()
    assert (sound[18000 + 96 :] == 0.5).all()


def test_a_smooth_join_without_a_tail_sounds_like_a_cut() -> None:
    """With K = 0 there is no dropped head to be heard."""
    clock = Clock(rate=48000, fps=24)
    waveforms = [constant(18000), constant(18000)]
    smooth = track(plan([Shot(9, SMOOTH, 8), Shot(9, SMOOTH, 8)], 0), waveforms, clock)
    cut = track(plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 0), waveforms, clock)
    assert np.array_equal(smooth, cut)


def test_a_fade_crosses_over_its_whole_length() -> None:
    """From the earlier sound to the later in a straight line over the fade's frames."""
    clock = Clock(rate=24000, fps=24)
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, FADE, 8)], 9)
    sound = track(timing, [constant(17000, 0.0), constant(17000, 1.0)], clock)[:, 0]
    assert (sound[:9000] == 0).all()
    assert sound[9000:17000] == pytest.approx((np.arange(8000) + 0.5) / 8000, abs=1e-5)
    assert (sound[17000:] == 1).all()


def test_boundaries_stay_on_their_frames_after_many_joins() -> None:
    """At 44100 Hz and 17 fps no frame has a whole number of samples, yet no stage drifts by more than one."""
    clock = Clock(rate=44100, fps=17)
    timing = plan([Shot(33, SMOOTH, 8)] * 16, 9)
    for stage in timing.stages:
        assert abs(origin_of(stage, clock) + clock.at(stage.drop) - clock.at(stage.start)) == 0
        assert abs(origin_of(stage, clock) + clock.at(33) - clock.at(stage.start + 33 - stage.drop)) <= 1


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 50))
def test_a_fitted_waveform_has_the_length_asked_for_and_ends_softly(have: int, want: int, ramp: int) -> None:
    """Cut where it is too long; faded out and followed by silence where it is too short."""
    fitted = fit(constant(have, 1.0), want, ramp)
    assert fitted.shape == (want, 1)
    if have >= want:
        assert (fitted == 1).all()
    else:
        assert (fitted[: max(0, have - ramp)] == 1).all()
        assert (np.diff(fitted[max(0, have - ramp) : have, 0]) < 0).all()
        assert (fitted[have:] == 0).all()


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_gains_rise_from_nothing_to_all(start: int, length: int, ramp_start: int, ramp: int) -> None:
    """Never falling, within 0..1, nothing before the ramp and all after it."""
    gains = rising(start, start + length, ramp_start, ramp_start + ramp)[:, 0]
    assert ((gains >= 0) & (gains <= 1)).all()
    assert (np.diff(gains) >= 0).all()
    at = np.arange(start, start + length)
    assert (gains[at < ramp_start] == 0).all()
    assert (gains[at >= ramp_start + max(ramp, 1)] == 1).all()


def test_a_voice_is_silent_where_its_waveform_is_not() -> None:
    """Before its origin and after its end there are zeros."""
    heard = Voice(2, constant(3, 1.0)).between(0, 7)
    assert heard[:, 0].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_a_stages_own_sound_is_that_of_its_body() -> None:
    """The dropped head and the held back end are not in it; its length is that of the body's frames."""
    clock = Clock(rate=24000, fps=24)
    stage = plan([Shot(25, SMOOTH, 8), Shot(25, SMOOTH, 8), Shot(17, FADE, 8)], 9).stages[1]
    waveform = np.arange(25000, dtype=np.float32)[:, None] / 25000
    sound = stage_sound(stage, waveform, clock)
    assert len(sound) == len(stage.body) * 1000
    assert np.array_equal(sound, waveform[9000 : 25000 - 8000])
