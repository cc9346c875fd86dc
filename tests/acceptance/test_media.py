"""The delivered files, read by FFmpeg's own program: every frame, every sample, every tag."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.wire import Transition
from longtake_facade.artifacts import VideoFormat
from longtake_facade.backend import Pixels
from longtake_facade.plan import Shot, plan
from longtake_facade.stitch import VideoSpec, assemble
from longtake_stages.geometry import sample_at
from media import (
    HEIGHT,
    WIDTH,
    decoded_planes,
    decoded_rgb,
    decoded_sound,
    describe,
    expected_rgb,
    frame_times,
    make_clip,
    make_video,
    tone,
    write_stage,
)

SMOOTH, CUT, FADE = Transition.SMOOTH, Transition.CUT, Transition.FADE
MIXED = [Shot(25, SMOOTH, 8), Shot(25, SMOOTH, 8), Shot(17, CUT, 8), Shot(17, FADE, 8), Shot(25, FADE, 9)]
LOOPING = ["gif", "apng", "webp"]


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2)))


async def test_an_mp4_of_mixed_joins_is_whole(tmp_path: Path) -> None:
    """All frames at their times, tags of BT.709, the index in front, and the very samples the frames last."""
    timing = plan(MIXED, 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=24000)
    base, frames = frame_times(made.file)
    assert [round(frame.pts * base * 24) for frame in frames] == list(range(timing.total_frames))
    told = describe(made.file)
    assert "h264" in told
    assert "yuv420p(tv, bt709, progressive)" in told
    assert "aac (LC)" in told
    content = made.file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert len(decoded_sound(made.file)) == sample_at(timing.total_frames, 24000, 24)
    assert made.delivery.frames == timing.total_frames
    assert (made.delivery.width, made.delivery.height, made.delivery.fps) == (WIDTH, HEIGHT, 24)
    assert (made.delivery.has_audio, made.delivery.audio_sample_rate, made.delivery.audio_channels) == (True, 24000, 2)
    assert made.progress == [(i + 1, timing.total_frames) for i in range(timing.total_frames)]


async def test_the_frames_of_an_mp4_are_those_that_were_handed_over(tmp_path: Path) -> None:
    """In order and close to the input: planes as they came, the fade by the formula for planes."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, CUT, 8), Shot(17, FADE, 5)], 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"))
    one, two, three = (clip.pixels for clip in made.clips)
    fade = [((5 - i) * two[12 + i].astype(int) + i * three[i].astype(int) + 2) // 5 for i in range(5)]
    expected = np.concatenate([one, two[:12], np.stack(fade), three[5:]])
    decoded = decoded_planes(made.file)
    assert decoded.shape == expected.shape
    for i, (got, wanted) in enumerate(zip(decoded, expected, strict=True)):
        assert psnr(got, wanted) > 35, f"frame {i}"


async def test_the_same_frames_give_the_same_video(tmp_path: Path) -> None:
    """Encoding is deterministic, threads and all: two runs decode to identical frames and sound."""
    timing = plan(MIXED, 9)
    spec = VideoSpec(WIDTH, HEIGHT, 24, "mp4")
    first, second = [await make_video(tmp_path / name, timing, spec, rate=24000) for name in ("one", "two")]
    assert np.array_equal(decoded_planes(first.file), decoded_planes(second.file))
    assert np.array_equal(decoded_sound(first.file), decoded_sound(second.file))


@pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
@pytest.mark.parametrize("fps", [1, 24, 30, 97, 120])
async def test_sound_and_frames_are_exactly_as_long_as_each_other(tmp_path: Path, rate: int, fps: int) -> None:
    """round(frames*rate/fps) samples by FFmpeg's count, and every frame on its time."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(17, SMOOTH, 8), Shot(9, FADE, 3), Shot(9, CUT, 8)], 1, 9 + 16 + 6 + 9 - 2)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, fps, "mp4"), rate=rate)
    base, frames = frame_times(made.file)
    assert [frame.pts * base * fps for frame in frames] == pytest.approx(range(38), abs=0.01)
    assert len(decoded_sound(made.file)) == sample_at(38, rate, fps)


@pytest.mark.parametrize("total", [10, 11])
async def test_pieces_of_one_or_two_frames_are_frames_like_others(tmp_path: Path, total: int) -> None:
    """A stage that adds one or two frames after a fade and a trim, behind a piece with reordered frames."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(9, CUT, 8)], 9, total)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=24000)
    _, frames = frame_times(made.file)
    assert len(frames) == total
    assert len(decoded_sound(made.file)) == total * 1000
    assert len(decoded_planes(made.stages[1] / "stage.mp4")) == total - 9


@pytest.mark.parametrize("rate", [0, 24000])
async def test_a_video_of_one_frame_can_be_made(tmp_path: Path, rate: int) -> None:
    """The shortest there is: everything else of its only clip is trimmed."""
    timing = plan([Shot(9, SMOOTH, 8)], 9, 1)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=rate)
    assert len(decoded_planes(made.file)) == 1
    if rate:
        assert len(decoded_sound(made.file)) == 1000


async def test_a_chain_of_nothing_but_fades_can_be_made(tmp_path: Path) -> None:
    """Stages without a body give no piece of their own, and the video is whole all the same."""
    timing = plan([Shot(9, SMOOTH, 8), Shot(17, FADE, 9), Shot(17, FADE, 8)], 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=24000)
    assert [(folder / "stage.mp4").exists() for folder in made.stages] == [False, False, True]
    assert len(decoded_planes(made.file)) == timing.total_frames
    assert len(decoded_sound(made.file)) == timing.total_frames * 1000


