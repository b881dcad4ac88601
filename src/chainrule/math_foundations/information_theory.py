"""Entropy, divergence, mutual information, and the two codes that make them real.

Taught in ``math-foundations/information-theory.md``. Results are in nats unless ``base`` says
otherwise: ``base=2`` gives bits. Distributions may be arrays or lists. Shape names: ``symbols``
outcomes of a distribution, ``x`` and ``y`` outcomes of two variables, ``n`` samples.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from math import e, log
from typing import Any

import numpy as np

from chainrule.math_foundations.probability import Gaussian
from chainrule.shapes import Array, Float, Int, Num

__all__ = [
    "arithmetic_decode",
    "arithmetic_encode",
    "conditional_entropy",
    "cross_entropy",
    "entropy",
    "gaussian_kl",
    "huffman",
    "js",
    "kl",
    "kl_estimators",
    "miller_madow",
    "mutual_information",
    "nats_to_bits",
    "perplexity",
]

Model = Callable[[Sequence[int]], Array]


def nats_to_bits(nats: float) -> float:
    """Divide by ln 2: 1.284 nats are 1.852 bits.

    Equation: math-foundations/information-theory.md#eq-nats-to-bits
    """
    return nats / log(2)


def entropy(p: Float[Array, "*symbols"], base: float = e) -> float:
    """The mean surprise Σ −p log p: the shortest mean code length. 0·log 0 counts as 0.

    Equation: math-foundations/information-theory.md#eq-entropy
    """
    p = _distribution(p, "p")
    return cross_entropy(p, p, base)


def cross_entropy(
    p: Float[Array, "*symbols"], q: Float[Array, "*symbols"], base: float = e
) -> float:
    """Σ −p log q: the mean code length when symbols come from p and the code was made for q.

    Infinite when q gives probability 0 to a symbol that p produces.

    Raises:
        ValueError: p or q is no distribution, their shapes differ, or base is not above 1.

    Equation: math-foundations/information-theory.md#eq-cross-entropy
    """
    p, q, unit = _pair(p, q, base)
    happens = p > 0
    with np.errstate(divide="ignore"):
        return float(0.0 - np.sum(p[happens] * np.log(q[happens]))) / unit


def kl(p: Float[Array, "*symbols"], q: Float[Array, "*symbols"], base: float = e) -> float:
    """KL(p‖q) = Σ p log(p/q): the code length wasted by using q's code for symbols from p.

    Never negative: where rounding leaves −4e-16 the answer is 0.

    Raises:
        ValueError: p or q is no distribution, their shapes differ, or base is not above 1.

    Equation: math-foundations/information-theory.md#eq-kl
    """
    p, q, unit = _pair(p, q, base)
    happens = p > 0
    with np.errstate(divide="ignore"):
        wasted = float(np.sum(p[happens] * (np.log(p[happens]) - np.log(q[happens]))))
    return max(0.0, wasted) / unit


def js(p: Float[Array, "*symbols"], q: Float[Array, "*symbols"], base: float = e) -> float:
    """Jensen–Shannon divergence: the mean KL of p and q to their midpoint; symmetric, ≤ log 2.

    Equation: math-foundations/information-theory.md#eq-js
    """
    p, q, _ = _pair(p, q, base)
    middle = (p + q) / 2
    return (kl(p, middle, base) + kl(q, middle, base)) / 2


def mutual_information(joint: Float[Array, "x y"], base: float = e) -> float:
    """What knowing one variable says about the other: KL(joint ‖ product of its marginals).

    Equation: math-foundations/information-theory.md#eq-mutual-information
    """
    joint = _table(joint)
    x, y = np.nonzero(joint)
    p = joint[x, y]
    # The product of two small marginals could vanish; its logarithm cannot.
    product = np.log(joint.sum(axis=1)[x]) + np.log(joint.sum(axis=0)[y])
    return max(0.0, float(np.sum(p * (np.log(p) - product)))) / _unit(base)


def conditional_entropy(joint: Float[Array, "x y"], base: float = e) -> float:
    """H(Y|X): what remains unknown of the column when the row is known; H(X,Y) − H(X).

    Equation: math-foundations/information-theory.md#eq-conditional-entropy
    """
    joint = _table(joint)
    return max(0.0, entropy(joint, base) - entropy(joint.sum(axis=1), base))


def miller_madow(counts: Num[Array, "symbols"]) -> float:
    """Entropy in nats estimated from counts, corrected for the bias of plugging in frequencies.

    The plug-in estimate is too low by about (K − 1)/(2n), K being the symbols that were seen.

    Equation: math-foundations/information-theory.md#eq-miller-madow
    Source: Miller, Note on the bias of information estimates, 1955.

    Raises:
        ValueError: a count is negative, or all are 0.
    """
    counts = np.asarray(counts)
    n = counts.sum()
    if not (n > 0 and np.all(counts >= 0)):
        raise ValueError(f"miller_madow: counts must be at least 0 and not all 0, got {counts}")
    return entropy(counts / n) + (np.count_nonzero(counts) - 1) / (2 * float(n))


def perplexity(nll: Num[Array, "*tokens"] | float) -> float:
    """exp of the mean of negative log-likelihoods in nats: the size of the equivalent fair die.

    Raises:
        ValueError: there is no token.

    Equation: math-foundations/information-theory.md#eq-perplexity
    """
    if np.size(nll) == 0:
        raise ValueError("perplexity: expected at least one negative log-likelihood, received none")
    with np.errstate(over="ignore"):
        return float(np.exp(np.mean(nll)))


def kl_estimators(
    logp: Float[Array, "n"], logq: Float[Array, "n"]
) -> tuple[Float[Array, "n"], Float[Array, "n"], Float[Array, "n"]]:
    """Three per-sample estimates of KL(p‖q) from samples **of p**, with r = q/p.

    k1 = −log r is unbiased but may be negative; k2 = ½ (log r)² is biased with low variance;
    k3 = r − 1 − log r is unbiased and never negative.

    Raises:
        ValueError: the shapes differ.

    Equation: math-foundations/information-theory.md#eq-kl-estimators
    Source: Schulman, Approximating KL divergence, 2020.
    """
    logp, logq = np.asarray(logp), np.asarray(logq)
    if logp.shape != logq.shape:
        raise ValueError(
            f"kl_estimators: expected logp and logq of one shape, received {logp.shape} and "
            f"{logq.shape}"
        )
    log_ratio = logq - logp
    with np.errstate(over="ignore"):
        return -log_ratio, 0.5 * log_ratio**2, np.expm1(log_ratio) - log_ratio


def gaussian_kl(p: Gaussian, q: Gaussian) -> float:
    """KL(p‖q) of two multivariate Gaussians, in nats.

    ½ (trace(Σq⁻¹ Σp) + (μq − μp)ᵀ Σq⁻¹ (μq − μp) − d + log det Σq − log det Σp)

    Raises:
        ValueError: p and q have not the same number of coordinates.

    Equation: math-foundations/information-theory.md#eq-gaussian-kl
    """
    if len(p.mu) != len(q.mu):
        raise ValueError(
            "gaussian_kl: expected p and q in one space, received distributions of "
            f"{len(p.mu)} and {len(q.mu)} coordinates"
        )
    spread = np.linalg.solve(q.cholesky, p.cholesky)
    shift = np.linalg.solve(q.cholesky, q.mu - p.mu)
    log_det = np.sum(np.log(np.diag(q.cholesky)) - np.log(np.diag(p.cholesky)))
    return max(0.0, float(0.5 * (np.sum(spread**2) + shift @ shift - len(p.mu)) + log_det))


def huffman(p: Float[Array, "symbols"]) -> list[str]:
    """An optimal prefix code: one string of 0 and 1 for each symbol, in the order of ``p``.

    Join the two least likely groups until one is left; each join puts a bit in front. The mean
    length is at least the entropy in bits, and less than one bit above it if there are two symbols
    or more and none is impossible. A single symbol still gets one bit.

    Equation: math-foundations/information-theory.md#eq-huffman-length
    Source: Huffman, A method for the construction of minimum-redundancy codes, 1952.
    """
    p = _row(p, "p")
    if len(p) == 1:
        return ["0"]
    codes = [""] * len(p)
    heap = [(float(weight), [symbol]) for symbol, weight in enumerate(p)]
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, zeros), (second, ones) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in zeros:
            codes[symbol] = "0" + codes[symbol]
        for symbol in ones:
            codes[symbol] = "1" + codes[symbol]
        heapq.heappush(heap, (first + second, zeros + ones))
    return codes


_BITS = 62
_HALF = 1 << (_BITS - 1)
_QUARTER = 1 << (_BITS - 2)
_TOTAL = 1 << 48


def arithmetic_encode(symbols: Sequence[int], model: Model) -> list[int]:
    """Write symbols as bits: about −log₂ P(symbols) of them, and at most two more.

    Rounding adds less than 5V/2⁴⁸ bits a symbol, V being the size of the alphabet: 3e-4 bits for
    300,000 symbols of 50,000 kinds.

    The interval [0, 1) shrinks to the part that each symbol owns under ``model``, which maps the
    symbols so far to the probabilities of the next. Bits on which the whole interval agrees are
    written, and the interval is doubled, so that 62-bit whole numbers suffice. Probabilities are
    rounded to multiples of 2⁻⁴⁸, and none to 0.

    Equation: math-foundations/information-theory.md#eq-arithmetic-coding
    Source: Witten, Neal and Cleary, Arithmetic coding for data compression, 1987.

    Raises:
        ValueError: a symbol is outside of the model's alphabet, or the model gives no distribution.
    """
    low, high, undecided = 0, (1 << _BITS) - 1, 0
    bits: list[int] = []
    seen: list[int] = []
    for position, symbol in enumerate(symbols):
        edges = _edges(model(seen))
        seen.append(symbol)
        if not 0 <= symbol < len(edges) - 1:
            raise ValueError(
                f"arithmetic_encode: symbol {symbol} at position {position} is not in "
                f"0..{len(edges) - 2}"
            )
        low, high = _narrow(low, high, edges, symbol)
        while True:
            if high < _HALF or low >= _HALF:
                bit = int(low >= _HALF)
                bits += [bit] + [1 - bit] * undecided
                undecided, offset = 0, bit * _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                undecided, offset = undecided + 1, _QUARTER
            else:
                break
            low, high = 2 * (low - offset), 2 * (high - offset) + 1
    last = int(low >= _QUARTER)
    return [*bits, last, *[1 - last] * (undecided + 1)]


def arithmetic_decode(bits: Sequence[int], model: Model, n: int) -> list[int]:
    """Read ``n`` symbols back from the bits that `arithmetic_encode` wrote with the same model."""
    low, high = 0, (1 << _BITS) - 1
    padded = iter([*bits, *[0] * _BITS])
    window = 0
    for _ in range(_BITS):
        window = 2 * window + next(padded, 0)
    symbols: list[int] = []
    for _ in range(n):
        edges = _edges(model(symbols))
        target = ((window - low + 1) * _TOTAL - 1) // (high - low + 1)
        symbol = int(np.searchsorted(edges, target, side="right")) - 1
        symbols.append(symbol)
        low, high = _narrow(low, high, edges, symbol)
        while True:
            if high < _HALF or low >= _HALF:
                offset = int(low >= _HALF) * _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                offset = _QUARTER
            else:
                break
            low, high = 2 * (low - offset), 2 * (high - offset) + 1
            window = 2 * (window - offset) + next(padded, 0)
    return symbols


def _narrow(low: int, high: int, edges: Int[Array, "edges"], symbol: int) -> tuple[int, int]:
    """The part of [low, high] that a symbol owns, both ends included."""
    width = high - low + 1
    left, right = int(edges[symbol]), int(edges[symbol + 1])
    return low + width * left // _TOTAL, low + width * right // _TOTAL - 1


def _edges(p: Any) -> Int[Array, "edges"]:
    """Rounded cumulative probabilities from 0 to 2⁴⁸, each step at least 2.

    A step is more than p·(2⁴⁸ − 3V) + 1, and `_narrow` rounds away less than that 1.
    """
    p = _row(p, "the model's probabilities")
    widths = 2 + np.floor(p / p.sum() * (_TOTAL - 3 * len(p))).astype(np.int64)
    widths[np.argmax(widths)] += _TOTAL - widths.sum()
    return np.concatenate([[0], np.cumsum(widths)])


def _pair(p: Any, q: Any, base: float) -> tuple[Array, Array, float]:
    """Both distributions as arrays, and the number of nats in a unit."""
    p, q = _distribution(p, "p"), _distribution(q, "q")
    if p.shape != q.shape:
        raise ValueError(f"expected p and q of one shape, received {p.shape} and {q.shape}")
    return p, q, _unit(base)


def _unit(base: float) -> float:
    """The number of nats in a unit."""
    if not base > 1:
        raise ValueError(f"the base must be above 1, received {base}")
    return log(base)


def _table(joint: Any) -> Array:
    joint = _distribution(joint, "the joint distribution")
    if joint.ndim != 2:
        raise ValueError(
            f"expected the joint distribution as a table, received shape {joint.shape}"
        )
    return joint


def _row(p: Any, name: str) -> Array:
    p = _distribution(p, name)
    if p.ndim != 1:
        raise ValueError(f"{name} must be one row, received shape {p.shape}")
    return p


def _distribution(p: Any, name: str) -> Array:
    p = np.asarray(p)
    if p.dtype.kind in "biu":
        p = p.astype(np.float64)
    if p.dtype.kind != "f":
        raise ValueError(f"{name} must be real numbers, received {p.dtype}")
    if p.size == 0:
        raise ValueError(f"{name} must be a distribution, received no entries")
    total = float(np.sum(p))
    if not np.all(p >= 0) or abs(total - 1) > 1e-6:
        raise ValueError(
            f"{name} must be at least 0 and sum to 1, got smallest {np.min(p):.3g}, sum {total:.6g}"
        )
    return p
