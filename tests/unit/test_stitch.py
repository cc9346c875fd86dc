"""Stages as their frames arrive, fades, and what goes wrong with either."""

import asyncio
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest

from longtake.wire import Transition
from longtake_facade.artifacts import FADE_IN, FADE_OUT, STAGE_VIDEO, TAIL, WAVEFORM, stored_frames
from longtake_facade.backend import ClipEnd, Pixels, Waveform
from longtake_facade.measures import MEASURES, Measures
from longtake_facade.pixels import colour_shift, frame_jump
from longtake_facade.plan import Plan, Shot, StagePlan, plan
from longtake_facade.stitch import Delivery, EncodeError, StageWriter, VideoSpec, assemble, encode_fade, fade_middle
from media import make_clip, make_video, rgb_clip, to_planes, tone, write_stage

SMOOTH, CUT, FADE = Transition.SMOOTH, Transition.CUT, Transition.FADE
MP4 = VideoSpec(64, 32, 24, "mp4")
APNG = VideoSpec(64, 32, 24, "apng")
THREE = plan([Shot(17, SMOOTH, 8), Shot(17, SMOOTH, 8), Shot(17, FADE, 5)], 9)


def lone(frames: int = 9) -> StagePlan:
    """The only stage of a video."""
    return plan([Shot(frames, SMOOTH, 8)], 9).stages[0]


def silent(rgb: Pixels, tail: int = 0) -> ClipEnd:
    """The end of a clip without sound."""
    return ClipEnd(rgb[len(rgb) - tail :], None, 0)


