"""Figures of neural-networks/backpropagation.md."""

from __future__ import annotations

import tracemalloc

import numpy as np

from chainrule.course.figures import COLORS, figure, interactive, measured, measurement
from chainrule.neural_networks.backpropagation import (
    Tensor,
    checkpoint,
    grad,
    keep_values,
    primitive,
    trace,
)


@figure("hand-example")
def hand_example(plt):
    numbers = {"w": 0.5, "x": 2.0, "b": -1.0, "y": 1.0}
    leaves = {name: Tensor(np.array(value), requires_grad=True) for name, value in numbers.items()}
    w, x, b, y = leaves.values()
    with keep_values():
        loss = ((w * x + b).sigmoid() - y) ** 2
    graph = trace(loss, gradients=True)
    names = iter(["w", "x", "p = wx", "b", "z = p + b", "a = σ(z)", "y", "e = a − y", "L = e²"])
    operations = iter([(1.25, 0.5), (2.6, 0.5), (3.95, 0.5), (5.3, 0.5), (6.65, 0.5)])
    ends = iter([(0, 1), (0, 0), (1.25, -0.5), (3.95, -0.5)])
    where = [next(ends if v.name == "leaf" else operations) for v in graph.vertices]

    fig, ax = plt.subplots(figsize=(7, 2.9))
    width, height = 1.02, 0.62
    for source, target in graph.edges:
        (x0, y0), (x1, y1) = where[source], where[target]
        ax.annotate(
            "",
            xy=(x1 - width / 2, y1 + 0.18 * np.sign(y0 - y1)),
            xytext=(x0 + width / 2, y0),
            arrowprops={"arrowstyle": "-|>", "color": COLORS["grey"], "shrinkA": 0, "shrinkB": 1},
        )
    for vertex, (px, py) in zip(graph.vertices, where, strict=True):
        is_leaf = vertex.name == "leaf"
        box = plt.Rectangle(
            (px - width / 2, py - height / 2),
            width,
            height,
            facecolor="white" if is_leaf else "#eaf3f9",
            edgecolor=COLORS["grey"] if is_leaf else COLORS["blue"],
            linewidth=1,
        )
        ax.add_patch(box)
        ax.text(px, py + 0.16, next(names), ha="center", va="center", color=COLORS["blue"])
        value, gradient = f"{vertex.value:g}", f"{vertex.gradient:g}"
        line = {"va": "center", "fontsize": 9}
        ax.text(px - 0.45, py - 0.13, value.replace("-", "−"), ha="left", **line)
        line["color"] = COLORS["vermillion"]
        ax.text(px + 0.45, py - 0.13, gradient.replace("-", "−"), ha="right", **line)
    for level, text, colour, span in (
        (1.2, "forward: values", "black", (3.0, 6.9)),
        (-1.12, "backward: derivatives of L", "vermillion", (6.9, 3.0)),
    ):
        ax.annotate(
            "",
            xy=(span[1], level),
            xytext=(span[0], level),
            arrowprops={"arrowstyle": "-|>", "color": COLORS[colour], "linewidth": 1.4},
        )
        ax.text(4.95, level + 0.08, text, ha="center", color=COLORS[colour])
    ax.set_xlim(-0.6, 7.25)
    ax.set_ylim(-1.25, 1.5)
    ax.axis("off")
    return fig


def _slope(step, at):
    """The derivative of one operation with respect to its input, by the engine."""
    leaf = Tensor(np.array(at), requires_grad=True)
    return float(grad(step(leaf), [leaf])[0])


@interactive(
    "hand-example",
    states=[
        {"step": 0, "w": -3, "x": 3, "b": -3, "y": 1},
        {"step": 7, "w": 3, "x": 3, "b": 3, "y": 0},
        {"step": 10, "x": 0},
        {"w": 1.7, "x": -0.4, "b": 0.6, "y": 0.3},
    ],
)
def hand_example_model(state):
    def run(w):
        w, *rest = (Tensor(np.array(float(n)), requires_grad=True) for n in (w, *others))
        x, b, y = rest
        with keep_values():
            return ((w * x + b).sigmoid() - y) ** 2

    others = [state[name] for name in "xby"]
    loss = run(state["w"])
    vertices = trace(loss, gradients=True).vertices
    values = {name: float(v.value) for name, v in zip("wxpbzayeL", vertices, strict=True)}
    adjoints = {name: float(v.gradient) for name, v in zip("wxpbzayeL", vertices, strict=True)}
    return {
        "values": values,
        "adjoints": adjoints,
        "slopes": {
            "e": _slope(lambda e: e**2, values["e"]),
            "a": _slope(lambda a: a - values["y"], values["a"]),
            "y": _slope(lambda y: values["a"] - y, values["y"]),
            "z": _slope(lambda z: z.sigmoid(), values["z"]),
            "p": _slope(lambda p: p + values["b"], values["p"]),
            "b": _slope(lambda b: values["p"] + b, values["b"]),
            "w": _slope(lambda w: w * values["x"], values["w"]),
            "x": _slope(lambda x: values["w"] * x, values["x"]),
        },
        "change": float(run(state["w"] + 0.01).data - loss.data),
        "promised": 0.01 * adjoints["w"],
    }


