// The waterfall: a line for each operation and entry, with the time that it took.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import type { RunState } from "../api/types";
import { duration, n, roundDuration, t } from "../i18n/language";
import { clock, visible } from "../model/format";
import type { Row } from "../model/log";
import { keyOf } from "../model/selection";
import { type Span, TimeScale } from "../model/timescale";
import { isOperation, type Line, type Operation } from "../model/tree";
import { PageElement, styled } from "../ui/element";
import { icon, levelIcon, stateIcon } from "../ui/icons";
import { marked } from "../ui/marked";
import type { VirtualList } from "../ui/virtual_list";
import { bar, mark } from "./bars";
import type { RunSession } from "./session";
import type { Shown } from "./shown";

const ROW_HEIGHT = 26;
/** Of a time on the axis, with its margin. */
const CHARACTER_WIDTH = 9;
/** To both sides of the times, for the marks at their edges. */
const MARGIN = 8;

@customElement("run-waterfall")
export class Waterfall extends PageElement {
  /** It changes itself: whoever sets it says that it has. */
  @property({ attribute: false, hasChanged: () => true }) session!: RunSession;
  @property({ attribute: false }) shown!: Shown;
  @property({ attribute: false }) lines: readonly Line[] = [];
  @property({ attribute: false }) selected = -1;
  /** null: all of the run. */
  @property({ attribute: false }) zoom: Span | null = null;
  /** The present in microseconds, until which open operations of a running run reach. */
  @property({ attribute: false }) now: number | null = null;
  @property({ attribute: false }) onSelect: (key: string) => void = () => {};
  @property({ attribute: false }) onToggle: (operation: Operation) => void = () => {};
  @property({ attribute: false }) onZoom: (zoom: Span | null) => void = () => {};
  @property({ attribute: false }) onScroll: (isAtEnd: boolean) => void = () => {};
  @state() private width = 800;

  private scale = new TimeScale({ from: 0, to: 1 }, 100, []);
  private dragFrom = -1;

  get list(): VirtualList | null {
    return this.querySelector("virtual-list");
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.addEventListener("wheel", this.wheeled, { passive: false });
    this.addEventListener("pointermove", this.pointed);
    this.addEventListener("pointerleave", () => this.classList.remove("pointing"));
  }

  private get namesWidth(): number {
    return Math.round(this.width * (this.width < 560 ? 0.5 : 0.42));
  }

  private get extent(): Span {
    const { from, to } = this.shown.extent;
    return { from, to: Math.max(to, this.now ?? to) };
  }

  override render(): TemplateResult {
    const extent = this.extent;
    const busy = this.now === null ? this.shown.busy : [...this.shown.busy, { from: this.now, to: this.now }];
    const width = Math.max(this.width - this.namesWidth - 2 * MARGIN, 40);
    this.scale = new TimeScale(this.zoom ?? extent, width, busy, extent.from);
    return html`<div class="axis" ${styled({ "--names": `${this.namesWidth}px` })}>
        <span class="names">${t("run.name")}</span>
        <div
          class="times"
          @pointerdown=${this.dragBegan}
          @dblclick=${() => this.onZoom(null)}
          title=${t("run.zoomHint")}
        >
          ${this.ticks()}
          <span class="selecting" hidden></span>
          <output class="moment"></output>
        </div>
      </div>
      <virtual-list
        role="tree"
        tabindex="0"
        aria-label=${t("run.waterfall")}
        aria-activedescendant=${this.selected >= 0 ? `line-${this.selected}` : nothing}
        .count=${this.lines.length}
        .rowHeight=${ROW_HEIGHT}
        .renderRow=${(index: number) => this.row(index)}
        .background=${this.background()}
        .onRange=${this.inSight}
        .onWidth=${(width: number) => {
          this.width = width;
        }}
        .onScroll=${this.onScroll}
        ${styled({ "--names": `${this.namesWidth}px` })}
      ></virtual-list>`;
  }

