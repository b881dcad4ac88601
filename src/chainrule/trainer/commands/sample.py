"""``chainrule sample``: text from a model that ``chainrule train`` made."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from chainrule.program import UsageError, missing


def sample(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the run, or name of an added model (default: the newest in runs/)."
        ),
    ] = None,
    course: Annotated[
        bool,
        typer.Option(
            "--course",
            help="Sample from the model that was trained on this course. "
            "Taught in transformers/gpt#the-run.",
        ),
    ] = False,
    prompt: Annotated[
        str,
        typer.Option(
            help="Text to continue. Taught in transformers/gpt#autoregressive-language-modeling."
        ),
    ] = "\n",
    length: Annotated[
        int,
        typer.Option(
            min=1, help="Characters to draw. Taught in transformers/gpt#choosing-the-next-token."
        ),
    ] = 500,
    temperature: Annotated[
        float,
        typer.Option(
            help="Below 1 sharper, above 1 wilder; 0 always takes the likeliest. "
            "Taught in transformers/gpt#temperature."
        ),
    ] = 0.8,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Draw from so many of the likeliest characters. "
            "Taught in transformers/gpt#cutting-the-tail.",
        ),
    ] = None,
    top_p: Annotated[
        float,
        typer.Option(
            help="Draw from the likeliest characters that hold this probability. "
            "Taught in transformers/gpt#cutting-the-tail."
        ),
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Draw from characters at least so many times as likely as the likeliest. "
            "Taught in transformers/gpt#cutting-the-tail."
        ),
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The same seed, the same text. Taught in transformers/gpt#choosing-the-next-token."
        ),
    ] = None,
    mine: Annotated[
        bool,
        typer.Option(
            "--mine",
            help="Sample with the functions of your workbook that pass. "
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
) -> None:
    """Stream text from a trained model. Each option names the section that teaches it."""
    options = dict(locals())
    del options["mine"], options["anyway"]
    if not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature must be 0 or more, and finite, received {temperature:g}")
    if seed is not None and seed < 0:
        raise UsageError(f"--seed must be 0 or more, received {seed}")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p must be above 0 and at most 1, received {top_p:g}")
    if not 0 <= min_p <= 1:
        raise UsageError(f"--min-p must be from 0 to 1, received {min_p:g}")
    if course and run is not None:
        raise UsageError(f"give a run ({run}) or --course, not both")
    if not prompt:
        raise UsageError("--prompt is empty; give at least one character, or leave it out")
    if anyway and not mine:
        raise UsageError("--anyway belongs to --mine; add that, or leave it out")
    if mine:
        from chainrule.trainer.mine import with_mine

        raise typer.Exit(with_mine("sample", options, anyway))
    go(**options)


def go(
    run: Path | str | None,
    course: bool,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int | None,
    top_p: float,
    min_p: float,
    seed: int | None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Sample as the options say; ``after`` is called after each character."""
    run = None if run is None else Path(run)
    try:
        import numpy as np

        from chainrule.data.text import DataError
        from chainrule.models.trained import known_model
        from chainrule.trainer.checkpoint import CheckpointError
        from chainrule.trainer.sampling import stream
        from chainrule.transformers.gpt import load_course_gpt
    except ModuleNotFoundError as error:
        raise UsageError(missing(error.name, "train")) from None
    try:
        model, tokenizer = load_course_gpt() if course else known_model(run or _newest()).pair
        alphabet = getattr(tokenizer, "alphabet", "\n")
        if prompt == "\n" and "\n" not in alphabet:
            prompt = alphabet[0]
        rng = np.random.default_rng(seed)
        tokenizer.encode(prompt)
        print(prompt.lstrip("\n"), end="", flush=True)
        for piece in stream(
            model,
            tokenizer,
            prompt,
            length,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            rng=rng,
        ):
            print(piece, end="", flush=True)
            after()
        print()
    except (DataError, CheckpointError) as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        print()
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()


def _newest() -> Path:
    """The run with the newest checkpoint under ``runs/``."""
    found = list(Path("runs").glob("*/step-*/state.json"))
    if not found:
        raise UsageError("no trained model in runs/; type: chainrule train")
    return max(found, key=lambda path: path.stat().st_mtime).parents[1]
