"""Interactive figures: a module beside a picture takes its place in the reader's browser.

``figures/<folder>/<slug>/<name>.js`` beside ``<name>.svg`` is enough. The page keeps the picture
and names the module; ``static/interactive.js`` swaps the two once the module has drawn.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.util.osutil import relative_uri

FOLDER = "_static/figures"


class interactive_image(nodes.image):
    """A picture that a module can replace; ``module`` is its path, ``digest`` names its bytes."""


def find(app, doctree: nodes.document) -> None:
    """Mark the pictures that have a module; remember all, for a module may come or go."""
    pictures = app.env.metadata[app.env.docname]["pictures"] = {}
    for image in list(doctree.findall(nodes.image)):
        path = image["uri"]
        if not (path.startswith("figures/") and path.endswith(".svg")):
            continue
        pictures[path] = digest = _digest(app, path)
        if digest:
            image.replace_self(
                interactive_image(
                    image.rawsource,
                    **image.attributes,
                    module=_module(path).removeprefix("figures/"),
                    digest=digest,
                )
            )


def _module(picture: str) -> str:
    return picture.removesuffix(".svg") + ".js"


def _digest(app, picture: str) -> str:
    """A name for the bytes of a picture's module; empty where there is none."""
    file = Path(app.srcdir) / _module(picture)
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8] if file.is_file() else ""


def outdated(app, env, added, changed, removed) -> list[str]:
    """Documents one of whose modules is new, changed or gone."""
    return [
        docname
        for docname, about in env.metadata.items()
        if docname not in removed
        and any(digest != _digest(app, path) for path, digest in about.get("pictures", {}).items())
    ]


def visit(writer, node: interactive_image) -> None:
    """Write the picture, with the address of its module."""
    writer.visit_image(node)
    page = writer.builder.get_target_uri(writer.builder.current_docname)
    module = f"{FOLDER}/{node['module']}"
    address = f"{relative_uri(page, module)}?v={node['digest']}"
    writer.body[-1] = writer.body[-1].replace("<img ", f'<img data-interactive="{address}" ', 1)


def depart(writer, node: interactive_image) -> None:
    """As of any picture."""
    writer.depart_image(node)


def add_script(app, pagename, templatename, context, doctree) -> None:
    """Script and style, only where there is an interactive figure."""
    if doctree is not None and any(doctree.findall(interactive_image)):
        app.add_js_file("interactive.js", type="module")
        app.add_css_file("interactive.css")


def copy_modules(app, error) -> None:
    """Put the modules beside the pages."""
    target = Path(app.outdir) / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    for about in app.env.metadata.values() if error is None else ():
        for path, digest in about.get("pictures", {}).items():
            if digest:
                copy = target / _module(path).removeprefix("figures/")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(app.srcdir) / _module(path), copy)


def setup(app):
    """Register with Sphinx."""
    app.add_node(interactive_image, html=(visit, depart))
    app.connect("env-get-outdated", outdated)
    app.connect("doctree-read", find, priority=900)  # after Sphinx has resolved the paths
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_modules)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
