"""Interactive figures: what their modules compute, compared with what Python computes.

``figures/<folder>/<slug>/<name>.js`` exports ``controls``, ``compute`` and ``draw``. Beside the
``@figure("name")`` of its picture stands::

    @interactive("name", states=[{"tau": 0.1}])
    def name_model(state):  # the values of all controls
        return {"p": softmax(x / state["tau"])}  # the entries of compute(state)

An entry ``links`` of the result holds places of the course, "folder/document.md#section", by the
names of what leads there; each must exist.

``chainrule audit SUBJECT --only interactive --run`` asks both, in the default state and in every
state listed, and says where they differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule.children import ask
from chainrule.course import figures
from chainrule.course.documents.markdown import parse
from chainrule.course.figures import FigureError, Model, explain
from chainrule.course.figures.measurements import belong, differing, is_number, plain, short
from chainrule.course.manifest import Document, load_course
from chainrule.node import NodeError, find_node

SCRIPT = Path(__file__).with_suffix(".mjs")
SECONDS = 120
KINDS = ("range", "steps", "choice", "toggle", "text", "point")

Row = tuple[str, int, str]  # file, line, what is wrong


def differences(root: str, ids: list[str]) -> Iterator[Row]:
    """What is wrong with the interactive figures of these documents.

    Their modules and their models in Python are asked for the same states.

    Raises:
        NodeError: Node is not here, or it failed.
    """
    place, course = Path(root), load_course(Path(root))
    asked: list[tuple[Document, Model, str]] = []
    for document in (course.by_id[name] for name in ids):
        try:
            figures.load(place, document.figure_script)
        except FigureError as error:
            yield error.file, error.line, error.message
            continue
        for model in figures.models.values():
            file = f"{document.figure_folder}/{model.name}.js"
            if (place / file).is_file():
                asked.append((document, model, file))
    questions = [{"file": str(place / file), "states": model.states} for _, model, file in asked]
    for (document, model, file), answer in zip(asked, _answers(place, questions), strict=True):
        if "error" in answer:
            yield file, 1, answer["error"]
            continue
        for fault in _module_faults(answer):
            yield file, 1, fault
        yield from _differences(place, document, model, answer)
        for fault in _link_faults(place, answer["answers"]):
            yield document.figure_script, model.line, f"{model.name}: {fault}"


def _answers(root: Path, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Node answers to each ``{file, states}``."""
    node = find_node()
    if node is None:
        raise NodeError("Node is missing; type: python -m chainrule.node")
    told = "".join(f"{json.dumps(question)}\n" for question in questions)
    answer = ask(node, str(SCRIPT), root=root, seconds=SECONDS, told=told)
    if answer.fault:
        raise NodeError(f"Node failed on the interactive figures: {answer.fault}")
    return list(answer.rows())


def _said(change: dict[str, Any]) -> str:
    parts = [f"{name} = {json.dumps(value)}" for name, value in change.items()]
    return ", ".join(parts) or "the defaults"


# --- Controls -------------------------------------------------------------------------


