"""Linear algebra with loops you can read: products, eigenvectors, the SVD and what follows.

Taught in ``math-foundations/linear-algebra.md``. Every function takes and returns NumPy arrays;
float32 stays float32, every other kind of number is computed in float64.

Shape names: ``m`` rows, ``n`` columns, ``p`` columns of a second matrix, ``r`` the rank or
``min(m, n)``, ``k`` how many components are kept, ``d`` coordinates of one vector.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.shapes import Array, Float, Num

__all__ = [
    "cosine_similarity",
    "eig_symmetric_jacobi",
    "gram_schmidt",
    "low_rank",
    "lstsq",
    "matmul_naive",
    "pca",
    "polar_factor",
    "power_iteration",
    "randomized_svd",
    "svd",
]


def matmul_naive(A: Num[Array, "m n"], B: Num[Array, "n p"]) -> Num[Array, "m p"]:
    """Multiply two matrices with three loops: 2·m·n·p floating-point operations.

    Integers stay integers, in int64; NumPy multiplies and adds 8-bit pixels modulo 256.

    Raises:
        ValueError: an argument is not two-dimensional, or the inner sizes differ.

    Equation: math-foundations/linear-algebra.md#eq-matrix-product
    """
    A, B = np.asarray(A), np.asarray(B)
    if A.ndim != 2 or B.ndim != 2 or A.shape[1] != B.shape[0]:
        message = f"expected shapes (m, n) and (n, p), received {A.shape} and {B.shape}"
        raise ValueError(message)
    m, n = A.shape
    p = B.shape[1]
    kind = np.result_type(A, B)
    if kind.kind in "bi" or (kind.kind == "u" and kind.itemsize < 8):
        kind = np.dtype(np.int64)
    A, B = A.astype(kind), B.astype(kind)
    C = np.zeros((m, p), dtype=kind)
    for i in range(m):
        for j in range(p):
            for l in range(n):  # noqa: E741
                C[i, j] += A[i, l] * B[l, j]
    return C


def gram_schmidt(A: Num[Array, "m n"]) -> tuple[Float[Array, "m r"], Float[Array, "r n"]]:
    """Factor ``A = Q @ R``: Q is an orthonormal basis of A's column space, so r is A's rank.

    A column that depends on the columns before it adds nothing to Q. For full column rank this is
    ``numpy.linalg.qr`` with a positive diagonal in R. Each column is orthogonalized twice, which
    the textbook does not do: once leaves an error that grows with the condition number.

    Raises:
        ValueError: A is not a matrix of finite numbers, or is empty.

    Equation: math-foundations/linear-algebra.md#eq-gram-schmidt
    """
    A, scale = _scaled(_matrix(A))
    m, n = A.shape
    negligible = max(m, n) * np.finfo(A.dtype).eps * np.sqrt((A * A).sum(axis=0)).max()
    Q = np.zeros((m, 0), dtype=A.dtype)
    R = np.zeros((min(m, n), n), dtype=A.dtype)
    for j in range(n):
        rest = A[:, j].copy()
        for _ in range(2):
            along = Q.T @ rest
            R[: len(along), j] += along
            rest -= Q @ along
        length = np.linalg.norm(rest)
        if length > negligible:
            R[Q.shape[1], j] = length
            Q = np.column_stack([Q, rest / length])
    return Q, _rescaled(R[: Q.shape[1]], scale)


def power_iteration(
    A: Num[Array, "n n"], iters: int, rng: np.random.Generator
) -> tuple[float, Float[Array, " n"]]:
    """Approximate the eigenvalue of largest size and its unit eigenvector.

    The error of v shrinks by |λ₂/λ₁| an iteration, that of λ by its square if A is symmetric.
    Where a turned pair shares the largest size (a rotation) nothing converges;
    ``‖A @ v − λ v‖`` tells you.

    Raises:
        ValueError: A is not square, ``iters`` is below 1, or v swings between two directions,
            because eigenvalues λ and −λ share the largest size.

    Equation: math-foundations/linear-algebra.md#eq-power-iteration
    """
    A, scale = _scaled(_square(A))
    if iters < 1:
        message = f"expected at least 1 iteration, received iters={iters}"
        raise ValueError(message)
    v = rng.standard_normal(len(A)).astype(A.dtype)
    v /= np.linalg.norm(v)
    for _ in range(iters):
        w = A @ v
        length = np.linalg.norm(w)
        if length == 0:  # v is in the kernel, so it is an eigenvector with eigenvalue 0
            return 0.0, v
        v = w / length
    once = A @ v
    value = v @ once
    twice = A @ once
    off, off_twice = (np.linalg.norm(w - (v @ w) * v) for w in (once, twice))
    size, size_twice = np.linalg.norm(once), np.linalg.norm(twice)
    if off > 1e-3 * size and off_twice * size < 0.01 * off * size_twice:
        message = (
            "expected one eigenvalue of largest size, received a matrix in which λ and −λ share "
            f"the largest size, {np.sqrt(size_twice) * scale:.6g}: v swings between two directions"
        )
        raise ValueError(message)
    return float(_rescaled(np.asarray(value), scale)), v


def eig_symmetric_jacobi(A: Num[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Return a symmetric matrix's eigenvalues, largest first, and eigenvectors as columns.

    Turns one pair of axes at a time until every off-diagonal entry is negligible beside its two
    diagonal entries. ``numpy.linalg.eigh`` sorts the other way.
    The criterion is that of Demmel and Veselić 1992.

    Raises:
        ValueError: A is not square or not symmetric, or an eigenvalue overflows.

    Equation: math-foundations/linear-algebra.md#eq-jacobi-rotation
    """
    A = _square(A)
    # By a power of 2, which rounds nothing: sums of two entries then cannot overflow.
    exponent = int(np.frexp(np.abs(A).max())[1])
    A = np.ldexp(A, -exponent)
    eps = float(np.finfo(A.dtype).eps)
    size = float(np.abs(A).max())
    asymmetry = float(np.abs(A - A.T).max())
    if asymmetry > 100 * eps * size:
        message = (
            "expected a symmetric matrix, received one with |A - A.T| up to "
            f"{asymmetry / size:.3g} times its largest entry"
        )
        raise ValueError(message)
    n = len(A)
    negligible = eps**4 * size  # for pairs whose diagonal entries are zero
    D = (A + A.T) / 2
    V = np.eye(n, dtype=A.dtype)
    turned = True
    while turned:
        turned = False
        for p in range(n - 1):
            for q in range(p + 1, n):
                app, aqq, apq = float(D[p, p]), float(D[q, q]), float(D[p, q])
                if abs(apq) > eps * math.sqrt(abs(app)) * math.sqrt(abs(aqq)) + negligible:
                    _rotate(D, V, p, q, _tangent(app, aqq, apq))
                    turned = True
    order = np.argsort(-np.diag(D), kind="stable")
    with np.errstate(over="ignore"):
        values = np.ldexp(np.diag(D)[order], exponent)
    return _representable(values), V[:, order]


