"""Keys and conditions of a stage, and the calls that render it."""

import copy
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from chains import chain, stage
from longtake.wire import ChainRequest, ChainScript, ScriptChain, ScriptStage, Transition
from longtake_facade.artifacts import TAIL, VideoSpec
from longtake_facade.backend import BackendError, Chunk, ClipEnd, ClipJob, Latents, ModelFailed, Pixels, Step
from longtake_facade.memory import MemoryBackend, clip_frames, context_of, latents_of
from longtake_facade.normalise import normalise, plan_of
from longtake_facade.render import (
    artifacts_key,
    clip_job,
    clip_key,
    conditions,
    fade_key,
    load_tail,
    render_stage,
)
from longtake_facade.stitch import StageWriter
from served import TINY

IMAGE = bytes(32)
"""A digest, which is what the scripts of the database have in place of an image."""


def script_of(request: ChainRequest) -> ChainScript:
    """The normalised script."""
    return normalise(request, TINY, draw_seed=lambda: 77).script


def two(**settings: Any) -> ChainScript:
    """A smooth join; the first stage has an image."""
    script = script_of(chain(stage("a", 17, negative_prompt="n", seed_offset=5), stage("b", 25), **settings))
    script.stage[0].source_image = IMAGE
    return script


def key(script: ChainScript, index: int = 0, before: str | None = None, **served: Any) -> str:
    return clip_key(script, index, msgspec.structs.replace(TINY, **served), before)


# --------------------------------------------------------------------------------------------------------- the keys

# Every field of a script, and another value for it. A new field has to be put into one of the two.
DETERMINE_THE_CLIP: dict[str, Any] = {
    "chain.width": 96,
    "chain.height": 96,
    "chain.fps": 25,
    "chain.seed": 4,
    "chain.steps": 3,
    "chain.guidance": 2.0,
    "chain.strength": 0.5,
    "stage.prompt": "other",
    "stage.frames": 33,
    "stage.negative_prompt": "other",
    "stage.seed_offset": 6,
    "stage.source_image": bytes([1]) * 32,
}
DO_NOT: dict[str, Any] = {
    "chain.model": "renamed",
    "chain.motion_tail_frames": 1,
    "chain.output_format": "apng",
    "chain.enable_audio": False,
    "chain.total_frames": 31,
    "stage.transition": Transition.CUT,
    "stage.fade_frames": 3,
    "stage.loras": [],
    "stage.references": [],
    "stage.model": None,
}


def changed(script: ChainScript, name: str, value: Any, index: int = 0) -> ChainScript:
    """A copy with one field set."""
    other = copy.deepcopy(script)
    part, _, field = name.partition(".")
    setattr(other.chain if part == "chain" else other.stage[index], field, value)
    return other


def test_every_field_of_a_script_is_known_to_matter_or_not() -> None:
    """To the key of a clip that continues nothing."""
    fields = {f"chain.{name}" for name in ScriptChain.__struct_fields__}
    fields |= {f"stage.{name}" for name in ScriptStage.__struct_fields__}
    assert fields == DETERMINE_THE_CLIP.keys() | DO_NOT.keys()


@pytest.mark.parametrize("name", DETERMINE_THE_CLIP)
def test_what_determines_a_clip_changes_its_key(name: str) -> None:
    """Each of these gives another clip."""
    script = two()
    assert key(changed(script, name, DETERMINE_THE_CLIP[name])) != key(script)


@pytest.mark.parametrize("name", DO_NOT)
def test_what_does_not_determine_a_clip_leaves_its_key(name: str) -> None:
    """So that the clip is found again."""
    script = two()
    assert key(changed(script, name, DO_NOT[name])) == key(script)


def test_another_checkpoint_gives_other_keys_and_another_name_does_not() -> None:
    """The digest of the weights counts."""
    script = two()
    assert key(script, checkpoint_digest="1" * 64) != key(script)
    assert key(script, model="other", description="other") == key(script)


