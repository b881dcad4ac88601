"""Exercises diagnose: what passes, what fails, which mistake is recognized, what is said."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as quantify
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chainrule.course.exercises import judge, load, stubs
from chainrule.course.exercises.__main__ import main
from chainrule.course.exercises.expectations import (
    Unexpected,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    expect_shape,
    same,
    show,
)
from chainrule.course.exercises.proving import measure, prove
from chainrule.learner.reading import survey

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parents[1] / "common" / "sample_exercises.py"
FILES = sorted((ROOT / "exercises").glob("*/*.py"))
GRID = np.arange(1.0, 7.0).reshape(2, 3)
SQUARE = np.array([[1.0, 2.0], [3.0, 5.0]])


@pytest.fixture(scope="module")
def sample():
    return {item.name: item for item in load(SAMPLE)}


@pytest.mark.parametrize("path", [SAMPLE, *FILES], ids=lambda path: path.stem)
def test_solution_passes_stub_fails_every_mistake_is_recognized(path):
    assert prove(path) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_easiest_comes_first(path):
    found = [
        word.value.value
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.FunctionDef)
        for call in statement.decorator_list
        if isinstance(call, ast.Call)
        for word in call.keywords
        if word.arg == "difficulty"
    ]
    assert found
    assert found == sorted(found)


def test_there_are_exercises_to_prove():
    assert FILES


# Proofs


HEAD = "from chainrule.course.exercises import exercise, expect, expect_close, expect_equal\n"
DOUBLE = '''
@exercise("Double", difficulty=1, minutes=5, section="s")
def double(x):
    """Return twice x."""
    return 2 * x
'''
CHECK = """
@double.check
def three(answer, rng):
    expect_equal(answer(2.7), 5.4)
"""
SQUARED = """
@double.mistake("You squared it, which is not the same.")
def squares(x):
    return x * x
"""
ROUGH = DOUBLE.replace('section="s"', 'section="s", alike=0.1')
COUNTING = """
import itertools
count = itertools.count()
@double.check
def three(answer, rng):
    answer(next(count))
"""


def problems(tmp_path, *parts):
    path = tmp_path / "file.py"
    path.write_text(HEAD + "".join(parts))
    return [message for _, message in prove(path)]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([DOUBLE], "has no checks"),
        ([DOUBLE.replace("2 * x", "3 * x"), CHECK], "its own solution fails the check 'three'"),
        ([DOUBLE, CHECK.replace("answer(2.7), 5.4", "0, 0")], "'three' never calls the answer"),
        (
            [DOUBLE, CHECK.replace("expect_equal(answer(2.7), 5.4)", "answer(2.7)")],
            "empty stub passes",
        ),
        ([DOUBLE, CHECK, SQUARED.replace("x * x", "x + x")], "squares passes every check"),
        (
            [
                DOUBLE,
                CHECK,
                SQUARED,
                SQUARED.replace("squares", "nine").replace("x * x", "2.7 * x"),
            ],
            "nine cannot be told from squares",
        ),
        (
            [DOUBLE, COUNTING, SQUARED],
            "check 'three' differs between two runs",
        ),
        ([DOUBLE, CHECK, SQUARED.replace("x * x", "1 / 0")], "shows in one or two small numbers"),
        ([ROUGH, CHECK, SQUARED.replace("x * x", "2.02 * x")], "too like the solution to be told"),
        ([DOUBLE, CHECK, CHECK], "two checks are named three"),
        ([DOUBLE, CHECK, "1 / 0\n"], "cannot be executed: ZeroDivisionError"),
    ],
)
def test_a_faulty_exercise_file_is_not_proved(tmp_path, parts, message):
    found = problems(tmp_path, *parts)
    assert any(message in problem for problem in found), found


def test_a_good_file_has_no_problems(tmp_path):
    assert problems(tmp_path, DOUBLE, CHECK, SQUARED) == []


# Judging


def test_a_learner_with_a_known_mistake_gets_its_hint(sample):
    def forgot(query, key):
        return np.einsum("id,jd->ij", query, key)

    verdict = judge(sample["scaled_scores"], forgot)
    assert not verdict.passed
    assert verdict.mistake == "forgets_to_scale"
    assert verdict.hint == "Your scores grow with d_k. Which factor is missing?"


def test_an_unknown_slip_gets_the_checks_own_words(sample):
    verdict = judge(
        sample["scaled_scores"], lambda query, key: 3 * sample["scaled_scores"](query, key)
    )
    assert (verdict.mistake, verdict.hint) == ("", "")
    assert verdict.check == "small example"
    assert "every value is 3 times too large" in verdict.message


def test_equal_outputs_on_one_check_are_not_enough(sample):
    """Right on the first check and wrong on the second is not a mistake of the first."""

    def wrong_when_large(query, key):
        scores = query @ key.T
        return scores / np.sqrt(query.shape[-1]) if len(query) < 50 else scores

    verdict = judge(sample["scaled_scores"], wrong_when_large)
    assert (verdict.check, verdict.mistake) == ("variance stays near one", "")


TWO_WAYS = """
@double.check
def small(answer, rng):
    expect_equal(answer(3), 6)
