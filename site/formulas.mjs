// Formulas come in as JSON, one a line, and go out as HTML, one a line. With `strict` a formula is
// only read, and what KaTeX would put up with is an error too.
import { createInterface } from "node:readline";
import katex from "katex";

for await (const line of createInterface({ input: process.stdin })) {
  const { tex, display, strict } = JSON.parse(line);
  const options = { displayMode: display, throwOnError: true, strict: strict ? "error" : "ignore" };
  let answer = {};
  try {
    if (strict) katex.__parse(tex, options);
    else answer = { html: katex.renderToString(tex, options) };
  } catch (error) {
    answer = { error: error.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
