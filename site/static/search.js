// In the excerpts of the search a formula stands once, as it is read, not as its source too.
const source = /<span class="katex-mathml">.*?<\/math><\/span>/gs;
const toText = Search.htmlToText;
Search.htmlToText = (html, anchor) => toText(html.replace(source, ""), anchor);
