"""Counts that may only fall: what a document may still hold, by ``allowance`` in its entry.

A check that counts has ``count(audit)``, each document with its places by the name of their
field in `Allowance`, and leaves the comparison to `findings` and `lowered`. Where there are more
places than allowed all are reported; where there are fewer, that the number must come down. So
no document gets worse again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from chainrule.course.audit import Audit
from chainrule.course.finding import Finding
from chainrule.course.manifest import MANIFEST, Document

Places = dict[str, list[tuple[int, str, str]]]  # each place: line, message, what to do
Count = Callable[[Audit], Iterator[tuple[Document, Places]]]


def findings(audit: Audit, check: str, count: Count) -> Iterator[Finding]:
    """Every place of a document that holds more than its allowance, or an allowance to lower."""
    for document, counted in count(audit):
        for name, places in counted.items():
            allowed = getattr(document.allowance, name)
            if len(places) > allowed or audit.everything:
                for line, message, fix in places:
                    fix += f" ({name}: {len(places)}, allowed: {allowed})"
                    yield Finding(document.path, line, check, message, fix)
            elif len(places) < allowed:
                line = audit.course.line_of(f'\nid = "{document.id}"', "\nallowance", name)
                message = f"{document.id} is allowed {name} = {allowed} and has {len(places)}"
                yield Finding(MANIFEST, line, check, message, "chainrule audit --write lowers it")


def lowered(audit: Audit, count: Count) -> Iterator[tuple[str, str]]:
    """The manifest with every allowance as low as its document has earned."""
    text = audit.course.source
    for document, counted in count(audit):
        allowed = document.allowance.model_dump()
        for name, places in counted.items():
            allowed[name] = min(allowed[name], len(places))
        left = ", ".join(f"{name} = {number}" for name, number in allowed.items() if number)
        line = f"allowance = {{ {left} }}\n" if left else ""
        entry = rf'(\nid = "{re.escape(document.id)}"\n(?:(?!\[\[).*\n)*?)allowance = .*\n'
        text = re.sub(entry, rf"\g<1>{line}", text, count=1)
    yield MANIFEST, text


def first_words(text: str, most: int = 8) -> str:
    """The beginning of a paragraph, as a message shows it."""
    words = text.split()
    return " ".join(words[:most]) + (" …" if len(words) > most else "")
