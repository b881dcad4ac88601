// The editor: CodeMirror 6, coloured by Pygments' names, so that it looks like the block it stands for.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, indentOnInput, indentUnit, syntaxHighlighting } from "@codemirror/language";
import { pythonLanguage } from "@codemirror/lang-python";
import { EditorState } from "@codemirror/state";
import { EditorView, drawSelection, highlightSpecialChars, keymap } from "@codemirror/view";
import { tagHighlighter, tags as t } from "@lezer/highlight";

const pygments = tagHighlighter([
  { tag: [t.keyword, t.controlKeyword, t.definitionKeyword, t.operatorKeyword], class: "k" },
  { tag: t.moduleKeyword, class: "kn" },
  { tag: [t.bool, t.null], class: "kc" },
  { tag: t.comment, class: "c1" },
  { tag: t.string, class: "s2" },
  { tag: t.special(t.string), class: "sa" },
  { tag: t.number, class: "mi" },
  { tag: t.operator, class: "o" },
  { tag: t.punctuation, class: "p" },
  { tag: t.function(t.definition(t.variableName)), class: "nf" },
  { tag: t.definition(t.className), class: "nc" },
  { tag: t.variableName, class: "n" },
  { tag: t.meta, class: "nd" },
]);

const theme = EditorView.theme({
  "&": { background: "var(--color-code-background)", color: "var(--color-code-foreground)" },
  "&.cm-focused": { outline: "2px solid var(--color-brand-primary)" },
  ".cm-scroller": { fontFamily: "var(--font-stack--monospace)", lineHeight: "1.55", padding: ".625rem .25rem" },
  ".cm-content": { caretColor: "currentColor" },
  ".cm-cursor": { borderLeftColor: "currentColor" },
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": {
    background: "color-mix(in srgb, var(--color-brand-primary) 30%, transparent) !important",
  },
});

// An editor below `parent`: Control (or Command) Enter runs, Escape leaves it for `leave`.
export function open(parent, text, { label, run, leave, changed }) {
  const doing = (does) => () => (does(), true);
  const keys = [
    { key: "Mod-Enter", run: doing(run) },
    { key: "Ctrl-Enter", run: doing(run) },
    { key: "Escape", run: doing(leave) },
    indentWithTab,
    ...historyKeymap,
    ...defaultKeymap,
  ];
  const view = new EditorView({
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        ...[keymap.of(keys), history(), drawSelection(), highlightSpecialChars(), bracketMatching()],
        ...[indentOnInput(), indentUnit.of("    "), pythonLanguage, syntaxHighlighting(pygments), theme],
        EditorView.contentAttributes.of({
          "aria-label": label,
          autocapitalize: "off",
          autocorrect: "off",
          spellcheck: "false",
        }),
        EditorView.updateListener.of((update) => update.docChanged && changed?.(update.state.doc.toString())),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    set: (insert) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert } }),
    focus: () => view.focus(),
    close: () => view.destroy(),
  };
}
