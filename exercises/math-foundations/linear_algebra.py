"""Exercises of math-foundations/linear-algebra.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import (
    exercise,
    expect,
    expect_close,
    expect_raises,
    expect_shape,
)

EXAMPLE = np.array([[4.0, 2.0], [1.0, 3.0]])

# --- 1 -------------------------------------------------------------------------------------


@exercise(
    "Where does it land?",
    difficulty=1,
    minutes=2,
    section="matrix-multiplication-and-its-meaning",
    because="a matrix product does it, for which a package needs no function",
    idea="The point is x steps along the first axis and y along the second. Where do x steps go?",
)
def lands_at(first, second, x, y):
    """Return where a linear map sends the point (x, y), as an array.

    The map sends (1, 0) to ``first`` and (0, 1) to ``second``, which are arrays.
    """
    return x * first + y * second


@lands_at.check
def the_axes(answer, rng):
    first, second = np.array([4.0, 1.0]), np.array([2.0, 3.0])
    expect_close(answer(first, second, 1.0, 0.0), first, what="where (1, 0) lands")
    expect_close(answer(first, second, 0.0, 1.0), second, what="where (0, 1) lands")


@lands_at.check
def any_point(answer, rng):
    first, second = np.array([4.0, 1.0]), np.array([2.0, 3.0])
    expect_close(answer(first, second, 2.0, -1.0), np.array([6.0, -1.0]))


@lands_at.check
def into_three_dimensions(answer, rng):
    first, second = rng.standard_normal((2, 3))
    x, y = rng.standard_normal(2)
    expect_close(answer(first, second, x, y), x * first + y * second)


@lands_at.mistake(
    "You made the images rows. They are the columns of the matrix: (1, 0) must land on the first"
    " of them, with all its numbers."
)
def images_as_rows(first, second, x, y):
    return np.stack([first, second]) @ np.array([x, y])


@lands_at.mistake(
    "You added the images and forgot how many steps lead along each axis. What do x and y say?"
)
def forgets_the_steps(first, second, x, y):
    return first + second


@lands_at.mistake("You scaled each number of an image by its own step. All of first goes x times.")
def one_step_a_number(first, second, x, y):
    steps = np.resize([x, y], len(first))
    return steps * first + steps * second


@lands_at.mistake("x goes with the image of (1, 0), which is first; you have them the other way.")
def the_other_way(first, second, x, y):
    return y * first + x * second


# --- 2 -------------------------------------------------------------------------------------


@exercise(
    "Eight shapes, eight strings",
    difficulty=1,
    minutes=15,
    section="a-page-of-shapes",
    because="it is a table of einsum strings, for which a package needs no function",
    idea=(
        "Give every axis a letter. A letter that is missing after the arrow is summed over, and "
        "the letters after the arrow stand in the order in which you want the axes."
    ),
)
def eight_einsums(u, v, A, X, W, K):
    """Return a dictionary with these eight entries, each made by one call of ``np.einsum``.

    The arguments have the shapes u (m), v (n), A (m, n), X (b, t, d), W (h, d), K (b, s, d).

    - ``"squared length"``: the dot product of u with itself, a number
    - ``"outer"``: the outer product of u and v, shape (m, n)
    - ``"map"``: the matrix A applied to v, shape (m)
    - ``"form"``: u · (A v), a number
    - ``"column sums"``: the sum of each column of A, shape (n)
    - ``"gram"``: the dot products of all pairs of columns of A, shape (n, n)
    - ``"layer"``: the weight W applied to every vector of X, shape (b, t, h)
    - ``"scores"``: the dot products of every vector of X with every vector of K in the same
      batch entry, shape (b, t, s)
    """
    return {
        "squared length": np.einsum("m,m->", u, u),
        "outer": np.einsum("m,n->mn", u, v),
        "map": np.einsum("mn,n->m", A, v),
        "form": np.einsum("m,mn,n->", u, A, v),
        "column sums": np.einsum("mn->n", A),
        "gram": np.einsum("ma,mb->ab", A, A),
        "layer": np.einsum("btd,hd->bth", X, W),
        "scores": np.einsum("btd,bsd->bts", X, K),
    }


def _puzzle(rng):
    shapes = [(3,), (5,), (3, 5), (2, 3, 7), (11, 7), (2, 5, 7)]
    return [rng.standard_normal(shape) for shape in shapes]


@eight_einsums.check
def agrees_with_matrix_products(answer, rng):
    u, v, A, X, W, K = _puzzle(rng)
    expected = {
        "squared length": u @ u,
        "outer": np.outer(u, v),
        "map": A @ v,
        "form": u @ A @ v,
        "column sums": A.sum(axis=0),
        "gram": A.T @ A,
        "layer": X @ W.T,
        "scores": X @ K.swapaxes(1, 2),
    }
    expect_close(answer(u, v, A, X, W, K), expected)


@eight_einsums.mistake(
    "Your column sums have shape (m): they are row sums. The letter that stays after the arrow is"
    " the axis that you keep. Which axis counts the columns?"
)
def sums_along_rows(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"column sums": np.einsum("mn->m", A)}


@eight_einsums.mistake(
    "Your scores have shape (b, s, t): key first. einsum returns axes in the order in which you"
    " write them after the arrow."
)
def transposes_scores(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"scores": np.einsum("btd,bsd->bst", X, K)}


@eight_einsums.mistake(
    "Your gram holds the dot products of the rows of A. Which axis of A must be summed over, so"
    " that two columns meet?"
)
def compares_rows(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"gram": np.einsum("an,bn->ab", A, A)}


@eight_einsums.mistake(
    "Your scores have lost the batch: they add up over its entries. A letter that should be kept "
    "stands after the arrow."
)
def sums_over_the_batch(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"scores": np.einsum("btd,bsd->ts", X, K)}


@eight_einsums.mistake(
    "Your squared length is a vector of squares. Nothing should stay after the arrow, so that they "
    "are added up."
)
def keeps_the_squares_apart(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"squared length": u * u}


@eight_einsums.mistake(
    "Your gram holds one number a column: each column with itself. All pairs need two letters for"
    " the columns, one for each partner."
)
def pairs_columns_with_themselves(u, v, A, X, W, K):
    return eight_einsums(u, v, A, X, W, K) | {"gram": np.einsum("mn,mn->n", A, A)}


# --- 3 -------------------------------------------------------------------------------------


@exercise(
    "The part along v",
    difficulty=1,
    minutes=10,
    section="projection-and-gramschmidt",
    because="gram_schmidt projects onto all earlier columns at once, never onto one line",
    idea=(
        "The answer is a multiple of v. Which multiple leaves a rest that is orthogonal to v? "
        "Write that down as an equation in one unknown."
    ),
)
def projection(u, v):
    """Return the projection of the vector u onto the line of the vector v.

    v may have any length. Raise a ValueError if it is the zero vector, which has no line.
    """
    if not np.any(v):
        raise ValueError("the zero vector has no line to project on")
    return (u @ v) / (v @ v) * v


@projection.check
def example_by_hand(answer, rng):
    expect_close(answer(np.array([1.0, 3.0]), np.array([4.0, 2.0])), np.array([2.0, 1.0]))


@projection.check
def what_remains_is_orthogonal(answer, rng):
    for d in (2, 3, 101):
        u, v = rng.standard_normal((2, d))
        part = answer(u, v)
        expect_shape(part, (d,))
        product = abs((u - part) @ v)
        expect(product < 1e-12 * d, f"(u - projection) · v is {product:.2g}; it should be zero")


@projection.check
def doing_it_twice_changes_nothing(answer, rng):
    u, v = rng.standard_normal((2, 5))
    once = answer(u, v)
    expect_close(answer(once, v), once, what="the projection of the projection")


@projection.check
def refuses_the_zero_vector(answer, rng):
    expect_raises(ValueError, answer, np.ones(3), np.zeros(3))


def _refuse_zero(v, refuses):
    if refuses and not np.any(v):
        raise ValueError("zero vector")


@projection.mistake(
    "Your result grows when v gets longer, but the line of v stays the same. How often does the"
    " length of v enter the formula, and how often did you divide by it?",
    refuses=(True, False),
)
def divides_by_the_length_once(u, v, refuses):
    _refuse_zero(v, refuses)
    return (u @ v) / np.linalg.norm(v) * v


@projection.mistake(
    "Your result is right only if v has length 1. Take v twice as long: the line is the same, and "
    "your result four times as long.",
    refuses=(True, False),
)
def takes_v_for_a_unit_vector(u, v, refuses):
    _refuse_zero(v, refuses)
    return (u @ v) * v


@projection.mistake(
    "Your result points along u. The projection of u onto v lies on the line of v: which vector"
    " gets scaled, and which is only measured?",
    refuses=(True, False),
)
def projects_v_onto_u(u, v, refuses):
    _refuse_zero(v, refuses)
    return (u @ v) / (u @ u) * u


@projection.mistake(
    "You return how far along v the projection lies, in lengths of v. The projection itself is a"
    " vector of the same shape as u.",
    refuses=(True, False),
)
def returns_the_coefficient(u, v, refuses):
    _refuse_zero(v, refuses)
    return (u @ v) / (v @ v)


@projection.mistake(
    "For ordinary vectors you are right. Now project onto the zero vector: what does 0 / 0 give,"
    " and what did the statement ask for instead?"
)
def divides_zero_by_zero(u, v):
    with np.errstate(invalid="ignore"):
        return (u @ v) / (v @ v) * v


# --- 4 -------------------------------------------------------------------------------------


@exercise(
    "The best matrix of rank k",
    difficulty=2,
    minutes=15,
    section="the-best-matrix-of-rank-k",
    counterpart="chainrule.math_foundations.linear_algebra:low_rank",
    idea=(
        "The SVD writes A as a sum of rank-one pieces, the largest first. Keep the first k of them."
    ),
)
def best_rank_k(A, k):
    """Return the matrix of rank at most k that is nearest to A in the Frobenius norm.

    None is nearer in the spectral norm either, though others may tie there. A may be tall, wide
    or square, and 0 ≤ k ≤ min(A.shape). Use ``np.linalg.svd``.
    """
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    return (U[:, :k] * S[:k]) @ Vt[:k]


@best_rank_k.check
def square_example(answer, rng):
    A = np.array([[3.0, 0.0], [4.0, 5.0]])
    expect_close(
        answer(A, 1), np.array([[1.5, 1.5], [4.5, 4.5]]), what="rank 1 of ((3, 0), (4, 5))"
    )


@best_rank_k.check
def error_is_the_next_singular_value(answer, rng):
    for shape in [(5, 5), (7, 3), (3, 7)]:
        A = rng.standard_normal(shape)
        S = np.append(np.linalg.svd(A, compute_uv=False), 0.0)
        for k in range(min(shape) + 1):
            B = answer(A, k)
            expect_shape(B, shape)
            error = np.linalg.norm(A - B, 2)
            expect(
                abs(error - S[k]) < 1e-10,
                f"{shape}, k = {k}: the error is {error:.4f}, singular value k + 1 is {S[k]:.4f}",
            )


@best_rank_k.check
def rank_is_at_most_k(answer, rng):
    A = rng.standard_normal((7, 5))
    rank = np.linalg.matrix_rank(answer(A, 2))
    expect(rank <= 2, f"for k = 2 the result has rank {rank}")


@best_rank_k.mistake(
    "Keeping every component does not give A back. What does NumPy's third return value hold, the"
    " right singular vectors as columns or as rows?"
)
def takes_vt_for_v(A, k):
    U, S, V = np.linalg.svd(A, full_matrices=False)
    return (U[:, :k] * S[:k]) @ V[:, :k].T


@best_rank_k.mistake(
    "You kept the components that matter least. In which order does NumPy return singular values,"
    " and is it the order of np.linalg.eigh?"
)
def keeps_the_smallest(A, k):
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    n = len(S)
    return (U[:, n - k :] * S[n - k :]) @ Vt[n - k :]


@best_rank_k.mistake(
    "That is the k-th piece by itself. The best matrix of rank k is the sum of the first k of them."
)
def only_the_last_piece(A, k):
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    return (U[:, k - 1 : k] * S[k - 1 : k]) @ Vt[k - 1 : k] if k else 0 * A


@best_rank_k.mistake(
    "You kept one piece too many: for k = 0 nothing should be left, for k = 1 one piece."
)
def one_piece_too_many(A, k):
    return best_rank_k(A, min(k + 1, *A.shape))


@best_rank_k.mistake(
    "The directions are right and the lengths are not: all of your non-zero singular values are 1."
)
def forgets_the_singular_values(A, k):
    U, _, Vt = np.linalg.svd(A, full_matrices=False)
    return U[:, :k] @ Vt[:k]


# --- 5 -------------------------------------------------------------------------------------


@exercise(
    "How many components are enough",
    difficulty=2,
    minutes=15,
    section="the-direction-in-which-data-vary-most",
    counterpart="chainrule.math_foundations.linear_algebra:pca",
    idea=(
        "The variance along a component is the square of a singular value of the centred data. "
        "Add up the largest first, as shares of the whole, until you have enough."
    ),
)
def components_needed(X, part):
    """Return the smallest k for which k principal components hold ``part`` of the variance or more.

    The rows of X are examples; ``part`` is above 0 and at most 1, where every component counts that
    varies. Return an int.
    """
    share = np.cumsum(np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2)
    share /= share[-1]
    return int(np.argmax(share >= part)) + 1


@components_needed.by_package
def _(package, X, part):
    share = np.cumsum(package(X, min(X.shape))[1])
    return int(np.searchsorted(share, min(part, 1 - 1e-12) * share[-1])) + 1


@components_needed.check
def the_four_points_of_the_text(answer, rng):
    X = np.array([[2.0, 1.0], [1.0, 2.0], [-1.0, -2.0], [-2.0, -1.0]])
    received = [answer(X, part) for part in (0.05, 0.89, 0.91)]
    expect_close(received, [1, 1, 2], what="the three k for 5 %, 89 % and 91 %")


PARTS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@components_needed.check
def the_same_wherever_the_data_lie(answer, rng):
    X = rng.standard_normal((40, 13)) * 1.3 ** -np.arange(13)
    received = [answer(X + 100 * np.arange(13), part) for part in PARTS]
    expected = [components_needed(X, part) for part in PARTS]
    expect_close(received, expected, what=f"the seven k for {PARTS}, data moved")


@components_needed.check
def digits_need_21_for_90_percent(answer, rng):
    from sklearn.datasets import load_digits

    X = load_digits().data
    received = [answer(X, part) for part in (0.5, 0.90, 0.95)]
    expect_close(received, [5, 21, 29], what="the three k for 50, 90 and 95 % of the digits")


@components_needed.check
def everything(answer, rng):
    sizes = (5, 8, 13, 21, 34)
    received = [answer(rng.standard_normal((100, d)), 1.0) for d in sizes for _ in range(8)]
    expected = [d for d in sizes for _ in range(8)]
    expect_close(received, expected, what="k for all of the variance, forty times,")


HOW = ("exactly", "argmax", "searchsorted", "argmax of cov", "searchsorted of cov")


def _variances(X, how):
    if "cov" in how:
        return np.linalg.eigvalsh(np.cov(X.T))[::-1]
    return np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2


def _counted(variances, part, how):
    share = np.cumsum(variances)
    share = share / (share[-1] if how == "exactly" else variances.sum())
    found = np.searchsorted(share, part) if "search" in how else np.argmax(share >= part)
    return int(found) + 1


@components_needed.mistake(
    "Move all data by a constant and your answer changes, though nothing varies more or less than"
    " before. What must be taken away first?",
    how=HOW[:3],
)
def does_not_centre(X, part, how):
    return _counted(np.linalg.svd(X, compute_uv=False) ** 2, part, how)


@components_needed.mistake(
    "You took the same number away from every entry. Print the shape of your mean: how many numbers"
    " should it hold?",
    how=HOW[:3],
)
def centres_with_one_number(X, part, how):
    return _counted(np.linalg.svd(X - X.mean(), compute_uv=False) ** 2, part, how)


@components_needed.mistake(
    "You added up singular values. What is the variance along a principal component, in terms of"
    " its singular value?",
    how=HOW[:3],
)
def adds_singular_values(X, part, how):
    return _counted(np.linalg.svd(X - X.mean(axis=0), compute_uv=False), part, how)


@components_needed.mistake(
    "You begin with the component that holds least. In which order does NumPy return eigenvalues?",
    how=HOW,
)
def begins_with_the_smallest(X, part, how):
    return _counted(_variances(X, how)[::-1], part, how)


@components_needed.mistake(
    "You are off by one: position 0 of the cumulative sum is what 1 component holds.",
    how=HOW,
)
def counts_from_zero(X, part, how):
    return _counted(_variances(X, how), part, how) - 1


@components_needed.mistake(
    "You count the components that hold so much each, by itself. What do the first k hold together?"
)
def looks_at_each_by_itself(X, part):
    variances = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
    return int((variances / variances.sum() >= part).sum())


@components_needed.mistake(
    "Right, but for part = 1: there rounding leaves the last share a little below 1, and your"
    " search finds nothing. How can the last share be 1 exactly?",
    how=HOW[1:],
)
def loses_the_last_digit(X, part, how):
    return _counted(_variances(X, how), part, how)


# --- 6 -------------------------------------------------------------------------------------


@exercise(
    "How fast power iteration converges",
    difficulty=3,
    minutes=25,
    section="eigenvalues-and-eigenvectors--pca-intuition",
    because="power_iteration returns where the iteration ends, not the error of each step",
    idea=(
        "Split the unit vector into its part along target and a rest. The distance to the line "
        "is the length of the rest."
    ),
)
def power_iteration_errors(A, start, target, steps):
    """Run power iteration and return its error after each step, an array of length ``steps``.

    Begin at the vector ``start``; a step applies A and scales the result to length 1. The error
    is the distance from the current unit vector to the line through ``target``, a unit
    eigenvector for the eigenvalue of largest size. Sign does not matter: v and -v have the same
    distance.
    """
    v = start
    errors = []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(np.linalg.norm(v - (target @ v) * target))
    return np.array(errors)


@power_iteration_errors.check
def first_steps_by_hand(answer, rng):
    target = np.array([2.0, 1.0]) / np.sqrt(5)
    errors = answer(EXAMPLE, np.array([1.0, 0.0]), target, 2)
    opposite = answer(EXAMPLE, np.array([-1.0, 0.0]), target, 2)
    # (1, 0) -> (4, 1) -> (18, 7); the distance of (a, b) to the line of (2, 1) is |a - 2b| / √5.
    expected = np.array([2 / np.sqrt(85), 4 / np.sqrt(5 * 373)])
    expect_close(errors, expected, what="the two errors")
    expect_close(opposite, expected, what="the two errors from the opposite start")


@power_iteration_errors.check
def shrinks_by_the_ratio_of_eigenvalues(answer, rng):
    target = np.array([2.0, 1.0]) / np.sqrt(5)
    errors = answer(EXAMPLE, rng.standard_normal(2), target, 20)
    expect_shape(errors, (20,), "the errors")
    kept = errors[5:][errors[5:] > 1e-6]  # some good formulas lose the digits of smaller ones
    rates = kept[1:] / kept[:-1]
    expect(
        len(rates) > 2 and np.all(abs(rates - 0.4) < 0.02),
        f"the errors shrink by {rates.round(3)} a step; the eigenvalues 5 and 2 demand 0.4",
    )
    expect(errors[-1] < 1e-6, f"the last of 20 errors is {errors[-1]:.3g}")


@power_iteration_errors.check
def does_not_mind_a_negative_eigenvalue(answer, rng):
    A = np.diag([-3.0, 1.0, 0.5])
    errors = answer(A, np.ones(3), np.array([1.0, 0.0, 0.0]), 12)
    expect(
        errors[-1] < 1e-4, f"for the eigenvalue -3 the last error is {errors[-1]:.3g}, not small"
    )


@power_iteration_errors.mistake(
    "Your errors do not settle at zero for every start: the vector may arrive at -target, which is"
    " on the same line. Measure the distance to the line, not to one of its two ends."
)
def measures_to_one_end(A, start, target, steps):
    v = start
    errors = []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(np.linalg.norm(v - target))
    return np.array(errors)


@power_iteration_errors.mistake(
    "You measure to the nearer of the two unit vectors on the line. Some other point of the line is"
    " nearer still. Which, and how far is it?"
)
def measures_to_the_nearer_end(A, start, target, steps):
    v = start
    errors = []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(min(np.linalg.norm(v - target), np.linalg.norm(v + target)))
    return np.array(errors)


@power_iteration_errors.mistake(
    "Your errors grow, by the second eigenvalue each step. The distance to the line does shrink,"
    " but only relative to the vector. Which half of a step is missing?"
)
def forgets_to_normalize(A, start, target, steps):
    v = start
    errors = []
    for _ in range(steps):
        v = A @ v
        errors.append(np.linalg.norm(v - (target @ v) * target))
    return np.array(errors)


@power_iteration_errors.mistake(
    "Your errors shrink twice as fast, on a logarithmic scale, as they should: 1 - cos θ behaves"
    " like θ²/2. The distance to the line is sin θ."
)
def uses_one_minus_the_cosine(A, start, target, steps):
    v = start
    errors = []
    for _ in range(steps):
        v = A @ v
        v = v / np.linalg.norm(v)
        errors.append(1 - abs(target @ v))
    return np.array(errors)


@power_iteration_errors.mistake(
    "Your first number is the error of the start itself. The statement asks for the error after"
    " each step: move first, then measure."
)
def measures_before_moving(A, start, target, steps):
    v = start / np.linalg.norm(start)
    errors = []
    for _ in range(steps):
        errors.append(np.linalg.norm(v - (target @ v) * target))
        v = A @ v
        v = v / np.linalg.norm(v)
    return np.array(errors)


# --- 7 -------------------------------------------------------------------------------------


@exercise(
    "A thousand challengers of the SVD",
    difficulty=4,
    minutes=30,
    section="the-best-matrix-of-rank-k",
    because="randomized_svd draws its probes itself and returns factors",
    idea=(
        "All columns of the result lie in one subspace, and the nearest point of a subspace is "
        "the projection. So project each column of A, and take care that the basis spans no "
        "more than the images do."
    ),
)
def challenger(A, probes):
    """Return the matrix nearest to A whose columns all lie in the span of the probes' images.

    Nearest means in the Frobenius norm. A has shape (m, n), the probes (n, k); the image of a
    probe is what A makes of that column. The result has rank at most k and is the best that these
    probes allow. The checks draw 1,000 sets of probes, most of them with few non-zero entries,
    and look whether any of your challengers beats the truncated SVD. Probes may repeat each other
    or be zero: the span is then smaller.
    """
    span = A @ probes
    return span @ (np.linalg.pinv(span, rcond=1e-12) @ A)


@challenger.check
def one_probe_by_hand(answer, rng):
    A = np.array([[3.0, 0.0], [4.0, 5.0]])
    expected = np.array([[3.0, 2.4], [4.0, 3.2]])  # both columns on the line of (3, 4)
    expect_close(answer(A, np.array([[1.0], [0.0]])), expected, what="the challenger")


@challenger.check
def singular_vectors_as_probes_give_the_truncated_svd(answer, rng):
    A = rng.standard_normal((7, 5))
    U, S, Vt = np.linalg.svd(A, full_matrices=False)
    expect_close(answer(A, Vt[:2].T), (U[:, :2] * S[:2]) @ Vt[:2], what="the challenger", atol=1e-9)


@challenger.check
def repeated_probes_count_once(answer, rng):
    A = rng.standard_normal((7, 5))
    probes = np.eye(5)[:, [0, 0, 3]]
    column, other = A[:, :1], A[:, 3:4]
    basis = np.linalg.qr(np.hstack([column, other]))[0]
    expect_close(
        answer(A, probes),
        basis @ basis.T @ A,
        what="the challenger with a repeated probe",
        atol=1e-9,
    )


@challenger.check
def none_of_1000_beats_the_svd(answer, rng):
    A = rng.standard_normal((7, 5))
    S = np.linalg.svd(A, compute_uv=False)
    for trial in range(1000):
        k = 1 + trial % 3
        mask = rng.random((5, k)) < (1.0 if trial % 4 == 0 else 0.4)
        error = np.linalg.norm(A - answer(A, rng.standard_normal((5, k)) * mask), 2)
        expect(
            error >= S[k] - 1e-10,
            f"an error of {error:.4f} beats the SVD's {S[k]:.4f}: is its rank really {k}?",
        )


@challenger.mistake(
    "Multiplying by Y Yᵀ projects only if the columns of Y are orthonormal. Yours are images"
    " of random probes, of any length and at any angle. What has to happen to them first?"
)
def does_not_orthonormalize(A, probes):
    span = A @ probes
    return span @ span.T @ A


@challenger.mistake(
    "QR of dependent columns still returns a full set of orthonormal ones: the surplus directions"
    " are made up, and your challenger profits from them. Which directions may you keep?"
)
def trusts_qr_with_dependent_columns(A, probes):
    Q = np.linalg.qr(A @ probes)[0]
    return Q @ (Q.T @ A)


@challenger.mistake(
    "Your images have length 1 now, but they still lean on each other. Projecting with each of them"
    " and adding up counts twice what two of them share."
)
def only_normalizes(A, probes):
    span = A @ probes
    lengths = np.linalg.norm(span, axis=0)
    span = span / np.where(lengths == 0, 1, lengths)
    return span @ (span.T @ A)


@challenger.mistake(
    "Where probes repeat each other, the matrix that you invert has no inverse: what you get is"
    " rounding. Which generalized inverse copes with dependent columns?"
)
def inverts_the_gram_matrix(A, probes):
    span = A @ probes
    return span @ np.linalg.inv(span.T @ span) @ span.T @ A


@challenger.mistake(
    "You restrict the inputs of A to the span of the probes. That has rank k too, but it is not"
    " the nearest matrix with columns in the span of the images: project the outputs."
)
def projects_the_inputs(A, probes):
    return A @ probes @ np.linalg.pinv(probes)
