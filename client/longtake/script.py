"""Scripts as TOML files: ``schema = "mold.chain.v1"``, a table ``[chain]`` and a ``[[stage]]`` for every clip.

The file says what a request says, in the names of :class:`longtake.wire.ChainScript`. Beyond them it may have:

* in ``[chain]`` everything else a request has: ``prompt``, ``total_frames``, ``clip_frames`` (to be expanded into
  stages) and ``placement``;
* instead of ``source_image`` (base64) ``source_image_b64`` (the same) or ``source_image_path``: a file relative to the
  script's folder and inside it. At most one of the three;
* a seed as a string of digits: TOML's integers end at 2**63 - 1, seeds at 2**64 - 1. :func:`dump` writes the larger
  ones so.
"""

import base64
import binascii
import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import tomli_w

from longtake.errors import ScriptError
from longtake.wire import (
    MAX_U64,
    SCHEMA,
    ChainRequest,
    ChainScript,
    ChainStage,
    OutputFormat,
    Problem,
    Transition,
)

Table = dict[str, Any]

_MAX_TOML_INT: Final = 2**63 - 1
_IMAGE_KEYS: Final = ("source_image", "source_image_path", "source_image_b64")
_TOP_KEYS: Final = ("schema", "chain", "stage")
_CHAIN_KEYS: Final = (*(k for k in ChainRequest.__struct_fields__ if k != "stages"), *_IMAGE_KEYS[1:])
_STAGE_KEYS: Final = (*ChainStage.__struct_fields__, *_IMAGE_KEYS[1:])
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "transition": tuple(Transition),
    "output_format": get_args(OutputFormat),
}
_SEEDS: Final = ("seed", "seed_offset")
_AT: Final = re.compile(r"^(?P<message>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_SYNTAX_LINE: Final = re.compile(r"^(?P<message>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)$")


def load(path: str | os.PathLike[str]) -> ChainRequest:
    """The request a script file describes.

    Raises:
        ScriptError: it cannot be read, is no TOML (``line`` says where), or a field is wrong (``path``, ``problems``).
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ScriptError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ScriptError(f"{file}: not a text file in UTF-8") from error
    return loads(text, folder=file.parent)


def loads(text: str, *, folder: str | os.PathLike[str] | None = None) -> ChainRequest:
    """The request a script's text describes. Images are looked for in ``folder``; without one there are none.

    Raises:
        ScriptError: as :func:`load`.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text) from error
    problems = list(_shape(document))
    if problems:
        raise ScriptError.of(problems)
    base = Path(folder) if folder is not None else None
    request = _fields(document.get("chain", {}), "chain", base, problems)
    stages = [_fields(table, f"stage[{i}]", base, problems) for i, table in enumerate(document.get("stage", []))]
    if problems:
        raise ScriptError.of(problems)
    return _convert({**request, "stages": stages})


def dump(script: ChainScript | ChainRequest) -> str:
    """The TOML of a script or a request, which :func:`loads` reads back as the same request.

    Raises:
        ScriptError: the request holds what TOML cannot say (``null`` inside a list).
    """
    request = script.request() if isinstance(script, ChainScript) else script
    chain = _plain(msgspec.to_builtins(request), "chain")
    stages = chain.pop("stages", [])
    document: Table = {"schema": SCHEMA, "chain": chain}
    if stages:
        document["stage"] = [{"transition": Transition.SMOOTH.value} | stage for stage in stages]
    # The writer's multi-line form turns CR LF into LF.
    multiline = not any("\r" in text for text in _texts(document))
    return tomli_w.dumps(document, multiline_strings=multiline)


def _syntax_error(message: str, text: str) -> ScriptError:
    if found := _SYNTAX_LINE.match(message):
        line = int(found["line"])
        message = f"line {line}, column {found['column']}: {found['message']}"
    else:
        line = text.count("\n") + 1
        message = f"line {line}: {message.removesuffix(' (at end of document)')}, at the end of the file"
    return ScriptError(f"not TOML: {message}", line=line)


