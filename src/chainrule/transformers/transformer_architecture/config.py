"""`TransformerConfig`: everything that decides the shape of a transformer, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chainrule.transformers.transformer_architecture.feed_forward import KINDS

__all__ = ["TransformerConfig"]

Setting = TypeVar("Setting")
Scaling = Mapping[str, Any] | None

_CHOICES = {
    "feed_forward": KINDS,
    "norm": ("layer", "rms"),
    "norm_place": ("pre", "post", "sandwich", "none"),
    "positions": ("learned", "sinusoidal", "rope", "none"),
    "balance": ("loss", "bias", "none"),
}


@dataclass(frozen=True)
class TransformerConfig:
    """Everything that decides the shape of a transformer.

    Sizes: ``vocab_size`` 0 leaves embeddings and the output layer out: vectors in, vectors out.
    ``d_head`` is width / heads, ``kv_heads`` is heads, and ``hidden``, the width inside the
    feed-forward layer, is 4 · width unless given. ``experts`` above 0 makes every feed-forward
    layer a mixture (`MoE`).

    Choices: ``feed_forward`` is relu, relu2, gelu, gelu_tanh, swiglu or geglu_tanh; ``norm``
    layer or rms; ``norm_place`` pre (normalize what a branch reads), post (normalize the sum),
    sandwich (normalize what a branch reads and what it adds) or none; ``positions`` learned,
    sinusoidal, rope or none. ``parallel`` lets attention and feed-forward layer read the same
    normalized row. ``scaled`` multiplies token vectors by √width. ``tied`` scores with the
    embedding's own table. ``logit_cap`` c replaces each score z by c · tanh(z / c). ``sink``
    gives every head a trained score of looking nowhere. ``value_embeddings`` gives every block a
    table of values, ``x0_residual`` a share of the first state; both are for a decoder alone.
    ``zero_init`` lets every branch of a GPT begin with 0.

    By layer: ``window``, ``rope_base`` and ``rope_scaling`` hold one setting, or a tuple that is
    repeated over the layers of a stack. A window of w lets a query see itself and w − 1 keys
    before it (in an encoder also after it). A base of None leaves a layer without rotation.

    Raises:
        ValueError: a choice that is not offered, or sizes that do not fit each other.
    """

    vocab_size: int = 0
    width: int = 512
    heads: int = 8
    kv_heads: int | None = None
    d_head: int | None = None
    encoder_layers: int = 0
    decoder_layers: int = 6
    hidden: int | None = None
    feed_forward: str = "gelu"
    norm: str = "layer"
    norm_place: str = "pre"
    parallel: bool = False
    final_norm: bool = True
    eps: float = 1e-5
    bias: bool = True
    qk_norm: bool = False
    positions: str = "learned"
    context: int = 1024
    rope_base: float | tuple[float | None, ...] | None = 10_000.0
    rope_scaling: Scaling | tuple[Scaling, ...] = field(default=None, hash=False)
    window: int | tuple[int | None, ...] | None = None
    scaled: bool = False
    tied: bool = True
    logit_cap: float | None = None
    sink: bool = False
    value_embeddings: bool = False
    x0_residual: bool = False
    zero_init: bool = False
    dropout: float = 0.0
    experts: int = 0
    experts_per_token: int = 2
    shared_experts: int = 0
    balance: str = "loss"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, offered in _CHOICES.items():
            if getattr(self, name) not in offered:
                raise ValueError(f"{name} is one of {offered}, not {getattr(self, name)!r}")
        for name in ("width", "heads", "groups", "head_size", "inner"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.d_head is None and self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.heads % self.groups:
            raise ValueError(f"{self.heads} heads do not divide into {self.groups} groups")
        if self.experts and not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(
                f"each token uses 1 to {self.experts} experts, not {self.experts_per_token}"
            )
        if self.parallel and (self.norm_place != "pre" or self.encoder_layers):
            raise ValueError("parallel branches need norm_place='pre' and no encoder")
        if self.encoder_layers and (self.value_embeddings or self.x0_residual):
            raise ValueError("value_embeddings and x0_residual are for a decoder alone")
        if self.value_embeddings and not self.vocab_size:
            raise ValueError("value_embeddings need a vocabulary, got vocab_size=0")

    @property
    def inner(self) -> int:
        """Width inside the feed-forward layer."""
        return 4 * self.width if self.hidden is None else self.hidden

    @property
    def head_size(self) -> int:
        """Size of one head."""
        return self.width // self.heads if self.d_head is None else self.d_head

    @property
    def groups(self) -> int:
        """How many key-value heads there are."""
        return self.heads if self.kv_heads is None else self.kv_heads

    def window_of(self, layer: int) -> int | None:
        """The window of a layer, counted from 0 in its stack; None sees everything."""
        return _of_layer(self.window, layer)

    def rope_of(self, layer: int) -> tuple[float | None, Scaling]:
        """The rotary base of a layer and its scaling; a base of None does not rotate."""
        if self.positions != "rope":
            return None, None
        return _of_layer(self.rope_base, layer), _of_layer(self.rope_scaling, layer)


def _of_layer(setting: Setting | tuple[Setting, ...], layer: int) -> Setting:
    if isinstance(setting, tuple | list):
        return setting[layer % len(setting)]
    return setting
