"""One parse of a Markdown document, for everything that reads documents.

`parse` reads a text once and returns a `Page`: headings with GitHub's anchors, links, images,
fenced blocks, formulas, comments, citations, generated regions, asides, paragraphs with their
sentences.
Lines are 1-based lines of the file. The parser is the site's (markdown-it-py with dollarmath), with
GitHub's rule for a dollar sign: no space inside, no digit outside.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from unicodedata import category as _category

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

REGION_OPENS = re.compile(r"^<!-- generated: ([\w-]+) -->\s*$")
REGION_CLOSES = re.compile(r"^<!-- /generated -->\s*$")
NOT_PROSE = re.compile(r"`[^`]*`|\$[^$]*\$")
CITATION = re.compile(r"\[(\d+(?:, ?\d+)*)\]")
_ALERT = re.compile(r"\[!(\w+)\]")
_DETAILS = re.compile(r"<(/?)details\b[^>]*>(?:\s*<summary[^>]*>(.*?)</summary>)?", re.I | re.S)
_TAG = re.compile(r"<([a-zA-Z][\w-]*)((?:\s+[^<>]*?)?)/?>", re.S)
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_SENTENCE_ENDS = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[`$]*[A-Z0-9`$])")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|cf|vs|al|Fig|Eq|Sec|Ch|pp|Dr|St|No)|\b[A-Z])\.$")


@dataclass(frozen=True)
class Heading:
    """A heading, and the anchor that GitHub and the site give it."""

    line: int
    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Sentence:
    """A sentence: its text, its first line, its span within the paragraph's text."""

    line: int
    text: str
    start: int
    end: int


@dataclass
class Paragraph:
    """A run of prose; ``text`` keeps the line breaks, `code` in backticks, formulas in dollars.

    ``kind`` is ``paragraph``, ``item`` (of a list), ``cell`` (of a table), ``quote`` or
    ``heading``; ``section`` is the H2 heading above it, None before the first; ``bold`` holds
    the spans set in bold.
    """

    line: int
    kind: str
    section: Heading | None
    text: str = ""
    bold: list[tuple[int, int]] = field(default_factory=list)

    @property
    def prose(self) -> str:
        """The text with code and formulas replaced by ``¤``, line breaks kept."""
        return NOT_PROSE.sub(lambda found: "¤" + "\n" * found[0].count("\n"), self.text)

    def line_at(self, offset: int) -> int:
        """The line of the file on which a position of ``text`` or ``prose`` stands."""
        return self.line + self.text.count("\n", 0, offset)

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The sentences, in order; common abbreviations and initials do not end one."""
        ends = [
            found.end()
            for found in _SENTENCE_ENDS.finditer(self.text)
            if not _ABBREVIATION.search(self.text, max(0, found.start() - 6), found.start() + 1)
        ]
        spans = zip([0, *ends], [*ends, len(self.text)], strict=True)
        return [
            Sentence(self.line_at(start), self.text[start:end].strip(), start, end)
            for start, end in spans
            if self.text[start:end].strip()
        ]

    def sentence_at(self, offset: int) -> Sentence | None:
        """The sentence that holds a position of ``text``."""
        return next((s for s in self.sentences if s.start <= offset < s.end), None)


@dataclass(frozen=True)
class Link:
    """A link: ``kind`` is ``link`` or ``html``; ``paragraph`` and ``offset`` say where it stands.

    A raw HTML link outside a paragraph has none.
    """

    line: int
    target: str
    text: str
    kind: str
    paragraph: Paragraph | None = field(default=None, repr=False)
    offset: int = 0

    @property
    def sentence(self) -> str:
        """The sentence around the link, or the empty text."""
        found = self.paragraph and self.paragraph.sentence_at(self.offset)
        return found.text if found else ""


@dataclass(frozen=True)
class Image:
    """A picture and its alternative text."""

    line: int
    target: str
    alt: str


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is that of the opening fence, ``first_line`` that of the code."""

    line: int
    info: str
    code: str

    @property
    def first_line(self) -> int:
        """The line on which the code starts."""
        return self.line + 1

    @property
    def language(self) -> str:
        """``python`` of ``python no-run``."""
        return (self.info.split() or [""])[0]

    @property
    def options(self) -> list[str]:
        """``["no-run"]`` of ``python no-run``."""
        return self.info.split()[1:]


@dataclass(frozen=True)
class Formula:
    """A formula; ``style`` is ``dollar``, ``backtick``, ``double`` (``$$``) or ``fence``."""

    line: int
    tex: str
    style: str

    @property
    def display(self) -> bool:
        """Whether it stands on its own lines."""
        return self.style in ("double", "fence")


