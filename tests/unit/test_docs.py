"""The documentation says what is there."""

import re
import tomllib
from pathlib import Path

from longtake.script import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()


def test_every_module_of_the_facade_is_in_the_architecture() -> None:
    """The table names each of them, and none that is gone."""
    table = ARCHITECTURE.split("| module of the facade | does |")[1]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    folder = ROOT / "facade" / "longtake_facade"
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert named == modules - {"__init__", "__main__"}


def test_every_link_of_the_documents_leads_somewhere() -> None:
    """To a file or folder of the repository."""
    for document in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readmes_script_is_a_script(tmp_path: Path) -> None:
    """It can be pasted into a file and read."""
    script = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / "script.toml").write_text(script)
    request = load(tmp_path / "script.toml")
    assert len(request.stages) == len(tomllib.loads(script)["stage"]) == 2


def test_the_readme_begins_with_the_two_commands() -> None:
    """The main job first, then the tests."""
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)
    assert commands[:2] == ["make demo", "make test"]
