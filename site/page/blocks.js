// Run, edit and reset the blocks of a page, all in one namespace, as the course's audit does.
import { Clock, LOADING, duration, get, make, openEditor } from "./parts/dom.js";
import { Engine } from "./parts/engine.js";

const EDITED = 100000; // lines of an edited block are counted from here, above every document's

export async function start(document_, manifest, base) {
  const told = await get(manifest.steps[document_], base);
  const engine = new Engine(manifest, base, told.file);
  const page = { manifest, base, engine, cells: [], busy: null };
  const boxes = [...document.querySelectorAll(".run")];
  for (const [index, box] of boxes.entries()) {
    page.cells.push(new Cell(page, box, told.steps[index], index));
  }
  return page.cells;
}

class Cell {
  constructor(page, box, step, index) {
    Object.assign(this, { page, box, step, index, ran: false, view: null });
    this.lacking = Boolean(box.dataset.elsewhere); // what it needs is not in the page
    if (this.lacking) return;
    this.bar = box.querySelector(".run-bar");
    this.runButton = box.querySelector(".run-button");
    this.editButton = box.querySelector(".edit-button");
    this.note = box.querySelector(".run-note");
    this.clock = new Clock(this.note);
    this.output = make("pre", { class: "run-output", role: "region", tabindex: "0", hidden: true, "aria-label": `Output of block ${index + 1}` });
    this.anew = make("button", { type: "button", class: "anew-button", hidden: true, onclick: () => this.runAnew() }, "Run anew from the top");
    this.editButton.after(this.anew);
    this.bar.after(this.output);
  }

  get code() {
    return this.view ? this.view.text() : this.step.code;
  }

  // --- Edit and reset -----------------------------------------------------------------
  async edit() {
    if (this.view) return this.reset();
    const shown = this.box.querySelector(".highlight pre");
    this.view = await openEditor(this.page.manifest, this.page.base, shown.parentElement, withoutOutput(this.step.code), {
      label: `Block ${this.index + 1}, Python; Control Enter runs, Escape leaves`,
      run: () => this.run(),
      leave: () => this.runButton.focus(),
    });
    shown.hidden = true;
    this.ran = false;
    this.say("");
    this.name(this.editButton, "Reset");
    this.view.focus();
  }

  reset() {
    this.view.close();
    this.view = null;
    this.ran = false;
    this.box.querySelector(".highlight pre").hidden = false;
    this.output.hidden = this.anew.hidden = true;
    this.name(this.editButton, "Edit");
    this.say("");
    this.editButton.focus();
  }

  name(button, text) {
    button.textContent = text;
    button.setAttribute("aria-label", `${text} block ${this.index + 1}`);
  }

  say(text, kind = "") {
    this.clock.stop(text, kind);
  }

  // --- Run ----------------------------------------------------------------------------
  async run() {
    const { page } = this;
    if (page.busy) {
      if (this.runButton.textContent === "Stop") page.engine.stop();
      else this.say("Another block is running: wait, or stop it");
      return;
    }
    page.busy = this;
    try {
      const above = page.cells.slice(0, this.index).filter((cell) => !cell.ran && !cell.lacking);
      this.announce(above);
      for (const cell of above) {
        this.name(this.runButton, "Stop");
        if ((await cell.execute()) || cell.lacking) continue;
        this.say(cell.stopped ? "Stopped" : `Block ${cell.index + 1}, above, must run first and did not end well`, "bad");
        return;
      }
      await this.execute();
    } finally {
      page.busy = null;
      this.told = "";
      this.name(this.runButton, "Run");
    }
  }

  // What takes long says so before it begins.
  announce(above) {
    const seconds = [...above, this].reduce((sum, cell) => sum + Number(cell.box.dataset.seconds ?? 0), 0);
    const first = above.length ? `, with the ${above.length} blocks above that it builds on` : "";
    this.told = seconds >= 5 ? `: about ${Math.round(seconds)} s${first}` : "";
    this.clock.start((this.page.engine.worker ? `Running${above.length ? " what stands above" : ""}` : LOADING) + this.told);
  }

  async runAnew() {
    if (this.page.busy) return;
    this.page.engine.end({ stopped: true });
    for (const cell of this.page.cells) cell.ran = false;
    await this.run();
  }

