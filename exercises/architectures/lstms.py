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


def _onnx(W, R, B, order=(0, 2, 3, 1), bias="sum", bias_order=None):
    def blocks(array, order):
        return np.concatenate([np.split(array, 4)[k] for k in order])

    first, second = np.split(B, 2)
    b = {
        "sum": first + second,
        "first": first,
        "second": second,
        "mean": (first + second) / 2,
        "pairs": B.reshape(4, 2, -1).sum(axis=1).ravel(),
    }[bias]
    return blocks(W, order), blocks(R, order), blocks(b, bias_order or order)


@from_onnx.mistake(
    "Your blocks still stand in ONNX's order. Nothing complains, and the gates do "
    "each other's work."
)
def leaves_the_order(W, R, B):
    return _onnx(W, R, B, order=(0, 1, 2, 3))


@from_onnx.mistake(
    "You moved the blocks the wrong way round: your list says where a block goes, not where it "
    "comes from."
)
def inverse_order(W, R, B):
    return _onnx(W, R, B, order=(0, 3, 1, 2))


@from_onnx.mistake(
    "One of the two biases is missing from yours. Both are added to the same thing.",
    bias=("first", "second"),
)
def one_bias(W, R, B, bias):
    return _onnx(W, R, B, bias=bias)


@from_onnx.mistake("The two biases are added in each step, so their mean is half of what acts.")
def mean_of_the_biases(W, R, B):
    return _onnx(W, R, B, bias="mean")


@from_onnx.mistake("Your weights are in order, and your bias is not: it has blocks as well.")
def bias_in_the_old_order(W, R, B):
    return _onnx(W, R, B, bias_order=(0, 1, 2, 3))


@from_onnx.mistake(
    "In B all four blocks of the first bias come before those of the second. You paired neighbours."
)
def pairs_neighbours(W, R, B):
    return _onnx(W, R, B, bias="pairs")


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


@bias_for.mistake("That is where the gate stands. Which bias makes the sigmoid stand there?")
def returns_the_gate(share, steps):
    return np.asarray(share) ** (1 / np.asarray(steps))


@bias_for.mistake("Your sign is wrong: a gate that keeps nearly everything needs a large bias.")
def wrong_sign(share, steps):
    return np.log(np.expm1(-np.log(share) / steps))


@bias_for.mistake("Your bias leaves one half, whatever the share is.", exact=(True, False))
def always_one_half(share, steps, exact):
    each = np.log(2) / np.asarray(steps)
    return -np.log(np.expm1(each) if exact else np.exp(each) - 1) + 0 * np.asarray(share)


@bias_for.mistake("Your share is what is lost. It should be what is left.")
def share_that_is_lost(share, steps):
    return -np.log(np.expm1(-np.log(1 - np.asarray(share)) / steps))


@bias_for.mistake(
    "Right for short memories. For a billion steps your gate is so near 1 that the difference has "
    "lost its digits."
)
def loses_digits(share, steps):
    f = np.asarray(share) ** (1 / np.asarray(steps))
    return np.log(f / (1 - f))


@bias_for.mistake(
    "You used the share of a single step. After all steps together it should be left."
)
def forgets_the_steps(share, steps):
    return -np.log(1 / np.asarray(share) - 1) + 0 * np.asarray(steps)


@bias_for.mistake(
    "You divided the loss evenly: each step would lose the same amount. It loses the same share."
)
def linear_loss(share, steps):
    f = 1 - (1 - np.asarray(share)) / np.asarray(steps)
    return np.log(f) - np.log1p(-f)


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


