"""Random graphs of operations, walked by this engine and by PyTorch: every value and gradient.

A graph is drawn from a seed: leaves in odd memory layouts, then operations on whatever is there,
views, broadcasting, repeated indices, gradients kept on inner nodes, and a second walk over the
same graph. The suite draws a few hundred; as many as you like:

    .venv/bin/python tests/neural_networks/test_backpropagation_random_graphs.py 4000
"""

import sys
from collections import Counter

import numpy as np
import pytest
import torch

from chainrule.neural_networks import backpropagation as bp
from chainrule.neural_networks.backpropagation import Tensor

SUITE, GROUP = 400, 20
LIMIT = 20.0  # numbers that have grown larger are squashed, so that rounding stays comparable


class Unfit(Exception):
    """The drawn operation does not apply to the drawn tensors."""


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def axis_of(rng, x):
    if not x.ndim:
        raise Unfit
    return int(rng.integers(-x.ndim, x.ndim))


def some_axes(rng, x):
    """None, one axis, or several."""
    if not x.ndim or rng.random() < 0.25:
        return None
    chosen = rng.permutation(x.ndim)[: int(rng.integers(1, x.ndim + 1))]
    axes = tuple(int(a) - x.ndim * int(rng.integers(2)) for a in chosen)
    return axes[0] if len(axes) == 1 and rng.random() < 0.5 else axes


# Each takes the generator and the shapes' owner x (and y), and returns the same function twice:
# for this engine and for PyTorch.


def elementwise(name, theirs=None):
    return 1, lambda rng, x: (getattr(bp, name), theirs or getattr(torch, name))


def binary(ours, theirs):
    def draw(rng, x, y):
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            raise Unfit from None
        return ours, theirs

    return 2, draw


def reduction(ours, theirs):
    def draw(rng, x):
        axes, keep = some_axes(rng, x), bool(rng.random() < 0.4)
        if not x.size or (keep and not x.ndim):
            raise Unfit
        if axes is None:
            axes = tuple(range(x.ndim)) or 0  # a number counts as one of its only axis
        return (
            lambda t: ours(t, axis=axes, keepdims=keep),
            lambda t: theirs(t, dim=axes, keepdim=keep),
        )

    return 1, draw


def length(t, dim, keepdim):
    return torch.linalg.vector_norm(t, 2, dim, keepdim)


def safe_log(x):
    return (x.abs() + 1.0).log()


def reshape(rng, x):
    sizes = [int(n) for n in rng.permutation(x.shape)]
    if len(sizes) > 1 and rng.random() < 0.5:
        sizes = [sizes[0], -1] if all(sizes) else [x.size]
    return (lambda t: t.reshape(sizes)), (lambda t: t.reshape(sizes))


def permute(rng, x):
    order = [int(a) for a in rng.permutation(x.ndim)]
    if not order:
        raise Unfit
    return (lambda t: t.permute(order)), (lambda t: t.permute(order))


def transpose(rng, x):
    a, b = axis_of(rng, x), axis_of(rng, x)
    return (lambda t: t.transpose(a, b)), (lambda t: t.transpose(a, b))


def unsqueeze(rng, x):
    axis = int(rng.integers(-x.ndim - 1, x.ndim + 1))
    return (lambda t: t.unsqueeze(axis)), (lambda t: t.unsqueeze(axis))


def squeeze(rng, x):
    return (lambda t: t.squeeze()), (lambda t: t.squeeze())


def expand(rng, x):
    sizes = [int(rng.integers(1, 4)), *(int(rng.integers(1, 4)) if n == 1 else -1 for n in x.shape)]
    return (lambda t: t.expand(sizes)), (lambda t: t.expand(sizes))


def slices(rng, x):
    axis_of(rng, x)
    parts = []
    for n in x.shape:
        start = int(rng.integers(-n - 1, n + 1))
        stop = pick(rng, [None, int(rng.integers(-n - 1, n + 2))])
        whole = int(rng.integers(-n, n)) if n else slice(None)
        parts.append(pick(rng, [slice(None), slice(start, stop, int(rng.integers(1, 3))), whole]))
    index = tuple(parts)
    return (lambda t: t[index]), (lambda t: t[index])


def fancy(rng, x):
    axis_of(rng, x)
    if not x.size:
        raise Unfit
    length, parts = int(rng.integers(1, 5)), []
    for n in x.shape:
        array = rng.integers(-n, n, length)
        parts.append(pick(rng, [array, array, slice(None), int(rng.integers(-n, n)), slice(0, n)]))
    index = tuple(parts)
    theirs = tuple(torch.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)
    return (lambda t: t[index]), (lambda t: t[theirs])


