"""The graph itself: ids, prerequisites, order, phases, tracks, and the files that they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import networkx as nx

from chainrule.course.asking import agrees, computed
from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import slug
from chainrule.course.finding import Finding
from chainrule.course.manifest import FOLDERS, MANIFEST, Course, Document

NAME = "manifest"
STOPS = "A reader is sent in a circle, to a subject that comes later, or past a file nobody lists."


def check(audit: Audit) -> Iterator[Finding]:
    """Check ``course.toml`` against itself and against the files."""
    course = audit.course
    yield from _names(course)
    for document in course.documents:
        yield from _document(course, document)
    yield from _graph(course)
    yield from _notebooks(course)
    yield from _asks(course)
    yield from _related(course)
    yield from _uses(course)
    for track in course.tracks:
        for goal in track.goals:
            if goal != "*" and goal not in course.by_id:
                line = course.line_of(f'id = "{track.id}"', f'"{goal}"')
                yield _at(line, f"track {track.id!r} leads to {goal}, which is no document")
    yield from _files(audit)


def _at(line: int, message: str, fix: str = "") -> Finding:
    return Finding(MANIFEST, line, NAME, message, fix)


def _line(course: Course, document: Document, *texts: str) -> int:
    """The line of an entry, or of a text in it."""
    return course.line_of(f'\nid = "{document.id}"', *texts)


def _asks(course: Course) -> Iterator[Finding]:
    """Each written document has a question, and its answer is what its expression gives."""
    for document in course.written():
        if document.id not in course.asks:
            message = f"{document.id} has no question for `chainrule path --ask`"
            yield _at(_line(course, document), message, "add an [[ask]] with a computed answer")
    for name, ask in course.asks.items():
        line = course.line_of("\n[[ask]]", f'"{name}"')
        if name not in course.by_id:
            yield _at(line, f"the question about {name} asks about no document")
        try:
            value = computed(ask)
        except Exception as error:
            yield _at(line, f"the question about {name} cannot be computed: {error}")
            continue
        if not agrees(repr(value), ask.answer):
            yield _at(line, f"the answer about {name} is {value:.6g}, not {ask.answer}")


def _related(course: Course) -> Iterator[Finding]:
    """A pair has two documents, neither of which comes before the other as a need."""
    for pair in course.related:
        one, other = pair.between
        line = course.line_of("\n[[related]]", f'["{one}", "{other}"]')
        for name in pair.between:
            if name not in course.by_id:
                yield _at(line, f"{name} is related and is no document")
        if one == other:
            yield _at(line, f"{one} is related to itself")


def _uses(course: Course) -> Iterator[Finding]:
    """What a document uses of the applications builds on what is taught before it."""
    for application in course.applications.values():
        for name in application.builds_on:
            if name not in course.by_id:
                line = course.line_of("\n[[application]]", f'"{application.id}"', f'"{name}"')
                yield _at(line, f"{application.id} builds on {name}, which is no document")
    for document in course.documents:
        taught = {document.id} | course.ancestors(document.id)
        for name in document.uses:
            line = _line(course, document, "uses", f'"{name}"')
            if name not in course.applications:
                yield _at(line, f"{document.id} uses {name}, which is no application")
                continue
            for needed in course.applications[name].builds_on:
                if needed not in taught:
                    message = f"{document.id} uses {name}, which builds on {needed}"
                    yield _at(line, message, f"make {needed} a need of {document.id}")


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _names(course: Course) -> Iterator[Finding]:
    for kind, entries in (
        ("document", course.documents),
        ("notebook", course.notebooks),
        ("track", course.tracks),
    ):
        for name in _repeated(entry.id for entry in entries):
            first = f'\nid = "{name}"'
            yield _at(course.line_of(first, first), f"there are two {kind}s {name!r}")
    for number in _repeated(document.number for document in course.documents if document.number):
        text = f'\nnumber = "{number}"'
        yield _at(course.line_of(text, text), f"there are two documents numbered {number}")
    for title in _repeated(document.title for document in course.documents):
        text = f'\ntitle = "{title}"'
        yield _at(course.line_of(text, text), f"there are two documents titled {title!r}")
    numbers = [phase.number for phase in course.phases]
    if numbers != list(range(1, len(numbers) + 1)):
        yield _at(course.line_of("[[phase]]"), f"the phases are numbered {numbers}, not 1, 2, …")
    for phase in course.phases:
        if not any(document.phase == phase.number for document in course.documents):
            line = course.line_of(f"\nnumber = {phase.number}")
            yield _at(line, f"phase {phase.number} has no document")


def _document(course: Course, document: Document) -> Iterator[Finding]:
    if document.folder not in FOLDERS:
        message = f"{document.id}: no folder {document.folder!r}; there are {', '.join(FOLDERS)}"
        yield _at(_line(course, document), message)
    if document.phase not in [phase.number for phase in course.phases]:
        line = _line(course, document, "\nphase = ")
        yield _at(line, f"{document.id}: there is no phase {document.phase}")
    if document.number and int(document.number.split(".")[0]) != document.phase:
        line = _line(course, document, "\nnumber = ")
        yield _at(line, f"{document.id}: number {document.number} is not in phase {document.phase}")
    position = {each.id: n for n, each in enumerate(course.documents)}
    for need in document.needs:
        line = _line(course, document, f'id = "{need.id}"')
        if need.id not in course.by_id:
            yield _at(line, f"{document.id} needs {need.id}, which is no document")
        elif need.id == document.id:
            yield _at(line, f"{document.id} needs itself")
        elif position[need.id] > position[document.id]:
            message = f"{document.id} stands before {need.id}, which it needs"
            yield _at(line, message, "documents stand in reading order: move one of the two")
    for name in _repeated(need.id for need in document.needs):
        entry = f'id = "{name}"'
        yield _at(_line(course, document, entry, entry), f"{document.id} needs {name} twice")
    for anchor in _repeated(item.anchor for item in document.outline):
        entry = f'anchor = "{anchor}"'
        message = f"{document.id}: two outline bullets have the anchor {anchor!r}"
        yield _at(_line(course, document, entry, entry), message)
    for item in document.outline:
        if item.anchor != slug(item.text):
            line = _line(course, document, f'"{item.text}"')
            message = f"{document.id}: {item.text!r} has the anchor {item.anchor!r}"
            yield _at(line, message, f"as a heading it gets {slug(item.text)!r}")


def _graph(course: Course) -> Iterator[Finding]:
    graph = nx.DiGraph(course.graph)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    acyclic = True
    for component in nx.strongly_connected_components(graph):
        if len(component) > 1:
            acyclic = False
            edges = nx.find_cycle(graph.subgraph(sorted(component)))
            circle = [edge[0] for edge in edges]
            first = min(range(len(circle)), key=lambda i: circle[i])
            circle = [*circle[first:], *circle[:first]]
            line = _line(course, course.by_id[circle[0]], f'id = "{circle[-1]}"')
            yield _at(
                line, f"a circle: {' → '.join([*circle, circle[0]])}", "drop one of its needs"
            )
    if acyclic:
        for before, after in sorted(graph.edges - nx.transitive_reduction(graph).edges):
            shorter = graph.copy()
            shorter.remove_edge(before, after)
            way = " → ".join(nx.shortest_path(shorter, before, after))
            line = _line(course, course.by_id[after], f'id = "{before}"')
            message = f"{after} need not name {before}: {way} implies it"
            yield _at(line, message, "drop the need; what is implied stays linked in the body")


def _notebooks(course: Course) -> Iterator[Finding]:
    for number, notebook in enumerate(course.notebooks, 1):
        line = course.line_of(f'\nid = "{notebook.id}"')
        if int(notebook.id[:2]) != number:
            yield _at(line, f"notebook {notebook.id!r} stands in place {number:02}")
        for served in notebook.serves:
            if served not in course.by_id:
                line = course.line_of(f'\nid = "{notebook.id}"', f'"{served}"')
                yield _at(line, f"notebook {notebook.id!r} serves {served}, which is no document")


def _files(audit: Audit) -> Iterator[Finding]:
    course = audit.course
    listed = {document.path for document in course.documents}
    listed |= {notebook.path for notebook in course.notebooks}
    for path in sorted(audit.files - listed):
        folder = path.split("/")[0]
        if (path.endswith(".md") and folder in FOLDERS) or path in audit.notebooks:
            yield Finding(path, 1, NAME, "not in course.toml", "add its entry, or remove the file")
    for document in audit.written:
        module = f"src/{document.module.replace('.', '/')}.py"
        views = (
            ("module", audit.module_files(document), module),
            ("test", audit.test_files(document), f"tests/{_test(document)}"),
            ("exercises", document.exercises in audit.files, document.exercises),
            ("figures", document.figure_script in audit.files, document.figure_script),
        )
        for what, present, path in views:
            if not present:
                yield Finding(document.path, 1, NAME, f"has no {what}", f"add {path}")


def _test(document: Document) -> str:
    folder, name = document.module.split(".")[1:]
    return f"{folder}/test_{name}.py"
