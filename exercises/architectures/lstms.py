"""Exercises of architectures/lstms.md."""

from __future__ import annotations

import numpy as np

from chainrule.architectures.lstms import MinLSTM
from chainrule.course.exercises import exercise, expect, expect_close, expect_shape


@exercise(
    "Weights from elsewhere",
    difficulty=1,
    minutes=10,
    section="three-gates-and-a-candidate",
    because="the package reads no files of other libraries",
    idea="Cut each array into its blocks, and put the blocks together in the order of the page. "
    "Two biases that are only ever added can be one.",
)
def from_onnx(W, R, B):
    """Return W_x, W_h and b of the page for an LSTM that was stored in ONNX's layout.

    W has shape (4h, n) and belongs to the input, R (4h, h) to the hidden state. Their blocks stand
    in the order input gate, output gate, forget gate, candidate. B has shape (8h): first the four
    blocks of a bias that is added to what W makes, then the four of one added to what R makes.
    Return three arrays of shapes (4h, n), (4h, h) and (4h), in the page's order of blocks.
    """

    def reordered(array):
        i, o, f, g = np.split(array, 4)
        return np.concatenate([i, f, g, o])

    first, second = np.split(B, 2)
    return reordered(W), reordered(R), reordered(first + second)


@from_onnx.check
def one_unit_by_hand(answer, rng):
    W = np.array([[1.0, 10.0], [4.0, 40.0], [2.0, 20.0], [3.0, 30.0]])
    received = answer(W, W[:, :1] / 8, np.array([0.1, 0.4, 0.2, 0.3, 1.0, 4.0, 2.0, 3.0]))
    expect(len(received) == 3, f"three arrays are wanted, received {len(received)}")
    ordered = np.array([1.0, 2.0, 3.0, 4.0])
    expected = np.stack([ordered, 10 * ordered], axis=1), ordered[:, None] / 8, 1.1 * ordered
    for name, a, b in zip(("W_x", "W_h", "b"), received, expected, strict=True):
        expect_close(a, b, what=f"{name} of one unit")


@from_onnx.check
def several_units(answer, rng):
    for h, n in ((3, 2), (5, 7)):
        arrays = [rng.normal(size=s) for s in ((4 * h, n), (4 * h, h), 8 * h)]
        received = answer(*(a.copy() for a in arrays))
        expect(len(received) == 3, f"three arrays are wanted, received {len(received)}")
        for name, a, b in zip(("W_x", "W_h", "b"), received, from_onnx(*arrays), strict=True):
            expect_close(a, b, what=f"{name} of {h} units")


@exercise(
    "A bias for a purpose",
    difficulty=2,
    minutes=10,
    section="half-lives",
    counterpart="chainrule.architectures.lstms.memory:forget_bias",
    idea="First find the gate: its power is the share that is left. Then undo the sigmoid.",
)
def bias_for(share, steps):
    """Return the bias of a forget gate that has `share` left after `steps` steps.

    share lies between 0 and 1, both excluded, steps is positive; either may be an array. Only the
    bias acts on the gate. It must be right for a billion steps as well.
    """
    return -np.log(np.expm1(-np.log(share) / steps))


@bias_for.by_package
def _(package, share, steps):
    return package(np.log(0.5) / np.log(share) * steps)


@bias_for.check
def known_gates(answer, rng):
    received = [answer(0.5, 1.0), answer(0.5, 100.0), answer(0.81, 2.0), answer(0.25, 40.0)]
    expected = [0.0, 4.968215, 2.197225, 3.344866]
    what = "the biases for ½ after 1, ½ after 100, 0.81 after 2 and ¼ after 40 steps"
    expect_close(np.array(received, dtype=float), np.array(expected), rtol=1e-5, atol=1e-6,
                 what=what)  # fmt: skip


@bias_for.check
def many_at_once(answer, rng):
    share, steps = rng.uniform(0.02, 0.98, 7), rng.uniform(0.5, 500, 7)
    received = answer(share.copy(), steps.copy())
    expect_close(received, bias_for(share, steps), rtol=1e-8, what="seven biases at once")


