"""A prerequisite is linked where it is needed; nothing else is leant on.

A sentence may link to a document that is not among its document's prerequisites, near or far,
only if it says plainly that the reader does not need it yet. It does if it contains one of
`LATER`. The sections `RELATED` are free: they point onwards by their nature.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.audit.checks.links import resolve
from chainrule.course.documents.markdown import Link
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "prerequisites"
STOPS = "A reader meets an idea before its lesson, or reads a prerequisite that nothing needs."

RELATED = {"Where this leads", "References"}
LATER = re.compile(
    r"\b(later|afterwards|further on|comes? after|builds? on this|not needed (here|yet)"
    r"|once you have read|when you (reach|get to))\b",
    re.I,
)


def check(audit: Audit) -> Iterator[Finding]:
    """Compare the links in each document's body with its prerequisites."""
    paths = {document.path: document.id for document in audit.course.documents}
    for document in audit.written:
        ancestors = audit.course.ancestors(document.id)
        linked = set()
        for link, target in body_links(audit, document):
            if target not in paths or target == document.path:
                continue
            linked.add(name := paths[target])
            if name not in ancestors and not LATER.search(link.sentence):
                message = f"leans on {name}, which is not among the prerequisites"
                fix = "say in the sentence that it comes later, make it a need, or drop the link"
                yield Finding(document.path, link.line, NAME, message, fix)
        needed = {need.id for need in document.needs} - linked
        for other in audit.written:
            if other.id in needed:
                message = f"the prerequisite {other.id} is linked nowhere in the body"
                fix = "link it in the sentence that needs it, or drop the need"
                yield Finding(document.path, 1, NAME, message, fix)


def body_links(audit: Audit, document: Document) -> Iterator[tuple[Link, str]]:
    """Links outside generated regions and the sections that point onwards, with their files."""
    page = audit.page(document.path)
    for link in page.links:
        section = page.section_at(link.line)
        if not page.is_generated(link.line) and not (section and section.text in RELATED):
            yield link, resolve(posixpath.dirname(document.path), link.target)[0]
