"""The command line: ``chainrule``, typed by learners and by maintainers.

Bad input gets one clear line on standard error and exit status 2; nothing is written.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pkgutil import iter_modules

from chainrule.course.manifest import CourseError


class UsageError(Exception):
    """What a person asked for cannot be done; the message says why and what to type instead."""


def main() -> None:
    """Run the command line and turn expected errors into one line and exit status 2."""
    try:
        import typer
    except ModuleNotFoundError as error:
        sys.exit(f"chainrule: {error.name} is missing; type: pip install 'chainrule[course]'")
    try:
        build(typer)()
    except (CourseError, UsageError) as error:
        for line in str(error).splitlines():
            print(f"chainrule: {line}", file=sys.stderr)
        sys.exit(2)


def build(typer):
    """Assemble the application from the files in ``commands/``."""
    from chainrule.course import commands

    app = typer.Typer(
        name="chainrule",
        help="A course in machine learning that is also software.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for module in sorted(iter_modules(commands.__path__), key=lambda module: module.name):
        import_module(f"chainrule.course.commands.{module.name}").register(app)
    return app
