"""A task without training: examples in the prompt, answers scored, copies of the test found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from chainrule.data.text import CharTokenizer
from chainrule.modern_llms.pretraining import shingles
from chainrule.neural_networks.backpropagation import no_grad
from chainrule.shapes import Array, Bool, Float
from chainrule.transformers.gpt import GPT

__all__ = ["contaminated", "few_shot_prompt", "score_choices"]


def few_shot_prompt(
    examples: Iterable[tuple[str, str]], question: str, between: str = " -> ", after: str = "\n"
) -> str:
    """Return solved examples, one after the other, and the question without its answer."""
    solved = "".join(f"{text}{between}{answer}{after}" for text, answer in examples)
    return f"{solved}{question}{between.rstrip()}"


def score_choices(
    model: GPT, tokenizer: CharTokenizer, prompt: str, choices: Sequence[str], mean: bool = False
) -> Float[Array, " choices"]:
    """Return log p of each choice after the prompt; ``mean`` divides by its number of tokens.

    A prompt longer than the context loses its beginning.
    Equation: modern-llms/fine-tuning.md#eq-choice

    Raises:
        ValueError: no choice, an empty one, or an empty prompt.
    """
    if not prompt or not choices or not all(choices):
        raise ValueError(f"expected a prompt and choices of a token or more, got {choices}")
    scores = []
    for choice in choices:
        ids = tokenizer.encode(prompt + choice)[-model.config.context - 1 :]
        count = len(tokenizer.encode(choice))
        with no_grad():
            z = model.eval()(ids[None, :-1]).data[0, -count:].astype(np.float64)
        z -= z.max(axis=-1, keepdims=True)
        log_p = z[np.arange(count), ids[-count:]] - np.log(np.exp(z).sum(axis=-1))
        scores.append(log_p.mean() if mean else log_p.sum())
    return np.array(scores)


def contaminated(
    tests: Sequence[str], training: Iterable[str], n: int = 8
) -> Bool[Array, " tests"]:
    """Tell which test texts share a run of ``n`` words with one of the training texts.

    Case and punctuation do not count. A text of fewer words is one run.

    Raises:
        ValueError: ``n`` is below 1.
    """
    if n < 1:
        raise ValueError(f"a run has at least one word, got n={n}")
    seen = {run for text in training for run in shingles(text, n)}
    return np.array([not seen.isdisjoint(shingles(text, n)) for text in tests], dtype=bool)
