"""What is generated from the graph: regions of README and of each document, ROADMAP, GLOSSARY.

A region stands between ``<!-- generated: name -->`` and ``<!-- /generated -->``. Titles are
links only where the file is there; everything else is shown as planned.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

from chainrule.course.audit import Audit
from chainrule.course.audit.checks.glossary import GLOSSARY, glossary
from chainrule.course.audit.measured import MEASURED, table
from chainrule.course.documents.markdown import Page
from chainrule.course.exercises import stubs
from chainrule.course.manifest import Document, OutlineItem, Phase, ReferencePage
from chainrule.course.paths import duration

README = "README.md"
ROADMAP = "ROADMAP.md"


def regions(audit: Audit, asked: bool = False) -> dict[str, dict[str, str]]:
    """For each file with generated regions, the text that each region must hold.

    With ``asked`` only for the documents that are asked for.
    """
    wanted = {}
    if not (asked and audit.chosen):
        wanted[README] = {name: _padded(make(audit)) for name, make in README_REGIONS.items()}
        for name, (source, make) in MEASURED.items():
            if source in audit.files:
                wanted[README][name] = _padded(make(audit))
    for document in audit.picked(audit.written) if asked else audit.written:
        wanted[document.path] = {
            name: _padded(make(audit, document)) for name, make in DOCUMENT_REGIONS.items()
        }
    return wanted


def files(audit: Audit) -> dict[str, str]:
    """The files that are generated as a whole."""
    wanted = {ROADMAP: _join(roadmap(audit)), GLOSSARY: _join(glossary(audit))}
    for page in _pages(audit):
        module, _, function = page.render.partition(":")
        render = getattr(import_module(module), function)
        wanted[page.path] = _join(render(page.read(audit.text(page.data))))
    return wanted


def replace(page: Page, wanted: dict[str, str]) -> str:
    """The page's source with its closed regions refreshed."""
    lines = page.lines
    for region in reversed(page.regions):
        if region.end and region.name in wanted:
            new = wanted[region.name].split("\n")
            lines = [*lines[: region.line], *new, *lines[region.end - 1 :]]
    return "\n".join(lines)


def _padded(lines: Iterable[str]) -> str:
    return "\n".join(["", *lines, ""])


