"""Derivatives against closed forms, SciPy, PyTorch and each other."""

from __future__ import annotations

import math
from inspect import signature

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import functional

from chainrule.math_foundations.calculus import (
    Dual,
    gradcheck,
    hessian,
    hvp,
    jvp,
    numerical_grad,
    numerical_jacobian,
    taylor2,
    vjp,
)

N, M = 5, 3


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2).sum() + (100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def layer(matrix, tanh):
    """A map with a dense, asymmetric Jacobian, for NumPy, Dual or torch by the tanh it is given."""
    return lambda x: tanh(matrix @ x) * (x * x).sum()


@pytest.fixture
def matrix(rng):
    return rng.normal(size=(M, N))


@pytest.fixture
def x(rng):
    return rng.normal(size=N)


# ---------------------------------------------------------------- numerical derivatives


@pytest.mark.parametrize(("scheme", "tolerance"), [("forward", 1e-6), ("central", 1e-9)])
def test_gradient_agrees_with_scipy_and_closed_form(x, scheme, tolerance):
    expected = scipy.optimize.rosen_der(x)
    ours = numerical_grad(rosenbrock, x, scheme=scheme)
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * 1e3)
    np.testing.assert_allclose(
        ours, scipy.optimize.approx_fprime(x, rosenbrock), rtol=1e-5, atol=1e-4
    )


def test_complex_step_is_exact_to_rounding(x):
    measured = numerical_grad(rosenbrock, x, scheme="complex")
    np.testing.assert_allclose(measured, scipy.optimize.rosen_der(x), rtol=1e-14)


@pytest.mark.parametrize("scheme", ["forward", "central", "complex"])
def test_jacobian_agrees_with_torch(matrix, x, scheme):
    f = layer(matrix, np.tanh)
    g = layer(torch.tensor(matrix), torch.tanh)
    expected = functional.jacobian(g, torch.tensor(x)).numpy()
    measured = numerical_jacobian(f, x, scheme=scheme)
    assert measured.shape == (M, N)
    tolerance = {"forward": 1e-6, "central": 1e-8, "complex": 1e-14}[scheme]
    np.testing.assert_allclose(measured, expected, atol=tolerance)


def test_jacobian_axes_are_output_then_input(rng):
    left, point = rng.normal(size=(2, 3)), rng.normal(size=(3, 5))
    jacobian = numerical_jacobian(lambda p: left @ p, point)
    expected = np.einsum("ia,jb->ijab", left, np.eye(5))
    np.testing.assert_allclose(jacobian, expected, atol=1e-9)


def test_scalar_points_give_scalar_derivatives():
    slope = numerical_grad(math.sin, 1.0)
    assert slope.shape == ()
    assert slope == pytest.approx(math.cos(1), abs=1e-9)
    assert numerical_jacobian(math.sin, 1).shape == ()


def test_integer_points_are_not_truncated():
    measured = numerical_grad(lambda x: (x**2).sum(), np.array([3, 1]))
    np.testing.assert_allclose(measured, [6, 2], rtol=1e-9)


def test_f_may_write_into_its_input(x):
    def rude(point):
        point *= 2
        return (point**2).sum()

    before = x.copy()
    np.testing.assert_allclose(numerical_grad(rude, x), 8 * x, rtol=1e-8)
    np.testing.assert_array_equal(x, before)


def test_default_step_follows_the_precision_of_f():
    def in_float32(x):
        return np.sin(x.astype(np.float32)).sum()

    point = np.array([1.0, 2.0])
    error = np.abs(numerical_grad(in_float32, point) - np.cos(point)).max()
    careless = np.abs(numerical_grad(in_float32, point, h=6e-6) - np.cos(point)).max()
    assert error < 1e-3 < careless


def test_error_curve_of_sin_at_one():
    """The numbers of the error figure: where each scheme is best, and how good it is."""

    def error(scheme, h):
        return abs(float(numerical_grad(np.sin, 1.0, h, scheme)) - math.cos(1))

    assert error("central", 1e-5) < 3e-11
    assert error("central", 1e-11) > 1e-7
    steps = 10.0 ** np.arange(-12, 0)
    best = {s: min(steps, key=lambda h, s=s: error(s, h)) for s in ("forward", "central")}
    assert 1e-9 <= best["forward"] <= 1e-7
    assert 1e-6 <= best["central"] <= 1e-4
    assert error("complex", 1e-200) < 1e-16


