"""Blind set of transformers/self-attention: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.probability import softmax


def blocks(s, d, frequency, sign=1):
    R = np.zeros((d, d))
    for r in range(d // 2):
        c, t = np.cos(s * frequency(r)), sign * np.sin(s * frequency(r))
        R[2 * r : 2 * r + 2, 2 * r : 2 * r + 2] = [[c, t], [-t, c]]
    return R


@wrong(
    "shift_matrix",
    "Turns to the left, as if an entry pair were (cos, sin).",
    known="turns_the_other_way",
)
def _(s, d, base):
    return blocks(s, d, lambda r: base ** (-2 * r / d), -1)


@wrong("shift_matrix", "The same angle s for every hand.", known="one_pace_for_all")
def _(s, d, base):
    return blocks(s, d, lambda r: 1.0)


@wrong("shift_matrix", "The exponent is r/d and not 2r/d.", known="half_of_the_exponent")
def _(s, d, base):
    return blocks(s, d, lambda r: base ** (-r / d))


@wrong("shift_matrix", "Pairs entry r with entry r + d/2.", known="pairs_of_halves")
def _(s, d, base):
    angle = s * base ** (-2 * np.arange(d // 2) / d)
    c, t = np.diag(np.cos(angle)), np.diag(np.sin(angle))
    return np.block([[c, t], [-t, c]])


@wrong(
    "shift_matrix",
    "Frequencies grow with r: the sign of the exponent is lost.",
    known="ever_faster",
)
def _(s, d, base):
    return blocks(s, d, lambda r: base ** (2 * r / d))


@wrong(
    "causal_weights",
    "np.tri starts at the top left: the first query sees the first key.",
    known="aligned_at_the_top_left",
)
def _(scores):
    return softmax(np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf))


@wrong("causal_weights", "One key too many: the next token can be seen.", known="sees_the_next")
def _(scores):
    n, keys = scores.shape
    return softmax(np.where(np.tri(n, keys, keys - n + 1, dtype=bool), scores, -np.inf))


@wrong("causal_weights", "Zeros after the softmax.", known="zeros_after_the_softmax")
def _(scores):
    n, keys = scores.shape
    return np.tril(softmax(scores), keys - n)


@wrong("causal_weights", "A query does not see its own token.", known="blind_to_itself")
def _(scores):
    n, keys = scores.shape
    with np.errstate(all="ignore"):
        return softmax(np.where(np.tri(n, keys, keys - n - 1, dtype=bool), scores, -np.inf))


@wrong(
    "causal_weights",
    "The mask of ones and zeros is added to the scores.",
    known="adds_ones_and_zeros",
)
def _(scores):
    n, keys = scores.shape
    return softmax(scores + np.tri(n, keys, keys - n))


@wrong("order_gap", "The outputs are never put into the new order.", known="forgets_the_outputs")
def _(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)).max())


@wrong("order_gap", "Permutes the outputs by the inverse order.", known="inverse_order")
def _(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)[np.argsort(order)]).max())


@wrong("order_gap", "The mean of the differences, not the largest.", known="mean_difference")
def _(layer, x, order):
    return float(np.abs(layer(x[order]) - layer(x)[order]).mean())


@wrong(
    "order_gap",
    "Compares the sums over all rows: that is invariance of a bag.",
    known="compares_the_sums",
)
def _(layer, x, order):
    return float(np.abs(layer(x[order]).sum(axis=0) - layer(x).sum(axis=0)).max())


@wrong("order_gap", "The largest difference with its sign.", known="with_its_sign")
def _(layer, x, order):
    return float((layer(x[order]) - layer(x)[order]).max())


def turned(x, cos, sin, layout):
    if layout == "half":
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    y = np.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return y.reshape(x.shape)


@wrong("rotate", "The gradient is turned on instead of back.", known="turns_the_gradient_on")
def _(x, cos, sin, layout):
    return turned(x, cos, sin, layout), lambda g: (turned(g, cos, sin, layout),)


@wrong("rotate", "Turns to the right.", known="turns_to_the_right")
def _(x, cos, sin, layout):
    return turned(x, cos, -sin, layout), lambda g: (turned(g, cos, sin, layout),)


@wrong("rotate", "The layout is ignored: always halves.", known="always_half")
def _(x, cos, sin, layout):
    return turned(x, cos, sin, "half"), lambda g: (turned(g, cos, -sin, "half"),)


@wrong("rotate", "The two layouts are exchanged.", known="exchanges_the_layouts")
def _(x, cos, sin, layout):
    other = "interleaved" if layout == "half" else "half"
    return turned(x, cos, sin, other), lambda g: (turned(g, cos, -sin, other),)


@wrong(
    "rotate",
    "The second entry is computed from the first one's new value.",
    known="uses_the_new_first_entry",
)
def _(x, cos, sin, layout):
    def turn(x, sin):
        y = x.copy()
        half = x.shape[-1] // 2
        one, two = (
            (slice(half), slice(half, None))
            if layout == "half"
            else (slice(0, None, 2), slice(1, None, 2))
        )
        y[..., one] = y[..., one] * cos - y[..., two] * sin
        y[..., two] = y[..., two] * cos + y[..., one] * sin
        return y

    return turn(x, sin), lambda g: (turn(g, -sin),)


def attention(x, w_q, w_k, w_v, *, causal=True, paths="qkv", inner=True, scaled=True, keys="T"):
    q, k, v = x @ w_q.T, x @ w_k.T, x @ w_v.T
    scale = 1 / np.sqrt(len(w_q))
    mask = np.tri(len(x), dtype=bool) if causal else np.ones((len(x), len(x)), bool)
    p = softmax(np.where(mask, q @ k.T * scale, -np.inf))

    def vjp(g):
        p_grad = g @ v.T
        z = p * (p_grad - (p_grad * p).sum(axis=1, keepdims=True) * inner)
        z = z * scale if scaled else z
        q_grad, k_grad, v_grad = z @ k, (z.T if keys == "T" else z) @ q, p.T @ g
        parts = {"q": q_grad @ w_q, "k": k_grad @ w_k, "v": v_grad @ w_v}
        return sum(parts[c] for c in paths), q_grad.T @ x, k_grad.T @ x, v_grad.T @ x

    return p @ v, vjp


@wrong(
    "self_attention",
    "The gradient reaches x through the values only.",
    known="only_through_the_values",
)
def _(x, w_q, w_k, w_v):
    return attention(x, w_q, w_k, w_v, paths="v")


@wrong(
    "self_attention",
    "The scale is missing on the way back.",
    known="forgets_the_scale_on_the_way_back",
)
def _(x, w_q, w_k, w_v):
    return attention(x, w_q, w_k, w_v, scaled=False)


@wrong(
    "self_attention",
    "The softmax's gradient without the sum that it subtracts.",
    known="softmax_without_the_rest",
)
def _(x, w_q, w_k, w_v):
    return attention(x, w_q, w_k, w_v, inner=False)


@wrong("self_attention", "No causal mask.", known="looks_at_everything")
def _(x, w_q, w_k, w_v):
    return attention(x, w_q, w_k, w_v, causal=False)


@wrong(
    "self_attention",
    "The gradient of the keys without the transpose.",
    known="keys_without_the_transpose",
)
def _(x, w_q, w_k, w_v):
    return attention(x, w_q, w_k, w_v, keys="")


def differences(fn, x, move):
    before = np.array(fn(x.copy()))
    for j in range(len(x)):
        moved = x.copy()
        moved[j] += move
        yield np.array(fn(moved)) - before


@wrong("influence", "Rows and columns exchanged.", known="exchanges_rows_and_columns")
def _(fn, x, move):
    return np.array([np.abs(change).max(axis=1) for change in differences(fn, x, move)])


@wrong(
    "influence",
    "Only the outputs before j are compared; all others are 0.",
    known="only_what_leaks",
)
def _(fn, x, move):
    table = np.zeros((len(x), len(x)))
    for j, change in enumerate(differences(fn, x, move)):
        table[:j, j] = np.abs(change[:j]).max(axis=1)
    return table


@wrong("influence", "The mean over an output's entries, not the largest.", known="mean_change")
def _(fn, x, move):
    return np.array([np.abs(change).mean(axis=1) for change in differences(fn, x, move)]).T


@wrong(
    "influence",
    "Moves pile up: row j is moved while the earlier ones stay moved.",
    known="moves_pile_up",
)
def _(fn, x, move):
    before, moved = np.array(fn(x.copy())), x.copy()
    table = np.zeros((len(x), len(x)))
    for j in range(len(x)):
        moved[j] += move
        table[:, j] = np.abs(fn(moved.copy()) - before).max(axis=1)
    return table


@wrong(
    "influence",
    "The largest change with its sign, so that falls count for nothing.",
    known="rises_only",
)
def _(fn, x, move):
    return np.array([change.max(axis=1) for change in differences(fn, x, move)]).T
