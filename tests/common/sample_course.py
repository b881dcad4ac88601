"""A small clean course, in which tests plant faults, and its command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chainrule.course.audit import all_checks, perform
from chainrule.course.manifest import load_course

CODE = "from chainrule.cli import main; main()"

MANIFEST = """\
[course]
name = "Small course"
promise = "A course that is small enough to break."

[[phase]]
number = 1
title = "First"
summary = "The first phase."

[[phase]]
number = 2
title = "Second"
summary = "The second phase."

[[track]]
id = "all"
title = "All of it"
goals = ["*"]

[[document]]
id = "math-foundations/lengths"
title = "Lengths"
phase = 1
minutes = 10
promise = "You can measure an arrow."
outline = [
    { text = "The length of an arrow", anchor = "the-length-of-an-arrow" },
    { text = "Unit arrows", anchor = "unit-arrows" },
]
concepts = ["norm", "Pythagoras"]

[[document]]
id = "math-foundations/slopes"
title = "Slopes"
phase = 1
minutes = 20
promise = "You can say how steep a hill is."
needs = [
    { id = "math-foundations/lengths", because = "A slope is a ratio of two lengths." },
]
outline = [
    { text = "Rise over run", anchor = "rise-over-run" },
]

[[document]]
id = "neural-networks/neurons"
title = "Neurons"
phase = 2
minutes = 30
promise = "You can build one neuron."
needs = [
    { id = "math-foundations/slopes", because = "Learning goes down a slope." },
]
outline = [
    { text = "One neuron", anchor = "one-neuron" },
]

[[notebook]]
id = "01-hill"
title = "Down the hill"
serves = ["math-foundations/slopes"]
seconds = 20
megabytes = 1

[[ask]]
document = "math-foundations/lengths"
question = "How long is the arrow from (0, 0) to (6, 8)?"
answer = "10"
computed = "math.hypot(6, 8)"

[[ask]]
document = "math-foundations/slopes"
question = "A road rises 1 metre in 8. What is its slope? (two decimals)"
answer = "0.13"
computed = "1 / 8"
"""

LENGTHS = """\
# Lengths

<!-- generated: header -->
<!-- /generated -->

How long is the arrow from $(0, 0)$ to $(3, 4)$? It is 5<!--= f"{norm([3, 4]):.0f}" --> long.

## The length of an arrow

