// Exercises in the page: the grader's verdicts and hints, and the learner's work, kept here.
import { Clock, LOADING, get, make, openEditor } from "./parts/dom.js";
import { Engine } from "./parts/engine.js";
import * as progress from "./parts/progress.js";

const SLOWER = 3; // how many times an exercise's own limit it may take in the page

export async function start(document_, manifest, base) {
  const told = await get(manifest.exercises[document_], base);
  const examiner = new Engine(manifest, base, "");
  const page = { manifest, base, told, examiner, busy: null };
  carry();
  return {
    open: (name, box) => new Exercise(page, told.items.find((item) => item.name === name), box).show(),
  };
}

// Prose of a docstring: paragraphs, `code`, and what is indented as it stands.
function prose(text) {
  return text.split(/\n\s*\n/).map((part) => {
    if (/^\s/.test(part)) return make("pre", {}, part);
    const pieces = part.replaceAll("\n", " ").split(/`+([^`]+)`+/);
    return make("p", {}, ...pieces.map((piece, i) => (i % 2 ? make("code", {}, piece) : piece)));
  });
}

class Exercise {
  constructor(page, item, box) {
    Object.assign(this, { page, item, box });
    this.document = page.told.document;
  }

  async show() {
    const { item, page } = this;
    const button = (text, does, attributes = {}) =>
      make("button", { type: "button", onclick: does, "aria-label": `${text}: ${item.title}`, ...attributes }, text);
    const place = make("div", { class: "highlight" });
    this.checkButton = button("Check", () => this.check(), { class: "run-button" });
    this.solutionButton = button("Solution", () => this.solve());
    this.note = make("span", { class: "run-note", role: "status" });
    this.clock = new Clock(this.note);
    this.verdict = make("div", { class: "verdict", role: "status", hidden: true });
    this.hints = make("ol", { class: "helps", "aria-label": "Hints", "aria-live": "polite" });
    this.solution = make("div", { class: "solution", "aria-live": "polite" });
    const heading = document.getElementById(item.section)?.querySelector(":is(h2, h3, h4)");
    const first = make("p", { class: "first" }, `Difficulty ${item.difficulty} of 5, about ${item.minutes} minutes. Read first: `);
    first.append(make("a", { href: `#${item.section}` }, heading?.firstChild.textContent ?? item.section), ".");
    this.box.append(
      ...[...prose(item.statement), first, place],
      make("div", { class: "run-bar" }, this.checkButton, button("Hint", () => this.help()), this.solutionButton, button("Reset", () => this.reset()), this.note),
      ...[this.verdict, this.hints, this.solution],
    );
    const kept = progress.read();
    this.view = await openEditor(page.manifest, page.base, place, kept.answers[this.document]?.[item.name] ?? item.stub, {
      label: `Your answer to ${item.title}, Python; Control Enter checks, Escape leaves`,
      run: () => this.check(),
      leave: () => this.checkButton.focus(),
      changed: (text) => this.keep(text),
    });
    this.helped(kept.hinted[this.document]?.[item.name] ?? 0, false);
  }

  keep(text) {
    const answer = text === this.item.stub ? undefined : text;
    if (!progress.write("answers", this.document, this.item.name, answer)) {
      this.note.textContent = "This browser keeps nothing: save your work as a file before you leave";
    }
  }

  // --- Check --------------------------------------------------------------------------
  async check() {
    const { page, item } = this;
    if (page.busy) return page.busy === this && page.examiner.end({ stopped: true });
    page.busy = this;
    this.checkButton.textContent = "Stop";
    this.verdict.hidden = true;
    this.clock.start(page.examiner.worker ? "Checking" : LOADING);
    const limit = SLOWER * item.seconds;
    let timer;
    try {
      const { told, examiner } = page;
      const answering = examiner.ask("grade", [told.document, told.source, item.name, told.given, this.view.text()]);
      examiner.isReady.then(() => {
        if (page.busy !== this) return;
        this.clock.start("Checking");
        timer = setTimeout(() => examiner.end({ verdict: "timeout", message: `still running after ${limit} s and stopped: an endless loop, or far too much work` }), 1000 * limit);
      });
      this.tell(await answering);
    } finally {
      clearTimeout(timer);
      page.busy = null;
      this.checkButton.textContent = "Check";
    }
  }

  tell(result) {
    if (result.stopped) return this.clock.stop("Stopped", "bad");
    if (result.failed) result = { verdict: "crash", message: `Python ended: ${result.failed}` };
    const passed = result.verdict === "passed";
    this.clock.stop(passed ? "Passed" : result.verdict === "not started yet" ? "Not started yet: replace the dots" : "", passed ? "good" : "");
    this.box.dataset.verdict = result.verdict;
    if (passed) {
      const { passed: before } = progress.read();
      if (!before[this.document]?.[this.item.name]) progress.write("passed", this.document, this.item.name, progress.today());
      this.box.classList.add("passed");
    }
    const rows = [];
    if (result.check) rows.push(make("p", { class: "what" }, `Fails: ${result.check}`));
    if (result.hint) rows.push(make("p", { class: "hint" }, result.hint));
    else if (result.message) rows.push(make("pre", {}, result.message));
    if (result.call) rows.push(make("pre", { class: "call" }, `called as ${result.call}`));
    if (result.output?.trim()) rows.push(make("pre", { class: "call" }, `it printed:\n${result.output.trimEnd()}`));
    this.verdict.replaceChildren(...rows);
    this.verdict.dataset.kind = passed ? "good" : "bad";
    this.verdict.hidden = !rows.length;
  }

  // --- Help ---------------------------------------------------------------------------
  help() {
    const shown = Math.min(this.hints.children.length + 1, this.item.helps.length);
    progress.write("hinted", this.document, this.item.name, shown);
    this.helped(shown, true);
  }

  helped(count, now) {
    while (this.hints.children.length < count) {
      const [help] = this.item.helps.slice(this.hints.children.length);
      const row = make("li", {}, ...prose(help).flatMap((part) => [...part.childNodes]));
      if (!this.hints.children.length) row.append(" ", make("a", { href: `#${this.item.section}` }, "the section"), ".");
      this.hints.append(row);
    }
    if (now && count === this.item.helps.length) this.note.textContent = "There is no further hint; Solution shows one answer.";
  }

  solve() {
    if (this.solution.children.length) return this.solution.replaceChildren();
    const passed = this.box.classList.contains("passed");
    if (!passed && !this.asked) {
      this.asked = true;
      this.note.textContent = "Not passed yet. Press Solution again to see it anyway.";
      this.note.dataset.kind = "";
      return;
    }
    const { solution, counterpart } = this.item;
    const parts = [make("p", {}, "One solution:"), make("div", { class: "highlight" }, make("pre", { tabindex: "0" }, solution))];
    if (counterpart) parts.push(make("p", {}, "In the package: ", make("code", {}, counterpart)));
    this.solution.replaceChildren(...parts);
    this.note.textContent = "";
  }

  reset() {
    const { stub } = this.item;
    if (this.view.text() === stub) return;
    const before = this.view.text();
    this.view.set(stub);
    this.clock.stop("The stub is back. ");
    this.note.append(make("button", { type: "button", onclick: () => (this.view.set(before), this.clock.stop()) }, "Undo"));
    this.verdict.hidden = true;
  }
}

