// Two runs side by side: what took longer, what failed, what one of them alone did.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { get } from "../api/client";
import type { Run, RunSummary } from "../api/types";
import { duration, n, t } from "../i18n/language";
import { stateText } from "../i18n/names";
import { align, differs, type Pair } from "../model/align";
import { dateAndTime, microsecondsOf, visible } from "../model/format";
import { decode, RunLog } from "../model/log";
import { type Place, searchOf } from "../model/place";
import { keyOf } from "../model/selection";
import { groupsOf, type Operation, type Tree, treeOf } from "../model/tree";
import { skeletonPages } from "../run/skeleton";
import { errorBox, loadingBox } from "../ui/boxes";
import { PageElement, styled } from "../ui/element";
import { icon, stateIcon } from "../ui/icons";
import { follow, router } from "../ui/router";
import "../ui/virtual_list";

const ROW_HEIGHT = 28;

interface Side {
  run: Run;
  tree: Tree;
}

@customElement("compare-view")
export class CompareView extends PageElement {
  @property({ attribute: false }) place!: Place;
  @state() private sides: [Side, Side] | null = null;
  @state() private pairs: Pair[] = [];
  @state() private error: unknown = null;
  @state() private readSoFar = 0;
  private readonly life = new AbortController();

  override connectedCallback(): void {
    super.connectedCallback();
    this.untilRemoved(() => this.life.abort());
    void this.read();
  }

  private async read(): Promise<void> {
    try {
      const { compare, with: other } = this.place;
      const sides = await Promise.all([this.readSide(compare), this.readSide(other)]);
      this.sides = sides;
      this.pairs = align(sides[0].tree, sides[1].tree);
    } catch (error) {
      if (!this.life.signal.aborted) this.error = error;
    }
  }

  private async readSide(taskId: string): Promise<Side> {
    const { signal } = this.life;
    const summary = get<RunSummary>("run", { task_id: taskId }, signal);
    const log = new RunLog();
    for await (const page of skeletonPages(taskId, signal)) this.readSoFar += log.merge(decode(page)).length;
    const hasOperations = log.rows.some(row => row.operation !== null);
    return { run: (await summary).run, tree: hasOperations ? treeOf(log.rows) : groupsOf(log.rows) };
  }

  override render(): TemplateResult {
    const { compare, with: other } = this.place;
    return html`<main class="compare" id="main">
      <header class="view-head">
        <h1>${t("compare.title")}</h1>
        <span class="grow"></span>
        <label class="check">
          <input
            type="checkbox"
            .checked=${this.place.detail === "operations"}
            @change=${() => router.change({ detail: this.place.detail === "operations" ? "all" : "operations" })}
          />
          ${t("compare.differences")}
        </label>
        <a class="button" href=${searchOf({ compare: other, with: compare })} @click=${follow}>⇄ ${t("compare.swap")}</a>
      </header>
      ${this.error ? errorBox(this.error, () => location.reload()) : this.body()}
    </main>`;
  }

  private body(): TemplateResult {
    if (this.sides === null)
      return html`${loadingBox()}
        <p class="hint box">${this.readSoFar > 0 ? t("run.entries", { n: this.readSoFar }) : nothing}</p>`;
    const [left, right] = this.sides;
    // The switch is kept in the address under a name that the run view uses, too.
    const shown = this.place.detail === "operations" ? this.pairs.filter(differs) : this.pairs;
    const alone = (side: "left" | "right") => this.pairs.filter(pair => pair[side] === null).length;
    return html`<div class="sides">${this.side("A", left.run, alone("right"))} ${this.side("B", right.run, alone("left"))}</div>
      ${
        this.pairs.length === 0
          ? html`<div class="box">${t("compare.nothing")}</div>`
          : html`<p class="counts" aria-live="polite">
              ${t("compare.shown", { n: shown.length, all: this.pairs.length })}
            </p>
            <div class="compare-row heads" aria-hidden="true">
              <span class="names">${t("run.name")}</span><span class="number">A</span><span class="number">B</span>
              <span class="number">${t("compare.difference")}</span><span>${t("runs.problems")}</span>
            </div>
            <virtual-list
              role="tree"
              tabindex="0"
              aria-label=${t("compare.title")}
              .count=${shown.length}
              .rowHeight=${ROW_HEIGHT}
              .renderRow=${(index: number) => this.row(shown[index])}
            ></virtual-list>`
      }`;
  }

