"""What stands behind every update rule: groups, arenas, steps, and the state that is saved.

`ParamGroups` gives parameters their settings. An `Arena` moves the parameters of a group into one
flat array, and the engine writes their gradients into a second one, so that a step is one walk
over both, in blocks that stay in the cache. `Optimizer` is what all rules share;
`FlatOptimizer` calls a rule block by block, `MatrixOptimizer` parameter by parameter.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor
from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array

__all__ = [
    "Arena", "FlatOptimizer", "Group", "MatrixOptimizer", "Optimizer", "ParamGroups", "as_wide",
    "blocks",
]  # fmt: skip

Group = dict[str, Any]

_BLOCK = 256_000  # bytes: the few blocks that one update touches fit a core's cache


class ParamGroups(list[Group]):
    """Parameters in groups, each with its own settings; what a group does not say is default.

    ``params`` are parameters, or dictionaries with the key ``params`` and settings.

    Raises:
        ValueError: there is no parameter, or one is in two groups, or this is no list of them.
    """

    def __init__(self, params: Iterable[Any], **defaults: Any):
        if isinstance(params, Tensor):
            raise ValueError("expected a list of parameters, got one parameter: put it in brackets")
        if isinstance(params, Module):
            raise ValueError(f"got {type(params).__name__}: pass its parameters()")
        entries = list(params)
        if not any(isinstance(entry, dict) for entry in entries):
            entries = [{"params": entries}]
        if any(isinstance(entry, dict) and "params" not in entry for entry in entries):
            raise ValueError("a group needs the key 'params' with the list of its parameters")
        super().__init__(
            {**defaults, **entry, "params": list(entry["params"])} for entry in entries
        )
        everything = [p for group in self for p in group["params"]]
        if not everything:
            raise ValueError("an optimizer needs at least one parameter, got none")
        for p in everything:
            _check_parameter(p)
        if len({id(p) for p in everything}) < len(everything):
            raise ValueError("a parameter is listed twice: it would be updated twice a step")

    @classmethod
    def matrices_decay(cls, params: Iterable[Tensor], weight_decay: float) -> ParamGroups:
        """Two groups: matrices with this decay; gains and biases, which are vectors, with none."""
        params = list(params)
        matrices = [p for p in params if p.ndim >= 2]
        vectors = [p for p in params if p.ndim < 2]
        groups: list[Group] = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return cls(group for group in groups if group["params"])


class Arena:
    """Parameters of one type, moved into one flat array, and a place for their gradients.

    Each parameter's ``data`` becomes a view of ``data``, and the backward pass writes its
    gradient into a part of ``grad``. A part is given out once: whoever keeps a gradient keeps it,
    and later ones go to a new array. ``steps`` counts the updates of each parameter.
    """

    def __init__(self, params: Sequence[Tensor]):
        self.params = list(params)
        ends = np.cumsum([p.size for p in params]).tolist()
        self.parts = [slice(end - p.size, end) for end, p in zip(ends, params, strict=True)]
        self.data = np.concatenate([p.data.reshape(-1) for p in params])
        self.steps = [0] * len(self.params)
        self._views = [
            self.data[part].reshape(p.shape)
            for p, part in zip(self.params, self.parts, strict=True)
        ]
        self._renew()
        for i, (p, view) in enumerate(zip(self.params, self._views, strict=True)):
            p.data, p.grad_place = view, partial(_place, weakref.ref(self), i)

    def _renew(self) -> None:
        """New memory for gradients; the old is let go first, and usually comes back."""
        self._places: list[Array] = []
        self.grad = self.data[:0]
        self.grad = np.empty_like(self.data)
        self._places = [
            self.grad[part].reshape(p.shape)
            for p, part in zip(self.params, self.parts, strict=True)
        ]
        self._given = [False] * len(self.params)

    def place(self, i: int) -> Array:
        """Where the next gradient of parameter i goes."""
        if self._given[i]:
            self._renew()
        self._given[i] = True
        return self._places[i]

    def _gather(self) -> None:
        """Copy gradients that lie elsewhere to where they are expected."""
        pairs = [(p.grad, i) for i, p in enumerate(self.params) if p.grad is not None]
        if all(gradient is self._places[i] for gradient, i in pairs):
            return
        if any(self._given):
            self._renew()
        for gradient, i in pairs:
            self._places[i][...] = gradient

    def runs(self) -> list[tuple[slice, int]]:
        """Stretches of parameters that have a gradient, and which step this is for them.

        A parameter without a gradient is left out, as in PyTorch, and its steps do not count.
        Data or gradients that somebody has put elsewhere are copied in first.
        """
        self._gather()
        runs: list[tuple[slice, int]] = []
        for i, (p, part, view) in enumerate(zip(self.params, self.parts, self._views, strict=True)):
            if p.data is not view:
                if p.dtype != view.dtype or p.shape != view.shape:
                    raise ValueError(
                        f"a parameter was {view.dtype} {view.shape} and is {p.dtype} {p.shape}: "
                        "create the optimizer after changing the model"
                    )
                view[...] = p.data
                p.data = view
            if p.grad is None:
                continue
            self.steps[i] += 1
            if runs and runs[-1][0].stop == part.start and runs[-1][1] == self.steps[i]:
                runs[-1] = slice(runs[-1][0].start, part.stop), self.steps[i]
            else:
                runs.append((part, self.steps[i]))
        return runs


def _place(arena: weakref.ref[Arena], i: int) -> Array | None:
    """The arena's place for parameter i, while its optimizer lives: parameters do not own it."""
    alive = arena()
    return None if alive is None else alive.place(i)


