"""Exercises of training/loss-functions.md."""

from __future__ import annotations

import tracemalloc

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.probability import logsumexp, softmax
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.training.loss_functions import (
    chunked_cross_entropy,
    expected_calibration_error,
)
from chainrule.training.loss_functions import fit_temperature as package_temperature


@exercise(
    "The best constant",
    difficulty=1,
    minutes=15,
    section="what-does-a-loss-look-for",
    because="the package trains with quantile_loss and does not solve for a constant",
    idea=(
        "Move c to the right: the loss changes at a rate that counts targets on either side. "
        "Where does the rate change its sign?"
    ),
)
def best_constant(y, q):
    """Return the number c with the smallest mean quantile loss for the targets y.

    y has shape (n,). Being too high by e costs (1 − q)·e, being too low by e costs q·e. If a whole
    interval is best, any number of it will do. By hand first: for q = ½ the loss is half of the
    absolute error; what is c for 20, 22, 25, 28 and 105?
    """
    place = int(np.ceil(q * len(y) - 1e-9)) - 1
    return float(np.sort(y)[place])


def _quantile_loss(c, y, q):
    e = c - y
    return float(np.where(e >= 0, (1 - q) * e, -q * e).mean())


@best_constant.check
def commute(answer, rng):
    minutes = np.array([28.0, 20.0, 105.0, 22.0, 25.0])
    for q, expected in ((0.5, 25.0), (0.7, 28.0), (0.3, 22.0)):
        what = f"the best constant for five mornings and q = {q}"
        expect_close(answer(minutes.copy(), q), expected, what=what)


@best_constant.check
def nothing_is_better(answer, rng):
    for n, q in ((7, 0.9), (20, 0.25), (33, 0.5)):
        y = rng.exponential(size=n)
        received = _quantile_loss(float(answer(y.copy(), q)), y, q)
        best = min(_quantile_loss(c, y, q) for c in y)
        expect(
            received <= best + 1e-9,
            f"q = {q}, {n} targets: your constant costs {received:.4f}, another one {best:.4f}",
        )


@best_constant.mistake("The mean is best for squared errors. Which slope vanishes here?")
def takes_the_mean(y, q):
    return float(np.mean(y))


@best_constant.mistake("That is right for q = ½ only. Which error is the dear one for q = 0.9?")
def always_the_median(y, q):
    return best_constant(y, 0.5)


@best_constant.mistake(
    "You have exchanged q and 1 − q. If being too low costs nine times as much, is the best "
    "constant high or low?"
)
def exchanges_the_sides(y, q):
    return best_constant(y, 1 - q)


@best_constant.mistake(
    "np.quantile draws a line between two neighbouring targets and stops on it. The slope of your "
    "loss is the same all along that line: where does it change sign?"
)
def interpolates(y, q):
    return float(np.quantile(y, q))


@best_constant.mistake("The middle of the list is the median only after sorting.")
def forgets_to_sort(y, q):
    return float(y[int(np.ceil(q * len(y) - 1e-9)) - 1])


@exercise(
    "Finite at a thousand",
    difficulty=2,
    minutes=20,
    section="three-lines-for-the-gradient",
    counterpart="chainrule.training.loss_functions:_cross_entropy",
    idea=(
        "The loss is the log-sum-exp of the logits minus the target's logit, and no probability "
        "needs to be formed for it. Its gradient is predicted minus wanted."
    ),
)
def stable_cross_entropy(logits, targets):
    """Return the losses, shape (n,), and the gradient of their mean by the logits, shape (n, c).

    logits has shape (n, c), targets n class numbers. Logits of ±1000 must give the exact losses.
    """
    rows = np.arange(len(logits))
    losses = logsumexp(logits, axis=-1) - logits[rows, targets]
    gradient = softmax(logits)
    gradient[rows, targets] -= 1
    return losses, gradient / len(logits)


@stable_cross_entropy.by_package
def _(package, logits, targets):
    rows, classes = np.ones(len(logits)), np.ones(logits.shape[1])
    losses, vjp = package(
        logits,
        ids=targets,
        share=rows,
        counted=rows,
        smoothing=0.0,
        weights=classes,
        z_loss=0.0,
        divisor=None,
    )
    return losses, vjp(rows / len(rows))[0]


