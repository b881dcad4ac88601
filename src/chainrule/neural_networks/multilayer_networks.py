"""Stacks of affine maps and nonlinearities whose weights are set by construction, not by training.

Taught in ``neural-networks/multilayer-networks.md``. A layer maps row vectors: ``X @ W.T + b`` with
``W`` of shape (outputs, inputs), as in PyTorch. Shape names: ``n`` examples, ``d_in`` and ``d_out``
the first and last entry of ``sizes``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import comb

import numpy as np

from chainrule.neural_networks.perceptron import sigmoid
from chainrule.shapes import Array, Float

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "count_flops",
    "count_linear_pieces",
    "count_params",
    "max_regions",
    "random_features_ridge",
    "relu_interpolator",
    "tent_network",
    "xor_network",
]

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0.0),
    "sigmoid": sigmoid,
    "step": lambda z: np.where(z >= 0, 1.0, 0.0),
    "tanh": np.tanh,
}


class MLP:
    """Affine layers with ``act`` between them and none after the last.

    ``sizes`` lists the widths from input to output. With ``rng`` the weights are Gaussian with
    variance 1/inputs and the biases zero; without it everything is zero, to be set by hand.

    Raises:
        ValueError: fewer than two sizes, a size below 1, or an unknown activation.
    """

    def __init__(
        self, sizes: Sequence[int], act: str = "relu", rng: np.random.Generator | None = None
    ):
        _check_sizes(sizes)
        if act not in ACTIVATIONS:
            raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}; got {act!r}")
        self.sizes = tuple(sizes)
        self.act = act
        self.weights = [np.zeros((n_out, n_in)) for n_in, n_out in pairwise(self.sizes)]
        self.biases = [np.zeros(width) for width in self.sizes[1:]]
        if rng is not None:
            self.weights = [rng.normal(size=W.shape) / np.sqrt(W.shape[1]) for W in self.weights]

    @classmethod
    def from_layers(cls, layers: Sequence[tuple[np.ndarray, np.ndarray]], act: str = "relu") -> MLP:
        """A network with the given (weights, bias) pairs, first layer first.

        Raises:
            ValueError: the shapes of neighbouring layers do not fit.
        """
        net = cls([layers[0][0].shape[1], *(len(W) for W, _ in layers)], act)
        for i, (W, b) in enumerate(layers):
            if W.shape != net.weights[i].shape or b.shape != net.biases[i].shape:
                raise ValueError(
                    f"layer {i}: expected weights {net.weights[i].shape} and bias "
                    f"{net.biases[i].shape}, got {W.shape} and {b.shape}"
                )
        net.weights = [np.asarray(W, dtype=float) for W, _ in layers]
        net.biases = [np.asarray(b, dtype=float) for _, b in layers]
        return net

    def forward(
        self, X: Float[Array, "n d_in"]
    ) -> tuple[Float[Array, "n d_out"], list[np.ndarray]]:
        """The output, and the input of every layer: what a backward pass would need.

        Equation: neural-networks/multilayer-networks.md#eq-forward-pass

        Raises:
            ValueError: the examples have the wrong number of features.
        """
        if X.shape[1] != self.sizes[0]:
            raise ValueError(f"expected {self.sizes[0]} features an example, got X {X.shape}")
        phi = ACTIVATIONS[self.act]
        cache = [X]
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            cache.append(phi(cache[-1] @ W.T + b))
        return cache[-1] @ self.weights[-1].T + self.biases[-1], cache

    def __call__(self, X: Float[Array, "n d_in"]) -> Float[Array, "n d_out"]:
        """The output alone."""
        return self.forward(X)[0]


def count_params(sizes: Sequence[int]) -> int:
    """Weights and biases of a network with these widths: (64, 64, 10) has 4,810.

    Equation: neural-networks/multilayer-networks.md#eq-parameter-count
    """
    _check_sizes(sizes)
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def count_flops(sizes: Sequence[int], batch: int = 1) -> int:
    """Multiplications and additions of a forward pass, activations not counted.

    A unit with n inputs multiplies n times and adds n times (n − 1 to sum, 1 for the bias).

    Equation: neural-networks/multilayer-networks.md#eq-flop-count
    """
    _check_sizes(sizes)
    return sum(2 * batch * n_in * n_out for n_in, n_out in pairwise(sizes))


def xor_network() -> MLP:
    """Two ReLU units that compute XOR: relu(x₁ + x₂) − 2·relu(x₁ + x₂ − 1).

    Equation: neural-networks/multilayer-networks.md#eq-xor
    """
    hidden = np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([0.0, -1.0])
    output = np.array([[1.0, -2.0]]), np.array([0.0])
    return MLP.from_layers([hidden, output])


def relu_interpolator(f: Callable[[np.ndarray], np.ndarray], knots: Float[Array, "knots"]) -> MLP:
    """One hidden ReLU unit a knot: the network equals ``f`` at the knots, is linear between them.

    Left of the first and right of the last knot it is constant. Unit i switches on at knot i and
    its output weight is the change of slope there.

    Equation: neural-networks/multilayer-networks.md#eq-relu-interpolator

    Raises:
        ValueError: fewer than two knots, or not strictly increasing.
    """
    if len(knots) < 2 or np.any(np.diff(knots) <= 0):
        raise ValueError(f"knots must be at least two and strictly increasing, got {knots}")
    values = np.asarray(f(knots), dtype=float)
    slopes = np.concatenate([[0.0], np.diff(values) / np.diff(knots), [0.0]])
    hidden = np.ones((len(knots), 1)), -np.asarray(knots, dtype=float)
    output = np.diff(slopes)[None, :], values[:1]
    return MLP.from_layers([hidden, output])


def tent_network(k: int) -> MLP:
    """The tent map 2·relu(x) − 4·relu(x − ½) composed k times: 2ᵏ pieces on [0, 1] from 2k units.

    Equation: neural-networks/multilayer-networks.md#eq-tent-map
    Source: Telgarsky, Benefits of depth in neural networks, 2016, arXiv:1602.04485.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"tent_network: k must be at least 1, got {k}")
    switches = np.array([0.0, -0.5])
    tent = np.array([[2.0, -4.0]])
    first = np.ones((2, 1)), switches
    again = np.ones((2, 1)) @ tent, switches
    return MLP.from_layers([first, *[again] * (k - 1), (tent, np.zeros(1))])


