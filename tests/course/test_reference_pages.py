"""Pages that are no documents: written from their data, checked with it, listed and shown."""

import json
import sys
from types import ModuleType

import pytest
from sample_course import build

from chainrule.children import Answer
from chainrule.course.audit import Audit
from chainrule.course.audit.checks import pages
from chainrule.course.audit.generated import files, reference
from chainrule.course.manifest import CourseError, load_course
from chainrule.course.site import navigation

ENTRY = """
[[page]]
path = "reference/list.md"
title = "A list"
about = "What is listed."
data = "reference/list.json"
render = "pages_of_a_test:lines"
measure = "chainrule.clinic.records"
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    made = build(tmp_path / "course")
    manifest = (made.root / "course.toml").read_text()
    made.add("course.toml", manifest + ENTRY.replace("pages_of_a_test", "chainrule.clinic.listed"))
    module = ModuleType("chainrule.clinic.listed")
    module.lines = lambda data: ["# A list", "", *(f"- {word}" for word in data["words"])]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_a_page_without_its_data_is_found(course):
    found = course.audit("pages").findings
    assert [f.message for f in found] == ["page 'reference/list.md' lacks reference/list.json"]
    assert course.line(found[0]) == 'path = "reference/list.md"'
    assert found[0].fix == "python -m chainrule.clinic.records --write"


def test_a_page_is_written_from_its_data_and_stale_when_that_changes(course):
    course.add("reference/list.json", json.dumps({"words": ["one"]}))
    course.audit("generated", write=True)
    assert (course.root / "reference/list.md").read_text() == "# A list\n\n- one\n"
    assert course.audit("generated", "pages", "links").findings == []
    roadmap = (course.root / "ROADMAP.md").read_text()
    assert "- [A list](reference/list.md): What is listed." in roadmap
    assert (
        "- [A list](reference/list.md): What is listed." in (course.root / "README.md").read_text()
    )
    titles = dict(navigation(load_course(course.root)))["Reference"]
    assert ("A list", "reference/list") in titles
    course.add("reference/list.json", json.dumps({"words": ["two"]}))
    found = course.audit("generated").findings
    assert [(f.file, f.line) for f in found] == [("reference/list.md", 3)]


def test_a_page_may_be_written_from_toml(course):
    course.edit("course.toml", "reference/list.json", "reference/list.toml")
    course.add("reference/list.toml", 'words = ["one"]\n')
    course.audit("generated", write=True)
    assert (course.root / "reference/list.md").read_text() == "# A list\n\n- one\n"


@pytest.mark.parametrize("name", ["list.json", "list.toml"])
def test_data_that_cannot_be_read_gives_one_line(course, name):
    course.edit("course.toml", "reference/list.json", f"reference/{name}")
    course.add(f"reference/{name}", "words = [")
    with pytest.raises(CourseError) as caught:
        course.audit("generated", write=True)
    assert str(caught.value).startswith(f"reference/{name}: ")
    assert "\n" not in str(caught.value)


def test_links_of_a_page_are_followed(course):
    course.add("reference/list.json", json.dumps({"words": ["[lost](../lost.md)"]}))
    course.audit("generated", write=True)
    found = course.audit("links").findings
    assert [f.file for f in found] == ["reference/list.md"]


def test_what_measures_a_page_is_asked_only_for_the_whole_course(course, monkeypatch):
    course.add("reference/list.json", json.dumps({"words": ["one"]}))
    asked = []

    def ask(*command, **_):
        asked.append(command[-3:])
        return Answer(["it is off", ""], 1, "ended with status 1")

    monkeypatch.setattr(pages, "ask", ask)
    course.audit("pages", run=True, subjects=("math-foundations/lengths",))
    assert asked == []
    found = course.audit("pages", run=True).findings
    assert asked == [("-m", "chainrule.clinic.records", "--check")]
    assert [(f.file, f.message) for f in found] == [("reference/list.json", "it is off")]


def test_a_page_outside_its_folder_is_refused(course):
    course.edit("course.toml", "reference/list.md", "lists/list.md")
    with pytest.raises(CourseError, match="page 'number 1', field 'path'"):
        load_course(course.root)


def test_without_pages_nothing_is_listed(tmp_path):
    made = build(tmp_path / "plain")
    audit = Audit(load_course(made.root))
    assert list(reference(audit)) == []
    assert not any(path.startswith("reference/") for path in files(audit))