  async execute() {
    const { engine, cells } = this.page;
    const edited = Boolean(this.view);
    const line = edited ? EDITED + 1000 * this.index : this.step.line;
    const again = this.ran;
    const seen = { printed: [], by: new Map(), trouble: "" };
    this.name(this.runButton, "Stop");
    this.anew.hidden = this.output.hidden = true;
    this.clock.start((engine.worker ? "Running" : LOADING) + (this.told ?? ""));
    const step = { line, code: this.code, raises: edited ? [] : this.step.raises, edited };
    const answering = engine.ask("run", [JSON.stringify(step)], (event) => this.hear(event, seen, edited));
    engine.isReady.then(() => {
      for (const cell of new Set([this, this.page.busy])) {
        const what = cell === this ? "Running" : "Running what stands above";
        if (cell?.note.textContent.startsWith(LOADING)) cell.clock.start(what + (cell.told ?? ""));
      }
    });
    const answer = await answering;
    this.name(this.runButton, "Run");
    this.ran = Boolean(answer.ok);
    this.lacking = !edited && answer.ok === false && seen.trouble !== "stopped";
    this.box.dataset.took = answer.seconds ?? "";
    this.stopped = Boolean(answer.stopped) || seen.trouble === "stopped";
    if (answer.stopped || answer.failed) for (const cell of cells) cell.ran = false;
    this.box.dataset.state = this.conclude(answer, seen, edited, again);
    if (this.ran && (again || edited)) {
      for (const cell of cells.slice(this.index + 1)) if (cell.ran) cell.say("Ran before the change above");
    }
    return this.ran;
  }

  hear(event, seen, edited) {
    const show = (end = []) => edited && this.show([...seen.printed, ...end]);
    if (event.partial !== undefined) show([event.partial]);
    else if (event.output) {
      seen.printed.push(...event.output);
      seen.by.set(event.line, event.output);
      show();
    } else if (event.error) {
      seen.trouble = event.error;
      seen.place = this.place(event);
    } else if (event.warning) seen.printed.push(`${event.warning}${this.place(event)}`);
  }

  place({ block, row, text }) {
    if (!text?.trim()) return "";
    const own = block === this.step.line || block === EDITED + 1000 * this.index;
    return `\n  line ${row}${own ? "" : " of a block above"}: ${text.trim()}`;
  }

  // Say how it went, and return it in a word.
  conclude(answer, seen, edited, again) {
    const took = answer.seconds === undefined ? "" : `, ${duration(answer.seconds)}`;
    if (answer.stopped) {
      this.say("Stopped. The next Run begins anew, with what stands above.", "bad");
      return "stopped";
    }
    if (answer.failed) {
      const memory = /memory|allocat/i.test(answer.failed);
      this.show([memory ? "The page ran out of memory (2 GB at most)." : answer.failed]);
      this.say("Python ended; the next Run begins anew, with what stands above.", "bad");
      return "failed";
    }
    if (this.stopped) {
      this.show([...seen.printed, `stopped${seen.place ?? ""}`]);
      this.say("Stopped. What ran before is kept.", "bad");
      return "stopped";
    }
    if (!answer.ok) {
      this.show([...seen.printed, `${seen.trouble}${seen.place ?? ""}`]);
      this.say(`Ended with an error${took}`, "bad");
      return "error";
    }
    if (edited) {
      this.show(seen.printed);
      this.say(`Done${took}`, "good");
      return "done";
    }
    if (agrees(this.step.stated, seen)) {
      this.say(`${seen.printed.length ? "Prints what stands above" : "Done"}${took}`, "good");
      return "same";
    }
    this.show(seen.printed);
    this.anew.hidden = !again;
    const moved = "what it uses has moved on since its first run";
    this.say(`Prints something else here: ${again ? moved : "last digits depend on the machine"}${took}`, "bad");
    return "different";
  }

  show(rows) {
    this.output.textContent = rows.join("\n");
    this.output.hidden = !rows.length;
  }
}

function withoutOutput(code) {
  return code.split("\n").filter((row) => !row.startsWith("#>")).join("\n").trimEnd();
}

function agrees(stated, { by }) {
  return Object.entries(stated).every(([line, rows]) => {
    const got = by.get(Number(line)) ?? [];
    return rows.length === got.length && rows.every((row, i) => row === got[i] || begins(got[i], row));
  });
}

const begins = (text, row) => row.endsWith("…") && text.startsWith(row.slice(0, -1).trimEnd());
