"""The recorded graph, and the one walk over it that computes every gradient.

A `Node` is one application of one operation: which nodes its inputs came from, and the
function that turns the gradient of its output into gradients of its inputs (its
vector-Jacobian product, VJP). A node holds no value (unless `keep_values` asks for it); what
a VJP needs, its closure keeps, and `propagate` drops that closure as soon as it has been used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.neural_networks.backpropagation.edits import (
    Edit,
    clock,
    edits_since,
    held_arrays,
)
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array

if TYPE_CHECKING:
    from chainrule.neural_networks.backpropagation.tensor import Tensor

__all__ = ["Node", "propagate", "sum_to"]

# What a VJP returns for one input: no gradient, its gradient, or a function that computes
# the gradient when it turns out to be needed, into the array it is given (or a new one).
Entry = Any
VJP = Callable[[Array], Sequence[Entry]]


class Node:
    """One recorded operation; ``parents`` are nodes, leaf tensors, or None (no gradient).

    ``dtype`` is the type in which the gradient of its output is added up: float32 for 16-bit
    outputs, so that rounding comes last.
    """

    __slots__ = (
        "dtype", "gradient", "name", "order", "parents", "retained", "shape", "value", "vjp",
    )  # fmt: skip

    def __init__(self, name: str, output: Array, parents: tuple[Any, ...], vjp: VJP) -> None:
        self.name = name
        self.shape = output.shape
        self.dtype = wide(output.dtype)
        self.parents = parents
        self.vjp: VJP | None = vjp
        self.order = next(clock)
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
    to_leaf: Callable[[Tensor, Array], None] | None = None,
    visit: Callable[[Node, Array], None] | None = None,
) -> None:
    """Walk from ``root`` back to the leaves once, applying each node's VJP.

    Nodes are visited in reverse order of creation, so when a node's turn comes every node
    that used its output has already added its share of the gradient. Unless
    ``retain_graph``, a visited node forgets its VJP, and with it the arrays saved for it.
    ``to_leaf`` gets the shares of leaves; without one they are added to ``grad``.

    Raises:
        RuntimeError: what the pass needs was freed or overwritten, or a VJP leaves a gradient out.
    """
    nodes = ancestors(root)
    if any(node.vjp is None for node in nodes):
        raise RuntimeError(
            "backward a second time: the first pass freed what it saved; "
            "pass retain_graph=True to the first one, or run the forward pass again"
        )
    edits = edits_since(nodes[0].order)
    for node in nodes:
        node.gradient = None  # a pass that ended in an error may have left some
    root.gradient = gradient.astype(root.dtype, copy=False)
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
        entries = list(vjp(gradient))
        if edits:
            _refuse_edited(node, vjp, entries, parents, edits)
        del vjp, gradient
        shares = _evaluate(node, entries, parents, in_place=to_leaf is None)
        del entries
        _hand_on(parents, shares, to_leaf or accumulate)
        del shares


def _evaluate(
    node: Node, entries: list[Entry], parents: tuple[Any, ...], in_place: bool
) -> list[Array | None]:
    """What the VJP returned, as arrays, for each parent that needs a gradient.

    All are computed before any is added to another, so none sees the others' effects: the order
    of a VJP's entries means nothing. What an optimizer has a place for goes there at once.
    """
    shares: list[Array | None] = [None] * len(parents)
    for position, parent in enumerate(parents):
        if parent is None:
            continue
        entry = entries[position] if position < len(entries) else None
        if entry is None:
            raise RuntimeError(
                f"input {position} of {node.name} requires a gradient, and its VJP gives none: "
                "detach() the input, or compute the gradient"
            )
        place = _place(parent, parents) if in_place and type(parent) is not Node else None
        share = np.asarray(entry(place) if callable(entry) else entry)
        if share.shape != parent.shape:
            raise ValueError(
                f"the VJP of {node.name} returned a gradient of shape {share.shape} "
                f"for an input of shape {parent.shape}; sum_to undoes broadcasting"
            )
        if place is None:
            shares[position] = share
        else:
            if share is not place:
                place[...] = share
            parent.grad = place
    return shares


def _place(leaf: Tensor, parents: tuple[Any, ...]) -> Array | None:
    """Where an optimizer wants the gradient of this leaf, if this is its only share so far."""
    if leaf.grad is not None or leaf.grad_place is None:
        return None
    return leaf.grad_place() if sum(parent is leaf for parent in parents) == 1 else None


def _refuse_edited(
    node: Node, vjp: VJP, entries: list[Entry], parents: tuple[Any, ...], edits: list[Edit]
) -> None:
    """Raise if what is about to be read was overwritten after the node was recorded."""
    later = [edit for edit in edits if edit.order > node.order]
    readers = [entry if callable(entry) else vjp
               for parent, entry in zip(parents, entries, strict=False)
               if parent is not None]  # fmt: skip
    for array in held_arrays(readers if later else ()):
        for edit in later:
            if edit.touches(array):
                raise RuntimeError(
                    f"{node.name} needs an array of shape {array.shape} as it was in the forward "
                    f"pass (operation {node.order}), but it was modified in place since (edit "
                    f"{edit.order}): run the forward pass again, or backward() before the edit"
                )


def _hand_on(
    parents: tuple[Any, ...],
    shares: list[Array | None],
    to_leaf: Callable[[Tensor, Array], None],
) -> None:
    for parent, share in zip(parents, _mark_shared(shares), strict=True):
        if share is None:
            continue
        if type(parent) is not Node:
            to_leaf(parent, share)
        else:
            if share.dtype is not parent.dtype:
                share = share.astype(parent.dtype)
            parent.gradient = share if parent.gradient is None else _add(parent.gradient, share)


def _add(total: Array, share: Array) -> Array:
    if total.flags.writeable:
        return np.add(total, share, out=total)
    if share.flags.writeable:
        return np.add(total, share, out=share)
    return np.asarray(total + share)


def accumulate(leaf: Tensor, share: Array) -> None:
    """Add ``share`` to ``leaf.grad``, in the leaf's own type."""
    if leaf.grad is not None:
        leaf.grad += share
    elif share.flags.writeable and share.dtype == leaf.dtype:
        leaf.grad = share
    else:
        leaf.grad = np.array(share, dtype=leaf.dtype)


def _mark_shared(shares: list[Array | None]) -> list[Array | None]:
    """Make shares that have memory in common read-only: no one may reuse them."""
    if len(shares) == 1:
        return shares
    owners: dict[int, int] = {}
    for array in shares:
        if array is not None:
            owner = id(array if array.base is None else array.base)
            owners[owner] = owners.get(owner, 0) + 1
    return [
        _read_only(array)
        if array is not None and owners[id(array if array.base is None else array.base)] > 1
        else array
        for array in shares
    ]


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _leave_copies(retained: list[Any], gradient: Array) -> None:
    for reference in retained:
        tensor = reference()
        if tensor is not None:
            total = gradient if tensor.grad is None else tensor.grad + gradient
            tensor.grad = np.array(total, dtype=tensor.dtype)