def svd(
    A: Num[Array, "m n"],
) -> tuple[Float[Array, "m r"], Float[Array, " r"], Float[Array, "r n"]]:
    """Return the thin singular value decomposition ``A = U @ diag(S) @ Vt``, ``r = min(m, n)``.

    Built on the eigenvectors of ``A.T @ A``. Squaring A costs half of the digits of its small
    singular values; solving again in the basis found, twice, brings them back. Singular values
    below ``max(m, n) · eps · σ₁`` are returned as exactly 0: ``count_nonzero(S)`` is the rank.

    Raises:
        ValueError: A is not a matrix of finite numbers, or is empty.

    Equation: math-foundations/linear-algebra.md#eq-svd
    """
    A = _matrix(A)
    m, n = A.shape
    if m < n:
        U, S, Vt = svd(A.T)
        return Vt.T, S, U.T
    B, scale = _scaled(A)
    V = np.eye(n, dtype=A.dtype)
    for _ in range(3):
        _, turn = eig_symmetric_jacobi(B.T @ B)
        B, V = B @ turn, V @ turn
    S = np.sqrt((B * B).sum(axis=0))
    order = np.argsort(-S, kind="stable")
    S, B, V = S[order], B[:, order], V[:, order]
    negligible = max(m, n) * np.finfo(A.dtype).eps * S[0]
    S[negligible >= S] = 0
    rank = np.count_nonzero(S)
    U = _complete(B[:, :rank] / S[:rank], n)
    return U, _rescaled(S, scale), V.T


