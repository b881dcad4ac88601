"""The graph itself: ids, prerequisites, order, phases, tracks, and the files that they name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import networkx as nx
import numpy as np

from chainrule.course.asking import agrees
from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import slug
from chainrule.course.finding import Finding
from chainrule.course.manifest import FOLDERS, MANIFEST, Course

NAME = "manifest"
STOPS = "A reader is sent in a circle, to a subject that comes later, or past a file nobody lists."

# Where it stands (texts of course.toml, each looked for after the one before), what is wrong, and
# what to do.
Fault = tuple[tuple[str, ...], str, str]


def check(audit: Audit) -> Iterator[Finding]:
    """Check ``course.toml`` against itself and against the files."""
    course = audit.course
    for find in (_unknown, _repeated, _numbers, _documents, _graph, _asks, _uses):
        for texts, message, fix in find(course):
            yield Finding(MANIFEST, course.line_of(*texts), NAME, message, fix)
    yield from _files(audit)


def _in(name: str, *texts: str) -> tuple[str, ...]:
    """Texts in the entry of this id."""
    return (f'\nid = "{name}"', *texts)


def _unknown(course: Course) -> Iterator[Fault]:
    """Names of documents that are no documents."""
    named: list[tuple[tuple[str, ...], str, Iterable[str]]] = [
        *((_in(d.id), f"{d.id} needs", [need.id for need in d.needs]) for d in course.documents),
        *((_in(t.id), f"track {t.id!r} leads to", {*t.goals} - {"*"}) for t in course.tracks),
        *((_in(n.id), f"notebook {n.id!r} serves", n.serves) for n in course.notebooks),
        *((_in(a.id), f"{a.id} builds on", a.builds_on) for a in course.applications.values()),
        *((("\n[[related]]",), "a pair names", pair.between) for pair in course.related),
        (("\n[[ask]]",), "a question asks about", course.asks),
    ]
    for texts, what, names in named:
        for name in names:
            if name not in course.by_id:
                yield (*texts, f'"{name}"'), f"{what} {name}, which is no document", ""


def _repeated(course: Course) -> Iterator[Fault]:
    """What must be there once."""

    def twice(values: Iterable[str], message: str, form: str, *texts: str) -> Iterator[Fault]:
        for value, count in Counter(values).items():
            if value and count > 1:
                yield (*texts, *[form.format(value)] * 2), message.format(value), ""

    for field in ("id", "number", "title"):
        values = [getattr(document, field) for document in course.documents]
        message = f"there are two documents of the {field} {{!r}}"
        yield from twice(values, message, f'\n{field} = "{{}}"')
    for each in course.documents:
        needs, anchors = [need.id for need in each.needs], [item.anchor for item in each.outline]
        yield from twice(needs, f"{each.id} needs {{}} twice", 'id = "{}"', *_in(each.id))
        message = f"{each.id}: two outline bullets have the anchor {{!r}}"
        yield from twice(anchors, message, 'anchor = "{}"', *_in(each.id))


def _numbers(course: Course) -> Iterator[Fault]:
    numbers = [phase.number for phase in course.phases]
    if numbers != list(range(1, len(numbers) + 1)):
        yield ("[[phase]]",), f"the phases are numbered {numbers}, not 1, 2, …", ""
    for number in set(numbers) - {document.phase for document in course.documents}:
        yield (f"\nnumber = {number}",), f"phase {number} has no document", ""
    for number, each in enumerate(course.notebooks, 1):
        if int(each.id[:2]) != number:
            yield _in(each.id), f"notebook {each.id!r} stands in place {number:02}", ""


def _documents(course: Course) -> Iterator[Fault]:
    phases = [phase.number for phase in course.phases]
    seen: set[str] = set()
    for each in course.documents:
        if each.folder not in FOLDERS:
            folders = ", ".join(FOLDERS)
            yield _in(each.id), f"{each.id}: no folder {each.folder!r}; there are {folders}", ""
        if each.phase not in phases:
            yield _in(each.id, "\nphase = "), f"{each.id}: there is no phase {each.phase}", ""
        if each.number and int(each.number.split(".")[0]) != each.phase:
            message = f"{each.id}: number {each.number} is not in phase {each.phase}"
            yield _in(each.id, "\nnumber = "), message, ""
        seen.add(each.id)
        for need in {need.id for need in each.needs} & course.by_id.keys() - seen:
            message = f"{each.id} stands before {need}, which it needs"
            fix = "documents stand in reading order: move one of the two"
            yield _in(each.id, f'id = "{need}"'), message, fix
        for item in each.outline:
            if item.anchor != (right := slug(item.text)):
                message = f"{each.id}: {item.text!r} has the anchor {item.anchor!r}"
                yield _in(each.id, f'"{item.text}"'), message, f"as a heading it gets {right!r}"


def _graph(course: Course) -> Iterator[Fault]:
    """A circle, or, where there is none, a need that others imply."""
    if not nx.is_directed_acyclic_graph(course.graph):
        circle = [edge[0] for edge in nx.find_cycle(course.graph)]
        texts = _in(circle[0], f'id = "{circle[-1]}"')
        yield texts, f"a circle: {' → '.join([*circle, circle[0]])}", "drop one of its needs"
        return
    enough = nx.transitive_reduction(course.graph)
    for before, after in sorted(course.graph.edges - enough.edges):
        way = " → ".join(nx.shortest_path(enough, before, after))
        message = f"{after} need not name {before}: {way} implies it"
        fix = "drop the need; what is implied stays linked in the body"
        yield _in(after, f'id = "{before}"'), message, fix


def _asks(course: Course) -> Iterator[Fault]:
    """Each written document has a question, and its answer is what its expression gives."""
    for document in course.written():
        if document.id not in course.asks:
            message = f"{document.id} has no question for `chainrule path --ask`"
            yield _in(document.id), message, "add an [[ask]] with a computed answer"
    for name, ask in course.asks.items():
        texts = ("\n[[ask]]", f'"{name}"')
        try:
            value = float(eval(ask.computed, {"np": np, "math": math, "__builtins__": {}}))
        except Exception as error:
            yield texts, f"the question about {name} cannot be computed: {error}", ""
            continue
        if not agrees(repr(value), ask.answer):
            yield texts, f"the answer about {name} is {value:.6g}, not {ask.answer}", ""


def _uses(course: Course) -> Iterator[Fault]:
    """What is used of applications builds on what is taught before."""
    for document in course.documents:
        taught = {document.id} | course.ancestors(document.id)
        for name in document.uses:
            texts = _in(document.id, "uses", f'"{name}"')
            if name not in course.applications:
                yield texts, f"{document.id} uses {name}, which is no application", ""
                continue
            for needed in course.applications[name].builds_on:
                if needed not in taught:
                    message = f"{document.id} uses {name}, which builds on {needed}"
                    yield texts, message, f"make {needed} a need of {document.id}"


def _files(audit: Audit) -> Iterator[Finding]:
    course = audit.course
    listed = {*(each.path for each in course.documents), *(each.path for each in course.notebooks)}
    for path in sorted(audit.files - listed):
        if (path.endswith(".md") and path.split("/")[0] in FOLDERS) or path in audit.notebooks:
            yield Finding(path, 1, NAME, "not in course.toml", "add its entry, or remove the file")
    for document in audit.written:
        folder, name = document.module.split(".")[1:]
        views = (
            ("module", audit.module_files(document), f"src/chainrule/{folder}/{name}.py"),
            ("test", audit.test_files(document), f"tests/{folder}/test_{name}.py"),
            ("exercises", document.exercises in audit.files, document.exercises),
            ("figures", document.figure_script in audit.files, document.figure_script),
        )
        for what, present, path in views:
            if not present:
                yield Finding(document.path, 1, NAME, f"has no {what}", f"add {path}")
