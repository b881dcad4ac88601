"""Each fault, planted by hand in a clean course, is reported with its file and line."""

from datetime import date

import pytest

from chainrule.course.audit import Audit

LENGTHS = "math-foundations/lengths.md"
SLOPES = "math-foundations/slopes.md"
LENGTHS_PY = "src/chainrule/math_foundations/lengths.py"
SLOPES_PY = "src/chainrule/math_foundations/slopes.py"
NOTEBOOK = "notebooks/01-hill.ipynb"
END = "\n## References"


def edit(path, old, new):
    return lambda course: course.edit(path, old, new)


def add(path, text):
    return lambda course: course.add(path, text)


USING = """
[[application]]
id = "hills"
modules = ["chainrule.hills.paths"]
builds_on = ["BUILT"]

[[ask]]"""


def using(built, code="", module="", uses='uses = ["hills"]\n'):
    """Let Lengths use an application, with a block of code, and give the application a module."""

    def plant(course):
        where = 'title = "Lengths"\n'
        course.edit("course.toml", where, where + uses)
        course.edit("course.toml", "\n[[ask]]", USING.replace("BUILT", built))
        course.add("src/chainrule/hills/paths.py", f'"""Paths."""\n{module}')
        if code:
            course.edit(LENGTHS, "\n## What people", f"\n```python\n{code}\n```\n\n## What people")

    return plant


def say(text, path=SLOPES):
    """Add a paragraph to a document."""
    return edit(path, "\n## What people", f"\n{text}\n\n## What people")


def remove(path):
    return lambda course: (course.root / path).unlink()


NEED = '    { id = "math-foundations/slopes", because = "Learning goes down a slope." },\n'
MORE = '    {{ id = "{}", because = "It is needed here." }},\n'

# check, what is planted, file, what stands on the line, what the message says
MANIFEST = [
    (
        using("math-foundations/slopes"),
        "uses",
        "math-foundations/lengths uses hills, which builds on math-foundations/slopes",
    ),
    (
        using("math-foundations/lengths", uses='uses = ["valleys"]\n'),
        "uses",
        "math-foundations/lengths uses valleys, which is no application",
    ),
    (
        using("math-foundations/peaks", uses=""),
        "builds_on",
        "hills builds on math-foundations/peaks, which is no document",
    ),
    (
        edit("course.toml", 'answer = "0.13"', 'answer = "0.14"'),
        '"math-foundations/slopes"',
        "the answer about math-foundations/slopes is 0.125, not 0.14",
    ),
    (
        edit("course.toml", 'computed = "1 / 8"', 'computed = "1 / 0"'),
        '"math-foundations/slopes"',
        "the question about math-foundations/slopes cannot be computed: division by zero",
    ),
    (
        edit(
            "course.toml",
            '[[ask]]\ndocument = "math-foundations/slopes"',
            '[[ask]]\ndocument = "math-foundations/hills"',
        ),
        '"math-foundations/slopes"',
        "math-foundations/slopes has no question for `chainrule path --ask`",
    ),
    (
        edit(
            "course.toml",
            '[[ask]]\ndocument = "math-foundations/slopes"',
            '[[ask]]\ndocument = "math-foundations/hills"',
        ),
        '"math-foundations/hills"',
        "a question asks about math-foundations/hills, which is no document",
    ),
    (
        edit(
            "course.toml",
            "concepts =",
            f"needs = [\n{MORE.format('neural-networks/neurons')}]\nconcepts =",
        ),
        "neural-networks/neurons",
        "a circle: math-foundations/lengths → math-foundations/slopes → neural-networks/neurons → "
        "math-foundations/lengths",
    ),
    (
        edit("course.toml", NEED, NEED + MORE.format("math-foundations/lengths")),
        "math-foundations/lengths",
        "neural-networks/neurons need not name math-foundations/lengths: "
        "math-foundations/lengths → math-foundations/slopes → neural-networks/neurons implies it",
    ),
    (
        edit(
            "course.toml",
            "concepts =",
            f"needs = [\n{MORE.format('neural-networks/neurons')}]\nconcepts =",
        ),
        "neural-networks/neurons",
        "math-foundations/lengths stands before neural-networks/neurons, which it needs",
    ),
    (
        edit("course.toml", NEED, MORE.format("math-foundations/slope")),
        "math-foundations/slope",
        "needs math-foundations/slope, which is no document",
    ),
    (
        edit("course.toml", NEED, NEED + MORE.format("neural-networks/neurons")),
        '{ id = "neural-networks/neurons"',
        "a circle: neural-networks/neurons → neural-networks/neurons",
    ),
    (edit("course.toml", NEED, NEED + NEED), "slopes", "needs math-foundations/slopes twice"),
    (
        edit("course.toml", 'id = "neural-networks/neurons"', 'id = "math-foundations/slopes"'),
        'id = "math-foundations/slopes"',
        "there are two documents of the id 'math-foundations/slopes'",
    ),
    (
        edit("course.toml", 'title = "Neurons"', 'title = "Slopes"'),
        'title = "Slopes"',
        "there are two documents of the title 'Slopes'",
    ),
    (
        edit("course.toml", '"neural-networks/neurons"', '"networks/neurons"'),
        'id = "networks/neurons"',
        "no folder 'networks'",
    ),
    (edit("course.toml", "phase = 2", "phase = 3"), "phase = 3", "there is no phase 3"),
    (edit("course.toml", "phase = 2", "phase = 1"), "number = 2", "phase 2 has no document"),
    (edit("course.toml", "number = 2", "number = 4"), "[[phase]]", "numbered [1, 4]"),
    (edit("course.toml", '["*"]', '["all"]'), 'goals = ["all"]', "track 'all' leads to all"),
    (
        edit("course.toml", 'anchor = "unit-arrows"', 'anchor = "units"'),
        'anchor = "units"',
        "'Unit arrows' has the anchor 'units'",
    ),
    (
        edit(
            "course.toml",
            '    { text = "Unit arrows", anchor = "unit-arrows" },\n',
            '    { text = "Unit arrows", anchor = "unit-arrows" },\n' * 2,
        ),
        'anchor = "unit-arrows"',
        "two outline bullets have the anchor 'unit-arrows'",
    ),
    (edit("course.toml", '"01-hill"', '"02-hill"'), '"02-hill"', "stands in place 01"),
    (
        edit(
            "course.toml", 'serves = ["math-foundations/slopes"]', 'serves = ["math-foundations/x"]'
        ),
        "serves",
        "notebook '01-hill' serves math-foundations/x, which is no document",
    ),
    (add("training/stray.md", "# Stray\n"), "# Stray", "not in course.toml"),
    (add("notebooks/02-stray.ipynb", "{}\n"), "{}", "not in course.toml"),
    (remove(SLOPES_PY), "# Slopes", "has no module"),
    (remove("tests/math_foundations/test_slopes.py"), "# Slopes", "has no test"),
    (remove("exercises/math-foundations/slopes.py"), "# Slopes", "has no exercises"),
    (remove("figures/math-foundations/slopes.py"), "# Slopes", "has no figures"),
]
ASK = '\n[[ask]]\ndocument = "math-foundations/lengths"'
PAIR = '\n[[related]]\nbetween = ["{}", "{}"]\nbecause = "A slope is a ratio of lengths."\n'


