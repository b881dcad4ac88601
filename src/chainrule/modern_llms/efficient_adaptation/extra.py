"""Parts that are added to a frozen model: bottlenecks, keys and values, rows of input."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from chainrule.neural_networks.activation_functions import gelu
from chainrule.neural_networks.backpropagation import (
    Linear,
    Module,
    Parameter,
    Sequential,
    Tensor,
    concat,
    no_grad,
)
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.gpt import GPT
from chainrule.transformers.multi_head_attention import (
    MultiHeadAttention,
    merge_heads,
    split_heads,
)

__all__ = ["Adapter", "PrefixAttention", "PromptTuning", "add_adapters", "add_prefix", "bitfit"]


class Adapter(Module):
    """A bottleneck that adds: x + up(gelu(down(x))), with ``up`` zero at the start.

    Equation: modern-llms/efficient-adaptation.md#eq-adapter. Source: Houlsby et al. 2019,
    arXiv:1902.00751.

    Raises:
        ValueError: the bottleneck is below 1.
    """

    def __init__(
        self, d: int, bottleneck: int, *, rng: np.random.Generator, dtype: DTypeLike = np.float32
    ) -> None:
        if bottleneck < 1:
            raise ValueError(f"a bottleneck has at least 1 unit, got {bottleneck}")
        self.down = Linear(d, bottleneck, rng=rng, dtype=dtype)
        self.up = Linear(bottleneck, d, rng=rng, dtype=dtype)
        for parameter in self.up.parameters():
            parameter.data[...] = 0

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Return x and what the bottleneck adds."""
        return x + self.up(gelu(self.down(x)))


def add_adapters(model: GPT, bottleneck: int, *, rng: np.random.Generator) -> None:
    """Freeze a model and put an adapter behind the attention and the feed-forward of each block."""
    model.requires_grad_(False)
    for block in model.blocks:
        for part, name in ((block.attention, "out"), (block.feed_forward, "down")):
            last = getattr(part, name)
            adapter = Adapter(last.out_features, bottleneck, rng=rng, dtype=last.weight.dtype)
            setattr(part, name, Sequential(last, adapter))


class PrefixAttention(MultiHeadAttention):
    """Attention in which every query also sees ``n`` trained keys and values.

    ``keys`` and ``values`` have the shape (kv_heads, n, d_head) and no position.
    Equation: modern-llms/efficient-adaptation.md#eq-prefix. Source: Li and Liang 2021,
    arXiv:2101.00190.

    Raises:
        ValueError: the shapes do not fit the attention.
    """

    def __init__(self, attention: MultiHeadAttention, keys: Array, values: Array) -> None:
        wanted = (attention.n_kv_heads, keys.shape[1] if keys.ndim == 3 else 0, attention.d_head)
        if keys.shape != wanted or values.shape != wanted or not wanted[1]:
            raise ValueError(
                f"keys and values are (heads, n, d_head) = ({wanted[0]}, n ≥ 1, {wanted[2]}), got "
                f"{keys.shape} and {values.shape}"
            )
        vars(self).update(vars(attention.requires_grad_(False)))  # its layers, not copies of them
        self.keys, self.values = Parameter(keys.copy()), Parameter(values.copy())

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        context: Float[Tensor, "batch source d_context"] | None = None,
        mask: Bool[Array, "*mask"] | Float[Array, "*mask"] | None = None,
        positions: Int[Array, "*positions"] | None = None,
        values: Float[Tensor, "batch source kv_width"] | None = None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend to the trained rows and to what stands before.

        ``values`` are added to those of the text, not to the trained ones.

        Raises:
            ValueError: a context or a mask is given.
        """
        if context is not None or mask is not None:
            raise ValueError("a prefix stands before the text itself: give no context and no mask")
        q, k, v = self.project(x, None, positions)
        if values is not None:
            v = v + split_heads(values, self.n_kv_heads)
        k, v = (
            concat([added.unsqueeze(0).expand(len(x), -1, -1, -1), own], axis=-2)
            for added, own in ((self.keys, k), (self.values, v))
        )
        return self.out(merge_heads(self.attend(q, k, v)))


def add_prefix(model: GPT, ids: Int[Array, "n"]) -> None:
    """Freeze a model and give each block trained keys and values, at first those of a text."""
    with no_grad():
        states = model.hidden_states(ids[None])[:-1]
        rows = [
            block.attention.project(block.attention_norm(x))
            for block, x in zip(model.blocks, states, strict=True)
        ]
    model.requires_grad_(False)
    for block, (_, k, v) in zip(model.blocks, rows, strict=True):
        block.attention = PrefixAttention(block.attention, k.data[0], v.data[0])


class PromptTuning(Module):
    """A frozen GPT that reads ``n`` trained rows before every text.

    ``rows`` (n, width) take the place of token vectors, and the first n positions of the context.
    Equation: modern-llms/efficient-adaptation.md#eq-prompt. Source: Lester et al. 2021,
    arXiv:2104.08691.

    Raises:
        ValueError: the rows do not fit the model.
    """

    def __init__(self, model: GPT, rows: Array) -> None:
        config = model.config
        fits = rows.ndim == 2 and rows.shape[1] == config.width
        if not fits or not 1 <= len(rows) < config.context:
            raise ValueError(
                f"rows are (n, {config.width}) with 1 ≤ n < {config.context}, got {rows.shape}"
            )
        self.model = model.requires_grad_(False)
        self.rows = Parameter(rows.astype(config.dtype))

    def forward(self, ids: Int[Array, "batch time"]) -> Float[Tensor, "batch time vocab"]:
        """Return the scores at the places of the text, not at those of the rows.

        Raises:
            ValueError: rows and text together exceed the context.
        """
        model, n = self.model, len(self.rows)
        if n + ids.shape[1] > model.config.context:
            raise ValueError(
                f"{n} rows and {ids.shape[1]} tokens exceed the context of {model.config.context}"
            )
        assert model.tokens is not None
        before = self.rows.unsqueeze(0).expand(len(ids), -1, -1)
        x = concat([before, model.tokens(ids)], axis=1)
        if model.positions is not None:
            x = model.positions(x)
        for block in model.blocks:
            x = block(x)
        return model.predict(x[:, n:])

    def loss(
        self, ids: Int[Array, "batch time"], targets: Int[Array, "batch time"]
    ) -> Float[Tensor, ""]:
        """Return the mean −log p of each target; the rows predict nothing."""
        return cross_entropy(self(ids), targets)


def bitfit(model: Module) -> Any:
    """Freeze all but the vectors, which are biases and the gains of norms; return the model.

    Source: Ben Zaken et al. 2021, arXiv:2106.10199 (biases only).
    """
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    return model
