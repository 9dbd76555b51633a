// A run: its entries to the left, the selected one to the right.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { ApiError } from "../api/client";
import { t } from "../i18n/language";
import type { Row } from "../model/log";
import { hasFilters, type Place } from "../model/place";
import { keyOf } from "../model/selection";
import type { Span } from "../model/timescale";
import { isOperation, type Operation } from "../model/tree";
import { errorBox, loadingBox } from "../ui/boxes";
import { PageElement } from "../ui/element";
import { router } from "../ui/router";
import { completenessBanner, runHead } from "./head";
import { helpDialog } from "./help";
import { keyAction } from "./keys";
import { RunSession } from "./session";
import { Shown } from "./shown";
import { toolbar } from "./toolbar";
import "./entry_pane";
import "./log_list";
import "./waterfall";
import "../ui/json_view";
import "../ui/split_panes";
import type { Place as RowPlace, VirtualList } from "../ui/virtual_list";
import "../ui/virtual_list";

const TICK_MS = 1000;

@customElement("run-view")
export class RunView extends PageElement {
  @property({ attribute: false }) place!: Place;
  @state() private newCount = 0;
  @state() private isFollowing = false;
  private session!: RunSession;
  private shown!: Shown;
  private refresh = 0;
  private isRevealed = false;
  /** It is not decided yet whether this is a run to follow. */
  private mayFollow = true;

  override connectedCallback(): void {
    super.connectedCallback();
    this.session = new RunSession(
      this.place.run,
      () => this.refreshSoon(),
      rows => this.arrived(rows),
    );
    this.shown = new Shown(this.session);
    this.isRevealed = this.place.entry === "";
    this.session.start();
    const tick = window.setInterval(
      () => this.isRunning && !document.hidden && this.requestUpdate(),
      TICK_MS,
    );
    this.listen("keydown", event => this.keyed(event));
    this.untilRemoved(() => {
      clearInterval(tick);
      clearTimeout(this.refresh);
      this.session.close();
    });
  }

  /** Many pages and events come in a row: what is costly to build is built less often. */
  private refreshSoon(): void {
    if (this.refresh) return;
    this.refresh = window.setTimeout(
      () => {
        this.refresh = 0;
        this.requestUpdate();
      },
      Math.min(Math.max(16, this.shown.cost * 4), 1000),
    );
  }

  private get isRunning(): boolean {
    return this.session.run?.state === "running";
  }

  private arrived(rows: Row[]): void {
    const { matches } = this.session;
    const shown = matches === null ? rows : rows.filter(row => matches.has(row));
    if (!this.isFollowing) this.newCount += shown.length;
  }

  /** The list is asked in the next frame, when it has the lines that are shown now. */
  private bringToSight(index: number, where?: RowPlace): void {
    if (index < 0) return;
    requestAnimationFrame(() => {
      if (where === "end" && !this.isFollowing) return; // the reader has scrolled meanwhile
      this.querySelector<VirtualList>(".left-pane virtual-list")?.scrollToRow(index, where);
    });
  }

  protected override willUpdate(): void {
    this.session.setFilters(this.place.filters);
    this.shown.update(this.place);
    if (this.mayFollow && this.session.run !== null && this.shown.lines.length > 0) {
      this.mayFollow = false;
      this.isFollowing = this.isRunning && this.place.entry === "";
    }
  }

  protected override updated(changed: Map<string, unknown>): void {
    if (!this.isRevealed && this.session.log.get(this.place.entry)) this.reveal();
    else if (changed.has("place")) this.keepInSight(changed.get("place") as Place | undefined);
    if (this.isFollowing) this.bringToSight(this.newest(), "end");
  }

  private newest(): number {
    const last = this.session.log.rows.at(-1);
    if (last === undefined) return -1;
    const index = this.shown.indexOfEntry(last.id);
    return index >= 0 ? index : this.shown.lines.length - 1;
  }

  /** A link leads to an entry: what it is within is opened, and it is brought into sight. */
  private reveal(): void {
    this.shown.reveal(this.place.entry);
    this.shown.update(this.place);
    this.isRevealed = this.selectedIndex >= 0 || this.session.isLoaded;
    if (!this.isRevealed) return; // it is among rows that are not drawn yet
    this.requestUpdate();
    this.bringToSight(this.selectedIndex, "middle");
  }

  private keepInSight(before: Place | undefined): void {
    const { place } = this;
    const linesOf = (one: Place | undefined) => JSON.stringify([one?.mode, one?.detail, one?.filters]);
    if (linesOf(before) === linesOf(place)) return;
    if (place.entry) this.bringToSight(this.selectedIndex, "middle");
  }

  private get selectedIndex(): number {
    return this.place.entry ? this.shown.indexOfEntry(this.place.entry) : -1;
  }

