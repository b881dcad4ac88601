"""Conventions on which two correct implementations disagree, and how to go from one to the other.

Each row is a function that takes what the other party has and returns what this course's function
needs, with the words of ``reference/rosetta.md`` about it::

    @convention(topic, question, ways, section)
    def name(theirs): ...

A row whose converter takes nothing returns the arguments that this course's function needs.
``python -m chainrule.clinic.conventions --write`` stores the words for the page, ``--check``
compares them.
"""

from __future__ import annotations

import argparse
import inspect
import json
import posixpath
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.clinic.page import anchor
from chainrule.course.manifest import find_root
from chainrule.files import write_atomically
from chainrule.transformers.self_attention import rope_order

__all__ = ["CONVENTIONS", "DATA", "Convention", "lines"]

DATA = "reference/rosetta.json"
Array = np.ndarray


@dataclass(frozen=True)
class Convention:
    """A question that two parties answer differently; ``convert`` goes from theirs to ours."""

    name: str
    topic: str
    question: str
    ways: Mapping[str, str]
    section: str
    convert: Callable[..., Any]

    @property
    def words(self) -> dict[str, Any]:
        """What the page shows: topic, question, ways, section, and the converter as code."""
        code = textwrap.dedent(inspect.getsource(self.convert))
        code = code[code.index("def ") :].rstrip()
        return {
            "topic": self.topic,
            "question": self.question,
            "ways": dict(self.ways),
            "section": self.section,
            "says": (inspect.getdoc(self.convert) or "").replace("\n", " "),
            "code": code.replace(f'    """{self.convert.__doc__}"""\n', "").split("\n"),
        }


CONVENTIONS: dict[str, Convention] = {}


