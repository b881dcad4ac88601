"""Blind set of math-foundations/information-theory: wrong answers from statement and stub alone."""

from __future__ import annotations

import heapq
from fractions import Fraction

import numpy as np

from chainrule.course.exercises import wrong
from chainrule.math_foundations.information_theory import mutual_information


def _bits(p):
    p = p[p > 0]
    return -(p * np.log2(p)).sum()


@wrong("four_entropies", "Natural logarithms: nats, not bits.")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    return np.array([x, y, both, both - x]) * np.log(2)


@wrong("four_entropies", "X and Y are exchanged: sums over the wrong axis.")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=0), joint.sum(axis=1), joint.ravel()))
    return np.array([x, y, both, both - x])


@wrong("four_entropies", "H(X | Y) in place of H(Y | X).")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    return np.array([x, y, both, both - y])


@wrong("four_entropies", "0 · log 0 becomes NaN.")
def _(joint):
    def bits(p):
        with np.errstate(all="ignore"):
            return -(p * np.log2(p)).sum()

    x, y, both = (bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint))
    return np.array([x, y, both, both - x])


@wrong("four_entropies", "Takes H(X, Y) for H(X) + H(Y).")
def _(joint):
    x, y = _bits(joint.sum(axis=1)), _bits(joint.sum(axis=0))
    return np.array([x, y, x + y, y])


@wrong("wasted_bits", "Natural logarithms: nats, not bits.")
def _(p, q):
    some = p > 0
    with np.errstate(all="ignore"):
        return (p[some] * np.log(p[some] / q[some])).sum()


@wrong("wasted_bits", "The two distributions are exchanged.")
def _(p, q):
    some = q > 0
    with np.errstate(all="ignore"):
        return (q[some] * np.log2(q[some] / p[some])).sum()


@wrong("wasted_bits", "The whole length of the code, the cross-entropy, not the waste.")
def _(p, q):
    some = p > 0
    with np.errstate(all="ignore"):
        return -(p[some] * np.log2(q[some])).sum()


@wrong("wasted_bits", "Leaves out the symbols that q excludes, so that the waste is finite.")
def _(p, q):
    some = (p > 0) & (q > 0)
    return (p[some] * np.log2(p[some] / q[some])).sum()


@wrong("wasted_bits", "A small number is added to every logarithm, so infinity becomes large.")
def _(p, q):
    return (p * np.log2((p + 1e-12) / (q + 1e-12))).sum()


@wrong("huffman_lengths", "Rounds −log₂ p up: Shannon's lengths, which are not the shortest.")
def _(p):
    return np.ceil(-np.log2(p) - 1e-12).astype(int)


@wrong("huffman_lengths", "The same length for all.")
def _(p):
    return np.full(len(p), int(np.ceil(np.log2(len(p)))))


@wrong("huffman_lengths", "A comb: the likeliest gets 1 bit, the next 2, and so on.")
def _(p):
    lengths = np.empty(len(p), int)
    lengths[np.argsort(-p, kind="stable")] = np.minimum(np.arange(1, len(p) + 1), len(p) - 1)
    return lengths


def _merge(p, sign):
    heap = [(sign * share, [i]) for i, share in enumerate(p)]
    lengths = np.zeros(len(p), int)
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, left), (b, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, left + right))
    return lengths


@wrong("huffman_lengths", "Merges the two likeliest, not the two least likely.")
def _(p):
    return _merge(p, -1)


@wrong("huffman_lengths", "The lengths come sorted, and not in the order of the symbols.")
def _(p):
    return np.sort(_merge(p, 1))


@wrong("corrected_information", "No correction at all.")
def _(counts):
    return mutual_information(counts / counts.sum())


@wrong("corrected_information", "The bias is added and not taken away.")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) + (a - 1) * (b - 1) / (2 * counts.sum())


@wrong("corrected_information", "Uses a·b − 1, the degrees of freedom of the joint entropy alone.")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) - (a * b - 1) / (2 * counts.sum())


@wrong("corrected_information", "Forgets the factor two below the bias.")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) - (a - 1) * (b - 1) / counts.sum()


@wrong("corrected_information", "Uses a·b in place of (a − 1)(b − 1).")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) - a * b / (2 * counts.sum())


def _interval(symbols, shares):
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low += width * sum(shares[:s], Fraction(0))
        width *= shares[s]
    return low, width


def _length(width, more):
    bits = 0
    while Fraction(1, 2**bits) > width:
        bits += 1
    return bits + more


@wrong("encode", "Enough bits to name a point, but some continuations leave the interval.")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 0)
    number = -(-low.numerator * 2**bits // low.denominator)
    return format(number, f"0{bits}b") if bits else ""


@wrong("encode", "Rounds the lower end down: the string starts below the interval.")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 1)
    return format(low.numerator * 2**bits // low.denominator, f"0{bits}b")


@wrong("encode", "Three bits more than needed.")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 3)
    return format(-(-low.numerator * 2**bits // low.denominator), f"0{bits}b")


@wrong("encode", "Leading zeros are lost: bin() of the number.")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 1)
    return bin(-(-low.numerator * 2**bits // low.denominator))[2:]


@wrong("encode", "Moves the lower end by the share and not by the share times the width.")
def _(symbols, shares):
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low += sum(shares[:s], Fraction(0))
        width *= shares[s]
    bits = _length(width, 1)
    return format(-(-low.numerator * 2**bits // low.denominator), f"0{bits}b")


@wrong("quiet_kl", "The plain log ratio: unbiased, but negative and spread wide.")
def _(log_p, log_q):
    return log_p - log_q


@wrong("quiet_kl", "Half the squared log ratio: never negative, but biased.")
def _(log_p, log_q):
    return (log_p - log_q) ** 2 / 2


@wrong("quiet_kl", "The ratio is turned round: p over q, the estimator for samples from q.")
def _(log_p, log_q):
    r = log_p - log_q
    return np.exp(r) - 1 - r


@wrong("quiet_kl", "The minus 1 is missing.")
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) - r


@wrong("quiet_kl", "Cuts the negative estimates off at 0, which makes a bias.")
def _(log_p, log_q):
    return np.maximum(log_p - log_q, 0)
