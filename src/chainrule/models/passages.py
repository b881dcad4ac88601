"""The course cut into passages: what ``chainrule find`` compares a question with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from chainrule.course.documents.markdown import slug
from chainrule.course.manifest import Document

LONGEST = 110
"""Words a passage may have, so that it fits into an encoder's 256 tokens, formulas included."""

NO_LESSON = {"Exercises", "Where this leads", "References"}

_HEADING = re.compile(r"(#{1,3})\s+(.*)")
_NOT_PROSE = re.compile(
    r"^```.*?^```$|<!--.*?-->|<[^>\n]+>|!\[[^\]]*\]\([^)]*\)|^\|[-| :]+\|$", re.M | re.S
)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_LOOKS = (
    r"\\(math[a-z]+|text[a-z]*|[dt]?frac|cdot|left|right|[bB]ig[a-z]*|quad|top|bar|hat|tilde)\b"
)
_TEX = re.compile(r"\$`?([^$]*?)`?\$")


@dataclass(frozen=True)
class Passage:
    """A few paragraphs of one section: where it stands, and its words with the headings above."""

    document: str
    title: str
    heading: str
    anchor: str
    text: str

    @property
    def place(self) -> str:
        """The file and the anchor."""
        return f"{self.document}.md#{self.anchor}"


def passages_of(document: Document, root: Path) -> list[Passage]:
    """The passages of one document, in order; lists of exercises and references are left out."""
    source = (root / document.path).read_text(encoding="utf-8")
    found: list[Passage] = []
    seen: dict[str, int] = {}
    chapter = ""
    for level, heading, body in _sections(source):
        anchor = slug(heading)
        seen[anchor] = seen.get(anchor, -1) + 1
        anchor += f"-{seen[anchor]}" if seen[anchor] else ""
        if level == 1:
            heading, anchor = document.title, slug(heading)
        chapter = heading if level < 3 else chapter
        if chapter in NO_LESSON:
            continue
        above = ". ".join(dict.fromkeys((document.title, chapter, heading)))
        for text in _chunks(_plain(body)):
            found.append(Passage(document.id, document.title, heading, anchor, f"{above}. {text}"))
    return found


def _sections(source: str) -> list[tuple[int, str, str]]:
    """Level, heading and body of each section; a # in a block of code is no heading."""
    found: list[tuple[int, str, list[str]]] = []
    fenced = False
    for line in source.split("\n"):
        fenced ^= line.startswith("```")
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading:
            found.append((len(heading[1]), heading[2].strip(), []))
        elif found:
            found[-1][2].append(line)
    return [(level, heading, "\n".join(body)) for level, heading, body in found]


def _plain(body: str) -> list[str]:
    """The paragraphs of a section without code, displayed formulas and marks."""
    text = _LINK.sub(r"\1", _NOT_PROSE.sub("", body))
    text = _TEX.sub(lambda found: _spoken(found[1]), text)
    text = re.sub(r"[*`>|]|\[!\w+\]", " ", text)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [part for part in paragraphs if part]


def _spoken(tex: str) -> str:
    """A formula as words: roots by name, other commands by theirs, nothing about looks."""
    tex = re.sub(_LOOKS, " ", tex).replace("\\sqrt", " root of ")
    return re.sub(r"\\([a-zA-Z]+)", r" \1 ", tex).translate(str.maketrans("{}\\", "   "))


def _chunks(paragraphs: list[str]) -> list[str]:
    """Neighbouring paragraphs together, as long as they fit; a longer one is cut into pieces."""
    found: list[list[str]] = []
    for paragraph in paragraphs:
        words = paragraph.split()
        if found and len(found[-1]) + len(words) <= LONGEST:
            found[-1] += words
        else:
            found += [words[i : i + LONGEST] for i in range(0, len(words), LONGEST)]
    return [" ".join(words) for words in found]