def _gru_variant(X, h0, W_x, W_h, b, b_n, after, **how):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    W_r, W_z, W_n = np.split(W_h, 3)
    places = (1, 0, 2) if how.get("exchanged") else (0, 1, 2)
    W_r, W_z, W_n = (np.split(W_h, 3)[k] for k in places)
    after = how.get("kind", after)
    h, states = h0, []
    for t in range(X.shape[1]):
        parts = np.split(X[:, t] @ W_x.T + b, 3, axis=1)
        x_r, x_z, x_n = (parts[k] for k in places)
        r, z = sigmoid(x_r + h @ W_r.T), sigmoid(x_z + h @ W_z.T)
        if how.get("bias_outside"):
            told = r * (h @ W_n.T) + b_n if after else (r * h) @ W_n.T
        elif how.get("no_bias"):
            told = r * (h @ W_n.T) if after else (r * h) @ W_n.T
        elif how.get("bias_always"):
            told = r * (h @ W_n.T + b_n) if after else (r * h) @ W_n.T + b_n
        else:
            told = r * (h @ W_n.T + b_n) if after else (r * h) @ W_n.T
        if how.get("all"):
            candidate = np.tanh(r * (x_n + told))
        elif how.get("no_tanh"):
            candidate = x_n + told
        else:
            candidate = np.tanh(x_n + told)
        h = z * candidate + (1 - z) * h if how.get("writes") else (1 - z) * candidate + z * h
        states.append(h)
    return states[-1] if how.get("last") else np.stack(states, axis=1)


@gru_states.mistake("Your update gate writes. Here it keeps: at 1 the state must stay as it was.")
def update_gate_writes(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, writes=True)


@gru_states.mistake("Your b_n stands outside of the reset gate, which should multiply it too.")
def bias_outside(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, bias_outside=True)


@gru_states.mistake("Your b_n is not used at all where the reset gate stands after the matrix.")
def forgets_b_n(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, no_bias=True)


@gru_states.mistake("Your b_n also acts where the reset gate stands before the matrix.")
def b_n_in_both(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, bias_always=True)


@gru_states.mistake(
    "Both of your kinds are the same one. Where does the reset gate stand in the other?",
    kind=(True, False),
)
def one_kind_only(X, h0, W_x, W_h, b, b_n, after, kind):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, kind=kind)


@gru_states.mistake("Your two kinds are exchanged: after the matrix, or before it?")
def kinds_exchanged(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, kind=not after)


@gru_states.mistake("Your reset and update gates have each other's weights.")
def gates_exchanged(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, exchanged=True)


@gru_states.mistake("Your candidate is not squeezed.")
def candidate_without_tanh(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, no_tanh=True)


@gru_states.mistake("Your reset gate multiplies the input's part as well. It resets the memory.")
def resets_the_input(X, h0, W_x, W_h, b, b_n, after):
    return _gru_variant(X, h0, W_x, W_h, b, b_n, after, all=True)


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


def _lstm_variant(x, h, c, W_x, W_h, b, **how):
    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    blocks = np.split(x @ W_x.T + h @ W_h.T + b, 4, axis=1)
    order = how.get("order", (0, 1, 2, 3))
    i, f, g, o = (blocks[k] for k in order)
    i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
    new = f * c + i * g
    shown = np.tanh(new)

    def vjp(h_grad, c_grad):
        total = c_grad + h_grad * o * (1 - shown**2)
        if how.get("h_only"):
            total = h_grad * o * (1 - shown**2)
        if how.get("c_only"):
            total = c_grad
        if how.get("no_slope"):
            total = c_grad + h_grad * o
        if how.get("no_gate"):
            total = c_grad + h_grad * (1 - shown**2)
        parts = [
            total * g * i * (1 - i),
            total * (new if how.get("new_cell") else c) * f * (1 - f),
            total * i * (1 - g**2),
            h_grad * (new if how.get("not_squeezed") else shown) * o * (1 - o),
        ]
        if how.get("tanh_slope"):
            parts[2] = total * i * g * (1 - g)
        if how.get("no_gate_slopes"):
            parts = [total * g, total * c, total * i, h_grad * shown]
        z = np.concatenate([parts[order.index(k)] for k in range(4)], axis=1)
        old = c_grad * f if how.get("highway_only") else total * f
        old = total if how.get("no_forget") else old
        return z @ W_x, z @ W_h, old, z.T @ x, z.T @ h, z.sum(axis=0)

    if how.get("exchanged"):
        return new, o * shown, vjp
    return (o * new if how.get("plain") else o * shown), new, vjp


@lstm_step.mistake(
    "Your blocks stand in another order than the page's. Which gate comes first?",
    order=((1, 0, 2, 3), (0, 1, 3, 2), (0, 2, 3, 1), (1, 0, 3, 2)),
)
def another_order(x, h, c, W_x, W_h, b, order):
    return _lstm_variant(x, h, c, W_x, W_h, b, order=order)