def as_wide(array: Array) -> Array:
    """16-bit numbers as float32: the square of 300 is too large for them."""
    return array.astype(wide(array.dtype), copy=False)


def blocks(run: slice, itemsize: int) -> Iterator[slice]:
    """Cut a stretch of an arena into pieces that fit the cache."""
    length = _BLOCK // itemsize
    for start in range(run.start, run.stop, length):
        yield slice(start, min(start + length, run.stop))


class Optimizer(ABC):
    """What all optimizers share: groups of parameters, forgetting gradients, saving the state."""

    def __init__(self, params: Iterable[Any], **defaults: Any):
        self.param_groups = ParamGroups(params, **defaults)
        self.state: list[dict[str, Any]] = []
        for group in self.param_groups:
            _check_settings(type(self).__name__, group)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a setting of the groups: as an attribute of the optimizer nobody would read it."""
        if name in getattr(self, "param_groups", [{}])[0]:
            raise AttributeError(
                f"{type(self).__name__} has no {name} of its own: every group has one; write "
                f'for group in optimizer.param_groups: group["{name}"] = {value!r}'
            )
        super().__setattr__(name, value)

    def zero_grad(self) -> None:
        """Forget all gradients; the next backward pass starts new arrays for them."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    @abstractmethod
    def step(self) -> None:
        """Update every parameter that has a gradient."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on beside parameters and gradients.

        Plain lists, numbers and arrays; the arrays share the optimizer's memory.
        """
        settings = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        return {"param_groups": settings, "state": [dict(entry) for entry in self.state]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`, to the last bit.

        Everything is compared first: a state of another optimizer or other parameters raises
        ``ValueError`` and changes nothing.
        """
        groups, entries = state["param_groups"], state["state"]
        if len(groups) != len(self.param_groups) or len(entries) != len(self.state):
            raise ValueError(
                f"{type(self).__name__}: the state has {len(groups)} groups and {len(entries)} "
                f"entries, expected {len(self.param_groups)} and {len(self.state)}"
            )
        for given, own in zip(groups, self.param_groups, strict=True):
            _same_keys(type(self).__name__, set(given) | {"params"}, set(own))
        for given, own in zip(entries, self.state, strict=True):
            _same_keys(type(self).__name__, set(given), set(own))
            for name, value in own.items():
                _same_kind(f"{type(self).__name__}: {name}", given[name], value)
        for given, own in zip(groups, self.param_groups, strict=True):
            own.update({k: tuple(v) if isinstance(own[k], tuple) else v for k, v in given.items()})
        for given, own in zip(entries, self.state, strict=True):
            for name, value in own.items():
                value[...] = given[name]


class FlatOptimizer(Optimizer):
    """An optimizer that treats every number alike, and therefore works on arenas."""

    def __init__(self, params: Iterable[Any], **defaults: Any):
        super().__init__(params, **defaults)
        self._arenas: list[tuple[Group, Arena, dict[str, Any]]] = []
        for group in self.param_groups:
            for dtype in dict.fromkeys(p.dtype for p in group["params"]):
                arena = Arena([p for p in group["params"] if p.dtype == dtype])
                entry: dict[str, Any] = {
                    name: np.zeros_like(arena.data, wide(dtype)) for name in self.moments(group)
                }
                entry["steps"] = np.zeros(len(arena.params), dtype=np.int64)
                self._arenas.append((group, arena, entry))
                self.state.append(entry)

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group, arena, entry in self._arenas:
            arena.steps = entry["steps"].tolist()
            moments = [entry[name] for name in self.moments(group)]
            for run, step in arena.runs():
                update = self.rule(group, step)
                for part in blocks(run, arena.data.itemsize):
                    w, g = (as_wide(array[part]) for array in (arena.data, arena.grad))
                    update(w, g, *(m[part] for m in moments))
                    if w.dtype != arena.data.dtype:
                        arena.data[part] = w
                note_edit(arena.data[run])
            entry["steps"][:] = arena.steps

    @abstractmethod
    def moments(self, group: Group) -> tuple[str, ...]:
        """Names of the arrays that this optimizer keeps beside the parameters."""

    @abstractmethod
    def rule(self, group: Group, step: int) -> Callable[..., None]:
        """The update of one block: a function of the parameters, gradients and moments in it."""


class MatrixOptimizer(Optimizer):
    """An optimizer that updates parameters one by one, with state of its own for each."""

    def __init__(self, params: Iterable[Any], **defaults: Any):
        super().__init__(params, **defaults)
        for group in self.param_groups:
            for p in group["params"]:
                entry = self.start(p)
                entry["steps"] = np.zeros((), dtype=np.int64)
                self.state.append(entry)

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        entries = iter(self.state)
        for group in self.param_groups:
            for p in group["params"]:
                entry = next(entries)
                if p.grad is not None:
                    entry["steps"] += 1
                    w = as_wide(p.data)
                    self.update(group, entry, w, as_wide(p.grad))
                    if w is not p.data:
                        p.data[...] = w
                    note_edit(p.data)

    @abstractmethod
    def start(self, p: Tensor) -> dict[str, Array]:
        """The state before the first step."""

    @abstractmethod
    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Change ``w`` in place."""


def _check_settings(name: str, group: Group) -> None:
    for key in ("lr", "weight_decay", "momentum", "lr_decay", "initial_accumulator_value"):
        if key in group and not group[key] >= 0:
            raise ValueError(f"{name}: {key} must be at least 0, got {group[key]}")
        if key in group and math.isinf(group[key]):
            raise ValueError(f"{name}: {key} must be finite, got {group[key]}")
    if "betas" in group and not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"{name}: betas must be at least 0 and below 1, got {group['betas']}")
    if "alpha" in group and not 0 <= group["alpha"] <= 1:
        raise ValueError(f"{name}: alpha must be from 0 to 1, got {group['alpha']}")
    eps = group.get("eps", 0)
    for e in eps if isinstance(eps, tuple) else (eps,):
        if e is not None and not 0 <= e < math.inf:
            raise ValueError(f"{name}: eps must be at least 0 and finite, got {eps}")


def _check_parameter(p: Any) -> None:
    if not isinstance(p, Tensor):
        raise ValueError(f"parameters must be tensors, got {type(p).__name__}")
    if not p.is_leaf:
        raise ValueError(
            "an optimizer cannot change a non-leaf tensor, which is computed from others: give it "
            "the parameters themselves"
        )
    if p.dtype.kind != "f":
        raise ValueError(f"an optimizer changes floats, got a parameter of type {p.dtype}")


def _same_keys(name: str, given: set[str], own: set[str]) -> None:
    if given != own:
        missing, unknown = sorted(own - given), sorted(given - own)
        raise ValueError(f"{name}: the state lacks {missing} and has unknown {unknown}")


def _same_kind(name: str, given: Any, own: Array) -> None:
    array = np.asarray(given)
    if array.shape != own.shape or array.dtype != own.dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {own.dtype} {own.shape}")
