// The filters that the list of runs and a run have in common.
import { html, type TemplateResult } from "lit";
import type { Share } from "../api/types";
import { LEVELS } from "../api/types";
import { t } from "../i18n/language";
import type { Filters } from "../model/place";
import "./choice_menu";

const TYPING_PAUSE_MS = 300;
let typing = 0;

export interface Known {
  categories: readonly Share[];
  steps: readonly Share[];
  agents: readonly Share[];
}

export const NOTHING_KNOWN: Known = { categories: [], steps: [], agents: [] };

export function filterFields(
  filters: Filters,
  known: Known,
  change: (patch: Partial<Filters>) => void,
): TemplateResult {
  const lists = [
    ["category", t("filter.category"), known.categories],
    ["step", t("filter.step"), known.steps],
    ["agent", t("filter.agent"), known.agents],
  ] as const;
  return html`<input
      class="search"
      type="search"
      .value=${filters.text}
      placeholder=${t("filter.text")}
      aria-label=${t("filter.text")}
      aria-keyshortcuts="/"
      @input=${(event: InputEvent) => {
        const { value } = event.target as HTMLInputElement;
        clearTimeout(typing);
        typing = window.setTimeout(() => change({ text: value }), TYPING_PAUSE_MS);
      }}
    />
    <button
      class="narrow-only"
      @click=${(event: Event) => (event.currentTarget as HTMLElement).closest(".filters")?.classList.toggle("unfolded")}
    >
      ${t("filter.title")}
    </button>
    <select
      aria-label=${t("filter.level")}
      class=${filters.level ? "active" : ""}
      @change=${(event: Event) => change({ level: (event.target as HTMLSelectElement).value })}
    >
      <option value="" .selected=${filters.level === ""}>${t("filter.anyLevel")}</option>
      ${LEVELS.slice(1).map(
        level => html`<option value=${level} .selected=${filters.level === level}>≥ ${level}</option>`,
      )}
    </select>
    ${lists.map(
      ([name, label, shares]) => html`<choice-menu
        .label=${label}
        .known=${shares}
        .chosen=${filters[name]}
        .onChange=${(chosen: string[]) => change({ [name]: chosen })}
      ></choice-menu>`,
    )}`;
}
