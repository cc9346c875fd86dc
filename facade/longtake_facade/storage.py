"""The store of artifacts: folders and files, each written whole or not at all.

::

    data/
    ├── images/<sha256>            what clients sent, as sent
    ├── stages/<2 hex>/<key>/      what one stage rendered (see ``stitch``); the key names everything it depends on
    ├── fades/<2 hex>/<key>/       a fade between two of them
    ├── chains/<id>/               video.<format>, thumbnail.png, preview.gif
    └── work/<node>/               folders a server is writing; emptied when it starts

A folder is written in ``work`` and renamed into place, so whatever is there is whole. ``manifest.json`` in it holds
the size and SHA-256 of every file.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

MANIFEST = "manifest.json"
_BLOCK = 1 << 20
_KEY = re.compile(r"[0-9a-f]{32,64}")


class FileFact(msgspec.Struct, frozen=True):
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


class StoreInUse(Exception):
    """Two servers of one name would clear each other's work away."""


class Store:
    """Artifacts in a local folder; every method blocks on the disk, so it is called from a thread."""

    def __init__(self, root: Path, node: str = "longtake") -> None:
        """Open the store for the server ``node``.

        Raises:
            StoreInUse: another process has it open under the same name.
        """
        self.root = root
        for name in ("images", "stages", "fades", "chains", "work"):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = (root / "work" / f"{node}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise StoreInUse(f"another server uses the data folder {root} as node {node}") from error
        self._work = root / "work" / node
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(mode=0o700)

    def close(self) -> None:
        """Let another process open it."""
        self._lock.close()

    def stage(self, key: str) -> Path:
        """Where the artifacts of a stage are, if :meth:`has` says so."""
        return self.root / "stages" / key[:2] / _checked(key)

    def fade(self, key: str) -> Path:
        """Where the piece of a fade is, if :meth:`has` says so."""
        return self.root / "fades" / key[:2] / _checked(key)

    def chain(self, chain_id: str) -> Path:
        """Where the result of a chain is, if :meth:`has` says so."""
        return self.root / "chains" / _checked(chain_id)

    def image_file(self, digest: str) -> Path:
        """Where an image is kept."""
        return self.root / "images" / _checked(digest)

    def has(self, folder: Path) -> bool:
        """Whether the folder was written; then it is whole."""
        return (folder / MANIFEST).is_file()

    def manifest(self, folder: Path) -> dict[str, FileFact]:
        """The files of a folder by name."""
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, FileFact])

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """An empty folder to write in; what was not given to :meth:`commit` is removed."""
        folder = self.workspace()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def workspace(self) -> Path:
        """An empty folder to write in; the caller commits or removes it."""
        return Path(tempfile.mkdtemp(dir=self._work))

    def discard(self, folder: Path) -> None:
        """Remove a folder of :meth:`workspace`, if it is still there."""
        shutil.rmtree(folder, ignore_errors=True)

    def commit(self, written: Path, target: Path) -> Path:
        """Move a written folder to its place. Whoever comes second with the same key leaves the first one's."""
        facts = {path.name: _fact(path) for path in sorted(written.iterdir())}
        _write_through(written / MANIFEST, msgspec.json.encode(facts))
        _sync(written)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            written.rename(target)
        except OSError:
            if not self.has(target):
                raise
            shutil.rmtree(written)
        _sync(target.parent)
        return target

    def put_image(self, data: bytes) -> str:
        """Keep an image; returns its SHA-256 (hex), under which :meth:`image` finds it."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.image_file(digest)
        if not target.exists():
            handle, name = tempfile.mkstemp(dir=self._work)
            os.close(handle)
            _write_through(Path(name), data)
            Path(name).replace(target)
            _sync(target.parent)
        return digest

    def image(self, digest: str) -> bytes:
        """An image that was kept."""
        return self.image_file(digest).read_bytes()

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove files and folders; each is gone from its place at once, whatever interrupts the rest."""
        for path in paths:
            bin_ = self.workspace()
            with suppress(FileNotFoundError):
                path.rename(bin_ / path.name)
            shutil.rmtree(bin_)


def _checked(key: str) -> str:
    """Keys are digests and ids, so none of them leads out of the store."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of the store")
    return key


def _write_through(path: Path, data: bytes) -> None:
    """Write a file that is whole after a power cut, too."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make sure that the names in a folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fact(path: Path) -> FileFact:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        os.fsync(file.fileno())
    return FileFact(size=path.stat().st_size, sha256=digest.hexdigest())