@lstm_step.mistake("Your hidden state shows the cell state as it is. What keeps it in bounds?")
def shows_it_plainly(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, plain=True)


@lstm_step.mistake("Your two states are exchanged: the hidden state comes first.")
def states_exchanged(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, exchanged=True)


@lstm_step.mistake(
    "On your way back the gradient of the new cell state itself is lost. It arrives from the next "
    "step, and it is the highway."
)
def loses_the_highway(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, h_only=True)


@lstm_step.mistake(
    "The hidden state was made of the cell state. On your way back its gradient does not reach it."
)
def hidden_does_not_reach_the_cell(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, c_only=True)


@lstm_step.mistake("The slope of the tanh on the way out is missing on your way back.")
def no_outer_slope(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, no_slope=True)


@lstm_step.mistake("On its way into the cell state the hidden gradient passes the output gate.")
def no_output_gate(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, no_gate=True)


@lstm_step.mistake("The forget gate multiplied the old cell state, not the new one.")
def forget_gate_meets_the_new_cell(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, new_cell=True)


@lstm_step.mistake("The output gate multiplied the squeezed cell state.")
def output_gate_meets_the_plain_cell(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, not_squeezed=True)


@lstm_step.mistake("Your candidate has the slope of a sigmoid. It is a tanh.")
def candidate_with_a_sigmoids_slope(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, tanh_slope=True)


@lstm_step.mistake(
    "The slopes of the four layers are missing: your gradients are those of the gates."
)
def no_slopes(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, no_gate_slopes=True)


@lstm_step.mistake(
    "The old cell state also hears what the hidden state wants, through the new cell state."
)
def old_cell_hears_the_cell_only(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, highway_only=True)


@lstm_step.mistake("On its way to the old cell state your gradient does not pass the forget gate.")
def passes_no_forget_gate(x, h, c, W_x, W_h, b):
    return _lstm_variant(x, h, c, W_x, W_h, b, no_forget=True)


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


@minlstm_states.check
def a_long_sequence(answer, rng):
    inputs = _minlstm_inputs(rng, 3000, 2, 3)
    expect_close(answer(*inputs), minlstm_states(*inputs), what="the states of 3,000 steps")


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


def _gates(X, W_f, b_f, W_i, b_i, W, b):
    f, i = (1 / (1 + np.exp(-(X @ A.T + a))) for A, a in ((W_f, b_f), (W_i, b_i)))
    return f, i, X @ W.T + b


def _rounds(keep, states):
    width = 1
    while width < len(states):
        joined, grown = states.copy(), keep.copy()
        joined[width:] = keep[width:] * states[:-width] + states[width:]
        grown[width:] = keep[width:] * keep[:-width]
        states, keep, width = joined, grown, 2 * width
    return states


@minlstm_states.mistake("Your numbers are right, but the steps still wait for each other.")
def goes_step_by_step(*inputs):
    f, i, new = _gates(*inputs)
    state, states = np.zeros_like(new[0]), np.zeros_like(new)
    for t in range(len(new)):
        state = f[t] / (f[t] + i[t]) * state + i[t] / (f[t] + i[t]) * new[t]
        states[t] = state
    return states


@minlstm_states.mistake("Your two gates do not add up to 1.")
def gates_as_they_are(*inputs):
    f, i, new = _gates(*inputs)
    return _rounds(f, i * new)


@minlstm_states.mistake("Your candidate passes a tanh. On the page it is plain.")
def squeezes_the_candidate(*inputs):
    f, i, new = _gates(*inputs)
    return _rounds(f / (f + i), i / (f + i) * np.tanh(new))


@minlstm_states.mistake(
    "Your division by a running product is right on paper. After many steps that product is 0 in "
    "floating point."
)
def divides_by_running_products(*inputs):
    f, i, new = _gates(*inputs)
    products = np.cumprod(f / (f + i), axis=0)
    with np.errstate(all="ignore"):
        return products * np.cumsum(i / (f + i) * new / products, axis=0)


@minlstm_states.mistake(
    "Your first state is the first candidate as it is. The 0 before it has its share as well."
)
def first_step_writes_all(*inputs):
    f, i, new = _gates(*inputs)
    written = i / (f + i) * new
    written[0] = new[0]
    return _rounds(f / (f + i), written)


