"""The audit as a whole: a clean course, the command, what it writes, how long it takes."""

import subprocess
import sys

from chainrule.course.audit import all_checks
from chainrule.course.documents import blocks


def chainrule(*arguments):
    """Run the command as a person would."""
    done = subprocess.run(
        [sys.executable, "-c", "from chainrule.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_clean_course_gives_nothing(small):
    report = small.audit()
    assert report.findings == []
    assert set(report.remembered) == {check.NAME for check in all_checks()}


def test_every_check_says_what_it_stops():
    for check in all_checks():
        assert check.STOPS.endswith("."), check.NAME
        assert check.check.__doc__, check.NAME


def test_clean_exits_with_0(small):
    status, out, err = chainrule("audit", "--root", str(small.root))
    assert (status, err) == (0, "")
    assert out.startswith("nothing found: 2 documents, ")


def test_findings_exit_with_1_and_name_file_and_line(small):
    small.edit("math-foundations/slopes.md", "unit-arrows", "unit-arros")
    (finding,) = small.audit().findings
    assert (finding.check, finding.file) == ("links", "math-foundations/slopes.md")
    status, out, _ = chainrule("audit", "--root", str(small.root), "--only", "links")
    assert status == 1
    assert f"math-foundations/slopes.md:{finding.line}: links: " in out
    assert "1 found (links 1): 2 documents, 1 checks" in out


def test_an_audit_that_cannot_run_exits_with_2(small, tmp_path):
    def refused(*arguments):
        status, out, err = chainrule("audit", *arguments)
        assert (status, out) == (2, "")
        assert err.count("\n") == 1
        return err

    assert "no course.toml in" in refused("--root", str(tmp_path))
    assert "no check 'link'; there are: " in refused("--root", str(small.root), "--only", "link")
    small.edit("course.toml", "minutes = 10", "minutes = 0")
    assert "'math-foundations/lengths', field 'minutes'" in refused("--root", str(small.root))


def test_without_node_the_audit_says_what_to_type(small, monkeypatch):
    from chainrule.course.audit.checks import mathematics

    monkeypatch.setattr(mathematics, "find_node", lambda: None)
    (finding,) = small.audit("mathematics").findings
    assert finding.message == "no formula was parsed: Node is missing"
    assert finding.fix.startswith("type: ")


def test_write_shows_the_difference_and_leaves_nothing_to_do(small):
    small.edit("course.toml", "You can measure an arrow.", "You can measure arrows.")
    small.edit("math-foundations/lengths.md", "| Exercise |", "| Task |")
    before = (small.root / "math-foundations/slopes.md").stat().st_mtime_ns
    status, out, _ = chainrule("audit", "--root", str(small.root), "--write")
    assert status == 0
    for line in ("-| Task |", "+| Exercise |", "+++ README.md", "-You can measure an arrow."):
        assert line in out
    assert "3 files written, nothing found" in out
    assert (small.root / "math-foundations/slopes.md").stat().st_mtime_ns == before
    status, out, _ = chainrule("audit", "--root", str(small.root), "--write")
    assert out.startswith("nothing found")


def test_the_list_of_checks():
    status, out, _ = chainrule("audit", "--list")
    assert status == 0
    assert "\nlinks " in out


def test_an_audit_of_one_subject_reads_all_and_says_what_concerns_it(small):
    for slug in ("lengths", "slopes"):
        small.edit(
            f"math-foundations/{slug}.md", "## What people", "It is crucial.\n\n## What people"
        )
        small.edit(f"exercises/math-foundations/{slug}.py", "difficulty=1", "difficulty=9")
    findings = small.audit(subjects=["math-foundations/slopes"]).findings
    assert {finding.file for finding in findings} == {
        "math-foundations/slopes.md",
        "exercises/math-foundations/slopes.py",
    }
    assert {finding.file.split("/")[-1] for finding in small.audit().findings} >= {
        *("lengths.md", "slopes.md", "lengths.py", "slopes.py")
    }


def test_an_audit_of_one_subject_executes_that_alone_and_once(small, monkeypatch):
    asked = []

    def run_all(root, budgets, ask, really=blocks.run_all):
        asked.append([path for path, _ in budgets])
        return really(root, budgets, ask)

    monkeypatch.setattr("chainrule.course.audit.checks.documents.run_all", run_all)
    block = "```python\nprint(1 + 1)\n#> 3\n```\n\n"
    small.edit("math-foundations/slopes.md", "## What people", f"{block}## What people")
    small.audit("documents", run=True, subjects=["neural-networks/neurons"])
    assert asked == [[]]
    asked.clear()
    only = {"subjects": ["math-foundations/slopes"]}
    report = small.audit("documents", run=True, write=True, **only)
    assert report.findings == []
    assert [path for path, *_ in report.changes] == ["math-foundations/slopes.md"]
    assert asked == [["math-foundations/slopes.md"]] * 2
    asked.clear()
    assert small.audit("documents", run=True, write=True, **only).changes == []
    assert asked == [["math-foundations/slopes.md"], []]


def test_the_roadmap_numbers_connects_and_waits(small):
    small.edit("course.toml", 'title = "Slopes"\n', 'title = "Slopes"\nnumber = "1.2"\n')
    connections = 'connections = [{ text = "Maps", anchor = "unit-arrows" }]'
    small.edit("course.toml", '"Pythagoras"]', f'"Pythagoras"]\n{connections}')
    (small.root / "math-foundations/slopes.md").unlink()
    small.audit("generated", write=True)
    roadmap = (small.root / "ROADMAP.md").read_text()
    assert "### 1.2 Slopes\n" in roadmap
    assert "In machine learning: [Maps](math-foundations/lengths.md#unit-arrows)." in roadmap
    assert "| Neurons | 2 | planned | no |" in roadmap


def test_what_is_related_stands_under_where_this_leads(small):
    pair = 'between = ["neural-networks/neurons", "math-foundations/lengths"]'
    small.edit("course.toml", "\n[[ask]]", f'\n[[related]]\n{pair}\nbecause = "A norm."\n\n[[ask]]')
    small.edit("course.toml", '"A norm."', '"Weights have a norm."')
    small.audit("generated", write=True)
    lengths = (small.root / "math-foundations/lengths.md").read_text()
    assert "Beside it, in either order:\n\n- Neurons: Weights have a norm." in lengths


def test_generated_regions_show_what_is_there(small):
    readme = (small.root / "README.md").read_text()
    assert "| [Lengths](math-foundations/lengths.md) | You can measure an arrow. | 10 |" in readme
    assert "| Neurons | You can build one neuron. | 30 |" in readme
    assert "lengths --> slopes" in readme
    assert 'click lengths "math-foundations/lengths.md"' in readme
    assert "click neurons" not in readme
    assert "| All of it | 3 | 1 h |" in readme
    roadmap = (small.root / "ROADMAP.md").read_text()
    assert "- [Rise over run](math-foundations/slopes.md#rise-over-run)" in roadmap
    assert "- One neuron\n" in roadmap
    lengths = "| [Lengths](math-foundations/lengths.md) | 1 | written | yes | 2 | 1 | 2 |"
    assert lengths in roadmap
    assert "| 1 | First | 2 documents, 1 notebooks | complete |" in roadmap
    assert "| 2 | Second | 1 documents | 0 of 1 written |" in roadmap
    assert "Notebook: [`01-hill.ipynb`](notebooks/01-hill.ipynb)." in roadmap
    slopes = (small.root / "math-foundations/slopes.md").read_text()
    assert "| [Lengths](lengths.md) | A slope is a ratio of two lengths. |" in slopes
    assert "[Down the hill](../notebooks/01-hill.ipynb)" in slopes
    assert "(../src/chainrule/math_foundations/slopes.py)" in slopes
    assert "| [Twice in slopes](#rise-over-run) | 1 | 5 |" in slopes
    assert "- Neurons: Learning goes down a slope." in slopes


def test_the_command_takes_a_subject_and_tells_how_it_goes(small):
    status, out, err = chainrule(
        "audit", "slopes", "--root", str(small.root), "--only", "documents"
    )
    assert (status, err) == (0, "")
    assert out.startswith("nothing found: 1 document, 1 checks")
    run = ("--run", "--fresh", "--only", "documents", "--root", str(small.root))
    status, out, err = chainrule("audit", "slopes", *run)
    assert status == 0
    assert err.startswith("documents: nothing found, ")
    status, out, err = chainrule("audit", "valleys", "--root", str(small.root))
    assert status == 2
    assert "no subject is called 'valleys'" in err
