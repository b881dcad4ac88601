"""Exercises of modern-llms/pretraining.md."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from chainrule.course.exercises import exercise, expect_close, expect_equal, given


@exercise(
    "The loss of packed documents",
    difficulty=1,
    minutes=10,
    section="next-token-prediction-objective",
    because="The package's cross-entropy takes a mask; this exercise is about making it.",
    idea="A prediction counts when the token that is read and the token that is asked for belong "
    "to one document. Take the mean of those only.",
)
def packed_loss(losses, documents):
    """Return the mean loss of the predictions inside documents, for documents in one row.

    documents has n numbers, one for each token: the document that it belongs to. losses has n − 1:
    number t belongs to the prediction of token t + 1 after token t. What follows the last token
    of a document is the start of another one, which nobody could guess. By hand first: documents
    0, 0, 0, 1, 1 and losses 1, 2, 9, 3.
    """
    inside = documents[1:] == documents[:-1]
    return losses[inside].mean()


@packed_loss.check
def by_hand(answer, rng):
    found = answer(np.array([1.0, 2.0, 9.0, 3.0]), np.array([0, 0, 0, 1, 1]))
    expect_close(found, 2.0, what="the mean of 1, 2 and 3")


@packed_loss.check
def many_documents(answer, rng):
    for _ in range(3):
        documents = np.repeat(np.arange(7), np.intp(rng.integers(2, 9, 7)))
        losses = rng.uniform(1, 9, len(documents) - 1)
        total, count = 0.0, 0
        for t, loss in enumerate(losses):
            if documents[t] == documents[t + 1]:
                total, count = total + loss, count + 1
        expect_close(answer(losses, documents), total / count, what="the mean inside 7 documents")


@packed_loss.mistake("You counted the first token of each next document: nobody could guess it.")
def everything(losses, documents):
    return losses.mean()


@packed_loss.mistake("Your sum is right. You divided by all predictions, not by those that count.")
def divided_by_all(losses, documents):
    return losses[documents[1:] == documents[:-1]].sum() / len(losses)


@packed_loss.mistake("Your mask is one place too late: it drops the first real prediction of each.")
def one_too_late(losses, documents):
    edge = np.concatenate([[True], documents[1:] == documents[:-1]])[: len(losses)]
    return losses[edge].mean()


@packed_loss.mistake(
    "That is the mean of the documents' means; a short one counts like a long one."
)
def mean_of_means(losses, documents):
    inside = documents[1:] == documents[:-1]
    first = documents[:-1]
    return np.mean([losses[inside & (first == d)].mean() for d in np.unique(first[inside])])


@packed_loss.mistake("That is the sum of the losses that count. The statement asks for their mean.")
def the_sum(losses, documents):
    return losses[documents[1:] == documents[:-1]].sum()


@packed_loss.mistake("You kept the predictions across a border, and dropped those inside.")
def the_borders(losses, documents):
    return losses[documents[1:] != documents[:-1]].mean()


@exercise(
    "Bands for a threshold",
    difficulty=2,
    minutes=20,
    section="bands-find-the-pairs",
    because="The package takes rows and bands as they are; choosing them is this exercise.",
    idea="Only numbers that divide k are possible rows. For each of them compute where the curve "
    "is steep, and compare with the threshold.",
)
def choose_bands(k, threshold):
    """Return (rows, bands) with rows · bands = k, whose steep place is nearest to the threshold.

    The steep place is (1/bands) to the power of 1/rows. By hand first: k = 4, threshold 0.7.
    """
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return min(pairs, key=lambda pair: abs((1 / pair[1]) ** (1 / pair[0]) - threshold))


@choose_bands.check
def four_numbers(answer, rng):
    expect_close(np.array(answer(4, 0.7)), np.array([2, 2]), what="rows and bands of 4 at 0.7")


@choose_bands.check
def larger_signatures(answer, rng):
    expected = {(112, 0.72): (8, 14), (112, 0.5): (4, 28), (120, 0.8): (10, 12), (60, 0.9): (15, 4)}
    found = [tuple(answer(*case)) for case in expected]
    what = f"rows and bands for {', '.join(f'k = {k} at {t}' for k, t in expected)}"
    expect_close(np.array(found), np.array(list(expected.values())), what=what)


@choose_bands.mistake("Rows and bands have changed places, in your answer or in your formula.")
def exchanged(k, threshold):
    return choose_bands(k, threshold)[::-1]


@choose_bands.mistake(
    "That is where half of the pairs are found. The statement asks for another place."
)
def half_found(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return min(pairs, key=lambda p: abs((1 - 0.5 ** (1 / p[1])) ** (1 / p[0]) - threshold))


@choose_bands.mistake("You forgot the root: a whole band agrees only if all its rows do.")
def without_root(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return min(pairs, key=lambda pair: abs(1 / pair[1] - threshold))


@choose_bands.mistake("Do your rows times your bands give k? Some numbers are left over.")
def left_over(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1)]
    return min(pairs, key=lambda pair: abs((1 / pair[1]) ** (1 / pair[0]) - threshold))


@choose_bands.mistake(
    "Nearest may be on either side: you looked at one side of the threshold only."
)
def not_below(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return next(pair for pair in pairs if (1 / pair[1]) ** (1 / pair[0]) >= threshold)


@choose_bands.mistake("Nearest may be on either side: you stopped below the threshold.")
def not_above(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return max((p for p in pairs if (1 / p[1]) ** (1 / p[0]) <= threshold), default=(1, k))


@choose_bands.mistake(
    "You ask for a chance of a half at the threshold. The statement names another place."
)
def chance_of_half(k, threshold):
    pairs = [(rows, k // rows) for rows in range(1, k + 1) if k % rows == 0]
    return min(pairs, key=lambda p: abs(0.5 - (1 - threshold ** p[0]) ** p[1]))


@given
def join_pair(tokens, pair):
    """The list of tokens with every occurrence of the pair joined, left to right."""
    out, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(tokens[i] + tokens[i + 1])
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


@exercise(
    "Ten merges and their ties",
    difficulty=3,
    minutes=30,
    section="merging-by-hand",
    because="The package's function works on ids with an index of pairs; this one is the textbook "
    "loop on strings.",
    idea="Keep every word as a list of tokens. In each round count all neighbours anew, each as "
    "often as its word occurs.",
)
def merges(words, n):
    """Return the first n merges as a list of pairs of strings; words maps a word to its count.

    Of equal counts the pair that comes first in the alphabet wins (Python's order of tuples).
    Stop early if no word has two tokens left. By hand first: {"aab": 1, "ab": 1}, two merges.
    """
    cut = {word: list(word) for word in words}
    found = []
    while len(found) < n:
        pairs: dict = {}
        for word, tokens in cut.items():
            for pair in pairwise(tokens):
                pairs[pair] = pairs.get(pair, 0) + words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for word, tokens in cut.items():
            cut[word] = join_pair(tokens, best)
    return found


WORDS = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


@merges.check
def two_words(answer, rng):
    found = answer({"aab": 1, "ab": 1}, 2)
    expect_equal(found, [("a", "b"), ("a", "ab")], what="the two merges of aab and ab")


@merges.check
def ten_merges(answer, rng):
    expected = [
        ("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w"), ("e", "w"),
        ("ew", "est"), ("n", "ewest"), ("d", "est"), ("i", "dest"), ("w", "idest"),
    ]  # fmt: skip
    expect_equal(answer(WORDS, 10), expected, what="ten merges of low, lower, newest, widest")


@merges.check
def the_end(answer, rng):
    found = answer({"aaaa": 2}, 9)
    expect_equal(found, [("a", "a"), ("aa", "aa")], what="the merges of aaaa")


@merges.check
def letters_inside(answer, rng):
    found = answer({"cab": 1, "ca": 3, "ab": 2}, 4)
    expect_equal(found, [("c", "a"), ("a", "b"), ("ca", "b")], what="the merges of cab, ca, ab")


def _merges_by(words, n, order, weight=lambda count: count, recount=True):
    cut = {word: list(word) for word in words}
    found, pairs = [], {}
    while len(found) < n:
        if recount or not found:
            pairs = {}
            for word, tokens in cut.items():
                for pair in pairwise(tokens):
                    pairs[pair] = pairs.get(pair, 0) + weight(words[word])
        if not pairs:
            break
        best = min(pairs, key=lambda pair: order(pairs[pair], pair))
        found.append(best)
        if not recount:
            del pairs[best]
        for word, tokens in cut.items():
            cut[word] = join_pair(tokens, best)
    return found


@merges.mistake("Each word counts as often as it occurs. You counted every word once.")
def every_word_once(words, n):
    return _merges_by(words, n, lambda count, pair: (-count, pair), weight=lambda count: 1)


@merges.mistake("You merge the rarest pair. The sign of the count is turned.")
def rarest_first(words, n):
    return _merges_by(words, n, lambda count, pair: (count, pair))


@merges.mistake("Your counts are those of the start: joined letters still count alone.")
def never_recounts(words, n):
    return _merges_by(words, n, lambda count, pair: (-count, pair), recount=False)


@merges.mistake("Of equal counts you take the last pair of the alphabet.")
def ties_turned(words, n):
    return _merges_by(words, n, lambda count, pair: (-count, *([-ord(c) for c in p] for p in pair)))


@merges.mistake(
    "Of equal counts you take the pair that was met first, not the first in the alphabet."
)
def first_met(words, n):
    return _merges_by(words, n, lambda count, pair: -count)


@merges.mistake(
    "Your joining looks at characters: the end of a longer token is taken for the pair."
)
def inside_longer_tokens(words, n):
    cut = {word: " ".join(word) for word in words}
    found = []
    while len(found) < n:
        pairs: dict = {}
        for word, text in cut.items():
            for pair in pairwise(text.split()):
                pairs[pair] = pairs.get(pair, 0) + words[word]
        if not pairs:
            break
        found.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        cut = {w: t.replace(" ".join(found[-1]), "".join(found[-1])) for w, t in cut.items()}
    return found


@exercise(
    "Merges repeat history",
    difficulty=3,
    minutes=25,
    section="a-word-that-was-never-seen",
    because="The package's method works on bytes and a heap; the order of the merges is the point.",
    idea="Among all neighbours look for the pair that was learned first, join it, and look again "
    "until no pair of neighbours was ever learned.",
)
def encode(word, learned):
    """Return the tokens of a word, a list of strings; learned is a list of pairs, first first.

    By hand first: "abc" with the merges (b, c), (a, b).
    """
    rank = {pair: i for i, pair in enumerate(learned)}
    tokens = list(word)
    while len(tokens) > 1:
        pairs = list(pairwise(tokens))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        tokens = join_pair(tokens, best)
    return tokens


HISTORY = [("b", "c"), ("a", "b"), ("ab", "c"), ("c", "a"), ("bc", "bc"), ("a", "a"), ("c", "ab")]
TEXTS = ["abc", "abab", "abcbc", "aaaa", "cab", "bcbcab", "aabca", "b", ""]


@encode.check
def one_word(answer, rng):
    expect_equal(answer("abc", HISTORY[:2]), ["a", "bc"], what="the tokens of abc")


@encode.check
def more_words(answer, rng):
    expected = [
        ["a", "bc"], ["ab", "ab"], ["a", "bcbc"], ["aa", "aa"], ["cab"], ["bcbc", "ab"],
        ["aa", "bc", "a"], ["b"], [],
    ]  # fmt: skip
    found = [answer(text, HISTORY) for text in TEXTS]
    expect_equal(found, expected, what=f"the tokens of {', '.join(map(repr, TEXTS))}")


@encode.mistake("You take the longest known token from the left. BPE joins in the order learned.")
def longest_first(word, learned):
    known, tokens, i = {a + b for a, b in learned}, [], 0
    while i < len(word):
        length = next(n for n in range(len(word) - i, 0, -1) if n == 1 or word[i : i + n] in known)
        tokens.append(word[i : i + length])
        i += length
    return tokens


@encode.mistake(
    "You join the first pair from the left that is known. The earliest merge comes first."
)
def leftmost_first(word, learned):
    tokens = list(word)
    while True:
        pairs = pairwise(tokens)
        i = next((i for i, pair in enumerate(pairs) if pair in learned), None)
        if i is None:
            return tokens
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


@encode.mistake("You go through the list of merges from its end.")
def backwards(word, learned):
    return encode(word, learned[::-1])


@encode.mistake("You join each pair in one place only. It may stand in the word more than once.")
def one_place_each(word, learned):
    tokens = list(word)
    for pair in learned:
        i = next((i for i, other in enumerate(pairwise(tokens)) if other == pair), None)
        if i is not None:
            tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


@encode.mistake("You look for the fewest tokens. BPE does not compare ways to cut.")
def fewest(word, learned):
    known = {a + b for a, b in learned} | set(word)
    best: list = [[]]
    for j in range(1, len(word) + 1):
        best.append(min((best[i] + [word[i:j]] for i in range(j) if word[i:j] in known), key=len))
    return best[-1]


@exercise(
    "Small for many readers",
    difficulty=4,
    minutes=30,
    section="a-smaller-model-read-for-longer",
    because="The package divides a budget for training alone; this adds what comes after it.",
    idea="For each size the law says how many tokens reach the loss; some sizes never reach it. "
    "Add up the operations of training and of use, and take the cheapest size.",
)
def cheapest_size(sizes, loss, served, law):
    """Return the size, one of sizes, that reaches a loss at the least price of training and use.

    sizes is an array of numbers of parameters. law is (E, A, B, alpha, beta). served is how many
    tokens the trained model will process; each costs a forward pass. A size that cannot reach the
    loss, with any number of tokens, does not count. By hand first: A = B = 1, E = 0, both
    exponents 1, loss 1, sizes 2 and 4, served 0, then 100.
    """
    E, A, B, alpha, beta = law
    left = loss - E - A / sizes**alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = np.where(left > 0, (B / left) ** (1 / beta), np.inf)
    return sizes[np.argmin(6 * sizes * tokens + 2 * sizes * served)]


REFIT = (1.8172, 482.01, 2085.43, 0.3478, 0.3658)


@cheapest_size.check
def two_sizes(answer, rng):
    sizes, law = np.array([1.0, 2.0, 4.0]), (0.0, 1.0, 1.0, 1.0, 1.0)
    found = [answer(sizes, 1.0, served, law) for served in (0.0, 100.0)]
    expect_close(found, [2.0, 2.0], what="the sizes for 0 and 100 served tokens")


@cheapest_size.check
def many_sizes(answer, rng):
    sizes = np.geomspace(1e6, 2e11, 200)
    served, expected = (0.0, 1e12, 3e13), []
    for later in served:
        best, price = None, np.inf
        for size in sizes:
            left = 2.0 - REFIT[0] - REFIT[1] / size ** REFIT[3]
            if left <= 0:
                continue
            cost = 6 * size * (REFIT[2] / left) ** (1 / REFIT[4]) + 2 * size * later
            if cost < price:
                best, price = size, cost
        expected.append(best)
    found = [answer(sizes, 2.0, later, REFIT) for later in served]
    expect_close(found, expected, what="the sizes for loss 2.0 and 0, 1e12, 3e13 served tokens")


def _size(sizes, loss, served, law, train=6, use=2, floor=True):
    E, A, B, alpha, beta = law
    left = loss - E * floor - A / sizes**alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        tokens = np.where(left > 0, (B / left) ** (1 / beta), np.inf)
    return sizes[np.argmin(train * sizes * tokens + use * sizes * served)]


@cheapest_size.mistake("That is the cheapest to train. Each token of use has a price as well.")
def training_alone(sizes, loss, served, law):
    return _size(sizes, loss, served, law, use=0)


@cheapest_size.mistake("Use and training cost the same in your sum. Which passes does each need?")
def use_like_training(sizes, loss, served, law):
    return _size(sizes, loss, served, law, use=6)


@cheapest_size.mistake("You forgot the floor E: no text removes it.")
def without_floor(sizes, loss, served, law):
    return _size(sizes, loss, served, law, floor=False)


@cheapest_size.mistake(
    "A forward pass multiplies and adds: how many operations for each parameter?"
)
def one_operation(sizes, loss, served, law):
    return _size(sizes, loss, served, law, use=1)


@cheapest_size.mistake(
    "That is the smallest size that can reach the loss. What does its text cost?"
)
def smallest(sizes, loss, served, law):
    E, A, _, alpha, _ = law
    return sizes[loss - E - A / sizes**alpha > 0].min()


@exercise(
    "Eight bits, rounded right",
    difficulty=4,
    minutes=35,
    section="what-sixteen-bits-forget",
    counterpart="chainrule.modern_llms.pretraining:round_fp8",
    idea="Find the power of two below each value; it tells how far apart neighbours are there. "
    "Below the smallest normal number the distance stays what it is.",
)
def round_e4m3(x):
    """Return the nearest E4M3 number for each entry of an array, as float64.

    Three bits after the leading 1; exponents from −6 to 8; the largest number is 448, and what is
    larger becomes 448. Below 2 to the power −6 the neighbours stay as far apart as just above it.
    A tie goes to the neighbour whose last bit is 0 (NumPy's rint does that for whole numbers).
    By hand first: 17, 19, 0.001.
    """
    exponent = np.frexp(x)[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, -6) - 3)
    return np.clip(np.rint(x / step) * step, -448.0, 448.0)


@round_e4m3.by_package
def _(package, x):
    return package(x, "e4m3")


@round_e4m3.check
def by_hand_first(answer, rng):
    found = answer(np.array([17.0, 19.0, 0.001]))
    expect_close(found, np.array([16.0, 20.0, 0.001953125]), what="17, 19 and 0.001 in E4M3")


@round_e4m3.check
def ten_thousand(answer, rng):
    x = rng.normal(size=10_000) * 2.0 ** rng.uniform(-12, 10, 10_000)
    x[0] = 0.0
    grid = [m / 8 * 2.0**-6 for m in range(8)]
    grid += [(1 + m / 8) * 2.0**e for e in range(-6, 9) for m in range(8)][:-1]
    grid = np.array(grid)
    near = grid[np.abs(np.abs(x)[:, None] - grid).argmin(axis=1)]
    expect_close(answer(x), np.copysign(near, x), what="10,000 values of all sizes in E4M3")


def _rounded(x, lowest=-6, largest=448.0, bits=3, how=np.rint):
    exponent = np.frexp(x)[1] - 1
    step = np.ldexp(1.0, np.maximum(exponent, lowest) - bits)
    return np.clip(how(x / step) * step, -largest, largest)


@round_e4m3.mistake("You cut off the rest instead of rounding to the nearest.")
def cut_off(x):
    return _rounded(x, how=np.trunc)


@round_e4m3.mistake("Your ties go away from zero. 17 lies between 16 and 18.")
def ties_away(x):
    return _rounded(x, how=lambda z: np.copysign(np.floor(np.abs(z) + 0.5), z))


@round_e4m3.mistake(
    "Small numbers come out too fine: below the smallest exponent steps stay equal."
)
def no_smallest(x):
    return _rounded(x, lowest=-1000)


@round_e4m3.mistake("That format has two bits after the leading 1, like E5M2.")
def two_bits(x):
    return _rounded(x, bits=2)


@round_e4m3.mistake("The largest number is 448; its neighbour 480 stands for NaN.")
def up_to_480(x):
    return _rounded(x, largest=480.0)


@round_e4m3.mistake("Below 2 to the power −6 there are numbers left before 0.")
def nothing_below(x):
    return np.where(np.abs(x) < 2.0**-6, 0.0, _rounded(x))


@round_e4m3.mistake("What is too large becomes 448 here: E4M3 has no infinity.")
def infinite(x):
    found = _rounded(x, largest=np.inf)
    return np.where(np.abs(found) > 448, np.copysign(np.inf, x), found)


@round_e4m3.mistake("Your answers have lost their sign.")
def no_sign(x):
    return np.abs(_rounded(x))