@minlstm_states.mistake("Your forget and input gates have exchanged their roles.")
def gates_exchanged_roles(*inputs):
    f, i, new = _gates(*inputs)
    return _rounds(i / (f + i), f / (f + i) * new)


@minlstm_states.mistake(
    "You join two steps the wrong way round: what the first one wrote is multiplied by what the "
    "second one keeps."
)
def joins_the_wrong_way_round(*inputs):
    f, i, new = _gates(*inputs)
    keep, states, width = f / (f + i), i / (f + i) * new, 1
    while width < len(states):
        joined, grown = states.copy(), keep.copy()
        joined[width:] = keep[:-width] * states[width:] + states[:-width]
        grown[width:] = keep[width:] * keep[:-width]
        states, keep, width = joined, grown, 2 * width
    return states


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


def _memory_variant(q, k, v, alpha, beta, **how):
    S = np.zeros((k.shape[1], v.shape[1]))
    memories, out = [S], []
    for t in range(len(k)):
        if how.get("reads_first"):
            out.append(q[t] @ S)
        said = (1.0 if how.get("unfaded") else alpha[t]) * k[t] @ S
        if how.get("hebb"):
            said = 0.0
        S = alpha[t] * S + beta[t] * np.outer(k[t], v[t] - said)
        if how.get("fades_all"):
            S = alpha[t] * (memories[-1] + beta[t] * np.outer(k[t], v[t] - k[t] @ memories[-1]))
        memories.append(S)
        if not how.get("reads_first"):
            out.append(q[t] @ S)

    def vjp(g):
        grads = [np.zeros_like(a) for a in (q, k, v, alpha, beta)]
        q_grad, k_grad, v_grad, alpha_grad, beta_grad = grads
        S_grad = np.zeros_like(S)
        for t in reversed(range(len(k))):
            before, said = memories[t], k[t] @ memories[t]
            missing = v[t] - alpha[t] * said
            q_grad[t] = (before if how.get("old_query") else memories[t + 1]) @ g[t]
            S_grad = S_grad + np.outer(q[t], g[t])
            m_grad = beta[t] * k[t] @ S_grad
            v_grad[t], beta_grad[t] = m_grad, k[t] @ S_grad @ missing
            alpha_grad[t] = (S_grad * before).sum()
            if not how.get("alpha_once"):
                alpha_grad[t] -= m_grad @ said
            k_grad[t] = beta[t] * S_grad @ missing
            if not how.get("key_writes_only"):
                k_grad[t] -= alpha[t] * before @ m_grad
            S_grad = alpha[t] * S_grad
            if not how.get("decay_only"):
                S_grad -= alpha[t] * np.outer(k[t], m_grad)
            if how.get("forgets_later"):
                S_grad = np.zeros_like(S)
        return q_grad, k_grad, v_grad, alpha_grad, beta_grad

    return np.array(out), vjp


@gated_memory.mistake("You read before you write. A step first updates the memory.")
def reads_first(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, reads_first=True)


@gated_memory.mistake("You add without asking what the memory already says for this key.")
def adds_blindly(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, hebb=True)


@gated_memory.mistake(
    "You take away what the memory said before it faded. It has forgotten a part of that already."
)
def takes_away_too_much(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, unfaded=True)


@gated_memory.mistake("Your alpha also fades what is written in the same step.")
def fades_what_is_new(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, fades_all=True)


@gated_memory.mistake(
    "The key does two things: it asks what is there, and it writes. Your gradient knows one "
    "of them."
)
def key_writes_only(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, key_writes_only=True)


@gated_memory.mistake(
    "Alpha acts twice: on the memory, and on what the memory is found to say. Your gradient knows "
    "the first."
)
def alpha_once(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, alpha_once=True)


@gated_memory.mistake(
    "The memory before a step also decided what was missing. That part of its gradient is lost on "
    "your way back."
)
def memory_only_fades(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, decay_only=True)


@gated_memory.mistake(
    "Each of your steps hears its own reading only. A memory is read later as well."
)
def forgets_later_readings(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, forgets_later=True)


@gated_memory.mistake(
    "A query reads the memory after its step. Your gradient of q takes the old one."
)
def query_of_the_old_memory(q, k, v, alpha, beta):
    return _memory_variant(q, k, v, alpha, beta, old_query=True)
