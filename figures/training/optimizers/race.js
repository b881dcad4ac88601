// Six optimizers on three surfaces, along the axes and turned; only some of them notice the turn.

export const alt =
  "Two contour plots of the same surface, along the axes and turned, with the paths of the " +
  "optimizers; below, the height above the minimum at each step on both";

const TRIO = ["SGD, momentum, Adam", "Nesterov, Lion, Muon"];
const SURFACES = {
  "long valley": {
    start: [2.2, 0.6],
    f: (x, y) => (x * x + 50 * y * y) / 2,
    slope: (x, y) => [x, 50 * y],
  },
  "bent valley": { // a flatter Rosenbrock
    start: [-1.2, 1],
    f: (x, y) => ((1 - x) ** 2 + 10 * (y - x * x) ** 2) / 2,
    slope: (x, y) => [x - 1 - 20 * x * (y - x * x), 10 * (y - x * x)],
  },
  "saddle, two minima": {
    start: [2.2, 0.02],
    f: (x, y) => 5 * x * x + 2.5 * (y * y - 1) ** 2,
    slope: (x, y) => [10 * x, 10 * y * (y * y - 1)],
  },
};

export const controls = [
  { name: "turn", label: "turned by", min: 0, max: 90, step: 5, value: 45, unit: "°" },
  { name: "surface", label: "surface", options: Object.keys(SURFACES), value: "long valley" },
  { name: "who", label: "racers", options: [...TRIO, "all six"], value: TRIO[0] },
  { name: "lr", label: "η of SGD, momentum, Nesterov", min: 0.0015, max: 0.15, scale: "log",
    value: 0.015 },
  { name: "rate", label: "η of Adam (Lion, Muon: × ¼)", min: 0.03, max: 0.48, scale: "log",
    value: 0.12 },
  { name: "step", label: "step", kind: "steps", min: 0, max: 120, value: 60, interval: 80 },
];

const NAMES = ["SGD", "momentum", "Adam", "Nesterov", "Lion", "Muon"];
const STYLES = [
  { color: "blue", form: "circle" },
  { color: "green", form: "square" },
  { color: "vermillion", form: "cross" },
  { color: "sky", form: "square", hollow: true },
  { color: "orange", form: "circle", hollow: true },
  { color: "purple", form: "cross" },
];
const STEPS = 120;

// A vector is a matrix with one singular value: 1 after the division, then five times:
let value = 1;
for (let i = 0; i < 5; i++) value = 3.4445 * value - 4.775 * value ** 3 + 2.0315 * value ** 5;

// Each maker gives a function from the step's number and gradient to the move.
const makers = {
  SGD: ({ lr }) => (t, g) => g.map((each) => -lr * each),
  momentum({ lr }) {
    const b = [0, 0];
    return (t, g) => g.map((each, i) => -lr * (b[i] = 0.7 * b[i] + each));
  },
  Nesterov({ lr }) {
    const b = [0, 0];
    return (t, g) => g.map((each, i) => -lr * (each + 0.7 * (b[i] = 0.7 * b[i] + each)));
  },
  Adam({ rate }) {
    const [m, v] = [[0, 0], [0, 0]];
    return (t, g) =>
      g.map((each, i) => {
        m[i] = 0.9 * m[i] + 0.1 * each;
        v[i] = 0.99 * v[i] + 0.01 * each * each;
        const root = Math.sqrt(v[i] / (1 - 0.99 ** t));
        return (-rate * (m[i] / (1 - 0.9 ** t))) / (root + 1e-8);
      });
  },
  Lion({ rate }) {
    const m = [0, 0];
    return (t, g) =>
      g.map((each, i) => {
        const sign = Math.sign(0.9 * m[i] + 0.1 * each);
        m[i] = 0.99 * m[i] + 0.01 * each;
        return -0.25 * rate * sign;
      });
  },
  Muon({ rate }) {
    const m = [0, 0];
    return (t, g) => {
      const ahead = g.map((each, i) => 0.05 * each + 0.95 * (m[i] = 0.95 * m[i] + 0.05 * each));
      const length = 0.25 * rate * Math.SQRT2 * value;
      return ahead.map((each) => (-length * each) / Math.hypot(...ahead));
    };
  },
};

function onSurface(state, degrees) {
  const { start, f, slope } = SURFACES[state.surface];
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const turned = ([x, y]) => [c * x - s * y, s * x + c * y];
  const back = ([x, y]) => [c * x + s * y, c * y - s * x];
  const racers = NAMES.map((name) => {
    const move = makers[name](state);
    const path = [turned(start)];
    for (let t = 1; t <= STEPS && Math.hypot(...path.at(-1)) < 30; t++) {
      const [u, v] = move(t, turned(slope(...back(path.at(-1)))));
      path.push([path.at(-1)[0] + u, path.at(-1)[1] + v]);
    }
    const heights = path.map((place) => f(...back(place)));
    const left = path.length <= STEPS && path.length <= state.step + 1;
    return { heights, path: path.slice(0, state.step + 1), left };
  });
  const grid = Array.from({ length: 65 }, (_, i) => -2.6 + (5.2 * i) / 64);
  const z = grid.map((y) => grid.map((x) => Math.log(f(...back([x, y])) + 0.05)));
  return { racers, contours: { x: grid, y: grid, z } };
}

export function compute(state) {
  return { along: onSurface(state, 0), turned: onSurface(state, state.turn) };
}

export function draw(scene, { turn, who, step }, { along, turned }) {
  const six = NAMES.map((_, i) => i);
  const shown = who === "all six" ? six : six.filter((i) => i < 3 === (who === TRIO[0]));
  const square = {
    x: [-2.6, 2.6], y: [-2.6, 2.6], xTicks: [-2, 0, 2], yTicks: [-2, 0, 2], equal: true,
    xLabel: "first weight", yLabel: "second weight",
  };
  const plots = scene.plots(
    { ...square, title: "along the axes" },
    { ...square, title: `turned by ${turn}°` },
  );
  const below = scene.plot({
    x: [0, STEPS], y: [1e-6, 1e3], yScale: "log", yTicks: [1e-6, 1e-4, 0.01, 1, 100], height: 230,
    xLabel: "step", yLabel: "height (dashed: along the axes)",
  });
  below.rule({ x: step });
  [along, turned].forEach(({ racers, contours }, side) => {
    plots[side].contours(contours, [-2, -1, 0, 1, 2, 3, 4, 5]);
    for (const i of shown) {
      const { path, heights } = racers[i];
      plots[side].line(path, { color: STYLES[i].color, width: 1.5 });
      plots[side].dot(path.at(-1), { radius: 5, ...STYLES[i] });
      const style = side ? { width: 2 } : { width: 1.5, dash: "5 4" };
      const curve = heights.map((height, k) => [k, height]);
      below.line(curve, { color: STYLES[i].color, ...style });
    }
  });
  scene.legend(shown.map((i) => ({ label: NAMES[i], color: STYLES[i].color })));
  scene.say(`height after ${step} steps:`, `along the axes → turned by ${turn}°`);
  for (const i of shown) {
    const [before, after] = [along, turned].map(({ racers }) => {
      const { left, heights, path } = racers[i];
      return left ? "diverges" : scene.number(heights[path.length - 1]);
    });
    scene.say(NAMES[i], `${before} → ${after}`);
  }
}
