"""PyTorch's own samples (OpInfo) for the operations that exist here: values, types, gradients.

`ADAPTERS` says how an operation of PyTorch is called in this package. A sample whose options
have no counterpart here raises `NotApplicable`; everything else must agree. The samples belong
to one version of PyTorch, so under another this file is skipped.
"""

import sys
import types
import unittest
import warnings
from collections import Counter

import numpy as np
import pytest
import torch

from chainrule.neural_networks import activation_functions as act
from chainrule.neural_networks import backpropagation as bp
from chainrule.neural_networks import regularization as reg
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.training import loss_functions as loss
from chainrule.transformers.attention import masked_softmax, scaled_dot_product_attention

PINNED = "2.13"
pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith(PINNED),
    reason=f"the samples are those of PyTorch {PINNED}, installed is {torch.__version__}",
)


class NotApplicable(Exception):
    """This option of PyTorch's operation does not exist here."""


def op_db():
    """OpInfo's list; it is PyTorch's test code, which wants a package that is only for editing."""
    sys.modules.setdefault("expecttest", types.ModuleType("expecttest"))
    sys.modules["expecttest"].TestCase = unittest.TestCase
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal import common_methods_invocations

    return common_methods_invocations.op_db


# ---- how to call what here -------------------------------------------------------------------


def only(options, *names):
    """The named options; any other that is set has no counterpart."""
    other = {k: v for k, v in options.items() if k not in names and v is not None}
    if other:
        raise NotApplicable(", ".join(other))
    return options


def scaled(f):
    """add and sub, with their alpha."""

    def call(x, other, alpha=1, **options):
        only(options)
        return f(x, other if alpha == 1 else other * alpha)

    return call


def divide(x, other, rounding_mode=None):
    only({"rounding_mode": rounding_mode})
    return x / other


def reduced(f, **fixed):
    """Reductions: dim and keepdim, by position or by name."""

    def call(x, dim=None, keepdim=False, dtype=None, **options):
        only({"dtype": dtype, **options})
        if isinstance(dim, tuple | list) and len(dim) == 0:
            raise NotApplicable("dim=() means all axes to PyTorch, and none to NumPy and here")
        return f(x, axis=dim, keepdims=keepdim, **fixed)

    return call


def variance(x, dim=None, unbiased=None, correction=1, keepdim=False):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if isinstance(dim, tuple | list) and len(dim) == 0:
        raise NotApplicable("dim=()")
    if unbiased is not None:
        correction = int(unbiased)
    return x.var(axis=dim, keepdims=keepdim, correction=1 if correction is None else correction)


def extreme(name):
    """torch.max and torch.min: over everything, over an axis (with positions), or of two."""

    def call(x, dim=None, keepdim=False, **options):
        only(options)
        if isinstance(dim, Tensor):
            return {"max": bp.maximum, "min": bp.minimum}[name](x, dim)
        if dim is not None:
            raise NotApplicable("of tied numbers, the first alone gets the gradient")
        return getattr(x, name)()

    return call


def clamp(x, min=None, max=None):
    return x.clamp(min, max)


def expand(x, *shape):
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return x.expand(*sizes)


def squeezed(x, dim=None):
    return x.squeeze(tuple(dim) if isinstance(dim, list) else dim)


def softmax(x, dim, dtype=None, **options):
    only({"dtype": dtype, **options})
    if x.ndim == 0:
        raise NotApplicable("the last axis of a number")
    return masked_softmax(x.transpose(dim, -1)).transpose(dim, -1)


def log_softmax(x, dim, dtype=None, **options):
    only({"dtype": dtype, **options})
    return loss.log_softmax(x, axis=dim)


def vector_norm(x, ord=2, dim=None, keepdim=False, dtype=None):
    only({"dtype": dtype})
    if ord != 2:
        raise NotApplicable(f"ord={ord}")
    return bp.norm(x, axis=dim, keepdims=keepdim)


def prelu(x, weight):
    return act.prelu(x, weight if weight.ndim else weight.reshape(1))


def normalized(f, names):
    def call(x, shape, *args, **options):
        options = dict(zip(names, args, strict=False)) | options
        return f(x, tuple(shape), **{k: v for k, v in options.items() if v is not None})

    return call


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
               eps=1e-5):  # fmt: skip
    if not training or x.ndim < 2:
        raise NotApplicable("evaluation, and a batch without channels, belong to BatchNorm1d")
    return reg.batch_norm(x, weight, bias, eps)


def regression(f):
    def call(x, target, reduction="mean", weight=None, **options):
        only({"weight": weight})
        if x.shape != target.shape:
            raise NotApplicable("shapes that broadcast are refused here")
        return f(x, target, reduction=reduction, **options)

    return call


