"""How much memory stitching takes: 16 stages of 97 frames at 1216x704, two takes side by side, with sound.

All frames at once would be 4 GB of RGB. A fresh process makes the frames as a decoder would, hands them over in
chunks and assembles the video; a thread of it reads the resident memory, and what it was before the first frame is
taken off.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from longtake.wire import Transition
from longtake_facade.backend import ClipEnd, Pixels
from longtake_facade.plan import Plan, Shot, StagePlan, plan
from longtake_facade.serve import limit_arenas
from longtake_facade.stitch import StageWriter, VideoSpec, assemble, encode_fade

STAGES, FRAMES, TAIL, FADE = 16, 97, 17, 8
SPEC = VideoSpec(width=1216, height=704, fps=24, format="mp4")
CHUNK = 8
RATE = 24_000
GOAL_MB = 400
JOINS = (Transition.SMOOTH, Transition.SMOOTH, Transition.CUT, Transition.SMOOTH, Transition.FADE)


def measure() -> list[dict[str, Any]]:
    """One row: the peak of resident memory over idle, in MB."""
    done = subprocess.run([sys.executable, __file__, "--child"], check=True, capture_output=True, text=True)
    return [
        {
            "name": f"stitching {STAGES} stages of {FRAMES} frames at {SPEC.width}x{SPEC.height}: memory over idle",
            "value": json.loads(done.stdout)["mb"],
            "unit": "MB",
            "goal": GOAL_MB,
            "better": "lower",
        }
    ]


def timeline() -> Plan:
    """Smooth, cut and fade joins in turn."""
    return plan([Shot(FRAMES, JOINS[i % len(JOINS)], FADE) for i in range(STAGES)], TAIL)


class Peak:
    """Resident memory of this process, read 200 times a second by a thread."""

    def __init__(self) -> None:
        self.idle = self.highest = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """MB over idle."""
        self._stop.set()
        self._thread.join()
        return round((self.highest - self.idle) / 1e6, 1)

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.highest = max(self.highest, self._now())

    @staticmethod
    def _now() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096


def chunks(seed: int) -> Iterator[Pixels]:
    """A clip as a decoder gives it, yuv420p: a textured picture that moves, with grain."""
    random = np.random.default_rng(seed)
    height, width = SPEC.height, SPEC.width
    coarse = random.integers(30, 220, (height // 32 + 2, (width + FRAMES * 2) // 32 + 2), dtype=np.uint8)
    wide = coarse.repeat(32, 0).repeat(32, 1)
    grain = random.integers(0, 8, wide.shape, dtype=np.uint8)
    wide += grain
    colours = random.integers(100, 156, (height // 2, width), dtype=np.uint8) // 16 * 16
    for start in range(0, FRAMES, CHUNK):
        chunk = np.empty((min(CHUNK, FRAMES - start), *SPEC.frame_shape), np.uint8)
        for i, frame in enumerate(chunk):
            x = 2 * (start + i)
            frame[:height, :, 0] = wide[x // 8 : x // 8 + height, x : x + width][:height]
            frame[height:, :, 0] = colours
        yield chunk


async def render(stage: StagePlan, folder: Path) -> None:
    """Encode one stage."""
    await asyncio.to_thread(folder.mkdir)
    writer = StageWriter(folder, stage, SPEC)
    try:
        for chunk in chunks(stage.index):
            await writer.push(chunk)
        seconds = stage.frames / SPEC.fps - 0.04
        angle = np.arange(int(seconds * RATE), dtype=np.float32)[:, None] / RATE * 2 * np.pi * (220 + 20 * stage.index)
        waveform = (np.sin(angle) / 2).repeat(2, axis=1).astype(np.float32)
        tail = np.zeros((stage.tail, SPEC.height, SPEC.width, 3), np.uint8)
        await writer.finish(ClipEnd(tail, waveform, RATE))
    finally:
        await writer.abort()


async def stitch(root: Path) -> None:
    """Render the takes, two at a time, then the fades and the video."""
    timing = timeline()
    folders = [root / f"stage-{stage.index}" for stage in timing.stages]
    two = asyncio.Semaphore(2)

    async def take(indices: tuple[int, ...]) -> None:
        async with two:
            for i in indices:
                await render(timing.stages[i], folders[i])

    await asyncio.gather(*map(take, timing.takes))
    fades: dict[int, Path] = {}
    for stage in timing.stages:
        if stage.fade_in:
            fades[stage.index] = root / f"fade-{stage.index}"
            fades[stage.index].mkdir()
            before, after = folders[stage.index - 1], folders[stage.index]
            await asyncio.to_thread(encode_fade, before, after, fades[stage.index], timing, stage.index, SPEC)
    out = root / "out"
    out.mkdir()
    made = await asyncio.to_thread(
        assemble, timing, folders, fades, SPEC, audio=True, out=out, progress=lambda _done, _total: None
    )
    assert made.frames == timing.total_frames
    assert made.has_audio


def child() -> None:
    """Stitch, and print the memory it took as JSON."""
    limit_arenas()
    with tempfile.TemporaryDirectory() as root:
        peak = Peak()
        asyncio.run(stitch(Path(root)))
        print(json.dumps({"mb": peak.stop()}))


if __name__ == "__main__":
    if "--child" in sys.argv:
        child()
    else:
        for row in measure():
            print(f"{row['name']}: {row['value']} {row['unit']} (goal: under {row['goal']})")