def pca(
    X: Num[Array, "n d"], k: int
) -> tuple[Float[Array, "k d"], Float[Array, " k"], Float[Array, "n k"]]:
    """Return the k directions of largest variance, those variances, and each row's coordinates.

    Rows of X are examples; the mean is removed first. Variances divide by n (scikit-learn divides
    by n − 1). Each component's sign makes its entry of largest size positive.

    Raises:
        ValueError: k is not in 1 … min(n, d), X is not a matrix of finite numbers, or a variance
            overflows.

    Equation: math-foundations/linear-algebra.md#eq-pca
    """
    X, scale = _scaled(_matrix(X))
    _check_k(k, 1, X.shape)
    centred = X - X.mean(axis=0)
    _, S, Vt = svd(centred)
    components = Vt[:k]
    peaks = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(k), peaks])[:, None]
    variances = _rescaled(_rescaled(S[:k] ** 2 / len(X), scale), scale)
    return components, variances, _rescaled(centred @ components.T, scale)


def low_rank(A: Num[Array, "m n"], k: int) -> Float[Array, "m n"]:
    """Return the truncated SVD of A: no matrix of rank at most k is nearer to A.

    Neither in the Frobenius norm (Eckart, Young 1936) nor in the spectral norm (Mirsky 1960).

    Raises:
        ValueError: k is not in 0 … min(m, n).

    Equation: math-foundations/linear-algebra.md#eq-low-rank
    """
    A = _matrix(A)
    _check_k(k, 0, A.shape)
    U, S, Vt = svd(A)
    return (U[:, :k] * S[:k]) @ Vt[:k]


def lstsq(A: Num[Array, "m n"], b: Num[Array, "m *columns"]) -> Float[Array, "n *columns"]:
    """Return the shortest x among those that minimize ``‖A @ x − b‖``, by the pseudo-inverse.

    Several right-hand sides may stand in the columns of b.

    Raises:
        ValueError: b does not have one row for each row of A, holds what is no finite number, or
            x overflows.

    Equation: math-foundations/linear-algebra.md#eq-pseudo-inverse
    """
    (A, scale), b = _scaled(_matrix(A)), _real(b)
    if b.ndim not in (1, 2) or len(b) != len(A):
        message = f"expected b of shape ({len(A)},) or ({len(A)}, p), received {b.shape}"
        raise ValueError(message)
    U, S, Vt = svd(A)
    rank = np.count_nonzero(S)
    b, b_scale = _scaled(b) if b.size else (b, 1.0)
    x = Vt[:rank].T @ ((U[:, :rank].T @ b).T / S[:rank]).T
    with np.errstate(over="ignore"):
        return _representable(x / scale * b_scale if b_scale < 1 else x * b_scale / scale)


def cosine_similarity(U: Num[Array, "m d"], V: Num[Array, "n d"]) -> Float[Array, "m n"]:
    """Return the cosine of the angle between every row of U and every row of V.

    A zero vector has no direction; its cosines are returned as 0.

    Raises:
        ValueError: the rows differ in length.

    Equation: math-foundations/linear-algebra.md#eq-cosine
    """
    U, V = _matrix(U), _matrix(V)
    if U.shape[1] != V.shape[1]:
        message = f"expected rows of equal length, received shapes {U.shape} and {V.shape}"
        raise ValueError(message)
    return _unit_rows(U) @ _unit_rows(V).T


def polar_factor(A: Num[Array, "m n"]) -> Float[Array, "m n"]:
    """Return the nearest matrix to A whose singular values are all 1: ``U @ Vt``.

    Its columns (its rows, if A is wide) are orthonormal. It is unique if A has full rank.

    Raises:
        ValueError: A is not a matrix of finite numbers, or is empty.

    Equation: math-foundations/linear-algebra.md#eq-polar-factor
    """
    U, _, Vt = svd(A)
    return U @ Vt


def randomized_svd(
    A: Num[Array, "m n"],
    k: int,
    rng: np.random.Generator,
    oversample: int = 10,
    power_steps: int = 2,
) -> tuple[Float[Array, "m k"], Float[Array, " k"], Float[Array, "k n"]]:
    """Approximate the k largest singular values and vectors without decomposing all of A.

    Source: Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1.

    Raises:
        ValueError: k is not in 1 … min(m, n), or an option is negative.

    Equation: math-foundations/linear-algebra.md#eq-randomized-svd
    """
    A, scale = _scaled(_matrix(A))
    _check_k(k, 1, A.shape)
    if oversample < 0 or power_steps < 0:
        message = f"expected options ≥ 0, received {oversample=} and {power_steps=}"
        raise ValueError(message)
    width = min(k + oversample, *A.shape)
    probes = rng.standard_normal((A.shape[1], width)).astype(A.dtype)
    Q, _ = gram_schmidt(A @ probes)
    for _ in range(power_steps if Q.shape[1] else 0):  # no column is left where A is zero
        Q, _ = gram_schmidt(A.T @ Q)
        Q, _ = gram_schmidt(A @ Q)
    Q = _complete(Q, max(k, Q.shape[1]))
    U, S, Vt = svd(Q.T @ A)
    return Q @ U[:, :k], _rescaled(S[:k], scale), Vt[:k]


