"""How good is an output? BLEU counts shared pieces, edit distance the changes that are needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def bleu(
    cands: Sequence[Sequence[Hashable]],
    refs: Sequence[Sequence[Sequence[Hashable]]],
    max_n: int = 4,
) -> float:
    """Return BLEU between 0 and 1 of all candidates together; ``refs[i]`` lists those of cands[i].

    The geometric mean of the clipped precisions of 1 … ``max_n`` grams, times the brevity
    penalty. Counts of all sentences are added before anything is divided. A candidate is compared
    with the length of its nearest reference, of two the shorter. Without a match of some size the
    score is 0: nothing is smoothed.
    Equation: architectures/sequence-to-sequence.md#eq-bleu
    Source: Papineni, Roukos, Ward, Zhu 2002.

    Raises:
        ValueError: the numbers of candidates and of lists of references differ, a candidate has
            no reference, or max_n is below 1.
    """
    if max_n < 1 or len(cands) != len(refs) or not all(len(r) for r in refs):
        raise ValueError(
            f"bleu needs max_n ≥ 1 and references for each candidate; received max_n {max_n}, "
            f"{len(cands)} candidates, {len(refs)} lists of {[len(r) for r in refs][:5]} references"
        )
    logs = []
    for n in range(1, max_n + 1):
        found = [_clipped(cand, several, n) for cand, several in zip(cands, refs, strict=True)]
        matched, total = sum(m for m, _ in found), sum(t for _, t in found)
        if matched == 0:
            return 0.0
        logs.append(math.log(matched / total))
    length = sum(map(len, cands))
    wanted = sum(
        _nearest(len(c), map(len, several)) for c, several in zip(cands, refs, strict=True)
    )
    return math.exp(min(0.0, 1 - wanted / length) + sum(logs) / max_n)


def _clipped(
    cand: Sequence[Hashable], several: Sequence[Sequence[Hashable]], n: int
) -> tuple[int, int]:
    """How many n-grams of the candidate stand in a reference, each as often as there, and of all.

    Equation: architectures/sequence-to-sequence.md#eq-clipped
    """
    counts, most = _grams(cand, n), Counter[Sequence[Hashable]]()
    for ref in several:
        most |= _grams(ref, n)  # the larger of two counts
    return (counts & most).total(), counts.total()


def _nearest(length: int, lengths: Iterable[int]) -> int:
    return min(lengths, key=lambda other: (abs(other - length), other))


def _grams(tokens: Sequence[Hashable], n: int) -> Counter[Sequence[Hashable]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the least number of insertions, deletions and replacements that make ``b`` of ``a``.

    Equation: architectures/sequence-to-sequence.md#eq-edit
    Source: Levenshtein 1966.
    """
    row = list(range(len(b) + 1))  # from nothing: insert everything
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y)))
    return row[-1]
