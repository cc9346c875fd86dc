"""The renderer behind Triton's gRPC interface: the one module that knows tritonclient.

Everything goes through ``stream_infer``, because Triton has no unary call for a model with several responses, and
because closing the stream is what tells the model that nobody waits any more. A failed call is an error message on
the stream, without a status, and the stream is then read to its end: Triton 2.51 was seen to crash when it was asked
to turn such messages into a gRPC status (``triton_grpc_error``).
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final

import grpc.aio
import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from longtake_facade.backend import (
    BackendError,
    BackendUnavailable,
    Chunk,
    ClipEnd,
    ClipJob,
    Condition,
    Latents,
    ModelFailed,
    ModelOutOfMemory,
    Step,
)
from longtake_stages import contract
from longtake_stages.contract import Capabilities, ModelErrorCode

Inputs = Mapping[str, NDArray[Any]]

# A chunk of frames, a tail and a context are tens of megabytes; gRPC's own limit for answers is 4.
MAX_MESSAGE_BYTES: Final = 512 << 20
CANARY_TIMEOUT: Final = 120.0
REVIVE_SECONDS: Final = 180.0
_REVIVE_PAUSE: Final = 1.0
_PREFIX: Final = re.compile(rf"(?:in ensemble '[^']*', )?({'|'.join(ModelErrorCode)}): (.*)", re.DOTALL)
# What Triton says, under INTERNAL or without a status, of a model whose process has died or that is not loaded.
_GONE: Final = re.compile(r"Stub process .* is not healthy|Request for unknown model|Server is stopping")
_STUB: Final = re.compile(r"Stub process '(\w+?)_\d+_\d+' is not healthy")
_KIND_GPU: Final = 1

_FAILED_TEXT: Final = "the model failed; the server's log says why"
_GONE_TEXT: Final = "a model is not loaded, or its process has died; the server must load it again"
_CLOSED_TEXT: Final = "the connection to the server was closed"
_UNAVAILABLE_TEXT: Final = "no Triton server answers, or it does not serve the model"

# What a status means where the message is not a model's own. The texts of others are Triton's and may hold paths.
STATUS_ERRORS: Final[Mapping[grpc.StatusCode, BackendError]] = {
    grpc.StatusCode.OK: ModelFailed("the server ended the call without an answer"),
    grpc.StatusCode.CANCELLED: ModelFailed("the call was cancelled"),
    grpc.StatusCode.UNKNOWN: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.INVALID_ARGUMENT: ModelFailed("the server refused the request's tensors"),
    grpc.StatusCode.DEADLINE_EXCEEDED: BackendUnavailable("the server did not answer in time"),
    grpc.StatusCode.NOT_FOUND: BackendUnavailable(_UNAVAILABLE_TEXT),
    grpc.StatusCode.ALREADY_EXISTS: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.PERMISSION_DENIED: BackendUnavailable("the server denies access"),
    grpc.StatusCode.UNAUTHENTICATED: BackendUnavailable("the server denies access"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ModelFailed(
        "a message exceeds the size limit, or a queue of the server is full"
    ),
    grpc.StatusCode.FAILED_PRECONDITION: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.ABORTED: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.OUT_OF_RANGE: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.UNIMPLEMENTED: BackendUnavailable("what answers is no Triton server of this version"),
    grpc.StatusCode.INTERNAL: ModelFailed(_FAILED_TEXT),
    grpc.StatusCode.UNAVAILABLE: BackendUnavailable(_UNAVAILABLE_TEXT),
    grpc.StatusCode.DATA_LOSS: ModelFailed(_FAILED_TEXT),
}


class _ModelGone(BackendUnavailable):
    """The process of ``model`` has died, where Triton says of which."""

    def __init__(self, message: str, model: str | None) -> None:
        super().__init__(message)
        self.model = model


class TritonBackend:
    """A :class:`longtake_facade.backend.Backend` on one Triton server; opened by :func:`connect`."""

    def __init__(self, client: InferenceServerClient, capabilities: Capabilities, instances: int) -> None:
        self._client = client
        self._capabilities = capabilities
        self._instances = instances

    @property
    def capabilities(self) -> Capabilities:
        """What the checkpoint can do."""
        return self._capabilities

    @property
    def instances(self) -> int:
        """Instances of the denoiser, over all devices."""
        return self._instances

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        """The text context (opaque) of a prompt."""
        inputs = {"prompt": _text(prompt), "negative_prompt": _text(negative_prompt)}
        answer = await _only(_stream(self._client, contract.PROMPT_ENCODER, inputs, ["context"]))
        return _array(answer, "context").tobytes()

    async def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        """Every step as it is done, then the latents. Closing it ends the model's work within its step."""
        inputs: dict[str, NDArray[Any]] = {
            "context": np.frombuffer(context, np.uint8),
            "frames": _int32(job.frames),
            **_denoiser_inputs(job),
        }
        answers = _stream(self._client, contract.DENOISER, inputs, ["progress", "latents", "device"])
        result: Latents | None = None
        async with contextlib.aclosing(answers):
            async for answer in answers:
                if (latents := _array(answer, "latents")).size:
                    ordinal = int(_array(answer, "device")[0])
                    result = Latents(latents.tobytes(), None if ordinal < 0 else ordinal)
                else:
                    step, total = (int(number) for number in _array(answer, "progress"))
                    yield Step(step, total)
        if result is None:
            raise ModelFailed("the denoiser ended without latents")
        yield result

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        """The clip's frames in chunks, then its end. Closing it ends the model's work within its tile."""
        inputs: dict[str, NDArray[Any]] = {
            "latents": np.frombuffer(latents, np.uint8),
            "progress": np.array([job.steps, job.steps], np.int32),
            "device": _int32(-1),
            **_decoder_inputs(job),
        }
        answers = _stream(self._client, contract.DECODER, inputs, ["frames", "tail", "waveform", "sample_rate"])
        received = 0
        end: ClipEnd | None = None
        async with contextlib.aclosing(answers):
            async for answer in answers:
                if len(frames := _array(answer, "frames")):
                    received += len(frames)
                    yield Chunk(frames)
                else:
                    end = _clip_end(answer, job.tail_frames)
        if end is None or received != job.frames:
            raise ModelFailed(f"the decoder sent {received} of {job.frames} frames")
        yield end

    async def canary(self) -> None:
        """Render the smallest clip, one step long, through every model.

        Raises:
            BackendError: any model did not answer as it should, or not within ``CANARY_TIMEOUT`` seconds.
        """
        job = _smallest_job(self._capabilities)
        inputs: dict[str, NDArray[Any]] = {
            "prompt": _text(job.prompt),
            "negative_prompt": _text(job.negative_prompt),
            "frame_count": _int32(job.frames),
            **_denoiser_inputs(job),
            **_decoder_inputs(job),
        }
        answers = _stream(self._client, contract.CLIP, inputs, ["frames"], {contract.CANARY_PARAMETER: True})
        try:
            async with asyncio.timeout(CANARY_TIMEOUT), contextlib.aclosing(answers):
                received = sum([len(_array(answer, "frames")) async for answer in answers])
        except TimeoutError as error:
            raise BackendUnavailable("the models did not answer in time") from error
        if received != job.frames:
            raise ModelFailed(f"the models rendered {received} of {job.frames} frames")

    async def revive(self, seconds: float = REVIVE_SECONDS) -> None:
        """Wait until a canary comes back, at most ``seconds``; models whose process has died are loaded again.

        A server refuses to load models unless it runs with ``--model-control-mode=explicit``; then this only waits.

        Raises:
            BackendUnavailable: no canary came back in time.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                return await self.canary()
            except BackendError as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise BackendUnavailable(f"the models did not come back: {error}") from error
                if isinstance(error, _ModelGone) and error.model:
                    await self._reload(error.model)
            await asyncio.sleep(_REVIVE_PAUSE)

    async def _reload(self, model: str) -> None:
        # Refused, or gone altogether: the next canary says so.
        with contextlib.suppress(InferenceServerException):
            await self._client.unload_model(model)
            await self._client.load_model(model)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()


async def connect(address: str, *, timeout: float = 10.0) -> TritonBackend:
    """Open a backend on the Triton server at ``address`` (``host:port`` of its gRPC interface), without retrying.

    Raises:
        BackendUnavailable: nothing answers within ``timeout`` seconds, or it does not serve the models.
    """
    client = InferenceServerClient(address, channel_args=_channel_arguments())
    try:
        async with asyncio.timeout(timeout):
            capabilities = await _capabilities(client)
            config = await client.get_model_config(contract.DENOISER)
    except TimeoutError as error:
        await client.close()
        raise BackendUnavailable(f"nothing answered at {address} within {timeout:g} s") from error
    except InferenceServerException as error:
        await client.close()
        raise _from_triton(error) from error
    except BaseException:
        await client.close()
        raise
    return TritonBackend(client, capabilities, _instance_count(config.config))


def error_of(code: grpc.StatusCode, message: str | None) -> BackendError:
    """The backend's error for a failed call. A model's own message, told by its prefix, comes before the status."""
    prefixed = _PREFIX.fullmatch(message or "")
    if prefixed is None:
        if _GONE.search(message or ""):
            stub = _STUB.search(message or "")
            return _ModelGone(_GONE_TEXT, stub[1] if stub else None)
        meaning = STATUS_ERRORS[code]
        return type(meaning)(*meaning.args)
    model_code, text = ModelErrorCode(prefixed[1]), prefixed[2]
    if model_code is ModelErrorCode.OUT_OF_MEMORY:
        return ModelOutOfMemory(text)
    return ModelFailed(_FAILED_TEXT if model_code is ModelErrorCode.INTERNAL else text)


async def _stream(
    client: InferenceServerClient,
    model: str,
    inputs: Inputs,
    outputs: Sequence[str],
    parameters: Mapping[str, bool] | None = None,
) -> AsyncGenerator[InferResult, None]:
    """The responses of ``model``. Left early, by any way, it cancels the call.

    Raises:
        BackendError: the call failed.
    """

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {
            "model_name": model,
            "inputs": [_tensor(name, array) for name, array in inputs.items()],
            "outputs": [InferRequestedOutput(name) for name in outputs],
            "parameters": dict(parameters) if parameters else None,
        }

    failed: InferenceServerException | None = None
    responses: Any = None
    try:
        responses = client.stream_infer(requests())
        async for result, error in responses:
            if error is None:
                yield result
            else:
                failed = failed or error
        if failed is not None:
            raise _from_triton(failed)
    except grpc.aio.AioRpcError as error:
        raise error_of(error.code(), error.details()) from error
    except grpc.aio.UsageError as error:
        raise BackendUnavailable(_CLOSED_TEXT) from error
    except asyncio.CancelledError as error:
        # A connection that is closed under a call cancels it as if its caller had been cancelled.
        if (task := asyncio.current_task()) is None or task.cancelling():
            raise
        raise BackendUnavailable(_CLOSED_TEXT) from error
    finally:
        if responses is not None:
            responses.cancel()


async def _only(answers: AsyncGenerator[InferResult, None]) -> InferResult:
    """The response of a model that sends one. The stream is read to its end: a call that is cancelled once it has
    been answered is an error in Triton's log."""
    async with contextlib.aclosing(answers):
        received = [answer async for answer in answers]
    if len(received) != 1:
        raise ModelFailed(f"the model sent {len(received)} responses, not one")
    return received[0]