  override render(): TemplateResult {
    const { session, place } = this;
    if (session.error instanceof ApiError && session.log.rows.length === 0)
      return html`<main class="run" id="main">${errorBox(session.error, () => location.reload())}</main>`;
    const now = this.isRunning ? Date.now() * 1000 : null;
    return html`<main class="run" id="main">
      ${runHead(session, now)} ${completenessBanner(session.completeness)}
      ${session.trouble ? html`<p class="banner" role="alert">${session.trouble}</p>` : nothing}
      ${session.error ? errorBox(session.error) : nothing}
      ${toolbar(session, place, {
        zoomBy: factor => this.zoomBy(factor),
        toggleAll: isClosed => this.toggleAll(isClosed),
        help: () => this.help(),
        follows: this.isRunning ? this.isFollowing : null,
        setFollowing: isFollowing => this.setFollowing(isFollowing),
      })}
      <split-panes
        .isOpen=${place.entry !== ""}
        .label=${t("entry.title")}
        .left=${this.entries(now)}
        .right=${place.entry === "" ? nothing : this.pane()}
      ></split-panes>
      ${helpDialog()}
    </main>`;
  }

  private entries(now: number | null): TemplateResult {
    const { session, shown, place } = this;
    if (shown.lines.length === 0) return this.empty();
    const onScroll = (isAtEnd: boolean) => this.setFollowing(isAtEnd);
    const list =
      place.mode === "log"
        ? html`<run-log
            .session=${session}
            .lines=${shown.lines}
            .selected=${this.selectedIndex}
            .onSelect=${this.select}
            .onScroll=${onScroll}
          ></run-log>`
        : html`<run-waterfall
            .session=${session}
            .shown=${shown}
            .lines=${shown.lines}
            .selected=${this.selectedIndex}
            .zoom=${place.zoom}
            .now=${now}
            .onSelect=${this.select}
            .onToggle=${this.toggle}
            .onZoom=${this.zoom}
            .onScroll=${onScroll}
          ></run-waterfall>`;
    return html`${list}${this.newestButton()}`;
  }

  private empty(): TemplateResult {
    if (hasFilters(this.place.filters) && this.session.matches !== null)
      return html`<div class="box">${t("run.noMatches", { all: this.session.total })}</div>`;
    return this.session.isLoaded ? html`<div class="box">${t("run.empty")}</div>` : loadingBox();
  }

  private newestButton(): TemplateResult | typeof nothing {
    if (this.isFollowing || this.newCount === 0) return nothing;
    return html`<button class="newest" aria-live="polite" @click=${() => this.setFollowing(true)}>
      ↓ ${t("run.new", { n: this.newCount })}
    </button>`;
  }

  private pane(): TemplateResult {
    return html`<entry-pane
      .taskId=${this.place.run}
      .entryId=${this.place.entry}
      .item=${this.shown.itemOf(this.place.entry)}
      .onClose=${() => this.select("")}
    ></entry-pane>`;
  }

  readonly select = (key: string): void => {
    this.isRevealed = true;
    router.change({ entry: key });
  };

  private readonly toggle = (operation: Operation): void => {
    this.shown.toggle(operation);
    this.requestUpdate();
  };

  private toggleAll(isClosed: boolean): void {
    this.shown.toggleAll(isClosed);
    this.requestUpdate();
  }

  private readonly zoom = (zoom: Span | null): void => router.change({ zoom });

  zoomBy(factor: number): void {
    this.querySelector("run-waterfall")?.zoomBy(factor);
  }

  setFollowing(isFollowing: boolean): void {
    if (isFollowing) this.newCount = 0;
    this.isFollowing = isFollowing;
  }

  get follows(): boolean {
    return this.isFollowing;
  }

  /** Selects the line so many lines further. */
  moveBy(by: number): void {
    const { lines } = this.shown;
    const index = this.selectedIndex < 0 ? (by > 0 ? 0 : lines.length - 1) : this.selectedIndex + by;
    this.moveTo(Math.min(Math.max(index, 0), lines.length - 1));
  }

  moveTo(index: number): void {
    const line = this.shown.lines.at(index);
    if (line === undefined) return;
    this.isFollowing = false;
    this.select(keyOf(line.item));
    this.bringToSight(this.shown.indexOf(line.item));
  }

  nextError(): void {
    const key = this.shown.nextError(this.selectedIndex, this.place);
    if (key === null) return;
    this.isFollowing = false;
    this.select(key);
    this.bringToSight(this.shown.indexOfEntry(key), "middle");
  }

  /** Closes or opens the selected operation; closing what is no open operation goes to the one that it is within. */
  fold(isClosed: boolean): void {
    const item = this.shown.lines[this.selectedIndex]?.item;
    if (item === undefined || this.place.mode === "log") return;
    if (isOperation(item) && this.shown.isClosed(item) !== isClosed) {
      this.shown.toggle(item, isClosed);
      this.requestUpdate();
    } else if (isClosed) {
      const parent = isOperation(item) ? item.parent : this.shown.tree.holderOf(item);
      if (parent !== null) this.moveTo(this.shown.indexOf(parent));
    }
  }

  help(): void {
    this.querySelector<HTMLDialogElement>("dialog.help")?.showModal();
  }

  private keyed(event: KeyboardEvent): void {
    if (keyAction(this, event)) event.preventDefault();
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "run-view": RunView;
  }
}
