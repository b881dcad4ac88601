"""The engine at its edges: what it must refuse, keep, promote, and compute for extreme numbers.

Oracles are PyTorch, the same computation in float64 on numbers that need no care, or a value
that can be written down.
"""

import copy
import gc
import itertools
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch

from chainrule.neural_networks import activation_functions as act
from chainrule.neural_networks import backpropagation as bp
from chainrule.neural_networks import regularization as reg
from chainrule.neural_networks.backpropagation import (
    Buffer,
    Embedding,
    Linear,
    Module,
    Parameter,
    Tensor,
    checkpoint,
    enable_grad,
    gradcheck,
    graph,
    no_grad,
    primitive,
)
from chainrule.training import loss_functions as loss
from chainrule.training.optimizers import SGD, Adafactor, AdamW

B, T, D, H = 2, 3, 5, 7


def leaf(*values, dtype=np.float32):
    return Tensor(np.array(values, dtype), requires_grad=True)


def backward(y, weights=None):
    y.backward(np.ones(y.shape, y.dtype) if weights is None else weights)
    return y


# ---- no gradient is dropped without a word -----------------------------------------------------


def same_gradients(ours, theirs, arrays, weights):
    """Both functions on leaves with these arrays have the same values and gradients."""
    mine = [Tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    np.testing.assert_allclose(y.data, z.detach())
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for x, t in zip(mine, other, strict=True):
        np.testing.assert_allclose(x.grad, t.grad)


def test_bounds_and_values_that_require_a_gradient_get_one(rng):
    arrays = [rng.standard_normal((B, T)), rng.standard_normal((T,)), rng.standard_normal((B, 1))]
    weights = rng.standard_normal((B, T))
    same_gradients(bp.clamp, torch.clamp, arrays, weights)
    same_gradients(bp.clamp, torch.clamp, arrays[:2], weights)
    same_gradients(lambda x, high: x.clamp(None, high), lambda x, high: x.clamp(None, high),
                   arrays[:2], weights)  # fmt: skip
    mask = rng.random((B, T)) < 0.5
    same_gradients(lambda x, v: x.masked_fill(mask, v),
                   lambda x, v: x.masked_fill(torch.tensor(mask), v),
                   [arrays[0], np.array(0.3)], weights)  # fmt: skip


def test_an_option_that_requires_a_gradient_is_refused():
    scale = primitive(lambda x, factor=1.0: (x * factor, lambda g: (g * factor,)))
    x, factor = leaf(1.0, 2.0), leaf(3.0)
    with pytest.raises(ValueError, match=r"factor has no gradient.*detach\(\)"):
        scale(x, factor=factor)
    backward(scale(x, factor=factor.detach()))
    assert x.grad.tolist() == [3.0, 3.0]
    for call in (lambda: x[factor], lambda: x.take(factor), lambda: bp.where(x, x, x),
                 lambda: bp.gather(x, factor, 0), lambda: x.masked_fill(x, 0.0)):  # fmt: skip
        with pytest.raises(ValueError, match="has no gradient"):
            call()


def test_an_input_whose_vjp_gives_nothing_is_refused():
    for vjp in (lambda g: (g,), lambda g: (g, None)):
        forgetful = primitive(lambda a, b, vjp=vjp: (a * b, vjp))
        with pytest.raises(RuntimeError, match="input 1 of <lambda> requires a gradient"):
            forgetful(leaf(1.0), leaf(2.0)).backward([1.0])
        backward(forgetful(leaf(1.0), np.ones(1, np.float32)))


def test_checkpoint_knows_whether_anything_inside_needs_a_gradient():
    x, w = Tensor(np.ones(2, np.float32)), leaf(2.0, 3.0)
    assert not checkpoint(lambda x: x * 2.0, x).requires_grad
    for inside in (lambda x: x * w, lambda x: checkpoint(lambda y: y * w, x)):
        w.grad = None
        backward(checkpoint(inside, x))
        assert w.grad.tolist() == [1.0, 1.0]

    @enable_grad()
    def recorded(x):
        return x * w

    assert checkpoint(recorded, x).requires_grad
    unused = leaf(1.0)
    backward(checkpoint(lambda x, y: x * w, x, unused))
    assert unused.grad.tolist() == [0.0]


# ---- a changed number is never read as if it were the old one ----------------------------------


WAYS = {
    "optimizer": lambda p: SGD([p], lr=1.0).step,
    "with momentum": lambda p: SGD([p], lr=1.0, momentum=0.5).step,
    "adamw": lambda p: AdamW([p]).step,
    "adafactor": lambda p: Adafactor([p]).step,
    "state": lambda p: _loader(p),
    "data": lambda p: _adder(p),
    "in place": lambda p: no_grad()(lambda: p.__iadd__(1.0)),
    "average": lambda p: lambda: reg.EMA([p])._write([p.data + 1]),
    "initializer": lambda p: lambda: act.kaiming_(p, np.random.default_rng(0)),
}


def _loader(p):
    module = Module()
    module.p = p
    return lambda: module.load_state_dict({"p": p.data + 1})


def _adder(p):
    def add():
        p.data += 1

    return add


@pytest.mark.parametrize("way", WAYS)
def test_a_parameter_changed_between_the_passes_is_refused(way):
    p = Parameter(np.full((2, 3), 2.0, np.float32))
    change = WAYS[way](p)
    y = (p**3).sum()
    p.grad = np.ones_like(p.data)
    change()
    with pytest.raises(RuntimeError, match="modified in place"):
        y.backward()
    p.grad = None
    (p**3).sum().backward()  # and after a new forward pass all is well
    np.testing.assert_allclose(p.grad, 3 * p.data**2, rtol=1e-6)


USES = {
    "product": (lambda p, x: (p * x).sum(), True),
    "product with a number": (lambda p, x: (p * 3.0).sum(), False),
    "sum": (lambda p, x: (p + x).sum(), False),
    "quotient": (lambda p, x: (x / p).sum(), True),
    "exp keeps its output": (lambda p, x: p.exp().sum(), False),
    "log keeps its input": (lambda p, x: (p * p).log().sum(), True),
    "matrix product": (lambda p, x: (x @ p.T).sum(), True),
    "a view of a view": (lambda p, x: (x[:, 1:] @ p.reshape(3, 2).T[:, 1:].T).sum(), True),
    "a slice": (lambda p, x: (p[1:] * p[:1]).sum(), True),
    "frozen": (lambda p, x: (x * p.detach()).sum(), True),
    "as an array": (lambda p, x: (x * p.data).sum(), True),
    "copied": (lambda p, x: (x * p.detach().data.copy()).sum(), False),
    "linear": (lambda p, x: bp.linear(x, p).sum(), True),
    "einsum": (lambda p, x: bp.einsum("ab,cb->ac", x, p).sum(), True),
    "in a list": (lambda p, x: bp.concat([p, x]).sum(), False),
    "checkpointed": (lambda p, x: checkpoint(lambda t: (t * p).sum(), x), True),
    "layer norm's weight": (lambda p, x: reg.layer_norm(x, 3, p[0]).sum(), True),
}


@pytest.mark.parametrize("name", USES)
def test_only_what_the_backward_pass_reads_is_refused(name):
    use, refused = USES[name]
    p = Parameter(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32))
    x = leaf([0.5, 1.0, 2.0], [3.0, 1.0, 2.0])
    y = use(p, x)
    optimizer = SGD([p], lr=0.1)  # moves the parameter into its arena: the old array stays as it is
    y.backward()
    optimizer.zero_grad()
    x.grad = None
    y = use(p, x)
    p.grad = np.ones_like(p.data)
    optimizer.step()
    optimizer.zero_grad()
    if refused:
        with pytest.raises(RuntimeError, match="modified in place"):
            y.backward()
    else:
        y.backward()


