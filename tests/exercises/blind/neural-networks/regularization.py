"""Blind set of neural-networks/regularization: wrong answers written from the stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong

# ---- two_norms -------------------------------------------------------------------------------


def _layer(x, eps):
    mean = x.mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + eps)


def _rms(x, eps):
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


@wrong("two_norms", "Divides the sum of squares by d − 1.", known="with_the_unbiased_variance")
def _(x, eps):
    mean = x.mean(axis=1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=1, ddof=1, keepdims=True) + eps), _rms(x, eps)


@wrong("two_norms", "Adds eps to the deviation, outside of the root.", known="eps_beside_the_root")
def _(x, eps):
    mean = x.mean(axis=1, keepdims=True)
    layer = (x - mean) / (x.std(axis=1, keepdims=True) + eps)
    return layer, x / (np.sqrt((x**2).mean(axis=1, keepdims=True)) + eps)


@wrong("two_norms", "Normalizes the columns: batch normalization.", known="down_the_columns")
def _(x, eps):
    return _layer(x.T, eps).T, _rms(x.T, eps).T


@wrong("two_norms", "RMSNorm takes off the mean too.", known="rms_without_the_mean")
def _(x, eps):
    mean = x.mean(axis=1, keepdims=True)
    return _layer(x, eps), (x - mean) / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)


@wrong(
    "two_norms",
    "RMSNorm divides by the length: the sum of squares, not their mean.",
    known="by_the_length",
)
def _(x, eps):
    return _layer(x, eps), x / np.sqrt((x**2).sum(axis=1, keepdims=True) + eps)


# ---- layer_norm_backward ---------------------------------------------------------------------


def _parts(x, eps):
    mean = x.mean(axis=1, keepdims=True)
    s = np.sqrt(x.var(axis=1, keepdims=True) + eps)
    return (x - mean) / s, s


def _back(h, n, s):
    return (h - h.mean(axis=1, keepdims=True) - n * (h * n).mean(axis=1, keepdims=True)) / s


@wrong(
    "layer_norm_backward", "Mean and deviation are taken for constants.", known="both_held_constant"
)
def _(x, weight, g, eps):
    n, s = _parts(x, eps)
    return g * weight / s, (g * n).sum(axis=0), g.sum(axis=0)


@wrong(
    "layer_norm_backward",
    "The deviation is taken for a constant, the mean is not.",
    known="deviation_held_constant",
)
def _(x, weight, g, eps):
    n, s = _parts(x, eps)
    h = g * weight
    return (h - h.mean(axis=1, keepdims=True)) / s, (g * n).sum(axis=0), g.sum(axis=0)


@wrong(
    "layer_norm_backward",
    "Means over the rows for the gradients of scale and shift.",
    known="averages_over_rows",
)
def _(x, weight, g, eps):
    n, s = _parts(x, eps)
    return _back(g * weight, n, s), (g * n).mean(axis=0), g.mean(axis=0)


@wrong(
    "layer_norm_backward", "Leaves the weight out of the gradient of x.", known="forgets_the_weight"
)
def _(x, weight, g, eps):
    n, s = _parts(x, eps)
    return _back(g, n, s), (g * n).sum(axis=0), g.sum(axis=0)


@wrong(
    "layer_norm_backward",
    "The gradient of the weight with x, not with the normalized x.",
    known="weight_with_the_raw_input",
)
def _(x, weight, g, eps):
    n, s = _parts(x, eps)
    return _back(g * weight, n, s), (g * x).sum(axis=0), g.sum(axis=0)


# ---- shrink_factors --------------------------------------------------------------------------


def _singular(X):
    return np.linalg.svd(X, compute_uv=False)


@wrong("shrink_factors", "The singular value without its square.", known="forgets_the_square")
def _(X, lam):
    s = _singular(X)
    return s / (s + lam)


@wrong(
    "shrink_factors",
    "s/(s² + lam): the factor of y's coordinate, not against least squares.",
    known="against_the_data",
)
def _(X, lam):
    s = _singular(X)
    return s / (s**2 + lam)


@wrong(
    "shrink_factors",
    "Takes the squared singular values for those of XᵀX's square.",
    known="squares_twice",
)
def _(X, lam):
    s = _singular(X.T @ X)
    return s**2 / (s**2 + lam)


@wrong("shrink_factors", "The share that is lost, lam/(s² + lam).", known="share_that_is_lost")
def _(X, lam):
    s = _singular(X)
    return lam / (s**2 + lam)


@wrong(
    "shrink_factors",
    "The penalty multiplied by the number of examples.",
    known="penalty_for_each_example",
)
def _(X, lam):
    s = _singular(X)
    return s**2 / (s**2 + len(X) * lam)


# ---- inverted_dropout ------------------------------------------------------------------------


@wrong("inverted_dropout", "Does not divide by 1 − p.", known="not_rescaled")
def _(x, p, kept_draws, training):
    return x * (kept_draws >= p) if training else x


@wrong("inverted_dropout", "Divides by p.", known="divides_by_p")
def _(x, p, kept_draws, training):
    return x * (kept_draws >= p) / p if training and p > 0 else x


@wrong("inverted_dropout", "Multiplies by 1 − p in evaluation as well.", known="rescales_twice")
def _(x, p, kept_draws, training):
    return x * (kept_draws >= p) / (1 - p) if training else x * (1 - p)


@wrong("inverted_dropout", "Keeps the entries whose draw is below p.", known="keeps_the_dropped")
def _(x, p, kept_draws, training):
    return x * (kept_draws < p) / (1 - p) if training else x


@wrong(
    "inverted_dropout",
    "Plain dropout: rescales in evaluation, not in training.",
    known="rescales_in_evaluation",
)
def _(x, p, kept_draws, training):
    return x * (kept_draws >= p) if training else x * (1 - p)


# ---- folded ----------------------------------------------------------------------------------


@wrong("folded", "The running mean is not scaled, the old bias is.", known="mean_not_scaled")
def _(W, b, running_mean, running_var, weight, bias, eps):
    factor = weight / np.sqrt(running_var + eps)
    return W * factor[:, None], b * factor - running_mean + bias


@wrong("folded", "The old bias is not scaled.", known="old_bias_not_scaled")
def _(W, b, running_mean, running_var, weight, bias, eps):
    factor = weight / np.sqrt(running_var + eps)
    return W * factor[:, None], b - running_mean * factor + bias


@wrong("folded", "Divides by the variance, without the root.", known="divides_by_the_variance")
def _(W, b, running_mean, running_var, weight, bias, eps):
    factor = weight / (running_var + eps)
    return W * factor[:, None], (b - running_mean) * factor + bias


@wrong("folded", "Forgets the old bias.", known="forgets_the_old_bias")
def _(W, b, running_mean, running_var, weight, bias, eps):
    factor = weight / np.sqrt(running_var + eps)
    return W * factor[:, None], bias - running_mean * factor


@wrong("folded", "Leaves the running mean out.", known="forgets_the_mean")
def _(W, b, running_mean, running_var, weight, bias, eps):
    factor = weight / np.sqrt(running_var + eps)
    return W * factor[:, None], b * factor + bias


# ---- error_by_width --------------------------------------------------------------------------


def _widths(X, y, X_fresh, y_fresh, directions, widths, fit=None, act=None, result=None):
    act = act or (lambda z: np.maximum(z, 0))
    fit = fit or (lambda F, y: np.linalg.pinv(F) @ y)
    result = result or (lambda e: (e**2).mean())
    errors = []
    for h in widths:
        V = directions[:, :h]
        w = fit(act(X @ V), y)
        errors.append(result(act(X_fresh @ V) @ w - y_fresh))
    return np.array(errors)


@wrong("error_by_width", "The error on the examples that were fitted.", known="on_the_training_set")
def _(X, y, X_fresh, y_fresh, directions, widths):
    return _widths(X, y, X, y, directions, widths)


@wrong("error_by_width", "The sum of the squares instead of their mean.", known="sums_the_squares")
def _(X, y, X_fresh, y_fresh, directions, widths):
    return _widths(
        X, y, X_fresh, y_fresh, directions, widths, result=lambda error: (error**2).sum()
    )


@wrong("error_by_width", "Linear features: no ReLU.", known="without_the_relu")
def _(X, y, X_fresh, y_fresh, directions, widths):
    return _widths(X, y, X_fresh, y_fresh, directions, widths, act=lambda z: z)


@wrong("error_by_width", "A small ridge penalty keeps the normal equations solvable.")
def _(X, y, X_fresh, y_fresh, directions, widths):
    def fit(F, y):
        return np.linalg.solve(F.T @ F + 1e-3 * np.eye(F.shape[1]), F.T @ y)

    return _widths(X, y, X_fresh, y_fresh, directions, widths, fit=fit)


@wrong("error_by_width", "The root of the mean square.", known="takes_the_root")
def _(X, y, X_fresh, y_fresh, directions, widths):
    return _widths(
        X, y, X_fresh, y_fresh, directions, widths, result=lambda error: np.sqrt((error**2).mean())
    )
