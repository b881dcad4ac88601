// Keys on a line or round a clock, a query to be turned, and the weights it gives them.

export const alt =
  "Keys on a line or on a circle, an arrow for the query, and a bar for the weight of each key";

export const controls = [
  { name: "size", label: "numbers a head", options: ["1", "2"], value: "2" },
  { name: "query", label: "query", kind: "point", min: [-1.2, -1.2], max: [1.2, 1.2], step: 0.05,
    value: [0.3, 0.95] },
  { name: "sharpness", label: "query times", min: 1, max: 20, step: 1, value: 6 },
  { name: "keys", label: "keys", kind: "steps", min: 2, max: 9, value: 5 },
];

export const presets = {
  "look at key 2, on a line": { size: "1" },
  "look at key 2, on a circle": { query: [0.95, 0.3] },
};

export function compute({ size, query, sharpness, keys }) {
  const wide = Number(size);
  const places = Array.from({ length: keys }, (_, i) => {
    const turn = (2 * Math.PI * i) / keys;
    return wide === 1 ? [-1 + (2 * i) / (keys - 1)] : [Math.sin(turn), Math.cos(turn)];
  });
  const products = places.map((place) =>
    place.reduce((sum, each, axis) => sum + each * sharpness * query[axis], 0),
  );
  const scores = products.map((product) => product / Math.sqrt(wide));
  const top = Math.max(...scores);
  const exponentials = scores.map((score) => Math.exp(score - top));
  const total = exponentials.reduce((a, b) => a + b);
  return { keys: places, products, weights: exponentials.map((each) => each / total) };
}

export function draw(scene, { size, query }, result) {
  const { keys, weights } = result;
  const most = Math.max(...weights);
  const flat = size === "1";
  const [plane, bars] = scene.plots(
    { x: [-1.5, 1.5], y: [-1.5, 1.5], bare: true, equal: true, height: 300 },
    { x: [0.4, keys.length + 0.6], y: [0, 1.15], yTicks: [0, 0.5, 1], height: 300,
      xTicks: keys.map((_, i) => i + 1), xLabel: "key", yLabel: "weight" },
  );
  const turn = Array.from({ length: 73 }, (_, i) => (i * Math.PI) / 36);
  const frame = flat ? [[-1.3, 0], [1.3, 0]] : turn.map((a) => [Math.sin(a), Math.cos(a)]);
  plane.line(frame, { color: "grey", width: 1 });
  keys.forEach(([x, y = 0], i) => {
    const color = weights[i] === most ? "vermillion" : "blue";
    const form = weights[i] === most ? "square" : "circle";
    plane.dot([x, y], { color, form, radius: 6 });
    const away = flat ? [x, -0.22] : [1.22 * x, 1.22 * y];
    plane.text(away, String(i + 1), { anchor: "middle" });
    bars.rect([i + 0.7, 0], [i + 1.3, weights[i]], { color });
    const words = weights[i] < 0.005 ? "0" : scene.number(weights[i], 2);
    if (keys.length < 8) bars.text([i + 1, weights[i]], words, { dy: -9, anchor: "middle" });
  });
  const seen = flat ? [query[0], 0] : query;
  if (flat) plane.line([query, seen], { color: "grey", width: 1, dash: true });
  plane.arrow([0, 0], seen, { color: "black", width: 2 });
  plane.handle("query");
  const first = weights.indexOf(most);
  const tied = weights.filter((each) => each === most).length > 1;
  scene.say("largest weight", `${scene.number(most)}, ${tied ? "shared" : `key ${first + 1}`}`);
  if (flat) scene.say("a head with one number sees", `${scene.number(query[0], 2)} of the query`);
}
