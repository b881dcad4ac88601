"""Blind set of architectures/lstms: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _blocks(array, order):
    return np.concatenate([np.split(array, 4)[k] for k in order])


@wrong("from_onnx", "Leaves the blocks in ONNX's order.", known="leaves_the_order")
def _(W, R, B):
    return W.copy(), R.copy(), B[: len(W)] + B[len(W) :]


@wrong("from_onnx", "Takes the first bias only.", known="one_bias")
def _(W, R, B):
    order = (0, 2, 3, 1)
    return _blocks(W, order), _blocks(R, order), _blocks(B[: len(W)], order)


@wrong("from_onnx", "Applies the order the wrong way round.", known="inverse_order")
def _(W, R, B):
    order = (0, 3, 1, 2)
    return _blocks(W, order), _blocks(R, order), _blocks(B[: len(W)] + B[len(W) :], order)


@wrong(
    "from_onnx",
    "Takes the bias's blocks as pairs, input's and recurrent's in turn.",
    known="pairs_neighbours",
)
def _(W, R, B):
    order = (0, 2, 3, 1)
    pairs = B.reshape(4, 2, -1).sum(axis=1).ravel()
    return _blocks(W, order), _blocks(R, order), _blocks(pairs, order)


@wrong(
    "from_onnx",
    "Reorders the weights, and forgets to reorder the bias.",
    known="bias_in_the_old_order",
)
def _(W, R, B):
    order = (0, 2, 3, 1)
    return _blocks(W, order), _blocks(R, order), B[: len(W)] + B[len(W) :]


@wrong("bias_for", "Returns the gate, not its bias.", known="returns_the_gate")
def _(share, steps):
    return share ** (1 / np.asarray(steps))


@wrong("bias_for", "Uses the half-life formula whatever the share is.", known="always_one_half")
def _(share, steps):
    return -np.log(2 ** (1 / np.asarray(steps)) - 1) + 0 * np.asarray(share)


@wrong("bias_for", "Has the sign of the sigmoid's inverse wrong.", known="wrong_sign")
def _(share, steps):
    return np.log(np.expm1(-np.log(share) / steps))


@wrong(
    "bias_for",
    "Undoes the sigmoid as log f − log(1 − f), which loses digits near 1.",
    known="loses_digits",
)
def _(share, steps):
    f = share ** (1 / np.asarray(steps))
    return np.log(f / (1 - f))


@wrong("bias_for", "Lets the share be what is lost.", known="share_that_is_lost")
def _(share, steps):
    return -np.log(np.expm1(-np.log(1 - np.asarray(share)) / steps))


def _gru(X, h0, W_x, W_h, b, b_n, after, **how):
    W_r, W_z, W_n = np.split(W_h, 3)
    h, states = h0, []
    for t in range(X.shape[1]):
        x_r, x_z, x_n = np.split(X[:, t] @ W_x.T + b, 3, axis=1)
        if how.get("exchanged"):
            x_r, x_z, W_r, W_z = x_z, x_r, *((W_z, W_r) if t == 0 else (W_r, W_z))
        r, z = _sigmoid(x_r + h @ W_r.T), _sigmoid(x_z + h @ W_z.T)
        if how.get("bias_outside"):
            told = r * (h @ W_n.T) + b_n if after else (r * h) @ W_n.T
        elif how.get("always_after"):
            told = r * (h @ W_n.T + b_n)
        else:
            told = r * (h @ W_n.T + b_n) if after else (r * h) @ W_n.T
        candidate = np.tanh(x_n + told)
        if how.get("no_tanh"):
            candidate = x_n + told
        h = z * candidate + (1 - z) * h if how.get("writes") else (1 - z) * candidate + z * h
        states.append(h)
    return np.stack(states, axis=1)


@wrong("gru_states", "The update gate writes instead of keeping.", known="update_gate_writes")
def _(X, h0, W_x, W_h, b, b_n, after):
    return _gru(X, h0, W_x, W_h, b, b_n, after, writes=True)


@wrong("gru_states", "Adds b_n outside of the reset gate.", known="bias_outside")
def _(X, h0, W_x, W_h, b, b_n, after):
    return _gru(X, h0, W_x, W_h, b, b_n, after, bias_outside=True)


@wrong("gru_states", "Puts the reset gate after the matrix in both kinds.", known="one_kind_only")
def _(X, h0, W_x, W_h, b, b_n, after):
    return _gru(X, h0, W_x, W_h, b, b_n, after, always_after=True)


@wrong(
    "gru_states",
    "Takes the first block for the update gate and the second for the reset gate.",
    known="gates_exchanged",
)
def _(X, h0, W_x, W_h, b, b_n, after):
    return _gru(X, h0, W_x, W_h, b, b_n, after, exchanged=True)


@wrong("gru_states", "The candidate has no tanh.", known="candidate_without_tanh")
def _(X, h0, W_x, W_h, b, b_n, after):
    return _gru(X, h0, W_x, W_h, b, b_n, after, no_tanh=True)


def _step(x, h, c, W_x, W_h, b, **how):
    i, f, g, o = np.split(x @ W_x.T + h @ W_h.T + b, 4, axis=1)
    if how.get("order"):
        f, i = i, f
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    new = f * c + i * g
    shown = np.tanh(new)

    def vjp(h_grad, c_grad):
        total = c_grad + h_grad * o * (1 - shown**2)
        if how.get("alone"):
            total = h_grad * o * (1 - shown**2)
        if how.get("no_slope"):
            total = c_grad + h_grad * o
        old = new if how.get("new_cell") else c
        parts = [
            total * g * i * (1 - i),
            total * old * f * (1 - f),
            total * i * (1 - g**2),
            h_grad * (new if how.get("not_squeezed") else shown) * o * (1 - o),
        ]
        z = np.concatenate(parts, axis=1)
        return z @ W_x, z @ W_h, total * f, z.T @ x, z.T @ h, z.sum(axis=0)

    return (o * new if how.get("plain") else o * shown), new, vjp


@wrong("lstm_step", "Takes the first block for the forget gate.", known="another_order")
def _(x, h, c, W_x, W_h, b):
    return _step(x, h, c, W_x, W_h, b, order=True)


@wrong("lstm_step", "Shows the cell state without tanh.", known="shows_it_plainly")
def _(x, h, c, W_x, W_h, b):
    return _step(x, h, c, W_x, W_h, b, plain=True)


@wrong(
    "lstm_step",
    "Backward, forgets the gradient that arrives at the cell state itself.",
    known="loses_the_highway",
)
def _(x, h, c, W_x, W_h, b):
    return _step(x, h, c, W_x, W_h, b, alone=True)


@wrong(
    "lstm_step",
    "Backward, the forget gate is multiplied by the new cell state.",
    known="forget_gate_meets_the_new_cell",
)
def _(x, h, c, W_x, W_h, b):
    return _step(x, h, c, W_x, W_h, b, new_cell=True)


@wrong("lstm_step", "Backward, the slope of the outer tanh is missing.", known="no_outer_slope")
def _(x, h, c, W_x, W_h, b):
    return _step(x, h, c, W_x, W_h, b, no_slope=True)


def _scan(keep, states):
    width = 1
    while width < len(states):
        joined, grown = states.copy(), keep.copy()
        joined[width:] = keep[width:] * states[:-width] + states[width:]
        grown[width:] = keep[width:] * keep[:-width]
        states, keep, width = joined, grown, 2 * width
    return states


@wrong("minlstm_states", "A plain loop over time.", known="goes_step_by_step")
def _(X, W_f, b_f, W_i, b_i, W, b):
    f, i, v = _sigmoid(X @ W_f.T + b_f), _sigmoid(X @ W_i.T + b_i), X @ W.T + b
    h, states = np.zeros(len(b)), []
    for t in range(len(X)):
        h = f[t] / (f[t] + i[t]) * h + i[t] / (f[t] + i[t]) * v[t]
        states.append(h)
    return np.array(states)


@wrong("minlstm_states", "The gates are not divided by their sum.", known="gates_as_they_are")
def _(X, W_f, b_f, W_i, b_i, W, b):
    f, i = _sigmoid(X @ W_f.T + b_f), _sigmoid(X @ W_i.T + b_i)
    return _scan(f, i * (X @ W.T + b))


@wrong(
    "minlstm_states", "The candidate passes a tanh, as in an LSTM.", known="squeezes_the_candidate"
)
def _(X, W_f, b_f, W_i, b_i, W, b):
    f, i = _sigmoid(X @ W_f.T + b_f), _sigmoid(X @ W_i.T + b_i)
    return _scan(f / (f + i), i / (f + i) * np.tanh(X @ W.T + b))


@wrong(
    "minlstm_states",
    "Divides by running products, which become 0.",
    known="divides_by_running_products",
)
def _(X, W_f, b_f, W_i, b_i, W, b):
    f, i = _sigmoid(X @ W_f.T + b_f), _sigmoid(X @ W_i.T + b_i)
    products = np.cumprod(f / (f + i), axis=0)
    with np.errstate(all="ignore"):
        return products * np.cumsum(i / (f + i) * (X @ W.T + b) / products, axis=0)


@wrong(
    "minlstm_states",
    "The first state is the first candidate, with no share for the 0.",
    known="first_step_writes_all",
)
def _(X, W_f, b_f, W_i, b_i, W, b):
    f, i, v = _sigmoid(X @ W_f.T + b_f), _sigmoid(X @ W_i.T + b_i), X @ W.T + b
    written = i / (f + i) * v
    written[0] = v[0]
    return _scan(f / (f + i), written)


def _memory(q, k, v, alpha, beta, **how):
    S = np.zeros((k.shape[1], v.shape[1]))
    memories, out = [S], []
    for t in range(len(k)):
        if how.get("reads_first"):
            out.append(q[t] @ S)
        faded = 1.0 if how.get("unfaded") else alpha[t]
        said = 0.0 if how.get("hebb") else faded * k[t] @ S
        S = alpha[t] * S + beta[t] * np.outer(k[t], v[t] - said)
        memories.append(S)
        if not how.get("reads_first"):
            out.append(q[t] @ S)

    def vjp(g):
        q_g, k_g, v_g, a_g, b_g = (np.zeros_like(x) for x in (q, k, v, alpha, beta))
        S_g = np.zeros_like(S)
        for t in reversed(range(len(k))):
            before, said = memories[t], k[t] @ memories[t]
            missing = v[t] - alpha[t] * said
            q_g[t] = (before if how.get("old_query") else memories[t + 1]) @ g[t]
            S_g = S_g + np.outer(q[t], g[t])
            m_g = beta[t] * k[t] @ S_g
            v_g[t], b_g[t] = m_g, k[t] @ S_g @ missing
            a_g[t] = (S_g * before).sum() - (0 if how.get("alpha_once") else m_g @ said)
            k_g[t] = beta[t] * S_g @ missing
            if not how.get("key_writes_only"):
                k_g[t] -= alpha[t] * before @ m_g
            S_g = alpha[t] * (S_g - np.outer(k[t], m_g))
        return q_g, k_g, v_g, a_g, b_g

    return np.array(out), vjp


@wrong("gated_memory", "Reads before it writes.", known="reads_first")
def _(q, k, v, alpha, beta):
    return _memory(q, k, v, alpha, beta, reads_first=True)


@wrong("gated_memory", "Adds without asking what is there.", known="adds_blindly")
def _(q, k, v, alpha, beta):
    return _memory(q, k, v, alpha, beta, hebb=True)


@wrong(
    "gated_memory", "Takes away what the memory said before it faded.", known="takes_away_too_much"
)
def _(q, k, v, alpha, beta):
    return _memory(q, k, v, alpha, beta, unfaded=True)


@wrong(
    "gated_memory",
    "Backward, the key is only known as the one that writes.",
    known="key_writes_only",
)
def _(q, k, v, alpha, beta):
    return _memory(q, k, v, alpha, beta, key_writes_only=True)


@wrong(
    "gated_memory", "Backward, alpha is only known as the factor of the memory.", known="alpha_once"
)
def _(q, k, v, alpha, beta):
    return _memory(q, k, v, alpha, beta, alpha_once=True)
