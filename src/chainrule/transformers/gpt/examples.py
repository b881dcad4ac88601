"""Examples from one long text: inputs, and the same text one token later."""

from __future__ import annotations

import numpy as np

from chainrule.shapes import Array, Int

__all__ = ["windows"]


def windows(
    ids: Int[Array, " length"], starts: Int[Array, " batch"], context: int
) -> tuple[Int[Array, "batch context"], Int[Array, "batch context"]]:
    """Return the ``context`` tokens from each start on, and the token that follows each of them.

    Raises:
        ValueError: a start is negative, or a target would lie behind the text.
    """
    if len(starts) and not 0 <= np.min(starts) <= np.max(starts) < len(ids) - context:
        raise ValueError(
            f"of {len(ids)} tokens, {context} and their targets start from 0 to "
            f"{len(ids) - context - 1}, got {np.min(starts)} to {np.max(starts)}"
        )
    rows = ids[np.asarray(starts, np.intp)[:, None] + np.arange(context + 1)]
    return rows[:, :-1], rows[:, 1:]
