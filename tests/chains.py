"""Requests for tests, and the frames of what comes back."""

from typing import Any

import numpy as np

from longtake.streams import Completion
from longtake.wire import ChainRequest, ChainStage, Transition
from longtake_facade.backend import Pixels

JSON = {"Content-Type": "application/json"}


def stage(prompt: str, frames: int = 17, transition: Transition = Transition.SMOOTH, **other: Any) -> ChainStage:
    return ChainStage(prompt=prompt, frames=frames, transition=transition, **other)


def chain(*stages: ChainStage, **settings: Any) -> ChainRequest:
    defaults = {"seed": 3, "steps": 2, "motion_tail_frames": 9}
    return ChainRequest(stages=list(stages), **{**defaults, **settings})


def four(**settings: Any) -> ChainRequest:
    """A smooth join, a cut and a fade."""
    return chain(
        stage("a"),
        stage("b", 25),
        stage("c", 17, Transition.CUT),
        stage("d", 17, Transition.FADE, fade_frames=5),
        **settings,
    )


def frames_of(done: Completion) -> Pixels:
    return np.stack(list(done.video_data().frames()))
