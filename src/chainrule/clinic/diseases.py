"""Planted bugs: each stands beside the name of the function that it breaks.

A disease is told by `disease`, with what a reader sees, why, and which test would have caught it.
`breaks` puts a function in the place of another one, by its name as in
`chainrule.course.exercises.counterpart`; the new one gets the old one first, so that it can break
as little as the bug does. Nothing in the subjects knows of it: `ill` swaps, in every module that
uses the function, and swaps back.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.clinic import patient
from chainrule.course.exercises.counterpart import resolve
from chainrule.neural_networks.backpropagation import (
    Parameter,
    Tensor,
    chunk,
    exp,
    linear,
    primitive,
)
from chainrule.trainer.places import placed
from chainrule.training.loss_functions import cross_entropy
from chainrule.transformers.attention import scaled_dot_product_attention
from chainrule.transformers.multi_head_attention import merge_heads, split_heads


@dataclass
class Disease:
    """A bug: what it is called, where it belongs, and what a doctor says about it."""

    name: str
    title: str
    ward: str
    section: str
    looks: str
    cause: str
    caught: str
    breaks: dict[str, Callable[..., Any]] = field(default_factory=dict)


DISEASES: dict[str, Disease] = {}
WARDS = ("pretraining", "answers", "rewards", "serving")


def disease(name: str, title: str, ward: str, section: str, **told: Any) -> None:
    """Register a bug; ``told`` is what it looks like, its cause, and what would have caught it."""
    assert ward in WARDS
    assert name not in DISEASES
    DISEASES[name] = Disease(name, title, ward, section, **told)


def breaks(name: str, target: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what a disease puts in the place of a function; it gets that function first."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        DISEASES[name].breaks[f"chainrule.{target}"] = function
        return function

    return register


@contextlib.contextmanager
def ill(name: str | None) -> Iterator[None]:
    """Give the engine a disease, or none, and cure it at the end."""
    with contextlib.ExitStack() as stack:
        for target, function in DISEASES[name].breaks.items() if name else ():
            stack.enter_context(swapped(target, function))
        yield


@contextlib.contextmanager
def swapped(target: str, function: Callable[..., Any]) -> Iterator[None]:
    """Put ``function``, with the old one as its first argument, where ``target`` is used."""
    owner, name = resolve(target)
    old = vars(owner)[name]
    called = old.__func__ if isinstance(old, classmethod) else old

    @functools.wraps(called)
    def new(*args: Any, **kwargs: Any) -> Any:
        return function(called, *args, **kwargs)

    put = classmethod(new) if isinstance(old, classmethod) else new
    with placed(owner, name, old, put):
        yield


# ---- attention and positions -----------------------------------------------------------------

disease(
    "no-root", "Scores that nobody divides by the root of d", "pretraining",
    "transformers/attention.md#why-divide-by-the-square-root-of-d",
    looks="Training starts as usual and ends a little behind. Nothing breaks.",
    cause="Dot products of d numbers grow like the root of d. Without the division the softmax is "
    "sharp from the start, and where it is sharp it has no slope left.",
    caught="Attention on random vectors with heads of two widths: the largest weight must not "
    "depend on the width.",
)  # fmt: skip


@breaks("no-root", "transformers.attention.packed:packed_attention")
def _(package, qkv, heads, causal=False, block=32):
    width = qkv.shape[-1] // 3
    scale = np.ones(3 * width, qkv.dtype)
    scale[:width] = (width / heads) ** 0.5
    return package(qkv * scale, heads, causal, block)


@breaks("no-root", "transformers.gpt.memory:_split_into")
def _(package, attention, x, kept, turns, own):
    return package(attention, x, kept, turns, own) * attention.d_head**0.5


disease(
    "mask-off-by-one", "A causal mask that lets each token see the next one", "pretraining",
    "transformers/self-attention.md#a-test-that-finds-leaks",
    looks="The loss falls below what the texts allow, in training and on fresh texts. What the "
    "model writes is nonsense all the same.",
    cause="The triangle begins one place too late, so each position reads the token that it is "
    "asked for. When the model writes, that token is not there yet.",
    caught="Change a later token: no earlier prediction may move.",
)  # fmt: skip


@breaks("mask-off-by-one", "transformers.attention.packed:packed_attention")
def _(package, qkv, heads, causal=False, block=32):
    if not causal:
        return package(qkv, heads, causal, block)
    q, k, v = _by_head(qkv, heads)
    sees = np.tri(q.shape[-2], q.shape[-2], 1, dtype=bool)
    return merge_heads(scaled_dot_product_attention(q, k, v, sees)[0])


def _by_head(qkv, heads):
    return [split_heads(part, heads) for part in chunk(qkv, 3, axis=-1)]


disease(
    "over-queries", "A softmax over the queries instead of the keys", "pretraining",
    "transformers/attention.md#scaled-dot-product-attention",
    looks="The model trains to nearly the usual loss, and evaluation agrees. Only when it writes "
    "token by token does it fall apart.",
    cause="The softmax runs along the wrong axis. The weights of a key add up to 1 over the "
    "queries, so what a position gets depends on the positions after it.",
    caught="The sum of each row of weights must be 1.",
)  # fmt: skip


@breaks("over-queries", "transformers.attention.packed:packed_attention")
def _(package, qkv, heads, causal=False, block=32):
    q, k, v = _by_head(qkv, heads)
    time, d = q.shape[-2:]
    allowed = np.tri(time, dtype=bool) if causal else np.ones((time, time), bool)
    scores = (q @ k.transpose(-1, -2)) * d**-0.5
    e = exp(scores - scores.data.max()) * allowed.astype(qkv.dtype)
    return merge_heads(e / e.sum(axis=-2, keepdims=True) @ v)


disease(
    "no-positions", "Positions that are never added", "pretraining",
    "transformers/self-attention.md#why-position-information-is-needed",
    looks="The loss stops at a higher floor. The first two tokens cost what they should; the "
    "floor begins at the third.",
    cause="The table of positions is made and trained on nothing: the sum with the token vectors "
    "is missing. Attention sees a bag of tokens.",
    caught="Every group of parameters must move in the first steps.",
)  # fmt: skip


@breaks("no-positions", "transformers.self_attention.positions:LearnedPositions.forward")
def _(package, layer, x, start=0):
    return x


@breaks("no-positions", "transformers.gpt.memory:KeyValueMemory._embed")
def _(package, memory, ids, start):
    return memory.model.tokens.weight.data[ids]


# ---- the block -------------------------------------------------------------------------------

disease(
    "no-residual", "A branch that replaces the stream instead of adding to it", "pretraining",
    "transformers/transformer-architecture.md#the-row-that-everything-adds-to",
    looks="The loss stops early, far above the usual one. One layer does better than two.",
    cause="The block returns what its branch computed, without the row that it was computed from. "
    "Each layer has to pass on all that it does not change.",
    caught="Train with one layer: two must not be worse.",
)  # fmt: skip


@breaks("no-residual", "transformers.transformer_architecture.blocks:residual")
def _(package, x, branch, norm=None, place="pre"):
    return branch(x if norm is None else norm(x))


@breaks("no-residual", "transformers.gpt.memory:_add")
def _(package, x, branch, norm, after, place):
    return package(x, branch, norm, after, place) - x


disease(
    "norm-over-time", "A layer norm over the positions instead of the features", "pretraining",
    "neural-networks/regularization.md#layer-normalization-for-transformers",
    looks="The loss falls below what the texts allow, on fresh texts too. What the model writes "
    "does not deserve it.",
    cause="Mean and deviation are taken along the wrong axis, over the positions of the text. "
    "Those that are to be predicted are among them.",
    caught="Change a later token: no earlier prediction may move.",
)  # fmt: skip


@breaks("norm-over-time", "neural_networks.regularization:layer_norm")
def _(package, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    if x.ndim < 3:
        return package(x, normalized_shape, weight, bias, eps)
    turned = package(x.transpose(-1, -2), x.shape[-2], None, None, eps).transpose(-1, -2)
    return turned if weight is None else turned * weight + bias


disease(
    "norm-without-third-term", "A layer norm whose backward pass lacks a term", "pretraining",
    "neural-networks/backpropagation.md#layer-normalization-in-three-terms",
    looks="The loss falls for a dozen steps and then stands still, at what one can know without "
    "reading. The norm of the gradient stands still with it.",
    cause="The hand-written backward pass treats the deviation as a constant. It depends on every "
    "number of the row, which gives a third term.",
    caught="Compare each gradient with finite differences.",
)  # fmt: skip


@breaks("norm-without-third-term", "neural_networks.regularization:layer_norm")
def _(package, x, normalized_shape, weight=None, bias=None, eps=1e-5):
    return _norm_of_constant_deviation(x, weight, bias, eps=eps)


@primitive
def _norm_of_constant_deviation(x, weight, bias, eps):
    centred = x - x.mean(axis=-1, keepdims=True)
    s = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y = centred / s

    def vjp(g):
        h, axes = g * weight, tuple(range(g.ndim - 1))
        by_x = (h - h.mean(axis=-1, keepdims=True)) / s
        return by_x.astype(x.dtype), (g * y).sum(axis=axes), g.sum(axis=axes)

    return (y * weight + bias).astype(x.dtype), vjp


disease(
    "lost-shares", "A table of vectors that keeps one share of its gradient", "pretraining",
    "neural-networks/backpropagation.md#a-table-of-vectors",
    looks="The loss falls more slowly, and ends higher.",
    cause="The gradient is written to the rows with an assignment. A token that stands in the "
    "batch several times is written several times, and only its last share stays.",
    caught="Compare the gradient of the token vectors with finite differences, on a batch in which "
    "tokens repeat.",
)  # fmt: skip


@breaks("lost-shares", "neural_networks.backpropagation.operations:_take")
def _(package, table, indices, axis=0):
    return _take_once(table, indices) if axis == 0 else package(table, indices, axis=axis)


@primitive
def _take_once(table, indices):
    def vjp(g):
        gradient = np.zeros(table.shape, g.dtype)
        gradient[indices] = g
        return gradient, None

    return table[indices], vjp


disease(
    "untied", "Tied weights that came apart", "pretraining",
    "transformers/transformer-architecture.md#into-the-stream-and-out-of-it",
    looks="The loss falls faster at first, and ends a little higher on fresh texts. The file of "
    "weights is larger than announced.",
    cause="The output layer was meant to use the table of token vectors, and got a copy of it. "
    "From the first step on the two are trained apart.",
    caught="Count the parameters and compare with the formula.",
)  # fmt: skip


@breaks("untied", "transformers.gpt.model:GPT.__init__")
def _(package, model, config, rng):
    package(model, config, rng)
    model.copied_tokens = Parameter(model.tokens.weight.data.copy())


@breaks("untied", "transformers.gpt.model:GPT.predict")
def _(package, model, x):
    return linear(model.norm(x), model.copied_tokens)


@breaks("untied", "transformers.gpt.memory:KeyValueMemory._score")
def _(package, memory, x):
    return memory.model.predict(Tensor(x[:, None])).data[:, 0]


disease(
    "dropout-left-on", "Dropout that stays on in evaluation", "pretraining",
    "neural-networks/regularization.md#dropout",
    looks="The loss on fresh texts is restless. It lies above that of training, where a healthy "
    "patient's lies below.",
    cause="Nobody told the model that training is over, or dropout does not ask.",
    caught="Evaluate twice: the two losses must be equal to the last bit.",
)  # fmt: skip


@breaks("dropout-left-on", "neural_networks.regularization:Dropout.forward")
def _(package, layer, x):
    was, layer.training = layer.training, True
    try:
        return package(layer, x)
    finally:
        layer.training = was


disease(
    "dropout-not-rescaled", "Dropout that forgets to make up for what it drops", "pretraining",
    "neural-networks/regularization.md#dropout",
    looks="Nothing that the curves show, as long as a tenth is dropped.",
    cause="What survives is not divided by the chance to survive. In evaluation, where everything "
    "survives, all sums are larger.",
    caught="Compare the mean size of what enters a layer in training and in evaluation.",
)  # fmt: skip


@breaks("dropout-not-rescaled", "neural_networks.regularization:dropout")
def _(package, x, p, rng):
    return package(x, p, rng) * (1 - p)


disease(
    "large-start", "First weights that are fifty times too large", "pretraining",
    "transformers/gpt.md#the-first-loss",
    looks="The first loss is far above a fair guess. The first dozens of steps go into undoing "
    "that, and the run ends far behind.",
    cause="The weights were drawn with a deviation of 1 in place of 0.02. Scores of that size are "
    "certain, and nearly always wrong.",
    caught="The loss before the first step is the logarithm of the number of symbols.",
)  # fmt: skip


@breaks("large-start", "transformers.transformer_architecture.starting:initialize_")
def _(package, model, rng, deviation=0.02):
    return package(model, rng, 50 * deviation)


# ---- the data --------------------------------------------------------------------------------

disease(
    "not-shifted", "Targets that are the inputs", "pretraining",
    "transformers/gpt.md#one-text-many-examples",
    looks="The loss falls to nothing within dozens of steps. The model writes one token again and "
    "again.",
    cause="The targets were cut from the text at the same place as the inputs. Copying what one "
    "sees is easy.",
    caught="Print a batch: what is asked for must be the next token.",
)  # fmt: skip


@breaks("not-shifted", "transformers.gpt.examples:windows")
def _(package, ids, starts, context):
    inputs, _ = package(ids, starts, context)
    return inputs, inputs


disease(
    "shifted-twice", "Targets that are shifted twice", "pretraining",
    "modern-llms/instruction-tuning.md#one-place-too-far",
    looks="The loss falls, but stays too high. What the model writes skips: after the begin "
    "token the rule is missing.",
    cause="The batch shifts the targets, and so does the loss. The model learns to predict the "
    "token after the next one.",
    caught="Print a batch as the loss sees it: what is asked for must be the next token.",
)  # fmt: skip


@breaks("shifted-twice", "transformers.gpt.examples:windows")
def _(package, ids, starts, context):
    inputs, targets = package(ids, starts, context)
    later = np.full_like(targets, -100)
    later[:, :-1] = targets[:, 1:]
    return inputs, later


disease(
    "rows-mixed", "Inputs that were shuffled without their targets", "pretraining",
    "transformers/gpt.md#one-text-many-examples",
    looks="The loss falls to a high floor and stays there. The floor is what one can know without "
    "reading.",
    cause="The rows of the inputs were put in another order, and the targets were not.",
    caught="Print a batch: the target of each place must be the next input.",
)  # fmt: skip


@breaks("rows-mixed", "transformers.gpt.examples:windows")
def _(package, ids, starts, context):
    inputs, targets = package(ids, starts, context)
    return np.roll(inputs, 1, axis=0), targets


disease(
    "same-batch", "The same batch at every step", "pretraining",
    "training/batching.md#every-example-once",
    looks="The training loss goes below what the texts allow. The loss on fresh texts turns "
    "early and climbs.",
    cause="The generator is made anew, with the same seed, inside of the loop. Every step draws "
    "the same passages.",
    caught="Compare two batches in a row.",
)  # fmt: skip


@breaks("same-batch", "clinic.patient:starts")
def _(package, rng, count):
    return package(np.random.default_rng(0), count)


disease(
    "sum-not-mean", "A loss that is summed and not averaged", "pretraining",
    "training/loss-functions.md#divide-by-the-number-of-tokens",
    looks="The curve has the usual form at a scale of hundreds. The norms of the gradients are "
    "hundreds of times too large, and every step is clipped.",
    cause="The losses of all tokens of the batch are added up. Whatever depends on their size, "
    "such as clipping, depends on the batch.",
    caught="Put a batch behind itself: the loss must not change.",
)  # fmt: skip


@breaks("sum-not-mean", "transformers.gpt.model:GPT.loss")
def _(package, model, ids, targets, mask=None):
    return cross_entropy(model(ids), targets, reduction="sum")


# ---- the step --------------------------------------------------------------------------------

disease(
    "no-correction", "Adam without its correction", "pretraining",
    "training/optimizers.md#where-the-correction-comes-from",
    looks="The first dozens of steps are several times too long. This patient does not recover: "
    "the loss stays at what one can know without reading.",
    cause="Both averages start at 0 and are too small at first. The second one stands under a root "
    "in the denominator, so steps come out too long.",
    caught="With equal gradients every step of Adam is one rate long, the first one too.",
)  # fmt: skip


@breaks("no-correction", "training.optimizers:AdamW.rule")
def _(package, optimizer, group, step):
    return package(optimizer, group, 10**9)


disease(
    "stale-gradients", "Gradients that are never cleared", "pretraining",
    "neural-networks/backpropagation.md#gradients-add-across-passes-too",
    looks="The norm of the gradient is larger than usual and restless. The loss falls slowly.",
    cause="Each backward pass adds to the gradients of all earlier ones.",
    caught="The same batch goes backward twice without a step: the gradient must stay the same.",
)  # fmt: skip


@breaks("stale-gradients", "training.optimizers:Optimizer.zero_grad")
def _(package, optimizer):
    return None


disease(
    "decay-on-norms", "Weight decay on gains and biases", "pretraining",
    "neural-networks/regularization.md#decay-where-size-means-nothing",
    looks="Nothing that a short run shows.",
    cause="All parameters are in one group, so gains are pulled from 1 towards 0 and biases with "
    "them. Decay is meant for matrices.",
    caught="Step with gradients of 0 and see what shrinks.",
)  # fmt: skip


@breaks("decay-on-norms", "training.optimizers:ParamGroups.matrices_decay")
def _(package, cls, params, weight_decay):
    return cls(list(params), weight_decay=weight_decay)


disease(
    "decay-in-gradient", "Weight decay inside the gradient", "pretraining",
    "training/optimizers.md#decay-beside-the-gradient",
    looks="The loss is higher. Weights with small gradients are pulled to 0 at full speed.",
    cause="The decay was added to the gradient. Adam divides it by the size of the gradient, which "
    "makes it strong exactly where the loss says little.",
    caught="Step with gradients of 0: weights may shrink by rate times decay, and by no more.",
)  # fmt: skip


@breaks("decay-in-gradient", "training.optimizers:AdamW.rule")
def _(package, optimizer, group, step):
    was, optimizer.decoupled = optimizer.decoupled, False
    update = package(optimizer, group, step)

    def wrong(*arrays):
        optimizer.decoupled = False
        try:
            update(*arrays)
        finally:
            optimizer.decoupled = was

    optimizer.decoupled = was
    return wrong


disease(
    "warm-up-off-by-one", "A warm-up that starts at a rate of 0", "pretraining",
    "training/optimizers.md#why-to-start-small",
    looks="Nothing in the curve: one batch of a hundred and sixty is wasted.",
    cause="The step is counted from 0 and divided by the length of the warm-up. The first step has "
    "the rate 0, and the peak is reached one step late.",
    caught="Print the first rates of the schedule.",
)  # fmt: skip


@breaks("warm-up-off-by-one", "training.optimizers:warmup_cosine")
def _(package, step, lr, warmup, total, final=0.0):
    return lr * step / warmup if step < warmup else package(step, lr, warmup, total, final)


disease(
    "rate-too-large", "A learning rate that is ten times too large", "pretraining",
    "training/optimizers.md#which-peak",
    looks="The loss falls for a few steps and stops, far too high. The norm of the gradient is "
    "small and stays so.",
    cause="The rate was taken from another optimizer, or a zero was lost on the way.",
    caught="Print the rates, and try a tenth of them.",
)  # fmt: skip


@breaks("rate-too-large", "training.optimizers:warmup_cosine")
def _(package, *args, **kwargs):
    return 10 * package(*args, **kwargs)


disease(
    "clip-each", "Gradients that are clipped one array at a time", "pretraining",
    "training/optimizers.md#gradient-clipping",
    looks="The norm that is reported is that of one array, and smaller than usual. The curve "
    "hardly suffers, since Adam divides by sizes anyway.",
    cause="Every array is cut to the limit by its own norm. Large and small ones become alike, and "
    "the gradient turns.",
    caught="Clip gradients of different sizes: their direction must stay.",
)  # fmt: skip


@breaks("clip-each", "training.optimizers:clip_grad_norm_")
def _(package, params, max_norm, *args, **kwargs):
    return max(package([p], max_norm, *args, **kwargs) for p in list(params) if p.grad is not None)


disease(
    "left-out", "Parameters that the optimizer was never given", "pretraining",
    "training/optimizers.md#decay-beside-the-gradient",
    looks="The loss falls, slowly, and stays far above the usual one.",
    cause="The list of parameters was made by hand, or before a part of the model was. The token "
    "vectors are not in it.",
    caught="After ten steps, see which groups have moved.",
)  # fmt: skip


@breaks("left-out", "training.optimizers:ParamGroups.matrices_decay")
def _(package, cls, params, weight_decay):
    return package(cls, list(params)[1:], weight_decay)


# ---- answers ---------------------------------------------------------------------------------

disease(
    "prompt-not-masked", "A prompt that is trained along", "answers",
    "modern-llms/instruction-tuning.md#which-tokens-count",
    looks="The loss stops at a higher floor than it should: questions cannot be predicted. The "
    "answers are right all the same.",
    cause="The mask that leaves the question out of the loss is not used. Half of the gradient "
    "teaches the model to ask.",
    caught="See how much a token of the prompt weighs in the loss.",
)  # fmt: skip


@breaks("prompt-not-masked", "modern_llms.instruction_tuning.training:sft_loss")
def _(package, logits, ids, mask, weighting="token", prompt_weight=0.0, real=None):
    return package(logits, ids, mask, weighting, 1.0, real)


disease(
    "filling-counted", "Filling that counts", "answers",
    "training/batching.md#padding",
    looks="The loss is another one than it should be. Here it starts and ends higher, since the "
    "first lessons go into predicting filling.",
    cause="Short answers are filled up to the longest, and the filling is in the loss. To predict "
    "filling after filling is easy.",
    caught="See how much a token of filling weighs in the loss.",
)  # fmt: skip


@breaks("filling-counted", "modern_llms.instruction_tuning.training:sft_loss")
def _(package, logits, ids, mask, weighting="token", prompt_weight=0.0, real=None):
    mask = mask if real is None else mask | ~real
    return package(logits, ids, mask, weighting, prompt_weight, None)


disease(
    "mean-of-means", "A mean of means", "answers",
    "training/loss-functions.md#divide-by-the-number-of-tokens",
    looks="The loss starts higher, and ends where it should.",
    cause="The loss is averaged in each text, then over texts. A token of a short answer counts "
    "several times as much as one of a long answer.",
    caught="Put a short and a long answer into one batch: their tokens must weigh the same.",
)  # fmt: skip


@breaks("mean-of-means", "modern_llms.instruction_tuning.training:sft_loss")
def _(package, logits, ids, mask, weighting="token", prompt_weight=0.0, real=None):
    return package(logits, ids, mask, "example", prompt_weight, real)


disease(
    "double-begin", "A begin token that stands there twice", "answers",
    "modern-llms/instruction-tuning.md#the-same-template-twice",
    looks="Nothing alarming. The loss starts from another number, and ends as low as usual.",
    cause="The template writes a begin token, and the tokenizer puts another one before it. The "
    "model has never seen two, and every position is one further than in training.",
    caught="Print a conversation as the model reads it.",
)  # fmt: skip


@breaks("double-begin", "clinic.patient:conversation")
def _(package, rule, digit):
    rendered = package(rule, digit)
    ids = np.concatenate([[patient.BEGIN], rendered.ids])
    return rendered._replace(ids=ids, mask=np.concatenate([[False], rendered.mask]))


disease(
    "never-ends", "An end token that is never trained", "answers",
    "modern-llms/instruction-tuning.md#which-tokens-count",
    looks="The loss is as it should be. The answers begin well and do not stop.",
    cause="The mask ends with the text of the answer. The token after it, which says that the "
    "answer is over, is never asked for.",
    caught="See how much the last token of an answer weighs in the loss.",
)  # fmt: skip


@breaks("never-ends", "clinic.patient:conversation")
def _(package, rule, digit):
    rendered = package(rule, digit)
    last = np.arange(len(rendered.ids)) == len(rendered.ids) - 1
    # An answer that is nothing but its end keeps it: a row without a trained token has no loss.
    return rendered._replace(mask=rendered.mask & ~last) if digit < 6 else rendered


# ---- rewards ---------------------------------------------------------------------------------

disease(
    "not-centred", "Advantages that are not centred", "rewards",
    "modern-llms/rlhf.md#which-sign-earned-it",
    looks="The reward climbs more slowly, or not at all. The policy runs away from the reference "
    "all the same.",
    cause="The rewards themselves multiply the gradients. When all are positive, every reply is "
    "pushed up, the bad ones too.",
    caught="Add ten to every reward: the gradient must not change.",
)  # fmt: skip


@breaks("not-centred", "modern_llms.rlhf.policy:grpo_advantages")
def _(package, rewards, normalize=True, ddof=1, eps=1e-4):
    return np.asarray(rewards, np.float64)


disease(
    "k3-as-loss", "The estimate k3 of a divergence, used as a loss", "rewards",
    "modern-llms/rlhf.md#which-kl-and-where",
    looks="The reward is as it should be, and the distance from the reference is another one than "
    "the price asks for.",
    cause="The mean of k3 is the divergence, and the mean of its slope is not the slope of that. "
    "As a loss it pulls as the divergence in the other direction does.",
    caught="With equal rewards, compare the gradient with the slope of the divergence.",
)  # fmt: skip


@breaks("k3-as-loss", "modern_llms.rlhf.policy:kl_penalty")
def _(package, logp, logp_ref, kind="k1"):
    return package(logp, logp_ref, "k3")


disease(
    "price-turned", "A price that pays for leaving", "rewards",
    "modern-llms/rlhf.md#which-kl-and-where",
    looks="The reward climbs, and the distance from the reference climbs faster than ever.",
    cause="The divergence is subtracted from the loss, where it should be added. In the reward it "
    "would have the other sign.",
    caught="With equal rewards, see whether the policy comes nearer to the reference.",
)  # fmt: skip


@breaks("price-turned", "modern_llms.rlhf.policy:kl_penalty")
def _(package, logp, logp_ref, kind="k1"):
    return -package(logp, logp_ref, kind)


# ---- serving ---------------------------------------------------------------------------------

disease(
    "cache-off-by-one", "A cache that counts positions one too far", "serving",
    "modern-llms/inference.md#what-goes-wrong",
    looks="Losses and curves are right. What is written with the cache starts well, then breaks "
    "the rules.",
    cause="After the first token, a new token gets the position after its own.",
    caught="Read a text with the cache and in one pass: the scores must agree.",
)  # fmt: skip


@breaks("cache-off-by-one", "transformers.gpt.memory:KeyValueMemory._embed")
def _(package, memory, ids, start):
    last = memory.model.config.context - ids.shape[1]
    return package(memory, ids, min(start + 1, last) if start else start)


disease(
    "scale-per-tensor", "One scale for a whole matrix", "serving",
    "modern-llms/inference.md#who-shares-a-scale",
    looks="The model is fine until it is rounded. With weights of 4 bits it writes worse than it "
    "should.",
    cause="All rows of a matrix share one scale, and the largest number decides it. Rows of small "
    "numbers are rounded to 0.",
    caught="Round a matrix with one large row and look at the errors of the others.",
)  # fmt: skip


@breaks("scale-per-tensor", "modern_llms.inference.quantization:quantize")
def _(package, weights, bits, axis=None, *args, **kwargs):
    return package(weights, bits, None, *args, **kwargs)


disease(
    "temperature-upside-down", "A temperature that multiplies", "serving",
    "transformers/gpt.md#temperature",
    looks="Losses and curves are right. Written at a temperature below 1, the text is wilder than "
    "at 1.",
    cause="The scores are multiplied by the temperature, where they should be divided by it.",
    caught="Draw at three temperatures: the entropy must rise.",
)  # fmt: skip


@breaks("temperature-upside-down", "transformers.gpt.sampling:sample_filters")
def _(package, logits, temperature=1.0, *args, **kwargs):
    return package(logits, 1 / temperature, *args, **kwargs)
