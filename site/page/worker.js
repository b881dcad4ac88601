// One Python, in a worker: Pyodide and NumPy from beside the pages, and the course's package.
const say = (message) => postMessage(message);

async function begin({ pyodide, archive, module, file, interrupt }) {
  const { loadPyodide } = await import(new URL("pyodide.mjs", pyodide));
  const fetched = fetch(archive).then((answer) => {
    if (!answer.ok) throw new Error(`${answer.url}: ${answer.status}`);
    return answer.arrayBuffer();
  });
  const python = await loadPyodide({
    indexURL: pyodide,
    env: { HOME: "/home/pyodide", PYTHONHASHSEED: "0", OMP_NUM_THREADS: "1" },
    packages: ["numpy"],
  });
  python.unpackArchive(await fetched, "zip", { extractDir: "/lib/python3.12/site-packages" });
  if (interrupt) python.setInterruptBuffer(interrupt);
  python.pyimport("numpy").destroy();
  const runner = python.pyimport(module);
  const post = (text) => say({ event: JSON.parse(text) });
  say({ ready: true });
  return { python, page: runner.begin(file, post) };
}

let begun;
self.onmessage = async ({ data }) => {
  if (data.begin) {
    begun = begin(data.begin);
    begun.catch((error) => say({ failed: String(error.message ?? error) }));
    return;
  }
  const { id, call, values } = data;
  try {
    const { python, page } = await begun;
    const answer = page[call](...values);
    say({ id, answer: answer === undefined ? null : JSON.parse(answer), heap: python._module.HEAP8.length });
  } catch (error) {
    say({ id, answer: null, failed: String(error.message ?? error) });
  }
};
