"""What this machine does in a second, measured in a few: products, passes over memory, small steps.

Times are processor time of this process unless said, so other programs disturb little. A rate is
measured at the size at which it is needed: small matrices multiply slower, and an array that fits
into a cache is read faster than one that does not.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

import numpy as np

from chainrule.predict.work import Shape

__all__ = ["Machine"]

_PROGRAM = """
class Thing:
    __slots__ = ("value", "parents", "back")
    def __init__(self, value, parents=(), back=None):
        self.value = value
        self.parents = parents
        self.back = back

def shape_of(x, options=None):
    if isinstance(x, Thing) and options is not None:
        options = {key: value for key, value in options.items()}
    return x.value if isinstance(x, Thing) else x

def apply(function, *inputs, **options):
    values = [shape_of(x, options) for x in inputs]
    result, back = function(*values)
    parents = tuple(x for x in inputs if isinstance(x, Thing))
    return Thing(result, parents, back)

def add(a, b):
    return a + b, lambda g: (g, g)

def scale(a, b):
    return a * b, lambda g: (g * b, g * a)

for i in range(200):
    x = apply(add, Thing(float(i)), 2.0, axis=-1)
    y = apply(scale, x, Thing(0.5), keep=True)
    shares = y.back(1.0)
    for parent, share in zip(y.parents, shares):
        if parent.back is not None:
            parent.back(share)
"""
_DRAW = """
import io, time, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
began = None
for axes in (1, 1, 4):
    start = time.process_time()
    figure, places = plt.subplots(1, axes, figsize=(8, 3))
    for place in [places] if axes == 1 else places:
        for k in range(3):
            place.plot(range(50), [k * x for x in range(50)], label=str(k))
        place.set_title("a title"); place.legend()
    figure.savefig(io.BytesIO(), format="png", bbox_inches="tight")
    plt.close(figure)
    print(time.process_time() - start)
