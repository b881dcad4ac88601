"""Blind set of architectures/cnns: wrong answers written from statement and stub alone."""

from __future__ import annotations

import numpy as np

from chainrule.course.exercises import wrong


def _slide(picture, kernel, stride, last=1):
    kh, kw = kernel.shape
    rows = range(0, picture.shape[0] - kh + last, stride)
    columns = range(0, picture.shape[1] - kw + last, stride)
    return np.array(
        [[(kernel * picture[i : i + kh, j : j + kw]).sum() for j in columns] for i in rows]
    )


@wrong(
    "feature_map", "Turns the kernel by 180 degrees, as np.convolve does.", known="turned_kernel"
)
def _(picture, kernel, stride):
    return _slide(picture, kernel[::-1, ::-1], stride)


@wrong(
    "feature_map", "Stops one place too early: range without the + 1.", known="last_place_missing"
)
def _(picture, kernel, stride):
    return _slide(picture, kernel, stride, last=0)


@wrong("feature_map", "Ignores the stride.", known="ignores_the_stride")
def _(picture, kernel, stride):
    return _slide(picture, kernel, 1)


@wrong(
    "feature_map", "Takes the mean of the products in place of the sum.", known="mean_of_products"
)
def _(picture, kernel, stride):
    return _slide(picture, kernel, stride) / kernel.size


@wrong("feature_map", "Strides down only.", known="strides_down_only")
def _(picture, kernel, stride):
    return _slide(picture, kernel, 1)[::stride]


def _count(layers, conv, norm, linear):
    found = []
    for kind, *sizes in layers:
        counts = {"conv": conv, "norm": norm, "linear": linear, "pool": lambda k: 0}
        found.append(int(counts[kind](*sizes)))
    return [*found, sum(found)]


