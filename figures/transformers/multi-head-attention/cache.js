// What one token takes in the cache of keys and values, in four layouts of heads.

export const alt =
  "Four bars: the bytes that one token takes in the cache with one key and value for each head, " +
  "for each group, one for all, and with one latent vector";

const LAYOUTS = ["MHA", "GQA", "MQA", "MLA"];
const MEMORY = 80e9;

export const controls = [
  { name: "layout", label: "point out", options: LAYOUTS, value: "GQA" },
  { name: "layers", label: "layers", min: 1, max: 160, step: 1, value: 80 },
  { name: "heads", label: "query heads", min: 1, max: 128, step: 1, value: 64 },
  { name: "groups", label: "groups in GQA, at most", min: 1, max: 64, step: 1, value: 8 },
  { name: "size", label: "size of a head", min: 16, max: 256, step: 16, value: 128 },
  { name: "rank", label: "size of the latent", min: 64, max: 1024, step: 64, value: 512 },
  { name: "rope", label: "shared rotated key", min: 0, max: 128, step: 32, value: 64 },
  { name: "bytes", label: "bytes a number", options: ["1", "2", "4"], value: "2" },
  { name: "tokens", label: "tokens of text", min: 1000, max: 1e6, scale: "log", value: 1e5 },
];

export const presets = {
  "Llama 2 7B": { layout: "MHA", layers: 32, heads: 32 },
  "Llama 3 70B": {},
  "Llama 3.1 405B": { layers: 126, heads: 128 },
  "DeepSeek-V3": { layout: "MLA", layers: 61, heads: 128 },
  "Falcon 7B": { layout: "MQA", layers: 32, heads: 71, size: 64 },
};

export function compute({ layers, heads, groups, size, rank, rope, bytes, tokens }) {
  let shared = Math.min(groups, heads);
  while (heads % shared) shared -= 1;
  const numbers = [heads, shared, 1].map((kept) => 2 * kept * size).concat(rank + rope);
  const cost = numbers.map((count) => layers * count * Number(bytes));
  return {
    groups: shared,
    bytes: cost,
    text: cost.map((each) => (each * tokens) / 1e9),
    fit: cost.map((each) => Math.floor(MEMORY / each)),
    share: cost.map((each) => each / cost[0]),
  };
}

function readable(bytes, scene) {
  if (bytes >= 1e6) return `${scene.number(bytes / 1e6, 2)} MB`;
  return bytes >= 1e3 ? `${scene.number(bytes / 1e3, 1)} kB` : `${bytes} bytes`;
}

export function draw(scene, { layout, heads, tokens }, result) {
  const { groups, bytes, text, fit, share } = result;
  const kept = [
    `${heads} keys and values`,
    `${groups} keys and values`,
    "1 key and value",
    "1 latent, 1 key",
  ];
  const plot = scene.plot({
    x: [0.01, 1e5], xScale: "log", y: [4, 0], height: 330,
    yTicks: LAYOUTS.map((name, i) => [i + 0.62, name]),
    xTicks: [[0.1, "100 B"], [1, "1 kB"], [100, "100 kB"], [1e4, "10 MB"]],
    xLabel: "bytes that one token takes in all layers",
  });
  LAYOUTS.forEach((name, i) => {
    const color = name === layout ? "vermillion" : "blue";
    const words = `${kept[i]}: ${readable(bytes[i], scene)}`;
    plot.text([0.01, i + 0.26], words, { dx: 6, bold: name === layout });
    plot.rect([0.01, i + 0.45], [bytes[i] / 1e3, i + 0.8], { color });
  });
  const chosen = LAYOUTS.indexOf(layout);
  const count = tokens.toLocaleString("en");
  scene.say(`${layout}, one token`, `${bytes[chosen].toLocaleString("en")} bytes`);
  scene.say("of MHA", `${scene.number(100 * share[chosen], 2)} %`);
  scene.say(`a text of ${count} tokens`, `${scene.number(text[chosen], 2)} GB`);
  scene.say("tokens that fit into 80 GB", fit[chosen].toLocaleString("en"));
}
