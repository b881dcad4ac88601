"""Interactive figures: what their modules compute, compared with what Python computes.

``figures/<folder>/<slug>/<name>.js`` exports ``controls``, ``compute`` and ``draw``. Beside the
``@figure("name")`` of its picture stands::

    @interactive("name", states=[{"tau": 0.1}])
    def name_model(state):  # the values of all controls
        return {"p": softmax(x / state["tau"])}  # the entries of compute(state)

An entry ``links`` of the result holds places of the course, "folder/document.md#section", for boxes
that lead there; each must exist.

``chainrule audit SUBJECT --only interactive --run`` asks both, in the default state and in every
state listed, and says where they differ.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule.children import ask
from chainrule.course import figures
from chainrule.course.documents.markdown import parse
from chainrule.course.figures import FigureError, Model, chosen, explain
from chainrule.course.figures.measurements import belong, differing, is_number, plain, short
from chainrule.course.manifest import Document, load_course
from chainrule.node import NodeError, find_node

SCRIPT = Path(__file__).with_suffix(".mjs")
MISSING = "Node is missing; type: python -m chainrule.node"
SECONDS = 120
KINDS = ("range", "steps", "choice", "toggle", "text", "point")

Row = tuple[str, int, str]  # file, line, what is wrong


def differences(root: str, ids: list[str]) -> Iterator[Row]:
    """What is wrong with the interactive figures of these documents, or of all.

    Their modules and their models in Python are asked for the same states.

    Raises:
        NodeError: Node is not here, or it failed.
    """
    place = Path(root)
    asked: list[tuple[Document, Model, str]] = []
    for document in chosen(load_course(place), ids):
        try:
            figures.load(place, document.figure_script)
        except FigureError as error:
            yield error.file, error.line, error.message
            continue
        for name, model in figures.models.items():
            file = f"{document.figure_folder}/{name}.js"
            asked += [(document, model, file)] if (place / file).is_file() else []
    questions = [{"file": str(place / file), "states": model.states} for _, model, file in asked]
    for (document, model, file), answer in zip(asked, answers_to(place, questions), strict=True):
        yield from _faults(place, document, model, file, answer)


def _faults(
    root: Path, document: Document, model: Model, file: str, answer: dict[str, Any]
) -> Iterator[Row]:
    if "error" in answer:
        yield file, 1, answer["error"]
        return
    if answer["missing"] or not isinstance(answer["controls"], list):
        names = ", ".join(answer["missing"]) or "controls as a list"
        yield file, 1, f"does not export {names}"
        return
    source = (root / file).read_text(encoding="utf-8")
    for message in _control_faults(answer["controls"]):
        yield file, _line(source, "controls"), message
    for message in _preset_faults(answer["controls"], answer["presets"]):
        yield file, _line(source, "presets"), message
    for change, message in answer["faults"]:
        yield file, _line(source, "compute"), f"compute at {_said(change)}: {message}"
    yield from _differences(root, document, model, answer)
    for message in _link_faults(root, answer["answers"]):
        yield document.figure_script, model.line, f"{model.name}: {message}"


def answers_to(root: Path, questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Node answers to each ``{file, states}``.

    Raises:
        NodeError: Node is not here, or it failed.
    """
    if not questions:
        return []
    node = find_node()
    if node is None:
        raise NodeError(MISSING)
    told = "".join(f"{json.dumps(question)}\n" for question in questions)
    answer = ask(node, str(SCRIPT), root=root, seconds=SECONDS, told=told)
    if answer.status is None:
        raise NodeError(f"Node took over {SECONDS} s: a compute does not end")
    answers = list(answer.rows())
    if answer.status or len(answers) != len(questions):
        raise NodeError(f"Node failed on the interactive figures: {answer.fault}")
    return answers


def _line(source: str, name: str) -> int:
    found = re.search(rf"^export\b.*\b{name}\b", source, re.MULTILINE)
    return source.count("\n", 0, found.start()) + 1 if found else 1