def _join(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _link(audit: Audit, document: Document, folder: str = "") -> str:
    """A title, linked from ``folder`` if the document is written."""
    if not audit.course.exists(document):
        return document.title
    return f"[{document.title}]({posixpath.relpath(document.path, folder or '.')})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def exercises_of(audit: Audit, document: Document) -> list[stubs.Entry]:
    """The exercises of a document, read without executing them."""
    tree = audit.tree(document.exercises) if document.exercises in audit.files else None
    return stubs.entries(tree) if isinstance(tree, ast.Module) else []


def _mistakes(entries: list[stubs.Entry]) -> int:
    return sum(len(entry.mistakes) for entry in entries)


def _pages(audit: Audit) -> list[ReferencePage]:
    """The pages that are no documents and have their data."""
    return [page for page in audit.course.pages if page.data in audit.files]


# Regions of a document


def header(audit: Audit, document: Document) -> Iterator[str]:
    """What comes before, with reasons; minutes, code, notebooks and exercises."""
    if document.needs:
        needs = [(need, audit.course.by_id.get(need.id)) for need in document.needs]
        yield from table(
            ("Before this", "because"),
            *(
                (_link(audit, needed, document.folder), need.because)
                for need, needed in needs
                if needed
            ),
        )
    else:
        yield "Before this: school mathematics and Python, nothing else."
    yield ""
    entries = exercises_of(audit, document)
    reading = f"{document.minutes} minutes of reading"
    if entries:
        reading += f", {sum(entry.minutes for entry in entries)} of exercises"
    parts = [f"Phase {document.phase}, {reading}."]
    if module := audit.module_files(document):
        path = module[0] if len(module) == 1 else posixpath.dirname(module[0])
        target = posixpath.relpath(path, document.folder)
        parts.append(f"Code: [`{document.module}`]({target}).")
    if entries:
        parts.append(f"Exercises: `chainrule exercise {document.slug}`.")
    notebooks = [
        f"[{notebook.title}]({posixpath.relpath(notebook.path, document.folder)})"
        for notebook in audit.course.notebooks_of(document.id)
        if audit.course.exists(notebook)
    ]
    if notebooks:
        parts.append(f"Notebook{'s' * (len(notebooks) > 1)}: {', '.join(notebooks)}.")
    yield " ".join(parts)


def exercises(audit: Audit, document: Document) -> Iterator[str]:
    """Title, difficulty and minutes of each exercise, and what to type."""
    entries = exercises_of(audit, document)
    if not entries:
        yield "There are no exercises yet."
        return
    yield from table(
        ("Exercise", "difficulty, 1 to 5", "minutes"),
        *(
            (f"[{entry.title}](#{entry.section})", entry.difficulty, entry.minutes)
            for entry in entries
        ),
    )
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
    for page in _pages(audit) if document.path in audit.files else ():
        rows = _rows(audit, page)
        target = posixpath.relpath(page.path, document.folder)
        links = [
            f"[{title}]({target}#{anchor})"
            for title, anchor, section in rows
            if section.partition("#")[0] == document.path
        ]
        if links:
            yield from ("", f"{page.title}: {', '.join(links)}.")


def _rows(audit: Audit, page: ReferencePage) -> list[tuple[str, str, str]]:
    """What a reference page says of sections: title, anchor and section of each entry."""
    known, text = audit.begun.setdefault("generated", {}), audit.text(page.data)
    if (page.path, text) not in known:
        module = import_module(page.render.partition(":")[0])
        known[page.path, text] = list(
            module.rows(page.read(text)) if hasattr(module, "rows") else ()
        )
    return known[page.path, text]


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
    entries = [entry for document in audit.written for entry in exercises_of(audit, document)]
    notebooks = sum(course.exists(notebook) for notebook in course.notebooks)
    modules = sum(bool(audit.module_files(document)) for document in course.documents)
    figures = [path for document in audit.written for path in _figures(audit, document)]
    handled = sum(path.removesuffix(".svg") + ".js" in audit.files for path in figures)
    yield (
        f"Here now: {len(audit.written)} of {len(course.documents)} documents, {modules} of their"
        f" modules, {notebooks} of {len(course.notebooks)} notebooks,"
        f" {_count(len(figures), 'figure')} of which {handled} can be handled on the site, and"
        f" {_count(len(entries), 'exercise')} that know"
        f" {_count(_mistakes(entries), 'mistake')} by name."
    )
    if pages := list(reference(audit)):
        yield from ("", "Beside the documents:", "", *pages)


def documents(audit: Audit) -> Iterator[str]:
    """The documents by phase, in reading order within each."""
    for phase in audit.course.phases:
        yield from (f"**Phase {phase.number}. {phase.title}.** {phase.summary}", "")
        rows = (
            (_link(audit, document), document.promise, document.minutes, _status(audit, document))
            for document in _of_phase(audit, phase)
        )
        yield from table(("Subject", "afterwards", "minutes", "status"), *rows)
        if phase is not audit.course.phases[-1]:
            yield ""


def graph(audit: Audit) -> Iterator[str]:
    """The dependency graph in Mermaid; written documents can be clicked."""
    course = audit.course
    names = {document.id: document.slug.replace("-", "_") for document in course.documents}
    yield from ("```mermaid", "flowchart TD")
    for document in course.documents:
        style = "written" if course.exists(document) else "planned"
        yield f'    {names[document.id]}["{_quoted(document.title)}"]:::{style}'
    for before, after in course.graph.edges:
        yield f"    {names[before]} --> {names[after]}"
    prefix = f"{course.about.repository}/blob/main/" if course.about.repository else ""
    for document in audit.written:
        target = f'"{prefix}{document.path}" "{_quoted(document.promise)}"'
        yield f"    click {names[document.id]} {target}"
    yield "    classDef written fill:#0072b2,stroke:#0072b2,color:#ffffff"
    yield "    classDef planned fill:#ffffff,stroke:#767676,color:#333333,stroke-dasharray:4 3"
    yield "```"


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")


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


def _status(audit: Audit, document: Document) -> str:
    if audit.course.exists(document):
        return "written"
    return "module only" if audit.module_files(document) else "planned"


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
    yield from table(
        (
            *("Document", "phase", "status", "dependencies met"),
            *("sections", "module", "tests", "figures", "exercises", "mistakes"),
        ),
        *(_progress(audit, document) for document in course.documents),
    )
    for phase in course.phases:
        yield from ("", f"## Phase {phase.number}: {phase.title}", "", phase.summary)
        for document in sorted(_of_phase(audit, phase), key=_place):
            yield from _planned(audit, document)
    yield from ("", "## Notebooks", "")
    rows = []
    for notebook in course.notebooks:
        exists = course.exists(notebook)
        served = [course.by_id[name] for name in notebook.serves if name in course.by_id]
        title = f"[{notebook.title}]({notebook.path})" if exists else notebook.title
        serves = ", ".join(_link(audit, document) for document in served)
        rows.append((notebook.id[:2], title, serves, "executed" if exists else "planned"))
    yield from table(("Number", "notebook", "serves", "status"), *rows)
    if pages := list(reference(audit)):
        yield from ("", "## Reference", "", *pages)
    yield from ("", "<!-- /generated -->")


def reference(audit: Audit) -> Iterator[str]:
    """The pages that are no documents, each with what it is about."""
    for page in _pages(audit):
        yield f"- [{page.title}]({page.path}): {page.about}"


def _place(document: Document) -> list[int]:
    """What sorts documents as the roadmap numbers them: 2.9 before 2.10."""
    return [int(part) for part in document.number.split(".") if part]


def _overview(audit: Audit, phase: Phase) -> tuple[object, ...]:
    """A phase's documents and notebooks; a notebook counts with the last that it serves."""
    course, documents = audit.course, _of_phase(audit, phase)
    inside = {document.id for document in documents}
    notebooks = [notebook for notebook in course.notebooks if notebook.serves[-1] in inside]
    held = _count(len(documents), "document")
    if notebooks:
        held += f", {_count(len(notebooks), 'notebook')}"
    there = [*map(course.exists, documents), *map(course.exists, notebooks)]
    done = "complete" if all(there) else f"{sum(there)} of {len(there)} written"
    return phase.number, phase.title, held, done


def _planned(audit: Audit, document: Document) -> Iterator[str]:
    """What the roadmap says of one document."""
    title = f"{document.number} {_link(audit, document)}".strip()
    yield from ("", f"### {title}", "", f"{document.promise} ")
    needs = [audit.course.by_id.get(need.id) for need in document.needs]
    if needs:
        yield f"After: {', '.join(_link(audit, needed) for needed in needs if needed)}. "
    files = [f"File: `{document.path}`."]
    for notebook in audit.course.notebooks_of(document.id):
        name = posixpath.basename(notebook.path)
        exists = audit.course.exists(notebook)
        files.append(f"Notebook: {f'[`{name}`]({notebook.path})' if exists else f'`{name}`'}.")
    yield f"{' '.join(files)} Reading: {document.minutes} minutes."
    yield ""
    yield from (f"- {linked}" for linked in _linked(audit, document, document.outline))
    if document.connections:
        connections = ", ".join(_linked(audit, document, document.connections))
        yield from ("", f"In machine learning: {connections}.")


def _linked(audit: Audit, document: Document, items: Iterable[OutlineItem]) -> Iterator[str]:
    """The texts, each a link to its section where that is written."""
    anchors = _anchors(audit, document)
    for item in items:
        linked = f"[{item.text}]({document.path}#{item.anchor})"
        yield linked if item.anchor in anchors else item.text


def _progress(audit: Audit, document: Document) -> tuple[object, ...]:
    anchors = _anchors(audit, document)
    done = sum(item.anchor in anchors for item in document.outline)
    entries = exercises_of(audit, document)
    before = [d for need in document.needs if (d := audit.course.by_id.get(need.id))]
    return (
        _link(audit, document),
        document.phase,
        _status(audit, document),
        "yes" if all(map(audit.course.exists, before)) else "no",
        f"{done} of {len(document.outline)}",
        "yes" if audit.module_files(document) else "planned",
        "yes" if audit.test_files(document) else "planned",
        len(_figures(audit, document)),
        len(entries),
        _mistakes(entries),
    )


def _anchors(audit: Audit, document: Document) -> set[str]:
    return audit.page(document.path).anchors if audit.course.exists(document) else set()


def _figures(audit: Audit, document: Document) -> list[str]:
    folder = f"{document.figure_folder}/"
    return [path for path in audit.files if path.startswith(folder) and path.endswith(".svg")]


DOCUMENT_REGIONS: dict[str, Callable[[Audit, Document], Iterator[str]]] = {
    "header": header,
    "exercises": exercises,
    "leads": leads,
}
README_REGIONS: dict[str, Callable[[Audit], Iterator[str]]] = {
    "status": status,
    "documents": documents,
    "graph": graph,
    "tracks": tracks,
}
