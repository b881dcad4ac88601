"""Every operation against PyTorch, values and gradients, and against finite differences.

Hypothesis draws shapes with sizes 0 and 1, broadcast patterns, axes, indices and memory
layouts; the gradient of the output is random, because a sum hides errors that cancel.
"""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.neural_networks import backpropagation as bp
from chainrule.neural_networks.backpropagation import Tensor, gradcheck

seeds = st.integers(0, 2**32 - 1)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def array(rng, shape, layout=0):
    """Random numbers away from 0, in one of four memory layouts."""
    shape = tuple(shape)
    x = np.asarray(rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape))
    if layout == 1:
        return np.asfortranarray(x)
    if layout == 2 and x.ndim:
        return np.repeat(x, 2, axis=-1)[..., ::2]
    if layout == 3 and x.ndim:
        return x[::-1]
    return x


def compare(ours, theirs, arrays, rng, rtol=1e-10):
    """Check values and the gradients of all inputs for a random gradient of the output."""
    mine = [Tensor(a.copy(order="K"), requires_grad=True) for a in arrays]
    for x, a in zip(mine, arrays, strict=True):
        x.data = a  # keep the layout
    other = [torch.tensor(a.copy(), requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=rtol, atol=1e-12)
    if not z.requires_grad:
        assert not y.requires_grad
        return
    weights = rng.standard_normal(y.shape)
    before = [a.copy() for a in arrays]
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for x, t, a in zip(mine, other, before, strict=True):
        expected = np.zeros(a.shape) if t.grad is None else t.grad.numpy()
        found = np.zeros(a.shape) if x.grad is None else x.grad
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-10)
        np.testing.assert_array_equal(x.data, a)


ELEMENTWISE = {
    "exp": (bp.exp, torch.exp),
    "log": (lambda x: bp.log(x.abs()), lambda x: torch.log(x.abs())),
    "sqrt": (lambda x: bp.sqrt(x * x), lambda x: torch.sqrt(x * x)),
    "absolute": (bp.absolute, torch.abs),
    "negative": (bp.negative, torch.neg),
    "sin": (bp.sin, torch.sin),
    "cos": (bp.cos, torch.cos),
    "tanh": (bp.tanh, torch.tanh),
    "sigmoid": (bp.sigmoid, torch.sigmoid),
    "relu": (bp.relu, torch.relu),
    "clamp": (lambda x: x.clamp(-0.5, 1.0), lambda x: x.clamp(-0.5, 1.0)),
    "square": (lambda x: x**2, lambda x: x**2),
    "cube root": (lambda x: (x * x) ** (1 / 3), lambda x: (x * x) ** (1 / 3)),
    "reciprocal": (lambda x: 1 / x, lambda x: 1 / x),
    "two to the x": (lambda x: 2.0**x, lambda x: 2.0**x),
    "from five": (lambda x: 5 - x, lambda x: 5 - x),
    "cast": (lambda x: x.to(np.float32).to(np.float64), lambda x: x.float().double()),
}
BINARY = {
    "add": (bp.add, torch.add),
    "subtract": (bp.subtract, torch.sub),
    "multiply": (bp.multiply, torch.mul),
    "divide": (bp.divide, torch.div),
    "power": (lambda a, b: bp.power(a.abs(), b), lambda a, b: torch.pow(a.abs(), b)),
    "maximum": (bp.maximum, torch.maximum),
    "minimum": (bp.minimum, torch.minimum),
    "where": (lambda a, b: bp.where(a > b, a, b * 2), lambda a, b: torch.where(a > b, a, b * 2)),
}
REDUCTIONS = {
    "sum": (bp.Tensor.sum, torch.sum),
    "mean": (bp.Tensor.mean, torch.mean),
    "max": (bp.Tensor.max, torch.amax),
    "min": (bp.Tensor.min, torch.amin),
    "var": (
        lambda x, axis, keepdims: x.var(axis, keepdims, correction=0),
        lambda x, dim, keepdim: x.var(dim, correction=0, keepdim=keepdim),
    ),
    "logsumexp": (
        lambda x, axis, keepdims: bp.logsumexp(x, axis=axis, keepdims=keepdims),
        torch.logsumexp,
    ),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
@settings(max_examples=15)
@given(shape=shapes, seed=seeds, layout=st.integers(0, 3))
def test_elementwise(name, shape, seed, layout):
    rng = np.random.default_rng(seed)
    ours, theirs = ELEMENTWISE[name]
    compare(ours, theirs, [array(rng, shape, layout)], rng, 1e-6 if name == "cast" else 1e-10)


@pytest.mark.parametrize("name", BINARY)
@settings(max_examples=30)
@given(
    broadcast=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4),
    seed=seeds,
    layout=st.integers(0, 3),
)
def test_broadcasting(name, broadcast, seed, layout):
    rng = np.random.default_rng(seed)
    a, b = (array(rng, shape, layout) for shape in broadcast.input_shapes)
    compare(*BINARY[name], [a, b], rng)


