"""What is generated from the graph: regions of README and of each document, ROADMAP, GLOSSARY.

A region stands between ``<!-- generated: name -->`` and ``<!-- /generated -->``. Titles are
links only where the file is there.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Iterator
from functools import cache
from pkgutil import resolve_name

from chainrule.course.audit import Audit
from chainrule.course.audit.checks.exercises import entries_of
from chainrule.course.audit.checks.glossary import GLOSSARY, glossary
from chainrule.course.documents.markdown import Page
from chainrule.course.manifest import Document, Notebook, OutlineItem, Phase, ReferencePage
from chainrule.course.paths import duration

README = "README.md"
ROADMAP = "ROADMAP.md"


def regions(audit: Audit) -> dict[str, dict[str, str]]:
    """For each file that is asked for, the text that each of its generated regions must hold.

    A region has the name of the function that makes it.
    """
    wanted = {}
    if not audit.chosen:
        makers = (status, documents, graph, tracks)
        wanted[README] = {make.__name__: _padded(make(audit)) for make in makers}
        there = (each for each in audit.course.regions if audit.files.issuperset(each.data))
        for region in there:
            data = [json.loads(audit.text(path)) for path in region.data]
            wanted[README][region.name] = _padded(resolve_name(region.render)(*data))
    for document in audit.picked(audit.written):
        wanted[document.path] = {
            make.__name__: _padded(make(audit, document)) for make in (header, exercises, leads)
        }
    return wanted


def texts(audit: Audit) -> dict[str, str]:
    """The new text of each file that is asked for and is generated, as a whole or in regions."""
    wanted = {
        path: _replaced(audit.page(path), new)
        for path, new in regions(audit).items()
        if path in audit.files
    }
    if audit.chosen:
        return wanted
    wanted |= {ROADMAP: _join(roadmap(audit)), GLOSSARY: _join(glossary(audit))}
    for page in _pages(audit):
        lines = resolve_name(page.render)(page.read(audit.text(page.data)))
        wanted[page.path] = _join(lines)
    return wanted


def table(*rows: Iterable[object]) -> Iterator[str]:
    """A table in Markdown, its header first."""
    for number, row in enumerate(rows):
        cells = list(row)
        yield f"| {' | '.join(map(str, cells))} |"
        if number == 0:
            yield f"|{' --- |' * len(cells)}"


def _replaced(page: Page, wanted: dict[str, str]) -> str:
    """The page's source with its closed regions refreshed."""
    lines = page.lines
    for region in reversed(page.regions):
        if region.end and region.name in wanted:
            new = wanted[region.name].split("\n")
            lines = [*lines[: region.line], *new, *lines[region.end - 1 :]]
    return "\n".join(lines)


