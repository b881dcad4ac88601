"""Documents are executed and compared: each kind of fault is planted and found on its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from one_document import MANIFEST as ONE_DOCUMENT

from chainrule.course.audit import Audit
from chainrule.course.audit.checks import documents
from chainrule.course.documents import blocks
from chainrule.course.finding import Finding
from chainrule.course.manifest import load_course

MANIFEST = ONE_DOCUMENT.replace("minutes = 10", "minutes = 10\nseconds = 5")
PATH = "math-foundations/linear-algebra.md"
CLEAN = """# Linear algebra

```python
import numpy as np

a = np.arange(6).reshape(2, 3)
print(a)
#> [[0 1 2]
#>  [3 4 5]]
```

The sum is 15<!--= a.sum() -->, the mean **2.5**<!--= a.mean() -->,
in all $-1.50$<!--= f"{-1.5:.2f}" -->.

| what | how many |
|---|---|
| rows | 2<!--= len(a) --> |

- In a list, after words:

  ```python
  for row in a:
      print(row.sum(), end=" ")
      print()
  print("é ∑")
  #> é ∑
  ```

<details>
<summary>More</summary>

```python
print("first", end="\\n\\n")
#> first
#>
x = 1; print(x)
#> 1
```

</details>

> ```python
> int("three")
> #> ValueError: invalid literal for int() with base 10: 'three'
> a @ a
> #> ValueError: matmul: …
> ```

```text
print("not run")
```
""".replace(
    """      print(row.sum(), end=" ")
      print()
""",
    """      print(row.sum())
  #> 3
  #> 12