@given(
    st.floats(-50, 50).filter(lambda c: abs(c) > 1e-3),
    st.floats(-3, 3),
    st.sampled_from([np.sin, np.tanh, np.exp, np.arctan]),
)
def test_schemes_agree_with_dual_numbers(scale, point, ufunc):
    def f(x):
        return scale * ufunc(x) + x

    exact = float(jvp(f, point, 1.0))
    central = float(numerical_grad(f, point))
    assert central == pytest.approx(exact, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "backward"}, "scheme must be"),
        ({"h": 0.0}, "positive"),
        ({"h": -1e-5}, "positive"),
        ({"h": math.nan}, "positive"),
        ({"h": 1e-20}, "vanishes"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        numerical_grad(np.sin, 1.0, **arguments)


def test_useless_functions_are_refused():
    with pytest.raises(ValueError, match="use numerical_jacobian"):
        numerical_grad(np.sin, np.ones(3))
    with pytest.raises(ValueError, match="not finite"), np.errstate(divide="ignore"):
        numerical_grad(np.log, 0.0)
    with pytest.raises(ValueError, match="drops the imaginary part"):
        numerical_grad(np.abs, 2.0, scheme="complex")
    with pytest.raises(ValueError, match="empty"):
        numerical_grad(np.sum, np.zeros(0))


def test_the_default_step_is_small_beside_one_and_not_beside_the_bends_of_f():
    """What the page warns of: where f bends within the step, give h."""
    assert numerical_grad(np.log, 1e-5) == pytest.approx(115_905, abs=1)
    assert numerical_grad(np.log, 1e-5, h=1e-9) == pytest.approx(100_000, rel=1e-7)
    assert numerical_grad(lambda x: np.sin(1e6 * x), 1e-6) == pytest.approx(-20_144, abs=1)
    slope = numerical_grad(lambda x: np.sin(1e6 * x), 1e-6, h=1e-11)
    assert slope == pytest.approx(1e6 * math.cos(1), rel=1e-5)


def test_differences_that_drown_in_rounding_are_refused():
    """At (1e10, 0) one last digit of x² is 16,384, and a step of 6e-6 in y changes y by 6e-6."""
    x = np.array([1e10, 0.0])
    with pytest.raises(ValueError, match=r"rounding hides .* x\[1\].* larger h"):
        numerical_grad(lambda p: p[0] ** 2 + p[1], x)
    with pytest.raises(ValueError, match=r"rounding hides .* x\[1\] and x\[0\]"):
        hessian(lambda p: p @ p, x)
    np.testing.assert_allclose(hessian(lambda p: p @ p, x, h=1e6), 2 * np.eye(2), atol=1e-6)
    near = np.array([1e3, 1.0])
    np.testing.assert_allclose(hessian(lambda p: p @ p, near), 2 * np.eye(2), atol=0.02)
    # Nothing is hidden where f is large and flat, or where one input is merely larger.
    np.testing.assert_allclose(
        numerical_grad(lambda p: 1e9 * p.sum(), np.array([1e5, 1.0])), 1e9, rtol=1e-6
    )
    assert np.abs(hessian(lambda p: 1e9 * p.sum(), np.ones(2))).max() < 1e3


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.vdot(x, x),
        lambda x: (x * x.conj()).sum() + 0j,
        lambda x: np.sqrt(x.conj() @ x) + x.sum(),
        lambda x: x * x.conj() * np.array([0, 0, 1, 0, 0]) + x,
    ],
)
def test_complex_steps_through_a_conjugation_are_refused(f, x):
    with pytest.raises(ValueError, match="conjugates"):
        numerical_jacobian(f, x, scheme="complex")