@stable_cross_entropy.in_package
def _(mine, logits, ids, share, counted, smoothing, weights, z_loss, divisor):
    if smoothing or z_loss:
        raise NotImplementedError("this exercise knows neither label smoothing nor z-loss")
    losses, gradient = mine(logits.reshape(-1, logits.shape[-1]), ids)
    part = share / (1 if divisor is None else divisor)

    def vjp(g):
        rows = gradient * (len(losses) * part * g.reshape(-1))[:, None]
        return (rows.reshape(logits.shape),)

    return (losses * part).reshape(logits.shape[:-1]), vjp


def _quiet(answer, *arguments):
    with np.errstate(all="ignore"):
        return answer(*arguments)


@stable_cross_entropy.check
def one_two_three(answer, rng):
    losses, gradient = _quiet(answer, np.array([[1.0, 2.0, 3.0]]), np.array([0]))
    expect_close(losses, np.array([2.40760596]), what="the loss of (1, 2, 3) for the first class")
    expected = np.array([[-0.90996943, 0.24472847, 0.66524096]])
    expect_close(gradient, expected, what="the gradient for (1, 2, 3) and the first class")


@stable_cross_entropy.check
def a_batch(answer, rng):
    logits, targets = rng.normal(size=(5, 7)), rng.integers(0, 7, size=5)
    losses, gradient = _quiet(answer, logits, targets)
    expect_shape(losses, (5,), what="the losses")
    expected = stable_cross_entropy(logits, targets)
    expect_close(losses, expected[0], what="the losses of five random rows")
    expect_close(gradient, expected[1], what="the gradient of the mean of five losses")


@stable_cross_entropy.check
def thousands(answer, rng):
    logits = np.array([[1000.0, -1000.0, 0.0], [-1000.0, 1000.0, 1000.0], [1.0, 2.0, 3.0]])
    losses, gradient = _quiet(answer, logits, np.array([1, 2, 2]))
    expected = np.array([2000.0, np.log(2), 0.40760596])
    expect_close(losses, expected, what="the losses at logits of ±1000")
    expect_close(gradient[0] * 3, np.array([1.0, -1.0, 0.0]), what="the gradient of the first row")


@stable_cross_entropy.mistake("Your exponentials overflow. What may you subtract from all logits?")
def plain_softmax(logits, targets):
    rows = np.arange(len(logits))
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    gradient = p.copy()
    gradient[rows, targets] -= 1
    return -np.log(p[rows, targets]), gradient / len(logits)


@stable_cross_entropy.mistake(
    "The softmax is safe, but a probability has rounded to 0 before you took its logarithm. "
    "Simplify the logarithm of the quotient first."
)
def logarithm_of_a_softmax(logits, targets):
    rows = np.arange(len(logits))
    return -np.log(softmax(logits)[rows, targets]), stable_cross_entropy(logits, targets)[1]


@stable_cross_entropy.mistake(
    "A small number inside the logarithm hides the zero: a loss of 2000 becomes 27.6."
)
def adds_an_epsilon(logits, targets):
    rows = np.arange(len(logits))
    losses = -np.log(softmax(logits)[rows, targets] + 1e-12)
    return losses, stable_cross_entropy(logits, targets)[1]


@stable_cross_entropy.mistake(
    "Your losses are right. The gradient asked for is that of their mean: which factor is missing?"
)
def gradient_of_the_sum(logits, targets):
    losses, gradient = stable_cross_entropy(logits, targets)
    return losses, gradient * len(logits)


@stable_cross_entropy.mistake(
    "Your gradient points uphill. Predicted minus wanted, or the reverse?"
)
def gradient_turned_round(logits, targets):
    losses, gradient = stable_cross_entropy(logits, targets)
    return losses, -gradient


@exercise(
    "Texts of unequal length",
    difficulty=2,
    minutes=10,
    section="divide-by-the-number-of-tokens",
    because="cross_entropy leaves filling out by its ignore_index and never sees lengths",
    idea=(
        "Mark which positions hold tokens by comparing their numbers with the lengths. Sum over "
        "those, and divide once, by how many there are."
    ),
)
def padded_loss(losses, lengths):
    """Return the mean loss per real token of a batch.

    losses has shape (batch, time). Of row i only the first lengths[i] entries, at least one, belong
    to tokens; what stands behind them is filling and may be any number.
    """
    real = np.arange(losses.shape[1]) < np.asarray(lengths)[:, None]
    return float(losses[real].sum() / real.sum())


