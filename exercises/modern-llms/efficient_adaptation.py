"""Exercises of modern-llms/efficient-adaptation.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect_close, expect_equal, expect_raises
from chainrule.modern_llms.efficient_adaptation import NF4


@exercise(
    "What fits on the card",
    difficulty=1,
    minutes=15,
    section="the-problem-full-fine-tuning-is-expensive",
    because="the package's ledger takes a configuration and a rank; this is its inverse",
    idea="Take away what it costs to hold the model. Divide what is left by the price of one rank.",
)
def largest_rank(memory, N, shapes):
    """Return the largest rank that fits in each of several memories, as an array of whole numbers.

    memory is an array of bytes. The model has N parameters, frozen, in 16 bits. shapes lists
    (m, n) for every matrix that gets an update. Trained numbers are kept as on the page. Where
    nothing fits, the rank is 0. By hand first: N = 100, one matrix of 3 × 2, 370 bytes.
    """
    one = 16 * sum(m + n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 2 * N) // one, 0)


@largest_rank.check
def two_ranks(answer, rng):
    found = answer(np.array([370, 150, 280]), 100, [(3, 2)])
    expect_equal(np.asarray(found), np.array([2, 0, 1]), what="ranks of a matrix of 3 × 2")


@largest_rank.check
def a_large_model(answer, rng):
    shapes = [(12_288, 4096), (4096, 4096), (11_008, 4096), (4096, 11_008)] * 32
    memory = np.array([16, 20, 24, 80], dtype=np.int64) * 10**9
    found = answer(memory, 6_738_415_616, shapes)
    expect_equal(np.asarray(found), np.array([89, 232, 375, 2371]), what="ranks for a 7B model")


@largest_rank.check
def a_small_model(answer, rng):
    memory = np.array([50_000, 36_000, 28_000, 20_000, 90_000])
    found = answer(memory, 1000, [(3, 2), (5, 7)])
    expect_equal(np.asarray(found), np.array([176, 125, 95, 66, 323]), what="ranks of two matrices")


@largest_rank.mistake("You forgot that the frozen model has to lie in the memory, too.")
def without_the_model(memory, N, shapes):
    return largest_rank(memory, 0, shapes)


@largest_rank.mistake("A matrix of rank r is stored as two factors. What do they hold together?")
def whole_matrices(memory, N, shapes):
    return np.maximum((np.asarray(memory) - 2 * N) // (16 * sum(m * n for m, n in shapes)), 0)


@largest_rank.mistake(
    "Your bytes leave something out. Read the table of the ledger again.", b=(14, 12, 2, 4)
)
def too_few_bytes(memory, N, shapes, b):
    one = b * sum(m + n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 2 * N) // one, 0)


@largest_rank.mistake("The frozen numbers have no gradient and no moments. What is left of them?")
def frozen_with_moments(memory, N, shapes):
    one = 16 * sum(m + n for m, n in shapes)
    return np.maximum((np.asarray(memory) - 16 * N) // one, 0)


@exercise(
    "Several updates in one matrix",
    difficulty=2,
    minutes=15,
    section="merging",
    because="the package merges one update into one layer",
    idea="Every update is a matrix of the shape of W with its own scale, because its rank is its "
    "own. Matrices can be added.",
)
def merged(W, updates):
    """Return W with several updates merged into it; W itself stays as it is.

    updates is a list of (A, B, alpha): A has shape (r, n), B has shape (m, r), and r may differ
    from one update to the next. Each has the scale alpha / r. By hand first: W = 0 of 1 × 1, and
    the updates (A = 2, B = 3, alpha = 1) and (A = (1, 1) as a column, B = (4, 5), alpha = 1).
    """
    W = W.copy()
    for A, B, alpha in updates:
        W += alpha / len(A) * (B @ A)
    return W


@merged.check
def one_by_one(answer, rng):
    updates = [
        (np.array([[2.0]]), np.array([[3.0]]), 1.0),
        (np.array([[1.0], [1.0]]), np.array([[4.0, 5.0]]), 1.0),
    ]
    expect_close(answer(np.zeros((1, 1)), updates), np.array([[10.5]]), what="6 and 9/2")


@merged.check
def larger(answer, rng):
    for d in (5, 7):
        W = rng.normal(size=(d, d))
        updates = [
            (rng.normal(size=(r, d)), rng.normal(size=(d, r)), alpha)
            for r, alpha in ((2, 3.0), (3, 8.0))
        ]
        expected = W + sum(alpha / A.shape[0] * B @ A for A, B, alpha in updates)
        expect_close(answer(W, updates), expected, what=f"{d} × {d} with ranks 2 and 3")


def _with_scale(W, updates, scale):
    return W + sum(scale(alpha, len(A)) * (B @ A) for A, B, alpha in updates)


@merged.mistake("An update is multiplied by a scale before it is added. Where is yours?")
def scale_forgotten(W, updates):
    return _with_scale(W, updates, lambda alpha, r: 1)


@merged.mistake("Your scale is applied twice: to a factor and to the product.")
def scale_twice(W, updates):
    return _with_scale(W, updates, lambda alpha, r: (alpha / r) ** 2)


@merged.mistake("Half of the scale is missing: which two numbers make it?")
def alpha_alone(W, updates):
    return _with_scale(W, updates, lambda alpha, r: alpha)


@merged.mistake("That is the scale of rsLoRA. The statement names another.")
def by_the_root(W, updates):
    return _with_scale(W, updates, lambda alpha, r: alpha / np.sqrt(r))


@merged.mistake("Each update arrived twice in your matrix. Merge it once.")
def merged_twice(W, updates):
    return _with_scale(W, updates, lambda alpha, r: 2 * alpha / r)


@merged.mistake(
    "A and B have changed places. A square matrix does not complain, so look at shapes."
)
def exchanged(W, updates):
    return W + sum(alpha / len(A) * (A.T @ B.T) for A, B, alpha in updates)


@merged.mistake("You divide by the width of W. Which axis of A counts the directions?")
def by_the_width(W, updates):
    return W + sum(alpha / A.shape[1] * (B @ A) for A, B, alpha in updates)


@merged.mistake("You took the mean of the updates. Each is added whole.")
def mean_of_updates(W, updates):
    return _with_scale(W, updates, lambda alpha, r: alpha / r / len(updates))


@merged.mistake("Each update has a rank of its own. You used the rank of the first for all.")
def rank_of_the_first(W, updates):
    return _with_scale(W, updates, lambda alpha, r: alpha / len(updates[0][0]))


@exercise(
    "A soft prompt, both ways",
    difficulty=2,
    minutes=20,
    section="prompt-tuning",
    because="the package composes it of two operations of the engine",
    idea="The same rows stand before every text of the batch. Each text sends a gradient back to "
    "them, and gradients of what is used several times add up.",
)
def prepend(P, X):
    """Return the rows P before every text of a batch X, and a function vjp.

    P has shape (n, d), X has shape (batch, time, d), the result (batch, n + time, d). vjp(g), with
    g of the result's shape, returns a tuple: the gradients of P and of X.
    """
    n = len(P)
    out = np.concatenate([np.broadcast_to(P, (len(X), *P.shape)), X], axis=1)

    def vjp(g):
        return g[:, :n].sum(axis=0), g[:, n:]

    return out, vjp


@prepend.check
def two_texts(answer, rng):
    out, vjp = answer(np.array([[7.0]]), np.array([[[1.0], [2.0]], [[3.0], [4.0]]]))
    expect_close(out, np.array([[[7.0], [1], [2]], [[7], [3], [4]]]), what="the rows")
    by_P, by_X = vjp(np.arange(6.0).reshape(2, 3, 1) + 1)
    expect_close(by_P, np.array([[5.0]]), what="the gradient of P, 1 + 4")
    expect_close(by_X, np.array([[[2.0], [3]], [[5], [6]]]), what="the gradient of X")


@prepend.check
def several(answer, rng):
    for batch, n, time, d in ((3, 2, 5, 7), (2, 5, 3, 2)):
        P, X = rng.normal(size=(n, d)), rng.normal(size=(batch, time, d))
        g = rng.normal(size=(batch, n + time, d))
        out, vjp = answer(P, X)
        expect_close(out, np.stack([np.vstack([P, x]) for x in X]), what="the rows")
        by_P, by_X = vjp(g)
        expect_close(by_P, sum(g[b, :n] for b in range(batch)), what="the gradient of P")
        expect_close(by_X, g[:, n:], what="the gradient of X")


def _prepend_with(P, X, of_P):
    out, _ = prepend(P, X)
    return out, lambda g: (of_P(g[:, : len(P)]), g[:, len(P) :])


@prepend.mistake("You took the mean over the texts. The loss already did what there is to divide.")
def mean_of_texts(P, X):
    return _prepend_with(P, X, lambda g: g.mean(axis=0))


@prepend.mistake(
    "Only one text of the batch reaches your P. The others read it, too.", which=(0, -1)
)
def one_text(P, X, which):
    return _prepend_with(P, X, lambda g: g[which])


@prepend.mistake("Your rows stand behind the text. With a causal mask no token would see them.")
def behind(P, X):
    time = X.shape[1]
    out = np.concatenate([X, np.broadcast_to(P, (len(X), *P.shape))], axis=1)
    return out, lambda g: (g[:, time:].sum(axis=0), g[:, :time])


@exercise(
    "Each request its own update",
    difficulty=2,
    minutes=20,
    section="many-users-one-base",
    counterpart="chainrule.modern_llms.efficient_adaptation.lora:low_rank_by_row",
    idea="Choose the factors of each request first: then both have a leading axis of the batch, "
    "and one product of stacks does all requests.",
)
def low_rank_by_row(x, which, A, B, scale=1.0):
    """Return the update of every request, each by the factors that which names.

    x has shape (batch, time, n), which (batch), A (updates, r, n), B (updates, m, r). The result
    has shape (batch, time, m). A number in which that names no update raises ValueError.
    """
    if len(which) and (which.min() < 0 or which.max() >= len(A)):
        raise ValueError(f"updates are numbered 0 to {len(A) - 1}, got {which}")
    return scale * (x @ A[which].swapaxes(1, 2) @ B[which].swapaxes(1, 2))


def _loop(x, which, A, B, scale):
    return np.stack([scale * (row @ A[u].T) @ B[u].T for row, u in zip(x, which, strict=True)])


@low_rank_by_row.check
def four_requests(answer, rng):
    for d, r, m, scale in ((5, 2, 7, 0.5), (3, 4, 2, 3.0)):
        x, which = rng.normal(size=(4, 3, d)), np.array([2, 0, 2, 1])
        A, B = rng.normal(size=(3, r, d)), rng.normal(size=(3, m, r))
        expected = _loop(x, which, A, B, scale)
        expect_close(answer(x, which, A, B, scale), expected, what="the updates of four requests")


@low_rank_by_row.check
def nobody(answer, rng):
    x, A, B = rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 1, 3)), rng.normal(size=(2, 4, 1))
    expect_raises(ValueError, lambda: answer(x, np.array([0, 2]), A, B, 1.0))
    expect_raises(ValueError, lambda: answer(x, np.array([-1, 0]), A, B, 1.0))


def _refuse(which, A, refuses):
    if refuses and (which.min() < 0 or which.max() >= len(A)):
        raise ValueError("no such update")


@low_rank_by_row.mistake("All requests get one update. Whose is it?", refuses=(True, False))
def the_first_for_all(x, which, A, B, scale, refuses):
    _refuse(which, A, refuses)
    return _loop(x, np.full(len(x), which[0]), A, B, scale)


@low_rank_by_row.mistake(
    "You numbered the updates by request. The users are in which.", refuses=(True, False)
)
def by_place(x, which, A, B, scale, refuses):
    _refuse(which, A, refuses)
    return _loop(x, np.arange(len(x)) % len(A), A, B, scale)


@low_rank_by_row.mistake("The scale is missing.", refuses=(True, False))
def no_scale(x, which, A, B, scale, refuses):
    _refuse(which, A, refuses)
    return _loop(x, which, A, B, 1.0)


@low_rank_by_row.mistake("Your scale acts twice, once at each factor.", refuses=(True, False))
def squared_scale(x, which, A, B, scale, refuses):
    _refuse(which, A, refuses)
    return _loop(x, which, A, B, scale**2)


@exercise(
    "A low-rank update, both ways",
    difficulty=3,
    minutes=30,
    section="where-it-starts-and-why-not-both-at-zero",
    counterpart="chainrule.modern_llms.efficient_adaptation.lora:_low_rank",
    idea="Call what lies between the factors h. It has r numbers for each row. Go back through one "
    "product at a time, and meet the scale once.",
)
def low_rank(x, A, B, scale):
    """Return scale · x Aᵀ Bᵀ, and a function vjp.

    x has shape (rows, n), A (r, n), B (m, r). vjp(g), with g of shape (rows, m), returns a tuple:
    the gradients of x, A and B, each with the shape of what it belongs to. The matrix B A is not
    needed.
    """
    h = x @ A.T

    def vjp(g):
        back = scale * (g @ B)
        return back @ A, back.T @ x, scale * (g.T @ h)

    return scale * (h @ B.T), vjp


@low_rank.by_package
def _(package, x, A, B, scale):
    return package(x, A, B, scale=scale)


@low_rank.in_package
def _(mine, x, A, B, scale):
    out, vjp = mine(x.reshape(-1, x.shape[-1]), A, B, scale)

    def reshaped(g):
        by_x, by_A, by_B = vjp(g.reshape(-1, g.shape[-1]))
        return by_x.reshape(x.shape), by_A, by_B

    return out.reshape(*x.shape[:-1], len(B)), reshaped


@low_rank.check
def of_the_page(answer, rng):
    out, vjp = answer(
        np.array([[1.0, 2, 1]]), np.array([[1.0, -1, 2]]), np.array([[1.0], [3]]), 0.5
    )
    expect_close(out, np.array([[0.5, 1.5]]), what="the update of the page")
    by_x, by_A, by_B = vjp(np.array([[2.0, -1]]))
    expect_close(by_x, np.array([[-0.5, 0.5, -1]]), what="the gradient of x")
    expect_close(by_A, np.array([[-0.5, -1, -0.5]]), what="the gradient of A")
    expect_close(by_B, np.array([[1.0], [-0.5]]), what="the gradient of B")


@low_rank.check
def by_differences(answer, rng):
    for rows, n, r, m, scale in ((4, 5, 2, 3, 0.7), (2, 3, 3, 3, 2.5)):
        x, A, B = (rng.normal(size=s) for s in ((rows, n), (r, n), (m, r)))
        g = rng.normal(size=(rows, m))
        out, vjp = answer(x, A, B, scale)
        expect_close(out, scale * x @ (B @ A).T, what="the update")
        by_x, by_A, by_B = vjp(g)
        whole = g.T @ x
        expect_close(by_x, scale * g @ (B @ A), what="the gradient of x")
        expect_close(by_A, scale * B.T @ whole, what="the gradient of A")
        expect_close(by_B, scale * whole @ A.T, what="the gradient of B")


def _with_gradients(x, A, B, scale, change):
    out, vjp = low_rank(x, A, B, scale)
    return out, lambda g: change(*vjp(g))


@low_rank.mistake("The scale is in your output and not in the gradients of the factors.")
def factors_without_scale(x, A, B, scale):
    return _with_gradients(x, A, B, scale, lambda a, b, c: (a, b / scale, c / scale))


@low_rank.mistake("One of the three gradients has lost the scale.", which=(0, 1, 2))
def one_without_scale(x, A, B, scale, which):
    def change(*found):
        return tuple(a / scale if i == which else a for i, a in enumerate(found))

    return _with_gradients(x, A, B, scale, change)


@low_rank.mistake("No gradient knows your scale, though the output does.")
def none_has_the_scale(x, A, B, scale):
    return _with_gradients(x, A, B, scale, lambda a, b, c: (a / scale, b / scale, c / scale))


@low_rank.mistake("The gradients of the factors meet the scale twice on their way.")
def scale_twice_backwards(x, A, B, scale):
    return _with_gradients(x, A, B, scale, lambda a, b, c: (a, b * scale, c * scale))


@low_rank.mistake("One of the three gradients meets the scale twice on its way.", which=(0, 1, 2))
def one_meets_it_twice(x, A, B, scale, which):
    def change(*found):
        return tuple(a * scale if i == which else a for i, a in enumerate(found))

    return _with_gradients(x, A, B, scale, change)


@low_rank.mistake(
    "The gradients of A and B have changed places. Compare each shape with its owner."
)
def exchanged_gradients(x, A, B, scale):
    return _with_gradients(x, A, B, scale, lambda a, b, c: (a, c, b))


@low_rank.mistake(
    "A gradient has the shape of what it belongs to. Yours of the factors lie on their side."
)
def on_their_side(x, A, B, scale):
    return _with_gradients(x, A, B, scale, lambda a, b, c: (a, b.T, c.T))


@low_rank.mistake("Your output has no scale, and neither have the gradients.")
def no_scale_at_all(x, A, B, scale):
    return low_rank(x, A, B, 1.0)


@exercise(
    "Adapt one matrix",
    difficulty=3,
    minutes=30,
    section="where-it-starts-and-why-not-both-at-zero",
    because="the package trains updates inside of models, with the engine",
    idea="Compute the output of the frozen matrix and the update, take the difference to the "
    "targets as its gradient, and move both factors by the gradients at the same place.",
)
def adapt(W, X, Y, r, scale, lr, steps, rng):
    """Return W + scale · B A after steps of gradient descent on half the squared error.

    W has shape (m, n) and is frozen, X (rows, n) are inputs, Y (rows, m) what should come out.
    The loss is half the sum of all squared differences. A starts as numbers that rng draws
    uniformly between −1/√n and 1/√n, in one call of uniform, and B so that nothing is changed at
    the start. Both factors move in the same step.
    """
    m, n = W.shape
    A, B = rng.uniform(-1 / np.sqrt(n), 1 / np.sqrt(n), (r, n)), np.zeros((m, r))
    for _ in range(steps):
        full = (X @ (W + scale * B @ A).T - Y).T @ X
        A, B = A - lr * scale * B.T @ full, B - lr * scale * full @ A.T
    return W + scale * B @ A


def _problem(rng, m=3, n=5, rows=7):
    return rng.normal(size=(m, n)), rng.normal(size=(rows, n)), rng.normal(size=(rows, m))


def _adapted(W, X, Y, r, scale, lr, steps, rng, start="usual", last=None, order="both", step=-1):
    m, n = W.shape
    A, B = rng.uniform(-1 / np.sqrt(n), 1 / np.sqrt(n), (r, n)), np.zeros((m, r))
    if start == "zero":
        A = np.zeros((r, n))
    if start == "narrow":
        A = A / np.sqrt(n)
    if start == "random":
        B = rng.uniform(-1 / np.sqrt(n), 1 / np.sqrt(n), (m, r))
    if start == "exchanged":
        A, B = np.zeros((r, n)), rng.uniform(-1 / np.sqrt(n), 1 / np.sqrt(n), (m, r))
    for _ in range(steps):
        full = (X @ (W + scale * B @ A).T - Y).T @ X
        new_B = B + step * lr * scale * full @ A.T
        if order != "B alone":
            A = A + step * lr * scale * (new_B if order == "one by one" else B).T @ full
        B = new_B
    return W + (scale if last is None else last(scale)) * B @ A


@adapt.check
def before_the_first_step(answer, rng):
    W, X, Y = _problem(rng)
    found = answer(W, X, Y, 2, 0.5, 0.01, 0, np.random.default_rng(1))
    expect_close(found, W, what="the matrix after 0 steps")


@adapt.check
def some_steps(answer, rng):
    found, expected = [], []
    for r, scale, steps in ((1, 0.5, 1), (2, 0.7, 3), (3, 2.0, 9)):
        W, X, Y = _problem(rng)
        given = (W, X, Y, r, scale, 0.01, steps)
        found.append(answer(*given, np.random.default_rng(steps)))
        expected.append(_adapted(*given, np.random.default_rng(steps)))
    expect_close(np.array(found), np.array(expected), what="the matrix after 1, 3 and 9 steps")


@adapt.mistake("Your update never leaves zero. What does each gradient contain?")
def both_zero(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, start="zero")


@adapt.mistake("Your matrix has changed before the first step. Which factor must start at zero?")
def both_random(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, start="random")


@adapt.mistake(
    "Your training is right. Look at the sum at the end: how often is the scale in it?",
    power=(0, 2),
)
def scale_at_the_end(W, X, Y, r, scale, lr, steps, rng, power):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, last=lambda s: s**power)


@adapt.mistake("One factor moves with the new value of the other. Both belong to the same place.")
def one_after_the_other(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, order="one by one")


@adapt.mistake("Your steps go uphill.")
def uphill(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, step=1)


@adapt.mistake("Only one of your two factors moves.")
def one_moves(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, order="B alone")


@adapt.mistake("The scale is in your output and not in the gradients of the factors.")
def gradients_without_scale(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, step=-1 / scale)


@adapt.mistake("You took a mean. The loss is a sum over rows and outputs.", over=("rows", "all"))
def mean_of_squares(W, X, Y, r, scale, lr, steps, rng, over):
    count = len(X) if over == "rows" else Y.size
    return _adapted(W, X, Y, r, scale, lr, steps, rng, step=-1 / count)


@adapt.mistake("Your gradient is twice too large. What does the half in the loss cancel?")
def without_the_half(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, step=-2)


@adapt.mistake("Your A starts too small. Its bounds contain a root.")
def narrow_start(W, X, Y, r, scale, lr, steps, rng):
    return _adapted(W, X, Y, r, scale, lr, steps, rng, start="narrow")


@adapt.mistake("You train the matrix itself. It should stay frozen.")
def full_tuning(W, X, Y, r, scale, lr, steps, rng):
    for _ in range(steps):
        W = W - lr * (X @ W.T - Y).T @ X
    return W


@exercise(
    "Keys that belong to no token",
    difficulty=3,
    minutes=30,
    section="keys-and-values-that-nobody-wrote",
    because="the package attends in batches of heads, and does not return the share",
    idea="Put the trained keys before those of the text. Hide only text: query t sees all trained "
    "keys and the first t keys of the text.",
)
def prefix_attention(Q, K, V, PK, PV):
    """Return the outputs of causal attention with trained keys and values, and their shares.

    Q, K and V have shape (time, d): query t sees keys 1 to t of the text. PK and PV have shape
    (n, d), and every query sees them all. Scores are divided by √d. The second result has one
    number for each query: how much of its weight falls on the trained keys.
    """
    n, d = PK.shape
    scores = Q @ np.vstack([PK, K]).T / np.sqrt(d)
    seen = np.hstack([np.ones((len(Q), n), bool), np.tri(len(Q), dtype=bool)])
    weights = np.where(seen, np.exp(scores - scores.max()), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ np.vstack([PV, V]), weights[:, :n].sum(axis=1)


def _attended(Q, K, V, PK, PV, seen=None, root=True):
    n, d = PK.shape
    scores = Q @ np.vstack([PK, K]).T / (np.sqrt(d) if root else 1)
    if seen is None:
        seen = np.hstack([np.ones((len(Q), n), bool), np.tri(len(Q), dtype=bool)])
    weights = np.where(seen, np.exp(scores), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ np.vstack([PV, V]), weights[:, :n].sum(axis=1)


@prefix_attention.check
def one_trained_key(answer, rng):
    zero = np.zeros((2, 1))
    values = (np.array([[2.0], [6.0]]), np.zeros((1, 1)), np.array([[-1.0]]))
    out, share = answer(zero, zero, *values)
    expect_close(out, np.array([[0.5], [7 / 3]]), what="the means of −1, 2 and of −1, 2, 6")
    expect_close(share, np.array([1 / 2, 1 / 3]), what="the shares of the trained key")


@prefix_attention.check
def larger_ones(answer, rng):
    for time, n, d in ((4, 3, 5), (5, 2, 3)):
        Q, K, V = rng.normal(size=(3, time, d))
        PK, PV = rng.normal(size=(2, n, d))
        out, share = answer(Q, K, V, PK, PV)
        expected, shares = _attended(Q, K, V, PK, PV)
        expect_close(out, expected, what=f"outputs for {time} tokens and {n} trained keys")
        expect_close(share, shares, what="the shares")


@prefix_attention.mistake(
    "Your trained keys are hidden like tokens: early queries see too few keys."
)
def hidden_like_tokens(Q, K, V, PK, PV):
    return _attended(Q, K, V, PK, PV, np.tri(len(Q), len(PK) + len(K), dtype=bool))


@prefix_attention.mistake("Your triangle hides trained keys, too. Only text can lie ahead.")
def trained_keys_in_a_triangle(Q, K, V, PK, PV):
    time, n = len(Q), len(PK)
    return _attended(
        Q, K, V, PK, PV, np.hstack([np.tri(time, n, dtype=bool), np.tri(time, dtype=bool)])
    )


@prefix_attention.mistake("A query of the text does not see its own key in your triangle.")
def own_key_hidden(Q, K, V, PK, PV):
    time, n = len(Q), len(PK)
    seen = np.hstack([np.ones((time, n), bool), np.tri(time, k=-1, dtype=bool)])
    return _attended(Q, K, V, PK, PV, seen)


@prefix_attention.mistake("Your queries see the text that comes after them.")
def no_mask(Q, K, V, PK, PV):
    return _attended(Q, K, V, PK, PV, np.ones((len(Q), len(PK) + len(K)), bool))


@prefix_attention.mistake("Your scores are not divided by the root of d.")
def no_root(Q, K, V, PK, PV):
    return _attended(Q, K, V, PK, PV, root=False)


@prefix_attention.mistake("You took two softmaxes. All keys compete in one.", share=(0.5, 1.0))
def two_softmaxes(Q, K, V, PK, PV, share):
    n, time = len(PK), len(K)
    text = np.hstack([np.zeros((time, n), bool), np.tri(time, dtype=bool)])
    alone = np.hstack([np.ones((time, n), bool), np.zeros((time, time), bool)])
    parts = [_attended(Q, K, V, PK, PV, seen)[0] for seen in (text, alone)]
    return sum(parts) * share, np.full(time, share)


@prefix_attention.mistake("Your share is what the text keeps. The trained keys have the rest.")
def share_of_the_text(Q, K, V, PK, PV):
    out, share = _attended(Q, K, V, PK, PV)
    return out, 1 - share


@prefix_attention.mistake("Your share counts keys. It should add up weights.")
def counted_keys(Q, K, V, PK, PV):
    out, _ = _attended(Q, K, V, PK, PV)
    return out, len(PK) / (len(PK) + 1 + np.arange(len(Q)))


@exercise(
    "Sixteen levels, two to a byte",
    difficulty=4,
    minutes=35,
    section="a-base-in-four-bits",
    counterpart="chainrule.modern_llms.efficient_adaptation.nf4:nf4_quantize",
    idea="Give every block its scale first. Then look for the nearest of the 16 levels, and put "
    "the first code of each pair into the low half of a byte.",
)
def four_bits(w, block):
    """Return the codes of w in NF4, two to a byte, and the scale of every block.

    w has shape (count), which the blocks fill, and block is even. Codes are places in the list
    NF4 of the 16 levels. The first result has type uint8: codes 0 and 1 share byte 0, code 0 in
    its low half. The scale is the largest absolute value of a block, and 0 for a block of zeros.
    """
    rows = w.reshape(-1, block)
    scales = np.abs(rows).max(axis=1)
    x = rows / np.where(scales > 0, scales, 1)[:, None]
    codes = np.abs(x[..., None] - NF4).argmin(axis=-1).reshape(-1).astype(np.uint8)
    return codes[::2] | codes[1::2] << 4, scales


@four_bits.by_package
def _(package, w, block):
    stored = package(w, block)
    return stored.packed, stored.scales.astype(w.dtype)


def _codes(w, block, peak=None, nearest=None):
    rows = w.reshape(-1, block)
    scales = np.abs(rows).max(axis=1) if peak is None else peak(rows)
    x = rows / np.where(scales != 0, scales, 1)[:, None]
    if nearest is None:
        codes = np.abs(x[..., None] - NF4).argmin(axis=-1)
    else:
        codes = nearest(x)
    return codes.reshape(-1).astype(np.uint8), scales


def _packed(codes, scales):
    return codes[::2] | codes[1::2] << 4, scales


@four_bits.check
def block_of_the_page(answer, rng):
    packed, scales = answer(np.array([0.3, -1.2, 0.05, 0.9], np.float32).astype(float), 4)
    expect_equal(np.asarray(packed).tolist(), [10, 8 + 16 * 14], what="the two bytes of the page")
    expect_close(scales, np.float32([1.2]).astype(float), what="the scale")


@four_bits.check
def blocks_of_every_size(answer, rng):
    for count, block, size in ((96, 32, 1.0), (60, 6, 1e-3), (64, 64, 40.0)):
        w = rng.normal(size=count) * rng.choice([1, 5], count) * size
        w[::block] = np.abs(w[::block])
        w[: block // 2] *= -1
        w = w.astype(np.float32).astype(float)
        packed, scales = answer(w, block)
        codes, expected = _codes(w, block)
        expect_close(scales, expected, what="the scales")
        expect_equal(
            np.asarray(packed).tolist(), _packed(codes, expected)[0].tolist(), what="the bytes"
        )


@four_bits.check
def zeros(answer, rng):
    packed, scales = answer(np.zeros(8), 4)
    expect_equal(np.asarray(packed).tolist(), [7 + 16 * 7] * 4, what="the bytes of zeros")
    expect_close(scales, np.array([0.0, 0.0]), what="the scales of zeros")


@four_bits.mistake("You used one scale for all weights. One outlier would make every block coarse.")
def one_scale(w, block):
    return _packed(*_codes(w, block, lambda rows: np.full(len(rows), np.abs(rows).max())))


@four_bits.mistake("Your halves are exchanged: the first code of a pair belongs into the low one.")
def high_half_first(w, block):
    codes, scales = _codes(w, block)
    return codes[1::2] | codes[::2] << 4, scales


@four_bits.mistake("You divide by the largest weight. What if the largest in size is negative?")
def signed_peak(w, block):
    return _packed(*_codes(w, block, lambda rows: rows.max(axis=1), lambda x: (
        np.abs(np.clip(x, -1, 1)[..., None] - NF4).argmin(axis=-1))))  # fmt: skip


@four_bits.mistake("You take the level below, not the nearest one.")
def the_level_below(w, block):
    return _packed(*_codes(w, block, nearest=lambda x: np.searchsorted(NF4, x, side="right") - 1))


@four_bits.mistake("Your levels are evenly spaced. Those of NF4 are in the list.")
def even_levels(w, block):
    levels = np.linspace(-1, 1, 16)

    def nearest(x):
        found = np.abs(x[..., None] - levels).argmin(axis=-1)
        return np.where(x == 0, 7, found)

    return _packed(*_codes(w, block, nearest=nearest))
