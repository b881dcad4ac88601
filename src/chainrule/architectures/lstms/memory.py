"""How long a gate remembers: half-lives, biases chosen for them, and gates on show."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.architectures.lstms.cells import GRUCell, LSTMCell
from chainrule.architectures.lstms.layers import CharLSTM
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Float


def memory_half_life(f: Any) -> Any:
    """Return after how many steps a forget gate that stands at f has left one half: ln ½ / ln f.

    0 for f = 0, infinite for f = 1.
    Equation: architectures/lstms.md#eq-half-life

    Raises:
        ValueError: f is not between 0 and 1.
    """
    f = np.asarray(f, dtype=float)
    if not ((f >= 0) & (f <= 1)).all():
        raise ValueError(f"a forget gate stands between 0 and 1, received {f}")
    with np.errstate(divide="ignore"):
        return np.where(f == 1, np.inf, np.log(0.5) / np.log(f))[()]


def forget_bias(half_life: Any) -> Any:
    """Return the bias at which σ(bias) forgets one half in so many steps: −ln(2^(1/half_life) − 1).

    Equation: architectures/lstms.md#eq-half-life

    Raises:
        ValueError: the half-life is not positive.
    """
    half_life = np.asarray(half_life, dtype=float)
    if not (half_life > 0).all():
        raise ValueError(f"a half-life is positive, received {half_life}")
    return -np.log(np.expm1(np.log(2) / half_life))[()]


def chrono_init_(cell: LSTMCell | GRUCell, longest: float, rng: np.random.Generator) -> None:
    """Spread the memories of a fresh cell over 1 to ``longest`` steps, in place.

    In an LSTM the biases of the forget gate become ln u with u uniform in 1 … longest − 1, and
    those of the input gate −ln u; all other biases 0. In a GRU the update gate, which keeps, gets
    ln u.
    Equation: architectures/lstms.md#eq-chrono
    Source: Tallec, Ollivier 2018, arXiv:1804.11188. Section 3.

    Raises:
        ValueError: longest is below 2.
    """
    if not longest >= 2:
        raise ValueError(f"the longest memory has at least two steps, received {longest}")
    n = cell.n_hidden
    keep = np.log(rng.uniform(1, longest - 1, n))
    cell.bias.data[...] = 0
    cell.bias.data[n : 2 * n] = keep
    if isinstance(cell, LSTMCell):
        cell.bias.data[:n] = -keep
    elif cell.bias_h is not None:
        cell.bias_h.data[...] = 0


def gate_trace(model: CharLSTM, ids: Array) -> dict[str, Float[Array, "time hidden"]]:
    """Return what happens inside while one sequence is read: i, f, g, o, c and h at every step.

    Equation: architectures/lstms.md#eq-lstm

    Raises:
        ValueError: ids is not one sequence of whole numbers.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise ValueError(f"ids is one sequence, received shape {ids.shape} of {ids.dtype}")
    cell = model.rnn.cells[0]
    n = cell.n_hidden
    with no_grad():
        P = cell.project(ids).data
    h, c = np.zeros(n, P.dtype), np.zeros(n, P.dtype)
    rows: dict[str, list[Array]] = {name: [] for name in "ifgoch"}
    for p in P:
        z = p + cell.weight_h.data @ h
        gates = 1 / (1 + np.exp(-z))
        i, f, o, g = gates[:n], gates[n : 2 * n], gates[3 * n :], np.tanh(z[2 * n : 3 * n])
        c = f * c + i * g
        h = o * np.tanh(c)
        for name, value in zip("ifgoch", (i, f, g, o, c, h), strict=True):
            rows[name].append(value)
    return {name: np.array(found).reshape(len(ids), n) for name, found in rows.items()}
