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


@exercise(
    "Undo broadcasting",
    difficulty=3,
    minutes=20,
    section="gradient-flow-and-accumulation",
    counterpart="chainrule.neural_networks.backpropagation.graph:sum_to",
    idea=(
        "An axis that the input lacks, or had with size 1, was copied. The gradient of copies "
        "is their sum, and axes of size 1 stay."
    ),
)
def unbroadcast(g, shape):
    """Return the gradient of an input of the given shape that was broadcast to g's shape.

    shape is a tuple; the result has that shape, with axes of size 1 kept. g.shape is what NumPy's
    rules make of shape beside some other array, so shape may have fewer axes than g.
    """
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    stretched = tuple(i for i, size in enumerate(shape) if size == 1)
    return g.sum(axis=stretched, keepdims=True)


@unbroadcast.check
def a_bias(answer, rng):
    g = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expect_close(answer(g, (3,)), np.array([5.0, 7.0, 9.0]), what="the gradient of shape (3,)")


@unbroadcast.check
def a_column(answer, rng):
    g = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    received = answer(g, (2, 1))
    expect_shape(received, (2, 1), what="the gradient")
    expect_close(received, np.array([[6.0], [15.0]]), what="the gradient of shape (2, 1)")


@unbroadcast.check
def a_number(answer, rng):
    received = np.asarray(answer(np.ones((2, 3)), ()))
    expect_shape(received, (), what="the gradient of a number")
    expect_close(received, np.array(6.0), what="the gradient of a number")


@unbroadcast.check
def fifty_random_pairs(answer, rng):
    for _ in range(50):
        full = tuple(int(n) for n in rng.choice([2, 3, 5, 7], size=rng.integers(1, 5)))
        shape = tuple(int(n) for n in np.where(rng.random(len(full)) < 0.4, 1, full))
        shape = shape[int(rng.integers(0, len(shape) + 1)) :]
        g = rng.normal(size=full)
        x = Tensor(np.zeros(shape), requires_grad=True)
        (x + np.zeros(full)).backward(g)
        received = np.asarray(answer(g, shape))
        expect_shape(received, shape, what=f"the gradient, from {full} to {shape},")
        expect_close(received, x.grad, what=f"the gradient, from {full} to {shape},")


@unbroadcast.mistake(
    "Axes in front that the input lacks are summed. But the input may also have had an axis of "
    "size 1 that was stretched."
)
def only_leading_axes(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


@unbroadcast.mistake(
    "Three copies each move the loss by 1: moving the original moves it by 3, not by their mean."
)
def takes_the_mean(g, shape):
    full = g.size / max(np.prod(shape), 1)
    return unbroadcast(g, shape) / full


@unbroadcast.mistake("Your sums are right, but an axis of size 1 has gone missing. See keepdims.")
def drops_axes_of_size_one(g, shape):
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1))


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


@exercise(
    "Layer normalization with gain and shift",
    difficulty=4,
    minutes=30,
    section="layer-normalization-in-three-terms",
    counterpart="chainrule.neural_networks.regularization:_layer_norm",
    idea=(
        "What reaches x̂ is g times the gain. From there two ways lead back beside the direct "
        "one: through the mean and through the deviation. Each takes one projection away."
    ),
)
def layer_norm_vjp(g, x, gain, eps):
    """Return the gradients for x, gain and shift, where y = x̂·gain + shift, as three arrays.

    x and g, the gradient of y, have shape (B, d); gain and shift have shape (d,). Each row of x̂ is
    the row of x minus its mean, divided by the root of (its variance + eps). The variance divides
    by d. shift itself is not needed.
    """
    c = x - x.mean(axis=-1, keepdims=True)
    s = np.sqrt((c * c).mean(axis=-1, keepdims=True) + eps)
    x_hat = c / s
    inner = g * gain
    scaled = x_hat * (inner * x_hat).mean(axis=-1, keepdims=True)
    x_grad = (inner - inner.mean(axis=-1, keepdims=True) - scaled) / s
    return x_grad, (g * x_hat).sum(axis=0), g.sum(axis=0)


@layer_norm_vjp.by_package
def _(package, g, x, gain, eps):
    _, vjp = package(gain, np.zeros_like(gain), x, d=x.shape[-1], eps=eps)
    by_gain, by_shift, by_x = vjp(g)
    return by_x, by_gain, by_shift


def _layer_norm_by_engine(g, x, gain, eps):
    leaves = [Tensor(v, requires_grad=True) for v in (x, gain, np.zeros_like(gain))]
    rows, factor, shift = leaves
    c = rows - rows.mean(axis=-1, keepdims=True)
    y = c / ((c * c).mean(axis=-1, keepdims=True) + eps).sqrt() * factor + shift
    y.backward(g)
    return [leaf.grad for leaf in leaves]


@layer_norm_vjp.check
def the_example_of_the_page(answer, rng):
    x, g = np.array([[1.0, 1.0, 3.0, 3.0]]), np.array([[1.0, 0.0, 0.0, 0.0]])
    x_grad, gain_grad, shift_grad = answer(g, x, np.ones(4), 0.0)
    expect_close(x_grad, np.array([[0.5, -0.5, 0.0, 0.0]]), what="the gradient for x")
    expect_close(gain_grad, np.array([-1.0, 0.0, 0.0, 0.0]), what="the gradient for gain")
    expect_close(shift_grad, np.array([1.0, 0.0, 0.0, 0.0]), what="the gradient for shift")


@layer_norm_vjp.check
def a_batch_with_gain(answer, rng):
    x, g, gain = rng.normal(size=(3, 7)), rng.normal(size=(3, 7)), rng.normal(size=7)
    received = answer(g, x, gain, 1e-5)
    for got, want, name in zip(
        received, _layer_norm_by_engine(g, x, gain, 1e-5), ("x", "gain", "shift"), strict=True
    ):
        expect_close(got, want, rtol=1e-8, what=f"the gradient for {name}")


@layer_norm_vjp.check
def with_a_large_eps(answer, rng):
    x, g, gain = rng.normal(size=(2, 5)), rng.normal(size=(2, 5)), rng.normal(size=5)
    want = _layer_norm_by_engine(g, x, gain, 0.5)[0]
    expect_close(answer(g, x, gain, 0.5)[0], want, rtol=1e-8, what="the gradient for x, eps = 0.5")


@layer_norm_vjp.mistake(
    "You treat the mean and s as constants. But both move when x moves: two terms are missing."
)
def statistics_held_constant(g, x, gain, eps):
    right = layer_norm_vjp(g, x, gain, eps)
    s = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    return (g * gain / s, *right[1:])


@layer_norm_vjp.mistake("Two of three terms are there. What does a step along x̂ itself do to s?")
def forgets_the_variance(g, x, gain, eps):
    right = layer_norm_vjp(g, x, gain, eps)
    s = np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    inner = g * gain
    return ((inner - inner.mean(axis=-1, keepdims=True)) / s, *right[1:])


@layer_norm_vjp.mistake("Right when every gain is 1. What reaches x̂ is not g: y is x̂ times gain.")
def forgets_the_gain(g, x, gain, eps):
    right = layer_norm_vjp(g, x, gain, eps)
    return (layer_norm_vjp(g, x, np.ones_like(gain), eps)[0], *right[1:])


@layer_norm_vjp.mistake("Right for one row. gain and shift serve all rows: what do copies do?")
def averages_over_the_batch(g, x, gain, eps):
    x_grad, gain_grad, shift_grad = layer_norm_vjp(g, x, gain, eps)
    return x_grad, gain_grad / len(x), shift_grad / len(x)


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