def test_a_parameter_of_another_model_may_change():
    """The usual adversarial step: one model learns while the other's graph waits."""
    rng = np.random.default_rng(0)
    g, d = Linear(D, D, rng=rng), Linear(D, 1, rng=rng)
    g_step, d_step = SGD(g.parameters(), lr=0.1), SGD(d.parameters(), lr=0.1)
    z = Tensor(rng.standard_normal((B, D)).astype(np.float32))
    for _ in range(2):
        fake = g(z).tanh()
        d_step.zero_grad()
        d(fake.detach()).sum().backward()
        d_step.step()
        g_step.zero_grad()
        d(fake).sum().backward()
        g_step.step()
    fooled = d(g(z).tanh()).sum()
    d(z).sum().backward()
    d_step.step()
    with pytest.raises(RuntimeError, match=r"shape \(1, 5\).*run the forward pass again"):
        fooled.backward()


def test_edits_of_memory_that_is_gone_are_forgotten():
    gc.collect()
    before = len(bp.edits._edits)
    for _ in range(50):
        p = Parameter(np.ones(3, np.float32))
        p.data += 1
    del p
    gc.collect()
    assert len(bp.edits._edits) <= before + 1
    empty = Parameter(np.ones((0, 3), np.float32))
    empty.data += 1


def test_the_version_of_a_tensor_counts_edits_of_its_memory():
    p, other = Parameter(np.ones(3, np.float32)), Parameter(np.ones(3, np.float32))
    view = p[1:].detach()
    assert (p.version, view.version, other.version) == (0, 0, 0)
    p.data += 1
    first = p.version
    assert first > 0
    assert (view.version, other.version) == (first, 0)
    with no_grad():
        p -= 1.0
    assert p.version == view.version > first
    optimizer = SGD([p, other], lr=1.0)
    assert p.version == 0  # it lives in new memory now
    p.grad = np.ones(3, np.float32)
    optimizer.step()
    assert p.version > 0
    assert other.version == 0  # beside it, and without a gradient


def test_in_place_operators_change_leaves_and_only_without_recording(rng):
    p = Parameter(rng.standard_normal(3).astype(np.float32))
    array, before = p.data, p.data.copy()
    for operation in ("__iadd__", "__isub__", "__imul__", "__itruediv__"):
        with pytest.raises(RuntimeError, match="no_grad"):
            getattr(p, operation)(2.0)
    q = p
    with no_grad():
        p -= 0.5 * np.ones(3, np.float32)
        p *= 2.0
        p /= 4.0
        p += 1
    assert p is q
    assert p.data is array
    np.testing.assert_allclose(array, (before - 0.5) * 2 / 4 + 1, rtol=1e-6)
    counter = Buffer(np.zeros((), np.int64))
    kept = counter
    counter += 1
    assert counter is kept
    with pytest.raises(TypeError, match="same_kind"):
        counter += 0.5
    with pytest.raises(ValueError, match=r"\(\) cannot take on \(2, 3\)"):
        counter += np.ones((2, 3), np.int64)
    total = leaf(0.0).detach()
    total += p.sum()  # recorded, so it becomes a new tensor
    total.backward([1.0])
    np.testing.assert_array_equal(p.grad, 1)


# ---- a gradient that somebody keeps stays what it is -------------------------------------------


@pytest.mark.parametrize("clear", ["optimizer", "module", "by hand"])
def test_kept_gradients_are_not_overwritten(clear):
    layer = Linear(3, 2, rng=np.random.default_rng(0))
    optimizer = SGD(layer.parameters(), lr=0.0)
    kept, expected = [], []

    def by_hand():
        layer.weight.grad = layer.bias.grad = None

    forget = {"optimizer": optimizer.zero_grad, "module": layer.zero_grad, "by hand": by_hand}
    for k in (1.0, 2.0, 3.0, 4.0):
        forget[clear]()
        layer(Tensor(np.full((1, 3), k, np.float32))).sum().backward()
        kept += [layer.weight.grad, layer.bias.grad, layer.weight.grad[0]]
        expected += [np.full((2, 3), k), np.ones(2), np.full(3, k)]
        optimizer.step()
    for found, wanted in zip(kept, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_gradient_set_by_hand_does_not_overwrite_a_kept_one():
    w = Parameter(np.zeros(2, np.float32))
    optimizer = SGD([w], lr=1.0)
    (w * 3.0).sum().backward()
    kept = w.grad
    w.grad = w.grad * 0.5
    optimizer.step()
    assert kept.tolist() == [3.0, 3.0]
    assert w.data.tolist() == [-1.5, -1.5]
    mine = w.grad
    optimizer.step()
    assert mine is w.grad
    assert w.data.tolist() == [-3.0, -3.0]


def test_gradients_accumulate_in_the_arena_and_in_part():
    a, b = Parameter(np.zeros(2, np.float32)), Parameter(np.zeros(3, np.float32))
    optimizer = SGD([a, b], lr=1.0)
    for _ in range(2):
        ((a * 2.0).sum() + b.sum()).backward()
    b.grad = None  # one of the two starts anew
    ((a * 2.0).sum() + b.sum()).backward()
    assert a.grad.tolist() == [6.0, 6.0]
    assert b.grad.tolist() == [1.0, 1.0, 1.0]
    optimizer.step()
    assert a.data.tolist() == [-6.0, -6.0]
    assert b.data.tolist() == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_model_has_gradients_of_its_own(copied):
    layer = Linear(3, 2, rng=np.random.default_rng(0))
    optimizer = SGD(layer.parameters(), lr=1.0)
    layer(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    twin = copied(layer)
    before, gradient = layer.weight.data.copy(), layer.weight.grad.copy()
    twin.zero_grad()
    twin(Tensor(np.full((1, 3), 9.0, np.float32))).sum().backward()
    SGD(twin.parameters(), lr=1.0).step()
    np.testing.assert_array_equal(layer.weight.data, before)
    np.testing.assert_array_equal(layer.weight.grad, gradient)
    optimizer.step()
    np.testing.assert_array_equal(twin.weight.data, before - 9)
    with pytest.raises(RuntimeError, match=r"only a leaf can be copied.*detach\(\)"):
        copied(layer.weight * 2.0)


# ---- the order of a VJP's entries means nothing ------------------------------------------------

NORMED = np.random.default_rng(5).standard_normal((4, D)).astype(np.float32)
MANY_INPUTS = {
    "layer_norm": lambda x, w, b: reg.layer_norm(x, D, w, b),
    "rms_norm": lambda x, w, b: reg.rms_norm(x, D, w),
    "batch_norm": lambda x, w, b: reg.batch_norm(x, w, b),
    "linear": lambda x, w, b: bp.linear(x, w.reshape(1, D), b[:1]),
    "multiply": lambda x, w, b: x * w, "subtract": lambda x, w, b: x - w,
    "divide": lambda x, w, b: x / w, "power": lambda x, w, b: (x * x) ** w,
    "maximum": lambda x, w, b: bp.maximum(x, w), "minimum": lambda x, w, b: bp.minimum(x, w),
    "where": lambda x, w, b: bp.where(NORMED > 0, x, w), "clamp": lambda x, w, b: x.clamp(w, b),
    "masked_fill": lambda x, w, b: x.masked_fill(NORMED > 0, w[0]),
    "matmul": lambda x, w, b: x @ w, "einsum": lambda x, w, b: bp.einsum("ab,b,b->a", x, w, b),
    "concat": lambda x, w, b: bp.concat([x, w.unsqueeze(0), b.unsqueeze(0)]),
    "prelu": lambda x, w, b: act.prelu(x, w),
    "bce": lambda x, w, b: loss.bce_with_logits(x, w.sigmoid().expand(4, D), b.exp()),
    "kl_div": lambda x, w, b: loss.kl_div(x, w.exp().expand(4, D), "sum"),
    "the same leaf twice": lambda x, w, b: x * w + w * x * w,
}  # fmt: skip


@pytest.mark.parametrize("name", MANY_INPUTS)
def test_entries_are_computed_in_any_order(name, monkeypatch):
    evaluate = graph._evaluate

    def gradients(order):
        def shuffled(node, entries, parents, in_place):
            positions = list(range(len(parents)))
            positions = positions[::-1] if order == "reversed" else positions
            entries = list(entries) + [None] * (len(parents) - len(entries))
            shares = evaluate(node, [entries[i] for i in positions],
                              tuple(parents[i] for i in positions), in_place)  # fmt: skip
            return [shares[positions.index(i)] for i in range(len(parents))]

        monkeypatch.setattr(graph, "_evaluate", shuffled)
        w, b = leaf(0.5, -1.0, 2.0, 0.1, 1.0), leaf(0.7, 0.8, 2.5, 0.3, 1.5)
        x = Tensor(NORMED, requires_grad=True)
        y = MANY_INPUTS[name](x * 1.0, w, b)
        y.backward(np.linspace(-1, 2, y.size, dtype=np.float32).reshape(y.shape))
        return [t.grad for t in (x, w, b)]

    for a, b in zip(gradients("given"), gradients("reversed"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_entry_that_returns_the_gradient_itself_is_not_shared():
    thrice = primitive(
        lambda a, b, c: (a + b + c, lambda g: (lambda out: g, lambda out: 2 * g, lambda out: g))
    )
    x = leaf(1.0, 2.0)
    backward(thrice(x, x, x) * 1.0)
    assert x.grad.tolist() == [4.0, 4.0]


# ---- types are PyTorch's -----------------------------------------------------------------------

OPERANDS = {
    "f2": np.ones(3, np.float16), "f4": np.ones(3, np.float32), "f8": np.ones(3),
    "i8": np.ones(3, np.int64), "i4": np.ones(3, np.int32), "u1": np.ones(3, np.uint8),
    "bool": np.ones(3, np.bool_), "f2 0-d": np.array(1, np.float16),
    "f4 0-d": np.array(1, np.float32), "f8 0-d": np.array(1.0), "i8 0-d": np.array(1),
    "bool 0-d": np.array(True), "float": 1.5, "int": 2, "true": True,
}  # fmt: skip
ARITHMETIC = {
    "add": lambda a, b: a + b, "multiply": lambda a, b: a * b, "divide": lambda a, b: a / b,
    "maximum": (bp.maximum, torch.maximum), "where": None,
}  # fmt: skip


@pytest.mark.parametrize("pair", list(itertools.product(OPERANDS, OPERANDS)), ids="-".join)
def test_result_types(pair):
    a, b = (OPERANDS[name] for name in pair)
    if not (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        return
    ours = [Tensor(x) if isinstance(x, np.ndarray) else x for x in (a, b)]
    theirs = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in (a, b)]
    for f in (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a / b):
        assert f(*ours).dtype == f(*theirs).numpy().dtype
    if all(isinstance(x, np.ndarray) for x in (a, b)):
        condition = np.array([True, False, True])
        expected = torch.where(torch.tensor(condition), *theirs).numpy().dtype
        assert bp.where(condition, *ours).dtype == expected
        assert bp.maximum(*ours).dtype == torch.maximum(*theirs).numpy().dtype
        assert bp.minimum(*ours).dtype == torch.minimum(*theirs).numpy().dtype
        if a.ndim == b.ndim == 1:
            assert bp.concat(ours).dtype == torch.cat(theirs).numpy().dtype


def test_numpys_numbers_do_not_widen_a_model():
    x = leaf(1.0, 2.0)
    for number in (np.sqrt(8), np.float64(2), np.int64(3), np.array(2.0), np.bool_(True), 2, 0.5):
        for y in (x * number, number * x, x / number, number / x, x - number, x**number,
                  number**x, bp.maximum(x, number), x.clamp(number, None)):  # fmt: skip
            assert y.dtype == np.float32
            x.grad = None
            backward(y)
            assert x.grad.dtype == np.float32
    assert (x * np.ones(2)).dtype == np.float64  # an array with axes has a say
    assert (x * [1.0, 2.0]).dtype == np.float32  # a list is Python's
    assert (Tensor([1, 2]) * 1.5).dtype == np.float32
    condition = np.array([True, False])
    assert bp.where(condition, 1.0, 0.0).dtype == bp.maximum(1.0, 2).dtype == np.float32
    assert bp.where(condition, 1, 0).dtype == np.int64


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "mean",
                                  "var"])  # fmt: skip
@pytest.mark.parametrize("kind", ["i8", "u1", "bool"])
def test_floats_from_whole_numbers_are_float32(name, kind):
    assert getattr(Tensor(OPERANDS[kind]), name)().dtype == np.float32


def test_whole_numbers_add_up_in_64_bits():
    x = Tensor(np.full(300, 255, np.uint8))
    assert (x.sum().item(), x.sum().dtype) == (76_500, np.int64)
    assert (x.cumsum(0).data[-1], x.cumsum(0).dtype) == (76_500, np.int64)
    assert Tensor(np.array([True, True])).sum().item() == 2
    for y in (Tensor([1, 2]), Tensor(3), x.argmax(), x.argmax(0)):
        assert y.dtype == np.int64
    assert Tensor([1.5]).dtype == np.float32


@pytest.mark.parametrize("data", [None, "a", 2**70, 1j, [1j], object(), [None]])
def test_what_is_no_number_is_no_tensor(data):
    with pytest.raises(TypeError, match="booleans, whole numbers or floats"):
        Tensor(data)


def test_a_list_of_tensors_is_to_be_stacked():
    with pytest.raises(TypeError, match="stack"):
        Tensor([leaf(1.0), leaf(2.0)])


def test_a_models_numbers_stay_floats():
    layer = Linear(2, 3, rng=np.random.default_rng(0))
    with pytest.raises(TypeError, match="cannot become int64"):
        layer.to(np.int64)
    assert layer.weight.dtype == np.float32


@pytest.mark.parametrize("kind", ["u1", "i1", "i4", "i8", "u8"])
def test_ids_of_every_width(kind, rng):
    """np.take and np.bincount refuse what does not fit the machine's own index type safely."""
    table = Embedding(300, 3, rng=rng)
    ids = np.array([[0, 5, 100], [5, 5, 7]]).astype(kind)
    backward(table(ids))
    counts = np.bincount(ids.astype(np.int64).ravel(), minlength=300)
    np.testing.assert_array_equal(table.weight.grad, np.repeat(counts[:, None], 3, axis=1))
    x = Tensor(rng.standard_normal((300, 3)), requires_grad=True)
    np.testing.assert_array_equal(x.take(ids).data, x.data[ids.astype(int)])
    np.testing.assert_array_equal(bp.gather(x, ids, 0).data[:, 0], x.data[ids[:, 0].astype(int), 0])
    backward(x[ids])
    targets = np.array([1, 0, 2]).astype(kind)
    logits = rng.standard_normal((3, 300))
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(targets.astype(np.int64))
    )
    np.testing.assert_allclose(loss.cross_entropy(Tensor(logits), targets).data, expected)
    with pytest.raises(TypeError, match="whole numbers"):
        x.take(np.array([0.0, 1.0]))


# ---- 16 bits -----------------------------------------------------------------------------------

HALF = {
    "sum over rows": (lambda x: (x * 0 + 1).expand(5000, 4).sum(axis=0), [5000.0] * 4),
    "mean": (lambda x: (x * 0 + 300).expand(5000, 4).mean(axis=0), [300.0] * 4),
    "var": (lambda x: bp.concat([x * 0 + 300, x * 0 - 300, (x * 0).expand(998, 4)])
            .var(axis=0, correction=0), [180.0] * 4),
    "cumsum": (lambda x: (x * 0 + 1).expand(3000, 4).cumsum(0)[-1], [3000.0] * 4),
    "layer_norm": (lambda x: reg.layer_norm(x * 0 + np.float16([300, -300, 600, 0]), 4),
                   [0.4472, -1.3416, 1.3416, -0.4472]),
    "layer_norm of zeros": (lambda x: reg.layer_norm(x * 0, 4, eps=1e-12), [0.0] * 4),
    "rms_norm": (lambda x: reg.rms_norm(x * 0 + np.float16([300, -300, 600, 0]), 4),
                 [0.8165, -0.8165, 1.6330, 0.0]),
    "norm": (lambda x: bp.norm((x * 0 + 200).expand(9, 4), axis=0), [600.0] * 4),
    "logsumexp": (lambda x: bp.logsumexp(x * 0 + 100, axis=0), [100.0] * 4),
    "divide": (lambda x: (x * 0 + 300) / (x * 0 + 600), [0.5] * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF)
def test_sixteen_bits_do_not_overflow_on_the_way(name):
    f, expected = HALF[name]
    x = Tensor(np.ones((1, 4), np.float16), requires_grad=True)
    y = f(x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data.reshape(-1, 4)[0], expected, rtol=2e-3)
    backward(y)
    assert x.grad.dtype == np.float16
    assert np.isfinite(x.grad).all()


def test_gradients_of_sixteen_bits_travel_in_thirty_two():
    x = Tensor(np.full((4096, 1), 0.5, np.float16), requires_grad=True)
    w = Tensor(np.ones(1, np.float16), requires_grad=True)
    backward(x * w)
    assert w.grad.tolist() == [2048.0]  # in 16 bits, 2,048 + 0.5 is 2,048
    backward(Tensor(np.ones((1, 4096), np.float16)) @ x)
    tied = Tensor(np.ones(70_000, np.float16), requires_grad=True)
    tied.max().backward()
    np.testing.assert_allclose(tied.grad, 1 / 70_000, rtol=0.01)
    one = Tensor(np.float16(1.0), requires_grad=True)
    ((one * 200.0) * 200.0 * 0.1).backward(10.0)  # each step back from 10 fits 32 bits
    np.testing.assert_allclose(one.grad, 40_000, rtol=1e-3)


def test_mixed_with_wider_floats_the_result_is_wide():
    half, single = Tensor(np.ones(2, np.float16)), leaf(1.0, 2.0)
    assert (half * single).dtype == np.float32
    assert (half * Tensor(np.float32(2.0))).dtype == np.float16
    assert half.to(np.float32).dtype == np.float32
    assert single.to(np.float16).dtype == np.float16
    backward(single.to(np.float16) * 2.0)
    assert (single.grad.dtype, single.grad.tolist()) == (np.float32, [2.0, 2.0])


# ---- huge and tiny -----------------------------------------------------------------------------

SIZES = {np.float32: (1e20, 1e25, 1e-20, 1e-25, 1e-30), np.float64: (1e160, 1e200, 1e-160, 1e-200)}
SCALED = {  # functions of x that scale like a power of x's size: (function, power)
    "norm": (lambda x: bp.norm(x, axis=-1), 1),
    "mean": (lambda x: x.mean(axis=-1), 1),
    "layer_norm": (lambda x: reg.layer_norm(x, 5, eps=0.0), 0),
    "rms_norm": (lambda x: reg.rms_norm(x, 5, eps=0.0), 0),
    "batch_norm": (lambda x: reg.batch_norm(x, eps=0.0), 0),
    "triplet": (lambda x: loss.triplet(x, x * 0.5, x * -0.5, 0.0, 0.0, "none"), 1),
    "cosines": (lambda x: loss.info_nce(x, x * x.data.mean(), 0.5), 0),
    "quotient": (lambda x: x / (x * 2.0 + x.data[::-1].copy()), 0),
    "maximum": (lambda x: bp.maximum(x, x.data[::-1].copy()), 1),
    "softmax of differences": (lambda x: bp.logsumexp(x / x.data.max(), axis=-1), 0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("name", SCALED)
def test_numbers_of_any_size(name, dtype):
    """At 10²⁰ or 10⁻²⁵, values and gradients are those at 1, times a power of the size."""
    f, power = SCALED[name]
    numbers = np.random.default_rng(3).standard_normal((4, 5))

    def both(size, dtype):
        if name == "cosines" and abs(np.log10(size)) > 15:
            size = size**0.5
        x = Tensor((numbers * size).astype(dtype), requires_grad=True)
        y = f(x)
        y.backward(np.linspace(1, 2, y.size).reshape(y.shape).astype(dtype))
        scale = float(size)
        return y.data / dtype(scale) ** power, x.grad * dtype(scale) ** (1 - power)

    value, gradient = both(1.0, np.float64)
    for size in SIZES[dtype]:
        found = both(size, dtype)
        np.testing.assert_allclose(found[0], value, rtol=3e-5, atol=3e-6, err_msg=str(size))
        np.testing.assert_allclose(found[1], gradient, rtol=3e-4, atol=3e-5, err_msg=str(size))


@pytest.mark.parametrize("dtype", SIZES)
def test_sums_and_squares_whose_result_fits(dtype):
    top = np.finfo(dtype).max
    x = Tensor(np.array([top, top, -top], dtype), requires_grad=True)
    assert x.sum().item() == pytest.approx(top, rel=1e-6)
    assert x[:2].mean().item() == pytest.approx(top, rel=1e-6)
    assert x.mean(axis=0, keepdims=True).item() == pytest.approx(top / 3, rel=1e-6)
    size = float(np.sqrt(top))
    spread = Tensor(np.array([2 * size, -2 * size] + [0.0] * 98, dtype), requires_grad=True)
    assert spread.var(correction=0).item() == pytest.approx(0.08 * float(top), rel=1e-5)
    spread.var().backward()
    assert np.isfinite(spread.grad).all()
    a, b = leaf(1.0, dtype=dtype), leaf(float(np.sqrt(top)) * 10, dtype=dtype)
    backward(a / b)
    assert b.grad[0] == 0 or np.isfinite(b.grad[0])
    a, b = leaf(size, dtype=dtype), leaf(10 * size, dtype=dtype)
    backward(a / b)
    np.testing.assert_allclose(b.grad, [-0.01 / size], rtol=1e-5)
    a, b = leaf(1 / size, dtype=dtype), leaf(0.1 / size, dtype=dtype)
    backward(a / b)
    np.testing.assert_allclose(b.grad, [-100 * size], rtol=1e-5)


@pytest.mark.parametrize("dtype", SIZES)
def test_the_mean_of_the_largest_number_is_that_number(dtype):
    top = np.finfo(dtype).max
    x = Tensor(np.full((3, 5), top, dtype), requires_grad=True)
    assert x.mean().item() == float(top)
    assert (-x).mean(axis=1).data.tolist() == [-float(top)] * 3
    y = x.var()
    y.backward()
    assert (y.item(), np.abs(x.grad).max()) == (0, 0)


@pytest.mark.parametrize(
    ("f", "numbers"),
    [
        (lambda x, y: x / y, ([0.0, 1e-30, -1e-20], [1e-42, 1e-42, 1e-42])),
        (lambda x, y: x / y, ([0.0, -0.0, 0.0], [1e-42, -1e-42, 3e38])),
        (lambda x, y: abs(x) * y, ([np.nan, -0.0, -np.inf], [1.0, 1.0, 1.0])),
    ],
)
def test_the_least_and_the_largest_operands_equal_torch(f, numbers):
    ours = [Tensor(np.array(a, np.float32), requires_grad=True) for a in numbers]
    theirs = [torch.tensor(t.data.copy(), requires_grad=True) for t in ours]
    with np.errstate(all="ignore"):
        f(*ours).sum().backward()
    f(*theirs).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-5)


def test_a_small_gradient_meets_a_small_divisor():
    a, b = leaf(1.0), leaf(1e-21)
    (a / b).backward(np.float32([1e-10]))
    np.testing.assert_allclose(b.grad, [-1e32], rtol=1e-5)


def test_ties_beyond_what_a_float_can_count():
    x = Tensor(np.ones((1 << 24) + 8, np.float32), requires_grad=True)
    x.max().backward()
    assert x.grad[0] == np.float32(1 / ((1 << 24) + 8))


# ---- the tails ---------------------------------------------------------------------------------

TAIL = np.array([-200, -103, -100, -90, -88, -50, -30, -20, -17, -15, -5, -1, -1e-3, 0, 1e-3, 1, 5,
                 15, 17, 20, 30, 50, 90, 200.0])  # fmt: skip


def exact_sigmoid(x):
    x = x.astype(np.longdouble)
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


TAILS = {
    "sigmoid": (bp.sigmoid, exact_sigmoid),
    "silu": (act.silu, lambda x: x * exact_sigmoid(x)),
    "gelu sigmoid": (lambda x: act.gelu(x, "sigmoid"), lambda x: x * exact_sigmoid(1.702 * x)),
    "softplus": (act.softplus, lambda x: np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 30))))),
    "elu": (act.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "logsigmoid": (act.logsigmoid, lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))),
    "bce of no": (lambda x: loss.bce_with_logits(x, np.zeros(x.shape), reduction="none"),
                  lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "bce of yes": (lambda x: loss.bce_with_logits(x, np.ones(x.shape), reduction="none"),
                   lambda x: np.maximum(-x, 0) + np.log1p(np.exp(-np.abs(x)))),
}  # fmt: skip
SLOPES = {
    "sigmoid": lambda x: exact_sigmoid(x) * exact_sigmoid(-x),
    "silu": lambda x: exact_sigmoid(x) * (1 + x * exact_sigmoid(-x)),
    "softplus": lambda x: np.where(x > 20, 1, exact_sigmoid(x)),
    "elu": lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
    "logsigmoid": lambda x: exact_sigmoid(-x),
    "bce of no": exact_sigmoid,
    "bce of yes": lambda x: -exact_sigmoid(-x),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TAILS)
