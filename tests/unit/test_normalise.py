"""Every rule of the request: what is filled in, what is refused, and which field is named."""

import io
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from longtake.wire import ChainRequest, ChainStage, Transition
from longtake_facade.normalise import Normalised, UnknownModel, normalise, plan_of, stage_seed
from longtake_facade.parse import Invalid
from longtake_stages.contract import Capabilities
from served import ON_GPU, PALETTE, TINY

SMOOTH, CUT, FADE = Transition.SMOOTH, Transition.CUT, Transition.FADE


def png(width: int = 8, height: int = 8, colour: tuple[int, int, int] = PALETTE["red"]) -> bytes:
    """A small image file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def stage(frames: int = 25, transition: Transition = SMOOTH, **other: Any) -> ChainStage:
    return ChainStage(prompt=other.pop("prompt", "a red circle"), frames=frames, transition=transition, **other)


def run(served: Capabilities = TINY, **request: Any) -> Normalised:
    return normalise(ChainRequest(**request), served, draw_seed=lambda: 77)


def refused(served: Capabilities = TINY, **request: Any) -> dict[str, str]:
    """Path and message of everything a request is refused for."""
    with pytest.raises(Invalid) as caught:
        run(served, **request)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_every_default_is_filled_in() -> None:
    """A request of one bare stage comes back with all settings of the model, and the drawn seed."""
    done = run(stages=[stage()])
    assert msgspec.to_builtins(done.script) == {
        "schema": "mold.chain.v1",
        "chain": {
            "model": "tiny-ltx2",
            "width": 64,
            "height": 64,
            "fps": 24,
            "seed": 77,
            "steps": 8,
            "guidance": 1.0,
            "strength": 1.0,
            "motion_tail_frames": 17,
            "output_format": "mp4",
            "enable_audio": True,
        },
        "stage": [{"prompt": "a red circle", "frames": 25, "transition": "smooth"}],
    }
    assert done.seed_drawn
    assert done.plan.total_frames == 25


def test_a_given_seed_is_kept_up_to_the_last_of_64_bits() -> None:
    """Any u64 is accepted, one more is not."""
    assert run(stages=[stage()], seed=2**64 - 1).script.chain.seed == 2**64 - 1
    assert not run(stages=[stage()], seed=0).seed_drawn
    assert set(refused(stages=[stage()], seed=2**64)) == {"seed"}


def test_the_first_stage_is_coerced_to_smooth() -> None:
    """There is nothing before it to cut or fade from."""
    done = run(stages=[stage(transition=FADE, fade_frames=4), stage(transition=CUT)])
    assert [one.transition for one in done.script.stage] == [SMOOTH, CUT]
    assert done.plan.total_frames == 50


def test_a_fade_without_a_length_takes_eight_frames() -> None:
    """The default is filled in, so that the echo says what was done."""
    done = run(stages=[stage(), stage(transition=FADE)])
    assert done.script.stage[1].fade_frames == 8
    assert done.plan.total_frames == 25 + 25 - 8


@pytest.mark.parametrize(
    ("request_", "path", "message"),
    [
        ({}, "stages", "chain request needs either stages[] or prompt + total_frames"),
        ({"prompt": "x"}, "total_frames", "chain auto-expand requires total_frames"),
        ({"prompt": "x", "total_frames": 0}, "total_frames", "chain total_frames must be > 0"),
        (
            {"prompt": "x", "total_frames": 9, "clip_frames": 0},
            "clip_frames",
            "chain clip_frames must be > 0",
        ),
        (
            {"prompt": "x", "total_frames": 9, "clip_frames": 20},
            "clip_frames",
            "chain clip_frames (20) must be 8k+1 (9, 17, 25, …, 97)",
        ),
        (
            {"prompt": "x", "total_frames": 99, "clip_frames": 17},
            "motion_tail_frames",
            "motion_tail_frames (17) must be strictly less than clip_frames (17)",
        ),
        (
            {"prompt": "x", "total_frames": 1298},
            "total_frames",
            "auto-expand would produce 17 stages; maximum is 16 (try reducing total_frames or increasing clip_frames)",
        ),
        (
            {"stages": [stage(transition=CUT)] * 17},
            "stages",
            "chain request has 17 stages; maximum is 16",
        ),
        ({"stages": [stage(0)]}, "stages[0].frames", "stage 0 has 0 frames"),
        (
            {"stages": [stage(), stage(26, CUT)]},
            "stages[1].frames",
            "stage 1 has 26 frames; ltx2 requires 8k+1 (9, 17, 25, …, 97)",
        ),
        (
            {"stages": [stage(105)]},
            "stages[0].frames",
            "stage 0 has 105 frames; ltx2 requires 8k+1 (9, 17, 25, …, 97)",
        ),
        (
            {"stages": [stage(17), stage(25)]},
            "motion_tail_frames",
            "motion_tail_frames (17) must be strictly less than stage 0's frames (17)",
        ),
        (
            {"stages": [stage(25), stage(17)]},
            "motion_tail_frames",
            "motion_tail_frames (17) must be strictly less than stage 1's frames (17)",
        ),
    ],
)
def test_refusals_keep_the_wording_of_the_original(request_: dict[str, Any], path: str, message: str) -> None:
    """Clients match on these texts."""
    assert refused(**request_) == {path: message}


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        ({"width": 100}, "width"),
        ({"height": 0}, "height"),
        ({"width": 1024, "height": 512}, "width"),
        ({"fps": 0}, "fps"),
        ({"fps": 121}, "fps"),
        ({"steps": 0}, "steps"),
        ({"steps": 101}, "steps"),
        ({"guidance": -0.5}, "guidance"),
        ({"guidance": float("inf")}, "guidance"),
        ({"guidance": 1e39}, "guidance"),
        ({"guidance": float("nan")}, "guidance"),
        ({"strength": 1.01}, "strength"),
        ({"strength": -0.01}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"output_format": "png"}, "output_format"),
        ({"output_format": "jpeg"}, "output_format"),
        ({"output_format": "webp", "enable_audio": True}, "enable_audio"),
        ({"prompt": "beside stages"}, "prompt"),
        ({"clip_frames": 25}, "clip_frames"),
        ({"source_image": png()}, "source_image"),
        ({"total_frames": 26}, "total_frames"),
        ({"total_frames": 17}, "total_frames"),
        ({"total_frames": 0}, "total_frames"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(request_: dict[str, Any], path: str) -> None:
    """The field at fault is the only one named, and the message says so in words."""
    problems = refused(stages=[stage()], **request_)
    assert list(problems) == [path]
    assert path in problems[path]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", "   "),
        ("prompt", "x" * 4097),
        ("negative_prompt", "x" * 4097),
        ("seed_offset", 2**64),
        ("fade_frames", 0),
        ("fade_frames", 33),
        ("source_image", b"no image"),
        ("source_image", png()[:-30]),
        ("model", "another"),
        ("loras", [{"path": "x", "scale": 1.0}]),
        ("references", ["x"]),
    ],
)
def test_a_stage_out_of_range_is_refused_with_its_index(field: str, value: Any) -> None:
    """Also on a stage where the value would have no effect."""
    problems = refused(stages=[stage(), stage(transition=CUT, **{field: value})])
    assert list(problems) == [f"stages[1].{field}"]


def test_reserved_keys_name_the_stage() -> None:
    """The wording of the original, with the index of the stage."""
    assert refused(stages=[stage(model="m")]) == {
        "stages[0].model": "stage 0: `model` is reserved and not yet supported"
    }


def test_all_problems_are_reported_at_once() -> None:
    """Whoever fills in a form sees every field at fault."""
    problems = refused(stages=[stage(26), stage(prompt="")], fps=0, steps=0)
    assert set(problems) >= {"fps", "steps", "stages[0].frames", "stages[1].prompt"}


def test_an_unknown_model_is_not_a_validation_error() -> None:
    """It is answered 404, with what is served."""
    with pytest.raises(UnknownModel, match="tiny-ltx2"):
        run(stages=[stage()], model="sora")
    assert run(stages=[stage()], model="tiny-ltx2").script.chain.model == "tiny-ltx2"


@pytest.mark.parametrize("tail", [16, 18, 8])
def test_a_tail_off_the_grid_is_refused_only_where_a_smooth_join_carries_it(tail: int) -> None:
    """Between cuts K is never used."""
    assert "motion_tail_frames" in refused(stages=[stage(), stage()], motion_tail_frames=tail)
    assert run(stages=[stage(), stage(transition=CUT)], motion_tail_frames=tail).plan.total_frames == 50


@pytest.mark.parametrize(("total", "trim"), [(50, 0), (43, 7)])
def test_a_length_beside_stages_trims_up_to_seven_frames(total: int, trim: int) -> None:
    """L-7 <= T <= L; the echo has total_frames only where it is shorter than the formula."""
    done = run(stages=[stage(), stage(transition=CUT)], total_frames=total)
    assert done.plan.stages[-1].trim == trim
    assert done.script.chain.total_frames == (total if trim else None)


@pytest.mark.parametrize("total", [42, 51])
def test_a_length_the_stages_do_not_make_is_refused(total: int) -> None:
    """Eight frames less are a whole latent frame: the last clip should be shorter instead."""
    assert list(refused(stages=[stage(), stage(transition=CUT)], total_frames=total)) == ["total_frames"]


@pytest.mark.parametrize(
    ("stages", "path", "default"),
    [
        ([stage(9), stage(9, FADE, fade_frames=9)], "stages[1].fade_frames", False),
        ([stage(9), stage(9, FADE), stage(9, FADE)], "stages[2].fade_frames", True),
        ([stage(9), stage(25, FADE, fade_frames=10)], "stages[1].fade_frames", False),
    ],
)
def test_a_fade_that_does_not_fit_is_refused_at_its_field(stages: list[ChainStage], path: str, default: bool) -> None:
    """And the message says when the length was the default."""
    problems = refused(stages=stages)
    assert list(problems) == [path]
    assert ("default" in problems[path]) is default


@pytest.mark.parametrize("format_", ["gif", "apng", "webp"])
def test_formats_without_sound_leave_audio_out_of_the_echo(format_: str) -> None:
    """They carry none, whatever the model can do."""
    assert run(stages=[stage()], output_format=format_).script.chain.enable_audio is None


def test_audio_follows_what_the_model_can_do() -> None:
    """On by default where there is sound; asking a silent model for it is refused."""
    assert run(stages=[stage()]).script.chain.enable_audio is True
    assert run(stages=[stage()], enable_audio=False).script.chain.enable_audio is False
    assert run(ON_GPU, stages=[stage()]).script.chain.enable_audio is False
    assert list(refused(ON_GPU, stages=[stage()], enable_audio=True)) == ["enable_audio"]


@pytest.mark.parametrize(
    ("served", "reference", "accepted"),
    [
        (TINY, {"kind": "auto"}, True),
        (TINY, {"kind": "cpu"}, True),
        (TINY, {"kind": "gpu", "ordinal": 0}, False),
        (ON_GPU, {"kind": "gpu", "ordinal": 1}, True),
        (ON_GPU, {"kind": "gpu", "ordinal": 0}, False),
        (ON_GPU, {"kind": "gpu"}, False),
        (ON_GPU, {"kind": "cpu"}, False),
    ],
)
def test_placement_is_accepted_only_where_it_says_what_is_so(
    served: Capabilities, reference: dict[str, Any], accepted: bool
) -> None:
    """Triton cannot aim a request at an instance."""
    for placement in (
        {"text_encoders": reference},
        {"text_encoders": {"kind": "auto"}, "advanced": {"vae": reference}},
    ):
        raw = {"stages": [{"prompt": "x", "frames": 25}], "placement": placement}
        request = msgspec.convert(raw, ChainRequest)
        if accepted:
            normalise(request, served, lambda: 1)
        else:
            with pytest.raises(Invalid) as caught:
                normalise(request, served, lambda: 1)
            assert caught.value.problems[0].path == "placement"


def test_images_of_all_stages_together_are_limited() -> None:
    """48 MiB, each counted once per stage: the echo carries them all."""
    large = png() + bytes(15 * 2**20)
    assert run(stages=[stage(source_image=large)] * 3).plan.total_frames == 25 + 2 * 8
    assert list(refused(stages=[stage(source_image=large)] * 4)) == ["stages"]
    assert list(refused(stages=[stage(source_image=png() + bytes(16 * 2**20))])) == ["stages[0].source_image"]


def test_a_negative_prompt_without_guidance_is_a_warning() -> None:
    """It has no effect at guidance <= 1, which is no reason to refuse it."""
    paths = [one.path for one in run(stages=[stage(negative_prompt="blur")]).warnings]
    assert paths == ["stages[0].negative_prompt"]
    assert not run(stages=[stage(negative_prompt="blur")], guidance=3.0).warnings


def test_a_picture_of_another_world_is_a_warning_at_its_stage() -> None:
    """At each stage that has it; the message says what the model knows, and what the clip will show."""
    known, foreign = png(), png(colour=(120, 120, 120))
    warnings = run(stages=[stage(source_image=one) for one in (foreign, known, None, foreign)]).warnings
    assert [one.path for one in warnings] == ["stages[0].source_image", "stages[3].source_image"]
    assert "in the colours #db1f1f, #21ad33, #2147e0, #f2d91f, #f5f5f5, #0d0d0d, #9e26c7;" in warnings[0].message
    assert "the nearest scene that it can draw rather than this picture" in warnings[0].message


def test_a_model_without_a_palette_takes_any_picture() -> None:
    """Nothing is said of it."""
    assert not run(ON_GPU, stages=[stage(source_image=png(colour=(120, 120, 120)))]).warnings


def test_an_expanded_request_is_warned_once_where_it_has_its_picture() -> None:
    """Its stages are not the client's."""
    request = {"prompt": "x", "total_frames": 200, "source_image": png(colour=(120, 120, 120))}
    assert [one.path for one in run(**request).warnings] == ["source_image"]


