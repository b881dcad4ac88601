"""The training loop: a run that can be killed at any moment and continued to the same last bit.

All that the next step depends on is in the checkpoint: parameters, the optimizer's moments,
the state of the random generator, the step. The text is copied into the run's folder, so that
editing the source between two sittings changes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.text import CharTokenizer, Corpus
from chainrule.math_foundations.probability import logsumexp
from chainrule.neural_networks.backpropagation import load_state, no_grad, save_state
from chainrule.shapes import Array, Int
from chainrule.trainer import checkpoint
from chainrule.trainer.settings import Settings, SettingsError
from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_, warmup_cosine
from chainrule.transformers.gpt import GPT, gpt_config, windows

QUICK_TOKENS = 16_384
"""Held-out characters per evaluation while training; the report uses more."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step left behind. ``validation`` is None on steps without evaluation."""

    step: int
    loss: float
    validation: float | None


class Run:
    """One training run in its folder.

    Raises:
        SettingsError: the text is shorter than one context.
    """

    def __init__(self, folder: Path, settings: Settings, corpus: Corpus):
        self.folder, self.settings, self.corpus = folder, settings, corpus
        for part in ("train", "validation"):
            length = len(getattr(corpus, part))
            if length < settings.context + 1:
                raise SettingsError(
                    f"the {part} part of {corpus.name!r} has {length} characters, fewer than one "
                    f"context and its target ({settings.context + 1}); give a longer text or a "
                    f"smaller --context"
                )
        self.tokenizer = CharTokenizer(corpus.alphabet)
        self.train_ids = self.tokenizer.encode(corpus.train)
        self.validation_ids = self.tokenizer.encode(corpus.validation)
        self.rng = np.random.default_rng(settings.seed)
        self.model = build_model(settings, len(self.tokenizer), self.rng)
        self.optimizer = AdamW(
            ParamGroups.matrices_decay(self.model.parameters(), settings.weight_decay),
            lr=settings.learning_rate,
            betas=(0.9, settings.beta2),
        )
        self.step = 0
        self.seconds = 0.0

    @classmethod
    def start(cls, folder: Path, settings: Settings, corpus: Corpus) -> Run:
        """A new run; its text and an empty record go to its folder."""
        run = cls(folder, settings, corpus)
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "validation"):
            path = folder / f"{part}.txt"
            path.write_text(getattr(corpus, part), encoding="utf-8", newline="\n")
        (folder / "losses.jsonl").write_text("")
        return run

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """Continue from the newest checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        newest = checkpoint.latest(folder)
        if newest is None:
            message = f"{folder} holds no checkpoint; start a run without --resume"
            raise checkpoint.CheckpointError(message)
        state = checkpoint.read_state(newest)
        try:
            settings = Settings.from_dict(state["settings"])
            texts = [
                (folder / f"{part}.txt").read_bytes().decode("utf-8")
                for part in ("train", "validation")
            ]
            run = cls(folder, settings, Corpus(state["corpus"], *texts))
            load_weights(run.model, newest)
            run.optimizer.load_state_dict(
                unflatten(load_state(newest / "optimizer.safetensors"), state["optimizer"])
            )
            run.rng.bit_generator.state = state["rng"]
            run.step, run.seconds = state["step"], state["seconds"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise checkpoint.damaged(newest, f"{type(error).__name__}: {error}") from None
        run._forget_after(run.step)
        return run

    @property
    def parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.size for parameter in self.model.parameters())

    def losses(self) -> list[Step]:
        """The record so far, one entry a step; a line cut off by a kill is not an entry."""
        entries = []
        for line in (self.folder / "losses.jsonl").read_text().splitlines():
            with suppress(ValueError, TypeError):
                entries.append(Step(**json.loads(line)))
        return entries

    def advance(self) -> Step:
        """One optimizer step, recorded."""
        settings, model = self.settings, self.model
        rate = warmup_cosine(
            self.step,
            settings.learning_rate,
            settings.warmup,
            settings.steps,
            settings.final_learning_rate,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = self._batch()
        model.train()
        self.optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        self.optimizer.step()
        self.step += 1
        last = self.step == settings.steps
        due = last or self.step % settings.evaluate_every == 0
        entry = Step(self.step, float(loss.data), self.evaluate(QUICK_TOKENS).mean if due else None)
        if not math.isfinite(entry.loss):
            raise SettingsError(
                f"the loss at step {self.step} is {entry.loss}; continue from the last checkpoint "
                f"with a smaller --learning-rate"
            )
        with (self.folder / "losses.jsonl").open("a") as record:
            record.write(json.dumps(vars(entry)) + "\n")
        return entry

    def evaluate(self, tokens: int, warm: bool = False) -> Evaluation:
        """Mean loss on evenly spaced windows of the held-out text, without dropout.

        With ``warm`` only the second half of each window counts, so that every counted
        character is predicted from at least half a context.
        """
        context, ids = self.settings.context, self.validation_ids
        counted = context - context // 2 if warm else context
        windows = min(max(1, tokens // counted), (len(ids) - 1) // context)
        starts = np.linspace(0, len(ids) - 1 - context, windows).astype(int)
        self.model.eval()
        totals = []
        with no_grad():
            for some in np.array_split(starts, math.ceil(windows / 32)):
                rows = ids[some[:, None] + np.arange(context + 1)]
                logits = self.model(rows[:, :-1]).data[:, -counted:].astype(np.float64)
                chosen = np.take_along_axis(logits, rows[:, -counted:, None], axis=-1)[..., 0]
                totals.append((logsumexp(logits) - chosen).ravel())
        losses = np.concatenate(totals)
        return Evaluation(float(losses.mean()), losses.size, starts)

    def save(self) -> Path:
        """Write a checkpoint of the present step."""
        arrays, numbers = flatten(self.optimizer.state_dict())
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "corpus": self.corpus.name,
            "alphabet": self.tokenizer.alphabet,
            "settings": self.settings.as_dict(),
            "optimizer": numbers,
            "rng": self.rng.bit_generator.state,
        }
        files = {
            "model.safetensors": lambda path: save_state(path, self.model.state_dict()),
            "optimizer.safetensors": lambda path: save_state(path, arrays),
        }
        return checkpoint.save(self.folder, self.step, files, state)

    def remaining(self) -> Iterator[Step]:
        """Train to the end, saving as the settings say."""
        while self.step < self.settings.steps:
            entry = self.advance()
            if self.step % self.settings.save_every == 0 or self.step == self.settings.steps:
                self.save()
            yield entry

    def _batch(self) -> tuple[Int[Array, "batch time"], Int[Array, "batch time"]]:
        """Random windows of the training text, and the same one character later."""
        context = self.settings.context
        last = len(self.train_ids) - context
        starts = self.rng.integers(0, last, size=self.settings.batch_size)
        return windows(self.train_ids, starts, context)

    def _forget_after(self, step: int) -> None:
        """Cut the record back to a checkpoint's step."""
        kept = [entry for entry in self.losses() if entry.step <= step]
        record = self.folder / "losses.jsonl"
        part = record.with_suffix(".part")
        part.write_text("".join(json.dumps(vars(entry)) + "\n" for entry in kept))
        part.replace(record)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss in nats a character over ``tokens`` predictions in the windows at ``starts``."""

    mean: float
    tokens: int
    starts: Int[Array, " windows"]


def build_model(settings: Settings, vocabulary: int, rng: np.random.Generator) -> GPT:
    """The GPT that the settings describe, freshly initialized."""
    config = gpt_config(
        vocab_size=vocabulary,
        context=settings.context,
        layers=settings.layers,
        heads=settings.heads,
        width=settings.width,
        dropout=settings.dropout,
    )
    return GPT(config, rng)


def load_weights(model: GPT, folder: Path) -> None:
    """Fill a model from a checkpoint's ``model.safetensors``."""
    model.load_state_dict(load_state(folder / "model.safetensors"))


def flatten(state: dict) -> tuple[dict[str, Array], dict]:
    """Split an optimizer's state into named arrays and a JSON-able rest."""
    arrays: dict[str, Array] = {}

    def walk(value, name):
        if isinstance(value, np.ndarray):
            arrays[name] = value
            return {"array": name}
        if isinstance(value, dict):
            return {str(key): walk(inner, f"{name}.{key}") for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [walk(inner, f"{name}.{i}") for i, inner in enumerate(value)]
        return value.item() if isinstance(value, np.generic) else value

    return arrays, walk(state, "optimizer")


def unflatten(arrays: dict[str, Array], rest: Any) -> Any:
    """Undo `flatten`."""
    if isinstance(rest, dict):
        if rest.keys() == {"array"}:
            return arrays[rest["array"]]
        return {key: unflatten(arrays, inner) for key, inner in rest.items()}
    if isinstance(rest, list):
        return [unflatten(arrays, inner) for inner in rest]
    return rest
