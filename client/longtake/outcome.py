"""How a command of the command line ends: what goes wrong in words, what programs read as JSON, the exit status."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec
import typer
from rich.console import Console

from longtake.client import Longtake
from longtake.errors import (
    BadRequest,
    ChainError,
    EmbeddedServerError,
    LongtakeError,
    ModelNotFound,
    PayloadTooLarge,
    ScriptError,
    ServerError,
    ValidationFailed,
)
from longtake.wire import Problem

OK: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
INTERRUPTED: Final = 130

_REFUSED: Final = (ScriptError, BadRequest, ModelNotFound, PayloadTooLarge, ValidationFailed)
"""What is the input's fault."""


class BadInput(Exception):
    """An option is wrong; the message says which."""


@contextlib.contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turns what goes wrong into words and an exit status; a traceback would be a bug of ours."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted", {}, INTERRUPTED, as_json)
    except BrokenPipeError:
        # Whoever read our output has gone; typer ends quietly.
        raise
    except BadInput as error:
        fail(str(error), {}, BAD_INPUT, as_json)
    except LongtakeError as error:
        fail(_in_words(error), _details(error), BAD_INPUT if isinstance(error, _REFUSED) else FAILED, as_json)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), {}, FAILED, as_json)


def fail(message: str, details: dict[str, Any], status: int, as_json: bool) -> NoReturn:
    """End the command with words, or with JSON that has ``details`` too."""
    if as_json:
        print_json({"error": message} | details)
    else:
        say(f"error: {message}")
    raise typer.Exit(status) from None


def _in_words(error: LongtakeError) -> str:
    problems = error.problems if isinstance(error, ScriptError | ServerError) else ()
    lines = [at(problem) for problem in problems] or [str(error)]
    if isinstance(error, EmbeddedServerError) and error.log:
        lines += ["", error.log]
    if isinstance(error, ChainError) and error.failed_stage_idx is not None:
        lines.append(f"stage {error.failed_stage_idx} failed: {error.stage_error or 'no reason given'}")
    return "\n".join(lines)


def at(problem: Problem) -> str:
    """A problem on one line: the field, then what is wrong with it."""
    named = problem.message.startswith(problem.path)
    return problem.message if named else f"{problem.path}: {problem.message}"


def _details(error: LongtakeError) -> dict[str, Any]:
    names = ("code", "path", "line", "status", "request_id", "retry_after", "failed_stage_idx", "chain_id", "resumable")
    found = {name: getattr(error, name, None) for name in names}
    found["problems"] = msgspec.to_builtins(getattr(error, "problems", ()))
    return {key: value for key, value in found.items() if value not in (None, "", [], ())}


def say(text: str) -> None:
    """Tell the user, beside what a program may read."""
    console().print(text, markup=False)


def console() -> Console:
    """Standard error, for people."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON for programs."""
    typer.echo(json.dumps(value, indent=2))


def connect(server: str) -> Longtake:
    """A client of a running server.

    Raises:
        BadInput: that is no address.
    """
    try:
        return Longtake(server)
    except ValueError as error:
        raise BadInput(f"--server: {error}") from error


def check_target(option: str, path: Path, force: bool) -> None:
    """Refuse before any work what could not be written after it.

    Raises:
        BadInput: there is no such folder, or the file is there already and ``force`` is not given.
    """
    if not path.absolute().parent.is_dir():
        raise BadInput(f"{option}: there is no folder {path.parent}")
    if path.exists() and not force:
        raise BadInput(f"{option}: {path} is there already; --force replaces it")
