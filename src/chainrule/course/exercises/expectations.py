"""What a check may say about a learner's answer: comparison, and failures that name the slip.

Each ``expect…`` helper returns nothing when all is well and raises `Unexpected` otherwise. The
message names a likely slip (nothing returned, a list, a transposed array, a constant factor)
only where the data show it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Number
from typing import Any

import numpy as np


class Unexpected(AssertionError):
    """A learner's answer is not what a check expects; the message is shown to the learner."""


def expect(condition: Any, message: str) -> None:
    """Fail with the message unless the condition holds."""
    if not condition:
        raise Unexpected(message)


def expect_shape(received: Any, shape: tuple[int, ...], what: str = "the result") -> None:
    """Fail unless ``received`` is an array of this shape."""
    _expect_array(received, what)
    _expect_same_shape(np.shape(received), tuple(shape), what)


def expect_equal(received: Any, expected: Any, what: str = "the result") -> None:
    """Fail unless both are equal exactly: for integers, strings, Booleans and structures."""
    expect_close(received, expected, rtol=0.0, atol=0.0, what=what)


def expect_raises(error: type[BaseException], function: Callable[..., Any], *args: Any) -> None:
    """Fail unless ``function(*args)`` raises this error."""
    try:
        value = function(*args)
    except error:
        return
    except (Unexpected, MemoryError, RecursionError):
        raise
    except Exception as other:
        message = f"expected {error.__name__} to be raised, received {type(other).__name__}"
        raise Unexpected(f"{message}: {other}".rstrip(": ")) from other
    raise Unexpected(f"expected {error.__name__} to be raised, but {show(value)} was returned")


def expect_close(
    received: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    what: str = "the result",
) -> None:
    """Fail unless both have the same structure and shape and numbers that are close.

    Tuples, lists and dictionaries are compared item by item. The default tolerance is relative
    1e-6 (and absolute 1e-9), or 1e-4 (and 1e-6) where either side is float32 or smaller.
    """
    if expected is not None and received is None:
        raise Unexpected(f"{what}: None. Did you forget to return it?")
    if isinstance(expected, dict):
        _expect_items(received, expected, what)
        for key, value in expected.items():
            expect_close(received[key], value, rtol=rtol, atol=atol, what=f"{what}[{key!r}]")
    elif isinstance(expected, tuple | list):
        _expect_sequence(received, expected, what)
        for place, (left, right) in enumerate(zip(received, expected, strict=True)):
            name = f"value {place + 1} of {what}" if len(expected) > 1 else what
            expect_close(left, right, rtol=rtol, atol=atol, what=name)
    elif isinstance(expected, np.ndarray | Number | np.generic) and not isinstance(expected, bool):
        _expect_numbers(received, np.asarray(expected), rtol, atol, what)
    elif isinstance(expected, bool):
        kind = isinstance(received, bool | np.bool_)
        expect(kind, f"{what}: expected True or False, received {show(received)}")
        expect(received == expected, f"{what}: expected {expected}, received {received}")
    else:
        _expect_same(received, expected, what)


def _expect_same(received: Any, expected: Any, what: str) -> None:
    if same(received, expected):
        return
    where = ""
    if isinstance(received, str) and isinstance(expected, str) and len(expected) > 80:
        pairs = enumerate(zip(received, expected, strict=False))
        place = next((i for i, (a, b) in pairs if a != b), min(len(received), len(expected)))
        where = f"from position {place} on, "
        received, expected = received[place:], expected[place:]
    raise Unexpected(f"{what}: {where}expected {show(expected)}, received {show(received)}")


def _expect_items(received: Any, expected: dict, what: str) -> None:
    wanted = f"{what}: expected a dictionary, received {kind_of(received)}"
    expect(isinstance(received, dict), wanted)
    missing, extra = expected.keys() - received.keys(), received.keys() - expected.keys()
    if missing or extra:
        parts = [f"misses {sorted(missing, key=str)}"] * bool(missing)
        parts += [f"has {sorted(extra, key=str)} besides"] * bool(extra)
        raise Unexpected(f"{what}: the keys are wrong: the dictionary {' and '.join(parts)}")


def _expect_sequence(received: Any, expected: tuple | list, what: str) -> None:
    kind = "values" if isinstance(expected, tuple) else "items"
    wanted = f"{what}: expected {len(expected)} {kind}, received"
    expect(isinstance(received, tuple | list), f"{wanted} {kind_of(received)}")
    expect(len(received) == len(expected), f"{wanted} {len(received)}")


