"""Convolutional networks: convolution as a matrix product, pooling, and networks made of them.

Taught in ``architectures/cnns.md``. Each operation stands on two rungs: composed of primitive
operations (``conv2d_composed``), where the engine finds the gradient, and fused (``conv2d``),
with the gradient that the document derives. Names, defaults and the order of axes are PyTorch's.

Shape names: ``n`` images in a batch, ``c`` channels in, ``m`` channels out, ``h`` and ``w`` rows
and columns in, ``hh`` and ``ww`` out, ``kh`` and ``kw`` those of a kernel, ``groups`` and ``cg``
the channels of one group, ``t`` positions of a sequence.
"""

from __future__ import annotations

from chainrule.architectures.cnns.columns import col2im, conv_output_size, im2col
from chainrule.architectures.cnns.convolution import (
    causal_conv1d,
    conv1d,
    conv2d,
    conv2d_composed,
    conv_as_matrix,
)
from chainrule.architectures.cnns.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    MaxPool2d,
    ReLU,
    depthwise_separable,
)
from chainrule.architectures.cnns.networks import (
    ConvNeXtBlock,
    LeNet,
    PatchEmbedding,
    ResidualBlock,
    ResNet,
    patchify,
)
from chainrule.architectures.cnns.pooling import (
    avg_pool2d,
    avg_pool2d_composed,
    blur_pool,
    max_pool2d,
    max_pool2d_composed,
)
from chainrule.architectures.cnns.reach import (
    ReceptiveField,
    gradient_reach,
    receptive_field,
    shift,
)
from chainrule.architectures.cnns.transposed import (
    conv_transpose2d,
    conv_transpose2d_composed,
)

__all__ = [
    "AvgPool2d", "BatchNorm2d", "Conv1d", "Conv2d", "ConvNeXtBlock", "ConvTranspose2d",
    "Flatten", "LeNet", "MaxPool2d", "PatchEmbedding", "ReLU", "ReceptiveField", "ResNet",
    "ResidualBlock", "avg_pool2d", "avg_pool2d_composed", "blur_pool", "causal_conv1d", "col2im",
    "conv1d", "conv2d", "conv2d_composed", "conv_as_matrix", "conv_output_size",
    "conv_transpose2d", "conv_transpose2d_composed", "depthwise_separable", "gradient_reach",
    "im2col", "max_pool2d", "max_pool2d_composed", "patchify", "receptive_field", "shift",
]  # fmt: skip
