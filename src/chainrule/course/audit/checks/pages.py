"""Reference pages: each has its data, and with ``--run`` the data is measured again."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.children import PYTHON, ask
from chainrule.course.audit import Audit
from chainrule.course.finding import Finding
from chainrule.course.manifest import MANIFEST

NAME = "pages"
STOPS = "A reference page shows numbers or pictures that the code no longer gives."
SECONDS = 300


def check(audit: Audit) -> Iterator[Finding]:
    """Every page has its data; whether it is fresh is asked by `generated`."""
    for page in audit.course.pages:
        if page.data not in audit.files:
            line = audit.course.line_of("[[page]]", page.path)
            fix = f"python -m {page.measure} --write" if page.measure else "make bench"
            yield Finding(MANIFEST, line, NAME, f"page {page.path!r} lacks {page.data}", fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Measure again what the pages show; only when no single document is asked for."""
    for page in audit.course.pages if not audit.chosen else ():
        if not page.measure or page.data not in audit.files:
            continue
        verdict = audit.verdicts.of(NAME, [], page.path)
        if verdict.passed:
            continue
        command = (*PYTHON, "-m", page.measure, "--check")
        answer = ask(*command, root=audit.root, seconds=SECONDS)
        verdict.keep(passed=not answer.fault)
        said = [line for line in answer.lines if line.strip()] or [answer.fault]
        for line in said if answer.fault else ():
            yield Finding(page.data, 1, NAME, line, f"python -m {page.measure} --write")
