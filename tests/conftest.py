"""Shapes in signatures are enforced for the whole suite: a shape in the source is never a lie."""

import os

os.environ["CHAINRULE_CHECK_SHAPES"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import signal
import sys
from types import ModuleType

import hypothesis
import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from hypothesis.internal.conjecture import providers
from jaxtyping import install_import_hook

# A job started in the background inherits that Ctrl-C is ignored; tests that send it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The hook takes a checker by its name. Ours accepts a whole number where a float is asked for,
# as Python's type system does (PEP 484).
_checker = ModuleType("course_typechecker")
_checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[_checker.__name__] = _checker

install_import_hook(
    [
        "chainrule.math_foundations",
        "chainrule.neural_networks",
        "chainrule.architectures",
        "chainrule.transformers",
        "chainrule.training",
        "chainrule.modern_llms",
        "chainrule.pytorch",
    ],
    "course_typechecker.check",
)

# Hypothesis mixes numbers from the source of imported modules into what it draws; then what a
# test tries would depend on which tests ran before it in the same process.
providers._get_local_constants = providers.Constants
hypothesis.settings.register_profile("course", deadline=None, derandomize=True)
hypothesis.settings.load_profile("course")


pytest_plugins = ["chromium", "sample_course"]


@pytest.fixture
def rng() -> np.random.Generator:
    """A fresh generator, the same for every test."""
    return np.random.default_rng(0)
