"""A training run on accelerators, by the planner of ``training/distributed-training``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chainrule.training.distributed_training import (
    A100,
    DEEPSEEK_V3,
    H100,
    H800,
    LLAMA_3_405B,
    Device,
    Plan,
    Sizes,
    plan,
    sizes_of,
    zero_bytes,
)
from chainrule.transformers import transformer_architecture as families
from chainrule.transformers.transformer_architecture import LLAMA_3_8B, TransformerConfig

__all__ = ["DEVICES", "MODELS", "Run", "shape_for"]

DEVICES = {"h100": H100, "a100": A100, "h800": H800}
MODELS: dict[str, TransformerConfig | Sizes] = {
    "gpt2": families.GPT2_SMALL,
    "gpt2-medium": families.GPT2_MEDIUM,
    "gpt2-large": families.GPT2_LARGE,
    "gpt2-xl": families.GPT2_XL,
    "llama-2-7b": families.LLAMA_2_7B,
    "llama-3-8b": LLAMA_3_8B,
    "llama-3-405b": LLAMA_3_405B,
    "mixtral-8x7b": families.MIXTRAL_8X7B,
    "qwen-3-0.6b": families.QWEN_3_06B,
    "gemma-3-1b": families.GEMMA_3_1B,
    "deepseek-v3": DEEPSEEK_V3,
}
ASPECT = 110  # width a block: Llama 3 has 102 at 70 billion parameters and 128 at 8 and 405
TERMS = {
    "products": "arithmetic: matrix products",
    "scores": "arithmetic: attention's scores",
    "moved": "the device's memory: what is no product",
    "tensor": "the link inside a machine: rows that are added up for split matrices",
    "experts": "the links: rows on their way to experts",
    "idle": "waiting: the pipeline's ends",
    "data": "the links: gradients and weights",
    "update": "the device's memory: the optimizer's update",
}


def shape_for(parameters: float) -> TransformerConfig:
    """Return a model of Llama 3's kind with about so many parameters.

    Heads of 128 and 8 key-value heads, a gated layer 3.5 times as wide as the stream, and as many
    blocks as bring the count nearest; among shapes within half a percent the one whose width is
    nearest to ``ASPECT`` times its depth.

    Raises:
        ValueError: fewer than 10 million or more than 100 trillion parameters.
    """
    if not 1e7 <= parameters <= 1e14:
        raise ValueError(
            f"the planner shapes models of 1e7 to 1e14 parameters, received {parameters:g}"
        )
    best: tuple[float, float, TransformerConfig] | None = None
    vocab = 128_256 if parameters > 1e9 else 32_000
    step, aspect = (1024, ASPECT) if parameters > 1e9 else (64, 64)
    for width in range(step, 2**18, step):
        size = 128 if width % 1024 == 0 else 64
        heads = width // size
        cfg = replace(
            LLAMA_3_8B, vocab_size=vocab, width=width, heads=heads,
            kv_heads=8 if heads % 8 == 0 else heads, hidden=7 * width // 2,
            decoder_layers=1, tied=parameters <= 1e9,
        )  # fmt: skip
        one = sizes_of(cfg)
        layers = max(1, round((parameters - one.tables) / one.shared))
        count = one.tables + layers * one.shared
        miss = abs(count / parameters - 1)
        lean = abs(math.log(width / layers / aspect))
        key = (max(miss, 0.03), lean)
        if best is None or key < best[:2]:
            best = (*key, replace(cfg, decoder_layers=layers))
        if one.tables > 2 * parameters:
            break
    assert best is not None
    return best[2]


@dataclass(frozen=True)
class Run:
    """A model, devices, a batch and a text; ``tokens`` is the length of the text.

    Raises:
        ValueError: a number below 1, with its name.
    """

    sizes: Sizes
    device: Device
    gpus: int
    sequences: int
    context: int
    tokens: float

    def __post_init__(self) -> None:
        for name in ("gpus", "sequences", "context", "tokens"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"--{name} must be at least 1, received {getattr(self, name):g}")

    @property
    def steps(self) -> int:
        """Steps until the text is read."""
        return math.ceil(self.tokens / (self.sequences * self.context))

    def plans(self) -> list[Plan]:
        """All splits that fit, the fastest first; one for each mesh of data, tensor, pipeline."""
        found: dict[tuple[int, int, int], Plan] = {}
        for one in plan(self.sizes, self.device, self.gpus, self.sequences, self.context):
            mesh = one.mesh
            found.setdefault((mesh.data, mesh.tensor, mesh.pipeline), one)
        return list(found.values())

    def least(self) -> float:
        """Bytes a device at least: the states alone, cut into as many parts as there are devices.

        Equation: training/distributed-training.md#eq-zero-bytes
        """
        return float(zero_bytes(self.sizes.parameters, self.gpus, 3, gradient=2))

    def days(self, chosen: Plan) -> float:
        """Days until the text is read."""
        return self.steps * chosen.time.total / 86_400


def limit(chosen: Plan) -> str:
    """What most of a step is spent on."""
    spent = dict(zip(TERMS, chosen.time[:8], strict=True))
    largest = max(spent, key=lambda name: spent[name])
    return f"{TERMS[largest]}, {spent[largest] / chosen.time.total:.0%} of a step"
