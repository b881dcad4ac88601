"""Blind set of architectures/rnns: wrong answers written from statement and stub alone."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chainrule.course.exercises import wrong


def _table(train, test, letters, alpha, windows, symbols=27, log=np.log):
    seen = Counter(w for name in train for w in windows(name))
    contexts = Counter(w[:-1] for name in train for w in windows(name))
    surprise = [
        -log((seen[w] + alpha) / (contexts[w[:-1]] + symbols * alpha))
        for name in test
        for w in windows(name)
    ]
    return float(np.mean(surprise))


def _windows(letters, before=".", after="."):
    def windows(name):
        text = before * letters + name + after
        return [text[i : i + letters + 1] for i in range(len(text) - letters)]

    return windows


@wrong("table_loss", "The closing dot is not predicted.", known="forgets_the_end")
def _(train, test, letters, alpha):
    return _table(train, test, letters, alpha, _windows(letters, after=""))


@wrong(
    "table_loss",
    "There are no dots in front, so the first letters are not predicted.",
    known="forgets_the_beginning",
)
def _(train, test, letters, alpha):
    def windows(name):
        text = name + "."
        return [text[i : i + letters + 1] for i in range(len(text) - letters)]

    return _table(train, test, letters, alpha, windows)


@wrong("table_loss", "Counts 26 symbols and forgets the dot.", known="counts_the_letters_only")
def _(train, test, letters, alpha):
    return _table(train, test, letters, alpha, _windows(letters), symbols=26)


@wrong("table_loss", "Surprise in bits.", known="in_bits")
def _(train, test, letters, alpha):
    return _table(train, test, letters, alpha, _windows(letters), log=np.log2)


@wrong("table_loss", "Averages within each name first, then over names.", known="mean_of_means")
def _(train, test, letters, alpha):
    return float(
        np.mean([_table(train, [name], letters, alpha, _windows(letters)) for name in test])
    )


def _run(ids, W_x, W_h, b):
    h, states = np.zeros((len(ids), len(b))), []
    for t in range(ids.shape[1]):
        h = np.tanh(W_x.T[ids[:, t]] + h @ W_h.T + b)
        states.append(h)
    return np.stack(states, axis=1)


@wrong("last_states", "Returns the state after the padding.", known="reads_the_padding")
def _(ids, lengths, W_x, W_h, b):
    return _run(ids, W_x, W_h, b)[:, -1]


@wrong("last_states", "Indexes with the length, so it is one step too late.", known="one_step_late")
def _(ids, lengths, W_x, W_h, b):
    H = _run(ids, W_x, W_h, b)
    return H[np.arange(len(ids)), np.minimum(lengths, ids.shape[1] - 1)]


@wrong(
    "last_states",
    "Multiplies the state by W_h, not by its transpose.",
    known="transposes_the_memory",
)
def _(ids, lengths, W_x, W_h, b):
    return _run(ids, W_x, W_h.T, b)[np.arange(len(ids)), np.asarray(lengths) - 1]


@wrong(
    "last_states", "Sets the padded inputs to symbol 0 and runs on.", known="padding_is_symbol_0"
)
def _(ids, lengths, W_x, W_h, b):
    real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
    return _run(np.where(real, ids, 0), W_x, W_h, b)[:, -1]


@wrong("last_states", "Adds the bias outside of the tanh.")
def _(ids, lengths, W_x, W_h, b):
    h, states = np.zeros((len(ids), len(b))), []
    for t in range(ids.shape[1]):
        h = np.tanh(W_x.T[ids[:, t]] + h @ W_h.T) + b
        states.append(h)
    return np.stack(states, axis=1)[np.arange(len(ids)), np.asarray(lengths) - 1]


def _states(X, W_x, W_h, b):
    h, states = np.zeros(len(b)), []
    for x in X:
        h = np.tanh(W_x @ x + W_h @ h + b)
        states.append(h)
    return np.array(states)


@wrong(
    "influence",
    "Multiplies the norms of the steps instead of taking the norm of the product.",
    known="multiplies_norms",
)
def _(X, W_x, W_h, b):
    norms, value = [], 1.0
    for h in _states(X, W_x, W_h, b)[::-1]:
        norms.append(value)
        value *= np.linalg.norm((1 - h**2)[:, None] * W_h, 2)
    return np.array(norms)


@wrong("influence", "Frobenius norm.", known="frobenius")
def _(X, W_x, W_h, b):
    J, norms = np.eye(len(b)), []
    for h in _states(X, W_x, W_h, b)[::-1]:
        norms.append(np.linalg.norm(J))
        J = J @ np.diag(1 - h**2) @ W_h
    return np.array(norms)


@wrong("influence", "In the order of time: the first state first.", known="in_order_of_time")
def _(X, W_x, W_h, b):
    J, norms = np.eye(len(b)), []
    for h in _states(X, W_x, W_h, b)[::-1]:
        norms.append(np.linalg.norm(J, 2))
        J = J @ np.diag(1 - h**2) @ W_h
    return np.array(norms[::-1])


@wrong(
    "influence",
    "Leaves out the 1: begins with one step's Jacobian.",
    known="leaves_out_the_identity",
)
def _(X, W_x, W_h, b):
    J, norms = np.eye(len(b)), []
    for h in _states(X, W_x, W_h, b)[::-1]:
        J = J @ np.diag(1 - h**2) @ W_h
        norms.append(np.linalg.norm(J, 2))
    return np.array(norms)


@wrong("influence", "Forgets the slopes of tanh.", known="forgets_the_slopes")
def _(X, W_x, W_h, b):
    return np.array([np.linalg.norm(np.linalg.matrix_power(W_h, s), 2) for s in range(len(X))])


def _pieces(P, G, W_h, k, reset=False, last_only=False):
    gradient, start_state = np.zeros_like(W_h), np.zeros(P.shape[1])
    starts = list(range(0, len(P), k))
    for start in starts:
        states = [np.zeros_like(start_state) if reset else start_state]
        for p in P[start : start + k]:
            states.append(np.tanh(p + W_h @ states[-1]))
        part, future = np.zeros_like(W_h), np.zeros(P.shape[1])
        for t in reversed(range(len(states) - 1)):
            inside = (G[start + t] + future) * (1 - states[t + 1] ** 2)
            part += np.outer(inside, states[t])
            future = W_h.T @ inside
        gradient = part if last_only else gradient + part
        start_state = states[-1]
    return gradient


@wrong("in_pieces", "Every piece begins with a state of zeros.", known="resets_the_state")
def _(P, G, W_h, k):
    return _pieces(P, G, W_h, k, reset=True)


@wrong("in_pieces", "The gradient of the last piece only: overwritten.", known="last_piece_only")
def _(P, G, W_h, k):
    return _pieces(P, G, W_h, k, last_only=True)


@wrong("in_pieces", "The whole gradient: nothing is cut.", known="never_detached")
def _(P, G, W_h, k):
    return _pieces(P, G, W_h, len(P))


@wrong("in_pieces", "The mean over the pieces.", known="mean_of_pieces")
def _(P, G, W_h, k):
    return _pieces(P, G, W_h, k) / -(-len(P) // k)


@wrong("in_pieces", "The slope is taken of what enters tanh.", known="wrong_slope")
def _(P, G, W_h, k):
    gradient, state = np.zeros_like(W_h), np.zeros(P.shape[1])
    for start in range(0, len(P), k):
        states, inner = [state], []
        for p in P[start : start + k]:
            inner.append(p + W_h @ states[-1])
            states.append(np.tanh(inner[-1]))
        future = np.zeros(P.shape[1])
        for t in reversed(range(len(inner))):
            inside = (G[start + t] + future) * (1 - inner[t] ** 2)
            gradient += np.outer(inside, states[t])
            future = W_h.T @ inside
        state = states[-1]
    return gradient


def _loop(P, h0, W_h, real):
    states, h = [], h0
    for t in range(P.shape[1]):
        h = np.where(real[:, t, None], np.tanh(P[:, t] + h @ W_h.T), h)
        states.append(h)
    return np.stack(states, axis=1)


@wrong(
    "through_time",
    "Behind the end the states are zeros, as in PyTorch's padded output.",
    known="zeros_where_nothing_is_read",
)
def _(P, h0, W_h, real):
    H = _loop(P, h0, W_h, real)

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), np.zeros_like(h0)
        for t in reversed(range(P.shape[1])):
            r = real[:, t, None]
            h_grad = h_grad + g[:, t] * r
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * r
            W_grad += P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = np.where(r, P_grad[:, t] @ W_h, h_grad)
        return P_grad, h_grad, W_grad

    return H * real[..., None], vjp


@wrong(
    "through_time",
    "The gradient of W_h is overwritten in each step.",
    known="overwrites_the_gradient",
)
def _(P, h0, W_h, real):
    H = _loop(P, h0, W_h, real)

    def vjp(g):
        P_grad, h_grad = np.zeros_like(P), np.zeros_like(h0)
        for t in reversed(range(P.shape[1])):
            h_grad = h_grad + g[:, t]
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * real[:, t, None]
            W_grad = P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = np.where(real[:, t, None], P_grad[:, t] @ W_h, h_grad)
        return P_grad, h_grad, W_grad

    return H, vjp


@wrong(
    "through_time",
    "On the way back the gradient of an unread step is dropped, not handed on.",
    known="drops_what_passes_a_gap",
)
def _(P, h0, W_h, real):
    H = _loop(P, h0, W_h, real)

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), np.zeros_like(h0)
        for t in reversed(range(P.shape[1])):
            h_grad = h_grad + g[:, t]
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * real[:, t, None]
            W_grad += P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = P_grad[:, t] @ W_h
        return P_grad, h_grad, W_grad

    return H, vjp


@wrong(
    "through_time",
    "Multiplies the gradient by the transpose of W_h on the way back.",
    known="transposes_on_the_way_back",
)
def _(P, h0, W_h, real):
    H = _loop(P, h0, W_h, real)

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), np.zeros_like(h0)
        for t in reversed(range(P.shape[1])):
            h_grad = h_grad + g[:, t]
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * real[:, t, None]
            W_grad += P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = np.where(real[:, t, None], P_grad[:, t] @ W_h.T, h_grad)
        return P_grad, h_grad, W_grad

    return H, vjp


@wrong("through_time", "Only the gradient of the last state is used.", known="last_state_only")
def _(P, h0, W_h, real):
    H = _loop(P, h0, W_h, real)

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), g[:, -1]
        for t in reversed(range(P.shape[1])):
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * real[:, t, None]
            W_grad += P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = np.where(real[:, t, None], P_grad[:, t] @ W_h, h_grad)
        return P_grad, h_grad, W_grad

    return H, vjp


def _one_by_one(a, b):
    h, state = np.zeros_like(b), np.zeros_like(b[0])
    for t in range(len(b)):
        state = a[t] * state + b[t]
        h[t] = state
    return h


@wrong("linear_recurrence", "Right, but one step after the other.", known="goes_step_by_step")
def _(a, b):
    h = _one_by_one(a, b)

    def vjp(g):
        b_grad, future = np.zeros_like(b), np.zeros_like(b[0])
        for t in reversed(range(len(b))):
            future = g[t] + future
            b_grad[t] = future
            future = a[t] * future
        a_grad = np.zeros_like(a)
        a_grad[1:] = b_grad[1:] * h[:-1]
        return a_grad, b_grad

    return h, vjp


def _hillis(a, b):
    a, b, width = a.copy(), b.copy(), 1
    while width < len(b):
        new = b.copy()
        new[width:] = a[width:] * b[:-width] + b[width:]
        grown = a.copy()
        grown[width:] = a[width:] * a[:-width]
        a, b, width = grown, new, 2 * width
    return b


@wrong(
    "linear_recurrence",
    "Backward with a_t in place of the next step's.",
    known="factor_of_its_own_step",
)
def _(a, b):
    h = _hillis(a, b)

    def vjp(g):
        b_grad = _hillis(a[::-1], g[::-1])[::-1]
        a_grad = np.zeros_like(a)
        a_grad[1:] = b_grad[1:] * h[:-1]
        return a_grad, b_grad

    return h, vjp


@wrong(
    "linear_recurrence",
    "The gradient of a with the new state in place of the old one.",
    known="multiplies_the_new_state",
)
def _(a, b):
    h = _hillis(a, b)

    def vjp(g):
        following = np.concatenate([a[1:], np.zeros_like(a[:1])])
        b_grad = _hillis(following[::-1], g[::-1])[::-1]
        return b_grad * h, b_grad

    return h, vjp


@wrong(
    "linear_recurrence",
    "The gradient of b is g itself: later states are forgotten.",
    known="forgets_later_states",
)
def _(a, b):
    h = _hillis(a, b)

    def vjp(g):
        a_grad = np.zeros_like(a)
        a_grad[1:] = g[1:] * h[:-1]
        return a_grad, g.copy()

    return h, vjp


@wrong("linear_recurrence", "Through a cumulative product and a division.")
def _(a, b):
    products = np.cumprod(a, axis=0)
    h = products * np.cumsum(b / products, axis=0)

    def vjp(g):
        b_grad = np.cumsum((g * products)[::-1], axis=0)[::-1] * products
        a_grad = np.zeros_like(a)
        a_grad[1:] = b_grad[1:] * h[:-1]
        return a_grad, b_grad

    return h, vjp


@wrong("written_exactly", "Takes the rate 1 as for keys of length 1.", known="rate_one")
def _(S, keys, values):
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        S += np.outer(k, v - S.T @ k)
    return S


@wrong(
    "written_exactly",
    "Divides the step by the length of the key, not by its square.",
    known="divides_by_the_length",
)
def _(S, keys, values):
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        length = np.linalg.norm(k)
        if length > 0:
            S = S - np.outer(k, S.T @ k - v) / length
    return S


@wrong(
    "written_exactly",
    "Computes all errors at once, from the memory at the beginning.",
    known="asks_the_first_memory",
)
def _(S, keys, values):
    squared = (keys**2).sum(axis=1, keepdims=True)
    rate = np.where(squared > 0, 1 / np.where(squared > 0, squared, 1), 0)
    return S - (rate * keys).T @ (keys @ S - values)


@wrong("written_exactly", "Scales keys to length 1 first.", known="scales_the_keys_only")
def _(S, keys, values):
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        length = np.linalg.norm(k)
        if length == 0:
            continue
        k = k / length
        S = S + np.outer(k, v - k @ S)
    return S


@wrong("written_exactly", "A sign is lost: the gradient is added.", known="climbs")
def _(S, keys, values):
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        if k @ k > 0:
            S += np.outer(k, S.T @ k - v) / (k @ k)
    return S
