"""BERT: an encoder that learns by filling gaps, its heads, its tokenizer, and what came of it.

Taught in ``transformers/bert.md``. `Bert` (`model`) is a stack of the encoder blocks of
`chainrule.transformers.transformer_architecture` on three embeddings; `load_bert_state` reads
published weights. `masking` hides tokens and scores texts, `heads` turns vectors into answers,
`wordpiece` cuts text into the pieces of a vocabulary, `sentences` makes one vector of a text,
`diffusion` uses the same model to write.

Shape names: ``batch``, ``time`` positions, ``vocab`` pieces, ``d_model`` width, ``classes``.
"""

from __future__ import annotations

from chainrule.transformers.bert.diffusion import (
    masked_diffusion_bound,
    masked_diffusion_loss,
    unmask_sample,
)
from chainrule.transformers.bert.heads import (
    Head,
    MaskedLM,
    MLMHead,
    NSPHead,
    SpanHead,
    best_span,
    distillation_loss,
    pool,
)
from chainrule.transformers.bert.masking import hide, mask_tokens, pseudo_log_likelihood
from chainrule.transformers.bert.model import (
    BERT_BASE,
    BERT_LARGE,
    MINILM,
    Bert,
    BertConfig,
    bert_parameters,
    load_bert_state,
)
from chainrule.transformers.bert.sentences import SentenceEncoder, load_encoder
from chainrule.transformers.bert.wordpiece import WordPiece, pack_pair, words_of

__all__ = [
    "BERT_BASE", "BERT_LARGE", "MINILM", "Bert", "BertConfig", "Head", "MLMHead", "MaskedLM",
    "NSPHead", "SentenceEncoder", "SpanHead", "WordPiece", "bert_parameters", "best_span",
    "distillation_loss", "hide", "load_bert_state", "load_encoder", "mask_tokens",
    "masked_diffusion_bound", "masked_diffusion_loss", "pack_pair", "pool",
    "pseudo_log_likelihood", "unmask_sample", "words_of",
]  # fmt: skip
