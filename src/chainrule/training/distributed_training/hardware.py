"""What the planner knows: accelerators with their links, and models as a few numbers a block.

Every rate stands with its source. Peaks are what a vendor promises; `Device` also holds what
somebody measured, and the planner computes with that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chainrule.training.distributed_training.world import Link
from chainrule.transformers.transformer_architecture import (
    LLAMA_3_8B,
    TransformerConfig,
    count_params,
)

__all__ = ["A100", "DEEPSEEK_V3", "H100", "H800", "LLAMA_3_405B", "Device", "Sizes", "sizes_of"]

LLAMA_3_405B = replace(LLAMA_3_8B, width=16_384, heads=128, decoder_layers=126, hidden=53_248)


@dataclass(frozen=True)
class Device:
    """An accelerator and its links, each way, in operations and bytes a second.

    ``flops`` is the promised peak in 16 bits, ``products`` and ``products8`` what large products
    reach in 16 and 8 bits, ``scores`` what attention in blocks reaches. ``inside`` connects the
    ``node`` devices of one machine, ``outside`` the machines. While experts' rows travel,
    ``carriers`` is the part of the device that moves them and does not compute.
    """

    name: str
    flops: float
    products: float
    products8: float
    scores: float
    memory: float
    memory_bandwidth: float
    node: int
    inside: Link
    outside: Link
    carriers: float = 0.0


# checked = 2026-11. Peaks, memory: NVIDIA's datasheets of H100 (2023) and A100 80GB (2021), without
# sparsity. Products, the inside link of A100: S. Bekman, Machine Learning Engineering, 2026,
# chapters on accelerators and network. Scores: Shah et al. 2024, arXiv:2407.08608, abstract, for
# FlashAttention-2 on H100; Dao 2023, arXiv:2307.08691, abstract, the lower end for A100. The inside
# link of H100: NVIDIA's developers of NCCL, nccl-tests issue 212, 2024: 370 of 450 GB/s. Latencies:
# Zhao et al. 2025, arXiv:2505.09343, table 5 (A100: assumed to be the same).
H100 = Device(
    "H100 SXM", 989e12, 794.5e12, 1402.6e12, 0.35 * 989e12, 80e9, 3.35e12, 8,
    Link(3.3e-6, 370e9), Link(3.7e-6, 50e9),
)  # fmt: skip
A100 = Device(
    "A100 80GB SXM", 312e12, 271.2e12, 271.2e12, 0.5 * 312e12, 80e9, 2.04e12, 8,
    Link(3.3e-6, 234.9e9), Link(3.7e-6, 25e9),
)  # fmt: skip
# Products of a DeepSeek-V3 block in 8 bits on H800: weights, rate. Source: DeepSeek-AI, DeepGEMM,
# 2025, the table of its first README. Queries' and keys' ways down, up, up; out; experts up, down.
_MEASURED = (
    (7168 * 2112, 1058e12), (1536 * 24_576, 990e12), (512 * 32_768, 590e12),
    (16_384 * 7168, 1358e12), (9 * 7168 * 4096, 1297e12), (9 * 2048 * 7168, 1099e12),
)  # fmt: skip
# The chip of the H100 with slower links: DeepSeek-AI 2024, arXiv:2412.19437, sections 3.2.2, 3.5.1.
H800 = replace(
    H100, name="H800 SXM", inside=Link(3.3e-6, 160e9), carriers=20 / 132,
    products8=sum(w for w, _ in _MEASURED) / sum(w / rate for w, rate in _MEASURED),
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """A model as the planner sees it: numbers for one block and one token, and what is outside.

    ``shared`` are a block's weights that every token uses, ``routed`` those of the experts that one
    token uses, ``stored`` those of all experts; ``again`` are weights whose products the backward
    pass repeats. ``queries`` is the width of a token's queries over all heads. ``kept`` is how many
    numbers wait for the backward pass, ``moved`` how many the operations that are no products read
    and write in the forward pass. ``head`` are the weights that score symbols, ``tables`` those of
    the embedding and the scores as stored. ``cast`` are the bytes that go through memory to bring
    what products read into 8 bits, in all passes.

    A token goes to ``experts`` experts, on at most ``machines`` machines (0: as they fall). A split
    of the matrices divides ``heads``, those of keys and values.
    """

    layers: int
    width: int
    shared: float
    queries: int
    kept: float
    moved: float
    head: float
    tables: float
    routed: float = 0.0
    stored: float = 0.0
    again: float = 0.0
    experts: int = 0
    machines: int = 0
    heads: int = 1
    cast: float = 0.0

    @property
    def parameters(self) -> float:
        """All weights."""
        return self.tables + self.layers * (self.shared + self.stored)

    def flops(self, length: int) -> float:
        """Operations of one token in a forward pass, with all its scores, as models are counted."""
        products = self.layers * (self.shared + self.routed) + self.head
        return 2 * products + 4 * length * self.queries * self.layers


def sizes_of(cfg: TransformerConfig) -> Sizes:
    """Return what the planner needs to know of a decoder.

    Operations that are no products are counted as fused as they usually are: a norm reads and
    writes its row, a sum reads two rows and writes one, the bend reads what it bends and writes the
    result, rotated queries and keys are read and written; rows to experts and back twice each way.
    """
    d, queries, keys = cfg.width, cfg.heads * cfg.head_size, cfg.groups * cfg.head_size
    gated = "glu" in cfg.feed_forward
    used = cfg.experts_per_token + cfg.shared_experts if cfg.experts else 1
    one = (3 if gated else 2) * d * cfg.inner
    tables = cfg.vocab_size * d * (1 if cfg.tied else 2)
    block = (count_params(cfg) - tables) / cfg.decoder_layers
    stored, routed = cfg.experts * one, (cfg.experts_per_token * one if cfg.experts else 0)
    moved = 10 * d + (3 if gated else 2) * used * cfg.inner
    moved += 2 * (queries + keys) if cfg.positions == "rope" else 0
    moved += 4 * cfg.experts_per_token * d if cfg.experts else 0
    kept = 4 * d + 2 * queries + 2 * keys + (3 if gated else 2) * used * cfg.inner
    return Sizes(
        cfg.decoder_layers, d, block - stored, queries, kept + (d if cfg.dropout else 0), moved,
        cfg.vocab_size * d, tables, routed, stored,
        experts=cfg.experts_per_token if cfg.experts else 0, heads=cfg.groups,
    )  # fmt: skip


def _deepseek_v3() -> Sizes:
    """61 blocks, and the one that predicts a second symbol; queries and keys of 192, values of 128.

    To cast: forward, what a product reads is read in 16 bits and written in 8; backward it is laid
    out anew (1 byte read, 1 written), and its output's gradient is read in 16 bits and written
    twice, as two products read it (section 3.3.2).

    Source: DeepSeek-AI 2024, arXiv:2412.19437, sections 2.1, 2.2, 3.2.3 and 4.2. The first three
    blocks have a plain feed-forward layer of the same number of used weights.
    """
    d, heads, key, value, low_q, low_kv = 7168, 128, 192, 128, 1536, 512
    up = low_q * heads * key + low_kv * heads * (128 + value)  # computed again backward
    attention = d * low_q + d * (low_kv + 64) + up + heads * value * d
    expert = 3 * d * 2048
    numbers = 3 * 9 * 2048 + 10 * d + 2 * heads * key + 4 * 8 * d
    read = d + low_q + low_kv + heads * value + 9 * (d + 2048)
    made = low_q + low_kv + 64 + heads * (key + 128 + value) + d + 9 * (2 * 2048 + d)
    return Sizes(
        layers=62, width=d, shared=attention + expert + 256 * d, queries=heads * (key + value) // 2,
        kept=4 * d + low_q + low_kv + 3 * 9 * 2048 + heads * value, moved=numbers,
        head=2 * 129_280 * d + 2 * d * d, tables=2 * 129_280 * d + 2 * d * d,
        routed=8 * expert, stored=(59 * 256 + 3 * 8) / 62 * expert, again=up, experts=8, machines=4,
        heads=heads, cast=5 * read + 4 * made,
    )  # fmt: skip


DEEPSEEK_V3 = _deepseek_v3()
