"""``chainrule path``: the shortest reading path to a subject."""

from __future__ import annotations

import json
import textwrap
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chainrule.course.manifest import Course, Document
    from chainrule.course.paths import Step, Subject


class Format(StrEnum):
    """How a path is printed."""

    TEXT = "text"
    MERMAID = "mermaid"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(path)


def path(
    subject: Annotated[list[str], typer.Argument(help="Title, id, topic or concept.")],
    known: Annotated[
        list[str] | None, typer.Option(metavar="SUBJECT", help="Leave this out (repeatable).")
    ] = None,
    ask: Annotated[
        bool, typer.Option("--ask", help="Answer a question a document; known ones leave the path.")
    ] = False,
    format: Annotated[Format, typer.Option(help="How the path is printed.")] = Format.TEXT,
) -> None:
    """Show the shortest reading path to a subject, without what you know already."""
    from chainrule.course.exercises.workbook import load_progress
    from chainrule.course.manifest import find_root, load_course
    from chainrule.course.paths import find_subject, reading_path

    course = load_course(find_root())
    goal = find_subject(course, " ".join(subject))
    skip = {find_subject(course, name).document.id for name in known or ()}
    skip |= load_progress(course.root).done(course)
    if ask:
        steps = reading_path(course, goal.document.id, skip)
        skip |= ask_what_is_known(course, [step.document for step in steps])
    steps = reading_path(course, goal.document.id, skip)
    write = {Format.TEXT: as_text, Format.MERMAID: as_mermaid, Format.JSON: as_json}[format]
    print(write(course, goal, steps))


def ask_what_is_known(course: Course, documents: list[Document]) -> set[str]:
    """Ask about each document; what is known is kept at once, as `progress --known` keeps it."""
    from chainrule.course.asking import ask_about
    from chainrule.course.exercises.workbook import load_progress, save_progress

    known: set[str] = set()

    def reply(question: str) -> str | None:
        print(f"\n{textwrap.fill(question, 88)}")
        try:
            given = input("  your answer, a number (Enter: I don't know, q: stop) > ")
        except EOFError:
            print()
            return None
        return None if given.strip().casefold() in ("q", "quit") else given

    def note(document: Document) -> None:
        known.add(document.id)
        state = load_progress(course.root)
        state.known.add(document.id)
        save_progress(course.root, state)

    print("A question a document, in reading order; pen and paper are allowed.")
    ask_about(course, documents, reply, print, note)
    print()
    return known


def as_text(course: Course, goal: Subject, steps: list[Step]) -> str:
    """One document a line, with the reason why it is on the path."""
    from chainrule.course.paths import duration

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
    return "\n".join(lines)


def as_mermaid(course: Course, goal: Subject, steps: list[Step]) -> str:
    """A flowchart; documents that are not written yet have dashed borders."""
    lines = ["graph TD"]
    for step in steps:
        name = step.document.id.replace("/", "_").replace("-", "_")
        lines.append(f'    {name}["{step.document.title}<br/>{step.document.minutes} min"]')
        if not course.exists(step.document):
            lines.append(f"    style {name} stroke-dasharray: 4")
        for user, _ in step.reasons:
            lines.append(f"    {name} --> {user.id.replace('/', '_').replace('-', '_')}")
    return "\n".join(lines)


def as_json(course: Course, goal: Subject, steps: list[Step]) -> str:
    """Everything that the text shows, and every reason."""
    data = {
        "goal": goal.document.id,
        "found_as": goal.name,
        "minutes": sum(step.document.minutes for step in steps),
        "steps": [
            {
                "id": step.document.id,
                "title": step.document.title,
                "minutes": step.document.minutes,
                "path": step.document.path,
                "written": course.exists(step.document),
                "reasons": [{"for": user.id, "because": because} for user, because in step.reasons],
            }
            for step in steps
        ],
    }
    return json.dumps(data, indent=2, ensure_ascii=False)
