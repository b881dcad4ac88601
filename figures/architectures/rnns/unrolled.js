// A tanh unit that reads one number and then zeros: its states forward, its gradient back.

export const alt =
  "A row of states of one unit, each made from the one before; step by step the gradient goes back " +
  "from the last state, and leaves at each step a part for the weight that all steps share";

export const controls = [
  { name: "step", label: "step", kind: "steps", min: 0, max: 16, interval: 1100, value: 16 },
  { name: "w", label: "weight w", min: -1.5, max: 1.5, step: 0.05, value: 0.5 },
  { name: "x", label: "first input", min: -2, max: 2, step: 0.1, value: 0.6 },
  { name: "length", label: "steps of the sequence", min: 2, max: 8, step: 1, value: 3 },
];

export const presets = {
  "as on the page": {},
  "eight steps": { length: 8 },
  "weight 1.5": { length: 8, w: 1.5 },
};

const statesOf = (w, x, length) => {
  const states = [];
  for (let t = 0; t < length; t++) {
    states.push(Math.tanh(w * (t ? states[t - 1] : 0) + (t ? 0 : x)));
  }
  return states;
};

export function compute({ w, x, length }) {
  const states = statesOf(w, x, length);
  const slopes = states.map((h) => 1 - h * h);
  const adjoints = new Array(length).fill(0);
  for (let t = length - 1; t >= 0; t--) {
    adjoints[t] = (t === length - 1 ? 1 : w * adjoints[t + 1]) * slopes[t];
  }
  const parts = adjoints.map((g, t) => g * (t ? states[t - 1] : 0));
  const last = (weight) => statesOf(weight, x, length)[length - 1];
  return {
    states,
    slopes,
    adjoints,
    parts,
    sum: parts.reduce((a, b) => a + b),
    change: (last(w + 1e-5) - last(w - 1e-5)) / 2e-5,
  };
}

export function draw(scene, { step, w, x, length }, result) {
  const { states, slopes, adjoints, parts, sum, change } = result;
  const at = Math.min(step, 2 * length);
  const back = at > length;
  const now = back ? 2 * length - at : at - 1; // the step of the sequence that is computed
  const shown = (t) => t < at;
  const arrived = (t) => back && t >= now;
  const number = (value) => scene.number(value, 3);
  const title = at === 0 ? "nothing is read yet"
    : `${back ? "backward" : "forward"}, at step ${now + 1} of the sequence`;

  // One row a step: it fits any width, for any length.
  const plot = scene.plot({ x: [0, 10], y: [length + 0.7, -0.9], bare: true,
    height: 60 + 42 * length });
  const wide = scene.width >= 560;
  const places = wide ? [0.4, 1.3, 4.2, 7.2] : [0.2, 1.0, 4.4, 7.0];
  const [names, inputs, gradients, shares] = places;
  plot.text([names, -0.55], title, { bold: true, color: back ? "vermillion" : "blue" });
  plot.text([gradients, 0.05], "gradient", { color: "vermillion" });
  plot.text([shares, 0.05], wide ? "part for w" : "for w", { color: "vermillion" });
  for (let t = 0; t < length; t++) {
    const y = t + 0.95;
    const current = at > 0 && t === now;
    if (current) plot.rect([0, y - 0.42], [10, y + 0.42], { color: back ? "vermillion" : "blue",
      opacity: 0.12 });
    plot.text([names, y], `h${"₁₂₃₄₅₆₇₈"[t]}`, { bold: true });
    plot.text([inputs, y], shown(t) ? `= ${number(states[t])}` : "…", { color: "blue" });
    if (arrived(t)) {
      plot.text([gradients, y], number(adjoints[t]), { color: "vermillion" });
      const before = t ? number(states[t - 1]) : "0";
      const product = wide ? `${number(adjoints[t])} · ${before} = ` : "";
      plot.text([shares, y], `${product}${number(parts[t])}`);
    }
    if (t && shown(t)) plot.arrow([inputs - 0.35, y - 0.72], [inputs - 0.35, y - 0.2],
      { color: "blue", width: 1.5 });
    if (t && arrived(t - 1)) plot.arrow([gradients - 0.35, y - 0.2], [gradients - 0.35, y - 0.72],
      { color: "vermillion", width: 1.5 });
  }
  if (at === 2 * length) {
    plot.text([shares, length + 0.55], `sum ${number(sum)}`, { bold: true, color: "vermillion" });
  }
  if (at && !back) {
    const before = now ? number(states[now - 1]) : "0";
    const input = now ? "0" : number(x);
    scene.say(`h${"₁₂₃₄₅₆₇₈"[now]} =`, `tanh(${number(w)} · ${before} + ${input}) = ${number(states[now])}`);
  } else if (back) {
    const from = now === length - 1 ? "1" : `${number(w)} · ${number(adjoints[now + 1])}`;
    scene.say("gradient =", `${from} · slope ${number(slopes[now])} = ${number(adjoints[now])}`);
  }
  if (at === 2 * length) {
    scene.say("sum of the parts", number(sum));
    scene.say("measured by moving w", number(change));
  }
}
