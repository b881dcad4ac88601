"""``chainrule progress``: what is done, what is open next.

A room with a module ``parts`` adds its own picture of what a learner has passed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(progress)


def progress(
    known: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Mark a subject as known.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Take that mark away.")
    ] = None,
) -> None:
    """Show what is done and what is open to you next."""
    from chainrule.course.cli import ROOMS
    from chainrule.course.manifest import find_root, load_course
    from chainrule.course.paths import find_subject
    from chainrule.course.workbook import (
        entries_of,
        load_progress,
        open_documents,
        save_progress,
    )

    course = load_course(find_root())
    state = load_progress(course.root)
    if known or forget:
        adding = {find_subject(course, name).document.id for name in known or ()}
        taking = {find_subject(course, name).document.id for name in forget or ()}
        state.known = (state.known | adding) - taking
        save_progress(course.root, state)
    done, written = state.done(course), course.written()
    for document in course.documents:
        names = state.passed.get(document.id, {})
        if not (document.id in done or names):
            continue
        what = "known" if document.id in state.known else "done"
        if names and (course.root / document.exercises).is_file():
            entries = [entry.name for entry in entries_of(course, document)]
            count = sum(name in names for name in entries)
            what = f"{count} of {len(entries)} exercises" + ", known" * (document.id in state.known)
        mark = "✓" if document.id in done else "…"
        typer.secho(f"  {mark} {document.title:28} {what}", fg="green" if mark == "✓" else None)
    finished = sum(document.id in done for document in written)
    print(f"\n  {finished} of {len(written)} written documents done or known.")
    for room in ROOMS:
        if find_spec(f"chainrule.{room}.parts"):
            print(f"\n{import_module(f'chainrule.{room}.parts').picture(state.passed)}")
    following = open_documents(course, done)
    if following:
        print("  Open to you now:")
    for document in following:
        print(f"    {document.title:28} {document.minutes:3} min  {document.path}")