def test_complex_steps_go_where_differences_cannot():
    """A difference sees nothing of a wave of 1e6, so it cannot accuse the complex step."""
    exact = 1e6 * math.cos(1)
    steep = numerical_grad(lambda x: np.sin(1e6 * x), 1e-6, scheme="complex")
    assert steep == pytest.approx(exact, rel=1e-14)
    assert numerical_grad(np.log, 1e-5, scheme="complex") == pytest.approx(1e5, rel=1e-14)
    assert numerical_grad(np.log, 1e-9, scheme="complex") == pytest.approx(1e9, rel=1e-14)


def test_complex_numbers_are_refused_and_not_cut():
    for call in (
        lambda: numerical_grad.__wrapped__(np.sin, np.array([1 + 2j])),
        lambda: jvp.__wrapped__(np.sin, np.array([1 + 2j]), np.array([1.0])),
        lambda: jvp.__wrapped__(np.sin, np.array([1.0]), np.array([1j])),
        lambda: vjp.__wrapped__(np.array([[1j]]), np.ones(1)),
        lambda: Dual(np.array([1j])),
    ):
        with pytest.raises(ValueError, match="expected real numbers, received complex128"):
            call()
    with pytest.raises(ValueError, match="real numbers at real x"):
        numerical_grad(lambda x: 1j * x.sum(), np.ones(2))
    measured = numerical_grad(lambda x: (x * x).sum() + 0j, np.ones(2), scheme="complex")
    np.testing.assert_array_equal(measured, [2, 2])


# ---------------------------------------------------------------- second order


