"""Speculative decoding: a cheap draft proposes, the model judges all proposals in one pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chainrule.shapes import Array, Float, Int

__all__ = [
    "LookupDraft", "NGramDraft", "acceptance", "expected_tokens", "greedy", "residual",
    "speculative_generate", "speculative_step",
]  # fmt: skip

Target = Callable[[Array, int], Array]
Draft = Callable[[Array], Array]


def acceptance(
    p: Float[Array, "*batch vocab"], q: Float[Array, "*batch vocab"]
) -> Float[Array, "*batch"]:
    """Return the chance that a token drawn from q is kept as one of p: Σ min(p, q) = 1 − TV.

    Equation: modern-llms/inference.md#eq-acceptance. Source: Leviathan et al. 2022,
    arXiv:2211.17192.
    """
    return np.asarray(np.minimum(p, q).sum(axis=-1))


def residual(p: Float[Array, "vocab"], q: Float[Array, "vocab"]) -> Float[Array, "vocab"]:
    """Return the law from which a refused token is replaced: max(p − q, 0), made to sum to 1.

    Where p and q are equal, nothing is ever refused, and the answer is p.
    Equation: modern-llms/inference.md#eq-residual
    """
    rest = np.maximum(p - q, 0)
    total = rest.sum()
    return rest / total if total > 0 else p / p.sum()


def expected_tokens(alpha: float, gamma: int) -> float:
    """Return the mean number of tokens of a step: 1 + α + α² + … + α^γ.

    Each of the γ proposals is accepted with chance α, whatever happened to the others. In text
    that is not so: acceptances come in runs, and a step yields more than this.
    Equation: modern-llms/inference.md#eq-tokens-a-step

    Raises:
        ValueError: α is no probability, or γ is negative.
    """
    if not 0 <= alpha <= 1 or gamma < 0:
        raise ValueError(f"0 ≤ alpha ≤ 1 and gamma ≥ 0, got {alpha} and {gamma}")
    return float(sum(alpha**i for i in range(gamma + 1)))


def speculative_step(
    target: Target, draft: Draft, ids: Int[Array, "time"], gamma: int, rng: np.random.Generator
) -> tuple[Int[Array, "new"], int]:
    """Return the next tokens, one to γ + 1, and how many of them were proposals.

    ``draft(ids)`` returns q of the next token. ``target(ids, n)`` returns p after each of the last
    n of ``ids``, shape (n, vocab); it is called once. The tokens follow the law of the target
    alone. A draft may differ from step to step, but only by what it has read.
    Equation: modern-llms/inference.md#eq-accept. Source: Leviathan et al. 2022,
    arXiv:2211.17192, algorithm 1.

    Raises:
        ValueError: nothing was read, γ is negative, or p and q have different sizes.
    """
    if gamma < 0 or not len(ids):
        raise ValueError(f"needs gamma ≥ 0 and at least one token, got {gamma} and {len(ids)}")
    text, guesses = ids, []
    for _ in range(gamma):
        guesses.append(draft(text))
        text = np.append(text, _draw(guesses[-1], rng))
    truth = target(text, gamma + 1)
    if truth.shape != (gamma + 1, *(guesses[0].shape if guesses else truth.shape[1:])):
        raise ValueError(
            f"the target must return (gamma + 1, vocab) = {(gamma + 1, *guesses[0].shape)} "
            f"probabilities, got {truth.shape}"
        )
    proposed = text[len(ids) :]
    for i, (token, q) in enumerate(zip(proposed, guesses, strict=True)):
        # u q ≤ p is u ≤ p/q without the division; u < 1, so p = q is always kept
        if not rng.random() * q[token] < truth[i, token]:
            return np.append(proposed[:i], _draw(residual(truth[i], q), rng)), i
    return np.append(proposed, _draw(truth[gamma], rng)), gamma


def speculative_generate(
    target: Target,
    draft: Draft,
    ids: Int[Array, "time"],
    n: int,
    gamma: int,
    rng: np.random.Generator,
) -> tuple[Int[Array, "longer"], list[int]]:
    """Return ``ids`` continued by n tokens, and how many tokens each step gave.

    The last step may give more than are still wanted; what is over is cut from the tokens and
    stays in the counts.
    """
    text, counts = ids, []
    while len(text) < len(ids) + n:
        new, _ = speculative_step(target, draft, text, gamma, rng)
        counts.append(len(new))
        text = np.concatenate([text, new])
    return text[: len(ids) + n], counts


class NGramDraft:
    """A draft that costs next to nothing: which symbols followed the last ones before.

    Counts of runs of ``n`` symbols, each history mixed with the shorter one as Witten and Bell
    do. The law is a table, so a proposal is one look-up.
    """

    def __init__(self, ids: Int[Array, "time"], n: int, vocabulary: int) -> None:
        if n < 1 or len(ids) < n:
            raise ValueError(f"{len(ids)} symbols hold no runs of {n}")
        self.n, self.vocabulary = n, vocabulary
        self._after: list[dict[tuple[int, ...], dict[int, int]]] = []
        text = ids.tolist()
        for size in range(n):
            counts: dict[tuple[int, ...], dict[int, int]] = {}
            for i in range(size, len(text)):
                after = counts.setdefault(tuple(text[i - size : i]), {})
                after[text[i]] = after.get(text[i], 0) + 1
            self._after.append(counts)

    def __call__(self, ids: Int[Array, "time"]) -> Float[Array, "vocab"]:
        """Return the law of the next symbol."""
        q = np.full(self.vocabulary, 1 / self.vocabulary)
        history = ids[len(ids) - min(len(ids), self.n - 1) :].tolist()
        for size in range(len(history) + 1):
            found = self._after[size].get(tuple(history[len(history) - size :]))
            if found is None:
                break
            q *= len(found)
            q[list(found)] += list(found.values())
            q /= sum(found.values()) + len(found)
        return q


class LookupDraft:
    """A draft that copies from the text itself: what followed its last symbols the last time.

    Of the last ``n`` symbols, then of fewer, it looks for the latest place where they stood before
    and proposes what stood behind them, with certainty; if there is none, the last symbol again.
    Source: A. Saxena, Prompt lookup decoding, 2023, github.com/apoorvumang/prompt-lookup-decoding.
    """

    def __init__(self, n: int, vocabulary: int) -> None:
        if n < 1:
            raise ValueError(f"needs at least one symbol to look for, got {n}")
        self.n, self.vocabulary = n, vocabulary

    def __call__(self, ids: Int[Array, "time"]) -> Float[Array, "vocab"]:
        """Return the law of the next symbol: all on one."""
        guess = ids[-1]
        for size in range(min(self.n, len(ids) - 1), 0, -1):
            runs = np.lib.stride_tricks.sliding_window_view(ids[:-1], size)
            places = np.flatnonzero((runs == ids[len(ids) - size :]).all(axis=1))
            if len(places):
                guess = ids[places[-1] + size]
                break
        q = np.zeros(self.vocabulary)
        q[guess] = 1
        return q


def greedy(scores: Callable[[Array, int], Array]) -> Target:
    """Return a target that is certain of the likeliest symbol, from a function that scores.

    With it, `speculative_generate` writes what is written at temperature 0.
    """

    def target(ids: Array, last: int) -> Array:
        logits = scores(ids, last)
        p = np.zeros(logits.shape)
        p[np.arange(len(p)), logits.argmax(axis=-1)] = 1
        return p

    return target


def _draw(p: Array, rng: np.random.Generator) -> int:
    cumulative = np.cumsum(p, dtype=np.float64)
    return int((cumulative <= rng.random() * cumulative[-1]).sum())
