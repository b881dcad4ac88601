"""Blind set of training/loss-functions: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- best_constant ---------------------------------------------------------------------------


@wrong(
    "best_constant", "The weighted mean, which is best for squared errors.", known="takes_the_mean"
)
def _(y, w, q):
    return float((w * y).sum() / w.sum())


@wrong("best_constant", "The quantile without the weights.", known="counts_instead_of_weighing")
def _(y, w, q):
    return float(np.sort(y)[int(np.ceil(q * len(y) - 1e-9)) - 1])


@wrong(
    "best_constant",
    "Sorts the targets and leaves the weights in their old order.",
    known="leaves_the_weights_unsorted",
)
def _(y, w, q):
    total = np.cumsum(w)
    return float(np.sort(y)[np.searchsorted(total, q * total[-1] - 1e-9)])


@wrong("best_constant", "The quantile of level 1 − q.", known="exchanges_the_sides")
def _(y, w, q):
    order = np.argsort(y)
    total = np.cumsum(w[order])
    return float(y[order][np.searchsorted(total, (1 - q) * total[-1] - 1e-9)])


@wrong("best_constant", "The weighted median, whatever q is.", known="always_the_median")
def _(y, w, q):
    order = np.argsort(y)
    total = np.cumsum(w[order])
    return float(y[order][np.searchsorted(total, 0.5 * total[-1] - 1e-9)])


# ---- stable_cross_entropy --------------------------------------------------------------------


def _log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _smoothed(logits, targets, smoothing):
    c = logits.shape[1]
    return (1 - smoothing) * np.eye(c)[targets] + smoothing / c


@wrong("stable_cross_entropy", "Forgets the smoothing altogether.", known="one_hot_targets")
def _(logits, targets, smoothing):
    log_p = _log_softmax(logits)
    rows = np.arange(len(logits))
    return -log_p[rows, targets], (np.exp(log_p) - np.eye(logits.shape[1])[targets]) / len(logits)


@wrong(
    "stable_cross_entropy", "Softmax without subtracting the largest logit.", known="plain_softmax"
)
def _(logits, targets, smoothing):
    e = np.exp(logits)
    p = e / e.sum(axis=1, keepdims=True)
    t = _smoothed(logits, targets, smoothing)
    return -(t * np.log(p)).sum(axis=1), (p - t) / len(logits)


@wrong(
    "stable_cross_entropy",
    "The gradient of the sum instead of the mean.",
    known="gradient_of_the_sum",
)
def _(logits, targets, smoothing):
    log_p, t = _log_softmax(logits), _smoothed(logits, targets, smoothing)
    return -(t * log_p).sum(axis=1), np.exp(log_p) - t


@wrong(
    "stable_cross_entropy",
    "Shares the smoothing among the other c − 1 classes only.",
    known="shares_among_the_others",
)
def _(logits, targets, smoothing):
    n, c = logits.shape
    log_p, one = _log_softmax(logits), np.eye(c)[targets]
    t = (1 - smoothing) * one + smoothing / (c - 1) * (1 - one)
    return -(t * log_p).sum(axis=1), (np.exp(log_p) - t) / n


@wrong(
    "stable_cross_entropy",
    "Smooths the loss and takes the gradient for a one-hot target.",
    known="gradient_of_a_one_hot_target",
)
def _(logits, targets, smoothing):
    log_p, t = _log_softmax(logits), _smoothed(logits, targets, smoothing)
    one = np.eye(logits.shape[1])[targets]
    return -(t * log_p).sum(axis=1), (np.exp(log_p) - one) / len(logits)


# ---- weighted_loss ---------------------------------------------------------------------------


@wrong(
    "weighted_loss",
    "Divides by the number of tokens instead of by the sum of their weights.",
    known="divides_by_the_number_of_tokens",
)
def _(losses, targets, weights):
    real = targets != -100
    share = np.zeros(losses.shape)
    share[real] = weights[targets[real]] / real.sum()
    return float((share[real] * losses[real]).sum()), share


@wrong("weighted_loss", "Ignores the weights.", known="forgets_the_weights")
def _(losses, targets, weights):
    real = targets != -100
    share = real / real.sum()
    return float(losses[real].mean()), share


@wrong("weighted_loss", "Averages each text, then the texts.", known="mean_of_means")
def _(losses, targets, weights):
    real = targets != -100
    w = np.where(real, weights[np.where(real, targets, 0)], 0.0)
    share = w / w.sum(axis=1, keepdims=True) / len(losses)
    return float((share[real] * losses[real]).sum()), share


@wrong(
    "weighted_loss",
    "Multiplies the filling by 0: NaN stays NaN.",
    known="multiplies_the_filling_by_0",
)
def _(losses, targets, weights):
    real = targets != -100
    w = real * weights[np.where(real, targets, 0)]
    share = w / w.sum()
    return float((share * losses).sum()), share


@wrong(
    "weighted_loss", "Divides by all positions, filling included.", known="divides_by_all_positions"
)
def _(losses, targets, weights):
    real = targets != -100
    share = np.zeros(losses.shape)
    share[real] = weights[targets[real]] / losses.size
    return float((share[real] * losses[real]).sum()), share


# ---- whole_text ------------------------------------------------------------------------------


@wrong(
    "whole_text", "Averages the perplexities, weighted by tokens.", known="averages_perplexities"
)
def _(perplexities, tokens, size):
    mean = float((perplexities * tokens).sum() / tokens.sum())
    return mean, float(np.log2(mean) * tokens.sum() / size)


@wrong(
    "whole_text",
    "The plain mean of the logarithms, whatever the pieces' lengths.",
    known="forgets_how_long_the_pieces_are",
)
def _(perplexities, tokens, size):
    nats = np.log(perplexities).mean()
    return float(np.exp(nats)), float(nats * tokens.sum() / size / np.log(2))


@wrong("whole_text", "Nats per byte instead of bits.", known="nats_per_byte")
def _(perplexities, tokens, size):
    nats = (np.log(perplexities) * tokens).sum()
    return float(np.exp(nats / tokens.sum())), float(nats / size)


@wrong("whole_text", "Bits per token instead of per byte.", known="bits_per_token")
def _(perplexities, tokens, size):
    nats = (np.log(perplexities) * tokens).sum() / tokens.sum()
    return float(np.exp(nats)), float(nats / np.log(2))


@wrong("whole_text", "Exponentiates bits with e.", known="e_to_the_bits")
def _(perplexities, tokens, size):
    bits = (np.log2(perplexities) * tokens).sum()
    return float(np.exp(bits / tokens.sum())), float(bits / size)


# ---- clip_slope ------------------------------------------------------------------------------


def _cosines(a, b):
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return a @ b.T


def _two_ways(s, tau):
    """The loss and its gradient by the table of logits s / tau."""
    each = np.arange(len(s))
    rows, columns = _log_softmax(s / tau), _log_softmax(s.T / tau)
    loss = -(rows[each, each].mean() + columns[each, each].mean()) / 2
    gradient = (np.exp(rows) + np.exp(columns).T - 2 * np.eye(len(s))) / (2 * len(s))
    return float(loss), gradient


@wrong(
    "clip_slope",
    "The slope by 1/tau, without the inner derivative.",
    known="derivative_by_the_inverse",
)
def _(a, b, tau):
    s = _cosines(a, b)
    loss, G = _two_ways(s, tau)
    return loss, float((G * s).sum())


@wrong("clip_slope", "The inner derivative has lost its minus.", known="loses_the_minus")
def _(a, b, tau):
    s = _cosines(a, b)
    loss, G = _two_ways(s, tau)
    return loss, float((G * s).sum() / tau**2)


@wrong("clip_slope", "One direction only: captions for photographs.", known="one_direction")
def _(a, b, tau):
    s = _cosines(a, b)
    each, rows = np.arange(len(s)), _log_softmax(s / tau)
    G = (np.exp(rows) - np.eye(len(s))) / len(s)
    return float(-rows[each, each].mean()), float(-(G * s).sum() / tau**2)


@wrong("clip_slope", "Dot products instead of cosines.", known="dot_products")
def _(a, b, tau):
    s = a @ b.T
    loss, G = _two_ways(s, tau)
    return loss, float(-(G * s).sum() / tau**2)


@wrong("clip_slope", "Adds the two directions and forgets to halve.", known="adds_the_directions")
def _(a, b, tau):
    s = _cosines(a, b)
    loss, G = _two_ways(s, tau)
    return 2 * loss, float(-2 * (G * s).sum() / tau**2)


# ---- fit_temperature -------------------------------------------------------------------------


def _sigmoid(z):
    return np.exp(-np.logaddexp(0, -z))


def _bisect(too_small):
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(60):
        middle = (low + high) / 2
        if too_small(np.exp(middle)):
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


@wrong("fit_temperature", "Returns 1/tau.", known="returns_the_inverse")
def _(scores, labels):
    return 1 / _bisect(lambda tau: ((_sigmoid(scores / tau) - labels) * scores).sum() > 0)


@wrong(
    "fit_temperature",
    "Lets the mean probability equal the share of yes.",
    known="matches_the_share_of_yes",
)
def _(scores, labels):
    return _bisect(lambda tau: _sigmoid(scores / tau).mean() > labels.mean())


@wrong(
    "fit_temperature", "Minimizes the squared error of the probabilities.", known="squared_error"
)
def _(scores, labels):
    taus = np.exp(np.linspace(np.log(0.01), np.log(100), 20001))
    losses = [np.mean((_sigmoid(scores / tau) - labels) ** 2) for tau in taus]
    return float(taus[np.argmin(losses)])


@wrong(
    "fit_temperature",
    "Takes the score for the logits (z, −z) of two classes.",
    known="doubles_the_score",
)
def _(scores, labels):
    return _bisect(lambda tau: ((_sigmoid(2 * scores / tau) - labels) * scores).sum() > 0)


@wrong("fit_temperature", "Moves the search the wrong way.", known="ends_at_the_border")
def _(scores, labels):
    return _bisect(lambda tau: ((_sigmoid(scores / tau) - labels) * scores).sum() < 0)


# ---- loss_in_chunks --------------------------------------------------------------------------


def _chunks(H, W, targets, rows, divisor_of):
    real = targets != -100
    loss, H_grad, W_grad = 0.0, np.zeros_like(H), np.zeros_like(W)
    for start in range(0, len(H), rows):
        part = np.flatnonzero(real[start : start + rows]) + start
        if len(part) == 0:
            continue
        log_p = _log_softmax(H[part] @ W.T)
        G = np.exp(log_p) - np.eye(len(W))[targets[part]]
        divisor = divisor_of(part, real)
        loss -= log_p[np.arange(len(part)), targets[part]].sum() / divisor
        H_grad[part] = G @ W / divisor
        W_grad += G.T @ H[part] / divisor
    return float(loss), H_grad, W_grad


@wrong("loss_in_chunks", "Divides by all rows, ignored ones included.", known="divides_by_all_rows")
def _(H, W, targets, rows):
    return _chunks(H, W, targets, rows, lambda part, real: len(real))


@wrong("loss_in_chunks", "Averages the chunks' means.", known="mean_of_chunk_means")
def _(H, W, targets, rows):
    chunks = -(-len(H) // rows)
    return _chunks(H, W, targets, rows, lambda part, real: len(part) * chunks)


@wrong("loss_in_chunks", "Returns sums instead of means.", known="sums_instead_of_means")
def _(H, W, targets, rows):
    return _chunks(H, W, targets, rows, lambda part, real: 1)


@wrong("loss_in_chunks", "Makes all logits at once.", known="makes_the_whole_table")
def _(H, W, targets, rows):
    return _chunks(H, W, targets, len(H), lambda part, real: real.sum())


@wrong(
    "loss_in_chunks",
    "Takes −100 for a class, counted from the end.",
    known="takes_ignored_rows_for_a_class",
)
def _(H, W, targets, rows):
    kept = np.where(targets == -100, len(W) - 1, targets)
    return _chunks(H, W, kept, rows, lambda part, real: real.sum())


# ---- a second reader's answers ---------------------------------------------------------------


@wrong("best_constant", "Returns the weight that has been passed, not the target.")
def _(y, w, q):
    order = np.argsort(y)
    total = np.cumsum(w[order])
    return float(total[np.searchsorted(total, q * total[-1] - 1e-9)])


@wrong("best_constant", "The answer for the smallest squared loss after the quantile's weights.")
def _(y, w, q):
    c = (w * y).sum() / w.sum()
    for _ in range(200):
        v = w * np.where(y > c, q, 1 - q)
        c = (v * y).sum() / v.sum()
    return float(c)


@wrong(
    "stable_cross_entropy",
    "Every class gets the whole share: the target sums to more than 1.",
    known="the_whole_share_for_each",
)
def _(logits, targets, smoothing):
    log_p = _log_softmax(logits)
    t = (1 - smoothing) * np.eye(logits.shape[1])[targets] + smoothing
    return -(t * log_p).sum(axis=1), (np.exp(log_p) - t) / len(logits)


@wrong(
    "stable_cross_entropy", "The gradient with the sign of descent.", known="gradient_turned_round"
)
def _(logits, targets, smoothing):
    log_p = _log_softmax(logits)
    t = _smoothed(logits, targets, smoothing)
    return -(t * log_p).sum(axis=1), (t - np.exp(log_p)) / len(logits)


@wrong(
    "weighted_loss",
    "The shares are the weights, not divided by their sum.",
    known="shares_that_are_weights",
)
def _(losses, targets, weights):
    real = targets != -100
    w = np.where(real, weights[np.where(real, targets, 0)], 0.0)
    return (w * np.where(real, losses, 0)).sum() / w.sum(), w


@wrong(
    "weighted_loss", "Every share is one over the number of tokens.", known="shares_without_weights"
)
def _(losses, targets, weights):
    real = targets != -100
    w = np.where(real, weights[np.where(real, targets, 0)], 0.0)
    return (w * np.where(real, losses, 0)).sum() / w.sum(), real / real.sum()


@wrong(
    "whole_text", "Multiplies the perplexities of the pieces.", known="multiplies_the_perplexities"
)
def _(perplexities, tokens, size):
    nats = (np.log(perplexities) * tokens).sum()
    return float(np.prod(perplexities)), float(nats / np.log(2) / size)


@wrong("clip_slope", "The loss in one direction twice, the slope in both.")
def _(a, b, tau):
    s = _cosines(a, b)
    log_p = _log_softmax(s / tau)
    _, G = _two_ways(s, tau)
    return float(-np.diag(log_p).mean()), float((G * s).sum() * (-1 / tau**2))


@wrong(
    "loss_in_chunks",
    "The gradient of W is that of the last chunk.",
    known="overwrites_the_gradient",
)
def _(H, W, targets, rows):
    real = targets != -100
    loss, H_grad, W_grad = 0.0, np.zeros_like(H), np.zeros_like(W)
    for i in range(0, len(H), rows):
        part = np.arange(i, min(i + rows, len(H)))[real[i : i + rows]]
        log_p = _log_softmax(H[part] @ W.T)
        G = np.exp(log_p)
        G[np.arange(len(part)), targets[part]] -= 1
        loss -= log_p[np.arange(len(part)), targets[part]].sum() / real.sum()
        G /= real.sum()
        H_grad[part], W_grad = G @ W, G.T @ H[part]
    return loss, H_grad, W_grad