  private ticks(): TemplateResult[] {
    const gaps = this.scale.gaps.map(
      ({ x, width }) => html`<span class="gap" ${styled({ left: `${x}px`, width: `${width}px` })}>⋯</span>`,
    );
    // None is where a closed gap would cover it.
    const isFree = (x: number, text: string) =>
      this.scale.gaps.every(gap => x + text.length * CHARACTER_WIDTH < gap.x || x > gap.x + gap.width);
    const ticks = this.scale
      .ticks(84)
      .map(({ x, at }) => ({ x, at, text: roundDuration((at - this.extent.from) / 1000) }))
      .filter(({ x, text }) => isFree(x, text))
      .map(
        ({ x, at, text }) =>
          html`<span class="tick" title=${clock(at)} ${styled({ left: `${x}px` })}>${text}</span>`,
      );
    return [...ticks, ...gaps];
  }

  /** Lines of time and closed gaps, behind all rows. */
  private background(): TemplateResult {
    const gaps = this.scale.gaps.map(
      gap => html`<span
        class="gap"
        title=${t("run.idle", { duration: duration((gap.to - gap.from) / 1000) })}
        ${styled({ left: `${gap.x}px`, width: `${gap.width}px` })}
      ></span>`,
    );
    const lines = this.scale
      .ticks(84)
      .map(({ x }) => html`<i class="tick" ${styled({ left: `${x}px` })}></i>`);
    return html`<div class="grid" role="presentation">${lines}${gaps}<i class="cursor"></i></div>`;
  }

  private row(index: number): TemplateResult | typeof nothing {
    const line = this.lines[index];
    if (line === undefined) return nothing;
    const { item, depth } = line;
    const operation = isOperation(item) ? item : null;
    const isOpen = operation === null ? nothing : String(!this.shown.isClosed(operation));
    const isSelected = index === this.selected;
    return html`<div
      class="row ${isSelected ? "selected" : ""} ${operation ? "operation" : ""}"
      id="line-${index}"
      role="treeitem"
      aria-level=${depth + 1}
      aria-setsize=${this.lines.length}
      aria-posinset=${index + 1}
      aria-expanded=${operation && operation.children.length > 0 ? isOpen : nothing}
      aria-selected=${isSelected}
      @click=${() => this.onSelect(keyOf(item))}
      @dblclick=${() => operation && this.onToggle(operation)}
    >
      <span class="names" ${styled({ "--depth": String(Math.min(depth, 20)) })}>
        ${operation ? this.operationName(operation) : this.entryName(line)}
      </span>
      <span class="bars">${operation ? bar(this.scale, operation, this.stateOf(operation), this.now) : mark(this.scale, item as Row)}</span>
    </div>`;
  }

  private operationName(operation: Operation): TemplateResult {
    const first = operation.own[0];
    const name = operation.name ?? (first ? this.session.briefs.get(first.id) : null) ?? "…";
    const who = [first?.step, first?.agent].filter(text => text && text !== name).join(" · ");
    const isClosed = this.shown.isClosed(operation);
    return html`${
      operation.children.length > 0
        ? html`<button
            class="toggle ${isClosed ? "closed" : ""}"
            tabindex="-1"
            aria-label=${isClosed ? t("run.expand") : t("run.collapse")}
            @click=${(event: Event) => {
              event.stopPropagation();
              this.onToggle(operation);
            }}
          ></button>`
        : html`<i class="toggle none"></i>`
    }
      ${operation.isGroup ? icon("none") : stateIcon(this.stateOf(operation))}
      ${operation.isRetry ? icon("retry", t("run.retry")) : nothing}
      <b class="name" dir="auto">${marked(visible(name))}</b>
      ${who ? html`<span class="who" dir="auto">${visible(who)}</span>` : nothing}
      ${
        operation.errors > 0
          ? html`<span class="errors" title=${t("run.errorsWithin", { n: operation.errors })}
            >${n(operation.errors)}</span
          >`
          : nothing
      }
      ${isClosed ? html`<span class="hidden-count">+${n(operation.entries)}</span>` : nothing}`;
  }

