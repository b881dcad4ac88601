"""Exercises of math-foundations/information-theory.md."""

from __future__ import annotations

import heapq
from fractions import Fraction

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_shape
from chainrule.math_foundations.information_theory import conditional_entropy, entropy, huffman


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


@four_entropies.mistake(
    "Your last entry is the plain mean over the rows. How often does each row come?"
)
def rows_alike(joint):
    h = four_entropies(joint)
    rows = [_bits(row / row.sum()) for row in joint if row.sum() > 0]
    return np.array([h[0], h[1], h[2], np.mean(rows)])


@four_entropies.mistake(
    "Your last entry is what the two share, I(X; Y). Asked for is what stays unknown of Y once X "
    "is known."
)
def what_they_share(joint):
    h = four_entropies(joint)
    return np.array([h[0], h[1], h[2], h[0] + h[1] - h[2]])


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


@wasted_bits.mistake(
    "You took off the entropy of q. The symbols come from p: what would the best code for them "
    "cost?"
)
def takes_off_the_other_entropy(p, q):
    return whole_cost(p, q) - _bits(q)


@exercise(
    "Bits with blocks",
    difficulty=3,
    minutes=25,
    section="a-code-that-reaches-it",
    counterpart="chainrule.math_foundations.information_theory:huffman",
    idea=(
        "List the probabilities of all blocks. Then join the two least likely, again and again: "
        "each joining adds one bit to every block inside, so what does it add to the mean?"
    ),
)
def bits_with_blocks(p, k):
    """Return how many bits a symbol the best prefix code for blocks of k symbols needs on average.

    p has shape (n,) with n ≥ 2 positive probabilities that sum to 1; the k symbols of a block are
    drawn independently from p. The code has one word for each of the n**k blocks, none begins
    another, and the mean length, weighted with the probabilities of the blocks, is the least
    possible. Divide it by k.
    """
    blocks = np.ones(1)
    for _ in range(k):
        blocks = np.outer(blocks, p).ravel()
    groups, total = blocks.tolist(), 0.0
    heapq.heapify(groups)
    while len(groups) > 1:
        joined = heapq.heappop(groups) + heapq.heappop(groups)
        total += joined
        heapq.heappush(groups, joined)
    return total / k


def _all_blocks(p, k):
    blocks = np.ones(1)
    for _ in range(k):
        blocks = np.outer(blocks, p).ravel()
    return blocks


@bits_with_blocks.by_package
def _(package, p, k):
    blocks = _all_blocks(p, k)
    return float(blocks @ [len(word) for word in package(blocks)]) / k


@bits_with_blocks.check
def coin_of_the_page(answer, rng):
    p = np.array([0.9, 0.1])
    for k, bits in ((1, 1.0), (2, 0.645), (3, 1.598 / 3)):
        expect_close(answer(p, k), bits, what=f"the bits a symbol for (0.9, 0.1) and k = {k}")


@bits_with_blocks.check
def halves_and_quarters(answer, rng):
    p = np.array([0.25, 0.5, 0.25])
    for k in (1, 2, 3):
        expect_close(answer(p, k), 1.5, what=f"the bits a symbol for (1/4, 1/2, 1/4) and k = {k}")


@bits_with_blocks.check
def close_to_the_entropy(answer, rng):
    cases = []
    for n, k in ((2, 7), (3, 4), (5, 3), (7, 2), (11, 1)):
        p = rng.dirichlet(np.ones(n)) * (1 - n * 1e-3) + 1e-3
        cases.append((p, k, answer(p, k)))
    for p, k, bits in cases:
        blocks, h = _all_blocks(p, k), entropy(p, base=2)
        best = float(blocks @ [len(word) for word in huffman(blocks)]) / k
        expect_close(bits, best, what=f"the bits a symbol for {len(p)} symbols and k = {k}")
        expect(
            h - 1e-9 <= bits < h + 1 / k,
            f"{bits:.4f} bits a symbol for an entropy of {h:.4f} and k = {k}",
        )


