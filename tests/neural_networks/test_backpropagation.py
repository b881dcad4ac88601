"""The engine: what is recorded, what backward leaves, what it frees, what it refuses."""

import ctypes
import gc
import inspect
import platform
import resource
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st

from chainrule.neural_networks.backpropagation import (
    Buffer,
    Embedding,
    GradientError,
    Linear,
    Module,
    ModuleList,
    Parameter,
    Sequential,
    Tensor,
    checkpoint,
    enable_grad,
    grad,
    gradcheck,
    is_grad_enabled,
    keep_freed_memory,
    keep_values,
    linear,
    no_grad,
    primitive,
    sum_to,
    tensor,
    trace,
)

B, T, H, D = 2, 3, 5, 7


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def test_the_hand_example():
    # L = (σ(wx + b) − y)² at x=2, w=0.5, b=−1, y=1
    w, b = tensor(0.5, requires_grad=True), tensor(-1.0, requires_grad=True)
    loss = ((w * 2.0 + b).sigmoid() - 1.0) ** 2
    loss.backward()
    assert loss.item() == 0.25
    assert w.grad == -0.5
    assert b.grad == -0.25
    assert loss.dtype == w.grad.dtype == np.float32


def test_micrograds_published_values():
    a, b = (
        tensor(-4.0, requires_grad=True, dtype=float),
        tensor(2.0, requires_grad=True, dtype=float),
    )
    c, d = a + b, a * b + b**3
    c = c + c + 1
    c = c + 1 + c + (-a)
    d = d + d * 2 + (b + a).relu()
    d = d + 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g = g + 10.0 / f
    g.backward()
    assert g.item() == pytest.approx(24.70408163265306, rel=1e-14)
    assert float(a.grad) == pytest.approx(138.8338192419825, rel=1e-14)
    assert float(b.grad) == pytest.approx(645.5772594752186, rel=1e-14)


def test_a_shared_node_adds_its_gradients(rng):
    a, b = leaf(rng, D), leaf(rng, D)
    (a * b + b).sum().backward()
    np.testing.assert_allclose(b.grad, a.data + 1)
    np.testing.assert_allclose(a.grad, b.data)


def test_gradients_accumulate_over_passes_until_cleared(rng):
    a = leaf(rng, D)
    for _ in range(3):
        (2 * a).sum().backward()
    np.testing.assert_array_equal(a.grad, np.full(D, 6.0))
    a.grad = None
    (2 * a).sum().backward()
    np.testing.assert_array_equal(a.grad, np.full(D, 2.0))


def test_a_gradient_handed_to_two_inputs_is_not_overwritten_by_one_of_them(rng):
    # `add` hands one array to both inputs; accumulating into it for `a` would corrupt `b`'s.
    a, b = leaf(rng, D), leaf(rng, D)
    x, y = a * 1.0, b * 1.0
    threefold, fivefold = x * 3.0, y * 5.0  # made before z: their gradients arrive after z's
    z = x + y
    (threefold.sum() + fivefold.sum() + (z * 7.0).sum()).backward()
    np.testing.assert_array_equal(a.grad, np.full(D, 10.0))
    np.testing.assert_array_equal(b.grad, np.full(D, 12.0))
    twice = leaf(rng, D)
    (twice + twice).backward(np.ones(D))
    twice.grad += 1  # owned by the leaf alone
    np.testing.assert_array_equal(twice.grad, np.full(D, 3.0))


def test_the_caller_keeps_its_gradient_array(rng):
    a, weights = leaf(rng, D), rng.standard_normal(D)
    before = weights.copy()
    b = a + 0.0
    (b + b * 2).backward(weights)
    np.testing.assert_array_equal(weights, before)
    a.grad = None
    c = a.reshape(D)
    c.backward(weights)
    a.grad += 1
    np.testing.assert_array_equal(weights, before)


def test_a_long_chain_needs_no_recursion():
    x = y = tensor(0.0, requires_grad=True)
    for _ in range(50_000):
        y = y + 1.0
    y.backward()
    assert x.grad == 1
    assert y.item() == 50_000
    del y  # nor does freeing it


