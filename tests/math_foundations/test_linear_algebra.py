"""Every function against NumPy, SciPy or scikit-learn, and against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity as sklearn_cosine

from chainrule.math_foundations.linear_algebra import (
    cosine_similarity,
    eig_symmetric_jacobi,
    gram_schmidt,
    low_rank,
    lstsq,
    matmul_naive,
    pca,
    polar_factor,
    power_iteration,
    randomized_svd,
    svd,
)

EXAMPLE = np.array([[4.0, 2.0], [1.0, 3.0]])
SHEARED = np.array([[3.0, 0.0], [4.0, 5.0]])


@st.composite
def matrices(draw, max_side=7):
    """Tall, wide and square matrices of every rank from 0 to full, over many scales."""
    m, n = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    rank = draw(st.integers(0, min(m, n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = 10.0 ** draw(st.integers(-100, 100))
    return scale * rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)), rank


def graded(rng, m, n, smallest):
    """A matrix whose singular values fall from 1 to ``smallest``."""
    left = np.linalg.qr(rng.standard_normal((m, n)))[0]
    right = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return left * np.geomspace(1, smallest, n) @ right


def assert_orthonormal(Q, tolerance=1e-13):
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), rtol=0, atol=tolerance)


# --- products ------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 5), st.integers(1, 5))
def test_matmul_is_numpys(m, n, p):
    rng = np.random.default_rng(m * 100 + n * 10 + p)
    A, B = rng.standard_normal((m, n)), rng.standard_normal((n, p))
    np.testing.assert_allclose(matmul_naive(A, B), A @ B, rtol=1e-12, atol=1e-14)


def test_matmul_keeps_integers():
    assert matmul_naive(np.array([[1, 2]]), np.array([[3], [4]])).dtype.kind == "i"


def test_matmul_names_both_shapes_when_they_do_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 3\)"):
        matmul_naive.__wrapped__(np.ones((2, 3)), np.ones((2, 3)))


# --- Gram-Schmidt --------------------------------------------------------------------------


@given(matrices())
def test_gram_schmidt_factors_at_every_rank(drawn):
    A, rank = drawn
    Q, R = gram_schmidt(A)
    assert Q.shape == (len(A), rank)
    assert_orthonormal(Q)
    np.testing.assert_allclose(Q @ R, A, rtol=0, atol=1e-13 * np.abs(A).max())


def test_gram_schmidt_is_numpys_qr_with_a_positive_diagonal(rng):
    A = rng.standard_normal((7, 5))
    Q, R = gram_schmidt(A)
    Q_numpy, R_numpy = np.linalg.qr(A)
    signs = np.sign(np.diag(R_numpy))
    np.testing.assert_allclose(Q, Q_numpy * signs, atol=1e-13)
    np.testing.assert_allclose(R, R_numpy * signs[:, None], atol=1e-13)


def test_gram_schmidt_stays_orthogonal_where_one_pass_would_not(rng):
    assert_orthonormal(gram_schmidt(graded(rng, 11, 7, 1e-12))[0])


# --- eigenvalues ---------------------------------------------------------------------------


def test_power_iteration_finds_the_worked_example(rng):
    value, vector = power_iteration(EXAMPLE, 60, rng)
    assert value == pytest.approx(5, rel=1e-12)
    np.testing.assert_allclose(abs(vector), np.array([2, 1]) / np.sqrt(5), rtol=1e-12)


def test_power_iteration_converges_at_the_ratio_of_eigenvalues():
    errors = []
    for iters in (6, 16):
        _, v = power_iteration(EXAMPLE, iters, np.random.default_rng(3))
        errors.append(abs(v[0] * 1 - v[1] * 2))
    assert (errors[1] / errors[0]) ** (1 / 10) == pytest.approx(2 / 5, abs=0.01)


def test_the_eigenvalue_of_a_symmetric_matrix_converges_at_the_square_of_the_ratio():
    A = np.diag([5.0, 2.0])
    errors = []
    for iters in (6, 12):
        value, v = power_iteration(A, iters, np.random.default_rng(3))
        errors.append((5 - value, abs(v[1])))
    of_value, of_vector = (np.divide(*pair) ** (1 / 6) for pair in zip(*errors[::-1], strict=True))
    assert of_vector == pytest.approx(2 / 5, abs=0.01)
    assert of_value == pytest.approx((2 / 5) ** 2, abs=0.01)


def test_the_cubic_takes_all_of_zero_to_root_three_to_one_but_not_at_once():
    values = np.linspace(0.001, 3**0.5 - 0.001, 1001)
    first = 1.5 * values - 0.5 * values**3
    assert np.any(np.abs(first - 1) > np.abs(values - 1))
    assert np.all((first > 0) & (first <= 1))
    for _ in range(30):
        first = 1.5 * first - 0.5 * first**3
    np.testing.assert_allclose(first, 1, atol=1e-12)


def test_power_iteration_takes_the_largest_size_not_the_largest_value(rng):
    value, _ = power_iteration(np.diag([-3.0, 2.0, 1.0]), 200, rng)
    assert value == pytest.approx(-3)


def test_power_iteration_survives_a_matrix_that_kills_everything(rng):
    assert power_iteration(np.array([[0.0, 1.0], [0.0, 0.0]]), 5, rng)[0] == 0


@given(st.integers(1, 9), st.integers(0, 10_000), st.integers(-100, 100))
def test_jacobi_is_eigh(n, seed, exponent):
    M = np.random.default_rng(seed).standard_normal((n, n)) * 10.0**exponent
    A = M + M.T
    values, vectors = eig_symmetric_jacobi(A)
    size = np.abs(A).max()
    np.testing.assert_allclose(values, np.linalg.eigvalsh(A)[::-1], rtol=0, atol=1e-13 * size)
    assert_orthonormal(vectors)
    np.testing.assert_allclose(A @ vectors, vectors * values, rtol=0, atol=1e-13 * size)


@pytest.mark.parametrize(
    ("A", "values"),
    [
        (np.zeros((3, 3)), [0, 0, 0]),
        (np.array([[0.0, 1.0], [1.0, 0.0]]), [1, -1]),
        (np.ones((5, 5)), [5, 0, 0, 0, 0]),
        (np.array([[2, 1], [1, 2]]), [3, 1]),
        (np.array([[-7.0]]), [-7]),
    ],
)
def test_jacobi_ends_on_zero_diagonals_and_repeated_values(A, values):
    np.testing.assert_allclose(eig_symmetric_jacobi(A)[0], values, atol=1e-14)


# --- singular values -----------------------------------------------------------------------


@given(matrices())
def test_svd_is_numpys_at_every_shape_and_rank(drawn):
    A, rank = drawn
    U, S, Vt = svd(A)
    size = np.linalg.norm(A)
    np.testing.assert_allclose(S, np.linalg.svd(A, compute_uv=False), rtol=0, atol=1e-13 * size)
    np.testing.assert_allclose((U * S) @ Vt, A, rtol=0, atol=1e-13 * size)
    assert_orthonormal(U)
    assert_orthonormal(Vt.T)
    assert (np.diff(S) <= 0).all()
    assert np.count_nonzero(S) == rank


@pytest.mark.parametrize("smallest", [1e-6, 1e-12, 1e-15, 1e-25])
def test_svd_keeps_the_digits_that_squaring_loses(rng, smallest):
    A = graded(rng, 13, 11, smallest)
    U, S, Vt = svd(A)
    np.testing.assert_allclose(S, np.geomspace(1, smallest, 11), rtol=0, atol=1e-14)
    np.testing.assert_allclose((U * S) @ Vt, A, rtol=0, atol=1e-14)
    assert_orthonormal(U)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_nothing_overflows_or_vanishes_when_it_is_squared(rng, scale):
    A = rng.standard_normal((5, 3))
    np.testing.assert_allclose(svd(scale * A)[1] / scale, svd(A)[1], rtol=1e-13)
    np.testing.assert_allclose(gram_schmidt(scale * A)[1] / scale, gram_schmidt(A)[1], atol=1e-14)
    np.testing.assert_allclose(cosine_similarity(scale * A, A), cosine_similarity(A, A), atol=1e-14)
    assert power_iteration(scale * EXAMPLE, 60, rng)[0] / scale == pytest.approx(5)
    np.testing.assert_allclose(lstsq(scale * A, scale * A[:, 0]), [1, 0, 0], atol=1e-13)


def test_svd_of_the_worked_example():
    np.testing.assert_allclose(svd(SHEARED)[1], np.sqrt([45, 5]), rtol=1e-14)


def test_svd_of_float32_stays_float32(rng):
    A = rng.standard_normal((11, 7)).astype(np.float32)
    U, S, Vt = svd(A)
    assert {U.dtype, S.dtype, Vt.dtype} == {np.dtype(np.float32)}
    np.testing.assert_allclose((U * S) @ Vt, A, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (5, 5)])
def test_polar_factor_is_scipys(rng, shape):
    A = rng.standard_normal(shape)
    side = "right" if shape[0] >= shape[1] else "left"
    np.testing.assert_allclose(polar_factor(A), scipy.linalg.polar(A, side)[0], atol=1e-13)


def test_polar_factor_of_a_singular_matrix_is_still_orthogonal(rng):
    A = np.outer(rng.standard_normal(5), rng.standard_normal(5))
    assert_orthonormal(polar_factor(A))


@given(matrices(), st.data())
def test_low_rank_error_is_the_next_singular_value(drawn, data):
    A, _ = drawn
    k = data.draw(st.integers(0, min(A.shape)))
    S = np.append(np.linalg.svd(A, compute_uv=False), 0)
    best = low_rank(A, k)
    assert np.linalg.norm(A - best, 2) == pytest.approx(S[k], abs=1e-13 * max(S[0], 1e-300))
    assert np.count_nonzero(svd(best)[1] > 1e-12 * S[0]) <= k


@given(matrices(), st.integers(0, 3))
def test_lstsq_is_numpys_shortest_solution(drawn, columns):
    A, _ = drawn
    shape = (len(A), columns) if columns else (len(A),)
    b = np.random.default_rng(1).standard_normal(shape)
    expected = np.linalg.lstsq(A, b, rcond=1e-13)[0]
    np.testing.assert_allclose(
        lstsq(A, b), expected, rtol=0, atol=1e-8 * max(np.abs(expected).max(), 1e-300)
    )


def test_randomized_svd_finds_the_leading_part(rng):
    A = graded(rng, 97, 53, 1e-9)
    U, S, Vt = randomized_svd(A, 7, rng)
    np.testing.assert_allclose(S, np.geomspace(1, 1e-9, 53)[:7], rtol=1e-10)
    assert_orthonormal(U)
    assert_orthonormal(Vt.T)
    assert np.linalg.norm(A - (U * S) @ Vt, 2) == pytest.approx(svd(A)[1][7], rel=1e-6)


def test_randomized_svd_of_less_rank_than_asked(rng):
    A = np.outer(np.arange(1.0, 8), np.arange(1.0, 6))
    U, S, Vt = randomized_svd(A, 3, rng)
    assert (U.shape, S.shape, Vt.shape) == ((7, 3), (3,), (3, 5))
    np.testing.assert_allclose((U * S) @ Vt, A, atol=1e-12)
    assert_orthonormal(U)


# --- data ----------------------------------------------------------------------------------


def test_pca_is_scikit_learns_on_digits():
    X = load_digits().data
    components, variances, scores = pca(X, 5)
    oracle = PCA(5, svd_solver="full").fit(X)
    np.testing.assert_allclose(components, oracle.components_, atol=1e-9)
    np.testing.assert_allclose(
        variances, oracle.explained_variance_ * (len(X) - 1) / len(X), rtol=1e-11
    )
    np.testing.assert_allclose(scores, oracle.transform(X), atol=1e-8)


def test_digits_need_21_components_for_90_percent_and_29_for_95():
    variances = pca(load_digits().data, 64)[1]
    share = np.cumsum(variances) / variances.sum()
    assert round(100 * share[1], 1) == 28.5
    assert [int(np.argmax(share >= part)) + 1 for part in (0.90, 0.95)] == [21, 29]
    assert np.count_nonzero(variances) == 61


def test_pca_of_the_four_worked_points():
    X = np.array([[2, 1], [1, 2], [-1, -2], [-2, -1]])
    components, variances, _ = pca(X, 2)
    np.testing.assert_allclose(variances, [4.5, 0.5], rtol=1e-14)
    np.testing.assert_allclose(components[0], np.array([1, 1]) / np.sqrt(2), rtol=1e-14)


def test_pca_does_not_see_where_the_data_lie(rng):
    X = rng.standard_normal((13, 5))
    for moved, still in zip(pca(X + 1000.0, 3), pca(X, 3), strict=True):
        np.testing.assert_allclose(moved, still, atol=1e-9)


def test_cosine_similarity_is_scikit_learns_even_for_zero_rows(rng):
    U, V = rng.standard_normal((5, 3)), rng.standard_normal((7, 3))
    U[2] = 0
    np.testing.assert_allclose(cosine_similarity(U, V), sklearn_cosine(U, V), atol=1e-15)


# --- the edges of float64 and of rank ------------------------------------------------------


def test_randomized_svd_of_nothing(rng):
    U, S, Vt = randomized_svd(np.zeros((6, 5)), 3, rng)
    assert S.tolist() == [0, 0, 0]
    assert_orthonormal(U)
    assert_orthonormal(Vt.T)


@pytest.mark.parametrize("scale", [1e308, 1e-308])
def test_randomized_svd_at_the_ends_of_the_range(rng, scale):
    A = graded(rng, 13, 7, 1e-3)
    np.testing.assert_allclose(
        randomized_svd(scale * A, 3, rng)[1] / scale, np.geomspace(1, 1e-3, 7)[:3], rtol=1e-10
    )


@pytest.mark.parametrize(
    "function", [svd, gram_schmidt, polar_factor, eig_symmetric_jacobi, lambda A: lstsq(A, A[:, 0])]
)
def test_complex_matrices_are_refused_and_not_cut(function):
    A = np.array([[1, 2j], [-2j, 3]])
    with pytest.raises(ValueError, match="expected real numbers, received complex128"):
        getattr(function, "__wrapped__", function)(A)


def test_lstsq_refuses_right_hand_sides_that_are_no_numbers():
    A = np.eye(2)
    with pytest.raises(ValueError, match="received 1 that are not"):
        lstsq(A, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="expected real numbers"):
        lstsq.__wrapped__(A, np.array([1.0, 1j]))


def test_jacobi_near_the_largest_float():
    A = np.array([[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(eig_symmetric_jacobi(1e308 * A)[0] / 1e308, [1.5, 0.5], rtol=1e-14)
    np.testing.assert_allclose(eig_symmetric_jacobi(1e308 * -A)[0] / 1e308, [-0.5, -1.5])
    with pytest.raises(ValueError, match=r"larger than float64 can hold, 1\.8e\+308"):
        eig_symmetric_jacobi(1e308 * np.array([[1.0, 0.9], [0.9, 1.0]]))
    with pytest.raises(ValueError, match="larger than float64 can hold"):
        svd(1e308 * np.array([[1.0, 0.9], [0.9, 1.0]]))


def test_variances_that_no_float_can_hold_are_refused(rng):
    X = rng.standard_normal((7, 3))
    with pytest.raises(ValueError, match="larger than float64 can hold"):
        pca(1e200 * X, 2)
    np.testing.assert_allclose(pca(1e150 * X, 2)[1] / 1e300, pca(X, 2)[1], rtol=1e-12)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16])
def test_matmul_of_small_integers_does_not_wrap(kind):
    A = np.full((2, 3), np.iinfo(kind).max, dtype=kind)
    np.testing.assert_array_equal(matmul_naive(A, A.T), A.astype(object) @ A.T.astype(object))


@pytest.mark.parametrize(
    "A", [np.diag([3.0, -3.0, 1.0]), np.array([[0.0, 1.0], [-1.0, 0.0]]), np.diag([2.0, -1.999])]
)
def test_power_iteration_says_so_where_it_swings_between_two_directions(A, rng):
    with pytest.raises(ValueError, match="share the largest size"):
        power_iteration(A, 50, rng)


@pytest.mark.parametrize("shape", [(1000, 3), (3, 1000)])
def test_variance_of_the_components_is_that_of_the_singular_values(rng, shape):
    """The page's link: components are right singular vectors, variances σ²/n, their sum tr C."""
    X = rng.standard_normal(shape) * 3 + 7
    centred = X - X.mean(axis=0)
    k = min(shape)
    components, variances, _ = pca(X, k)
    _, S, Vt = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(variances, S[:k] ** 2 / len(X), rtol=0, atol=1e-10)
    C = centred.T @ centred / len(X)
    assert variances.sum() == pytest.approx(np.trace(C), rel=1e-12)
    assert variances.sum() == pytest.approx((centred**2).sum(axis=1).mean(), rel=1e-12)
    rank = np.count_nonzero(variances)
    np.testing.assert_allclose(
        np.abs((components * Vt[:k]).sum(axis=1))[:rank], 1, rtol=0, atol=1e-8
    )


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: svd.__wrapped__(np.ones(3)), r"received \(3,\)"),
        (lambda: svd(np.ones((0, 3))), r"received \(0, 3\)"),
        (lambda: svd(np.array([[1.0, np.nan]])), "received 1 that are not"),
        (lambda: power_iteration(EXAMPLE, 0, np.random.default_rng(0)), "iters=0"),
        (lambda: eig_symmetric_jacobi(EXAMPLE), "symmetric"),
        (lambda: eig_symmetric_jacobi.__wrapped__(np.ones((2, 3))), r"received shape \(2, 3\)"),
        (lambda: pca(np.ones((5, 3)), 4), "received k=4"),
        (lambda: low_rank(np.ones((5, 3)), -1), "received k=-1"),
        (lambda: lstsq.__wrapped__(np.ones((5, 3)), np.ones(3)), r"received \(3,\)"),
        (
            lambda: cosine_similarity.__wrapped__(np.ones((5, 3)), np.ones((5, 2))),
            r"\(5, 3\) and \(5, 2\)",
        ),
        (lambda: randomized_svd(EXAMPLE, 3, np.random.default_rng(0)), "received k=3"),
        (
            lambda: randomized_svd(EXAMPLE, 1, np.random.default_rng(0), oversample=-1),
            "oversample=-1",
        ),
    ],
)
def test_errors_say_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- what the page says of PyTorch --------------------------------------------------------------


