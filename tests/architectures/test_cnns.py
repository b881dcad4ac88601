"""Convolution, pooling and networks against PyTorch, SciPy and transformers, in both directions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d
from torch.nn import functional as F

from chainrule.architectures import cnns
from chainrule.neural_networks.backpropagation import Tensor, gradcheck

SETTINGS = [  # stride, padding, dilation, groups, output_padding
    (1, 0, 1, 1, 0),
    (1, 1, 1, 1, 0),
    (2, 1, 1, 1, 1),
    (3, 2, 1, 1, 2),
    (1, 2, 2, 1, 0),
    ((2, 1), (0, 2), (1, 3), 1, (1, 0)),
    (2, 1, 1, 3, 1),
    (1, 1, 2, 3, 0),
]


def compare(ours, theirs, arrays, rng, rtol=1e-10, atol=1e-10):
    """Values and all gradients of two functions of the same arrays, for a random upstream one."""
    mine = [None if a is None else Tensor(a.copy(), requires_grad=True) for a in arrays]
    peer = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*peer)
    assert y.dtype == arrays[0].dtype
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=rtol, atol=atol)
    upstream = np.asarray(rng.normal(size=y.shape), dtype=y.dtype)
    y.backward(upstream)
    expected.backward(torch.tensor(upstream))
    for a, b in zip(mine, peer, strict=True):
        if a is not None:
            assert a.grad.dtype == a.dtype
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=rtol, atol=atol)


def tolerances(dtype):
    return {"rtol": 1e-10, "atol": 1e-10} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-4}


# ---- convolution -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("function", [cnns.conv2d, cnns.conv2d_composed])
def test_conv2d(function, setting, bias, dtype, rng):
    stride, padding, dilation, groups, _ = setting
    c, m = 3, 5 if groups == 1 else 6
    x = rng.normal(size=(2, c, 11, 13)).astype(dtype)
    weight = rng.normal(size=(m, c // groups, 3, 2)).astype(dtype)
    b = rng.normal(size=m).astype(dtype) if bias else None
    compare(
        lambda *a: function(*a, stride, padding, dilation, groups),
        lambda *a: F.conv2d(*a, stride, padding, dilation, groups),
        [x, weight, b],
        rng,
        **tolerances(dtype),
    )


@settings(max_examples=60)
@given(st.data())
def test_conv2d_of_any_geometry(data):
    draw = lambda lo, hi: data.draw(st.integers(lo, hi))  # noqa: E731
    rng = np.random.default_rng(draw(0, 2**20))
    groups, each, out = draw(1, 3), draw(1, 3), draw(1, 3)
    kernel, dilation, padding = (draw(1, 3), draw(1, 4)), draw(1, 3), draw(0, 3)
    size = tuple(max(1, dilation * (k - 1) + 1 - 2 * padding) + draw(0, 5) for k in kernel)
    stride = draw(1, 4), draw(1, 4)
    arrays = [
        rng.normal(size=(draw(0, 3), groups * each, *size)),
        rng.normal(size=(groups * out, each, *kernel)),
        rng.normal(size=groups * out),
    ]
    for function in (cnns.conv2d, cnns.conv2d_composed):
        compare(
            lambda *a, f=function: f(*a, stride, padding, dilation, groups),
            lambda *a: F.conv2d(*a, stride, padding, dilation, groups),
            arrays,
            rng,
        )


def test_many_portions_of_a_batch(rng, monkeypatch):
    arrays = rng.normal(size=(7, 3, 5, 11)), rng.normal(size=(2, 3, 3, 3)), rng.normal(size=2)
    for numbers in (1, 2000, 1 << 20):
        monkeypatch.setattr("chainrule.architectures.cnns.columns.PORTION", numbers)
        compare(lambda *a: cnns.conv2d(*a, 1, 1), lambda *a: F.conv2d(*a, 1, 1), arrays, rng)


@pytest.mark.parametrize("setting", [(1, 0, 1, 1), (2, 3, 2, 1), (1, 2, 1, 3)])
def test_conv1d(setting, rng):
    stride, padding, dilation, groups = setting
    arrays = rng.normal(size=(2, 3, 17)), rng.normal(size=(6, 3 // groups, 5)), rng.normal(size=6)
    compare(
        lambda *a: cnns.conv1d(*a, stride, padding, dilation, groups),
        lambda *a: F.conv1d(*a, stride, padding, dilation, groups),
        arrays,
        rng,
    )


def test_gradients_by_differences(rng):
    x, weight = rng.normal(size=(2, 2, 5, 7)), rng.normal(size=(4, 1, 3, 2))
    leaves = [Tensor(a, requires_grad=True) for a in (x, weight, rng.normal(size=4))]
    assert gradcheck(lambda *a: cnns.conv2d(*a, stride=2, padding=1, groups=2), leaves)
    back = Tensor(rng.normal(size=(2, 4, 2, 3)), requires_grad=True), *leaves[1:2]
    assert gradcheck(lambda *a: cnns.conv_transpose2d(*a, stride=2, groups=2), back)


def test_scipy_calls_it_correlation(rng):
    image, kernel = rng.normal(size=(11, 7)), rng.normal(size=(3, 5))
    ours = cnns.conv2d(Tensor(image[None, None]), Tensor(kernel[None, None])).data[0, 0]
    np.testing.assert_allclose(ours, correlate2d(image, kernel, "valid"), atol=1e-12)
    turned = kernel[::-1, ::-1].copy()
    np.testing.assert_allclose(ours, convolve2d(image, turned, "valid"), atol=1e-12)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_matrix_of_a_convolution(setting, rng):
    stride, padding, dilation, groups, _ = setting
    c, m = 3, 5 if groups == 1 else 6
    x, weight = rng.normal(size=(2, c, 7, 11)), rng.normal(size=(m, c // groups, 3, 2))
    T = cnns.conv_as_matrix(weight, (7, 11), stride, padding, dilation, groups)
    y = F.conv2d(torch.tensor(x), torch.tensor(weight), None, stride, padding, dilation, groups)
    np.testing.assert_allclose(x.reshape(2, -1) @ T.T, y.reshape(2, -1).numpy(), atol=1e-12)
    back = cnns.conv_transpose2d(
        Tensor(y.numpy()), Tensor(weight), None, stride, padding, 0, groups, dilation
    ).data
    part = (y.reshape(2, -1).numpy() @ T).reshape(x.shape)
    np.testing.assert_allclose(back, part[:, :, : back.shape[2], : back.shape[3]], atol=1e-12)


def test_columns_there_and_back(rng):
    x = rng.normal(size=(2, 3, 7, 5))
    columns = cnns.im2col(x, (3, 2), 2, 1)
    expected = F.unfold(torch.tensor(x), (3, 2), stride=2, padding=1).numpy()
    np.testing.assert_array_equal(columns, expected)
    again = cnns.col2im(columns, (7, 5), (3, 2), 2, 1)
    folded = F.fold(torch.tensor(columns), (7, 5), (3, 2), stride=2, padding=1).numpy()
    np.testing.assert_allclose(again, folded, atol=1e-12)


def test_causal_convolution_sees_no_later_input(rng):
    weight, bias = Tensor(rng.normal(size=(5, 3, 3))), Tensor(rng.normal(size=5))
    x = rng.normal(size=(2, 3, 13))
    y = cnns.causal_conv1d(Tensor(x), weight, bias, dilation=2).data
    later = x.copy()
    later[:, :, 7:] = rng.normal(size=(2, 3, 6))
    changed = cnns.causal_conv1d(Tensor(later), weight, bias, dilation=2).data
    assert y.shape == (2, 5, 13)
    np.testing.assert_array_equal(y[:, :, :7], changed[:, :, :7])
    assert (y[:, :, 7:] != changed[:, :, 7:]).all()
    arrays = x, weight.data, bias.data
    compare(
        lambda *a: cnns.causal_conv1d(*a, dilation=2),
        lambda x, w, b: F.conv1d(F.pad(x, (4, 0)), w, b, dilation=2),
        arrays,
        rng,
    )


# ---- transposed convolution ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("function", [cnns.conv_transpose2d, cnns.conv_transpose2d_composed])
def test_conv_transpose2d(function, setting, dtype, rng):
    stride, padding, dilation, groups, extra = setting
    m, c = 6, 5 * groups
    x = rng.normal(size=(2, m, 5, 7)).astype(dtype)
    weight = rng.normal(size=(m, c // groups, 3, 2)).astype(dtype)
    bias = rng.normal(size=c).astype(dtype)
    compare(
        lambda *a: function(*a, stride, padding, extra, groups, dilation),
        lambda *a: F.conv_transpose2d(*a, stride, padding, extra, groups, dilation),
        [x, weight, bias],
        rng,
        **tolerances(dtype),
    )


# ---- pooling ---------------------------------------------------------------------------------

POOLS = [(2, None, 0), (3, 2, 1), ((3, 2), (1, 3), (1, 0)), (3, 1, 0), (2, 3, 1)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
@pytest.mark.parametrize(
    ("function", "peer"),
    [
        (cnns.max_pool2d, F.max_pool2d),
        (cnns.max_pool2d_composed, F.max_pool2d),
        (cnns.avg_pool2d, F.avg_pool2d),
        (cnns.avg_pool2d_composed, F.avg_pool2d),
    ],
)
def test_pooling(function, peer, kernel, stride, padding, dtype, rng):
    x = rng.normal(size=(2, 3, 7, 11)).astype(dtype)
    compare(
        lambda x: function(x, kernel, stride, padding),
        lambda x: peer(x, kernel, stride, padding),
        [x],
        rng,
        **tolerances(dtype),
    )


def test_ties_go_to_the_first(rng):
    x = rng.integers(0, 2, size=(2, 3, 6, 4)).astype(float)
    compare(lambda x: cnns.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [x], rng)
    shared = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    cnns.max_pool2d_composed(shared, 2).backward(np.ones((1, 1, 1, 1)))
    assert shared.grad.sum() == 1
    assert (shared.grad > 0).all()


def test_max_pooling_hands_nan_on(rng):
    x = rng.normal(size=(2, 3, 4, 6))
    x[0, 1, 1, 2] = np.nan
    compare(lambda x: cnns.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [x], rng)


def test_max_pooling_of_infinities(rng):
    x = rng.normal(size=(1, 2, 4, 4))
    x[0, 0] = -np.inf
    x[0, 1, 0, 0] = np.inf
    compare(lambda x: cnns.max_pool2d(x, 2), lambda x: F.max_pool2d(x, 2), [x], rng)


def test_blur_pool(rng):
    kernel = torch.tensor(np.outer([1.0, 2, 1], [1, 2, 1]) / 16).expand(3, 1, 3, 3)
    compare(
        cnns.blur_pool,
        lambda x: F.conv2d(x, kernel, stride=2, padding=1, groups=3),
        [rng.normal(size=(2, 3, 7, 10))],
        rng,
    )


# ---- layers ----------------------------------------------------------------------------------


def with_weights_of(ours, theirs):
    """Copy weights and buffers of a PyTorch module into ours, by position."""
    named = list(ours.state_dict().values())
    given = list(theirs.state_dict().values())
    for mine, peer in zip(named, given, strict=True):
        mine[...] = peer.numpy()
    return ours


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        (
            lambda rng: cnns.Conv2d(3, 6, (3, 2), 2, 1, groups=3, rng=rng, dtype=float),
            lambda: torch.nn.Conv2d(3, 6, (3, 2), 2, 1, groups=3),
            (2, 3, 7, 5),
        ),
        (
            lambda rng: cnns.Conv1d(3, 5, 3, padding=2, dilation=2, rng=rng, dtype=float),
            lambda: torch.nn.Conv1d(3, 5, 3, padding=2, dilation=2),
            (2, 3, 11),
        ),
        (
            lambda rng: cnns.ConvTranspose2d(3, 5, 3, 2, 1, 1, rng=rng, dtype=float),
            lambda: torch.nn.ConvTranspose2d(3, 5, 3, 2, 1, 1),
            (2, 3, 5, 7),
        ),
        (lambda rng: cnns.MaxPool2d(3, 2, 1), lambda: torch.nn.MaxPool2d(3, 2, 1), (2, 3, 5, 7)),
        (lambda rng: cnns.AvgPool2d(2), lambda: torch.nn.AvgPool2d(2), (2, 3, 4, 6)),
        (lambda rng: cnns.Flatten(), lambda: torch.nn.Flatten(), (2, 3, 4, 6)),
        (
            lambda rng: cnns.BatchNorm2d(3, dtype=float),
            lambda: torch.nn.BatchNorm2d(3),
            (2, 3, 5, 7),
        ),
    ],
)
def test_layers(ours, theirs, shape, rng):
    peer = theirs().double()
    mine = with_weights_of(ours(rng), peer)
    compare(mine, peer, [rng.normal(size=shape)], rng)
    for a, b in zip(mine.parameters(), peer.parameters(), strict=True):
        np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batch_norm_in_use(dtype, rng):
    ours, theirs = cnns.BatchNorm2d(3, dtype=dtype), torch.nn.BatchNorm2d(3)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    close = tolerances(dtype)
    for _ in range(3):
        x = rng.normal(2, 3, size=(5, 3, 7, 2)).astype(dtype)
        compare(ours, theirs, [x], rng, **close)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name], value.numpy(), **close)
    compare(ours.eval(), theirs.eval(), [x], rng, **close)
    with pytest.raises(ValueError, match=r"\(5, 3\)"):
        ours(Tensor(np.zeros((5, 3), dtype)))


def test_default_weights_are_those_of_pytorch(rng):
    ours = cnns.Conv2d(16, 256, 5, rng=rng)
    theirs = torch.nn.Conv2d(16, 256, 5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert a.data.std() == pytest.approx(b.detach().numpy().std(), rel=0.1)
        assert abs(a.data).max() == pytest.approx(1 / 20, rel=0.01)


def test_depthwise_separable(rng):
    ours = cnns.depthwise_separable(3, 7, 3, 2, rng=rng, dtype=float)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 3, 3, 2, 1, groups=3), torch.nn.Conv2d(3, 7, 1)
    ).double()
    compare(with_weights_of(ours, theirs), theirs, [rng.normal(size=(2, 3, 9, 6))], rng)


# ---- networks --------------------------------------------------------------------------------


def count(module):
    return sum(parameter.data.size for parameter in module.parameters())


def test_lenet_count_and_shape(rng):
    net = cnns.LeNet(rng=rng)
    assert count(net) == 61_706
    assert net(Tensor(np.zeros((2, 1, 32, 32), np.float32))).shape == (2, 10)


def test_residual_network_is_that_of_transformers(rng):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=3, embedding_size=4, hidden_sizes=[4, 6, 10], depths=[1, 2, 1],
        layer_type="basic", num_labels=7,
    )  # fmt: skip
    theirs = ResNetForImageClassification(config).double()
    ours = cnns.ResNet((1, 2, 1), (4, 6, 10), 7, rng=rng, dtype=float)
    given = {key: value.numpy() for key, value in theirs.state_dict().items()}
    for name, mine in ours.state_dict().items():
        mine[...] = given[_their_name(name, (1, 2, 1))]
    x = rng.normal(size=(2, 3, 32, 64))
    compare(ours, lambda x: theirs(x).logits, [x], rng, rtol=1e-9, atol=1e-9)
    named = dict(theirs.named_parameters())
    for name, mine in ours.named_parameters():
        peer = named[_their_name(name, (1, 2, 1))].grad.numpy()
        np.testing.assert_allclose(mine.grad, peer, rtol=1e-9, atol=1e-9)


def _their_name(name, blocks):
    """The name in transformers of a parameter of our residual network."""
    part, rest = name.split(".", 1)
    if part in ("conv", "bn"):
        kind = {"conv": "convolution", "bn": "normalization"}[part]
        return f"resnet.embedder.embedder.{kind}.{rest}"
    if part == "head":
        return f"classifier.1.{rest}"
    number, layer, rest = rest.split(".", 2)
    number, stage = int(number), 0
    while number >= blocks[stage]:
        number, stage = number - blocks[stage], stage + 1
    before = f"resnet.encoder.stages.{stage}.layers.{number}"
    if layer == "shortcut":
        which, rest = rest.split(".", 1)
        return f"{before}.shortcut.{('convolution', 'normalization')[int(which)]}.{rest}"
    kind = {"conv": "convolution", "bn": "normalization"}[layer[:-1]]
    return f"{before}.layer.{int(layer[-1]) - 1}.{kind}.{rest}"


def test_published_counts(rng):
    assert count(cnns.ResNet(rng=rng)) == 11_689_512  # torchvision's resnet18
    assert count(cnns.ConvNeXtBlock(96, rng=rng)) == 8 * 96**2 + 58 * 96 == 79_296
    assert count(cnns.PatchEmbedding(3, 768, 16, rng=rng)) == 590_592


def test_a_small_residual_network(rng):
    net = cnns.ResNet((1, 1), (5, 7), classes=3, in_channels=1, small=True, rng=rng, dtype=float)
    blocks = (5 * 5 * 9 * 2 + 4 * 5) + (5 * 7 * 9 + 7 * 7 * 9 + 5 * 7 + 6 * 7)
    assert count(net) == (1 * 5 * 9 + 2 * 5) + blocks + (7 * 3 + 3)
    x = Tensor(rng.normal(size=(2, 1, 8, 6)), requires_grad=True)
    net(x).backward(rng.normal(size=(2, 3)))
    assert x.grad.shape == x.shape
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_convnext_block_is_that_of_transformers(rng):
    from transformers import ConvNextConfig
    from transformers.models.convnext.modeling_convnext import ConvNextLayer

    theirs = ConvNextLayer(ConvNextConfig(layer_scale_init_value=0.3), dim=6).double()
    ours = cnns.ConvNeXtBlock(6, scale=0.3, rng=rng, dtype=float)
    names = {"depthwise": "dwconv", "norm": "layernorm", "wider": "pwconv1", "back": "pwconv2"}
    given = theirs.state_dict()
    for name, mine in ours.state_dict().items():
        part, _, kind = name.partition(".")
        key = "layer_scale_parameter" if part == "scale" else f"{names[part]}.{kind}"
        mine[...] = given[key].numpy()
    compare(ours, theirs, [rng.normal(size=(2, 6, 5, 7))], rng)


def test_plain_blocks_are_residual_blocks_without_the_sum(rng):
    x = Tensor(np.abs(rng.normal(size=(2, 3, 5, 7))))
    block = cnns.ResidualBlock(3, 3, rng=rng, dtype=float)
    whole = block(x).data
    block.residual = False
    part = block.bn2(block.conv2(Tensor(np.maximum(block.bn1(block.conv1(x)).data, 0)))).data
    np.testing.assert_allclose(whole, np.maximum(x.data + part, 0), atol=1e-12)
    np.testing.assert_allclose(block(x).data, np.maximum(part, 0), atol=1e-12)


def test_patches_are_a_convolution(rng):
    from transformers import ViTConfig
    from transformers.models.vit.modeling_vit import ViTPatchEmbeddings

    config = ViTConfig(image_size=12, patch_size=4, num_channels=3, hidden_size=5)
    theirs = ViTPatchEmbeddings(config).double()
    ours = with_weights_of(cnns.PatchEmbedding(3, 5, 4, rng=rng, dtype=float), theirs)
    x = rng.normal(size=(2, 3, 12, 12))
    compare(ours, theirs, [x], rng)
    rows = ours.weight.data.reshape(5, -1)
    np.testing.assert_allclose(
        ours(Tensor(x)).data, cnns.patchify(x, 4) @ rows.T + ours.bias.data, atol=1e-12
    )
    with pytest.raises(ValueError, match=r"squares of 5 do not tile an image of 12 × 12"):
        cnns.patchify(x, 5)


# ---- reach -----------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)), max_size=4),
)
def test_receptive_field_is_what_gradients_reach(layers):
    size, step = cnns.receptive_field(layers)
    length = size + 2 * step
    leaf = torch.zeros(1, 1, length, dtype=torch.float64, requires_grad=True)
    y = leaf
    for kernel, stride, dilation in layers:
        weight = torch.ones(1, 1, kernel, dtype=torch.float64)
        y = F.conv1d(y, weight, stride=stride, dilation=dilation)
    y[0, 0, 1].backward()
    reached = np.flatnonzero(leaf.grad.numpy()[0, 0])
    assert (reached[0], reached[-1] + 1) == (step, step + size)


def test_gradient_reach(rng):
    first = cnns.Conv2d(2, 3, 3, padding=1, rng=rng, dtype=float)
    second = cnns.Conv2d(3, 5, 3, stride=2, padding=1, rng=rng, dtype=float)
    images = rng.normal(size=(4, 2, 11, 13))
    found = cnns.gradient_reach(lambda x: second(first(x)), images, (2, 3))
    x = torch.tensor(images, requires_grad=True)
    weights = [torch.tensor(v.data) for m in (first, second) for v in m.parameters()]
    y = F.conv2d(F.conv2d(x, *weights[:2], padding=1), *weights[2:], stride=2, padding=1)
    y[:, :, 2, 3].sum().backward()
    np.testing.assert_allclose(found, x.grad.abs().mean((0, 1)).numpy(), atol=1e-12)
    assert [len(np.flatnonzero(found.any(axis=axis))) for axis in (0, 1)] == [5, 5]


def test_shift(rng):
    x = rng.normal(size=(2, 3, 5, 7))
    for down, right in ((0, 0), (1, 0), (-2, 3), (4, -6), (5, 0), (0, -9)):
        expected = np.zeros_like(x)
        for i in range(5):
            for j in range(7):
                if 0 <= i - down < 5 and 0 <= j - right < 7:
                    expected[..., i, j] = x[..., i - down, j - right]
        np.testing.assert_array_equal(cnns.shift(x, down, right), expected)
    assert cnns.shift(x, 1, 0, fill=2.0)[0, 0, 0, 0] == 2


# ---- the nasty list --------------------------------------------------------------------------

NASTY = {
    "no image": np.zeros((0, 2, 3, 4)),
    "one pixel a channel": np.ones((1, 2, 1, 1)),
    "float32": np.linspace(-1, 1, 48, dtype=np.float32).reshape(2, 2, 3, 4),
    "float16": np.linspace(-1, 1, 48).astype(np.float16).reshape(2, 2, 3, 4),
    "NaN": np.where(np.arange(48).reshape(2, 2, 3, 4) == 7, np.nan, 1.0),
    "huge": np.full((1, 2, 3, 4), 1e200),
    "tiny": np.full((1, 2, 3, 4), 1e-200),
    "not contiguous": np.arange(48.0).reshape(4, 3, 2, 2).transpose(3, 2, 1, 0),
    "channels last": np.arange(48.0).reshape(2, 3, 4, 2).transpose(0, 3, 1, 2),
}


@pytest.mark.parametrize("name", NASTY)
def test_nasty_images(name, rng):
    x = NASTY[name]
    weight = rng.normal(size=(3, 2, 1, 1)).astype(x.dtype)
    close = {"f2": {"rtol": 2e-3, "atol": 2e-3}, "f4": {"rtol": 1e-4, "atol": 1e-5}}.get(
        x.dtype.str[1:], {"rtol": 1e-10, "atol": 0}
    )
    compare(cnns.conv2d, F.conv2d, [x, weight, None], rng, **close)
    back = rng.normal(size=(2, 3, 2, 2)).astype(x.dtype)
    compare(cnns.conv_transpose2d, F.conv_transpose2d, [x, back, None], rng, **close)
    if x.dtype != np.float16:
        compare(lambda x: cnns.max_pool2d(x, 1), lambda x: F.max_pool2d(x, 1), [x], rng, **close)
        compare(lambda x: cnns.avg_pool2d(x, 1), lambda x: F.avg_pool2d(x, 1), [x], rng, **close)


def test_pixels_of_eight_bits(rng):
    pixels = rng.integers(0, 256, size=(2, 3, 5, 7)).astype(np.uint8)
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    y = cnns.conv2d(Tensor(pixels), Tensor(weight))
    expected = F.conv2d(torch.tensor(pixels).float(), torch.tensor(weight))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.data, expected.numpy(), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, w: cnns.conv2d(x, w(4, 2, 3, 3)), "3 channels and 4 kernels of 2 channels"),
        (lambda x, w: cnns.conv2d(x, w(4, 3, 7, 3)), "a window of 7 does not fit into 5"),
        (lambda x, w: cnns.conv2d(x, w(4, 3, 3, 3), stride=0), "stride must be .* got 0"),
        (lambda x, w: cnns.conv2d(x, w(4, 3, 3, 3), padding=-1), "padding must be .* got -1"),
        (lambda x, w: cnns.conv2d(x, w(4, 1, 3, 3), groups=3), "4 kernels of 1 channels do not"),
        (lambda x, w: cnns.conv_transpose2d(x, w(4, 2, 3, 3)), "expected 4 channels on axis 1"),
        (
            lambda x, w: cnns.conv_transpose2d(x, w(3, 2, 3, 3), stride=2, output_padding=2),
            "output_padding must be below the stride 2, got 2",
        ),
        (lambda x, w: cnns.conv_transpose2d(x, w(3, 2, 3, 3), padding=5), "less padding"),
        (lambda x, w: cnns.max_pool2d(x, 6), "a window of 6 does not fit into 5"),
        (lambda x, w: cnns.max_pool2d(x, 2, padding=2), "at most half of the kernel 2, got 2"),
        (
            lambda x, w: cnns.Conv2d(3, 4, 3, groups=3, rng=np.random.default_rng(0)),
            "do not divide into 3 groups",
        ),
    ],
)
def test_errors_name_what_came(call, message, rng):
    x = Tensor(rng.normal(size=(2, 3, 5, 5)))
    with pytest.raises(ValueError, match=message):
        call(x, lambda *shape: Tensor(rng.normal(size=shape)))


# ---- what the page says of sizes and of PyTorch ----------------------------------------------


@settings(max_examples=80)
@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3)
)
def test_conv_output_size(size, kernel, stride, padding, dilation):
    image, weight = torch.zeros(1, 1, size), torch.zeros(1, 1, kernel)
    if dilation * (kernel - 1) + 1 > size + 2 * padding:
        with pytest.raises(ValueError, match=f"does not fit into {size} with padding {padding}"):
            cnns.conv_output_size(size, kernel, stride, padding, dilation)
        return
    expected = F.conv1d(image, weight, None, stride, padding, dilation).shape[2]
    assert cnns.conv_output_size(size, kernel, stride, padding, dilation) == expected


@pytest.mark.parametrize("groups", [1, 3])
def test_spread_by_turned_kernels_and_by_adding_windows(groups, rng):
    from chainrule.architectures.cnns.columns import add_windows, geometry, spread, turn

    shape = geometry((3, 2), 1, 1, (1, 2))
    g, weight = rng.normal(size=(2, 6, 7, 5)), rng.normal(size=(6, 2, 3, 2))
    found = spread(g, weight, shape, groups, (7, 5))
    rows = weight.reshape(groups, 6 // groups, 12)
    columns = rows.swapaxes(-1, -2) @ g.reshape(2, groups, 6 // groups, 35)
    expected = np.empty((2, 2 * groups, 7, 5))
    add_windows(columns.reshape(2, 2 * groups, 3, 2, 7, 5), shape, expected)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert turn(weight, groups).shape == (2 * groups, 6 // groups, 3, 2)


def test_what_the_page_says_of_convolutions_in_torch():
    layer = torch.nn.Conv2d(3, 96, 11, stride=4)
    assert layer.weight.shape == (96, 3, 11, 11)
    for values in (layer.weight, layer.bias):
        most = values.abs().max().item()
        assert 0.95 / 363**0.5 < most <= 1 / 363**0.5 + 1e-9
    assert torch.nn.Linear(363, 96).weight.abs().max().item() <= 1 / 363**0.5 + 1e-9
    assert torch.nn.ConvTranspose2d(3, 5, 2).weight.shape == (3, 5, 2, 2)


def test_what_the_page_says_of_pooling_in_torch(rng):
    assert torch.nn.MaxPool2d(2).stride == 2
    assert torch.nn.AvgPool2d(2).count_include_pad
    assert not torch.nn.MaxPool2d(2).ceil_mode
    negative = -torch.ones(1, 1, 2, 2)
    assert F.max_pool2d(negative, 2, 1, 1)[0, 0, 0, 0] == -1  # padded zeros would give 0
    assert F.avg_pool2d(negative, 2, 1, 1)[0, 0, 0, 0] == -0.25
    layer = torch.nn.BatchNorm2d(16).double()
    x = rng.normal(size=(2, 16, 3, 5))
    layer(torch.tensor(x))
    expected = 0.9 + 0.1 * x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_var.numpy(), expected)
    with pytest.raises(ValueError, match="padding='same'"):
        torch.nn.Conv2d(1, 1, 3, stride=2, padding="same")


def test_what_the_page_says_of_residual_networks_in_torch(rng):
    x = torch.tensor(rng.normal(size=(5, 3, 4, 7)))
    norm, conv = torch.nn.BatchNorm2d(6).double(), torch.nn.Conv2d(3, 6, 3).double()
    with_bias = norm(conv(x)).detach().numpy()
    without = norm(F.conv2d(x, conv.weight)).detach().numpy()
    np.testing.assert_allclose(with_bias, without, atol=1e-9)  # the norm subtracts a constant
    assert not np.allclose(
        norm(x.repeat(1, 2, 1, 1))[:2].detach(), norm(x[:2].repeat(1, 2, 1, 1)).detach()
    )
    norm.eval()
    twice = x.repeat(1, 2, 1, 1)
    np.testing.assert_allclose(norm(twice)[:2].detach(), norm(twice[:2]).detach())
    torch.manual_seed(0)
    kernels = torch.empty(64, 16, 3, 3)
    for mode, fan in (("fan_in", 16 * 9), ("fan_out", 64 * 9)):
        torch.nn.init.kaiming_normal_(kernels, mode=mode, nonlinearity="relu")
        assert kernels.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)
    ours = cnns.ResidualBlock(16, 64, rng=rng).conv1.weight.data
    assert ours.std() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.05)
