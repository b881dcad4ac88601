"""Each outline bullet has its section, and sections stand in the promised order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.documents.markdown import Heading, Page
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "outline"
STOPS = "A topic that the roadmap promises is missing, or stands where nobody looks for it."

OPTIONAL = {"Find the bug"}
WRONG = range(3, 6)


def check(audit: Audit) -> Iterator[Finding]:
    """Compare each document's H2 headings with its outline and the closing sections."""
    for document in audit.written:
        yield from _check(document, audit.page(document.path))


def _check(document: Document, page: Page) -> Iterator[Finding]:
    outline = {item.anchor: item.text for item in document.outline}
    sections = [heading for heading in page.headings if heading.level == 2]
    present = {heading.anchor: heading for heading in sections}
    for anchor, text in outline.items():
        if anchor not in present:
            message = f"no section has the anchor #{anchor}"
            yield Finding(document.path, 1, NAME, message, f"add the heading: ## {text}")
        elif present[anchor].text != text:
            message = f"{present[anchor].text!r} is not the outline's {text!r}"
            yield Finding(document.path, present[anchor].line, NAME, message)
    for item in document.connections:
        if item.anchor not in page.anchors:
            message = f"no section has the anchor #{item.anchor}, where {item.text!r} is connected"
            yield Finding(document.path, 1, NAME, message, "correct the entry in course.toml")
    titles = {heading.text for heading in sections}
    for text in CLOSING:
        if text not in titles and text not in OPTIONAL:
            yield Finding(document.path, 1, NAME, f"no section {text!r}", f"add it: ## {text}")
    yield from _misconceptions(document, page)
    yield from _order(document, outline, sections)


def _misconceptions(document: Document, page: Page) -> Iterator[Finding]:
    """Three to five things that people say, each with a paragraph of its own."""
    titles = [heading for heading in page.headings if heading.text == CLOSING[0]]
    said = [p for p in page.main_line if p.bold and p.text.startswith(('"', "“"))]
    wrong = sum(paragraph.section in titles for paragraph in said)
    if titles and wrong not in WRONG:
        fix = '**"What people say."** Why it is wrong, and the counterexample.'
        message = f"{wrong} misconceptions, not 3 to 5"
        yield Finding(document.path, titles[0].line, NAME, message, fix)


def _order(
    document: Document, outline: Iterable[str], sections: list[Heading]
) -> Iterator[Finding]:
    """Promised sections, then free ones, then the closing ones."""
    ranks = {anchor: rank for rank, anchor in enumerate(outline)}
    free = len(ranks)
    closing = {text: free + 1 + rank for rank, text in enumerate(CLOSING)}
    last = ("", -1)
    for heading in sections:
        rank = ranks.get(heading.anchor, closing.get(heading.text, free))
        if rank < last[1]:
            message = f"{heading.text!r} stands after {last[0]!r}"
            fix = "order: the outline's sections, others, " + ", ".join(CLOSING)
            yield Finding(document.path, heading.line, NAME, message, fix)
        last = (heading.text, rank)
