// A function on [0, 2π], the ReLU network through n + 1 of its points, and its largest error.

export const alt =
  "A function, its interpolation by a network and the hats that add up to it; the largest error " +
  "against the number of pieces for five functions, on logarithmic scales";

const LENGTH = 2 * Math.PI;
const sigmoid = (z) => 1 / (1 + Math.exp(-z));

// most: the largest |f″|, where there is one; varies: the most that f varies within h.
const FUNCTIONS = {
  "sin x": { f: Math.sin, most: 1, varies: (h) => 2 * Math.sin(Math.min(h / 2, Math.PI / 2)) },
  sigmoid: {
    f: (x) => sigmoid(6 * (x - Math.PI)), most: 2 * Math.sqrt(3), varies: (h) => Math.tanh(1.5 * h),
  },
  "|x − 2.1|": { f: (x) => Math.abs(x - 2.1), varies: (h) => Math.min(h, LENGTH - 2.1) },
  "√x": { f: Math.sqrt, varies: Math.sqrt },
  jump: { f: (x) => Number(x >= 2.1), varies: () => 1 },
};
const NAMES = Object.keys(FUNCTIONS);

export const controls = [
  { name: "n", label: "pieces n", min: 1, max: 64, value: 8 },
  { name: "name", label: "function", options: NAMES, value: "sin x" },
];

const GRID = Array.from({ length: 4001 }, (_, i) => (LENGTH * i) / 4000);

function knotsOf(f, n) {
  return Array.from({ length: n + 1 }, (_, i) => [(LENGTH * i) / n, f((LENGTH * i) / n)]);
}

// Errors of the broken line through the knots, at every point of the grid.
function errorsOf(f, n) {
  const knots = knotsOf(f, n);
  return GRID.map((x) => {
    const i = Math.min(Math.floor((x * n) / LENGTH), n - 1);
    const [[x0, y0], [x1, y1]] = [knots[i], knots[i + 1]];
    return Math.abs(f(x) - y0 - ((y1 - y0) * (x - x0)) / (x1 - x0));
  });
}

const largest = (f, n) => Math.max(...errorsOf(f, n));
const counts = Array.from({ length: 64 }, (_, i) => i + 1);
const curves = NAMES.map((name) => counts.map((n) => largest(FUNCTIONS[name].f, n)));

export function compute({ n, name }) {
  const { f, most = 0, varies } = FUNCTIONS[name];
  const error = curves[NAMES.indexOf(name)][n - 1];
  const knots = knotsOf(f, n);
  const at = GRID[errorsOf(f, n).findIndex((each) => each > error - 1e-9)];
  const i = Math.min(Math.floor((at * n) / LENGTH), n - 1);
  const share = (at * n) / LENGTH - i;
  const bound = (pieces) => (most * LENGTH ** 2) / (8 * pieces ** 2);
  return {
    units: n + 1,
    knots,
    graph: GRID.filter((_, j) => j % 10 === 0).map((x) => [x, f(x)]),
    error,
    gap: [[at, f(at)], [at, (1 - share) * knots[i][1] + share * knots[i + 1][1]]],
    twice: largest(f, 2 * n),
    ratio: largest(f, 2 * n) / error,
    most,
    bound: bound(n),
    bounds: [bound(1), bound(64)],
    varies: varies(LENGTH / n),
    curves,
  };
}

const HEIGHTS = {
  "sin x": [-1.2, 1.2], sigmoid: [-0.15, 1.2], "|x − 2.1|": [-0.5, 4.6], "√x": [-0.3, 2.7],
  jump: [-0.15, 1.2],
};
const WHY = {
  "|x − 2.1|": "f has no f″ at its kink", "√x": "f″ is unbounded at 0", jump: "f is not continuous",
};

export function draw(scene, { n, name }, result) {
  const { number } = scene;
  const { knots, error, most, bound, bounds, gap } = result;
  scene.legend([
    { label: name, color: "black" }, { label: "network", color: "blue" },
    { label: "its hats", color: "sky" }, { label: "largest error", color: "vermillion" },
  ]);
  const turn = [[0, "0"], [Math.PI, "π"], [LENGTH, "2π"]];
  const [left, right] = scene.plots(
    { x: [0, LENGTH], y: HEIGHTS[name], xTicks: turn, xLabel: "x", height: 300 },
    { x: [1, 290], y: [5e-4, 20], xScale: "log", yScale: "log", xTicks: [1, 2, 4, 8, 16, 32, 64],
      yTicks: [0.001, 0.01, 0.1, 1, 10], xLabel: "pieces n", yLabel: "largest error", height: 300 },
  );
  left.rule({ y: 0 });
  knots.forEach(([x, y], i) => {
    const feet = [knots[i - 1], knots[i + 1]].map((next) => next && [next[0], 0]);
    left.line([feet[0], [x, y], feet[1]].filter(Boolean), { color: "sky", width: n > 24 ? 0.6 : 1.2 });
  });
  left.line(result.graph, { color: "black", width: 2.5 });
  left.line(knots, { color: "blue" });
  for (const knot of knots) left.dot(knot, { color: "blue", radius: n > 24 ? 2 : 4 });
  left.line(gap, { color: "vermillion", width: 3.5 });

  result.curves.forEach((curve, k) => {
    const all = curve.map((each, i) => [i + 1, each]);
    const some = all.filter(([pieces]) => Number.isInteger(Math.log2(pieces)));
    right.line(some, { color: NAMES[k] === name ? "black" : "light" });
    if (NAMES[k] === name) for (const each of all) right.dot(each, { color: "black", radius: 2 });
    const dy = { "√x": -5, "|x − 2.1|": 5 }[NAMES[k]] ?? 0;
    right.text(all.at(-1), NAMES[k], { dx: 12, dy, tick: true, bold: NAMES[k] === name });
  });
  if (most) right.line([[1, bounds[0]], [64, bounds[1]]], { color: "green", dash: true });
  if (most) right.text([2.2, bounds[0] / 4.84], "bound", { color: "green", dx: 8, dy: -8 });
  right.handle("n", { at: [n, error], axis: "x", color: "vermillion" });

  scene.say("hidden units", `${result.units}`);
  scene.say("largest error", number(error, 5));
  scene.say("with 2n pieces", `${number(result.twice, 5)} (× ${number(result.ratio, 2)})`);
  const size = `M = ${number(most, most % 1 ? 3 : 0)}`;
  if (most) scene.say("bound Mℓ²/(8n²)", `${number(bound, 5)}, ${size}`);
  else scene.say("no bound Mℓ²/(8n²):", WHY[name]);
  scene.say("f varies within ℓ/n by", number(result.varies));
}
