"""Interactive figures: the check sees each fault; in a browser they move, and say what is so."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from chromium import Chromium
from one_document import MANIFEST
from site_sample import FIGURE, REPOSITORY, small_course

from chainrule import children, node
from chainrule.course import figures
from chainrule.course.audit import Audit
from chainrule.course.audit.checks import figures as figures_check
from chainrule.course.audit.checks import interactive as check
from chainrule.course.figures import modules
from chainrule.course.finding import Finding
from chainrule.course.manifest import load_course
from chainrule.course.site import build, digest, sources
from chainrule.program import UsageError

STATIC = REPOSITORY / "site" / "static"
SUBJECT = "math-foundations/linear-algebra"
DOCUMENT = f"{SUBJECT}.md"
SCRIPT = "figures/math-foundations/linear_algebra.py"
MODULE = "figures/math-foundations/linear-algebra/balls.js"
PICTURE = MODULE.replace(".js", ".svg")

# A figure with a control of every kind, and a preset.
EVERYTHING = """
export const controls = [
  { name: "size", label: "size", min: 0.5, max: 2, step: 0.1, value: 1, unit: "m" },
  { name: "rate", label: "rate", min: 0.001, max: 10, scale: "log", value: 0.1 },
  { name: "step", label: "step", kind: "steps", min: 0, max: 3, value: 0, interval: 20 },
  { name: "shape", label: "shape", options: ["circle", "square"], value: "circle" },
  { name: "full", label: "full", kind: "toggle", value: true },
  { name: "words", label: "words", kind: "text", most: 12, value: "a bee" },
  { name: "place", label: "place", kind: "point", min: [-1, -1], max: [1, 1], value: [0, 0.5] },
];

export const presets = { "a small square": { size: 0.5, shape: "square" } };

export function compute({ size, rate, step, shape, full, words, place }) {
  const area = (shape === "circle" ? Math.PI : 4) * size ** 2;
  const letters = [...words].length;
  return { area: full ? area : 0, letters, sums: [place[0] + step, place[1] + rate] };
}

export function draw(scene, state, { area, letters, sums }) {
  const range = [-1.2, 1.2];
  const plot = scene.plot({ x: range, y: range, xLabel: "x (m)", yLabel: "y (m)", equal: true });
  plot.dot(state.place, { form: state.shape });
  plot.handle("place");
  plot.handle("size", { at: [state.size / 2, -1], axis: "x" });
  scene.say("area", scene.number(area));
  scene.say("letters", String(letters));
  scene.say("sums", sums.map((sum) => scene.number(sum, 2)).join("; "));
}
"""
PYTHON = """
import numpy as np
from chainrule.course.figures import figure, interactive

@figure("balls")
def balls(plt):
    return plt.figure()

@interactive("balls", states=[{"shape": "square", "size": 2}, {"full": False, "step": 3}])
def model(state):
    area = (np.pi if state["shape"] == "circle" else 4) * state["size"] ** 2
    sums = np.array(state["place"]) + [state["step"], state["rate"]]
    letters = len(state["words"])
    return {"area": area if state["full"] else 0, "letters": letters, "sums": sums}
"""
TEXT = """# Linear algebra

![Two balls](../figures/math-foundations/linear-algebra/balls.svg)

