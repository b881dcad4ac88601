"""The patient: a GPT of 7,000 numbers that is trained, taught to answer, rewarded and served.

Its texts look like ``^b0235612…``: a begin token, a rule from a to d, then digits modulo 7. From an
odd digit place to the next the digits grow by 1, from an even one by the rule's number; one digit
in twenty is random. So a good guess needs the digit before, the rule, and the position.

Everything here uses the engine as a reader would. What a disease breaks is in the engine, or in
one of these short functions: see `chainrule.clinic.diseases`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from chainrule.modern_llms.inference import quantize
from chainrule.modern_llms.instruction_tuning import Rendered, collate, sft_loss
from chainrule.modern_llms.rlhf import (
    grpo_advantages,
    kl_penalty,
    ppo_loss,
    token_log_probs,
)
from chainrule.neural_networks.backpropagation import Tensor, no_grad
from chainrule.shapes import Array
from chainrule.training.optimizers import AdamW, ParamGroups, clip_grad_norm_, warmup_cosine
from chainrule.transformers.gpt import GPT, draw, generate, gpt_config, stream, windows

SYMBOLS = "^abcd0123456."
BEGIN, FIRST_DIGIT, END = 0, 5, 12
CONTEXT, PASSAGE = 12, 13
TEXTS, BATCH, PEAK, WARMUP, CLIP, DECAY, DROPOUT = 300, 16, 0.02, 10, 1.0, 0.1, 0.1
STEPS, LESSONS, ROUNDS = 160, 40, 12
EVERY = 5


# ---- texts -----------------------------------------------------------------------------------


def follows(digit: Any, rule: Any, place: int) -> Any:
    """The digit after one at a place of the passage (the begin token has place 0)."""
    return (digit + (rule if place % 2 == 0 else 1)) % 7


def passages(rng: np.random.Generator, count: int) -> Array:
    """New texts as rows of ids."""
    rows = np.zeros((count, PASSAGE), np.int64)
    rule, digit = rng.integers(1, 5, count), rng.integers(0, 7, count)
    rows[:, 0], rows[:, 1] = BEGIN, rule
    for place in range(2, PASSAGE):
        rows[:, place] = digit + FIRST_DIGIT
        digit = follows(digit, rule, place)
        digit = np.where(rng.random(count) < 0.05, rng.integers(0, 7, count), digit)
    return rows


def shown(ids: Any) -> str:
    """Ids as text."""
    return "".join(SYMBOLS[i] for i in np.asarray(ids).ravel())


def starts(rng: np.random.Generator, count: int) -> Array:
    """Where the passages of a batch begin in the training text."""
    return PASSAGE * rng.integers(0, TEXTS, count)


def batch(ids: Array, rng: np.random.Generator, count: int = BATCH) -> tuple[Array, Array]:
    """Inputs and targets of one step."""
    return windows(ids, starts(rng, count), CONTEXT)


# ---- pretraining -----------------------------------------------------------------------------


def build(seed: int = 0, layers: int = 2, dropout: float = DROPOUT, dtype: str = "float32") -> GPT:
    """A fresh model."""
    config = gpt_config(
        len(SYMBOLS), CONTEXT, layers, heads=2, width=16, dropout=dropout, dtype=dtype
    )
    return GPT(config, np.random.default_rng(seed))


def optimizer_of(model: GPT, rate: float = PEAK) -> AdamW:
    """AdamW as GPTs are trained with it."""
    groups = ParamGroups.matrices_decay(model.parameters(), DECAY)
    return AdamW(groups, lr=rate, betas=(0.9, 0.999))


def update(model: GPT, optimizer: AdamW, loss: Tensor, rate: float) -> float:
    """Forget old gradients, differentiate, clip, step; the norm of the gradient."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    norm = float(clip_grad_norm_(model.parameters(), CLIP))
    optimizer.step()
    return norm


