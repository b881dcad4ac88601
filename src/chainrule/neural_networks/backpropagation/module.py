"""`Module`: a model as a tree of parameters with names; `Parameter`, `Buffer`, and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.backpropagation import operations as ops
from chainrule.neural_networks.backpropagation.edits import note_edit
from chainrule.neural_networks.backpropagation.tensor import Tensor
from chainrule.shapes import Array, Float, Int

__all__ = ["Buffer", "Embedding", "Identity", "Linear", "Module", "ModuleList", "Parameter",
           "Sequential"]  # fmt: skip


M = TypeVar("M", bound="Module")


class Parameter(Tensor):
    """A tensor that a module trains: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)

    def __repr__(self) -> str:
        return f"Parameter {super().__repr__()}"


class Buffer(Tensor):
    """A tensor that a module keeps and saves but does not train, such as a running mean."""

    __slots__ = ()


class Module:
    """A part of a model: parameters, buffers and other modules, held as attributes.

    A subclass assigns them in ``__init__`` and computes in ``forward``. Names are paths of
    attributes, such as ``blocks.0.attention.query.weight``.

    Modules and parameters are found as attributes only. In a plain list or dictionary they would
    never be trained or saved, and nobody would notice: `parameters` and `state_dict` raise
    ``TypeError``. Use `ModuleList`, or ``setattr``, which makes an attribute of any name. What
    shall stay outside of the model, such as a teacher that is not trained, stands in a tuple.
    """

    training: bool = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Compute the module's output; subclasses define this."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Call ``forward``."""
        return self.forward(*inputs, **options)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Modules held directly, with the attribute's name."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def children(self) -> Iterator[Module]:
        """Modules held directly."""
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with their paths."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def _named_tensors(self, kind: type[Tensor]) -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules():
            for name, value in vars(module).items():
                if type(value) in (list, dict):
                    _refuse_hidden(f"{path}.{name}" if path else name, value)
                if isinstance(value, kind):
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Parameters with their paths; one that is shared is named once, by its first path."""
        seen: set[int] = set()
        for name, parameter in self._named_tensors(Parameter):
            if id(parameter) not in seen and isinstance(parameter, Parameter):
                seen.add(id(parameter))
                yield name, parameter

    def parameters(self) -> Iterator[Parameter]:
        """Parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Buffers with their paths."""
        return self._named_tensors(Buffer)

    def zero_grad(self) -> None:
        """Forget all gradients; the next backward pass starts new arrays for them."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self: M, mode: bool = True) -> M:
        """Switch the whole tree to training (dropout drops, batch norm updates)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """Switch the whole tree to evaluation."""
        return self.train(False)

    def requires_grad_(self: M, flag: bool = True) -> M:
        """Train, or freeze, every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(flag)
        return self

    def apply(self: M, function: Callable[[Module], Any]) -> M:
        """Call ``function`` on every module of the tree, children first."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def to(self: M, dtype: DTypeLike) -> M:
        """Convert parameters and floating point buffers to another floating type, in place.

        Raises:
            TypeError: ``dtype`` is no floating type.
        """
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"a model's numbers are floats and cannot become {np.dtype(dtype)}")
        for _, value in self._named_tensors(Tensor):
            if value.dtype.kind == "f":
                value.data = value.data.astype(dtype)
                value.grad = value.grad_place = None
        return self

    def state_dict(self) -> dict[str, Array]:
        """Every parameter and buffer by path, as arrays that share the model's memory."""
        return {
            name: value.data
            for name, value in self._named_tensors(Tensor)
            if isinstance(value, Parameter | Buffer)
        }

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Copy ``state`` into the parameters and buffers of the same paths.

        Everything is compared first, so a state that does not fit raises ``ValueError`` and
        changes nothing. ``strict=False`` accepts missing and unknown names.
        """
        own = self.state_dict()
        given = {name: np.asarray(getattr(value, "data", value)) if isinstance(value, Tensor)
                 else np.asarray(value) for name, value in state.items()}  # fmt: skip
        problems = list(_differences(own, given, strict))
        if problems:
            more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
            raise ValueError(
                f"state does not fit {type(self).__name__}: {'; '.join(problems[:3])}{more}"
            )
        for name, array in own.items():
            if name in given:
                array[...] = given[name]
                note_edit(array)

    def __repr__(self) -> str:
        children = self.named_children()
        inside = [f"  {name}: {child!r}".replace("\n", "\n  ") for name, child in children]
        described = f"{type(self).__name__}({self.extra_repr()}"
        return described + ("\n" + "\n".join(inside) + "\n)" if inside else ")")

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses."""
        return ""


