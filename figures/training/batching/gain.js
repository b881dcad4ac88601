// The mean gain of one step on a parabola, against the rate, for one batch size and one noise.

export const alt =
  "The mean gain of one step against the rate: a hill that begins at 0; with noise its top is lower " +
  "and lies at a smaller rate, and beyond twice that rate the step does harm";

export const controls = [
  { name: "B", label: "batch size", options: ["1", "3", "9", "27", "81", "243"], value: "9" },
  { name: "noise", label: "noise of one example", min: 0, max: 12, step: 0.5, value: 6 },
  { name: "rate", label: "rate", min: 0, max: 1.25, step: 0.01, value: 0.5 },
];

export const presets = {
  "as on the page": {},
  "one example": { B: "1", rate: 0.1 },
  "81 examples": { B: "81", rate: 0.9 },
  "a rate for 81, a batch of 9": { B: "9", rate: 0.9 },
};

const SLOPE = 2;
const gainOf = (rate, B, noise) =>
  rate * SLOPE ** 2 - (rate ** 2 / 2) * (SLOPE ** 2 + noise ** 2 / B);

export function compute({ B: chosen, noise, rate }) {
  const B = Number(chosen);
  const scale = noise ** 2 / SLOPE ** 2;
  return {
    gain: gainOf(rate, B, noise),
    scale,
    best: 1 / (1 + scale / B),
    most: 2 / (1 + scale / B),
    examples: B + scale,
  };
}

export function draw(scene, { B: chosen, noise, rate }, { gain, scale, best, most, examples }) {
  const B = Number(chosen);
  const plot = scene.plot({ x: [0, 1.25], y: [-2, 2.2], xLabel: "rate",
    yLabel: "mean gain of one step", height: 300 });
  const inside = (value) => Math.max(value, -2);
  const curve = (size) => Array.from({ length: 126 }, (_, k) => {
    const x = k / 100;
    return [x, gainOf(x, size, noise)];
  }).filter(([, y]) => y > -2);
  plot.rule({ y: 0 });
  plot.line(curve(1e9), { color: "grey", dash: true, width: 1.5 });
  plot.line(curve(B), { color: "blue", width: 2.5 });
  plot.dot([best, most], { color: "blue", radius: 5 });
  plot.handle("rate", { at: [rate, inside(gain)], axis: "x", color: "vermillion" });
  scene.legend([
    { label: `a batch of ${B}`, color: "blue" },
    { label: "no noise", color: "grey", dash: true },
  ]);
  scene.say("gain at this rate", scene.number(gain, 2));
  scene.say("best rate", `${scene.number(best, 2)}, gain ${scene.number(most, 2)}`);
  scene.say("noise scale", scene.number(scale, 1));
  scene.say("examples for a gain of 2", scene.number(examples, 1));
}