*Two balls.*
"""


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    files = {"course.toml": MANIFEST, DOCUMENT: TEXT, SCRIPT: PYTHON}
    for path, text in {**files, MODULE: EVERYTHING, PICTURE: FIGURE}.items():
        put(tmp_path, path, text)
    return tmp_path


def findings(root: Path) -> list[Finding]:
    audit = Audit(load_course(root), run=True)
    return [*check.check(audit), *check.run(audit)]


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    return found[0]


# --- The check ------------------------------------------------------------------------


def test_a_figure_that_agrees_gives_nothing(root):
    assert findings(root) == []


def test_what_was_not_moved_may_be_missing(root):
    for path in (MODULE, SCRIPT):
        (root / path).unlink()
    assert findings(root) == []


def said(root: Path) -> set[tuple[str, str]]:
    """What is said of pictures: a module stands beside its own."""
    return {(f.file, f.message) for f in figures_check.check(Audit(load_course(root)))}


def test_a_module_without_a_picture(root):
    few = (DOCUMENT, "shows 1 figures, at least 2 are needed")
    assert said(root) == {few}
    (root / PICTURE).unlink()
    assert said(root) - {few} == {(SCRIPT, f"figure 'balls' is not drawn: {PICTURE} is missing")}
    put(root, SCRIPT, PYTHON.replace('@figure("balls")\n', ""))
    assert (MODULE, "belongs to no document and no figure") in said(root)


def test_a_module_whose_picture_is_not_shown(root):
    put(root, DOCUMENT, "# Linear algebra\n")
    assert (SCRIPT, f"figure 'balls' is not shown by {DOCUMENT}") in said(root)


def test_a_module_that_python_does_not_compute(root):
    put(root, SCRIPT, PYTHON[: PYTHON.index("@interactive")])
    found = only(findings(root))
    assert (found.file, found.message) == (MODULE, f"nothing in {SCRIPT} computes it")


def test_a_model_without_a_module(root):
    (root / MODULE).unlink()
    found = only(findings(root))
    line = PYTHON[: PYTHON.index("@interactive")].count("\n") + 1
    assert (found.file, found.line) == (SCRIPT, line)
    assert found.message == "interactive figure 'balls' has no module"


def test_a_module_that_belongs_to_no_document(root):
    stray = "figures/math-foundations/balls.js"
    put(root, stray, EVERYTHING)
    assert (stray, "belongs to no document and no figure") in said(root)


@pytest.mark.parametrize(
    "planted",
    [
        'import { x } from "./y.js";',
        'import "./y.js";',
        'const later = () => import("./y.js");',
        'const later = () => fetch("https://example.org");',
        "const later = () => new XMLHttpRequest();",
        "const noise = () => Math.random();",
    ],
)
def test_a_module_that_uses_what_is_not_its_state(root, planted):
    put(root, MODULE, f"{planted}\n{EVERYTHING}")
    found = list(check.check(Audit(load_course(root))))
    assert [(f.file, f.line) for f in found] == [(MODULE, 1)]
    assert found[0].message.endswith("a module uses nothing but its state")


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        # Numbers that differ
        ("size ** 2", "size ** 3", "balls at shape = \"square\", size = 2: area is 32 in compute"),
        ("Math.PI", "3.14159265", "balls at the defaults: area is 3.14159265 in compute"),
        ("place[0] + step", "place[0] - step", "sums[0] is -3 in compute, 3.0 in Python"),
        ("[place[0] + step, ", "[", "sums is [0.6] in compute, [0.0, 0.6] in Python"),
        ("{ area: full", "{ more: 1, area: full", 'more is 1 in compute, "(nothing)" in Python'),
        ("area: full ? area : 0, ", "", 'area is "(nothing)" in compute'),
        ("full ? area : 0", "full ? `${area}` : 0", 'area is "3.14'),
        # Controls that cannot be
        ("value: 1, unit", "value: 3, unit", "control 'size': the default 3 is outside 0.5 to 2"),
        ("value: 1, unit", "value: 1.03, unit", "the default 1.03 is not a whole number of steps"),
        ("max: 2, step: 0.1", "max: 2.05, step: 0.1", "max 2.05 is not a whole number of steps"),
        ("min: 0.5, max", "min: 2.5, max", "min must be below max, and step above 0"),
        ("value: 0.1 }", "value: 20 }", "control 'rate': the default 20 is outside 0.001 to 10"),
        ("min: 0.001", "min: 0", "control 'rate': a logarithmic range needs 0 < min < max"),
        ("value: 0.1 }", "value: 0 }", "control 'rate': the default 0 is outside 0.001 to 10"),
        ("value: [0, 0.5]", "value: [0, 1.5]", "control 'place': the default 1.5 is outside -1"),
        ("min: [-1, -1]", "min: -1", "control 'place': min, max and value must be [x, y]"),
        ('value: "circle"', 'value: "cube"', "the default 'cube' is not among its options"),
        ("value: true", "value: 1", "control 'full': the default 1 is not true or false"),
        ('value: "a bee"', "value: 3", "control 'words': the default 3 is not a text of"),
        ("most: 12", "most: 4", "the default 'a bee' is not a text of at most 4 characters"),
        ("most: 12, ", "", "control 'words': most must say how many characters it holds"),
        ("[...words].length", "1 / words.length", "compute at words = \"\": letters is Infinity"),
        ('kind: "toggle"', 'kind: "switch"', "kind 'switch': it must be one of range"),
        ('label: "full"', 'label: ""', "control 'full' has no label"),
        ('name: "full"', 'name: "step"', "control 'step' is named twice"),
        ('name: "full"', 'name: "to be"', "control 5 has no name, or none that is an identifier"),
        ("{ size: 0.5, ", "{ size: 0.55, ", "preset 'a small square', 'size': 0.55 is not a whole"),
        ('shape: "square" }', 'form: "square" }', "'a small square', 'form': no such control"),
        ("size ** 2", "(size < 0.6 ? 1 : size ** 2)", "size = 0.5, shape = \"square\": area is 4"),
        # What is missing, or not finite, or not a function of the state
        ("export function draw", "function draw", "does not export draw"),
        ("export function compute", "function compute", "does not export compute"),
        ("export const controls", "const controls", "does not export controls"),
        ("size ** 2;", "size ** 2 / (size - 0.5);", "compute at size = 0.5: area is Infinity"),
        ("+ rate]", "+ Math.log(1.5 - size)]", "compute at size = 2: sums[1] is NaN"),
        ("+ rate]", "+ rate, null]", "compute at the defaults: sums[2] is null, not JSON"),
        ("const area =", "const area = globalThis.n = (globalThis.n ?? 0) + 1; const b =",
         "compute at the defaults: a second call gives another result"),
        ("const area =", "if (step) throw new Error('no'); const area =",
         "compute at step = 3: Error: no"),
        ("export const controls = [", "export const controls = [[", "SyntaxError"),
    ],
)  # fmt: skip
def test_a_fault_of_a_module(root, old, new, reported):
    assert old in EVERYTHING
    put(root, MODULE, EVERYTHING.replace(old, new))
    rows = list(modules.differences(str(root), [SUBJECT]))
    assert any(reported in message for _, _, message in rows), rows
    assert {file for file, _, _ in rows} <= {MODULE, SCRIPT}


def test_differences_are_found_at_the_line_of_the_model(root):
    put(root, SCRIPT, PYTHON.replace("np.pi", "3"))
    found = findings(root)
    line = PYTHON[: PYTHON.index("@interactive")].count("\n") + 1
    assert {(each.file, each.line) for each in found} == {(SCRIPT, line)}


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (f"{DOCUMENT}#linear-algebra", None),
        (DOCUMENT, None),
        ("", None),
        (f"{DOCUMENT}#gone", "no heading or id gives #gone"),
        ("training/optimizers.md", "there is no document training/optimizers.md"),
        (SCRIPT, f"there is no document {SCRIPT}"),
    ],
)
def test_links_of_a_figure_lead_somewhere(root, target, fault):
    links = json.dumps({"box": target})
    put(root, MODULE, EVERYTHING.replace("return { area", f"return {{ links: {links}, area"))
    put(root, SCRIPT, PYTHON.replace('return {"area"', f'return {{"links": {links}, "area"'))
    found = findings(root)
    if fault is None:
        assert found == []
    else:
        assert fault in only(found).message
        assert only(found).file == SCRIPT


def test_each_model_reads_the_measurements_of_its_own_script(root):
    second = MANIFEST[MANIFEST.index("[[document]]") :].replace("inear", "ater")
    second = second.replace("later-algebra", "calculus").replace("Later algebra", "Calculus")
    put(root, "course.toml", MANIFEST + second)
    read = "from chainrule.course.figures.measurements import measured\n"
    for name in ("linear-algebra", "calculus"):
        script = PYTHON.replace("import numpy", f"{read}import numpy")
        script = script.replace(
            "    area = (", f"    assert measured('own')['of'] == '{name}'\n    area = ("
        )
        put(root, f"figures/math-foundations/{name.replace('-', '_')}.py", script)
        folder = f"figures/math-foundations/{name}"
        put(root, f"{folder}/own.json", json.dumps({"of": name}))
        put(root, f"{folder}/balls.js", EVERYTHING)
        put(root, f"{folder}/balls.svg", FIGURE)
    put(root, "math-foundations/calculus.md", TEXT.replace("Linear algebra", "Calculus"))
    assert not [f for f in findings(root) if "measured" in f.message or "Assertion" in f.message]


def test_a_tolerance_is_relative(root):
    put(root, MODULE, EVERYTHING.replace("Math.PI", "(Math.PI * (1 + 1e-7))"))
    assert len(findings(root)) == 1
    put(root, SCRIPT, PYTHON.replace('"step": 3}]', '"step": 3}], tolerance=1e-6'))
    assert findings(root) == []


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ('"full": False', '"fill": False', "balls: no control is called fill"),
        ('state["rate"]', 'state["rat"]', "KeyError: 'rat'"),
        ("import numpy", "import nothing_at_all", "ModuleNotFoundError"),
        ('"sums": sums}', '"sums": sums}\n\n@interactive("balls")\ndef f(state): ...', "twice"),
    ],
)
def test_a_fault_of_a_model(root, old, new, reported):
    assert old in PYTHON
    put(root, SCRIPT, PYTHON.replace(old, new))
    rows = list(modules.differences(str(root), [SUBJECT]))
    assert any(reported in message and file == SCRIPT for file, _, message in rows), rows


def test_without_run_nothing_is_executed(root):
    put(root, MODULE, EVERYTHING + "\nthrow new Error();\n")
    put(root, SCRIPT, PYTHON + "\nraise SystemExit('executed')\n")
    assert list(check.check(Audit(load_course(root)))) == []


def test_without_node_one_line_says_what_to_type(root, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(node, "find_spec", lambda name: None)
    with pytest.raises(node.NodeError) as refused:
        list(modules.differences(str(root), [SUBJECT]))
    assert str(refused.value) == "Node is missing; type: python -m chainrule.node"


def test_the_check_passes_that_line_on(root, monkeypatch):
    def call(*_, **__):
        fault = "chainrule.node.NodeError: Node is missing; type: this"
        return children.Answer([], 1, fault)

    monkeypatch.setattr(children, "call", call)
    with pytest.raises(UsageError, match=r"^Node is missing; type: this$"):
        findings(root)


# --- The palette ----------------------------------------------------------------------


def luminance(color: str) -> float:
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_palette_is_that_of_the_pictures_and_stands_out_in_the_dark():
    css = (STATIC / "interactive.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--figure-(\w+): light-dark\((#\w{6}), (#\w{6})\)", css)
    assert {name: light.upper() for name, light, _ in pairs} == dict(figures.COLORS) | {
        "black": "#000000"
    }
    for name, _, dark in pairs:
        contrast = (luminance(dark) + 0.05) / (luminance("#131416") + 0.05)
        assert (contrast >= 3) is (name != "light"), (name, contrast)


# --- In a browser ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory, serve):
    """The page of a small site with the figure that has everything."""
    course = small_course(tmp_path_factory.mktemp("sample"), **{MODULE: EVERYTHING})
    pages = build(course.root, output=course.root / "built")
    return f"{serve(pages)}/math-foundations/linear-algebra.html"


# Without an icon the browser asks for one, and its complaint falls into the next test.
THERE = '<!doctype html><link rel="icon" href="data:,"><title>there</title>'


def bare_page(folder: Path, module: str) -> None:
    """One figure without the rest of a site: half a second instead of twenty."""
    for name in ("interactive.js", "interactive.css"):
        (folder / name).write_text((STATIC / name).read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "module.js").write_text(module, encoding="utf-8")
    (folder / "picture.svg").write_text(FIGURE, encoding="utf-8")
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><link rel="icon" href="data:,">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="stylesheet" href="interactive.css">'
        '<script type="module" src="interactive.js"></script></head>'
        '<body style="margin: 16px; font-family: sans-serif"><article style="max-width: 42rem">'
        '<p><img data-interactive="module.js" src="picture.svg" alt="Two balls"'
        ' style="max-width: 100%"></p><p><em>Two balls.</em></p>'
        '<p style="height: 2000px"></p></article></body></html>',
        encoding="utf-8",
    )


STATE = """({
    drawn: document.querySelector("img[data-interactive]").dataset.drawn,
    picture: document.querySelector("img[data-interactive]").offsetHeight,
    figures: document.querySelectorAll(".interactive").length,
    output: document.querySelector(".interactive output")?.innerText.replace(/\\s+/g, " ").trim(),
})"""


@pytest.fixture(scope="module")
def everything(tmp_path_factory, serve):
    folder = tmp_path_factory.mktemp("everything")
    bare_page(folder, EVERYTHING)
    return f"{serve(folder)}/index.html"


def open_figure(browser: Chromium, address: str, width: int = 1280) -> None:
    browser.look(width)
    assert browser.faults(address) == []
    assert browser.run(STATE)["figures"] == 1


def reading(browser: Chromium, name: str) -> str:
    return browser.run(
        f"""document.querySelector('input[data-name="{name}"]').closest(".control")
        .querySelector(".reading").textContent"""
    )


def middle(browser: Chromium, selector: str) -> tuple[float, float]:
    """Where the middle of an element is in the window, once it is scrolled to."""
    return tuple(
        browser.run(
            f"""(() => {{
            const node = document.querySelector('{selector}');
            node.scrollIntoView({{ block: "center", behavior: "instant" }});
            const box = node.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        )
    )


def model(path: str, name: str):
    figures.load(REPOSITORY, path)
    return figures.models[name].compute


def test_the_page_shows_the_figure_and_keeps_the_picture_behind_it(browser, sample):
    open_figure(browser, sample)
    state = browser.run(STATE)
    assert (state["drawn"], state["picture"]) == ("true", 0)
    assert state["output"] == "area 3.142 letters 5 sums 0.00; 0.60"


@pytest.mark.slow
def test_the_site_carries_only_modules_that_are_shown_and_notices_a_change(tmp_path):
    small_course(tmp_path, **{MODULE: EVERYTHING})
    output = tmp_path / "built"
    pages = build(tmp_path, output=output)
    copies = [path.relative_to(pages).as_posix() for path in pages.rglob("balls.js")]
    assert copies == ["_static/figures/math-foundations/linear-algebra/balls.js"]
    page = pages / "math-foundations/linear-algebra.html"
    address = re.compile(r'<img data-interactive="\.\./(_static/figures/[^"?]+)\?v=(\w{8})" ')
    first = address.search(page.read_text(encoding="utf-8"))
    assert first is not None
    assert first[1] == copies[0]
    assert "interactive" not in (pages / "math-foundations/calculus.html").read_text("utf-8")

    before = digest(sources(tmp_path))
    put(tmp_path, MODULE, EVERYTHING.replace('"size", min', '"the size", min'))
    assert digest(sources(tmp_path)) != before
    build(tmp_path, output=output)
    second = address.search(page.read_text(encoding="utf-8"))
    assert second is not None
    assert second[2] != first[2]
    assert "the size" in (pages / copies[0]).read_text(encoding="utf-8")

    (tmp_path / MODULE).unlink()
    build(tmp_path, output=output)
    assert "interactive" not in page.read_text(encoding="utf-8")
    assert not (pages / copies[0]).exists()
    put(tmp_path, MODULE, EVERYTHING)
    build(tmp_path, output=output)
    again = address.search(page.read_text(encoding="utf-8"))
    assert again is not None
    assert again[2] == first[2]


def test_a_box_leads_to_its_section(browser, serve, tmp_path):
    drawn = EVERYTHING.replace(
        "plot.dot(",
        'plot.box([0, 0.9], "Sums", { link: "math-foundations/linear-algebra.md#sums" });\n'
        "  plot.dot(",
    )
    bare_page(tmp_path, drawn)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    page = page.replace('<html lang="en">', '<html lang="en" data-content_root="../../">')
    put(tmp_path, "deep/down/index.html", page.replace('href="inter', 'href="../../inter')
        .replace('src="inter', 'src="../../inter').replace('"module.js"', '"../../module.js"')
        .replace('"picture.svg"', '"../../picture.svg"'))  # fmt: skip
    address = serve(tmp_path)
    open_figure(browser, f"{address}/deep/down/index.html")
    href = browser.run("document.querySelector('.interactive a.link').href.baseVal")
    assert href == f"{address}/math-foundations/linear-algebra.html#sums"
    name = browser.run("document.querySelector('.interactive a.link').getAttribute('aria-label')")
    assert name == "Sums"
    put(tmp_path, "math-foundations/linear-algebra.html", THERE)
    x, y = middle(browser, ".interactive a.link rect")
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    browser.until("document.title === 'there'", 5)


def test_keys_move_a_slider_and_the_numbers_are_those_of_python(browser, serve, tmp_path):
    name = "figures/math-foundations/probability"
    bare_page(tmp_path, (REPOSITORY / name / "temperature.js").read_text(encoding="utf-8"))
    open_figure(browser, f"{serve(tmp_path)}/index.html")
    expect = model(f"{name}.py", "temperature")
    browser.run("document.querySelector('input[data-name=\"tau\"]').focus()")
    seen = set()
    for key in ["ArrowRight"] * 5 + ["ArrowLeft"] * 30:
        browser.press(key)
        time.sleep(0.03)
        tau = float(reading(browser, "tau"))
        result = expect({"tau": tau, "x1": 1, "x2": 2, "x3": 3})
        said = f"entropy {result['nats']:.3f} nats = {result['bits']:.3f} bits"
        browser.until(f"document.querySelector('output').textContent.includes('{said}')", 2)
        bars = browser.run("[...document.querySelectorAll('svg text')].map((t) => t.textContent)")
        assert {f"{each:.3f}" for each in result["p"]} <= set(bars)
        seen.add(tau)
    assert len(seen) > 20
    assert min(seen) < 0.5 < 1 < max(seen)


def test_a_slider_stands_exactly_on_its_steps(browser, serve, tmp_path):
    bare_page(tmp_path, EVERYTHING.replace("max: 2, step: 0.1", "max: 2, step: 0.125"))
    open_figure(browser, f"{serve(tmp_path)}/index.html")
    browser.run("document.querySelector('input[data-name=\"size\"]').focus()")
    browser.press("ArrowRight")
    browser.until("document.querySelector('output').innerText.includes('area 3.976')", 3)
    assert reading(browser, "size") == "1.125\u202fm"


ZERO = EVERYTHING.replace('scale: "log", value: 0.1', 'scale: "log", zero: true, value: 0')


def test_a_logarithmic_range_may_begin_at_zero(browser, serve, tmp_path):
    bare_page(tmp_path, ZERO)
    open_figure(browser, f"{serve(tmp_path)}/index.html")
    browser.run("document.querySelector('input[data-name=\"rate\"]').focus()")
    seen = [reading(browser, "rate")]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"):
        browser.press(key)
        time.sleep(0.03)
        seen.append(reading(browser, "rate"))
    assert seen == ["0", "0.00105", "0.00110", "0.00105", "0"]


def test_a_range_that_begins_at_zero_is_asked_there(root):
    put(root, MODULE, ZERO)
    assert list(modules.differences(str(root), [SUBJECT])) == []
    put(root, MODULE, ZERO.replace("+ rate]", "+ 1 / rate]"))
    rows = list(modules.differences(str(root), [SUBJECT]))
    assert any("compute at rate = 0: sums[1] is Infinity" in message for _, _, message in rows)


@pytest.mark.parametrize("width", [1280, 360])
def test_a_point_is_dragged_by_mouse_and_finger(browser, everything, width):
    open_figure(browser, everything, width)
    x, y = middle(browser, '.handle[data-name="place"] .knob')
    unit = browser.run("""(() => {
        const [line] = document.querySelectorAll(".interactive .axis");
        return line.getBoundingClientRect().width / 2.4;
    })()""")
    before = browser.run("scrollY")

    def mouse(kind, x, y):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def finger(kind, *spots):
        spots = [{"x": x, "y": y} for x, y in spots]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=spots)

    if width == 1280:
        mouse("mousePressed", x, y)
        mouse("mouseMoved", x + 0.3 * unit, y + 0.2 * unit)
        mouse("mouseMoved", x + 0.6 * unit, y + 0.8 * unit)
        mouse("mouseReleased", x + 0.6 * unit, y + 0.8 * unit)
    else:
        browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
        finger("touchStart", (x, y))
        finger("touchMove", (x + 0.3 * unit, y + 0.2 * unit))
        finger("touchMove", (x + 0.6 * unit, y + 0.8 * unit))
        finger("touchEnd")
        browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    browser.until("document.querySelector('output').innerText.includes('0.60; −0.20')", 3)
    assert browser.run("scrollY") == before, "the page stays while a point moves"
    assert browser.run("getComputedStyle(document.querySelector('svg')).touchAction") == "auto"


