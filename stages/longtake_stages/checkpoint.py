"""The served checkpoint: where it lies, how it is served, what identifies it, and how its components are loaded.

A checkpoint is a diffusers folder of ``LTX2ConditionPipeline`` or the id of one on the Hugging Face hub.
"""

import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from longtake_stages.errors import CheckpointError
from longtake_stages.profile import BUILT_IN, PROFILE_FILE, Profile

if TYPE_CHECKING:
    from longtake_stages.device import Placement

CHECKPOINT_VARIABLE: Final = "LONGTAKE_CHECKPOINT"

TEXT_COMPONENTS: Final = frozenset({"text_encoder", "tokenizer", "connectors"})
DENOISING_COMPONENTS: Final = frozenset({"transformer", "vae", "scheduler", "audio_vae"})
DECODING_COMPONENTS: Final = frozenset({"vae", "audio_vae", "vocoder"})
COMPONENTS: Final = TEXT_COMPONENTS | DENOISING_COMPONENTS | DECODING_COMPONENTS

_INDEX_FILE: Final = "model_index.json"
_WEIGHT_SUFFIXES: Final = (".safetensors", ".bin")
_BLOCK: Final = 1 << 20
_WHOLE_FILE: Final = 64 * _BLOCK
_SAMPLES: Final = 64


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine's disk and its serving profile."""

    folder: Path
    profile: Profile

    def digest(self) -> str:
        """Hex SHA-256 over the names, sizes and contents of the component files, the index and the profile.

        A file above 64 MiB adds 64 blocks of 1 MiB at even distances, its first and last block among them, instead
        of all its content: another training differs everywhere, and 40 GB need not be read at every start.
        """
        whole = hashlib.sha256()
        for file in self._files():
            name = file.relative_to(self.folder).as_posix()
            whole.update(f"{name}\0{file.stat().st_size}\0".encode())
            for block in _blocks(file):
                whole.update(block)
        whole.update(msgspec.json.encode(self.profile, order="sorted"))
        return whole.hexdigest()

    def weight_bytes(self, components: Collection[str] = COMPONENTS) -> int:
        """Size of the weights of ``components`` on disk."""
        files = (file for name in sorted(components) for file in _tree(self.folder / name))
        return sum(file.stat().st_size for file in files if file.suffix in _WEIGHT_SUFFIXES)

    def config(self, component: str) -> dict[str, Any]:
        """The ``config.json`` of a component."""
        content: dict[str, Any] = msgspec.json.decode((self.folder / component / "config.json").read_bytes())
        return content

    def _files(self) -> list[Path]:
        parts = (file for name in sorted(COMPONENTS) for file in _tree(self.folder / name))
        return [self.folder / _INDEX_FILE, *parts]


def open_checkpoint(source: str, components: Collection[str] = COMPONENTS) -> Checkpoint:
    """Find the checkpoint ``source``: a folder, or a hub id, whose ``components`` are then fetched into hub's cache.

    Raises:
        CheckpointError: nothing is there, it is no diffusers folder, or nothing says how to serve it.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _fetch(source, components)
    missing = [name for name in (_INDEX_FILE, *sorted(components)) if not (folder / name).exists()]
    if missing:
        raise CheckpointError(f"{source} is no LTX-2 diffusers folder: it has no {', '.join(missing)}")
    return Checkpoint(folder, _profile(source, folder))


def served_checkpoint(components: Collection[str] = COMPONENTS) -> Checkpoint:
    """The checkpoint that the environment names. The stages read the environment here and nowhere else.

    Raises:
        CheckpointError: the variable is not set, or :func:`open_checkpoint` refuses what it names.
    """
    source = os.environ.get(CHECKPOINT_VARIABLE)
    if not source:
        raise CheckpointError(f"{CHECKPOINT_VARIABLE} names no checkpoint")
    return open_checkpoint(source, components)


def load_pipeline(checkpoint: Checkpoint, components: Collection[str], placement: "Placement") -> Any:
    """An ``LTX2ConditionPipeline`` that has only ``components``, in evaluation mode on the placement's device."""
    from diffusers import LTX2ConditionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        _disable_progress_bar(logging)
    pipeline_class: Any = LTX2ConditionPipeline
    absent = dict.fromkeys(COMPONENTS - frozenset(components))
    pipeline = pipeline_class.from_pretrained(checkpoint.folder, dtype=placement.dtype, local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(placement.device)


def _disable_progress_bar(logging: Any) -> None:
    logging.disable_progress_bar()


def _profile(source: str, folder: Path) -> Profile:
    file = folder / PROFILE_FILE
    if file.is_file():
        try:
            return msgspec.json.decode(file.read_bytes(), type=Profile)
        except msgspec.DecodeError as error:
            raise CheckpointError(f"{file}: {error}") from error
    if source in BUILT_IN:
        return BUILT_IN[source]
    raise CheckpointError(f"{source} has no {PROFILE_FILE}, and no built-in profile has that name")


def _fetch(source: str, components: Iterable[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [_INDEX_FILE, PROFILE_FILE, *(f"{name}/*" for name in sorted(components))]
    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise CheckpointError(f"{source} is neither a folder nor a checkpoint the hub gives: {error}") from error


def _tree(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))


def _blocks(file: Path) -> Iterable[bytes]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= _WHOLE_FILE:
            while block := stream.read(_BLOCK):
                yield block
            return
        for n in range(_SAMPLES):
            stream.seek((size - _BLOCK) * n // (_SAMPLES - 1))
            yield stream.read(_BLOCK)
