// Seven sequences, put into rows of one length by four policies.

export const alt =
  "Seven bars of different lengths lie in rows of equal length; what is left of each row is empty, " +
  "and the share of empty places is given below";

export const controls = [
  { name: "policy", label: "policy",
    options: ["one a row", "first fit", "longest first", "best fit"], value: "longest first" },
  { name: "n", label: "row length", min: 9, max: 20, step: 1, value: 10 },
  { name: "a", label: "1st sequence", min: 1, max: 9, step: 1, value: 2 },
  { name: "b", label: "2nd", min: 1, max: 9, step: 1, value: 5 },
  { name: "c", label: "3rd", min: 1, max: 9, step: 1, value: 4 },
  { name: "d", label: "4th", min: 1, max: 9, step: 1, value: 7 },
  { name: "e", label: "5th", min: 1, max: 9, step: 1, value: 1 },
  { name: "f", label: "6th", min: 1, max: 9, step: 1, value: 3 },
  { name: "g", label: "7th", min: 1, max: 9, step: 1, value: 8 },
];

export const presets = {
  "as on the page": {},
  "shortest first": { policy: "first fit", a: 1, b: 2, c: 3, d: 4, e: 5, f: 7, g: 8 },
  "tight rows": { policy: "best fit", n: 11, a: 7, b: 6, c: 5, d: 3, e: 2, f: 2, g: 1 },
};

const COLOURS = ["blue", "vermillion", "green", "orange", "purple", "sky", "grey"];

export function compute({ policy, n, ...rest }) {
  const lengths = [..."abcdefg"].map((name) => rest[name]);
  const order = lengths.map((_, i) => i);
  if (policy === "longest first" || policy === "best fit") {
    order.sort((i, j) => lengths[j] - lengths[i] || i - j);
  }
  const rows = [];
  const room = [];
  for (const i of order) {
    let row = -1;
    if (policy !== "one a row") {
      for (let r = 0; r < rows.length; r++) {
        if (room[r] < lengths[i]) continue;
        if (row < 0 || (policy === "best fit" && room[r] < room[row])) row = r;
        if (policy !== "best fit") break;
      }
    }
    if (row < 0) {
      row = rows.length;
      rows.push([]);
      room.push(n);
    }
    rows[row].push(i);
    room[row] -= lengths[i];
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  return { rows, waste: 1 - total / (rows.length * n), least: Math.ceil(total / n) };
}

export function draw(scene, { n, ...rest }, { rows, waste, least }) {
  const lengths = [..."abcdefg"].map((name) => rest[name]);
  const plot = scene.plot({ x: [0, n], y: [7, 0], bare: true, height: 280 });
  rows.forEach((row, r) => {
    plot.rect([0, r + 0.08], [n, r + 0.92], { color: "grey", hollow: true });
    let start = 0;
    for (const i of row) {
      plot.rect([start + 0.04, r + 0.12], [start + lengths[i] - 0.04, r + 0.88],
        { color: COLOURS[i], opacity: 0.75 });
      plot.text([start + lengths[i] / 2, r + 0.5], `${lengths[i]}`, { anchor: "middle", bold: true });
      start += lengths[i];
    }
  });
  scene.say("rows", `${rows.length}, at least ${least}`);
  scene.say("padding", `${scene.number(100 * waste, 0)} %`);
}
