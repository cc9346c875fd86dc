"""Pieces, and the file their packets make."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from longtake_facade.artifacts import EncodeError, VideoSpec
from longtake_facade.backend import Pixels
from longtake_facade.encode import (
    FrameWriter,
    H264Writer,
    LosslessWriter,
    Piece,
    Sound,
    check_audio,
    encode_animation,
    first_frame,
    remux,
    rgb_frames,
)
from media import rgb_clip, to_planes, tone

MP4 = VideoSpec(64, 32, 24, "mp4")
GIF = VideoSpec(64, 32, 24, "gif")


def written(writer: FrameWriter, frames: Pixels) -> None:
    """Write frames and finish the file."""
    for frame in frames:
        writer.write(frame)
    writer.close()


def h264(path: Path, frames: int, spec: VideoSpec = MP4) -> Piece:
    """A piece of a clip."""
    written(H264Writer(path, spec), to_planes(rgb_clip(frames, frames, spec.width, spec.height)))
    return Piece(path, frames)


def unobserved(_done: int, _total: int) -> None:
    """Take no notice of progress."""


def packets(path: Path) -> list[tuple[int, int, bool]]:
    """pts and dts in frames, and whether it is a key frame, of every video packet."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        frame = 1 / (stream.time_base * 24)
        found = [packet for packet in container.demux(stream) if packet.size]
        return [(round(p.pts / frame), round(p.dts / frame), p.is_keyframe) for p in found]  # type: ignore[operator]  # all have times


@pytest.mark.parametrize("lengths", [[1], [2], [1, 1, 1], [20, 1, 2, 30], [2, 60, 1]])
def test_pieces_of_any_length_share_one_clock(tmp_path: Path, lengths: list[int]) -> None:
    """Decode times rise by one a frame, none is after its presentation, and every frame is presented once."""
    pieces = [h264(tmp_path / f"{i}.mp4", length) for i, length in enumerate(lengths)]
    made = remux(pieces, None, 24, tmp_path / "out.mp4", unobserved)
    found = packets(tmp_path / "out.mp4")
    assert made.frames == len(found) == sum(lengths)
    assert sorted(pts for pts, _, _ in found) == list(range(sum(lengths)))
    assert all(after[1] == before[1] + 1 for before, after in pairwise(found))
    assert all(dts <= pts for pts, dts, _ in found)


def test_every_piece_begins_with_a_key_frame_and_needs_no_other(tmp_path: Path) -> None:
    """So a player can seek to every join, and no picture refers to another stage's."""
    pieces = [h264(tmp_path / f"{i}.mp4", length) for i, length in enumerate((20, 5, 9))]
    remux(pieces, None, 24, tmp_path / "out.mp4", unobserved)
    whole = list(rgb_frames(tmp_path / "out.mp4"))
    assert [pts for pts, _, key in packets(tmp_path / "out.mp4") if key] == [0, 20, 25]
    alone = [frame for piece in pieces for frame in rgb_frames(piece.path)]
    assert np.array_equal(whole, alone)


def test_a_player_can_seek_to_every_other_second(tmp_path: Path) -> None:
    """Key frames come every two seconds inside a piece."""
    h264(tmp_path / "long.mp4", 97)
    assert [pts for pts, _, key in packets(tmp_path / "long.mp4") if key][:3] == [0, 48, 96]


@pytest.mark.parametrize("other", [VideoSpec(96, 32, 24, "mp4"), VideoSpec(64, 32, 25, "mp4")])
def test_pieces_of_other_parameters_are_refused(tmp_path: Path, other: VideoSpec) -> None:
    """Another size, or another frame rate: their packets do not belong under one header."""
    pieces = [h264(tmp_path / "a.mp4", 3), h264(tmp_path / "b.mp4", 3, other)]
    with pytest.raises(EncodeError, match=r"b\.mp4"):
        remux(pieces, None, 24, tmp_path / "out.mp4", unobserved)


def test_a_piece_with_fewer_frames_than_it_should_have_is_refused(tmp_path: Path) -> None:
    """The number of frames is known before, so a loss is seen."""
    piece = h264(tmp_path / "a.mp4", 3)
    with pytest.raises(EncodeError, match=r"a\.mp4 holds 3 frames instead of 4"):
        remux([Piece(piece.path, 4)], None, 24, tmp_path / "out.mp4", unobserved)


