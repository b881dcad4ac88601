"""Gradient clipping: all gradients scaled by one factor, or each number cut off."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array
from chainrule.training.optimizers.groups import as_wide

__all__ = ["clip_grad_norm_", "clip_grad_value_", "joint_norm"]


def _gradients(params: Tensor | Iterable[Tensor]) -> list[Array]:
    several = [params] if isinstance(params, Tensor) else params
    return [p.grad for p in several if p.grad is not None]


def clip_grad_norm_(
    params: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients by one factor so that their joint norm is at most ``max_norm``.

    Returns the norm before clipping; ``norm_type`` may be ``inf``. The factor is
    max_norm/(norm + 1e-6), as in PyTorch.

    Equation: training/optimizers.md#eq-clip-norm
    Source: Pascanu et al., On the difficulty of training recurrent neural networks, 2012,
    arXiv:1211.5063.

    Raises:
        ValueError: ``max_norm`` is negative or NaN, or the norm is not finite and
            ``error_if_nonfinite`` is set.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    gradients = _gradients(params)
    norm = joint_norm(gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(
            f"clip_grad_norm_: the norm of the gradients is {norm}: leave this step out, "
            "or set error_if_nonfinite=False"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:
        with np.errstate(invalid="ignore"):  # an infinite norm makes the factor 0
            for g in gradients:
                if g.dtype == wide(g.dtype):
                    g *= factor
                else:
                    g[...] = as_wide(g) * factor
    return norm


# For each type, squares below this are rounded so coarsely that a sum of them may be wrong.
_LEAST = {c: float(np.finfo(c).tiny) / float(np.finfo(c).eps) for c in "fd"} | {"g": 0.0}


def joint_norm(arrays: list[Array], kind: float) -> float:
    """The norm of all numbers together: right wherever it fits, although squares may not fit.

    Norms of kind 0 are counted by array, as in PyTorch: how many hold a number that is not 0.
    """
    arrays = [as_wide(a) for a in arrays if a.size]
    if kind == 2:  # the usual case, if no square overflows, and none that matters vanishes
        total = sum(float(np.vdot(a, a)) for a in arrays)
        least = sum(a.size * _LEAST[a.dtype.char] for a in arrays)
        if least < total < math.inf:
            return math.sqrt(total)
    if kind == 0 or not arrays:
        return float(sum(bool(a.any()) for a in arrays))
    if kind == -math.inf:
        return float(np.min([np.abs(a).min() for a in arrays]))
    largest = float(np.max([np.abs(a).max() for a in arrays]))
    if kind == math.inf or largest == 0 or not math.isfinite(largest):
        return largest
    with np.errstate(divide="ignore", over="ignore"):
        terms = [np.sum((np.abs(a) / largest) ** kind, dtype=np.float64) for a in arrays]
        return float(largest * np.sum(terms) ** (1 / kind))


def clip_grad_value_(params: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every number of every gradient to ±``clip_value``: the direction changes.

    Raises:
        ValueError: ``clip_value`` is negative or NaN.
    """
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for g in _gradients(params):
        np.clip(g, -clip_value, clip_value, out=g)
