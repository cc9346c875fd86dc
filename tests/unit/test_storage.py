"""The store: whatever is in it is whole, and the first to write a key has written it."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from longtake_facade.storage import MANIFEST, FileFact, Store, StoreInUse

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "data")) as opened:
        yield opened


def write(store: Store, target: Path, **files: bytes) -> Path:
    """Commit a folder of these files."""
    with store.writing() as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return store.commit(folder, target)


def files_of(folder: Path) -> set[Path]:
    """All files below a folder but locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder) for path in files}


def test_a_committed_folder_is_there_whole(store: Store) -> None:
    """With a manifest of true sizes and digests; until then it is not there at all."""
    target = store.stage(KEY)
    assert not store.has(target)
    large = os.urandom(3 * 2**20 + 1)
    write(store, target, small=b"x", large=large, empty=b"")
    assert store.has(target)
    assert (target / "large").read_bytes() == large
    assert store.manifest(target) == {
        name: FileFact(size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in (("small", b"x"), ("large", large), ("empty", b""))
    }


def test_stages_fades_and_chains_do_not_share_keys(store: Store) -> None:
    """The same key names three folders, all below the root."""
    targets = [store.stage(KEY), store.fade(KEY), store.chain(KEY)]
    assert len(set(targets)) == 3
    assert all(target.is_relative_to(store.root) for target in targets)


def test_the_second_commit_of_a_key_leaves_the_first(store: Store) -> None:
    """It is no error, and nothing of the second remains."""
    target = store.stage(KEY)
    write(store, target, one=b"first")
    assert write(store, target, two=b"second") == target
    assert files_of(target) == {Path("one"), Path(MANIFEST)}
    assert files_of(store.root / "work") == set()


def test_what_breaks_before_the_commit_leaves_nothing(store: Store) -> None:
    """Neither in its place nor in the work folder."""
    with suppress(RuntimeError), store.writing() as folder:
        (folder / "part").write_bytes(b"x")
        raise RuntimeError("broke")
    assert not store.has(store.stage(KEY))
    assert files_of(store.root) == set()


def test_a_commit_that_cannot_be_moved_into_place_is_an_error(store: Store) -> None:
    """Something else lies there: it is neither taken for the folder nor overwritten."""
    target = store.chain(KEY)
    target.mkdir()
    (target / "other").write_bytes(b"x")
    with pytest.raises(OSError, match="not empty"):
        write(store, target, one=b"1")
    assert not store.has(target)
    assert files_of(target) == {Path("other")}


def test_a_workspace_is_removed_when_it_is_discarded(store: Store) -> None:
    """Also when it was committed meanwhile."""
    folder = store.workspace()
    (folder / "part").write_bytes(b"x")
    store.discard(folder)
    assert not folder.exists()
    store.discard(folder)


def test_an_image_is_kept_once_under_its_digest(store: Store) -> None:
    """Keeping it again changes nothing, not even the file."""
    data = os.urandom(1000)
    digest = store.put_image(data)
    assert digest == hashlib.sha256(data).hexdigest()
    path = store.root / "images" / digest
    before = path.stat()
    assert store.put_image(data) == digest
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert store.image(digest) == data
    assert files_of(store.root) == {Path("images") / digest}


def test_an_image_that_cannot_be_written_whole_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its name when all of it is written."""

    def full(_: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store.put_image(b"data")
    assert list((store.root / "images").iterdir()) == []


def test_a_start_removes_what_was_being_written_and_keeps_what_is_whole(store: Store) -> None:
    """As after a killed process."""
    write(store, store.stage(KEY), one=b"1")
    digest = store.put_image(b"image")
    (store.workspace() / "part").write_bytes(b"x")
    store.close()
    with closing(Store(store.root)) as again:
        assert files_of(again.root / "work") == set()
        assert again.has(again.stage(KEY))
        assert again.image(digest) == b"image"


def test_a_second_server_of_one_name_does_not_clear_the_first_one_s_work_away(store: Store) -> None:
    """It is refused; one of another name works beside it."""
    part = store.workspace() / "part"
    part.write_bytes(b"x")
    with pytest.raises(StoreInUse, match="another server"):
        Store(store.root)
    with closing(Store(store.root, "other")) as other:
        write(other, other.stage(KEY), one=b"1")
    assert part.exists()
    assert store.has(store.stage(KEY))


def test_what_is_removed_is_gone_and_the_rest_stays(store: Store) -> None:
    """Files and folders alike; what is not there is no error."""
    other = "cd" * 32
    write(store, store.stage(KEY), one=b"1")
    write(store, store.stage(other), one=b"1")
    image = store.image_file(store.put_image(b"image"))
    store.remove([store.stage(KEY), image, store.chain(KEY)])
    assert not store.has(store.stage(KEY))
    assert not image.exists()
    assert store.has(store.stage(other))
    assert files_of(store.root / "work") == set()


def test_what_is_kept_is_its_owner_s_alone(store: Store) -> None:
    """Folders are closed to others."""
    for name in ("images", "stages", "fades", "chains", "work"):
        assert (store.root / name).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("key", ["..", "../../etc", "/etc", "a/b", "", "AB", "ab\x00", "ab\n", "é"])
def test_a_key_that_is_no_hex_digest_names_nothing(store: Store, key: str) -> None:
    """So no key can lead out of the store, whoever made it."""
    for place in (store.stage, store.fade, store.chain, store.image):
        with pytest.raises(ValueError, match="no key"):
            place(key)
