// How likely two documents share a band, against their similarity.

export const alt =
  "An S-shaped curve of the chance that a pair is found, with a movable similarity";

export const controls = [
  { name: "rows", label: "numbers in a band r", min: 1, max: 20, step: 1, value: 8 },
  { name: "bands", label: "bands b", min: 1, max: 60, step: 1, value: 14 },
  { name: "s", label: "similarity s", min: 0, max: 1, step: 0.01, value: 0.8 },
];

export const presets = {
  FineWeb: {},
  "shorter bands": { rows: 4, bands: 28 },
  "longer bands": { rows: 16, bands: 7 },
};

const POINTS = 41;
const caught = (s, rows, bands) => -Math.expm1(bands * Math.log1p(-(s ** rows)));

export function compute({ rows, bands, s }) {
  return {
    curve: Array.from({ length: POINTS }, (_, i) => caught(i / (POINTS - 1), rows, bands)),
    found: caught(s, rows, bands),
    steep: (1 / bands) ** (1 / rows),
    numbers: rows * bands,
  };
}

export function draw(scene, { s }, { curve, found, steep, numbers }) {
  const plot = scene.plot({
    x: [0, 1], y: [0, 1.05], height: 320,
    xLabel: "similarity of two documents", yLabel: "chance that the pair is found",
  });
  plot.line([[steep, 0], [steep, 1.05]], { color: "grey", dash: "4 4" });
  plot.line(curve.map((y, i) => [i / (POINTS - 1), y]), { color: "blue", width: 2.5 });
  plot.dot([s, found], { color: "vermillion" });
  scene.say("this pair is found with the chance", scene.number(found, 3));
  scene.say("the curve is steep near", scene.number(steep, 2));
  scene.say("numbers in a signature", String(numbers));
}
