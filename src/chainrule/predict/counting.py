"""What a notebook computes, counted while it runs: the arithmetic, the bytes, the steps of Python.

A program is read as a syntax tree, every operation in it is replaced by a call that counts what
went in and came out, and the changed program runs. So nothing in the engine knows of it, and plain
NumPy counts as well as the engine does. Libraries are not changed: what happens inside Matplotlib
counts as pictures, what happens inside Python's own library does not count.

``python -m chainrule.predict.counting [NAME …] --write`` counts the notebooks in a process each
and stores ``notebooks.json`` beside this file. It runs each once, at about twice its usual time.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import operator
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

__all__ = ["Counter", "count_source", "digest", "instrument"]

STORED = Path(__file__).with_name("notebooks.json")
NAME = "_counted_"
LEFT_ALONE = (
    *("chainrule.course", "chainrule.learner", "chainrule.predict"),
    *("chainrule.children", "chainrule.files", "chainrule.node", "chainrule.shapes"),
)
SMOOTH = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "tanh", "sin", "cos", "tan", "arctan",
    "arctan2", "arccos", "arcsin", "sinh", "cosh", "cbrt", "logaddexp",
}  # fmt: skip
CHANCE = {
    "standard_normal", "normal", "gumbel", "exponential", "permutation", "shuffle", "choice",
    "integers", "random", "uniform",
}  # fmt: skip
ORDER = {
    "sort", "argsort", "unique", "searchsorted", "argpartition", "partition", "lexsort",
}  # fmt: skip
KINDS = {
    **dict.fromkeys(SMOOTH, "smooth"), **dict.fromkeys(CHANCE, "chance"),
    **dict.fromkeys(ORDER, "order"), "power": "power", "float_power": "power",
}  # fmt: skip
EASY_POWERS = (1, 2, 0.5, -1)  # a pass for NumPy
PRODUCTS = {"matmul", "dot", "matvec"}
ROOTS = {"svd", "eigh", "eigvalsh", "qr", "inv", "solve", "lstsq", "eig", "eigvals", "cholesky"}


class Counter:
    """Sums of what was done. Arrays are grouped by size, since rates depend on it.

    ``products`` maps rounded shapes (batch, rows, inner, columns, bytes of a number) to calls and
    operations, ``passes`` the binary digits of the largest array's bytes to calls and bytes,
    ``bends`` what takes many cycles for an element, as ``smooth4`` (functions like exp, of numbers
    of four bytes), to calls and elements, ``steps`` counts nodes of the program that ran.
    """

    def __init__(self) -> None:
        self.products: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0, 0.0])
        self.passes: dict[int, list[float]] = defaultdict(lambda: [0, 0.0])
        self.bends: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.steps = self.pictures = self.axes = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "products": [[*key[:4], *seen, key[4]] for key, seen in sorted(self.products.items())],
            "passes": [[size, *seen] for size, seen in sorted(self.passes.items())],
            "bends": [[kind, *seen] for kind, seen in sorted(self.bends.items())],
            "steps": self.steps,
            "pictures": self.pictures,
            "axes": self.axes,
        }

    # What the changed program calls.

    def tick(self, steps: int) -> None:
        """So many nodes of the program ran."""
        self.steps += steps

    def element(self, steps: int, value: Any) -> Any:
        """One round of a comprehension."""
        self.steps += steps
        return value

    def binary(self, operation: Any, a: Any, b: Any) -> Any:
        """An operator between two values."""
        result = operation(a, b)
        if isinstance(result, np.ndarray):
            if operation is operator.matmul:
                self.product(a, b)
            elif operation is operator.pow and not (
                isinstance(b, int | float) and b in EASY_POWERS
            ):
                self.bend(result, "power")
            else:
                self.moved((a, b, result))
        elif operation is operator.matmul and isinstance(a, np.ndarray):
            self.product(a, b)
        return result

    def unary(self, operation: Any, a: Any) -> Any:
        """A sign or an inversion."""
        result = operation(a)
        if isinstance(result, np.ndarray):
            self.moved((a, result))
        return result

    def item(self, a: Any, index: Any) -> Any:
        """An index that is no slice."""
        result = a[index]
        if isinstance(result, np.ndarray) and result.base is None:
            self.moved((result, result))
        return result

    def stored(self, value: Any) -> Any:
        """What is written into a part of something."""
        if isinstance(value, np.ndarray):
            self.moved((value, value))
        return value

    def added(self, target: Any, value: Any) -> Any:
        """What is added to something in place."""
        if isinstance(target, np.ndarray):
            self.moved((target, target, value))
        elif isinstance(value, np.ndarray):
            self.moved((value, value, value))
        return value

    def call(self, function: Any, *given: Any, **named: Any) -> Any:
        """A call of something with a dot in its name."""
        result = function(*given, **named)
        owner = getattr(function, "__self__", None)
        module = getattr(function, "__module__", None) or ""
        of_array = isinstance(owner, np.ndarray | np.random.Generator | np.ufunc)
        if not (of_array or isinstance(function, np.ufunc) or module.startswith("numpy")):
            return result
        name = getattr(function, "__name__", "")
        if isinstance(owner, np.ndarray):
            given = (owner, *given)
        if name in PRODUCTS and len(given) > 1:
            self.product(*given[:2])
        elif name == "einsum":
            self.sum_of_products(given)
        elif name in ROOTS:
            side = min(given[0].shape[-2:])
            batch = given[0].size // max(1, math.prod(given[0].shape[-2:]))
            self._product(batch, side, side, side, given[0].itemsize)
        else:
            largest = max(
                (x for x in (result, *given) if isinstance(x, np.ndarray)),
                key=lambda x: x.size,
                default=None,
            )
            if name in KINDS and largest is not None:
                self.bend(largest, KINDS[name])
            elif (
                isinstance(result, np.ndarray)
                and result.base is not None
                and not (isinstance(function, np.ufunc) or "out" in named)
            ):
                self.passes[0][0] += 1  # a view: nothing moves
            else:
                self.moved((*given, result))
        return result

    # What they count.

    def moved(self, arrays: tuple[Any, ...]) -> None:
        """Arrays that are read or written once."""
        sizes = [x.nbytes for x in arrays if isinstance(x, np.ndarray)]
        seen = self.passes[max(sizes, default=0).bit_length()]
        seen[0] += 1
        seen[1] += sum(sizes)

    def bend(self, array: Any, kind: str) -> None:
        """An operation that takes many cycles for each element."""
        seen = self.bends[f"{kind}{_width(array.itemsize)}"]
        seen[0] += 1
        seen[1] += array.size

    def product(self, a: Any, b: Any) -> None:
        """A matrix product."""
        itemsize = max(getattr(a, "itemsize", 8), getattr(b, "itemsize", 8))
        a, b = np.shape(a), np.shape(b)
        rows, inner = (1, *a)[-2:] if a else (1, 1)
        columns = b[-1] if len(b) > 1 else 1
        batch = max(math.prod(a[:-2]), math.prod(b[:-2]))
        self._product(batch, rows, inner, columns, itemsize)

    def sum_of_products(self, given: tuple[Any, ...]) -> None:
        """What einsum does, as one pass over all products."""
        arrays = [x for x in given if isinstance(x, np.ndarray)]
        terms = given[0].split("->")[0].replace(" ", "").split(",") if given[:1] else []
        sizes = {
            c: n
            for t, x in zip(terms, arrays, strict=False)
            for c, n in zip(t, x.shape, strict=False)
        }
        seen = self.passes[max((x.nbytes for x in arrays), default=0).bit_length()]
        seen[0] += 1
        seen[1] += 8 * math.prod(sizes.values())

    def _product(self, *given: int) -> None:
        *shape, itemsize = given
        rounded = (1 << round(math.log2(n)) if n else 0 for n in shape)
        seen = self.products[*rounded, _width(itemsize)]
        seen[0] += 1
        seen[1] += 2.0 * math.prod(shape)


def _width(itemsize: int) -> int:
    """Bytes of a number in registers: four or eight."""
    return 8 if itemsize > 4 else 4


class _Counting(ast.NodeTransformer):
    """Replaces operations by calls of a `Counter`, and lets every block say how long it is."""

    OPERATORS: ClassVar = {
        ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.Pow: "pow",
        ast.FloorDiv: "floordiv", ast.Mod: "mod", ast.MatMult: "matmul", ast.BitAnd: "and_",
        ast.BitOr: "or_", ast.BitXor: "xor", ast.USub: "neg", ast.Invert: "invert",
        ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
    }  # fmt: skip

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        name = self.OPERATORS.get(type(node.op))
        if name is None or (
            isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant)
        ):
            return node
        return _called("binary", _operator(name), node.left, node.right)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        name = self.OPERATORS.get(type(node.op))
        if name is None or isinstance(node.operand, ast.Constant):
            return node
        return _called("unary", _operator(name), node.operand)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        name = self.OPERATORS.get(type(node.ops[0]))
        if len(node.ops) > 1 or name is None:
            return node
        return _called("binary", _operator(name), node.left, node.comparators[0])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute) or _is_ours(node.func):
            return node
        call = _called("call", node.func, *node.args)
        call.keywords = node.keywords
        return call

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        plain = (ast.Slice, ast.Constant, ast.Starred)
        if not isinstance(node.ctx, ast.Load) or any(isinstance(p, plain) for p in parts):
            return node
        return _called("item", node.value, node.slice)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if any(isinstance(target, ast.Subscript) for target in node.targets):
            node.value = _called("stored", node.value)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        target: ast.expr = ast.Constant(None)
        if isinstance(node.target, ast.Name):
            target = ast.Name(node.target.id, ast.Load())
        node.value = _called("added", target, node.value)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """Counting takes time, so what a cell asserts of measured times need not hold."""
        self.generic_visit(node)
        return ast.copy_location(ast.Expr(node.test), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        returns, node.returns = node.returns, None
        self._blocks(node)
        node.returns = returns
        return node

    def _blocks(self, node: Any) -> Any:
        sizes = {
            field: sum(_steps(statement) for statement in getattr(node, field))
            for field in ("body", "orelse")
            if isinstance(getattr(node, field, None), list) and getattr(node, field)
        }
        self.generic_visit(node)
        for field, size in sizes.items():
            body = getattr(node, field)
            after = int(_is_text(body[0]) and not isinstance(node, ast.For | ast.While | ast.If))
            body.insert(after, ast.Expr(_called("tick", ast.Constant(size))))
        return node

    visit_For = visit_While = visit_If = visit_With = visit_Try = _blocks

    def _comprehension(self, node: Any) -> Any:
        size = _steps(node, inside=True)
        self.generic_visit(node)
        if isinstance(node, ast.DictComp):
            node.value = _called("element", ast.Constant(size), node.value)
        else:
            node.elt = _called("element", ast.Constant(size), node.elt)
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension


_BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.FunctionDef, ast.ClassDef)
_LOOPS = (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


def _steps(node: ast.AST, inside: bool = False) -> int:
    """Nodes that run once when this one does; blocks and comprehensions inside count themselves."""
    total = int(isinstance(node, ast.expr | ast.stmt))
    for field, value in ast.iter_fields(node):
        if not inside and (
            isinstance(node, _LOOPS) or (isinstance(node, _BLOCKS) and field in ("body", "orelse"))
        ):
            continue
        if field not in ("annotation", "returns", "args"):
            total += sum(
                _steps(part)
                for part in (value if isinstance(value, list) else [value])
                if isinstance(part, ast.AST)
            )
        elif field == "args" and isinstance(value, list):
            total += sum(_steps(part) for part in value)
    return total


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_ours(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == NAME


def _operator(name: str) -> ast.expr:
    return ast.Attribute(ast.Name(NAME, ast.Load()), name, ast.Load())


def _called(method: str, *arguments: ast.expr) -> ast.Call:
    name = ast.Attribute(ast.Name(NAME, ast.Load()), method, ast.Load())
    return ast.Call(name, list(arguments), [])


for _name in set(_Counting.OPERATORS.values()):
    setattr(Counter, _name, staticmethod(getattr(operator, _name)))


def instrument(source: str, file: str) -> Any:
    """Compile a program so that it counts what it does; ``_counted_`` must be a `Counter`."""
    tree = ast.fix_missing_locations(_Counting().visit(ast.parse(source, file)))
    return compile(tree, file, "exec", dont_inherit=True)


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        return instrument(self.get_data(path).decode("utf-8"), path)


class _Finder(importlib.abc.MetaPathFinder):
    """Changes the modules of the course when they are imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if not name.startswith("chainrule.") or name.startswith(LEFT_ALONE):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def count_source(source: str, names: dict[str, Any] | None = None) -> Counter:
    """Run a program and return what it did; modules that are already imported do not count."""
    counter = Counter()
    before = getattr(builtins, NAME, None)
    setattr(builtins, NAME, counter)
    try:
        exec(instrument(source, "counted"), {} if names is None else names)
    finally:
        setattr(builtins, NAME, before)
    return counter


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def digest(path: Path) -> str:
    """A fingerprint of what a notebook runs."""
    return hashlib.sha256("\n".join(code_cells(path)).encode()).hexdigest()[:16]


