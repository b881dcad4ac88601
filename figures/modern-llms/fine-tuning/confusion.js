// A thousand mails in a table of truth and answer, and what four measures make of it.

export const alt =
  "A table of four counts and four bars: accuracy, balanced accuracy, F1 of spam and MCC";

export const controls = [
  { name: "spam", label: "spam among the mails (%)", min: 1, max: 50, step: 1, value: 10 },
  { name: "found", label: "spam that is found (%)", min: 0, max: 100, step: 1, value: 40 },
  { name: "kept", label: "good mails that are kept (%)", min: 0, max: 100, step: 1, value: 95 },
];

export const presets = {
  "the filter": {},
  "call everything good": { found: 0, kept: 100 },
  "call everything spam": { found: 100, kept: 0 },
  "toss a coin": { found: 50, kept: 50 },
  "rare spam": { spam: 1, found: 90, kept: 95 },
};

export function compute({ spam, found, kept }) {
  const [bad, good] = [10 * spam, 1000 - 10 * spam];
  const d = (bad * found) / 100;
  const a = (good * kept) / 100;
  const [b, c] = [good - a, bad - d];
  const root = Math.sqrt((a + b) * (c + d) * (a + c) * (b + d));
  return {
    counts: [a, b, c, d],
    values: [
      (a + d) / 1000,
      (a / (a + b) + d / (c + d)) / 2,
      d > 0 ? (2 * d) / (2 * d + b + c) : 0,
      root > 0 ? (a * d - b * c) / root : 0,
    ],
  };
}

const NAMES = ["accuracy", "balanced accuracy", "F1 of spam", "MCC"];

export function draw(scene, state, { counts, values }) {
  const table = scene.plot({
    x: [0, 2], y: [2, 0], height: 190,
    xTicks: [[0.5, "called good"], [1.5, "called spam"]],
    yTicks: [[0.5, "good"], [1.5, "spam"]],
  });
  counts.forEach((count, k) => {
    const [row, column] = [Math.floor(k / 2), k % 2];
    const color = row === column ? "sky" : "orange";
    table.rect([column + 0.03, row + 0.03], [column + 0.97, row + 0.97], { color, opacity: 0.6 });
    table.text([column + 0.5, row + 0.5], String(Math.round(count)), { anchor: "middle" });
  });
  const bars = scene.plot({
    x: [Math.min(0, ...values) - 0.02, 1.2], y: [4.6, 0.4], height: 200,
    xLabel: "value of the measure", yTicks: NAMES.map((name, i) => [i + 1, name]),
  });
  values.forEach((value, i) => {
    bars.rect([Math.min(0, value), i + 0.7], [Math.max(0, value), i + 1.3], { color: "blue" });
    bars.text([Math.max(0, value), i + 1], scene.number(value, 3), { dx: 6 });
    scene.say(NAMES[i], scene.number(value, 3));
  });
}
