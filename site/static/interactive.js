// Interactive figures. A picture that names a module (data-interactive) makes room for it once
// the module has drawn; where anything fails, the picture stays.
//
// A module exports `controls`, `compute(state)` and `draw(scene, state, result)`. `compute` gives
// every number that is shown; `draw` places them with the Scene and its Plots below. Colours are
// names of the figures' palette; interactive.css has them for both schemes. It may also export
// `presets`, { "label": { control: value } }: buttons that set these and put all others back.

const SVG = "http://www.w3.org/2000/svg";
const REACH = 22; // pixels around a handle that a finger may touch
const COLUMN = 250; // plots narrower than this stand one below the other
const FAR = 1e5; // pixels; beyond, browsers draw large coordinates wrongly

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

// --- Numbers --------------------------------------------------------------------------

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const exact = (value) => Number(value.toFixed(12)) + 0; // 0.1 + 0.2 is 0.3, and −0 is 0
const decimals = (step) => (exact(step).toFixed(12).match(/\.(\d*?)0*$/)?.[1] ?? "").length;

function superscript(number) {
  return String(number).replace(/./g, (sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign]));
}

// 1234.5 → "1,234.500"; 0.00001234 → "1.23 × 10⁻⁵"; a true minus sign.
function format(value, digits = 3) {
  const size = Math.abs(value);
  if (size >= 1e7 || (size > 0 && size < 0.5 * 10 ** -digits)) {
    const [head, power] = value.toExponential(2).split("e");
    return `${head.replace("-", "−")} × 10${superscript(Number(power))}`;
  }
  const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return (value || 0).toLocaleString("en", options).replace(/^-/, "−"); // -0 is 0
}

function tickLabel(value) {
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) {
    const [head, power] = value.toExponential().split("e");
    const start = head === "1" ? "" : `${head.replace("-", "−")}·`;
    return `${start}10${superscript(Number(power))}`;
  }
  return value.toLocaleString("en", { maximumFractionDigits: 6 }).replace(/^-/, "−");
}

function ticksOf([low, high], log, count) {
  const found = [];
  if (log) {
    const decades = Math.log10(high / low);
    const every = Math.max(1, Math.ceil(decades / count));
    const heads = decades < 2 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high * 1.001; power++) {
      if (power % every) continue;
      for (const head of heads) found.push(Number(`${head}e${power}`));
    }
  } else {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((head) => head * power).find((size) => size >= rough * 0.999);
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
      found.push(Number((i * step).toPrecision(12)));
    }
  }
  return log ? found.filter((value) => value >= low * 0.999 && value <= high * 1.001) : found;
}

function scaleOf([low, high], [from, to], log) {
  const forth = log ? Math.log10 : (value) => value;
  const back = log ? (value) => 10 ** value : (value) => value;
  const slope = (to - from) / (forth(high) - forth(low));
  const scale = (value) => {
    const place = from + (forth(value) - forth(low)) * slope;
    if (Number.isNaN(place)) throw new Error(`${value} has no place on the axis ${low} to ${high}`);
    return clamp(place, -FAR, FAR);
  };
  scale.invert = (place) => back(forth(low) + (place - from) / slope);
  return scale;
}

// --- Plots ----------------------------------------------------------------------------

let clips = 0;