"""


class Machine:
    """Rates of the machine that this runs on, each measured when it is first asked for."""

    def __init__(
        self,
        patience: float = 0.02,
        clock: Callable[[], float] = time.process_time,
        number: type[np.floating] = np.float32,
    ) -> None:
        """``patience``: seconds that one measurement may take, beyond three repetitions.

        ``clock`` reads the time in which work is measured here; a child's is processor time.
        ``number``: of what the products are.
        """
        self.patience, self.clock, self.number = patience, clock, number
        self._products: dict[Shape, float] = {}

    def measure(self, shapes: Iterable[Shape]) -> None:
        """Measure products of these shapes now; later ones are guessed from the nearest."""
        for shape in shapes:
            if shape not in self._products:
                self._products[shape] = self._multiply(shape)

    def product_seconds(self, shape: Shape, flops: float) -> float:
        """Seconds of so many operations in products of a shape.

        A shape that was not measured has the seconds for an operation of the nearest one that was,
        in logarithms of the four sizes.
        """
        if shape not in self._products:
            if not self._products:
                self.measure([shape])
            near = np.log2(np.maximum(np.array(list(self._products)), 1))
            distance = np.abs(near - np.log2(np.maximum(np.array(shape), 1))) @ (0.2, 1, 1, 1)
            shape = list(self._products)[int(distance.argmin())]
        return flops * self._products[shape] / (2 * float(np.prod(shape)))

    def rates(self) -> list[tuple[Shape, float]]:
        """What was measured of products: shapes, and operations a second."""
        return [(s, 2 * float(np.prod(s)) / t) for s, t in self._products.items()]

    def pass_seconds(self, size: float, calls: float, moved: float) -> float:
        """Seconds of calls that read and write arrays of ``size`` bytes, ``moved`` bytes in all."""
        sizes, seconds = zip(*self.bandwidths, strict=True)
        return calls * self.call + moved * float(
            np.interp(np.log2(max(size, 1)), np.log2(sizes), seconds)
        )

    @property
    def bandwidth(self) -> float:
        """Bytes a second from and to memory, of arrays that fit into no cache."""
        return 1 / self.bandwidths[-1][1]

    @cached_property
    def bandwidths(self) -> list[tuple[int, float]]:
        """Bytes of an array, and seconds for each byte that typical passes over such arrays move.

        Typical are a product, three updates in place, the largest of each row, its subtraction and
        a division: eighteen times the array's bytes.
        """
        found = []
        for size in (1 << 12, 1 << 15, 1 << 17, 1 << 19, 1 << 21, 1 << 23, 1 << 25):
            a, b = np.ones((2, size // 256, 64), np.float32)
            repeats = max(1, (1 << 18) // size)

            def passes(a=a, b=b, repeats=repeats) -> None:
                for _ in range(repeats):
                    c = a * b
                    c -= b
                    c += a
                    c *= b
                    c -= c.max(axis=-1, keepdims=True)
                    c /= b

            seconds = self._time(passes) / repeats - 7 * self.call
            found.append((size, max(seconds, 1e-12) / (18 * size)))
        return found

    @cached_property
    def call(self) -> float:
        """Seconds that an operation on an array takes before it looks at the first element."""
        x = np.ones(4, np.float32)

        def calls() -> None:
            for _ in range(200):
                np.add(x, x)
                x.reshape(2, 2)
                x.sum()

        return self._time(calls) / 600

    @cached_property
    def bend(self) -> float:
        """Seconds for each element of an exponential function and its like."""
        x = np.linspace(-3, 3, 1 << 16, dtype=np.float32)
        y = np.empty_like(x)

        def bends() -> None:
            np.tanh(x, out=y)
            np.exp(x, out=y)

        return self._time(bends) / (2 * x.size)

    @cached_property
    def bends(self) -> dict[str, float]:
        """The same of other slow operations, by the names that `counting` gives them."""
        rng = np.random.default_rng(0)
        found: dict[str, float] = {}
        numbers: tuple[tuple[int, Any], ...] = ((4, np.float32), (8, np.float64))
        for digits, number in numbers:
            x = rng.standard_normal(1 << 14).astype(number)
            y, positive = np.empty_like(x), np.abs(x)

            def smooth(positive=positive, y=y) -> None:
                np.tanh(positive, out=y)
                np.exp(positive, out=y)
                np.log(positive, out=y)

            found[f"smooth{digits}"] = self._time(smooth) / (3 * x.size)
            for kind, work in (
                ("power", partial(np.power, x, 3, out=y)),
                ("order", partial(np.sort, x)),
                ("chance", partial(rng.standard_normal, x.size, number)),
            ):
                found[f"{kind}{digits}"] = self._time(work) / x.size
        return found

    @cached_property
    def doubles(self) -> Machine:
        """The same machine, with products of float64."""
        return Machine(self.patience, self.clock, np.float64)

    @cached_property
    def step(self) -> float:
        """Seconds that the interpreter takes for one node of a program, as `counting` counts."""
        from chainrule.predict.counting import count_source

        program = compile(ast.parse(_PROGRAM), "steps", "exec")
        return self._time(lambda: exec(program, {})) / count_source(_PROGRAM).steps

    @cached_property
    def picture(self) -> tuple[float, float]:
        """Seconds of a picture: what it takes by itself, and what each pair of axes adds."""
        one, four = self._child(_DRAW)[1:3]
        each = max(0.0, (four - one) / 3)
        return max(0.0, one - each), each

    def start(self, modules: Iterable[str] = ()) -> float:
        """Seconds until a fresh interpreter has these modules; one that is missing is left out."""
        lines = [f"try:\n import {name}\nexcept ImportError: pass" for name in modules]
        return self._child("\n".join([*lines, "import time", "print(time.process_time())"]))[0]

    def _child(self, program: str) -> list[float]:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return [float(line) for line in done.stdout.split()]

    def _multiply(self, shape: Shape) -> float:
        """Seconds of one product, with operands that are in no cache, as a step meets them."""
        batch, rows, inner, columns = shape
        rng = np.random.default_rng(0)
        sizes: list[tuple[int, ...]] = [(rows, inner), (inner, columns)]
        if batch > 1:
            sizes = [(batch, *size) for size in sizes]
        numbers = batch * (rows * inner + inner * columns)
        sets = max(1, min(32, (1 << 22) // numbers))
        pairs = [[rng.standard_normal(s, dtype=self.number) for s in sizes] for _ in range(sets)]
        repeats = max(1, int(2e5 / np.prod(shape, dtype=float)))

        def products() -> None:
            for _ in range(repeats):
                for a, b in pairs:
                    np.matmul(a, b)

        return self._time(products) / (repeats * sets)

    def _time(self, work: Callable[[], object]) -> float:
        """The median of at least three repetitions, after one that does not count."""
        work()
        seconds: list[float] = []
        while len(seconds) < 3 or (sum(seconds) < self.patience and len(seconds) < 50):
            start = self.clock()
            work()
            seconds.append(self.clock() - start)
        return statistics.median(seconds)
