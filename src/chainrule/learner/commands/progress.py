"""``chainrule progress``: what is done, what is open next.

A room with a module ``parts`` adds its own picture of what a learner has passed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from chainrule.application import ROOMS
from chainrule.course.manifest import Course, open_course
from chainrule.course.paths import find_subject
from chainrule.files import write_atomically
from chainrule.learner import workbook
from chainrule.learner.page import carry


def progress(
    known: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Mark a subject as known.")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Take that mark away.")
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write your work to a file for the page."),
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option("--import", metavar="FILE", help="Take over what the page saved as a file."),
    ] = None,
) -> None:
    """Show what is done and what is open to you next; carry it to and from the page."""
    course = open_course()
    if import_from:
        take_over(course, import_from)
    if export_to:
        write_out(course, export_to)
    if import_from or export_to:
        return
    state = workbook.load_progress(course.place)
    if known or forget:
        adding = {find_subject(course, name).document.id for name in known or ()}
        taking = {find_subject(course, name).document.id for name in forget or ()}
        with workbook.changing(course.place) as state:
            state.known = (state.known | adding) - taking
    show(course, state)


def show(course: Course, state: workbook.Progress) -> None:
    """Print how far each begun document is, the rooms' pictures, and what is open next."""
    done, written = state.done(course), course.written()
    for document in course.documents:
        names = state.passed.get(document.id, {})
        if not (document.id in done or names):
            continue
        what = "known" if document.id in state.known else "done"
        if names and (course.root / document.exercises).is_file():
            entries = [entry.name for entry in workbook.entries_of(course, document)]
            count = sum(name in names for name in entries)
            what = f"{count} of {len(entries)} exercises" + ", known" * (document.id in state.known)
        mark = "✓" if document.id in done else "…"
        typer.secho(f"  {mark} {document.title:28} {what}", fg="green" if mark == "✓" else None)
    finished = sum(document.id in done for document in written)
    print(f"\n  {finished} of {len(written)} written documents done or known.")
    for room in ROOMS:
        if find_spec(f"chainrule.{room}.parts"):
            print(f"\n{import_module(f'chainrule.{room}.parts').picture(state.passed)}")
    following = workbook.open_documents(course, done)
    if following:
        print("  Open to you now:")
    for document in following:
        print(f"    {document.title:28} {document.minutes:3} min  {document.path}")


def take_over(course: Course, path: Path) -> None:
    """Add the file that a page saved to the workbook, and say what came."""
    carried = carry.take(course, carry.read(path))
    print(f"{path}: newly passed: {carried.passed}; answers taken over: {carried.answers}.")
    for backup in carried.backups:
        print(f"Your version is kept in {backup.relative_to(course.place)}.")
    if carried.unknown:
        print(f"Not in this checkout, left out: {', '.join(carried.unknown)}")


def write_out(course: Course, path: Path) -> None:
    """Write the workbook to a file that a page can take."""
    work = carry.collect(course)
    write_atomically(path, carry.WORK.dump_json(work, indent=1) + b"\n")
    answers, passed = (sum(map(len, table.values())) for table in (work.answers, work.passed))
    print(f"{path}: answers: {answers}; passed: {passed}. A page takes it over.")
