"""Exercises of neural-networks/perceptron.md."""

from __future__ import annotations

from itertools import product

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND = np.array([-1, -1, -1, 1])
XOR = np.array([-1, 1, 1, -1])


def _separable(rng, n, d, margin=0.05):
    """Examples (without a bias column), labels and unit weights with at least this margin."""
    normal = rng.normal(size=d)
    normal /= np.linalg.norm(normal)
    X = rng.normal(size=(30 * n, d))
    scores = X @ normal
    keep = np.flatnonzero(np.abs(scores) > margin)[:n]
    return X[keep], np.sign(scores[keep]), normal


# --- 1 -------------------------------------------------------------------------------------


@exercise(
    "At least k, and no veto",
    difficulty=1,
    minutes=15,
    section="the-single-neuron-model",
    because="the package learns its weights; here they are chosen",
    idea=(
        "Count the inputs that are on with weights of 1, and let the bias say how many are needed. "
        "An input with a veto must outweigh all the others together."
    ),
)
def at_least(k, n, vetoes):
    """Return (weights, bias) of a neuron that counts, and that some inputs can silence.

    The first n inputs are counted, the last ``vetoes`` inputs forbid; each is 0 or 1. The score
    w·x + b must be at least 0 exactly if at least k of the first n inputs are on (1 ≤ k ≤ n) and
    none of the last is. The weights have shape (n + vetoes,), the bias is a number.
    """
    return np.concatenate([np.ones(n), np.full(vetoes, -float(n))]), -float(k)


def _answers(answer, k, n, vetoes):
    rows = np.array(list(product((0.0, 1.0), repeat=n + vetoes)))
    w, b = answer(k, n, vetoes)
    expect_shape(w, (n + vetoes,), what="the weights")
    wanted = (rows[:, :n].sum(axis=1) >= k) & (rows[:, n:].sum(axis=1) == 0)
    wrong = np.flatnonzero((rows @ w + b >= 0) != wanted)
    if wrong.size:
        expect(
            False,
            f"k = {k}, n = {n}, {vetoes} with a veto: {wrong.size} of {len(rows)} inputs are "
            f"answered wrongly, the first is {rows[wrong[0]].astype(int).tolist()}",
        )


@at_least.check
def counts_without_a_veto(answer, rng):
    for k in (1, 2, 3):
        _answers(answer, k, 3, 0)


@at_least.check
def one_veto(answer, rng):
    for k in (1, 3, 4):
        _answers(answer, k, 4, 1)


@at_least.check
def two_vetoes(answer, rng):
    for k in (1, 5):
        _answers(answer, k, 5, 2)


@at_least.mistake(
    "Your neuron wants one input more than it should: a score of exactly 0 already counts as yes."
)
def one_too_many(k, n, vetoes):
    w, b = at_least(k, n, vetoes)
    return w, b - 1


@at_least.mistake("With all counted inputs on, your veto is outvoted. Which weight undoes n ones?")
def a_veto_counts_one(k, n, vetoes):
    return np.concatenate([np.ones(n), -np.ones(vetoes)]), -float(k)


@at_least.mistake(
    "Your neuron says yes even when nothing is on. Does a larger bias make it readier to?"
)
def bias_upside_down(k, n, vetoes):
    w, b = at_least(k, n, vetoes)
    return w, -b


@at_least.mistake("Your last inputs are counted like the others. What should they do to the score?")
def vetoes_are_counted(k, n, vetoes):
    return np.ones(n + vetoes), -float(k)


@at_least.mistake("The counted inputs come first in the row, the vetoes last.")
def vetoes_first(k, n, vetoes):
    return np.concatenate([np.full(vetoes, -float(n)), np.ones(n)]), -float(k)


# --- 2 -------------------------------------------------------------------------------------


