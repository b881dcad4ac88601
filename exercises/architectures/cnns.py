"""Exercises of architectures/cnns.md."""

from __future__ import annotations

import numpy as np

from chainrule.architectures import cnns
from chainrule.course.exercises import exercise, expect, expect_close, expect_equal
from chainrule.neural_networks.backpropagation import (
    Linear,
    Sequential,
    Tensor,
    gradcheck,
    no_grad,
    primitive,
)
from chainrule.training.loss_functions import cross_entropy
from chainrule.training.optimizers import AdamW


@exercise(
    "On paper",
    difficulty=1,
    minutes=10,
    section="convolution-operation",
    counterpart="chainrule.architectures.cnns:conv2d",
    idea="Lay the kernel on a place, multiply what meets, add up; then go one stride further.",
)
def feature_map(picture, kernel, stride):
    """Return the feature map of one picture (h, w) under one kernel (kh, kw).

    No border and no bias; the kernel is not turned. The stride is the same down and across. Do
    the first check on paper, too: a picture of 4 × 4 under a kernel of 3 × 3.
    """
    kh, kw = kernel.shape
    rows = range(0, len(picture) - kh + 1, stride)
    columns = range(0, picture.shape[1] - kw + 1, stride)
    return np.array(
        [[(kernel * picture[i : i + kh, j : j + kw]).sum() for j in columns] for i in rows]
    )


@feature_map.by_package
def _(package, picture, kernel, stride):
    y = package(Tensor(picture[None, None]), Tensor(kernel[None, None]), stride=stride)
    return y.data[0, 0]


@feature_map.check
def four_by_four(answer, rng):
    picture = np.array([[1.0, 2, 0, 1], [0, 1, 3, 1], [2, 0, 1, 0], [1, 1, 0, 2]])
    kernel = np.array([[1.0, 0, -1], [0, 2, 0], [-1, 0, 1]])
    expect_close(
        answer(picture, kernel, 1),
        np.array([[2.0, 7], [-4, 3]]),
        what="the map of the small picture",
    )


@feature_map.check
def several_sizes(answer, rng):
    for size, inside, stride in (((7, 11), (3, 2), 1), ((11, 8), (2, 5), 2), ((13, 9), (3, 3), 3)):
        picture, kernel = rng.normal(size=size), rng.normal(size=inside)
        expected = cnns.conv2d(
            Tensor(picture[None, None]), Tensor(kernel[None, None]), stride=stride
        )
        expect_close(
            answer(picture, kernel, stride),
            expected.data[0, 0],
            what=f"the map of {size} under {inside} with stride {stride}",
        )


@feature_map.mistake(
    "Your kernel is turned by 180 degrees, as in signal processing. Which weight lies on the top "
    "left pixel of a window?"
)
def turned_kernel(picture, kernel, stride):
    return feature_map(picture, kernel[::-1, ::-1], stride)


@feature_map.mistake("Your kernel stops before the border. Where is the last place it can begin?")
def last_place_missing(picture, kernel, stride):
    return feature_map(picture[:-1, :-1], kernel, stride)


@feature_map.mistake("Your kernel moves by the same step whatever the stride. Which places remain?")
def ignores_the_stride(picture, kernel, stride):
    return feature_map(picture, kernel, 1)


@feature_map.mistake("Each place holds the mean of the products. What does the formula do to them?")
def mean_of_products(picture, kernel, stride):
    return feature_map(picture, kernel, stride) / kernel.size


@feature_map.mistake("Your map skips rows but no columns. For which axes is the stride?")
def strides_down_only(picture, kernel, stride):
    return feature_map(picture, kernel, 1)[::stride]


@feature_map.mistake("Your map skips columns but no rows. For which axes is the stride?")
def strides_across_only(picture, kernel, stride):
    return feature_map(picture, kernel, 1)[:, ::stride]