""",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "course.toml").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "math-foundations").mkdir()
    put(tmp_path, CLEAN)
    return tmp_path


def put(root: Path, text: str, path: str = PATH) -> None:
    (root / path).write_text(text, encoding="utf-8")


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def check(root: Path) -> list[Finding]:
    return list(documents.check(Audit(load_course(root))))


def python(*lines: str) -> str:
    return "# A\n\n```python\n" + "\n".join(lines) + "\n```\n"


def ran(root: Path, text: str, seconds: float = 5) -> list[tuple[int, str]]:
    put(root, text)
    return [(f.line, f.message) for f in blocks.run(root, PATH, seconds).findings]


def test_a_clean_document_gives_nothing(root):
    result = blocks.run(root, PATH, 5)
    assert result.findings == []
    assert result.updated == CLEAN
    assert 0 < result.seconds < 5
    assert check(root) == []


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("#>  [3 4 5]]", "#>  [3 4 6]]", "#>  [3 4 6]]", "' [3 4 6]]', received ' [3 4 5]]'"),
        ("#> [[0 1 2]\n", "", "#>  [3 4 5]]", "expected ' [3 4 5]]', received '[[0 1 2]'"),
        ("#>  [3 4 5]]\n", "", "#> [[0 1 2]", "expected no more, received ' [3 4 5]]'"),
        ("5]]\n", "5]]\n#> more\n", "#> more", "expected 'more', received no more"),
        ("#> [[0 1 2]\n#>  [3 4 5]]\n", "", "print(a)", "prints '[[0 1 2]' but shows no #> line"),
        ("(2, 3)\n", "(2, 3)\n#> 7\n", "#> 7", "'7', but the statement before prints nothing"),
        ("  #> 12", "  #> 13", "  #> 13", "expected '13', received '12'"),
        ("#>\nx", "x", "#> first", "expected no more, received ''"),
        ("#> 1\n", "#> 2\n", "#> 2", "expected '2', received '1'"),
        ("base 10: 'three'", "base 9: …", "> #> ValueError: inv", "int() with base 9: …'"),
        ("int(\"three\")", "int(3)", "> #> ValueError: inv", "the statement before prints nothing"),
        ("15<!--", "14<!--", "The sum", "expected '14', received '15' from a.sum()"),
        ("15<!--", "115<!--", "The sum", "expected '115', received '15'"),
        ("15<!--", "−15<!--", "The sum", "expected '−15', received '15'"),
        ('15<!--= a.sum()', '195 %<!--= "95 %"', "The sum", "expected '195 %', received '95 %'"),
        ("a @ a", "a @ b", "> a @ b", "NameError: name 'b' is not defined (the document ends"),
        ("15<!--", "1,5<!--", "The sum", "expected '1,5', received '15'"),
        ("$-1.50$", "$1.50$", "in all", "expected '1.50', received '-1.50'"),
        ("2<!--= len(a)", "3<!--= len(a)", "| rows", "expected '3', received '2'"),
        ("a.mean()", "missing.mean()", "The sum", "NameError: name 'missing' is not defined"),
        ("print(a)\n", "print(a + b)\n", "print(a + b)", "NameError: name 'b' is not defined"),
        ("print(a)\n", "print(a))\n", "print(a))", "SyntaxError: unmatched ')'"),
    ],
)  # fmt: skip
def test_a_fault_is_found_on_its_line(root, old, new, at, message):
    text = CLEAN.replace(old, new, 1)
    assert text != CLEAN
    found = ran(root, text)
    assert found
    assert found[0][0] == line_of(text, at)
    assert message in found[0][1]
    assert len(found) == 1


def test_an_error_is_reported_where_the_document_raised_it(root):
    text = python("def f(x):", "    return 1 / x", "", "print(1)", "#> 1", "f(0)", "print(2)")
    assert ran(root, text) == [(5, "ZeroDivisionError: division by zero (the document ends here)")]


def test_output_before_a_stated_error_is_compared_too(root):
    text = python(
        "def f():", "    print(1)", "    raise KeyError('k')", "f()", "#> 1", "#> KeyError: 'k'"
    )
    assert ran(root, text) == []
    assert ran(root, text.replace("#> 1", "#> 2")) == [(8, "expected '2', received '1'")]


def test_only_a_stated_error_may_be_shortened(root):
    text = python("print('one two')", "#> one …")
    assert ran(root, text) == [(5, "expected 'one …', received 'one two'")]


def test_a_warning_is_a_fault(root):
    text = python("import numpy as np", "", "np.log(np.zeros(1))")
    assert ran(root, text) == [(6, "a warning: RuntimeWarning: divide by zero encountered in log")]
    assert ran(root, text.replace("np.log", "with np.errstate(all='ignore'): np.log")) == []


def test_what_is_written_past_python_does_not_disturb(root):
    event = '{"line": 5, "error": "planted"}\\n'
    text = python("import os", f"n = os.write(1, b'{event}')", "print(n)", "#> 32")
    assert ran(root, text) == []


def test_a_document_sees_nothing_of_the_tool(root):
    for name in ("execute", "manifest"):
        ((line, message),) = ran(root, python("import sys", f"import {name}"))
        assert (line, message.split(":")[0]) == (5, "ModuleNotFoundError")
    text = python("import sys", "print('markdown_it' in sys.modules)", "#> False")
    assert ran(root, text) == []


def test_blocks_share_a_namespace_and_documents_share_nothing(root):
    first = python("import random", "random.seed(0)", "import math", "math.pi = 3")
    second = python("import math", "print(math.pi > 3, 'random' in globals(), __name__)") + (
        "\n```python\nprint(math.e > 2)\n#> True\n```\n"
    )
    put(root, first, "a.md")
    put(root, second.replace("\n```\n\n", "\n#> True False __main__\n```\n\n", 1), "b.md")
    results = blocks.run_all(root, [("a.md", 5), ("b.md", 5), ("a.md", 5)])
    assert [result.findings for result in results] == [[], [], []]


def test_dataclasses_and_pickles_work_as_in_a_file(root):
    text = python(
        "import pickle",
        "from dataclasses import dataclass",
        "@dataclass",
        "class P:",
        "    x: int = 1",
        "print(pickle.loads(pickle.dumps(P(2))))",
        "#> P(x=2)",
    )
    assert ran(root, text) == []


def test_the_working_directory_is_the_root_and_its_package_comes_first(root):
    (root / "src").mkdir()
    (root / "src/only_here.py").write_text("X = 5\n")
    text = python("import os, only_here", "print(os.path.exists('course.toml'), only_here.X)")
    assert ran(root, text.replace("\n```\n", "\n#> True 5\n```\n")) == []


def test_time_beyond_the_budget_is_a_fault(root):
    text = python("import time", "while time.process_time() < 0.5:", "    pass")
    ((line, message),) = ran(root, text, seconds=0.2)
    assert line == 1
    assert "s of CPU time, the budget is 0.2 s" in message


def test_a_budget_is_that_of_one_thread(root, monkeypatch):
    text = python("import time", "while time.process_time() < 0.5:", "    pass")
    monkeypatch.setenv("CHAINRULE_THREADS", "9")
    assert ran(root, text, seconds=0.2) == []


def test_an_endless_loop_is_killed_and_its_line_named(root, monkeypatch):
    monkeypatch.setattr(blocks, "PATIENCE", 3.0)
    start = time.monotonic()
    text = python("print(1)", "#> 2", "while True:", "    pass")
    found = ran(root, text, seconds=0.1)
    assert time.monotonic() - start < 15
    assert found[0] == (5, "expected '2', received '1'")
    assert found[1][0] == 6
    assert found[1][1].startswith("still running after 3.5 s: killed")


@pytest.mark.parametrize("end", ["import os; os._exit(3)", "import os; os.abort()"])
def test_an_interpreter_that_dies_is_reported(root, end):
    ((line, message),) = ran(root, python("x = 1", end))
    assert line == 5
    assert "the interpreter died with status" in message


def test_exit_ends_the_document_with_a_fault(root):
    ((line, message),) = ran(root, python("x = 1", "exit(0)"))
    assert line == 5
    assert message.startswith("SystemExit: 0")


def test_the_update_is_of_outputs_and_numbers_and_nothing_else(root):
    wrong = (
        CLEAN.replace("#>  [3 4 5]]", "#>  [9 9 9]]\n#> more")
        .replace("15<!--", "1,234.5<!--")
        .replace("**2.5**", "**-7**")
        .replace("$-1.50$", "$3$")
        .replace("  #> 3\n  #> 12\n", "")
        .replace("base 10: 'three'", "base 16")
        .replace("#> first\n#>\n", "#> first\n")
        .replace("(2, 3)\n", "(2, 3)\n#> stray\n")
    )
    put(root, wrong)
    result = blocks.run(root, PATH, 5)
    assert result.findings
    assert result.updated == CLEAN
    put(root, CLEAN)
    assert blocks.run(root, PATH, 5).findings == []


def test_a_value_of_several_words_replaces_as_many(root):
    put(root, 'It takes (about 3 MB)<!--= "3.5 MB" --> and 3 MB<!--= "3.5 MB" --> here.\n')
    result = blocks.run(root, PATH, 5)
    assert "and 3.5 MB<!--" in result.updated
    assert len(result.findings) == 2


@pytest.mark.parametrize(
    "text",
    [
        'down to −1.5<!--= "-1.5" --> here',
        'from 2-15<!--= "15" -->',
        'GPT-2<!--= "2" -->',
        'it is `0.5`<!--= "0.5" -->',
        '$x = 1.5$<!--= "1.5" -->',
        '**12 kB**<!--= "12 kB" -->',
        '$2.8\\times10^{-5}$<!--= r"2.8\\times10^{-5}" -->',
        "[1, 2]<!--= [1, 2] -->",
        'in all 3.5\nMB and more<!--= "3.5 MB and more" -->',
    ],
)
def test_a_number_stands_in_many_ways(root, text):
    assert ran(root, text.replace("\\\\", "\\") + "\n") == []


def test_the_audit_writes_only_when_it_may_execute(root):
    put(root, CLEAN.replace("15<!--", "14<!--"))
    assert list(documents.write(Audit(load_course(root), run=False))) == []
    assert list(documents.write(Audit(load_course(root), run=True))) == [(PATH, CLEAN)]


def test_readme_is_executed_too(root):
    put(root, python("print(1)", "#> 2"), "README.md")
    found = list(documents.run(Audit(load_course(root), run=True)))
    assert [(f.file, f.line) for f in found] == [("README.md", 5)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (python("x = 1", "", "#> 1"), 6, "a #> line that no statement ends before"),
        (python("#> 1", "x = 1"), 4, "a #> line that no statement ends before"),
        (python("print(1)  #> 1"), 4, "a #> line that no statement ends before"),
        (python("for i in 'ab':", "    print(i)", "    #> a"), 6, "a #> line that no statement"),
        (python(*["x = 1"] * 26), 3, "a block of 26 lines, at most 25 are allowed"),
        (python("x = 1", f"x = '{'é' * 74}'"), 5, "a line of 80 characters, at most 79 fit"),
        (python("print('a' * 77)", "#> " + "a" * 77), 5, "a line of 80 characters, at most 79"),
        ("# A\n\n```py\nx\n```\n", 3, "'py' blocks are never executed"),
        ("# A\n\n```Python\nx\n```\n", 3, "'Python' blocks are never executed"),
        ("# A\n\n```python norun\nx\n```\n", 3, "'python norun' blocks are never executed"),
        ("# A\n\n<p>text\n```python\nprint(1)\n```\n</p>\n", 4, "does not open a code block"),
        ("# A\n\nIt is 5<!--= 2 + -->.\n", 3, "'2 +' is not a Python expression"),
        ("# A\n\nIt is $5<!--= 5 -->$.\n", 3, "inside a formula is never evaluated"),
    ],
)
def test_a_fault_of_form_is_found_without_running(root, text, line, message):
    put(root, text)
    found = [(f.line, f.message) for f in check(root)]
    assert [n for n, m in found if message in m] == [line], found


def test_a_line_may_fill_the_page(root):
    put(root, python(f"x = '{'é' * 73}'", "print('é' * 76)", "#> " + "é" * 76))
    assert check(root) == []


def test_a_computed_number_without_a_number_is_found_by_running(root):
    ((line, message),) = ran(root, "# A\n\n| a |\n|---|\n| <!--= 5 --> |\n")
    assert line == 5
    assert message.endswith("received '5' from 5")


def test_a_string_may_hold_the_mark(root):
    assert ran(root, python('s = """', "#> not output", '"""', "print(len(s))", "#> 15")) == []
    assert check(root) == []


def test_a_number_may_come_from_a_stored_measurement(root):
    folder = root / "figures/math-foundations/linear-algebra"
    folder.mkdir(parents=True)
    (folder / "race.json").write_text('{"loss": [0.25, 0.5]}')
    own = "<!--= f\"{sum(x for x in measured('race')['loss']):.2f}\" -->"
    text = python("a = 1") + f"It is 0.75{own}.\n"
    assert ran(root, text) == []
    assert ran(root, text.replace("0.75", "0.76"))[0][1].startswith("expected '0.76'")
    named = text.replace("'race'", "'math-foundations/linear-algebra/race'")
    assert ran(root, named) == []
    assert "FileNotFoundError" in ran(root, text.replace("'race'", "'rice'"))[0][1]
    # A document's own name of that kind stays its own, and its blocks are offered nothing.
    assert ran(root, text.replace("a = 1", "measured = lambda name: {'loss': [0.75]}")) == []
    assert "NameError" in ran(root, text + "\n```python\nmeasured('race')\n```\n")[0][1]


# ---- blocks that need a published model --------------------------------------------------------

NEEDING = """# Linear algebra

