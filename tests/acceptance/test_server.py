"""The whole server over a real Triton: what the main job promises, seen from outside."""

import asyncio
import itertools
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from acceptance.conftest import Meter
from chains import chain, stage
from longtake import wire
from longtake.client import AsyncLongtake, Longtake
from longtake.errors import ChainError, LongtakeError
from longtake.script import load
from longtake.streams import Completion
from longtake.wire import ChainRequest, Transition
from longtake_facade.embedded import EmbeddedTriton
from media import decoded_rgb, decoded_sound, frame_times
from serve_process import Serving, serve, start, stop

EXAMPLE = Path(__file__).parents[2] / "examples" / "three-acts.toml"
# Long enough to be interrupted: a step takes tens of milliseconds.
LONG = {"steps": 100, "width": 128, "height": 128}


def saved(done: Completion, folder: Path) -> Path:
    path = folder / f"video.{done.format}"
    done.video_data().save(path)
    return path


def test_the_example_renders_to_the_length_it_announces(client: Longtake, tmp_path: Path) -> None:
    """ffmpeg counts the frames of the payload and of chain_start, and sound that is as long to the sample."""
    with client.stream(load(EXAMPLE)) as stream:
        events = list(stream)
    done = events[-1]
    assert isinstance(done, Completion)
    start_event = next(event for event in events if isinstance(event, wire.ChainStart))
    assert len({stage.transition for stage in done.script.stage}) == 3
    file = saved(done, tmp_path)
    _, packets = frame_times(file)
    assert len(packets) == done.frames == start_event.estimated_total_frames
    assert done.audio_sample_rate is not None
    assert done.audio_channels is not None
    sound = decoded_sound(file, done.audio_channels)
    assert len(sound) == round(done.frames * done.audio_sample_rate / done.fps)
    assert np.abs(sound).max() > 0.001


def test_a_script_and_a_seed_are_the_same_video_on_another_server(
    client: Longtake, triton: EmbeddedTriton, tmp_path: Path
) -> None:
    """Two servers that share nothing decode to identical frames; so does the echo."""
    request = chain(stage("a", 25), stage("b", 25), stage("c", 17, Transition.FADE), steps=4)
    first = client.generate(request)
    with serve(tmp_path / "data", "--triton", triton.grpc_address) as other, Longtake(other.url) as there:
        second = there.generate(first.script)
    videos = [done.video_data() for done in (first, second)]
    frames = [np.stack(list(video.frames())) for video in videos]
    np.testing.assert_array_equal(*frames)
    assert first.script == second.script