@double.check
def fractions(answer, rng):
    expect_equal([answer(2.7), answer(0.3)], [5.4, 0.6])
@double.mistake("You cubed it and took a third. What is twice 3?")
def third_of_the_cube(x):
    return x**3 / 3
"""


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (lambda x: x * x, "squares"),
        (lambda x: x**3 / 3, "third_of_the_cube"),
        (lambda x: 9, ""),  # what both give for 3, where it fails first
        (lambda x: x * x if x != 0.3 else 0.6, ""),
    ],
)
def test_a_mistake_is_told_only_if_it_agrees_on_every_check(tmp_path, answer, known):
    path = tmp_path / "file.py"
    path.write_text(HEAD + DOUBLE + TWO_WAYS + SQUARED)
    verdict = judge(load(path)[0], answer)
    assert (verdict.check, verdict.mistake, bool(verdict.hint)) == ("small", known, bool(known))


def test_two_mistakes_that_agree_are_silent(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(HEAD + DOUBLE + CHECK + SQUARED + SQUARED.replace("squares", "again"))
    assert judge(load(path)[0], lambda x: x * x).hint == ""


@pytest.mark.parametrize(
    ("check", "told"),
    [
        ("expect_equal(answer(3), 6)", False),
        ("expect_equal([answer(3) > 0, answer(3) > 1, answer(3) > 8], [True, True, False])", False),
        ("expect_equal([answer(3), answer(4), answer(5)], [6, 8, 10])", True),
        ("expect_equal(answer(2.7), 5.4)", True),
        ("expect_close(answer(np.arange(20) % 2 + 2), np.arange(20) % 2 * 2 + 4)", True),
        ("expect_close(answer(np.ones(20) * 3), np.ones(20) * 6)", False),
    ],
)
def test_a_few_small_numbers_are_no_evidence(tmp_path, check, told):
    path = tmp_path / "file.py"
    check = CHECK.replace("expect_equal(answer(2.7), 5.4)", f"{check}")
    path.write_text("import numpy as np\n" + HEAD + DOUBLE + check + SQUARED)
    assert bool(judge(load(path)[0], lambda x: x * x).hint) == told


def test_a_mistake_may_have_variants(tmp_path):
    path = tmp_path / "file.py"
    power = (
        '@double.mistake("A power is no multiple.", n=(2, 3))\ndef powers(x, n):\n    return x**n\n'
    )
    path.write_text(HEAD + DOUBLE + CHECK + power)
    assert prove(path) == []
    for n in (2, 3, 4):
        assert judge(load(path)[0], lambda x, n=n: x**n).mistake == ("powers" if n < 4 else "")


def test_whole_numbers_are_the_same_thing_with_and_without_a_point():
    assert same(3, 3.0)
    assert same(np.float64(3), 3)
    assert not same(3, 3.5)
    assert not same(True, 1)


def test_another_dtype_or_shape_is_another_mistake(sample):
    as_complex = judge(sample["scaled_scores"], lambda q, k: (q @ k.T).astype(complex))
    transposed = judge(sample["scaled_scores"], lambda q, k: (q @ k.T).T)
    assert as_complex.mistake == transposed.mistake == ""
    assert "transposed" in transposed.message


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("scaled_scores", lambda query, key: None, "Did you forget to return it?"),
        ("scaled_scores", lambda query, key: [[1.0]], "expected a NumPy array, received a list"),
        ("scaled_scores", lambda query, key: query @ key.T * np.nan, "6 of 6 values are NaN"),
        ("scaled_scores", lambda query: query, "(query) does not accept the 2 arguments"),
        ("running_means", lambda numbers: None, "returned None: did you forget to return"),
        ("running_means", lambda numbers: 3, "returned an int, which the check could not use"),
        ("square_with_derivative", lambda f, x: f(x) ** 2, "which the check could not use"),
        ("scaled_scores", lambda query, key: 1 / 0, "ZeroDivisionError: division by zero"),
        ("scaled_scores", lambda query, key: exit("bye"), "SystemExit: bye"),
    ],
)
def test_slips_are_named(sample, name, answer, message):
    verdict = judge(sample[name], answer)
    assert not verdict.passed
    assert message in verdict.message


def test_a_changed_argument_is_named(sample):
    def scales_the_key(query, key):
        key *= 0.5
        return query @ key.T

    verdict = judge(sample["scaled_scores"], scales_the_key)
    assert "scaled_scores changes its argument 'key'" in verdict.message


def test_a_changed_list_inside_an_argument_is_noticed(tmp_path):
    path = tmp_path / "file.py"
    check = CHECK.replace("answer(2.7), 5.4", "answer([[3], [4]]), [[3], [4], [3], [4]]")
    path.write_text(HEAD + DOUBLE + check)

    def sneaky(x):
        result = [list(item) for item in x] * 2
        x[0].append(1)
        return result

    assert "changes its argument 'x'" in judge(load(path)[0], sneaky).message


def test_printing_mistakes_stay_silent(tmp_path, capfd):
    path = tmp_path / "file.py"
    noisy = SQUARED.replace("return", "print('noise')\n    return")
    path.write_text(HEAD + DOUBLE + CHECK + noisy)
    assert judge(load(path)[0], lambda x: x**2).mistake == "squares"
    assert capfd.readouterr() == ("", "")


def test_the_call_that_failed_is_shown(sample):
    verdict = judge(sample["running_means"], lambda numbers: iter(()))
    assert verdict.call.startswith("running_means(<list_iterator")


def test_global_random_state_gives_one_verdict(sample):
    def noisy(query, key):
        return query @ key.T + np.random.normal()  # noqa: NPY002

    first, second = (judge(sample["scaled_scores"], noisy) for _ in range(2))
    assert first == second


def test_a_mistake_may_inherit_from_the_solution(tmp_path):
    path = tmp_path / "file.py"
    path.write_text(
        HEAD
        + '''
@exercise("Pair", difficulty=1, minutes=5, section="s")
class Pair:
    """A pair with a sum."""
    def __init__(self, a, b):
        self.a, self.b = a, b
    def __add__(self, other):
        assert isinstance(other, Pair)
        return type(self)(self.a + other.a, self.b + other.b)

@Pair.check
def adds(answer, rng):
    both = answer(1, 2) + answer(3, 4)
    expect_equal([both.a, both.b], [4, 6])

@Pair.mistake("What happens to the second part?")
class LosesB(Pair):
    def __add__(self, other):
        return type(self)(self.a + other.a, self.b)
'''
    )
    assert prove(path) == []

    class Mine:
        def __init__(self, a, b):
            self.a, self.b = a, b

        def __add__(self, other):
            return Mine(self.a + other.a, self.b)

    assert judge(load(path)[0], Mine).mistake == "LosesB"


# What the expectations say


@pytest.mark.parametrize(
    ("received", "expected", "message"),
    [
        (None, GRID, "None. Did you forget to return it?"),
        (GRID.tolist(), GRID, "expected a NumPy array, received a list. Wrap it in np.array(…)"),
        (GRID.T, GRID, "expected shape (2, 3), received shape (3, 2). It looks transposed."),
        (GRID[None], GRID, "Only axes of length 1 differ"),
        (GRID[:1], GRID, "expected shape (2, 3), received shape (1, 3)."),
        (SQUARE.T, SQUARE, "the transpose of what is expected."),
        (2 * GRID, GRID, "every value is 2 times too large."),
        (GRID / 3, GRID, "every value is 3 times too small."),
        (-2 * GRID, GRID, "every value is 2 times too large and has the wrong sign."),
        (-GRID, GRID, "the sign is flipped."),
        (GRID + 0.5, GRID, "every value is off by +0.5."),
        (GRID[::-1], GRID, "in reverse order."),
        (GRID[:, [1, 0, 2]], GRID, "in another order."),
        (GRID * 0, GRID, "all zeros."),
        (GRID * 0 + 4, GRID, "all values are the same."),
        (GRID.astype(int) // 2, GRID / 2, "the fractions are gone."),
        (np.where(GRID > 5, np.nan, GRID), GRID, "1 of 6 values are NaN."),
        (np.where(GRID > 4, np.inf, GRID), GRID, "2 of 6 values are infinite."),
        (GRID + 1j, GRID, "expected real numbers"),
        (GRID.astype(str), GRID, "expected numbers, received dtype <U32"),
        (len, GRID, "received a function (was it never called?)"),
        (GRID > 3, GRID > 4, "the values differ."),
        (np.arange(50.0) ** 2, np.arange(50.0), "48 of 50 values differ, the first at [2]"),
        (4.0, 2.0, "2 times too large."),
        (1, 2, "1 too small."),
        (4.0, 2, "2 too large."),
        (np.array([2, 6]), np.array([1, 3]), "the values differ."),
        (GRID[:1].view(np.matrix), GRID[0], "a np.matrix, which always has two axes"),
        ("0" * 90 + "1", "0" * 91, "from position 90 on, expected '0', received '1'"),
        ((3,), (4,), "1 too small"),
        (-2.0, 2.0, "the sign is flipped."),
        (2.7, 2.0, "not as expected.\nexpected 2\nreceived 2.7"),
        (np.array([2.0]), 2.0, "expected a number, received an array of shape (1,)"),
        ("2", 2.0, "expected a number, received a str"),
        ((1.0,), (1.0, 2.0), "expected 2 values, received 1"),
        (1.0, (1.0, 2.0), "expected 2 values, received a float"),
        ((1.0, 5.0), (1.0, 2.0), "value 2 of the result"),
        ({"a": 1}, {"b": 1}, "misses ['b'] and has ['a'] besides"),
        ([1], {"b": 1}, "expected a dictionary, received a list"),
        ({"a": 3}, {"a": 4}, "the result['a']"),
        (1, True, "expected True or False, received 1"),
        (False, True, "expected True, received False"),
        ("left", "right", "expected 'right', received 'left'"),
    ],
)
def test_expect_close_names_the_slip(received, expected, message):
    with pytest.raises(Unexpected) as caught:
        expect_close(received, expected)
    assert message in str(caught.value)
    assert str(caught.value).count("the result") == 1


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (0.1 + 0.2, 0.3),
        (1e20 + 1e5, 1e20),
        (np.array([1.0, 2.0 + 1e-9]), np.array([1.0, 2.0])),
        (np.arange(30) + 1e-12, np.arange(30.0)),
        (np.float32(1.0000001), np.float32(1)),
    ],
)
def test_different_numbers_never_look_equal(received, expected):
    with pytest.raises(Unexpected) as caught:
        expect_close(received, expected, rtol=0, atol=0)
    first, second = str(caught.value).splitlines()[-2:]
    assert first.removeprefix("expected ") != second.removeprefix("received ")
    assert "times too" not in str(caught.value)


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (GRID + 1e-9, GRID),
        (GRID.astype(np.float32) / 3, GRID / 3),
        (np.float64(2), 2),
        (2, 2.0),
        (np.array(2.0), 2.0),
        ((1, [2.0]), (1.0, [2])),
        ({"a": GRID}, {"a": GRID}),
        (np.True_, True),
        (np.array([np.nan]), np.array([np.nan])),
        (None, None),
        ("a", "a"),
    ],
)
def test_expect_close_accepts_what_is_close(received, expected):
    expect_close(received, expected)


finite = st.floats(-1e6, 1e6)


@quantify(arrays(float, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=finite))
def test_every_array_is_as_expected_and_none_but_itself(array):
    expect_close(array.copy(), array)
    assert same(array.copy(), array, rtol=0.0)
    changed = array.copy()
    changed[0, 0] += max(1.0, abs(changed[0, 0]))
    with pytest.raises(Unexpected):
        expect_close(changed, array)
    assert not same(changed, array)


@quantify(
    arrays(float, 4, elements=st.floats(1, 100)), st.sampled_from([2.0, 0.5, -3.0, 7.0, -0.25])
)
def test_a_constant_factor_is_found_whatever_the_values(array, factor):
    array[0] += 200.0
    with pytest.raises(Unexpected) as caught:
        expect_close(factor * array, array)
    size = max(abs(factor), 1 / abs(factor))
    assert f"{size:g} times too" in str(caught.value)
    assert ("wrong sign" in str(caught.value)) == (factor < 0)


def test_expect_helpers():
    expect(True, "fine")
    expect_shape(GRID, (2, 3))
    expect_equal([1, "a"], [1, "a"])
    expect_raises(ValueError, int, "x")
    for call in (
        lambda: expect(0, "no"),
        lambda: expect_shape(GRID, (3, 2)),
        lambda: expect_shape([1], (1,)),
        lambda: expect_equal(1.0000001, 1),
        lambda: expect_raises(ValueError, int, "3"),
    ):
        with pytest.raises(Unexpected):
            call()
    with pytest.raises(Unexpected, match="expected ValueError to be raised, received TypeError: "):
        expect_raises(ValueError, len, 3)


def test_same_compares_objects_by_what_they_hold():
    class Box:
        def __init__(self, value):
            self.value = value

    assert same(Box([np.arange(3)]), Box([np.arange(3)]))
    assert not same(Box([np.arange(3)]), Box([np.arange(4)]))
    assert not same([1], (1,))
    assert not same(np.arange(2), np.arange(2.0))
    assert not same(np.ones(2), np.ones(2, np.float32))


def test_show_is_short():
    assert show(np.zeros((100, 100))) == "<array of shape (100, 100), float64>"
    assert len(show("x" * 10_000)) <= 200
    assert show(np.float64(0.1) + 0.2) == "0.3"


@pytest.mark.parametrize(
    "value", [(3,), (), [1, (2,)], np.array([1.0, 3.0]), (np.ones(2, np.float32),), np.arange(3)]
)
def test_what_is_shown_is_python(value):
    names = {"array": np.array, "float32": np.float32}
    assert same(eval(show(value), names), value)


def test_an_object_without_a_text_of_its_own_shows_its_attributes():
    class Pair:
        def __init__(self, value, slope):
            self.value, self.slope = value, slope

    assert show(Pair(0.5, np.array([1.0, 2.0]))) == "Pair(value=0.5, slope=array([1., 2.]))"
    ring = Pair(1, None)
    ring.slope = ring
    assert show(ring) == "Pair(value=1, slope=Pair(…))"


# Blind sets


@pytest.mark.parametrize("path", sorted((ROOT / "tests/exercises/blind").glob("*/*.py")))
def test_no_hint_of_a_blind_set_is_wrong(path):
    with warnings.catch_warnings(action="ignore"):
        found = [(kind, entry.exercise, entry.fault) for kind, entry, _ in measure(path)]
    assert not [each for each in found if each[0] in ("wrong", "passes")]
    right = sum(kind == "right" for kind, *_ in found)
    assert right >= 0.7 * len(found)


def test_blind_sets_are_counted(tmp_path, capsys):
    names = {"exercises": tmp_path / "exercises/f", "blind": tmp_path / "tests/exercises/blind/f"}
    for folder in names.values():
        folder.mkdir(parents=True)
    (names["exercises"] / "file.py").write_text(HEAD + DOUBLE + CHECK + SQUARED)
    head = "from chainrule.course.exercises import wrong\n"
    entry = '@wrong("double", "{}", known="{}")\ndef _(x):\n    return {}\n'
    blind = names["blind"] / "file.py"
    rows = [("a square", "squares", "x * x"), ("a sum", "", "x + 1")]
    blind.write_text(head + "".join(entry.format(*row) for row in rows))
    assert main([blind]) == 0
    assert "all: {'right': 1, 'missing': 1}" in capsys.readouterr().out
    for fault, known, body in (("a product", "", "x * x"), ("nothing", "", "2 * x")):
        blind.write_text(head + entry.format(fault, known, body))
        assert main([blind]) == 1
    assert "all: {'passes': 1}" in capsys.readouterr().out


# Stubs


def test_the_stub_holds_signature_and_statement_and_nothing_of_the_solution(sample):
    source = SAMPLE.read_text()
    text = "\n\n".join(stubs.stub_of(entry.node, source) for entry in survey(SAMPLE))
    tree = ast.parse(text)
    assert [node.name for node in tree.body] == list(sample)
    for entry, node in zip(survey(SAMPLE), tree.body, strict=True):
        assert ast.get_docstring(node) == entry.statement
        if isinstance(node, ast.FunctionDef):
            assert ast.unparse(node.args) == ast.unparse(entry.node.args)
    for secret in (
        "_secret",
        "query @",
        "_items",
        "_peek",
        "check",
        "mistake",
        "exercise",
        "slope",
    ):
        assert secret not in text
    assert "def push(self, item):" in text
    assert "Take the item off the top and return it." in text


def test_the_stub_gets_only_the_imports_that_solutions_need():
    tree = ast.parse(SAMPLE.read_text())
    nodes = stubs.marked(tree, "exercise")
    assert stubs.imports_for(tree, nodes).splitlines()[2:] == [
        "import itertools",
        "import numpy as np",
    ]
    assert "itertools" not in stubs.imports_for(tree, nodes[:1])
    assert "def clamp" in stubs.given_of(tree, SAMPLE.read_text())[0]


def test_survey_and_load_agree(sample):
    for entry in survey(SAMPLE):
        item = sample[entry.name]
        for key in ("title", "difficulty", "minutes", "section", "statement"):
            assert getattr(entry, key) == getattr(item, key)
        assert list(entry.checks) == list(item.checks)
        assert [name for name, *_ in entry.mistakes] == [mistake.name for mistake in item.mistakes]


def test_the_example_for_authors_is_true(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text().split("## Write an exercise")[1]
    path = tmp_path / "example.py"
    names = "import numpy as np\nfrom chainrule.course.exercises import exercise, expect_close\n"
    path.write_text(names + text.split("```python\n")[1].split("```")[0])
    assert prove(path) == []
    assert [item.name for item in load(path)] == ["scaled_scores"]
