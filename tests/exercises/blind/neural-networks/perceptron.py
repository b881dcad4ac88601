"""Blind set of neural-networks/perceptron: wrong answers written from statement and stub alone."""

from __future__ import annotations

from itertools import product

import numpy as np

from chainrule.course.exercises import wrong

# ---- at_least --------------------------------------------------------------------------------


@wrong("at_least", "A veto of −1 takes back one input only.", known="a_veto_counts_one")
def _(k, n, vetoes):
    return np.concatenate([np.ones(n), -np.ones(vetoes)]), -k


@wrong("at_least", "The bias is +k.", known="bias_upside_down")
def _(k, n, vetoes):
    return np.concatenate([np.ones(n), -n * np.ones(vetoes)]), k


@wrong("at_least", "The bias −k − ½ asks for more than k inputs.", known="one_too_many")
def _(k, n, vetoes):
    return np.concatenate([np.ones(n), -(n + 1) * np.ones(vetoes)]), -k - 0.5


@wrong("at_least", "The veto is −k, which n inputs outvote.", known="a_veto_counts_one")
def _(k, n, vetoes):
    return np.concatenate([np.ones(n), -k * np.ones(vetoes)]), -k


@wrong("at_least", "The vetoes stand before the counted inputs.", known="vetoes_first")
def _(k, n, vetoes):
    return np.concatenate([-(n + 1) * np.ones(vetoes), np.ones(n)]), -k


# ---- nearest_on_boundary ---------------------------------------------------------------------


@wrong(
    "nearest_on_boundary",
    "Divides the score by the length once and forgets the unit step.",
    known="divides_once",
)
def _(X, w, b):
    return X - ((X @ w + b) / np.linalg.norm(w))[:, None] * w


@wrong("nearest_on_boundary", "Walks away from the boundary.", known="walks_away")
def _(X, w, b):
    return X + ((X @ w + b) / (w @ w))[:, None] * w


@wrong("nearest_on_boundary", "Leaves out the bias.", known="forgets_the_bias")
def _(X, w, b):
    return X - (X @ w / (w @ w))[:, None] * w


@wrong(
    "nearest_on_boundary",
    "Takes the score itself as the number of steps along w.",
    known="walks_score_times_w",
)
def _(X, w, b):
    return X - (X @ w + b)[:, None] * w


@wrong(
    "nearest_on_boundary",
    "Walks along the weights on both sides: the distance without sign.",
    known="walks_without_a_sign",
)
def _(X, w, b):
    return X - (np.abs(X @ w + b) / (w @ w))[:, None] * w


# ---- on_raw_inputs ---------------------------------------------------------------------------


@wrong("on_raw_inputs", "Leaves the bias as it was.", known="keeps_the_bias")
def _(w, b, mean, scale):
    return w / scale, b


@wrong("on_raw_inputs", "Multiplies the weights by the scale.", known="multiplies_by_the_scale")
def _(w, b, mean, scale):
    return w * scale, b - w @ (mean * scale)


@wrong("on_raw_inputs", "Takes the old weights for the shift.", known="shifts_by_the_old_weights")
def _(w, b, mean, scale):
    return w / scale, b - w @ mean


@wrong("on_raw_inputs", "Adds what the mean contributes.", known="adds_the_mean")
def _(w, b, mean, scale):
    return w / scale, b + (w / scale) @ mean


@wrong("on_raw_inputs", "Divides by the scale twice in the bias.", known="divides_the_mean_too")
def _(w, b, mean, scale):
    return w / scale, b - (w / scale) @ (mean / scale)


# ---- train_classes ---------------------------------------------------------------------------


def _classes(X, labels, n_classes, max_epochs, push, start=0.0, epochs_all=False):
    W, b, count = np.full((n_classes, X.shape[1]), start), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before = count
        for x, label in zip(X, labels, strict=True):
            winner = int(np.argmax(W @ x + b))
            if winner != label:
                push(W, b, x, label, winner)
                count += 1
        if count == before:
            break
    return W, b, count


