"""One idea a paragraph: words, formulas and steps of the main line are counted.

Counted are paragraphs and items of lists; not asides (``<details>``, boxes, quotations), tables,
code, generated regions and the references. A formula is one word, and so is a piece of code.

A derivation is a sentence with three or more steps in its formulas. A step is a sign such as =
or ≤ outside brackets, unless both its sides are given as they stand: in ``$x = 2$``,
``$v = (3, 4)$`` or ``$0 < p < 1$`` nothing is computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Paragraph, Sentence
from chainrule.course.finding import Finding

NAME = "density"
STOPS = "A reader meets three facts in one breath, and reads the paragraph twice or not at all."

WORDS, FORMULAS, STEPS = 80, 6, 3
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
    """Find the paragraphs over the budget and the derivations of each document."""
    for document in audit.picked(audit.written):
        prose = [
            paragraph
            for paragraph in audit.page(document.path).main_line
            if paragraph.kind in ("paragraph", "item")
            and not (paragraph.section and paragraph.section.text == "References")
        ]
        for line, message, fix in (*_crowded(prose), *_derived(prose)):
            yield Finding(document.path, line, NAME, message, fix)


def _crowded(prose: list[Paragraph]) -> Iterator[tuple[int, str, str]]:
    for paragraph in prose:
        formulas = len(paragraph.formulas)
        if formulas <= FORMULAS and len(paragraph.text) <= 2 * WORDS:
            continue
        words = len(_WORD.findall(paragraph.prose))
        if words > WORDS or formulas > FORMULAS:
            message = f"{words} words, {formulas} formulas: {_start(paragraph)}"
            fix = f"at most {WORDS} words and {FORMULAS} formulas: one idea a paragraph"
            yield paragraph.line, message, fix


def _start(text: Paragraph | Sentence, most: int = 8) -> str:
    words = text.text.split()
    return " ".join(words[:most]) + (" …" if len(words) > most else "")


def _derived(prose: list[Paragraph]) -> Iterator[tuple[int, str, str]]:
    for paragraph in prose:
        if sum(steps(tex) for tex in _FORMULA.findall(paragraph.text)) < STEPS:
            continue
        for sentence in paragraph.sentences:
            taken = sum(steps(tex) for tex in _FORMULA.findall(sentence.text))
            if taken >= STEPS:
                message = f"{taken} steps in one sentence: {_start(sentence)}"
                fix = "display them, one step a line, the reason in words beside it"
                yield sentence.line, message, fix


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
