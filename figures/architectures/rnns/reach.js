// The length of a gradient as it goes back through a hundred steps of six tanh units.

export const alt =
  "The length of a gradient against the steps that it has gone back, on a logarithmic axis: a line " +
  "that falls, stays level or rises with the spectral radius, and falls where inputs are large";

export const controls = [
  { name: "radius", label: "spectral radius", min: 0.3, max: 1.5, step: 0.01, value: 0.9 },
  { name: "size", label: "size of the inputs", min: 0, max: 3, step: 0.1, value: 0 },
];

export const presets = {
  "PyTorch's start": { radius: 0.58 },
  "radius 1": { radius: 1 },
  "it explodes": { radius: 1.2 },
  "the same, with inputs": { radius: 1.2, size: 2 },
};

const BASE = [
  [-0.5, -0.2, -1.4, 0.6, 1.3, 1.2],
  [-1.0, 0.0, -0.3, -0.4, 0.3, -0.9],
  [-1.3, -0.7, -1.0, 0.8, -0.1, 0.8],
  [0.5, -0.4, -1.2, -0.6, 0.9, 0.6],
  [-0.2, 0.6, -0.2, -1.2, 1.8, 0.4],
  [-0.9, -1.8, 0.9, 0.2, 0.7, 1.7],
];
const RADIUS = 2.5517966803333914; // its spectral radius
const LARGEST = 3.6885010535998908; // its largest singular value
const LENGTH = 100;

const length = (v) => Math.sqrt(v.reduce((sum, x) => sum + x * x, 0));

export function compute({ radius, size }) {
  const W = BASE.map((row) => row.map((value) => (radius / RADIUS) * value));
  let h = new Array(6).fill(0);
  const states = [];
  for (let t = 0; t < LENGTH; t++) {
    h = W.map((row, i) => Math.tanh(
      row.reduce((sum, value, j) => sum + value * h[j], 0) + size * Math.sin((t + 1) * (1 + 0.7 * i)),
    ));
    states.push(h);
  }
  let g = new Array(6).fill(1 / Math.sqrt(6));
  const norms = [1];
  for (let t = LENGTH - 1; t > 0; t--) {
    const through = g.map((value, i) => value * (1 - states[t][i] ** 2));
    g = g.map((_, j) => through.reduce((sum, value, i) => sum + W[i][j] * value, 0));
    norms.push(length(g));
  }
  const gone = norms.findIndex((norm) => norm < 1e-3);
  return { norms, gone: gone < 0 ? LENGTH : gone, largest: (radius / RADIUS) * LARGEST };
}

export function draw(scene, { radius, size }, { norms, gone, largest }) {
  const plot = scene.plot({ x: [0, 99], y: [1e-9, 1e9], yScale: "log",
    yTicks: [[1e-9, "10⁻⁹"], [1e-6, "10⁻⁶"], [1e-3, "10⁻³"], [1, "1"], [1e3, "10³"], [1e6, "10⁶"],
      [1e9, "10⁹"]],
    xLabel: "steps back", yLabel: "length of the gradient", height: 330 });
  const inside = (value) => Math.min(Math.max(value, 1e-10), 1e10);
  plot.rule({ y: 1e-3 });
  plot.text([98, 1e-3], "a thousandth", { anchor: "end", dy: -9, color: "grey" });
  const powers = norms.map((_, s) => [s, inside(radius ** s)]);
  plot.line(powers, { color: "grey", dash: true, width: 1.5 });
  plot.line(norms.map((norm, s) => [s, inside(norm)]), { color: "blue", width: 2.5 });
  if (gone < LENGTH) plot.dot([gone, norms[gone]], { color: "vermillion" });
  scene.legend([
    { label: "the gradient", color: "blue" },
    { label: "the radius to the power of the steps", color: "grey", dash: true },
  ]);
  const twenty = norms[20];
  scene.say("after 20 steps", scene.number(twenty, 4));
  scene.say("below a thousandth", gone === LENGTH ? "not within 99 steps" : `after ${gone} steps`);
  scene.say("largest singular value", scene.number(largest, 2));
  scene.say("inputs", size ? `of size ${scene.number(size, 1)}` : "none: every slope is 1");
}
