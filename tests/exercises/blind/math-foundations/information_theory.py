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


@wrong("four_entropies", "Natural logarithms: nats, not bits.", known="in_nats")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    return np.array([x, y, both, both - x]) * np.log(2)


@wrong(
    "four_entropies", "X and Y are exchanged: sums over the wrong axis.", known="wrong_marginals"
)
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=0), joint.sum(axis=1), joint.ravel()))
    return np.array([x, y, both, both - x])


@wrong("four_entropies", "H(X | Y) in place of H(Y | X).", known="conditions_on_the_other")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    return np.array([x, y, both, both - y])


@wrong("four_entropies", "0 · log 0 becomes NaN.", known="zero_times_infinity")
def _(joint):
    def bits(p):
        with np.errstate(all="ignore"):
            return -(p * np.log2(p)).sum()

    x, y, both = (bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint))
    return np.array([x, y, both, both - x])


@wrong("four_entropies", "Takes H(X, Y) for H(X) + H(Y).", known="takes_them_for_independent")
def _(joint):
    x, y = _bits(joint.sum(axis=1)), _bits(joint.sum(axis=0))
    return np.array([x, y, x + y, y])


@wrong("wasted_bits", "Natural logarithms: nats, not bits.", known="wasted_nats")
def _(p, q):
    some = p > 0
    with np.errstate(all="ignore"):
        return (p[some] * np.log(p[some] / q[some])).sum()


@wrong("wasted_bits", "The two distributions are exchanged.", known="the_other_direction")
def _(p, q):
    some = q > 0
    with np.errstate(all="ignore"):
        return (q[some] * np.log2(q[some] / p[some])).sum()


@wrong(
    "wasted_bits",
    "The whole length of the code, the cross-entropy, not the waste.",
    known="whole_cost",
)
def _(p, q):
    some = p > 0
    with np.errstate(all="ignore"):
        return -(p[some] * np.log2(q[some])).sum()


@wrong(
    "wasted_bits",
    "Leaves out the symbols that q excludes, so that the waste is finite.",
    known="leaves_the_excluded_out",
)
def _(p, q):
    some = (p > 0) & (q > 0)
    return (p[some] * np.log2(p[some] / q[some])).sum()


@wrong(
    "wasted_bits",
    "A small number is added to every logarithm, so infinity becomes large.",
    known="hides_infinity",
)
def _(p, q):
    return (p * np.log2((p + 1e-12) / (q + 1e-12))).sum()


@wrong(
    "huffman_lengths",
    "Rounds −log₂ p up: Shannon's lengths, which are not the shortest.",
    known="rounds_up",
)
def _(p):
    return np.ceil(-np.log2(p) - 1e-12).astype(int)


@wrong("huffman_lengths", "The same length for all.", known="equal_lengths")
def _(p):
    return np.full(len(p), int(np.ceil(np.log2(len(p)))))


@wrong(
    "huffman_lengths",
    "A comb: the likeliest gets 1 bit, the next 2, and so on.",
    known="one_long_chain",
)
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


@wrong(
    "huffman_lengths",
    "Merges the two likeliest, not the two least likely.",
    known="joins_the_likeliest",
)
def _(p):
    return _merge(p, -1)


@wrong("huffman_lengths", "The lengths come sorted, and not in the order of the symbols.")
def _(p):
    return np.sort(_merge(p, 1))


@wrong("corrected_information", "No correction at all.", known="plug_in")
def _(counts):
    return mutual_information(counts / counts.sum())


@wrong("corrected_information", "The bias is added and not taken away.", known="wrong_sign")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) + (a - 1) * (b - 1) / (2 * counts.sum())


@wrong(
    "corrected_information",
    "Uses a·b − 1, the degrees of freedom of the joint entropy alone.",
    known="bias_of_the_joint_alone",
)
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) - (a * b - 1) / (2 * counts.sum())


@wrong("corrected_information", "Forgets the factor two below the bias.", known="forgets_the_half")
def _(counts):
    a, b = counts.shape
    return mutual_information(counts / counts.sum()) - (a - 1) * (b - 1) / counts.sum()


@wrong("corrected_information", "Uses a·b in place of (a − 1)(b − 1).", known="counts_all_cells")
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


@wrong(
    "encode",
    "Enough bits to name a point, but some continuations leave the interval.",
    known="one_bit_short",
)
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 0)
    number = -(-low.numerator * 2**bits // low.denominator)
    return format(number, f"0{bits}b") if bits else ""


@wrong(
    "encode",
    "Rounds the lower end down: the string starts below the interval.",
    known="rounds_down",
)
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 1)
    return format(low.numerator * 2**bits // low.denominator, f"0{bits}b")


@wrong("encode", "Three bits more than needed.", known="too_many_bits")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 3)
    return format(-(-low.numerator * 2**bits // low.denominator), f"0{bits}b")


@wrong("encode", "Leading zeros are lost: bin() of the number.", known="loses_leading_zeros")
def _(symbols, shares):
    low, width = _interval(symbols, shares)
    bits = _length(width, 1)
    return bin(-(-low.numerator * 2**bits // low.denominator))[2:]


@wrong(
    "encode",
    "Moves the lower end by the share and not by the share times the width.",
    known="forgets_to_scale",
)
def _(symbols, shares):
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low += sum(shares[:s], Fraction(0))
        width *= shares[s]
    bits = _length(width, 1)
    return format(-(-low.numerator * 2**bits // low.denominator), f"0{bits}b")


@wrong(
    "quiet_kl",
    "The plain log ratio: unbiased, but negative and spread wide.",
    known="the_definition",
)
def _(log_p, log_q):
    return log_p - log_q


@wrong(
    "quiet_kl", "Half the squared log ratio: never negative, but biased.", known="half_the_square"
)
def _(log_p, log_q):
    return (log_p - log_q) ** 2 / 2


@wrong(
    "quiet_kl",
    "The ratio is turned round: p over q, the estimator for samples from q.",
    known="ratio_upside_down",
)
def _(log_p, log_q):
    r = log_p - log_q
    return np.exp(r) - 1 - r


@wrong("quiet_kl", "The minus 1 is missing.", known="forgets_the_one")
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) - r


@wrong(
    "quiet_kl",
    "Cuts the negative estimates off at 0, which makes a bias.",
    known="cuts_off_at_zero",
)
def _(log_p, log_q):
    return np.maximum(log_p - log_q, 0)
