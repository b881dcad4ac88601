"""Blind set of transformers/attention: wrong answers written from statement and stub alone."""

from __future__ import annotations

import math
from math import comb

import numpy as np

from chainrule.course.exercises import wrong


def _softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


# ---- numbers_needed ------------------------------------------------------------------------------


def _needed(most, count, bits):
    return [math.ceil(math.log2(count(n)) / bits) if count(n) > 1 else 0
            for n in range(1, most + 1)]  # fmt: skip


@wrong(
    "numbers_needed",
    "Counts the values and takes the letters as known, as the page does.",
    known="knows_the_letters",
)
def _(most, letters, values, bits):
    return _needed(most, lambda n: values**n, bits)


@wrong("numbers_needed", "Lets the order of the pairs matter.", known="counts_every_order")
def _(most, letters, values, bits):
    return _needed(most, lambda n: math.perm(letters, n) * values**n, bits)


@wrong("numbers_needed", "Rounds the number of numbers down.", known="rounds_down")
def _(most, letters, values, bits):
    counts = [comb(letters, n) * values**n for n in range(1, most + 1)]
    return [int(math.log2(c) // bits) for c in counts]


@wrong(
    "numbers_needed",
    "Takes the natural logarithm where bits are counted.",
    known="natural_logarithm",
)
def _(most, letters, values, bits):
    counts = [comb(letters, n) * values**n for n in range(1, most + 1)]
    return [math.ceil(math.log(c) / bits) for c in counts]


@wrong("numbers_needed", "Lets a letter stand in a list more than once.", known="repeats_letters")
def _(most, letters, values, bits):
    return _needed(most, lambda n: (letters * values) ** n, bits)


# ---- shares --------------------------------------------------------------------------------------


@wrong("shares", "Returns the weights.", known="returns_the_weights")
def _(weights, values):
    return weights.copy()


@wrong("shares", "Compares lengths, whatever the direction.")
def _(weights, values):
    lengths = weights * np.linalg.norm(values, axis=1)
    total = np.linalg.norm(weights @ values, axis=1, keepdims=True)
    return np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0)


@wrong(
    "shares",
    "Makes lengths of contributions add up to 1 by dividing by their sum.",
    known="shares_of_lengths",
)
def _(weights, values):
    lengths = weights * np.linalg.norm(values, axis=1)
    total = lengths.sum(axis=1, keepdims=True)
    return np.divide(lengths, total, out=np.zeros_like(lengths), where=total > 0)


@wrong(
    "shares", "Divides by the length once: the reach, and not its share.", known="forgets_to_square"
)
def _(weights, values):
    out = weights @ values
    reach = weights * (out @ values.T)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(reach, length, out=np.zeros_like(reach), where=length > 0)


@wrong("shares", "Forgets the weights in the contributions.", known="forgets_the_weight")
def _(weights, values):
    out = weights @ values
    square = (out**2).sum(axis=1, keepdims=True)
    reach = out @ values.T
    return np.divide(reach, square, out=np.zeros_like(reach), where=square > 0)


# ---- smaller_matrices ----------------------------------------------------------------------------


def _svd(W_Q, W_K):
    return np.linalg.svd(W_Q.T @ W_K, full_matrices=False)


@wrong("smaller_matrices", "Keeps the first rows.")
def _(W_Q, W_K, size):
    return W_Q[:size].copy(), W_K[:size].copy()


@wrong("smaller_matrices", "Gives all singular values to the queries.", known="one_carries_all")
def _(W_Q, W_K, size):
    u, s, v = _svd(W_Q, W_K)
    return (u[:, :size] * s[:size]).T, v[:size]


@wrong(
    "smaller_matrices", "Cuts each matrix by its own decomposition.", known="shortens_each_alone"
)
def _(W_Q, W_K, size):
    def cut(W):
        _, s, v = np.linalg.svd(W, full_matrices=False)
        return s[:size, None] * v[:size]

    return cut(W_Q), cut(W_K)


@wrong(
    "smaller_matrices",
    "Forgets the root: both get the whole singular value.",
    known="singular_values_twice",
)
def _(W_Q, W_K, size):
    u, s, v = _svd(W_Q, W_K)
    return (u[:, :size] * s[:size]).T, s[:size, None] * v[:size]


@wrong("smaller_matrices", "Decomposes the product the other way round and mixes up the sides.")
def _(W_Q, W_K, size):
    u, s, v = np.linalg.svd(W_K.T @ W_Q, full_matrices=False)
    root = np.sqrt(s[:size])
    return (u[:, :size] * root).T, root[:, None] * v[:size]


# ---- softmax_with_sink ---------------------------------------------------------------------------


def _with_sink(scores, allowed, sink, top=None):
    masked = np.where(allowed, scores, -np.inf)
    top = np.maximum(masked.max(axis=1, keepdims=True), sink) if top is None else top
    top = np.where(np.isneginf(top), 0, top)
    shares, away = np.exp(masked - top), np.exp(sink - top)
    total = shares.sum(axis=1, keepdims=True) + away
    total = np.where(total == 0, 1, total)
    return shares / total, away / total


def _backward(p, away, g):
    mean = (p * g).sum(axis=1, keepdims=True)
    return p * (g - mean), -away * mean


@wrong("softmax_with_sink", "No shift: large scores overflow.")
def _(scores, allowed, sink):
    p, away = _with_sink(scores, allowed, sink, top=np.zeros_like(sink))
    return p, lambda g: _backward(p, away, g)


@wrong(
    "softmax_with_sink",
    "Masks after the softmax, so that weights are too small.",
    known="masks_afterwards",
)
def _(scores, allowed, sink):
    p, away = _with_sink(scores, np.ones_like(allowed), sink)
    p = np.where(allowed, p, 0)
    return p, lambda g: _backward(p, away, g)


@wrong(
    "softmax_with_sink",
    "Lets the sink have a gradient of the wrong sign.",
    known="sink_with_the_wrong_sign",
)
def _(scores, allowed, sink):
    p, away = _with_sink(scores, allowed, sink)

    def vjp(g):
        by_scores, by_sink = _backward(p, away, g)
        return by_scores, -by_sink

    return p, vjp


@wrong("softmax_with_sink", "Takes the sink for a constant 1 in the denominator.")
def _(scores, allowed, sink):
    p, away = _with_sink(scores, allowed, np.zeros_like(sink))
    return p, lambda g: _backward(p, away, g)


@wrong(
    "softmax_with_sink",
    "Divides by the allowed keys alone: the sink gets nothing.",
    known="leaves_the_sink_out",
)
def _(scores, allowed, sink):
    p, away = _with_sink(scores, allowed, np.full_like(sink, -np.inf))
    return p, lambda g: _backward(p, away, g)


# ---- attend --------------------------------------------------------------------------------------


def _sum_to(x, shape):
    return x.sum(axis=0, keepdims=True) if shape[0] == 1 else x


def _attend(q, k, v, allowed, scale=None, axis=-1, summed=True, scaled_back=True, jacobian=True):
    scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    p = _softmax(np.where(allowed, scale * q @ k.swapaxes(1, 2), -np.inf), axis)

    def vjp(g):
        dp = g @ v.swapaxes(1, 2)
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) if jacobian else p * dp
        ds = ds * scale if scaled_back else ds
        dk, dv = ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ g
        if summed:
            return ds @ k, _sum_to(dk, k.shape), _sum_to(dv, v.shape)
        return (
            ds @ k,
            dk.mean(0, keepdims=True) if k.shape[0] == 1 else dk,
            (dv.mean(0, keepdims=True) if v.shape[0] == 1 else dv),
        )

    return p @ v, vjp


