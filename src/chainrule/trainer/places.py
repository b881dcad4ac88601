"""Functions in the place of the package's: a learner's, where its exercise names the counterpart.

What `primitive` made of a function on arrays is replaced as that function, with its VJP. Where
signatures differ, the exercise's adapter ``in_package`` translates.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.course.exercises.counterpart import evaluated, resolve
from chainrule.course.exercises.declaring import Exercise
from chainrule.neural_networks.backpropagation import primitive


@contextmanager
def replaced(
    item: Exercise,
    answer: Callable[..., Any],
    beside: Callable[[Any, Callable, Callable], Callable] | None = None,
) -> Iterator[None]:
    """Put a learner's function in the place of its counterpart, in every module that uses it.

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
        mine = beside(item, mine, evaluated(package.on_arrays)) if beside else mine
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