@figure("broadcast")
def broadcast(plt):
    fig, axes = plt.subplots(1, 2, figsize=(7, 2.5))
    bias = np.array([2, -1, 3])
    upstream = np.array([[1, 0, 2], [3, 1, -1], [0, 2, 1], [-2, 1, 1]])
    rows = len(upstream)

    def table(ax, values, top, colour, face):
        for i, row in enumerate(np.atleast_2d(values)):
            for j, number in enumerate(row):
                square = plt.Rectangle(
                    (j, top - i - 1), 1, 1, facecolor=face, edgecolor="white", linewidth=2
                )
                ax.add_patch(square)
                text = f"{number:g}".replace("-", "−")
                ax.text(j + 0.5, top - i - 0.5, text, ha="center", va="center", color=colour)

    panels = (
        (axes[0], "forward: one row is copied", "black", bias, np.tile(bias, (rows, 1)), -1),
        (
            axes[1],
            "backward: the copies' gradients are added",
            "vermillion",
            upstream.sum(0),
            upstream,
            1,
        ),
    )
    for ax, title, colour, small, large, direction in panels:
        table(ax, small, rows + 1.9, COLORS[colour], "#eaf3f9" if direction < 0 else "#fbeee6")
        table(ax, large, rows, COLORS[colour], "#f4f4f4")
        ends = (rows + 0.85, rows + 0.05)
        for j in range(3):
            ax.annotate(
                "",
                xy=(j + 0.5, ends[0] if direction > 0 else ends[1]),
                xytext=(j + 0.5, ends[1] if direction > 0 else ends[0]),
                arrowprops={"arrowstyle": "-|>", "color": COLORS[colour], "shrinkA": 0},
            )
        small_name, large_name = ("b", "b in Y") if direction < 0 else ("gradient of b", "G")
        ax.text(-0.2, rows + 1.4, small_name, ha="right", va="center")
        ax.text(-0.2, rows / 2, large_name, ha="right", va="center")
        ax.set_title(title)
        ax.set_xlim(-2.6, 4)
        ax.set_ylim(-0.1, rows + 2)
        ax.axis("off")
    return fig


def _softsign_network(dtype, activation, rng):
    """The loss of a small network as a function of its weights, and those weights."""
    inputs, targets = rng.normal(size=(4, 1, 3)), rng.normal(size=(4, 2))
    shapes = [(5, 3), (5,), (2, 5), (2,)]
    weights = [Tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in shapes]

    def loss(W1, b1, W2, b2):
        hidden = activation((Tensor(inputs.astype(dtype)) * W1).sum(axis=-1) + b1)
        output = (hidden.reshape(4, 1, 5) * W2).sum(axis=-1) + b2
        error = output - Tensor(targets.astype(dtype))
        return (error * error).sum()

    return loss, weights


def _softsign(x):
    return x / (x.abs() + 1)


_wrong_softsign = primitive(
    lambda x: x / (1 + np.abs(x)), lambda g, y, x: (g * (1 - np.abs(y)),)
)  # the derivative is the square of that


def _check_errors(dtype, activation, networks=12, h=1e-6):
    rng, errors = np.random.default_rng(0), []
    for _ in range(networks):
        loss, weights = _softsign_network(dtype, activation, rng)
        gradients = grad(loss(*weights), weights)
        for weight, gradient in zip(weights, gradients, strict=True):
            for place in np.ndindex(weight.shape):
                before = weight.data[place]
                weight.data[place] = before + dtype(h)
                above = float(loss(*weights).data)
                weight.data[place] = before - dtype(h)
                below = float(loss(*weights).data)
                weight.data[place] = before
                slope, found = (above - below) / (2 * h), float(gradient[place])
                errors.append(abs(found - slope) / max(1, abs(found), abs(slope)))
    return np.array(errors)