def _tangent(app: float, aqq: float, apq: float) -> float:
    """The tangent of the smaller of the two angles that make the entry (p, q) zero."""
    theta = (aqq - app) / (2 * apq)
    return math.copysign(1 / (abs(theta) + math.hypot(theta, 1)), theta)


def _rotate(D: Array, V: Array, p: int, q: int, t: float) -> None:
    """Replace D by JᵀDJ and V by VJ, in place, for the rotation J of axes p and q by atan t."""
    c = 1 / math.hypot(t, 1)
    s = t * c
    app, aqq, apq = D[p, p] - t * D[p, q], D[q, q] + t * D[p, q], D.dtype.type(0)
    for M in (D, V):
        M[:, p], M[:, q] = c * M[:, p] - s * M[:, q], s * M[:, p] + c * M[:, q]
    D[p, :], D[q, :] = D[:, p], D[:, q]
    D[p, p], D[q, q], D[p, q], D[q, p] = app, aqq, apq, apq


def _complete(Q: Array, columns: int) -> Array:
    """Append orthonormal columns to Q, each from the axis that Q covers least, up to a number."""
    while Q.shape[1] < columns:
        axis = np.zeros(len(Q), dtype=Q.dtype)
        axis[np.argmin((Q * Q).sum(axis=1))] = 1
        for _ in range(2):
            axis -= Q @ (Q.T @ axis)
        Q = np.column_stack([Q, axis / np.linalg.norm(axis)])
    return Q


def _scaled(A: Array) -> tuple[Array, np.floating]:
    """A over its largest entry, and that entry: squares then neither overflow nor vanish."""
    scale = np.abs(A).max() or A.dtype.type(1)
    return A / scale, scale


def _rescaled(result: Array, scale: np.floating) -> Array:
    """Undo `_scaled`: ``result * scale``, refused where that is infinite."""
    with np.errstate(over="ignore"):
        return _representable(np.asarray(result * scale))


def _representable(result: Array) -> Array:
    if not np.isfinite(result).all():
        largest = np.finfo(result.dtype)
        message = f"the result is larger than {largest.dtype} can hold, {largest.max:.2g}"
        raise ValueError(message)
    return result


def _unit_rows(M: Array) -> Array:
    peaks = np.abs(M).max(axis=1, keepdims=True)
    M = M / np.where(peaks > 0, peaks, 1)
    lengths = np.linalg.norm(M, axis=1, keepdims=True)
    return M / np.where(lengths > 0, lengths, 1)


def _matrix(A: Any) -> Array:
    A = np.asarray(A)
    if A.ndim != 2 or 0 in A.shape:
        message = f"expected a matrix with at least one row and one column, received {A.shape}"
        raise ValueError(message)
    return _real(A)


def _real(A: Any) -> Array:
    """Finite real numbers, in float32 if they are, in float64 otherwise."""
    A = np.asarray(A)
    if A.dtype.kind not in "biuf":
        message = f"expected real numbers, received {A.dtype}"
        raise ValueError(message)
    if A.dtype not in (np.float32, np.float64):
        A = A.astype(np.float64)
    if not np.isfinite(A).all():
        message = (
            f"expected finite entries, received {np.count_nonzero(~np.isfinite(A))} that are not"
        )
        raise ValueError(message)
    return A


def _square(A: Any) -> Array:
    A = _matrix(A)
    if A.shape[0] != A.shape[1]:
        message = f"expected a square matrix, received shape {A.shape}"
        raise ValueError(message)
    return A


def _check_k(k: int, least: int, shape: tuple[int, ...]) -> None:
    if not least <= k <= min(shape):
        message = f"expected k in {least} … {min(shape)} for shape {shape}, received k={k}"
        raise ValueError(message)
