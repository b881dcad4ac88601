"""From rewards to a loss: advantages, the clipped objective, the price of leaving."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Tensor, exp, primitive
from chainrule.shapes import Array, Bool, Float, Num

__all__ = ["gae", "grpo_advantages", "kl_penalty", "ppo_loss", "reinforce_loo"]


def gae(
    rewards: Float[Array, "batch time"],
    values: Float[Array, "batch time"],
    gamma: float = 1.0,
    lam: float = 0.95,
    mask: Bool[Array, "batch time"] | None = None,
) -> Float[Array, "batch time"]:
    """Return generalized advantage estimates; advantage + value is the value head's target.

    ``values[:, t]`` is the guess before token t is written; after the last real token there is
    nothing left to earn. ``mask`` is true on real tokens, which come first; elsewhere the result
    is 0 and rewards and values are not read.

    Equation: modern-llms/rlhf.md#eq-gae
    Source: Schulman et al. 2015, arXiv:1506.02438, equation 16.

    Raises:
        ValueError: the shapes differ, or γ or λ is not in [0, 1].
    """
    rewards, values = np.asarray(rewards), np.asarray(values)
    mask = np.ones(rewards.shape, bool) if mask is None else np.asarray(mask, bool)
    if not rewards.shape == values.shape == mask.shape or rewards.ndim != 2:
        raise ValueError(
            f"gae: expected rewards, values and mask of one shape (batch, time), got "
            f"{rewards.shape}, {values.shape}, {mask.shape}"
        )
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gae: gamma and lam lie in [0, 1], got {gamma}, {lam}")
    rewards, values = np.where(mask, rewards, 0), np.where(mask, values, 0)
    advantages = np.zeros(rewards.shape, np.result_type(rewards, values, np.float32))
    later = next_value = np.zeros(len(rewards), advantages.dtype)
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = np.where(mask[:, t], surprise + gamma * lam * later, 0)
        advantages[:, t], next_value = later, values[:, t]
    return advantages


def ppo_loss(
    logp: Float[Tensor, "*shape"],
    logp_old: Float[Array, "*shape"] | Float[Tensor, "*shape"],
    advantages: Float[Array, "*shape"],
    clip: float | tuple[float, float] = 0.2,
    mask: Bool[Array, "*shape"] | None = None,
) -> Float[Tensor, ""]:
    """Return minus the clipped objective, averaged over the tokens where ``mask`` is true.

    ``clip`` is how far the ratio may move from 1, or the two distances below and above.
    ``logp_old`` and ``advantages`` are numbers from when the replies were written.

    Equation: modern-llms/rlhf.md#eq-ppo
    Source: Schulman et al. 2017, arXiv:1707.06347, equation 7.

    Raises:
        ValueError: the shapes differ, a constant has a gradient, or no token counts.
    """
    low, high = clip if isinstance(clip, tuple) else (clip, clip)
    old, gains = (
        _constant("ppo_loss", name, x)
        for name, x in (("logp_old", logp_old), ("advantages", advantages))
    )
    mask = np.ones(logp.shape, bool) if mask is None else np.asarray(mask, bool)
    if not logp.shape == old.shape == gains.shape == mask.shape:
        raise ValueError(
            f"ppo_loss: expected logp, logp_old, advantages and mask of one shape, got "
            f"{logp.shape}, {old.shape}, {gains.shape}, {mask.shape}"
        )
    if not (0 < low <= 1 and high > 0):
        raise ValueError(f"ppo_loss: clip must be above 0, and at most 1 below, got {low}, {high}")
    if not mask.any():
        raise ValueError("ppo_loss: the mask leaves no token")
    return _ppo_loss(logp, logp_old=old, advantages=gains, low=low, high=high, mask=mask)


@primitive
def _ppo_loss(
    logp: Array, logp_old: Array, advantages: Array, low: float, high: float, mask: Array
) -> Any:
    """Of ratio·A and clipped ratio·A the smaller; the clipped one has no slope."""
    ratio = np.exp(np.where(mask, logp - logp_old, 0))
    gains = np.where(mask, advantages, 0)
    free, clipped = ratio * gains, np.clip(ratio, 1 - low, 1 + high) * gains
    count = int(mask.sum())
    y = np.asarray(-np.minimum(free, clipped).sum() / count, logp.dtype)

    def vjp(g: Array) -> Any:
        return (np.where(free <= clipped, -g * free / count, 0).astype(logp.dtype, copy=False),)

    return y, vjp


def kl_penalty(
    logp: Float[Tensor, "*shape"],
    logp_ref: Float[Array, "*shape"] | Float[Tensor, "*shape"],
    kind: str = "k1",
) -> Float[Tensor, "*shape"]:
    """Return an estimate of KL(policy ‖ reference) from each sample of the policy.

    k1 = log p − log p_ref belongs into the reward, as a number. As a loss, where only the samples'
    log-probabilities carry a gradient, k1 pulls nowhere on average, k2 = ½ k1² pulls as the
    divergence does, and k3 = exp(−k1) − 1 + k1 pulls as KL(reference ‖ policy).

    Equation: modern-llms/rlhf.md#eq-kl-as-loss
    Source: Schulman, Approximating KL divergence, 2020; Tang and Munos 2025, arXiv:2506.09477.

    Raises:
        ValueError: the kind is unknown, the shapes differ, or the reference has a gradient.
    """
    reference = _constant("kl_penalty", "logp_ref", logp_ref)
    if logp.shape != reference.shape:
        raise ValueError(
            f"kl_penalty: expected log-probabilities of one shape, got {logp.shape} and "
            f"{reference.shape}"
        )
    difference = logp - reference
    if kind == "k1":
        return difference
    if kind == "k2":
        return 0.5 * difference * difference
    if kind == "k3":
        return exp(-difference) - 1 + difference
    raise ValueError(f"kl_penalty: kind must be 'k1', 'k2' or 'k3', got {kind!r}")


def grpo_advantages(
    rewards: Num[Array, "groups group"],
    normalize: bool = True,
    ddof: int = 1,
    eps: float = 1e-4,
) -> Float[Array, "groups group"]:
    """Return reward minus the mean of its group, divided by the group's standard deviation + eps.

    ``ddof=1`` divides squares by one less than their number, as ``torch.std`` does; 0 by their
    number, as ``numpy.std``. ``normalize=False`` leaves the division out, as Dr. GRPO does.

    Equation: modern-llms/rlhf.md#eq-grpo
    Source: Shao et al. 2024, arXiv:2402.03300, section 4.1; Liu et al. 2025, arXiv:2503.20783.

    Raises:
        ValueError: there is no group of at least two rewards.
    """
    rewards = _groups("grpo_advantages", rewards)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    if not normalize:
        return centred
    return centred / (rewards.std(axis=1, ddof=ddof, keepdims=True) + eps)


def reinforce_loo(rewards: Num[Array, "groups group"]) -> Float[Array, "groups group"]:
    """Return reward minus the mean of the *other* rewards of its group: leave one out.

    Equation: modern-llms/rlhf.md#eq-rloo
    Source: Ahmadian et al. 2024, arXiv:2402.14740.

    Raises:
        ValueError: there is no group of at least two rewards.
    """
    rewards = _groups("reinforce_loo", rewards)
    size = rewards.shape[1]
    return (rewards - rewards.mean(axis=1, keepdims=True)) * size / (size - 1)


def _groups(name: str, rewards: Any) -> Array:
    rewards = np.asarray(rewards)
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"{name}: expected rewards of shape (groups, group) with at least two a group, got "
            f"shape {rewards.shape}"
        )
    return rewards.astype(np.result_type(rewards.dtype, np.float32), copy=False)


def _constant(name: str, what: str, x: Any) -> Array:
    """The numbers of something that must not carry a gradient."""
    if isinstance(x, Tensor):
        if x.requires_grad:
            raise ValueError(
                f"{name}: {what} must be a constant and requires a gradient; detach it"
            )
        return x.data
    return np.asarray(x)
