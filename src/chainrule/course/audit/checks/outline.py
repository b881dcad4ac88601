"""Each outline bullet has its section, and sections stand in the promised order."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "outline"
STOPS = "A topic that the roadmap promises is missing, or stands where nobody looks for it."

OPTIONAL = {"Find the bug"}
WRONG = range(3, 6)


def check(audit: Audit) -> Iterator[Finding]:
    """Compare each document's H2 headings with its outline and the closing sections."""
    for document in audit.written:
        page = audit.page(document.path)
        found = (*_missing(document, page), *_misconceptions(page), *_order(document, page))
        for line, message, fix in found:
            yield Finding(document.path, line, NAME, message, fix)


def _missing(document: Document, page: Page) -> Iterator[tuple[int, str, str]]:
    sections = {heading.anchor: heading for heading in page.headings if heading.level == 2}
    for item in document.outline:
        heading = sections.get(item.anchor)
        if heading is None:
            fix = f"add the heading: ## {item.text}"
            yield 1, f"no section has the anchor #{item.anchor}", fix
        elif heading.text != item.text:
            yield heading.line, f"{heading.text!r} is not the outline's {item.text!r}", ""
    for item in document.connections:
        if item.anchor not in page.anchors:
            message = f"no section has the anchor #{item.anchor}, where {item.text!r} is connected"
            yield 1, message, "correct the entry in course.toml"
    for text in {*CLOSING} - {heading.text for heading in sections.values()} - OPTIONAL:
        yield 1, f"no section {text!r}", f"add it: ## {text}"


def _misconceptions(page: Page) -> Iterator[tuple[int, str, str]]:
    """Three to five things that people say, each with a paragraph of its own."""
    titles = [heading for heading in page.headings if heading.text == CLOSING[0]]
    said = [p for p in page.main_line if p.bold and p.text.startswith(('"', "“"))]
    wrong = sum(paragraph.section in titles for paragraph in said)
    if titles and wrong not in WRONG:
        fix = '**"What people say."** Why it is wrong, and the counterexample.'
        yield titles[0].line, f"{wrong} misconceptions, not 3 to 5", fix


def _order(document: Document, page: Page) -> Iterator[tuple[int, str, str]]:
    """Promised sections, then free ones, then the closing ones."""
    ranks = {item.anchor: rank for rank, item in enumerate(document.outline)}
    free = len(ranks)
    closing = {text: free + 1 + rank for rank, text in enumerate(CLOSING)}
    last = ("", -1)
    for heading in page.headings:
        if heading.level != 2:
            continue
        rank = ranks.get(heading.anchor, closing.get(heading.text, free))
        if rank < last[1]:
            fix = "order: the outline's sections, others, " + ", ".join(CLOSING)
            yield heading.line, f"{heading.text!r} stands after {last[0]!r}", fix
        last = (heading.text, rank)
