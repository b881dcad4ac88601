"""What a check reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """One fault: which check found it, where it stands, what is wrong, what to do."""

    file: str
    line: int
    check: str
    message: str
    fix: str = ""

    def as_dict(self) -> dict[str, str | int]:
        """The JSON form, in the documented order of keys."""
        fields = asdict(self)
        return {key: fields[key] for key in ("check", "file", "line", "message", "fix")}
