"""A learner's functions watched: each beside its counterpart, on what a run gives to both."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import Parameter, Tensor

__all__ = ["PROBED_STEPS", "Differs", "Probe"]

PROBED_STEPS = 3
"""So many steps at the start have every call compared …"""

PROBED_EVERY = 50
"""… and later one step of so many: some mistakes show only in weights that have grown."""

PROBED_CALLS = 3
"""Calls of a function that are compared also later: some are first called by an evaluation."""

CLOSE = 3e-5
"""How far two float32 results may be apart, relative to the largest number of the array."""


class Differs(Exception):
    """A learner's function and its counterpart part; the message names the function and where."""


class _Apart(Exception):
    """Where two results part, without the name."""


class Probe:
    """Compares each function with its counterpart on what the run gives to both.

    Both get copies of their own, so that nothing of the run changes. The first that differs stops
    the run; ``keep(name, arguments)`` saves what the learner's function was called with.
    """

    def __init__(self, keep: Callable[[str, Any], str] = lambda name, arguments: "") -> None:
        self.keep = keep
        self.step = 1
        self.calls: Counter[str] = Counter()
        self._latest: dict[str, Any] = {}

    def watches(self, name: str) -> bool:
        """Whether the next call of a function is compared."""
        early = self.step <= PROBED_STEPS or self.step % PROBED_EVERY == 0
        return early or self.calls[name] < PROBED_CALLS

    def noting(self, item: Any, answer: Callable[..., Any]) -> Callable[..., Any]:
        """The learner's function, whose latest arguments are remembered while it is watched."""

        @functools.wraps(answer)
        def noted(*args: Any, **kwargs: Any) -> Any:
            if self.watches(item.name):
                self._latest[item.name] = _twin((args, kwargs))
            return answer(*args, **kwargs)

        return noted

    def beside(self, item: Any, mine: Callable, package: Callable) -> Callable[..., Any]:
        """A function that answers as ``mine`` does, and compares while it is watched."""

        @functools.wraps(mine)
        def both(*args: Any, **kwargs: Any) -> Any:
            if not self.watches(item.name):
                return mine(*args, **kwargs)
            self.calls[item.name] += 1
            self._latest.pop(item.name, None)
            return self._compare(item.name, mine, package, args, kwargs)

        return both

    def _compare(
        self, name: str, mine: Callable, package: Callable, args: tuple, kwargs: dict,
        what: str = "the result", arguments: Any = None,
    ) -> Any:  # fmt: skip
        heard: list[list[tuple[Any, Any]]] = []
        args, kwargs = _settled(args), _settled(kwargs)
        twins = _twin((args, kwargs), heard)
        before = _twin((args, kwargs))
        args, kwargs = _listening((args, kwargs), iter(heard))
        place = f"call {self.calls[name]}, in step {self.step}"
        try:
            result = mine(*args, **kwargs)
        except (Differs, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._stop(name, place, f"it raises {type(error).__name__}: {error}", arguments)
        arguments = self._latest.get(name) if arguments is None else arguments
        try:
            with np.errstate(all="ignore"):
                expected = package(*twins[0], **twins[1])
            for ours, theirs, old in zip(
                _arrays((args, kwargs)), _arrays(twins), _arrays(before), strict=True
            ):
                _same_change(ours, theirs, old)
            return self._matched(name, result, expected, what, arguments)
        except _Apart as apart:
            self._stop(name, place, str(apart), arguments)

    def _matched(self, name: str, got: Any, want: Any, what: str, arguments: Any) -> Any:
        """What the learner's function returned, compared; functions in it compare when called."""
        if want is None:
            return got
        if callable(want) and not isinstance(want, Tensor):
            if not callable(got):
                raise _Apart(f"{what} holds {type(got).__name__} where the package has a function")
            inner = "what its returned function returns"

            def both(*args: Any, **kwargs: Any) -> Any:
                return self._compare(name, got, want, args, kwargs, inner, arguments)

            return both
        if isinstance(want, dict):
            if not isinstance(got, dict) or list(got) != list(want):
                raise _Apart(f"{what} has other keys than the package's: {list(want)[:3]} …")
            return {
                k: self._matched(name, got[k], want[k], f"{what} at {k}", arguments) for k in want
            }
        if isinstance(want, tuple | list):
            if not isinstance(got, tuple | list) or len(got) != len(want):
                raise _Apart(f"{what} is not {len(want)} things")
            many = len(want) > 1
            parts = [
                self._matched(name, a, b, f"entry {i} of {what}" if many else what, arguments)
                for i, (a, b) in enumerate(zip(got, want, strict=True))
            ]
            return tuple(parts) if isinstance(got, tuple) else parts
        _same_array(_array(got), _array(want), what)
        return got

    def _stop(self, name: str, place: str, why: str, arguments: Any) -> None:
        kept = self.keep(name, arguments) if arguments is not None else ""
        raise Differs(
            f"{name} is the first of your functions that differs from the package's ({place}):\n"
            f"{why}" + (f"\nits arguments are kept: {kept}" if kept else "")
        ) from None


def _settled(value: Any) -> Any:
    """Arguments of which iterators are lists, so that two functions can read them."""
    if isinstance(value, Iterator):
        return list(value)
    if isinstance(value, tuple):
        return tuple(_settled(item) for item in value)
    if isinstance(value, dict):
        return {key: _settled(item) for key, item in value.items()}
    return value


def _twin(value: Any, heard: list | None = None) -> Any:
    """A copy for the other function; a function in it answers what the first one heard."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Tensor):
        twin = (Parameter if isinstance(value, Parameter) else Tensor)(value.data.copy())
        twin.grad = None if value.grad is None else value.grad.copy()
        return twin
    if type(value) in (tuple, list):
        return type(value)(_twin(item, heard) for item in value)
    if type(value) is dict:
        return {key: _twin(item, heard) for key, item in value.items()}
    if isinstance(value, np.random.Generator):
        generator = np.random.Generator(type(value.bit_generator)())
        generator.bit_generator.state = value.bit_generator.state
        return generator
    if callable(value) and heard is not None and not isinstance(value, type):
        heard.append([])
        return _player(heard[-1])
    return value


def _player(heard: list[tuple[Any, Any]]) -> Callable[[Any], Any]:
    """Answers as a function did when the other one called it; refuses other questions."""

    def play(x: Any) -> Any:
        if not heard:
            raise _Apart("it never calls a function that it was given, or not as often")
        asked, answer = heard.pop(0)
        try:
            _same_array(_array(asked), _array(x), "what it gives to a function")
        except _Apart as apart:
            raise _Apart(f"{apart} that it was given as an argument") from None
        return answer

    return play


def _listening(value: Any, heard: Iterator[list]) -> Any:
    """The same arguments, whose functions write down what they are asked and answer."""
    if type(value) in (tuple, list):
        return type(value)(_listening(item, heard) for item in value)
    if type(value) is dict:
        return {key: _listening(item, heard) for key, item in value.items()}
    if callable(value) and not isinstance(value, Tensor | type):
        into = next(heard)

        def listen(x: Any) -> Any:
            answer = value(x)
            into.append((_twin(x), _twin(answer)))
            return answer

        return listen
    return value


def _arrays(value: Any) -> Iterator[np.ndarray]:
    """Every array that a function could change: arguments, and gradients of tensors."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Tensor):
        yield value.data
        if value.grad is not None:
            yield value.grad
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, dict):
        yield from _arrays(list(value.values()))