def test_arrow_keys_move_a_point_to_its_ends_and_not_beyond(browser, everything):
    open_figure(browser, everything)
    browser.run("document.querySelector('.handle[data-name=\"place\"]').focus()")
    for key, expected in [("ArrowRight", "0.10; 0.60"), ("ArrowLeft", "0.00; 0.60")]:
        browser.press(key)
        browser.until(f"document.querySelector('output').innerText.includes('{expected}')", 3)
    for _ in range(12):
        browser.press("ArrowLeft")
    browser.until("document.querySelector('output').innerText.includes('−1.00; 0.60')", 3)
    handle = "document.querySelector('.handle[data-name=\"place\"]')"
    assert browser.run(f"document.activeElement === {handle}"), "it keeps the focus"
    assert browser.run(f"{handle}.getAttribute('aria-valuetext')") == "−1.0, 0.5"


def test_a_handle_and_its_slider_move_together(browser, everything):
    open_figure(browser, everything)
    browser.run("document.querySelector('.handle[data-name=\"size\"]').focus()")
    browser.press("ArrowRight")
    assert reading(browser, "size") == "1.1\u202fm"
    place = "document.querySelector('.handle[data-name=\"size\"]').getBoundingClientRect().x"
    before = browser.run(place)
    browser.run("document.querySelector('input[data-name=\"size\"]').focus()")
    browser.press("ArrowRight")
    browser.until(f"{place} > {before} + 5", 3)
    assert reading(browser, "size") == "1.2\u202fm"


