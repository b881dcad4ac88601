"""References: a number in the text leads to its entry, an entry to the work it names.

On GitHub ``[3]``, ``arXiv:1706.03762`` and ``doi:10.1137/090771806`` are plain text; here they are
links, and a number shows its entry to whoever points at it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from docutils import nodes

from chainrule.course.documents.markdown import ARXIV, CITATION, DOI

WORK = re.compile(rf"\b(?:{ARXIV}|{DOI})(?=[.,;]?(?:\s|$))")
ADDRESS = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
NOT_LINKED = (
    *(nodes.literal, nodes.literal_block, nodes.math, nodes.math_block),
    *(nodes.raw, nodes.reference, nodes.title),
)


def link(app, doctree: nodes.document) -> None:
    """Turn citations and identifiers of a document with a section References into links."""
    section = next((each for each in doctree.findall(nodes.section) if _is_references(each)), None)
    entries = list(section.findall(nodes.list_item)) if section else []
    for number, entry in enumerate(entries, start=1):
        entry["ids"].append(f"reference-{number}")
        _replace(entry, WORK, _work)
    texts = [entry.astext() for entry in entries]

    def cite(number: str, words: str) -> nodes.Node:
        if not 1 <= int(number) <= len(texts):
            return nodes.Text(words)
        title = texts[int(number) - 1]
        attributes = {"refid": f"reference-{number}", "internal": True, "reftitle": title}
        return nodes.reference(words, words, classes=["citation"], **attributes)

    def citation(match: re.Match) -> list[nodes.Node]:
        numbers = re.findall(r"\d+", match[1])
        if len(numbers) == 1:
            return [cite(numbers[0], match[0])]
        parts = [piece for number in numbers for piece in (nodes.Text(", "), cite(number, number))]
        return [nodes.Text("["), *parts[1:], nodes.Text("]")]

    _replace(doctree, CITATION, citation)


def _is_references(section: nodes.section) -> bool:
    return section.next_node(nodes.title).astext() == "References"


def _work(match: re.Match) -> list[nodes.Node]:
    kind, name = match[0].split(":", 1)
    return [nodes.reference(match[0], match[0], refuri=ADDRESS[kind] + name)]


def _replace(tree: nodes.Element, pattern: re.Pattern, make) -> None:
    """Put what ``make`` returns in the place of each match in the prose below ``tree``."""
    for text in list(tree.findall(nodes.Text)):
        if pattern.search(text) and not any(isinstance(up, NOT_LINKED) for up in _parents(text)):
            text.parent.replace(text, list(_pieces(str(text), pattern, make)))


def _parents(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def _pieces(text: str, pattern: re.Pattern, make) -> Iterator[nodes.Node]:
    end = 0
    for match in pattern.finditer(text):
        yield nodes.Text(text[end : match.start()])
        yield from make(match)
        end = match.end()
    yield nodes.Text(text[end:])


def setup(app):
    """Register with Sphinx."""
    app.connect("doctree-read", link, priority=200)  # when course_pages has dropped the comments
    return {"parallel_read_safe": False, "parallel_write_safe": False}
