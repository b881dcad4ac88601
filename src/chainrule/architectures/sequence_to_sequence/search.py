"""Which output? Beam search for a probable one, and the choice of one that others agree with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

Output = TypeVar("Output")


class Hypothesis(NamedTuple):
    """An output, its log-probability, and the score by which it is ranked."""

    tokens: tuple[int, ...]
    log_p: float
    score: float


def beam_search(
    step_fn: Callable[[int, Any], tuple[Any, Any]],
    start: int,
    eos: int,
    width: int,
    max_len: int,
    length_penalty: float = 0.0,
    state: Any = None,
) -> list[Hypothesis]:
    """Return up to ``width`` outputs, best first: at every length only the best beginnings live.

    ``step_fn(token, state)`` returns the log-probabilities of what follows and the next state; it
    is first called with ``start`` and ``state``. An output that chooses ``eos`` is complete and
    gives up its place in the beam. Those that still grow at ``max_len`` tokens end there, without
    ``eos``. Tokens hold the ``eos``, which counts as one, and not the start. Outputs are ranked
    by log-probability over length to the power ``length_penalty``: 0 ranks by probability, 1 by
    the mean log-probability of a token. What has probability 0 is never chosen.
    Equation: architectures/sequence-to-sequence.md#eq-length

    Raises:
        ValueError: the width or the length is below 1, or a log-probability is NaN.
    """
    if min(width, max_len) < 1:
        raise ValueError(f"beam_search received width {width} and max_len {max_len}; both ≥ 1")
    growing: list[tuple[tuple[int, ...], float, Any]] = [((), 0.0, state)]
    complete: list[tuple[tuple[int, ...], float]] = []
    for _ in range(max_len):
        longer = []
        for tokens, log_p, before in growing:
            found, after = step_fn(tokens[-1] if tokens else start, before)
            found = np.asarray(found, dtype=float)
            if np.isnan(found).any():
                raise ValueError(f"beam_search: a log-probability after {tokens} is NaN")
            # Of one beginning at most `width` continuations can live; ties keep the lower id.
            for token in np.argsort(-found, kind="stable")[:width].tolist():
                if found[token] > -np.inf:
                    longer.append(((*tokens, token), log_p + float(found[token]), after))
        longer.sort(key=lambda one: -one[1])
        longer = longer[: width - len(complete)]
        complete += [one[:2] for one in longer if one[0][-1] == eos]
        growing = [one for one in longer if one[0][-1] != eos]
        if not growing:
            break
    ended = complete + [one[:2] for one in growing]
    ranked = [Hypothesis(t, log_p, log_p / len(t) ** length_penalty) for t, log_p in ended]
    return sorted(ranked, key=lambda one: -one.score)


def minimum_bayes_risk(
    candidates: Sequence[Output], utility: Callable[[Output, Output], float]
) -> Output:
    """Return the candidate with the largest mean utility, all candidates taken as possible truths.

    ``utility(candidate, truth)`` is large where the two agree. Give samples of a model: one that
    was drawn twice counts twice. Of equals the first is returned.
    Equation: architectures/sequence-to-sequence.md#eq-mbr
    Source: Kumar, Byrne 2004.

    Raises:
        ValueError: there are no candidates.
    """
    if not candidates:
        raise ValueError("minimum_bayes_risk needs at least one candidate")
    means = [np.mean([utility(one, other) for other in candidates]) for one in candidates]
    return candidates[int(np.argmax(means))]
