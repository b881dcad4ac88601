"""Figures: drawn by scripts, one style, the same bytes every time.

A script ``figures/<folder>/<name>.py`` decorates one function a figure::

    from chainrule.course.figures import COLORS, figure

    @figure("unit-balls")  # draws figures/<folder>/<slug>/unit-balls.svg
    def unit_balls(plt):
        fig, ax = plt.subplots()
        ax.plot([0, 1], [1, 0], color=COLORS["blue"])
        return fig

``python -m chainrule.course.figures [ID …]`` redraws and writes only the files that change;
``--check`` writes nothing and exits 1 where redrawing would change a file; ``--png DIR`` draws
pictures to look at. What a run measured is drawn from where ``--measure`` stored it; see
:mod:`chainrule.course.figures.measurements`.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chainrule.course.children import THREADS
from chainrule.course.figures import measurements
from chainrule.course.figures.measurements import measured as measured
from chainrule.course.figures.measurements import measurement as measurement
from chainrule.course.files import write_atomically
from chainrule.course.manifest import Course, CourseError, Document, find_root, load_course

# Okabe and Ito's palette: told apart with every common form of colour blindness.
COLORS = MappingProxyType(
    {
        "blue": "#0072B2",
        "vermillion": "#D55E00",
        "green": "#009E73",
        "purple": "#CC79A7",
        "orange": "#E69F00",
        "sky": "#56B4E9",
        "yellow": "#F0E442",
        "black": "#000000",
        "grey": "#777777",
        "light": "#DDDDDD",
    }
)
STALE = "redrawing changes this file"
STYLE = Path(__file__).with_name("chainrule.mplstyle")

Draw = Callable[[Any], Any]
_drawn: dict[str, Draw] = {}


@dataclass(frozen=True)
class Model:
    """What an interactive figure computes, in Python, and the states in which both are asked."""

    name: str
    compute: Callable[[dict[str, Any]], dict[str, Any]]
    states: tuple[dict[str, Any], ...]
    tolerance: float
    line: int


_models: dict[str, Model] = {}


class FigureError(Exception):
    """A script cannot be drawn: where, and why."""

    def __init__(self, file: str, line: int, message: str):
        super().__init__(f"{file}:{line}: {message}")
        self.file, self.line, self.message = file, line, message


def figure(name: str) -> Callable[[Draw], Draw]:
    """Register a function that takes ``matplotlib.pyplot`` and returns the figure ``name``.

    Raises:
        ValueError: the name is not lower-case words joined by hyphens, or is taken.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        message = f"figure name {name!r}: use lower-case words joined by hyphens"
        raise ValueError(message)
    if name in _drawn:
        message = f"figure name {name!r} is used twice in this script: rename one"
        raise ValueError(message)

    def register(draw: Draw) -> Draw:
        _drawn[name] = draw
        return draw

    return register


def interactive(
    name: str, states: Sequence[dict[str, Any]] = (), tolerance: float = 1e-9
) -> Callable[[Callable[[dict[str, Any]], dict[str, Any]]], Any]:
    """Register what ``compute`` of the interactive figure ``name`` gives, computed in Python.

    The function takes the state of all controls and returns the same entries as ``compute`` in
    ``figures/<folder>/<slug>/<name>.js``. Each state lists the controls that differ from their
    defaults; ``tolerance`` is relative, a thousandth of it absolute.

    Raises:
        ValueError: the name is taken.
    """
    if name in _models:
        message = f"interactive figure {name!r} is computed twice in this script: rename one"
        raise ValueError(message)

    def register(compute: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
        line = compute.__code__.co_firstlineno
        _models[name] = Model(name, compute, tuple(states), tolerance, line)
        return compute

    return register


def load_script(root: Path, script: str) -> dict[str, Draw]:
    """The drawing functions of a script, by figure name.

    Raises:
        FigureError: the script is missing or fails when it is imported.
    """
    _load(root, script)
    return dict(_drawn)


def load_models(root: Path, script: str) -> dict[str, Model]:
    """What the interactive figures of a script compute, by figure name.

    Raises:
        FigureError: the script is missing or fails when it is imported.
    """
    _load(root, script)
    return dict(_models)


def _load(root: Path, script: str) -> None:
    path = root / script
    _drawn.clear()
    _models.clear()
    measurements.begin(path)
    namespace = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), namespace)
    except (Exception, SystemExit) as error:
        raise explain(root, script, error) from error


