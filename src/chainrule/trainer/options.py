"""Options of commands, each declared once, with the section of the course that teaches it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chainrule.program import UsageError


def taught(what: str, section: str, *names: str, **settings: Any) -> Any:
    """An option whose help ends with the section that teaches it."""
    return typer.Option(*names, help=f"{what} Taught in {section}.", **settings)


def mine_option(does: str) -> Any:
    """``--mine``: the command does it with the learner's functions."""
    what = f"{does} with the functions of your workbook that pass."
    return taught(what, "transformers/gpt#the-run", "--mine")


Anyway = Annotated[
    bool,
    taught("With --mine: also those that do not pass.", "transformers/gpt#the-run", "--anyway"),
]
"""``--anyway``, which goes with ``--mine``."""


def run_mine(command: str, options: dict[str, Any], mine: bool, anyway: bool) -> None:
    """With ``--mine``, run a command with the learner's functions instead, and leave."""
    if anyway and not mine:
        raise UsageError("--anyway belongs to --mine; add that, or leave it out")
    if mine:
        from chainrule.trainer.mine import with_mine

        raise typer.Exit(with_mine(command, options, anyway))
