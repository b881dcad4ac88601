// The course's own GPT writes here, shows what it weighs, and learns a text that the reader pastes.
import { Clock, LOADING, duration, make } from "./parts/dom.js";
import { Engine } from "./parts/engine.js";

const SLIDERS = [
  { name: "temperature", label: "temperature", min: 0, max: 2, step: 0.05, value: 0.8 },
  { name: "top_k", label: "top k", min: 0, max: 40, step: 1, value: 0, off: 0 },
  { name: "top_p", label: "top p", min: 0.05, max: 1, step: 0.05, value: 1, off: 1 },
  { name: "min_p", label: "min p", min: 0, max: 0.5, step: 0.01, value: 0, off: 0 },
  { name: "count", label: "characters", min: 20, max: 400, step: 20, value: 160 },
];

export function start(document_, manifest, base) {
  return { open: (box) => new Talk(manifest, base, box) };
}

class Talk {
  constructor(manifest, base, box) {
    this.engine = new Engine(manifest, base, "", "chainrule.trainer.talk");
    this.draws = 0;
    this.build(box);
  }

  build(box) {
    this.prompt = make("textarea", { rows: 2, "aria-label": "Text to continue", spellcheck: "false" });
    this.prompt.value = "The gradient of ";
    this.sliders = SLIDERS.map((each) => this.slider(each));
    this.writeButton = make("button", { type: "button", class: "run-button", onclick: () => this.write() }, "Write");
    this.taught = make("input", { type: "checkbox", disabled: true, onchange: () => this.look() });
    this.note = make("span", { class: "run-note", role: "status" });
    this.clock = new Clock(this.note);
    this.text = make("pre", { class: "talk-text", tabindex: "0", "aria-label": "What the model wrote", hidden: true });
    this.text.onclick = ({ target }) => target.dataset.at && this.look(Number(target.dataset.at));
    this.text.onkeydown = (event) => this.step(event);
    this.chances = make("div", { class: "talk-chances" });
    this.heads = make("div", { class: "talk-heads" });
    box.append(
      make("p", {}, "The model that this course trains, on its own prose, writes one character at a time, in your browser. Press a character of its text, or walk with the arrow keys, to see what it expected there and where its heads looked."),
      this.prompt,
      make("div", { class: "talk-sliders" }, ...this.sliders.map(({ row }) => row)),
      make("div", { class: "run-bar" }, this.writeButton, make("label", { class: "talk-switch" }, this.taught, " with what you taught it"), this.note),
      ...[this.text, this.chances, this.heads, this.lesson()],
    );
  }

  slider({ name, label, off, value, ...range }) {
    const input = make("input", { type: "range", ...range, "aria-label": label });
    input.value = value;
    const told = make("output", {});
    const show = () => (told.textContent = Number(input.value) === off ? "off" : String(Number(input.value)));
    input.oninput = show;
    input.onchange = () => name !== "count" && this.look();
    show();
    return { name, input, row: make("label", {}, make("span", {}, label), input, told) };
  }

  request(more) {
    const asked = Object.fromEntries(this.sliders.map(({ name, input }) => [name, Number(input.value)]));
    return JSON.stringify({ ...asked, taught: this.taught.checked, ...more });
  }

  begin(text) {
    this.clock.start(this.engine.worker ? text : LOADING);
  }

  // One question at a time; a second press of the same button ends it.
  async ask(button, label, call, request, listen) {
    if (this.busy) {
      if (this.busy === button) this.engine.stop();
      return null;
    }
    this.busy = button;
    button.textContent = "Stop";
    this.begin(call === "teach" ? "Learning" : "Writing");
    try {
      const answering = this.engine.ask(call, [request], listen);
      this.engine.isReady.then(() => this.busy === button && this.clock.start(call === "teach" ? "Learning" : "Writing"));
      const answer = await answering;
      if (answer.stopped) this.forget();
      const trouble = answer.error ?? answer.failed ?? (answer.stopped && "Stopped");
      this.clock.stop(trouble || "", trouble ? "bad" : "");
      return trouble ? null : answer;
    } finally {
      this.busy = null;
      button.textContent = label;
    }
  }

  // The worker is gone, and with it what it was taught.
  forget() {
    this.taught.checked = false;
    this.taught.disabled = true;
  }

  // --- Write --------------------------------------------------------------------------
  async write() {
    const text = this.prompt.value || "\n";
    const old = this.busy ? null : this.show(text, "");
    const seed = this.draws++;
    let written = "";
    const answer = await this.ask(this.writeButton, "Write", "write", this.request({ text, seed }), ({ drawn }) => {
      written += drawn;
      this.show(text, written);
    });
    if (old === null && !answer) return;
    if (answer) {
      const rate = written.length / answer.seconds;
      this.clock.stop(`${written.length} characters, ${Math.round(rate)} a second`, "good");
      this.look(text.length);
    }
  }