@wrong(
    "train_classes",
    "Raises the right class and leaves the winner alone.",
    known="the_winner_keeps_its_weights",
)
def _(X, labels, n_classes, max_epochs=100):
    def push(W, b, x, label, winner):
        W[label] += x
        b[label] += 1

    return _classes(X, labels, n_classes, max_epochs, push)


@wrong("train_classes", "Lowers every class but the right one.", known="lowers_all_others")
def _(X, labels, n_classes, max_epochs=100):
    def push(W, b, x, label, winner):
        W -= x
        b -= 1
        W[label] += 2 * x
        b[label] += 2

    return _classes(X, labels, n_classes, max_epochs, push)


@wrong("train_classes", "Forgets the biases.", known="biases_never_learn")
def _(X, labels, n_classes, max_epochs=100):
    def push(W, b, x, label, winner):
        W[label] += x
        W[winner] -= x

    return _classes(X, labels, n_classes, max_epochs, push)


@wrong("train_classes", "Counts two corrections for each mistake.", known="counts_each_class")
def _(X, labels, n_classes, max_epochs=100):
    W, b, count = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        mistakes = 0
        for x, label in zip(X, labels, strict=True):
            winner = int(np.argmax(W @ x + b))
            if winner != label:
                W[label] += x
                W[winner] -= x
                b[label] += 1
                b[winner] -= 1
                mistakes += 2
        count += mistakes
        if mistakes == 0:
            break
    return W, b, count


@wrong(
    "train_classes", "Exchanges the two classes: the winner is raised.", known="raises_the_winner"
)
def _(X, labels, n_classes, max_epochs=100):
    def push(W, b, x, label, winner):
        W[winner] += x
        W[label] -= x
        b[winner] += 1
        b[label] -= 1

    return _classes(X, labels, n_classes, max_epochs, push)


# ---- threshold_functions ---------------------------------------------------------------------


def _labellings(n_inputs, biases, rows=(0, 1), weights=(-2, -1, 0, 1, 2)):
    X = np.array(list(product(rows, repeat=n_inputs)))
    return [
        tuple(X @ np.array(w) + b > 0) for w in product(weights, repeat=n_inputs) for b in biases
    ]


@wrong(
    "threshold_functions",
    "Counts every choice of weights and bias, not every labelling.",
    known="counts_neurons",
)
def _(n_inputs):
    return len(_labellings(n_inputs, np.arange(-6.5, 7)))


@wrong("threshold_functions", "Counts all labellings of the rows.", known="counts_all_functions")
def _(n_inputs):
    return 2 ** (2**n_inputs)


@wrong(
    "threshold_functions",
    "Has no bias: the score at the zero row is always 0.",
    known="half_a_bias",
)
def _(n_inputs):
    return len(set(_labellings(n_inputs, [0.0])))


@wrong(
    "threshold_functions",
    "Cover's formula, though the rows are not in general position.",
    known="counts_as_if_in_general_position",
)
def _(n_inputs):
    from math import comb

    return 2 * sum(comb(2**n_inputs - 1, k) for k in range(n_inputs + 1))


@wrong(
    "threshold_functions", "Stops the weights before 2, as range does.", known="stops_before_two"
)
def _(n_inputs):
    return len(set(_labellings(n_inputs, np.arange(-6.5, 7), weights=range(-2, 2))))


# ---- corrections_and_bound -------------------------------------------------------------------


def _corrections(X, y, strict=False):
    w, count = np.zeros(X.shape[1]), 0
    for _ in range(10_000):
        before = count
        for x, label in zip(X, y, strict=True):
            s = label * (w @ x)
            if s < 0 or (s == 0 and not strict):
                w = w + label * x
                count += 1
        if count == before:
            break
    return count


@wrong(
    "corrections_and_bound", "Does not divide by the length of u.", known="margin_of_long_weights"
)
def _(X, y, u):
    return _corrections(X, y), (np.linalg.norm(X, axis=1).max() / (y * (X @ u)).min()) ** 2


@wrong("corrections_and_bound", "Forgets the square.", known="forgets_the_square")
def _(X, y, u):
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return _corrections(X, y), np.linalg.norm(X, axis=1).max() / gamma


