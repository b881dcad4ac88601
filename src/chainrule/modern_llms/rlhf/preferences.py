"""Learning from comparisons: a reward model, or the policy itself as one."""

from __future__ import annotations

import numpy as np

from chainrule.modern_llms.rlhf.policy import _constant
from chainrule.neural_networks.backpropagation import Linear, Module, Tensor, relu
from chainrule.shapes import Array, Float, Int
from chainrule.training.loss_functions import bce_with_logits
from chainrule.transformers.gpt import GPT

__all__ = ["RewardModel", "bradley_terry_loss", "dpo_loss"]


class RewardModel(Module):
    """A GPT that gives one number a text, read off the last token; also a value head.

    ``rng`` draws the head, which starts near 0.
    """

    def __init__(self, model: GPT, rng: np.random.Generator) -> None:
        self.model = model
        self.head = Linear(model.config.width, 1, rng=rng, dtype=model.config.dtype)
        self.head.weight.data *= 0.1

    def scores(self, ids: Int[Array, "batch time"]) -> Float[Tensor, "batch time"]:
        """Return a number for each beginning of each text: what a value head guesses."""
        x = self.model.norm(self.model.hidden_states(ids)[-1])
        return self.head(x)[..., 0]

    def forward(
        self, ids: Int[Array, "batch time"], lengths: Int[Array, "batch"] | None = None
    ) -> Float[Tensor, "batch"]:
        """Return a number for each text, read at its last token; filling after it is not seen.

        Raises:
            ValueError: a length is not between 1 and the number of tokens.
        """
        n = ids.shape[1]
        ends = np.full(len(ids), n) if lengths is None else np.asarray(lengths)
        if ends.shape != (len(ids),) or ((ends < 1) | (ends > n)).any():
            raise ValueError(f"RewardModel: expected {len(ids)} lengths from 1 to {n}, got {ends}")
        return self.scores(ids)[np.arange(len(ids)), ends - 1]


def bradley_terry_loss(
    chosen: Float[Tensor, "batch"], rejected: Float[Tensor, "batch"]
) -> Float[Tensor, ""]:
    """Return the mean surprise −log σ(chosen − rejected) of the preferences.

    Equation: modern-llms/rlhf.md#eq-bradley-terry
    Source: Bradley and Terry 1952.
    """
    return bce_with_logits(chosen - rejected, np.ones(chosen.shape))


def dpo_loss(
    chosen: Float[Tensor, "batch"],
    rejected: Float[Tensor, "batch"],
    ref_chosen: Float[Array, "batch"] | Float[Tensor, "batch"],
    ref_rejected: Float[Array, "batch"] | Float[Tensor, "batch"],
    beta: float = 0.1,
    kind: str = "sigmoid",
    weight: Float[Array, "batch"] | None = None,
) -> Float[Tensor, ""]:
    """Return the loss of preferences under the policy's own implied rewards.

    All four are log-probabilities of whole replies: sums over tokens, not means. With h the
    difference of the two log-ratios to the reference, "sigmoid" is −log σ(βh), "ipo" is
    (h − 1/(2β))², "hinge" is max(0, 1 − βh). ``weight`` replaces the mean by a weighted sum.

    Equation: modern-llms/rlhf.md#eq-dpo
    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7; Azar et al. 2023,
    arXiv:2310.12036 (ipo); Zhao et al. 2023, arXiv:2305.10425 (hinge).

    Raises:
        ValueError: the kind is unknown, β is not above 0, or the reference has a gradient.
    """
    if not beta > 0:
        raise ValueError(f"dpo_loss: beta must be above 0, got {beta}")
    reference = _constant("dpo_loss", "ref_chosen", ref_chosen) - _constant(
        "dpo_loss", "ref_rejected", ref_rejected
    )
    h = chosen - rejected - reference
    if kind == "sigmoid":
        losses = bce_with_logits(beta * h, np.ones(h.shape), reduction="none")
    elif kind == "ipo":
        losses = (h - 1 / (2 * beta)) ** 2
    elif kind == "hinge":
        losses = relu(1 - beta * h)
    else:
        raise ValueError(f"dpo_loss: kind must be 'sigmoid', 'ipo' or 'hinge', got {kind!r}")
    return losses.mean() if weight is None else (losses * weight).sum()
