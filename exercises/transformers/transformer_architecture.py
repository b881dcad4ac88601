"""Exercises of transformers/transformer-architecture.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import exercise, expect, expect_close, expect_equal, expect_raises
from chainrule.math_foundations.probability import softmax
from chainrule.neural_networks.activation_functions import silu
from chainrule.neural_networks.backpropagation import Tensor
from chainrule.neural_networks.regularization import rms_norm
from chainrule.transformers.transformer_architecture import TransformerConfig

# ---- A warm-up for a peak ------------------------------------------------------------------------


@exercise(
    "A warm-up for a peak",
    difficulty=1,
    minutes=15,
    section="the-learning-rate-of-2017",
    counterpart="chainrule.transformers.transformer_architecture:noam_lr",
    idea="At the last step of the warm-up both terms of the minimum are equal, and the rate is "
    "highest. Write that rate with d and w, and solve for w.",
)
def rates_of_2017(steps, peak, d):
    """Return the rates of the schedule of 2017 at these steps, with the given highest rate.

    steps is an array of step numbers, from 1. The width is d. Choose the number of warm-up steps
    so that the highest rate is peak, round it to a whole number, and take at least 1.
    By hand first: width 400, peak 0.005, steps 25, 100 and 400.
    """
    warmup = max(1, round(1 / (d * peak**2)))
    return np.minimum(steps**-0.5, steps * warmup**-1.5) / np.sqrt(d)


@rates_of_2017.by_package
def _(package, steps, peak, d):
    warmup = max(1, round(1 / (d * peak**2)))
    return np.array([package(int(step), d, warmup) for step in steps])


@rates_of_2017.check
def by_hand(answer, rng):
    expected = np.array([0.00125, 0.005, 0.0025])
    what = "the rates at steps 25, 100 and 400 for width 400 and peak 0.005"
    expect_close(answer(np.array([25.0, 100.0, 400.0]), 0.005, 400), expected, what=what)


@rates_of_2017.check
def as_published(answer, rng):
    steps = np.array([1.0, 7.0, 1000.0, 4000.0, 16_000.0, 100_000.0])
    peak = (512 * 4000) ** -0.5
    what = "the rates of the base model"
    expect_close(answer(steps, peak, 512), rates_of_2017(steps, peak, 512), what=what)


@rates_of_2017.check
def other_widths(answer, rng):
    steps = np.array([3.0, 50.0, 777.0, 20_011.0])
    for d, peak in ((37, 0.011), (1024, 0.0003), (64, 0.5)):
        what = f"the rates for width {d} and peak {peak}"
        expect_close(answer(steps, peak, d), rates_of_2017(steps, peak, d), what=what)


def _rates(steps, warmup, d, falls=-0.5, root=True):
    rates = np.minimum(steps**falls, steps * warmup ** (falls - 1))
    return rates / np.sqrt(d) if root else rates


@rates_of_2017.mistake(
    "Your warm-up is as long as for a width of 1. The highest rate is 1/√(d·w): solve that for w."
)
def warmup_without_width(steps, peak, d):
    return _rates(steps, max(1, round(1 / peak**2)), d)


@rates_of_2017.mistake("Solve 1/√(d·w) = peak once more: both sides have to be squared.")
def warmup_without_square(steps, peak, d):
    return _rates(steps, max(1, round(1 / (np.sqrt(d) * peak))), d)


@rates_of_2017.mistake(
    "Your rate is large at the start and grows at the end. Which of the two terms counts?"
)
def takes_the_larger(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return np.maximum(steps**-0.5, steps * w**-1.5) / np.sqrt(d)


@rates_of_2017.mistake(
    "The shape is right and every rate is too high by the same factor. What stands before the "
    "minimum?"
)
def rate_without_width(steps, peak, d):
    return _rates(steps, max(1, round(1 / (d * peak**2))), d, root=False)


@rates_of_2017.mistake(
    "Your rates rise as they should. After the warm-up they fall too fast: at four times the "
    "warm-up half of the peak is left."
)
def falls_like_one_over_step(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return peak * np.minimum(steps / w, w / steps)


@rates_of_2017.mistake("Steps are counted from 1: the first step already has a rate.")
def counts_from_zero(steps, peak, d):
    w = max(1, round(1 / (d * peak**2)))
    return np.minimum(np.maximum(steps - 1, 1e-300) ** -0.5, (steps - 1) * w**-1.5) / np.sqrt(d)


# ---- Three masks ---------------------------------------------------------------------------------


@exercise(
    "Three masks",
    difficulty=2,
    minutes=20,
    section="which-masks-where",
    because="The package has one function for filling and one for the future; which of them "
    "stands where is what is asked.",
    idea="Queries are rows and keys are columns. Filling is hidden in the columns, whoever asks. "
    "Only where a text looks at itself while it is written there is a future.",
)
def three_masks(source_lengths, target_lengths):
    """Return the masks of the three attentions of an encoder-decoder, true where one may look.

    Both arguments are arrays of one length for each example. Arrays are as long as the longest
    example, S tokens of source and T of target. The shapes are (batch, 1, S, S) for the encoder,
    (batch, 1, T, T) for the decoder's own attention and (batch, 1, T, S) for cross-attention.
    Filling is hidden as a key everywhere. Rows of queries that are filling are made like all
    others. By hand first: sources of 1 and 2 tokens, targets of 2 and 1.
    """
    S, T = max(source_lengths), max(target_lengths)
    source = np.arange(S) < np.asarray(source_lengths)[:, None]
    target = np.arange(T) < np.asarray(target_lengths)[:, None]
    encoder = np.repeat(source[:, None, None], S, axis=2)
    decoder = target[:, None, None] & np.tri(T, dtype=bool)
    return encoder, decoder, np.repeat(source[:, None, None], T, axis=2)


NAMES = ("the encoder's mask", "the decoder's mask", "the mask of cross-attention")


def _compare(answer, sources, targets):
    received = answer(np.array(sources), np.array(targets))
    expect(isinstance(received, tuple) and len(received) == 3, "return a tuple of three masks")
    expected = three_masks(np.array(sources), np.array(targets))
    for name, mine, yours in zip(NAMES, expected, received, strict=True):
        what = f"{name}, sources of {sources} and targets of {targets} tokens,"
        expect_equal(np.shape(yours), mine.shape, what=f"the shape of {what}")
        expect_close(np.asarray(yours, float), mine.astype(float), what=what)


@three_masks.check
def sources_1_2(answer, rng):
    _compare(answer, [1, 2], [2, 1])


@three_masks.check
def longer(answer, rng):
    _compare(answer, [5, 2, 3], [4, 7, 1])


@three_masks.check
def one_example(answer, rng):
    _compare(answer, [3], [5])


def _masks(source_lengths, target_lengths, *, cross=False, filling=True, queries=False,
           future=False, strict=False, source_for_target=False, hidden=False):  # fmt: skip
    S, T = max(source_lengths), max(target_lengths)
    source = np.arange(S) < np.asarray(source_lengths)[:, None]
    target = np.arange(T) < np.asarray(target_lengths)[:, None]
    time = np.tri(T, dtype=bool).T if future else np.tri(T, k=-1 if strict else 0, dtype=bool)
    if queries:
        encoder = np.repeat(source[:, None, :, None], S, axis=3)
        decoder = np.repeat(target[:, None, :, None], T, axis=3) & time
        both = np.repeat(target[:, None, :, None], S, axis=3)
    else:
        encoder = np.repeat(source[:, None, None], S, axis=2)
        keys = target[:, None, None] if filling else np.ones((len(target), 1, 1, T), bool)
        decoder = keys & time
        both = np.repeat(source[:, None, None], T, axis=2)
    if cross:
        both = both & np.tri(T, S, dtype=bool)
    masks = (encoder, decoder, both)
    return tuple(~mask for mask in masks) if hidden else masks


@three_masks.mistake(
    "Your cross-attention is causal. The source was read as a whole before the first token is "
    "written: which of its places could give the future away?"
)
def causal_cross(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, cross=True)


@three_masks.mistake(
    "Your decoder may look at filling. A query behind the end of its text does, and the statement "
    "hides filling as a key everywhere."
)
def decoder_sees_filling(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, filling=False)


@three_masks.mistake(
    "You have hidden rows, the queries that are filling. Hidden must be what they would look at: "
    "the columns."
)
def hides_queries(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, queries=True)


@three_masks.mistake("Your decoder sees the future and not the past. Which triangle is it?")
def sees_the_future(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, future=True)


@three_masks.mistake(
    "Your decoder's first token may look at nothing. A place sees what came before and itself."
)
def not_itself(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, strict=True)


@three_masks.mistake("Here true means that a query may look. You have it the other way round.")
def true_hides(source_lengths, target_lengths):
    return _masks(source_lengths, target_lengths, hidden=True)


# ---- To the last unit ----------------------------------------------------------------------------


@exercise(
    "To the last unit",
    difficulty=2,
    minutes=30,
    section="counting-parameters",
    counterpart="chainrule.transformers.transformer_architecture:count_params",
    idea="Go through the block diagram from the bottom to the top and write down each matrix with "
    "its shape. Then ask which of them a single token meets.",
)
def count_llama(vocab_size, width, layers, heads, kv_heads, hidden, tied, experts=0, used=0):
    """Return the parameters of a model like Llama: all of them, and those that one token uses.

    No biases; RMSNorm, with one gain for each feature, before each branch and at the end; rotary
    positions; heads of size width / heads; kv_heads heads of keys and values; SwiGLU with the
    given hidden width. tied says whether one table serves both ends; if not, both tables count
    as used. With experts, each block has so many feed-forward layers and a router, and a token
    uses the router and `used` of the layers. Both numbers are of type int.
    """
    queries, keys = width, width // heads * kv_heads
    attention = 2 * width * queries + 2 * width * keys
    one = 3 * width * hidden
    tables = (1 if tied else 2) * vocab_size * width
    outside = tables + width + layers * (attention + 2 * width)
    if not experts:
        return outside + layers * one, outside + layers * one
    outside += layers * experts * width
    return outside + layers * experts * one, outside + layers * used * one


@count_llama.by_package
def _(package, vocab_size, width, layers, heads, kv_heads, hidden, tied, experts=0, used=0):
    cfg = TransformerConfig(
        vocab_size, width, heads, kv_heads, decoder_layers=layers, hidden=hidden,
        feed_forward="swiglu", norm="rms", bias=False, positions="rope", tied=tied,
        experts=experts, experts_per_token=used or 1,
    )  # fmt: skip
    return package(cfg), package(cfg, active=True)


MODELS = {
    "Llama 2 7B": (32_000, 4096, 32, 32, 32, 11_008, False),
    "Llama 3 8B": (128_256, 4096, 32, 32, 8, 14_336, False),
    "a small model with one table": (101, 24, 5, 6, 3, 37, True),
    "a model with one block": (11, 6, 1, 1, 1, 7, False),
}


@count_llama.check
def published(answer, rng):
    for name in list(MODELS)[:2]:
        expect_equal(
            answer(*MODELS[name]), count_llama(*MODELS[name]), what=f"the counts of {name}"
        )


@count_llama.check
def small(answer, rng):
    for name in list(MODELS)[2:]:
        expect_equal(
            answer(*MODELS[name]), count_llama(*MODELS[name]), what=f"the counts of {name}"
        )


@count_llama.check
def mixtures(answer, rng):
    mixtral = (32_000, 4096, 32, 32, 8, 14_336, False, 8, 2)
    expected = (46_702_792_704, 12_879_925_248)
    expect_equal(answer(*mixtral), expected, what="the counts of Mixtral 8x7B")
    other = (101, 24, 5, 6, 3, 37, True, 5, 3)
    expect_equal(answer(*other), count_llama(*other), what="the counts of 5 experts, 3 used")


def _counted(vocab_size, width, layers, heads, kv_heads, hidden, tied, experts=0, used=0, *,
             matrices=3, kv=None, last=1, tables=None, routers=True, norms=2, queries=True,
             used_routers=True):  # fmt: skip
    kv = kv_heads if kv is None else kv
    attention = (1 + queries) * width**2 + 2 * width * width // heads * kv
    one = matrices * width * hidden
    count = tables or (1 if tied else 2)
    rest = count * vocab_size * width + width * (norms * layers + last) + layers * attention
    if not experts:
        return rest + layers * one, rest + layers * one
    router = layers * experts * width * routers
    taken = router if used_routers else layers * used * width
    return rest + router + layers * experts * one, rest + taken + layers * used * one


@count_llama.mistake("SwiGLU has a gate, a signal and a way back. How many matrices are these?")
def two_matrices(*args, **kwargs):
    return _counted(*args, **kwargs, matrices=2)


@count_llama.mistake("You count keys and values for every query head. How many are there?")
def all_heads_have_keys(vocab_size, width, layers, heads, kv_heads, *rest, **kwargs):
    return _counted(vocab_size, width, layers, heads, kv_heads, *rest, **kwargs, kv=heads)


@count_llama.mistake("One norm is missing. What stands between the last block and the scores?")
def no_last_norm(*args, **kwargs):
    return _counted(*args, **kwargs, last=0)


@count_llama.mistake("Each block normalizes twice, once for each of its branches.")
def one_norm_a_block(*args, **kwargs):
    return _counted(*args, **kwargs, norms=1)


@count_llama.mistake("If the table is not tied, there is a second one, for the scores.")
def always_one_table(*args, **kwargs):
    return _counted(*args, **kwargs, tables=1)


@count_llama.mistake("If the table is tied, it is one table and is counted once.")
def always_two_tables(*args, **kwargs):
    return _counted(*args, **kwargs, tables=2)


@count_llama.mistake("Who chooses the experts? That is a matrix too, one in each block.")
def no_routers(*args, **kwargs):
    return _counted(*args, **kwargs, routers=False)


@count_llama.mistake(
    "The router scores all experts for every token, so a token uses all of its rows."
)
def router_in_part(*args, **kwargs):
    return _counted(*args, **kwargs, used_routers=False)


@count_llama.mistake("The heads' outputs are mixed by one more matrix, W_O, before they are added.")
def no_output_matrix(*args, **kwargs):
    return _counted(*args, **kwargs, queries=False)


# ---- First weights -------------------------------------------------------------------------------


@exercise(
    "First weights",
    difficulty=3,
    minutes=25,
    section="how-large-branches-start",
    counterpart="chainrule.transformers.transformer_architecture:initial_weights",
    idea="Three cases: no matrix; a matrix whose result is added to the stream; any other matrix. "
    "The names tell them apart.",
)
def first_weights(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    """Return the first weights of a model by name, as GPT-2 starts.

    shapes gives the shape of each parameter by its name. Go through it in its order. What has
    two axes is a matrix: draw it with rng.standard_normal(shape, dtype=np.float32) and scale it
    to the deviation. Matrices whose names end in attention.out.weight, cross.out.weight or
    down.weight write to the stream and start smaller, by the root of the number of branches.
    What has another number of axes is 0 if its name ends in bias, and 1 otherwise. All arrays
    have the given dtype. Raise a ValueError if a matrix writes to the stream and there are fewer
    than one branches.
    """
    weights = {}
    for name, shape in shapes.items():
        if len(shape) != 2:
            weights[name] = np.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype)
            continue
        size = deviation
        if name.endswith(("attention.out.weight", "cross.out.weight", "down.weight")):
            if branches < 1:
                raise ValueError(f"{name} writes to the stream, so there is at least 1 branch")
            size = deviation / np.sqrt(branches)
        drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(size)
        weights[name] = drawn.astype(dtype)
    return weights


BLOCK = {
    "tokens.weight": (11, 5),
    "blocks.0.attention_norm.weight": (5,),
    "blocks.0.attention_norm.bias": (5,),
    "blocks.0.attention.qkv.weight": (15, 5),
    "blocks.0.attention.qkv.bias": (15,),
    "blocks.0.attention.out.weight": (5, 5),
    "blocks.0.attention.out.bias": (5,),
    "blocks.0.feed_forward.up.weight": (20, 5),
    "blocks.0.feed_forward.down.weight": (5, 20),
    "blocks.0.feed_forward.down.bias": (5,),
}


@first_weights.check
def a_block(answer, rng):
    seeds = [np.random.default_rng(3) for _ in range(2)]
    what = "the first weights of a block with 6 branches in the model"
    expect_close(answer(BLOCK, 6, seeds[0]), first_weights(BLOCK, 6, seeds[1]), what=what)


@first_weights.check
def cross_and_scores(answer, rng):
    shapes = {
        "cross.out.weight": (7, 3), "head.weight": (4, 7), "gain": (2,), "scale": (),
        "conv.weight": (2, 3, 4), "down.weight": (3, 2), "output.weight": (3, 3),
    }  # fmt: skip
    seeds = [np.random.default_rng(5) for _ in range(2)]
    expected = first_weights(shapes, 24, seeds[1], 0.5, np.float64)
    received = answer(shapes, 24, seeds[0], 0.5, np.float64)
    expect_close(received, expected, what="the first weights, deviation 0.5 and 24 branches,")


@first_weights.check
def no_branch(answer, rng):
    seeds = [np.random.default_rng(7) for _ in range(2)]
    shapes = {"up.weight": (3, 2), "norm.weight": (2,)}
    expected = first_weights(shapes, 0, seeds[1])
    expect_close(answer(shapes, 0, seeds[0]), expected, what="weights without a branch")
    expect_raises(ValueError, answer, {"down.weight": (3, 2)}, 0, rng)


_ENDS = ("attention.out.weight", "cross.out.weight", "down.weight")


def _weights(shapes, branches, rng, deviation, dtype, scale, *, ends=_ENDS, gain=1.0, bias=0.0):
    found = {}
    for name, shape in shapes.items():
        if len(shape) != 2:
            found[name] = np.full(shape, bias if name.endswith("bias") else gain, dtype)
            continue
        size = deviation
        if name.endswith(ends):
            if branches < 1:
                raise ValueError("a matrix writes to the stream, so there is a branch")
            size = scale(deviation, branches)
        drawn = rng.standard_normal(shape, dtype=np.float32) * np.float32(size)
        found[name] = drawn.astype(dtype)
    return found


def _by_root(deviation, branches):
    return deviation / np.sqrt(branches)


@first_weights.mistake(
    "Your writing matrices are too small: 24 branches of this size together add 1/24 of what a "
    "single one would. Mean squares add, so what has to be divided by the number of branches?"
)
def divides_by_branches(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, lambda s, n: s / n)


@first_weights.mistake("All your matrices are equally large. Which ones write to the stream?")
def scales_nothing(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, lambda s, n: s)


@first_weights.mistake(
    "With gains of 0 every norm returns zeros, and nothing reaches the branches. What is neutral "
    "for a factor?"
)
def gains_of_zero(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, _by_root, gain=0.0)


@first_weights.mistake("You draw with the variance 0.02. It is the standard deviation.")
def takes_it_for_the_variance(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, np.sqrt(deviation), dtype, _by_root)


@first_weights.mistake(
    "The argument already counts branches, two for each block. You have counted them twice."
)
def doubles_the_branches(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, lambda s, n: s / np.sqrt(2 * n))


@first_weights.mistake(
    "Biases start at 0: a constant that is the same for every token has nothing to say yet."
)
def biases_of_one(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, _by_root, bias=1.0)


@first_weights.mistake("A block has two branches that write. You scale only one of them.")
def scales_one_branch(shapes, branches, rng, deviation=0.02, dtype=np.float32):
    return _weights(shapes, branches, rng, deviation, dtype, _by_root, ends=_ENDS[2:])


# ---- Where the norm stands -----------------------------------------------------------------------


@exercise(
    "Where the norm stands",
    difficulty=3,
    minutes=15,
    section="before-or-after",
    counterpart="chainrule.transformers.transformer_architecture:residual",
    idea="In each of the three cases x itself is added once. Only what the branch reads, or what "
    "is done with the sum, differs.",
)
def add_branch(x, branch, norm=None, place="pre"):
    """Return the stream after one branch was added to it.

    x may be an array or a tensor; branch and norm are functions of one such argument. place is
    "pre", or "post" as in 2017. Without a norm, place does not matter. Call branch once.
    """
    if norm is None:
        return x + branch(x)
    return norm(x + branch(x)) if place == "post" else x + branch(norm(x))


@add_branch.by_package
def _(package, x, branch, norm=None, place="pre"):
    def on_tensors(function):
        return function and (lambda h: Tensor(function(h.data)))

    return package(Tensor(x), on_tensors(branch), on_tensors(norm), place).data


@add_branch.in_package
def _(mine, x, branch, norm=None, place="pre"):
    return mine(x, branch, norm, place)


def _doubled(x):
    return 2 * x


def _centred(x):
    return x - x.mean(axis=-1, keepdims=True)


@add_branch.check
def one_row(answer, rng):
    x = np.array([[1.0, 5.0]])
    for norm, place, expected in (
        (None, "pre", [[3.0, 15.0]]),
        (_centred, "pre", [[-3.0, 9.0]]),
        (_centred, "post", [[-6.0, 6.0]]),
    ):
        kind = f"{place}-norm" if norm else "no norm"
        received = answer(x, _doubled, norm, place)
        expect_close(received, np.array(expected), what=f"the row (1, 5) with {kind}")


@add_branch.check
def a_matrix_that_bends(answer, rng):
    x, W = rng.normal(size=(3, 5)), rng.normal(size=(5, 5))

    def branch(h):
        return np.maximum(h @ W, 0)

    for norm in (None, _centred):
        for place in ("pre", "post"):
            what = f"three rows with place={place!r} and {'a norm' if norm else 'no norm'}"
            received = answer(x, branch, norm, place)
            expect_close(received, add_branch(x, branch, norm, place), what=what)


@add_branch.mistake(
    "Your stream is only what the branch computed. Where is the row that it was computed from?"
)
def only_the_branch(x, branch, norm=None, place="pre"):
    if norm is None:
        return branch(x)
    return norm(branch(x)) if place == "post" else branch(norm(x))


@add_branch.mistake(
    "You normalize the stream itself and go on with that. With pre-norm, nothing ever touches it."
)
def adds_to_the_normed_row(x, branch, norm=None, place="pre"):
    if norm is None or place == "post":
        return add_branch(x, branch, norm, place)
    return norm(x) + branch(norm(x))


@add_branch.mistake("You have exchanged pre and post: the names say where the norm stands.")
def exchanged(x, branch, norm=None, place="pre"):
    return add_branch(x, branch, norm, "pre" if place == "post" else "post")


@add_branch.mistake(
    "With post-norm you normalize what is added. In 2017 it was the sum that was normalized."
)
def normalizes_the_branch(x, branch, norm=None, place="pre"):
    if norm is None or place == "pre":
        return add_branch(x, branch, norm, place)
    return x + norm(branch(x))


# ---- A residual block, both ways -----------------------------------------------------------------


@exercise(
    "A residual block, both ways",
    difficulty=4,
    minutes=50,
    section="the-row-that-everything-adds-to",
    counterpart="chainrule.transformers.transformer_architecture:residual",
    idea="Name every result on the way forward. On the way back take them in reverse order; where "
    "a result was used twice, its two gradients add up. The input is used twice.",
)
def gated_block(x, gain, W_gate, W_up, W_down, eps):
    """Return a pre-norm residual block around SwiGLU, and a function vjp.

    x has shape (tokens, d). The norm divides each row by the root of the mean of its squares
    plus eps, and multiplies by gain, of shape (d). W_gate and W_up have shape (hidden, d), W_down
    has shape (d, hidden). vjp(g), with g of the shape of x, returns the gradients by x, gain,
    W_gate, W_up and W_down, a tuple of five arrays.
    """
    r = np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
    unit = x / r
    h = unit * gain
    a, b = h @ W_gate.T, h @ W_up.T
    s = 1 / (1 + np.exp(-a))
    hidden = a * s * b

    def vjp(g):
        g_hidden = g @ W_down
        g_b, g_a = g_hidden * a * s, g_hidden * b * s * (1 + a * (1 - s))
        g_h = g_a @ W_gate + g_b @ W_up
        g_unit = g_h * gain
        g_x = g + (g_unit - unit * (g_unit * unit).mean(axis=1, keepdims=True)) / r
        return g_x, (g_h * unit).sum(axis=0), g_a.T @ h, g_b.T @ h, g.T @ hidden

    return x + hidden @ W_down.T, vjp


@gated_block.by_package
def _(package, x, gain, W_gate, W_up, W_down, eps):
    given = [Tensor(each, requires_grad=True) for each in (x, gain, W_gate, W_up, W_down)]
    t, gains, gate, up, down = given

    def branch(h):
        return (silu(h @ gate.T) * (h @ up.T)) @ down.T

    y = package(t, branch, lambda h: rms_norm(h, h.shape[-1], gains, eps), "pre")

    def vjp(g):
        for each in given:
            each.grad = None
        y.backward(g, retain_graph=True)
        return tuple(each.grad for each in given)

    return y.data, vjp


def _given(rng, tokens, d, hidden):
    return (
        rng.normal(size=(tokens, d)), rng.normal(size=d), rng.normal(size=(hidden, d)),
        rng.normal(size=(hidden, d)), rng.normal(size=(d, hidden)),
    )  # fmt: skip


@gated_block.check
def forward(answer, rng):
    for shape in ((5, 3, 7), (2, 11, 5)):
        given = _given(rng, *shape)
        what = "the block for {} tokens of width {} and {} hidden units".format(*shape)
        expect_close(answer(*given, 1e-5)[0], gated_block(*given, 1e-5)[0], what=what)


@gated_block.check
def weights(answer, rng):
    given, g = _given(rng, 5, 3, 7), rng.normal(size=(5, 3))
    received, expected = answer(*given, 1e-5)[1](g), gated_block(*given, 1e-5)[1](g)
    expect(isinstance(received, tuple) and len(received) == 5, "vjp returns five arrays")
    what = "the gradients by gain, W_gate, W_up and W_down"
    expect_close(list(received[1:]), list(expected[1:]), what=what)


@gated_block.check
def the_input(answer, rng):
    given, g = _given(rng, 5, 3, 7), rng.normal(size=(5, 3))
    received, expected = answer(*given, 1e-5)[1](g), gated_block(*given, 1e-5)[1](g)
    expect_close(received[0], expected[0], what="the gradient by x")


@gated_block.check
def a_large_eps(answer, rng):
    given, g = _given(rng, 3, 2, 5), rng.normal(size=(3, 2))
    received, expected = answer(*given, 0.7)[1](g), gated_block(*given, 0.7)[1](g)
    expect_close(list(received), list(expected), what="the gradients with eps 0.7")


def _gated(x, gain, W_gate, W_up, W_down, eps, *, add=True, straight=True, through_norm=True,
           slope=None, sigmoid=False, swap=False, forget_gain=False, late_gain=False):  # fmt: skip
    r = np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)
    unit = x / r
    h = unit * gain
    a, b = h @ W_gate.T, h @ W_up.T
    if swap:
        a, b = b, a
    s = 1 / (1 + np.exp(-a))
    bent = s if sigmoid else a * s
    hidden = bent * b

    def vjp(g):
        g_hidden = g @ W_down
        steep = s * (1 - s) if sigmoid else s * (1 + a * (1 - s))
        steep = steep if slope is None else slope(a, s)
        g_a, g_b = g_hidden * b * steep, g_hidden * bent
        if swap:
            g_a, g_b = g_b, g_a
        g_h = g_a @ W_gate + g_b @ W_up
        g_unit = g_h if forget_gain else g_h * gain
        if through_norm:
            g_unit = g_unit - unit * (g_unit * unit).mean(axis=1, keepdims=True)
        g_x = g_unit / r + (g if add and straight else 0)
        g_gain = (g_h * (x if late_gain else unit)).sum(axis=0)
        return g_x, g_gain, g_a.T @ h, g_b.T @ h, g.T @ hidden

    return hidden @ W_down.T + (x if add else 0), vjp


@gated_block.mistake(
    "Your block returns what the branch computes. Where is the row that it was computed from?"
)
def does_not_add(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, add=False)


@gated_block.mistake(
    "Forward is right, and so are the gradients of the weights. x reaches the result on two ways; "
    "on one of them nothing happens to the gradient."
)
def forgets_the_straight_way(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, straight=False)


@gated_block.mistake("Only your gradient by x is off: the root mean square depends on x too.")
def takes_the_norm_for_a_constant(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, through_norm=False)


@gated_block.mistake(
    "Your gate is the logistic function alone. SiLU multiplies it by its own input."
)
def gates_with_the_logistic_function(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, sigmoid=True)


@gated_block.mistake("You bend the signal and leave the gate straight. It is the other way round.")
def bends_the_signal(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, swap=True)


@gated_block.mistake(
    "Forward is right. The slope of SiLU is not the logistic function alone: a product has two "
    "factors, and both depend on the input."
)
def half_of_the_slope(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, slope=lambda a, s: s)


@gated_block.mistake(
    "Only your gradient by x is off. On its way back to the normalized row the gradient passes "
    "the gain."
)
def forgets_the_gain_on_the_way_back(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, forget_gain=True)


@gated_block.mistake(
    "Only your gradient by the gain is off: the gain multiplies the normalized row and not x."
)
def gain_of_the_raw_row(x, gain, W_gate, W_up, W_down, eps):
    return _gated(x, gain, W_gate, W_up, W_down, eps, late_gain=True)


@gated_block.mistake(
    "You normalize the sum. In a pre-norm block the norm stands before the branch, and the stream "
    "itself is never touched."
)
def normalizes_the_sum(x, gain, W_gate, W_up, W_down, eps):
    t, *rest = (Tensor(each, requires_grad=True) for each in (x, gain, W_gate, W_up, W_down))
    gains, gate, up, down = rest
    y = rms_norm(t + (silu(t @ gate.T) * (t @ up.T)) @ down.T, x.shape[-1], gains, eps)

    def vjp(g):
        for each in (t, *rest):
            each.grad = None
        y.backward(g, retain_graph=True)
        return tuple(each.grad for each in (t, *rest))

    return y.data, vjp


# ---- Send each token to its experts --------------------------------------------------------------


@exercise(
    "Send each token to its experts",
    difficulty=5,
    minutes=45,
    section="mixture-of-experts",
    counterpart="chainrule.transformers.transformer_architecture:MoE",
    idea="Loop over the experts and not over the tokens. For each expert find the tokens that "
    "chose it, run them together, and add its weighted results to the rows of those tokens.",
)
def mixture(x, router, experts, k):
    """Return the output of a mixture of experts, the load of each expert, and the balance loss.

    x has shape (tokens, d), router has shape (experts, d). experts is a list of functions; each
    takes and returns rows of width d. A token uses the k experts with the largest shares, k at
    least 2, weighted by their shares divided by the sum of the k. Call each expert at most once,
    with the rows of its own tokens only, in their order, and an expert that nobody chose not at
    all. The load is an expert's part of all choices; the balance loss is a number of type float.
    """
    shares = softmax(x @ router.T)
    chosen = np.argsort(-shares, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(shares, chosen, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    y = np.zeros_like(x)
    for i, expert in enumerate(experts):
        rows, slots = np.nonzero(chosen == i)
        if len(rows):
            y[rows] += weights[rows, slots, None] * expert(x[rows])
    load = np.bincount(chosen.ravel(), minlength=len(experts)) / chosen.size
    return y, load, float(len(experts) * (load * shares.mean(axis=0)).sum())


@mixture.by_package
def _(package, x, router, experts, k):
    moe = package(x.shape[1], 1, len(experts), k, rng=np.random.default_rng(0), dtype=float)
    moe.router.weight.data = router
    moe.experts = [lambda rows, each=each: Tensor(each(rows.data)) for each in experts]
    y = moe(Tensor(x)).data
    return y, moe.load, float(moe.balance_loss.data)


def _experts(rng, n, d, calls):
    """Functions that note what they are called with."""
    weights = rng.normal(size=(n, d, d))

    def make(i):
        def expert(rows):
            calls.append((i, np.array(rows)))
            return np.tanh(rows @ weights[i].T) + i

        return expert

    return [make(i) for i in range(n)]


def _seen(rng, tokens, d, n, k, shift=0.0):
    calls, expected_calls = [], []
    x, router = rng.normal(size=(tokens, d)) + shift, rng.normal(size=(n, d))
    seed = int(rng.integers(1000))
    mine = _experts(np.random.default_rng(seed), n, d, expected_calls)
    yours = _experts(np.random.default_rng(seed), n, d, calls)
    return (x, router, yours, k), (x, router, mine, k), calls, expected_calls


@mixture.check
def two_of_four(answer, rng):
    yours, mine, _, _ = _seen(rng, 7, 5, 4, 2)
    y, load, balance = answer(*yours)
    expected = mixture(*mine)
    expect_close(y, expected[0], what="the output of 7 tokens, 4 experts, 2 for each")
    expect_close(load, expected[1], what="the load of the experts")
    expect_close(balance, expected[2], what="the balance loss")


@mixture.check
def three_of_five(answer, rng):
    yours, mine, _, _ = _seen(rng, 11, 3, 5, 3)
    received, expected = answer(*yours), mixture(*mine)
    expect_close(list(received), list(expected), what="output, load and balance loss, 3 of 5,")


@mixture.check
def calls_and_no_more(answer, rng):
    yours, mine, calls, expected = _seen(rng, 6, 4, 9, 2, shift=2.0)
    y = answer(*yours)[0]
    expect_close(y, mixture(*mine)[0], what="the output of 6 tokens and 9 experts")
    expect(
        len({i for i, _ in calls}) == len(calls)
        and {i for i, _ in calls} == {i for i, _ in expected},
        f"experts were called in the order {[i for i, _ in calls]}; each that some token chose is "
        "called once, the others not at all",
    )
    for i, rows in calls:
        want = next(each for j, each in expected if j == i)
        expect(
            rows.shape == want.shape and np.allclose(rows, want),
            f"expert {i} got {len(rows)} rows and not the {len(want)} tokens that chose it",
        )


def _mixed(x, router, experts, k, *, raw=False, equal=False, smallest=False, each_token=False,
           factor=True, scores=False):  # fmt: skip
    shares = softmax(x @ router.T)
    order = shares if smallest else -shares
    chosen = np.argsort(order, axis=1, kind="stable")[:, :k]
    weights = np.take_along_axis(shares, chosen, axis=1)
    if not raw:
        weights = weights / weights.sum(axis=1, keepdims=True)
    if equal:
        weights = np.full_like(weights, 1 / k)
    if scores:
        weights = np.take_along_axis(x @ router.T, chosen, axis=1)
        weights = weights / weights.sum(axis=1, keepdims=True)
    y = np.zeros_like(x)
    for i, expert in enumerate(experts):
        rows, slots = np.nonzero(chosen == i)
        if len(rows):
            y[rows] += weights[rows, slots, None] * expert(x[rows])
    load = np.bincount(chosen.ravel(), minlength=len(experts))
    load = load / (len(x) if each_token else chosen.size)
    mean = shares.mean(axis=0)
    return y, load, float((len(experts) if factor else 1) * (load * mean).sum())


@mixture.mistake(
    "The weights of a token's experts should sum to 1. Yours are the shares among all experts, of "
    "which most were not chosen."
)
def weights_do_not_sum_to_one(x, router, experts, k):
    return _mixed(x, router, experts, k, raw=True)


@mixture.mistake(
    "You weigh all chosen experts alike. Then the router gets no gradient: its shares must count."
)
def equal_weights(x, router, experts, k):
    return _mixed(x, router, experts, k, equal=True)


@mixture.mistake("You send tokens to the experts with the smallest shares.")
def chooses_the_smallest(x, router, experts, k):
    return _mixed(x, router, experts, k, smallest=True)


@mixture.mistake("Loads are parts of all choices, so they sum to 1. Yours sum to k.")
def load_for_each_token(x, router, experts, k):
    return _mixed(x, router, experts, k, each_token=True)


@mixture.mistake("The balance loss of an even load is 1. Which factor do you leave out?")
def balance_without_the_factor(x, router, experts, k):
    return _mixed(x, router, experts, k, factor=False)


@mixture.mistake(
    "You divide scores by their sum. Scores can be negative: which function turns them into "
    "shares first?"
)
def weighs_by_scores(x, router, experts, k):
    return _mixed(x, router, experts, k, scores=True)
