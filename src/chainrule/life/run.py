"""The pipeline: which stages there are, where they lie, and how one is run, stopped and resumed.

A run's folder holds ``settings.json``, the reader's text if there is one, ``stages/NAME`` for
what is finished (``NAME-2`` of the third seed), and ``working/NAME`` for the checkpoints of what is
not. A finished stage appears whole: it is written beside its place and renamed.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.life.settings import Settings
from chainrule.life.speech import Speech
from chainrule.life.stages import Stage
from chainrule.life.tasks import CONTROL, LEARNED, Example, examples, verify
from chainrule.life.texts import Texts, load_texts
from chainrule.life.writing import pack_rows, reply_log_probs, write
from chainrule.neural_networks.backpropagation import load_state, save_state
from chainrule.program import UsageError, typed
from chainrule.shapes import Array
from chainrule.trainer import checkpoint
from chainrule.transformers.gpt import GPT, bits_per_byte, gpt_config

__all__ = ["Life", "Stopped", "folder_of"]

SAVE_SECONDS = 15.0
"""So often a stage that is at work is saved."""


class Stopped(Exception):
    """A stage was asked to stop; its checkpoint is written, and this says at which step."""


class _Clock:
    """Seconds of a stage, on the wall and of the processor; ``earlier`` are those before a stop."""

    def __init__(self) -> None:
        self.earlier = {"wall": 0.0, "cpu": 0.0}
        self._began = {"wall": time.perf_counter(), "cpu": time.process_time()}

    def used(self) -> dict[str, float]:
        """All seconds so far."""
        now = {"wall": time.perf_counter(), "cpu": time.process_time()}
        return {kind: self.earlier[kind] + now[kind] - self._began[kind] for kind in now}


def folder_of(stage: type[Stage], seed: int) -> str:
    """The name of a finished stage's folder."""
    return f"{stage.name}-{seed}" if stage.repeated and seed else stage.name


