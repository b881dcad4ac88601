"""Backpropagation through time by hand and in pieces, how much of it arrives, and a test of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from chainrule.architectures.rnns.recurrent import CharRNN, RNNCell
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import cross_entropy

IGNORED = -100


def bptt_manual(
    params: Mapping[str, Array], ids: Int[Array, "batch time"], targets: Int[Array, "batch time"]
) -> tuple[float, dict[str, Array]]:
    """Return the mean cross-entropy of a character model and its gradients, in plain NumPy.

    ``params`` holds W_x (hidden, vocab), W_h (hidden, hidden), b, W_o (vocab, hidden) and b_o, by
    these names; the gradients have the same names. Targets of −100 count for nothing.
    Equation: architectures/rnns.md#eq-bptt, architectures/rnns.md#eq-readout
    """
    W_x, W_h, b, W_o, b_o = (params[name] for name in ("W_x", "W_h", "b", "W_o", "b_o"))
    batch, time = ids.shape
    H = np.zeros((time + 1, batch, len(b)), W_h.dtype)  # H[t] stands after t steps
    for t in range(time):
        H[t + 1] = np.tanh(W_x.T[ids[:, t]] + H[t] @ W_h.T + b)

    logits = H[1:].swapaxes(0, 1) @ W_o.T + b_o
    log_p = logits - logits.max(axis=-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=-1, keepdims=True))
    counted = targets != IGNORED
    onehot = np.arange(len(b_o)) == targets[..., None]
    loss = -float(log_p[onehot].sum() / counted.sum())
    O_grad = (np.exp(log_p) - onehot) * counted[..., None] / counted.sum()

    grads = {name: np.zeros_like(value) for name, value in params.items()}
    grads["b_o"] += O_grad.sum(axis=(0, 1))
    later = np.zeros_like(H[0])  # what reaches a state from the steps after it
    for t in reversed(range(time)):
        grads["W_o"] += O_grad[:, t].T @ H[t + 1]
        z_grad = (O_grad[:, t] @ W_o + later) * (1 - H[t + 1] ** 2)
        grads["W_h"] += z_grad.T @ H[t]
        grads["b"] += z_grad.sum(axis=0)
        np.add.at(grads["W_x"].T, ids[:, t], z_grad)
        later = z_grad @ W_h
    return loss, grads


def truncated_bptt(
    model: CharRNN,
    ids: Int[Array, "batch time"],
    targets: Int[Array, "batch time"],
    k: int,
    h0: Float[Tensor, "batch hidden"] | None = None,
) -> tuple[float, Tensor]:
    """Add the gradients of pieces of k steps to the model; return the mean loss and the last state.

    The state is handed on from piece to piece without its history, so no gradient passes a cut.
    With k at least the length this is backpropagation through time. The loss is divided by all
    targets that count, not piece by piece.
    Equation: architectures/rnns.md#eq-truncated

    Raises:
        ValueError: k is below 1, or no target counts.
    """
    if k < 1:
        raise ValueError(f"a piece has at least one step, received k = {k}")
    total = int((targets != IGNORED).sum())
    if not total:
        raise ValueError("no target counts: there is no loss to differentiate")
    loss, h = 0.0, h0
    for start in range(0, ids.shape[1], k):
        piece = slice(start, start + k)
        logits, h = model(ids[:, piece], h)
        if (targets[:, piece] != IGNORED).any():
            summed = cross_entropy(logits, targets[:, piece], reduction="sum") / total
            summed.backward()
            loss += summed.item()
        h = h.detach()
    assert h is not None
    return loss, h


def jacobian_norms(cell: RNNCell, X: Array) -> Float[Array, "time"]:
    """Return the spectral norm of the derivative of the last state with respect to earlier ones.

    X is one sequence, (time, n_in) or (time) whole numbers. Entry s belongs to the state s steps
    before the last: entry 0 is 1, entry 1 is the norm of one step's Jacobian, and so on.
    Equation: architectures/rnns.md#eq-jacobian-product
    """
    with no_grad():
        P = cell.project(X).data
    h, states = np.zeros(P.shape[1:], P.dtype), []
    for p in P:
        z = p + cell.weight_h.data @ h
        h = np.tanh(z) if cell.activation == "tanh" else np.maximum(z, 0)
        states.append(h)
    J = np.eye(P.shape[1])
    norms = []
    for h in reversed(states):
        norms.append(np.linalg.norm(J, 2))
        slope = 1 - h**2 if cell.activation == "tanh" else (h > 0).astype(P.dtype)
        J = (J * slope) @ cell.weight_h.data
    return np.array(norms)


def recall_task(
    rng: np.random.Generator, batch: int, delay: int, symbols: int = 8
) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
    """Return ids and targets: name the first symbol after ``delay`` distracting ones.

    A sequence is one of ``symbols`` symbols, then ``delay`` draws from as many others, then a mark
    that asks: delay + 2 positions, 2·symbols + 1 ids. Only the last target counts; others are −100.

    Raises:
        ValueError: there are no symbols, or the delay is negative.
    """
    if symbols < 1 or delay < 0:
        raise ValueError(f"recall_task received {symbols} symbols and a delay of {delay}")
    first = rng.integers(0, symbols, (batch, 1))
    between = rng.integers(symbols, 2 * symbols, (batch, delay))
    ids = np.concatenate([first, between, np.full((batch, 1), 2 * symbols)], axis=1)
    targets = np.full_like(ids, IGNORED)
    targets[:, -1] = first[:, 0]
    return ids, targets
