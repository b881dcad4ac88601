"""``chainrule clinic``: a patient, tests that can be ordered, and a diagnosis."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chainrule.clinic import practice


def clinic(
    patient: Annotated[
        int | None, typer.Argument(help="Number of a patient (default: one you have not cured).")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", metavar="TEST", help="Order a test: a point.")
    ] = None,
    diagnose: Annotated[
        str, typer.Option(metavar="NAME", help="Name the disease; a wrong name costs three points.")
    ] = "",
    tests: Annotated[bool, typer.Option("--tests", help="List the tests.")] = False,
    diseases: Annotated[bool, typer.Option("--diseases", help="List the diseases.")] = False,
    answer: Annotated[
        bool, typer.Option("--answer", help="Show the diagnosis; without a patient: of all.")
    ] = False,
) -> None:
    """Find the bug in a small GPT from its symptoms: order tests, then name it.

    Without options on a terminal it asks what to do next.
    """
    from chainrule.clinic import practice
    from chainrule.course.manifest import open_course

    if tests:
        practice.list_tests()
        return
    if diseases:
        practice.list_diseases()
        return
    course = open_course()
    case = practice.Case(course, patient)
    if answer:
        practice.answer_all(course) if patient is None else case.answer()
        return
    if not (test or diagnose):
        _meet(case)
        return
    for name in test or ():
        case.order(name)
    if diagnose and not case.diagnose(diagnose):
        raise typer.Exit(1)


def _meet(case: practice.Case) -> None:
    """Show the patient; then ask what to do, or, away from a terminal, say what can be typed."""
    case.show()
    if sys.stdin.isatty() and sys.stdout.isatty():
        case.talk()
    else:
        case.advise()
