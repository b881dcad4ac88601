"""Which stages there are, in their order, and how long each takes on this machine."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from chainrule.life.improving import Dpo, Grpo, Ppo, Reward
from chainrule.life.learning import Control, Lora, Pretrain, Rejection, Sft, TokenizerStage
from chainrule.life.run import Life, folder_of
from chainrule.life.serving import Quantize, Serve
from chainrule.life.stages import Stage
from chainrule.life.traps import TRAPS
from chainrule.transformers.gpt import GPT, gpt_config

__all__ = ["STAGES", "Due", "due", "slowness"]

STAGES: tuple[type[Stage], ...] = (
    TokenizerStage, Pretrain, Sft, Reward, Control, Rejection, Dpo, Ppo, Grpo, Lora, Quantize,
    Serve,
)  # fmt: skip

NAMES = {kind.name: kind for kind in STAGES}

REFERENCE = 0.094
"""Seconds that the trial of `slowness` took where the costs of the stages were measured."""


class Due(NamedTuple):
    """A stage that is to be run, with which seed, and its seconds on the machine of the costs."""

    kind: type[Stage]
    seed: int
    seconds: float

    @property
    def name(self) -> str:
        """The folder of what it leaves."""
        return folder_of(self.kind, self.seed)


def due(life: Life, seeds: int = 1, only: str | None = None, trap: str | None = None) -> list[Due]:
    """The stages that are not finished yet, in their order."""
    if trap is not None:
        wanted = [(kind, 0) for kind in TRAPS[trap]]
    elif only is not None:
        kind = NAMES[only]
        wanted = [(kind, seed) for seed in range(seeds if kind.repeated else 1)]
    else:
        wanted = [(kind, 0) for kind in STAGES]
        wanted += [(kind, seed) for seed in range(1, seeds) for kind in STAGES if kind.repeated]
    return [
        Due(kind, seed, cost(life, kind))
        for kind, seed in wanted
        if not life.has(folder_of(kind, seed))
    ]


def cost(life: Life, kind: type[Stage]) -> float:
    """Seconds of a stage, as its settings stand to those that its cost was measured with."""
    a_step, rest = kind.cost
    s = life.settings
    small = (s.width / 128) * (s.layers / 4)
    asked = (s.tested + s.sampled + s.chosen) / 2000
    steps = kind(life).steps
    return steps * a_step * max(0.1, small) + rest * asked * max(0.2, small)


def slowness(life: Life) -> float:
    """How many times slower this machine is now than that of the costs: a trial of a second."""
    model = GPT(gpt_config(640, 128, 4, 4, 128), np.random.default_rng(0))
    ids = np.random.default_rng(0).integers(0, 640, (8, 129))
    taken = []
    for _ in range(4):
        began = time.perf_counter()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[1] / REFERENCE
