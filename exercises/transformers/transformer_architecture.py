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
