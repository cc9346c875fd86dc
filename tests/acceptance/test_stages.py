"""The models as a client of a real Triton sees them."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from acceptance.conftest import Meter
from longtake_facade.backend import Chunk, ClipEnd, ClipJob, Condition, Latents, ModelFailed, Step
from longtake_facade.embedded import EmbeddedTriton
from longtake_facade.triton import TritonBackend
from longtake_stages.checkpoint import COMPONENTS, load_pipeline, open_checkpoint
from longtake_stages.contract import CLIP, DECODER, MODELS
from longtake_stages.decoder import Decoder, Frames
from longtake_stages.device import place
from longtake_stages.documents import ClipLatents
from longtake_stages.prompt_encoder import PromptEncoder

JOB = ClipJob(
    prompt="a lighthouse at dusk",
    negative_prompt="",
    width=64,
    height=64,
    frames=25,
    fps=24,
    seed=7,
    steps=8,
    guidance=1.0,
    pixel_format="rgb24",
    tail_frames=17,
    audio=True,
)
# Long enough to be caught in the middle: every one of its steps takes far longer than a message.
LONG_JOB = replace(JOB, width=512, height=512, frames=97, steps=200)


@dataclass(frozen=True)
class Clip:
    """Everything a render gave."""

    steps: list[Step]
    latents: ClipLatents
    frames: NDArray[np.uint8]
    end: ClipEnd


async def denoise(backend: TritonBackend, job: ClipJob) -> tuple[list[Step], Latents]:
    context = await backend.encode_prompt(job.prompt, job.negative_prompt)
    *steps, latents = [event async for event in backend.denoise(job, context)]
    assert isinstance(latents, Latents)
    assert all(isinstance(step, Step) for step in steps)
    return steps, latents


async def render(backend: TritonBackend, job: ClipJob) -> Clip:
    steps, latents = await denoise(backend, job)
    *chunks, end = [event async for event in backend.decode(job, latents.data)]
    assert isinstance(end, ClipEnd)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    unpacked = ClipLatents.unpack(np.frombuffer(latents.data, np.uint8))
    return Clip(steps, unpacked, np.concatenate([chunk.frames for chunk in chunks]), end)


def inputs_of(arrays: dict[str, NDArray]) -> list[InferInput]:
    tensors = []
    for name, array in arrays.items():
        tensors.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    return tensors


async def ask(address: str, model: str, arrays: dict[str, NDArray]) -> list[InferResult]:
    """The responses of ``model`` as any Triton client gets them."""

    async def requests() -> AsyncIterator[dict]:
        yield {"model_name": model, "inputs": inputs_of(arrays)}

    async with InferenceServerClient(address) as client:
        answers = []
        async for result, error in client.stream_infer(requests()):
            if error is not None:
                raise error
            answers.append(result)
        return answers


def clip_inputs(job: ClipJob) -> dict[str, NDArray]:
    return {
        "prompt": np.array([job.prompt.encode()], np.object_),
        "negative_prompt": np.array([b""], np.object_),
        "width": np.array([job.width], np.int32),
        "height": np.array([job.height], np.int32),
        "frame_count": np.array([job.frames], np.int32),
        "fps": np.array([job.fps], np.int32),
        "seed": np.array([job.seed], np.uint64),
        "steps": np.array([job.steps], np.int32),
        "guidance": np.array([job.guidance], np.float32),
        "condition_frames": np.zeros((0, job.height, job.width, 3), np.uint8),
        "condition_spans": np.zeros((0, 2), np.int32),
        "condition_strengths": np.zeros(0, np.float32),
        "pixel_format": np.array([job.pixel_format.encode()], np.object_),
        "tail_frames": np.array([job.tail_frames], np.int32),
        "audio": np.array([job.audio]),
    }


@pytest.mark.parametrize("progress", [[1, 2], [200, 200], [2**31 - 1, -(2**31)]])
async def test_arrays_pass_through_the_python_backend_unchanged(triton: EmbeddedTriton, progress: list[int]) -> None:
    """The stub corrupts arrays silently under an unsupported NumPy: what a model passes on must be what was sent."""
    arrays = {
        "latents": np.zeros(0, np.uint8),
        "pixel_format": np.array([b"rgb24"], np.object_),
        "tail_frames": np.array([0], np.int32),
        "audio": np.array([False]),
        "progress": np.array(progress, np.int32),
        "device": np.array([-5], np.int32),
    }
    (answer,) = await ask(triton.grpc_address, DECODER, arrays)
    assert answer.as_numpy("progress").tolist() == progress
    assert answer.as_numpy("device").tolist() == [-5]
    assert len(answer.as_numpy("frames")) == 0


async def test_a_prompt_is_encoded_as_without_triton(backend: TritonBackend, tiny_checkpoint: Path) -> None:
    """A context that came through Triton is, byte for byte, the one the text encoder computed."""
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    encoder = PromptEncoder.load(checkpoint, place("CPU", 0, checkpoint.profile.dtype))
    sent = await backend.encode_prompt("Übergang 🌊", "blurry")
    expected = encoder.encode("Übergang 🌊", "blurry")
    received = type(expected).unpack(np.frombuffer(sent, np.uint8))
    torch.testing.assert_close(received.video, expected.video)
    torch.testing.assert_close(received.audio, expected.audio)
    assert torch.equal(received.mask, expected.mask)


async def test_latents_are_decoded_as_without_triton(backend: TritonBackend, tiny_checkpoint: Path) -> None:
    """Frames, tail and waveform that came through Triton are those the decoder computes in this process."""
    clip = await render(backend, replace(JOB, frames=41))
    checkpoint = open_checkpoint(str(tiny_checkpoint))
    decoder = Decoder.load(checkpoint, place("CPU", 0, checkpoint.profile.dtype))
    *chunks, end = decoder.decode(clip.latents, "rgb24", 17, True, lambda: False)
    expected = np.concatenate([chunk.pixels for chunk in chunks if isinstance(chunk, Frames)])
    # The number of threads may differ, and with it the last bit of a sum: one step of 255 at most.
    assert np.abs(clip.frames.astype(int) - expected).max() <= 1
    assert clip.end.waveform is not None
    np.testing.assert_allclose(clip.end.waveform, end.waveform, atol=1e-4)


async def test_a_clip_has_every_step_every_frame_its_tail_and_sound(backend: TritonBackend) -> None:
    """A render reports each step in order and delivers what the job asked for."""
    clip = await render(backend, JOB)
    assert clip.steps == [Step(n, 8) for n in range(1, 9)]
    assert clip.frames.shape == (25, 64, 64, 3)
    np.testing.assert_array_equal(clip.end.tail, clip.frames[-17:])
    assert clip.end.sample_rate == 16000
    assert clip.end.waveform is not None
    assert clip.end.waveform.shape[1] == 2
    assert np.abs(clip.end.waveform).max() <= 1
    assert clip.end.waveform.std() > 1e-3


async def test_a_clip_without_sound_or_tail_has_neither(backend: TritonBackend) -> None:
    """What was not asked for is not sent."""
    clip = await render(backend, replace(JOB, audio=False, tail_frames=0))
    assert clip.end.waveform is None
    assert clip.end.sample_rate == 0
    assert clip.end.tail.shape[0] == 0


async def test_the_same_job_gives_the_same_clip_on_every_instance(backend: TritonBackend) -> None:
    """Renders are deterministic; renders at the same time run on both instances."""
    first, *others = await asyncio.gather(*(render(backend, JOB) for _ in range(4)))
    for other in others:
        np.testing.assert_array_equal(other.frames, first.frames)
        np.testing.assert_array_equal(other.end.waveform, first.end.waveform)


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"prompt": "a dog in the snow"}, {"seed": 2**64 - 1}, {"guidance": 3.0}]
)
async def test_what_determines_a_clip_changes_it(backend: TritonBackend, change: dict) -> None:
    """Another seed, prompt or guidance is another clip."""
    one, other = await asyncio.gather(render(backend, JOB), render(backend, replace(JOB, **change)))
    assert np.abs(one.frames.astype(int) - other.frames).mean() > 0.5


async def test_a_tail_at_full_strength_is_the_head_of_the_next_clip(
    backend: TritonBackend, tiny_checkpoint: Path
) -> None:
    """The conditioned latent frames of a clip are those the VAE makes of the tail; without it they are others."""
    before = await render(backend, JOB)
    job = replace(JOB, prompt="a dog", frames=41, seed=3, conditions=(Condition(0, before.end.tail, 1.0),))
    following, free = await asyncio.gather(render(backend, job), render(backend, replace(job, conditions=())))
    vae = load_pipeline(open_checkpoint(str(tiny_checkpoint)), COMPONENTS, place("CPU", 0)).vae
    pixels = torch.from_numpy(before.end.tail.copy()).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        expected = vae.encode(pixels).latent_dist.mode()
    assert expected.shape[2] == 3
    torch.testing.assert_close(following.latents.video[:, :, :3], expected, atol=1e-3, rtol=1e-3)
    assert (free.latents.video[:, :, :3] - expected).abs().mean() > 0.1
    assert (following.latents.video[:, :, 3:] - free.latents.video[:, :, 3:]).abs().mean() > 0.01


async def test_an_image_in_the_middle_and_at_the_start_change_the_clip(backend: TritonBackend) -> None:
    """A soft anchor beside a tail is accepted and has an effect."""
    image = np.full((1, 64, 64, 3), 200, np.uint8)
    plain = await render(backend, JOB)
    at_start = await render(backend, replace(JOB, conditions=(Condition(0, image, 1.0),)))
    soft = await render(backend, replace(JOB, conditions=(Condition(17, image, 0.4),)))
    assert np.abs(plain.frames.astype(int) - at_start.frames).mean() > 0.5
    assert np.abs(plain.frames.astype(int) - soft.frames).mean() > 0.1


async def test_yuv420p_shows_the_same_clip_in_half_the_bytes(backend: TritonBackend) -> None:
    """The luma plane is the BT.709 luma of the RGB frames."""
    rgb = await render(backend, JOB)
    yuv = await render(backend, replace(JOB, pixel_format="yuv420p"))
    assert yuv.frames.shape == (25, 96, 64, 1)
    luma = 16 + rgb.frames @ np.array([0.2126, 0.7152, 0.0722]) * 219 / 255
    assert np.abs(yuv.frames[:, :64, :, 0] - luma).max() < 0.51
    np.testing.assert_array_equal(yuv.end.tail, rgb.end.tail)


async def test_a_render_is_counted_and_a_canary_is_not(backend: TritonBackend, meter: Meter) -> None:
    """The counters tell how many steps and clips were denoised for someone."""
    before = await meter.settled()
    await backend.canary()
    await render(backend, JOB)
    after = await meter.settled()
    assert (after.steps - before.steps, after.renders - before.renders) == (8, 1)


async def test_closing_a_render_leaves_the_model_at_most_the_step_it_is_in(
    backend: TritonBackend, meter: Meter
) -> None:
    """A cancelled denoise computes no step beyond the one that runs while the cancellation is on its way."""
    context = await backend.encode_prompt("", "")
    before = await meter.settled()
    events = backend.denoise(LONG_JOB, context)
    seen = [await anext(events) for _ in range(3)]
    await events.aclose()
    after = await meter.settled()
    assert seen == [Step(1, 200), Step(2, 200), Step(3, 200)]
    assert after.steps - before.steps - len(seen) <= 2
    assert after.renders == before.renders


async def test_a_cancelled_task_ends_the_render(backend: TritonBackend, meter: Meter) -> None:
    """Cancelling the task that iterates is as good as closing."""
    context = await backend.encode_prompt("", "")
    before = await meter.settled()
    seen = 0
    begun = asyncio.Event()

    async def follow() -> None:
        nonlocal seen
        async for _ in backend.denoise(LONG_JOB, context):
            seen += 1
            begun.set()

    task = asyncio.create_task(follow())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await meter.settled()).steps - before.steps - seen <= 2


CLIENT = """
import asyncio, sys
from dataclasses import replace
from acceptance.test_stages import LONG_JOB
from longtake_facade.triton import connect