def cross_entropy(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    if target.dtype.kind == "f":
        raise NotApplicable("distributions as targets")
    if x.ndim > 1:
        x = x.permute(0, *range(2, x.ndim), 1)  # classes are on the last axis here
    weight = None if weight is None else weight.data
    return loss.cross_entropy(
        x, target.data, ignore_index, label_smoothing, weight, reduction=reduction
    )


def binary_cross_entropy(x, target, weight=None, reduction="mean", pos_weight=None):
    only({"weight": weight})
    return loss.bce_with_logits(x, target, pos_weight, reduction)


def kl_div(x, target, reduction="mean", log_target=False):
    if x.shape != target.shape:
        raise NotApplicable("shapes that broadcast are refused here")
    if not log_target and (target.data < 0).any():
        raise NotApplicable("negative probabilities are refused here")
    return loss.kl_div(x, target, reduction, log_target)


def triplet(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, reduction="mean"):
    only({"p": p if p != 2 else None, "swap": swap or None})
    if anchor.dtype.kind != "f":
        raise NotApplicable("distances between whole numbers")
    return loss.triplet(anchor, positive, negative, margin, eps, reduction)


def attention(
    q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    if dropout_p or enable_gqa:
        raise NotApplicable("dropout of weights, and fewer key heads, belong to modules")
    if q.dtype == np.float16:
        raise NotApplicable("composed here, so scores are rounded to 16 bits on the way")
    if is_causal:
        attn_mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    elif attn_mask is not None and attn_mask.dtype == np.bool_:
        attn_mask = attn_mask.data
    return scaled_dot_product_attention(q, k, v, attn_mask, scale)[0]


def split(x, sizes, dim=0):
    return bp.split(x, sizes, dim)


def index_select(x, dim, index):
    taken = x.take(index, axis=dim)
    return taken if x.ndim else taken.reshape(())  # here a take has the shape of its indices


def power(x, other):
    if getattr(x, "dtype", None) == getattr(other, "dtype", None) == np.int64:
        raise NotApplicable("NumPy has no negative powers of whole numbers")
    return x**other


def cast(dtype):
    return lambda x, memory_format=None: x.to(dtype)


def cumsum(x, dim, dtype=None):
    if dtype is not None:
        x = x.to(str(dtype).removeprefix("torch."))
    return x.cumsum(dim)


def prod(x, dim=None, keepdim=False, dtype=None):
    return reduced(bp.Tensor.prod)(x, dim, keepdim, dtype)


def ordered(f):
    """What puts in order; which of equal elements comes first, PyTorch says only if stable."""

    def call(x, *args, stable=False, sorted=True, **options):
        args = args[:3]  # topk's fourth is sorted
        if not stable and np.unique(x.data).size < x.size:
            raise NotApplicable("the order of equal elements")
        if "dim" in options:
            options["axis"] = options.pop("dim")
        return f(x, *args, **options)

    return call


def pad(x, pad, mode="constant", value=None):
    if mode != "constant":
        raise NotApplicable(f"padding that is {mode}")
    return bp.pad(x, pad, value or 0)


def embedding(weight, ids, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False,
              sparse=False):  # fmt: skip
    only({"padding_idx": padding_idx, "max_norm": max_norm, "scale": scale_grad_by_freq or None})
    return weight.take(ids)


def huber(x, target, reduction="mean", delta=1.0):
    return regression(loss.huber)(x, target, reduction=reduction, delta=delta)


ADAPTERS = {
    "add": scaled(lambda a, b: a + b), "sub": scaled(lambda a, b: a - b),
    "rsub": lambda x, other, alpha=1: other - (x if alpha == 1 else x * alpha),
    "mul": lambda x, other: x * other, "div": divide, "true_divide": divide,
    "pow": power, "square": lambda x: x**2, "reciprocal": lambda x: 1 / x,
    "__radd__": lambda x, other: other + x, "__rsub__": lambda x, other: other - x,
    "__rmul__": lambda x, other: other * x, "__rdiv__": lambda x, other: other / x,
    "__rpow__": lambda x, other: power(other, x), "__rmatmul__": lambda x, other: other @ x,
    "maximum": bp.maximum, "minimum": bp.minimum, "where": lambda x, c, o: bp.where(c, x, o),
    "neg": bp.negative, "exp": bp.exp, "log": bp.log, "sqrt": bp.sqrt, "abs": bp.absolute,
    "sin": bp.sin, "cos": bp.cos, "tanh": bp.tanh, "sigmoid": bp.sigmoid,
    "nn.functional.relu": lambda x, inplace=False: bp.relu(x),
    "clamp": clamp, "clamp_min": lambda x, low: x.clamp(low), "masked_fill": bp.masked_fill,
    "clamp_max": lambda x, high: x.clamp(None, high),
    "float": cast(np.float32), "double": cast(np.float64), "half": cast(np.float16),
    "matmul": bp.matmul, "mm": bp.matmul, "bmm": bp.matmul, "mv": bp.matmul, "dot": bp.matmul,
    "nn.functional.linear": bp.linear, "outer": bp.outer,
    "einsum": lambda operands, equation: bp.einsum(equation, *operands),
    "linalg.vector_norm": vector_norm,
    "sum": reduced(bp.Tensor.sum), "mean": reduced(bp.Tensor.mean), "var": variance,
    "amax": reduced(bp.Tensor.max), "amin": reduced(bp.Tensor.min),
    "max": extreme("max"), "min": extreme("min"), "argmax": reduced(bp.argmax),
    "logsumexp": reduced(bp.logsumexp), "cumsum": cumsum,
    "reshape": lambda x, shape: x.reshape(shape), "view": lambda x, *s: x.view(*s),
    "flatten": lambda x, start_dim=0, end_dim=-1: x.flatten(start_dim, end_dim),
    "ravel": lambda x: x.reshape(-1), "permute": lambda x, dims: x.permute(dims),
    "transpose": lambda x, a, b: x.transpose(a, b), "T": lambda x: x.T, "t": lambda x: x.T,
    "squeeze": squeezed, "unsqueeze": lambda x, dim: x.unsqueeze(dim), "expand": expand,
    "broadcast_to": expand, "__getitem__": lambda x, index: x[index],
    "index_select": index_select, "gather": lambda x, dim, index, **o: bp.gather(x, index, dim),
    "cat": lambda tensors, dim=0: bp.concat(tensors, dim),
    "stack": lambda tensors, dim=0: bp.stack(tensors, dim),
    "prod": prod, "sort": ordered(bp.sort), "topk": ordered(bp.topk),
    "argsort": ordered(bp.argsort),
    "flip": lambda x, dims: x.flip(*dims), "tril": bp.tril, "triu": bp.triu,
    "nn.functional.pad": pad, "clone": lambda x, memory_format=None: x.clone(),
    "floor_divide": lambda x, other: x // other, "remainder": lambda x, other: x % other,
    "__rmod__": lambda x, other: other % x, "bitwise_and": lambda x, other: x & other,
    "bitwise_or": lambda x, other: x | other, "bitwise_xor": lambda x, other: x ^ other,
    "bitwise_not": lambda x: ~x, "__rand__": lambda x, other: other & x,
    "__ror__": lambda x, other: other | x, "__rxor__": lambda x, other: other ^ x,
    "split": split, "split_with_sizes": split,
    "chunk": lambda x, chunks, dim=0: bp.chunk(x, chunks, dim), "unbind": lambda x, dim=0: list(
        x if dim == 0 else x.transpose(0, dim)),
    "nn.functional.leaky_relu": lambda x, negative_slope=0.01: act.leaky_relu(x, negative_slope),
    "nn.functional.prelu": prelu, "nn.functional.elu": lambda x, alpha=1.0: act.elu(x, alpha=alpha),
    "nn.functional.gelu": lambda x, approximate="none": act.gelu(x, approximate),
    "nn.functional.silu": lambda x, inplace=False: act.silu(x), "nn.functional.logsigmoid":
    act.logsigmoid, "nn.functional.softplus": lambda x, beta=1, threshold=20: act.softplus(
        x, beta=beta, threshold=threshold),
    "nn.functional.layer_norm": normalized(reg.layer_norm, ("weight", "bias", "eps")),
    "nn.functional.rms_norm": normalized(reg.rms_norm, ("weight", "eps")),
    "nn.functional.batch_norm": batch_norm,
    "softmax": softmax, "log_softmax": log_softmax,
    "nn.functional.mse_loss": regression(loss.mse), "nn.functional.l1_loss": regression(loss.mae),
    "nn.functional.huber_loss": huber, "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.binary_cross_entropy_with_logits": binary_cross_entropy,
    "nn.functional.kl_div": kl_div, "nn.functional.triplet_margin_loss": triplet,
    "nn.functional.scaled_dot_product_attention": attention, "nn.functional.embedding": embedding,
}  # fmt: skip


# ---- comparing -------------------------------------------------------------------------------


def ours(value, leaves):
    """The sample's arguments with this package's tensors in the place of PyTorch's.

    ``leaves`` has the pairs by identity: one tensor may stand in several places.
    """
    if isinstance(value, torch.Tensor):
        if id(value) not in leaves:
            mine = Tensor(value.detach().numpy().copy(), requires_grad=value.requires_grad)
            leaves[id(value)] = mine, value
        return leaves[id(value)][0]
    if isinstance(value, tuple | list):
        return type(value)(ours(part, leaves) for part in value)
    if isinstance(value, dict):
        return {name: ours(part, leaves) for name, part in value.items()}
    return value


def parts(output):
    return list(output) if isinstance(output, tuple | list) else [output]


ROUNDING = {np.dtype("f2"): 2e-2, np.dtype("f4"): 3e-4, np.dtype("f8"): 1e-8}


def close(found, expected, dtype):
    """Equal within the type's rounding; in 16 bits PyTorch overflows where a sum here does not."""
    found, expected = np.asarray(found), np.asarray(expected)
    if dtype == np.float16:
        fits = np.isfinite(found) & np.isfinite(expected)
        found, expected = found[fits], expected[fits]
    rtol = ROUNDING.get(dtype, 0)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol / 2)


def compare(op, sample, dtype, rng):
    """Check one sample; `NotApplicable` if it asks for what does not exist here."""
    leaves = {}
    x, args, kwargs = (ours(v, leaves) for v in (sample.input, sample.args, sample.kwargs))
    for _, theirs in leaves.values():
        theirs.grad = None  # samples share tensors
    found = parts(ADAPTERS[op.name](x, *args, **kwargs))
    expected = parts(op(sample.input, *sample.args, **sample.kwargs))
    assert len(found) == len(expected)
    total_found = total_expected = 0
    for y, z in zip(found, expected, strict=True):
        assert y.shape == tuple(z.shape)
        assert y.dtype == z.detach().numpy().dtype
        close(y.data, z.detach().numpy(), y.dtype)
        if z.requires_grad:
            assert y.requires_grad
            weights = np.asarray(rng.standard_normal(y.shape).astype(y.dtype))
            total_found = total_found + (y * weights).sum()
            total_expected = total_expected + (z * torch.from_numpy(weights)).sum()
    if not isinstance(total_expected, torch.Tensor):
        return
    total_found.backward()
    total_expected.backward()
    for mine, theirs in leaves.values():
        if theirs.requires_grad and theirs.grad is not None:
            gradient = np.zeros(mine.shape) if mine.grad is None else mine.grad
            close(gradient, theirs.grad.numpy(), mine.dtype)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.int64]


