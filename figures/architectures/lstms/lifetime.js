// One LSTM unit reads a 1 and then 60 other inputs: what its cell keeps, and what it shows.

export const alt =
  "The cell state of one unit over sixty steps after a 1 was written: it falls as fast as the " +
  "forget gate lets it; below it, what the output gate shows of it";

export const controls = [
  { name: "bias", label: "bias of the forget gate", min: -2, max: 7, step: 0.1, value: 1 },
  { name: "write", label: "input gate at the first step", min: 0, max: 1, step: 0.05, value: 1 },
  { name: "later", label: "input gate at all others", min: 0, max: 0.3, step: 0.01, value: 0 },
  { name: "show", label: "output gate", min: 0, max: 1, step: 0.05, value: 0.5 },
];

export const presets = {
  "textbook, bias 1": {},
  "bias 4": { bias: 4 },
  "half-life 60": { bias: 4.4 },
  "others get in": { bias: 4.4, later: 0.2 },
};

const SPAN = 60;

export function compute({ bias, write, show, later }) {
  const gate = 1 / (1 + Math.exp(-bias));
  const cells = [];
  const first = [];
  let c = 0;
  for (let t = 0; t <= SPAN; t++) {
    c = gate * c + (t === 0 ? write : later * Math.sin(2.3 * t));
    cells.push(c);
    first.push(write * gate ** t);
  }
  const half = Math.log(0.5) / Math.log(gate);
  return { cells, shown: cells.map((value) => show * Math.tanh(value)), first, gate, half };
}

export function draw(scene, { write, later }, { cells, shown, first, gate, half }) {
  const low = Math.min(-0.1, ...cells) - 0.05;
  const high = Math.max(1.05, ...cells);
  const plot = scene.plot({ x: [0, SPAN], y: [low, high], xLabel: "steps after the 1",
    yLabel: "of the unit", height: 320 });
  plot.rule({ y: 0 });
  if (later > 0) {
    plot.line(first.map((value, t) => [t, value]), { color: "grey", dash: true, width: 1.5 });
  }
  plot.line(shown.map((value, t) => [t, value]), { color: "vermillion", width: 2 });
  plot.line(cells.map((value, t) => [t, value]), { color: "blue", width: 2.5 });
  if (half <= SPAN) plot.dot([half, write / 2], { color: "blue" });
  scene.legend([
    { label: "cell state", color: "blue" },
    { label: "what is shown", color: "vermillion" },
    ...(later > 0 ? [{ label: "what is left of the 1", color: "grey", dash: true }] : []),
  ]);
  scene.say("forget gate", scene.number(gate, 3));
  scene.say("half-life", `${scene.number(half, 1)} steps`);
  scene.say(`of ${scene.number(write, 2)} are left after 60 steps`, scene.number(first[SPAN], 10));
}