def convention(
    topic: str, question: str, ways: Mapping[str, str], section: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a row of a converter."""

    def register(convert: Callable[..., Any]) -> Callable[..., Any]:
        name = convert.__name__
        CONVENTIONS[name] = Convention(name, topic, question, ways, section, convert)
        return convert

    return register


# ---- weights -----------------------------------------------------------------------------------


@convention(
    "A weight matrix, stored",
    "Is a layer's matrix stored as (out, in) or as (in, out)?",
    {
        "this course, `torch.nn.Linear`": "(out, in): a row x becomes `x @ W.T`",
        "GPT-2's files, the class `Conv1D` of `transformers`, Keras": "(in, out): `x @ W`",
        "papers that write columns": "(out, in): a column x becomes W x",
    },
    "transformers/gpt.md#putting-published-weights-in",
)
def out_by_in(weight: Array) -> Array:
    """A square matrix gives no error, only wrong numbers."""
    return weight.T


@convention(
    "Rotary pairs",
    "Which two features turn together in rotary positions?",
    {
        "this course's default, `transformers`": "i and i + d/2 (halves)",
        "the paper, Llama's own files, GGUF files of the Llama family": "2i and 2i + 1 (pairs)",
    },
    "transformers/self-attention.md#two-layouts",
)
def rows_for_halves(weight: Array, heads: int) -> Array:
    """Reorders the rows of each head's query and key matrix; values stay as they are."""
    rows = weight.reshape(heads, -1, weight.shape[1])
    return rows[:, rope_order(rows.shape[1])].reshape(weight.shape)


@convention(
    "Biases of a recurrent cell",
    "Has a recurrent cell one vector of biases or two?",
    {
        "this course, the paper, Keras' LSTM": "one",
        "PyTorch": "two, `bias_ih` and `bias_hh`, which are only ever added",
    },
    "architectures/lstms.md#three-gates-and-a-candidate",
)
def one_bias(bias_ih: Array, bias_hh: Array) -> Array:
    """Both get the same gradient, so a step of the same rate moves their sum twice as far."""
    return bias_ih + bias_hh


@convention(
    "The order of gates",
    "In which order do the gates of an LSTM stand in its matrices?",
    {
        "this course, PyTorch, Keras": "input, forget, candidate, output",
        "ONNX": "input, output, forget, candidate",
    },
    "architectures/lstms.md#three-gates-and-a-candidate",
)
def gates_in_order(weight: Array) -> Array:
    """Works for a matrix and for a bias, since both have the gates along the first axis."""
    i, o, f, c = np.split(weight, 4)
    return np.concatenate([i, f, c, o])


@convention(
    "The gain of an RMS norm",
    "Does the gain of an RMS norm start at 0 or at 1?",
    {
        "this course, Llama, `torch.nn.RMSNorm`": "at 1: the normalized row times w",
        "Gemma": "at 0: the normalized row times 1 + w",
    },
    "neural-networks/regularization.md#is-the-mean-worth-subtracting",
)
def gain_around_one(weight: Array) -> Array:
    """With decay, Gemma's gains are pulled towards 1 and the others towards 0."""
    return 1 + weight


@convention(
    "Scores and the root of d",
    "Are attention scores divided by the root of d, or is that left to the weights?",
    {
        "this course, PyTorch, nearly all models": "divided by √d",
        "T5": "not divided; the query matrix starts smaller instead",
    },
    "transformers/attention.md#why-divide-by-the-square-root-of-d",
)
def query_for_scaled(weight: Array, d_head: int) -> Array:
    """Undoes the division in the query matrix."""
    return weight * np.sqrt(d_head)


@convention(
    "V or its transpose",
    "Does a function for the SVD return V or its transpose?",
    {
        "this course, `numpy.linalg.svd`, `torch.linalg.svd`": "Vᵀ: A = U S Vᵀ is a product",
        "`torch.svd_lowrank`, MATLAB": "V",
    },
    "math-foundations/linear-algebra.md#matrix-decompositions-svd-overview",
)
def transposed_v(v: Array) -> Array:
    """A square V passes without an error."""
    return v.T


# ---- arrays ------------------------------------------------------------------------------------


@convention(
    "The sense of a rotation",
    "Which way do rotary positions turn?",
    {
        "this course, `transformers`": "as the paper's matrix turns a column",
        "a row multiplied by the paper's matrix from the right": "backwards",
    },
    "transformers/self-attention.md#rotary-positions-rope",
)
def turned_back(positions: Array) -> Array:
    """Scores see only differences of positions, so a model that turns all backwards is none the
    worse; queries and keys of two parties must not be mixed."""
    return -positions


@convention(
    "Sines and cosines",
    "Where do sines and cosines of a position stand?",
    {
        "this course, the paper": "in turn: sine, cosine, sine, cosine",
        "the paper's first program, tensor2tensor": "all sines, then all cosines",
    },
    "transformers/self-attention.md#a-shift-is-a-turn",
)
def in_turn(table: Array) -> Array:
    """Trained weights after the table expect one of the two."""
    return np.stack(np.split(table, 2, axis=1), axis=2).reshape(table.shape)


@convention(
    "The axis of heads",
    "Does the axis of heads stand before or after that of time?",
    {
        "this course, `torch.nn.functional.scaled_dot_product_attention`": "before",
        "FlashAttention's own functions, JAX": "after: (batch, time, heads, d)",
    },
    "transformers/multi-head-attention.md#cut-move-join",
)
def heads_before_time(x: Array) -> Array:
    """With as many heads as places nothing fails: heads then attend to heads."""
    return x.swapaxes(1, 2)


@convention(
    "True in a mask",
    "Does true in a mask mean 'may look' or 'is hidden'?",
    {
        "this course, `torch.nn.functional.scaled_dot_product_attention`": "may look",
        "`torch.nn.MultiheadAttention` and `torch.nn.Transformer`": "is hidden",
    },
    "transformers/self-attention.md#one-algebra-for-all-masks",
)
def may_look(hidden: Array) -> Array:
    """PyTorch has both meanings, in two places of one library."""
    return ~hidden


@convention(
    "The side of padding",
    "On which side is a batch of texts filled up?",
    {
        "this course, most training code": "on the right",
        "generation with `transformers` and a decoder": "on the left: all texts end together",
    },
    "training/batching.md#padding",
)
def filled_on_the_right(rows: Array, real: Array) -> Array:
    """Positions must be counted from the first real token, whichever side is filled."""
    firsts = real.argmax(axis=1)
    return np.stack([np.roll(row, -first) for row, first in zip(rows, firsts, strict=True)])


@convention(
    "The axis of channels",
    "Does the axis of channels stand before or after height and width?",
    {
        "this course, PyTorch": "before: (n, channels, height, width)",
        "TensorFlow and JAX by default, image files": "after: (n, height, width, channels)",
    },
    "architectures/cnns.md#channels",
)
def channels_first(images: Array) -> Array:
    """Three channels of 3 × 3 pixels pass unnoticed either way."""
    return np.moveaxis(images, -1, 1)


@convention(
    "The kernel of a convolution",
    "Is the kernel of a convolution turned round?",
    {
        "this course, deep learning": "no: it is a cross-correlation",
        "mathematics, `scipy.signal.convolve`": "yes",
    },
    "architectures/cnns.md#convolution-operation",
)
def turned_kernel(kernel: Array) -> Array:
    """Where the kernel is learned, only its picture is mirrored."""
    return kernel[::-1]


# ---- numbers -----------------------------------------------------------------------------------


@convention(
    "Divided by n or n − 1",
    "Is a variance divided by n or by n − 1?",
    {
        "this course's `var`, `torch.std`": "by n − 1",
        "`numpy.std`; inside batch, layer and group norm everywhere": "by n",
    },
    "math-foundations/probability.md#how-far-values-scatter",
)
def sample_std(std: Array, n: int) -> Array:
    """Batch norm uses both: n to normalize, n − 1 for its running average."""
    return std * np.sqrt(n / (n - 1))


@convention(
    "Nats or bits",
    "Is information measured in nats or in bits?",
    {
        "this course, losses in PyTorch, `scipy.stats.entropy`": "in nats (base e)",
        "`scipy.stats.entropy(p, base=2)`, compression, bits per byte": "in bits (base 2)",
    },
    "math-foundations/information-theory.md#bits-and-nats",
)
def nats(bits: float) -> float:
    """A perplexity is e to the nats and 2 to the bits: the same number."""
    return bits * np.log(2)


@convention(
    "The mean of a loss",
    "Over what is the mean of a loss taken?",
    {
        "this course, a batch at once": "over all tokens",
        "a loss for each text, then a mean; workers that average": "over texts, each its own mean",
    },
    "training/loss-functions.md#divide-by-the-number-of-tokens",
)
def token_mean(means: Array, lengths: Array) -> float:
    """The mean of means favours the tokens of short texts."""
    return float((means * lengths).sum() / np.sum(lengths))


@convention(
    "The mean of a KL divergence",
    "Does the mean of a KL divergence divide by rows or by numbers?",
    {
        "this course's `kl`; `kl_div(…, reduction='batchmean')`": "by rows",
        "`torch.nn.functional.kl_div` by default": "by all numbers",
    },
    "training/loss-functions.md#soft-targets",
)
def mean_by_rows(mean: float, classes: int) -> float:
    """Mind the order of arguments too: first the log-probabilities of q, then p, for KL(p ‖ q)."""
    return mean * classes


@convention(
    "Smoothed labels",
    "Who gets the share that label smoothing takes from the target?",
    {
        "this course, PyTorch": "all K classes, the target included: ε/K each",
        "fairseq": "the K − 1 others: ε/(K − 1) each",
    },
    "training/loss-functions.md#soft-targets",
)
def smoothing_of_all(eps: float, classes: int) -> float:
    """The same 0.1 in a paper may mean either."""
    return eps * classes / (classes - 1)


@convention(
    "The robust loss",
    "Is the robust loss divided by its threshold?",
    {
        "this course's `huber`, `torch.nn.HuberLoss`": "no: slope δ far out",
        "`torch.nn.SmoothL1Loss`": "yes: slope 1 far out",
    },
    "training/loss-functions.md#where-a-price-comes-from",
)
def from_smooth_l1(loss: float, beta: float) -> float:
    """At the threshold 1 the two are equal, which hides the mistake."""
    return loss * beta


# ---- optimizers and averages -------------------------------------------------------------------


@convention(
    "Decoupled decay",
    "Is decoupled decay multiplied by the learning rate?",
    {
        "this course, PyTorch, optax": "yes: w ← w − lr·λ·w",
        "the paper on AdamW": "only by the schedule's factor: w ← w − λ·w at full rate",
    },
    "training/optimizers.md#decay-beside-the-gradient",
)
def decay_beside_rate(decay: float, lr: float) -> float:
    """So a new peak rate changes the decay too, in the first convention only."""
    return decay / lr


@convention(
    "Momentum",
    "Does momentum add gradients up, or average them?",
    {
        "this course's SGD, PyTorch, Keras": "adds up: b ← βb + g",
        "Adam's first moment, Lion, many papers": "averages: m ← βm + (1 − β)g",
    },
    "training/optimizers.md#sgd-with-momentum",
)
def rate_for_sums(lr: float, beta: float) -> float:
    """PyTorch's dampening β averages too, except for the first gradient."""
    return lr * (1 - beta)


@convention(
    "Adam's epsilon",
    "Is Adam's epsilon added before or after the correction of the second moment?",
    {
        "this course, PyTorch, the paper's algorithm": "after: m̂/(√v̂ + ε)",
        "the paper's quicker form, TensorFlow": "before: m/(√v + ε̂), corrected by the rate",
    },
    "training/optimizers.md#where-the-correction-comes-from",
)
def epsilon_after(eps_hat: float, beta2: float, step: int) -> float:
    """At the first step the factor is about 32; later it goes to 1."""
    return eps_hat / np.sqrt(1 - beta2**step)


@convention(
    "The momentum of batch norm",
    "Is the momentum of batch norm the weight of the new batch or of the old average?",
    {
        "this course, PyTorch": "of the new batch: 0.1",
        "Keras": "of the old average: 0.99",
    },
    "neural-networks/regularization.md#batch-normalization",
)
def weight_of_new(momentum: float) -> float:
    """0.9 in the one is 0.1 in the other."""
    return 1 - momentum


# ---- switches ----------------------------------------------------------------------------------


@convention(
    "GELU",
    "Is GELU exact, or its approximation by tanh?",
    {
        "this course, BERT, `torch.nn.GELU()`": "exact, with erf",
        "GPT-2, Gemma (`gelu_new`, `gelu_pytorch_tanh`)": "the approximation",
    },
    "neural-networks/activation-functions.md#two-approximations-and-where-their-constants-come-from",
)
def as_gpt2_bends() -> dict[str, Any]:
    """The two differ by less than 0.0005: too little to be seen, enough to change a token."""
    return {"approximate": "tanh"}


@convention(
    "The reset gate",
    "Does the reset gate of a GRU act before or after the matrix?",
    {
        "this course's default, PyTorch": "after: r times W h",
        "the paper": "before: W times (r h)",
    },
    "architectures/lstms.md#two-places-for-one-gate",
)
def as_in_the_paper() -> dict[str, Any]:
    """No rearranged weights turn one into the other; it is another network."""
    return {"reset_after": False}


@convention(
    "The place of a norm",
    "Does the norm stand before a branch or after the sum?",
    {
        "this course's default, GPT-2, Llama": "before (pre)",
        "the first transformer, BERT, `torch.nn.TransformerEncoderLayer`": "after (post)",
    },
    "transformers/transformer-architecture.md#before-or-after",
)
def norm_after_sum() -> dict[str, Any]:
    """The same weights fit both without an error."""
    return {"norm_place": "post"}


# ---- the page ----------------------------------------------------------------------------------


def lines(stored: Mapping[str, Any], folder: str = "reference") -> Iterator[str]:
    """The page, a line each."""
    yield "# Who does it which way"
    yield ""
    yield (
        f"Here are {len(stored)} questions to which two correct programs give different answers. "
        "Weights and numbers that go from one to the other without being converted usually raise "
        "no error. They are only wrong, by a little or by all."
    )
    yield ""
    yield (
        "Each row names who does what, and has a function that goes from the other way to this "
        "course's. A test applies it to the library that is named, or to its formula where the "
        "library is not at hand, and finds the same numbers. The test fails if the function is "
        "left out. All functions stand in "
        "[`chainrule.clinic.conventions`](../src/chainrule/clinic/conventions.py)."
    )
    yield ""
    yield "| question | function |"
    yield "| --- | --- |"
    for name, row in stored.items():
        yield f"| [{row['question']}](#{anchor(row['topic'])}) | `{name}` |"
    for row in stored.values():
        path = posixpath.relpath(row["section"], folder)
        slug, _, place = posixpath.basename(row["section"]).partition(".md#")
        words = f"{slug}: {place.replace('-', ' ')}"
        yield from ("", f"## {row['topic']}", "", row["question"], "")
        yield from ("| who | does |", "| --- | --- |")
        yield from (f"| {who} | {does} |" for who, does in row["ways"].items())
        yield from ("", "```py", *row["code"], "```", "")
        yield f"{row['says']} Explained in [{words}]({path})."


def rows(stored: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Title, anchor and section of each row, for the documents that meet it."""
    for row in stored.values():
        yield row["topic"], anchor(row["topic"]), row["section"]


def main(arguments: Iterable[str] | None = None) -> int:
    """Store the words, or compare them; 0 agrees, 1 differs."""
    parser = argparse.ArgumentParser(prog="conventions", description="The words of the page.")
    parser.add_argument("--write", action="store_true", help="store the words")
    parser.add_argument("--check", action="store_true", help="compare them with what is stored")
    options = parser.parse_args(None if arguments is None else list(arguments))
    path = find_root() / DATA
    rows = (
        f" {json.dumps(name)}: {json.dumps(row.words, ensure_ascii=False)}"
        for name, row in CONVENTIONS.items()
    )
    text = ("{\n" + ",\n".join(rows) + "\n}\n").encode()
    if options.write:
        write_atomically(path, text)
    elif not path.is_file() or path.read_bytes() != text:
        print(f"{DATA} has other words than the code; type: python -m {__spec__.name} --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
