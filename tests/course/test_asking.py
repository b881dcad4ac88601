"""One question a document: what counts as the answer."""

import pytest

from chainrule.course.asking import agrees, number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3.0),
        (" −6 ", -6.0),
        ("- 6", -6.0),
        ("1/4", 0.25),
        ("27%", 0.27),
        ("27 %", 0.27),
        (".5", 0.5),
        ("1.2e20", 1.2e20),
        ("1,200", 1200.0),
        ("1,200.5", 1200.5),
        ("20,480,000", 20_480_000.0),
        ("0,27", 0.27),
        ("0,277", 0.277),
        ("49_152", 49152.0),
        ("1/0", None),
        ("", None),
        ("about 3", None),
        ("nan", None),
        ("1e999", None),
        ("__import__", None),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("given", "answer", "right"),
    [
        ("0.27", "0.27", True),
        ("0.2687", "0.27", True),
        ("18/67", "0.27", True),
        ("27 %", "0.27", True),
        ("0.28", "0.27", False),
        ("0.264", "0.27", False),
        ("3", "3", True),
        ("3.0", "3", True),
        ("3.2", "3", False),
        ("-3", "3", False),
        ("1.2e20", "1.2e20", True),
        ("120000000000000000000", "1.2e20", True),
        ("1.3e20", "1.2e20", False),
        ("0.8", "0.80", True),
        ("1e999", "3", False),
        ("", "3", False),
    ],
)
def test_an_answer_agrees_to_the_digits_that_are_asked_for(given, answer, right):
    assert agrees(given, answer) is right
