"""Every word and letter is introduced before it is used.

A word is early where a term that the page defines further down stands in the main line, and its
first use is no link. The opening may name what is to come. A term of one word that a prerequisite
already uses in its text is the reader's own ("key", "value") until it is defined.

A letter is early where a displayed formula of the main line holds it, but no formula above does,
nor NOTATION.md. A formula that only gives values to letters introduces them; those that a formula
binds itself (under a sum, behind the d of an integral) and all in ``\\mathrm`` are free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from chainrule.course.audit import Audit
from chainrule.course.audit.checks.glossary import Term, key, terms
from chainrule.course.audit.checks.room import computes
from chainrule.course.documents.markdown import NOT_PROSE, Page
from chainrule.course.finding import Finding

NAME = "ledger"
STOPS = "A reader meets a word or a letter, and its meaning comes a page later."

_UPRIGHT = re.compile(
    r"\\(?:text\w*|mathrm|end)\s*\{[^{}]*\}|\\begin\{\w+\}(?:\{[lcr|]+\})?|\\\\\[[^]]*\]"
)
_LETTER = re.compile(r"(\\math(?:cal|bb)\s*\{?\s*[A-Za-z])|(\\[a-zA-Z]+)|([A-Za-z])")
_BINDS = re.compile(
    r"\\(?:sum|prod|int|max|min|sup|inf|lim|mathbb\s*\{?E\}?|mathop\{\\mathrm\{[^{}]*\}\})"
    r"(?:\\limits)?\s*_\s*(\{[^{}]*\}|\\[a-zA-Z]+|\w)"
)
_GREEK = re.compile(
    r"\\(?:(?:var)?(?:epsilon|theta|phi|rho|pi|sigma|kappa)|alpha|beta|[gG]amma|[dD]elta|zeta|eta"
    r"|Theta|iota|[lL]ambda|mu|nu|[xX]i|Pi|Sigma|tau|[uU]psilon|Phi|chi|[pP]si|[oO]mega|ell)"
)
_KNOWN_TO_ALL = {"d", "e", "\\pi"}


def check(audit: Audit) -> Iterator[Finding]:
    """Find the early words and letters of each document."""
    defined = list(terms(audit))
    keys = {term.key for term in defined}
    notation = audit.page("NOTATION.md").formulas if "NOTATION.md" in audit.files else []
    fixed = _KNOWN_TO_ALL.union(*(letters(formula.tex) for formula in notation))
    for document in audit.picked(audit.written):
        page = audit.page(document.path)
        before = audit.course.ancestors(document.id)
        met = set().union(*(audit.page(d.path).vocabulary for d in audit.written if d.id in before))
        own = {t.key: t for t in defined if t.document is document and t.name.lower() not in met}
        for line, message, fix in (*_early(page, own, keys), *_unheard(page, fixed)):
            yield Finding(document.path, line, NAME, message, fix)


def _early(page: Page, own: dict[str, Term], keys: Iterable[str]) -> Iterator[tuple[int, str, str]]:
    for name, line, linked in uses(page, [k for k in keys if any(o in k for o in own)]):
        term = own.pop(name, None)
        if term and line < term.line and not linked:
            fix = "define it here, link to where it is defined, or use another word"
            yield line, f"{term.name!r} is used here and defined in line {term.line}", fix


def uses(page: Page, keys: Iterable[str]) -> Iterator[tuple[str, int, bool]]:
    """Each use of a term in the sections' main line: its key, line, whether it is a link.

    Where terms overlap the longest counts: a "cross-entropy loss" is no use of "loss".
    """
    ordered = sorted((name for name in keys if _may_use(page, name)), key=len, reverse=True)
    spelled = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in ordered)
    pattern = re.compile(rf"(?<![\w-])(?:{spelled})(?:s?e?s)?(?![\w-])", re.I)
    links: dict[int, list[tuple[int, int]]] = {}
    for link in page.links:
        links.setdefault(id(link.paragraph), []).append((link.offset, link.offset + len(link.text)))
    for paragraph in page.main_line if ordered else ():
        if paragraph.section is None:
            continue
        hidden = [found.span() for found in NOT_PROSE.finditer(paragraph.text)]
        linked = links.get(id(paragraph), [])
        for found in pattern.finditer(paragraph.text):
            at = found.start()
            if not any(start <= at < end for start, end in hidden):
                inside = any(start <= at < end for start, end in linked)
                yield key(" ".join(found[0].split())), paragraph.line_at(at), inside


def _may_use(page: Page, name: str) -> bool:
    """Whether the words of a term stand somewhere on a page: fast, and never wrongly no."""
    *words, last = re.findall("[a-z]+", name) or [""]
    known = page.vocabulary
    return known.issuperset(words) and any(last + end in known for end in ("", "s", "es", "ses"))


def _unheard(page: Page, fixed: set[str]) -> Iterator[tuple[int, str, str]]:
    seen = set(fixed)
    for formula in page.formulas:
        if page.aside_at(formula.line):
            continue
        here = letters(formula.tex)
        bound = set().union(*(letters(part) for part in _BINDS.findall(formula.tex)))
        if "\\int" in formula.tex:
            bound |= set(re.findall(r"d\s*([A-Za-z])", formula.tex))
        if formula.display and computes(formula.tex) and (new := here - bound - seen):
            what = ", ".join(sorted(new))
            fix = "a sentence of its own before the formula, with its shape"
            yield formula.line, f"no formula above introduces {what}", fix
        seen |= here


@cache
def letters(tex: str) -> set[str]:
    """The letters of a formula, without their accents and weights."""
    found = _LETTER.findall(_UPRIGHT.sub(" ", tex))
    return {
        re.sub(r"[\s{]", "", special) or command or plain
        for special, command, plain in found
        if special or plain or _GREEK.fullmatch(command)
    }
