"""The engine that the page builds: the page's own lines, and equal to the large engine."""

import ast
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from chainrule.neural_networks import backpropagation as large
from chainrule.neural_networks.backpropagation import Tensor, tiny
from chainrule.neural_networks.backpropagation.tiny import Value, backward

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "neural-networks" / "backpropagation.md"
SOURCE = Path(tiny.__file__).read_text("utf-8")
GRAPHS, GROUP = 240, 40


def pieces(source):
    """What the source defines at its top level: name to text; a later definition replaces."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign):
            found[ast.unparse(node.targets[0])] = ast.unparse(node)
    return found


def test_the_page_builds_this_file():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    on_the_page = pieces("\n".join(blocks))
    in_the_file = pieces(SOURCE)
    del in_the_file["__all__"]
    assert set(tiny.__all__) | {"tickets"} == set(in_the_file)
    assert {name: on_the_page.get(name) for name in in_the_file} == in_the_file


class Unfit(Exception):
    """The drawn operation does not apply to the drawn values."""


def fits(x, y):
    try:
        np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        raise Unfit from None


def binary(name):
    def draw(rng, x, y):
        fits(x, y)
        return getattr(tiny, name), getattr(large, name)

    return 2, draw


def unary(name, before=lambda f, x: f.multiply(x, 1.0)):
    """The operation, on inputs that ``before`` has brought to where it is tame."""

    def draw(rng, x):
        return tuple(lambda x, f=f: getattr(f, name)(before(f, x)) for f in (tiny, large))

    return 1, draw


def divide(rng, x, y):
    fits(x, y)
    return tuple(lambda x, y, f=f: f.divide(x, f.add(f.multiply(y, y), 0.5)) for f in (tiny, large))


def matmul(rng, x, y):
    """x @ y, or x @ yᵀ where only that fits."""
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] not in y.shape[-2:]:
        raise Unfit
    fits(x[..., 0, 0], y[..., 0, 0])
    if x.shape[-1] == y.shape[-2]:
        return tiny.matmul, large.matmul
    return (
        lambda x, y: tiny.matmul(x, tiny.transpose(y)),
        lambda x, y: large.matmul(x, y.transpose(-1, -2)),
    )


def transpose(rng, x):
    if x.ndim < 2:
        raise Unfit
    return tiny.transpose, lambda t: t.transpose(-1, -2)


def reshape(rng, x):
    shape = tuple(int(n) for n in rng.permutation(x.shape))
    return (lambda v: tiny.reshape(v, shape=shape)), (lambda t: t.reshape(shape))


def reduction(name, theirs):
    def draw(rng, x):
        axis = None if not x.ndim or rng.random() < 0.3 else int(rng.integers(-x.ndim, x.ndim))
        return (lambda v: getattr(tiny, name)(v, axis=axis)), (lambda t: theirs(t, axis=axis))

    return 1, draw


def positive(f, x):
    return f.add(f.multiply(x, x), 0.5)


OPERATIONS = {
    "add": binary("add"), "subtract": binary("subtract"), "multiply": binary("multiply"),
    "divide": (2, divide), "matmul": (2, matmul), "transpose": (1, transpose),
    "reshape": (1, reshape), "total": reduction("total", Tensor.sum),
    "mean": reduction("mean", Tensor.mean), "sigmoid": unary("sigmoid"), "tanh": unary("tanh"),
    "relu": unary("relu"), "exp": unary("exp", lambda f, x: f.multiply(x, 0.1)),
    "log": unary("log", positive),
}  # fmt: skip


def leaves(rng):
    """Pairs of leaves. Sizes are primes; an axis may have size 1, or be missing in front."""
    sizes = [int(n) for n in rng.permutation([2, 3, 5])]
    pool = []
    for _ in range(int(rng.integers(3, 6))):
        shape = [1 if rng.random() < 0.2 else n for n in sizes[int(rng.integers(0, 4)) :]]
        array = rng.uniform(0.2, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        pool.append((Value(array), Tensor(array.copy(), requires_grad=True)))
    return pool


def grow(rng, pool, used):
    name = list(OPERATIONS)[int(rng.integers(len(OPERATIONS)))]
    arity, draw = OPERATIONS[name]
    chosen = [pool[int(rng.integers(len(pool)))] for _ in range(arity)]
    try:
        ours, theirs = draw(rng, *(v.data for v, _ in chosen))
    except Unfit:
        return
    v, t = ours(*(v for v, _ in chosen)), theirs(*(t for _, t in chosen))
    if np.abs(v.data).max() > 5:
        v, t = tiny.tanh(v * Value(0.05)), (t * 0.05).tanh()
    assert v.data.shape == t.shape, name
    np.testing.assert_allclose(v.data, t.data, rtol=1e-12, atol=1e-12, err_msg=name)
    t.retain_grad()
    pool.append((v, t))
    used[name] += 1


def compare(seed, used):
    """Draw a graph, walk it with both engines, and compare every gradient in it."""
    rng = np.random.default_rng(seed)
    pool = leaves(rng)
    for _ in range(int(rng.integers(4, 22))):
        grow(rng, pool, used)
    ours, theirs = Value(0.0), Tensor(np.zeros(()))
    for v, t in [pool[-1], *(pool[int(i)] for i in rng.integers(len(pool), size=3))]:
        weights = rng.normal(size=v.data.shape)
        ours = ours + tiny.total(v * Value(weights))
        theirs = theirs + (t * weights).sum()
    backward(ours)
    theirs.backward()
    for v, t in pool:
        assert (v.grad is None) == (t.grad is None)  # None: the root does not depend on it
        if v.grad is not None:
            assert v.grad.shape == v.data.shape
            size = max(1.0, np.abs(t.grad).max())
            np.testing.assert_allclose(v.grad, t.grad, rtol=1e-12, atol=1e-12 * size)
    used["unused"] += sum(v.grad is None for v, _ in pool)


def compare_many(count):
    for seed in range(count):
        compare(seed, Counter())


@pytest.mark.parametrize("group", range(GRAPHS // GROUP))
def test_random_graphs_equal_the_large_engine(group):
    used = Counter()
    for seed in range(group * GROUP, (group + 1) * GROUP):
        try:
            compare(seed, used)
        except Exception as error:
            raise AssertionError(f"graph {seed}: {type(error).__name__}: {error}") from error
    assert set(used) == {*OPERATIONS, "unused"}


WRONG = {
    "tanh": lambda a: (np.tanh(a), lambda g: (g * (1 - np.tanh(a)),)),
    "subtract": lambda a, b: (a - b, lambda g: (g, g)),
    "matmul": lambda a, b: (a @ b, lambda g: (g @ b.mT, 2 * a.mT @ g)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_operation_is_noticed(monkeypatch, name):
    monkeypatch.setattr(tiny, name, tiny.operation(WRONG[name]))
    with pytest.raises(AssertionError):
        compare_many(60)


def test_a_walk_that_overwrites_is_noticed(monkeypatch):
    wrong = SOURCE.replace("parent.grad = parent.grad + sum_to(", "parent.grad = sum_to(")
    assert wrong != SOURCE
    names = vars(tiny).copy()
    exec(wrong[wrong.index("def backward") :], names)
    monkeypatch.setitem(globals(), "backward", names["backward"])
    with pytest.raises(AssertionError):
        compare_many(30)


# For the differences: each operation with inputs of distinct prime sizes.
CASES = {
    "add": [(3, 5), (5,)], "subtract": [(2, 1), (2, 7)], "multiply": [(3, 5), (2, 1, 5)],
    "divide": [(3, 1), (3, 5)], "matmul": [(3, 5), (2, 5, 7)], "transpose": [(2, 3, 5)],
    "reshape": [(3, 10)], "total": [(3, 5)], "mean": [(3, 5, 2)], "sigmoid": [(3, 5)],
    "tanh": [(3, 5)], "relu": [(3, 5)], "exp": [(3, 5)], "log": [(3, 5)],
}  # fmt: skip
OPTIONS = {"reshape": {"shape": (5, 6)}, "total": {"axis": 0}, "mean": {"axis": -2}}


@pytest.mark.parametrize("name", CASES)
def test_central_differences(name, rng):
    inputs = [rng.uniform(0.3, 1.7, size=shape) for shape in CASES[name]]
    if name not in ("log", "divide"):
        inputs = [x * rng.choice([-1.0, 1.0], size=x.shape) for x in inputs]

    def run(arrays):
        values = [Value(x) for x in arrays]
        return values, getattr(tiny, name)(*values, **OPTIONS.get(name, {}))

    values, output = run(inputs)
    upstream = rng.normal(size=output.data.shape)
    backward(output, upstream)
    h = 1e-6
    for k, value in enumerate(values):
        assert value.grad.shape == value.data.shape
        for index in np.ndindex(value.data.shape):
            sums = []
            for step in (h, -h):
                moved = [x.copy() for x in inputs]
                moved[k][index] += step
                sums.append((run(moved)[1].data * upstream).sum())
            slope = (sums[0] - sums[1]) / (2 * h)
            assert value.grad[index] == pytest.approx(slope, rel=1e-7, abs=1e-7)


def test_every_operation_is_tested():
    others = {"Value", "ancestors", "backward", "operation", "sum_to"}
    assert set(OPERATIONS) == set(CASES) == set(tiny.__all__) - others


def test_the_hand_example():
    w, x, b, y = Value(0.5), Value(2.0), Value(-1.0), Value(1.0)
    e = tiny.sigmoid(w * x + b) - y
    loss = e * e
    backward(loss)
    assert [float(v.grad) for v in (w, x, b, y)] == [-0.5, -0.125, -0.25, 1.0]
    backward(loss)  # counted afresh, also on the nodes in between
    assert float(w.grad) == -0.5


def test_deep_and_swollen_graphs():
    first = x = Value(1.0)
    for _ in range(5_000):
        x = tiny.tanh(x)
    backward(x)
    assert 0 < first.grad < 1e-5
    first = x = Value(1.0)
    for _ in range(60):
        x = x + x
    backward(x)
    assert float(first.grad) == 2.0**60
    assert len(tiny.ancestors(x)) == 61


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((0, 3)), np.ones((1, 1)), np.array(2.0), 2, [[1, 2, 3]], np.float32([0.1, 3]),
        np.uint8([[200, 3]]), np.array([np.nan, 1.0]), np.array([1e200, 1e-200]),
        np.array([-1e200, 0.0]), np.ones((2, 3, 5))[:, ::2],
    ],
    ids=str,
)  # fmt: skip
def test_nasty_inputs(x):
    with np.errstate(over="ignore"):
        for name in ("tanh", "relu", "exp", "sigmoid", "total"):
            if name == "sigmoid" and np.size(x) and np.min(x) < -700:
                continue  # the docstring names it: NumPy warns
            ours, theirs = Value(x), Tensor(np.asarray(x, dtype=float), requires_grad=True)
            v, t = getattr(tiny, name)(ours), getattr(theirs, {"total": "sum"}.get(name, name))()
            upstream = np.random.default_rng(1).normal(size=t.shape)
            backward(v, upstream)
            t.backward(upstream)
            np.testing.assert_allclose(v.data, t.data, rtol=1e-12)
            np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-12)
    y, z = Value(x), Value(3.0)
    backward(y * z - tiny.divide(y, z))
    assert y.grad.shape == np.shape(x)
    np.testing.assert_allclose(y.grad, np.full(np.shape(x), 3 - 1 / 3))


def test_what_it_refuses():
    x = Value(np.ones((2, 3)))
    with pytest.raises(TypeError, match="unsupported operand"):
        np.ones((2, 3)) - x
    with pytest.raises(TypeError, match="positional argument"):
        tiny.reshape(x, (3, 2))
    with pytest.raises(ValueError, match="ndim"):
        tiny.matmul(x, Value(np.ones(3)))
    with pytest.raises(ValueError, match="broadcast"):
        x + Value(np.ones(2))
    assert (x + 1.0).data.tolist() == [[2.0] * 3] * 2  # a number or array on the right is taken
    assert (x * np.ones(3)).data.shape == (2, 3)


def test_sum_to_equals_the_large_one(rng):
    for _ in range(50):
        full = tuple(int(n) for n in rng.choice([2, 3, 5, 7], size=rng.integers(1, 5)))
        shape = tuple(int(n) for n in np.where(rng.random(len(full)) < 0.4, 1, full))
        shape = shape[int(rng.integers(0, len(shape) + 1)) :]
        g = rng.normal(size=full)
        np.testing.assert_allclose(tiny.sum_to(g, shape), large.sum_to(g, shape), rtol=1e-12)
        assert tiny.sum_to(g, shape).shape == shape


def test_a_classifier_learns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(53, 2))
    ring = ((x**2).sum(axis=1) > 1).astype(int)
    weights = [rng.normal(size=s) for s in ((11, 2), (11,), (2, 11), (2,))]
    for _ in range(300):
        W1, b1, W2, b2 = leaves = [Value(w) for w in weights]
        hidden = tiny.tanh(Value(x) @ tiny.transpose(W1) + b1)
        scores = hidden @ tiny.transpose(W2) + b2
        chosen = tiny.total(scores * np.eye(2)[ring], axis=1)
        loss = tiny.mean(tiny.log(tiny.total(tiny.exp(scores), axis=1)) - chosen)
        backward(loss)
        weights = [leaf.data - 0.5 * leaf.grad for leaf in leaves]
    assert loss.data < 0.1


def test_what_the_map_says_of_the_two_engines():
    x = np.array([0.5, -2.0, 3.0], dtype=np.float32)
    ours, theirs = Value(x), Tensor(x, requires_grad=True)
    assert (ours.data.dtype, theirs.dtype) == (np.float64, np.float32)

    constant, other = Value(2.0), Tensor(np.float32(2.0))
    inner, inside = ours * constant, theirs * other
    for _ in range(2):  # afresh and everywhere; added, on leaves that asked
        backward(tiny.total(inner))
        inside.sum().backward(retain_graph=True)
    assert ours.grad.tolist() == [2.0] * 3
    assert theirs.grad.tolist() == [4.0] * 3
    assert (inner.grad is None, inside.grad is None) == (False, True)
    assert (constant.grad is None, other.grad is None) == (False, True)

    backward(inner)  # as if added up
    assert ours.grad.tolist() == [2.0] * 3
    with pytest.raises(RuntimeError, match="one weight for each element"):
        (theirs * other).backward()

    y, z = tiny.tanh(ours), theirs.tanh()
    y.data *= 2
    z.data *= 2
    backward(y)
    assert not np.allclose(ours.grad, 1 - np.tanh(x) ** 2)
    with pytest.raises(RuntimeError, match="tanh needs an array"):
        z.sum().backward()

    assert len(tiny.ancestors(tiny.mean(ours))) == 4  # itself, total, a number, product
    assert len(large.trace(theirs.mean()).vertices) == 2
    with np.errstate(over="raise"):
        assert Tensor(np.array(-1000.0)).sigmoid().data == 0
        with pytest.raises(FloatingPointError):
            tiny.sigmoid(-1000.0)
    high = np.array([1e308, 1e308, -1e308])
    assert Tensor(high).sum().data == 1e308
    with np.errstate(over="ignore"):
        assert tiny.total(high).data == np.inf
    whole = Tensor(np.arange(3))
    assert whole.exp().dtype == (whole / whole.exp()).dtype == np.float32
    assert large.matmul(theirs, theirs).shape == ()
    half = Tensor(np.full(211, 1000, dtype=np.float16)).mean()  # their sum exceeds 65,504
    assert (half.dtype, half.data) == (np.float16, 1000)
