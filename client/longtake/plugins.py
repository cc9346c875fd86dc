"""Commands that other installed packages add to ``longtake``, each loaded when it is called or described."""

import importlib.metadata
from collections.abc import Callable
from typing import Any, Final

import typer
from typer.core import TyperGroup

from longtake.outcome import FAILED, say

COMMANDS_GROUP: Final = "longtake.commands"
"""Entry points of other packages that add a command: a name, and a function for typer."""


class Commands(TyperGroup):
    """Our commands and those of other packages, whose import may take seconds.

    Theirs are imported to run them, to complete their options and for the list in ``--help``, not for anything of ours
    and not to complete a command's name.
    """

    _names_suffice = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Our names, then theirs."""
        own = super().list_commands(ctx)
        return own + [name for name in _entries() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name; None if there is none."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _entries():
            return own
        if self._names_suffice:
            return _command(cmd_name, _unloaded, f"longtake {cmd_name} --help describes it.")
        self.add_command(_command(cmd_name, _loaded(_entries()[cmd_name])))
        return super().get_command(ctx, cmd_name)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What a command line that names no command yet can go on with."""
        self._names_suffice = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._names_suffice = False


def _entries() -> dict[str, importlib.metadata.EntryPoint]:
    return {entry.name: entry for entry in importlib.metadata.entry_points(group=COMMANDS_GROUP)}


def _command(name: str, function: Callable[..., Any], description: str | None = None) -> Any:
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, help=description)(function)
    return typer.main.get_command(alone)


def _unloaded() -> None:
    """A command of another package, known by name."""


def _loaded(entry: importlib.metadata.EntryPoint) -> Callable[..., Any]:
    try:
        command: Callable[..., Any] = entry.load()
    except ImportError as error:
        return _absent(entry.name, error)
    return command


def _absent(name: str, error: ImportError) -> Callable[[], None]:
    reason = str(error)

    def command() -> None:
        say(f"error: longtake {name} is not installed ({reason}): pip install 'longtake[embedded]'")
        raise typer.Exit(FAILED)

    command.__doc__ = "Not installed: pip install 'longtake[embedded]'."
    return command
