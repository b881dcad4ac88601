"""muP: how initialization and learning rate follow the width, so that small runs tune large ones.

Taught in ``modern-llms/pretraining.md``. Rules of Yang et al., *Tensor Programs V*, 2022 (arXiv
2203.03466), Table 8, for Adam.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MupScales", "mup_scales"]


class MupScales(NamedTuple):
    """Factors on what was tuned at the base width.

    ``*_std`` multiplies the standard deviation of a matrix at the start, ``*_lr`` Adam's learning
    rate for it, ``*_multiplier`` its output. ``input`` are embeddings, biases and gains, whose
    size does not grow with the width on the side that is summed; ``hidden`` maps width to
    width; ``output`` maps width to logits. ``scores`` multiplies attention's scores.
    """

    input_std: float
    input_lr: float
    hidden_std: float
    hidden_lr: float
    output_std: float
    output_lr: float
    output_multiplier: float
    scores: float


def mup_scales(width: int, base: int) -> MupScales:
    """The factors at ``width`` for what was tuned at ``base``; all are 1 where the two agree.

    Scores are divided by the size of a head, not by its root: ``scores`` is what that asks for
    beside the usual division by the root, for heads that grow with the width.

    Raises:
        ValueError: a width below 1.

    Equation: modern-llms/pretraining.md#eq-mup
    """
    if width < 1 or base < 1:
        raise ValueError(f"mup_scales: widths must be at least 1, got {width}, {base}")
    m = width / base
    return MupScales(1.0, 1.0, m**-0.5, 1 / m, 1.0, 1.0, 1 / m, m**-0.5)
