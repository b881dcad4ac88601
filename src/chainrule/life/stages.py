"""What every stage of a life is: something that starts, takes steps, and can be stopped at each.

A stage reads what earlier stages left, takes ``steps`` steps and leaves a model and measurements.
All that the next step depends on is in ``state``: parameters, moments, generator, curve. So a stage
that was killed and continued ends with the same bits as one that was left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor
from chainrule.shapes import Array
from chainrule.trainer.loop import flatten, unflatten
from chainrule.training.optimizers import AdamW, clip_grad_norm_
from chainrule.transformers.gpt import GPT

if TYPE_CHECKING:
    from chainrule.life.run import Life

__all__ = ["Stage", "copied", "update"]

Numbers = dict[str, float]


class Stage:
    """One stage of a life.

    ``name`` is also that of its folder. ``before`` are stages whose results it reads. ``repeated``
    says whether ``--seeds`` runs it again from the same model with other numbers drawn.
    ``columns`` name what each step adds to the curve.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    before: ClassVar[tuple[str, ...]] = ()
    repeated: ClassVar[bool] = False
    columns: ClassVar[tuple[str, ...]] = ()
    cost: ClassVar[tuple[float, float]] = (0.1, 1.0)
    """Seconds of a step and of everything else, on the machine that the plan was measured on."""

    def __init__(self, life: Life, seed: int = 0) -> None:
        self.life, self.seed = life, seed
        self.settings = life.settings
        self.done = 0
        self.curve: list[list[float]] = []
        number = sum(map(ord, self.name))
        self.rng = np.random.default_rng([life.settings.seed, seed, number])
        self.model: GPT | None = None
        self.modules: dict[str, Module] = {}
        self.optimizer: AdamW | None = None
        self.kept: dict[str, Array] = {}

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return 1

    def prepare(self) -> None:
        """Load what is needed and build what is trained; the same every time."""

    def step(self) -> list[float]:
        """Take one step; what it says belongs to ``columns``."""
        return []

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return {}

    def files(self, folder: Any) -> None:
        """Write what later stages need beside the model."""

    def advance(self) -> None:
        """Take one step and remember what it says."""
        self.curve.append([float(number) for number in self.step()])
        self.done += 1

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that the next step depends on: arrays, and the rest."""
        arrays = {f"kept.{name}": array for name, array in self.kept.items()}
        for part, module in self.modules.items():
            arrays |= {f"{part}.{name}": a for name, a in module.state_dict().items()}
        rest: dict[str, Any] = {
            "done": self.done,
            "curve": self.curve,
            "rng": self.rng.bit_generator.state,
        }
        if self.optimizer is not None:
            moments, rest["optimizer"] = flatten(self.optimizer.state_dict())
            arrays |= {f"moments.{name}": a for name, a in moments.items()}
        return arrays, rest

    def restore(self, arrays: dict[str, Array], rest: dict[str, Any]) -> None:
        """Continue where `state` was asked for; `prepare` has run."""

        def under(part: str) -> dict[str, Array]:
            start = f"{part}."
            return {n[len(start) :]: a for n, a in arrays.items() if n.startswith(start)}

        for part, module in self.modules.items():
            module.load_state_dict(under(part))
        if self.optimizer is not None:
            self.optimizer.load_state_dict(unflatten(under("moments"), rest["optimizer"]))
        self.kept = under("kept")
        self.rng.bit_generator.state = rest["rng"]
        self.done, self.curve = rest["done"], rest["curve"]


def update(stage: Stage, loss: Tensor, *rates: float, clip: float = 1.0) -> None:
    """One optimizer step: gradients, clipped together, and a rate for each group."""
    optimizer = stage.optimizer
    assert optimizer is not None
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.step()


def copied(state: dict[str, Array]) -> dict[str, Array]:
    """A copy of a state: the arrays of a model that trains on are its own memory."""
    return {name: array.copy() for name, array in state.items()}
