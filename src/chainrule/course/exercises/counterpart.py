"""The package's function that an exercise corresponds to: asked instead of a learner, or replaced.

``counterpart="chainrule.neural_networks.regularization:_layer_norm"`` names it. What
`primitive` made of a function on arrays is asked, and replaced, as that function, with its VJP;
methods are written ``module:Class.method``. Two adapters translate where signatures differ::

    @layer_norm.by_package
    def _(package, x, weight, bias, eps): ...      # the exercise's call, answered by the package

    @layer_norm.in_package
    def _(mine, weight, bias, x, d, eps): ...      # the package's call, answered by a learner
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np


def resolve(counterpart: str) -> tuple[Any, str]:
    """The module or class that holds a counterpart, and its name there.

    Raises:
        LookupError: there is no such module, or nothing of that name in it.
    """
    module, _, path = counterpart.partition(":")
    *outer, name = path.split(".")
    try:
        owner = functools.reduce(getattr, outer, import_module(module))
        getattr(owner, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"counterpart {counterpart!r}: {error}") from None
    return owner, name


def answers(item: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What must answer like the solution: the package, and the solution in the package's place."""
    if item.counterpart is None:
        return
    package = getattr(*resolve(item.counterpart))
    if hasattr(package, "on_arrays"):
        package = _evaluated(package.on_arrays)
    ask = item.adapters.get("by_package")
    yield item.counterpart, functools.partial(ask, package) if ask else package
    if serve := item.adapters.get("in_package"):
        served = functools.partial(serve, item.solution)
        yield "its solution behind in_package", functools.partial(ask, served) if ask else served


def _evaluated(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A primitive's computation, whose VJP computes every entry at once and leaves g alone."""

    def both(*arrays: Any, **options: Any) -> tuple[Any, Callable[[Any], tuple]]:
        output, pullback = forward(*arrays, **options)

        def vjp(g: Any) -> tuple:
            g = np.array(g, copy=True)
            g.flags.writeable = False
            return tuple(entry(None) if callable(entry) else entry for entry in pullback(g))

        return output, vjp

    return both


@contextmanager
def replaced(
    item: Any,
    answer: Callable[..., Any],
    primitive: Callable[..., Any],
    beside: Callable[[Any, Callable, Callable], Callable] | None = None,
) -> Iterator[None]:
    """Put a learner's function in the place of its counterpart, in every module that uses it.

    ``primitive`` makes an operation on tensors of one on arrays, where the counterpart is one.
    ``beside(item, mine, package)``, if given, returns what is put there instead of ``mine``: the
    two functions have the same call, on arrays where the counterpart is a primitive.

    Raises:
        LookupError: the exercise has no counterpart, or answers it without being able to serve.
    """
    serve = item.adapters.get("in_package")
    if item.counterpart is None or (item.adapters and not serve):
        raise LookupError(f"{item.name} takes no place in the package")
    owner, name = resolve(item.counterpart)
    package = getattr(owner, name)
    mine = _serving(serve, answer) if serve else answer
    if hasattr(package, "on_arrays"):
        mine = _given_away(mine)
        mine = beside(item, mine, _evaluated(package.on_arrays)) if beside else mine
        mine = primitive(mine)
    elif beside:
        mine = beside(item, mine, package)
    with placed(owner, name, package, mine):
        yield


@contextmanager
def placed(owner: Any, name: str, old: Any, new: Any) -> Iterator[None]:
    """Put ``new`` where ``owner`` keeps ``old`` by its name, and where modules have imported it."""
    places = [(owner, name)] + [
        (module, key)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("chainrule.") and module is not owner
        for key, value in vars(module).items()
        if value is old
    ]
    for place, key in places:
        setattr(place, key, new)
    try:
        yield
    finally:
        for place, key in places:
            setattr(place, key, old)


def _serving(serve: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
    """The adapter with the learner's function in it; a function, so that it can be a method."""

    @functools.wraps(answer)
    def served(*args: Any, **kwargs: Any) -> Any:
        return serve(answer, *args, **kwargs)

    return served


def _given_away(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A learner's operation by the engine's rules: the input's type, and arrays of its own."""

    @functools.wraps(forward)
    def operation(*arrays: Any, **options: Any) -> tuple[Any, Callable[[Any], list]]:
        dtype = next(x.dtype for x in arrays if getattr(x, "dtype", np.dtype(int)).kind == "f")
        output, vjp = forward(*arrays, **options)

        def own(g: Any) -> list:
            return [None if entry is None else np.array(entry, dtype=dtype) for entry in vjp(g)]

        return np.asarray(output, dtype=dtype), own

    return operation
