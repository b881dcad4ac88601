"""``chainrule hint``: help with an exercise, one step further each time."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.course.manifest import open_course
from chainrule.learner.reading import helps
from chainrule.learner.workbook import changing, find_exercise
from chainrule.program import typed


def hint(
    exercise: Annotated[list[str], typer.Argument(help="Name or title of an exercise.")],
) -> None:
    """Help with an exercise: what to reread, the idea, the first line; each call one further."""
    course = open_course()
    document, entry = find_exercise(course, " ".join(exercise))
    with changing(course.place) as state:
        shown = state.hinted.setdefault(document.id, {})
        shown[entry.name] = min(shown.get(entry.name, 0) + 1, 3)
    first, *others = helps(entry)
    told = [f"{first} {document.path}#{entry.section}", *others]
    for number, text in enumerate(told[: shown[entry.name]], 1):
        typer.echo(f"{number}. {text}")
    further = typed(f"hint {entry.name}")
    if shown[entry.name] == 3:
        further = typed(f"check --solution {entry.name} --anyway")
    typer.secho(f"Further help: {further}", fg="bright_black")
