// Which characters may be drawn: temperature and four filters on the trained model's own chances.

export const alt =
  "Bars of the twelve likeliest next characters after a prompt; those that a filter cuts are grey";

// Alphabet and logits of the trained model after each prompt, in the order of PROMPTS.
const STORED = {"alphabet":"\n !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}°±²³·¹¼½¾×áäéóúüΣβγδεηκλπτᵀ–‖“”…⁰⁴⁵⁸⁹⁻⅓⅛←→↵−√∞≈▷⟨⟩","logits":[[-13.39,-9.54,-13.61,-11.36,-16.6,-10.05,-13.25,-11.96,-11.16,-11.75,-13.73,-14.59,-14.0,-11.44,-12.23,-10.59,-13.46,-9.34,-11.37,-12.03,-12.31,-11.7,-12.51,-11.3,-13.13,-13.7,-12.14,-10.0,-12.83,-12.83,-11.58,-13.13,-12.05,-13.87,-10.65,-10.51,-11.97,-12.41,-13.41,-13.27,-9.25,-11.27,-12.89,-12.55,-10.88,-10.98,-12.89,-11.26,-10.65,-11.7,-11.97,-8.29,-10.9,-12.63,-13.57,-13.75,-11.36,-10.96,-12.99,-13.88,-14.24,-11.85,-14.97,-12.78,-13.16,-10.22,-4.09,-8.49,-6.77,-7.74,-9.46,-8.32,-1.37,-8.49,-7.16,-10.07,-7.8,-5.85,-9.63,-2.83,-3.95,-7.86,-9.71,-5.97,-0.48,-6.61,-8.17,-7.56,-3.93,-9.36,-8.71,-10.28,-12.44,-13.01,-12.3,-16.81,-15.23,-12.62,-13.85,-13.51,-15.67,-13.56,-12.48,-17.31,-11.08,-17.34,-17.02,-15.87,-20.57,-18.51,-16.76,-18.1,-19.16,-19.54,-19.55,-17.7,-22.39,-22.38,-14.9,-22.07,-17.26,-18.08,-15.21,-14.25,-22.15,-21.99,-15.13,-21.08,-18.41,-16.83,-18.24,-15.9,-15.19,-18.29,-16.04,-22.38,-15.87,-17.21,-13.87,-16.57,-15.77,-21.18,-18.66,-15.32,-11.75],[-11.72,-10.15,-10.9,-10.02,-13.97,-5.53,-11.1,-12.27,-11.19,-8.02,-11.98,-11.73,-10.84,-10.91,-10.9,-11.19,-11.45,-7.4,-6.14,-6.84,-7.15,-7.62,-7.64,-7.82,-8.72,-8.22,-9.02,-11.51,-11.95,-12.66,-10.51,-12.13,-11.74,-13.18,-8.34,-7.66,-8.57,-8.13,-8.4,-8.25,-6.1,-6.87,-9.7,-7.03,-7.58,-6.48,-7.38,-8.04,-8.85,-7.63,-10.95,-6.62,-6.23,-8.42,-10.14,-8.24,-9.45,-8.96,-10.09,-10.96,-10.71,-8.84,-13.08,-11.32,-10.88,-6.89,-4.36,-3.38,-2.9,-3.21,-3.58,-2.46,-3.37,-4.75,-4.63,-7.56,-4.79,-2.48,-2.44,-3.41,-3.24,-2.66,-5.09,-2.95,-1.99,-2.39,-5.16,-3.69,-3.66,-8.74,-7.86,-7.8,-10.11,-12.08,-10.63,-15.14,-11.05,-12.5,-13.15,-11.87,-14.16,-11.87,-10.46,-12.37,-11.04,-17.62,-15.74,-12.86,-19.47,-16.2,-15.4,-13.75,-17.42,-17.9,-17.11,-15.65,-20.6,-20.6,-13.45,-20.22,-15.59,-15.93,-12.51,-13.24,-19.19,-19.91,-12.34,-18.47,-17.64,-15.29,-16.27,-15.92,-14.18,-15.88,-13.47,-20.6,-12.59,-14.48,-10.26,-13.82,-13.93,-17.74,-16.07,-11.34,-13.44],[-9.67,-8.18,-12.93,-5.89,-14.34,-3.33,-9.53,-9.51,-10.12,-7.13,-11.39,-11.54,-8.62,-9.57,-8.06,-8.9,-9.86,-6.06,-5.81,-6.41,-6.68,-6.68,-6.61,-7.41,-7.26,-7.29,-7.94,-9.68,-10.35,-10.27,-7.96,-10.34,-10.15,-11.54,-6.51,-7.35,-7.43,-8.09,-6.85,-7.85,-6.85,-8.53,-7.52,-8.61,-8.59,-6.5,-7.93,-6.78,-8.19,-7.87,-10.21,-5.44,-7.74,-7.81,-10.19,-8.67,-8.02,-10.06,-10.53,-9.75,-10.99,-9.15,-12.26,-10.14,-9.22,-6.95,-1.94,-2.78,-3.9,-4.0,-4.38,-2.72,-5.53,-4.86,-2.55,-7.56,-6.34,-4.31,-3.8,-2.78,-2.78,-4.54,-7.0,-3.88,-3.75,-1.72,-2.83,-5.73,-2.97,-8.69,-6.16,-6.23,-9.64,-11.39,-9.08,-14.19,-9.01,-11.77,-13.09,-9.09,-12.83,-10.16,-8.65,-11.4,-9.42,-15.61,-13.15,-11.4,-17.92,-14.63,-12.82,-12.41,-16.26,-16.29,-16.5,-13.6,-19.05,-19.05,-11.84,-18.42,-12.79,-15.31,-10.95,-13.13,-17.54,-18.29,-9.82,-17.25,-15.48,-13.45,-15.45,-14.65,-13.86,-15.1,-10.77,-19.05,-10.74,-13.03,-6.82,-12.5,-11.67,-18.35,-14.84,-10.08,-12.36]]};
const PROMPTS = ["The gradient of the lo…", "By hand. The …", "is called …"];
const SHOWN = 12;

const amount = (name, label, min, max, step, value) => ({ name, label, min, max, step, value });

export const controls = [
  { name: "prompt", label: "prompt", kind: "choice", options: PROMPTS, value: PROMPTS[0] },
  { name: "tau", label: "temperature τ", min: 0.1, max: 5, scale: "log", value: 1 },
  amount("k", "top-k", 1, STORED.alphabet.length, 1, STORED.alphabet.length),
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
