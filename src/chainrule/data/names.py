"""First names to learn from: 5,163 of the US census of 1990, always there, no dependency.

The list is the file ``names.txt`` beside this module; its first lines say where it comes from and
that it is in the public domain. The shortest names have two letters, the longest eleven.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Names", "first_names", "load_names"]

HELD_OUT = 516
"""One name in ten: half to choose by, half to report on."""


class Names(NamedTuple):
    """Three lists that share no name: to fit on, to choose by, and to report on once."""

    train: list[str]
    validation: list[str]
    test: list[str]


def first_names() -> list[str]:
    """Every name once, in small letters a to z, in alphabetical order."""
    lines = (files("chainrule.data") / "names.txt").read_text("ascii").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def load_names() -> Names:
    """4,647 names to train on, 258 for validation, 258 for the test, in a fixed random order.

    The order is that of the names' SHA-256 sums, so it is the same on every machine and with every
    version of Python and NumPy.
    """
    shuffled = sorted(first_names(), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    kept, half = len(shuffled) - HELD_OUT, HELD_OUT // 2
    return Names(shuffled[:kept], shuffled[kept : kept + half], shuffled[kept + half :])