def test_tails_have_relative_accuracy(name, dtype):
    f, exact = TAILS[name]
    x = Tensor(TAIL.astype(dtype), requires_grad=True)
    y = f(x)
    least = float(np.finfo(dtype).smallest_subnormal)
    precision = {np.float32: 1e-6, np.float64: 1e-14}[dtype]
    wide = TAIL.astype(dtype).astype(np.longdouble)
    if name == "gelu sigmoid":
        precision *= 100  # 1.702·x is rounded before the exponential
    atol = 200 * least  # of a number with so few digits left, times x
    np.testing.assert_allclose(y.data, exact(wide).astype(dtype), rtol=precision, atol=atol)
    backward(y)
    if name in SLOPES:
        expected = SLOPES[name](wide).astype(dtype)
        below = TAIL < 10 if name in ("sigmoid", "silu") else TAIL < 1000  # 1 − σ is rounded above
        np.testing.assert_allclose(x.grad[below], expected[below], rtol=20 * precision, atol=atol)


def test_gelu_at_extremes():
    x = leaf(1e20, -1e20, 1e13, -1e13, 25.0, -25.0, 3.4e38)
    y = act.gelu(x, "tanh")
    np.testing.assert_array_equal(y.data, np.maximum(x.data, 0))
    backward(y)
    np.testing.assert_array_equal(x.grad, [1, 0, 1, 0, 1, 0, 1])


