"""Exercises of neural-networks/perceptron.md."""

from __future__ import annotations

from itertools import product

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND = np.array([-1, -1, -1, 1])
OR = np.array([-1, 1, 1, 1])
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
    "Signed distance",
    difficulty=1,
    minutes=10,
    section="linear-classifiers-and-decision-boundaries",
    counterpart="chainrule.neural_networks.perceptron:signed_distance",
    idea=(
        "The score says how far a point is in units of the length of w. Walk one unit along w: "
        "by how much does the score change?"
    ),
)
def signed_distances(X, w, b):
    """Return the signed distance of each row of X to the boundary w·x + b = 0.

    X has shape (n, d), w has shape (d,), b is a number; the result has shape (n,). It is positive
    on the side to which w points.
    """
    return (X @ w + b) / np.linalg.norm(w)


@signed_distances.check
def by_hand(answer, rng):
    X, w = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.5]]), np.array([3.0, 4.0])
    expect_close(answer(X, w, -5.0), np.array([4.0, -1.0, 0.0]), what="the distances")


@signed_distances.check
def longer_weights_change_nothing(answer, rng):
    X, w = rng.normal(size=(5, 3)), rng.normal(size=3)
    expect_close(answer(X, 7 * w, 7 * 0.4), answer(X, w, 0.4), what="the distances for 7w, 7b")


@signed_distances.check
def a_step_along_the_normal(answer, rng):
    X, w = rng.normal(size=(5, 3)), rng.normal(size=3)
    unit = w / np.linalg.norm(w)
    moved = answer(X + 0.3 * unit, w, -1.1) - answer(X, w, -1.1)
    expect_close(moved, np.full(5, 0.3), what="the change after a step of 0.3 along w")


@signed_distances.mistake(
    "These are scores. How far must you walk along w before the score has changed by 1?"
)
def score_only(X, w, b):
    return X @ w + b


@signed_distances.mistake(
    "A length was taken of the weights and the bias together. Does the bias change how fast the "
    "score grows as you walk?"
)
def bias_in_the_length(X, w, b):
    return (X @ w + b) / np.sqrt(w @ w + b * b)


@signed_distances.mistake(
    "Only a part of the score is divided. Which point of the boundary did you start from?"
)
def divides_only_the_product(X, w, b):
    return X @ w / np.linalg.norm(w) + b


@signed_distances.mistake("Every distance is positive. On which side of the boundary is each?")
def forgets_the_side(X, w, b):
    return np.abs(X @ w + b) / np.linalg.norm(w)


# --- 2 -------------------------------------------------------------------------------------


@exercise(
    "Eighteen corrections",
    difficulty=2,
    minutes=20,
    section="learning-rule-gradient-descent-preview",
    counterpart="chainrule.neural_networks.perceptron:Perceptron",
    idea=(
        "Compare label times score with zero at each example. A correction moves the weights by "
        "the label times the example, the bias by the label, and counts."
    ),
)
def train(X, y, max_epochs=100):
    """Train a perceptron from zero; return (weights, bias, number of corrections).

    Visit the rows of X in order, again and again, and correct at each mistake; a score of 0 counts
    as one. Stop after an epoch without a mistake, or after max_epochs. Labels y are −1 and +1.
    """
    w, b, corrections = np.zeros(X.shape[1]), 0.0, 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, y, strict=True):
            if label * (w @ x + b) <= 0:
                w = w + label * x
                b += label
                corrections += 1
        if corrections == before:
            break
    return w, b, corrections


@train.by_package
def _(package, X, y, max_epochs=100):
    neuron = package(X.shape[1])
    neuron.fit(X, y, max_epochs)
    return neuron.weights, neuron.bias, neuron.updates


@train.check
def a_single_example(answer, rng):
    expected = (np.array([2.0, -1.0]), 1.0, 1)
    received = answer(np.array([[2.0, -1.0]]), np.array([1]))
    expect_close(received, expected, what="after one example, whose first score is 0, a mistake,")


@train.check
def eighteen_for_and(answer, rng):
    expect_close(
        answer(SQUARE, AND), (np.array([3.0, 2.0]), -4.0, 18), what="(w, b, corrections) for AND"
    )


@train.check
def nine_for_or(answer, rng):
    expect_close(
        answer(SQUARE, OR), (np.array([2.0, 2.0]), -1.0, 9), what="(w, b, corrections) for OR"
    )


@train.check
def separates_random_data(answer, rng):
    X, y, _ = _separable(rng, n=30, d=4)
    w, b, _ = answer(X, y, 2000)
    expect((y * (X @ w + b) > 0).all(), "after training, an example still has a wrong score")


@train.check
def xor_never_ends(answer, rng):
    _, _, corrections = answer(SQUARE, XOR, 7)
    expect_equal(corrections, 28, what="the number of corrections for XOR in 7 epochs")


@train.mistake("Your bias stays at zero. Which line can a neuron without a bias not draw?")
def bias_never_learns(X, y, max_epochs=100):
    w, corrections = np.zeros(X.shape[1]), 0
    for _ in range(max_epochs):
        before = corrections
        for x, label in zip(X, y, strict=True):
            if label * (w @ x) <= 0:
                w, corrections = w + label * x, corrections + 1
        if corrections == before:
            break
    return w, 0.0, corrections


@train.mistake(
    "Your third number counts passes over the data. The bound of Novikoff is about something else."
)
def counts_epochs(X, y, max_epochs=100):
    w, b, epochs = np.zeros(X.shape[1]), 0.0, 0
    for _ in range(max_epochs):
        mistakes, epochs = 0, epochs + 1
        for x, label in zip(X, y, strict=True):
            if label * (w @ x + b) <= 0:
                w, b, mistakes = w + label * x, b + label, mistakes + 1
        if mistakes == 0:
            break
    return w, b, epochs


@train.mistake(
    "Within an epoch your scores do not react to corrections made a moment ago. When do you "
    "compute them?"
)
def scores_once_per_epoch(X, y, max_epochs=100):
    w, b, corrections = np.zeros(X.shape[1]), 0.0, 0
    for _ in range(max_epochs):
        wrong = y * (X @ w + b) <= 0
        if not wrong.any():
            break
        w = w + (y[wrong][:, None] * X[wrong]).sum(axis=0)
        b += y[wrong].sum()
        corrections += int(wrong.sum())
    return w, b, corrections


# --- 3 -------------------------------------------------------------------------------------


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


# --- 4 -------------------------------------------------------------------------------------


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


# --- 5 -------------------------------------------------------------------------------------


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
    X, y, X_new = np.array([[1.0, 0.0]]), np.array([-1]), np.array([[1.0, 0.0], [-3.0, 0.0]])
    expect_equal(
        answer(X, y, X_new), np.array([-1, -1]), what="the labels that one negative example gives"
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


# --- 6 -------------------------------------------------------------------------------------


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