@exercise(
    "The nearest point of the boundary",
    difficulty=2,
    minutes=15,
    section="linear-classifiers-and-decision-boundaries",
    because="the package returns the distance to the boundary, not the point",
    idea=(
        "Walk against w if the score is positive, along it if it is negative, and exactly as far "
        "as the signed distance says. The direction of the walk has length 1."
    ),
)
def nearest_on_boundary(X, w, b):
    """Return, for each row of X, the point of the boundary w·x + b = 0 that is nearest to it.

    X has shape (n, d), w has shape (d,) and is not zero, b is a number; the result has shape
    (n, d).
    """
    return X - ((X @ w + b) / (w @ w))[:, None] * w


@nearest_on_boundary.check
def by_hand(answer, rng):
    X, w = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.5]]), np.array([3.0, 4.0])
    expected = np.array([[0.6, 0.8], [0.6, 0.8], [1.0, 0.5]])
    expect_close(answer(X, w, -5.0), expected, what="the nearest points")


@nearest_on_boundary.check
def the_score_there_is_zero(answer, rng):
    X, w = rng.normal(size=(5, 3)), rng.normal(size=3)
    scores = answer(X, w, -1.1) @ w - 1.1
    expect_close(scores, np.zeros(5), atol=1e-9, what="the scores of the points returned")


@nearest_on_boundary.check
def no_boundary_point_is_nearer(answer, rng):
    X, w = rng.normal(size=(5, 3)), rng.normal(size=3)
    found = np.linalg.norm(X - answer(X, w, 0.4), axis=1)
    expected = np.abs(X @ w + 0.4) / np.linalg.norm(w)
    expect_close(found, expected, what="the way from each point to its nearest one")


@nearest_on_boundary.mistake(
    "You walk score times w, and land far behind the boundary. How far is a point, and how long is "
    "a step along w?"
)
def walks_score_times_w(X, w, b):
    return X - (X @ w + b)[:, None] * w


@nearest_on_boundary.mistake(
    "One division by the length of w is missing: the score grows by more than 1 a unit, and "
    "w is not of length 1 either."
)
def divides_once(X, w, b):
    return X - ((X @ w + b) / np.linalg.norm(w))[:, None] * w


@nearest_on_boundary.mistake(
    "You walk away from the boundary. Which way is it for a point with a positive score?"
)
def walks_away(X, w, b):
    return X + ((X @ w + b) / (w @ w))[:, None] * w


@nearest_on_boundary.mistake(
    "You arrive on a line through the origin. What moves the boundary away from there?"
)
def forgets_the_bias(X, w, b):
    return X - (X @ w / (w @ w))[:, None] * w


@nearest_on_boundary.mistake("That is the way to walk. Where do you arrive?")
def returns_the_step(X, w, b):
    return -((X @ w + b) / (w @ w))[:, None] * w


@nearest_on_boundary.mistake(
    "Points behind the boundary walk the wrong way. Is the distance you divide into steps signed?"
)
def walks_without_a_sign(X, w, b):
    return X - (np.abs(X @ w + b) / (w @ w))[:, None] * w


# --- 3 -------------------------------------------------------------------------------------


@exercise(
    "Back to the raw inputs",
    difficulty=2,
    minutes=15,
    section="weights-bias-activation",
    because="the package's neurons leave the scaling of inputs to you",
    idea=(
        "Write the score w·(x − mean)/scale + b, and collect what multiplies x and what does not."
    ),
)
def on_raw_inputs(w, b, mean, scale):
    """Return (weights, bias) that give the raw inputs the scores of the standardized ones.

    A neuron with the weights w (d,) and the bias b was trained on (x − mean) / scale, entry by
    entry, with mean and scale of shape (d,). The new neuron reads x itself and gives every x the
    same score as the old one gives (x − mean) / scale.
    """
    weights = w / scale
    return weights, b - weights @ mean


@on_raw_inputs.check
def one_input_by_hand(answer, rng):
    received = answer(np.array([2.0]), 1.0, np.array([10.0]), np.array([5.0]))
    expect_close(received, (np.array([0.4]), -3.0), what="(weights, bias) for 2·(x − 10)/5 + 1")