def test_steps_play_to_the_end_and_reset_brings_all_back(browser, everything):
    open_figure(browser, everything)
    start = browser.run(STATE)["output"]
    click = "[...document.querySelectorAll('button')].find((b) => b.textContent === '{}').click()"
    browser.run(click.format("▶"))
    assert reading(browser, "step") == "1"
    browser.run(click.format("◀"))
    browser.run(click.format("◀"))
    assert reading(browser, "step") == "0"
    browser.run(click.format("Play"))
    browser.until("document.querySelector('output').innerText.includes('3.00; 0.60')", 3)
    browser.until("![...document.querySelectorAll('button')].some((b) => b.innerText == 'Pause')")
    for name in ("shape", "full"):
        browser.run(f"""(() => {{
            const input = document.querySelector('[data-name="{name}"]');
            if (input.type === "checkbox") input.checked = false;
            else input.value = "square";
            input.dispatchEvent(new Event("input"));
        }})()""")
    browser.until("document.querySelector('output').innerText.includes('area 0.000')", 3)
    browser.run(click.format("a small square"))
    browser.until("document.querySelector('output').innerText.includes('area 1.000')", 3)
    assert browser.run("document.querySelector('[data-name=\"full\"]').checked")
    assert reading(browser, "step") == "0"
    browser.run(click.format("Reset"))
    browser.until(f"{STATE}.output === {json.dumps(start)}", 3)
    assert browser.run("document.querySelector('[data-name=\"full\"]').checked")
    assert reading(browser, "step") == "0"


