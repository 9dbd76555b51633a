import assert from "node:assert/strict";
import { test } from "node:test";
import type { HourStatistics } from "../src/api/types";
import { hoursBetween, series, summaries } from "../src/model/summaries";

function hour(values: Partial<HourStatistics>): HourStatistics {
  return {
    hour: "2026-11-29T10:00:00Z",
    dimension: "step",
    name: "plan",
    entries: 1,
    errors: 0,
    runs: null,
    timed: 0,
    p50_ms: null,
    p95_ms: null,
    ...values,
  };
}

test("a name is summed over its hours, the slowest name first", () => {
  const found = summaries([
    hour({ entries: 5, errors: 1, timed: 1, p50_ms: 900, p95_ms: 950 }),
    hour({ entries: 7, timed: 9, p50_ms: 10, p95_ms: 20 }),
    hour({ name: "write", timed: 1, p50_ms: 1000, p95_ms: 2000 }),
    hour({ name: "never timed" }),
  ]);
  assert.deepEqual(found, [
    { name: "write", entries: 1, errors: 0, timed: 1, p50: 1000, p95: 2000 },
    { name: "plan", entries: 12, errors: 1, timed: 10, p50: 10, p95: 950 },
    { name: "never timed", entries: 1, errors: 0, timed: 0, p50: null, p95: null },
  ]);
});

test("hours in which nothing happened have their place", () => {
  const times = hoursBetween("2026-11-29T09:30:00Z", "2026-11-29T12:00:00Z");
  assert.equal(times.length, 3);
  assert.deepEqual(
    series(times, [hour({ entries: 4 })], one => one.entries, 0),
    [0, 4, 0],
  );
});
