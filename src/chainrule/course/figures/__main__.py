"""``python -m chainrule.course.figures --measure [ID …]``: measures what figures show."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

from chainrule.children import THREADS
from chainrule.course.figures import FigureError, explain, load, measurements
from chainrule.course.manifest import CourseError, Document, find_root, load_course
from chainrule.course.paths import find_subject
from chainrule.files import write_atomically
from chainrule.program import UsageError


def options(arguments: list[str] | None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="figures", description="Measure what figures show.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="documents; all when none is given")
    parser.add_argument("--measure", action="store_true", required=True, help="measure and store")
    parser.add_argument("--check", action="store_true", help="store nothing; exit 1 if it differs")
    parser.add_argument("--only", metavar="NAME", help="this measurement alone")
    left_out = "leave out what declares that it takes longer"
    parser.add_argument("--at-most", type=float, default=math.inf, metavar="S", help=left_out)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Store measurements, or check them; 0 done, 1 something differs or fails, 2 bad input."""
    asked = options(arguments)
    os.environ |= dict.fromkeys(THREADS, "1")  # sums in another order end in other digits
    try:
        course = load_course(find_root())
        named = [find_subject(course, name).document for name in asked.ids]
    except (CourseError, UsageError) as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    failed = False
    drawn = [each for each in course.documents if (course.root / each.figure_script).is_file()]
    for document in named or drawn:
        try:
            failed |= measure(course.root, document, asked)
        except FigureError as error:
            failed = True
            print(error)
    return int(failed)


def measure(root: Path, document: Document, asked: argparse.Namespace) -> bool:
    """Store a document's measurements, or say which numbers left their band: then True.

    Raises:
        FigureError: the script or a measurement fails, what it gives cannot be stored, or there
            is no measurement of the name asked for.
    """
    failed, script = False, document.figure_script
    load(root, script)
    registered = measurements.registered
    if asked.only is not None and asked.only not in registered:
        known = ", ".join(registered) or "none"
        raise FigureError(script, 1, f"no measurement {asked.only!r}; this script has {known}")
    for name, each in registered.items():
        if asked.only not in (None, name) or each.seconds > asked.at_most:
            continue
        started = time.process_time()
        try:
            found = measurements.take(each)
        except Exception as error:
            raise explain(root, script, error, each.line) from error
        path = f"{document.figure_folder}/{name}.json"
        target = root / path
        if not asked.check:
            write_atomically(target, measurements.as_bytes(found))
            print(f"{path}:1: measured in {time.process_time() - started:.1f} s")
            continue
        stored = json.loads(target.read_bytes()) if target.is_file() else None
        for message in measurements.departures(each, stored, found):
            failed = True
            print(f"{path}:1: {message}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
