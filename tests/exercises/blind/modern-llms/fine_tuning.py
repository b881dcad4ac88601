"""Blind set of modern-llms/fine-tuning: wrong answers written from statement and stub alone."""

from __future__ import annotations

import math
import re

import numpy as np

from chainrule.course.exercises import wrong


def _parts(counts):
    counts = np.asarray(counts, dtype=float)
    return np.diag(counts), counts.sum(axis=1), counts.sum(axis=0), counts.sum()


# ---- report --------------------------------------------------------------------------------------


@wrong(
    "report",
    "Takes the columns for the truth: the balanced accuracy averages precisions.",
    known="precision",
)
def _(counts):
    hits, rows, columns, total = _parts(counts)
    macro = np.mean(2 * hits / (rows + columns))
    return np.array([hits.sum() / total, np.mean(hits / columns), macro, hits.sum() / total])


@wrong("report", "Forms F1 from the mean recall and the mean precision.", known="f1_of_means")
def _(counts):
    hits, rows, columns, total = _parts(counts)
    recall, precision = np.mean(hits / rows), np.mean(hits / columns)
    macro = 2 * precision * recall / (precision + recall)
    return np.array([hits.sum() / total, recall, macro, hits.sum() / total])


@wrong("report", "Weights each class's F1 with the size of the class.", known="weighted")
def _(counts):
    hits, rows, columns, total = _parts(counts)
    weighted = np.sum(rows * 2 * hits / (rows + columns)) / total
    return np.array([hits.sum() / total, np.mean(hits / rows), weighted, hits.sum() / total])


@wrong("report", "Takes precision and recall's plain mean instead of F1.", known="plain_mean")
def _(counts):
    hits, rows, columns, total = _parts(counts)
    macro = np.mean((hits / rows + hits / columns) / 2)
    return np.array([hits.sum() / total, np.mean(hits / rows), macro, hits.sum() / total])


@wrong("report", "Forgets the factor 2 of F1.")
def _(counts):
    hits, rows, columns, total = _parts(counts)
    macro = np.mean(hits / (rows + columns))
    return np.array([hits.sum() / total, np.mean(hits / rows), macro, hits.sum() / (2 * total)])


@wrong(
    "report", "Gives 0/0 as the F1 of a class that is never right.", known="nan_where_never_right"
)
def _(counts):
    hits, rows, columns, total = _parts(counts)
    recall = hits / rows
    with np.errstate(all="ignore"):
        precision = hits / columns
        macro = np.mean(2 * precision * recall / (precision + recall))
    return np.array([hits.sum() / total, recall.mean(), macro, hits.sum() / total])


# ---- mean_pool -----------------------------------------------------------------------------------


def _mask(states, lengths):
    return (np.arange(states.shape[1]) < np.asarray(lengths)[:, None]).astype(states.dtype)


@wrong("mean_pool", "Takes the mean of all places, padding too.", known="counts_padding")
def _(states, lengths):
    def vjp(g):
        return (np.repeat(g[:, None] / states.shape[1], states.shape[1], axis=1),)

    return states.mean(axis=1), vjp


@wrong("mean_pool", "Sets padding to 0, but divides by the whole width.", known="divides_by_all")
def _(states, lengths):
    mask = _mask(states, lengths)[:, :, None]

    def vjp(g):
        return (mask * g[:, None] / states.shape[1],)

    return (states * mask).mean(axis=1), vjp


@wrong("mean_pool", "Forgets to divide the gradient by the length.", known="no_factor_back")
def _(states, lengths):
    mask = _mask(states, lengths)[:, :, None]
    n = np.asarray(lengths)[:, None]

    def vjp(g):
        return (mask * g[:, None],)

    return (states * mask).sum(axis=1) / n, vjp


@wrong("mean_pool", "Gives the padding a gradient too.", known="gradient_to_padding")
def _(states, lengths):
    mask = _mask(states, lengths)[:, :, None]
    n = np.asarray(lengths)[:, None]

    def vjp(g):
        return (np.broadcast_to((g / n)[:, None], states.shape).copy(),)

    return (states * mask).sum(axis=1) / n, vjp


@wrong("mean_pool", "Takes one place too many.", known="one_too_many")
def _(states, lengths):
    n = np.asarray(lengths)
    mask = (np.arange(states.shape[1]) <= n[:, None])[:, :, None].astype(states.dtype)

    def vjp(g):
        return (mask * (g / mask.sum(axis=1))[:, None],)

    return (states * mask).sum(axis=1) / mask.sum(axis=1), vjp


@wrong(
    "mean_pool",
    "Divides by the sum of all lengths, as a loss per token would.",
    known="divides_by_batch",
)
def _(states, lengths):
    mask = _mask(states, lengths)[:, :, None]
    total = np.sum(lengths)

    def vjp(g):
        return (mask * g[:, None] / total,)

    return (states * mask).sum(axis=1) / total, vjp


