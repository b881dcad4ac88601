"""Efficient adaptation: few trained numbers beside a model that stays as it is.

Taught in ``modern-llms/efficient-adaptation.md``.

- ``lora``: the low-rank update beside a `Linear`, with DoRA, PiSSA and many updates at once;
- ``switches``: putting updates into a model, merging them, turning them off, counting;
- ``extra``: bottleneck adapters, trained keys and values, trained rows of input, and biases;
- ``nf4``: weights in 4 bits at the quantiles of a Gaussian, and an update beside them;
- ``ledger``: the bytes that training keeps, method by method.

Shape names: ``d_in`` and ``d_out`` features in and out, ``r`` rank, ``heads``, ``n`` rows added.
"""

from chainrule.modern_llms.efficient_adaptation.extra import (
    Adapter,
    PrefixAttention,
    PromptTuning,
    add_adapters,
    add_prefix,
    bitfit,
)
from chainrule.modern_llms.efficient_adaptation.ledger import matrix_shapes, memory_ledger
from chainrule.modern_llms.efficient_adaptation.lora import (
    DoRALinear,
    LoRALinear,
    low_rank,
    low_rank_by_row,
    pissa_init,
)
from chainrule.modern_llms.efficient_adaptation.nf4 import (
    FOUR_BIT,
    NF4,
    NF4Tensor,
    QLoRALinear,
    nf4_levels,
    nf4_quantize,
    pack_nibbles,
    round_four_bit,
    unpack_nibbles,
)
from chainrule.modern_llms.efficient_adaptation.switches import (
    adapters_off,
    apply_lora,
    lora_layers,
    merge_lora,
    trainable_fraction,
    trained_state,
    unmerge_lora,
)

__all__ = [
    "FOUR_BIT", "NF4", "Adapter", "DoRALinear", "LoRALinear", "NF4Tensor", "PrefixAttention",
    "PromptTuning", "QLoRALinear", "adapters_off", "add_adapters", "add_prefix", "apply_lora",
    "bitfit", "lora_layers", "low_rank", "low_rank_by_row", "matrix_shapes", "memory_ledger",
    "merge_lora", "nf4_levels", "nf4_quantize", "pack_nibbles", "pissa_init", "round_four_bit",
    "trainable_fraction", "trained_state", "unmerge_lora", "unpack_nibbles",
]  # fmt: skip
