// What a 2×2 matrix does to the unit circle: the lines it keeps, and the right angle it keeps.

export const alt =
  "The unit circle and its image under a matrix, twice. Left: the matrix's columns as arrows, " +
  "and the eigenvectors if they are real. Right: the perpendicular singular directions, which " +
  "the matrix turns into the axes of the ellipse";

const column = (name, label, value) => ({
  name, label, kind: "point", min: [-4, -3], max: [4, 3], step: 0.1, value,
});

export const controls = [
  column("first", "first column", [4, 1]),
  column("second", "second column", [2, 3]),
];

export const presets = {
  "this page’s A": { first: [4, 1], second: [2, 3] },
  symmetric: { first: [2, 2], second: [2, -1] },
  shear: { first: [1, 0], second: [1, 1] },
  "quarter turn": { first: [0, 1], second: [-1, 0] },
  singular: { first: [4, 2], second: [-2, -1] },
};

const CIRCLE = Array.from({ length: 121 }, (_, i) => (i * Math.PI) / 60)
  .map((angle) => [Math.cos(angle), Math.sin(angle)]);

// The entries are tenths, so that what is made of their products is a multiple of 0.01.
const hundredths = (value) => Math.round(100 * value) / 100;

// The vector with length 1 that points to the right, or straight up.
function unit([x, y]) {
  const size = Math.hypot(x, y);
  const sign = Math.abs(x) > 1e-9 * size ? Math.sign(x) : Math.sign(y);
  return [(sign * x) / size, (sign * y) / size];
}

function eigen(a, b, c, d) {
  const spread = hundredths((a - d) ** 2 + 4 * b * c); // (λ₁ − λ₂)²
  const [middle, half] = [(a + d) / 2, Math.sqrt(Math.abs(spread)) / 2];
  if (spread < 0) return { kind: "complex", values: [middle, half], vectors: [], angle: 0 };
  if (spread === 0 && b === 0 && c === 0) {
    return { kind: "every", values: [middle, middle], vectors: [], angle: 0 };
  }
  const values = spread > 0 ? [middle + half, middle - half] : [middle, middle];
  const vectors = [...new Set(values)].map((value) => {
    const pair = [[b, value - a], [value - d, c]]; // each a solution of (A − λI)v = 0
    return unit(Math.hypot(...pair[0]) > Math.hypot(...pair[1]) ? pair[0] : pair[1]);
  });
  if (vectors.length === 1) return { kind: "one", values, vectors, angle: 0 };
  const [[x, y], [u, v]] = vectors;
  const angle = (Math.atan2(Math.abs(x * v - y * u), Math.abs(x * u + y * v)) * 180) / Math.PI;
  return { kind: "two", values, vectors, angle };
}

function singular(a, b, c, d) {
  const [p, q, r] = [a * a + c * c, b * b + d * d, a * b + c * d].map(hundredths); // AᵀA
  const first = Math.sqrt((p + q + Math.hypot(p - q, 2 * r)) / 2);
  const values = [first, first > 0 ? Math.abs(hundredths(a * d - b * c)) / first : 0];
  const turn = Math.atan2(2 * r, p - q) / 2;
  const [x, y] = [Math.cos(turn), Math.sin(turn)];
  return { values, vectors: [unit([x, y]), unit([-y, x])], every: p === q && r === 0 };
}

export function compute({ first: [a, c], second: [b, d] }) {
  const map = ([x, y]) => [a * x + b * y, c * x + d * y];
  const [eigenvectors, directions] = [eigen(a, b, c, d), singular(a, b, c, d)];
  return {
    ellipse: CIRCLE.map(map),
    eigen: { ...eigenvectors, images: eigenvectors.vectors.map(map) },
    singular: { ...directions, images: directions.vectors.map(map) },
    determinant: hundredths(a * d - b * c),
    symmetric: b === c,
  };
}

function directions(scene, plot, { vectors, images }, values, symbol) {
  vectors.forEach((v, i) => {
    const [color, image] = [["blue", "vermillion"][i], images[i]];
    const edge = Math.min(6 / Math.abs(v[0]), 4.5 / Math.abs(v[1]));
    plot.line([-edge, edge].map((t) => v.map((x) => t * x)), { color, width: 1, dash: "2 4" });
    plot.arrow([0, 0], image, { color, width: 3 });
    plot.arrow([0, 0], v, { color: "black", width: 2, head: 8 });
    const [tip, name] = [Math.hypot(...image) > 1 ? image : v, symbol + "₁₂"[i]];
    const size = Math.hypot(...tip);
    const beyond = { dx: (18 * tip[0]) / size, dy: (-18 * tip[1]) / size, anchor: "middle" };
    plot.text(tip, name, { color, bold: true, ...beyond });
    const words = `${name} = ${scene.number(values[i], 2)}`;
    plot.text([[-5.8, 0.2][i], 5.2], words, { color, bold: true });
  });
}

export function draw(scene, { first, second }, result) {
  const { ellipse, eigen, singular, determinant } = result;
  const axes = { x: [-6, 6], y: [-4.5, 5.7], equal: true, xTicks: [-4, 0, 4], yTicks: [-4, 0, 4] };
  const [left, right] = scene.plots(
    { ...axes, title: "A only stretches these" },
    { ...axes, title: singular.every ? "any such pair stays so" : "these stay perpendicular" },
  );
  const label = "columns of A, where it sends (1, 0) and (0, 1): drag them";
  scene.legend([{ label, color: "green", form: "circle" }]);
  for (const plot of [left, right]) {
    plot.line(CIRCLE, { color: "grey", width: 1.5 });
    plot.line(ellipse, { color: "black", width: 1.2 });
  }
  for (const tip of [first, second]) left.line([[0, 0], tip], { color: "green", width: 1.5 });
  directions(scene, left, eigen, eigen.values, "λ");
  directions(scene, right, singular, singular.values, "σ");
  left.handle("first", { color: "green" });
  left.handle("second", { color: "green" });
  if (eigen.kind === "complex") left.text([-5.8, 5.2], "none: every line turns", { bold: true });
  if (eigen.kind === "every") left.text([-5.8, 5.2], "every direction", { bold: true });
  if (eigen.kind === "one") left.text([0.2, 5.2], "and no other", { bold: true });

  const number = (value) => scene.number(value);
  const row = (i) => `(${scene.number(first[i], 1)}, ${scene.number(second[i], 1)})`;
  scene.say("rows of A", `${row(0)}, ${row(1)}`);
  const [one, two] = eigen.values.map(number);
  scene.say("eigenvalues", eigen.kind === "complex" ? `${one} ± ${two} i` : `${one}, ${two}`);
  const why = result.symmetric ? ", symmetric" : "";
  const words = { two: `${scene.number(eigen.angle, 1)}°${why}`, one: "only one",
    complex: "none is real", every: "any" };
  scene.say("angle between eigenvectors", words[eigen.kind]);
  scene.say("singular values", singular.values.map(number).join(", "));
  const sign = determinant < 0 ? "−" : "";
  scene.say(`determinant = λ₁λ₂ = ${sign}σ₁σ₂`, scene.number(determinant, 2));
}
