"""Optimizers, learning rate schedules and gradient clipping.

Taught in ``training/optimizers.md``. Names, defaults and the order of operations are PyTorch's.
Optimizers that treat every number alike (SGD, Adam, AdamW, Lion) move the parameters of a group
into one flat array, an `Arena`, and the engine writes the gradients into a second one; a step is
then one walk over both, in blocks that stay in the cache. Adafactor and Muon look at matrices,
one at a time. Shape names: ``size`` numbers in an arena, ``m`` and ``n`` rows and columns.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from chainrule.neural_networks.backpropagation import Module, Tensor
from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.neural_networks.backpropagation.promotion import wide
from chainrule.shapes import Array, Float

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

Group = dict[str, Any]

_BLOCK = 256_000  # bytes: the few blocks that one update touches fit a core's cache


# ---- groups and arenas -----------------------------------------------------------------------


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


def _wide(array: Array) -> Array:
    """16-bit numbers as float32: the square of 300 is too large for them."""
    return array.astype(wide(array.dtype), copy=False)


def _blocks(run: slice, itemsize: int) -> Iterator[slice]:
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


class _FlatOptimizer(Optimizer):
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
                for part in _blocks(run, arena.data.itemsize):
                    w, g = (_wide(array[part]) for array in (arena.data, arena.grad))
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


# ---- every number alike ----------------------------------------------------------------------


class SGD(_FlatOptimizer):
    """Stochastic gradient descent: w ← w − lr·b, where b ← momentum·b + (1 − dampening)·g.

    The first b is g itself, undampened. ``nesterov`` steps along g + momentum·b. ``weight_decay``
    adds that multiple of w to g.

    Equation: training/optimizers.md#eq-sgd
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


class AdamW(_FlatOptimizer):
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

        def update(w: Array, g: Array, m: Array, v: Array) -> None:
            if decay and self.decoupled:
                w *= 1 - lr * decay
            elif decay:
                g = g + decay * w
            change = g - m  # the only new block; everything after it happens in place
            change *= 1 - beta1
            m += change
            np.multiply(g, g, out=change)
            change -= v
            change *= 1 - beta2
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


class Lion(_FlatOptimizer):
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
            w -= lr * np.sign(m + (1 - beta1) * (g - m))
            m += (1 - beta2) * (g - m)

        return update


# ---- one matrix at a time --------------------------------------------------------------------


