"""Exercises of transformers/self-attention.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.data.sentence import W_K, W_Q, W_V, embed
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.transformers.attention import scaled_dot_product_attention
from chainrule.transformers.self_attention import (
    causal_mask,
    rope_frequencies,
    sinusoidal_encoding,
    sliding_window_mask,
)


@exercise(
    "The matrix of a shift",
    difficulty=1,
    minutes=15,
    section="a-shift-is-a-turn",
    because="the package adds the encoding and never needs this matrix",
    idea="Every hand turns by its own angle, and no hand knows of another. So the matrix is empty "
    "but for one block of four numbers for each hand, on the diagonal.",
)
def shift_matrix(s, d, base):
    """Return the matrix R, shape (d, d), that moves a sinusoidal encoding on by s places.

    For every place t: R applied to the column c_t is c_(t+s). d is even; the entries of c_t are
    sin ω₀t, cos ω₀t, sin ω₁t, cos ω₁t, … with the frequencies of the page. s may be negative or a
    fraction. By hand first: what is R for s = 0?
    """
    R = np.zeros((d, d))
    for r in range(d // 2):
        angle = s * base ** (-2 * r / d)
        R[2 * r : 2 * r + 2, 2 * r : 2 * r + 2] = [
            [np.cos(angle), np.sin(angle)],
            [-np.sin(angle), np.cos(angle)],
        ]
    return R


@shift_matrix.check
def one_hand(answer, rng):
    expected = np.array([[-0.41614684, 0.90929743], [-0.90929743, -0.41614684]])
    expect_close(answer(2, 2, 10_000.0), expected, what="the matrix for 2 places and one hand")


@shift_matrix.check
def every_place(answer, rng):
    for s, d, base in ((5, 6, 10_000.0), (-3, 10, 100.0), (0.5, 4, 7.0)):
        R = answer(s, d, base)
        expect_shape(R, (d, d), what="the matrix")
        expect_close(R, shift_matrix(s, d, base), what=f"the matrix for s = {s}, d = {d}")
    table = sinusoidal_encoding(40, 6, dtype=float)
    moved = table[:-7] @ np.asarray(answer(7, 6, 10_000.0)).T
    expect_close(moved, table[7:], atol=1e-6, what="33 encodings, moved on by 7 places")


def _shift(s, d, frequency, sign=1.0):
    R = np.zeros((d, d))
    for r in range(d // 2):
        c, t = np.cos(s * frequency(r)), sign * np.sin(s * frequency(r))
        R[2 * r : 2 * r + 2, 2 * r : 2 * r + 2] = [[c, t], [-t, c]]
    return R


@shift_matrix.mistake(
    "Your matrix moves back, not on. The first entry of a pair is the sine: at place 0 the pair is "
    "(0, 1). Where does your first row send it?"
)
def turns_the_other_way(s, d, base):
    return shift_matrix(-s, d, base)


@shift_matrix.mistake("All hands of yours move at the pace of the first. What is the second's?")
def one_pace_for_all(s, d, base):
    return _shift(s, d, lambda r: 1.0)


@shift_matrix.mistake(
    "Your first hand is right, the others are too fast: look at the exponent of the base, hand by "
    "hand, and at what it is for the last one."
)
def half_of_the_exponent(s, d, base):
    return _shift(s, d, lambda r: base ** (-r / d))


@shift_matrix.mistake("Your hands get faster from pair to pair. Which sign has the exponent?")
def ever_faster(s, d, base):
    return _shift(s, d, lambda r: base ** (2 * r / d))


@shift_matrix.mistake(
    "The four numbers of a hand are right but do not stand together: sine and cosine of one hand "
    "are neighbours in this encoding."
)
def pairs_of_halves(s, d, base):
    angle = s * base ** (-2 * np.arange(d // 2) / d)
    c, t = np.diag(np.cos(angle)), np.diag(np.sin(angle))
    return np.block([[c, t], [-t, c]])


@shift_matrix.mistake(
    "All sines of yours are added. In one of the two rows of a hand the sine has a minus: a turn "
    "keeps lengths."
)
def loses_the_minus(s, d, base):
    R = shift_matrix(s, d, base)
    return np.where(np.tri(d, k=-1, dtype=bool), -R, R)


@exercise(
    "Causal weights for the newest tokens",
    difficulty=2,
    minutes=15,
    section="masking-for-autoregressive-models",
    counterpart="chainrule.transformers.self_attention:causal_mask",
    idea="Number all tokens as the keys are numbered. Which numbers have the queries? Then the "
    "rule is that of the page: a key may not have a larger number than its query.",
)
def causal_weights(scores):
    """Return the weights of causal attention, for scores of shape (n, keys) with keys ≥ n.

    The queries are the n newest of all tokens: the last query belongs to the last key. Each looks
    at its own token and at all before it. A weight that must be nothing is exactly 0.
    """
    n, keys = scores.shape
    may_look = np.arange(keys) <= np.arange(n)[:, None] + keys - n
    return softmax(np.where(may_look, scores, -np.inf))


@causal_weights.by_package
def _(package, scores):
    return softmax(np.where(package(*scores.shape), scores, -np.inf))


@causal_weights.in_package
def _(mine, n, keys=None):
    return mine(np.zeros((n, keys or n))) > 0


@causal_weights.check
def the_sentence(answer, rng):
    X = embed()
    scores = (X @ W_Q.T) @ (X @ W_K.T).T / 2
    received = answer(scores)
    expect_close(received[2], np.array([1, np.exp(3), 1, 0, 0]) / (2 + np.exp(3)),
                 what="the weights of 'bites' in 'the dog bites the man'")  # fmt: skip
    expect_close(received, causal_weights(scores), what="the weights of the five tokens")


@causal_weights.check
def the_newest_two_of_seven(answer, rng):
    scores = rng.normal(size=(2, 7))
    received = answer(scores)
    expect_close(received, causal_weights(scores), what="the weights of two queries and seven keys")
    expect(
        np.all(received[0, 6] == 0),
        f"the first of two queries gives the last key the weight {received[0, 6]}, not exactly 0",
    )


@causal_weights.check
def one_query(answer, rng):
    scores = rng.normal(size=(1, 5))
    expect_close(answer(scores), softmax(scores), what="the weights of the newest token alone")


def _masked(scores, diagonal):
    n, keys = scores.shape
    return softmax(np.where(np.tri(n, keys, diagonal, dtype=bool), scores, -np.inf))


@causal_weights.mistake(
    "Your triangle begins at the first key. But these queries are the newest tokens: which key "
    "belongs to the last query?"
)
def aligned_at_the_top_left(scores):
    return _masked(scores, 0)


@causal_weights.mistake(
    "Off by one: every query sees one key too many, and that is the token it should predict."
)
def sees_the_next(scores):
    return _masked(scores, scores.shape[1] - scores.shape[0] + 1)


@causal_weights.mistake(
    "Off by one: a query may look at its own token too. What does the first of five queries see?"
)
def blind_to_itself(scores):
    return _masked(scores, scores.shape[1] - scores.shape[0] - 1)


@causal_weights.mistake(
    "You put zeros in after the softmax: the rows no longer sum to 1, and what is missing tells "
    "about the future. What must a score become before the softmax?"
)
def zeros_after_the_softmax(scores):
    return np.tril(softmax(scores), scores.shape[1] - scores.shape[0])


@causal_weights.mistake(
    "You added a table of ones and zeros to the scores. That moves them by 1; nothing is hidden."
)
def adds_ones_and_zeros(scores):
    n, keys = scores.shape
    return softmax(scores + np.tri(n, keys, keys - n))


@causal_weights.mistake(
    "A score of 0 is a score like any other: its exponential is 1. Hidden keys still get weight."
)
def zeros_before_the_softmax(scores):
    return softmax(np.tril(scores, scores.shape[1] - scores.shape[0]))


@causal_weights.mistake(
    "You kept the future and hid the past. Rows are queries, columns are keys: on which side of "
    "the diagonal do earlier keys stand?"
)
def keeps_the_future(scores):
    n, keys = scores.shape
    hidden = np.tri(n, keys, keys - n - 1, dtype=bool)
    return softmax(np.where(hidden, -np.inf, scores))


@causal_weights.mistake(
    "Your softmax runs down the columns, so that the weights of each key sum to 1. It is the query "
    "that hands out weights."
)
def softmax_down_the_columns(scores):
    n, keys = scores.shape
    masked = np.where(np.tri(n, keys, keys - n, dtype=bool), scores, -np.inf)
    return softmax(masked.T).T


@exercise(
    "How much does order matter?",
    difficulty=2,
    minutes=15,
    section="why-position-information-is-needed",
    because="it measures a property that layers have or lack; no layer needs the number",
    idea="There are two ways from x to outputs in the new order: reorder the input and apply the "
    "layer, or apply the layer and reorder the output. Compare them.",
)
def order_gap(layer, x, order):
    """Return by how much a layer fails to be permutation equivariant for one order of its rows.

    layer takes rows, shape (T, d), and returns rows, shape (T, m). order is a permutation of
    0 … T − 1: x[order] are the rows in their new order. Return the largest absolute difference
    between the two sides of SA(ΠX) = Π SA(X), a number.
    """
    return float(np.abs(layer(x[order]) - layer(x)[order]).max())


def _plain(x):
    scores = (x @ W_Q.T) @ (x @ W_K.T).T / 2
    return softmax(scores) @ (x @ W_V.T)


def _causal(x):
    scores = (x @ W_Q.T) @ (x @ W_K.T).T / 2
    return softmax(np.where(causal_mask(len(x)), scores, -np.inf)) @ (x @ W_V.T)


def _placed(x):
    return _plain(x + sinusoidal_encoding(*x.shape, dtype=float))


@order_gap.check
def attention_without_positions(answer, rng):
    x, order = rng.normal(size=(7, 4)), np.array([2, 4, 1, 6, 0, 3, 5])
    gap = max(answer(_plain, x, order), answer(_plain, x, np.roll(order, 2)))
    expect(gap < 1e-9, f"plain attention is equivariant, but the gap you return is {gap:.3g}")


@order_gap.check
def with_positions_or_a_mask(answer, rng):
    x, order = rng.normal(size=(7, 4)), np.array([2, 4, 1, 6, 0, 3, 5])
    layers = {"sinusoids": _placed, "a causal mask": _causal, "a running sum": _running_sum}
    for name, layer in layers.items():
        expected = order_gap(layer, x, order)
        expect_close(answer(layer, x, order), expected, what=f"the gap of a layer with {name}")


def _running_sum(x):
    return np.cumsum(x, axis=0)


@order_gap.check
def another_order(answer, rng):
    x, order = rng.normal(size=(5, 4)), np.array([1, 2, 3, 4, 0])
    for layer in (_causal, _reverse):
        expect_close(answer(layer, x, order), order_gap(layer, x, order), what="the gap")


def _reverse(x):
    return 2 * x[::-1]


@order_gap.mistake(
    "You compare the new outputs with the old ones in their old order. The right side of the "
    "equation has a Π too."
)
def forgets_the_outputs(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)).max())


@order_gap.mistake(
    "You put the outputs into the inverse order. Row 0 of the new input is row order[0] of the "
    "old: which old output belongs beside it?"
)
def inverse_order(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)[np.argsort(order)]).max())


@order_gap.mistake("The largest difference was asked for; you return the mean.")
def mean_difference(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)[order]).mean())


@order_gap.mistake(
    "A difference of −5 is as large as one of 5. Take absolute values before the maximum."
)
def with_its_sign(layer, x, order):
    return float((layer(x[order]) - layer(x)[order]).max())


@order_gap.mistake(
    "You compare sums over all rows. That tells whether the bag of outputs stays the same, which "
    "is less: running backwards passes it."
)
def compares_the_sums(layer, x, order):
    return float(np.abs(layer(x[order]).sum(axis=0) - layer(x).sum(axis=0)).max())


@order_gap.mistake("The length of the whole difference is larger than its largest entry.")
def length_of_the_difference(layer, x, order):
    return float(np.linalg.norm(layer(x[order]) - layer(x)[order]))


@exercise(
    "Turn, and turn back",
    difficulty=3,
    minutes=25,
    section="rotary-positions-rope",
    counterpart="chainrule.transformers.self_attention.rotary:_rotate",
    idea="Take the first entries of all pairs as one array and the second entries as another; then "
    "both new arrays are one line each. A gradient goes back through the transpose of the turn.",
)
def rotate(x, cos, sin, layout):
    """Return the rows of x turned by the angles of their places, and a function vjp.

    x has shape (…, T, d), with any number of axes in front. cos and sin, shape (T, d/2), are those
    of the angle of each pair at each place; a turn is to the left. layout says which entries are a
    pair: "half" r and r + d/2, "interleaved" 2r and 2r + 1. vjp(g), with g the gradient of the
    result, returns a tuple with one array, the gradient by x. A query and a key weight whose rows
    were put in the order "first of every pair, then second of every pair" give the same scores in
    "half" as they gave before in "interleaved".
    """
    half = x.shape[-1] // 2
    if layout == "half":
        one, two = slice(None, half), slice(half, None)
    else:
        one, two = slice(0, None, 2), slice(1, None, 2)

    def turn(x, sin):
        y = np.empty_like(x)
        y[..., one] = x[..., one] * cos - x[..., two] * sin
        y[..., two] = x[..., two] * cos + x[..., one] * sin
        return y

    return turn(x, sin), lambda g: (turn(g, -sin),)


@rotate.by_package
def _(package, x, cos, sin, layout):
    return package(x, cos, sin, layout=layout)


@rotate.in_package
def _(mine, x, cos, sin, layout):
    return mine(x, cos, sin, layout)


def _angles(places, d, base=10_000.0):
    angles = np.asarray(places)[:, None] * rope_frequencies(d, base)
    return np.cos(angles), np.sin(angles)


@rotate.check
def a_quarter_turn(answer, rng):
    x = np.array([[2.0, 0.0, 1.0, 5.0]])
    cos, sin = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    halves, _ = answer(x, cos, sin, "half")
    neighbours, _ = answer(x, cos, sin, "interleaved")
    what = "(2, 0, 1, 5), first pair turned by 90°"
    expect_close(halves, np.array([[-1.0, 0.0, 2.0, 5.0]]), what=f"{what}, layout 'half'")
    expect_close(neighbours, np.array([[0.0, 2.0, 1.0, 5.0]]), what=f"{what}, 'interleaved'")


@rotate.check
def both_layouts_and_both_ways(answer, rng):
    x, g = rng.normal(size=(2, 5, 6))
    cos, sin = _angles(np.array([0, 1, 2, 30, 400]), 6, 50.0)
    for layout in ("half", "interleaved"):
        y, vjp = answer(x, cos, sin, layout)
        expected, right_vjp = rotate(x, cos, sin, layout)
        expect_close(y, expected, what=f"the rows turned, layout {layout!r}")
        back = vjp(g)
        expect(
            isinstance(back, tuple) and len(back) == 1,
            f"vjp returns a tuple with one array, received {type(back).__name__}",
        )
        expect_close(back[0], right_vjp(g)[0], what=f"the gradient by x, layout {layout!r}")


@rotate.check
def a_batch_of_heads(answer, rng):
    x, g = rng.normal(size=(2, 2, 3, 5, 6))
    cos, sin = _angles(np.arange(5), 6)
    for layout in ("half", "interleaved"):
        y, vjp = answer(x, cos, sin, layout)
        expected, right_vjp = rotate(x, cos, sin, layout)
        expect_close(y, expected, what=f"rows of shape (2, 3, 5, 6) turned, layout {layout!r}")
        expect_close(vjp(g)[0], right_vjp(g)[0], what="the gradient by x, shape (2, 3, 5, 6)")


@rotate.check
def converted_weights_give_equal_scores(answer, rng):
    d, order = 6, np.array([0, 2, 4, 1, 3, 5])
    X, (w_q, w_k) = rng.normal(size=(5, 7)), rng.normal(size=(2, d, 7))
    cos, sin = _angles(np.arange(5), d, 50.0)

    def scores(w_q, w_k, layout):
        q, k = (answer(X @ w.T, cos, sin, layout)[0] for w in (w_q, w_k))
        return np.asarray(q) @ np.asarray(k).T

    expect_close(
        scores(w_q[order], w_k[order], "half"), scores(w_q, w_k, "interleaved"),
        what="the scores in 'half' of weights made for 'interleaved', their rows reordered",
    )  # fmt: skip


@rotate.check
def only_the_distance_counts(answer, rng):
    q, k = rng.normal(size=(2, 3, 8))
    products = []
    for start in (0, 57):
        cos, sin = _angles(start + np.arange(3), 8)
        products.append(answer(q, cos, sin, "half")[0] @ answer(k, cos, sin, "half")[0].T)
    expect_close(products[1], products[0], rtol=1e-9, atol=1e-9,
                 what="the products of queries and keys, all moved on by 57 places")  # fmt: skip


def _other(layout):
    return "interleaved" if layout == "half" else "half"


@rotate.mistake(
    "Forward is right. Your vjp turns the gradient on in the same direction. A turn is linear: "
    "what is the transpose of its matrix?"
)
def turns_the_gradient_on(x, cos, sin, layout):
    return rotate(x, cos, sin, layout)[0], lambda g: (rotate(g, cos, sin, layout)[0],)


@rotate.mistake("Your turn goes to the right: (2, 1) by a quarter to the left is (−1, 2).")
def turns_to_the_right(x, cos, sin, layout):
    return rotate(x, cos, -sin, layout)


@rotate.mistake("You turn halves in both layouts. Which entries are a pair in 'interleaved'?")
def always_half(x, cos, sin, layout):
    return rotate(x, cos, sin, "half")


@rotate.mistake("You turn neighbours in both layouts. Which entries are a pair in 'half'?")
def always_interleaved(x, cos, sin, layout):
    return rotate(x, cos, sin, "interleaved")


@rotate.mistake("You have exchanged the two layouts. Llama's is 'half'.")
def exchanges_the_layouts(x, cos, sin, layout):
    return rotate(x, cos, sin, _other(layout))


@rotate.mistake(
    "When you compute the second entry of a pair, the first has been overwritten. Keep the old one."
)
def uses_the_new_first_entry(x, cos, sin, layout):
    half = x.shape[-1] // 2
    one = slice(half) if layout == "half" else slice(0, None, 2)
    two = slice(half, None) if layout == "half" else slice(1, None, 2)

    def turn(x, sin):
        y = x.copy()
        y[..., one] = y[..., one] * cos - y[..., two] * sin
        y[..., two] = y[..., two] * cos + y[..., one] * sin
        return y

    return turn(x, sin), lambda g: (turn(g, -sin),)


@rotate.mistake(
    "The numbers are right, but you return them in the other layout: every entry of the result "
    "stands where its entry of x stood."
)
def joins_the_pairs_as_halves(x, cos, sin, layout):
    if layout == "half":
        return rotate(x, cos, sin, layout)
    d = x.shape[-1]
    order = np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])

    def turn(x, sin):
        return rotate(x, cos, sin, layout)[0][..., order]

    return turn(x, sin), lambda g: (turn(g, -sin),)


@rotate.mistake("Forward is right. The gradient by x is not g itself: it has to be turned back.")
def hands_the_gradient_on(x, cos, sin, layout):
    return rotate(x, cos, sin, layout)[0], lambda g: (g.copy(),)


@exercise(
    "A map of who depends on whom",
    difficulty=3,
    minutes=25,
    section="a-test-that-finds-leaks",
    because="has_leak only says yes or no; the table shows where",
    idea="Compute the outputs once for x as it is. Then, for each row, move that row alone in a "
    "fresh copy, and compare all outputs: one move fills one column of the table.",
)
def influence(fn, x, move):
    """Return a table, shape (T, T): how much output i changes when input j is moved.

    fn takes rows, shape (T, d), and returns rows, shape (T, m); it may overwrite its argument.
    Entry (i, j) is the largest absolute change of row i of the result when move, shape (d,), is
    added to row j of x, and to no other row.
    """
    before = np.array(fn(x.copy()))
    table = np.empty((len(x), len(x)))
    for j in range(len(x)):
        moved = x.copy()
        moved[j] += move
        table[:, j] = np.abs(fn(moved) - before).max(axis=1)
    return table


def _windows(x, window=3, layers=2):
    for _ in range(layers):
        scores = np.where(sliding_window_mask(len(x), window), x @ x.T / 3, -np.inf)
        x = softmax(scores) @ x
    return x


def _off_by_one(x):
    return softmax(np.where(np.tri(len(x), k=1), x @ x.T, -np.inf)) @ x


def _zeros_afterwards(x):
    return np.tril(softmax(x @ x.T)) @ x


def _overwrites(x):
    x *= 2
    x[1:] += x[:-1].copy()
    return x


MOVE = np.array([1.5, -1.0, 0.5])


@influence.check
def each_row_for_itself(answer, rng):
    x = rng.normal(size=(5, 3))
    expected = np.diag(np.full(5, 3.0))
    expect_close(answer(lambda x: 2 * x, x, MOVE), expected, what="the table of 2x")


@influence.check
def a_mask_that_is_off_by_one(answer, rng):
    x = rng.normal(size=(5, 3))
    for name, fn in (("off by one", _off_by_one), ("zeros afterwards", _zeros_afterwards)):
        received = answer(fn, x, MOVE)
        expect_shape(received, (5, 5), what="the table")
        expect_close(received, influence(fn, x, MOVE), what=f"the table of the mask {name}")


@influence.check
def two_layers_of_windows(answer, rng):
    x = rng.normal(size=(9, 3))
    received = np.asarray(answer(_windows, x, MOVE))
    expect_close(received, influence(_windows, x, MOVE), what="the table of two windows of 3")
    reach = int((received[8] > 0).sum())
    expect(reach == 5, f"the last output depends on 5 tokens, your table says {reach}")


@influence.check
def one_that_overwrites(answer, rng):
    x = rng.normal(size=(4, 3))
    expected = influence(_overwrites, x, MOVE)
    expect_close(answer(_overwrites, x.copy(), MOVE), expected, what="the table of fn")


def _changes(fn, x, move):
    before = np.array(fn(x.copy()))
    changes = []
    for j in range(len(x)):
        moved = x.copy()
        moved[j] += move
        changes.append(np.array(fn(moved)) - before)
    return np.stack(changes, axis=1)  # (i, j, m)


@influence.mistake(
    "Rows and columns are exchanged: entry (i, j) is about output i when input j moves."
)
def exchanges_rows_and_columns(fn, x, move):
    return np.abs(_changes(fn, x, move)).max(axis=2).T


@influence.mistake(
    "You look at outputs before j only, as a leak test does. The table also shows what outputs may "
    "depend on."
)
def only_what_leaks(fn, x, move):
    return np.triu(np.abs(_changes(fn, x, move)).max(axis=2), 1)


@influence.mistake("The largest change of an output's entries was asked for, not their mean.")
def mean_change(fn, x, move):
    return np.abs(_changes(fn, x, move)).mean(axis=2)


@influence.mistake("An entry that falls by 3 has changed by 3. Yours counts rises only.")
def rises_only(fn, x, move):
    return _changes(fn, x, move).max(axis=2)


@influence.mistake(
    "Your moves pile up: when row j is moved, the rows before it are still where you left them."
)
def moves_pile_up(fn, x, move):
    before, moved = np.array(fn(x.copy())), x.copy()
    table = np.zeros((len(x), len(x)))
    for j in range(len(x)):
        moved[j] += move
        table[:, j] = np.abs(fn(moved.copy()) - before).max(axis=1)
    return table


@influence.mistake(
    "You move row j by a number that is the same in every entry. A layer may not notice that; move "
    "is a row of its own."
)
def moves_by_a_constant(fn, x, move):
    return np.abs(_changes(fn, x, np.full_like(move, move[0]))).max(axis=2)


@exercise(
    "Three ways to one sequence",
    difficulty=4,
    minutes=35,
    section="attending-to-yourself-not-encoder-decoder",
    because="the package composes the layer of operations that bring their own gradients",
    idea="Go back step by step: mixture, softmax, scores, then three products with a weight. Each "
    "of those three sends a share to the sequence; the shares add up.",
)
def self_attention(x, w_q, w_k, w_v):
    """Return causal self-attention of x, shape (T, d_v), and a function vjp.

    x has shape (T, d); w_q and w_k have shape (d_k, d), w_v has shape (d_v, d). vjp(g), with g the
    gradient of the result, returns the gradients by x, w_q, w_k and w_v, a tuple of four arrays.
    The sequence is used three times.
    """
    q, k, v = x @ w_q.T, x @ w_k.T, x @ w_v.T
    scale = 1 / np.sqrt(len(w_q))
    may_look = np.tri(len(x), dtype=bool)
    p = softmax(np.where(may_look, q @ k.T * scale, -np.inf))

    def vjp(g):
        p_grad = g @ v.T
        z_grad = p * (p_grad - (p_grad * p).sum(axis=1, keepdims=True)) * scale
        q_grad, k_grad, v_grad = z_grad @ k, z_grad.T @ q, p.T @ g
        x_grad = q_grad @ w_q + k_grad @ w_k + v_grad @ w_v
        return x_grad, q_grad.T @ x, k_grad.T @ x, v_grad.T @ x

    return p @ v, vjp


def _by_engine(x, w_q, w_k, w_v, g):
    leaves = [Tensor(a, requires_grad=True) for a in (x, w_q, w_k, w_v)]
    rows, *weights = leaves
    q, k, v = (rows @ w.T for w in weights)
    out, _ = scaled_dot_product_attention(q, k, v, causal_mask(len(x)))
    out.backward(g)
    return out.data, [leaf.grad for leaf in leaves]


@self_attention.check
def forward_on_the_sentence(answer, rng):
    out, _ = answer(embed(), W_Q.copy(), W_K.copy(), W_V.copy())
    expected = _by_engine(embed(), W_Q, W_K, W_V, np.ones((5, 4)))[0]
    expect_close(out, expected, what="the output for 'the dog bites the man'")


@self_attention.check
def four_gradients(answer, rng):
    for T, d, d_k, d_v in ((3, 2, 5, 7), (5, 7, 3, 2)):
        x, w_q, w_k = rng.normal(size=(T, d)), *rng.normal(size=(2, d_k, d))
        w_v, g = rng.normal(size=(d_v, d)), rng.normal(size=(T, d_v))
        out, vjp = answer(x, w_q, w_k, w_v)
        expected, gradients = _by_engine(x, w_q, w_k, w_v, g)
        expect_close(out, expected, what=f"the output for {T} tokens of width {d}")
        received = vjp(g)
        expect(len(received) == 4, f"vjp returns four gradients, received {len(received)}")
        names = ("w_v", "w_q", "w_k", "x")
        for name, place in zip(names, (3, 1, 2, 0), strict=True):
            what = f"the gradient by {name} for {T} tokens of width {d}"
            expect_close(received[place], gradients[place], rtol=1e-8, atol=1e-10, what=what)


def _attention(
    x, w_q, w_k, w_v, *,
    see=0, size=None, after=False, scaled=True, paths="qkv", rest=True, flip=True,
):  # fmt: skip
    q, k, v = x @ w_q.T, x @ w_k.T, x @ w_v.T
    scale = 1 / np.sqrt(len(w_q) if size is None else size)
    may_look = np.tri(len(x), k=see, dtype=bool)
    scores = q @ k.T * scale
    p = softmax(scores) * may_look if after else softmax(np.where(may_look, scores, -np.inf))

    def vjp(g):
        p_grad = g @ v.T
        z_grad = p * (p_grad - rest * (p_grad * p).sum(axis=1, keepdims=True))
        z_grad = z_grad * (scale if scaled else 1.0)
        q_grad, k_grad, v_grad = z_grad @ k, (z_grad.T if flip else z_grad) @ q, p.T @ g
        ways = {"q": q_grad @ w_q, "k": k_grad @ w_k, "v": v_grad @ w_v}
        x_grad = sum(ways[way] for way in paths)
        return x_grad, q_grad.T @ x, k_grad.T @ x, v_grad.T @ x

    return p @ v, vjp


@self_attention.mistake("Your queries see the future: the causal mask is missing.")
def looks_at_everything(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, see=len(x))


@self_attention.mistake(
    "Your mask is off by one: every query sees one key too many, and that is the token it should "
    "predict."
)
def sees_the_next_token(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, see=1)


@self_attention.mistake(
    "You put zeros in after the softmax, so the weights of a row no longer sum to 1. What must a "
    "score become before the softmax?"
)
def zeros_in_afterwards(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, after=True)


@self_attention.mistake(
    "You divide by the root of the size of a token. It is the size of a query that makes scores "
    "large."
)
def root_of_the_width(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, size=x.shape[1])


@self_attention.mistake(
    "The gradients by the weights are right. x has gone in three times, and your gradient by x "
    "comes from the values alone."
)
def only_through_the_values(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, paths="v")


@self_attention.mistake(
    "The gradients by the weights are right. Your gradient by x comes through queries and keys; x "
    "was used once more."
)
def forgets_the_values(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, paths="qk")


@self_attention.mistake(
    "Forward you divide the scores by a root. On the way back that factor is missing."
)
def forgets_the_scale_on_the_way_back(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, scaled=False)


@self_attention.mistake(
    "Raising one score lowers all other weights of its row. In your softmax's gradient each weight "
    "stands for itself."
)
def softmax_without_the_rest(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, rest=False)


@self_attention.mistake(
    "The gradient by the queries is right, that by the keys is not. Scores have queries as rows: "
    "what must happen before you multiply by the queries?"
)
def keys_without_the_transpose(x, w_q, w_k, w_v):
    return _attention(x, w_q, w_k, w_v, flip=False)
