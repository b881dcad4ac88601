"""The files with which a subject begins: page, module, test, exercises and figures.

What an author has to replace is an ellipsis, or raises `NotImplementedError`: nothing of it passes
for written, neither with the tests nor with the audit.
"""

from __future__ import annotations

from chainrule.course.audit import CLOSING
from chainrule.course.manifest import Document

ANSWER = "<details><summary>Answer</summary>\n\n…\n\n</details>"
SAID = '**"…"** …'  # what people say, and why it is wrong
OPTIONAL = "Find the bug"

TEST = '''\
"""{title}: compared with what others compute."""

from __future__ import annotations


def test_against_an_oracle_that_we_did_not_write():
    raise NotImplementedError
'''

EXERCISES = '''\
"""Exercises of {path}."""

from __future__ import annotations

from chainrule.course.exercises import exercise, expect_close


@exercise(
    "…",
    difficulty=1,
    minutes=5,
    section="{section}",
    counterpart="{module}:…",
    idea="…",
)
def first(x):
    """Return …"""
    raise NotImplementedError


@first.check
def small_example(answer, rng):
    expect_close(answer(3.0), 0.0, what="…")


@first.mistake("…")
def sign(x):
    raise NotImplementedError
'''

FIGURES = '''\
"""Figures of {path}."""

from __future__ import annotations

from chainrule.course.figures import COLORS, figure


@figure("first")
def first(plt):
    fig, ax = plt.subplots(figsize=(7, 3))
    ax.plot([], [], color=COLORS["blue"])
    raise NotImplementedError
    return fig
'''


def files(document: Document) -> dict[str, str]:
    """The text of each file of a subject, by its path relative to the root."""
    module = document.module.replace(".", "/")
    folder, name = document.module.split(".")[1:]
    about = {
        "title": document.title,
        "path": document.path,
        "module": document.module,
        "section": document.outline[0].anchor,
    }
    return {
        f"src/{module}.py": f'"""{document.title}."""\n\nfrom __future__ import annotations\n',
        f"tests/{folder}/test_{name}.py": TEST.format(**about),
        document.exercises: EXERCISES.format(**about),
        document.figure_script: FIGURES.format(**about),
        document.path: page(document),
    }


def page(document: Document) -> str:
    """The page: a section for each bullet of the outline, the closing ones, what is generated."""
    inside = {
        CLOSING[0]: "\n\n".join([SAID] * 3),
        "Exercises": _region("exercises"),
        "Where this leads": _region("leads"),
        "References": "",
    }
    parts = [f"# {document.title}", _region("header"), "…"]
    for item in document.outline:
        parts += [f"## {item.text}", "…", "**Question.** …", ANSWER]
    for title in CLOSING:
        parts += [f"## {title}", inside[title]] if title != OPTIONAL else []
    return "\n\n".join(filter(None, parts)) + "\n"


def _region(name: str) -> str:
    return f"<!-- generated: {name} -->\n<!-- /generated -->"