def draw(root: Path, document: Document, save: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    """Yield each figure's name and what ``save`` makes of it, drawn in the course's style.

    Raises:
        FigureError: the script fails, warns, or a function does not return a figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    script = document.figure_script
    for name, function in load_script(root, script).items():
        with plt.style.context(["default", STYLE]), warnings.catch_warnings():
            # A glyph that the font lacks, a layout that collapsed, a logarithm of nought.
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            try:
                drawn = function(plt)
                if not isinstance(drawn, matplotlib.figure.Figure):
                    message = f"figure {name!r}: the function must return the figure"
                    raise TypeError(message)
                saved = save(drawn)
            except Exception as error:
                line = function.__code__.co_firstlineno
                raise explain(root, script, error, line) from error
            finally:
                plt.close("all")
        yield name, saved


def svgs(root: Path, document: Document) -> dict[str, bytes]:
    """Draw a document's figures: the bytes of each SVG by its path relative to the root."""

    def save(drawn: Any) -> str:
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
        return buffer.getvalue().decode("utf-8")

    return {
        f"{document.figure_folder}/{name}.svg": shrink(text, name.replace("-", " ")).encode("utf-8")
        for name, text in draw(root, document, save)
    }


def shrink(svg: str, title: str) -> str:
    """Round coordinates to 2 decimals, use LF line ends, and put a title for the metadata.

    Scales and styles stay exact.
    """
    svg = re.sub(r"<!DOCTYPE[^>]*>\s*", "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", f"<title>{title}</title>", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(\s(?:d|points|x|y|x1|x2|y1|y2|cx|cy|r|width|height|viewBox)="|translate\()([^")]*)',
        lambda match: match[1] + _rounded(match[2]),
        svg,
    )
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def _rounded(text: str) -> str:
    text = re.sub(r"-?\d*\.\d+(?:e[-+]?\d+)?", lambda match: _short(float(match[0])), text)
    return re.sub(r"\s*\n\s*", "\n", text)


def _short(number: float) -> str:
    text = f"{number:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def measure(
    root: Path, document: Document, only: str | None = None, at_most: float = math.inf
) -> Iterator[tuple[measurements.Measurement, dict[str, Any], float]]:
    """Yield each measurement of a document's script, what it gives now, and its CPU seconds.

    Args:
        root: the checkout.
        document: whose script measures.
        only: the name of one measurement; all when None.
        at_most: measurements that declare more seconds are left out.

    Raises:
        FigureError: the script or a measurement fails, what it gives cannot be stored, or there
            is no measurement of the name ``only``.
    """
    script = document.figure_script
    _load(root, script)
    if only is not None and only not in measurements.registered:
        known = ", ".join(measurements.registered) or "none"
        raise FigureError(script, 1, f"no measurement {only!r}; this script has {known}")
    for each in list(measurements.registered.values()):
        if only in (None, each.name) and each.seconds <= at_most:
            started = time.process_time()
            try:
                found = measurements.take(each)
            except Exception as error:
                raise explain(root, script, error, each.line) from error
            yield each, found, time.process_time() - started