async def test_a_stages_own_video_is_its_part_of_the_timeline_with_sound(tmp_path: Path) -> None:
    """No dropped head, no fade, its own sound, the index in front."""
    timing = plan([Shot(25, SMOOTH, 8), Shot(25, SMOOTH, 8), Shot(17, FADE, 8)], 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=24000)
    for stage, folder in zip(timing.stages, made.stages, strict=True):
        file = folder / "stage.mp4"
        decoded = decoded_planes(file)
        assert len(decoded) == len(stage.body)
        assert psnr(decoded, made.clips[stage.index].pixels[stage.body.start : stage.body.stop]) > 35
        assert len(decoded_sound(file)) == len(stage.body) * 1000
        content = file.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


async def test_the_sound_is_in_time_with_its_stage(tmp_path: Path) -> None:
    """Each stage's tone is heard at its frames: after decoding it correlates best without any shift."""
    timing = plan([Shot(25, SMOOTH, 8), Shot(25, CUT, 8)], 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"), rate=24000)
    heard = decoded_sound(made.file)[:, 0]
    for seed, start in ((0, 2000), (1, 27000)):
        wanted = tone(seed, 25000, 24000)[start % 25000 :][:8000, 0]
        fits = {shift: float(np.dot(heard[start + shift :][:8000], wanted)) for shift in range(-30, 31)}
        assert max(fits, key=fits.__getitem__) == 0


async def test_an_apng_is_lossless_and_its_fades_follow_the_formula(tmp_path: Path) -> None:
    """Smooth, cut and fade: every decoded frame is the expected one to the last bit."""
    timing = plan(MIXED, 9, None)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "apng"))
    assert np.array_equal(decoded_rgb(made.file), expected_rgb(timing, made))


@pytest.mark.parametrize("transition", [CUT, FADE])
async def test_two_stages_as_apng_are_exact(tmp_path: Path, transition: Transition) -> None:
    """[A cut B] and [A fade B], the whole timeline bit by bit."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, transition, 7)], 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "apng"))
    decoded = decoded_rgb(made.file)
    assert len(decoded) == (34 if transition is CUT else 27)
    assert np.array_equal(decoded, expected_rgb(timing, made))


@pytest.mark.parametrize("container", LOOPING)
@pytest.mark.parametrize("fps", [1, 24, 30, 50, 60, 100])
async def test_animated_images_keep_every_frame_and_their_time(
    tmp_path: Path, container: VideoFormat, fps: int
) -> None:
    """As many frames as were handed over, each at its time, as near as the format counts."""
    timing = plan([Shot(17, SMOOTH, 8), Shot(17, FADE, 4)], 9, 27)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, fps, container))
    unit = {"gif": 0.01, "webp": 0.001, "apng": 1 / fps}[container]
    durations = frame_durations(made.file)
    assert len(durations) == made.delivery.frames == 27
    assert sum(durations) == pytest.approx(27 / fps, abs=unit / 2 + 1e-6)
    assert np.cumsum(durations) == pytest.approx([(i + 1) / fps for i in range(27)], abs=unit / 2 + 1e-6)


def frame_durations(file: Path) -> list[float]:
    """Seconds that each frame is shown, as Pillow reads the file."""
    with Image.open(file) as image:
        shown = []
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            image.load()
            shown.append(image.info["duration"] / 1000)
    return shown


@pytest.mark.parametrize("container", LOOPING)
async def test_animated_images_loop_for_ever_and_keep_equal_frames(tmp_path: Path, container: VideoFormat) -> None:
    """A clip that stands still has as many frames as any other, and starts again at its end."""
    timing = plan([Shot(9, SMOOTH, 8)], 9)
    spec = VideoSpec(WIDTH, HEIGHT, 25, container)
    still = make_clip(timing.stages[0], spec)
    still.pixels[:] = still.pixels[0]
    folder = await write_stage(tmp_path / "0", timing.stages[0], spec, still)
    out = tmp_path / "out"
    out.mkdir()
    assemble(timing, [folder], {}, spec, audio=False, out=out, progress=lambda _done, _total: None)
    assert frame_durations(out / f"video.{container}") == pytest.approx([0.04] * 9)
    with Image.open(out / f"video.{container}") as image:
        assert image.info["loop"] == 0


@pytest.mark.parametrize(("container", "least"), [("gif", 26), ("webp", 18)])
async def test_animated_images_look_like_the_frames(tmp_path: Path, container: VideoFormat, least: float) -> None:
    """In order and close to the input (saturated colours, whose chroma WebP halves), over changes of palette too."""
    timing = plan(MIXED, 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 25, container))
    with Image.open(made.file) as image:
        for i, wanted in enumerate(expected_rgb(timing, made)):
            image.seek(i)
            assert psnr(np.asarray(image.convert("RGB")), wanted) > least, f"frame {i}"


async def test_thumbnail_and_preview_show_the_video(tmp_path: Path) -> None:
    """The thumbnail is the first frame at full size; the preview a small GIF that loops."""
    timing = plan(MIXED, 9)
    made = await make_video(tmp_path, timing, VideoSpec(WIDTH, HEIGHT, 24, "mp4"))
    with Image.open(made.folder / "thumbnail.png") as image:
        assert image.size == (WIDTH, HEIGHT)
        assert psnr(np.asarray(image), made.clips[0].rgb[0]) > 28
    with Image.open(made.folder / "preview.gif") as image:
        assert image.info["loop"] == 0
        assert 5 < getattr(image, "n_frames", 1) <= 40
    assert sorted(path.name for path in made.folder.iterdir()) == ["preview.gif", "thumbnail.png", "video.mp4"]