@bias_for.check
def a_billion_steps(answer, rng):
    share, steps = np.array([0.5, 0.9, 0.1]), np.array([1e9, 3e9, 2e12])
    received = answer(share.copy(), steps.copy())
    expect_close(received, bias_for(share, steps), rtol=1e-7, what="biases for a billion steps")


@exercise(
    "Two kinds of GRU",
    difficulty=3,
    minutes=20,
    section="two-places-for-one-gate",
    counterpart="chainrule.architectures.lstms.layers:_gru",
    idea="Reset and update gate are the same in both kinds. Only what the candidate hears of the "
    "old state differs.",
)
def gru_states(X, h0, W_x, W_h, b, b_n, after):
    """Return all states of a GRU, of shape (batch, time, h).

    X has shape (batch, time, n) and h0 (batch, h). W_x (3h, n), W_h (3h, h) and b (3h) hold the
    blocks of the reset gate, the update gate and the candidate, in this order; the update gate
    keeps. If `after` is true, the reset gate stands after the matrix, and b_n (h) is added to what
    it multiplies. Otherwise it multiplies the old state, and b_n is not used.
    """

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    W_r, W_z, W_n = np.split(W_h, 3)
    h, states = h0, []
    for t in range(X.shape[1]):
        x_r, x_z, x_n = np.split(X[:, t] @ W_x.T + b, 3, axis=1)
        r, z = sigmoid(x_r + h @ W_r.T), sigmoid(x_z + h @ W_z.T)
        told = r * (h @ W_n.T + b_n) if after else (r * h) @ W_n.T
        h = (1 - z) * np.tanh(x_n + told) + z * h
        states.append(h)
    return np.stack(states, axis=1)


@gru_states.by_package
def _(package, X, h0, W_x, W_h, b, b_n, after):
    return package(X @ W_x.T + b, h0, W_h, b_n, reset_after=after)[0]


@gru_states.check
def one_unit_that_keeps_nine_tenths(answer, rng):
    W_x = np.zeros((3, 1))
    b, b_n = np.array([0.0, np.log(9), np.arctanh(-0.5)]), np.array([0.0])
    received = [
        answer(np.ones((1, 2, 1)), np.array([[0.8]]), W_x, np.zeros((3, 1)), b, b_n, after)
        for after in (True, False)
    ]
    expected = np.array([[[0.67], [0.553]]])
    what = "two states from 0.8, update gate 0.9, candidate −0.5"
    expect_close(np.array(received), np.stack([expected, expected]), what=what)


def _gru_inputs(rng, batch=3, time=5, n=2, h=7):
    return (
        rng.normal(size=(batch, time, n)), rng.normal(size=(batch, h)),
        rng.normal(size=(3 * h, n)), rng.normal(size=(3 * h, h)) / 2, rng.normal(size=3 * h),
        rng.normal(size=h),
    )  # fmt: skip


@gru_states.check
def before_the_matrix(answer, rng):
    inputs = _gru_inputs(rng)
    received = answer(*(a.copy() for a in inputs), False)
    expect_shape(received, (3, 5, 7), what="the states")
    what = "the states with the reset gate before the matrix"
    expect_close(received, gru_states(*inputs, False), what=what)


@gru_states.check
def after_the_matrix(answer, rng):
    inputs = _gru_inputs(rng, batch=2, time=4, n=3, h=5)
    received = answer(*(a.copy() for a in inputs), True)
    expect_shape(received, (2, 4, 5), what="the states")
    what = "the states with the reset gate after the matrix"
    expect_close(received, gru_states(*inputs, True), what=what)


