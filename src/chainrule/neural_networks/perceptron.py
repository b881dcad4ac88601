"""The perceptron: one neuron, the rule that trains it, and what no single neuron can do.

Taught in ``neural-networks/perceptron.md``. Labels are −1 and +1 throughout. Shape names:
``n`` examples, ``d`` features of one example.
"""

from __future__ import annotations

from itertools import combinations, islice
from math import comb

import numpy as np

from chainrule.shapes import Array, Float, Int, Num

__all__ = [
    "AdalineGD",
    "Perceptron",
    "add_bias_column",
    "is_linearly_separable",
    "kernel_perceptron",
    "novikoff_bound",
    "sigmoid",
    "signed_distance",
    "step",
]


def step(score: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The threshold of McCulloch and Pitts: 1 where the score is at least 0, else 0."""
    return np.where(score >= 0, 1.0, 0.0)


def sigmoid(score: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The smooth step 1 / (1 + exp(−score)), in a form that neither overflows nor rounds to 0.

    With z = exp(−|score|) it is 1/(1 + z) on the right and z/(1 + z) on the left.
    """
    z = np.exp(-np.abs(score))
    return np.asarray(np.where(score < 0, z, 1) / (1 + z))


def signed_distance(
    X: Float[Array, "n d"], weights: Float[Array, "d"], bias: float
) -> Float[Array, "n"]:
    """Distance of each point to the boundary, positive on the side that the weights point to.

    Equation: neural-networks/perceptron.md#eq-signed-distance

    Raises:
        ValueError: the weights are all zero, so there is no boundary.
    """
    length = np.linalg.norm(weights)
    if length == 0:
        raise ValueError("signed_distance: all weights are 0, so there is no boundary")
    return (X @ weights + bias) / length


def add_bias_column(X: Float[Array, "n d"]) -> Float[Array, "n d_plus_1"]:
    """Append a feature that is always 1: its weight is the bias."""
    return np.column_stack([X, np.ones(len(X), dtype=X.dtype)])


class Perceptron:
    """A linear classifier trained by Rosenblatt's rule; it starts from zero weights.

    Source: Rosenblatt, The Perceptron, 1958.
    """

    def __init__(self, n_features: int):
        self.weights = np.zeros(n_features)
        self.bias = 0.0
        self.updates = 0
        self._weight_drift = np.zeros(n_features)
        self._bias_drift = 0.0
        self._seen = 0

    def fit(self, X: Float[Array, "n d"], y: Num[Array, "n"], max_epochs: int = 100) -> list[int]:
        """Cycle through the examples until an epoch makes no mistake; mistakes per epoch.

        A score of exactly 0 counts as a mistake, so the zero vector learns. The last entry is
        0 if and only if the data were separated within ``max_epochs``.

        Equation: neural-networks/perceptron.md#eq-perceptron-rule

        Raises:
            ValueError: a label is not −1 or +1, or the sizes do not agree.
        """
        _check_examples(X, y, len(self.weights))
        history = []
        for _ in range(max_epochs):
            mistakes = 0
            for features, label in zip(X, y, strict=True):
                if label * (features @ self.weights + self.bias) <= 0:
                    self._update(features, float(label))
                    mistakes += 1
                self._seen += 1
            history.append(mistakes)
            if mistakes == 0:
                break
        return history

    def _update(self, features: Float[Array, "d"], label: float) -> None:
        self.weights = self.weights + label * features
        self.bias += label
        self._weight_drift += self._seen * label * features
        self._bias_drift += self._seen * label
        self.updates += 1

    def averaged(self) -> Perceptron:
        """The perceptron whose weights are the mean over all examples visited so far.

        An update made after ``t`` examples is missing from the first ``t`` of the averaged
        vectors, so the mean is the last vector minus the sum of t·update, over the count.

        Equation: neural-networks/perceptron.md#eq-averaged-perceptron
        Source: Freund and Schapire, Large margin classification using the perceptron
        algorithm, 1999.
        """
        mean = Perceptron(len(self.weights))
        seen = max(self._seen, 1)
        mean.weights = self.weights - self._weight_drift / seen
        mean.bias = self.bias - self._bias_drift / seen
        return mean

    def score(self, X: Float[Array, "n d"]) -> Float[Array, "n"]:
        """The score w·x + b of each example."""
        return X @ self.weights + self.bias

    def predict(self, X: Float[Array, "n d"]) -> Float[Array, "n"]:
        """−1 or +1 for each example; a score of 0 counts as +1."""
        return np.where(self.score(X) >= 0, 1.0, -1.0)

    def margin(self, X: Float[Array, "n d"], y: Num[Array, "n"]) -> float:
        """The smallest signed distance, counted positive on the right side.

        Equation: neural-networks/perceptron.md#eq-margin
        """
        return float(np.min(y * signed_distance(X, self.weights, self.bias)))


def kernel_perceptron(
    K: Float[Array, "n n"], y: Num[Array, "n"], max_epochs: int = 100
) -> Int[Array, "n"]:
    """How often each example was a mistake, when every dot product is read from ``K``.

    The score of an example with kernel row k is Σ counts·y·k: the weights are never formed.

    Equation: neural-networks/perceptron.md#eq-kernel-perceptron
    Source: Freund and Schapire 1999.
    """
    counts = np.zeros(len(y), dtype=np.int64)
    for _ in range(max_epochs):
        mistakes = 0
        for i, label in enumerate(y):
            if label * (K[i] @ (counts * y)) <= 0:
                counts[i] += 1
                mistakes += 1
        if mistakes == 0:
            break
    return counts


class AdalineGD:
    """A neuron trained by gradient descent on ½·mean((w·x + b − y)²), before any threshold.

    Source: Widrow and Hoff, Adaptive switching circuits, 1960.

    Raises:
        ValueError: the learning rate is not positive.
    """

    def __init__(self, lr: float = 0.01):
        if lr <= 0:
            raise ValueError(f"AdalineGD: the learning rate must be positive, got {lr}")
        self.lr = lr
        self.weights = np.zeros(0)
        self.bias = 0.0

    def fit(self, X: Float[Array, "n d"], y: Num[Array, "n"], epochs: int = 100) -> list[float]:
        """Full-batch gradient steps from zero weights; the loss before each step.

        Equation: neural-networks/perceptron.md#eq-delta-rule
        """
        self.weights = np.zeros(X.shape[1])
        self.bias = 0.0
        losses = []
        for _ in range(epochs):
            error = self.score(X) - y
            losses.append(0.5 * float(np.mean(error**2)))
            self.weights = self.weights - self.lr * (X.T @ error) / len(X)
            self.bias -= self.lr * float(np.mean(error))
        return losses

    def score(self, X: Float[Array, "n d"]) -> Float[Array, "n"]:
        """The score w·x + b of each example."""
        return X @ self.weights + self.bias

    def predict(self, X: Float[Array, "n d"]) -> Float[Array, "n"]:
        """−1 or +1 for each example; a score of 0 counts as +1."""
        return np.where(self.score(X) >= 0, 1.0, -1.0)


def novikoff_bound(X: Float[Array, "n d"], y: Num[Array, "n"], w_star: Float[Array, "d"]) -> float:
    """The most updates (R/γ)² that a perceptron without bias can make on separable data.

    R is the longest example, γ the margin of ``w_star``. For a perceptron with bias, append
    the bias to ``w_star`` and pass ``add_bias_column(X)``.

    Equation: neural-networks/perceptron.md#eq-novikoff
    Source: Novikoff, On convergence proofs on perceptrons, 1962.

    Raises:
        ValueError: ``w_star`` does not separate the examples.
    """
    gamma = float(np.min(y * (X @ w_star)) / np.linalg.norm(w_star))
    if not gamma > 0:
        raise ValueError(
            f"novikoff_bound: w_star must separate the examples, but its margin is {gamma:.3g}"
        )
    radius = float(np.max(np.linalg.norm(X, axis=1)))
    return (radius / gamma) ** 2


def is_linearly_separable(
    X: Float[Array, "n d"],
    y: Num[Array, "n"],
    max_epochs: int = 100,
    max_subsets: int = 200_000,
) -> bool:
    """Whether some hyperplane (with bias) has all +1 strictly on one side and all −1 on the other.

    First the perceptron tries: if it stops, its weights are the proof. If it does not, all
    candidates are enumerated: if any w with y·(w·x) ≥ 1 exists, then one exists that meets this
    with equality at r independent examples, where r is the rank (a vertex of the polyhedron).

    Raises:
        ValueError: the perceptron did not stop, and there are more than ``max_subsets`` vertices
            to try.
    """
    _check_examples(X, y, X.shape[1])
    if Perceptron(X.shape[1]).fit(X, y, max_epochs)[-1] == 0:
        return True
    signed = np.unique(y[:, None] * add_bias_column(X), axis=0)
    signed = signed / np.linalg.norm(signed, axis=1, keepdims=True)
    _, sigma, directions = np.linalg.svd(signed, full_matrices=False)
    rank = int(np.sum(sigma > 1e-12 * sigma[0]))
    signed = signed @ directions[:rank].T
    subsets = comb(len(signed), rank)
    if subsets > max_subsets:
        raise ValueError(
            f"is_linearly_separable: undecided after {max_epochs} epochs, and {subsets:,} vertices "
            f"are more than max_subsets={max_subsets:,}: raise max_epochs or use fewer examples"
        )
    return _some_vertex_is_feasible(signed, rank)


def _some_vertex_is_feasible(signed: Float[Array, "n r"], rank: int) -> bool:
    """Solve signed[subset] @ w = 1 for every subset of ``rank`` rows, and test w on all rows."""
    subsets = combinations(range(len(signed)), rank)
    while chunk := list(islice(subsets, 4096)):
        corners = signed[np.array(chunk)]
        corners = corners[np.abs(np.linalg.det(corners)) > 1e-12]
        w = np.linalg.solve(corners, np.ones((*corners.shape[:2], 1)))[..., 0]
        if np.any(np.all(w @ signed.T > 1 - 1e-7, axis=1)):
            return True
    return False


def _check_examples(X: Float[Array, "n d"], y: Num[Array, "m"], n_features: int) -> None:
    if len(X) == 0 or len(X) != len(y) or X.shape[1] != n_features:
        raise ValueError(
            f"expected n > 0 examples of {n_features} features and as many labels, "
            f"got X {X.shape} and y {y.shape}"
        )
    strange = y[(y != 1) & (y != -1)]
    if strange.size:
        raise ValueError(f"labels must be -1 or +1, got {strange[0]!r}")
