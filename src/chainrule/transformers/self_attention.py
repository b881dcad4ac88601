"""Self-attention: one sequence attends to itself; positions and masks give it order.

Taught in ``transformers/self-attention.md``. Masks are boolean arrays, true where a query may
look, so they combine with ``&`` and ``|``. Positions come as tables that are added
(`sinusoidal_encoding`, `LearnedPositions`), as rotations of queries and keys (`rope`), or as a
bias on the scores (`alibi_bias`).

Shape names: ``time`` positions, ``d_model`` width, ``d_head`` size of queries, keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Tensor,
    primitive,
)
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.transformers.attention import scaled_dot_product_attention

__all__ = [
    "LearnedPositions", "SelfAttention", "alibi_bias", "causal_mask", "combine",
    "document_mask", "has_leak", "padding_mask", "prefix_mask", "rope", "rope_frequencies",
    "sinusoidal_encoding", "sliding_window_mask",
]  # fmt: skip


class SelfAttention(Module):
    """One head: queries, keys and values are three projections of the same sequence.

    ``rng`` draws the weights. Equation: transformers/self-attention.md#eq-self-attention
    """

    def __init__(
        self,
        d: int,
        d_head: int,
        causal: bool = False,
        *,
        bias: bool = False,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.causal = causal
        self.query = Linear(d, d_head, bias, rng=rng, dtype=dtype)
        self.key = Linear(d, d_head, bias, rng=rng, dtype=dtype)
        self.value = Linear(d, d_head, bias, rng=rng, dtype=dtype)

    def forward(
        self,
        x: Float[Tensor, "*batch time d_model"],
        mask: Bool[Array, "*mask"] | None = None,
    ) -> Float[Tensor, "*batch time d_head"]:
        """Return, for each position, a weighted mean of the values it may look at."""
        return self.attend(x, mask)[0]

    def attend(
        self,
        x: Float[Tensor, "*batch time d_model"],
        mask: Bool[Array, "*mask"] | None = None,
    ) -> tuple[Float[Tensor, "*batch time d_head"], Float[Tensor, "*batch time time"]]:
        """Return the output and the weights."""
        if self.causal:
            mask = combine(mask, causal_mask(x.shape[-2]))
        return scaled_dot_product_attention(self.query(x), self.key(x), self.value(x), mask)


# ---- positions ---------------------------------------------------------------------------------


def sinusoidal_encoding(n: int, d: int, base: float = 10_000.0) -> Float[Array, "n d"]:
    """Return sines (even columns) and cosines (odd columns) of n positions at d/2 wavelengths.

    Wavelengths run from 2π to 2π·base in geometric steps; shifting a position rotates each
    pair of columns. Equation: transformers/self-attention.md#eq-sinusoidal. Source: Vaswani et
    al. 2017, arXiv:1706.03762.
    """
    if d % 2:
        raise ValueError(f"sinusoidal_encoding needs an even width: sines come in pairs; got {d}")
    angles = np.arange(n)[:, None] * base ** (-np.arange(0, d, 2) / d)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(n, d).astype(np.float32)


class LearnedPositions(Module):
    """A trained vector for each of ``n`` positions, added to the input; there is no n + 1st."""

    def __init__(
        self, n: int, d: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        self.n = n
        self.weight = Parameter((0.02 * rng.standard_normal((n, d))).astype(dtype))

    def forward(
        self, x: Float[Tensor, "*batch time d_model"], start: int = 0
    ) -> Float[Tensor, "*batch time d_model"]:
        """Add the vectors of positions ``start``, ``start`` + 1, …"""
        end = start + x.shape[-2]
        if end > self.n:
            raise ValueError(f"positions are learned up to {self.n}, the sequence needs {end}")
        return x + self.weight[start:end]


def rope_frequencies(
    d: int, base: float = 10_000.0, scaling: dict[str, Any] | None = None
) -> Float[Array, "pairs"]:
    """Return the d/2 angles by which `rope` rotates per position, in radians, fastest first.

    ``scaling`` extends a context: ``{"type": "linear", "factor": f}`` divides all angles by f
    (position interpolation); ``"ntk"`` raises the base so that only slow angles shrink;
    ``"yarn"`` with ``"original"`` positions divides slow ones and keeps fast ones, with a ramp
    between ``"beta_fast"`` (32) and ``"beta_slow"`` (1) turns; ``"llama3"`` does the same with
    ``"high_freq_factor"`` (4) and ``"low_freq_factor"`` (1).
    Equation: transformers/self-attention.md#eq-rope. Source: Su et al. 2021, arXiv:2104.09864;
    Peng et al. 2023, arXiv:2309.00071.
    """
    if d % 2:
        raise ValueError(f"rope rotates pairs and needs an even size; got {d}")
    powers = np.arange(0, d, 2) / d
    plain = base**-powers
    if scaling is None:
        return plain
    kind, factor = scaling["type"], float(scaling["factor"])
    if kind == "linear":
        return plain / factor
    if kind == "ntk":
        return (base * factor ** (d / (d - 2))) ** -powers
    if kind == "yarn":
        keep = _yarn_ramp(d, base, scaling)
    elif kind == "llama3":
        low, high = scaling.get("low_freq_factor", 1.0), scaling.get("high_freq_factor", 4.0)
        turns = scaling["original"] * plain / (2 * np.pi)
        keep = np.clip((turns - low) / (high - low), 0, 1)
    else:
        raise ValueError(f"rope scaling is linear, ntk, yarn or llama3, not {kind!r}")
    return keep * plain + (1 - keep) * plain / factor


def _yarn_ramp(d: int, base: float, scaling: dict[str, Any]) -> Array:
    """1 for pairs that turn often within the original context, 0 for those that hardly turn."""

    def pair_that_turns(turns: float) -> float:
        return d * math.log(scaling["original"] / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_that_turns(scaling.get("beta_fast", 32.0))), 0)
    high = min(math.ceil(pair_that_turns(scaling.get("beta_slow", 1.0))), d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0, 1)


@primitive
def _rotate(x: Array, cos: Array, sin: Array, *, layout: str) -> Any:
    def turn(x: Array, sin: Array) -> Array:
        y = np.empty_like(x)
        if layout == "half":
            half = x.shape[-1] // 2
            first, second = x[..., :half], x[..., half:]
            out_first, out_second = y[..., :half], y[..., half:]
        else:
            first, second = x[..., 0::2], x[..., 1::2]
            out_first, out_second = y[..., 0::2], y[..., 1::2]
        np.subtract(first * cos, second * sin, out=out_first)
        np.add(second * cos, first * sin, out=out_second)
        return y

    return turn(x, sin), lambda g: (turn(g, -sin),)


def rope(
    x: Float[Tensor, "*batch time d_head"],
    pos: Int[Array, "*#batch time"],
    base: float = 10_000.0,
    layout: str = "half",
    scaling: dict[str, Any] | None = None,
) -> Float[Tensor, "*batch time d_head"]:
    """Rotate pairs of features by an angle proportional to the position.

    The product of a query at m and a key at n then depends on m − n alone. Layout ``half``
    pairs feature i with i + d/2 (Llama), ``interleaved`` pairs 2i with 2i + 1 (the paper); a
    permutation of features turns one into the other. The gradient is the rotation back.
    Equation: transformers/self-attention.md#eq-rope
    """
    if layout not in ("half", "interleaved"):
        raise ValueError(f"rope layout is 'half' or 'interleaved', not {layout!r}")
    angles = pos[..., None] * rope_frequencies(x.shape[-1], base, scaling)
    dtype = x.dtype
    return _rotate(x, np.cos(angles).astype(dtype), np.sin(angles).astype(dtype), layout=layout)


def alibi_bias(heads: int, n: int) -> Float[Array, "heads n n"]:
    """Return a bias on the scores that falls linearly with distance, each head at its own slope.

    Slopes are the powers 2^(−8/heads), 2^(−16/heads), … (½ … 1/256 for 8 heads); for head
    counts that are no power of two, those of the next lower power, then every other one of
    the next higher. Distances to later keys are 0: combine with a causal mask.
    Equation: transformers/self-attention.md#eq-alibi. Source: Press et al. 2021, arXiv:2108.12409.
    """
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    distance = np.minimum(np.arange(n)[None, :] - np.arange(n)[:, None], 0)
    return (np.array(slopes)[:, None, None] * distance).astype(np.float32)


# ---- masks: true where a query (row) may look at a key (column) --------------------------------


def causal_mask(n: int, keys: int | None = None) -> Bool[Array, "n keys"]:
    """Let each query see itself and what came before; the last query sees the last key."""
    keys = n if keys is None else keys
    return np.arange(keys)[None, :] <= np.arange(n)[:, None] + (keys - n)


def padding_mask(lengths: Int[Array, "batch"], n: int) -> Bool[Array, "batch 1 1 n"]:
    """Hide the keys after each sequence's end, for scores of shape (batch, heads, n, n)."""
    return (np.arange(n)[None, :] < lengths[:, None])[:, None, None, :]


def prefix_mask(n: int, prefix: int) -> Bool[Array, "n n"]:
    """Let every query see the first ``prefix`` keys, and be causal after them."""
    return causal_mask(n) | (np.arange(n)[None, :] < prefix)


def sliding_window_mask(n: int, window: int) -> Bool[Array, "n n"]:
    """Let each query see itself and the ``window`` − 1 keys before it."""
    if window < 1:
        raise ValueError(f"a window holds at least the query itself; got {window}")
    behind = np.arange(n)[:, None] - np.arange(n)[None, :]
    return (behind >= 0) & (behind < window)


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


def has_leak(fn: Callable[[Array], Any], x: Float[Array, "time d"]) -> bool:
    """Tell whether any output of ``fn`` depends on a later input position.

    Changes one position at a time, by far more than rounding, and compares the outputs at
    the positions before it.
    """
    before = np.array(_values(fn(x)))
    for t in range(1, len(x)):
        changed = x.copy()
        changed[t] = changed[t] * -2 + 3
        after = _values(fn(changed))
        if not np.allclose(before[:t], after[:t], rtol=1e-6, atol=1e-7):
            return True
    return False


def _values(y: Any) -> Array:
    return y.data if isinstance(y, Tensor) else np.asarray(y)