class _MatrixOptimizer(Optimizer):
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
                    w = _wide(p.data)
                    self.update(group, entry, w, _wide(p.grad))
                    if w is not p.data:
                        p.data[...] = w
                    note_edit(p.data)

    @abstractmethod
    def start(self, p: Tensor) -> dict[str, Array]:
        """The state before the first step."""

    @abstractmethod
    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Change ``w`` in place."""


class Adafactor(_MatrixOptimizer):
    """Adam without first moment, and with the second kept as one number a row and a column.

    A matrix of m × n squares is replaced by the outer product of its row and column means: m + n
    numbers of memory. The step is relative to the size of the parameter, never above ``lr`` of
    it, and clipped to a root mean square of ``d``. ``eps`` is (floor of the second moment's root,
    floor of the parameter's size); None stands for the dtype's rounding unit.

    Equation: training/optimizers.md#eq-adafactor
    Source: Shazeer and Stern, Adafactor, 2018, arXiv:1804.04235.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay
        )

    def start(self, p: Tensor) -> dict[str, Array]:
        """Means of squares: by row and column for matrices, each for vectors."""
        dtype = wide(p.dtype)
        if p.ndim < 2:
            return {"variance": np.zeros(p.shape, dtype)}
        return {
            "row_var": np.zeros((*p.shape[:-1], 1), dtype),
            "col_var": np.zeros((*p.shape[:-2], 1, p.shape[-1]), dtype),
        }

    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Estimate the second moment, divide by its root, clip, move relative to the size of w."""
        lr, step = float(group["lr"]), int(entry["steps"])
        newest = step ** group["beta2_decay"]
        floor, least_size = group["eps"]
        floor = float(np.finfo(w.dtype).eps) if floor is None else floor
        size = max(least_size, _rms(w)) * min(lr, 1 / math.sqrt(step))
        w *= 1 - lr * group["weight_decay"]
        if w.ndim < 2:
            variance = entry["variance"]
            variance += newest * (g * g - variance)
            estimate = variance
        else:
            rows, columns = entry["row_var"], entry["col_var"]
            rows += newest * (np.mean(g * g, axis=-1, keepdims=True) - rows)
            columns += newest * (np.mean(g * g, axis=-2, keepdims=True) - columns)
            mean = np.mean(rows, axis=-2, keepdims=True)
            estimate = rows / np.maximum(mean, floor) * columns
        move = np.asarray(g / np.sqrt(np.maximum(estimate, floor * floor)))
        w -= size / max(1.0, _rms(move) / group["d"]) * move


def _rms(x: Array) -> float:
    return math.sqrt(float(np.mean(np.square(x, dtype=np.float64))))


def newton_schulz(
    G: Float[Array, "m n"],
    steps: int = 5,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
) -> Float[Array, "m n"]:
    """Push all singular values of a matrix towards 1 with matrix products alone.

    X ← aX + b(XXᵀ)X + c(XXᵀ)²X acts on each singular value as s ← as + bs³ + cs⁵. These
    coefficients make small values grow fast and do not converge: after five steps those that
    began above 0.0016 of the norm lie between 0.68 and 1.21, which is close enough; a smaller one
    is at most 485 times what it was.

    Equation: training/optimizers.md#eq-newton-schulz
    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024.
    """
    a, b, c = coefficients
    X = G.T if G.shape[0] > G.shape[1] else G
    X = X / max(_joint_norm([X], 2), eps)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X.T if G.shape[0] > G.shape[1] else X


class Muon(_MatrixOptimizer):
    """Momentum, then Newton–Schulz: every direction of a matrix's update gets about equal size.

    For the matrices of hidden layers; embeddings, output layers and vectors stay with AdamW.
    ``adjust_lr_fn`` is "original" (lr·√max(1, m/n)) or "match_rms_adamw" (lr·0.2·√max(m, n)).

    Equation: training/optimizers.md#eq-muon
    Source: Jordan et al. 2024; Liu et al., Muon is scalable for LLM training, 2025, arXiv
    2502.16982.

    Raises:
        ValueError: a parameter is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "original",
    ):
        if adjust_lr_fn not in ("original", "match_rms_adamw"):
            raise ValueError(
                f"Muon: adjust_lr_fn must be 'original' or 'match_rms_adamw', got {adjust_lr_fn!r}"
            )
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
        )

    def start(self, p: Tensor) -> dict[str, Array]:
        """An empty momentum."""
        if p.ndim != 2:
            raise ValueError(
                f"Muon is for matrices, got a parameter of shape {p.shape}: give it to AdamW"
            )
        return {"momentum_buffer": np.zeros(p.shape, wide(p.dtype))}

    def update(self, group: Group, entry: dict[str, Array], w: Array, g: Array) -> None:
        """Average, orthogonalize, decay, move."""
        lr, momentum, average = float(group["lr"]), group["momentum"], entry["momentum_buffer"]
        average += (1 - momentum) * (g - average)
        ahead = g + momentum * (average - g) if group["nesterov"] else average
        m, n = w.shape
        scale = math.sqrt(max(1, m / n))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * math.sqrt(max(m, n))
        w *= 1 - lr * group["weight_decay"]
        w -= lr * scale * newton_schulz(ahead, group["ns_steps"])


# ---- gradient clipping -----------------------------------------------------------------------


