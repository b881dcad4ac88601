"""A small course that uses everything the site must show, and a large one for timing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from chainrule.course.manifest import Course, load_course

REPOSITORY = Path(__file__).resolve().parents[2]

README = """# Chain Rule

A course that is also software: see [linear algebra](math-foundations/linear-algebra.md).

<!-- generated: graph -->
```mermaid
graph TD
    la[Linear algebra] --> ca[Calculus]
    click la "math-foundations/linear-algebra.md"
```
<!-- /generated -->

More in [the notation](NOTATION.md), the [licence](LICENSE) and the [source](src/).
"""

LINEAR_ALGEBRA = """# Linear algebra

<!-- generated: header -->
**Needs** nothing.
**Code** [`linear_algebra`](../src/chainrule/math_foundations/linear_algebra.py)
<!-- /generated -->

Push $(1, 0)$ through $A$, and $`a_{1} + b_{1}`$ too; it costs 5.1<!--= f"{x:.1f}" --> seconds.

## Dot products → similarity and attention

See [the projection](#eq-projection) and [the next subject](calculus.md#chain-rule).

<a id="eq-projection"></a>

```math
p = \\frac{u \\cdot v}{v \\cdot v} v = a_0 + a_1 x + a_2 x^2 + a_3 x^3 + a_4 x^4 + a_5 x^5
  + a_6 x^6 + a_7 x^7
```

```python
import numpy as np

print(np.arange(3))
#> [0 1 2]
print("a line that is far too wide for a telephone, so that the block must scroll in itself", 1)
#> a line that is far too wide for a telephone, so that the block must scroll in itself 1
```

```python no-run
launch("rockets")
```

![A circle and a square](../figures/math-foundations/linear-algebra/balls.svg)

*Two balls.*

> [!NOTE]
> A norm is a length.

| shape | name | meaning | cost in floating-point operations | remark |
|---|---|---|---|---|
| $(n, m)$ | `matrix_with_a_long_name` | $\\lVert x \\rVert$ | 2nm | wide on purpose, to scroll |

- [x] read
- [ ] practised

<details><summary>Answer</summary>

Forty-two.[^1]

</details>

[^1]: A footnote with $x^2$.

## Exercises

<!-- generated: exercises -->
| title | minutes |
|---|---|
| Scaled scores | 10 |
<!-- /generated -->
"""

CALCULUS = """# Calculus

A Jacobian is a matrix; see [linear algebra](../math-foundations/linear-algebra.md#eq-projection).
Code: [`calculus`](../src/chainrule/math_foundations/calculus).

## Chain rule

The derivative is unmistakablyfindable: $f'(x) = 2x$. Known [1], old [2, 1], see `a[1]`, [3].

## References

1. A. Author, *A Title*, Journal 1(2), 1999, doi:10.1016/0304-3975(83)90110-X, arXiv:1706.03762.
2. B. Author, *Older*, 1998, arXiv:math.GT/0309136. Chapter 2.
"""

FIGURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 300" width="700" height="300">
<rect width="700" height="300" fill="white"/><circle cx="200" cy="150" r="90" fill="none"
stroke="black"/><rect x="400" y="60" width="180" height="180" fill="none" stroke="black"/></svg>
"""


def notebook(title: str, extra: str = "") -> str:
    """A stored notebook with a formula, a code cell and its output."""
    cells = [
        {
            "cell_type": "markdown",
            "metadata": {},
            "source": f"# {title}\n\nWe fit $y = x^2$.{extra}",
        },
        {
            "cell_type": "code",
            "execution_count": 1,
            "metadata": {},
            "source": "print(6 * 7)",
            "outputs": [{"name": "stdout", "output_type": "stream", "text": "42\n"}],
        },
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def write(root: Path, files: dict[str, str]) -> None:
    """Write files below ``root``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def small_course(root: Path, **replaced: str) -> Course:
    """Two documents, one notebook and one page of reference."""
    shutil.copy(REPOSITORY / "course.toml", root)
    manifest = load_course(root)
    files = {
        "README.md": README,
        "NOTATION.md": "# Notation\n\nVectors are bold: $\\mathbf{x}$.\n",
        "LICENSE": "Do what you want.\n",
        "src/chainrule/math_foundations/linear_algebra.py": '"""Vectors."""\n\nx = 1\n',
        "src/chainrule/math_foundations/calculus/__init__.py": '"""Slopes."""\n',
        "src/chainrule/math_foundations/calculus/limits.py": "y = 2\n",
        "math-foundations/linear-algebra.md": LINEAR_ALGEBRA,
        "math-foundations/calculus.md": CALCULUS,
        "figures/math-foundations/linear-algebra/balls.svg": FIGURE,
        manifest.notebooks[0].path: notebook(manifest.notebooks[0].title),
    }
    write(root, files | replaced)
    return load_course(root)


def large_course(root: Path) -> Course:
    """All 30 documents, 140 formulas and 4,000 words each, and all 12 notebooks."""
    course = small_course(root)
    for number, document in enumerate(course.documents):
        sections = [f"# {document.title}\n\n{document.promise}\n"]
        for part in range(10):
            words = " ".join(f"word{(number * 31 + part * 17 + i) % 997}" for i in range(400))
            maths = "\n".join(
                f"So $x_{{{number}}}^{{{part}}} + {i} = y_{i}$ holds." for i in range(12)
            )
            block = f"```math\n\\sum_{{i=1}}^{{{part}}} \\frac{{x_i}}{{{number} + i}}\n```"
            code = f"```python\nx = {part}\nprint(x)\n#> {part}\n```"
            sections.append(f"## Section {part}\n\n{words}\n\n{maths}\n\n{block}\n\n{code}\n")
        write(root, {document.path: "\n".join(sections)})
    for entry in course.notebooks:
        write(root, {entry.path: notebook(entry.title, " $a+b$" * 20)})
    return load_course(root)
