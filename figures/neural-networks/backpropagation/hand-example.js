// One neuron and its squared error: values step by step forward, then adjoints step by step back.

export const alt =
  "The graph of (σ(wx + b) − y)²: a box for each step, with its value and, below or beside it, " +
  "the derivative of the loss with respect to it, filled in one step at a time";

const slider = (name, min, max, value) => ({ name, label: name, min, max, step: 0.1, value });

export const controls = [
  { name: "step", label: "step", kind: "steps", min: 0, max: 14, interval: 1500, value: 14 },
  slider("w", -3, 3, 0.5),
  slider("x", -3, 3, 2),
  slider("b", -3, 3, -1),
  slider("y", 0, 1, 1),
];

const forward = (w, x, b, y) => {
  const z = w * x + b;
  const a = 1 / (1 + Math.exp(-z));
  return { w, x, b, y, p: w * x, z, a, e: a - y, L: (a - y) ** 2 };
};

export function compute({ w, x, b, y }) {
  const values = forward(w, x, b, y);
  const { a, e } = values;
  const slopes = { e: 2 * e, a: 1, y: -1, z: a * (1 - a), p: 1, b: 1, w: x, x: w };
  const adjoints = { L: 1 };
  adjoints.e = adjoints.L * slopes.e;
  for (const name of ["a", "y"]) adjoints[name] = adjoints.e * slopes[name];
  adjoints.z = adjoints.a * slopes.z;
  for (const name of ["p", "b"]) adjoints[name] = adjoints.z * slopes[name];
  for (const name of ["w", "x"]) adjoints[name] = adjoints.p * slopes[name];
  return {
    values,
    slopes,
    adjoints,
    change: forward(w + 0.01, x, b, y).L - values.L,
    promised: 0.01 * adjoints.w,
  };
}

// Steps: what is computed, from which arrows, its formula and that formula in words.
const FORWARD = [
  ["p", "p = w · x", "multiply"],
  ["z", "z = p + b", "add the bias"],
  ["a", "a = σ(z)", "squash with the sigmoid"],
  ["e", "e = a − y", "subtract the target"],
  ["L", "L = e²", "square"],
];
const BACKWARD = [
  ["L", "", "L̄ = ∂L/∂L", "start with 1: the loss moves as itself"],
  ["e", "L", "ē = L̄ · 2e", "times the slope of the square"],
  ["a", "e", "ā = ē · 1", "a difference passes it on"],
  ["y", "e", "ȳ = ē · (−1)", "the other way: y is subtracted"],
  ["z", "a", "z̄ = ā · a(1 − a)", "times the slope of the sigmoid"],
  ["p", "z", "p̄ = z̄ · 1", "a sum passes it on"],
  ["b", "z", "b̄ = z̄ · 1", "and to its other input: z̄ serves twice"],
  ["w", "p", "w̄ = p̄ · x", "times the other factor"],
  ["x", "p", "x̄ = p̄ · w", "times the other factor: p̄ serves twice"],
];
const EDGES = ["wp", "xp", "pz", "bz", "za", "ae", "ye", "eL"];
const LEAVES = "wxby";
const NAMES = { p: "p = wx", z: "z = p + b", a: "a = σ(z)", e: "e = a − y", L: "L = e²" };
const BARS = { L: "L̄", e: "ē", a: "ā", y: "ȳ", z: "z̄", p: "p̄", b: "b̄", w: "w̄", x: "x̄" };

// Places of the boxes: from left to right where there is room, else from top to bottom.
const WIDE = {
  w: [0, 0.65], x: [0, -0.65], p: [1, 0], b: [1, -1.15], z: [2, 0], a: [3, 0], y: [3, -1.15],
  e: [4, 0], L: [5, 0],
};
const TALL = {
  w: [0, 0], x: [1, 0], p: [1, -1], b: [0, -1], z: [1, -2], a: [1, -3], y: [0, -3], e: [1, -4],
  L: [1, -5],
};

