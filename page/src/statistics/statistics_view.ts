// What the runs of some days have in common: how much, how slow, which errors.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { get } from "../api/client";
import type { ErrorGroup, ErrorGroups, Statistics } from "../api/types";
import { duration, n, t } from "../i18n/language";
import { dateAndTime, firstLine, microsecondsOf, visible } from "../model/format";
import { type Place, searchOf } from "../model/place";
import { hoursBetween, type NameSummary, ofDimension, series, summaries } from "../model/summaries";
import { errorBox, loadingBox } from "../ui/boxes";
import { PageElement } from "../ui/element";
import { follow, router } from "../ui/router";
import type { Line } from "./chart";
import "./chart";

const SPANS = [24, 72, 168, 720] as const; // hours
const MOST_LINES = 4;
const MOST_NAMES = 50;
const COLOURS = ["--accent", "--warn", "--good", "--bad"] as const;

@customElement("statistics-view")
export class StatisticsView extends PageElement {
  @property({ attribute: false }) place!: Place;
  @state() private statistics: Statistics | null = null;
  @state() private errors: ErrorGroups | null = null;
  @state() private error: unknown = null;
  private asked = "";
  private reading = new AbortController();

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.reading.abort();
  }

  protected override willUpdate(): void {
    const { since, until } = this.place.filters;
    const key = `${since} ${until}`;
    if (key === this.asked) return;
    this.asked = key;
    void this.read({ since, until });
  }

  /** The two are independent: errors are looked for in the entries, which may take longer. */
  private async read(span: { since: string; until: string }): Promise<void> {
    this.reading.abort();
    this.reading = new AbortController();
    const { signal } = this.reading;
    this.error = null;
    const failed = (error: unknown) => {
      if (!signal.aborted) this.error = error;
    };
    get<Statistics>("statistics", span, signal).then(statistics => {
      this.statistics = statistics;
    }, failed);
    get<ErrorGroups>("errors", span, signal).then(errors => {
      this.errors = errors;
    }, failed);
  }

  override render(): TemplateResult {
    return html`<main class="statistics" id="main">
      <header class="view-head">
        <h1>${t("nav.statistics")}</h1>
        <span class="grow"></span>
        ${this.spanSwitch()}
      </header>
      ${this.error ? errorBox(this.error, () => location.reload()) : nothing}
      ${this.statistics ? this.figures(this.statistics) : this.error ? nothing : loadingBox()}
      ${this.errors ? this.errorTable(this.errors) : nothing}
    </main>`;
  }

  private spanSwitch(): TemplateResult {
    const { since } = this.place.filters;
    const shown = since ? Math.round((Date.now() - Date.parse(since)) / 3_600_000) : 24;
    const names = {
      24: t("stats.day"),
      72: t("stats.days", { n: 3 }),
      168: t("stats.days", { n: 7 }),
      720: t("stats.days", { n: 30 }),
    };
    const choose = (hours: number) => {
      const from = hours === 24 ? "" : new Date(Date.now() - hours * 3_600_000).toISOString();
      router.change({ filters: { ...this.place.filters, since: from, until: "" } });
    };
    return html`<div class="switch" role="group" aria-label=${t("stats.span")}>
      ${SPANS.map(
        hours => html`<button aria-pressed=${Math.abs(shown - hours) <= hours / 10} @click=${() => choose(hours)}>
          ${names[hours]}
        </button>`,
      )}
    </div>`;
  }

  private figures(statistics: Statistics): TemplateResult {
    const { hours, since, until } = statistics;
    if (hours.length === 0) return html`<div class="box">${t("stats.none")}</div>`;
    const times = hoursBetween(since, until);
    const all = ofDimension(hours, "all");
    const sum = (field: "entries" | "errors") => all.reduce((one, hour) => one + hour[field], 0);
    const lines: Line[] = [
      {
        label: t("runs.entries"),
        values: series(times, all, hour => hour.entries, 0),
        colour: "--run-fill",
        isBars: true,
      },
      {
        label: t("stats.errors"),
        values: series(times, all, hour => hour.errors || null, null),
        colour: "--bad",
        isBars: true,
      },
    ];
    return html`<p class="counts">
        <strong>${t("run.entries", { n: sum("entries") })}</strong>, ${t("run.errors", { n: sum("errors") })}
        ${this.unknownHours(statistics)}
      </p>
      <section class="card">
        <h2>${t("stats.perHour")}</h2>
        <time-chart .times=${times} .lines=${lines} .label=${t("stats.perHour")} .format=${(value: number) => n(value)}></time-chart>
      </section>
      ${this.durations(statistics, times)}`;
  }

  /** Hours that neither the job nor this request has counted. */
  private unknownHours(statistics: Statistics): TemplateResult | typeof nothing {
    const { since, counted_until: counted, uncounted_until: to } = statistics;
    const from = counted !== null && counted > since ? counted : since;
    if (Date.parse(from) >= Date.parse(to)) return nothing;
    const [first, last] = [from, to].map(one => dateAndTime(microsecondsOf(one)));
    return html` · <span class="hint">${t("stats.unknown", { from: first ?? "", to: last ?? "" })}</span>`;
  }

  private durations({ hours }: Statistics, times: number[]): TemplateResult {
    const dimension = this.place.dimension === "agent" ? "agent" : "step";
    const ofIt = ofDimension(hours, dimension);
    const known = summaries(ofIt);
    const names = this.place.name.length > 0 ? this.place.name : known.slice(0, 2).map(one => one.name);
    const lines = names.slice(0, MOST_LINES).flatMap((name, i): Line[] => {
      const own = ofIt.filter(hour => hour.name === name);
      const colour = COLOURS[i % COLOURS.length] ?? "--accent";
      return [
        { label: `${visible(name)} p50`, values: series(times, own, hour => hour.p50_ms, null), colour },
        {
          label: `${visible(name)} p95`,
          values: series(times, own, hour => hour.p95_ms, null),
          colour,
          isDashed: true,
        },
      ];
    });
    return html`<section class="card">
      <header>
        <h2>${t("stats.durations")}</h2>
        <div class="switch" role="group" aria-label=${t("stats.dimension")}>
          ${(["step", "agent"] as const).map(
            one => html`<button aria-pressed=${one === dimension} @click=${() => router.change({ dimension: one, name: [] })}>
              ${one === "step" ? t("filter.step") : t("filter.agent")}
            </button>`,
          )}
        </div>
      </header>
      ${
        known.length === 0
          ? html`<p class="hint">${t("stats.noneTimed")}</p>`
          : html`
        <time-chart .times=${times} .lines=${lines} .label=${t("stats.durations")} .format=${duration}></time-chart>
        ${this.nameTable(known, names)}`
      }
    </section>`;
  }

  private nameTable(known: readonly NameSummary[], names: readonly string[]): TemplateResult {
    const most = Math.max(...known.map(one => one.p95 ?? 0), 1);
    return html`<table class="plain">
      <caption class="unseen">${t("stats.slowest")}</caption>
      <thead>
        <tr>
          <th><span class="unseen">${t("stats.draw")}</span></th>
          <th scope="col">${t("filter.name")}</th>
          <th scope="col" class="number">${t("runs.entries")}</th>
          <th scope="col" class="number">${t("stats.errors")}</th>
          <th scope="col" class="number">p50</th>
          <th scope="col" class="number">${t("stats.slowestHour")}</th>
          <td></td>
        </tr>
      </thead>
      <tbody>
        ${known.slice(0, MOST_NAMES).map(
          one => html`<tr>
            <td><input type="checkbox" aria-label="${t("stats.draw")}: ${one.name}" .checked=${names.includes(one.name)} @change=${() => this.draw(one.name, names)} /></td>
            <td dir="auto">${visible(one.name)}</td>
            <td class="number">${n(one.entries)}</td>
            <td class="number">${one.errors > 0 ? html`<span class="errors">${n(one.errors)}</span>` : nothing}</td>
            <td class="number">${one.p50 === null ? "–" : duration(one.p50)}</td>
            <td class="number">${one.p95 === null ? "–" : duration(one.p95)}</td>
            <td><progress max=${most} value=${one.p95 ?? 0} aria-hidden="true"></progress></td>
          </tr>`,
        )}
      </tbody>
    </table>
    ${known.length > MOST_NAMES ? html`<p class="hint">${t("run.matches", { n: MOST_NAMES, all: known.length })}</p>` : nothing}`;
  }

  private draw(name: string, names: readonly string[]): void {
    const others = names.filter(one => one !== name);
    router.change({ name: others.length < names.length ? others : [...names, name].slice(-MOST_LINES) });
  }

  private errorTable({ groups, looked_at: lookedAt, is_complete: isComplete }: ErrorGroups): TemplateResult {
    return html`<section class="card">
      <h2>${t("stats.frequent")}</h2>
      ${groups.length === 0 ? html`<p class="hint">${t("stats.noErrors")}</p>` : html`<ol class="error-groups">${groups.map(group => this.errorGroup(group))}</ol>`}
      <p class="hint">${isComplete ? t("stats.lookedAt", { n: lookedAt }) : t("stats.lookedAtPart", { n: lookedAt })}</p>
    </section>`;
  }

  private errorGroup(group: ErrorGroup): TemplateResult {
    const where = [group.step, group.agent].filter(Boolean).join(" · ");
    return html`<li>
      <span class="errors">${n(group.entries)}</span>
      <div>
        <a dir="auto" href=${searchOf({ run: group.task_id, entry: group.entry_id })} @click=${follow}>${firstLine(group.message, 200)}</a>
        <p class="hint">
          ${t("stats.inRuns", { n: group.runs })} ${where ? html`· <span dir="auto">${visible(where)}</span>` : nothing}
          · ${t("stats.lastAt", { time: dateAndTime(microsecondsOf(group.last_at)) })}
        </p>
      </div>
    </li>`;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "statistics-view": StatisticsView;
  }
}
