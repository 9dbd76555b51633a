import assert from "node:assert/strict";
import { test } from "node:test";
import type { Row } from "../src/model/log";
import { NO_FILTERS } from "../src/model/place";
import { hasError, keyOf, leadingTo, takes } from "../src/model/selection";
import {
  groupsOf,
  type Item,
  isOperation,
  linesOf,
  type Operation,
  type Tree,
  treeOf,
} from "../src/model/tree";
import { operation, row } from "./rows";

function ordered(...rows: Row[]): Row[] {
  return rows.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1));
}

/** `[operation: what is within it]`, entries as a dot. */
function sketch(items: readonly Item[]): string {
  return items.map(item => (isOperation(item) ? `[${item.id}:${sketch(item.children)}]` : ".")).join("");
}

function find(tree: Tree, id: string): Operation {
  return tree.operations.get(id) as Operation;
}

test("operations are within each other as their entries say, each with its bar", () => {
  const tree = treeOf(
    ordered(
      ...operation("root", 0, 100),
      ...operation("call", 10, 30, { parent: "root" }),
      row({ at: 20_000, parent: "call" }),
      row({ at: 50_000, parent: "root" }),
      row({ at: 1_000 }),
    ),
  );
  assert.equal(sketch(tree.items), "[root:[call:.].].");
  const call = find(tree, "call");
  assert.deepEqual(
    [call.beganAt, call.endedAt, call.durationMs, call.state, call.depth],
    [10_000, 30_000, 20, "done", 1],
  );
});

test("an operation without an end is open, one without a beginning is reckoned from its duration", () => {
  const end = row({ at: 90_000, operation: "late", durationMs: 40, level: "error" });
  const tree = treeOf(ordered(...operation("open", 5, null), end));
  assert.deepEqual([find(tree, "open").endedAt, find(tree, "open").state], [null, null]);
  const late = find(tree, "late");
  assert.deepEqual([late.begin, late.end, late.beganAt, late.state], [null, end, 50_000, "failed"]);
});

test("a run that ends in another process has an end without a duration, and may begin again", () => {
  const told = (at: number, state: Row["state"]) => row({ at, operation: "root", state });
  const begin = told(1_000, "running");
  const end = told(61_000, "done");
  const ended = find(treeOf([begin, end]), "root");
  assert.deepEqual([ended.begin, ended.end, ended.durationMs, ended.state], [begin, end, 60, "done"]);
  const alone = find(treeOf([end]), "root");
  assert.deepEqual([alone.begin, alone.end, alone.durationMs, alone.state], [null, end, 0, "done"]);
  const again = find(treeOf([begin, end, told(70_000, "running")]), "root");
  assert.deepEqual([again.begin, again.end, again.state], [begin, null, null]);
  const failed = row({ at: 2_000, operation: "root", state: "failed", durationMs: 1, level: "error" });
  assert.equal(find(treeOf([begin, failed, end]), "root").state, "done");
});

test("what an end says of a run goes before its level", () => {
  const tree = treeOf(ordered(...operation("root", 0, 1, { state: "cancelled" })));
  assert.equal(find(tree, "root").state, "cancelled");
});

test("an operation that ends with a warning was called off, or is to be tried again", () => {
  const end = row({ operation: "ask", name: "ask", durationMs: 5, level: "warning" });
  const tree = treeOf(ordered(row({ operation: "ask", name: "ask" }), end));
  assert.equal(find(tree, "ask").state, "cancelled");
});

test("errors and entries are counted up the tree", () => {
  const tree = treeOf(
    ordered(
      ...operation("root", 0, 100),
      ...operation("step", 1, 90, { parent: "root" }),
      ...operation("call", 2, 3, { parent: "step", level: "error" }),
      row({ at: 4_000, parent: "step", level: "critical" }),
    ),
  );
  // `call` has two entries, of which `operation` makes the end alone an error.
  assert.deepEqual(
    ["root", "step", "call"].map(id => find(tree, id).errors),
    [2, 2, 1],
  );
  assert.deepEqual(
    ["root", "step", "call"].map(id => find(tree, id).entries),
    [7, 5, 2],
  );
});

