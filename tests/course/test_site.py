"""The site: what is in it, what each page shows, what stops a build, what is built again."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import resource
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from bs4 import BeautifulSoup
from pygments.styles import get_style_by_name
from pygments.token import Error, Whitespace
from site_sample import LINEAR_ALGEBRA, REPOSITORY, large_course, small_course, write

from chainrule import __version__
from chainrule.course.site import build, following, navigation
from chainrule.node import find_node, packages_are_fresh
from chainrule.program import UsageError
from chainrule.trainer.parts import PARTS

SITE = REPOSITORY / "site"


def build_at(root: Path, **options) -> Path:
    return build(root, output=root / "built", **options)


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return small_course(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def pages(course) -> Path:
    return build_at(course.root, strict=True)


def soup(pages: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((pages / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


# Colours


def contrast(one: str, other: str) -> float:
    """The ratio of luminances by WCAG 2.2, of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (
            p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("option", ["pygments_style", "pygments_dark_style"])
def test_code_can_be_read_in_every_colour(option):
    name = re.search(rf'^{option} = "(.+)"', (SITE / "conf.py").read_text(), re.MULTILINE)[1]
    style = get_style_by_name(name)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    poor = {
        str(token): round(contrast(f"#{look['color']}", style.background_color), 2)
        for token, look in style
        if look["color"] and token not in (Whitespace, Error)
    }
    assert {token: ratio for token, ratio in poor.items() if ratio < 4.5} == {}


# What is in it


def test_navigation_holds_what_exists_in_reading_order(course):
    tree = dict(navigation(course))
    assert tree["Foundation (core path)"] == [
        ("Linear algebra", "math-foundations/linear-algebra"),
        ("Calculus", "math-foundations/calculus"),
    ]
    assert "Depth" not in tree
    assert [page for _, page in tree["Notebooks"]] == ["notebooks/01-numpy-neural-net"]
    assert [page for _, page in tree["Reference"]] == ["NOTATION", "README"]


def test_previous_and_next_follow_the_reading_order_not_the_phase(tmp_path):
    course = large_course(tmp_path)
    after = following(course)
    ids = [document.id for document in course.documents]
    assert {document.phase for document in course.documents[:15]} > {1}
    assert [after.get(name) for name in ids] == [*ids[1:], None]
    assert course.notebooks[0].path.removesuffix(".ipynb") not in after.values()


def test_graph_shows_every_subject_below_what_it_needs_and_none_on_another(pages, course):
    drawing = soup(pages, "index").select_one(".graph svg")
    width, height = map(float, drawing["viewbox"].split()[2:])
    boxes = {}
    for box in drawing.select(".subject"):
        x, y = map(float, re.findall(r"[\d.]+", box["transform"]))
        wide, high = float(box.rect["width"]), float(box.rect["height"])
        boxes[box["data-id"]] = x, y, x + wide, y + high
        assert 0 <= x <= width - wide
        assert 0 <= y <= height - high
    assert set(boxes) == set(course.by_id)
    paths = {(line["data-from"], line["data-to"]): line["d"] for line in drawing.select("path")}
    assert set(paths) == set(course.graph.edges)
    for (source, target), path in paths.items():
        left, _, right, bottom = boxes[source]
        assert path.startswith(f"M{(left + right) / 2:g} {bottom:g} C")
        left, top, right, _ = boxes[target]
        assert path.endswith(f" {(left + right) / 2:g} {top:g}")
        assert bottom < top
    for first, second in combinations(boxes.values(), 2):
        assert first[1] != second[1] or abs(first[0] - second[0]) > 205


# What a page shows


def test_document_page(pages):
    page = soup(pages, "math-foundations/linear-algebra")
    source = (pages / "math-foundations/linear-algebra.html").read_text(encoding="utf-8")
    text = page.article.get_text()
    assert "it costs 5.1 seconds" in text
    assert "<!--=" not in source
    assert "generated:" not in source
    assert len(page.article.select(".katex")) == 7
    assert page.select_one(".generated-header").get_text().strip().startswith("Needs")
    assert page.select_one(".generated-exercises table")
    assert page.select_one('a[href="#eq-projection"]')
    assert page.select_one("a#eq-projection")
    assert page.select_one('a[href="calculus.html#chain-rule"]')
    assert page.select_one(".admonition.note")
    assert page.select_one('input[type="checkbox"][checked]')
    assert page.select_one(".highlight .go").get_text() == "#> [0 1 2]"
    assert page.select_one("a.next-page")["href"] == "calculus.html"
    assert not page.select_one("a.prev-page")
    assert page.select_one(".sidebar-brand")["href"] == "../index.html"


def test_anchor_of_another_document_is_found(pages):
    page = soup(pages, "math-foundations/calculus")
    assert page.select_one('a[href="linear-algebra.html#eq-projection"]')


def test_citations_lead_to_entries_and_entries_to_works(pages):
    page = soup(pages, "math-foundations/calculus")
    cited = page.select("a.citation")
    assert [(link.get_text(), link["href"]) for link in cited] == [
        ("[1]", "#reference-1"),
        ("2", "#reference-2"),
        ("1", "#reference-1"),
    ]
    assert "Known [1], old [2, 1], see a[1], [3]." in page.article.get_text()
    assert cited[0]["title"].startswith("A. Author, A Title, Journal 1(2), 1999")
    assert page.select_one("li#reference-2").get_text().strip().startswith("B. Author")
    assert [link["href"] for link in page.select("li[id^=reference] a")] == [
        "https://doi.org/10.1016/0304-3975(83)90110-X",
        "https://arxiv.org/abs/1706.03762",
        "https://arxiv.org/abs/math.GT/0309136",
    ]


def test_source_files_are_shown_as_pages(pages):
    link = soup(pages, "math-foundations/linear-algebra").select_one(".generated-header a")
    target = (pages / "math-foundations" / link["href"]).resolve()
    assert "x = 1" in BeautifulSoup(target.read_text(), "html.parser").get_text().replace("  ", " ")
    assert (pages / "source/LICENSE.html").is_file()
    assert {path.suffix for path in (pages / "_downloads").rglob("*.*")} == {".ipynb"}


def test_a_package_is_shown_as_one_page_file_by_file(pages):
    links = soup(pages, "math-foundations/calculus").article.select("a")
    target = next(link["href"] for link in links if link.get_text() == "calculus")
    shown = (pages / "math-foundations" / target).resolve().read_text()
    page = BeautifulSoup(shown, "html.parser").article
    assert [title.get_text() for title in page.select("h2")] == ["__init__.py", "limits.py"]
    assert "y = 2" in page.get_text().replace("  ", " ")


def test_a_folder_that_is_linked_to_becomes_plain_text(pages):
    page = soup(pages, "README")
    assert "and the source" in page.article.get_text().replace("\n", " ")


def test_styles_and_scripts_only_where_they_are_needed(pages):
    assert soup(pages, "README").select('script[src*="diagrams.js"]')
    document = soup(pages, "math-foundations/linear-algebra")
    assert not document.select('script[src*="diagrams.js"]')
    assert document.select('link[href*="katex.min.css"]')
    assert not soup(pages, "index").select('link[href*="katex"], script[src*="diagrams"]')


def test_boxes_of_a_diagram_link_to_pages(pages):
    assert 'click la "math-foundations/linear-algebra.html"' in soup(pages, "README").pre.get_text()


def test_formula_keeps_the_mark_that_follows_it(pages):
    marks = soup(pages, "math-foundations/linear-algebra").select(".katex-html .katex-base .mark")
    assert [mark.get_text() for mark in marks] == [",", "."]


def test_home_links_what_is_written_and_names_what_is_planned(pages, course):
    page = soup(pages, "index")
    assert course.about.promise in page.article.get_text()
    assert "A course that is also software" in page.article.get_text()
    links = {link["href"] for link in page.article.select("a[href]")}
    assert {"math-foundations/linear-algebra.html", "math-foundations/calculus.html"} <= links
    assert not any("perceptron" in link for link in links)
    assert len(page.select("svg a.subject")) == 2
    planned = page.select("svg g.subject.planned")
    assert len(planned) == len(course.documents) - 2
    assert all(node["tabindex"] == "0" and "planned" in node["aria-label"] for node in planned)
    reasons = page.select_one('[data-subject="math-foundations/calculus"] dd').get_text()
    assert reasons == course.by_id["math-foundations/calculus"].needs[0].because
    assert len(page.select(".track")) == len(course.tracks)
    assert page.progress["value"] == "2"
    gpt = {(box["data-of"], box["data-name"]) for box in page.select(".gpt pre .part")}
    assert gpt == {(part.document, part.name) for part in PARTS}
    assert page.select_one(".gpt .count").get_text() == f"0 of {len(PARTS)}"


def test_without_a_repository_the_source_can_be_seen_and_not_edited(pages):
    page = soup(pages, "math-foundations/calculus")
    assert not page.select(".edit-this-page")
    target = pages / "math-foundations" / page.select_one(".view-this-page a")["href"]
    assert target.resolve().read_text(encoding="utf-8").startswith("# Calculus")


def test_with_a_repository_every_document_can_be_edited(tmp_path):
    small_course(tmp_path)
    manifest = (tmp_path / "course.toml").read_text(encoding="utf-8")
    address = "https://github.com/someone/chain-rule"
    manifest = re.sub(r'repository = ".*"', f'repository = "{address}"', manifest)
    (tmp_path / "course.toml").write_text(manifest, encoding="utf-8")
    page = soup(build_at(tmp_path, strict=True), "math-foundations/calculus")
    link = page.select_one(".edit-this-page a")
    assert link["href"].strip() == f"{address}/edit/main/math-foundations/calculus.md"
    assert page.select_one('.report a[rel="edit"]')["href"] == link["href"].strip()
    report = urlsplit(page.select_one(".report-link")["href"])
    assert f"{report.scheme}://{report.netloc}{report.path}" == f"{address}/issues/new"
    told = parse_qs(report.query)
    assert told["title"] == ["Mistake on math-foundations/calculus.md"]
    assert "Page: math-foundations/calculus.md\nSection: (top)\n" in told["body"][0]
    assert f"Version: {__version__}" in told["body"][0]
    home = soup(tmp_path / "built/html", "index")
    assert home.select_one(".report-link")
    assert not home.select_one('.report a[rel="edit"]')


def test_every_page_forbids_other_hosts_and_scripts_that_are_not_its_own(pages):
    for path in pages.rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        policy = page.select_one('meta[http-equiv="Content-Security-Policy"]')["content"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'self'"
        assert not re.search(r"https?:|\*|'unsafe-eval'", policy), path
        assert "'unsafe-inline'" not in rules["script-src"]
        for script in page.select("script:not([src]):not([type='application/json'])"):
            found = hashlib.sha256(script.string.encode()).digest()
            assert f"'sha256-{base64.b64encode(found).decode()}'" in rules["script-src"], path


# What stops a build


def test_a_bad_formula_and_a_broken_link_stop_a_strict_build(tmp_path, capfd):
    broken = LINEAR_ALGEBRA.replace(r"\cdot", r"\nosuchcommand", 1)
    small_course(tmp_path, **{"math-foundations/linear-algebra.md": broken})
    write(tmp_path, {"NOTATION.md": "# Notation\n\nSee [nothing](math-foundations/none.md).\n"})
    with pytest.raises(UsageError, match="not built"):
        build_at(tmp_path, strict=True)
    said = capfd.readouterr().err
    line = 1 + broken[: broken.index("```math")].count("\n")
    assert f"linear-algebra.md:{line}: WARNING: formula" in said
    assert "nosuchcommand" in said
    assert "NOTATION.md:3: WARNING" in said


def test_a_folder_without_a_site_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"no site in .*: run this inside a checkout"):
        build(tmp_path)


# What is built again


def test_only_what_is_stale_is_built_again(tmp_path, capfd):
    small_course(tmp_path)
    pages = build_at(tmp_path)
    calculus = pages / "math-foundations/calculus.html"
    algebra = pages / "math-foundations/linear-algebra.html"
    shown = pages / "source/src/chainrule/math_foundations/linear_algebra.py.html"
    before, source_before = calculus.stat().st_mtime_ns, shown.read_bytes()
    shown.write_bytes(source_before + b"<!-- kept -->")
    capfd.readouterr()
    build_at(tmp_path)
    assert "Building" not in capfd.readouterr().out

    text = LINEAR_ALGEBRA.replace("A norm is a length.", "A norm measures.")
    write(tmp_path, {"math-foundations/linear-algebra.md": text})
    build_at(tmp_path)
    assert "A norm measures." in algebra.read_text(encoding="utf-8")
    assert calculus.stat().st_mtime_ns == before
    assert shown.read_bytes().endswith(b"<!-- kept -->")
    write(tmp_path, {"src/chainrule/math_foundations/linear_algebra.py": "changed = 1\n"})
    build_at(tmp_path)
    assert "changed" in soup(pages, str(shown.relative_to(pages)).removesuffix(".html")).text
    assert calculus.stat().st_mtime_ns == before

    calculus_source = tmp_path / "math-foundations/calculus.md"
    calculus_source.unlink()
    text = text.replace("[the next subject](calculus.md#chain-rule)", "the next subject")
    write(tmp_path, {"math-foundations/linear-algebra.md": text})
    build_at(tmp_path, strict=True)
    assert not calculus.exists()
    assert not soup(pages, "index").select('a[href*="calculus"]')


@pytest.mark.alone
@pytest.mark.slow
def test_the_whole_course_builds_in_25_seconds(tmp_path):
    course = large_course(tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pages = build_at(tmp_path, strict=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Time on the processor: what else the machine does must not decide.
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert len(list(pages.glob("*/*.html"))) >= len(course.documents) + len(course.notebooks)
    assert 1 < took < 25


# Node


def test_node_is_searched_where_it_may_be(monkeypatch, tmp_path):
    assert find_node()
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v12.22.0\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert find_node() != str(old), "a Node that is too old must not be taken"


def test_a_lock_file_that_changed_makes_the_packages_stale(tmp_path):
    lock = tmp_path / "package-lock.json"
    lock.write_text("{}")
    assert not packages_are_fresh(tmp_path)
    installed = tmp_path / "node_modules/.package-lock.json"
    installed.parent.mkdir()
    installed.write_text("{}")
    assert packages_are_fresh(tmp_path)
    os.utime(lock, (time.time() + 10, time.time() + 10))
    assert not packages_are_fresh(tmp_path)


def test_the_lock_file_names_no_registry():
    lock = (SITE / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert '"katex": "0.19.1"' in lock


def test_importing_the_package_does_not_import_the_site():
    script = "import sys, chainrule.math_foundations; print('chainrule.course.site' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
