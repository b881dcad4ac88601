"""Exercises of neural-networks/regularization.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close
from chainrule.neural_networks.backpropagation import Tensor, primitive
from chainrule.neural_networks.regularization import (
    BatchNorm1d,
    layer_norm,
    rms_norm,
)


@exercise(
    "Three numbers",
    difficulty=1,
    minutes=10,
    section="layer-normalization-for-transformers",
    counterpart="chainrule.neural_networks.regularization:layer_norm",
    idea=(
        "One subtracts the mean of each row and divides by the deviation; the other only "
        "divides, by the root of the mean square."
    ),
)
def two_norms(x, eps):
    """Return (layer, rms): x of shape (n, d) after layer normalization and after RMSNorm.

    No learned scale or shift. Each row is a vector of its own; eps stands inside of the root.
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    layer = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return layer, x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


@two_norms.by_package
def _(package, x, eps):
    rows, d = Tensor(x), x.shape[-1]
    return package(rows, d, eps=eps).data, rms_norm(rows, d, eps=eps).data


@two_norms.check
def one_two_three(answer, rng):
    layer, rms = answer(np.array([[1.0, 2.0, 3.0]]), 0.0)
    expect_close(
        layer, np.array([[-(1.5**0.5), 0, 1.5**0.5]]), what="layer normalization of (1, 2, 3)"
    )
    expect_close(rms, np.array([[1.0, 2, 3]]) / (14 / 3) ** 0.5, what="RMSNorm of (1, 2, 3)")


@two_norms.check
def as_the_package(answer, rng):
    x = rng.normal(size=(4, 6)) + 2
    layer, rms = answer(x, 0.3)
    expect_close(layer, layer_norm(Tensor(x), 6, eps=0.3).data, what="layer normalization")
    expect_close(rms, rms_norm(Tensor(x), 6, eps=0.3).data, what="RMSNorm")


@two_norms.mistake(
    "You divide the sum of squares by d − 1, as for a sample. Layer normalization divides by d."
)
def with_the_unbiased_variance(x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    layer = centred / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + eps)
    return layer, two_norms(x, eps)[1]


@two_norms.mistake("You normalized down the columns. Which numbers belong to one vector?")
def down_the_columns(x, eps):
    with np.errstate(all="ignore"):
        centred = x - x.mean(axis=0)
        layer = centred / np.sqrt((centred**2).mean(axis=0) + eps)
        return layer, x / np.sqrt((x**2).mean(axis=0) + eps)


@two_norms.mistake(
    "RMSNorm divides by the root of the mean square; you divided by the length of the vector."
)
def by_the_length(x, eps):
    return two_norms(x, eps)[0], x / np.sqrt((x**2).sum(axis=-1, keepdims=True) + eps)