def try_samples(name, dtype):
    """Counts of what passed and of what is not applicable and why; and the failures in words."""
    variants = [op for op in op_db() if op.name == name]
    assert variants, f"PyTorch has no samples for {name}"
    rng, passed, left_out, failures = np.random.default_rng(0), 0, Counter(), []
    for op in variants:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        torch.manual_seed(0)
        floating = dtype.is_floating_point and op.supports_autograd
        for i, sample in enumerate(op.sample_inputs("cpu", dtype, requires_grad=floating)):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    compare(op, sample, dtype, rng)
                passed += 1
            except NotApplicable as reason:
                left_out[str(reason)] += 1
            except Exception as error:
                text = " | ".join(f"{type(error).__name__}: {error}".split("\n")[:8])
                failures.append(f"sample {i} of {op.name}: {text} {sample.summary()}")
    return passed, left_out, failures


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ADAPTERS)
def test_samples(name, dtype):
    passed, _, failures = try_samples(name, dtype)
    several = f"{len(failures)} failed, {passed} passed; the first: "
    assert not failures, several + "\n".join(failures[:3])


def test_samples_are_compared_at_all():
    """The wrong operation must fail: otherwise nothing above means anything."""
    ADAPTERS["sin"], kept = ADAPTERS["cos"], ADAPTERS["sin"]
    try:
        passed, _, failures = try_samples("sin", torch.float64)
    finally:
        ADAPTERS["sin"] = kept
    assert failures
    assert not passed
    assert try_samples("sum", torch.float64)[0] > 10


if __name__ == "__main__":  # the totals, by type, and every reason why a sample was left out
    for each in DTYPES:
        results = [try_samples(name, each) for name in ADAPTERS]
        left_out = sum((counts for _, counts, _ in results), Counter())
        passed, failed = sum(r[0] for r in results), sum(len(r[2]) for r in results)
        print(f"{each}: {len(ADAPTERS)} operations, {passed} samples pass, {failed} fail, "
              f"{left_out.total()} not applicable")  # fmt: skip
        for reason, count in left_out.most_common():
            print(f"    {count:4}  {reason}")
