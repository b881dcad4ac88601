"""Blocks and exercises run in the page: in a real browser, on the whole site, under any path.

Everything is run with ``CHAINRULE_ALL_PAGES=1``, about half an hour. Otherwise a sample: every
fourth of the documents that have no block of `SAMPLE` seconds, and three exercise files.
"""

from __future__ import annotations

import json
import os
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from page_run import run_page
from site_sample import REPOSITORY

from chainrule.course.manifest import load_course
from chainrule.course.site import build
from chainrule.learner import grader
from chainrule.learner.page import bundle, carry
from chainrule.learner.page.runner import CHECKOUT

pytestmark = pytest.mark.browser

ALL = bool(os.environ.get("CHAINRULE_ALL_PAGES"))
SAMPLE = 3
COURSE = load_course(REPOSITORY)
MEASURED = bundle.measured(REPOSITORY / "site")
FIRST = "math-foundations/linear-algebra"
FILES = ("math-foundations/calculus", "transformers/gpt", "training/distributed-training")


def seconds(document: str) -> int:
    return sum(each for each in MEASURED.get(document, {}).values() if not isinstance(each, str))


QUICK = [each for each in COURSE.written() if seconds(each.id) < SAMPLE]
DOCUMENTS = list(COURSE.written()) if ALL else QUICK[::4]
PROVED = [each.id for each in COURSE.written()] if ALL else FILES


