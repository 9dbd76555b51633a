// What stands where there is nothing else to show.
import { html, nothing, type TemplateResult } from "lit";
import { ApiError } from "../api/client";
import { t } from "../i18n/language";

export function errorBox(error: unknown, retry?: () => void): TemplateResult {
  return html`<div class="box error" role="alert">
    <strong>${error instanceof ApiError ? t("error.answer", { status: error.status }) : t("error.noAnswer")}</strong>
    <p>${error instanceof Error ? error.message : String(error)}</p>
    ${retry ? html`<button @click=${retry}>${t("retry")}</button>` : nothing}
  </div>`;
}

export function loadingBox(): TemplateResult {
  return html`<div class="box loading" role="status">${t("loading")}</div>`;
}
