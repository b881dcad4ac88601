"""``chainrule audit``: check the whole course."""

from __future__ import annotations

import difflib
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.program import UsageError

if TYPE_CHECKING:
    from chainrule.course.audit import Outcome
    from chainrule.course.finding import Finding


def audit(
    subjects: Annotated[
        list[str] | None, typer.Argument(help="Only what concerns these; all when none is given.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Also execute what can be executed.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Refresh what is generated.")] = False,
    root: Annotated[Path | None, typer.Option(help="Another checkout.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Run this check (repeatable).")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --run: execute also what is known to pass.")
    ] = False,
    list_checks: Annotated[bool, typer.Option("--list", help="Show every check.")] = False,
) -> None:
    """Check that documents, code, exercises, figures and notebooks agree.

    Exit status: 0 nothing found, 1 findings, 2 the audit cannot run.
    """
    from chainrule.course.audit import Audit, all_checks, perform, refresh
    from chainrule.course.manifest import find_root, load_course
    from chainrule.course.paths import find_subject

    gc.disable()  # a sixth of the time went into it, and the process is short
    start = time.perf_counter()
    known = {check.NAME: check for check in all_checks()}
    if list_checks:
        for name, check in known.items():
            print(f"{name:<{max(map(len, known))}}  {check.STOPS}")
        return
    course = load_course(find_root(root))
    if unknown := sorted(set(only or ()) - known.keys()):
        raise UsageError(f"no check {unknown[0]!r}; there are: {', '.join(sorted(known))}")
    checks = [check for name, check in known.items() if not only or name in only]
    about = {find_subject(course, words).document.id for words in subjects or ()}
    whole = Audit(course, run, about, remember=run, fresh=fresh)
    changes = list(refresh(whole, checks)) if write else []
    outcomes = []
    for outcome in perform(whole, checks):
        outcomes.append(outcome)
        if run:
            _tell(outcome)
    findings = sorted(finding for each in outcomes for finding in each.findings)
    _show(changes, findings)
    print(_summary(len(changes), outcomes, len(about or whole.written), start))
    raise typer.Exit(1 if findings else 0)


def _tell(outcome: Outcome) -> None:
    """Say on standard error that a check is done, so that a long audit is seen to go on."""
    known = f"{outcome.remembered} remembered, " if outcome.remembered else ""
    line = f"{outcome.check}: {len(outcome.findings) or 'nothing'} found, {known}"
    print(f"{line}{outcome.seconds:.1f} s", file=sys.stderr, flush=True)


def _show(changes: list[tuple[str, str, str]], findings: list[Finding]) -> None:
    for path, old, new in changes:
        if path.endswith((".svg", ".ipynb")):  # lines that nobody reads
            print(f"wrote {path}")
            continue
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), path, path, "before", "after", 1, ""
        )
        print("\n".join(lines) + "\n")
    for finding in findings:
        print(f"{finding.file}:{finding.line}: {finding.check}: {finding.message}")
        if finding.fix:
            print(f"    {finding.fix}")


def _summary(changes: int, outcomes: list[Outcome], documents: int, start: float) -> str:
    counts = {each.check: len(each.findings) for each in outcomes if each.findings}
    recalled = sum(each.remembered for each in outcomes)
    wrote = f"{changes} files written, " if changes else ""
    known = f"{recalled} verdicts remembered, " if recalled else ""
    counted = f"{documents} document{'s' * (documents != 1)}"
    over = f"{counted}, {len(outcomes)} checks, {known}{time.perf_counter() - start:.1f} s"
    if not counts:
        return f"{wrote}nothing found: {over}"
    by_check = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{wrote}{sum(counts.values())} found ({by_check}): {over}"