def _padded(lines: Iterable[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return f"\n{text}\n"


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _link(audit: Audit, entry: Document | Notebook, folder: str = ".") -> str:
    """A title, linked from ``folder`` if its file is there."""
    if not audit.course.exists(entry):
        return entry.title
    return f"[{entry.title}]({posixpath.relpath(entry.path, folder)})"


def _pages(audit: Audit) -> list[ReferencePage]:
    """The pages that are no documents and have their data."""
    return [page for page in audit.course.pages if page.data in audit.files]


# Regions of a document


def header(audit: Audit, document: Document) -> Iterator[str]:
    """What comes before, with reasons; minutes, code, notebooks and exercises."""
    if document.needs:
        needed = _needed(audit, document)
        rows = ((_link(audit, each, document.folder), because) for each, because in needed)
        yield from table(("Before this", "because"), *rows)
    else:
        yield "Before this: school mathematics and Python, nothing else."
    yield ""
    entries = entries_of(audit, document)
    minutes = (
        f"{document.minutes} minutes of reading, {sum(e.minutes for e in entries)} of exercises"
    )
    parts = [f"Phase {document.phase}, {minutes}."]
    if module := audit.module_files(document):
        path = module[0] if len(module) == 1 else posixpath.dirname(module[0])
        target = posixpath.relpath(path, document.folder)
        parts.append(f"Code: [`{document.module}`]({target}).")
    parts.append(f"Exercises: `chainrule exercise {document.slug}`.")
    notebooks = [
        _link(audit, notebook, document.folder)
        for notebook in audit.course.notebooks_of(document.id)
        if audit.course.exists(notebook)
    ]
    if notebooks:
        parts.append(f"Notebook{'s' * (len(notebooks) > 1)}: {', '.join(notebooks)}.")
    yield " ".join(parts)


def exercises(audit: Audit, document: Document) -> Iterator[str]:
    """Title, difficulty and minutes of each exercise, and what to type."""
    rows = (
        (f"[{entry.title}](#{entry.section})", entry.difficulty, entry.minutes)
        for entry in entries_of(audit, document)
    )
    yield from table(("Exercise", "difficulty, 1 to 5", "minutes"), *rows)
    commands = {
        f"exercise {document.slug}": "writes them to workbook/",
        f"check {document.slug}": "grades what you wrote",
        "hint NAME": "helps, each time a little more",
        "check --solution NAME": "once you have passed; --anyway: before",
    }
    width = max(map(len, commands))
    yield from ("", "```bash")
    yield from (f"chainrule {what:{width}}   # {why}" for what, why in commands.items())
    yield "```"
    yield from met(audit, document)


def met(audit: Audit, document: Document) -> Iterator[str]:
    """What the reference pages say of a document's sections, a line a page."""
    for page in _pages(audit):
        target = posixpath.relpath(page.path, document.folder)
        links = [
            f"[{title}]({target}#{anchor})"
            for title, anchor, section in _rows(page, audit.text(page.data))
            if section.partition("#")[0] == document.path
        ]
        if links:
            yield from ("", f"{page.title}: {', '.join(links)}.")


@cache
def _rows(page: ReferencePage, text: str) -> list[tuple[str, str, str]]:
    """What a reference page says of sections: title, anchor and section of each entry."""
    module = resolve_name(page.render.partition(":")[0])
    return list(module.rows(page.read(text)))


def leads(audit: Audit, document: Document) -> Iterator[str]:
    """The documents that build directly on this one, each with what it uses."""
    dependents = audit.course.dependents(document.id)
    for dependent, because in dependents:
        yield f"- {_link(audit, dependent, document.folder)}: {because}"
    if not dependents:
        yield "No document of this course builds on this one."
    if beside := audit.course.beside(document.id):
        yield from ("", "Beside it, in either order:", "")
        for other, because in beside:
            yield f"- {_link(audit, other, document.folder)}: {because}"


# Regions of README


def status(audit: Audit) -> Iterator[str]:
    """What is here, counted."""
    course = audit.course
    entries = [entry for document in audit.written for entry in entries_of(audit, document)]
    mistakes = sum(len(entry.mistakes) for entry in entries)
    notebooks = sum(course.exists(notebook) for notebook in course.notebooks)
    modules = sum(bool(audit.module_files(document)) for document in course.documents)
    figures = [p for each in audit.written for p in audit.inside(each.figure_folder, ".svg")]
    handled = sum(path.removesuffix(".svg") + ".js" in audit.files for path in figures)
    yield (
        f"Here now: {len(audit.written)} of {len(course.documents)} documents, {modules} of their"
        f" modules, {notebooks} of {len(course.notebooks)} notebooks,"
        f" {len(figures)} figures of which {handled} can be handled on the site, and"
        f" {len(entries)} exercises that know {mistakes} mistakes by name."
    )
    if pages := _pages(audit):
        yield from ("", "Beside the documents:", "")
        yield from (f"- [{page.title}]({page.path}): {page.about}" for page in pages)


def documents(audit: Audit) -> Iterator[str]:
    """The documents by phase, in reading order within each."""
    for phase in audit.course.phases:
        yield from (f"**Phase {phase.number}. {phase.title}.** {phase.summary}", "")
        rows = (
            (_link(audit, document), document.promise, document.minutes)
            for document in _of_phase(audit, phase)
        )
        yield from (*table(("Subject", "afterwards", "minutes"), *rows), "")


def graph(audit: Audit) -> Iterator[str]:
    """The dependency graph in Mermaid; written documents can be clicked."""
    course = audit.course
    names = {document.id: document.slug.replace("-", "_") for document in course.documents}
    yield from ("```mermaid", "flowchart TD")
    for document in course.documents:
        style = "written" if course.exists(document) else "planned"
        yield f'    {names[document.id]}["{document.title}"]:::{style}'
    for before, after in course.graph.edges:
        yield f"    {names[before]} --> {names[after]}"
    prefix = f"{course.about.repository}/blob/main/" if course.about.repository else ""
    for document in audit.written:
        promise = document.promise.replace('"', "'")
        yield f'    click {names[document.id]} "{prefix}{document.path}" "{promise}"'
    yield "    classDef written fill:#0072b2,stroke:#0072b2,color:#ffffff"
    yield "    classDef planned fill:#ffffff,stroke:#767676,color:#333333,stroke-dasharray:4 3"
    yield "```"


def tracks(audit: Audit) -> Iterator[str]:
    """The reading tracks: how many documents, how long, which."""
    rows = []
    for track in audit.course.tracks:
        path = audit.course.path_to([g for g in track.goals if g == "*" or g in audit.course.by_id])
        minutes = sum(document.minutes for document in path)
        listed = "all of them" if "*" in track.goals else " → ".join(_link(audit, d) for d in path)
        rows.append((track.title, len(path), duration(minutes), listed))
    yield from table(("Track", "documents", "reading", "in this order"), *rows)


def _of_phase(audit: Audit, phase: Phase) -> list[Document]:
    return [document for document in audit.course.documents if document.phase == phase.number]


# ROADMAP and the table of contents


def roadmap(audit: Audit) -> Iterator[str]:
    """All of ROADMAP.md."""
    course = audit.course
    yield from ("# Roadmap", "", "<!-- generated: roadmap -->", "")
    yield "This page comes from `course.toml`: change that, then type `chainrule audit --write`."
    yield from ("", *status(audit), "", "## Overview", "")
    yield from table(
        ("Phase", "focus", "documents and notebooks", "status"),
        *(_overview(audit, phase) for phase in course.phases),
    )
    yield from ("", "## Progress", "")
    yield "What is counted here exists; `make test` and `make audit` ask whether it also holds."
    yield "The dependencies of a document are met when all that it needs is written."
    yield ""
    counted = ("figures", "exercises", "mistakes")
    yield from table(
        ("Document", "phase", "status", "dependencies met", *counted),
        *(_progress(audit, document) for document in course.documents),
    )
    for phase in course.phases:
        yield from ("", f"## Phase {phase.number}: {phase.title}", "", phase.summary)
        for document in sorted(_of_phase(audit, phase), key=_place):
            yield from _planned(audit, document)
    yield from ("", "## Notebooks", "")
    rows = []
    for notebook in course.notebooks:
        served = [each for each in course.documents if each.id in notebook.serves]
        serves = ", ".join(_link(audit, document) for document in served)
        done = "executed" if course.exists(notebook) else "planned"
        rows.append((notebook.id[:2], _link(audit, notebook), serves, done))
    yield from table(("Number", "notebook", "serves", "status"), *rows)
    yield from ("", "<!-- /generated -->")


def _place(document: Document) -> list[int]:
    """What sorts documents as the roadmap numbers them: 2.9 before 2.10."""
    return [int(part) for part in document.number.split(".") if part]


def _overview(audit: Audit, phase: Phase) -> tuple[object, ...]:
    """A phase's documents and notebooks; a notebook counts with the last that it serves."""
    course, documents = audit.course, _of_phase(audit, phase)
    inside = {document.id for document in documents}
    notebooks = [notebook for notebook in course.notebooks if notebook.serves[-1] in inside]
    held = f"{len(documents)} documents" + f", {len(notebooks)} notebooks" * bool(notebooks)
    there = [*map(course.exists, documents), *map(course.exists, notebooks)]
    done = "complete" if all(there) else f"{sum(there)} of {len(there)} written"
    return phase.number, phase.title, held, done


def _planned(audit: Audit, document: Document) -> Iterator[str]:
    """What the roadmap says of one document."""
    title = f"{document.number} {_link(audit, document)}".strip()
    yield from ("", f"### {title}", "", f"{document.promise} ")
    if needed := _needed(audit, document):
        yield f"After: {', '.join(_link(audit, each) for each, _ in needed)}. "
    files = [f"File: `{document.path}`."]
    for notebook in filter(audit.course.exists, audit.course.notebooks_of(document.id)):
        files.append(f"Notebook: [`{notebook.id}.ipynb`]({notebook.path}).")
    yield f"{' '.join(files)} Reading: {document.minutes} minutes."
    yield ""
    yield from (f"- {linked}" for linked in _linked(audit, document, document.outline))
    if document.connections:
        connections = ", ".join(_linked(audit, document, document.connections))
        yield from ("", f"In machine learning: {connections}.")


def _linked(audit: Audit, document: Document, items: Iterable[OutlineItem]) -> Iterator[str]:
    """The texts, each a link to its section where that is written."""
    anchors = audit.page(document.path).anchors if audit.course.exists(document) else set()
    for item in items:
        linked = f"[{item.text}]({document.path}#{item.anchor})"
        yield linked if item.anchor in anchors else item.text


def _progress(audit: Audit, document: Document) -> tuple[object, ...]:
    entries, exists = entries_of(audit, document), audit.course.exists
    return (
        _link(audit, document),
        document.phase,
        "written" if exists(document) else "planned",
        "yes" if all(exists(each) for each, _ in _needed(audit, document)) else "no",
        len(audit.inside(document.figure_folder, ".svg")),
        len(entries),
        sum(len(entry.mistakes) for entry in entries),
    )


def _needed(audit: Audit, document: Document) -> list[tuple[Document, str]]:
    """The documents that come directly before one, each with the reason."""
    known = audit.course.by_id
    return [(known[need.id], need.because) for need in document.needs if need.id in known]