def test_the_neurons_sigmoid_too():
    from chainrule.neural_networks.perceptron import sigmoid

    x = TAIL.astype(np.longdouble)
    np.testing.assert_allclose(sigmoid(TAIL), exact_sigmoid(x).astype(float), rtol=1e-14)
    assert sigmoid(np.array(-800.0)) == 0


# ---- masks select ------------------------------------------------------------------------------

MASKS = {
    "relu": lambda x: x.relu(), "clamp": lambda x: x.clamp(0.0, None),
    "clamp from both sides": lambda x: x.clamp(0.0, 100.0),
    "maximum": lambda x: bp.maximum(x, 0.0), "minimum": lambda x: -bp.minimum(-x, 0.0),
    "where": lambda x: bp.where(x > 0, x, 0.0), "masked_fill": lambda x: x.masked_fill(x <= 0, 0.0),
    "max": lambda x: bp.stack([x, Tensor(np.float32([0, 0]))]).max(axis=0),
    "min": lambda x: -bp.stack([-x, Tensor(np.float32([0, 0]))]).min(axis=0),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_an_infinite_gradient_stops_at_a_mask(name):
    x = leaf(-1.0, 4.0)
    with np.errstate(divide="ignore"):
        backward(MASKS[name](x).sqrt())
    assert x.grad.tolist() == [0.0, 0.25]


def test_dropped_infinities_are_dropped(rng):
    x = Tensor(np.full(50, np.inf, np.float32), requires_grad=True)
    y = reg.dropout(x, 0.5, rng)
    assert set(y.data.tolist()) == {0.0, np.inf}
    y.backward(np.full(50, np.inf, np.float32))
    assert set(x.grad.tolist()) == {0.0, np.inf}


def test_nan_goes_where_pytorch_sends_it():
    values = np.array([np.nan, 1.0, -1.0])
    half = torch.tensor(0.5)
    for ours, theirs in ((lambda x: x.relu(), torch.relu), (lambda x: x.max(), torch.max),
                         (lambda x: bp.maximum(x, 0.5), lambda x: torch.maximum(x, half)),
                         (lambda x: x.clamp(-0.5, 2.0), lambda x: x.clamp(-0.5, 2.0)),
                         (lambda x: x.min(), torch.min)):  # fmt: skip
        x, t = Tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
        y, z = ours(x), theirs(t)
        np.testing.assert_array_equal(y.data, z.detach())
        backward(y)
        z.backward(torch.ones_like(z))
        np.testing.assert_array_equal(x.grad, t.grad)


def test_powers_at_zero_against_pytorch():
    a = np.repeat([0.0, 2.0, -1.0], 5)
    b = np.tile([-1.0, 0.0, 0.5, 1.0, 2.0], 3)
    x, n = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    u, v = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    with np.errstate(all="ignore"):
        y = x**n
        backward(y)
    z = u**v
    z.backward(torch.ones_like(z))
    np.testing.assert_allclose(y.data, z.detach())
    np.testing.assert_allclose(x.grad, u.grad)
    np.testing.assert_allclose(n.grad, v.grad)


# ---- no axes, no elements ----------------------------------------------------------------------

NO_AXES = {
    "sum": (lambda x: x.sum(axis=-1), lambda x: x.sum(dim=-1)),
    "sum kept": (lambda x: x.sum(axis=0, keepdims=True), lambda x: x.sum(dim=0, keepdim=True)),
    "mean": (lambda x: x.mean(axis=0), lambda x: x.mean(dim=0)),
    "max": (lambda x: x.max(axis=0), lambda x: x.amax(dim=0)),
    "min": (lambda x: x.min(axis=-1), lambda x: x.amin(dim=-1)),
    "logsumexp": (lambda x: bp.logsumexp(x, axis=0), lambda x: x.logsumexp(dim=0)),
    "cumsum": (lambda x: x.cumsum(-1), lambda x: x.cumsum(dim=-1)),
    "squeeze": (lambda x: x.squeeze(0), lambda x: x.squeeze(0)),
    "unsqueeze": (lambda x: x.unsqueeze(-1), lambda x: x.unsqueeze(-1)),
    "transpose": (lambda x: x.transpose(0, -1), lambda x: x.transpose(0, -1)),
    "gather": (lambda x: bp.gather(x, np.array(0), 0), lambda x: x.gather(0, torch.tensor(0))),
    "log_softmax": (lambda x: loss.log_softmax(x, axis=0), lambda x: x.log_softmax(dim=0)),
    "flatten": (lambda x: x.flatten(), lambda x: x.flatten()),
    "index": (lambda x: x[None, ...], lambda x: x[None, ...]),
    "masked": (lambda x: x[np.array(True)], lambda x: x[torch.tensor(True)]),
    "expand": (lambda x: x.expand(2, 3), lambda x: x.expand(2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_AXES)
def test_tensors_without_axes_count_as_one_number(name):
    ours, theirs = NO_AXES[name]
    x, t = Tensor(np.array(3.0), requires_grad=True), torch.tensor(3.0, requires_grad=True)
    y, z = ours(x), theirs(t)
    assert y.shape == tuple(z.shape)
    np.testing.assert_allclose(y.data, z.detach())
    backward(y * y)
    (z * z).sum().backward()
    np.testing.assert_allclose(x.grad, t.grad)


def test_tensors_without_axes_have_no_second_one():
    x = Tensor(np.array(3.0))
    for call in (lambda: x.sum(axis=1), lambda: x.max(axis=-2), lambda: x.cumsum(1),
                 lambda: x.transpose(0, 1)):  # fmt: skip
        with pytest.raises(np.exceptions.AxisError):
            call()
    assert x.argmax(axis=0).item() == 0
    assert x.take([0, 0]).shape == (2,)
    np.testing.assert_array_equal(x.sum(axis=[0]).data, 3)
    assert Tensor(np.ones((2, 3))).sum(axis=[0, 1]).item() == 6


NO_ELEMENTS = {
    "log_softmax": (lambda x: loss.log_softmax(x, axis=1), lambda x: x.log_softmax(dim=1)),
    "logsumexp": (lambda x: bp.logsumexp(x, axis=1), lambda x: x.logsumexp(dim=1)),
    "sum": (lambda x: x.sum(axis=1), lambda x: x.sum(dim=1)),
    "mean": (lambda x: x.mean(axis=1), lambda x: x.mean(dim=1)),
    "var": (lambda x: x.var(axis=1), lambda x: x.var(dim=1)),
    "all": (lambda x: x.mean(), lambda x: x.mean()),
    "linear": (lambda x: bp.linear(x, Tensor(np.ones((3, 2)))),
               lambda x: x @ torch.ones(2, 3).double()),
    "narrow linear": (lambda x: bp.linear(x.transpose(-1, -2), Tensor(np.ones((3, 0)))),
                      lambda x: x.transpose(-1, -2) @ torch.ones(0, 3).double()),
    "layer_norm": (lambda x: reg.layer_norm(x, 2), lambda x: torch.layer_norm(x, (2,))),
    "layer_norm of nothing": (lambda x: reg.layer_norm(x.transpose(-1, -2), 0),
                              lambda x: torch.layer_norm(x.transpose(-1, -2), (0,))),
    "rms_norm": (lambda x: reg.rms_norm(x.transpose(-1, -2), 0), lambda x: x.transpose(-1, -2)),
    "concat": (lambda x: bp.concat([x, x], 1), lambda x: torch.cat([x, x], 1)),
    "chunk": (lambda x: bp.chunk(x, 2, 1)[0], lambda x: torch.chunk(x, 2, 1)[0]),
    "split": (lambda x: bp.split(x, 3, 1)[0], lambda x: torch.split(x, 3, 1)[0]),
    "split by nothing": (lambda x: bp.split(x, 0, 1)[0], lambda x: torch.split(x, 0, 1)[0]),
    "gelu": (lambda x: act.gelu(x, "tanh"), lambda x: torch.nn.functional.gelu(x)),
    "take": (lambda x: x.take(np.array([], int)), lambda x: x[[]]),
    "einsum": (lambda x: bp.einsum("abc,abd->cd", x, x),
               lambda x: torch.einsum("abc,abd->cd", x, x)),
    "norm": (lambda x: bp.norm(x, axis=1), lambda x: torch.linalg.vector_norm(x, dim=1)),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: x.sigmoid()),
    "clamp": (lambda x: x.clamp(0.0, 1.0), lambda x: x.clamp(0.0, 1.0)),
    "max": (lambda x: x.max(axis=2), lambda x: x.amax(dim=2)),
    "masked": (lambda x: x[np.zeros((5, 0), bool)], lambda x: x[torch.zeros(5, 0, dtype=bool)]),
    "cumsum": (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "prelu": (lambda x: act.prelu(x.transpose(1, 2), Tensor(np.ones(2))),
              lambda x: x.transpose(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ELEMENTS)
def test_tensors_without_elements(name):
    ours, theirs = NO_ELEMENTS[name]
    x = Tensor(np.ones((5, 0, 2)), requires_grad=True)
    t = torch.ones(5, 0, 2, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's
        z = theirs(t)
    y = ours(x)
    assert y.shape == tuple(z.shape)
    np.testing.assert_array_equal(y.data, z.detach())
    backward(y)
    assert x.grad.shape == (5, 0, 2)


def test_empty_lists_and_axes():
    assert reg.l2_penalty([]).item() == reg.l1_penalty([]).item() == 0
    with pytest.raises(ValueError, match="zero-size"):
        Tensor(np.ones((2, 0))).max(axis=1)
    for call, message in ((lambda x: bp.split(x, 0), "at least one"),
                          (lambda x: bp.chunk(x, 0), "at least one")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call(Tensor(np.ones(3)))
    assert [p.shape for p in bp.chunk(Tensor(np.ones((0, 3))), 2)] == [(0, 3)]
    SGD([Parameter(np.ones((0, 2), np.float32)), Parameter(np.ones(2, np.float32))]).step()


# ---- what else other engines' tests asked ------------------------------------------------------


def test_variance_of_fewer_numbers_than_the_correction():
    x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    for correction in (3, 5, 3.5):
        assert x.var(correction=correction).item() == np.inf
    assert np.isnan(x[:1].var().item())
    expected = torch.tensor([1.0, 2.0, 3.0]).var(correction=0.5)
    np.testing.assert_allclose(x.var(correction=0.5).data, expected, rtol=1e-6)


def test_mixed_indices_have_pytorchs_shape(rng):
    x = Tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True)
    t = torch.tensor(x.data, requires_grad=True)
    two, mask = [0, 1], rng.random((3, 4)) < 0.5
    for index in ((0, slice(None), [0, 1]), (0, slice(None), slice(None), [0, 1]),
                  (slice(None), 1, two, slice(None, 2)), ([0, 1], slice(None), [0, 1]),
                  (0, [1, 2], None, 1), (..., 0, two), (two, ..., 0), (1, None, [2, 0]),
                  (slice(None), mask, 0), (1, mask), (0, ..., [1, 1], 2)):  # fmt: skip
        x.grad = t.grad = None
        parts = tuple(torch.tensor(p) if isinstance(p, list | np.ndarray) else p for p in index)
        y, z = x[index], t[parts]
        assert y.shape == tuple(z.shape), index
        np.testing.assert_array_equal(y.data, z.detach())
        weights = rng.standard_normal(y.shape)
        y.backward(weights)
        z.backward(torch.tensor(weights))
        np.testing.assert_allclose(x.grad, t.grad)
    gradcheck(lambda x: x[0, :, [1, 1, 3]], [x])
    assert x[Tensor(1)].shape == x[np.int64(1)].shape == (3, 4, 5)
    assert x[[]].shape == (0, 3, 4, 5)


def test_gather_along_part_of_the_tensor(rng):
    x = Tensor(rng.standard_normal((4, 5)), requires_grad=True)
    t = torch.tensor(x.data, requires_grad=True)
    index = rng.integers(0, 5, (2, 3))
    y, z = bp.gather(x, index, 1), t.gather(1, torch.tensor(index))
    np.testing.assert_array_equal(y.data, z.detach())
    backward(y)
    z.backward(torch.ones_like(z))
    np.testing.assert_array_equal(x.grad, t.grad)
    with pytest.raises(ValueError, match=r"\(5, 3\) do not fit shape \(4, 5\)"):
        bp.gather(x, rng.integers(0, 4, (5, 3)), 1)


def test_gradcheck_at_large_numbers_and_with_shared_memory():
    x = Tensor(np.array([1e8, -3e7, 2.0]), requires_grad=True)
    assert gradcheck(lambda x: x * x, [x])
    twin = Tensor(x.data, requires_grad=True)
    with pytest.raises(ValueError, match="share memory"):
        gradcheck(lambda a, b: a * b, [x, twin])


def test_values_are_kept_for_one_thread_only():
    seen = []
    with bp.keep_values():
        thread = threading.Thread(target=lambda: seen.append((leaf(1.0) * 2.0)._node.value))
        thread.start()
        thread.join()
        assert (leaf(1.0) * 2.0)._node.value is not None
    assert seen == [None]


# ---- one row's fate is not another's -----------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_that_overflows_changes_no_other_row(dtype):
    """Where a partial sum or a square overflows it is computed in another way, there alone."""
    largest, least = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    rows = np.array([[largest, -1.0, largest], [3.0, 3.0, 3.0], [least, least, least],
                     [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [5.0, 7.0, 11.0]], dtype)  # fmt: skip
    for f in (lambda x: x.sum(axis=1), lambda x: x.mean(axis=1), lambda x: x.var(axis=1),
              lambda x: x.var(axis=1, correction=0)):  # fmt: skip
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            together = f(Tensor(rows)).data
            for row, found in zip(rows, together, strict=True):
                np.testing.assert_array_equal(found, f(Tensor(row[None])).data[0])
    with np.errstate(all="ignore"):
        assert Tensor(rows).sum(axis=1).data[2] == 3 * least
        assert Tensor(rows).var(axis=1).data[1] == 0


def test_sums_that_come_back_from_beyond_the_largest_number():
    x = np.array([3e38, 3e38, -3e38, -2e38], np.float32)
    y, z = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y.cumsum(0).data, z.cumsum(0).detach())
        y.cumsum(0).backward(x)
        z.cumsum(0).backward(torch.tensor(x))
    np.testing.assert_allclose(y.grad, z.grad, rtol=1e-6)


@pytest.mark.parametrize("value", [88.8, 12345.1, 123450.1, 1.2345e6])
@pytest.mark.parametrize("d", [7, 128, 384])
def test_constant_rows_are_zeros_after_normalization(value, d):
    """The mean is rounded; what it is off by must not pass for a deviation."""
    x = np.full((3, d), value, np.float32)
    x[1] = np.random.default_rng(d).standard_normal(d)
    theirs = torch.nn.functional.layer_norm(torch.tensor(x), (d,)).numpy()
    np.testing.assert_allclose(reg.layer_norm(Tensor(x), d).data, theirs, atol=1e-2)
    columns = np.repeat(x[:1, :5], d, axis=0)
    np.testing.assert_allclose(reg.batch_norm(Tensor(columns)).data, 0, atol=1e-2)
    assert Tensor(x).var(axis=1).data[0] < 1e-12


def test_far_from_zero_layer_norm_is_as_exact_as_its_input(rng):
    x = (1e5 + rng.standard_normal((5, 128))).astype(np.float32)
    exact = x.astype(float) - x.astype(float).mean(axis=1, keepdims=True)
    exact /= np.sqrt((exact**2).mean(axis=1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(reg.layer_norm(Tensor(x), 128).data, exact, atol=2e-6)


def test_an_infinite_number_makes_the_others_of_its_row_nothing():
    x = np.array([[np.inf, 1.0, -2.0], [3.0, 4.0, 0.0]], np.float32)
    with np.errstate(invalid="ignore"):
        found = reg.rms_norm(Tensor(x), 3).data
        for f, g in (
            (lambda x: x.var(axis=1), lambda t: t.var(1)),
            (lambda x: bp.logsumexp(x * 1e30, axis=1), lambda t: (t * 1e30).logsumexp(1)),
        ):
            mine, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
            f(mine).backward(np.ones(2, np.float32))
            g(theirs).backward(torch.ones(2))
            np.testing.assert_allclose(mine.grad, theirs.grad, rtol=1e-6)
    np.testing.assert_allclose(found, torch.nn.functional.rms_norm(torch.tensor(x), (3,)),
                               rtol=1e-6)  # fmt: skip


def test_epsilon_of_sixteen_bits_is_that_of_thirty_two(rng):
    x = (rng.standard_normal((3, 5)) * 1e-2).astype(np.float16)
    theirs = torch.nn.functional.rms_norm(torch.tensor(x), (5,)).numpy()
    for ours in (reg.rms_norm, reg.rms_norm_composed):
        np.testing.assert_allclose(ours(Tensor(x), 5).data, theirs, rtol=4e-3)
