"""``chainrule sample``: text from a model that ``chainrule train`` made."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.program import UsageError, missing
from chainrule.trainer.options import Anyway, mine_option, run_mine, taught
from chainrule.trainer.stopping import writing

# What each option does, and the section of transformers/gpt that teaches it.
OPTIONS = {
    "course": ("Sample from the model that was trained on this course.", "the-run"),
    "prompt": ("Text to continue.", "autoregressive-language-modeling"),
    "length": ("Characters to draw.", "choosing-the-next-token"),
    "temperature": (
        "Below 1 sharper, above 1 wilder; 0 always takes the likeliest.",
        "temperature",
    ),
    "top_k": ("Draw from so many of the likeliest characters.", "cutting-the-tail"),
    "top_p": (
        "Draw from the likeliest characters that hold this probability.",
        "cutting-the-tail",
    ),
    "min_p": (
        "Draw from characters at least so many times as likely as the likeliest.",
        "cutting-the-tail",
    ),
    "seed": ("The same seed, the same text.", "choosing-the-next-token"),
}


def _option(name: str, *names: str, **settings: Any) -> Any:
    what, section = OPTIONS[name]
    return taught(what, f"transformers/gpt#{section}", *names, **settings)


def sample(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the run, or name of an added model (default: the newest in runs/)."
        ),
    ] = None,
    course: Annotated[bool, _option("course", "--course")] = False,
    prompt: Annotated[str, _option("prompt")] = "\n",
    length: Annotated[int, _option("length", min=1)] = 500,
    temperature: Annotated[float, _option("temperature")] = 0.8,
    top_k: Annotated[int | None, _option("top_k", min=1)] = None,
    top_p: Annotated[float, _option("top_p")] = 1.0,
    min_p: Annotated[float, _option("min_p")] = 0.0,
    seed: Annotated[int | None, _option("seed")] = None,
    mine: Annotated[bool, mine_option("Sample")] = False,
    anyway: Anyway = False,
) -> None:
    """Stream text from a trained model. Each option names the section that teaches it."""
    choosing: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
    }
    _refuse_odd(seed=seed, **choosing)
    if course and run is not None:
        raise UsageError(f"give a run ({run}) or --course, not both")
    if not prompt:
        raise UsageError("--prompt is empty; give at least one character, or leave it out")
    options: dict[str, Any] = {
        "run": run, "course": course, "prompt": prompt, "length": length, "seed": seed,
        "choosing": choosing,
    }  # fmt: skip
    run_mine("sample", options, mine, anyway)
    go(**options)


def _refuse_odd(
    temperature: float, top_k: int | None, top_p: float, min_p: float, seed: int | None
) -> None:
    """Refuse numbers that say nothing about how to choose; typer has looked at ``top_k``."""
    if not 0 <= temperature < math.inf:
        raise UsageError(f"--temperature must be 0 or more, and finite, received {temperature:g}")
    if seed is not None and seed < 0:
        raise UsageError(f"--seed must be 0 or more, received {seed}")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p must be above 0 and at most 1, received {top_p:g}")
    if not 0 <= min_p <= 1:
        raise UsageError(f"--min-p must be from 0 to 1, received {min_p:g}")


def go(
    run: Path | str | None,
    course: bool,
    prompt: str,
    length: int,
    seed: int | None,
    choosing: dict[str, Any],
    after: Callable[[], None] = lambda: None,
) -> None:
    """Sample as the options say; ``after`` is called after each character.

    ``choosing`` holds the temperature and what cuts the tail off.
    """
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
        with writing():
            model, tokenizer = load_course_gpt() if course else known_model(run or _newest()).pair
            alphabet = getattr(tokenizer, "alphabet", "\n")
            if prompt == "\n" and "\n" not in alphabet:
                prompt = alphabet[0]
            rng = np.random.default_rng(seed)
            tokenizer.encode(prompt)
            print(prompt.lstrip("\n"), end="", flush=True)
            for piece in stream(model, tokenizer, prompt, length, **choosing, rng=rng):
                print(piece, end="", flush=True)
                after()
    except (DataError, CheckpointError) as error:
        raise UsageError(str(error)) from None


def _newest() -> Path:
    """The run with the newest checkpoint under ``runs/``."""
    found = list(Path("runs").glob("*/step-*/state.json"))
    if not found:
        raise UsageError("no trained model in runs/; type: chainrule train")
    return max(found, key=lambda path: path.stat().st_mtime).parents[1]
