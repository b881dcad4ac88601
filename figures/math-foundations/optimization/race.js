// Four racers on ½(x² + κy²) from (1, 1): three at their best settings, the fourth set by hand.

export const alt =
  "Left: contours of a long valley with the paths of gradient descent, Nesterov, the heavy ball " +
  "and a racer set by hand. Right: their distance to the minimum against the step";

export const controls = [
  { name: "kappa", label: "condition number κ = L/μ", min: 10, max: 1000, scale: "log", value: 100 },
  { name: "method", label: "yours is", options: ["heavy ball", "Nesterov"], value: "heavy ball" },
  { name: "rate", label: "your learning rate η", min: 0.05, max: 4, step: 0.05, value: 1, unit: "/ L" },
  { name: "beta", label: "your momentum β", min: 0, max: 0.98, step: 0.01, value: 0 },
  { name: "step", label: "step", kind: "steps", min: 0, max: 60, value: 20, interval: 150 },
];

const STYLES = [
  { color: "vermillion", form: "circle", width: 1.5 },
  { color: "green", form: "square", width: 1.5 },
  { color: "blue", form: "circle", hollow: true, width: 1.5 },
  { color: "black", form: "cross", width: 2, dash: "5 3" },
];
const NAMES = ["gradient descent", "Nesterov", "heavy ball", "yours"];
const FAR = 1e3;

// Points until the distance is below 1e-7 or above FAR, or after `most` steps.
function run(kappa, { lr, beta, ahead }, most) {
  let [x, y, u, v] = [1, 1, 0, 0];
  const points = [[x, y]];
  const distances = [Math.hypot(x, y)];
  while (points.length <= most && distances.at(-1) >= 1e-7 && distances.at(-1) <= FAR) {
    const look = ahead ? beta : 0;
    u = beta * u - lr * (x + look * u);
    v = beta * v - lr * kappa * (y + look * v);
    [x, y] = [x + u, y + v];
    points.push([x, y]);
    distances.push(Math.hypot(x, y));
  }
  return { points, distances };
}

// Of the straight line nearest to a list of numbers.
function slope(list) {
  const middle = (list.length - 1) / 2;
  const weights = list.map((_, k) => k - middle);
  const sum = (each) => weights.reduce((total, weight, k) => total + weight * each[k], 0);
  return sum(list) / sum(weights);
}

// The larger size of the two roots of r² − sum·r + product = 0.
function largestRoot(sum, product) {
  const inner = sum * sum - 4 * product;
  return inner < 0 ? Math.sqrt(product) : (Math.abs(sum) + Math.sqrt(inner)) / 2;
}

function factorOf(a, beta, ahead) {
  return ahead
    ? largestRoot((1 + beta) * (1 - a), beta * (1 - a))
    : largestRoot(1 + beta - a, beta);
}

export function compute({ kappa, method, rate, beta, step }) {
  const root = Math.sqrt(kappa);
  const ahead = method === "Nesterov";
  const yours = { lr: rate / kappa, beta, ahead };
  const settings = [
    { lr: 2 / (1 + kappa), beta: 0 },
    { lr: 1 / kappa, beta: (root - 1) / (root + 1), ahead: true },
    { lr: 4 / (root + 1) ** 2, beta: ((root - 1) / (root + 1)) ** 2 },
    yours,
  ];
  const most = Math.round(20 * kappa);
  const last = Math.round(8 * kappa); // the right plot ends here
  const every = Math.max(1, Math.round(last / 400));
  const runs = settings.map((each) => {
    const { points, distances } = run(kappa, each, most);
    const reached = distances.findIndex((distance) => distance <= 1e-6);
    return {
      steps: reached,
      measured: Math.exp(slope(distances.map(Math.log).slice(distances.length >> 1))),
      path: points.slice(0, step + 1),
      line: distances.slice(0, last + 1).flatMap((d, k) => (k % every ? [] : [[k, d]])),
    };
  });
  const bound = (2 * (1 + beta)) / (ahead ? 1 + 2 * beta : 1);
  return {
    runs,
    factors: [
      (kappa - 1) / (kappa + 1),
      1 - 1 / root,
      (root - 1) / (root + 1),
      Math.max(factorOf(yours.lr, beta, ahead), factorOf(rate, beta, ahead)),
    ],
    bound,
    diverges: rate > bound,
    last,
    most,
    tall: 0.4 * root,
    ellipses: Array.from({ length: 9 }, (_, i) => 0.02 * (4 * kappa * kappa) ** (i / 8)),
  };
}

export function draw(scene, { kappa, step }, result) {
  const { runs, factors, last, most, tall } = result;
  const [left, right] = scene.plots(
    { x: [-0.45, 1.2], y: [-tall, tall], xTicks: [0, 1], height: 300,
      xLabel: "curvature 1", yLabel: `curvature ${kappa}`, title: `${step} steps` },
    { x: [0, last], y: [1e-7, 30], yScale: "log", yTicks: [1e-6, 1e-4, 1e-2, 1], xTicks: 4,
      height: 300, xLabel: "step", yLabel: "distance to the minimum" },
  );
  for (const height of result.ellipses) {
    const [a, b] = [Math.sqrt(2 * height), Math.sqrt((2 * height) / kappa)];
    const turns = Array.from({ length: 181 }, (_, i) => (i * Math.PI) / 90);
    const ring = turns.map((turn) => [a * Math.cos(turn), b * Math.sin(turn)]);
    left.line(ring, { color: "light", width: 1 });
  }
  left.dot([0, 0], { form: "cross", color: "grey", radius: 6 });
  right.rule({ y: 1e-6 });
  right.rule({ x: step });
  runs.forEach(({ path, line }, i) => {
    const { form, hollow, ...style } = STYLES[i];
    left.line(path, style);
    for (const point of path) left.dot(point, { color: style.color, radius: 1.7 });
    left.dot(path.at(-1), { ...STYLES[i], dash: undefined, radius: 6 });
    right.line(line, { ...style, width: style.width + 0.5 });
  });
  scene.legend(NAMES.map((label, i) => ({ label, ...STYLES[i], form: undefined })));
  const count = (steps) => (steps < 0 ? `over ${scene.number(most, 0)}` : scene.number(steps, 0));
  NAMES.slice(0, 3).forEach((name, i) => {
    scene.say(name, `${count(runs[i].steps)} steps (× ${scene.number(factors[i])})`);
  });
  scene.say("yours", result.diverges ? "diverges" : `${count(runs[3].steps)} steps`);
  const [measured, predicted] = [runs[3].measured, factors[3]].map((each) => scene.number(each));
  scene.say("your factor per step", `× ${measured}, predicted × ${predicted}`);
  scene.say("yours diverges above η =", `${scene.number(result.bound, 2)} / L`);
}
