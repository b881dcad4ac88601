"""What somebody who knows PyTorch types on a tensor or a module: it works, or one line says why."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint

from chainrule.neural_networks import activation_functions as act
from chainrule.neural_networks import backpropagation as bp
from chainrule.neural_networks import regularization as reg
from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    ModuleList,
    Parameter,
    Tensor,
    checkpoint,
)
from chainrule.training import loss_functions as loss
from chainrule.transformers.attention import retrieval

NAN, INF = np.nan, np.inf
CALLS = {
    "clone": (lambda x: x.clone(), lambda x: x.clone()),
    "view": (lambda x: x.view(-1), lambda x: x.view(-1)),
    "prod": (lambda x: x.prod(), lambda x: x.prod()),
    "prod of rows": (lambda x: x.prod(0), lambda x: x.prod(0)),
    "prod kept": (lambda x: x.prod(-1, True), lambda x: x.prod(-1, True)),
    "sort": (lambda x: x.sort(0)[0], lambda x: x.sort(dim=0, stable=True)[0]),
    "sort down": (lambda x: x.sort(-1, True)[0],
                  lambda x: x.sort(dim=-1, descending=True, stable=True)[0]),
    "argsort": (lambda x: x.argsort(0), lambda x: x.argsort(dim=0, stable=True)),
    "argsort down": (lambda x: x.argsort(-1, True),
                     lambda x: x.argsort(dim=-1, descending=True, stable=True)),
    "topk": (lambda x: x.topk(1)[0], lambda x: x.topk(1)[0]),
    "topk smallest": (lambda x: x.topk(1, 0, False)[0], lambda x: x.topk(1, 0, False)[0]),
    "topk of none": (lambda x: x.topk(0)[0], lambda x: x.topk(0)[0]),
    "flip": (lambda x: x.flip(0), lambda x: x.flip(0)),
    "flip list": (lambda x: x.flip([-1, 0]) if x.ndim > 1 else x.flip([-1]),
                  lambda x: x.flip([-1, 0]) if x.ndim > 1 else x.flip([-1])),
    "floor divide": (lambda x: (x // 2.0).detach(), lambda x: (x // 2.0).detach()),
    "from the right": (lambda x: (7 // x).detach(), lambda x: (7 // x).detach()),
    "remainder": (lambda x: x % 2.0, lambda x: x % 2.0),
    "remainder of a negative": (lambda x: x % -0.7, lambda x: x % -0.7),
    "remainder by x": (lambda x: 7 % x, lambda x: torch.tensor(7, dtype=x.dtype) % x),
    "masks": (lambda x: ~((x > 0) & (x < 2) | (x == 3) ^ True),
              lambda x: ~((x > 0) & (x < 2) | (x == 3) ^ True)),
}  # fmt: skip
MATRICES = {
    "tril": (lambda x: x.tril(), lambda x: x.tril()),
    "triu above": (lambda x: x.triu(2), lambda x: x.triu(2)),
    "tril below": (lambda x: x.tril(-1), lambda x: x.tril(-1)),
    "pad": (lambda x: bp.pad(x, (1, 2), 0.5), lambda x: F.pad(x, (1, 2), value=0.5)),
    "pad two axes": (lambda x: bp.pad(x, (0, 3, 2, 1)), lambda x: F.pad(x, (0, 3, 2, 1))),
}
CUTS = {"pad that cuts": (lambda x: bp.pad(x, (-1, 2, 0, -1)), lambda x: F.pad(x, (-1, 2, 0, -1)))}
ARRAYS = {
    "primes": np.random.default_rng(0).standard_normal((3, 5)),
    "stack": np.random.default_rng(1).standard_normal((2, 5, 7)),
    "float32": np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32),
    "float16": np.random.default_rng(3).standard_normal((5, 3)).astype(np.float16),
    "ties": np.array([[2.0, 1.0, 2.0], [1.0, 1.0, 2.0]]),
    "one zero": np.array([[3.0, 0.0, 5.0], [2.0, 7.0, 0.5]]),
    "zeros": np.array([[0.0, 3.0, 0.0], [0.0, 2.0, 1.0]]),
    "NaN": np.array([[1.0, NAN, 0.5], [NAN, -2.0, NAN]]),
    "infinite": np.array([[INF, 2.0], [-INF, 3.0]]),
    "backwards": np.arange(1.0, 16.0).reshape(3, 5)[::-1, ::-2],
    "Fortran": np.asfortranarray(np.arange(1.0, 7.0).reshape(2, 3)),
    "1 × 1": np.array([[3.0]]),
    "number": np.array(1.5),
    "no rows": np.zeros((0, 3)),
    "whole": np.array([[3, -7, 2], [5, 1, -1]]),
    "uint8": np.array([[250, 3, 7]], np.uint8),
}


def agree(ours, theirs, array):
    """Values, types, and the gradients of a random upstream gradient."""
    floats = array.dtype.kind == "f"
    x = Tensor(array, requires_grad=floats)
    t = torch.tensor(array.copy(), requires_grad=floats)
    with np.errstate(all="ignore"):
        y, z = ours(x), theirs(t)
        assert (y.shape, y.dtype) == (tuple(z.shape), z.detach().numpy().dtype)
        close = {
            "rtol": 2e-3 if array.dtype == np.float16 else 1e-6,
            "atol": 1e-3 * (x.dtype == "f2"),
        }
        np.testing.assert_allclose(y.data, z.detach().numpy(), **close)
        assert y.requires_grad == z.requires_grad
        if y.requires_grad:
            weights = np.random.default_rng(5).standard_normal(y.shape).astype(y.dtype)
            y.backward(weights)
            z.backward(torch.tensor(weights))
            np.testing.assert_allclose(x.grad, t.grad.numpy(), **close)


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("name", CALLS)
def test_what_pytorch_has_is_here(name, kind):
    array = ARRAYS[kind]
    if name == "view" and kind in ("backwards", "Fortran"):
        pytest.skip("refused, see below")
    if array.size == 0 and name.startswith("topk") and name != "topk of none":
        array = np.zeros((3, 0)) if name == "topk smallest" else array
    if kind in ("infinite", "NaN") and name.startswith("prod"):
        pytest.skip("PyTorch divides the product by the factor, see below")
    if kind == "number" and name == "topk of none":
        pytest.skip("a number has one element")
    agree(*CALLS[name], array)


@pytest.mark.parametrize("kind", [k for k, a in ARRAYS.items() if a.ndim > 1])
@pytest.mark.parametrize("name", MATRICES)
def test_what_pytorch_has_for_matrices_is_here(name, kind):
    agree(*MATRICES[name], ARRAYS[kind])
    if ARRAYS[kind].size:
        agree(*CUTS["pad that cuts"], ARRAYS[kind])


def test_products_whose_quotient_is_no_number():
    """The gradient of a factor is the product of the others, not the product over the factor."""
    for values, slopes in (([INF, 2.0], [2.0, INF]), ([NAN, 2.0], [2.0, NAN]),
                           ([1e-30, 1e-30], [1e-30, 1e-30]),
                           ([1e30, 1e30, 1e-30], [1.0, 1.0, INF])):  # fmt: skip
        x = Tensor(np.array(values, np.float32), requires_grad=True)
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x.prod().backward()
        np.testing.assert_allclose(x.grad, slopes, rtol=1e-6)
    np.testing.assert_allclose(Tensor(np.array([1e30, 1e30, 1e-30], "f4")).prod().data, 1e30)


def test_positions_are_those_of_the_values(rng):
    x = Tensor(rng.integers(0, 4, (3, 7, 5)).astype(np.float64))
    for axis in (0, 1, -1):
        for found in (x.sort(axis), x.sort(axis, True), x.topk(2, axis), x.topk(3, axis, False)):
            pointed_at = np.take_along_axis(x.data, found.indices.data, axis)
            np.testing.assert_array_equal(pointed_at, found.values.data)
            assert found.indices.dtype == np.int64


def test_a_copy_is_one_and_a_view_is_none():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert not np.shares_memory(x.clone().data, x.data)
    assert not np.shares_memory(x.flip(0).data, x.data)
    assert np.shares_memory(x.view(3, 2).data, x.data)
    with pytest.raises(RuntimeError, match=r"view\(\) of shape \(3, 2\) as \(6,\) would have to c"):
        x.T.view(6)


def test_a_floor_has_no_gradient_and_says_so():
    x, t = Tensor([3.0, -7.0], True), torch.tensor([3.0, -7.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="floor_divide"):
        (t // 2).sum().backward()
    with pytest.raises(RuntimeError, match="floor_divide requires a gradient"):
        (x // 2).sum().backward()


@pytest.mark.parametrize("operate", [lambda a, b: a // b, lambda a, b: a % b])
def test_whole_numbers_by_zero(operate):
    with pytest.raises(ZeroDivisionError, match="by 0"):
        operate(Tensor([3, 5]), 0)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(operate(Tensor([3.0, -5.0, 0.0]), 0).data,
                                      operate(torch.tensor([3.0, -5.0, 0.0]), 0))  # fmt: skip


@pytest.mark.parametrize("name", ["clone", "prod", "sort", "topk", "flip", "remainder", "view",
                                  "remainder by x"])  # fmt: skip
def test_only_what_is_read_again_may_not_change(name):
    refused = []
    for module, leaf in ((bp, Tensor), (torch, torch.tensor)):
        x = leaf(np.array([1.5, -2.0, 3.0]), requires_grad=True)
        y = CALLS[name][module is torch](x).sum()
        with module.no_grad():
            x += 1.0
        try:
            y.backward()
            refused.append(False)
        except RuntimeError:
            refused.append(True)
    assert refused[0] == refused[1]


def test_in_place_forms_keep_the_leaf():
    for change in ("__ifloordiv__", "__imod__", "__ipow__"):
        x, t = Tensor(np.array([3.0, 5.0])), torch.tensor([3.0, 5.0], dtype=torch.float64)
        assert getattr(x, change)(2.0) is x
        np.testing.assert_allclose(x.data, getattr(t, change)(2.0))


CLEAR = {
    "sum": (lambda x: np.sum(x), TypeError, r"np\.sum takes no tensor: .*x\.sum\(\)"),
    "mean": (lambda x: np.mean(x), TypeError, r"np\.mean takes no tensor"),
    "of floats": (lambda x: x & 1, TypeError, r"booleans or whole numbers.*\(x > 0\)"),
    "not a float": (lambda x: ~x, TypeError, "booleans or whole numbers"),
    "zero_": (lambda x: x.zero_(), AttributeError, r"no zero_\(\).*assign a new tensor"),
    "add_": (lambda x: x.add_(1), AttributeError, r"no add_\(\)"),
    "mm": (lambda x: x.mm(x), AttributeError, r"no mm\(\): write x @ y"),
    "numel": (lambda x: x.numel(), AttributeError, r"write x\.size"),
    "gather": (lambda x: x.gather(0, 1), AttributeError, r"a function, gather\(x, …\)"),
    "unknown": (lambda x: x.wobble(), AttributeError, "no 'wobble'"),
    "topk": (lambda x: x.topk(3), ValueError, "axis -1 has 2 elements, got k = 3"),
    "negative k": (lambda x: x.topk(-1), ValueError, "has 2 elements, got k = -1"),
    "tril": (lambda x: x.tril(), ValueError, r"two axes, got shape \(2,\)"),
    "odd": (lambda x: bp.pad(x, (1,)), ValueError, r"at most 1 pairs of widths, got \(1,\)"),
    "many": (lambda x: bp.pad(x, (1, 1, 1, 1)), ValueError, "at most 1 pairs"),
    "cut": (lambda x: bp.pad(x, (-2, -1)), ValueError, "cut away more than shape"),
}


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_not_here_says_what_to_write(name):
    call, kind, words = CLEAR[name]
    with pytest.raises(kind, match=words) as caught:
        call(Tensor([1.0, 2.0]))
    assert "\n" not in str(caught.value)


def test_every_advice_can_be_followed():
    names = {"np": np, "Tensor": Tensor, **{name: getattr(bp, name) for name in bp.__all__}}
    from chainrule.neural_networks.backpropagation.tensor import _INSTEAD

    for name, advice in _INSTEAD.items():
        assert hasattr(torch.tensor([1.0]), name)
        assert not hasattr(Tensor([1.0]), name)
        x = Tensor(np.ones((2, 2)))
        eval(advice.split(",")[0] if advice.startswith("x,") else advice.split(":")[0],
             names | {"x": x, "y": x, "axis": 0, "ids": [0]})  # fmt: skip


def test_numpys_functions_go_on_as_they_did():
    x = Tensor(np.array([[3.0, 1.0], [2.0, 5.0]]))
    assert np.argmax(x) == 3
    assert np.concatenate([x, x]).shape == (4, 2)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2, 2), 2, 4)
    assert np.allclose(x, x.data)


# ---- checkpoints and modules -------------------------------------------------------------------


def test_checkpoints_take_options_by_name(rng):
    arrays = [rng.standard_normal((3, 5)), rng.standard_normal((7, 5)), rng.standard_normal(7)]

    def ours(x, *, weight, scale=1.0, bias=None):
        return bp.linear(x, weight, bias).tanh() * scale

    def theirs(x, *, weight, scale=1.0, bias=None):
        return F.linear(x, weight, bias).tanh() * scale

    mine = [Tensor(a, requires_grad=True) for a in arrays]
    other = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = checkpoint(ours, mine[0], weight=mine[1], bias=mine[2], scale=3.0)
    z = torch.utils.checkpoint.checkpoint(
        theirs, other[0], weight=other[1], bias=other[2], scale=3.0, use_reentrant=False
    )
    weights = rng.standard_normal((3, 7))
    y.backward(weights)
    z.backward(torch.tensor(weights))
    np.testing.assert_allclose(y.data, z.detach())
    for x, t in zip(mine, other, strict=True):
        np.testing.assert_allclose(x.grad, t.grad)
    with pytest.raises(TypeError, match="use_reentrant"):
        checkpoint(ours, mine[0], weight=mine[1], use_reentrant=False)


def hiding(value):
    class Model(Module):
        def __init__(self):
            self.inner = Module()
            self.inner.layers = value

    return Model()


def test_modules_in_plain_lists_and_dictionaries_are_noticed(rng):
    linear = Linear(3, 5, rng=rng)
    for value in ([linear], {"a": linear}, [Parameter(np.ones(2))], [None, linear]):
        model = hiding(value)
        for ask in (model.parameters, model.named_parameters, model.state_dict, model.named_buffers,
                    lambda model=model: model.to(np.float64)):  # fmt: skip
            with pytest.raises(
                TypeError, match=r"inner\.layers is a plain (list|dict).*ModuleList"
            ):
                list(ask() or ())
    model = hiding([])
    assert list(model.parameters()) == []
    model.inner.layers.append(linear)
    with pytest.raises(TypeError, match=r"inner\.layers is a plain list that holds a Linear"):
        list(model.parameters())
    for value in ((linear,), [1.0, "a"], {"a": 3}, [Tensor([1.0])]):
        assert list(hiding(value).parameters()) == []
    assert len(list(hiding(ModuleList([linear])).parameters())) == 2


# ---- whole numbers where floats are meant ------------------------------------------------------

OF_FLOATS = {
    "leaky_relu": lambda x: act._piecewise(x, negative_slope=0.5),
    "elu": act.elu, "softplus": act.softplus, "logsigmoid": act.logsigmoid,
    "gelu": lambda x: act._gated(x, kind="none"), "silu": lambda x: act._gated(x, kind="silu"),
    "gelu tanh": lambda x: act._gated(x, kind="tanh"), "cdf": act._gaussian_cdf,
    "layer_norm": lambda x: reg._layer_norm(None, None, x, d=3, eps=1e-5),
    "rms_norm": lambda x: reg._rms_norm(None, x, d=3, eps=1e-5),
    "batch_norm": lambda x: reg._batch_norm(None, None, x, eps=1e-5),
    "dropout": lambda x: reg._drop(x, kept=np.array([True, False, True]), scale=2.5),
    "log_softmax": loss.log_softmax, "huber": lambda x: loss._huber(x, delta=0.7),
    "softmax": lambda x: retrieval._softmax(x),
    "masked softmax": lambda x: retrieval._softmax(x, allowed=np.array([True, False, True])),
    "bce": lambda x: loss._bce_with_logits(x, np.full((2, 3), 0.5, "f4"), np.array(2.0, "f4")),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("name", OF_FLOATS)
def test_whole_numbers_are_computed_as_float32(name, dtype):
    """NumPy makes float16 of 8-bit numbers and float64 of wide ones, and 3 − 5 = 254 in uint8."""
    x = np.array([[3, 0, 5], [1, 120, 2]]).astype(dtype)
    if dtype in (np.int8, np.int64):
        x = -x
    found, expected = OF_FLOATS[name](Tensor(x)), OF_FLOATS[name](Tensor(x.astype(np.float32)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.data, expected.data)
