"""What runs in the page: blocks and exercises say where they are, the browser loads the rest later.

Without JavaScript a page is what it was. With it, ``static/run.js`` puts buttons under the blocks;
all that they need is written by `chainrule.learner.page.bundle` and loaded when one is pressed.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError

from chainrule.course.documents import blocks
from chainrule.course.exercises import stubs
from chainrule.learner import reading
from chainrule.learner.page import bundle

TALK = "transformers/gpt"
PLACE = '<div class="talk-place"></div>'
SITE = Path(__file__).resolve().parents[1]


class runnable(nodes.General, nodes.Element):
    """A block that the page runs: ``seconds`` if it takes long, ``elsewhere`` why it cannot."""


def find(app, doctree: nodes.document) -> None:
    """Wrap each block that is executed; the blocks of the audit are those of the page."""
    document = app.course.by_id.get(app.env.docname)
    if document is None:
        return
    text = Path(app.env.doc2path(app.env.docname)).read_text(encoding="utf-8")
    known = app.config.course_measured.get(document.id, {})
    shown = {
        node.line + 1: node
        for node in doctree.findall(nodes.literal_block)
        if node.get("language") == "python" and node.line
    }
    executed = bundle.code_blocks(text)
    app.env.metadata[document.id]["steps"] = bundle.steps(executed)
    for block in executed:
        node = shown.get(block.first_line)
        if node is None or node.astext().rstrip() != block.code.rstrip():
            message = (
                f"{document.path}:{block.first_line}: this block is not where it is on the page"
            )
            raise ExtensionError(message)
        found = known.get(bundle.digest(block.code))
        if model := blocks.needed(block):
            found = f"it needs the model {model} (chainrule models get {model})"
        about = {"elsewhere": found} if isinstance(found, str) else {"seconds": found}
        box = runnable("", **about)
        node.replace_self(box)
        box += node


def prepare(app) -> None:
    """Exercises are remembered from build to build, as long as their files stay."""
    makers = [Path(str(module.__file__)).read_bytes() for module in (bundle, reading, stubs)]
    old, new = getattr(app.env, "course_exercises", {}), {}
    for document in app.course.written():
        file = app.course.root / document.exercises
        state = bundle.digest(b"".join([*makers, file.read_bytes()])) if file.is_file() else ""
        known = old.get(document.id, (None, None))
        kept = known[0] == state
        new[document.id] = known if kept else (state, bundle.exercises(app.course, document))
    app.env.course_exercises = new


def visit(writer, node: runnable) -> None:
    """Write the box; a block that is run quickly has no attribute."""
    told = [("seconds", node.get("seconds")), ("elsewhere", node.get("elsewhere"))]
    written = "".join(f' data-{key}="{escape(str(value))}"' for key, value in told if value)
    writer.body.append(f'<div class="run"{written}>')


def depart(writer, node: runnable) -> None:
    """Close it."""
    writer.body.append("</div>")


def place_talk(app, doctree: nodes.document) -> None:
    """On the GPT's page, its trained model has a place below the header."""
    if app.env.docname != TALK or not trained(app):
        return
    for box in doctree.findall(nodes.container):
        if "generated-header" in box["classes"]:
            box.parent.insert(box.parent.index(box) + 1, nodes.raw("", PLACE, format="html"))
            return


def trained(app) -> bool:
    """Whether the course has its model, and a page that teaches it."""
    files = Path(app.srcdir) / "models"
    return (files / "course-gpt.safetensors").is_file() and app.course.exists(
        app.course.by_id[TALK]
    )


def add_script(app, pagename, templatename, context, doctree) -> None:
    """The script with the buttons, only on a page that has a block, an exercise or the model."""
    document = app.course.by_id.get(pagename)
    entries: list[dict[str, Any]] = []
    if pagename == "index":
        context["talk"] = PLACE if trained(app) else ""
        if not context["talk"]:
            return
    elif document is None or doctree is None:
        return
    else:
        _, told = app.env.course_exercises[document.id]
        entries = told["items"] if told else []
        if not entries and not any(doctree.findall(runnable)):
            return
    exercises = [[each["name"], each["title"]] for each in entries]
    about = {"document": document.id if document else "", "exercises": exercises}
    told = json.dumps(about).replace("</", "<\\/")
    app.add_js_file(None, body=told, type="application/json", id="course-page")
    app.add_js_file("run.js", type="module")
    app.add_css_file("run.css")


def write(app, error) -> None:
    """Write what the page loads."""
    if error is None:
        known = app.env.metadata.items()
        steps = {name: about["steps"] for name, about in known if "steps" in about}
        try:
            asked = {name: told for name, (_, told) in app.env.course_exercises.items() if told}
            bundle.write(app.course, SITE, Path(app.outdir), steps, asked)
        except bundle.BundleError as fault:
            raise ExtensionError(str(fault)) from None


def setup(app):
    """Register with Sphinx."""
    app.add_config_value("course_measured", {}, "env")
    app.add_node(runnable, html=(visit, depart))
    app.connect("builder-inited", prepare)
    app.connect("doctree-read", find, priority=150)
    app.connect("doctree-read", place_talk, priority=160)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
