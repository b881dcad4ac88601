"""A device that computes something else is refused, with the name of the operation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from chainrule.pytorch import gpt as twin_module
from chainrule.pytorch.parity import Disagreement, check_device
from chainrule.transformers.gpt import gpt_config
from chainrule.transformers.transformer_architecture import GEMMA_3_1B, GPT2_SMALL

TINY = gpt_config(vocab_size=23, context=64, layers=2, heads=2, width=32)
LLAMA = replace(
    TINY, norm="rms", feed_forward="swiglu", positions="rope", bias=False, kv_heads=1, tied=False
)
MIXTURE = replace(LLAMA, experts=8)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (GPT2_SMALL, {}),
        (GPT2_SMALL, {"fused": False, "fused_adamw": False}),
        (GPT2_SMALL, {"bf16": True}),
        (LLAMA, {}),
        (MIXTURE, {}),
        (replace(TINY, dtype="float64"), {}),
        (GEMMA_3_1B, {}),
    ],
)
def test_this_processor_agrees(config, options):
    report = check_device(config, "cpu", **options)
    assert {"linear", "AdamW", "the whole model"} <= set(report.operations)
    assert 0 < report.worst < 0.06


def wrong(function):
    """One in a thousand too large: what nobody sees in a loss curve."""
    return lambda *inputs, **options: 1.001 * function(*inputs, **options)


@pytest.mark.parametrize(
    ("config", "operation", "named"),
    [
        (TINY, "gelu", "gelu"),
        (TINY, "layer_norm", "layer_norm"),
        (TINY, "linear", "linear"),
        (TINY, "embedding", "embedding"),
        (TINY, "scaled_dot_product_attention", "scaled_dot_product_attention"),
        (TINY, "cross_entropy", "cross_entropy"),
        (LLAMA, "silu", "silu"),
        (LLAMA, "rms_norm", "rms_norm"),
    ],
)
def test_a_broken_operation_is_refused_by_name(config, operation, named, monkeypatch):
    monkeypatch.setattr(F, operation, wrong(getattr(F, operation)))
    with pytest.raises(Disagreement, match=f"^{named} on cpu disagrees with the NumPy engine"):
        check_device(config)


class OnlyBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream.roll(1, -1)


@pytest.mark.parametrize("operation", ["gelu", "layer_norm"])
def test_a_broken_gradient_is_refused(operation, monkeypatch):
    right = getattr(F, operation)
    broken = lambda x, *rest, **options: right(OnlyBackward.apply(x), *rest, **options)  # noqa: E731
    monkeypatch.setattr(F, operation, broken)
    with pytest.raises(Disagreement, match=f"^{operation} on cpu .*: gradient of input 0 is off"):
        check_device(TINY)


def test_attention_that_looks_ahead_is_refused(monkeypatch):
    right = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, **options: right(q, k, v)
    )
    with pytest.raises(Disagreement, match=r"^scaled_dot_product_attention .*: forward is off"):
        check_device(TINY)


def test_an_optimizer_that_writes_beside_a_matrix_is_refused(monkeypatch):
    """Updates that never reach memory which is not contiguous: a fault that one device had."""
    step = torch.optim.AdamW.step

    def lost(optimizer, *rest):
        kept = [
            (p, p.detach().clone())
            for group in optimizer.param_groups
            for p in group["params"]
            if not p.is_contiguous()
        ]
        step(optimizer, *rest)
        for parameter, before in kept:
            parameter.data.copy_(before)

    monkeypatch.setattr(torch.optim.AdamW, "step", lost)
    with pytest.raises(Disagreement, match=r"^AdamW\(fused=True\) .* a matrix that is not contig"):
        check_device(TINY)


def test_a_fault_of_the_model_alone_is_refused(monkeypatch):
    """Every operation is right, and the model puts them together wrongly."""
    monkeypatch.setattr(twin_module.GPT, "predict", lambda self, x: F.linear(x, self.tokens.weight))
    with pytest.raises(Disagreement, match=r"^the whole model on cpu .*: logits is off"):
        check_device(TINY)


def test_what_is_not_a_number_is_refused(monkeypatch):
    right = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, **options: right(x, **options) + float("nan"))
    with pytest.raises(Disagreement, match=r"^gelu on cpu .* is off by nan"):
        check_device(TINY)