async def _capabilities(client: InferenceServerClient) -> Capabilities:
    answer = await _only(_stream(client, contract.CAPABILITIES, {}, ["capabilities"]))
    try:
        return msgspec.json.decode(_array(answer, "capabilities")[0], type=Capabilities)
    except msgspec.DecodeError as error:
        raise BackendUnavailable("the server's capabilities are of another version") from error


def _from_triton(error: InferenceServerException) -> BackendError:
    """tritonclient keeps the status as text, ``StatusCode.NOT_FOUND``; errors within a stream have none."""
    name = (error.status() or "").removeprefix("StatusCode.")
    known = {code.name: code for code in grpc.StatusCode}
    return error_of(known.get(name, grpc.StatusCode.UNKNOWN), error.message())


def _instance_count(config: Any) -> int:
    groups = config.instance_group
    return sum(group.count * (len(group.gpus) if group.kind == _KIND_GPU else 1) for group in groups) or 1


def _channel_arguments() -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ]


def _smallest_job(capabilities: Capabilities) -> ClipJob:
    return ClipJob(
        prompt="canary",
        negative_prompt="",
        width=capabilities.size_multiple,
        height=capabilities.size_multiple,
        frames=min(capabilities.frame_grid + 1, capabilities.frames_cap),
        fps=capabilities.fps,
        seed=0,
        steps=1,
        guidance=capabilities.guidance,
        pixel_format="yuv420p",
        audio=capabilities.audio_sample_rate > 0,
    )


