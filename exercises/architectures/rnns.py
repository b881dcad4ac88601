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


def _table(train, test, alpha, windows, symbols=27, log=np.log, upper=True, lower=True):
    seen = Counter(window for name in train for window in windows(name))
    contexts = Counter(window[:-1] for name in train for window in windows(name))
    surprise = []
    for name in test:
        for window in windows(name):
            above = seen[window] + alpha * upper
            below = contexts[window[:-1]] + symbols * alpha * lower
            with np.errstate(all="ignore"):
                surprise.append(-log(np.float64(above) / below))
    return float(np.mean(surprise)) if surprise else float("nan")


def _windows(letters, front=True, end=True):
    def windows(name):
        text = "." * letters * front + name + "." * end
        return [text[i : i + letters + 1] for i in range(len(text) - letters)]

    return windows


@table_loss.mistake(
    "You do not predict where a name ends. The closing dot costs a surprise like any letter."
)
def forgets_the_end(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters, end=False))


@table_loss.mistake(
    "Your first letters are missing: they have no full context. What stands in front of a name?"
)
def forgets_the_beginning(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters, front=False))


@table_loss.mistake("Your shares do not add up to 1. How many symbols may come next?")
def counts_the_letters_only(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters), symbols=26)


@table_loss.mistake(
    "You add alpha to the counts of the windows only. Then the shares of a row add up to more "
    "than 1: what must be added to the row's total?"
)
def smooths_above_only(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters), lower=False)


@table_loss.mistake("The row's total grows by more than one alpha: every symbol's count has grown.")
def adds_alpha_once_below(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters), symbols=1)


@table_loss.mistake("Your surprise is in bits.")
def in_bits(train, test, letters, alpha):
    return _table(train, test, alpha, _windows(letters), log=np.log2)


@table_loss.mistake(
    "You average names, not symbols: in your mean a letter of a short name weighs more."
)
def mean_of_means(train, test, letters, alpha):
    each = [_table(train, [name], alpha, _windows(letters)) for name in test]
    return float(np.mean(each))


@table_loss.mistake(
    "Your contexts reach back into the name before. Each name begins anew, after dots alone."
)
def runs_across_names(train, test, letters, alpha):
    def all_windows(names):
        text = "." * max(letters, 1) + ".".join(names) + "."
        first = max(letters, 1) - letters
        return [text[i : i + letters + 1] for i in range(first, len(text) - letters)]

    seen = Counter(all_windows(train))
    contexts = Counter(window[:-1] for window in all_windows(train))
    surprise = [
        -np.log((seen[w] + alpha) / (contexts[w[:-1]] + 27 * alpha)) for w in all_windows(test)
    ]
    return float(np.mean(surprise))


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


def _run(ids, W_x, W_h, b, twice=False):
    state, states = np.zeros((len(ids), len(b))), []
    for t in range(ids.shape[1]):
        state = np.tanh(W_x.T[ids[:, t]] + state @ W_h.T + b * (1 + twice))
        states.append(state)
    return np.stack(states, axis=1)


def _at(states, places):
    return states[np.arange(len(states)), np.asarray(places)]


@last_states.mistake(
    "Your network read the padding too: a row's last column is not the end of its name."
)
def reads_the_padding(ids, lengths, W_x, W_h, b):
    return _run(ids, W_x, W_h, b)[:, -1]


@last_states.mistake(
    "One step too late: the first symbol of the padding has been read. Places count from 0."
)
def one_step_late(ids, lengths, W_x, W_h, b):
    return _at(_run(ids, W_x, W_h, b), np.minimum(lengths, ids.shape[1] - 1))


@last_states.mistake("One step too early: the last real symbol has not been read.")
def one_step_early(ids, lengths, W_x, W_h, b):
    return _at(_run(ids, W_x, W_h, b), np.maximum(np.asarray(lengths) - 2, 0))


@last_states.mistake(
    "Symbol 0 in the place of padding is still a symbol: the state moves when it is read."
)
def padding_is_symbol_0(ids, lengths, W_x, W_h, b):
    real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
    return _run(np.where(real, ids, 0), W_x, W_h, b)[:, -1]


