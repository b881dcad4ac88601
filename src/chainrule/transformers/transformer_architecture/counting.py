"""Parameters and operations of a transformer, counted from its configuration alone."""

from __future__ import annotations

from chainrule.transformers.transformer_architecture.config import TransformerConfig
from chainrule.transformers.transformer_architecture.feed_forward import is_gated

__all__ = ["count_flops", "count_params", "parameter_table"]


def parameter_table(cfg: TransformerConfig, active: bool = False) -> dict[str, int]:
    """Return the number of parameters of each kind of component, for the whole model.

    ``active`` counts, of a mixture of experts, only those that one token uses.
    Equation: transformers/transformer-architecture.md#eq-block-count
    """
    d, layers, crossing = cfg.width, *_layers(cfg)
    biases = int(cfg.bias)

    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    attention = d * (queries + 2 * keys) + queries * d + biases * (queries + 2 * keys + d)
    attention += 2 * cfg.head_size * int(cfg.qk_norm)
    own_attention = attention + cfg.heads * int(cfg.sink)  # that across has no sink

    matrices = 3 if is_gated(cfg.feed_forward) else 2
    one = matrices * d * cfg.inner
    if cfg.experts:
        own = cfg.experts_per_token if active else cfg.experts
        feed_forward = (own + cfg.shared_experts) * one + cfg.experts * d
    else:
        feed_forward = one + biases * ((matrices - 1) * cfg.inner + d)

    norm = d * (1 + (biases if cfg.norm == "layer" else 0))
    each = {"none": 0, "sandwich": 2}.get(cfg.norm_place, 1)
    norms = each * ((1 if cfg.parallel else 2) * layers + crossing)
    if cfg.final_norm and cfg.norm_place != "none":
        norms += 1 + int(cfg.encoder_layers > 0)
    learned = cfg.positions == "learned" and cfg.vocab_size > 0
    table = {
        "token embedding": cfg.vocab_size * d,
        "position embedding": cfg.context * d if learned else 0,
        "attention": layers * own_attention + crossing * attention,
        "feed-forward": layers * feed_forward,
        "norm": norms * norm,
        "output": 0 if cfg.tied else cfg.vocab_size * d,
    }
    if cfg.value_embeddings:
        table["value embedding"] = layers * cfg.vocab_size * keys
    if cfg.x0_residual:
        table["first state"] = layers
    return table


def count_params(cfg: TransformerConfig, active: bool = False) -> int:
    """Return the number of trained numbers in a model of this configuration.

    ``active`` counts, of a mixture of experts, only those that one token uses.
    Equation: transformers/transformer-architecture.md#eq-parameter-count
    """
    return sum(parameter_table(cfg, active).values())


def count_flops(cfg: TransformerConfig, n: int) -> int:
    """Return the floating-point operations of matrix products in one forward pass of n tokens.

    Two for each weight of a product and token, and 4 · keys · width of a head more for each
    query's scores and retrieval, head and layer; with an encoder, n source tokens too. There are
    n keys, or as many as a layer's window holds. Scores that a causal mask throws away count, and
    so do the scores of all n tokens for every symbol. A mixture counts the experts a token uses.
    Equation: transformers/transformer-architecture.md#eq-flops

    Raises:
        ValueError: a negative number of tokens.
    """
    if n < 0:
        raise ValueError(f"count_flops: n counts tokens, got {n}")
    d, layers, crossing = cfg.width, *_layers(cfg)
    queries, keys = cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    projections = (layers + crossing) * d * (2 * queries + 2 * keys)
    matrices = 3 if is_gated(cfg.feed_forward) else 2
    used = cfg.experts_per_token + cfg.shared_experts if cfg.experts else 1
    feed_forward = layers * (used * matrices * d * cfg.inner + cfg.experts * d)
    weights = projections + feed_forward + cfg.vocab_size * d
    seen = crossing * n
    for stack in (cfg.encoder_layers, cfg.decoder_layers):
        for layer in range(stack):
            window = cfg.window_of(layer)
            seen += n if window is None else min(n, window)
    return 2 * n * weights + 4 * n * seen * queries


def _layers(cfg: TransformerConfig) -> tuple[int, int]:
    """How many blocks there are, and how many of them look at an encoder."""
    return (
        cfg.encoder_layers + cfg.decoder_layers,
        cfg.decoder_layers if cfg.encoder_layers else 0,
    )