def _shape(document: Table) -> Iterable[Problem]:
    """What is wrong with the document's outermost structure."""
    yield from _unknown(document, _TOP_KEYS, "")
    if "schema" not in document:
        yield Problem(path="schema", message=f'missing; write schema = "{SCHEMA}" as the first line')
    elif document["schema"] != SCHEMA:
        yield Problem(path="schema", message=f'is {document["schema"]!r}; this client reads "{SCHEMA}"')
    chain, stages = document.get("chain", {}), document.get("stage", [])
    if not isinstance(chain, dict):
        yield Problem(path="chain", message="must be a table: [chain]")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        yield Problem(path="stage", message="must be an array of tables: write [[stage]] before each one")


def _unknown(table: Table, known: Iterable[str], path: str) -> Iterable[Problem]:
    known = list(known)
    for key in table:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(sorted(known))}"
        yield Problem(path=f"{path}.{key}" if path else key, message=f"unknown key; {hint}")


def _fields(table: Table, path: str, folder: Path | None, problems: list[Problem]) -> Table:
    """One table's keys as a request has them; what is wrong goes to ``problems``."""
    known = _CHAIN_KEYS if path == "chain" else _STAGE_KEYS
    problems.extend(_unknown(table, known, path))
    fields = {key: value for key, value in table.items() if key in known and key not in _IMAGE_KEYS}
    problems.extend(_bad_values(fields, path))
    for key in _SEEDS:
        if isinstance(fields.get(key), str):
            fields[key] = _seed(fields[key], f"{path}.{key}", problems)
    given = [key for key in _IMAGE_KEYS if key in table]
    if len(given) > 1:
        problems.append(Problem(path=path, message=f"has {' and '.join(given)}; give one of them"))
    elif given:
        try:
            fields["source_image"] = _image(given[0], table[given[0]], folder)
        except ValueError as error:
            problems.append(Problem(path=f"{path}.{given[0]}", message=str(error)))
    return fields


def _bad_values(fields: Table, path: str) -> Iterable[Problem]:
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(path=f"{path}.{key}", message="must be a finite number")
        choices = _CHOICES.get(key, ())
        if choices and value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            yield Problem(path=f"{path}.{key}", message=f"is {value!r}, not one of {', '.join(choices)}{hint}")


def _seed(text: str, path: str, problems: list[Problem]) -> int:
    # The length keeps int() away from texts of any size.
    if text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= MAX_U64:
        return int(text)
    problems.append(Problem(path=path, message=f"must be a whole number from 0 to {MAX_U64}"))
    return 0


def _image(key: str, value: object, folder: Path | None) -> bytes:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    if key == "source_image_path":
        return _image_file(value, folder)
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def _image_file(name: str, folder: Path | None) -> bytes:
    if folder is None:
        raise ValueError("a script that is no file has no folder to look in")
    relative = Path(name)
    if not name or "\0" in name or relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{name!r} must be a path relative to the script, inside its folder")
    try:
        file = (folder / relative).resolve(strict=True)
        if not file.is_relative_to(folder.resolve(strict=True)):
            raise ValueError(f"{name!r} leads out of the script's folder")
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{name!r}: {error.strerror or error}") from error


def _convert(fields: Table) -> ChainRequest:
    try:
        return msgspec.convert(fields, ChainRequest)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None
        path = (found["path"] or "").lstrip(".")
        stage = path.startswith("stages")
        path = path.replace("stages", "stage", 1) if stage else ".".join(filter(None, ["chain", path]))
        raise ScriptError(_in_words(found["message"]), path=path) from error


def _in_words(message: str) -> str:
    if missing := re.match(r"Object missing required field `(\w+)`", message):
        return f"{missing[1]} is missing"
    typed = re.match(r"Expected `([^`]+)`, got `([^`]+)`", message)
    if not typed:
        return message[:1].lower() + message[1:]
    expected = typed[1].replace(" | null", "").replace("int", "whole number").replace("str", "string")
    return f"must be a {expected}, not a {typed[2]}"


def _plain(value: Any, path: str) -> Any:
    """``value`` as TOML can say it: without nulls in tables, integers beyond its range as strings."""
    if isinstance(value, dict):
        return {key: _plain(item, f"{path}.{key}") for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if value is None:
        raise ScriptError("null cannot be written in TOML", path=path)
    if isinstance(value, int) and value > _MAX_TOML_INT:
        return str(value)
    return value


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
