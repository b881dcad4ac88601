"""`trace`: the recorded graph of a tensor as plain data, for drawing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation.grad_mode import _mode
from chainrule.neural_networks.backpropagation.graph import Node, ancestors, propagate
from chainrule.neural_networks.backpropagation.tensor import Tensor
from chainrule.shapes import Array

__all__ = ["Graph", "Vertex", "keep_values", "trace"]


@dataclass
class Vertex:
    """One box of a drawing: an operation with its output, or a leaf (``name`` is ``leaf``)."""

    id: int
    name: str
    shape: tuple[int, ...]
    value: Array | None = None
    gradient: Array | None = None


@dataclass
class Graph:
    """Vertices in an order in which inputs come first, and edges from input to operation."""

    vertices: list[Vertex] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


@contextmanager
def keep_values() -> Iterator[None]:
    """Keep the value of every operation recorded inside, for `trace` to show."""
    before, _mode.keep_values = _mode.keep_values, True
    try:
        yield
    finally:
        _mode.keep_values = before


def trace(root: Tensor, gradients: bool = False) -> Graph:
    """Return the graph that computed ``root``.

    Values of operations are known if they were recorded under `keep_values`. With
    ``gradients`` every vertex gets the derivative of ``root`` (one element) with respect to
    it; the graph and every ``grad`` stay as they were.
    """
    if root._node is None:
        return Graph([Vertex(0, "leaf", root.shape, root.data)])
    graph, ids = Graph(), dict[int, int]()

    def add(key: Any, name: str, shape: tuple[int, ...], value: Array | None) -> int:
        if id(key) not in ids:
            ids[id(key)] = len(graph.vertices)
            graph.vertices.append(Vertex(ids[id(key)], name, shape, value))
        return ids[id(key)]

    for node in ancestors(root._node):
        sources = [
            ids[id(parent)]
            if type(parent) is Node
            else add(parent, "leaf", parent.shape, parent.data)
            for parent in node.parents
            if parent is not None
        ]
        target = add(node, node.name, node.shape, node.value)
        graph.edges.extend((source, target) for source in sources)
    graph.vertices[ids[id(root._node)]].value = root.data
    if gradients:
        _fill_gradients(root, graph, ids)
    return graph


def _fill_gradients(root: Tensor, graph: Graph, ids: dict[int, int]) -> None:
    def at_leaf(leaf: Any, share: Array) -> None:
        vertex = graph.vertices[ids[id(leaf)]]
        before = 0 if vertex.gradient is None else vertex.gradient
        vertex.gradient = np.array(before + share)

    def at_node(node: Node, gradient: Array) -> None:
        graph.vertices[ids[id(node)]].gradient = np.array(gradient)

    assert root._node is not None
    one = np.ones(root.shape, root.dtype)
    propagate(root._node, one, retain_graph=True, to_leaf=at_leaf, visit=at_node)