// One pair of axes. All places are in the units of the axes, sizes and shifts in pixels.
class Plot {
  // box: [left, top, width] in pixels. Options: see Scene.plots.
  constructor(scene, [left, top, width], options) {
    const { x = [0, 1], y = [0, 1], xScale, yScale, bare = false, equal = false } = options;
    Object.assign(this, { scene, options, range: { x, y } });
    this.xTicks = bare ? [] : labelled(options.xTicks, x, xScale === "log", width / 60);
    this.yTicks = bare ? [] : labelled(options.yTicks, y, yScale === "log", 5);
    const widest = Math.max(0, ...this.yTicks.map(([, label]) => label.length));
    const margin = {
      left: bare ? 4 : 14 + 7.2 * widest,
      right: bare ? 4 : 12,
      top: 8 + (options.title ? 22 : 0) + (options.yLabel ? 20 : 0),
      bottom: bare ? 4 : (this.xTicks.length ? 22 : 6) + (options.xLabel ? 20 : 0),
    };
    let inner = width - margin.left - margin.right;
    let height = (options.height ?? 250) - margin.top - margin.bottom;
    if (equal) {
      const ratio = (y[1] - y[0]) / (x[1] - x[0]);
      height = Math.min(inner * ratio, (options.height ?? 420) - margin.top - margin.bottom);
      margin.left += (inner - height / ratio) / 2;
      inner = height / ratio;
    }
    this.left = left + margin.left;
    this.right = this.left + inner;
    this.top = top + margin.top;
    this.bottom = this.top + height;
    this.end = this.bottom + margin.bottom;
    this.x = scaleOf(x, [this.left, this.right], xScale === "log");
    this.y = scaleOf(y, [this.bottom, this.top], yScale === "log");
    this.start();
  }

  start() {
    const { scene, options } = this;
    const clip = `interactive-clip-${++clips}`;
    const area = shape("clipPath", { id: clip });
    const [width, height] = [this.right - this.left, this.bottom - this.top];
    const room = { x: this.left - 8, y: this.top - 8, width: width + 16, height: height + 16 };
    area.append(shape("rect", room));
    this.frame = shape("g");
    this.marks = shape("g", { "clip-path": `url(#${clip})` });
    this.words = shape("g");
    scene.drawing.append(area, this.frame, this.marks, this.words);
    if (options.bare) {
      if (options.title) this.word(this.left, this.top - 16, options.title, { bold: true });
      return;
    }
    const { left, right, top, bottom } = this;
    this.frame.append(shape("path", { class: "axis", d: `M${left} ${top}V${bottom}H${right}` }));
    for (const [value, label] of this.xTicks) {
      const x = this.x(value);
      this.frame.append(shape("path", { class: "axis", d: `M${x} ${bottom}v4` }));
      this.word(x, bottom + 14, label, { anchor: "middle", tick: true });
    }
    for (const [value, label] of this.yTicks) {
      const y = this.y(value);
      this.frame.append(shape("path", { class: "axis", d: `M${left} ${y}h-4` }));
      this.word(left - 8, y, label, { anchor: "end", tick: true });
    }
    const line = top - 14;
    if (options.yLabel) this.word(left - 22, line, options.yLabel, { tick: true });
    const above = options.yLabel ? 20 : 0;
    if (options.title) this.word(left - 22, line - above, options.title, { bold: true });
    const middle = (left + right) / 2;
    if (options.xLabel) {
      this.word(middle, bottom + 33, options.xLabel, { anchor: "middle", tick: true });
    }
  }

  mark(name, attributes, style = {}) {
    const { color = "blue", width = 2, dash, opacity, filled = false, hollow } = style;
    const node = shape(name, attributes);
    node.classList.add(filled ? (hollow ? "hollow" : "filled") : "stroked");
    node.style.setProperty("--ink", `var(--figure-${color})`);
    node.style.strokeWidth = width;
    if (dash) node.style.strokeDasharray = dash === true ? "6 4" : dash;
    if (opacity !== undefined) node.style.opacity = opacity;
    this.marks.append(node);
    return node;
  }

  word(x, y, text, { color, anchor = "start", bold = false, tick = false } = {}) {
    const node = shape("text", { x, y, "text-anchor": anchor }, text);
    if (color) node.style.setProperty("--ink", `var(--figure-${color})`);
    node.classList.toggle("bold", bold);
    node.classList.toggle("tick", tick);
    this.words.append(node);
  }

  path(points) {
    const places = points.map(([x, y]) => `${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`);
    return places.length ? `M${places.join("L")}` : "";
  }

  // A line through points [[x, y], …]. Style here and below: color, width (pixels), dash, opacity.
  line(points, style) {
    this.mark("path", { d: this.path(points) }, style);
  }

  // The area inside a closed line.
  area(points, style) {
    this.mark("path", { d: `${this.path(points)}Z` }, { opacity: 0.25, ...style, filled: true });
  }