@on_raw_inputs.check
def scores_stay(answer, rng):
    w, mean, scale = rng.normal(size=3), rng.normal(size=3), rng.uniform(2, 9, size=3)
    X = rng.normal(size=(7, 3))
    weights, bias = answer(w, 0.7, mean, scale)
    expect_close(X @ weights + bias, (X - mean) / scale @ w + 0.7, what="the scores of 7 inputs")


@on_raw_inputs.mistake(
    "Inputs whose numbers are scale times as large need weights that are how large?"
)
def multiplies_by_the_scale(w, b, mean, scale):
    return w * scale, b - (w * scale) @ mean


@on_raw_inputs.mistake(
    "Your bias is the old one. Which score does the old neuron give to x = mean, and which the new?"
)
def keeps_the_bias(w, b, mean, scale):
    return w / scale, b


@on_raw_inputs.mistake(
    "The mean was subtracted before the division by the scale. Which weights multiply it now?"
)
def shifts_by_the_old_weights(w, b, mean, scale):
    return w / scale, b - w @ mean


@on_raw_inputs.mistake("The mean is subtracted from x. With which sign does it reach the bias?")
def adds_the_mean(w, b, mean, scale):
    return w / scale, b + (w / scale) @ mean


@on_raw_inputs.mistake(
    "The new weights are already divided by the scale. Does the mean need it once more?"
)
def divides_the_mean_too(w, b, mean, scale):
    return w / scale, b - (w / scale) @ (mean / scale)


# --- 4 -------------------------------------------------------------------------------------


@exercise(
    "One rule for many classes",
    difficulty=3,
    minutes=25,
    section="learning-rule-gradient-descent-preview",
    because="the package's Perceptron knows two classes",
    idea=(
        "At a mistake two classes are involved: the right one, whose score should rise, and the "
        "one that won, whose score should fall. Both by the example."
    ),
)
def train_classes(X, labels, n_classes, max_epochs=100):
    """Train a perceptron with several classes; return (W, b, number of corrections).

    Each class has its own weights, a row of W (n_classes, d), and its own bias, an entry of b
    (n_classes,), all zero at the start. Visit the rows of X in order, again and again. If the
    class with the largest score (the first of several, as np.argmax has it) is not the label,
    correct: add the example to the weights of the label's class and subtract it from those of the
    winner, and 1 to and from their biases. That is one correction. Stop after an epoch without a
    mistake, or after max_epochs. Labels count from 0.
    """
    W, b, corrections = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, labels, strict=True):
            winner = np.argmax(W @ x + b)
            if winner != label:
                W[label], b[label] = W[label] + x, b[label] + 1
                W[winner], b[winner] = W[winner] - x, b[winner] - 1
                corrections += 1
        if corrections == before:
            break
    return W, b, corrections


def _sectors(rng, n, n_classes):
    """Points of the plane, labelled by the sector in which they lie, none near a border."""
    labels = rng.integers(0, n_classes, n)
    angle = 2 * np.pi * (labels + rng.uniform(0.2, 0.8, n)) / n_classes
    return rng.uniform(1, 2, n)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), labels


@train_classes.check
def a_single_example(answer, rng):
    expected = (np.array([[-2.0, 1.0], [2.0, -1.0]]), np.array([-1.0, 1.0]), 1)
    received = answer(np.array([[2.0, -1.0]]), np.array([1]), 2)
    expect_close(received, expected, what="after one example of class 1, where class 0 won,")


@train_classes.check
def three_classes_by_hand(answer, rng):
    X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    W, b, n = answer(X, np.array([0, 1, 2]), 3, 1)
    expected = np.array([[0.0, -1.0], [-1.0, 0.0], [1.0, 1.0]]), np.array([-1.0, 0.0, 1.0]), 2
    expect_close((W, b, n), expected, what="(W, b, corrections) after one epoch")


@train_classes.check
def learns_four_sectors(answer, rng):
    X, labels = _sectors(rng, 60, 4)
    W, b, _ = answer(X, labels, 4, 500)
    wrong = int(((X @ W.T + b).argmax(axis=1) != labels).sum())
    expect(wrong == 0, f"after training, {wrong} of 60 points in four sectors are wrong")


