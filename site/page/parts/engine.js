// A worker that holds one Python, started when it is first asked for something.
export class Engine {
  constructor(manifest, base, file, module = "chainrule.learner.page.runner") {
    Object.assign(this, { manifest, base, file, module, waiting: new Map(), count: 0, worker: null });
  }

  // What the worker says while it works goes to `listen`; whoever asks gets the answer.
  // An answer has `failed` where Python itself ended, `stopped` where the reader ended it.
  ask(call, values, listen) {
    if (!this.worker) this.start();
    if (this.flag) this.flag[0] = 0;
    this.listen = listen;
    const id = ++this.count;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      this.worker.postMessage({ id, call, values });
    });
  }

  start() {
    this.isReady = new Promise((resolve) => (this.ready = resolve));
    // A worker from a blob has this page's policy: its Python reaches no other host either.
    const script = `import ${JSON.stringify(new URL(this.manifest.worker, this.base).href)};`;
    const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.worker = new Worker(address, { type: "module" });
    this.flag = self.crossOriginIsolated ? new Uint8Array(new SharedArrayBuffer(1)) : null;
    const begin = {
      pyodide: new URL(this.manifest.pyodide, this.base).href,
      archive: new URL(this.manifest.package, this.base).href,
      module: this.module,
      file: this.file,
      interrupt: this.flag,
    };
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => this.end({ failed: event.message || "the worker failed" });
    this.worker.postMessage({ begin });
  }

  hear({ ready, event, failed, id, answer, heap }) {
    if (ready) this.ready();
    else if (event) this.listen?.(event);
    else if (id === undefined) this.end({ failed: `Python could not be loaded: ${failed}` });
    else {
      this.heap = heap;
      this.waiting.get(id)?.(failed ? { failed } : answer);
      this.waiting.delete(id);
      if (failed) this.end({ failed });
    }
  }

  // Where memory can be shared, Python gets a KeyboardInterrupt and keeps its names. Code that
  // catches it, or is deep in one call of NumPy, is ended with its worker after a second.
  stop() {
    if (!this.worker) return;
    if (!this.flag) return this.end({ stopped: true });
    const asked = this.count;
    this.flag[0] = 2;
    setTimeout(() => this.waiting.has(asked) && this.end({ stopped: true }), 800);
  }

  end(answer) {
    this.worker?.terminate();
    this.worker = null;
    for (const resolve of this.waiting.values()) resolve(answer);
    this.waiting.clear();
  }
}
