"""Blind set of math-foundations/information-theory: wrong answers from statement and stub alone."""

from __future__ import annotations

import heapq
from fractions import Fraction

import numpy as np

from chainrule.course.exercises import wrong


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


def _blocks(p, k):
    out = np.ones(1)
    for _ in range(k):
        out = np.kron(out, p)
    return out


def _merge(p, sign):
    heap, total = [sign * share for share in p], 0.0
    heapq.heapify(heap)
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += abs(joined)
        heapq.heappush(heap, joined)
    return total


@wrong("bits_with_blocks", "Bits for a whole block, not for a symbol.", known="forgets_to_divide")
def _(p, k):
    return _merge(_blocks(p, k), 1)


@wrong("bits_with_blocks", "The entropy: what blocks only come close to.", known="the_limit")
def _(p, k):
    return _bits(p)


@wrong(
    "bits_with_blocks",
    "Rounds every block's surprise up: a code, but not the best.",
    known="rounds_up",
)
def _(p, k):
    blocks = _blocks(p, k)
    return blocks @ np.ceil(-np.log2(blocks)) / k


@wrong("bits_with_blocks", "Codes single symbols and ignores k.", known="one_symbol_at_a_time")
def _(p, k):
    return _merge(p, 1)


@wrong("bits_with_blocks", "Joins the two likeliest blocks.", known="joins_the_likeliest")
def _(p, k):
    return _merge(_blocks(p, k), -1) / k


def _unknown(counts):
    n = counts.sum()
    x, y, both = (_bits(c / n) for c in (counts.sum(axis=1), counts.sum(axis=0), counts.ravel()))
    return np.log(2) * (both - x), np.log(2) * (both - y)


@wrong("corrected_uncertainty", "No correction at all.", known="plug_in")
def _(counts):
    return _unknown(counts)[0]


@wrong("corrected_uncertainty", "The correction is taken away and not added.", known="wrong_sign")
def _(counts):
    a, b = counts.shape
    return _unknown(counts)[0] - a * (b - 1) / (2 * counts.sum())


@wrong(
    "corrected_uncertainty", "Corrects the joint entropy alone.", known="bias_of_the_joint_alone"
)
def _(counts):
    a, b = counts.shape
    return _unknown(counts)[0] + (a * b - 1) / (2 * counts.sum())


@wrong("corrected_uncertainty", "Corrects as if it were the entropy of Y.", known="bias_of_one_row")
def _(counts):
    b = counts.shape[1]
    return _unknown(counts)[0] + (b - 1) / (2 * counts.sum())


@wrong("corrected_uncertainty", "X and Y are exchanged.", known="conditions_on_the_columns")
def _(counts):
    a, b = counts.shape
    return _unknown(counts)[1] + b * (a - 1) / (2 * counts.sum())


def _at(symbols, model):
    low, width = Fraction(0), Fraction(1)
    for i, s in enumerate(symbols):
        shares = model(symbols[:i])
        low += width * sum(shares[:s], Fraction(0))
        width *= shares[s]
    return low, width


def _written(number, bits):
    return format(number, f"0{bits}b") if bits else ""


