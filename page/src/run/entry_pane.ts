// What is known of the selected entry, or of the operation that it begins.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { get } from "../api/client";
import type { EntriesPage, Entry } from "../api/types";
import { duration, t } from "../i18n/language";
import { stateText } from "../i18n/names";
import { clock, dateAndTime, microsecondsOf, visible } from "../model/format";
import { type Filters, NO_FILTERS, searchOf } from "../model/place";
import { type Item, isOperation, type Operation } from "../model/tree";
import { errorBox } from "../ui/boxes";
import { copy, PageElement } from "../ui/element";
import { levelIcon, stateIcon } from "../ui/icons";
import { marked } from "../ui/marked";
import { router } from "../ui/router";
import { toast } from "../ui/toast";

const LONGEST_MESSAGE = 20_000;

@customElement("entry-pane")
export class EntryPane extends PageElement {
  @property({ attribute: false }) taskId = "";
  @property({ attribute: false }) entryId = "";
  /** What the waterfall shows of it; null while that is not known. */
  @property({ attribute: false }) item: Item | null = null;
  @property({ attribute: false }) onClose: () => void = () => {};
  @state() private entries: Entry[] = [];
  @state() private isRead = false;
  @state() private error: unknown = null;
  @state() private wholeMessages = new Set<string>();
  private asked = "";

  protected override willUpdate(): void {
    const ids = this.idsToShow();
    if (ids.join() === this.asked) return;
    this.asked = ids.join();
    void this.read(ids);
  }

  private idsToShow(): string[] {
    if (this.item === null || !isOperation(this.item) || this.item.isGroup) return [this.entryId];
    return [this.item.begin?.id, this.item.end?.id].filter(id => id !== undefined);
  }

  private async read(ids: string[]): Promise<void> {
    const asked = this.asked;
    this.error = null;
    try {
      const { entries } = await get<EntriesPage>("run/entries", { task_id: this.taskId, id: ids });
      if (asked !== this.asked) return;
      this.entries = entries;
      this.isRead = true;
    } catch (error) {
      if (asked === this.asked) this.error = error;
    }
  }

  override render(): TemplateResult {
    const operation = this.item !== null && isOperation(this.item) ? this.item : null;
    return html`<header class="pane-head">
        <span class="grow"></span>
        <button @click=${() => this.copyLink()}>${t("entry.copyLink")}</button>
        <button @click=${() => router.change({ mode: router.place.mode === "log" ? "waterfall" : "log" }, true)}>
          ${router.place.mode === "log" ? t("entry.inWaterfall") : t("entry.inLog")}
        </button>
        <button class="close" aria-label=${t("close")} title=${t("close")} @click=${this.onClose}>✕</button>
      </header>
      ${operation && !operation.isGroup ? this.operation(operation) : nothing}
      ${this.error ? errorBox(this.error) : nothing}
      ${this.isRead && this.entries.length === 0 ? html`<div class="box">${t("entry.notFound")}</div>` : nothing}
      ${this.entries.map((entry, i) => this.entry(entry, operation, i))}`;
  }

  private operation(operation: Operation): TemplateResult {
    const state = operation.state;
    const endedAt = operation.endedAt;
    return html`<section class="summary">
      <h2 dir="auto">${stateIcon(state ?? "running")} ${visible(operation.name ?? this.entries[0]?.message ?? "…")}</h2>
      <dl class="fields">
        ${this.field(t("run.state"), state === null ? t("run.open") : stateText(state))}
        ${this.field(t("run.duration"), operation.durationMs === null ? "" : duration(operation.durationMs))}
        ${this.field(t("run.began"), dateAndTime(operation.beganAt))}
        ${this.field(t("run.ended"), endedAt === null ? "" : dateAndTime(endedAt))}
        ${this.field(t("run.within"), t("run.entriesAndErrors", { n: operation.entries, errors: operation.errors }))}
      </dl>
      <p>${this.filterLink(t("entry.onlyThis"), { operation: [operation.id] })}</p>
    </section>`;
  }

