// The roofline of a device, and where a step of decoding lies under it.

export const alt =
  "Operations a second against operations for each byte: a rising line, then a flat one, and the " +
  "point of one step of decoding";

const DEVICES = {
  H100: { flops: 989e12, bandwidth: 3.35e12, memory: 80e9 },
  H200: { flops: 989e12, bandwidth: 4.8e12, memory: 141e9 },
};

export const controls = [
  { name: "device", label: "device", options: Object.keys(DEVICES), value: "H100" },
  { name: "billions", label: "weights, billions", min: 1, max: 70, step: 1, value: 7 },
  { name: "bits", label: "bits a weight", min: 4, max: 16, step: 4, value: 16 },
  { name: "texts", label: "texts in a step", min: 1, max: 1024, step: 1, value: 16 },
  { name: "tokens", label: "tokens of each in the cache", min: 0, max: 32000, step: 500,
    value: 1000 },
  { name: "kilobytes", label: "kB of cache a token", min: 8, max: 512, step: 1, value: 131 },
];

export function compute({ device, billions, bits, texts, tokens, kilobytes }) {
  const { flops, bandwidth, memory } = DEVICES[device];
  const weights = (billions * 1e9 * bits) / 8;
  const cache = tokens * kilobytes * 1e3;
  const work = 2 * billions * 1e9 * texts;
  const moved = weights + texts * cache;
  const seconds = Math.max(work / flops, moved / bandwidth);
  return {
    intensity: work / moved,
    reached: work / seconds / 1e12,
    ridge: flops / bandwidth,
    roof: flops / 1e12,
    slope: bandwidth / 1e12,
    ms: seconds * 1e3,
    each: 1 / seconds,
    all: texts / seconds,
    memory: (weights + texts * cache) / 1e9,
    room: memory / 1e9,
  };
}

export function draw(scene, state, result) {
  const { intensity, reached, ridge, roof, slope } = result;
  const plot = scene.plot({
    x: [0.01, 5000], xScale: "log", xTicks: [0.01, 0.1, 1, 10, 100, 1000],
    y: [0.01, 3000], yScale: "log", yTicks: [0.1, 1, 10, 100, 1000],
    xLabel: "operations for each byte moved", yLabel: "TFLOP/s", height: 300,
  });
  plot.line([[0.01, 0.01 * slope], [ridge, roof], [5000, roof]], { color: "black" });
  plot.rule({ x: ridge });
  plot.dot([intensity, reached], { color: "vermillion", radius: 6 });
  scene.say("a step", `${scene.number(result.ms, 1)} ms`);
  scene.say("each text", `${scene.number(result.each, 0)} tokens a second`);
  scene.say("all together", `${scene.number(result.all, 0)} tokens a second`);
  const fits = result.memory <= result.room ? "fits" : "does not fit";
  scene.say("memory", `${scene.number(result.memory, 1)} GB of ${result.room}: ${fits}`);
}
