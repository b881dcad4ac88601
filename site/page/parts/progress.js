// What a reader has done, kept by this browser alone: the same tables as workbook/progress.toml,
// and the answers. A file carries them to a workbook and back; `chainrule progress` reads it.
const KEY = "chainrule";
const TABLES = ["passed", "hinted", "answers"];

export function read() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    // storage is forbidden, or damaged: begin with nothing
  }
  for (const table of TABLES) kept[table] ??= {};
  kept.known ??= [];
  return kept;
}

// Change one entry; false where the browser keeps nothing.
export function write(table, document_, name, value) {
  const kept = read();
  (kept[table][document_] ??= {})[name] = value;
  if (value === undefined) delete kept[table][document_][name];
  return store(kept);
}

export function store(kept) {
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
    return true;
  } catch {
    return false;
  }
}

export function today() {
  const now = new Date();
  return [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
}

// --- To and from a file ---------------------------------------------------------------
export function save() {
  const text = JSON.stringify({ chainrule: 1, ...read() }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "chainrule-progress.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Add what a file holds to what is kept; `replace(count)` is asked before answers are replaced.
export async function restore(file, replace) {
  let data;
  try {
    data = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is not a file of this course: it is not JSON`);
  }
  if (data?.chainrule !== 1) throw new Error(`${file.name} is not a file of this course`);
  const kept = read();
  const of = (table) => Object.entries(data[table] ?? {}).flatMap(([d, names]) => Object.entries(names).map(([n, v]) => [d, n, v]));
  for (const [d, n, v] of of("passed")) {
    const names = (kept.passed[d] ??= {});
    if (/^\d{4}-\d\d-\d\d$/.test(v) && !(names[n] < v)) names[n] = v;
  }
  for (const [d, n, v] of of("hinted")) (kept.hinted[d] ??= {})[n] = Math.max(Number(v) || 0, kept.hinted[d][n] ?? 0);
  kept.known = [...new Set([...kept.known, ...(data.known ?? [])])].sort();
  const answers = of("answers").filter(([, , v]) => typeof v === "string");
  const other = answers.filter(([d, n, v]) => (kept.answers[d]?.[n] ?? v) !== v);
  const all = !other.length || replace(other.length);
  for (const each of answers) {
    const [d, n, v] = each;
    if (all || !other.includes(each)) (kept.answers[d] ??= {})[n] = v;
  }
  store(kept);
  return { passed: of("passed").length, answers: answers.length - (all ? 0 : other.length) };
}