def count_notebook(path: Path) -> Counter:
    """Run a notebook's cells in this process, which must not have imported a subject yet."""
    import os

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    counter = Counter()
    setattr(builtins, NAME, counter)
    sys.meta_path.insert(0, _Finder())
    os.chdir(path.parent)
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(code_cells(path), 1):
        steps = sum(_steps(statement) for statement in ast.parse(source).body)
        counter.tick(steps)
        exec(instrument(source, f"{path.name}, code cell {number}"), names)
        for figure in map(plt.figure, plt.get_fignums()):
            counter.pictures += 1
            counter.axes += len(figure.axes)
        plt.close("all")
    return counter


def main(arguments: list[str] | None = None) -> int:
    """Count notebooks, each in a process of its own, and store what came out."""
    from chainrule.course.manifest import CourseError, find_root, load_course

    parser = argparse.ArgumentParser(prog="counting", description="What notebooks compute.")
    parser.add_argument("names", nargs="*", help="notebooks (default: all)")
    parser.add_argument("--write", action="store_true", help="store it in notebooks.json")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        shown = sys.stdout
        sys.stdout = sys.stderr
        counter = count_notebook(options.one.resolve())
        json.dump(counter.as_dict(), shown)
        return 0
    try:
        root = find_root()
        known = [notebook.id for notebook in load_course(root).notebooks]
    except CourseError as error:
        print(f"counting: {error}", file=sys.stderr)
        return 2
    wrong = sorted(set(options.names) - set(known))
    if wrong:
        print(f"counting: no notebook {wrong[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in options.names or known:
        path = root / f"notebooks/{name}.ipynb"
        command = [sys.executable, "-m", "chainrule.predict.counting", "--one", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"counting: {name} failed: {done.stderr.strip().splitlines()[-1]}")
            return 1
        found = {"digest": digest(path), **json.loads(done.stdout)}
        print(name, {k: len(v) if isinstance(v, list) else v for k, v in found.items()}, flush=True)
        if options.write:
            stored = json.loads(STORED.read_text()) if STORED.exists() else {}
            stored[name] = found
            lines = [f' "{n}": {json.dumps(stored[n])}' for n in sorted(stored)]
            STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