def _refuse_hidden(name: str, values: Any) -> None:
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Module | Parameter):
            raise TypeError(
                f"{name} is a plain {type(values).__name__} that holds a {type(value).__name__}, "
                "which would not be trained or saved: use a ModuleList, or an attribute for each "
                "(or a tuple, to leave it outside of the model)"
            )


def _differences(own: dict[str, Array], given: dict[str, Array], strict: bool) -> Iterator[str]:
    if strict:
        yield from (f"{name} is missing" for name in own if name not in given)
        yield from (f"{name} is unknown" for name in given if name not in own)
    for name, array in own.items():
        if name not in given:
            continue
        if given[name].shape != array.shape:
            yield f"{name} has shape {given[name].shape}, expected {array.shape}"
        elif given[name].dtype != array.dtype:
            yield f"{name} has type {given[name].dtype}, expected {array.dtype}"


class ModuleList(Module):
    """Modules in a list; named by their positions."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self: M, module: Module) -> M:
        """Add a module at the end."""
        setattr(self, str(len(vars(self))), module)
        return self

    def __len__(self) -> int:
        return sum(isinstance(value, Module) for value in vars(self).values())

    def __iter__(self) -> Iterator[Any]:
        return self.children()

    def __getitem__(self, index: int | np.integer) -> Any:
        return list(self.children())[index]


class Sequential(ModuleList):
    """Modules applied one after the other."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """Return the output of the last module."""
        for module in self:
            x = module(x)
        return x


class Identity(Module):
    """Return the input."""

    def forward(self, x: Any) -> Any:
        """Return ``x`` itself."""
        return x


class Linear(Module):
    """y = x Wᵀ + b, with W of shape (out, in) as in PyTorch.

    Weights and biases start uniform in ±1/√in, PyTorch's default. ``rng`` is the source of
    randomness. Equation: neural-networks/backpropagation.md#eq-linear-vjp
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        bound = 1 / np.sqrt(max(in_features, 1))
        weight = rng.uniform(-bound, bound, (out_features, in_features))
        self.weight = Parameter(weight.astype(dtype, copy=False))
        self.bias = None
        if bias:
            self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype(dtype))

    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        """Apply the map to the last axis.

        Raises:
            ValueError: the last axis has not ``in_features`` entries.
        """
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"Linear expects {self.in_features} features, got shape {x.shape}")
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """A table of vectors, one for each of ``n`` symbols; starts normal with variance 1."""

    def __init__(
        self, n: int, d: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        self.n, self.d = n, d
        self.weight = Parameter(rng.standard_normal((n, d)).astype(dtype, copy=False))

    def forward(
        self, ids: Int[Tensor, "*shape"] | Int[Array, "*shape"]
    ) -> Float[Tensor, "*shape d"]:
        """Look up rows; ids outside 0 … n − 1 raise ``IndexError``."""
        ids = ids.data if isinstance(ids, Tensor) else ids
        if ids.size and (ids.min() < 0 or ids.max() >= self.n):
            raise IndexError(
                f"ids reach from {ids.min()} to {ids.max()}, the table from 0 to {self.n - 1}"
            )
        return ops.take(self.weight, ids)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.n}, {self.d}"
