"""The cells along a sequence, fused: LSTM and GRU with layers and directions, and a text model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.architectures.lstms.cells import GRUCell, LSTMCell, _sigmoid
from chainrule.architectures.rnns import CharRNN
from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    ModuleList,
    Tensor,
    concat,
    primitive,
    stack,
)
from chainrule.shapes import Array, Bool, Float

State = tuple[Tensor, Tensor]


@primitive
def _lstm(P: Array, h0: Array, c0: Array, W_h: Array, *, mask: Any = None) -> Any:
    """All states of a batch, h in out[0] and c in out[1], of shape (2, batch, time, hidden).

    P (batch, time, 4 hidden) holds W_x x_t + b. Where the mask is false, both states are carried
    on. The gradient is that of `lstm_step_manual`, from the last step to the first.
    Equation: architectures/lstms.md#eq-lstm, architectures/lstms.md#eq-lstm-back
    """
    batch, time, n = len(P), P.shape[1], W_h.shape[1]
    half = np.repeat(np.array([0.5, 0.5, 1, 0.5], P.dtype), n)  # σ(z) = ½ tanh(½ z) + ½
    shift = np.repeat(np.array([0.5, 0.5, 0, 0.5], P.dtype), n)
    A = np.empty((time, batch, 4 * n), P.dtype)  # i, f, g, o of each step
    out = np.empty((2, batch, time, n), P.dtype)
    before = np.empty((2, time, batch, n), P.dtype)  # h and c before each step
    squeezed = np.empty((time, batch, n), P.dtype)
    h, c = h0, c0
    for t in range(time):
        before[0, t], before[1, t] = h, c
        A[t] = np.tanh((P[:, t] + h @ W_h.T) * half) * half + shift
        i, f, g, o = np.split(A[t], 4, axis=1)
        c_new = f * c + i * g
        squeezed[t] = np.tanh(c_new)
        h_new = o * squeezed[t]
        if mask is None:
            h, c = h_new, c_new
        else:
            read = mask[:, t, None]
            h, c = np.where(read, h_new, h), np.where(read, c_new, c)
        out[0, :, t], out[1, :, t] = h, c

    def vjp(out_grad: Array) -> Any:
        slope = A * (1 - A)
        slope[..., 2 * n : 3 * n] = 1 - A[..., 2 * n : 3 * n] ** 2
        z_grad = np.empty_like(A)
        h_grad, c_grad = np.zeros_like(h0), np.zeros_like(c0)
        for t in reversed(range(time)):
            h_grad, c_grad = h_grad + out_grad[0, :, t], c_grad + out_grad[1, :, t]
            i, f, g, o = np.split(A[t], 4, axis=1)
            c_total = c_grad + h_grad * o * (1 - squeezed[t] ** 2)
            parts = c_total * g, c_total * before[1, t], c_total * i, h_grad * squeezed[t]
            z_grad[t] = np.concatenate(parts, axis=1) * slope[t]
            if mask is None:
                h_grad, c_grad = z_grad[t] @ W_h, c_total * f
            else:
                read = mask[:, t, None]
                z_grad[t] *= read
                h_grad = np.where(read, z_grad[t] @ W_h, h_grad)
                c_grad = np.where(read, c_total * f, c_grad)
        W_h_grad = np.tensordot(z_grad, before[0], ((0, 1), (0, 1)))
        return np.ascontiguousarray(z_grad.swapaxes(0, 1)), h_grad, c_grad, W_h_grad

    return out, vjp


@primitive
def _gru(
    P: Array, h0: Array, W_h: Array, b_h: Array, *, mask: Any = None, reset_after: bool = True
) -> Any:
    """All states of a batch, (batch, time, hidden); P (batch, time, 3 hidden) holds W_x x_t + b.

    Without ``reset_after`` b_h is not used. Where the mask is false, the state is carried on.
    Equation: architectures/lstms.md#eq-gru
    """
    time, n = P.shape[1], W_h.shape[1]
    W_gates, W_n = W_h[: 2 * n], W_h[2 * n :]
    H = np.empty((len(P), time, n), P.dtype)
    kept = []
    h = h0
    for t in range(time):
        r, z = np.split(_sigmoid(P[:, t, : 2 * n] + h @ W_gates.T), 2, axis=1)
        if reset_after:
            read = h @ W_n.T + b_h  # what the reset gate multiplies
            told = r * read
        else:
            read = h
            told = (r * h) @ W_n.T
        candidate = np.tanh(P[:, t, 2 * n :] + told)
        kept.append((h, r, z, read, candidate))
        new = (1 - z) * candidate + z * h
        h = new if mask is None else np.where(mask[:, t, None], new, h)
        H[:, t] = h

    def vjp(H_grad: Array) -> Any:
        P_grad, h_grad = np.empty_like(P), np.zeros_like(h0)
        W_grad, b_grad = np.zeros_like(W_h), np.zeros_like(b_h)
        for t in reversed(range(time)):
            arrived = h_grad + H_grad[:, t]
            h_grad = arrived if mask is None else arrived * mask[:, t, None]
            h, r, z, read, candidate = kept[t]
            n_grad = h_grad * (1 - z) * (1 - candidate**2)
            z_grad = h_grad * (h - candidate) * z * (1 - z)
            if reset_after:
                read_grad = n_grad * r
                r_grad = n_grad * read * r * (1 - r)
                through = read_grad @ W_n
                W_grad[2 * n :] += read_grad.T @ h
                b_grad += read_grad.sum(axis=0)
            else:
                reset_grad = n_grad @ W_n
                r_grad = reset_grad * h * r * (1 - r)
                through = reset_grad * r
                W_grad[2 * n :] += n_grad.T @ (r * h)
            gates_grad = np.concatenate([r_grad, z_grad], axis=1)
            W_grad[: 2 * n] += gates_grad.T @ h
            P_grad[:, t] = np.concatenate([gates_grad, n_grad], axis=1)
            back = h_grad * z + through + gates_grad @ W_gates
            h_grad = back if mask is None else np.where(mask[:, t, None], back, arrived)
        return P_grad, h_grad, W_grad, b_grad

    return H, vjp


def _run_lstm(cell: LSTMCell, X: Any, state: State | None, mask: Any) -> tuple[Tensor, State]:
    P = _projected(cell, X, mask)
    h0, c0 = (_start(P, cell.n_hidden, part) for part in (state or (None, None)))
    out = _lstm(P, h0, c0, cell.weight_h, mask=mask)
    return out[0], (out[0, :, -1], out[1, :, -1]) if P.shape[1] else (h0, c0)


def _run_gru(cell: GRUCell, X: Any, h0: Tensor | None, mask: Any) -> tuple[Tensor, Tensor]:
    P = _projected(cell, X, mask)
    h0 = _start(P, cell.n_hidden, h0)
    after = cell.bias_h is not None
    b_h = cell.bias_h if cell.bias_h is not None else np.zeros(cell.n_hidden, P.dtype)
    H = _gru(P, h0, cell.weight_h, b_h, mask=mask, reset_after=after)
    return H, H[:, -1] if P.shape[1] else h0


def _projected(cell: LSTMCell | GRUCell, X: Any, mask: Array | None) -> Tensor:
    P = cell.project(X)
    if P.ndim != 3:
        raise ValueError(f"X needs the axes batch, time and features, received {np.shape(X)}")
    if mask is not None and mask.shape != P.shape[:2]:
        raise ValueError(f"mask has the shape {mask.shape}, expected {P.shape[:2]}")
    return P


def _start(P: Tensor, n: int, h0: Tensor | None) -> Tensor:
    if h0 is None:
        return Tensor(np.zeros((len(P.data), n), P.dtype))
    if h0.shape != (len(P.data), n):
        raise ValueError(f"a state has the shape {h0.shape}, expected {(len(P.data), n)}")
    return h0


class _Layers(Module):
    """Layers of cells, each in one direction or in both; PyTorch's order of layers and states."""

    cells: ModuleList

    def _build(self, make: Any, n_in: int, n_hidden: int, num_layers: int, both: bool) -> None:
        if num_layers < 1:
            raise ValueError(f"{type(self).__name__} needs a layer, received {num_layers}")
        self.n_hidden, self.num_layers, self.directions = n_hidden, num_layers, 1 + both
        widths = [n_in] + [n_hidden * self.directions] * (num_layers - 1)
        self.cells = ModuleList(make(w) for w in widths for _ in range(self.directions))

    def _along(self, run: Any, X: Any, states: list[Any], mask: Any) -> tuple[Tensor, list[Any]]:
        turned = None if mask is None else mask[:, ::-1]
        last = []
        for layer in range(self.num_layers):
            sides = []
            for side in range(self.directions):
                place = layer * self.directions + side
                order = slice(None, None, -1 if side else 1)
                H, end = run(
                    self.cells[place], X[:, order], states[place], turned if side else mask
                )
                sides.append(H[:, order])
                last.append(end)
            X = sides[0] if len(sides) == 1 else concat(sides, axis=-1)
        return X, last

    def _parts(self, name: str, state: Any) -> list[Any]:
        """The states of the single cells, from an array with an axis for them in front."""
        if state is None:
            return [None] * len(self.cells)
        if len(state.data) != len(self.cells):
            message = f"{name} holds states of {len(state.data)} cells"
            raise ValueError(f"{message}; there are {len(self.cells)}")
        return [state[i] for i in range(len(self.cells))]


