"""Exercises of transformers/multi-head-attention.md."""

from __future__ import annotations

import tracemalloc

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import Tensor, primitive
from chainrule.transformers.multi_head_attention import CacheConfig, MultiHeadAttention


@exercise(
    "What a text costs",
    difficulty=1,
    minutes=15,
    section="sharing-keys-and-values",
    counterpart="chainrule.transformers.multi_head_attention:kv_bytes_per_token",
    idea="Count the vectors that one layer keeps: two for each of its heads and each of its "
    "tokens. A layer with a window stops growing when the window is full.",
)
def cache_bytes(tokens, windows, kv_heads, d_head, element=2):
    """Return how many bytes the cache of keys and values takes for a text of so many tokens.

    windows is a list with one entry a layer: None for a layer that keeps the whole text, or the
    number of latest tokens that it keeps. Each layer has kv_heads heads of keys and values of
    d_head numbers; a number takes element bytes. By hand first: 10 tokens, windows [None, 4], two
    heads of 3 numbers, 4 bytes a number.
    """
    kept = sum(tokens if window is None else min(tokens, window) for window in windows)
    return kept * 2 * kv_heads * d_head * element


@cache_bytes.by_package
def _(package, tokens, windows, kv_heads, d_head, element=2):
    one = package(CacheConfig(1, kv_heads, d_head, element=element))
    return sum(one * (tokens if window is None else min(tokens, window)) for window in windows)


@cache_bytes.check
def ten_tokens(answer, rng):
    what = "the bytes of 10 tokens in windows [None, 4]"
    expect_close(answer(10, [None, 4], 2, 3, 4), 672, what=what)


@cache_bytes.check
def published(answer, rng):
    models = (
        ("Llama 3 70B", 80, 8, 128, 327_680),
        ("Llama 2 7B", 32, 32, 128, 524_288),
        ("Falcon 7B", 32, 1, 64, 8_192),
        ("Llama 3.1 405B", 126, 8, 128, 516_096),
    )
    for name, layers, heads, size, expected in models:
        what = f"the bytes of one token of {name}"
        expect_close(answer(1, [None] * layers, heads, size), expected, what=what)


@cache_bytes.check
def windows_and_short_texts(answer, rng):
    five_to_one = ([1024] * 5 + [None]) * 5
    for tokens in (300, 32_768):
        what = f"the bytes of {tokens:,} tokens in 25 layers with a window and 5 without"
        expected = cache_bytes(tokens, five_to_one, 8, 128)
        expect_close(answer(tokens, five_to_one, 8, 128), expected, what=what)


@cache_bytes.check
def other_numbers(answer, rng):
    what = "the bytes of 7 tokens with 8 bytes a number"
    expect_close(answer(7, [3, None, 11], 5, 13, 8), 17_680, what=what)


@cache_bytes.mistake("You counted the keys. What else does a layer keep for every token?")
def forgets_the_values(tokens, windows, kv_heads, d_head, element=2):
    return cache_bytes(tokens, windows, kv_heads, d_head, element) // 2


@cache_bytes.mistake(
    "A window of 1,024 over a text of 300 tokens: how many tokens are there to keep?"
)
def fills_every_window(tokens, windows, kv_heads, d_head, element=2):
    kept = sum(tokens if window is None else window for window in windows)
    return kept * 2 * kv_heads * d_head * element


@cache_bytes.mistake("Your layers with a window keep the whole text.")
def ignores_windows(tokens, windows, kv_heads, d_head, element=2):
    return cache_bytes(tokens, [None] * len(windows), kv_heads, d_head, element)


@cache_bytes.mistake("That is how many numbers are kept. How many bytes does each take?")
def counts_numbers(tokens, windows, kv_heads, d_head, element=2):
    return cache_bytes(tokens, windows, kv_heads, d_head, 1)


