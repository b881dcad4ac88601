"""Putting updates into a model, merging them, turning them off, and counting what is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.modern_llms.efficient_adaptation.lora import LoRALinear
from chainrule.neural_networks.backpropagation import Linear, Module
from chainrule.shapes import Array

__all__ = [
    "adapters_off", "apply_lora", "lora_layers", "merge_lora", "trainable_fraction",
    "trained_state", "unmerge_lora",
]  # fmt: skip

ALL = ("qkv", "out", "up", "down", "gate")


def apply_lora(
    model: Module,
    targets: Sequence[str] = ALL,
    r: int = 8,
    alpha: float = 8.0,
    *,
    rng: np.random.Generator,
    kind: Any = LoRALinear,
    **options: Any,
) -> list[str]:
    """Freeze a model and put an update beside every `Linear` that one of ``targets`` names.

    A target is the last part of a path: ``"qkv"`` matches ``blocks.0.attention.qkv``. ``kind`` is
    the class that takes the place of the layer. Returns the paths, in the order of the model.

    Raises:
        ValueError: no layer has such a name.
    """
    found = [
        (path, parent, name, child)
        for path, parent in model.named_modules()
        for name, child in parent.named_children()
        if name in targets and isinstance(child, Linear)
    ]
    if not found:
        raise ValueError(f"no Linear of the model is called {' or '.join(targets)}")
    model.requires_grad_(False)
    for _, parent, name, child in found:
        layer = kind(child, r, alpha, rng=rng, **options)
        layer.training = model.training
        setattr(parent, name, layer)
    return [f"{path}.{name}" if path else name for path, _, name, _ in found]


def lora_layers(model: Module) -> list[LoRALinear]:
    """Every update of a model."""
    return [module for module in model.modules() if isinstance(module, LoRALinear)]


def merge_lora(model: Module) -> None:
    """Merge every update into its base.

    Equation: modern-llms/efficient-adaptation.md#eq-merge

    Raises:
        ValueError: one is merged already; nothing is changed then.
    """
    layers = lora_layers(model)
    if any(layer.merged for layer in layers):
        raise ValueError("an update is merged already: once more would add it twice")
    for layer in layers:
        layer.merge()


def unmerge_lora(model: Module) -> None:
    """Subtract every update from its base: equal up to rounding."""
    for layer in lora_layers(model):
        layer.unmerge()


@contextmanager
def adapters_off(model: Module) -> Iterator[None]:
    """Turn all updates off for a while: the model is its base, bit for bit.

    Raises:
        ValueError: an update is merged, so that the base is no longer there.
    """
    layers = lora_layers(model)
    if any(layer.merged for layer in layers):
        raise ValueError("an update is merged into the base: unmerge it before turning it off")
    before = [layer.enabled for layer in layers]
    try:
        for layer in layers:
            layer.enabled = False
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


def trained_state(model: Module) -> dict[str, Array]:
    """The trained arrays alone, by path: what one task has to store."""
    return {name: p.data for name, p in model.named_parameters() if p.requires_grad}


def trainable_fraction(model: Module, of: int | None = None) -> float:
    """Return how many numbers are trained, as a share of ``of``, or of all that there are."""
    sizes = [(p.size, p.requires_grad) for p in model.parameters()]
    total = sum(size for size, _ in sizes) if of is None else of
    if total < 1:
        raise ValueError(f"a share needs a model with parameters, got {total}")
    return sum(size for size, trained in sizes if trained) / total
