"""The recorded graph, and the one walk over it that computes every gradient.

A `Node` is one application of one operation: which nodes its inputs came from, and the
function that turns the gradient of its output into gradients of its inputs (its
vector-Jacobian product, VJP). A node holds no value (unless `keep_values` asks for it); what
a VJP needs, its closure keeps, and `propagate` drops that closure as soon as it has been used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.shapes import Array

if TYPE_CHECKING:
    from chainrule.neural_networks.backpropagation.tensor import Tensor

__all__ = ["Node", "propagate", "sum_to"]

# What a VJP returns for one input: no gradient, its gradient, or a function that computes
# the gradient when it turns out to be needed, into the array it is given (or a new one).
Contribution = Any
VJP = Callable[[Array], Sequence[Contribution]]

_clock = count()


class Node:
    """One recorded operation; ``parents`` are nodes, leaf tensors, or None (no gradient)."""

    __slots__ = ("gradient", "name", "order", "parents", "retained", "shape", "value", "vjp")

    def __init__(
        self, name: str, shape: tuple[int, ...], parents: tuple[Any, ...], vjp: VJP
    ) -> None:
        self.name = name
        self.shape = shape
        self.parents = parents
        self.vjp: VJP | None = vjp
        self.order = next(_clock)
        self.gradient: Any = None
        self.value: Array | None = None
        self.retained: list[Any] | None = None

    def __repr__(self) -> str:
        return f"<{self.name} {self.shape}>"


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum ``gradient`` over the axes along which ``shape`` was broadcast to its shape.

    Broadcasting copies an input forward, and the gradient of a copy is the sum over copies.
    Equation: neural-networks/backpropagation.md#eq-unbroadcast
    """
    if gradient.shape == shape:
        return gradient
    added = gradient.ndim - len(shape)
    stretched = tuple(
        added + axis
        for axis, size in enumerate(shape)
        if size == 1 and gradient.shape[added + axis] != 1
    )
    axes = tuple(range(added)) + stretched
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def ancestors(root: Node) -> list[Node]:
    """Every node that ``root`` depends on, itself included, in the order of their creation.

    A node is created after its parents, so this order is a topological one.
    """
    seen = {root}
    stack = [root]
    while stack:
        for parent in stack.pop().parents:
            if type(parent) is Node and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=lambda node: node.order)


def propagate(
    root: Node,
    gradient: Array,
    retain_graph: bool = False,
    to_leaf: Callable[[Any, Contribution], None] | None = None,
    visit: Callable[[Node, Array], None] | None = None,
) -> None:
    """Walk from ``root`` back to the leaves once, applying each node's VJP.

    Nodes are visited in reverse order of creation, so when a node's turn comes every node
    that used its output has already added its share of the gradient. Unless
    ``retain_graph``, a visited node forgets its VJP, and with it the arrays saved for it.
    """
    to_leaf = to_leaf or accumulate
    nodes = ancestors(root)
    if any(node.vjp is None for node in nodes):
        raise RuntimeError(
            "backward a second time: the first pass freed what it saved; "
            "pass retain_graph=True to the first one, or run the forward pass again"
        )
    for node in nodes:
        node.gradient = None  # a pass that ended in an error may have left some
    root.gradient = gradient
    while nodes:
        node = nodes.pop()
        gradient, node.gradient = node.gradient, None
        vjp, parents = node.vjp, node.parents
        if not retain_graph:
            node.vjp, node.parents = None, ()
        if gradient is None or vjp is None:
            continue
        if visit is not None:
            visit(node, gradient)
        if node.retained is not None:
            _leave_copies(node.retained, gradient)
        contributions = list(vjp(gradient))[: len(parents)]
        del vjp, gradient
        for position, contribution in enumerate(contributions):
            parent = parents[position]
            if parent is None or contribution is None:
                contributions[position] = None
            elif not callable(contribution):
                contributions[position] = np.asarray(contribution)
            elif type(parent) is Node:
                contributions[position] = np.asarray(contribution(None))
            else:
                to_leaf(parent, contribution)
                contributions[position] = None
        for parent, contribution in zip(parents, _mark_shared(contributions), strict=False):
            if contribution is None:
                continue
            if type(parent) is not Node:
                to_leaf(parent, contribution)
                continue
            if contribution.shape != parent.shape:
                raise ValueError(
                    f"the VJP of {node.name} returned a gradient of shape {contribution.shape} "
                    f"for an input of shape {parent.shape}; sum_to undoes broadcasting"
                )
            parent.gradient = _add(parent.gradient, contribution)


def _add(total: Array | None, contribution: Array) -> Array:
    if total is None:
        return contribution
    if total.flags.writeable:
        return np.add(total, contribution, out=total)
    if contribution.flags.writeable and contribution.dtype == total.dtype:
        return np.add(total, contribution, out=contribution)
    return np.asarray(total + contribution)


def accumulate(leaf: Tensor, contribution: Contribution) -> None:
    """Add ``contribution`` to ``leaf.grad``; the first one is written to ``leaf.grad_buffer``.

    The buffer, if there is one, is where an optimizer wants the gradient.
    """
    buffer = leaf.grad_buffer if leaf.grad is None else None
    if callable(contribution):
        contribution = contribution(buffer)
    if contribution.shape != leaf.shape:
        raise ValueError(
            f"a VJP returned a gradient of shape {contribution.shape} "
            f"for an input of shape {leaf.shape}; sum_to undoes broadcasting"
        )
    if leaf.grad is not None:
        leaf.grad += contribution
    elif buffer is not None:
        if contribution is not buffer:
            buffer[...] = contribution
        leaf.grad = buffer
    elif contribution.flags.writeable and contribution.dtype == leaf.dtype:
        leaf.grad = contribution
    else:
        leaf.grad = np.array(contribution, dtype=leaf.dtype)


def _mark_shared(contributions: list[Contribution]) -> list[Contribution]:
    """Make contributions that share memory with each other read-only: no one may reuse them."""
    if len(contributions) == 1:
        return contributions
    owners: dict[int, int] = {}
    for array in contributions:
        if isinstance(array, np.ndarray):
            owner = id(array if array.base is None else array.base)
            owners[owner] = owners.get(owner, 0) + 1
    return [
        _read_only(array)
        if isinstance(array, np.ndarray)
        and owners[id(array if array.base is None else array.base)] > 1
        else array
        for array in contributions
    ]


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _leave_copies(retained: list[Any], gradient: Array) -> None:
    for reference in retained:
        tensor = reference()
        if tensor is not None:
            tensor.grad = np.array(gradient if tensor.grad is None else tensor.grad + gradient)