@train_classes.check
def xor_never_ends(answer, rng):
    _, _, corrections = answer(SQUARE, np.array([0, 1, 1, 0]), 2, 7)
    expect_equal(corrections, 25, what="the number of corrections for XOR in 7 epochs")


@train_classes.mistake("Only the right class learns. What should become of the score that won?")
def the_winner_keeps_its_weights(X, labels, n_classes, max_epochs=100):
    W, b, corrections = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, labels, strict=True):
            if np.argmax(W @ x + b) != label:
                W[label], b[label] = W[label] + x, b[label] + 1
                corrections += 1
        if corrections == before:
            break
    return W, b, corrections


@train_classes.mistake(
    "Every other class is pushed down, also those that lost anyway. Which one was in the way?"
)
def lowers_all_others(X, labels, n_classes, max_epochs=100):
    W, b, corrections = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, labels, strict=True):
            if np.argmax(W @ x + b) != label:
                sign = np.where(np.arange(n_classes) == label, 1.0, -1.0)
                W, b, corrections = W + sign[:, None] * x, b + sign, corrections + 1
        if corrections == before:
            break
    return W, b, corrections


@train_classes.mistake("Your biases stay at zero. Which input is always 1?")
def biases_never_learn(X, labels, n_classes, max_epochs=100):
    W, corrections = np.zeros((n_classes, X.shape[1])), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, labels, strict=True):
            winner = np.argmax(W @ x)
            if winner != label:
                W[label], W[winner] = W[label] + x, W[winner] - x
                corrections += 1
        if corrections == before:
            break
    return W, np.zeros(n_classes), corrections


@train_classes.mistake(
    "Within an epoch your scores do not react to corrections made a moment ago. When do you "
    "compute them?"
)
def scores_once_per_epoch(X, labels, n_classes, max_epochs=100):
    W, b, corrections = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before, winners = corrections, (X @ W.T + b).argmax(axis=1)
        for x, label, winner in zip(X, labels, winners, strict=True):
            if winner != label:
                W[label], b[label] = W[label] + x, b[label] + 1
                W[winner], b[winner] = W[winner] - x, b[winner] - 1
                corrections += 1
        if corrections == before:
            break
    return W, b, corrections


@train_classes.mistake("A correction changes two classes. How many corrections is that?")
def counts_each_class(X, labels, n_classes, max_epochs=100):
    W, b, corrections = train_classes(X, labels, n_classes, max_epochs)
    return W, b, 2 * corrections


@train_classes.mistake(
    "The class that won wrongly is pushed up by you. Which of the two should be?"
)
def raises_the_winner(X, labels, n_classes, max_epochs=100):
    W, b, corrections = np.zeros((n_classes, X.shape[1])), np.zeros(n_classes), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, labels, strict=True):
            winner = np.argmax(W @ x + b)
            if winner != label:
                W[label], b[label] = W[label] - x, b[label] - 1
                W[winner], b[winner] = W[winner] + x, b[winner] + 1
                corrections += 1
        if corrections == before:
            break
    return W, b, corrections


# --- 5 -------------------------------------------------------------------------------------


@exercise(
    "Fourteen of sixteen",
    difficulty=3,
    minutes=25,
    section="how-many-labellings-can-a-neuron-produce",
    because="is_linearly_separable decides on one labelling at a time",
    idea=(
        "Compute the labelling of all rows for every choice of weights and bias, and count the "
        "different ones: a set forgets repetitions."
    ),
)
def threshold_functions(n_inputs):
    """Return how many Boolean functions of n_inputs bits (1, 2 or 3) one neuron can compute.

    The inputs are all 2ⁿ rows of zeros and ones; a function is a labelling of the rows, given by
    the signs of w·x + b, none of which is 0. It is enough to try weights from −2 to 2 and biases
    from −6.5 to 6.5 in steps of 1; count different labellings.
    """
    rows = np.array(list(product((0, 1), repeat=n_inputs)))
    weights = np.array(list(product(range(-2, 3), repeat=n_inputs)))
    found = set()
    for b in np.arange(-6.5, 7):
        for signs in (rows @ weights.T + b > 0).T:
            found.add(tuple(signs.tolist()))
    return len(found)


