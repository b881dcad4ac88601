// Six outputs of a small decoder: their probabilities, and those that a beam of some width finds.

export const alt =
  "Bars for the six outputs a, aa, ab, b, ba and bb: as long as the output is probable; those " +
  "that the beam found are filled";

export const controls = [
  { name: "width", label: "width of the beam", min: 1, max: 6, step: 1, value: 1 },
  { name: "first", label: "a first, not b", min: 0.05, max: 0.95, step: 0.05, value: 0.6 },
  { name: "endA", label: "END after a", min: 0.05, max: 0.95, step: 0.05, value: 0.4 },
  { name: "endB", label: "END after b", min: 0.05, max: 0.95, step: 0.05, value: 0.9 },
];

export const presets = {
  "greedy loses": {},
  "width 2 finds it": { width: 2 },
};

const NAMES = ["a", "aa", "ab", "b", "ba", "bb"];

// Symbols as in the page: END 0, a 2, b 3. Ties keep what came first, as the package does.
function search({ width, first, endA, endB }) {
  const after = (text) => {
    if (text === "") return [["a", first], ["b", 1 - first]];
    if (text.length === 2) return [["", 1]];
    const end = text === "a" ? endA : endB;
    return [["", end], ["a", (1 - end) / 2], ["b", (1 - end) / 2]];
  };
  let growing = [["", 0]];
  const complete = [];
  for (let step = 0; step < 3 && growing.length; step++) {
    const longer = [];
    for (const [text, logP] of growing) {
      const next = after(text).map(([symbol, p], place) => [symbol, Math.log(p), place]);
      next.sort((x, y) => y[1] - x[1] || x[2] - y[2]);
      for (const [symbol, log] of next.slice(0, width)) {
        longer.push([text + symbol, logP + log, symbol === ""]);
      }
    }
    longer.sort((x, y) => y[1] - x[1]);
    const kept = longer.slice(0, width - complete.length);
    complete.push(...kept.filter((one) => one[2]));
    growing = kept.filter((one) => !one[2]);
  }
  return [...complete, ...growing].sort((x, y) => y[1] - x[1]);
}

export function compute(state) {
  const { first, endA, endB } = state;
  const outputs = [];
  for (const [p, end] of [[first, endA], [1 - first, endB]]) {
    outputs.push(p * end, p * (1 - end) / 2, p * (1 - end) / 2);
  }
  const found = search(state);
  const names = found.map((one) => one[0]);
  return {
    outputs,
    found: NAMES.map((name) => Number(names.includes(name))),
    best: Math.exp(found[0][1]),
    possible: Math.max(...outputs),
  };
}

export function draw(scene, { width }, { outputs, found, best, possible }) {
  const plot = scene.plot({ x: [0, Math.max(...outputs) * 1.15], y: [-5.6, 0.6],
    xLabel: "probability of the output", yTicks: [], height: 300 });
  NAMES.forEach((name, row) => {
    const color = found[row] ? "blue" : "grey";
    plot.rect([0, -row - 0.35], [outputs[row], -row + 0.35], { color });
    plot.text([outputs[row], -row], `${name} END`, { dx: 6, dy: 4 });
  });
  scene.legend([
    { label: "found by the beam", color: "blue" },
    { label: "dropped", color: "grey" },
  ]);
  scene.say(`best of a beam of ${width}`, scene.number(best, 3));
  scene.say("most probable of all", scene.number(possible, 3));
}
