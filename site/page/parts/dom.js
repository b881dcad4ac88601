// What blocks and exercises share: making elements, telling the time, opening the editor.
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

export function duration(seconds) {
  if (seconds < 1) return `${Math.max(1, Math.round(1000 * seconds))} ms`;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

// A clock that runs beside what is going on: "Running, 3 s".
export class Clock {
  constructor(note) {
    this.note = note;
  }

  start(text) {
    this.stop();
    const began = performance.now();
    const show = () => {
      const seconds = Math.floor((performance.now() - began) / 1000);
      this.note.dataset.kind = "";
      // A screen reader hears what is going on once, not every second.
      this.note.replaceChildren(text);
      if (seconds) this.note.append(make("span", { "aria-hidden": "true" }, `, ${seconds} s`));
    };
    show();
    this.timer = setInterval(show, 1000);
  }

  stop(text = "", kind = "") {
    clearInterval(this.timer);
    this.note.textContent = text;
    this.note.dataset.kind = kind;
  }
}

export const LOADING = "Loading Python, 10 MB the first time";

export async function openEditor(manifest, base, ...values) {
  const { open } = await import(new URL(manifest.editor, base));
  return open(...values);
}

export async function get(name, base) {
  const answer = await fetch(new URL(name, base));
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`);
  return answer.json();
}