@wrong(
    "corrections_and_bound",
    "Takes the length of the whole matrix for R.",
    known="length_of_the_matrix",
)
def _(X, y, u):
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return _corrections(X, y), (np.linalg.norm(X) / gamma) ** 2


@wrong(
    "corrections_and_bound",
    "A score of 0 is no mistake, so nothing is learned from zero.",
    known="zero_is_right",
)
def _(X, y, u):
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return _corrections(X, y, strict=True), (np.linalg.norm(X, axis=1).max() / gamma) ** 2


@wrong(
    "corrections_and_bound",
    "Takes the largest margin of an example, not the smallest.",
    known="widest_margin",
)
def _(X, y, u):
    gamma = (y * (X @ u)).max() / np.linalg.norm(u)
    return _corrections(X, y), (np.linalg.norm(X, axis=1).max() / gamma) ** 2


# ---- kernel_predict --------------------------------------------------------------------------


def _counts(K, y, max_epochs):
    c = np.zeros(len(y))
    for _ in range(max_epochs):
        before = c.sum()
        for j in range(len(y)):
            if y[j] * ((c * y) @ K[j]) <= 0:
                c[j] += 1
        if c.sum() == before:
            break
    return c


@wrong("kernel_predict", "The plain dot product: no kernel.", known="linear_kernel")
def _(X, y, X_new, max_epochs=100):
    c = _counts(X @ X.T, y, max_epochs)
    return np.where(X_new @ X.T @ (c * y) >= 0, 1, -1)


@wrong("kernel_predict", "Forgets the labels in the score.")
def _(X, y, X_new, max_epochs=100):
    c = _counts((1 + X @ X.T) ** 2, y, max_epochs)
    return np.where((1 + X_new @ X.T) ** 2 @ c >= 0, 1, -1)


@wrong("kernel_predict", "The kernel without the 1.", known="kernel_without_the_one")
def _(X, y, X_new, max_epochs=100):
    c = _counts((X @ X.T) ** 2, y, max_epochs)
    return np.where((X_new @ X.T) ** 2 @ (c * y) >= 0, 1, -1)


@wrong("kernel_predict", "A score of 0 becomes the label 0.", known="a_label_of_zero")
def _(X, y, X_new, max_epochs=100):
    c = _counts((1 + X @ X.T) ** 2, y, max_epochs)
    return np.sign((1 + X_new @ X.T) ** 2 @ (c * y))


@wrong("kernel_predict", "A single pass over the examples.", known="a_single_pass")
def _(X, y, X_new, max_epochs=100):
    c = _counts((1 + X @ X.T) ** 2, y, 1)
    return np.where((1 + X_new @ X.T) ** 2 @ (c * y) >= 0, 1, -1)


# ---- averaged_weights ------------------------------------------------------------------------


def _mean(X, y, epochs, record):
    w, seen = np.zeros(X.shape[1]), []
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            before, wrong_ = w, label * (w @ x) <= 0
            if wrong_:
                w = w + label * x
            seen += record(before, w, wrong_)
    return w, seen


@wrong("averaged_weights", "Averages over corrections only.", known="averages_over_corrections")
def _(X, y, epochs):
    return np.mean(_mean(X, y, epochs, lambda a, w, hit: [w] if hit else [])[1], axis=0)


@wrong("averaged_weights", "Returns the last weights.", known="returns_the_last")
def _(X, y, epochs):
    return _mean(X, y, epochs, lambda a, w, hit: [])[0]


@wrong(
    "averaged_weights", "Takes the weights before each visit.", known="averages_before_the_visit"
)
def _(X, y, epochs):
    return np.mean(_mean(X, y, epochs, lambda a, w, hit: [a])[1], axis=0)


@wrong(
    "averaged_weights", "Divides the sum by the number of epochs.", known="divides_by_the_epochs"
)
def _(X, y, epochs):
    return np.sum(_mean(X, y, epochs, lambda a, w, hit: [w])[1], axis=0) / epochs


@wrong(
    "averaged_weights",
    "Counts a score of 0 as right, so the weights stay zero.",
)
def _(X, y, epochs):
    w, total = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) < 0:
                w = w + label * x
            total += w
    return total / (epochs * len(X))