@two_norms.mistake("You add eps after taking the root. Where does it stand?")
def eps_beside_the_root(x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    layer = centred / (x.std(axis=-1, keepdims=True) + eps)
    return layer, x / (np.sqrt((x**2).mean(axis=-1, keepdims=True)) + eps)


@two_norms.mistake("Your RMSNorm subtracts the mean. It only divides.")
def rms_without_the_mean(x, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    return two_norms(x, eps)[0], centred / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


@exercise(
    "What ridge leaves",
    difficulty=2,
    minutes=15,
    section="l1l2-weight-decay",
    because="random_features_ridge fits, and does not take its fit apart",
    idea=(
        "Look along one right singular direction, where everything is a number: least squares "
        "gives one answer, ridge another with the penalty beside the square of the singular "
        "value."
    ),
)
def shrink_factors(X, lam):
    """Return by which factor ridge shrinks each right singular direction of X, largest first.

    Against least squares, for the loss ½‖Xw − y‖² + ½·lam·‖w‖². X has at least as many rows as
    columns.
    """
    S = np.linalg.svd(X, compute_uv=False)
    return S**2 / (S**2 + lam)


@shrink_factors.check
def by_hand(answer, rng):
    expect_close(
        answer(np.diag([3.0, 1.0]), 1.0), np.array([0.9, 0.5]), what="the factors of diag(3, 1)"
    )


@shrink_factors.check
def by_fitting(answer, rng):
    X, y = rng.normal(size=(30, 5)), rng.normal(size=30)
    _, _, Vt = np.linalg.svd(X, full_matrices=False)
    ridge = np.linalg.solve(X.T @ X + 7 * np.eye(5), X.T @ y)
    measured = (Vt @ ridge) / (Vt @ np.linalg.pinv(X) @ y)
    expect_close(answer(X, 7.0), measured, rtol=1e-10, what="the factors for 30 examples")


@shrink_factors.mistake(
    "That is what the data vector u·y is multiplied by. The question is against least squares, "
    "which divides it by σ."
)
def against_the_data(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return S / (S**2 + lam)


@shrink_factors.mistake("The eigenvalues of XᵀX are the squares of the singular values.")
def forgets_the_square(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return S / (S + lam)


@shrink_factors.mistake(
    "Both terms of this loss carry the factor ½. Write the gradient down and see whether a 2 is "
    "left."
)
def with_half_the_penalty(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return S**2 / (S**2 + lam / 2)


@shrink_factors.mistake(
    "You squared once too often: the singular values of XᵀX are squares of those of X already."
)
def squares_twice(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return S**4 / (S**4 + lam)


@shrink_factors.mistake("That is the share that ridge takes away. Which share does it leave?")
def share_that_is_lost(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return lam / (S**2 + lam)


@shrink_factors.mistake(
    "You multiplied the penalty by the number of examples. Is this loss a mean or a sum?"
)
def penalty_for_each_example(X, lam):
    S = np.linalg.svd(X, compute_uv=False)
    return S**2 / (S**2 + len(X) * lam)


@exercise(
    "Drop half",
    difficulty=2,
    minutes=15,
    section="dropout",
    counterpart="chainrule.neural_networks.regularization:dropout",
    idea=(
        "Zero what is dropped, and make the rest larger, so that the mean stays what it was: a "
        "share of 1 − p carries all of it."
    ),
)
def inverted_dropout(x, p, kept_draws, training):
    """Return x after inverted dropout with probability p.

    kept_draws has x's shape, uniform on [0, 1): an entry is kept if its draw is at least p. In
    evaluation (training is False) the mean output of training is returned. p is below 1.
    """
    if not training:
        return x.copy()
    return np.where(kept_draws >= p, x / (1 - p), 0.0)


class _Drawn(np.random.Generator):
    def __init__(self, draws):
        super().__init__(np.random.PCG64())
        self.draws = draws

    def random(self, size, dtype):
        return self.draws.reshape(size)


@inverted_dropout.by_package
def _(package, x, p, kept_draws, training):
    return package(Tensor(x), p, _Drawn(kept_draws)).data if training else x.copy()


@inverted_dropout.in_package
def _(mine, x, p, rng):
    draws = rng.random(x.shape, dtype=np.float32)
    drop = primitive(lambda a: (mine(a, p, draws, True), lambda g: (mine(g, p, draws, True),)))
    return drop(x).to(x.dtype)


@inverted_dropout.check
def mean_is_kept(answer, rng):
    for p in (0.2, 0.9):
        out = np.asarray(answer(np.full(100_000, 2.0), p, rng.random(100_000), True))
        expect(abs(out.mean() - 2) < 0.1, f"the mean of 2 is {out.mean():.2f} at p = {p}")


@inverted_dropout.check
def variance_is_predicted(answer, rng):
    out = np.asarray(answer(np.full(100_000, 2.0), 0.2, rng.random(100_000), True))
    expect(
        abs(out.var() - 1) < 0.05,
        f"the variance of 2 at p = 0.2 should be p/(1 − p)·4 = 1, not {out.var():.2f}",
    )


@inverted_dropout.check
def entry_by_entry(answer, rng):
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    draws = np.array([[0.1, 0.9], [0.25, 0.2]])
    expect_close(answer(x, 0.25, draws, True), np.array([[0, 8 / 3], [4, 0]]), what="four entries")


@inverted_dropout.check
def evaluation_changes_nothing(answer, rng):
    x = rng.normal(size=(3, 4))
    expect_close(answer(x, 0.5, rng.random((3, 4)), False), x, what="the output in evaluation")


@inverted_dropout.mistake(
    "Dropped entries are 0, but the others are as they were, so the mean falls to 1 − p of what it "
    "was. Which division keeps it?"
)
def not_rescaled(x, p, kept_draws, training):
    return np.where(kept_draws >= p, x, 0.0) if training else x.copy()


@inverted_dropout.mistake("You divide by p. What share of the entries is kept?")
def divides_by_p(x, p, kept_draws, training):
    return np.where(kept_draws >= p, x / p, 0.0) if training else x.copy()


@inverted_dropout.mistake("Your function drops in evaluation too. What is training for?")
def always_drops(x, p, kept_draws, training):
    return inverted_dropout(x, p, kept_draws, True)


@inverted_dropout.mistake(
    "Training has the right mean already, and you rescale in evaluation as well. What is left to "
    "do there?"
)
def rescales_twice(x, p, kept_draws, training):
    return inverted_dropout(x, p, kept_draws, True) if training else x * (1 - p)


@inverted_dropout.mistake(
    "You keep what should be dropped. With p = 0.2, what share of the draws is below it?"
)
def keeps_the_dropped(x, p, kept_draws, training):
    return np.where(kept_draws < p, x / (1 - p), 0.0) if training else x.copy()


@inverted_dropout.mistake(
    "You rescale in evaluation, which is dropout as it was at first. Inverted means that training "
    "does it."
)
def rescales_in_evaluation(x, p, kept_draws, training):
    return np.where(kept_draws >= p, x, 0.0) if training else x * (1 - p)


@exercise(
    "Three terms",
    difficulty=3,
    minutes=25,
    section="layer-normalization-for-transformers",
    counterpart="chainrule.neural_networks.regularization:_layer_norm",
    idea=(
        "Multiply the gradient by the weight first. Then take away its mean over the row, and "
        "its part along the normalized row: these are the ways through the mean and the "
        "deviation."
    ),
)
def layer_norm_backward(x, weight, g, eps):
    """Return (x_grad, weight_grad, bias_grad) of layer normalization with a scale and a shift.

    Each row is a vector of its own, eps stands inside of the root. x and g have shape (n, d), g is
    the gradient of the output; weight has shape (d,).
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y, h = centred / s, weight * g
    through = h - h.mean(axis=-1, keepdims=True) - y * (h * y).mean(axis=-1, keepdims=True)
    return through / s, (g * y).sum(axis=0), g.sum(axis=0)


@layer_norm_backward.by_package
def _(package, x, weight, g, eps):
    _, vjp = package(weight, np.zeros_like(weight), x, d=x.shape[-1], eps=eps)
    by_weight, by_bias, by_x = vjp(g)
    return by_x, by_weight, by_bias


@layer_norm_backward.in_package
def _(mine, weight, bias, x, d, eps):
    rows = x.reshape(-1, d)
    centred = rows - rows.mean(axis=1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + eps)

    def vjp(g):
        by_x, by_weight, by_bias = mine(rows, weight, g.reshape(-1, d), eps)
        return by_weight, by_bias, by_x.reshape(x.shape)

    return (y * weight + bias).reshape(x.shape), vjp


@layer_norm_backward.check
def as_the_engine_finds(answer, rng):
    arrays = rng.normal(size=(5, 7)), rng.normal(size=7), rng.normal(size=7)
    x, weight, bias = (Tensor(a, requires_grad=True) for a in arrays)
    g = rng.normal(size=(5, 7))
    layer_norm(x, 7, weight, bias, 1e-3).backward(g.copy())
    received = answer(x.data, weight.data, g, 1e-3)
    expect_close(received[1], weight.grad, rtol=1e-8, what="the gradient of the weight")
    expect_close(received[2], bias.grad, rtol=1e-8, what="the gradient of the bias")
    expect_close(received[0], x.grad, rtol=1e-8, what="the gradient of x")


@layer_norm_backward.check
def by_differences(answer, rng):
    x, weight, g = rng.normal(size=(1, 4)), rng.normal(size=4), rng.normal(size=(1, 4))

    def loss(x):
        return float((layer_norm(Tensor(x), 4, Tensor(weight)).data * g).sum())

    h = 1e-6
    expected = [(loss(x + h * e) - loss(x - h * e)) / (2 * h) for e in np.eye(4)]
    received = np.asarray(answer(x, weight, g, 1e-5)[0])
    expect_close(received, np.array([expected]), rtol=1e-5, atol=1e-7, what="the gradient of x")


@layer_norm_backward.mistake(
    "You treat the deviation as a constant. It depends on x too: a third term is missing."
)
def deviation_held_constant(x, weight, g, eps):
    s = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    h = weight * g
    _, weight_grad, bias_grad = layer_norm_backward(x, weight, g, eps)
    return (h - h.mean(axis=-1, keepdims=True)) / s, weight_grad, bias_grad


@layer_norm_backward.mistake(
    "The weight belongs inside of the means: it differs from feature to feature, so g·weight must "
    "be formed before anything is averaged."
)
def weight_outside_of_the_means(x, weight, g, eps):
    through, _, bias_grad = layer_norm_backward(x, np.ones_like(weight), g, eps)
    return weight * through, layer_norm_backward(x, weight, g, eps)[1], bias_grad


@layer_norm_backward.mistake(
    "You averaged the gradients of the weight and the bias over the rows. Every row used them; "
    "what happens to gradients of something that is used several times?"
)
def averages_over_rows(x, weight, g, eps):
    through, weight_grad, bias_grad = layer_norm_backward(x, weight, g, eps)
    return through, weight_grad / len(x), bias_grad / len(x)


@layer_norm_backward.mistake(
    "You divide by the deviation and stop. The mean and the deviation depend on x too: two terms "
    "are missing."
)
def both_held_constant(x, weight, g, eps):
    _, weight_grad, bias_grad = layer_norm_backward(x, weight, g, eps)
    return weight * g / np.sqrt(x.var(axis=-1, keepdims=True) + eps), weight_grad, bias_grad


@layer_norm_backward.mistake(
    "Your gradient of x does not know the weight. What does the way back meet first?"
)
def forgets_the_weight(x, weight, g, eps):
    x_grad = layer_norm_backward(x, np.ones_like(weight), g, eps)[0]
    return x_grad, *layer_norm_backward(x, weight, g, eps)[1:]


@layer_norm_backward.mistake(
    "Your gradient of the weight is made with x. What was the weight multiplied with?"
)
def weight_with_the_raw_input(x, weight, g, eps):
    x_grad, _, bias_grad = layer_norm_backward(x, weight, g, eps)
    return x_grad, (g * x).sum(axis=0), bias_grad


@exercise(
    "Fold it away",
    difficulty=3,
    minutes=20,
    section="batch-normalization",
    counterpart="chainrule.neural_networks.regularization:fold_batchnorm",
    idea=(
        "Write both layers as one affine map of x. Batch normalization multiplies each output "
        "by one number and adds another; move both into W and b."
    ),
)
def folded(W, b, running_mean, running_var, weight, bias, eps):
    """Return (W, b) of one linear layer equal to x @ W.T + b followed by batch normalization.

    In evaluation: running statistics, then the learned weight and bias, all of shape (c,); W has
    shape (c, d).
    """
    scale = weight / np.sqrt(running_var + eps)
    return W * scale[:, None], (b - running_mean) * scale + bias


@folded.by_package
def _(package, W, b, running_mean, running_var, weight, bias, eps):
    layer = BatchNorm1d(len(W), eps=eps, dtype=np.float64)
    layer.running_mean.data, layer.running_var.data = running_mean, running_var
    layer.weight.data, layer.bias.data = weight, bias
    return package(W, b, layer)


@folded.in_package
def _(mine, W, b, bn):
    statistics = bn.running_mean.data, bn.running_var.data
    return mine(W, b, *statistics, bn.weight.data, bn.bias.data, bn.eps)


@folded.check
def one_feature(answer, rng):
    one = np.ones(1)
    W, b = answer(2 * one[:, None], 3 * one, one, 4 * one, 5 * one, 6 * one, 0.0)
    expect_close(W, np.array([[5.0]]), what="the weight for W = 2, variance 4 and scale 5")
    expect_close(b, np.array([11.0]), what="the bias: (3 − 1)·5/2 + 6")


@folded.check
def equals_the_two_layers(answer, rng):
    c = 4
    layer = BatchNorm1d(c, eps=0.1, dtype=np.float64)
    layer.weight.data[...], layer.bias.data[...] = rng.normal(size=(2, c))
    layer.running_mean.data[...] = rng.normal(size=c)
    layer.running_var.data[...] = rng.uniform(0.1, 3, size=c)
    W, b, x = rng.normal(size=(c, c)), rng.normal(size=c), rng.normal(size=(5, c))
    expected = layer.eval()(Tensor(x @ W.T + b)).data
    W2, b2 = answer(
        W,
        b,
        layer.running_mean.data.copy(),
        layer.running_var.data.copy(),
        layer.weight.data.copy(),
        layer.bias.data.copy(),
        0.1,
    )
    expect_close(x @ np.asarray(W2).T + b2, expected, rtol=1e-9, what="the output of one layer")


@folded.mistake("The old bias passes through the normalization too. Is it scaled in yours?")
def old_bias_not_scaled(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / np.sqrt(running_var + eps)
    return W * scale[:, None], b - running_mean * scale + bias


@folded.mistake("You divided by the variance. Which of variance and deviation makes it 1?")
def divides_by_the_variance(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / (running_var + eps)
    return W * scale[:, None], (b - running_mean) * scale + bias


@folded.mistake(
    "You scaled the columns of W, which belong to the inputs. The statistics belong to the outputs."
)
def scales_the_columns(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / np.sqrt(running_var + eps)
    return W * scale, (b - running_mean) * scale + bias


@folded.mistake("You subtract the running mean as it is. Which factor does it meet on its way?")
def mean_not_scaled(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / np.sqrt(running_var + eps)
    return W * scale[:, None], b * scale - running_mean + bias


@folded.mistake("The first layer has a bias of its own. Where is it in yours?")
def forgets_the_old_bias(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / np.sqrt(running_var + eps)
    return W * scale[:, None], bias - running_mean * scale


@folded.mistake("Batch normalization subtracts something before it scales. Where is it in yours?")
def forgets_the_mean(W, b, running_mean, running_var, weight, bias, eps):
    scale = weight / np.sqrt(running_var + eps)
    return W * scale[:, None], b * scale + bias


@exercise(
    "The peak",
    difficulty=4,
    minutes=30,
    section="overfitting-and-generalization",
    because="random_features_ridge draws its directions itself and has a penalty",
    idea=(
        "For each width compute the features of both data sets, fit by the pseudo-inverse on "
        "the first, and measure on the second."
    ),
)
def error_by_width(X, y, X_fresh, y_fresh, directions, widths):
    """Return the mean squared error on fresh data for each width, as an array.

    A fit of width h uses the random features max(x·v, 0) of the first h columns v of directions
    (shape (d, H)) and the shortest least-squares weights, no bias and no penalty.
    """
    errors = []
    for h in widths:
        features, fresh = (np.maximum(A @ directions[:, :h], 0) for A in (X, X_fresh))
        w = np.linalg.pinv(features) @ y
        errors.append(np.mean((fresh @ w - y_fresh) ** 2))
    return np.array(errors)


def _problem(rng):
    v = rng.normal(size=6)
    X, fresh = rng.normal(size=(40, 6)), rng.normal(size=(300, 6))
    y = X @ v + 0.5 * rng.normal(size=40)
    return X, y, fresh, fresh @ v, rng.normal(size=(6, 400))


@error_by_width.check
def against_the_solution(answer, rng):
    problem = _problem(rng)
    widths = [5, 20, 80]
    expect_close(
        answer(*problem, widths),
        error_by_width(*problem, widths),
        rtol=1e-6,
        what="the errors at widths 5, 20 and 80",
    )


@error_by_width.check
def peak_at_the_number_of_examples(answer, rng):
    total = np.zeros(3)
    for _ in range(5):
        total = total + np.log(np.asarray(answer(*_problem(rng), [15, 40, 400]), dtype=float))
    expect(
        total[1] > total[0] and total[1] > total[2],
        "with 40 examples the error should peak at 40 features, above those at 15 and 400",
    )


@error_by_width.mistake(
    "That is the error on the examples it was fitted to. It is 0 from 40 features on; where is the "
    "peak?"
)
def on_the_training_set(X, y, X_fresh, y_fresh, directions, widths):
    return error_by_width(X, y, X, y, directions, widths)


@error_by_width.mistake(
    "Your fit has a penalty, and a penalty is what flattens the peak. Take the pseudo-inverse."
)
def with_a_penalty(X, y, X_fresh, y_fresh, directions, widths):
    errors = []
    for h in widths:
        features, fresh = (np.maximum(A @ directions[:, :h], 0) for A in (X, X_fresh))
        w = np.linalg.solve(features.T @ features + np.eye(h), features.T @ y)
        errors.append(np.mean((fresh @ w - y_fresh) ** 2))
    return np.array(errors)


@error_by_width.mistake("You left the ReLU out. Then every width above 6 is the same linear fit.")
def without_the_relu(X, y, X_fresh, y_fresh, directions, widths):
    errors = []
    for h in widths:
        w = np.linalg.pinv(X @ directions[:, :h]) @ y
        errors.append(np.mean((X_fresh @ directions[:, :h] @ w - y_fresh) ** 2))
    return np.array(errors)


@error_by_width.mistake("You added the squared errors up. How many fresh examples are there?")
def sums_the_squares(X, y, X_fresh, y_fresh, directions, widths):
    return len(y_fresh) * error_by_width(X, y, X_fresh, y_fresh, directions, widths)


@error_by_width.mistake("You took a root at the end. The mean squared error has none.")
def takes_the_root(X, y, X_fresh, y_fresh, directions, widths):
    return np.sqrt(error_by_width(X, y, X_fresh, y_fresh, directions, widths))
