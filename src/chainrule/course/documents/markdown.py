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
from itertools import accumulate
from unicodedata import category as _category

from markdown_it import MarkdownIt
from markdown_it.parser_inline import RuleFuncInlineType
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin

REGION = re.compile(r" generated: ([\w-]+) ")
REGION_CLOSES = " /generated "
NOT_PROSE = re.compile(r"`[^`]*`|\$[^$]*\$")
PLACED = {"backticks", "link", "image", "html_inline", "math_inline", "math_backtick"}
ARXIV = r"arXiv:(?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})"
DOI = r"doi:10\.\d{4,}/\S+?"
CITATION = re.compile(r"(?<![\\\w])\[(\d+(?:, ?\d+)*)\]")
_ALERT = re.compile(r"\[!(\w+)\]")
_SUMMARY = re.compile(r"\s*<summary[^>]*>(.*?)</summary>", re.S)
_TAG = re.compile(r"<(/?[a-zA-Z][\w-]*)((?:\s+[^<>]*?)?)/?>", re.S)
_IN_BACKTICKS = re.compile(r"\$`(.*?)`\$", re.S)
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
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
    """A sentence: its first line, its text, where it ends in the paragraph's text."""

    line: int
    text: str
    end: int


@dataclass
class Paragraph:
    """A run of prose; ``text`` keeps the line breaks, `code` in backticks, formulas in dollars.

    ``kind`` is ``paragraph``, ``item`` (of a list), ``cell`` (of a table), ``quote`` or
    ``heading``; ``section`` is the H2 heading above it, None before the first; ``bold`` holds
    the spans set in bold. ``source`` is how it is spelled; there ``formulas`` holds the spans
    between dollars, dollars included, and ``other`` those of code and HTML.
    """

    line: int
    kind: str
    section: Heading | None
    source: str
    text: str = ""
    bold: list[tuple[int, int]] = field(default_factory=list)
    formulas: list[tuple[int, int]] = field(default_factory=list)
    other: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def prose(self) -> str:
        """The text with code and formulas replaced by ``¤``, line breaks kept."""
        return NOT_PROSE.sub(lambda found: "¤" + "\n" * found[0].count("\n"), self.text)

    def line_at(self, offset: int) -> int:
        """The line of the file on which a position of ``text`` or ``prose`` stands."""
        return self.line + self.text.count("\n", 0, offset)

    def source_line(self, offset: int) -> int:
        """The line of the file on which a position of ``source`` stands."""
        return self.line + self.source.count("\n", 0, offset)

    @property
    def dollars(self) -> list[int]:
        """Where in the source a dollar sign is not escaped and belongs to no formula."""
        known = (*self.formulas, *self.other)
        places = [found.start() for found in re.finditer(r"(?<!\\)\$", self.source)]
        return [at for at in places if not any(start <= at < end for start, end in known)]

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
            Sentence(self.line_at(start), self.text[start:end].strip(), end)
            for start, end in spans
            if self.text[start:end].strip()
        ]

    def sentence_at(self, offset: int) -> str:
        """The sentence that holds a position of ``text``."""
        return next((s.text for s in self.sentences if offset < s.end), "")


@dataclass(frozen=True)
class Link:
    """A link; ``paragraph`` and ``offset`` say where it stands.

    A raw HTML link outside a paragraph has none.
    """

    line: int
    target: str
    text: str
    paragraph: Paragraph | None = field(default=None, repr=False)
    offset: int = 0

    @property
    def sentence(self) -> str:
        """The sentence around the link, or the empty text."""
        return self.paragraph.sentence_at(self.offset) if self.paragraph else ""


@dataclass(frozen=True)
class Image:
    """A picture and its alternative text."""

    line: int
    target: str
    alt: str


@dataclass(frozen=True)
class Block:
    """A fenced block of code; ``line`` is that of the opening fence."""

    line: int
    info: str
    code: str

    @property
    def first_line(self) -> int:
        """The line on which the code starts."""
        return self.line + 1

    @property
    def language(self) -> str:
        """``python`` of ``python needs=minilm``."""
        return (self.info.split() or [""])[0]


@dataclass(frozen=True)
class Formula:
    """A formula: whether it stands on its own lines, whether dollars alone are around it."""

    line: int
    tex: str
    display: bool
    dollars: bool


