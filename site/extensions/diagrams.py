"""Mermaid diagrams: the browser draws them, with a copy of Mermaid that lies beside the page.

Only a page that has a diagram loads it.
"""

from __future__ import annotations

import posixpath
import re
import shutil
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

MERMAID = Path(__file__).resolve().parents[1] / "node_modules" / "mermaid" / "dist"
CLICK = re.compile(r'^(\s*click\s+\S+\s+(?:href\s+)?")([^":#]+)\.md((?:#[^"]*)?")', re.MULTILINE)


class mermaid(nodes.General, nodes.Element):
    """A diagram; ``code`` holds its source."""


class Mermaid(SphinxDirective):
    """The fence ```` ```mermaid ````."""

    has_content = True

    def run(self):
        """One node, its source untouched."""
        node = mermaid(code="\n".join(self.content), docname=self.env.docname)
        self.set_source_info(node)
        return [node]


def visit(writer, node: mermaid) -> None:
    """Write the source; boxes that link to a document link to its page."""
    builder, here = writer.builder, node["docname"]

    def to_page(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2]))
        if target not in builder.env.all_docs:
            return match[0]
        return match[1] + builder.get_relative_uri(here, target) + match[3]

    code = CLICK.sub(to_page, node["code"])
    writer.body.append(f'<div class="diagram"><pre class="mermaid">{escape(code)}</pre></div>\n')
    raise nodes.SkipNode


def add_script(app, pagename, templatename, context, doctree) -> None:
    """The script, only where there is a diagram."""
    if doctree is not None and any(doctree.findall(mermaid)):
        app.add_js_file("diagrams.js", type="module")


def copy_mermaid(app, error) -> None:
    """Put the module and the pieces that it loads on demand beside the pages."""
    target = Path(app.outdir) / "_static" / "mermaid"
    if error is None and not target.exists():
        pieces = "chunks/mermaid.esm.min"
        shutil.copytree(MERMAID / pieces, target / pieces, ignore=shutil.ignore_patterns("*.map"))
        shutil.copy(MERMAID / "mermaid.esm.min.mjs", target)


def setup(app):
    """Register with Sphinx."""
    app.add_node(mermaid, html=(visit, None))
    app.add_directive("mermaid", Mermaid)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
