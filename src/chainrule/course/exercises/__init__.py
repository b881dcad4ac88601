"""Exercises: the solution, the checks, and the mistakes that people really make.

One file a document, ``exercises/<folder>/<name>.py``; CONTRIBUTING.md says how to write one, with
the names of this package. The learner's stub is made from the solution's signature and docstring.
"""

from chainrule.course.exercises.declaring import exercise as exercise
from chainrule.course.exercises.declaring import given as given
from chainrule.course.exercises.declaring import load as load
from chainrule.course.exercises.declaring import wrong as wrong
from chainrule.course.exercises.expectations import expect as expect
from chainrule.course.exercises.expectations import expect_close as expect_close
from chainrule.course.exercises.expectations import expect_equal as expect_equal
from chainrule.course.exercises.expectations import expect_raises as expect_raises
from chainrule.course.exercises.expectations import expect_shape as expect_shape
from chainrule.course.exercises.judging import judge as judge
