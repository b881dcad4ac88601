// Byte-pair encoding, one merge after the other, on words with their counts.

export const alt = "Words cut into tokens, and the counts of the most frequent pairs of neighbours";

const TEXTS = {
  "low, lower, newest, widest": { low: 5, lower: 2, newest: 6, widest: 3 },
  "banana, bandana, cabana": { banana: 4, bandana: 2, cabana: 3 },
  "aaaa, aaab, baaa": { aaaa: 3, aaab: 2, baaa: 1 },
};
const NAMES = Object.keys(TEXTS);
const SHOWN = 6;

export const controls = [
  { name: "text", label: "words", kind: "choice", options: NAMES, value: NAMES[0] },
  { name: "merges", label: "merges", min: 0, max: 8, step: 1, value: 2 },
];

const less = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

function counted(cut, counts) {
  const pairs = new Map();
  cut.forEach((tokens, w) => {
    for (let i = 0; i + 1 < tokens.length; i++) {
      const key = `${tokens[i]} ${tokens[i + 1]}`;
      pairs.set(key, (pairs.get(key) ?? 0) + counts[w]);
    }
  });
  return [...pairs].map(([pair, count]) => [...pair.split(" "), count])
    .sort((p, q) => q[2] - p[2] || less(p[0], q[0]) || less(p[1], q[1]));
}

function joined(tokens, [left, right]) {
  const out = [];
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] === left && tokens[i + 1] === right) out.push(left + tokens[++i]);
    else out.push(tokens[i]);
  }
  return out;
}

export function compute({ text, merges }) {
  const counts = Object.values(TEXTS[text]);
  let cut = Object.keys(TEXTS[text]).map((word) => [...word]);
  let pairs = counted(cut, counts);
  const learned = [];
  while (learned.length < merges && pairs.length) {
    const best = pairs[0];
    learned.push(best[0] + best[1]);
    cut = cut.map((tokens) => joined(tokens, best));
    pairs = counted(cut, counts);
  }
  return {
    cut,
    learned,
    pairs: pairs.slice(0, SHOWN),
    tokens: cut.reduce((sum, tokens, w) => sum + tokens.length * counts[w], 0),
  };
}

export function draw(scene, { text }, { cut, learned, pairs, tokens }) {
  const counts = Object.values(TEXTS[text]);
  const wide = Math.max(...Object.keys(TEXTS[text]).map((word) => word.length));
  const words = scene.plot({ x: [-1.2, wide + 0.1], y: [cut.length + 0.1, -0.1], bare: true, height: 170 });
  cut.forEach((row, w) => {
    words.text([-0.2, w + 0.5], `${counts[w]} ×`, { anchor: "end", color: "grey" });
    let x = 0;
    for (const token of row) {
      const color = token.length > 1 ? "sky" : "light";
      words.rect([x + 0.04, w + 0.12], [x + token.length - 0.04, w + 0.88], { color });
      words.text([x + token.length / 2, w + 0.5], token, { anchor: "middle" });
      x += token.length;
    }
  });
  const most = Math.max(1, ...pairs.map((pair) => pair[2]));
  const names = Array.from({ length: SHOWN }, (_, i) => (pairs[i] ? `${pairs[i][0]} ${pairs[i][1]}` : ""));
  const bars = scene.plot({
    x: [0, 1.15 * most], y: [SHOWN + 0.6, 0.4], height: 220, xLabel: "how often the pair stands there",
    yTicks: names.map((name, i) => [i + 1, name]),
  });
  pairs.forEach((pair, i) => {
    bars.rect([0, i + 0.7], [pair[2], i + 1.3], { color: i ? "light" : "vermillion" });
    bars.text([pair[2], i + 1], String(pair[2]), { dx: 6 });
  });
  scene.say("tokens of the text", String(tokens));
  scene.say("learned so far", learned.length ? learned.join(", ") : "nothing");
}