@last_states.mistake(
    "Where nothing is read you add no input, but tanh and W_h still act on the state. It must stay."
)
def fades_in_the_padding(ids, lengths, W_x, W_h, b):
    state = np.zeros((len(ids), len(b)))
    for t in range(ids.shape[1]):
        real = (t < np.asarray(lengths))[:, None]
        state = np.tanh(W_x.T[ids[:, t]] * real + state @ W_h.T + b)
    return state


@last_states.mistake("Rows that end early come out as zeros. Their state should stay, not go.")
def zeros_behind_the_end(ids, lengths, W_x, W_h, b):
    states = _run(ids, W_x, W_h, b)
    real = np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]
    return (states * real[..., None])[:, -1]


@last_states.mistake(
    "W_h acts the wrong way round. With states as rows, which of its axes belongs to the old state?"
)
def transposes_the_memory(ids, lengths, W_x, W_h, b):
    return _at(_run(ids, W_x, W_h.T, b), np.asarray(lengths) - 1)


@last_states.mistake(
    "The bias is in your states twice. Some libraries keep two biases; this network has one."
)
def bias_twice(ids, lengths, W_x, W_h, b):
    return _at(_run(ids, W_x, W_h, b, twice=True), np.asarray(lengths) - 1)


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


def _states(X, W_x, W_h, b):
    inner, states, state = [], [], np.zeros(len(b))
    for x in X:
        inner.append(W_x @ x + W_h @ state + b)
        state = np.tanh(inner[-1])
        states.append(state)
    return np.array(inner), np.array(states)


def _norms(slopes, W_h, norm=2):
    J, norms = np.eye(len(W_h)), []
    for slope in slopes[::-1]:
        norms.append(np.linalg.norm(J, norm))
        J = J * slope @ W_h
    return np.array(norms)


@influence.mistake(
    "You multiply the norms of the steps. That is an upper bound: what one step stretches most, "
    "the next one need not."
)
def multiplies_norms(X, W_x, W_h, b):
    norms, product = [], 1.0
    for state in _states(X, W_x, W_h, b)[1][::-1]:
        norms.append(product)
        product *= np.linalg.norm((1 - state**2)[:, None] * W_h, 2)
    return np.array(norms)


@influence.mistake(
    "Your slopes are made of what enters tanh. Written with a square, the slope needs what comes "
    "out."
)
def slope_of_what_enters(X, W_x, W_h, b):
    return _norms(1 - _states(X, W_x, W_h, b)[0] ** 2, W_h)


@influence.mistake("Your slopes of tanh are missing: this is the product of the W_h alone.")
def forgets_the_slopes(X, W_x, W_h, b):
    return _norms(np.ones((len(X), len(b))), W_h)


@influence.mistake(
    "Each factor has the slopes of the state before it. A step's slopes are those of the state "
    "that it makes."
)
def slopes_one_step_off(X, W_x, W_h, b):
    states = np.concatenate([np.zeros((1, len(b))), _states(X, W_x, W_h, b)[1][:-1]])
    return _norms(1 - states**2, W_h)


@influence.mistake("Your list begins with the far end. Place 0 belongs to the last state itself.")
def in_order_of_time(X, W_x, W_h, b):
    return _norms(1 - _states(X, W_x, W_h, b)[1] ** 2, W_h)[::-1]


@influence.mistake("Place 0 should be 1: over no steps the derivative is the identity.")
def leaves_out_the_identity(X, W_x, W_h, b):
    slopes = 1 - _states(X, W_x, W_h, b)[1] ** 2
    return _norms(np.concatenate([slopes[:1], slopes]), W_h)[1:]


@influence.mistake("You return Frobenius norms. Asked for is the most that the matrix stretches.")
def frobenius(X, W_x, W_h, b):
    return _norms(1 - _states(X, W_x, W_h, b)[1] ** 2, W_h, "fro")


