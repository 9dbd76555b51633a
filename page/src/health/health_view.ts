// Whether the way of the entries is all right: a picture, the doctor's findings, jobs, dead letters.
import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { get, post } from "../api/client";
import type { DeadLetter, DeadLettersPage, Finding, Health, Retried } from "../api/types";
import { n, t } from "../i18n/language";
import { dateAndTime, firstLine, microsecondsOf, visible } from "../model/format";
import { searchOf } from "../model/place";
import { errorBox, loadingBox } from "../ui/boxes";
import { PageElement } from "../ui/element";
import { icon } from "../ui/icons";
import { follow } from "../ui/router";
import { toast } from "../ui/toast";
import { picture } from "./picture";
import "../ui/json_view";

const AGAIN_MS = 10_000;
const GRAVITY = { error: 0, warning: 1, ok: 2 };

@customElement("health-view")
export class HealthView extends PageElement {
  @property({ attribute: false }) mayChange = false;
  @state() private health: Health | null = null;
  @state() private error: unknown = null;
  @state() private letters: DeadLetter[] = [];
  @state() private total = 0;
  @state() private next: string | null = null;
  @state() private isRetrying = false;
  private readonly life = new AbortController();
  private readonly narrow = matchMedia("(max-width: 700px)");

  override connectedCallback(): void {
    super.connectedCallback();
    const resized = () => this.requestUpdate();
    this.narrow.addEventListener("change", resized);
    const timer = window.setInterval(() => !document.hidden && void this.look(), AGAIN_MS);
    this.untilRemoved(() => {
      clearInterval(timer);
      this.narrow.removeEventListener("change", resized);
      this.life.abort();
    });
    void this.look();
    void this.readLetters(null);
  }

  private async look(): Promise<void> {
    try {
      this.health = await get<Health>("health", {}, this.life.signal);
      this.error = null;
    } catch (error) {
      if (!this.life.signal.aborted) this.error = error;
    }
  }

  private async readLetters(after: string | null): Promise<void> {
    try {
      const page = await get<DeadLettersPage>("dead-letters", { after }, this.life.signal);
      this.letters = after === null ? page.letters : [...this.letters, ...page.letters];
      this.total = page.total;
      this.next = page.next;
    } catch (error) {
      if (!this.life.signal.aborted) this.error = error;
    }
  }

  override render(): TemplateResult {
    const { health } = this;
    return html`<main class="health" id="main">
      <header class="view-head">
        <h1>${t("nav.health")}</h1>
        ${health ? html`<span class="fact">${t("health.askedAt", { time: dateAndTime(microsecondsOf(health.asked_at)) })}</span>` : nothing}
      </header>
      ${this.error ? errorBox(this.error, () => this.look()) : nothing}
      ${health ? this.all(health) : this.error ? nothing : loadingBox()} ${this.deadLetters()}
    </main>`;
  }

  private all(health: Health): TemplateResult {
    const problems = Object.entries(health.parts).filter(([, part]) => part.error !== null);
    const sorted = [...health.findings].sort((a, b) => GRAVITY[a.level] - GRAVITY[b.level]);
    return html`<section class="card">
        <h2>${t("health.way")}</h2>
        ${picture(health, this.narrow.matches)}
        ${problems.map(([name, part]) => html`<p class="bad"><b>${name}</b>: ${part.error}</p>`)}
      </section>
      <section class="card">
        <h2>${t("health.findings")}</h2>
        <ul class="findings">${sorted.map(one => this.finding(one))}</ul>
      </section>
      <section class="card">
        <h2>${t("health.jobs")}</h2>
        ${this.jobs(health)}
      </section>`;
  }

  private finding({ check, level, message, advice }: Finding): TemplateResult {
    return html`<li class=${level}>
      ${icon(level === "ok" ? "done" : level, level)}
      <div>
        <code>${check}</code> <span dir="auto">${visible(message)}</span>
        ${advice ? html`<p class="hint">${visible(advice)}</p>` : nothing}
      </div>
    </li>`;
  }

  private jobs({ parts }: Health): TemplateResult {
    const jobs = Object.entries(parts.jobs?.facts ?? {});
    if (jobs.length === 0) return html`<p class="hint">${t("health.noJobs")}</p>`;
    return html`<dl class="fields">
      ${jobs.map(([name, told]) => {
        const text = String(told);
        const isTime = /^\d{4}-\d\d-\d\dT/.test(text);
        return html`<dt>${name}</dt>
          <dd>${isTime ? t("health.succeeded", { time: dateAndTime(microsecondsOf(text)) }) : text === "never" ? t("health.never") : text}</dd>`;
      })}
    </dl>`;
  }

  private deadLetters(): TemplateResult {
    return html`<section class="card">
      <header>
        <h2>${t("health.deadLetters", { n: this.total })}</h2>
        ${
          this.mayChange && this.letters.length > 1
            ? html`<button ?disabled=${this.isRetrying} @click=${() => this.retry(this.letters.map(letter => letter.id))}>
              ${t("health.retryShown", { n: this.letters.length })}
            </button>`
            : nothing
        }
      </header>
      ${
        this.letters.length === 0
          ? html`<p class="hint">${t("health.noDead")}</p>`
          : html`<ol class="letters">${this.letters.map(letter => this.letter(letter))}</ol>`
      }
      ${
        this.next === null
          ? nothing
          : html`<button @click=${() => this.readLetters(this.next)}>${t("runs.more")} (${n(this.letters.length)} / ${n(this.total)})</button>`
      }
    </section>`;
  }

  private letter(letter: DeadLetter): TemplateResult {
    return html`<li>
      <p dir="auto"><b>${firstLine(letter.reason, 300)}</b></p>
      <p class="hint">
        <time>${dateAndTime(microsecondsOf(letter.created_at))}</time>
        ${letter.task_id ? html`· <a href=${searchOf({ run: letter.task_id })} dir="auto" @click=${follow}>${visible(letter.task_id)}</a>` : nothing}
        · <code>${visible(letter.id)}</code>
        ${
          this.mayChange
            ? html`<button class="small" ?disabled=${this.isRetrying} @click=${() => this.retry([letter.id])}>${t("health.retry")}</button>`
            : nothing
        }
      </p>
      <details class="json"><summary>${t("entry.title")}</summary><json-view .value=${entryOf(letter)}></json-view></details>
    </li>`;
  }

  private async retry(ids: string[]): Promise<void> {
    this.isRetrying = true;
    try {
      const { stored, refused } = await post<Retried>("dead-letters/retry", { ids });
      const reasons = Object.values(refused);
      toast(
        [
          t("health.stored", { n: stored }),
          reasons.length > 0 ? t("health.refused", { n: reasons.length, reason: reasons[0] ?? "" }) : "",
        ].join(" "),
      );
      await Promise.all([this.readLetters(null), this.look()]);
    } catch (error) {
      this.error = error;
    }
    this.isRetrying = false;
  }
}

/** The entry is kept as the text that could not be stored. */
function entryOf({ entry }: DeadLetter): unknown {
  if (typeof entry !== "string") return entry;
  try {
    return JSON.parse(entry);
  } catch {
    return entry;
  }
}

declare global {
  interface HTMLElementTagNameMap {
    "health-view": HealthView;
  }
}
