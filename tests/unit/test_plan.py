"""The plan: every frame of the video comes from exactly one place."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from longtake.wire import Transition
from longtake_facade.plan import Plan, Shot, StitchFault, full_length, plan

SMOOTH, CUT, FADE = Transition.SMOOTH, Transition.CUT, Transition.FADE

shots = st.lists(
    st.builds(
        Shot,
        frames=st.integers(1, 12).map(lambda k: 8 * k + 1),
        transition=st.sampled_from(Transition),
        fade_frames=st.integers(1, 32),
    ),
    min_size=1,
    max_size=16,
)
tails = st.sampled_from([0, 1, 9, 17, 33])


def accepted(stages: list[Shot], tail: int, total: int | None = None) -> Plan:
    """The plan of a request that the rules accept; hypothesis draws another one where they do not."""
    smooth = [i for i in range(1, len(stages)) if stages[i].transition is SMOOTH]
    assume(all(tail < stages[i].frames and tail < stages[i - 1].frames for i in smooth))
    try:
        return plan(stages, tail, total)
    except StitchFault:
        assume(False)
        raise


@given(shots, tails, st.integers(0, 7))
def test_the_stages_tile_the_timeline_without_gap_or_overlap(stages: list[Shot], tail: int, trim: int) -> None:
    """Each stage begins where the one before ended, and the last ends at the requested length."""
    total = full_length(stages, tail) - trim
    result = accepted(stages, tail, total)
    position = 0
    for stage in result.stages:
        assert stage.start == position
        position += stage.output_frames
    assert position == result.total_frames == total


@given(shots, tails, st.integers(0, 7))
def test_every_frame_of_a_clip_is_used_once(stages: list[Shot], tail: int, trim: int) -> None:
    """Dropped head, fade-in, body, fade-out and trimmed end make up the clip."""
    for stage in accepted(stages, tail, full_length(stages, tail) - trim).stages:
        assert stage.drop + stage.fade_in + len(stage.body) + stage.fade_out + stage.trim == stage.frames


@given(shots, tails)
def test_both_sides_of_a_fade_have_its_length(stages: list[Shot], tail: int) -> None:
    """What one stage holds back is what the next one blends it with."""
    planned = accepted(stages, tail).stages
    for before, after in itertools.pairwise(planned):
        assert before.fade_out == after.fade_in
        assert before.tail == after.drop


@given(shots, tails)
def test_takes_break_exactly_where_nothing_is_carried_over(stages: list[Shot], tail: int) -> None:
    """A take continues over a smooth join with a tail, and over nothing else."""
    result = accepted(stages, tail)
    assert [i for take in result.takes for i in take] == list(range(len(stages)))
    for take in result.takes:
        assert not result.stages[take[0]].smooth
        assert all(result.stages[i].smooth for i in take[1:])


@given(shots, tails)
def test_a_refusal_is_the_stitch_rule_and_nothing_else(stages: list[Shot], tail: int) -> None:
    """plan() refuses a list of stages if and only if the rule of the contract, written out, does."""
    allowed = True
    for i, shot in enumerate(stages):
        last = i + 1 == len(stages)
        h = tail if i and shot.transition is SMOOTH else 0
        a = shot.fade_frames if i and shot.transition is FADE else 0
        b = 0 if last or stages[i + 1].transition is not FADE else stages[i + 1].fade_frames
        allowed &= h + a + b <= shot.frames and (not last or h + a <= shot.frames - 1)
    if allowed:
        plan(stages, tail)
    else:
        with pytest.raises(StitchFault):
            plan(stages, tail)


def test_the_length_formula_of_the_contract() -> None:
    """f0, then f-K for smooth, f for cut, f-n for fade."""
    stages = [Shot(25, SMOOTH, 8), Shot(25, SMOOTH, 8), Shot(33, CUT, 8), Shot(17, FADE, 5)]
    assert full_length(stages, 9) == 25 + (25 - 9) + 33 + (17 - 5)


@pytest.mark.parametrize(
    ("stages", "total", "at", "field"),
    [
        ([Shot(9, SMOOTH, 8), Shot(9, FADE, 9)], None, 1, "fade_frames"),
        ([Shot(9, SMOOTH, 8), Shot(17, FADE, 10)], None, 1, "fade_frames"),
        ([Shot(33, SMOOTH, 8), Shot(17, FADE, 10), Shot(25, FADE, 8)], None, 2, "fade_frames"),
        ([Shot(17, SMOOTH, 8), Shot(9, FADE, 8)], 17 + 9 - 8 - 1, 1, "total_frames"),
    ],
)
def test_a_refusal_names_the_field_to_blame(stages: list[Shot], total: int | None, at: int, field: str) -> None:
    """The stage and field in the fault are those the user has to change."""
    with pytest.raises(StitchFault) as caught:
        plan(stages, 9, total)
    assert (caught.value.stage, caught.value.field) == (at, field)


def test_a_smooth_join_without_a_tail_depends_on_nothing() -> None:
    """With K = 0 every stage is a take of its own and no frame is dropped."""
    result = plan([Shot(9, SMOOTH, 8), Shot(9, SMOOTH, 8)], 0)
    assert result.takes == ((0,), (1,))
    assert result.total_frames == 18
