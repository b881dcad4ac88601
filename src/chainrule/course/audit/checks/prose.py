"""The words of WRITING: what is not used, how headings are written, how long an opening is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from chainrule.course.audit import Audit
from chainrule.course.documents.markdown import Page, Paragraph
from chainrule.course.finding import Finding
from chainrule.course.manifest import Course

NAME = "prose"
STOPS = "A page reads as if it could stand anywhere, or stumbles over its own words."

OPENING = 120
_TEXT = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
LISTS = {name: set(words.split()) for name, words in tomllib.loads(_TEXT).items()}
ENDS = ("ise", "ised", "iser", "isers", "ises", "ising", "isation", "isations")
PHRASES = re.compile(
    r"\b(it(?:'s|’s| is) important to note|in essence|not just [^.;:]{1,60}? but"
    r"|let(?:'s|’s| us) dive)\b",
    re.I,
)
REPEATED = re.compile(r"\b(?!(?:had|that)\b)([a-z]++)\s+\1\b", re.I)
ANALOGY = re.compile(r"\b[Tt]hink of it as\b")
EMOJI = re.compile("([\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2728\u274c\u2b50\ufe0f])")
EXCLAMATION = re.compile(r"(!)(?<=[\w)\"'”’]!)(?![\[=\w])")
NOT_USED = "{!r} is on the list of words not used"
RULES = (
    (EMOJI, "an emoji: {}", ""),
    (PHRASES, NOT_USED, ""),
    (REPEATED, "{!r} stands twice", ""),
    (EXCLAMATION, "an exclamation mark", "a full stop will do"),
)
OTHERWISE = "{!r} is not spelled as in the rest of the course"
OXFORD = "Oxford spelling: -ize, otherwise British"
WORDS = (
    (LISTS["unused"], NOT_USED, ""),
    (LISTS["american"], OTHERWISE, OXFORD),
    ({stem + end for stem in LISTS["ize"] for end in ENDS}, OTHERWISE, OXFORD),
)


def check(audit: Audit) -> Iterator[Finding]:
    """Read the prose of every document, notebook and page beside the manifest."""
    allowed = LISTS["names"] | _names(audit.course)
    outlines = {d.path: {item.text for item in d.outline} for d in audit.course.documents}
    outlines |= {notebook.path: {notebook.title} for notebook in audit.course.notebooks}
    titles = {document.path: document.title for document in audit.course.documents}
    for path, above, page in audit.prose:
        outline = outlines.get(path, set())
        findings = [*_words(page, outline), *_headings(page, allowed, outline)]
        if path.endswith(".md"):
            findings += _title(page, titles.get(path))
        if path in titles:
            findings += _opening(page)
        for line, message, fix in findings:
            yield Finding(path, above + line, NAME, message, fix)


def _names(course: Course) -> set[str]:
    """Words that the manifest writes with a capital: concepts are lower case unless a name."""
    texts = [concept for document in course.documents for concept in document.concepts]
    return {word for text in texts for word in re.findall(r"[A-Z]\w+", text)}


def _words(page: Page, outline: set[str]) -> Iterator[tuple[int, str, str]]:
    analogies: list[int] = []
    rules = [*RULES]
    for words, message, fix in WORDS:
        if held := words & page.vocabulary:
            rules.append((re.compile(rf"\b({'|'.join(held)})\b", re.I), message, fix))
    for paragraph in page.paragraphs:
        if page.is_generated(paragraph.line) or paragraph.text in outline:
            continue
        text, section = paragraph.prose, paragraph.section
        quoted = section is not None and section.text == "References"  # titles keep their words
        for pattern, message, fix in rules:
            for found in () if quoted and pattern is not EXCLAMATION else pattern.finditer(text):
                said = message.format(" ".join(found[1].split()))
                yield paragraph.line_at(found.start(1)), said, fix
        for found in ANALOGY.finditer(text):
            analogies.append(paragraph.line_at(found.start()))
        if _is_bold_colon(paragraph):
            message = "a list of bold words with a colon"
            yield paragraph.line, message, "argue in paragraphs, or make a table"
    for line in analogies[1:]:
        yield line, "'think of it as' for the second time", "once a document is enough"


def _is_bold_colon(paragraph: Paragraph) -> bool:
    if paragraph.kind != "item" or not paragraph.bold or paragraph.bold[0][0] != 0:
        return False
    end = paragraph.bold[0][1]
    return paragraph.text[end - 1 : end] == ":" or paragraph.text[end : end + 1] == ":"


def _headings(page: Page, allowed: set[str], outline: set[str]) -> Iterator[tuple[int, str, str]]:
    for heading in page.headings:
        if heading.level == 1 or heading.text in outline or page.is_generated(heading.line):
            continue
        later = re.sub(r"^\W*(?:\d+\W+)?\w[\w'’-]*|`[^`]*`|[:?.→] *\w[\w'’-]*", " ", heading.text)
        for word in re.findall(r"\b[A-Z][a-z]+\b", later):
            if word not in allowed:
                message = f"{word!r} in {heading.text!r}: headings are in sentence case"
                yield heading.line, message, f"write {word.lower()!r}"


def _title(page: Page, wanted: str | None) -> Iterator[tuple[int, str, str]]:
    titles = [heading for heading in page.headings if heading.level == 1]
    if not titles:
        yield 1, "there is no title", f"start with: # {wanted or '…'}"
    for heading in titles[1:]:
        yield heading.line, f"a second title: {heading.text!r}", "make it a section: two #"
    if titles and wanted and titles[0].text != wanted:
        message = f"the title is {titles[0].text!r}, not {wanted!r}"
        yield titles[0].line, message, "as in course.toml"


def _opening(page: Page) -> Iterator[tuple[int, str, str]]:
    opening = [paragraph for paragraph in page.main_line if paragraph.section is None]
    words = sum(len(re.findall(r"\w[\w'’-]*", paragraph.prose)) for paragraph in opening)
    if words > OPENING:
        yield opening[0].line, f"the opening has {words} words", f"{OPENING} at most"
