"""The large answers: piece by piece the very JSON of the whole, for a video of any size."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chains import chain, stage
from longtake import wire
from longtake_facade import payload
from longtake_facade.payload import complete_json, response_json
from longtake_facade.records import ChainRecord
from records import Records, completion, records

THUMBNAIL, PREVIEW = b"\x89PNG thumbnail", b"GIF89a preview"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    with records(tmp_path_factory.mktemp("kept"), max_queued=10_000) as opened:
        yield opened


async def completed(kept: Records, video: bytes, **other: object) -> ChainRecord:
    """A chain that has ended with this video."""
    record = await kept.new(chain(stage("a"), stage('"quoted" \\ \n \u2028 é')))
    with kept.store.writing() as folder:
        for name, data in (("video.mp4", video), ("thumbnail.png", THUMBNAIL), ("preview.gif", PREVIEW)):
            (folder / name).write_bytes(data)
        kept.store.commit(folder, kept.store.chain(record.id))
    await kept.registry.begin(record.id)
    await kept.registry.complete(record.id, completion(record, **other))
    ended = await kept.registry.get(record.id)
    assert ended is not None
    return ended


async def pieces_of(pieces: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in pieces]


def whole_complete(record: ChainRecord, video: bytes) -> wire.Complete:
    assert record.complete is not None
    return msgspec.structs.replace(record.complete, video=video, thumbnail=THUMBNAIL, gif_preview=PREVIEW)


def whole_response(record: ChainRecord, video: bytes) -> wire.ChainResponse:
    done = record.complete
    assert done is not None
    shared = {name: getattr(done, name) for name in ("format", "width", "height", "frames", "fps")}
    sound = {name: getattr(done, name) for name in ("has_audio", "duration_ms", "audio_sample_rate", "audio_channels")}
    return wire.ChainResponse(
        video=wire.VideoPayload(data=video, thumbnail=THUMBNAIL, gif_preview=PREVIEW, **shared, **sound),
        stage_count=done.stage_count,
        script=done.script,
        gpu=done.gpu,
        vram_estimate=done.vram_estimate,
        chain_id=record.id,
    )


EVERYTHING = {
    "has_audio": True,
    "duration_ms": 1000,
    "audio_sample_rate": 16000,
    "audio_channels": 2,
    "gpu": 1,
    "vram_estimate": wire.VramEstimate(worst_case_bytes=10, fits=True),
}


@pytest.mark.parametrize("other", [{}, EVERYTHING], ids=["few keys", "all keys"])
async def test_the_pieces_are_the_json_of_the_whole(kept: Records, other: dict[str, object]) -> None:
    """Byte for byte: the event with and without the video, and the blocking answer."""
    video = bytes(range(256)) * 20
    record = await completed(kept, video, **other)
    encode = msgspec.json.encode
    inline = b"".join(await pieces_of(complete_json(record, kept.store, inline=True)))
    assert inline == encode(whole_complete(record, video))
    without = b"".join(await pieces_of(complete_json(record, kept.store, inline=False)))
    assert without == encode(whole_complete(record, b""))
    answer = b"".join(await pieces_of(response_json(record, kept.store)))
    assert answer == encode(whole_response(record, video))
    assert b"\n" not in inline + without + answer


@settings(max_examples=12, deadline=None)
@given(block=st.sampled_from([3, 6, 12]), blocks=st.integers(0, 4), more=st.integers(-3, 3))
def test_a_video_of_any_size_is_the_same_in_pieces(block: int, blocks: int, more: int) -> None:
    """At, before and after the boundaries of blocks; empty too."""
    video = bytes(range(max(0, block * blocks + more)))

    async def play(kept: Records) -> None:
        record = await completed(kept, video)
        pieces = await pieces_of(complete_json(record, kept.store, inline=True))
        assert b"".join(pieces) == msgspec.json.encode(whole_complete(record, video))

    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory() as folder,
        records(Path(folder)) as kept,
    ):
        patch.setattr(payload, "_BLOCK", block)
        asyncio.run(play(kept))


def test_blocks_are_whole_triples() -> None:
    """Base64 of the pieces is base64 of the whole only then."""
    assert payload._BLOCK % 3 == 0


async def test_no_piece_is_larger_than_a_block(kept: Records) -> None:
    """However large the video: memory holds one piece at a time."""
    video = bytes(5 * payload._BLOCK + 1)
    record = await completed(kept, video)
    for pieces in (complete_json(record, kept.store, inline=True), response_json(record, kept.store)):
        sizes = [len(piece) for piece in await pieces_of(pieces)]
        assert max(sizes) <= payload._BLOCK * 4 // 3
        assert sum(sizes) > len(video) * 4 // 3
