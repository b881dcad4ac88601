"""Names as arrays, count tables to compare with, and new names drawn from a model."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from chainrule.architectures.rnns.recurrent import CharRNN
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Float, Int

ALPHABET = "." + string.ascii_lowercase
"""Symbol 0 is the dot, which stands before and after every name; then a to z."""

IGNORED = -100


def encode_names(
    names: Sequence[str],
) -> tuple[Int[Array, "names time"], Int[Array, "names time"]]:
    """Return ids and targets, padded to the longest name and its dot.

    A row of ids is the dot and the letters, a row of targets the letters and the dot: what comes
    next. Behind the end stand 0 among the ids and −100 among the targets, which counts for nothing.

    Raises:
        ValueError: there is no name, or one holds something else than small letters a to z.
    """
    if not names:
        raise ValueError("encode_names needs at least one name")
    for name in names:
        if not set(name) <= set(string.ascii_lowercase):
            raise ValueError(f"a name is made of small letters a to z, received {name!r}")
    time = 1 + max(map(len, names))
    ids, targets = np.zeros((len(names), time), int), np.full((len(names), time), IGNORED)
    for row, name in enumerate(names):
        numbers = [ALPHABET.index(letter) for letter in name]
        ids[row, 1 : len(name) + 1] = numbers
        targets[row, : len(name) + 1] = [*numbers, 0]
    return ids, targets


class CountTable:
    """The next character from the last ``order`` − 1: counts, with ``alpha`` added to each.

    Order 1 looks at nothing, order 2 at one letter (bigrams), order 3 at two (trigrams).
    Equation: architectures/rnns.md#eq-count-table

    Raises:
        ValueError: the order is below 1, or alpha is not positive.
    """

    def __init__(self, names: Iterable[str], order: int, alpha: float) -> None:
        if order < 1 or not alpha > 0:
            raise ValueError(f"received order {order} and alpha {alpha}; expected ≥ 1 and > 0")
        self.order, self.alpha = order, alpha
        self.grams: Counter[str] = Counter()
        self.contexts: Counter[str] = Counter()
        for gram in self._grams(names):
            self.grams[gram] += 1
            self.contexts[gram[:-1]] += 1

    def _grams(self, names: Iterable[str]) -> Iterable[str]:
        for name in names:
            text = "." * (self.order - 1) + name + "."
            yield from (text[i : i + self.order] for i in range(len(name) + 1))

    def loss(self, names: Iterable[str]) -> float:
        """Return the mean surprise per letter in nats, each name's closing dot included."""
        each = [
            (self.grams[gram] + self.alpha)
            / (self.contexts[gram[:-1]] + self.alpha * len(ALPHABET))
            for gram in self._grams(names)
        ]
        return -float(np.mean(np.log(each)))


def sample_text(
    model: CharRNN,
    count: int,
    rng: np.random.Generator,
    temperature: float = 1.0,
    longest: int = 30,
) -> list[str]:
    """Return new texts: draw letter after letter, feeding back each one, until the dot.

    All ``count`` texts grow side by side. One that has not met the dot after ``longest`` letters
    ends there.

    Raises:
        ValueError: the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be positive, received {temperature}")
    ids, h, columns = np.zeros((count, 1), int), None, []
    with no_grad():
        for _ in range(longest):
            logits, h = model(ids, h)
            ids = _draw(softmax(logits.data[:, 0].astype(float) / temperature), rng)
            columns.append(ids[:, 0])
    rows = np.stack(columns, axis=1) if columns else np.zeros((count, 0), int)
    return ["".join(ALPHABET[i] for i in row).split(".")[0] for row in rows]


def _draw(p: Float[Array, "count vocab"], rng: np.random.Generator) -> Int[Array, "count 1"]:
    edges = p.cumsum(axis=1)
    below = rng.random((len(p), 1)) * edges[:, -1:] >= edges
    return below.sum(axis=1, keepdims=True)
