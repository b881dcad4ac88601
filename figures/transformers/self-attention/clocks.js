// RoPE as four clocks: the query's hand and the key's, at two places that can be moved.

export const alt =
  "Four clock faces with two hands each, turned by the places of query and key, and the mean " +
  "agreement of the hands against the distance";

export const controls = [
  { name: "distance", label: "distance i − j", min: 0, max: 64, step: 1, value: 3 },
  { name: "shift", label: "both places on by", kind: "steps", min: 0, max: 60, interval: 400, value: 2 },
  { name: "base", label: "base b", min: 10, max: 1e6, scale: "log", value: 10000 },
];

export const presets = {
  "same place": { distance: 0 },
  "next to each other": { distance: 1 },
  "half a turn of the first clock": { distance: 22 },
  "small base": { base: 10, distance: 20 },
};

const TURN = 2 * Math.PI;
const mod = (angle) => ((angle % TURN) + TURN) % TURN;
const mean = (values) => values.reduce((a, b) => a + b) / values.length;

export function compute({ distance, shift, base }) {
  const omega = [0, 1, 2, 3].map((r) => base ** (-r / 4));
  const agree = (gap) => omega.map((w) => Math.cos(w * gap));
  return {
    omega,
    query: omega.map((w) => mod(w * (shift + distance))),
    key: omega.map((w) => mod(w * shift)),
    agree: agree(distance),
    score: mean(agree(distance)),
    curve: Array.from({ length: 65 }, (_, gap) => mean(agree(gap))),
  };
}

const CIRCLE = Array.from({ length: 73 }, (_, i) => (i * Math.PI) / 36);

export function draw(scene, { distance, shift }, { omega, query, key, agree, score, curve }) {
  const wide = scene.width >= 520;
  const places = wide ? [[0, 0], [2.6, 0], [5.2, 0], [7.8, 0]] : [[0, 0], [2.6, 0], [0, -3.2], [2.6, -3.2]];
  const faces = scene.plot({
    x: wide ? [-1.2, 9] : [-1.2, 3.8],
    y: wide ? [-1.75, 1.5] : [-4.95, 1.5],
    bare: true, equal: true, height: wide ? 260 : 460,
  });
  const { number } = scene;
  places.forEach(([x, y], r) => {
    const at = (angle, size) => [x + size * Math.sin(angle), y + size * Math.cos(angle)];
    faces.line(CIRCLE.map((angle) => at(angle, 1)), { color: "grey", width: 1 });
    faces.line([[x, y], at(key[r], 0.97)], { color: "orange", width: 4 });
    faces.dot(at(key[r], 0.97), { color: "orange", form: "square", radius: 5 });
    faces.line([[x, y], at(query[r], 0.78)], { color: "blue", width: 2.5 });
    faces.dot(at(query[r], 0.78), { color: "blue", radius: 5 });
    faces.text([x, y + 1.25], `${number(omega[r], 3)} a place`, { anchor: "middle", tick: true });
    faces.text([x, y - 1.3], `agree ${number(agree[r], 2)}`, { anchor: "middle" });
  });
  const plot = scene.plot({
    x: [0, 64], y: [-1, 1.1], yTicks: [-1, 0, 1], xTicks: [0, 16, 32, 48, 64],
    xLabel: "distance i − j", yLabel: "mean agreement", height: 210,
  });
  plot.rule({ y: 0 });
  plot.line(curve.map((value, gap) => [gap, value]), { color: "black" });
  plot.handle("distance", { at: [distance, score], axis: "x", color: "vermillion" });
  scene.legend([
    { label: "query", color: "blue", form: "circle" },
    { label: "key", color: "orange", form: "square" },
  ]);
  scene.say("query at place", `i = ${shift + distance}`);
  scene.say("key at place", `j = ${shift}`);
  scene.say("mean agreement, whatever the shift", number(score));
}
