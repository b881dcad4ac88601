"""Boxes and ``<details>``: their form, and the month in which somebody last checked them.

A box or table that ages has ``<!-- checked = 2026-11 -->`` directly above it; one that opens with
"In PyTorch" has version and month in bold instead: ``**In PyTorch 2.13 (November 2026).**``. Both
are reported when they are more than a year old. A line is what a page shows: `LINE` characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Aside, Page
from chainrule.course.finding import Finding

NAME = "asides"
STOPS = "A reader trusts a box that was true two years ago, or is sent into a proof unprepared."

LINE = 100
MOST_LINES = {"tip": 6, "note": 10}
PROOF, NEEDS = "Precisely:", "Needs:"
PYTORCH = "**In PyTorch 2.13 (November 2026).**"
CHECKED = "<!-- checked = 2026-11 -->"
_PYTORCH = re.compile(r"\*\*In PyTorch [\d.]+ \((\w+ \d{4})\)\.\*\*")
_UNSEEN = re.compile(r"<!--.*?-->|\]\([^)\s]*\)")


def check(audit: Audit) -> Iterator[Finding]:
    """Report boxes that are too long, too old or undated, and proofs that name no needs."""
    for path, above, page in audit.prose:
        found = [*_dates(page, audit.today)]
        for aside in page.asides:
            is_box = aside.kind != "details"
            found += _box(page, aside, audit.today) if is_box else _details(page, aside)
        for line, message, fix in found:
            yield Finding(path, above + line, NAME, message, fix)


def _details(page: Page, aside: Aside) -> Iterator[tuple[int, str, str]]:
    if not aside.end:
        yield aside.line, "<details> that is not closed", "add </details> on a line of its own"
        return
    inside = page.lines[aside.line - 1 : aside.end - 1]
    closes = next((n for n, line in enumerate(inside) if "</summary>" in line), len(inside))
    if "".join(inside[closes + 1 : closes + 2]).strip():
        message = "Markdown directly below </summary> shows as it is typed"
        yield aside.line + closes + 1, message, "leave an empty line between them"
    if aside.summary.startswith(PROOF):
        first = next((p.text for p in page.paragraphs if aside.line < p.line <= aside.end), "")
        if not first.startswith(NEEDS):
            message = f"{aside.summary!r} does not begin with what it needs"
            yield aside.line, message, f"its first line: {NEEDS} …"


def _box(page: Page, aside: Aside, today: date) -> Iterator[tuple[int, str, str]]:
    shown = [_UNSEEN.sub("", line.strip(" >")) for line in page.lines[aside.line : aside.end]]
    lines = sum(-(-len(line) // LINE) for line in shown)
    most = MOST_LINES.get(aside.kind, lines)
    if lines > most:
        message = f"a {aside.kind} of {lines} lines of {LINE} characters"
        yield aside.line, message, f"at most {most}: say less, or say it in the main line"
    if shown and re.match(r"\W*In PyTorch\b", shown[0]):
        named = _PYTORCH.match(shown[0])
        yield from _age(aside.line + 1, named[1] if named else "", "%B %Y", today, PYTORCH)


def _dates(page: Page, today: date) -> Iterator[tuple[int, str, str]]:
    for comment in page.comments:
        if re.match(r"\s*checked\b", comment.text):
            below = "".join(page.lines[comment.line : comment.line + 1]).strip()
            if below[:1] not in ("|", ">"):
                yield comment.line, "a date that is not directly above a box or a table", CHECKED
            yield from _age(comment.line, comment.text.strip(), "checked = %Y-%m", today, CHECKED)


def _age(line: int, text: str, form: str, today: date, fix: str) -> Iterator[tuple[int, str, str]]:
    try:
        when = datetime.strptime(text, form)
    except ValueError:
        yield line, "no month, or not in this form", fix
        return
    months = 12 * (today.year - when.year) + today.month - when.month
    if months > 12:
        yield line, f"last checked {months} months ago", "check it again, then write this month"
    elif months < 0:
        yield line, f"checked in {when:%Y-%m}, which is still to come", "write this month"
