"""Derivatives of functions of arrays: measured, carried along, and checked.

Taught by math-foundations/calculus.md. Three independent ways to one derivative: differences of
function values (`numerical_grad`, `numerical_jacobian`, `hessian`), dual numbers that carry an
exact derivative beside every value (`Dual`, `jvp`), and your own formula, which `gradcheck`
holds against the first. Everything is computed in float64.

Shape names: ``*x`` is the shape of the input, ``*y`` of the output of f; n inputs, m outputs.
A derivative has the output's axes first, then the input's: a Jacobian is ``m n``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from chainrule.shapes import Array, Float, Num

__all__ = [
    "Dual",
    "gradcheck",
    "hessian",
    "hvp",
    "jvp",
    "numerical_grad",
    "numerical_jacobian",
    "taylor2",
    "vjp",
]

# The exponent p of the default step ε^p, from balancing truncation against rounding.
STEP_EXPONENT = {"forward": 1 / 2, "central": 1 / 3}
COMPLEX_STEP = 1e-20


def numerical_grad(
    f: Callable[..., Any],
    x: Num[Array, "*x"] | float | int,
    h: float | None = None,
    scheme: str = "central",
) -> Float[Array, "*x"]:
    """Measure the gradient of a scalar function f at x; the gradient has x's shape.

    The step h and the scheme are those of `numerical_jacobian`.
    ValueError if f(x) is not a single number, or for any reason `numerical_jacobian` gives.

    Equation: math-foundations/calculus.md#eq-central-difference
    """
    x = _point(x)
    jacobian = numerical_jacobian(f, x, h, scheme)
    if jacobian.size != x.size:
        raise ValueError(
            f"a gradient needs f(x) to be one number, but f returned {jacobian.size // x.size}; "
            "use numerical_jacobian"
        )
    return jacobian.reshape(x.shape)


def numerical_jacobian(
    f: Callable[..., Any],
    x: Num[Array, "*x"] | float | int,
    h: float | None = None,
    scheme: str = "central",
) -> Float[Array, "..."]:
    """Measure every partial derivative of f at x: shape of f(x), then shape of x.

    scheme: "forward" (error of order h), "central" (order h²), "complex" (order h² with an h so
    small that it does not matter; f must be made of analytic operations and accept complex input).
    h: the step; by default ε^(1/2) or ε^(1/3) times max(1, |x_i|), with ε the spacing of the
    numbers that f returns, and 1e-20 for "complex". A difference sees nothing of an f that bends
    within the step: near x = 1e-5 the logarithm needs an h far below 1e-5.
    ValueError for an unknown scheme, a step that is not positive or vanishes beside x, a value
    f(x) that is not finite or not real, a default step that f's own rounding hides, or a complex
    step through a function that answers in real numbers or conjugates.

    Equation: math-foundations/calculus.md#eq-jacobian
    Equation: math-foundations/calculus.md#eq-complex-step
    Source: Squire and Trapp, SIAM Review 40, 1998, for the complex step.
    """
    if scheme not in ("forward", "central", "complex"):
        raise ValueError(f'scheme must be "forward", "central" or "complex", not {scheme!r}')
    if h is not None and not (np.isfinite(h) and h > 0):
        raise ValueError(f"the step h must be positive and finite, not {h}")
    x = _point(x)
    here = _value(f, x)
    columns = []
    for i in np.ndindex(x.shape):
        if scheme == "complex":
            columns.append(_complex_difference(f, x, i, COMPLEX_STEP if h is None else h))
            continue
        step = _default_step(here, x[i], STEP_EXPONENT[scheme]) if h is None else h
        ahead = _moved(x, i, step)
        behind = _moved(x, i, -step) if scheme == "central" else x
        before = _value(f, behind) if scheme == "central" else here
        # The step really taken: x + h is rounded, and (x + h) − x is not h.
        slope = (_value(f, ahead) - before) / (ahead[i] - behind[i])
        if h is None:
            _check_rounding(here, slope, x, step, 1, f"the derivative by {_name(i)}")
        columns.append(slope)
    jacobian = np.stack(columns, axis=-1).reshape(here.shape + x.shape).astype(np.float64)
    if scheme == "complex":
        _check_analytic(f, x, here, jacobian)
    return jacobian


def hessian(
    f: Callable[..., Any], x: Num[Array, "*x"] | float | int, h: float | None = None
) -> Float[Array, "..."]:
    """Measure all second partial derivatives of a scalar f at x: shape of x, twice.

    Four values of f for each pair of inputs, so 2n² evaluations for n inputs. The default step
    ε^(1/4)·max(1, |x_i|) leaves an error of about 1e-8 beside |f|/(max(1, |x_i|)·max(1, |x_j|)).
    Symmetric by construction.
    ValueError if f(x) is not a single number, or if its rounding hides a second derivative, as it
    does where one input is thousands of times larger than another; then give h.

    Equation: math-foundations/calculus.md#eq-hessian
    """
    x = _point(x)
    here = _value(f, x)
    if here.size != 1:
        raise ValueError(f"a Hessian needs f(x) to be one number, but f returned {here.size}")
    if h is not None and not (np.isfinite(h) and h > 0):
        raise ValueError(f"the step h must be positive and finite, not {h}")
    index = list(np.ndindex(x.shape))
    steps = [_default_step(here, x[i], 1 / 4) if h is None else h for i in index]
    second = np.empty((x.size, x.size))
    for a, i in enumerate(index):
        for b, j in enumerate(index[: a + 1]):
            corners = 0.0
            for sign_i in (1, -1):
                for sign_j in (1, -1):
                    corner = _moved(_moved(x, i, sign_i * steps[a]), j, sign_j * steps[b])
                    corners += sign_i * sign_j * _value(f, corner).item()
            curvature = corners / (4 * steps[a] * steps[b])
            if h is None:
                pair = f"the second derivative by {_name(i)} and {_name(j)}"
                _check_rounding(here, curvature, x, steps[a] * steps[b], 2, pair)
            second[a, b] = second[b, a] = curvature
    return second.reshape(x.shape + x.shape)


def hvp(
    grad_f: Callable[..., Any],
    x: Num[Array, "*x"] | float | int,
    v: Num[Array, "*x"] | float | int,
) -> Float[Array, "*x"]:
    """Multiply the Hessian of f at x by v with two gradients and no Hessian.

    Differences grad_f along v; where inputs differ in size by more than a hundred, once for each
    size, which needs two more gradients. When grad_f is made of operations that `Dual` knows,
    ``jvp(grad_f, x, v)`` gives the same without a difference.
    ValueError if v or the gradient does not have x's shape, v is not finite, or the gradient's
    rounding hides the product.

    Equation: math-foundations/calculus.md#eq-hvp
    Source: Pearlmutter, Neural Computation 6, 1994.
    """
    x = _point(x)
    v = _direction(x, v)
    if not np.all(np.isfinite(v)):
        raise ValueError(f"v must be finite, received {v}")
    product = np.zeros_like(x)
    if not np.any(v):
        return product
    here = _value(grad_f, x)
    if here.shape != x.shape:
        raise ValueError(f"expected a gradient of shape {x.shape}, received {here.shape}")
    scale = np.maximum(1, np.abs(x))
    magnitude = np.floor(np.log10(scale) / 2)
    for group in np.unique(magnitude[v != 0]):
        part = np.where(magnitude == group, v, 0)
        # Divided by its longest step first: squares of v or x could overflow or vanish.
        size = np.max(np.abs(part / scale))
        part = part / size
        h = float(np.finfo(here.dtype).eps) ** (1 / 3) / np.sqrt(np.sum((part / scale) ** 2))
        ahead, behind = (_value(grad_f, np.asarray(x + s * part)) for s in (h, -h))
        change = (ahead - behind) / (2 * h)
        _check_rounding(here, change, x, h, 1, "the Hessian's product with v")
        product = product + change * size
    return product


def jvp(
    f: Callable[..., Any],
    x: Num[Array, "*x"] | float | int,
    v: Num[Array, "*x"] | float | int,
) -> Float[Array, "..."]:
    """Push the direction v through f at x: the Jacobian times v, exact, in one pass.

    f must be made of operations that `Dual` knows. The result has the shape of f(x).
    PyTorch's ``torch.func.jvp`` returns the pair (f(x), Jacobian times v); this only the second.
    ValueError if v does not have x's shape.

    Equation: math-foundations/calculus.md#eq-jvp
    """
    x = _point(x)
    out = f(Dual(x, _direction(x, v)))
    if isinstance(out, Dual):
        return out.derivative
    return np.zeros(np.shape(out))


def vjp(jac: Num[Array, "m n"] | Sequence[Array], u: Num[Array, " m"]) -> Float[Array, " n"]:
    """Pull the row u back through a Jacobian, or through a chain of them: uᵀJ.

    A chain is a sequence in the order of application, J_1 first; it is walked from its end,
    uᵀJ_k, then (uᵀJ_k)J_{k−1}, …: always vector times matrix, never matrix times matrix.
    ValueError if the shapes do not fit.

    Equation: math-foundations/calculus.md#eq-vjp
    """
    chain = [jac] if isinstance(jac, np.ndarray) else list(jac)
    row = _real(u)
    if row.ndim != 1:
        raise ValueError(f"expected u to be one row of numbers, received shape {row.shape}")
    for matrix in reversed(chain):
        matrix = _real(matrix)
        if matrix.ndim != 2 or matrix.shape[0] != row.size:
            raise ValueError(
                f"a row of {row.size} numbers cannot be pulled through a Jacobian of shape "
                f"{matrix.shape}; expected ({row.size}, n)"
            )
        row = row @ matrix
    return row


def taylor2(
    f: Callable[..., Any], x0: Num[Array, "*x"] | float | int
) -> Callable[[Num[Array, "*x"] | float | int], float]:
    """Build the quadratic that agrees with f at x0 in value, gradient and Hessian.

    Both derivatives are measured, so the coefficients carry a relative error of about 1e-8.

    Equation: math-foundations/calculus.md#eq-taylor2
    """
    x0 = _point(x0)
    value = _value(f, x0).item()
    slope = numerical_grad(f, x0).reshape(-1)
    curvature = hessian(f, x0).reshape(x0.size, x0.size)

    def quadratic(x: Num[Array, "*x"] | float | int) -> float:
        step = np.reshape(_direction(x0, x) - x0, -1)
        return float(value + slope @ step + step @ curvature @ step / 2)

    return quadratic


def gradcheck(
    f: Callable[..., Any],
    grad: Callable[..., Any],
    x: Num[Array, "*x"] | float | int,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> float:
    """Hold the gradient function grad against central differences of f at x.

    Compares coordinate by coordinate, so that a wrong small entry cannot hide behind a large
    right one. Returns the largest absolute difference.
    AssertionError if a coordinate differs by more than atol + rtol·|measured|; the message names
    the worst one. ValueError if grad(x) does not have x's shape.

    Equation: math-foundations/calculus.md#eq-gradcheck
    """
    x = _point(x)
    claimed = np.asarray(grad(x.copy()), dtype=np.float64)
    if claimed.shape != x.shape:
        raise ValueError(f"grad(x) has shape {claimed.shape}, but x has shape {x.shape}")
    measured = numerical_grad(f, x)
    difference = np.abs(claimed - measured)
    allowed = atol + rtol * np.abs(measured)
    # Written so that a NaN fails: no comparison with NaN is true.
    if not np.all(difference <= allowed):
        excess = np.where(np.isnan(difference), np.inf, difference - allowed)
        worst = np.unravel_index(np.argmax(excess), x.shape)
        raise AssertionError(
            f"gradient differs at index {tuple(int(i) for i in worst)}: "
            f"grad says {claimed[worst]:.9g}, central differences say {measured[worst]:.9g}"
        )
    return float(np.max(difference))


# Each rule: the operation's arguments (x, and y where there are two), their derivatives (dx, dy),
# and its result; the answer is the derivative of the result.
_UNARY: dict[np.ufunc, Callable[..., Any]] = {
    np.negative: lambda x, dx, out: -dx,
    np.positive: lambda x, dx, out: dx,
    np.exp: lambda x, dx, out: out * dx,
    np.log: lambda x, dx, out: dx / x,
    np.sqrt: lambda x, dx, out: dx / (2 * out),
    np.square: lambda x, dx, out: 2 * x * dx,
    np.reciprocal: lambda x, dx, out: -out * out * dx,
    np.sin: lambda x, dx, out: np.cos(x) * dx,
    np.cos: lambda x, dx, out: -np.sin(x) * dx,
    np.tan: lambda x, dx, out: (1 + out * out) * dx,
    np.tanh: lambda x, dx, out: (1 - out * out) * dx,
    np.sinh: lambda x, dx, out: np.cosh(x) * dx,
    np.cosh: lambda x, dx, out: np.sinh(x) * dx,
    np.arctan: lambda x, dx, out: dx / (1 + x * x),
    np.log1p: lambda x, dx, out: dx / (1 + x),
    np.expm1: lambda x, dx, out: (out + 1) * dx,
    # At the kink x = 0 this is the subgradient 0.
    np.absolute: lambda x, dx, out: np.sign(x) * dx,
}
_BINARY: dict[np.ufunc, Callable[..., Any]] = {
    np.add: lambda x, y, dx, dy, out: dx + dy,
    np.subtract: lambda x, y, dx, dy, out: dx - dy,
    np.multiply: lambda x, y, dx, dy, out: dx * y + x * dy,
    np.divide: lambda x, y, dx, dy, out: (dx - out * dy) / y,
    np.matmul: lambda x, y, dx, dy, out: dx @ y + x @ dy,
    np.power: lambda x, y, dx, dy, out: _power_rule(x, y, dx, dy, out),
    # At a tie the first argument wins: one of many subgradients.
    np.maximum: lambda x, y, dx, dy, out: np.where(x >= y, dx, dy),
    np.minimum: lambda x, y, dx, dy, out: np.where(x <= y, dx, dy),
}
_COMPARISONS = (
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
)


class Dual(NDArrayOperatorsMixin):
    """A value and its derivative along one direction: value + derivative·ε with ε² = 0.

    Both are float64 arrays of one shape (a number is an array without axes). Arithmetic, ``@``,
    comparisons (of values), indexing, ``sum``, ``reshape``, ``.T``, np.where, joining arrays and
    NumPy's elementary functions work on it and keep the derivative exact up to rounding.
    TypeError for a NumPy function without a rule, and for a Dual inside a Dual.

    Equation: math-foundations/calculus.md#eq-dual-number
    Source: Clifford, 1873, for the numbers; Wengert, 1964, for their use on programs.
    """

    __slots__ = ("derivative", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any, derivative: Any = 0.0) -> None:
        if isinstance(value, Dual) or isinstance(derivative, Dual):
            raise TypeError("a Dual cannot hold a Dual; for second derivatives use hvp or hessian")
        self.value = _real(value)
        self.derivative = _real(derivative)
        if self.derivative.shape != self.value.shape:
            self.derivative = np.broadcast_to(self.derivative, self.value.shape)

    def __repr__(self) -> str:
        return f"Dual({self.value}, {self.derivative})"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise TypeError(
            "making an array of a Dual would drop its derivative; "
            "join Duals with np.stack or np.concatenate, or take .value"
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        """Apply a NumPy operation to the values and its rule to the derivatives."""
        if method != "__call__" or options:
            raise TypeError(f"Dual has no rule for np.{ufunc.__name__}.{method} with options")
        values = [a.value if isinstance(a, Dual) else np.asarray(a, np.float64) for a in args]
        if ufunc in _COMPARISONS:
            return ufunc(*values)
        rule = _UNARY.get(ufunc) or _BINARY.get(ufunc)
        if rule is None:
            raise TypeError(f"Dual has no rule for np.{ufunc.__name__}; write it with others")
        slopes = [
            a.derivative if isinstance(a, Dual) else np.zeros_like(value)
            for a, value in zip(args, values, strict=True)
        ]
        out = np.asarray(ufunc(*values))
        return Dual(out, rule(*values, *slopes, out))

    def __array_function__(self, func: Any, types: Any, args: Any, options: Any) -> Any:
        """Apply a linear NumPy function to values and derivatives alike."""
        if func is np.sum:
            return args[0].sum(*args[1:], **options)
        if func is np.where and len(args) == 3:
            condition, *choices = args
            chosen = [c if isinstance(c, Dual) else Dual(c) for c in choices]
            return Dual(
                np.where(condition, *(c.value for c in chosen)),
                np.where(condition, *(c.derivative for c in chosen)),
            )
        if func in (np.concatenate, np.stack):
            parts = [p if isinstance(p, Dual) else Dual(p) for p in args[0]]
            return Dual(
                func([p.value for p in parts], *args[1:], **options),
                func([p.derivative for p in parts], *args[1:], **options),
            )
        raise TypeError(f"Dual has no rule for np.{func.__name__}; write it with others")

    def __getitem__(self, index: Any) -> Dual:
        return Dual(self.value[index], self.derivative[index])

    def __len__(self) -> int:
        return len(self.value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.value.shape

    @property
    def T(self) -> Dual:
        """Value and derivative with their axes reversed."""
        return Dual(self.value.T, self.derivative.T)

    def reshape(self, *shape: Any) -> Dual:
        """Value and derivative in another shape."""
        return Dual(self.value.reshape(*shape), self.derivative.reshape(*shape))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Dual:
        """Sum over axes: the derivative of a sum is the sum of the derivatives."""
        return Dual(
            self.value.sum(axis=axis, keepdims=keepdims),
            self.derivative.sum(axis=axis, keepdims=keepdims),
        )


def _power_rule(x: Array, y: Array, dx: Array, dy: Array, out: Array) -> Array:
    # x⁰ is constant, also at x = 0, where 0·x⁻¹ would be NaN.
    slope = dx * y * x ** np.where(y == 0, 1.0, y - 1)
    if np.any(dy):
        slope = slope + dy * out * np.log(x)
    return np.asarray(slope)


def _real(x: Any) -> Array:
    """An array of float64; NumPy would cut off an imaginary part."""
    x = np.asarray(x)
    if np.iscomplexobj(x):
        raise ValueError(f"expected real numbers, received {x.dtype}")
    return x.astype(np.float64, copy=False)


def _point(x: Any) -> Array:
    point = np.array(_real(x))
    if point.size == 0:
        raise ValueError("x is empty; a derivative needs at least one input")
    return point


def _direction(x: Array, v: Any) -> Array:
    direction = _real(v)
    if direction.shape != x.shape:
        raise ValueError(f"expected shape {x.shape}, as x has, but received {direction.shape}")
    return direction


def _value(f: Callable[..., Any], x: Array) -> Array:
    # A copy, so that an f that writes into its input cannot spoil the next evaluation.
    value = np.asarray(f(x.copy()))
    if np.iscomplexobj(value):
        if np.any(value.imag):
            raise ValueError(f"f must return real numbers at real x, received {value}")
        value = value.real
    if not np.issubdtype(value.dtype, np.floating):
        value = value.astype(np.float64)
    if not np.all(np.isfinite(value)):
        raise ValueError(f"f is not finite near x: received {value}")
    return value


def _default_step(value: Array, x: Any, exponent: float) -> float:
    return float(np.finfo(value.dtype).eps ** exponent * max(1.0, abs(float(x))))


def _moved(x: Array, index: tuple[int, ...], step: float) -> Array:
    moved = x.copy()
    moved[index] += step
    if moved[index] == x[index]:
        raise ValueError(f"the step {step:g} vanishes beside x = {x[index]:g}; use a larger h")
    return moved


def _name(index: tuple[int, ...]) -> str:
    return "x" + "".join(f"[{i}]" for i in index)


def _check_rounding(
    here: Array, derivative: Any, x: Array, divisor: float, order: int, what: str
) -> None:
    """Refuse a default step whose difference of f drowns in the rounding of f itself.

    An error is small enough if a digit of the derivative is left, or if it is small beside the
    size that derivatives of such an f have by the largest input.
    """
    rounding = float(np.finfo(here.dtype).eps) * np.abs(here) / divisor
    usual = np.abs(here) / np.maximum(1.0, np.max(np.abs(x))) ** order
    if np.any(rounding > 0.1 * np.maximum(np.abs(derivative), usual)):
        raise ValueError(
            f"rounding hides {what}: f is {np.max(np.abs(here)):.3g} there, and with the default "
            f"step its last digits make an error of {np.max(rounding):.3g}; "
            "take a larger h, or inputs of like size"
        )


def _check_analytic(f: Callable[..., Any], x: Array, here: Array, jacobian: Array) -> None:
    """Refuse a complex step that two agreeing central differences contradict, along one direction.

    Differences that disagree with each other, or leave the domain of f, prove nothing.
    """
    weights = 1 + np.modf(0.618 * np.arange(x.size))[0].reshape(x.shape)
    direction = np.maximum(1, np.abs(x)) * weights
    claimed = np.sum(jacobian * direction, axis=tuple(range(here.ndim, jacobian.ndim)))
    eps = float(np.finfo(here.dtype).eps)
    measured = []
    for t in (eps ** (1 / 3), eps ** (1 / 3) / 8):
        try:
            with np.errstate(all="ignore"):
                ahead, behind = (_value(f, np.asarray(x + s * direction)) for s in (t, -t))
        except ValueError:
            return
        measured.append((ahead - behind) / (2 * t))
    doubt = 1e-4 * np.abs(measured[0]) + 10 * eps * np.abs(here) / t
    agree = np.abs(measured[0] - measured[1]) <= doubt
    if np.any(agree & (np.abs(claimed - measured[0]) > 10 * doubt)):
        raise ValueError(
            "the complex step and central differences disagree: f conjugates, or is otherwise "
            "not analytic here; use scheme='central'"
        )


def _complex_difference(
    f: Callable[..., Any], x: Array, index: tuple[int, ...], step: float
) -> Array:
    moved = x.astype(np.complex128)
    moved[index] += 1j * step
    value = np.asarray(f(moved))
    if not np.iscomplexobj(value):
        raise ValueError(
            "f returned real numbers for complex input: somewhere it drops the imaginary part "
            "(abs, real, a cast to float), and the derivative with it; use scheme='central'"
        )
    return np.asarray(value.imag / step)
