"""Exercises of math-foundations/information-theory.md."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_shape
from chainrule.math_foundations.information_theory import entropy, huffman, mutual_information


def _bits(p):
    happens = p > 0
    return float(-np.sum(p[happens] * np.log2(p[happens])))


@exercise(
    "Four entropies",
    difficulty=1,
    minutes=15,
    section="mutual-information",
    counterpart="chainrule.math_foundations.information_theory:entropy",
    idea=(
        "Sum the table over one variable to get the distribution of the other. What is unknown "
        "of Y once X is known is what both hold together minus what X holds."
    ),
)
def four_entropies(joint):
    """Return an array of four entropies in bits: H(X), H(Y), H(X, Y) and H(Y | X).

    joint has shape (a, b); joint[i, j] is the probability that X is i and Y is j. Entries may be 0.
    By hand first: for [[1/2, 1/4], [0, 1/4]], what are they?
    """
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    both = _bits(joint.ravel())
    return np.array([_bits(rows), _bits(columns), both, both - _bits(rows)])


@four_entropies.by_package
def _(package, joint):
    tables = joint.sum(axis=1), joint.sum(axis=0), joint
    x, y, both = (package(p, base=2) for p in tables)
    return np.array([x, y, both, both - x])


@four_entropies.check
def by_hand(answer, rng):
    with np.errstate(all="ignore"):
        received = answer(np.array([[0.5, 0.25], [0.0, 0.25]]))
    expect_close(
        received,
        np.array([0.811278124, 1.0, 1.5, 0.688721876]),
        what="the entropies of [[1/2, 1/4], [0, 1/4]]",
    )


@four_entropies.check
def independent_variables(answer, rng):
    row, column = np.array([0.5, 0.25, 0.25]), np.array([0.5, 0.5])
    expect_close(
        answer(np.outer(row, column)),
        np.array([1.5, 1.0, 2.5, 1.0]),
        what="the entropies of two independent variables",
    )


@four_entropies.check
def random_table(answer, rng):
    joint = rng.dirichlet(np.ones(15)).reshape(3, 5)
    h = [entropy(p, base=2) for p in (joint.sum(axis=1), joint.sum(axis=0), joint)]
    expect_close(answer(joint), np.array([*h, h[2] - h[0]]), what="the entropies of a 3 × 5 table")


@four_entropies.mistake("Bits were asked for. Which base does np.log have?")
def in_nats(joint):
    return four_entropies(joint) * np.log(2)


@four_entropies.mistake(
    "Your first two are exchanged. Summing over axis 0 leaves the columns: whose distribution is "
    "that?"
)
def wrong_marginals(joint):
    h = four_entropies(joint)
    return np.array([h[1], h[0], h[2], h[2] - h[1]])


@four_entropies.mistake(
    "Your last entry is H(X | Y). What is already known in H(Y | X), and must be taken off?"
)
def conditions_on_the_other(joint):
    h = four_entropies(joint)
    return np.array([h[0], h[1], h[2], h[2] - h[1]])


@four_entropies.mistake(
    "Your third entry is what independent variables would hold together. These two share "
    "something: read H(X, Y) off the table itself."
)
def takes_them_for_independent(joint):
    h = four_entropies(joint)
    return np.array([h[0], h[1], h[0] + h[1], h[1]])


@four_entropies.mistake(
    "An entry of 0 made your sum nan. What is the limit of p·log p as p goes to 0?"
)
def zero_times_infinity(joint):
    def naive(p):
        return -np.sum(p * np.log2(p))

    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    return np.array([naive(rows), naive(columns), naive(joint), naive(joint) - naive(rows)])


@exercise(
    "What the wrong code wastes",
    difficulty=2,
    minutes=15,
    section="cross-entropy-and-kl-divergence",
    counterpart="chainrule.math_foundations.information_theory:kl",
    idea=(
        "The waste of one symbol is the difference of two surprises, weighted by how often the "
        "symbol comes. Symbols that never come take no part."
    ),
)
def wasted_bits(p, q):
    """Return KL(p‖q) in bits: what coding symbols from p with a code made for q wastes.

    p and q have shape (n,) and sum to 1. Entries may be 0: a symbol that never comes costs
    nothing, and one that comes though q excludes it costs np.inf.
    """
    happens = p > 0
    with np.errstate(divide="ignore"):
        return float(np.sum(p[happens] * (np.log2(p[happens]) - np.log2(q[happens]))))


@wasted_bits.by_package
def _(package, p, q):
    return package(p, q, base=2)


@wasted_bits.in_package
def _(mine, p, q, base=np.e):
    return mine(p, q) / np.log2(base)


@wasted_bits.check
def coins_of_the_page(answer, rng):
    p, q = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    expect_close(answer(p, q), 0.2075187496, what="the bits wasted on (½, ½) by the code of (¾, ¼)")
    expect_close(answer(q, p), 0.1887218755, what="the bits wasted on (¾, ¼) by the code of (½, ½)")


@wasted_bits.check
def never_happens(answer, rng):
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.25, 0.5])
    with np.errstate(all="ignore"):
        expect_close(answer(p, q), 1.0, what="the bits wasted when the third symbol never comes")


@wasted_bits.check
def excluded_by_the_code(answer, rng):
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    with np.errstate(all="ignore"):
        received = answer(p, q)
    expect(received == np.inf, f"q excludes a symbol that comes: expected inf, received {received}")


@wasted_bits.check
def not_negative(answer, rng):
    for _ in range(50):
        p, q = rng.dirichlet(np.ones(7), size=2)
        wasted = answer(p, q)
        expect(wasted >= 0, f"wasted bits are never negative, but you return {wasted:.4f}")
        expect_close(
            wasted, float(np.sum(p * np.log2(p / q))), what="the bits wasted between random p and q"
        )


def _naively(p, q):
    with np.errstate(all="ignore"):
        return float(np.sum(p * np.log2(p / q)))


@wasted_bits.mistake(
    "Right for the other direction. Which distribution do the symbols come from?",
    waste=(wasted_bits.solution, _naively),
)
def the_other_direction(p, q, waste):
    return waste(q, p)


@wasted_bits.mistake(
    "You returned the whole cost, H(p, q). Which part of it would the best code cost as well?"
)
def whole_cost(p, q):
    happens = p > 0
    return float(-np.sum(p[happens] * np.log2(q[happens])))


@wasted_bits.mistake(
    "A small number added inside the logarithm makes the impossible cheap. If q excludes what "
    "happens, the honest answer is infinity.",
    eps=(1e-16, 1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6),
)
def hides_infinity(p, q, eps):
    return float(np.sum(p * np.log2((p + eps) / (q + eps))))


@wasted_bits.mistake(
    "You left out the symbols that q excludes. If one of them comes, no word of q's code can say "
    "so: what does that cost?"
)
def leaves_the_excluded_out(p, q):
    both = (p > 0) & (q > 0)
    return float(np.sum(p[both] * np.log2(p[both] / q[both])))


@wasted_bits.mistake("A probability of 0 gave nan. What is the limit of p·log p as p goes to 0?")
def gives_nan(p, q):
    return float(np.sum(p * np.log2(p / q)))


@wasted_bits.mistake(
    "You are off by the factor ln 2. Bits or nats?", waste=(wasted_bits.solution, _naively)
)
def wasted_nats(p, q, waste):
    return waste(p, q) * np.log(2)


@exercise(
    "Huffman's lengths",
    difficulty=3,
    minutes=25,
    section="a-code-that-reaches-it",
    because=(
        "among codes of equal mean length huffman may choose another; the checks compare mean "
        "lengths with it"
    ),
    idea=(
        "Join the two least likely groups into one, again and again. Each time, all symbols "
        "inside of the two groups get one bit longer."
    ),
)
def huffman_lengths(p):
    """Return the codeword lengths of an optimal prefix code, as an integer array of shape (n,).

    p has shape (n,) with n ≥ 2 positive probabilities that sum to 1. Words are strings of bits,
    none begins another, and the mean length, weighted with p, is the least possible. Different
    optimal codes may have different lengths; any of them will do.
    """
    groups = [(float(weight), [k]) for k, weight in enumerate(p)]
    lengths = np.zeros(len(p), dtype=int)
    while len(groups) > 1:
        groups.sort(key=lambda group: group[0])
        (a, first), (b, second), *rest = groups
        lengths[first + second] += 1
        groups = [(a + b, first + second), *rest]
    return lengths


def _expect_decodable(lengths):
    kraft = float(np.sum(2.0 ** -np.asarray(lengths, dtype=float)))
    expect(
        kraft <= 1 + 1e-12,
        f"the lengths {np.asarray(lengths).tolist()} need {kraft:.3f} of the space of bit strings: "
        "no prefix code has them",
    )


@huffman_lengths.check
def halves_and_eighths(answer, rng):
    received = answer(np.array([0.125, 0.5, 0.125, 0.25]))
    expect_shape(received, (4,), what="the lengths")
    expect_equal(received, np.array([3, 1, 3, 2]), what="the lengths for (1/8, 1/2, 1/8, 1/4)")


@huffman_lengths.check
def unbalanced(answer, rng):
    p = np.array([0.4, 0.2, 0.2, 0.1, 0.1])
    received = answer(p)
    _expect_decodable(received)
    expect_close(float(p @ received), 2.2, what="the mean length for (0.4, 0.2, 0.2, 0.1, 0.1)")


@huffman_lengths.check
def between_entropy_and_one_more(answer, rng):
    for n in (2, 7, 23):
        p = rng.dirichlet(np.full(n, 0.3)) * (1 - n * 1e-6) + 1e-6
        received = answer(p)
        _expect_decodable(received)
        mean, h = float(p @ received), entropy(p, base=2)
        expect(h - 1e-9 <= mean < h + 1, f"mean length {mean:.3f}, entropy {h:.3f}, for n = {n}")
        best = float(p @ [len(word) for word in huffman(p)])
        expect_close(mean, best, what=f"the mean length for {n} random probabilities")


@huffman_lengths.mistake(
    "Rounding each surprise up gives a code, but not always the best. Try (0.9, 0.1): how many "
    "bits does the second symbol get?"
)
def rounds_up(p):
    return np.ceil(-np.log2(p) - 1e-12).astype(int)


@huffman_lengths.mistake(
    "Rounding surprises to the nearest whole number may need more space than there is. Check the "
    "Kraft inequality."
)
def rounds_to_nearest(p):
    return np.maximum(np.round(-np.log2(p)), 1).astype(int)


@huffman_lengths.mistake(
    "After joining two symbols, their group has the sum of their probabilities and goes back among "
    "the others. You go on adding to it as though it stayed the least likely."
)
def one_long_chain(p):
    order = np.argsort(p)
    lengths = np.zeros(len(p), dtype=int)
    for k in range(1, len(p)):
        lengths[order[: k + 1]] += 1
    return lengths


@huffman_lengths.mistake(
    "You join the likeliest groups first, so the likeliest symbols get the longest words. Which "
    "symbols can afford one bit more?"
)
def joins_the_likeliest(p):
    groups = [(float(weight), [k]) for k, weight in enumerate(p)]
    lengths = np.zeros(len(p), dtype=int)
    while len(groups) > 1:
        groups.sort(key=lambda group: -group[0])
        (a, first), (b, second), *rest = groups
        lengths[first + second] += 1
        groups = [(a + b, first + second), *rest]
    return lengths


@huffman_lengths.mistake(
    "These lengths are right for a sorted list. Which symbol each belongs to is lost: entry i "
    "should be the length of the word for p[i]."
)
def loses_the_order(p):
    return np.sort(huffman_lengths(p))


@huffman_lengths.mistake("That is a code in which all words are equally long, whatever p says.")
def equal_lengths(p):
    return np.full(len(p), int(np.ceil(np.log2(len(p)))))


@exercise(
    "Information that is not there",
    difficulty=3,
    minutes=20,
    section="estimates-are-biased-upwards",
    counterpart="chainrule.math_foundations.information_theory:mutual_information",
    idea=(
        "Information is H(X) + H(Y) − H(X, Y). Each entropy estimated from n counts is too low "
        "by its number of values minus one, over 2n. Add the three corrections up."
    ),
)
def corrected_information(counts):
    """Return an estimate of the mutual information in nats, its first-order bias removed.

    counts is an integer array of shape (a, b): how often row i came with column j. Take a and b
    for the numbers of values, all of them possible, and n for the sum of all counts.
    """
    a, b = counts.shape
    n = counts.sum()
    return mutual_information(counts / n) - (a - 1) * (b - 1) / (2 * float(n))


@corrected_information.by_package
def _(package, counts):
    degrees = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return package(counts / counts.sum()) - degrees / (2 * float(counts.sum()))


@corrected_information.check
def two_by_two(answer, rng):
    counts = np.array([[40, 10], [10, 40]])
    expected = 0.192744757 - 1 / 200
    with np.errstate(all="ignore"):
        received = answer(counts)
    expect_close(received, expected, what="the estimate for [[40, 10], [10, 40]]")


@corrected_information.check
def a_cell_that_never_came(answer, rng):
    with np.errstate(all="ignore"):
        received = answer(np.array([[30, 0], [0, 30]]))
    expect_close(received, np.log(2) - 1 / 120, what="the estimate for [[30, 0], [0, 30]]")


@corrected_information.check
def independent_on_average(answer, rng):
    p = np.outer(rng.dirichlet(np.full(3, 9.0)), rng.dirichlet(np.full(5, 9.0))).ravel()
    with np.errstate(all="ignore"):
        estimates = [answer(rng.multinomial(400, p).reshape(3, 5)) for _ in range(400)]
    mean = float(np.mean(estimates))
    expect(
        abs(mean) < 0.0025,
        f"for independent variables and n = 400 your estimates average {mean:.4f} nats, not 0",
    )


@corrected_information.mistake(
    "That is the plug-in estimate. On independent variables it averages (a − 1)(b − 1)/(2n), not 0."
)
def plug_in(counts):
    return mutual_information(counts / counts.sum())


@corrected_information.mistake(
    "You moved the estimate away from the truth. Entropies come out too low: which way does that "
    "push I = H(X) + H(Y) − H(X, Y)?"
)
def wrong_sign(counts):
    a, b = counts.shape
    n = float(counts.sum())
    return mutual_information(counts / n) + (a - 1) * (b - 1) / (2 * n)


@corrected_information.mistake(
    "You took off the bias of one entropy of the whole table, (ab − 1)/(2n). Two marginal "
    "entropies are biased as well."
)
def bias_of_the_joint_alone(counts):
    n = float(counts.sum())
    return mutual_information(counts / n) - (counts.size - 1) / (2 * n)


@corrected_information.mistake(
    "You took off ab/(2n). Each of the three entropies in I has a bias of its own, with its number "
    "of values minus one: add them up with their signs."
)
def counts_all_cells(counts):
    n = float(counts.sum())
    return mutual_information(counts / n) - counts.size / (2 * n)


@corrected_information.mistake("The bias is half of what you took off. Look at Taylor's ½.")
def forgets_the_half(counts):
    a, b = counts.shape
    n = float(counts.sum())
    return mutual_information(counts / n) - (a - 1) * (b - 1) / n


@exercise(
    "A quieter estimate",
    difficulty=3,
    minutes=20,
    section="estimating-kl-from-samples",
    counterpart="chainrule.math_foundations.information_theory:kl_estimators",
    idea=(
        "Add something to the log ratio that is 0 on average under p and cancels its "
        "first-order part. The ratio q/p has the mean 1 under p."
    ),
)
def quiet_kl(log_p, log_q):
    """Return one estimate of KL(p‖q) in nats for each sample: unbiased, and never negative.

    log_p and log_q have shape (n,): the log-probabilities of n samples **drawn from p**. For p and
    q that are close, the estimates must spread far less than log_p − log_q does.
    """
    log_ratio = log_q - log_p
    return np.expm1(log_ratio) - log_ratio


@quiet_kl.by_package
def _(package, log_p, log_q):
    return package(log_p, log_q)[2]


@quiet_kl.check
def two_samples(answer, rng):
    received = answer(np.log(np.array([0.5, 0.5])), np.log(np.array([0.25, 0.75])))
    expected = np.array([0.5 - 1 + np.log(2), 1.5 - 1 - np.log(1.5)])
    expect_close(received, expected, what="the estimates for p = (½, ½), q = (¼, ¾)")


@quiet_kl.check
def a_hundred_thousand_samples(answer, rng):
    p, q = rng.dirichlet(np.full(11, 5.0), size=2)
    draws = rng.choice(11, size=100_000, p=p)
    received = answer(np.log(p[draws]), np.log(q[draws]))
    expect_shape(received, (100_000,), what="the estimates")
    exact = float(np.sum(p * np.log(p / q)))
    error = float(np.std(received) / np.sqrt(received.size))
    expect(
        abs(float(np.mean(received)) - exact) < 4 * error + 1e-6,
        f"the KL divergence is {exact:.4f}, your estimates average {np.mean(received):.4f}",
    )
    lowest = float(np.min(received))
    expect(lowest >= 0, f"an estimate is negative: {lowest:.4f}")


@quiet_kl.mistake("Unbiased, but many values are negative. What may you add, of mean 0 under p?")
def the_definition(log_p, log_q):
    return log_p - log_q


@quiet_kl.mistake(
    "Never negative, but biased: half the square is only the second-order part. Which function of "
    "the ratio has it as its second order, and the right mean?"
)
def half_the_square(log_p, log_q):
    return (log_p - log_q) ** 2 / 2


@quiet_kl.mistake(
    "Every estimate is 1 too large. What is the mean of q/p under p, and what must be taken off so "
    "that it becomes 0?"
)
def forgets_the_one(log_p, log_q):
    log_ratio = log_q - log_p
    return np.exp(log_ratio) - log_ratio


@quiet_kl.mistake(
    "You cut the negative estimates off, and so the mean is too large. Add something of mean 0 "
    "that lifts them instead."
)
def cuts_off_at_zero(log_p, log_q):
    return np.maximum(log_p - log_q, 0)


@quiet_kl.mistake("You took the size of each estimate, and so the mean is too large.")
def takes_the_size(log_p, log_q):
    return np.abs(log_p - log_q)


@quiet_kl.mistake(
    "Your ratio is upside down. The correction must have mean 0 under p, from which the samples "
    "come: is that true of p/q − 1 or of q/p − 1?"
)
def ratio_upside_down(log_p, log_q):
    log_ratio = log_p - log_q
    return np.expm1(log_ratio) - log_ratio


@exercise(
    "A coder within two bits",
    difficulty=4,
    minutes=35,
    section="arithmetic-coding-a-language-model-is-a-compressor",
    because="arithmetic_encode works with whole numbers of 32 bits and so returns other bits",
    idea=(
        "Narrow the interval symbol by symbol. Then look for the shortest strip of the form "
        "m/2ᵏ to (m + 1)/2ᵏ that lies inside of it with both ends: k bits that write the number "
        "m."
    ),
)
def encode(symbols, shares):
    """Return the message as a string of 0 and 1, less than two bits longer than −log₂ of its
    probability, such that every continuation of these bits means the same message.

    symbols is a list of whole numbers, shares a list of Fractions that sum to 1: symbol s owns the
    part from sum(shares[:s]) to sum(shares[:s + 1]) of any interval. Calculate with Fractions; the
    string "101" stands for the points from 5/8 up to 6/8.
    """
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low, width = low + width * sum(shares[:s], Fraction(0)), width * shares[s]
    k = 0
    while Fraction(2, 2**k) > width:
        k += 1
    first = -((-low * 2**k) // 1)
    return f"{int(first):0{k}b}" if k else ""


def _decode(bits, shares, n, rest="0"):
    bits = bits + rest
    point = Fraction(int(bits, 2), 2 ** len(bits)) if bits else Fraction(0)
    out = []
    for _ in range(n):
        edges = [sum(shares[:s], Fraction(0)) for s in range(len(shares) + 1)]
        s = max(k for k in range(len(shares)) if edges[k] <= point)
        out.append(s)
        point = (point - edges[s]) / shares[s]
    return out


def _expect_good_code(answer, symbols, shares, what):
    bits = answer(list(symbols), list(shares))
    expect(
        isinstance(bits, str) and set(bits) <= {"0", "1"},
        f"{what}: expected a string of 0 and 1, received {bits!r}"[:200],
    )
    for rest in ("0" * 80, "1" * 80):
        read = _decode(bits, shares, len(symbols), rest)
        expect(
            read == list(symbols),
            f"{what}: your bits followed by {rest[0]}s are read as {read}, not {list(symbols)}"[
                :300
            ],
        )
    cost = sum(-np.log2(float(shares[s])) for s in symbols)
    expect(len(bits) < cost + 2, f"{what}: {len(bits)} bits for a surprise of {cost:.2f} bits")


_TENTHS = [Fraction(6, 10), Fraction(3, 10), Fraction(1, 10)]


@encode.check
def message_of_the_page(answer, rng):
    _expect_good_code(answer, [1, 0, 2], _TENTHS, "the message b, a, c")


@encode.check
def powers_of_a_half(answer, rng):
    shares = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    _expect_good_code(answer, [0, 1, 2, 0, 2], shares, "a message with shares 1/2, 1/4, 1/4")


@encode.check
def many_messages(answer, rng):
    for length in (1, 5, 40):
        for _ in range(10):
            symbols = rng.choice(3, size=length, p=[0.6, 0.3, 0.1]).tolist()
            _expect_good_code(answer, symbols, _TENTHS, f"a message of {length} symbols")


def _interval(symbols, shares):
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low, width = low + width * sum(shares[:s], Fraction(0)), width * shares[s]
    return low, width


@encode.mistake(
    "Your strip begins inside the interval, but sticks out at the end: one bit more, and a whole "
    "strip fits."
)
def one_bit_short(symbols, shares):
    low, width = _interval(symbols, shares)
    k = 0
    while Fraction(1, 2**k) > width:
        k += 1
    first = -((-low * 2**k) // 1)
    return f"{int(first):0{k}b}" if k else ""


@encode.mistake(
    "You rounded the lower end of the interval down, so the strip begins before it. Which is the "
    "first strip that begins inside?"
)
def rounds_down(symbols, shares):
    low, width = _interval(symbols, shares)
    k = 0
    while Fraction(2, 2**k) > width:
        k += 1
    return f"{int(low * 2**k // 1):0{k}b}" if k else ""


@encode.mistake(
    "Each symbol must take its part of the interval that is left. You take it of the interval from "
    "0 to 1 each time: the lower end moves too far."
)
def forgets_to_scale(symbols, shares):
    low, width = Fraction(0), Fraction(1)
    for s in symbols:
        low, width = low + sum(shares[:s], Fraction(0)), width * shares[s]
    k = 0
    while Fraction(2, 2**k) > width:
        k += 1
    return f"{int(-((-low * 2**k) // 1)):0{k}b}" if k else ""


@encode.mistake(
    "Your string lacks its leading zeros. To a reader 0011 and 11 are different strips."
)
def loses_leading_zeros(symbols, shares):
    return f"{int(encode(symbols, shares) or '0', 2):b}"


@encode.mistake(
    "Your message is read rightly, but it is longer than it need be. How narrow must a strip be to "
    "fit in, wherever the interval begins?",
    more=(1, 2, 3),
)
def too_many_bits(symbols, shares, more):
    low, width = _interval(symbols, shares)
    k = more
    while Fraction(2 * 2**more, 2**k) > width:
        k += 1
    return f"{int(-((-low * 2**k) // 1)):0{k}b}"
