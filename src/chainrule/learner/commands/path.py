"""``chainrule path``: the shortest reading path to a subject."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import typer

from chainrule.course.asking import agrees
from chainrule.course.manifest import Course, Document, open_course
from chainrule.course.paths import Subject, duration, find_subject
from chainrule.learner.workbook import changing, load_progress
from chainrule.program import typed

MISSES = 3
"""After so many in a row that are not known, the rest is not asked."""


@dataclass(frozen=True)
class Step:
    """A document on a path, and the reasons for reading it: who needs it, and what for."""

    document: Document
    reasons: list[tuple[Document, str]]


def path(
    subject: Annotated[list[str], typer.Argument(help="Title, id, topic or concept.")],
    known: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Leave this out (repeatable).")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Answer a question a document; known ones leave the path.")
    ] = False,
) -> None:
    """Show the shortest reading path to a subject, without what you know already."""
    course = open_course()
    goal = find_subject(course, " ".join(subject))
    skip = {find_subject(course, name).document.id for name in known or ()}
    skip |= load_progress(course.place).done(course)
    if ask:
        steps = reading_path(course, goal.document.id, skip)
        skip |= ask_what_is_known(course, [step.document for step in steps])
    steps = reading_path(course, goal.document.id, skip)
    print(as_text(course, goal, steps))


def ask_what_is_known(course: Course, documents: list[Document]) -> set[str]:
    """Ask about each document; what is known is kept at once, as `progress --known` keeps it.

    After three misses in a row the rest, which builds on what is missing, is not asked.
    """
    known: set[str] = set()
    missed = 0
    print("A question a document, in reading order; pen and paper are allowed.")
    for document in documents:
        if (ask := course.asks.get(document.id)) is None:
            continue
        if (given := _reply(f"{document.title}: {ask.question}")) is None:
            break
        if agrees(given, ask.answer):
            print(f"  Right: {document.title} is marked as known.")
            known.add(document.id)
            with changing(course.place) as state:
                state.known.add(document.id)
            missed = 0
            continue
        missed += 1
        where = document.path if course.exists(document) else document.title
        verdict = f"It is {ask.answer}" if given.strip() else f"The answer is {ask.answer}"
        print(f"  {verdict}: {where} stays on your path.")
        if missed == MISSES:
            print(f"  {MISSES} in a row: the rest builds on these and is not asked.")
            break
    print()
    return known


def _reply(question: str) -> str | None:
    """What is typed below a question; nothing where somebody stops."""
    print(f"\n{textwrap.fill(question, 88)}")
    try:
        given = input("  your answer, a number (Enter: I don't know, q: stop) > ")
    except EOFError:
        print()
        return None
    return None if given.strip().casefold() in ("q", "quit") else given


def reading_path(course: Course, goal: str, known: Iterable[str] = ()) -> list[Step]:
    """What to read for a goal, in reading order; what is known, and is needed only by that, is not.

    The goal itself is always the last step.
    """
    unknown = course.graph.subgraph(course.by_id.keys() - set(known) | {goal})
    wanted = nx.ancestors(unknown, goal) | {goal}
    return [
        Step(each, [(user, why) for user, why in course.dependents(each.id) if user.id in wanted])
        for each in course.documents
        if each.id in wanted
    ]


def as_text(course: Course, goal: Subject, steps: list[Step]) -> str:
    """One document a line, with the reason why it is on the path."""
    where = goal.document.path + (f"#{goal.anchor}" if goal.anchor else "")
    total = duration(sum(step.document.minutes for step in steps))
    plural = "document" if len(steps) == 1 else "documents"
    lines = [f"{goal.name} is taught in {where}", f"{len(steps)} {plural}, {total}", ""]
    for number, step in enumerate(steps, 1):
        document = step.document
        planned = "" if course.exists(document) else "  (not written yet)"
        lines.append(f"{number:3}. {document.title:28} {document.minutes:3} min{planned}")
        for user, because in step.reasons[:1]:
            lines.append(f"       for {user.title}: {because}")
        if not step.reasons:
            lines.append(f"       {document.promise}")
    if course.place != course.root:
        lines.append(f"\nThe documents are in {course.root}; to read them, type: {typed('learn')}")
    return "\n".join(lines)
