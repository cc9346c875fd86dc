"""A clip's frames to the stage's artifacts, encoded once, while they arrive."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from longtake_facade import encode
from longtake_facade.artifacts import (
    BODY,
    FADE_IN,
    FADE_OUT,
    STAGE_VIDEO,
    TAIL,
    WAVEFORM,
    EncodeError,
    FrameFile,
    VideoSpec,
    save_array,
)
from longtake_facade.audio import Clock, stage_sound
from longtake_facade.backend import ClipEnd, Pixels, Waveform
from longtake_facade.measures import Motion, Sampler
from longtake_facade.pixels import REPORT_PIXELS, small_rgb
from longtake_facade.plan import StagePlan

QUEUED_CHUNKS: Final = 1


class _StageFiles:
    """The blocking half of a stage: sorts the clip's frames into its artifacts."""

    def __init__(self, folder: Path, stage: StagePlan, spec: VideoSpec) -> None:
        self._folder = folder
        self._stage = stage
        self._spec = spec
        self._count = 0
        body = stage.body
        self._motion = Motion()
        self._sampler = Sampler(spec.fps, {0, len(body) - 1})
        self._raw_piece = folder / "piece.part.mp4"
        self._writers: list[encode.FrameWriter] = []
        self._edges: dict[str, FrameFile] = {}
        try:
            self._open()
        except BaseException:
            self.abort()
            raise

    def _open(self) -> None:
        stage, folder, spec = self._stage, self._folder, self._spec
        if stage.body:
            self._writers.append(encode.H264Writer(self._raw_piece, spec))
            if spec.format != "mp4":
                self._writers.append(encode.LosslessWriter(folder / BODY, spec))
        for name, count in ((FADE_IN, stage.fade_in), (FADE_OUT, stage.fade_out)):
            if count:
                self._edges[name] = FrameFile(folder / name, count, spec.frame_shape)

    def add(self, frame: Pixels) -> None:
        """Take the clip's next frame."""
        stage, at = self._stage, self._count
        self._count += 1
        if at >= stage.frames:
            raise EncodeError(f"stage {stage.index} gave more than its {stage.frames} frames")
        if not stage.drop <= at < stage.frames - stage.trim:
            return
        small = small_rgb(frame, self._spec, REPORT_PIXELS)
        self._motion.add(small)
        if at in stage.body:
            self._sampler.add(small)
            for writer in self._writers:
                writer.write(frame)
        else:
            self._edges[FADE_IN if at < stage.body.start else FADE_OUT].write(frame)

    def finish(self, end: ClipEnd) -> None:
        """Write what can be written only now."""
        stage = self._stage
        if self._count != stage.frames:
            raise EncodeError(f"stage {stage.index} gave {self._count} frames instead of {stage.frames}")
        if len(end.tail) < stage.tail:
            raise EncodeError(f"stage {stage.index} gave a tail of {len(end.tail)} frames instead of {stage.tail}")
        for file in self._edges.values():
            file.close()
        save_array(self._folder / TAIL, end.tail[len(end.tail) - stage.tail :])
        waveform = self._checked(end)
        if waveform is not None:
            save_array(self._folder / WAVEFORM, waveform)
        self._sampler.measures(self._motion.mean, end.sample_rate if waveform is not None else 0).save(self._folder)
        for writer in self._writers:
            writer.close()
        if stage.body:
            sound = self._sound(waveform, end.sample_rate)
            piece = encode.Piece(self._raw_piece, len(stage.body))
            encode.remux([piece], sound, self._spec.fps, self._folder / STAGE_VIDEO, _unobserved)
            self._raw_piece.unlink()

    def _checked(self, end: ClipEnd) -> Waveform | None:
        waveform = end.waveform
        if waveform is None or not end.sample_rate:
            return None
        if waveform.ndim != 2 or not np.isfinite(waveform).all():
            raise EncodeError(f"stage {self._stage.index} gave a waveform of other things than finite numbers")
        encode.check_audio(end.sample_rate, waveform.shape[1])
        return np.ascontiguousarray(waveform, np.float32)

    def _sound(self, waveform: Waveform | None, rate: int) -> encode.Sound | None:
        if waveform is None:
            return None
        heard = stage_sound(self._stage, waveform, Clock(rate, self._spec.fps))
        return encode.Sound(rate, waveform.shape[1], iter([heard]))

    def abort(self) -> None:
        """Close every file; what they hold is of no use."""
        for file in self._edges.values():
            file.abort()
        for writer in self._writers:
            writer.abort()


def _unobserved(_done: int, _total: int) -> None:
    return None


class StageWriter:
    """Takes a clip's frames as they come and writes the stage's artifacts into ``folder``.

    ``folder`` exists and is empty; the caller renames it into the store when :meth:`finish` has returned. One
    thread does the work, a chunk at a time; meanwhile :meth:`push` of the next waits. All methods belong to one loop.
    """

    def __init__(self, folder: Path, stage: StagePlan, spec: VideoSpec) -> None:
        self._stage = stage
        self._spec = spec
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(QUEUED_CHUNKS)
        self._work: queue.SimpleQueue[Pixels | ClipEnd | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._failure: EncodeError | None = None
        self._done = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"encode-stage-{stage.index}", daemon=True)
        self._thread.start()

    async def push(self, frames: Pixels) -> None:
        """Hand over the next frames, uint8 ``[n, h, w, c]`` in the spec's pixel format; they must not change later.

        Raises:
            EncodeError: they have another shape, or encoding failed; :meth:`abort` is still to be called.
        """
        if frames.shape[1:] != self._spec.frame_shape or frames.dtype != np.uint8:
            raise EncodeError(f"stage {self._stage.index} gave frames of {frames.shape[1:]}")
        await self._slots.acquire()
        self._raise_failure()
        self._work.put(frames)

    async def finish(self, end: ClipEnd) -> None:
        """Write the rest; afterwards the folder is complete.

        Raises:
            EncodeError: the number of frames is not the stage's, or encoding failed.
        """
        self._work.put(end)
        await self._done.wait()
        self._raise_failure()

    async def abort(self) -> None:
        """Stop the thread and wait until it lets go of the files; harmless after :meth:`finish` and twice."""
        self._stopped.set()
        self._work.put(None)
        await self._done.wait()
        self._thread.join()  # it has nothing left to do

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        try:
            with encode.encoding(f"stage {self._stage.index}"):
                self._write()
        except EncodeError as error:
            self._failure = error
        except Exception as error:
            self._failure = EncodeError(f"stage {self._stage.index} could not be encoded")
            self._failure.__cause__ = error
        finally:
            self._tell(self._ended)

    def _write(self) -> None:
        files = _StageFiles(self._folder, self._stage, self._spec)
        try:
            while (item := self._work.get()) is not None:
                if isinstance(item, ClipEnd):
                    files.finish(item)
                    return
                for frame in item:
                    if self._stopped.is_set():
                        return
                    files.add(frame)
                del item
                self._tell(self._slots.release)
        finally:
            files.abort()

    def _tell(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # a loop that is closed has nobody left to be told
            self._loop.call_soon_threadsafe(callback)

    def _ended(self) -> None:
        self._done.set()
        for _ in range(QUEUED_CHUNKS):
            self._slots.release()
