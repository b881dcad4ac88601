"""Recurrences without an activation: one by one or as a scan, and states that are matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    primitive,
    sigmoid,
    sum_to,
)
from chainrule.shapes import Array, Float


def scan(a: Array, b: Array) -> Array:
    """Return all h_t = a_t h_{t−1} + b_t with h_0 = 0, in 2 log₂ time levels of vectorized steps.

    a and b have one shape, whose first axis is time. Neighbours are joined in pairs, the sequence
    of pairs, half as long, is scanned, and the places between are filled in.
    Equation: architectures/rnns.md#eq-compose
    Source: Blelloch, *Prefix Sums and Their Applications*, 1990.
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b need one shape, received {a.shape} and {b.shape}")
    if len(b) < 2:
        return b.copy()
    first, second = slice(0, len(b) - 1, 2), slice(1, None, 2)
    h = np.empty_like(b)
    h[second] = scan(a[second] * a[first], a[second] * b[first] + b[second])
    h[0] = b[0]
    h[2::2] = a[2::2] * h[1:-1:2] + b[2::2]
    return h


@primitive
def linear_recurrence(a: Array, b: Array, *, by: str = "scan") -> Any:
    """All h_t = a_t h_{t−1} + b_t along axis −2, with h_0 = 0; a may broadcast.

    ``by`` is "scan" or "loop": the same numbers, in logarithmically many or in linearly many steps.
    The gradient is such a recurrence too, from the end to the beginning.
    Equation: architectures/rnns.md#eq-linear-recurrence
    """
    if by not in ("scan", "loop"):
        raise ValueError(f'by is "scan" or "loop", received {by!r}')
    along = scan if by == "scan" else _loop
    a_shape = np.shape(a)
    shape = np.broadcast_shapes(a_shape, b.shape)
    if shape != b.shape or len(shape) < 2:
        raise ValueError(f"a of shape {a_shape} does not fit b of shape {b.shape}")
    decay = np.moveaxis(np.broadcast_to(a, shape), -2, 0)
    h = along(decay, np.moveaxis(b, -2, 0))

    def vjp(g: Array) -> Any:
        ahead = np.concatenate([decay[1:], np.zeros_like(decay[:1])])  # a_{t+1}, none at the end
        b_grad = along(ahead[::-1], np.moveaxis(g, -2, 0)[::-1])[::-1]
        before = np.concatenate([np.zeros_like(h[:1]), h[:-1]])
        a_grad = np.moveaxis(b_grad * before, 0, -2)
        return sum_to(a_grad, a_shape), np.ascontiguousarray(np.moveaxis(b_grad, 0, -2))

    return np.ascontiguousarray(np.moveaxis(h, 0, -2)), vjp


def _loop(a: Array, b: Array) -> Array:
    h = np.empty_like(b)
    state = np.zeros_like(b[0]) if len(b) else None
    for t in range(len(b)):
        state = a[t] * state + b[t]
        h[t] = state
    return h


class LinearRecurrence(Module):
    """A layer whose units forget at rates of their own: h_t = a ⊙ h_{t−1} + W x_t + b.

    The rates a lie between 0 and 1, as sigmoids of trained numbers. At the start they stand for
    memories, 1/(1 − a), of 1.5 to ``longest`` steps, evenly on a logarithmic scale.
    Equation: architectures/rnns.md#eq-linear-recurrence
    Source: after Orvieto et al. 2023, arXiv:2303.06349, with real rates and without its scaling.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        longest: float,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if not longest >= 2:
            raise ValueError(f"the longest memory has at least two steps, received {longest}")
        self.n_in, self.n_hidden = n_in, n_hidden
        self.input = Linear(n_in, n_hidden, rng=rng, dtype=dtype)
        memory = np.geomspace(1.5, longest, n_hidden)
        self.rate = Parameter(np.log(memory - 1).astype(dtype))

    def forward(
        self, X: Float[Tensor, "batch time n_in"], by: str = "scan"
    ) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
        """Return all states and the last one."""
        H = linear_recurrence(sigmoid(self.rate), self.input(X), by=by)
        return H, H[:, -1]


def fast_weights(
    keys: Float[Array, "keys d_k"],
    values: Float[Array, "values d_v"],
    rule: str = "delta",
    beta: float = 1.0,
    S: Float[Array, "d_k d_v"] | None = None,
) -> Float[Array, "d_k d_v"]:
    """Return the memory after writing each value under its key; read it with ``query @ S``.

    Rule "hebb" adds k vᵀ. Rule "delta" adds k (v − Sᵀk)ᵀ: what S does not yet say, which for
    keys of length 1 is a step of gradient descent on ½‖Sᵀk − v‖². ``beta`` multiplies either.
    ``S`` is the memory to begin with, zeros if there is none.
    Equation: architectures/rnns.md#eq-hebb, architectures/rnns.md#eq-delta
    Source: Schlag, Irie, Schmidhuber 2021, arXiv:2102.11174.

    Raises:
        ValueError: the rule is unknown, or there are not as many keys as values.
    """
    if rule not in ("hebb", "delta"):
        raise ValueError(f'the rule is "hebb" or "delta", received {rule!r}')
    if len(keys) != len(values):
        raise ValueError(f"received {len(keys)} keys and {len(values)} values")
    S = np.zeros((keys.shape[1], values.shape[1]), keys.dtype) if S is None else S.copy()
    for k, v in zip(keys, values, strict=True):
        missing = v if rule == "hebb" else v - k @ S
        S += beta * np.outer(k, missing)
    return S
