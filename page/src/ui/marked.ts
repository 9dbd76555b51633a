// A text in which what was searched for is marked.
import { html, type TemplateResult } from "lit";
import { piecesOf } from "../model/format";
import { router } from "./router";

/** The text, with what the address says is searched for marked. */
export function marked(text: string): string | (string | TemplateResult)[] {
  const sought = router.place.filters.text;
  if (sought === "") return text;
  return piecesOf(text, sought).map((piece, i) => (i % 2 === 1 ? html`<mark>${piece}</mark>` : piece));
}
