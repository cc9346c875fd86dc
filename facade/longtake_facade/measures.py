"""What is remembered of a piece's frames once they are encoded: small copies for the join report and the preview."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from zipfile import BadZipFile

import numpy as np

from longtake_facade.artifacts import EncodeError
from longtake_facade.backend import Pixels
from longtake_facade.pixels import PREVIEW_PIXELS, frame_jump, reduced, stack

MEASURES: Final = "measures.npz"
PREVIEWS_PER_SECOND: Final = 4


@dataclass(frozen=True)
class Measures:
    """Small RGB copies of some frames of a piece, and what the report needs to know of the clip.

    ``joint_at`` / ``joints``: frames of the piece by index, ``[m, h, w, 3]`` at most 320 px, for the join report.
    ``preview_at`` / ``previews``: frames for the preview.
    """

    frames: int
    """Length of the piece."""
    inner_jump: float
    """Mean absolute difference of successive frames of the clip, 0..255; 0 where it has fewer than two."""
    sample_rate: int
    """Of the waveform; 0 where there is none."""
    joint_at: tuple[int, ...]
    joints: Pixels
    preview_at: tuple[int, ...]
    previews: Pixels

    def colours(self) -> list[Pixels]:
        """Copies of the preview's size that show what colours the piece has; both its ends are among them."""
        return [*self.previews, *(reduced(frame, PREVIEW_PIXELS) for frame in self.joints)]

    def save(self, folder: Path) -> None:
        """Write ``measures.npz``."""
        np.savez(
            folder / MEASURES,
            frames=self.frames,
            inner_jump=self.inner_jump,
            sample_rate=self.sample_rate,
            joint_at=np.array(self.joint_at, np.int64),
            joints=self.joints,
            preview_at=np.array(self.preview_at, np.int64),
            previews=self.previews,
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read ``measures.npz``.

        Raises:
            EncodeError: it is missing or damaged.
        """
        try:
            with (folder / MEASURES).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return cls(
                    frames=int(stored["frames"]),
                    inner_jump=float(stored["inner_jump"]),
                    sample_rate=int(stored["sample_rate"]),
                    joint_at=tuple(stored["joint_at"].tolist()),
                    joints=stored["joints"],
                    preview_at=tuple(stored["preview_at"].tolist()),
                    previews=stored["previews"],
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise EncodeError(f"{MEASURES} cannot be read") from error


class Sampler:
    """Keeps small copies of a piece's frames: those at its joins and a few for the preview."""

    def __init__(self, fps: int, joint_at: set[int]) -> None:
        self._joint_at = joint_at
        self._every = max(1, fps // PREVIEWS_PER_SECOND)
        self._joints: dict[int, Pixels] = {}
        self._previews: dict[int, Pixels] = {}
        self._frames = 0

    def add(self, small: Pixels) -> None:
        """Take the small copy of the next frame."""
        at = self._frames
        if at in self._joint_at:
            self._joints[at] = small
        if at % self._every == 0:
            self._previews[at] = reduced(small, PREVIEW_PIXELS)
        self._frames += 1

    def measures(self, inner_jump: float, sample_rate: int) -> Measures:
        """What is to be stored of the piece."""
        return Measures(
            frames=self._frames,
            inner_jump=inner_jump,
            sample_rate=sample_rate,
            joint_at=tuple(self._joints),
            joints=stack(list(self._joints.values())),
            preview_at=tuple(self._previews),
            previews=stack(list(self._previews.values())),
        )


class Motion:
    """The mean difference of successive frames."""

    def __init__(self) -> None:
        self._last: Pixels | None = None
        self._sum = 0.0
        self._count = 0

    def add(self, small: Pixels) -> None:
        """Take the small copy of the next frame."""
        if self._last is not None:
            self._sum += frame_jump(self._last, small)
            self._count += 1
        self._last = small

    @property
    def mean(self) -> float:
        """0 of fewer than two frames."""
        return self._sum / self._count if self._count else 0.0