def relate(one, other):
    """Call two documents related."""
    return edit("course.toml", ASK, PAIR.format(one, other) + ASK)


def number(slug, text):
    """Give a document its number in the roadmap."""
    return edit("course.toml", f'title = "{slug}"\n', f'title = "{slug}"\nnumber = "{text}"\n')


MANIFEST += [
    (
        relate("math-foundations/lengths", "math-foundations/hills"),
        '"math-foundations/hills"]',
        "a pair names math-foundations/hills, which is no document",
    ),
    (number("Slopes", "2.1"), 'number = "2.1"', "number 2.1 is not in phase 1"),
    (
        lambda course: (number("Slopes", "1.1")(course), number("Lengths", "1.1")(course)),
        'number = "1.1"',
        "there are two documents of the number '1.1'",
    ),
]
UNLINK = edit(
    SLOPES, '[lengths][first]: see <a href="lengths.md#unit-arrows">arrows</a>', "lengths"
)
RELATED = [
    (
        lambda course: (
            relate("math-foundations/lengths", "math-foundations/slopes")(course),
            UNLINK(course),
        ),
        "# Slopes",
        "math-foundations/lengths is related and is linked nowhere in the text",
    ),
    (
        lambda course: (
            relate("math-foundations/slopes", "math-foundations/lengths")(course),
            edit(LENGTHS, "[slopes](slopes.md#rise-over-run)", "slopes")(course),
        ),
        "# Lengths",
        "math-foundations/slopes is related and is linked nowhere in the text",
    ),
    (
        relate("math-foundations/slopes", "math-foundations/slopes"),
        "# Slopes",
        "math-foundations/slopes is related and is linked nowhere in the text",
    ),
    (
        lambda course: (UNLINK(course), say("The two\nnorms, by Pythagoras.")(course)),
        "norms",
        "'norm' is taught in math-foundations/lengths, which is not linked before",
    ),
    (
        edit(SLOPES, "The slope is", "By pythagoras, even.\n\nThe slope is"),
        "By pythagoras",
        "'Pythagoras' is taught in math-foundations/lengths, which is not linked before",
    ),
]
OUTLINE = [
    (
        edit(
            "course.toml",
            'concepts = ["norm", "Pythagoras"]',
            'concepts = ["norm", "Pythagoras"]\nconnections = [{ text = "Maps", anchor = "maps" }]',
        ),
        "# Lengths",
        "no section has the anchor #maps, where 'Maps' is connected",
    ),
    (edit(SLOPES, "## Rise over run", "## Rise and run"), "# Slopes", "#rise-over-run"),
    (edit(SLOPES, "## Rise over run", "### Rise over run"), "# Slopes", "#rise-over-run"),
    (edit(SLOPES, "## Rise over run", "## Rise, over run"), "## Rise,", "is not the outline's"),
    (edit(SLOPES, "## References", "## Sources"), "# Slopes", "no section 'References'"),
    (say("## More\n\nMore.\n\n## Exercises"), "## What", "stands after 'Exercises'"),
    (edit(LENGTHS, "## The length", "## First\n\n## The length"), "## The length", "after 'First'"),
    (edit(SLOPES, '**"Down is', '"Down is'), "## What people", "2 misconceptions, not 3 to 5"),
    (edit(SLOPES, '**"Down', '**"A"** b.\n\n' * 3 + '**"Down'), "## What people", "6 misconcep"),
]
LINKS = [
    (say("See [it](lengthy.md)."), "lengthy", "there is no file math-foundations/lengthy.md"),
    (say("See [it](Lengths.md)."), "Lengths.md", "there is no file math-foundations/Lengths.md"),
    (say("See [it](lengths.md#Unit-arrows)."), "#Unit", "no heading or id gives #Unit-arrows"),
    (say("See [it](#rise)."), "#rise", "no heading or id gives #rise"),
    (say('<source srcset="nowhere.svg">'), "srcset", "no file math-foundations/nowhere.svg"),
    (say('See <a href="lengths.md#unit">it</a>.'), "#unit", "gives #unit"),
    (edit(SLOPES, "[first]: lengths", "[first]: length"), "[first]", "math-foundations/length.md"),
    (say("See [it][second]."), "[second]", "the reference [second] is not defined"),
    (say("See [it](/math-foundations/lengths.md)."), "](/", "is absolute"),
    (say("See [it](../../x.md)."), "../x", "leads out of the checkout"),
    (say("See [it](https:/example.org)."), "https", "is not a URL"),
    (say("See [it](htp://example.org)."), "htp", "is not a URL"),
    (say("![A hill.](hill.svg)"), "hill.svg", "there is no file math-foundations/hill.svg"),
    (edit(SLOPES, "![A triangle with its rise and its run.]", "![]"), "![]", "alternative text"),
    (edit(NOTEBOOK, "slopes.md)", "slope.md)"), "slope.md", "no file math-foundations/slope.md"),
    (edit("README.md", "# Small course", "# Small\n\n[x](y)"), "[x](y)", "there is no file y"),
    (say("See [it](../notebooks/01-hill.ipynb#up)."), "ipynb#up", "gives #up"),
]
PREREQUISITES = [
    (
        edit(LENGTHS, "comes later", "is shown"),
        "[slopes]",
        "leans on math-foundations/slopes, which is not among the prerequisites",
    ),
    (
        lambda course: (
            course.edit(SLOPES, "[lengths][first]", "lengths"),
            course.edit(SLOPES, '<a href="lengths.md#unit-arrows">arrows</a>', "arrows"),
        ),
        "# Slopes",
        "the prerequisite math-foundations/lengths is linked nowhere in the body",
    ),
]
IMPORTS = [
    (
        using("math-foundations/lengths", "import chainrule.hills.paths", uses=""),
        "import chainrule.hills",
        "chainrule.hills.paths belongs to an application",
    ),
    (
        using("math-foundations/lengths", module="import chainrule.math_foundations.slopes\n"),
        "import chainrule",
        "hills may not use chainrule.math_foundations.slopes",
    ),
    (
        add("src/chainrule/course/x.py", "def f():\n    from chainrule.trainer.loop import Run\n"),
        "import Run",
        "the tool may not import chainrule.trainer.loop.Run",
    ),
    (
        add("src/chainrule/course/x.py", "import chainrule.math_foundations.lengths as lengths\n"),
        "import chainrule",
        "the tool may not import chainrule.math_foundations.lengths",
    ),
    (
        add("src/chainrule/course/x.py", "from chainrule.learner.workbook import Progress\n"),
        "import Progress",
        "the tool may not import chainrule.learner.workbook.Progress",
    ),
    (
        add("src/chainrule/files.py", "from chainrule.course import manifest\n"),
        "import manifest",
        "the ground floor may not import chainrule.course.manifest",
    ),
    (
        add("src/chainrule/trainer/x.py", "def f():\n    from chainrule.pytorch import gpt\n"),
        "import gpt",
        "nothing may import chainrule.pytorch",
    ),
    (
        add("src/chainrule/models/x.py", "import numpy as np\nimport torch.nn as nn\n"),
        "import torch",
        "only chainrule.pytorch may import torch",
    ),
    (
        edit(LENGTHS_PY, "import numpy as np", "import chainrule.pytorch.gpt as gpt"),
        "import chainrule",
        "chainrule.pytorch.gpt is not the module of a document",
    ),
    (
        edit(LENGTHS_PY, "import numpy as np", "from chainrule.math_foundations import slopes"),
        "import slopes",
        "math-foundations/lengths may not use math-foundations/slopes: "
        "it is not among its prerequisites (it has none)",
    ),
    (
        edit(SLOPES_PY, "from .lengths", "from ..neural_networks.neurons"),
        "neurons",
        "math-foundations/slopes may not use neural-networks/neurons: "
        "it is not among its prerequisites (math-foundations/lengths)",
    ),
    (edit(LENGTHS_PY, "    return", "    import scipy\n    return"), "scipy", "import scipy"),
    (
        edit(LENGTHS_PY, "import numpy", "import chainrule.course.audit, numpy"),
        "audit",
        "is not the module of a document",
    ),
    (
        edit(LENGTHS_PY, "import numpy", "import chainrule.course, numpy"),
        "course",
        "is not the module of a document",
    ),
    (
        edit(LENGTHS_PY, "import numpy", "import chainrule.files, numpy"),
        "files",
        "is not the module of a document",
    ),
    (edit(LENGTHS_PY, "import numpy as np", "import numpy as"), "import numpy as", "not Python"),
    (
        edit(
            LENGTHS,
            "from chainrule.math_foundations.lengths",
            "from chainrule.math_foundations.slopes",
        ),
        "slopes import",
        "math-foundations/lengths may not use math-foundations/slopes",
    ),
    (edit(LENGTHS, "print(norm", "print = = (norm"), "print = =", "this is not Python: invalid"),
    (edit(NOTEBOOK, "print(slope", "print = = (slope"), "print = =", "this is not Python: invalid"),
    (
        edit("exercises/math-foundations/lengths.py", "return 2 * x", "return ("),
        "return (",
        "this is not Python: '(' was never closed",
    ),
    (edit(LENGTHS, "\nprint(", "\nimport matplotlib\nprint("), "matplotlib", "import matplotlib"),
    (
        edit(NOTEBOOK, "chainrule.math_foundations.slopes", "chainrule.neural_networks.neurons"),
        "neurons",
        "math-foundations/slopes may not use neural-networks/neurons",
    ),
    (
        edit(
            "exercises/math-foundations/lengths.py",
            "import annotations\n",
            "import annotations\nimport torch\n",
        ),
        "torch",
        "may not import torch",
    ),
    (
        edit("figures/math-foundations/lengths.py", "course.figures", "course.exercises"),
        "course.exercises",
        "is not the module of a document",
    ),
    (
        add("src/chainrule/math_foundations/helpers.py", "import os\n"),
        "import os",
        "this module belongs to no document",
    ),
    (
        edit("src/chainrule/math_foundations/__init__.py", '"""\n', '"""\nfrom . import lengths\n'),
        "import lengths",
        "a folder may not import lengths",
    ),
]
MATHEMATICS = [
    (say("So $\\frac{1}{2$ it is."), "So", "KaTeX: "),
    (say("So $\\unknown$ it is."), "So", "KaTeX: Undefined control sequence: \\unknown at"),
    (say("So\n\n```math\n\na_b_c\n```"), "", "KaTeX: Double subscript"),
    (say("Now\nso $`a^b^c`$."), "so", "KaTeX: Double superscript"),
    (edit(LENGTHS, "| $(1, 0)$", "| $\\frac$"), "frac", "KaTeX: "),
    (edit(NOTEBOOK, "$h = 2x$", "$h = 2_x_y$"), "2_x_y", "KaTeX: Double subscript"),
    (say("So $\\mathbf{x}_{i} + \\mathbf{y}_{j}$ it is."), "So", "GitHub reads Markdown inside"),
    (say("So $a*b$ and $c*d$ it is."), "So", "GitHub reads Markdown inside"),
    (say("So $x \\|y$."), "So", "\\| in a formula"),
    (say("So $\\def\\a{b} \\a$."), "So", "\\def in a formula"),
    (say("So $`\\operatorname{tr} A`$."), "So", "\\operatorname in a formula"),
    (say("So $\\{1\\}$."), "So", "GitHub takes the backslash from \\{"),
    (say("So it costs 5$\nor more."), "5$", "a dollar sign that opens no formula"),
    (say("The $n$th."), "The", "$n$t: GitHub shows no formula here"),
    (say("So [$x$](lengths.md)."), "So", "GitHub shows no formula in the text of a link"),
    (say("So\n```math\nx\n```"), "So", "no blank line before a block of mathematics"),
    (say("```math\nx\n```\nSo"), "So", "no blank line after a block of mathematics"),
    (say("So $a +\nb$."), "So", "a formula runs over the end of a line"),
]
PRIVATE = (
    lambda course: course.edit(LENGTHS_PY, "def norm", "def _norm"),
    lambda course: course.add(
        LENGTHS_PY,
        f"{(course.root / LENGTHS_PY).read_text()}\n\ndef norm(x):\n    return _norm(x)\n",
    ),
)
EQUATIONS = [
    (PRIVATE[0], "Equation:", "_norm implements #eq-norm but no test mentions it"),
    (edit(LENGTHS_PY, "#eq-norm", "#eq-length"), "#eq-length", "no such anchor"),
    (edit(LENGTHS_PY, "    Equation:", "    Like"), "eq-norm", "no docstring of chainrule.math"),
    (
        edit(LENGTHS_PY, "lengths.md#", "length.md#"),
        "length.md",
        "math-foundations/length.md#eq-norm: no such anchor",
    ),
    (
        edit(LENGTHS, "</a>\n\n```math", "</a>\n\nSo\n\n```math"),
        "eq-norm",
        "no block of mathematics",
    ),
    (
        edit("tests/math_foundations/test_lengths.py", "lengths.norm", "lengths"),
        "Equation:",
        "norm implements #eq-norm but no test mentions it",
    ),
]
PROSE = [
    (say("One step\nis crucial here."), "is crucial", "'crucial' is on the list"),
    (say("It is not just a ratio but\na number."), "It is", "'not just a ratio but' is on"),
    (say("Take the\nthe ratio."), "Take", "'the' stands twice"),
    (say("Look at it! It is steep."), "Look", "an exclamation mark"),
    (say("It is steep 🚀."), "🚀", "an emoji"),
    (say("We optimise it."), "optimise", "'optimise' is not spelled"),
    (say("### The Steep Road"), "### The", "'Steep' in 'The Steep Road'"),
    (say("- **Rise**: how high."), "**Rise**", "a list of bold words with a colon"),
    (say("Think of it as a hill.\nThink of it as a wall."), "wall", "for the second time"),
    (edit(SLOPES, "# Slopes", "# Hills"), "# Hills", "the title is 'Hills', not 'Slopes'"),
    (say("# Hills"), "# Hills", "a second title: 'Hills'"),
    (edit("README.md", "# Small course", "Small"), "Small", "there is no title"),
    (edit(SLOPES, "A road", "One word more " * 41 + "\n\nA road"), "One", "has 134 words"),
    (edit(NOTEBOOK, "Make the hill", "Delve into the hill"), "Delve", "'Delve' is on the list"),
]
GENERATED = [
    (edit(SLOPES, "A slope is a ratio", "It is a ratio"), "It is", "is stale"),
    (edit(SLOPES, "| 1 | 5 |", "| 1 | 6 |"), "| 1 | 6 |", "is stale"),
    (edit("course.toml", "down a slope.", "downhill."), "- Neurons", "is stale"),
    (edit("README.md", " --> slopes", " --> slope"), "--> slope", "is stale"),
    (edit("ROADMAP.md", "One neuron", "Two neurons"), "Two neurons", "is stale"),
    (
        edit(SLOPES, "<!-- generated: leads -->", ""),
        "# Slopes",
        "there is no generated region 'leads'",
    ),
    (edit(SLOPES, "leads -->", "leeds -->"), "leeds", "nothing generates a region 'leeds'"),
    (
        edit(LENGTHS, "<!-- /generated -->\n\n## References", "## References"),
        "generated: leads",
        "region 'leads' is not closed",
    ),
]
GLOSSARY = [
    (
        say("A **stone** is heavy.\n\nThe **Stones** are grey."),
        "grey",
        "'Stones' is defined a second time; the first is in math-foundations/slopes.md:",
    ),
    (
        lambda course: (
            say("A **heap** is high.", LENGTHS)(course),
            say("A **heap** is steep.")(course),
        ),
        "steep",
        "'heap' is defined a second time; the first is in math-foundations/lengths.md:",
    ),
    (
        say("It is steep.\n\nThis is a **ramp**: it rises."),
        "This is a",
        "the paragraph that defines 'ramp' begins by pointing back",
    ),
]
IMHOF = "1. E. Imhof, *Cartographic Relief Presentation*, de Gruyter, 1982."
EARTH = (
    "2. Eratosthenes, B. Author, *On the Earth*, Mail 3(4), 5–6, 1999, "
    "doi:10.1000/182, arXiv:9901.00001."
)
NOT_FIXED = "does not give its {} in the fixed form"


