"""Before the first step on a device: does it compute what the NumPy engine computes?

Some devices are wrong without an error: an operation on memory that is not contiguous, for one
driver, at one size. Here every operation that a model uses is computed on the device and by the
course's engine, forward and backward, with random numbers and random upstream gradients, at the
model's own width of a head. The first that disagrees is named, and nothing is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from chainrule.neural_networks import activation_functions as bends
from chainrule.neural_networks import backpropagation as engine
from chainrule.neural_networks import regularization
from chainrule.pytorch import gpt as twin
from chainrule.shapes import Array
from chainrule.training import optimizers
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers import attention, self_attention
from chainrule.transformers import gpt as course
from chainrule.transformers.multi_head_attention import repeat_heads
from chainrule.transformers.transformer_architecture import FeedForward, MoE, TransformerConfig

__all__ = ["Disagreement", "Report", "check_device", "compare"]

TOLERANCES = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 6e-2}
"""How far a result may lie from the engine's, as a part of its largest number."""

BATCH, TIME, VOCAB = 3, 37, 131


class Disagreement(RuntimeError):
    """A device computes something else than the NumPy engine; the message names the operation."""


@dataclass(frozen=True)
class Report:
    """What was compared, how far the worst result lay, and how long it took."""

    operations: tuple[str, ...]
    worst: float
    seconds: float


Compute = Callable[..., Any]


@dataclass(frozen=True)
class Operation:
    """One operation: the course's version, PyTorch's, and the arrays that both are given."""

    name: str
    ours: Compute
    theirs: Compute
    arrays: tuple[Array, ...]


def check_device(
    config: TransformerConfig,
    device: torch.device | str = "cpu",
    fused: bool = True,
    fused_adamw: bool = True,
    bf16: bool = False,
) -> Report:
    """Compare the device with the NumPy engine on all that a GPT of this configuration uses.

    Sizes are cut to a few layers and heads, so that it takes seconds; the size of a head is kept.

    Raises:
        Disagreement: an operation lies further away than rounding explains, or is not finite.
    """
    start, device = time.perf_counter(), torch.device(device)
    small = _small(config)
    narrow = torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()
    tolerance = TOLERANCES["bfloat16" if bf16 else config.dtype]
    found: dict[str, float] = {}
    for each in _operations(small, device, fused):
        if bf16 and each.name == "mixture of experts":
            continue  # with fewer digits a token may choose another expert
        found[each.name] = compare(each, device, narrow, tolerance)
    found["AdamW"] = _adamw(small, device, fused_adamw)
    found["clip_grad_norm_"] = _clip(small, device)
    if not (bf16 and config.experts):
        found["the whole model"] = _model(small, device, fused, narrow, tolerance)
    return Report(tuple(found), max(found.values()), time.perf_counter() - start)


def _small(config: TransformerConfig) -> TransformerConfig:
    """The same kinds of parts and the same size of a head, few of each."""
    heads = 4 if config.groups < config.heads else 2
    kv_heads = 2 if config.groups < config.heads else heads
    width = heads * config.head_size
    layers = [(config.window_of(i), *config.rope_of(i)) for i in range(config.decoder_layers)]
    kinds = [kind for i, kind in enumerate(layers) if kind not in layers[:i]][:3]
    windows, bases, scalings = zip(*kinds, strict=True)
    return replace(
        config, vocab_size=VOCAB, width=width, heads=heads, kv_heads=kv_heads,
        d_head=config.head_size, decoder_layers=max(2, len(kinds)), hidden=2 * width, context=TIME,
        window=tuple(None if w is None else min(w, 11) for w in windows), rope_base=bases,
        rope_scaling=scalings, dropout=0.0, experts=min(config.experts, 5),
        experts_per_token=min(config.experts_per_token, max(1, min(config.experts, 5))),
        shared_experts=min(config.shared_experts, 1),
    )  # fmt: skip


