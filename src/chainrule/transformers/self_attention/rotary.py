"""Rotary positions: queries and keys are turned by an angle that grows with the position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, primitive
from chainrule.shapes import Array, Float, Int

__all__ = ["rope", "rope_attention_factor", "rope_frequencies", "rope_order"]


def rope_frequencies(
    d: int, base: float = 10_000.0, scaling: dict[str, Any] | None = None
) -> Float[Array, "pairs"]:
    """Return the d/2 angles by which `rope` rotates per position, in radians, fastest first.

    ``scaling`` extends a context: ``{"type": "linear", "factor": f}`` divides all angles by f
    (position interpolation); ``"ntk"`` raises the base so that only slow angles shrink;
    ``"yarn"`` with ``"original"`` positions divides slow ones and keeps fast ones, with a ramp
    between ``"beta_fast"`` (32) and ``"beta_slow"`` (1) turns; ``"llama3"`` does the same with
    ``"high_freq_factor"`` (4) and ``"low_freq_factor"`` (1).

    In between, the ramp of ``"yarn"`` is a line over the number of the pair, as in its authors'
    code (their paper has a line over turns); that of ``"llama3"`` is a line over turns.

    Raises:
        ValueError: an odd size, a base not above 1, an unknown type, a missing or senseless entry.

    Equation: transformers/self-attention.md#eq-rope-frequencies.
    Equation: transformers/self-attention.md#eq-rope-scaling.
    Source: Su et al. 2021, arXiv:2104.09864; Chen et al. 2023, arXiv:2306.15595; Peng et al.
    2023, arXiv:2309.00071.
    """
    if d % 2:
        raise ValueError(f"rope rotates pairs and needs an even size; got {d}")
    if not base > 1:
        raise ValueError(f"rope_frequencies needs a base above 1, got {base}")
    powers = np.arange(0, d, 2) / max(d, 1)
    plain = base**-powers
    if scaling is None:
        return plain
    kind, factor = scaling.get("type"), _factor(scaling)
    if kind == "linear":
        return plain / factor
    if kind == "ntk":
        return (base * factor ** (d / (d - 2))) ** -powers if d > 2 else plain
    if kind == "yarn":
        keep = _yarn_ramp(d, base, scaling)
    elif kind == "llama3":
        low, high = _bounds(scaling, low_freq_factor=1.0, high_freq_factor=4.0)
        turns = _original(scaling) * plain / (2 * np.pi)
        keep = np.clip((turns - low) / (high - low), 0, 1)
    else:
        raise ValueError(f"rope scaling is linear, ntk, yarn or llama3, not {kind!r}")
    return keep * plain + (1 - keep) * plain / factor


def _entry(scaling: dict[str, Any], name: str) -> float:
    if name not in scaling:
        raise ValueError(f"rope scaling {scaling.get('type')!r} needs the entry {name!r}")
    return float(scaling[name])


def _factor(scaling: dict[str, Any]) -> float:
    factor = _entry(scaling, "factor")
    if not factor >= 1:
        raise ValueError(f"rope scaling stretches a context: factor at least 1, got {factor}")
    return factor


def _original(scaling: dict[str, Any]) -> float:
    original = _entry(scaling, "original")
    if not original > 0:
        raise ValueError(
            f"rope scaling {scaling.get('type')!r} needs 'original' above 0, got {original:g}"
        )
    return original


def _bounds(scaling: dict[str, Any], **defaults: float) -> tuple[float, float]:
    """The two numbers of turns between which a hand is slowed in part, the smaller first."""
    low, high = (float(scaling.get(name, default)) for name, default in defaults.items())
    if not 0 < low < high:
        names = " < ".join(defaults)
        raise ValueError(
            f"rope scaling {scaling.get('type')!r} needs 0 < {names}, got {low} and {high}"
        )
    return low, high


def _yarn_ramp(d: int, base: float, scaling: dict[str, Any]) -> Array:
    """1 for pairs that turn often within the original context, 0 for those that hardly turn."""
    original, (slow, fast) = _original(scaling), _bounds(scaling, beta_slow=1.0, beta_fast=32.0)

    def pair_that_turns(turns: float) -> float:
        return d * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(pair_that_turns(fast)), 0)
    high = min(math.ceil(pair_that_turns(slow)), d - 1)
    return 1 - np.clip((np.arange(d // 2) - low) / max(high - low, 0.001), 0, 1)


def rope_attention_factor(scaling: dict[str, Any] | None) -> float:
    """Return what `rope` multiplies queries and keys by: 0.1·log(factor) + 1 for yarn, else 1.

    Scores grow by its square. The formula was fitted to Llama models. Source: Peng et al. 2023,
    arXiv:2309.00071, section 3.

    Raises:
        ValueError: the factor is missing, or below 1.
    """
    if scaling is None or scaling.get("type") != "yarn":
        return 1.0
    return 0.1 * math.log(_factor(scaling)) + 1


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
    pairs feature i with i + d/2 (Llama), ``interleaved`` pairs 2i with 2i + 1 (the paper);
    `rope_order` turns one into the other. The gradient is the rotation back. Angles are
    computed in float64.

    Raises:
        ValueError: an unknown layout, an odd size, a position missing.

    Equation: transformers/self-attention.md#eq-rope. Source: Su et al. 2021, arXiv:2104.09864.
    """
    if layout not in ("half", "interleaved"):
        raise ValueError(f"rope layout is 'half' or 'interleaved', not {layout!r}")
    if pos.shape[-1] != x.shape[-2]:
        raise ValueError(f"rope: {x.shape[-2]} vectors need as many positions, got {pos.shape[-1]}")
    angles = pos[..., None] * rope_frequencies(x.shape[-1], base, scaling)
    size = rope_attention_factor(scaling)
    cos, sin = (size * np.cos(angles)).astype(x.dtype), (size * np.sin(angles)).astype(x.dtype)
    return _rotate(x, cos, sin, layout=layout)


def rope_order(d: int) -> Int[Array, "d"]:
    """Return the order of features that takes the layout ``interleaved`` to ``half``.

    ``x[..., order]`` has the first of each pair, then the second of each. Applied to the rows
    of a query and a key weight, it moves a head from one layout to the other; ``argsort`` of
    it goes back.

    Raises:
        ValueError: an odd size.
    """
    if d % 2:
        raise ValueError(f"rope rotates pairs and needs an even size; got {d}")
    return np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])