def test_a_second_backward_says_what_to_do(rng):
    a = leaf(rng, D)
    y = (a * a).sum()
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_allclose(a.grad, 4 * a.data)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()
    half = a * 2
    half.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        (half * 3).sum().backward()


def test_backward_frees_each_saved_array_on_its_way(rng):
    alive = []

    @primitive
    def doubled(x):
        saved = x * 2
        reference = weakref.ref(saved)
        alive.append(reference)

        def vjp(g):
            assert saved is not None
            counts.append(sum(r() is not None for r in alive))
            return (g * 2,)

        return x * 2, vjp

    counts = []
    y = leaf(rng, D)
    for _ in range(5):
        y = doubled(y)
    y.backward(np.ones(D))
    assert counts == [5, 4, 3, 2, 1]
    assert not any(r() is not None for r in alive)


def test_intermediate_results_die_with_their_last_use(rng):
    x = leaf(rng, 1000, 100)
    h = x + 1.0  # add saves nothing
    gone = weakref.ref(h.data)
    y = h.relu()
    del h
    assert gone() is None
    y.sum().backward()


def test_backward_peak_memory_is_bounded(rng):
    # 40 layers of 0.8 MB: gradients of all of them at once would be 32 MB
    x = leaf(rng, 1000, 100)
    y = x
    for _ in range(40):
        y = y.tanh()
    loss = y.sum()
    gc.collect()
    tracemalloc.start()
    loss.backward()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * x.data.nbytes


def test_nothing_is_recorded_without_need(rng):
    a = leaf(rng, D)
    with no_grad():
        assert not (a * 2).requires_grad
        with enable_grad():
            assert (a * 2).requires_grad
        assert not is_grad_enabled()
    assert is_grad_enabled()
    assert not (a.detach() * 2).requires_grad
    assert (Tensor(a.data) * 2).is_leaf

    @no_grad()
    def inner():
        return a * 2

    assert not inner().requires_grad
    assert is_grad_enabled()
    with pytest.raises(ZeroDivisionError), no_grad():
        _ = 1 / 0
    assert is_grad_enabled()
    with pytest.raises(RuntimeError, match="requires a gradient"):
        a.detach().sum().backward()


def test_detach_shares_memory_and_cuts_the_graph(rng):
    a = leaf(rng, D)
    b = (a * 2).detach()
    (a * b).sum().backward()
    np.testing.assert_allclose(a.grad, b.data)
    assert a.detach().data is a.data
    assert np.shares_memory(a.detach()[1:3].data, a.data)
    assert not np.shares_memory(a.detach()[[1, 2]].data, a.data)


