// Which characters may be drawn: temperature and four filters on the trained model's own chances.

export const alt =
  "Bars of the twelve likeliest next characters after a prompt; those that a filter cuts are grey";

// Alphabet and logits of the trained model after each prompt, in the order of PROMPTS.
const STORED = {"alphabet":"\n !\"$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}°±²·¼½×äéúγηκλ–‖…⅛→−√∞","logits":[[-13.58,-9.02,-16.72,-13.55,-10.32,-16.01,-16.12,-12.07,-12.68,-12.32,-13.82,-12.96,-11.05,-10.64,-12.38,-12.6,-12.73,-10.54,-12.47,-11.85,-11.89,-13.19,-12.6,-13.58,-14.26,-14.01,-11.66,-12.99,-12.51,-12.6,-13.25,-11.64,-17.84,-16.07,-13.83,-14.5,-14.33,-14.56,-12.05,-12.38,-11.74,-13.44,-13.94,-12.37,-9.78,-13.68,-13.05,-12.13,-14.57,-16.77,-9.75,-10.04,-13.23,-15.41,-13.14,-12.52,-12.4,-14.27,-17.5,-14.11,-12.24,-15.81,-12.52,-13.94,-12.33,-8.13,-7.75,-6.66,-6.18,-7.95,-6.77,-1.37,-9.94,-7.47,-11.04,-7.5,-6.95,-8.45,-3.14,-4.92,-6.08,-10.01,-7.65,-0.42,-6.58,-8.12,-7.22,-3.69,-8.67,-9.13,-10.11,-13.54,-13.54,-12.18,-17.48,-17.6,-17.63,-16.11,-16.85,-14.18,-14.28,-20.84,-14.66,-18.09,-16.95,-25.02,-25.01,-15.49,-14.53,-16.91,-17.54,-17.71,-16.29,-13.64,-15.85,-16.6],[-11.16,-7.64,-12.36,-9.61,-4.72,-10.44,-10.73,-11.67,-7.54,-11.46,-11.62,-9.55,-9.64,-10.02,-10.59,-12.14,-6.3,-5.47,-6.12,-6.23,-7.0,-6.68,-7.59,-8.29,-8.18,-8.84,-10.67,-10.09,-10.52,-8.98,-10.66,-11.97,-13.19,-7.58,-8.07,-8.84,-9.54,-9.28,-7.39,-5.97,-5.55,-8.53,-6.12,-8.13,-6.93,-7.98,-8.86,-9.29,-8.18,-9.1,-6.59,-7.19,-8.89,-10.09,-7.24,-8.27,-7.31,-9.9,-10.33,-9.92,-8.3,-14.09,-11.92,-11.66,-7.01,-4.15,-3.41,-3.39,-3.06,-3.05,-2.07,-3.44,-4.72,-4.48,-7.36,-3.87,-2.39,-3.27,-3.39,-2.96,-2.81,-4.39,-3.45,-1.95,-3.34,-5.12,-4.27,-2.81,-7.63,-7.52,-6.51,-9.79,-10.13,-9.97,-14.34,-13.89,-12.65,-12.57,-11.92,-10.29,-10.98,-14.13,-13.57,-14.87,-12.17,-22.03,-22.03,-11.25,-13.6,-13.91,-12.52,-11.61,-10.98,-9.13,-10.63,-12.98],[-10.35,-7.53,-14.08,-6.81,-4.97,-9.21,-11.93,-11.95,-4.65,-11.22,-11.69,-10.42,-9.32,-9.63,-8.91,-12.44,-7.65,-6.82,-7.34,-7.98,-8.01,-8.25,-8.89,-8.97,-9.56,-9.89,-10.02,-10.29,-12.43,-9.58,-12.37,-10.05,-11.5,-8.32,-9.12,-9.79,-9.66,-10.85,-8.83,-7.98,-9.35,-9.71,-10.3,-10.11,-9.54,-8.68,-7.79,-10.57,-8.85,-12.3,-7.44,-9.04,-9.53,-10.89,-9.49,-9.64,-9.04,-10.87,-11.52,-11.54,-9.13,-11.21,-11.68,-11.98,-7.04,-2.36,-1.97,-3.77,-3.25,-4.73,-2.02,-4.31,-4.25,-3.09,-8.15,-6.02,-4.05,-3.35,-3.25,-2.34,-3.19,-6.62,-3.72,-3.01,-2.63,-4.71,-5.08,-2.69,-9.34,-6.35,-9.14,-10.84,-11.94,-11.43,-14.29,-14.76,-13.27,-13.38,-12.6,-9.16,-10.26,-14.39,-15.52,-16.08,-12.0,-24.36,-24.36,-9.55,-13.63,-14.12,-11.76,-11.76,-9.1,-9.5,-11.91,-14.34]]};
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
