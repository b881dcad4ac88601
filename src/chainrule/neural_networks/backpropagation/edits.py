"""Which memory was overwritten, and when: no gradient may be computed from changed numbers.

Operations and edits draw their numbers from one clock. An edit whose number is higher than an
operation's came after it; if that operation's VJP still holds the edited memory, the backward
pass would read numbers that the forward pass never saw, and refuses. Noted are the edits of
optimizers, of ``load_state_dict``, of ``x += …`` and of ``x.data += …``; what is written through
the array itself, ``x.data[...] = …``, is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.array_utils import byte_bounds

from chainrule.shapes import Array

__all__ = ["Edit", "clock", "edits_since", "held_arrays", "last_edit", "note_edit"]

clock = count(1)


class Edit(NamedTuple):
    """The number of an edit and the addresses that it overwrote."""

    order: int
    low: int
    high: int
    owner: weakref.ref[Array]

    def touches(self, array: Array) -> bool:
        """Whether the array has memory in that range."""
        low, high = byte_bounds(array)
        return low < self.high and self.low < high


_edits: dict[tuple[int, int], Edit] = {}


def note_edit(array: Array) -> None:
    """Say that ``array`` was just overwritten in place."""
    if not array.size:
        return
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    place = byte_bounds(array)
    forget = weakref.ref(owner, lambda _: _edits.pop(place, None))
    _edits[place] = Edit(next(clock), *place, forget)


def last_edit(array: Array) -> int:
    """The number of the latest edit that touched this array's memory; 0 if there was none."""
    return max((edit.order for edit in list(_edits.values()) if edit.touches(array)), default=0)


def edits_since(order: int) -> list[Edit]:
    """The edits with higher numbers."""
    return [edit for edit in list(_edits.values()) if edit.order > order]


def held_arrays(thing: Any, seen: set[int] | None = None) -> Iterator[Array]:
    """The arrays that a function reaches through its closure, or a container through its parts."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        yield thing
    else:
        for part in _parts(thing):
            yield from held_arrays(part, seen)


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, tuple | list):
        yield from thing
    elif isinstance(thing, dict):
        yield from thing.values()
    for cell in getattr(thing, "__closure__", None) or ():
        with suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents
