"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One fault: which check found it, where it stands, what is wrong, what to do."""

    file: str
    line: int
    check: str
    message: str
    fix: str = ""
