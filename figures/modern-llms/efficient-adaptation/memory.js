// What training keeps in memory: weights, gradients, optimizer, for three ways to adapt a model.

export const alt =
  "Stacked bars of weights, gradients and optimizer for three methods, and a line at the memory " +
  "of the card";

// Parameters; sums of rows and columns of all matrices in blocks; numbers in these matrices.
const MODELS = {
  "Llama 2 7B": { N: 6738415616, sides: 2236416, inside: 6476005376 },
  "Llama 2 70B": { N: 68976648192, sides: 11632640, inside: 68451041280 },
  "GPT-2 small": { N: 124439808, sides: 147456, inside: 84934656 },
  "the course's GPT": { N: 361920, sides: 4608, inside: 331776 },
};
const NAMES = Object.keys(MODELS);
const METHODS = ["full", "LoRA", "QLoRA"];
const PARTS = ["weights", "gradients", "optimizer"];
const COLORS = ["blue", "orange", "vermillion"];
const FOUR_BITS = (4 + 8 / 64 + 32 / (64 * 256)) / 8; // bytes of a weight in NF4

export const controls = [
  { name: "model", label: "model", kind: "choice", options: NAMES, value: NAMES[0] },
  { name: "rank", label: "rank", min: 1, max: 256, step: 1, value: 8 },
  { name: "card", label: "memory of the card, GB", min: 4, max: 192, step: 4, value: 24 },
];

export const presets = {
  "a home computer": {},
  "70 billion on one large card": { model: NAMES[1], rank: 64, card: 80 },
};

export function compute({ model, rank, card }) {
  const { N, sides, inside } = MODELS[model];
  const trained = rank * sides;
  const bytes = [
    [2 * N, 2 * N, 12 * N],
    [2 * N + 2 * trained, 2 * trained, 12 * trained],
    [2 * N + (FOUR_BITS - 2) * inside + 2 * trained, 2 * trained, 12 * trained],
  ];
  const together = bytes.map((parts) => parts.reduce((a, b) => a + b, 0));
  return { bytes, together, fits: together.map((total) => total <= card * 1e9), trained };
}

export function draw(scene, { model, card }, { bytes, together, fits, trained }) {
  const [unit, name] = together[0] > 1e9 ? [1e9, "GB"] : [1e6, "MB"];
  const top = 1.15 * Math.max(...together) / unit;
  const plot = scene.plot({
    x: [0, 3], xTicks: METHODS.map((method, i) => [i + 0.5, method]),
    y: [0, top], height: 320, yLabel: `${name} for ${model}`,
  });
  bytes.forEach((parts, i) => {
    let below = 0;
    parts.forEach((part, j) => {
      const above = below + part / unit;
      plot.rect([i + 0.22, below], [i + 0.78, above], { color: COLORS[j], width: 0 });
      below = above;
    });
    const digits = below < 10 ? 2 : 1;
    plot.text([i + 0.5, below + 0.035 * top], scene.number(below, digits), { anchor: "middle" });
  });
  const line = card * 1e9 / unit;
  if (line < top) plot.line([[0, line], [3, line]], { color: "grey", dash: "4 4" });
  scene.legend(PARTS.map((label, j) => ({ label, color: COLORS[j] })));
  scene.say("trained by LoRA", trained.toLocaleString("en"));
  const fitting = METHODS.filter((_, i) => fits[i]);
  scene.say("fits on the card", fitting.length ? fitting.join(", ") : "nothing");
}