@padded_loss.check
def three_and_one(answer, rng):
    losses = np.array([[1.0, 1.0, 1.0], [5.0, 7.0, 7.0]])
    expect_close(answer(losses, np.array([3, 1])), 2.0, what="the loss of (1, 1, 1) and (5)")


@padded_loss.check
def more_filling_changes_nothing(answer, rng):
    losses, lengths = rng.exponential(size=(5, 7)), np.array([7, 1, 3, 6, 2])
    more = np.concatenate([losses, np.full((5, 4), 100.0)], axis=1)
    expected = padded_loss(losses, lengths)
    expect_close(answer(losses, lengths), expected, what="the loss of five texts")
    expect_close(answer(more, lengths), expected, what="the loss of five texts with more filling")


@padded_loss.mistake(
    "You averaged the texts' means, so a token of a short text counts for more than one of a long "
    "text."
)
def mean_of_means(losses, lengths):
    return float(np.mean([row[:n].mean() for row, n in zip(losses, lengths, strict=True)]))


@padded_loss.mistake(
    "You left the filling out of the sum, but divided by all positions. How many tokens are there?"
)
def divides_by_all_positions(losses, lengths):
    real = np.arange(losses.shape[1]) < np.asarray(lengths)[:, None]
    return float((losses * real).mean())


@padded_loss.mistake("The filling is in your mean.")
def counts_the_filling(losses, lengths):
    return float(losses.mean())


@exercise(
    "A loss in chunks",
    difficulty=4,
    minutes=35,
    section="losses-without-the-table-of-logits",
    counterpart="chainrule.training.loss_functions:_chunked",
    idea=(
        "Handle a few rows completely, from their logits to their gradients, before you look at "
        "the next. Each chunk counts by its share of all rows."
    ),
)
def loss_in_chunks(H, W, targets, rows):
    """Return the mean cross-entropy of the logits H Wᵀ and its gradients for H and W.

    H has shape (n, d), W (classes, d), targets (n,). Never hold more than `rows` rows of logits;
    n need not be a multiple of it.
    """
    loss, H_grad, W_grad = 0.0, np.empty_like(H), np.zeros_like(W)
    for start in range(0, len(H), rows):
        part = slice(start, start + rows)
        losses, gradient = stable_cross_entropy(H[part] @ W.T, targets[part])
        share = len(losses) / len(H)
        loss += float(losses.mean()) * share
        H_grad[part] = share * gradient @ W
        W_grad += share * gradient.T @ H[part]
    return loss, H_grad, W_grad


@loss_in_chunks.by_package
def _(package, H, W, targets, rows):
    loss, vjp = package(H, W, ids=targets, counted=np.ones(len(H)), chunk=rows)
    return float(loss), *vjp(np.ones(()))


def _full(H, W, targets):
    h, w = Tensor(H, requires_grad=True), Tensor(W, requires_grad=True)
    loss = chunked_cross_entropy(h, w, targets, chunk=len(H))
    loss.backward()
    return loss.item(), h.grad, w.grad


def _expect_parts(received, expected, what):
    names = ("loss", "gradient for H", "gradient for W")
    count = len(received)
    expect(count == 3, f"expected loss, gradient for H and gradient for W; received {count} things")
    for name, a, b in zip(names, received, expected, strict=True):
        expect_close(a, b, what=f"the {name} for {what}")


@loss_in_chunks.check
def one_chunk(answer, rng):
    H, W, targets = rng.normal(size=(3, 2)), rng.normal(size=(5, 2)), np.array([4, 0, 2])
    received = answer(H, W, targets, 3)
    _expect_parts(received, _full(H, W, targets), "three rows in one chunk")


@loss_in_chunks.check
def equal_chunks(answer, rng):
    H, W = rng.normal(size=(6, 2)), rng.normal(size=(5, 2))
    targets = rng.integers(0, 5, size=6)
    received = answer(H, W, targets, 2)
    _expect_parts(received, _full(H, W, targets), "six rows in chunks of two")


