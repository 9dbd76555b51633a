// The plain log: a row for each entry, in the order of time.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { duration, t } from "../i18n/language";
import { clock, dateAndTime, visible } from "../model/format";
import { keyOf } from "../model/selection";
import { isOperation, type Line } from "../model/tree";
import { PageElement } from "../ui/element";
import { icon, levelIcon } from "../ui/icons";
import { marked } from "../ui/marked";
import type { VirtualList } from "../ui/virtual_list";
import type { RunSession } from "./session";

const WIDE = 620;

@customElement("run-log")
export class LogList extends PageElement {
  /** It changes itself: whoever sets it says that it has. */
  @property({ attribute: false, hasChanged: () => true }) session!: RunSession;
  @property({ attribute: false }) lines: readonly Line[] = [];
  @property({ attribute: false }) selected = -1;
  @property({ attribute: false }) onSelect: (key: string) => void = () => {};
  @property({ attribute: false }) onScroll: (isAtEnd: boolean) => void = () => {};
  @state() private width = 800;

  get list(): VirtualList | null {
    return this.querySelector("virtual-list");
  }

  override render(): TemplateResult {
    // On a narrow screen the message has a line of its own.
    const isWide = this.width >= WIDE;
    return html`<virtual-list
      class=${isWide ? "wide" : "narrow"}
      role="listbox"
      tabindex="0"
      aria-label=${t("run.log")}
      aria-activedescendant=${this.selected >= 0 ? `line-${this.selected}` : nothing}
      .count=${this.lines.length}
      .rowHeight=${isWide ? 24 : 42}
      .renderRow=${(index: number) => this.row(index)}
      .onRange=${this.inSight}
      .onWidth=${(width: number) => {
        this.width = width;
      }}
      .onScroll=${this.onScroll}
    ></virtual-list>`;
  }

  private row(index: number): TemplateResult | typeof nothing {
    const item = this.lines[index]?.item;
    if (item === undefined || isOperation(item)) return nothing;
    const text = this.session.briefs.get(item.id);
    const who = [item.step, item.agent, item.tool].filter(Boolean).join(" · ");
    const isSelected = index === this.selected;
    return html`<div
      class="row ${item.level} ${isSelected ? "selected" : ""}"
      id="line-${index}"
      role="option"
      aria-setsize=${this.lines.length}
      aria-posinset=${index + 1}
      aria-selected=${isSelected}
      @click=${() => this.onSelect(keyOf(item))}
    >
      <time title=${dateAndTime(item.at)}>${clock(item.at)}</time>
      ${item.category === "retry" ? icon("retry", t("run.retry")) : levelIcon(item.level)}
      <span class="who" dir="auto" title=${visible(who)}>${visible(who)}</span>
      <span class="message ${text === undefined ? "waiting" : ""}" dir="auto">${marked(text ?? "…")}</span>
      ${item.durationMs === null ? nothing : html`<span class="took">${duration(item.durationMs)}</span>`}
    </div>`;
  }

  private readonly inSight = (first: number, last: number): void => {
    this.session.briefs.want(this.lines.slice(first, last).map(line => keyOf(line.item)));
  };
}

declare global {
  interface HTMLElementTagNameMap {
    "run-log": LogList;
  }
}
