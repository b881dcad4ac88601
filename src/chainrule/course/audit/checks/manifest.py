"""The graph itself: ids, prerequisites, order, phases, tracks, and the files that they name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import networkx as nx

from chainrule.course.asking import agrees, computed
from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import slug
from chainrule.course.finding import Finding
from chainrule.course.manifest import FOLDERS, MANIFEST, Course, Document, Notebook, Track

NAME = "manifest"
STOPS = "A reader is sent in a circle, to a subject that comes later, or past a file nobody lists."


# Where it stands (texts of course.toml, each looked for after the one before), what is wrong, and
# what to do.
Fault = tuple[tuple[str, ...], str, str]


def check(audit: Audit) -> Iterator[Finding]:
    """Check ``course.toml`` against itself and against the files."""
    course = audit.course
    for find in (_unknown, _repeated, _phases, _documents, _graph, _notebooks, _asks, _uses):
        for texts, message, fix in find(course):
            yield Finding(MANIFEST, course.line_of(*texts), NAME, message, fix)
    yield from _files(audit)


def _in(entry: Document | Notebook | Track, *texts: str) -> tuple[str, ...]:
    """Texts in an entry."""
    return (f'\nid = "{entry.id}"', *texts)


def _unknown(course: Course) -> Iterator[Fault]:
    """Names of documents that are no documents."""

    def unknown(names: Iterable[str], message: str, *texts: str) -> Iterator[Fault]:
        for name in names:
            if name not in course.by_id:
                yield (*texts, f'"{name}"'), message.format(name), ""

    no = "which is no document"
    for document in course.documents:
        needs = [need.id for need in document.needs]
        yield from unknown(needs, f"{document.id} needs {{}}, {no}", *_in(document))
    for track in course.tracks:
        goals = [goal for goal in track.goals if goal != "*"]
        yield from unknown(goals, f"track {track.id!r} leads to {{}}, {no}", *_in(track))
    for notebook in course.notebooks:
        message = f"notebook {notebook.id!r} serves {{}}, {no}"
        yield from unknown(notebook.serves, message, *_in(notebook))
    for application in course.applications.values():
        texts = ("\n[[application]]", f'"{application.id}"')
        message = f"{application.id} builds on {{}}, {no}"
        yield from unknown(application.builds_on, message, *texts)
    for pair in course.related:
        texts = ("\n[[related]]", f'["{pair.between[0]}"')
        yield from unknown(pair.between, "{} is related and is no document", *texts)
    yield from unknown(course.asks, "the question about {} asks about no document", "\n[[ask]]")


def _repeated(course: Course) -> Iterator[Fault]:
    """What must be there once."""

    def twice(values: Iterable[str], message: str, form: str, *texts: str) -> Iterator[Fault]:
        for value, count in Counter(values).items():
            if value and count > 1:
                yield (*texts, *[form.format(value)] * 2), message.format(value), ""

    documents, ids = course.documents, '\nid = "{}"'
    yield from twice([d.id for d in documents], "there are two documents {!r}", ids)
    yield from twice([n.id for n in course.notebooks], "there are two notebooks {!r}", ids)
    yield from twice([track.id for track in course.tracks], "there are two tracks {!r}", ids)
    for field in ("number", "title"):
        values = [getattr(document, field) for document in documents]
        message = f"there are two documents of the {field} {{!r}}"
        yield from twice(values, message, f'\n{field} = "{{}}"')
    for each in documents:
        needs, anchors = [need.id for need in each.needs], [item.anchor for item in each.outline]
        yield from twice(needs, f"{each.id} needs {{}} twice", 'id = "{}"', *_in(each))
        message = f"{each.id}: two outline bullets have the anchor {{!r}}"
        yield from twice(anchors, message, 'anchor = "{}"', *_in(each))


def _phases(course: Course) -> Iterator[Fault]:
    numbers = [phase.number for phase in course.phases]
    if numbers != list(range(1, len(numbers) + 1)):
        yield ("[[phase]]",), f"the phases are numbered {numbers}, not 1, 2, …", ""
    for number in set(numbers) - {document.phase for document in course.documents}:
        yield (f"\nnumber = {number}",), f"phase {number} has no document", ""


def _documents(course: Course) -> Iterator[Fault]:
    phases = [phase.number for phase in course.phases]
    seen: set[str] = set()
    for each in course.documents:
        if each.folder not in FOLDERS:
            folders = ", ".join(FOLDERS)
            yield _in(each), f"{each.id}: no folder {each.folder!r}; there are {folders}", ""
        if each.phase not in phases:
            yield _in(each, "\nphase = "), f"{each.id}: there is no phase {each.phase}", ""
        if each.number and int(each.number.split(".")[0]) != each.phase:
            message = f"{each.id}: number {each.number} is not in phase {each.phase}"
            yield _in(each, "\nnumber = "), message, ""
        for need in {need.id for need in each.needs} & course.by_id.keys() - seen:
            texts = _in(each, f'id = "{need}"')
            if need == each.id:
                yield texts, f"{each.id} needs itself", ""
            else:
                fix = "documents stand in reading order: move one of the two"
                yield texts, f"{each.id} stands before {need}, which it needs", fix
        seen.add(each.id)
        for item in each.outline:
            if item.anchor != (right := slug(item.text)):
                message = f"{each.id}: {item.text!r} has the anchor {item.anchor!r}"
                yield _in(each, f'"{item.text}"'), message, f"as a heading it gets {right!r}"


def _graph(course: Course) -> Iterator[Fault]:
    """A circle, or, where there is none, a need that others imply."""
    graph = nx.DiGraph(course.graph)
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    circles = [each for each in nx.strongly_connected_components(graph) if len(each) > 1]
    for component in circles:
        circle = [edge[0] for edge in nx.find_cycle(graph.subgraph(sorted(component)))]
        first = circle.index(min(circle))
        circle = [*circle[first:], *circle[:first]]
        texts = _in(course.by_id[circle[0]], f'id = "{circle[-1]}"')
        yield texts, f"a circle: {' → '.join([*circle, circle[0]])}", "drop one of its needs"
    spare = [] if circles else sorted(graph.edges - nx.transitive_reduction(graph).edges)
    for before, after in spare:
        shorter = graph.copy()
        shorter.remove_edge(before, after)
        way = " → ".join(nx.shortest_path(shorter, before, after))
        message = f"{after} need not name {before}: {way} implies it"
        fix = "drop the need; what is implied stays linked in the body"
        yield _in(course.by_id[after], f'id = "{before}"'), message, fix


def _notebooks(course: Course) -> Iterator[Fault]:
    for number, each in enumerate(course.notebooks, 1):
        if int(each.id[:2]) != number:
            yield _in(each), f"notebook {each.id!r} stands in place {number:02}", ""


def _asks(course: Course) -> Iterator[Fault]:
    """Each written document has a question, and its answer is what its expression gives."""
    for document in course.written():
        if document.id not in course.asks:
            message = f"{document.id} has no question for `chainrule path --ask`"
            yield _in(document), message, "add an [[ask]] with a computed answer"
    for name, ask in course.asks.items():
        texts = ("\n[[ask]]", f'"{name}"')
        try:
            value = computed(ask)
        except Exception as error:
            yield texts, f"the question about {name} cannot be computed: {error}", ""
            continue
        if not agrees(repr(value), ask.answer):
            yield texts, f"the answer about {name} is {value:.6g}, not {ask.answer}", ""


def _uses(course: Course) -> Iterator[Fault]:
    """What is related is not one; what is used of applications builds on what is taught before."""
    for one, other in (pair.between for pair in course.related):
        if one == other:
            yield ("\n[[related]]", f'["{one}", "{other}"]'), f"{one} is related to itself", ""
    for document in course.documents:
        taught = {document.id} | course.ancestors(document.id)
        for name in document.uses:
            texts = _in(document, "uses", f'"{name}"')
            if name not in course.applications:
                yield texts, f"{document.id} uses {name}, which is no application", ""
                continue
            for needed in course.applications[name].builds_on:
                if needed not in taught:
                    message = f"{document.id} uses {name}, which builds on {needed}"
                    yield texts, message, f"make {needed} a need of {document.id}"


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
