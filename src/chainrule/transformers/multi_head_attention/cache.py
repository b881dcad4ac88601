"""What one token costs in memory while a text is being written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheConfig:
    """What decides the size of a cache: heads and sizes, or, for latent attention, its rank.

    ``n_kv_heads`` heads of ``d_head`` numbers, or ``kv_rank`` and ``rope_dim`` numbers; bytes an
    ``element``: 2 in bf16 and fp16.

    Raises:
        ValueError: neither layout is given, or both, or a size is negative.
    """

    n_layers: int
    n_kv_heads: int = 0
    d_head: int = 0
    kv_rank: int = 0
    rope_dim: int = 0
    element: int = 2

    def __post_init__(self) -> None:
        sizes = (self.n_layers, self.n_kv_heads, self.d_head, self.kv_rank, self.rope_dim)
        if min(sizes) < 0 or self.n_layers < 1 or self.element < 1:
            raise ValueError(f"layers and bytes are at least 1, sizes at least 0; got {self}")
        heads = bool(self.n_kv_heads and self.d_head)
        if heads == bool(self.kv_rank) or (heads and self.rope_dim):
            raise ValueError(
                f"give n_kv_heads with d_head, or kv_rank and perhaps rope_dim; got {self}"
            )


def kv_bytes_per_token(cfg: CacheConfig) -> int:
    """Return how many bytes one token adds to the cache of keys and values.

    Two vectors a key-value head and layer, or one latent vector and one rotated key a layer.
    Equation: transformers/multi-head-attention.md#eq-cache-bytes
    """
    if cfg.kv_rank:
        return cfg.n_layers * (cfg.kv_rank + cfg.rope_dim) * cfg.element
    return cfg.n_layers * 2 * cfg.n_kv_heads * cfg.d_head * cfg.element