@loss_in_chunks.check
def a_shorter_last_chunk(answer, rng):
    H, W = rng.normal(size=(11, 3)), rng.normal(size=(7, 3))
    targets = rng.integers(0, 7, size=11)
    received = answer(H, W, targets, 4)
    _expect_parts(received, _full(H, W, targets), "eleven rows in chunks of four")


@loss_in_chunks.check
def never_the_whole_table(answer, rng):
    H, W = rng.normal(size=(400, 3)), rng.normal(size=(500, 3))
    targets = rng.integers(0, 500, size=400)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        answer(H, W, targets, 10)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    table = 400 * 500 * 8
    expect(
        peak < table / 2,
        f"400 rows in chunks of 10 took {peak / 1e6:.1f} MB at once; all 400 rows of logits are "
        f"{table / 1e6:.1f} MB, 10 rows {table / 40e6:.2f} MB",
    )


@loss_in_chunks.mistake(
    "Your numbers are right, but all rows of logits stand in memory at once. Which of them does "
    "one chunk need, and what is left to keep when it is done?"
)
def makes_the_whole_table(H, W, targets, rows):
    losses, gradient = stable_cross_entropy(H @ W.T, targets)
    return float(losses.mean()), gradient @ W, gradient.T @ H


@loss_in_chunks.mistake(
    "Right for equal chunks. The last one may be shorter: how much should its mean count?"
)
def mean_of_chunk_means(H, W, targets, rows):
    loss, H_grad, W_grad = 0.0, np.empty_like(H), np.zeros_like(W)
    chunks = -(-len(H) // rows)
    for start in range(0, len(H), rows):
        part = slice(start, start + rows)
        losses, gradient = stable_cross_entropy(H[part] @ W.T, targets[part])
        loss += float(losses.mean()) / chunks
        H_grad[part] = gradient @ W / chunks
        W_grad += gradient.T @ H[part] / chunks
    return loss, H_grad, W_grad


@loss_in_chunks.mistake(
    "Your gradient for W is that of the last chunk. W was used by all of them: gradients add."
)
def overwrites_the_gradient(H, W, targets, rows):
    loss, H_grad, _ = loss_in_chunks(H, W, targets, rows)
    last = slice((len(H) - 1) // rows * rows, None)
    _, gradient = stable_cross_entropy(H[last] @ W.T, targets[last])
    return loss, H_grad, gradient.T @ H[last] * len(gradient) / len(H)


@loss_in_chunks.mistake("You return sums over the rows; the mean was asked for.")
def sums_instead_of_means(H, W, targets, rows):
    return tuple(part * len(H) for part in loss_in_chunks(H, W, targets, rows))


@exercise(
    "InfoNCE at chance",
    difficulty=3,
    minutes=20,
    section="contrastive-losses-brief",
    counterpart="chainrule.training.loss_functions:info_nce",
    idea=(
        "It is a classification: the classes are the rows of b, the logits are cosines over "
        "tau, and row i belongs to class i."
    ),
)
def info_nce(a, b, tau):
    """Return the InfoNCE loss of n pairs: row i of a belongs to row i of b.

    a and b have shape (n, d). Similarity is the cosine, divided by tau. Candidates for a row of a
    are all rows of b. Before you run it: what is the loss if all rows of b are alike?
    """
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    losses, _ = stable_cross_entropy(a @ b.T / tau, np.arange(len(a)))
    return float(losses.mean())


@info_nce.by_package
def _(package, a, b, tau):
    return package(Tensor(a), Tensor(b), tau).item()


@info_nce.check
def at_chance(answer, rng):
    a, b = rng.normal(size=(7, 5)), np.tile(rng.normal(size=5), (7, 1))
    expect_close(answer(a, b, 0.5), np.log(7), what="the loss if all candidates are alike, log 7")


@info_nce.check
def two_pairs(answer, rng):
    a, b = np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([[5.0, 0.0], [1.0, 1.0]])
    s = np.sqrt(0.5)
    expected = (np.log1p(np.exp((s - 1) / 0.5)) + np.log1p(np.exp((0 - s) / 0.5))) / 2
    expect_close(answer(a, b, 0.5), expected, what="the loss of two pairs with tau = 0.5")


@info_nce.check
def lengths_do_not_matter(answer, rng):
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    expected = info_nce(a, b, 0.1)
    expect_close(answer(a, b, 0.1), expected, what="the loss of five random pairs")
    received = answer(a * rng.uniform(1, 9, size=(5, 1)), 100 * b, 0.1)
    expect_close(received, expected, what="the loss of the same pairs with other lengths")


@info_nce.mistake("Long vectors win in your version. A cosine divides by both lengths.")
def dot_products(a, b, tau):
    losses, _ = stable_cross_entropy(a @ b.T / tau, np.arange(len(a)))
    return float(losses.mean())


@info_nce.mistake("A low temperature must make the softmax sharper. Yours makes it softer.")
def multiplies_by_tau(a, b, tau):
    return info_nce(a, b, 1 / tau)


@info_nce.mistake(
    "Your softmax runs over the rows of a. For which vector are the candidates asked for?"
)
def the_other_direction(a, b, tau):
    return info_nce(b, a, tau)


@info_nce.mistake(
    "The right partner is one of the candidates: it belongs in the denominator too. At chance you "
    "get log(n − 1)."
)
def leaves_the_partner_out(a, b, tau):
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    scores = a @ b.T / tau
    others = np.where(np.eye(len(a), dtype=bool), -np.inf, scores)
    return float(np.mean(logsumexp(others, axis=-1) - np.diag(scores)))


@exercise(
    "One number for honesty",
    difficulty=3,
    minutes=30,
    section="is-it-as-sure-as-it-should-be",
    counterpart="chainrule.training.loss_functions:fit_temperature",
    idea=(
        "A convex function of 1/tau has one place where its slope changes sign. The sign of the "
        "slope tells you in which half to go on looking."
    ),
)
def fit_temperature(logits, targets):
    """Return the tau > 0 for which softmax(logits / tau) has the smallest mean cross-entropy.

    logits has shape (n, c), targets (n,). tau lies between 0.01 and 100; three correct digits do.
    The loss is convex in 1/tau.
    """
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        _, gradient = stable_cross_entropy(logits / np.exp(middle), targets)
        if (gradient * logits).sum() < 0:  # a larger 1/tau would be better
            high = middle
        else:
            low = middle
    return float(np.exp((low + high) / 2))


def _sample(rng, factor, n=3000):
    honest = 1.5 * rng.normal(size=(n, 5))
    targets = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    return factor * honest, targets


@fit_temperature.check
def odds_of_three(answer, rng):
    logits, targets = np.tile([2.0, 0.0], (4, 1)), np.array([0, 0, 0, 1])
    what = "tau for a logit of 2 that is right in three cases of four, 2/log 3"
    expect_close(answer(logits, targets), 2 / np.log(3), rtol=5e-3, what=what)


@fit_temperature.check
def too_sure_and_not_sure_enough(answer, rng):
    for factor in (3.0, 0.4):
        logits, targets = _sample(rng, factor)
        expected = package_temperature(logits, targets)
        what = f"tau for honest logits times {factor}"
        expect_close(answer(logits, targets), expected, rtol=5e-3, what=what)


@fit_temperature.check
def calibrated_on_fresh_data(answer, rng):
    tau = answer(*_sample(rng, 3.0))
    logits, targets = _sample(rng, 3.0)
    before = expected_calibration_error(softmax(logits), targets)
    after = expected_calibration_error(softmax(logits / tau), targets)
    expect(
        after < before / 2,
        f"on fresh data the calibration error goes from {before:.3f} only to {after:.3f}",
    )


@fit_temperature.mistake("You return 1/tau: the number to multiply by, not to divide by.")
def returns_the_inverse(logits, targets):
    return 1 / fit_temperature(logits, targets)


@fit_temperature.mistake(
    "You made the mean confidence equal the accuracy. That is a consequence of calibration, and "
    "other temperatures than the one of the smallest loss have it."
)
def matches_confidence_to_accuracy(logits, targets):
    accuracy = np.mean(logits.argmax(axis=1) == targets)
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        if softmax(logits / np.exp(middle)).max(axis=1).mean() > accuracy:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


@fit_temperature.mistake(
    "You searched for the temperature of the largest accuracy. Dividing by tau changes no "
    "decision, so all of them tie."
)
def maximizes_accuracy(logits, targets):
    candidates = np.exp(np.linspace(np.log(0.01), np.log(100.0), 41))
    accuracy = [np.mean((logits / tau).argmax(axis=1) == targets) for tau in candidates]
    return float(candidates[np.argmax(accuracy)])