@influence.mistake(
    "Your factors stand in the order of time from left to right. On paper the last step is the "
    "leftmost."
)
def factors_turned_round(X, W_x, W_h, b):
    J, norms = np.eye(len(b)), []
    for state in _states(X, W_x, W_h, b)[1][::-1]:
        norms.append(np.linalg.norm(J, 2))
        J = (1 - state**2)[:, None] * W_h @ J
    return np.array(norms)


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
    for k in (3, 2, 1, 4, 7, 11, 20):
        what = f"the gradient of 11 steps in pieces of {k}"
        received = answer(P.copy(), G.copy(), W_h.copy(), k)
        expect_close(received, in_pieces(P, G, W_h, k), what=what)


def _pieces(P, G, W_h, k, reset=False, wrong_slope=False, first_use=True):
    state, parts = np.zeros(P.shape[1]), []
    for start in range(0, len(P), k):
        states, inner = [np.zeros_like(state) if reset else state], []
        for p in P[start : start + k]:
            inner.append(p + W_h @ states[-1])
            states.append(np.tanh(inner[-1]))
        part, future = np.zeros_like(W_h), np.zeros(P.shape[1])
        for t in reversed(range(len(inner))):
            slope = 1 - (inner[t] if wrong_slope else states[t + 1]) ** 2
            inside = (G[start + t] + future) * slope
            if t or first_use:
                part += np.outer(inside, states[t])
            future = W_h.T @ inside
        parts.append(part)
        state = states[-1]
    return parts


@in_pieces.mistake(
    "This is the whole gradient: nothing is cut. Where must what comes from the future be dropped?"
)
def never_detached(P, G, W_h, k):
    return sum(_pieces(P, G, W_h, len(P)))


@in_pieces.mistake(
    "Each of your pieces begins with an empty memory. Only the gradient is cut; the state goes on."
)
def resets_the_state(P, G, W_h, k):
    return sum(_pieces(P, G, W_h, k, reset=True))


@in_pieces.mistake("You return the gradient of the last piece. All pieces used the same weight.")
def last_piece_only(P, G, W_h, k):
    return _pieces(P, G, W_h, k)[-1]


@in_pieces.mistake("You return the mean over the pieces. The parts of one weight are added.")
def mean_of_pieces(P, G, W_h, k):
    parts = _pieces(P, G, W_h, k)
    return sum(parts) / len(parts)


@in_pieces.mistake(
    "The slope of tanh, written with a square, needs the state, not what entered tanh."
)
def wrong_slope(P, G, W_h, k):
    return sum(_pieces(P, G, W_h, k, wrong_slope=True))


@in_pieces.mistake(
    "The first step of a piece uses W_h too: it multiplies the state that was handed on. No "
    "gradient goes to that state, but one goes to the weight."
)
def forgets_the_first_use(P, G, W_h, k):
    return sum(_pieces(P, G, W_h, k, first_use=False))


@in_pieces.mistake(
    "Your loss looks k steps back from every step. Pieces are fixed: a loss at the beginning of a "
    "piece reaches back no further than to that beginning."
)
def window_for_every_loss(P, G, W_h, k):
    states = [np.zeros(P.shape[1])]
    for p in P:
        states.append(np.tanh(p + W_h @ states[-1]))
    gradient = np.zeros_like(W_h)
    for loss in range(len(P)):
        future = G[loss]
        for t in range(loss, max(loss - k, -1), -1):
            inside = future * (1 - states[t + 1] ** 2)
            gradient += np.outer(inside, states[t])
            future = W_h.T @ inside
    return gradient


@exercise(
    "Write, and be quoted exactly",
    difficulty=3,
    minutes=20,
    section="a-state-that-is-a-matrix",
    counterpart="chainrule.architectures.rnns.linear:fast_weights",
    idea="Write down what the memory says for a key after a step of some rate. How does it depend "
    "on the length of the key? Choose the rate, pair by pair, so that the answer is the value.",
)
def written_exactly(S, keys, values):
    """Return the memory after every value was written under its key, one pair after the other.

    S has shape (d_k, d_v), keys (pairs, d_k) and values (pairs, d_v). To write a pair is one step
    of gradient descent on ½‖Sᵀk − v‖² with respect to S. Keys may have any length, so each pair
    takes the rate with which the memory, right after the step, says exactly v for k. A key of
    zeros writes nothing. The arguments must not change.
    """
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        squared = k @ k
        if squared:
            S += np.outer(k, v - S.T @ k) / squared
    return S


