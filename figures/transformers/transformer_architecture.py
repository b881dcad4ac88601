"""Figures of transformers/transformer-architecture.md."""

from __future__ import annotations

import numpy as np

from chainrule.course.figures import measured, measurement
from chainrule.neural_networks.backpropagation import Module, no_grad
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW
from chainrule.transformers.transformer_architecture import Transformer, TransformerConfig

# ---- reversing and sorting ---------------------------------------------------------------------

PAD, EDGE, FIRST, LETTERS = 0, 1, 2, 6
TASKS = ("reverse", "sort")


def examples(rng, count, task, longest):
    """Words of 4 to ``longest`` letters, what the decoder reads, and what it should write.

    An edge ends the source and the target, and begins what the decoder reads.
    """
    lengths = rng.integers(4, longest + 1, count)
    source = np.full((count, lengths.max() + 1), PAD)
    target = source.copy()
    for row, n in enumerate(lengths):
        letters = rng.integers(FIRST, FIRST + LETTERS, n)
        source[row, :n], source[row, n] = letters, EDGE
        target[row, :n] = letters[::-1] if task == "reverse" else np.sort(letters)
        target[row, n] = EDGE
    read = np.concatenate([np.full((count, 1), EDGE), target[:, :-1]], axis=1)
    return source, read, target


def configuration(depth, **changes):
    settings = {
        "vocab_size": FIRST + LETTERS, "width": 64, "heads": 4, "encoder_layers": depth,
        "decoder_layers": depth, "positions": "sinusoidal", "scaled": True, "context": 16,
    }  # fmt: skip
    return TransformerConfig(**(settings | changes))


def scores(model, source, read):
    mask = (source != PAD)[:, None, None, :]
    return model(source, read, mask, None, mask)


def exact(model, task, longest):
    """The share of 1,000 fresh words that come out right as a whole.

    Each letter is asked for with the right letters before it. A word without a mistake is the one
    that the model would write alone.
    """
    source, read, target = examples(np.random.default_rng(99), 1000, task, longest)
    with no_grad():
        guess = scores(model.eval(), source, read).data.argmax(axis=-1)
    return float(((guess == target) | (target == PAD)).all(axis=1).mean())


def train(model, task, rate, seed, steps, longest, warmup=0, decay=False):
    """Train on 64 fresh words a step, and return the loss of every step."""
    rng = np.random.default_rng(1000 + seed)
    optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    losses = []
    for step in range(1, steps + 1):
        source, read, target = examples(rng, 64, task, longest)
        loss = cross_entropy(scores(model, source, read), np.where(target == PAD, -100, target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = rate * min(1, step / warmup) if warmup else rate
        if decay:
            optimizer.lr *= min(1, 2 * (steps - step + 1) / steps)
        optimizer.step()
        losses.append(float(loss.data))
    return losses


# ---- depth: before, after, or nowhere -----------------------------------------------------------

DEPTHS = (1, 3, 6)
PLACES = {
    "pre": ("pre", 0),
    "post": ("post", 0),
    "none": ("none", 0),
    "post, warm-up": ("post", 100),
}
RATES = (0.0003, 0.001, 0.003)
STEPS, SHORT, SEEDS = 250, 8, 5


def one_depth(depth, kind, rate, seed):
    place, warmup = PLACES[kind]
    model = Transformer(configuration(depth, norm_place=place), np.random.default_rng(seed))
    with np.errstate(over="ignore", invalid="ignore"):
        losses = train(model, "reverse", rate, seed, STEPS, SHORT, warmup)
        return losses, exact(model, "reverse", SHORT)


@measurement("depth-rates", absolute=0.35, seconds=330)
def measure_depth_rates():
    """The loss at the end (mean of 25 steps, at most 3) of seed 100, for every rate."""
    found = {"rates": RATES, "depths": DEPTHS}

    def at_the_end(depth, kind, rate):
        loss = np.mean(one_depth(depth, kind, rate, 100)[0][-25:])
        return float(np.nan_to_num(np.minimum(loss, 3), nan=3))

    for kind in PLACES:
        found[kind] = [[at_the_end(depth, kind, rate) for rate in RATES] for depth in DEPTHS]
    return found


@measurement("depth", absolute={"loss": 0.3, "exact": 0.3}, seconds=560)
def measure_depth():
    """Five seeds at each one's best rate: mean loss of 25 steps, and the share of right words."""
    tried = measured("depth-rates")
    loss, share, best = {}, {}, {}
    for kind in PLACES:
        loss[kind], share[kind], best[kind] = [], [], []
        for depth, row in zip(DEPTHS, tried[kind], strict=True):
            rate = tried["rates"][int(np.argmin(row))]
            runs = [one_depth(depth, kind, rate, seed) for seed in range(SEEDS)]
            curves = np.minimum(3, np.array([losses for losses, _ in runs]))
            loss[kind].append(curves.mean(axis=0).reshape(-1, 25).mean(axis=1).tolist())
            share[kind].append([right for _, right in runs])
            best[kind].append(rate)
    return {"depths": DEPTHS, "rates": best, "loss": loss, "exact": share}


# ---- parts: take one away ------------------------------------------------------------------------


class Nothing(Module):
    """A branch that adds nothing."""

    def forward(self, x):
        """Return zeros."""
        return x * 0


def whole(seed):
    return Transformer(configuration(1), np.random.default_rng(seed))


def without_positions(seed):
    return Transformer(configuration(1, positions="none"), np.random.default_rng(seed))


def without_feed_forward(seed):
    model = whole(seed)
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block.feed_forward = Nothing()
    return model


def without_residual(seed):
    model = whole(seed)
    for block in (*model.encoder.blocks, *model.decoder.blocks):
        block._add = lambda x, norm, after, branch: branch(norm(x))
    return model


def one_head(seed):
    return Transformer(configuration(1, heads=1), np.random.default_rng(seed))


PARTS = {
    "nothing": whole,
    "positions": without_positions,
    "feed-forward layers": without_feed_forward,
    "residual connections": without_residual,
}
PART_RATES = (0.002, 0.004, 0.008)
LONG = 12


def one_part(part, task, rate, seed):
    model = PARTS[part](seed)
    train(model, task, rate, seed, 600, LONG, warmup=50, decay=True)
    return exact(model, task, LONG)


@measurement("parts-rates", absolute=0.5, seconds=300)
def measure_parts_rates():
    """The share of right words of seed 100, for every rate."""
    found = {"rates": PART_RATES}
    for part in PARTS:
        found[part] = {
            task: [one_part(part, task, rate, 100) for rate in PART_RATES] for task in TASKS
        }
    return found


@measurement("parts", absolute=0.35, seconds=480)
def measure_parts():
    """Five seeds at each one's best rate: the share of words that come out right as a whole."""
    tried = measured("parts-rates")
    found = {}
    for part in PARTS:
        found[part] = {}
        for task in TASKS:
            rate = tried["rates"][int(np.argmax(tried[part][task]))]
            found[part][task] = [one_part(part, task, rate, seed) for seed in range(SEEDS)]
    return found
