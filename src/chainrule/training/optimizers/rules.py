"""The update rules: what a step does with a weight and its gradient.

Each is a small function ``update`` that changes a block of numbers ``w`` in place, given their
gradients ``g`` and what the optimizer remembers of earlier ones. Read these first. Which numbers
come together in a block, and where they lie in memory, is the matter of `groups`; rules for
whole matrices are in `matrices`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from chainrule.shapes import Array
from chainrule.training.optimizers.groups import FlatOptimizer, Group

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "RMSprop"]


class SGD(FlatOptimizer):
    """Stochastic gradient descent: w ← w − lr·b, where b ← momentum·b + (1 − dampening)·g.

    The first b is g itself, undampened. ``nesterov`` steps along g + momentum·b. ``weight_decay``
    adds that multiple of w to g.

    Equation: training/optimizers.md#eq-sgd

    Raises:
        ValueError: ``nesterov`` without momentum, or with dampening.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs momentum above 0 and dampening 0")
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def moments(self, group: Group) -> tuple[str, ...]:
        """One, or none without momentum."""
        return ("momentum_buffer",) if group["momentum"] else ()

    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """Gradient, then momentum, then the move."""
        lr, momentum, decay = float(group["lr"]), group["momentum"], group["weight_decay"]

        def update(w: Array, g: Array, b: Array | None = None) -> None:
            if decay:
                g = g + decay * w
            if b is not None:
                if step == 1:
                    b[...] = g
                else:
                    b *= momentum
                    b += (1 - group["dampening"]) * g
                g = g + momentum * b if group["nesterov"] else b
            w -= lr * g

        return update


class AdamW(FlatOptimizer):
    """Adam with decoupled weight decay: the decay is no part of the gradient.

    m and v are moving averages of g and g²; both start at 0, so they are divided by 1 − βᵗ at
    step t. w ← (1 − lr·weight_decay)·w − lr·m̂/(√v̂ + eps). The decay is multiplied by ``lr`` as in
    PyTorch; in the paper only by the factor of the schedule.

    Equation: training/optimizers.md#eq-adamw
    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2017, arXiv:1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def moments(self, group: Group) -> tuple[str, ...]:
        """The averages m and v, by PyTorch's names."""
        return "exp_avg", "exp_avg_sq"

    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """Decay, moments, move; the corrections of m and v are numbers, so they move to lr and eps.

        lr·(m/c₁)/(√(v/c₂) + eps) = (lr·√c₂/c₁)·m/(√v + eps·√c₂), with c = 1 − βᵗ.
        """
        lr, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]
        root = math.sqrt(1 - beta2**step)
        rate, eps = lr * root / (1 - beta1**step), group["eps"] * root
        near = beta1 >= 0.5  # a mean is reached from the nearer end, without rounding at both

        def update(w: Array, g: Array, m: Array, v: Array) -> None:
            if decay and self.decoupled:
                w *= 1 - lr * decay
            elif decay:
                g = g + decay * w
            change = g - m  # the only new block; everything after it happens in place
            change *= 1 - beta1 if near else -beta1
            np.add(m if near else g, change, out=m)
            np.multiply(g, g, out=change)
            change *= 1 - beta2
            v *= beta2
            v += change
            np.sqrt(v, out=change)
            change += eps
            np.divide(m, change, out=change)
            change *= rate
            w -= change

        return update


class Adam(AdamW):
    """Adam; ``weight_decay`` is added to the gradient, and so divided by √v̂ with it.

    Equation: training/optimizers.md#eq-adam
    Source: Kingma and Ba, Adam, 2014, arXiv:1412.6980.
    """

    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, betas, eps, weight_decay)


class Lion(FlatOptimizer):
    """The sign of momentum: every number moves by exactly lr. Decay is decoupled.

    The step follows sign(β₁·m + (1 − β₁)·g); afterwards m ← β₂·m + (1 − β₂)·g.

    Equation: training/optimizers.md#eq-lion
    Source: Chen et al., Symbolic discovery of optimization algorithms, 2023, arXiv:2302.06675.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay)

    def moments(self, group: Group) -> tuple[str, ...]:
        """The average m."""
        return ("exp_avg",)

    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """Decay, move by the sign, then the moment."""
        lr, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]

        def update(w: Array, g: Array, m: Array) -> None:
            if decay:
                w *= 1 - lr * decay
            w -= lr * np.sign(_between(g, m, beta1))
            m[...] = _between(g, m, beta2)

        return update


def _between(a: Array, b: Array, share: float) -> Array:
    """(1 − share)·a + share·b, from the nearer end: no large b is left over from a share of 0."""
    return a + share * (b - a) if share < 0.5 else b + (1 - share) * (a - b)


# ---- Adam's forerunners ----------------------------------------------------------------------


class Adagrad(FlatOptimizer):
    """Divides each number's gradient by the root of the sum of all its squares so far.

    The sum only grows, so the steps only shrink; ``lr_decay`` shrinks them further, by
    1/(1 + (t − 1)·lr_decay).

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods for online learning and
    stochastic optimization, 2011.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ):
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        for group, _, entry in self._arenas:
            entry["sum"][...] = group["initial_accumulator_value"]

    def moments(self, group: Group) -> tuple[str, ...]:
        """The sum of squares."""
        return ("sum",)

    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """Add the square, divide by the root."""
        lr = float(group["lr"]) / (1 + (step - 1) * group["lr_decay"])
        decay, eps = group["weight_decay"], group["eps"]

        def update(w: Array, g: Array, total: Array) -> None:
            if decay:
                g = g + decay * w
            total += g * g
            w -= lr * g / (np.sqrt(total) + eps)

        return update


class RMSprop(FlatOptimizer):
    """Divides each number's gradient by the root of a moving average of its squares.

    ``alpha`` is the share of the average that is kept. ``centered`` subtracts the square of the
    average gradient first: what is left is a variance. With ``momentum`` the quotients are
    added up as in `SGD`.

    Source: Hinton, Neural networks for machine learning, lecture 6, 2012; the centred form,
    Graves, Generating sequences with recurrent neural networks, 2013, arXiv:1308.0850.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def moments(self, group: Group) -> tuple[str, ...]:
        """The average square, by PyTorch's name; others as the settings ask."""
        centered = ("grad_avg",) if group["centered"] else ()
        return ("square_avg", *centered, *(("momentum_buffer",) if group["momentum"] else ()))

    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """Averages, quotient, momentum, move."""
        lr, alpha, eps = float(group["lr"]), group["alpha"], group["eps"]

        def update(w: Array, g: Array, square: Array, *others: Array) -> None:
            if group["weight_decay"]:
                g = g + group["weight_decay"] * w
            square *= alpha
            square += (1 - alpha) * g * g
            spread, buffers = square, list(others)
            if group["centered"]:
                mean, *buffers = others
                mean[...] = _between(g, mean, alpha)
                spread = np.maximum(square - mean * mean, 0)
            move = g / (np.sqrt(spread) + eps)
            for buffer in buffers:
                buffer *= group["momentum"]
                buffer += move
                move = buffer
            w -= lr * move

        return update
