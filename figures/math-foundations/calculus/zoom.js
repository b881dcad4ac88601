// The sine through a window that closes in on one of its points, beside the tangent there.

export const alt =
  "Left: the sine with a window around one point. Right: what is in the window, the curve, its " +
  "tangent at the point, and the gap between them at the window's right edge";

export const controls = [
  { name: "zoom", label: "closer", min: 1, max: 1000, scale: "log", value: 1, unit: "×" },
  { name: "x", label: "point x", min: -3, max: 3, step: 0.1, value: 1 },
];

const WIDEST = 1.6; // half of the side of the window before any zoom

const spread = (from, to, count) =>
  Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));

// sin(x + h) − sin x − h cos x, without subtracting numbers that are nearly equal.
const rest = (x, h) =>
  -2 * Math.sin(x) * Math.sin(h / 2) ** 2 + Math.cos(x) * (Math.sin(h) - h);

export function compute({ zoom, x }) {
  const h = WIDEST / zoom;
  const [value, slope] = [Math.sin(x), Math.cos(x)];
  const r = rest(x, h);
  return {
    h,
    value,
    slope,
    ahead: Math.sin(x + h),
    predicted: value + slope * h,
    r,
    share: r / h,
    sine: spread(-5, 5, 201).map((each) => [each, Math.sin(each)]),
    window: spread(-h, h, 161).map((each) => [x + each, Math.sin(x + each)]),
  };
}

export function draw(scene, { zoom, x }, result) {
  const { h, value, slope, ahead, predicted, r, share } = result;
  scene.legend([
    { label: "sin x", color: "blue" },
    { label: "tangent", color: "vermillion", dash: true },
    { label: "gap at the edge", color: "purple" },
  ]);
  const frame = (size) => [[x - size, value - size], [x + size, value + size]];
  const [whole, near] = scene.plots(
    { x: [-5, 5], y: [-2.7, 2.7], equal: true, xTicks: [-4, -2, 0, 2, 4], yTicks: [-1, 0, 1],
      title: "where you look", xLabel: "x", share: 1.4 },
    { x: [x - h, x + h], y: [value - h, value + h], equal: true,
      xTicks: [[x - h, "x − h"], [x, "x"], [x + h, "x + h"]], yTicks: [[value, "sin x"]],
      title: "what you see", xLabel: `h = ${scene.number(h, h < 0.1 ? 5 : 3)}` },
  );
  whole.line(result.sine, { color: "blue" });
  whole.rect(...frame(h), { color: "grey", hollow: true });
  whole.handle("x", { at: [x, value], axis: "x" });

  near.line(result.window, { color: "blue", width: 4.5 });
  const edges = [[x - h, value - slope * h], [x + h, predicted]];
  near.line(edges, { color: "vermillion", dash: true });
  near.line([[x + h, ahead], [x + h, predicted]], { color: "purple", width: 5 });
  near.rect(...frame(h / 10), { color: "grey", hollow: true, width: 1 });
  near.dot([x, value], { color: "black" });

  scene.say("slope cos x", scene.number(slope));
  scene.say("error r(h)", scene.number(r, 8));
  scene.say("r(h)/h, the gap you see", scene.number(share, 5));
}
