"""`gradcheck`: every gradient of a function against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.neural_networks.backpropagation.grad_mode import no_grad
from chainrule.neural_networks.backpropagation.tensor import Tensor, grad
from chainrule.shapes import Array

__all__ = ["GradientError", "gradcheck"]


class GradientError(AssertionError):
    """A gradient differs from the slope of the function; the message says where and by how much."""


def gradcheck(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    eps: float = 1e-6,
    tolerance: float = 1e-6,
    rng: np.random.Generator | None = None,
) -> bool:
    """Compare the gradients of ``function(*inputs)`` with central differences.

    The output is weighed by random numbers: a plain sum would hide errors that cancel. Inputs
    are float64 leaves, and none shares memory with another. Numbers above 1 are moved by ``eps``
    of their size. Raises `GradientError` when some relative error exceeds ``tolerance``
    (absolute below 1). Equation: neural-networks/backpropagation.md#eq-gradient-check
    """
    rng = rng or np.random.default_rng(0)
    checked = _movable(inputs)
    output = function(*inputs)
    weights = rng.standard_normal(output.shape)
    computed = grad(output, checked, weights) if output.requires_grad else [None] * len(checked)

    def outputs() -> Array:
        with no_grad():
            return function(*inputs).data.copy()

    for position, (x, gradient) in enumerate(zip(checked, computed, strict=True)):
        gradient = np.zeros(x.shape) if gradient is None else gradient
        for index in np.ndindex(x.shape):
            before = float(x.data[index])
            step = eps * max(1.0, abs(before))
            x.data[index] = before + step
            above = outputs()
            x.data[index] = before - step
            below = outputs()
            x.data[index] = before
            slope = float(np.sum((above - below) * weights)) / (2 * step)
            found = float(gradient[index])
            error = abs(found - slope) / max(1.0, abs(slope), abs(found))
            if not error <= tolerance:
                raise GradientError(
                    f"input {position} at {index}: the gradient is {found:.9g}, "
                    f"the slope {slope:.9g} (relative error {error:.1e})"
                )
    return True


def _movable(inputs: Sequence[Tensor]) -> list[Tensor]:
    """The inputs that are checked, if each can be moved alone, and by little."""
    checked = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    if not checked:
        raise ValueError("gradcheck needs at least one input that requires a gradient")
    if any(x.dtype != np.float64 for x in checked):
        raise TypeError("gradcheck needs float64 inputs: float32 differences are mostly rounding")
    for i, x in enumerate(checked):
        for other in checked[:i]:
            if np.shares_memory(x.data, other.data):
                raise ValueError("two inputs of gradcheck share memory: moving one moves the other")
    return checked
