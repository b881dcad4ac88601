// What a split of a model over many accelerators costs: seconds by term, and memory on each.

export const alt =
  "A bar of the seconds of a training step, cut by what they are spent on, and below it a bar of " +
  "the memory each device needs, with a line at the 80 GB that it has";

const POWERS = (most) => Array.from({ length: Math.log2(most) + 1 }, (_, k) => String(2 ** k));

export const controls = [
  { name: "model", label: "model", options: ["Llama 3 8B", "Llama 3 405B"], value: "Llama 3 405B" },
  { name: "data", label: "ways over the batch", options: POWERS(128), value: "64" },
  { name: "tensor", label: "ways over the matrices", options: POWERS(8), value: "8" },
  { name: "pipeline", label: "ways over the layers", options: POWERS(16), value: "16" },
  { name: "chunks", label: "pieces for each worker", min: 1, max: 8, step: 1, value: 8 },
  { name: "stage", label: "stage of ZeRO", options: ["0", "1", "2", "3"], value: "1" },
];

export const presets = {
  "405B as it was trained": {},
  "one piece each": { chunks: 1 },
  "405B by ZeRO alone": { data: "128", tensor: "8", pipeline: "1", chunks: 1, stage: "3" },
  "8B on one machine": { model: "Llama 3 8B", data: "8", tensor: "1", pipeline: "1", chunks: 1,
    stage: "3" },
};

// Numbers of a block and a token, as `sizes_of` counts them.
const MODELS = {
  "Llama 3 8B": { layers: 32, width: 4096, shared: 218112128, queries: 4096, kept: 69632,
    moved: 94208, head: 525336576, tables: 1050673152 },
  "Llama 3 405B": { layers: 126, width: 16384, shared: 401650696192 / 126, queries: 16384,
    kept: 260096, moved: 358400, head: 2101346304, tables: 4202692608 },
};
const H100 = { flops: 989e12, products: 794.5e12, scores: 0.35 * 989e12, memory: 80e9,
  memoryBandwidth: 3.35e12, node: 8, inside: [3.3e-6, 370e9], outside: [3.7e-6, 50e9] };
const SEQUENCES = 2048;
const LENGTH = 8192;
const TERMS = ["products", "scores", "moved", "tensor", "idle", "data", "update"];
const COLORS = ["blue", "sky", "grey", "orange", "vermillion", "purple", "green"];
const LABELS = ["products", "scores", "memory", "sums of rows", "idle", "gradients", "update"];

function memoryOf(model, { data, tensor, pipeline, chunks, stage }, batches) {
  const layers = Math.ceil(model.layers / pipeline);
  const own = layers * model.shared + model.tables / (pipeline === 1 ? 1 : 2);
  const cut = (from) => (stage >= from ? data : 1);
  const states = (own / tensor) * (2 / cut(3) + 2 / cut(2) + 12 / cut(1));
  let held = Math.min(batches, pipeline) * layers;
  if (chunks > 1) held *= 1 + (pipeline - 1) / (pipeline * chunks);
  return { states, activations: (held * 2 * LENGTH * model.kept) / tensor };
}

function timeOf(model, { data, tensor, pipeline, chunks, stage }, batches) {
  const share = tensor * pipeline;
  const tokens = batches * LENGTH;
  const products = (6 * tokens * (model.layers * model.shared + model.head)) / H100.products / share;
  const half = 4 * (LENGTH / 2) * model.queries * model.layers;
  const scores = (3.5 * tokens * half) / H100.scores / share;
  const moved = (6 * tokens * model.layers * model.moved) / H100.memoryBandwidth / share;
  const rows = 2 * LENGTH * model.width;
  const [latency, bandwidth] = H100.inside;
  const once = 2 * (tensor - 1) * (latency + rows / tensor / bandwidth);
  const rowSums = ((batches * 4 * model.layers) / pipeline) * once;
  const busy = products + scores + moved + rowSums;
  const idle = (busy * (pipeline - 1)) / chunks / batches;
  const parameters = (model.tables + model.layers * model.shared) / share;
  const rounds = [2, 2, batches + 1, 3 * batches][stage];
  const traffic = (rounds * (data - 1) / data) * 2 * parameters;
  const link = data * share <= H100.node ? H100.inside : H100.outside;
  const wait = Math.max(0, traffic / link[1] - busy / (stage > 1 ? 1 : batches));
  const update = (28 * parameters) / (stage ? data : 1) / H100.memoryBandwidth;
  return { products, scores, moved, tensor: rowSums, idle, data: wait, update };
}

export function compute(state) {
  const mesh = { chunks: state.chunks };
  for (const name of ["data", "tensor", "pipeline", "stage"]) mesh[name] = Number(state[name]);
  if (mesh.pipeline === 1) mesh.chunks = 1;
  const model = MODELS[state.model];
  const batches = SEQUENCES / mesh.data;
  const devices = mesh.data * mesh.tensor * mesh.pipeline;
  const time = timeOf(model, mesh, batches);
  const total = TERMS.reduce((sum, name) => sum + time[name], 0);
  const flops = 2 * (model.layers * model.shared + model.head)
    + 4 * LENGTH * model.queries * model.layers;
  const utilization = (3 * SEQUENCES * LENGTH * flops) / (devices * H100.flops * total);
  return { devices, time, total, utilization, ...memoryOf(model, mesh, batches) };
}

export function draw(scene, state, { devices, time, total, utilization, states, activations }) {
  const clock = scene.plot({
    x: [0, Math.max(15, total)], xLabel: "seconds of a step", y: [0, 1], yTicks: [], height: 110,
  });
  let start = 0;
  TERMS.forEach((name, k) => {
    if (time[name] > 0) clock.rect([start, 0.1], [start + time[name], 0.9], { color: COLORS[k] });
    start += time[name];
  });
  scene.legend(LABELS.slice(0, 6).map((label, k) => ({ label, color: COLORS[k] }))); // update: too thin
  const need = (states + activations) / 1e9;
  const store = scene.plot({
    x: [0, Math.max(100, need)], xLabel: "GB on each device", y: [0, 1], yTicks: [], height: 110,
  });
  store.rect([0, 0.25], [states / 1e9, 0.75], { color: "green" });
  store.rect([states / 1e9, 0.25], [need, 0.75], { color: "yellow" });
  store.rule({ x: 80 }, { color: "blue", dash: true });
  scene.legend([{ label: "weights, gradients, Adam", color: "green" },
    { label: "activations", color: "yellow" }, { label: "80 GB", color: "blue", dash: true }]);
  scene.say("devices", scene.number(devices, 0));
  scene.say("seconds", scene.number(total, 1));
  scene.say("used of the peak", `${scene.number(100 * utilization, 0)} %`);
  scene.say("memory", `${scene.number(need, 0)} GB${need > 80 ? ": too much" : ""}`);
}