def _gradients(params: Tensor | Iterable[Tensor]) -> list[Array]:
    several = [params] if isinstance(params, Tensor) else params
    return [p.grad for p in several if p.grad is not None]


def clip_grad_norm_(
    params: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale all gradients by one factor so that their joint norm is at most ``max_norm``.

    Returns the norm before clipping; ``norm_type`` may be ``inf``. The factor is
    max_norm/(norm + 1e-6), as in PyTorch.

    Equation: training/optimizers.md#eq-clip-norm
    Source: Pascanu et al., On the difficulty of training recurrent neural networks, 2012,
    arXiv:1211.5063.

    Raises:
        ValueError: ``max_norm`` is negative or NaN, or the norm is not finite and
            ``error_if_nonfinite`` is set.
    """
    if not max_norm >= 0:
        raise ValueError(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm}")
    gradients = _gradients(params)
    norm = _joint_norm(gradients, norm_type)
    if error_if_nonfinite and not math.isfinite(norm):
        raise ValueError(
            f"clip_grad_norm_: the norm of the gradients is {norm}: leave this step out, "
            "or set error_if_nonfinite=False"
        )
    factor = max_norm / (norm + 1e-6)
    if not factor >= 1:
        with np.errstate(invalid="ignore"):  # an infinite norm makes the factor 0
            for g in gradients:
                if g.dtype == wide(g.dtype):
                    g *= factor
                else:
                    g[...] = _wide(g) * factor
    return norm


# For each type, squares below this are rounded so coarsely that a sum of them may be wrong.
_LEAST = {c: float(np.finfo(c).tiny) / float(np.finfo(c).eps) for c in "fd"} | {"g": 0.0}


def _joint_norm(arrays: list[Array], kind: float) -> float:
    """The norm of all numbers together: right wherever it fits, although squares may not fit.

    Norms of kind 0 are counted by array, as in PyTorch: how many hold a number that is not 0.
    """
    arrays = [_wide(a) for a in arrays if a.size]
    if kind == 2:  # the usual case, if no square overflows, and none that matters vanishes
        total = sum(float(np.vdot(a, a)) for a in arrays)
        least = sum(a.size * _LEAST[a.dtype.char] for a in arrays)
        if least < total < math.inf:
            return math.sqrt(total)
    if kind == 0 or not arrays:
        return float(sum(bool(a.any()) for a in arrays))
    if kind == -math.inf:
        return float(np.min([np.abs(a).min() for a in arrays]))
    largest = float(np.max([np.abs(a).max() for a in arrays]))
    if kind == math.inf or largest == 0 or not math.isfinite(largest):
        return largest
    with np.errstate(divide="ignore", over="ignore"):
        terms = [np.sum((np.abs(a) / largest) ** kind, dtype=np.float64) for a in arrays]
        return float(largest * np.sum(terms) ** (1 / kind))


def clip_grad_value_(params: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clip every number of every gradient to ±``clip_value``: the direction changes."""
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for g in _gradients(params):
        np.clip(g, -clip_value, clip_value, out=g)


# ---- learning rate schedules -----------------------------------------------------------------


def warmup_cosine(step: int, lr: float, warmup: int, total: int, final: float = 0.0) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then half a cosine down to ``final`` at ``total``.

    Steps count from 0: the first has rate lr/warmup, steps ``warmup`` − 1 and ``warmup`` the
    full one.

    Equation: training/optimizers.md#eq-warmup-cosine
    """
    _check_schedule(step, warmup, total)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (lr - final) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_linear(step: int, lr: float, warmup: int, total: int, final: float = 0.0) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then linear down to ``final`` at ``total``.

    Equation: training/optimizers.md#eq-warmup-linear
    """
    _check_schedule(step, warmup, total)
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return lr + (final - lr) * progress


def wsd(step: int, lr: float, warmup: int, total: int, decay: int, final: float = 0.0) -> float:
    """Warmup, stable, decay: ``lr`` until ``decay`` steps before ``total``, then linear.

    Equation: training/optimizers.md#eq-wsd
    Source: Hu et al., MiniCPM, 2024, arXiv:2404.06395.
    """
    _check_schedule(step, warmup, total)
    if not 0 <= decay <= total - warmup:
        raise ValueError(f"wsd: decay must be between 0 and {total - warmup}, got {decay}")
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, max(0.0, (step - (total - decay)) / max(1, decay)))
    return lr + (final - lr) * progress


