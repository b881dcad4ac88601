"""Shape annotations for signatures: ``Float[Array, "batch time d_model"]``.

Sources annotate with jaxtyping's names but do not need jaxtyping: annotations are strings
(``from __future__ import annotations``), read by people, by mypy, and, when the environment
variable ``CHAINRULE_CHECK_SHAPES`` is 1 as in the test suite, by beartype at every call.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from numpy import ndarray as Array

__all__ = ["Array", "Bool", "Float", "Int", "Num", "Shaped"]

if TYPE_CHECKING or os.environ.get("CHAINRULE_CHECK_SHAPES") == "1":
    from jaxtyping import Bool, Float, Num, Shaped
    from jaxtyping import Integer as Int  # signed or not: ids and pixels come as both
else:
    Bool = Float = Int = Num = Shaped = "see chainrule.shapes: annotations are not evaluated"
