// A pipeline's schedule over time: who does what when, for any number of workers and micro-batches.

export const alt =
  "A chart over time with a row for each worker of a pipeline and a box for each forward and " +
  "backward pass; the gaps are idle time";

const KINDS = ["GPipe", "1F1B", "ZB-H1"];

export const controls = [
  { name: "kind", label: "schedule", options: KINDS, value: "1F1B" },
  { name: "workers", label: "workers", min: 1, max: 8, step: 1, value: 4 },
  { name: "batches", label: "micro-batches", min: 1, max: 16, step: 1, value: 8 },
];

export const presets = {
  "the page's numbers": { workers: 4, batches: 8 },
  "many micro-batches": { kind: "1F1B", workers: 4, batches: 16 },
  "long pipeline, few micro-batches": { kind: "GPipe", workers: 8, batches: 2 },
};

const COLORS = { F: "blue", B: "orange", W: "green" };
const range = (n) => Array.from({ length: n }, (_, i) => i);

// What must be done before an action, as [worker, kind, batch].
function needs(rank, kind, i, workers) {
  if (kind === "F") return rank ? [[rank - 1, "F", i]] : [];
  if (kind === "W") return [[rank, "B", i]];
  const own = [[rank, "F", i]];
  return rank === workers - 1 ? own : [...own, [rank + 1, "B", i]];
}

function oneForwardOneBackward(depth, batches) {
  const first = Math.min(depth, batches);
  const actions = range(first).map((i) => ["F", i]);
  for (const i of range(batches)) {
    actions.push(["B", i]);
    if (first + i < batches) actions.push(["F", first + i]);
  }
  return actions;
}

// In each unit of time every worker does what it can: F, else B, else W.
function zeroBubble(workers, batches) {
  const done = new Map();
  const counts = range(workers).map(() => ({ F: 0, B: 0, W: 0 }));
  const order = range(workers).map(() => []);
  for (let time = 0; counts.some((count) => count.W < batches); time++) {
    const ready = (rank, kind, i) =>
      needs(rank, kind, i, workers).every((key) => done.get(key.join()) <= time);
    const chosen = counts.map((count, rank) => {
      const room = count.F - count.B < workers - rank && count.F - count.W < workers;
      if (count.F < batches && room && ready(rank, "F", count.F)) return "F";
      if (count.B < batches && ready(rank, "B", count.B)) return "B";
      return count.W < count.B ? "W" : undefined;
    });
    chosen.forEach((kind, rank) => {
      if (!kind) return;
      const i = counts[rank][kind]++;
      done.set([rank, kind, i].join(), time + 1);
      order[rank].push([kind, i]);
    });
  }
  return order;
}

function schedule(kind, workers, batches) {
  if (kind === "ZB-H1") return zeroBubble(workers, batches);
  if (kind === "1F1B") return range(workers).map((r) => oneForwardOneBackward(workers - r, batches));
  const all = ["F", "B"].flatMap((letter) => range(batches).map((i) => [letter, i]));
  return range(workers).map(() => all);
}

function timeline(order, seconds) {
  const ends = new Map();
  const clocks = order.map(() => 0);
  const places = order.map(() => 0);
  const events = [];
  for (let moved = true; moved; ) {
    moved = false;
    order.forEach((actions, rank) => {
      while (places[rank] < actions.length) {
        const [kind, i] = actions[places[rank]];
        const keys = needs(rank, kind, i, order.length).map((key) => key.join());
        if (!keys.every((key) => ends.has(key))) break;
        const start = Math.max(clocks[rank], ...keys.map((key) => ends.get(key)));
        clocks[rank] = start + seconds[kind];
        ends.set([rank, kind, i].join(), clocks[rank]);
        events.push({ worker: rank, label: `${kind}${i}`, start, end: clocks[rank] });
        places[rank]++;
        moved = true;
      }
    });
  }
  return events.sort((a, b) => a.start - b.start || a.worker - b.worker);
}

function mostHeld(actions) {
  const last = actions.some(([kind]) => kind === "W") ? "W" : "B";
  let [held, most] = [0, 0];
  for (const [kind] of actions) {
    held += (kind === "F") - (kind === last);
    most = Math.max(most, held);
  }
  return most;
}

export function compute({ kind, workers, batches }) {
  const order = schedule(kind, workers, batches);
  const events = timeline(order, { F: 1, B: kind === "ZB-H1" ? 1 : 2, W: 1 });
  const end = Math.max(...events.map((event) => event.end));
  const work = events.reduce((sum, event) => sum + event.end - event.start, 0);
  return { events, end, idle: 1 - work / (workers * end), held: order.map(mostHeld) };
}

export function draw(scene, { workers }, { events, end, idle, held }) {
  const chart = scene.plot({
    x: [0, end], xLabel: "time, in forward passes", height: 90 + 30 * workers,
    y: [workers - 0.5, -0.5], yTicks: range(workers).map((r) => [r, String(r)]), yLabel: "worker",
  });
  const wide = scene.width / end > 16; // pixels of a unit of time that hold a number
  for (const { worker, label, start, end: stop } of events) {
    chart.rect([start, worker - 0.42], [stop, worker + 0.42], { color: COLORS[label[0]] });
    if (wide) {
      chart.text([(start + stop) / 2, worker], label.slice(1), { anchor: "middle", dy: 4 });
    }
  }
  scene.say("blue F, orange B, green W; done at", scene.number(end, 0));
  scene.say("idle", `${scene.number(100 * idle, 1)} %`);
  scene.say("micro-batches held by each worker", held.join(", "));
}
