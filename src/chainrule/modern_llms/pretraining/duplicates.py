"""Near-duplicates: shingles, MinHash signatures, bands; simple filters; what copies do.

Taught in ``modern-llms/pretraining.md``. A document is the set of its ``width``-word windows.
Two documents are as similar as their sets: common windows over all windows (Jaccard, 1901).
Shape names: ``k`` hashes of a signature, ``documents`` rows.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from chainrule.shapes import Array, Int

__all__ = [
    "Quality",
    "caught",
    "deduplicate",
    "exposure",
    "jaccard",
    "lsh_buckets",
    "minhash",
    "quality_filter",
    "shingles",
]

PRIME = (1 << 61) - 1
"""A Mersenne prime: ``a * h + b`` modulo it is a permutation of 0 … PRIME − 1."""


def shingles(document: str, width: int = 5) -> frozenset[str]:
    """Every window of ``width`` neighbouring words, lower case, without punctuation.

    A document of fewer words is one window; one without words has none.
    """
    if width < 1:
        raise ValueError(f"shingles: width must be at least 1, got {width}")
    words = re.findall(r"\w+", document.lower())
    if not words:
        return frozenset()
    last = max(1, len(words) - width + 1)
    return frozenset(" ".join(words[i : i + width]) for i in range(last))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Common elements over all elements; two empty sets are alike.

    Equation: modern-llms/pretraining.md#eq-jaccard
    """
    return len(a & b) / len(a | b) if a or b else 1.0


def minhash(doc: frozenset[str], k: int, seed: int) -> Int[Array, " k"]:
    """The signature of a set of shingles: its smallest element under ``k`` random orders.

    Two sets agree at each place with a probability equal to their Jaccard similarity. An empty
    set has a signature of its own, the value ``PRIME``.

    Raises:
        ValueError: ``k`` is below 1.

    Source: Broder, *On the resemblance and containment of documents*, 1997.

    Equation: modern-llms/pretraining.md#eq-minhash
    """
    if k < 1:
        raise ValueError(f"minhash: k must be at least 1, got {k}")
    rng = np.random.default_rng(seed)
    factors = [int(a) for a in rng.integers(1, PRIME, k)]
    shifts = [int(b) for b in rng.integers(0, PRIME, k)]
    hashes = [int.from_bytes(blake2b(s.encode(), digest_size=8).digest()) % PRIME for s in doc]
    if not hashes:
        return np.full(k, PRIME, dtype=np.int64)
    smallest = [
        min((a * h + b) % PRIME for h in hashes) for a, b in zip(factors, shifts, strict=True)
    ]
    return np.array(smallest, dtype=np.int64)


def lsh_buckets(
    signatures: Int[Array, "documents k"], bands: int
) -> dict[tuple[int, bytes], list[int]]:
    """Documents that agree in a whole band of rows: bucket to its members, two or more.

    Raises:
        ValueError: ``bands`` does not divide ``k``.

    Equation: modern-llms/pretraining.md#eq-banding
    """
    documents, k = signatures.shape
    if bands < 1 or k % bands:
        raise ValueError(f"lsh_buckets: {bands} bands do not divide {k} hashes")
    rows = k // bands
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    for i in range(documents):
        for band in range(bands):
            part = np.ascontiguousarray(signatures[i, band * rows : (band + 1) * rows])
            buckets[band, part.tobytes()].append(i)
    return {key: members for key, members in buckets.items() if len(members) > 1}


def caught(similarity: Any, rows: int, bands: int) -> Any:
    """Probability that two documents of a similarity share a bucket: ``1 - (1 - s**r)**b``.

    Equation: modern-llms/pretraining.md#eq-banding
    """
    if rows < 1 or bands < 1:
        raise ValueError(f"caught: rows and bands must be at least 1, got {rows}, {bands}")
    s = np.asarray(similarity, dtype=np.float64)
    if not ((s >= 0) & (s <= 1)).all():
        raise ValueError("caught: a similarity lies between 0 and 1")
    with np.errstate(divide="ignore"):
        return -np.expm1(bands * np.log1p(-(s**rows)))


def deduplicate(
    documents: Sequence[str],
    threshold: float = 0.7,
    *,
    bands: int = 14,
    rows: int = 8,
    width: int = 5,
    seed: int = 0,
) -> list[int]:
    """Places of the documents to keep: the first of every cluster of near-duplicates.

    Bands propose pairs, the sets themselves decide, and what is alike by a chain is one cluster.
    The bands' sizes are FineWeb's (Penedo et al., 2024, arXiv 2406.17557).
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"deduplicate: threshold must lie between 0 and 1, got {threshold}")
    sets = [shingles(document, width) for document in documents]
    if not sets:
        return []
    signatures = np.stack([minhash(s, bands * rows, seed) for s in sets])
    parent = list(range(len(sets)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for members in lsh_buckets(signatures, bands).values():
        for place, j in enumerate(members):
            for i in members[:place]:
                a, b = sorted((root(i), root(j)))
                if a != b and jaccard(sets[i], sets[j]) >= threshold:
                    parent[b] = a
    return [i for i in range(len(sets)) if root(i) == i]


def exposure(scores: Any, secret: int) -> float:
    """Bits by which a search through all candidates is shorter, the likeliest tried first.

    ``scores`` (n,) are a model's log probabilities; ``secret`` is the place of the true candidate.
    Candidates that are exactly as likely are tried after it.

    Raises:
        ValueError: no such candidate, or its score is NaN.

    Equation: modern-llms/pretraining.md#eq-exposure
    Source: Carlini et al., *The Secret Sharer*, 2018 (arXiv 1802.08232).
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not 0 <= secret < len(scores) or np.isnan(scores[secret]):
        raise ValueError(f"exposure: no score at {secret} of scores with shape {scores.shape}")
    rank = 1 + np.sum(scores > scores[secret])
    return float(np.log2(len(scores)) - np.log2(rank))


class Quality(NamedTuple):
    """Whether a document is kept, and the first rule that it breaks (empty if none)."""

    keep: bool
    reason: str


def quality_filter(doc: str) -> Quality:
    """Five of the rules of Gopher's filter (Rae et al., 2021, arXiv 2112.11446).

    50 to 100,000 words; a mean word of 3 to 10 characters; at most one hash or ellipsis for ten
    words; fewer than nine lines of ten with a bullet; a letter in eight words of ten.
    """
    words = doc.split()
    if not 50 <= len(words) <= 100_000:
        return Quality(False, f"{len(words)} words, expected 50 to 100,000")
    mean = sum(map(len, words)) / len(words)
    if not 3 <= mean <= 10:
        return Quality(False, f"mean word of {mean:.1f} characters, expected 3 to 10")
    marks = max(doc.count("#"), doc.count("...") + doc.count("…")) / len(words)
    if marks > 0.1:
        return Quality(False, f"{marks:.2f} marks a word, expected at most 0.1")
    lines = [line.strip() for line in doc.splitlines() if line.strip()]
    bullets = sum(line.startswith(("•", "-", "*")) for line in lines) / len(lines)
    if bullets > 0.9:
        return Quality(False, f"{bullets:.0%} of the lines are bullets, expected at most 90 %")
    letters = sum(any(c.isalpha() for c in word) for word in words) / len(words)
    if letters < 0.8:
        return Quality(False, f"{letters:.0%} of the words hold a letter, expected 80 %")
    return Quality(True, "")
