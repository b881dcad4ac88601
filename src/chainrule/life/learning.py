"""The stages that imitate: tokenizer, pretraining, instruction tuning and its variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life.speech import train_speech
from chainrule.life.stages import Stage, copied, update
from chainrule.life.tasks import SECOND, TASKS, examples
from chainrule.modern_llms.efficient_adaptation import (
    adapters_off,
    apply_lora,
    merge_lora,
    trainable_fraction,
)
from chainrule.modern_llms.instruction_tuning import Rendered, collate, sft_loss
from chainrule.shapes import Array
from chainrule.training.optimizers import AdamW, ParamGroups, warmup_cosine
from chainrule.transformers.gpt import GPT, gpt_config

__all__ = ["Control", "Lora", "Pretrain", "Rejection", "Sft", "TokenizerStage"]


class TokenizerStage(Stage):
    """Learn the merges of the byte-pair tokenizer."""

    name, title = "tokenizer", "Tokenizer"
    cost = (0.8, 0.1)

    def step(self) -> list[float]:
        """Take one step."""
        texts, settings = self.life.texts.train, self.settings
        each = settings.tokenizer_text // len(texts)
        text = "".join(text[:each] for text in texts.values())
        controls = 3
        self.speech = train_speech(text, settings.vocabulary - controls, settings.seed)
        return []

    def files(self, folder: Path) -> None:
        """Write what later stages read."""
        self.speech.save(folder)

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        held = self.life.texts.held_out
        return {
            "vocabulary": len(self.speech),
            "bytes a token": {
                name: len(text.encode()) / len(self.speech.text(text))
                for name, text in held.items()
            },
        }


class Pretrain(Stage):
    """Predict the next token of the texts, windows of each in equal numbers."""

    name, title = "pretrain", "Pretraining"
    before = ("tokenizer",)
    columns = ("bits a token",)
    cost = (0.095, 7)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.pretrain_steps

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        s = self.settings
        config = gpt_config(len(self.life.speech), s.context, s.layers, s.heads, s.width)
        self.model = GPT(config, self.rng)
        self.modules = {"model": self.model}
        groups = ParamGroups.matrices_decay(self.model.parameters(), 0.1)
        self.optimizer = AdamW(groups, s.pretrain_rate, betas=(0.9, 0.99))
        self.texts = self.life.training_ids()

    def step(self) -> list[float]:
        """Take one step."""
        s, model = self.settings, self.model
        assert model is not None
        rows = windows(self.texts, s.pretrain_rows, s.context, self.rng)
        model.train()
        loss = model.loss(rows[:, :-1], rows[:, 1:])
        warmup = min(100, s.pretrain_steps // 10)
        rate = warmup_cosine(self.done, s.pretrain_rate, warmup, self.steps, s.pretrain_rate / 10)
        update(self, loss, rate, rate)
        return [loss.item() / np.log(2)]

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.life.measure(self)


class Sft(Stage):
    """Imitate demonstrations, answers only, with text replayed beside them.

    Every ``look_every`` steps the model is asked prompts of the validation part, and the best of
    these models is the one that is left.
    """

    name, title = "sft", "Instruction tuning"
    before = ("pretrain",)
    columns = ("nats a token of the answers", "validation")
    cost = (0.22, 6)
    replay = True

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.sft_steps

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.settings.sft_rate

    @property
    def start(self) -> str:
        """The stage whose model is trained further."""
        return "pretrain"

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        self.model = self.life.model(self.start)
        self.modules = {"model": self.model}
        self.optimizer = AdamW(
            list(self.model.parameters()), self.rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.shown = self.demonstrations()
        self.texts = self.life.training_ids()

    def demonstrations(self) -> tuple[list[Rendered], list[Rendered]]:
        """Conversations of one question, and some of two, so that a history is nothing new."""
        s = self.settings
        rng = np.random.default_rng([s.seed, 1])
        found = examples(s.demonstrations, rng, TASKS, carelessness=s.careless)
        speech = self.life.speech
        order = rng.permutation(len(found)).reshape(-1, 2).tolist()
        twice = [speech.conversation([found[i] for i in pair]) for pair in order]
        return (
            [speech.conversation([example]) for example in found],
            [talk for talk in twice if len(talk.ids) <= s.context],
        )

    def step(self) -> list[float]:
        """Take one step."""
        s, model = self.settings, self.model
        assert model is not None
        # every fourth batch has two questions a row, in half as many rows
        shown, rows = self.shown[self.done % 4 == 3], s.sft_rows // (1 + (self.done % 4 == 3))
        picked = self.rng.integers(len(shown), size=rows)
        batch = collate([shown[i] for i in picked], self.life.speech.end)
        model.train()
        loss = sft_loss(model(batch.ids), batch.ids, batch.mask)
        total = loss
        if self.replay:
            text = windows(self.texts, s.replay_rows, s.replay_length, self.rng)
            total = loss + model.loss(text[:, :-1], text[:, 1:]) * s.replay_weight
        warmup = min(20, self.steps // 5)
        update(self, total, warmup_cosine(self.done, self.rate, warmup, self.steps, self.rate / 10))
        return [loss.item(), self._look()]

    def _look(self) -> float:
        """Accuracy on the validation part now and then, and the best model kept."""
        s, step = self.settings, self.done + 1
        if step % s.look_every and step != self.steps:
            return float("nan")
        assert self.model is not None
        found = self.life.accuracy(self.model, "validation")
        before = [row[1] for row in self.curve if row[1] == row[1]]
        if not before or found > max(before):
            self.kept = copied(self.model.state_dict())
        return found

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        assert self.model is not None
        self.model.load_state_dict(self.kept)
        looked = [(i + 1, row[1]) for i, row in enumerate(self.curve) if row[1] == row[1]]
        best = max(looked, key=lambda pair: (pair[1], -pair[0]))
        return self.life.measure(self) | {"kept from step": best[0]}


class Control(Sft):
    """The comparison: as many seconds as the improvements take, on more imitation."""

    name, title = "control", "More imitation"
    before = ("sft",)
    repeated = True
    cost = (0.22, 6)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.control_steps

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.settings.control_rate

    @property
    def start(self) -> str:
        """The stage whose model is trained further."""
        return "sft"


class Rejection(Stage):
    """Imitate one's own answers that the verifier accepted."""

    name, title = "rejection", "Own verified answers"
    before = ("sft", "reward")
    repeated = True
    columns = ("nats a token of the answers",)
    cost = (0.15, 6)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.rejection_steps

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        s = self.settings
        self.model = self.life.model("sft")
        self.modules = {"model": self.model}
        self.optimizer = AdamW(
            list(self.model.parameters()), s.rejection_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.right = self.life.samples(self.seed)["right"]

    def step(self) -> list[float]:
        """Take one step."""
        from chainrule.life.writing import log_probs, pack_rows

        s, model = self.settings, self.model
        assert model is not None
        picked = [self.right[i] for i in self.rng.integers(len(self.right), size=s.sft_rows)]
        rows = pack_rows([p for p, _ in picked], [r for _, r in picked], self.life.speech.end)
        model.train()
        logp, mask = log_probs(model, rows)
        loss = -(logp * (mask / mask.sum()).astype(logp.dtype)).sum()
        warmup = min(10, self.steps // 5)
        update(self, loss, warmup_cosine(self.done, s.rejection_rate, warmup, self.steps,
                                         s.rejection_rate / 10))  # fmt: skip
        return [loss.item()]

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.life.measure(self) | {"answers imitated": len(self.right)}


class Lora(Stage):
    """Teach a second task with low-rank updates; then take them away again."""

    name, title = "lora", "A second task, and back"
    before = ("grpo",)
    columns = ("nats a token of the answers",)
    cost = (0.115, 6)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.lora_steps

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        s = self.settings
        self.model = self.life.model("grpo")
        self.base = copied(self.model.state_dict())
        apply_lora(self.model, r=s.lora_rank, alpha=s.lora_alpha, rng=np.random.default_rng(s.seed))
        self.modules = {"model": self.model}
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = AdamW(trained, s.lora_rate, betas=(0.9, 0.99), weight_decay=0.0)
        rng = np.random.default_rng([s.seed, 2])
        shown = examples(2000, rng, (SECOND,))
        self.shown = [self.life.speech.conversation([e]) for e in shown]

    def step(self) -> list[float]:
        """Take one step."""
        s, model = self.settings, self.model
        assert model is not None
        picked = self.rng.integers(len(self.shown), size=s.sft_rows)
        batch = collate([self.shown[i] for i in picked], self.life.speech.end)
        model.train()
        loss = sft_loss(model(batch.ids), batch.ids, batch.mask)
        warmup = min(10, self.steps // 5)
        update(self, loss, warmup_cosine(self.done, s.lora_rate, warmup, self.steps,
                                         s.lora_rate / 10))  # fmt: skip
        return [loss.item()]

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        life, model = self.life, self.model
        assert model is not None
        trained = [p for p in model.parameters() if p.requires_grad]
        found: dict[str, Any] = {
            "second task before": life.accuracy(life.model("grpo"), "test", (SECOND,)),
            "trained numbers": sum(p.size for p in trained),
            "share trained": trainable_fraction(model, sum(a.size for a in self.base.values())),
        }
        ids = self.shown[0].ids[None]
        beside = model(ids).data
        with adapters_off(model):
            found["off, largest difference"] = float(
                np.abs(model(ids).data - life.model("grpo")(ids).data).max()
            )
        merge_lora(model)
        found["merged, largest difference"] = float(np.abs(model(ids).data - beside).max())
        merged = {n.replace(".base.", "."): a for n, a in model.state_dict().items()}
        plain = life.model("grpo")
        plain.load_state_dict({name: merged[name] for name in plain.state_dict()})
        self.model = plain
        found["second task after"] = life.accuracy(plain, "test", (SECOND,))
        return life.measure(self) | found


def windows(texts: list[Array], rows: int, length: int, rng: np.random.Generator) -> Array:
    """Rows of ``length`` + 1 tokens, from each text in turn."""
    found = []
    for i in range(rows):
        ids = texts[i % len(texts)]
        start = int(rng.integers(0, len(ids) - length))
        found.append(ids[start : start + length + 1])
    return np.stack(found)
