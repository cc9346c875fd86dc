"""The models behind Triton, with a stand-in for the backend's own module."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from longtake_stages.contract import RENDERS_METRIC, STEPS_METRIC, ModelErrorCode
from longtake_stages.decoder import End, Frames
from longtake_stages.denoiser import ClipSpec
from longtake_stages.documents import ClipLatents, Context
from longtake_stages.errors import CancelledError, InvalidArgumentError
from longtake_stages.serving.bridge import Replies, Request, classify, serve_decoupled, serve_unary
from longtake_stages.serving.counters import DenoiserCounters
from longtake_stages.serving.decoder import DecoderModel
from longtake_stages.serving.denoiser import DenoiserModel, clip_spec
from longtake_stages.serving.prompt_encoder import PromptEncoderModel

LATENTS = ClipLatents(torch.ones(1, 2, 1, 1, 1), torch.ones(1, 2, 1, 1))


class FakeTensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


class FakeError:
    INVALID_ARG, UNAVAILABLE, CANCELLED, INTERNAL = "invalid", "unavailable", "cancelled", "internal"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


@dataclass
class FakeResponse:
    output_tensors: list[FakeTensor]
    error: FakeError | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        (array,) = [tensor.array for tensor in self.output_tensors if tensor.name == name]
        return array


class FakeMetric:
    def __init__(self) -> None:
        self.value = 0

    def increment(self, by: int) -> None:
        self.value += by


class FakePbUtils:
    """Behaves as ``triton_python_backend_utils`` does, as far as the models use it."""

    TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    Tensor = FakeTensor
    TritonError = FakeError
    InferenceResponse = FakeResponse

    def __init__(self) -> None:
        self.metrics: dict[str, FakeMetric] = {}
        self.log: list[str] = []
        outer = self

        class Logger:
            @staticmethod
            def log_error(text: str) -> None:
                outer.log.append(text)

        class MetricFamily:
            COUNTER = "counter"

            def __init__(self, name: str, description: str, kind: str) -> None:
                assert description
                assert kind == self.COUNTER
                self.name = name

            def Metric(self, labels: dict[str, str]) -> FakeMetric:  # noqa: N802  Triton's name
                assert labels == {"instance": "denoiser_0_0"}
                return outer.metrics.setdefault(self.name, FakeMetric())

        self.Logger, self.MetricFamily = Logger, MetricFamily

    @staticmethod
    def get_input_tensor_by_name(request: "FakeRequest", name: str) -> FakeTensor | None:
        return FakeTensor(name, request.arrays[name]) if name in request.arrays else None


@dataclass
class FakeSender:
    sent: list[FakeResponse] = field(default_factory=list)
    ended: int = 0
    cancelled_after: int = 10**9

    def send(self, response: FakeResponse | None = None, flags: int = 0) -> None:
        assert not self.ended, "nothing may follow the final flag"
        if response is not None:
            self.sent.append(response)
        self.ended += flags

    def is_cancelled(self) -> bool:
        return len(self.sent) >= self.cancelled_after


@dataclass
class FakeRequest:
    arrays: dict[str, np.ndarray]
    sender: FakeSender = field(default_factory=FakeSender)
    parameter_text: str = "{}"

    def get_response_sender(self) -> FakeSender:
        return self.sender

    def parameters(self) -> str:
        return self.parameter_text


class StandInDenoiser:
    """Counts its steps and gives the same latents always."""

    ordinal = 3

    def denoise(self, context: Context, spec: ClipSpec, step_done: Any, is_cancelled: Any) -> ClipLatents:
        for step in range(spec.steps):
            step_done(step + 1, spec.steps)
            if is_cancelled():
                raise CancelledError
        return LATENTS


class StandInDecoder:
    """A clip of two chunks, a tail and some sound."""

    def decode(self, latents: Any, pixel_format: str, tail: int, audio: bool, is_cancelled: Any) -> Iterator[Any]:
        for _ in range(2):
            yield Frames(np.zeros((4, 6, 4, 1), np.uint8))
        yield End(
            np.zeros((tail, 4, 4, 3), np.uint8), np.zeros((9 if audio else 0, 2), np.float32), 100 if audio else 0
        )


def denoiser_inputs(**changes: np.ndarray) -> dict[str, np.ndarray]:
    states = torch.zeros(2, 1, 1)
    return {
        "context": Context(states, states + 1, torch.ones(2, 1)).pack(),
        "width": np.array([64], np.int32),
        "height": np.array([32], np.int32),
        "frames": np.array([9], np.int32),
        "fps": np.array([24], np.int32),
        "seed": np.array([2**64 - 1], np.uint64),
        "steps": np.array([3], np.int32),
        "guidance": np.array([1.5], np.float32),
        "condition_frames": np.zeros((0, 32, 64, 3), np.uint8),
        "condition_spans": np.zeros((0, 2), np.int32),
        "condition_strengths": np.zeros(0, np.float32),
        **changes,
    }


def decoder_inputs(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "latents": LATENTS.pack(),
        "pixel_format": np.array([b"yuv420p"], np.object_),
        "tail_frames": np.array([1], np.int32),
        "audio": np.array([True]),
        "progress": np.array([2, 8], np.int32),
        "device": np.array([-1], np.int32),
        **changes,
    }


@pytest.fixture
def pb_utils() -> FakePbUtils:
    return FakePbUtils()


@pytest.fixture
def denoiser(pb_utils: FakePbUtils) -> DenoiserModel:
    return DenoiserModel(StandInDenoiser(), DenoiserCounters.register(pb_utils, "denoiser_0_0"))


def test_a_denoiser_answers_a_response_a_step_and_then_the_latents(
    pb_utils: FakePbUtils, denoiser: DenoiserModel
) -> None:
    """Progress comes with empty latents; the last response carries the document; then the request ends."""
    request = FakeRequest(denoiser_inputs(audio=np.array([True])))
    serve_decoupled(pb_utils, denoiser, [request])
    assert [answer["progress"].tolist() for answer in request.sender.sent] == [[1, 3], [2, 3], [3, 3], [3, 3]]
    assert [answer["latents"].size > 0 for answer in request.sender.sent] == [False, False, False, True]
    assert all(answer["device"].tolist() == [3] for answer in request.sender.sent)
    assert all(answer["audio"].tolist() == [True] for answer in request.sender.sent)
    assert request.sender.ended == 1


@pytest.mark.parametrize(("parameters", "counted"), [("{}", 1), ("", 1), ('{"canary": true}', 0)])
def test_steps_and_renders_are_counted_but_not_a_canarys(
    pb_utils: FakePbUtils, denoiser: DenoiserModel, parameters: str, counted: int
) -> None:
    """The counters tell what was done for someone."""
    serve_decoupled(pb_utils, denoiser, [FakeRequest(denoiser_inputs(), parameter_text=parameters)])
    assert pb_utils.metrics[STEPS_METRIC].value == 3 * counted
    assert pb_utils.metrics[RENDERS_METRIC].value == counted


def test_a_cancelled_request_ends_with_its_code_and_is_no_render(
    pb_utils: FakePbUtils, denoiser: DenoiserModel
) -> None:
    """Its steps are counted, for they were computed."""
    request = FakeRequest(denoiser_inputs(), FakeSender(cancelled_after=2))
    serve_decoupled(pb_utils, denoiser, [request])
    error = request.sender.sent[-1].error
    assert error is not None
    assert (error.code, error.message.split(":")[0]) == (FakeError.CANCELLED, "CANCELLED")
    assert (pb_utils.metrics[STEPS_METRIC].value, pb_utils.metrics[RENDERS_METRIC].value) == (2, 0)
    assert request.sender.ended == 1


def test_a_request_that_fails_does_not_touch_the_next(pb_utils: FakePbUtils, denoiser: DenoiserModel) -> None:
    """Each of several requests has its own end."""
    bad = FakeRequest(denoiser_inputs(context=np.frombuffer(b"rubbish", np.uint8)))
    good = FakeRequest(denoiser_inputs())
    serve_decoupled(pb_utils, denoiser, [bad, good])
    assert bad.sender.sent[0].error is not None
    assert bad.sender.sent[0].error.code == FakeError.INVALID_ARG
    assert [answer.error for answer in good.sender.sent] == [None] * 4
    assert (bad.sender.ended, good.sender.ended) == (1, 1)


def test_conditions_are_taken_apart_by_their_spans(pb_utils: FakePbUtils) -> None:
    """Frames that lie one after the other are told apart; a seed keeps all 64 bits."""
    frames = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * np.ones((1, 32, 64, 3), np.uint8)
    arrays = denoiser_inputs(
        condition_frames=frames,
        condition_spans=np.array([[0, 9], [17, 1]], np.int32),
        condition_strengths=np.array([1.0, 0.5], np.float32),
    )
    spec = clip_spec(Request(pb_utils, FakeRequest(arrays)))
    assert spec.seed == 2**64 - 1
    assert [(anchor.frame, anchor.strength) for anchor in spec.anchors] == [(0, 1.0), (17, 0.5)]
    assert [anchor.frames[:, 0, 0, 0].tolist() for anchor in spec.anchors] == [list(range(9)), [9]]


@pytest.mark.parametrize(
    ("spans", "strengths"), [([[0, 9]], [1.0]), ([[0, 10]], []), ([[0, 11], [0, -1]], [1.0, 1.0]), ([], [])]
)
def test_conditions_that_do_not_account_for_their_frames_are_refused(
    pb_utils: FakePbUtils, spans: list[list[int]], strengths: list[float]
) -> None:
    """Too few, too many, negative, none."""
    arrays = denoiser_inputs(
        condition_frames=np.zeros((10, 32, 64, 3), np.uint8),
        condition_spans=np.array(spans, np.int32).reshape(-1, 2),
        condition_strengths=np.array(strengths, np.float32),
    )
    with pytest.raises(InvalidArgumentError, match="condition_"):
        clip_spec(Request(pb_utils, FakeRequest(arrays)))


@pytest.mark.parametrize("broken", [{"seed": np.zeros(2, np.uint64)}, {"width": np.zeros(0, np.int32)}])
def test_a_tensor_of_another_length_is_refused(pb_utils: FakePbUtils, broken: dict[str, np.ndarray]) -> None:
    """One value means one value."""
    with pytest.raises(InvalidArgumentError, match="must be one value"):
        clip_spec(Request(pb_utils, FakeRequest(denoiser_inputs(**broken))))


def test_a_missing_tensor_is_refused(pb_utils: FakePbUtils) -> None:
    """By its name."""
    arrays = denoiser_inputs()
    del arrays["fps"]
    with pytest.raises(InvalidArgumentError, match="fps is missing"):
        clip_spec(Request(pb_utils, FakeRequest(arrays)))


def test_a_decoder_answers_chunks_and_then_the_end(pb_utils: FakePbUtils) -> None:
    """Tail and waveform come with the last response alone; progress and device with every one."""
    request = FakeRequest(decoder_inputs())
    serve_decoupled(pb_utils, DecoderModel(StandInDecoder()), [request])
    answers = request.sender.sent
    assert [len(answer["frames"]) for answer in answers] == [4, 4, 0]
    assert [len(answer["tail"]) for answer in answers] == [0, 0, 1]
    assert [len(answer["waveform"]) for answer in answers] == [0, 0, 9]
    assert [answer["sample_rate"].tolist() for answer in answers] == [[0], [0], [100]]
    assert all(answer["progress"].tolist() == [2, 8] for answer in answers)


def test_a_decoder_passes_progress_on_without_decoding(pb_utils: FakePbUtils) -> None:
    """Empty latents, as a step's response in the ensemble has them, are answered at once."""
    request = FakeRequest(decoder_inputs(latents=np.zeros(0, np.uint8)))
    serve_decoupled(pb_utils, DecoderModel(StandInDecoder()), [request])
    (answer,) = request.sender.sent
    assert answer["progress"].tolist() == [2, 8]
    assert [len(answer[name]) for name in ("frames", "tail", "waveform")] == [0, 0, 0]


