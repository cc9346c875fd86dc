"""The large answers, in pieces: a video of any size goes out as base64 without being held, or holding up the loop."""

import asyncio
import binascii
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from longtake import wire
from longtake_facade.records import ChainRecord, with_images
from longtake_facade.storage import Store

# A multiple of three, so that the pieces' base64 is the whole's.
_BLOCK = 3 * 2**18


async def complete_json(record: ChainRecord, store: Store, *, inline: bool) -> AsyncIterator[bytes]:
    """The ``complete`` event of a completed chain; ``inline``: with the video's bytes, else ``"video":""``."""

    def filled() -> bytes:
        complete = _complete(record)
        folder = store.chain(record.id)
        return msgspec.json.encode(
            msgspec.structs.replace(
                complete,
                thumbnail=(folder / "thumbnail.png").read_bytes(),
                gif_preview=(folder / "preview.gif").read_bytes(),
                script=with_images(complete.script, store),
            )
        )

    json = await asyncio.to_thread(filled)
    async for piece in _spliced(json, b'{"video":"', _video(record, store) if inline else None):
        yield piece


async def response_json(record: ChainRecord, store: Store) -> AsyncIterator[bytes]:
    """The blocking endpoint's answer of a completed chain."""

    def filled() -> bytes:
        complete = _complete(record)
        folder = store.chain(record.id)
        video = wire.VideoPayload(
            data=b"",
            format=complete.format,
            width=complete.width,
            height=complete.height,
            frames=complete.frames,
            fps=complete.fps,
            thumbnail=(folder / "thumbnail.png").read_bytes(),
            gif_preview=(folder / "preview.gif").read_bytes(),
            has_audio=complete.has_audio,
            duration_ms=complete.duration_ms,
            audio_sample_rate=complete.audio_sample_rate,
            audio_channels=complete.audio_channels,
        )
        return msgspec.json.encode(
            wire.ChainResponse(
                video=video,
                stage_count=complete.stage_count,
                script=with_images(complete.script, store),
                gpu=complete.gpu,
                vram_estimate=complete.vram_estimate,
                chain_id=record.id,
            )
        )

    json = await asyncio.to_thread(filled)
    async for piece in _spliced(json, b'{"video":{"data":"', _video(record, store)):
        yield piece


def _complete(record: ChainRecord) -> wire.Complete:
    assert record.complete is not None, "only a completed chain has a result"
    return record.complete


def _video(record: ChainRecord, store: Store) -> Path:
    return store.chain(record.id) / f"video.{record.script.chain.output_format}"


async def _spliced(json: bytes, before: bytes, file: Path | None) -> AsyncIterator[bytes]:
    """``json``, with the base64 of a file right after ``before``, with which it begins."""
    assert json.startswith(before)
    yield before
    if file is not None:
        with await asyncio.to_thread(file.open, "rb") as stream:
            while block := await asyncio.to_thread(stream.read, _BLOCK):
                yield await asyncio.to_thread(binascii.b2a_base64, block, newline=False)
    for start in range(len(before), len(json), _BLOCK):
        yield json[start : start + _BLOCK]