def count_linear_pieces(net: MLP, lo: float, hi: float, tol: float = 1e-9) -> int:
    """Pieces of different slope of a ReLU network with one input, on the interval [lo, hi].

    Works layer by layer. Between two known breakpoints every pre-activation is linear, so its
    values at the two ends say where it crosses zero: the next breakpoints. Neighbouring pieces
    whose slopes agree (within ``tol`` of the largest slope) count once.

    Raises:
        ValueError: the network is not ReLU with one input, or the interval is empty.
    """
    if net.act != "relu" or net.sizes[0] != 1:
        raise ValueError(
            f"expected a ReLU network with one input, got act={net.act!r}, sizes={net.sizes}"
        )
    if not lo < hi:
        raise ValueError(f"expected lo < hi, got [{lo}, {hi}]")
    points = np.array([lo, hi])
    for depth in range(1, len(net.weights)):
        inputs = net.forward(points[:, None])[1][depth - 1]
        z = inputs @ net.weights[depth - 1].T + net.biases[depth - 1]
        left, right = z[:-1], z[1:]
        interval, unit = np.nonzero(left * right < 0)
        fraction = left[interval, unit] / (left[interval, unit] - right[interval, unit])
        crossings = points[interval] + fraction * (points[interval + 1] - points[interval])
        points = np.unique(np.concatenate([points, crossings]))
        points = points[np.diff(points, prepend=-np.inf) > 1e-12 * (hi - lo)]
    slopes = np.diff(net(points[:, None]), axis=0) / np.diff(points)[:, None]
    change = np.max(np.abs(np.diff(slopes, axis=0)), axis=1)
    return 1 + int(np.sum(change > tol * np.max(np.abs(slopes))))


def max_regions(n_inputs: int, n_hidden: int) -> int:
    """The most pieces into which one hidden layer of ReLU units can cut its input space.

    Σ C(n_hidden, j) for j up to n_inputs: the regions of hyperplanes in general position.

    Equation: neural-networks/multilayer-networks.md#eq-region-count
    Source: Zaslavsky 1975; for deep networks Montúfar et al. 2014, arXiv:1402.1869.
    """
    return sum(comb(n_hidden, j) for j in range(n_inputs + 1))


def random_features_ridge(
    X: Float[Array, "n d_in"],
    Y: Float[Array, "n d_out"],
    H: int,
    lam: float,
    rng: np.random.Generator,
) -> MLP:
    """A network with H fixed random ReLU features and an output layer fitted by ridge regression.

    Minimizes ‖features·Wᵀ + b − Y‖² + lam·‖W‖²; the output bias is not penalized, which centring
    the features and the targets achieves.

    Equation: neural-networks/multilayer-networks.md#eq-ridge
    Source: Rahimi and Recht, Random features for large-scale kernel machines, 2007.

    Raises:
        ValueError: ``lam`` is not positive.
    """
    if lam <= 0:
        raise ValueError(f"random_features_ridge: lam must be positive, got {lam}")
    net = MLP([X.shape[1], H, Y.shape[1]], rng=rng)
    net.biases[0] = rng.normal(size=H) / np.sqrt(X.shape[1])
    features = net.forward(X)[1][1]
    mean, target = features.mean(axis=0), Y.mean(axis=0)
    centred = features - mean
    gram = centred.T @ centred + lam * np.eye(H)
    net.weights[1] = np.linalg.solve(gram, centred.T @ (Y - target)).T
    net.biases[1] = target - net.weights[1] @ mean
    return net


def _check_sizes(sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two widths of at least 1, got {tuple(sizes)}")
