"""What holds for all source of the package, and no linter looks at."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "chainrule"

LONGEST = 40
"""Lines of a function from its ``def`` on, its docstring left out: what a screen shows at once."""

KERNEL = (
    "a kernel along time and its gradient: the loop back reads what the loop forwards kept, and "
    "the document derives them step by step in this order"
)
LONGER = {
    "architectures/lstms/layers.py _lstm": KERNEL,
    "architectures/lstms/layers.py _gru": KERNEL,
}
"""The functions that are longer, each with its reason."""


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, int]]:
    """Name and length of every function: methods with their class, inner ones with the outer."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from functions(node, inside)
            continue
        name = f"{inside}{node.name}"
        if not isinstance(node, ast.ClassDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) is not None:
                first = node.body[0]
                lines -= first.end_lineno - first.lineno + 1
            yield name, lines
        yield from functions(node, f"{name}.")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(): pass", [("f", 1)]),
        ('@cached\ndef f(\n    x,\n):\n    """Two\n\n    lines."""\n    return x', [("f", 4)]),
        ("class A:\n    async def f(self):\n        return 1", [("A.f", 2)]),
        ("if x:\n    def f():\n        def g():\n            pass\n        return g",
         [("f", 4), ("f.g", 2)]),
    ],
)  # fmt: skip
def test_lines_are_counted_without_the_docstring(source, found):
    assert list(functions(ast.parse(source))) == found


def test_functions_stay_short():
    """Every function fits on a screen; those that do not have a reason, and no others one."""
    lengths = {
        f"{path.relative_to(SOURCE).as_posix()} {name}": lines
        for path in sorted(SOURCE.rglob("*.py"))
        for name, lines in functions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(lengths) > 1000
    long = {name: lines for name, lines in lengths.items() if lines > LONGEST}
    new = {name: lines for name, lines in long.items() if name not in LONGER}
    assert not new, f"more than {LONGEST} lines: {new}"
    over = LONGER.keys() - long.keys()
    assert not over, f"short enough now, so no longer an exception: {over}"