@bits_with_blocks.mistake("That is what a whole block needs. How many symbols are in it?")
def forgets_to_divide(p, k):
    return k * bits_with_blocks(p, k)


@bits_with_blocks.mistake(
    "That is the entropy, which blocks only come close to. Which whole numbers of bits has a code "
    "for the blocks to choose from?"
)
def the_limit(p, k):
    return _bits(p)


@bits_with_blocks.mistake(
    "Rounding each block's surprise up gives a code, but not always the best. Try (0.9, 0.1) with "
    "k = 1: how many bits does the second symbol get?"
)
def rounds_up(p, k):
    blocks = _all_blocks(p, k)
    return float(blocks @ np.ceil(-np.log2(blocks) - 1e-12)) / k


@bits_with_blocks.mistake(
    "Rounding surprises to the nearest whole number may need more space than there is. Check the "
    "Kraft inequality."
)
def rounds_to_nearest(p, k):
    blocks = _all_blocks(p, k)
    return float(blocks @ np.maximum(np.round(-np.log2(blocks)), 1)) / k


@bits_with_blocks.mistake(
    "Your answer is the same for every k. Which things does the code have words for: the symbols, "
    "or the blocks?"
)
def one_symbol_at_a_time(p, k):
    return bits_with_blocks(p, 1)


@bits_with_blocks.mistake(
    "After joining two blocks, their group has the sum of their probabilities and goes back among "
    "the others. You go on adding to it as though it stayed the least likely."
)
def one_long_chain(p, k):
    blocks = np.sort(_all_blocks(p, k))
    return float(np.cumsum(blocks)[1:].sum()) / k


@bits_with_blocks.mistake(
    "You join the likeliest groups first, so the likeliest blocks get the longest words. Which "
    "blocks can afford one bit more?"
)
def joins_the_likeliest(p, k):
    groups, total = (-_all_blocks(p, k)).tolist(), 0.0
    heapq.heapify(groups)
    while len(groups) > 1:
        joined = heapq.heappop(groups) + heapq.heappop(groups)
        total -= joined
        heapq.heappush(groups, joined)
    return total / k


@bits_with_blocks.mistake("That is a code in which all words are equally long, whatever p says.")
def equal_lengths(p, k):
    return float(np.ceil(np.log2(len(p) ** k) - 1e-12)) / k


@bits_with_blocks.mistake(
    "You took the plain mean of the lengths. Likely blocks come more often: weight each length "
    "with its block's probability."
)
def plain_mean_of_lengths(p, k):
    groups = [(share, [i]) for i, share in enumerate(_all_blocks(p, k).tolist())]
    lengths = np.zeros(len(groups))
    while len(groups) > 1:
        groups.sort()
        (a, left), (b, right) = groups[:2]
        lengths[left + right] += 1
        groups = [*groups[2:], (a + b, left + right)]
    return float(lengths.mean()) / k


@exercise(
    "Uncertainty that chance hides",
    difficulty=3,
    minutes=20,
    section="estimates-are-biased-upwards",
    counterpart="chainrule.math_foundations.information_theory:conditional_entropy",
    idea=(
        "What is unknown of Y once X is known is H(X, Y) − H(X). Each entropy estimated from n "
        "counts is too low by its number of values minus one, over 2n. Combine the two."
    ),
)
def corrected_uncertainty(counts):
    """Return an estimate of H(Y | X) in nats, its first-order bias removed.

    counts is an integer array of shape (a, b): how often X had its value i and Y its value j
    together; no row is empty. Take a and b for the numbers of values, all of them possible, and n
    for the sum of all counts.
    """
    a, b = counts.shape
    n = float(counts.sum())
    return conditional_entropy(counts / n) + a * (b - 1) / (2 * n)


@corrected_uncertainty.by_package
def _(package, counts):
    a, b = counts.shape
    return package(counts / counts.sum()) + a * (b - 1) / (2 * float(counts.sum()))


