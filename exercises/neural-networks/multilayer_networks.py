"""Exercises of neural-networks/multilayer-networks.md."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape
from chainrule.neural_networks.multilayer_networks import MLP, count_linear_pieces


def _relu(z):
    return np.maximum(z, 0)


# --- 1 -------------------------------------------------------------------------------------


@exercise(
    "The widest that fits",
    difficulty=1,
    minutes=15,
    section="forward-pass-computation",
    because="the package counts the parameters of a network, it does not choose its sizes",
    idea=(
        "Count the parameters for one width: weights and biases of the first hidden layer, of each "
        "further one, and of the output. Then try widths from 1 up."
    ),
)
def widest(inputs, outputs, hidden, budget):
    """Return the largest width of the hidden layers for which the parameters fit into a budget.

    The network has ``hidden`` (at least 1) hidden layers, all of the same width, between the given
    numbers of inputs and outputs. Its weights and biases together must be at most ``budget``, which
    is large enough for the width 1.
    """
    width = 1
    while True:
        sizes = (inputs, *[width + 1] * hidden, outputs)
        if sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes)) > budget:
            return width
        width += 1


def _parameters(inputs, outputs, hidden, width):
    sizes = (inputs, *[width] * hidden, outputs)
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


@widest.check
def one_hidden_layer(answer, rng):
    received = [answer(3, 2, 1, budget) for budget in (14, 19, 20)]
    others = [answer(10, 1, 1, budget) for budget in (30, 37)]
    what = "the widths for 14, 19 and 20 parameters between 3 inputs and 2 outputs"
    expect_equal(received, [2, 2, 3], what=what)
    what = "the widths for 30 and 37 parameters between 10 inputs and 1 output"
    expect_equal(others, [2, 3], what=what)


@widest.check
def the_digit_network(answer, rng):
    expect_equal(answer(64, 10, 1, 4810), 64, what="the width for the 4,810 of (64, 64, 10)")


@widest.check
def several_hidden_layers(answer, rng):
    for hidden, width in ((2, 9), (3, 7), (5, 11)):
        net = MLP((13, *[width] * hidden, 5))
        total = sum(array.size for array in [*net.weights, *net.biases])
        received = (answer(13, 5, hidden, total), answer(13, 5, hidden, total - 1))
        what = f"the widths for {total} and {total - 1} parameters and {hidden} hidden layers"
        expect_equal(received, (width, width - 1), what=what)


def _largest(count, budget):
    width = 0
    while count(width + 1) <= budget:
        width += 1
    return width


@widest.mistake("You counted the weights only. What else does every unit own?")
def forgets_the_biases(inputs, outputs, hidden, budget):
    def count(width):
        widths = (inputs, *[width] * hidden, outputs)
        return sum(n_in * n_out for n_in, n_out in pairwise(widths))

    return _largest(count, budget)


@widest.mistake(
    "A bias belongs to a unit that computes. Do the inputs compute, and the outputs not?"
)
def biases_for_the_inputs(inputs, outputs, hidden, budget):
    def count(width):
        widths = (inputs, *[width] * hidden, outputs)
        return sum(n_in * (n_out + 1) for n_in, n_out in pairwise(widths))

    return _largest(count, budget)


@widest.mistake(
    "You have one layer of weights too many between the hidden layers. How many gaps are there "
    "between three of them?"
)
def one_gap_too_many(inputs, outputs, hidden, budget):
    return _largest(lambda width: _parameters(inputs, outputs, hidden + 1, width), budget)


@widest.mistake("The width you return no longer fits. Which one did you try before it?")
def one_too_wide(inputs, outputs, hidden, budget):
    return widest(inputs, outputs, hidden, budget) + 1


@widest.mistake("A network with exactly as many parameters as the budget allows still fits.")
def less_than_the_budget(inputs, outputs, hidden, budget):
    return _largest(lambda width: _parameters(inputs, outputs, hidden, width), budget - 1)


@widest.mistake("Your hidden units have biases, and the outputs have none. Are they units too?")
def outputs_without_biases(inputs, outputs, hidden, budget):
    return _largest(lambda width: _parameters(inputs, outputs, hidden, width) - outputs, budget)


# --- 2 -------------------------------------------------------------------------------------


@exercise(
    "Three bits, odd or even",
    difficulty=2,
    minutes=20,
    section="hidden-layers-and-depth",
    because="the package has XOR of two bits, not the parity of three",
    idea=(
        "Only the sum of the inputs matters: the output should be 0, 1, 0, 1 at the sums 0 to 3. "
        "Let a unit switch on wherever the slope has to change."
    ),
)
def parity_layers():
    """Return (W1, b1, W2, b2) of a network with three hidden ReLU units: is the number of ones odd?

    W1 has shape (3, 3), b1 (3,), W2 (1, 3), b2 (1,). The output relu(X @ W1.T + b1) @ W2.T + b2
    must be above ½ exactly where one or all three of the inputs are near 1 and the others near 0,
    even if each is off by up to 0.1.
    """
    return np.ones((3, 3)), np.array([0.0, -1, -2]), np.array([[1.0, -2, 2]]), np.array([0.0])


CUBE = np.array(list(product((0.0, 1.0), repeat=3)))
ODD = CUBE.sum(axis=1) % 2 == 1


def _two_layers(layers, X):
    W1, b1, W2, b2 = layers
    return _relu(X @ W1.T + b1) @ W2.T + b2


@parity_layers.check
def shapes_fit(answer, rng):
    for array, shape, name in zip(
        answer(), [(3, 3), (3,), (1, 3), (1,)], ["W1", "b1", "W2", "b2"], strict=True
    ):
        expect_shape(array, shape, what=name)


@parity_layers.check
def eight_corners(answer, rng):
    out = _two_layers(answer(), CUBE).ravel()
    expect_equal(out > 0.5, ODD, what="output > ½ at the corners of the cube")


@parity_layers.check
def noisy_corners(answer, rng):
    noisy = np.repeat(CUBE, 50, axis=0) + rng.uniform(-0.1, 0.1, size=(400, 3))
    out = _two_layers(answer(), noisy).ravel() > 0.5
    wrong = int((out != np.repeat(ODD, 50)).sum())
    expect(wrong == 0, f"{wrong} of 400 corners, each input off by up to 0.1, are answered wrongly")


@parity_layers.mistake(
    "These weights are the slopes you want. But the units before a knot stay on after it: by how "
    "much must the slope change there?"
)
def slopes_for_weights():
    W1, b1, _, b2 = parity_layers()
    return W1, b1, np.array([[1.0, -1, 1]]), b2


@parity_layers.mistake(
    "With all three inputs on, your output is far below 0. Which unit brings it up again?"
)
def xor_of_two():
    W1, b1, _, b2 = parity_layers()
    return W1, b1, np.array([[1.0, -2, 0]]), b2


@parity_layers.mistake(
    "All three units switch on at the same place, so together they are one unit. Where should the "
    "others begin?"
)
def same_knot_thrice():
    W1, _, W2, b2 = parity_layers()
    return W1, np.zeros(3), W2, b2


@parity_layers.mistake(
    "The sign of the biases: a unit max(x₁ + x₂ + x₃ + b, 0) switches on where the sum reaches −b."
)
def knots_on_the_wrong_side():
    W1, b1, W2, b2 = parity_layers()
    return W1, -b1, W2, b2


@parity_layers.mistake(
    "At the sum 3 your output is 0. From 2 to 3 it must climb by 1, and the first two units "
    "together fall by 1 there."
)
def the_last_weight_is_one():
    W1, b1, _, b2 = parity_layers()
    return W1, b1, np.array([[1.0, -2, 1]]), b2


@parity_layers.mistake("Your output begins to climb at the sum 1. Where should it begin?")
def knots_one_too_late():
    W1, b1, W2, b2 = parity_layers()
    return W1, b1 - 1, W2, b2


# --- 3 -------------------------------------------------------------------------------------


@exercise(
    "Straight on at both ends",
    difficulty=3,
    minutes=25,
    section="universal-approximation-theorem",
    because="relu_interpolator is constant outside the knots",
    idea=(
        "On the right, leave out the unit that would flatten the line. On the left no unit of the "
        "page is on: use one that looks the other way, max(x₀ − x, 0)."
    ),
)
def straight_on(f, knots):
    """Return (W1, b1, W2, b2) of a ReLU network that equals f at the knots and goes on straight.

    knots has shape (m,), increasing, m ≥ 2; f accepts it. Between the knots the output is straight.
    Left of the first knot it goes on with the slope of the first piece, right of the last knot with
    the slope of the last. With h hidden units, at most m, the shapes are W1 (h, 1), b1 (h,),
    W2 (1, h) and b2 (1,).
    """
    values = f(knots)
    slopes = np.diff(values) / np.diff(knots)
    W1 = np.append(np.ones(len(slopes)), -1.0)[:, None]
    b1 = np.append(-knots[:-1], knots[0])
    W2 = np.concatenate([slopes[:1], np.diff(slopes), -slopes[:1]])[None, :]
    return W1, b1, W2, values[:1]


@straight_on.check
def the_hat_goes_on(answer, rng):
    layers = answer(lambda k: 1 - np.abs(k - 1), np.array([0.0, 1.0, 2.0]))
    expect(len(layers[0]) <= 3, f"{len(layers[0])} hidden units for three knots")
    x = np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0])
    expected = np.array([-1.0, 0, 0.5, 1, 0.5, 0, -1])
    received = _two_layers(layers, x[:, None]).ravel()
    expect_close(received, expected, atol=1e-9, what=f"the hat, going on, at {x.tolist()}")


@straight_on.check
def two_knots_make_a_line(answer, rng):
    x = np.linspace(-9, 9, 7)
    received = _two_layers(answer(lambda k: 5 - 3 * k, np.array([1.0, 2.0])), x[:, None]).ravel()
    expect_close(received, 5 - 3 * x, atol=1e-9, what="the line 5 − 3x from the knots 1 and 2")


@straight_on.check
def equals_interp_and_goes_on(answer, rng):
    knots = np.sort(rng.uniform(-3, 3, size=11))
    values, x = np.cos(knots), np.linspace(-4, 4, 201)
    slopes = np.diff(values) / np.diff(knots)
    expected = np.interp(x, knots, values)
    expected += slopes[0] * np.minimum(x - knots[0], 0) + slopes[-1] * _relu(x - knots[-1])
    received = _two_layers(answer(np.cos, knots), x[:, None]).ravel()
    expect_close(received, expected, atol=1e-9, what="the broken line through 11 knots")


@straight_on.mistake(
    "Your line is flat outside the knots. Which unit flattens it on the right, and which could be "
    "on at the left?"
)
def flat_at_both_ends(f, knots):
    values = f(knots)
    slopes = np.concatenate([[0.0], np.diff(values) / np.diff(knots), [0.0]])
    return np.ones((len(knots), 1)), -knots, np.diff(slopes)[None, :], values[:1]


@straight_on.mistake("Right of the knots all is well. Is any of your units on left of the first?")
def flat_on_the_left(f, knots):
    W1, b1, W2, b2 = straight_on(f, knots)
    return W1[:-1], b1[:-1], W2[:, :-1], b2


@straight_on.mistake(
    "Left of the first knot your line goes the wrong way. The unit there grows as x falls: what "
    "sign must its weight have?"
)
def mirrored_on_the_left(f, knots):
    W1, b1, W2, b2 = straight_on(f, knots)
    return W1, b1, np.append(W2[:, :-1], -W2[:, -1:], axis=1), b2


@straight_on.mistake(
    "After the second knot your line is too steep. The units before a knot stay on after it: by "
    "how much must a new unit change the slope?"
)
def slopes_for_changes(f, knots):
    W1, b1, _, b2 = straight_on(f, knots)
    slopes = np.diff(f(knots)) / np.diff(knots)
    return W1, b1, np.append(slopes, -slopes[:1])[None, :], b2


@straight_on.mistake("The kinks are mirrored at 0. For which x is max(x + b, 0) just zero?")
def bias_with_the_wrong_sign(f, knots):
    W1, b1, W2, b2 = straight_on(f, knots)
    return W1, -b1, W2, b2


@straight_on.mistake(
    "Everything is off by the same amount. What is the output where no unit is on?"
)
def forgets_the_start(f, knots):
    W1, b1, W2, b2 = straight_on(f, knots)
    return W1, b1, W2, 0 * b2


# --- 4 -------------------------------------------------------------------------------------


@exercise(
    "Two to the k pieces",
    difficulty=3,
    minutes=25,
    section="width-vs-depth-trade-offs",
    counterpart="chainrule.neural_networks.multilayer_networks:tent_network",
    idea=(
        "The output row of one tent is the input of the next, so the two matrices between two "
        "hidden layers multiply into one."
    ),
)
def tent_layers(k):
    """Return the layers [(W, b), …] of a ReLU network that composes the tent map k times.

    The tent map is T(x) = 2·max(x, 0) − 4·max(x − ½, 0). There are k hidden layers of two units
    and one output layer, so k + 1 pairs; every W has the shape (outputs, inputs).
    """
    row, switches = np.array([[2.0, -4.0]]), np.array([0.0, -0.5])
    first = (np.ones((2, 1)), switches)
    later = (np.ones((2, 1)) @ row, switches)
    return [first, *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.by_package
def _(package, k):
    net = package(k)
    return list(zip(net.weights, net.biases, strict=True))


def _sawtooth(x, k):
    for _ in range(k):
        x = 1 - np.abs(2 * x - 1)
    return x


@tent_layers.check
def one_and_two_tents(answer, rng):
    x = np.linspace(0, 1, 9)
    for k in (1, 2):
        net = MLP.from_layers(answer(k))
        expect_close(net(x[:, None]).ravel(), _sawtooth(x, k), what=f"the output for k = {k}")


@tent_layers.check
def widths_are_two(answer, rng):
    sizes = MLP.from_layers(answer(5)).sizes
    expect_equal(sizes, (1, 2, 2, 2, 2, 2, 1), what="the widths for k = 5")


@tent_layers.check
def counts_of_pieces(answer, rng):
    for k in (3, 5, 8):
        pieces = count_linear_pieces(MLP.from_layers(answer(k)), 0.0, 1.0)
        expect_equal(pieces, 2**k, what=f"the number of pieces for k = {k}")


@tent_layers.mistake(
    "Your tent stays at its top after the middle. The second unit has to undo the first and then "
    "go down as fast as the first went up."
)
def falls_too_slowly(k):
    row, switches = np.array([[2.0, -2.0]]), np.array([0.0, -0.5])
    later = (np.ones((2, 1)) @ row, switches)
    return [(np.ones((2, 1)), switches), *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.mistake(
    "One tent comes out right, two do not: from the second layer on no unit waits until ½."
)
def forgets_later_switches(k):
    row, switches = np.array([[2.0, -4.0]]), np.array([0.0, -0.5])
    later = (np.ones((2, 1)) @ row, np.zeros(2))
    return [(np.ones((2, 1)), switches), *[later] * (k - 1), (row, np.zeros(1))]


@tent_layers.mistake("You compose one tent too many. How many hidden layers does k = 1 need?")
def one_tent_too_many(k):
    return tent_layers(k + 1)


@tent_layers.mistake(
    "A weight between two tents has the wrong orientation: both units of the next tent must read "
    "the same number, 2h₁ − 4h₂. Rows are units."
)
def transposes_the_weight(k):
    layers = tent_layers(k)
    return [layers[0], *[(W.T, b) for W, b in layers[1:-1]], layers[-1]]


@tent_layers.mistake("You compose one tent too few. How many hidden layers does k = 2 need?")
def one_tent_too_few(k):
    return tent_layers(max(k - 1, 1))


@tent_layers.mistake(
    "Your last layer does not weigh the two units by 2 and −4. Is the last tent a tent?"
)
def the_last_row_is_plain(k):
    layers = tent_layers(k)
    return [*layers[:-1], (np.array([[1.0, -1.0]]), np.zeros(1))]


@tent_layers.mistake("Your tents turn at 1. Where does the tent map turn?")
def turns_at_one(k):
    return [*[(W, 2 * b) for W, b in tent_layers(k)[:-1]], tent_layers(k)[-1]]


@tent_layers.mistake(
    "A unit with a negative weight on x is never on between 0 and 1. The factor −4 belongs behind "
    "the ReLU."
)
def weighs_before_the_switch(k):
    column, switches = np.array([[2.0], [-4.0]]), np.array([0.0, -0.5])
    later = (column @ np.ones((1, 2)), switches)
    return [(column, switches), *[later] * (k - 1), (np.ones((1, 2)), np.zeros(1))]


# --- 5 -------------------------------------------------------------------------------------


@exercise(
    "The second largest of eight",
    difficulty=3,
    minutes=30,
    section="several-inputs",
    because="the package has no tournament made of ReLUs",
    idea=(
        "Carry two numbers for each group, its largest and its second largest. When two groups "
        "meet, the second largest is either the loser of the two winners or one of the seconds."
    ),
)
def second_largest(X, relu):
    """Return the second largest entry of each row of X, shape (n, 8) to (n,), as a ReLU network.

    Use sums, differences, multiples and the function relu that is passed in, nothing else: no max,
    sort, abs, comparison. Entries may be negative. If the largest occurs twice, it is also the
    second largest.
    """
    a, b = X[:, ::2], X[:, 1::2]
    first, second = a + relu(b - a), b - relu(b - a)
    while first.shape[1] > 1:
        a, b = first[:, ::2], first[:, 1::2]
        c, d = second[:, ::2], second[:, 1::2]
        loser, best = b - relu(b - a), c + relu(d - c)
        first, second = a + relu(b - a), loser + relu(best - loser)
    return second[:, 0]


def _second(X):
    return np.sort(X, axis=1)[:, -2]


@second_largest.check
def of_positive_numbers(answer, rng):
    X = rng.uniform(1, 2, size=(40, 8))
    expect_close(answer(X, _relu), _second(X), what="the second largest of eight positive numbers")


@second_largest.check
def of_negative_numbers(answer, rng):
    X = -rng.uniform(1, 2, size=(40, 8))
    expect_close(answer(X, _relu), _second(X), what="the second largest of eight negative numbers")


@second_largest.check
def at_all_pairs_of_places(answer, rng):
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    X = np.zeros((len(pairs), 8)) - 0.3
    for row, (i, j) in enumerate(pairs):
        X[row, i], X[row, j] = 5.0, 3.0
    expect_close(answer(X, _relu), np.full(56, 3.0), what="the second largest, at every place")


@second_largest.check
def the_largest_twice(answer, rng):
    X = np.array([[1.0, 7, 2, 0, 7, 3, -4, 5]])
    expect_close(answer(X, _relu), np.array([7.0]), what="the second largest if 7 occurs twice")


@second_largest.check
def by_the_relu_that_was_passed(answer, rng):
    X = rng.normal(size=(5, 8))
    received = answer(X, lambda z: np.zeros_like(z))
    expect(
        not np.allclose(received, _second(X)),
        "with a relu that always returns 0 it is still found: something else found it",
    )


def _tournament(X, larger, smaller):
    first = larger(X[:, ::2], X[:, 1::2])
    second = smaller(X[:, ::2], X[:, 1::2])
    while first.shape[1] > 1:
        a, b = first[:, ::2], first[:, 1::2]
        seconds = larger(second[:, ::2], second[:, 1::2])
        first, second = larger(a, b), larger(smaller(a, b), seconds)
    return first[:, 0], second[:, 0]


@second_largest.mistake("This is the largest. What has to be carried along with it?")
def the_largest(X, relu):
    return _tournament(X, lambda a, b: a + relu(b - a), lambda a, b: b - relu(b - a))[0]


@second_largest.mistake(
    "You return the loser of the final. The second largest may have lost to the winner earlier."
)
def loser_of_the_final(X, relu):
    first = X
    while first.shape[1] > 2:
        a, b = first[:, ::2], first[:, 1::2]
        first = a + relu(b - a)
    return first[:, 1] - relu(first[:, 1] - first[:, 0])


@second_largest.mistake(
    "Right for positive numbers. What is max(a, b) = relu(a − b) + relu(b) when both are negative?"
)
def loses_the_sign(X, relu):
    return _tournament(
        X, lambda a, b: relu(a - b) + relu(b), lambda a, b: a + b - relu(a - b) - relu(b)
    )[1]


@second_largest.mistake(
    "a + relu(a − b): try a = 3, b = 1. How much has to be added to a if b is the smaller one?"
)
def adds_the_wrong_difference(X, relu):
    return _tournament(X, lambda a, b: a + relu(a - b), lambda a, b: b - relu(a - b))[1]


@second_largest.mistake(
    "You return the loser of the final. The second largest may have lost to the winner earlier: "
    "who else lost to it?"
)
def loser_of_the_final_from_above(X, relu):
    first = X
    while first.shape[1] > 2:
        a, b = first[:, ::2], first[:, 1::2]
        first = a + relu(b - a)
    return first[:, 0] - relu(first[:, 0] - first[:, 1])


@second_largest.mistake(
    "When a new largest comes, the old one becomes the second. Yours is forgotten."
)
def forgets_the_old_largest(X, relu):
    a, b = X[:, 0], X[:, 1]
    second = a - relu(a - b)
    top = a + relu(b - a)
    for j in range(2, 8):
        below = X[:, j] - relu(X[:, j] - second)
        top = top + relu(X[:, j] - top)
        second = second + relu(below - second)
    return second


@second_largest.mistake(
    "Right for positive numbers. From which value does your second largest start, and what if all "
    "entries lie below it?"
)
def starts_at_zero(X, relu):
    top, second = X[:, 0], 0 * X[:, 0]
    for j in range(1, 8):
        low = X[:, j] - relu(X[:, j] - top)
        top = top + relu(X[:, j] - top)
        second = second + relu(low - second)
    return second


# --- 6 -------------------------------------------------------------------------------------


@exercise(
    "Which price for long weights?",
    difficulty=3,
    minutes=30,
    section="fitting-only-the-last-layer",
    because="the package fits with one penalty at a time",
    idea=(
        "Fit on the first examples with each λ in turn, bias by the means of these examples. Then "
        "compare on the others, which no fit has seen."
    ),
)
def best_price(Phi, Y, Phi_held, Y_held, prices):
    """Return (λ, error): the price with the smallest error on held-out examples, and that error.

    For each λ of the list prices (all positive), fit ridge regression to the features Phi (n, h)
    and the targets Y (n, c): weights and biases of a last layer, with the biases not charged. Its
    error is the mean of the squared errors over all entries of Y_held (k, c), predicted from
    Phi_held (k, h).
    """
    mean, target = Phi.mean(axis=0), Y.mean(axis=0)
    centred, errors = Phi - mean, []
    for price in prices:
        gram = centred.T @ centred + price * np.eye(Phi.shape[1])
        weights = np.linalg.solve(gram, centred.T @ (Y - target))  # shape (h, c)
        predicted = (Phi_held - mean) @ weights + target
        errors.append(np.mean((predicted - Y_held) ** 2))
    return prices[int(np.argmin(errors))], float(min(errors))


def _fit(Phi, Y, price):
    mean, target = Phi.mean(axis=0), Y.mean(axis=0)
    centred = Phi - mean
    gram = centred.T @ centred + price * np.eye(Phi.shape[1])
    A = np.linalg.solve(gram, centred.T @ (Y - target)).T
    return A, target - A @ mean


def _best(Phi, Y, Phi_held, Y_held, prices, fit=_fit, extra=lambda A, price: 0.0):
    errors = []
    for price in prices:
        A, b = fit(Phi, Y, price)
        errors.append(np.mean((Phi_held @ A.T + b - Y_held) ** 2) + extra(A, price))
    return prices[int(np.argmin(errors))], float(min(errors))


def _noisy(rng):
    truth = rng.normal(size=(9, 2))
    Phi, Phi_held = rng.normal(size=(12, 9)) + 2, rng.normal(size=(50, 9)) + 2
    Y, Y_held = Phi @ truth + 5, Phi_held @ truth + 5
    return Phi, Y + 2 * rng.normal(size=Y.shape), Phi_held, Y_held


@best_price.check
def one_feature_by_hand(answer, rng):
    Phi, Y = np.array([[1.0], [2.0], [3.0]]), np.array([[2.0], [4.0], [6.0]])
    received = answer(Phi, Y, np.array([[4.0]]), np.array([[6.0]]), [1.0, 2.0, 6.0])
    expect_close(received, (2.0, 0.0), atol=1e-9, what="(λ, error) for the page's example at 4")


@best_price.check
def two_targets_with_noise(answer, rng):
    prices = [1e-6, 0.1, 1.0, 10.0, 1000.0]
    for _ in range(5):
        data = _noisy(rng)
        expect_close(answer(*data, prices), _best(*data, prices), what="(λ, error) for noisy data")


@best_price.check
def shifts_do_not_matter(answer, rng):
    Phi, Y, Phi_held, Y_held = _noisy(rng)
    prices = [0.01, 1.0, 100.0]
    received = answer(Phi + 30, Y - 7, Phi_held + 30, Y_held - 7, prices)
    expected = answer(Phi, Y, Phi_held, Y_held, prices)
    expect_close(received, expected, rtol=1e-6, what="(λ, error) after a shift of all the data")


@best_price.mistake(
    "You compare on the examples that were fitted. There the smallest price always wins."
)
def compares_on_the_fitted(Phi, Y, Phi_held, Y_held, prices):
    return _best(Phi, Y, Phi, Y, prices)


@best_price.mistake(
    "You took the means of the held-out examples out of them. Would you know these means, if a "
    "single new example came?"
)
def centres_the_held_out(Phi, Y, Phi_held, Y_held, prices):
    def without_bias(Phi, Y, price):
        return _fit(Phi, Y, price)[0], np.zeros(Y.shape[1])

    centred = Phi_held - Phi_held.mean(axis=0), Y_held - Y_held.mean(axis=0)
    return _best(Phi, Y, *centred, prices, without_bias)


@best_price.mistake("Your layer has no bias. What do the means of features and targets do?")
def forgets_the_bias(Phi, Y, Phi_held, Y_held, prices):
    def through_zero(Phi, Y, price):
        gram = Phi.T @ Phi + price * np.eye(Phi.shape[1])
        return np.linalg.solve(gram, Phi.T @ Y).T, 0.0

    return _best(Phi, Y, Phi_held, Y_held, prices, through_zero)


@best_price.mistake(
    "The price belongs to the fit. Does it make a prediction on new examples worse or better by "
    "itself?"
)
def charges_in_the_comparison(Phi, Y, Phi_held, Y_held, prices):
    return _best(Phi, Y, Phi_held, Y_held, prices, extra=lambda A, price: price * np.sum(A**2))


@best_price.mistake("Your bias is charged like a weight, so it is pulled towards 0. Should it be?")
def charges_the_bias(Phi, Y, Phi_held, Y_held, prices):
    def with_ones(Phi, Y, price):
        ones = np.column_stack([Phi, np.ones(len(Phi))])
        A = np.linalg.solve(ones.T @ ones + price * np.eye(ones.shape[1]), ones.T @ Y).T
        return A[:, :-1], A[:, -1]

    return _best(Phi, Y, Phi_held, Y_held, prices, with_ones)


@best_price.mistake(
    "Your price counts n times. The squared errors are summed over the examples, not averaged."
)
def price_for_a_mean(Phi, Y, Phi_held, Y_held, prices):
    def dearer(Phi, Y, price):
        return _fit(Phi, Y, len(Phi) * price)

    return _best(Phi, Y, Phi_held, Y_held, prices, dearer)


@best_price.mistake("The price comes first, the error second.")
def returns_the_error_first(Phi, Y, Phi_held, Y_held, prices):
    return best_price(Phi, Y, Phi_held, Y_held, prices)[::-1]


# --- 7 -------------------------------------------------------------------------------------


@exercise(
    "A two-bit adder",
    difficulty=4,
    minutes=35,
    section="hidden-layers-and-depth",
    because="the package has no threshold networks beyond one neuron",
    idea=(
        "Let hidden unit k say whether the sum is at least k. Each bit of the result switches "
        "on at some sums and off at others: give those units weights of 1 and −1."
    ),
)
def adder():
    """Return (W1, b1, W2, b2) of a threshold network that adds two numbers of two bits each.

    The input is (a₁, a₀, b₁, b₀), the output (s₂, s₁, s₀), highest bits first: 3 + 2 = 5 means
    (1, 1, 1, 0) ↦ (1, 0, 1). Both layers end in the step function (1 where the score is at least 0,
    else 0). W1 has shape (m, 4) with at most 6 hidden units, W2 has shape (3, m).
    """
    W1 = np.tile([2.0, 1.0, 2.0, 1.0], (6, 1))
    b1 = 0.5 - np.arange(1, 7)
    W2 = np.array([[0, 0, 0, 1, 0, 0], [0, 1, 0, -1, 0, 1], [1, -1, 1, -1, 1, -1.0]])
    return W1, b1, W2, np.full(3, -0.5)


_BITS = np.array(list(product((0.0, 1.0), repeat=4)))


def _threshold_network(layers, X):
    W1, b1, W2, b2 = layers
    hidden = (X @ W1.T + b1 >= 0).astype(float)
    return (hidden @ W2.T + b2 >= 0).astype(int)


@adder.check
def at_most_six_hidden_units(answer, rng):
    W1, b1, W2, b2 = answer()
    m = len(W1)
    expect(m <= 6, f"there are {m} hidden units, at most 6 are allowed")
    for array, shape, name in ((W1, (m, 4), "W1"), (b1, (m,), "b1"), (W2, (3, m), "W2")):
        expect_shape(array, shape, what=name)
    expect_shape(b2, (3,), what="b2")


@adder.check
def all_sixteen_sums(answer, rng):
    total = (_BITS @ [2, 1, 2, 1]).astype(int)
    expected = np.stack([total >> 2 & 1, total >> 1 & 1, total & 1], axis=1)
    received = _threshold_network(answer(), _BITS)
    wrong = np.flatnonzero((received != expected).any(axis=1))
    if wrong.size:
        a1, a0, b1, b0 = _BITS[wrong[0]].astype(int)
        expect(
            False,
            f"{wrong.size} of 16 sums are wrong; the first is {2 * a1 + a0} + {2 * b1 + b0}, "
            f"which gives {received[wrong[0]].tolist()}",
        )


@adder.mistake("Your hidden units count how many bits are on. But is a₁ worth as much as a₀?")
def counts_bits():
    W1, b1, W2, b2 = adder()
    return np.ones_like(W1), b1, W2, b2


@adder.mistake(
    "The sum 6 is 110 in binary. Which hidden unit switches the middle bit on again after 4 has "
    "switched it off?"
)
def middle_bit_stays_off():
    W1, b1, W2, b2 = adder()
    W2 = W2.copy()
    W2[1, 5] = 0
    return W1, b1, W2, b2


@adder.mistake(
    "Every unit switches one too late: a score of exactly what is needed does not reach it."
)
def one_too_late():
    W1, b1, W2, b2 = adder()
    return W1, b1 - 1, W2, b2


@adder.mistake("The highest bit comes first, in the inputs and in the output.")
def lowest_bit_first():
    W1, b1, W2, b2 = adder()
    return W1, b1, W2[::-1], b2


@adder.mistake("A score of 0 says 1. Which output has the score 0 when no hidden unit is on?")
def outputs_always_on():
    W1, b1, W2, b2 = adder()
    return W1, b1, W2, 0 * b2
