"""Every page in a real browser: wide and narrow, light and dark, with nothing from elsewhere."""

from __future__ import annotations

import json
from urllib.request import urlopen

import pytest
from chromium import Chromium
from site_sample import REPOSITORY, small_course

from chainrule.course.manifest import load_course
from chainrule.course.site import build
from chainrule.trainer.parts import PARTS

pytestmark = pytest.mark.browser
WIDTHS = (1280, 820, 390)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def sample(tmp_path_factory, serve):
    course = small_course(tmp_path_factory.mktemp("sample"))
    return serve(build(course.root, output=course.root / "built"))


@pytest.fixture(scope="module")
def site(tmp_path_factory, serve):
    pages = build(REPOSITORY, strict=True, output=tmp_path_factory.mktemp("site"))
    return serve(pages), sorted(str(page.relative_to(pages)) for page in pages.rglob("*.html"))


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_of_the_site_is_sound(browser, site, width):
    address, names = site
    course = load_course(REPOSITORY)
    assert {f"{document.id}.html" for document in course.written()} < set(names)
    faults = []
    # between phone and desk, a third of the pages: what breaks there breaks at an end, too
    for name in names[::3] if width == 820 else names:
        browser.look(width)
        found = browser.faults(f"{address}/{name}")
        faults += [f"{name}, {width} px, light: {fault}" for fault in found]
        browser.events.clear()
        browser.look(width, "dark")
        found = browser.faults_now(f"{address}/{name}")
        faults += [f"{name}, {width} px, dark: {fault}" for fault in found]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_everything_a_page_may_hold_is_sound(browser, sample, width, scheme):
    browser.look(width, scheme)
    names = ("index", "README", "math-foundations/linear-algebra", "search", "source/LICENSE")
    names += ("notebooks/01-numpy-neural-net",)
    faults = {name: browser.faults(f"{sample}/{name}.html") for name in names}
    assert not any(faults.values()), faults
    dark = browser.run(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((c) => c < 100)"
    )
    assert dark == (scheme == "dark")


