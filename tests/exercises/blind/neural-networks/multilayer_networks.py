"""Blind set of neural-networks/multilayer-networks: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- widest ----------------------------------------------------------------------------------


def _largest(count, budget):
    w = 1
    while count(w + 1) <= budget:
        w += 1
    return w


@wrong("widest", "Forgets the biases.", known="forgets_the_biases")
def _(inputs, outputs, hidden, budget):
    return _largest(lambda w: inputs * w + (hidden - 1) * w * w + w * outputs, budget)


@wrong("widest", "Counts one square matrix too many.", known="one_gap_too_many")
def _(inputs, outputs, hidden, budget):
    return _largest(lambda w: (inputs + 1) * w + hidden * (w + 1) * w + (w + 1) * outputs, budget)


@wrong("widest", "Returns the first width that no longer fits.", known="one_too_wide")
def _(inputs, outputs, hidden, budget):
    return (
        _largest(
            lambda w: (inputs + 1) * w + (hidden - 1) * (w + 1) * w + (w + 1) * outputs, budget
        )
        + 1
    )


@wrong(
    "widest",
    "Wants the parameters to be less than the budget, not at most.",
    known="less_than_the_budget",
)
def _(inputs, outputs, hidden, budget):
    return _largest(
        lambda w: (inputs + 1) * w + (hidden - 1) * (w + 1) * w + (w + 1) * outputs, budget - 1
    )


@wrong("widest", "Forgets the output layer's biases.", known="outputs_without_biases")
def _(inputs, outputs, hidden, budget):
    return _largest(lambda w: (inputs + 1) * w + (hidden - 1) * (w + 1) * w + w * outputs, budget)


# ---- parity_layers ---------------------------------------------------------------------------


def _sum_of_ramps(biases, weights):
    return (
        np.ones((3, 3)),
        np.array(biases, dtype=float),
        np.array([weights], dtype=float),
        np.zeros(1),
    )


@wrong(
    "parity_layers",
    "The third unit has the weight 1: at 111 the output is 0.",
    known="the_last_weight_is_one",
)
def _():
    return _sum_of_ramps([0, -1, -2], [1, -2, 1])


@wrong("parity_layers", "Two units do XOR; the third is left out.", known="xor_of_two")
def _():
    return _sum_of_ramps([0, -1, -2], [1, -2, 0])


@wrong("parity_layers", "The biases are one too low.", known="knots_one_too_late")
def _():
    return _sum_of_ramps([-1, -2, -3], [1, -2, 2])


@wrong("parity_layers", "Weights that are right for exact bits only.")
def _():
    return _sum_of_ramps([-0.9, -1.9, -2.9], [10, -20, 20])


@wrong(
    "parity_layers",
    "The weights alternate between 1 and −1, with no doubling.",
    known="slopes_for_weights",
)
def _():
    return _sum_of_ramps([0, -1, -2], [1, -1, 1])


# ---- straight_on -----------------------------------------------------------------------------


def _parts(f, knots):
    y = f(knots)
    return y, np.diff(y) / np.diff(knots)


def _net(knots, change, start, sign=None):
    sign = np.ones(len(knots)) if sign is None else sign
    return sign[:, None], -sign * knots, change[None, :], np.array([start])


@wrong("straight_on", "Constant outside the knots, as on the page.", known="flat_at_both_ends")
def _(f, knots):
    y, s = _parts(f, knots)
    return _net(knots, np.diff(np.concatenate([[0], s, [0]])), y[0])


@wrong("straight_on", "Straight on at the right, constant at the left.", known="flat_on_the_left")
def _(f, knots):
    y, s = _parts(f, knots)
    return _net(knots[:-1], np.diff(np.concatenate([[0], s])), y[0])


@wrong("straight_on", "Forgets the starting value.", known="forgets_the_start")
def _(f, knots):
    _, s = _parts(f, knots)
    W1, b1, W2, b2 = _net(knots[:-1], np.diff(np.concatenate([[0], s])), 0.0)
    W1 = np.vstack([W1, [[-1.0]]])
    return W1, np.append(b1, knots[0]), np.column_stack([W2, [[-s[0]]]]), b2


@wrong(
    "straight_on",
    "The unit that looks left has the slope with the wrong sign.",
    known="mirrored_on_the_left",
)
def _(f, knots):
    y, s = _parts(f, knots)
    W1, b1, W2, b2 = _net(knots[:-1], np.diff(np.concatenate([[0], s])), y[0])
    W1 = np.vstack([W1, [[-1.0]]])
    return W1, np.append(b1, knots[0]), np.column_stack([W2, [[s[0]]]]), b2


@wrong(
    "straight_on",
    "Weighs units by the slopes, not by the changes of slope.",
    known="slopes_for_changes",
)
def _(f, knots):
    y, s = _parts(f, knots)
    W1, b1, W2, b2 = _net(knots[:-1], s, y[0])
    W1 = np.vstack([W1, [[-1.0]]])
    return W1, np.append(b1, knots[0]), np.column_stack([W2, [[-s[0]]]]), b2


# ---- tent_layers -----------------------------------------------------------------------------


def _tents(first, middle, last, k, bias=-0.5):
    b = np.array([0.0, bias])
    layers = [(np.array(first), b)]
    layers += [(np.array(middle), b) for _ in range(k - 1)]
    return [*layers, (np.array(last), np.zeros(1))]


@wrong("tent_layers", "One hidden layer too few.", known="one_tent_too_few")
def _(k):
    return _tents([[1.0], [1.0]], [[2.0, -4.0], [2.0, -4.0]], [[2.0, -4.0]], max(k - 1, 1))


@wrong("tent_layers", "The matrix between two tents is transposed.", known="transposes_the_weight")
def _(k):
    return _tents([[1.0], [1.0]], [[2.0, 2.0], [-4.0, -4.0]], [[2.0, -4.0]], k)


@wrong(
    "tent_layers",
    "The output layer adds the units without 2 and −4.",
    known="the_last_row_is_plain",
)
def _(k):
    return _tents([[1.0], [1.0]], [[2.0, -4.0], [2.0, -4.0]], [[1.0, -1.0]], k)


@wrong("tent_layers", "The kink is at 1, with the bias −1.", known="turns_at_one")
def _(k):
    return _tents([[1.0], [1.0]], [[2.0, -4.0], [2.0, -4.0]], [[2.0, -4.0]], k, bias=-1.0)


@wrong(
    "tent_layers",
    "Multiplies by 2 and −4 before the bias, in the units themselves.",
    known="weighs_before_the_switch",
)
def _(k):
    return _tents([[2.0], [-4.0]], [[2.0, 2.0], [-4.0, -4.0]], [[1.0, 1.0]], k)


# ---- second_largest --------------------------------------------------------------------------


@wrong("second_largest", "Returns the largest.", known="the_largest")
def _(X, relu):
    top = X[:, 0]
    for j in range(1, 8):
        top = top + relu(X[:, j] - top)
    return top


@wrong(
    "second_largest", "Starts the second at 0, so negative rows go wrong.", known="starts_at_zero"
)
def _(X, relu):
    top, second = X[:, 0], 0 * X[:, 0]
    for j in range(1, 8):
        low = X[:, j] - relu(X[:, j] - top)
        top = top + relu(X[:, j] - top)
        second = second + relu(low - second)
    return second


@wrong(
    "second_largest",
    "The loser of the final only: the second may lose earlier.",
    known="loser_of_the_final_from_above",
)
def _(X, relu):
    while X.shape[1] > 2:
        a, b = X[:, ::2], X[:, 1::2]
        X = a + relu(b - a)
    return X[:, 0] - relu(X[:, 0] - X[:, 1])


@wrong(
    "second_largest",
    "Forgets that what was the largest becomes the second.",
    known="forgets_the_old_largest",
)
def _(X, relu):
    a, b = X[:, 0], X[:, 1]
    top, second = a + relu(b - a), a - relu(a - b)
    for j in range(2, 8):
        below = X[:, j] - relu(X[:, j] - second)
        top = top + relu(X[:, j] - top)
        second = second + relu(below - second)
    return second


@wrong("second_largest", "The second smallest.")
def _(X, relu):
    def larger(a, b):
        return a + relu(b - a)

    Z = -X
    top, second = larger(Z[:, 0], Z[:, 1]), -larger(-Z[:, 0], -Z[:, 1])
    for j in range(2, 8):
        second = larger(second, -larger(-Z[:, j], -top))
        top = larger(top, Z[:, j])
    return -second


# ---- best_price ------------------------------------------------------------------------------


def _search(Phi, Y, Phi_held, Y_held, prices, *, centre=True, charge=1.0, on="held", worst=False):
    m, t = (Phi.mean(axis=0), Y.mean(axis=0)) if centre else (0 * Phi[0], 0 * Y[0])
    found = []
    for lam in prices:
        gram = (Phi - m).T @ (Phi - m) + charge * lam * np.eye(Phi.shape[1])
        A = np.linalg.solve(gram, (Phi - m).T @ (Y - t))
        Z, goal = (Phi_held, Y_held) if on == "held" else (Phi, Y)
        found.append((float((((Z - m) @ A + t - goal) ** 2).mean()), lam))
    error, lam = max(found) if worst else min(found)
    return lam, error


@wrong("best_price", "Has no bias at all.", known="forgets_the_bias")
def _(Phi, Y, Phi_held, Y_held, prices):
    return _search(Phi, Y, Phi_held, Y_held, prices, centre=False)


@wrong(
    "best_price",
    "Charges the bias too: a column of ones in the features.",
    known="charges_the_bias",
)
def _(Phi, Y, Phi_held, Y_held, prices):
    one, held = np.ones((len(Phi), 1)), np.ones((len(Phi_held), 1))
    return _search(
        np.hstack([Phi, one]), Y, np.hstack([Phi_held, held]), Y_held, prices, centre=False
    )


@wrong(
    "best_price",
    "Chooses by the error on the examples that were fitted.",
    known="compares_on_the_fitted",
)
def _(Phi, Y, Phi_held, Y_held, prices):
    return _search(Phi, Y, Phi_held, Y_held, prices, on="fitted")


@wrong("best_price", "Adds n times λ, as if the error were a mean.", known="price_for_a_mean")
def _(Phi, Y, Phi_held, Y_held, prices):
    return _search(Phi, Y, Phi_held, Y_held, prices, charge=len(Phi))


@wrong("best_price", "Returns the error first.", known="returns_the_error_first")
def _(Phi, Y, Phi_held, Y_held, prices):
    lam, error = _search(Phi, Y, Phi_held, Y_held, prices)
    return error, lam


# ---- adder -----------------------------------------------------------------------------------


def _adder(thresholds_high, thresholds_low, out, biases):
    W1 = [[2, 1, 2, 1]] * len(thresholds_high) + [[0, 1, 0, 1]] * len(thresholds_low)
    b1 = [-t for t in (*thresholds_high, *thresholds_low)]
    return (
        np.array(W1, dtype=float),
        np.array(b1, dtype=float),
        np.array(out, dtype=float),
        np.array(biases, dtype=float),
    )


_OUT = [[0, 1, 0, 0, 0], [1, -1, 1, 0, 0], [0, 0, 0, 1, -1]]


@wrong("adder", "The carry of the low bits is forgotten: s1 is the XOR of the high bits.")
def _():
    W1 = [[2, 1, 2, 1], [1, 0, 1, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]]
    out = [[1, 0, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 0, 1, -1]]
    return (
        np.array(W1, dtype=float),
        np.array([-4.0, -1, -2, -1, -2]),
        np.array(out, dtype=float),
        np.array([-1.0, -1, -1]),
    )


@wrong("adder", "The outputs are in the reverse order.", known="lowest_bit_first")
def _():
    return _adder((2, 4, 6), (1, 2), _OUT[::-1], (-1, -1, -1))


@wrong("adder", "The output biases are 0, so a score of 0 says 1.", known="outputs_always_on")
def _():
    return _adder((2, 4, 6), (1, 2), _OUT, (0, 0, 0))


@wrong("adder", "The middle bit misses the sum 6.", known="middle_bit_stays_off")
def _():
    return _adder((2, 4), (1, 2), [[0, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, -1]], (-1, -1, -1))


@wrong("adder", "Reads the inputs with the low bits first.")
def _():
    W1, b1, W2, b2 = _adder((2, 4, 6), (1, 2), _OUT, (-1, -1, -1))
    return W1[:, [1, 0, 3, 2]], b1, W2, b2
