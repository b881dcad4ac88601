"""A term is defined once."""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.audit.glossary import Term, terms
from chainrule.course.finding import Finding

NAME = "glossary"
STOPS = "Two documents define one word, a little differently, and the reader must choose."


def check(audit: Audit) -> Iterator[Finding]:
    """Report each term that is bold a second time."""
    first: dict[str, Term] = {}
    for term in terms(audit):
        known = first.setdefault(term.key, term)
        if known is not term:
            where = f"{known.document.path}:{known.line}"
            yield Finding(
                term.document.path,
                term.line,
                NAME,
                f"'{term.name}' is defined a second time; the first is in {where}",
                "link to the first in plain type, or give this one a name of its own",
            )