// --- To the workbook and back -----------------------------------------------------------
function carry() {
  const list = document.querySelector(".exercises");
  if (!list || list.querySelector(".carry")) return;
  list.append(carrier(() => location.reload()));
}

export function carrier(done) {
  const note = make("span", { class: "run-note", role: "status" });
  const input = make("input", { type: "file", accept: ".json,application/json", hidden: true });
  input.onchange = async () => {
    try {
      const ask = (count) => confirm(`${count} answers here differ from those in the file. Replace them?`);
      const { passed, answers } = await progress.restore(input.files[0], ask);
      note.textContent = `Taken: ${answers} answers, ${passed} passed exercises.`;
      done();
    } catch (error) {
      note.textContent = error.message;
      note.dataset.kind = "bad";
    }
    input.value = "";
  };
  return make("div", { class: "carry" },
    make("p", {}, "Your work is kept in this browser. A file carries it to your workbook, and back: ", make("code", {}, "chainrule progress --import FILE"), ", ", make("code", {}, "chainrule progress --export FILE"), "."),
    make("div", { class: "run-bar" },
      make("button", { type: "button", onclick: progress.save }, "Save as a file"),
      make("button", { type: "button", onclick: () => input.click() }, "Take from a file"),
      ...[input, note]),
  );
}