@threshold_functions.check
def one_bit_and_two_bits(answer, rng):
    counts = (answer(1), answer(2))
    expect_equal(counts, (4, 14), what="the number of functions of one bit and of two bits")


@threshold_functions.check
def three_bits(answer, rng):
    expect_equal(answer(3), 104, what="the number of functions of three bits")


@threshold_functions.mistake(
    "Did you leave out the bias? A threshold may lie anywhere, and all-negative is a function too."
)
def half_a_bias(n_inputs):
    rows = np.array(list(product((0, 1), repeat=n_inputs)))
    weights = np.array(list(product(range(-2, 3), repeat=n_inputs)))
    return len({tuple(s.tolist()) for s in (rows @ weights.T - 0.5 > 0).T})


@threshold_functions.mistake(
    "You count only functions that rise when a bit is switched on. May a weight be negative?"
)
def positive_weights_only(n_inputs):
    rows = np.array(list(product((0, 1), repeat=n_inputs)))
    weights = np.array(list(product(range(3), repeat=n_inputs)))
    return len(
        {tuple(s.tolist()) for b in np.arange(-6.5, 7) for s in (rows @ weights.T + b > 0).T}
    )


@threshold_functions.mistake(
    "You count neurons. Two neurons with different weights may compute the same function."
)
def counts_neurons(n_inputs):
    return 5**n_inputs * 14


@threshold_functions.mistake(
    "Two functions are missing: which labellings need no boundary among the points?"
)
def forgets_the_constants(n_inputs):
    return {1: 4, 2: 14, 3: 104}[n_inputs] - 2


@threshold_functions.mistake(
    "These are all functions of the bits. One neuron cannot compute XOR, for one."
)
def counts_all_functions(n_inputs):
    return 2 ** (2**n_inputs)


@threshold_functions.mistake(
    "That formula is for points in general position. Are four corners of a face of the cube, with "
    "a 1 appended, independent?"
)
def counts_as_if_in_general_position(n_inputs):
    return {1: 4, 2: 14, 3: 128}[n_inputs]


@threshold_functions.mistake(
    "Some functions of three bits need a weight of 2. Does range include its end?"
)
def stops_before_two(n_inputs):
    rows = np.array(list(product((0, 1), repeat=n_inputs)))
    weights = np.array(list(product(range(-2, 2), repeat=n_inputs)))
    return len(
        {tuple(s.tolist()) for b in np.arange(-6.5, 7) for s in (rows @ weights.T + b > 0).T}
    )


# --- 6 -------------------------------------------------------------------------------------


@exercise(
    "Corrections against the bound",
    difficulty=3,
    minutes=25,
    section="why-it-stops",
    counterpart="chainrule.neural_networks.perceptron:novikoff_bound",
    idea=(
        "Count corrections as the perceptron without bias makes them. The bound compares the "
        "longest example with the smallest margin along a unit vector."
    ),
)
def corrections_and_bound(X, y, u):
    """Return (number of corrections, Novikoff's bound) for a perceptron without bias.

    Train from zero through the rows of X (n, d) in order until an epoch has no mistake; a score of
    0 is a mistake. The weights u (d,), of any length, separate the data and give the bound.
    """
    w, corrections, mistakes = np.zeros(X.shape[1]), 0, 1
    while mistakes:
        mistakes = 0
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
                mistakes += 1
        corrections += mistakes
    radius = np.linalg.norm(X, axis=1).max()
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return corrections, (radius / gamma) ** 2


@corrections_and_bound.by_package
def _(package, X, y, u):
    return corrections_and_bound(X, y, u)[0], np.float64(package(X, y, u))


