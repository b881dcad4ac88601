"""What the course adds to Sphinx: navigation, home page, generated regions, source pages."""

from __future__ import annotations

import html
import json
import posixpath
import re
from pathlib import Path

from docutils import nodes
from jinja2 import FileSystemBytecodeCache
from pygments.lexer import inherit
from pygments.lexers.python import PythonLexer
from pygments.token import Generic
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

from chainrule.children import ask
from chainrule.course.manifest import Course, load_course
from chainrule.course.paths import duration, normal
from chainrule.course.site import following
from chainrule.learner.page import bundle
from chainrule.node import find_node
from chainrule.trainer.parts import PARTS, Part, drawn

FENCE = re.compile(r"^ *(`{3,}|~{3,})")
GITHUB_MATHS = re.compile(r"\$`([^`\n]+)`\$")
ANCHOR = re.compile(r"<a\s+id=[\"']([^\"']+)[\"']\s*/?>")
REGION = re.compile(r"<!-- generated: ([a-z-]+) -->")
SITE = Path(__file__).resolve().parents[1]
NOT_TEXT = {".svg", ".png", ".pdf", ".npz", ".ipynb"}
BOX = {"width": 190, "height": 44}  # of a subject in the drawing of the graph


class OutputLexer(PythonLexer):
    """Python in which a line that starts with ``#> `` is what the block printed."""

    name = "Python with its output"
    tokens = {"root": [(r"^#>[^\n]*\n?", Generic.Output), inherit]}  # noqa: RUF012


# --- Reading --------------------------------------------------------------------------


def adapt_source(app, docname: str, content: list[str]) -> None:
    """Accept GitHub's second way to write a formula; hang the navigation under the root."""
    if app.env.doc2path(docname).suffix != ".md":
        return
    lines, fence = content[0].split("\n"), ""
    for number, line in enumerate(lines):
        mark = FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence:
            lines[number] = GITHUB_MATHS.sub(r"$\1$", line)
    if docname == app.config.root_doc:
        lines += _toctrees(app.config.course_navigation, docname)
    content[0] = "\n".join(lines)


def _toctrees(tree: list[tuple[str, list[tuple[str, str]]]], root: str) -> list[str]:
    lines = []
    for caption, entries in tree:
        lines += ["", "```{toctree}", ":hidden:", f":caption: {caption}", ""]
        lines += [f"{title} <{'self' if page == root else page}>" for title, page in entries]
        lines += ["```"]
    return lines


class KnowAnchors(SphinxTransform):
    """Let links find ``<a id="…"></a>``, the anchors that equations have."""

    default_priority = 870  # before MyST looks for the targets of its links

    def apply(self, **_) -> None:
        """Add the anchors to the headings' slugs that MyST knows."""
        slugs = getattr(self.document, "myst_slugs", None)
        if slugs is None:
            return
        for raw in self.document.findall(nodes.raw):
            for name in ANCHOR.findall(raw.astext()):
                slugs[name] = (raw.line or 0, name, name)
        self.env.metadata[self.env.docname]["myst_slugs"] = slugs


def tidy(app, doctree: nodes.document) -> None:
    """Wrap generated regions, drop comments, link source files to pages that show them."""
    if app.env.doc2path(app.env.docname).suffix == ".ipynb":
        _say_how_to_open(doctree, app.env.docname)
    for raw in list(doctree.findall(nodes.raw)):
        region = REGION.fullmatch(raw.astext().strip())
        if region:
            _wrap(raw, region[1])
    for raw in list(doctree.findall(nodes.raw)):
        if raw.astext().strip().startswith("<!--") and raw.astext().strip().endswith("-->"):
            raw.parent.remove(raw)
    shown = app.env.metadata[app.env.docname].setdefault("shown", set())
    for link in list(doctree.findall(addnodes.download_reference)):
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(app.env.docname), link["reftarget"])
        )
        if (Path(app.srcdir) / path).is_file() and Path(path).suffix not in NOT_TEXT:
            shown.add(path)
            _relink(app, link, _page_showing(path))
    for link in list(doctree.findall(addnodes.pending_xref)):
        folder = posixpath.join(posixpath.dirname(app.env.docname), link.get("reftarget", ""))
        if link.get("reftype") != "myst" or not (Path(app.srcdir) / folder).is_dir():
            continue
        package = posixpath.normpath(folder)
        if (Path(app.srcdir) / package / "__init__.py").is_file():
            shown.add(package)
            _relink(app, link, _page_showing(package))
        else:
            link.replace_self(link.children)


