"""``chainrule life``: one small GPT from raw text to a served assistant, every stage measured."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from chainrule.program import UsageError, missing, typed
from chainrule.trainer.stopping import stop_between_steps

STAGES = (
    "tokenizer", "pretrain", "sft", "reward", "control", "rejection", "dpo", "ppo", "grpo", "lora",
    "quantize", "serve",
)  # fmt: skip
TRAPS = ("no-replay", "naive-dpo", "lucky-guesses", "k1-loss", "flawed-verifiers")


def life(
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/life"),
    text: Annotated[
        Path | None,
        typer.Option(help="Pretrain on this UTF-8 text instead of the course and the plays."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, max=20, help="Run the stages that improve on sft so often.")
    ] = 1,
    stage: Annotated[
        str | None, typer.Option(help=f"Run this stage alone: {', '.join(STAGES)}.")
    ] = None,
    trap: Annotated[
        str | None,
        typer.Option(help=f"Run a stage done badly, beside its sound twin: {', '.join(TRAPS)}."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A tiny model and few steps, to try the machinery.")
    ] = False,
) -> None:
    """Take a small GPT through its whole life; the same command continues where it was stopped.

    Tokenizer, pretraining, instruction tuning, reward model, DPO, PPO, GRPO, a second task with
    LoRA, fewer bits, serving. Each stage adds a page to report.html in the run's folder. Taught in
    modern-llms; chainrule chat talks to the result.
    """
    if stage is not None and stage not in STAGES:
        raise UsageError(f"there is no stage {stage!r}; there are {', '.join(STAGES)}")
    if trap is not None and trap not in TRAPS:
        raise UsageError(f"there is no trap {trap!r}; there are {', '.join(TRAPS)}")
    if trap is not None and stage is not None:
        raise UsageError("give --stage or --trap, not both")
    if trap is not None and seeds > 1:
        raise UsageError("a trap is run once; leave out --seeds")
    try:
        from chainrule.life.run import Life
        from chainrule.life.settings import quick as quickly
    except ModuleNotFoundError as error:
        raise UsageError(missing(error.name, "train")) from None
    run = Life.open(out, quickly() if quick else None, text)
    try:
        _live(run, seeds, stage, trap)
    except KeyboardInterrupt:
        print(f"stopped; the same command continues: {_again()}")
        raise typer.Exit(130) from None


def _live(run, seeds: int, stage: str | None, trap: str | None) -> None:
    from rich.console import Console

    from chainrule.life.plan import due, slowness
    from chainrule.life.report import write_report
    from chainrule.life.run import Stopped

    console = Console(highlight=False, soft_wrap=True)
    wanted = due(run, seeds, stage, trap)
    if not wanted:
        console.print(f"nothing is left to do; report: {write_report(run)}")
        return
    slow = slowness(run)
    total = sum(each.seconds for each in wanted) * slow
    console.print(f"{len(wanted)} stages, about {_minutes(total)} on this machine as it is now:")
    for each in wanted:
        console.print(f"  {each.name:12} {each.seconds * slow:5.0f} s  {each.kind.title}")
    with stop_between_steps() as stopped:
        for each in wanted:
            began = time.perf_counter()
            with _progress(console, each) as tell:
                try:
                    run.run(each.kind, each.seed, tell, lambda: bool(stopped))
                except Stopped as at:
                    console.print(f"stopped in {each.name} at step {at}, saved. Continue with:")
                    console.print(f"  {_again()}", markup=False)
                    raise typer.Exit(130) from None
            taken = time.perf_counter() - began
            announced = each.seconds * slow
            console.print(f"{each.name:12} {taken:5.0f} s ({announced:.0f} announced)  "
                          f"{_said(run.result(each.name))}", markup=False)  # fmt: skip
            report = write_report(run)
            if stopped:
                console.print(f"stopped after {each.name}. Continue with:")
                console.print(f"  {_again()}", markup=False)
                raise typer.Exit(130)
    console.print(f"report: {report}")
    if run.best() is not None:
        console.print(f"talk:   {typed(f'chat {run.folder}')}", markup=False)


def _again() -> str:
    return typed(" ".join(sys.argv[1:])) if sys.argv[1:2] == ["life"] else typed("life")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _said(result: dict) -> str:
    """The one number of a stage that a line has room for."""
    measures = result["measures"]
    if "accuracy" in measures:
        return f"{100 * measures['accuracy']:.1f} % of new prompts right"
    if "held-out pairs preferred" in measures:
        return f"{measures['held-out pairs preferred']:.2f} of held-out pairs preferred"
    if "validation" in measures:
        return f"{100 * measures['validation']:.1f} % right"
    return ""


def _progress(console, each):
    """A progress bar in a terminal, nothing elsewhere."""
    if not sys.stdout.isatty():
        return nullcontext(None)
    return _bar(console, each)


@contextmanager
def _bar(console, each):
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(each.name, total=None, said="")

        def tell(stage) -> None:
            last = stage.curve[-1]
            said = f"{stage.columns[0]} {last[0]:.3f}" if stage.columns else ""
            progress.update(task, total=stage.steps, completed=stage.done, said=said)

        yield tell
