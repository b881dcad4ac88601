"""The course's graph as a drawing: boxes in rows, prerequisites above.

The places come from dagre, which also lays out the diagrams of Mermaid.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from chainrule.children import ask
from chainrule.course.manifest import Course, Document
from chainrule.node import find_node

NODE_WIDTH, NODE_HEIGHT = 190, 44
COLUMN, ROW = 206, 92
MARGIN, BESIDE = 8, 10


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


def draw_graph(course: Course, site: Path) -> Drawing:
    """Lay the graph out; ``site`` is the folder with the npm packages."""
    edges = list(course.graph.edges)
    asked = {
        **{"nodesep": COLUMN - NODE_WIDTH, "edgesep": BESIDE, "ranksep": ROW - NODE_HEIGHT},
        **{"marginx": MARGIN, "marginy": MARGIN},
        "boxes": [
            {"id": name, "width": NODE_WIDTH, "height": NODE_HEIGHT} for name in course.by_id
        ],
        "lines": edges,
    }
    command = (find_node() or "node", str(site / "drawing.mjs"))
    answer = ask(*command, root=site.parent, seconds=60, told=json.dumps(asked))
    if answer.fault:
        raise RuntimeError(f"the graph has no layout: {answer.fault}")
    (placed,) = answer.rows()
    middle = dict(zip(course.by_id, placed["boxes"], strict=True))
    boxes = [
        Box(document, round(at["x"] - NODE_WIDTH / 2, 1), round(at["y"] - NODE_HEIGHT / 2, 1))
        for document, at in zip(course.documents, placed["boxes"], strict=True)
    ]
    lines = [
        Line(source, target, _path([middle[source], *bends, middle[target]]))
        for (source, target), bends in zip(edges, placed["lines"], strict=True)
    ]
    return Drawing(boxes, lines, round(placed["width"], 1), placed["height"])


def _path(stops: list[dict[str, float]]) -> str:
    """From the bottom of a box to the top of another, upright through the rows between."""
    path = f"M{stops[0]['x']:.1f} {stops[0]['y'] + NODE_HEIGHT / 2:.1f}"
    for upper, lower in pairwise(stops):
        middle, end = (upper["y"] + lower["y"]) / 2, lower["y"] - NODE_HEIGHT / 2
        path += f" C{upper['x']:.1f} {middle:.1f} {lower['x']:.1f} {middle:.1f}"
        path += f" {lower['x']:.1f} {end:.1f}"
        if lower is not stops[-1]:
            path += f"V{end + NODE_HEIGHT:.1f}"
    return path
