// The entropy of a coin, the cost of a code made for another coin, and the gap between them.

export const alt =
  "An arch, the entropy of a coin against its probability of heads; a line that touches it at q, " +
  "the cost of the code made for q; and a vertical gap between the two at p, KL(p‖q)";

export const controls = [
  { name: "p", label: "p, the coin's heads", min: 0, max: 1, step: 0.01, value: 0.5 },
  { name: "q", label: "q, the code's heads", min: 0.01, max: 0.99, step: 0.01, value: 0.75 },
  { name: "other", label: "KL(q‖p) too: coin q, code p", kind: "toggle", value: false },
];

const GRID = Array.from({ length: 201 }, (_, i) => i / 200);
const TOP = 2.5;

// Bits a toss when heads come with probability p and the code was made for q.
function cost(p, q) {
  const heads = p > 0 ? -p * Math.log2(q) : 0;
  const tails = p < 1 ? -(1 - p) * Math.log2(1 - q) : 0;
  return heads + tails;
}

// Summed as Σ p log(p/q), which is exactly 0 where p = q.
function kl(p, q) {
  const heads = p > 0 ? p * Math.log2(p / q) : 0;
  const tails = p < 1 ? (1 - p) * Math.log2((1 - p) / (1 - q)) : 0;
  return heads + tails;
}

export function compute({ p, q }) {
  const certain = p === 0 || p === 1; // a code for p has then no word for the other side
  return {
    arch: GRID.map((each) => cost(each, each)),
    line: [cost(0, q), cost(1, q)],
    entropy: cost(p, p),
    cost: cost(p, q),
    kl: kl(p, q),
    entropyQ: cost(q, q),
    lineP: certain ? [] : [cost(0, p), cost(1, p)],
    costQ: certain ? "∞" : cost(q, p),
    klQ: certain ? "∞" : kl(q, p),
  };
}

export function draw(scene, { p, q, other }, result) {
  const { entropy, entropyQ, costQ, klQ } = result;
  scene.legend([
    { label: "entropy H(p)", color: "blue" },
    { label: "H(p, q), cost of the code for q", color: "black" },
    { label: "KL(p‖q), wasted", color: "vermillion" },
    ...(other ? [{ label: "KL(q‖p)", color: "purple", dash: true }] : []),
  ]);
  const plot = scene.plot({
    x: [0, 1], y: [0, TOP], xTicks: [0, 0.25, 0.5, 0.75, 1], yTicks: [0, 0.5, 1, 1.5, 2, 2.5],
    xLabel: "p, probability of heads", yLabel: "bits a toss", height: 330,
  });
  plot.line(result.arch.map((bits, i) => [GRID[i], bits]), { color: "blue", width: 2.5 });
  plot.line(result.line.map((bits, end) => [end, bits]), { color: "black", width: 1.5 });
  const beside = (x) => (x > 0.5 ? { dx: -9, anchor: "end" } : { dx: 9 });
  const four = (value) => (value === "∞" ? "∞" : scene.number(value, 4));
  if (other) {
    plot.line(result.lineP.map((bits, end) => [end, bits]), { color: "grey", dash: true });
    plot.dot([p, entropy], { color: "grey" });
    plot.rule({ x: q }, { color: "purple" });
    const top = costQ === "∞" ? TOP : costQ;
    plot.line([[q, entropyQ], [q, top]], { color: "purple", width: 5, dash: "4 3" });
    plot.text([q, TOP], `KL(q‖p) = ${four(klQ)}`, { ...beside(q), dy: 28, color: "purple" });
  }
  plot.rule({ x: p }, { color: "vermillion" });
  plot.line([[p, entropy], [p, result.cost]], { color: "vermillion", width: 4 });
  const gap = `KL(p‖q) = ${four(result.kl)}`;
  plot.text([p, TOP], gap, { ...beside(p), dy: 6, color: "vermillion", bold: true });
  plot.handle("p", { at: [p, 0.16], axis: "x", color: "vermillion" });
  plot.text([p, 0.16], "p", { dx: p > 0.5 ? -16 : 16, anchor: "middle", bold: true });
  plot.handle("q", { at: [q, entropyQ], axis: "x" });
  plot.text([q, entropyQ], "q", { dy: entropyQ < 0.5 ? -20 : 20, anchor: "middle", bold: true });

  const bits = (value) => `${four(value)} bits`;
  scene.say("H(p)", bits(entropy));
  scene.say("H(p, q)", bits(result.cost));
  scene.say("KL(p‖q) = H(p, q) − H(p)", bits(result.kl));
  scene.say("the other way, KL(q‖p)", bits(klQ));
}
