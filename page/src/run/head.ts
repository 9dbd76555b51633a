// The head of a run: how it went, and whether all of it is here.
import { html, nothing, type TemplateResult } from "lit";
import type { Completeness, Outstanding, Run } from "../api/types";
import { duration, n, t } from "../i18n/language";
import { stateText } from "../i18n/names";
import { dateAndTime, microsecondsOf, visible } from "../model/format";
import { stateIcon } from "../ui/icons";
import type { RunSession } from "./session";

/** @param now microseconds; null of a run that is not running. */
export function runHead(session: RunSession, now: number | null): TemplateResult {
  const { run, log, total } = session;
  return html`<header class="run-head">
    <h1 dir="auto">${run ? stateIcon(run.state) : nothing} ${visible(session.taskId)}</h1>
    ${run ? facts(run, now) : nothing}
    <span class="fact" aria-live="polite">
      ${
        session.isLoaded
          ? t("run.entries", { n: log.rows.length })
          : t("run.loading", { n: log.rows.length, all: total })
      }
    </span>
    ${
      session.isLoaded && total > log.rows.length
        ? html`<span class="fact warning">${t("run.moreThere", { n: total - log.rows.length })}</span>`
        : nothing
    }
    ${now === null ? completenessWord(session.completeness) : nothing}
    ${session.isLoaded ? liveWord(session) : nothing}
  </header>`;
}

function facts(run: Run, now: number | null): TemplateResult {
  const first = microsecondsOf(run.first_at);
  const took = now === null ? run.duration_ms : (now - first) / 1000;
  return html`<span class="fact strong">${run.state === null ? nothing : stateText(run.state)}</span>
    <time class="fact" datetime=${run.first_at} title=${run.first_at}>${dateAndTime(first)}</time>
    <span class="fact number">${duration(took)}</span>
    ${run.errors > 0 ? html`<span class="fact errors">${t("run.errors", { n: run.errors })}</span>` : nothing}
    ${run.warnings > 0 ? html`<span class="fact warnings">${t("run.warnings", { n: run.warnings })}</span>` : nothing}`;
}

function liveWord({ streamState }: RunSession): TemplateResult {
  const isOpen = streamState === "open";
  return html`<span class="fact live ${isOpen ? "open" : ""}">
    ${isOpen ? t("live.on") : streamState === "paused" ? t("live.paused") : t("live.connecting")}
  </span>`;
}

/** Says what may or does lack; nothing where everything is known to be here. */
export function completenessBanner(completeness: Completeness | null): TemplateResult | typeof nothing {
  if (completeness === null) return nothing;
  const { missing, pending, late, dead_letters: dead, left_out: leftOut } = completeness;
  const parts = [
    dead.length > 0 &&
      html`<li class="bad">${t("complete.dead", { n: dead.length })} ${deadReasons(completeness)}</li>`,
    leftOut > 0 && html`<li class="bad">${t("complete.leftOut", { n: leftOut })}</li>`,
    missing.length > 0 &&
      html`<li class="bad">${t("complete.missing", { n: sum(missing) })} ${processes(missing)}</li>`,
    pending.length > 0 && html`<li>${t("complete.pending", { n: sum(pending) })} ${processes(pending)}</li>`,
    late.length > 0 && html`<li>${t("complete.late", { n: sum(late) })} ${processes(late)}</li>`,
  ].filter(Boolean);
  if (!completeness.is_known)
    return html`<p class="banner quiet">${t("complete.unknown")} ${completeness.why_not ?? ""}</p>`;
  if (parts.length === 0) return nothing;
  return html`<div class="banner" role="status">
    <strong>${t("complete.title")}</strong>
    <ul>
      ${parts}
    </ul>
  </div>`;
}

/** In the head: all that was recorded is here. */
function completenessWord(completeness: Completeness | null): TemplateResult | typeof nothing {
  if (completeness === null || !completeness.is_known) return nothing;
  const { missing, pending, dead_letters: dead, left_out: leftOut } = completeness;
  if (missing.length + pending.length + dead.length + leftOut > 0) return nothing;
  return html`<span class="fact complete" title=${t("complete.provenHint")}>✓ ${t("complete.proven")}</span>`;
}

function sum(outstanding: readonly Outstanding[]): number {
  return outstanding.reduce((all, { entries }) => all + entries, 0);
}

function processes(outstanding: readonly Outstanding[]): TemplateResult {
  return html`<details>
    <summary>${t("complete.processes", { n: outstanding.length })}</summary>
    <ul>
      ${outstanding.map(
        one => html`<li>
          <code>${visible(one.process)}</code>: ${n(one.entries)}
          ${one.made_after ? html`<time>${dateAndTime(microsecondsOf(one.made_after))}</time>` : nothing}
          ${one.made_before ? html`– <time>${dateAndTime(microsecondsOf(one.made_before))}</time>` : nothing}
          ${one.seconds === undefined ? nothing : duration(one.seconds * 1000)}
        </li>`,
      )}
    </ul>
  </details>`;
}

function deadReasons(completeness: Completeness): TemplateResult {
  return html`<details>
    <summary>${t("complete.reasons")}</summary>
    <ul>
      ${completeness.dead_letters.map(letter => html`<li dir="auto">${visible(letter.reason)}</li>`)}
    </ul>
  </details>`;
}
