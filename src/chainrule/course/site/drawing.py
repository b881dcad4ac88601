"""The course's graph as a drawing: boxes in layers, prerequisites above, few crossings."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

from chainrule.course.manifest import Course, Document

NODE_WIDTH, NODE_HEIGHT = 190, 44
COLUMN, ROW = 206, 92
MARGIN = 8


@dataclass(frozen=True)
class Box:
    """A subject in the drawing: the left upper corner of its box."""

    document: Document
    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """A prerequisite in the drawing: an SVG path from one box down to another."""

    source: str
    target: str
    path: str


@dataclass(frozen=True)
class Drawing:
    """The whole graph, and the size of the sheet."""

    boxes: list[Box]
    lines: list[Line]
    width: float
    height: float


def draw_graph(course: Course) -> Drawing:
    """Lay the graph out in layers, prerequisites above, with few crossings.

    Sugiyama's method in small: longest-path layers; an edge that skips layers gets a bend
    in each; every layer is sorted by the mean position of its neighbours, up and down. Of
    some shuffled starts the one with the fewest crossings, then the shortest lines, is kept.
    """
    first, edges = _with_bends(course.graph)
    generator = random.Random(0)
    candidates = []
    for _ in range(40):
        start = [generator.sample(layer, len(layer)) for layer in first]
        layers = _sorted_layers(start, edges)
        x = _positions(layers, edges)
        length = sum(abs(x[source] - x[target]) for source, target in edges)
        candidates.append((_crossings(layers, edges), length, layers, x))
    _, _, layers, x = min(candidates, key=lambda candidate: candidate[:2])
    left = min(x[name] - _width(name) / 2 for layer in layers for name in layer)
    right = max(x[name] + _width(name) / 2 for layer in layers for name in layer)
    top = {name: MARGIN + ROW * row for row, layer in enumerate(layers) for name in layer}
    centre = {name: x[name] - left + MARGIN for name in top}

    boxes = [
        Box(document, round(centre[document.id] - NODE_WIDTH / 2, 1), top[document.id])
        for document in course.documents
    ]
    lines = []
    for source, target in course.graph.edges:
        stops = [source, *(name for name in _bends(source, target, top)), target]
        path = [f"M{centre[source]:.1f} {top[source] + NODE_HEIGHT}"]
        for upper, lower in pairwise(stops):
            below, end = top[upper] + NODE_HEIGHT, top[lower]
            middle = (below + end) / 2
            path.append(
                f"C{centre[upper]:.1f} {middle:.1f} {centre[lower]:.1f} {middle:.1f}"
                f" {centre[lower]:.1f} {end}"
            )
            if lower != target:
                path.append(f"V{end + NODE_HEIGHT}")
        lines.append(Line(source, target, " ".join(path)))
    height = 2 * MARGIN + ROW * (len(layers) - 1) + NODE_HEIGHT
    return Drawing(boxes, lines, round(right - left + 2 * MARGIN, 1), height)


def _bend(source: str, target: str, row: int) -> str:
    return f"{source}>{target}@{row}"


def _bends(source: str, target: str, known: dict[str, int]) -> list[str]:
    names = (_bend(source, target, row) for row in range(len(known)))
    return [name for name in names if name in known]


def _width(name: str) -> float:
    return 28 if "@" in name else COLUMN


def _with_bends(graph: nx.DiGraph) -> tuple[list[list[str]], list[tuple[str, str]]]:
    layers = [list(layer) for layer in nx.topological_generations(graph)]
    row = {name: index for index, layer in enumerate(layers) for name in layer}
    edges: list[tuple[str, str]] = []
    for source, target in graph.edges:
        stops = [source]
        for index in range(row[source] + 1, row[target]):
            stops.append(_bend(source, target, index))
            layers[index].append(stops[-1])
        edges += pairwise([*stops, target])
    return layers, edges


def _sorted_layers(layers: list[list[str]], edges: list[tuple[str, str]]) -> list[list[str]]:
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for source, target in edges:
        above.setdefault(target, []).append(source)
        below.setdefault(source, []).append(target)
    best, fewest = layers, _crossings(layers, edges)
    for sweep in range(24):
        beside = above if sweep % 2 == 0 else below
        place = {name: i / len(layer) for layer in layers for i, name in enumerate(layer)}
        order = layers if sweep % 2 == 0 else layers[::-1]
        arranged = []
        for layer in order:

            def mean(name: str, beside=beside, place=place) -> float:
                near = beside.get(name, [])
                return sum(place[other] for other in near) / len(near) if near else place[name]

            arranged.append(sorted(layer, key=mean))
            place |= {name: i / len(layer) for i, name in enumerate(arranged[-1])}
        layers = arranged if sweep % 2 == 0 else arranged[::-1]
        crossings = _crossings(layers, edges)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: list[list[str]], edges: list[tuple[str, str]]) -> int:
    place = {name: (row, i) for row, layer in enumerate(layers) for i, name in enumerate(layer)}
    ends = [(*place[source], place[target][1]) for source, target in edges]
    return sum(
        first[0] == second[0] and (first[1] - second[1]) * (first[2] - second[2]) < 0
        for index, first in enumerate(ends)
        for second in ends[:index]
    )


def _positions(layers: list[list[str]], edges: list[tuple[str, str]]) -> dict[str, float]:
    """Centres: each at the mean of its neighbours, as far as the order leaves room."""
    beside: dict[str, list[str]] = {}
    for source, target in edges:
        beside.setdefault(source, []).append(target)
        beside.setdefault(target, []).append(source)
    x: dict[str, float] = {}
    for layer in layers:
        total = sum(_width(name) for name in layer)
        x |= _packed(layer, dict.fromkeys(layer, 0.0), -total / 2)
    for _ in range(40):
        for layer in (*layers, *layers[::-1]):
            wish = {
                name: sum(x[other] for other in beside.get(name, [name]))
                / len(beside.get(name, [name]))
                for name in layer
            }
            x |= _packed(layer, wish, None)
    return x


def _packed(layer: list[str], wish: dict[str, float], start: float | None) -> dict[str, float]:
    """The positions nearest to the wishes that keep order and distance (pooled violators)."""
    offset, offsets = 0.0, {}
    for name in layer:
        offsets[name] = offset + _width(name) / 2
        offset += _width(name)
    if start is not None:
        return {name: start + offsets[name] for name in layer}
    blocks: list[list[float]] = []
    for name in layer:
        blocks.append([wish[name] - offsets[name], 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            value, count = blocks.pop()
            other, number = blocks[-1]
            blocks[-1] = [(value * count + other * number) / (count + number), count + number]
    shifts = [value for value, count in blocks for _ in range(int(count))]
    return {name: offsets[name] + shift for name, shift in zip(layer, shifts, strict=True)}