@pytest.mark.parametrize("text", [b"yuv444p", b"\xff\xfe"])
def test_an_unknown_pixel_format_is_refused(pb_utils: FakePbUtils, text: bytes) -> None:
    """With the names that are known, or that it is no text."""
    request = FakeRequest(decoder_inputs(pixel_format=np.array([text], np.object_)))
    serve_decoupled(pb_utils, DecoderModel(StandInDecoder()), [request])
    error = request.sender.sent[0].error
    assert error is not None
    assert error.message.startswith("INVALID_ARGUMENT: pixel_format ")


def test_a_prompt_encoder_answers_every_request(pb_utils: FakePbUtils) -> None:
    """A request that fails has an error in its place."""

    class StandInEncoder:
        def encode(self, prompt: str, negative_prompt: str) -> Context:
            if prompt == "break":
                raise RuntimeError("/secret/path")
            assert (prompt, negative_prompt) == ("über", "")
            return Context(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), torch.ones(2, 1))

    def request(text: str) -> FakeRequest:
        encoded = {"prompt": text.encode(), "negative_prompt": b""}
        return FakeRequest({name: np.array([value], np.object_) for name, value in encoded.items()})

    model = PromptEncoderModel(StandInEncoder())
    bad, good = serve_unary(pb_utils, model, [request("break"), request("über")])
    assert good["context"].dtype == np.uint8
    assert bad.error.code == FakeError.INTERNAL
    assert "/secret/path" not in bad.error.message
    assert "/secret/path" in pb_utils.log[0]
    assert "Traceback" in pb_utils.log[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), ModelErrorCode.OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ModelErrorCode.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ModelErrorCode.OUT_OF_MEMORY),
        (RuntimeError("shapes differ"), ModelErrorCode.INTERNAL),
        (InvalidArgumentError("no"), ModelErrorCode.INVALID_ARGUMENT),
        (CancelledError(), ModelErrorCode.CANCELLED),
    ],
)
def test_every_exception_has_a_code(error: Exception, code: ModelErrorCode) -> None:
    """What is not known is INTERNAL and says nothing; memory is told from everything else."""
    assert classify(error).code is code
    assert "shapes differ" not in classify(error).text


def test_memory_is_given_back_when_a_request_did_not_fit(pb_utils: FakePbUtils) -> None:
    """The client sees the code; the instance lives on."""

    class Full:
        def answer(self, request: Request, replies: Replies) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        def close(self) -> None:
            """Nothing is held."""

    request = FakeRequest({})
    serve_decoupled(pb_utils, Full(), [request])
    error = request.sender.sent[0].error
    assert error is not None
    assert (error.code, error.message.split(":")[0]) == (FakeError.UNAVAILABLE, "OUT_OF_MEMORY")
