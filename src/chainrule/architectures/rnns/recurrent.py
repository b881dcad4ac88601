"""The cell, the loop over time as one operation with its gradient, and models made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    ModuleList,
    Parameter,
    Tensor,
    concat,
    linear,
    primitive,
    relu,
    take,
    tanh,
)
from chainrule.shapes import Array, Bool, Float

ACTIVATIONS = {"tanh": tanh, "relu": relu}


class RNNCell(Module):
    """One step: the new state is φ(W_x x + W_h h + b), with φ = tanh or ReLU.

    ``weight_x`` has the shape (hidden, n_in), ``weight_h`` (hidden, hidden), ``bias`` (hidden).
    All start uniform in ±1/√hidden, PyTorch's default. An input of whole numbers is read as the
    numbers of columns of ``weight_x``, which is what one-hot vectors would pick.
    Equation: architectures/rnns.md#eq-elman

    Raises:
        ValueError: a size is below 1, the activation is unknown, or an input does not fit.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        activation: str = "tanh",
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if min(n_in, n_hidden) < 1:
            raise ValueError(f"RNNCell needs sizes of at least 1, received {n_in} and {n_hidden}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is one of {', '.join(ACTIVATIONS)}, not {activation!r}")
        self.n_in, self.n_hidden, self.activation = n_in, n_hidden, activation
        bound = 1 / np.sqrt(n_hidden)
        self.weight_x = Parameter(rng.uniform(-bound, bound, (n_hidden, n_in)).astype(dtype))
        self.weight_h = Parameter(rng.uniform(-bound, bound, (n_hidden, n_hidden)).astype(dtype))
        self.bias = Parameter(rng.uniform(-bound, bound, n_hidden).astype(dtype))

    def project(self, x: Any) -> Float[Tensor, "*batch hidden"]:
        """Return W_x x + b: the part of a step that does not wait for the state."""
        values = x.data if isinstance(x, Tensor) else np.asarray(x)
        if values.dtype.kind in "iu":
            if values.size and not 0 <= values.min() <= values.max() < self.n_in:
                message = f"ids reach from {values.min()} to {values.max()}"
                raise ValueError(f"{message}; the cell knows 0 to {self.n_in - 1}")
            return take(self.weight_x.T, values) + self.bias
        if values.shape[-1:] != (self.n_in,):
            raise ValueError(f"the cell expects {self.n_in} features, received {values.shape}")
        return linear(x, self.weight_x, self.bias)

    def forward(
        self, x: Any, h: Float[Tensor, "*batch hidden"] | None = None
    ) -> Float[Tensor, "*batch hidden"]:
        """Return the next state; without a state, the first one after zeros."""
        z = self.project(x)
        return ACTIVATIONS[self.activation](z if h is None else z + linear(h, self.weight_h))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.n_in}, {self.n_hidden}, {self.activation}"


@primitive
def _recur(P: Array, h0: Array, W_h: Array, *, mask: Any = None, activation: str = "tanh") -> Any:
    """All states φ(P_t + W_h h_{t−1}) of a batch, and backpropagation through time.

    P (batch, time, hidden) holds W_x x_t + b. Where the mask is false, the state is carried on.
    Equation: architectures/rnns.md#eq-elman, architectures/rnns.md#eq-bptt
    """
    H = np.empty_like(P)
    h = h0
    for t in range(P.shape[1]):
        new = P[:, t] + h @ W_h.T
        new = np.tanh(new) if activation == "tanh" else np.maximum(new, 0)
        h = new if mask is None else np.where(mask[:, t, None], new, h)
        H[:, t] = h

    def vjp(g: Array) -> Any:
        P_grad = np.empty_like(g)
        h_grad = np.zeros_like(h0)
        for t in reversed(range(P_grad.shape[1])):
            h_grad = h_grad + g[:, t]
            slope = 1 - H[:, t] ** 2 if activation == "tanh" else H[:, t] > 0
            P_grad[:, t] = h_grad * slope
            if mask is None:
                h_grad = P_grad[:, t] @ W_h
            else:
                P_grad[:, t] *= mask[:, t, None]
                h_grad = np.where(mask[:, t, None], P_grad[:, t] @ W_h, h_grad)
        before = np.concatenate([h0[:, None], H[:, :-1]], axis=1)
        W_h_grad = np.tensordot(P_grad, before[:, : P_grad.shape[1]], ((0, 1), (0, 1)))
        return P_grad, h_grad, W_h_grad

    return H, vjp