@exercise(
    "One step, both ways",
    difficulty=3,
    minutes=30,
    section="cell-state-and-hidden-state",
    counterpart="chainrule.architectures.lstms.cells:lstm_step_manual",
    idea="The cell state has two readers: the next step, and the hidden state. Add what both want "
    "before you go on to the gates.",
)
def lstm_step(x, h, c, W_x, W_h, b):
    """Return the next hidden state, the next cell state, and a function vjp.

    x has shape (batch, n), h and c (batch, h); W_x (4h, n), W_h (4h, h) and b (4h) hold the blocks
    of the page. vjp(h_grad, c_grad) takes the gradients of the two new states and returns those of
    x, h, c, W_x, W_h and b, a tuple of six arrays.
    """

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    i, f, g, o = np.split(x @ W_x.T + h @ W_h.T + b, 4, axis=1)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    new = f * c + i * g
    shown = np.tanh(new)

    def vjp(h_grad, c_grad):
        total = c_grad + h_grad * o * (1 - shown**2)
        z_grad = np.concatenate(
            [
                total * g * i * (1 - i),
                total * c * f * (1 - f),
                total * i * (1 - g**2),
                h_grad * shown * o * (1 - o),
            ],
            axis=1,
        )
        weights = z_grad.T @ x, z_grad.T @ h, z_grad.sum(axis=0)
        return z_grad @ W_x, z_grad @ W_h, total * f, *weights

    return o * shown, new, vjp


_SIX = ("x", "h", "c", "W_x", "W_h", "b")


def _lstm_inputs(rng, batch, n, h):
    shapes = (batch, n), (batch, h), (batch, h), (4 * h, n), (4 * h, h), (4 * h,)
    return [rng.normal(size=shape) for shape in shapes]


@lstm_step.check
def the_first_unit_of_the_page(answer, rng):
    b = np.array([-2.0, 2.0, 0.5, 0.0])
    zero = np.zeros((1, 1))
    h, c, vjp = answer(zero, zero, np.array([[2.0]]), np.zeros((4, 1)), np.zeros((4, 1)), b)
    what = "the new hidden and cell state of the page's first unit"
    expect_close([h[0, 0], c[0, 0]], [0.474253, 1.816680], rtol=1e-5, what=what)
    received = vjp(zero, np.ones((1, 1)))
    expect(len(received) == 6, f"vjp must return six gradients, not {len(received)}")
    what = "the gradient of b for the cell state alone"
    expect_close(received[5], np.array([0.048519, 0.209987, 0.093748, 0.0]), rtol=1e-4, what=what)


@lstm_step.check
def forward(answer, rng):
    for batch, n, h in ((2, 3, 5), (3, 5, 2)):
        inputs = _lstm_inputs(rng, batch, n, h)
        received, expected = answer(*(a.copy() for a in inputs)), lstm_step(*inputs)
        for k, name in enumerate(("hidden", "cell")):
            expect_shape(received[k], (batch, h), what=f"the {name} state")
            expect_close(received[k], expected[k], what=f"the {name} state of {h} units")


@lstm_step.check
def backward(answer, rng):
    for batch, n, h in ((2, 3, 5), (3, 5, 2)):
        inputs = _lstm_inputs(rng, batch, n, h)
        g = rng.normal(size=(batch, h)), rng.normal(size=(batch, h))
        received = answer(*(a.copy() for a in inputs))[2](*(a.copy() for a in g))
        expect(len(received) == 6, f"vjp must return six gradients, not {len(received)}")
        for name, a, b in zip(_SIX, received, lstm_step(*inputs)[2](*g), strict=True):
            expect_close(a, b, what=f"the gradient of {name} for {h} units")