def test_hessian_agrees_with_torch_and_scipy(x):
    expected = functional.hessian(rosenbrock, torch.tensor(x)).numpy()
    measured = hessian(rosenbrock, x)
    np.testing.assert_allclose(measured, expected, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(measured, scipy.optimize.rosen_hess(x), rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(measured, measured.T)


def test_hessian_of_a_matrix_argument(rng):
    point = rng.normal(size=(2, 3))
    measured = hessian(lambda p: (p**3).sum(), point)
    assert measured.shape == (2, 3, 2, 3)
    expected = np.diag(6 * point.ravel()).reshape(2, 3, 2, 3)
    np.testing.assert_allclose(measured, expected, atol=1e-5)


def test_hessian_refuses_vectors_and_bad_steps():
    with pytest.raises(ValueError, match="one number"):
        hessian(np.sin, np.ones(3))
    with pytest.raises(ValueError, match="positive"):
        hessian(np.sum, np.ones(3), h=0.0)


def test_hvp_agrees_with_torch_three_ways(x, rng):
    v = rng.normal(size=N)
    grad = scipy.optimize.rosen_der
    expected = functional.hvp(rosenbrock, torch.tensor(x), torch.tensor(v))[1].numpy()
    np.testing.assert_allclose(hvp(grad, x, v), expected, rtol=1e-7)
    np.testing.assert_allclose(hvp(grad, x, 1e6 * v), 1e6 * expected, rtol=1e-7)
    np.testing.assert_allclose(hvp(grad, x, v), scipy.optimize.rosen_hess_prod(x, v), rtol=1e-7)


def test_hvp_of_a_differentiable_gradient_is_a_jvp(rng):
    matrix, x, v = rng.normal(size=(N, N)), rng.normal(size=N), rng.normal(size=N)

    def grad(point):
        return (matrix + matrix.T) @ point + point**3

    exact = jvp(grad, x, v)
    np.testing.assert_allclose(exact, (matrix + matrix.T) @ v + 3 * x**2 * v, rtol=1e-14)
    np.testing.assert_allclose(hvp(grad, x, v), exact, rtol=1e-7)


def test_hvp_along_nothing_is_nothing(x):
    np.testing.assert_array_equal(hvp(scipy.optimize.rosen_der, x, np.zeros(N)), np.zeros(N))
    with pytest.raises(ValueError, match="expected shape"):
        hvp(scipy.optimize.rosen_der, x, 1.0)


def cubic_grad(x):  # of Σ x⁴, whose Hessian is 12 x² on the diagonal
    return 4 * x**3


@pytest.mark.parametrize(
    ("v", "expected"),
    [((0, 1), (0, 12)), ((1, 0), (12e16, 0)), ((1, 1), (12e16, 12)), ((1e-8, 1), (12e8, 12))],
)
def test_hvp_at_coordinates_of_different_size(v, expected):
    product = hvp(cubic_grad, np.array([1e8, 1.0]), np.array(v, dtype=float))
    np.testing.assert_allclose(product, expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
def test_hvp_along_a_tiny_or_huge_direction(x, size):
    v = np.array([1.0, -2.0, 0.5, 0.0, 1.5])
    expected = scipy.optimize.rosen_hess_prod(x, v)
    np.testing.assert_allclose(
        hvp(scipy.optimize.rosen_der, x, size * v) / size, expected, rtol=1e-7
    )


def test_hvp_names_what_does_not_fit(x):
    with pytest.raises(ValueError, match=r"gradient of shape \(5,\), received \(3,\)"):
        hvp(lambda p: p[:3], x, x)
    with pytest.raises(ValueError, match="v must be finite"):
        hvp(scipy.optimize.rosen_der, x, np.full(N, np.nan))
    with pytest.raises(ValueError, match=r"rounding hides"):
        hvp(lambda p: (p @ p) * np.ones(2), np.array([1e10, 1.0]), np.array([0.0, 1.0]))


def test_taylor2_of_exp():
    quadratic = taylor2(np.exp, 0.0)
    assert quadratic(0.1) == pytest.approx(1.105, abs=1e-8)
    assert math.exp(0.1) - quadratic(0.1) == pytest.approx(0.1**3 / 6, rel=0.03)


def test_taylor2_reproduces_a_quadratic_everywhere(matrix, x, rng):
    gram, b = matrix.T @ matrix, rng.normal(size=N)
    quadratic = taylor2(lambda p: p @ gram @ p + b @ p + 7, x)
    far = 10 * rng.normal(size=N)
    assert quadratic(far) == pytest.approx(far @ gram @ far + b @ far + 7, rel=1e-6)


def test_taylor2_error_is_third_order(x):
    quadratic = taylor2(rosenbrock, x)
    direction = np.ones(N)
    errors = [abs(rosenbrock(x + t * direction) - quadratic(x + t * direction)) for t in (0.2, 0.1)]
    assert 6 < errors[0] / errors[1] < 10


# ---------------------------------------------------------------- products with the Jacobian


def test_jvp_and_vjp_agree_with_torch(matrix, x, rng):
    v, u = rng.normal(size=N), rng.normal(size=M)
    f, g = layer(matrix, np.tanh), layer(torch.tensor(matrix), torch.tanh)
    point = torch.tensor(x)
    forward = functional.jvp(g, point, torch.tensor(v))[1].numpy()
    backward = functional.vjp(g, point, torch.tensor(u))[1].numpy()
    np.testing.assert_allclose(jvp(f, x, v), forward, rtol=1e-13)
    jacobian = numerical_jacobian(f, x, scheme="complex")
    np.testing.assert_allclose(vjp(jacobian, u), backward, rtol=1e-12)
    assert u @ jvp(f, x, v) == pytest.approx(vjp(jacobian, u) @ v, rel=1e-12)


def test_vjp_walks_a_chain_from_its_end(rng):
    first, second, third = (rng.normal(size=s) for s in ((5, 7), (3, 5), (2, 3)))
    u = rng.normal(size=2)
    np.testing.assert_allclose(vjp([first, second, third], u), u @ third @ second @ first)


def test_vjp_refuses_shapes_that_do_not_fit(matrix):
    with pytest.raises(ValueError, match=r"one row of numbers, received shape \(3, 1\)"):
        vjp.__wrapped__(matrix, np.ones((M, 1)))
    with pytest.raises(ValueError, match=r"a row of 5 numbers .* \(3, 5\); expected \(5, n\)"):
        vjp([matrix], np.ones(N))


def test_jvp_of_a_constant_is_zero(x):
    np.testing.assert_array_equal(jvp(lambda p: np.ones(2), x, x), np.zeros(2))
    with pytest.raises(ValueError, match="expected shape"):
        jvp(np.sin, x, 1.0)


# ---------------------------------------------------------------- dual numbers

UNARY = [
    (np.negative, torch.neg),
    (np.positive, torch.positive),
    (np.exp, torch.exp),
    (np.log, torch.log),
    (np.sqrt, torch.sqrt),
    (np.square, torch.square),
    (np.reciprocal, torch.reciprocal),
    (np.sin, torch.sin),
    (np.cos, torch.cos),
    (np.tan, torch.tan),
    (np.tanh, torch.tanh),
    (np.sinh, torch.sinh),
    (np.cosh, torch.cosh),
    (np.arctan, torch.arctan),
    (np.log1p, torch.log1p),
    (np.expm1, torch.expm1),
    (np.absolute, torch.abs),
]


@pytest.mark.parametrize(("ours", "theirs"), UNARY, ids=lambda f: getattr(f, "__name__", str(f)))
def test_every_unary_rule_agrees_with_torch(ours, theirs, rng):
    x, v = rng.uniform(0.1, 1.4, size=7), rng.normal(size=7)
    expected = functional.jvp(theirs, torch.tensor(x), torch.tensor(v))[1].numpy()
    np.testing.assert_allclose(jvp(ours, x, v), expected, rtol=1e-13)


BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: a**b,
    lambda a, b: 2.5 - a / 3 + b * 4,
    lambda a, b: 2**a + b**3 + 1 / b,
    lambda a, b: a**0 + b**-2,
]


@pytest.mark.parametrize("f", BINARY)
def test_every_operator_agrees_with_torch(f, rng):
    a, b, da, db = (rng.uniform(0.5, 2, size=5) for _ in range(4))
    arguments = tuple(map(torch.tensor, (a, b)))
    expected = functional.jvp(f, arguments, tuple(map(torch.tensor, (da, db))))[1].numpy()
    np.testing.assert_allclose(f(Dual(a, da), Dual(b, db)).derivative, expected, rtol=1e-13)


def test_matmul_maximum_and_minimum_agree_with_torch(rng):
    a, da = rng.normal(size=(2, 2, 3))
    b, db = rng.normal(size=(2, 3, 5))

    def f(library):
        return lambda p, q: (
            library.maximum(p @ q, q[:2] * 0.5) - library.minimum(q.T[:2, :2], p[:, :2])[:, :1]
        )

    arguments = tuple(map(torch.tensor, (a, b)))
    expected = functional.jvp(f(torch), arguments, tuple(map(torch.tensor, (da, db))))[1].numpy()
    np.testing.assert_allclose(f(np)(Dual(a, da), Dual(b, db)).derivative, expected, rtol=1e-12)


def test_shape_operations_carry_the_derivative(rng):
    x, v = rng.normal(size=(2, 2, 3))

    def f(library):
        def g(p):
            joined = library.concatenate([p, 2 * p], 0)
            return library.stack([joined.sum(0), joined.T.reshape(3, 4).sum(1)], 1) * joined[0, 1]

        return g

    expected = functional.jvp(f(torch), torch.tensor(x), torch.tensor(v))[1].numpy()
    np.testing.assert_allclose(jvp(f(np), x, v), expected, rtol=1e-13)
    np.testing.assert_allclose(jvp(np.sum, x, v), v.sum(), rtol=1e-13)


def test_constants_join_duals():
    out = np.concatenate([Dual(np.ones(2), np.ones(2)), np.zeros(3)])
    np.testing.assert_array_equal(out.derivative, [1, 1, 0, 0, 0])
    np.testing.assert_array_equal((np.arange(3) * Dual(2.0, 1.0)).derivative, [0, 1, 2])


def test_where_chooses_derivatives_with_values():
    x = np.array([-2.0, -1.0, 3.0])
    leaky = jvp(lambda p: np.where(p > 0, p, 0.1 * p), x, np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(leaky, [0.1, 0.2, 4.0], rtol=1e-14)
    step = jvp(lambda p: np.where(p > 0, 1.0, 0.0) * p, x, np.ones(3))
    np.testing.assert_array_equal(step, [0, 0, 1])


def test_a_list_of_duals_is_refused():
    with pytest.raises(TypeError, match="drop its derivative"):
        jvp(lambda p: [p[0], p[1]], np.ones(2), np.ones(2))


def test_programs_with_branches_and_loops():
    def newton_root(a):
        guess = a if a > 1 else a + 1.0
        for _ in range(30):
            guess = (guess + a / guess) / 2
        return guess

    assert float(jvp(newton_root, 9.0, 1.0)) == pytest.approx(1 / 6, rel=1e-14)
    assert float(jvp(newton_root, 0.25, 1.0)) == pytest.approx(1.0, rel=1e-14)


def test_a_branch_on_equality_is_differentiated_as_it_ran():
    """What the page says of Dual: the value is right, the slope is that of the branch taken."""
    same = jvp(lambda x: 0 * x if x == 0 else x, 0.0, 1.0)
    assert float(same) == 0  # the function is x, and its derivative is 1
    assert float(jvp(lambda x: 0 * x if x == 0 else x, 1e-300, 1.0)) == 1


def test_ten_layers_against_the_chain_rule_by_hand():
    out, slope = 0.7, 1.0
    for _ in range(10):
        slope *= (1 - math.tanh(1.3 * out) ** 2) * 1.3
        out = math.tanh(1.3 * out)

    def chain(x):
        for _ in range(10):
            x = np.tanh(1.3 * x)
        return x

    assert float(jvp(chain, 0.7, 1.0)) == pytest.approx(slope, rel=1e-14)


def test_power_at_zero():
    assert float(jvp(lambda x: x**0, 0.0, 1.0)) == 0
    assert float(jvp(lambda x: x**1, 0.0, 1.0)) == 1
    assert float(jvp(lambda x: x**2, 0.0, 1.0)) == 0
    assert float(jvp(lambda x: x**2, -3.0, 1.0)) == -6


def test_subgradients_chosen_at_kinks():
    assert float(jvp(np.abs, 0.0, 1.0)) == 0
    assert float(jvp(lambda x: np.maximum(x, 0), 0.0, 1.0)) == 1
    assert float(jvp(lambda x: np.maximum(0, x), 0.0, 1.0)) == 0
    assert float(jvp(lambda x: np.minimum(x, 0), 0.0, 1.0)) == 1


def test_dual_refuses_what_would_lose_the_derivative():
    dual = Dual(np.ones(3), np.ones(3))
    with pytest.raises(TypeError, match=r"no rule for np\.floor"):
        np.floor(dual)
    with pytest.raises(TypeError, match=r"no rule for np\.prod"):
        np.prod(dual)
    with pytest.raises(TypeError, match=r"no rule for np\.add\.reduce"):
        np.add.reduce(dual)
    with pytest.raises(TypeError, match="drop its derivative"):
        np.array([dual[0], dual[1]])
    with pytest.raises(TypeError):
        math.sin(dual[0])
    with pytest.raises(TypeError, match="cannot hold a Dual"):
        Dual(dual)
    with pytest.raises(ValueError, match="broadcast"):
        Dual(np.ones(3), np.ones(2))
    with pytest.raises(TypeError, match="unhashable"):
        hash(dual)


def test_dual_shows_itself_and_compares_by_value():
    assert repr(Dual(3, 1)) == "Dual(3.0, 1.0)"
    assert Dual(3, 1) == 3
    assert Dual(2, 5) < Dual(3, -5)
    assert len(Dual(np.ones(4))) == 4
    assert Dual(np.ones((2, 3))).shape == (2, 3)


# ---------------------------------------------------------------- gradcheck


def test_gradcheck_passes_right_gradients(matrix, x):
    b = np.arange(M)

    def loss(p):
        return ((matrix @ p - b) ** 2).sum()

    assert gradcheck(loss, lambda p: 2 * matrix.T @ (matrix @ p - b), x) < 1e-7
    gram = matrix.T @ matrix + np.eye(N)
    logdet = gradcheck(lambda a: np.linalg.slogdet(a)[1], lambda a: np.linalg.inv(a).T, gram)
    assert logdet < 1e-7


@given(st.integers(0, N - 1), st.sampled_from([1e-3, -1e-3, 1.0, math.nan]))
def test_gradcheck_finds_one_wrong_coordinate(index, fault):
    weights = 10.0 ** np.arange(-2, N - 2)

    def wrong(p):
        grad = 2 * weights * p
        grad[index] *= 1 + fault
        return grad

    with pytest.raises(AssertionError, match=rf"index \({index},\)"):
        gradcheck(lambda p: (weights * p**2).sum(), wrong, np.ones(N), atol=1e-6)


def test_gradcheck_sees_the_missing_transpose(rng):
    matrix, x = rng.normal(size=(N, N)), rng.normal(size=N)
    with pytest.raises(AssertionError, match="grad says"):
        gradcheck(lambda p: p @ matrix @ p, lambda p: 2 * matrix @ p, x)


def test_gradcheck_refuses_a_wrong_shape(x):
    with pytest.raises(ValueError, match=r"shape \(1, 5\)"):
        gradcheck(lambda p: (p**2).sum(), lambda p: 2 * p[None], x)


# ---------------------------------------------------------------- worked numbers of the document


def test_derivative_of_one_neuron_by_hand():
    def neuron(w):
        return 1 / (1 + np.exp(-(w * 2 - 1)))

    assert float(jvp(neuron, 0.5, 1.0)) == 0.5
    assert float(numerical_grad(neuron, 0.5)) == pytest.approx(0.5, abs=1e-10)


def test_steepest_steps_under_three_norms(rng):
    """No unit step beats g/‖g‖₂, sign(g) or UVᵀ under its own norm, and each reaches the dual."""
    g = rng.normal(size=N)
    steps = rng.normal(size=(1000, N))
    euclidean = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    box = steps / np.abs(steps).max(axis=1, keepdims=True)
    assert (euclidean @ g).max() < g @ (g / np.linalg.norm(g))
    assert (box @ g).max() < g @ np.sign(g)
    gradient = rng.normal(size=(3, 4))
    u, s, vt = np.linalg.svd(gradient, full_matrices=False)
    matrices = rng.normal(size=(1000, 3, 4))
    matrices /= np.linalg.norm(matrices, ord=2, axis=(1, 2))[:, None, None]
    assert np.einsum("nij,ij", matrices, gradient).max() < s.sum()
    assert (u @ vt * gradient).sum() == pytest.approx(s.sum())


# ---- what the page says of PyTorch --------------------------------------------------------------


def test_what_the_page_says_of_gradcheck_in_torch(rng):
    check = torch.autograd.gradcheck
    defaults = {name: p.default for name, p in signature(check).parameters.items()}
    assert (defaults["eps"], defaults["atol"], defaults["rtol"]) == (1e-6, 1e-5, 0.001)
    x = torch.tensor(rng.normal(size=5), requires_grad=True)
    assert check(lambda x: (x**3).sum(), (x,))
    single = x.detach().to(torch.float32).requires_grad_()
    with pytest.warns(UserWarning, match="double precision"):
        check(lambda x: (x**3).sum(), (single,), raise_exception=False)


def test_what_the_page_says_of_jacobians_in_torch(rng):
    matrix = torch.tensor(rng.normal(size=(3, 5)))
    x, v, u = (torch.tensor(rng.normal(size=n)) for n in (5, 5, 3))

    def f(x):
        return torch.tanh(matrix @ x)

    J = numerical_jacobian(lambda x: np.tanh(matrix.numpy() @ x), x.numpy())
    out, forward = torch.func.jvp(f, (x,), (v,))
    np.testing.assert_allclose(out, f(x), rtol=1e-12)
    np.testing.assert_allclose(forward, J @ v.numpy(), atol=1e-8)
    out, pull = torch.func.vjp(f, x)
    np.testing.assert_allclose(out, f(x), rtol=1e-12)
    np.testing.assert_allclose(pull(u)[0], u.numpy() @ J, atol=1e-8)
    for whole in (torch.func.jacfwd(f)(x), torch.func.jacrev(f)(x)):
        assert whole.shape == (3, 5)
        np.testing.assert_allclose(whole, J, atol=1e-8)

    weights = x.clone().requires_grad_()
    (f(weights) ** 2).sum().backward()
    (row,) = torch.func.vjp(lambda x: (f(x) ** 2).sum(), x)[1](torch.tensor(1.0).double())
    np.testing.assert_allclose(weights.grad, row, rtol=1e-12)