@written_exactly.by_package
def _(package, S, keys, values):
    length = np.linalg.norm(keys, axis=1, keepdims=True)
    length = np.where(length > 0, length, 1.0)
    values = np.where(keys.any(axis=1, keepdims=True), values, 0.0)
    return package(keys / length, values / length, S=S)


@written_exactly.check
def the_long_key_of_the_page(answer, rng):
    keys, values = np.array([[2.0, 0.0], [2.0, 0.0], [1.0, 1.0]]), np.array([[10.0], [30.0], [7.0]])
    received = answer(np.zeros((2, 1)), keys, values)
    expect_shape(received, (2, 1), what="the memory")
    what = "the memory after 10 and 30 under (2, 0), and 7 under (1, 1)"
    expect_close(received, np.array([[11.0], [-4.0]]), what=what)


@written_exactly.check
def the_last_pair_is_quoted(answer, rng):
    received, expected = [], []
    for pairs, d_k, d_v in ((1, 5, 3), (4, 7, 2), (11, 3, 5)):
        S, keys = rng.normal(size=(d_k, d_v)), 3 * rng.normal(size=(pairs, d_k))
        values = rng.normal(size=(pairs, d_v))
        received.append(answer(S.copy(), keys.copy(), values.copy()))
        expected.append(written_exactly(S, keys, values))
    expect_close(received, expected, what="the memories after 1, 4 and 11 pairs")


@written_exactly.check
def a_step_down_the_gradient(answer, rng):
    S, k, v = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    gradient, eps = np.zeros_like(S), 1e-5
    for i in np.ndindex(S.shape):
        losses = []
        for move in (eps, -eps):
            moved = S.copy()
            moved[i] += move
            losses.append(0.5 * np.sum((moved.T @ k - v) ** 2))
        gradient[i] = (losses[0] - losses[1]) / (2 * eps)
    step = answer(S.copy(), k[None], v[None]) - S
    expect_close(step * (k @ k), -gradient, rtol=1e-6, what="the step times the squared length")


@written_exactly.check
def a_key_of_zeros(answer, rng):
    S, keys = rng.normal(size=(3, 2)), rng.normal(size=(3, 3))
    keys[1] = 0
    values = rng.normal(size=(3, 2))
    what = "the memory after three pairs, the second with a key of zeros"
    received = answer(S.copy(), keys.copy(), values.copy())
    expect_close(received, written_exactly(S, keys, values), what=what)


def _write(S, keys, values, rate, delta=True, old=False, sign=1):
    first, S = S, S.copy()
    for k, v in zip(keys, values, strict=True):
        if k.any():
            said = (first if old else S).T @ k
            S = S + sign * rate(k) * np.outer(k, v - delta * said)
    return S


def _exact(k):
    return 1 / (k @ k)


@written_exactly.mistake(
    "Your rate is 1 for every key. With a key of length 2 the memory says four times too much."
)
def rate_one(S, keys, values):
    return _write(S, keys, values, lambda k: 1.0)


@written_exactly.mistake(
    "You divide by the length of the key. How often does the key act between writing and reading?"
)
def divides_by_the_length(S, keys, values):
    return _write(S, keys, values, lambda k: 1 / np.sqrt(k @ k))


@written_exactly.mistake(
    "You add the value, whatever the memory says already. What is missing is less.", exact=(0, 1)
)
def hebb(S, keys, values, exact):
    return _write(S, keys, values, _exact if exact else lambda k: 1.0, delta=False)


@written_exactly.mistake(
    "You ask the memory from before the first pair. Each pair finds what the pairs before it wrote."
)
def asks_the_first_memory(S, keys, values):
    return _write(S, keys, values, _exact, old=True)