def test_refusals_are_clear(rng):
    a = leaf(rng, B, T)
    with pytest.raises(RuntimeError, match=r"\(2, 3\) needs a gradient of that shape"):
        (a * 2).backward()
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\)"):
        (a * 2).backward(np.ones(T))
    with pytest.raises(TypeError, match="only floating point"):
        tensor([1, 2], requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        (a * 2).requires_grad_(False)
    with pytest.raises(RuntimeError, match="detach"):
        a.numpy()
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(a)
    with pytest.raises(ValueError, match="leaves"):
        grad(a.sum(), [a * 2])


def test_types_follow_pytorch():
    assert tensor([1.0, 2.0]).dtype == np.float32
    assert tensor([1, 2]).dtype == np.int64
    assert Tensor(np.zeros(2)).dtype == np.float64
    x = tensor([1.0, 2.0], requires_grad=True)
    for y in (x * 2, 2.0 / x, x**2, x**0.5, x.mean(), x.var(), x.sigmoid(), x.max(), x.clamp(0.0),
              x.sum() * np.pi, x.exp().log().sum()):  # fmt: skip
        assert y.dtype == np.float32
        x.grad = None
        y.backward(np.ones(y.shape))
        assert x.grad.dtype == np.float32
    assert repr(tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert "grad_fn=multiply" in repr(x * 2)
    assert f"{x.sum():.2f}" == "3.00"
    assert [float(v) for v in x] == [1.0, 2.0]
    assert len(x) == 2
    assert isinstance(np.ones(2, np.float32) * x, Tensor)
    assert (x > 1.5).tolist() == [False, True]


def test_retain_grad_keeps_an_inner_gradient(rng):
    a = leaf(rng, D)
    b = a * 3
    b.retain_grad()
    (b * b).sum().backward()
    np.testing.assert_allclose(b.grad, 2 * b.data)
    np.testing.assert_allclose(a.grad, 6 * b.data)


def test_grad_leaves_the_leaves_alone(rng):
    a, b, unused = leaf(rng, D), leaf(rng, D), leaf(rng, D)
    da, none = grad((a * a * b).sum(), [a, unused])
    np.testing.assert_allclose(da, 2 * a.data * b.data)
    assert (none, a.grad, b.grad) == (None, None, None)
    (itself,) = grad(a, [a], np.ones(D))
    np.testing.assert_array_equal(itself, np.ones(D))


def test_a_parameter_gradient_is_computed_where_it_is_wanted(rng):
    layer = Linear(D, H, rng=rng)
    arena = np.full(layer.weight.size + H, np.nan, np.float32)
    places = arena[: layer.weight.size].reshape(H, D), arena[layer.weight.size :]
    asked = []
    layer.weight.grad_place = lambda: asked.append("weight") or places[0]
    layer.bias.grad_place = lambda: asked.append("bias") or places[1]
    x = Tensor(rng.standard_normal((B, T, D)).astype(np.float32))
    layer(x).sum().backward()
    assert layer.weight.grad is places[0]
    assert layer.bias.grad is places[1]
    once = arena.copy()
    layer(x).sum().backward()
    np.testing.assert_allclose(arena, 2 * once)
    assert asked == ["weight", "bias"]  # a gradient that is there is added to
    layer.zero_grad()
    (layer.weight @ layer.weight.T).sum().backward()  # both sides want the same place
    np.testing.assert_allclose(
        layer.weight.grad, 2 * np.tile(layer.weight.data.sum(0), (H, 1)), rtol=1e-5
    )
    layer.zero_grad()
    grad(layer(x).sum(), [layer.weight])  # which leaves every grad alone
    assert asked == ["weight", "bias", "weight"]


def test_primitive_in_both_forms(rng):
    calls = []

    @primitive
    def scale(x, weight, *, power=1):
        y = x**power * weight

        def vjp(g):
            return (
                lambda out: calls.append("x") or g * weight * power * x ** (power - 1),
                lambda out: calls.append("weight") or sum_to(g * x**power, weight.shape),
            )

        return y, vjp

    def forward(x, weight, *, power=1):
        return x**power * weight

    def vjp(g, output, x, weight, *, power=1):
        return g * weight * power * x ** (power - 1), sum_to(g * output / weight, weight.shape)

    x, weight = leaf(rng, B, D), leaf(rng, D)
    gradcheck(lambda x, w: scale(x, w, power=2), [x, weight])
    gradcheck(lambda x, w: primitive(forward, vjp)(x, w, power=2), [x, weight])
    calls.clear()
    scale(x.detach(), weight).sum().backward()
    assert calls == ["weight"]  # nothing is computed for an input that needs no gradient

    wrong = primitive(lambda x: (x * 2, lambda g: (g.sum(0),)))
    with pytest.raises(ValueError, match=r"gradient of shape \(7,\)"):
        wrong(x * 1.0).sum().backward()
    with pytest.raises(ValueError, match=r"gradient of shape \(7,\)"):
        wrong(x).sum().backward()


def test_a_pass_that_fails_leaves_nothing_behind(rng):
    x = leaf(rng, D)
    failing = [True]

    def vjp(g):
        if failing[0]:
            raise FloatingPointError("once")
        return (g * 2,)

    fragile = primitive(lambda x: (x * 2, vjp))
    a = x * 1.0
    y = (fragile(a) + a * 5.0).sum()
    with pytest.raises(FloatingPointError, match="once"):
        y.backward(retain_graph=True)
    failing[0] = False
    x.grad = None
    y.backward()
    np.testing.assert_array_equal(x.grad, np.full(D, 7.0))


def test_gradcheck_sees_what_a_sum_would_hide(rng):
    # the gradient of sum(softmax) is zero: this wrong VJP passes any test through .sum()
    @primitive
    def wrong_softmax(x):
        p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        return p, lambda g: (0.5 * p * (g - (g * p).sum(-1, keepdims=True)),)

    with pytest.raises(GradientError, match="input 0 at"):
        gradcheck(wrong_softmax, [leaf(rng, B, D)])
    with pytest.raises(TypeError, match="float64"):
        gradcheck(lambda x: x * 2, [tensor([1.0], requires_grad=True)])
    with pytest.raises(ValueError, match="at least one"):
        gradcheck(lambda x: x * 2, [tensor([1.0])])
    with pytest.raises(GradientError):
        gradcheck(lambda x: x.detach() * x, [leaf(rng, D)])


def test_checkpoint_gives_the_same_gradients_for_less_memory(rng):
    layers = [Linear(D, D, rng=rng).to(float) for _ in range(4)]
    dropout = np.random.default_rng(1)

    def block(x):
        for layer in layers:
            x = layer(x).tanh() * (dropout.random(x.shape) < 0.8)
        return x

    x = leaf(rng, B, D)
    state = dropout.bit_generator.state
    block(x * 1.0).sum().backward()
    expected = [x.grad, *(layer.weight.grad for layer in layers)]
    x.grad = None
    for layer in layers:
        layer.zero_grad()
    dropout.bit_generator.state = state
    y = checkpoint(block, x * 1.0, generators=[dropout])
    drawn = dropout.bit_generator.state["state"]
    y.sum().backward()
    assert dropout.bit_generator.state["state"] == drawn
    for want, got in zip(expected, [x.grad, *(layer.weight.grad for layer in layers)], strict=True):
        np.testing.assert_array_equal(got, want)
    with no_grad():
        assert not checkpoint(block, x).requires_grad

    wide = Tensor(rng.standard_normal((1000, 100)), requires_grad=True)

    def deep(x):
        for _ in range(8):
            x = x.tanh()
        return x

    def saved_bytes(through):
        gc.collect()
        tracemalloc.start()
        y = wide
        for _ in range(5):
            y = through(y)
        saved, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return saved

    assert saved_bytes(lambda y: checkpoint(deep, y)) <= 0.5 * saved_bytes(deep)


def test_trace_shows_values_and_gradients(rng):
    w, b = tensor(0.5, requires_grad=True), tensor(-1.0, requires_grad=True)
    with keep_values():
        loss = ((w * 2.0 + b).sigmoid() - 1.0) ** 2
    graph = trace(loss, gradients=True)
    assert [v.name for v in graph.vertices] == [
        "leaf", "multiply", "leaf", "add", "sigmoid", "subtract", "power"]  # fmt: skip
    assert graph.edges == [(0, 1), (1, 3), (2, 3), (3, 4), (4, 5), (5, 6)]
    assert [float(v.value) for v in graph.vertices] == [0.5, 1.0, -1.0, 0.0, 0.5, -0.5, 0.25]
    assert [float(v.gradient) for v in graph.vertices] == [-0.5, -0.25, -0.25, -0.25, -1, -1, 1]
    assert w.grad is None
    loss.backward()  # the graph is still there
    assert len(trace(w).vertices) == 1


class Tiny(Module):
    def __init__(self, rng):
        self.table = Embedding(H, D, rng=rng)
        self.body = Sequential(Linear(D, D, rng=rng), Linear(D, H, bias=False, rng=rng))
        self.heads = ModuleList([Linear(H, B, rng=rng)])
        self.tied = self.table.weight
        self.mean = Buffer(np.zeros(H))
        self.scale = Parameter(np.ones(3, np.float32))

    def forward(self, ids):
        return self.heads[0](self.body(self.table(ids)))


NAMES = ["tied", "mean", "scale", "table.weight", "body.0.weight", "body.0.bias", "body.1.weight",
         "heads.0.weight", "heads.0.bias"]  # fmt: skip


def test_modules_name_save_and_load(rng):
    model, other = Tiny(rng), Tiny(rng)
    assert list(model.state_dict()) == NAMES
    assert [n for n, _ in model.named_parameters()] == ["tied", "scale", *NAMES[4:]]
    assert [n for n, _ in model.named_buffers()] == ["mean"]
    assert len(list(model.modules())) == 7
    other.load_state_dict(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])
        assert not np.shares_memory(array, other.state_dict()[name])
    assert all(not m.training for m in model.eval().modules())
    assert all(m.training for m in model.train().modules())
    ids = rng.integers(0, H, (B, T))
    model(ids).sum().backward()
    assert model.table.weight.grad is not None
    model.zero_grad()
    assert model.table.weight.grad is None
    model.requires_grad_(False)
    assert not model(ids).requires_grad
    model.to(np.float64)
    assert model(ids).dtype == np.float64
    assert "Linear(7, 5, bias=False)" in repr(model)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("scale"), "scale is missing"),
        (lambda s: s.update(extra=np.ones(1)), "extra is unknown"),
        (lambda s: s.update(scale=np.ones(4, np.float32)), r"shape \(4,\), expected \(3,\)"),
        (lambda s: s.update(scale=np.ones(3)), "type float64, expected float32"),
        (lambda s: s.clear(), "and 6 more"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(rng, damage, message):
    model = Tiny(rng)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    damage(state)
    with pytest.raises(ValueError, match=message) as error:
        model.load_state_dict(state)
    assert "\n" not in str(error.value)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_layers_against_pytorch(rng):
    x = rng.standard_normal((B, T, D))
    for bias in (True, False):
        ours, theirs = (
            Linear(D, H, bias, rng=rng, dtype=float),
            torch.nn.Linear(D, H, bias).double(),
        )
        theirs.load_state_dict({n: torch.tensor(a) for n, a in ours.state_dict().items()})
        weights = rng.standard_normal((B, T, H))
        a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a), theirs(b)
        y.backward(weights)
        z.backward(torch.tensor(weights))
        np.testing.assert_allclose(y.data, z.detach(), rtol=1e-12)
        np.testing.assert_allclose(a.grad, b.grad, rtol=1e-12)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad, rtol=1e-10, atol=1e-12)
    bound = 1 / np.sqrt(D)
    assert np.abs(ours.weight.data).max() <= bound
    ids = np.array([[3, 1, 3], [0, 3, 1]])
    ours, theirs = Embedding(H, D, rng=rng, dtype=float), torch.nn.Embedding(H, D).double()
    theirs.load_state_dict({"weight": torch.tensor(ours.weight.data)})
    weights = rng.standard_normal((B, T, D))
    ours(ids).backward(weights)
    theirs(torch.tensor(ids)).backward(torch.tensor(weights))
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad, rtol=1e-12)
    with pytest.raises(IndexError, match="from 0 to 4"):
        ours(np.array([5]))
    with pytest.raises(ValueError, match="expects 7 features"):
        Linear(D, H, rng=rng)(Tensor(np.ones((B, H), np.float32)))
    with pytest.raises(NotImplementedError, match="does not define forward"):
        Module()(1)