@dataclass(frozen=True)
class Comment:
    """An HTML comment: its inner text, its span in the source, the source before it.

    ``before`` reaches back to the start of the paragraph or cell. ``expression`` is the ``x``
    of ``<!--= x -->``.
    """

    line: int
    text: str
    before: str
    start: int
    end: int

    @property
    def expression(self) -> str | None:
        """What a computed number evaluates, or None for an ordinary comment."""
        return self.text[1:].strip() if self.text.startswith("=") else None


@dataclass(frozen=True)
class Citation:
    """The numbers in one pair of brackets, and the H2 heading above: ``[3]`` or ``[3, 4]``.

    Brackets in code, formulas and comments cite nothing, and neither does a link [3](…).
    """

    line: int
    numbers: tuple[int, ...]
    section: Heading | None


@dataclass(frozen=True)
class Region:
    """A generated region: the lines of its two markers and the text between them."""

    name: str
    line: int
    end: int
    text: str


@dataclass
class Aside:
    """What a first reading may skip: ``<details>``, a quotation, or a box.

    ``kind`` is ``details``, ``quote``, or a box's own, ``note`` or ``tip``. ``summary`` is what
    ``<details>`` show while closed; what is never closed has ``end`` 0 and holds nothing.
    """

    kind: str
    line: int
    end: int = 0
    summary: str = ""


@dataclass(frozen=True)
class Inline:
    """The source of one paragraph, cell or heading: for rules about how it is spelled.

    ``formulas`` holds the spans between dollars, dollars included; ``dollars`` the places of
    dollar signs that belong to no formula and are not escaped.
    """

    line: int
    source: str
    formulas: list[tuple[int, int]]
    dollars: list[int]

    def line_at(self, offset: int) -> int:
        """The line of the file on which a position stands."""
        return self.line + self.source.count("\n", 0, offset)


@dataclass
class Page:
    """A parsed document. All lists are in the order of the file."""

    source: str
    headings: list[Heading] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    formulas: list[Formula] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    asides: list[Aside] = field(default_factory=list)
    paragraphs: list[Paragraph] = field(default_factory=list)
    inlines: list[Inline] = field(default_factory=list)

    @cached_property
    def lines(self) -> list[str]:
        """The source, line by line; line n is ``lines[n - 1]``."""
        return self.source.split("\n")

    @cached_property
    def anchors(self) -> set[str]:
        """Everything that ``#…`` may point at: headings and explicit ids."""
        return {heading.anchor for heading in self.headings} | set(self.ids)

    @property
    def title(self) -> str:
        """The text of the first H1, or nothing."""
        return next((heading.text for heading in self.headings if heading.level == 1), "")

    @property
    def definitions(self) -> list[tuple[int, str]]:
        """Bold text with its line: the terms that the document defines."""
        return [
            (paragraph.line_at(start), paragraph.text[start:end])
            for paragraph in self.paragraphs
            for start, end in paragraph.bold
        ]

    @property
    def words(self) -> int:
        """Words of prose outside generated regions; code and formulas do not count."""
        return sum(
            len(re.findall(r"\w[\w'’-]*", paragraph.prose))
            for paragraph in self.paragraphs
            if not self.is_generated(paragraph.line)
        )

    @cached_property
    def vocabulary(self) -> set[str]:
        """Every word of the source, in lower case."""
        return set(re.findall(r"[a-z]+", self.source.lower()))

    def is_generated(self, line: int) -> bool:
        """Whether a line stands in a generated region."""
        return any(region.line <= line <= region.end for region in self.regions)

    def aside_at(self, line: int) -> Aside | None:
        """The innermost aside that holds a line."""
        return next((a for a in reversed(self.asides) if a.line <= line <= a.end), None)

    @cached_property
    def main_line(self) -> list[tuple[Paragraph, Inline]]:
        """The prose that a first reading needs: no headings, nothing generated, no asides."""
        return [
            (paragraph, inline)
            for paragraph, inline in zip(self.paragraphs, self.inlines, strict=True)
            if paragraph.kind != "heading"
            and not self.is_generated(paragraph.line)
            and not self.aside_at(paragraph.line)
        ]

    def marked(self, words: str) -> list[int]:
        """The lines of main-line paragraphs that open with these words in bold."""
        return [
            paragraph.line
            for paragraph, _ in self.main_line
            if paragraph.bold[:1] == [(0, len(words))] and paragraph.text.startswith(words)
        ]

    def section_at(self, line: int) -> Heading | None:
        """The H2 heading under which a line stands, None before the first."""
        above = [h for h in self.headings if h.level <= 2 and h.line <= line]
        return above[-1] if above and above[-1].level == 2 else None