@corrected_uncertainty.check
def two_by_two(answer, rng):
    with np.errstate(all="ignore"):
        received = answer(np.array([[40, 10], [10, 40]]))
    expect_close(received, 0.500402424 + 1 / 100, what="the estimate for [[40, 10], [10, 40]]")


@corrected_uncertainty.check
def a_cell_that_never_came(answer, rng):
    with np.errstate(all="ignore"):
        received = answer(np.array([[30, 0], [0, 30]]))
    expect_close(received, 1 / 60, what="the estimate for [[30, 0], [0, 30]]")


@corrected_uncertainty.check
def right_on_average(answer, rng):
    p = rng.dirichlet(np.full(15, 9.0)).reshape(3, 5)
    with np.errstate(all="ignore"):
        estimates = [answer(rng.multinomial(400, p.ravel()).reshape(3, 5)) for _ in range(400)]
    mean, exact = float(np.mean(estimates)), conditional_entropy(p)
    expect(
        abs(mean - exact) < 0.004,
        f"H(Y | X) is {exact:.4f} nats; for n = 400 your estimates average {mean:.4f}",
    )


@corrected_uncertainty.mistake(
    "That is the plug-in estimate. Chance makes the rows of the table look less even than they "
    "are: is it too low or too high?"
)
def plug_in(counts):
    return conditional_entropy(counts / counts.sum())


@corrected_uncertainty.mistake(
    "You moved the estimate away from the truth. H(X, Y) comes out too low by more than H(X) does: "
    "which way does that push their difference?"
)
def wrong_sign(counts):
    a, b = counts.shape
    n = float(counts.sum())
    return conditional_entropy(counts / n) - a * (b - 1) / (2 * n)


@corrected_uncertainty.mistake(
    "You added what H(X, Y) lacks, (ab − 1)/(2n). But H(X) is estimated from the same counts, and "
    "it is subtracted."
)
def bias_of_the_joint_alone(counts):
    n = float(counts.sum())
    return conditional_entropy(counts / n) + (counts.size - 1) / (2 * n)


@corrected_uncertainty.mistake(
    "You corrected as for one entropy with b values from n counts. But each row of the table is a "
    "distribution of its own, and sees only a part of the counts."
)
def bias_of_one_row(counts):
    n = float(counts.sum())
    return conditional_entropy(counts / n) + (counts.shape[1] - 1) / (2 * n)


@corrected_uncertainty.mistake(
    "You added ab/(2n). Each of the two entropies has a bias with its number of values *minus "
    "one*: subtract the second from the first."
)
def counts_all_cells(counts):
    n = float(counts.sum())
    return conditional_entropy(counts / n) + counts.size / (2 * n)


@corrected_uncertainty.mistake(
    "That is the correction of the mutual information, (a − 1)(b − 1)/(2n). Which two entropies is "
    "H(Y | X) made of?"
)
def bias_of_the_information(counts):
    a, b = counts.shape
    n = float(counts.sum())
    return conditional_entropy(counts / n) + (a - 1) * (b - 1) / (2 * n)


@corrected_uncertainty.mistake("The bias is half of what you added. Look at Taylor's ½.")
def forgets_the_half(counts):
    a, b = counts.shape
    n = float(counts.sum())
    return conditional_entropy(counts / n) + a * (b - 1) / n


@corrected_uncertainty.mistake(
    "You estimated H(X | Y). Which of the two is known in H(Y | X): what stands in the rows, or in "
    "the columns?"
)
def conditions_on_the_columns(counts):
    return corrected_uncertainty(counts.T)


@corrected_uncertainty.mistake(
    "You counted the cells that were seen. Here all a·b of them are possible, and each counts."
)
def counts_what_was_seen(counts):
    n = float(counts.sum())
    seen = np.count_nonzero(counts) - counts.shape[0]
    return conditional_entropy(counts / n) + seen / (2 * n)


