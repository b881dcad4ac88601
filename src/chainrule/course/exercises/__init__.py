"""Exercises: the solution, the checks, and the mistakes that people really make.

One file a document, ``exercises/<folder>/<name>.py``; CONTRIBUTING.md says how to write one. The
learner's stub is made from the solution's signature and docstring. Prove a file, or count the
hints that a blind set gets, from the checkout's root with::

    python -m chainrule.course.exercises exercises/math-foundations/linear_algebra.py
    python -m chainrule.course.exercises --blind tests/exercises/blind/*/*.py
"""

from chainrule.course.exercises.declaring import (
    Exercise,
    ExerciseFileError,
    exercise,
    given,
    load,
    wrong,
)
from chainrule.course.exercises.expectations import (
    Unexpected,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    expect_shape,
)
from chainrule.course.exercises.judging import Attempt, Verdict, judge, run_check
from chainrule.course.exercises.proving import Problem, main, measure, prove

__all__ = [
    "Attempt",
    "Exercise",
    "ExerciseFileError",
    "Problem",
    "Unexpected",
    "Verdict",
    "exercise",
    "expect",
    "expect_close",
    "expect_equal",
    "expect_raises",
    "expect_shape",
    "given",
    "judge",
    "load",
    "main",
    "measure",
    "prove",
    "run_check",
    "wrong",
]