@written_exactly.mistake("Your steps go up: after each, the memory is further from the value.")
def climbs(S, keys, values):
    return _write(S, keys, values, _exact, sign=-1)


@written_exactly.mistake(
    "You scale the keys to length 1 and leave the values. Asked with the key itself, the memory "
    "says a multiple of the value."
)
def scales_the_keys_only(S, keys, values):
    S = S.copy()
    for k, v in zip(keys, values, strict=True):
        if k.any():
            unit = k / np.sqrt(k @ k)
            S += np.outer(unit, v - S.T @ unit)
    return S


@written_exactly.mistake("You forget what the memory held before the first pair.")
def begins_at_zeros(S, keys, values):
    return _write(np.zeros_like(S), keys, values, _exact)


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


def _loop(P, h0, W_h, real):
    states, inner, h = [], [], h0
    for t in range(P.shape[1]):
        inner.append(P[:, t] + h @ W_h.T)
        h = np.where(real[:, t, None], np.tanh(inner[-1]), h)
        states.append(h)
    return np.stack(states, axis=1), np.stack(inner, axis=1)


def _both(P, h0, W_h, real, **how):
    """The right pair, or one that is wrong in the way that the options say."""
    H, inner = _loop(P, h0, W_h, real)
    slope = 1 - (inner if how.get("wrong_slope") else H) ** 2

    def vjp(g):
        P_grad, W_grad, h_grad = np.zeros_like(P), np.zeros_like(W_h), np.zeros_like(h0)
        steps = range(P.shape[1])
        for t in steps if how.get("forwards") else reversed(steps):
            if t == P.shape[1] - 1 or not how.get("last_only"):
                h_grad = h_grad + g[:, t]
            read = real[:, t, None]
            P_grad[:, t] = h_grad * slope[:, t] * read
            before = h0 if t == 0 else H[:, t - 1]
            if how.get("new_state"):
                before = H[:, t]
            if how.get("no_start") and t == 0:
                before = np.zeros_like(h0)
            part = P_grad[:, t].T @ before
            W_grad = part if how.get("overwrites") else W_grad + part
            through = P_grad[:, t] @ (W_h.T if how.get("transposed") else W_h)
            if how.get("alone"):
                h_grad = np.zeros_like(h0)
            elif how.get("drops"):
                h_grad = through
            else:
                h_grad = np.where(read, through, h_grad)
        return P_grad, h_grad, W_grad

    return H, vjp


@through_time.mistake(
    "Your gradient of W_h is that of one step: each step overwrites the one before. The weight was "
    "used in all of them."
)
def overwrites_the_gradient(P, h0, W_h, real):
    return _both(P, h0, W_h, real, overwrites=True)


@through_time.mistake(
    "Your way back runs from the first step to the last. What does a state need before its "
    "gradient is complete?"
)
def runs_forwards(P, h0, W_h, real):
    return _both(P, h0, W_h, real, forwards=True)


@through_time.mistake(
    "The slope of tanh, written with a square, needs the state, not what entered tanh."
)
def slope_of_the_wrong_number(P, h0, W_h, real):
    return _both(P, h0, W_h, real, wrong_slope=True)


@through_time.mistake(
    "Where nothing is read your way back drops the gradient. The state there is a copy: what "
    "arrives belongs to the state it was copied from."
)
def drops_what_passes_a_gap(P, h0, W_h, real):
    return _both(P, h0, W_h, real, drops=True)


@through_time.mistake(
    "Each of your steps hears its own loss only. A state also acts through the steps after it."
)
def forgets_the_future(P, h0, W_h, real):
    return _both(P, h0, W_h, real, alone=True)


@through_time.mistake(
    "Only the gradient of the last state enters. g has one for every state, and two gradients meet "
    "in each."
)
def last_state_only(P, h0, W_h, real):
    return _both(P, h0, W_h, real, last_only=True)


@through_time.mistake("W_h multiplied the state before the step, not the one that the step made.")
def uses_the_new_state(P, h0, W_h, real):
    return _both(P, h0, W_h, real, new_state=True)