def test_a_text_is_typed(browser, everything):
    open_figure(browser, everything)
    browser.run("document.querySelector('input[data-name=\"words\"]').focus()")
    browser.run("document.querySelector('input[data-name=\"words\"]').setSelectionRange(1, 1)")
    browser.call("Input.insertText", text="bc é🙂")
    browser.until("document.querySelector('output').innerText.includes('letters 10')", 3)
    field = "document.querySelector('input[data-name=\"words\"]')"
    assert browser.run(f"[{field}.value, {field}.selectionStart]") == ["abc é🙂 bee", 7]
    browser.call("Input.insertText", text="too long")
    browser.until("document.querySelector('output').innerText.includes('letters 11')", 3)
    click = "[...document.querySelectorAll('button')].find((b) => b.textContent === 'Reset')"
    browser.run(f"{click}.click()")
    browser.until(f"{field}.value === 'a bee'", 3)


def test_who_wants_less_motion_gets_no_play(browser, everything):
    browser.look(1280)
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.call("Emulation.setEmulatedMedia", features=[feature])
    browser.open(everything)
    browser.until("document.querySelector('.interactive') !== null")
    buttons = browser.run("[...document.querySelectorAll('button')].map((b) => b.textContent)")
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert buttons == ["a small square", "◀", "▶", "Reset"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("export const controls", "export const controls = [[; const more"),
        ("export function draw", "function draw"),
        ("const plot =", "null.broken; const plot ="),
        ("state.place, { form", "[NaN, 0], { form"),
        ('"size", min', '"size", kind: "unknown", min'),
    ],
)
def test_a_broken_module_leaves_the_picture(browser, serve, tmp_path, old, new):
    assert old in EVERYTHING
    bare_page(tmp_path, EVERYTHING.replace(old, new))
    browser.look(360)
    faults = browser.faults(f"{serve(tmp_path)}/index.html")
    assert "interactive figure not drawn: module.js" in faults
    state = browser.run(STATE)
    assert (state["drawn"], state["figures"]) == ("failed", 0)
    assert state["picture"] > 50