@pytest.mark.parametrize("size", [(64, 32), (62, 34), (1216, 704)])
def test_lossless_pieces_are_lossless(tmp_path: Path, size: tuple[int, int]) -> None:
    """RGB in, the same RGB out."""
    frames = rgb_clip(1, 3, *size)
    written(LosslessWriter(tmp_path / "a.mkv", VideoSpec(*size, 24, "apng")), frames)
    assert np.array_equal(list(rgb_frames(tmp_path / "a.mkv")), frames)
    assert np.array_equal(first_frame(tmp_path / "a.mkv"), frames[0])


def test_rgb_and_planes_give_the_same_h264(tmp_path: Path) -> None:
    """A stage's own video is encoded from RGB where the chain is no mp4; the colours are the same."""
    rgb = rgb_clip(1, 5, 64, 32)
    written(H264Writer(tmp_path / "rgb.mp4", GIF), rgb)
    written(H264Writer(tmp_path / "planes.mp4", MP4), to_planes(rgb))
    assert np.array_equal(list(rgb_frames(tmp_path / "rgb.mp4")), list(rgb_frames(tmp_path / "planes.mp4")))


def test_files_can_be_let_go_of_at_any_time(tmp_path: Path) -> None:
    """Before the first frame, after some, twice, and after the end."""
    frames = rgb_clip(1, 5, 64, 32)
    for make in (H264Writer, LosslessWriter):
        for count in (0, 5):
            writer = make(tmp_path / f"{make.__name__}{count}", GIF)
            for frame in frames[:count]:
                writer.write(frame)
            writer.abort()
            writer.abort()
        finished = make(tmp_path / f"{make.__name__}-finished", GIF)
        written(finished, frames)
        finished.abort()
        assert len(list(rgb_frames(tmp_path / f"{make.__name__}-finished"))) == 5


@pytest.mark.parametrize("rate", [0, 999, 12345, 192_000])
def test_rates_that_aac_does_not_take_are_refused_by_name(rate: int) -> None:
    """The message lists those it takes."""
    with pytest.raises(EncodeError, match=f"AAC does not take {rate} samples per second, only 7350, .*48000"):
        check_audio(rate, 2)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("cuts", [[], [1], [1023, 1024, 1025], [5, 5, 7000]])
def test_blocks_of_any_lengths_make_one_soundtrack(tmp_path: Path, channels: int, cuts: list[int]) -> None:
    """The blocks' borders are not heard: the encoded track is the same however it is handed over."""
    wave = tone(1, 8000, 24000, channels)
    made = remux(
        [h264(tmp_path / "a.mp4", 8)],
        Sound(24000, channels, iter(np.split(wave, cuts))),
        24,
        tmp_path / "o.mp4",
        unobserved,
    )
    assert made.samples == 8000
    remux([Piece(tmp_path / "a.mp4", 8)], Sound(24000, channels, iter([wave])), 24, tmp_path / "p.mp4", unobserved)
    assert (tmp_path / "o.mp4").read_bytes() == (tmp_path / "p.mp4").read_bytes()


def test_a_full_disk_is_an_error_that_names_what_was_written(tmp_path: Path) -> None:
    """Not the pieces that were read at the time."""
    piece = h264(tmp_path / "a.mp4", 8)
    with pytest.raises(EncodeError, match="full: No space left on device"):
        remux([piece], None, 24, Path("/dev/full"), unobserved)


def test_an_animation_of_rubbish_is_refused(tmp_path: Path) -> None:
    """A piece that is no video at all."""
    (tmp_path / "body.mkv").write_bytes(b"no video")
    with pytest.raises(EncodeError, match=r"body\.mkv"):
        encode_animation([Piece(tmp_path / "body.mkv", 3)], VideoSpec(64, 32, 24, "apng"), tmp_path / "o", unobserved)


@pytest.mark.parametrize("container", ["mp4", "gif", "apng", "webp"])
def test_nothing_is_said_on_stderr(tmp_path: Path, container: str) -> None:
    """FFmpeg and x264 are talkative libraries; in normal operation nobody hears of them."""
    program = f"""
from pathlib import Path
import numpy as np
from longtake_facade.artifacts import VideoSpec
from longtake_facade.encode import Piece, Sound, encode_animation, piece_writer, remux
spec, path = VideoSpec(64, 32, 24, {container!r}), Path("piece")
writer = piece_writer(path, spec)
for _ in range(5):
    writer.write(np.zeros(spec.frame_shape, np.uint8))
writer.close()
if spec.format == "mp4":
    sound = Sound(24000, 2, iter([np.zeros((5000, 2), np.float32)]))
    remux([Piece(path, 5)], sound, 24, Path("video"), lambda done, total: None)
else:
    colours = [np.zeros((16, 32, 3), np.uint8)]
    encode_animation([Piece(path, 5, colours)], spec, Path("video"), lambda done, total: None)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
