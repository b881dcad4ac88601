"""One question a document: who answers it may leave the document out of a path."""

from __future__ import annotations

import math
import re
from fractions import Fraction


def number(text: str) -> float | None:
    """The number that a person wrote: ``0.5``, ``1/2``, ``50 %``, ``1,200``, ``−3``, ``2e-3``."""
    plain = text.replace("−", "-").replace(" ", "")
    thousands = re.fullmatch(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?%?", plain)
    plain = plain.replace(",", "" if thousands else ".")
    try:
        value = float(Fraction(plain.removesuffix("%")))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value / 100 if plain.endswith("%") else value


def agrees(given: str, answer: str) -> bool:
    """Whether what was given is the answer, to the digits that the answer has."""
    value, right = number(given), number(answer)
    if value is None or right is None:
        return False
    mantissa, _, exponent = answer.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    half = 0.5 * 10.0 ** (int(exponent or 0) - decimals) if "." in mantissa else 0.0
    return math.isfinite(value) and abs(value - right) <= half + 1e-9 * abs(right)
