// What is done with the entries of a run: searched, filtered, shown in another way, exported.
import { html, nothing, type TemplateResult } from "lit";
import { address } from "../api/client";
import { n, t } from "../i18n/language";
import { type Filters, filterQuery, hasFilters, NO_FILTERS, type Place } from "../model/place";
import { copy } from "../ui/element";
import { filterFields, NOTHING_KNOWN } from "../ui/filter_fields";
import { router } from "../ui/router";
import { toast } from "../ui/toast";
import type { RunSession } from "./session";

const MOST_COPIED = 5_000_000;

export interface Actions {
  zoomBy(factor: number): void;
  toggleAll(isClosed: boolean): void;
  help(): void;
  /** null: nothing comes live that could be followed. */
  follows: boolean | null;
  setFollowing(isFollowing: boolean): void;
}

export function toolbar(session: RunSession, place: Place, actions: Actions): TemplateResult {
  const { filters } = place;
  const { summary } = session;
  const known = summary ?? NOTHING_KNOWN;
  const change = (patch: Partial<Filters>) =>
    router.change({ filters: { ...router.place.filters, ...patch } });
  return html`<div class="toolbar" role="toolbar" aria-label=${t("run.tools")}>
    <div class="filters" role="search">${filterFields(filters, known, change)} ${matchCount(session, filters)}</div>
    <span class="grow"></span>
    ${followButton(actions)}
    <div class="switch" role="group" aria-label=${t("run.viewAs")}>
      ${(["waterfall", "log"] as const).map(
        mode => html`<button
          aria-pressed=${place.mode === mode}
          @click=${() => router.change({ mode }, true)}
        >
          ${mode === "log" ? t("run.log") : t("run.waterfall")}
        </button>`,
      )}
    </div>
    ${place.mode === "waterfall" ? waterfallTools(place, actions) : nothing} ${exportMenu(session, filters)}
    <button class="square" aria-label=${t("help.title")} title="${t("help.title")} (?)" @click=${actions.help}>?</button>
  </div>`;
}

function followButton({ follows, setFollowing }: Actions): TemplateResult | typeof nothing {
  if (follows === null) return nothing;
  return html`<button
    aria-pressed=${follows}
    aria-keyshortcuts="f"
    title="${t("help.follow")} (f)"
    @click=${() => setFollowing(!follows)}
  >
    ↓ ${t("run.follow")}
  </button>`;
}

function matchCount(session: RunSession, filters: Filters): TemplateResult | typeof nothing {
  if (!hasFilters(filters)) return nothing;
  const { matches, isSearching, total } = session;
  return html`<span class="matches" aria-live="polite">
      ${isSearching || matches === null ? t("run.searching") : t("run.matches", { n: matches.total, all: total })}
      ${matches?.isCut ? html`<em>${t("run.matchesCut")}</em>` : nothing}
    </span>
    ${filters.operation.length > 0 ? html`<span class="chip">${t("filter.oneOperation")}</span>` : nothing}
    <button @click=${() => router.change({ filters: NO_FILTERS }, true)}>${t("filter.clear")}</button>`;
}

function waterfallTools(place: Place, actions: Actions): TemplateResult {
  const isOperationsOnly = place.detail === "operations";
  return html`<label class="check">
      <input
        type="checkbox"
        .checked=${!isOperationsOnly}
        @change=${() => router.change({ detail: isOperationsOnly ? "all" : "operations" })}
      />${t("run.showEntries")}
    </label>
    <div class="switch" role="group" aria-label=${t("run.zoom")}>
      <button aria-label=${t("run.zoomIn")} title=${t("run.zoomIn")} @click=${() => actions.zoomBy(0.5)}>+</button>
      <button aria-label=${t("run.zoomOut")} title=${t("run.zoomOut")} @click=${() => actions.zoomBy(2)}>−</button>
      <button ?disabled=${place.zoom === null} @click=${() => router.change({ zoom: null })}>${t("run.zoomAll")}</button>
    </div>
    <div class="switch" role="group" aria-label=${t("run.levels")}>
      <button aria-label=${t("run.expandAll")} title=${t("run.expandAll")} @click=${() => actions.toggleAll(false)}>⊞</button>
      <button aria-label=${t("run.collapseAll")} title=${t("run.collapseAll")} @click=${() => actions.toggleAll(true)}>⊟</button>
    </div>`;
}

function exportMenu(session: RunSession, filters: Filters): TemplateResult {
  const formats = [
    ["ndjson", "NDJSON"],
    ["csv", "CSV"],
    ["chrome-trace", "Chrome trace"],
  ] as const;
  const scopes = [
    [t("export.shown", { n: session.matches?.total ?? session.total }), filterQuery(filters)],
    [t("export.all", { n: session.total }), {}],
  ] as const;
  const url = (format: string, query: object) =>
    address("run/export", { task_id: session.taskId, format, ...query });
  return html`<details class="menu right">
    <summary>${t("export.title")}</summary>
    <div class="panel">
      ${scopes.map(
        ([title, query]) => html`<h4>${title}</h4>
          <p>
            ${formats.map(([format, name]) => html`<a class="button" download href=${url(format, query)}>${name}</a>`)}
            <button @click=${() => copyExport(url("ndjson", query))}>${t("copy")}</button>
          </p>`,
      )}
      <p class="hint">${t("export.hint")}</p>
    </div>
  </details>`;
}

async function copyExport(url: string): Promise<void> {
  const response = await fetch(url);
  const text = response.ok ? await response.text() : "";
  if (text.length > MOST_COPIED) return toast(t("export.tooLarge", { n: n(Math.round(text.length / 1e6)) }));
  toast(text !== "" && (await copy(text)) ? t("copied") : t("copyFailed"));
}
