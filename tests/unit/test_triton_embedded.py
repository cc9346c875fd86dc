"""How the embedded server is laid out, and what it says when it cannot be; no server is started."""

import importlib.metadata
import os
import re
import sysconfig
from pathlib import Path

import pytest

from longtake_facade import embedded
from longtake_facade.embedded import EmbeddedTritonError, embedded_triton
from longtake_stages.contract import MODELS


def counts(folder: Path) -> dict[str, int]:
    """Instances by model, as the copied configurations have them."""
    found = {}
    for config in (folder / "models").glob("*/config.pbtxt"):
        match = re.search(r"count: (\d+)", config.read_text())
        found[config.parent.name] = int(match[1]) if match else 0
    return found


def lay_out(folder: Path, instances: int | dict[str, int]) -> None:
    embedded._lay_out(embedded._Folder(folder), embedded._default_repository(), instances)


def test_every_model_of_the_contract_is_in_the_repository_and_nothing_else() -> None:
    """A folder that is no model stops a Triton server."""
    repository = embedded._default_repository()
    assert {entry.name for entry in repository.iterdir()} == set(MODELS)


def test_instances_are_set_in_a_copy(tmp_path: Path) -> None:
    """One number for all, except that one instance tells the capabilities; the repository stays as it is."""
    before = {file: file.read_bytes() for file in embedded._default_repository().rglob("config.pbtxt")}
    lay_out(tmp_path, 3)
    expected = {"prompt_encoder": 3, "denoiser": 3, "decoder": 3, "capabilities": 1, "clip": 0}
    assert counts(tmp_path) == expected
    lay_out(tmp_path, {"denoiser": 2})
    assert counts(tmp_path) == expected | {"prompt_encoder": 1, "denoiser": 2, "decoder": 1}
    assert {file: file.read_bytes() for file in before} == before


def test_the_copy_holds_the_backend_with_this_interpreters_stub(tmp_path: Path) -> None:
    """And a version folder for the ensemble, which has no files."""
    lay_out(tmp_path, 1)
    assert os.access(tmp_path / "backends" / "python" / "triton_python_backend_stub", os.X_OK)
    assert (tmp_path / "models" / "clip" / "1").is_dir()


def test_less_than_one_instance_is_refused(tmp_path: Path) -> None:
    """By the model's name."""
    with pytest.raises(EmbeddedTritonError, match="denoiser must have at least one instance"):
        lay_out(tmp_path, {"denoiser": 0})


async def test_a_python_without_a_shared_libpython_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before a server is started; the folder is free again."""
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _name: None)
    for _ in range(2):
        with pytest.raises(EmbeddedTritonError, match="shared libpython"):
            async with embedded_triton(tmp_path, checkpoint="unused"):
                pytest.fail("there is nothing to run")


async def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation of the facade alone says what is missing."""

    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(EmbeddedTritonError, match=r"longtake\[embedded\]"):
        async with embedded_triton(tmp_path, checkpoint="unused"):
            pytest.fail("there is nothing to run")


async def test_a_missing_default_checkpoint_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where none is shipped nothing else is rendered with instead; the error says where it was looked for."""
    monkeypatch.setattr(embedded, "_source_root", lambda: tmp_path / "nowhere")
    monkeypatch.setattr(embedded, "_shared", lambda: tmp_path / "neither")
    with pytest.raises(EmbeddedTritonError, match=r"nowhere/checkpoints/tiny-ltx2 or .*neither"):
        async with embedded_triton(tmp_path / "server"):
            pytest.fail("there is nothing to run")


def test_the_tail_of_a_log_keeps_the_errors_further_up(tmp_path: Path) -> None:
    """Triton prints long tables after an error; lines of any length are cut."""
    log = tmp_path / "log"
    log.write_text("\n".join(["E1122 broken", *["table"] * 100, "x" * 10_000]))
    told = embedded._tail(log, 5).splitlines()
    assert told[0] == "E1122 broken"
    assert len(told) == 6
    assert len(told[-1]) < 1000


def test_the_embedded_server_imports_no_torch() -> None:
    """The facade runs where only the models' processes have torch."""
    source = Path(embedded.__file__).read_text()
    assert not re.search(r"^(import|from) (torch|diffusers|transformers|pytriton)", source, re.MULTILINE)