def test_fades_equal_the_formula_to_the_last_bit(client: Longtake, tmp_path: Path) -> None:
    """[A cut B] gives the frames, [A fade B] with the same seeds their blend; the rest is the same."""
    n = 8
    one, other = stage("a", 25), stage("b", 25, Transition.CUT)
    cut = client.generate(chain(one, other, output_format="apng"))
    fade = client.generate(chain(one, stage("b", 25, Transition.FADE, fade_frames=n), output_format="apng"))
    (tmp_path / "cut").mkdir()
    (tmp_path / "fade").mkdir()
    hard = decoded_rgb(saved(cut, tmp_path / "cut"), 64, 64).astype(int)
    soft = decoded_rgb(saved(fade, tmp_path / "fade"), 64, 64).astype(int)
    a, b = hard[:25], hard[25:]
    blended = [((n - i) * a[25 - n + i] + i * b[i]) // n for i in range(n)]
    np.testing.assert_array_equal(soft, np.concatenate([a[: 25 - n], blended, b[n:]]))


def test_forty_frames_are_forty_frames(client: Longtake, tmp_path: Path) -> None:
    """A length off the grid, by auto-expansion."""
    done = client.generate(ChainRequest(prompt="x", total_frames=40, clip_frames=25, motion_tail_frames=9, steps=2))
    assert len(frame_times(saved(done, tmp_path))[1]) == done.frames == 40


def test_a_smooth_join_begins_with_the_tail_before_it(client: Longtake) -> None:
    """Across it the picture jumps less than across a cut of the same stages."""
    smooth = client.generate(chain(stage("a", 25), stage("a", 25), steps=8)).joins
    cut = client.generate(chain(stage("a", 25), stage("a", 25, Transition.CUT, seed_offset=1), steps=8)).joins
    assert smooth is not None
    assert cut is not None
    assert smooth[0].frame_jump < cut[0].frame_jump


async def test_a_cancelled_chain_leaves_the_model_at_most_its_step(server: Serving, meter: Meter) -> None:
    """Counted by the denoiser itself; what was finished is kept."""
    async with AsyncLongtake(server.url) as client, client.stream(_long()) as stream:
        async for event in stream:
            if isinstance(event, wire.DenoiseStep) and event.step == 5:
                break
        assert stream.chain_id is not None
        await client.cancel(stream.chain_id)
        with pytest.raises(ChainError) as caught:
            [event async for event in stream]
        stopped = await meter.read()
        assert caught.value.code == "CANCELLED"
        assert (await meter.settled()).steps - stopped.steps <= 1


async def test_a_killed_server_leaves_the_model_at_most_its_step(
    triton: EmbeddedTriton, meter: Meter, tmp_path: Path
) -> None:
    """And the chain is finished by the next server of its data, with the result of an undisturbed run."""
    request = chain(stage("kept", 17), stage("interrupted", 17), steps=60)
    first = await asyncio.to_thread(start, tmp_path / "data", "--triton", triton.grpc_address)
    async with AsyncLongtake(first.url) as client:
        accepted = await client.submit(request)
        async for event in client.events(accepted.id):
            if isinstance(event, wire.DenoiseStep) and event.stage_idx == 1:
                break
    first.kill()
    stop(first)
    killed = await meter.read()
    assert (await meter.settled()).steps - killed.steps <= 1

    before = await meter.read()
    with serve(tmp_path / "data", "--triton", triton.grpc_address) as second:
        async with AsyncLongtake(second.url) as client:
            resumed = await client.result(accepted.id) if await _ended(client, accepted.id) else None
            assert resumed is not None
            assert (await meter.settled()).renders - before.renders == 1
            # Without sound the keys are others, so nothing of the first chain is used.
            undisturbed = await client.generate(msgspec.structs.replace(request, enable_audio=False))
    frames = [np.stack(list(done.video_data().frames())) for done in (resumed, undisturbed)]
    np.testing.assert_array_equal(*frames)


async def _ended(client: AsyncLongtake, chain_id: str) -> bool:
    return isinstance([event async for event in client.events(chain_id)][-1], Completion)


def _long() -> ChainRequest:
    return chain(stage("long", 97), **LONG)


async def test_takes_of_a_chain_are_denoised_side_by_side(server: Serving) -> None:
    """Two takes on two instances: their steps interleave."""
    request = chain(stage("one", 25), stage("two", 25, Transition.CUT), steps=20, seed=12345)
    async with AsyncLongtake(server.url) as client:
        order = [e.stage_idx async for e in client.stream(request) if isinstance(e, wire.DenoiseStep)]
    changes = sum(left != right for left, right in itertools.pairwise(order))
    assert changes > 1


def test_everything_that_is_kept_is_its_owners_alone(client: Longtake, server: Serving) -> None:
    """No file or folder can be read by others."""
    client.generate(chain(stage("private", 9), steps=1))
    data = server.log.parent / "data"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in data.rglob("*")}
    assert any(path.suffix == ".mp4" for path in modes)
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}


def test_prompts_are_in_no_log(client: Longtake, server: Serving, triton: EmbeddedTriton) -> None:
    """Neither the server's nor Triton's, for a chain that ran and for one that was refused."""
    secret = "unmistakable words"
    client.generate(chain(stage(secret, 9, negative_prompt=secret), steps=1))
    with pytest.raises(LongtakeError):
        client.generate(chain(stage(secret, 10)))
    assert "chain accepted" in server.log.read_text()
    assert secret not in server.log.read_text()
    assert secret not in triton.log_path.read_text()


def test_the_command_renders_with_a_server_of_its_own_and_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """``longtake render`` with no server given: the file is there, the facts are printed, no process is left."""
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "longtake", "render", str(EXAMPLE), "-o", str(out)]
    environment = {**os.environ, "LONGTAKE_CHECKPOINT": str(tiny_checkpoint), "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes()[4:8] == b"ftyp"
    assert re.search(r"frames\s+131", done.stdout)
    mine = str(tmp_path)
    assert [
        p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if mine in " ".join(p.info["cmdline"] or [])
    ] == []
    assert len(frame_times(out)[1]) == 131
