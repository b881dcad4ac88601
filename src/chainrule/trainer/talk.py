"""The course's GPT to talk to: it writes, shows what it weighs, and learns a text by an adapter.

A page in the reader's browser asks a `Talk`, in JSON, from a worker; a test asks it directly.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import numpy as np

from chainrule.data.text import DataError
from chainrule.modern_llms.efficient_adaptation import LoRALinear, adapters_off, apply_lora
from chainrule.neural_networks.backpropagation import Linear, no_grad
from chainrule.training.optimizers import AdamW
from chainrule.transformers.gpt import GPT, load_course_gpt, sample_filters, stream, token_losses
from chainrule.transformers.multi_head_attention import attention_maps

BATCH, LENGTH = 8, 32
SHORTEST = 200
SHOWN = 10
MEASURED = 1_000


class Talk:
    """The trained model and, once it was taught, its adapter beside it."""

    def __init__(self, post: Callable[[str], None]):
        self.post = post
        self.base, self.tokenizer = load_course_gpt()
        self.adapted: GPT | None = None
        self.merged: GPT | None = None

    def write(self, request: str) -> str:
        """Continue a text; each character is told as it is drawn."""
        asked = json.loads(request)
        began, written = time.perf_counter(), ""
        try:
            ids = self.tokenizer.encode(asked["text"] or "\n")[None, :]
            rng = np.random.default_rng(asked["seed"])
            drawn = stream(self._model(asked), ids, **_sampler(asked), rng=rng)
            for token in islice(drawn, asked["count"]):
                written += (character := self.tokenizer.decode(token))
                self.post(json.dumps({"drawn": character}))
        except KeyboardInterrupt:
            pass
        except DataError as error:
            return json.dumps({"error": str(error)})
        return json.dumps({"written": written, "seconds": time.perf_counter() - began})

    def look(self, request: str) -> str:
        """What the model expects after a text, and where each of its heads looks."""
        asked = json.loads(request)
        model, text = self._model(asked), asked["text"][-self.base.config.context :] or "\n"
        try:
            ids = self.tokenizer.encode(text)[None, :]
        except DataError as error:
            return json.dumps({"error": str(error)})
        with no_grad():
            logits = model(ids).data[:, -1].astype(np.float64)
        plain = _softmax(logits)[0]
        options = _sampler(asked)
        if options["temperature"] > 0:
            kept = _softmax(sample_filters(logits, **options))[0]
        else:
            kept = (np.arange(len(plain)) == plain.argmax()).astype(float)
        likely = np.argsort(-plain, kind="stable")[:SHOWN]
        rows = [[self.tokenizer.alphabet[i], _short(plain[i]), _short(kept[i])] for i in likely]
        maps = [weights[0, :, -1].round(3).tolist() for weights in attention_maps(model, ids)]
        bits = -float(np.sum(plain * np.log2(np.maximum(plain, 1e-300))))
        left = int(np.sum(kept > 0))
        return json.dumps({"text": text, "rows": rows, "left": left, "bits": bits, "maps": maps})

    def teach(self, request: str) -> str:
        """Train an adapter of low rank on a text; the model itself keeps every byte."""
        asked = json.loads(request)
        text = "".join(c for c in asked["text"] if c in self.tokenizer.alphabet)
        if len(text) < SHORTEST:
            message = f"give at least {SHORTEST} characters that the model knows, not {len(text)}"
            return json.dumps({"error": message})
        ids, rng = self.tokenizer.encode(text), np.random.default_rng(0)
        before = _name(self.base), token_losses(self.base, ids[:MEASURED]).mean()
        model = copy.deepcopy(self.base)
        apply_lora(model, r=asked["rank"], alpha=2 * asked["rank"], rng=rng)
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer = AdamW(trained, lr=asked["rate"], weight_decay=0.0)
        done = 0
        try:
            for done in range(1, asked["steps"] + 1):
                starts = rng.integers(0, len(ids) - LENGTH, BATCH)
                rows = ids[starts[:, None] + np.arange(LENGTH + 1)]
                loss = model.loss(rows[:, :-1], rows[:, 1:])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.post(json.dumps({"step": done, "loss": loss.item()}))
        except KeyboardInterrupt:
            pass
        self.adapted, self.merged = model.eval(), self._merge(model)
        with adapters_off(model):
            off = token_losses(model, ids[:MEASURED]).mean()
        return json.dumps(
            {
                "steps": done,
                "numbers": int(sum(each.size for each in trained)),
                "left_out": len(asked["text"]) - len(text),
                "before": float(before[1]),
                "after": float(token_losses(model, ids[:MEASURED]).mean()),
                "same": bool(off == before[1] and _name(model) == before[0] == _name(self.base)),
                "name": before[0],
            }
        )

    def _model(self, asked: dict[str, Any]) -> GPT:
        return self.merged if asked.get("taught") and self.merged else self.base

    def _merge(self, adapted: GPT) -> GPT:
        """A copy of the model with the updates added: as fast as the model itself."""
        merged = copy.deepcopy(self.base)
        layers = dict(merged.named_modules())
        for path, layer in adapted.named_modules():
            if isinstance(layer, LoRALinear):
                linear = cast(Linear, layers[path])
                linear.weight.data += layer.delta().astype(np.float32)
        return merged.eval()


def _sampler(asked: dict[str, Any]) -> dict[str, Any]:
    """The sampler's settings; what a slider switches off is None."""
    return {
        "temperature": asked["temperature"],
        "top_k": asked["top_k"] or None,
        "top_p": asked["top_p"] if asked["top_p"] < 1 else None,
        "min_p": asked["min_p"] or None,
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def _short(p: float) -> float:
    return float(f"{p:.4g}")


def _name(model: GPT) -> str:
    """A name for the bytes of the model's own weights, whether an adapter stands beside or not."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not name.endswith((".A", ".B")):
            digest.update(np.ascontiguousarray(parameter.data).tobytes())
    return digest.hexdigest()[:16]


def begin(_: str, post: Callable[[str], None]) -> Talk:
    """What the worker of a page talks to."""
    return Talk(post)
