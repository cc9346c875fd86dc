"""The package as others see it: its names, and what importing it costs."""

import subprocess
import sys
from importlib.resources import files

import longtake


def test_the_public_names_are_these() -> None:
    """A change here is a change of the interface."""
    assert longtake.__all__ == [
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
    assert all(hasattr(longtake, name) for name in longtake.__all__)


def test_importing_the_client_imports_neither_the_command_line_nor_media() -> None:
    """What only some programs need is imported when they need it."""
    code = "import sys, longtake, longtake.notebook; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    heavy = {"av", "PIL", "numpy", "rich", "typer", "IPython", "torch", "aiohttp", "longtake_facade", "longtake_stages"}
    assert heavy.isdisjoint(loaded)


def test_the_package_is_typed() -> None:
    """Type checkers look for the marker."""
    assert files(longtake).joinpath("py.typed").is_file()