class Life:
    """A run in its folder: settings, texts, and what its stages have left.

    Raises:
        UsageError: the folder holds something else, or its files are damaged.
    """

    def __init__(self, folder: Path, settings: Settings, texts: Texts) -> None:
        self.folder, self.settings, self.texts = folder, settings, texts
        self._cache: dict[str, Any] = {}

    @classmethod
    def open(cls, folder: Path, settings: Settings | None = None, text: Path | None = None) -> Life:
        """Continue the run in a folder, or begin one there."""
        stored = folder / "settings.json"
        if stored.is_file():
            try:
                found = json.loads(stored.read_text(encoding="utf-8"))
                own = Settings.from_dict(found["settings"])
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise UsageError(f"{stored} is damaged ({error}); give another --out") from None
            if settings is not None and settings != own:
                raise UsageError(
                    f"{folder} was begun with other settings; continue it without options, or give "
                    f"another folder with --out"
                )
            kept = folder / "text.txt"
            if text is not None and not _same(text, kept):
                raise UsageError(f"{folder} was begun with another text; give another --out")
            return cls(folder, own, load_texts(kept if kept.is_file() else None))
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} holds something else; give another folder with --out")
        own = settings or Settings()
        texts = load_texts(text)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if text is not None:
                _write(folder / "text.txt", text.read_bytes())
            _write(stored, json.dumps({"settings": own.as_dict()}, indent=1).encode())
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror or error}") from None
        return cls(folder, own, load_texts(folder / "text.txt") if text is not None else texts)

    # ---- what stages left -------------------------------------------------------------------

    def place(self, name: str) -> Path:
        """The folder of a finished stage."""
        return self.folder / "stages" / name

    def has(self, name: str) -> bool:
        """Whether a stage is finished."""
        return (self.place(name) / "result.json").is_file()

    def result(self, name: str) -> dict[str, Any]:
        """What a finished stage measured: ``measures``, ``curve``, ``columns``, ``seconds``."""
        path = self.place(name) / "result.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{path} is damaged ({error}); delete {path.parent} to run that stage again"
            ) from None

    @cached_property
    def speech(self) -> Speech:
        """The tokenizer of this run."""
        return Speech.load(self._needed("tokenizer"))

    def _needed(self, name: str) -> Path:
        if not self.has(name):
            stage, _, seed = name.partition("-")
            words = f"life --out {self.folder} --stage {stage}"
            words += f" --seeds {int(seed) + 1}" if seed.isdecimal() else ""
            raise UsageError(f"{self.folder} has no {name} yet; type: {typed(words)}")
        return self.place(name)

    def model(self, name: str) -> GPT:
        """A fresh copy of the model that a stage left, in evaluation."""
        path = self._needed(name) / "model.safetensors"
        if name not in self._cache:
            try:
                self._cache[name] = load_state(path)
            except (OSError, ValueError) as error:
                raise UsageError(f"{error}; delete {path.parent} to run that stage again") from None
        s = self.settings
        config = gpt_config(len(self.speech), s.context, s.layers, s.heads, s.width)
        model = GPT(config, np.random.default_rng(0))
        model.load_state_dict(self._cache[name])
        return model.eval()

    def samples(self, seed: int) -> dict[str, Any]:
        """Answers of the tuned model, sorted by the verifier."""
        name = f"reward-{seed}" if seed else "reward"
        path = self._needed(name) / "samples.json"
        return json.loads(path.read_text(encoding="utf-8"))

    def best(self) -> str | None:
        """The tuned model of the first seed with the best validation accuracy, if there is one."""
        tuned = [n for n in ("sft", "control", "rejection", "dpo", "ppo", "grpo") if self.has(n)]
        return max(tuned, key=lambda n: self.result(n)["measures"]["validation"], default=None)

    # ---- measuring ---------------------------------------------------------------------------

    def training_ids(self) -> list[Array]:
        """The training texts as ids."""
        return [self.speech.text(text) for text in self.texts.train.values()]

    def prompts(self, part: str, n: int, tasks: Sequence[str] = LEARNED) -> list[Example]:
        """The same prompts of a part every time, each different."""
        number = sum(map(ord, part + "".join(tasks)))
        return examples(n, np.random.default_rng([17, number]), tasks, part)

    def replies(
        self, model: GPT, asked: Sequence[Example], temperature: float = 0.0, seed: int = 0
    ) -> list[list[int]]:
        """Replies to prompts, drawn in the same way every time."""
        prompts = [self.speech.prompt(e.prompt) for e in asked]
        rng = np.random.default_rng([23, seed])
        order = np.argsort([len(p) for p in prompts], kind="stable").tolist()
        drawn = write(model, [prompts[i] for i in order], self.speech.end, self.settings.answer,
                      temperature, rng)  # fmt: skip
        back: list[list[int]] = [[] for _ in order]
        for i, reply in zip(order, drawn, strict=True):
            back[i] = reply
        return back

    def right(self, asked: Sequence[Example], replies: Sequence[Sequence[int]]) -> Array:
        """What the verifier says of replies."""
        return np.array(
            [verify(e.prompt, *self.speech.read(r)) for e, r in zip(asked, replies, strict=True)]
        )

    def accuracy(
        self, model: GPT, part: str, tasks: Sequence[str] = LEARNED, few: bool = False
    ) -> float:
        """Share of verified greedy answers; ``few`` asks a part of the prompts only."""
        s = self.settings
        n = s.chosen if part == "validation" else s.tested
        if few:
            n = min(n, 200)
        if len(tasks) == 1:
            n = min(n, s.sampled, 300)
        asked = self.prompts(part, n, tasks)
        return float(self.right(asked, self.replies(model, asked)).mean())

    def divergence(self, model: GPT, few: bool = False) -> float:
        """KL to the tuned model in nats an answer, estimated from answers at temperature 1."""
        n = self.settings.sampled
        asked = self.prompts("validation" if few else "test", min(n, 100) if few else n)
        return self._paid(model, asked, self.replies(model, asked, 1.0))

    def _paid(self, model: GPT, asked: Sequence[Example], replies: Sequence[Any]) -> float:
        prompts = [self.speech.prompt(e.prompt) for e in asked]
        rows = pack_rows(prompts, replies, self.speech.end)
        own, before = (reply_log_probs(m, rows) for m in (model, self.model("sft")))
        return float((own - before).mean())

    def bits(self, model: GPT) -> dict[str, float]:
        """Bits a byte of each held-out text, on evenly spaced windows, the same every time."""
        found = {}
        s = self.settings
        for name, text in self.texts.held_out.items():
            if name not in self._cache.setdefault("held out", {}):
                self._cache["held out"][name] = self.speech.text(text)
            ids = self._cache["held out"][name]
            length = min(s.context, len(ids) - 1)
            starts = np.linspace(0, len(ids) - 1 - length, s.windows).astype(int)
            rows = ids[starts[:, None] + np.arange(length + 1)]
            nats, weights = [], []
            for part in np.array_split(rows, max(1, len(rows) // 32)):
                nats.append(model.loss(part[:, :-1], part[:, 1:]).item())
                weights.append(len(part))
            size = sum(len(self.speech.bpe.decode_bytes(row[1:])) for row in rows)
            mean = float(np.average(nats, weights=weights))
            found[name] = bits_per_byte(mean, rows[:, 1:].size, size)
        return found

    def measure(self, stage: Stage) -> dict[str, Any]:
        """Everything that is measured of the model that a stage leaves."""
        from chainrule.life.assistant import Assistant
        from chainrule.life.probes import run_probes
        from chainrule.neural_networks.backpropagation import no_grad

        s, model = self.settings, stage.model
        assert model is not None
        model.eval()
        with no_grad():
            found: dict[str, Any] = {"bits a byte": self.bits(model)}
            began, written = time.process_time(), 0
            asked = self.prompts("test", s.tested)
            replies = self.replies(model, asked)
            written = sum(map(len, replies))
            seconds = time.process_time() - began
            right = self.right(asked, replies)
            kinds = np.array([e.task for e in asked])
            found["accuracy"] = float(right.mean())
            found["by task"] = {t: float(right[kinds == t].mean()) for t in LEARNED}
            found["rules"] = self._rules(asked, replies)
            found["control task"] = self.accuracy(model, "test", (CONTROL,))
            found["validation"] = self.accuracy(model, "validation")
            asked = asked[: s.sampled]
            drawn = self.replies(model, asked, 1.0)
            found["accuracy sampled"] = float(self.right(asked, drawn).mean())
            if self.has("sft"):
                found["KL an answer"] = self._paid(model, asked, drawn)
            elif stage.name == "sft":
                found["KL an answer"] = 0.0
            if stage.seed == 0:
                found["probes"] = run_probes(Assistant(model, self.speech, s), s.probes)
        found["megabytes"] = sum(p.data.nbytes for p in model.parameters()) / 1e6
        found["timing"] = {"tokens a second, answers": written / max(seconds, 1e-9)}
        return found

    def _rules(self, asked: Sequence[Example], replies: Sequence[Any]) -> dict[str, float]:
        """Where the two rules differ: which of them the answers follow, or neither."""
        said = [
            (self.speech.read(r)[0], e)
            for e, r in zip(asked, replies, strict=True)
            if e.right != e.careless
        ]
        right = float(np.mean([text == e.right for text, e in said]))
        wrong = float(np.mean([text == e.careless for text, e in said]))
        return {"right": right, "careless": wrong, "neither": 1 - right - wrong}

    # ---- running one stage -------------------------------------------------------------------

    def run(
        self,
        kind: type[Stage],
        seed: int = 0,
        tell: Callable[[Stage], None] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Run a stage to its end, from its newest checkpoint if there is one.

        ``tell`` is called after every step. Where ``stop()`` is true after one, a checkpoint is
        written.

        Raises:
            Stopped: it was stopped.
            UsageError: a stage that it starts from is missing, or a file is damaged.
        """
        name = folder_of(kind, seed)
        if self.has(name):
            return self.result(name)
        for before in kind.before:
            self._needed(f"{before}-{seed}" if seed and before == "reward" else before)
        stage = kind(self, seed)
        working = self.folder / "working" / name
        clock = _Clock()
        stage.prepare()
        newest = checkpoint.latest(working)
        if newest is not None:
            clock.earlier = self._restore(stage, newest)
        self._take_steps(stage, working, clock, tell, stop)
        steps = clock.used()
        if stage.steps > 1:
            self._save(stage, working, steps)
        measures = stage.finish()
        result = {
            "name": name,
            "stage": stage.name,
            "seed": seed,
            "steps": stage.steps,
            "columns": list(stage.columns),
            "curve": stage.curve,
            "timing": measures.pop("timing", {}) | {"steps": steps, "all": clock.used()},
            "measures": measures,
        }
        self._leave(stage, name, result)
        shutil.rmtree(working, ignore_errors=True)
        return result

    def _take_steps(
        self,
        stage: Stage,
        working: Path,
        clock: _Clock,
        tell: Callable[[Stage], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        """Take the steps that are left, and write a checkpoint now and then, or when stopped."""
        saved = time.perf_counter()
        while stage.done < stage.steps:
            stage.advance()
            if tell is not None:
                tell(stage)
            due = time.perf_counter() - saved > SAVE_SECONDS
            if (due or stop()) and stage.done < stage.steps:
                self._save(stage, working, clock.used())
                saved = time.perf_counter()
            if stop() and stage.done < stage.steps:
                raise Stopped(stage.done)

    def _save(self, stage: Stage, working: Path, used: dict[str, float]) -> None:
        arrays, rest = stage.state()
        files = {"state.safetensors": lambda path: save_state(path, arrays)}
        try:
            checkpoint.save(working, stage.done, files, rest | {"seconds": used})
        except checkpoint.CheckpointError as error:
            raise UsageError(str(error)) from None

    def _restore(self, stage: Stage, newest: Path) -> dict[str, float]:
        try:
            rest = checkpoint.read_state(newest)
            stage.restore(load_state(newest / "state.safetensors"), rest)
        except (checkpoint.CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise UsageError(
                f"checkpoint {newest} is damaged ({first}); delete {newest} to continue from "
                f"an earlier one or from the start of the stage"
            ) from None
        return rest["seconds"]

    def _leave(self, stage: Stage, name: str, result: dict[str, Any]) -> None:
        """Write a finished stage; its folder appears whole."""
        part = self.folder / "stages" / f".{name}.part"
        final = self.place(name)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            if stage.model is not None:
                save_state(part / "model.safetensors", stage.model.state_dict())
            stage.files(part)
            text = json.dumps(result, indent=1)
            (part / "result.json").write_text(text, encoding="utf-8")
            part.rename(final)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise UsageError(
                f"cannot write {final}: {error.strerror or error}; "
                f"the stage continues from its last checkpoint when there is room"
            ) from None


def _same(a: Path, b: Path) -> bool:
    try:
        return a.read_bytes() == b.read_bytes()
    except OSError:
        return False


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
