"""Made-up clips, and FFmpeg's own program as a reader that is not ours."""

import asyncio
import re
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from longtake_facade.backend import ClipEnd, Pixels, Waveform
from longtake_facade.plan import Plan, StagePlan
from longtake_facade.stitch import Delivery, StageWriter, VideoSpec, assemble, encode_fade

WIDTH, HEIGHT = 96, 64


def rgb_clip(seed: int, frames: int, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """A textured picture in motion, uint8 RGB ``[frames, height, width, 3]``; its colours depend on the seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(20, 236, (height // 8 + 2, (width + frames) // 8 + 2, 3), dtype=np.uint8)
    wide = coarse.repeat(8, 0).repeat(8, 1)
    return np.stack([wide[4 : height + 4, i : i + width] for i in range(frames)])


def to_planes(rgb: Pixels) -> Pixels:
    """RGB frames as yuv420p ``[n, h*3/2, w, 1]``, BT.709 limited, by FFmpeg's scaler."""
    frames = [
        av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        for frame in rgb
    ]
    return np.stack([frame.to_ndarray()[:, :, None] for frame in frames])


def tone(seed: int, samples: int, rate: int, channels: int = 2) -> Waveform:
    """A sine of its own pitch."""
    angle = np.arange(samples, dtype=np.float64)[:, None] / rate * 2 * np.pi * (220 + 55 * seed)
    return np.asarray(np.sin(angle) / 2, np.float32).repeat(channels, axis=1)


@dataclass(frozen=True)
class Clip:
    """What a decoder would give for one stage."""

    rgb: Pixels
    pixels: Pixels
    """In the spec's pixel format."""
    waveform: Waveform | None
    sample_rate: int

    def end(self, tail: int) -> ClipEnd:
        """The end of the clip, with its last ``tail`` frames."""
        return ClipEnd(self.rgb[len(self.rgb) - tail :], self.waveform, self.sample_rate)


def make_clip(stage: StagePlan, spec: VideoSpec, rate: int = 0) -> Clip:
    """A clip of the stage's length; with a ``rate`` it has sound, 40 ms shorter than its frames."""
    rgb = rgb_clip(stage.index, stage.frames, spec.width, spec.height)
    pixels = to_planes(rgb) if spec.pixel_format == "yuv420p" else rgb
    waveform = tone(stage.index, max(0, int((stage.frames / spec.fps - 0.04) * rate)), rate) if rate else None
    return Clip(rgb, pixels, waveform, rate)


async def write_stage(folder: Path, stage: StagePlan, spec: VideoSpec, clip: Clip, chunk: int = 7) -> Path:
    """The artifacts of one stage in a new folder."""
    await asyncio.to_thread(folder.mkdir, parents=True)
    writer = StageWriter(folder, stage, spec)
    try:
        for start in range(0, len(clip.pixels), chunk):
            await writer.push(clip.pixels[start : start + chunk])
        await writer.finish(clip.end(stage.tail))
    finally:
        await writer.abort()
    return folder


@dataclass(frozen=True)
class Made:
    """A stitched video and what it was made of."""

    file: Path
    folder: Path
    stages: list[Path]
    fades: dict[int, Path]
    clips: list[Clip]
    delivery: Delivery
    progress: list[tuple[int, int]]


async def make_video(root: Path, timing: Plan, spec: VideoSpec, rate: int = 0) -> Made:
    """Clips, stages, fades and the video, as a chain would make them."""
    clips = [make_clip(stage, spec, rate) for stage in timing.stages]
    stages = [await write_stage(root / f"{s.index}", s, spec, clips[s.index]) for s in timing.stages]
    fades = {stage.index: root / f"fade-{stage.index}" for stage in timing.stages if stage.fade_in}
    for index, folder in fades.items():
        folder.mkdir()
        encode_fade(stages[index - 1], stages[index], folder, timing, index, spec)
    out = root / "out"
    out.mkdir()
    progress: list[tuple[int, int]] = []
    delivery = assemble(
        timing,
        stages,
        fades,
        spec,
        audio=bool(rate),
        out=out,
        progress=lambda done, total: progress.append((done, total)),
    )
    return Made(out / f"video.{spec.format}", out, stages, fades, clips, delivery, progress)


def expected_rgb(timing: Plan, made: Made) -> Pixels:
    """The video's frames by the formula of the contract, in plain integers; for the lossless formats."""
    frames: list[Pixels] = []
    for stage in timing.stages:
        clip = made.clips[stage.index].rgb.astype(np.int64)
        n = stage.fade_in
        if n:
            before = made.clips[stage.index - 1].rgb.astype(np.int64)
            held = len(before) - n
            after = clip[stage.drop :]
            frames.extend((((n - i) * before[held + i] + i * after[i]) // n).astype(np.uint8) for i in range(n))
        frames.extend(made.clips[stage.index].rgb[i] for i in stage.body)
    return np.stack(frames)


@lru_cache
def ffmpeg() -> str:
    """FFmpeg's own program."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def run(*arguments: str | Path) -> bytes:
    """FFmpeg's standard output; any complaint of it fails the test."""
    done = subprocess.run([ffmpeg(), "-v", "error", *arguments], capture_output=True, check=True)
    assert not done.stderr, done.stderr.decode()
    return done.stdout


def describe(file: Path) -> str:
    """What ``ffmpeg -i`` says of a file."""
    done = subprocess.run([ffmpeg(), "-hide_banner", "-i", file], capture_output=True, text=True, check=False)
    return done.stderr


@dataclass(frozen=True)
class Packet:
    """A row of FFmpeg's framecrc: times in units of the stream's time base."""

    dts: int
    pts: int
    duration: int


def frame_times(file: Path) -> tuple[float, list[Packet]]:
    """The time base in seconds, and the times of the decoded video frames as they are in the file."""
    text = run("-i", file, "-map", "0:v", "-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-")
    lines = text.decode().splitlines()
    (base,) = (line for line in lines if line.startswith("#tb 0"))
    numerator, denominator = re.findall(r"\d+", base.split(":")[1])
    rows = [[int(field) for field in line.split(",")[1:4]] for line in lines if not line.startswith("#")]
    return int(numerator) / int(denominator), [Packet(*row) for row in rows]


def decoded_rgb(file: Path, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """The decoded frames, RGB ``[n, height, width, 3]``."""
    raw = run("-i", file, "-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def decoded_planes(file: Path, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """The decoded frames as yuv420p, ``[n, h*3/2, w, 1]``."""
    raw = run("-i", file, "-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height * 3 // 2, width, 1)


def decoded_sound(file: Path, channels: int = 2) -> Waveform:
    """The decoded samples, float32 ``[n, channels]``, at the file's own rate."""
    raw = run("-i", file, "-map", "0:a", "-f", "f32le", "-")
    return np.frombuffer(raw, np.float32).reshape(-1, channels)
