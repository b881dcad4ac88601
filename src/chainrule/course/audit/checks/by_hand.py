"""A section that introduces a formula works it by hand once, on lines of their own.

A formula is a block of mathematics outside asides, unless it only gives values to letters. The
text from a heading (## or ###) to the next needs a paragraph that opens with ``**By hand.**`` if
it holds a formula; its neighbours of the same ## can lend theirs, if they hold no formula
themselves (numbers first, then "In general"). The closing sections need none.
"""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.audit.checks.density import computes
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding

NAME = "by-hand"
STOPS = "A reader is shown a formula and never sees it eat a number."

MARK = "By hand."
FIX = f"a line **{MARK}**, then a table or steps, one a line"


def check(audit: Audit) -> Iterator[Finding]:
    """Find the first formula of each piece of a section that has no example."""
    for document in audit.picked(audit.written):
        for line, title in _unworked(audit.page(document.path)):
            message = f"a formula and no example by hand: {title}"
            yield Finding(document.path, line, NAME, message, FIX)


def _unworked(page: Page) -> Iterator[tuple[int, str]]:
    starts = [h for h in page.headings if h.level in (2, 3) and not page.aside_at(h.line)]
    ends = [heading.line for heading in starts[1:]] + [len(page.lines) + 1]
    pieces = [range(heading.line, end) for heading, end in zip(starts, ends, strict=True)]
    shown = [
        f.line for f in page.formulas if f.display and computes(f.tex) and not page.aside_at(f.line)
    ]
    examples = page.marked(MARK)
    for place, heading in enumerate(starts):
        section = page.section_at(heading.line)
        formulas = [line for line in shown if line in pieces[place]]
        if not formulas or section is None or section.text in CLOSING:
            continue
        near = [
            piece
            for piece in pieces[max(0, place - 1) : place + 2]
            if piece == pieces[place]
            or (page.section_at(piece.start) == section and not any(x in piece for x in shown))
        ]
        if not any(line in piece for piece in near for line in examples):
            yield formulas[0], heading.text