def test_search_leads_to_the_page(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/search.html?q=unmistakablyfindable")
    link = browser.until('document.querySelector("#search-results li a")?.href')
    browser.open(link)
    assert browser.run("document.querySelector('h1').firstChild.data") == "Calculus"
    assert browser.faults(f"{sample}/search.html?q=unmistakablyfindable") == []


def test_search_names_first_what_teaches_the_words(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/search.html?q=linear+algebra")
    link = browser.until('document.querySelector("#search-results li a")?.href')
    assert "math-foundations/linear-algebra" in link
    shown = browser.run('[...document.querySelectorAll("#search-results li a")].map((a) => a.href)')
    about = [n for n, link in enumerate(shown) if "/README" in link or "/NOTATION" in link]
    course = [n for n, link in enumerate(shown) if n not in about]
    assert not about or max(course) < min(about)


def test_what_has_the_focus_can_be_seen(browser, sample):
    browser.look(1280)
    browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
    browser.open(f"{sample}/math-foundations/linear-algebra.html")
    browser.until('document.querySelector("button.copybtn") !== null')
    seen = browser.run("""(() => {
        const button = document.querySelector("button.copybtn");
        button.focus({ focusVisible: true });
        const { opacity, outlineStyle } = getComputedStyle(button);
        return [opacity, outlineStyle];
    })()""")
    assert seen[1] == "solid"
    assert browser.until(
        'getComputedStyle(document.querySelector("button.copybtn")).opacity === "1"'
    )


@pytest.mark.parametrize(("scheme", "filtered"), [("light", False), ("dark", True)])
def test_pictures_are_dark_at_night(browser, sample, scheme, filtered):
    browser.look(1280, scheme)
    browser.open(f"{sample}/math-foundations/linear-algebra.html")
    look = browser.run('getComputedStyle(document.querySelector("article p > img")).filter')
    assert (look != "none") == filtered


def test_a_notebook_says_how_to_open_it(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/notebooks/01-numpy-neural-net.html")
    box = browser.run('document.querySelector("article .generated-header").textContent')
    assert "make lab NOTEBOOK=notebooks/01-numpy-neural-net.ipynb" in box
    file = browser.run('document.querySelector("article .generated-header a").href')
    with urlopen(file) as answer:
        assert json.load(answer)["nbformat"] == 4


def test_an_excerpt_shows_a_formula_once_and_not_its_source(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/search.html?q=unmistakablyfindable")
    excerpt = browser.until('document.querySelector("#search-results li .context")?.textContent')
    assert "f′(x)=2x." in excerpt
    assert "f'(x) = 2x" not in excerpt


def test_a_subject_of_the_graph_shows_its_needs_and_opens(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/index.html")
    spot = browser.run("""(() => {
        const subject = document.querySelector('a[data-id="math-foundations/calculus"]');
        subject.scrollIntoView({ block: "center", behavior: "instant" });
        const box = subject.getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2];
    })()""")
    mouse = {"x": spot[0], "y": spot[1], "button": "left", "clickCount": 1}
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=spot[0], y=spot[1])
    card = browser.until("document.querySelector('.sheet .card:not([hidden])')?.innerText")
    assert "A Jacobian is a matrix" in card
    browser.events.clear()
    browser.call("Input.dispatchMouseEvent", type="mousePressed", **mouse)
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", **mouse)
    browser.wait_for("Page.loadEventFired")
    assert browser.run("location.pathname") == "/math-foundations/calculus.html"


def test_the_keyboard_reaches_the_graph_and_follows_it(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/index.html")
    seen = []
    for _ in range(60):
        browser.press("Tab")
        seen.append(browser.run("document.activeElement.dataset.id ?? ''"))
        if seen[-1] == "neural-networks/perceptron":
            break
    assert "math-foundations/linear-algebra" in seen
    assert seen[-1] == "neural-networks/perceptron", "a planned subject can be asked about, too"
    assert "level set" in browser.run("document.querySelector('.sheet .card').innerText")

    browser.run("document.querySelector('a[data-id=\"math-foundations/calculus\"]').focus()")
    browser.events.clear()
    browser.press("Enter")
    browser.wait_for("Page.loadEventFired")
    assert browser.run("location.pathname") == "/math-foundations/calculus.html"


def test_the_gpt_of_the_home_page_fills_with_what_was_passed(browser, sample):
    """A part that stands in several places is one, and a name counts in its own subject alone."""
    browser.look(1280)
    browser.open(f"{sample}/index.html")
    browser.run("localStorage.clear()")
    count = "document.querySelector('.gpt .count').textContent"
    boxes = "[...document.querySelectorAll('.gpt .part.mine')].map((box) => box.textContent)"
    for passed, said, filled in (
        ({}, "0 of", []),
        ({"training/optimizers": {"attend": 1}}, "0 of", []),
        ({"transformers/attention": {"attend": 1}}, "1 of", ["■ attention"]),
        ({"neural-networks/backpropagation": {"linear_layer": 1}}, "1 of", ["■ linear layers"] * 3),
    ):
        kept = json.dumps(json.dumps({"passed": passed}))
        browser.run(f"localStorage.setItem('chainrule', {kept})")
        browser.open(f"{sample}/index.html")
        assert browser.run(count) == f"{said} {len(PARTS)}"
        assert browser.run(boxes) == filled
    browser.run("localStorage.clear()")


def test_on_a_telephone_the_list_stands_for_the_graph(browser, sample):
    browser.look(390)
    browser.open(f"{sample}/index.html")
    assert browser.run("document.querySelector('.graph').offsetHeight") == 0
    assert browser.run("document.querySelectorAll('.subjects li').length") == 30


def test_on_paper_stands_the_text_and_nothing_to_press(browser, sample):
    browser.look(800)
    browser.call("Emulation.setEmulatedMedia", media="print")
    browser.open(f"{sample}/math-foundations/linear-algebra.html")
    pressed = ".skip-to-content, .sidebar-drawer, .toc-drawer, .theme-toggle, .copybtn, .next-page"
    seen = browser.run(
        f"[...document.querySelectorAll('{pressed}')]"
        ".filter((each) => each.offsetHeight).map((each) => each.className)"
    )
    browser.call("Emulation.setEmulatedMedia", media="")
    assert seen == []


def test_a_box_of_a_diagram_opens_its_page(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/README.html")
    link = 'document.querySelector("pre.mermaid a")'
    href = f'{link}?.href?.baseVal ?? {link}?.getAttribute("xlink:href")'
    assert browser.until(href).endswith("math-foundations/linear-algebra.html")


def test_the_copy_button_takes_the_code_and_leaves_the_output(browser, sample):
    browser.look(1280)
    browser.open(f"{sample}/math-foundations/linear-algebra.html")
    browser.until("document.querySelector('button.copybtn') !== null")
    browser.run("""(() => {
        const copy = () => { window.copied = document.querySelector("textarea").value; };
        document.execCommand = () => (copy(), true);
        document.querySelector("button.copybtn").click();
    })()""")
    code = browser.until("window.copied")
    assert "print(np.arange(3))" in code
    assert "#>" not in code
    compile(code, "copied", "exec")


@pytest.mark.parametrize(
    ("planted", "reported"),
    [
        ('<img src="http://192.0.2.1/x.png" alt="x">', "request off the machine"),
        ('<link rel="stylesheet" href="http://192.0.2.1/x.css">', "request off the machine"),
        ('<div style="width: 3000px">wide</div>', "scrolls sideways"),
        ("<p>the norm $x^2$ is raw</p>", "raw source"),
        ('<span class="katex-error">x^</span>', "formula"),
        ('<pre class="mermaid" data-drawn="failed">graph</pre>', "diagram not drawn"),
        ('<img src="none.png" alt="x">', "broken image"),
        ('<img data-interactive="x.js" data-drawn="failed">', "interactive figure not drawn: x.js"),
        ('<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">', "without alternative text"),
        ("<script>console.error('planted')</script>", "console: ['planted']"),
        ("<script>planted()</script>", "exception"),
    ],
)
def test_a_planted_fault_is_found(browser, serve, tmp_path, planted, reported):
    head = '<!doctype html><html><head><link rel="icon" href="data:,"></head>'
    (tmp_path / "index.html").write_text(f"{head}<body><article>{planted}</article></body></html>")
    browser.look(390)
    faults = browser.faults(f"{serve(tmp_path)}/index.html")
    assert any(reported in fault for fault in faults), faults


def test_a_sound_page_has_no_fault(browser, serve, tmp_path):
    head = '<!doctype html><html><head><link rel="icon" href="data:,"></head>'
    (tmp_path / "index.html").write_text(f"{head}<body><article>Sound.</article></body></html>")
    assert browser.faults(f"{serve(tmp_path)}/index.html") == []


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)]
)
def test_without_chromium_the_tests_are_skipped_but_not_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install chromium"):
        Chromium()
