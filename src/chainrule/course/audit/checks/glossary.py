"""A term is defined once: bold, in the sentence that defines it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.documents.markdown import Paragraph
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "glossary"
STOPS = "Two documents define one word, a little differently, and the reader must choose."
GLOSSARY = "GLOSSARY.md"
MOST = 4  # sentences of an entry
POINTS_BACK = (
    *("This ", "That ", "These ", "Those ", "Such ", "It ", "Its ", "They ", "Their ", "Each is "),
    *("Both ", "The first is ", "The second is ", "The other "),
)
GOES_ON = (*POINTS_BACK, "So ", "But ", "Then ", "Here ")


@dataclass(frozen=True)
class Term:
    """A term, its sentence, and where it stands."""

    name: str
    sentence: str
    document: Document
    anchor: str
    line: int

    @property
    def key(self) -> str:
        """What two spellings of one term share."""
        return key(self.name)

    @property
    def target(self) -> str:
        """The place that defines it, from the root."""
        return f"{self.document.path}#{self.anchor}"


def check(audit: Audit) -> Iterator[Finding]:
    """Report each term that is bold a second time."""
    first: dict[str, Term] = {}
    for term in terms(audit):
        known = first.setdefault(term.key, term)
        if known is not term:
            where = f"{known.document.path}:{known.line}"
            message = f"'{term.name}' is defined a second time; the first is in {where}"
            fix = "link to the first in plain type, or give this one a name of its own"
            yield Finding(term.document.path, term.line, NAME, message, fix)
        if term.sentence.startswith(POINTS_BACK):
            message = f"the paragraph that defines '{term.name}' begins by pointing back"
            fix = f"say here what it points to: {GLOSSARY} shows no more than this"
            yield Finding(term.document.path, term.line, NAME, message, fix)


def key(name: str) -> str:
    """A term without capitals and plural ``s``."""
    return re.sub(r"(?<=[^s])s$", "", name.lower())


def terms(audit: Audit) -> Iterator[Term]:
    """Every term that a written document defines, in reading order.

    Bold text that ends a sentence or opens with a quotation mark is a run-in heading or a
    misconception, not a term.
    """
    for document in audit.written:
        page = audit.page(document.path)
        for paragraph in page.paragraphs:
            if page.is_generated(paragraph.line):
                continue
            for start, end in paragraph.bold:
                name = " ".join(paragraph.text[start:end].split())
                line = paragraph.line_at(start)
                section = page.section_at(line)
                if name[:1] in "\"'“‘" or name[-1:] in ".:?":
                    continue
                if section and section.text not in CLOSING:
                    above = [heading for heading in page.headings if heading.line < line]
                    yield Term(
                        name, _definition(paragraph, start), document, above[-1].anchor, line
                    )


def _definition(paragraph: Paragraph, start: int) -> str:
    """The sentence at ``start``; if it points back ("This is …"), with what it points to."""
    told: list[str] = []
    for sentence in paragraph.sentences:
        text = " ".join(sentence.text.split())
        told = [*told, text] if text.startswith(GOES_ON) else [text]
        if start < sentence.end:
            break
    return " ".join(told[-MOST:])


def glossary(audit: Audit) -> Iterator[str]:
    """The lines of ``GLOSSARY.md``."""
    yield from (
        "# Glossary",
        "",
        "Every term of the documents that exist, in the sentence that defines it. The link leads "
        "to the place.",
    )
    ordered = sorted(terms(audit), key=lambda term: (term.key, term.target))
    for letter, entries in groupby(ordered, key=lambda term: term.key[0].upper()):
        yield from ("", f"## {letter}", "")
        for term in entries:
            # In backticks GitHub leaves a formula alone, whatever stands in it.
            sentence = re.sub(r"\$([^$]+)\$", r"$`\1`$", term.sentence)
            said = f" {sentence}" if sentence != term.name else ""
            yield f"- [{term.name}]({term.target}) ({term.document.title}).{said}"
