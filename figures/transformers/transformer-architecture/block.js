// The whole architecture: shapes on the wires, parameters in the boxes, and each box leads to the
// section that teaches it.

export const alt =
  "A tower of boxes along a thick line: the table of words, the places, blocks of a normalization, " +
  "attention, a second normalization and a feed-forward layer, a last normalization, the scores";

export const controls = [
  { name: "kind", label: "built like", options: ["GPT-2", "Llama"], value: "GPT-2" },
  { name: "width", label: "width d", min: 64, max: 8192, step: 64, value: 768 },
  { name: "blocks", label: "blocks L", min: 1, max: 128, step: 1, value: 12 },
  { name: "heads", label: "heads", min: 1, max: 128, step: 1, value: 12 },
  { name: "groups", label: "heads of keys, at most", min: 1, max: 128, step: 1, value: 12 },
  { name: "size", label: "size of a head", options: ["64", "128", "256"], value: "64" },
  { name: "inside", label: "inside the feed-forward layer", min: 64, max: 32768, step: 64, value: 3072 },
  { name: "words", label: "words V", min: 1, max: 262144, step: 1, value: 50257 },
  { name: "tokens", label: "tokens of text T", min: 1, max: 8192, step: 1, value: 1024 },
];

export const presets = {
  "GPT-2": {},
  "GPT-2 XL": { width: 1600, blocks: 48, heads: 25, groups: 25, inside: 6400 },
  "Llama 2 7B": {
    kind: "Llama", width: 4096, blocks: 32, heads: 32, groups: 32, size: "128", inside: 11008,
    words: 32000, tokens: 4096,
  },
  "Llama 3 8B": {
    kind: "Llama", width: 4096, blocks: 32, heads: 32, groups: 8, size: "128", inside: 14336,
    words: 128256, tokens: 8192,
  },
};

const PAGE = "transformers/transformer-architecture.md";

export function compute({ kind, width, blocks, heads, groups, size, inside, words, tokens }) {
  const old = kind === "GPT-2";
  let shared = Math.min(groups, heads);
  while (heads % shared) shared -= 1;
  const [queries, keys] = [heads * Number(size), shared * Number(size)];
  const biases = old ? 1 : 0;
  const attention = 2 * width * (queries + keys) + biases * (queries + 2 * keys + width);
  const matrices = old ? 2 : 3;
  const feedForward = matrices * width * inside + biases * (inside + width);
  const norm = (old ? 2 : 1) * width;
  const [table, places] = [words * width, old ? tokens * width : 0];
  const scores = old ? 0 : words * width;
  const block = attention + feedForward + 2 * norm;
  const products = blocks * (2 * width * (queries + keys) + matrices * width * inside);
  return {
    shared, queries, table, places, norm, attention, feedForward, block, scores,
    total: table + places + blocks * block + norm + scores,
    operations: 2 * (products + words * width) + 4 * blocks * tokens * queries,
    links: {
      table: `${PAGE}#into-the-stream-and-out-of-it`,
      places: old
        ? "transformers/self-attention.md#a-table-to-be-learned"
        : "transformers/self-attention.md#rotary-positions-rope",
      norm: `${PAGE}#before-or-after`,
      last: old
        ? "neural-networks/regularization.md#layer-normalization-for-transformers"
        : "neural-networks/regularization.md#is-the-mean-worth-subtracting",
      attention: "transformers/multi-head-attention.md#multiple-attention-heads-in-parallel",
      mask: "transformers/self-attention.md#masking-for-autoregressive-models",
      feedForward: old ? `${PAGE}#the-feed-forward-layer` : `${PAGE}#gates`,
      sum: `${PAGE}#the-row-that-everything-adds-to`,
      scores: `${PAGE}#into-the-stream-and-out-of-it`,
      guess: "math-foundations/probability.md#softmax-as-probability-distribution",
    },
  };
}

const count = (value) => value.toLocaleString("en");

