"""Blind set of neural-networks/backpropagation: wrong answers from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


@wrong(
    "six_gradients",
    "The derivative by b counts the product alone, not the sum.",
    known="forgets_the_sum_of_b",
)
def _(a, b, c):
    e = a * b + b - c
    return np.array([2 * e, 2 * e, 2 * e, 2 * e * b, 2 * e * a, -2 * e])


@wrong(
    "six_gradients",
    "The derivative by b counts the sum alone, not the product.",
    known="overwrites_the_first_share",
)
def _(a, b, c):
    e = a * b + b - c
    return np.array([2 * e, 2 * e, 2 * e, 2 * e * b, 2 * e, -2 * e])


@wrong("six_gradients", "The difference sends a plus to c.", known="loses_the_minus")
def _(a, b, c):
    e = a * b + b - c
    return np.array([2 * e, 2 * e, 2 * e, 2 * e * b, 2 * e * (a + 1), 2 * e])


@wrong(
    "six_gradients",
    "The square's derivative is taken as e, without the 2.",
    known="forgets_the_two",
)
def _(a, b, c):
    e = a * b + b - c
    return np.array([e, e, e, e * b, e * (a + 1), -e])


@wrong("six_gradients", "The factors of the product are swapped.", known="swaps_the_factors")
def _(a, b, c):
    e = a * b + b - c
    return np.array([2 * e, 2 * e, 2 * e, 2 * e * a, 2 * e * (b + 1), -2 * e])


@wrong("three_vjps", "Every tied maximum gets the whole gradient.", known="every_tie_gets_all")
def _(x, y, g_max, g_joined, g_running):
    n = len(x)
    back = np.cumsum(g_running[::-1])[::-1]
    return [np.where(x == x.max(), g_max, 0.0), g_joined[:n], g_joined[n:], back]


@wrong(
    "three_vjps",
    "Only the first of the tied maxima gets the gradient.",
    known="only_the_first_maximum",
)
def _(x, y, g_max, g_joined, g_running):
    n = len(x)
    by_max = np.zeros(n)
    by_max[np.argmax(x)] = g_max
    back = np.cumsum(g_running[::-1])[::-1]
    return [by_max, g_joined[:n], g_joined[n:], back]


@wrong(
    "three_vjps", "The running sum goes back as a running sum from the front.", known="runs_forward"
)
def _(x, y, g_max, g_joined, g_running):
    n = len(x)
    top = x == x.max()
    return [np.where(top, g_max / top.sum(), 0.0), g_joined[:n], g_joined[n:], np.cumsum(g_running)]


@wrong(
    "three_vjps",
    "The running sum goes back unchanged, as if each output used one input.",
    known="running_sum_as_a_copy",
)
def _(x, y, g_max, g_joined, g_running):
    n = len(x)
    top = x == x.max()
    return [np.where(top, g_max / top.sum(), 0.0), g_joined[:n], g_joined[n:], 1.0 * g_running]


@wrong(
    "three_vjps",
    "Cuts the joined gradient at half, as if x and y were equally long.",
    known="cuts_in_the_middle",
)
def _(x, y, g_max, g_joined, g_running):
    n = len(g_joined) // 2
    top = x == x.max()
    back = np.cumsum(g_running[::-1])[::-1]
    return [np.where(top, g_max / top.sum(), 0.0), g_joined[:n], g_joined[n:], back]


@wrong("direction_check", "Divides by h, and not by 2h.", known="divides_by_one_step")
def _(f, vjp, x, r, v, h):
    rise = np.sum(r * f(x + h * v)) - np.sum(r * f(x - h * v))
    return np.array([rise / h, np.sum(vjp(r) * v)])


@wrong(
    "direction_check", "A forward difference in place of a central one.", known="moves_to_one_side"
)
def _(f, vjp, x, r, v, h):
    rise = np.sum(r * f(x + h * v)) - np.sum(r * f(x))
    return np.array([rise / h, np.sum(vjp(r) * v)])


@wrong(
    "direction_check",
    "Measures the plain sum of the outputs, without their weights.",
    known="measures_a_plain_sum",
)
def _(f, vjp, x, r, v, h):
    rise = np.sum(f(x + h * v)) - np.sum(f(x - h * v))
    return np.array([rise / (2 * h), np.sum(vjp(r) * v)])


@wrong(
    "direction_check",
    "Hands ones to the VJP in place of the weights.",
    known="starts_the_walk_with_ones",
)
def _(f, vjp, x, r, v, h):
    rise = np.sum(r * f(x + h * v)) - np.sum(r * f(x - h * v))
    return np.array([rise / (2 * h), np.sum(vjp(np.ones_like(r)) * v)])


@wrong(
    "direction_check",
    "Makes the direction one long, where any length was allowed.",
    known="shortens_v_first",
)
def _(f, vjp, x, r, v, h):
    v = v / np.linalg.norm(v)
    rise = np.sum(r * f(x + h * v)) - np.sum(r * f(x - h * v))
    return np.array([rise / (2 * h), np.sum(vjp(r) * v)])


@wrong("topological_order", "Calls itself for each parent: the long chain fails.", known="recurses")
def _(parents, root):
    order, seen = [], set()

    def visit(n):
        if n not in seen:
            seen.add(n)
            for p in parents[n]:
                visit(p)
            order.append(n)

    visit(root)
    return order


@wrong(
    "topological_order",
    "Depth first from the root, then turned round: a shortcut comes too late.",
    known="lists_when_popped",
)
def _(parents, root):
    order, stack, seen = [], [root], {root}
    while stack:
        n = stack.pop()
        order.append(n)
        for p in parents[n]:
            if p not in seen:
                seen.add(p)
                stack.append(p)
    return order[::-1]


@wrong("topological_order", "Level by level from the root, then turned round.", known="by_levels")
def _(parents, root):
    order, seen = [root], {root}
    for n in order:
        for p in parents[n]:
            if p not in seen:
                seen.add(p)
                order.append(p)
    return order[::-1]


@wrong(
    "topological_order",
    "Children before parents: forgets to turn the list round.",
    known="the_wrong_way_round",
)
def _(parents, root):
    order, stack, seen = [], [(root, False)], set()
    while stack:
        n, done = stack.pop()
        if done:
            order.append(n)
        elif n not in seen:
            seen.add(n)
            stack.append((n, True))
            stack.extend((p, False) for p in parents[n])
    return order[::-1]


@wrong(
    "topological_order", "Sorts by number, though the numbers say nothing.", known="sorts_by_number"
)
def _(parents, root):
    seen, stack = {root}, [root]
    while stack:
        for p in parents[stack.pop()]:
            if p not in seen:
                seen.add(p)
                stack.append(p)
    return sorted(seen)


@wrong(
    "stacked_matmul",
    "Two matrices only: transposes all axes, adds up nothing.",
    known="turns_round_all_axes",
)
def _(a, b):
    return np.matmul(a, b), lambda g: (g @ b.T, a.T @ g)


@wrong("stacked_matmul", "Stacks, but a stretched axis is not added up.", known="adds_up_nothing")
def _(a, b):
    A = a[None, :] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def vjp(g):
        G = g.reshape((A @ B).shape)
        by_a, by_b = G @ B.mT, A.mT @ G
        return (
            by_a.reshape(a.shape) if by_a.size == a.size else by_a,
            by_b.reshape(b.shape) if by_b.size == b.size else by_b,
        )

    return np.matmul(a, b), vjp


@wrong("stacked_matmul", "Stretched axes are averaged, and not added.", known="takes_the_mean")
def _(a, b):
    A = a[None, :] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def back(g, shape):
        g = g.mean(axis=tuple(range(g.ndim - len(shape))))
        ones = tuple(i for i, n in enumerate(shape) if n == 1)
        return g.mean(axis=ones, keepdims=True)

    def vjp(g):
        G = g.reshape((A @ B).shape)
        return (
            back(G @ B.mT, A.shape).reshape(a.shape),
            back(A.mT @ G, B.shape).reshape(b.shape),
        )

    return np.matmul(a, b), vjp


@wrong(
    "stacked_matmul",
    "Missing axes are added up, those of size 1 are not.",
    known="forgets_axes_of_size_one",
)
def _(a, b):
    A = a[None, :] if a.ndim == 1 else a
    B = b[:, None] if b.ndim == 1 else b

    def back(g, like):
        g = g.sum(axis=tuple(range(g.ndim - like.ndim)))
        return g

    def vjp(g):
        G = g.reshape((A @ B).shape)
        by_a, by_b = back(G @ B.mT, A), back(A.mT @ G, B)
        return (
            by_a.reshape(a.shape) if by_a.size == a.size else by_a,
            by_b.reshape(b.shape) if by_b.size == b.size else by_b,
        )

    return np.matmul(a, b), vjp


@wrong(
    "stacked_matmul",
    "Matrices and stacks are right, a vector is not given its axis.",
    known="leaves_vectors_as_they_are",
)
def _(a, b):
    def back(g, shape):
        g = g.sum(axis=tuple(range(g.ndim - len(shape))))
        ones = tuple(i for i, n in enumerate(shape) if n == 1)
        return g.sum(axis=ones, keepdims=True)

    def vjp(g):
        return back(g @ b.mT, a.shape), back(a.mT @ g, b.shape)

    return np.matmul(a, b), vjp


def _parts(x, z):
    nx = np.linalg.norm(x, axis=1, keepdims=True)
    nz = np.linalg.norm(z, axis=1, keepdims=True)
    u, w = x / nx, z / nz
    return nx, nz, u, w, (u * w).sum(axis=1)


@wrong(
    "cosine_vjp",
    "The part along the vector itself is not taken away.",
    known="forgets_the_projection",
)
def _(x, z):
    nx, nz, u, w, c = _parts(x, z)
    return c, lambda g: (g[:, None] * w / nx, g[:, None] * u / nz)


@wrong(
    "cosine_vjp",
    "Forgets to divide by the length of the vector that moves.",
    known="forgets_to_divide_by_the_length",
)
def _(x, z):
    _, _, u, w, c = _parts(x, z)
    k = c[:, None]
    return c, lambda g: (g[:, None] * (w - k * u), g[:, None] * (u - k * w))


@wrong(
    "cosine_vjp", "Divides by the length of the other vector.", known="divides_by_the_others_length"
)
def _(x, z):
    nx, nz, u, w, c = _parts(x, z)
    k = c[:, None]
    return c, lambda g: (g[:, None] * (w - k * u) / nz, g[:, None] * (u - k * w) / nx)


@wrong("cosine_vjp", "Takes away the part along the other vector.", known="projects_on_the_other")
def _(x, z):
    nx, nz, u, w, c = _parts(x, z)
    k = c[:, None]
    return c, lambda g: (g[:, None] * (w - k * w) / nx, g[:, None] * (u - k * u) / nz)


@wrong(
    "cosine_vjp",
    "The gradient that arrives is left out.",
    known="forgets_the_gradient_of_the_output",
)
def _(x, z):
    nx, nz, u, w, c = _parts(x, z)
    k = c[:, None]
    return c, lambda g: ((w - k * u) / nx, (u - k * w) / nz)


@wrong(
    "checkpointed_gradient", "Keeps every input: no checkpoints at all.", known="saves_everything"
)
def _(layers, x, g, every, shelf):
    for i, layer in enumerate(layers):
        shelf.put(i, x)
        x = layer.forward(x)
    for i in reversed(range(len(layers))):
        g = layers[i].vjp(g, shelf.get(i))
        shelf.drop(i)
    return g


@wrong(
    "checkpointed_gradient",
    "Computes each input again from its checkpoint alone: too many runs.",
    known="runs_from_the_checkpoint_each_time",
)
def _(layers, x, g, every, shelf):
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, x)
        x = layer.forward(x)
    for i in reversed(range(len(layers))):
        start = i - i % every
        h = shelf.get(start)
        for j in range(start, i):
            h = layers[j].forward(h)
        g = layers[i].vjp(g, h)
        if i == start:
            shelf.drop(i)
    return g


@wrong("checkpointed_gradient", "Drops nothing that has been used.", known="never_drops")
def _(layers, x, g, every, shelf):
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, x)
        x = layer.forward(x)
    n = len(layers)
    for start in reversed(range(0, n, every)):
        stop = min(start + every, n)
        h = shelf.get(start)
        for i in range(start, stop - 1):
            h = layers[i].forward(h)
            shelf.put(i + 1, h)
        for i in reversed(range(start, stop)):
            g = layers[i].vjp(g, shelf.get(i))
    return g


@wrong(
    "checkpointed_gradient",
    "Hands each layer its output, and not its input.",
    known="hands_over_outputs",
)
def _(layers, x, g, every, shelf):
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, x)
        x = layer.forward(x)
    n = len(layers)
    for start in reversed(range(0, n, every)):
        stop = min(start + every, n)
        h = shelf.get(start)
        for i in range(start, stop):
            h = layers[i].forward(h)
            shelf.put(i + 0.5, h)
        for i in reversed(range(start, stop)):
            g = layers[i].vjp(g, shelf.get(i + 0.5))
            shelf.drop(i + 0.5)
        shelf.drop(start)
    return g


@wrong(
    "checkpointed_gradient",
    "Forgets the last, shorter segment when every does not divide.",
    known="skips_the_shorter_segment",
)
def _(layers, x, g, every, shelf):
    for i, layer in enumerate(layers):
        if i % every == 0:
            shelf.put(i, x)
        x = layer.forward(x)
    for start in reversed(range(0, len(layers) - every + 1, every)):
        h = shelf.get(start)
        for i in range(start, start + every - 1):
            h = layers[i].forward(h)
            shelf.put(i + 1, h)
        for i in reversed(range(start, start + every)):
            g = layers[i].vjp(g, shelf.get(i))
            shelf.drop(i)
    return g


# ---- look_up ---------------------------------------------------------------------------------


def _summed(table, ids, g):
    """The gradient of the table: the rows of g summed by their number."""
    hot = np.arange(len(table))[:, None] == np.ravel(ids)
    return hot @ g.reshape(-1, table.shape[1])


@wrong(
    "look_up",
    "Assigns to the rows: of a number that occurs twice the last gradient stays.",
    known="writes_instead_of_adding",
)
def _(table, ids):
    def vjp(g):
        grad = np.zeros_like(table)
        grad[ids] = g
        return grad

    return table[ids], vjp


@wrong("look_up", "Adds with +=, which counts each number once.", known="writes_instead_of_adding")
def _(table, ids):
    def vjp(g):
        grad = np.zeros_like(table)
        grad[ids] += g
        return grad

    return table[ids], vjp


@wrong("look_up", "Averages over the places where a number stands.", known="averages_the_shares")
def _(table, ids):
    def vjp(g):
        counts = np.bincount(np.ravel(ids), minlength=len(table))
        return _summed(table, ids, g) / np.maximum(counts, 1)[:, None]

    return table[ids], vjp


@wrong(
    "look_up", "Returns the gradients of the vectors, not of the table.", known="returns_the_shares"
)
def _(table, ids):
    return table[ids], lambda g: g[..., :]


@wrong("look_up", "Takes columns instead of rows.")
def _(table, ids):
    return table.T[ids % table.shape[1]], lambda g: np.zeros_like(table)


# ---- linear_layer ----------------------------------------------------------------------------


def _linear(x, weight, bias, vjp):
    return x @ weight.T + bias, vjp


def _flat(a):
    return a.reshape(-1, a.shape[-1])


@wrong("linear_layer", "The gradient of the weight is transposed.", known="transposed_gradient")
def _(x, weight, bias):
    return _linear(
        x,
        weight,
        bias,
        lambda g: (g @ weight, _flat(x).T @ _flat(g), _flat(g).sum(axis=0)),
    )


@wrong(
    "linear_layer",
    "The gradient of the bias is summed over the first axis only.",
    known="sums_the_first_axis",
)
def _(x, weight, bias):
    return _linear(x, weight, bias, lambda g: (g @ weight, _flat(g).T @ _flat(x), g.sum(axis=0)))


@wrong("linear_layer", "The gradient of the bias is g itself.", known="bias_not_summed")
def _(x, weight, bias):
    return _linear(x, weight, bias, lambda g: (g @ weight, _flat(g).T @ _flat(x), g))


@wrong(
    "linear_layer",
    "Averages the gradients of weight and bias over the rows.",
    known="means_for_both",
)
def _(x, weight, bias):
    def vjp(g):
        rows = len(_flat(g))
        return g @ weight, _flat(g).T @ _flat(x) / rows, _flat(g).mean(axis=0)

    return _linear(x, weight, bias, vjp)


@wrong("linear_layer", "g.T @ x, which reverses all axes: right for two axes only.")
def _(x, weight, bias):
    return _linear(x, weight, bias, lambda g: (g @ weight, g.T @ x, _flat(g).sum(axis=0)))
