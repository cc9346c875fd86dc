"""Request bodies: JSON to the wire's structs, every fault with the path of its field and what is allowed there."""

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from longtake.wire import Problem

T = TypeVar("T")
Json = Any


class MalformedJson(Exception):
    """The body is no JSON document."""


class Invalid(Exception):
    """The request is refused. ``problems`` names every field found at fault, at least one."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message)
        self.problems = problems


def parse(body: bytes, into: type[T], *, ignored: Collection[str] = ()) -> tuple[T, list[Problem]]:
    """Decode ``body``; ``null`` counts as absent. Returns the value and a warning for each ``ignored`` key it had.

    Raises:
        MalformedJson: not JSON.
        Invalid: not of the type; an unknown key names the nearest known one.
    """
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedJson(f"the body is not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise Invalid([Problem(path="", message=f"expected a JSON object, got {_json_name(raw)}")])
    warnings = [
        Problem(path=key, message=f"`{key}` has no effect here and is ignored") for key in raw if key in ignored
    ]
    kept = {key: value for key, value in raw.items() if key not in ignored}
    try:
        return msgspec.convert(_without_nulls(kept), into), warnings
    except msgspec.ValidationError as error:
        raise Invalid([_problem(str(error), into)]) from error


def _without_nulls(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _json_name(value: Json) -> str:
    names: Mapping[type, str] = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


_AT = re.compile(r"^(?P<message>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^Object (?P<what>contains unknown|missing required) field `(?P<name>.*)`$", re.DOTALL)


def _problem(text: str, into: type) -> Problem:
    """Turn a message of msgspec, ``… - at `$.stages[0].frames```, into a problem at ``stages[0].frames``."""
    match = _AT.match(text)
    assert match is not None
    message, path = match["message"], match["path"] or ""
    kind = _type_at(into, path)
    if field := _FIELD.match(message):
        where = f"{path}.{field['name']}" if path else field["name"]
        if field["what"].startswith("missing"):
            return Problem(path=where, message=f"`{where}` is required")
        return Problem(path=where, message=f"unknown key `{where}`{_nearest(field['name'], kind)}")
    allowed = _allowed(kind)
    return Problem(path=path, message=f"`{path}`: {message}" + (f"; allowed: {allowed}" if allowed else ""))


def _nearest(name: str, kind: inspect.Type | None) -> str:
    if not isinstance(kind, inspect.StructType):
        return ""
    known = [field.encode_name for field in kind.fields]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.0)
    return f"; the nearest known key is `{near[0]}`" if near else ""


def _type_at(into: type, path: str) -> inspect.Type | None:
    kind: inspect.Type | None = inspect.type_info(into)
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        kind = _child(_unwrapped(kind), step)
    return _unwrapped(kind)


def _child(kind: inspect.Type | None, step: str) -> inspect.Type | None:
    if isinstance(kind, inspect.StructType):
        return next((field.type for field in kind.fields if field.encode_name == step), None)
    if isinstance(kind, inspect.ListType):
        return kind.item_type
    if isinstance(kind, inspect.DictType):
        return kind.value_type
    return None


def _unwrapped(kind: inspect.Type | None) -> inspect.Type | None:
    """A type without its metadata and its ``| None``."""
    if isinstance(kind, inspect.Metadata):
        return _unwrapped(kind.type)
    if isinstance(kind, inspect.UnionType):
        return _unwrapped(next(item for item in kind.types if not isinstance(item, inspect.NoneType)))
    return kind


def _allowed(kind: inspect.Type | None) -> str:
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, inspect.EnumType):
        return ", ".join(f"`{item.value}`" for item in kind.cls)
    if isinstance(kind, inspect.IntType):
        high = f"..{kind.le}" if kind.le is not None else " or more"
        return f"whole numbers, {kind.ge}{high}" if kind.ge is not None else "whole numbers"
    if isinstance(kind, inspect.BytesType):
        return "base64 in the standard alphabet, padded"
    return ""
