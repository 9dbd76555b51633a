// A list of rows of one height, of which only those in sight are in the document.
import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { PageElement, styled } from "./element";

// Browsers cut what is higher than some ten million pixels: beyond this a pixel of the scroll bar is several.
const TALLEST = 8_000_000;
const SPARE_ROWS = 6;

export type Place = "near" | "middle" | "end";

@customElement("virtual-list")
export class VirtualList extends PageElement {
  @property({ attribute: false }) count = 0;
  @property({ attribute: false }) rowHeight = 24;
  @property({ attribute: false }) renderRow: (index: number) => TemplateResult | typeof nothing = () =>
    nothing;
  /** Called when other rows come into sight. */
  @property({ attribute: false }) onRange: (first: number, last: number) => void = () => {};
  /** Called when the reader scrolls. */
  @property({ attribute: false }) onScroll: (isAtEnd: boolean) => void = () => {};
  @property({ attribute: false }) onWidth: (width: number) => void = () => {};
  @property({ attribute: false }) background: unknown = nothing;

  private first = 0;
  private last = 0;
  private frame = 0;
  private wanted: { index: number; where: Place } | null = null;
  /** Where it has scrolled to by itself, which is no wish of the reader's; NaN once the reader has scrolled. */
  private ownTop = 0;
  private knownWidth = 0;

  override connectedCallback(): void {
    super.connectedCallback();
    const observer = new ResizeObserver(() => this.resized());
    observer.observe(this);
    this.addEventListener("scroll", this.scrolled, { passive: true });
    this.untilRemoved(() => observer.disconnect());
  }

  private get height(): number {
    return this.count * this.rowHeight;
  }

  /** How many pixels of rows one pixel of the scroll bar is. */
  private get factor(): number {
    const view = this.clientHeight;
    return this.height <= TALLEST ? 1 : (this.height - view) / (TALLEST - view);
  }

  private get offset(): number {
    return this.scrollTop * this.factor;
  }

  get isAtEnd(): boolean {
    return this.height - this.offset - this.clientHeight < this.rowHeight * 1.5;
  }

  /** Brings a row into sight as soon as it is there. */
  scrollToRow(index: number, where: Place = "near"): void {
    this.wanted = { index, where };
    this.requestUpdate();
  }

  private scrollToWanted(): void {
    if (this.wanted === null || this.clientHeight === 0) return;
    const { index, where } = this.wanted;
    this.wanted = null;
    const top = index * this.rowHeight;
    const view = this.clientHeight;
    const offset = this.offset;
    let to = offset;
    if (where === "end") to = top + this.rowHeight - view;
    else if (where === "middle") to = top - view / 2 + this.rowHeight;
    else if (top < offset) to = top;
    else if (top + this.rowHeight > offset + view) to = top + this.rowHeight - view;
    this.scrollTop = Math.max(to, 0) / this.factor;
    this.ownTop = this.scrollTop;
  }

  private readonly scrolled = (): void => {
    if (this.scrollTop !== this.ownTop) {
      this.ownTop = Number.NaN;
      this.onScroll(this.isAtEnd);
    }
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const [first, last] = this.range();
      if (first !== this.first || last !== this.last || this.factor !== 1) this.requestUpdate();
    });
  };

  private resized(): void {
    if (this.clientWidth !== this.knownWidth) {
      this.knownWidth = this.clientWidth;
      this.onWidth(this.clientWidth);
    }
    this.ownTop = this.scrollTop; // the browser moves it when there is more room than rows
    this.scrollToWanted();
    this.requestUpdate();
  }

  private range(): [number, number] {
    const first = Math.max(Math.floor(this.offset / this.rowHeight) - SPARE_ROWS, 0);
    const last = Math.ceil((this.offset + this.clientHeight) / this.rowHeight) + SPARE_ROWS;
    return [Math.min(first, this.count), Math.min(last, this.count)];
  }

  override render(): TemplateResult {
    [this.first, this.last] = this.range();
    const indexes = Array.from({ length: this.last - this.first }, (_, i) => this.first + i);
    // Rows that stay keep their elements: only those that come into sight are drawn.
    const rows = repeat(
      indexes,
      index => index,
      index => this.renderRow(index),
    );
    const top = this.scrollTop - this.offset + this.first * this.rowHeight;
    return html`<div
      class="all"
      role="presentation"
      ${styled({ height: `${Math.min(this.height, TALLEST)}px`, "--row": `${this.rowHeight}px` })}
    >
      ${this.background}
      <div class="rows" role="presentation" ${styled({ transform: `translateY(${top}px)` })}>${rows}</div>
    </div>`;
  }

  protected override updated(changed: PropertyValues<this>): void {
    if (this.count < (changed.get("count") ?? 0)) this.ownTop = this.scrollTop; // as when there is more room
    this.scrollToWanted();
    this.onRange(this.first, this.last);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "virtual-list": VirtualList;
  }
}