def test_what_the_page_says_of_linear_layers_in_torch(rng):
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    assert layer.weight.shape == (3, 5)
    x = torch.from_numpy(rng.standard_normal((7, 5)))
    assert torch.allclose(layer(x), x @ layer.weight.T + layer.bias)
    assert torch.ones(2, 3, 7).mT.shape == (2, 7, 3)
    scores = torch.einsum("btd,bsd->bts", torch.ones(2, 3, 7), torch.ones(2, 5, 7))
    assert scores.shape == (2, 3, 5)


def test_what_the_page_says_of_cosines_in_torch(rng):
    u, v = rng.standard_normal((2, 5, 3))
    ours = cosine_similarity(u, v)
    similarity = torch.nn.functional.cosine_similarity
    theirs = similarity(torch.from_numpy(u), torch.from_numpy(v), dim=1)
    assert np.allclose(np.diag(ours), theirs)
    assert similarity(torch.zeros(1, 3), torch.ones(1, 3), dim=1).item() == 0
    short = torch.full((1, 2), 1e-10, dtype=torch.float64)  # its length is far below eps
    assert 0 < similarity(short, short, dim=1).item() < 1e-3


def test_what_the_page_says_of_decompositions_in_torch(rng):
    A = torch.from_numpy(rng.standard_normal((5, 3)))
    U, S, Vh = torch.linalg.svd(A)
    assert (U.shape, Vh.shape) == ((5, 5), (3, 3))
    assert torch.allclose(U[:, :3] @ torch.diag(S) @ Vh, A)
    assert (S[:-1] >= S[1:]).all()
    assert torch.linalg.svd(A, full_matrices=False).U.shape == (5, 3)
    values = torch.linalg.eigh(A.T @ A).eigenvalues
    assert torch.allclose(values, S.flip(0) ** 2)

    equal = torch.ones(5, 3, dtype=torch.float64)
    Q, _ = torch.linalg.qr(equal)
    assert Q.shape == (5, 3)
    assert torch.allclose(Q.T @ Q, torch.eye(3, dtype=Q.dtype))
    assert torch.linalg.matrix_rank(equal) == 1


def test_what_the_page_says_of_solving_in_torch():
    H = 1 / (np.arange(1, 10)[:, None] + np.arange(9))
    b = H @ np.ones(9)
    x = torch.linalg.solve(torch.tensor(H, dtype=torch.float32), torch.tensor(b).float())
    assert x.dtype == torch.float32
    assert (x - 1).abs().max() > 1  # wrong by more than 100 %, and nothing was raised
    assert torch.tensor([0.5]).dtype == torch.float32
    assert torch.linalg.cond(torch.diag(torch.tensor([1.0, 0.001]))).item() == pytest.approx(
        1000, rel=1e-3
    )
    columns, target = torch.ones(3, 2), torch.tensor([[1.0], [2.0], [4.0]])
    solution = torch.linalg.lstsq(columns, target).solution
    assert torch.allclose(solution, torch.full((2, 1), 7 / 6))
