// Twelve scores in blocks: the running maximum, the running sum, and the output so far.

export const alt =
  "Bars of twelve scores with the running maximum; below, their exponentials relative to it; the " +
  "running sum and the output so far";

export const controls = [
  { name: "step", label: "blocks read", kind: "steps", min: 1, max: 12, value: 2, interval: 1200 },
  { name: "block", label: "keys in a block", min: 1, max: 12, step: 1, value: 4 },
];

export const presets = {
  "one key at a time": { block: 1, step: 5 },
  "all at once": { block: 12, step: 1 },
};

const SCORES = [0.4, 1.2, -0.3, 0.9, 2.6, 0.1, 1.7, -1, 3.1, 0.5, 2.2, 1];
const VALUES = [10, 40, 20, 60, 30, 80, 50, 20, 70, 40, 10, 90];

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

// Of one block: its maximum, the sum of its exponentials, and the values weighted by them.
function state(scores, values) {
  const maximum = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - maximum));
  return { maximum, total: sum(shares), accumulator: sum(shares.map((s, i) => s * values[i])) };
}

function merge(a, b) {
  const maximum = Math.max(a.maximum, b.maximum);
  const [left, right] = [Math.exp(a.maximum - maximum), Math.exp(b.maximum - maximum)];
  return {
    maximum,
    total: left * a.total + right * b.total,
    accumulator: left * a.accumulator + right * b.accumulator,
  };
}

export function compute({ step, block }) {
  const blocks = Math.ceil(SCORES.length / block);
  const read = Math.min(step, blocks);
  const of = (i) => {
    const part = [i * block, (i + 1) * block];
    return state(SCORES.slice(...part), VALUES.slice(...part));
  };
  let carried = of(0);
  for (let i = 1; i < read; i++) carried = merge(carried, of(i));
  const seen = Math.min(read * block, SCORES.length);
  const { maximum, total, accumulator } = carried;
  const whole = state(SCORES, VALUES);
  return {
    blocks,
    seen,
    maximum,
    total,
    accumulator,
    output: accumulator / total,
    bars: SCORES.slice(0, seen).map((score) => Math.exp(score - maximum)),
    exact: whole.accumulator / whole.total,
  };
}

export function draw(scene, { block }, result) {
  const { blocks, seen, maximum, total, output, bars, exact } = result;
  const ticks = { xTicks: [1, 4, 8, 12], x: [0.3, 12.7] };
  const above = scene.plot({ ...ticks, y: [-1.3, 3.5], yLabel: "score z", height: 200 });
  const below = scene.plot({ ...ticks, y: [0, 1.1], yTicks: [0, 0.5, 1], xLabel: "key",
    yLabel: "exp(z − m)", height: 190 });
  const first = (Math.ceil(seen / block) - 1) * block; // of the block that came last
  const color = (i) => (i >= seen ? "light" : i >= first ? "orange" : "blue");
  SCORES.forEach((score, i) => above.rect([i + 0.6, 0], [i + 1.4, score], { color: color(i) }));
  bars.forEach((bar, i) => below.rect([i + 0.6, 0], [i + 1.4, bar], { color: color(i) }));
  above.rule({ y: 0 }, { dash: undefined });
  above.rule({ y: maximum }, { color: "black", width: 1.5, dash: "6 4" });
  above.text([12.6, maximum], `m = ${scene.number(maximum, 1)}`, { anchor: "end", dy: -9 });
  const read = Math.ceil(seen / block);
  scene.say("blocks read", `${read} of ${blocks}`);
  scene.say("running maximum m", scene.number(maximum, 1));
  scene.say("running sum ℓ", scene.number(total, 2));
  scene.say("output so far", scene.number(output, 1));
  scene.say("softmax over all twelve", scene.number(exact, 1));
}
