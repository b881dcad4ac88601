// A polynomial with fifteen coefficients through fifteen noisy points of a sine, and its penalty.

export const alt =
  "Fifteen noisy points of a sine and the fitted polynomial; below, its training error and its " +
  "error to the sine against the penalty";

// From 10^-10.5 to 100 every 16th step is a power of ten; the left end is 0.
const LEAST = 3.16e-11;

export const controls = [
  { name: "lambda", label: "penalty λ", min: LEAST, max: 100, scale: "log", zero: true,
    value: 0.001 },
  { name: "sample", label: "sample of points", kind: "steps", min: 1, max: 6, value: 1 },
];

// The noise of each sample, in units of its deviation.
const NOISE = [
  [0.345584, 0.821618, 0.330437, -1.303157, 0.905356, 0.446375, -0.536953, 0.581118, 0.364572,
    0.294132, 0.028422, 0.546713, -0.736454, -0.16291, -0.482119],
  [0.189053, -0.522748, -0.413064, -2.441467, 1.799707, 1.144166, -0.325423, 0.773807, 0.281211,
    -0.553823, 0.977567, -0.310557, -0.328824, -0.792147, 0.454958],
  [2.040919, -2.555665, 0.418099, -0.56777, -0.452649, -0.215597, -2.019986, -0.231932, -0.865213,
    3.323, 0.225787, -0.352631, -0.281287, -0.668046, -1.055151],
  [-0.651791, -0.174717, 1.663724, 0.659148, -1.641397, -0.005203, -0.623464, 0.148632, -1.608188,
    0.241772, 0.235381, 1.575626, 0.316645, 0.510547, -1.493117],
  [-0.801931, -1.324359, -0.248362, 0.420445, 1.136047, 0.109706, -0.552647, -0.78478, 0.748746,
    1.634783, 0.272769, -1.233329, -0.958265, 1.600019, 0.202882],
  [1.053116, 1.776491, -2.553292, -0.137965, 1.013719, 1.352142, 0.653788, 1.497118, 0.289958,
    0.551267, 0.178738, -1.073859, -0.846629, 0.379584, -0.580195],
];

const even = (count) => Array.from({ length: count }, (_, i) => -1 + (2 * i) / (count - 1));
const truth = (x) => Math.sin(Math.PI * x);
const powers = (x) => Array.from({ length: 15 }, (_, k) => x ** k);
const dot = (a, b) => a.reduce((sum, each, i) => sum + each * b[i], 0);
const rms = (list) => Math.hypot(...list) / Math.sqrt(list.length);

const X = even(15);
const PHI = X.map(powers);
const GRID = even(200);
const FINE = GRID.map(powers);
const Y = NOISE.map((noise) => X.map((x, i) => truth(x) + 0.2 * noise[i]));

// The w of least ‖Φw − y‖² + λ‖w‖²: Householder reflections make [Φ; √λ I] triangular. Equations
// with ΦᵀΦ would square the condition number, a million, and lose the digits of the small λ.
function fit(y, lambda) {
  const root = Math.sqrt(lambda);
  const below = X.map((_, i) => X.map((_, k) => (i === k ? root : 0)).concat(0));
  const rows = [...PHI.map((row, i) => [...row, y[i]]), ...(lambda ? below : [])];
  for (let k = 0; k < 15; k++) {
    const v = rows.slice(k).map((row) => row[k]);
    v[0] += (v[0] < 0 ? -1 : 1) * Math.hypot(...v);
    const square = dot(v, v);
    for (let j = k; j < 16; j++) {
      const share = (2 * v.reduce((sum, each, i) => sum + each * rows[k + i][j], 0)) / square;
      v.forEach((each, i) => (rows[k + i][j] -= share * each));
    }
  }
  const w = Array(15).fill(0);
  for (let k = 14; k >= 0; k--) w[k] = (rows[k][15] - dot(rows[k].slice(0, 15), w)) / rows[k][k];
  return w;
}

function errors(y, w) {
  return {
    training: rms(PHI.map((row, i) => dot(row, w) - y[i])),
    toSine: rms(FINE.map((row, i) => dot(row, w) - truth(GRID[i]))),
  };
}

// The errors of each sample against the penalty, once it is asked for.
const paths = {};
const LAMBDAS = [0, ...Array.from({ length: 50 }, (_, i) => 10 ** (-10.25 + i / 4))];

export function compute({ lambda, sample }) {
  const y = Y[sample - 1];
  const w = fit(y, lambda);
  paths[sample] ??= LAMBDAS.map((each) => errors(y, fit(y, each)));
  const path = paths[sample];
  return {
    y,
    ...errors(y, w),
    size: Math.hypot(...w),
    curve: FINE.map((row) => dot(row, w)),
    others: Y.map((each) => fit(each, lambda)).map((v) => FINE.map((row) => dot(row, v))),
    lambdas: LAMBDAS,
    trainingPath: path.map(({ training }) => training),
    sinePath: path.map(({ toSine }) => toSine),
  };
}

export function draw(scene, { lambda, sample }, result) {
  const top = scene.plot({
    x: [-1.02, 1.02], y: [-2.2, 2.2], xTicks: [-1, 0, 1], yTicks: [-2, -1, 0, 1, 2],
    xLabel: "x", yLabel: "y", height: 300,
  });
  const along = (curve) => curve.map((y, i) => [GRID[i], y]);
  for (const other of result.others) top.line(along(other), { color: "sky", width: 1 });
  top.line(along(GRID.map(truth)), { color: "grey", width: 2, dash: "6 4" });
  top.line(along(result.curve), { color: "blue", width: 3 });
  result.y.forEach((y, i) => top.dot([X[i], y], { color: "vermillion" }));

  const low = scene.plot({
    x: [LEAST, 100], xScale: "log", y: [0.002, 20], yScale: "log", height: 220,
    yTicks: [0.01, 0.1, 1, 10],
    xTicks: [[LEAST, "0"], [1e-8, "10⁻⁸"], [1e-5, "10⁻⁵"], [0.01, "0.01"], [10, "10"]],
    xLabel: "penalty λ", yLabel: "error (root mean square)",
  });
  const against = (list) => list.map((y, i) => [Math.max(result.lambdas[i], LEAST), y]);
  const place = Math.max(lambda, LEAST);
  low.rule({ x: place });
  low.line(against(result.trainingPath), { color: "vermillion", dash: true });
  low.line(against(result.sinePath), { color: "blue" });
  low.dot([place, result.training], { color: "vermillion", form: "square" });
  low.dot([place, result.toSine], { color: "blue" });
  low.handle("lambda", { at: [place, 20], axis: "x" });

  scene.legend([
    { label: "fit, and its error to the sine", color: "blue" },
    { label: "fits to the other samples", color: "sky" },
    { label: "sine", color: "grey", dash: true },
    { label: `sample ${sample}, and its training error`, color: "vermillion", form: "circle" },
  ]);
  const training = result.training < 1e-9 ? 0 : result.training; // the rest is rounding
  scene.say("training error", scene.number(training, 2));
  scene.say("error to the sine", scene.number(result.toSine, 2));
  scene.say("length of the weights ‖w‖", scene.number(result.size, result.size < 100 ? 2 : 0));
}
