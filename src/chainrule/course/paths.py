"""Finding a subject by what people call it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.course.manifest import Course, Document
from chainrule.program import UsageError

SHORT_LIST = 6


@dataclass(frozen=True)
class Subject:
    """A document, and the name under which it was found."""

    document: Document
    name: str
    anchor: str = ""


def normal(text: str) -> str:
    """Lower case, words separated by single blanks: hyphens and punctuation do not matter."""
    return " ".join(re.findall(r"\w+", text.casefold().replace("_", " ")))


def _names(document: Document) -> Iterator[list[Subject]]:
    """All names of a document, the strongest kind first."""
    yield [Subject(document, text) for text in (document.id, document.slug, document.title)]
    yield [Subject(document, text) for text in document.concepts]
    yield [Subject(document, item.text, item.anchor) for item in document.outline]


def find_subject(course: Course, words: str) -> Subject:
    """The one subject that goes by this title, id, concept or outline bullet.

    Raises:
        UsageError: none does (near misses are suggested), or several do (they are listed).
    """
    query = normal(re.sub(r"^(\./)?((workbook|exercises)/)?|\.(md|py)$", "", words.strip()))
    if not query:
        raise UsageError("no subject given; try: chainrule path attention")
    kinds = list(zip(*(_names(document) for document in course.documents), strict=True))
    for matches in (_equal, _starts, _contains):
        for kind in kinds:
            found = [next((s for s in names if matches(query, s.name)), None) for names in kind]
            subjects = [subject for subject in found if subject]
            if len(subjects) == 1:
                return subjects[0]
            if subjects:
                raise UsageError(_ambiguous(words, subjects))
    raise UsageError(_unknown(words, query, kinds))


def _equal(query: str, name: str) -> bool:
    return query == normal(name)


def _starts(query: str, name: str) -> bool:
    return f"{normal(name)} ".startswith(f"{query} ")


def _contains(query: str, name: str) -> bool:
    """Every word of the query begins a word of the name."""
    words = normal(name).split()
    return all(any(word.startswith(part) for word in words) for part in query.split())


def _ambiguous(words: str, subjects: list[Subject]) -> str:
    lines = [f"{words!r} could be any of these; type one of the ids:"]
    lines += [f"  {s.document.id:36} {s.name}" for s in subjects[:SHORT_LIST]]
    if len(subjects) > SHORT_LIST:
        lines.append(f"  and {len(subjects) - SHORT_LIST} more")
    return "\n".join(lines)


def _unknown(words: str, query: str, kinds: list[tuple[list[Subject], ...]]) -> str:
    known = {normal(s.name): s.name for kind in kinds for names in kind for s in names}
    near = difflib.get_close_matches(query, known, n=3, cutoff=0.6)
    hint = " or ".join(repr(known[name]) for name in near)
    return f"no subject is called {words!r}" + (
        f"; did you mean {hint}?" if near else "; see the titles in README.md"
    )


def duration(minutes: int) -> str:
    """``55 min``, ``3 h``, ``3 h 05 min``."""
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest:02} min" if rest else f"{hours} h"