@exercise(
    "All steps at once",
    difficulty=4,
    minutes=25,
    section="minlstm-gates-that-do-not-look-back",
    counterpart="chainrule.architectures.lstms.descendants:MinLSTM.forward",
    idea="All factors and all additions are known before the first step. Join neighbouring steps, "
    "then neighbouring pairs.",
)
def minlstm_states(X, W_f, b_f, W_i, b_i, W, b):
    """Return all states of a minLSTM, of shape (time, h); the state before the first is 0.

    X has shape (time, n), one sequence of at least one step. W_f, W_i and W have shape (h, n),
    their biases (h): forget gate, input gate, candidate, as on the page. Nothing may go step by
    step: 1,024 steps may take at most 300 operations on arrays.
    """

    def sigmoid(z):
        return (np.tanh(z / 2) + 1) / 2

    f, i = sigmoid(X @ W_f.T + b_f), sigmoid(X @ W_i.T + b_i)
    keep, states = f / (f + i), i / (f + i) * (X @ W.T + b)
    width = 1
    while width < len(states):
        joined, grown = states.copy(), keep.copy()
        joined[width:] = keep[width:] * states[:-width] + states[width:]
        grown[width:] = keep[width:] * keep[:-width]
        states, keep, width = joined, grown, 2 * width
    return states


@minlstm_states.by_package
def _(package, X, W_f, b_f, W_i, b_i, W, b):
    layer = MinLSTM(X.shape[1], len(b), rng=np.random.default_rng(0), dtype=float)
    for parameter, value in zip(layer.parameters(), (W_f, b_f, W_i, b_i, W, b), strict=True):
        parameter.data = np.asarray(value)
    from chainrule.neural_networks.backpropagation import Tensor

    return package(layer, Tensor(np.asarray(X)[None]))[0].data[0]


def _minlstm_inputs(rng, time, n, h):
    return [rng.normal(size=s) for s in ((time, n), (h, n), h, (h, n), h, (h, n), h)]


@minlstm_states.check
def shares_by_hand(answer, rng):
    X, none = np.array([[4.0], [8.0], [0.0]]), np.zeros((1, 1))
    b_f, b_i = np.array([np.log(4)]), np.array([-np.log(4)])  # gates 0.8 and 0.2
    received = answer(X, none, b_f, none, b_i, np.ones((1, 1)), np.zeros(1))
    what = "the states after 4, 8 and 0, with shares 0.8 and 0.2"
    expect_close(received, np.array([[0.8], [2.24], [1.792]]), what=what)


@minlstm_states.check
def every_length(answer, rng):
    for time in (1, 2, 3, 7, 16, 29):
        inputs = _minlstm_inputs(rng, time, 3, 5)
        received = answer(*(a.copy() for a in inputs))
        expect_shape(received, (time, 5), what="the states")
        expect_close(received, minlstm_states(*inputs), what=f"the states of {time} steps")


