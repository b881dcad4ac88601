"""The stages that serve: fewer bits a weight, and more tokens a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chainrule.life.stages import Stage
from chainrule.modern_llms.inference import (
    CachedGPT,
    ContinuousBatcher,
    NGramDraft,
    generate_cached,
    quantized_model,
    speculative_generate,
)
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array
from chainrule.transformers.gpt import GPT, generate

__all__ = ["Quantize", "Serve"]

WIDTHS = (8, 6, 5, 4, 3, 2)
GROUP = 32
PROPOSED = 4
"""Tokens that a draft proposes at once."""

COUNTED = 300_000
"""Tokens of each text that the draft counts."""


class Quantize(Stage):
    """Round the weights to fewer and fewer bits, groups of 32 with a scale each, and measure."""

    name, title = "quantize", "Fewer bits"
    before = ("grpo",)
    columns = ("bits", "megabytes", "bits a byte", "accuracy")
    cost = (2.2, 0)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(WIDTHS) + 1

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        self.model = self.life.model("grpo")

    def step(self) -> list[float]:
        """Take one step."""
        assert self.model is not None
        if self.done == 0:
            bits, rounded = 32, self.model
            size = sum(p.data.nbytes for p in self.model.parameters())
        else:
            bits = WIDTHS[self.done - 1]
            rounded, size = quantized_model(self.model, bits, group=GROUP, scale_type="float16")
        with no_grad():
            text = float(np.mean(list(self.life.bits(rounded).values())))
            right = self.life.accuracy(rounded, "test")
        return [float(bits), size / 1e6, text, right]

    def finish(self) -> dict[str, Any]:
        """Leave the model of 8 bits: it is what is served."""
        assert self.model is not None
        self.model, _ = quantized_model(self.model, 8, group=GROUP, scale_type="float16")
        return {"rows": self.curve}


class Serve(Stage):
    """Write text in four ways that give the same tokens, and count tokens a second.

    Without a cache, with one, with a cheap draft that proposes tokens, and many texts at once.
    """

    name, title = "serve", "Serving"
    before = ("quantize",)
    cost = (6.5, 0)

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        self.model = self.life.model("quantize")

    def step(self) -> list[float]:
        """Take one step."""
        life, s, model = self.life, self.settings, self.model
        assert model is not None
        held = life.speech.text(list(life.texts.held_out.values())[-1])
        places = np.linspace(0, len(held) - 17, s.serve_texts).astype(int)
        starts = [held[k : k + 16] for k in places]
        n = min(s.serve_tokens, s.context - 16 - PROPOSED)
        drafting = _Drafting(model, life.training_ids(), len(life.speech))
        self._measure(n * len(starts), {
            "no cache": lambda: [generate(model, ids[None], n, 0)[0] for ids in starts],
            "cache": lambda: [generate_cached(model, ids, n, 0) for ids in starts],
            "cache and draft": lambda: [drafting.write(ids, n) for ids in starts],
            "many at once": lambda: _together(model, starts, n),
        })  # fmt: skip
        self.found["tokens a call with a draft"] = n * len(starts) / drafting.calls
        self.found["bytes of the cache"] = drafting.cached.nbytes
        self.speeds["counting the draft, seconds"] = drafting.counting
        return []

    def _measure(self, tokens: int, ways: dict[str, Callable[[], list[Array]]]) -> None:
        """Tokens a second of each way, and whether its texts are those of the first."""
        self.found: dict[str, Any] = {}
        self.speeds: dict[str, float] = {}
        first: list[Array] = []
        for way, run in ways.items():
            began = time.process_time()
            with no_grad():
                texts = run()
            self.speeds[way] = tokens / max(time.process_time() - began, 1e-9)
            first = first or texts
            same = [bool(np.array_equal(a, b)) for a, b in zip(first, texts, strict=True)]
            self.found[f"same tokens, {way}"] = float(np.mean(same))

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.found | {"timing": {"tokens a second": self.speeds}}


class _Drafting:
    """A model whose tokens a cheap draft proposes, always the likeliest."""

    def __init__(self, model: GPT, texts: Sequence[Array], symbols: int) -> None:
        counted = np.concatenate([ids[:COUNTED] for ids in texts])
        began = time.process_time()
        self.draft = NGramDraft(counted, 4, symbols)
        self.counting = time.process_time() - began
        self.cached = CachedGPT(model)
        self.calls = 0

    def write(self, ids: Array, n: int) -> Array:
        """A text with ``n`` tokens more; ``calls`` counts those of the model."""
        self.cached.forget()
        text, counts = speculative_generate(
            lambda text, last: _likeliest(self.cached.scores(text, last)),
            lambda text: _likeliest(self.draft(text)),
            ids, n, PROPOSED, np.random.default_rng(0),
        )  # fmt: skip
        self.calls += len(counts)
        return text


def _likeliest(p: Array) -> Array:
    """All probability on the likeliest token."""
    return np.eye(p.shape[-1])[p.argmax(axis=-1)]


def _together(model: GPT, starts: list[Array], n: int) -> list[Array]:
    """Every text in one batch, a token each in every step."""
    batcher = ContinuousBatcher(model, len(starts), 0.0)
    written: dict[int, list[int]] = {batcher.submit(ids, n): [] for ids in starts}
    while batcher.busy:
        for name, token in batcher.step().items():
            written[name].append(token)
    return [np.concatenate([ids, row]) for ids, row in zip(starts, written.values(), strict=True)]
