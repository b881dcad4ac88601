"""Documents that explain each other link to each other, and a borrowed word links home.

Two documents that ``course.toml`` calls related link to each other in their text. A concept that
a prerequisite is listed for is a link where the main line first uses it, or its page was linked
above or in the same paragraph: so a reader who has forgotten it knows where to go. Headings,
generated regions and the sections that point onwards link nothing here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.audit.checks.glossary import key, terms
from chainrule.course.audit.checks.ledger import uses
from chainrule.course.audit.checks.prerequisites import body_links
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "related"
STOPS = "A reader who forgot a word, or wants the other side of an idea, is not told where it is."


def check(audit: Audit) -> Iterator[Finding]:
    """Follow the pairs of ``course.toml`` both ways, and each concept to its first use."""
    places: dict[str, dict[str, str]] = {}
    for term in terms(audit):
        places.setdefault(term.key, {})[term.document.id] = term.target
    for document in audit.picked(audit.written):
        targets = {target for _, target in body_links(audit, document)}
        for other, because in audit.course.beside(document.id):
            if audit.course.exists(other) and other.path not in targets:
                message = f"{other.id} is related and is linked nowhere in the text"
                fix = f"link it where this holds: {because}"
                yield Finding(document.path, 1, NAME, message, fix)
        yield from _unlinked(audit, document, places)


def _unlinked(
    audit: Audit, document: Document, places: dict[str, dict[str, str]]
) -> Iterator[Finding]:
    """The concepts that a document borrows without a link."""
    page = audit.page(document.path)
    before = audit.course.ancestors(document.id)
    own = {key(concept) for concept in document.concepts}
    borrowed: dict[str, list[tuple[Document, str]]] = {}
    for other in audit.written:
        for concept in other.concepts if other.id in before else ():
            if key(concept) not in own:
                borrowed.setdefault(key(concept), []).append((other, concept))
    linked = [(link.line, target) for link, target in body_links(audit, document)]
    for name, line, is_link in uses(page, borrowed.keys() | places.keys()):
        homes = borrowed.pop(name, [])
        section = page.section_at(line)
        if not homes or is_link or (section and section.text in CLOSING):
            continue
        paths = {home.path for home, _ in homes}
        if not any(target in paths and at <= _end(page, line) for at, target in linked):
            home, concept = homes[0]
            target = places.get(name, {}).get(home.id, home.path)
            message = f"{concept!r} is taught in {home.id}, which is not linked before"
            fix = f"link the word to {posixpath.relpath(target, document.folder)}"
            yield Finding(document.path, line, NAME, message, fix)


def _end(page: Page, line: int) -> int:
    """The last line of the paragraph that holds a line."""
    held = (p for p in page.main_line if p.line <= line <= p.line_at(len(p.text)))
    return max((p.line_at(len(p.text)) for p in held), default=line)