def _say_how_to_open(doctree: nodes.document, docname: str) -> None:
    """Under a notebook's title: what to type, and the file."""
    title = next(doctree.findall(nodes.title), None)
    if title is None:
        return
    command = f"make lab NOTEBOOK={docname}.ipynb"
    file = addnodes.download_reference(
        "", "", nodes.Text("download the file"), reftarget=f"/{docname}.ipynb"
    )
    line = nodes.paragraph("", "", nodes.Text("To run it: "), nodes.literal("", command))
    line += [nodes.Text("; or "), file, nodes.Text(".")]
    title.parent.insert(
        title.parent.index(title) + 1, nodes.container("", line, classes=["generated-header"])
    )


def _wrap(start: nodes.raw, name: str) -> None:
    siblings = start.parent.children
    first = siblings.index(start)
    for last in range(first + 1, len(siblings)):
        if siblings[last].astext().strip() == "<!-- /generated -->":
            box = nodes.container(classes=["generated", f"generated-{name}"])
            parent, inside = start.parent, siblings[first + 1 : last]
            parent[first : last + 1] = [box] if inside else []
            box.extend(inside)
            return


def _page_showing(path: str) -> str:
    return f"source/{path}"


def _relink(app, link: nodes.Element, page: str) -> None:
    uri = app.builder.get_relative_uri(app.env.docname, page)
    link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def prepare(app) -> None:
    """Load the course once a build, which has written no document yet."""
    app.course, app.course_written = load_course(Path(app.srcdir)), set()
    # Compiling the templates takes longer than filling them.
    app.builder.templates.environment.bytecode_cache = FileSystemBytecodeCache(app.doctreedir)
    # A layout takes half a second, and changes with the graph alone.
    known = getattr(app.env, "course_drawing", None)
    if known is None or known[0] != app.course.source:
        app.env.course_drawing = app.course.source, draw_graph(app.course)


def draw_graph(course: Course) -> dict:
    """The graph as boxes and lines; dagre places them, as it does those of Mermaid's diagrams."""
    boxes = [{"id": name, **BOX} for name in course.by_id]
    told = json.dumps({"boxes": boxes, "lines": list(course.graph.edges)})
    command = (find_node() or "node", str(SITE / "drawing.mjs"))
    answer = ask(*command, root=SITE.parent, seconds=60, told=told)
    if answer.fault:
        raise ExtensionError(f"the graph has no layout: {answer.fault}")
    return next(answer.rows())


# --- Writing --------------------------------------------------------------------------