  show(prompt, written) {
    this.whole = prompt + written;
    const character = (c, i) => make("span", { "data-at": i, class: i < prompt.length ? "given" : "drawn" }, c);
    this.text.replaceChildren(...[...this.whole].map(character));
    this.text.hidden = false;
    this.chances.replaceChildren();
    this.heads.replaceChildren();
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.whole) return;
    event.preventDefault();
    this.look(Math.max(1, Math.min(this.whole.length - 1, (this.at ?? 1) + by)));
  }

  // --- Look ---------------------------------------------------------------------------
  // What was expected at the character number `at`, and where the heads looked.
  async look(at = this.at) {
    if (this.busy || !this.engine.worker || !this.whole || !at) return;
    this.at = at;
    const answer = await this.engine.ask("look", [this.request({ text: this.whole.slice(0, at) })]);
    if (!answer.rows) return;
    for (const [i, each] of [...this.text.children].entries()) each.classList.toggle("looked", i === at);
    const name = (c) => ({ "\n": "new line", " ": "space" })[c] ?? c;
    const bar = (p, kind) => make("td", { class: "bar" }, make("span", { class: kind, style: `width: ${Math.max(0.5, 100 * p).toFixed(1)}%` }), make("span", { class: "number" }, p ? p.toFixed(3) : "0"));
    const row = ([c, p, kept]) =>
      make("tr", { class: c === this.whole[at] ? "came" : "" }, make("th", { scope: "row" }, name(c)), bar(p, "plain"), bar(kept, "kept"));
    const head = make("tr", {}, ...["next", "the model's probability", "after the sliders"].map((text) => make("th", { scope: "col" }, text)));
    const came = name(this.whole[at] ?? "");
    this.chances.replaceChildren(
      make("p", {}, `Before the character “${came}”: ${answer.bits.toFixed(1)} bits of surprise to expect, ${answer.left} characters left to draw from.`),
      make("table", {}, head, ...answer.rows.map(row)),
    );
    this.maps = answer;
    this.headAt ??= [answer.maps.length - 1, 0];
    this.attend();
  }

  attend() {
    const { maps, text } = this.maps;
    const options = maps.flatMap((layer, l) => layer.map((_, h) => make("option", { value: `${l},${h}`, selected: l === this.headAt[0] && h === this.headAt[1] }, `layer ${l + 1}, head ${h + 1}`)));
    const choice = make("select", {
      "aria-label": "Which head",
      onchange: () => {
        this.headAt = choice.value.split(",").map(Number);
        this.attend();
        this.heads.querySelector("select").focus();
      },
    }, ...options);
    const weights = maps[this.headAt[0]][this.headAt[1]];
    const most = Math.max(...weights);
    const shade = (c, i) => make("span", { style: `background: color-mix(in srgb, var(--phase-4) ${Math.round((85 * weights[i]) / most)}%, transparent)`, title: weights[i].toFixed(3) }, c);
    const strongest = weights.indexOf(most);
    const around = text.slice(Math.max(0, strongest - 8), strongest + 1).replaceAll("\n", " ");
    this.heads.replaceChildren(
      make("p", {}, "Attention of ", choice, ` to what stands before it; the most, ${most.toFixed(2)}, to the end of “${around}”.`),
      make("pre", { class: "talk-text" }, ...[...text].map(shade)),
    );
  }

  // --- Teach --------------------------------------------------------------------------
  lesson() {
    this.source = make("textarea", { rows: 5, "aria-label": "Text to learn", placeholder: "Paste a few hundred characters or more: a poem, a letter, a program.", spellcheck: "false" });
    this.teachButton = make("button", { type: "button", class: "run-button", onclick: () => this.teach() }, "Learn this text");
    this.result = make("p", { role: "status" });
    return make(
      "details",
      { class: "talk-lesson" },
      make("summary", {}, "Teach it a text of yours"),
      make("p", {}, "Sixty steps train an adapter of rank 8 beside the model, about a minute here; the model's own weights stay. Then write with the adapter, or without: without it the model is what it was, to the byte. Nothing you paste leaves this page."),
      this.source,
      make("div", { class: "run-bar" }, this.teachButton),
      this.result,
    );
  }

  async teach() {
    const request = JSON.stringify({ text: this.source.value, steps: 60, rate: 0.003, rank: 8 });
    const answer = await this.ask(this.teachButton, "Learn this text", "teach", request, ({ step, loss }) => {
      this.result.textContent = `Step ${step} of 60: loss ${loss.toFixed(2)}`;
    });
    if (!answer) return (this.result.textContent = this.note.textContent);
    const out = answer.left_out ? ` ${answer.left_out} characters that it does not know were left out.` : "";
    this.result.textContent =
      `${answer.steps} steps on ${answer.numbers.toLocaleString("en")} numbers: on your text the loss went from ${answer.before.toFixed(2)} to ${answer.after.toFixed(2)} nats a character. ` +
      `${answer.same ? `Without the adapter the weights are the same bytes as before (SHA-256 ${answer.name}…).` : "The weights have changed: that is a fault of this page."}${out}`;
    this.taught.disabled = false;
    this.taught.checked = true;
  }
}