@wrong("mean_pool", "Returns the gradient itself, not in a tuple.")
def _(states, lengths):
    mask = _mask(states, lengths)[:, :, None]
    n = np.asarray(lengths)[:, None]

    def vjp(g):
        return mask * (g / n)[:, None]

    return (states * mask).sum(axis=1) / n, vjp


# ---- adapted_step --------------------------------------------------------------------------------


@wrong("adapted_step", "Lets the decay move the frozen weights.", known="frozen_decays")
def _(w, new, old, rho, trainable, lr, decay):
    gradient = np.where(trainable, new + rho * old, 0)
    return w - lr * gradient - lr * decay * w


@wrong("adapted_step", "Mixes with 1 − rho and rho.", known="mean_of_losses")
def _(w, new, old, rho, trainable, lr, decay):
    step = (1 - rho) * new + rho * old + decay * w
    return np.where(trainable, w - lr * step, w)


@wrong("adapted_step", "Leaves the rate out of the decay.", known="decay_without_rate")
def _(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w - lr * (new + rho * old) - decay * w, w)


@wrong("adapted_step", "Forgets what is frozen.", known="nothing_frozen")
def _(w, new, old, rho, trainable, lr, decay):
    return w - lr * (new + rho * old) - lr * decay * w


@wrong(
    "adapted_step",
    "Freezes the trainable weights, and moves the others.",
    known="the_others_frozen",
)
def _(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w, w - lr * (new + rho * old + decay * w))


@wrong("adapted_step", "Sets frozen weights to 0.", known="frozen_to_zero")
def _(w, new, old, rho, trainable, lr, decay):
    return (w - lr * (new + rho * old + decay * w)) * trainable


@wrong(
    "adapted_step", "Decays after the step, so that the step decays too.", known="decays_the_step"
)
def _(w, new, old, rho, trainable, lr, decay):
    moved = (w - lr * (new + rho * old)) * (1 - lr * decay)
    return np.where(trainable, moved, w)


@wrong("adapted_step", "Weights the new loss with rho.", known="rho_on_new")
def _(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w - lr * (rho * new + old + decay * w), w)


@wrong("adapted_step", "Subtracts the old gradient, to keep away from it.")
def _(w, new, old, rho, trainable, lr, decay):
    return np.where(trainable, w - lr * (new - rho * old + decay * w), w)


# ---- better_or_lucky -----------------------------------------------------------------------------


def _won(first, second):
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    return int(np.sum(first & ~second)), int(np.sum(~first & second))


def _tail(m, n):
    return sum(math.comb(n, k) for k in range(m + 1)) / 2**n


@wrong("better_or_lucky", "Counts one side only.", known="one_sided")
def _(first, second):
    b, c = _won(first, second)
    return min(1.0, _tail(min(b, c), b + c))


@wrong("better_or_lucky", "Does not stop at 1.", known="above_one")
def _(first, second):
    b, c = _won(first, second)
    return 2 * _tail(min(b, c), b + c) if b + c else 1.0


@wrong("better_or_lucky", "Takes the chance of exactly this count, twice.", known="exactly_this")
def _(first, second):
    b, c = _won(first, second)
    return min(1.0, 2 * math.comb(b + c, min(b, c)) / 2 ** (b + c))


@wrong("better_or_lucky", "Sums to one less than the smaller count.", known="strictly_fewer")
def _(first, second):
    b, c = _won(first, second)
    return min(1.0, 2 * _tail(min(b, c) - 1, b + c)) if b + c else 1.0


@wrong(
    "better_or_lucky",
    "Compares how many each got right instead of the tests that differ.",
    known="all_hits",
)
def _(first, second):
    b, c = int(np.sum(first)), int(np.sum(second))
    return min(1.0, 2 * _tail(min(b, c), b + c))


@wrong(
    "better_or_lucky",
    "Counts all tests as coins, also those on which both agree.",
    known="every_test_a_coin",
)
def _(first, second):
    b, c = _won(first, second)
    return min(1.0, 2 * _tail(min(b, c), len(first)))


@wrong("better_or_lucky", "Uses the approximation of textbooks.", known="chi_squared")
def _(first, second):
    b, c = _won(first, second)
    return math.erfc(abs(b - c) / math.sqrt(2 * (b + c))) if b + c else 1.0


@wrong(
    "better_or_lucky", "Takes the tail of the larger count without noticing.", known="always_second"
)
def _(first, second):
    b, c = _won(first, second)
    return min(1.0, 2 * _tail(c, b + c))


# ---- answer_score --------------------------------------------------------------------------------