def _array(value: Any) -> Any:
    return np.asarray(value.data if isinstance(value, Tensor) else value)


def _same_array(got: np.ndarray, want: np.ndarray, what: str) -> None:
    if got.shape != want.shape:
        raise _Apart(f"{what} has shape {got.shape}, the package's {want.shape}")
    if want.dtype.kind not in "iufb" or got.dtype.kind not in "iufb":
        if not np.array_equal(got, want):
            raise _Apart(f"{what} is {got!r:.60}, the package's {want!r:.60}")
        return
    _near(got, want, CLOSE, 0.0, what)


def _same_change(got: np.ndarray, want: np.ndarray, before: np.ndarray) -> None:
    """Compare what two functions did to an argument, as far as rounding lets it be seen."""
    if before.dtype.kind != "f" or got.shape != before.shape:
        if not np.array_equal(got, want):
            raise _Apart("it changes an argument that the package leaves alone")
        return
    rounding = 4 * float(np.finfo(before.dtype).eps) * _largest(before)
    _near(got - before, want - before, 5 * CLOSE, rounding, "the change of an argument")


def _near(got: np.ndarray, want: np.ndarray, close: float, rounding: float, what: str) -> None:
    if not want.size:
        return
    with np.errstate(all="ignore"):
        a, b = got.astype(np.float64), want.astype(np.float64)
        far = ~((a == b) | (np.isnan(a) & np.isnan(b)))
        far &= ~(np.abs(a - b) <= close * _largest(b) + rounding)
        if not far.any():
            return
        worst = np.argmax(np.where(far, np.nan_to_num(np.abs(a - b), nan=np.inf), -1))
    at = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    where = f" at {at}" if at else ""
    raise _Apart(f"{what} is {a.ravel()[worst]:.6g}{where}, the package's {b.ravel()[worst]:.6g}")


def _largest(x: np.ndarray) -> float:
    finite = np.abs(x[np.isfinite(x)])
    return float(finite.max()) if finite.size else 0.0