@cache_bytes.mistake("Layers without a window keep something too: everything.")
def skips_full_layers(tokens, windows, kv_heads, d_head, element=2):
    kept = [window for window in windows if window is not None]
    return cache_bytes(tokens, kept, kv_heads, d_head, element)


@cache_bytes.mistake("You counted one layer. Every layer has a cache of its own.")
def one_layer(tokens, windows, kv_heads, d_head, element=2):
    return cache_bytes(tokens, windows[:1], kv_heads, d_head, element)


@exercise(
    "Split the heads, both ways",
    difficulty=2,
    minutes=20,
    section="cut-move-join",
    counterpart="chainrule.transformers.multi_head_attention:split_heads",
    idea="Splitting computes nothing, it only gives numbers new addresses. A gradient must travel "
    "back to the address that its number came from: undo the steps, the last one first.",
)
def split_heads(x, heads):
    """Return the heads of x, and a function vjp.

    x has shape (..., time, width), with any number of axes before the time. Head h gets the
    h-th part of the width. The result has shape (..., heads, time, width / heads). vjp(g) takes
    the gradient of the result and returns a tuple with one array, the gradient for x. By hand
    first: one token with the numbers 1 to 6 and three heads.
    """
    shape = x.shape

    def vjp(g):
        return (g.swapaxes(-2, -3).reshape(shape),)

    return x.reshape(*shape[:-1], heads, shape[-1] // heads).swapaxes(-2, -3), vjp


@split_heads.by_package
def _(package, x, heads):
    t = Tensor(x, requires_grad=True)
    y = package(t, heads)

    def vjp(g):
        t.grad = None
        y.backward(g, retain_graph=True)
        return (t.grad,)

    return y.data, vjp


@split_heads.in_package
def _(mine, x, heads):
    return primitive(mine)(x, heads=heads)


@split_heads.check
def one_token(answer, rng):
    y, _ = answer(np.array([[1.5, 2.5, 3.5, 4.5, 5.5, 6.5]]), 3)
    expected = np.array([[[1.5, 2.5]], [[3.5, 4.5]], [[5.5, 6.5]]])
    expect_close(y, expected, what="the three heads of one token")


@split_heads.check
def a_batch(answer, rng):
    x = rng.normal(size=(2, 5, 12))
    y, _ = answer(x, 3)
    expect_shape(y, (2, 3, 5, 4), what="the heads of two texts of five tokens")
    expect_close(y, split_heads(x, 3)[0], what="the heads of two texts of five tokens")


@split_heads.check
def and_back(answer, rng):
    x, g = rng.normal(size=(2, 5, 12)), rng.normal(size=(2, 3, 5, 4))
    back = answer(x, 3)[1](g)
    expect(isinstance(back, tuple) and len(back) == 1, "vjp returns a tuple with one array")
    expect_close(back[0], split_heads(x, 3)[1](g)[0], what="the gradient for x")


@split_heads.check
def more_axes_and_fewer(answer, rng):
    for shape, heads in (((7, 10), 5), ((3, 2, 5, 8), 2)):
        x = rng.normal(size=shape)
        y, vjp = answer(x, heads)
        expected, back = split_heads(x, heads)
        expect_close(y, expected, what=f"{heads} heads of an array of shape {shape}")
        g = rng.normal(size=expected.shape)
        expect_close(vjp(g)[0], back(g)[0], what=f"the gradient for an array of shape {shape}")


@split_heads.mistake(
    "The shapes are right and the numbers are not: your first head holds the first tokens, whole. "
    "Which axis has to move after the cut?"
)
def reshapes_alone(x, heads):
    *front, time, width = x.shape
    return x.reshape(*front, heads, time, width // heads), lambda g: (g.reshape(x.shape),)


@split_heads.mistake(
    "Each of your heads takes numbers from all over the width. Head 0 gets the first part in one "
    "piece. In which order did you cut?"
)
def takes_every_nth(x, heads):
    *front, time, width = x.shape
    y = np.moveaxis(x.reshape(*front, time, width // heads, heads), -1, -3)
    return y, lambda g: (np.moveaxis(g, -3, -1).reshape(x.shape),)


@split_heads.mistake(
    "Forward is right. Going back, your gradient has the right shape and wrong places: the heads "
    "stand before the time, and a row of x holds them side by side."
)
def forgets_to_move_back(x, heads):
    return split_heads(x, heads)[0], lambda g: (g.reshape(x.shape),)


@split_heads.mistake(
    "You have cut the width and left the heads behind the time. A product over the last two axes "
    "would then compare heads of one token."
)
def leaves_heads_last(x, heads):
    y = x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
    return y, lambda g: (g.reshape(x.shape),)


@split_heads.mistake("vjp returns one gradient for each input, in a tuple, even for one input.")
def returns_a_bare_array(x, heads):
    y, vjp = split_heads(x, heads)
    return y, lambda g: vjp(g)[0]


@split_heads.mistake(
    "Your heads come out in reverse order. Head 0 owns the first part of the width."
)
def reverses_the_heads(x, heads):
    y, vjp = split_heads(x, heads)
    return y[..., ::-1, :, :], lambda g: vjp(g[..., ::-1, :, :])


@exercise(
    "What each head adds",
    difficulty=3,
    minutes=30,
    section="multiple-attention-heads-in-parallel",
    counterpart="chainrule.transformers.multi_head_attention:head_outputs",
    idea="Work out the weights of one head alone, with keys and values of its group. Of the output "
    "weight, a head uses its own columns only.",
)
def head_parts(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    """Return what each head adds to the output of the layer, shape (batch, heads, time, d).

    X has shape (batch, time, d). W_Q has shape (heads · d_head, d), W_K and W_V have shape
    (kv_heads · d_head, d), W_O has shape (d, heads · d_head). Neighbouring query heads share a
    head of keys and values. real has shape (batch, time): False marks padding, which no query
    may look at. The sum over the heads is the output of the layer.
    """
    batch, time, _ = X.shape

    def split(W, count):
        return (X @ W.T).reshape(batch, time, count, -1).swapaxes(1, 2)

    q = split(W_Q, heads)
    k, v = (np.repeat(split(W, kv_heads), heads // kv_heads, axis=1) for W in (W_K, W_V))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = softmax(np.where(real[:, None, None, :], scores, -np.inf))
    columns = W_O.reshape(len(W_O), heads, -1)
    return np.einsum("bhtk,dhk->bhtd", weights @ v, columns)


@head_parts.by_package
def _(package, X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    layer = MultiHeadAttention(
        X.shape[-1], heads, kv_heads, bias=False, d_head=len(W_Q) // heads,
        rng=np.random.default_rng(0), dtype=float,
    )  # fmt: skip
    layer.qkv.weight.data = np.concatenate([W_Q, W_K, W_V])
    layer.out.weight.data = W_O
    return package(layer, Tensor(X), real[:, None, None, :])


def _layer(rng, batch, time, d, heads, kv_heads, d_head):
    sizes = ((heads * d_head, d), (kv_heads * d_head, d), (kv_heads * d_head, d))
    weights = [rng.normal(size=size) for size in (*sizes, (d, heads * d_head))]
    return rng.normal(size=(batch, time, d)), *weights


@head_parts.check
def the_sentence(answer, rng):
    from chainrule.data.sentence import W_K, W_O, W_Q, W_V, embed

    real = np.ones((1, 5), bool)
    parts = answer(embed()[None], W_Q, W_K, W_V, W_O, heads=2, kv_heads=2, real=real)
    expect_shape(parts, (1, 2, 5, 4), what="the parts of the sentence")
    expected = np.array([[0, 0.9186, 0.0271, 0], [0.2719, 0, 0, 1.0522]])
    expect_close(parts[0, :, 2], expected, rtol=1e-3, atol=1e-4, what="the parts for bites")


@head_parts.check
def plain_heads(answer, rng):
    given, real = _layer(rng, 2, 5, 12, 3, 3, 4), np.ones((2, 5), bool)
    how = {"heads": 3, "kv_heads": 3, "real": real}
    expect_close(answer(*given, **how), head_parts(*given, **how), what="the parts of three heads")


@head_parts.check
def groups(answer, rng):
    given, real = _layer(rng, 2, 7, 10, 4, 2, 3), np.ones((2, 7), bool)
    how = {"heads": 4, "kv_heads": 2, "real": real}
    what = "the parts of four heads in two groups"
    expect_close(answer(*given, **how), head_parts(*given, **how), what=what)


@head_parts.check
def padding(answer, rng):
    given = _layer(rng, 3, 3, 8, 4, 2, 2)
    real = np.arange(3) < np.array([3, 1, 2])[:, None]
    how = {"heads": 4, "kv_heads": 2, "real": real}
    expected = head_parts(*given, **how)
    expect_close(answer(*given, **how), expected, what="the parts of three padded texts")


def _parts(X, weights, heads, kv_heads, mask, *, scale=None, tile=False, after=False, rows=False):
    W_Q, W_K, W_V, W_O = weights

    def split(W, count):
        return (X @ W.T).reshape(*X.shape[:2], count, -1).swapaxes(1, 2)

    q, k, v = split(W_Q, heads), split(W_K, kv_heads), split(W_V, kv_heads)
    times = heads // kv_heads
    repeat = (lambda x: np.tile(x, (1, times, 1, 1))) if tile else lambda x: x.repeat(times, 1)
    k, v = repeat(k), repeat(v)
    scores = q @ k.swapaxes(-1, -2) / (np.sqrt(q.shape[-1]) if scale is None else scale)
    if after:
        weights = softmax(scores) * mask
    else:
        weights = softmax(np.where(mask, scores, -1e300))
    d, d_head = len(W_O), q.shape[-1]
    part = W_O.reshape(d_head, heads, d) if rows else W_O.reshape(d, heads, d_head)
    return np.einsum("bhtk,khd->bhtd" if rows else "bhtk,dhk->bhtd", weights @ v, part)


@head_parts.mistake(
    "Your weights are too flat. A dot product of how many numbers are you dividing?"
)
def scales_by_the_width(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask, scale = real[:, None, None, :], np.sqrt(X.shape[-1])
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask, scale=scale)


@head_parts.mistake("Your scores are not divided by anything.")
def does_not_scale(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, None, :]
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask, scale=1.0)


@head_parts.mistake(
    "Plain heads come out right, groups do not: neighbours share. Which heads of keys do your "
    "query heads 0, 1, 2, 3 get?"
)
def tiles_the_groups(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, None, :]
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask, tile=True)


@head_parts.mistake("Your queries look at padding too.")
def ignores_padding(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, np.True_)


@head_parts.mistake(
    "You set weights to zero after the softmax: those of the real tokens no longer sum to 1."
)
def zeros_afterwards(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, None, :]
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask, after=True)


@head_parts.mistake(
    "Your mask lies along the queries: padding asks nobody, and everybody still looks at padding. "
    "Which axis of the scores counts the keys?"
)
def masks_the_queries(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, :, None]
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask)


@head_parts.mistake(
    "Your mask of shape (batch, time) met the axes for queries and keys. Where there are as many "
    "texts as tokens nothing complains. Which axes must be put in between?"
)
def broadcasts_the_batch_over_queries(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, real)


@head_parts.mistake(
    "The parts of a layer have width d. Yours stop before the output weight, which belongs to each "
    "head by its columns."
)
def forgets_the_output_weight(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    identity = np.eye(len(W_Q))
    mask = real[:, None, None, :]
    return _parts(X, (W_Q, W_K, W_V, identity), heads, kv_heads, mask)


@head_parts.mistake(
    "Head h owns columns of the output weight that stand side by side. Into what did you cut it?"
)
def cuts_the_output_weight_by_rows(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, None, :]
    return _parts(X, (W_Q, W_K, W_V, W_O), heads, kv_heads, mask, rows=True)


@exercise(
    "The smallest head",
    difficulty=3,
    minutes=30,
    section="how-small-may-a-head-be",
    because="a construction is asked for, and any that does it is right; the package has none",
    idea="How many different keys must be looked at? On a line, two of them can win. On a circle "
    "all can, if the queries are long enough.",
)
def smallest_head(targets):
    """Return queries and keys, each of shape (n, 1) if that is possible, else (n, 2).

    targets holds n places: token i should put at least 0.99 of its weight on token targets[i].
    Weights are the softmax of the dot products, divided by the root of the size of a key.
    Before you write it: which of [1, 1, 0], [2, 0, 2, 0] and [1, 2, 0] need only one number?
    """
    n = len(targets)
    wanted = sorted(set(targets))
    if len(wanted) <= 2:
        keys = np.zeros((n, 1))
        keys[wanted[0]], keys[wanted[-1]] = -1.0, 1.0
        return 10 * keys[np.array(targets)], keys
    angles = 2 * np.pi * np.arange(n) / n
    keys = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    return 20 * n**2 * keys[np.array(targets)], keys


def _looks(answer, targets, numbers):
    queries, keys = (np.asarray(each, float) for each in answer(list(targets)))
    n = len(targets)
    for name, array in (("queries", queries), ("keys", keys)):
        expect_shape(array, (n, numbers), what=f"the {name} for the targets {list(targets)}")
    weights = softmax(queries @ keys.T / np.sqrt(numbers))
    on_target = weights[np.arange(n), targets]
    worst = int(on_target.argmin())
    most = int(weights[worst].argmax())
    expect(
        on_target[worst] >= 0.99,
        f"targets {list(targets)}: token {worst} puts {on_target[worst]:.3f} of its weight on "
        f"token {targets[worst]}, and {weights[worst, most]:.3f} on token {most}",
    )


@smallest_head.check
def one_or_two_targets(answer, rng):
    for targets in ([1, 1, 0], [2, 0, 2, 0], [3, 3, 3, 3, 3], [0, 4, 0, 0, 4]):
        _looks(answer, targets, 1)


@smallest_head.check
def each_at_itself(answer, rng):
    for n in (3, 5, 11):
        _looks(answer, range(n), 2)


@smallest_head.check
def any_targets(answer, rng):
    for _ in range(5):
        n = int(rng.integers(4, 12))
        targets = rng.permutation(n)
        targets[rng.integers(0, n)] = targets[0]
        _looks(answer, targets.tolist(), 2)


def _circle(n):
    angles = 2 * np.pi * np.arange(n) / n
    return np.stack([np.sin(angles), np.cos(angles)], axis=1)


@smallest_head.mistake(
    "That works, with two numbers throughout. When only one or two tokens are looked at, who "
    "stands between the ends of the line?"
)
def always_on_a_circle(targets):
    keys = _circle(len(targets))
    return 20 * len(targets) ** 2 * keys[np.array(targets)], keys


@smallest_head.mistake(
    "On a line a query prefers one of the two ends, however long it is. The tokens between them "
    "are never looked at most."
)
def always_on_a_line(targets):
    keys = np.linspace(-1, 1, len(targets))[:, None]
    return 100 * len(targets) * keys[np.array(targets)], keys


@smallest_head.mistake(
    "Your queries point the right way and are too short: the softmax still shares."
)
def queries_of_length_one(targets):
    queries, keys = smallest_head(targets)
    longest = np.linalg.norm(queries, axis=1, keepdims=True)
    return queries / longest, keys


@smallest_head.mistake(
    "Each token looks at itself. Whose key should the query of token i point to?"
)
def looks_at_itself(targets):
    queries, keys = smallest_head(targets)
    return np.linalg.norm(queries, axis=1, keepdims=True) * keys, keys


@exercise(
    "One step with latent vectors",
    difficulty=4,
    minutes=35,
    section="one-small-vector-for-all-heads",
    because="the package attends for a whole text at once; this is the step for one new token",
    idea="Carry each head's query over to the latent vectors, and mix latent vectors before any "
    "value is made. The size under the root is that of a key, as if keys had been made.",
)
def latent_step(q, q_turned, latents, k_turned, U, W):
    """Return the outputs of all heads for one new token, shape (heads, d_head).

    q has shape (heads, d_head) and q_turned (heads, d_p): the query of each head and its turned
    part. The cache holds latents, shape (tokens, r), and k_turned, shape (tokens, d_p), shared by
    all heads. U and W have shape (heads, d_head, r): they make each head's keys and values from
    a latent vector. A score adds both dot products and is divided by the root of d_head + d_p.
    Never make keys or values of all tokens: there is no room for them.
    """
    carried = np.einsum("hk,hkr->hr", q, U)
    scores = (carried @ latents.T + q_turned @ k_turned.T) / np.sqrt(q.shape[1] + q_turned.shape[1])
    mixed = softmax(scores) @ latents
    return np.einsum("hr,hkr->hk", mixed, W)


def _cache(rng, tokens, heads, d_head, p, r):
    shapes = ((heads, d_head), (heads, p), (tokens, r), (tokens, p),
              (heads, d_head, r), (heads, d_head, r))  # fmt: skip
    return [rng.normal(size=shape) / 2 for shape in shapes]


@latent_step.check
def one_head_of_the_page(answer, rng):
    q, U = np.array([[1.0, 2.0]]), np.array([[[2.0, 0.0], [1.0, 1.0]]])
    latents, W = np.array([[3.0, 1.0], [0.0, 5.0]]), np.array([[[1.0, 0.0], [0.0, 1.0]]])
    p = 1 / (1 + np.exp(-4 / np.sqrt(2)))  # scores 14 and 10
    received = answer(q, np.zeros((1, 0)), latents, np.zeros((2, 0)), U, W)
    expected = np.array([[3 * p, p + 5 * (1 - p)]])
    expect_close(received, expected, what="the output for scores 14/√2 and 10/√2")


@latent_step.check
def keys_made_first(answer, rng):
    q, q_turned, latents, k_turned, U, W = given = _cache(rng, 7, 3, 5, 2, 4)
    keys, values = (np.einsum("tr,hkr->htk", latents, each) for each in (U, W))
    scores = np.einsum("hk,htk->ht", q, keys) + q_turned @ k_turned.T
    expected = np.einsum("ht,htk->hk", softmax(scores / np.sqrt(7)), values)
    expect_close(answer(*given), expected, what="the output of three heads over seven tokens")


@latent_step.check
def many_sizes(answer, rng):
    for sizes in ((1, 2, 3, 5, 7), (11, 5, 2, 4, 3)):
        given = _cache(rng, *sizes)
        what = f"the output for {sizes[0]} tokens and {sizes[1]} heads"
        expect_close(answer(*given), latent_step(*given), what=what)


@latent_step.check
def no_room_for_keys(answer, rng):
    given = _cache(rng, 2_000, 16, 32, 8, 24)
    answer(*given)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        answer(*given)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    keys = 2_000 * 16 * 32 * 8
    expect(
        peak < keys / 2,
        f"one step took {peak / 1e6:.1f} MB; the keys of all tokens are {keys / 1e6:.1f} MB, the "
        f"scores {2_000 * 16 * 8 / 1e6:.1f} MB",
    )


def _latent(q, q_turned, latents, k_turned, U, W, root, turned=True):
    scores = np.einsum("hk,hkr->hr", q, U) @ latents.T
    if turned:
        scores = scores + q_turned @ k_turned.T
    return np.einsum("hr,hkr->hk", softmax(scores / np.sqrt(root)) @ latents, W)


@latent_step.mistake(
    "You divide by the size of what you multiply now. The scores should be those that keys would "
    "have given: how long are the keys?"
)
def scales_by_the_latent(q, q_turned, latents, k_turned, U, W):
    root = latents.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, W, root)


@latent_step.mistake("A key has two parts, and your root counts one of them.")
def scales_by_the_plain_part(q, q_turned, latents, k_turned, U, W):
    return _latent(q, q_turned, latents, k_turned, U, W, q.shape[1])


@latent_step.mistake("The turned keys are in the cache for a reason: no score of yours uses them.")
def forgets_the_turned_part(q, q_turned, latents, k_turned, U, W):
    root = q.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, W, root, turned=False)


@latent_step.mistake(
    "The numbers are right, but you have made the keys or the values of all tokens. Which product "
    "can come first instead?"
)
def makes_keys_and_values(q, q_turned, latents, k_turned, U, W):
    keys, values = (np.einsum("tr,hkr->htk", latents, each) for each in (U, W))
    scores = np.einsum("hk,htk->ht", q, keys) + q_turned @ k_turned.T
    weights = softmax(scores / np.sqrt(q.shape[1] + q_turned.shape[1]))
    return np.einsum("ht,htk->hk", weights, values)


@latent_step.mistake("Your weights sum to 1 over the heads. Over what should they?")
def softmax_over_heads(q, q_turned, latents, k_turned, U, W):
    scores = np.einsum("hk,hkr->hr", q, U) @ latents.T + q_turned @ k_turned.T
    weights = softmax((scores / np.sqrt(q.shape[1] + q_turned.shape[1])).T).T
    return np.einsum("hr,hkr->hk", weights @ latents, W)


@latent_step.mistake("You made the values with the weights of the keys.")
def values_from_the_keys_weight(q, q_turned, latents, k_turned, U, W):
    root = q.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, U, root)


@exercise(
    "Look back two tokens",
    difficulty=5,
    minutes=40,
    section="two-layers-that-continue-what-they-have-read",
    because="the package sets the circuit that matches one token; this one matches two",
    idea="A query with two halves can ask two questions at once, and the dot product adds the "
    "answers. Which note of a place must equal which part of the row that looks?",
)
def two_token_head(vocabulary):
    """Return the weights W_Q, W_K and W_V of an induction head that compares two tokens.

    Two heads of the first layer have written their notes: the row of place i is [token i; token
    i − 1; token i − 2], three parts of n = vocabulary numbers, each with a 1 at its token (or
    only zeros before the text begins). Place i looks for a place j where token j − 1 is token i
    and token j − 2 is token i − 1, and copies token j. Each of the two matches adds exactly 20
    to the score, after the division by the root of the size of a query, 2n. W_K and W_V hold
    zeros and ones; their shapes are (2n, 3n) and (n, 3n), that of W_Q is (2n, 3n). The first
    half of query and key is about the newer token.
    """
    n = vocabulary
    one, none = np.eye(n), np.zeros((n, n))
    W_Q = 20 * np.sqrt(2 * n) * np.block([[one, none, none], [none, one, none]])
    W_K = np.block([[none, one, none], [none, none, one]])
    return W_Q, W_K, np.block([[one, none, none]])


def _rows(ids, n):
    token = np.eye(n)[ids]
    back = [np.concatenate([np.zeros((k, n)), token[: len(ids) - k]]) for k in (0, 1, 2)]
    return np.concatenate(back, axis=1)


def _copied(weights, ids, n):
    W_Q, W_K, W_V = weights
    X = _rows(ids, n)
    scores = (X @ W_Q.T) @ (X @ W_K.T).T / np.sqrt(len(W_Q))
    seen = np.tri(len(ids), dtype=bool)
    return scores, softmax(np.where(seen, scores, -np.inf)) @ (X @ W_V.T)


@two_token_head.check
def shapes(answer, rng):
    for n in (3, 5):
        names = ("W_Q", "W_K", "W_V")
        expected = ((2 * n, 3 * n), (2 * n, 3 * n), (n, 3 * n))
        for name, weight, shape in zip(names, answer(n), expected, strict=True):
            expect_shape(weight, shape, what=f"{name} for a vocabulary of {n}")


@two_token_head.check
def scores_by_hand(answer, rng):
    ids = np.array([0, 1, 2, 0, 1])  # a b c a b: the last b should look at c
    scores, guess = _copied(answer(3), ids, 3)
    expected = np.array([0.0, 0.0, 40.0, 0.0, 0.0])
    expect_close(scores[4], expected, atol=1e-6, what="the scores of the last token of a b c a b")
    expect_close(guess[4], np.array([0.0, 0.0, 1.0]), atol=1e-6, what="the guess after a b c a b")


@two_token_head.check
def a_token_with_two_followers(answer, rng):
    ids = np.array([3, 0, 1, 4, 0, 2, 3, 0])  # d a b e a c d a: after d a comes b
    _, guess = _copied(answer(5), ids, 5)
    expected = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    expect_close(guess[7], expected, atol=1e-6, what="the guess after d a b e a c d a")


@two_token_head.check
def random_texts(answer, rng):
    n, right = 60, []
    weights = answer(n)
    for _ in range(20):
        ids = np.tile(rng.integers(0, n, 24), 2)
        _, guess = _copied(weights, ids, n)
        right += list(guess[25:-1].argmax(axis=1) == ids[26:])
    share = np.mean(right)
    expect(share >= 0.99, f"of {len(right)} repeated tokens your head copies {share:.1%}")


@two_token_head.check
def the_weights(answer, rng):
    expected = two_token_head(3)
    for name, a, b in zip(("W_Q", "W_K", "W_V"), answer(3), expected, strict=True):
        expect_close(a, b, what=f"{name} for a vocabulary of 3")


def _blocks(n, rows):
    one, none = np.eye(n), np.zeros((n, n))
    return np.block([[one if part == row else none for part in range(3)] for row in rows])


def _head(n, query=(0, 1), key=(1, 2), value=(0,), factor=None):
    factor = 20 * np.sqrt(2 * n) if factor is None else factor
    return factor * _blocks(n, query), _blocks(n, key), _blocks(n, value)


@two_token_head.mistake(
    "Your keys hold the token of the place itself, so the head finds places that hold what it has, "
    "and copies that. What followed it stands one place later: whose note is it?"
)
def keys_without_notes(vocabulary):
    return _head(vocabulary, key=(0, 1))


@two_token_head.mistake(
    "Your two questions are crossed: the newer token is compared with the older note."
)
def crosses_the_notes(vocabulary):
    return _head(vocabulary, key=(2, 1))


@two_token_head.mistake(
    "Your head finds the right place and copies its note. Which part holds the token to be guessed?"
)
def copies_the_note(vocabulary):
    return _head(vocabulary, value=(1,))


@two_token_head.mistake(
    "Your matches add less than 20. The score is divided by a root before it is used."
)
def forgets_the_root(vocabulary):
    return _head(vocabulary, factor=20.0)


@two_token_head.mistake(
    "A match adds 20/√2 in your head. How many numbers does a whole query have?"
)
def takes_the_root_of_one_half(vocabulary):
    return _head(vocabulary, factor=20 * np.sqrt(vocabulary))


@two_token_head.mistake("Right with the older half first. The newer token comes first here.")
def older_half_first(vocabulary):
    return _head(vocabulary, query=(1, 0), key=(2, 1))


@two_token_head.mistake("Query and key have changed places: the earlier place asks the later one.")
def exchanges_query_and_key(vocabulary):
    W_Q, W_K, W_V = _head(vocabulary)
    return W_Q.max() * W_K, W_Q / W_Q.max(), W_V