def _log_softmax(logits):
    logits = np.asarray(logits, dtype=float)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@wrong(
    "answer_score",
    "Judges each token by its own row instead of the row before.",
    known="same_place",
)
def _(logits, ids, prompt, mean):
    found = _log_softmax(logits)[np.arange(prompt, len(ids)), ids[prompt:]]
    return float(found.mean() if mean else found.sum())


@wrong("answer_score", "Leaves out the first token of the answer.", known="first_left_out")
def _(logits, ids, prompt, mean):
    found = _log_softmax(logits)[np.arange(prompt, len(ids) - 1), ids[prompt + 1 :]]
    return float(found.mean() if mean else found.sum())


@wrong("answer_score", "Scores the prompt too.", known="with_the_prompt")
def _(logits, ids, prompt, mean):
    found = _log_softmax(logits)[np.arange(len(ids) - 1), ids[1:]]
    return float(found.mean() if mean else found.sum())


@wrong(
    "answer_score",
    "Divides the mean by the length of prompt and answer.",
    known="divided_by_everything",
)
def _(logits, ids, prompt, mean):
    found = _log_softmax(logits)[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]]
    return float(found.sum() / len(ids) if mean else found.sum())


@wrong("answer_score", "Overflows: exponentiates the logits as they are.", known="overflows")
def _(logits, ids, prompt, mean):
    with np.errstate(all="ignore"):
        e = np.exp(np.asarray(logits, dtype=float))
        p = e / e.sum(axis=-1, keepdims=True)
        found = np.log(p[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]])
    return float(found.mean() if mean else found.sum())


@wrong("answer_score", "Adds the logits without a softmax.", known="no_softmax")
def _(logits, ids, prompt, mean):
    found = np.asarray(logits)[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]]
    return float(found.mean() if mean else found.sum())


@wrong("answer_score", "Always sums.", known="always_the_sum")
def _(logits, ids, prompt, mean):
    return float(_log_softmax(logits)[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]].sum())


@wrong("answer_score", "Multiplies probabilities and takes their mean before the logarithm.")
def _(logits, ids, prompt, mean):
    found = _log_softmax(logits)[np.arange(prompt - 1, len(ids) - 1), ids[prompt:]]
    with np.errstate(divide="ignore"):
        return float(np.log(np.exp(found).mean()) if mean else found.sum())


# ---- f1_interval ---------------------------------------------------------------------------------


def _macro(truth, answers, classes=None):
    scores = []
    for c in np.unique(np.concatenate([truth, answers])) if classes is None else classes:
        both = np.sum((truth == c) | (answers == c)) + np.sum((truth == c) & (answers == c))
        scores.append(2 * np.sum((truth == c) & (answers == c)) / both if both else 0.0)
    return np.mean(scores)


@wrong("f1_interval", "Subtracts the second from the first.", known="wrong_sign")
def _(truth, first, second, draws):
    classes = np.unique(truth)
    found = [
        _macro(truth[d], first[d], classes) - _macro(truth[d], second[d], classes) for d in draws
    ]
    return np.quantile(found, [0.025, 0.975])


@wrong("f1_interval", "Resamples the answers, but not the truth.", known="truth_stays")
def _(truth, first, second, draws):
    found = [_macro(truth, second[d]) - _macro(truth, first[d]) for d in draws]
    return np.quantile(found, [0.025, 0.975])


@wrong("f1_interval", "Takes the difference of the ends of two intervals.", known="ends_subtracted")
def _(truth, first, second, draws):
    a = [_macro(truth[d], first[d]) for d in draws]
    b = [_macro(truth[d], second[d]) for d in draws]
    return np.quantile(b, [0.025, 0.975]) - np.quantile(a, [0.025, 0.975])


@wrong("f1_interval", "Takes the quantiles 0.05 and 0.95.", known="ninety")
def _(truth, first, second, draws):
    found = [_macro(truth[d], second[d]) - _macro(truth[d], first[d]) for d in draws]
    return np.quantile(found, [0.05, 0.95])


@wrong("f1_interval", "Compares accuracies.", known="of_accuracy")
def _(truth, first, second, draws):
    found = [np.mean(truth[d] == second[d]) - np.mean(truth[d] == first[d]) for d in draws]
    return np.quantile(found, [0.025, 0.975])


@wrong("f1_interval", "Mean plus and minus 1.96 standard deviations.", known="bell_curve")
def _(truth, first, second, draws):
    found = np.array([_macro(truth[d], second[d]) - _macro(truth[d], first[d]) for d in draws])
    return np.array([found.mean() - 1.96 * found.std(), found.mean() + 1.96 * found.std()])


@wrong(
    "f1_interval",
    "Uses the first resample for one system and a shifted one for the other.",
    known="each_alone",
)
def _(truth, first, second, draws):
    other = np.roll(draws, 1, axis=0)
    found = [
        _macro(truth[e], second[e]) - _macro(truth[d], first[d])
        for d, e in zip(draws, other, strict=True)
    ]
    return np.quantile(found, [0.025, 0.975])


