// The list of runs.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { get } from "../api/client";
import { RUN_STATES, type Run, type Statistics } from "../api/types";
import { duration, n, t } from "../i18n/language";
import { stateText } from "../i18n/names";
import { dateAndTime, microsecondsOf, visible } from "../model/format";
import { type Filters, hasFilters, NO_FILTERS, type Place, searchOf } from "../model/place";
import { errorBox, loadingBox } from "../ui/boxes";
import { PageElement } from "../ui/element";
import { filterFields, type Known, NOTHING_KNOWN } from "../ui/filter_fields";
import { icon, stateIcon } from "../ui/icons";
import { follow, router } from "../ui/router";
import { sparkline } from "../ui/sparkline";
import { Activity } from "./activity";
import { emptyRuns } from "./empty";
import { knownFrom } from "./known";
import { RunList } from "./run_list";

const TICK_MS = 1000;

@customElement("runs-view")
export class RunsView extends PageElement {
  @property({ attribute: false }) place!: Place;
  @state() private chosen: string[] = [];
  @state() private known: Known = NOTHING_KNOWN;
  private list!: RunList;
  private activity!: Activity;

  override connectedCallback(): void {
    super.connectedCallback();
    this.activity = new Activity(() => this.requestUpdate());
    this.list = new RunList(changed => {
      this.activity.forget(changed);
      this.requestUpdate();
    });
    const tick = window.setInterval(() => !document.hidden && this.requestUpdate(), TICK_MS);
    this.listen("keydown", event => this.keyed(event));
    this.untilRemoved(() => {
      clearInterval(tick);
      this.list.close();
      this.activity.close();
    });
    void this.readKnown();
  }

  /** The names that one can filter by: those of the last day. */
  private async readKnown(): Promise<void> {
    try {
      this.known = knownFrom((await get<Statistics>("statistics")).hours);
    } catch (error) {
      console.warn("Names to filter by are not known", error);
    }
  }

  protected override willUpdate(): void {
    this.list.show(this.place);
  }

  protected override updated(): void {
    this.activity.watch(this.querySelectorAll("tr[data-run]"));
  }

  private keyed(event: KeyboardEvent): void {
    const isTyping = (event.target as HTMLElement).closest("input:not([type=checkbox]), select, textarea");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.querySelector<HTMLInputElement>(".filters .search")?.focus();
  }

  override render(): TemplateResult {
    const { list } = this;
    return html`<main class="runs" id="main">
      <header class="view-head">
        <h1>${t("nav.runs")}</h1>
        <span class="fact live ${list.streamState === "open" ? "open" : ""}">${this.liveText()}</span>
        <span class="grow"></span>
        ${this.compareButton()}
      </header>
      <div class="toolbar"><div class="filters" role="search">${this.filters()}</div></div>
      ${
        list.missingIndexes.length > 0
          ? html`<p class="banner">${t("runs.missingIndexes")} <code>${list.missingIndexes.join(", ")}</code></p>`
          : nothing
      }
      ${list.trouble ? html`<p class="banner" role="alert">${list.trouble}</p>` : nothing}
      ${list.error ? errorBox(list.error, () => list.again()) : nothing} ${this.table()} ${this.foot()}
    </main>`;
  }

  private liveText(): string {
    const { streamState } = this.list;
    return streamState === "open"
      ? t("live.on")
      : streamState === "paused"
        ? t("live.paused")
        : t("live.connecting");
  }

  private get isFiltered(): boolean {
    const { filters, state, withErrors } = this.place;
    return hasFilters(filters) || state.length > 0 || withErrors;
  }

  private filters(): TemplateResult {
    const { filters, state, withErrors } = this.place;
    const change = (patch: Partial<Filters>) =>
      router.change({ filters: { ...router.place.filters, ...patch } });
    const states = [...RUN_STATES, "unknown"].map(name => ({ name, entries: -1, errors: 0 }));
    return html`${filterFields(filters, this.known, change)}
      <choice-menu
        .label=${t("run.state")}
        .known=${states}
        .chosen=${state}
        .takesOther=${false}
        .nameOf=${(name: string) => stateText(RUN_STATES.find(one => one === name) ?? null)}
        .onChange=${(chosen: string[]) => router.change({ state: chosen })}
      ></choice-menu>
      <label class="check">
        <input type="checkbox" .checked=${withErrors} @change=${() => router.change({ withErrors: !withErrors })} />
        ${t("runs.withErrors")}
      </label>
      ${this.timeField(t("filter.since"), filters.since, since => change({ since }))}
      ${this.timeField(t("filter.until"), filters.until, until => change({ until }))}
      ${
        this.isFiltered
          ? html`<button @click=${() => router.change({ filters: NO_FILTERS, state: [], withErrors: false }, true)}>
            ${t("filter.clear")}
          </button>`
          : nothing
      }`;
  }