@exercise(
    "Count to the last number",
    difficulty=2,
    minutes=15,
    section="historical-context-alexnet-resnet",
    because="the package counts the parameters of modules, not of tables",
    idea="Each kernel reads the channels of its own group only. Count kernels, then their length.",
)
def count_numbers(layers):
    """Return a list: how many numbers each layer learns, and at the end their sum.

    A layer is a tuple. ("conv", c, m, k, groups, bias) has m kernels of k × k on c channels, with
    a bias for each kernel if bias is True. ("norm", c) is a batch norm of c channels.
    ("linear", n, m, bias) maps n numbers to m. ("pool", k) is a pooling.
    """
    counts = []
    for kind, *sizes in layers:
        if kind == "conv":
            c, m, k, groups, bias = sizes
            counts.append(m * (c // groups) * k * k + m * bias)
        elif kind == "norm":
            counts.append(2 * sizes[0])
        elif kind == "linear":
            n, m, bias = sizes
            counts.append(n * m + m * bias)
        else:
            counts.append(0)
    return [*counts, sum(counts)]


LENET = [
    ("conv", 1, 6, 5, 1, True), ("pool", 2), ("conv", 6, 16, 5, 1, True), ("pool", 2),
    ("linear", 400, 120, True), ("linear", 120, 84, True), ("linear", 84, 10, True),
]  # fmt: skip
ALEXNET = [
    ("conv", 3, 96, 11, 1, True), ("pool", 3), ("conv", 96, 256, 5, 2, True), ("pool", 3),
    ("conv", 256, 384, 3, 1, True), ("conv", 384, 384, 3, 2, True),
    ("conv", 384, 256, 3, 2, True), ("pool", 3),
    ("linear", 9216, 4096, True), ("linear", 4096, 4096, True), ("linear", 4096, 1000, True),
]  # fmt: skip
BLOCKS = [
    ("conv", 3, 64, 7, 1, False), ("norm", 64), ("pool", 3),
    ("conv", 64, 64, 3, 1, False), ("norm", 64), ("conv", 64, 128, 3, 1, False), ("norm", 128),
    ("conv", 64, 128, 1, 1, False), ("norm", 128), ("linear", 128, 1000, True),
]  # fmt: skip
SEPARABLE = [
    ("conv", 32, 32, 3, 32, False), ("norm", 32), ("conv", 32, 64, 1, 1, False), ("norm", 64),
    ("conv", 64, 64, 7, 64, True), ("linear", 64, 256, True), ("linear", 256, 64, False),
]  # fmt: skip


@count_numbers.check
def four_networks(answer, rng):
    expected = [156, 0, 2416, 0, 48120, 10164, 850, 61706]
    expect_equal(list(answer(LENET)), expected, what="the counts of LeNet-5")
    received = [list(answer(layers)) for layers in (ALEXNET, BLOCKS, SEPARABLE)]
    expected = [count_numbers(layers) for layers in (ALEXNET, BLOCKS, SEPARABLE)]
    expect_equal(received[0], expected[0], what="AlexNet, as it ran on two cards")
    expect_equal(received[1], expected[1], what="the start of a residual network")
    expect_equal(received[2], expected[2], what="depthwise and linear layers")


def _counted(layers, conv=None, norm=2, linear=None):
    """The counts with another rule for one kind of layer."""
    found = count_numbers(layers)[:-1]
    for place, (kind, *sizes) in enumerate(layers):
        if kind == "conv" and conv:
            found[place] = int(conv(*sizes))
        if kind == "norm":
            found[place] = norm * sizes[0]
        if kind == "linear" and linear:
            found[place] = int(linear(*sizes))
    return [*found, sum(found)]


@count_numbers.mistake(
    "You count a bias everywhere. Some layers say that they have none: what follows them?"
)
def always_a_bias(layers):
    return _counted(
        layers,
        conv=lambda c, m, k, groups, bias: m * (c // groups) * k * k + m,
        linear=lambda n, m, bias: n * m + m,
    )


@count_numbers.mistake("You count no biases. One for each what?")
def never_a_bias(layers):
    return _counted(
        layers,
        conv=lambda c, m, k, groups, bias: m * (c // groups) * k * k,
        linear=lambda n, m, bias: n * m,
    )


@count_numbers.mistake("How many channels does one kernel read when there are groups?")
def without_groups(layers):
    return _counted(layers, conv=lambda c, m, k, groups, bias: m * c * k * k + m * bias)


@count_numbers.mistake("Groups divide what a kernel reads. Do they also divide how many there are?")
def groups_twice(layers):
    return _counted(
        layers,
        conv=lambda c, m, k, groups, bias: (m // groups) * (c // groups) * k * k + m * bias,
    )


@count_numbers.mistake(
    "A batch norm keeps four numbers for each channel. Which of them does training learn by "
    "gradient?"
)
def running_statistics_too(layers):
    return _counted(layers, norm=4)


@count_numbers.mistake("How many weights has a square of side k?")
def side_for_area(layers):
    return _counted(layers, conv=lambda c, m, k, groups, bias: m * (c // groups) * k + m * bias)


@exercise(
    "Scans that move apart",
    difficulty=2,
    minutes=20,
    section="translation-invariance",
    counterpart="chainrule.architectures.cnns:shift",
    idea="Make an empty array first, then copy for each scan the part that stays in sight.",
    seconds=60,
)
def moved_scans(scans, amounts):
    """Return a new array in which scan i of (n, h, w) has moved by its own amounts[i].

    amounts has shape (n, 2) and whole numbers: pixels down and pixels to the right, negative for
    up and left, each smaller than the scan. What leaves is lost, what enters is 0. The last check
    trains a network on your moved scans; it must then be right on 88 % of new ones that have moved
    by one pixel.
    """
    out = np.zeros_like(scans)
    h, w = scans.shape[1:]
    for scan, moved, (down, right) in zip(scans, out, amounts, strict=True):
        rows, columns = (
            slice(max(down, 0), h + min(down, 0)),
            slice(max(right, 0), w + min(right, 0)),
        )
        from_rows = slice(max(-down, 0), h + min(-down, 0))
        from_columns = slice(max(-right, 0), w + min(-right, 0))
        moved[rows, columns] = scan[from_rows, from_columns]
    return out


@moved_scans.by_package
def _(package, scans, amounts):
    moved = [package(scan, *amount) for scan, amount in zip(scans, amounts, strict=True)]
    return np.array(moved).reshape(scans.shape)


@moved_scans.check
def each_by_its_own(answer, rng):
    scans = rng.normal(size=(5, 4, 7))
    amounts = np.array([[0, 0], [1, 0], [0, -2], [-3, 5], [2, 1]])
    expected = np.array(
        [cnns.shift(scan, *amount) for scan, amount in zip(scans, amounts, strict=True)]
    )
    received = answer(scans.copy(), amounts)
    for i, amount in enumerate(amounts):
        expect_close(received[i], expected[i], what=f"a scan moved by {tuple(amount.tolist())}")


@moved_scans.check
def a_network_learns_from_them(answer, rng):
    from sklearn.datasets import load_digits

    scans, digits = load_digits(return_X_y=True)
    scans = (scans.reshape(-1, 8, 8) / 16).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(scans))
    known, fresh = order[:1000], order[1000:]
    some, amounts = scans[known[:50]], rng.integers(-1, 2, size=(50, 2))
    expected = [cnns.shift(scan, *amount) for scan, amount in zip(some, amounts, strict=True)]
    expect_close(answer(some.copy(), amounts), np.array(expected), what="50 digits, moved")
    net = Sequential(
        cnns.Conv2d(1, 16, 3, padding=1, rng=rng), cnns.ReLU(), cnns.MaxPool2d(2),
        cnns.Conv2d(16, 32, 3, padding=1, rng=rng), cnns.ReLU(), cnns.MaxPool2d(2),
        cnns.Flatten(), Linear(128, 10, rng=rng),
    )  # fmt: skip
    optimizer = AdamW(net.parameters(), lr=5e-3)
    for _ in range(15):
        for rows in np.split(rng.permutation(known), 20):
            moved = answer(scans[rows], rng.integers(-1, 2, size=(50, 2)))
            loss = cross_entropy(net(Tensor(np.asarray(moved)[:, None])), digits[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = []
    with no_grad():
        for down, across in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            z = net(Tensor(cnns.shift(scans[fresh], down, across)[:, None])).data
            right.append((z.argmax(axis=1) == digits[fresh]).mean())
    expect(
        np.mean(right) >= 0.88,
        f"after moves by one pixel the network is right on {np.mean(right):.0%}; expected 88 %",
    )


@moved_scans.mistake("What leaves your scan on one side comes in on the other. What should enter?")
def comes_in_again(scans, amounts):
    moved = [np.roll(s, tuple(a), axis=(0, 1)) for s, a in zip(scans, amounts, strict=True)]
    return np.array(moved).reshape(scans.shape)


@moved_scans.mistake("Your scans move the other way. Follow one bright pixel by hand.")
def the_other_way(scans, amounts):
    return moved_scans(scans, -amounts)


@moved_scans.mistake("Which of the two numbers belongs to the rows?")
def axes_exchanged(scans, amounts):
    moved = [cnns.shift(s, *a[::-1]) for s, a in zip(scans, amounts, strict=True)]
    return np.array(moved).reshape(scans.shape)


@moved_scans.mistake("All of your scans move alike. Whose amount does each one have?")
def all_by_the_first(scans, amounts):
    return moved_scans(scans, np.broadcast_to(amounts[:1], amounts.shape))


@moved_scans.mistake("Some of your scans stay where they are. What does a negative amount ask for?")
def positive_only(scans, amounts):
    return moved_scans(scans, np.maximum(amounts, 0))


@exercise(
    "The matrix of a convolution",
    difficulty=3,
    minutes=25,
    section="convolution-operation",
    counterpart="chainrule.architectures.cnns:conv_as_matrix",
    idea="A row for each place of the kernel. Which pixel does weight (u, v) meet there?",
)
def matrix_of(kernel, size, stride):
    """Return the matrix T with feature map = T @ picture, both flattened row by row.

    The kernel has shape (kh, kw), the picture size = (h, w); no border. The stride is the same
    down and across. T has a row for each place of the kernel and a column for each pixel.
    """
    (kh, kw), (h, w) = kernel.shape, size
    rows, columns = (h - kh) // stride + 1, (w - kw) // stride + 1
    T = np.zeros((rows, columns, h, w))
    for i in range(rows):
        for j in range(columns):
            T[i, j, i * stride : i * stride + kh, j * stride : j * stride + kw] = kernel
    return T.reshape(rows * columns, h * w)


@matrix_of.by_package
def _(package, kernel, size, stride):
    return package(kernel[None, None], size, stride)


@matrix_of.check
def two_by_three(answer, rng):
    expected = np.array([[1.0, 2, 0, 3, 4, 0], [0, 1, 2, 0, 3, 4]])
    kernel = np.array([[1.0, 2], [3, 4]])
    expect_close(answer(kernel, (2, 3), 1), expected, what="a kernel of 2 × 2 on 2 × 3 pixels")


@matrix_of.check
def equals_the_convolution(answer, rng):
    for inside, size, stride in (((3, 2), (5, 7), 1), ((2, 3), (7, 6), 2), ((3, 3), (11, 8), 3)):
        kernel, picture = rng.normal(size=inside), rng.normal(size=size)
        T = np.asarray(answer(kernel, size, stride))
        y = cnns.conv2d(Tensor(picture[None, None]), Tensor(kernel[None, None]), stride=stride)
        expect_close(
            T, cnns.conv_as_matrix(kernel[None, None], size, stride), what=f"the matrix for {size}"
        )
        expect_close(T @ picture.ravel(), y.data.ravel(), what="T times the picture")


@matrix_of.mistake("The kernel in your rows is turned. Write one row for a place by hand.")
def turned_in_the_matrix(kernel, size, stride):
    return matrix_of(kernel[::-1, ::-1], size, stride)


@matrix_of.mistake("Places or pixels: which of them are the rows of T?")
def transposed(kernel, size, stride):
    return matrix_of(kernel, size, stride).T


@matrix_of.mistake("In what order does flattening number the pixels?")
def column_by_column(kernel, size, stride):
    T = matrix_of(kernel, size, stride)
    return T.reshape(-1, *size).swapaxes(1, 2).reshape(T.shape)


@matrix_of.mistake("You have a row for every place of stride 1. Which rows does the stride leave?")
def matrix_without_stride(kernel, size, stride):
    return matrix_of(kernel, size, 1)


@matrix_of.mistake(
    "You have the right number of rows. By how much does the kernel move from one to the next?"
)
def one_pixel_a_row(kernel, size, stride):
    rows, columns = ((n - k) // stride + 1 for n, k in zip(size, kernel.shape, strict=True))
    every = matrix_of(kernel, size, 1)
    across = size[1] - kernel.shape[1] + 1
    return every.reshape(-1, across, every.shape[1])[:rows, :columns].reshape(rows * columns, -1)


@exercise(
    "The largest, both ways",
    difficulty=3,
    minutes=25,
    section="pooling-and-stride",
    counterpart="chainrule.architectures.cnns.pooling:_max_pool2d",
    idea="Remember for each window which pixel won. A pixel may win in several windows.",
)
def max_pool(x, kernel, stride):
    """Return (y, vjp): the largest number of every window of x, shape (n, c, h, w), and its VJP.

    Windows of kernel × kernel pixels lie stride apart, so they may overlap; no border. Of equal
    numbers the first wins, row by row. vjp(g) returns a tuple with one array, the gradient for x,
    where g is the gradient of y.
    """
    n, c, h, w = x.shape
    rows, columns = (h - kernel) // stride + 1, (w - kernel) // stride + 1
    y, winner = np.empty((n, c, rows, columns), x.dtype), np.empty((n, c, rows, columns), int)
    for i in range(rows):
        for j in range(columns):
            a, b = i * stride, j * stride
            window = x[:, :, a : a + kernel, b : b + kernel].reshape(n, c, -1)
            winner[:, :, i, j] = window.argmax(axis=2)
            y[:, :, i, j] = window.max(axis=2)

    def vjp(g):
        x_grad = np.zeros(x.shape, g.dtype)
        for where in np.ndindex(y.shape):
            u, v = divmod(winner[where], kernel)
            x_grad[where[0], where[1], where[2] * stride + u, where[3] * stride + v] += g[where]
        return (x_grad,)

    return y, vjp


@max_pool.by_package
def _(package, x, kernel, stride):
    return package(x, shape=cnns.columns.geometry(kernel, stride, 0, 1))


@max_pool.check
def four_windows(answer, rng):
    x = np.array([[1.0, 5, 2, 0], [3, 1, 0, 1], [2, 0, 9, 1], [4, 0, 2, 4]])[None, None]
    y, vjp = answer(x, 3, 1)
    expect_close(y[0, 0], np.array([[9.0, 9], [9, 9]]), what="overlapping windows of 3 × 3")
    expected = np.zeros((1, 1, 4, 4))
    expected[0, 0, 2, 2] = 10
    (received,) = vjp(np.array([[[[1.0, 2], [3, 4]]]]))
    expect_close(received, expected, what="the gradient of a pixel that won four times")


@max_pool.check
def several_sizes_and_ties(answer, rng):
    for kernel, stride, shape in ((2, 2, (2, 3, 6, 8)), (3, 2, (2, 1, 7, 9)), (3, 1, (1, 2, 5, 6))):
        for x in (rng.normal(size=shape), rng.integers(0, 3, size=shape) + 0.5):
            y, vjp = answer(x, kernel, stride)
            leaf = Tensor(x, requires_grad=True)
            expected = cnns.max_pool2d(leaf, kernel, stride)
            g = rng.normal(size=expected.shape)
            expected.backward(g)
            expect_close(y, expected.data, what=f"windows of {kernel}, {stride} apart")
            expect_close(vjp(g)[0], leaf.grad, what="the gradient for x")


def _shared(x, kernel, stride, share):
    """The right maps with another rule for the gradient of each window."""
    y, _ = max_pool(x, kernel, stride)

    def vjp(g):
        x_grad = np.zeros(x.shape, g.dtype)
        for i, j in np.ndindex(y.shape[2:]):
            rows, columns = (slice(a * stride, a * stride + kernel) for a in (i, j))
            window = x[:, :, rows, columns]
            part = g[:, :, i, j][:, :, None, None]
            share(x_grad[:, :, rows, columns], window, part)
        return (x_grad,)

    return y, vjp


@max_pool.mistake("Two equal numbers of a window both get the whole gradient. Who should?")
def every_winner(x, kernel, stride):
    def share(place, window, g):
        place += np.where(window == window.max(axis=(2, 3), keepdims=True), g, 0)

    return _shared(x, kernel, stride, share)


@max_pool.mistake("Equal numbers share the gradient in yours. What does the statement say of them?")
def winners_share(x, kernel, stride):
    def share(place, window, g):
        most = window == window.max(axis=(2, 3), keepdims=True)
        place += g * most / most.sum(axis=(2, 3), keepdims=True)

    return _shared(x, kernel, stride, share)


@max_pool.mistake("A pixel that wins in two windows keeps one gradient only. What does it need?")
def overwrites(x, kernel, stride):
    y, _ = max_pool(x, kernel, stride)

    def vjp(g):
        x_grad = np.zeros(x.shape, g.dtype)
        for a, b, i, j in np.ndindex(y.shape):
            u, v = i * stride, j * stride
            where = divmod(int(x[a, b, u : u + kernel, v : v + kernel].argmax()), kernel)
            x_grad[a, b, u + where[0], v + where[1]] = g[a, b, i, j]
        return (x_grad,)

    return y, vjp


@max_pool.mistake("Every pixel of your window gets a share, as for a mean. Which ones changed y?")
def as_for_a_mean(x, kernel, stride):
    def share(place, window, g):
        place += g / kernel**2

    return _shared(x, kernel, stride, share)


@max_pool.mistake("Your windows lie side by side. How far apart should they be?")
def side_by_side(x, kernel, stride):
    return max_pool(x, kernel, kernel)


@max_pool.mistake("Of equal numbers the last one wins in yours. Which one should?")
def last_winner(x, kernel, stride):
    y, _ = max_pool(x, kernel, stride)

    def vjp(g):
        x_grad = np.zeros(x.shape, g.dtype)
        for a, b, i, j in np.ndindex(y.shape):
            u, v = i * stride, j * stride
            turned = x[a, b, u : u + kernel, v : v + kernel].ravel()[::-1]
            where = divmod(kernel**2 - 1 - int(turned.argmax()), kernel)
            x_grad[a, b, u + where[0], v + where[1]] += g[a, b, i, j]
        return (x_grad,)

    return y, vjp


@exercise(
    "A convolution, both ways",
    difficulty=4,
    minutes=40,
    section="convolution-operation",
    counterpart="chainrule.architectures.cnns.convolution:_conv2d",
    idea=(
        "For one weight (u, v), all the pixels that it meets are a slice of the picture with its "
        "border. Forward and both gradients are sums over such slices."
    ),
)
def convolution(x, weight, bias, stride, padding):
    """Return (y, vjp): the convolution of pictures, and its VJP.

    x has shape (n, c, h, w), weight (m, c, k, k), bias (m,); the border is padding zeros on every
    side. vjp(g) returns the gradients for x, weight and bias, a tuple of three arrays; g is the
    gradient of y.
    """
    n, c, h, w = x.shape
    m, k = weight.shape[0], weight.shape[2]
    rows, columns = ((size + 2 * padding - k) // stride + 1 for size in (h, w))
    wide = np.zeros((n, c, h + 2 * padding, w + 2 * padding), x.dtype)
    inside = (slice(None), slice(None), slice(padding, padding + h), slice(padding, padding + w))
    wide[inside] = x

    def met(u, v):
        return (
            slice(None),
            slice(None),
            slice(u, u + stride * (rows - 1) + 1, stride),
            slice(v, v + stride * (columns - 1) + 1, stride),
        )

    y = np.zeros((n, m, rows, columns), x.dtype) + bias[:, None, None]
    for u, v in np.ndindex(k, k):
        y += np.einsum("ncij,mc->nmij", wide[met(u, v)], weight[:, :, u, v])

    def vjp(g):
        wide_grad, weight_grad = np.zeros_like(wide), np.empty_like(weight)
        for u, v in np.ndindex(k, k):
            wide_grad[met(u, v)] += np.einsum("nmij,mc->ncij", g, weight[:, :, u, v])
            weight_grad[:, :, u, v] = np.einsum("nmij,ncij->mc", g, wide[met(u, v)])
        return wide_grad[inside], weight_grad, g.sum(axis=(0, 2, 3))

    return y, vjp


@convolution.by_package
def _(package, x, weight, bias, stride, padding):
    shape = cnns.columns.geometry(weight.shape[2], stride, padding, 1)
    return package(x, weight, bias, shape=shape, groups=1)


@convolution.check
def the_picture_of_the_page(answer, rng):
    x = np.array([[1.0, 2, 0], [0, 1, 3], [2, 0, 1]])[None, None]
    weight, bias = np.array([[1.0, -1], [0, 2]])[None, None], np.array([0.5])
    y, vjp = answer(x, weight, bias, 1, 0)
    expect_close(y[0, 0], np.array([[1.5, 8.5], [-0.5, 0.5]]), what="the feature map")
    x_grad, weight_grad, bias_grad = vjp(np.array([[[[1.0, 0], [0, 1]]]]))
    expect_close(weight_grad[0, 0], np.array([[2.0, 5], [0, 2]]), what="the weight's gradient")
    expected = np.array([[1.0, -1, 0], [0, 3, -1], [0, 0, 2]])
    expect_close(x_grad[0, 0], expected, what="the picture's gradient")
    expect_close(bias_grad, np.array([2.0]), what="the bias's gradient")


@convolution.check
def strides_and_borders(answer, rng):
    for stride, padding, size in ((1, 1, (5, 7)), (2, 1, (8, 6)), (3, 2, (7, 10)), (2, 0, (6, 9))):
        arrays = rng.normal(size=(2, 3, *size)), rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4)
        leaves = [Tensor(a, requires_grad=True) for a in arrays]
        expected = cnns.conv2d(*leaves, stride, padding)
        g = rng.normal(size=expected.shape)
        expected.backward(g)
        y, vjp = answer(*arrays, stride, padding)
        expect_close(y, expected.data, what=f"the maps with stride {stride}, padding {padding}")
        names = ("the pictures", "the weight", "the bias")
        for name, received, leaf in zip(names, vjp(g), leaves, strict=True):
            expect_close(received, leaf.grad, what=f"the gradient for {name}, stride {stride}")


@convolution.check
def slopes(answer, rng):
    shapes = (2, 2, 4, 5), (3, 2, 2, 2), (3,)
    leaves = [Tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    try:
        gradcheck(lambda *a: primitive(answer)(*a, stride=2, padding=1), leaves)
    except AssertionError as error:
        expect(False, f"against differences: {error}")


def _changed(x, weight, bias, stride, padding, change):
    """The right maps with the three gradients changed."""
    y, vjp = convolution(x, weight, bias, stride, padding)
    return y, lambda g: change(g, *vjp(g))


@convolution.mistake("The bias was used at every place. Do gradients of copies add or average?")
def mean_for_the_bias(x, weight, bias, stride, padding):
    def change(g, by_x, by_weight, by_bias):
        return by_x, by_weight, g.mean(axis=(0, 2, 3))

    return _changed(x, weight, bias, stride, padding, change)


@convolution.mistake("The gradient of the bias still has places in it. Where was the bias used?")
def places_left_in_the_bias(x, weight, bias, stride, padding):
    def change(g, by_x, by_weight, by_bias):
        return by_x, by_weight, g.sum(axis=0)

    return _changed(x, weight, bias, stride, padding, change)


@convolution.mistake("The weight's gradient is a mean over pictures. Is the loss here a mean?")
def mean_for_the_weight(x, weight, bias, stride, padding):
    def change(g, by_x, by_weight, by_bias):
        return by_x, by_weight / len(x), by_bias

    return _changed(x, weight, bias, stride, padding, change)


@convolution.mistake("Your maps lack something that does not depend on the picture.")
def without_the_bias(x, weight, bias, stride, padding):
    y, vjp = convolution(x, weight, bias, stride, padding)
    return y - bias[:, None, None], vjp


@convolution.mistake("Your kernels are turned by 180 degrees. Which weight meets the first pixel?")
def turned_both_ways(x, weight, bias, stride, padding):
    y, vjp = convolution(x, weight[:, :, ::-1, ::-1], bias, stride, padding)

    def turned(g):
        by_x, by_weight, by_bias = vjp(g)
        return by_x, by_weight[:, :, ::-1, ::-1], by_bias

    return y, turned


@convolution.mistake("Forward is right. Backward, which weight of the kernel met the pixel?")
def not_turned_backward(x, weight, bias, stride, padding):
    _, other = convolution(x, weight[:, :, ::-1, ::-1], bias, stride, padding)

    def change(g, by_x, by_weight, by_bias):
        return other(g)[0], by_weight, by_bias

    return _changed(x, weight, bias, stride, padding, change)


@convolution.mistake("The border is on two sides only in yours. On how many sides is padding?")
def border_on_two_sides(x, weight, bias, stride, padding):
    wide = np.pad(x, ((0, 0), (0, 0), (padding, 0), (padding, 0)))
    y, vjp = convolution(wide, weight, bias, stride, 0)

    def cropped(g):
        by_x, by_weight, by_bias = vjp(g)
        return by_x[:, :, padding:, padding:], by_weight, by_bias

    return y, cropped
