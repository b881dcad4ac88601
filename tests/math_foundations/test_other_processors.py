"""What the five pages print does not depend on the processor that runs them.

OpenBLAS chooses its kernels, and NumPy its vector instructions, by what the processor can do. Both
can be told to do with less, so one machine stands for several: sums are then added in another
order, products rounded once or twice, and sines differ in their last bit.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from numpy._core import _multiarray_umath as umath

from chainrule.course.documents.blocks import run

ROOT = Path(__file__).parents[2]
PAGES = ["linear-algebra", "calculus", "probability", "information-theory", "optimization"]
CHOSEN = " ".join(name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name])
# The kernel of OpenBLAS, and the instructions that NumPy must not use.
PROCESSORS = {
    "2008": ("Nehalem", CHOSEN),
    "2013": ("Haswell", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("year", PROCESSORS)
@pytest.mark.parametrize("page", PAGES)
def test_blocks_print_the_same_on_an_older_processor(page, year, monkeypatch):
    kernel, without = PROCESSORS[year]
    monkeypatch.setenv("OPENBLAS_CORETYPE", kernel)
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", without)
    result = run(ROOT, f"math-foundations/{page}.md", seconds=60)
    assert [f"{finding.line}: {finding.message}" for finding in result.findings] == []
