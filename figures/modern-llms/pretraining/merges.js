// Byte-pair encoding, one merge after the other, on words with their counts.

export const alt = "Words cut into tokens, and the counts of the most frequent pairs of neighbours";

const LOW = "low low low low low lower lower newest newest newest newest newest newest widest widest widest";
const SHOWN = 6; // words, and pairs
const WIDE = 18; // letters of a word that are drawn

export const controls = [
  { name: "text", label: "type a text", kind: "text", most: 100, value: LOW },
  { name: "merges", label: "merges", kind: "steps", min: 0, max: 12, step: 1, value: 2 },
];

export const presets = {
  "low, newest": { text: LOW },
  "banana": { text: "banana banana banana bandana bandana cabana cabana" },
  "aaaa": { text: "aaaa aaaa aaaa aaab aaab baaa" },
  "the cat": { text: "the cat that sat on the other mat ate the rat that sat there", merges: 6 },
};

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

const short = (token) => ([...token].length > 8 ? `${[...token].slice(0, 7).join("")}…` : token);

function joined(tokens, [left, right]) {
  const out = [];
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i] === left && tokens[i + 1] === right) out.push(left + tokens[++i]);
    else out.push(tokens[i]);
  }
  return out;
}

export function compute({ text, merges }) {
  const found = new Map(); // keeps the order in which words first stand there, also of numbers
  for (const word of text.split(" ").filter(Boolean)) found.set(word, (found.get(word) ?? 0) + 1);
  const counts = [...found.values()];
  let cut = [...found.keys()].map((word) => [...word]);
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
    counts,
    learned,
    pairs: pairs.slice(0, SHOWN),
    tokens: cut.reduce((sum, tokens, w) => sum + tokens.length * counts[w], 0),
  };
}

export function draw(scene, _, { cut, counts, learned, pairs, tokens }) {
  const lengths = cut.slice(0, SHOWN).map((row) => [...row.join("")].length);
  const wide = Math.min(WIDE, Math.max(6, ...lengths)) + 1;
  const rows = Math.max(4, lengths.length);
  const words = scene.plot({ x: [-1.6, wide + 0.1], y: [rows + 0.1, -0.1], bare: true, height: 30 + 36 * rows });
  cut.slice(0, SHOWN).forEach((row, w) => {
    words.text([-0.2, w + 0.5], `${counts[w]} ×`, { anchor: "end", color: "grey" });
    let x = 0;
    for (const token of row) {
      const length = [...token].length;
      if (x + length > WIDE) {
        words.text([x + 0.2, w + 0.5], "…");
        break;
      }
      const color = length > 1 ? "sky" : "light";
      words.rect([x + 0.04, w + 0.12], [x + length - 0.04, w + 0.88], { color });
      words.text([x + length / 2, w + 0.5], token, { anchor: "middle" });
      x += length;
    }
  });
  const hidden = cut.length - SHOWN;
  const most = Math.max(1, ...pairs.map((pair) => pair[2]));
  const names = Array.from({ length: SHOWN }, (_, i) => (pairs[i] ? `${short(pairs[i][0])} ${short(pairs[i][1])}` : ""));
  const bars = scene.plot({
    x: [0, 1.15 * most], y: [SHOWN + 0.6, 0.4], height: 220, xLabel: "how often the pair stands there",
    yTicks: names.map((name, i) => [i + 1, name]),
  });
  pairs.forEach((pair, i) => {
    bars.rect([0, i + 0.7], [pair[2], i + 1.3], { color: i ? "light" : "vermillion" });
    bars.text([pair[2], i + 1], String(pair[2]), { dx: 6 });
  });
  scene.say("tokens of the text", String(tokens));
  if (hidden > 0) scene.say("other words, not drawn", String(hidden));
  scene.say("learned so far", learned.length ? learned.join(", ") : "nothing");
}
