import assert from "node:assert/strict";
import { test } from "node:test";
import { findInJson, idOf, jsonLines, openedFirst, pathText } from "../src/model/json";

const VALUE = { model: "m", calls: [{ name: "search", "a b": 1 }, null], empty: {} };

test("only open branches are walked through", () => {
  const shown = (opened: string[]) =>
    jsonLines(VALUE, new Set(opened)).map(line => `${line.depth}${pathText(line.path)}`);
  assert.deepEqual(shown([]), ["0model", "0calls", "0empty"]);
  assert.deepEqual(shown([idOf(["calls"])]), ["0model", "0calls", "1calls[0]", "1calls[1]", "0empty"]);
});

test("a path is written as programs write it", () => {
  assert.equal(pathText(["calls", 0, "a b"]), 'calls[0]["a b"]');
  assert.equal(pathText(["结果", "x"]), "结果.x");
});

test("a first look opens what fits", () => {
  assert.deepEqual([...openedFirst(VALUE, 60)], [idOf(["calls"]), idOf(["empty"]), idOf(["calls", 0])]);
  assert.deepEqual([...openedFirst({ long: Array.from({ length: 1000 }, () => 0) }, 60)], []);
});

test("keys and values are found in any case, wherever they are", () => {
  assert.deepEqual(findInJson(VALUE, "SEARCH"), [["calls", 0, "name"]]);
  assert.deepEqual(findInJson(VALUE, "calls"), [["calls"]]);
  assert.deepEqual(findInJson("text", "t"), []);
});

test("a value nested 5,000 deep is walked through without a stack", () => {
  const deep = JSON.parse(`${"[".repeat(5000)}"x"${"]".repeat(5000)}`);
  assert.equal(findInJson(deep, "x").length, 1);
});