  // A rectangle between two corners: a bar, a cell. `hollow: true` draws its outline only.
  rect([x0, y0], [x1, y1], style) {
    const [left, right] = [this.x(x0), this.x(x1)].sort((a, b) => a - b);
    const [top, bottom] = [this.y(y0), this.y(y1)].sort((a, b) => a - b);
    const box = { x: left, y: top, width: right - left, height: bottom - top };
    this.mark("rect", box, { width: 1.5, ...style, filled: true });
  }

  // A line across the whole plot, at `{ x: … }` or `{ y: … }`.
  rule({ x, y }, style) {
    const d = x === undefined
      ? `M${this.left} ${this.y(y)}H${this.right}`
      : `M${this.x(x)} ${this.top}V${this.bottom}`;
    this.mark("path", { d }, { color: "grey", width: 1, dash: "2 3", ...style });
  }

  // A point; `form`: "circle", "square" or "cross", so that colour is never the only difference.
  dot([x, y], { form = "circle", radius = 4.5, hollow = false, ...style } = {}) {
    const [left, top] = [this.x(x), this.y(y)];
    const how = { width: 1.8, ...style, filled: form !== "cross", hollow };
    if (form === "circle") this.mark("circle", { cx: left, cy: top, r: radius }, how);
    if (form === "square") {
      const side = { width: 2 * radius, height: 2 * radius };
      this.mark("rect", { x: left - radius, y: top - radius, ...side }, how);
    }
    if (form === "cross") {
      const [a, b] = [radius, 2 * radius];
      const d = `M${left - a} ${top - a}l${b} ${b}M${left - a} ${top + a}l${b} ${-b}`;
      this.mark("path", { d }, how);
    }
  }

  // An arrow between two points, `gap` pixels (one number, or one for each end) short of them.
  arrow(from, to, { gap = 0, head = 9, ...style } = {}) {
    const [before, after] = [gap].flat().length === 2 ? gap : [gap, gap];
    let [x0, y0, x1, y1] = [this.x(from[0]), this.y(from[1]), this.x(to[0]), this.y(to[1])];
    const length = Math.hypot(x1 - x0, y1 - y0);
    if (length <= before + after) return;
    const [u, v] = [(x1 - x0) / length, (y1 - y0) / length];
    [x0, y0, x1, y1] = [x0 + u * before, y0 + v * before, x1 - u * after, y1 - v * after];
    const size = Math.min(head, length - before - after);
    const [x, y] = [x1 - u * size, y1 - v * size];
    const side = size * 0.42;
    this.mark("path", { d: `M${x0} ${y0}L${x} ${y}` }, style);
    const tip = `M${x1} ${y1}L${x - v * side} ${y + u * side}L${x + v * side} ${y - u * side}Z`;
    this.mark("path", { d: tip }, { ...style, dash: undefined, filled: true });
  }

  // Words at a point, shifted by `dx`, `dy` pixels; anchor "start", "middle" or "end".
  text([x, y], text, { dx = 0, dy = 0, ...style } = {}) {
    this.word(this.x(x) + dx, this.y(y) + dy, text, style);
  }

  // A box with lines of words around a point, for diagrams. `on: true` fills it with its colour.
  // `link`, "folder/document.md#section" from a `links` entry of the result, leads there.
  box([x, y], lines, { color = "grey", on = false, width, height, link } = {}) {
    const texts = [lines].flat();
    const wide = width ?? 18 + 7.4 * Math.max(...texts.map((text) => text.length));
    const high = height ?? 12 + 17 * texts.length;
    const [left, top] = [this.x(x) - wide / 2, this.y(y) - high / 2];
    const place = { x: left, y: top, width: wide, height: high, rx: 5 };
    const style = { color, width: on ? 2.5 : 1.2, filled: true, hollow: true };
    this.mark("rect", place, style).classList.add(on ? "tinted" : "blank");
    texts.forEach((text, line) => {
      const row = this.y(y) + 17 * (line - (texts.length - 1) / 2);
      this.word(this.x(x), row, text, { anchor: "middle", bold: line === 0 && texts.length > 1 });
    });
    if (link) this.scene.placeLink(place, link, texts.join(", "));
  }