def test_only_the_stage_itself_counts_and_not_its_place() -> None:
    """A stage that continues nothing is found again wherever it stands, and whatever stands beside it."""
    script = two()
    assert key(changed(script, "stage.prompt", "other", index=1)) == key(script)
    first = script_of(chain(stage("x"), stage("y")))
    second = script_of(chain(stage("w"), stage("x", 17, Transition.CUT)))
    assert key(first, 0) == key(second, 1)


def test_seed_and_offset_count_by_what_they_give() -> None:
    """The stage's seed is one XOR the other."""
    script = two()
    same = changed(changed(script, "chain.seed", 5), "stage.seed_offset", 3)
    assert key(same) == key(script)
    assert key(changed(script, "stage.seed_offset", 0)) == key(changed(script, "stage.seed_offset", None))


def test_strength_matters_only_where_there_is_an_image() -> None:
    """And only for the first stage."""
    plain = changed(two(), "stage.source_image", None)
    assert key(changed(plain, "chain.strength", 0.5)) == key(plain)
    later = changed(two(), "stage.source_image", IMAGE, index=1)
    assert key(changed(later, "chain.strength", 0.5), 1, "b" * 64) == key(later, 1, "b" * 64)


def test_across_a_smooth_join_the_stage_before_and_k_count() -> None:
    """The chain of keys: a change in the first stage changes all that continue it."""
    script = two()
    keys = {key(script, 1), key(script, 1, "a" * 64), key(script, 1, "b" * 64)}
    assert len(keys) == 3
    assert key(changed(script, "chain.motion_tail_frames", 1), 1, "a" * 64) != key(script, 1, "a" * 64)


SPEC = VideoSpec(64, 64, 24, "mp4")


def test_what_is_kept_of_a_clip_follows_its_place_in_the_plan() -> None:
    """The same clip cut otherwise, in another format, with or without sound, is another set of files."""
    cut = plan_of(script_of(chain(stage("a"), stage("b", 17, Transition.CUT)))).stages[0]
    faded = plan_of(script_of(chain(stage("a"), stage("b", 17, Transition.FADE)))).stages[0]
    smooth = plan_of(script_of(chain(stage("a"), stage("b")))).stages[0]
    trimmed = plan_of(script_of(chain(stage("a"), total_frames=16))).stages[0]
    keys = [artifacts_key("c", plan, SPEC, audio=True) for plan in (cut, faded, smooth, trimmed)]
    keys.append(artifacts_key("c", cut, SPEC, audio=False))
    keys.append(artifacts_key("c", cut, VideoSpec(64, 64, 24, "apng"), audio=True))
    keys.append(artifacts_key("d", cut, SPEC, audio=True))
    assert len(set(keys)) == len(keys)
    alone = plan_of(script_of(chain(stage("a")))).stages[0]
    assert artifacts_key("c", alone, SPEC, audio=True) == keys[0]


def test_a_fade_is_of_two_sides_in_their_order() -> None:
    """It is no stage's key either."""
    assert len({fade_key("a", "b"), fade_key("b", "a"), fade_key("a", "a"), "a", "b"}) == 5


# --------------------------------------------------------------------------------------------------- the conditions

TAIL_FRAMES: Pixels = np.full((9, 64, 64, 3), 7, np.uint8)
PICTURE: Pixels = np.full((1, 64, 64, 3), 9, np.uint8)


def places(index: int, request: ChainRequest, *, tail: bool, image: bool) -> list[tuple[int, int, float]]:
    """Frame, number of frames and strength of every condition."""
    found = conditions(script_of(request), index, TAIL_FRAMES if tail else None, PICTURE if image else None)
    return [(one.frame, len(one.frames), one.strength) for one in found]


def test_a_stage_without_a_tail_or_an_image_has_no_conditions() -> None:
    """It is free."""
    assert places(0, chain(stage("a")), tail=False, image=False) == []


def test_the_first_stage_s_image_is_its_first_frame_at_the_chain_s_strength() -> None:
    """The only one the strength applies to."""
    assert places(0, chain(stage("a"), strength=0.7), tail=False, image=True) == [(0, 1, 0.7)]


