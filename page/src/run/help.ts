// The keys of the run view.
import { html, type TemplateResult } from "lit";
import { t } from "../i18n/language";

export function helpDialog(): TemplateResult {
  const keys: [string, string][] = [
    ["/", t("help.search")],
    ["j  k", t("help.nextPrevious")],
    ["g  G", t("help.topBottom")],
    ["e", t("help.error")],
    ["f", t("help.follow")],
    ["l", t("help.log")],
    ["← →", t("help.fold")],
    ["+ − 0", t("help.zoom")],
    ["Esc", t("help.escape")],
    ["?", t("help.title")],
  ];
  return html`<dialog class="help" aria-label=${t("help.title")}>
    <h2>${t("help.title")}</h2>
    <dl>
      ${keys.map(
        ([key, meaning]) =>
          html`<dt>${key
            .split(" ")
            .filter(Boolean)
            .map(one => html`<kbd>${one}</kbd> `)}</dt><dd>${meaning}</dd>`,
      )}
    </dl>
    <form method="dialog"><button autofocus>${t("close")}</button></form>
  </dialog>`;
}
