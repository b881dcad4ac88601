"""GPT: a causal transformer trained to predict the next token, and ways to sample from it.

Taught in ``transformers/gpt.md``. The model is the decoder stack of
`chainrule.transformers.transformer_architecture` without an encoder; `gpt_config` says which
settings make GPT-2 and Llama. Also here: the strong baseline, a Witten–Bell n-gram.

Shape names: ``batch``, ``time`` positions, ``vocab`` symbols, ``d_model`` width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.neural_networks.backpropagation import ModuleList, Tensor, no_grad
from chainrule.shapes import Array, Bool, Float, Int
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.transformer_architecture import (
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_SMALL,
    GPT2_XL,
    DecoderBlock,
    TokenModel,
    TransformerConfig,
    initialize_,
    normalization,
)

__all__ = [
    "GPT", "GPT2_LARGE", "GPT2_MEDIUM", "GPT2_SMALL", "GPT2_XL", "WittenBell", "bits_per_byte",
    "generate", "gpt_config", "load_gpt2_state", "min_p_filter", "nucleus", "repetition_penalty",
    "sample_filters", "top_k_filter", "top_p_filter", "witten_bell_ngram",
]  # fmt: skip


def gpt_config(
    vocab_size: int = 50_257,
    context: int = 1024,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    **changes: Any,
) -> TransformerConfig:
    """Return the configuration of a GPT: GPT-2 small, but for what is given.

    ``changes`` are fields of `TransformerConfig`. What turns GPT-2 into Llama:
    ``feed_forward="swiglu"`` with its ``hidden`` width, ``norm="rms"``, ``positions="rope"``,
    ``bias=False``, ``tied=False`` and, in later ones, fewer ``kv_heads``.
    """
    return replace(
        GPT2_SMALL, vocab_size=vocab_size, context=context, decoder_layers=layers, heads=heads,
        width=width, **changes,
    )  # fmt: skip


class GPT(TokenModel):
    """Token vectors plus position vectors, through causal blocks, to logits.

    Weights start as `initial_weights` says. ``rng`` draws them and, in training, the dropout.

    Raises:
        ValueError: the configuration has an encoder, or no vocabulary.
    """

    def __init__(self, config: TransformerConfig, rng: np.random.Generator) -> None:
        if config.encoder_layers or not config.vocab_size:
            raise ValueError(
                f"a GPT has a vocabulary and no encoder, got vocab_size={config.vocab_size}, "
                f"encoder_layers={config.encoder_layers}"
            )
        super().__init__(config, rng)
        self.blocks = ModuleList(
            DecoderBlock(config, rng, layer=i) for i in range(config.decoder_layers)
        )
        self.norm = normalization(config)
        initialize_(self, rng)

    def forward(
        self, ids: Int[Array, "batch time"] | Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time vocab"]:
        """Return, for each position, a score for every symbol that could come next."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.predict(x)

    def embed(
        self, ids: Int[Array, "batch time"] | Int[Tensor, "batch time"]
    ) -> Float[Tensor, "batch time d_model"]:
        """Return the first state of the residual stream.

        Raises:
            ValueError: there are more tokens than the context holds.
        """
        if ids.shape[-1] > self.config.context:
            raise ValueError(
                f"the context is {self.config.context} tokens, got {ids.shape[-1]}: cut the input"
            )
        return super().embed(ids)

    def predict(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time vocab"]:
        """Normalize a state of the residual stream and score every symbol."""
        return super().predict(self.norm(x))

    def loss(
        self,
        ids: Int[Array, "batch time"],
        targets: Int[Array, "batch time"],
        mask: Bool[Array, "batch time"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean −log p of each target, in nats a token; ``mask`` says which count.

        Equation: transformers/gpt.md#eq-next-token-loss
        """
        if mask is not None:
            targets = np.where(mask, targets.astype(np.int64), -100)
        return cross_entropy(self(ids), targets)

    def hidden_states(
        self, ids: Int[Array, "batch time"]
    ) -> list[Float[Tensor, "batch time d_model"]]:
        """Return the residual stream after the embedding and after every block.

        `predict` of each is the logit lens.
        """
        states = [self.embed(ids)]
        for block in self.blocks:
            states.append(block(states[-1]))
        return states


def load_gpt2_state(state: Mapping[str, Any], heads: int | None = None) -> GPT:
    """Return a GPT with the weights of a GPT-2 ``state_dict`` in its published layout.

    There, every projection is stored as (in, out) and names start with ``wte``, ``wpe`` and
    ``h.0`` (with or without ``transformer.``). Sizes are read off the arrays; ``heads`` is
    width / 64, as in all published sizes, unless given.
    """
    arrays = {name.removeprefix("transformer."): np.asarray(a) for name, a in state.items()}
    missing = [name for name in ("wte.weight", "wpe.weight") if name not in arrays]
    if missing:
        raise ValueError(f"not a GPT-2 state: {missing[0]} is missing")
    vocab, width = arrays["wte.weight"].shape
    layers = 1 + max((int(n.split(".")[1]) for n in arrays if n.startswith("h.")), default=-1)
    config = gpt_config(vocab, len(arrays["wpe.weight"]), layers, heads or max(1, width // 64),
                        width, dtype=str(arrays["wte.weight"].dtype))  # fmt: skip
    renamed = {}
    for name, array in arrays.items():
        if name.endswith((".attn.bias", ".attn.masked_bias", "lm_head.weight")):
            continue  # masks, and the tied table a second time
        for theirs, ours in _GPT2_NAMES:
            name = name.replace(theirs, ours)
        is_projection = array.ndim == 2 and name.startswith("blocks.")
        renamed[name] = array.T if is_projection else array
    model = GPT(config, np.random.default_rng(0))
    model.load_state_dict(renamed)
    return model


_GPT2_NAMES = (
    ("wte", "tokens"),
    ("wpe", "positions"),
    ("h.", "blocks."),
    ("ln_1", "attention_norm"),
    ("ln_2", "feed_forward_norm"),
    ("ln_f", "norm"),
    ("attn.c_attn", "attention.qkv"),
    ("attn.c_proj", "attention.out"),
    ("mlp.c_fc", "feed_forward.up"),
    ("mlp.c_proj", "feed_forward.down"),
)


# ---- sampling ----------------------------------------------------------------------------------


def _softmax(logits: Array) -> Array:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def top_k_filter(logits: Float[Array, "*batch vocab"], k: int) -> Float[Array, "*batch vocab"]:
    """Keep the k highest scores (and those equal to the k-th); −∞ elsewhere."""
    if k < 1:
        raise ValueError(f"top_k keeps at least one symbol, got {k}")
    k = min(k, logits.shape[-1])
    threshold = np.partition(logits, -k, axis=-1)[..., -k, None]
    return np.where(logits < threshold, -np.inf, logits).astype(logits.dtype)


def nucleus(p: Float[Array, "*batch vocab"], top_p: float) -> Bool[Array, "*batch vocab"]:
    """Return which symbols form the smallest set of the likeliest that holds ``top_p`` of p.

    The likeliest symbol is always in it. Equation: transformers/gpt.md#eq-nucleus. Source:
    Holtzman et al. 2019, arXiv:1904.09751.
    """
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p lies in (0, 1], got {top_p}")
    if top_p == 1:  # rounded sums reach 1 before the last symbol
        return np.ones(p.shape, bool)
    order = np.argsort(-p, axis=-1, kind="stable")
    before = np.cumsum(np.take_along_axis(p, order, axis=-1), axis=-1, dtype=np.float64)
    before -= np.take_along_axis(p, order, axis=-1)
    kept = before < top_p
    kept[..., 0] = True
    inside = np.zeros(p.shape, bool)
    np.put_along_axis(inside, order, kept, axis=-1)
    return inside


def top_p_filter(
    logits: Float[Array, "*batch vocab"], top_p: float
) -> Float[Array, "*batch vocab"]:
    """Keep the nucleus; −∞ elsewhere."""
    return np.where(nucleus(_softmax(logits), top_p), logits, -np.inf).astype(logits.dtype)


def min_p_filter(
    logits: Float[Array, "*batch vocab"], min_p: float
) -> Float[Array, "*batch vocab"]:
    """Keep symbols at least ``min_p`` times as likely as the likeliest; −∞ elsewhere."""
    if not 0 <= min_p <= 1:
        raise ValueError(f"min_p lies in [0, 1], got {min_p}")
    p = _softmax(logits)
    low = p < min_p * p.max(axis=-1, keepdims=True)
    return np.where(low, -np.inf, logits).astype(logits.dtype)


def repetition_penalty(
    logits: Float[Array, "batch vocab"], ids: Int[Array, "batch time"], penalty: float
) -> Float[Array, "batch vocab"]:
    """Divide positive, multiply negative scores of symbols that already occurred."""
    ids = ids.astype(np.intp)
    scores = np.take_along_axis(logits, ids, axis=-1)
    lowered = np.where(scores < 0, scores * penalty, scores / penalty)
    result = logits.copy()
    np.put_along_axis(result, ids, lowered.astype(logits.dtype), axis=-1)
    return result


def sample_filters(
    logits: Float[Array, "*batch vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Float[Array, "*batch vocab"]:
    """Divide by the temperature, then apply the filters that are given, in this order."""
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    logits = logits / logits.dtype.type(temperature)
    if top_k is not None:
        logits = top_k_filter(logits, top_k)
    if top_p is not None:
        logits = top_p_filter(logits, top_p)
    if min_p is not None:
        logits = min_p_filter(logits, min_p)
    return logits


def generate(
    model: GPT,
    ids: Int[Array, "batch time"],
    n: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    rng: np.random.Generator | None = None,
) -> Int[Array, "batch longer"]:
    """Return ``ids`` continued by n tokens, each drawn from the model's filtered prediction.

    Temperature 0 takes the likeliest token and needs no ``rng``. Only the last ``context``
    tokens are seen. Nothing is cached: see modern-llms/inference for that. The result holds
    int64, since drawn tokens need not fit the type of the prompt.

    Raises:
        ValueError: the prompt is no batch of tokens, or the model's scores are not finite.
    """
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(
            f"generate continues a batch of prompts, whole numbers of shape (batch, time), got "
            f"{ids.dtype} of shape {ids.shape}"
        )
    ids = ids.astype(np.int64, copy=False)
    if not ids.shape[-1]:
        raise ValueError("generate continues at least one token; the prompt is empty")
    if temperature < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if temperature > 0 and rng is None:
        raise ValueError("sampling needs a numpy Generator as rng (temperature=0 needs none)")
    for _ in range(n):
        with no_grad():
            logits = model(ids[:, -model.config.context :]).data[:, -1]
        if not np.isfinite(logits.max(axis=-1, initial=-np.inf)).all():
            raise ValueError(
                "the model's scores are not finite: its weights are damaged, or training diverged"
            )
        if temperature == 0 or rng is None:
            drawn = logits.argmax(axis=-1)
        else:
            scores = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
            p = _softmax(sample_filters(scores, temperature, top_k, top_p, min_p))
            cumulative = np.cumsum(p, axis=-1)
            threshold = rng.random((len(p), 1)) * cumulative[:, -1:]
            drawn = (cumulative <= threshold).sum(axis=-1)
        ids = np.concatenate([ids, drawn[:, None].astype(np.int64)], axis=1)
    return ids


def bits_per_byte(nats: float, tokens: int, bytes: int) -> float:
    """Convert a mean loss of ``nats`` a token to bits a byte of the text those tokens encode.

    Only so can models with different tokenizers be compared.
    Equation: transformers/gpt.md#eq-bits-per-byte
    """
    return nats * tokens / (bytes * math.log(2))


# ---- the baseline ------------------------------------------------------------------------------


class WittenBell:
    """An n-gram model that backs off as far as it must: interpolated Witten–Bell smoothing.

    P(w|h) = (c(hw) + T(h) P(w|h′)) / (c(h) + T(h)), where h′ is h without its oldest symbol,
    T(h) counts the different symbols seen after h, and the last step is 1/vocabulary.
    Equation: transformers/gpt.md#eq-witten-bell. Source: Witten, Bell, The zero-frequency
    problem, 1991.
    """

    def __init__(self, ids: Int[Array, "time"], n: int, vocabulary: int) -> None:
        if n < 1:
            raise ValueError(f"an n-gram has at least one symbol, got n = {n}")
        if vocabulary**n >= 2**63:
            raise ValueError(f"{vocabulary} symbols to the power {n} do not fit 64 bits: lower n")
        if len(ids) < n:
            raise ValueError(f"{len(ids)} symbols hold no {n}-gram: give more text or lower n")
        self.n, self.vocabulary = n, vocabulary
        self._check(ids)
        self._tables = []
        for order in range(1, n + 1):
            grams, counts = np.unique(self._grams(ids, order), return_counts=True)
            histories, starts = np.unique(grams // vocabulary, return_index=True)
            after = np.add.reduceat(counts, starts)
            different = np.diff(np.append(starts, len(grams)))
            self._tables.append((grams, counts, histories, after, different))

    def _check(self, ids: Array) -> None:
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.vocabulary:
            raise ValueError(
                f"ids must be from 0 to {self.vocabulary - 1}, got {ids.min()} to {ids.max()}"
            )

    def _grams(self, ids: Array, order: int) -> Array:
        """Each run of ``order`` symbols as one number in base ``vocabulary``."""
        ids, grams = ids.astype(np.int64), np.zeros(len(ids) - order + 1, np.int64)
        for offset in range(order):
            grams = grams * self.vocabulary + ids[offset : offset + len(grams)]
        return grams

    def log_probabilities(self, ids: Int[Array, "time"]) -> Float[Array, "time"]:
        """Return log P of each symbol given up to n − 1 symbols before it."""
        self._check(ids)
        p = np.full(len(ids), 1 / self.vocabulary)
        for order, (grams, counts, histories, after, different) in enumerate(self._tables, 1):
            if len(ids) < order:
                break
            keys = self._grams(ids, order)
            total = _look_up(histories, after, keys // self.vocabulary)
            kinds = _look_up(histories, different, keys // self.vocabulary)
            count = _look_up(grams, counts, keys)
            seen = total > 0
            tail = p[order - 1 :]
            tail[seen] = ((count + kinds * tail) / np.maximum(total + kinds, 1))[seen]
        return np.log(p)

    def nll(self, ids: Int[Array, "time"]) -> float:
        """Return the mean −log P of the symbols, in nats a symbol."""
        return float(-self.log_probabilities(ids).mean())


def _look_up(keys: Array, values: Array, wanted: Array) -> Array:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def witten_bell_ngram(ids: Int[Array, "time"], n: int, vocabulary: int | None = None) -> WittenBell:
    """Count all runs of up to n symbols of ``ids`` and return the smoothed model."""
    return WittenBell(ids, n, int(ids.max()) + 1 if vocabulary is None else vocabulary)
