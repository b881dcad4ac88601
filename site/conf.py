"""Sphinx builds the site from the repository as it is; course.toml decides what is in it.

The source directory is the root of the checkout (``CHAINRULE_ROOT``), so that the Markdown
is the same file on GitHub and on the site.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.ext.autodoc.mock import mock

from chainrule.course.manifest import load_course
from chainrule.course.site import REFERENCE, navigation
from chainrule.learner.page.bundle import measured

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))

# JupyterLab, where it is installed, brings a grammar of web addresses that jsonschema would build,
# in more time than a page takes. No notebook's form depends on it.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# Nor is a notebook executed here: what would do that, with a database for its outputs, stays out.
with mock(["jupyter_cache", "nbclient"]):
    import myst_nb.core.execute  # noqa: F401

course = load_course(Path(os.environ.get("CHAINRULE_ROOT", HERE.parent)))

project = course.about.name
html_title = course.about.name
language = "en"
root_doc = "README"
include_patterns = [
    *(entry.path for entry in (*course.documents, *course.notebooks) if course.exists(entry)),
    *(page.path for page in course.pages if course.exists(page)),
    *(f"{name}.md" for name in ("README", *REFERENCE)),
]
exclude_patterns = [
    *(".*", "**/node_modules", "site", "src", "tests", "workbook", "runs", "build", "dist"),
    *("benchmarks", "exercises", "figures"),
]

extensions = [
    *("myst_nb", "sphinx_copybutton"),
    *("course_pages", "formulas", "diagrams", "interactive", "references", "running", "shipping"),
]

# GitHub's Markdown, unchanged.
myst_enable_extensions = [
    *("alert", "amsmath", "dollarmath", "gfm_autolink", "strikethrough", "tasklist"),
]
myst_fence_as_directive = ["math", "mermaid"]
myst_heading_anchors = 6
myst_heading_slug_func = "github"
myst_footnote_transition = False
nb_execution_mode = "off"
nb_merge_streams = True
suppress_warnings = ["myst.strikethrough"]

# What is read again when it changes; see course_pages.
course_navigation = navigation(course)
course_measured = measured(HERE)

html_theme = "furo"
html_math_renderer = "katex"
html_static_path = ["static"]
templates_path = ["templates"]
html_css_files = ["course.css"]
html_baseurl = course.about.address
html_favicon = "static/favicon.svg"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = True
html_show_sourcelink = True
html_use_index = False
html_domain_indices = False
# Every colour stands out from its ground by 4.5 to 1, by day and by night.
pygments_style = "default"
pygments_dark_style = "github-dark"
# A printed line (`#> `) is not part of what is copied.
copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = "div.highlight-python pre, div.highlight-ipython3 pre, div.highlight-sh pre"

PHASES = (
    ("#1f6fb2", "#6db3f2"),
    ("#16845b", "#5cc79b"),
    ("#8250b8", "#bd97ea"),
    ("#b2670f", "#e5a654"),
)
MONOSPACE = (
    'ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "Liberation Mono", monospace'
)

html_theme_options = {
    "light_css_variables": {
        "font-stack": 'system-ui, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif',
        "font-stack--monospace": MONOSPACE,
        "color-brand-primary": "#15607a",
        "color-brand-content": "#15607a",
        "color-brand-visited": "#6a4b8c",
        "course-card": "#f3f6f8",
        **{f"phase-{number}": light for number, (light, _) in enumerate(PHASES, 1)},
    },
    "dark_css_variables": {
        "color-brand-primary": "#7cc7e0",
        "color-brand-content": "#7cc7e0",
        "color-brand-visited": "#c3a6e6",
        "course-card": "#1d2227",
        **{f"phase-{number}": dark for number, (_, dark) in enumerate(PHASES, 1)},
    },
    "top_of_page_buttons": ["view", "edit"],
    "source_repository": course.about.repository,
    "source_branch": "main",
    "source_directory": "",
}
