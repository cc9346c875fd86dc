"""The wire: every message between client and server, and nothing else.

The chain request, the script and the completion are the published contract of the project ``mold``
(crate ``mold-ai-core``: ``ChainRequest``, ``ChainScript``, ``SseChainCompleteEvent``), so that its clients work here
unchanged; what it lacks is additive. Conventions:

* ``bytes`` are base64 in JSON (standard alphabet, padded).
* On output an optional key that holds nothing is absent, never ``null``; on input ``null`` counts as absent.
* Requests refuse unknown keys (a typo in ``transition`` would otherwise mean smooth); answers and events tolerate
  them, so that a newer server can talk to an older client.
* Sizes are pixels, times milliseconds, unless a name says otherwise.
"""

import enum
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

SCHEMA: Final = "mold.chain.v1"

U32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
# msgspec's bounds are 64-bit signed; the upper half of u64 seeds is checked by the server's normaliser.
U64 = Annotated[int, Meta(ge=0)]
MAX_U64: Final = 2**64 - 1

OutputFormat = Literal["mp4", "gif", "apng", "webp", "png", "jpeg"]
"""As the original enumerates them; a chain refuses the still formats ``png`` and ``jpeg``."""

CHAIN_ID_HEADER: Final = "X-Chain-Id"
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
PAYLOAD_HEADER: Final = "X-Mold-SSE-Payload"
METADATA_ONLY: Final = "metadata-only"


class Transition(enum.StrEnum):
    """How a stage joins the one before it."""

    SMOOTH = "smooth"
    CUT = "cut"
    FADE = "fade"


class ChainState(enum.StrEnum):
    """Where a chain is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens unless someone resumes it."""
        return self in (ChainState.COMPLETED, ChainState.FAILED, ChainState.CANCELLED)


class StageState(enum.StrEnum):
    """Where one stage of a chain is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"


class ErrorCode(enum.StrEnum):
    """Codes of answers before a stream starts (first group) and of ``error`` events (second)."""

    BAD_REQUEST = "BAD_REQUEST"
    UNAUTHORIZED = "UNAUTHORIZED"
    FORBIDDEN_HOST = "FORBIDDEN_HOST"
    NOT_FOUND = "NOT_FOUND"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    CHAIN_NOT_FOUND = "CHAIN_NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    WRONG_STATE = "WRONG_STATE"
    IDEMPOTENCY_CONFLICT = "IDEMPOTENCY_CONFLICT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    RATE_LIMITED = "RATE_LIMITED"
    QUEUE_FULL = "QUEUE_FULL"

    STAGE_FAILED = "STAGE_FAILED"
    CANCELLED = "CANCELLED"
    ENCODE_FAILED = "ENCODE_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NO_BACKEND = "NO_BACKEND"
    INTERNAL = "INTERNAL"


# ---------------------------------------------------------------------------------------------------- the request


class Request(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what clients send: unknown keys are refused."""


class DeviceRef(Request):
    """A device a component is wanted on."""

    kind: Literal["auto", "cpu", "gpu"]
    ordinal: U32 | None = None
    """Of the GPU; only with ``kind: gpu``."""


class DevicePlacement(Request):
    """Where the components are wanted. Checked against what is served; requests cannot move a model."""

    text_encoders: DeviceRef = msgspec.field(default_factory=lambda: DeviceRef(kind="auto"))
    advanced: dict[str, DeviceRef | None] | None = None


class ChainStage(Request):
    """One stage of a request: one clip.

    ``frames`` is on the model's grid (``8k+1``), 9 up to its cap. ``source_image`` is a PNG, JPEG or WebP file.
    """

    prompt: str
    frames: U32
    transition: Transition = Transition.SMOOTH
    negative_prompt: str | None = None
    seed_offset: U64 | None = None
    """The stage's seed is ``seed XOR seed_offset``."""
    fade_frames: U32 | None = None
    """Length of the fade that begins this stage, 1..32."""
    source_image: bytes | None = None
    loras: list[Any] = []
    references: list[Any] = []
    model: str | None = None


class ChainRequest(Request):
    """What a client asks for: either ``stages``, or ``prompt`` and ``total_frames`` to be expanded into stages."""

    model: str | None = None
    stages: list[ChainStage] = []
    motion_tail_frames: U32 | None = None
    """K: frames a smooth stage takes over from the one before."""
    width: U32 | None = None
    height: U32 | None = None
    fps: U32 | None = None
    seed: U64 | None = None
    steps: U32 | None = None
    guidance: float | None = None
    strength: float | None = None
    """0..1, how strongly the first stage's image holds."""
    output_format: OutputFormat | None = None
    placement: DevicePlacement | None = None
    enable_audio: bool | None = None
    total_frames: U32 | None = None
    prompt: str | None = None
    clip_frames: U32 | None = None
    source_image: bytes | None = None


class Retake(Request):
    """Render one stage again; without a prompt or an offset a new offset is drawn."""

    stage_idx: U32
    prompt: str | None = None
    seed_offset: U64 | None = None


