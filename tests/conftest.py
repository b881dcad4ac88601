"""Shapes in signatures are enforced for the whole suite: a shape in the source is never a lie."""

import os

os.environ["CHAINRULE_CHECK_SHAPES"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from jaxtyping import install_import_hook

install_import_hook(
    [
        "chainrule.math_foundations",
        "chainrule.neural_networks",
        "chainrule.architectures",
        "chainrule.transformers",
        "chainrule.training",
        "chainrule.modern_llms",
    ],
    "beartype.beartype",
)

hypothesis.settings.register_profile("course", deadline=None, derandomize=True)
hypothesis.settings.load_profile("course")


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator, the same for every test."""
    return np.random.default_rng(0)