def add_context(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Home is the front page; previous and next follow the reading order."""
    if doctree is not None:
        app.course_written.add(pagename)
    context["master_doc"] = context["root_doc"] = "index"
    after = following(app.course)
    before = {page: earlier for earlier, page in after.items()}
    for key, pages in (("prev", before), ("next", after)):
        page = pages.get(pagename)
        context[key] = page and {
            "title": app.env.titles[page].astext(),
            "link": app.builder.get_relative_uri(pagename, page),
        }
    if pagename == "search":
        app.add_js_file(None, body=f"const TAUGHT = {json.dumps(taught(app.course))};")
    script = {"index": "graph.js", "search": "search.js"}.get(pagename)
    if script:
        app.add_js_file(script, loading_method="defer")


def taught(course: Course) -> dict[str, list[str]]:
    """By page, the names of what it teaches, as the search compares them."""
    return {
        document.id: [
            normal(name)
            for name in (
                document.title,
                *document.concepts,
                *(item.text for item in document.outline),
            )
        ]
        for document in course.written()
    }


def extra_pages(app):
    """The home page, and one page a source file or package that a document links to."""
    yield "index", home(app), "home.html"
    # A page of source costs more than a document. It stays as long as what it shows, unless Sphinx
    # writes all documents anew.
    frame = f"{app.builder.templates.newest_template_mtime()} {Path(__file__).stat().st_mtime_ns}"
    anew = app.course_written >= app.env.found_docs
    for path in sorted(
        set().union(*(about.get("shown", ()) for about in app.env.metadata.values()))
    ):
        place = Path(app.srcdir) / path
        files = sorted(place.glob("*.py")) if place.is_dir() else []
        texts = {file: file.read_text(encoding="utf-8") for file in files or [place]}
        mark = f"<!-- shows {bundle.digest(repr((frame, texts)))} -->"
        page = Path(app.builder.get_outfilename(_page_showing(path)))
        if not anew and page.is_file() and mark in page.read_text(encoding="utf-8"):
            continue
        parts = [mark, f"<h1><code>{path}</code></h1>"]
        for file, text in texts.items():
            parts += [f"<h2><code>{file.name}</code></h2>"] * bool(files)
            language = {".py": "python", ".toml": "toml"}.get(file.suffix, "text")
            parts.append(app.builder.highlighter.highlight_block(text, language, linenos="inline"))
        yield _page_showing(path), {"title": path, "body": "\n".join(parts)}, "page.html"


def home(app) -> dict:
    """What the template of the home page shows; no sentence of it is written here."""
    course: Course = app.course
    readme = app.env.get_and_resolve_doctree(app.config.root_doc, app.builder)
    opening = next(readme.findall(nodes.paragraph), None)
    picture = next(readme.findall(nodes.image), None)
    app.builder.imgpath = "_images"
    shown = picture and [picture.parent, picture.parent.next_node(siblings=True, descend=False)]
    written = {document.id for document in course.written()}
    return {
        "title": course.about.name,
        "course": course,
        "drawing": app.env.course_drawing[1],
        "written": written,
        "opening": app.builder.render_partial(opening)["fragment"] if opening else "",
        "picture": "".join(app.builder.render_partial(node)["fragment"] for node in shown or ()),
        "parts": len(PARTS),
        "gpt": drawn(lambda part: _box(app, part, part.document in written)),
        "tracks": [(track, course.path_to(track.goals)) for track in course.tracks],
        "notebooks": [entry for entry in course.notebooks if course.exists(entry)],
        "minutes": lambda documents: duration(sum(each.minutes for each in documents)),
        "reasons": {
            document.id: [(course.by_id[need.id].title, need.because) for need in document.needs]
            for document in course.documents
        },
        "exercises": {
            name: [entry["name"] for entry in told["items"]]
            for name, (_, told) in app.env.course_exercises.items()
            if told
        },
        "has_source": False,
        "furo_hide_toc": True,
    }


def _box(app, part: Part, written: bool) -> str:
    """A part of the GPT: a box to fill, and the way to the page with its exercise."""
    tag, way = "span", ""
    if written:
        uri = app.builder.get_relative_uri("index", part.document)
        tag, way = "a", f' href="{html.escape(uri)}#exercises"'
    names = f'data-of="{part.document}" data-name="{part.name}"'
    return f'<{tag} class="part" {names}{way}><i>□</i> {html.escape(part.what)}</{tag}>'


def setup(app):
    """Register with Sphinx."""
    app.add_config_value("course_navigation", [], "env")
    app.add_lexer("python", OutputLexer)
    app.add_transform(KnowAnchors)
    app.connect("builder-inited", prepare)
    app.connect("source-read", adapt_source)
    app.connect("doctree-read", tidy, priority=100)
    app.connect("html-collect-pages", extra_pages)
    app.connect("html-page-context", add_context)
    return {"parallel_read_safe": False, "parallel_write_safe": False}