@wrong("f1_interval", "Returns the smallest and the largest difference.")
def _(truth, first, second, draws):
    found = [_macro(truth[d], second[d]) - _macro(truth[d], first[d]) for d in draws]
    return np.array([min(found), max(found)])


# ---- springs -------------------------------------------------------------------------------------


@wrong("springs", "Squares the mean gradient.", known="square_of_mean")
def _(gradients, w, anchor, strength):
    fisher = np.mean(gradients, axis=0) ** 2
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength * fisher * moved


@wrong("springs", "Leaves out the half, and its derivative has the 2.", known="no_half")
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients), axis=0)
    moved = w - anchor
    return strength * np.sum(fisher * moved**2), 2 * strength * fisher * moved


@wrong("springs", "Keeps the half in the gradient.", known="half_gradient")
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients), axis=0)
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength / 2 * fisher * moved


@wrong("springs", "Sums over the tokens instead of taking their mean.", known="sum_of_squares")
def _(gradients, w, anchor, strength):
    fisher = np.sum(np.square(gradients), axis=0)
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength * fisher * moved


@wrong("springs", "Pulls to 0, not to the old weights.", known="to_zero")
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients), axis=0)
    return strength / 2 * np.sum(fisher * w**2), strength * fisher * w


@wrong(
    "springs",
    "All springs alike: the Fisher information averaged over the weights too.",
    known="equally_stiff",
)
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients))
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength * fisher * moved


@wrong("springs", "The gradient points from the weight to its old place.", known="sign_of_gradient")
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients), axis=0)
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength * fisher * (anchor - w)


@wrong("springs", "Takes the variance of the gradients.")
def _(gradients, w, anchor, strength):
    fisher = np.var(gradients, axis=0, ddof=1)
    moved = w - anchor
    return strength / 2 * np.sum(fisher * moved**2), strength * fisher * moved


@wrong("springs", "Averages the squared distance over the weights.")
def _(gradients, w, anchor, strength):
    fisher = np.mean(np.square(gradients), axis=0)
    moved = w - anchor
    return strength / 2 * np.mean(fisher * moved**2), strength * fisher * moved / len(w)


# ---- share_seen ----------------------------------------------------------------------------------


def _split(text):
    return re.findall(r"\w+", text.lower())


def _windows(some, n):
    return [" ".join(some[i : i + n]) for i in range(len(some) - n + 1)]


@wrong(
    "share_seen", "The share of the runs that were seen, not of the words.", known="share_of_runs"
)
def _(test, training, n):
    runs = _windows(_split(test), n)
    seen = set().union(*(_windows(_split(t), n) for t in training))
    return sum(run in seen for run in runs) / len(runs) if runs else 0.0


@wrong("share_seen", "Case and punctuation count: splits at spaces.", known="split_at_spaces")
def _(test, training, n):
    own = test.split()
    seen = set().union(*(_windows(t.split(), n) for t in training))
    ticked = np.zeros(len(own))
    for i, run in enumerate(_windows(own, n)):
        if run in seen:
            ticked[i : i + n] = 1
    return ticked.mean()


@wrong(
    "share_seen",
    "Looks for each run as a string within the training text, joined.",
    known="joined_texts",
)
def _(test, training, n):
    own, text = _split(test), " ".join(word for t in training for word in _split(t))
    ticked = np.zeros(len(own))
    for i, run in enumerate(_windows(own, n)):
        if run in text:
            ticked[i : i + n] = 1
    return ticked.mean()


@wrong("share_seen", "Divides by the number of different words.")
def _(test, training, n):
    own = _split(test)
    seen = set().union(*(_windows(_split(t), n) for t in training))
    ticked = set()
    for i, run in enumerate(_windows(own, n)):
        if run in seen:
            ticked |= set(own[i : i + n])
    return len(ticked) / len(set(own))


@wrong("share_seen", "Counts how much of the training text stands in the test.")
def _(test, training, n):
    own, hits, total = set(_windows(_split(test), n)), 0, 0
    for text in training:
        some = _split(text)
        ticked = np.zeros(len(some))
        for i, run in enumerate(_windows(some, n)):
            if run in own:
                ticked[i : i + n] = 1
        hits, total = hits + ticked.sum(), total + len(some)
    return hits / total


@wrong("share_seen", "The order does not count: compares sets of words.", known="order_ignored")
def _(test, training, n):
    own = _split(test)
    seen = {frozenset(run.split()) for t in training for run in _windows(_split(t), n)}
    ticked = np.zeros(len(own))
    for i, run in enumerate(_windows(own, n)):
        if frozenset(run.split()) in seen:
            ticked[i : i + n] = 1
    return ticked.mean()
