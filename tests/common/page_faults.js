// What is wrong with a page once it stands: one sentence each.
(async () => {
  const faults = [];
  const article = document.querySelector("article") ?? document.body;
  for (let i = 0; i < 200 && document.querySelector("pre.mermaid:not([data-drawn])"); i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  for (let i = 0; i < 200 && document.querySelector("img[data-interactive]:not([data-drawn])"); i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  for (const image of document.images) image.loading = "eager";
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  await document.fonts.ready;
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) {
    const last = [...article.querySelectorAll("*")].filter(
      (e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".highlight, .formula, .table-wrapper"));
    faults.push(`scrolls sideways by ${wide} px: ${last.slice(0, 3).map((e) => e.outerHTML.slice(0, 80))}`);
  }
  const walker = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.parentElement.closest("code, pre, .katex, script, style")) continue;
    const raw = node.data.match(/\$[^$\n]{1,80}\$|\\(frac|begin|sum|mathbf|lVert)\b|<!--|-->/);
    if (raw) faults.push(`raw source in the text: ${raw[0]}`);
  }
  for (const node of document.querySelectorAll(".katex-error")) faults.push(`formula: ${node.textContent}`);
  for (const node of document.querySelectorAll("pre.mermaid:not([data-drawn=true])"))
    faults.push(`diagram not drawn: ${node.textContent.slice(0, 80)}`);
  for (const image of document.querySelectorAll("img[data-interactive]:not([data-drawn=true])"))
    faults.push(`interactive figure not drawn: ${image.dataset.interactive}`);
  for (const image of document.images) {
    if (!image.naturalWidth) faults.push(`broken image: ${image.getAttribute("src")}`);
    if (!image.alt.trim()) faults.push(`image without alternative text: ${image.getAttribute("src")}`);
  }
  return faults;
})()
