"""What the API shows of chains and of the served checkpoint, made from their records. Pure."""

from datetime import UTC, datetime
from importlib.metadata import version

from longtake import wire
from longtake_facade.normalise import FADE_FRAMES_MAX, FPS_DEFAULT, MAX_STAGES
from longtake_facade.records import ChainRecord
from longtake_stages.contract import Capabilities


def accepted(record: ChainRecord) -> wire.ChainAccepted:
    """The answer to whoever started a chain, or changed its course."""
    base = f"/api/chains/{record.id}"
    return wire.ChainAccepted(
        id=record.id,
        state=record.state,
        events_url=f"{base}/events",
        content_url=f"{base}/video",
        cancel_url=f"{base}/cancel",
        warnings=record.warnings,
    )


def detail(record: ChainRecord, script: wire.ChainScript) -> wire.ChainDetail:
    """A chain as it stands; ``script`` with its images."""
    base = f"/api/chains/{record.id}"
    stages = [
        wire.StageDetail(
            stage_idx=row.stage_idx,
            state=row.state,
            attempt=row.attempt,
            frames=stage.frames,
            output_frames=stage.output_frames,
            video_url=f"{base}/stages/{row.stage_idx}/video" if row.key and stage.body else None,
        )
        for row, stage in zip(record.stages, record.plan.stages, strict=True)
    ]
    return wire.ChainDetail(
        id=record.id,
        state=record.state,
        created_at=_rfc3339(record.created_at),
        started_at=_rfc3339(record.started_at) if record.started_at else None,
        finished_at=_rfc3339(record.finished_at) if record.finished_at else None,
        stages=stages,
        script=script,
        total_frames=record.plan.total_frames,
        events_url=f"{base}/events",
        content_url=f"{base}/video",
        cancel_url=f"{base}/cancel",
        attempt=record.attempt,
        expires_at=_rfc3339(record.expires_at) if record.expires_at else None,
        retake_of=record.retake_of,
        error=record.error,
        warnings=record.warnings,
    )


def summary(record: ChainRecord) -> wire.ChainSummary:
    """A chain in a list."""
    base, whole = f"/api/chains/{record.id}", record.complete is not None
    return wire.ChainSummary(
        id=record.id,
        state=record.state,
        created_at=_rfc3339(record.created_at),
        prompt=record.script.stage[0].prompt,
        stage_count=len(record.stages),
        stages_done=record.done,
        total_frames=record.plan.total_frames,
        output_format=record.script.chain.output_format,
        events_url=f"{base}/events",
        started_at=_rfc3339(record.started_at) if record.started_at else None,
        finished_at=_rfc3339(record.finished_at) if record.finished_at else None,
        expires_at=_rfc3339(record.expires_at) if record.expires_at else None,
        error=record.error,
        content_url=f"{base}/video" if whole else None,
        thumbnail_url=f"{base}/thumbnail" if whole else None,
        preview_url=f"{base}/preview" if whole else None,
        retake_of=record.retake_of,
    )


def gallery_item(record: ChainRecord, size_bytes: int) -> wire.GalleryItem:
    """A completed chain in the gallery."""
    complete, settings = record.complete, record.script.chain
    assert complete is not None, "the gallery shows completed chains"
    metadata = wire.GalleryMetadata(
        prompt=record.script.stage[0].prompt,
        model=settings.model,
        seed=settings.seed or 0,
        steps=settings.steps,
        guidance=settings.guidance,
        width=complete.width,
        height=complete.height,
        frames=complete.frames,
        fps=complete.fps,
        version=version("longtake"),
        chain=record.id,
    )
    return wire.GalleryItem(
        filename=f"{record.id}.{complete.format}",
        metadata=metadata,
        timestamp=int(record.finished_at or record.created_at),
        format=complete.format,
        size_bytes=size_bytes,
    )


def limits(served: Capabilities) -> wire.ChainLimits:
    """What is enforced."""
    return wire.ChainLimits(
        model=served.model,
        frames_per_clip_cap=served.frames_cap,
        frames_per_clip_recommended=served.frames_recommended,
        max_stages=MAX_STAGES,
        max_total_frames=MAX_STAGES * served.frames_cap,
        fade_frames_max=FADE_FRAMES_MAX,
        transition_modes=list(wire.Transition),
        quantization_family=served.quantization,
        frame_grid=served.frame_grid,
        size_multiple=served.size_multiple,
        max_pixels=served.max_pixels,
        width=served.width,
        height=served.height,
        motion_tail_frames=served.motion_tail_frames,
        fps=FPS_DEFAULT,
        steps=served.steps,
        guidance=served.guidance,
        supports_audio=bool(served.audio_sample_rate),
    )


def model_info(served: Capabilities) -> wire.ModelInfo:
    """The served model; it is loaded, or there would be no server."""
    return wire.ModelInfo(
        name=served.model,
        family=served.family,
        downloaded=True,
        is_loaded=True,
        description=served.description,
        default_width=served.width,
        default_height=served.height,
        default_steps=served.steps,
        default_guidance=served.guidance,
        size_gb=served.size_bytes / 1e9,
    )


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