class LSTM(_Layers):
    """LSTM cells along a sequence, fused; stacked, and in both directions, where asked for.

    The cells stand in ``cells``: the bottom layer first, in each layer forwards before backwards.
    Equation: architectures/lstms.md#eq-lstm

    Raises:
        ValueError: a size is below 1, or the shapes of X, state and mask do not fit each other.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        forget_bias: float | None = 1.0,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        def make(width: int) -> LSTMCell:
            return LSTMCell(width, n_hidden, forget_bias, rng=rng, dtype=dtype)

        self._build(make, n_in, n_hidden, num_layers, bidirectional)

    def forward(
        self, X: Any, state: State | None = None, mask: Bool[Array, "batch time"] | None = None
    ) -> tuple[Float[Tensor, "batch time both"], State]:
        """Return the states h of the top layer, and (h, c) after the end for all cells.

        X has the shape (batch, time, n_in), or (batch, time) if it holds whole numbers. h and c of
        ``state`` and of what is returned have the shape (layers · directions, batch, hidden); they
        start at zeros. Where ``mask`` is false, nothing is read and the state stays.
        """
        h0, c0 = state or (None, None)
        pairs = zip(self._parts("h", h0), self._parts("c", c0), strict=True)
        states = [None if h is None else (h, c) for h, c in pairs]
        H, last = self._along(_run_lstm, X, states, mask)
        return H, (stack([h for h, _ in last]), stack([c for _, c in last]))


class GRU(_Layers):
    """GRU cells along a sequence, fused; stacked, and in both directions, where asked for.

    Equation: architectures/lstms.md#eq-gru

    Raises:
        ValueError: a size is below 1, or the shapes of X, h0 and mask do not fit each other.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        reset_after: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        def make(width: int) -> GRUCell:
            return GRUCell(width, n_hidden, reset_after, rng=rng, dtype=dtype)

        self._build(make, n_in, n_hidden, num_layers, bidirectional)

    def forward(
        self,
        X: Any,
        h0: Float[Tensor, "cells batch hidden"] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time both"], Float[Tensor, "cells batch hidden"]]:
        """Return the states of the top layer and those after the end; shapes as in `LSTM`."""
        H, last = self._along(_run_gru, X, self._parts("h0", h0), mask)
        return H, stack(last)


class CharLSTM(CharRNN):
    """A model of characters whose memory is one LSTM layer: ids in, logits of the next one out.

    Equation: architectures/lstms.md#eq-lstm, architectures/rnns.md#eq-readout
    """

    rnn: LSTM  # type: ignore[assignment]

    def __init__(
        self,
        vocab: int,
        n_hidden: int,
        forget_bias: float | None = 1.0,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.vocab, self.n_hidden = vocab, n_hidden
        self.rnn = LSTM(vocab, n_hidden, forget_bias=forget_bias, rng=rng, dtype=dtype)
        self.output = Linear(n_hidden, vocab, rng=rng, dtype=dtype)

    def forward(  # type: ignore[override]
        self, ids: Array, state: State | None = None, mask: Bool[Array, "batch time"] | None = None
    ) -> tuple[Float[Tensor, "batch time vocab"], State]:
        """Return logits for the character after each position, and the last (h, c)."""
        H, state = self.rnn(ids, state, mask)
        return self.output(H), state