async def main():
    backend = await connect(sys.argv[1])
    context = await backend.encode_prompt("", "")
    async for event in backend.denoise(LONG_JOB, context):
        print(event.step, flush=True)

asyncio.run(main())
"""


async def test_a_killed_client_frees_the_model(triton: EmbeddedTriton, meter: Meter) -> None:
    """When the process that waits is killed, the model stops within its step."""
    before = await meter.settled()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, triton.grpc_address),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    seen = [int(await process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert seen == [1, 2]
    assert (await meter.settled()).steps - before.steps - len(seen) <= 4


async def test_two_denoisers_run_side_by_side(backend: TritonBackend) -> None:
    """Two clips make progress in turns; with one instance the second would wait for the first."""
    context = await backend.encode_prompt("", "")
    job = replace(JOB, width=256, height=256, frames=97, steps=20)
    order: list[str] = []

    async def follow(name: str) -> None:
        nonlocal order
        async for event in backend.denoise(job, context):
            order += [name] if isinstance(event, Step) else []

    await asyncio.gather(follow("a"), follow("b"))
    assert backend.instances == 2
    assert order.count("a") == order.count("b") == 20
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 2


async def test_the_ensemble_renders_what_the_three_calls_render(backend: TritonBackend, triton: EmbeddedTriton) -> None:
    """One request to ``clip`` gives the progress, frames, tail and sound of the three models called one by one."""
    clip = await render(backend, JOB)
    answers = await ask(triton.grpc_address, CLIP, clip_inputs(JOB))
    progress = [answer.as_numpy("progress").tolist() for answer in answers]
    assert progress[:8] == [[n, 8] for n in range(1, 9)]
    frames = np.concatenate([answer.as_numpy("frames") for answer in answers if answer.as_numpy("frames").size])
    np.testing.assert_array_equal(frames, clip.frames)
    np.testing.assert_array_equal(answers[-1].as_numpy("tail"), clip.end.tail)
    np.testing.assert_array_equal(answers[-1].as_numpy("waveform"), clip.end.waveform)


async def test_the_example_renders_a_clip(triton: EmbeddedTriton, tmp_path: Path) -> None:
    """``examples/render_clip.py`` writes a YUV4MPEG2 file with every frame, and the sound beside it."""
    example = Path(__file__).parents[2] / "examples" / "render_clip.py"
    file = tmp_path / "clip.y4m"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), triton.grpc_address, "a cat", str(file)
    )
    assert await process.wait() == 0
    header, _, rest = file.read_bytes().partition(b"\n")
    assert header.startswith(b"YUV4MPEG2 W64 H64 F24:1")
    assert len(rest) == 25 * (len(b"FRAME\n") + 64 * 64 * 3 // 2)
    assert file.with_suffix(".wav").stat().st_size > 50_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"width": 50}, "width"),
        ({"frames": 24}, "8k+1"),
        ({"frames": 105}, "at most 97"),
        ({"steps": 0}, "steps"),
        ({"guidance": float("nan")}, "guidance"),
        ({"width": 1024, "height": 1024}, "pixels"),
        ({"conditions": (Condition(5, np.zeros((1, 64, 64, 3), np.uint8), 1.0),)}, "begin"),
        ({"conditions": (Condition(0, np.zeros((1, 64, 64, 3), np.uint8), 1.5),)}, "strength"),
        ({"tail_frames": 26}, "tail_frames"),
    ],
)
async def test_an_impossible_job_is_refused_with_its_reason(backend: TritonBackend, change: dict, says: str) -> None:
    """The model names what is wrong and goes on serving."""
    with pytest.raises(ModelFailed, match=says.replace("+", r"\+")):
        await render(backend, replace(JOB, **change))
    await backend.canary()


async def test_rubbish_in_the_opaque_tensors_is_refused(backend: TritonBackend) -> None:
    """A context or latents that are no safetensors documents are an error of the caller, without internals."""
    with pytest.raises(ModelFailed, match=r"^context: not a safetensors document$"):
        await anext(backend.denoise(JOB, b"rubbish"))
    with pytest.raises(ModelFailed, match=r"^latents: not a safetensors document$"):
        await anext(backend.decode(JOB, b"rubbish"))


async def test_a_triton_client_sees_the_code_of_a_refusal(triton: EmbeddedTriton) -> None:
    """Any client can tell a bad request by the first words of the message."""
    with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT: frames must be"):
        await ask(triton.grpc_address, CLIP, clip_inputs(replace(JOB, frames=24)))


async def test_capabilities_tell_what_the_checkpoint_can_do(backend: TritonBackend, tiny_checkpoint: Path) -> None:
    """They come from the checkpoint's profile; the digest is that of the folder."""
    capabilities = backend.capabilities
    assert (capabilities.model, capabilities.family) == ("tiny-ltx2", "ltx2")
    assert (capabilities.audio_sample_rate, capabilities.audio_channels) == (16000, 2)
    assert capabilities.checkpoint_digest == open_checkpoint(str(tiny_checkpoint)).digest()
    assert capabilities.vram is None
    assert len(MODELS) == 5
