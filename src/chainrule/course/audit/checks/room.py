"""Room to think: one idea a paragraph, a number in each formula, a question to end with.

Counted are the words and formulas of paragraphs and items of lists in the main line, without the
references; a formula is one word, and so is a piece of code. A sentence with three or more steps
in its formulas is a derivation. A step is a sign such as = or ≤ outside brackets, unless both its
sides are given as they stand: in ``$x = 2$``, ``$v = (3, 4)$`` or ``$0 < p < 1$`` nothing is
computed.

The text from a heading (## or ###) to the next that displays a formula outside asides, other than
values of letters, needs a paragraph that opens with ``**By hand.**``. Its neighbours of the same
## can lend theirs, if they display none themselves (numbers first, then "In general"). The
closing sections need none.

In each section of the outline a paragraph opens with ``**Question.**``, and
``<details><summary>Answer</summary>`` follows it before the section ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from textwrap import shorten

from chainrule.course.audit import CLOSING, Audit
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding

NAME = "room"
STOPS = "A reader meets three facts in one breath, a formula without a number, an end unasked."

WORDS, FORMULAS, STEPS = 80, 6, 3
SHOWN = 60  # characters of a paragraph that is reported
BY_HAND, QUESTION, ANSWER = "By hand.", "Question.", "Answer"
_WORD = re.compile(r"\S*[\w¤]\S*")
_FORMULA = re.compile(r"\$([^$]+)\$")
_RELATIONS = (
    "approx cong equiv geqslant geq ge gg gt iff implies leqslant leq le ll lt propto simeq sim"
)
_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|.", re.S)
_SIGNS = {"=", "<", ">", *(f"\\{name}" for name in _RELATIONS.split())}
_BREAKS = {",", ";", "\\quad", "\\qquad", "\\text"}
_LETTER = (
    r"(?:\\(?:mathbf|mathcal|mathrm|boldsymbol|hat|bar|tilde)\s*)*\{?(?:[A-Za-z]|\\[a-zA-Z]+)\}?"
)
_NUMBER = r"[-+]?[\d.]+(?:\^\{?-?\d+\}?)?"
_GIVEN = re.compile(
    rf"\s*(?:[-+]?{_LETTER}(?:'|[_^](?:\{{[^{{}}]*\}}|\\?\w+))*|{_NUMBER}"
    rf"|\((?:\s*(?:{_NUMBER}|\\dots)\s*,?)+\)"
    r"|\\begin\{\w*matrix\}[-\d.&\\\s]*\\end\{\w*matrix\})?\s*\.?\s*"
)


def check(audit: Audit) -> Iterator[Finding]:
    """Find what is crowded, each formula that shows no number, each section that asks nothing."""
    for document in audit.picked(audit.written):
        page, outline = audit.page(document.path), {item.anchor for item in document.outline}
        for line, message, fix in (*_crowded(page), *_unworked(page), *_unasked(page, outline)):
            yield Finding(document.path, line, NAME, message, fix)


def _crowded(page: Page) -> Iterator[tuple[int, str, str]]:
    for paragraph in page.main_line:
        section = paragraph.section
        if paragraph.kind == "cell" or (section and section.text == "References"):
            continue
        words, formulas = len(_WORD.findall(paragraph.prose)), len(paragraph.formulas)
        if words > WORDS or formulas > FORMULAS:
            begins = shorten(paragraph.text, SHOWN, placeholder=" …")
            fix = f"at most {WORDS} words and {FORMULAS} formulas: one idea a paragraph"
            yield paragraph.line, f"{words} words, {formulas} formulas: {begins}", fix
        for sentence in paragraph.sentences if formulas else ():
            taken = sum(steps(tex) for tex in _FORMULA.findall(sentence.text))
            if taken >= STEPS:
                begins = shorten(sentence.text, SHOWN, placeholder=" …")
                fix = "display them, one step a line, the reason in words beside it"
                yield sentence.line, f"{taken} steps in one sentence: {begins}", fix


@cache
def steps(tex: str) -> int:
    """How many signs of a formula relate something that is computed."""
    sides, depth, taken = [""], 0, 0
    for token in [*_TOKEN.findall(tex), ","]:
        depth += (token in "([{" or token == "\\{") - (token in ")]}" or token == "\\}")
        if depth <= 0 and token in _SIGNS:
            sides.append("")
        elif depth <= 0 and token in _BREAKS:
            given = [bool(_GIVEN.fullmatch(side)) for side in sides]
            taken += sum(not (a and b) for a, b in pairwise(given))
            sides = [""]
        else:
            sides[-1] += token
    return taken


def computes(tex: str) -> bool:
    """Whether a displayed formula does more than to give values to letters."""
    return "=" not in tex or steps(tex) > 0


def _unworked(page: Page) -> Iterator[tuple[int, str, str]]:
    starts = [h for h in page.headings if h.level in (2, 3) and not page.aside_at(h.line)]
    ends = [heading.line for heading in starts[1:]] + [len(page.lines) + 1]
    pieces = [range(heading.line, end) for heading, end in zip(starts, ends, strict=True)]
    shown = [
        f.line for f in page.formulas if f.display and computes(f.tex) and not page.aside_at(f.line)
    ]
    examples = page.marked(BY_HAND)
    for place, heading in enumerate(starts):
        section = page.section_at(heading.line)
        formulas = [line for line in shown if line in pieces[place]]
        if not formulas or section is None or section.text in CLOSING:
            continue
        near = [
            piece
            for piece in pieces[max(0, place - 1) : place + 2]
            if piece == pieces[place]
            or (page.section_at(piece.start) == section and not any(x in piece for x in shown))
        ]
        if not any(line in piece for piece in near for line in examples):
            fix = f"a line **{BY_HAND}**, then a table or steps, one a line"
            yield formulas[0], f"a formula and no example by hand: {heading.text}", fix


def _unasked(page: Page, outline: set[str]) -> Iterator[tuple[int, str, str]]:
    asked = {page.section_at(line): line for line in reversed(page.marked(QUESTION))}
    answered = {page.section_at(a.line): a.line for a in page.asides if a.summary == ANSWER}
    for heading in page.headings:
        question, answer = asked.get(heading, 0), answered.get(heading, 0)
        if heading.anchor in outline and not 0 < question < answer:
            what = "a question without its answer" if question else "no question"
            fix = f"**{QUESTION}** …, then <details><summary>{ANSWER}</summary> in the section"
            yield heading.line, f"{what}: {heading.text}", fix
