"""``chainrule audit --run`` on a whole small course: executed, refreshed, compared."""

from __future__ import annotations

import pytest

CHECKS = ("documents", "figures", "notebooks")
# The small course's package beside the installed one, which has the figure decorator.
PACKAGE = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    from sample_course import build

    small = build(tmp_path_factory.mktemp("executed"))
    small.add("src/chainrule/__init__.py", PACKAGE)
    # A number can only be computed below the block that imports what computes it.
    small.edit("math-foundations/lengths.md", '5<!--= f"{norm([3, 4]):.0f}" -->', "5")
    small.edit(
        "math-foundations/lengths.md", "## Unit", "It is 5.0<!--= norm([3, 4]) -->.\n\n## Unit"
    )
    report = small.audit(*CHECKS, run=True, write=True)
    assert report.findings == []
    assert len(report.changes) == 4, "the figures, which were placeholders"
    return small


def test_every_planted_fault_is_found_in_one_audit(executed):
    small = executed
    module = "src/chainrule/math_foundations/lengths.py"
    small.edit(module, "np.sqrt(np.sum(", "(np.sum(")
    small.edit("figures/math-foundations/slopes.py", "[0, 1]", "[1, 0]")
    found = small.audit(*CHECKS, run=True).findings
    assert [(f.check, f.file) for f in found] == [
        ("figures", "figures/math-foundations/slopes/rise.svg"),
        ("documents", "math-foundations/lengths.md"),
        ("documents", "math-foundations/lengths.md"),
        ("notebooks", "notebooks/01-hill.ipynb"),
    ]
    assert [small.line(f) for f in found[1:3]] == [
        "#> 5.0",
        "It is 5.0<!--= norm([3, 4]) -->.",
    ]
    assert "expected '0.75', received '0.5625'" in found[3].message
    report = small.audit(*CHECKS, run=True, write=True)
    assert report.findings == []
    assert [path for path, _, _ in report.changes] == [
        "math-foundations/lengths.md",
        "figures/math-foundations/slopes/rise.svg",
        "notebooks/01-hill.ipynb",
    ]