CASES = (
    ("right, float64", "blue", np.float64, _softsign),
    ("right, float32", "sky", np.float32, _softsign),
    ("wrong VJP, float64", "vermillion", np.float64, _wrong_softsign),
)
EDGES = np.arange(-13, 1.01, 0.5)  # of the bars, in powers of ten


@measurement("check-errors", absolute=60, seconds=6)
def measure_check_errors():
    """How many entries of the gradient have an error between two powers of ten."""
    counts = {}
    for name, _, dtype, activation in CASES:
        errors = np.log10(np.maximum(_check_errors(dtype, activation), 1e-13))
        counts[name] = np.histogram(np.clip(errors, -12.99, 0.99), EDGES)[0]
    return counts


@figure("check-errors")
def check_errors(plt):
    fig, ax = plt.subplots(figsize=(7, 3.2))
    found = measured("check-errors")
    for name, colour, _, _ in CASES:
        ax.stairs(found[name], EDGES, fill=True, color=COLORS[colour], alpha=0.55)
        ax.stairs(found[name], EDGES, color=COLORS[colour], linewidth=1.4, label=name)
    ax.axvline(-6, color=COLORS["black"], linewidth=1, linestyle="--")
    ax.text(-6.1, ax.get_ylim()[1] * 0.97, "tolerance", ha="right", va="top")
    ticks = range(-12, 1, 2)
    ax.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    ax.set_xlabel("error of one entry of the gradient, relative above 1")
    ax.set_ylabel("entries")
    ax.legend(loc="upper left")
    return fig


def _alive(layers, spacing):
    """How many activations are alive after each layer evaluation, forward and back."""
    history, checkpoints = [], 0
    for layer in range(layers):
        checkpoints += layer % spacing == 0
        history.append(checkpoints)
    for start in reversed(range(0, layers, spacing)):
        inside = min(spacing, layers - start)
        history += [checkpoints + i for i in range(inside + 1)]
        history += [checkpoints + i for i in reversed(range(inside))]
        checkpoints -= 1
    return history


def _measured_peak(layers, spacing):
    """The same, measured: peak memory in activations of a chain of tanh in segments."""
    x = Tensor(np.full(1 << 15, 0.5), requires_grad=True)

    def segment(h):
        for _ in range(spacing):
            h = h.tanh()
        return h

    tracemalloc.start()
    h = x
    for _ in range(layers // spacing):
        h = checkpoint(segment, h)
    h.backward(np.ones(x.shape))
    peak = tracemalloc.get_traced_memory()[1] / x.data.nbytes
    tracemalloc.stop()
    return round(peak)


SPACINGS = (1, 2, 4, 8, 16, 32, 64)


@measurement("checkpoint-spacing", absolute={"peaks": 2}, seconds=1)
def measure_checkpoint_spacing():
    """The peak memory of a training step, in activations, for each spacing of checkpoints."""
    return {"spacings": SPACINGS, "peaks": [_measured_peak(64, k) for k in SPACINGS]}


@figure("checkpoint-spacing")
def checkpoint_spacing(plt):
    layers = 64
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 3.0))
    plain = [*range(1, layers + 1), *range(layers, 0, -1)]
    left.plot(plain, color=COLORS["grey"], linewidth=1.4)
    left.plot(_alive(layers, 8), color=COLORS["vermillion"], linewidth=1.4)
    left.text(64, 67, "keep all", ha="center", color=COLORS["grey"])
    left.text(140, 19, "every 8th", ha="center", color=COLORS["vermillion"])
    left.set_ylim(0, 76)
    left.set_xlim(0, None)
    left.set_xlabel("layers run, forward or back")
    left.set_ylabel("activations alive")
    left.set_title("one training step, 64 layers")

    spacings = np.array(SPACINGS)
    right.plot(spacings, layers / spacings + spacings, color=COLORS["blue"], label="n/k + k")
    peaks = measured("checkpoint-spacing")["peaks"]
    right.plot(spacings, peaks, "o", color=COLORS["vermillion"], label="measured")
    right.set_xscale("log", base=2)
    right.set_xticks(spacings, [str(k) for k in spacings])
    right.set_ylim(0, 76)
    right.set_xlabel("spacing k")
    right.set_ylabel("activations at the peak")
    right.set_title("the best spacing is √64")
    right.legend(loc="upper center")
    return fig