  // Lines of equal height of a grid { x: […], y: […], z: [row of y][column of x] }.
  contours({ x, y, z }, levels, style) {
    for (const level of levels) {
      const pieces = [];
      for (let j = 0; j + 1 < y.length; j++) {
        for (let i = 0; i + 1 < x.length; i++) pieces.push(...crossing(x, y, z, i, j, level));
      }
      const d = pieces.map((piece) => this.path(piece)).join("");
      this.mark("path", { d }, { color: "light", width: 1, ...style });
    }
  }

  // A handle for the control `name`: drag it, or press the arrow keys. It stands at the control's
  // value, or at `at`; a control with one number needs `axis: "x"` or `"y"` and `at`.
  handle(name, { at, axis, color = "black" } = {}) {
    this.scene.placeHandle(this, name, { at, axis, color });
  }
}

function labelled(ticks, range, log, count) {
  const values = Array.isArray(ticks) ? ticks : ticksOf(range, log, clamp(ticks ?? count, 2, 8));
  return values.map((tick) => (Array.isArray(tick) ? tick : [tick, tickLabel(tick)]));
}

// Where a level crosses the four sides of a cell: no piece, one, or (in a saddle) two.
function crossing(x, y, z, i, j, level) {
  const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
  const found = [];
  corners.forEach(([a, b], side) => {
    const [c, d] = corners[(side + 1) % 4];
    const [from, to] = [z[b][a] - level, z[d][c] - level];
    if (from < 0 === to < 0) return;
    const share = from / (from - to);
    found.push([x[a] + share * (x[c] - x[a]), y[b] + share * (y[d] - y[b])]);
  });
  return found.length === 4 ? [found.slice(0, 2), found.slice(2)] : found.length ? [found] : [];
}

// --- Controls -------------------------------------------------------------------------

const kindOf = (control) => control.kind ?? (control.options ? "choice" : "range");

// Values of a range in order: how many steps there are, and the value of each. A logarithmic one
// with `zero: true` has 0 at its left end, in the place of its least value.
function grid({ min, max, step = 1, scale, zero }) {
  if (scale === "log") {
    const count = 200;
    const power = (i) => Number((min * (max / min) ** (i / count)).toPrecision(3));
    return {
      count,
      value: (i) => (i === 0 && zero ? 0 : clamp(power(i), min, max)),
      index: (value) =>
        value <= min ? 0 : Math.round((Math.log(value / min) / Math.log(max / min)) * count),
    };
  }
  return {
    count: Math.round((max - min) / step),
    value: (i) => exact(min + i * step),
    index: (value) => Math.round((value - min) / step),
  };
}

function snap(control, value) {
  const { count, value: at, index } = grid(control);
  return at(clamp(index(clamp(value, control.min, control.max)), 0, count));
}

function shown({ unit, step = 1, scale }, value) {
  const geometric = scale === "log" && value !== 0;
  const digits = geometric ? clamp(2 - Math.floor(Math.log10(value)), 0, 6) : decimals(step);
  return format(value, digits) + (unit ? `\u202f${unit}` : "");
}

