"""The training loop: a run that can be killed at any moment and continued to the same last bit.

All that the next step depends on is in the checkpoint: parameters, the optimizer's moments,
the state of the random generator, the step. The text is copied into the run's folder, so that
editing the source between two sittings changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.data.text import CharTokenizer, Corpus
from chainrule.math_foundations.probability import logsumexp
from chainrule.neural_networks.backpropagation import load_state, no_grad, save_state
from chainrule.shapes import Array, Float, Int
from chainrule.trainer import checkpoint
from chainrule.trainer.settings import Settings, SettingsError
from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_, warmup_cosine
from chainrule.transformers.gpt import GPT, gpt_config, windows
from chainrule.transformers.transformer_architecture import TransformerConfig, count_params

PARTS = ("train", "validation")

WINDOWS = 32
"""Windows of the held-out text that are looked at together."""

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

    Another engine is a subclass that overrides what touches the model: `build`, `update`,
    `window_losses`, `course_model`, `save` and `restore`. Of several processes one `leads`: it
    writes the files and speaks.

    Raises:
        SettingsError: the text is shorter than one context.
    """

    leads = True
    checked = ""  # what was made sure of before the first step

    def __init__(self, folder: Path, settings: Settings, corpus: Corpus):
        self.folder, self.settings, self.corpus = folder, settings, corpus
        for part in PARTS:
            length = len(getattr(corpus, part))
            if length < settings.context + 1:
                left = f"; without {corpus.unseen}, which training never shows" * bool(
                    corpus.unseen
                )
                advice = "give a longer text" + " or a smaller --context" * (length > 1)
                raise SettingsError(
                    f"the {part} part of {corpus.name!r} has {length} characters, fewer than one "
                    f"context and its target ({settings.context + 1}){left}; {advice}"
                )
        self.tokenizer = CharTokenizer(corpus.alphabet)
        self.train_ids = self.tokenizer.encode(corpus.train)
        self.validation_ids = self.tokenizer.encode(corpus.validation)
        check_memory(settings, len(self.tokenizer))
        self.rng = np.random.default_rng(settings.seed)
        self.step = 0
        self.seconds = 0.0
        self.build()

    def build(self) -> None:
        """Make the model and its optimizer."""
        self.model = build_model(self.settings, len(self.tokenizer), self.rng)
        self.optimizer = build_optimizer(self.settings, self.model)

    @classmethod
    def start(cls, folder: Path, settings: Settings, corpus: Corpus, **engine: Any) -> Run:
        """A new run; its text and an empty record go to its folder."""
        run = cls(folder, settings, corpus, **engine)
        if not run.leads:
            return run
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            path = folder / f"{part}.txt"
            path.write_text(getattr(corpus, part), encoding="utf-8", newline="\n")
        (folder / "losses.jsonl").write_text("")
        return run

    @classmethod
    def resume(cls, folder: Path, **engine: Any) -> Run:
        """Continue from the newest checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        newest = checkpoint.latest(folder)
        if newest is None:
            message = f"{folder} holds no checkpoint; start it without --resume"
            raise checkpoint.CheckpointError(message)
        state = checkpoint.read_state(newest)
        try:
            settings = Settings.from_dict(state["settings"])
            check_size(settings, len(state["alphabet"]), newest)
            corpus = Corpus(state["corpus"], *kept_texts(folder, state))
            run = cls(folder, settings, corpus, **engine)
            run.restore(newest, state)
            run.rng.bit_generator.state = state["rng"]
            run.step, run.seconds = state["step"], state["seconds"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise checkpoint.damaged(newest, f"{type(error).__name__}: {error}") from None
        if run.leads:
            run._forget_after(run.step)
        return run

    def restore(self, newest: Path, state: dict[str, Any]) -> None:
        """Fill model and optimizer from a checkpoint and its state."""
        load_weights(self.model, newest)
        load_moments(self.optimizer, newest, state)

    def extend(self, steps: int) -> None:
        """Train on to another step; the schedule of the learning rate is stretched to it.

        Raises:
            SettingsError: the run is already further.
        """
        if steps < self.step:
            raise SettingsError(f"--steps {steps} is behind the run, which is at step {self.step}")
        self.settings = replace(self.settings, steps=steps)

    @property
    def described(self) -> str:
        """What the run computes with."""
        return f"NumPy {np.__version__}"

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
        settings = self.settings
        rate = warmup_cosine(
            self.step,
            settings.learning_rate,
            settings.warmup,
            settings.steps,
            settings.final_learning_rate,
        )
        loss = self.update(*self._batch(), rate)
        self.step += 1
        last = self.step == settings.steps
        due = last or self.step % settings.evaluate_every == 0
        entry = Step(self.step, loss, self.evaluate(QUICK_TOKENS).mean if due else None)
        if not math.isfinite(entry.loss):
            raise SettingsError(
                f"the loss at step {self.step} is {entry.loss}: the run diverged; train anew with "
                f"a --learning-rate below {settings.learning_rate:g}, and with another --out"
                + f" than {self.folder}"
                * (checkpoint.latest(self.folder) is not None)
            )
        if self.leads:
            with (self.folder / "losses.jsonl").open("a") as record:
                record.write(json.dumps(vars(entry)) + "\n")
        return entry

    def update(
        self, inputs: Int[Array, "batch time"], targets: Int[Array, "batch time"], rate: float
    ) -> float:
        """One step of the optimizer on a batch; the batch's loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.model.loss(inputs, targets)
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        return float(loss.data)

    def agree(self, stop: bool) -> bool:
        """Whether to stop: of several processes, all say the same."""
        return stop

    def course_model(self) -> GPT | None:
        """The course's GPT with the present weights; None where another process leads."""
        return self.model

    def evaluate(self, tokens: int, warm: bool = False) -> Evaluation:
        """Mean loss on evenly spaced windows of the held-out text, without dropout.

        With ``warm`` only the second half of each window counts, so that every counted
        character is predicted from at least half a context.
        """
        context, ids = self.settings.context, self.validation_ids
        counted = context - context // 2 if warm else context
        windows = min(max(1, tokens // counted), (len(ids) - 1) // context)
        starts = np.linspace(0, len(ids) - 1 - context, windows).astype(int)
        losses = self.window_losses(ids[starts[:, None] + np.arange(context + 1)], counted)
        return Evaluation(float(losses.mean()), losses.size, starts)

    def window_losses(
        self, rows: Int[Array, "windows longer"], counted: int
    ) -> Float[Array, "windows counted"]:
        """−log p of the last ``counted`` characters of each row, without dropout."""
        self.model.eval()
        losses = []
        with no_grad():
            for some in np.array_split(rows, math.ceil(len(rows) / WINDOWS)):
                logits = self.model(some[:, :-1]).data[:, -counted:].astype(np.float64)
                chosen = np.take_along_axis(logits, some[:, -counted:, None], axis=-1)[..., 0]
                losses.append(logsumexp(logits) - chosen)
        return np.concatenate(losses)

    def state(self) -> dict[str, Any]:
        """What a checkpoint says of the run beside its arrays."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "corpus": self.corpus.name,
            "alphabet": self.tokenizer.alphabet,
            "texts": {part: digest(getattr(self.corpus, part)) for part in PARTS},
            "settings": self.settings.as_dict(),
            "rng": self.rng.bit_generator.state,
        }

    def save(self) -> None:
        """Write a checkpoint of the present step."""
        arrays, numbers = flatten(self.optimizer.state_dict())
        state = {**self.state(), "optimizer": numbers}
        files = {
            "model.safetensors": lambda path: save_state(path, self.model.state_dict()),
            "optimizer.safetensors": lambda path: save_state(path, arrays),
        }
        checkpoint.save(self.folder, self.step, files, state)

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


def model_config(settings: Settings, vocabulary: int) -> TransformerConfig:
    """The configuration of the GPT that the settings describe."""
    return gpt_config(
        vocab_size=vocabulary,
        context=settings.context,
        layers=settings.layers,
        heads=settings.heads,
        width=settings.width,
        dropout=settings.dropout,
    )


def build_model(settings: Settings, vocabulary: int, rng: np.random.Generator) -> GPT:
    """The GPT that the settings describe, freshly initialized."""
    return GPT(model_config(settings, vocabulary), rng)


def build_optimizer(settings: Settings, model: GPT) -> AdamW:
    """AdamW as the settings describe it; only matrices decay."""
    return AdamW(
        ParamGroups.matrices_decay(model.parameters(), settings.weight_decay),
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
    )


def digest(text: str) -> str:
    """What a checkpoint keeps of a text, to know it again."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def kept_texts(folder: Path, state: dict[str, Any]) -> list[str]:
    """The two texts of a run, as they were when it began.

    Raises:
        CheckpointError: one is missing, or is another one; the checkpoints are sound.
    """
    texts = []
    for part in PARTS:
        path = folder / f"{part}.txt"
        sound = "its checkpoints are as they were: put the text of the run's start back there"
        try:
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8 text"
            raise checkpoint.CheckpointError(f"{path}: {why}; {sound}") from None
        kept = state.get("texts", {}).get(part)
        known = part != "train" or set(text) == set(state["alphabet"])
        if not known or kept not in (None, digest(text)):
            message = f"{path} is not the text that the run began with; {sound}"
            raise checkpoint.CheckpointError(message)
        texts.append(text)
    return texts


def check_size(settings: Settings, vocabulary: int, newest: Path) -> None:
    """Refuse settings that describe more weights than a checkpoint holds, before they are made.

    Raises:
        ValueError: they do.
    """
    counted = count_params(model_config(settings, vocabulary))
    most = (newest / "model.safetensors").stat().st_size // 4
    if counted > most:
        message = f"its settings describe {counted:,} numbers, model.safetensors holds {most:,}"
        raise ValueError(message)


def check_memory(settings: Settings, vocabulary: int) -> None:
    """Refuse what cannot fit: weights, gradients and moments, or the streams of one batch.

    Raises:
        SettingsError: they need more memory than this machine has.
    """
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    rows = settings.batch_size * settings.context
    numbers = 4 * count_params(model_config(settings, vocabulary))
    numbers += rows * (vocabulary + settings.layers * settings.width)
    if 4 * numbers > there:
        raise SettingsError(
            f"this run needs {4e-9 * numbers:,.0f} GB of memory or more, this machine has "
            f"{1e-9 * there:,.0f}; take a smaller --width, --layers, --context or --batch-size"
        )


def load_weights(model: GPT, folder: Path) -> None:
    """Fill a model from a checkpoint's ``model.safetensors``."""
    model.load_state_dict(load_state(folder / "model.safetensors"))


def load_moments(optimizer: AdamW, folder: Path, state: dict[str, Any]) -> None:
    """Fill an optimizer from a checkpoint's ``optimizer.safetensors`` and its state."""
    arrays = load_state(folder / "optimizer.safetensors")
    optimizer.load_state_dict(unflatten(arrays, state["optimizer"]))


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
