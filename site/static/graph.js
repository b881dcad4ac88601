// The graph of the home page: pointing at a subject shows what it needs, and why.
const sheet = document.querySelector(".sheet");
const card = sheet.querySelector(".card");
const subjects = [...sheet.querySelectorAll(".subject")];
const lines = [...sheet.querySelectorAll(".lines path")];

// The parts of the GPT whose exercise was passed here are filled in and counted; a part that stands
// in several places is one.
function fillParts(passed) {
  const names = new Set();
  const mine = new Set();
  for (const part of document.querySelectorAll(".gpt .part")) {
    const { of, name } = part.dataset;
    names.add(name);
    if (!passed?.[of]?.[name]) continue;
    mine.add(name);
    part.classList.add("mine");
    part.querySelector("i").textContent = "■";
    part.title = "yours";
  }
  const count = document.querySelector(".gpt .count");
  if (count) count.textContent = `${mine.size} of ${names.size}`;
}

// What is done, as this browser keeps it: all exercises of a subject passed, or some of them.
function markProgress() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem("chainrule") ?? "{}");
  } catch {
    return;
  }
  fillParts(kept.passed);
  for (const entry of document.querySelectorAll("[data-subject]")) {
    const id = entry.dataset.subject;
    const names = entry.dataset.exercises.split(" ").filter(Boolean);
    const passed = names.filter((name) => kept.passed?.[id]?.[name]);
    const known = kept.known?.includes(id);
    const done = known || (names.length > 0 && passed.length === names.length);
    if (!done && !passed.length) continue;
    const state = done ? "done" : "begun";
    const words = known ? "known" : `${passed.length} of ${names.length} exercises passed`;
    entry.classList.add(state);
    const note = document.createElement("p");
    note.className = "progress";
    note.textContent = `${done ? "✓" : "…"} ${words}`;
    entry.querySelector(".title").after(note);
    const box = sheet.querySelector(`[data-id="${id}"]`);
    box.classList.add(state);
    box.querySelector("text").append(done ? " ✓" : " …");
    box.setAttribute("aria-label", `${box.textContent.replace(/[✓…]/, "").trim()}, ${words}`);
  }
}
markProgress();

function needed(id, found = new Set([id])) {
  for (const line of lines) {
    if (line.dataset.to === id && !found.has(line.dataset.from)) {
      needed(line.dataset.from, found.add(line.dataset.from));
    }
  }
  return found;
}

function show(subject) {
  const { id } = subject.dataset;
  const before = needed(id);
  sheet.classList.add("pointing");
  for (const other of subjects) other.classList.toggle("lit", before.has(other.dataset.id));
  for (const line of lines) {
    line.classList.toggle("lit", before.has(line.dataset.to));
    line.classList.toggle("direct", line.dataset.to === id);
  }
  const entry = document.querySelector(`[data-subject="${id}"]`).cloneNode(true);
  for (const part of entry.querySelectorAll("details")) part.replaceWith(part.querySelector("dl"));
  for (const link of entry.querySelectorAll("a")) link.replaceWith(link.textContent);
  card.replaceChildren(...entry.childNodes);
  card.hidden = false;
  place(subject.getBoundingClientRect(), sheet.getBoundingClientRect());
}

// Below the subject, where nothing is lit; beside it where the window ends.
function place(box, around) {
  const below = box.bottom + card.offsetHeight + 24 < innerHeight;
  const right = box.right + card.offsetWidth + 12 < around.right;
  const beside = right ? box.right + 12 : box.left - card.offsetWidth - 12;
  const left = (below ? (box.left + box.right - card.offsetWidth) / 2 : beside) - around.left;
  const top = below ? box.bottom + 12 : Math.max(12, innerHeight - card.offsetHeight - 12);
  card.style.left = `${Math.max(0, Math.min(left, around.width - card.offsetWidth))}px`;
  card.style.top = `${top - around.top}px`;
}

function hide() {
  sheet.classList.remove("pointing");
  card.hidden = true;
}

for (const subject of subjects) {
  subject.addEventListener("pointerenter", () => show(subject));
  subject.addEventListener("focus", () => show(subject));
  subject.addEventListener("pointerleave", hide);
  subject.addEventListener("blur", hide);
}
document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