@corrections_and_bound.check
def and_takes_18_of_51(answer, rng):
    X = np.column_stack([SQUARE, np.ones(4)])
    expect_close(
        answer(X, AND, np.array([2.0, 2.0, -3.0])), (18, 51.0), what="(corrections, bound) for AND"
    )


@corrections_and_bound.check
def one_example_needs_one(answer, rng):
    expect_close(
        answer(np.array([[3.0, 4.0]]), np.array([1]), np.array([3.0, 4.0])),
        (1, 1.0),
        what="(corrections, bound) for one example and u along it",
    )


@corrections_and_bound.check
def holds_on_200_random_sets(answer, rng):
    for _ in range(200):
        X, y, u = _separable(rng, n=12, d=3, margin=0.1)
        corrections, bound = answer(X, y, u)
        expect(
            corrections <= bound, f"{corrections} corrections are more than the bound {bound:.1f}"
        )


@corrections_and_bound.check
def the_length_of_u_does_not_matter(answer, rng):
    X, y, u = _separable(rng, n=12, d=3)
    expect_close(answer(X, y, 5 * u)[1], answer(X, y, u)[1], what="the bound for 5u")


@corrections_and_bound.mistake(
    "Your bound depends on how long u is. What did the proof assume about its length?"
)
def margin_of_long_weights(X, y, u):
    corrections, _ = corrections_and_bound(X, y, u)
    radius = np.linalg.norm(X, axis=1).max()
    return corrections, (radius / (y * (X @ u)).min()) ** 2


@corrections_and_bound.mistake(
    "k·γ is at most √k·R. Solve that for k once more: a power is missing."
)
def forgets_the_square(X, y, u):
    corrections, right = corrections_and_bound(X, y, u)
    return corrections, np.sqrt(right)


@corrections_and_bound.mistake(
    "R must be at least the length of every example. You took the largest entry."
)
def largest_entry_as_radius(X, y, u):
    corrections, _ = corrections_and_bound(X, y, u)
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return corrections, (np.abs(X).max() / gamma) ** 2


@corrections_and_bound.mistake(
    "R is the length of one example, the longest. You took the length of the whole matrix."
)
def length_of_the_matrix(X, y, u):
    corrections, _ = corrections_and_bound(X, y, u)
    gamma = (y * (X @ u)).min() / np.linalg.norm(u)
    return corrections, (np.linalg.norm(X) / gamma) ** 2


@corrections_and_bound.mistake(
    "Zero weights give every example the score 0. If that is right, what is ever learned?"
)
def zero_is_right(X, y, u):
    return 0, corrections_and_bound(X, y, u)[1]


@corrections_and_bound.mistake(
    "The proof needs a margin that every example has. You took the widest, not the narrowest."
)
def widest_margin(X, y, u):
    corrections, _ = corrections_and_bound(X, y, u)
    gamma = (y * (X @ u)).max() / np.linalg.norm(u)
    return corrections, (np.linalg.norm(X, axis=1).max() / gamma) ** 2


# --- 7 -------------------------------------------------------------------------------------


@exercise(
    "XOR through a kernel",
    difficulty=3,
    minutes=30,
    section="the-kernel-perceptron",
    counterpart="chainrule.neural_networks.perceptron:kernel_perceptron",
    idea=(
        "The weights are a sum of examples, each as often as it was corrected and with its "
        "label. A score is then a sum of kernel values, and the weights are never written down."
    ),
)
def kernel_predict(X, y, X_new, max_epochs=100):
    """Train a kernel perceptron with K(x, x′) = (1 + x·x′)² and return the labels of X_new.

    X has shape (n, d), y holds −1 and +1, X_new has shape (m, d); the result has shape (m,). Visit
    the examples in order, count the corrections of each, and never form the features. A score of
    0 is a mistake in training, and +1 in prediction.
    """
    K = (1 + X @ X.T) ** 2
    counts = np.zeros(len(X))
    for _ in range(max_epochs):
        mistakes = 0
        for j, label in enumerate(y):
            if label * ((counts * y) @ K[j]) <= 0:
                counts[j] += 1
                mistakes += 1
        if mistakes == 0:
            break
    return np.where((1 + X_new @ X.T) ** 2 @ (counts * y) >= 0, 1, -1)