@wrong("attend", "Does not divide by the root of d.", known="forgets_to_scale")
def _(q, k, v, allowed):
    return _attend(q, k, v, allowed, scale=1.0)


@wrong("attend", "Divides by d instead of its root.", known="divides_by_d")
def _(q, k, v, allowed):
    return _attend(q, k, v, allowed, scale=1 / q.shape[-1])


@wrong("attend", "Forgets the scale on the way back.", known="gradient_without_the_scale")
def _(q, k, v, allowed):
    return _attend(q, k, v, allowed, scaled_back=False)


@wrong("attend", "Takes the mean over batches where shared keys need the sum.")
def _(q, k, v, allowed):
    return _attend(q, k, v, allowed, summed=False)


@wrong(
    "attend",
    "Treats the softmax as independent entries on the way back.",
    known="weights_one_by_one",
)
def _(q, k, v, allowed):
    return _attend(q, k, v, allowed, jacobian=False)


# ---- from_a_stream -------------------------------------------------------------------------------


def _stream(blocks, rescale_out=True, rescale_total=True, shift=True, divide=True, add_top=True):
    top = total = out = None
    for scores, values in blocks:
        if top is None:
            top = np.full(len(scores), -np.inf)
            total, out = np.zeros(len(scores)), np.zeros((len(scores), values.shape[1]))
        new = np.maximum(top, scores.max(axis=1, initial=-np.inf)) if shift else np.zeros(len(top))
        safe = np.where(np.isneginf(new), 0, new)
        p, shrink = np.exp(scores - safe[:, None]), np.exp(top - safe) if shift else 1.0
        total = (total * shrink if rescale_total else total) + p.sum(axis=1)
        out = (out * (shrink[:, None] if shift else 1.0) if rescale_out else out) + p @ values
        top = new
    if top is None:
        raise ValueError("no block")
    with np.errstate(divide="ignore"):
        lse = np.log(total) + (np.where(np.isneginf(top), 0, top) if add_top else 0)
    return out / np.where(total == 0, 1, total)[:, None] if divide else out, lse


@wrong(
    "from_a_stream",
    "Does not shrink the sum of values when the maximum grows.",
    known="shrinks_only_the_total",
)
def _(blocks):
    return _stream(blocks, rescale_out=False)


@wrong(
    "from_a_stream",
    "Does not shrink the total when the maximum grows.",
    known="shrinks_only_the_values",
)
def _(blocks):
    return _stream(blocks, rescale_total=False)


@wrong("from_a_stream", "No maximum at all: large scores overflow.")
def _(blocks):
    return _stream(blocks, shift=False)


@wrong(
    "from_a_stream",
    "Forgets to add the maximum back to the log-sum-exp.",
    known="leaves_the_maximum_out",
)
def _(blocks):
    return _stream(blocks, add_top=False)


@wrong("from_a_stream", "Averages the outputs of the blocks.")
def _(blocks):
    outs, lses = [], []
    for scores, values in blocks:
        with np.errstate(all="ignore"):
            p = np.nan_to_num(_softmax(scores))
            lses.append(np.log(np.exp(scores).sum(axis=1)))
        outs.append(p @ values)
    if not outs:
        raise ValueError("no block")
    return np.mean(outs, axis=0), np.logaddexp.reduce(np.array(lses))