def test_a_picture_is_judged_as_the_model_will_see_it() -> None:
    """What the crop to the clip's shape leaves out does not matter."""
    wide = Image.new("RGB", (300, 100), (120, 120, 120))
    wide.paste(PALETTE["blue"], (100, 0, 200, 100))
    file = io.BytesIO()
    wide.save(file, "PNG")
    assert not run(stages=[stage(source_image=file.getvalue())]).warnings
    assert run(stages=[stage(source_image=file.getvalue())], width=192).warnings


@pytest.mark.parametrize("fade", [None, 4])
def test_a_fade_length_on_a_stage_that_is_no_fade_is_echoed(fade: int | None) -> None:
    """Range-checked, echoed, without effect."""
    done = run(stages=[stage(), stage(transition=CUT, fade_frames=fade)])
    assert done.script.stage[1].fade_frames == fade
    assert done.plan.total_frames == 50


@given(
    total=st.integers(1, 16 * 97),
    clip=st.integers(1, 12).map(lambda k: 8 * k + 1),
    tail=st.sampled_from([0, 1, 9, 17, 33, 65]),
)
def test_auto_expand_delivers_exactly_the_requested_frames(total: int, clip: int, tail: int) -> None:
    """Whatever it accepts is that long, with the fewest stages, and its echo is accepted to the same end."""
    request = {"prompt": "x", "total_frames": total, "clip_frames": clip, "motion_tail_frames": tail}
    if total > clip and (tail >= clip or clip + 15 * (clip - tail) < total):
        assert refused(**request)
        return
    done = run(**request)
    assert done.plan.total_frames == total
    count = len(done.script.stage)
    assert count == (1 if total <= clip else 1 + -(-(total - clip) // (clip - tail)))
    assert all(one.frames == clip for one in done.script.stage[:-1])
    again = normalise(done.script.request(), TINY, lambda: 0)
    assert again.script == done.script
    assert again.plan == done.plan


def test_auto_expand_shortens_the_last_stage_to_what_is_needed() -> None:
    """400 frames: the original renders 469; here the last clip is the shortest that reaches it."""
    done = run(prompt="x", total_frames=400)
    assert [one.frames for one in done.script.stage] == [97, 97, 97, 97, 81]
    assert done.plan.total_frames == 400
    assert done.script.chain.total_frames == 400


def test_auto_expand_gives_every_stage_the_image() -> None:
    """It conditions the first frame, and anchors the later stages softly."""
    done = run(prompt="x", total_frames=150, source_image=png())
    assert [one.source_image == png() for one in done.script.stage] == [True, True]
    assert list(refused(prompt="x", total_frames=150, source_image=b"x")) == ["source_image"]


stages = st.lists(
    st.builds(
        stage,
        frames=st.integers(1, 12).map(lambda k: 8 * k + 1),
        transition=st.sampled_from(Transition),
        fade_frames=st.none() | st.integers(1, 32),
        seed_offset=st.none() | st.integers(0, 2**64 - 1),
    ),
    min_size=1,
    max_size=16,
)


@settings(max_examples=300)
@given(
    stages,
    st.sampled_from([0, 1, 9, 17]),
    st.integers(0, 9),
    st.sampled_from(["mp4", "gif", "apng", "webp"]),
)
def test_every_accepted_request_can_be_stitched_and_echoed(
    stages: list[ChainStage], tail: int, trim: int, format_: str
) -> None:
    """The plan is the formula's length, and the echo, sent again, is the same script and plan."""
    request = {"stages": stages, "motion_tail_frames": tail, "output_format": format_, "seed": 5}
    try:
        full = run(**request)
        done = run(**request, total_frames=full.plan.total_frames - trim) if trim else full
    except Invalid:
        assume(False)
        raise
    assert done.plan.total_frames == sum(one.output_frames for one in done.plan.stages)
    assert plan_of(done.script) == done.plan
    again = normalise(done.script.request(), TINY, lambda: 0)
    assert (again.script, again.plan) == (done.script, done.plan)


@given(st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**64 - 1))
def test_a_stage_seed_is_the_seed_xor_its_offset(seed: int, offset: int | None) -> None:
    """And stays in 64 bits."""
    result = stage_seed(seed, stage(seed_offset=offset))
    assert result == (seed if offset is None else seed ^ offset)
    assert 0 <= result < 2**64