def _said(change: dict[str, Any]) -> str:
    parts = [f"{name} = {json.dumps(value)}" for name, value in change.items()]
    return ", ".join(parts) or "the defaults"


# --- Controls -------------------------------------------------------------------------


def _control_faults(controls: list[Any]) -> Iterator[str]:
    names: set[str] = set()
    for number, control in enumerate(controls, 1):
        name = control.get("name") if isinstance(control, dict) else None
        if not (isinstance(name, str) and name.isidentifier()):
            yield f"control {number} has no name, or none that is an identifier"
            continue
        if name in names:
            yield f"control {name!r} is named twice"
        names.add(name)
        if not str(control.get("label", "")).strip():
            yield f"control {name!r} has no label"
        if fault := _fault(control):
            yield f"control {name!r}: {fault}"


def _preset_faults(controls: list[Any], presets: dict[str, dict[str, Any]]) -> Iterator[str]:
    known = {str(control.get("name")): control for control in controls}
    for label, changes in presets.items():
        for name, value in changes.items():
            fault = "no such control"
            if name in known:
                fault = _fault({**known[name], "value": value})
            if fault:
                yield f"preset {label!r}, {name!r}: {fault}".replace("the default ", "")


def _fault(control: dict[str, Any]) -> str:
    """What is wrong with a control's values, or nothing."""
    kind = control.get("kind", "choice" if "options" in control else "range")
    value: Any = control.get("value")
    if kind not in KINDS:
        return f"kind {kind!r}: it must be one of {', '.join(KINDS)}"
    if kind == "choice":
        options = control.get("options") or []
        return "" if value in options else f"the default {value!r} is not among its options"
    if kind == "toggle":
        return "" if isinstance(value, bool) else f"the default {value!r} is not true or false"
    if kind == "text":
        most = control.get("most")
        if not (isinstance(most, int) and most > 0):
            return "most must say how many characters it holds"
        if not isinstance(value, str) or len(value.encode("utf-16-le")) > 2 * most:
            return f"the default {value!r} is not a text of at most {most} characters"
        return ""
    ends: list[Any] = [control.get("min"), control.get("max"), value]
    if kind == "point":
        if not all(isinstance(each, list) and len(each) == 2 for each in ends):
            return "min, max and value must be [x, y]"
        steps = control.get("step", 0.1)
        ends.append(steps if isinstance(steps, list) else [steps, steps])
        x, y = ([each[axis] for each in ends] for axis in (0, 1))
        return _range_fault(*x) or _range_fault(*y)
    low, high, _ = ends
    if control.get("scale") == "log":
        if not (is_number(low) and is_number(high) and 0 < low < high):
            return "a logarithmic range needs 0 < min < max"
        least = 0 if control.get("zero") else low
        return "" if is_number(value) and least <= value <= high else _outside(low, high, value)
    return _range_fault(low, high, value, control.get("step", 1))


def _outside(low: Any, high: Any, value: Any) -> str:
    return f"the default {value} is outside {low} to {high}"


def _range_fault(low: Any, high: Any, value: Any, step: Any) -> str:
    if not all(is_number(each) for each in (low, high, value, step)):
        return "min, max, step and value must be numbers"
    if not (low < high and step > 0):
        return "min must be below max, and step above 0"
    if not low <= value <= high:
        return _outside(low, high, value)
    for each, what in ((high, "max"), (value, "the default")):
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
            expected = plain(model.compute(dict(state)), lambda value: value)
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
    targets = {target for *_, result in answers for target in _strings(result.get("links", []))}
    for target in sorted(targets):
        path, _, anchor = target.partition("#")
        file = root / path
        if not (path.endswith(".md") and file.is_file()):
            yield f"it leads to {target}, and there is no document {path}"
        elif anchor and anchor not in parse(file.read_text(encoding="utf-8")).anchors:
            yield f"it leads to {target}, and no heading or id gives #{anchor}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _strings(each)
    elif isinstance(value, str) and value:
        yield value