def changes(course: Course, documents: list[Document]) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the new bytes of each file that redrawing changes."""
    for document in documents:
        for path, data in svgs(course.root, document).items():
            target = course.root / path
            if not target.is_file() or target.read_bytes() != data:
                yield path, data


def redrawn(root: str, ids: list[str]) -> Iterator[dict[str, Any]]:
    """What redrawing the figures of these documents changes: file, line, message, the new text."""
    course = load_course(Path(root))
    for document in chosen(course, ids):
        try:
            for path, data in changes(course, [document]):
                yield {"file": path, "line": 1, "message": STALE, "text": data.decode("utf-8")}
        except FigureError as error:
            yield {"file": error.file, "line": error.line, "message": error.message}


def explain(root: Path, script: str, error: BaseException, line: int = 1) -> FigureError:
    """Name the deepest line of the script in an error's traceback, or the line given."""
    if isinstance(error, SyntaxError) and error.filename == str(root / script):
        line = error.lineno or line
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(root / script):
            line = frame.lineno or line
    missing = isinstance(error, FileNotFoundError) and error.filename == str(root / script)
    kind = "there is no such script" if missing else str(error)
    return FigureError(script, line, f"{type(error).__name__}: {kind}")


def chosen(course: Course, ids: list[str]) -> list[Document]:
    """The documents named, or all that have a script.

    Raises:
        CourseError: an id is unknown, or its document has no script.
    """
    for name in ids:
        if name not in course.by_id:
            raise CourseError(f"no document {name!r} in course.toml")
        if not (course.root / course.by_id[name].figure_script).is_file():
            raise CourseError(f"{course.by_id[name].figure_script} does not exist: write it first")
    return [
        document
        for document in course.documents
        if (document.id in ids if ids else (course.root / document.figure_script).is_file())
    ]


def main(arguments: list[str] | None = None) -> int:
    """Redraw, check, or show figures; 0 done, 1 something is stale or fails, 2 bad input."""
    parser = argparse.ArgumentParser(prog="figures", description="Redraw the course's figures.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="documents; all when none is given")
    parser.add_argument("--root", type=Path, help="the checkout (default: around this folder)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if stale")
    parser.add_argument("--png", type=Path, metavar="DIR", help="draw PNGs there, nothing else")
    parser.add_argument("--measure", action="store_true", help="measure and store, draw nothing")
    parser.add_argument("--only", metavar="NAME", help="with --measure: this measurement alone")
    parser.add_argument(
        "--at-most",
        type=float,
        default=math.inf,
        metavar="SECONDS",
        help="with --measure: leave out what declares that it takes longer",
    )
    options = parser.parse_args(arguments)
    failed = False
    os.environ |= dict.fromkeys(THREADS, "1")  # sums in another order end in other digits
    try:
        course = load_course(find_root(options.root))
        documents = chosen(course, options.ids)
    except CourseError as error:
        print(f"figures: {error}", file=sys.stderr)
        return 2
    for document in documents:
        try:
            if options.measure:
                failed |= _measure(course, document, options)
                continue
            if options.png:
                for name, png in draw(course.root, document, _png):
                    target = options.png / document.id / f"{name}.png"
                    write_atomically(target, png)
                    print(target)
                continue
            for path, data in changes(course, [document]):
                failed |= options.check
                if not options.check:
                    write_atomically(course.root / path, data)
                print(f"{path}:1: {STALE if options.check else 'drawn'}")
        except FigureError as error:
            failed = True
            print(error)
    return int(failed)


def _measure(course: Course, document: Document, options: argparse.Namespace) -> bool:
    """Store a document's measurements; with ``--check``, say which numbers left their band."""
    failed = False
    for each, found, seconds in measure(course.root, document, options.only, options.at_most):
        path = f"{document.figure_folder}/{each.name}.json"
        target = course.root / path
        if options.check:
            stored = json.loads(target.read_bytes()) if target.is_file() else None
            for message in measurements.departures(each, stored, found):
                failed = True
                print(f"{path}:1: {message}")
        else:
            write_atomically(target, measurements.as_bytes(found))
            print(f"{path}:1: measured in {seconds:.1f} s")
    return failed


def _png(drawn: Any) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