def entry(old, new):
    """Change the second entry of the list in one place."""
    return edit(SLOPES, EARTH, EARTH.replace(old, new))


def also(text):
    """Give another document the entry too, cited; written differently."""
    return lambda course: (
        course.edit(LENGTHS, "its length [1].", "its length [1], as elsewhere [2]."),
        course.edit(LENGTHS, "elements).\n", f"elements).\n{text}\n"),
    )


REFERENCES = [
    (edit(SLOPES, "flat [2]", "flat"), "2. Erat", "the text never cites entry 2"),
    (edit(SLOPES, "flat [2]", "flat `x[2]` $y[2]$"), "2. Erat", "the text never cites entry 2"),
    (edit(SLOPES, "flat [2]", "flat [2](#rise-over-run)"), "2. Erat", "never cites entry 2"),
    (edit(SLOPES, "flat [2]", "flat 2<!--= (2, 3)[1] [2] -->"), "2. Erat", "never cites entry 2"),
    (edit(SLOPES, "1999,", "1999, [2],"), "2. Erat", "is not in the form of the others"),
    (say("A fact [3]."), "A fact", "[3] is no entry of the references"),
    (say("Facts [1, 3]."), "Facts", "[3] is no entry of the references"),
    (say("One line <!-- a\nb --> a fact [3]."), "a fact", "[3] is no entry of the references"),
    (say("<details>\n\nA fact [3].\n\n</details>"), "A fact", "[3] is no entry"),
    (edit(SLOPES, "A road", "It is said [3] that a road"), "It is", "[3] is no entry"),
    (say("A fact [2]."), "A fact", "[2] is cited before [1]"),
    (say("Facts [2, 1]."), "Facts", "[2] is cited before [1]"),
    (say("<details>\n\nA fact [2].\n\n</details>"), "A fact", "[2] is cited before [1]"),
    (entry("2. ", "3. "), "3. Erat", "entry 2 of the references is not numbered 2"),
    (edit(SLOPES, f"{IMHOF}\n{EARTH}", f"{IMHOF}\n\n- A map."), "- A map", "is not numbered 2"),
    (entry(" 1999,", ""), "2. Erat", "entry 2 has no year"),
    (
        edit(
            SLOPES, EARTH, "2. A. Author, *1984*, 1950–1965, doi:10.1000/a.1999, arXiv:2001.01999."
        ),
        "2. A.",
        "entry 2 has no year",
    ),
    (entry("*", ""), "2. Erat", "entry 2 has no title in italics"),
    (entry("arXiv:9901", "arXiv 9901"), "2. Erat", NOT_FIXED.format("arXiv")),
    (entry("arXiv:", "arxiv:"), "2. Erat", NOT_FIXED.format("arXiv")),
    (entry("arXiv:", "https://arxiv.org/abs/"), "2. Erat", NOT_FIXED.format("arXiv")),
    (entry("00001.", "1."), "2. Erat", NOT_FIXED.format("arXiv")),
    (entry("doi:", "doi "), "2. Erat", NOT_FIXED.format("DOI")),
    (entry("doi:", "DOI:"), "2. Erat", NOT_FIXED.format("DOI")),
    (entry("doi:", "https://doi.org/"), "2. Erat", NOT_FIXED.format("DOI")),
    (entry("00001.", "00001"), "2. Erat", "entry 2 does not end in a full stop"),
    (entry("00001.", "00001. A remark"), "2. Erat", "entry 2 does not end in a full stop"),
    (entry("B. Author", "and others"), "2. Erat", "does not name its authors as the others do"),
    (entry(", B. Author", " and B. Author"), "2. Erat", "does not name its authors as the others"),
    (
        entry("B. Author", "B. A, C. A, D. A, E. A, F. A, G. A"),
        "2. Erat",
        "does not name its authors as the others do",
    ),
    (entry(", *On", ". *On"), "2. Erat", "entry 2 is not in the form of the others"),
    (entry("1999, doi:10.1000/182", "doi:10.1000/182, 1999"), "2. Erat", "is not in the form"),
    (entry("00001.", "00001, section 2."), "2. Erat", "is not in the form of the others"),
    (
        also(EARTH.replace("Eratosthenes, B.", "Eratosthenes, C.")),
        "2. Erat",
        "entry 2 is written otherwise in math-foundations/lengths.md:",
    ),
    (
        also("2. Eratosthenes, B. Author, *The Earth*, 1999, doi:10.1000/182."),
        "2. Erat",
        "entry 2 is written otherwise in",
    ),
    (also("2. E., *The Earth*, 1999, arXiv:9901.00001."), "2. Erat", "is written otherwise in"),
    (also("2. Eratosthenes, B. Author, *On the earth*, 1999."), "2. Erat", "is written otherwise"),
    (
        edit(SLOPES, IMHOF, "1. A. Author, *On the Earth*, 1999."),
        "2. Erat",
        "entries 1 and 2 are one work",
    ),
]
LONG = "Uphill " * 79 + "it is."
SEVEN = ", ".join(f"$x_{n}$" for n in range(7))
STEPS = "As $h = 2x$, the road $h/x = 2x/x = 2$ climbs."
DENSITY = [
    (say(LONG), "Uphill", "81 words, 0 formulas: Uphill Uphill Uphill Uphill"),
    (say(f"Look.\n\n- So {LONG}"), "- So", "82 words, 0 formulas: So Uphill"),
    (say(f"The roads {SEVEN} climb."), "The roads", "10 words, 7 formulas: The roads $x_0$,"),
    (say(f"<details>\n\nA.\n\n</details>\n\n{LONG}"), "Uphill", "81 words"),
    (say(f"<details>\n\n{LONG}"), "Uphill", "81 words"),
    (say(f"`<details>`\n\n```\n<details>\n```\n\n{LONG}"), "Uphill", "81 words"),
    (say(f"It is so.\n{STEPS}"), "As $h", "3 steps in one sentence: As $h = 2x$, the road"),
    (say("So $f(a) = a + a = 2a \\ge a$."), "So $f", "3 steps"),
    (say("So $x = 1 + 1$, $y = 2 + 2$ and $z = 3 + 3$."), "So $x", "3 steps"),
]
FORMULA = "```math\nx = 2 + 2\n```\n\n"
HAND = "**By hand.**\n\n1. Two.\n\n"
BY_HAND = [
    (say(FORMULA), "x = 2", "a formula and no example by hand: Rise over run"),
    (say("So\n\n$$\nx = 2 + 2\n$$"), "$$", "a formula and no example by hand: Rise over run"),
    (say(f"### On\n\n{FORMULA}### By hand\n\nBy hand."), "x = 2", "no example by hand: On"),
    (say(f"### On\n\n{FORMULA}### Up\n\n{FORMULA}{HAND}"), "x = 2", "no example by hand: On"),
    (say(f"### On\n\n{FORMULA}### Up\n\nIt is.\n\n### Far\n\n{HAND}"), "x = 2", "hand: On"),
    (say(f"{FORMULA}## Next\n\n{HAND}"), "x = 2", "no example by hand: Rise over run"),
    (say(f"{FORMULA}> **By hand.** Two."), "x = 2", "no example by hand: Rise over run"),
    (say(f"{FORMULA}<details>\n\n{HAND}</details>"), "x = 2", "by hand: Rise over run"),
]
GIVEN = (
    "```math\n\\mathbf u = (1, -2.5, 10^{-3}), \\quad"
    " A = \\begin{pmatrix}1&2\\\\0&-3\\end{pmatrix}, \\quad v = 3.\n```\n\n"
)
LEDGER = [
    (say("A cliff.\n\nA **cliff** is steep."), "A cliff.", "'cliff' is used here and defined in"),
    (say("Some Cliffs\n\nA **cliff** is steep."), "Cliffs", "'cliff' is used here"),
    (say("A sheer\ncliff.\n\nA **sheer cliff**, and a **cliff**."), "A sheer", "'sheer cliff'"),
    (say("A `cliff`, a cliff-top.\n\nA cliff.\n\nA **cliff** is."), "A cliff.", "'cliff' is"),
    (say("```math\n\\hat q = \\sum_i i\n```"), "hat q", "no formula above introduces q"),
    (say("```math\n\\varphi = 1 + 1\n```\n\n$\\varphi$"), "phi", "introduces \\varphi"),
    (say("```math\n\\sum_ir_i = \\mathcal Lv\n```"), "sum", "introduces \\mathcalL, r, v"),
    (
        say("<details>\n\n$g$\n\n</details>\n\n```math\ng = h_a\n+ 1\n```"),
        "g = h",
        "introduces a, g, h",
    ),
]
QUESTIONS = [
    (edit(SLOPES, "**Question.** How", "How"), "## Rise", "no question: Rise over run"),
    (edit(SLOPES, "<summary>Answer", "<summary>Look"), "## Rise", "without its answer: Rise"),
    (edit(LENGTHS, "<summary>Answer", "<summary>Look"), "## The length", "without its answer: The"),
    (edit(SLOPES, "**Question.**", "> **Question.**"), "## Rise", "no question: Rise over run"),
    (
        edit(
            SLOPES, "**Question.**", "<details><summary>Answer</summary></details>\n\n### End\n\nA"
        ),
        "## Rise",
        "no question: Rise over run",
    ),
]
TIP = "> [!TIP]\n> **In PyTorch 2.13 (November 2026).** It is `torch`."
ASIDES = [
    (say(TIP.replace(" (November 2026)", "")), "In PyTorch", "no month, or not"),
    (say(TIP.replace("November 2026", "Nov 2026")), "In PyTorch", "no month, or not in this form"),
    (
        say(TIP.replace("**", "").replace("TIP", "NOTE")),
        "In PyTorch",
        "no month, or not in this form",
    ),
    (say(TIP.replace(" 2.13", "")), "In PyTorch", "no month, or not in this form"),
    (say(TIP.replace("November 2026", "November 2025")), "In PyTorch", "checked 13 months ago"),
    (
        say(TIP.replace("November 2026", "May 2027")),
        "In PyTorch",
        "2027-05, which is still to come",
    ),
    (say(f"{TIP} {'More. ' * 95}"), "[!TIP]", "a tip of 7 lines of 100 characters"),
    (say(TIP + "\n>\n> Yes." * 6), "[!TIP]", "a tip of 7 lines"),
    (say("> [!NOTE]\n" + "> - It is.\n" * 11), "[!NOTE]", "a note of 11 lines"),
    (say("<!-- checked = 2025-10 -->\n> A box."), "checked", "last checked 14 months ago"),
    (say("<!-- checked = 2025-10 -->\n\n| a |\n| --- |"), "checked", "not directly above a box"),
    (say("<!-- checked = 2026-11 -->\nA line."), "checked", "not directly above a box"),
    (
        edit("README.md", "<!-- gen", "<!-- checked = 2024-01 -->\n> A\n\n<!-- gen"),
        "ed = 2",
        "35 mo",
    ),
    (say("<!-- checked = 2026-13 -->\n| a |\n| --- |"), "checked", "no month, or not in"),
    (say("<!-- checked: 2026-11 -->\n> A box."), "checked", "no month, or not in"),
    (say("<details><summary>A\nproof</summary>"), "<details>", "<details> that is not closed"),
    (
        say("<details><summary>A</summary>\n\n<details>\n\n</details>"),
        "<details><summary>A</",
        "not closed",
    ),
    (say("<details><summary>A</summary>\nA $b$.\n\n</details>"), "A $b$", "shows as it is typed"),
    (
        say("<details><summary>Precisely: why</summary>\n\nIt Needs: a rule.\n\n</details>"),
        "Precisely",
        "'Precisely: why' does not begin with what it needs",
    ),
    (
        say("<details><summary>Precisely: why</summary>\n\n</details>\n\nNeeds: nothing."),
        "Precisely",
        "does not begin with what it needs",
    ),
]
FAULTS = {
    "manifest": MANIFEST,
    "outline": OUTLINE,
    "related": RELATED,
    "links": LINKS,
    "prerequisites": PREREQUISITES,
    "imports": IMPORTS,
    "mathematics": MATHEMATICS,
    "equations": EQUATIONS,
    "prose": PROSE,
    "generated": GENERATED,
    "glossary": GLOSSARY,
    "references": REFERENCES,
    "room": DENSITY + BY_HAND + QUESTIONS,
    "ledger": LEDGER,
    "asides": ASIDES,
}


