"""Each section of the outline ends by asking.

A paragraph opens with ``**Question.**``; ``<details><summary>Answer</summary>`` follows it before
the section ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.finding import Finding

NAME = "questions"
STOPS = "A reader cannot tell whether the section was understood, and reads on without."

MARK, ANSWER = "Question.", "Answer"
FIX = f"**{MARK}** …, then <details><summary>{ANSWER}</summary>, before the section ends"


def check(audit: Audit) -> Iterator[Finding]:
    """Find the sections of each document's outline that ask nothing, or do not answer."""
    for document in audit.written:
        page = audit.page(document.path)
        asked = {page.section_at(line): line for line in reversed(page.marked(MARK))}
        answered = {page.section_at(a.line): a.line for a in page.asides if a.summary == ANSWER}
        outline = {item.anchor for item in document.outline}
        for heading in page.headings:
            question, answer = asked.get(heading, 0), answered.get(heading, 0)
            if heading.anchor in outline and not 0 < question < answer:
                what = "a question without its answer" if question else "no question"
                message = f"{what}: {heading.text}"
                yield Finding(document.path, heading.line, NAME, message, FIX)