@pytest.mark.parametrize("transition", [Transition.CUT, Transition.FADE])
def test_after_a_cut_or_a_fade_an_image_is_the_first_frame(transition: Transition) -> None:
    """At full strength."""
    request = chain(stage("a"), stage("b", 17, transition), strength=0.7)
    assert places(1, request, tail=False, image=True) == [(0, 1, 1.0)]


def test_a_smooth_stage_begins_with_the_tail_and_its_image_is_a_soft_anchor_after_it() -> None:
    """The tail at full strength from frame 0, the image at frame K."""
    request = chain(stage("a"), stage("b"), strength=0.7)
    assert places(1, request, tail=True, image=False) == [(0, 9, 1.0)]
    assert places(1, request, tail=True, image=True) == [(0, 9, 1.0), (9, 1, 0.4)]


def test_without_a_tail_a_smooth_stage_s_image_is_a_soft_anchor_at_its_beginning() -> None:
    """K = 0 carries nothing."""
    request = chain(stage("a"), stage("b"), motion_tail_frames=0)
    assert places(1, request, tail=False, image=True) == [(0, 1, 0.4)]


# ------------------------------------------------------------------------------------------------------ the rendering


def job_of(script: ChainScript, index: int, spec: VideoSpec = SPEC) -> ClipJob:
    return clip_job(script, plan_of(script).stages[index], spec, ())


def test_a_job_says_what_the_script_says() -> None:
    """Seed and offset combined, the tail for the stage after, the pixel format of the video."""
    job = job_of(two(enable_audio=False), 0)
    assert job == ClipJob("a", "n", 64, 64, 17, 24, 3 ^ 5, 2, 1.0, "yuv420p", tail_frames=9)
    last = job_of(two(), 1, VideoSpec(64, 64, 24, "gif"))
    assert (last.tail_frames, last.pixel_format, last.negative_prompt, last.audio) == (0, "rgb24", "", True)


class Told:
    """What a rendering tells."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def started(self) -> None:
        self.heard.append("start")

    async def stepped(self, step: Step) -> None:
        self.heard.append(f"{step.step}/{step.total}")


async def render(folder: Path, backend: MemoryBackend) -> Told:
    script, told = two(), Told()
    plan = plan_of(script).stages[0]
    writer = StageWriter(folder, plan, SPEC)
    await render_stage(backend, job_of(script, 0), writer, started=told.started, stepped=told.stepped)
    return told


async def test_a_stage_is_three_calls_and_leaves_its_files(tmp_path: Path) -> None:
    """Its start is told when the prompt is encoded, then every step; the tail is there for the stage after."""
    told = await render(tmp_path, MemoryBackend(TINY))
    assert told.heard == ["start", "1/2", "2/2"]
    job = job_of(two(), 0)
    clip = clip_frames(job, latents_of(job, context_of("a", "n")))
    np.testing.assert_array_equal(load_tail(tmp_path), clip[-9:])


class Silent(MemoryBackend):
    """One of its models ends without its last response."""

    def __init__(self, model: str) -> None:
        super().__init__(TINY)
        self.model = model

    async def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        async for response in super().denoise(job, context):
            if not (self.model == "denoiser" and isinstance(response, Latents)):
                yield response

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        async for response in super().decode(job, latents):
            if not (self.model == "decoder" and isinstance(response, ClipEnd)):
                yield response


@pytest.mark.parametrize("model", ["denoiser", "decoder"])
async def test_a_model_that_ends_too_early_failed(tmp_path: Path, model: str) -> None:
    """It is named, and the writer is closed."""
    with pytest.raises(ModelFailed, match=f"the {model} ended without"):
        await render(tmp_path, Silent(model))
    assert not (tmp_path / TAIL).exists()


async def test_what_a_model_raises_is_passed_on(tmp_path: Path) -> None:
    """As it is: the recipe makes the chain's error of it."""
    backend = MemoryBackend(TINY)
    backend.failures["a"] = ModelFailed("broke")
    with pytest.raises(BackendError, match="broke"):
        await render(tmp_path, backend)
