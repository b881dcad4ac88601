"""``chainrule check``: grade the workbook."""

from __future__ import annotations

import datetime
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from chainrule.course import grader, workbook
from chainrule.course.cli import UsageError
from chainrule.course.manifest import Course, Document, find_root, load_course
from chainrule.course.paths import find_subject
from chainrule.course.stubs import Entry, solution_source

MARKS = {grader.PASSED: ("✓", "green"), grader.UNTOUCHED: ("·", "bright_black")}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    subject: Annotated[
        list[str] | None, typer.Argument(help="What to grade; all of the workbook without.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Grade again on every save.")] = False,
    solution: Annotated[
        str, typer.Option(metavar="NAME", help="Show the solution of an exercise you passed.")
    ] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="Show it before you pass.")] = False,
) -> None:
    """Grade your exercises: each passes, or you hear what is wrong.

    Exit status: 0 all pass, 1 something does not, 2 there is nothing to grade.
    """
    course = load_course(find_root())
    chosen = find_subject(course, " ".join(subject)).document if subject else None
    if solution:
        show_solution(course, chosen, solution, anyway)
        return
    documents = to_grade(course, chosen)
    if watch:
        watch_and_grade(course, documents)
        return
    passed = [grade_document(course, document) for document in documents]
    raise typer.Exit(0 if all(passed) else 1)


def to_grade(course: Course, chosen: Document | None) -> list[Document]:
    """The chosen document, or all that the workbook holds.

    Raises:
        UsageError: the workbook does not hold it, or holds nothing.
    """
    documents = [chosen] if chosen else list(course.documents)
    found = [d for d in documents if workbook.workbook_file(course, d).is_file()]
    if chosen and not found:
        workbook.entries_of(course, chosen)
        place = workbook.workbook_file(course, chosen).relative_to(course.root)
        raise UsageError(f"there is no {place} yet; type: chainrule exercise {chosen.slug}")
    if not found:
        ready = [d.slug for d in documents if (course.root / d.exercises).is_file()]
        advice = f"; type: chainrule exercise {ready[0]}" if ready else ""
        raise UsageError(f"the workbook is empty{advice}")
    return found


def grade_document(course: Course, document: Document) -> bool:
    """Grade and print one file; note what passed. True if everything did."""
    answers = workbook.workbook_file(course, document)
    entries = {entry.name: entry for entry in workbook.entries_of(course, document)}
    workbook.load_progress(course.root)
    typer.secho(f"{document.title}  ({answers.relative_to(course.root)})", bold=True)
    passed: set[str] = set()
    for result in grader.grade(course.root / document.exercises, answers):
        show_result(result, entries.get(result.name))
        if result.verdict == grader.PASSED:
            passed.add(result.name)
            note_passed(course, document, result.name)
    still = [entry for entry in entries.values() if entry.name not in passed]
    typer.echo(f"\n  {len(passed)} of {len(entries)} pass. {next_step(course, document, still)}\n")
    return not still


def show_result(result: grader.Result, entry: Entry | None) -> None:
    """Print a verdict: the known mistake's hint, or else what went wrong."""
    mark, colour = MARKS.get(result.verdict, ("✗", "red"))
    label = entry.title if entry else "Your file"
    if result.verdict == grader.UNTOUCHED:
        label += ": not started yet"
    elif result.check:
        label += f"  [{result.check}]"
    if result.verdict != "printed":
        typer.secho(f"  {mark} {label}", fg=colour)
    if result.hint:
        typer.echo(
            textwrap.fill(result.hint, 88, initial_indent="      ", subsequent_indent="      ")
        )
    elif result.message:
        typer.echo(textwrap.indent(result.message, "      "))
    if result.call:
        typer.secho(f"      called as {result.call}", fg="bright_black")
    if result.output:
        typer.secho(f"      {'your file' if not entry else 'it'} printed:", fg="bright_black")
        typer.echo(textwrap.indent(result.output, "      | ", lambda line: True))


def note_passed(course: Course, document: Document, name: str) -> None:
    """Remember the day on which an exercise first passed."""
    progress = workbook.load_progress(course.root)
    names = progress.passed.setdefault(document.id, {})
    if name not in names:
        names[name] = datetime.date.today()
        workbook.save_progress(course.root, progress)


def next_step(course: Course, document: Document, still: list[Entry]) -> str:
    """What to do now."""
    if still:
        place = f"{document.path}#{still[0].section}"
        return f"Next: {still[0].title}, about {still[0].minutes} min ({place})"
    done = workbook.load_progress(course.root).done(course)
    following = workbook.open_documents(course, done)
    if following:
        return f"Next: read {following[0].path}"
    return "Nothing that is written is left to do: chainrule progress"


def show_solution(course: Course, chosen: Document | None, name: str, anyway: bool) -> None:
    """Print an exercise's solution if it has been passed, or anyway."""
    with_exercises = [d for d in course.documents if (course.root / d.exercises).is_file()]
    begun = [d for d in with_exercises if workbook.workbook_file(course, d).is_file()]
    pairs = [
        (document, entry)
        for document in ([chosen] if chosen else begun or with_exercises)
        for entry in workbook.entries_of(course, document)
    ]
    picked = workbook.pick([entry for _, entry in pairs], name)
    document = next(document for document, entry in pairs if entry is picked)
    passed = workbook.load_progress(course.root).passed.get(document.id, {})
    if picked.name not in passed and not anyway:
        message = f"{picked.name} has not passed yet; pass it first, or add --anyway"
        raise UsageError(message)
    print(solution_source(course.root / document.exercises, picked.name))


def watch_and_grade(course: Course, documents: list[Document]) -> None:
    """Grade now and whenever a file is saved, until Ctrl-C."""
    from watchfiles import watch

    files = {workbook.workbook_file(course, document): document for document in documents}
    seen: dict[Path, bytes] = {}

    def grade_what_changed() -> None:
        for file, document in files.items():
            try:
                text = file.read_bytes()
            except FileNotFoundError:
                continue
            if seen.get(file) != text:
                seen[file] = text
                grade_document(course, document)

    try:
        grade_what_changed()
        print("Watching; save to grade again, Ctrl-C to stop.")
        # The timeout catches what was saved while grading, before the watch began.
        for _ in watch(*{f.parent for f in files}, yield_on_timeout=True, rust_timeout=500):
            grade_what_changed()
    except KeyboardInterrupt:
        pass
    print("Stopped watching.")
