// Cross-entropy of three logits: what the model says and what is wanted, the gradient, the loss.

export const alt =
  "Bars of three probabilities with the target as an outline, bars of the gradient of each " +
  "logit, and the loss against the logit of the labelled class";

const logit = (k) => ({ name: `z${k}`, label: `logit ${k}`, min: -8, max: 8, step: 0.1, value: k });

export const controls = [
  { name: "label", label: "the label", options: ["class 1", "class 2", "class 3"],
    value: "class 1" },
  logit(1),
  logit(2),
  logit(3),
  { name: "eps", label: "label smoothing ε", min: 0, max: 0.5, step: 0.01, value: 0 },
  { name: "tau", label: "temperature τ", min: 0.1, max: 10, scale: "log", value: 1 },
];

export const presets = {
  "the example by hand": {},
  "wrong, and sure": { z1: -8, z3: 8 },
  "right, and sure": { z1: 8, z2: 0, z3: 0 },
  "the same, smoothed": { z1: 8, z2: 0, z3: 0, eps: 0.1 },
  "softened by τ = 3": { z1: -2, z2: 0, z3: 6, tau: 3 },
};

// Two digits in little room: what rounds to nothing is 0.00, and the minus is a true one.
const short = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");

const COLORS = ["green", "vermillion", "blue"];
const PLACES = Array.from({ length: 161 }, (_, i) => (i - 80) / 10);

function logSoftmax(x) {
  const top = Math.max(...x);
  const rest = Math.log(x.reduce((sum, each) => sum + Math.exp(each - top), 0));
  return x.map((each) => each - top - rest);
}

const price = (t, z, tau) => {
  const log = logSoftmax(z.map((each) => each / tau));
  return -t.reduce((sum, share, k) => sum + share * log[k], 0);
};

export function compute({ label, z1, z2, z3, eps, tau }) {
  const z = [z1, z2, z3];
  const right = Number(label.slice(-1)) - 1;
  const t = z.map((_, k) => (k === right ? 1 - eps : 0) + eps / 3);
  const p = logSoftmax(z.map((each) => each / tau)).map(Math.exp);
  return {
    t,
    p,
    right,
    gradient: p.map((said, k) => (said - t[k]) / tau),
    loss: price(t, z, tau),
    floor: -t.reduce((sum, share) => sum + (share > 0 ? share * Math.log(share) : 0), 0),
    curve: PLACES.map((place) => price(t, z.map((each, k) => (k === right ? place : each)), tau)),
  };
}

export function draw(scene, state, result) {
  const { t, p, right, gradient, loss, floor, curve } = result;
  const z = [state.z1, state.z2, state.z3];
  const classes = { y: [3.6, 0.4], yTicks: [1, 2, 3].map((k) => [k, `class ${k}`]), height: 200 };
  const pull = [1, 2, 5, 10, 20].find((size) => size >= 1.02 * Math.max(...gradient.map(Math.abs)));
  const [said, moves] = scene.plots(
    { ...classes, x: [0, 1.2], xTicks: [0, 0.5, 1], xLabel: "probability; outline: wanted" },
    { ...classes, x: [-1.35 * pull, 1.35 * pull], xTicks: [-pull, 0, pull],
      xLabel: "gradient: said − wanted, over τ" },
  );
  COLORS.forEach((color, k) => {
    said.rect([0, k + 0.7], [p[k], k + 1.3], { color });
    said.rect([0, k + 0.62], [t[k], k + 1.38], { color: "black", hollow: true, dash: "3 3" });
    said.text([Math.max(p[k], t[k]), k + 1], short(p[k]), { dx: 6, color });
    moves.rect([Math.min(gradient[k], 0), k + 0.7], [Math.max(gradient[k], 0), k + 1.3], { color });
    moves.text([gradient[k], k + 1], short(gradient[k]),
      { dx: gradient[k] < 0 ? -6 : 6, anchor: gradient[k] < 0 ? "end" : "start", color });
  });
  moves.rule({ x: 0 });

  const most = [1, 2, 5, 8, 12, 20, 50, 100, 200].find((size) => size >= 1.04 * Math.max(...curve));
  const slope = scene.plot({ x: [-8, 8], y: [0, most], height: 240,
    xLabel: `logit of the label, class ${right + 1}`, yLabel: "loss, nats" });
  slope.rule({ y: floor });
  slope.line(curve.map((value, i) => [PLACES[i], value]), { color: COLORS[right], width: 2.5 });
  const at = z[right];
  const along = [-1.5, 1.5].map((step) => [at + step, loss + step * gradient[right]]);
  slope.line(along, { color: "black", width: 1.5 });
  slope.dot([at, loss], { color: COLORS[right], radius: 6 });
  slope.handle(`z${right + 1}`, { at: [at, loss], axis: "x" });

  scene.say("loss", `${scene.number(loss)} nats`);
  scene.say("dotted line: the least possible", `${scene.number(floor)} nats`);
  scene.say("slope at the dot", scene.number(gradient[right]));
}