def mask(rng, x):
    chosen = rng.random(x.shape) < 0.6
    return (lambda t: t[chosen]), (lambda t: t[torch.tensor(chosen)])


def take(rng, x):
    axis = axis_of(rng, x)
    if not x.size:
        raise Unfit
    ids = rng.integers(0, x.shape[axis], int(rng.integers(0, 6)))
    return (lambda t: t.take(ids, axis)), (lambda t: t.index_select(axis, torch.tensor(ids)))


def gather(rng, x):
    axis = axis_of(rng, x)
    if not x.size:
        raise Unfit
    sizes = [int(rng.integers(1, n + 1)) for n in x.shape]
    sizes[axis] = int(rng.integers(1, 5))
    ids = rng.integers(0, x.shape[axis], sizes)
    return (lambda t: bp.gather(t, ids, axis)), (lambda t: t.gather(axis, torch.tensor(ids)))


def masked_fill(rng, x):
    chosen = rng.random(x.shape) < 0.5
    return (
        lambda t: t.masked_fill(chosen, 0.7),
        lambda t: t.masked_fill(torch.tensor(chosen), 0.7),
    )


def where(rng, x, y):
    binary(None, None)[1](rng, x, y)
    chosen = rng.random(np.broadcast_shapes(x.shape, y.shape)) < 0.5
    return (
        lambda a, b: bp.where(chosen, a, b),
        lambda a, b: torch.where(torch.tensor(chosen), a, b),
    )


def matmul(rng, x, y):
    if not x.ndim or not y.ndim:
        raise Unfit
    try:
        np.matmul(np.empty(x.shape), np.empty(y.shape))
    except ValueError:
        raise Unfit from None
    return bp.matmul, torch.matmul


def einsum(rng, x, y):
    if not 0 < x.ndim < 4 or not 0 < y.ndim < 4:
        raise Unfit
    letters, of_size, terms = iter("abcdefgh"), {}, []
    for t in (x, y):
        term = ""
        for n in t.shape:
            known = [c for c, size in of_size.items() if size == n and c not in term]
            letter = pick(rng, known) if known and rng.random() < 0.7 else next(letters)
            of_size[letter] = n
            term += letter
        terms.append(term)
    kept = [c for c in of_size if rng.random() < 0.5]
    subscripts = f"{terms[0]},{terms[1]}->{''.join(str(c) for c in rng.permutation(kept))}"
    return (lambda a, b: bp.einsum(subscripts, a, b)), (lambda a, b: torch.einsum(subscripts, a, b))


def cumsum(rng, x):
    axis = axis_of(rng, x)
    return (lambda t: t.cumsum(axis)), (lambda t: t.cumsum(axis))


def joined(rng, x, y):
    axis = axis_of(rng, x)
    if x.ndim != y.ndim or any(
        n != m for a, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)) if a != axis % x.ndim
    ):
        raise Unfit
    return (lambda a, b: bp.concat([a, b, a], axis)), (lambda a, b: torch.cat([a, b, a], axis))


def stacked(rng, x, y):
    if x.shape != y.shape:
        raise Unfit
    axis = int(rng.integers(0, x.ndim + 1))
    return (lambda a, b: bp.stack([a, b], axis)), (lambda a, b: torch.stack([a, b], axis))