@dataclass
class Trained:
    """A model and what was written down while it was trained: every fifth step."""

    model: GPT
    loss: list[float] = field(default_factory=list)
    norm: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


def loss_of(model: GPT, rows: Array) -> float:
    """The mean loss on whole passages, as evaluation measures it."""
    model.eval()
    inputs, targets = windows(rows.ravel(), PASSAGE * np.arange(len(rows)), CONTEXT)
    with no_grad():
        return float(model.loss(inputs, targets).data)


def pretrain_step(
    model: GPT, optimizer: AdamW, examples: tuple[Array, Array], step: int, steps: int = STEPS
) -> tuple[float, float]:
    """One step of pretraining: its loss, and the norm of its gradient."""
    model.train()
    loss = model.loss(*examples)
    rate = warmup_cosine(step, PEAK, WARMUP, steps, PEAK / 10)
    norm = update(model, optimizer, loss, rate)
    return float(loss.data), norm


def pretrain(layers: int = 2, steps: int = STEPS, seed: int = 0) -> Trained:
    """Train a fresh model on the training text."""
    ids = passages(np.random.default_rng(1), TEXTS).ravel()
    fresh = passages(np.random.default_rng(2), 64)
    rng = np.random.default_rng(3)
    model = build(seed, layers)
    trained, optimizer = Trained(model), optimizer_of(model)
    losses: list[float] = []
    norms: list[float] = []
    for step in range(steps):
        loss, norm = pretrain_step(model, optimizer, batch(ids, rng), step, steps)
        losses.append(loss)
        norms.append(norm)
        if step % EVERY == EVERY - 1:
            trained.loss.append(float(np.mean(losses[-EVERY:])))
            trained.norm.append(float(np.mean(norms[-EVERY:])))
            trained.held_out.append(loss_of(model, fresh))
    return trained


# ---- learning to answer ----------------------------------------------------------------------


def conversation(rule: int, digit: int) -> Rendered:
    """``^b4`` is answered by ``56.``: count on to 6, then the end token."""
    prompt = [BEGIN, rule, digit + FIRST_DIGIT]
    answer = [*range(digit + FIRST_DIGIT + 1, FIRST_DIGIT + 7), END]
    mask = [False] * len(prompt) + [True] * len(answer)
    return Rendered(np.array(prompt + answer, np.int64), np.array(mask))


def lessons(rng: np.random.Generator, count: int) -> list[Rendered]:
    """Questions drawn at random, with their answers."""
    rules, digits = rng.integers(1, 5, count), rng.integers(0, 7, count)
    return [conversation(int(r), int(d)) for r, d in zip(rules, digits, strict=True)]


def answer_loss(model: Callable[[Array], Tensor], examples: list[Rendered]) -> Tensor:
    """The loss of a batch of conversations."""
    ids, mask, real = collate(examples)
    return sft_loss(model(ids), ids, mask, real=real)


def teach(model: GPT, steps: int = LESSONS) -> Trained:
    """Fine-tune a model on conversations."""
    rng = np.random.default_rng(4)
    taught, optimizer = Trained(model), optimizer_of(model, PEAK / 4)
    losses: list[float] = []
    norms: list[float] = []
    for step in range(steps):
        model.train()
        loss = answer_loss(model, lessons(rng, BATCH))
        rate = warmup_cosine(step, PEAK / 4, 4, steps, 0.0)
        norms.append(update(model, optimizer, loss, rate))
        losses.append(float(loss.data))
        if step % EVERY == EVERY - 1:
            taught.loss.append(float(np.mean(losses[-EVERY:])))
            taught.norm.append(float(np.mean(norms[-EVERY:])))
            taught.held_out.append(right_answers(model))
    return taught


def right_answers(model: GPT) -> float:
    """The share of the seven questions of rule b that are answered right, always likeliest."""
    right = 0
    model.eval()
    for digit in range(7):
        whole = conversation(2, digit)
        prompt = whole.ids[~whole.mask]
        count = len(whole.ids) - len(prompt)
        said = generate(model, prompt[None], count, temperature=0)[0]
        right += int(np.array_equal(said, whole.ids))
    return right / 7