def test_a_module_that_breaks_later_gives_the_picture_back(browser, serve, tmp_path):
    broken = EVERYTHING.replace("const plot =", "if (state.step) null.broken; const plot =")
    bare_page(tmp_path, broken)
    open_figure(browser, f"{serve(tmp_path)}/index.html")
    browser.run("document.querySelector('[data-name=\"step\"]').focus()")
    browser.press("ArrowRight")
    browser.until("document.querySelector('img').dataset.drawn === 'failed'", 3)
    state = browser.run(STATE)
    assert state["figures"] == 0
    assert state["picture"] > 50


def test_without_scripts_and_on_paper_the_picture_stands(browser, sample):
    browser.look(1280)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(sample)
    browser.call("Emulation.setScriptExecutionDisabled", value=False)
    state = browser.run(STATE)
    assert state["figures"] == 0
    assert state["picture"] > 50
    open_figure(browser, sample)
    browser.call("Emulation.setEmulatedMedia", media="print")
    state = browser.run(STATE)
    shown = browser.run("document.querySelector('.interactive').offsetHeight")
    browser.call("Emulation.setEmulatedMedia", media="")
    assert (state["picture"] > 50, shown) == (True, 0)


# --- Every figure of the course -------------------------------------------------------

MODULES = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "figures").rglob("*.js")
)