// Each maker returns the control's element and a function that shows a value in it.
const makers = {
  range(control, set, id) {
    const { count, value, index } = grid(control);
    const input = html("input", { type: "range", id, min: 0, max: count, step: 1 });
    const reading = html("span", { class: "reading" });
    input.dataset.name = control.name;
    input.addEventListener("input", () => set(control.name, value(input.valueAsNumber)));
    const label = html("label", { for: id }, control.label);
    return {
      node: html("div", { class: "control" }, label, reading, input),
      show(now) {
        input.valueAsNumber = index(now);
        reading.textContent = shown(control, now);
        input.setAttribute("aria-valuetext", reading.textContent);
      },
    };
  },

  steps(control, set, id) {
    let at, timer;
    const stop = () => {
      clearInterval(timer);
      timer = undefined;
      play.textContent = "Play";
    };
    const byHand = (name, value) => {
      stop();
      set(name, value);
    };
    const { node, show } = makers.range(control, byHand, id);
    const button = (words, act, title) => {
      const made = html("button", { type: "button", ...(title && { "aria-label": title }) }, words);
      made.addEventListener("click", act);
      return made;
    };
    const { min, max, step = 1, interval = 600 } = control;
    const move = (change) => byHand(control.name, clamp(at + change, min, max));
    const play = button("Play", () => {
      if (timer) return stop();
      if (at >= max) set(control.name, min);
      play.textContent = "Pause";
      timer = setInterval(() => (at < max ? set(control.name, at + step) : stop()), interval);
    });
    const back = button("◀", () => move(-step), `${control.label}: one back`);
    const on = button("▶", () => move(step), `${control.label}: one on`);
    const row = html("div", { class: "row" }, back, on);
    // Who asked for less motion goes step by step.
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) row.append(play);
    node.append(row);
    return {
      node,
      stop,
      show(now) {
        at = now;
        show(now);
      },
    };
  },

  choice(control, set, id) {
    const input = html("select", { id });
    input.dataset.name = control.name;
    for (const option of control.options) input.append(html("option", { value: option }, option));
    input.addEventListener("input", () => set(control.name, input.value));
    const label = html("label", { for: id }, control.label);
    return {
      node: html("div", { class: "control" }, label, input),
      show: (now) => (input.value = now),
    };
  },

  toggle(control, set, id) {
    const input = html("input", { type: "checkbox", id });
    input.dataset.name = control.name;
    input.addEventListener("input", () => set(control.name, input.checked));
    const label = html("label", { for: id }, input, control.label);
    return {
      node: html("div", { class: "control" }, label),
      show: (now) => (input.checked = now),
    };
  },

  // One line that the reader types, of at most `most` characters.
  text(control, set, id) {
    const input = html("input", { type: "text", id, maxlength: control.most, spellcheck: false });
    input.dataset.name = control.name;
    input.addEventListener("input", () => set(control.name, input.value.slice(0, control.most)));
    const label = html("label", { for: id }, control.label);
    return {
      node: html("div", { class: "control" }, label, input),
      show(now) {
        if (input.value !== now) input.value = now; // else the caret would move
      },
    };
  },

  point: () => ({ node: "", show: () => {} }),
};

// --- Scene ----------------------------------------------------------------------------

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// What a module's `draw` is given: room for plots, a legend and a line of numbers.
class Scene {
  constructor(set, controls, label) {
    this.set = set;
    this.controls = controls;
    this.handles = new Map();
    this.svg = shape("svg", { role: "group", "aria-label": label });
    this.drawing = shape("g", { "aria-hidden": "true" });
    this.links = shape("g");
    this.grips = shape("g");
    this.svg.append(this.drawing, this.links, this.grips);
    this.legendList = html("ul", { class: "legend" });
    this.reading = html("output");
    this.number = format;
  }

  begin(state) {
    this.state = state;
    this.width = Math.floor(this.svg.parentElement.clientWidth) || 640;
    this.drawing.replaceChildren();
    this.links.replaceChildren();
    this.legendList.replaceChildren();
    this.items = [];
    this.foot = 0;
    this.placed = new Set();
  }

  finish() {
    for (const [name, handle] of this.handles) {
      if (this.placed.has(name)) continue;
      handle.node.remove();
      this.handles.delete(name);
    }
    const height = Math.ceil(this.foot);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.style.height = `${height}px`;
    this.pullIn();
    this.reading.replaceChildren(
      ...this.items.map(([label, value]) => {
        const name = html("span", { class: "name" }, `${label} `);
        return html("span", {}, name, html("strong", {}, value), " ");
      }),
    );
  }

