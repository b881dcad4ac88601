"""What a GPT has to beat: counted n-grams, and copying the longest repeat."""

from __future__ import annotations

import numpy as np

from chainrule.shapes import Array, Float, Int

__all__ = ["MatchModel", "WittenBell", "witten_bell_ngram"]


class WittenBell:
    """An n-gram model that backs off as far as it must: interpolated Witten–Bell smoothing.

    P(w|h) = (c(hw) + k(h) P(w|h′)) / (c(h) + k(h)), where h′ is h without its oldest symbol,
    k(h) counts the different symbols seen after h, and the last step is 1/vocabulary.
    Equation: transformers/gpt.md#eq-witten-bell. Source: Witten, Bell, The zero-frequency
    problem, 1991.

    Raises:
        ValueError: ``n`` is below 1, the text is shorter, or the n-grams do not fit 64 bits.
    """

    def __init__(self, ids: Int[Array, "time"], n: int, vocabulary: int) -> None:
        if n < 1:
            raise ValueError(f"an n-gram has at least one symbol, got n = {n}")
        if vocabulary**n >= 2**63:
            raise ValueError(f"{vocabulary} symbols to the power {n} do not fit 64 bits: lower n")
        if len(ids) < n:
            raise ValueError(f"{len(ids)} symbols hold no {n}-gram: give more text or lower n")
        self.n, self.vocabulary = n, vocabulary
        self._check(ids)
        self._tables = []
        for order in range(1, n + 1):
            grams, counts = np.unique(self._grams(ids, order), return_counts=True)
            histories, starts = np.unique(grams // vocabulary, return_index=True)
            after = np.add.reduceat(counts, starts)
            different = np.diff(np.append(starts, len(grams)))
            self._tables.append((grams, counts, histories, after, different))

    def _check(self, ids: Array) -> None:
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocabulary:
            raise ValueError(
                f"ids must be from 0 to {self.vocabulary - 1}, got {ids.min()} to {ids.max()}"
            )

    def _grams(self, ids: Array, order: int) -> Array:
        """Each run of ``order`` symbols as one number in base ``vocabulary``."""
        ids, grams = ids.astype(np.int64), np.zeros(len(ids) - order + 1, np.int64)
        for offset in range(order):
            grams = grams * self.vocabulary + ids[offset : offset + len(grams)]
        return grams

    def log_probabilities(self, ids: Int[Array, "time"]) -> Float[Array, "time"]:
        """Return log P of each symbol given up to n − 1 symbols before it."""
        self._check(ids)
        p = np.full(len(ids), 1 / self.vocabulary)
        for order, (grams, counts, histories, after, different) in enumerate(self._tables, 1):
            if len(ids) < order:
                break
            keys = self._grams(ids, order)
            total = _look_up(histories, after, keys // self.vocabulary)
            kinds = _look_up(histories, different, keys // self.vocabulary)
            count = _look_up(grams, counts, keys)
            seen = total > 0
            tail = p[order - 1 :]
            tail[seen] = ((count + kinds * tail) / np.maximum(total + kinds, 1))[seen]
        return np.log(p)

    def nll(self, ids: Int[Array, "time"]) -> float:
        """Return the mean −log P of the symbols, in nats a symbol."""
        return float(-self.log_probabilities(ids).mean())


def _look_up(keys: Array, values: Array, wanted: Array) -> Array:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def witten_bell_ngram(ids: Int[Array, "time"], n: int, vocabulary: int | None = None) -> WittenBell:
    """Count all runs of up to n symbols of ``ids`` and return the smoothed model."""
    return WittenBell(ids, n, int(ids.max()) + 1 if vocabulary is None else vocabulary)


class MatchModel:
    """Copy what followed the longest repeat; where there is none, or it errs, an n-gram.

    The last ``shortest`` symbols are looked up in everything read before, the text of ``ids``
    included, at their latest occurrence. What followed there is predicted with the share of the
    cases in which a repeat of this length was right so far; the rest is the n-gram's.

    Raises:
        ValueError: not 1 ≤ shortest ≤ longest.
    """

    def __init__(
        self, ids: Int[Array, "time"], base: WittenBell, shortest: int = 8, longest: int = 40
    ) -> None:
        if not 1 <= shortest <= longest:
            raise ValueError(f"1 ≤ shortest ≤ longest, got {shortest} and {longest}")
        self.ids, self.base, self.shortest, self.longest = ids, base, shortest, longest

    def log_probabilities(self, ids: Int[Array, "time"]) -> Float[Array, "time"]:
        """Return log P of each symbol, given all symbols before it and the text of before."""
        base = np.exp(self.base.log_probabilities(ids))
        text, start = np.concatenate([self.ids, ids]).tolist(), len(self.ids)
        right, tried = np.ones(self.longest + 1), np.full(self.longest + 1, 2.0)
        places: dict[tuple[int, ...], int] = {}
        copy, length = 0, 0
        p = np.empty(len(ids))
        for now, symbol in enumerate(text):
            if length:
                level, hit = min(length, self.longest), text[copy] == symbol
                if now >= start:
                    share = right[level] / tried[level]
                    p[now - start] = (1 - share) * base[now - start] + share * hit
                right[level] += hit
                tried[level] += 1
                copy, length = (copy + 1, length + 1) if hit else (0, 0)
            elif now >= start:
                p[now - start] = base[now - start]
            key = tuple(text[now + 1 - self.shortest : now + 1]) if now + 1 >= self.shortest else ()
            if key and not length and key in places:
                copy, length = places[key], self.shortest
            if key:
                places[key] = now + 1
        return np.log(p)

    def nll(self, ids: Int[Array, "time"]) -> float:
        """Return the mean −log P of the symbols, in nats a symbol."""
        return float(-self.log_probabilities(ids).mean())
