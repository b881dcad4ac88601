"""Blind set of modern-llms/pretraining: wrong answers written from statement and stub alone."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np

from chainrule.course.exercises import wrong

# ---- packed_loss ---------------------------------------------------------------------------------


@wrong("packed_loss", "Takes the mean of all predictions.", known="everything")
def _(losses, documents):
    return float(np.mean(losses))


@wrong("packed_loss", "Divides by the number of all predictions.", known="divided_by_all")
def _(losses, documents):
    documents = np.asarray(documents)
    return float((np.asarray(losses) * (documents[:-1] == documents[1:])).sum() / len(losses))


@wrong("packed_loss", "Sums instead of taking the mean.", known="the_sum")
def _(losses, documents):
    documents = np.asarray(documents)
    return float(np.asarray(losses)[documents[:-1] == documents[1:]].sum())


@wrong(
    "packed_loss",
    "Keeps the predictions across borders, and drops the others.",
    known="the_borders",
)
def _(losses, documents):
    documents = np.asarray(documents)
    return float(np.asarray(losses)[documents[:-1] != documents[1:]].mean())


@wrong(
    "packed_loss",
    "Takes the mean of each document, and then the mean of those.",
    known="mean_of_means",
)
def _(losses, documents):
    documents, losses = np.asarray(documents), np.asarray(losses)
    inside = documents[:-1] == documents[1:]
    owners = documents[:-1]
    means = [losses[inside & (owners == d)].mean() for d in np.unique(owners[inside])]
    return float(np.mean(means))


@wrong(
    "packed_loss",
    "Drops the prediction after each border instead of the one across it.",
    known="one_too_late",
)
def _(losses, documents):
    documents, losses = np.asarray(documents), np.asarray(losses)
    inside = np.concatenate([[True], (documents[:-1] == documents[1:])[:-1]])
    return float(losses[inside].mean())


# ---- choose_bands --------------------------------------------------------------------------------


def _divisors(k):
    return [r for r in range(1, k + 1) if k % r == 0]


@wrong("choose_bands", "Returns (bands, rows).", known="exchanged")
def _(k, threshold):
    r = min(_divisors(k), key=lambda r: abs((r / k) ** (1 / r) - threshold))
    return k // r, r


@wrong("choose_bands", "Swaps rows and bands in the formula.", known="exchanged")
def _(k, threshold):
    r = min(_divisors(k), key=lambda r: abs((1 / r) ** (r / k) - threshold))
    return r, k // r


@wrong(
    "choose_bands",
    "Allows rows that do not divide k, and rounds the bands down.",
    known="left_over",
)
def _(k, threshold):
    r = min(range(1, k + 1), key=lambda r: abs((1 / (k // r)) ** (1 / r) - threshold))
    return r, k // r


@wrong(
    "choose_bands",
    "Takes the first steep place that is not below the threshold.",
    known="not_below",
)
def _(k, threshold):
    for r in _divisors(k):
        if (r / k) ** (1 / r) >= threshold:
            return r, k // r
    return k, 1


@wrong(
    "choose_bands", "Takes the last steep place that is not above the threshold.", known="not_above"
)
def _(k, threshold):
    return max(
        ((r, k // r) for r in _divisors(k) if (r / k) ** (1 / r) <= threshold), default=(1, k)
    )


@wrong(
    "choose_bands",
    "Looks for the pair whose chance at the threshold is nearest to a half.",
    known="chance_of_half",
)
def _(k, threshold):
    r = min(_divisors(k), key=lambda r: abs(1 - (1 - threshold**r) ** (k // r) - 0.5))
    return r, k // r


# ---- merges --------------------------------------------------------------------------------------


def _join(tokens, pair):
    out, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(tokens[i] + tokens[i + 1])
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


def _loop(words, n, choose, count=lambda c: c):
    cut, learned = {w: list(w) for w in words}, []
    for _ in range(n):
        pairs = Counter()
        for w, tokens in cut.items():
            for pair in pairwise(tokens):
                pairs[pair] += count(words[w])
        if not pairs:
            break
        best = choose(pairs)
        learned.append(best)
        cut = {w: _join(tokens, best) for w, tokens in cut.items()}
    return learned


def _first_in_alphabet(pairs):
    return min(pairs, key=lambda p: (-pairs[p], p))


@wrong("merges", "Counts each word once, however often it occurs.", known="every_word_once")
def _(words, n):
    return _loop(words, n, _first_in_alphabet, count=lambda c: 1)


@wrong("merges", "Of equal counts takes the pair that was seen first.", known="first_met")
def _(words, n):
    return _loop(words, n, lambda pairs: max(pairs, key=pairs.get))


@wrong(
    "merges", "Of equal counts takes the pair that comes last in the alphabet.", known="ties_turned"
)
def _(words, n):
    return _loop(words, n, lambda pairs: max(pairs, key=lambda p: (pairs[p], p)))


@wrong(
    "merges", "Counts once, and takes the n most frequent pairs of letters.", known="never_recounts"
)
def _(words, n):
    pairs = Counter()
    for w, c in words.items():
        for pair in pairwise(w):
            pairs[pair] += c
    return sorted(pairs, key=lambda p: (-pairs[p], p))[:n]


@wrong(
    "merges",
    "Joins with str.replace, so that the pair is also found inside longer tokens.",
    known="inside_longer_tokens",
)
def _(words, n):
    cut, learned = {w: " ".join(w) for w in words}, []
    for _ in range(n):
        pairs = Counter()
        for w, text in cut.items():
            tokens = text.split()
            for pair in pairwise(tokens):
                pairs[pair] += words[w]
        if not pairs:
            break
        best = _first_in_alphabet(pairs)
        learned.append(best)
        cut = {w: text.replace(" ".join(best), "".join(best)) for w, text in cut.items()}
    return learned


@wrong("merges", "Never stops early: the largest of no pairs is an error.")
def _(words, n):
    cut, learned = {w: list(w) for w in words}, []
    for _ in range(n):
        pairs = Counter()
        for w, tokens in cut.items():
            for pair in pairwise(tokens):
                pairs[pair] += words[w]
        best = _first_in_alphabet(pairs)
        learned.append(best)
        cut = {w: _join(tokens, best) for w, tokens in cut.items()}
    return learned


# ---- encode --------------------------------------------------------------------------------------


@wrong("encode", "Cuts off the longest known token, from left to right.", known="longest_first")
def _(word, learned):
    known, out, i = {a + b for a, b in learned} | set(word), [], 0
    while i < len(word):
        j = max(j for j in range(i + 1, len(word) + 1) if word[i:j] in known)
        out.append(word[i:j])
        i = j
    return out


@wrong("encode", "Joins each merge in one place only.", known="one_place_each")
def _(word, learned):
    tokens = list(word)
    for a, b in learned:
        for i in range(len(tokens) - 1):
            if (tokens[i], tokens[i + 1]) == (a, b):
                tokens[i : i + 2] = [a + b]
                break
    return tokens


@wrong(
    "encode", "Joins the first pair from the left that was ever learned.", known="leftmost_first"
)
def _(word, learned):
    tokens, i = list(word), 0
    while i + 1 < len(tokens):
        if (tokens[i], tokens[i + 1]) in learned:
            tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
            i = 0
        else:
            i += 1
    return tokens


@wrong("encode", "Goes through the merges from the last to the first.")
def _(word, learned):
    tokens = list(word)
    for pair in reversed(learned):
        tokens = _join(tokens, pair)
    return tokens


@wrong("encode", "Looks for the pair that was learned last.", known="backwards")
def _(word, learned):
    place, tokens = {pair: i for i, pair in enumerate(learned)}, list(word)
    while True:
        pairs = [p for p in pairwise(tokens) if p in place]
        if not pairs:
            return tokens
        tokens = _join(tokens, max(pairs, key=place.get))


@wrong("encode", "Looks for the fewest tokens.", known="fewest")
def _(word, learned):
    known = {a + b for a, b in learned} | set(word)
    best = [[]]
    for j in range(1, len(word) + 1):
        ways = [best[i] + [word[i:j]] for i in range(j) if word[i:j] in known]
        best.append(min(ways, key=len))
    return best[-1]


# ---- cheapest_size -------------------------------------------------------------------------------


def _tokens(sizes, loss, law):
    E, A, B, alpha, beta = law
    N = np.asarray(sizes, dtype=float)
    left = loss - E - A / N**alpha
    with np.errstate(all="ignore"):
        return N, left, np.where(left > 0, (B / np.where(left > 0, left, 1)) ** (1 / beta), np.inf)


@wrong("cheapest_size", "Looks at training alone.", known="training_alone")
def _(sizes, loss, served, law):
    N, _, D = _tokens(sizes, loss, law)
    return sizes[np.argmin(6 * N * D)]


@wrong("cheapest_size", "Charges six operations for each served token.", known="use_like_training")
def _(sizes, loss, served, law):
    N, _, D = _tokens(sizes, loss, law)
    return sizes[np.argmin(6 * N * (D + served))]


@wrong(
    "cheapest_size",
    "Charges one operation for each parameter and served token.",
    known="one_operation",
)
def _(sizes, loss, served, law):
    N, _, D = _tokens(sizes, loss, law)
    return sizes[np.argmin(6 * N * D + N * served)]


@wrong("cheapest_size", "Takes the smallest size that reaches the loss.", known="smallest")
def _(sizes, loss, served, law):
    _, left, _ = _tokens(sizes, loss, law)
    return np.min(np.asarray(sizes)[left > 0])


@wrong("cheapest_size", "Returns the place of the size instead of the size.")
def _(sizes, loss, served, law):
    N, _, D = _tokens(sizes, loss, law)
    return int(np.argmin(6 * N * D + 2 * N * served))


@wrong("cheapest_size", "Takes the absolute value of what is left, so impossible sizes count.")
def _(sizes, loss, served, law):
    E, A, B, alpha, beta = law
    N = np.asarray(sizes, dtype=float)
    D = (B / np.abs(loss - E - A / N**alpha)) ** (1 / beta)
    return sizes[np.argmin(6 * N * D + 2 * N * served)]


@wrong("cheapest_size", "Forgets the floor.", known="without_floor")
def _(sizes, loss, served, law):
    N, _, D = _tokens(sizes, loss, (0, *law[1:]))
    return sizes[np.argmin(6 * N * D + 2 * N * served)]


# ---- round_e4m3 ----------------------------------------------------------------------------------


def _grid(x, lowest=-6, bits=3):
    x = np.asarray(x, dtype=np.float64)
    size = np.abs(x)
    exponent = np.floor(np.log2(np.where(size > 0, size, 1)))
    return x, 2.0 ** (np.maximum(exponent, lowest) - bits)


@wrong("round_e4m3", "Cuts off instead of rounding.", known="cut_off")
def _(x):
    x, u = _grid(x)
    return np.clip(np.trunc(x / u) * u, -448, 448)


@wrong("round_e4m3", "Ties go away from zero.", known="ties_away")
def _(x):
    x, u = _grid(x)
    return np.clip(np.sign(x) * np.floor(np.abs(x) / u + 0.5) * u, -448, 448)


@wrong("round_e4m3", "What is below the smallest normal number becomes 0.", known="nothing_below")
def _(x):
    x, u = _grid(x)
    return np.where(np.abs(x) < 2.0**-6, 0.0, np.clip(np.rint(x / u) * u, -448, 448))


@wrong("round_e4m3", "What is too large becomes infinity.", known="infinite")
def _(x):
    x, u = _grid(x)
    y = np.rint(x / u) * u
    return np.where(np.abs(y) > 448, np.sign(y) * np.inf, y)


@wrong("round_e4m3", "Takes 480 for the largest number.", known="up_to_480")
def _(x):
    x, u = _grid(x)
    return np.clip(np.rint(x / u) * u, -480, 480)


@wrong(
    "round_e4m3",
    "Goes on below 2 to the power -6 as if the exponent had no end.",
    known="no_smallest",
)
def _(x):
    x, u = _grid(x, lowest=-1000)
    return np.clip(np.rint(x / u) * u, -448, 448)


@wrong("round_e4m3", "Counts the leading 1 among the three bits.", known="two_bits")
def _(x):
    x, u = _grid(x, bits=2)
    return np.clip(np.rint(x / u) * u, -448, 448)


@wrong("round_e4m3", "Forgets the sign.", known="no_sign")
def _(x):
    x, u = _grid(x)
    return np.clip(np.rint(np.abs(x) / u) * u, 0, 448)