  // Fonts differ between machines: a label that sticks out in part is pulled in.
  pullIn() {
    const texts = [...this.svg.querySelectorAll("text")];
    const frame = this.svg.getBoundingClientRect();
    const boxes = texts.map((text) => text.getBoundingClientRect());
    texts.forEach((text, i) => {
      const { left, right, width } = boxes[i];
      const shift = Math.min(0, frame.right - right) || Math.max(0, frame.left - left);
      if (!shift || Math.abs(shift) >= width) return;
      text.setAttribute("x", Number(text.getAttribute("x")) + shift);
    });
  }

  // A row of plots, side by side where there is room, and below the row before. Options of each:
  // x, y: [low, high]; xScale, yScale: "log"; xLabel, yLabel (with unit), title; xTicks, yTicks:
  // how many, or [value, …], or [[value, "label"], …]; height: pixels; share: its part of the
  // width; equal: same unit on both axes; bare: no axes, for a diagram.
  plots(...all) {
    const shares = all.map((options) => options.share ?? 1);
    const total = shares.reduce((sum, share) => sum + share);
    const beside = all.every((_, i) => (this.width * shares[i]) / total >= COLUMN);
    let [left, foot] = [0, this.foot];
    return all.map((options, i) => {
      const width = beside ? (this.width * shares[i]) / total : this.width;
      const plot = new Plot(this, [left, beside ? foot : this.foot, width], options);
      if (beside) left += width;
      this.foot = Math.max(this.foot, plot.end);
      return plot;
    });
  }

  // One plot over the whole width.
  plot(options) {
    return this.plots(options)[0];
  }

  // Entries [{ label, color, dash?, form? }, …] above the drawing; better: words beside the lines.
  legend(entries) {
    for (const { label, color, dash, form } of entries) {
      const swatch = html("span", { class: `swatch ${form ?? (dash ? "dashed" : "line")}` });
      swatch.style.setProperty("--ink", `var(--figure-${color})`);
      this.legendList.append(html("li", {}, swatch, label));
    }
  }

  // A number below the drawing, also read aloud when it changes.
  say(label, value) {
    this.items.push([label, value]);
  }

