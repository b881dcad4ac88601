// "Report a mistake" names the section that is being read.
const link = document.querySelector("a.report-link");
link?.addEventListener("click", () => {
  const headings = [...document.querySelectorAll("article :is(h1, h2, h3)")];
  const above = headings.filter((each) => each.getBoundingClientRect().top < innerHeight / 3);
  const last = above.at(-1) ?? headings[0];
  const address = new URL(link.href);
  const text = address.searchParams.get("body");
  const name = last ? `${last.firstChild.textContent} (#${last.closest("section")?.id ?? ""})` : "(top)";
  address.searchParams.set("body", text.replace(/^Section: .*$/m, `Section: ${name}`));
  link.href = address.href;
});
