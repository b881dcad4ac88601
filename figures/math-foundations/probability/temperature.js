// Softmax of three logits at a temperature: two pictures of all temperatures, and this one's bars.

export const alt =
  "Three probabilities against temperature, the triangle of all distributions over three " +
  "classes, and bars of the probabilities at one temperature";

const logit = (k) => ({ name: `x${k}`, label: `logit ${k}`, min: -5, max: 5, step: 0.1, value: k });

export const controls = [
  { name: "tau", label: "temperature τ", min: 0.05, max: 50, scale: "log", value: 1 },
  logit(1),
  logit(2),
  logit(3),
];

const COLORS = ["green", "vermillion", "blue"];
const DASHES = [undefined, "9 4", "3 3"]; // where two curves coincide, both are seen
const CORNERS = [[0, 0], [0.5, Math.sqrt(3) / 2], [1, 0]];
const UNIFORM = [1 / 3, 1 / 3, 1 / 3];

function softmax(x, tau = 1) {
  const top = Math.max(...x);
  const weights = x.map((each) => Math.exp((each - top) / tau));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

// Where a distribution lies in the triangle.
const inTriangle = (p) =>
  [0, 1].map((axis) => p.reduce((sum, q, k) => sum + q * CORNERS[k][axis], 0));

const geometric = (low, high, count) =>
  Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));

const cooled = (x) => geometric(0.03, 300, 81).map((tau) => inTriangle(softmax(x, tau)));

const flow = Array.from({ length: 24 }, (_, i) => {
  const turn = ((15 * i + 4) * Math.PI) / 180;
  const [u, v] = [Math.cos(turn) / Math.sqrt(2), Math.sin(turn) / Math.sqrt(6)];
  return cooled([u + v, v - u, -2 * v]);
});

export function compute({ tau, x1, x2, x3 }) {
  const x = [x1, x2, x3];
  const p = softmax(x, tau);
  const nats = -p.reduce((sum, q) => sum + (q > 0 ? q * Math.log(q) : 0), 0);
  const best = x.map((each) => Number(each === Math.max(...x)));
  const ties = best.reduce((a, b) => a + b);
  const taus = geometric(0.05, 50, 121);
  return {
    p,
    nats,
    bits: nats / Math.LN2,
    mostNats: Math.log(3),
    cold: best.map((each) => each / ties), // the limit τ → 0: the argmax, shared where it is tied
    hot: UNIFORM, // the limit τ → ∞
    taus,
    curves: taus.map((each) => softmax(x, each)),
    point: inTriangle(p),
    path: cooled(x),
    flow,
  };
}

export function draw(scene, { tau }, result) {
  const { p, cold, hot, taus, curves } = result;
  const [left, right] = scene.plots(
    { x: [0.05, 50], xScale: "log", xTicks: [0.1, 1, 10], y: [0, 1.2], yTicks: [0, 0.5, 1],
      xLabel: "temperature τ", yLabel: "probability", share: 1.25, height: 270 },
    { x: [-0.16, 1.16], y: [-0.1, 0.98], bare: true, equal: true, height: 270 },
  );
  left.rule({ x: tau });
  COLORS.forEach((color, k) => {
    left.line(curves.map((q, i) => [taus[i], q[k]]), { color, dash: DASHES[k] });
    left.dot([tau, p[k]], { color });
  });
  left.handle("tau", { at: [tau, 1.1], axis: "x" });

  right.line([...CORNERS, CORNERS[0]], { color: "grey", width: 1 });
  for (const path of result.flow) right.line(path, { color: "sky", width: 1 });
  right.line(result.path, { width: 2.5, color: "black" });
  right.dot(result.point, { color: "black", radius: 6 });
  right.text(CORNERS[0], "1", { color: COLORS[0], anchor: "end", dx: -6, bold: true });
  right.text(CORNERS[1], "2", { color: COLORS[1], anchor: "middle", dy: -11, bold: true });
  right.text(CORNERS[2], "3", { color: COLORS[2], dx: 6, bold: true });

  const bars = scene.plot({
    x: [0, 1.1], xTicks: [0, 0.5, 1], xLabel: "probability", height: 165,
    y: [3.6, 0.4], yTicks: [1, 2, 3].map((k) => [k, `logit ${k}`]),
  });
  COLORS.forEach((color, k) => {
    bars.rect([0, k + 0.7], [p[k], k + 1.3], { color });
    bars.rect([0, k + 0.64], [cold[k], k + 1.36], { color, hollow: true, dash: "3 3" });
    bars.text([p[k], k + 1], scene.number(p[k]), { dx: 6, color });
  });
  bars.rule({ x: hot[0] }, { color: "black" });

  scene.say("entropy", `${scene.number(result.nats)} nats = ${scene.number(result.bits)} bits`);
  scene.say("at most", `log 3 = ${scene.number(result.mostNats)} nats`);
  const limit = cold.map((q) => scene.number(q, q % 1 ? 2 : 0)).join(", ");
  scene.say("dashed outline: τ → 0", `(${limit})`);
  scene.say("dotted line: τ → ∞", "1/3 each");
}
