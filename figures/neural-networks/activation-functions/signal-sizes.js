// The predicted size of a signal after each of 50 layers, and of the gradient on its way back.

export const alt =
  "The predicted root mean square of the signal after each of 50 layers, and of the gradient that " +
  "comes back from the last: both flat for ReLU at g = 1.41, falling below it and climbing above";

export const controls = [
  { name: "act", label: "activation",
    options: ["ReLU", "leaky ReLU, 0.2", "tanh", "sigmoid", "GELU", "SiLU"], value: "ReLU" },
  { name: "g", label: "g, the weights' size times √n", min: 0.5, max: 4, step: 0.01, value: 1 },
];

export const presets = {
  "as in the opening": {},
  "ReLU, its gain": { g: 1.41 },
  "ReLU, 1.6": { g: 1.6 },
  "tanh, its gain": { act: "tanh", g: 1.59 },
  "sigmoid, 4": { act: "sigmoid", g: 4 },
  "GELU, its gain": { act: "GELU", g: 1.53 },
};

const DEPTH = 50;
const STRIPS = Array.from({ length: 400 }, (_, k) => (k - 199.5) / 25);
const WEIGHTS = STRIPS.map((z) => Math.exp(-(z ** 2) / 2) / Math.sqrt(2 * Math.PI) / 25);
const average = (f) => STRIPS.reduce((sum, z, k) => sum + f(z) * WEIGHTS[k], 0);

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const INSIDE = Math.sqrt(2 / Math.PI);
const gate = (z) => Math.tanh(INSIDE * (z + 0.044715 * z ** 3));

// Each activation and its slope; GELU in its tanh form, which is off by at most 0.0005.
const ACTS = {
  ReLU: [(z) => Math.max(z, 0), (z) => (z > 0 ? 1 : 0)],
  "leaky ReLU, 0.2": [(z) => (z > 0 ? z : 0.2 * z), (z) => (z > 0 ? 1 : 0.2)],
  tanh: [Math.tanh, (z) => 1 - Math.tanh(z) ** 2],
  sigmoid: [sigmoid, (z) => sigmoid(z) * sigmoid(-z)],
  GELU: [
    (z) => 0.5 * z * (1 + gate(z)),
    (z) => 0.5 * (1 + gate(z)) +
      0.5 * z * (1 - gate(z) ** 2) * INSIDE * (1 + 3 * 0.044715 * z ** 2),
  ],
  SiLU: [(z) => z * sigmoid(z), (z) => sigmoid(z) * (1 + z * sigmoid(-z))],
};

export function compute({ act, g }) {
  const [phi, slope] = ACTS[act];
  const sizes = [1];
  const factors = [];
  for (let layer = 0; layer < DEPTH; layer++) {
    const before = g * sizes[layer];
    factors.push(g * Math.sqrt(average((z) => slope(before * z) ** 2)));
    sizes.push(Math.sqrt(average((z) => phi(before * z) ** 2)));
  }
  const gradients = [1];
  for (const factor of factors.reverse()) gradients.unshift(gradients[0] * factor);
  const gain = 1 / Math.sqrt(average((z) => phi(z) ** 2));
  return { sizes, gradients, gain };
}

const LOW = 1e-12;
const HIGH = 1e6;

export function draw(scene, { act, g }, { sizes, gradients, gain }) {
  const plot = scene.plot({ x: [0, DEPTH], y: [LOW, HIGH], yScale: "log",
    xLabel: "layers passed", yLabel: "root mean square", height: 340 });
  const path = (values) =>
    values.map((value, layer) => [layer, value]).filter(([, y]) => y >= LOW && y <= HIGH);
  plot.rule({ y: 1 });
  plot.line(path(gradients), { color: "vermillion", width: 2, dash: true });
  plot.line(path(sizes), { color: "blue", width: 2.5 });
  scene.legend([
    { label: "signal, from the left", color: "blue" },
    { label: "gradient, from the right", color: "vermillion", dash: true },
  ]);
  const shown = (value) =>
    value >= 0.01 && value < 1000 ? scene.number(value, 2) : value.toExponential(1);
  scene.say("gain", `${scene.number(gain, 2)} for ${act}; here g is ${scene.number(g, 2)}`);
  scene.say("signal after 50 layers", shown(sizes[DEPTH]));
  scene.say("gradient at layer 1", shown(gradients[0]));
}
