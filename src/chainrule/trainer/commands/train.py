"""``chainrule train``: train a GPT on real text, on this CPU or with PyTorch on many devices."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.program import UsageError, missing, typed
from chainrule.trainer.options import Anyway, mine_option, run_mine, taught
from chainrule.trainer.stopping import stop_between_steps

SMALLER = "take a smaller --width, --layers, --context or --batch-size"

# What each option does, and the section of the course that teaches it.
RUN = {
    "data": (
        "'course' (default), 'shakespeare', or a UTF-8 text file.",
        "transformers/gpt#what-counting-can-do",
    ),
    "engine": (
        "numpy, the course's own (default), or torch, which torchrun starts on many processes.",
        "training/distributed-training#on-real-machines",
    ),
}
SETTINGS = {
    "steps": (
        "Optimizer steps in all; with --resume, train on to this one.",
        "transformers/gpt#six-operations",
    ),
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
# How PyTorch computes it; the defaults are those of `chainrule.pytorch.run.Options`.
ENGINE = {
    "parallel": (
        "Of many processes: ddp (a model on each) or fsdp (weights, gradients and moments cut).",
        "training/distributed-training#weights-that-come-and-go",
    ),
    "micro_batch": (
        "Sequences that a process reads at a time (default: all of its share).",
        "training/batching#gradient-accumulation",
    ),
    "bf16": (
        "Products in bfloat16, everything else in float32.",
        "modern-llms/pretraining#what-sixteen-bits-forget",
    ),
    "compile": (
        "Let torch.compile fuse operations.",
        "training/distributed-training#on-real-machines",
    ),
    "fused_attention": (
        "PyTorch's own attention, or the one written out.",
        "transformers/attention#flashattention-fewer-bytes",
    ),
    "fused_adamw": (
        "PyTorch's AdamW in one pass over all numbers.",
        "training/optimizers#adam-and-adamw",
    ),
    "device": (
        "cpu, cuda or mps (default: a GPU where there is one).",
        "training/distributed-training#on-real-machines",
    ),
}
TWIN = "chainrule.pytorch.run"  # by name: without PyTorch everything else works


def _option(name: str, switch: bool = False):
    long = name.replace("_", "-")
    typed_as = f"--{long}/--no-{long}" if switch else f"--{long}"
    return taught(*{**RUN, **SETTINGS, **ENGINE}[name], typed_as, show_default=False)


def train(
    data: Annotated[str | None, _option("data")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run (default: runs/DATA).")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run, bit for bit.")
    ] = False,
    mine: Annotated[bool, mine_option("Train")] = False,
    anyway: Anyway = False,
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
    engine: Annotated[str | None, _option("engine")] = None,
    parallel: Annotated[str | None, _option("parallel")] = None,
    micro_batch: Annotated[int | None, _option("micro_batch")] = None,
    bf16: Annotated[bool | None, _option("bf16", switch=True)] = None,
    compile: Annotated[bool | None, _option("compile", switch=True)] = None,
    fused_attention: Annotated[bool | None, _option("fused_attention", switch=True)] = None,
    fused_adamw: Annotated[bool | None, _option("fused_adamw", switch=True)] = None,
    device: Annotated[str | None, _option("device")] = None,
) -> None:
    """Train a character-level GPT; progress, samples, checkpoints and a report as it goes.

    Each option names the section that teaches it; chainrule learn opens the course.
    """
    given = dict(locals())
    chosen = {name: given[name] for name in SETTINGS if given[name] is not None}
    how = {name: given[name] for name in ENGINE if given[name] is not None}
    options: dict[str, Any] = {"data": data, "out": out, "resume": resume, "chosen": chosen}
    if mine and (engine == "torch" or how):
        raise UsageError("--mine trains with the engine of this course; leave PyTorch's out")
    run_mine("train", options, mine, anyway)
    go(**options, engine=engine, how=how)


def go(
    data: str | None,
    out: Path | str | None,
    resume: bool,
    chosen: dict,
    after: Callable[[int], None] | None = None,
    engine: str | None = None,
    how: dict[str, Any] | None = None,
) -> None:
    """Train as the options say; ``after`` is called with the number of each step that is done.

    Whoever watches the steps does more than a step, so then no seconds are predicted.
    """
    out = None if out is None else Path(out)
    how = how or {}
    if find_spec("matplotlib") is None:
        raise UsageError(missing("matplotlib", "train"))
    try:
        from chainrule.data.text import DataError
        from chainrule.trainer.checkpoint import CheckpointError
        from chainrule.trainer.settings import SettingsError
    except ModuleNotFoundError as error:
        raise UsageError(missing(error.name, "train")) from None
    try:
        if _engine(engine, resume, _folder(data, out)) == "torch":
            _train_with_torch(data, out, resume, chosen, how)
        elif how:
            option = next(iter(how)).replace("_", "-")
            raise UsageError(f"--{option} is PyTorch's; add --engine torch, or leave it out")
        else:
            run = _resumed(data, out, chosen) if resume else _started(data, out, chosen)
            _train(run, after=after, predict=not after)
    except (DataError, SettingsError, CheckpointError) as error:
        raise UsageError(str(error)) from None
    except MemoryError as error:
        raise UsageError(f"{error or 'there is not enough memory'}: {SMALLER}") from None
    except KeyboardInterrupt:
        print("stopped in the middle of a step; --resume continues from the last checkpoint")
        raise typer.Exit(130) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise UsageError(f"cannot write{where}: {error.strerror or error}") from None


def _folder(data: str | None, out: Path | None) -> Path:
    return out if out is not None else Path("runs") / Path(data or "course").stem


def _engine(asked: str | None, resume: bool, folder: Path) -> str:
    """The engine that was asked for, or the one that the run was trained with."""
    from chainrule.trainer import checkpoint

    if asked not in (None, "numpy", "torch"):
        raise UsageError(f"--engine must be numpy or torch, received {asked!r}")
    newest = checkpoint.latest(folder) if resume else None
    kept = checkpoint.read_state(newest).get("engine", "numpy") if newest else "numpy"
    if kept == "torch" and asked == "numpy":
        raise UsageError(f"{folder} was trained with --engine torch; leave out --engine numpy")
    return asked or kept


def _train_with_torch(data, out, resume: bool, chosen: dict, how: dict[str, Any]) -> None:
    try:
        twin = import_module(TWIN)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UsageError(missing("torch")) from None
    with twin.session(how) as world:
        open_run = partial(twin.open_run, world=world, given=how)
        if resume:
            run = _resumed(data, out, chosen, open_run)
        else:
            run = _started(data, out, chosen, open_run, world.first)
        _train(run, partial(twin.launched, world=world))


def _started(data, out, chosen, open_run=None, first=lambda check: check()):
    from chainrule.data.text import load_corpus
    from chainrule.trainer.loop import Run
    from chainrule.trainer.settings import Settings

    folder = _folder(data, out)
    settings = Settings(data=data or "course", **_consistent(chosen))
    first(partial(_refuse_a_run_in, folder))
    start = open_run or Run.start
    return start(folder, settings=settings, corpus=load_corpus(settings.data))


def _refuse_a_run_in(folder: Path) -> None:
    from chainrule.trainer import checkpoint

    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder with --out")
    if newest := checkpoint.latest(folder):
        raise UsageError(
            f"{folder} already holds a run at step {int(newest.name[5:])}; add --resume to "
            f"continue it, or give another folder with --out; to begin anew, delete it"
        )
    if (folder / "losses.jsonl").exists():
        print(f"the run in {folder} ended before its first checkpoint: beginning anew")


def _consistent(chosen: dict) -> dict:
    """Let what was chosen move the defaults that hang on it: a short run has a short warm-up."""
    chosen = dict(chosen)
    if "steps" in chosen:
        chosen.setdefault("warmup", min(100, chosen["steps"] // 10))
    if "learning_rate" in chosen:
        chosen.setdefault("final_learning_rate", chosen["learning_rate"] / 10)
    return chosen


def _resumed(data, out, chosen, open_run=None):
    from chainrule.trainer.loop import Run

    chosen = dict(chosen)
    steps = chosen.pop("steps", None)
    if chosen:
        option = next(iter(chosen)).replace("_", "-")
        raise UsageError(f"--resume continues the run with its own settings; leave out --{option}")
    folder = _folder(data, out)
    run = (open_run or Run.resume)(folder)
    if data is not None and data != run.settings.data:
        raise UsageError(
            f"{folder} was trained on {run.settings.data!r}, not {data!r}; leave out --data"
        )
    if steps is not None:
        run.extend(steps)
    return run


def _train(
    run,
    again=typed,
    after: Callable[[int], None] | None = None,
    predict: bool = False,
) -> None:
    """Train to the end, or until somebody stops it; ``again`` says how to go on.

    With ``predict`` it says before what a step will take, and after how far off that was.
    """
    from rich.console import Console

    from chainrule.trainer.forecast import Forecast

    console = Console(highlight=False, soft_wrap=True, quiet=not run.leads)
    if run.step == run.settings.steps:
        _say_finished(run, console)
        return
    _introduce(run, console)
    forecast = Forecast.of(run) if predict else None
    if forecast:
        console.print(forecast.before())
    with stop_between_steps() as stopped, _progress(console, run) as progress:
        for entry, seconds, speed in _steps(run, stopped):
            if forecast:
                forecast.end(entry, seconds)
            if after:
                after(entry.step)
            _show(run, entry, speed, console, progress)
    if forecast and (said := forecast.after()):
        console.print(said)
    if run.step < run.settings.steps:
        run.save()
        console.print(f"stopped at step {run.step}, saved. Continue with:")
        console.print(f"  {again(f'train --resume --out {run.folder}')}")
        raise typer.Exit(130)
    _report(run, console)


def _say_finished(run, console) -> None:
    """A run that needs no more steps: write its report if it has none."""
    if run.leads and not (run.folder / "REPORT.md").is_file():
        _report(run, console)
        return
    console.print(f"{run.folder} is finished at step {run.step}; sample from it with:")
    console.print(f"  {typed(f'sample {run.folder}')}")


def _introduce(run, console) -> None:
    """What is trained, on how much text."""
    console.print(
        f"{run.parameters:,} parameters, {len(run.train_ids):,} characters to learn "
        f"from, {len(run.validation_ids):,} held out, alphabet of {len(run.tokenizer)}; "
        f"step {run.step} of {run.settings.steps}"
    )
    if run.checked:
        console.print(run.checked)


def _steps(run, stopped: list[int]) -> Iterator[tuple[Any, float, float]]:
    """Each step until the last, or until somebody stops; its seconds, tokens a second so far.

    The seconds of the run are those of its steps: what is done with a step is not counted.
    """
    tokens = run.settings.batch_size * run.settings.context
    last = began = time.perf_counter()
    first = run.step
    for entry in run.remaining():
        now = time.perf_counter()
        run.seconds += now - last
        yield entry, now - last, (entry.step - first) * tokens / (now - began)
        last = time.perf_counter()
        if run.agree(bool(stopped)):
            break


def _show(run, entry, speed: float, console, progress) -> None:
    """A step in the progress bar, if there is one; of an evaluation also a line and a sample."""
    if progress is not None:
        progress.update(0, completed=entry.step, loss=f"{entry.loss:.3f}", speed=f"{speed:,.0f}")
        if entry.validation is not None:
            progress.update(0, validation=f"{entry.validation:.3f}")
    if entry.validation is not None:
        console.print(
            f"step {entry.step:>6}  loss {entry.loss:.3f}  "
            f"validation {entry.validation:.3f}  {speed:,.0f} tokens/s"
        )
        if entry.step < run.settings.steps:
            console.print(_indented(_text(run, 120)), markup=False)


def _report(run, console) -> None:
    """Measure a finished run, and say where the report is."""
    from chainrule.trainer.report import write_report

    sample = _text(run, 600)
    report = write_report(run, sample, lambda what: console.print(f"{what} …"))
    console.print(_indented(sample), markup=False)
    console.print(f"report: {report}\nmore:   {typed(f'sample {run.folder}')}")


def _text(run, length: int) -> str:
    """A sample that does not touch the run's own random generator; of many processes one writes."""
    import numpy as np

    from chainrule.trainer.sampling import stream

    model = run.course_model()
    if model is None:
        return ""
    prompt = "\n" if "\n" in run.tokenizer.alphabet else run.tokenizer.alphabet[0]
    rng = np.random.default_rng(run.settings.seed)
    pieces = stream(model, run.tokenizer, prompt, length, temperature=0.8, top_p=1.0, rng=rng)
    return "".join(pieces).strip("\n")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _progress(console, run):
    """A progress bar in a terminal, nothing elsewhere."""
    if not sys.stdout.isatty() or not run.leads:
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
