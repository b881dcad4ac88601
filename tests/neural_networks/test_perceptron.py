"""The perceptron against scikit-learn, linear programming and the arithmetic of its document."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_digits
from sklearn.linear_model import Perceptron as SklearnPerceptron

from chainrule.neural_networks.perceptron import (
    AdalineGD,
    Perceptron,
    add_bias_column,
    is_linearly_separable,
    kernel_perceptron,
    novikoff_bound,
    sigmoid,
    signed_distance,
    step,
)

SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
AND = np.array([-1.0, -1.0, -1.0, 1.0])
XOR = np.array([-1.0, 1.0, 1.0, -1.0])


def separable(rng, n=23, d=3, margin=0.05):
    normal = rng.normal(size=d + 1)
    normal[-1] *= 0.2
    normal /= np.linalg.norm(normal)
    X = rng.normal(size=(20 * n, d))
    scores = add_bias_column(X) @ normal
    keep = np.flatnonzero(np.abs(scores) > margin)[:n]
    return X[keep], np.sign(scores[keep]), normal


def test_and_takes_eighteen_updates():
    neuron = Perceptron(2)
    history = neuron.fit(SQUARE, AND)
    assert neuron.updates == sum(history) == 18
    assert neuron.weights.tolist() == [3.0, 2.0]
    assert neuron.bias == -4.0
    assert history[-1] == 0


@pytest.mark.parametrize("seed", range(20))
def test_weights_and_update_count_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    X, y, _ = separable(rng)
    neuron = Perceptron(3)
    history = neuron.fit(X, y, max_epochs=500)
    peer = SklearnPerceptron(shuffle=False, eta0=1.0, tol=None, max_iter=len(history)).fit(X, y)
    np.testing.assert_allclose(neuron.weights, peer.coef_[0], rtol=1e-12, atol=1e-12)
    assert neuron.bias == pytest.approx(peer.intercept_[0])
    assert history[-1] == 0
    assert np.array_equal(neuron.predict(X), y)


def test_novikoff_bound_holds_on_200_random_sets():
    for seed in range(200):
        X, y, normal = separable(np.random.default_rng(seed), n=13)
        neuron = Perceptron(3)
        assert neuron.fit(X, y, max_epochs=10_000)[-1] == 0
        assert neuron.updates <= novikoff_bound(add_bias_column(X), y, normal)


def test_novikoff_bound_is_reached_by_one_example():
    assert novikoff_bound(np.array([[3.0, 4.0]]), np.array([1.0]), np.array([3.0, 4.0])) == 1.0


def test_novikoff_bound_wants_a_separator():
    with pytest.raises(ValueError, match="must separate"):
        novikoff_bound(SQUARE, XOR, np.array([1.0, 1.0]))


def test_average_is_the_mean_of_every_visited_weight_vector(rng):
    X, y, _ = separable(rng, n=17)
    neuron = Perceptron(3)
    weights, bias, visited = np.zeros(3), 0.0, []
    for _ in range(4):
        for features, label in zip(X, y, strict=True):
            visited.append(np.append(weights, bias))
            if label * (features @ weights + bias) <= 0:
                weights, bias = weights + label * features, bias + label
    neuron.fit(X, y, max_epochs=1)
    for _ in range(3):
        neuron.fit(X, y, max_epochs=1)
    after_each_visit = [*visited[1:], np.append(weights, bias)]
    mean = neuron.averaged()
    np.testing.assert_allclose(np.append(mean.weights, mean.bias), np.mean(after_each_visit, 0))


def test_averaging_does_not_hurt_on_digits():
    data = load_digits()
    keep = np.isin(data.target, (3, 8))
    X, y = data.data[keep] / 16, np.where(data.target[keep] == 3, -1.0, 1.0)
    last, mean = [], []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(X))
        train, test = order[:180], order[180:]
        neuron = Perceptron(64)
        neuron.fit(X[train], y[train], max_epochs=3)
        last.append(np.mean(neuron.predict(X[test]) == y[test]))
        mean.append(np.mean(neuron.averaged().predict(X[test]) == y[test]))
    assert np.mean(mean) >= np.mean(last)
    assert np.mean(last) > 0.9


def test_margin_and_signed_distance():
    distances = signed_distance(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([3.0, 4.0]), -5.0)
    np.testing.assert_allclose(distances, [-1.0, 4.0])
    neuron = Perceptron(2)
    neuron.weights, neuron.bias = np.array([3.0, 4.0]), -5.0
    assert neuron.margin(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([-1, 1])) == 1.0
    with pytest.raises(ValueError, match="no boundary"):
        signed_distance(SQUARE, np.zeros(2), 1.0)


def test_fourteen_of_sixteen_boolean_functions_are_separable():
    verdicts = {
        labels: is_linearly_separable(SQUARE, np.array(labels, dtype=float), max_epochs=1)
        for labels in product((-1, 1), repeat=4)
    }
    assert sum(verdicts.values()) == 14
    assert not verdicts[(-1, 1, 1, -1)]
    assert not verdicts[(1, -1, -1, 1)]


@pytest.mark.parametrize("seed", range(60))
def test_separability_agrees_with_linear_programming(seed):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 9)), int(rng.integers(1, 4))
    X = rng.integers(-2, 3, size=(n, d)).astype(float)
    y = rng.choice([-1.0, 1.0], size=n)
    constraints = -y[:, None] * add_bias_column(X)
    feasible = linprog(
        np.zeros(d + 1), A_ub=constraints, b_ub=-np.ones(n), bounds=[(None, None)] * (d + 1)
    ).success
    assert is_linearly_separable(X, y, max_epochs=2) == feasible
    assert is_linearly_separable(X, y) == feasible


def test_touching_sets_are_not_separable():
    """The only dividing point, 0, belongs to both classes."""
    X, y = np.array([[1.0], [-1.0], [0.0], [0.0]]), np.array([1.0, -1.0, 1.0, -1.0])
    assert is_linearly_separable(X[:3], y[:3])
    assert not is_linearly_separable(X, y)


def test_separability_says_when_it_cannot_decide(rng):
    X = rng.normal(size=(40, 5))
    with pytest.raises(ValueError, match="undecided after 1 epochs"):
        is_linearly_separable(X, rng.choice([-1.0, 1.0], size=40), 1, max_subsets=10)


def test_kernel_perceptron_with_the_linear_kernel_is_the_perceptron(rng):
    X, y, _ = separable(rng)
    features = add_bias_column(X)
    neuron = Perceptron(3)
    neuron.fit(X, y, max_epochs=500)
    counts = kernel_perceptron(features @ features.T, y, max_epochs=500)
    assert counts.sum() == neuron.updates
    np.testing.assert_allclose((counts * y) @ features, np.append(neuron.weights, neuron.bias))


def test_kernel_perceptron_solves_xor():
    K = (1 + SQUARE @ SQUARE.T) ** 2
    counts = kernel_perceptron(K, XOR)
    assert np.array_equal(np.sign(K @ (counts * XOR)), XOR)
    assert Perceptron(2).fit(SQUARE, XOR, max_epochs=1000)[-1] > 0


def test_adaline_reaches_least_squares(rng):
    X, y = rng.normal(size=(31, 3)), rng.choice([-1.0, 1.0], size=31)
    neuron = AdalineGD(lr=0.3)
    losses = neuron.fit(X, y, epochs=500)
    solution = np.linalg.lstsq(add_bias_column(X), y, rcond=None)[0]
    np.testing.assert_allclose(np.append(neuron.weights, neuron.bias), solution, rtol=1e-9)
    assert losses[0] == 0.5
    assert all(after <= before + 1e-15 for before, after in pairwise(losses))
    assert np.array_equal(neuron.predict(X), np.where(neuron.score(X) >= 0, 1, -1))


def test_adaline_first_step_by_hand():
    neuron = AdalineGD(lr=0.5)
    neuron.fit(np.array([[2.0], [0.0]]), np.array([1.0, -1.0]), epochs=1)
    assert neuron.weights.tolist() == [0.5]
    assert neuron.bias == 0.0
    with pytest.raises(ValueError, match="positive"):
        AdalineGD(lr=0.0)


def test_activations():
    assert step(np.array([-0.1, 0.0, 2.0])).tolist() == [0.0, 1.0, 1.0]
    np.testing.assert_allclose(
        sigmoid(np.array([-1000.0, 0.0, np.log(3), 1000.0])), [0, 0.5, 0.75, 1], atol=1e-15
    )


def test_bad_examples_are_named():
    with pytest.raises(ValueError, match="labels must be -1 or"):
        Perceptron(2).fit(SQUARE, np.array([0.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="3 features"):
        Perceptron(3).fit(SQUARE, AND)
