// Where each head of the trained model looks in one sentence, and what is lost without it.

export const alt =
  "A sentence whose characters are shaded by the weight that one head gives them, and bars of " +
  "the rise of the loss without each of the twelve heads";

// Weights in hundredths by layer, head, place; the rise of the loss by layer and head.
const STORED = {};
const TEXT = "The layer adds them up. No head knows what another does.";
const WIDE = 14; // characters a line

const choice = (name, label, count) => ({
  name, label, kind: "choice", value: "1",
  options: Array.from({ length: count }, (_, i) => String(i + 1)),
});

export const controls = [
  choice("layer", "layer", 3),
  choice("head", "head", 4),
  { name: "place", label: "place that looks", min: 1, max: TEXT.length, step: 1, value: 40 },
];

export function compute({ layer, head, place }) {
  const row = STORED.weights[layer - 1][head - 1][place - 1];
  const sum = row.reduce((a, b) => a + b, 0);
  const back = row.reduce((total, weight, i) => total + weight * (place - 1 - i), 0);
  return {
    row,
    most: row.indexOf(Math.max(...row)) + 1,
    back: back / Math.max(1, sum),
    rise: STORED.rise,
    without: STORED.rise[layer - 1][head - 1],
  };
}

const nameOf = (character) => (character === " " ? "␣" : character);
const COLORS = ["blue", "green", "vermillion"];

export function draw(scene, { layer, head, place }, { row, most, back, rise, without }) {
  const lines = Math.ceil(TEXT.length / WIDE);
  const text = scene.plot({ x: [-0.1, WIDE + 0.1], y: [lines + 0.1, -0.1], bare: true, height: 190 });
  const top = Math.max(...row);
  [...TEXT].forEach((character, i) => {
    const [x, y] = [i % WIDE, Math.floor(i / WIDE)];
    const weight = i < place ? row[i] : 0;
    if (weight > 0) {
      text.rect([x, y], [x + 1, y + 1], { color: "sky", opacity: Math.sqrt(weight / top) });
    }
    if (i === place - 1) {
      text.rect([x, y], [x + 1, y + 1], { color: "black", hollow: true, width: 2.5 });
    }
    const color = i < place ? undefined : "grey";
    text.text([x + 0.5, y + 0.5], nameOf(character), { anchor: "middle", color });
  });
  const names = rise.flatMap((heads, i) => heads.map((_, j) => `${i + 1}.${j + 1}`));
  const all = rise.flat();
  const bars = scene.plot({
    x: [Math.min(0, ...all), 1.15 * Math.max(...all)], height: 300,
    xLabel: "the loss rises by (nats a character)",
    y: [all.length + 0.6, 0.4], yTicks: names.map((name, i) => [i + 1, name]),
  });
  all.forEach((nats, i) => {
    const chosen = i === 4 * (layer - 1) + Number(head) - 1;
    const color = COLORS[Math.floor(i / 4)];
    bars.rect([0, i + 0.66], [nats, i + 1.34], { color, opacity: chosen ? 1 : 0.4 });
    if (chosen) bars.text([nats, i + 1], scene.number(nats, 3), { dx: 6, bold: true });
  });
  scene.say("looks most at place", `${most}, “${nameOf(TEXT[most - 1])}”, with ${top} %`);
  scene.say("places back, on average", scene.number(back, 1));
  scene.say("loss without this head", `+${scene.number(without, 3)}`);
}
