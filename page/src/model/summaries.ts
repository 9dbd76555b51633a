// What the statistics of hours say of a span of time.
import type { HourStatistics } from "../api/types";

export interface NameSummary {
  name: string;
  entries: number;
  errors: number;
  timed: number;
  /** The median hour's median, weighted by what was timed. */
  p50: number | null;
  /** The slowest hour's. */
  p95: number | null;
}

export type Dimension = HourStatistics["dimension"];

export function ofDimension(hours: readonly HourStatistics[], dimension: Dimension): HourStatistics[] {
  return hours.filter(hour => hour.dimension === dimension);
}

/** A summary of each name, the slowest first. */
export function summaries(hours: readonly HourStatistics[]): NameSummary[] {
  const byName = new Map<string, HourStatistics[]>();
  for (const hour of hours) {
    const name = hour.name ?? "";
    const known = byName.get(name);
    if (known) known.push(hour);
    else byName.set(name, [hour]);
  }
  const result = [...byName].map(([name, ofName]) => summaryOf(name, ofName));
  return result.sort((a, b) => (b.p95 ?? -1) - (a.p95 ?? -1) || b.entries - a.entries);
}

function summaryOf(name: string, hours: readonly HourStatistics[]): NameSummary {
  const sum = (field: "entries" | "errors" | "timed") => hours.reduce((all, hour) => all + hour[field], 0);
  const slowest = hours.flatMap(hour => (hour.p95_ms === null ? [] : [hour.p95_ms]));
  return {
    name,
    entries: sum("entries"),
    errors: sum("errors"),
    timed: sum("timed"),
    p50: weightedMedian(hours),
    p95: slowest.length > 0 ? Math.max(...slowest) : null,
  };
}

function weightedMedian(hours: readonly HourStatistics[]): number | null {
  const timed = hours.filter(hour => hour.p50_ms !== null).sort((a, b) => (a.p50_ms ?? 0) - (b.p50_ms ?? 0));
  let left = timed.reduce((all, hour) => all + hour.timed, 0) / 2;
  for (const hour of timed) {
    left -= hour.timed;
    if (left <= 0) return hour.p50_ms;
  }
  return timed.at(-1)?.p50_ms ?? null;
}

/** Every hour of a span, in seconds since the epoch; hours in which nothing happened are there, too. */
export function hoursBetween(since: string, until: string): number[] {
  const first = Math.floor(Date.parse(since) / 3_600_000);
  const last = Math.ceil(Date.parse(until) / 3_600_000);
  return Array.from({ length: Math.max(last - first, 1) }, (_, i) => (first + i) * 3600);
}

/** The values of these hours at those times; `missing` where nothing is said. */
export function series<T>(
  times: readonly number[],
  hours: readonly HourStatistics[],
  read: (hour: HourStatistics) => T,
  missing: T,
): T[] {
  const values = new Map(hours.map(hour => [Date.parse(hour.hour) / 1000, read(hour)]));
  return times.map(time => values.get(time) ?? missing);
}
