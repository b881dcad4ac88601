"""Pretraining: a tokenizer, clean data, a plan for a budget, and numbers of few bits.

Taught in ``modern-llms/pretraining.md``.

- ``pieces``, ``bpe``, ``files``: GPT-2's byte-level tokenizer, trained, applied, read from files;
- ``unigram``: the other tokenizer of SentencePiece;
- ``duplicates``: MinHash, bands, a filter of quality, and what is learned by heart;
- ``scaling``: losses expected from parameters and tokens, and what a run costs;
- ``mup``: what changes with the width;
- ``precision``: rounding to 16, 8 and 4 bits.
"""

from chainrule.modern_llms.pretraining.bpe import (
    ByteBPE,
    TokenizerError,
    learn_merges,
    merge_pairs,
    train_bpe,
)
from chainrule.modern_llms.pretraining.duplicates import (
    Quality,
    caught,
    deduplicate,
    exposure,
    jaccard,
    lsh_buckets,
    minhash,
    quality_filter,
    shingles,
)
from chainrule.modern_llms.pretraining.files import load_bpe, save_bpe
from chainrule.modern_llms.pretraining.mup import MupScales, mup_scales
from chainrule.modern_llms.pretraining.pieces import (
    BYTE_ORDER,
    byte_spelling,
    piece_pattern,
    split_digits,
    split_pieces,
    unicode_ranges,
)
from chainrule.modern_llms.pretraining.precision import (
    FORMATS,
    Format,
    LossScaler,
    round_bf16,
    round_blocks,
    round_fp8,
    round_stochastic,
    round_to,
)
from chainrule.modern_llms.pretraining.scaling import (
    HOFFMANN_PRINTED,
    HOFFMANN_UNROUNDED,
    REFIT,
    Allocation,
    LossLaw,
    PowerLaw,
    chinchilla_loss,
    fit_power_law,
    mfu,
    optimal_allocation,
    training_flops,
)
from chainrule.modern_llms.pretraining.unigram import UnigramLM

__all__ = [
    "BYTE_ORDER", "FORMATS", "HOFFMANN_PRINTED", "HOFFMANN_UNROUNDED", "REFIT", "Allocation",
    "ByteBPE", "Format", "LossLaw", "LossScaler", "MupScales", "PowerLaw", "Quality",
    "TokenizerError", "UnigramLM", "byte_spelling", "caught", "chinchilla_loss", "deduplicate",
    "exposure", "fit_power_law", "jaccard", "learn_merges", "load_bpe", "lsh_buckets",
    "merge_pairs", "mfu", "minhash", "mup_scales", "optimal_allocation", "piece_pattern",
    "quality_filter", "round_bf16", "round_blocks", "round_fp8", "round_stochastic", "round_to",
    "save_bpe", "shingles", "split_digits", "split_pieces", "train_bpe", "training_flops",
    "unicode_ranges",
]  # fmt: skip