  private entry(entry: Entry, operation: Operation | null, index: number): TemplateResult {
    const role =
      operation === null || operation.isGroup ? "" : entry.id === operation.end?.id ? "end" : "begin";
    const title = role === "end" ? t("run.end") : role === "begin" ? t("run.begin") : "";
    const at = microsecondsOf(entry.created_at);
    return html`<section class="entry ${entry.level}">
      <h2>${levelIcon(entry.level)} <span>${title || entry.level}</span> <time title=${entry.created_at}>${clock(at)}</time></h2>
      ${this.message(entry)}
      <dl class="fields">
        ${this.field(t("entry.time"), `${dateAndTime(at)}`, entry.created_at)}
        ${this.field(t("filter.level"), entry.level)}
        ${this.field(t("filter.category"), this.filterLink(entry.category, { category: [entry.category] }))}
        ${entry.step ? this.field(t("filter.step"), this.filterLink(entry.step, { step: [entry.step] })) : nothing}
        ${
          entry.agent_name
            ? this.field(t("filter.agent"), this.filterLink(entry.agent_name, { agent: [entry.agent_name] }))
            : nothing
        }
        ${this.field(t("run.duration"), entry.duration_ms === null ? "" : duration(entry.duration_ms))}
        ${this.copiable("roadmap_id", entry.roadmap_id)} ${this.copiable("concept_id", entry.concept_id)}
        ${this.copiable("operation_id", entry.operation_id)} ${this.copiable("parent_id", entry.parent_id)}
        ${this.copiable("trace_id", entry.trace_id)} ${this.copiable("span_id", entry.span_id)}
        ${this.copiable("id", entry.id)}
      </dl>
      ${
        entry.details === null || entry.details === undefined
          ? nothing
          : html`<details class="json" ?open=${index === this.entries.length - 1 || operation === null}>
            <summary>${t("entry.details")}</summary>
            <json-view .value=${entry.details}></json-view>
          </details>`
      }
    </section>`;
  }

  private message(entry: Entry): TemplateResult {
    const { message } = entry;
    const isCut = message.length > LONGEST_MESSAGE && !this.wholeMessages.has(entry.id);
    const text = isCut ? message.slice(0, LONGEST_MESSAGE) : message;
    return html`<pre class="text" dir="auto">${marked(visible(text))}</pre>
      <p class="tools">
        ${
          isCut
            ? html`${t("text.cut", { shown: text.length, all: message.length })}
              <button @click=${() => this.showWhole(entry.id)}>${t("text.showAll")}</button>`
            : nothing
        }
        <button @click=${() => this.copyText(message)}>${t("entry.copyMessage")}</button>
        <button @click=${() => this.copyText(JSON.stringify(entry, null, 2))}>${t("entry.copyJson")}</button>
      </p>`;
  }

  private showWhole(id: string): void {
    this.wholeMessages = new Set([...this.wholeMessages, id]);
  }

  private field(name: string, value: unknown, title = ""): TemplateResult | typeof nothing {
    if (value === "" || value === null) return nothing;
    return html`<dt>${name}</dt>
      <dd title=${title || nothing} dir="auto">${typeof value === "string" ? visible(value) : value}</dd>`;
  }

  private copiable(name: string, value: string | null): TemplateResult | typeof nothing {
    if (!value) return nothing;
    return html`<dt>${name}</dt>
      <dd>
        <code>${visible(value)}</code>
        <button class="small" aria-label="${t("copy")} ${name}" @click=${() => this.copyText(value)}>${t("copy")}</button>
      </dd>`;
  }

  private filterLink(text: string, filters: Partial<Filters>): TemplateResult {
    const place = { ...router.place, filters: { ...NO_FILTERS, ...filters } };
    return html`<a
      href=${searchOf(place)}
      title=${t("entry.filterBy")}
      @click=${(event: MouseEvent) => {
        event.preventDefault();
        router.change({ filters: place.filters }, true);
      }}
      >${visible(text)}</a
    >`;
  }

  private copyLink(): void {
    const place = { run: this.taskId, entry: this.entryId, mode: router.place.mode };
    void this.copyText(new URL(searchOf(place), location.href).href);
  }

  private async copyText(text: string): Promise<void> {
    toast((await copy(text)) ? t("copied") : t("copyFailed"));
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "entry-pane": EntryPane;
  }
}
