"""Blind set of transformers/transformer-architecture: wrong answers from statement and stub."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---- rates_of_2017 -------------------------------------------------------------------------------


def _rates(steps, w, d):
    return np.minimum(steps**-0.5, steps * w**-1.5) / np.sqrt(d)


@wrong(
    "rates_of_2017",
    "Solves 1/√(w) = peak and forgets the width in the warm-up.",
    known="warmup_without_width",
)
def _(steps, peak, d):
    return _rates(steps, max(1, round(1 / peak**2)), d)


@wrong("rates_of_2017", "Takes the larger of the two terms.", known="takes_the_larger")
def _(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return np.maximum(steps**-0.5, steps * w**-1.5) / np.sqrt(d)


@wrong("rates_of_2017", "Leaves out the factor 1/√d of the rate.", known="rate_without_width")
def _(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return np.minimum(steps**-0.5, steps * w**-1.5)


@wrong(
    "rates_of_2017",
    "Falls from the warm-up on in a straight line of 1/step.",
    known="falls_like_one_over_step",
)
def _(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return peak * np.minimum(steps / w, w / steps)


@wrong("rates_of_2017", "Solves for w without the square.", known="warmup_without_square")
def _(steps, peak, d):
    return _rates(steps, max(1, round(1 / (np.sqrt(d) * peak))), d)


# ---- three_masks ---------------------------------------------------------------------------------


def _real(lengths):
    return np.arange(max(lengths)) < np.asarray(lengths)[:, None]


def _square(real, queries):
    return np.repeat(real[:, None, None, :], queries, axis=2)


@wrong("three_masks", "Makes cross-attention causal as well.", known="causal_cross")
def _(source_lengths, target_lengths):
    s, t = _real(source_lengths), _real(target_lengths)
    S, T = s.shape[1], t.shape[1]
    causal = np.tri(T, dtype=bool)
    return _square(s, S), _square(t, T) & causal, _square(s, T) & np.tri(T, S, dtype=bool)


@wrong("three_masks", "Forgets the filling in the decoder.", known="decoder_sees_filling")
def _(source_lengths, target_lengths):
    s, t = _real(source_lengths), _real(target_lengths)
    S, T = s.shape[1], t.shape[1]
    causal = np.broadcast_to(np.tri(T, dtype=bool), (len(t), 1, T, T))
    return _square(s, S), causal, _square(s, T)


@wrong(
    "three_masks", "Hides the queries that are filling instead of the keys.", known="hides_queries"
)
def _(source_lengths, target_lengths):
    s, t = _real(source_lengths), _real(target_lengths)
    S, T = s.shape[1], t.shape[1]
    encoder = np.repeat(s[:, None, :, None], S, axis=3)
    decoder = np.repeat(t[:, None, :, None], T, axis=3) & np.tri(T, dtype=bool)
    return encoder, decoder, np.repeat(t[:, None, :, None], S, axis=3)


@wrong(
    "three_masks", "Lets the decoder see the future and hides the past.", known="sees_the_future"
)
def _(source_lengths, target_lengths):
    s, t = _real(source_lengths), _real(target_lengths)
    S, T = s.shape[1], t.shape[1]
    return _square(s, S), _square(t, T) & np.tri(T, dtype=bool).T, _square(s, T)


@wrong("three_masks", "True means hidden, as in one part of PyTorch.", known="true_hides")
def _(source_lengths, target_lengths):
    s, t = _real(source_lengths), _real(target_lengths)
    S, T = s.shape[1], t.shape[1]
    return ~_square(s, S), ~(_square(t, T) & np.tri(T, dtype=bool)), ~_square(s, T)


# ---- count_llama ---------------------------------------------------------------------------------


def _llama(vocab_size, width, layers, heads, kv_heads, hidden, tied, experts=0, used=0, **how):
    size = width // heads
    kv = heads if how.get("all_heads") else kv_heads
    attention = 2 * width * width + 2 * width * kv * size
    one = how.get("matrices", 3) * width * hidden
    tables = (1 if tied or how.get("one_table") else 2) * vocab_size * width
    norms = width * (2 * layers + how.get("last", 1))
    rest = tables + norms + layers * attention
    if not experts:
        return rest + layers * one, rest + layers * one
    router = layers * how.get("routers", experts) * width
    return rest + router + layers * experts * one, rest + router + layers * used * one


@wrong("count_llama", "Counts two matrices in SwiGLU.", known="two_matrices")
def _(*args, **kwargs):
    return _llama(*args, **kwargs, matrices=2)


@wrong("count_llama", "Gives every head keys and values of its own.", known="all_heads_have_keys")
def _(*args, **kwargs):
    return _llama(*args, **kwargs, all_heads=True)


@wrong("count_llama", "Forgets the last norm.", known="no_last_norm")
def _(*args, **kwargs):
    return _llama(*args, **kwargs, last=0)


@wrong("count_llama", "Counts one table although they are not tied.", known="always_one_table")
def _(*args, **kwargs):
    return _llama(*args, **kwargs, one_table=True)


@wrong("count_llama", "Forgets the routers.", known="no_routers")
def _(*args, **kwargs):
    return _llama(*args, **kwargs, routers=0)


# ---- first_weights -------------------------------------------------------------------------------

_ENDS = ("attention.out.weight", "cross.out.weight", "down.weight")


def _first(shapes, branches, rng, deviation, dtype, scale, ends=_ENDS, gain=1.0, bias=0.0):
    found = {}
    for name, shape in shapes.items():
        if len(shape) != 2:
            found[name] = np.full(shape, bias if name.endswith("bias") else gain, dtype)
            continue
        size = deviation
        if name.endswith(ends):
            if branches < 1:
                raise ValueError("no branch")
            size = scale(deviation, branches)
        found[name] = (rng.standard_normal(shape, dtype=np.float32) * np.float32(size)).astype(
            dtype
        )
    return found


@wrong(
    "first_weights",
    "Divides by the number of branches, not by its root.",
    known="divides_by_branches",
)
def _(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _first(shapes, branches, rng, deviation, dtype, lambda s, n: s / n)


@wrong("first_weights", "Scales no matrix.", known="scales_nothing")
def _(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _first(shapes, branches, rng, deviation, dtype, lambda s, n: s)


@wrong("first_weights", "Starts the gains at zero.", known="gains_of_zero")
def _(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _first(shapes, branches, rng, deviation, dtype, lambda s, n: s / n**0.5, gain=0.0)


@wrong("first_weights", "Takes the deviation for the variance.", known="takes_it_for_the_variance")
def _(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _first(shapes, branches, rng, deviation**0.5, dtype, lambda s, n: s / n**0.5)


@wrong("first_weights", "Counts the branches twice.", known="doubles_the_branches")
def _(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _first(shapes, branches, rng, deviation, dtype, lambda s, n: s / (2 * n) ** 0.5)


# ---- gated_block ---------------------------------------------------------------------------------


def _block(x, gain, W_gate, W_up, W_down, eps, **how):
    r = np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
    unit = x / r
    h = unit * gain
    a, b = h @ W_gate.T, h @ W_up.T
    if how.get("swap"):
        a, b = b, a
    s = 1 / (1 + np.exp(-a))
    act = s if how.get("sigmoid") else a * s
    hidden = act * b
    y = hidden @ W_down.T + (0 if how.get("no_add") else x)

    def vjp(g):
        gh = g @ W_down
        gb = gh * act
        slope = s * (1 - s) if how.get("sigmoid") else s * (1 + a * (1 - s))
        if how.get("slope"):
            slope = how["slope"](a, s)
        ga = gh * b * slope
        if how.get("swap"):
            ga, gb = gb, ga
        back = ga @ W_gate + gb @ W_up
        gu = back * gain
        inner = (
            gu if how.get("no_norm_term") else (gu - unit * (gu * unit).mean(axis=1, keepdims=True))
        )
        gx = inner / r + (0 if how.get("no_add") or how.get("no_straight") else g)
        return gx, (back * unit).sum(axis=0), ga.T @ h, gb.T @ h, g.T @ hidden

    return y, vjp


@wrong("gated_block", "Forgets to add x, forward and backward.", known="does_not_add")
def _(x, gain, W_gate, W_up, W_down, eps):
    return _block(x, gain, W_gate, W_up, W_down, eps, no_add=True)


@wrong(
    "gated_block",
    "Forgets the straight way in the gradient by x.",
    known="forgets_the_straight_way",
)
def _(x, gain, W_gate, W_up, W_down, eps):
    return _block(x, gain, W_gate, W_up, W_down, eps, no_straight=True)


@wrong(
    "gated_block",
    "Treats the root mean square as a constant on the way back.",
    known="takes_the_norm_for_a_constant",
)
def _(x, gain, W_gate, W_up, W_down, eps):
    return _block(x, gain, W_gate, W_up, W_down, eps, no_norm_term=True)


@wrong(
    "gated_block",
    "Gates with the logistic function alone.",
    known="gates_with_the_logistic_function",
)
def _(x, gain, W_gate, W_up, W_down, eps):
    return _block(x, gain, W_gate, W_up, W_down, eps, sigmoid=True)


@wrong("gated_block", "Applies SiLU to the signal and not to the gate.", known="bends_the_signal")
def _(x, gain, W_gate, W_up, W_down, eps):
    return _block(x, gain, W_gate, W_up, W_down, eps, swap=True)


# ---- mixture -------------------------------------------------------------------------------------


def _mixture(x, router, experts, k, **how):
    scores = x @ router.T
    shares = _softmax(scores)
    chosen = np.argsort(-shares, axis=1, kind="stable")[:, :k]
    if how.get("smallest"):
        chosen = np.argsort(shares, axis=1, kind="stable")[:, :k]
    w = np.take_along_axis(shares, chosen, axis=1)
    if not how.get("raw"):
        w = w / w.sum(axis=1, keepdims=True)
    if how.get("equal"):
        w = np.full_like(w, 1 / k)
    y = np.zeros_like(x)
    for i, expert in enumerate(experts):
        rows, slots = np.nonzero(chosen == i)
        if len(rows):
            y[rows] += w[rows, slots, None] * expert(x[rows])
    count = np.bincount(chosen.ravel(), minlength=len(experts))
    load = count / (len(x) if how.get("per_token") else chosen.size)
    n = 1 if how.get("no_n") else len(experts)
    return y, load, float(n * (load * shares.mean(axis=0)).sum())


@wrong(
    "mixture",
    "Weights are the shares themselves, not divided by their sum.",
    known="weights_do_not_sum_to_one",
)
def _(x, router, experts, k):
    return _mixture(x, router, experts, k, raw=True)


@wrong("mixture", "Weights all chosen experts alike.", known="equal_weights")
def _(x, router, experts, k):
    return _mixture(x, router, experts, k, equal=True)


@wrong("mixture", "The load is counted for each token: it sums to k.", known="load_for_each_token")
def _(x, router, experts, k):
    return _mixture(x, router, experts, k, per_token=True)


@wrong("mixture", "Forgets the factor n of the balance loss.", known="balance_without_the_factor")
def _(x, router, experts, k):
    return _mixture(x, router, experts, k, no_n=True)


@wrong("mixture", "Runs every expert on every token and masks afterwards.")
def _(x, router, experts, k):
    shares = _softmax(x @ router.T)
    chosen = np.argsort(-shares, axis=1, kind="stable")[:, :k]
    keep = np.zeros_like(shares)
    np.put_along_axis(keep, chosen, 1.0, axis=1)
    w = shares * keep
    w = w / w.sum(axis=1, keepdims=True)
    y = sum(w[:, i, None] * expert(x) for i, expert in enumerate(experts))
    load = keep.sum(axis=0) / keep.sum()
    return y, load, float(len(experts) * (load * shares.mean(axis=0)).sum())


# ---- add_branch ------------------------------------------------------------------------------


@wrong(
    "add_branch",
    "Normalizes the stream and adds the branch to that.",
    known="adds_to_the_normed_row",
)
def _(x, branch, norm=None, place="pre"):
    if norm is None:
        return x + branch(x)
    if place == "post":
        return norm(x + branch(x))
    y = norm(x)
    return y + branch(y)


@wrong(
    "add_branch",
    "Post: normalizes the branch's output before it is added.",
    known="normalizes_the_branch",
)
def _(x, branch, norm=None, place="pre"):
    if norm is None:
        return x + branch(x)
    if place == "post":
        return x + norm(branch(x))
    return x + branch(norm(x))


@wrong("add_branch", "Forgets the stream.", known="only_the_branch")
def _(x, branch, norm=None, place="pre"):
    if norm is None:
        return branch(x)
    return norm(branch(x)) if place == "post" else branch(norm(x))


@wrong("add_branch", "Exchanges pre and post.", known="exchanged")
def _(x, branch, norm=None, place="pre"):
    if norm is None:
        return x + branch(x)
    return x + branch(norm(x)) if place == "post" else norm(x + branch(x))


@wrong("add_branch", "Adds in place and changes the stream that was given.")
def _(x, branch, norm=None, place="pre"):
    if norm is None:
        x += branch(x)
        return x
    if place == "post":
        x += branch(x)
        return norm(x)
    x += branch(norm(x))
    return x