def test_linear_equals_its_composition(rng):
    x, w, b = leaf(rng, B, T, D), leaf(rng, H, D), leaf(rng, H)
    weights = rng.standard_normal((B, T, H))
    fused, composed = linear(x, w, b), x @ w.T + b
    np.testing.assert_allclose(fused.data, composed.data, rtol=1e-13)
    for one, two in zip(
        grad(fused, [x, w, b], weights), grad(composed, [x, w, b], weights), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    gradcheck(linear, [x, w, b])
    gradcheck(linear, [leaf(rng, D), w, b])


UNARY = {
    "exp": lambda x: x.exp(), "tanh": lambda x: x.tanh(), "relu": lambda x: x.relu(),
    "sin": lambda x: x.sin(), "square": lambda x: x * x, "negative": lambda x: -x,
    "log": lambda x: (x * x + 1).log(), "shift": lambda x: 1.5 - x,
    "sqrt": lambda x: (x * x + 0.5).sqrt(),
}  # fmt: skip
BINARY = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (b * b + 1), "matmul": lambda a, b: (a @ b) / 3,
}  # fmt: skip


@given(st.data())
@pytest.mark.parametrize("chunk", range(4))
def test_expression_graphs_against_pytorch(chunk, data):
    """Random graphs with shared nodes: 400 programs, values and gradients."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    arrays = [rng.standard_normal((3, 3)) for _ in range(3)]
    steps = data.draw(
        st.lists(
            st.tuples(st.sampled_from([*UNARY, *BINARY]), st.integers(0, 30), st.integers(0, 30)),
            min_size=1, max_size=12,
        )
    )  # fmt: skip

    def run(leaves):
        pool = list(leaves)
        for name, i, j in steps:
            a, b = pool[i % len(pool)], pool[j % len(pool)]
            y = UNARY[name](a) if name in UNARY else BINARY[name](a, b)
            pool.append(y.tanh() if name in ("exp", "square", "matmul", "multiply") else y)
        return pool[-1] + pool[len(pool) // 2]

    ours = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    weights = rng.standard_normal((3, 3))
    y, z = run(ours), run(theirs)
    np.testing.assert_allclose(y.data, z.detach(), rtol=1e-10, atol=1e-10)
    y.backward(weights)
    z.backward(torch.tensor(weights))
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad, b.grad, rtol=1e-8, atol=1e-8)


def test_freed_memory_is_kept_where_the_c_library_allows_it(monkeypatch):
    kept = keep_freed_memory()
    assert kept == (platform.libc_ver()[0] == "glibc")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    assert not keep_freed_memory()
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # a C library without mallopt
    assert not keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns pages so eagerly")
def test_a_step_takes_no_new_pages(rng):
    x = leaf(rng, 1000, 500)

    def step():
        y = x
        for _ in range(5):
            y = y.tanh()
        y.backward(x.data)
        x.grad = None

    for _ in range(3):
        step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 500  # of 1,000 an array


def test_what_the_page_says_of_pytorch():
    assert {"grad", "vjp", "jvp", "vmap"} <= set(dir(torch.func))

    def branching(x):
        x = x * 2
        if float(x.sum()) > 0:
            return x + 1
        return x - 1

    torch._dynamo.reset()
    compiled = torch.compile(branching, backend="eager")
    for sign in (1.0, -1.0):
        x = torch.full((3,), sign)
        assert torch.equal(compiled(x), branching(x))
    assert torch._dynamo.explain(branching)(torch.ones(3)).graph_break_count >= 1


def test_what_the_page_says_of_pytorchs_gradcheck_and_checkpoints():
    defaults = {name: p.default for name, p in
                inspect.signature(torch.autograd.gradcheck).parameters.items()}  # fmt: skip
    assert (defaults["eps"], defaults["atol"], defaults["rtol"]) == (1e-6, 1e-5, 1e-3)
    with pytest.warns(UserWarning, match="double precision"):
        torch.autograd.gradcheck(
            torch.tanh, torch.ones(3, requires_grad=True), atol=1, raise_exception=False
        )
    calls = []

    def counted(x):
        calls.append(x)
        return x.tanh()

    x = torch.arange(31.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(counted, x, fast_mode=True)
    quick = len(calls)
    assert torch.autograd.gradcheck(counted, x)
    assert quick < 10 < 2 * 31 <= len(calls) - quick

    def noisy(x):
        return x * torch.rand(5)

    for kept in (True, False):
        x = torch.ones(5, requires_grad=True)
        torch.manual_seed(0)
        y = torch.utils.checkpoint.checkpoint(
            noisy, x, use_reentrant=False, preserve_rng_state=kept
        )
        y.sum().backward()
        assert torch.equal(x.grad, y.detach()) == kept

    packed, unpacked = [], []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: packed.append(t) or t.to(torch.float16), lambda t: unpacked.append(t) or t.float()
    ):
        y = x.exp()
    assert len(packed) == 1
    assert not unpacked
    y.sum().backward()
    assert unpacked[0].dtype == torch.float16
