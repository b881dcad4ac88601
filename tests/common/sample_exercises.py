"""A small exercise file that tries every kind of answer: function, class, closure."""

from __future__ import annotations

import itertools

import numpy as np

from chainrule.course.exercises import (
    exercise,
    expect,
    expect_close,
    expect_equal,
    expect_raises,
    expect_shape,
    given,
)


@given
def clamp(value, low, high):
    """Keep a value within bounds."""
    return max(low, min(high, value))


def _secret(size):
    return np.sqrt(size)


@exercise("Scaled scores", difficulty=2, minutes=10, section="dot-products")
def scaled_scores(query, key):
    """Return every query-key score, scaled so that its variance does not grow with d_k."""
    return query @ key.T / _secret(query.shape[-1])


@scaled_scores.check
def small_example(answer, rng):
    query, key = rng.normal(size=(3, 5)), rng.normal(size=(2, 5))
    scores = answer(query, key)
    expect_shape(scores, (3, 2), what="the scores")
    expect_close(scores, query @ key.T / np.sqrt(5), what="the scores")


@scaled_scores.check
def variance_stays_near_one(answer, rng):
    scores = answer(rng.normal(size=(100, 64)), rng.normal(size=(100, 64)))
    expect(0.8 < scores.var() < 1.2, f"the variance is {scores.var():.2f}, not near 1")


@scaled_scores.mistake("Your scores grow with d_k. Which factor is missing?")
def forgets_to_scale(query, key):
    return query @ key.T


@scaled_scores.mistake("You divide by the dimension itself. What does its root do to a variance?")
def divides_by_dimension(query, key):
    return query @ key.T / query.shape[-1]


@scaled_scores.mistake("You scale the query where it lies. Who else may still be using it?")
def scales_in_place(query, key):
    query /= np.sqrt(query.shape[-1])
    return query @ key.T


@exercise("A stack", difficulty=1, minutes=5, section="dot-products")
class Stack:
    """Build a stack with `push`, `pop` and `len`; popping from an empty stack raises IndexError."""

    def __init__(self, items=()):
        """Start with these items, the last on top."""
        self._items = list(items)

    def push(self, item):
        """Put an item on top."""
        self._items.append(item)

    def pop(self):
        """Take the item off the top and return it."""
        return self._items.pop()

    def __len__(self):
        return len(self._items)

    def _peek(self):
        return self._items[-1]


@Stack.check
def last_in_first_out(answer, rng):
    stack = answer([1, 2])
    stack.push(3)
    expect_equal(len(stack), 3, what="the length after one push")
    expect_equal([stack.pop(), stack.pop()], [3, 2], what="what is popped")


@Stack.check
def empty(answer, rng):
    expect_raises(IndexError, answer().pop)


@Stack.mistake("The first one in comes out first here. From which end does a stack take?")
class Queue:
    def __init__(self, items=()):
        self.items = list(items)

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop(0)

    def __len__(self):
        return len(self.items)


@Stack.mistake("What should happen when there is nothing to take?")
class ReturnsNothing(Queue):
    def pop(self):
        return self.items.pop() if self.items else None


@exercise("Value and derivative", difficulty=3, minutes=10, section="dot-products")
def square_with_derivative(function, x):
    """Return function(x) squared and a function of h that is its first-order change."""
    slope = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    return function(x) ** 2, lambda h: 2 * function(x) * slope * h


@square_with_derivative.check
def on_a_cosine(answer, rng):
    value, change = answer(np.cos, 0.5)
    expect_close(value, np.cos(0.5) ** 2, what="the value")
    expect_close(change(2.0), -2 * np.sin(1.0), what="the change")


@square_with_derivative.mistake("Which rule applies to a function inside a function?")
def forgets_the_inner_derivative(function, x):
    return function(x) ** 2, lambda h: 2 * function(x) * h


@square_with_derivative.mistake("Look at the step h: does the change grow with it?")
def forgets_the_step(function, x):
    slope = (function(x + 1e-6) - function(x - 1e-6)) / 2e-6
    return function(x) ** 2, lambda h: 2 * function(x) * slope


@exercise("Running means", difficulty=1, minutes=5, section="dot-products")
def running_means(numbers):
    """Return the mean of all numbers so far."""
    return [total / count for count, total in enumerate(itertools.accumulate(numbers), 1)]


@running_means.check
def of_a_few(answer, rng):
    expect_equal(list(answer(iter([2, 4, 9]))), [2.0, 3.0, 5.0], what="the means")


@running_means.mistake("You return sums. What turns a sum into a mean?")
def returns_sums(numbers):
    return list(itertools.accumulate(numbers))


@running_means.mistake("Your counting starts at two. How many numbers are there after the first?")
def counts_from_two(numbers):
    return [total / count for count, total in enumerate(itertools.accumulate(numbers), 2)]


@exercise("Centre in place", difficulty=1, minutes=5, section="dot-products", mutates=True)
def centre(values):
    """Subtract the mean from the array itself; return nothing."""
    values -= values.mean()


@centre.check
def mean_is_zero(answer, rng):
    values = rng.normal(size=7) + 3
    expected = values - values.mean()
    answer(values)
    expect_close(values, expected, what="the array afterwards")


@centre.mistake("You add the mean. Which way does that move the centre?")
def adds_the_mean(values):
    values += values.mean()


@centre.mistake("The centre you subtract is the median. What was asked for?")
def subtracts_the_median(values):
    values -= np.median(values)