# ---- rewards ---------------------------------------------------------------------------------


class Rewarded(NamedTuple):
    """The mean reward and the distance from the reference, round by round."""

    reward: list[float]
    distance: list[float]


def rewards_of(tokens: Array) -> Array:
    """6 for an even digit, 5 for anything else: what the judge pays for the first token said."""
    digit = tokens - FIRST_DIGIT
    return 5.0 + ((digit >= 0) & (digit < 7) & (digit % 2 == 0))


def policy_loss(
    logp: Tensor, old: Array, reference: Array, rewards: Array, price: float = 0.3
) -> Tensor:
    """The clipped objective and the price of leaving the reference; rows are groups."""
    gains = grpo_advantages(rewards, normalize=False)
    return ppo_loss(logp, old, gains) + price * kl_penalty(logp, reference, "k2").mean()


def reward(model: GPT, rounds: int = ROUNDS) -> Rewarded:
    """Reinforce what the judge pays for; replies have one token."""
    rng = np.random.default_rng(5)
    optimizer = optimizer_of(model, 0.003)
    prompts = np.array([[BEGIN, r, d + FIRST_DIGIT] for r in range(1, 5) for d in range(0, 7, 2)])
    model.eval()
    with no_grad():
        start = log_law(model, prompts)
    found = Rewarded([], [])
    for _ in range(rounds):
        ids = np.repeat(prompts, 8, axis=0)
        with no_grad():
            said = draw(model(ids).data[:, -1], rng=rng)
        ids = np.concatenate([ids, said[:, None]], axis=1)
        paid = rewards_of(said).reshape(len(prompts), 8)
        logp = token_log_probs(model, ids, 3)[:, 0].reshape(len(prompts), 8)
        reference = np.take_along_axis(start, said.reshape(len(prompts), 8), axis=1)
        loss = policy_loss(logp, logp.data.copy(), reference, paid)
        update(model, optimizer, loss, 0.003)
        model.eval()
        with no_grad():
            law = log_law(model, prompts)
        found.reward.append(float(paid.mean()))
        found.distance.append(float((np.exp(law) * (law - start)).sum(axis=1).mean()))
    return found


def log_law(model: GPT, prompts: Array) -> Array:
    """Log-probabilities of the token after each prompt."""
    z = model(prompts).data[:, -1].astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


# ---- serving ---------------------------------------------------------------------------------


def served(model: GPT, bits: int = 3) -> GPT:
    """A copy whose matrices were rounded to a few bits, with a scale for each row."""
    copied = GPT(model.config, np.random.default_rng(0))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    for name, array in state.items():
        if array.ndim == 2:
            state[name] = quantize(array, bits, axis=0).dequantize()
    copied.load_state_dict(state)
    return copied.eval()


def written(model: GPT, count: int, cached: bool) -> Array:
    """Passages that the model writes after the begin token, at temperature 0.5, as rows."""
    model.eval()
    prompt, rng = np.full((count, 1), BEGIN), np.random.default_rng(6)
    if not cached:
        return generate(model, prompt, PASSAGE - 1, temperature=0.5, rng=rng)
    new = list(islice(stream(model, prompt, temperature=0.5, rng=rng), PASSAGE - 1))
    return np.concatenate([prompt, np.stack(new, axis=1)], axis=1)


def obeys(passage: Array) -> float:
    """The share of a passage's steps that follow its own rule; 0 if it names none."""
    rule = int(passage[1])
    digits = passage[2:] - FIRST_DIGIT
    if not 1 <= rule <= 4:
        return 0.0
    right = [
        0 <= a < 7 and b == follows(a, rule, place)
        for place, (a, b) in enumerate(pairwise(digits), 2)
    ]
    return float(np.mean(right))
