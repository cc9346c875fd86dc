"""A server for one run: started as a child process, stopped with everything it started.

The contract with the server's command: it prints one line, ``longtake ready on URL``, on its standard output once
every model has answered a request, and ends on SIGTERM.
"""

import contextlib
import ctypes
import importlib.util
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from longtake.errors import EmbeddedServerError, TransportError

STARTUP_TIMEOUT: Final = 600.0
"""Seconds: a large checkpoint takes minutes to load."""
STOP_TIMEOUT: Final = 20.0
"""Seconds between SIGTERM and SIGKILL."""
STOP_TIMEOUT_UNREADY: Final = 3.0
"""The same for a server that has not begun to serve: it has nothing to put in order."""

_READY: Final = re.compile(r"^longtake ready on (?P<url>http://\S+)\s*$")
_NO_MODULE: Final = re.compile(r"No module named '?([\w.]+)'?")
_LOG_TAIL: Final = 4000
_PR_SET_PDEATHSIG: Final = 1


@contextlib.contextmanager
def embedded_server(
    data: Path | None = None,
    *,
    startup_timeout: float = STARTUP_TIMEOUT,
    on_output: Callable[[str], object] = lambda _: None,
    command: Sequence[str] | None = None,
) -> Iterator[str]:
    """The address of a server that runs inside the ``with``.

    Args:
        data: folder for what it keeps; None: a temporary one, removed afterwards.
        startup_timeout: seconds until it must be ready.
        on_output: called with every line it prints while it starts.
        command: what starts it, in place of the installed server; ``--port 0 --data DIR`` is appended.

    Raises:
        EmbeddedServerError: it is not installed, ended early, was not ready in time, or died inside the ``with`` so
            that a request there failed.
    """
    with contextlib.ExitStack() as stack:
        if data is None:
            folder = tempfile.TemporaryDirectory(prefix="longtake-", ignore_cleanup_errors=True)
            data = Path(stack.enter_context(folder))
        log = stack.enter_context(tempfile.TemporaryFile())
        arguments = [*(command or _installed_command()), "--port", "0", "--data", str(data)]
        process = _start(arguments, log)
        grace = STOP_TIMEOUT_UNREADY
        try:
            url = _await_ready(process, log, startup_timeout, on_output)
            grace = STOP_TIMEOUT
            yield url
        except TransportError as error:
            if not _ended(process):
                raise
            raise EmbeddedServerError(
                f"the embedded server died (status {process.returncode})", log=_tail(log)
            ) from error
        finally:
            _stop(process, grace)


def _installed_command() -> list[str]:
    if importlib.util.find_spec("longtake_facade") is None:
        raise _not_installed("longtake_facade")
    return [sys.executable, "-m", "longtake_facade", "serve"]


def _not_installed(module: str) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"the embedded server is not installed (no module {module}): pip install 'longtake[embedded]', "
        "or name a running server with --server"
    )


def _start(arguments: Sequence[str], log: IO[bytes]) -> subprocess.Popen[str]:
    # A session of its own: the terminal's Ctrl-C is for the client, which first cancels and then stops the server.
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_end_with_parent(),
    )


def _end_with_parent() -> Callable[[], object] | None:
    """What makes the child get a SIGTERM when this process is killed, where the system can do that."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _await_ready(
    process: subprocess.Popen[str], log: IO[bytes], timeout: float, on_output: Callable[[str], object]
) -> str:
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_drain, args=(process, lines), daemon=True, name="longtake-server-output").start()
    deadline = time.monotonic() + timeout
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise EmbeddedServerError(
                f"the embedded server was not ready within {timeout:g} s", log=_tail(log)
            ) from None
        if line is None:
            raise _ended_early(process, _tail(log))
        if found := _READY.match(line):
            return found["url"].rstrip("/")
        on_output(line.strip())


def _drain(process: subprocess.Popen[str], lines: "queue.SimpleQueue[str | None]") -> None:
    """Reads what the server prints to its end, so that it never waits for a reader."""
    assert process.stdout is not None
    with process.stdout as output, contextlib.suppress(ValueError):
        for line in output:
            lines.put(line)
    lines.put(None)


def _ended_early(process: subprocess.Popen[str], log: str) -> EmbeddedServerError:
    try:
        status = process.wait(timeout=STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        return EmbeddedServerError("the embedded server closed its output before it was ready", log=log)
    if missing := _NO_MODULE.search(log):
        return _not_installed(missing[1])
    return EmbeddedServerError(f"the embedded server ended with status {status} before it was ready", log=log)


def _ended(process: subprocess.Popen[str]) -> bool:
    """Whether it is gone; its connections break a moment before that can be told."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1.0)
    return process.returncode is not None


def _tail(log: IO[bytes]) -> str:
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - _LOG_TAIL))
    return log.read().decode("utf-8", errors="replace").strip()


def _stop(process: subprocess.Popen[str], grace: float) -> None:
    """End the server, then whatever is left of its session."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
