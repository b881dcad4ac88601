"""Optimizers, learning rate schedules and gradient clipping.

Taught in ``training/optimizers.md``. Names, defaults and the order of operations are PyTorch's.
Begin with `rules`: what SGD, Adam, AdamW and Lion do to a number. `matrices` has the rules that
look at a whole matrix, Adafactor and Muon. `schedules` and `clipping` act before a step. `groups`
is what stands behind them all: groups of parameters, the flat arrays that they lie in, and the
state of a run. Shape names: ``size`` numbers in an arena, ``m`` and ``n`` rows and columns.
"""

from __future__ import annotations

from chainrule.training.optimizers.clipping import clip_grad_norm_, clip_grad_value_
from chainrule.training.optimizers.groups import Arena, Optimizer, ParamGroups
from chainrule.training.optimizers.matrices import Adafactor, Muon, newton_schulz
from chainrule.training.optimizers.rules import SGD, Adagrad, Adam, AdamW, Lion, RMSprop
from chainrule.training.optimizers.schedules import (
    LRRange,
    inverse_sqrt,
    lr_range_test,
    warmup_cosine,
    warmup_linear,
    wsd,
)

__all__ = [
    "SGD",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Arena",
    "LRRange",
    "Lion",
    "Muon",
    "Optimizer",
    "ParamGroups",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "inverse_sqrt",
    "lr_range_test",
    "newton_schulz",
    "warmup_cosine",
    "warmup_linear",
    "wsd",
]
