"""Blind set of transformers/attention: wrong answers from statement and stub alone."""

from __future__ import annotations

import math

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.probability import logsumexp, softmax


def count(most, letters, values):
    return [math.comb(letters, n) * values**n for n in range(1, most + 1)]


@wrong(
    "numbers_needed",
    "The letters are known beforehand, as on the page: only values count.",
    known="knows_the_letters",
)
def _(most, letters, values, bits):
    return [math.ceil(n * math.log2(values) / bits) for n in range(1, most + 1)]


@wrong(
    "numbers_needed",
    "The order of the pairs counts: permutations instead of choices.",
    known="counts_every_order",
)
def _(most, letters, values, bits):
    lists = [math.perm(letters, n) * values**n for n in range(1, most + 1)]
    return [math.ceil(math.log2(c) / bits) for c in lists]


@wrong(
    "numbers_needed", "A letter may come twice: (letters · values)ⁿ lists.", known="repeats_letters"
)
def _(most, letters, values, bits):
    return [math.ceil(n * math.log2(letters * values) / bits) for n in range(1, most + 1)]


@wrong("numbers_needed", "Rounds down: the last number is missing.", known="rounds_down")
def _(most, letters, values, bits):
    return [int(math.log2(c) // bits) for c in count(most, letters, values)]


@wrong("numbers_needed", "Returns bits, not numbers of bits each.", known="bits_for_numbers")
def _(most, letters, values, bits):
    return [math.ceil(math.log2(c)) for c in count(most, letters, values)]


@wrong(
    "shares",
    "The length of each contribution over the sum of the lengths.",
    known="shares_of_lengths",
)
def _(weights, values):
    lengths = weights * np.linalg.norm(values, axis=1)
    return lengths / lengths.sum(axis=1, keepdims=True)


@wrong("shares", "The length of each contribution over the length of the output.")
def _(weights, values):
    lengths = weights * np.linalg.norm(values, axis=1)
    return lengths / np.linalg.norm(weights @ values, axis=1, keepdims=True)


@wrong(
    "shares",
    "The reach along the output, divided once by its length and not twice.",
    known="forgets_to_square",
)
def _(weights, values):
    out = weights @ values
    length = np.linalg.norm(out, axis=1, keepdims=True)
    unit = np.divide(out, length, out=np.zeros_like(out), where=length > 0)
    return weights * (unit @ values.T)


@wrong(
    "shares",
    "The weights themselves, as if each value were as long as the others.",
    known="returns_the_weights",
)
def _(weights, values):
    return weights.copy()


@wrong("shares", "Forgets the rows whose output is 0: they become NaN.", known="divides_by_nothing")
def _(weights, values):
    out = weights @ values
    with np.errstate(all="ignore"):
        return weights * (out @ values.T) / (out * out).sum(axis=1, keepdims=True)


def cut(W_Q, W_K, size):
    return np.linalg.svd(W_Q.T @ W_K)


@wrong(
    "smaller_matrices",
    "All singular values stay on the side of the queries.",
    known="one_carries_all",
)
def _(W_Q, W_K, size):
    U, s, Vt = cut(W_Q, W_K, size)
    return s[:size, None] * U[:, :size].T, Vt[:size]


@wrong("smaller_matrices", "Takes the first rows of both matrices.", known="takes_the_first_rows")
def _(W_Q, W_K, size):
    return W_Q[:size].copy(), W_K[:size].copy()


@wrong("smaller_matrices", "Leaves out the singular values.", known="singular_values_never")
def _(W_Q, W_K, size):
    U, _, Vt = cut(W_Q, W_K, size)
    return U[:, :size].T, Vt[:size]


@wrong(
    "smaller_matrices",
    "Gives each side the whole singular values, not their roots.",
    known="singular_values_twice",
)
def _(W_Q, W_K, size):
    U, s, Vt = cut(W_Q, W_K, size)
    return s[:size, None] * U[:, :size].T, s[:size, None] * Vt[:size]


@wrong("smaller_matrices", "Cuts the SVD of each matrix by itself.", known="shortens_each_alone")
def _(W_Q, W_K, size):
    def own(W):
        _, s, Vt = np.linalg.svd(W, full_matrices=False)
        return s[:size, None] * Vt[:size]

    return own(W_Q), own(W_K)


def sink_parts(scores, allowed, sink, shift=True):
    masked = np.where(allowed, scores, -np.inf)
    both = np.concatenate([masked, sink], axis=1)
    top = both.max(axis=1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    e = np.exp(both - top * shift)
    total = e.sum(axis=1, keepdims=True)
    p = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return p[:, :-1], p[:, -1:]


@wrong(
    "softmax_with_sink",
    "The sink's weight is shared among the keys: rows add up to 1.",
    known="leaves_the_sink_out",
)
def _(scores, allowed, sink):
    p, _ = sink_parts(scores, allowed, np.full_like(sink, -np.inf))

    def vjp(g):
        d = p * (g - (g * p).sum(axis=1, keepdims=True))
        return d, np.zeros_like(sink)

    return p, vjp


@wrong(
    "softmax_with_sink",
    "The gradient of the sink is forgotten: zeros.",
    known="no_gradient_for_the_sink",
)
def _(scores, allowed, sink):
    p, _ = sink_parts(scores, allowed, sink)
    return p, lambda g: (p * (g - (g * p).sum(axis=1, keepdims=True)), np.zeros_like(sink))


@wrong(
    "softmax_with_sink",
    "The gradient of the sink has the wrong sign.",
    known="sink_with_the_wrong_sign",
)
def _(scores, allowed, sink):
    p, q = sink_parts(scores, allowed, sink)

    def vjp(g):
        mean = (g * p).sum(axis=1, keepdims=True)
        return p * (g - mean), q * mean

    return p, vjp


@wrong("softmax_with_sink", "Without subtracting the largest: exp overflows.", known="overflows")
def _(scores, allowed, sink):
    with np.errstate(all="ignore"):
        p, q = sink_parts(scores, allowed, sink, shift=False)

    def vjp(g):
        mean = (g * p).sum(axis=1, keepdims=True)
        return p * (g - mean), -q * mean

    return p, vjp


@wrong(
    "softmax_with_sink",
    "The mean in the gradient is divided by the weights' sum.",
    known="mean_of_what_is_left",
)
def _(scores, allowed, sink):
    p, q = sink_parts(scores, allowed, sink)

    def vjp(g):
        total = p.sum(axis=1, keepdims=True)
        mean = np.divide((g * p).sum(axis=1, keepdims=True), total,
                         out=np.zeros_like(total), where=total > 0)  # fmt: skip
        return p * (g - mean), -q * mean

    return p, vjp


def attention(q, k, v, allowed, scale=None):
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.where(allowed, q @ np.swapaxes(k, 1, 2) * scale, -np.inf)
    return softmax(scores), scale


def fold(grad, x, how=np.sum):
    return how(grad, axis=0, keepdims=True) if len(x) < len(grad) else grad


def backward(p, scale, q, k, v, g, how=np.sum):
    dv = np.swapaxes(p, 1, 2) @ g
    dp = g @ np.swapaxes(v, 1, 2)
    ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
    dk = np.swapaxes(ds, 1, 2) @ q
    return ds @ k, fold(dk, k, how), fold(dv, v, how)


@wrong("attend", "The scores are not divided by √d.", known="forgets_to_scale")
def _(q, k, v, allowed):
    p, scale = attention(q, k, v, allowed, 1.0)
    return p @ v, lambda g: backward(p, scale, q, k, v, g)


@wrong(
    "attend",
    "The gradients of what is shared are averaged over the batches, not added.",
    known="averages_the_batches",
)
def _(q, k, v, allowed):
    p, scale = attention(q, k, v, allowed)
    return p @ v, lambda g: backward(p, scale, q, k, v, g, np.mean)


@wrong(
    "attend",
    "The gradients of what is shared keep the shape of the batch.",
    known="forgets_to_add_up",
)
def _(q, k, v, allowed):
    p, scale = attention(q, k, v, allowed)
    return p @ v, lambda g: backward(p, scale, q, k, v, g, lambda x, **_: x)


@wrong(
    "attend", "The factor 1/√d is missing in the backward pass.", known="gradient_without_the_scale"
)
def _(q, k, v, allowed):
    p, _ = attention(q, k, v, allowed)
    return p @ v, lambda g: backward(p, 1.0, q, k, v, g)


@wrong("attend", "The backward pass of the softmax multiplies by p only.", known="without_the_mean")
def _(q, k, v, allowed):
    p, scale = attention(q, k, v, allowed)

    def vjp(g):
        ds = p * (g @ np.swapaxes(v, 1, 2)) * scale
        dk, dv = np.swapaxes(ds, 1, 2) @ q, np.swapaxes(p, 1, 2) @ g
        return ds @ k, fold(dk, k), fold(dv, v)

    return p @ v, vjp


@wrong(
    "from_a_stream",
    "Each block has its own softmax; the outputs are added.",
    known="adds_the_blocks",
)
def _(blocks):
    out = lse = None
    for scores, values in blocks:
        part = softmax(scores) @ values
        own = logsumexp(scores)
        out = part if out is None else out + part
        lse = own if lse is None else np.logaddexp(lse, own)
    if out is None:
        raise ValueError("no block")
    return out, lse


@wrong(
    "from_a_stream",
    "What was summed is not rescaled when a larger score comes.",
    known="never_shrinks",
)
def _(blocks):
    top = None
    for scores, values in blocks:
        if top is None:
            top = np.full(len(scores), -np.inf)
            total, out = np.zeros(len(scores)), np.zeros((len(scores), values.shape[1]))
        top = np.maximum(top, scores.max(axis=1))
        safe = np.where(np.isfinite(top), top, 0)
        e = np.exp(scores - safe[:, None])
        total = total + e.sum(axis=1)
        out = out + e @ values
    if top is None:
        raise ValueError("no block")
    there = total > 0
    out = np.divide(out, total[:, None], out=np.zeros_like(out), where=there[:, None])
    with np.errstate(divide="ignore"):
        return out, np.where(there, np.log(total) + np.where(there, top, 0), -np.inf)


def running(blocks, lse_of=lambda top, total: top + np.log(total), scale_out=True):
    top = None
    for scores, values in blocks:
        if top is None:
            top = np.full(len(scores), -np.inf)
            total, out = np.zeros(len(scores)), np.zeros((len(scores), values.shape[1]))
        new = np.maximum(top, scores.max(axis=1))
        safe = np.where(np.isfinite(new), new, 0)
        e, old = np.exp(scores - safe[:, None]), np.exp(top - safe)
        total = old * total + e.sum(axis=1)
        out = (old[:, None] if scale_out else 1) * out + e @ values
        top = new
    if top is None:
        raise ValueError("no block")
    there = total > 0
    out = np.divide(out, total[:, None], out=np.zeros_like(out), where=there[:, None])
    with np.errstate(divide="ignore"):
        return out, np.where(there, lse_of(np.where(there, top, 0), total), -np.inf)


@wrong("from_a_stream", "The log-sum-exp is the largest score.", known="largest_for_the_sum")
def _(blocks):
    return running(blocks, lambda top, total: top)


@wrong(
    "from_a_stream",
    "The log-sum-exp forgets the largest score that was subtracted.",
    known="sum_without_the_maximum",
)
def _(blocks):
    return running(blocks, lambda top, total: np.log(total))


@wrong("from_a_stream", "The sum is rescaled, the output is not.", known="shrinks_only_the_total")
def _(blocks):
    return running(blocks, scale_out=False)