def _conv(c, m, k, groups, bias):
    return m * (c // groups) * k * k + m * bias


def _linear(n, m, bias):
    return n * m + m * bias


@wrong(
    "count_numbers",
    "Counts a bias for every layer, also where there is none.",
    known="always_a_bias",
)
def _(layers):
    return _count(
        layers, lambda c, m, k, g, b: _conv(c, m, k, g, 1), lambda c: 2 * c,
        lambda n, m, b: n * m + m,
    )  # fmt: skip


@wrong("count_numbers", "Ignores the groups.", known="without_groups")
def _(layers):
    return _count(layers, lambda c, m, k, g, b: _conv(c, m, k, 1, b), lambda c: 2 * c, _linear)


@wrong(
    "count_numbers",
    "Counts the running mean and variance of a batch norm as learned.",
    known="running_statistics_too",
)
def _(layers):
    return _count(layers, _conv, lambda c: 4 * c, _linear)


@wrong("count_numbers", "Takes k for k squared.", known="side_for_area")
def _(layers):
    return _count(layers, lambda c, m, k, g, b: m * (c // g) * k + m * b, lambda c: 2 * c, _linear)


@wrong("count_numbers", "Divides by the groups twice: channels and kernels.", known="groups_twice")
def _(layers):
    return _count(
        layers, lambda c, m, k, g, b: (m // g) * (c // g) * k * k + m * b, lambda c: 2 * c, _linear
    )


@wrong(
    "moved_scans", "np.roll: what leaves on one side comes in on the other.", known="comes_in_again"
)
def _(scans, amounts):
    moved = [np.roll(s, tuple(a), axis=(0, 1)) for s, a in zip(scans, amounts, strict=True)]
    return np.array(moved)


def _move(scan, down, right):
    h, w = scan.shape
    out = np.zeros_like(scan)
    for i in range(h):
        for j in range(w):
            if 0 <= i - down < h and 0 <= j - right < w:
                out[i, j] = scan[i - down, j - right]
    return out


@wrong(
    "moved_scans", "Moves the other way: up and left for positive numbers.", known="the_other_way"
)
def _(scans, amounts):
    return np.array([_move(s, -a, -b) for s, (a, b) in zip(scans, amounts, strict=True)])


@wrong(
    "moved_scans",
    "Takes the first number for right and the second for down.",
    known="axes_exchanged",
)
def _(scans, amounts):
    return np.array([_move(s, b, a) for s, (a, b) in zip(scans, amounts, strict=True)])


@wrong("moved_scans", "Moves every scan by the first amount.", known="all_by_the_first")
def _(scans, amounts):
    return np.array([_move(s, *amounts[0]) for s in scans])


@wrong(
    "moved_scans",
    "Handles positive moves only; negative ones leave the scan where it is.",
    known="positive_only",
)
def _(scans, amounts):
    moved = np.maximum(amounts, 0)
    return np.array([_move(s, *a) for s, a in zip(scans, moved, strict=True)])


def _matrix(kernel, size, stride, place):
    (kh, kw), (h, w) = kernel.shape, size
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    T = np.zeros((rows * columns, h * w))
    for i in range(rows):
        for j in range(columns):
            for u in range(kh):
                for v in range(kw):
                    T[i * columns + j, place(i * stride + u, j * stride + v)] = kernel[u, v]
    return T


@wrong("matrix_of", "Turns the kernel.", known="turned_in_the_matrix")
def _(kernel, size, stride):
    return _matrix(kernel[::-1, ::-1], size, stride, lambda a, b: a * size[1] + b)


@wrong("matrix_of", "Returns the transposed matrix.", known="transposed")
def _(kernel, size, stride):
    return _matrix(kernel, size, stride, lambda a, b: a * size[1] + b).T


@wrong("matrix_of", "Numbers the pixels column by column.", known="column_by_column")
def _(kernel, size, stride):
    return _matrix(kernel, size, stride, lambda a, b: b * size[0] + a)


@wrong("matrix_of", "Ignores the stride: a row for every place.", known="matrix_without_stride")
def _(kernel, size, stride):
    return _matrix(kernel, size, 1, lambda a, b: a * size[1] + b)


@wrong(
    "matrix_of",
    "Moves by one pixel for every place, though there are fewer places.",
    known="one_pixel_a_row",
)
def _(kernel, size, stride):
    (kh, kw), (h, w) = kernel.shape, size
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    T = np.zeros((rows, columns, h, w))
    for i in range(rows):
        for j in range(columns):
            T[i, j, i : i + kh, j : j + kw] = kernel
    return T.reshape(rows * columns, h * w)


def _pooled(x, kernel, stride, share):
    n, c, h, w = x.shape
    rows, columns = (h - kernel) // stride + 1, (w - kernel) // stride + 1
    places = [(i, j) for i in range(rows) for j in range(columns)]

    def window(array, i, j):
        a, b = i * stride, j * stride
        return array[:, :, a : a + kernel, b : b + kernel]

    y = np.array([window(x, i, j).max(axis=(2, 3)) for i, j in places])
    y = y.transpose(1, 2, 0).reshape(n, c, rows, columns)

    def vjp(g):
        x_grad = np.zeros(x.shape)
        for i, j in places:
            share(window(x_grad, i, j), window(x, i, j), g[:, :, i, j][:, :, None, None])
        return (x_grad,)

    return y, vjp


def _first(seen):
    flat = seen.reshape(*seen.shape[:2], -1)
    chosen = np.zeros_like(flat)
    np.put_along_axis(chosen, flat.argmax(axis=2)[..., None], 1, axis=2)
    return chosen.reshape(seen.shape)


@wrong("max_pool", "All equal largest numbers get the whole gradient.", known="every_winner")
def _(x, kernel, stride):
    def share(place, seen, g):
        place += g * (seen == seen.max(axis=(2, 3), keepdims=True))

    return _pooled(x, kernel, stride, share)


@wrong("max_pool", "Overwrites where windows overlap, in place of adding.", known="overwrites")
def _(x, kernel, stride):
    def share(place, seen, g):
        chosen = _first(seen) > 0
        place[chosen] = np.broadcast_to(g, seen.shape)[chosen]

    return _pooled(x, kernel, stride, share)


@wrong("max_pool", "Equal largest numbers share the gradient.", known="winners_share")
def _(x, kernel, stride):
    def share(place, seen, g):
        most = seen == seen.max(axis=(2, 3), keepdims=True)
        place += g * most / most.sum(axis=(2, 3), keepdims=True)

    return _pooled(x, kernel, stride, share)


@wrong(
    "max_pool",
    "Hands the gradient to every pixel of the window, as for a mean.",
    known="as_for_a_mean",
)
def _(x, kernel, stride):
    def share(place, seen, g):
        place += g / kernel**2

    return _pooled(x, kernel, stride, share)


@wrong("max_pool", "Windows lie side by side, whatever the stride.", known="side_by_side")
def _(x, kernel, stride):
    def share(place, seen, g):
        place += g * _first(seen)

    return _pooled(x, kernel, kernel, share)


def _conv_pair(x, weight, bias, stride, padding):
    n, _c, h, w = x.shape
    m, k = weight.shape[0], weight.shape[2]
    rows, columns = ((size + 2 * padding - k) // stride + 1 for size in (h, w))
    wide = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = np.zeros((n, m, rows, columns))
    for i in range(rows):
        for j in range(columns):
            a, b = i * stride, j * stride
            y[:, :, i, j] = np.einsum("ncuv,mcuv->nm", wide[:, :, a : a + k, b : b + k], weight)
    y += bias[:, None, None]

    def vjp(g):
        wide_grad, weight_grad = np.zeros(wide.shape), np.zeros(weight.shape)
        for i in range(rows):
            for j in range(columns):
                a, b = i * stride, j * stride
                part = g[:, :, i, j]
                wide_grad[:, :, a : a + k, b : b + k] += np.tensordot(part, weight, 1)
                weight_grad += np.tensordot(part, wide[:, :, a : a + k, b : b + k], [[0], [0]])
        inside = wide_grad[:, :, padding : padding + h, padding : padding + w]
        return inside, weight_grad, g.sum(axis=(0, 2, 3))

    return y, vjp


@wrong(
    "convolution",
    "Averages the bias's gradient over places and pictures.",
    known="mean_for_the_bias",
)
def _(x, weight, bias, stride, padding):
    y, vjp = _conv_pair(x, weight, bias, stride, padding)

    def averaged(g):
        a, b, _c = vjp(g)
        return a, b, g.mean(axis=(0, 2, 3))

    return y, averaged


@wrong("convolution", "Forgets the bias in the forward pass.", known="without_the_bias")
def _(x, weight, bias, stride, padding):
    y, vjp = _conv_pair(x, weight, bias, stride, padding)
    return y - bias[:, None, None], vjp


@wrong("convolution", "Turns the kernel, forward and backward.", known="turned_both_ways")
def _(x, weight, bias, stride, padding):
    y, vjp = _conv_pair(x, weight[:, :, ::-1, ::-1], bias, stride, padding)

    def turned(g):
        a, b, c = vjp(g)
        return a, b[:, :, ::-1, ::-1], c

    return y, turned


@wrong(
    "convolution", "Averages the weight's gradient over the pictures.", known="mean_for_the_weight"
)
def _(x, weight, bias, stride, padding):
    y, vjp = _conv_pair(x, weight, bias, stride, padding)

    def averaged(g):
        a, b, c = vjp(g)
        return a, b / len(x), c

    return y, averaged


@wrong(
    "convolution",
    "Sums the bias's gradient over the pictures but not over the places.",
    known="places_left_in_the_bias",
)
def _(x, weight, bias, stride, padding):
    y, vjp = _conv_pair(x, weight, bias, stride, padding)

    def kept(g):
        a, b, _c = vjp(g)
        return a, b, g.sum(axis=0)

    return y, kept