The **norm** of an arrow $`x`$ is its length [1]. How steep it is comes later, in
[slopes](slopes.md#rise-over-run).

<a id="eq-norm"></a>

```math
\\lVert x \\rVert = \\sqrt{x_1^2 + x_2^2}
```

```python
from chainrule.math_foundations.lengths import norm

print(norm([3, 4]))
#> 5.0
```

![An arrow from the origin to the point three, four.](../figures/math-foundations/lengths/arrow.svg)

*The arrow is the long side of a triangle.*

**By hand.**

1. Square: 9 and 16.
2. Add, and take the root: 5.

**Question.** How long is the arrow to $(6, 8)$?

<details><summary>Answer</summary>

Twice as long: 10.

</details>

## Unit arrows

| arrow | length |
| --- | --- |
| $(1, 0)$ | 1 |

![A circle of radius one.](../figures/math-foundations/lengths/circle.svg)

*Every arrow that ends on the circle has length one.*

**Question.** Is $(1, 1)$ one of them?

<details><summary>Answer</summary>

No, it is longer.

</details>

## What people get wrong

**"Twice the arrow, four times the norm."** It has twice the norm: try (6, 8).

**"A norm can be 0."** Only that of the arrow that goes nowhere.

**"A norm has no unit."** It has that of the arrow.

## Exercises

<!-- generated: exercises -->
<!-- /generated -->

## Where this leads

<!-- generated: leads -->
<!-- /generated -->

## References

1. Euclid, *The Elements*, Cambridge University Press, 1908. See [a copy](https://example.org/elements).
"""

SLOPES = """\
# Slopes

<!-- generated: header -->
<!-- /generated -->

A road climbs 3 metres over 4. How steep is it?

## Rise over run

The slope is a ratio of two [lengths][first]: see <a href="lengths.md#unit-arrows">arrows</a>.

![A triangle with its rise and its run.](../figures/math-foundations/slopes/rise.svg)

*The rise stands on the run.*

![Two roads, one twice as steep as the other.](../figures/math-foundations/slopes/roads.svg)

*The upper road has twice the slope.*

**Question.** How steep is a road that goes down 1 over 2?

<details><summary>Answer</summary>

Its slope is $-1/2$.

</details>

## What people get wrong

**"A slope of 100 % is a wall."** It is half of one [1].

**"The earth is flat."** Only a map is flat [2].

**"Down is no slope."** It is one below 0.

## Exercises

<!-- generated: exercises -->
<!-- /generated -->

## Where this leads

<!-- generated: leads -->
<!-- /generated -->

## References

1. E. Imhof, *Cartographic Relief Presentation*, de Gruyter, 1982.
2. Eratosthenes, B. Author, *On the Earth*, Mail 3(4), 5–6, 1999, doi:10.1000/182, arXiv:9901.00001.

[first]: lengths.md#the-length-of-an-arrow
"""

README = """\
# Small course

<!-- generated: status -->
<!-- /generated -->

<!-- generated: documents -->
<!-- /generated -->

<!-- generated: graph -->
<!-- /generated -->

<!-- generated: tracks -->
<!-- /generated -->
"""

LENGTHS_MODULE = '''\
"""Lengths."""

from __future__ import annotations

import numpy as np


def norm(x):
    """Return the length of an arrow.

    Equation: math-foundations/lengths.md#eq-norm
    """
    return float(np.sqrt(np.sum(np.square(x))))
'''

SLOPES_MODULE = '''\
"""Slopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chainrule.math_foundations import lengths

if TYPE_CHECKING:
    from .lengths import norm


def slope(rise, run):
    """Return rise over run."""
    return lengths.norm([rise]) / lengths.norm([run])
'''

EXERCISES = '''\
"""Exercises."""

from __future__ import annotations

from chainrule.course.exercises import exercise, expect_close


@exercise(
    "{title}",
    difficulty=1,
    minutes=5,
    section="{section}",
    because="the package needs no function for that",
    idea="What is taken two times?",
)
def {name}(x):
    """Return twice x."""
    return 2 * x


@{name}.check
def small(answer, rng):
    expect_close(answer(2.7), 5.4, what="twice 2.7")


@{name}.mistake("You squared it. What is twice 3?")
def squares(x):
    return x * x


@{name}.mistake("You halved it. Which way does twice go?")
def halves(x):
    return x / 2
'''

FIGURES = '''\
"""Figures."""

from __future__ import annotations

from chainrule.course.figures import figure

'''

FIGURE = """
@figure("{name}")
def {name}(plt):
    fig, ax = plt.subplots()
    ax.plot([0, 1])
    return fig

"""

NOTEBOOK = [
    (
        "markdown",
        "# Down the hill\n\nYou build a ball that rolls.\n\n"
        "Serves [slopes](../math-foundations/slopes.md). Budget: 20 s, 1 MB.",
    ),
    ("code", "from chainrule.math_foundations.slopes import slope\n\nprint(slope(3, 4))", "0.75\n"),
    ("markdown", "## Change one thing\n\nMake the hill $h = 2x$."),
    ("code", "assert slope(4, 4) == 1"),
]


class SmallCourse:
    """A course in a folder of its own."""

    def __init__(self, root):
        self.root = root

    def add(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def edit(self, path, old, new):
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text, f"{path} does not hold {old!r}"
        self.add(path, text.replace(old, new, 1))

    def audit(self, *names, run=False, write=False, subjects=(), remember=False):
        chosen = [check for check in all_checks() if not names or check.NAME in names]
        return perform(load_course(self.root), chosen, run, write, subjects, remember=remember)

    def line(self, finding):
        """The text of the line that a finding names."""
        return (self.root / finding.file).read_text(encoding="utf-8").split("\n")[finding.line - 1]


def notebook(cells):
    """The JSON of an executed notebook."""
    counter, made = 0, []
    for number, (kind, source, *outputs) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        cell["source"] = source.splitlines(keepends=True)
        if kind == "code":
            counter += 1
            cell["execution_count"] = counter
            cell["outputs"] = [
                {"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}
                for text in outputs
            ]
        made.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def build(root):
    """Write the small course and refresh what is generated."""
    course = SmallCourse(root)
    course.add("course.toml", MANIFEST)
    course.add("README.md", README)
    course.add("math-foundations/lengths.md", LENGTHS)
    course.add("math-foundations/slopes.md", SLOPES)
    course.add("src/chainrule/math_foundations/__init__.py", '"""Foundations."""\n')
    course.add("src/chainrule/math_foundations/lengths.py", LENGTHS_MODULE)
    course.add("src/chainrule/math_foundations/slopes.py", SLOPES_MODULE)
    course.add("notebooks/01-hill.ipynb", notebook(NOTEBOOK))
    for slug, section, figures in (
        ("lengths", "unit-arrows", ("arrow", "circle")),
        ("slopes", "rise-over-run", ("rise", "roads")),
    ):
        tests = f"from chainrule.math_foundations import {slug}\n\n\ndef test_it():\n"
        course.add(f"tests/math_foundations/test_{slug}.py", f"{tests}    assert {slug}.norm\n")
        exercises = EXERCISES.format(title=f"Twice in {slug}", section=section, name="twice")
        course.add(f"exercises/math-foundations/{slug}.py", exercises)
        script = FIGURES + "".join(FIGURE.format(name=name) for name in figures)
        course.add(f"figures/math-foundations/{slug}.py", script)
        for name in figures:
            course.add(f"figures/math-foundations/{slug}/{name}.svg", "<svg/>\n")
    course.audit("generated", write=True)
    return course


@pytest.fixture(scope="session")
def pristine(tmp_path_factory):
    return build(tmp_path_factory.mktemp("small")).root


@pytest.fixture
def small(pristine, tmp_path) -> SmallCourse:
    """A copy of the small course, to break."""
    root = Path(shutil.copytree(pristine, tmp_path / "course"))
    return SmallCourse(root)


@pytest.fixture
def chainrule(small):
    """Run the command in the small course; returns status, output, errors."""

    def run(*arguments, cwd=small.root, typed="", **environment):
        done = subprocess.run(
            [sys.executable, "-P", "-c", CODE, *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            encoding="utf-8",
            input=typed,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return run