def _expect_array(received: Any, what: str) -> None:
    expect(received is not None, f"{what}: None. Did you forget to return it?")
    remedy = ". Wrap it in np.array(…)" if isinstance(received, tuple | list) else ""
    wanted = f"{what}: expected a NumPy array, received {kind_of(received)}{remedy}"
    expect(hasattr(received, "shape"), wanted)
    matrix = isinstance(received, np.matrix)
    expect(not matrix, f"{what}: a np.matrix, which always has two axes. Use np.array(…)")


def _expect_same_shape(received: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
    if received == expected:
        return
    slip = ""
    if len(expected) > 1 and received == expected[::-1]:
        slip = ". It looks transposed"
    elif [n for n in received if n != 1] == [n for n in expected if n != 1]:
        slip = ". Only axes of length 1 differ (keepdims, reshape, or None in an index)"
    raise Unexpected(f"{what}: expected shape {expected}, received shape {received}{slip}.")


def _expect_numbers(
    received: Any, expected: np.ndarray, rtol: float | None, atol: float | None, what: str
) -> None:
    if expected.ndim == 0:
        number = (
            isinstance(received, Number | np.generic | np.ndarray)
            and getattr(received, "ndim", 0) == 0
        )
        expect(number, f"{what}: expected a number, received {kind_of(received)}")
    else:
        _expect_array(received, what)
    received = np.asarray(received)
    _expect_same_shape(received.shape, expected.shape, what)
    if expected.dtype.kind not in "biufc":
        return _expect_same(received, expected, what)
    if received.dtype.kind not in "biufc":
        raise Unexpected(f"{what}: expected numbers, received dtype {received.dtype}")
    if np.iscomplexobj(received) and not np.iscomplexobj(expected):
        raise Unexpected(f"{what}: expected real numbers, received dtype {received.dtype}")
    coarse = any(a.dtype.kind == "f" and a.dtype.itemsize < 8 for a in (received, expected))
    rtol = (1e-4 if coarse else 1e-6) if rtol is None else rtol
    atol = (1e-6 if coarse else 1e-9) if atol is None else atol
    wrong = ~np.isclose(received, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return
    with np.errstate(all="ignore"):
        slip = _slip(received, expected, max(rtol, 1e-9), max(atol, 1e-12))
    slip = slip or ("the values differ." if expected.ndim else "not as expected.")
    raise Unexpected("\n".join([f"{what}: {slip}", *_difference(received, expected, wrong)]))


def _slip(received: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> str:
    """Say what would explain the whole difference, or nothing."""

    def close(left: np.ndarray, right: Any) -> bool:
        return bool(np.allclose(left, right, rtol=rtol, atol=atol))

    single = received.size == 1
    for name, test in (("NaN", np.isnan), ("infinite", np.isinf)):
        bad = test(received) & ~test(expected)
        if bad.any():
            return f"{name}." if single else f"{bad.sum()} of {bad.size} values are {name}."
    if "b" in received.dtype.kind + expected.dtype.kind:
        return ""
    if close(received, expected):
        return "close, but not close enough."
    if received.dtype.kind in "iu" and close(received, np.trunc(expected)):
        return "the fractions are gone. Integers were kept where floats are needed."
    whole = expected.dtype.kind in "iu" and close(received, np.round(received))
    received, expected = received * 1.0, expected * 1.0
    if not single and not received.any():
        return "all zeros."
    if received.any() and close(received, -expected):
        return "the sign is flipped."
    if not single and not close(expected, expected.flat[0]):
        if expected.ndim > 1 and received.shape == received.T.shape and close(received, expected.T):
            return "the transpose of what is expected."
        if close(received, expected[::-1]):
            return "the values are right, but in reverse order."
        if close(received, received.flat[0]):
            return "all values are the same."
        if close(np.sort(received, axis=None), np.sort(expected, axis=None)):
            return "the values are right, but in another order."
    if whole:
        off = int(received.flat[0] - expected.flat[0]) if single else 0
        return f"{abs(off)} too {'large' if off > 0 else 'small'}." if off else ""
    return _factor(received, expected, close)


def _factor(
    received: np.ndarray, expected: np.ndarray, close: Callable[[np.ndarray, Any], bool]
) -> str:
    """Name a constant factor or a constant difference; for a single number, only whole ones."""
    single, zero = received.size == 1, expected == 0
    if not zero.all() and not received[zero].any():
        ratio = received[~zero] / expected[~zero]
        factor = float(np.real(ratio.flat[0]))
        size = abs(factor) if abs(factor) >= 1 else 1 / abs(factor or 1)
        if (not single or abs(size - round(size)) < 1e-9) and factor and close(ratio, factor):
            more = "large" if abs(factor) >= 1 else "small"
            sign = " and has the wrong sign" if factor < 0 else ""
            return f"{'every value is ' * (not single)}{size:.4g} times too {more}{sign}."
    shift = received - expected
    if not single and close(shift, shift.flat[0]):
        return f"every value is off by {float(np.real(shift.flat[0])):+.4g}."
    return ""


def _difference(received: np.ndarray, expected: np.ndarray, wrong: np.ndarray) -> Iterable[str]:
    if received.size > 12:
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        yield f"{int(wrong.sum())} of {wrong.size} values differ, the first at {list(place)}"
        received, expected, wrong = received[place], expected[place], wrong[place]
    texts = show(expected), show(received)
    if texts[0] == texts[1]:
        right, mine = expected[wrong].flat[0], received[wrong].flat[0]
        texts = repr(right.item()), f"{mine.item()!r}, {abs(mine - right):.2g} away"
    yield f"expected {texts[0]}"
    yield f"received {texts[1]}"


def kind_of(value: Any) -> str:
    """What sort of thing a value is, in a learner's words."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    name = type(value).__name__
    if name in ("function", "method", "builtin_function_or_method", "ufunc"):
        return "a function (was it never called?)"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def show(value: Any, limit: int = 200, _inside: tuple[int, ...] = ()) -> str:
    """Write a value in one short line, large arrays as their shape, objects by attributes."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if isinstance(value, np.ndarray):
        if value.size > 16:
            return f"<array of shape {value.shape}, {value.dtype}>"
        text = np.array2string(value, separator=", ", precision=6, suppress_small=True)
        plain = value.dtype in (float, int, bool) or value.dtype.kind == "U"
        text = f"array({text}{'' if plain else f', dtype={value.dtype}'})"
    elif isinstance(value, float):
        text = f"{value:.10g}"
    elif isinstance(value, tuple | list):
        inner = ", ".join(show(item, limit, _inside) for item in value)
        comma = "," * (len(value) == 1)
        text = f"({inner}{comma})" if isinstance(value, tuple) else f"[{inner}]"
    elif callable(value):
        text = f"<{getattr(value, '__name__', 'function')}>"
    elif type(value).__repr__ is object.__repr__ and _attributes(value):
        name, outer = type(value).__name__, (*_inside, id(value))
        parts = (f"{key}={show(each, limit, outer)}" for key, each in _attributes(value).items())
        text = f"{name}(…)" if id(value) in _inside else f"{name}({', '.join(parts)})"
    else:
        try:
            text = repr(value)
        except Exception:
            text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def same(left: Any, right: Any, *, rtol: float = 1e-7, _depth: int = 0) -> bool:
    """Whether two values are equal: numbers within a tolerance, NaN equal to NaN.

    Arrays need the same shape and the same kind of dtype; single numbers are the same thing as
    Python's or NumPy's, whole or not. Objects are compared by their attributes.
    """
    if left is right or _depth > 20:
        return True
    scalar = Number | np.generic
    if isinstance(left, scalar | np.ndarray) and isinstance(right, scalar | np.ndarray):
        return _same_numbers(np.asarray(left), np.asarray(right), rtol)
    if type(left) is not type(right):
        return False

    def inner(a: Any, b: Any) -> bool:
        return same(a, b, rtol=rtol, _depth=_depth + 1)

    if isinstance(left, dict):
        return left.keys() == right.keys() and all(inner(left[key], right[key]) for key in left)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(inner, left, right))
    if callable(left) or isinstance(left, BaseException):
        return True
    if type(left).__eq__ is object.__eq__:
        return inner(_attributes(left), _attributes(right))
    try:
        return bool(left == right)
    except Exception:
        return inner(_attributes(left), _attributes(right))


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**found, **getattr(value, "__dict__", {})}


def _same_numbers(left: np.ndarray, right: np.ndarray, rtol: float) -> bool:
    if left.ndim == right.ndim == 0 and {left.dtype.kind, right.dtype.kind} <= set("iuf"):
        left, right = left * 1.0, right * 1.0
    if left.shape != right.shape or left.dtype.kind != right.dtype.kind:
        return False
    if left.dtype.kind not in "fc":
        return bool(np.array_equal(left, right))
    if left.dtype != right.dtype:
        return False
    if rtol:
        rtol = max(rtol, 64 * float(np.finfo(left.dtype).eps))
        scale = float(np.max(np.abs(left[np.isfinite(left)]), initial=0.0))
        return bool(np.allclose(left, right, rtol=rtol, atol=1e-9 * scale, equal_nan=True))
    return bool(np.array_equal(left, right, equal_nan=True))