@pytest.fixture(autouse=True)
def today(monkeypatch):
    """The day on which these tests read dates."""
    monkeypatch.setattr(Audit, "today", date(2026, 12, 1))


@pytest.mark.parametrize(
    ("check", "plant", "on_the_line", "message"),
    [
        pytest.param(check, *fault, id=f"{check}: {fault[2]}")
        for check, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_a_planted_fault_is_reported(small, check, plant, on_the_line, message):
    plant(small)
    findings = small.audit(check).findings
    matching = [finding for finding in findings if message in finding.message]
    assert len(matching) == 1, findings
    assert matching[0].check == check
    assert on_the_line in small.line(matching[0])


@pytest.mark.parametrize(
    ("check", "plant"),
    [
        ("prose", edit(SLOPES, IMHOF, IMHOF.replace("Relief", "Relief relief"))),
        ("links", say("See [it](https://example.org/a?b#c), and <http://127.0.0.1:8000>.")),
        ("links", say("See [it](../figures/math-foundations) and `[a](b)` and [3].")),
        ("links", say("## Rise over run\n\nSee [it](#rise-over-run-1).")),
        ("links", say("## Où & **why** `f(x)`?\n\nSee [it](#où--why-fx).")),
        ("prerequisites", say("## Where this leads\n\nSee [it](../neural-networks/x.md).")),
        ("mathematics", say("So $a_i$ and $b_i$, $x_{ij}$, $\\mathbf{x}_i$, \\$5 and `$`.")),
        ("mathematics", say("So $`\\mathbf{x}_{i} + \\mathbf{y}_{j}`$, $`\\{1\\}`$ it is.")),
        ("mathematics", say("> So\n>\n> ```math\n> x\n> ```\n>\n> it is.")),
        ("prose", say("He said that that is what he had had: `the the`, $5!$, n != m.")),
        ("prose", say("### The theorem of Pythagoras and the L1 norm: A proof")),
        ("prose", say("### 5 The network on paper")),
        ("prose", edit(SLOPES, END, END + "\n\n1. A. Author. *Delving into modeling*. 1999.")),
        ("glossary", say("A street is steep. This is a **ramp**: it rises. Its **foot** is low.")),
        ("glossary", say('**Why.** Here.\n\n**Why.** There. **"No term."** **"No term."**')),
        ("equations", lambda course: [step(course) for step in PRIVATE]),
        ("references", say("Facts [1, 2] in $[0, 3]$ and `x[3]`, [3](#rise-over-run) and [x].")),
        ("references", say("Costs \\$5 [1] or \\$6, and [0][first] too.")),
        ("references", say("<details>\n\nA fact [1].\n\n</details>")),
        ("references", also(EARTH)),
        ("references", also(f"{EARTH} Section 3, and *all* of [1].")),
        ("references", entry("00001.", "00001, https://example.org/a.b_c.")),
        ("references", entry("doi:10.1000/182", "doi:10.1016/S0893-6080(05)80131-5")),
        ("references", entry("arXiv:9901.00001", "arXiv:hep-th/9901001")),
        ("references", entry("Earth*", "Earth? Or (1903), a New Way*")),
        ("references", entry("B. Author", "B. A, C. A, D. A, E. A, F. A")),
        ("references", entry("Eratosthenes, B. Author", "Eratosthenes et al.")),
        ("references", entry("Mail 3(4), 5–6, 1999, ", "part 4, 2nd edition, 1999, ")),
        ("imports", edit(LENGTHS_PY, "import numpy", "import chainrule.shapes, math, numpy")),
        (
            "imports",
            using(
                "math-foundations/lengths",
                "import chainrule.hills.paths",
                "import chainrule.math_foundations.lengths\nimport chainrule.data\n",
            ),
        ),
        ("imports", edit(NOTEBOOK, "print(slope", "%matplotlib inline\\nprint(slope")),
        (
            "equations",
            edit(LENGTHS_PY, "    Equation:", "    See, and not only there,\n    Equation:"),
        ),
        ("room", say("Uphill " * 80)),
        ("room", say("Up $" + "x + y $ $".join("abcde") + "x$" + "<!-- " + "no " * 80 + "-->")),
        ("room", say("`$a$` `$b$` `$c$` `$d$` \\$1 \\$2 \\$3 \\$4 \\$5 \\$6 \\$7 \\$8.")),
        ("room", say(f"<details>\n\n<details>\n\n</details>\n\n{LONG}\n\n</details>")),
        ("room", say(f"<details>\n\n### Up\n\n- {LONG}\n\n> {LONG}\n\n</details>")),
        ("room", say(f"> [!NOTE]\n> {LONG}\n>\n> | a |\n> | --- |\n> | {LONG} |\n>\n> {STEPS}")),
        ("room", say(f"| {LONG} |\n| --- |\n| {STEPS} |\n\n<details>{LONG}</details>")),
        ("room", edit(SLOPES, "1. E. Imhof", f"1. {'Imhof ' * 80} E. Imhof")),
        (
            "room",
            say("With $x = 1$, $y = -2.5$, $z_1 = (3, -4)$, $0 < \\hat p_i < 1$, $a = b$ it is."),
        ),
        (
            "room",
            say("So $\\sum_{i=1}^{n=2+2} f(x = 2 + 2) = 2 + 2$ and $`\\{x = 1 + 1\\} = S`$."),
        ),
        ("room", say("So $x = 1 + 1$. Then $y = 2 + 2$. And $z = 3 + 3$.")),
        ("room", say(FORMULA + HAND)),
        ("room", say(f"### On\n\n{HAND}### In general\n\n{FORMULA}")),
        ("room", say(f"{HAND}{FORMULA}<details>\n\n### On\n\n</details>\n\n{FORMULA}")),
        ("room", say(f"{FORMULA}### On\n\n#### By hand\n\n**By hand.** Two.\n\nFour.")),
        ("room", say(f"<details>\n\n### On\n\n{FORMULA}</details>\n\n> So\n>\n> $$\n> x\n> $$")),
        ("room", say(f"```text\n{FORMULA[:-5]}\n```\n\n```sh\n$$\n```")),
        ("room", edit(SLOPES, END, f"\n{FORMULA}## References")),
        ("ledger", say("A cliff is a **cliff**: see the cliff.")),
        ("ledger", say("A [cliff](#rise-over-run), a cliff.\n\nA **cliff** is steep.")),
        ("ledger", say("A **sheer cliff**.\n\nThe sheer cliff.\n\nA **cliff**.", LENGTHS)),
        ("ledger", say("> A cliff.\n\n`cliff` $cliff$\n\n### The cliff\n\nA **cliff** is steep.")),
        (
            "ledger",
            edit(
                SLOPES, "How steep is it?", "Is it a\n\n## F\n\nA **road** climbs. It has metres."
            ),
        ),
        ("ledger", say("A **cliff edge**.\n\nThe cliff edges.\n\nA **cliff**.", LENGTHS)),
        ("glossary", edit(SLOPES, "It is half", "It is **half** or **half**")),
        ("ledger", say("A road of triangles.\n\nA **triangle** is flat.")),
        (
            "ledger",
            say("$q$\n\n```math\n\\mathbf q = \\mathrm{softmax}(q) + \\pi\\text{ for all}\n```"),
        ),
        ("ledger", say("```math\n\\int_0^1 2\\,du = \\sum_{i=1}^2 i + \\max_k k\n```")),
        ("ledger", say("<details>\n\n```math\ng = h + 1\n```\n\n</details>")),
        ("ledger", say("```math\n\\begin{array}{cl} 1 & 2 \\\\[1ex] 3 & 4 \\end{array}\n```")),
        ("ledger", say(GIVEN + "```math\n\\mathbf u + A_v\n```")),
        ("room", say(GIVEN)),
        ("room", say("## More\n\nIt asks nothing.")),
        ("related", relate("math-foundations/slopes", "math-foundations/lengths")),
        ("related", relate("math-foundations/slopes", "neural-networks/neurons")),
        ("related", say("The norm of a road.")),
        ("related", say("The [norm](lengths.md) of a road, by Pythagoras.")),
        ("related", say("> The norm.\n\n`norm` $norm$\n\n### The norm")),
        ("asides", say(TIP)),
        ("asides", say(TIP.replace("November 2026", "December 2025"))),
        ("asides", say("> [!TIP]\n> Look: in PyTorch it is otherwise.")),
        ("asides", say("> [!NOTE]\n" + "> - It is.\n" * 10)),
        ("asides", say("> [!WARNING]\n" + "> - It is.\n" * 40)),
        ("asides", say("<!-- checked = 2025-12 -->\n> A box.")),
        ("asides", say("<!-- checked = 2026-11 -->\n| a |\n| --- |\n\n<!-- unchecked -->")),
        (
            "asides",
            say("<details><summary>Precisely: $x$</summary>\n\nNeeds: a rule.\n\n</details>"),
        ),
        (
            "asides",
            say("<details>\n\n- <details>\n  <summary>A</summary>\n\n  </details>\n\n</details>"),
        ),
    ],
)
def test_what_is_right_is_not_reported(small, check, plant):
    plant(small)
    assert small.audit(check).findings == []
