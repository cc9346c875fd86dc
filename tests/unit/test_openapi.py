"""The OpenAPI document: valid, and of exactly the endpoints there are."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from longtake_facade.handlers import routes
from longtake_facade.openapi import document

# Alternatives that a page or a fallback answers, no endpoints of the API.
UNDOCUMENTED = {"/", "/api/docs"}


def plain(path: str) -> str:
    """A route's path as OpenAPI writes it: without the patterns of its variables."""
    return re.sub(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}", r"{\1}", path)


@pytest.fixture(scope="module")
def published() -> Any:
    """The document as a client gets it: through JSON."""
    return msgspec.json.decode(msgspec.json.encode(document()))


def operations(published: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in published["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def references(value: Any) -> Iterator[str]:
    """Every ``$ref`` below a value."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_document_is_valid_openapi(published: Any) -> None:
    """Of version 3.1."""
    assert published["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(published).iter_errors()] == []


def test_every_endpoint_is_documented_and_no_other(published: Any) -> None:
    """Method by method."""
    served = {(plain(route.path), route.method) for route in routes()}
    documented = {(path, method) for path, method, _ in operations(published)}
    assert documented == {(path, method) for path, method in served if path not in UNDOCUMENTED}


def test_every_variable_of_a_path_is_described(published: Any) -> None:
    """By its name, once."""
    for path, _, operation in operations(published):
        described = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
        assert sorted(described) == sorted(re.findall(r"\{(\w+)\}", path)), path


def test_every_schema_that_is_named_is_there(published: Any) -> None:
    """And each that is there is used, or named in the description of a stream."""
    schemas = published["components"]["schemas"]
    named = {reference.removeprefix("#/components/schemas/") for reference in references(published)}
    assert named <= schemas.keys()
    told = {"Complete", "ChainError", "ProgressEvent"}
    assert schemas.keys() <= named | told


def test_every_operation_can_fail_in_the_way_of_all(published: Any) -> None:
    """The default answer is the error."""
    for path, method, operation in operations(published):
        schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ApiError"}, (method, path)
