"""The package's function that an exercise corresponds to: found, and asked instead of a learner.

``counterpart="chainrule.neural_networks.regularization:_layer_norm"`` names it. What
`primitive` made of a function on arrays is asked as that function, with its VJP; methods are
written ``module:Class.method``. Two adapters translate where signatures differ::

    @layer_norm.by_package
    def _(package, x, weight, bias, eps): ...      # the exercise's call, answered by the package

    @layer_norm.in_package
    def _(mine, weight, bias, x, d, eps): ...      # the package's call, answered by a learner
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
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
        package = evaluated(package.on_arrays)
    ask = item.adapters.get("by_package")
    yield item.counterpart, functools.partial(ask, package) if ask else package
    if serve := item.adapters.get("in_package"):
        served = functools.partial(serve, item.solution)
        yield "its solution behind in_package", functools.partial(ask, served) if ask else served


def evaluated(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A primitive's computation, whose VJP computes every entry at once and leaves g alone."""

    def both(*arrays: Any, **options: Any) -> tuple[Any, Callable[[Any], tuple]]:
        output, pullback = forward(*arrays, **options)

        def vjp(g: Any) -> tuple:
            g = np.array(g, copy=True)
            g.flags.writeable = False
            return tuple(entry(None) if callable(entry) else entry for entry in pullback(g))

        return output, vjp

    return both