@dataclass(frozen=True)
class Comment:
    """An HTML comment: its inner text, and where it begins in the source.

    ``expression`` is the ``x`` of ``<!--= x -->``.
    """

    line: int
    text: str
    start: int

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


@dataclass
class Region:
    """A generated region: the lines of its two markers (``end`` 0: none) and the text between."""

    name: str
    line: int
    end: int = 0
    text: str = ""


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

    @cached_property
    def lines(self) -> list[str]:
        """The source, line by line; line n is ``lines[n - 1]``."""
        return self.source.split("\n")

    @cached_property
    def anchors(self) -> set[str]:
        """Everything that ``#…`` may point at: headings and explicit ids."""
        return {heading.anchor for heading in self.headings} | set(self.ids)

    @cached_property
    def code_lines(self) -> set[int]:
        """The lines of blocks of code, fences included."""
        return {n for b in self.blocks for n in range(b.line, b.line + b.code.count("\n") + 2)}

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
    def main_line(self) -> list[Paragraph]:
        """The prose that a first reading needs: no headings, nothing generated, no asides."""
        return [
            paragraph
            for paragraph in self.paragraphs
            if paragraph.kind != "heading"
            and not self.is_generated(paragraph.line)
            and not self.aside_at(paragraph.line)
        ]

    def marked(self, words: str) -> list[int]:
        """The lines of main-line paragraphs that open with these words in bold."""
        return [
            paragraph.line
            for paragraph in self.main_line
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
        self.line_starts = [0, *accumulate(len(line) + 1 for line in self.page.lines)]
        self.scanned = 0
        self.open_details: list[Aside] = []
        self.walk(parser().parse(source))

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
            elif token.type == "fence":
                self.page.blocks.append(Block(line, token.info.strip(), token.content))
                if token.info.strip() == "math":
                    formula = Formula(line + 1, token.content.strip(), display=True, dollars=False)
                    self.page.formulas.append(formula)
            elif token.type == "math_block":
                formula = Formula(line, token.content.strip(), display=True, dollars=True)
                self.page.formulas.append(formula)
            elif token.type == "html_block":
                self.html(token.content, line, None)
            elif token.type == "blockquote_open" and token.map:
                alert = _ALERT.search(self.page.lines[line - 1])
                kind = alert[1].lower() if alert else "quote"
                self.page.asides.append(Aside(kind, line, token.map[1]))

    def inline(self, token: Token, line: int, context: list[str], opener: Token) -> None:
        """Visit the inline tokens of one paragraph, cell or heading."""
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
        paragraph = Paragraph(line, kind, self.section, token.content)
        self.page.paragraphs.append(paragraph)
        links: list[tuple[int, str, int]] = []
        for child in token.children or []:
            self.visit(child, paragraph, links)

    def visit(self, child: Token, paragraph: Paragraph, links: list[tuple[int, str, int]]) -> None:
        """Take over what one inline token says; ``links`` are those that it stands in."""
        kind, source, text = child.type, paragraph.source, paragraph.text
        start, end = child.meta.get("span", (0, 0))
        here = paragraph.source_line(start)
        if kind == "text":
            self.text(child.content, paragraph)
        elif kind in ("softbreak", "hardbreak"):
            paragraph.text += "\n"
        elif kind == "code_inline":
            paragraph.other.append((start, end))
            paragraph.text += f"`{source[start:end].strip('`')}`"
        elif kind == "math_inline":
            paragraph.formulas.append((start, end))
            dollars = child.markup != "$`"
            self.page.formulas.append(Formula(here, child.content, display=False, dollars=dollars))
            paragraph.text += f"${child.content}$"
        elif kind == "html_inline":
            paragraph.other.append((start, end))
            self.html(child.content, here, paragraph)
            paragraph.text += "\n" * child.content.count("\n")
        elif kind == "image":
            self.page.images.append(Image(here, str(child.attrs["src"]), child.content))
        elif kind == "link_open":
            links.append((here, str(child.attrs["href"]), len(text)))
        elif kind == "link_close":
            at, target, begun = links.pop()
            self.page.links.append(Link(at, target, text[begun:], paragraph, begun))
        elif kind == "strong_open":
            paragraph.bold.append((len(text), 0))
        elif kind == "strong_close":
            paragraph.bold[-1] = (paragraph.bold[-1][0], len(text))

    def text(self, raw: str, paragraph: Paragraph) -> None:
        """Take over text, and what it cites; the mark of a box is none."""
        if not paragraph.text and _ALERT.fullmatch(raw):
            return
        for found in CITATION.findall(raw) if "[" in raw else ():
            if f"\\[{found}]" not in paragraph.source:
                numbers = tuple(int(number) for number in found.split(","))
                line = paragraph.line_at(len(paragraph.text))
                self.page.citations.append(Citation(line, numbers, paragraph.section))
        paragraph.text += raw

    def heading(self, token: Token, line: int, level: int) -> None:
        """Give a heading its anchor; the second of a name gets ``-1``, the third ``-2``."""
        shown = (child for child in token.children or [] if child.type != "html_inline")
        text = "".join(child.content for child in shown)
        base = anchor = slug(text)
        while anchor in self.slugs:
            self.slugs[base] += 1
            anchor = f"{base}-{self.slugs[base]}"
        self.slugs[anchor] = 0
        heading = Heading(line, level, text, anchor)
        self.page.headings.append(heading)
        if level <= 2:
            self.section = heading if level == 2 else None

    def html(self, raw: str, line: int, paragraph: Paragraph | None) -> None:
        """Take links, pictures, anchors and comments out of raw HTML."""
        offset = len(paragraph.text) if paragraph else 0
        for comment in re.finditer(r"<!--(.*?)-->", raw, re.S):
            place = max(self.scanned, self.line_starts[line - 1])
            start = self.page.source.find(comment[0], place)
            self.scanned = start + len(comment[0])
            at = line + raw.count("\n", 0, comment.start())
            self.page.comments.append(Comment(at, comment[1].rstrip(), start))
            self.region(at, comment[1])
        bare = re.sub(r"<!--.*?-->", lambda found: "\n" * found[0].count("\n"), raw, flags=re.S)
        for tag in _TAG.finditer(bare):
            at = line + bare.count("\n", 0, tag.start())
            name, attributes = tag[1].lower(), dict(_ATTRIBUTE.findall(tag[2]))
            if "id" in attributes:
                self.page.ids.setdefault(attributes["id"], at)
            if target := attributes.get("href") or attributes.get("srcset"):
                self.page.links.append(Link(at, target, "", paragraph, offset))
            if name == "img":
                image = Image(at, attributes.get("src", ""), attributes.get("alt", ""))
                self.page.images.append(image)
            elif name == "details":
                found = _SUMMARY.match(bare, tag.end())
                aside = Aside("details", at, summary=found[1] if found else "")
                self.open_details.append(aside)
                self.page.asides.append(aside)
            elif name == "/details" and self.open_details:
                self.open_details.pop().end = at

    def region(self, line: int, comment: str) -> None:
        """Open or close a generated region, if a comment marks one."""
        regions = self.page.regions
        if found := REGION.fullmatch(comment):
            regions.append(Region(found[1], line))
        elif comment == REGION_CLOSES and regions and not regions[-1].end:
            regions[-1].end = line
            regions[-1].text = "\n".join(self.page.lines[regions[-1].line : line - 1])


@cache
def parser(mathematics: bool = True) -> MarkdownIt:
    """GitHub's Markdown; without ``mathematics`` as a parser sees it that knows no formulas."""
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    if mathematics:
        dollarmath_plugin(markdown, allow_space=False, allow_digits=False, allow_labels=False)
        markdown.inline.ruler.before("math_inline", "math_backtick", _math_in_backticks)
    for rule in list(markdown.inline.ruler.__rules__):
        if rule.name in PLACED:
            markdown.inline.ruler.at(rule.name, _placed(rule.fn))
    return markdown


def _placed(rule: RuleFuncInlineType) -> RuleFuncInlineType:
    """A rule of the parser that also says where in the source its first token stands."""

    def placed(state: StateInline, silent: bool) -> bool:
        start, count = state.pos, len(state.tokens)
        if not rule(state, silent):
            return False
        made = [token for token in state.tokens[count:] if token.type != "text"]
        if made and not silent:
            made[0].meta["span"] = (start, state.pos)
        return True

    return placed


def _math_in_backticks(state: StateInline, silent: bool) -> bool:
    """GitHub's second spelling of an inline formula: $`x`$."""
    found = _IN_BACKTICKS.match(state.src, state.pos)
    if not found:
        return False
    if not silent:
        token = state.push("math_inline", "math", 0)
        token.content, token.markup = found[1], "$`"
    state.pos = found.end()
    return True