  private timeField(label: string, value: string, change: (iso: string) => void): TemplateResult {
    return html`<label class="time">
      ${label}
      <input
        type="datetime-local"
        .value=${value ? dateAndTime(microsecondsOf(value)).replace(" ", "T").slice(0, 16) : ""}
        @change=${(event: Event) => {
          const text = (event.target as HTMLInputElement).value;
          change(text ? new Date(text).toISOString() : "");
        }}
      />
    </label>`;
  }

  private table(): TemplateResult | typeof nothing {
    const { runs, isAsked, error } = this.list;
    if (runs.length === 0) {
      if (!isAsked) return error ? nothing : loadingBox();
      return this.isFiltered ? html`<div class="box">${t("runs.noMatches")}</div>` : emptyRuns();
    }
    const heads = [
      "run.run",
      "run.began",
      "run.duration",
      "runs.entries",
      "runs.problems",
      "runs.last",
      "runs.activity",
    ] as const;
    return html`<table
      class="run-table"
      @pointerenter=${() => this.list.hold(true)}
      @pointerleave=${() => this.list.hold(false)}
    >
      <thead>
        <tr>
          <th><span class="unseen">${t("compare.choose")}</span></th>
          ${heads.map(head => html`<th scope="col">${t(head)}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${repeat(
          runs,
          run => run.task_id,
          run => this.row(run),
        )}
      </tbody>
    </table>`;
  }

  private row(run: Run): TemplateResult {
    const first = microsecondsOf(run.first_at);
    const took = run.state === "running" ? Date.now() - first / 1000 : run.duration_ms;
    const isChosen = this.chosen.includes(run.task_id);
    return html`<tr data-run=${run.task_id} class=${run.ended_in_error ? "bad" : ""}>
      <td class="choose">
        <input
          type="checkbox"
          .checked=${isChosen}
          aria-label="${t("compare.choose")}: ${run.task_id}"
          @change=${() => this.choose(run.task_id)}
        />
      </td>
      <td class="run-name">
        ${stateIcon(run.state)}
        <a href=${searchOf({ run: run.task_id })} dir="auto" @click=${follow}>${visible(run.task_id)}</a>
        ${run.ended_in_error && run.state !== "failed" ? icon("error", t("runs.endedInError")) : nothing}
      </td>
      <td><time datetime=${run.first_at}>${dateAndTime(first)}</time></td>
      <td class="number">${duration(took)}</td>
      <td class="number">${run.is_cut ? "≥ " : ""}${n(run.entries)}</td>
      <td class="problems">
        ${run.errors > 0 ? html`<span class="errors" title=${t("run.errors", { n: run.errors })}>${n(run.errors)}</span>` : nothing}
        ${
          run.warnings > 0
            ? html`<span class="warnings" title=${t("run.warnings", { n: run.warnings })}>${n(run.warnings)}</span>`
            : nothing
        }
      </td>
      <td class="last" dir="auto">${visible([run.last_step, run.last_agent].filter(Boolean).join(" · "))}</td>
      <td class="activity">${this.picture(run)}</td>
    </tr>`;
  }

  private picture(run: Run): TemplateResult | typeof nothing {
    const values = this.activity.get(run.task_id);
    return values ? sparkline(values, t("runs.activity")) : nothing;
  }

  private choose(taskId: string): void {
    const { chosen } = this;
    // A third one takes the place of the first.
    this.chosen = chosen.includes(taskId)
      ? chosen.filter(one => one !== taskId)
      : [...chosen, taskId].slice(-2);
  }

  private compareButton(): TemplateResult {
    const [compare, other] = this.chosen;
    if (compare === undefined || other === undefined)
      return html`<span class="hint" aria-live="polite">${compare ? t("compare.oneMore") : t("compare.hint")}</span>`;
    return html`<a class="button primary" href=${searchOf({ compare, with: other })} @click=${follow}>${t("compare.two")}</a>`;
  }

  private foot(): TemplateResult | typeof nothing {
    const { runs, next, isLoading, isAsked, isComplete, lookedBackTo } = this.list;
    if (!isAsked || (runs.length === 0 && next === null)) return nothing;
    const until = lookedBackTo
      ? t("runs.lookedBackTo", { time: dateAndTime(microsecondsOf(lookedBackTo)) })
      : "";
    return html`<footer class="foot">
      <span aria-live="polite">
        ${t("runs.shown", { n: runs.length })}
        ${next === null ? t("runs.allShown") : isComplete ? t("runs.olderExist") : until}
      </span>
      ${
        next === null
          ? nothing
          : html`<button ?disabled=${isLoading} @click=${() => this.list.more()}>
            ${isLoading ? t("loading") : isComplete ? t("runs.more") : t("runs.lookFurther")}
          </button>`
      }
    </footer>`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "runs-view": RunsView;
  }
}
