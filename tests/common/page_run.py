"""Run every block of a page as a reader would, and tell how each went.

``python tests/common/page_run.py [PATH …] [--pages FOLDER] [--write]`` runs the pages of the built
site and prints what differs; ``--write`` stores in ``site/measured.json`` what takes long in the
page, and what cannot run there.
"""

from __future__ import annotations

import argparse
import json
import threading
from functools import partial
from pathlib import Path

from chromium import Chromium

from chainrule.course.manifest import load_course
from chainrule.course.site.serve import open_server
from chainrule.learner.page import bundle
from chainrule.learner.page.runner import CHECKOUT

REPOSITORY = Path(__file__).resolve().parents[2]
SLOW = 3.0  # seconds from which the time of a block is stored

# How busy the machine is: the same work, in milliseconds.
WORK = """(() => {
  const began = performance.now();
  let x = 1;
  for (let i = 0; i < 3e8; i++) x = (x * 31 + i) | 0;
  return performance.now() - began + (x === 0.5);
})()"""

ALL = """(async () => {
  const found = [];
  for (const box of document.querySelectorAll(".run")) {
    const button = box.querySelector(".run-button");
    const told = () => box.querySelector(".run-note").textContent;
    if (button) {
      button.click();
      while (!box.dataset.state) await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { state, took, elsewhere } = box.dataset;
    const output = box.querySelector(".run-output")?.textContent ?? "";
    found.push({ state: state ?? "elsewhere", seconds: Number(took ?? 0), note: told(), output });
  }
  return found;
})()"""


def run_page(browser: Chromium, address: str, path: str) -> list[dict]:
    """Every block of a document in its page, from top to bottom."""
    browser.open(f"{address}/{path.removesuffix('.md')}.html")
    browser.socket.settimeout(600)
    try:
        found = browser.run(ALL)
    finally:
        browser.socket.settimeout(60)
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    blocks = bundle.code_blocks(text)
    assert len(blocks) == len(found), f"{path}: {len(blocks)} blocks, {len(found)} on the page"
    for block, each in zip(blocks, found, strict=True):
        each |= {"line": block.first_line, "digest": bundle.digest(block.code)}
    return found


def reason(each: dict, lacks: str) -> str:
    """What a block lacks that ended with an error."""
    first = each["output"].split("\n")[-2 if "\n" in each["output"] else 0]
    if first.startswith("NameError") and lacks:
        return f"it builds on a block above, and there {lacks}"
    return first.removesuffix(f": {CHECKOUT}")


def main() -> None:
    """Run the pages that the command line names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*")
    parser.add_argument("--pages", type=Path, default=REPOSITORY / "site/_build/html")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    course = load_course(REPOSITORY)
    server = open_server(asked.pages, 0)
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    browser = Chromium()
    file = REPOSITORY / "site" / bundle.MEASURED
    stored = bundle.measured(file.parent)
    quiet = min(browser.run(WORK) for _ in range(5))
    for document in course.written():
        if asked.paths and document.path not in asked.paths:
            continue
        before = browser.run(WORK)
        found = run_page(browser, f"http://127.0.0.1:{server.server_port}", document.path)
        busy = max(1, (before + browser.run(WORK)) / 2 / quiet)
        for each in found:
            each["seconds"] /= busy
        same = sum(each["state"] == "same" for each in found)
        seconds = sum(each["seconds"] for each in found)
        print(f"{document.path}: {same} of {len(found)} as committed, {seconds:.0f} s", flush=True)
        kept, lacks = {}, ""
        for each in found:
            if each["state"] == "error":
                kept[each["digest"]] = told = reason(each, lacks)
                lacks = lacks or told
            elif each["state"] == "elsewhere":
                if told := stored.get(document.id, {}).get(each["digest"]):
                    kept[each["digest"]] = told
            elif each["seconds"] >= SLOW:
                kept[each["digest"]] = round(each["seconds"])
            if each["state"] not in ("same", "elsewhere"):
                print(f"  {each['line']}: {each['state']}: {each['output']}", flush=True)
        stored[document.id] = kept
    stored = {name: stored[name] for name in course.by_id if stored.get(name)}
    if asked.write:
        file.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
