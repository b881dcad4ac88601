"""Exercises of transformers/attention.md."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape
from chainrule.math_foundations.linear_algebra import low_rank
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.transformers.attention import scaled_dot_product_attention


@exercise(
    "How long a state must be",
    difficulty=1,
    minutes=15,
    section="the-problem-fixed-representations-in-rnns",
    because="It counts what a state of fixed size can hold; the package keeps no such state.",
    idea="Two lists that differ need two states. Count the lists, then the states that d numbers "
    "of so many bits can take. Python's integers have no largest one: no logarithm is needed.",
)
def numbers_needed(most, letters, values, bits):
    """Return, for lists of 1, 2, … `most` pairs, how many numbers a state needs at least.

    A list pairs different letters, out of `letters`, with values, out of `values`. Unlike on the
    page, nobody knows beforehand which letters it has. The order of the pairs does not matter. A
    number has `bits` bits, and no two different lists may share a state. `most` is at most
    `letters`; return a list of `most` integers. By hand first: 3 letters, 3 values.
    """
    needed = []
    for pairs in range(1, most + 1):
        lists = math.comb(letters, pairs) * values**pairs
        needed.append(-(-(lists - 1).bit_length() // bits))
    return needed


@numbers_needed.check
def by_hand(answer, rng):
    expect_equal(
        list(answer(3, 3, 3, 1)),
        [4, 5, 5],
        what="the bits for 9 lists of one pair, 27 of two and 27 of three",
    )


@numbers_needed.check
def the_game_of_the_page(answer, rng):
    expected = [8, 15, 22, 27, 33, 37, 42, 46, 50, 53, 57, 59, 62, 63, 64, 64]
    expect_equal(list(answer(16, 16, 16, 1)), expected, what="the bits for 16 letters and values")


@numbers_needed.check
def numbers_of_several_bits(answer, rng):
    for letters, values, bits in ((26, 1000, 32), (50257, 50257, 8), (7, 2, 3), (64, 4, 5)):
        most = min(letters, 40)
        what = f"the numbers for {letters} letters, {values} values and {bits} bits"
        expected = numbers_needed(most, letters, values, bits)
        expect_equal(list(answer(most, letters, values, bits)), expected, what=what)


@numbers_needed.mistake(
    "You count the values only. Two lists with the same values and other letters differ too."
)
def knows_the_letters(most, letters, values, bits):
    return [-(-(values**pairs - 1).bit_length() // bits) for pairs in range(1, most + 1)]


@numbers_needed.mistake("k 7, b 2 and b 2, k 7 are one list. You count it once for every order.")
def counts_every_order(most, letters, values, bits):
    return [
        -(-(math.perm(letters, pairs) * values**pairs - 1).bit_length() // bits)
        for pairs in range(1, most + 1)
    ]


@numbers_needed.mistake("Your lists may name one letter twice. The letters of a list differ.")
def repeats_letters(most, letters, values, bits):
    return [
        -(-((letters * values) ** pairs - 1).bit_length() // bits) for pairs in range(1, most + 1)
    ]


@numbers_needed.mistake(
    "You reserve whole bits for each pair by itself. Count the lists first, and round once."
)
def rounds_each_pair(most, letters, values, bits):
    return [-(-pairs * (letters * values - 1).bit_length() // bits) for pairs in range(1, most + 1)]


@numbers_needed.mistake("You count with the natural logarithm. A bit doubles the states.")
def natural_logarithm(most, letters, values, bits):
    counts = [math.comb(letters, n) * values**n for n in range(1, most + 1)]
    return [math.ceil(math.log(count) / bits) for count in counts]


@numbers_needed.mistake(
    "You round down. A state with a little less room than there are lists is too small."
)
def rounds_down(most, letters, values, bits):
    return [
        ((math.comb(letters, pairs) * values**pairs).bit_length() - 1) // bits
        for pairs in range(1, most + 1)
    ]


@exercise(
    "Shares that add up",
    difficulty=2,
    minutes=15,
    section="a-weight-is-not-what-arrives",
    because="An instrument for looking at weights; the package does not draw.",
    idea="The output is a sum of contributions. How far does one of them go in the direction of "
    "the output? The dot product of a vector with a direction of length 1 says so.",
)
def shares(weights, values):
    """Return how much of each query's output comes from each key, of shape (t, s).

    weights has shape (t, s), values (s, d). The lengths of the contributions do not add up to the
    length of the output: one may point against it. So measure how far a contribution reaches along
    the output, as a share of the output's length. A share may be negative or above 1; each row must
    add up to 1. Where the output is exactly 0, return zeros.
    """
    output = weights @ values
    along = weights * (output @ values.T)
    squared = (output**2).sum(axis=1, keepdims=True)
    return np.where(squared == 0, 0.0, along / np.where(squared == 0, 1.0, squared))


@shares.check
def two_that_pull_apart(answer, rng):
    values = np.array([[3.0, 0.0], [-1.0, 0.0]])
    received = answer(np.array([[0.5, 0.5]]), values)
    expect_close(received, np.array([[1.5, -0.5]]), what="the shares of 3 and −1, half each")


@shares.check
def rows_add_up(answer, rng):
    weights, values = rng.dirichlet(np.ones(7), size=5), rng.normal(size=(7, 3))
    received = answer(weights.copy(), values.copy())
    expect_shape(received, (5, 7), what="the shares")
    expect_close(received.sum(axis=1), np.ones(5), what="the sums of the rows")
    expect_close(received, shares(weights, values), what="the shares of 5 queries among 7 keys")


@shares.check
def nothing_to_share(answer, rng):
    values = np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 3.0]])
    weights = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]])
    with np.errstate(all="ignore"):
        received = answer(weights, values)
    expected = np.array([[0.0, 0.0, 0.0], [1 / 3, -1 / 3, 1.0]])
    expect_close(received, expected, what="the shares where one output is 0")


@shares.mistake(
    "You divide lengths by the sum of lengths. A contribution that points against the output then "
    "counts as if it helped."
)
def shares_of_lengths(weights, values):
    lengths = weights * np.linalg.norm(values, axis=1)
    return lengths / lengths.sum(axis=1, keepdims=True)


@shares.mistake("Your rows add up to the length of the output, not to 1.")
def forgets_to_square(weights, values):
    output = weights @ values
    length = np.linalg.norm(output, axis=1, keepdims=True)
    return weights * (output @ values.T) / np.where(length == 0, 1.0, length)


@shares.mistake(
    "You compare the value itself with the output. What arrives is the value times its weight."
)
def forgets_the_weight(weights, values):
    output = weights @ values
    squared = (output**2).sum(axis=1, keepdims=True)
    return (output @ values.T) / np.where(squared == 0, 1.0, squared)


@shares.mistake("Right, but an output of 0 has no direction: your row holds NaN.")
def divides_by_nothing(weights, values):
    output = weights @ values
    with np.errstate(all="ignore"):
        return weights * (output @ values.T) / (output**2).sum(axis=1, keepdims=True)


@shares.mistake("You return the weights. A key with a tiny value hands over next to nothing.")
def returns_the_weights(weights, values):
    return weights.copy()


@exercise(
    "Smaller matrices, nearly the same scores",
    difficulty=3,
    minutes=25,
    section="only-one-product-counts-for-the-scores",
    because="A compression of trained matrices; the package trains them at their size.",
    idea="Scores see one matrix, made of both. Its best approximation of a given rank is known "
    "from Linear algebra, and comes as a product of a tall and a wide factor.",
)
def smaller_matrices(W_Q, W_K, size):
    """Return two matrices of `size` rows that replace W_Q and W_K with the least change of scores.

    W_Q has shape (d_k, d_x), W_K (d_k, d_y); return shapes (size, d_x) and (size, d_y). Queries and
    keys then have `size` numbers. "Least change" is meant for the matrix by which x and y are
    multiplied to a score: the Frobenius norm of its change must be as small as it can be. The two
    results share the work equally: their rows number i have the same length.
    """
    U, S, Vt = np.linalg.svd(W_Q.T @ W_K, full_matrices=False)
    root = np.sqrt(S[:size])[:, None]
    return root * U[:, :size].T, root * Vt[:size]


def _expect_scores(received, W_Q, W_K, size, what):
    expect(len(received) == 2, f"expected two matrices, received {len(received)} things")
    query, key = received
    expect_shape(query, (size, W_Q.shape[1]), what="the matrix of the queries")
    expect_shape(key, (size, W_K.shape[1]), what="the matrix of the keys")
    expect_close(query.T @ key, low_rank(W_Q.T @ W_K, size), what=f"the matrix of scores {what}")
    lengths = [np.linalg.norm(part, axis=1) for part in received]
    expect_close(lengths[0], lengths[1], what=f"the lengths of the rows {what}")


@smaller_matrices.check
def two_by_two(answer, rng):
    W_Q, W_K = np.array([[4.0, 0.0], [0.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    _expect_scores(answer(W_Q, W_K, 1), W_Q, W_K, 1, "of a pair of 2 × 2 matrices")


@smaller_matrices.check
def every_size(answer, rng):
    W_Q, W_K = rng.normal(size=(5, 7)), rng.normal(size=(5, 11))
    for size in (1, 2, 3, 5):
        received = answer(W_Q.copy(), W_K.copy(), size)
        _expect_scores(received, W_Q, W_K, size, f"at size {size}")


@smaller_matrices.check
def of_equal_shape(answer, rng):
    W_Q, W_K = rng.normal(size=(7, 7)), rng.normal(size=(7, 7)) * 10
    _expect_scores(answer(W_Q.copy(), W_K.copy(), 3), W_Q, W_K, 3, "of square matrices")


@smaller_matrices.mistake(
    "You keep the first rows. Which rows come first is an accident: turn queries and keys alike, "
    "and others do."
)
def keeps_the_first_rows(W_Q, W_K, size):
    query, key = W_Q[:size], W_K[:size]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in (query, key)]
    balance = np.sqrt(lengths[1] / lengths[0])
    return query * balance, key / balance


@smaller_matrices.mistake(
    "You shortened each matrix by itself. The scores see only their product: that is what must be "
    "approximated."
)
def shortens_each_alone(W_Q, W_K, size):
    query, key = (np.linalg.svd(W, full_matrices=False) for W in (W_Q, W_K))
    return (
        query[1][:size, None] * query[2][:size],
        key[1][:size, None] * key[2][:size],
    )


@smaller_matrices.mistake(
    "Your scores have every singular value squared. Each matrix should bring a root of it."
)
def singular_values_twice(W_Q, W_K, size):
    U, S, Vt = np.linalg.svd(W_Q.T @ W_K, full_matrices=False)
    return S[:size, None] * U[:, :size].T, S[:size, None] * Vt[:size]


@smaller_matrices.mistake("Your scores have lost their singular values: all count as 1.")
def singular_values_never(W_Q, W_K, size):
    U, _, Vt = np.linalg.svd(W_Q.T @ W_K, full_matrices=False)
    return U[:, :size].T, Vt[:size]


@smaller_matrices.mistake(
    "The scores are right, but one matrix carries all singular values. Let both share them."
)
def one_carries_all(W_Q, W_K, size):
    U, S, Vt = np.linalg.svd(W_Q.T @ W_K, full_matrices=False)
    return S[:size, None] * U[:, :size].T, Vt[:size]


@exercise(
    "Softmax with a mask and a sink, both ways",
    difficulty=3,
    minutes=30,
    section="keys-that-do-not-count",
    counterpart="chainrule.transformers.attention.retrieval:_softmax",
    idea="The sink is one key more, whose weight nobody asks for. Make the softmax with it, and "
    "give back what belongs to the others. On the way back its own gradient from above is 0.",
)
def softmax_with_sink(scores, allowed, sink):
    """Return the weights of each row, of shape (n, s), and a function vjp.

    scores has shape (n, s). allowed, Boolean and of the same shape, is true where a query may look.
    sink, of shape (n, 1), is the score of looking nowhere; it takes part in the softmax, but has no
    column in the result. vjp(g), with g the gradient of the weights, returns the gradients of
    scores and sink, a tuple of two arrays. Scores and sinks may be ±1000, and a sink may be −∞: no
    sink. A row that may look nowhere, not even into the sink, has weights and gradients 0.
    """
    masked = np.where(allowed, scores, -np.inf)
    top = np.maximum(masked.max(axis=1, keepdims=True), sink)
    top = np.where(np.isneginf(top), 0.0, top)
    shares = np.exp(masked - top)
    total = shares.sum(axis=1, keepdims=True) + np.exp(sink - top)
    weights = shares / np.where(total == 0, 1.0, total)

    def vjp(g):
        mean = (weights * g).sum(axis=1, keepdims=True)
        return weights * (g - mean), (weights.sum(axis=1, keepdims=True) - 1) * mean

    return weights, vjp


@softmax_with_sink.by_package
def _(package, scores, allowed, sink):
    return package(scores, sink, allowed=allowed)


@softmax_with_sink.in_package
def _(mine, scores, sink=None, *, allowed=None):
    allowed = np.ones(scores.shape, bool) if allowed is None else allowed
    shape = np.broadcast_shapes(
        scores.shape, allowed.shape, () if sink is None else (*np.shape(sink)[:-1], 1)
    )
    rows = (-1, shape[-1])
    given = -np.inf if sink is None else sink
    spread = np.broadcast_to(given, (*shape[:-1], 1)).reshape(-1, 1)
    weights, vjp = mine(
        np.broadcast_to(scores, shape).reshape(rows).copy(),
        np.broadcast_to(allowed, shape).reshape(rows).copy(),
        spread.astype(scores.dtype),
    )

    def back(g):
        by_scores, by_sink = vjp(g.reshape(rows))
        by_scores = _added_up(by_scores.reshape(shape), scores.shape)
        if sink is None:
            return by_scores, None
        return by_scores, _added_up(by_sink.reshape(*shape[:-1], 1), np.shape(sink))

    return weights.reshape(shape), back


def _added_up(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return g.sum(axis=stretched, keepdims=True)


def _both_ways(answer, scores, allowed, sink, g, what):
    with np.errstate(all="ignore"):
        received = answer(scores.copy(), allowed.copy(), sink.copy())
        expect(
            isinstance(received, tuple | list) and len(received) == 2,
            "return two things: the weights and the function vjp",
        )
        weights, vjp = received
        expected, expected_vjp = softmax_with_sink(scores, allowed, sink)
        expect_close(weights, expected, what=f"the weights {what}")
        gradients = vjp(g.copy())
    expect(len(gradients) == 2, f"vjp returns two gradients; received {len(gradients)}")
    for got, want, name in zip(gradients, expected_vjp(g), ("scores", "sink"), strict=True):
        expect_close(got, want, what=f"the gradient of the {name} {what}")


@softmax_with_sink.check
def small_numbers(answer, rng):
    scores, g = np.log(np.array([[1.0, 2.0, 4.0]])), np.array([[1.0, 0.0, 3.0]])
    allowed = np.array([[True, True, False]])
    sink = np.log(np.array([[5.0]]))
    weights, _ = answer(scores.copy(), allowed.copy(), sink.copy())
    expect_close(weights, np.array([[0.125, 0.25, 0.0]]), what="the weights 1/8, 2/8 and 0")
    _both_ways(answer, scores, allowed, sink, g, "of three keys, one masked")


@softmax_with_sink.check
def random_rows(answer, rng):
    scores, sink, g = rng.normal(size=(5, 7)), rng.normal(size=(5, 1)), rng.normal(size=(5, 7))
    allowed = rng.random((5, 7)) < 0.7
    allowed[0] = False
    _both_ways(answer, scores, allowed, sink, g, "of five rows of seven keys")


@softmax_with_sink.check
def far_from_zero(answer, rng):
    scores = rng.normal(size=(3, 5)) + np.array([[1000.0], [-1000.0], [1000.0]])
    sink = np.array([[1000.0], [-1000.0], [-1000.0]])
    allowed = rng.random((3, 5)) < 0.8
    allowed[:, 0] = True
    _both_ways(answer, scores, allowed, sink, rng.normal(size=(3, 5)), "near ±1000")


@softmax_with_sink.check
def nowhere_to_look(answer, rng):
    scores, g = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    allowed = np.array([[False, False], [True, True], [False, False]])
    sink = np.array([[-np.inf], [-np.inf], [0.3]])
    _both_ways(answer, scores, allowed, sink, g, "where a row may look nowhere")


@softmax_with_sink.mistake(
    "Your masked keys have taken part in the sum before their weights were set to 0."
)
def masks_afterwards(scores, allowed, sink):
    weights, _ = softmax_with_sink(scores, np.ones_like(allowed), sink)
    weights = weights * allowed

    def vjp(g):
        mean = (weights * g).sum(axis=1, keepdims=True)
        return weights * (g - mean), (weights.sum(axis=1, keepdims=True) - 1) * mean

    return weights, vjp


@softmax_with_sink.mistake(
    "Your softmax runs down the columns. A row belongs to one query, and its weights to one sum."
)
def over_the_wrong_axis(scores, allowed, sink):
    masked = np.where(allowed, scores, -np.inf)
    top = np.maximum(masked.max(axis=0), sink)
    shares = np.exp(masked - top)
    weights = shares / (shares.sum(axis=0) + np.exp(sink - top))

    def vjp(g):
        mean = (weights * g).sum(axis=0)
        return weights * (g - mean), (weights.sum(axis=1, keepdims=True) - 1) * mean.mean()

    return weights, vjp


@softmax_with_sink.mistake(
    "A row of nothing but −∞: −∞ minus −∞ is not a number. What should be subtracted there?"
)
def not_a_number(scores, allowed, sink):
    masked = np.where(allowed, scores, -np.inf)
    top = np.maximum(masked.max(axis=1, keepdims=True), sink)
    shares = np.exp(masked - top)
    weights = shares / (shares.sum(axis=1, keepdims=True) + np.exp(sink - top))

    def vjp(g):
        mean = (weights * g).sum(axis=1, keepdims=True)
        return weights * (g - mean), (weights.sum(axis=1, keepdims=True) - 1) * mean

    return weights, vjp


@softmax_with_sink.mistake(
    "Your scores are measured from the maximum and your sink is not: both must be, or one "
    "outweighs the other."
)
def sink_from_zero(scores, allowed, sink):
    masked = np.where(allowed, scores, -np.inf)
    top = masked.max(axis=1, keepdims=True)
    shares = np.exp(masked - np.where(np.isneginf(top), 0.0, top))
    total = shares.sum(axis=1, keepdims=True) + np.exp(sink)
    weights = shares / np.where(total == 0, 1.0, total)

    def vjp(g):
        mean = (weights * g).sum(axis=1, keepdims=True)
        return weights * (g - mean), (weights.sum(axis=1, keepdims=True) - 1) * mean

    return weights, vjp


@softmax_with_sink.mistake("You divide the weights by their own sum again: the sink has no share.")
def leaves_the_sink_out(scores, allowed, sink):
    right, vjp = softmax_with_sink(scores, allowed, np.full_like(sink, -np.inf))
    return right, vjp


@softmax_with_sink.mistake(
    "Your weights are right. In the gradient of the scores the sum over the row is missing: if one "
    "weight grows, the others shrink."
)
def diagonal_only(scores, allowed, sink):
    weights, right = softmax_with_sink(scores, allowed, sink)
    return weights, lambda g: (weights * g, right(g)[1])


@softmax_with_sink.mistake(
    "If the sink's score grows, all weights shrink. Look at the sign of its gradient."
)
def sink_with_the_wrong_sign(scores, allowed, sink):
    weights, right = softmax_with_sink(scores, allowed, sink)
    return weights, lambda g: (right(g)[0], -right(g)[1])


@exercise(
    "Attention for a batch that shares its keys",
    difficulty=3,
    minutes=30,
    section="the-gradients",
    counterpart="chainrule.transformers.attention.packed:_packed_attention",
    idea="Three steps there, three steps back, as in the section. A matrix of keys that every "
    "query of the batch used gets the sum of what each of them sends back.",
)
def attend(q, k, v, allowed):
    """Return the outputs of scaled dot-product attention, and a function vjp.

    q has shape (b, t, d): b batches of t queries. k has shape (b, s, d) or (1, s, d), v has
    (b, s, e) or (1, s, e): with a 1 in front, all batches look at the same keys or values. allowed,
    Boolean and of shape (t, s), is true where a query may look; every query may look somewhere.
    vjp(g), with g the gradient of the output, returns the gradients of q, k and v, each of its
    input's shape.
    """
    scale = 1 / np.sqrt(q.shape[-1])
    scores = np.where(allowed, q @ k.swapaxes(1, 2) * scale, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)

    def vjp(g):
        by_weights = g @ v.swapaxes(1, 2)
        mean = (weights * by_weights).sum(axis=-1, keepdims=True)
        by_scores = weights * (by_weights - mean) * scale
        by_k, by_v = by_scores.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ g
        if len(k) == 1:
            by_k = by_k.sum(axis=0, keepdims=True)
        if len(v) == 1:
            by_v = by_v.sum(axis=0, keepdims=True)
        return by_scores @ k, by_k, by_v

    return weights @ v, vjp


@attend.by_package
def _(package, q, k, v, allowed):
    # The packed form has one head, keys for each batch, and no mask but the triangle.
    if q.shape == k.shape == v.shape and (allowed == np.tri(len(allowed), dtype=bool)).all():
        packed, vjp = package(np.concatenate([q, k, v], axis=-1), heads=1, causal=True, block=2)
        return packed, lambda g: tuple(np.split(vjp(g)[0], 3, axis=-1))
    leaves = [Tensor(part, requires_grad=True) for part in (q, k, v)]
    output, _ = scaled_dot_product_attention(*leaves, allowed)

    def vjp(g):
        for leaf in leaves:
            leaf.grad = None
        output.backward(g, retain_graph=True)
        return tuple(leaf.grad for leaf in leaves)

    return output.data, vjp


@attend.in_package
def _(mine, qkv, *, heads, causal, block):
    batch, time, width = qkv.shape
    d = width // (3 * heads)
    parts = qkv.reshape(batch, time, 3, heads, d).transpose(2, 0, 3, 1, 4)
    q, k, v = (part.reshape(batch * heads, time, d) for part in parts)
    allowed = np.tri(time, dtype=bool) if causal else np.ones((time, time), bool)
    output, vjp = mine(q, k, v, allowed)

    def merged(part, count):
        return part.reshape(batch, heads, time, d).transpose(0, 2, 1, 3)[:, :, None]

    def back(g):
        by_head = g.reshape(batch, time, heads, d).transpose(0, 2, 1, 3)
        gradients = vjp(by_head.reshape(batch * heads, time, d))
        return (np.concatenate([merged(part, 3) for part in gradients], axis=2).reshape(qkv.shape),)

    return merged(output, 1).reshape(batch, time, heads * d), back


def _attend_both_ways(answer, q, k, v, allowed, g, what):
    with np.errstate(all="ignore"):
        received = answer(q.copy(), k.copy(), v.copy(), allowed.copy())
        expect(
            isinstance(received, tuple | list) and len(received) == 2,
            "return two things: the outputs and the function vjp",
        )
        expected, expected_vjp = attend(q, k, v, allowed)
        expect_close(received[0], expected, what=f"the outputs {what}")
        gradients = received[1](g.copy())
    expect(len(gradients) == 3, f"vjp returns three gradients; received {len(gradients)}")
    for got, want, name in zip(gradients, expected_vjp(g), ("q", "k", "v"), strict=True):
        expect_close(got, want, what=f"the gradient of {name} {what}")


@attend.check
def the_example(answer, rng):
    q, k, v = np.array([[[1.0, 0.0]]]), np.eye(2)[None], np.array([[[10.0], [20.0]]])
    allowed = np.ones((1, 2), bool)
    expect_close(
        answer(q, k, v, allowed)[0], np.array([[[13.302385]]]), what="the output 13.30", rtol=1e-6
    )
    _attend_both_ways(answer, q, k, v, allowed, np.ones((1, 1, 1)), "of the page's example")


@attend.check
def every_batch_its_own_keys(answer, rng):
    q, k, v = (rng.normal(size=(2, *shape)) for shape in ((3, 5), (7, 5), (7, 4)))
    allowed = rng.random((3, 7)) < 0.7
    allowed[:, 0] = True
    g = rng.normal(size=(2, 3, 4))
    _attend_both_ways(answer, q, k, v, allowed, g, "of two batches with their own keys")


@attend.check
def shared_keys(answer, rng):
    q, k, v = (rng.normal(size=shape) for shape in ((3, 5, 2), (1, 7, 2), (1, 7, 4)))
    allowed = rng.random((5, 7)) < 0.7
    allowed[:, 3] = True
    g = rng.normal(size=(3, 5, 4))
    _attend_both_ways(answer, q, k, v, allowed, g, "of three batches with the same keys")


@attend.check
def a_triangle(answer, rng):
    q, k, v, g = rng.normal(size=(4, 2, 5, 5)) * 3
    allowed = np.tri(5, dtype=bool)
    _attend_both_ways(answer, q, k, v, allowed, g, "with a triangle as the mask")


@attend.mistake("Your scores grow with d. By what does attention divide them?")
def forgets_to_scale(q, k, v, allowed):
    root = np.sqrt(q.shape[-1])
    output, vjp = attend(q * root, k, v, allowed)

    def back(g):
        by_q, by_k, by_v = vjp(g)
        return by_q * root, by_k, by_v

    return output, back


@attend.mistake("You divide by d. What has the size of a dot product is the root of d.")
def divides_by_d(q, k, v, allowed):
    root = np.sqrt(q.shape[-1])
    output, vjp = attend(q / root, k, v, allowed)

    def back(g):
        by_q, by_k, by_v = vjp(g)
        return by_q / root, by_k, by_v

    return output, back


@attend.mistake(
    "Your softmax runs over the queries. Each query shares out its own attention among the keys."
)
def over_the_queries(q, k, v, allowed):
    scale = 1 / np.sqrt(q.shape[-1])
    scores = np.where(allowed, q @ k.swapaxes(1, 2) * scale, -np.inf)
    weights = np.exp(scores - scores.max())
    weights /= weights.sum(axis=1, keepdims=True)

    def vjp(g):
        by_weights = g @ v.swapaxes(1, 2)
        mean = (weights * by_weights).sum(axis=1, keepdims=True)
        by_scores = weights * (by_weights - mean) * scale
        by_k, by_v = by_scores.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ g
        if len(k) == 1:
            by_k = by_k.sum(axis=0, keepdims=True)
        if len(v) == 1:
            by_v = by_v.sum(axis=0, keepdims=True)
        return by_scores @ k, by_k, by_v

    return weights @ v, vjp


@attend.mistake("You set weights to 0 after the softmax: what is left no longer sums to 1.")
def masks_after_the_softmax(q, k, v, allowed):
    everywhere = np.ones_like(allowed)
    scale = 1 / np.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(1, 2) * scale
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = shares / shares.sum(axis=-1, keepdims=True) * allowed
    return weights @ v, attend(q, k, v, everywhere)[1]


@attend.mistake(
    "Your mask adds 0 or 1 to the scores. A key that is not allowed needs a score of −∞."
)
def adds_the_mask(q, k, v, allowed):
    scale = 1 / np.sqrt(q.shape[-1])
    scores = q @ k.swapaxes(1, 2) * scale + allowed
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights @ v, attend(q, k, v, allowed)[1]


@attend.mistake(
    "Your outputs are right. The scores were divided by √d, and so must be what goes back to q "
    "and k."
)
def gradient_without_the_scale(q, k, v, allowed):
    output, vjp = attend(q, k, v, allowed)
    root = np.sqrt(q.shape[-1])

    def back(g):
        by_q, by_k, by_v = vjp(g)
        return by_q * root, by_k * root, by_v

    return output, back


@attend.mistake(
    "Your outputs are right. On the way back the softmax counts each weight by itself: if one "
    "grows, the others of its row shrink."
)
def weights_one_by_one(q, k, v, allowed):
    output, _ = attend(q, k, v, allowed)
    scale = 1 / np.sqrt(q.shape[-1])
    scores = np.where(allowed, q @ k.swapaxes(1, 2) * scale, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)

    def back(g):
        by_scores = weights * (g @ v.swapaxes(1, 2)) * scale
        by_k, by_v = by_scores.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ g
        by_k = by_k.sum(axis=0, keepdims=True) if len(k) == 1 else by_k
        by_v = by_v.sum(axis=0, keepdims=True) if len(v) == 1 else by_v
        return by_scores @ k, by_k, by_v

    return output, back


@attend.mistake(
    "Keys that all batches share were used by all of them. What comes back from each must be added "
    "up to the shape of k."
)
def forgets_to_add_up(q, k, v, allowed):
    output, _ = attend(q, k, v, allowed)
    apart = [np.broadcast_to(part, (len(q), *part.shape[1:])) for part in (k, v)]
    return output, attend(q, *apart, allowed)[1]


@exercise(
    "Attention from a stream",
    difficulty=4,
    minutes=35,
    section="one-pass-and-no-table",
    counterpart="chainrule.transformers.attention.streaming:online_softmax",
    idea="Keep a maximum, a sum and a weighted sum for each row. When a block raises a row's "
    "maximum, everything of that row that was measured from the old one shrinks.",
)
def from_a_stream(blocks):
    """Return the outputs, shape (t, e), and the log-sum-exps of the scores, shape (t,).

    blocks yields pairs of scores, shape (t, s), and values, shape (s, e). It can be read only once,
    s may differ from block to block, and there may be far more blocks than fit into memory. Scores
    may be ±1000 or −∞. A query whose scores are all −∞ has the output 0 and the log-sum-exp −∞. No
    block at all is a ValueError.
    """
    maximum = None
    for scores, values in blocks:
        top = scores.max(axis=1, keepdims=True, initial=-np.inf)
        if maximum is None:
            maximum = np.full_like(top, -np.inf)
            total, gathered = np.zeros_like(top), np.zeros((len(top), values.shape[1]))
        new = np.maximum(maximum, top)
        reference = np.where(np.isneginf(new), 0.0, new)
        shares, shrink = np.exp(scores - reference), np.exp(maximum - reference)
        total = total * shrink + shares.sum(axis=1, keepdims=True)
        gathered = gathered * shrink + shares @ values
        maximum = new
    if maximum is None:
        raise ValueError("a stream needs at least one block")
    with np.errstate(divide="ignore"):
        logsumexp = (maximum + np.log(total))[:, 0]
    return gathered / np.where(total == 0, 1.0, total), logsumexp


def _stream(scores, values, sizes):
    ends = np.cumsum(sizes)[:-1]
    pairs = zip(np.split(scores, ends, axis=1), np.split(values, ends), strict=True)
    return iter([(a.copy(), b.copy()) for a, b in pairs])


def _expect_stream(answer, scores, values, sizes, what):
    with np.errstate(all="ignore"):
        received = answer(_stream(scores, values, sizes))
    expect(
        isinstance(received, tuple | list) and len(received) == 2,
        "return two things: the outputs and the log-sum-exps",
    )
    expected = from_a_stream(_stream(scores, values, sizes))
    expect_close(received[0], expected[0], what=f"the outputs {what}")
    expect_close(received[1], expected[1], what=f"the log-sum-exps {what}")


@from_a_stream.check
def three_keys(answer, rng):
    scores, values = np.array([[1.0, 3.0, 2.0]]), np.array([[10.0], [20.0], [40.0]])
    received = answer(_stream(scores, values, [2, 1]))
    expect_close(received[0], np.array([[23.994266]]), what="the output 23.99", rtol=1e-6)
    expect_close(received[1], np.array([3.407606]), what="the log-sum-exp", rtol=1e-6)


@from_a_stream.check
def blocks_of_any_size(answer, rng):
    scores, values = rng.normal(size=(5, 13)) * 3, rng.normal(size=(13, 2))
    for sizes in ([13], [1] * 13, [3, 7, 2, 1], [6, 7]):
        _expect_stream(answer, scores, values, sizes, f"in blocks of {sizes}")


@from_a_stream.check
def far_from_zero_in_a_stream(answer, rng):
    scores, values = rng.normal(size=(3, 6)), rng.normal(size=(6, 2))
    scores += np.array([[-1000.0] * 2 + [0.0] * 2 + [1000.0] * 2])
    _expect_stream(answer, scores, values, [2, 2, 2], "with scores of ±1000")
    _expect_stream(answer, scores[:, ::-1], values, [2, 2, 2], "with scores of ±1000, falling")
    scores = rng.normal(size=(3, 5)) + np.array([[1000.0], [0.0], [-1000.0]])
    _expect_stream(answer, scores, values[:5], [2, 3], "with a row at 1000 and one at −1000")


@from_a_stream.check
def rows_that_see_nothing_yet(answer, rng):
    scores, values = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    scores[0, :4] = -np.inf
    scores[1] = -np.inf
    scores[2, 3:] = -np.inf
    _expect_stream(answer, scores, values, [2, 1, 3], "with scores of −∞")


@from_a_stream.check
def more_than_fits(answer, rng):
    def many():
        for _ in range(400):
            yield rng.normal(size=(5, 100)), rng.normal(size=(100, 20))

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        output, _ = answer(many())
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    everything = 400 * 100 * 25 * 8
    expect_shape(output, (5, 20), what="the outputs")
    expect(
        peak < everything / 10,
        f"400 blocks took {peak / 1e6:.1f} MB at once; all of them are {everything / 1e6:.0f} MB, "
        f"one is {everything / 400e6:.2f} MB",
    )


@from_a_stream.check
def an_empty_stream(answer, rng):
    try:
        received = answer(iter([]))
    except ValueError:
        return
    expect(False, f"a stream without blocks must raise ValueError; received {received!r}")


@from_a_stream.mistake(
    "Your numbers are right, but you collect the whole stream first. What of a block is still "
    "needed when the next one comes?"
)
def collects_everything(blocks):
    blocks = list(blocks)
    if not blocks:
        raise ValueError("a stream needs at least one block")
    scores = np.concatenate([scores for scores, _ in blocks], axis=1)
    values = np.concatenate([values for _, values in blocks])
    return from_a_stream(iter([(scores, values)]))


@from_a_stream.mistake(
    "When the maximum rises, your sum of exponentials shrinks and your sum of values does not."
)
def shrinks_only_the_total(blocks):
    return _carry(blocks, shrink_values=False)


@from_a_stream.mistake(
    "When the maximum rises, your sum of values shrinks and your sum of exponentials does not."
)
def shrinks_only_the_values(blocks):
    return _carry(blocks, shrink_total=False)


@from_a_stream.mistake(
    "You average the outputs of the blocks. A block with large scores must count for more."
)
def averages_the_blocks(blocks):
    found = [from_a_stream(iter([block])) for block in blocks]
    if not found:
        raise ValueError("a stream needs at least one block")
    outputs, sums = zip(*found, strict=True)
    with np.errstate(all="ignore"):
        return np.mean(outputs, axis=0), np.logaddexp.reduce(sums)


@from_a_stream.mistake(
    "Your maximum is that of the newest block. An old maximum may still be the larger one."
)
def forgets_the_old_maximum(blocks):
    return _carry(blocks, keep_maximum=False)


@from_a_stream.mistake(
    "One number serves as the maximum of all queries. Each row has scores of its own, and its own "
    "maximum."
)
def one_maximum_for_all(blocks):
    return _carry(blocks, by_row=False)


@from_a_stream.mistake(
    "A row that has seen nothing but −∞ so far: −∞ minus −∞ is not a number. Measure from 0 there."
)
def stumbles_over_nothing(blocks):
    return _carry(blocks, guard=False)


@from_a_stream.mistake(
    "Your outputs are right. The sum of exponentials was measured from the maximum: what is its "
    "logarithm, measured from 0?"
)
def leaves_the_maximum_out(blocks):
    return _carry(blocks, add_maximum=False)


def _carry(
    blocks, *, shrink_total=True, shrink_values=True, keep_maximum=True, by_row=True, guard=True,
    add_maximum=True,
):  # fmt: skip
    maximum = None
    for scores, values in blocks:
        top = scores.max(axis=1, keepdims=True)
        if not by_row:
            top = np.full_like(top, top.max())
        if maximum is None:
            maximum = np.full_like(top, -np.inf)
            total, gathered = np.zeros_like(top), np.zeros((len(top), values.shape[1]))
        new = np.maximum(maximum, top) if keep_maximum else top
        reference = np.where(np.isneginf(new), 0.0, new) if guard else new
        share, shrink = np.exp(scores - reference), np.exp(maximum - reference)
        total = total * (shrink if shrink_total else 1) + share.sum(axis=1, keepdims=True)
        gathered = gathered * (shrink if shrink_values else 1) + share @ values
        maximum = new
    if maximum is None:
        raise ValueError("a stream needs at least one block")
    with np.errstate(all="ignore"):
        output = gathered / np.where(total == 0, 1.0, total)
        return output, ((maximum if add_maximum else 0) + np.log(total))[:, 0]
