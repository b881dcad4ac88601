"""``python -m chainrule.course.exercises BLIND …`` counts the hints that blind sets get."""

import sys
import warnings
from collections import Counter
from pathlib import Path

from chainrule.course.exercises.proving import measure


def main(paths: list[Path]) -> int:
    """Print the counts of each blind set and of all; 1 if a hint is wrong or an answer passes."""
    total: Counter[str] = Counter()
    for path in paths:
        with warnings.catch_warnings(action="ignore"):
            found = list(measure(path))
        for kind, entry, failure in found:
            if kind != "right":
                said = failure.hint or failure.message if failure else "every check"
                print(f"{path}:{entry.line}: {entry.exercise}: {entry.fault}")
                print(f"    {kind}: {said.splitlines()[0]}")
        total += (counts := Counter(kind for kind, _, _ in found))
        print(f"{path}: {dict(counts)}")
    print(f"all: {dict(total)}")
    return 1 if total["wrong"] + total["passes"] else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
