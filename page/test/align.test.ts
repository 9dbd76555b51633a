import assert from "node:assert/strict";
import { test } from "node:test";
import { align, common, differs, type Pair } from "../src/model/align";
import { treeOf } from "../src/model/tree";
import { operation } from "./rows";

function tree(...operations: [id: string, from: number, to: number, parent?: string, name?: string][]) {
  const rows = operations.flatMap(([id, from, to, parent, name]) =>
    operation(id, from, to, { parent: parent ?? null, name: name ?? id }),
  );
  return treeOf(rows.sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1)));
}

function sketch(pairs: readonly Pair[]): string[] {
  return pairs.map(
    ({ name, depth, left, right }) => `${depth} ${name} ${left ? "<" : ""}${right ? ">" : ""}`,
  );
}

test("a longest common subsequence keeps the order of both", () => {
  assert.deepEqual(common([..."abcd"], [..."acxd"]), [
    [0, 0],
    [2, 1],
    [3, 3],
  ]);
  assert.deepEqual(common([], ["a"]), []);
});

test("operations are paired by name within the pairs above them; what one run alone has stays at its place", () => {
  const left = tree(
    ["r", 0, 100],
    ["plan", 1, 9, "r"],
    ["write", 10, 50, "r"],
    ["call", 11, 20, "write"],
    ["send", 60, 70, "r"],
  );
  const right = tree(
    ["r", 0, 90],
    ["plan", 1, 9, "r"],
    ["check", 10, 20, "r"],
    ["write", 21, 50, "r"],
    ["call", 22, 30, "write"],
    ["call2", 31, 40, "write"],
  );
  assert.deepEqual(sketch(align(left, right)), [
    "0 r <>",
    "1 plan <>",
    "1 check >",
    "1 write <>",
    "2 call <>",
    "2 call2 >",
    "1 send <",
  ]);
});

test("many siblings of the same names are paired in a moment", () => {
  const names = Array.from({ length: 20_000 }, (_, i) => `n${i % 7}`);
  const other = ["x", ...names.slice(3), "y"];
  const found = common(names, other);
  assert.ok(found.length > 15_000);
  assert.ok(found.every(([i, j]) => names[i] === other[j]));
});

test("a difference is a tenth and 20 ms, another state, other errors, or one side alone", () => {
  const pairOf = (a: number, b: number) => align(tree(["x", 0, a]), tree(["x", 0, b]))[0] as Pair;
  assert.equal(differs(pairOf(1000, 1050)), false);
  assert.equal(differs(pairOf(5, 15)), false);
  assert.equal(differs(pairOf(1000, 1200)), true);
  assert.equal(differs(align(tree(), tree(["x", 0, 1]))[0] as Pair), true);
});
