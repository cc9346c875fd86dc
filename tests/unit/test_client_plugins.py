"""Commands of other packages, and what a shell completes."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from longtake import cli
from longtake.plugins import COMMANDS_GROUP


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The package has the commands ``shout`` and ``lost``, which cannot be imported; returns which were loaded."""
    entries = [importlib.metadata.EntryPoint(name, f"{name}:run", COMMANDS_GROUP) for name in ("shout", "lost")]
    names: list[str] = []

    def load(entry: importlib.metadata.EntryPoint) -> object:
        names.append(entry.name)
        if entry.name == "lost":
            raise ModuleNotFoundError("No module named 'lost'")
        return shout

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: entries)
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    return names


def shout(*, loud: bool = False) -> None:
    """Say hey."""
    sys.stdout.write("HEY!\n" if loud else "HEY\n")


def completed(words: str) -> list[str]:
    """What bash is told for a line whose last word is being typed."""
    typed = words.split(" ")
    line = {"_LONGTAKE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}
    result = CliRunner().invoke(cli.app, [], env=line, prog_name="longtake")
    assert result.exit_code == 0, result.output
    return result.stdout.split()


def test_a_command_of_another_package_runs(loaded: list[str]) -> None:
    """With its options; only the one that is called is imported."""
    assert CliRunner().invoke(cli.app, ["shout", "--loud"]).stdout == "HEY!\n"
    assert loaded == ["shout"]


def test_a_command_that_cannot_be_imported_says_what_to_install() -> None:
    """In words."""
    result = CliRunner().invoke(cli.app, ["lost"])
    assert result.exit_code == cli.FAILED
    assert "longtake[embedded]" in result.stderr
    assert "Traceback" not in result.output


def test_a_command_of_ours_imports_no_other(loaded: list[str]) -> None:
    """Theirs may take seconds."""
    assert CliRunner().invoke(cli.app, ["render", "--help"]).exit_code == 0
    assert loaded == []


def test_help_lists_ours_and_theirs() -> None:
    """Each on a line, the completion's options too."""
    lines = CliRunner().invoke(cli.app, ["--help"]).stdout.splitlines()
    starts = [line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert starts[1:] == [
        "--install-completion", "--show-completion", "--help",
        "render", "validate", "limits", "chains", "shout", "lost",
    ]  # fmt: skip


def test_names_are_completed_without_importing_what_they_name(loaded: list[str]) -> None:
    """A shell asks at every press of the key."""
    assert completed("longtake ") == ["render", "validate", "limits", "chains", "shout", "lost"]
    assert completed("longtake s") == ["shout"]
    assert completed("longtake chains w") == ["watch"]
    assert completed("longtake render --format ") == ["mp4", "gif", "apng", "webp"]
    assert loaded == []


def test_options_of_other_packages_are_completed(loaded: list[str]) -> None:
    """Which takes the import of that one."""
    assert "--loud" in completed("longtake shout --l")
    assert loaded == ["shout"]


def test_files_are_left_to_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing said, it completes names of files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.toml").touch()
    assert completed("longtake render f") == []


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/longtake.sh"),
        ("zsh", ".zfunc/_longtake"),
        ("fish", ".config/fish/completions/longtake.fish"),
    ],
)
def test_completion_is_installed_for_the_shell_in_use(
    shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script that is shown is the one that is installed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    shown = CliRunner().invoke(cli.app, ["--show-completion"], prog_name="longtake")
    assert f"_LONGTAKE_COMPLETE=complete_{shell}" in shown.stdout
    assert CliRunner().invoke(cli.app, ["--install-completion"], prog_name="longtake").exit_code == 0
    assert (tmp_path / file).read_text().strip() == shown.stdout.strip()


def test_bash_completes_with_the_installed_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real shell calls the real command."""
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    script = tmp_path / "completion"
    script.write_text(CliRunner().invoke(cli.app, ["--show-completion"], prog_name="longtake").stdout)
    commands = 'source "$0"; COMP_WORDS=(longtake chains d); COMP_CWORD=2; _longtake_completion longtake; '
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = ["bash", "-c", commands + 'echo "${COMPREPLY[@]}"', script]
    result = subprocess.run(line, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["delete", "download"]