def _fitting(low, width):
    bits = 0
    while True:
        number = -(-low.numerator * 2**bits // low.denominator)
        if Fraction(number + 1, 2**bits) <= low + width:
            return number, bits
        bits += 1


@wrong(
    "encode", "The page's rule: always fits, but often a bit too long.", known="always_half_as_wide"
)
def _(symbols, model):
    low, width = _at(symbols, model)
    bits = 1
    while Fraction(2, 2**bits) > width:
        bits += 1
    return _written(-(-low.numerator * 2**bits // low.denominator), bits)


@wrong(
    "encode",
    "Takes the first strip that begins inside and no wider than the interval.",
    known="sticks_out",
)
def _(symbols, model):
    low, width = _at(symbols, model)
    bits = 0
    while Fraction(1, 2**bits) > width:
        bits += 1
    return _written(-(-low.numerator * 2**bits // low.denominator), bits)


@wrong(
    "encode",
    "The shortest string that names a point inside: continuations may leave.",
    known="names_a_point",
)
def _(symbols, model):
    low, width = _at(symbols, model)
    bits = 0
    while True:
        number = -(-low.numerator * 2**bits // low.denominator)
        if Fraction(number, 2**bits) < low + width:
            return _written(number, bits)
        bits += 1


@wrong("encode", "Leading zeros are lost: bin() of the number.", known="loses_leading_zeros")
def _(symbols, model):
    number, _ = _fitting(*_at(symbols, model))
    return bin(number)[2:]


@wrong(
    "encode", "Asks the model for the first symbol's shares every time.", known="ignores_the_past"
)
def _(symbols, model):
    shares = model([])
    return _written(*_fitting(*_at(symbols, lambda past: shares)))


@wrong(
    "encode",
    "Moves the lower end by the share and not by the share times the width.",
    known="forgets_to_scale",
)
def _(symbols, model):
    low, width = Fraction(0), Fraction(1)
    for i, s in enumerate(symbols):
        shares = model(symbols[:i])
        low += sum(shares[:s], Fraction(0))
        width *= shares[s]
    return _written(*_fitting(low, width))


@wrong("quiet_other_way", "The page's k3: it estimates KL(p‖q).", known="the_page_s_direction")
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) - 1 - r


@wrong(
    "quiet_other_way",
    "The weighted log ratio: unbiased, but with both signs.",
    known="the_definition",
)
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) * r


@wrong(
    "quiet_other_way",
    "The log ratio of the other direction, without a weight.",
    known="forgets_the_weight",
)
def _(log_p, log_q):
    return log_q - log_p


@wrong(
    "quiet_other_way",
    "k3 turned round, as if the samples came from q.",
    known="samples_of_the_other",
)
def _(log_p, log_q):
    r = log_p - log_q
    return np.exp(r) - 1 - r


@wrong(
    "quiet_other_way",
    "Half the squared log ratio: never negative, but biased.",
    known="half_the_square",
)
def _(log_p, log_q):
    return (log_p - log_q) ** 2 / 2


@wrong("quiet_other_way", "The plus 1 is missing.", known="forgets_the_one")
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) * r - np.exp(r)


@wrong(
    "four_entropies",
    "H(Y | X) as the plain mean of the rows, however often each comes.",
    known="rows_alike",
)
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    rows = [_bits(row / row.sum()) for row in joint if row.sum() > 0]
    return np.array([x, y, both, np.mean(rows)])


@wrong("four_entropies", "The mutual information in place of H(Y | X).", known="what_they_share")
def _(joint):
    x, y, both = (_bits(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint.ravel()))
    return np.array([x, y, both, x + y - both])


@wrong(
    "wasted_bits",
    "The cost of the wrong code minus the entropy of q, not of p.",
    known="takes_off_the_other_entropy",
)
def _(p, q):
    some = p > 0
    with np.errstate(all="ignore"):
        return -(p[some] * np.log2(q[some])).sum() - _bits(q)


@wrong(
    "bits_with_blocks",
    "The plain mean of the words' lengths, not weighted.",
    known="plain_mean_of_lengths",
)
def _(p, k):
    groups = [(share, [i]) for i, share in enumerate(_blocks(p, k))]
    lengths = np.zeros(len(groups))
    while len(groups) > 1:
        groups.sort()
        (a, left), (b, right) = groups[:2]
        lengths[left + right] += 1
        groups = [*groups[2:], (a + b, left + right)]
    return lengths.mean() / k


@wrong("corrected_uncertainty", "Divides by n and not by 2n.", known="forgets_the_half")
def _(counts):
    a, b = counts.shape
    return _unknown(counts)[0] + a * (b - 1) / counts.sum()


@wrong(
    "corrected_uncertainty",
    "Counts the cells that were seen, as the page does.",
    known="counts_what_was_seen",
)
def _(counts):
    a, seen = counts.shape[0], np.count_nonzero(counts)
    return _unknown(counts)[0] + (seen - a) / (2 * counts.sum())


@wrong("quiet_other_way", "The page's k3 with the weight q/p in front.", known="weights_the_page_s")
def _(log_p, log_q):
    r = log_q - log_p
    return np.exp(r) * (np.exp(r) - 1 - r)