```python
a = 1
```

```python needs=smollm2
import time
start = time.process_time()
while time.process_time() < start + 0.5:
    pass
a, b = a + 1, 7
print(a, b)
#> 2 7
```

```python
print(a, "b" in globals())
#> 1 False
```

```python needs=smollm2
print(a, b)
#> 2 7
```
"""


@pytest.mark.parametrize("here", [True, False])
def test_a_block_that_needs_a_model(here, root, monkeypatch):
    monkeypatch.setattr(blocks, "is_present", lambda name: here)
    (root / PATH).write_text(NEEDING)
    result = blocks.run(root, PATH, seconds=0.4)
    assert result.findings == []
    assert result.left_out == ({} if here else {"smollm2": 2})
    (root / PATH).write_text(NEEDING.replace("#> 2 7", "#> 2 8"))
    assert len(blocks.run(root, PATH, seconds=0.4).findings) == 2 * here


def test_what_is_left_out_is_said(root, monkeypatch, capsys):
    monkeypatch.setattr(blocks, "is_present", lambda name: False)
    (root / PATH).write_text(NEEDING)
    audit = Audit(load_course(root), run=True)
    assert list(documents.check(audit)) == list(documents.run(audit)) == []
    said = capsys.readouterr().err
    assert said == (
        "smollm2 is not here, 2 of the blocks need it and did not run;"
        " type: chainrule models get smollm2\n"
    )
    (root / PATH).write_text(NEEDING.replace("needs=smollm2", "needs=smollm9", 1))
    (fault,) = documents.check(Audit(load_course(root)))
    assert "never executed" in fault.message
