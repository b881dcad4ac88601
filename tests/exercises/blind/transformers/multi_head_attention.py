"""Blind set of transformers/multi-head-attention: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@wrong("cache_bytes", "Counts keys and forgets the values.", known="forgets_the_values")
def _(tokens, windows, kv_heads, d_head, element=2):
    kept = sum(tokens if w is None else min(tokens, w) for w in windows)
    return kept * kv_heads * d_head * element


@wrong(
    "cache_bytes",
    "Takes the whole window even where the text is shorter.",
    known="fills_every_window",
)
def _(tokens, windows, kv_heads, d_head, element=2):
    kept = sum(tokens if w is None else w for w in windows)
    return kept * 2 * kv_heads * d_head * element


@wrong("cache_bytes", "Ignores the windows.", known="ignores_windows")
def _(tokens, windows, kv_heads, d_head, element=2):
    return tokens * len(windows) * 2 * kv_heads * d_head * element


@wrong("cache_bytes", "Leaves out the bytes of a number.", known="counts_numbers")
def _(tokens, windows, kv_heads, d_head, element=2):
    kept = sum(tokens if w is None else min(tokens, w) for w in windows)
    return kept * 2 * kv_heads * d_head


@wrong("cache_bytes", "Counts only layers that have a window.", known="skips_full_layers")
def _(tokens, windows, kv_heads, d_head, element=2):
    kept = sum(min(tokens, w) for w in windows if w is not None)
    return kept * 2 * kv_heads * d_head * element


@wrong("split_heads", "Reshapes straight to the final shape.", known="reshapes_alone")
def _(x, heads):
    *front, time, width = x.shape

    def vjp(g):
        return (g.reshape(x.shape),)

    return x.reshape(*front, heads, time, width // heads), vjp


@wrong("split_heads", "Gives each head every n-th number of the width.", known="takes_every_nth")
def _(x, heads):
    *front, time, width = x.shape

    def vjp(g):
        return (np.moveaxis(g, -3, -1).reshape(x.shape),)

    return np.moveaxis(x.reshape(*front, time, width // heads, heads), -1, -3), vjp


@wrong(
    "split_heads",
    "Splits rightly, but reshapes the gradient without moving the heads back.",
    known="forgets_to_move_back",
)
def _(x, heads):
    y = x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)

    def vjp(g):
        return (g.reshape(x.shape),)

    return y, vjp


@wrong("split_heads", "Leaves the heads behind the time.", known="leaves_heads_last")
def _(x, heads):
    def vjp(g):
        return (g.reshape(x.shape),)

    return x.reshape(*x.shape[:-1], heads, -1), vjp


@wrong("split_heads", "Returns the gradient itself, not a tuple.", known="returns_a_bare_array")
def _(x, heads):
    y = x.reshape(*x.shape[:-1], heads, -1).swapaxes(-2, -3)

    def vjp(g):
        return g.swapaxes(-2, -3).reshape(x.shape)

    return y, vjp


def _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, real, scale=None, tile=False, mask=None,
           rows=False, after=False):  # fmt: skip
    B, T, _ = X.shape

    def cut(W, n):
        return (X @ W.T).reshape(B, T, n, -1).transpose(0, 2, 1, 3)

    q, k, v = cut(W_Q, heads), cut(W_K, kv_heads), cut(W_V, kv_heads)
    n = heads // kv_heads
    if tile:
        k, v = np.tile(k, (1, n, 1, 1)), np.tile(v, (1, n, 1, 1))
    else:
        k, v = k.repeat(n, axis=1), v.repeat(n, axis=1)
    s = q @ k.transpose(0, 1, 3, 2) / (scale or np.sqrt(q.shape[-1]))
    mask = real[:, None, None, :] if mask is None else mask
    p = _softmax(s) * mask if after else _softmax(np.where(mask, s, -1e30))
    o = p @ v
    size = o.shape[-1]
    parts = []
    for h in range(heads):
        if rows:
            square = np.resize(W_O, (heads * size, X.shape[-1]))
            parts.append(o[:, h] @ square[h * size : (h + 1) * size])
        else:
            parts.append(o[:, h] @ W_O[:, h * size : (h + 1) * size].T)
    return np.stack(parts, axis=1)


@wrong("head_parts", "Divides by the root of the width of the model.", known="scales_by_the_width")
def _(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, real, scale=np.sqrt(X.shape[-1]))


@wrong("head_parts", "Repeats the heads of keys in turn: 0, 1, 0, 1.", known="tiles_the_groups")
def _(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, real, tile=True)


@wrong("head_parts", "Ignores the padding.", known="ignores_padding")
def _(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, np.ones_like(real))


@wrong(
    "head_parts", "Sets the weights of padding to zero after the softmax.", known="zeros_afterwards"
)
def _(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    return _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, real, after=True)


@wrong("head_parts", "Masks the queries that are padding, not the keys.", known="masks_the_queries")
def _(X, W_Q, W_K, W_V, W_O, *, heads, kv_heads, real):
    mask = real[:, None, :, None]
    return _parts(X, W_Q, W_K, W_V, W_O, heads, kv_heads, real, mask=mask)


@wrong("smallest_head", "Always uses two numbers.", known="always_on_a_circle")
def _(targets):
    n = len(targets)
    a = 2 * np.pi * np.arange(n) / n
    keys = np.stack([np.cos(a), np.sin(a)], axis=1)
    return 1e4 * keys[targets], keys


@wrong("smallest_head", "Always uses one number, with keys in a row.", known="always_on_a_line")
def _(targets):
    n = len(targets)
    keys = np.linspace(-1, 1, n)[:, None]
    return 100 * keys[targets], keys


@wrong(
    "smallest_head",
    "Queries of length 1: right direction, too weak.",
    known="queries_of_length_one",
)
def _(targets):
    n = len(targets)
    if len(set(targets)) <= 2:
        keys = np.zeros((n, 1))
        keys[min(targets)], keys[max(targets)] = -1, 1
    else:
        a = 2 * np.pi * np.arange(n) / n
        keys = np.stack([np.cos(a), np.sin(a)], axis=1)
    return keys[targets], keys


@wrong(
    "smallest_head",
    "Queries point to the token itself, not to its target.",
    known="looks_at_itself",
)
def _(targets):
    n = len(targets)
    if len(set(targets)) <= 2:
        keys = np.zeros((n, 1))
        keys[min(targets)], keys[max(targets)] = -1, 1
    else:
        a = 2 * np.pi * np.arange(n) / n
        keys = np.stack([np.cos(a), np.sin(a)], axis=1)
    return 1e4 * keys, keys


@wrong(
    "smallest_head",
    "Counts tokens and not targets: one number only for two tokens.",
    known="always_on_a_circle",
)
def _(targets):
    n = len(targets)
    if n <= 2:
        keys = np.linspace(-1, 1, n)[:, None]
    else:
        a = 2 * np.pi * np.arange(n) / n
        keys = np.stack([np.cos(a), np.sin(a)], axis=1)
    return 1e4 * keys[targets], keys


def _latent(q, q_turned, latents, k_turned, U, W, root, turned=True, axis=-1):
    scores = np.einsum("hk,hkr,tr->ht", q, U, latents, optimize=True)
    if turned:
        scores = scores + q_turned @ k_turned.T
    mixed = _softmax(scores / np.sqrt(root), axis) @ latents
    return np.einsum("hr,hkr->hk", mixed, W)


@wrong(
    "latent_step",
    "Divides by the root of the size of a latent vector with the turned part.",
    known="scales_by_the_latent",
)
def _(q, q_turned, latents, k_turned, U, W):
    root = latents.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, W, root)


@wrong("latent_step", "Divides by the root of d_head alone.", known="scales_by_the_plain_part")
def _(q, q_turned, latents, k_turned, U, W):
    return _latent(q, q_turned, latents, k_turned, U, W, q.shape[1])


@wrong("latent_step", "Leaves the turned part out of the score.", known="forgets_the_turned_part")
def _(q, q_turned, latents, k_turned, U, W):
    root = q.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, W, root, turned=False)


@wrong("latent_step", "Makes all keys and values.", known="makes_keys_and_values")
def _(q, q_turned, latents, k_turned, U, W):
    k, v = np.einsum("tr,hkr->htk", latents, U), np.einsum("tr,hkr->htk", latents, W)
    s = np.einsum("hk,htk->ht", q, k) + q_turned @ k_turned.T
    return np.einsum("ht,htk->hk", _softmax(s / np.sqrt(q.shape[1] + q_turned.shape[1])), v)


@wrong("latent_step", "The softmax runs over the heads.", known="softmax_over_heads")
def _(q, q_turned, latents, k_turned, U, W):
    root = q.shape[1] + q_turned.shape[1]
    return _latent(q, q_turned, latents, k_turned, U, W, root, axis=0)


def _head(n, query, key, value=(1, 0, 0), size=20.0):
    one, none = np.eye(n), np.zeros((n, n))
    rows = {i: np.hstack([one if j == i else none for j in range(3)]) for i in range(3)}
    factor = size * np.sqrt(2 * n)
    return (
        factor * np.vstack([rows[i] for i in query]),
        np.vstack([rows[i] for i in key]),
        rows[value.index(1)],
    )


@wrong(
    "two_token_head",
    "Keys hold the tokens of the place itself, one too late.",
    known="keys_without_notes",
)
def _(vocabulary):
    return _head(vocabulary, (0, 1), (0, 1))


@wrong("two_token_head", "The two questions are crossed.", known="crosses_the_notes")
def _(vocabulary):
    return _head(vocabulary, (0, 1), (2, 1))


@wrong(
    "two_token_head",
    "Copies the token before instead of the token of the place.",
    known="copies_the_note",
)
def _(vocabulary):
    return _head(vocabulary, (0, 1), (1, 2), value=(0, 1, 0))


@wrong(
    "two_token_head", "Forgets that scores are divided by the root of 2n.", known="forgets_the_root"
)
def _(vocabulary):
    W_Q, W_K, W_V = _head(vocabulary, (0, 1), (1, 2))
    return W_Q / np.sqrt(2 * vocabulary), W_K, W_V


@wrong(
    "two_token_head",
    "Multiplies by 20 and by the root of n, the size of one half.",
    known="takes_the_root_of_one_half",
)
def _(vocabulary):
    W_Q, W_K, W_V = _head(vocabulary, (0, 1), (1, 2))
    return W_Q / np.sqrt(2), W_K, W_V
