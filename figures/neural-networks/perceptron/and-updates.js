// The perceptron rule on four points that can be dragged, correction by correction.

export const alt =
  "Four numbered points of two classes and the boundary after some corrections; beside it the " +
  "label times the score of each point";

const corner = (number, value) => ({
  name: `p${number}`, label: `point ${number}`, kind: "point",
  min: [-0.5, -0.5], max: [1.5, 1.5], step: 0.1, value,
});

export const controls = [
  { name: "k", label: "corrections", kind: "steps", min: 0, max: 60, interval: 500, value: 5 },
  { name: "labels", label: "labels", options: ["AND", "OR", "XOR"], value: "AND" },
  corner(1, [0, 0]),
  corner(2, [0, 1]),
  corner(3, [1, 0]),
  corner(4, [1, 1]),
];

const LABELS = { AND: [-1, -1, -1, 1], OR: [-1, 1, 1, 1], XOR: [-1, 1, 1, -1] };
const [WALKED, MOST] = [60, 10000]; // corrections kept, corrections made at most
const FRAME = [[-0.5, -0.5], [1.5, -0.5], [1.5, 1.5], [-0.5, 1.5]];

const dot = (a, b) => a.reduce((sum, each, i) => sum + each * b[i], 0);
const plus = (a, b, times = 1) => a.map((each, i) => each + times * b[i]);
const cross = ([a, b, c], [d, e, f]) => [b * f - c * e, c * d - a * f, a * e - b * d];

// States after each correction, from zero. z: label · (x₁, x₂, 1) in tenths, whole numbers, so
// that no rounding decides whether a score is 0.
function run(z, most) {
  const walk = [{ weights: [0, 0, 0], last: 0, epoch: 1 }];
  let [end, needed, right] = [walk[0], 0, 0];
  for (let visit = 0; right < z.length && needed < most; visit++, right++) {
    const i = visit % z.length;
    if (dot(end.weights, z[i]) > 0) continue;
    const epoch = Math.floor(visit / z.length) + 1;
    end = { weights: plus(end.weights, z[i]), last: i + 1, epoch };
    right = -1;
    if (++needed <= WALKED) walk.push(end);
  }
  return { walk, end, needed };
}

// The largest min z·u / |u|, bias and all: with equality at one, two or three of the z.
function largestMargin(z) {
  const candidates = z.flatMap((a, i) => [a, ...z.slice(i + 1).flatMap((b, j) => {
    const d = plus(b, a, -1);
    const normals = z.slice(i + j + 2).map((c) => cross(d, plus(c, a, -1)));
    const foot = plus(a.map((each) => each * dot(d, d)), d, -dot(a, d));
    return [foot, ...normals, ...normals.map((u) => u.map((each) => -each))];
  })]);
  const real = candidates.filter((u) => dot(u, u) > 0);
  const margin = (u) => Math.min(...z.map((each) => dot(each, u))) / Math.hypot(...u);
  return Math.max(0, ...real.map(margin));
}

// The part of the frame where sign·(w·x + b) ≥ 0, and the boundary inside the frame.
function side([w1, w2, b], sign) {
  const score = ([x, y]) => sign * (w1 * x + w2 * y + b);
  const [area, line] = [[], []];
  FRAME.forEach((from, i) => {
    const to = FRAME[(i + 1) % 4];
    const [s, t] = [score(from), score(to)];
    if (s >= 0) area.push(from);
    if (s >= 0 === t >= 0) return;
    const crossing = plus(from, plus(to, from, -1), s / (s - t));
    area.push(crossing);
    line.push(crossing);
  });
  return { area, line };
}