# Moves every control to both ends and back, and says what is wrong at each place.
TOUR = r"""(async () => {
    const root = document.querySelector(".interactive");
    const image = document.querySelector("img[data-interactive]");
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const faults = [];
    const look = async (where) => {
        await frame();
        if (image.dataset.drawn !== "true") return faults.push(`${where}: not drawn`);
        const wide = document.documentElement.scrollWidth - innerWidth;
        if (wide > 0) faults.push(`${where}: scrolls sideways by ${wide} px`);
        const said = root.innerText + [...root.querySelectorAll("text")].map((t) => t.textContent);
        const bad = said.match(/NaN|undefined|Infinity|\[object|null/);
        if (bad) faults.push(`${where}: says ${bad[0]}`);
        const around = root.getBoundingClientRect();
        for (const text of root.querySelectorAll("text")) {
            const box = text.getBoundingClientRect();
            if (box.left < around.left - 1 || box.right > around.right + 1)
                faults.push(`${where}: "${text.textContent}" is outside the figure`);
        }
        for (const input of root.querySelectorAll("input, select, button")) {
            const box = input.getBoundingClientRect();
            if (box.left < around.left - 1 || box.right > around.right + 1)
                faults.push(`${where}: ${input.outerHTML} is outside the figure`);
        }
    };
    await look("at first");
    for (const node of root.querySelectorAll("*")) {
        const size = parseFloat(getComputedStyle(node).fontSize);
        if (node.childNodes[0]?.nodeType === 3 && size < 12)
            faults.push(`"${node.textContent}" is ${size} px high`);
    }
    if (innerWidth < 500) {
        const small = [...root.querySelectorAll("input:not([type=checkbox]), button, select")]
            .filter((node) => node.offsetHeight < 44 || node.offsetWidth < 44);
        for (const node of small) faults.push(`too small to touch: ${node.outerHTML}`);
    }
    const controls = [...root.querySelectorAll("[data-name]")];
    for (const control of controls) {
        const { name } = control.dataset;
        const tell = () => control.dispatchEvent(new Event("input"));
        if (control.classList.contains("handle")) {
            for (const key of ["ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"]) {
                const options = { key, shiftKey: true };
                for (let i = 0; i < 30; i++)
                    control.dispatchEvent(new KeyboardEvent("keydown", options));
                await look(`${name} ${key}`);
            }
        } else if (control.type === "range") {
            for (const value of [control.min, control.max]) {
                control.value = value;
                tell();
                await look(`${name} at ${value}`);
            }
        } else if (control.type === "checkbox") {
            control.checked = !control.checked;
            tell();
            await look(`${name} ${control.checked}`);
        } else if (control.type === "text") {
            for (const value of ["", " ", "W".repeat(control.maxLength), "b é🙂 <b>"]) {
                control.value = value;
                tell();
                await look(`${name} "${value}"`);
            }
        } else {
            for (const { value } of [...control.options].reverse()) {
                control.value = value;
                tell();
                await look(`${name} ${value}`);
            }
        }
    }
    for (const preset of root.querySelectorAll(".preset")) {
        preset.click();
        await look(preset.textContent);
    }
    root.querySelector(".reset").click();
    await look("after reset");
    return faults;
})()"""


@pytest.mark.parametrize("path", MODULES)
def test_every_figure_can_be_handled(browser, serve, tmp_path, path):
    bare_page(tmp_path, (REPOSITORY / path).read_text(encoding="utf-8"))
    address = f"{serve(tmp_path)}/index.html"
    for width in (1280, 360):
        open_figure(browser, address, width)
        assert browser.run(TOUR) == []


def test_there_are_figures_to_handle():
    assert "figures/math-foundations/probability/temperature.js" in MODULES


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        ('scene.say("area", scene.number(area))', 'scene.say("area", 1 / 0)', "says Infinity"),
        ("plot.handle(", 'plot.text([3, 0], "far too far"); plot.handle(', "outside the figure"),
        (
            "const plot =",
            "if (state.size === 2) null.broken; const plot =",
            "size at 15: not drawn",
        ),
    ],
)
def test_the_tour_finds_faults(browser, serve, tmp_path, old, new, reported):
    assert old in EVERYTHING
    bare_page(tmp_path, EVERYTHING.replace(old, new, 1))
    open_figure(browser, f"{serve(tmp_path)}/index.html", 360)
    assert any(reported in fault for fault in browser.run(TOUR))
