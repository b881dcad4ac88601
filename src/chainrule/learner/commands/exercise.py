"""``chainrule exercise``: put a subject's exercises into the workbook."""

from __future__ import annotations

from typing import Annotated

import typer

from chainrule.course.manifest import open_course
from chainrule.course.paths import find_subject
from chainrule.learner.workbook import entries_of, write_stubs
from chainrule.program import typed


def exercise(
    subject: Annotated[list[str], typer.Argument(help="Title, id or topic, as for `path`.")],
    reset: Annotated[
        str, typer.Option(metavar="NAME", help="Start this exercise again, or 'all'; keeps a copy.")
    ] = "",
) -> None:
    """Write a subject's exercises into workbook/; what you have written there stays."""
    course = open_course()
    document = find_subject(course, " ".join(subject)).document
    written = write_stubs(course, document, reset)
    place = written.path.relative_to(course.place)
    titles = {entry.name: entry for entry in entries_of(course, document)}
    if written.backup:
        print(f"Your version is kept in {written.backup.relative_to(course.place)}.")
    if written.added:
        print(f"{place}: {len(written.added)} written")
        for name in written.added:
            entry = titles[name]
            print(f"  {entry.title} (difficulty {entry.difficulty}, {entry.minutes} min)")
    if written.kept:
        print(f"{place}: {len(written.kept)} left as they are")
    print(f"Edit the file, then type: {typed(f'check {document.slug} --watch')}")
