"""Exercises of neural-networks/backpropagation.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import (
    exercise,
    expect,
    expect_close,
    expect_equal,
    expect_shape,
    given,
)
from chainrule.neural_networks.backpropagation import Tensor, concat


@exercise(
    "Six gradients on paper",
    difficulty=1,
    minutes=10,
    section="the-chain-rule-in-action",
    because="it is one graph on paper; the checks let the engine differentiate it",
    idea=(
        "Start at the loss and go back one arrow at a time. Where two arrows leave a value, its "
        "two shares are added."
    ),
)
def six_gradients(a, b, c):
    """Return the derivatives of L by e, v, u, a, b and c, as an array of six numbers, for

    u = a·b,   v = u + b,   e = v − c,   L = e².

    Draw the graph and fill it in from the right; the function then only writes down what you
    found. a, b and c are numbers.
    """
    e = a * b + b - c
    slope = 2 * e
    return np.array([slope, slope, slope, slope * b, slope * (a + 1), -slope])


@six_gradients.check
def by_hand(answer, rng):
    expected = np.array([4.0, 4.0, 4.0, 12.0, 12.0, -4.0])
    expect_close(answer(2.0, 3.0, 7.0), expected, what="the six derivatives at a=2, b=3, c=7")


@six_gradients.check
def against_the_engine(answer, rng):
    for _ in range(3):
        numbers = rng.normal(size=3)
        a, b, c = (Tensor(np.array(n), requires_grad=True) for n in numbers)
        ((a * b + b - c) ** 2).backward()
        expect_close(
            answer(*map(float, numbers))[3:],
            np.array([a.grad, b.grad, c.grad]),
            what="the derivatives by a, b and c",
        )


@six_gradients.mistake("Two arrows leave b. Your answer follows one of them.")
def forgets_the_sum_of_b(a, b, c):
    right = six_gradients(a, b, c)
    right[4] = right[0] * a
    return right


@six_gradients.mistake(
    "Your b has only the share that came through the sum v. Which other operation uses b?"
)
def overwrites_the_first_share(a, b, c):
    right = six_gradients(a, b, c)
    right[4] = right[0]
    return right


@six_gradients.mistake("Raise c: e falls. Look at the sign of your last number.")
def loses_the_minus(a, b, c):
    right = six_gradients(a, b, c)
    right[5] = -right[5]
    return right


@six_gradients.mistake("All six are half of what they should be. What is the derivative of e²?")
def forgets_the_two(a, b, c):
    return six_gradients(a, b, c) / 2


@six_gradients.mistake(
    "Raise a by 1, and u = a·b rises by b. Which factor belongs to which of the two?"
)
def swaps_the_factors(a, b, c):
    right = six_gradients(a, b, c)
    right[3], right[4] = right[0] * a, right[0] * (b + 1)
    return right


@exercise(
    "Three VJPs: maximum, concatenation, running sum",
    difficulty=2,
    minutes=20,
    section="forward-and-backward-passes",
    because=(
        "max, concat and cumsum are three operations of the engine; the checks compare with all "
        "three"
    ),
    idea=(
        "For each operation ask of one input entry: which outputs does it move, and by how "
        "much? Its gradient adds up the gradients of those outputs."
    ),
)
def three_vjps(x, y, g_max, g_joined, g_running):
    """Return the gradients that go back through three operations, as a list of four arrays.

    1. by x, through m = x.max(), whose gradient is the number g_max;
    2. and 3. by x and by y, through j = np.concatenate([x, y]), whose gradient is g_joined;
    4. by x, through r = np.cumsum(x), whose gradient is g_running.

    x has shape (n,), y shape (m,). Where several entries are the maximum they share g_max equally.
    """
    is_max = x == x.max()
    by_max = np.where(is_max, g_max / is_max.sum(), 0.0)
    by_running = np.cumsum(g_running[::-1])[::-1]
    return [by_max, g_joined[: len(x)], g_joined[len(x) :], by_running]


@three_vjps.check
def small_numbers(answer, rng):
    received = answer(
        np.array([1.0, 5.0, 2.0]),
        np.array([7.0, 0.0]),
        3.0,
        np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
        np.array([1.0, 10.0, 100.0]),
    )
    expected = [[0, 3, 0], [1, 2, 3], [4, 5], [111, 110, 100]]
    for got, want, name in zip(
        received, expected, ("max", "concat by x", "concat by y", "cumsum"), strict=True
    ):
        expect_close(got, np.array(want, dtype=float), what=f"the gradient through {name}")


@three_vjps.check
def tied_maxima_share(answer, rng):
    x, y = np.array([4.0, 1.0, 4.0, 4.0]), np.array([2.0])
    received = answer(x, y, 6.0, np.arange(5.0), np.ones(4))[0]
    expect_close(received, np.array([2.0, 0.0, 2.0, 2.0]), what="the gradient through max, tied")


@three_vjps.check
def against_the_engine_too(answer, rng):
    n, m = 7, 3
    g_max, g_joined, g_running = rng.normal(), rng.normal(size=n + m), rng.normal(size=n)
    x, y = rng.normal(size=n), rng.normal(size=m)
    received = answer(x, y, float(g_max), g_joined, g_running)
    tensor, other = Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)
    concat([tensor, other]).backward(g_joined)
    expected = [tensor.grad, other.grad]
    tensor.grad = None
    tensor.max().backward(np.array(g_max))
    expected.insert(0, tensor.grad)
    tensor.grad = None
    tensor.cumsum(0).backward(g_running)
    expected.append(tensor.grad)
    for got, want, number in zip(received, expected, range(1, 5), strict=True):
        expect_close(got, want, what=f"gradient {number}")


@three_vjps.mistake(
    "Entry i of a running sum is used by r_i and by all that come after it. Your cumsum adds up "
    "what came before."
)
def runs_forward(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    right[3] = np.cumsum(g_running)
    return right


@three_vjps.mistake(
    "Nudge one of several equal maxima: the maximum cannot rise by the sum of all their gradients. "
    "What should tied entries do with g_max?"
)
def every_tie_gets_all(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    right[0] = np.where(x == x.max(), g_max, 0.0)
    return right


@three_vjps.mistake("np.argmax names one entry, the first. The statement says what tied maxima do.")
def only_the_first_maximum(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    right[0] = np.where(np.arange(len(x)) == np.argmax(x), g_max, 0.0)
    return right


@three_vjps.mistake(
    "Your seam is in the wrong place: how many entries of the joined array are x's?"
)
def cuts_at_the_wrong_length(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    right[1], right[2] = g_joined[: len(y)], g_joined[len(y) :]
    return right


@three_vjps.mistake(
    "Your seam is in the middle of the joined array. How many of its entries are x's?"
)
def cuts_in_the_middle(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    half = len(g_joined) // 2
    right[1], right[2] = g_joined[:half], g_joined[half:]
    return right


@three_vjps.mistake(
    "You hand the gradient of the running sum through unchanged. Raise the first entry of x: "
    "which of the sums rise?"
)
def running_sum_as_a_copy(x, y, g_max, g_joined, g_running):
    right = three_vjps(x, y, g_max, g_joined, g_running)
    right[3] = g_running
    return right


@exercise(
    "A check in one direction",
    difficulty=2,
    minutes=15,
    section="automatic-differentiation",
    because="the package's gradcheck moves one entry at a time, to name the one that is wrong",
    idea=(
        "Move the whole input along v at once, there and back. The weighted output then changes at "
        "the rate that its gradient has along v: a dot product."
    ),
)
def direction_check(f, vjp, x, r, v, h):
    """Return the measured and the promised slope along v, as an array of two numbers.

    f takes an array of x's shape and returns an array. r, of the shape of f(x), weighs the entries
    of the output; their weighted sum is the number whose slope is asked for. vjp(g) returns the
    gradient of x if g is that of f(x). v has x's shape and any length; a step along it goes to
    x + h·v. Measure with central differences and two runs of f, however many entries x has. For the
    promised slope call vjp once.
    """
    measured = ((f(x + h * v) - f(x - h * v)) * r).sum() / (2 * h)
    return np.array([measured, (vjp(r) * v).sum()])


@direction_check.check
def of_a_square(answer, rng):
    # x² at 3, weighed by 5, along 2: the slope is 5 · 6 · 2
    received = answer(
        lambda x: x * x, lambda g: 6 * g, np.array([3.0]), np.array([5.0]), np.array([2.0]), 0.01
    )
    expect_close(received, np.array([60.0, 60.0]), rtol=1e-6, what="the two slopes of 5x² along 2")


def _expect_slopes_of_a_layer(answer, rng, n, m):
    W, x, v, r = (rng.normal(size=s) for s in ((m, n), n, n, m))
    calls = []

    def layer(x):
        calls.append(x)
        return np.tanh(W @ x)

    received = answer(layer, lambda g: W.T @ (g * (1 - np.tanh(W @ x) ** 2)), x, r, v, 1e-5)
    slope = ((W @ v) * (1 - np.tanh(W @ x) ** 2) * r).sum()
    expect_close(received, np.array([slope, slope]), rtol=1e-6, what="the two slopes")
    expect(len(calls) == 2, f"f ran {len(calls)} times; two runs are enough")


@direction_check.check
def of_a_layer(answer, rng):
    for n, m in ((7, 3), (5, 11)):
        _expect_slopes_of_a_layer(answer, rng, n, m)


@direction_check.check
def of_a_wrong_vjp(answer, rng):
    x, v, r = rng.normal(size=(3, 2, 5))
    received = answer(np.exp, lambda g: g * np.exp(x) * 2, x, r, v, 1e-5)
    slope = (r * np.exp(x) * v).sum()
    expect_close(received, np.array([slope, 2 * slope]), rtol=1e-6, what="the two slopes")


@direction_check.check
def with_a_coarse_step(answer, rng):
    x, v, r = rng.normal(size=(3, 5))
    received = answer(lambda x: x**3, lambda g: g * 3 * x**2, x, r, v, 0.5)
    measured = (r * ((x + v / 2) ** 3 - (x - v / 2) ** 3)).sum()
    promised = (r * 3 * x**2 * v).sum()
    expect_close(received, np.array([measured, promised]), what="the two slopes, h = 0.5")


@direction_check.mistake("Your measured slope is twice too large. How far apart are the two runs?")
def divides_by_one_step(f, vjp, x, r, v, h):
    return direction_check(f, vjp, x, r, v, h) * [2, 1]


@direction_check.mistake(
    "You move to one side only. What does the curvature of f do to that slope, and what does it do "
    "if you also move to the other?"
)
def moves_to_one_side(f, vjp, x, r, v, h):
    measured = ((f(x + h * v) - f(x)) * r).sum() / h
    return np.array([measured, (vjp(r) * v).sum()])


@direction_check.mistake(
    "The weights r are missing in your measured slope. What do the two slopes have to agree on?"
)
def measures_a_plain_sum(f, vjp, x, r, v, h):
    measured = (f(x + h * v) - f(x - h * v)).sum() / (2 * h)
    return np.array([measured, (vjp(r) * v).sum()])


@direction_check.mistake(
    "You give the VJP ones. Which number's gradient does it return then, and whose is asked for?"
)
def starts_the_walk_with_ones(f, vjp, x, r, v, h):
    right = direction_check(f, vjp, x, r, v, h)
    return np.array([right[0], (vjp(np.ones_like(r)) * v).sum()])


@direction_check.mistake("You divide by the length of v. How far does a step of h·v go?")
def makes_v_a_unit_vector(f, vjp, x, r, v, h):
    return direction_check(f, vjp, x, r, v, h) / np.linalg.norm(v)


@direction_check.mistake(
    "Your promised slope is the sum of the gradient. Along v each entry moves by its own amount."
)
def sums_the_gradient(f, vjp, x, r, v, h):
    right = direction_check(f, vjp, x, r, v, h)
    return np.array([right[0], vjp(r).sum()])


@direction_check.mistake(
    "You shorten v to length 1. The step was to go to x + h·v, whatever the length of v."
)
def shortens_v_first(f, vjp, x, r, v, h):
    return direction_check(f, vjp, x, r, v / np.linalg.norm(v), h)


@exercise(
    "Topological order without recursion",
    difficulty=3,
    minutes=25,
    section="computational-graphs",
    because="the engine numbers its nodes when they are made, and sorts by number",
    idea=(
        "A node may be listed when all its parents are. Keep a stack of nodes that you have "
        "begun, each with the parents that it still has to visit, and remember which nodes you "
        "have met."
    ),
)
def topological_order(parents, root):
    """Return a list of root and all that it depends on, parents before children.

    Nodes are numbers in no particular order; parents[n] is the tuple of the nodes that node n was
    computed from, and empty for a leaf. Each node that root depends on appears once, root last. A
    chain of 4,000 nodes must work, so do not recurse; and do not follow paths: a graph of 60 nodes
    may have 2⁵⁹ of them.
    """
    order, seen, stack = [], {root}, [(root, iter(parents[root]))]
    while stack:
        node, waiting = stack[-1]
        parent = next((p for p in waiting if p not in seen), None)
        if parent is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(parent)
            stack.append((parent, iter(parents[parent])))
    return order


def _expect_order(answer, parents, root):
    received = answer(parents, root)
    expect(isinstance(received, list), "the answer should be a list of nodes")
    needed, stack = {root}, [root]
    while stack:
        for parent in parents[stack.pop()]:
            if parent not in needed:
                needed.add(parent)
                stack.append(parent)
    expect(
        len(received) == len(needed) and set(received) == needed,
        f"root depends on {len(needed)} nodes, itself included; the list has {len(received)} "
        f"entries, {len(set(received))} of them different",
    )
    place = {node: i for i, node in enumerate(received)}
    for node in received:
        for parent in parents[node]:
            expect(
                place[parent] < place[node],
                f"node {node} was computed from node {parent}, but stands before it",
            )


@topological_order.check
def a_short_chain(answer, rng):
    _expect_order(answer, [(2,), (0,), ()], 1)


@topological_order.check
def a_shortcut_and_a_detour(answer, rng):
    # u = x·x is used directly and through two more nodes, in either order of the last sum.
    for last in ((3, 1), (1, 3)):
        _expect_order(answer, [last, (4,), (1,), (2,), ()], 0)


@topological_order.check
def both_inputs_the_same(answer, rng):
    _expect_order(answer, [(n + 1, n + 1) for n in range(59)] + [()], 0)


@topological_order.check
def random_graphs(answer, rng):
    for _ in range(10):
        label = [int(n) for n in rng.permutation(30)]
        parents = [()] * 30
        for n in range(1, 30):
            chosen = {n - 1, *map(int, rng.integers(0, n, size=2))}
            parents[label[n]] = tuple(label[i] for i in sorted(chosen))
        _expect_order(answer, parents, label[29])


@topological_order.check
def four_thousand_in_a_chain(answer, rng):
    _expect_order(answer, [(n + 1,) for n in range(3_999)] + [()], 0)


@topological_order.mistake(
    "The order is right until Python's call stack ends. Keep the nodes you have begun in a list "
    "of your own."
)
def recurses(parents, root):
    order, seen = [], set()

    def visit(node):
        if node not in seen:
            seen.add(node)
            for parent in parents[node]:
                visit(parent)
            order.append(node)

    visit(root)
    return order


@topological_order.mistake(
    "Level by level from the root is no topological order: a node reached early by a shortcut may "
    "be an ancestor of one reached late. When may a node be listed?"
)
def by_levels(parents, root):
    order, seen = [root], {root}
    for node in order:
        for parent in parents[node]:
            if parent not in seen:
                seen.add(parent)
                order.append(parent)
    return order[::-1]


@topological_order.mistake(
    "You list a node when you take it from the stack, before all that was computed from it has "
    "been listed. Reversed, that is not a topological order."
)
def lists_when_popped(parents, root):
    order, seen, stack = [], {root}, [root]
    while stack:
        node = stack.pop()
        order.append(node)
        for parent in parents[node]:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return order[::-1]


@topological_order.mistake("Root is at the wrong end: parents should come before children.")
def the_wrong_way_round(parents, root):
    return topological_order(parents, root)[::-1]


@topological_order.mistake(
    "Sorting by number works where numbers are tickets. Here a node may have a smaller number than "
    "its parents."
)
def sorts_by_number(parents, root):
    return sorted(topological_order(parents, root))


@exercise(
    "Stacks and vectors in a product",
    difficulty=3,
    minutes=25,
    section="gradient-flow-and-accumulation",
    counterpart="chainrule.neural_networks.backpropagation.operations:matmul",
    idea=(
        "Give a vector the axis that it counts as having, and every case is a stack of matrices. A "
        "matrix that served several others of a stack has several uses, whose shares add."
    ),
)
def stacked_matmul(a, b):
    """Return (y, vjp) for y = np.matmul(a, b), with all that it allows.

    Each of a and b has at least one axis. Axes before the last two broadcast. A vector counts as
    one row on the left and as one column on the right, and y lacks that axis. vjp(g), for g of y's
    shape, returns the tuple (gradient of a, gradient of b), each of its input's shape.
    """
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    full = left @ right

    def summed(g, shape):
        g = g.sum(axis=tuple(range(g.ndim - len(shape))))
        return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)

    def vjp(g):
        g = g.reshape(full.shape)
        by_left = summed(g @ right.swapaxes(-1, -2), left.shape)
        by_right = summed(left.swapaxes(-1, -2) @ g, right.shape)
        return by_left.reshape(a.shape), by_right.reshape(b.shape)

    return np.matmul(a, b), vjp


def _expect_product(answer, rng, shape_a, shape_b):
    a, b = rng.normal(size=shape_a), rng.normal(size=shape_b)
    y, vjp = answer(a, b)
    what = f"for shapes {shape_a} and {shape_b}"
    expect_close(y, np.matmul(a, b), what=f"y {what}")
    g = rng.normal(size=y.shape)
    received = vjp(g.copy())
    tensors = [Tensor(x, requires_grad=True) for x in (a, b)]
    (tensors[0] @ tensors[1]).backward(g)
    expect_equal(len(received), 2, what=f"the number of gradients {what}")
    for got, tensor, name in zip(received, tensors, "ab", strict=True):
        expect_shape(got, tensor.shape, what=f"the gradient of {name} {what}")
        expect_close(got, tensor.grad, what=f"the gradient of {name} {what}")


@stacked_matmul.check
def two_matrices(answer, rng):
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0, 0.0], [4.0, 5.0]])
    y, vjp = answer(a, b)
    by_a, by_b = vjp(np.array([[1.0, 10.0]]))
    expect_close(y, np.array([[11.0, 10.0]]), what="y")
    expect_close(by_a, np.array([[3.0, 54.0]]), what="the gradient of a")
    expect_close(by_b, np.array([[1.0, 10.0], [2.0, 20.0]]), what="the gradient of b")
    _expect_product(answer, rng, (3, 5), (5, 7))


@stacked_matmul.check
def stacks_of_equal_length(answer, rng):
    _expect_product(answer, rng, (2, 3, 5), (2, 5, 7))


@stacked_matmul.check
def a_stack_and_one_matrix(answer, rng):
    _expect_product(answer, rng, (2, 3, 5), (5, 7))
    _expect_product(answer, rng, (3, 5), (11, 2, 5, 7))


@stacked_matmul.check
def axes_of_size_one(answer, rng):
    _expect_product(answer, rng, (2, 1, 3, 5), (1, 7, 5, 3))
    _expect_product(answer, rng, (11, 1, 5), (1, 5, 1))


@stacked_matmul.check
def vectors(answer, rng):
    for shapes in (((3, 5), (5,)), ((5,), (5, 7)), ((5,), (5,)), ((2, 3, 5), (5,))):
        _expect_product(answer, rng, *shapes)
    _expect_product(answer, rng, (5,), (11, 2, 5, 7))


def _wrong_sum(a, b, summed):
    """The solution with another way back from the stack's shape to an input's."""
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    full = left @ right

    def vjp(g):
        g = g.reshape(full.shape)
        return (
            summed(g @ right.swapaxes(-1, -2), left.shape, a.shape),
            summed(left.swapaxes(-1, -2) @ g, right.shape, b.shape),
        )

    return np.matmul(a, b), vjp


def _right_sum(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


@stacked_matmul.mistake(
    "One matrix served a whole stack, and your gradient still has the stack's axes. What do the "
    "shares of several uses do?"
)
def forgets_the_shared_matrix(a, b):
    return _wrong_sum(
        a, b, lambda g, shape, own: g if own == shape else g.reshape(g.shape[:-2] + own)
    )


@stacked_matmul.mistake(
    "Axes in front that an input lacks are added up. But an input may also have such an axis with "
    "size 1."
)
def forgets_axes_of_size_one(a, b):
    return _wrong_sum(
        a,
        b,
        lambda g, shape, own: g.sum(axis=tuple(range(g.ndim - len(shape)))).reshape(
            own
            if g[(0,) * (g.ndim - len(shape))].shape == shape
            else g.shape[g.ndim - len(shape) :]
        ),
    )


@stacked_matmul.mistake(
    "A matrix that served several others moves them all. Is its gradient their shares' mean?"
)
def takes_the_mean(a, b):
    return _wrong_sum(
        a,
        b,
        lambda g, shape, own: (_right_sum(g, shape) * (np.prod(shape) / g.size)).reshape(own),
    )


@stacked_matmul.mistake(
    "A vector was given an axis to multiply it. Whose shape should its gradient have?"
)
def keeps_the_vectors_axis(a, b):
    return _wrong_sum(a, b, lambda g, shape, own: _right_sum(g, shape))


@stacked_matmul.mistake("Your two gradients are in the wrong order: first that of a.")
def hands_the_gradients_over_crosswise(a, b):
    y, vjp = stacked_matmul(a, b)
    return y, lambda g: vjp(g)[::-1]


@stacked_matmul.mistake(
    "Some of your gradients still have axes that their input lacks, or has with size 1. What do "
    "the shares of several uses do?"
)
def adds_up_nothing(a, b):
    return _wrong_sum(a, b, lambda g, shape, own: g.reshape(own) if g.size == np.prod(own) else g)


@stacked_matmul.mistake(
    "Right for two matrices. On a stack, .T turns round all axes: which two should change places?"
)
def turns_round_all_axes(a, b):
    return np.matmul(a, b), lambda g: (g @ b.T, a.T @ g)


@stacked_matmul.mistake(
    "Right as long as both have two axes. A vector has no row and no column to swap: give it the "
    "axis that it counts as having."
)
def leaves_vectors_as_they_are(a, b):
    def vjp(g):
        return _right_sum(g @ b.mT, a.shape), _right_sum(a.mT @ g, b.shape)

    return np.matmul(a, b), vjp


@exercise(
    "The cosine of two vectors, as one operation",
    difficulty=3,
    minutes=25,
    section="write-an-operation",
    because="the package composes a cosine of a product, a sum and two norms, which have VJPs",
    idea=(
        "Let one vector move and hold the other. Moving it along itself changes no angle; what is "
        "left of the other vector's direction pulls, and a longer vector turns less."
    ),
)
def cosine_vjp(x, z):
    """Return (c, vjp), where c are the cosines of the angles between the rows of x and of z.

    x and z have shape (n, d), no row is zero; c has shape (n,). vjp(g), for g of c's shape, returns
    the tuple (gradient of x, gradient of z).
    """
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, z)]
    u, w = x / lengths[0], z / lengths[1]
    c = (u * w).sum(axis=1, keepdims=True)

    def vjp(g):
        g = g[:, None]
        return g * (w - c * u) / lengths[0], g * (u - c * w) / lengths[1]

    return c[:, 0], vjp


@cosine_vjp.check
def forty_five_degrees(answer, rng):
    c, vjp = answer(np.array([[2.0, 0.0]]), np.array([[3.0, 3.0]]))
    expect_close(c, np.array([0.5**0.5]), what="the cosine of (2, 0) and (3, 3)")
    by_x, by_z = vjp(np.array([2.0]))
    expect_close(by_x, np.array([[0.0, 0.5**0.5]]), atol=1e-12, what="the gradient of (2, 0)")
    expected = np.array([[1.0, -1.0]]) * (0.5**0.5 / 3)
    expect_close(by_z, expected, what="the gradient of (3, 3)")


@cosine_vjp.check
def as_the_engine_composes_it(answer, rng):
    for n, d in ((5, 3), (2, 7), (1, 11)):
        arrays, g = rng.normal(size=(2, n, d)) * [[[0.3]], [[4.0]]], rng.normal(size=n)
        x, z = (Tensor(a, requires_grad=True) for a in arrays)
        together = (x * z).sum(axis=1)
        cosines = together / ((x * x).sum(axis=1) * (z * z).sum(axis=1)).sqrt()
        cosines.backward(g)
        c, vjp = answer(*arrays)
        expect_close(c, cosines.data, what="the cosines")
        received = vjp(g.copy())
        for got, tensor, name in zip(received, (x, z), "xz", strict=True):
            expect_shape(got, tensor.shape, what=f"the gradient of {name}")
            expect_close(got, tensor.grad, rtol=1e-8, what=f"the gradient of {name}")


@cosine_vjp.mistake(
    "You hold the length of the vector that moves constant. A step along the vector itself should "
    "change no angle: what must be taken away?"
)
def forgets_the_projection(x, z):
    c, _ = cosine_vjp(x, z)
    product = np.linalg.norm(x, axis=1, keepdims=True) * np.linalg.norm(z, axis=1, keepdims=True)
    return c, lambda g: (g[:, None] * z / product, g[:, None] * x / product)


@cosine_vjp.mistake(
    "The directions of your gradients are right, their lengths are not. Does a long vector turn as "
    "far as a short one when both move by the same step?"
)
def forgets_to_divide_by_the_length(x, z):
    c, vjp = cosine_vjp(x, z)
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, z)]
    return c, lambda g: tuple(part * n for part, n in zip(vjp(g), lengths, strict=True))


@cosine_vjp.mistake("Each gradient is divided by the length of the other vector. Which one moves?")
def divides_by_the_others_length(x, z):
    c, vjp = cosine_vjp(x, z)
    ratio = np.linalg.norm(x, axis=1, keepdims=True) / np.linalg.norm(z, axis=1, keepdims=True)
    return c, lambda g: (vjp(g)[0] * ratio, vjp(g)[1] / ratio)


@cosine_vjp.mistake("Your gradients do not depend on g. What does the walk hand to a VJP?")
def forgets_the_gradient_of_the_output(x, z):
    c, vjp = cosine_vjp(x, z)
    return c, lambda g: vjp(np.ones_like(g))


@cosine_vjp.mistake("Your two gradients are in the wrong order: first that of x.")
def hands_them_over_crosswise(x, z):
    c, vjp = cosine_vjp(x, z)
    return c, lambda g: vjp(g)[::-1]


@cosine_vjp.mistake(
    "You take away the part along the vector that is held. Along which one would a step of x "
    "change no angle?"
)
def projects_on_the_other(x, z):
    c, _ = cosine_vjp(x, z)
    lengths = [np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, z)]
    u, w, k = x / lengths[0], z / lengths[1], c[:, None]
    return c, lambda g: (
        g[:, None] * (w - k * w) / lengths[0],
        g[:, None] * (u - k * u) / lengths[1],
    )


@given
class Shelf:
    """Holds arrays by number, and remembers the most that it held at once."""

    def __init__(self):
        self.arrays = {}
        self.most = 0

    def put(self, number, array):
        """Keep an array."""
        self.arrays[number] = array
        self.most = max(self.most, len(self.arrays))

    def get(self, number):
        """Return an array that was put."""
        return self.arrays[number]

    def drop(self, number):
        """Forget an array."""
        del self.arrays[number]


@exercise(
    "A table that is looked up",
    difficulty=3,
    minutes=20,
    section="a-table-of-vectors",
    counterpart="chainrule.neural_networks.backpropagation.operations:_take",
    idea=(
        "Looking up is a product with rows of zeros that have a single one. The gradient of such "
        "a product needs no loop, and repeated numbers add up by themselves."
    ),
)
def look_up(table, ids):
    """Return the vectors of a table with the given numbers, and a function vjp.

    table has shape (n, d), ids any shape (…), and the vectors have shape (…, d). vjp(g), with g
    the gradient of the vectors, returns the gradient of the table. Use no loop and no np.add.at.
    """
    flat = ids.reshape(-1)

    def vjp(g):
        ones = (np.arange(len(table))[:, None] == flat).astype(g.dtype)
        return ones @ g.reshape(-1, table.shape[1])

    return table[ids], vjp


@look_up.by_package
def _(package, table, ids):
    vectors, vjp = package(table, ids, axis=0)
    return vectors, lambda g: vjp(g)[0]


@look_up.in_package
def _(mine, table, ids, axis=0):
    if axis:
        raise NotImplementedError(f"this exercise looks up along the first axis, not {axis}")
    vectors, vjp = mine(table, ids)
    return vectors, lambda g: (vjp(g), None)


@look_up.check
def three_numbers(answer, rng):
    table, g = np.arange(8.0).reshape(4, 2), np.array([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    vectors, vjp = answer(table, np.array([3, 0, 3]))
    expect_close(vectors, table[[3, 0, 3]], what="the vectors of 3, 0 and 3")
    expected = np.array([[10.0, 20.0], [0.0, 0.0], [0.0, 0.0], [101.0, 202.0]])
    expect_close(vjp(g), expected, what="the gradient of the table, looked up at 3, 0 and 3,")


@look_up.check
def a_batch_of_texts(answer, rng):
    table, ids, g = rng.normal(size=(5, 3)), rng.integers(0, 5, size=(2, 7)), rng.normal(size=42)
    g = g.reshape(2, 7, 3)
    vectors, vjp = answer(table, ids)
    expect_shape(vectors, (2, 7, 3), what="the vectors of a batch")
    expect_close(vectors, table[ids], what="the vectors of a batch")
    expect_close(vjp(g), look_up(table, ids)[1](g), what="the gradient of the table of a batch")


@look_up.mistake(
    "A number that stands there twice gets one share only. How often did its vector move the loss?"
)
def writes_instead_of_adding(table, ids):
    def vjp(g):
        gradient = np.zeros(table.shape, g.dtype)
        gradient[ids] += g
        return gradient

    return table[ids], vjp


@look_up.mistake(
    "You average the shares of a number that stands there several times. Each of its uses moves "
    "the loss by itself."
)
def averages_the_shares(table, ids):
    counts = np.maximum(np.bincount(ids.reshape(-1), minlength=len(table)), 1)
    return table[ids], lambda g: look_up(table, ids)[1](g) / counts[:, None]


@look_up.mistake(
    "Your gradient has the shape of the vectors. It belongs to the table: one row a number, zeros "
    "for those that nobody looked up."
)
def returns_the_shares(table, ids):
    return table[ids], lambda g: g


@exercise(
    "A layer for any number of axes",
    difficulty=3,
    minutes=25,
    section="two-layers-with-shapes",
    counterpart="chainrule.neural_networks.backpropagation.operations:linear",
    idea=(
        "All axes but the last are examples, whether they count texts or positions. Make one "
        "long axis of them, use the three formulas, and give x its axes back."
    ),
)
def linear_layer(x, weight, bias):
    """Return x Wᵀ + b, and a function vjp.

    x has shape (…, n) with any number of axes in front, weight (m, n), bias (m,). vjp(g), with g
    the gradient of the output, returns the gradients of x, weight and bias, a tuple.
    """
    rows = x.reshape(-1, x.shape[-1])

    def vjp(g):
        flat = g.reshape(-1, len(weight))
        return (flat @ weight).reshape(x.shape), flat.T @ rows, flat.sum(axis=0)

    return x @ weight.T + bias, vjp


@linear_layer.by_package
def _(package, x, weight, bias):
    return package(x, weight, bias)


@linear_layer.in_package
def _(mine, x, weight, bias=None):
    return mine(x, weight, np.zeros(len(weight), x.dtype) if bias is None else bias)


def _layer_both_ways(answer, rng, *shape):
    x, weight, bias = rng.normal(size=(*shape, 5)), rng.normal(size=(3, 5)), rng.normal(size=3)
    g, what = rng.normal(size=(*shape, 3)), f"of x of shape {(*shape, 5)}"
    received, expected = answer(x, weight, bias), linear_layer(x, weight, bias)
    expect(
        isinstance(received, tuple | list) and len(received) == 2,
        "return two things: the output and the function vjp",
    )
    expect_close(received[0], expected[0], what=f"the output {what}")
    gradients = received[1](g)
    expect(len(gradients) == 3, f"vjp returns three gradients; received {len(gradients)}")
    for got, want, name in zip(gradients, expected[1](g), ("x", "W", "b"), strict=True):
        expect_close(got, want, what=f"the gradient of {name} {what}")


@linear_layer.check
def a_batch(answer, rng):
    _layer_both_ways(answer, rng, 7)


@linear_layer.check
def texts_and_positions(answer, rng):
    _layer_both_ways(answer, rng, 2, 7)


@linear_layer.check
def one_row(answer, rng):
    _layer_both_ways(answer, rng)


@linear_layer.mistake(
    "The bias was added to every row. You hand back one row's share, or their mean: what happens "
    "to the gradients of something that is used several times?"
)
def mean_for_the_bias(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        by_x, by_weight, by_bias = vjp(g)
        return by_x, by_weight, by_bias / max(g.size // len(weight), 1)

    return y, back


@linear_layer.mistake(
    "Your gradient of W is divided by the number of rows. The mean over examples belongs to the "
    "loss, and is in g already."
)
def mean_for_the_weight(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        by_x, by_weight, by_bias = vjp(g)
        return by_x, by_weight / max(g.size // len(weight), 1), by_bias

    return y, back


@linear_layer.mistake(
    "Your gradient of W has the axes of its transpose. A gradient has the shape of what it belongs "
    "to."
)
def transposed_gradient(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        by_x, by_weight, by_bias = vjp(g)
        return by_x, by_weight.T, by_bias

    return y, back


@linear_layer.mistake("You add the bias before you multiply, or not at all. Where does it stand?")
def without_bias(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)
    return y - bias, vjp


@linear_layer.mistake(
    "You sum the gradient of the bias over the first axis alone. Over which axes was it repeated?"
)
def sums_the_first_axis(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        return *vjp(g)[:2], g.sum(axis=0)

    return y, back


@linear_layer.mistake(
    "Your gradient of the bias has the shape of the output. Every row used the same bias: what "
    "happens to its shares?"
)
def bias_not_summed(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        return *vjp(g)[:2], g

    return y, back


@linear_layer.mistake(
    "You divide the gradients of W and b by the number of rows. The mean over examples belongs to "
    "the loss, and is in g already."
)
def means_for_both(x, weight, bias):
    y, vjp = linear_layer(x, weight, bias)

    def back(g):
        by_x, by_weight, by_bias = vjp(g)
        rows = max(g.size // len(weight), 1)
        return by_x, by_weight / rows, by_bias / rows

    return y, back


@exercise(
    "Checkpoints",
    difficulty=4,
    minutes=35,
    section="checkpointing-time-for-memory",
    mutates=True,
    because="the package's checkpoint wraps a function in the graph and keeps no shelf",
    idea=(
        "Going back, handle one segment at a time, the last first: compute its inputs again "
        "from its checkpoint, walk back through it, and forget them."
    ),
)
def checkpointed_gradient(layers, x, g, every, shelf):
    """Return the gradient for x, the input of a chain of layers, keeping few arrays on the shelf.

    Each layer has forward(x), which returns its output, and vjp(g, x), which needs its input x and
    turns the gradient of its output into that of its input; g is the gradient of the last output.
    Going forward, put only the inputs of layers 0, every, 2·every, … on the shelf:
    shelf.put(number, array). Going back, run each segment again from its checkpoint (shelf.get),
    putting its inputs on the shelf, and drop what has been used: shelf.drop(number). No layer may
    run forward more than twice. With 16 layers and every = 4 the shelf holds at most 7 arrays.
    """
    h = x
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, h)
        h = layer.forward(h)
    for start in reversed(range(0, len(layers), every)):
        end = min(start + every, len(layers))
        for i in range(start, end - 1):
            shelf.put(i + 1, layers[i].forward(shelf.get(i)))
        for i in reversed(range(start, end)):
            g = layers[i].vjp(g, shelf.get(i))
            shelf.drop(i)
    return g


class _Tanh:
    def __init__(self, factor):
        self.factor, self.runs = factor, 0

    def forward(self, x):
        self.runs += 1
        return np.tanh(self.factor * x)

    def vjp(self, g, x):
        return g * self.factor * (1 - np.tanh(self.factor * x) ** 2)


def _run(answer, count, every, rng):
    layers = [_Tanh(float(f)) for f in rng.uniform(0.7, 1.4, size=count)]
    x, g = rng.normal(size=5), rng.normal(size=5)
    shelf = Shelf()
    received = answer(layers, x, g, every, shelf)
    leaf = Tensor(x, requires_grad=True)
    h = leaf
    for layer in layers:
        h = (h * layer.factor).tanh()
    h.backward(g)
    expect_close(received, leaf.grad, rtol=1e-9, what=f"the gradient, {count} layers by {every}")
    return layers, shelf


@checkpointed_gradient.check
def two_layers(answer, rng):
    _run(answer, 2, 1, rng)


@checkpointed_gradient.check
def right_for_any_spacing(answer, rng):
    for count, every in ((6, 2), (7, 3), (5, 5), (4, 9)):
        _run(answer, count, every, rng)


@checkpointed_gradient.check
def keeps_little(answer, rng):
    for count, every, limit in ((16, 4, 7), (64, 8, 15), (10, 3, 6)):
        _, shelf = _run(answer, count, every, rng)
        expect(
            shelf.most <= limit,
            f"{count} layers, every = {every}: the shelf held {shelf.most} arrays at once, "
            f"at most {limit} are needed",
        )


@checkpointed_gradient.check
def runs_at_most_twice(answer, rng):
    layers, _ = _run(answer, 16, 4, rng)
    most = max(layer.runs for layer in layers)
    expect(most <= 2, f"a layer ran forward {most} times; twice is enough")


@checkpointed_gradient.check
def leaves_an_empty_shelf(answer, rng):
    _, shelf = _run(answer, 16, 4, rng)
    expect_equal(len(shelf.arrays), 0, what="the number of arrays left on the shelf")


@checkpointed_gradient.mistake(
    "The gradient is right, and so is every array you saved: you saved them all. Which of them "
    "can be computed again?"
)
def saves_everything(layers, x, g, every, shelf):
    h = x
    for i, layer in enumerate(layers):
        shelf.put(i, h)
        h = layer.forward(h)
    for i in reversed(range(len(layers))):
        g = layers[i].vjp(g, shelf.get(i))
        shelf.drop(i)
    return g


@checkpointed_gradient.mistake(
    "Your shelf fills up again on the way back. What has a segment's arrays to do there once its "
    "gradient has passed?"
)
def never_drops(layers, x, g, every, shelf):
    class Hoarder:
        put, get = shelf.put, shelf.get

        @staticmethod
        def drop(number):
            return None

    return checkpointed_gradient(layers, x, g, every, Hoarder)


@checkpointed_gradient.mistake(
    "Little memory, much time: early layers run again for each later one. Start each segment from "
    "its checkpoint and keep its inputs while you walk through it."
)
def runs_from_the_checkpoint_each_time(layers, x, g, every, shelf):
    h = x
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, h)
        h = layer.forward(h)
    for i in reversed(range(len(layers))):
        start = i - i % every
        h = shelf.get(start)
        for j in range(start, i):
            h = layers[j].forward(h)
        g = layers[i].vjp(g, h)
        if i == start:
            shelf.drop(start)
    return g


@checkpointed_gradient.mistake(
    "A layer's VJP asks for that layer's input. You hand it the input of its segment."
)
def uses_the_checkpoint_as_input(layers, x, g, every, shelf):
    h = x
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, h)
        h = layer.forward(h)
    for i in reversed(range(len(layers))):
        g = layers[i].vjp(g, shelf.get(i - i % every))
        if i % every == 0:
            shelf.drop(i)
    return g


@checkpointed_gradient.mistake(
    "A layer's VJP asks for that layer's input. You hand it what the layer returned."
)
def hands_over_outputs(layers, x, g, every, shelf):
    h = x
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, h)
        h = layer.forward(h)
    for start in reversed(range(0, len(layers), every)):
        outputs = [shelf.get(start)]
        for layer in layers[start : start + every]:
            outputs.append(layer.forward(outputs[-1]))
        for layer in reversed(layers[start : start + every]):
            g = layer.vjp(g, outputs.pop())
        shelf.drop(start)
    return g


@checkpointed_gradient.mistake(
    "The last segment may be shorter than the others. Your walk back never enters it."
)
def skips_the_shorter_segment(layers, x, g, every, shelf):
    whole = len(layers) - len(layers) % every
    h = x
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, h)
        h = layer.forward(h)
    for start in reversed(range(0, whole, every)):
        for i in range(start, start + every - 1):
            shelf.put(i + 1, layers[i].forward(shelf.get(i)))
        for i in reversed(range(start, start + every)):
            g = layers[i].vjp(g, shelf.get(i))
            shelf.drop(i)
    return g
