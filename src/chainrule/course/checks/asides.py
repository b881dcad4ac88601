"""Boxes and ``<details>``: their form, and the month in which somebody last checked them.

A box or table that ages has ``<!-- checked = 2026-11 -->`` directly above it; a tip that opens
with ``**In PyTorch`` has the month in those bold words instead: ``(November 2026)``. Both are
reported when they are more than a year old. A line is what a page shows: `LINE` characters.
"""

from __future__ import annotations

import re
from calendar import month_name
from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.finding import Finding
from chainrule.course.markdown import Aside, Page

NAME = "asides"
STOPS = "A reader trusts a box that was true two years ago, or is sent into a proof unprepared."

LINE = 100
MOST_LINES = {"tip": 6, "note": 10}
PROOF, NEEDS = "Precisely:", "Needs:"
_CHECKED = re.compile(r"\s*checked\b")
_MONTH = re.compile(r"checked = (\d{4})-(0[1-9]|1[0-2])")
_PYTORCH = re.compile(r"\*\*In PyTorch\b[^*]*\*\*")
_NAMED = re.compile(rf"\(({'|'.join(month_name[1:])}) (\d{{4}})\)")
_UNSEEN = re.compile(r"<!--.*?-->|\]\([^)\s]*\)")


def check(audit: Audit) -> Iterator[Finding]:
    """Report boxes that are too long, too old or undated, and proofs that name no needs."""
    for document in audit.written:
        page = audit.page(document.path)
        for aside in page.asides:
            for line, message, fix in (
                _details(page, aside) if aside.kind == "details" else _box(audit, page, aside)
            ):
                yield Finding(document.path, line, NAME, message, fix)
        for line, message, fix in _dates(audit, page):
            yield Finding(document.path, line, NAME, message, fix)


def _details(page: Page, aside: Aside) -> Iterator[tuple[int, str, str]]:
    if not aside.end:
        yield aside.line, "<details> that is not closed", "add </details> on a line of its own"
        return
    opens = next(
        n
        for n in range(aside.line, aside.end + 1)
        if "</summary>" in page.lines[n - 1] or n == aside.end
    )
    if opens < aside.end and page.lines[opens].strip():
        message = "Markdown directly below </summary> shows as it is typed"
        yield opens + 1, message, "leave an empty line between them"
    if aside.summary.startswith(PROOF):
        first = next((p for p in page.paragraphs if aside.line < p.line <= aside.end), None)
        if first is None or not first.text.startswith(NEEDS):
            message = f"{aside.summary!r} does not begin with what it needs"
            yield aside.line, message, f"its first line: {NEEDS} …"


def _box(audit: Audit, page: Page, aside: Aside) -> Iterator[tuple[int, str, str]]:
    shown = [_UNSEEN.sub("", line.strip(" >")) for line in page.lines[aside.line : aside.end]]
    lines = sum(-(-len(line) // LINE) for line in shown)
    if lines > MOST_LINES.get(aside.kind, lines):
        message = f"a {aside.kind} of {lines} lines of {LINE} characters"
        yield (
            aside.line,
            message,
            f"at most {MOST_LINES[aside.kind]}: say less, or say it in the main line",
        )
    if aside.kind == "tip" and (opens := _PYTORCH.match("\n".join(shown).strip())):
        if named := _NAMED.search(opens[0]):
            yield from _age(audit, aside.line + 1, int(named[2]), list(month_name).index(named[1]))
        else:
            yield (
                aside.line + 1,
                f"{opens[0]} names no month",
                "**In PyTorch 2.13 (November 2026).**",
            )


def _dates(audit: Audit, page: Page) -> Iterator[tuple[int, str, str]]:
    for comment in page.comments:
        if not _CHECKED.match(comment.text):
            continue
        found = _MONTH.fullmatch(comment.text.strip())
        if not found or page.lines[comment.line].strip()[:1] not in ("|", ">"):
            message = "this date is not directly above a box or a table, or has another form"
            yield comment.line, message, "<!-- checked = 2026-11 -->"
        else:
            yield from _age(audit, comment.line, int(found[1]), int(found[2]))


def _age(audit: Audit, line: int, year: int, month: int) -> Iterator[tuple[int, str, str]]:
    months = 12 * (audit.today.year - year) + audit.today.month - month
    if months > 12:
        message = f"last checked {months} months ago"
        yield line, message, "check it again, then write this month"
    elif months < 0:
        yield line, f"checked in {year}-{month:02}, which is still to come", "write this month"
