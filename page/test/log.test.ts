import assert from "node:assert/strict";
import { test } from "node:test";
import type { SkeletonPage } from "../src/api/types";
import { decode, RunLog } from "../src/model/log";
import { row } from "./rows";

const PAGE: SkeletonPage = {
  next: null,
  place: "p",
  total: 2,
  levels: ["info", "error"],
  categories: ["agent"],
  steps: ["plan"],
  agents: [],
  tools: ["search"],
  names: ["call"],
  operations: ["op", "root"],
  columns: {
    id: ["a", "b"],
    at_us: [1_000_000, 250],
    level: [0, 1],
    category: [0, 0],
    step: [0, -1],
    agent: [-1, -1],
    tool: [-1, 0],
    name: [0, -1],
    operation: [0, -1],
    parent: [1, 0],
    duration_ms: [null, 7],
    state: [-1, 2],
  },
};

test("a page of columns becomes rows", () => {
  const [first, second] = decode(PAGE);
  assert.deepEqual(
    [first?.at, first?.step, first?.name, first?.operation, first?.parent, first?.state, first?.durationMs],
    [1_000_000, "plan", "call", "op", "root", null, null],
  );
  assert.deepEqual(
    [
      second?.at,
      second?.level,
      second?.step,
      second?.tool,
      second?.parent,
      second?.state,
      second?.durationMs,
    ],
    [1_000_250, "error", null, "search", "op", "failed", 7],
  );
});

test("rows that come twice or late are there once, in the order of time", () => {
  const log = new RunLog();
  const [a, b, c, d] = [row({ at: 10 }), row({ at: 20 }), row({ at: 20 }), row({ at: 5 })] as const;
  assert.deepEqual(log.merge([a, c]), [a, c]);
  assert.deepEqual(log.merge([c, b, d, b]), [b, d]);
  assert.deepEqual(log.rows, [d, a, b, c]);
  assert.equal(log.get(c.id), c);
});

test("merging page by page takes no time that grows with what is there", () => {
  const log = new RunLog();
  const start = performance.now();
  for (let page = 0; page < 200; page++)
    log.merge(Array.from({ length: 500 }, (_, i) => row({ at: page * 500 + i })));
  assert.equal(log.rows.length, 100_000);
  assert.ok(performance.now() - start < 2000);
});
