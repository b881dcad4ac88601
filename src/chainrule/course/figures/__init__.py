"""Figures: drawn by scripts, one style, the same bytes every time.

A script ``figures/<folder>/<name>.py`` decorates one function a figure::

    from chainrule.course.figures import COLORS, figure

    @figure("unit-balls")  # draws figures/<folder>/<slug>/unit-balls.svg
    def unit_balls(plt):
        fig, ax = plt.subplots()
        ax.plot([0, 1], [1, 0], color=COLORS["blue"])
        return fig

``chainrule audit SUBJECT --only figures --run --write`` redraws, and writes only the files that
change. What a run measured is drawn from where ``python -m chainrule.course.figures --measure``
stored it; see :mod:`chainrule.course.figures.measurements`.
"""

from __future__ import annotations

import io
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from chainrule.course.figures import measurements
from chainrule.course.figures.measurements import measured as measured
from chainrule.course.figures.measurements import measurement as measurement
from chainrule.course.manifest import Document, load_course

# Okabe and Ito's palette: told apart with every common form of colour blindness.
COLORS = {
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
STYLE = Path(__file__).with_name("chainrule.mplstyle")

Draw = Callable[[Any], Any]


@dataclass(frozen=True)
class Model:
    """What an interactive figure computes, in Python, and the states in which both are asked."""

    name: str
    compute: Callable[[dict[str, Any]], dict[str, Any]]
    states: tuple[dict[str, Any], ...]
    tolerance: float
    line: int


# What the script that was loaded last declares, by name; see also `measurements.registered`.
drawn: dict[str, Draw] = {}
models: dict[str, Model] = {}


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
    return measurements.keep("figure", name, drawn, lambda draw: draw)


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

    def model(compute: Any) -> Model:
        return Model(name, compute, tuple(states), tolerance, compute.__code__.co_firstlineno)

    return measurements.keep("interactive figure", name, models, model)


def load(root: Path, script: str) -> None:
    """Execute a script: what it declares is in `drawn`, `models` and `measurements.registered`.

    Raises:
        FigureError: the script is missing or fails.
    """
    path = root / script
    drawn.clear()
    models.clear()
    measurements.registered.clear()
    measurements.belong(path)
    namespace = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), namespace)
    except (Exception, SystemExit) as error:
        raise explain(root, script, error) from error


def svgs(root: Path, document: Document) -> dict[str, bytes]:
    """A document's figures in the course's style: each SVG's bytes by its path from the root.

    Raises:
        FigureError: the script fails, warns, or a function does not return a figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    load(root, document.figure_script)
    found = {}
    for name, function in drawn.items():
        buffer = io.BytesIO()
        with plt.style.context(["default", STYLE]), warnings.catch_warnings():
            # A glyph that the font lacks, a layout that collapsed, a logarithm of nought.
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", RuntimeWarning)
            try:
                picture = function(plt)
                if not isinstance(picture, matplotlib.figure.Figure):
                    message = f"figure {name!r}: the function must return the figure"
                    raise TypeError(message)
                picture.savefig(buffer, format="svg", metadata={"Date": None})
            except Exception as error:
                line = function.__code__.co_firstlineno
                raise explain(root, document.figure_script, error, line) from error
            finally:
                plt.close("all")
        text = shrink(buffer.getvalue().decode("utf-8"), name.replace("-", " "))
        found[f"{document.figure_folder}/{name}.svg"] = text.encode("utf-8")
    return found


def shrink(svg: str, title: str) -> str:
    """Round coordinates to 2 decimals, use LF line ends, and put a title for the metadata.

    Scales and styles stay exact. Matplotlib names the frames that clip lines after all digits of
    their corners, the last of which is the processor's; here they are named in order.
    """
    for number, name in enumerate(re.findall(r'<clipPath id="(p[0-9a-f]{10})"', svg)):
        svg = svg.replace(name, f"p{sha256(f'{title} {number}'.encode()).hexdigest()[:10]}")
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


def redrawn(root: str, ids: list[str]) -> Iterator[dict[str, Any]]:
    """What redrawing the figures of these documents changes: file, line, message, the new text."""
    course = load_course(Path(root))
    for name in ids:
        try:
            for path, data in svgs(course.root, course.by_id[name]).items():
                target = course.root / path
                if not target.is_file() or target.read_bytes() != data:
                    message, text = "redrawing changes this file", data.decode("utf-8")
                    yield {"file": path, "line": 1, "message": message, "text": text}
        except FigureError as error:
            yield {"file": error.file, "line": error.line, "message": error.message}


def explain(root: Path, script: str, error: BaseException, line: int = 1) -> FigureError:
    """Name the deepest line of the script in an error's traceback, or the line given."""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(root / script):
            line = frame.lineno or line
    return FigureError(script, line, f"{type(error).__name__}: {error}")