export function draw(scene, state, result) {
  const { kind, width, blocks, heads, size, inside, words, tokens } = state;
  const { links, shared } = result;
  const old = kind === "GPT-2";
  const room = Math.min(scene.width - 8, 640);
  const plot = scene.plot({ x: [0, scene.width - 8], y: [0, 690], bare: true, height: 698 });
  const bus = Math.max(92, room * 0.26);
  const side = bus + (room - bus) * 0.52;
  const wide = { width: Math.min(230, (room - bus) * 0.86), height: 46 };
  const low = { ...wide, height: 30 };
  const rows = `(${count(tokens)}, ${count(width)})`;

  plot.rect([2, 156], [room, 538], { color: "light", hollow: true, width: 1.5 });
  plot.text([room - 8, 522], `× ${blocks}`, { anchor: "end", bold: true });
  plot.line([[bus, 28], [bus, 640]], { color: "blue", width: 6 });
  plot.arrow([bus, 600], [bus, 652], { color: "blue", width: 6, head: 14 });

  const onBus = { width: 2 * bus - 12, height: 46 };
  plot.box([bus, 52], ["table of words", count(result.table)], { ...onBus, color: "green", link: links.table });
  plot.text([bus, 12], `${count(tokens)} word numbers`, { anchor: "middle" });
  const branch = (from, to) => {
    plot.arrow([side, from], [side, to], { color: "grey" });
    plot.text([side, (from + to) / 2], rows, { dx: 9, color: "blue" });
  };
  const sum = (y) => {
    plot.box([bus, y], "+", { width: 26, height: 26, color: "blue", link: links.sum });
  };
  const shape = (y) => plot.text([bus, y], rows, { anchor: "end", dx: -8, color: "blue" });

  plot.arrow([side, 122], [bus + 13, 122], { color: "grey" });
  const where = old ? ["table of places", count(result.places)] : ["places: by rotation", "in every layer, 0"];
  plot.box([side, 122], where, { ...wide, color: "green", link: links.places });
  sum(122);
  shape(144);

  plot.arrow([bus, 186], [side - wide.width / 2, 186], { color: "grey" });
  plot.box([side, 186], `norm ${count(result.norm)}`, { ...low, link: links.norm });
  branch(201, 227);
  const grouped = shared < heads ? `, ${shared} of keys` : "";
  plot.box([side, 250], [`attention ${count(result.attention)}`, `${heads} heads of ${size}${grouped}`], {
    ...wide, color: "vermillion", link: links.attention,
  });
  plot.box([side, 292], `scores (${heads}, ${count(tokens)}, ${count(tokens)})`, {
    ...low, color: "vermillion", link: links.mask,
  });
  plot.line([[side, 307], [side, 330]], { color: "grey" });
  plot.text([side, 320], rows, { dx: 9, color: "blue" });
  plot.arrow([side, 330], [bus + 13, 330], { color: "grey" });
  sum(330);
  shape(250);

  plot.arrow([bus, 378], [side - wide.width / 2, 378], { color: "grey" });
  plot.box([side, 378], `norm ${count(result.norm)}`, { ...low, link: links.norm });
  branch(393, 419);
  plot.box([side, 442], [`feed-forward ${count(result.feedForward)}`, `inside (${count(tokens)}, ${count(inside)})`], {
    ...wide, color: "orange", link: links.feedForward,
  });
  plot.line([[side, 465], [side, 496]], { color: "grey" });
  plot.text([side, 482], rows, { dx: 9, color: "blue" });
  plot.arrow([side, 496], [bus + 13, 496], { color: "grey" });
  sum(496);
  shape(442);

  plot.box([bus, 566], `norm ${count(result.norm)}`, { ...onBus, height: 30, link: links.last });
  const again = old ? "the table again, 0" : count(result.scores);
  plot.box([bus, 616], ["scores", again], { ...onBus, color: "green", link: links.scores });
  plot.box([bus, 672], `(${count(tokens)}, ${count(words)})`, { ...onBus, height: 28, color: "blue", link: links.guess });

  scene.say("parameters", count(result.total));
  scene.say("in a block", count(result.block));
  scene.say("operations for a token", `${scene.number(result.operations / 1e9, 3)} billion`);
}
