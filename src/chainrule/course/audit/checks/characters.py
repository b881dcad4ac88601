"""Characters and marks that a page does not show as they are meant.

The file is read as bytes: not UTF-8, control characters, and characters that have no width, such
as a byte order mark, or turn the direction of writing. In the text: front matter, directives of
Sphinx in place of code, links with a blank, comments that are not closed, rows of a table with
more or fewer cells than its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Page
from chainrule.course.finding import Finding

NAME = "characters"
STOPS = "GitHub, the site or an editor shows another page than the one that was read."

UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]"
)
_CODE = re.compile(r"`+[^`\n]*`+|\$[^$\n]*\$")
_BLANK = re.compile(r"\]\((?![<\s])([^()\s\"'<>]+ +[^()\s\"'<>][^()\"'<>]*)\)")


def check(audit: Audit) -> Iterator[Finding]:
    """Report what a page does not show as it is meant."""
    for path in [*audit.pages, *audit.notebooks, "course.toml"]:
        yield from _bytes(audit, path)
    for path, above, page in audit.prose:
        for line, message, fix in [*_marks(page), *_tables(page)]:
            yield Finding(path, above + line, NAME, message, fix)


def _bytes(audit: Audit, path: str) -> Iterator[Finding]:
    raw = (audit.root / path).read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte {raw[error.start]:#04x}"
        yield Finding(path, line, NAME, message, "save it as UTF-8")
        return
    for found in UNSEEN.finditer(text):
        message = f"U+{ord(found[0]):04X}, a character that nobody sees"
        yield Finding(path, text.count("\n", 0, found.start()) + 1, NAME, message, "delete it")


def _marks(page: Page) -> Iterator[tuple[int, str, str]]:
    if page.lines and page.lines[0].rstrip() == "---":
        yield 1, "front matter, which GitHub shows as a table", "delete it: course.toml says it"
    for block in page.blocks:
        if block.info.startswith("{"):
            message = f"{block.info.split()[0]}: a directive of Sphinx, which GitHub does not know"
            yield block.line, message, "write ```python, or say it in Markdown"
    for number, line in enumerate(page.lines, 1):
        if number in page.code_lines:
            continue
        plain = _CODE.sub("", line)
        for found in _BLANK.finditer(plain):
            fix = f"write {found[1].replace(' ', '%20')}"
            yield number, f"a link with a blank, shown as it is typed: {found[1]}", fix
        opened = plain.rfind("<!--")
        if opened >= 0 and "-->" not in plain[opened:]:
            below = "\n".join(page.lines[number:])
            if "-->" not in below or "<!--" in below[: below.index("-->")]:
                yield number, "a comment that is not closed", "add -->"


def _cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line.strip().strip("|"))) + 1


def _tables(page: Page) -> Iterator[tuple[int, str, str]]:
    wanted = 0
    for number, line in enumerate(page.lines, 1):
        if number in page.code_lines or not line.strip().startswith("|"):
            wanted = 0
        elif not wanted:
            below = page.lines[number] if number < len(page.lines) else ""
            if re.fullmatch(r"\s*\|?[\s:|-]*-[\s:|-]*\|?\s*", below):
                wanted = _cells(line)
        elif _cells(line) != wanted:
            message = f"a row of {_cells(line)} cells under a header of {wanted}"
            yield number, message, "a bar inside a cell is written \\|, in code too"