  /** null: whether it has an end is not known before all has been read. */
  private stateOf(operation: Operation): RunState | null {
    if (operation.state !== null || !this.session.isLoaded) return operation.state;
    return this.now === null ? "no end recorded" : "running";
  }

  private entryName({ item }: Line): TemplateResult | typeof nothing {
    if (isOperation(item)) return nothing;
    const text = this.session.briefs.get(item.id);
    return html`<i class="toggle none"></i>${levelIcon(item.level)}
      ${item.category === "retry" ? icon("retry", t("run.retry")) : nothing}
      <span class="message ${text === undefined ? "waiting" : ""} ${item.level}" dir="auto">${marked(text ?? "…")}</span>`;
  }

  private readonly inSight = (first: number, last: number): void => {
    const ids: string[] = [];
    for (const { item } of this.lines.slice(first, last)) {
      if (!isOperation(item)) ids.push(item.id);
      else if (item.name === null && item.own[0]) ids.push(item.own[0].id);
    }
    this.session.briefs.want(ids);
  };

  /** Pixels from the left of the times. */
  private xOf(event: MouseEvent): number {
    return event.clientX - this.getBoundingClientRect().left - this.namesWidth - MARGIN;
  }

  private readonly wheeled = (event: WheelEvent): void => {
    const window = this.scale.window;
    const length = window.to - window.from;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.zoomBy(1.25 ** (event.deltaY / 100), this.scale.at(this.xOf(event)));
    } else if (this.zoom !== null && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      const by = (event.deltaX / this.scale.width) * length;
      this.onZoom({ from: window.from + by, to: window.to + by });
    }
  };

  /** @param factor of what is shown; below one shows less. */
  zoomBy(factor: number, center = (this.scale.window.from + this.scale.window.to) / 2): void {
    const { from, to } = this.scale.window;
    const next = { from: center - (center - from) * factor, to: center + (to - center) * factor };
    if (next.to - next.from < 20) return;
    const isAll = next.from <= this.extent.from && next.to >= this.extent.to;
    this.onZoom(isAll ? null : next);
  }

  private readonly pointed = (event: PointerEvent): void => {
    const x = this.xOf(event);
    const isInside = x >= 0 && x <= this.scale.width;
    this.classList.toggle("pointing", isInside);
    if (!isInside) return;
    this.style.setProperty("--cursor", `${x}px`);
    const at = this.scale.at(x);
    const moment = this.querySelector(".moment");
    if (moment) moment.textContent = `${clock(at)}  +${duration((at - this.extent.from) / 1000)}`;
    if (this.dragFrom >= 0) this.markSelection(x);
  };

  private markSelection(x: number): void {
    const selecting = this.querySelector<HTMLElement>(".selecting");
    if (selecting === null) return;
    selecting.hidden = false;
    selecting.style.setProperty("left", `${Math.min(x, this.dragFrom)}px`);
    selecting.style.setProperty("width", `${Math.abs(x - this.dragFrom)}px`);
  }

  private readonly dragBegan = (event: PointerEvent): void => {
    this.dragFrom = this.xOf(event);
    const ended = (up: PointerEvent) => {
      removeEventListener("pointerup", ended);
      const span = [this.dragFrom, this.xOf(up)].sort((a, b) => a - b).map(x => this.scale.at(x)) as [
        number,
        number,
      ];
      const isDrag = Math.abs(this.xOf(up) - this.dragFrom) > 5;
      this.dragFrom = -1;
      const selecting = this.querySelector<HTMLElement>(".selecting");
      if (selecting) selecting.hidden = true;
      if (isDrag) this.onZoom({ from: span[0], to: span[1] });
    };
    addEventListener("pointerup", ended);
  };
}

declare global {
  interface HTMLElementTagNameMap {
    "run-waterfall": Waterfall;
  }
}
