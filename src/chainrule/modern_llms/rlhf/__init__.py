"""RLHF: reward models, policy gradients, PPO, DPO and GRPO.

Taught in ``modern-llms/rlhf.md``. `enumeration` holds a language model so small that every reply
can be written out, and what is exact there. `preferences` learns from comparisons, with a reward
model or without one. `policy` turns rewards into a loss. `rollouts` lets a model write, scores
what it wrote and verifies sums.

Shape names: ``batch`` replies, ``time`` tokens of a reply, ``replies`` all replies there are,
``groups`` prompts and ``group`` replies to each, ``vocab`` symbols.
"""

from __future__ import annotations

from chainrule.modern_llms.rlhf.enumeration import (
    PrefixTable,
    all_replies,
    best_of_n,
    best_of_n_bound,
    optimal_policy,
)
from chainrule.modern_llms.rlhf.policy import (
    gae,
    grpo_advantages,
    kl_penalty,
    ppo_loss,
    reinforce_loo,
)
from chainrule.modern_llms.rlhf.preferences import RewardModel, bradley_terry_loss, dpo_loss
from chainrule.modern_llms.rlhf.rollouts import (
    Rollout,
    rollout,
    token_log_probs,
    verifier_arithmetic,
)

__all__ = [
    "PrefixTable", "RewardModel", "Rollout", "all_replies", "best_of_n", "best_of_n_bound",
    "bradley_terry_loss", "dpo_loss", "gae", "grpo_advantages", "kl_penalty", "optimal_policy",
    "ppo_loss", "reinforce_loo", "rollout", "token_log_probs", "verifier_arithmetic",
]  # fmt: skip