@through_time.mistake("W_h acts the wrong way round on your way back, with gradients as rows.")
def transposes_on_the_way_back(P, h0, W_h, real):
    return _both(P, h0, W_h, real, transposed=True)


@through_time.mistake("The first step multiplies h0 by W_h too. Its part is missing.")
def forgets_the_start(P, h0, W_h, real):
    return _both(P, h0, W_h, real, no_start=True)


@through_time.mistake(
    "Your states are zeros where nothing is read. Here a state stays as it was, and the loss may "
    "ask for it."
)
def zeros_where_nothing_is_read(P, h0, W_h, real):
    H, vjp = _both(P, h0, W_h, real)
    return H * real[..., None], lambda g: vjp(g * real[..., None])


@through_time.mistake("Your loop reads the padding: states change where real is false.")
def reads_where_nothing_is(P, h0, W_h, real):
    return _both(P, h0, W_h, np.ones_like(real))


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


def _scan(a, b):
    """Joins ever wider neighbours: right, and in ten rounds for 1,024 steps."""
    width = 1
    while width < len(b):
        joined, grown = b.copy(), a.copy()
        joined[width:] = a[width:] * b[:-width] + b[width:]
        grown[width:] = a[width:] * a[:-width]
        a, b, width = grown, joined, 2 * width
    return b


def _step_by_step(a, b):
    h, state = np.zeros_like(b), np.zeros_like(b[0])
    for t in range(len(b)):
        state = a[t] * state + b[t]
        h[t] = state
    return h


def _pair(a, b, scan=_scan, following=True, old_state=True, backwards=True):
    h = scan(a, b)

    def vjp(g):
        factor = a
        if following:
            factor = np.zeros_like(a)
            factor[:-1] = a[1:]
        b_grad = scan(factor[::-1], g[::-1])[::-1] if backwards else scan(a, g)
        if not old_state:
            return b_grad * h, b_grad
        a_grad = np.zeros_like(a)
        a_grad[1:] = b_grad[1:] * h[:-1]
        return a_grad, b_grad

    return h, vjp


@linear_recurrence.mistake("Your numbers are right, but the steps still wait for each other.")
def goes_step_by_step(a, b):
    return _pair(a, b, scan=_step_by_step)


@linear_recurrence.mistake(
    "On the way back a state's gradient is multiplied by the factor of the step that it takes "
    "part in: the following one."
)
def factor_of_its_own_step(a, b):
    return _pair(a, b, following=False)


@linear_recurrence.mistake("a_t multiplies the old state. So its gradient contains the old one.")
def multiplies_the_new_state(a, b):
    return _pair(a, b, old_state=False)


@linear_recurrence.mistake(
    "Your gradients run forwards in time. The last state knows nothing of later ones: begin there."
)
def gradients_run_forwards(a, b):
    return _pair(a, b, backwards=False)


@linear_recurrence.mistake(
    "You join two steps the wrong way round: what the first one added is multiplied by the factor "
    "of the second."
)
def joins_the_wrong_way_round(a, b):
    def scan(a, b):
        width = 1
        while width < len(b):
            joined, grown = b.copy(), a.copy()
            joined[width:] = a[:-width] * b[width:] + b[:-width]
            grown[width:] = a[width:] * a[:-width]
            a, b, width = grown, joined, 2 * width
        return b

    return _pair(a, b, scan=scan)


@linear_recurrence.mistake(
    "g is the gradient of each state by itself. A state also acts through all later ones."
)
def forgets_later_states(a, b):
    h = _scan(a, b)

    def vjp(g):
        a_grad = np.zeros_like(a)
        a_grad[1:] = g[1:] * h[:-1]
        return a_grad, g.copy()

    return h, vjp


@linear_recurrence.mistake(
    "Your division by a running product is right on paper. After a thousand steps that product is "
    "0 in floating point."
)
def divides_by_running_products(a, b):
    def scan(a, b):
        with np.errstate(all="ignore"):
            products = np.cumprod(a, axis=0)
            return products * np.cumsum(b / products, axis=0)

    return _pair(a, b, scan=scan, following=True)