@exercise(
    "A quiet estimate of the other way",
    difficulty=3,
    minutes=20,
    section="estimating-kl-from-samples",
    counterpart="chainrule.math_foundations.information_theory:kl_estimators",
    idea=(
        "A mean under q is a mean under p with the weight q/p. Weight the log ratio so, and add "
        "something that is 0 on average under p and cancels its first-order part."
    ),
)
def quiet_other_way(log_p, log_q):
    """Return one estimate of KL(q‖p) in nats for each sample: unbiased, and never negative.

    log_p and log_q have shape (n,): the log-probabilities of n samples **drawn from p**. Mind the
    direction: the samples come from p, and KL(q‖p) is a mean under q. For p and q that are close,
    the estimates must spread far less than log_q − log_p does.
    """
    log_ratio = log_q - log_p
    return np.exp(log_ratio) * log_ratio - np.expm1(log_ratio)


@quiet_other_way.by_package
def _(package, log_p, log_q):
    return np.exp(log_q - log_p) * package(log_q, log_p)[2]


@quiet_other_way.check
def two_samples(answer, rng):
    received = answer(np.log(np.array([0.5, 0.5])), np.log(np.array([0.25, 0.75])))
    expected = np.array([0.5 * np.log(0.5) + 0.5, 1.5 * np.log(1.5) - 0.5])
    expect_close(received, expected, what="the estimates for p = (½, ½), q = (¼, ¾)")


@quiet_other_way.check
def a_hundred_thousand_samples(answer, rng):
    p, q = rng.dirichlet(np.full(11, 5.0), size=2)
    draws = rng.choice(11, size=100_000, p=p)
    received = answer(np.log(p[draws]), np.log(q[draws]))
    expect_shape(received, (100_000,), what="the estimates")
    exact = float(np.sum(q * np.log(q / p)))
    error = float(np.std(received) / np.sqrt(received.size))
    expect(
        abs(float(np.mean(received)) - exact) < 4 * error + 1e-6,
        f"KL(q‖p) is {exact:.4f}, your estimates average {np.mean(received):.4f}",
    )
    lowest = float(np.min(received))
    expect(lowest >= -1e-12, f"an estimate is negative: {lowest:.4f}")


@quiet_other_way.mistake(
    "That is the page's estimate of KL(p‖q). Under which distribution is KL(q‖p) a mean, and how "
    "do samples from p become its mean?"
)
def the_page_s_direction(log_p, log_q):
    log_ratio = log_q - log_p
    return np.expm1(log_ratio) - log_ratio


@quiet_other_way.mistake(
    "Unbiased, but many values are negative. What may you add, of mean 0 under p?"
)
def the_definition(log_p, log_q):
    log_ratio = log_q - log_p
    return np.exp(log_ratio) * log_ratio


@quiet_other_way.mistake(
    "Averaged over samples from p, log(q/p) is −KL(p‖q). The samples should come from q: which "
    "weight makes up for it?"
)
def forgets_the_weight(log_p, log_q):
    return log_q - log_p


@quiet_other_way.mistake(
    "Never negative, but biased: half the square is only the second-order part. Which function of "
    "the ratio has it as its second order, and the right mean?"
)
def half_the_square(log_p, log_q):
    return (log_p - log_q) ** 2 / 2


@quiet_other_way.mistake(
    "Every estimate is 1 too small. What is the mean of q/p under p, and what must be added so "
    "that what you take off has the mean 0?"
)
def forgets_the_one(log_p, log_q):
    return quiet_other_way(log_p, log_q) - 1


@quiet_other_way.mistake(
    "You cut the negative estimates off, and so the mean is too large. Add something of mean 0 "
    "that lifts them instead."
)
def cuts_off_at_zero(log_p, log_q):
    return np.maximum(the_definition(log_p, log_q), 0)


@quiet_other_way.mistake("You took the size of each estimate, and so the mean is too large.")
def takes_the_size(log_p, log_q):
    return np.abs(the_definition(log_p, log_q))