class Plain(SimpleHTTPRequestHandler):
    """Any static server: no header of ours."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    ready = os.environ.get("CHAINRULE_PAGES")  # built already, while a test is being written
    return Path(ready) if ready else build(REPOSITORY, output=tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def site(pages, serve) -> str:
    return serve(pages)


@pytest.fixture(scope="module")
def plain(pages, tmp_path_factory):
    """The same files below /course/, from a server that knows nothing of them."""
    root = tmp_path_factory.mktemp("web")
    (root / "course").symlink_to(pages)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Plain, directory=str(root)))
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/course"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quiet(browser):
    """No test leaves an error in the console, nor a request to another host."""
    browser.look(1280)
    yield
    for event in browser.events:
        method, detail = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            asked = detail["request"]["url"]
            assert asked.startswith(("http://127.0.0.1:", "data:", "blob:")), asked
        assert method != "Runtime.exceptionThrown", detail
        assert method != "Log.entryAdded" or detail["entry"]["level"] != "error", detail
        assert method != "Runtime.consoleAPICalled" or detail["type"] != "error", detail


class Blocks:
    """The blocks of an open page, used as a reader uses them."""

    def __init__(self, browser, address: str, document: str = FIRST):
        self.browser = browser
        browser.open(f"{address}/{document}.html")
        aside = "article details:not(.exercise, .talk)"
        browser.run(f"document.querySelectorAll('{aside}').forEach((each) => (each.open = true))")

    def at(self, index: int, what: str = "") -> str:
        inside = f".querySelector('{what}')" if what else ""
        return f"document.querySelectorAll('.run')[{index}]{inside}"

    def press(self, index: int, button: str = ".run-button") -> None:
        self.browser.run(f"{self.at(index, button)}.click()")

    def state(self, index: int, limit: float = 90) -> str:
        return self.browser.until(f"{self.at(index)}.dataset.state", limit)

    def run(self, index: int, limit: float = 90) -> str:
        self.browser.run(f"delete {self.at(index)}.dataset.state")
        self.press(index)
        return self.state(index, limit)

    def write(self, index: int, code: str) -> None:
        """Put code into the editor of a block, by its keyboard."""
        if not self.browser.run(f"!!{self.at(index, '.cm-content')}"):
            self.press(index, ".edit-button")
            self.browser.until(f"!!{self.at(index, '.cm-content')}", 30)
        type_into(self.browser, self.at(index, ".cm-content"), code)

    def note(self, index: int) -> str:
        return self.browser.run(f"{self.at(index, '.run-note')}.textContent")

    def output(self, index: int) -> str:
        return self.browser.run(f"{self.at(index, '.run-output')}.textContent")


def type_into(browser, editor: str, text: str) -> None:
    """Replace what stands in an editor."""
    # The editor draws only what is in view.
    browser.run(f"{editor}.scrollIntoView({{ block: 'center', behavior: 'instant' }})")
    browser.until(f"{editor}.querySelector('.cm-line')?.textContent")
    browser.run(f"{editor}.focus()")
    select = {"key": "a", "code": "KeyA", "windowsVirtualKeyCode": 65, "modifiers": 2}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **select)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **select)
    browser.call("Input.insertText", text=text)


# --- Run ------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.id)
def test_blocks_print_in_the_page_what_is_committed(browser, site, document):
    lacking = {
        key for key, value in MEASURED.get(document.id, {}).items() if isinstance(value, str)
    }
    for each in run_page(browser, site, document.path):
        place = f"{document.path}:{each['line']}: {each['output']}"
        if each["state"] == "elsewhere" or each["digest"] in lacking:
            assert each["note"].startswith("Runs in your own checkout: "), place
        elif each["state"] == "error":
            assert CHECKOUT in each["output"], place
        else:
            assert each["state"] == "same", place


def test_most_of_the_course_runs_in_the_page():
    count, lacking = 0, 0
    for document in COURSE.written():
        blocks = bundle.code_blocks((REPOSITORY / document.path).read_text(encoding="utf-8"))
        known = MEASURED.get(document.id, {})
        count += len(blocks)
        lacking += sum(isinstance(known.get(bundle.digest(each.code)), str) for each in blocks)
    assert count > 700
    assert lacking / count < 0.03


def test_a_block_runs_what_stands_above_it_once(browser, plain):
    blocks = Blocks(browser, plain)
    assert blocks.run(3) == "same"
    assert [blocks.state(index) for index in range(4)] == ["same"] * 4
    assert browser.run("document.querySelectorAll('.run[data-state]').length") == 4
    browser.run("document.querySelectorAll('.run').forEach((each) => delete each.dataset.state)")
    assert blocks.run(4) == "same"
    assert browser.run("document.querySelectorAll('.run[data-state]').length") == 1
    assert "Prints what stands above" in blocks.note(4)


def test_edit_and_reset(browser, site):
    blocks = Blocks(browser, site)
    blocks.write(0, "answer = 6 * 7\nprint('so')\nanswer")
    assert blocks.run(0) == "done"
    assert blocks.output(0) == "so\n42"
    blocks.write(1, "answer\n1 / 0")
    assert blocks.run(1) == "error"
    assert blocks.output(1) == "ZeroDivisionError: division by zero\n  line 2: 1 / 0"
    blocks.press(1, ".edit-button")
    blocks.press(0, ".edit-button")
    assert browser.run(f"{blocks.at(0, '.highlight pre')}.hidden") is False
    assert blocks.run(1) == "same"


def test_the_keyboard_is_enough(browser, site):
    browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
    blocks = Blocks(browser, site)
    focus = "document.activeElement.textContent + document.activeElement.getAttribute('aria-label')"
    browser.run(f"{blocks.at(0, '.highlight')}.closest('section').setAttribute('tabindex', '-1')")
    browser.run(f"{blocks.at(0, '.highlight')}.closest('section').focus()")
    for _ in range(60):
        browser.press("Tab")
        if browser.run(focus) == "EditEdit block 1":
            break
    assert browser.run(focus) == "EditEdit block 1"
    browser.press("Enter")
    browser.until("document.activeElement.classList.contains('cm-content')", 30)
    label = browser.run("document.activeElement.getAttribute('aria-label')")
    assert "Control Enter runs, Escape leaves" in label
    type_into(browser, "document.activeElement", "print('typed')")
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "modifiers": 2}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **enter)
    assert blocks.state(0) == "done"
    assert blocks.output(0) == "typed"
    escape = {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **escape)
    assert browser.run(focus) == "RunRun block 1"
    notes = browser.run("[...document.querySelectorAll('.run-note')].map((n) => n.role)")
    assert set(notes) == {"status"}


def stop(blocks: Blocks, index: int) -> float:
    """Start an endless loop, stop it, and say how long that took."""
    blocks.write(index, "kept = 7\nwhile True:\n    pass")
    blocks.browser.run(f"delete {blocks.at(index)}.dataset.state")
    blocks.press(index)
    blocks.browser.until(f"{blocks.at(index, '.run-note')}.textContent.startsWith('Running')", 90)
    time.sleep(1)
    began = time.monotonic()
    blocks.press(index)
    assert blocks.state(index, 10) == "stopped"
    return time.monotonic() - began


def test_an_endless_loop_is_stopped_and_names_are_kept(browser, site):
    blocks = Blocks(browser, site)
    assert browser.run("crossOriginIsolated")
    assert stop(blocks, 0) < 1.5
    assert "What ran before is kept" in blocks.note(0)
    blocks.write(0, "kept")
    assert blocks.run(0) == "done"
    assert blocks.output(0) == "7"


def test_an_endless_loop_is_stopped_on_any_server(browser, plain):
    blocks = Blocks(browser, plain)
    assert not browser.run("crossOriginIsolated")
    assert stop(blocks, 0) < 1.5
    assert "The next Run begins anew" in blocks.note(0)
    blocks.write(0, "'alive'")
    assert blocks.run(0) == "done"
    assert blocks.output(0) == "'alive'"


@pytest.mark.slow
def test_what_goes_wrong_gets_a_clear_line(browser, site):
    blocks = Blocks(browser, site)
    rows = {
        "import numpy as np\nnp.ones(2**30)": "asks for more memory than a page has (2 GB at most)",
        "a = [bytearray(2**30) for _ in range(4)]": "memory",
        "for i in range(3)\n    pass": "SyntaxError: expected ':'\n  line 1: for i in range(3)",
        "while True:\n    print('again' * 100)": "prints more than 1,000,000 characters",
        "import torch": "PyTorch is too large for the page: this runs in your own checkout",
        "import matplotlib": "pictures are not drawn in the page: this runs in your own checkout",
        "input()": "there is no keyboard here",
        "import threading\nthreading.Thread(target=print).start()": "a page has no threads",
        "import subprocess\nsubprocess.run(['ls'])": "a page starts no processes",
        "import sys\nsys.exit(3)": "SystemExit: 3",
        "def f(): f()\nf()": "RecursionError",
    }
    for code, said in rows.items():
        blocks.write(0, code)
        assert blocks.run(0, 120) in ("error", "failed"), code
        assert said in blocks.output(0), (code, blocks.output(0))
    blocks.write(0, "'alive'")
    assert blocks.run(0) == "done"


def test_python_in_the_page_reaches_no_other_host(browser, plain):
    blocks = Blocks(browser, plain)
    blocks.write(0, "from pyodide.http import open_url\nopen_url('http://192.0.2.1/x')")
    assert blocks.run(0) == "error"
    blocked = [each for each in browser.events if each["method"] == "Log.entryAdded"]
    browser.events[:] = [each for each in browser.events if each not in blocked]
    assert any("Content Security Policy" in e["params"]["entry"]["text"] for e in blocked)


def test_what_takes_long_says_so_first(browser, site):
    slow = max(MEASURED, key=seconds)
    blocks = Blocks(browser, site, slow)
    place = "[...document.querySelectorAll('.run')].findIndex((b) => b.dataset.seconds >= 5)"
    index = browser.run(place)
    assert blocks.note(index).startswith("takes about ")
    blocks.press(index)
    note = f"{blocks.at(index, '.run-note')}.textContent"
    said = browser.until(f"{note}.match(/: about \\d+ s/)?.[0]")
    assert int(said.split()[2]) >= 5
    if index:
        assert "blocks above that it builds on" in blocks.note(index)
    browser.until(f"{note}.startsWith('Running')", 90)
    assert said in blocks.note(index)


def test_without_a_connection_a_line_says_so_and_the_next_run_works(browser, site):
    blocks = Blocks(browser, site)
    browser.call("Network.setBlockedURLs", urls=["*manifest.json*"])
    blocks.press(0)
    browser.until(f"{blocks.at(0, '.run-note')}.textContent.startsWith('Not loaded: ')")
    browser.call("Network.setBlockedURLs", urls=[])
    browser.events.clear()
    assert blocks.run(0) == "same"


def test_a_second_run_does_not_stop_the_first(browser, site):
    blocks = Blocks(browser, site)
    blocks.write(0, "import time\nfor i in range(30):\n    time.sleep(0.1)\n'ended'")
    blocks.press(0)
    browser.until(f"{blocks.at(0, '.run-note')}.textContent.startsWith('Running')", 90)
    blocks.press(1)
    assert "Another block is running" in blocks.note(1)
    assert blocks.state(0) == "done"
    assert blocks.output(0) == "'ended'"


def test_the_search_works_below_any_path(browser, plain):
    browser.open(f"{plain}/search.html?q=projection")
    link = browser.until('document.querySelector("#search-results li a")?.href', 30)
    assert link.startswith(f"{plain}/")


# --- Time -----------------------------------------------------------------------------

BARE = """(async () => {
  const pyodide = new URL(%s, document.baseURI).href;
  const script = `const { loadPyodide } = await import("${pyodide}pyodide.mjs");
    await loadPyodide({ indexURL: "${pyodide}" }); postMessage("ready");`;
  const began = performance.now();
  const blob = new Blob([script], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(blob), { type: "module" });
  await new Promise((resolve, reject) => (worker.onmessage = resolve, worker.onerror = reject));
  worker.terminate();
  return performance.now() - began;
})()"""


def test_the_first_result_comes_soon(browser, pages, site):
    blocks = Blocks(browser, site)
    [pyodide] = [path.name for path in (pages / "_static").glob("pyodide-*")]
    times = []
    for _ in range(2):
        browser.open(f"{site}/{FIRST}.html")
        bare = browser.run(BARE % json.dumps(f"../_static/{pyodide}/")) / 1000
        began = time.monotonic()
        assert blocks.run(0) == "same"
        times.append((time.monotonic() - began, bare))
    assert min(took / bare for took, bare in times) < 4, times


def test_nothing_is_loaded_before_it_is_wanted(browser, site):
    browser.open(f"{site}/{FIRST}.html")
    browser.until("document.querySelectorAll('.run-button').length > 10")
    asked = [
        each["params"]["request"]["url"]
        for each in browser.events
        if each["method"] == "Network.requestWillBeSent"
    ]
    assert not [url for url in asked if "/_static/run/" in url or "pyodide" in url]
    own = browser.run("fetch('../_static/run.js').then((a) => a.text()).then((t) => t.length)")
    assert own < 6000


def test_without_javascript_a_page_is_what_it_was(browser, site):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(f"{site}/{FIRST}.html")
        tree = browser.call("DOM.getDocument", depth=-1)["root"]
        text = json.dumps(tree)
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "run-bar" not in text
    assert "run-button" not in text
    assert '"run"' in text


# --- Practise -------------------------------------------------------------------------


class Practice:
    """One exercise of an open page."""

    def __init__(self, browser, address: str, document: str, name: str):
        self.browser, self.box = browser, f"document.getElementById('exercise-{name}')"
        browser.open(f"{address}/{document}.html")
        self.open()

    def open(self) -> None:
        self.browser.until(f"!!{self.box}")
        self.browser.run(f"{self.box}.open = true")
        self.browser.until(f"!!{self.box}.querySelector('.cm-content')", 30)

    def button(self, text: str) -> None:
        self.browser.run(
            f"[...{self.box}.querySelectorAll('button')]"
            f".find((each) => each.textContent === '{text}').click()"
        )

    def check(self, answer: str, limit: float = 90) -> str:
        type_into(self.browser, f"{self.box}.querySelector('.cm-content')", answer)
        self.browser.run(f"delete {self.box}.dataset.verdict")
        self.button("Check")
        return self.browser.until(f"{self.box}.dataset.verdict", limit)

    def text(self, what: str = "") -> str:
        inside = f".querySelector('{what}')" if what else ""
        return self.browser.run(f"{self.box}{inside}.innerText")


def item_of(document: str, name: str) -> dict:
    told = bundle.exercises(COURSE, COURSE.by_id[document])
    return next(each for each in told["items"] if each["name"] == name)


def test_an_exercise_from_stub_to_solution(browser, plain, tmp_path):
    item = item_of(FIRST, "projection")
    practice = Practice(browser, plain, FIRST, "projection")
    browser.run("localStorage.clear()")
    assert practice.check(item["stub"]) == "not started yet"
    practice.button("Hint")
    practice.button("Hint")
    helps = browser.run(f"{practice.box}.querySelectorAll('.helps li').length")
    assert helps == 2
    practice.button("Solution")
    assert "Not passed yet" in practice.text(".run-note")
    assert browser.run(f"{practice.box}.querySelector('.solution').children.length") == 0

    head = item["stub"][: item["stub"].index("    ...")]
    wrong = head + "    return (u @ v) * v"
    assert practice.check(wrong) == "failed"
    mine = tmp_path / "answer.py"
    mine.write_text(f"import numpy as np\n\n\n{wrong}\n", encoding="utf-8")
    exercises = REPOSITORY / COURSE.by_id[FIRST].exercises
    terminal = list(grader.grade(exercises, mine, only="projection"))[-1]
    said = practice.text(".verdict")
    for part in (terminal.check, terminal.hint or terminal.message, terminal.call):
        assert " ".join(part.split()) in " ".join(said.split())

    assert practice.check(item["solution"]) == "passed"
    assert "passed" in browser.run(f"{practice.box}.className")
    practice.button("Solution")
    assert item["solution"].splitlines()[-1].strip() in practice.text(".solution")

    browser.reload()
    practice.open()
    assert "passed" in browser.run(f"{practice.box}.className")
    assert item["solution"].splitlines()[-1].strip() in practice.text(".cm-content")
    kept = json.loads(browser.run("localStorage.getItem('chainrule')"))
    assert list(kept["passed"]) == [FIRST]
    assert kept["hinted"] == {FIRST: {"projection": 2}}
    file = tmp_path / "kept.json"
    file.write_text(json.dumps({"chainrule": 1, **kept}), encoding="utf-8")
    assert carry.read(file).answers[FIRST]["projection"] == item["solution"]


def test_an_endless_answer_is_stopped(browser, site):
    item = item_of(FIRST, "projection")
    practice = Practice(browser, site, FIRST, "projection")
    head = item["stub"][: item["stub"].index("    ...")]
    type_into(
        browser, f"{practice.box}.querySelector('.cm-content')", f"{head}    while True: pass"
    )
    practice.button("Check")
    browser.until(
        f"{practice.box}.querySelector('.run-note').textContent.startsWith('Checking')", 90
    )
    time.sleep(1)
    practice.button("Stop")
    browser.until(f"{practice.box}.querySelector('.run-note').textContent === 'Stopped'", 3)
    assert practice.check(item["solution"]) == "passed"


def test_work_comes_from_a_file_and_the_graph_shows_it(browser, site, tmp_path):
    told = bundle.exercises(COURSE, COURSE.by_id[FIRST])
    passed = {item["name"]: "2026-11-28" for item in told["items"]}
    other = {"math-foundations/calculus": {"six_derivatives": "2026-11-29"}}
    data = {"chainrule": 1, "passed": {FIRST: passed, **other}}
    data["answers"] = {FIRST: {"projection": "def projection(u, v):\n    return 'mine'"}}
    file = tmp_path / "work.json"
    file.write_text(json.dumps(data), encoding="utf-8")
    practice = Practice(browser, site, FIRST, "projection")
    browser.run("localStorage.clear()")
    browser.events.clear()
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector=".carry input[type=file]")
    browser.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node["nodeId"])
    browser.wait_for("Page.loadEventFired")
    practice.open()
    assert "'mine'" in practice.text(".cm-content")
    browser.open(f"{site}/index.html")
    shown = "document.querySelector('.sheet [data-id=\"%s\"]').getAttribute('aria-label')"
    count = len(passed)
    label = browser.run(shown % FIRST)
    assert label == f"Linear algebra, {count} of {count} exercises passed"
    assert "1 of" in browser.run(shown % "math-foundations/calculus")
    classes = "document.querySelector('.sheet [data-id=\"%s\"]').className.baseVal"
    assert "done" in browser.run(classes % FIRST)
    assert "begun" in browser.run(classes % "math-foundations/calculus")
    browser.run("localStorage.clear()")


PROVE = """(async () => {
  const base = new URL("_static/run/", document.baseURI);
  const get = async (name) => (await fetch(new URL(name, base))).json();
  const manifest = await get("manifest.json");
  const worker = new Worker(new URL(manifest.worker, base), { type: "module" });
  const at = (name) => new URL(name, base).href;
  worker.postMessage({ begin: { pyodide: at(manifest.pyodide), archive: at(manifest.package),
    module: "chainrule.learner.page.runner", file: "" } });
  const found = {};
  for (const id of %s) {
    const { document, source } = await get(manifest.exercises[id]);
    worker.postMessage({ id, call: "prove", values: [document, source] });
    found[id] = await new Promise((resolve) => {
      worker.onmessage = ({ data }) => {
        if (data.failed || data.id) resolve(data.failed ?? data.answer);
      };
    });
  }
  worker.terminate();
  return found;
})()"""


@pytest.mark.slow
def test_solutions_pass_in_the_page_and_each_mistake_gets_its_hint(browser, site):
    browser.open(f"{site}/index.html")
    browser.socket.settimeout(1800)
    try:
        found = browser.run(PROVE % json.dumps(PROVED))
    finally:
        browser.socket.settimeout(60)
    problems = {name: each["problems"] for name, each in found.items() if each["problems"]}
    assert not problems
    assert sum(each["mistakes"] for each in found.values()) > (1000 if ALL else 60)


# --- The model ------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["index", "transformers/gpt"])
def test_the_model_writes_and_shows_what_it_weighs(browser, plain, page):
    browser.open(f"{plain}/{page}.html")
    browser.run("document.querySelector('.talk').open = true")
    browser.until("!!document.querySelector('.talk .run-button')", 30)
    browser.run("document.querySelector('.talk .run-button').click()")
    browser.until("!!document.querySelector('.talk-chances tr.came')", 120)
    text = browser.run("document.querySelector('.talk .talk-text').textContent")
    assert text.startswith("The gradient of ")
    assert len(text) == len("The gradient of ") + 160
    heads = browser.run("document.querySelectorAll('.talk-heads option').length")
    assert heads == 12
    browser.run("document.querySelector('.talk-text [data-at=\"40\"]').click()")
    browser.until("document.querySelector('.talk-text .looked').dataset.at === '40'")


# --- Every width, both schemes ----------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820, 390])
def test_what_runs_fits_on_every_screen(browser, plain, width, scheme):
    browser.look(width, scheme)
    for name in (FIRST, "index"):
        assert browser.faults(f"{plain}/{name}.html") == []
    blocks = Blocks(browser, plain)
    blocks.write(0, "x = 1\nprint('a line that is far too wide for a telephone ' * 4)")
    assert blocks.run(0) == "done"
    browser.run("document.getElementById('exercise-projection').open = true")
    browser.until("!!document.querySelector('#exercise-projection .cm-content')", 30)
    wide = browser.run("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0
    if width == 390:
        browser.call("Emulation.setTouchEmulationEnabled", enabled=True)
        height = browser.run(f"{blocks.at(0, '.run-button')}.offsetHeight")
        browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
        assert height >= 28
