"""Everything that decides what a training run computes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

MOST = 10**9


class SettingsError(ValueError):
    """A setting is out of range or contradicts another; the message names it and the way out."""


@dataclass(frozen=True)
class Settings:
    """A run is a function of these and of its text: the same settings, the same loss curve.

    Units: ``context`` and ``batch_size`` in tokens and sequences, ``steps``, ``warmup`` and the
    two ``*_every`` in optimizer steps, ``clip`` in the global 2-norm of the gradient.
    """

    data: str = "course"
    steps: int = 2000
    batch_size: int = 12
    context: int = 64
    layers: int = 4
    heads: int = 4
    width: int = 128
    dropout: float = 0.0
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    warmup: int = 100
    weight_decay: float = 0.1
    beta2: float = 0.99
    clip: float = 1.0
    evaluate_every: int = 250
    save_every: int = 250
    seed: int = 1337

    def __post_init__(self):
        counts = "steps batch_size context layers heads width evaluate_every save_every"
        for name in counts.split():
            self._require(
                1 <= getattr(self, name) <= MOST, name, f"at least 1 and at most {MOST:,}"
            )
        self._require(self.warmup >= 0, "warmup", "0 or more")
        self._require(0 <= self.seed < 2**63, "seed", "from 0 to 2**63 - 1")
        self._require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1")
        self._require(0 < self.learning_rate < math.inf, "learning_rate", "above 0, and finite")
        self._require(0 <= self.weight_decay < math.inf, "weight_decay", "0 or more, and finite")
        self._require(0 <= self.beta2 < 1, "beta2", "at least 0 and below 1")
        self._require(self.clip > 0, "clip", "above 0")
        if self.width % self.heads:
            raise SettingsError(
                f"--width {self.width} does not divide into --heads {self.heads}; "
                f"try --width {self.width - self.width % self.heads or self.heads}"
            )
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise SettingsError(
                f"--final-learning-rate {self.final_learning_rate:g} is not between 0 and "
                f"--learning-rate {self.learning_rate:g}; lower it"
            )
        if self.warmup >= self.steps and self.steps > 1:
            raise SettingsError(
                f"--warmup {self.warmup} leaves none of --steps {self.steps}; "
                f"try --warmup {self.steps // 10}"
            )

    def _require(self, holds: bool, name: str, range_: str) -> None:
        if not holds:
            option, value = name.replace("_", "-"), getattr(self, name)
            raise SettingsError(f"--{option} must be {range_}, received {value}")

    def as_dict(self) -> dict[str, str | int | float]:
        """For the checkpoint's JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Settings:
        """From a checkpoint's JSON.

        Raises:
            SettingsError: a name is missing or unknown.
        """
        expected = {field.name for field in fields(cls)}
        if not isinstance(values, dict):
            raise SettingsError(f"settings must be a table, received {values!r:.40}")
        if values.keys() != expected:
            difference = ", ".join(sorted(expected ^ values.keys()))
            raise SettingsError(f"settings missing or unknown: {difference}")
        return cls(**values)
