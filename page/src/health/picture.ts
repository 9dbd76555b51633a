// The way of an entry as a picture, with the figures of now.
import { html, nothing, type SVGTemplateResult, svg, type TemplateResult } from "lit";
import type { Health, HealthPart } from "../api/types";
import { n, t } from "../i18n/language";
import { duration } from "../model/format";

interface Station {
  name: string;
  /** Large, and smaller below it. */
  figure: string;
  note: string;
  state: "ok" | "error" | "unused";
}

const WIDTH = 156;
const HEIGHT = 84;
const STEP = 212;

export function picture(health: Health): TemplateResult {
  const stations = stationsOf(health);
  const width = STEP * (stations.length - 1) + WIDTH + 4;
  const database = health.parts.database?.facts ?? {};
  const dead = Number(database.dead_letters ?? 0);
  return html`<div class="picture" tabindex="0" role="region" aria-label=${t("health.way")}>
    <svg viewBox="0 0 ${width} 210" width=${width} height="210" role="img" aria-label=${description(stations, dead)}>
      ${stations.map((station, i) => svg`${i > 0 ? arrow(i) : nothing}${box(station, i)}`)}
      ${deadBranch(dead, stations.length)}
    </svg>
  </div>`;
}

function stationsOf({ parts }: Health): Station[] {
  const { journal, broker, workers, database } = parts;
  const isDirect = "state" in (broker?.facts ?? {});
  const age = parts.unwritten?.facts.age_seconds;
  const online = workers?.facts.online;
  return [
    { name: t("health.host"), figure: "", note: t("health.hostNote"), state: "ok" },
    station(t("health.journal"), journal, "entries", facts => [
      t("health.size", { n: Math.ceil(Number(facts.size_bytes ?? 0) / 1024) }),
      typeof age === "number" ? t("health.oldest", { age: duration(age * 1000) }) : "",
    ]),
    isDirect
      ? { name: t("health.queue"), figure: "–", note: t("health.unused"), state: "unused" }
      : station(t("health.queue"), broker, "waiting", facts => [
          typeof facts.in_flight === "number" ? t("health.inFlight", { n: facts.in_flight }) : "",
        ]),
    isDirect
      ? { name: t("health.worker"), figure: "–", note: t("health.unused"), state: "unused" }
      : {
          name: t("health.worker"),
          figure: Array.isArray(online) ? n(online.length) : "?",
          note: workers?.error ? t("health.silent") : t("health.online"),
          state: workers?.error || (Array.isArray(online) && online.length === 0) ? "error" : "ok",
        },
    station(t("health.table"), database, "rows", facts => [
      typeof facts.rows_per_minute === "number" ? t("health.perMinute", { n: facts.rows_per_minute }) : "",
    ]),
  ];
}

function station(
  name: string,
  part: HealthPart | undefined,
  figure: string,
  notes: (facts: Record<string, unknown>) => string[],
): Station {
  const value = part?.facts[figure];
  const isSilent = part === undefined || part.error !== null;
  return {
    name,
    figure: typeof value === "number" ? n(value) : "?",
    note: isSilent ? t("health.silent") : notes(part.facts).filter(Boolean).join(", "),
    state: isSilent ? "error" : "ok",
  };
}

function box({ name, figure, note, state }: Station, index: number): SVGTemplateResult {
  const x = index * STEP + 2;
  const mark = state === "error" ? "✕ " : "";
  return svg`<g class="station ${state}">
    <rect x=${x} y="2" width=${WIDTH} height=${HEIGHT} rx="8" />
    <text class="name" x=${x + 12} y="23">${mark}${name}</text>
    <text class="figure" x=${x + 12} y="49">${figure}</text>
    <text class="note" x=${x + 12} y="70">${note}</text>
  </g>`;
}

function arrow(index: number): SVGTemplateResult {
  const from = (index - 1) * STEP + WIDTH + 6;
  const to = index * STEP - 4;
  const y = HEIGHT / 2 + 2;
  return svg`<path class="arrow" d="M${from} ${y}H${to}m-6 -5l6 5l-6 5" />`;
}

/** What the database refuses for good leaves the way before the table. */
function deadBranch(dead: number, count: number): SVGTemplateResult {
  const x = (count - 1) * STEP + 2;
  const y = 124;
  const from = (count - 1) * STEP - 28;
  return svg`<path class="arrow" d="M${from} ${HEIGHT / 2 + 2}V${y + 38}H${x - 6}m-6 -5l6 5l-6 5" />
    <g class="station ${dead > 0 ? "error" : "ok"}">
      <rect x=${x} y=${y} width=${WIDTH} height="76" rx="8" />
      <text class="name" x=${x + 12} y=${y + 22}>${dead > 0 ? "✕ " : ""}${t("health.dead")}</text>
      <text class="figure" x=${x + 12} y=${y + 50}>${n(dead)}</text>
    </g>`;
}

function description(stations: readonly Station[], dead: number): string {
  const told = stations.map(({ name, figure, note }) => [name, figure, note].filter(Boolean).join(" "));
  return `${told.join(" → ")}; ${t("health.dead")}: ${n(dead)}`;
}
