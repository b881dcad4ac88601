"""Links, anchors and pictures, by GitHub's rules. (What no document shows: see figures.)"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from difflib import get_close_matches
from urllib.parse import unquote

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding

NAME = "links"
STOPS = "A click leads nowhere, a picture is missing, or says nothing to who cannot see it."

_UNDEFINED = re.compile(r"\[[^\[\]]+\]\[([^\[\]]*[a-zA-Z][^\[\]]*)\]")


def check(audit: Audit) -> Iterator[Finding]:
    """Follow every link and picture of every document, notebook and page beside the manifest."""
    for path, above, page in audit.prose:
        for link in page.links:
            if fault := _follow(audit, path, page, link.target):
                yield Finding(path, above + link.line, NAME, *fault)
        for image in page.images:
            if fault := _follow(audit, path, page, image.target):
                yield Finding(path, above + image.line, NAME, *fault)
            if not image.alt.strip():
                message = f"the picture {image.target} has no alternative text"
                yield Finding(path, above + image.line, NAME, message, "say what is drawn")
        for paragraph in page.paragraphs:
            for found in _UNDEFINED.finditer(paragraph.prose):
                line = above + paragraph.line_at(found.start())
                yield Finding(path, line, NAME, f"the reference [{found[1]}] is not defined")


def resolve(folder: str, target: str) -> tuple[str, str]:
    """The file that a link from ``folder`` points at, relative to the root, and its anchor.

    The file is empty for a link that leaves the checkout or stays on its page.
    """
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-zA-Z][\w+.-]*:|/", path):
        return "", unquote(anchor)
    return posixpath.normpath(posixpath.join(folder, unquote(path))), unquote(anchor)


def _follow(audit: Audit, path: str, page: Page, target: str) -> tuple[str, str] | None:
    """What is wrong with a link, and what to do."""
    if re.match(r"[a-zA-Z][\w+.-]*:|//", target):  # nothing is asked of the network
        if re.match(r"https?://[\w.-]+\.\w+(:\d+)?([/?#]|$)", target):
            return None
        return f"{target} is not a URL", "external links start with https:// and a host"
    if target.startswith("/"):
        return f"{target} is absolute", "give the path from this file"
    file, anchor = resolve(posixpath.dirname(path), target)
    if file:
        if file.startswith(".."):
            return f"{target} leads out of the checkout", ""
        if file not in audit.files:
            if audit.inside(file) and not anchor:
                return None
            twin = next((f for f in audit.files if f.lower() == file.lower()), None)
            fix = f"it is spelled {twin}" if twin else "name it in plain text until it exists"
            return f"{target}: there is no file {file}", fix
    if not anchor:
        return None if file or target == "#" else ("a link without a target", "")
    anchors = page.anchors if file in ("", path) else _anchors(audit, file)
    if anchors is None or anchor in anchors:
        return None
    near = get_close_matches(anchor, anchors, 1)
    message = f"{target}: no heading or id gives #{anchor}"
    return message, f"there is #{near[0]}" if near else ""


def _anchors(audit: Audit, file: str) -> set[str] | None:
    """The anchors of a file, or None where they cannot be known."""
    if file.endswith(".md"):
        return audit.page(file).anchors
    if file.endswith(".ipynb"):
        cells = (page for path, _, page in audit.prose if path == file)
        return set().union(*(page.anchors for page in cells))
    return None
