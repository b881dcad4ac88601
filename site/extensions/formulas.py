"""Formulas become HTML while the site is built: no reader's browser computes one.

One Node child with KaTeX answers one line of JSON with another. A formula that it cannot
read is a warning with file and line, so with ``-W`` it stops the build.
"""

from __future__ import annotations

import json
import re
import subprocess
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset_file

from chainrule.node import find_node

SITE = Path(__file__).resolve().parents[1]
KATEX = SITE / "node_modules" / "katex" / "dist"
PUNCTUATION = re.compile(r"[.,;:!?)’”-]+")
END = "</span></span></span>"
logger = logging.getLogger(__name__)


class Katex:
    """The child process, started with the first formula, and what it has answered."""

    def __init__(self):
        self.child: subprocess.Popen[str] | None = None
        self.known: dict[tuple[str, bool], dict[str, str]] = {}

    def render(self, tex: str, display: bool) -> dict[str, str]:
        """``{"html": …}``, or ``{"error": …}`` for a formula that KaTeX cannot read."""
        key = (tex, display)
        if key not in self.known:
            if self.child is None:
                self.child = subprocess.Popen(
                    [find_node() or "node", str(SITE / "formulas.mjs")],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    encoding="utf-8",
                )
            print(json.dumps({"tex": tex, "display": display}), file=self.child.stdin, flush=True)
            self.known[key] = json.loads(self.child.stdout.readline())
        return self.known[key]

    def close(self, *_) -> None:
        """End the child."""
        if self.child is not None:
            self.child.stdin.close()
            self.child.wait(timeout=10)
            self.child.stdout.close()
            self.child = None


katex = Katex()


def keep_punctuation(app, doctree: nodes.document) -> None:
    """Give a formula the punctuation that follows it, so that no line starts with a comma."""
    for node in doctree.findall(nodes.math):
        text = node.next_node(descend=False, siblings=True)
        mark = PUNCTUATION.match(text) if isinstance(text, nodes.Text) else None
        if mark:
            node["mark"] = mark[0]
            node.parent.replace(text, nodes.Text(text[mark.end() :]))


def visit_inline(writer, node: nodes.math) -> None:
    """Write ``$…$``; its last part and the mark after it stay on one line."""
    formula, mark = html_of(node, display=False), escape(node.get("mark", ""))
    if mark and formula.endswith(END):
        formula = f'{formula.removesuffix(END)}<span class="mark">{mark}</span>{END}'
        mark = ""
    writer.body.append(formula + mark)
    raise nodes.SkipNode


def visit_block(writer, node: nodes.math_block) -> None:
    """Write a display formula in a box that scrolls where it is too wide."""
    writer.body.append('<div class="formula">')
    writer.body.append(html_of(node, display=True))
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def html_of(node: nodes.Element, display: bool) -> str:
    """The formula as HTML, or its source in red and a warning."""
    tex = node.astext()
    answer = katex.render(tex, display)
    if "html" in answer:
        return answer["html"]
    logger.warning("formula: %s", answer["error"], location=node, type="formula")
    return f'<code class="katex-error">{escape(tex)}</code>'


def add_style(app, pagename, templatename, context, doctree) -> None:
    """KaTeX's style sheet and fonts, only where there is a formula."""
    if doctree is not None and any(doctree.findall(lambda node: isinstance(node, MATHS))):
        app.add_css_file("katex/katex.min.css")


MATHS = (nodes.math, nodes.math_block)


def copy_style(app, error) -> None:
    """Put the style sheet and the fonts that browsers ask for beside the pages."""
    katex.close()
    if error is None:
        static = Path(app.outdir) / "_static" / "katex"
        (static / "fonts").mkdir(parents=True, exist_ok=True)
        copy_asset_file(KATEX / "katex.min.css", static / "katex.min.css", force=True)
        for font in sorted((KATEX / "fonts").glob("*.woff2")):
            copy_asset_file(font, static / "fonts" / font.name, force=True)


def setup(app):
    """Register with Sphinx."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_block, None))
    app.connect("doctree-read", keep_punctuation)
    app.connect("html-page-context", add_style)
    app.connect("build-finished", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
