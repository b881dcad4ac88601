// A 3 × 3 kernel that slides over a digit scan: picture, kernel, products, feature map.

export const alt =
  "A digit of 8 by 8 pixels with a frame of 3 by 3 on it, the nine products under the frame, and " +
  "the feature map with the sum of the products marked";

export const controls = [
  { name: "kernel", label: "kernel", value: "vertical edges",
    options: ["vertical edges", "horizontal edges", "blur", "points"] },
  { name: "row", label: "row of the frame", min: 0, max: 7, step: 1, value: 2 },
  { name: "column", label: "column of the frame", min: 0, max: 7, step: 1, value: 1 },
  { name: "stride", label: "stride", min: 1, max: 3, step: 1, value: 1 },
  { name: "padding", label: "padding", min: 0, max: 1, step: 1, value: 0 },
];

export const presets = {
  "same size": { padding: 1, kernel: "blur" },
  "every second place": { stride: 2, padding: 1 },
};

const KERNELS = {
  "vertical edges": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
  "horizontal edges": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
  "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
  "points": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
};

const PIXELS = [
  [0, 0, 12, 10, 0, 0, 0, 0],
  [0, 0, 14, 16, 16, 14, 0, 0],
  [0, 0, 13, 16, 15, 10, 1, 0],
  [0, 0, 11, 16, 16, 7, 0, 0],
  [0, 0, 0, 4, 7, 16, 7, 0],
  [0, 0, 0, 0, 4, 16, 9, 0],
  [0, 0, 5, 4, 12, 16, 4, 0],
  [0, 0, 9, 16, 16, 10, 0, 0],
];

export function compute({ kernel, row, column, stride, padding }) {
  const weights = KERNELS[kernel];
  const side = 8 + 2 * padding;
  const inside = (i) => i >= padding && i < 8 + padding;
  const pixels = Array.from({ length: side }, (_, i) => Array.from({ length: side }, (_, j) =>
    inside(i) && inside(j) ? PIXELS[i - padding][j - padding] : 0));
  const count = Math.floor((side - 3) / stride) + 1;
  const products = (i, j) => weights.map((each, u) => each.map((weight, v) =>
    weight * pixels[i * stride + u][j * stride + v] + 0));
  const total = (parts) => parts.flat().reduce((a, b) => a + b, 0);
  const map = Array.from({ length: count }, (_, i) =>
    Array.from({ length: count }, (_, j) => total(products(i, j))));
  const [at, beside] = [row, column].map((each) => Math.min(each, count - 1));
  return {
    pixels, weights, map, row: at, column: beside,
    products: products(at, beside),
    sum: map[at][beside],
    largest: Math.max(1, ...map.flat().map(Math.abs)),
  };
}

// A grid of whole numbers; dark for large, in two colours where there are signs.
function grid(plot, values, largest, signed) {
  const top = values.length; // rows are counted from above
  values.forEach((line, i) => line.forEach((value, j) => {
    const color = signed ? (value < 0 ? "vermillion" : "blue") : "grey";
    const opacity = 0.75 * Math.abs(value) / largest;
    const corners = [[j, top - i - 1], [j + 1, top - i]];
    plot.rect(...corners, { color: "light", hollow: true, width: 1 });
    plot.rect(...corners, { color, opacity, width: 0 });
    const text = String(value).replace("-", "−");
    plot.text([j + 0.5, top - i - 0.5], text, { anchor: "middle", tick: true });
  }));
}

function frame(plot, top, [i, j], size) {
  const [high, low] = [top - i, top - i - size];
  const corners = [[j, high], [j + size, high], [j + size, low], [j, low], [j, high]];
  plot.line(corners, { color: "black", width: 3 });
}

export function draw(scene, state, result) {
  const { pixels, weights, map, row, column, products, sum, largest } = result;
  const side = pixels.length;
  const square = (length, title) => (
    { x: [0, length], y: [0, length], bare: true, equal: true, title, height: 330 });
  const [picture, features] = scene.plots(
    square(side, state.padding ? "picture with its border" : "picture"),
    square(map.length, `feature map, ${map.length} × ${map.length}`),
  );
  grid(picture, pixels, 16, false);
  frame(picture, side, [row * state.stride, column * state.stride], 3);
  grid(features, map, largest, true);
  frame(features, map.length, [row, column], 1);
  const [kernel, under] = scene.plots(
    { ...square(3, "kernel"), height: 150 },
    { ...square(3, "products under the frame"), height: 150 },
  );
  grid(kernel, weights, 9, true);
  grid(under, products, Math.max(1, ...products.flat().map(Math.abs)), true);
  const terms = products.flat().map((each) => String(each).replace("-", "−")).join(" + ");
  scene.say("sum of the products", `${terms} = ${String(sum).replace("-", "−")}`);
  scene.say("places", `(8 + 2·${state.padding} − 3) / ${state.stride}, rounded down, + 1 = ${map.length}`);
}