def slug(text: str) -> str:
    """GitHub's anchor for a heading: lower case, no punctuation, a hyphen for each space."""
    text = text.strip().lower()
    kept = (c for c in text if c in "- " or _category(c)[0] in "LM" or _category(c) in ("Nd", "Pc"))
    return "".join(kept).replace(" ", "-")


def parse(source: str) -> Page:
    """Parse a document once."""
    return _Reader(source).page


class _Reader:
    """Walks the tokens of one document and fills its page."""

    def __init__(self, source: str):
        self.page = Page(source)
        self.slugs: dict[str, int] = {}
        self.section: Heading | None = None
        self.line_starts = [0]
        for line in self.page.lines:
            self.line_starts.append(self.line_starts[-1] + len(line) + 1)
        self.scanned = 0
        self.open_details: list[Aside] = []
        self.walk(parser().parse(source))
        self.find_regions()

    def walk(self, tokens: list[Token]) -> None:
        """Visit the block tokens."""
        context: list[str] = []
        for position, token in enumerate(tokens):
            line = token.map[0] + 1 if token.map else 0
            if token.nesting == 1:
                context.append(token.type)
            elif token.nesting == -1:
                context.pop()
            if token.type == "inline":
                self.inline(token, line, context, tokens[position - 1])
            elif token.type in ("fence", "code_block"):
                self.page.blocks.append(Block(line, token.info.strip(), token.content))
                if token.info.strip() == "math":
                    self.page.formulas.append(Formula(line + 1, token.content.strip(), "fence"))
            elif token.type == "math_block":
                self.page.formulas.append(Formula(line, token.content.strip(), "double"))
            elif token.type == "html_block":
                self.html(token.content, line, None, "")
            elif token.type == "blockquote_open" and token.map:
                alert = _ALERT.search(self.page.lines[line - 1])
                kind = alert[1].lower() if alert else "quote"
                self.page.asides.append(Aside(kind, line, token.map[1]))

    def inline(self, token: Token, line: int, context: list[str], opener: Token) -> None:
        """Visit the inline tokens of one paragraph, cell or heading, keeping count of lines."""
        kind = "paragraph"
        if opener.type == "heading_open":
            kind = "heading"
            self.heading(token, line, int(opener.tag[1]))
        elif opener.type in ("td_open", "th_open"):
            kind = "cell"
        elif "list_item_open" in context:
            kind = "item"
        elif "blockquote_open" in context:
            kind = "quote"
        paragraph = Paragraph(line, kind, self.section)
        self.page.paragraphs.append(paragraph)
        source = token.content
        flat = source.replace("\n", " ")
        formulas: list[tuple[int, int]] = []
        other: list[tuple[int, int]] = []  # code and HTML
        cursor, text, bold = 0, "", 0
        open_links: list[tuple[int, str, int]] = []
        for child in token.children or []:
            kind, raw, start = child.type, child.content, cursor
            if raw:
                found = flat.find(raw.replace("\n", " "), cursor)
                if found >= 0:
                    start, cursor = found, found + len(raw)
                elif kind == "text" and "\\" in flat:
                    cursor = self.escaped(flat, raw, cursor)
            if kind == "text":
                if not text and _ALERT.fullmatch(raw):
                    continue
                for found_numbers in CITATION.findall(raw) if "[" in raw else ():
                    numbers = tuple(int(number) for number in found_numbers.split(","))
                    at = line + text.count("\n")
                    self.page.citations.append(Citation(at, numbers, self.section))
                text += raw
                continue
            here = line + source.count("\n", 0, start)
            if kind in ("softbreak", "hardbreak"):
                text += "\n"
                cursor = max(cursor, source.find("\n", cursor) + 1)
            elif kind == "code_inline":
                other.append((start, cursor))
                text += f"`{source[start:cursor]}`"
            elif kind == "math_inline":
                width = len(child.markup)
                formulas.append((start - width, cursor + width))
                cursor += width
                style = "backtick" if child.markup == "$`" else "dollar"
                self.page.formulas.append(Formula(here, raw, style))
                text += f"${raw}$"
            elif kind == "html_inline":
                other.append((start, cursor))
                self.html(raw, here, paragraph, source[:start], len(text))
                text += "\n" * raw.count("\n")
            elif kind == "image":
                self.page.images.append(Image(here, str(child.attrs["src"]), raw))
            elif kind == "link_open":
                open_links.append((here, str(child.attrs["href"]), len(text)))
            elif kind == "link_close":
                at, target, begun = open_links.pop()
                self.page.links.append(Link(at, target, text[begun:], "link", paragraph, begun))
            elif kind == "strong_open":
                bold = len(text)
            elif kind == "strong_close":
                paragraph.bold.append((bold, len(text)))
        paragraph.text = text
        dollars = (
            []
            if "$" not in source
            else [
                found.start()
                for found in re.finditer(r"(?<!\\)\$", source)
                if not any(start <= found.start() < end for start, end in (*formulas, *other))
            ]
        )
        self.page.inlines.append(Inline(line, source, formulas, dollars))

    def escaped(self, flat: str, text: str, cursor: int) -> int:
        """Where a text ends that the source spells with backslashes; the cursor if nowhere."""
        spelled = "".join(rf"\\?{re.escape(character)}" for character in text)
        found = re.compile(spelled).search(flat, cursor)
        return found.end() if found else cursor

    def heading(self, token: Token, line: int, level: int) -> None:
        """Give a heading its anchor; the second of a name gets ``-1``, the third ``-2``."""
        text = "".join(
            child.content for child in token.children or [] if child.type != "html_inline"
        )
        base = anchor = slug(text)
        while anchor in self.slugs:
            self.slugs[base] += 1
            anchor = f"{base}-{self.slugs[base]}"
        self.slugs[anchor] = 0
        heading = Heading(line, level, text, anchor)
        self.page.headings.append(heading)
        if level <= 2:
            self.section = heading if level == 2 else None

    def html(
        self, raw: str, line: int, paragraph: Paragraph | None, before: str, offset: int = 0
    ) -> None:
        """Take links, pictures, anchors and comments out of raw HTML."""
        for found in re.finditer(r"<!--(.*?)-->", raw, re.S):
            start = self.page.source.find(found[0], max(self.scanned, self.line_starts[line - 1]))
            self.scanned = start + len(found[0])
            at = line + raw.count("\n", 0, found.start())
            self.page.comments.append(Comment(at, found[1].rstrip(), before, start, self.scanned))
        bare = re.sub(r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), raw, flags=re.S)
        for found in _DETAILS.finditer(bare):
            at = line + bare.count("\n", 0, found.start())
            if not found[1]:
                self.open_details.append(Aside("details", at, summary=found[2] or ""))
                self.page.asides.append(self.open_details[-1])
            elif self.open_details:
                self.open_details.pop().end = at
        for tag in _TAG.finditer(bare):
            at = line + bare.count("\n", 0, tag.start())
            attributes = {
                m[1].lower(): m[2] or m[3] or m[4] or "" for m in _ATTRIBUTE.finditer(tag[2])
            }
            name = tag[1].lower()
            for key in ("id", "name") if name == "a" else ("id",):
                if attributes.get(key):
                    self.page.ids.setdefault(attributes[key], at)
            if name == "a" and "href" in attributes:
                self.page.links.append(Link(at, attributes["href"], "", "html", paragraph, offset))
            elif name == "img":
                image = Image(at, attributes.get("src", ""), attributes.get("alt", ""))
                self.page.images.append(image)

    def find_regions(self) -> None:
        """Pair the markers of generated regions; an unclosed one has ``end`` 0."""
        name, opened = "", 0
        for comment in self.page.comments:
            line = self.page.lines[comment.line - 1]
            if found := REGION_OPENS.match(line):
                self.close_region(name, opened, 0)
                name, opened = found[1], comment.line
            elif REGION_CLOSES.match(line):
                self.close_region(name, opened, comment.line)
                name, opened = "", 0
        self.close_region(name, opened, 0)

    def close_region(self, name: str, opened: int, closed: int) -> None:
        """Record a region, unless none is open."""
        if opened:
            text = "\n".join(self.page.lines[opened : closed - 1]) if closed else ""
            self.page.regions.append(Region(name, opened, closed, text))


@cache
def parser(mathematics: bool = True) -> MarkdownIt:
    """GitHub's Markdown; without ``mathematics`` as a parser sees it that knows no formulas."""
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    if mathematics:
        dollarmath_plugin(markdown, allow_space=False, allow_digits=False, allow_labels=False)
        markdown.inline.ruler.before("math_inline", "math_backtick", _math_in_backticks)
    return markdown


def _math_in_backticks(state: StateInline, silent: bool) -> bool:
    """GitHub's second spelling of an inline formula: $`x`$."""
    if not state.src.startswith("$`", state.pos):
        return False
    end = state.src.find("`$", state.pos + 2)
    if end < 0:
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content = state.src[state.pos + 2 : end]
        token.markup = "$`"
    state.pos = end + 2
    return True
