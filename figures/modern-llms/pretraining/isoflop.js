// One budget, divided between parameters and tokens, under three sets of constants.

export const alt =
  "Three valleys of the expected loss over the number of parameters, each with its lowest point";

const LAWS = [
  { name: "printed, two decimals", color: "vermillion", k: [1.69, 406.4, 410.7, 0.34, 0.28] },
  { name: "the same fit, four decimals", color: "blue", k: [1.6934, 406.4, 410.7, 0.3392, 0.2849] },
  { name: "fitted again", color: "green", k: [1.8172, 482.01, 2085.43, 0.3478, 0.3658] },
];
const POINTS = 41;

export const controls = [
  { name: "budget", label: "operations, power of ten", min: 18, max: 26, step: 0.1, value: 23.8 },
  { name: "size", label: "your size, times the best", min: 0.1, max: 10, scale: "log", value: 0.5 },
];

const loss = (N, D, [E, A, B, alpha, beta]) => E + A * N ** -alpha + B * D ** -beta;

function best(C, [, A, B, alpha, beta]) {
  const sum = alpha + beta;
  return ((alpha * A) / (beta * B)) ** (1 / sum) * (C / 6) ** (beta / sum);
}

export function compute({ budget, size }) {
  const C = 10 ** budget;
  const parameters = LAWS.map(({ k }) => best(C, k));
  const refit = LAWS[2].k;
  const sizes = Array.from({ length: POINTS }, (_, i) => parameters[2] * 10 ** (i / 20 - 1));
  const mine = parameters[2] * size;
  return {
    curves: LAWS.map(({ k }) => sizes.map((N) => loss(N, C / 6 / N, k))),
    parameters,
    ratios: parameters.map((N) => C / 6 / N / N),
    extra: loss(mine, C / 6 / mine, refit) - loss(parameters[2], C / 6 / parameters[2], refit),
  };
}

export function draw(scene, { budget, size }, { curves, parameters, ratios, extra }) {
  const C = 10 ** budget;
  const all = curves.flat();
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const room = 0.06 * (high - low);
  const plot = scene.plot({
    x: [-1, 1], xTicks: [[-1, "1/10"], [0, "1"], [1, "10"]], height: 320,
    y: [low - room, high + room],
    xLabel: "parameters, times the best of the refit", yLabel: "expected loss (nats a token)",
  });
  LAWS.forEach(({ color, k }, j) => {
    plot.line(curves[j].map((y, i) => [i / 20 - 1, y]), { color, width: 2.5 });
    const x = Math.log10(parameters[j] / parameters[2]);
    if (Math.abs(x) <= 1) plot.dot([x, loss(parameters[j], C / 6 / parameters[j], k)], { color });
  });
  const mine = parameters[2] * size;
  plot.dot([Math.log10(size), loss(mine, C / 6 / mine, LAWS[2].k)], { color: "black" });
  scene.legend(LAWS.map(({ name, color }) => ({ label: name, color })));
  scene.say("tokens a parameter, in this order", ratios.map((r) => scene.number(r, 1)).join(", "));
  scene.say("your size costs, by the refit", `${scene.number(extra, 3)} nats`);
}
