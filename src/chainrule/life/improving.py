"""The stages that improve on imitation: reward model, DPO, PPO and GRPO against the verifier."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from chainrule.life.stages import Stage, update
from chainrule.life.tasks import LEARNED, Example, examples, verify
from chainrule.life.writing import Rows, log_probs, pack_rows, reply_log_probs, write
from chainrule.modern_llms.rlhf import (
    RewardModel,
    bradley_terry_loss,
    dpo_loss,
    gae,
    grpo_advantages,
    kl_penalty,
    ppo_loss,
)
from chainrule.neural_networks.backpropagation import Tensor, gather, no_grad
from chainrule.program import UsageError
from chainrule.shapes import Array
from chainrule.training.loss_functions import log_softmax
from chainrule.training.optimizers import AdamW, warmup_cosine
from chainrule.transformers.gpt import GPT

__all__ = ["Dpo", "Grpo", "Ppo", "Reward"]

Verifier = Callable[[str, str, bool], float]
Pair = tuple[list[int], list[int], list[int]]


class Reward(Stage):
    """Let the tuned model answer, sort by the verifier, and fit a reward model to a few pairs.

    Then let the reward model choose the best of n answers: its own opinion rises with n, and what
    the verifier says of the chosen answers does not.
    """

    name, title = "reward", "Reward model"
    before = ("sft",)
    repeated = True
    columns = ("loss of the pairs",)
    cost = (0.16, 10)

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.reward_steps

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        s, life = self.settings, self.life
        began = time.process_time()
        self.right, self.pairs = self._sorted("train", s.pair_prompts)
        self.drawing = time.process_time() - began
        if not self.pairs:
            raise UsageError(
                f"to none of {s.pair_prompts} prompts the tuned model gave a right answer and a "
                f"wrong one, so there is nothing to compare; it needs more steps or other text"
            )
        self.reward = RewardModel(life.model("sft"), self.rng)
        self.modules = {"reward": self.reward}
        self.optimizer = AdamW(
            list(self.reward.parameters()), s.reward_rate, betas=(0.9, 0.99), weight_decay=0.01
        )

    def _sorted(self, part: str, n: int) -> tuple[list, list[Pair]]:
        """Right answers of the model's own, and pairs of a right and a wrong one."""
        s, life = self.settings, self.life
        rng = np.random.default_rng([s.seed, self.seed, len(part)])
        asked = examples(n, rng, LEARNED, part)
        prompts = [life.speech.prompt(e.prompt) for e in asked]
        written = write(
            life.model("sft"), prompts, life.speech.end, s.answer, 1.0, rng, s.pair_copies
        )
        right: list[tuple[list[int], list[int]]] = []
        pairs: list[Pair] = []
        for i, (example, prompt) in enumerate(zip(asked, prompts, strict=True)):
            mine = written[i * s.pair_copies : (i + 1) * s.pair_copies]
            good = [verify(example.prompt, *life.speech.read(reply)) == 1 for reply in mine]
            yes = [reply for reply, fine in zip(mine, good, strict=True) if fine]
            no = [reply for reply, fine in zip(mine, good, strict=True) if not fine]
            if yes:
                right.append((prompt.tolist(), yes[0]))
            if yes and no:
                pairs.append((prompt.tolist(), yes[0], no[rng.integers(len(no))]))
        return right, pairs

    def _scores(self, rows: Rows) -> Any:
        return self.reward(rows.ids, rows.lengths)

    def step(self) -> list[float]:
        """Take one step."""
        few = self.pairs[: self.settings.reward_pairs]
        picked = [few[i] for i in self.rng.integers(len(few), size=32)]
        fill = self.life.speech.end
        prompts = [p for p, _, _ in picked]
        rows = pack_rows(prompts * 2, [g for _, g, _ in picked] + [b for *_, b in picked], fill)
        self.reward.train()
        scores = self._scores(rows)
        loss = bradley_terry_loss(scores[: len(picked)], scores[len(picked) :])
        s = self.settings
        warmup = min(10, self.steps // 5)
        update(self, loss, warmup_cosine(self.done, s.reward_rate, warmup, self.steps,
                                         s.reward_rate / 10))  # fmt: skip
        return [loss.item()]

    def files(self, folder: Path) -> None:
        """Write what later stages read."""
        text = json.dumps({"right": self.right, "pairs": self.pairs})
        (folder / "samples.json").write_text(text, encoding="utf-8")

    def opinions(self, prompts: list, replies: list) -> Array:
        """What the reward model says of replies."""
        self.reward.eval()
        found = []
        for i in range(0, len(prompts), 256):
            part = slice(i, i + 256)
            rows = pack_rows(prompts[part], replies[part], self.life.speech.end)
            with no_grad():
                found.append(self._scores(rows).data)
        return np.concatenate(found)

    def _preferred(self, pairs: list[Pair]) -> float:
        prompts = [p for p, _, _ in pairs]
        good = self.opinions(prompts, [g for _, g, _ in pairs])
        return float((good > self.opinions(prompts, [b for *_, b in pairs])).mean())

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        s, life = self.settings, self.life
        _, held = self._sorted("validation", min(400, s.chosen))
        asked = life.prompts("test", s.best_prompts)
        prompts = [life.speech.prompt(e.prompt) for e in asked]
        rng = np.random.default_rng([s.seed, self.seed, 3])
        written = write(life.model("sft"), prompts, life.speech.end, s.answer, 1.0, rng, s.best_of)
        true = np.array(
            [verify(asked[i // s.best_of].prompt, *life.speech.read(r))
             for i, r in enumerate(written)]
        )  # fmt: skip
        repeated = [p.tolist() for p in prompts for _ in range(s.best_of)]
        opinion = self.opinions(repeated, written)
        curve, n = [], 1
        while n <= s.best_of:
            o, t = opinion.reshape(-1, n), true.reshape(-1, n)
            best = o.argmax(axis=1)
            rows = np.arange(len(o))
            curve.append([n, float(o.max(axis=1).mean()), float(t[rows, best].mean()),
                          float(t.max(axis=1).mean())])  # fmt: skip
            n *= 2
        found = {"held-out pairs preferred": self._preferred(held)} if held else {}
        return found | {
            "pairs": len(self.pairs),
            "pairs used": min(s.reward_pairs, len(self.pairs)),
            "right answers": len(self.right),
            "pairs of training preferred": self._preferred(self.pairs[: s.reward_pairs]),
            "best of n": curve,
            "timing": {"drawing": self.drawing},
        }


class Dpo(Stage):
    """Prefer the right of two answers of the model's own, without a reward model."""

    name, title = "dpo", "DPO"
    before = ("sft", "reward")
    repeated = True
    columns = ("loss", "pairs in order", "log-ratio of chosen", "log-ratio of rejected",
               "validation")  # fmt: skip
    cost = (0.2, 6)
    look_every: ClassVar[int] = 0

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.dpo_steps

    @property
    def strength(self) -> tuple[float, float, float]:
        """Learning rate, β, and the weight of the chosen answers' likelihood."""
        s = self.settings
        return s.dpo_rate, s.dpo_beta, s.dpo_likelihood

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        self.model, self.reference = self.life.model("sft"), self.life.model("sft")
        self.modules = {"model": self.model}
        self.optimizer = AdamW(
            list(self.model.parameters()), self.strength[0], betas=(0.9, 0.99), weight_decay=0.0
        )
        self.pairs = self.chosen(self.life.samples(self.seed)["pairs"])

    def chosen(self, pairs: list[Pair]) -> list[Pair]:
        """The pairs that are learned from."""
        return pairs

    def step(self) -> list[float]:
        """Take one step."""
        model, n = self.model, 32
        assert model is not None
        rate, beta, likelihood = self.strength
        picked = [self.pairs[i] for i in self.rng.integers(len(self.pairs), size=n)]
        rows = pack_rows(
            [p for p, _, _ in picked] * 2,
            [g for _, g, _ in picked] + [b for *_, b in picked],
            self.life.speech.end,
        )
        before = reply_log_probs(self.reference, rows)
        model.train()
        logp, mask = log_probs(model, rows)
        each = (logp * mask.astype(logp.dtype)).sum(axis=1)
        loss = dpo_loss(each[:n], each[n:], before[:n], before[n:], beta)
        if likelihood:
            lengths = mask.sum(axis=1)[:n].astype(logp.dtype)
            loss = loss - (each[:n] / lengths).mean() * likelihood
        warm = min(1, (self.done + 1) / 10)
        update(self, loss, rate * warm * (1 - 0.9 * self.done / self.steps))
        ratio = each.data - before
        ordered = float((ratio[:n] > ratio[n:]).mean())
        return [loss.item(), ordered, float(ratio[:n].mean()), float(ratio[n:].mean()),
                self._look()]  # fmt: skip

    def _look(self) -> float:
        every = self.look_every
        if not every or (self.done % every and self.done + 1 != self.steps):
            return float("nan")
        assert self.model is not None
        return self.life.accuracy(self.model, "validation", few=True)

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.life.measure(self) | {"pairs": len(self.pairs)}


class Ppo(Stage):
    """Write, let the verifier judge, and move the policy with a value head beside it."""

    name, title = "ppo", "PPO"
    before = ("sft",)
    repeated = True
    columns = ("reward", "variance explained", "share clipped")
    cost = (0.72, 6)
    value_only: ClassVar[int] = 5

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.ppo_steps

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        s = self.settings
        self.model, self.reference = self.life.model("sft"), self.life.model("sft")
        self.critic = RewardModel(self.model, self.rng)
        self.critic.head.weight.data *= 0
        self.modules = {"model": self.model, "head": self.critic.head}
        groups = [{"params": list(m.parameters())} for m in (self.model, self.critic.head)]
        self.optimizer = AdamW(groups, s.ppo_rate, betas=(0.9, 0.99), weight_decay=0.0)

    def _both(self, rows: Rows, start: int) -> tuple[Any, Any]:
        """Log-probabilities of the tokens from ``start`` on, and a value before each."""
        model = self.model
        assert model is not None
        x = model.hidden_states(rows.ids[:, :-1])[-1][:, start - 1 :]
        scores = log_softmax(model.predict(x))
        logp = gather(scores, rows.ids[:, start:, None], axis=-1)[..., 0]
        return logp, self.critic.head(model.norm(x))[..., 0]

    def step(self) -> list[float]:
        """Take one step."""
        s, model = self.settings, self.model
        assert model is not None
        asked = examples(s.ppo_replies, self.rng)
        rows, rewards, _ = rollouts(self, model, asked, 1, verify)
        start, mask = rows.halves()
        with no_grad():
            old, values = (t.data for t in self._both(rows, start))
            reference = log_probs(self.reference, rows)[0].data
            # the first estimate of the divergence, as numbers: it belongs into the reward
            earned = -s.ppo_beta * kl_penalty(Tensor(old), reference).data * mask
        earned[np.arange(len(rows)), rows.lengths - 1 - start] += rewards[:, 0]
        gained = gae(earned, values, 1.0, 0.95, mask)
        targets = (gained + values).astype(np.float32)
        some = gained[mask]
        gains = ((gained - some.mean()) / (some.std() + 1e-6)).astype(np.float32)
        explained = 1 - np.var(targets[mask] - values[mask]) / (np.var(targets[mask]) + 1e-9)
        clipped = []
        model.train()
        for part in np.array_split(self.rng.permutation(len(rows)), 2):
            logp, value = self._both(rows.take(part), start)
            off, weight = value - targets[part], mask[part] / mask[part].sum()
            loss = (off * off * weight.astype(np.float32)).sum() * 0.5
            warming = self.done < min(self.value_only, self.steps // 4)
            if not warming:
                loss = loss + ppo_loss(logp, old[part], gains[part], 0.2, mask[part])
            ratio = np.exp(logp.data - old[part])[mask[part]]
            clipped.append(float((np.abs(ratio - 1) > 0.2).mean()))
            update(self, loss, 0.0 if warming else s.ppo_rate, 10 * s.ppo_rate)
        return [float(rewards.mean()), float(explained), float(np.mean(clipped))]

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.life.measure(self)


class Grpo(Stage):
    """Write several answers to each prompt, and reinforce those above their group's mean."""

    name, title = "grpo", "GRPO"
    before = ("sft",)
    repeated = True
    columns = ("reward", "groups without a difference", "tokens an answer", "validation",
               "KL an answer")  # fmt: skip
    cost = (0.27, 6)
    look_every: ClassVar[int] = 0
    tasks: ClassVar[tuple[str, ...]] = LEARNED
    normalize: ClassVar[bool] = False
    beta: ClassVar[float] = 0.0
    kind: ClassVar[str] = "k3"

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return self.settings.grpo_steps

    @property
    def rate(self) -> float:
        """The learning rate after ten steps of warm-up."""
        return self.settings.grpo_rate

    def judge(self, prompt: str, reply: str, ended: bool) -> float:
        """Return the reward of a reply: what the verifier says."""
        return verify(prompt, reply, ended)

    def prepare(self) -> None:
        """Load what is needed and build what is trained."""
        self.model, self.reference = self.life.model("sft"), self.life.model("sft")
        self.modules = {"model": self.model}
        self.optimizer = AdamW(
            list(self.model.parameters()), self.rate, betas=(0.9, 0.99), weight_decay=0.0
        )

    def step(self) -> list[float]:
        """Take one step."""
        s, model = self.settings, self.model
        assert model is not None
        asked = examples(s.grpo_prompts, self.rng, self.tasks)
        rows, rewards, length = rollouts(self, model, asked, s.grpo_group, self.judge)
        gains = grpo_advantages(rewards, self.normalize).astype(np.float32).ravel()
        live = np.flatnonzero(gains)
        entry = [float(rewards.mean()), float((rewards.std(axis=1) == 0).mean()), length]
        if self.beta:
            live = np.arange(len(rows))
        if len(live):
            every = int(rows.mask.sum())
            model.train()
            rows, gains = rows.take(live), gains[live]
            logp, mask = log_probs(model, rows)
            spread = np.repeat(gains[:, None], mask.shape[1], axis=1)
            share = int(mask.sum()) / every  # rows without a gradient count in the mean
            loss = ppo_loss(logp, logp.data, spread, 0.2, mask) * share
            if self.beta:
                with no_grad():
                    reference = log_probs(self.reference, rows)[0].data
                price = kl_penalty(logp, reference, self.kind)
                loss = loss + (price * (mask / mask.sum()).astype(np.float32)).sum() * self.beta
            update(self, loss, self.rate * min(1, (self.done + 1) / 10))
        return [*entry, *self._look()]

    def _look(self) -> list[float]:
        every = self.look_every
        if not every or (self.done % every and self.done + 1 != self.steps):
            return [float("nan")] * 2
        assert self.model is not None
        right = self.life.accuracy(self.model, "validation", few=True)
        return [right, self.life.divergence(self.model, few=True)]

    def finish(self) -> dict[str, Any]:
        """Measure what came out."""
        return self.life.measure(self)


def rollouts(
    stage: Stage, model: GPT, asked: list[Example], copies: int, verifier: Verifier
) -> tuple[Rows, Array, float]:
    """Replies at temperature 1, their rewards of shape (prompts, copies), and their mean length."""
    speech, s = stage.life.speech, stage.settings
    prompts = [speech.prompt(e.prompt) for e in asked]
    written = write(model, prompts, speech.end, s.answer, 1.0, stage.rng, copies)
    rewards = [
        verifier(asked[i // copies].prompt, *speech.read(reply)) for i, reply in enumerate(written)
    ]
    repeated = [p for p in prompts for _ in range(copies)]
    rows = pack_rows(repeated, written, speech.end)
    length = float(np.mean([len(reply) for reply in written]))
    return rows, np.array(rewards, np.float32).reshape(len(asked), copies), length
