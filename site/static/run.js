// Buttons under blocks and exercises. What they do is loaded when one of them is first used.
const base = new URL("./run/", import.meta.url);
const about = JSON.parse(document.getElementById("course-page").textContent);

let manifest;
async function load(name) {
  manifest ??= fetch(new URL("manifest.json", base), { cache: "no-cache" }).then((answer) => {
    if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`);
    return answer.json();
  });
  const { start } = await import(new URL((await manifest)[name], base));
  return start(about.document, await manifest, base);
}

const started = new Map();
function part(name) {
  if (!started.has(name)) {
    const loading = load(name);
    loading.catch(() => {
      started.delete(name); // the next click tries again
      manifest = undefined;
    });
    started.set(name, loading);
  }
  return started.get(name);
}

function failed(note, error) {
  note.dataset.kind = "bad";
  note.textContent =
    location.protocol === "file:"
      ? "A page opened as a file cannot load Python: serve it, as chainrule learn does."
      : `Not loaded: ${error.message}. Is the connection there? Press again.`;
}

function make(tag, className, text = "") {
  const node = document.createElement(tag);
  Object.assign(node, { className, textContent: text });
  return node;
}

// --- Blocks ---------------------------------------------------------------------------
const blocks = [...document.querySelectorAll(".run")];
for (const [index, block] of blocks.entries()) {
  const bar = make("div", "run-bar");
  const note = make("span", "run-note");
  note.setAttribute("role", "status");
  const { elsewhere, seconds } = block.dataset;
  if (elsewhere) {
    note.textContent = `Runs in your own checkout: ${elsewhere}`;
  } else {
    note.textContent = seconds ? `takes about ${seconds} s in the page` : "";
    for (const does of ["Run", "Edit"]) {
      const button = make("button", `${does.toLowerCase()}-button`, does);
      button.type = "button";
      button.setAttribute("aria-label", `${does} block ${index + 1}`);
      button.onclick = async () => {
        note.textContent ||= "Loading";
        try {
          (await part("blocks"))[index][does.toLowerCase()]();
        } catch (error) {
          failed(note, error);
        }
      };
      bar.append(button);
    }
    block.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.defaultPrevented) return;
      event.preventDefault();
      bar.querySelector(".run-button").click();
    });
  }
  bar.append(note);
  block.append(bar);
}

// --- Exercises ------------------------------------------------------------------------
const table = document.querySelector(".generated-exercises .table-wrapper, .generated-exercises table");
if (table && about.exercises.length) {
  const list = make("div", "exercises");
  for (const [number, [name, title]] of about.exercises.entries()) {
    const box = make("details", "exercise");
    box.id = `exercise-${name}`;
    const heading = make("summary", "", `${number + 1}. ${title}`);
    box.append(heading);
    box.ontoggle = async () => {
      if (!box.open || box.dataset.open) return;
      box.dataset.open = "";
      const note = make("p", "run-note", "Loading");
      box.append(note);
      try {
        await (await part("practise")).open(name, box);
        note.remove();
      } catch (error) {
        delete box.dataset.open;
        failed(note, error);
      }
    };
    list.append(box);
  }
  table.after(list);
  const passed = kept().passed?.[about.document] ?? {};
  for (const [name] of about.exercises) {
    if (passed[name]) document.getElementById(`exercise-${name}`).classList.add("passed");
  }
}

// --- The course's own model -------------------------------------------------------------
for (const place of document.querySelectorAll(".talk-place")) {
  const box = make("details", "talk");
  box.append(make("summary", "", "Let the course's own GPT write here"));
  box.ontoggle = async () => {
    if (!box.open || box.dataset.open) return;
    box.dataset.open = "";
    try {
      (await part("talk")).open(box);
    } catch (error) {
      delete box.dataset.open;
      box.open = false;
      failed(box.appendChild(make("p", "run-note")), error);
    }
  };
  place.append(box);
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem("chainrule") ?? "{}");
  } catch {
    return {};
  }
}
