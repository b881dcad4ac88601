// In the excerpts of the search a formula stands once, as it is read, not as its source too.
const source = /<span class="katex-mathml">.*?<\/math><\/span>/gs;
const toText = Search.htmlToText;
Search.htmlToText = (html, anchor) => toText(html.replace(source, ""), anchor);

// What a subject teaches leads to that subject; pages about the course come after the course.
const words = (text) => (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []).join(" ");
const query = words(new URLSearchParams(location.search).get("q") ?? "");
const aside = /^(README|ROADMAP|CONTRIBUTING|GLOSSARY|NOTATION|source\/)/;
Scorer.score = ([page, title, , , score]) => {
  if (aside.test(page)) return score - 100;
  const taught = (TAUGHT[page] ?? []).some((name) => query && name === query);
  const named = words(title.split(">").at(-1)) === query;
  return score + 50 * taught + 25 * named - 5 * page.startsWith("notebooks/");
};
