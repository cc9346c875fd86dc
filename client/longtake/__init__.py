"""The client of Longtake: chained video generation from Python.

>>> with Longtake("http://127.0.0.1:8080") as client:            # doctest: +SKIP
...     client.generate(load_script("script.toml")).video_data().save("film.mp4")

:mod:`longtake.wire` has every message, :mod:`longtake.errors` every error. In a notebook a :class:`VideoData` shows
itself, and :class:`longtake.notebook.Progress` is an ``on_event`` that shows a chain's way there.
"""

from longtake.async_client import AsyncLongtake
from longtake.blocking import EventStream
from longtake.client import Longtake
from longtake.errors import ChainError, GaveUp, LongtakeError, RequestRefused
from longtake.retry import Retries
from longtake.script import dump as dump_script
from longtake.script import load as load_script
from longtake.streams import AsyncEventStream, Completion, Event, UnknownEvent
from longtake.video import VideoData
from longtake.wire import ChainRequest, ChainScript, ChainStage, ChainState, Transition

__all__ = [
    "AsyncEventStream",
    "AsyncLongtake",
    "ChainError",
    "ChainRequest",
    "ChainScript",
    "ChainStage",
    "ChainState",
    "Completion",
    "Event",
    "EventStream",
    "GaveUp",
    "Longtake",
    "LongtakeError",
    "RequestRefused",
    "Retries",
    "Transition",
    "UnknownEvent",
    "VideoData",
    "dump_script",
    "load_script",
]
