// PPO's clipped objective of one sign, against the ratio of its new chance to its old one.

export const alt =
  "The counted product of ratio and advantage against the ratio: a line through the origin that " +
  "is flat beyond the limit on one side, where the sign no longer pulls";

export const controls = [
  { name: "advantage", label: "advantage A", min: -2, max: 2, step: 0.1, value: 1 },
  { name: "ratio", label: "ratio", min: 0, max: 2, step: 0.01, value: 1 },
  { name: "low", label: "ε below", min: 0.05, max: 0.9, step: 0.05, value: 0.2 },
  { name: "high", label: "ε above", min: 0.05, max: 0.9, step: 0.05, value: 0.2 },
];

export const presets = {
  "good, pushed up enough": { ratio: 1.5 },
  "good, went down": { ratio: 0.5 },
  "bad, went up": { advantage: -1, ratio: 1.5 },
  "bad, pushed down enough": { advantage: -1, ratio: 0.5 },
  "clip-higher": { high: 0.5, ratio: 1.4 },
};

const counted = (ratio, { advantage, low, high }) =>
  Math.min(ratio * advantage, Math.min(Math.max(ratio, 1 - low), 1 + high) * advantage);

export function compute(state) {
  const plain = state.ratio * state.advantage;
  const value = counted(state.ratio, state);
  return { plain, value, pull: plain <= value ? plain : 0 };
}

export function draw(scene, state, { plain, value, pull }) {
  const { advantage, ratio } = state;
  const high = Math.max(1, 2 * Math.max(advantage, 0)) + 0.2;
  const low = Math.min(-0.4, 2 * Math.min(advantage, 0)) - 0.2;
  const plot = scene.plot({ x: [0, 2], y: [low, high], xLabel: "ratio", yLabel: "counted",
    height: 300 });
  const curve = (f) => Array.from({ length: 201 }, (_, k) => [k / 100, f(k / 100)]);
  plot.rule({ y: 0 });
  plot.line(curve((x) => x * advantage), { color: "grey", dash: true, width: 1.5 });
  plot.line(curve((x) => counted(x, state)), { color: "blue", width: 2.5 });
  plot.dot([1, advantage], { color: "black", radius: 4 });
  plot.handle("ratio", { at: [ratio, value], axis: "x", color: "vermillion" });
  scene.legend([
    { label: "what PPO counts", color: "blue" },
    { label: "ratio · A", color: "grey", dash: true },
  ]);
  scene.say("ratio · advantage", scene.number(plain, 2));
  scene.say("counted", scene.number(value, 2));
  scene.say("pull on the log-probability", pull === 0 ? "none" : scene.number(pull, 2));
}