IGNORED_REQUEST_KEYS: Final = frozenset(
    {
        "original_prompt",
        "batch_id",
        "batch_index",
        "batch_count",
        "title",
        "tags",
        "collection",
        "ephemeral",
    }
)
"""Keys that the original's newer pages send: accepted with a warning, without effect."""


# ------------------------------------------------------------------------------------------------------ the script


class ScriptStage(ChainStage, kw_only=True, forbid_unknown_fields=False):
    """A stage as it was run."""

    transition: Transition


class ScriptChain(Struct, kw_only=True, omit_defaults=True):
    """The settings of a chain, every value filled in."""

    model: str
    width: U32
    height: U32
    fps: U32
    seed: U64 | None = None
    steps: U32
    guidance: float
    strength: float
    motion_tail_frames: U32
    output_format: OutputFormat
    enable_audio: bool | None = None
    total_frames: U32 | None = None
    """Only where the video is shorter than the formula's length."""


class ChainScript(Struct, kw_only=True):
    """The canonical script: the normalised request. Sent again it gives the same video."""

    schema: str
    chain: ScriptChain
    stage: list[ScriptStage]

    def request(self) -> ChainRequest:
        """The request that renders this script again."""
        settings = msgspec.structs.asdict(self.chain)
        stages = [ChainStage(**msgspec.structs.asdict(stage)) for stage in self.stage]
        return ChainRequest(stages=stages, **settings)


# ------------------------------------------------------------------------------------------------- progress events


