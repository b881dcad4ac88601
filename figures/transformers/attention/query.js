// One query among four keys: arrows, the weights that a softmax makes of the scores, the output.

export const alt =
  "A query arrow among four key arrows; bars of the four weights; the output as a point on a line " +
  "between the smallest and the largest value";

export const controls = [
  { name: "query", label: "query", kind: "point", min: [-2, -1.5], max: [2, 2], step: 0.1,
    value: [0.9, 0.5] },
  { name: "sharpness", label: "scores multiplied by", min: 0.1, max: 30, scale: "log", value: 1 },
  { name: "by", label: "scored by", options: ["dot product", "distance"], value: "dot product" },
];

export const presets = {
  "along key A": { query: [1, 0] },
  "no query": { query: [0, 0] },
  "one takes all": { sharpness: 30 },
  "nearest key": { by: "distance", sharpness: 3 },
};

const KEYS = [[1, 0], [0, 1], [-1, 0], [1.6, 1.6]];
const VALUES = [10, 20, 30, 40];
const NAMES = ["A", "B", "C", "D"];
const COLORS = ["blue", "vermillion", "green", "purple"];

const dot = ([a, b], [c, d]) => a * c + b * d;
const gap = ([a, b], [c, d]) => -((a - c) ** 2 + (b - d) ** 2) / 2;

export function compute({ query, sharpness, by }) {
  const scores = KEYS.map((key) => (by === "dot product" ? dot(key, query) : gap(key, query)));
  const top = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(sharpness * (score - top)));
  const sum = shares.reduce((a, b) => a + b);
  const weights = shares.map((share) => share / sum);
  const output = weights.reduce((total, weight, i) => total + weight * VALUES[i], 0);
  return { scores, weights, output };
}

export function draw(scene, { query }, { scores, weights, output }) {
  const [plane, bars] = scene.plots(
    { x: [-2.2, 2.4], y: [-1.7, 2.2], bare: true, equal: true, height: 330 },
    { x: [0, 1.25], xTicks: [0, 0.5, 1], xLabel: "weight", height: 330,
      y: [4.6, 0.4], yTicks: NAMES.map((name, i) => [i + 1, name]) },
  );
  plane.rule({ x: 0 }, { color: "light" });
  plane.rule({ y: 0 }, { color: "light" });
  KEYS.forEach((key, i) => {
    plane.arrow([0, 0], key, { color: COLORS[i] });
    plane.text(key, NAMES[i], { color: COLORS[i], dx: 8 * Math.sign(key[0] + 0.5), dy: -9,
      anchor: "middle", bold: true });
    bars.rect([0, i + 0.7], [weights[i], i + 1.3], { color: COLORS[i] });
    const text = `${scene.number(weights[i], 2)} × ${VALUES[i]}`;
    bars.text([weights[i], i + 1], text, { dx: 6 });
  });
  plane.arrow([0, 0], query, { color: "black", width: 3, gap: [0, 8] });
  plane.handle("query");

  const line = scene.plot({ x: [6, 44], xTicks: VALUES.map((v, i) => [v, `${NAMES[i]}: ${v}`]),
    y: [0, 1], yTicks: [], xLabel: "values, and the output among them", height: 92 });
  line.rule({ y: 0.5 }, { color: "light" });
  VALUES.forEach((value, i) => {
    line.dot([value, 0.5], { color: COLORS[i], radius: 2 + 12 * Math.sqrt(weights[i]), hollow: true });
  });
  line.dot([output, 0.5], { color: "black", radius: 6 });
  scene.say("scores", scores.map((score) => scene.number(score, 2)).join(", "));
  scene.say("weights", weights.map((weight) => scene.number(weight, 2)).join(", "));
  scene.say("output", scene.number(output, 1));
}
