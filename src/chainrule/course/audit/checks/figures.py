"""Figures: a script for every document, an SVG for every figure, the same bytes when redrawn.

Measurements that figures draw from stand beside them, one file each, and so do the modules (.js)
of figures that can be handled, which `interactive` compares.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
from collections.abc import Iterator

from chainrule import children
from chainrule.course.audit import Audit
from chainrule.course.finding import Finding
from chainrule.course.manifest import Document

NAME = "figures"
STOPS = "A picture shows numbers that the code no longer gives, or nobody can draw it again."

FEWEST = 2
MOST_BYTES = 400_000
REDRAW = "redraw it: make figures"


def check(audit: Audit) -> Iterator[Finding]:
    """Compare scripts, SVGs and the pictures that documents show."""
    known = set()
    for document in audit.picked(audit.course.documents):
        script, folder = document.figure_script, document.figure_folder
        drawn = names(audit, script)
        measure = f"python -m chainrule.course.figures --measure {document.id}"
        stored = {
            f"{folder}/{name}.json": (line, f"measurement {name!r} is not stored", measure)
            for name, line in names(audit, script, "measurement").items()
        }
        for name, line in drawn.items():
            stored[f"{folder}/{name}.svg"] = line, f"figure {name!r} is not drawn", REDRAW
            known.add(f"{folder}/{name}.js")
        known.update(stored, [script])
        for path, (line, message, fix) in stored.items():
            if path not in audit.files:
                yield Finding(script, line, NAME, f"{message}: {path} is missing", fix)
            elif (size := (audit.root / path).stat().st_size) > MOST_BYTES:
                message = f"{size:,} bytes, at most {MOST_BYTES:,} are allowed"
                yield Finding(path, 1, NAME, message, "draw fewer points, or rasterize them")
        if document in audit.written:
            yield from _shown(audit, document, drawn)
    for path in audit.inside("figures"):
        if path not in known:
            fix = "remove it, or name the document in course.toml and the figure in its script"
            yield Finding(path, 1, NAME, "belongs to no document and no figure", fix)


def run(audit: Audit) -> Iterator[Finding]:
    """Redraw every figure in fresh processes, and report each byte that would change."""
    for row in _redrawn(audit):
        file = row["file"]
        if file not in audit.files or row.get("text") != audit.text(file):
            yield Finding(file, row["line"], NAME, row["message"], REDRAW)


def write(audit: Audit) -> Iterator[tuple[str, str]]:
    """Redraw what redrawing changes."""
    for row in _redrawn(audit) if audit.run else ():
        if "text" in row:
            yield row["file"], row["text"]


def _redrawn(audit: Audit) -> list[dict]:
    """What redrawing changes, found once: file, line, message, and the new text of an SVG."""
    if NAME in audit.begun:
        return audit.begun[NAME]
    scripts = {
        document: verdict
        for document in audit.picked(audit.course.documents)
        if document.figure_script in audit.files
        and not (verdict := audit.verdicts.of(NAME, [document])).passed
    }
    count = min(os.cpu_count() or 1, len(scripts))
    shares = [list(scripts)[start::count] for start in range(count)]
    found = children.at_once(lambda part: _redraw(audit, part), shares)
    audit.begun[NAME] = rows = [row for rows in found for row in rows]
    for document, verdict in scripts.items():
        own = f"{document.figure_folder}/", document.figure_script
        verdict.keep(passed=not any(row["file"].startswith(own) for row in rows))
    return rows


def _redraw(audit: Audit, documents: list[Document]) -> list[dict]:
    redraw, seconds = "chainrule.course.figures:redrawn", 60 + 30 * len(documents)
    ids = [document.id for document in documents]
    answer = children.call(redraw, str(audit.root), ids, root=audit.root, seconds=seconds)
    why = f"redrawing failed: {answer.fault}"
    failed = [{"file": each.figure_script, "line": 1, "message": why} for each in documents]
    return [*answer.rows(), *(failed if answer.fault else [])]


def names(audit: Audit, script: str, decorator: str = "figure") -> dict[str, int]:
    """What a script draws, or measures, each with its line; a name is a plain string."""
    found = {}
    for node in audit.nodes(script):
        for item in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            match item:
                case ast.Call(ast.Name(name), [ast.Constant(str(value)), *_]) if name == decorator:
                    found[value] = item.lineno
    return found


def _shown(audit: Audit, document: Document, drawn: dict[str, int]) -> Iterator[Finding]:
    """What a written document shows of its figures, and whether each has a caption."""
    page, shown = audit.page(document.path), set()
    for image in page.images:
        path = posixpath.normpath(posixpath.join(document.folder, image.target))
        if not path.startswith("figures/"):
            continue
        shown.add(path)
        below = [line.strip() for line in page.lines[image.line : image.line + 4] if line.strip()]
        if not (below and re.match(r"\*[^*\s]", below[0])):
            fix = "say below it, in italics, what to see: *Caption.*"
            yield Finding(document.path, image.line, NAME, "a figure without a caption", fix)
    if len(shown) < FEWEST:
        message = f"shows {len(shown)} figures, at least {FEWEST} are needed"
        fix = f"draw them in {document.figure_script} and show them"
        yield Finding(document.path, 1, NAME, message, fix)
    for name, line in drawn.items():
        if f"{document.figure_folder}/{name}.svg" not in shown:
            message = f"figure {name!r} is not shown by {document.path}"
            yield Finding(document.figure_script, line, NAME, message, "show it, or remove it")