def encoders() -> list[str]:
    """Threads that encode."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("encode-stage")]


async def test_a_stages_folder_holds_what_its_plan_asks_for(tmp_path: Path) -> None:
    """Edges of a fade raw, the tail in RGB, the waveform as it was delivered, and nothing half made."""
    clips = [make_clip(stage, MP4, rate=24000) for stage in THREE.stages]
    folders = [await write_stage(tmp_path / str(i), stage, MP4, clips[i]) for i, stage in enumerate(THREE.stages)]
    names = [{path.name for path in folder.iterdir()} for folder in folders]
    always = {STAGE_VIDEO, TAIL, WAVEFORM, MEASURES}
    assert names == [always, always | {FADE_OUT}, always | {FADE_IN}]
    assert np.array_equal(np.load(folders[0] / TAIL), clips[0].rgb[-9:])
    assert np.load(folders[1] / TAIL).shape == (0, 32, 64, 3)
    assert np.array_equal(np.load(folders[1] / FADE_OUT), clips[1].pixels[-5:])
    assert np.array_equal(list(stored_frames(folders[2] / FADE_IN, MP4.frame_shape)), clips[2].pixels[:5])
    assert clips[2].waveform is not None
    assert np.array_equal(np.load(folders[2] / WAVEFORM), clips[2].waveform)
    assert encoders() == []


@pytest.mark.parametrize("chunk", [1, 4, 17])
async def test_the_size_of_chunks_makes_no_difference(tmp_path: Path, chunk: int) -> None:
    """The same frames give the same artifacts, however they are handed over."""
    clip = make_clip(lone(17), MP4, rate=24000)
    whole = await write_stage(tmp_path / "whole", lone(17), MP4, clip, chunk=100)
    parts = await write_stage(tmp_path / "parts", lone(17), MP4, clip, chunk=chunk)
    assert (whole / STAGE_VIDEO).read_bytes() == (parts / STAGE_VIDEO).read_bytes()


@pytest.mark.parametrize("given", [0, 8, 10])
async def test_a_clip_of_another_length_than_planned_is_refused(tmp_path: Path, given: int) -> None:
    """Too few frames and too many both name the stage."""
    writer = StageWriter(tmp_path, lone(), MP4)
    frames = to_planes(rgb_clip(0, given, 64, 32)) if given else np.zeros((0, 48, 64, 1), np.uint8)
    await writer.push(frames)
    with pytest.raises(EncodeError, match="stage 0 gave"):
        await writer.finish(silent(np.zeros((0, 32, 64, 3), np.uint8)))
    await writer.abort()
    assert encoders() == []


async def test_frames_of_another_shape_are_refused_at_once(tmp_path: Path) -> None:
    """RGB where planes are expected does not reach the encoder."""
    writer = StageWriter(tmp_path, lone(), MP4)
    with pytest.raises(EncodeError, match="stage 0 gave frames of"):
        await writer.push(rgb_clip(0, 9, 64, 32))
    await writer.abort()


async def test_a_tail_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """The stage after could not be conditioned on it."""
    clip = make_clip(THREE.stages[0], MP4)
    writer = StageWriter(tmp_path, THREE.stages[0], MP4)
    await writer.push(clip.pixels)
    with pytest.raises(EncodeError, match="stage 0 gave a tail of 8 frames instead of 9"):
        await writer.finish(clip.end(8))
    await writer.abort()


@pytest.mark.parametrize(
    ("waveform", "rate", "said"),
    [
        (np.full((9000, 2), np.nan, np.float32), 24000, "finite"),
        (np.zeros((9000, 2), np.float32), 23999, "AAC does not take 23999"),
        (np.zeros((9000, 6), np.float32), 24000, "6 channels"),
    ],
)
async def test_sound_that_cannot_be_encoded_is_refused(
    tmp_path: Path, waveform: Waveform, rate: int, said: str
) -> None:
    """Values that are no numbers, and rates and channels that AAC does not have."""
    clip = make_clip(lone(), MP4)
    writer = StageWriter(tmp_path, lone(), MP4)
    await writer.push(clip.pixels)
    with pytest.raises(EncodeError, match=said):
        await writer.finish(ClipEnd(clip.rgb[:0], waveform, rate))
    await writer.abort()


async def test_an_aborted_stage_stops_its_thread_at_any_point(tmp_path: Path) -> None:
    """Before the first frame, in the middle and twice; afterwards no thread is left."""
    for name, chunks in (("none", 0), ("some", 1)):
        folder = tmp_path / name
        await asyncio.to_thread(folder.mkdir)
        writer = StageWriter(folder, lone(17), MP4)
        for _ in range(chunks):
            await writer.push(to_planes(rgb_clip(0, 5, 64, 32)))
        await writer.abort()
        await writer.abort()
    await asyncio.sleep(0)
    assert encoders() == []


async def test_a_push_waits_while_the_worker_is_behind(tmp_path: Path) -> None:
    """One chunk is in work; the next is handed over, and the one after waits without blocking the loop."""
    stage = lone(97)
    writer = StageWriter(tmp_path, stage, VideoSpec(256, 256, 24, "mp4"))
    frames = to_planes(rgb_clip(0, 97, 256, 256))
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.001)
            beats += 1

    heart = asyncio.create_task(beat())
    for start in range(0, 97, 32):
        await writer.push(frames[start : start + 32])
    heart.cancel()
    assert beats > 5
    await writer.finish(silent(np.zeros((0, 256, 256, 3), np.uint8)))
    await writer.abort()


async def test_a_push_that_waits_learns_that_the_worker_failed(tmp_path: Path) -> None:
    """It does not wait for ever for room that will not come."""
    writer = StageWriter(tmp_path, lone(9), MP4)
    await writer.push(np.zeros((12, *MP4.frame_shape), np.uint8))
    with pytest.raises(EncodeError, match="more than its 9 frames"):
        await writer.push(np.zeros((1, *MP4.frame_shape), np.uint8))
    with pytest.raises(EncodeError, match="more than its 9 frames"):
        await writer.finish(silent(np.zeros((0, 32, 64, 3), np.uint8)))
    await writer.abort()


async def test_an_error_says_what_and_not_where(tmp_path: Path) -> None:
    """Messages reach users, so they carry no path."""
    writer = StageWriter(tmp_path / "no folder", lone(), MP4)
    await writer.push(np.zeros((9, *MP4.frame_shape), np.uint8))
    with pytest.raises(EncodeError) as caught:
        await writer.finish(silent(np.zeros((0, 32, 64, 3), np.uint8)))
    await writer.abort()
    assert str(tmp_path) not in str(caught.value)
    assert "No such file" in str(caught.value)


async def test_joins_are_measured_on_the_frames_at_the_boundary(tmp_path: Path) -> None:
    """Cut and smooth: last frame before and first after; a fade: the two at its middle; inner: within the later."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, SMOOTH, 8), Shot(17, CUT, 8), Shot(17, FADE, 4)], 9)
    made = await make_video(tmp_path, timing, APNG)
    rgb = [clip.rgb for clip in made.clips]
    middle = [((4 - i) * rgb[2][13 + i].astype(int) + i * rgb[3][i].astype(int)) // 4 for i in (1, 2)]
    sides = [(rgb[0][16], rgb[1][9]), (rgb[1][16], rgb[2][0]), (middle[0], middle[1])]
    for join, stage, (before, after) in zip(made.delivery.joins, timing.stages[1:], sides, strict=True):
        shown = rgb[stage.index][stage.drop :]
        inner = np.mean([frame_jump(a, b) for a, b in itertools.pairwise(shown)])
        assert (join.stage_idx, join.transition) == (stage.index, stage.transition)
        assert join.frame_jump == pytest.approx(frame_jump(before, after), abs=1e-3)
        assert join.colour_shift == pytest.approx(colour_shift(before, after), abs=1e-3)
        assert join.inner_jump == pytest.approx(inner, abs=1e-3)


async def test_a_smooth_join_that_repeats_the_motion_is_no_larger_than_the_motion(tmp_path: Path) -> None:
    """The report of planes: one moving picture over both stages has a jump like those inside the clip."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, SMOOTH, 8)], 9)
    rgb = rgb_clip(3, 25, 64, 32)
    planes = to_planes(rgb)
    folders = []
    for stage, start in zip(timing.stages, (0, 8), strict=True):
        folder = tmp_path / str(stage.index)
        await asyncio.to_thread(folder.mkdir)
        writer = StageWriter(folder, stage, MP4)
        await writer.push(planes[start : start + 17])
        await writer.finish(silent(rgb[start : start + 17], stage.tail))
        await writer.abort()
        folders.append(folder)
    await asyncio.to_thread((tmp_path / "out").mkdir)
    (join,) = finished(timing, folders, MP4, tmp_path / "out").joins
    assert join.frame_jump == pytest.approx(join.inner_jump, rel=0.2)


def finished(timing: Plan, folders: list[Path], spec: VideoSpec, out: Path) -> Delivery:
    """Assemble without sound and fades."""
    return assemble(timing, folders, {}, spec, audio=False, out=out, progress=lambda _done, _total: None)


@pytest.mark.parametrize("n", range(1, 33))
def test_the_middle_of_a_fade_has_a_frame_on_either_side(n: int) -> None:
    """A fade of one frame has its later side behind it."""
    assert 1 <= fade_middle(n) <= n
    assert fade_middle(n) == n // 2 + n % 2


@pytest.mark.parametrize("spec", [MP4, APNG])
@pytest.mark.parametrize("name", ["piece", MEASURES, FADE_OUT, FADE_IN])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "rubbish"])
async def test_damaged_artifacts_are_errors_that_name_the_file(
    tmp_path: Path, spec: VideoSpec, name: str, damage: str
) -> None:
    """A store that lost or spoiled a file gives an EncodeError, no video, and nothing half made."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, FADE, 4)], 9)
    stages = [
        await write_stage(tmp_path / str(stage.index), stage, spec, make_clip(stage, spec)) for stage in timing.stages
    ]
    folder = stages[1] if name == FADE_IN else stages[0]
    spoil(folder / (spec.piece if name == "piece" else name), damage)
    fade, out = tmp_path / "fade", tmp_path / "out"
    fade.mkdir()
    out.mkdir()

    def stitch() -> None:
        encode_fade(stages[0], stages[1], fade, timing, 1, spec)
        assemble(timing, stages, {1: fade}, spec, audio=False, out=out, progress=lambda _done, _total: None)

    with pytest.raises(EncodeError) as caught:
        stitch()
    assert str(tmp_path) not in str(caught.value)
    assert (spec.piece if name == "piece" else name) in str(caught.value)
    assert list(out.iterdir()) == []


def spoil(file: Path, damage: str) -> None:
    """Damage a file in one of four ways."""
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "rubbish": b"\x07" * len(content)}[damage])


