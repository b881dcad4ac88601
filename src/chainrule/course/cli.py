"""The command line: ``chainrule``, typed by learners and by maintainers.

Bad input gets one clear line on standard error and exit status 2; nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated

from chainrule.course.manifest import CourseError
from chainrule.program import UsageError, typed

# Rooms with a folder of commands. The tool imports none of the others otherwise.
ROOMS = ("course", "trainer", "models", "life", "clinic", "predict")

# For whom a command is: so `chainrule --help` lists them. What is not named here stands last.
GROUPS = {
    "Learn": ("learn", "path", "find", "exercise", "check", "hint", "progress", "doctor"),
    "Models": ("train", "sample", "chat", "life", "models", "predict"),
    "Clinic": ("clinic",),
    "Authors": ("new", "audit"),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and turn expected errors into one line and exit status 2."""
    try:
        import typer
    except ModuleNotFoundError as error:
        sys.exit(f"chainrule: {error.name} is missing; type: pip install 'chainrule[course]'")
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        status = build(typer)(arguments or ["--help"], "chainrule", standalone_mode=False)
        sys.stdout.flush()
    except (CourseError, UsageError) as error:
        status = complain(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    except OSError as error:
        status = complain(f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:
        # Typer's own errors carry a message for people; anything else is a defect of ours.
        if not hasattr(error, "format_message"):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "chainrule"
        message = error.format_message().replace("Value error, ", "").rstrip(".?")
        status = complain(f"{message}; see: {command} --help")
    sys.exit(status if isinstance(status, int) else 0)


def complain(message: str) -> int:
    """Say on standard error what was wrong; the exit status for bad input."""
    # A command that a message suggests runs as it stands.
    message = re.sub(r"(?<=: )chainrule (?=[a-z])", f"{typed()} ", message)
    for line in message.splitlines():
        print(f"chainrule: {line}", file=sys.stderr)
    return 2


def build(typer):
    """Assemble the application from the files in the ``commands/`` of each room."""
    from typer.core import TyperGroup

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

    app = typer.Typer(
        name="chainrule",
        cls=Grouped,
        help="A course in machine learning that is also software.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from importlib.metadata import version

            print(f"chainrule {version('chainrule')}")
            raise typer.Exit

    versioned = typer.Option(
        "--version", is_eager=True, callback=show_version, help="Show the version and exit."
    )

    def options(version=False):
        """A course in machine learning that is also software."""

    # Typer reads annotations; with the import inside a function they cannot be written there.
    options.__annotations__ = {"version": Annotated[bool, versioned]}
    app.callback()(options)
    folders = [import_module(f"chainrule.{room}.commands") for room in ROOMS]
    found = [(m.name, f.__name__) for f in folders for m in iter_modules(f.__path__)]
    for name, folder in sorted(found):
        import_module(f"{folder}.{name}").register(app)
    return app
