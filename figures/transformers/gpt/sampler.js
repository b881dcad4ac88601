// Which characters may be drawn: temperature and four filters on the trained model's own chances.

export const alt =
  "Bars of the twelve likeliest next characters after a prompt; those that a filter cuts are grey";

// Alphabet and logits of the trained model after each prompt, in the order of PROMPTS.
const STORED = {};
const PROMPTS = ["The gradient of the lo…", "By hand. The …", "is called …"];
const SHOWN = 12;

const amount = (name, label, min, max, step, value) => ({ name, label, min, max, step, value });

export const controls = [
  { name: "prompt", label: "prompt", kind: "choice", options: PROMPTS, value: PROMPTS[0] },
  { name: "tau", label: "temperature τ", min: 0.1, max: 5, scale: "log", value: 1 },
  amount("k", "top-k", 1, 116, 1, 116),
  amount("p", "top-p", 0.05, 1, 0.01, 1),
  amount("m", "min-p", 0, 1, 0.01, 0),
];

export const presets = {
  everything: {},
  "top-k 3": { k: 3 },
  "top-p 0.9": { p: 0.9 },
  "hot, then min-p": { tau: 2, m: 0.1 },
};

function softmax(z) {
  const top = Math.max(...z);
  const shares = z.map((each) => Math.exp(each - top));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

const likeliestFirst = (z) => z.map((_, i) => i).sort((a, b) => z[b] - z[a] || a - b);
const cut = (z, keeps) => z.map((each, i) => (keeps(i) ? each : -Infinity));

function topK(z, k) {
  const least = z[likeliestFirst(z)[Math.min(k, z.length) - 1]];
  return cut(z, (i) => z[i] >= least);
}

function topP(z, share) {
  const p = softmax(z);
  const kept = new Set();
  let before = 0;
  for (const i of likeliestFirst(p)) {
    if (before < share || kept.size === 0) kept.add(i);
    before += p[i];
  }
  return cut(z, (i) => kept.has(i));
}

function minP(z, least) {
  const p = softmax(z);
  const top = Math.max(...p);
  return cut(z, (i) => p[i] >= least * top);
}

export function compute({ prompt, tau, k, p, m }) {
  const logits = STORED.logits[PROMPTS.indexOf(prompt)];
  const order = likeliestFirst(logits).slice(0, SHOWN);
  const before = softmax(logits);
  const after = softmax(minP(topP(topK(logits.map((z) => z / tau), k), p), m));
  return {
    order,
    before: order.map((i) => before[i]),
    after: order.map((i) => after[i]),
    kept: after.filter((share) => share > 0).length,
    cut: before.reduce((sum, share, i) => sum + (after[i] > 0 ? 0 : share), 0),
  };
}

const nameOf = (character) => ({ " ": "␣", "\n": "↵" })[character] ?? character;

export function draw(scene, _, { order, before, after, kept, cut }) {
  const alphabet = [...STORED.alphabet];
  const plot = scene.plot({
    x: [0, 1.12], xTicks: [0, 0.25, 0.5, 0.75, 1], xLabel: "chance", height: 400,
    y: [SHOWN + 0.6, 0.4], yTicks: order.map((i, row) => [row + 1, nameOf(alphabet[i])]),
  });
  order.forEach((_, row) => {
    const color = after[row] > 0 ? "blue" : "light";
    if (after[row] > 0) plot.rect([0, row + 0.66], [after[row], row + 1.34], { color });
    plot.rect([0, row + 0.66], [before[row], row + 1.34],
      { color: "black", hollow: true, dash: "3 3" });
    const text = after[row] > 0 ? scene.number(after[row], 3) : "cut";
    plot.text([Math.max(before[row], after[row]), row + 1], text, { dx: 6, tick: true });
  });
  scene.legend([
    { label: "may be drawn", color: "blue", form: "square" },
    { label: "before filters (dashed)", color: "black", dash: true },
  ]);
  scene.say("characters that may be drawn", String(kept));
  scene.say("chance that was cut away", scene.number(cut, 3));
}
