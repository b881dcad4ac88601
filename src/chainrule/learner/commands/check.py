"""``chainrule check``: grade the workbook."""

from __future__ import annotations

import ast
import contextlib
import datetime
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from chainrule.course.exercises.stubs import Entry
from chainrule.course.manifest import Course, Document, open_course
from chainrule.course.paths import find_subject, normal
from chainrule.learner import grader, workbook
from chainrule.learner.reading import solution_of
from chainrule.program import UsageError, typed


def check(
    subject: Annotated[
        list[str] | None,
        typer.Argument(help="A subject or an exercise; all of the workbook without."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Grade again on every save.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Keep the arguments of the call that fails.")
    ] = False,
    solution: Annotated[
        str, typer.Option(metavar="NAME", help="Show the solution of an exercise you passed.")
    ] = "",
    anyway: Annotated[bool, typer.Option("--anyway", help="Show it before you pass.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Say where your answer parts from it.")
    ] = False,
) -> None:
    """Grade your exercises: each passes, or you hear what is wrong.

    Exit status: 0 all pass, 1 something does not, 2 there is nothing to grade.
    """
    course = open_course()
    chosen, only = to_check(course, " ".join(subject or ()))
    if solution:
        show_solution(course, chosen, solution, anyway, compare)
        return
    documents = to_grade(course, chosen)
    if replay and not only:
        raise UsageError("name one exercise to replay: chainrule check NAME --replay")
    if watch:
        watch_and_grade(course, documents, only)
        return
    passed = [grade_document(course, document, only, replay) for document in documents]
    raise typer.Exit(0 if all(passed) else 1)


def to_check(course: Course, words: str) -> tuple[Document | None, str]:
    """The document that these words name, or an exercise: its document and its name.

    An exercise of exactly this name comes before a mere concept of a document.

    Raises:
        UsageError: they name neither.
    """
    if not words:
        return None, ""
    subject = None
    with contextlib.suppress(UsageError):
        document, entry = workbook.find_exercise(course, words)
        subject = document, entry.name
        if normal(words) in (normal(entry.name), normal(entry.title)):
            return subject
    try:
        return find_subject(course, words).document, ""
    except UsageError:
        if subject:
            return subject
        raise


def to_grade(course: Course, chosen: Document | None) -> list[Document]:
    """The chosen document, or all that the workbook holds.

    Raises:
        UsageError: the workbook does not hold it, or holds nothing.
    """
    documents = [chosen] if chosen else list(course.documents)
    found = [d for d in documents if workbook.workbook_file(course, d).is_file()]
    if chosen and not found:
        workbook.entries_of(course, chosen)
        place = workbook.workbook_file(course, chosen).relative_to(course.place)
        raise UsageError(f"there is no {place} yet; type: chainrule exercise {chosen.slug}")
    if not found:
        ready = workbook.ready(course)
        advice = f"; type: chainrule exercise {ready[0].slug}" if ready else ""
        raise UsageError(f"the workbook is empty{advice}")
    return found


def grade_document(
    course: Course, document: Document, only: str, replay: bool = False, fresh: bool = False
) -> bool:
    """Grade and print one file, or one exercise of it; note what passed. True if everything did."""
    answers = workbook.workbook_file(course, document)
    entries = [e for e in workbook.entries_of(course, document) if only in ("", e.name)]
    titles = {entry.name: entry.title for entry in entries}
    workbook.load_progress(course.place)
    if fresh and sys.stdout.isatty():
        print("\033[2J\033[H", end="")
    clock = f"{datetime.datetime.now():  %H:%M:%S}" if fresh else ""
    typer.secho(f"{document.title}  ({answers.relative_to(course.place)}){clock}", bold=True)
    kept = answers.with_name(f"replay_{only}.py")
    if replay:
        kept.unlink(missing_ok=True)
    verdicts: dict[str, str] = {}
    path, look = course.root / document.exercises, "replay" * replay
    for result in grader.grade(path, answers, only=only, look=look, waiting=show_waiting):
        show_waiting("", 0)
        verdicts[result.name] = result.verdict
        if result.verdict != grader.UNTOUCHED:
            show_result(result, titles.get(result.name, ""))
        if result.verdict == grader.PASSED:
            note_passed(course, document, result.name)
    still = [entry for entry in entries if verdicts.get(entry.name) != grader.PASSED]
    untouched = [e for e in still if verdicts.get(e.name) == grader.UNTOUCHED]
    if untouched:
        text = f"· {'; '.join(entry.title for entry in untouched)}: not started yet"
        typer.secho(wrapped(text, 2), fg="bright_black")
    if failed := [e.name for e in still if e.name in verdicts and e not in untouched]:
        show_help(failed[0], replay and kept.exists())
    passed = f"{len(entries) - len(still)} of {len(entries)} pass"
    typer.echo(f"\n  {passed}. {next_step(course, document, still)}\n")
    return not still


def show_help(name: str, replayed: bool) -> None:
    """Say what helps with an exercise that fails."""
    if replayed:
        print(f"""
  Two lines for the end of your file, or for python -i in its folder:

      from replay_{name} import args, kwargs
      {name}(*args, **kwargs)""")
    else:
        print(f"\n  Stuck? {typed(f'hint {name}')}")
        print(f"  To debug the call that fails: {typed(f'check {name} --replay')}")


def wrapped(text: str, indent: int) -> str:
    """Text in lines of at most 88 characters."""
    return textwrap.indent(textwrap.fill(text, 88 - indent), " " * indent)


def show_waiting(name: str, seconds: float) -> None:
    """Show on a terminal what is being graded, and since when; without a name, take that away."""
    if sys.stdout.isatty():
        text = f"  … {name or 'your file'}: grading, {seconds:.0f} s" if seconds else ""
        print(f"\r\033[K{text}", end="", flush=True)


def show_result(result: grader.Result, title: str) -> None:
    """Print a verdict: the known mistake's hint, or else what went wrong.

    Without a title it is the verdict on the whole file.
    """
    mark, colour = ("✓", "green") if result.verdict == grader.PASSED else ("✗", "red")
    label = (title or "Your file") + (f"  [{result.check}]" if result.check else "")
    if result.verdict != "printed":
        typer.secho(f"  {mark} {label}", fg=colour)
    if result.hint:
        typer.echo(wrapped(result.hint, 6))
    elif result.message:
        typer.echo(textwrap.indent(result.message, "      "))
    if result.call:
        typer.secho(f"      called as {result.call}", fg="bright_black")
    if result.output:
        typer.secho(f"      {'it' if title else 'your file'} printed:", fg="bright_black")
        typer.echo(textwrap.indent(result.output, "      | ", lambda line: True))


def note_passed(course: Course, document: Document, name: str) -> None:
    """Remember the day on which an exercise first passed."""
    if name not in workbook.load_progress(course.place).passed.get(document.id, {}):
        with workbook.changing(course.place) as progress:
            names = progress.passed.setdefault(document.id, {})
            names.setdefault(name, datetime.date.today())


def next_step(course: Course, document: Document, still: list[Entry]) -> str:
    """What to do now."""
    if still:
        place = f"{document.path}#{still[0].section}"
        return f"Next: {still[0].title}, about {still[0].minutes} min ({place})"
    done = workbook.load_progress(course.place).done(course)
    following = workbook.open_documents(course, done)
    opened = [d for d in following if document.id in course.graph.predecessors(d.id)]
    if document.id in done and opened:
        return "That opens: " + ", ".join(f"{d.title} ({d.path})" for d in opened)
    if following:
        return f"Next: read {following[0].path}"
    return f"Nothing that is written is left to do: {typed('progress')}"


def show_solution(
    course: Course, chosen: Document | None, name: str, anyway: bool, compare: bool
) -> None:
    """Print an exercise's solution if it has been passed, or anyway."""
    document, entry = workbook.find_exercise(course, name, chosen)
    passed = workbook.load_progress(course.place).passed.get(document.id, {})
    if entry.name not in passed and not anyway:
        message = f"{entry.name} has not passed yet; pass it first, or add --anyway"
        raise UsageError(message)
    exercises, answers = course.root / document.exercises, workbook.workbook_file(course, document)
    source = exercises.read_text(encoding="utf-8")
    print(solution_of(ast.parse(source), source, entry.name))
    if entry.counterpart:
        print(f"\n# In the package: {entry.counterpart}")
    if compare and answers.is_file():
        for result in grader.grade(exercises, answers, only=entry.name, look="compare"):
            told = result.parts or f"your answer: {result.verdict}"
            print(f"\n# {told}" if result.verdict != "printed" else "", end="")
        print()


def watch_and_grade(course: Course, documents: list[Document], only: str) -> None:
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
                grade_document(course, document, only, fresh=True)

    try:
        grade_what_changed()
        print("Watching; save to grade again, Ctrl-C to stop.")
        # The timeout catches what was saved while grading, before the watch began.
        for _ in watch(*{f.parent for f in files}, yield_on_timeout=True, rust_timeout=500):
            grade_what_changed()
    except KeyboardInterrupt:
        pass
    print("Stopped watching.")