@kernel_predict.by_package
def _(package, X, y, X_new, max_epochs=100):
    counts = package((1 + X @ X.T) ** 2, y, max_epochs)
    return np.where((1 + X_new @ X.T) ** 2 @ (counts * y) >= 0, 1, -1)


@kernel_predict.check
def one_example(answer, rng):
    X, y = np.array([[1.0, 0.0]]), np.array([-1])
    X_new = np.array([[1.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]])
    expect_equal(
        answer(X, y, X_new),
        np.array([-1, -1, 1]),
        what="the labels that one negative example gives, to (−1, 0) by a score of 0,",
    )


@kernel_predict.check
def solves_xor(answer, rng):
    expect_equal(answer(SQUARE, XOR, SQUARE), XOR, what="the labels of the four corners")


@kernel_predict.check
def finds_a_circle(answer, rng):
    X = rng.uniform(-2, 2, size=(400, 2))
    distance = (X**2).sum(axis=1)
    X, distance = X[np.abs(distance - 2) > 0.6], distance[np.abs(distance - 2) > 0.6]
    y = np.where(distance < 2, 1, -1)
    wrong = int((answer(X[:150], y[:150], X[150:]) != y[150:]).sum())
    expect(wrong <= 8, f"{wrong} of {len(X) - 150} new points inside or outside a circle are wrong")


@kernel_predict.check
def equals_the_perceptron_on_features(answer, rng):
    X, y = rng.normal(size=(12, 2)), np.where(rng.normal(size=12) >= 0, 1, -1)
    X_new = rng.normal(size=(40, 2))

    def features(Z):
        a, b, r = Z[:, 0], Z[:, 1], np.sqrt(2)
        return np.column_stack([np.ones(len(Z)), r * a, r * b, a * a, b * b, r * a * b])

    w = np.zeros(6)
    for _ in range(5):
        for x, label in zip(features(X), y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
    expected = np.where(features(X_new) @ w >= 0, 1, -1)
    received = answer(X, y, X_new, 5)
    expect_equal(received, expected, what="the labels, compared with six explicit features,")


@kernel_predict.mistake(
    "With the plain dot product this is the perceptron without bias, and XOR is out of its reach. "
    "What does the kernel add?"
)
def linear_kernel(X, y, X_new, max_epochs=100):
    counts = np.zeros(len(X))
    for _ in range(max_epochs):
        for j, label in enumerate(y):
            if label * ((counts * y) @ (X @ X[j])) <= 0:
                counts[j] += 1
    return np.where(X_new @ X.T @ (counts * y) >= 0, 1, -1)


@kernel_predict.mistake(
    "Each example is counted once at most. May one be corrected again in a later epoch?"
)
def counts_once(X, y, X_new, max_epochs=100):
    K = (1 + X @ X.T) ** 2
    counts = np.zeros(len(X))
    for _ in range(max_epochs):
        for j, label in enumerate(y):
            if label * ((counts * y) @ K[j]) <= 0:
                counts[j] = 1
    return np.where((1 + X_new @ X.T) ** 2 @ (counts * y) >= 0, 1, -1)


def _counts(X, y, max_epochs, one=1):
    K = (one + X @ X.T) ** 2
    counts = np.zeros(len(X))
    for _ in range(max_epochs):
        for j, label in enumerate(y):
            if label * ((counts * y) @ K[j]) <= 0:
                counts[j] += 1
    return counts


@kernel_predict.mistake("Your kernel gives (0, 0) the score 0 with every point. What was added?")
def kernel_without_the_one(X, y, X_new, max_epochs=100):
    return np.where((X_new @ X.T) ** 2 @ (_counts(X, y, max_epochs, 0) * y) >= 0, 1, -1)


@kernel_predict.mistake("Once through the examples is not enough: is there still a mistake?")
def a_single_pass(X, y, X_new, max_epochs=100):
    return np.where((1 + X_new @ X.T) ** 2 @ (_counts(X, y, 1) * y) >= 0, 1, -1)


@kernel_predict.mistake("A label is −1 or +1. What does np.sign say to a score of exactly 0?")
def a_label_of_zero(X, y, X_new, max_epochs=100):
    return np.sign((1 + X_new @ X.T) ** 2 @ (_counts(X, y, max_epochs) * y))


# --- 8 -------------------------------------------------------------------------------------


@exercise(
    "The average does not fall",
    difficulty=3,
    minutes=25,
    section="the-averaged-perceptron",
    because="the package's averaged perceptron has a bias, which this one leaves out",
    idea=(
        "Keep a running total beside the weights, and add the weights to it after every visit, "
        "whether or not they changed."
    ),
)
def averaged_weights(X, y, epochs):
    """Return the mean of the perceptron's weights, taken after every visit of an example.

    No bias (append a column of ones if you want one). Start from zero, visit the rows of X in order
    for the given number of epochs, and do not stop early: a visit without a mistake counts the
    current weights once more.
    """
    w, total = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
            total = total + w
    return total / (epochs * len(X))


@averaged_weights.check
def four_corrections_by_hand(answer, rng):
    X, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1, -1])
    expected = np.array([0.5, -1.0])
    expect_close(answer(X, y, 2), expected, what="the mean of (1, 0), (0, −1), (1, −1) and (0, −2)")


