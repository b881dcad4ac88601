"""The unigram tokenizer: a probability for every piece, and the likeliest way to cut a word.

Taught in ``modern-llms/pretraining.md``. It is what SentencePiece trains by default (Kudo, 2018,
arXiv 1804.10959): many candidates first, then expectation-maximization and pruning. A space is
written as "▁" and belongs to the word after it, so joining the pieces gives the text back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import exp, inf, log

from chainrule.modern_llms.pretraining.bpe import TokenizerError

__all__ = ["UnigramLM"]

SPACE = "▁"


class UnigramLM:
    """Pieces with log probabilities; a character that is no piece costs as much as ``unknown``.

    Raises:
        TokenizerError: no pieces, an empty piece, or a log probability above 0 or not a number.
    """

    def __init__(self, log_probabilities: Mapping[str, float]):
        if not log_probabilities or "" in log_probabilities:
            raise TokenizerError("a unigram vocabulary needs pieces, and none of them empty")
        for piece, value in log_probabilities.items():
            if not -inf < value <= 0:
                raise TokenizerError(f"the log probability of {piece!r} is {value}, expected <= 0")
        self.log_probabilities = dict(log_probabilities)
        self.longest = max(map(len, self.log_probabilities))
        self.unknown = min(self.log_probabilities.values()) - 10.0

    def viterbi(self, word: str) -> tuple[list[str], float]:
        """The likeliest pieces of a word, and the sum of their log probabilities.

        Equation: modern-llms/pretraining.md#eq-viterbi
        """
        best = [0.0] + [-inf] * len(word)
        cut = [0] * (len(word) + 1)
        for end in range(1, len(word) + 1):
            for start, value in self._edges(word, end):
                if best[start] + value > best[end]:
                    best[end], cut[end] = best[start] + value, start
        pieces, end = [], len(word)
        while end:
            pieces.append(word[cut[end] : end])
            end = cut[end]
        return pieces[::-1], best[-1]

    def _edges(self, word: str, end: int) -> list[tuple[int, float]]:
        """Where a piece that ends here may start, with its log probability."""
        found = [
            (start, value)
            for start in range(max(0, end - self.longest), end)
            if (value := self.log_probabilities.get(word[start:end])) is not None
        ]
        if word[end - 1 : end] not in self.log_probabilities:
            found.append((end - 1, self.unknown))
        return found

    def encode(self, text: str) -> list[str]:
        """The pieces of a text; each word begins with the mark of its space."""
        return [piece for word in _words(text) for piece in self.viterbi(word)[0]]

    def expected_counts(self, word: str) -> tuple[dict[str, float], float]:
        """How often each piece is expected in a word, over all ways to cut it; and the log of
        the word's probability, summed over all ways.

        Equation: modern-llms/pretraining.md#eq-forward-backward
        """
        n = len(word)
        edges = [(s, e, v) for e in range(1, n + 1) for s, v in self._edges(word, e)]
        forward, backward = [0.0] + [-inf] * n, [-inf] * n + [0.0]
        for start, end, value in edges:
            forward[end] = _log_add(forward[end], forward[start] + value)
        for start, end, value in reversed(edges):
            backward[start] = _log_add(backward[start], backward[end] + value)
        total = forward[n]
        counts: Counter[str] = Counter()
        for start, end, value in edges:
            counts[word[start:end]] += exp(forward[start] + value + backward[end] - total)  # type: ignore[assignment]
        return dict(counts), total

    @classmethod
    def fit(
        cls, text: str, vocabulary: int, *, longest: int = 8, rounds: int = 2, keep: float = 0.75
    ) -> UnigramLM:
        """Pieces learned from a text: expectation-maximization, then the least useful quarter of
        the pieces leaves, until ``vocabulary`` are left. Single characters never leave.

        A piece is as useful as the log probability that its words lose when its best cut
        without it takes its place.

        Raises:
            TokenizerError: an empty text, or fewer pieces asked for than there are characters.
        """
        words = Counter(_words(text))
        if not words:
            raise TokenizerError("a unigram vocabulary is learned from text; this one is empty")
        letters = {character for word in words for character in word}
        if vocabulary < len(letters):
            raise TokenizerError(
                f"the text has {len(letters)} characters; a vocabulary of {vocabulary} is too small"
            )
        seeds: Counter[str] = Counter()
        for word, count in words.items():
            for i in range(len(word)):
                for j in range(i + 1, min(len(word), i + longest) + 1):
                    seeds[word[i:j]] += count
        chosen = {p: c for p, c in seeds.items() if c > 1 or len(p) == 1}
        model = cls(_normalized(chosen))
        while True:
            for _ in range(rounds):
                expected = dict.fromkeys(letters, 0.001)
                for word, count in words.items():
                    for piece, share in model.expected_counts(word)[0].items():
                        expected[piece] = expected.get(piece, 0.0) + count * share
                model = cls(_normalized(expected))
            size = len(model.log_probabilities)
            if size <= vocabulary:
                return model
            room = max(vocabulary, int(size * keep)) - len(letters)
            known = [p for p in model.log_probabilities if len(p) > 1]
            useful = {p: model._loss_without(p) * expected[p] for p in known}
            ranked = sorted(useful, key=lambda p: (-useful[p], p))[:room]
            model = cls(_normalized({p: expected[p] for p in (*letters, *ranked)}))

    def _loss_without(self, piece: str) -> float:
        value = self.log_probabilities.pop(piece)
        try:
            return value - self.viterbi(piece)[1]
        finally:
            self.log_probabilities[piece] = value


def _words(text: str) -> list[str]:
    """Words with the mark of the space before them; the text is the words joined."""
    words, start = [], 0
    marked = text.replace(" ", SPACE)
    for i in range(1, len(marked) + 1):
        if i == len(marked) or marked[i] == SPACE:
            if i > start:
                words.append(marked[start:i])
            start = i
    return words


def _normalized(counts: Mapping[str, float]) -> dict[str, float]:
    positive = {piece: count for piece, count in sorted(counts.items()) if count > 1e-12}
    total = sum(positive.values())
    return {piece: min(0.0, log(count / total)) for piece, count in positive.items()}


def _log_add(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -inf else a + log(1 + exp(b - a))
