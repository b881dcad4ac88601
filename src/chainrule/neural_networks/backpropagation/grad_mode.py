"""Whether operations are recorded: ``no_grad`` and ``enable_grad``, with PyTorch's meaning."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from typing import Any

__all__ = ["enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class _Mode(threading.local):
    enabled = True
    keep_values = False  # whether nodes keep the value of their output, for `trace`
    met_gradient = False  # set by an operation on something that requires a gradient


_mode = _Mode()


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require a gradient are recorded now."""
    return _mode.enabled


class set_grad_enabled(ContextDecorator):
    """Record operations, or do not, inside a ``with`` block or a decorated function."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.before: list[bool] = []

    def __enter__(self) -> None:
        self.before.append(_mode.enabled)
        _mode.enabled = self.mode

    def __exit__(self, *error: Any) -> None:
        _mode.enabled = self.before.pop()


class no_grad(set_grad_enabled):
    """Do not record operations: nothing is kept for a backward pass that will not come."""

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(set_grad_enabled):
    """Record operations again inside a ``no_grad`` block."""

    def __init__(self) -> None:
        super().__init__(True)