def inverse_sqrt(step: int, lr: float, warmup: int) -> float:
    """Linear to ``lr`` in ``warmup`` steps, then falling as 1/√step.

    Equation: training/optimizers.md#eq-inverse-sqrt
    Source: Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762.
    """
    if warmup < 1 or step < 0:
        raise ValueError(
            f"expected warmup of at least 1 and step of at least 0, got {warmup}, {step}"
        )
    return lr * min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))


class LRRange(NamedTuple):
    """Learning rates tried, and the loss before each step."""

    rates: Float[Array, "steps"]
    losses: Float[Array, "steps"]


def lr_range_test(
    optimizer: Optimizer,
    closure: Callable[[], float],
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> LRRange:
    """Train while the rate grows geometrically, to see where the loss falls and where it explodes.

    ``closure`` computes the loss and its gradients on one batch. Stops early when the loss is not
    finite or four times its smallest value. Parameters, state and rates are put back at the end.

    Source: Smith, Cyclical learning rates, 2015, arXiv:1506.01186.
    """
    if not 0 < lowest < highest or steps < 2:
        raise ValueError(
            f"lr_range_test: expected 0 < lowest < highest and steps >= 2, "
            f"got {lowest}, {highest}, {steps}"
        )
    params = [p for group in optimizer.param_groups for p in group["params"]]
    weights = [p.data.copy() for p in params]
    state = optimizer.state_dict()
    state["state"] = [{k: v.copy() for k, v in entry.items()} for entry in state["state"]]
    rates = np.geomspace(lowest, highest, steps)
    losses: list[float] = []
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        optimizer.zero_grad()
        losses.append(float(closure()))
        if not math.isfinite(losses[-1]) or losses[-1] > 4 * min(losses):
            break
        optimizer.step()
    for p, w in zip(params, weights, strict=True):
        p.data[...] = w
        note_edit(p.data)
    optimizer.zero_grad()
    optimizer.load_state_dict(state)
    return LRRange(rates[: len(losses)], np.array(losses))


# ---- checks ----------------------------------------------------------------------------------


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


def _check_schedule(step: int, warmup: int, total: int) -> None:
    if not 0 <= warmup <= total or step < 0:
        raise ValueError(
            f"expected 0 <= warmup <= total and step >= 0, got warmup={warmup}, total={total}, "
            f"step={step}"
        )


def _same_keys(name: str, given: set[str], own: set[str]) -> None:
    if given != own:
        missing, unknown = sorted(own - given), sorted(given - own)
        raise ValueError(f"{name}: the state lacks {missing} and has unknown {unknown}")


def _same_kind(name: str, given: Any, own: Array) -> None:
    array = np.asarray(given)
    if array.shape != own.shape or array.dtype != own.dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {own.dtype} {own.shape}")


# ---- Adam's forerunners ----------------------------------------------------------------------


class Adagrad(_FlatOptimizer):
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


class RMSprop(_FlatOptimizer):
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
            square += (1 - alpha) * (g * g - square)
            spread, buffers = square, list(others)
            if group["centered"]:
                mean, *buffers = others
                mean += (1 - alpha) * (g - mean)
                spread = np.maximum(square - mean * mean, 0)
            move = g / (np.sqrt(spread) + eps)
            for buffer in buffers:
                buffer *= group["momentum"]
                buffer += move
                move = buffer
            w -= lr * move

        return update
