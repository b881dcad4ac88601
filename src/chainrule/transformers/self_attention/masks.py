"""Masks as arrays of booleans: true where a query (row) may look at a key (column)."""

from __future__ import annotations

import numpy as np

from chainrule.shapes import Array, Bool, Float, Int

__all__ = [
    "causal_mask", "combine", "document_mask", "padding_mask", "prefix_mask",
    "sliding_window_mask", "top_k_mask",
]  # fmt: skip


def causal_mask(n: int, keys: int | None = None) -> Bool[Array, "n keys"]:
    """Let each query see itself and what came before; the last query sees the last key.

    Raises:
        ValueError: there are fewer keys than queries, so that some query would see none.

    Equation: transformers/self-attention.md#eq-causal-mask
    """
    keys = n if keys is None else keys
    if keys < n:
        raise ValueError(f"causal_mask: {n} queries need at least {n} keys, got {keys}")
    return np.arange(keys)[None, :] <= np.arange(n)[:, None] + (keys - n)


def padding_mask(lengths: Int[Array, "batch"], n: int) -> Bool[Array, "batch 1 1 n"]:
    """Hide the keys after each sequence's end, for scores of shape (batch, heads, n, n).

    One head has scores of shape (batch, n, n): take ``[:, 0]`` of the mask.

    Raises:
        ValueError: a length is below 0 or above ``n``.
    """
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= n:
        raise ValueError(f"padding_mask: lengths lie between 0 and {n}, got {lengths.tolist()}")
    return (np.arange(n)[None, :] < lengths[:, None])[:, None, None, :]


def prefix_mask(n: int, prefix: int) -> Bool[Array, "n n"]:
    """Let every query see the first ``prefix`` keys, and be causal after them."""
    return causal_mask(n) | (np.arange(n)[None, :] < prefix)


def sliding_window_mask(n: int, window: int, sinks: int = 0) -> Bool[Array, "n n"]:
    """Let each query see itself, the ``window`` − 1 keys before it and the first ``sinks`` keys.

    Raises:
        ValueError: the window is below 1.

    Equation: transformers/self-attention.md#eq-window. Source of the sinks: Xiao et al. 2023,
    arXiv:2309.17453.
    """
    if window < 1:
        raise ValueError(f"a window holds at least the query itself; got {window}")
    behind = np.arange(n)[:, None] - np.arange(n)[None, :]
    return (behind >= 0) & ((behind < window) | (np.arange(n)[None, :] < sinks))


def document_mask(doc_ids: Int[Array, "*batch n"]) -> Bool[Array, "*batch n n"]:
    """Let positions see those of the same document in a packed sequence."""
    return doc_ids[..., :, None] == doc_ids[..., None, :]


def combine(*masks: Bool[Array, "..."] | None) -> Bool[Array, "..."] | None:
    """Allow what all masks allow; None allows everything."""
    combined: Array | None = None
    for mask in masks:
        if mask is not None:
            combined = mask if combined is None else combined & mask
    return combined


def top_k_mask(
    scores: Float[Array, "*batch queries keys"],
    k: int,
    mask: Bool[Array, "*mask"] | None = None,
) -> Bool[Array, "*batch queries keys"]:
    """Let each query see the ``k`` keys with the largest scores among those the mask allows.

    Of equal scores the earlier key wins. Source: DeepSeek-AI 2025, arXiv:2512.02556.

    Raises:
        ValueError: ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"top_k_mask: a query sees at least one key, got {k}")
    open_scores = scores if mask is None else np.where(mask, scores, -np.inf)
    order = np.argsort(-open_scores, axis=-1, kind="stable")[..., :k]
    chosen = np.zeros(open_scores.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen if mask is None else chosen & mask
