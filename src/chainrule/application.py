"""The application: what each file in a room's ``commands/`` defines under the file's own name."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as version_of
from pkgutil import iter_modules
from typing import Annotated

import typer
from typer.core import TyperGroup

# Rooms with a folder of commands.
ROOMS = ("course", "learner", "trainer", "models", "life", "clinic", "claims", "predict")

# For whom a command is: so `chainrule --help` lists them. What is not named here stands last.
GROUPS = {
    "Learn": ("learn", "path", "find", "exercise", "check", "hint", "progress", "doctor"),
    "Models": ("train", "sample", "chat", "life", "models", "predict"),
    "Clinic": ("clinic", "claim"),
    "Authors": ("new", "audit"),
}


class Grouped(TyperGroup):
    """The commands, listed by group."""

    def format_commands(self, ctx, formatter) -> None:
        """Write a section a group, with the first sentence of each command's help."""
        listed = {name for names in GROUPS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in listed)
        limit = formatter.width - 6 - max(map(len, self.commands))
        for title, names in {**GROUPS, "Others": others}.items():
            here = [(name, self.commands[name]) for name in names if name in self.commands]
            if here:
                with formatter.section(title):
                    formatter.write_dl([(n, c.get_short_help_str(limit)) for n, c in here])


def show_version(wanted: bool) -> None:
    """Print the version and stop, where that is asked for."""
    if wanted:
        print(f"chainrule {version_of('chainrule')}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """A course in machine learning that is also software."""


def build() -> typer.Typer:
    """Put the application together."""
    app = typer.Typer(
        name="chainrule", cls=Grouped, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(options)
    folders = [import_module(f"chainrule.{room}.commands") for room in ROOMS]
    found = [(m.name, f.__name__) for f in folders for m in iter_modules(f.__path__)]
    for name, folder in sorted(found):
        command = getattr(import_module(f"{folder}.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app
