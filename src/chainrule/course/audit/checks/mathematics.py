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

from chainrule.course.audit import Audit
from chainrule.course.children import ask
from chainrule.course.documents.markdown import Inline, Page, parser
from chainrule.course.finding import Finding
from chainrule.course.node import find_node
from chainrule.program import UsageError

NAME = "mathematics"
STOPS = "A formula shows as red source text on the site, or as italics and lost braces on GitHub."

KATEX = r"""
const katex = require(process.argv[1]);
for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const [tex, displayMode] = JSON.parse(line);
  let answer = null;
  try { katex.__parse(tex, {displayMode, throwOnError: true, strict: "error"}); }
  catch (error) { answer = error.message.replace(/^KaTeX parse error: |\u0332/g, ""); }
  console.log(JSON.stringify(answer));
}
"""
FORBIDDEN = {
    r"\|": r"write \lVert x\rVert for a norm, \mid for 'given'",
    r"\newcommand": "GitHub and KaTeX share no macros: write it out",
    r"\renewcommand": "GitHub and KaTeX share no macros: write it out",
    r"\def": "GitHub and KaTeX share no macros: write it out",
    r"\label": 'put <a id="eq-name"></a> above the block',
    r"\operatorname": r"GitHub refuses it: write \mathrm{…}, with \mathop for limits",
}
_FORBIDDEN = re.compile(r"\\(?:\||(?:newcommand|renewcommand|def|label|operatorname)(?![a-zA-Z]))")
_EATEN = re.compile(r"\\[!-/:-@\[-`{-~]")
# An underscore opens emphasis only where no letter or digit stands before it.
_OPENS = re.compile(r"(?<![^\W_])_(?=\S)")
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
    verdicts = audit.begun[NAME].result()
    for path, above, page in audit.prose:
        for formula in page.formulas:
            if fault := verdicts[formula.tex, formula.display]:
                yield Finding(path, above + formula.line, NAME, f"KaTeX: {fault}")


def _parsed(root: Path, formulas: list[tuple[str, bool]]) -> dict[tuple[str, bool], str | None]:
    """What KaTeX finds wrong with each formula, or None.

    Raises:
        UsageError: Node or KaTeX is missing, or fails.
    """
    places = [place / "site" / "node_modules" / "katex" for place in (root, HERE)]
    katex = next((place for place in places if place.is_dir()), None)
    node = find_node()
    if katex is None or node is None:
        missing = "Node" if node is None else "KaTeX"
        raise UsageError(f"{missing} is missing; type: python -m chainrule.course.node")
    told = "".join(f"{json.dumps(formula)}\n" for formula in formulas)
    answer = ask(node, "-e", KATEX, str(katex), root=root, seconds=SECONDS, told=told)
    if answer.fault:
        raise UsageError("Node failed on the formulas; type: python -m chainrule.course.node")
    return dict(zip(formulas, answer.rows(), strict=True))


def _spelling(page: Page) -> Iterator[tuple[int, str, str]]:
    """What can be seen without KaTeX: line, message, fix."""
    for formula in page.formulas:
        for found in _FORBIDDEN.finditer(formula.tex):
            yield formula.line, f"{found[0]} in a formula", FORBIDDEN[found[0]]
        eaten = [e for e in _EATEN.findall(formula.tex) if e not in FORBIDDEN]
        if eaten and formula.style in ("dollar", "double"):
            message = f"GitHub takes the backslash from {eaten[0]} between dollars"
            fix = IN_BACKTICKS if formula.style == "dollar" else "use a ```math block"
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
    for inline in page.inlines:
        for place in inline.dollars:
            message = "a dollar sign that opens no formula"
            yield inline.line_at(place), message, r"close the formula, or write \$"
        yield from _neighbours(inline)
        yield from _emphasis(inline)


def _neighbours(inline: Inline) -> Iterator[tuple[int, str, str]]:
    """GitHub wants no letter, digit or hyphen before an inline formula and none but - after it."""
    for start, end in inline.formulas:
        before, after = inline.source[:start][-1:], inline.source[end : end + 1]
        if before.isalnum() or before in ("-", "$") or after.isalnum() or after == "$":
            message = f"{before}{inline.source[start:end]}{after}: GitHub shows no formula here"
            yield inline.line_at(start), message, "put a space or punctuation beside the dollar"


def _emphasis(inline: Inline) -> Iterator[tuple[int, str, str]]:
    """Formulas between single dollars in which Markdown sees something of its own."""
    opens = _OPENS.search(inline.source)
    suspects = [
        (start, end)
        for start, end in inline.formulas
        if inline.source[start + 1] != "`"
        and (
            _MARKS.search(inline.source, start, end) or (opens and "_" in inline.source[start:end])
        )
    ]
    if not suspects or _marks(inline.source) == _marks(_without(inline.source, suspects)):
        return
    for place, span in enumerate(suspects):
        others = suspects[:place] + suspects[place + 1 :]
        if _marks(inline.source) != _marks(_without(inline.source, [span])) or not others:
            source = inline.source[span[0] : span[1]]
            message = f"{source}: GitHub reads Markdown inside this formula"
            yield inline.line_at(span[0]), message, IN_BACKTICKS
            return


def _without(source: str, spans: list[tuple[int, int]]) -> str:
    """The source with formulas blanked out, lengths kept."""
    for start, end in spans:
        source = source[: start + 1] + "x" * (end - start - 2) + source[end - 1 :]
    return source


def _marks(source: str) -> Counter[str]:
    """How many emphases, links, tags … a Markdown parser without mathematics sees."""
    tokens = parser(mathematics=False).parseInline(source)[0].children or []
    return Counter(token.type for token in tokens if token.type not in ("text", "softbreak"))
