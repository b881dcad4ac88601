"""Exercises of architectures/rnns.md."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chainrule.architectures.rnns import RNN, CountTable, RNNCell
from chainrule.course.exercises import exercise, expect, expect_close, expect_shape


@exercise(
    "A table of counts",
    difficulty=2,
    minutes=15,
    section="sequential-processing",
    counterpart="chainrule.architectures.rnns.characters:CountTable.loss",
    idea="Put dots around each name. Slide a window over it that is one symbol longer than the "
    "context, and count what you see: whole windows, and windows without their last symbol.",
)
def table_loss(train, test, letters, alpha):
    """Return the mean surprise, in nats, of the symbols of the test names under a table of counts.

    train and test are lists of names in small letters. The context of a symbol is the `letters`
    symbols before it, which may be none. In front of a name stand as many dots as its first letter
    needs for a context. Behind its last letter stands one dot, which is predicted like a letter.
    There are 27 symbols, and alpha > 0 is added to each count of the table.
    """

    def windows(names):
        for name in names:
            text = "." * letters + name + "."
            yield from (text[i : i + letters + 1] for i in range(len(name) + 1))

    seen = Counter(windows(train))
    contexts = Counter(window[:-1] for window in windows(train))
    surprise = [
        -np.log((seen[window] + alpha) / (contexts[window[:-1]] + 27 * alpha))
        for window in windows(test)
    ]
    return float(np.mean(surprise))


@table_loss.by_package
def _(package, train, test, letters, alpha):
    return package(CountTable(train, letters + 1, alpha), test)


def _names(rng, count):
    return ["".join(rng.choice(list("abcz"), rng.integers(2, 7))) for _ in range(count)]


@table_loss.check
def two_names_by_hand(answer, rng):
    # after the dot: a, a; after a: n, n and the dot; after n: n, n, a and the dot
    p = np.array([2.5 / 15.5, 2.5 / 16.5, 1.5 / 17.5])
    what = "the surprise of an, after ann and anna, one letter back, alpha = 0.5"
    expect_close(answer(["ann", "anna"], ["an"], 1, 0.5), -np.log(p).mean(), what=what)


@table_loss.check
def longer_and_shorter_contexts(answer, rng):
    train, test = _names(rng, 40), _names(rng, 15)
    for letters, alpha in ((0, 1.0), (1, 0.3), (2, 0.1), (3, 0.01), (6, 2.0)):
        what = f"the surprise of 15 names with contexts of {letters} letters"
        expected = table_loss(train, test, letters, alpha)
        expect_close(answer(list(train), list(test), letters, alpha), expected, what=what)


@table_loss.check
def what_never_occurred(answer, rng):
    expected = table_loss(["ab"], ["zz", "b"], 3, 0.2)
    what = "the surprise of zz and b after a single name, three letters back"
    expect_close(answer(["ab"], ["zz", "b"], 3, 0.2), expected, what=what)


@exercise(
    "Where a name really ends",
    difficulty=2,
    minutes=15,
    section="from-names-to-arrays",
    counterpart="chainrule.architectures.rnns.recurrent:RNN.forward",
    idea="Run all rows side by side. In each step, decide row by row whether the new state is "
    "taken or the old one stays.",
)
def last_states(ids, lengths, W_x, W_h, b):
    """Return the state of each row after its last real symbol, of shape (rows, h).

    ids has shape (rows, time) and holds whole numbers from 0 to n − 1. Of row i the first
    lengths[i] are real, at least one; what stands behind them is padding and may be any of them.
    The network is that of the page, with W_x of shape (h, n), W_h (h, h) and b (h); states begin
    at zeros.
    """
    state = np.zeros((len(ids), len(b)))
    for t in range(ids.shape[1]):
        new = np.tanh(W_x.T[ids[:, t]] + state @ W_h.T + b)
        state = np.where((t < np.asarray(lengths))[:, None], new, state)
    return state


def _cell(W_x, W_h, b):
    cell = RNNCell(W_x.shape[1], len(b), rng=np.random.default_rng(0), dtype=float)
    cell.weight_x.data, cell.weight_h.data, cell.bias.data = W_x, W_h, b
    return cell


@last_states.by_package
def _(package, ids, lengths, W_x, W_h, b):
    real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
    return package(RNN(_cell(W_x, W_h, b)), ids, mask=real)[1].data


def _weights(rng, h, n):
    return rng.normal(size=(h, n)), rng.normal(size=(h, h)) / np.sqrt(h), rng.normal(size=h)


@last_states.check
def one_unit_by_hand(answer, rng):
    ids, lengths = np.array([[1, 0, 0], [1, 0, 1]]), np.array([3, 1])
    received = answer(ids, lengths, np.array([[0.0, 0.6]]), np.array([[0.5]]), np.zeros(1))
    expected = np.array([[0.13038], [0.53705]])
    expect_close(received, expected, rtol=1e-3, what="the states after 0.6, 0, 0 and after 0.6")


@last_states.check
def rows_of_many_lengths(answer, rng):
    weights = _weights(rng, 5, 7)
    ids, lengths = rng.integers(0, 7, (6, 11)), np.array([11, 1, 4, 7, 2, 10])
    received = answer(ids.copy(), lengths.copy(), *weights)
    expect_shape(received, (6, 5), what="the states")
    expect_close(received, last_states(ids, lengths, *weights), what="the states of six rows")


@last_states.check
def padding_may_be_anything(answer, rng):
    weights = _weights(rng, 3, 5)
    ids, lengths = rng.integers(0, 5, (4, 9)), np.array([2, 5, 8, 9])
    other = np.where(np.arange(9) < lengths[:, None], ids, rng.integers(0, 5, (4, 9)))
    expected = last_states(ids, lengths, *weights)
    for padded in (ids, other):
        what = "the states of four rows, with one padding and another"
        expect_close(answer(padded.copy(), lengths.copy(), *weights), expected, what=what)


@exercise(
    "How far back it feels",
    difficulty=3,
    minutes=20,
    section="with-tanh-and-with-many-units",
    counterpart="chainrule.architectures.rnns.through_time:jacobian_norms",
    idea="Run forward and keep the states. Then build the product from its left end, one factor "
    "for each step back, and take its norm before each new factor.",
)
def influence(X, W_x, W_h, b):
    """Return how strongly the last state depends on the state s steps before it, for every s.

    X has shape (time, n), one sequence, with at least one step; the network is that of the page,
    with W_x (h, n), W_h (h, h), b (h) and zeros as the state to begin with. Return an array of
    shape (time): in place s stands the spectral norm of the derivative of the last state with
    respect to the state s steps earlier. In place 0 that is the last state itself: 1.
    """
    state, states = np.zeros(len(b)), []
    for x in X:
        state = np.tanh(W_x @ x + W_h @ state + b)
        states.append(state)
    J, norms = np.eye(len(b)), []
    for state in reversed(states):
        norms.append(np.linalg.norm(J, 2))
        J = J * (1 - state**2) @ W_h
    return np.array(norms)


@influence.by_package
def _(package, X, W_x, W_h, b):
    return package(_cell(W_x, W_h, b), X)


@influence.check
def one_unit_that_fades(answer, rng):
    one = np.array([[1.0]])
    received = answer(np.zeros((100, 1)), one, np.array([[0.9]]), np.zeros(1))
    expect_shape(received, (100,), what="the norms")
    expect_close(received, 0.9 ** np.arange(100), what="the norms for one unit, 0.9, no input")
    gone = int(np.argmax(np.asarray(received) < 1e-3))
    expect(gone == 66, f"less than a thousandth is left after {gone} steps, not after 66")


@influence.check
def the_unit_of_the_page(answer, rng):
    X = np.array([[0.6], [0.0], [0.0]])
    received = answer(X, np.array([[1.0]]), np.array([[0.5]]), np.zeros(1))
    what = "the norms for 0.6, 0, 0 and the weight ½"
    expect_close(received, np.array([1.0, 0.49150, 0.22885]), rtol=1e-3, what=what)


@influence.check
def many_units(answer, rng):
    for time, n, h in ((1, 2, 3), (2, 3, 5), (9, 3, 7)):
        X, weights = rng.normal(size=(time, n)), _weights(rng, h, n)
        what = f"the norms of {h} units over {time} steps"
        expect_close(answer(X.copy(), *weights), influence(X, *weights), what=what)


@exercise(
    "A gradient in pieces",
    difficulty=3,
    minutes=25,
    section="a-gradient-in-pieces",
    counterpart="chainrule.architectures.rnns.recurrent:_recur",
    idea="Go through all steps forward first: the states are those of the whole sequence. On the "
    "way back, what comes from the future is dropped wherever a cut is passed.",
)
def in_pieces(P, G, W_h, k):
    """Return the gradient of W_h by truncated backpropagation through time in pieces of k steps.

    One sequence. P has shape (time, h): row t is what the input and the bias add before tanh. The
    state begins at zeros and is handed on from piece to piece; the last piece may be shorter. G has
    shape (time, h): row t is the gradient of the loss of step t by its state, without what reaches
    that state through later steps. No gradient passes from a piece to the one before.
    """
    states, state = [np.zeros(P.shape[1])], np.zeros(P.shape[1])
    for p in P:
        state = np.tanh(p + W_h @ state)
        states.append(state)
    gradient, future = np.zeros_like(W_h), np.zeros(P.shape[1])
    for t in reversed(range(len(P))):
        if (t + 1) % k == 0:
            future = np.zeros(P.shape[1])
        inside = (G[t] + future) * (1 - states[t + 1] ** 2)
        gradient += np.outer(inside, states[t])
        future = W_h.T @ inside
    return gradient


@in_pieces.by_package
def _(package, P, G, W_h, k):
    gradient, state = np.zeros_like(W_h), np.zeros((1, P.shape[1]))
    for start in range(0, len(P), k):
        piece = slice(start, start + k)
        H, vjp = package(P[None, piece], state, W_h)
        gradient += vjp(G[None, piece])[2]
        state = H[:, -1]
    return gradient


@in_pieces.check
def the_unit_in_pieces(answer, rng):
    P, G = np.array([[0.6], [0.0], [0.0]]), np.array([[0.0], [0.0], [1.0]])
    for k, expected in ((3, 0.50360), (1, 0.25779)):
        what = f"the gradient of the page's unit, in pieces of {k}"
        received = answer(P.copy(), G.copy(), np.array([[0.5]]), k)
        expect_close(received, np.array([[expected]]), rtol=1e-3, what=what)


@in_pieces.check
def pieces_of_every_size(answer, rng):
    P, G = rng.normal(size=(11, 5)), rng.normal(size=(11, 5))
    W_h = rng.normal(size=(5, 5)) / 2
    for k in (1, 2, 3, 4, 7, 11, 20):
        what = f"the gradient of 11 steps in pieces of {k}"
        received = answer(P.copy(), G.copy(), W_h.copy(), k)
        expect_close(received, in_pieces(P, G, W_h, k), what=what)


@exercise(
    "Through time, both ways",
    difficulty=4,
    minutes=35,
    section="backpropagation-through-time",
    counterpart="chainrule.architectures.rnns.recurrent:_recur",
    idea="Where a row reads nothing, its state is a copy of the one before. Forward the copy is "
    "the state; backward, what arrives at a copy belongs to the original.",
)
def through_time(P, h0, W_h, real):
    """Return all states, of shape (batch, time, h), and a function vjp.

    P has shape (batch, time, h) and holds what inputs and bias add before tanh; h0 (batch, h) are
    the states to begin with. real, Boolean and of shape (batch, time), is true where a row reads
    something; elsewhere its state stays as it was. vjp(g), with g the gradient of all states,
    returns the gradients of P, h0 and W_h, a tuple of three arrays.
    """
    states, h = [], h0
    for t in range(P.shape[1]):
        h = np.where(real[:, t, None], np.tanh(P[:, t] + h @ W_h.T), h)
        states.append(h)
    H = np.stack(states, axis=1)

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), np.zeros_like(h0)
        for t in reversed(range(P.shape[1])):
            h_grad = h_grad + g[:, t]
            P_grad[:, t] = h_grad * (1 - H[:, t] ** 2) * real[:, t, None]
            W_grad += P_grad[:, t].T @ (H[:, t - 1] if t else h0)
            h_grad = np.where(real[:, t, None], P_grad[:, t] @ W_h, h_grad)
        return P_grad, h_grad, W_grad

    return H, vjp


@through_time.by_package
def _(package, P, h0, W_h, real):
    return package(P, h0, W_h, mask=real)


@through_time.in_package
def _(mine, P, h0, W_h, *, mask=None, activation="tanh"):
    if activation != "tanh":
        raise ValueError(f"this loop knows tanh only, not {activation}")
    return mine(P, h0, W_h, np.ones(P.shape[:2], bool) if mask is None else mask)


def _expect_gradients(received, expected, what):
    names = ("P", "h0", "W_h")
    count = len(received)
    expect(count == 3, f"expected the gradients of P, h0 and W_h; received {count} things")
    for name, a, b in zip(names, received, expected, strict=True):
        expect_close(a, b, what=f"the gradient of {name} for {what}")


@through_time.check
def the_unit_both_ways(answer, rng):
    P, real = np.array([[[0.6], [0.0], [0.0]]]), np.ones((1, 3), bool)
    H, vjp = answer(P, np.zeros((1, 1)), np.array([[0.5]]), real)
    what = "the states of the page's unit"
    expect_close(H, np.array([[[0.53705], [0.26225], [0.13038]]]), rtol=1e-3, what=what)
    received = vjp(np.array([[[0.0], [0.0], [1.0]]]))
    expected = [[[0.16284], [0.45770], [0.98300]]], [[0.08142]], [[0.50360]]
    expect(len(received) == 3, f"vjp must return three gradients, not {len(received)}")
    for name, a, b in zip(("P", "h0", "W_h"), received, expected, strict=True):
        what = f"the gradient of {name} for the page's unit"
        expect_close(a, np.array(b), rtol=1e-3, what=what)


@through_time.check
def everything_is_read(answer, rng):
    P, h0 = rng.normal(size=(3, 7, 5)), rng.normal(size=(3, 5))
    W_h, g, real = rng.normal(size=(5, 5)) / 2, rng.normal(size=(3, 7, 5)), np.ones((3, 7), bool)
    H, vjp = answer(P.copy(), h0.copy(), W_h.copy(), real.copy())
    expected_H, expected_vjp = through_time(P, h0, W_h, real)
    expect_close(H, expected_H, what="the states of three rows")
    _expect_gradients(vjp(g.copy()), expected_vjp(g), "three rows of seven steps")


@through_time.check
def rows_with_gaps_and_padding(answer, rng):
    P, h0 = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 3))
    W_h, g = rng.normal(size=(3, 3)) / 2, rng.normal(size=(4, 6, 3))
    real = np.array(
        [[1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 1], [1, 0, 0, 0, 1, 0]]
    )
    real = real.astype(bool)
    H, vjp = answer(P.copy(), h0.copy(), W_h.copy(), real.copy())
    expected_H, expected_vjp = through_time(P, h0, W_h, real)
    expect_close(H, expected_H, what="the states of four rows with gaps")
    _expect_gradients(vjp(g.copy()), expected_vjp(g), "four rows with gaps")


@exercise(
    "A tree, both ways",
    difficulty=4,
    minutes=35,
    section="a-loop-becomes-a-tree",
    counterpart="chainrule.architectures.rnns.linear:linear_recurrence",
    idea="Forward as on the page. Backward, write down what the gradient of one state is made of: "
    "its own, and a multiple of that of the next. That is a recurrence you know, read from the "
    "other end.",
)
def linear_recurrence(a, b):
    """Return all states h_t = a_t h_{t−1} + b_t, of shape (time, d), and a function vjp.

    a and b have shape (time, d), with at least one step; the state before the first is 0. vjp(g),
    with g the gradient of all states, returns the gradients of a and b, a tuple of two arrays.
    Neither way may go step by step: 1,024 steps may take at most 300 operations on arrays.
    """

    def scan(a, b):
        if len(b) == 1:
            return b.copy()
        h, last = np.empty_like(b), len(b) - 1
        joined = a[1::2] * b[0:last:2] + b[1::2]
        h[1::2] = scan(a[1::2] * a[0:last:2], joined)
        h[0] = b[0]
        h[2::2] = a[2::2] * h[1:-1:2] + b[2::2]
        return h

    h = scan(a, b)

    def vjp(g):
        following = np.zeros_like(a)
        following[:-1] = a[1:]
        b_grad = scan(following[::-1], g[::-1])[::-1]
        a_grad = np.zeros_like(a)
        a_grad[1:] = b_grad[1:] * h[:-1]
        return a_grad, b_grad

    return h, vjp


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


@linear_recurrence.check
def four_steps_by_hand(answer, rng):
    a, b = np.full((4, 1), 0.5), np.array([[1.0], [0.0], [0.0], [1.0]])
    h, vjp = answer(a, b)
    expect_close(h, np.array([[1.0], [0.5], [0.25], [1.125]]), what="the states of 1, 0, 0, 1")
    received = vjp(np.array([[0.0], [0.0], [0.0], [1.0]]))
    expect(len(received) == 2, f"vjp must return two gradients, not {len(received)}")
    expected = [[0.0], [0.25], [0.25], [0.25]], [[0.125], [0.25], [0.5], [1.0]]
    for name, part, numbers in zip("ab", received, expected, strict=True):
        expect_close(part, np.array(numbers), what=f"the gradient of {name} for the last state")


@linear_recurrence.check
def every_length(answer, rng):
    for time in (1, 2, 3, 7, 16, 29):
        a, b = rng.uniform(0.1, 1.0, (time, 3)), rng.normal(size=(time, 3))
        g = rng.normal(size=(time, 3))
        h, vjp = answer(a.copy(), b.copy())
        expected, expected_vjp = linear_recurrence(a, b)
        expect_close(h, expected, what=f"the states of {time} steps")
        received = vjp(g.copy())
        expect(len(received) == 2, f"vjp must return two gradients, not {len(received)}")
        for name, part, numbers in zip("ab", received, expected_vjp(g), strict=True):
            expect_close(part, numbers, what=f"the gradient of {name} for {time} steps")


@linear_recurrence.check
def in_few_rounds(answer, rng):
    a, b, g = (rng.uniform(0.1, 1.0, (1024, 1)).view(_Counting) for _ in range(3))
    _Counting.operations = 0
    _, vjp = answer(a, b)
    there = _Counting.operations
    vjp(g)
    back = _Counting.operations - there
    for name, count in (("forward", there), ("backward", back)):
        expect(count <= 300, f"{name}, 1,024 steps took {count:,} operations; 300 are allowed")