  // A part of the drawing that leads to a section: the page of a document, from any page.
  placeLink(place, target, words) {
    const root = new URL(document.documentElement.dataset.content_root ?? "./", document.baseURI);
    const href = new URL(target.replace(/\.md(?=#|$)/, ".html"), root);
    const link = shape("a", { href, class: "link", "aria-label": words });
    link.append(shape("rect", place));
    this.links.append(link);
  }

  placeHandle(plot, name, { at, axis, color }) {
    const control = this.controls.find((each) => each.name === name);
    const spot = at ?? this.state[name];
    this.placed.add(name);
    const handle = this.handles.get(name) ?? this.newHandle(name, control);
    Object.assign(handle, { plot, axis, spot });
    handle.node.style.setProperty("--ink", `var(--figure-${color})`);
    handle.node.setAttribute("transform", `translate(${plot.x(spot[0])} ${plot.y(spot[1])})`);
    const value = this.state[name];
    const numbers = axis ? shown(control, value) : value.map((v, i) => shown(part(control, i), v));
    handle.node.setAttribute("aria-valuenow", axis ? value : value[0]);
    handle.node.setAttribute("aria-valuetext", [numbers].flat().join(", "));
  }

  newHandle(name, control) {
    const node = shape("g", {
      class: "handle",
      tabindex: 0,
      role: "slider",
      "aria-label": `${control.label}: arrow keys move it`,
      "aria-valuemin": control.zero ? 0 : [control.min].flat()[0],
      "aria-valuemax": [control.max].flat()[0],
    });
    node.dataset.name = name;
    const reach = shape("circle", { class: "reach", r: REACH });
    node.append(reach, shape("circle", { class: "knob", r: 8 }));
    const handle = { node };
    this.handles.set(name, handle);
    this.grips.append(node);

    const move = (x, y) => {
      const { axis } = handle;
      if (axis) return this.set(name, snap(control, axis === "x" ? x : y));
      this.set(name, [snap(part(control, 0), x), snap(part(control, 1), y)]);
    };
    let grip = null; // from the pointer to the middle of the handle, in pixels
    const place = (event) => {
      const box = this.svg.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    node.addEventListener("pointerdown", (event) => {
      const [x, y] = place(event);
      const { plot, spot } = handle;
      grip = [plot.x(spot[0]) - x, plot.y(spot[1]) - y];
      node.setPointerCapture(event.pointerId);
    });
    node.addEventListener("pointermove", (event) => {
      if (!grip) return;
      const [x, y] = place(event);
      move(handle.plot.x.invert(x + grip[0]), handle.plot.y.invert(y + grip[1]));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      node.addEventListener(end, () => (grip = null));
    }
    node.addEventListener("keydown", (event) => {
      const way = KEYS[event.key];
      if (!way) return;
      event.preventDefault();
      const times = event.shiftKey ? 10 : 1;
      const value = this.state[name];
      const next = (one, now, sign) => {
        const { count, value: at, index } = grid(one);
        return at(clamp(index(now) + sign * times, 0, count));
      };
      if (handle.axis) this.set(name, next(control, value, way[0] + way[1]));
      else this.set(name, value.map((v, i) => next(part(control, i), v, way[i])));
    });
    return handle;
  }
}

// One coordinate of a point, as if it were a range.
function part({ min, max, step = 0.1, unit }, i) {
  return { min: min[i], max: max[i], step: [step].flat()[i] ?? step, unit };
}

// --- Figures --------------------------------------------------------------------------

let figures = 0;

async function mount(picture) {
  const paragraph = picture.closest("p") ?? picture;
  let root;
  const fail = (error) => {
    root?.remove();
    paragraph.classList.remove("behind-interactive");
    picture.dataset.drawn = "failed";
    console.error(`Interactive figure ${picture.dataset.interactive}: ${error.message}`);
  };
  try {
    const module = await import(new URL(picture.dataset.interactive, document.baseURI));
    const { controls, presets = {}, compute, draw } = module;
    const number = ++figures;
    const first = () => Object.fromEntries(controls.map(({ name, value }) => [name, value]));
    let state = structuredClone(first());
    let waiting = false;

    const redraw = () => {
      waiting = false;
      try {
        scene.begin(state);
        draw(scene, state, compute(state));
        scene.finish();
      } catch (error) {
        fail(error);
      }
    };
    const later = () => {
      if (!waiting) requestAnimationFrame(redraw);
      waiting = true;
    };
    const set = (name, value) => {
      state = { ...state, [name]: value };
      scene.state = state; // the next key may come before the next frame
      made[name].show(value);
      later();
    };

    const scene = new Scene(set, controls, module.alt ?? picture.alt);
    const made = {};
    const panel = html("div", { class: "controls" });
    controls.forEach((control, index) => {
      made[control.name] = makers[kindOf(control)](control, set, `interactive-${number}-${index}`);
      panel.append(made[control.name].node);
    });
    const reset = html("button", { type: "button", class: "reset" }, "Reset");
    const start = (changes = {}) => {
      state = structuredClone({ ...first(), ...changes });
      scene.state = state;
      for (const { name } of controls) {
        made[name].stop?.();
        made[name].show(state[name]);
      }
    };
    const choices = Object.entries(presets).map(([label, changes]) => {
      const button = html("button", { type: "button", class: "preset" }, label);
      button.addEventListener("click", () => {
        start(changes);
        later();
      });
      return button;
    });
    if (choices.length) panel.prepend(html("div", { class: "presets" }, ...choices));
    reset.addEventListener("click", () => {
      start();
      later();
    });
    panel.append(reset);

    const canvas = html("div", { class: "canvas" }, scene.svg);
    root = html("div", { class: "interactive" }, scene.legendList, canvas, scene.reading, panel);
    paragraph.before(root);
    start();
    redraw();
    if (!root.isConnected) return;
    paragraph.classList.add("behind-interactive");
    picture.dataset.drawn = "true";
    new ResizeObserver(() => canvas.clientWidth !== scene.width && later()).observe(canvas);
  } catch (error) {
    fail(error);
  }
}

await Promise.all([...document.querySelectorAll("img[data-interactive]")].map(mount));
