"""What goes wrong if one thing is done badly: each trap is a short stage beside its sound twin.

All start from the tuned model (the first from the pretrained one) and differ from their twin in
the one thing that their name says.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.life.improving import Dpo, Grpo, Pair
from chainrule.life.learning import Sft
from chainrule.life.stages import Stage
from chainrule.life.tasks import TASKS, contains, first_two
from chainrule.neural_networks.backpropagation import no_grad

__all__ = ["TRAPS", "WHY"]


class _ShortSft(Sft):
    columns = ("nats a token of the answers", "bits a byte")
    cost = (0.3, 2)

    @property
    def steps(self) -> int:
        return 3 * self.settings.trap_steps

    def _look(self) -> float:
        step = self.done + 1
        if step % max(1, self.steps // 12) and step != self.steps:
            return float("nan")
        assert self.model is not None
        self.model.eval()
        with no_grad():
            return float(np.mean(list(self.life.bits(self.model).values())))

    def finish(self) -> dict[str, Any]:
        assert self.model is not None
        return {
            "validation": self.life.accuracy(self.model, "validation"),
            "bits a byte": self.life.bits(self.model),
        }


class WithReplay(_ShortSft):
    """Tuning with text replayed beside the answers."""

    name, title = "trap-replay-sound", "with replay"


class NoReplay(_ShortSft):
    """Tuning on answers alone."""

    name, title = "trap-replay", "no replay"
    replay = False


class _WatchedDpo(Dpo):
    look_every = 10
    cost = (0.25, 2)

    @property
    def steps(self) -> int:
        return int(2.5 * self.settings.trap_steps)

    def finish(self) -> dict[str, Any]:
        return _short(self)


class CarefulDpo(_WatchedDpo):
    """One epoch, β 1, and the likelihood of the chosen answers."""

    name, title = "trap-dpo-sound", "careful DPO"


class NaiveDpo(_WatchedDpo):
    """Few pairs seen many times, a weak β, and no likelihood."""

    name, title = "trap-dpo", "naive DPO"

    @property
    def strength(self) -> tuple[float, float, float]:
        return 5e-5, 0.1, 0.0

    def chosen(self, pairs: list[Pair]) -> list[Pair]:
        return pairs[:320]


class _WatchedGrpo(Grpo):
    look_every = 5
    cost = (0.45, 2)

    @property
    def steps(self) -> int:
        return self.settings.trap_steps

    def finish(self) -> dict[str, Any]:
        return _short(self)


class SoundGrpo(_WatchedGrpo):
    """As the stage does it, fewer steps."""

    name, title = "trap-grpo-sound", "sound"


class LuckyGuesses(_WatchedGrpo):
    """Prompts that are solved by luck alone, advantages divided by the deviation, a high rate."""

    name, title = "trap-lucky", "lucky guesses"
    tasks = TASKS
    normalize = True

    @property
    def rate(self) -> float:
        return 3 * self.settings.grpo_rate


class WithK3(_WatchedGrpo):
    """The third estimate as a loss."""

    name, title = "trap-k1-sound", "k3 as a loss"
    beta, kind = 0.3, "k3"
    cost = (0.67, 2)


class WithK1(_WatchedGrpo):
    """The first estimate as a loss: its gradient is 0 on average."""

    name, title = "trap-k1", "k1 as a loss"
    beta, kind = 0.3, "k1"
    cost = (0.67, 2)


class Contains(_WatchedGrpo):
    """The verifier accepts what contains the answer."""

    name, title = "trap-contains", "answer anywhere"

    def judge(self, prompt: str, reply: str, ended: bool) -> float:
        """Return 1 if the answer occurs in the reply."""
        return contains(prompt, reply, ended)


class FirstTwo(_WatchedGrpo):
    """The verifier reads two characters."""

    name, title = "trap-first-two", "first two characters"

    def judge(self, prompt: str, reply: str, ended: bool) -> float:
        """Return 1 if the reply begins as the answer does."""
        return first_two(prompt, reply, ended)


def _short(stage: Stage) -> dict[str, Any]:
    model, life = stage.model, stage.life
    assert model is not None
    model.eval()
    with no_grad():
        return {
            "validation": life.accuracy(model, "validation"),
            "KL an answer": life.divergence(model, few=True),
        }


TRAPS: dict[str, tuple[type[Stage], ...]] = {
    "no-replay": (WithReplay, NoReplay),
    "naive-dpo": (CarefulDpo, NaiveDpo),
    "lucky-guesses": (SoundGrpo, LuckyGuesses),
    "k1-loss": (WithK3, WithK1),
    "flawed-verifiers": (SoundGrpo, Contains, FirstTwo),
}

WHY = {
    "no-replay": "Tuned on answers alone, the model forgets the text that it was pretrained on.",
    "naive-dpo": "Few pairs, many epochs, a weak β and no likelihood of the chosen answers: the "
    "pairs come into order while both answers become unlikely.",
    "lucky-guesses": "Prompts that are solved by luck alone, divided by the group's deviation, at "
    "three times the rate: what survives of the luck is noise.",
    "k1-loss": "As a loss, the first estimate of the divergence pulls nowhere on average; the "
    "third holds the policy.",
    "flawed-verifiers": "What the verifier does not check is what the policy finds.",
}