def _operations(cfg: TransformerConfig, device: torch.device, fused: bool) -> Iterator[Operation]:
    """Every operation that the configuration uses, the simplest first."""
    rng = np.random.default_rng(0)
    d, h, dtype = cfg.width, cfg.head_size, np.dtype(cfg.dtype)

    def numbers(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    ids, x = rng.integers(0, VOCAB, (BATCH, TIME)), numbers(BATCH, TIME, d)
    there = torch.from_numpy(ids).to(device)
    yield Operation(
        "embedding", lambda w: engine.take(w, ids), lambda w: F.embedding(there, w),
        (numbers(VOCAB, d),),
    )  # fmt: skip
    yield Operation("linear", engine.linear, F.linear, (x, numbers(cfg.inner, d)))
    yield Operation(  # a weight that is a transposed view, as memory that is not contiguous
        "linear, transposed", lambda x, w: engine.linear(x, w.T), lambda x, w: F.linear(x, w.T),
        (x, numbers(d, cfg.inner)),
    )  # fmt: skip
    yield _norm(cfg, x, numbers)
    kind = cfg.feed_forward
    name, bend = _BENDS[kind]
    yield Operation(name, bend, twin.GATED.get(kind) or twin.PLAIN[kind], (x,))
    yield Operation(
        "softmax", attention.masked_softmax, lambda x: torch.softmax(x, -1), (numbers(7, TIME),)
    )
    q, k, v = (numbers(BATCH, n, TIME, h) for n in (cfg.heads, cfg.groups, cfg.groups))
    for i in range(cfg.decoder_layers):
        yield from _attention(cfg, i, twin.MultiHeadAttention(cfg, i, fused).to(device), (q, k, v))
    targets = rng.integers(0, VOCAB, BATCH * TIME)
    aims = torch.from_numpy(targets).to(device)
    yield Operation(
        "cross_entropy", lambda z: cross_entropy(z, targets), lambda z: F.cross_entropy(z, aims),
        (3 * numbers(BATCH * TIME, VOCAB),),
    )  # fmt: skip
    yield _feed_forward(cfg, device, x, rng)


def _norm(cfg: TransformerConfig, x: Array, numbers: Callable[..., Array]) -> Operation:
    """The norm of the configuration, with gains of random numbers."""
    d = cfg.width
    if cfg.norm == "rms":
        return Operation(
            "rms_norm", lambda x, w: regularization.rms_norm(x, d, w, cfg.eps),
            lambda x, w: F.rms_norm(x, (d,), w, cfg.eps), (x, numbers(d)),
        )  # fmt: skip
    return Operation(
        "layer_norm", lambda x, w, b: regularization.layer_norm(x, d, w, b, cfg.eps),
        lambda x, w, b: F.layer_norm(x, (d,), w, b, cfg.eps), (x, numbers(d), numbers(d)),
    )  # fmt: skip


def _attention(
    cfg: TransformerConfig, i: int, layer: twin.MultiHeadAttention, arrays: tuple[Array, ...]
) -> Iterator[Operation]:
    """Rotation and attention of one layer."""
    base, scaling = cfg.rope_of(i)
    if base is not None:
        scaling = None if scaling is None else dict(scaling)
        yield Operation(
            "rope",
            lambda q: self_attention.rope(q, np.arange(TIME), base, scaling=scaling),
            lambda q: twin.rope(q, layer.cos[:TIME], layer.sin[:TIME]), arrays[:1],
        )  # fmt: skip

    def attend(q: Any, k: Any, v: Any) -> Any:
        window, times = cfg.window_of(i), cfg.heads // cfg.groups
        mask = self_attention.sliding_window_mask(TIME, TIME if window is None else window)
        k, v = repeat_heads(k, times), repeat_heads(v, times)
        return attention.scaled_dot_product_attention(q, k, v, mask)[0]

    name = "scaled_dot_product_attention" if layer.fused else "attention_composed"
    yield Operation(name, attend, layer.attend, arrays)


def _feed_forward(
    cfg: TransformerConfig, device: torch.device, x: Array, rng: np.random.Generator
) -> Operation:
    """The feed-forward layer or the mixture of experts as a whole."""
    ours: Any
    theirs: Any
    if cfg.experts:
        name = "mixture of experts"
        ours = MoE(cfg.width, cfg.inner, cfg.experts, cfg.experts_per_token, cfg.shared_experts,
                   cfg.balance, cfg.feed_forward, rng=rng, dtype=cfg.dtype)  # fmt: skip
        theirs = twin.MoE(cfg)
    else:
        name, dtype = "feed-forward layer", getattr(torch, cfg.dtype)
        sizes = cfg.width, cfg.inner, cfg.feed_forward, cfg.bias
        ours = FeedForward(*sizes, rng=rng, dtype=cfg.dtype)
        theirs = twin.FeedForward(*sizes, dtype)
    theirs.load_state_dict(twin.to_torch(ours.state_dict()))
    return Operation(name, ours, theirs.to(device), (x,))


_BENDS: dict[str, tuple[str, Compute]] = {
    "relu": ("relu", engine.relu),
    "relu2": ("relu squared", bends.relu_squared),
    "gelu": ("gelu", bends.gelu),
    "gelu_tanh": ("gelu", lambda x: bends.gelu(x, approximate="tanh")),
    "swiglu": ("silu", bends.silu),
    "geglu_tanh": ("gelu", lambda x: bends.gelu(x, approximate="tanh")),
}


def compare(
    operation: Operation,
    device: torch.device,
    narrow: AbstractContextManager[Any],
    tolerance: float,
) -> float:
    """Compute both versions, forward and backward; how far they lie apart.

    Raises:
        Disagreement: further than the tolerance.
    """
    ours = [engine.Tensor(array, requires_grad=True) for array in operation.arrays]
    theirs = [torch.tensor(array, device=device, requires_grad=True) for array in operation.arrays]
    expected = operation.ours(*ours)
    upstream = np.random.default_rng(1).standard_normal(expected.shape).astype(expected.dtype)
    with narrow:
        received = operation.theirs(*theirs)
    expected.backward(upstream)
    received.backward(torch.tensor(upstream, device=device, dtype=received.dtype))
    pairs = [("forward", expected.data, received)]
    pairs += [
        (f"gradient of input {i}", a.grad, b.grad)
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
    ]
    return max(_apart(operation.name, device, tolerance, *pair) for pair in pairs)


def _apart(
    name: str,
    device: torch.device,
    tolerance: float,
    what: str,
    expected: Array,
    received: torch.Tensor | None,
) -> float:
    if received is None:
        raise Disagreement(f"{name} on {device}: {what} is missing")
    found = received.detach().to("cpu").double().numpy()
    expected = np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise Disagreement(
            f"{name} on {device}: {what} has shape {found.shape}, the NumPy engine's "
            f"{expected.shape}"
        )
    size = max(float(np.abs(expected).max(initial=0)), 1e-30)
    off = float(np.abs(found - expected).max(initial=0)) / size
    if not off <= tolerance:
        raise Disagreement(
            f"{name} on {device} disagrees with the NumPy engine: {what} is off by {off:.2g} of "
            f"its largest number, rounding explains {tolerance:.0e}; nothing was trained"
        )
    return off


def _adamw(cfg: TransformerConfig, device: torch.device, fused: bool) -> float:
    """Three steps of AdamW, on a matrix as it comes and on one whose memory is transposed."""
    rng, dtype = np.random.default_rng(2), np.dtype(cfg.dtype)
    arrays = [rng.standard_normal((13, 7)).astype(dtype) for _ in range(2)]
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    ours = [engine.Parameter(array.copy()) for array in arrays]
    plain, other = (torch.tensor(array, device=device) for array in arrays)
    turned = other.T.contiguous().T
    theirs = [torch.nn.Parameter(plain), torch.nn.Parameter(turned)]
    mine = optimizers.AdamW(ours, **settings)  # type: ignore[arg-type]
    yours = torch.optim.AdamW(theirs, fused=fused, **settings)  # type: ignore[arg-type]
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = rng.standard_normal(a.shape).astype(dtype)
            # by a backward pass, so that it lies in memory as PyTorch itself would lay it
            (b * torch.tensor(a.grad, device=device)).sum().backward()
        mine.step()
        yours.step()
        mine.zero_grad()
        yours.zero_grad()
    name = "AdamW(fused=True)" if fused else "AdamW"
    places = ("a matrix", "a matrix that is not contiguous")
    return max(
        _apart(name, device, TOLERANCES[cfg.dtype], place, a.data, b)
        for place, a, b in zip(places, ours, theirs, strict=True)
    )


def _clip(cfg: TransformerConfig, device: torch.device) -> float:
    """Gradients scaled down to a norm of 1."""
    rng, dtype = np.random.default_rng(3), np.dtype(cfg.dtype)
    ours = [engine.Parameter(np.zeros(shape, dtype)) for shape in ((11, 5), (7,))]
    theirs = [torch.nn.Parameter(torch.tensor(p.data, device=device)) for p in ours]
    for a, b in zip(ours, theirs, strict=True):
        a.grad = rng.standard_normal(a.shape).astype(dtype)
        b.grad = torch.tensor(a.grad, device=device)
    optimizers.clip_grad_norm_(ours, 1.0)
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    return max(
        _apart("clip_grad_norm_", device, TOLERANCES[cfg.dtype], "a gradient", a.grad, b.grad)
        for a, b in zip(ours, theirs, strict=True)
        if a.grad is not None
    )


def _model(
    cfg: TransformerConfig,
    device: torch.device,
    fused: bool,
    narrow: AbstractContextManager[Any],
    tolerance: float,
) -> float:
    """Logits, loss and every gradient of a small model of the same parts."""
    rng = np.random.default_rng(4)
    ours = course.GPT(cfg, rng)
    theirs = twin.twin(ours, fused).to(device)
    ids, targets = rng.integers(0, VOCAB, (2, BATCH, TIME))
    here = [torch.from_numpy(array).to(device) for array in (ids, targets)]
    loss = ours.loss(ids, targets)
    loss.backward()
    with narrow:
        logits, their_loss = theirs(here[0]), theirs.loss(*here)
    their_loss.backward()
    pairs: list[tuple[str, Array, torch.Tensor | None]] = [
        ("logits", ours(ids).data, logits),
        ("loss", loss.data, their_loss),
    ]
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    pairs += [
        (f"the gradient of {name}", p.grad, gradients[name])
        for name, p in ours.named_parameters()
        if p.grad is not None
    ]
    return max(_apart("the whole model", device, tolerance, *pair) for pair in pairs)


def same(name: str, pairs: Sequence[tuple[str, torch.Tensor, torch.Tensor]], bf16: bool) -> None:
    """Refuse two results on one device that should be equal up to rounding.

    Raises:
        Disagreement: they are not.
    """
    for what, expected, received in pairs:
        tolerance = TOLERANCES["bfloat16" if bf16 else "float32"]
        _apart(name, expected.device, tolerance, what,
               expected.detach().cpu().double().numpy(), received)  # fmt: skip