@averaged_weights.check
def two_examples_by_hand(answer, rng):
    X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, -1])
    expect_close(answer(X, y, 1), np.array([1.0, -0.5]), what="the mean of (1, 0) and (1, −1)")
    expect_close(answer(X, y, 2), np.array([1.0, -0.75]), what="the mean after two epochs")


@averaged_weights.check
def better_than_the_last_on_noisy_labels(answer, rng):
    last, mean = [], []
    for _ in range(20):
        truth = rng.normal(size=10)
        X = rng.normal(size=(500, 10))
        y = np.where(X @ truth >= 0, 1, -1)
        noisy = np.where(rng.uniform(size=100) < 0.1, -y[:100], y[:100])
        w = np.zeros(10)
        for _ in range(3):
            for x, label in zip(X[:100], noisy, strict=True):
                if label * (w @ x) <= 0:
                    w = w + label * x
        right = X[100:] @ answer(X[:100], noisy, 3) * y[100:] > 0
        mean.append(right.mean())
        last.append((X[100:] @ w * y[100:] > 0).mean())
    expect(
        np.mean(mean) > np.mean(last) + 0.02,
        f"over 20 noisy data sets the average is right about {np.mean(mean):.1%}, "
        f"the last weights about {np.mean(last):.1%}",
    )


@averaged_weights.mistake(
    "You average over corrections. Weights that survive a hundred visits should count a hundred "
    "times."
)
def averages_over_corrections(X, y, epochs):
    w, seen = np.zeros(X.shape[1]), []
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
                seen.append(w)
    return np.mean(seen, axis=0)


@averaged_weights.mistake("These are the weights at the end, after the last mistake.")
def returns_the_last(X, y, epochs):
    w = np.zeros(X.shape[1])
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
    return w


@averaged_weights.mistake(
    "You add the weights up before the example has been learned from. The zero vector at the start "
    "should not be in the mean, and the last one should."
)
def averages_before_the_visit(X, y, epochs):
    w, total = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            total = total + w
            if label * (w @ x) <= 0:
                w = w + label * x
    return total / (epochs * len(X))


@averaged_weights.mistake(
    "You take one sample at the end of each epoch. The mean is over every visit of an example."
)
def averages_once_an_epoch(X, y, epochs):
    w, total = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for _ in range(epochs):
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w = w + label * x
        total = total + w
    return total / epochs


@averaged_weights.mistake("You divide by the epochs. How many vectors did you add up?")
def divides_by_the_epochs(X, y, epochs):
    return averaged_weights(X, y, epochs) * len(X)