async def test_pieces_of_different_sizes_do_not_become_one_video(tmp_path: Path) -> None:
    """A stage that was encoded for another video is refused."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 9)
    other = VideoSpec(96, 64, 24, "mp4")
    one = await write_stage(tmp_path / "0", timing.stages[0], MP4, make_clip(timing.stages[0], MP4))
    two = await write_stage(tmp_path / "1", timing.stages[1], other, make_clip(timing.stages[1], other))
    await asyncio.to_thread((tmp_path / "out").mkdir)
    with pytest.raises(EncodeError, match="other parameters"):
        finished(timing, [one, two], MP4, tmp_path / "out")


async def test_stages_with_sounds_that_differ_do_not_become_one_video(tmp_path: Path) -> None:
    """One track has one sample rate."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 9)
    folders = [
        await write_stage(tmp_path / str(stage.index), stage, MP4, make_clip(stage, MP4, rate=rate))
        for stage, rate in zip(timing.stages, (24000, 48000), strict=True)
    ]
    await asyncio.to_thread((tmp_path / "out").mkdir)
    with pytest.raises(EncodeError, match="sample rate"):
        assemble(timing, folders, {}, MP4, audio=True, out=tmp_path / "out", progress=lambda _done, _total: None)


async def test_a_stage_without_sound_is_silent_among_others(tmp_path: Path) -> None:
    """The video has sound where any stage has; the others add silence, not less time."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 9)
    folders = [
        await write_stage(tmp_path / str(stage.index), stage, MP4, make_clip(stage, MP4, rate=rate))
        for stage, rate in zip(timing.stages, (24000, 0), strict=True)
    ]
    await asyncio.to_thread((tmp_path / "out").mkdir)
    made = assemble(timing, folders, {}, MP4, audio=True, out=tmp_path / "out", progress=lambda _done, _total: None)
    assert (made.has_audio, made.audio_channels) == (True, 2)


async def test_measures_survive_the_store(tmp_path: Path) -> None:
    """What is written is what is read."""
    folder = await write_stage(tmp_path / "0", lone(), MP4, make_clip(lone(), MP4, rate=24000))
    measured = Measures.load(folder)
    assert (measured.frames, measured.sample_rate) == (9, 24000)
    assert measured.joint_at == (0, 8)
    assert measured.preview_at == (0, 6)
    assert tone(0, 10, 24000).shape == (10, 2)
