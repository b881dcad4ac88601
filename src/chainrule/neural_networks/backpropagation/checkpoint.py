"""`checkpoint`: keep only a function's inputs, and compute its insides again when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation.grad_mode import (
    _mode,
    enable_grad,
    no_grad,
)
from chainrule.neural_networks.backpropagation.graph import Node
from chainrule.neural_networks.backpropagation.tensor import Tensor
from chainrule.shapes import Array

__all__ = ["checkpoint"]


def checkpoint(
    function: Callable[..., Tensor],
    *inputs: Any,
    generators: Sequence[np.random.Generator] = (),
) -> Tensor:
    """Return ``function(*inputs)``, saving nothing for the backward pass but the inputs.

    The backward pass runs the function once more, recorded, and walks that graph. Parameters
    that the function uses without being given them get their gradients too. ``generators``
    are the sources of randomness inside, rewound for the second run so that it draws the
    same numbers. Source: Chen et al. 2016, arXiv:1604.06174.
    """
    states = [generator.bit_generator.state for generator in generators]
    with no_grad():
        output = function(*inputs).detach()
    if not _mode.enabled:
        return output

    def vjp(gradient: Array) -> list[Any]:
        now = [generator.bit_generator.state for generator in generators]
        _rewind(generators, states)
        again = [_leaf(x) for x in inputs]
        with enable_grad():
            recomputed = function(*again)
        _rewind(generators, now)
        if recomputed.requires_grad:
            recomputed.backward(gradient)
        return [x.grad if isinstance(x, Tensor) else None for x in again]

    parents = tuple(
        (x._node or (x if x._requires_grad else None)) if isinstance(x, Tensor) else None
        for x in inputs
    )
    output._node = Node("checkpoint", output.shape, parents, vjp)
    return output


def _leaf(x: Any) -> Any:
    return Tensor(x.data, requires_grad=x.requires_grad) if isinstance(x, Tensor) else x


def _rewind(generators: Sequence[np.random.Generator], states: Sequence[Any]) -> None:
    for generator, state in zip(generators, states, strict=True):
        generator.bit_generator.state = state