export function compute({ k, labels, p1, p2, p3, p4 }) {
  const y = LABELS[labels];
  const z = [p1, p2, p3, p4].map((p, i) => [...p, 1].map((x) => y[i] * Math.round(10 * x)));
  const gamma = largestMargin(z) / 10;
  const radius = Math.max(...z.map((each) => Math.hypot(...each))) / 10;
  const separable = gamma > 0;
  const { walk, end, needed } = run(z, separable ? MOST : WALKED);
  const { weights, last, epoch } = walk[Math.min(k, needed)];
  const ys = z.map((each) => dot(weights, each) / 100);
  const sizes = walk.flatMap((at) => z.map((each) => Math.abs(dot(at.weights, each)) / 100));
  const [now, then] = [weights, end.weights].map((each) => each.map((w) => w / 10));
  const length = Math.hypot(now[0], now[1]);
  return {
    y, ys, now, then, last, epoch, separable, radius, gamma, needed,
    shown: Math.min(k, needed),
    stopped: separable && needed < MOST,
    hasLine: length > 0,
    margin: length > 0 ? Math.min(...ys) / length : 0,
    bound: separable ? (radius / gamma) ** 2 : 0,
    reach: Math.max(4, ...sizes),
    yes: side(now, 1).area,
    no: now.some(Boolean) ? side(now, -1).area : [], // at score 0 the neuron says yes
    line: side(now, 1).line,
    lastLine: side(then, 1).line,
  };
}

const FORMS = {
  "1": { form: "circle", color: "vermillion" },
  "-1": { form: "square", color: "blue" },
};

export function draw(scene, state, result) {
  const { number } = scene;
  const { y, ys, now, then, last, shown, needed, separable, stopped } = result;
  scene.legend([{ label: "label +1", ...FORMS[1] }, { label: "label −1", ...FORMS[-1] }]);
  const far = 1.5 * result.reach;
  const [plane, bars] = scene.plots(
    { x: [-0.5, 1.5], y: [-0.5, 1.5], xTicks: [0, 1], yTicks: [0, 1], xLabel: "x₁", yLabel: "x₂",
      equal: true, height: 330, share: 1.1 },
    { x: [-far, far], y: [4.6, 0.4], yTicks: [1, 2, 3, 4].map((i) => [i, `point ${i}`]), xTicks: 4,
      xLabel: "label · score: wrong ← 0 → right", height: scene.width < 525 ? 220 : 330 },
  );
  plane.area(result.yes, { color: "vermillion", opacity: 0.14 });
  plane.area(result.no, { color: "blue", opacity: 0.14 });
  if (stopped && shown < needed) plane.line(result.lastLine, { color: "grey", dash: true });
  plane.line(result.line, { color: "black" });
  bars.rule({ x: 0 }, { color: "black", dash: "" });
  y.forEach((label, i) => {
    const [name, style, corrected] = [`p${i + 1}`, FORMS[label], last === i + 1];
    if (corrected) plane.dot(state[name], { radius: 18, hollow: true, color: "black" });
    plane.dot(state[name], { radius: 12, ...style });
    plane.handle(name, { color: style.color });
    plane.text(state[name], `${i + 1}`, { dx: 21, dy: -13, bold: true });
    bars.rect([0, i + 0.72], [ys[i], i + 1.28], style);
    const aside = ys[i] > 0 ? { anchor: "start", dx: 6 } : { anchor: "end", dx: -6 };
    bars.text([ys[i], i + 1], number(ys[i], 2), { ...aside, bold: corrected });
  });

  const brief = (each) => number(each, Number.isInteger(each) ? 0 : 1);
  const weights = (all) => `w = (${brief(all[0])}, ${brief(all[1])}), b = ${brief(all[2])}`;
  const at = last ? `, the last at point ${last} in epoch ${result.epoch}` : "";
  scene.say("corrections so far", `${shown}${at}`);
  scene.say("now", weights(now));
  scene.say("margin", result.hasLine ? number(result.margin) : "none, w = 0 draws no line");
  const name = shown < needed ? "will stop (dashed line)" : "has stopped";
  if (stopped) scene.say(name, `after ${number(needed, 0)} corrections, ${weights(then)}`);
  else if (separable) scene.say("will stop", `after more than ${number(needed, 0)} corrections`);
  else scene.say("not separable", "there is no bound, the corrections never end");
  if (separable) {
    const parts = `(${number(result.radius)} / ${number(result.gamma)})²`;
    scene.say("bound (R/γ)²", `${parts} = ${number(result.bound, 0)}`);
  }
}
