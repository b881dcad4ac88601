"""Windows as columns, and the three matrix products that every convolution is made of.

Images go through in portions whose columns stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from chainrule.shapes import Array, Float

__all__ = [
    "Geometry", "Pair", "add_windows", "col2im", "conv_output_size", "correlate", "geometry",
    "im2col", "match", "pad", "pair", "places", "spread", "windows",
]  # fmt: skip

Pair = int | tuple[int, ...]  # one number for both axes, or two
PORTION = 1 << 17  # numbers in the columns of one portion of images: 512 kB in float32


class Geometry(NamedTuple):
    """How windows lie on an image: each entry for rows and for columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def output(self, size: tuple[int, ...]) -> tuple[int, int]:
        """How many windows fit down and across an image of this size."""
        rows, columns = (conv_output_size(*each) for each in zip(size, *self, strict=True))
        return rows, columns


def pair(value: Pair, name: str, least: int) -> tuple[int, int]:
    """The same number for rows and columns, unless there are two; none below ``least``."""
    both = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    if len(both) != 2 or min(both) < least:
        raise ValueError(f"{name} must be one or two whole numbers from {least} on, got {value}")
    return int(both[0]), int(both[1])


def geometry(kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Geometry:
    """Check all four and give each for rows and columns."""
    return Geometry(
        pair(kernel, "kernel", 1),
        pair(stride, "stride", 1),
        pair(padding, "padding", 0),
        pair(dilation, "dilation", 1),
    )


def conv_output_size(
    size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    """How many places a window has along one axis.

    Equation: architectures/cnns.md#eq-conv-output-size

    Raises:
        ValueError: the window is larger than the padded axis.
    """
    reach = dilation * (kernel - 1) + 1
    if reach > size + 2 * padding:
        raise ValueError(
            f"a window of {reach} does not fit into {size} with padding {padding} on both sides"
        )
    return (size + 2 * padding - reach) // stride + 1


# ---- windows as columns ----------------------------------------------------------------------


def pad(x: Array, padding: tuple[int, int], value: float = 0.0) -> Array:
    """``x`` with a border of ``value`` around its last two axes."""
    (above, left), (rows, columns) = padding, x.shape[-2:]
    if not above and not left:
        return x
    padded = np.full((*x.shape[:-2], rows + 2 * above, columns + 2 * left), value, x.dtype)
    padded[..., above : above + rows, left : left + columns] = x
    return padded


def windows(padded: Array, shape: Geometry) -> Array:
    """A view (n, c, kh, kw, hh, ww) on padded images: entry (u, v) of every window together."""
    (kh, kw), (down, across), _, (apart, beside) = shape
    reach = apart * (kh - 1) + 1, beside * (kw - 1) + 1
    view = sliding_window_view(padded, reach, axis=(-2, -1))
    return view[..., ::down, ::across, ::apart, ::beside].transpose(0, 1, 4, 5, 2, 3)


def places(shape: Geometry, output: tuple[int, int]) -> Iterator[tuple[int, int, Any]]:
    """For each entry (u, v) of the kernel: the pixels of the padded image that it meets."""
    (kh, kw), (down, across), _, (apart, beside) = shape
    for u in range(kh):
        for v in range(kw):
            rows = slice(u * apart, u * apart + down * (output[0] - 1) + 1, down)
            columns = slice(v * beside, v * beside + across * (output[1] - 1) + 1, across)
            yield u, v, (..., rows, columns)


def im2col(
    x: Float[Array, "n c h w"],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Float[Array, "n column place"]:
    """Every window of every image as a column: (n, c·kh·kw, hh·ww).

    Equation: architectures/cnns.md#eq-im2col
    """
    shape = geometry(kernel, stride, padding, dilation)
    shape.output(x.shape[2:])
    columns = windows(pad(x, shape.padding), shape)
    n, c, kh, kw, hh, ww = columns.shape
    return np.ascontiguousarray(columns).reshape(n, c * kh * kw, hh * ww)


def col2im(
    columns: Float[Array, "n column place"],
    size: tuple[int, int],
    kernel: Pair,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
) -> Float[Array, "n c h w"]:
    """Put columns back where `im2col` took them from; pixels of several windows get the sum.

    Equation: architectures/cnns.md#eq-col2im
    """
    shape = geometry(kernel, stride, padding, dilation)
    (kh, kw), output = shape.kernel, shape.output(size)
    parts = columns.reshape(len(columns), columns.shape[1] // (kh * kw), kh, kw, *output)
    image = np.zeros((*parts.shape[:2], *size), columns.dtype)
    add_windows(parts, shape, image)
    return image


def add_windows(parts: Array, shape: Geometry, image: Array) -> None:
    """Fill ``image`` with the sums of what its windows hold: (n, c, kh, kw, hh, ww)."""
    (above, left), (rows, columns) = shape.padding, image.shape[-2:]
    padded = np.zeros((*image.shape[:2], rows + 2 * above, columns + 2 * left), image.dtype)
    for u, v, place in places(shape, parts.shape[-2:]):
        padded[place] += parts[:, :, u, v]
    image[...] = padded[..., above : above + rows, left : left + columns]


# ---- the three products ----------------------------------------------------------------------


def _portions(n: int, numbers: int) -> Iterator[slice]:
    """Slices of the batch, each of whose columns fit into the cache together."""
    step = max(1, PORTION // max(numbers, 1))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _split(weight: Array, groups: int) -> tuple[Array, int]:
    """The kernels of each group as rows (groups, m/groups, numbers), and their length."""
    m, length = len(weight), int(np.prod(weight.shape[1:]))
    return weight.reshape(groups, m // groups, length), length


def turn(weight: Array, groups: int) -> Array:
    """Kernels turned by 180 degrees, those that read a channel put together for that channel."""
    m, c, kh, kw = weight.shape
    apart = weight[:, :, ::-1, ::-1].reshape(groups, m // groups, c, kh, kw)
    return np.ascontiguousarray(apart.swapaxes(1, 2)).reshape(groups * c, m // groups, kh, kw)


def correlate(x: Array, weight: Array, shape: Geometry, groups: int) -> Array:
    """Kernels as rows times windows as columns, for each portion of images."""
    (n, m), (hh, ww) = (len(x), len(weight)), shape.output(x.shape[2:])
    rows, length = _split(weight, groups)
    padded = pad(x, shape.padding)
    y = np.empty((n, m, hh, ww), x.dtype)
    for some in _portions(n, groups * length * hh * ww):
        columns = np.ascontiguousarray(windows(padded[some], shape))
        columns = columns.reshape(-1 if n else 0, groups, length, hh * ww)
        np.matmul(rows, columns, out=y[some].reshape(len(columns), *rows.shape[:2], hh * ww))
    return y


def spread(g: Array, weight: Array, shape: Geometry, groups: int, size: tuple[int, int]) -> Array:
    """Each output's gradient, times its kernel, added where its window lay: (n, c, *size).

    With stride 1 that is a correlation with the turned kernels, which takes half of the time.

    Equation: architectures/cnns.md#eq-turned-kernel
    """
    n, (kh, kw), (hh, ww) = len(g), shape.kernel, g.shape[2:]
    around = [
        d * (k - 1) - p for k, p, d in zip(shape.kernel, shape.padding, shape.dilation, strict=True)
    ]
    if shape.stride == (1, 1) and min(around) >= 0:
        turned = shape._replace(padding=(around[0], around[1]))
        return correlate(g, turn(weight, groups), turned, groups)
    rows, length = _split(weight, groups)
    c = groups * weight.shape[1]
    x = np.empty((n, c, *size), g.dtype)
    for some in _portions(n, groups * length * hh * ww):
        upstream = g[some].reshape(-1, *rows.shape[:2], hh * ww)
        columns = np.matmul(rows.swapaxes(-1, -2), upstream)
        add_windows(columns.reshape(-1, c, kh, kw, hh, ww), shape, x[some])
    return x


def match(x: Array, g: Array, shape: Geometry, groups: int) -> Array:
    """The weight's gradient: every window times the gradient of its output, summed."""
    (n, m), (hh, ww), (kh, kw) = g.shape[:2], g.shape[2:], shape.kernel
    c = x.shape[1] // groups
    length = c * kh * kw
    padded = pad(x, shape.padding)
    total = np.zeros((groups, length, m // groups), g.dtype)
    for some in _portions(n, groups * length * hh * ww):
        columns = np.ascontiguousarray(windows(padded[some], shape))
        columns = columns.reshape(-1, groups, length, hh * ww)
        upstream = g[some].reshape(len(columns), groups, m // groups, hh * ww)
        total += np.matmul(columns, upstream.swapaxes(-1, -2)).sum(axis=0)
    return np.ascontiguousarray(total.swapaxes(-1, -2)).reshape(m, c, kh, kw)
