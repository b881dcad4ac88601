"""Blind set of modern-llms/efficient-adaptation: written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.modern_llms.efficient_adaptation import NF4


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---- largest_rank --------------------------------------------------------------------------------


@wrong("largest_rank", "Counts two bytes for a trained number.", known="too_few_bytes")
def _(memory, N, shapes):
    one = 2 * sum(m + n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 2 * N) // one, 0).astype(int)


@wrong("largest_rank", "Forgets the frozen model.", known="without_the_model")
def _(memory, N, shapes):
    one = 16 * sum(m + n for m, n in shapes)
    return (np.asarray(memory) // one).astype(int)


@wrong("largest_rank", "Lets the rank fall below zero.")
def _(memory, N, shapes):
    one = 16 * sum(m + n for m, n in shapes)
    return ((np.asarray(memory) - 2 * N) // one).astype(int)


@wrong("largest_rank", "Rounds to the nearest rank.")
def _(memory, N, shapes):
    one = 16 * sum(m + n for m, n in shapes)
    return np.maximum(np.round((np.asarray(memory) - 2 * N) / one), 0).astype(int)


@wrong("largest_rank", "Trains the whole matrices.", known="whole_matrices")
def _(memory, N, shapes):
    one = 16 * sum(m * n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 2 * N) // one, 0).astype(int)


@wrong("largest_rank", "Leaves out the gradient.", known="too_few_bytes")
def _(memory, N, shapes):
    one = 14 * sum(m + n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 2 * N) // one, 0).astype(int)


# ---- merged --------------------------------------------------------------------------------------


@wrong("merged", "Leaves the scale out.", known="scale_forgotten")
def _(W, updates):
    return W + sum((B @ A for A, B, alpha in updates), np.zeros_like(W))


@wrong("merged", "Multiplies by alpha and does not divide by the rank.", known="alpha_alone")
def _(W, updates):
    return W + sum((alpha * B @ A for A, B, alpha in updates), np.zeros_like(W))


@wrong("merged", "Divides by the rank of the first update everywhere.", known="rank_of_the_first")
def _(W, updates):
    out = W.copy()
    for A, B, alpha in updates:
        out = out + alpha / len(updates[0][0]) * B @ A
    return out


@wrong("merged", "Divides by the number of columns of A.", known="by_the_width")
def _(W, updates):
    out = W.copy()
    for A, B, alpha in updates:
        out = out + alpha / A.shape[1] * B @ A
    return out


@wrong("merged", "Divides by the root of the rank.", known="by_the_root")
def _(W, updates):
    out = W.copy()
    for A, B, alpha in updates:
        out = out + alpha / np.sqrt(len(A)) * B @ A
    return out


@wrong("merged", "Takes the mean of the updates.", known="mean_of_updates")
def _(W, updates):
    return W + sum((alpha / len(A) * B @ A for A, B, alpha in updates), 0 * W) / len(updates)


@wrong("merged", "Merges the last update only.")
def _(W, updates):
    for A, B, alpha in updates:
        out = W + alpha / len(A) * B @ A
    return out


# ---- prepend -------------------------------------------------------------------------------------


@wrong("prepend", "Takes the mean over the batch for the gradient of P.", known="mean_of_texts")
def _(P, X):
    n = len(P)
    out = np.concatenate([np.broadcast_to(P, (len(X), *P.shape)), X], axis=1)
    return out, lambda g: (g[:, :n].mean(axis=0), g[:, n:])


@wrong("prepend", "Does not add up over the batch.")
def _(P, X):
    n = len(P)
    out = np.concatenate([np.broadcast_to(P, (len(X), *P.shape)), X], axis=1)
    return out, lambda g: (g[:, :n], g[:, n:])


@wrong("prepend", "Puts the rows behind the text.", known="behind")
def _(P, X):
    n = X.shape[1]
    out = np.concatenate([X, np.broadcast_to(P, (len(X), *P.shape))], axis=1)
    return out, lambda g: (g[:, n:].sum(axis=0), g[:, :n])


@wrong("prepend", "Takes the gradient of the first text alone.", known="one_text")
def _(P, X):
    n = len(P)
    out = np.concatenate([np.broadcast_to(P, (len(X), *P.shape)), X], axis=1)
    return out, lambda g: (g[0, :n], g[:, n:])


@wrong("prepend", "Returns the gradients in the other order.")
def _(P, X):
    n = len(P)
    out = np.concatenate([np.broadcast_to(P, (len(X), *P.shape)), X], axis=1)
    return out, lambda g: (g[:, n:], g[:, :n].sum(axis=0))


# ---- low_rank_by_row -----------------------------------------------------------------------------


@wrong("low_rank_by_row", "Leaves the scale out.", known="no_scale")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    if ((which < 0) | (which >= len(A))).any():
        raise ValueError("no such update")
    return x @ A[which].transpose(0, 2, 1) @ B[which].transpose(0, 2, 1)


@wrong("low_rank_by_row", "Lets negative numbers count from the end.")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    if (which >= len(A)).any():
        raise ValueError("no such update")
    return scale * x @ A[which].transpose(0, 2, 1) @ B[which].transpose(0, 2, 1)


@wrong("low_rank_by_row", "Lets IndexError through.")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    return scale * x @ A[which].transpose(0, 2, 1) @ B[which].transpose(0, 2, 1)


@wrong("low_rank_by_row", "Uses the scale twice.", known="squared_scale")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    if ((which < 0) | (which >= len(A))).any():
        raise ValueError("no such update")
    return scale * (scale * x @ A[which].transpose(0, 2, 1)) @ B[which].transpose(0, 2, 1)


@wrong("low_rank_by_row", "Gives every request the update of its place.", known="by_place")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    if ((which < 0) | (which >= len(A))).any():
        raise ValueError("no such update")
    mine = np.arange(len(x)) % len(A)
    return scale * x @ A[mine].transpose(0, 2, 1) @ B[mine].transpose(0, 2, 1)


@wrong("low_rank_by_row", "Gives every request the update of the first.", known="the_first_for_all")
def _(x, which, A, B, scale=1.0):
    which = np.asarray(which)
    if ((which < 0) | (which >= len(A))).any():
        raise ValueError("no such update")
    return scale * x @ A[which[0]].T @ B[which[0]].T


# ---- low_rank ------------------------------------------------------------------------------------


@wrong("low_rank", "Forgets the scale in the gradients.", known="none_has_the_scale")
def _(x, A, B, scale):
    h = x @ A.T
    return scale * h @ B.T, lambda g: (g @ B @ A, (g @ B).T @ x, g.T @ h)


@wrong("low_rank", "Meets the scale twice.", known="one_meets_it_twice")
def _(x, A, B, scale):
    h = scale * x @ A.T

    def vjp(g):
        g = scale * g
        return g @ B @ A, (g @ B).T @ x, g.T @ h

    return h @ B.T, vjp


@wrong("low_rank", "Scales the gradients of the factors, not that of x.", known="one_without_scale")
def _(x, A, B, scale):
    h = x @ A.T
    return scale * h @ B.T, lambda g: (g @ B @ A, scale * (g @ B).T @ x, scale * g.T @ h)


@wrong("low_rank", "Returns the gradient of A transposed.")
def _(x, A, B, scale):
    h = x @ A.T

    def vjp(g):
        g = scale * g
        return g @ B @ A, x.T @ (g @ B), g.T @ h

    return scale * h @ B.T, vjp


@wrong("low_rank", "Exchanges the gradients of the factors.", known="exchanged_gradients")
def _(x, A, B, scale):
    h = x @ A.T

    def vjp(g):
        g = scale * g
        return g @ B @ A, g.T @ h, (g @ B).T @ x

    return scale * h @ B.T, vjp


@wrong("low_rank", "Forgets the gradient of x.")
def _(x, A, B, scale):
    h = x @ A.T

    def vjp(g):
        g = scale * g
        return np.zeros_like(x), (g @ B).T @ x, g.T @ h

    return scale * h @ B.T, vjp


@wrong("low_rank", "Takes means over the rows.")
def _(x, A, B, scale):
    h = x @ A.T

    def vjp(g):
        g = scale * g
        return g @ B @ A, (g @ B).T @ x / len(x), g.T @ h / len(x)

    return scale * h @ B.T, vjp


# ---- adapt ---------------------------------------------------------------------------------------


@wrong("adapt", "Moves A with the new B.", known="one_after_the_other")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        B = B - lr * scale * G.T @ (X @ A.T)
        A = A - lr * scale * (G @ B).T @ X
    return W + scale * B @ A


@wrong("adapt", "Starts both factors at zero.", known="both_zero")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = np.zeros((r, n)), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        A, B = A - lr * scale * B.T @ G.T @ X, B - lr * scale * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "Starts A in ±1/n.", known="narrow_start")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1 / n, 1 / n, (r, n)), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        A, B = A - lr * scale * B.T @ G.T @ X, B - lr * scale * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "No scale in the gradients.", known="gradients_without_scale")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        A, B = A - lr * B.T @ G.T @ X, B - lr * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "Takes the mean of the squared errors.", known="mean_of_squares")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = (X @ (W + scale * B @ A).T - Y) / len(X)
        A, B = A - lr * scale * B.T @ G.T @ X, B - lr * scale * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "Forgets the half: the gradient is twice as large.", known="without_the_half")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = 2 * (X @ (W + scale * B @ A).T - Y)
        A, B = A - lr * scale * B.T @ G.T @ X, B - lr * scale * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "Trains B only.", known="one_moves")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        B = B - lr * scale * G.T @ X @ A.T
    return W + scale * B @ A


@wrong("adapt", "Returns the matrix without the scale.", known="scale_at_the_end")
def _(W, X, Y, r, scale, lr, steps, rng):
    m, n = W.shape
    A, B = rng.uniform(-1, 1, (r, n)) / np.sqrt(n), np.zeros((m, r))
    for _ in range(steps):
        G = X @ (W + scale * B @ A).T - Y
        A, B = A - lr * scale * B.T @ G.T @ X, B - lr * scale * G.T @ X @ A.T
    return W + B @ A


# ---- prefix_attention ----------------------------------------------------------------------------


def _prefixed(Q, K, V, PK, PV, first=None, root=None, hide=True, causal=True):
    T, n = len(Q), len(PK)
    scores = np.concatenate([Q @ PK.T, Q @ K.T], axis=1) / (root or np.sqrt(Q.shape[1]))
    seen = np.arange(T) <= np.arange(T)[:, None] if causal else np.ones((T, T), bool)
    before = np.ones((T, n), bool) if first is None else first(T, n)
    P = _softmax(np.where(np.concatenate([before, seen], axis=1), scores, -np.inf))
    return P @ np.concatenate([PV, V]), P[:, :n].sum(axis=1)


@wrong(
    "prefix_attention",
    "Hides the trained keys like those of the text.",
    known="trained_keys_in_a_triangle",
)
def _(Q, K, V, PK, PV):
    return _prefixed(Q, K, V, PK, PV, lambda T, n: np.arange(n) <= np.arange(T)[:, None])


@wrong("prefix_attention", "Hides nothing.", known="no_mask")
def _(Q, K, V, PK, PV):
    return _prefixed(Q, K, V, PK, PV, causal=False)


@wrong("prefix_attention", "Does not divide the scores.", known="no_root")
def _(Q, K, V, PK, PV):
    return _prefixed(Q, K, V, PK, PV, root=1.0)


@wrong("prefix_attention", "Counts the trained keys into the triangle.", known="hidden_like_tokens")
def _(Q, K, V, PK, PV):
    T, n = len(Q), len(PK)
    scores = Q @ np.concatenate([PK, K]).T / np.sqrt(Q.shape[1])
    P = _softmax(np.where(np.arange(n + T) <= np.arange(T)[:, None], scores, -np.inf))
    return P @ np.concatenate([PV, V]), P[:, :n].sum(axis=1)


@wrong("prefix_attention", "Two softmaxes, added.", known="two_softmaxes")
def _(Q, K, V, PK, PV):
    T, d = Q.shape
    seen = np.arange(T) <= np.arange(T)[:, None]
    text = _softmax(np.where(seen, Q @ K.T / np.sqrt(d), -np.inf)) @ V
    own = _softmax(Q @ PK.T / np.sqrt(d))
    return text + own @ PV, own.sum(axis=1)


@wrong("prefix_attention", "Returns the share of the text.", known="share_of_the_text")
def _(Q, K, V, PK, PV):
    y, share = _prefixed(Q, K, V, PK, PV)
    return y, 1 - share


@wrong("prefix_attention", "Returns the mean weight of a trained key.")
def _(Q, K, V, PK, PV):
    y, share = _prefixed(Q, K, V, PK, PV)
    return y, share / len(PK)


@wrong("prefix_attention", "A query does not see its own key.", known="own_key_hidden")
def _(Q, K, V, PK, PV):
    T, n = len(Q), len(PK)
    scores = np.concatenate([Q @ PK.T, Q @ K.T], axis=1) / np.sqrt(Q.shape[1])
    seen = np.arange(T) < np.arange(T)[:, None]
    P = _softmax(np.where(np.concatenate([np.ones((T, n), bool), seen], axis=1), scores, -np.inf))
    return P @ np.concatenate([PV, V]), P[:, :n].sum(axis=1)


# ---- four_bits -----------------------------------------------------------------------------------


def _codes(w, block, levels=NF4):
    rows = np.asarray(w, float).reshape(-1, block)
    scale = np.abs(rows).max(axis=1)
    safe = np.where(scale == 0, 1, scale)
    codes = np.abs((rows / safe[:, None])[..., None] - levels).argmin(axis=-1).ravel()
    return codes.astype(np.uint8), scale


@wrong("four_bits", "Puts the first code into the high half.", known="high_half_first")
def _(w, block):
    codes, scale = _codes(w, block)
    return (codes[::2] << 4) | codes[1::2], scale


@wrong("four_bits", "Does not pack.")
def _(w, block):
    return _codes(w, block)


@wrong("four_bits", "Divides a block of zeros by its scale.")
def _(w, block):
    rows = np.asarray(w, float).reshape(-1, block)
    scale = np.abs(rows).max(axis=1)
    with np.errstate(all="ignore"):
        scaled = rows / scale[:, None]
    codes = np.abs(scaled[..., None] - NF4).argmin(axis=-1).ravel().astype(np.uint8)
    return codes[::2] | (codes[1::2] << 4), scale


@wrong("four_bits", "Gives a block of zeros the scale 1.")
def _(w, block):
    codes, scale = _codes(w, block)
    return codes[::2] | (codes[1::2] << 4), np.where(scale == 0, 1, scale)


@wrong(
    "four_bits",
    "Takes the largest value, with its sign off, for the whole array.",
    known="one_scale",
)
def _(w, block):
    w = np.asarray(w, float)
    codes, _ = _codes(w, len(w))
    return codes[::2] | (codes[1::2] << 4), np.full(len(w) // block, np.abs(w).max())


@wrong("four_bits", "Forgets the absolute value in the scale.", known="signed_peak")
def _(w, block):
    rows = np.asarray(w, float).reshape(-1, block)
    scale = rows.max(axis=1)
    safe = np.where(scale == 0, 1, scale)
    codes = np.abs((rows / safe[:, None])[..., None] - NF4).argmin(axis=-1).ravel()
    codes = codes.astype(np.uint8)
    return codes[::2] | (codes[1::2] << 4), scale


@wrong("four_bits", "Evenly spaced levels.", known="even_levels")
def _(w, block):
    codes, scale = _codes(w, block, np.linspace(-1, 1, 16))
    return codes[::2] | (codes[1::2] << 4), scale


@wrong("four_bits", "Takes the next level below instead of the nearest.", known="the_level_below")
def _(w, block):
    rows = np.asarray(w, float).reshape(-1, block)
    scale = np.abs(rows).max(axis=1)
    safe = np.where(scale == 0, 1, scale)
    codes = np.searchsorted(NF4, (rows / safe[:, None]).ravel(), side="right") - 1
    codes = codes.astype(np.uint8)
    return codes[::2] | (codes[1::2] << 4), scale