@quiet_other_way.mistake(
    "That is right for samples drawn from q. These come from p: is the mean of p/q − 1 under p "
    "equal to 0?"
)
def samples_of_the_other(log_p, log_q):
    log_ratio = log_p - log_q
    return np.expm1(log_ratio) - log_ratio


@quiet_other_way.mistake(
    "You put the weight before k3 of the page. But k3 estimates KL(p‖q), whose log ratio has the "
    "other sign: weight log(q/p), and ask anew what may be added."
)
def weights_the_page_s(log_p, log_q):
    log_ratio = log_q - log_p
    return np.exp(log_ratio) * (np.expm1(log_ratio) - log_ratio)


@exercise(
    "The shortest strip",
    difficulty=4,
    minutes=35,
    section="arithmetic-coding-a-language-model-is-a-compressor",
    because="arithmetic_encode works with whole numbers of 62 bits and so returns other bits",
    idea=(
        "Narrow the interval symbol by symbol, and ask the model anew each time. Then try k = 0, "
        "1, 2, …: does the first strip of k bits that begins inside also end inside?"
    ),
)
def encode(symbols, model):
    """Return the shortest string of 0 and 1 of which every continuation means the same message.

    symbols is a list of whole numbers. model(past) takes the list of the symbols so far and returns
    a list of Fractions that sum to 1, the shares of the next symbol: symbol s owns the part from
    sum(shares[:s]) to sum(shares[:s + 1]) of the interval that is left. Calculate with Fractions;
    the string "101" stands for the points from 5/8 up to 6/8. Of several shortest strings, return
    the one that begins lowest.
    """
    low, width = Fraction(0), Fraction(1)
    for i, s in enumerate(symbols):
        shares = model(symbols[:i])
        low, width = low + width * sum(shares[:s], Fraction(0)), width * shares[s]
    k = 0
    while (-((-low * 2**k) // 1) + 1) > (low + width) * 2**k:
        k += 1
    return f"{int(-((-low * 2**k) // 1)):0{k}b}" if k else ""


def _decode(bits, model, n):
    point = Fraction(int(bits, 2), 2 ** len(bits))
    out = []
    for _ in range(n):
        shares = model(out)
        edges = [sum(shares[:s], Fraction(0)) for s in range(len(shares) + 1)]
        s = max(k for k in range(len(shares)) if edges[k] <= point)
        out.append(s)
        point = (point - edges[s]) / shares[s]
    return out


def _expect_good_code(answer, symbols, model, what):
    bits = answer(list(symbols), model)
    expect(
        isinstance(bits, str) and set(bits) <= {"0", "1"},
        f"{what}: expected a string of 0 and 1, received {bits!r}"[:200],
    )
    for rest in ("0" * 80, "1" * 80):
        read = _decode(bits + rest, model, len(symbols))
        expect(
            read == list(symbols),
            f"{what}: your bits followed by {rest[0]}s are read as {read}, not {list(symbols)}"[
                :300
            ],
        )
    best = encode(list(symbols), model)
    expect(len(bits) == len(best), f"{what}: {len(bits)} bits, but {len(best)} are enough")
    expect(bits == best, f"{what}: {bits} means it, but {best} begins lower"[:300])


_TENTHS = [Fraction(6, 10), Fraction(3, 10), Fraction(1, 10)]


def _no_memory(past):
    return _TENTHS


def _repeats(past):
    """What came last is likely to come again."""
    if not past:
        return [Fraction(1, 3)] * 3
    return [Fraction(5, 7) if s == past[-1] else Fraction(1, 7) for s in range(3)]


@encode.check
def message_of_the_page(answer, rng):
    _expect_good_code(answer, [1, 0, 2], _no_memory, "the message b, a, c")


@encode.check
def a_model_that_looks_back(answer, rng):
    for symbols in ([0, 0, 0, 1], [2, 2, 2, 2, 0], [1, 1, 1]):
        _expect_good_code(answer, symbols, _repeats, f"the message {symbols}")


@encode.check
def powers_of_a_half(answer, rng):
    shares = [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    what = "a message with shares 1/2, 1/4, 1/4"
    _expect_good_code(answer, [0, 1, 2, 0, 2], lambda past: shares, what)


@encode.check
def many_messages(answer, rng):
    for length in (1, 5, 40):
        for model in (_no_memory, _repeats):
            for _ in range(5):
                symbols = rng.choice(3, size=length, p=[0.6, 0.3, 0.1]).tolist()
                _expect_good_code(answer, symbols, model, f"a message of {length} symbols")


def _interval(symbols, model):
    low, width = Fraction(0), Fraction(1)
    for i, s in enumerate(symbols):
        shares = model(symbols[:i])
        low, width = low + width * sum(shares[:s], Fraction(0)), width * shares[s]
    return low, width


def _string(number, k):
    return f"{int(number):0{k}b}" if k else ""


def _shortest(low, width):
    k = 0
    while (-((-low * 2**k) // 1) + 1) > (low + width) * 2**k:
        k += 1
    return _string(-((-low * 2**k) // 1), k)


def _by_width(low, width, strips, least=0):
    """The first strip that begins inside, so narrow that so many of them fit side by side."""
    k = least
    while Fraction(strips, 2**k) > width:
        k += 1
    return _string(-((-low * 2**k) // 1), k)


@encode.mistake(
    "Your message is read rightly, but it is sometimes a bit longer than it need be. Half as wide "
    "as the interval always fits: must a strip be so narrow where the interval lies well?",
    least=(0, 1),
)
def always_half_as_wide(symbols, model, least):
    return _by_width(*_interval(symbols, model), 2, least)


@encode.mistake(
    "Your message is read rightly, but it is longer than it need be. Try every k from 0 on: which "
    "is the first whose strip lies inside?",
    strips=(4, 8, 16),
)
def too_many_bits(symbols, model, strips):
    return _by_width(*_interval(symbols, model), strips)


@encode.mistake(
    "Your strip begins inside the interval and is not wider, but it may stick out at the end. Look "
    "at both ends."
)
def sticks_out(symbols, model):
    return _by_width(*_interval(symbols, model), 1)


@encode.mistake(
    "Your string names a point inside of the interval. But the whole strip, with every bit that "
    "may follow, must lie inside."
)
def names_a_point(symbols, model):
    low, width = _interval(symbols, model)
    k = 0
    while -((-low * 2**k) // 1) >= (low + width) * 2**k:
        k += 1
    return _string(-((-low * 2**k) // 1), k)


@encode.mistake(
    "You rounded the lower end of the interval down, so the strip begins before it. Which is the "
    "first strip that begins inside?",
    strips=(1, 2),
)
def rounds_down(symbols, model, strips):
    low, width = _interval(symbols, model)
    k = 0
    while Fraction(strips, 2**k) > width:
        k += 1
    return _string(low * 2**k // 1, k)


@encode.mistake(
    "Each symbol must take its part of the interval that is left. You take it of the interval from "
    "0 to 1 each time: the lower end moves too far.",
    name=(_shortest, lambda low, width: _by_width(low, width, 2)),
)
def forgets_to_scale(symbols, model, name):
    low, width = Fraction(0), Fraction(1)
    for i, s in enumerate(symbols):
        shares = model(symbols[:i])
        low, width = low + sum(shares[:s], Fraction(0)), width * shares[s]
    return name(low, width)


@encode.mistake(
    "Your string lacks its leading zeros. To a reader 0011 and 11 are different strips.",
    name=(_shortest, lambda low, width: _by_width(low, width, 2)),
)
def loses_leading_zeros(symbols, model, name):
    return f"{int(name(*_interval(symbols, model)) or '0', 2):b}"


@encode.mistake(
    "You ask the model once, before the first symbol. The reader will ask it anew after each: what "
    "should it be told?",
    name=(_shortest, lambda low, width: _by_width(low, width, 2)),
)
def ignores_the_past(symbols, model, name):
    shares = model([])
    return name(*_interval(symbols, lambda past: shares))
