// Masks over twelve places, two sentences and two of padding: switched on and off, and combined.

export const alt =
  "A table of 12 by 12 cells: rows are queries, columns are keys, and a filled cell may be " +
  "looked at; one query's row is outlined";

const N = 12;
const REAL = 10; // then padding
const TEXTS = [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2];
const WORDS = [..."the dog bites the man the man bites the dog".split(" "), "–", "–"];

const range = (name, label, min, max, value) => ({ name, label, min, max, step: 1, value });
const toggle = (name, label, value) => ({ name, label, kind: "toggle", value });

export const controls = [
  toggle("causal", "causal", true),
  range("prefix", "prefix that all may see", 0, N, 0),
  toggle("padding", "hide padding", false),
  toggle("documents", "own document only", false),
  toggle("windowed", "sliding window", false),
  range("window", "its size", 1, N, 3),
  range("sinks", "sinks kept beside it", 0, 4, 0),
  range("query", "query to follow", 0, N - 1, 7),
];

export const presets = {
  causal: {},
  bidirectional: { causal: false },
  "packed batch": { padding: true, documents: true },
  "window with sinks": { windowed: true, sinks: 1 },
};

export function compute(state) {
  const { causal, prefix, padding, documents, windowed, window, sinks, query } = state;
  const allows = (i, j) =>
    (!causal || j <= i || j < prefix) &&
    (!windowed || Math.abs(i - j) < window || j < sinks) &&
    (!padding || j < REAL) &&
    (!documents || TEXTS[i] === TEXTS[j]);
  const places = Array.from({ length: N }, (_, i) => i);
  const mask = places.map((i) => places.map((j) => Number(allows(i, j))));
  const count = (cells) => cells.reduce((sum, cell) => sum + cell, 0);
  return {
    mask,
    pairs: count(mask.map(count)),
    seen: places.filter((j) => mask[query][j]),
    future: count(mask.map((row, i) => count(row.slice(i + 1)))),
    blind: mask.filter((row) => count(row) === 0).length,
  };
}

export function draw(scene, { query }, { mask, pairs, seen, future, blind }) {
  const wide = scene.width >= 520;
  const plot = scene.plot({
    x: [-3.1, N + 0.2], y: [N + 0.2, -2.6], bare: true, equal: false, height: wide ? 470 : 330,
  });
  plot.text([N / 2, -2.1], "keys", { anchor: "middle", bold: true });
  plot.text([-3, -2.1], "queries", { bold: true });
  for (let j = 0; j < N; j++) {
    const word = wide ? WORDS[j] : String(j);
    const low = wide && j % 2; // neighbours at two heights, so that words have room
    plot.text([j + 0.5, low ? -0.4 : wide ? -1.1 : -0.5], word, { anchor: "middle", tick: true });
    plot.text([-0.2, j + 0.5], wide ? WORDS[j] : `${j} ${WORDS[j]}`, { anchor: "end", tick: true });
  }
  mask.forEach((row, i) =>
    row.forEach((cell, j) => {
      const corner = [[j + 0.06, i + 0.06], [j + 0.94, i + 0.94]];
      const color = !cell ? "light" : j > i ? "vermillion" : "blue";
      plot.rect(...corner, { color, hollow: !cell, width: 1 });
    }),
  );
  plot.rect([0, query], [N, query + 1], { color: "black", hollow: true, width: 2.5 });
  scene.legend([
    { label: "may look", color: "blue", form: "square" },
    { label: "may look, and it is the future", color: "vermillion", form: "square" },
  ]);
  const names = seen.map((j) => `${WORDS[j]} (${j})`).join(", ");
  scene.say(`query ${query}, ${WORDS[query]}, sees`, names || "nothing");
  scene.say("pairs", `${pairs} of ${N * N}`);
  scene.say("pairs that show the future", future ? `${future}: it leaks` : "none");
  if (blind) scene.say("queries that see nothing", String(blind));
}
