"""`checkpoint`: keep only a function's inputs, and compute its insides again when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation.edits import clock, edits_since
from chainrule.neural_networks.backpropagation.grad_mode import (
    _mode,
    enable_grad,
    no_grad,
)
from chainrule.neural_networks.backpropagation.graph import Node, ancestors
from chainrule.neural_networks.backpropagation.tensor import Tensor, recorded_parents
from chainrule.shapes import Array

__all__ = ["checkpoint"]


def checkpoint(
    function: Callable[..., Tensor],
    *inputs: Any,
    generators: Sequence[np.random.Generator] = (),
    **options: Any,
) -> Tensor:
    """Return ``function(*inputs, **options)``, saving nothing for the backward pass but those.

    The backward pass runs the function once more, recorded, and walks that graph. Parameters
    that the function uses without being given them get their gradients too. ``generators``
    are the sources of randomness inside, rewound for the second run so that it draws the
    same numbers. Source: Chen et al. 2016, arXiv:1604.06174.
    """
    if options:
        function = _by_position(function, len(inputs), options)
        inputs = (*inputs, *options.values())
    order = next(clock)
    states = [generator.bit_generator.state for generator in generators]
    met_before, _mode.met_gradient = _mode.met_gradient, False
    with no_grad():
        output = function(*inputs).detach()
    needed, _mode.met_gradient = _mode.met_gradient, _mode.met_gradient or met_before
    if not (_mode.enabled and needed):
        return output

    def vjp(gradient: Array) -> list[Any]:
        now = [generator.bit_generator.state for generator in generators]
        _rewind(generators, states)
        again = [_leaf(x) for x in inputs]
        with enable_grad():
            recomputed = function(*again)
        _rewind(generators, now)
        _refuse_changed_parameters(recomputed, order)
        if recomputed.requires_grad:
            recomputed.backward(gradient)
        return [_gradient(x) for x in again]

    parents = recorded_parents(inputs) or ()
    output._node = Node("checkpoint", output.data, parents, vjp)
    return output


def _by_position(
    function: Callable[..., Tensor], count: int, options: dict[str, Any]
) -> Callable[..., Tensor]:
    """The function with its options behind ``count`` inputs: they may need gradients, too."""
    names = tuple(options)

    def call(*inputs: Any) -> Tensor:
        return function(*inputs[:count], **dict(zip(names, inputs[count:], strict=True)))

    return call


def _refuse_changed_parameters(recomputed: Tensor, order: int) -> None:
    """Raise if the second run read a parameter that was overwritten since the first."""
    edits = edits_since(order)
    if not edits or recomputed._node is None:
        return
    leaves = {id(p): p for node in ancestors(recomputed._node) for p in node.parents
              if isinstance(p, Tensor)}  # fmt: skip
    if any(edit.touches(leaf.data) for leaf in leaves.values() for edit in edits):
        raise RuntimeError(
            "a parameter of a checkpointed function was modified in place after its forward pass: "
            "run the forward pass again, or backward() before the edit"
        )


def _gradient(x: Any) -> Array | None:
    if not isinstance(x, Tensor) or not x.requires_grad:
        return None
    return np.zeros(x.shape, x.dtype) if x.grad is None else x.grad


def _leaf(x: Any) -> Any:
    return Tensor(x.data, requires_grad=x.requires_grad) if isinstance(x, Tensor) else x


def _rewind(generators: Sequence[np.random.Generator], states: Sequence[Any]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
