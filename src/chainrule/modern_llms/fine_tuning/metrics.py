"""Measures of predictions: of labels by their confusion matrix, and of texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.shapes import Array, Int

__all__ = [
    "accuracy", "balanced_accuracy", "confusion_matrix", "exact_match", "f1", "mcc", "rouge_l",
]  # fmt: skip


def confusion_matrix(
    truth: Int[Array, " n"], predicted: Int[Array, " n"], classes: int
) -> Int[Array, "classes classes"]:
    """Count pairs: entry (i, j) is how often the truth was i and the prediction j.

    Raises:
        ValueError: the two differ in length, or a label is outside 0 … classes − 1.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"expected two rows of labels, got {truth.shape} and {predicted.shape}")
    for labels in (truth, predicted):
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(f"labels go from 0 to {classes - 1}, got {labels.min()} to "
                             f"{labels.max()}")  # fmt: skip
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth.astype(np.int64), predicted.astype(np.int64)), 1)
    return counts


def accuracy(counts: Int[Array, "classes classes"]) -> float:
    """Return the share of right answers of a confusion matrix; NaN if it is empty."""
    return _share(np.trace(counts), counts.sum())


def balanced_accuracy(counts: Int[Array, "classes classes"]) -> float:
    """Return the mean share found (recall) over the classes that occur; NaN if none does.

    Equation: modern-llms/fine-tuning.md#eq-balanced
    """
    present = counts.sum(axis=1) > 0
    if not present.any():
        return float("nan")
    return float((np.diag(counts)[present] / counts.sum(axis=1)[present]).mean())


def f1(counts: Int[Array, "classes classes"], average: str | None = "macro") -> Any:
    """Return the F1 of each class (``average=None``), their mean (macro) or that of all (micro).

    A class that is neither there nor predicted has the F1 0, as in scikit-learn.
    Equation: modern-llms/fine-tuning.md#eq-f1

    Raises:
        ValueError: another ``average``.
    """
    right = np.diag(counts).astype(float)
    seen = counts.sum(axis=0) + counts.sum(axis=1)
    if average is None:
        return np.divide(2 * right, seen, out=np.zeros(len(counts)), where=seen > 0)
    if average == "macro":
        return float(np.mean(f1(counts, None)))
    if average == "micro":
        return _share(2 * right.sum(), seen.sum())
    raise ValueError(f"average is 'macro', 'micro' or None, not {average!r}")


def mcc(counts: Int[Array, "classes classes"]) -> float:
    """Return Matthews' correlation of truth and prediction, −1 … 1; 0 where one is constant.

    Equation: modern-llms/fine-tuning.md#eq-mcc. Source: Gorodkin 2004, for any number of classes.
    """
    counts = np.asarray(counts, dtype=float)
    total, right = counts.sum(), np.trace(counts)
    truth, predicted = counts.sum(axis=1), counts.sum(axis=0)
    spread = (total**2 - truth @ truth) * (total**2 - predicted @ predicted)
    return float((right * total - truth @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0


def exact_match(predicted: Sequence[str], truth: Sequence[str]) -> float:
    """Return the share of texts that are equal, but for case, punctuation and spaces at the ends.

    Raises:
        ValueError: the two differ in number.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"got {len(predicted)} answers for {len(truth)} questions")
    same = [_plain(a) == _plain(b) for a, b in zip(predicted, truth, strict=True)]
    return _share(sum(same), len(same))


def rouge_l(candidate: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of words.

    Equation: modern-llms/fine-tuning.md#eq-rouge. Source: Lin 2004, ROUGE.
    """
    a, b = _plain(candidate).split(), _plain(reference).split()
    if not a or not b:
        return 0.0
    row = [0] * (len(b) + 1)
    for word in a:
        above = row[:]
        for j, other in enumerate(b):
            row[j + 1] = above[j] + 1 if word == other else max(above[j + 1], row[j])
    return 2 * row[-1] / (len(a) + len(b))


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")
