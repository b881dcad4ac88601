// Which characters may be drawn: temperature and four filters on the trained model's own chances.

export const alt =
  "Bars of the twelve likeliest next characters after a prompt; those that a filter cuts are grey";

// Alphabet and logits of the trained model after each prompt, in the order of PROMPTS.
const STORED = {"alphabet":"\n !\"$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}°±²·¼½×äéúγηκλ–‖…⅛→−√∞","logits":[[-4.93,-2.99,-5.38,-5.22,-3.82,-5.44,-4.96,-5.43,-5.19,-5.1,-5.41,-5.1,-4.36,-5.02,-4.56,-5.54,-5.16,-5.07,-4.82,-5.42,-5.25,-5.4,-5.23,-4.84,-5.57,-5.68,-5.5,-5.39,-5.38,-4.86,-5.39,-5.51,-5.22,-5.41,-5.52,-5.37,-5.16,-5.47,-5.21,-5.64,-5.21,-5.17,-5.22,-5.26,-5.46,-5.31,-5.43,-5.42,-5.46,-5.06,-5.54,-5.2,-5.09,-5.72,-5.54,-5.45,-5.33,-5.54,-5.56,-5.34,-4.19,-5.41,-5.31,-5.23,-5.49,-3.65,-4.3,-4.16,-3.83,-3.52,-3.69,-4.31,-3.95,-3.7,-5.12,-4.77,-3.79,-4.06,-3.72,-3.11,-4.21,-5.2,-3.84,-3.59,-3.82,-4.12,-4.54,-4.32,-5.13,-4.53,-5.35,-5.1,-5.33,-4.89,-5.38,-5.55,-5.32,-5.44,-5.27,-5.46,-5.3,-5.41,-5.13,-5.17,-5.42,-5.66,-5.27,-5.26,-5.51,-5.62,-5.49,-5.45,-5.04,-5.28,-5.74,-4.97],[-4.95,-2.98,-5.41,-5.27,-3.82,-5.5,-5.01,-5.51,-5.06,-5.05,-5.42,-5.1,-4.53,-5.0,-4.61,-5.44,-5.2,-5.08,-4.8,-5.4,-5.4,-5.39,-5.2,-4.83,-5.56,-5.67,-5.5,-5.4,-5.25,-4.84,-5.36,-5.5,-5.32,-5.35,-5.42,-5.41,-5.15,-5.37,-5.22,-5.59,-5.23,-5.21,-5.13,-5.36,-5.52,-5.27,-5.3,-5.4,-5.46,-5.15,-5.45,-5.17,-4.96,-5.75,-5.44,-5.51,-5.35,-5.49,-5.55,-5.23,-4.06,-5.45,-5.33,-5.19,-5.49,-3.48,-4.19,-4.03,-3.87,-3.45,-3.82,-4.48,-3.7,-3.6,-5.26,-4.78,-3.96,-4.03,-3.9,-3.37,-4.15,-5.21,-3.91,-3.67,-3.59,-4.26,-4.55,-4.22,-5.04,-4.59,-5.28,-5.15,-5.24,-5.03,-5.37,-5.39,-5.26,-5.36,-5.3,-5.46,-5.38,-5.44,-5.18,-5.28,-5.41,-5.68,-5.23,-5.2,-5.47,-5.56,-5.4,-5.46,-5.09,-5.28,-5.72,-4.95],[-4.97,-3.0,-5.46,-5.27,-3.84,-5.46,-4.98,-5.5,-5.09,-5.08,-5.41,-5.08,-4.49,-5.03,-4.67,-5.45,-5.2,-5.05,-4.84,-5.37,-5.4,-5.42,-5.26,-4.85,-5.56,-5.67,-5.56,-5.42,-5.28,-4.87,-5.39,-5.53,-5.34,-5.32,-5.48,-5.46,-5.15,-5.38,-5.23,-5.61,-5.23,-5.2,-5.13,-5.31,-5.51,-5.27,-5.34,-5.39,-5.48,-5.14,-5.45,-5.18,-5.03,-5.75,-5.46,-5.51,-5.36,-5.46,-5.57,-5.26,-4.06,-5.43,-5.3,-5.15,-5.52,-3.46,-4.15,-3.99,-3.81,-3.5,-3.75,-4.48,-3.76,-3.62,-5.26,-4.76,-3.98,-4.01,-3.83,-3.31,-4.17,-5.15,-3.91,-3.7,-3.59,-4.2,-4.56,-4.26,-5.04,-4.56,-5.27,-5.14,-5.26,-5.02,-5.41,-5.42,-5.29,-5.4,-5.28,-5.48,-5.33,-5.43,-5.19,-5.26,-5.41,-5.67,-5.28,-5.18,-5.49,-5.55,-5.44,-5.48,-5.11,-5.28,-5.74,-4.97]]};
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
