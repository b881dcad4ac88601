// Asks the modules of interactive figures: one JSON object a line in, one a line out.
// In: { file, states }; out: { error } or { controls, presets, answers, faults }.
import { readFileSync } from "node:fs";

function* bad(value, path) {
  if (typeof value === "number" && !Number.isFinite(value)) yield `${path} is ${value}`;
  else if (Array.isArray(value)) {
    for (const [i, each] of value.entries()) yield* bad(each, `${path}[${i}]`);
  } else if (value && typeof value === "object") {
    const place = path && `${path}.`;
    for (const [key, each] of Object.entries(value)) yield* bad(each, place + key);
  } else if (!["number", "string", "boolean"].includes(typeof value)) {
    yield `${path || "the result"} is ${value}, not JSON`;
  }
}

function endsOf({ kind, min, max, options, value, most }) {
  if (kind === "text") return ["", " ", "a".repeat(most), "b é🙂 \u0301".slice(0, most)];
  return options ?? (typeof value === "boolean" ? [true, false] : [min, max]);
}

// The ends of every control, one at a time and, for the numbers, all together.
function ends(controls) {
  const whole = controls.map((each) => (each.zero ? { ...each, min: 0 } : each));
  const single = whole.flatMap((each) => endsOf(each).map((end) => ({ [each.name]: end })));
  const numbers = whole.filter(({ min }) => min !== undefined);
  const all = (end) => Object.fromEntries(numbers.map((each) => [each.name, each[end]]));
  return [...single, all("min"), all("max")];
}

function ask({ compute, controls, presets = {} }, listed) {
  const states = [...listed, ...Object.values(presets)];
  const defaults = Object.fromEntries(controls.map(({ name, value }) => [name, value]));
  const [answers, faults] = [[], []];
  const every = [{}, ...states, ...ends(controls)];
  for (const [number, change] of every.entries()) {
    const state = { ...defaults, ...change };
    try {
      const result = compute(structuredClone(state));
      const problems = [...bad(result, "")];
      if (problems.length) faults.push([change, problems[0]]);
      if (JSON.stringify(result) !== JSON.stringify(compute(structuredClone(state)))) {
        faults.push([change, "a second call gives another result"]);
      }
      if (number <= states.length && !problems.length) answers.push([change, state, result]);
    } catch (error) {
      faults.push([change, `${error.name}: ${error.message}`]);
    }
  }
  return { answers, faults };
}

async function load(file) {
  // As a data: address it is a module whatever its name, and can import nothing beside it.
  const source = readFileSync(file).toString("base64");
  return import(`data:text/javascript;base64,${source}`);
}

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { file, states } = JSON.parse(line);
  let answer;
  try {
    const module = await load(file);
    const { controls, presets = {}, compute, draw } = module;
    const there = { controls: Array.isArray(controls), compute, draw };
    const missing = Object.keys(there).filter((name) => !there[name]);
    if (missing.length) answer = { error: `does not export ${missing.join(", ")}` };
    else answer = { controls, presets, ...ask(module, states) };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
