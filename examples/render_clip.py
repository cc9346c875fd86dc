"""Render one clip through the ensemble ``clip`` with nothing but tritonclient and numpy.

Needs a Triton server with this repository's ``model_repository``; its gRPC address is the only thing to know::

    python examples/render_clip.py localhost:8001 "a lighthouse at dusk" clip.y4m

Writes the frames as YUV4MPEG2, which ffplay, mpv and ffmpeg read, and the sound beside it as a WAV file.
"""

import argparse
import json
import queue
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import np_to_triton_dtype

Inputs = dict[str, NDArray[Any]]


def main() -> None:
    options = arguments()
    with InferenceServerClient(options.address) as client:
        limits = json.loads(client.infer("capabilities", []).as_numpy("capabilities")[0])
        width, height, fps = options.width or limits["width"], options.height or limits["height"], limits["fps"]
        inputs = request(options, limits, width, height)
        with options.file.open("wb") as file:
            # Averaged 2x2 chroma lies in the middle of its four pixels, which this format calls 420jpeg.
            file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n".encode())
            for answer in responses(client, inputs):
                step, steps = answer.as_numpy("progress")
                for frame in answer.as_numpy("frames"):
                    file.write(b"FRAME\n" + frame.tobytes())
                print(f"step {step} of {steps}, {len(answer.as_numpy('frames'))} frames")
        write_sound(options.file.with_suffix(".wav"), answer)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Render one clip.")
    parser.add_argument("address", help="host:port of the server's gRPC interface")
    parser.add_argument("prompt")
    parser.add_argument("file", type=Path, help="the .y4m file to write")
    parser.add_argument("--width", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def request(options: argparse.Namespace, limits: dict[str, Any], width: int, height: int) -> Inputs:
    """Every input of ``clip``; the tables in ``longtake_stages/contract.py`` say what each is."""
    return {
        "prompt": np.array([options.prompt.encode()], np.object_),
        "negative_prompt": np.array([b""], np.object_),
        "width": np.array([width], np.int32),
        "height": np.array([height], np.int32),
        "frame_count": np.array([options.frames], np.int32),
        "fps": np.array([limits["fps"]], np.int32),
        "seed": np.array([options.seed], np.uint64),
        "steps": np.array([limits["steps"]], np.int32),
        "guidance": np.array([limits["guidance"]], np.float32),
        "condition_frames": np.zeros((0, height, width, 3), np.uint8),
        "condition_spans": np.zeros((0, 2), np.int32),
        "condition_strengths": np.zeros(0, np.float32),
        "pixel_format": np.array([b"yuv420p"], np.object_),
        "tail_frames": np.array([0], np.int32),
        "audio": np.array([limits["audio_sample_rate"] > 0]),
    }


def responses(client: InferenceServerClient, inputs: Inputs) -> Iterator[InferResult]:
    """What the model answers, one response after the other: a model like this one is asked over a stream."""
    tensors = []
    for name, array in inputs.items():
        tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    arrived: queue.Queue[tuple[InferResult | None, Exception | None]] = queue.Queue()
    client.start_stream(lambda result, error: arrived.put((result, error)))
    client.async_stream_infer("clip", tensors, enable_empty_final_response=True)
    while True:
        result, error = arrived.get()
        if error is not None:
            raise SystemExit(f"the server refused: {error}")
        assert result is not None
        if result.get_response().parameters["triton_final_response"].bool_param:
            return
        yield result


def write_sound(path: Path, last: InferResult) -> None:
    """The waveform of the last response as 16-bit PCM."""
    waveform, rate = last.as_numpy("waveform"), int(last.as_numpy("sample_rate")[0])
    if not rate:
        return
    with wave.open(str(path), "wb") as file:
        file.setnchannels(waveform.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main()