class RNN(Module):
    """A cell applied along a sequence, fused: all states by one operation.

    Equation: architectures/rnns.md#eq-elman
    """

    def __init__(self, cell: RNNCell) -> None:
        self.cell = cell

    def forward(
        self,
        X: Any,
        h0: Float[Tensor, "batch hidden"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time hidden"], Float[Tensor, "batch hidden"]]:
        """Return all states and the last one.

        X has the shape (batch, time, n_in), or (batch, time) if it holds whole numbers. ``h0`` is
        the state to begin with, zeros if there is none. Where ``mask`` is false, nothing is read
        and the state stays: the last state of a padded sequence is that of its true end.

        Raises:
            ValueError: the shapes of X, h0 and mask do not fit each other.
        """
        P = self.cell.project(X)
        if P.ndim != 3:
            raise ValueError(f"X needs the axes batch, time and features, received {np.shape(X)}")
        batch, time, hidden = P.shape
        h0 = Tensor(np.zeros((batch, hidden), P.dtype)) if h0 is None else h0
        if h0.shape != (batch, hidden):
            raise ValueError(f"h0 has the shape {h0.shape}, expected {(batch, hidden)}")
        if mask is not None and mask.shape != (batch, time):
            raise ValueError(f"mask has the shape {mask.shape}, expected {(batch, time)}")
        H = _recur(P, h0, self.cell.weight_h, mask=mask, activation=self.cell.activation)
        return H, H[:, -1] if time else h0


class Stacked(ModuleList):
    """Recurrent layers one on top of the other: each reads the states of the one below."""

    def forward(self, X: Any, mask: Bool[Array, "batch time"] | None = None) -> tuple[Tensor, Any]:
        """Return the states of the top layer, and the list of last states from the bottom up."""
        last = []
        for layer in self:
            X, h = layer(X, mask=mask)
            last.append(h)
        return X, last


class Bidirectional(Module):
    """Two layers that read the sequence forwards and backwards; their states stand side by side."""

    def __init__(self, forwards: Module, backwards: Module) -> None:
        self.forwards, self.backwards = forwards, backwards

    def forward(
        self, X: Any, mask: Bool[Array, "batch time"] | None = None
    ) -> tuple[Float[Tensor, "batch time both"], Float[Tensor, "batch both"]]:
        """Return all states, and the two last ones: of the end, and of the beginning."""
        turned = None if mask is None else mask[:, ::-1]
        H, h = self.forwards(X, mask=mask)
        K, k = self.backwards(X[:, ::-1], mask=turned)
        return concat([H, K[:, ::-1]], axis=-1), concat([h, k], axis=-1)


class CharRNN(Module):
    """A model of characters: reads ids one at a time and gives the logits of the next.

    Equation: architectures/rnns.md#eq-elman, architectures/rnns.md#eq-readout
    """

    def __init__(
        self,
        vocab: int,
        n_hidden: int,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.vocab, self.n_hidden = vocab, n_hidden
        self.rnn = RNN(RNNCell(vocab, n_hidden, rng=rng, dtype=dtype))
        self.output = Linear(n_hidden, vocab, rng=rng, dtype=dtype)

    def forward(
        self,
        ids: Array,
        h0: Float[Tensor, "batch hidden"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time vocab"], Float[Tensor, "batch hidden"]]:
        """Return logits for the character after each position, and the last state."""
        H, h = self.rnn(ids, h0, mask)
        return self.output(H), h
