"""``chainrule train``: train a GPT on real text on this CPU."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.program import UsageError, typed

# What each option does, and the section of the course that teaches it.
SETTINGS = {
    "steps": ("Optimizer steps.", "transformers/gpt#six-operations"),
    "batch_size": ("Sequences a step.", "transformers/gpt#one-text-many-examples"),
    "context": ("Characters a sequence.", "transformers/gpt#the-first-characters-are-the-hardest"),
    "layers": ("Transformer blocks.", "transformers/transformer-architecture"),
    "heads": (
        "Attention heads a block.",
        "transformers/multi-head-attention#multiple-attention-heads-in-parallel",
    ),
    "width": (
        "Width of the residual stream.",
        "transformers/transformer-architecture#the-row-that-everything-adds-to",
    ),
    "learning_rate": (
        "Peak learning rate, after the warm-up.",
        "training/optimizers#adam-and-adamw",
    ),
    "final_learning_rate": (
        "Learning rate at the last step of the cosine.",
        "training/optimizers#why-to-end-small-and-how",
    ),
    "warmup": ("Steps of linear warm-up.", "training/optimizers#why-to-start-small"),
    "dropout": ("Probability of dropping a unit.", "neural-networks/regularization#dropout"),
    "seed": (
        "Seed of initialization, batches and dropout.",
        "transformers/transformer-architecture#how-large-branches-start",
    ),
    "evaluate_every": (
        "Steps between two looks at the held-out text.",
        "neural-networks/regularization#reading-two-curves",
    ),
    "save_every": (
        "Steps between two checkpoints.",
        "neural-networks/regularization#stopping-early-resembles-a-penalty",
    ),
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def _option(name: str):
    what, section = SETTINGS[name]
    words = f"{what} Taught in {section}."
    return typer.Option(f"--{name.replace('_', '-')}", help=words, show_default=False)


def train(
    data: Annotated[
        str | None,
        typer.Option(
            help="'course' (default), 'shakespeare', or a UTF-8 text file. "
            "Taught in transformers/gpt#what-counting-can-do."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/DATA).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run, bit for bit.")
    ] = False,
    mine: Annotated[
        bool,
        typer.Option(
            "--mine",
            help="Train with the functions of your workbook that pass. "
            "Taught in transformers/gpt#the-run.",
        ),
    ] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="With --mine: also those that do not pass. Taught in transformers/gpt#the-run.",
        ),
    ] = False,
    steps: Annotated[int | None, _option("steps")] = None,
    batch_size: Annotated[int | None, _option("batch_size")] = None,
    context: Annotated[int | None, _option("context")] = None,
    layers: Annotated[int | None, _option("layers")] = None,
    heads: Annotated[int | None, _option("heads")] = None,
    width: Annotated[int | None, _option("width")] = None,
    learning_rate: Annotated[float | None, _option("learning_rate")] = None,
    final_learning_rate: Annotated[float | None, _option("final_learning_rate")] = None,
    warmup: Annotated[int | None, _option("warmup")] = None,
    dropout: Annotated[float | None, _option("dropout")] = None,
    seed: Annotated[int | None, _option("seed")] = None,
    evaluate_every: Annotated[int | None, _option("evaluate_every")] = None,
    save_every: Annotated[int | None, _option("save_every")] = None,
) -> None:
    """Train a character-level GPT; progress, samples, checkpoints and a report as it goes.

    Each option names the section that teaches it; chainrule learn opens the course.
    """
    given = dict(locals())
    chosen = {name: given[name] for name in SETTINGS if given[name] is not None}
    options: dict[str, Any] = {"data": data, "out": out, "resume": resume, "chosen": chosen}
    if anyway and not mine:
        raise UsageError("--anyway belongs to --mine; add that, or leave it out")
    if mine:
        from chainrule.trainer.mine import with_mine

        raise typer.Exit(with_mine("train", options, anyway))
    go(**options)


def go(
    data: str | None,
    out: Path | str | None,
    resume: bool,
    chosen: dict,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Train as the options say; ``after`` is called with the number of each step that is done."""
    out = None if out is None else Path(out)
    try:
        from chainrule.data.text import DataError
        from chainrule.trainer.checkpoint import CheckpointError
        from chainrule.trainer.settings import SettingsError
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is missing; type: pip install 'chainrule[train]'") from None
    try:
        run = _resumed(data, out, chosen) if resume else _started(data, out, chosen)
        _train(run, after)
    except (DataError, SettingsError, CheckpointError) as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        print("stopped in the middle of a step; --resume continues from the last checkpoint")
        raise typer.Exit(130) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise UsageError(f"cannot write{where}: {error.strerror or error}") from None


def _folder(data: str | None, out: Path | None) -> Path:
    return out if out is not None else Path("runs") / Path(data or "course").stem


