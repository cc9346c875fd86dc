"""The store of artifacts: folders and files, each written whole or not at all.

::

    data/
    ├── images/<sha256>            what clients sent, as sent
    ├── stages/<2 hex>/<key>/      what one stage rendered (see ``stitch``); the key names everything it depends on
    ├── fades/<2 hex>/<key>/       a fade between two of them
    ├── chains/<id>/               video.<format>, thumbnail.png, preview.gif
    └── work/                      folders being written; emptied at start

A folder is written in ``work`` and renamed into place, so whatever is there is whole. ``manifest.json`` in it holds
the size and SHA-256 of every file.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

MANIFEST = "manifest.json"
_BLOCK = 1 << 20


class FileFact(msgspec.Struct, frozen=True):
    """Size in bytes and SHA-256 (hex) of a file."""

    size: int
    sha256: str


class Store:
    """Artifacts in a local folder; every method blocks on the disk, so it is called from a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._work = root / "work"
        shutil.rmtree(self._work, ignore_errors=True)
        for name in ("images", "stages", "fades", "chains", "work"):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def stage(self, key: str) -> Path:
        """Where the artifacts of a stage are, if :meth:`has` says so."""
        return self.root / "stages" / key[:2] / key

    def fade(self, key: str) -> Path:
        """Where the piece of a fade is, if :meth:`has` says so."""
        return self.root / "fades" / key[:2] / key

    def chain(self, chain_id: str) -> Path:
        """Where the result of a chain is, if :meth:`has` says so."""
        return self.root / "chains" / chain_id

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
        (written / MANIFEST).write_bytes(msgspec.json.encode(facts))
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            written.rename(target)
        except OSError:
            if not self.has(target):
                raise
            shutil.rmtree(written)
        return target

    def put_image(self, data: bytes) -> str:
        """Keep an image; returns its SHA-256 (hex), under which :meth:`image` finds it."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.root / "images" / digest
        if not target.exists():
            handle, name = tempfile.mkstemp(dir=self._work)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(name).replace(target)
        return digest

    def image(self, digest: str) -> bytes:
        """An image that was kept."""
        return (self.root / "images" / digest).read_bytes()


def _fact(path: Path) -> FileFact:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        os.fsync(file.fileno())
    return FileFact(size=path.stat().st_size, sha256=digest.hexdigest())