def test_ties_share_and_double_use(rng):
    x = array(rng, (3, 5))
    compare(bp.maximum, torch.maximum, [x, x.copy()], rng)
    compare(lambda a: a * a, lambda a: a * a, [x], rng)
    compare(lambda a: a @ a.T, lambda a: a @ a.T, [x], rng)
    compare(lambda a: bp.cat([a, a]), lambda a: torch.cat([a, a]), [x], rng)
    ties = np.array([[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    compare(lambda a: a.max(axis=1), lambda a: a.amax(1), [ties], rng)
    compare(lambda a: a.min(), lambda a: a.min(), [ties], rng)


def test_where_derivatives_meet_zero(rng):
    zeros = np.zeros((2, 3))
    for f, g in ((lambda x: x**2, lambda x: x**2), (lambda x: x**0, lambda x: x**0),
                 (lambda x: x**1, lambda x: x**1), (lambda x: x.relu(), lambda x: x.relu()),
                 (lambda x: x.abs(), lambda x: x.abs())):  # fmt: skip
        compare(f, g, [zeros], rng)
    for big in (-1000.0, 1000.0):
        x = np.full(3, big)
        compare(bp.sigmoid, torch.sigmoid, [x], rng)
        compare(lambda x: bp.logsumexp(x, axis=0), lambda x: torch.logsumexp(x, 0), [x], rng)


@pytest.mark.parametrize("name", REDUCTIONS)
@settings(max_examples=40)
@given(data=st.data())
def test_reductions(name, data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    axis = tuple(a - len(shape) * data.draw(st.booleans()) for a in axes)
    if len(axis) == 1 and data.draw(st.booleans()):
        axis = axis[0]
    keepdims = data.draw(st.booleans())
    if name != "sum":  # the mean and the maximum of nothing are not defined
        assume(all(shape[a] for a in axes))
    if name == "var":  # PyTorch warns about the variance of nothing even when there is none
        assume(all(shape))
    rng = np.random.default_rng(data.draw(seeds))
    x = array(rng, shape, data.draw(st.integers(0, 3)))
    ours, theirs = REDUCTIONS[name]
    compare(
        lambda t: ours(t, axis=axis, keepdims=keepdims),
        lambda t: theirs(t, dim=axis, keepdim=keepdims),
        [x],
        rng,
    )


@settings(max_examples=20)
@given(shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4), seed=seeds)
def test_reductions_of_everything(shape, seed):
    rng = np.random.default_rng(seed)
    x = array(rng, shape)
    for name in ("sum", "mean", "max", "min"):
        compare(lambda t, n=name: getattr(t, n)(), lambda t, n=name: getattr(t, n)(), [x], rng)
    if x.size > 1:
        compare(lambda t: t.var(), lambda t: t.var(), [x], rng)


@settings(max_examples=80)
@given(data=st.data())
def test_matmul(data):
    n, k, m = (data.draw(st.integers(0, 4)) for _ in range(3))
    batch = data.draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3))
    left, right = batch.input_shapes
    a_shape = data.draw(st.sampled_from([(k,), (n, k), (*left, n, k)]))
    b_shape = data.draw(st.sampled_from([(k,), (k, m), (*right, k, m)]))
    rng = np.random.default_rng(data.draw(seeds))
    layout = data.draw(st.integers(0, 3))
    compare(
        bp.matmul, torch.matmul, [array(rng, a_shape, layout), array(rng, b_shape, layout)], rng
    )


@settings(max_examples=100)
@given(data=st.data())
def test_indexing(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    kind = data.draw(st.sampled_from(["basic", "integers", "mask"]))
    if kind == "basic":  # PyTorch has no negative steps: test_indexing_beyond_pytorch
        index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
        parts = index if isinstance(index, tuple) else (index,)
        assume(all(not isinstance(p, slice) or (p.step or 1) > 0 for p in parts))
    elif kind == "integers":
        count = data.draw(st.integers(1, len(shape)))
        index = tuple(
            data.draw(hnp.arrays(np.int64, (4,), elements=st.integers(-n, n - 1)))
            for n in shape[:count]
        )
    else:
        index = data.draw(hnp.arrays(bool, shape))
    rng = np.random.default_rng(data.draw(seeds))
    x = array(rng, shape, data.draw(st.integers(0, 3)))
    torch_index = (
        tuple(torch.tensor(p) if isinstance(p, np.ndarray) else p for p in index)
        if isinstance(index, tuple)
        else torch.tensor(index)
        if isinstance(index, np.ndarray)
        else index
    )
    compare(lambda t: t[index], lambda t: t[torch_index], [x], rng)


def test_indexing_beyond_pytorch(rng):
    x = Tensor(rng.standard_normal((5, 3)), requires_grad=True)
    gradcheck(lambda x: x[::-2, 1:], [x])
    gradcheck(lambda x: x[Tensor(np.array([0, 0, 4]))], [x])
    gradcheck(lambda x: x[[2, 2], -1], [x])
    gradcheck(lambda x: x[..., None, 0], [x])
    with pytest.raises(TypeError, match="item assignment"):
        x[0] = 1.0


@settings(max_examples=60)
@given(data=st.data())
def test_shapes(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    n = len(shape)
    rng = np.random.default_rng(data.draw(seeds))
    x = array(rng, shape, data.draw(st.integers(0, 3)))
    axis, other = (data.draw(st.integers(-n, n - 1)) for _ in range(2))
    order = data.draw(st.permutations(range(n)))
    compare(lambda t: t.permute(*order), lambda t: t.permute(*order), [x], rng)
    compare(lambda t: t.transpose(axis, other), lambda t: t.transpose(axis, other), [x], rng)
    compare(lambda t: t.flatten(), lambda t: t.flatten(), [x], rng)
    compare(lambda t: t.reshape(*reversed(shape)), lambda t: t.reshape(*reversed(shape)), [x], rng)
    compare(lambda t: t.unsqueeze(axis), lambda t: t.unsqueeze(axis), [x], rng)
    compare(lambda t: t.squeeze(axis), lambda t: t.squeeze(axis), [x], rng)
    compare(lambda t: t.squeeze(), lambda t: t.squeeze(), [x], rng)
    compare(lambda t: t.cumsum(axis), lambda t: t.cumsum(axis), [x], rng)
    compare(lambda t: t.unsqueeze(0).expand(3, *([-1] * n)),
            lambda t: t.unsqueeze(0).expand(3, *([-1] * n)), [x], rng)  # fmt: skip
    start = data.draw(st.integers(0, n - 1))
    end = data.draw(st.integers(start, n - 1))
    compare(lambda t: t.flatten(start, end), lambda t: t.flatten(start, end), [x], rng)
    if x.size:
        compare(lambda t: t.reshape((-1, 1)), lambda t: t.reshape((-1, 1)), [x], rng)
        compare(lambda t: t.T, lambda t: t.permute(*reversed(range(n))), [x], rng)


@settings(max_examples=60)
@given(data=st.data())
def test_joining_and_splitting(data):
    shape = list(data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    rng = np.random.default_rng(data.draw(seeds))
    parts = []
    for _ in range(data.draw(st.integers(1, 3))):
        shape[axis] = data.draw(st.integers(0, 3))
        parts.append(array(rng, shape, data.draw(st.integers(0, 3))))
    compare(lambda *t: bp.concat(t, axis=axis), lambda *t: torch.cat(t, axis), parts, rng)
    same = [array(rng, shape) for _ in range(3)]
    compare(lambda *t: bp.stack(t, axis=axis), lambda *t: torch.stack(t, axis), same, rng)
    whole = np.concatenate(parts, axis=axis)
    sizes = [p.shape[axis] for p in parts]
    last = len(parts) - 1
    compare(lambda t: bp.split(t, sizes, axis)[last], lambda t: torch.split(t, sizes, axis)[last],
            [whole], rng)  # fmt: skip
    if whole.shape[axis]:
        compare(lambda t: bp.chunk(t, 2, axis)[0] * 2, lambda t: torch.chunk(t, 2, axis)[0] * 2,
                [whole], rng)  # fmt: skip


@settings(max_examples=60)
@given(data=st.data())
def test_take_gather_and_fill(data):
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    rng = np.random.default_rng(data.draw(seeds))
    x = array(rng, shape, data.draw(st.integers(0, 3)))
    flat = data.draw(hnp.arrays(np.int64, st.integers(0, 6), elements=st.integers(0, n - 1)))
    compare(
        lambda t: t.take(flat, axis=axis),
        lambda t: torch.index_select(t, axis, torch.tensor(flat)),
        [x],
        rng,
    )
    square = rng.integers(0, n, (2, 3))
    if axis % len(shape) == 0:
        compare(lambda t: t.take(square), lambda t: t[torch.tensor(square)], [x], rng)
    picked = rng.integers(0, n, [s if a != axis % len(shape) else 4 for a, s in enumerate(shape)])
    there = torch.tensor(picked)
    compare(lambda t: bp.gather(t, picked, axis), lambda t: torch.gather(t, axis, there), [x], rng)
    mask = rng.random(shape[-1:]) < 0.5
    compare(lambda t: t.masked_fill(mask, -7.0), lambda t: t.masked_fill(torch.tensor(mask), -7.0),
            [x], rng)  # fmt: skip


@pytest.mark.parametrize(
    ("subscripts", "sizes"),
    [("ab,bc->ac", [(2, 3), (3, 5)]), ("bthd,bshd->bhts", [(2, 3, 5, 7), (2, 4, 5, 7)]),
     ("ab->ba", [(2, 3)]), ("ab->a", [(2, 3)]), ("ab,b,b->a", [(2, 3), (3,), (3,)]),
     ("ab,cd->ad", [(2, 3), (5, 7)]), ("a,b->ab", [(2,), (3,)]), ("ab,ab->", [(2, 3), (2, 3)]),
     ("ab,ab->ab", [(2, 3), (1, 3)]), ("ab,ab->", [(2, 1), (1, 3)]), ("ab,bc->c", [(1, 3), (1, 5)]),
     ("aa->", [(3, 3)]), ("aa->a", [(3, 3)]), ("aab,b->ba", [(3, 3, 5), (5,)]),
     ("aaa,a->a", [(3, 3, 3), (3,)]), ("ab,bc", [(2, 3), (3, 5)]), ("ba", [(2, 3)]),
     ("aa", [(3, 3)]), ("ba,ab", [(2, 3), (3, 2)]), ("...ab,...bc->...ac", [(2, 5, 3), (2, 3, 7)]),
     ("...ab,bc->...ac", [(2, 1, 5, 3), (3, 7)]), ("...a,...a", [(2, 5, 3), (5, 3)]),
     ("a...b,b", [(2, 5, 3), (3,)]), ("...->...", [(2, 3)]), ("...aa->...a", [(2, 3, 3)]),
     ("...,...->...", [(1, 3), (2, 1)]), ("ab,b->a", [(0, 3), (3,)]), (",a->a", [(), (3,)])],
)  # fmt: skip
def test_einsum(subscripts, sizes, rng):
    compare(
        lambda *t: bp.einsum(subscripts, *t),
        lambda *t: torch.einsum(subscripts, *t),
        [array(rng, s) for s in sizes],
        rng,
    )


def test_einsum_refuses_what_it_would_misread(rng):
    x = Tensor(np.eye(2))
    for subscripts, message in (("ab->aa", "repeats or invents"), ("ab->c", "repeats or invents"),
                                ("ab,bc->ac", "is for 2 operands, got 1"), ("abc->a", "does not"),
                                ("a->a", "does not fit operands with")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bp.einsum(subscripts, x)


def test_outer_and_linear(rng):
    compare(bp.outer, torch.outer, [array(rng, (3,)), array(rng, (5,))], rng)
    arrays = [array(rng, s) for s in ((2, 3, 7), (5, 7), (5,))]
    compare(bp.linear, torch.nn.functional.linear, arrays, rng)
    compare(bp.linear, torch.nn.functional.linear, arrays[:2], rng)
    compare(bp.linear, torch.nn.functional.linear, [array(rng, (0, 7)), *arrays[1:]], rng)


CHECKED = {
    **{name: (f, 1) for name, (f, _) in ELEMENTWISE.items() if name != "cast"},
    **{name: (f, 2) for name, (f, _) in BINARY.items()},
    **{name: (lambda x, f=f: f(x, axis=-1, keepdims=False), 1)
       for name, (f, _) in REDUCTIONS.items()},
    "matmul": (lambda a, b: a @ b.T, 2),
    "cumsum": (lambda x: x.cumsum(0), 1),
    "take": (lambda x: x.take([2, 0, 2], axis=-1), 1),
    "gather": (lambda x: bp.gather(x, np.array([[0, 1, 1, 2]] * 2), 1), 1),
    "concat": (lambda a, b: bp.concat([a, b, a], axis=1), 2),
    "split": (lambda x: bp.split(x, [1, 3], axis=1)[1], 1),
    "masked_fill": (lambda x: x.masked_fill(np.arange(4) > 2, 0.0), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_finite_differences(name, rng):
    f, count = CHECKED[name]
    gradcheck(f, [Tensor(array(rng, (2, 4)), requires_grad=True) for _ in range(count)])


def test_sums_undo_broadcasting():
    assert bp.sum_to(np.ones((2, 3, 5)), (3, 1)).tolist() == [[10.0]] * 3
    assert bp.sum_to(np.ones((2, 3)), ()) == 6
    g = np.ones((2, 3))
    assert bp.sum_to(g, (2, 3)) is g
    with pytest.raises(ValueError, match="do not add up to 5"):
        bp.split(Tensor(np.ones(5)), [1, 2])


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + 1.0,
        lambda x: 1.0 - x,
        lambda x: bp.where(np.ones((3, 1, 4), bool), x, 0.0),
        lambda x: x.masked_fill(np.zeros((3, 1, 4), bool), 0.0),
        lambda x: x.to(np.float32),
        lambda x: x.sum(axis=0),
        lambda x: x.mean(axis=0),
        lambda x: x.var(axis=0),
        lambda x: bp.logsumexp(x, axis=0),
        lambda x: x.reshape(12),
        lambda x: x.permute(2, 1, 0),
        lambda x: x.squeeze(),
        lambda x: x.unsqueeze(0),
        lambda x: x.expand(3, 5, 4),
        lambda x: x[1:],
        lambda x: x.take([0, 0]),
        lambda x: bp.gather(x, np.zeros((1, 1, 4), int), axis=0),
        lambda x: x.tanh(),
        lambda x: bp.concat([x, x]),
    ],
)
def test_a_record_keeps_no_input_that_its_vjp_does_not_read(rng, operation):
    x = Tensor(rng.normal(size=(3, 1, 4)), requires_grad=True) * 2.0
    node, alive = operation(x)._node, weakref.ref(x.data)
    del x
    assert alive() is None
    assert node.vjp is not None
