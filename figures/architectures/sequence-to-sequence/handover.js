// Four letters are read, one vector is handed over, four letters and END are written.

export const alt =
  "Four boxes that read k, b, m, a one after the other, an arrow to five boxes that write; the " +
  "box of the present step is filled";

export const controls = [
  { name: "step", label: "step", kind: "steps", min: 0, max: 9, value: 9, interval: 900 },
  { name: "task", label: "the output is", options: ["reversed", "copied"], value: "reversed" },
];

const LETTERS = ["k", "b", "m", "a"];
const WRITER = 4.7; // where the first box of the writer stands

// The place in the source, from 0, of what is written at place t.
const origin = (t, task) => (task === "reversed" ? LETTERS.length - 1 - t : t);

export function compute({ step, task }) {
  const n = LETTERS.length;
  // What is read at step i + 1 is written at step n + t + 1.
  const waits = LETTERS.map((_, t) => n + t - origin(t, task));
  return {
    read: Math.min(step, n),
    written: Math.max(0, step - n),
    waits,
    shortest: Math.min(...waits),
    mean: waits.reduce((sum, wait) => sum + wait, 0) / n,
  };
}

export function draw(scene, { step, task }, { read, written, waits, shortest, mean }) {
  const n = LETTERS.length;
  const plot = scene.plot({ x: [-0.5, WRITER + n + 0.5], y: [-1.5, 1.5], bare: true, height: 220 });
  const output = [...LETTERS.map((_, t) => LETTERS[origin(t, task)]), "END"];
  const size = { width: 24, height: 34 };
  const word = (at, text, on) =>
    plot.text(at, text, { anchor: "middle", dy: 5, color: on ? "black" : "grey", bold: on });
  LETTERS.forEach((letter, i) => {
    word([i, -1.25], letter, step === i + 1);
    plot.arrow([i, -1], [i, -0.2], { gap: [4, 12], color: i < read ? "black" : "grey" });
    if (i) plot.arrow([i - 1, 0], [i, 0], { gap: 14, color: i < read ? "blue" : "grey" });
    plot.box([i, 0], "", { color: i < read ? "blue" : "grey", on: step === i + 1, ...size });
  });
  plot.arrow([n - 1, 0], [WRITER, 0], {
    gap: 14, width: 3.5, color: step >= n ? "black" : "grey",
  });
  output.forEach((letter, t) => {
    const x = WRITER + t;
    const done = t < written;
    const color = done ? "vermillion" : "grey";
    if (t) plot.arrow([x - 1, 0], [x, 0], { gap: 14, color });
    if (t <= written) word([x, -1.25], t ? output[t - 1] : "▷", step === n + t + 1);
    plot.arrow([x, -1], [x, -0.2], { gap: [4, 12], color: done ? "black" : "grey" });
    plot.box([x, 0], "", { color, on: step === n + t + 1, ...size });
    plot.arrow([x, 0.2], [x, 1], { gap: [12, 4], color: done ? "black" : "grey" });
    if (done) word([x, 1.25], letter, step === n + t + 1);
  });
  scene.legend([
    { label: "encoder", color: "blue" },
    { label: "decoder", color: "vermillion" },
  ]);
  const place = Math.min(written, n) - 1;
  if (place >= 0) {
    scene.say(`steps since ${output[place]} was read`, String(waits[place]));
  }
  scene.say("shortest wait", String(shortest));
  scene.say("mean wait", scene.number(mean, 1));
}