def cut(rng, x):
    axis = axis_of(rng, x)
    if not x.shape[axis]:
        raise Unfit
    size = int(rng.integers(1, x.shape[axis] + 1))
    which = int(rng.integers(-(-x.shape[axis] // size)))
    return (
        lambda t: bp.split(t, size, axis)[which],
        lambda t: torch.split(t, size, axis)[which],
    )


def var(rng, x):
    axes = some_axes(rng, x)
    axes = tuple(range(x.ndim)) if axes is None else axes
    if axes == () or np.prod([x.shape[a] for a in np.atleast_1d(axes)]) < 2 or not x.size:
        raise Unfit
    correction = int(rng.integers(2))
    return (
        lambda t: t.var(axis=axes, correction=correction),
        lambda t: t.var(dim=axes, correction=correction),
    )


def flip(rng, x):
    axes = some_axes(rng, x)
    axes = tuple(range(x.ndim)) if axes is None else np.atleast_1d(axes).tolist()
    return (lambda t: t.flip(*axes)), (lambda t: t.flip(axes))


def triangle(rng, x):
    if x.ndim < 2:
        raise Unfit
    name, diagonal = pick(rng, ["tril", "triu"]), int(rng.integers(-2, 3))
    return (lambda t: getattr(t, name)(diagonal)), (lambda t: getattr(t, name)(diagonal))


def pad(rng, x):
    if not x.size:
        raise Unfit
    pairs = int(rng.integers(x.ndim + 1))
    widths = [int(w) for n in x.shape[::-1][:pairs] for w in rng.integers(-(n // 2), 3, 2)]
    return (
        lambda t: bp.pad(t, widths, 0.3),
        lambda t: torch.nn.functional.pad(t, widths, value=0.3),
    )


def topk(rng, x):
    axis, largest = axis_of(rng, x), bool(rng.integers(2))
    k = int(rng.integers(x.shape[axis] + 1))
    return (  # from the largest (or smallest) on: which of equal ones, PyTorch does not say
        lambda t: (t + rank(t)).topk(k, axis, largest).values,
        lambda t: (t + torch.tensor(rank(t))).topk(k, axis, largest).values,
    )


def rank(t):
    """Small different numbers, so that no two of a tensor's are equal."""
    return np.arange(int(np.prod(t.shape))).reshape(tuple(t.shape)) * 1e-3


def ordered(rng, x):
    axis, descending = axis_of(rng, x), bool(rng.integers(2))
    return (
        lambda t: t.sort(axis, descending).values,
        lambda t: t.sort(dim=axis, descending=descending, stable=True).values,
    )


def prod(rng, x):
    axis, keep = axis_of(rng, x), bool(rng.integers(2))
    return (lambda t: t.prod(axis, keep)), (lambda t: t.prod(axis, keep))


def remainder(a, b):
    return a % (b * b + 0.5)


OPERATIONS = {
    "add": binary(bp.add, torch.add), "subtract": binary(bp.subtract, torch.sub),
    "multiply": binary(bp.multiply, torch.mul), "maximum": binary(bp.maximum, torch.maximum),
    "minimum": binary(bp.minimum, torch.minimum),
    "divide": binary(lambda a, b: a / (b * b + 0.5), lambda a, b: a / (b * b + 0.5)),
    "power": binary(lambda a, b: (a * a + 0.5) ** b.tanh(), lambda a, b: (a * a + 0.5) ** b.tanh()),
    "where": (2, where), "matmul": (2, matmul), "einsum": (2, einsum), "concat": (2, joined),
    "stack": (2, stacked),
    "exp": (1, lambda rng, x: (lambda t: (t * 0.1).exp(), lambda t: (t * 0.1).exp())),
    "log": (1, lambda rng, x: (safe_log, safe_log)),
    "sqrt": (1, lambda rng, x: (lambda t: (t * t + 1).sqrt(), lambda t: (t * t + 1).sqrt())),
    "absolute": elementwise("absolute"), "negative": elementwise("negative", torch.neg),
    "sin": elementwise("sin"), "cos": elementwise("cos"), "tanh": elementwise("tanh"),
    "sigmoid": elementwise("sigmoid"), "relu": elementwise("relu"),
    "square": (1, lambda rng, x: (lambda t: t**2, lambda t: t**2)),
    "clamp": (1, lambda rng, x: (lambda t: t.clamp(-0.4, 0.9), lambda t: t.clamp(-0.4, 0.9))),
    "scale": (1, lambda rng, x: (lambda t: 3 - t / 2, lambda t: 3 - t / 2)),
    "sum": reduction(Tensor.sum, torch.sum), "mean": reduction(Tensor.mean, torch.mean),
    "max": reduction(Tensor.max, torch.amax), "min": reduction(Tensor.min, torch.amin),
    "logsumexp": reduction(bp.logsumexp, torch.logsumexp), "var": (1, var),
    "norm": reduction(bp.norm, length),
    "cumsum": (1, cumsum), "reshape": (1, reshape), "permute": (1, permute),
    "transpose": (1, transpose), "unsqueeze": (1, unsqueeze), "squeeze": (1, squeeze),
    "expand": (1, expand), "slices": (1, slices), "fancy": (1, fancy), "mask": (1, mask),
    "take": (1, take), "gather": (1, gather), "masked_fill": (1, masked_fill), "split": (1, cut),
    "flip": (1, flip), "triangle": (1, triangle), "pad": (1, pad), "topk": (1, topk),
    "sort": (1, ordered), "prod": (1, prod), "remainder": binary(remainder, remainder),
    "clone": (1, lambda rng, x: (lambda t: t.clone(), lambda t: t.clone())),
}  # fmt: skip


def layout(rng, shape):
    """Random numbers in one of five memory layouts."""
    x = np.asarray(rng.uniform(0.2, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
    kind = int(rng.integers(5))
    if kind == 1:
        return np.asfortranarray(x)
    if kind == 2 and x.ndim:
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if kind == 3 and x.ndim:
        return x[::-1]
    if kind == 4 and x.ndim > 1:
        return np.ascontiguousarray(x.swapaxes(0, -1)).swapaxes(0, -1)
    return x


def leaves(rng):
    """Pairs of leaves; shapes are related, so that operations on two of them often fit."""
    base = [int(n) for n in rng.integers(1, 5, 3)]
    if rng.random() < 0.05:
        base[0] = 0
    pool = []
    for i in range(int(rng.integers(2, 5))):
        shape = [1 if rng.random() < 0.2 else n for n in base[int(rng.integers(0, 4)) :]]
        array = layout(rng, shape)
        needs = i == 0 or bool(rng.random() < 0.7)
        mine = Tensor(array, requires_grad=needs)
        pool.append((mine, torch.tensor(array.copy(), requires_grad=needs)))
    return pool


def grow(rng, pool, used):
    """Apply one drawn operation, if it fits what was drawn for it."""
    name = pick(rng, list(OPERATIONS))
    arity, draw = OPERATIONS[name]
    chosen = [pick(rng, pool) for _ in range(arity)]
    try:
        ours, theirs = draw(rng, *(x for x, _ in chosen))
    except (Unfit, StopIteration):
        return
    y, z = ours(*(x for x, _ in chosen)), theirs(*(t for _, t in chosen))
    if y.size > 500 or (y.size and np.abs(y.data).max() > LIMIT):
        y, z = (y.reshape(-1)[:50] * 0.05).tanh(), (z.reshape(-1)[:50] * 0.05).tanh()
    if rng.random() < 0.3 and z.requires_grad:
        y.retain_grad()
        z.retain_grad()
    assert y.shape == tuple(z.shape), name
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-8, atol=1e-9, err_msg=name)
    pool.append((y, z))
    used[name] += 1


def compare(seed, used):
    """Draw a graph and compare it; raises AssertionError where the two engines part."""
    rng = np.random.default_rng(seed)
    pool = leaves(rng)
    roots = list(pool)
    for _ in range(int(rng.integers(4, 22))):
        grow(rng, pool, used)
    outputs = [(y, z) for y, z in pool if z.requires_grad and y.size]
    total_y = total_z = 0
    for y, z in outputs[-3:]:
        weights = rng.standard_normal(y.shape)
        total_y = total_y + (y * weights).sum()
        total_z = total_z + (z * torch.tensor(weights)).sum()
    if not outputs:
        return
    for again in (True, False):
        total_y.backward(retain_graph=again)
        total_z.backward(retain_graph=again)
    for y, z in pool:
        if z.is_leaf or z.retains_grad:
            expected = np.zeros(y.shape) if z.grad is None else z.grad.numpy()
            found = np.zeros(y.shape) if y.grad is None else y.grad
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
    gradients = [y.grad for y, _ in roots if y.grad is not None]
    for i, a in enumerate(gradients):
        for other in [*gradients[:i], *(y.data for y, _ in roots)]:
            assert not np.shares_memory(a, other)


@pytest.mark.parametrize("group", range(SUITE // GROUP))
def test_random_graphs(group):
    used = Counter()
    for seed in range(group * GROUP, (group + 1) * GROUP):
        try:
            compare(seed, used)
        except Exception as error:
            raise AssertionError(f"graph {seed}: {type(error).__name__}: {error}") from error


def test_every_operation_is_drawn():
    used = Counter()
    for seed in range(SUITE):
        compare(seed, used)
        if len(used) == len(OPERATIONS):
            break
    assert set(used) == set(OPERATIONS)


def test_a_wrong_operation_is_noticed(monkeypatch):
    wrong = bp.primitive(lambda x: (np.tanh(x), lambda g: (g * (1 - np.tanh(x)),)))
    monkeypatch.setitem(OPERATIONS, "tanh", (1, lambda rng, x: (wrong, torch.tanh)))
    failed = 0
    for seed in range(60):
        try:
            compare(seed, Counter())
        except AssertionError:
            failed += 1
    assert failed > 3


if __name__ == "__main__":
    count, drawn, bad = int(sys.argv[1]) if len(sys.argv) > 1 else SUITE, Counter(), 0
    for number in range(count):
        try:
            compare(number, drawn)
        except Exception as error:
            bad += 1
            print(f"graph {number}: {type(error).__name__}: {str(error)[:400]}")
    print(f"{count} graphs, {drawn.total()} operations of {len(drawn)} kinds, {bad} mismatches")
    sys.exit(bad > 0)
