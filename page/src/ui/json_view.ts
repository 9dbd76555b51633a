// A JSON value as a tree: branches are walked through when they are opened, lines are drawn when they are in sight.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { n, t } from "../i18n/language";
import { visible } from "../model/format";
import {
  findInJson,
  idOf,
  isBranch,
  type JsonLine,
  jsonLines,
  openedFirst,
  type Path,
  pathText,
} from "../model/json";
import { copy, PageElement, styled } from "./element";
import { marked } from "./marked";
import { toast } from "./toast";

const ROW_HEIGHT = 22;
const FIRST_LINES = 60;
const LONGEST_VALUE = 200;
const LONGEST_TEXT = 100_000;

@customElement("json-view")
export class JsonView extends PageElement {
  @property({ attribute: false }) value: unknown = null;
  @state() private opened = new Set<string>();
  @state() private found: Path[] = [];
  @state() private current = -1;
  /** The path of the value that is shown in full. */
  @state() private whole: JsonLine | null = null;

  protected override willUpdate(changed: Map<string, unknown>): void {
    if (!changed.has("value")) return;
    this.opened = openedFirst(this.value, FIRST_LINES);
    this.found = [];
    this.current = -1;
    this.whole = null;
  }

  override render(): TemplateResult {
    const lines = jsonLines(this.value, this.opened);
    const current = this.found[this.current];
    const height = Math.min(lines.length, 24) * ROW_HEIGHT;
    return html`<div class="json-tools">
        <input
          type="search"
          placeholder=${t("json.search")}
          aria-label=${t("json.search")}
          @input=${(event: InputEvent) => this.search((event.target as HTMLInputElement).value)}
          @keydown=${(event: KeyboardEvent) => event.key === "Enter" && this.step(event.shiftKey ? -1 : 1)}
        />
        <span aria-live="polite">
          ${this.found.length > 0 ? `${n(this.current + 1)} / ${n(this.found.length)}` : nothing}
        </span>
        <button @click=${() => this.copyText(JSON.stringify(this.value, null, 2))}>${t("copy")}</button>
      </div>
      <virtual-list
        role="tree"
        tabindex="0"
        aria-label=${t("entry.details")}
        .count=${lines.length}
        .rowHeight=${ROW_HEIGHT}
        .renderRow=${(index: number) => this.line(lines[index], current)}
        ${styled({ height: `${height}px` })}
      ></virtual-list>
      ${this.whole ? this.wholeValue(this.whole) : nothing}`;
  }

  private line(line: JsonLine | undefined, current: Path | undefined): TemplateResult | typeof nothing {
    if (line === undefined) return nothing;
    const isCurrent = current !== undefined && idOf(current) === line.id;
    const text = summary(line);
    const isLong = typeof line.value === "string" && text.length > LONGEST_VALUE;
    return html`<div
      class="json-line ${isCurrent ? "selected" : ""}"
      role="treeitem"
      aria-level=${line.depth + 1}
      aria-expanded=${line.size ? String(line.isOpen) : nothing}
      ${styled({ "--depth": String(Math.min(line.depth, 30)) })}
      @click=${() => (line.size ? this.toggle(line.id) : isLong && this.showWhole(line))}
    >
      ${
        line.size
          ? html`<i class="toggle ${line.isOpen ? "" : "closed"}"></i>`
          : html`<i class="toggle none"></i>`
      }
      ${line.path.length > 0 ? html`<span class="key">${marked(visible(String(line.path.at(-1))))}</span>` : nothing}
      <span class="value ${kindOf(line.value)}" dir="auto">${marked(text.slice(0, LONGEST_VALUE))}${isLong ? "…" : ""}</span>
      <span class="copies">
        <button title=${t("json.copyValue")} @click=${(event: Event) => this.copied(event, valueText(line.value))}>
          ${t("copy")}
        </button>
        <button title=${t("json.copyPath")} @click=${(event: Event) => this.copied(event, pathText(line.path))}>
          ${t("json.path")}
        </button>
      </span>
    </div>`;
  }

  private wholeValue(line: JsonLine): TemplateResult {
    const text = String(line.value);
    const isCut = text.length > LONGEST_TEXT;
    return html`<div class="whole">
      <header>
        <code>${visible(pathText(line.path))}</code>
        <button @click=${() => this.copyText(text)}>${t("copy")}</button>
        <button @click=${() => this.showWhole(null)}>${t("close")}</button>
      </header>
      <pre dir="auto">${marked(visible(text.slice(0, LONGEST_TEXT)))}</pre>
      ${isCut ? html`<p>${t("text.cut", { shown: LONGEST_TEXT, all: text.length })}</p>` : nothing}
    </div>`;
  }

  private showWhole(line: JsonLine | null): void {
    this.whole = line;
  }

  private toggle(id: string): void {
    const opened = new Set(this.opened);
    if (!opened.delete(id)) opened.add(id);
    this.opened = opened;
  }

  private search(text: string): void {
    this.found = text === "" ? [] : findInJson(this.value, text);
    this.current = -1;
    this.step(1);
  }

  private step(by: number): void {
    if (this.found.length === 0) return;
    this.current = (this.current + by + this.found.length) % this.found.length;
    const path = this.found[this.current] as Path;
    const opened = new Set(this.opened);
    for (let length = 1; length < path.length; length++) opened.add(idOf(path.slice(0, length)));
    this.opened = opened;
    const index = jsonLines(this.value, opened).findIndex(line => line.id === idOf(path));
    void this.updateComplete.then(() => this.querySelector("virtual-list")?.scrollToRow(index, "middle"));
  }

  private copied(event: Event, text: string): void {
    event.stopPropagation();
    void this.copyText(text);
  }

  private async copyText(text: string): Promise<void> {
    toast((await copy(text)) ? t("copied") : t("copyFailed"));
  }
}

function kindOf(value: unknown): string {
  return value === null ? "null" : typeof value;
}

function summary({ value, size }: JsonLine): string {
  if (isBranch(value)) return Array.isArray(value) ? `[${size}]` : `{${size}}`;
  if (typeof value === "string") return visible(value.slice(0, LONGEST_VALUE + 1)).replaceAll("\n", "⏎");
  return String(value);
}

function valueText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

declare global {
  interface HTMLElementTagNameMap {
    "json-view": JsonView;
  }
}
