"""Exercises: the solution, the checks, and the mistakes that people really make.

One file a document, ``exercises/<folder>/<name>.py``; CONTRIBUTING.md says how to write one, with
the names of this package. The learner's stub is made from the solution's signature and docstring.
"""

from chainrule.course.exercises.declaring import exercise, given, load, wrong
from chainrule.course.exercises.expectations import (
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    expect_shape,
)
from chainrule.course.exercises.judging import judge

__all__ = [
    "exercise",
    "expect",
    "expect_close",
    "expect_equal",
    "expect_raises",
    "expect_shape",
    "given",
    "judge",
    "load",
    "wrong",
]