class Event(Struct, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of the ``progress`` events, told apart by ``type``."""


class Queued(Event, tag="queued"):
    """The chain waits; ``position`` 0 is the next to run."""

    position: int


class ChainStart(Event, tag="chain_start"):
    """Rendering begins. ``estimated_total_frames`` is the exact length of the video."""

    stage_count: int
    estimated_total_frames: int


class StageStart(Event, tag="stage_start"):
    """Denoising of a stage begins; ``attempt`` is there from the second time on."""

    stage_idx: int
    attempt: int = 1


class DenoiseStep(Event, tag="denoise_step"):
    """Step ``step`` (from 1) of ``total`` is done."""

    stage_idx: int
    step: int
    total: int


class StageDone(Event, tag="stage_done"):
    """A stage is rendered; ``frames_emitted`` is its clip's length before any trim."""

    stage_idx: int
    frames_emitted: int


class StageMedia(Event, tag="stage_media"):
    """A stage's part of the timeline can be played from ``url``."""

    stage_idx: int
    url: str


class Stitching(Event, tag="stitching"):
    """All stages are done."""

    total_frames: int


class Encoding(Event, tag="encoding"):
    """``frames`` of ``total`` are in the file."""

    frames: int
    total: int


class Stopped(Event, tag="stopped"):
    """An earlier attempt ended with ``code``; the chain was resumed since."""

    code: str


ProgressEvent = Queued | ChainStart | StageStart | DenoiseStep | StageDone | StageMedia | Stitching | Encoding | Stopped


# ------------------------------------------------------------------------------------------------- terminal events


class VramEstimate(Struct, kw_only=True):
    """Estimated peak of GPU memory over all stages, and whether the served GPU has it."""

    worst_case_bytes: int
    fits: bool


class Join(Struct, kw_only=True):
    """How visible a boundary is, in 0..255 units on RGB reduced to at most 320 pixels.

    ``colour_shift``: mean absolute difference of the channel means of the two frames at the boundary.
    ``frame_jump``: mean absolute difference of their pixels. ``inner_jump``: mean frame-to-frame difference inside
    the later clip, to compare it with.
    """

    stage_idx: int
    transition: Transition
    colour_shift: float
    frame_jump: float
    inner_jump: float


class Complete(Struct, kw_only=True, omit_defaults=True):
    """The ``complete`` event: the video, what it is, and what made it."""

    video: bytes
    format: OutputFormat
    width: int
    height: int
    frames: int
    fps: int
    stage_count: int
    script: ChainScript
    thumbnail: bytes | None = None
    gif_preview: bytes | None = None
    has_audio: bool = False
    duration_ms: int | None = None
    audio_sample_rate: int | None = None
    audio_channels: int | None = None
    gpu: int | None = None
    generation_time_ms: int | None = None
    vram_estimate: VramEstimate | None = None
    chain_id: str | None = None
    content_url: str | None = None
    sha256: str | None = None
    seed_drawn: bool | None = None
    joins: list[Join] | None = None


class ChainError(Struct, kw_only=True, omit_defaults=True):
    """The ``error`` event. ``code`` is one of :class:`ErrorCode`; ``elapsed_stages`` stages were finished."""

    message: str
    code: str = ""
    chain_id: str | None = None
    failed_stage_idx: int | None = None
    elapsed_stages: int | None = None
    elapsed_ms: int | None = None
    stage_error: str | None = None
    resumable: bool | None = None


# --------------------------------------------------------------------------------------------------------- answers


class VideoPayload(Struct, kw_only=True, omit_defaults=True):
    """The video of a blocking answer. The original emits its bytes as arrays of integers; both are read."""

    data: bytes | list[int]
    format: OutputFormat
    width: int
    height: int
    frames: int
    fps: int
    thumbnail: bytes | list[int]
    gif_preview: bytes | list[int]
    has_audio: bool = False
    duration_ms: int | None = None
    audio_sample_rate: int | None = None
    audio_channels: int | None = None


class ChainResponse(Struct, kw_only=True, omit_defaults=True):
    """The answer of the blocking endpoint."""

    video: VideoPayload
    stage_count: int
    script: ChainScript
    gpu: int | None = None
    vram_estimate: VramEstimate | None = None
    chain_id: str | None = None


class ChainFailure(Struct, kw_only=True, omit_defaults=True):
    """The blocking endpoint's answer (502) when a stage failed."""

    error: str
    failed_stage_idx: int
    elapsed_stages: int
    elapsed_ms: int
    stage_error: str
    chain_id: str | None = None


class Problem(Struct, kw_only=True, frozen=True):
    """What is wrong with a field, or worth a warning. ``path`` like ``stages[2].fade_frames``."""

    path: str
    message: str


class ApiError(Struct, kw_only=True, omit_defaults=True):
    """Any error before a stream starts. ``problems`` lists all that was found, the first as ``error``."""

    error: str
    code: str
    path: str | None = None
    request_id: str | None = None
    problems: list[Problem] = []


class ChainAccepted(Struct, kw_only=True, omit_defaults=True):
    """A chain was created, or found under its idempotency key."""

    id: str
    state: ChainState
    events_url: str
    content_url: str
    cancel_url: str
    warnings: list[Problem] = []


class StageDetail(Struct, kw_only=True, omit_defaults=True):
    """A stage of a chain as it stands; ``video_url`` once its part can be played."""

    stage_idx: int
    state: StageState
    attempt: int
    frames: int
    output_frames: int
    video_url: str | None = None


class ChainDetail(Struct, kw_only=True, omit_defaults=True):
    """A chain as it stands. Times are RFC 3339 in UTC."""

    id: str
    state: ChainState
    created_at: str
    stages: list[StageDetail]
    script: ChainScript
    total_frames: int
    events_url: str
    content_url: str
    cancel_url: str
    attempt: int = 1
    """How often it was started: 1, and one more each time it was resumed."""
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    error: ChainError | None = None
    retake_of: str | None = None
    warnings: list[Problem] = []
    """Of its request, as whoever started it was told."""


class ChainSummary(Struct, kw_only=True, omit_defaults=True):
    """A chain in a list. ``prompt`` is its first stage's; the URLs are there once their files are."""

    id: str
    state: ChainState
    created_at: str
    prompt: str
    stage_count: int
    stages_done: int
    total_frames: int
    output_format: OutputFormat
    events_url: str
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    error: ChainError | None = None
    content_url: str | None = None
    thumbnail_url: str | None = None
    preview_url: str | None = None
    retake_of: str | None = None


class ChainList(Struct, kw_only=True, omit_defaults=True):
    """A page of chains, newest first; ``next_cursor`` brings the next one."""

    chains: list[ChainSummary]
    next_cursor: str | None = None


class PlannedStage(Struct, kw_only=True):
    """What a stage adds to the video: ``output_frames`` from ``start_frame`` on, its fade-in included."""

    stage_idx: int
    frames: int
    start_frame: int
    output_frames: int


class ValidationReport(Struct, kw_only=True, omit_defaults=True):
    """What would run. ``takes`` lists the stages of each run of smooth joins, which render in order."""

    script: ChainScript
    takes: list[list[int]]
    stages: list[PlannedStage]
    total_frames: int
    seconds: float
    warnings: list[Problem]
    seed_drawn: bool
    vram_estimate: VramEstimate | None = None


class ChainLimits(Struct, kw_only=True):
    """What is enforced for a model."""

    model: str
    frames_per_clip_cap: int
    frames_per_clip_recommended: int
    max_stages: int
    max_total_frames: int
    fade_frames_max: int
    transition_modes: list[Transition]
    quantization_family: str
    frame_grid: int
    size_multiple: int
    max_pixels: int
    width: int
    height: int
    motion_tail_frames: int
    fps: int
    steps: int
    guidance: float
    supports_audio: bool


class ModelInfo(Struct, kw_only=True):
    """A served model."""

    name: str
    family: str
    downloaded: bool
    is_loaded: bool
    description: str
    default_width: int
    default_height: int
    default_steps: int
    default_guidance: float
    size_gb: float


class GalleryMetadata(Struct, kw_only=True):
    """How a gallery file was made; ``chain`` is the id of its chain."""

    prompt: str
    model: str
    seed: int
    steps: int
    guidance: float
    width: int
    height: int
    frames: int
    fps: int
    version: str
    chain: str


class GalleryItem(Struct, kw_only=True):
    """A finished video. ``timestamp``: Unix seconds."""

    filename: str
    metadata: GalleryMetadata
    timestamp: int
    format: OutputFormat
    size_bytes: int
