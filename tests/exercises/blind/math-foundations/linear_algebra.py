"""Blind set of math-foundations/linear-algebra: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _eight(u, v, A, X, W, K, **changed):
    strings = {
        "squared length": ("i,i->", u, u),
        "outer": ("i,j->ij", u, v),
        "map": ("ij,j->i", A, v),
        "form": ("i,ij,j->", u, A, v),
        "column sums": ("ij->j", A),
        "gram": ("ij,ik->jk", A, A),
        "layer": ("btd,hd->bth", X, W),
        "scores": ("btd,bsd->bts", X, K),
    }
    return {name: np.einsum(*call) for name, call in (strings | changed).items()}


@wrong("lands_at", "Puts the images into rows.", known="images_as_rows")
def _(first, second, x, y):
    return np.stack([first, second]) @ np.array([x, y])


@wrong("lands_at", "Multiplies from the wrong side.", known="images_as_rows")
def _(first, second, x, y):
    return np.array([x, y]) @ np.stack([first, second], axis=1)


@wrong("lands_at", "Adds the images and ignores the point.", known="forgets_the_steps")
def _(first, second, x, y):
    return np.add(first, second)


@wrong("lands_at", "Exchanges the two steps.", known="the_other_way")
def _(first, second, x, y):
    return np.column_stack([second, first]) @ [x, y]


@wrong("lands_at", "Returns the two scaled images without adding them.", known=None)
def _(first, second, x, y):
    return np.array([x * first, y * second])


@wrong("eight_einsums", "Sums each row instead of each column.", known="sums_along_rows")
def _(u, v, A, X, W, K):
    return _eight(u, v, A, X, W, K, **{"column sums": ("ij->i", A)})


@wrong(
    "eight_einsums",
    "Takes the dot products of the rows of A, not of the columns.",
    known="compares_rows",
)
def _(u, v, A, X, W, K):
    return _eight(u, v, A, X, W, K, gram=("ij,kj->ik", A, A))


@wrong(
    "eight_einsums",
    "Scores come out with the axes of X and K exchanged.",
    known="transposes_scores",
)
def _(u, v, A, X, W, K):
    return _eight(u, v, A, X, W, K, scores=("btd,bsd->bst", X, K))


@wrong(
    "eight_einsums",
    "Sums the scores over the batch: the letter b is missing in the result.",
    known="sums_over_the_batch",
)
def _(u, v, A, X, W, K):
    return _eight(u, v, A, X, W, K, scores=("btd,bsd->ts", X, K))


@wrong(
    "eight_einsums",
    "Keeps the squares of u apart instead of adding them up.",
    known="keeps_the_squares_apart",
)
def _(u, v, A, X, W, K):
    return _eight(u, v, A, X, W, K, **{"squared length": ("i,i->i", u, u)})


@wrong(
    "projection", "Forgets to divide by the squared length of v.", known="takes_v_for_a_unit_vector"
)
def _(u, v):
    if not v.any():
        raise ValueError("v is the zero vector")
    return (u @ v) * v


@wrong(
    "projection",
    "Divides by the length of v, not by its square.",
    known="divides_by_the_length_once",
)
def _(u, v):
    if not v.any():
        raise ValueError("v is the zero vector")
    return (u @ v) / np.linalg.norm(v) * v


@wrong(
    "projection",
    "Returns how far along v, a number, and not the vector.",
    known="returns_the_coefficient",
)
def _(u, v):
    if not v.any():
        raise ValueError("v is the zero vector")
    return (u @ v) / (v @ v)


@wrong("projection", "Projects v onto u instead of u onto v.", known="projects_v_onto_u")
def _(u, v):
    if not v.any():
        raise ValueError("v is the zero vector")
    return (u @ v) / (u @ u) * u


@wrong("projection", "Does not refuse the zero vector.", known="divides_zero_by_zero")
def _(u, v):
    with np.errstate(all="ignore"):
        return (u @ v) / (v @ v) * v


@wrong(
    "power_iteration_errors",
    "Measures the distance to target and not to its line.",
    known="measures_to_one_end",
)
def _(A, start, target, steps):
    v, errors = start, []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(np.linalg.norm(v - target))
    return np.array(errors)


@wrong(
    "power_iteration_errors",
    "Records the error before the step, so the start counts as well.",
    known="measures_before_moving",
)
def _(A, start, target, steps):
    v, errors = start / np.linalg.norm(start), []
    for _ in range(steps):
        errors.append(np.linalg.norm(v - (v @ target) * target))
        v = A @ v
        v = v / np.linalg.norm(v)
    return np.array(errors)


@wrong("power_iteration_errors", "Scales by the largest entry and not by the length.")
def _(A, start, target, steps):
    v, errors = start, []
    for _ in range(steps):
        v = A @ v
        v = v / np.abs(v).max()
        errors.append(np.linalg.norm(v - (v @ target) * target))
    return np.array(errors)


@wrong(
    "power_iteration_errors",
    "Never scales the vector back to length 1.",
    known="forgets_to_normalize",
)
def _(A, start, target, steps):
    v, errors = start, []
    for _ in range(steps):
        v = A @ v
        errors.append(np.linalg.norm(v - (v @ target) * target))
    return np.array(errors)


@wrong(
    "power_iteration_errors",
    "Returns 1 minus the cosine, which is no distance.",
    known="uses_one_minus_the_cosine",
)
def _(A, start, target, steps):
    v, errors = start, []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(1 - abs(v @ target))
    return np.array(errors)


@wrong("best_rank_k", "Keeps the k smallest singular values.", known="keeps_the_smallest")
def _(A, k):
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    s = s.copy()
    s[: len(s) - k] = 0
    return (U * s) @ Vt


@wrong("best_rank_k", "Forgets the singular values.", known="forgets_the_singular_values")
def _(A, k):
    U, _, Vt = np.linalg.svd(A, full_matrices=False)
    return U[:, :k] @ Vt[:k]


@wrong(
    "best_rank_k", "Takes columns of Vt where its rows are the directions.", known="takes_vt_for_v"
)
def _(A, k):
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return U[:, :k] @ np.diag(s[:k]) @ Vt[:, :k].T


@wrong(
    "best_rank_k", "Keeps the k-th piece alone and not the first k.", known="only_the_last_piece"
)
def _(A, k):
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    if k == 0:
        return np.zeros_like(A)
    return s[k - 1] * np.outer(U[:, k - 1], Vt[k - 1])


@wrong("best_rank_k", "One piece too many: counts from 0 to k.", known="one_piece_too_many")
def _(A, k):
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return (U[:, : k + 1] * s[: k + 1]) @ Vt[: k + 1]


@wrong(
    "components_needed",
    "Adds up singular values and not their squares.",
    known="adds_singular_values",
)
def _(X, part):
    s = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    share = np.cumsum(s) / s.sum()
    return int(np.searchsorted(share, part - 1e-12) + 1)


@wrong("components_needed", "Does not subtract the mean first.", known="does_not_centre")
def _(X, part):
    s = np.linalg.svd(X, compute_uv=False) ** 2
    share = np.cumsum(s) / s.sum()
    return int(np.searchsorted(share, part - 1e-12) + 1)


@wrong(
    "components_needed",
    "Adds up the eigenvalues from the smallest: eigvalsh is ascending.",
    known="begins_with_the_smallest",
)
def _(X, part):
    w = np.linalg.eigvalsh(np.cov(X.T))
    return int(np.searchsorted(np.cumsum(w) / w.sum(), part) + 1)


@wrong(
    "components_needed",
    "One too few: the index of the first component that is enough.",
    known="counts_from_zero",
)
def _(X, part):
    w = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    return int(np.searchsorted(np.cumsum(w) / w.sum(), part - 1e-12))


@wrong(
    "components_needed",
    "Counts the components that each hold at least this part.",
    known="looks_at_each_by_itself",
)
def _(X, part):
    w = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    return int(((w / w.sum()) >= part).sum())


@wrong(
    "challenger",
    "Projects the rows of A on the probes, not the columns on their images.",
    known="projects_the_inputs",
)
def _(A, probes):
    return A @ probes @ np.linalg.pinv(probes)


@wrong(
    "challenger",
    "Projects with the images as if they were orthonormal.",
    known="does_not_orthonormalize",
)
def _(A, probes):
    B = A @ probes
    return B @ (B.T @ A)


@wrong(
    "challenger",
    "Normalizes the images and does not make them orthogonal.",
    known="only_normalizes",
)
def _(A, probes):
    B = A @ probes
    norms = np.linalg.norm(B, axis=0)
    B = B / np.where(norms == 0, 1, norms)
    return B @ (B.T @ A)


@wrong(
    "challenger",
    "QR of dependent images: columns of Q lie outside their span.",
    known="trusts_qr_with_dependent_columns",
)
def _(A, probes):
    Q, _ = np.linalg.qr(A @ probes)
    return Q @ (Q.T @ A)


@wrong(
    "challenger",
    "Inverts the Gram matrix of the images, which may be singular.",
    known="inverts_the_gram_matrix",
)
def _(A, probes):
    B = A @ probes
    return B @ np.linalg.inv(B.T @ B) @ B.T @ A