class _Counting(np.ndarray):
    """An array that counts the operations done with it and with what comes of it."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        _Counting.operations += 1

        def plain(x):
            return x.view(np.ndarray) if isinstance(x, _Counting) else x

        if out is not None:
            options["out"] = tuple(plain(x) for x in out)
        result = getattr(ufunc, method)(*(plain(x) for x in inputs), **options)
        return result.view(_Counting) if isinstance(result, np.ndarray) else result


@minlstm_states.check
def in_few_rounds(answer, rng):
    inputs = [a.view(_Counting) for a in _minlstm_inputs(rng, 1024, 2, 1)]
    _Counting.operations = 0
    answer(*inputs)
    count = _Counting.operations
    expect(count <= 300, f"1,024 steps took {count:,} operations; 300 are allowed")


@exercise(
    "A gated memory, both ways",
    difficulty=5,
    minutes=45,
    section="a-matrix-for-a-cell-state",
    counterpart="chainrule.architectures.lstms.descendants:gated_delta",
    idea="Write a step as: what the faded memory says for the key, what is missing, and an outer "
    "product added. Keep all memories, and go back through these three lines.",
)
def gated_memory(q, k, v, alpha, beta):
    """Return what each query reads, of shape (time, d_v), and a function vjp.

    q and k have shape (time, d_k), v (time, d_v), alpha and beta (time). The memory starts at
    zeros. Step t first updates it by the gated delta rule, then reads it with q_t. vjp(g), with g
    of shape (time, d_v), returns the gradients of q, k, v, alpha and beta, a tuple of five arrays.
    """
    S = np.zeros((k.shape[1], v.shape[1]))
    memories, out = [S], []
    for t in range(len(k)):
        missing = v[t] - alpha[t] * k[t] @ S
        S = alpha[t] * S + beta[t] * np.outer(k[t], missing)
        memories.append(S)
        out.append(q[t] @ S)

    def vjp(g):
        grads = [np.zeros_like(a) for a in (q, k, v, alpha, beta)]
        q_grad, k_grad, v_grad, alpha_grad, beta_grad = grads
        S_grad = np.zeros_like(S)
        for t in reversed(range(len(k))):
            before, said = memories[t], k[t] @ memories[t]
            missing = v[t] - alpha[t] * said
            q_grad[t] = memories[t + 1] @ g[t]
            S_grad = S_grad + np.outer(q[t], g[t])
            missing_grad = beta[t] * k[t] @ S_grad
            v_grad[t] = missing_grad
            beta_grad[t] = k[t] @ S_grad @ missing
            alpha_grad[t] = (S_grad * before).sum() - missing_grad @ said
            k_grad[t] = beta[t] * S_grad @ missing - alpha[t] * before @ missing_grad
            S_grad = alpha[t] * (S_grad - np.outer(k[t], missing_grad))
        return q_grad, k_grad, v_grad, alpha_grad, beta_grad

    return np.array(out), vjp


@gated_memory.by_package
def _(package, q, k, v, alpha, beta):
    out, pullback = package(*(np.asarray(a)[None] for a in (q, k, v, alpha, beta)))
    return out[0], lambda g: tuple(part[0] for part in pullback(np.asarray(g)[None]))


@gated_memory.in_package
def _(mine, q, k, v, alpha, beta, S0=None, last=False):
    if S0 is not None or last:
        raise ValueError("this memory starts at zeros, and returns what is read")
    pairs = [mine(*row) for row in zip(q, k, v, alpha, beta, strict=True)]

    def vjp(g):
        rows = [back(part) for (_, back), part in zip(pairs, g, strict=True)]
        return tuple(np.stack(parts) for parts in zip(*rows, strict=True))

    return np.stack([out for out, _ in pairs]), vjp


_FIVE = ("q", "k", "v", "alpha", "beta")


def _memory_inputs(rng, time, d_k, d_v):
    q, k = rng.normal(size=(2, time, d_k))
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    v, gates = rng.normal(size=(time, d_v)), rng.uniform(0.2, 0.95, (2, time))
    return [q, k, v, *gates]


@gated_memory.check
def two_writes_by_hand(answer, rng):
    q = k = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.8]])
    v, alpha, beta = (
        np.array([[10.0], [30.0], [5.0]]),
        np.array([1, 0.5, 0.9]),
        np.array([1, 0.5, 0]),
    )
    out, _ = answer(q, k, v, alpha, beta)
    what = "what is read: 10, then 30 written by half over a faded 10, then a glance aside"
    expect_close(out, np.array([[10.0], [17.5], [9.45]]), what=what)


@gated_memory.check
def reading(answer, rng):
    for time, d_k, d_v in ((1, 2, 3), (4, 3, 2), (7, 5, 3)):
        inputs = _memory_inputs(rng, time, d_k, d_v)
        out, _ = answer(*(a.copy() for a in inputs))
        expect_shape(out, (time, d_v), what="what is read")
        expect_close(out, gated_memory(*inputs)[0], what=f"what {time} steps read")


@gated_memory.check
def gradients(answer, rng):
    for time, d_k, d_v in ((1, 2, 3), (4, 3, 2), (7, 5, 3)):
        inputs, g = _memory_inputs(rng, time, d_k, d_v), rng.normal(size=(time, d_v))
        received = answer(*(a.copy() for a in inputs))[1](g.copy())
        expect(len(received) == 5, f"vjp must return five gradients, not {len(received)}")
        for name, a, b in zip(_FIVE, received, gated_memory(*inputs)[1](g), strict=True):
            expect_close(a, b, what=f"the gradient of {name} for {time} steps")