export function draw(scene, { step }, { values, slopes, adjoints, change, promised }) {
  const wide = scene.width >= 560;
  const places = wide ? WIDE : TALL;
  const plot = scene.plot(
    wide
      ? { x: [-0.47, 5.47], y: [-1.65, 1.55], bare: true, height: 256 }
      : { x: [-0.55, 1.55], y: [-5.45, 1], bare: true, height: 470 },
  );
  const [width, height] = wide ? [84, 68] : [134, 46];
  const half = [width / 2 / (plot.x(1) - plot.x(0)), height / 2 / (plot.y(0) - plot.y(1))];
  const back = step > 5;
  const now = back ? BACKWARD[step - 6] : FORWARD[step - 1] ?? ["", "", ""];
  const words = now.at(-1);

  for (const [from, to] of EDGES) {
    const [[x0, y0], [x1, y1]] = [places[from], places[to]];
    const side = 0.5 * Math.sign(wide ? y0 - y1 : x0 - x1);
    const start = wide ? [x0 + half[0], y0] : [x0, y0 - half[1]];
    const end = wide ? [x1 - half[0], y1 + side * half[1]] : [x1 + side * half[0], y1 + half[1]];
    if (back && now[0] === from && now[1] === to) {
      plot.arrow(end, start, { color: "vermillion", width: 3, gap: 1 });
    } else {
      const used = !back && now[0] === to;
      plot.arrow(start, end, { color: used ? "black" : "grey", width: used ? 3 : 1.5, gap: 1 });
    }
  }
  const short = (value) => scene.number(Math.round(1000 * value) / 1000);
  for (const [name, place] of Object.entries(places)) {
    const turn = FORWARD.findIndex(([each]) => each === name) + 1; // 0: given
    const color = now[0] === name ? (back ? "vermillion" : "black") : turn ? "blue" : "grey";
    plot.box(place, "", { width, height, color, on: now[0] === name });
    const rows = wide ? [-21, 0, 21] : [-10, 11, 11];
    const [left, right] = wide ? [{}, {}] : [{ dx: -58 }, { dx: 58 }];
    const anchors = wide ? ["middle", "middle"] : ["start", "end"];
    plot.text(place, NAMES[name] ?? name, { anchor: "middle", dy: rows[0], color: "blue" });
    const value = { anchor: anchors[0], dy: rows[1], ...left };
    if (step >= turn) plot.text(place, short(values[name]), value);
    if (step < 6 + BACKWARD.findIndex(([each]) => each === name)) continue;
    const adjoint = `${BARS[name]} ${short(adjoints[name])}`;
    plot.text(place, adjoint, { dy: rows[2], anchor: anchors[1], color: "vermillion", ...right });
  }
  const [corner, shift] = wide ? [[-0.4, 1.4], { dx: 195 }] : [[-0.5, 0.9], { dy: 20 }];
  const title = `${back ? "Backward" : "Forward"}, step ${step} of 14`;
  plot.text(corner, title, { bold: true, color: back ? "vermillion" : "black" });
  plot.text(corner, words || "four numbers are given", shift);

  const { number } = scene;
  const { w, x, b, y, p, z, a, e } = Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, number(value)]),
  );
  const spelled = {
    p: `${w} · ${x} = `, z: `${p} + ${b} = `, a: `σ(${z}) = `, e: `${a} − ${y} = `, L: `(${e})² = `,
  };
  const sum = back
    ? now[1] && `${number(adjoints[now[1]])} · ${number(slopes[now[0]])} = `
    : spelled[now[0]];
  const result = step && number((back ? adjoints : values)[now[0]]);
  if (step) scene.say(`step ${step}: ${now.at(-2)}`, `= ${sum}${result}`);
  else scene.say("step 0:", `w = ${w}, x = ${x}, b = ${b}, y = ${y}`);
  const promise = `0.01 · w̄ = ${step >= 13 ? number(promised, 5) : "? (step 13)"}`;
  scene.say("raise w by 0.01: the loss changes by", `${number(change, 5)}, and ${promise}`);
}
