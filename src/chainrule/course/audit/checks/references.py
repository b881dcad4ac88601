"""Lists of references: each entry is cited, in order, and written as CONTRIBUTING shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import ARXIV, DOI, Page
from chainrule.course.finding import Finding

NAME = "references"
STOPS = "A number leads to another work or to none, or its entry does not suffice to find the work."

SECTION = "References"
MOST_AUTHORS = 6
FORM = "A. Author, B. Author, *Title*, Journal 1(2), 3–4, 1999, doi:10.… or arXiv:…. Remark."
_YEAR = r"(?:1[4-9]|20)\d\d"
_ENTRY = re.compile(
    rf"(?P<authors>[^*]+), \*(?P<title>[^*]+)\*, (?:(?:(?!doi:|arXiv:|https?:)[^*])*?, )??{_YEAR}"
    rf"(?P<places>(?:, (?:{ARXIV}|{DOI}|https?://\S+?))*)\.(?P<remark> .+)?"
)
_TITLE = re.compile(r"\*[^*]+\*")
_NO_YEAR = re.compile(r"\*[^*]*\*|\barxiv\W*[\d.]+|\bdoi\W*10\.\S+|https?://\S+|\d+[–-]\d+", re.I)
_ENDS = r"(?=[.,](?:\s|$))"
_FIXED = {
    "arXiv": (re.compile(r"\barxiv\b", re.I), re.compile(ARXIV + _ENDS), "arXiv:1706.03762"),
    "DOI": (re.compile(r"\bdoi\b", re.I), re.compile(DOI + _ENDS), "doi:10.1038/323533a0"),
}
_JOINED = re.compile(r"\band others\b|(?:\band|&) [A-Z]\.")


@dataclass(frozen=True)
class Entry:
    """An item of a list of references; ``number`` is 0 where it has none."""

    path: str
    line: int
    number: int
    text: str

    @property
    def work(self) -> str:
        """The entry without its remark; nothing if it is not in the form."""
        found = _ENTRY.fullmatch(self.text)
        return self.text[: found.start("remark")] if found and found["remark"] else self.text

    @property
    def keys(self) -> list[str]:
        """By what the work is known again: its title, identifiers and addresses."""
        found = _ENTRY.fullmatch(self.text)
        if not found:
            return []
        title = "".join(re.findall(r"\w+", found["title"].lower()))
        return [title, *found["places"].lower().split(", ")[1:]]


def check(audit: Audit) -> Iterator[Finding]:
    """Compare each document's citations with its list, and the lists with one another."""
    known: dict[str, Entry] = {}
    for document in audit.written:
        page = audit.page(document.path)
        entries = list(read_entries(document.path, page))
        for line, message, fix in _citations(page, entries):
            yield Finding(document.path, line, NAME, message, fix)
        for position, entry in enumerate(entries, 1):
            for message, fix in [*_form(entry, position), *_twins(entry, known)]:
                yield Finding(document.path, entry.line, NAME, message, fix)


def read_entries(path: str, page: Page) -> Iterator[Entry]:
    """The items of a page's list of references."""
    for paragraph in page.paragraphs:
        section = paragraph.section
        if paragraph.kind == "item" and section is not None and section.text == SECTION:
            numbered = re.match(r"(\d+)\. ", page.lines[paragraph.line - 1])
            number = int(numbered[1]) if numbered else 0
            yield Entry(path, paragraph.line, number, " ".join(paragraph.source.split()))


def _citations(page: Page, entries: list[Entry]) -> Iterator[tuple[int, str, str]]:
    numbers = {entry.number for entry in entries}
    first: dict[int, int] = {}
    for citation in page.citations:
        if citation.section is None or citation.section.text != SECTION:
            for number in citation.numbers:
                if number in numbers:
                    first.setdefault(number, citation.line)
                else:
                    fix = "cite an entry of the list; an interval is a formula: $[0, 1]$"
                    yield citation.line, f"[{number}] is no entry of the references", fix
    for entry in entries:
        if entry.number and entry.number not in first:
            message = f"the text never cites entry {entry.number}"
            yield entry.line, message, f"put [{entry.number}] where it is used, or remove it"
    for cited, due in zip(first, sorted(first), strict=True):
        if cited != due:
            fix = "number the entries in the order in which the text first cites them"
            yield first[cited], f"[{cited}] is cited before [{due}]", fix
            break


def _form(entry: Entry, position: int) -> Iterator[tuple[str, str]]:
    """What is wrong with an entry as it is written, and how it should be."""
    if entry.number != position:
        yield f"entry {position} of the references is not numbered {position}", f"{position}. …"
    faults = []
    text = entry.text
    if not _TITLE.search(text):
        faults.append(("has no title in italics", FORM))
    if not re.search(rf"\b{_YEAR}\b", _NO_YEAR.sub("", text)):
        faults.append(("has no year", FORM))
    for name, (mention, fixed, example) in _FIXED.items():
        if any(not fixed.match(text, found.start()) for found in mention.finditer(text)):
            faults.append((f"does not give its {name} in the fixed form", f"write {example}"))
    if not text.endswith("."):
        faults.append(("does not end in a full stop", ""))
    authors = text.split(" *")[0]
    if _JOINED.search(authors) or authors.count(",") > MOST_AUTHORS:
        fix = f"commas between names; of more than {MOST_AUTHORS} authors the first and et al."
        faults.append(("does not name its authors as the others do", fix))
    if not faults and not _ENTRY.fullmatch(text):
        faults.append(("is not in the form of the others", FORM))
    yield from ((f"entry {entry.number or position} {fault}", fix) for fault, fix in faults)


def _twins(entry: Entry, known: dict[str, Entry]) -> Iterator[tuple[str, str]]:
    """Report a work that is listed twice, or otherwise than in another document."""
    twin = next((known[key] for key in entry.keys if key in known), None)
    if twin is not None and twin.path == entry.path:
        yield f"entries {twin.number} and {entry.number} are one work", "cite one of them"
    elif twin is not None and twin.work != entry.work:
        message = f"entry {entry.number} is written otherwise in {twin.path}:{twin.line}"
        yield message, f"there: {twin.work}"
    for key in entry.keys:
        known.setdefault(key, entry)
