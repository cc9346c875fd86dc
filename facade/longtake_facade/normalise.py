"""ChainRequest to ChainScript, or an error for every field at fault. Pure: all a request can be refused for is here.

Wording and order of the checks follow the original (``mold``, ``ChainRequest::normalise``) where it has them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from longtake import wire
from longtake.wire import ChainRequest, ChainScript, ChainStage, Problem, ScriptChain, ScriptStage, Transition
from longtake_facade.images import MAX_IMAGES_BYTES, BadImage, check_image, fit_image
from longtake_facade.palette import in_palette
from longtake_facade.parse import Invalid
from longtake_facade.plan import Plan, Shot, StitchFault, full_length, plan
from longtake_stages.contract import Capabilities
from longtake_stages.geometry import ceil_to_grid, on_grid

MAX_STAGES = 16
MAX_PROMPT = 4096
FADE_FRAMES_MAX = 32
FADE_FRAMES_DEFAULT = 8
MIN_FRAMES = 9
FPS_DEFAULT = 24
# The models take guidance as a 32-bit float; what is beyond would arrive as infinity.
MAX_FLOAT32 = (2 - 2**-23) * 2.0**127
RESERVED = ("model", "loras", "references")


class UnknownModel(Exception):
    """The model is not served here."""


@dataclass(frozen=True)
class Normalised:
    """A request that can be rendered and stitched."""

    script: ChainScript
    plan: Plan
    warnings: tuple[Problem, ...]
    seed_drawn: bool


def normalise(request: ChainRequest, served: Capabilities, draw_seed: Callable[[], int]) -> Normalised:
    """Fill in every value and refuse what cannot be done.

    Raises:
        UnknownModel: ``model`` is not the served one.
        Invalid: any rule is broken; lists every field at fault.
    """
    if request.model not in (None, served.model):
        raise UnknownModel(f"model `{request.model}` is not served here; served: `{served.model}`")
    if request.stages:
        stages, total = request.stages, request.total_frames
        _refuse(_beside_stages(request))
    else:
        stages, total = _expand(request, served)
    tail = _or(request.motion_tail_frames, served.motion_tail_frames)
    _refuse(
        [
            *_chain_problems(request, served),
            *(problem for i, stage in enumerate(stages) for problem in _stage_problems(i, stage, served)),
            *_tail_problems(stages, tail, served),
            *_image_problems(stages, expanded=not request.stages),
        ]
    )
    filled = [_filled(i, stage) for i, stage in enumerate(stages)]
    defaults = {i for i, stage in enumerate(stages) if stage.fade_frames is None}
    timeline = _stitchable(filled, tail, total, defaults)
    shorter = timeline.total_frames < full_length(_shots(filled), tail)
    audible = (request.output_format or "mp4") == "mp4"
    settings = ScriptChain(
        model=served.model,
        width=_or(request.width, served.width),
        height=_or(request.height, served.height),
        fps=_or(request.fps, FPS_DEFAULT),
        seed=draw_seed() if request.seed is None else request.seed,
        steps=_or(request.steps, served.steps),
        guidance=served.guidance if request.guidance is None else request.guidance,
        strength=1.0 if request.strength is None else request.strength,
        motion_tail_frames=tail,
        output_format=request.output_format or "mp4",
        enable_audio=(request.enable_audio is not False and bool(served.audio_sample_rate)) if audible else None,
        total_frames=timeline.total_frames if shorter else None,
    )
    return Normalised(
        script=ChainScript(schema=wire.SCHEMA, chain=settings, stage=filled),
        plan=timeline,
        warnings=(*_warnings(settings, filled), *_image_warnings(request, settings, filled, served)),
        seed_drawn=request.seed is None,
    )


def plan_of(script: ChainScript) -> Plan:
    """The plan of a script that was normalised before."""
    return plan(_shots(script.stage), script.chain.motion_tail_frames, script.chain.total_frames)


def stage_seed(seed: int, stage: ChainStage) -> int:
    """``seed XOR seed_offset`` where the stage has an offset, else ``seed`` (0..2**64-1)."""
    return seed if stage.seed_offset is None else seed ^ stage.seed_offset


def grid_text(served: Capabilities) -> str:
    """The lengths a clip may have, in words: ``8k+1 (9, 17, 25, …, 97)``."""
    step = served.frame_grid
    return f"{step}k+1 ({step + 1}, {2 * step + 1}, {3 * step + 1}, …, {served.frames_cap})"


# ------------------------------------------------------------------------------------------------------ auto-expand


def _expand(request: ChainRequest, served: Capabilities) -> tuple[list[ChainStage], int]:
    """Stages for ``total_frames`` of one prompt: all smooth, the last one the shortest clip that reaches the length."""
    total, clip = request.total_frames, _or(request.clip_frames, served.frames_cap)
    tail = _or(request.motion_tail_frames, served.motion_tail_frames)
    if request.prompt is None:
        _fail("stages", "chain request needs either stages[] or prompt + total_frames")
    if total is None:
        _fail("total_frames", "chain auto-expand requires total_frames")
    if total == 0:
        _fail("total_frames", "chain total_frames must be > 0")
    if clip == 0:
        _fail("clip_frames", "chain clip_frames must be > 0")
    if not _clip_length(clip, served):
        _fail("clip_frames", f"chain clip_frames ({clip}) must be {grid_text(served)}")
    lengths = [clip]
    if total > clip:
        if tail >= clip:
            _fail("motion_tail_frames", f"motion_tail_frames ({tail}) must be strictly less than clip_frames ({clip})")
        count = 1 + -(-(total - clip) // (clip - tail))
        if count > MAX_STAGES:
            hint = "(try reducing total_frames or increasing clip_frames)"
            _fail("total_frames", f"auto-expand would produce {count} stages; maximum is {MAX_STAGES} {hint}")
        lengths = [clip] * count
    missing = total - sum(lengths[:-1]) + tail * (len(lengths) - 1)
    lengths[-1] = max(MIN_FRAMES, ceil_to_grid(missing, served.frame_grid))
    stages = [ChainStage(prompt=request.prompt, frames=frames, source_image=request.source_image) for frames in lengths]
    return stages, total


def _beside_stages(request: ChainRequest) -> Iterator[Problem]:
    for name in ("prompt", "clip_frames", "source_image"):
        if getattr(request, name) is not None:
            yield Problem(path=name, message=f"`{name}` belongs to auto-expand and has no place beside stages[]")


# ------------------------------------------------------------------------------------------------------- the checks


def _chain_problems(request: ChainRequest, served: Capabilities) -> Iterator[Problem]:
    if len(request.stages) > MAX_STAGES:
        count = f"chain request has {len(request.stages)} stages; maximum is {MAX_STAGES}"
        yield Problem(path="stages", message=count)
    yield from _size_problems(request, served)
    for name, low, high in (("fps", 1, 120), ("steps", 1, 100)):
        value = getattr(request, name)
        if value is not None and not low <= value <= high:
            yield Problem(path=name, message=f"{name} ({value}) must be {low}..{high}")
    if request.seed is not None and request.seed > wire.MAX_U64:
        yield Problem(path="seed", message=f"seed ({request.seed}) must be 0..2^64-1")
    if request.guidance is not None and not 0 <= request.guidance <= MAX_FLOAT32:
        yield Problem(path="guidance", message=f"guidance ({request.guidance}) must be a finite number >= 0")
    if request.strength is not None and not 0 <= request.strength <= 1:
        yield Problem(path="strength", message=f"strength ({request.strength}) must be 0..1")
    if request.output_format in ("png", "jpeg"):
        text = f"output_format `{request.output_format}` is a still image; a chain delivers mp4, gif, apng or webp"
        yield Problem(path="output_format", message=text)
    yield from _audio_problems(request, served)
    yield from _placement_problems(request, served)


def _size_problems(request: ChainRequest, served: Capabilities) -> Iterator[Problem]:
    step = served.size_multiple
    width, height = _or(request.width, served.width), _or(request.height, served.height)
    for name, value in (("width", width), ("height", height)):
        if value == 0 or value % step:
            yield Problem(path=name, message=f"{name} ({value}) must be a positive multiple of {step}")
    if width * height > served.max_pixels:
        path = "height" if request.width is None else "width"
        text = f"width x height ({width}x{height}) must be at most {served.max_pixels} pixels"
        yield Problem(path=path, message=text)


def _audio_problems(request: ChainRequest, served: Capabilities) -> Iterator[Problem]:
    if not request.enable_audio:
        return
    if not served.audio_sample_rate:
        yield Problem(path="enable_audio", message=f"{served.model} makes no sound; enable_audio must be false")
    if request.output_format not in (None, "mp4"):
        text = f"{request.output_format} carries no sound; enable_audio must be false or output_format mp4"
        yield Problem(path="enable_audio", message=text)


def _placement_problems(request: ChainRequest, served: Capabilities) -> Iterator[Problem]:
    """A request cannot move a model: only ``auto``, or what is so anyway, is accepted."""
    if request.placement is None:
        return
    named = {"text_encoders": request.placement.text_encoders, **(request.placement.advanced or {})}
    gpus = served.gpu_ordinals
    where = f"gpu {', '.join(map(str, gpus))}" if gpus else "the cpu"
    for name, ref in named.items():
        fits = (
            ref is None
            or ref.kind == "auto"
            or (ref.kind == "cpu" and not gpus)
            or (ref.kind == "gpu" and ref.ordinal is not None and gpus == (ref.ordinal,))
        )
        if not fits:
            text = f"placement.{name}: models here run on {where} and cannot be moved; use {{kind: auto}}"
            yield Problem(path="placement", message=text)


def _stage_problems(i: int, stage: ChainStage, served: Capabilities) -> Iterator[Problem]:
    at = f"stages[{i}]"
    if stage.frames == 0:
        yield Problem(path=f"{at}.frames", message=f"stage {i} has 0 frames")
    elif not _clip_length(stage.frames, served):
        text = f"stage {i} has {stage.frames} frames; {served.family} requires {grid_text(served)}"
        yield Problem(path=f"{at}.frames", message=text)
    if not 1 <= len(stage.prompt.strip()) <= MAX_PROMPT:
        text = f"stage {i}'s prompt must have 1..{MAX_PROMPT} characters; it has {len(stage.prompt.strip())}"
        yield Problem(path=f"{at}.prompt", message=text)
    if stage.negative_prompt is not None and len(stage.negative_prompt) > MAX_PROMPT:
        text = f"stage {i}'s negative_prompt must have at most {MAX_PROMPT} characters"
        yield Problem(path=f"{at}.negative_prompt", message=text)
    if stage.seed_offset is not None and stage.seed_offset > wire.MAX_U64:
        yield Problem(path=f"{at}.seed_offset", message=f"stage {i}'s seed_offset must be 0..2^64-1")
    if stage.fade_frames is not None and not 1 <= stage.fade_frames <= FADE_FRAMES_MAX:
        text = f"stage {i}'s fade_frames ({stage.fade_frames}) must be 1..{FADE_FRAMES_MAX}"
        yield Problem(path=f"{at}.fade_frames", message=text)
    for name in RESERVED:
        if getattr(stage, name):
            yield Problem(path=f"{at}.{name}", message=f"stage {i}: `{name}` is reserved and not yet supported")


def _tail_problems(stages: list[ChainStage], tail: int, served: Capabilities) -> Iterator[Problem]:
    """K is checked only where a smooth boundary carries it."""
    smooth = [i for i, stage in enumerate(stages) if i and stage.transition is Transition.SMOOTH]
    path = "motion_tail_frames"
    if smooth and tail and not on_grid(tail, served.frame_grid):
        step = served.frame_grid
        allowed = f"0 or {step}k+1 (1, {step + 1}, {2 * step + 1}, …)"
        yield Problem(path=path, message=f"motion_tail_frames ({tail}) must be {allowed}")
    for i in sorted({side for boundary in smooth for side in (boundary - 1, boundary)}):
        frames = stages[i].frames
        if tail and tail >= frames:
            text = f"motion_tail_frames ({tail}) must be strictly less than stage {i}'s frames ({frames})"
            yield Problem(path=path, message=text)


def _image_problems(stages: list[ChainStage], *, expanded: bool) -> Iterator[Problem]:
    checked: set[int] = set()
    for i, stage in enumerate(stages):
        if stage.source_image is None or id(stage.source_image) in checked:
            continue
        checked.add(id(stage.source_image))
        path = "source_image" if expanded else f"stages[{i}].source_image"
        try:
            check_image(stage.source_image)
        except BadImage as error:
            yield Problem(path=path, message=f"{path}: {error}")
    total = sum(len(stage.source_image) for stage in stages if stage.source_image is not None)
    if total > MAX_IMAGES_BYTES:
        path = "source_image" if expanded else "stages"
        text = f"the images of all stages have {total} bytes; at most {MAX_IMAGES_BYTES} (48 MiB) are allowed"
        yield Problem(path=path, message=text)


# ----------------------------------------------------------------------------------------------------- the timeline


def _filled(i: int, stage: ChainStage) -> ScriptStage:
    """A stage with its values filled in; the first joins nothing, so it counts as smooth."""
    transition = Transition.SMOOTH if i == 0 else stage.transition
    return ScriptStage(
        prompt=stage.prompt.strip(),
        frames=stage.frames,
        transition=transition,
        negative_prompt=stage.negative_prompt,
        seed_offset=stage.seed_offset,
        fade_frames=_fade(stage) if transition is Transition.FADE else stage.fade_frames,
        source_image=stage.source_image,
    )


def _fade(stage: ChainStage) -> int:
    return FADE_FRAMES_DEFAULT if stage.fade_frames is None else stage.fade_frames


def _shots(stages: list[ScriptStage]) -> list[Shot]:
    return [Shot(stage.frames, stage.transition, _fade(stage)) for stage in stages]


def _stitchable(stages: list[ScriptStage], tail: int, total: int | None, defaults: set[int]) -> Plan:
    shots = _shots(stages)
    length = full_length(shots, tail)
    # A grid of 8 leaves at most 7 frames to trim; the shortest clip, which has no shorter one below, leaves 8.
    most = 8 if shots[-1].frames == MIN_FRAMES else 7
    if total is not None and not max(1, length - most) <= total <= length:
        allowed = f"must be {max(1, length - most)}..{length}, the length of its stages"
        _fail("total_frames", f"total_frames ({total}) {allowed}")
    try:
        return plan(shots, tail, total)
    except StitchFault as fault:
        if fault.field == "total_frames":
            _fail("total_frames", f"total_frames ({total}): {fault}")
        default = f", the default of {FADE_FRAMES_DEFAULT}" if fault.stage in defaults else ""
        path = f"stages[{fault.stage}].fade_frames"
        _fail(path, f"{path}{default}: {fault}")


def _warnings(settings: ScriptChain, stages: list[ScriptStage]) -> Iterator[Problem]:
    for i, stage in enumerate(stages):
        if stage.negative_prompt and settings.guidance <= 1:
            text = f"stage {i}'s negative_prompt has no effect with guidance {settings.guidance:g} (<= 1)"
            yield Problem(path=f"stages[{i}].negative_prompt", message=text)
        if stage.fade_frames is not None and stage.transition is not Transition.FADE:
            text = f"stage {i} is no fade, its fade_frames has no effect"
            yield Problem(path=f"stages[{i}].fade_frames", message=text)


def _image_warnings(
    request: ChainRequest, settings: ScriptChain, stages: list[ScriptStage], served: Capabilities
) -> Iterator[Problem]:
    """One for each picture that the model cannot draw; in a request of stages, at every stage that has it."""
    images = [(f"stages[{i}].source_image", stage.source_image) for i, stage in enumerate(stages)]
    if not request.stages:
        images = [("source_image", request.source_image)]
    colours = ", ".join("#" + bytes(colour).hex() for colour in served.image_palette)
    text = (
        f"the model knows only pictures of a flat shape on a flat background, in the colours {colours}; "
        "the clip will show the nearest scene that it can draw rather than this picture"
    )
    known: dict[bytes, bool] = {}
    for path, image in images:
        if image is None or not served.image_palette:
            continue
        if image not in known:
            known[image] = in_palette(fit_image(image, settings.width, settings.height)[0], served.image_palette)
        if not known[image]:
            yield Problem(path=path, message=text)


def _clip_length(frames: int, served: Capabilities) -> bool:
    return MIN_FRAMES <= frames <= served.frames_cap and on_grid(frames, served.frame_grid)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _refuse(problems: Iterator[Problem] | list[Problem]) -> None:
    found = list(problems)
    if found:
        raise Invalid(found)


def _fail(path: str, message: str) -> NoReturn:
    raise Invalid([Problem(path=path, message=message)])
