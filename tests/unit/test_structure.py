"""Who may import what: the contracts in pyproject.toml, and rules about single modules that they cannot express."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"client": "longtake", "facade": "longtake_facade", "stages": "longtake_stages"}
MODELS = ROOT / "model_repository"


def module_name(file: Path) -> str:
    """The dotted name of a source file."""
    parts = file.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, ast.Module]:
    """Every module of the three packages, parsed, by its dotted name."""
    files = (file for folder, package in PACKAGES.items() for file in (ROOT / folder / package).rglob("*.py"))
    return {module_name(file): ast.parse(file.read_text("utf-8")) for file in files}


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that ``tree`` imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reads_environment(tree: ast.AST) -> bool:
    """Whether ``tree`` takes ``os.environ`` or ``os.getenv`` in hand."""
    names = {"environ", "getenv"}
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in names)
    taken = any(isinstance(node.value, ast.Name) and node.value.id == "os" for node in attributes)
    return taken or not {f"os.{name}" for name in names}.isdisjoint(imports(tree))


def importers(library: str) -> set[str]:
    """Modules that import ``library`` or a part of it."""
    return {
        name
        for name, tree in sources().items()
        if any(f"{found}.".startswith(f"{library}.") for found in imports(tree))
    }


def distribution(requirement: str) -> str:
    """The normalised name of the distribution in a requirement such as ``tritonclient[grpc]>=2.60``."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def test_every_import_contract_is_kept(tmp_path: Path) -> None:
    """The contracts of ``[tool.importlinter]`` hold, as `make check` runs them."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--cache-dir", tmp_path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("tritonclient", {"longtake_facade.triton"}),
        ("av", {"longtake.video", "longtake_facade.encode"}),
        ("pydantic_settings", {"longtake_facade.settings"}),
    ],
)
def test_a_library_has_one_door(library: str, allowed: set[str]) -> None:
    """What can change under us is imported by the one module or package that wraps it."""
    doors = tuple(f"{name}." for name in allowed)
    assert {name for name in importers(library) if not f"{name}.".startswith(doors)} == set()


@pytest.mark.parametrize(
    ("package", "extra"), [("longtake", "frames"), ("longtake_facade", "facade"), ("longtake_stages", "stages")]
)
def test_a_package_asks_for_what_it_imports(package: str, extra: str) -> None:
    """With its extra alone (as in its image), nothing that a package imports is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {distribution(name) for name in (*project["dependencies"], *project["optional-dependencies"][extra])}
    trees = (tree for module, tree in sources().items() if module.partition(".")[0] == package)
    found = {name.partition(".")[0] for tree in trees for name in imports(tree)}
    foreign = found - sys.stdlib_module_names - {*PACKAGES.values()}
    providers = packages_distributions()
    missing = {name for name in foreign if asked.isdisjoint(distribution(dist) for dist in providers.get(name, ["?"]))}
    assert missing == set()


@pytest.mark.parametrize("library", ["torch", "diffusers", "transformers", "triton_python_backend_utils"])
def test_the_models_libraries_stay_in_the_stages(library: str) -> None:
    """The client and the facade install and start without PyTorch."""
    assert {name.partition(".")[0] for name in importers(library)} <= {"longtake_stages"}


def test_the_facade_takes_nothing_of_the_stages_but_the_contract() -> None:
    """Between the facade and the models stand the tensors' names and the shapes, nothing else."""
    shared = ("longtake_stages.contract.", "longtake_stages.geometry.")
    taken = {
        found
        for name, tree in sources().items()
        if name.startswith("longtake_facade")
        for found in imports(tree)
        if found.startswith("longtake_stages")
    }
    assert {name for name in taken if not f"{name}.".startswith(shared)} == set()


@pytest.mark.parametrize("module", ["longtake_stages.contract", "longtake_stages.geometry"])
def test_the_contract_rests_on_the_wire_alone(module: str) -> None:
    """The seam imports the standard library, msgspec and the wire."""
    roots = {name if name.startswith("longtake") else name.partition(".")[0] for name in imports(sources()[module])}
    ours = {name for name in roots if name.startswith("longtake")}
    assert roots - ours <= sys.stdlib_module_names | {"msgspec"}
    assert all(name.startswith("longtake.wire") for name in ours)


def test_each_process_reads_its_environment_in_one_module() -> None:
    """Settings come from one place in the facade, and from one in the models' processes.

    The embedded server's starter hands its environment on to the process that it starts.
    """
    readers = {name for name, tree in sources().items() if reads_environment(tree)}
    assert readers <= {"longtake_facade.settings", "longtake_facade.embedded", "longtake_stages.checkpoint"}


def test_the_models_files_are_thin_adapters() -> None:
    """What a model does lives in the installed package, where it is typed and tested."""
    ours = {"longtake_stages", "triton_python_backend_utils", "numpy", "json"}
    for file in MODELS.glob("*/1/model.py"):
        found = set(imports(ast.parse(file.read_text("utf-8"))))
        assert {name.partition(".")[0] for name in found} <= ours | sys.stdlib_module_names, file
