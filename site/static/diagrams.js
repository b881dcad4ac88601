// Draws the page's diagrams, in the colours of the scheme, and again when the scheme changes.
import mermaid from "./mermaid/mermaid.esm.min.mjs";

const boxes = [...document.querySelectorAll("pre.mermaid")];
const sources = boxes.map((box) => box.textContent);
const system = window.matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const theme = document.body.dataset.theme;
  return theme === "dark" || (theme !== "light" && system.matches);
}

async function draw() {
  mermaid.initialize({
    startOnLoad: false,
    securityLevel: "strict",
    theme: isDark() ? "dark" : "neutral",
    fontFamily: getComputedStyle(document.body).fontFamily,
  });
  for (const [index, box] of boxes.entries()) {
    try {
      const { svg } = await mermaid.render(`diagram-${index}`, sources[index]);
      box.innerHTML = svg;
      // On a telephone a large diagram scrolls; shrunk, nobody could read it.
      const drawing = box.firstElementChild;
      drawing.style.minWidth = `${Math.min(drawing.viewBox.baseVal.width, 640)}px`;
      box.dataset.drawn = "true";
    } catch (error) {
      box.dataset.drawn = "failed";
      console.error(`Diagram ${index + 1}: ${error.message}`);
    }
  }
}

await draw();
system.addEventListener("change", draw);
new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
