"""The one parse that everything else reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.course.documents.markdown import parse, slug

PAGE = """\
# A title

<!-- generated: header -->

words here

<!-- /generated -->

One [link
here](a.md#b) and `code` and $x_1$ and $`y_{a_b}`$. A **term**, e.g. This. So 5.1<!--= f"{x}"
--> it is, \\$5 a [ref][r]. See <a href="z.md">z</a>
and $z$.

<a id="eq-x"></a>

```math
a = b
```

| a | b |
| --- | --- |
| **$q$**<!--= q --> | ![A drawing](p.svg) |

> A quote with $u$.

- An item

  ```python no-run
  x = 1
  ```

<p align="center">
  <img src="a.svg" alt="A second
  drawing">
  <a href="q.md" id="here">q</a>
</p>

$$
c = d
$$

[r]: http://example.org "title"
"""


@pytest.fixture(scope="module")
def page():
    return parse(PAGE)


def at(page, text):
    """The line on which a text stands."""
    return next(n for n, line in enumerate(page.lines, 1) if text in line)


def test_links_have_the_line_they_start_on(page):
    assert [(link.line, link.target) for link in page.links] == [
        (at(page, "One [link"), "a.md#b"),
        (at(page, "[ref]"), "http://example.org"),
        (at(page, "z.md"), "z.md"),
        (at(page, "q.md"), "q.md"),
    ]


def test_links_know_their_sentence(page):
    sentences = [link.sentence for link in page.links]
    assert sentences[0] == "One link\nhere and `code` and $x_1$ and $y_{a_b}$."
    assert sentences[1] == "So 5.1\n it is, $5 a ref."
    assert sentences[2] == "See z\nand $z$."
    assert sentences[3] == ""


def test_formulas_of_every_spelling(page):
    assert [(f.line, f.tex, f.display, f.dollars) for f in page.formulas] == [
        (at(page, "$x_1$"), "x_1", False, True),
        (at(page, "$x_1$"), "y_{a_b}", False, False),
        (at(page, "and $z$"), "z", False, True),
        (at(page, "a = b"), "a = b", True, False),
        (at(page, "$q$"), "q", False, True),
        (at(page, "$u$"), "u", False, True),
        (at(page, "c = d") - 1, "c = d", True, True),
    ]


def test_computed_numbers_know_what_stands_before_them(page):
    numbers = [c for c in page.comments if c.expression is not None]
    assert [(c.line, c.expression) for c in numbers] == [
        (at(page, "5.1"), 'f"{x}"'),
        (at(page, "= q"), "q"),
    ]
    assert [PAGE[c.start :][:8] for c in numbers] == ['<!--= f"', "<!--= q "]


def test_blocks_images_ids_regions_terms(page):
    assert [(b.line, b.language, b.info, b.code) for b in page.blocks] == [
        (at(page, "```math"), "math", "math", "a = b\n"),
        (at(page, "```python"), "python", "python no-run", "x = 1\n"),
    ]
    assert page.blocks[1].first_line == at(page, "x = 1")
    assert [(i.line, i.target, i.alt.split()) for i in page.images] == [
        (at(page, "p.svg"), "p.svg", ["A", "drawing"]),
        (at(page, "a.svg"), "a.svg", ["A", "second", "drawing"]),
    ]
    assert page.ids == {"eq-x": at(page, "eq-x"), "here": at(page, 'here">')}
    assert [(r.name, r.line, r.end, r.text) for r in page.regions] == [
        ("header", 3, 7, "\nwords here\n")
    ]
    first = next(paragraph for paragraph in page.paragraphs if paragraph.bold)
    assert first.line_at(first.bold[0][0]) == at(page, "**term**")
    assert first.text[slice(*first.bold[0])] == "term"


def test_citations_are_numbers_in_brackets_that_a_reader_sees():
    text = "One [3] `x[4]` $[0, 1]$ [5](a.md) [6][r]\nand\\$ [7, 8].<!--= x[9] -->\n\n## More\n\n"
    page = parse(f"{text}| a [10] | b |\n| --- | --- |\n| [x] | [11](y) |\n\n[r]: a.md\n")
    assert [(c.line, c.numbers, c.section and c.section.text) for c in page.citations] == [
        (1, (3,), None),
        (2, (7, 8), None),
        (6, (10,), "More"),
    ]


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        (
            "Eigenvalues and eigenvectors → PCA intuition",
            "eigenvalues-and-eigenvectors--pca-intuition",
        ),
        ("Où est l’été?", "où-est-lété"),
        ("snake_case & `f(x)`", "snake_case--fx"),
        ("What is 2 + 2?", "what-is-2--2"),
        ("日本語 見出し", "日本語-見出し"),
        ("x² – y½", "x--y"),
        ("[A link](x.md) in **bold**", "a-link-in-bold"),
    ],
)
def test_anchors_are_those_of_github(text, anchor):
    assert parse(f"## {text}\n").headings[0].anchor == anchor


def test_a_bracket_that_is_escaped_or_behind_a_letter_is_no_citation():
    page = parse("A fact [3], an escaped \\[98], and x[99].\n")
    assert [n for citation in page.citations for n in citation.numbers] == [3]


def test_repeated_headings_are_numbered_and_never_collide():
    page = parse("# A\n\n## A\n\n## A-1\n\n## A\n\nB\n=\n")
    assert [h.anchor for h in page.headings] == ["a", "a-1", "a-1-1", "a-2", "b"]
    assert [(h.line, h.level) for h in page.headings][-1] == (9, 1)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("See Fig. 3, i.e. this. And J. Smith.", ["See Fig. 3, i.e. this.", "And J. Smith."]),
        ("It is 3.5 long. $x$ is not.", ["It is 3.5 long.", "$x$ is not."]),
        ('He said "no." She left (at 5.) Then.', ['He said "no."', "She left (at 5.)", "Then."]),
    ],
)
def test_sentences(text, sentences):
    assert [s.text for s in parse(text).paragraphs[0].sentences] == sentences


def test_sections_and_kinds():
    page = parse("# T\n\nopen\n\n## S\n\n> quote\n\n### U\n\n- item\n\n| c |\n|---|\n")
    kinds = [(p.kind, p.section.text if p.section else None) for p in page.paragraphs]
    assert kinds == [
        ("heading", None),
        ("paragraph", None),
        ("heading", "S"),
        ("quote", "S"),
        ("heading", "S"),
        ("item", "S"),
        ("cell", "S"),
    ]
    assert page.section_at(2) is None
    assert page.section_at(11).text == "S"


ASIDES = """\
One.

<details open>
<summary>Look: $`x`$</summary>

Two.

> [!NOTE]
> A **term** is here.
>
> | a |
> | --- |
> | b |

<details><summary>Inner</summary></details>

- <details>

  Three.

  </details>

### A heading

</details>

> A quotation.

`<details>` and <!-- <details> --> are none.

```html
<details>
```

<details><summary>Never closed</summary>

Four.
"""


def test_asides_hold_what_stands_in_them():
    page = parse(ASIDES)
    closed = at(page, "A quotation") - 2
    assert [(a.kind, a.line, a.end, a.summary) for a in page.asides] == [
        ("details", 3, closed, "Look: $`x`$"),
        ("note", 8, 13, ""),
        ("details", 15, 15, "Inner"),
        ("details", 17, 21, ""),
        ("quote", closed + 2, closed + 2, ""),
        ("details", at(page, "Never closed"), 0, "Never closed"),
    ]
    inner = {name: page.aside_at(at(page, name)) for name in ("Two.", "b |", "Three.", "Four.")}
    assert [aside and aside.line for aside in inner.values()] == [3, 8, 17, None]
    prose = [paragraph.text for paragraph in page.main_line]
    assert prose == ["One.", "`<details>` and  are none.", "Four."]


def test_the_kind_of_a_box_is_no_word_of_its_text():
    paragraph = parse(ASIDES).paragraphs[2]
    assert (paragraph.line, paragraph.text) == (8, "\nA term is here.")
    assert parse("It is [!NOTE].\n").paragraphs[0].text == "It is [!NOTE]."


def test_marks_are_bold_words_that_open_a_paragraph():
    texts = ["**By hand.** One.", "**By hand.**", "By hand.", "**By hand.** *a* **b**"]
    not_marks = ["So **By hand.**", "**By hand. Now**", "> **By hand.**", "## **By hand.**"]
    page = parse("\n\n".join([*texts, *not_marks, "**By *hand*.**"]))
    assert page.marked("By hand.") == [1, 3, 7, 17]


PIECES = [
    "<details>",
    "<summary>a</summary>",
    "</details>",
    "> [!TIP]",
    "> a",
    "- ",
    "\n",
    "a",
    "  ",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_asides_are_spans_of_lines(text):
    page = parse(text)
    for aside in page.asides:
        assert aside.line >= 1
        assert aside.end == 0 or aside.line <= aside.end <= text.count("\n") + 1
    assert len(page.main_line) <= len(page.paragraphs)


@given(st.text(alphabet='ab $`*_[]()<>!-#|\\\n=."&;1', max_size=200))
def test_any_text_can_be_parsed(text):
    page = parse(text)
    lines = text.count("\n") + 1
    things = [*page.links, *page.formulas, *page.comments, *page.images, *page.headings]
    assert all(1 <= thing.line <= lines for thing in things)
    assert all(text[c.start :].startswith("<!--") for c in page.comments)
    for paragraph in page.paragraphs:
        assert all(paragraph.line <= s.line <= lines for s in paragraph.sentences)


@given(st.text(max_size=40))
def test_slugs_hold_nothing_that_an_anchor_may_not(text):
    assert not set(slug(text)) & set(" \t.,;:!?()[]{}'\"/\\→–")