def _module_faults(answer: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a module's controls, its presets and what it computes."""
    known: dict[str, dict[str, Any]] = {}
    for number, control in enumerate(answer["controls"], 1):
        name = control.get("name") if isinstance(control, dict) else None
        if not (isinstance(name, str) and name.isidentifier()):
            yield f"control {number} has no name, or none that is an identifier"
            continue
        if name in known:
            yield f"control {name!r} is named twice"
        known[name] = control
        if not str(control.get("label", "")).strip():
            yield f"control {name!r} has no label"
        if fault := _fault(control):
            yield f"control {name!r}: {fault}"
    for label, changes in answer["presets"].items():
        for name, value in changes.items():
            fault = _fault({**known[name], "value": value}) if name in known else "no such control"
            if fault:
                yield f"preset {label!r}, {name!r}: {fault}".replace("the default ", "")
    for change, fault in answer["faults"]:
        yield f"compute at {_said(change)}: {fault}"


def _fault(control: dict[str, Any]) -> str:
    """What is wrong with a control's values, or nothing."""
    kind = control.get("kind", "choice" if "options" in control else "range")
    given: list[Any] = [control.get(key) for key in ("min", "max", "value")]
    low, high, value = given
    if kind not in KINDS:
        return f"kind {kind!r}: it must be one of {', '.join(KINDS)}"
    if kind == "choice":
        options = control.get("options") or []
        return "" if value in options else f"the default {value!r} is not among its options"
    if kind == "toggle":
        return "" if isinstance(value, bool) else f"the default {value!r} is not true or false"
    if kind == "text":
        most = control.get("most")
        if not isinstance(most, int):
            return "most must say how many characters it holds"
        fits = isinstance(value, str) and len(value.encode("utf-16-le")) <= 2 * most
        return "" if fits else f"the default {value!r} is not a text of at most {most} characters"
    if kind == "point":
        step = control.get("step", 0.1)
        ends = [*given, step if isinstance(step, list) else [step, step]]
        if not all(isinstance(each, list) and len(each) == 2 for each in ends):
            return "min, max and value must be [x, y]"
        x, y = zip(*ends, strict=True)
        return _range_fault(*x) or _range_fault(*y)
    if control.get("scale") == "log":
        if not (is_number(low) and low > 0):
            return "a logarithmic range needs 0 < min < max"
        return "" if value == 0 and control.get("zero") else _range_fault(low, high, value, None)
    return _range_fault(low, high, value, control.get("step", 1))


def _range_fault(low: Any, high: Any, value: Any, step: Any) -> str:
    """The same of a range, whose step is None where every number between its ends is one of it."""
    if not all(is_number(each) for each in (low, high, value, step or 1)):
        return "min, max, step and value must be numbers"
    if not (low < high and (step is None or step > 0)):
        return "min must be below max, and step above 0"
    if not low <= value <= high:
        return f"the default {value} is outside {low} to {high}"
    for each, what in ((high, "max"), (value, "the default")) if step else ():
        steps = (each - low) / step
        if abs(steps - round(steps)) > 1e-6:
            return f"{what} {each} is not a whole number of steps of {step} above {low}"
    return ""


# --- Results --------------------------------------------------------------------------


def _differences(
    root: Path, document: Document, model: Model, answer: dict[str, Any]
) -> Iterator[Row]:
    known = {str(control.get("name")) for control in answer["controls"]}
    script, near = document.figure_script, model.tolerance
    belong(root / script)  # all scripts are loaded by now, and the last is not this one
    for change, state, given in answer["answers"]:
        if unknown := sorted(set(change) - known):
            yield script, model.line, f"{model.name}: no control is called {', '.join(unknown)}"
            continue
        try:
            expected = plain(model.compute(dict(state)))
        except Exception as error:
            found = explain(root, script, error, model.line)
            yield found.file, found.line, found.message
            return
        for at, one, other in differing(given, expected):
            numbers = is_number(one) and is_number(other)
            if not (numbers and math.isclose(one, other, rel_tol=near, abs_tol=near / 1000)):
                what = f"{at or 'the result'} is {short(one)} in compute, {short(other)} in Python"
                yield script, model.line, f"{model.name} at {_said(change)}: {what}"
                break


def _link_faults(root: Path, answers: list[list[Any]]) -> Iterator[str]:
    """Each place that a result leads to and that the course has not."""
    targets = {target for *_, result in answers for target in result.get("links", {}).values()}
    for target in sorted(targets - {""}):
        path, _, anchor = target.partition("#")
        file = root / path
        if not (path.endswith(".md") and file.is_file()):
            yield f"it leads to {target}, and there is no document {path}"
        elif anchor and anchor not in parse(file.read_text(encoding="utf-8")).anchors:
            yield f"it leads to {target}, and no heading or id gives #{anchor}"