def _started(data, out, chosen):
    from chainrule.data.text import load_corpus
    from chainrule.trainer import checkpoint
    from chainrule.trainer.loop import Run
    from chainrule.trainer.settings import Settings

    folder = _folder(data, out)
    settings = Settings(data=data or "course", **_consistent(chosen))
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder with --out")
    if (folder / "losses.jsonl").exists():
        newest = checkpoint.latest(folder)
        at = f" at step {int(newest.name[5:])}" if newest else ""
        raise UsageError(
            f"{folder} already holds a run{at}; add --resume to continue it, "
            f"or give another folder with --out"
        )
    return Run.start(folder, settings, load_corpus(settings.data))


def _consistent(chosen: dict) -> dict:
    """Let what was chosen move the defaults that hang on it: a short run has a short warm-up."""
    chosen = dict(chosen)
    if "steps" in chosen:
        chosen.setdefault("warmup", min(100, chosen["steps"] // 10))
    if "learning_rate" in chosen:
        chosen.setdefault("final_learning_rate", chosen["learning_rate"] / 10)
    return chosen


def _resumed(data, out, chosen):
    from chainrule.trainer.loop import Run

    if chosen:
        option = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--resume continues the run with its own settings; leave out --{option}")
    folder = _folder(data, out)
    run = Run.resume(folder)
    if data is not None and data != run.settings.data:
        raise UsageError(
            f"{folder} was trained on {run.settings.data!r}, not {data!r}; leave out --data"
        )
    return run


def _train(run, after) -> None:
    from rich.console import Console

    from chainrule.trainer.report import write_report

    console = Console(highlight=False, soft_wrap=True)
    settings = run.settings
    if run.step == settings.steps:
        console.print(f"{run.folder} is finished at step {run.step}; sample from it with:")
        console.print(f"  {typed(f'sample {run.folder}')}")
        return
    console.print(
        f"{run.parameters:,} parameters, {len(run.train_ids):,} characters to learn "
        f"from, {len(run.validation_ids):,} held out, alphabet of {len(run.tokenizer)}; "
        f"step {run.step} of {settings.steps}"
    )
    per_step = settings.batch_size * settings.context
    with _stop_between_steps() as stopped, _progress(console, run) as progress:
        last = time.perf_counter()
        first_step, first_second = run.step, last
        for entry in run.remaining():
            now = time.perf_counter()
            run.seconds += now - last
            after(entry.step)
            last = now
            speed = (entry.step - first_step) * per_step / (now - first_second)
            if progress is not None:
                progress.update(
                    0, completed=entry.step, loss=f"{entry.loss:.3f}", speed=f"{speed:,.0f}"
                )
                if entry.validation is not None:
                    progress.update(0, validation=f"{entry.validation:.3f}")
            if entry.validation is not None:
                console.print(
                    f"step {entry.step:>6}  loss {entry.loss:.3f}  "
                    f"validation {entry.validation:.3f}  {speed:,.0f} tokens/s"
                )
                if entry.step < settings.steps:
                    console.print(_indented(_text(run, 120)), markup=False)
            last = time.perf_counter()
            if stopped:
                break
    if run.step < settings.steps:
        run.save()
        console.print(f"stopped at step {run.step}, saved. Continue with:")
        console.print(f"  {typed(f'train --resume --out {run.folder}')}")
        raise typer.Exit(130)
    console.print("measuring on the held-out text and counting n-grams …")
    sample = _text(run, 600)
    report = write_report(run, sample)
    console.print(_indented(sample), markup=False)
    console.print(f"report: {report}\nmore:   {typed(f'sample {run.folder}')}")


def _text(run, length: int) -> str:
    """A sample that does not touch the run's own random generator."""
    import numpy as np

    from chainrule.trainer.sampling import stream

    prompt = "\n" if "\n" in run.tokenizer.alphabet else run.tokenizer.alphabet[0]
    rng = np.random.default_rng(run.settings.seed)
    pieces = stream(run.model, run.tokenizer, prompt, length, temperature=0.8, top_p=1.0, rng=rng)
    return "".join(pieces).strip("\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


@contextmanager
def _stop_between_steps():
    """Let the first Ctrl-C finish the step; the second stops at once."""
    stopped: list[int] = []

    def on_signal(number, frame):
        stopped.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(console, run):
    """A progress bar in a terminal, nothing elsewhere."""
    if not sys.stdout.isatty():
        return nullcontext(None)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    progress = Progress(
        TextColumn("step {task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}  validation {task.fields[validation]}"),
        TextColumn("{task.fields[speed]} tokens/s"),
        TimeRemainingColumn(),
        console=console,
    )
    progress.add_task(
        "", total=run.settings.steps, completed=run.step, loss="–", validation="–", speed="–"
    )
    return progress
