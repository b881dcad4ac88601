"""Every formula parses in KaTeX, and GitHub shows it as it is meant.

GitHub's Markdown reads a formula between single or double dollars before its mathematics do:
it takes underscores for emphasis and the backslash from ``\\{`` and ``\\,``. A formula between
$` and `$, or in a ```math block, is left alone. (Reported against
github/markup by N. Schlömer in 2023, still so in 2024.)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chainrule.children import ask
from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Page, Paragraph, parser
from chainrule.course.finding import Finding
from chainrule.course.manifest import MANIFEST
from chainrule.node import find_node
from chainrule.program import UsageError

NAME = "mathematics"
STOPS = "A formula shows as red source text on the site, or as italics and lost braces on GitHub."

FORBIDDEN = {
    r"\|": r"write \lVert x\rVert for a norm, \mid for 'given'",
    **dict.fromkeys([r"\newcommand", r"\renewcommand", r"\def"], "no macros: write it out"),
    r"\label": 'put <a id="eq-name"></a> above the block',
    r"\operatorname": r"GitHub refuses it: write \mathrm{…}, with \mathop for limits",
}
_FORBIDDEN = re.compile(r"\\(?:\||(?:newcommand|renewcommand|def|label|operatorname)(?![a-zA-Z]))")
_EATEN = re.compile(r"\\[!-/:-@\[-`{-~]")
# An underscore opens emphasis only where no letter or digit stands before it.
_OPENS = re.compile(r"(?<![^\W_])_(?=\S)")
_NOISE = re.compile("^KaTeX parse error: |\u0332")
_MARKS = re.compile(r"[*`]|\]\(|\]\[|<[a-zA-Z/!?]|~~")
IN_BACKTICKS = "write it between $` and `$"
HERE = Path(__file__).parents[5]
SECONDS = 300


def begin(audit: Audit) -> None:
    """Have KaTeX go through all formulas while Python does other things."""
    formulas = {(f.tex, f.display) for _, _, page in audit.prose for f in page.formulas}
    beside = ThreadPoolExecutor(max_workers=1)
    audit.begun[NAME] = beside.submit(_parsed, audit.root, sorted(formulas))


def check(audit: Audit) -> Iterator[Finding]:
    """Report what GitHub or KaTeX would not show."""
    for path, above, page in audit.prose:
        for line, message, fix in _spelling(page):
            yield Finding(path, above + line, NAME, message, fix)
    try:
        verdicts = audit.begun[NAME].result()
    except UsageError as error:  # the other checks go on
        fix = "type: python -m chainrule.node"
        yield Finding(MANIFEST, 1, NAME, f"no formula was parsed: {error}", fix)
        return
    for path, above, page in audit.prose:
        for formula in page.formulas:
            if fault := verdicts[formula.tex, formula.display]:
                yield Finding(path, above + formula.line, NAME, f"KaTeX: {fault}")


def _parsed(root: Path, formulas: list[tuple[str, bool]]) -> dict[tuple[str, bool], str]:
    """What KaTeX finds wrong with each formula, or nothing.

    Raises:
        UsageError: Node or KaTeX is missing, or fails.
    """
    sites = [place / "site" for place in (root, HERE)]
    site = next((site for site in sites if (site / "node_modules" / "katex").is_dir()), None)
    node = find_node()
    if site is None or node is None:
        raise UsageError("Node is missing" if node is None else "KaTeX is missing")
    asked = ({"tex": tex, "display": display, "strict": True} for tex, display in formulas)
    told = "".join(f"{json.dumps(each)}\n" for each in asked)
    answer = ask(node, str(site / "formulas.mjs"), root=root, seconds=SECONDS, told=told)
    if answer.fault:
        raise UsageError(f"Node failed: {answer.fault}")
    faults = (_NOISE.sub("", row.get("error", "")) for row in answer.rows())
    return dict(zip(formulas, faults, strict=True))


def _spelling(page: Page) -> Iterator[tuple[int, str, str]]:
    """What can be seen without KaTeX: line, message, fix."""
    for formula in page.formulas:
        for found in _FORBIDDEN.finditer(formula.tex):
            yield formula.line, f"{found[0]} in a formula", FORBIDDEN[found[0]]
        eaten = [e for e in _EATEN.findall(formula.tex) if e not in FORBIDDEN]
        if eaten and formula.dollars:
            message = f"GitHub takes the backslash from {eaten[0]} between dollars"
            fix = "use a ```math block" if formula.display else IN_BACKTICKS
            yield formula.line, message, fix
        if "\n" in formula.tex and not formula.display:
            yield formula.line, "a formula runs over the end of a line", "keep it on one line"
    for block in page.blocks:
        if block.info == "math":
            last = block.line + block.code.count("\n") + 1
            for line, where in ((block.line - 1, "before"), (last + 1, "after")):
                if 1 <= line <= len(page.lines) and page.lines[line - 1].strip(" >"):
                    yield line, f"no blank line {where} a block of mathematics", "add one"
    for link in page.links:
        if "$" in link.text:
            yield link.line, "GitHub shows no formula in the text of a link", "use words there"
    for paragraph in page.paragraphs:
        for place in paragraph.dollars:
            message = "a dollar sign that opens no formula"
            yield paragraph.source_line(place), message, r"close the formula, or write \$"
        yield from _neighbours(paragraph)
        yield from _emphasis(paragraph)


def _neighbours(paragraph: Paragraph) -> Iterator[tuple[int, str, str]]:
    """GitHub wants no letter, digit or hyphen before an inline formula and none but - after it."""
    source = paragraph.source
    for start, end in paragraph.formulas:
        before, after = source[:start][-1:], source[end : end + 1]
        if before.isalnum() or before in ("-", "$") or after.isalnum() or after == "$":
            message = f"{before}{source[start:end]}{after}: GitHub shows no formula here"
            fix = "put a space or punctuation beside the dollar"
            yield paragraph.source_line(start), message, fix


def _emphasis(paragraph: Paragraph) -> Iterator[tuple[int, str, str]]:
    """The first formula between single dollars in which Markdown sees something of its own."""
    source = paragraph.source
    opens = _OPENS.search(source)
    suspects = [
        (start, end)
        for start, end in paragraph.formulas
        if source[start + 1] != "`"
        and (_MARKS.search(source, start, end) or (opens and "_" in source[start:end]))
    ]
    if suspects and _marks(source) != _marks(_without(source, suspects)):
        alone = (span for span in suspects if _marks(source) != _marks(_without(source, [span])))
        start, end = next(alone, suspects[0])
        message = f"{source[start:end]}: GitHub reads Markdown inside this formula"
        yield paragraph.source_line(start), message, IN_BACKTICKS


def _without(source: str, spans: list[tuple[int, int]]) -> str:
    """The source with formulas blanked out, lengths kept."""
    for start, end in spans:
        source = source[: start + 1] + "x" * (end - start - 2) + source[end - 1 :]
    return source


def _marks(source: str) -> Counter[str]:
    """How many emphases, links, tags … a Markdown parser without mathematics sees."""
    tokens = parser(mathematics=False).parseInline(source)[0].children or []
    return Counter(token.type for token in tokens if token.type not in ("text", "softbreak"))