def _denoiser_inputs(job: ClipJob) -> dict[str, NDArray[Any]]:
    return {
        "width": _int32(job.width),
        "height": _int32(job.height),
        "fps": _int32(job.fps),
        "seed": np.array([job.seed], np.uint64),
        "steps": _int32(job.steps),
        "guidance": np.array([job.guidance], np.float32),
        **_condition_inputs(job.conditions, job.width, job.height),
    }


def _condition_inputs(conditions: Sequence[Condition], width: int, height: int) -> dict[str, NDArray[Any]]:
    none = np.zeros((0, height, width, 3), np.uint8)
    spans = [(condition.frame, len(condition.frames)) for condition in conditions]
    return {
        "condition_frames": np.concatenate([none, *(condition.frames for condition in conditions)]),
        "condition_spans": np.array(spans, np.int32).reshape(-1, 2),
        "condition_strengths": np.array([condition.strength for condition in conditions], np.float32),
    }


def _decoder_inputs(job: ClipJob) -> dict[str, NDArray[Any]]:
    return {
        "pixel_format": _text(job.pixel_format),
        "tail_frames": _int32(job.tail_frames),
        "audio": np.array([job.audio], np.bool_),
    }


def _clip_end(answer: InferResult, tail_frames: int) -> ClipEnd:
    tail, rate = _array(answer, "tail"), int(_array(answer, "sample_rate")[0])
    if len(tail) != tail_frames:
        raise ModelFailed(f"the decoder sent a tail of {len(tail)} frames, not {tail_frames}")
    return ClipEnd(tail, _array(answer, "waveform") if rate else None, rate)


def _int32(value: int) -> NDArray[np.int32]:
    return np.array([value], np.int32)


def _text(value: str) -> NDArray[np.object_]:
    return np.array([value.encode()], np.object_)


def _tensor(name: str, array: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def _array(answer: InferResult, name: str) -> NDArray[Any]:
    array = answer.as_numpy(name)
    if array is None:
        raise ModelFailed(f"the server sent no {name}")
    return np.asarray(array)
