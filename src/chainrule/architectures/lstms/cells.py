"""One step of an LSTM and of a GRU: the cells, and the LSTM's step with its gradient by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.rnns import RNNCell
from chainrule.neural_networks.backpropagation import Module, Parameter, Tensor, linear, split
from chainrule.shapes import Array, Float

Gradients = tuple[Array, Array, Array, Array, Array, Array]


class _GatedCell(Module):
    """What both cells share: ``gates`` blocks of weights, one below the other, uniform in ±1/√h."""

    gates: int

    def __init__(
        self, n_in: int, n_hidden: int, rng: np.random.Generator, dtype: DTypeLike
    ) -> None:
        if min(n_in, n_hidden) < 1:
            name = type(self).__name__
            raise ValueError(f"{name} needs sizes of at least 1, received {n_in} and {n_hidden}")
        self.n_in, self.n_hidden = n_in, n_hidden
        bound, rows = 1 / np.sqrt(n_hidden), self.gates * n_hidden
        self.weight_x = Parameter(rng.uniform(-bound, bound, (rows, n_in)).astype(dtype))
        self.weight_h = Parameter(rng.uniform(-bound, bound, (rows, n_hidden)).astype(dtype))
        self.bias = Parameter(rng.uniform(-bound, bound, rows).astype(dtype))

    def project(self, x: Any) -> Float[Tensor, "*batch gates"]:
        """Return W_x x + b for all gates: the part of a step that does not wait for the state."""
        return RNNCell.project(cast(RNNCell, self), x)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.n_in}, {self.n_hidden}"


class LSTMCell(_GatedCell):
    """One step of long short-term memory: from x, h and c to the next h and c.

    ``weight_x`` (4 hidden, n_in), ``weight_h`` (4 hidden, hidden) and ``bias`` (4 hidden) hold the
    blocks of the input gate, the forget gate, the candidate and the output gate, in this order,
    which is PyTorch's. They start uniform in ±1/√hidden, and the bias of the forget gate at
    ``forget_bias``, unless that is None.
    Equation: architectures/lstms.md#eq-lstm
    Source: Hochreiter, Schmidhuber 1997; the forget gate from Gers, Schmidhuber, Cummins 2000.

    Raises:
        ValueError: a size is below 1, or an input does not fit.
    """

    gates = 4

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        forget_bias: float | None = 1.0,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(n_in, n_hidden, rng, dtype)
        if forget_bias is not None:
            self.bias.data[n_hidden : 2 * n_hidden] = forget_bias

    def forward(
        self,
        x: Any,
        state: tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]] | None = None,
    ) -> tuple[Float[Tensor, "*batch hidden"], Float[Tensor, "*batch hidden"]]:
        """Return the next (h, c); without a state, the first ones after zeros."""
        z = self.project(x)
        if state is not None:
            z = z + linear(state[0], self.weight_h)
        i, f, g, o = split(z, self.n_hidden, axis=-1)
        c = i.sigmoid() * g.tanh()
        if state is not None:
            c = f.sigmoid() * state[1] + c
        return o.sigmoid() * c.tanh(), c


class GRUCell(_GatedCell):
    """One step of a gated recurrent unit: from x and h to the next h.

    ``weight_x`` (3 hidden, n_in), ``weight_h`` (3 hidden, hidden) and ``bias`` (3 hidden) hold the
    blocks of the reset gate, the update gate and the candidate, in this order, which is PyTorch's.
    With ``reset_after`` the reset gate multiplies W_h h plus a bias of its own, ``bias_h``, as in
    PyTorch; without, it multiplies h itself, as in the paper.
    Equation: architectures/lstms.md#eq-gru
    Source: Cho et al. 2014, arXiv:1406.1078.

    Raises:
        ValueError: a size is below 1, or an input does not fit.
    """

    gates = 3

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        reset_after: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        super().__init__(n_in, n_hidden, rng, dtype)
        bound = 1 / np.sqrt(n_hidden)
        self.bias_h = (
            Parameter(rng.uniform(-bound, bound, n_hidden).astype(dtype)) if reset_after else None
        )

    def forward(
        self, x: Any, h: Float[Tensor, "*batch hidden"] | None = None
    ) -> Float[Tensor, "*batch hidden"]:
        """Return the next state; without a state, the first one after zeros."""
        n, P = self.n_hidden, self.project(x)
        if h is None:
            h = Tensor(np.zeros((*P.shape[:-1], n), P.dtype))
        gates = (P[..., : 2 * n] + linear(h, self.weight_h[: 2 * n])).sigmoid()
        r, z = split(gates, n, axis=-1)
        if self.bias_h is None:
            told = linear(r * h, self.weight_h[2 * n :])
        else:
            told = r * linear(h, self.weight_h[2 * n :], self.bias_h)
        candidate = (P[..., 2 * n :] + told).tanh()
        return (1 - z) * candidate + z * h


def lstm_step_manual(
    x: Float[Array, "batch n_in"],
    h: Float[Array, "batch hidden"],
    c: Float[Array, "batch hidden"],
    W_x: Float[Array, "gates n_in"],
    W_h: Float[Array, "gates hidden"],
    b: Float[Array, "gates"],
) -> tuple[Array, Array, Callable[[Array, Array], Gradients]]:
    """Return the next h, the next c, and a function vjp: one step in plain NumPy.

    ``vjp(h_grad, c_grad)`` takes the gradients of the two outputs and returns those of x, h, c,
    W_x, W_h and b. The blocks of the weights are those of `LSTMCell`.
    Equation: architectures/lstms.md#eq-lstm, architectures/lstms.md#eq-lstm-back
    """
    i, f, g, o = np.split(x @ W_x.T + h @ W_h.T + b, 4, axis=1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c_new = f * c + i * g
    squeezed = np.tanh(c_new)

    def vjp(h_grad: Array, c_grad: Array) -> Gradients:
        c_total = c_grad + h_grad * o * (1 - squeezed**2)
        z_grad = np.concatenate(
            [
                c_total * g * i * (1 - i),
                c_total * c * f * (1 - f),
                c_total * i * (1 - g**2),
                h_grad * squeezed * o * (1 - o),
            ],
            axis=1,
        )
        return (
            z_grad @ W_x,
            z_grad @ W_h,
            c_total * f,
            z_grad.T @ x,
            z_grad.T @ h,
            z_grad.sum(axis=0),
        )

    return o * squeezed, c_new, vjp


def _sigmoid(z: Array) -> Array:
    return (np.tanh(z * 0.5) + 1) * 0.5
