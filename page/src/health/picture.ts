// The way of an entry as a picture, with the figures of now.
import { html, nothing, type SVGTemplateResult, svg, type TemplateResult } from "lit";
import type { Health, HealthPart } from "../api/types";
import { duration, n, t } from "../i18n/language";

interface Station {
  name: string;
  /** Large, and smaller below it. */
  figure: string;
  note: string;
  state: "ok" | "error" | "unused";
}

const WIDTH = 168;
const HEIGHT = 84;
/** From a station to the next one: beside it, or below it where the screen is narrow. */
const ASIDE = 220;
const DOWN = 116;

export function picture(health: Health, isNarrow: boolean): TemplateResult {
  const stations = stationsOf(health);
  const dead = Number(health.parts.database?.facts.dead_letters ?? 0);
  const last = stations.length - 1;
  const width = isNarrow ? WIDTH + 60 : ASIDE * last + WIDTH + 4;
  const height = isNarrow ? DOWN * (last + 1) + HEIGHT + 4 : DOWN + HEIGHT + 4;
  return html`<svg
    class="picture"
    viewBox="0 0 ${width} ${height}"
    width=${width}
    height=${height}
    role="img"
    aria-label=${description(stations, dead)}
  >
    ${stations.map((station, i) => svg`${i > 0 ? arrow(i, isNarrow) : nothing}${box(station, placeOf(i, isNarrow))}`)}
    ${deadBranch(dead, last, isNarrow)}
  </svg>`;
}

interface Point {
  x: number;
  y: number;
}

function placeOf(index: number, isNarrow: boolean): Point {
  return isNarrow ? { x: 2, y: index * DOWN + 2 } : { x: index * ASIDE + 2, y: 2 };
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

function box({ name, figure, note, state }: Station, { x, y }: Point): SVGTemplateResult {
  const mark = state === "error" ? "✕ " : "";
  return svg`<g class="station ${state}">
    <rect x=${x} y=${y} width=${WIDTH} height=${HEIGHT} rx="8" />
    <text class="name" x=${x + 12} y=${y + 21}>${mark}${name}</text>
    <text class="figure" x=${x + 12} y=${y + 47}>${figure}</text>
    <text class="note" x=${x + 12} y=${y + 68}>${note}</text>
  </g>`;
}

const HEAD_RIGHT = "m-6 -5l6 5l-6 5";
const HEAD_DOWN = "m-5 -6l5 6l5 -6";
const HEAD_LEFT = "m6 -5l-6 5l6 5";

/** To this station from the one before. */
function arrow(index: number, isNarrow: boolean): SVGTemplateResult {
  const { x, y } = placeOf(index, isNarrow);
  const path = isNarrow
    ? `M${x + WIDTH / 2} ${y - DOWN + HEIGHT + 4}V${y - 4}${HEAD_DOWN}`
    : `M${x - ASIDE + WIDTH + 4} ${y + HEIGHT / 2}H${x - 6}${HEAD_RIGHT}`;
  return svg`<path class="arrow" d=${path} />`;
}

/** What the database refuses for good leaves the way before the table. */
function deadBranch(dead: number, last: number, isNarrow: boolean): SVGTemplateResult {
  const table = placeOf(last, isNarrow);
  const own = isNarrow ? placeOf(last + 1, true) : { x: table.x, y: table.y + DOWN };
  const middle = own.y + HEIGHT / 2;
  const path = isNarrow
    ? `M${table.x + WIDTH / 2} ${table.y - 18}H${WIDTH + 30}V${middle}H${WIDTH + 6}${HEAD_LEFT}`
    : `M${table.x - 30} ${table.y + HEIGHT / 2}V${middle}H${own.x - 6}${HEAD_RIGHT}`;
  const station: Station = {
    name: t("health.dead"),
    figure: n(dead),
    note: t("health.deadNote"),
    state: dead > 0 ? "error" : "ok",
  };
  return svg`<path class="arrow" d=${path} />${box(station, own)}`;
}

function description(stations: readonly Station[], dead: number): string {
  const told = stations.map(({ name, figure, note }) => [name, figure, note].filter(Boolean).join(" "));
  return `${told.join(" → ")}; ${t("health.dead")}: ${n(dead)}`;
}