test("an operation of the category retry is marked", () => {
  const tree = treeOf(
    ordered(...operation("again", 0, 1, { category: "retry" }), ...operation("first", 2, 3)),
  );
  assert.deepEqual([find(tree, "again").isRetry, find(tree, "first").isRetry], [true, false]);
});

test("operations within each other in a circle are cut at the earliest; nobody is lost", () => {
  const tree = treeOf(
    ordered(
      ...operation("b", 2, 9, { parent: "a" }),
      ...operation("a", 1, 9, { parent: "c" }),
      ...operation("c", 3, 9, { parent: "b" }),
      ...operation("self", 4, 5, { parent: "self" }),
      ...operation("orphan", 5, 6, { parent: "nobody" }),
    ),
  );
  assert.equal(sketch(tree.items), "[a:[b:[c:]]][self:][orphan:]");
});

test("entries between the beginning and the end of an operation are within it", () => {
  const [begin, end] = operation("op", 0, 10) as [Row, Row];
  const tree = treeOf([begin, row({ at: 5_000, operation: "op" }), end]);
  assert.equal(sketch(tree.items), "[op:.]");
});

test("without operations, consecutive entries of a step and agent are groups, in order", () => {
  const rows = [
    row({ step: "plan" }),
    row({ step: "plan" }),
    row({}),
    row({ step: "write", agent: "w", level: "error" }),
    row({ step: "plan" }),
  ];
  const { items, operations, holderOf } = groupsOf(rows);
  assert.deepEqual(
    items.map(item => (isOperation(item) ? `${item.name} ${item.entries}` : ".")),
    ["plan 2", ".", "write 1", "plan 1"],
  );
  assert.equal(operations.size, 3);
  assert.equal(holderOf(rows[1] as Row), items[0]);
});

test("lines are those of open operations that are taken", () => {
  const tree = treeOf(
    ordered(
      ...operation("a", 0, 9),
      ...operation("b", 1, 2, { parent: "a" }),
      row({ at: 3000, parent: "a" }),
    ),
  );
  const lines = (closed: string, only = false) =>
    linesOf(
      tree,
      one => one.id === closed,
      item => !only || isOperation(item),
    ).map(line => `${line.depth}${isOperation(line.item) ? line.item.id : "."}`);
  assert.deepEqual(lines(""), ["0a", "1b", "1."]);
  assert.deepEqual(lines("a"), ["0a"]);
  assert.deepEqual(lines("", true), ["0a", "1b"]);
});

test("a filter keeps what leads to the entries that it takes", () => {
  const error = row({ at: 3000, parent: "b", level: "error" });
  const rows = ordered(
    ...operation("a", 0, 9),
    ...operation("b", 1, 5, { parent: "a" }),
    error,
    row({ at: 7000 }),
  );
  const tree = treeOf(rows);
  const shown = leadingTo(tree, rows, takes({ ...NO_FILTERS, level: "error" }));
  assert.deepEqual([...shown].map(keyOf).sort(), [find(tree, "a"), find(tree, "b"), error].map(keyOf).sort());
  assert.deepEqual([...shown].filter(hasError), [error]);
});

test("a run of 100,000 entries is a tree in a moment", () => {
  const rows: Row[] = [...operation("root", 0, 100_000)];
  for (let i = 0; i < 33_333; i++) {
    const parent = i % 10 === 0 ? "root" : `op-${i - (i % 10)}`;
    rows.push(...operation(`op-${i}`, i, i + 20, { parent }), row({ at: i * 1000 + 1, parent: `op-${i}` }));
  }
  const sorted = ordered(...rows);
  const start = performance.now();
  const tree = treeOf(sorted);
  const took = performance.now() - start;
  assert.equal(tree.operations.size, 33_334);
  console.log(`# a tree of ${rows.length} entries: ${Math.round(took)} ms`);
  assert.ok(took < 3000, `${took} ms`); // a tenth of it on an idle machine
});

test("a chain of 50,000 operations within each other is no stack that overflows", () => {
  const rows = Array.from({ length: 50_000 }, (_, i) =>
    operation(`d${i}`, i, 100_000, { parent: `d${i - 1}` }),
  ).flat();
  assert.equal(find(treeOf(ordered(...rows)), "d49999").depth, 49_999);
});