  private side(letter: string, run: Run, alone: number): TemplateResult {
    return html`<section class="side">
      <h2><b class="letter">${letter}</b> ${stateIcon(run.state)}
        <a href=${searchOf({ run: run.task_id })} dir="auto" @click=${follow}>${visible(run.task_id)}</a></h2>
      <p>
        <span class="fact">${stateText(run.state)}</span> <span class="fact">${dateAndTime(microsecondsOf(run.first_at))}</span>
        <span class="fact strong">${duration(run.duration_ms)}</span>
        <span class="fact">${t("run.entries", { n: run.entries })}</span>
        ${run.errors > 0 ? html`<span class="errors">${t("run.errors", { n: run.errors })}</span>` : nothing}
        ${alone > 0 ? html`<span class="fact">${t("compare.alone", { n: alone })}</span>` : nothing}
      </p>
    </section>`;
  }

  private row(pair: Pair | undefined): TemplateResult | typeof nothing {
    if (pair === undefined) return nothing;
    const { left, right, depth, name } = pair;
    const only = left === null ? "B" : right === null ? "A" : "";
    return html`<div class="compare-row ${only ? `only only-${only.toLowerCase()}` : ""}" role="treeitem" aria-level=${depth + 1}>
      <span class="names" ${styled({ "--depth": String(Math.min(depth, 20)) })}>
        <b class="name" dir="auto">${visible(name)}</b>
        ${only ? html`<span class="chip"><span class="wide-only">${t("compare.only")} </span>${only}</span>` : nothing}
      </span>
      ${this.cell(left, this.place.compare)} ${this.cell(right, this.place.with)}
      ${only ? html`<span></span>` : this.difference(left as Operation, right as Operation)} ${this.problems(left, right)}
    </div>`;
  }

  private cell(operation: Operation | null, taskId: string): TemplateResult {
    if (operation === null) return html`<span class="number hint">–</span>`;
    const href = searchOf({ run: taskId, entry: keyOf(operation) });
    const text = operation.durationMs === null ? t("run.open") : duration(operation.durationMs);
    return html`<span class="number">
      <a href=${href} @click=${follow}>${text}</a> ${operation.isGroup ? icon("none") : stateIcon(operation.state)}
    </span>`;
  }

  private difference(left: Operation, right: Operation): TemplateResult {
    if (left.durationMs === null || right.durationMs === null) return html`<span></span>`;
    const by = right.durationMs - left.durationMs;
    const share = shareText(left.durationMs, right.durationMs);
    const most = Math.max(left.durationMs, right.durationMs, 1);
    const isNotable = differs({ name: "", depth: 0, left, right });
    const sign = by > 0 ? "+" : by < 0 ? "−" : "±";
    return html`<span class="number difference ${isNotable ? (by > 0 ? "slower" : "faster") : ""}">
      <i class="amount" ${styled({ width: `${(Math.abs(by) / most) * 40}px` })}></i>
      ${sign}${duration(Math.abs(by))}
      <small>${share}</small>
    </span>`;
  }

  private problems(left: Operation | null, right: Operation | null): TemplateResult {
    const [one, other] = [left?.errors ?? 0, right?.errors ?? 0];
    if (one === 0 && other === 0) return html`<span></span>`;
    return html`<span><span class="errors" title=${t("compare.errors", { one, other })}>${n(one)} → ${n(other)}</span></span>`;
  }
}

/** By how much of the first the second differs; as a multiple where that is easier to read. */
function shareText(one: number, other: number): string {
  if (one <= 0 || one === other) return "";
  if (other > one * 10) return `×${n(Math.round(other / one))}`;
  return `${other > one ? "↑" : "↓"} ${n(Math.round((Math.abs(other - one) / one) * 100))} %`;
}

declare global {
  interface HTMLElementTagNameMap {
    "compare-view": CompareView;
  }
}
